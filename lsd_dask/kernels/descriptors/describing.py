"""Shape descriptors of a labelling in memory: the bookkeeping and the threads around the kernels."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from .ball import BallWindow, describe_ball
from .gaussian import GaussianWindow, describe_gaussian
from .labels import Lattice, find_cells, find_runs, number_labels
from .statistics import Scaling, Target

#: Parts of the work a thread gets, so that all threads finish at about the same time.
_PARTS_PER_THREAD = 8


def describe(
    labels: np.ndarray,
    lattice: Lattice,
    window: GaussianWindow | BallWindow,
    scaling: Scaling,
    channels: np.ndarray,
    *,
    listed: np.ndarray | None = None,
    num_threads: int = 1,
) -> np.ndarray:
    """Shape descriptors of the voxels of the lattice's core.

    Parameters
    ----------
    labels : (z, y, x) array of unsigned int
        The labelling, 0 is background.
    lattice, window, scaling
        Where to sample the labels and to describe them, over which neighbourhood, and how descriptors are
        scaled.
    channels : (C,) array of int64
        The descriptors to compute: 0-2 mean offset z, y, x; 3-5 variance z, y, x; 6-8 Pearson zy, zx, yx; 9
        size.
    listed : (n,) array of uint64, optional
        The labels to describe, all by default.
    num_threads : int, optional
        Number of threads. The result does not depend on it.

    Returns
    -------
    (C, z, y, x) array of float32
        0 in the background. Voxels of labels that are not listed have offsets and Pearson coefficients of 0.5
        (for "none"), and are 0 otherwise.
    """
    numbers, count = _numbered(labels, listed)
    shape = tuple(e - b for b, e in zip(lattice.core_begin, lattice.core_end, strict=True))
    out = np.zeros((channels.size, *shape), np.float32)
    runs = find_runs(numbers, lattice, count)
    cells = find_cells(numbers, lattice, count)
    degree = 2 if np.any((channels >= 3) & (channels < 9)) else int(np.any(channels < 3))
    target = Target(lattice, scaling, numbers.ravel(), channels, out.ravel())

    def run(first: int, last: int) -> None:
        if isinstance(window, GaussianWindow):
            describe_gaussian(target, runs, cells, first, last, window, degree)
        else:
            describe_ball(target, runs, cells, first, last, window, degree)

    if num_threads == 1:
        run(0, len(cells.starts) - 1)
    else:
        bounds = _shares(cells.starts, num_threads * _PARTS_PER_THREAD)
        with ThreadPoolExecutor(num_threads) as pool:
            list(pool.map(run, bounds[:-1], bounds[1:]))
    if listed is not None:
        _fill_unlisted(numbers, lattice, channels, out)
    return out


def _numbered(labels: np.ndarray, listed: np.ndarray | None) -> tuple[np.ndarray, int]:
    """Labels as consecutive numbers, and how many there are; see `number_labels`."""
    numbers = np.empty(labels.shape, np.int32)
    known = np.zeros(0, np.uint64) if listed is None else listed
    capacity = 1 << max(10, (2 * known.size).bit_length())
    while True:
        keys = np.zeros(capacity, np.uint64)
        values = np.zeros(capacity, np.int32)
        count = number_labels(labels, known, listed is not None, keys, values, numbers)
        if count >= 0:
            return numbers, count
        capacity *= 8


def _fill_unlisted(numbers: np.ndarray, lattice: Lattice, channels: np.ndarray, out: np.ndarray) -> None:
    core = tuple(slice(b, e) for b, e in zip(lattice.core_begin, lattice.core_end, strict=True))
    unlisted = numbers[core] == -1
    for i in np.flatnonzero((channels < 3) | ((channels >= 6) & (channels < 9))):
        out[i][unlisted] = 0.5


def _shares(starts: np.ndarray, count: int) -> list[int]:
    """Bounds of up to `count` ranges of columns with about as many cells each.

    >>> _shares(np.array([0, 5, 5, 9, 10]), 2)
    [0, 1, 4]
    """
    bounds = np.searchsorted(starts, np.linspace(0, starts[-1], count + 1)[1:-1])
    return np.unique([0, *bounds.tolist(), len(starts) - 1]).tolist()
