"""The geometry of synthetic neuropil: which neurite a place belongs to, decided from the place alone.

Curves run along the three axes in a packing of rods that never meet: on a lattice of period L, a rod along axis a has
coordinate m L along axis a + 1 and (n + 1/2) L along axis a + 2, so that rods of different directions pass each other
at a distance of at least L / 2. The curves wander about their rods by less than that. Every rod is cut into segments
of hashed length; a segment tapers to its end, and at its start either tapers too or branches off a passing rod.
Because a curve owns the voxels around it and no two curves meet, neurites hang together.

There are two such packings. The wide one carries dendrites: tubes of a radius, with room between them. Space is
then deformed so that each tube shrinks to its axis, and in the deformed space the narrow packing fills everything: a
place belongs to the curve with the smallest distance minus weight (a power-like diagram, so calibres differ). Some narrow
curves are bundles of thin axons. A soma is a ball on a dendrite that pushes all else aside in the same way.

All lengths are in units of `UNIT` nanometres, all randomness is hashed from lattice indices.
"""

import numpy as np

from .compiling import device, kernel
from .noise import hash_of, mix, uniform

#: Period of the lattice of dendrites, and of the lattice of axons and other thin processes.
WIDE = 192.0
NARROW = 36.0
#: A lattice of somata has one every so many cells of the wide packing, along each axis.
SOMA_CELLS = 6
#: How far a tube pushes thin processes aside, as a multiple of its radius.
REACH = 3.0
SOMA_REACH = 1.8
#: Shares of rods of the wide packing that carry a dendrite, of segments that branch off another where they could,
#: and of narrow curves that are bundles of axons.
OCCUPIED = 0.6
BRANCHING = 0.8
BUNDLED = 0.2
#: Thin processes compete only where they are near: candidates are weeded once for every such part of a cell.
PARTS = 8

_CELLS = 16**3
_PARTS = 32 * 64 * 64
_MAX_CURVES = 36


@kernel
def neurites(
    seed: np.uint64,
    z: np.ndarray,
    y: np.ndarray,
    x: np.ndarray,
    warp: np.ndarray,
    balls: np.ndarray,
    soma_labels: np.ndarray,
    out: np.ndarray,
) -> None:
    """Write into `out` (z, y, x) the id of the neurite each place belongs to.

    `z`, `y` and `x` are the positions along the axes, `warp` (3, z, y, x) the displacement of each place.

    Two places 1 apart almost always get the same id, two places 100 apart across the rods never do.
    """
    wide_key, narrow_key = mix(seed ^ np.uint64(1)), mix(seed ^ np.uint64(2))
    wide, narrow = _new_curves(), _new_curves()
    wide_parts, narrow_parts = _new_parts(), _new_parts()
    places = np.empty((3, x.size))
    for k in range(z.size):
        for j in range(y.size):
            labels = out[k, j]
            labels[:] = 0
            for i in range(x.size):
                places[0, i] = z[k] + warp[0, k, j, i]
                places[1, i] = y[j] + warp[1, k, j, i]
                places[2, i] = x[i] + warp[2, k, j, i]
            for s in range(balls.shape[0]):
                _enter_soma(balls[s], soma_labels[s], places, labels)
            _enter_dendrites(wide_key, wide, wide_parts, places, labels)
            _join_nearest(narrow_key, narrow, narrow_parts, places, labels)


# Curves of a packing ------------------------------------------------------------------------------------------------


@device
def _segment_at(rod: np.uint64, cell: int) -> tuple[int, int]:
    """First cell, and number of cells, of the segment of a rod that covers a cell: 8 to 20 cells."""
    length = np.int64(8 + rod % np.uint64(13))
    phase = np.int64((rod >> np.uint64(20)) % np.uint64(length))
    return np.int64(np.floor((cell + phase) / length)) * length - phase, length


@device
def _rank(rod: np.uint64) -> int:
    """Rods branch off rods of lower rank only, so chains of branches end: 0 to 7."""
    return np.int64(rod >> np.uint64(61))


@device
def _strands(segment: np.uint64, wide: bool) -> int:
    """How many axons run side by side in a segment: 1, or 3 to 5 in a bundle."""
    bits = mix(segment ^ np.uint64(0x5))
    if wide or uniform(bits) >= BUNDLED:
        return 1
    return 3 + np.int64(bits % np.uint64(3))


@device
def _occupied(segment: np.uint64, wide: bool) -> bool:
    return not wide or uniform(mix(segment ^ np.uint64(0x7))) < OCCUPIED


