"""Affinities of a labelling: whether a voxel and its neighbour belong to the same object."""

from typing import Any

import numpy as np

from .compiling import kernel


@kernel
def compare_with_neighbors(
    labels: np.ndarray, neighborhood: np.ndarray, same: Any, core: np.ndarray, out: np.ndarray
) -> None:
    """Write `same` into `out[d, p]` where labels at p and p + neighborhood[d] are equal and not 0, else 0.

    `labels` is (z, y, x), `neighborhood` (n, 3), `core` (3, 2) the begin and end of the part of `labels` that
    `out` (n, z, y, x) covers. A neighbour outside `labels` is in no object.

    For labels `[[[7, 7, 0, 0]]]`, one neighbour (0, 0, -1) and same = 1, `out` is `[[[[0, 1, 0, 0]]]]`.
    """
    shape = labels.shape
    none = same - same
    for d in range(neighborhood.shape[0]):
        dz, dy, dx = neighborhood[d]
        first = max(core[2, 0], -dx)
        last = min(core[2, 1], shape[2] - dx)
        for z in range(core[0, 0], core[0, 1]):
            for y in range(core[1, 0], core[1, 1]):
                row = out[d, z - core[0, 0], y - core[1, 0]]
                row[:] = none
                if not (0 <= z + dz < shape[0] and 0 <= y + dy < shape[1] and first < last):
                    continue
                here = labels[z, y, first:last]
                there = labels[z + dz, y + dy, first + dx : last + dx]
                inside = row[first - core[2, 0] :]
                # Free of branches, so that it is vectorised.
                for x in range(here.size):
                    inside[x] = same if (here[x] == there[x]) & (here[x] != 0) else none
