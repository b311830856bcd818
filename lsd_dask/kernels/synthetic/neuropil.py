"""Which synthetic neurite a place belongs to.

Dendrites are tubes about the curves of a wide packing. Around them space is deformed so that each tube
shrinks to its axis, and in deformed space the curves of a narrow packing fill everything: a place belongs to
the curve with the smallest distance minus weight, an additively weighted Voronoi diagram. A soma is a ball
on a dendrite that pushes all else aside in the same way.
"""

import numpy as np

from ..compiling import device, kernel
from .curves import Curves, as_id
from .noise import mix, uniform

#: Every cell of a lattice has so many parts along each axis; the curves that matter are listed for each part.
PARTS = 8
#: How far tubes and somata push other things aside, as a multiple of their radius.
TUBE_REACH = 3.0
SOMA_REACH = 1.8
#: Bound on the change of distance minus weight, for each unit a place moves: 1 for straight curves.
STEEPNESS = 1.7


@kernel
def list_curves(curves: Curves, tubes: bool, starts: np.ndarray, members: np.ndarray) -> int:
    """List, for each part of each cell, the pieces of curves that matter there; return their number.

    The cells are those of the box of `curves` without a margin of one point below and two above, for curves
    may wander into their neighbours' cells. For `tubes`, curves matter that come within reach; else those
    that can have the smallest distance minus weight. Part p, in C order, gets the rows
    ``members[starts[p]:starts[p + 1]]``: with a box of 4 x 4 x 4 points there are 8 x 8 x 8 parts, of one
    cell.
    """
    size = curves.period / PARTS
    change = np.sqrt(3.0) / 2.0 * size * STEEPNESS
    rows = np.empty(36, np.int64)
    scores = np.empty(36)
    part = total = 0
    starts[0] = 0
    for z in range(PARTS, PARTS * (curves.shape[0] - 2)):
        for y in range(PARTS, PARTS * (curves.shape[1] - 2)):
            for x in range(PARTS, PARTS * (curves.shape[2] - 2)):
                _find_rows(z // PARTS, y // PARTS, x // PARTS, curves.shape, rows)
                mz = curves.first[0] * curves.period + (z + 0.5) * size
                my = curves.first[1] * curves.period + (y + 0.5) * size
                mx = curves.first[2] * curves.period + (x + 0.5) * size
                best = np.inf
                for i in range(rows.size):
                    b, c, weight = _offset(curves.pieces, rows[i], curves.period, mz, my, mx)
                    scores[i] = np.sqrt(b * b + c * c) - (TUBE_REACH * weight if tubes else weight)
                    if curves.labels[rows[i]] == 0:
                        scores[i] = np.inf
                    best = min(best, scores[i])
                # From the middle of a part to its corners, scores change so much.
                limit = change if tubes else best + 2.0 * change
                for i in range(rows.size):
                    if scores[i] <= limit:
                        members[total] = rows[i]
                        total += 1
                part += 1
                starts[part] = total
    return total


@device
def _find_rows(z: int, y: int, x: int, shape: np.ndarray, rows: np.ndarray) -> None:
    """Write into `rows` the pieces that pass through cell (z, y, x) or near it: 12 along each axis.

    In a box of shape (4, 4, 4), of the pieces along axis 0 near cell (1, 1, 1) the first is in row 16, at
    (1, 0, 0).
    """
    i = 0
    for axis in range(3):
        for m in range(-1, 3):
            for n in range(-1, 2):
                dz, dy, dx = (0, m, n) if axis == 0 else (n, 0, m) if axis == 1 else (m, n, 0)
                rows[i] = ((axis * shape[0] + z + dz) * shape[1] + y + dy) * shape[2] + x + dx
                i += 1


@device
def _offset(
    pieces: np.ndarray, row: int, period: float, z: float, y: float, x: float
) -> tuple[float, float, float]:
    """Offset of a place from a curve along the two axes across it, and the curve's weight there.

    The place (2, 3, 4) is off a straight piece along axis 0 at (y, x) = (1, 1) by 2 and 3.
    """
    along, b, c = (z, y, x) if pieces[row, 13] == 0 else (y, x, z) if pieces[row, 13] == 1 else (x, z, y)
    u = (along - pieces[row, 12]) / period
    b -= ((pieces[row, 3] * u + pieces[row, 2]) * u + pieces[row, 1]) * u + pieces[row, 0]
    c -= ((pieces[row, 7] * u + pieces[row, 6]) * u + pieces[row, 5]) * u + pieces[row, 4]
    weight = ((pieces[row, 11] * u + pieces[row, 10]) * u + pieces[row, 9]) * u + pieces[row, 8]
    return b, c, weight


@device
def _part(curves: Curves, z: float, y: float, x: float) -> int:
    """Index of the part that holds a place, in the lists of `list_curves`.

    In a box whose first point is (0, 0, 0), place (8.5, 8, 8) is in part 0 where the period is 8.
    """
    scale = PARTS / curves.period
    k = int(np.floor(z * scale)) - PARTS * (curves.first[0] + 1)
    j = int(np.floor(y * scale)) - PARTS * (curves.first[1] + 1)
    i = int(np.floor(x * scale)) - PARTS * (curves.first[2] + 1)
    return (k * PARTS * (curves.shape[1] - 3) + j) * PARTS * (curves.shape[2] - 3) + i


@kernel
def enter_soma(ball: np.ndarray, label: np.uint64, places: np.ndarray, out: np.ndarray) -> None:
    """Label the places in a soma; move those around it to where they were before it grew.

    `ball` is its centre and radius, `places` (3, n), `out` (n,) the labels, 0 where not yet known. A place at
    distance 140 from the centre of a ball of radius 100 was at 90.
    """
    radius = ball[3]
    reach = SOMA_REACH * radius
    for i in range(out.size):
        z, y, x = places[0, i] - ball[0], places[1, i] - ball[1], places[2, i] - ball[2]
        squared = z * z + y * y + x * x
        if squared < radius * radius:
            out[i] = label
        elif squared < reach * reach:
            distance = np.sqrt(squared)
            push = (reach - distance) / (SOMA_REACH - 1.0) / distance
            places[0, i] -= push * z
            places[1, i] -= push * y
            places[2, i] -= push * x


@kernel
def enter_tubes(
    curves: Curves, starts: np.ndarray, members: np.ndarray, places: np.ndarray, out: np.ndarray
) -> None:
    """Label the places in tubes; move those around them to where they were before the tubes grew.

    A tube of radius 10 at distance 10 has moved a place from distance 0, one at distance 20 from 15, and
    none from 30 on. `places` is (3, n), `out` (n,) the labels, 0 where not yet known.
    """
    for i in range(out.size):
        if out[i] != 0:
            continue
        z, y, x = places[0, i], places[1, i], places[2, i]
        part = _part(curves, z, y, x)
        deepest = 0.0
        dz = dy = dx = 0.0
        for member in range(starts[part], starts[part + 1]):
            row = members[member]
            b, c, radius = _offset(curves.pieces, row, curves.period, z, y, x)
            if radius <= 1.0:
                continue
            distance = np.sqrt(b * b + c * c)
            if distance - radius < deepest:
                deepest = distance - radius
                out[i] = curves.labels[row]
            elif distance < TUBE_REACH * radius:
                push = (TUBE_REACH * radius - distance) / (TUBE_REACH - 1.0) / distance
                axis = curves.pieces[row, 13]
                dz += push * (0.0 if axis == 0 else c if axis == 1 else b)
                dy += push * (b if axis == 0 else 0.0 if axis == 1 else c)
                dx += push * (c if axis == 0 else b if axis == 1 else 0.0)
        places[0, i] = z - dz
        places[1, i] = y - dy
        places[2, i] = x - dx


@kernel
def join_nearest(
    curves: Curves, starts: np.ndarray, members: np.ndarray, places: np.ndarray, out: np.ndarray
) -> None:
    """Label the other places by the curve, or its axon, with the smallest distance minus weight.

    A place 5 from a curve of weight 1 and 6 from one of weight 3 belongs to the latter. `places` is (3, n),
    `out` (n,) the labels, 0 where not yet known.
    """
    for i in range(out.size):
        if out[i] != 0:
            continue
        z, y, x = places[0, i], places[1, i], places[2, i]
        part = _part(curves, z, y, x)
        best = np.inf
        winner = np.int64(0)
        across_b = across_c = 0.0
        for member in range(starts[part], starts[part + 1]):
            row = members[member]
            b, c, weight = _offset(curves.pieces, row, curves.period, z, y, x)
            score = np.sqrt(b * b + c * c) - weight
            if score < best:
                best = score
                winner = row
                across_b = b
                across_c = c
        out[i] = curves.labels[winner]
        if curves.strands[winner] > 1:
            b, c = across_b / curves.period, across_c / curves.period
            out[i] = _axon(curves.labels[winner], curves.strands[winner], b, c)


@device
def _axon(bundle: np.uint64, strands: int, b: float, c: float) -> np.uint64:
    """The id of the axon of a bundle that is nearest to an offset, in periods, from the bundle's curve.

    An offset of (0, 0) is nearest to the first axon, which runs near the middle; the others surround it.
    """
    best = np.inf
    winner = bundle
    for i in range(strands):
        bits = mix(bundle ^ np.uint64(i + 1))
        angle = 2.0 * np.pi * (i + 0.6 * uniform(bits)) / (strands - 1)
        radius = (0.06 if i == 0 else 0.17) + 0.05 * uniform(mix(bits))
        db, dc = b - radius * np.cos(angle), c - radius * np.sin(angle)
        if db * db + dc * dc < best:
            best = db * db + dc * dc
            winner = as_id(bits)
    return winner


@kernel
def despeckle(labels: np.ndarray, out: np.ndarray) -> None:
    """Give voxels that no face joins to their like the label of a neighbour; `out` lacks the outer layer.

    Among the labels of the six neighbours the most frequent is taken, the smallest among equals. In 3 x 3 x 3
    voxels, all 1 but a 2 in the middle, `out` is `[[[1]]]`.
    """
    around = np.empty(6, np.uint64)
    for z in range(1, labels.shape[0] - 1):
        for y in range(1, labels.shape[1] - 1):
            for x in range(1, labels.shape[2] - 1):
                label = labels[z, y, x]
                if (
                    label == labels[z, y, x - 1]
                    or label == labels[z, y, x + 1]
                    or label == labels[z, y - 1, x]
                    or label == labels[z, y + 1, x]
                    or label == labels[z - 1, y, x]
                    or label == labels[z + 1, y, x]
                ):
                    out[z - 1, y - 1, x - 1] = label
                    continue
                around[0], around[1] = labels[z - 1, y, x], labels[z + 1, y, x]
                around[2], around[3] = labels[z, y - 1, x], labels[z, y + 1, x]
                around[4], around[5] = labels[z, y, x - 1], labels[z, y, x + 1]
                out[z - 1, y - 1, x - 1] = _most_frequent(around)


@device
def _most_frequent(labels: np.ndarray) -> np.uint64:
    """The most frequent label, the smallest among equals: 3 of [5, 3, 3, 5, 1, 2]."""
    best = labels[0]
    most = 0
    for i in range(labels.size):
        count = 0
        for j in range(labels.size):
            count += labels[j] == labels[i]
        if count > most or (count == most and labels[i] < best):
            most = count
            best = labels[i]
    return best
