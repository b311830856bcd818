"""The height that fragments ascend: a capped, signed boundary distance plus affinity, lightly smoothed.

Every value depends only on voxels within a small window and is computed from them in a fixed order, so that
a voxel's height is the same bit for bit in whatever block it is computed. Two-dimensional data come as
three-dimensional with one section.
"""

import numpy as np

from .compiling import device, kernel


@kernel
def interior(affinities: np.ndarray, axes: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Sum of the affinities of each voxel to both of its neighbours along some axes, added to `total`.

    `total` is float32 ``(z, y, x)``, zeros to begin with. `affinities` is ``(c, z, y, x)``, channel k to the
    lower neighbour along axis ``axes[k]``. The last voxel of a line has no upper neighbour and counts its
    lower affinity twice. For example x-affinities [0, 9, 5] give [9, 14, 10].
    """
    channels, depth, height, width = affinities.shape
    for k in range(channels):
        dz, dy, dx = axes[k] == 0, axes[k] == 1, axes[k] == 2
        for z in range(depth):
            uz = min(z + dz, depth - 1)
            for y in range(height):
                uy = min(y + dy, height - 1)
                row, below, above = total[z, y], affinities[k, z, y], affinities[k, uz, uy]
                if dx:
                    for x in range(width - 1):
                        row[x] += np.float32(below[x]) + np.float32(below[x + 1])
                    row[width - 1] += np.float32(2) * np.float32(below[width - 1])
                else:
                    for x in range(width):
                        row[x] += np.float32(below[x]) + np.float32(above[x])
    return total


@kernel
def signed_distance(inside: np.ndarray, weights: np.ndarray, cap: float, distance: np.ndarray) -> np.ndarray:
    """Distance of each voxel to the nearest one of the other kind, negative outside, at most `cap`.

    Written into `distance`, float32 ``(z, y, x)``, and returned. `inside` is boolean ``(z, y, x)``, `weights`
    the size of a voxel along each axis (0: not along this axis). A search in windows that ends where it
    cannot win any more: exact, and cheap since boundaries are near. For example [T, T, T, F] with weight 1
    and cap 2 gives [2, 2, 1, -1].
    """
    depth, height, width = inside.shape
    limit = np.float32(cap) * np.float32(cap)
    square_z = np.float32(weights[0]) * np.float32(weights[0])
    square_y = np.float32(weights[1]) * np.float32(weights[1])
    square_x = np.float32(weights[2]) * np.float32(weights[2])
    # Squared until the last pass. Each pass is in place, from a copy of the plane that it changes: that is
    # small, a second volume would not be.
    for z in range(depth):
        for y in range(height):
            _along_row(inside[z, y], square_x, limit, distance[z, y])
    if square_y > 0:
        plane = np.empty((height, width), np.float32)
        for z in range(depth):
            plane[:] = distance[z]
            for y in range(height):
                for step in range(1, height):
                    reach = np.float32(step * step) * square_y
                    if reach >= limit:
                        break
                    for sign in (-1, 1):
                        other = y + sign * step
                        if 0 <= other < height:
                            _improve(distance[z, y], inside[z, y], inside[z, other], plane[other], reach)
    if square_z > 0:
        plane = np.empty((depth, width), np.float32)
        for y in range(height):
            for z in range(depth):
                plane[z] = distance[z, y]
            for z in range(depth):
                for step in range(1, depth):
                    reach = np.float32(step * step) * square_z
                    if reach >= limit:
                        break
                    for sign in (-1, 1):
                        other = z + sign * step
                        if 0 <= other < depth:
                            _improve(distance[z, y], inside[z, y], inside[other, y], plane[other], reach)
                _finish(distance[z, y], inside[z, y])
    else:
        for z in range(depth):
            for y in range(height):
                _finish(distance[z, y], inside[z, y])
    return distance


@device
def _along_row(inside: np.ndarray, square: np.float32, limit: np.float32, out: np.ndarray) -> None:
    """Squared distance, within a row, to the nearest voxel of the other kind, at most `limit`.

    For example [T, T, T, F] with limit 16 gives [9, 4, 1, 1].
    """
    width = inside.size
    if square == 0:
        out[:] = limit
        return
    far = width + 1
    steps = far
    for x in range(width):
        if x > 0:
            steps = 1 if inside[x] != inside[x - 1] else min(steps + 1, far)
        out[x] = np.float32(steps)
    steps = far
    for x in range(width - 1, -1, -1):
        if x < width - 1:
            steps = 1 if inside[x] != inside[x + 1] else min(steps + 1, far)
        nearest = min(out[x], np.float32(steps))
        out[x] = min(limit, nearest * nearest * square) if nearest < far else limit


@device
def _finish(squared: np.ndarray, inside: np.ndarray) -> None:
    """Squared distances become distances, negative outside: [4, 1] with [T, F] becomes [2, -1]."""
    for x in range(squared.size):
        d = np.sqrt(squared[x])
        squared[x] = d if inside[x] else -d


@device
def _improve(
    best: np.ndarray, kind: np.ndarray, other_kind: np.ndarray, other: np.ndarray, reach: np.float32
) -> None:
    """Take, where it is smaller, the squared distance by way of another row, itself `reach` (squared) away.

    For example best [9, 9], kinds [T, T] and [F, T], other [4, 4], reach 1 give [1, 5].
    """
    for x in range(best.size):
        candidate = reach if kind[x] != other_kind[x] else reach + other[x]
        best[x] = min(best[x], candidate)


@kernel
def smooth(height: np.ndarray, taps: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """Convolve with symmetric taps along some axes, repeating the outermost voxels; in place, float32.

    `taps` are the centre tap and those of one side. Taps are added in a fixed order. For example [0, 4, 0]
    with taps [0.5, 0.25] along x gives [1, 2, 1].
    """
    depth, rows, width = height.shape
    for axis in axes:
        lines = np.empty((depth if axis == 0 else rows, width), np.float32)
        for i in range(rows if axis == 0 else depth):
            for j in range(lines.shape[0]):
                lines[j] = height[j, i] if axis == 0 else height[i, j]
            for j in range(lines.shape[0]):
                out = height[j, i] if axis == 0 else height[i, j]
                row = lines[j]
                for x in range(width):
                    out[x] = taps[0] * row[x]
                for t in range(1, taps.size):
                    if axis < 2:
                        below, above = max(j - t, 0), min(j + t, lines.shape[0] - 1)
                        _add_rows(out, lines[below], lines[above], taps[t])
                    else:
                        for x in range(min(t, width)):
                            out[x] += taps[t] * (row[0] + row[min(x + t, width - 1)])
                        if width > 2 * t:
                            _add_rows(out[t : width - t], row[: width - 2 * t], row[2 * t :], taps[t])
                        for x in range(max(t, width - t), width):
                            out[x] += taps[t] * (row[max(x - t, 0)] + row[width - 1])
    return height


@device
def _add_rows(out: np.ndarray, lower: np.ndarray, upper: np.ndarray, tap: np.float32) -> None:
    """Add ``tap * (lower + upper)`` to a row."""
    for x in range(out.size):
        out[x] += tap * (lower[x] + upper[x])
