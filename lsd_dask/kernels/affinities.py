"""Affinities of a labelling: whether a voxel and its neighbour belong to the same object."""

import numpy as np

from .compiling import kernel


@kernel
def compare_with_neighbors(
    labels: np.ndarray, neighborhood: np.ndarray, same: np.generic, core: np.ndarray, out: np.ndarray
) -> None:
    """Write `same` into `out[d, p]` where labels at p and p + neighborhood[d] are equal and not 0, else 0.

    `labels` is (z, y, x), `neighborhood` (n, 3), `core` (3, 2) the begin and end of the part of `labels` that
    `out` (n, z, y, x) covers. A neighbour outside `labels` is in no object.

    For labels `[[[7, 7, 0, 0]]]`, one neighbour (0, 0, -1) and same = 1, `out` is `[[[[0, 1, 0, 0]]]]`.
    """
    shape = labels.shape
    for d in range(neighborhood.shape[0]):
        dz, dy, dx = neighborhood[d]
        first = max(core[2, 0], -dx)
        last = min(core[2, 1], shape[2] - dx)
        for z in range(core[0, 0], core[0, 1]):
            for y in range(core[1, 0], core[1, 1]):
                row = out[d, z - core[0, 0], y - core[1, 0]]
                row[:] = 0
                if not (0 <= z + dz < shape[0] and 0 <= y + dy < shape[1]):
                    continue
                here = labels[z, y]
                there = labels[z + dz, y + dy]
                for x in range(first, last):
                    if here[x] == there[x + dx] and here[x] != 0:
                        row[x - core[2, 0]] = same
