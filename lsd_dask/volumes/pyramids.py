"""Coarser levels of a volume: what a viewer shows from afar, and what is planned of them.

A level is made of the next finer one: a voxel is the mean, or for labels the most frequent value, of a cell
of up to 2 x 2 x 2 voxels, so no block shows in it. Axes with larger voxels wait until the others have caught
up.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..checks.arguments import check_array, whole_number
from ..space.grids import Grid, Region
from .overlap import Reader

type Kind = Literal["mean", "mode"]

#: A level whose axes are all at most this long is the last one, by number of axes.
LAST = {2: 512, 3: 64}

#: Planes of a block that are made at once: eight times their voxels are read.
_SLAB = 16


@dataclass(frozen=True)
class Level:
    """A level of a pyramid.

    Attributes
    ----------
    grid
        Where its voxels lie. All levels share the lower corner of the volume; the last voxels of an axis may
        reach beyond its end.
    factors
        Voxels of the next finer level a voxel holds, along each axis: 1 or 2.
    """

    grid: Grid
    factors: tuple[int, ...]


def kind_of(dtype: np.dtype[Any]) -> Kind:
    """How volumes of a type are made coarser: labels, whole numbers of 32 bits or more, by their mode.

    Parameters
    ----------
    dtype : dtype

    Returns
    -------
    "mean" or "mode"

    Examples
    --------
    >>> kind_of(np.dtype("uint64")), kind_of(np.dtype("uint8")), kind_of(np.dtype("float32"))
    ('mode', 'mean', 'mean')
    """
    return "mode" if dtype.kind == "b" or (dtype.kind in "iu" and dtype.itemsize >= 4) else "mean"


def plan_levels(grid: Grid, levels: int | None = None) -> list[Level]:
    """Plan the coarser levels of a volume.

    Parameters
    ----------
    grid : Grid
        Of the volume.
    levels : int, optional
        How many there are to be; by default as many as it takes for the last one to be at most 64 voxels long
        along each axis (512 in 2-D).

    Returns
    -------
    list of Level
        Finest first, without the volume itself; fewer than asked for where there is one voxel before.

    Examples
    --------
    >>> grid = Grid(("z", "y", "x"), (50, 1000, 999), (40, 8, 8), (0, 0, 0))
    >>> for level in plan_levels(grid):
    ...     print(level.factors, level.grid.shape, level.grid.voxel_size)
    (1, 2, 2) (50, 500, 500) (40.0, 16.0, 16.0)
    (1, 2, 2) (50, 250, 250) (40.0, 32.0, 32.0)
    (2, 2, 2) (25, 125, 125) (80.0, 64.0, 64.0)
    (2, 2, 2) (13, 63, 63) (160.0, 128.0, 128.0)
    """
    most = 64 if levels is None else whole_number("levels", levels, least=1)
    planned: list[Level] = []
    while len(planned) < most and max(grid.shape) > (LAST[grid.ndim] if levels is None else 1):
        sizes = [v for v, n in zip(grid.voxel_size, grid.shape, strict=True) if n > 1]
        # A hair less than twice, so that rounding does not decide.
        limit = 1.999 * min(sizes)
        factors = tuple(
            2 if n > 1 and v < limit else 1 for n, v in zip(grid.shape, grid.voxel_size, strict=True)
        )
        grid = replace(
            grid,
            shape=tuple(-(-n // f) for n, f in zip(grid.shape, factors, strict=True)),
            voxel_size=tuple(v * f for v, f in zip(grid.voxel_size, factors, strict=True)),
        )
        planned.append(Level(grid, factors))
    return planned


def downsample(array: NDArray[Any], factors: Sequence[int], kind: Kind) -> NDArray[Any]:
    """Make an array coarser.

    Parameters
    ----------
    array : ([C, ]z, y, x) or ([C, ]y, x) ndarray
        Of numbers. Where an extent is no multiple of its factor, the last cells hold fewer voxels.
    factors : sequence of int
        Voxels a cell holds along each spatial axis: 1 or 2.
    kind : {"mean", "mode"}
        What becomes of a cell: the mean of its voxels, for whole numbers rounded to the nearest, up from a
        half; or the most frequent value. Of labels that are equally frequent the smallest one that is not 0
        is taken, so that thin objects last longer than the background.

    Returns
    -------
    ndarray
        Of the same dtype; ``ceil(extent / factor)`` voxels along each axis.

    Raises
    ------
    TypeError
        If it is no array, or the mean of truth values is asked for.
    ValueError
        If a factor is neither 1 nor 2, if there are more factors than axes, or for another kind.

    Examples
    --------
    >>> labels = np.array([[7, 7, 0, 5, 1], [7, 0, 5, 0, 2]], dtype=np.uint64)
    >>> downsample(labels, (2, 2), "mode")
    array([[7, 5, 1]], dtype=uint64)
    >>> downsample(labels, (2, 2), "mean")
    array([[5, 3, 2]], dtype=uint64)
    """
    check_array(array, "array")
    if not set(factors) <= {1, 2} or len(factors) > array.ndim:
        raise ValueError(f"factors: found {tuple(factors)}, expected 1 or 2 for each spatial axis")
    if kind not in ("mean", "mode"):
        raise ValueError(f"kind: found {kind!r}, expected 'mean' or 'mode'")
    if kind == "mean" and array.dtype.kind == "b":
        raise TypeError("array: found truth values, which have no mean of their own type; expected numbers")
    voxels = _voxels_of_cells(array, factors)
    if len(voxels) == 1:
        return voxels[0].copy()
    return _mean(voxels) if kind == "mean" else _mode(voxels)


@dataclass(frozen=True)
class DownsampleRegion:
    """Makes a region of a level from the next finer one.

    Attributes
    ----------
    factors, kind
        As for `downsample`.
    """

    factors: tuple[int, ...]
    kind: Kind

    def __call__(self, region: Region, finer: Reader) -> NDArray[Any]:
        """The voxels of a region of the level."""
        first, *others = region
        slabs = [
            slice(start, min(start + self._slab(others), first.stop))
            for start in range(first.start, first.stop, self._slab(others))
        ]
        parts = [
            downsample(finer.read(self._below((slab, *others), finer)), self.factors, self.kind)
            for slab in slabs
        ]
        return np.concatenate(parts, axis=parts[0].ndim - len(region))

    def _slab(self, others: Sequence[slice]) -> int:
        return _SLAB if len(others) == 2 else _SLAB * 16

    def _below(self, region: Region, finer: Reader) -> Region:
        spatial = finer.shape[len(finer.shape) - len(region) :]
        return tuple(
            slice(part.start * f, min(part.stop * f, n))
            for part, f, n in zip(region, self.factors, spatial, strict=True)
        )


def _voxels_of_cells(array: NDArray[Any], factors: Sequence[int]) -> list[NDArray[Any]]:
    """The first voxel of all cells, the second one, and so on, as views."""
    lead = array.ndim - len(factors)
    spatial = array.shape[lead:]
    missing = [(0, -n % f) for n, f in zip(spatial, factors, strict=True)]
    if any(after for _, after in missing):
        # Said twice, the last voxels change neither the mean nor the mode of their cell.
        array = np.pad(array, [(0, 0)] * lead + missing, mode="edge")
    cells: list[NDArray[Any]] = []
    for place in itertools.product(*map(range, factors)):
        every = tuple(slice(i, None, f) for i, f in zip(place, factors, strict=True))
        cells.append(array[(slice(None),) * lead + every])
    return cells


def _mean(voxels: Sequence[NDArray[Any]]) -> NDArray[Any]:
    dtype, n = voxels[0].dtype, len(voxels)
    if dtype.kind == "f":
        total = np.zeros(voxels[0].shape, np.float64)
        for part in voxels:
            total += part
        return (total / n).astype(dtype)
    # Quotients and remainders apart, as a sum of 64-bit numbers may not fit into 64 bits.
    wide = np.dtype(f"{dtype.kind}8") if dtype.itemsize == 8 else np.dtype(np.int64)
    wide = np.dtype(np.int32) if dtype.itemsize <= 2 else wide
    whole, rest = np.zeros(voxels[0].shape, wide), np.full(voxels[0].shape, n // 2, np.int8)
    for part in voxels:
        whole += part // n
        rest += (part % n).astype(np.int8)
    whole += (rest // n).astype(wide)
    return whole.astype(dtype)


def _mode(voxels: Sequence[NDArray[Any]]) -> NDArray[Any]:
    result = voxels[0].copy()
    mixed = np.zeros(result.shape, bool)
    for part in voxels[1:]:
        mixed |= part != result
    if mixed.any():
        # Most cells lie inside of objects, and only the others need counting.
        result[mixed] = _mode_of_columns(np.stack([part[mixed] for part in voxels]))
    return result


def _mode_of_columns(values: NDArray[Any]) -> NDArray[Any]:
    """The most frequent value of each column; of equally frequent ones the smallest that is not 0.

    >>> _mode_of_columns(np.array([[0, 3, 0], [4, 9, 0], [4, 9, 0], [0, 3, 1]]))
    array([4, 3, 0])
    """
    ordered = np.sort(values, axis=0)
    best = ordered[0].copy()
    most = np.zeros(best.shape, np.int8)
    run = np.zeros(best.shape, np.int8)
    for row in range(len(ordered)):
        run += 1
        if row:
            run[ordered[row] != ordered[row - 1]] = 1
        # What comes later is larger, and wins a tie only against the background.
        better = (run > most) | ((run == most) & (best == 0))
        most[better] = run[better]
        best[better] = ordered[row][better]
    return best


def cell_bytes(factors: Sequence[int], itemsize: int) -> int:
    """Bytes that `DownsampleRegion` holds for each voxel of a plane of a level while it makes it.

    Parameters
    ----------
    factors : sequence of int
    itemsize : int
        Bytes of a voxel.

    Returns
    -------
    int
        What is read, padded and sorted, for `_SLAB` planes.
    """
    return _SLAB * math.prod(factors) * (4 * itemsize + 2)
