"""The height that fragments ascend: a capped, signed boundary distance plus affinity, lightly smoothed.

Every value depends only on voxels within a small window and is computed from them in a fixed order, so that
a voxel's height is the same bit for bit in whatever block it is computed. Two-dimensional data come as
three-dimensional with one section.
"""

import numpy as np

from ..compiling import inner_device, kernel

#: Voxels of a row that loops over bytes take at once; a remainder would be done one by one.
_AT_ONCE = 128


@kernel
def interior(affinities: np.ndarray, axes: np.ndarray, divisor: np.float32, mean: np.ndarray) -> np.ndarray:
    """Sum of the affinities of each voxel to both of its neighbours along some axes, divided by `divisor`.

    Written into `mean`, float32 ``(z, y, x)``, and returned. `affinities` is ``(c, z, y, x)``, channel k to
    the lower neighbour along axis ``axes[k]``. The last voxel of a line has no upper neighbour and counts its
    lower affinity twice. For example x-affinities [0, 9, 5] and divisor 2 give [4.5, 7, 5].
    """
    channels, depth, height, width = affinities.shape
    for z in range(depth):
        for y in range(height):
            row = mean[z, y]
            row[:] = 0
            for k in range(channels):
                below = affinities[k, z, y]
                if axes[k] == 2:
                    _add_both(below[: width - 1], below[1:], row)
                    row[width - 1] += np.float32(2) * np.float32(below[width - 1])
                else:
                    uz, uy = min(z + (axes[k] == 0), depth - 1), min(y + (axes[k] == 1), height - 1)
                    _add_both(below, affinities[k, uz, uy], row)
            for x in range(width):
                row[x] /= divisor
    return mean


@inner_device
def _add_both(below: np.ndarray, above: np.ndarray, row: np.ndarray) -> None:
    """Add two rows to the beginning of a third: [1] and [2] to [3, 4] give [6, 4]."""
    for x in range(below.size):
        row[x] += np.float32(below[x]) + np.float32(above[x])


@kernel
def squared_distance(
    inside: np.ndarray, squares: np.ndarray, limit: float, squared: np.ndarray
) -> np.ndarray:
    """Squared distance of each voxel to the nearest one of the other kind, at most `limit`.

    Written into `squared`, ``(z, y, x)``, and returned. `inside` is boolean ``(z, y, x)``, `squares` the
    squared size of a voxel along each axis (0: not along this axis). `squared` is float32, or, where all
    squares are 0 or 1 and the limit at most 127, uint8, of which a register holds four times as many. A
    search in windows: exact, and cheap since the limit is near. For example [T, T, T, F] with square 1 and
    limit 4 gives [4, 4, 1, 1].
    """
    depth, height, width = inside.shape
    lines = max(depth, height)
    rows = np.zeros((lines, _padded(width)), squared.dtype)
    kinds = np.zeros((lines, _padded(width)), np.bool_)
    best = np.zeros(_padded(width), squared.dtype)
    margin = _steps(squares[2], limit, width)
    around = np.zeros(_padded(width) + 2 * margin, np.bool_)
    for z in range(depth):
        for y in range(height):
            _copy(inside[z, y], kinds[y])
            _repeat_ends(inside[z, y], margin, around)
            _within_row(around, margin, squares[2], squared.dtype.type(limit), rows[y])
        for y in range(height):
            _across_rows(rows, kinds, y, height, squares[1], limit, best)
            _copy(best[:width], squared[z, y])
    if squares[0] > 0:
        for y in range(height):
            for z in range(depth):
                _copy(inside[z, y], kinds[z])
                _copy(squared[z, y], rows[z])
            for z in range(depth):
                _across_rows(rows, kinds, z, depth, squares[0], limit, best)
                _copy(best[:width], squared[z, y])
    return squared