@device
def _parent(
    key: np.uint64, wide: bool, axis: int, m: int, n: int, start: int
) -> tuple[bool, int, int, int, int, int]:
    """The rod that the segment of rod (axis, m, n) starting at a cell branches off.

    Returns whether there is one, its axis, m and n, the first cell of its segment, and the cell where they meet. At
    its start the rod passes four others half a period away: two along axis + 1, two along axis + 2.
    """
    rod = hash_of(key, axis, m, n)
    segment = hash_of(rod, start, 0, 0)
    bits = mix(segment ^ np.uint64(0x9))
    side = np.int64(bits & np.uint64(1))
    if bits & np.uint64(2):
        other, om, on, cell = (axis + 1) % 3, n + side, start, m
    else:
        other, om, on, cell = (axis + 2) % 3, start, m - 1 + side, n
    parent = hash_of(key, other, om, on)
    first, length = _segment_at(parent, cell)
    parent_segment = hash_of(parent, first, 0, 0)
    found = (
        uniform(bits) < BRANCHING
        and _rank(parent) < _rank(rod)
        and first + 2 <= cell < first + length - 2
        and _strands(segment, wide) == 1
        and _strands(parent_segment, wide) == 1
        and _occupied(parent_segment, wide)
    )
    return found, other, om, on, first, cell


@device
def _label(key: np.uint64, wide: bool, axis: int, m: int, n: int, start: int) -> np.uint64:
    """The id of a segment: a hash of the segment its neurite begins with, below 2**53 and not 0."""
    found, other, om, on, first, _ = _parent(key, wide, axis, m, n, start)
    while found:
        axis, m, n, start = other, om, on, first
        found, other, om, on, first, _ = _parent(key, wide, axis, m, n, start)
    return _as_id(hash_of(hash_of(key, axis, m, n), start, 0, 0))


@device
def _as_id(bits: np.uint64) -> np.uint64:
    """53 bits, so that ids survive a conversion to double."""
    return (mix(bits) >> np.uint64(11)) | np.uint64(1)


@device
def _control(
    segment: np.uint64, wide: bool, period: float, start: int, length: int, branch: bool, knot: int, what: int
) -> float:
    """Control point of a segment's spline: offset along axis + 1 (what = 0) and axis + 2 (1), or weight (2)."""
    noise = 2.0 * uniform(hash_of(segment, knot, what, 1)) - 1.0
    if what < 2:
        return 0.15 * period * noise
    if knot >= start + length or knot < start or (knot == start and not branch):
        return -0.6 * period if not (branch and knot < start) else 0.0
    calibre = uniform(mix(segment ^ np.uint64(0xB)))
    if wide:
        return 12.0 + 16.0 * calibre + 3.0 * noise
    if _strands(segment, wide) > 1:
        return 0.11 * period + 0.03 * period * noise
    return 0.14 * period * (2.0 * calibre - 1.0) + 0.05 * period * noise


@device
def _fill_curve(
    key: np.uint64,
    wide: bool,
    period: float,
    axis: int,
    m: int,
    n: int,
    cell: int,
    cubics: np.ndarray,
) -> tuple[np.uint64, np.uint64]:
    """Cubics (12 coefficients) of a rod's curve in a cell: position along axis + 1 and axis + 2, weight.

    Returns the hash of the segment and its label. The cubics' argument runs from 0 to 1 through the cell.
    """
    rod = hash_of(key, axis, m, n)
    start, length = _segment_at(rod, cell)
    segment = hash_of(rod, start, 0, 0)
    branch, other, om, on, first, joint = _parent(key, wide, axis, m, n, start)
    knots = np.empty(4)
    for what in range(3):
        for tap in range(4):
            knots[tap] = _control(segment, wide, period, start, length, branch, cell + tap - 1, what)
        # A branch begins on its parent's curve, which runs half a period aside.
        if branch and what == (1 if other == (axis + 1) % 3 else 0) and cell <= start + 2:
            shift = _aside(key, wide, period, axis, m, n, other, om, on, first, joint)
            for tap in range(4):
                if cell + tap - 1 <= start + 1:
                    knots[tap] = shift
        centre = 0.0
        if what == 0:
            centre = m * period
        elif what == 1:
            centre = (n + 0.5) * period
        cubics[4 * what] = centre + (knots[0] + 4.0 * knots[1] + knots[2]) / 6.0
        cubics[4 * what + 1] = (knots[2] - knots[0]) / 2.0
        cubics[4 * what + 2] = (knots[0] - 2.0 * knots[1] + knots[2]) / 2.0
        cubics[4 * what + 3] = (3.0 * knots[1] - knots[0] - 3.0 * knots[2] + knots[3]) / 6.0
    return segment, _label(key, wide, axis, m, n, start)


