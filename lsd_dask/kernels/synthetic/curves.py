"""The curves along which synthetic neurites run, each a function of its place in a lattice and a key.

Curves run along the three axes in a packing of rods that never meet. On a lattice of period L, a rod along
axis a has coordinate m L along axis a + 1 and (n + 1/2) L along axis a + 2 (axes count modulo 3), so that
rods of different directions pass each other half a period apart. A curve wanders about its rod by less than
that. Rods are cut into segments of 8 to 20 cells. A segment tapers towards its end; at its start it either
tapers too, or branches off a passing curve: it begins on that curve and bends over to its own rod. As curves
do not meet, and each owns the places around it, neurites hang together.

Between two lattice points a curve is a cubic, a piece of a uniform B-spline over hashed control points.
"""

from typing import NamedTuple

import numpy as np

from ..compiling import device, kernel
from .noise import below, hash_of, mix, uniform

#: Of the segments that could branch off another curve, the share that does.
BRANCHING = 0.8
#: Share of the thin curves that are bundles of axons, and of the rods for dendrites that carry one.
BUNDLED = 0.12
OCCUPIED = 0.6
#: Columns of a piece of curve: cubics (position along axis + 1, along axis + 2, weight), its beginning, its
#: axis.
COLUMNS = 14


class Curves(NamedTuple):
    """All pieces of curves in a box of lattice points.

    Row ``((axis * Z + z) * Y + y) * X + x`` is the piece along `axis` that begins at point (z, y, x).

    Attributes
    ----------
    period
        Of the lattice.
    first, shape
        int64, (3,), first point of the box and number of points Z, Y, X.
    pieces
        float64, (rows, COLUMNS). The cubics' argument runs from 0 to 1 through a piece.
    labels
        uint64, (rows,), id of the neurite, 0 where there is none.
    strands
        int64, (rows,), number of axons.
    """

    period: float
    first: np.ndarray
    shape: np.ndarray
    pieces: np.ndarray
    labels: np.ndarray
    strands: np.ndarray


@kernel
def lay_curves(key: np.uint64, dendrites: bool, curves: Curves) -> None:
    """Fill in the pieces, labels and strands of a box: 81 rows for one of 3 x 3 x 3 points."""
    row = 0
    place = np.empty(3, np.int64)
    for axis in range(3):
        for z in range(curves.shape[0]):
            for y in range(curves.shape[1]):
                for x in range(curves.shape[2]):
                    place[0], place[1], place[2] = z, y, x
                    place += curves.first
                    cell, m, n = place[axis], place[(axis + 1) % 3], place[(axis + 2) % 3]
                    _lay_piece(key, dendrites, curves.period, axis, m, n, cell, curves.pieces[row])
                    curves.labels[row], curves.strands[row] = _name(key, dendrites, axis, m, n, cell)
                    row += 1


@device
def _lay_piece(
    key: np.uint64, dendrites: bool, period: float, axis: int, m: int, n: int, cell: int, piece: np.ndarray
) -> None:
    """Write the piece of rod (axis, m, n) that begins at lattice point `cell`.

    For period 10, axis 2, m = n = 0 and cell 3, the cubics are about 0, about 5 and the weight; columns 12
    and 13 are 30 and 2.
    """
    rod = hash_of(key, axis, m, n)
    start, length = _segment(rod, cell)
    segment = hash_of(rod, start, 0, 0)
    branches, other, om, on = _parent(key, dendrites, axis, m, n, start)
    aside = _aside(key, period, axis, m, n, other, om, on) if branches else 0.0
    # The parent runs along axis + 1 or axis + 2, so it passes aside along the other one.
    across = 1 if other == (axis + 1) % 3 else 0
    knots = np.empty(4)
    for which in range(3):
        for tap in range(4):
            knot = cell + tap - 1
            if which == 2:
                knots[tap] = _weight(segment, dendrites, period, knot - start, length, branches)
            elif branches and which == across and knot <= start + 1:
                knots[tap] = aside
            else:
                knots[tap] = _wander(segment, period, knot, which)
        a, b, c, d = knots[0], knots[1], knots[2], knots[3]
        centre = m * period if which == 0 else (n + 0.5) * period if which == 1 else 0.0
        piece[4 * which] = centre + (a + 4.0 * b + c) / 6.0
        piece[4 * which + 1] = (c - a) / 2.0
        piece[4 * which + 2] = (a - 2.0 * b + c) / 2.0
        piece[4 * which + 3] = (3.0 * b - a - 3.0 * c + d) / 6.0
    piece[12] = cell * period
    piece[13] = axis


@device
def _segment(rod: np.uint64, cell: int) -> tuple[int, int]:
    """First lattice point of the segment of a rod that covers a piece, and its number of pieces, 8 to 20.

    Rod 0 has segments of 8 pieces, so the one of piece 11 begins at 8.
    """
    length = 8 + below(rod, 13)
    phase = below(rod >> np.uint64(20), length)
    return (cell + phase) // length * length - phase, length


@device
def _wander(segment: np.uint64, period: float, knot: int, which: int) -> float:
    """Control point of a curve's distance from its rod, along axis + 1 (`which` = 0) or axis + 2 (1).

    For period 100 it is between -15 and 15.
    """
    return 0.15 * period * (2.0 * uniform(hash_of(segment, knot, which, 1)) - 1.0)