@inner_device
def _padded(width: int) -> int:
    """Room for a row, so that there is no remainder of what is done at once: 128 for 1 to 128."""
    return -(-width // _AT_ONCE) * _AT_ONCE


@inner_device
def _steps(square: float, limit: float, width: int) -> int:
    """How many steps of one voxel stay below a squared limit: 2 for square 1 and limit 9."""
    steps = 0
    while steps + 1 < width and (steps + 1) ** 2 * square < limit:
        steps += 1
    return steps if square > 0 else 0


@inner_device
def _copy(values: np.ndarray, out: np.ndarray) -> None:
    """Write values to the beginning of a row."""
    for x in range(values.size):
        out[x] = values[x]


@inner_device
def _repeat_ends(row: np.ndarray, margin: int, out: np.ndarray) -> None:
    """Write a row with its ends repeated: [T, F] with margin 1 gives [T, T, F, F, F, ...]."""
    out[:margin] = row[0]
    _copy(row, out[margin:])
    out[margin + row.size :] = row[row.size - 1]


@inner_device
def _within_row(around: np.ndarray, margin: int, square: float, limit: float, best: np.ndarray) -> None:
    """Squared distance, within a row, to the nearest voxel of the other kind, at most `limit`.

    `around` is the row with its ends repeated, `margin` times before. For example [T, T, T, F] with square 1
    and limit 4 gives [4, 4, 1, 1].
    """
    for x in range(best.size):
        best[x] = limit
    here = around[margin:]
    # The nearest is written last.
    for step in range(margin, 0, -1):
        reach = best.dtype.type(step * step * square)
        below, above = around[margin - step :], around[margin + step :]
        for x in range(best.size):
            best[x] = reach if (here[x] != below[x]) | (here[x] != above[x]) else best[x]


@inner_device
def _across_rows(
    rows: np.ndarray, kinds: np.ndarray, line: int, lines: int, square: float, limit: float, best: np.ndarray
) -> None:
    """Squared distances of one of some rows, from those within each row and the kinds of voxels.

    For example rows [9], [1] of kind [T], [T] with square 1 and limit 9 give [2] for the first one.
    """
    _copy(rows[line], best)
    for step in range(1, _steps(square, limit, lines) + 1):
        reach = best.dtype.type(step * step * square)
        for other in (line - step, line + step):
            if 0 <= other < lines:
                _improve(best, kinds[line], kinds[other], rows[other], reach)


@inner_device
def _improve(
    best: np.ndarray, kind: np.ndarray, other_kind: np.ndarray, other: np.ndarray, reach: float
) -> None:
    """Take, where it is smaller, the squared distance by way of another row, itself `reach` (squared) away.

    For example best [9, 9], kinds [T, T] and [F, T], other [4, 4], reach 1 give [1, 5].
    """
    number = best.dtype.type
    for x in range(best.size):
        # Narrow at once: Python's rules make the sum of two bytes eight bytes wide.
        beyond = number(reach + other[x])
        candidate = reach if kind[x] != other_kind[x] else beyond
        best[x] = candidate if candidate < best[x] else best[x]


@kernel
def add_distance(
    height: np.ndarray,
    inside: np.ndarray,
    squared: np.ndarray,
    weights: np.ndarray,
    cap: np.float32,
    keep: np.ndarray,
) -> np.ndarray:
    """Weight heights, and add the weighted distance, which counts as negative outside; in place.

    `height`, float32, `inside`, `squared` and `keep` are ``(z, y, x)``; `weights`, float32, are those of the
    distance and of what is in `height`. `keep` becomes False where a voxel lies outside by `cap` or more. For
    example heights [0.5, 0.5] with squared distances [4, 9], inside [T, F], weights [1, 10] and cap 3 become
    [7, 2], and only the first is kept.
    """
    depth, rows, _ = height.shape
    for z in range(depth):
        for y in range(rows):
            _add_distance_to_row(height[z, y], inside[z, y], squared[z, y], weights, cap, keep[z, y])
    return height


@inner_device
def _add_distance_to_row(
    height: np.ndarray,
    inside: np.ndarray,
    squared: np.ndarray,
    weights: np.ndarray,
    cap: np.float32,
    keep: np.ndarray,
) -> None:
    of_distance, of_height = weights[0], weights[1]
    for x in range(height.size):
        distance = np.sqrt(np.float32(squared[x]))
        distance = distance if inside[x] else -distance
        keep[x] = keep[x] & (distance > -cap)
        height[x] = height[x] * of_height + distance * of_distance


@kernel
def smooth(
    height: np.ndarray, taps: np.ndarray, along_z: bool, keep: np.ndarray, out: np.ndarray
) -> np.ndarray:
    """Convolve with symmetric taps along y and x, or along z, y and x, repeating the outermost voxels.

    `height` is float32 ``(z, y, x)`` and is overwritten. What is smoothed goes into `out`, float32, which is
    larger by a rim of one voxel on all sides; the rim, and where `keep` is False, get -inf. `taps` are the
    centre tap and those of one side. Taps are added in a fixed order. For example [0, 4, 0], kept but for the
    last one, with taps [0.5, 0.25] gives the row [-inf, 1, 2, -inf, -inf] in the middle of `out`.
    """
    depth, rows, width = height.shape
    if along_z:
        lines = np.empty((depth, width), np.float32)
        for y in range(rows):
            for z in range(depth):
                lines[z] = height[z, y]
            for z in range(depth):
                _smooth_across(lines, z, taps, height[z, y])
    nothing = np.float32(-np.inf)
    out[0] = nothing
    out[depth + 1] = nothing
    line, smoothed = np.empty(width, np.float32), np.empty(width, np.float32)
    for z in range(depth):
        out[z + 1, 0] = nothing
        out[z + 1, rows + 1] = nothing
        for y in range(rows):
            _smooth_across(height[z], y, taps, line)
            _smooth_along(line, taps, smoothed)
            out[z + 1, y + 1, 0] = nothing
            out[z + 1, y + 1, width + 1] = nothing
            _keep(smoothed, keep[z, y], out[z + 1, y + 1, 1 : width + 1])
    return out


@inner_device
def _smooth_across(lines: np.ndarray, line: int, taps: np.ndarray, out: np.ndarray) -> None:
    """Convolve across lines; the result for one of them. Lines [0], [4], [0] with [0.5, 0.25] give [2]."""
    row = lines[line]
    for x in range(row.size):
        out[x] = taps[0] * row[x]
    for t in range(1, taps.size):
        _add_rows(out, lines[max(line - t, 0)], lines[min(line + t, lines.shape[0] - 1)], taps[t])


@inner_device
def _smooth_along(row: np.ndarray, taps: np.ndarray, out: np.ndarray) -> None:
    """Convolve along a line: [0, 4, 0] with taps [0.5, 0.25] becomes [1, 2, 1]."""
    width = row.size
    for x in range(width):
        out[x] = taps[0] * row[x]
    for t in range(1, taps.size):
        for x in range(min(t, width)):
            out[x] += taps[t] * (row[0] + row[min(x + t, width - 1)])
        if width > 2 * t:
            _add_rows(out[t : width - t], row[: width - 2 * t], row[2 * t :], taps[t])
        for x in range(max(t, width - t), width):
            out[x] += taps[t] * (row[max(x - t, 0)] + row[width - 1])


@inner_device
def _add_rows(out: np.ndarray, lower: np.ndarray, upper: np.ndarray, tap: np.float32) -> None:
    """Add ``tap * (lower + upper)`` to a row."""
    for x in range(out.size):
        out[x] += tap * (lower[x] + upper[x])


@inner_device
def _keep(values: np.ndarray, keep: np.ndarray, out: np.ndarray) -> None:
    """Copy what is kept, -inf elsewhere."""
    for x in range(values.size):
        out[x] = values[x] if keep[x] else np.float32(-np.inf)