@device
def _aside(
    key: np.uint64,
    wide: bool,
    period: float,
    axis: int,
    m: int,
    n: int,
    other: int,
    om: int,
    on: int,
    first: int,
    joint: int,
) -> float:
    """How far the parent's curve is from the rod of its branch where they meet: about half a period."""
    rod = hash_of(key, other, om, on)
    segment = hash_of(rod, first, 0, 0)
    _, length = _segment_at(rod, joint)
    if other == (axis + 1) % 3:
        total = 0.0
        for tap in range(3):
            weight = 4.0 if tap == 1 else 1.0
            total += weight * _control(segment, wide, period, first, length, True, joint + tap - 1, 0)
        return (om - n - 0.5) * period + total / 6.0
    total = 0.0
    for tap in range(4):
        weight = 23.0 if tap in (1, 2) else 1.0
        total += weight * _control(segment, wide, period, first, length, True, joint + tap - 1, 1)
    return (on + 0.5 - m) * period + total / 48.0


# The curves near a place --------------------------------------------------------------------------------------------


@device
def _new_curves() -> tuple[np.ndarray, ...]:
    """Room for the curves that pass through or near each of some cells.

    The cells' tags and indices, the number of their curves, and the curves' axes, segments, labels and cubics.
    """
    return (
        np.full(_CELLS, np.int64(-1)),
        np.empty((_CELLS, 3), np.int64),
        np.zeros(_CELLS, np.int64),
        np.empty((_CELLS, _MAX_CURVES), np.int64),
        np.empty((_CELLS, _MAX_CURVES), np.uint64),
        np.empty((_CELLS, _MAX_CURVES), np.uint64),
        np.empty((_CELLS, _MAX_CURVES, 12)),
    )


@device
def _new_parts() -> tuple[np.ndarray, ...]:
    """Room for what matters in some parts of cells: the parts' tags, how many curves, and which of the cell's."""
    return (
        np.full(_PARTS, np.int64(-1)),
        np.zeros(_PARTS, np.int64),
        np.empty((_PARTS, _MAX_CURVES), np.uint8),
    )


@device
def _tag(z: int, y: int, x: int) -> int:
    """One number for three indices of 21 bits: (0, 1, 2) has 2**21 + 2."""
    return ((z & 0x1FFFFF) << 42) | ((y & 0x1FFFFF) << 21) | (x & 0x1FFFFF)


@device
def _slot_of_cell(z: int, y: int, x: int) -> int:
    """Where a cell's curves are kept: cells less than 16 apart have slots of their own."""
    return ((z & 15) << 8) | ((y & 15) << 4) | (x & 15)


@device
def _slot_of_part(z: int, y: int, x: int) -> int:
    """Where a part's list of curves is kept."""
    return ((z & 31) << 12) | ((y & 63) << 6) | (x & 63)


@device
def _part_of(position: float, period: float) -> int:
    """Index of the part that holds a position: 13.0 is in part 2 where parts are 36 / 8 = 4.5 long."""
    return np.int64(np.floor(position * (PARTS / period)))


@device
def _find_curves(
    key: np.uint64,
    wide: bool,
    period: float,
    z: int,
    y: int,
    x: int,
    curves: tuple[np.ndarray, ...],
    parts: tuple[np.ndarray, ...],
) -> None:
    """See to it that the slots of part (z, y, x) and of its cell hold their curves."""
    k, j, i = z // PARTS, y // PARTS, x // PARTS
    cell, part = _slot_of_cell(k, j, i), _slot_of_part(z, y, x)
    tags, cells = curves[0], curves[1]
    if tags[cell] != _tag(k, j, i):
        tags[cell] = _tag(k, j, i)
        cells[cell, 0], cells[cell, 1], cells[cell, 2] = k, j, i
        _fill_cell(key, wide, period, cell, curves)
    held = parts[0]
    if held[part] != _tag(z, y, x):
        held[part] = _tag(z, y, x)
        _fill_part(wide, period, z, y, x, curves, cell, parts, part)