@device
def _weight(
    segment: np.uint64, dendrites: bool, period: float, knot: int, length: int, branches: bool
) -> float:
    """Control point of a curve's weight: the radius of a dendrite; for others, what counts against distance.

    Knots count from the segment's start. Those at and beyond its ends are so low that the neurite tapers off:
    for period 42 and 8 pieces, -25.2 at knot 8, and between -6.7 and 6.7 at knot 7.
    """
    if knot >= length or (knot <= 0 and not branches):
        return -0.6 * period
    calibre = uniform(mix(segment ^ np.uint64(0xB)))
    noise = 2.0 * uniform(hash_of(segment, knot, 2, 1)) - 1.0
    if dendrites:
        return 12.0 + 16.0 * calibre + 3.0 * noise
    if _strands(segment) > 1:
        return period * (0.11 + 0.03 * noise)
    return period * (0.12 * (2.0 * calibre - 1.0) + 0.04 * noise)


@device
def _parent(
    key: np.uint64, dendrites: bool, axis: int, m: int, n: int, start: int
) -> tuple[bool, int, int, int]:
    """Whether the segment of a rod that starts at a lattice point is a branch, and of which rod (axis, m, n).

    At its start a rod passes four others half a period away: two along axis + 1, which it meets half a
    period on, and two along axis + 2. Rods only branch off rods of lower rank, so that chains of branches
    end, and not near the ends of a segment.

    Rod (0, m, n) can branch off (1, n, start), (1, n + 1, start), (2, start, m - 1) and (2, start, m).
    """
    rod = hash_of(key, axis, m, n)
    segment = hash_of(rod, start, 0, 0)
    bits = mix(segment ^ np.uint64(0x9))
    side = below(bits, 2)
    if bits & np.uint64(2):
        other, om, on, cell = (axis + 1) % 3, n + side, start, m
    else:
        other, om, on, cell = (axis + 2) % 3, start, m - 1 + side, n
    parent = hash_of(key, other, om, on)
    first, length = _segment(parent, cell)
    parent_segment = hash_of(parent, first, 0, 0)
    rank, parent_rank = rod >> np.uint64(61), parent >> np.uint64(61)
    branches = uniform(bits) < BRANCHING and parent_rank < rank and first + 2 <= cell < first + length - 2
    if dendrites:
        branches = branches and _occupied(parent_segment)
    else:
        branches = branches and _strands(segment) == 1 and _strands(parent_segment) == 1
    return bool(branches), other, om, on


@device
def _aside(key: np.uint64, period: float, axis: int, m: int, n: int, other: int, om: int, on: int) -> float:
    """How far aside of a rod the curve passes that it branches off: about half a period to either side.

    For period 10 and axis 0, rod (1, n + 1, start) passes at 5 along axis 2, give or take its wandering.
    """
    along = other == (axis + 1) % 3
    cell = m if along else n
    rod = hash_of(key, other, om, on)
    first, _ = _segment(rod, cell)
    segment = hash_of(rod, first, 0, 0)
    total = 0.0
    for tap in range(4):
        # A B-spline at the beginning and in the middle of a piece.
        weight = (8.0, 32.0, 8.0, 0.0)[tap] if along else (1.0, 23.0, 23.0, 1.0)[tap]
        total += weight / 48.0 * _wander(segment, period, cell + tap - 1, 0 if along else 1)
    return total + (om - n - 0.5 if along else on + 0.5 - m) * period


@device
def _name(key: np.uint64, dendrites: bool, axis: int, m: int, n: int, cell: int) -> tuple[np.uint64, int]:
    """The id of the neurite that a piece belongs to, and its number of axons.

    Both are those of the segment that the neurite begins with: a branch of a branch of rod r has the name of
    r.
    """
    branches = True
    segment = np.uint64(0)
    while branches:
        rod = hash_of(key, axis, m, n)
        start, _ = _segment(rod, cell)
        segment = hash_of(rod, start, 0, 0)
        branches, other, om, on = _parent(key, dendrites, axis, m, n, start)
        cell = m if other == (axis + 1) % 3 else n
        axis, m, n = other, om, on
    if dendrites:
        return (as_id(segment) if _occupied(segment) else np.uint64(0)), 1
    return as_id(segment), _strands(segment)


@device
def as_id(bits: np.uint64) -> np.uint64:
    """A label for a hash: odd, and of 53 bits, so that it survives a conversion to double.

    That of 0 is 7956156453446585.
    """
    return (mix(bits) >> np.uint64(11)) | np.uint64(1)


@device
def _strands(segment: np.uint64) -> int:
    """How many axons run side by side in a segment: 3 to 5 in 12 of 100, else 1."""
    bits = mix(segment ^ np.uint64(0x5))
    return 3 + below(bits, 3) if uniform(bits) < BUNDLED else 1


@device
def _occupied(segment: np.uint64) -> bool:
    """Whether a segment of a rod for dendrites carries one: true for 6 of 10."""
    return uniform(mix(segment ^ np.uint64(0x7))) < OCCUPIED
