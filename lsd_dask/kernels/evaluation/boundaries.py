"""Finding voxels that are near a boundary between labels.

Whether a voxel is near depends on the voxels within the tolerance alone, so it is the same in whatever block
it is looked at, as long as the block comes with that much context.
"""

import numpy as np

from ..compiling import device, kernel


@kernel
def near_other_labels(labels: np.ndarray, voxel_size: np.ndarray, tolerance: float) -> np.ndarray:
    """Whether the centre of a voxel of another label lies within `tolerance` of each voxel's.

    `labels` is uint64 ``(z, y, x)``, `voxel_size` float64 ``(3,)`` in the units of the tolerance, which is
    above 0. For example labels [5, 5, 5, 0, 0] with voxels of 1 and tolerance 1 give [F, F, T, T, F].

    A nearest other voxel is found axis by axis: along x the nearest one in the row; then the nearest of those
    of the voxels along y that have the same label, or such a voxel itself where it has another one; then
    along z.
    """
    depth, height, width = labels.shape
    # A hair more, so that a distance that is the tolerance but for rounding counts.
    limit = np.float32(tolerance * tolerance * (1 + 1e-6))
    square_z = np.float32(voxel_size[0] * voxel_size[0])
    square_y = np.float32(voxel_size[1] * voxel_size[1])
    square_x = np.float32(voxel_size[2] * voxel_size[2])
    squares = np.empty((depth, height, width), np.float32)
    plane = np.empty((height, width), np.float32)
    for z in range(depth):
        for y in range(height):
            _along_row(labels[z, y], square_x, plane[y])
        for y in range(height):
            for x in range(width):
                squares[z, y, x] = plane[y, x]
            for step in range(1, height):
                added = np.float32(step * step) * square_y
                if added > limit:
                    break
                for other in (y - step, y + step):
                    if 0 <= other < height:
                        _nearer(labels[z, y], labels[z, other], plane[other], added, squares[z, y])
    near = np.empty((depth, height, width), np.bool_)
    row = np.empty(width, np.float32)
    for z in range(depth):
        for y in range(height):
            row[:] = squares[z, y]
            for step in range(1, depth):
                added = np.float32(step * step) * square_z
                if added > limit:
                    break
                for other in (z - step, z + step):
                    if 0 <= other < depth:
                        _nearer(labels[z, y], labels[other, y], squares[other, y], added, row)
            for x in range(width):
                near[z, y, x] = row[x] <= limit
    return near


@device
def _along_row(labels: np.ndarray, square: np.float32, out: np.ndarray) -> None:
    """Squared distances of a row's voxels to the nearest one of another label: [5, 5, 7] give [4, 1, 1]."""
    far = np.float32(np.inf)
    begin = 0
    while begin < labels.size:
        end = begin
        while end < labels.size and labels[end] == labels[begin]:
            end += 1
        for x in range(begin, end):
            before = np.float32(x - begin + 1) if begin > 0 else far
            after = np.float32(end - x) if end < labels.size else far
            nearest = min(before, after)
            out[x] = nearest * nearest * square
        begin = end


@device
def _nearer(
    labels: np.ndarray, others: np.ndarray, squares: np.ndarray, added: np.float32, out: np.ndarray
) -> None:
    """Lower `out` to what is found by way of another row, which is a squared distance `added` away."""
    for x in range(labels.size):
        found = added + squares[x] if others[x] == labels[x] else added
        out[x] = min(out[x], found)