@device
def _fill_cell(key: np.uint64, wide: bool, period: float, slot: int, curves: tuple[np.ndarray, ...]) -> None:
    """Compute the curves that pass through or near a cell: those of the 3 x 12 rods around it."""
    _, cells, counts, axes, segments, labels, cubics = curves
    count = 0
    for axis in range(3):
        b = cells[slot, (axis + 1) % 3]
        c = cells[slot, (axis + 2) % 3]
        for m in range(b - 1, b + 3):
            for n in range(c - 1, c + 2):
                segment, label = _fill_curve(
                    key, wide, period, axis, m, n, cells[slot, axis], cubics[slot, count]
                )
                if _occupied(segment, wide):
                    axes[slot, count] = axis
                    segments[slot, count] = segment
                    labels[slot, count] = label
                    count += 1
    counts[slot] = count


@device
def _fill_part(
    wide: bool,
    period: float,
    z: int,
    y: int,
    x: int,
    curves: tuple[np.ndarray, ...],
    cell: int,
    parts: tuple[np.ndarray, ...],
    part: int,
) -> None:
    """Pick the curves of a cell that matter somewhere in one part of it."""
    _, cells, counts, axes, _, _, cubics = curves
    _, numbers, members = parts
    size = period / PARTS
    middle = np.empty(3)
    middle[0], middle[1], middle[2] = (z + 0.5) * size, (y + 0.5) * size, (x + 0.5) * size
    scores = np.empty(_MAX_CURVES)
    best = np.inf
    for c in range(counts[cell]):
        axis = axes[cell, c]
        u = middle[axis] / period - cells[cell, axis]
        b = middle[(axis + 1) % 3] - _cubic(cubics, cell, c, 0, u)
        d = middle[(axis + 2) % 3] - _cubic(cubics, cell, c, 4, u)
        weight = _cubic(cubics, cell, c, 8, u)
        scores[c] = np.sqrt(b * b + d * d) - (REACH * weight if wide else weight)
        best = min(best, scores[c])
    # From the middle to a corner a score changes at most by the way, times one plus the curve's slope.
    change = np.sqrt(3.0) / 2.0 * size * 1.7
    limit = change if wide else best + 2.0 * change
    number = 0
    for c in range(counts[cell]):
        if scores[c] <= limit:
            members[part, number] = c
            number += 1
    numbers[part] = number


@device
def _cubic(cubics: np.ndarray, cell: int, c: int, first: int, u: float) -> float:
    """Value at u of the cubic whose coefficients begin at `first`: 1, 2, 0, 0 at 0.5 give 2."""
    return (
        (cubics[cell, c, first + 3] * u + cubics[cell, c, first + 2]) * u + cubics[cell, c, first + 1]
    ) * u + cubics[cell, c, first]


@device
def _enter_dendrites(
    key: np.uint64,
    curves: tuple[np.ndarray, ...],
    parts: tuple[np.ndarray, ...],
    places: np.ndarray,
    labels: np.ndarray,
) -> None:
    """Label the places of a row that are in dendrites; move the others to where they were before the tubes grew."""
    tags, cells, _, axes, _, ids, cubics = curves
    held, numbers, members = parts
    for i in range(labels.size):
        if labels[i] != 0:
            continue
        pz, py, px = places[0, i], places[1, i], places[2, i]
        z, y, x = _part_of(pz, WIDE), _part_of(py, WIDE), _part_of(px, WIDE)
        k, j, h = z // PARTS, y // PARTS, x // PARTS
        cell, part = _slot_of_cell(k, j, h), _slot_of_part(z, y, x)
        if held[part] != _tag(z, y, x) or tags[cell] != _tag(k, j, h):
            _find_curves(key, True, WIDE, z, y, x, curves, parts)
        deepest = 0.0
        dz = dy = dx = 0.0
        for member in range(numbers[part]):
            c = members[part, member]
            axis = axes[cell, c]
            along, b, d = (pz, py, px) if axis == 0 else (py, px, pz) if axis == 1 else (px, pz, py)
            u = along / WIDE - cells[cell, axis]
            b -= _cubic(cubics, cell, c, 0, u)
            d -= _cubic(cubics, cell, c, 4, u)
            radius = _cubic(cubics, cell, c, 8, u)
            if radius <= 1.0:
                continue
            distance = np.sqrt(b * b + d * d)
            if distance - radius < deepest:
                deepest = distance - radius
                labels[i] = ids[cell, c]
            elif distance < REACH * radius:
                push = (REACH * radius - distance) / (REACH - 1.0) / distance
                b *= push
                d *= push
                dz += 0.0 if axis == 0 else d if axis == 1 else b
                dy += b if axis == 0 else 0.0 if axis == 1 else d
                dx += d if axis == 0 else b if axis == 1 else 0.0
        places[0, i] = pz - dz
        places[1, i] = py - dy
        places[2, i] = px - dx


@device
def _join_nearest(
    key: np.uint64,
    curves: tuple[np.ndarray, ...],
    parts: tuple[np.ndarray, ...],
    places: np.ndarray,
    labels: np.ndarray,
) -> None:
    """Label the places of a row left over: by the curve with the smallest distance minus weight, or its axon."""
    tags, cells, _, axes, segments, ids, cubics = curves
    held, numbers, members = parts
    for i in range(labels.size):
        if labels[i] != 0:
            continue
        pz, py, px = places[0, i], places[1, i], places[2, i]
        z, y, x = _part_of(pz, NARROW), _part_of(py, NARROW), _part_of(px, NARROW)
        k, j, h = z // PARTS, y // PARTS, x // PARTS
        cell, part = _slot_of_cell(k, j, h), _slot_of_part(z, y, x)
        if held[part] != _tag(z, y, x) or tags[cell] != _tag(k, j, h):
            _find_curves(key, False, NARROW, z, y, x, curves, parts)
        best = np.inf
        winner = 0
        across_b = across_d = 0.0
        for member in range(numbers[part]):
            c = members[part, member]
            axis = axes[cell, c]
            along, b, d = (pz, py, px) if axis == 0 else (py, px, pz) if axis == 1 else (px, pz, py)
            u = along / NARROW - cells[cell, axis]
            b -= _cubic(cubics, cell, c, 0, u)
            d -= _cubic(cubics, cell, c, 4, u)
            score = np.sqrt(b * b + d * d) - _cubic(cubics, cell, c, 8, u)
            if score < best:
                best = score
                winner = c
                across_b = b
                across_d = d
        segment = segments[cell, winner]
        strands = _strands(segment, False)
        if strands == 1:
            labels[i] = ids[cell, winner]
        else:
            labels[i] = _as_id(segment ^ np.uint64(1 + _strand_at(strands, across_b, across_d)))


@device
def _strand_at(strands: int, b: float, c: float) -> int:
    """Which of the axons of a bundle, standing on a circle, is nearest to an offset from the bundle's curve."""
    best = np.inf
    winner = 0
    for i in range(strands):
        angle = 2.0 * np.pi * i / strands
        # The nearest of points on a circle is the one furthest along the offset.
        score = -(b * np.cos(angle) + c * np.sin(angle))
        if score < best:
            best = score
            winner = i
    return winner


# Somata -------------------------------------------------------------------------------------------------------------


@kernel
def soma_of(seed: np.uint64, k: int, j: int, i: int, ball: np.ndarray) -> np.uint64:
    """Label of the soma of a cell of the lattice of somata, 0 where there is none; its ball (z, y, x, radius).

    It sits on a dendrite's rod near the middle of the cell and belongs to that dendrite.
    """
    key = mix(seed ^ np.uint64(1))
    bits = hash_of(mix(key ^ np.uint64(3)), k, j, i)
    axis = np.int64(bits % np.uint64(3))
    at = np.empty(3, np.int64)
    at[0] = SOMA_CELLS * k + 3 + np.int64((bits >> np.uint64(10)) & np.uint64(1))
    at[1] = SOMA_CELLS * j + 3 + np.int64((bits >> np.uint64(11)) & np.uint64(1))
    at[2] = SOMA_CELLS * i + 3 + np.int64((bits >> np.uint64(12)) & np.uint64(1))
    cubics = np.empty(12)
    segment, label = _fill_curve(
        key, True, WIDE, axis, at[(axis + 1) % 3], at[(axis + 2) % 3], at[axis], cubics
    )
    ball[axis] = at[axis] * WIDE
    ball[(axis + 1) % 3] = cubics[0]
    ball[(axis + 2) % 3] = cubics[4]
    ball[3] = 180.0 + 80.0 * uniform(bits)
    if _occupied(segment, True) and cubics[8] > 1.0:
        return label
    return np.uint64(0)


@device
def _enter_soma(ball: np.ndarray, label: np.uint64, places: np.ndarray, labels: np.ndarray) -> None:
    """Label the places of a row that are in a soma; move the others to where they were before it grew."""
    radius = ball[3]
    reach = SOMA_REACH * radius
    for i in range(labels.size):
        dz, dy, dx = places[0, i] - ball[0], places[1, i] - ball[1], places[2, i] - ball[2]
        squared = dz * dz + dy * dy + dx * dx
        if squared < radius * radius:
            labels[i] = label
        elif squared < reach * reach:
            d = np.sqrt(squared)
            push = (reach - d) / (SOMA_REACH - 1.0) / d
            places[0, i] -= push * dz
            places[1, i] -= push * dy
            places[2, i] -= push * dx
