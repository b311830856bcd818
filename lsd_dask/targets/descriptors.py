"""Local shape descriptors of a labelling, the auxiliary training targets of the method."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..checks.arguments import shown, whole_number
from ..checks.id_lists import ids_of
from ..kernels.descriptors.ball import BallWindow, ball_window
from ..kernels.descriptors.describing import describe
from ..kernels.descriptors.gaussian import GaussianWindow, gaussian_window
from ..kernels.descriptors.labels import Lattice
from ..kernels.descriptors.statistics import Scaling
from ..space.grids import Grid, Region
from ..space.lengths import convert, lengths_in
from ..space.units import UNKNOWN, can_convert
from ..volumes.dask_arrays import V
from ..volumes.overlap import OverlapBlock, map_overlap
from ..volumes.saving import grid_of
from ..volumes.voxel_values import as_unsigned, check_labels

#: The least variance that is told from none, in squared nanometers, as in the reference implementation; in
#: squared world units where nobody told the unit.
_LEAST_VARIANCE = 1e-3

#: The largest sigma, in samples: the tables of a Gaussian grow with it, those of a ball with its cube.
_MOST_SAMPLES = {"gaussian": 10_000, "sphere": 200}

#: What the kernels, which always see three axes, call the descriptors of an image.
_CHANNELS_2D = (1, 2, 4, 5, 8, 9)


def local_shape_descriptors(
    segmentation: V,
    sigma: float | str | Sequence[float | str],
    components: str | None = None,
    voxel_size: float | Sequence[float] | None = None,
    roi: Any = None,
    labels: Any = None,
    mode: str = "gaussian",
    downsample: int = 1,
    num_threads: int = 1,
) -> V:
    """Local shape descriptors: statistics of an object in the neighbourhood of each of its voxels.

    Parameters
    ----------
    segmentation : (z, y, x) or (y, x) array of int, dask array or DataArray
        Object ids of any size, from 0 on; 0 is background.
    sigma : float, str or sequence of them
        Extent of the neighbourhood, for all axes or one for each: the standard deviation of a Gaussian, cut
        off at three sigma, or the radius of a ball. Numbers are in world units, those of a DataArray; text
        says its unit, such as ``"80 nm"``.
    components : str, optional
        Digits of the channels to compute, ascending, all by default. In 3-D 0-2 are the offset of the mean
        position along z, y and x, 3-5 the variance along z, y and x, 6-8 the Pearson coefficients of zy, zx
        and yx, 9 is the size; in 2-D 0-1 are the offset, 2-3 the variance, 4 the Pearson coefficient, 5 the
        size.
    voxel_size : float or sequence of float, optional
        World units per voxel, for all axes or one for each. Defaults to that of a DataArray, and to 1 for
        any other array.
    roi : tuple of slice or Roi, optional
        Voxels to compute descriptors for, all by default; those around are still looked at. One slice (in
        voxels) per axis, or an object with `get_begin()` and `get_end()` (in world units), such as
        `funlib.geometry.Roi`.
    labels : array_like of int, optional
        Objects to compute descriptors for, all by default. The voxels of others have offsets and Pearson
        coefficients of 0.5 (for none) and are 0 in the other channels, as in the reference implementation.
    mode : {"gaussian", "sphere"}, optional
        Shape of the neighbourhood.
    downsample : int, optional
        Look at every n-th voxel only, and give each block of n voxels a side the value of its first one.
    num_threads : int, optional
        Threads to use for an array, or for each block of a lazy one. The result does not depend on it.

    Returns
    -------
    (C, z, y, x) or (C, y, x) array of float32 in [0, 1]
        Of the same kind as `segmentation`; lazy unless that is a NumPy array, and then the same for any
        chunking. The background is 0 in every channel. Mean offsets are in sigmas (half sigmas for a ball),
        0.5 is none; variances in sigmas squared; the size is the weighted count of voxels.

    Raises
    ------
    TypeError
        If the segmentation is no array or does not hold integers, or an option is of another kind.
    ValueError
        If the segmentation is neither 2-D nor 3-D, or has negative labels: those of a lazy one are found
        when they are read. If an option does not fit the segmentation: a sequence of another length,
        components out of range or not ascending, a shape that is no multiple of `downsample`, a region
        outside, a ball that is not one in voxels, a sigma of more than 10,000 samples (200 for a ball).

    Notes
    -----
    Equals the package `lsds` up to its rounding errors. As there, a voxel whose object has no voxel in its
    neighbourhood (which takes `downsample`) counts as one of size 1 with its mean position at the array's
    begin.

    The time grows with the number of voxels that are not background, and hardly with the number of objects.
    Besides the result, about a fifth of its size is needed.

    References
    ----------
    .. [1] A. Sheridan et al., "Local shape descriptors for neuron segmentation", Nature Methods 20, 2023.
       https://doi.org/10.1038/s41592-022-01711-z
    .. [2] https://github.com/funkelab/lsd

    Examples
    --------
    The middle of a bar has its mean where it is; the ends have it further inside:

    >>> import numpy as np
    >>> bar = np.array([[0, 7, 7, 7, 7, 7, 0]])
    >>> local_shape_descriptors(bar, sigma=2, components="1").round(2)
    array([[[0.  , 0.81, 0.65, 0.5 , 0.35, 0.19, 0.  ]]], dtype=float32)
    """
    check_labels(segmentation, "segmentation", empty=True)
    grid = grid_of(segmentation)
    if voxel_size is not None:
        grid = replace(grid, voxel_size=_per_axis("voxel_size", voxel_size, grid.dims))
    method = make_method(grid, sigma, components, labels, mode, downsample, num_threads)
    region: Region = _region(grid, roi, downsample)
    if isinstance(segmentation, np.ndarray):
        return method(segmentation, OverlapBlock(region, tuple(s.start for s in region), grid.shape))
    descriptors = map_overlap(
        method, segmentation, method.depth, dtype=np.float32, channels=len(method.channels)
    )
    return descriptors[(slice(None), *region)]


@dataclass(frozen=True)
class Method:
    """Everything that decides the descriptors of a block; the kernel of `map_overlap`.

    Attributes
    ----------
    sigma, voxel_size
        One number an axis, in nanometers, or in world units where nobody told the unit.
    channels
        The kernels' numbers of the channels.
    labels
        The objects to describe, None for all.
    mode, downsample, num_threads
        As for `local_shape_descriptors`.
    """

    sigma: tuple[float, ...]
    voxel_size: tuple[float, ...]
    channels: tuple[int, ...]
    labels: tuple[int, ...] | None
    mode: str
    downsample: int
    num_threads: int

    def __call__(self, haloed: np.ndarray, block: OverlapBlock) -> np.ndarray:
        """The descriptors of a block's core, ``(C, z, y, x)``."""
        start = [o - s.start for o, s in zip(block.origin, block.core, strict=True)]
        phase = [-o % self.downsample for o in start]
        origin = [(o + p) // self.downsample for o, p in zip(start, phase, strict=True)]
        begin = [s.start for s in block.core]
        end = [s.stop for s in block.core]
        first = [(b - p) // self.downsample for b, p in zip(begin, phase, strict=True)]
        last = [-((p - e) // self.downsample) for e, p in zip(end, phase, strict=True)]
        lattice = Lattice(
            shape=_three(haloed.shape, 1),
            step=self.downsample,
            phase=_three(phase, 0),
            core_begin=_three(begin, 0),
            core_end=_three(end, 1),
            first=_three(first, 0),
            last=_three(last, 1),
        )
        scaling = Scaling(
            unit=_three((1 / s for s in self.samples), 1.0),
            offset=0.5 if self.mode == "gaussian" else 1.0,
            floor=_three((_LEAST_VARIANCE / s**2 for s in self.sigma), 1.0),
            origin=_three(origin, 0),
        )
        out = describe(
            as_unsigned(haloed, "segmentation").reshape(lattice.shape),
            lattice,
            self.window,
            scaling,
            np.array(self.channels),
            listed=self._listed(haloed.dtype),
            num_threads=self.num_threads,
        )
        return out.reshape(len(self.channels), *(e - b for b, e in zip(begin, end, strict=True)))

    @property
    def samples(self) -> tuple[float, ...]:
        """Sigma in samples, along each axis."""
        return tuple(s / (v * self.downsample) for s, v in zip(self.sigma, self.voxel_size, strict=True))

    @property
    def window(self) -> GaussianWindow | BallWindow:
        """The neighbourhood."""
        if self.mode == "gaussian":
            return gaussian_window(_three(self.samples, 0.0))
        return ball_window(self.samples[0], len(self.samples))

    @property
    def depth(self) -> tuple[int, ...]:
        """Voxels of context needed on each side of a block, along each axis."""
        window = self.window
        reach = window.radius if isinstance(window, GaussianWindow) else window.after
        return tuple(r * self.downsample + self.downsample - 1 for r in reach[-len(self.sigma) :])

    def _listed(self, dtype: np.dtype) -> np.ndarray | None:
        if self.labels is None:
            return None
        most = np.iinfo(dtype).max
        return np.array([i for i in self.labels if i <= most], np.uint64)


def make_method(
    grid: Grid,
    sigma: float | str | Sequence[float | str],
    components: str | None = None,
    labels: Any = None,
    mode: str = "gaussian",
    downsample: int = 1,
    num_threads: int = 1,
) -> Method:
    """The method for a grid, all of it checked: options and errors as of `local_shape_descriptors`."""
    if mode not in ("gaussian", "sphere"):
        raise ValueError(f"mode: found {mode!r}, expected 'gaussian' or 'sphere'")
    downsample = whole_number("downsample", downsample, least=1)
    num_threads = whole_number("num_threads", num_threads, least=1)
    extent = _per_axis("sigma", sigma, grid.dims, grid.units)
    if can_convert(grid.units, "nanometer"):
        extent = tuple(convert(extent, grid.units, "nanometer").tolist())
        grid = grid.told_in("nanometer")
    method = Method(
        extent,
        grid.voxel_size,
        _channels(components, grid.ndim),
        _listed(labels),
        mode,
        downsample,
        num_threads,
    )
    if max(method.samples) > _MOST_SAMPLES[mode]:
        raise ValueError(
            f"sigma: found {method.sigma}, which is {max(method.samples):g} samples of voxels of size "
            f"{grid.voxel_size} {grid.units}, expected at most {_MOST_SAMPLES[mode]} in mode {mode!r}"
        )
    if mode == "sphere" and not np.allclose(method.samples, method.samples[0], rtol=1e-6):
        raise ValueError(
            f"sigma: found {method.sigma}, which is {method.samples} voxels of size {grid.voxel_size} "
            f"{grid.units}; mode 'sphere' expects as many along every axis"
        )
    return method


def _per_axis(
    name: str, value: float | str | Sequence[float | str], dims: Sequence[str], units: str = UNKNOWN
) -> tuple[float, ...]:
    try:
        values = np.array(lengths_in(units, name, [value] * len(dims) if np.ndim(value) == 0 else value))
    except ValueError:
        values = np.empty(0)
    if values.shape != (len(dims),) or not np.all(np.isfinite(values) & (values > 0)):
        raise ValueError(f"{name}: found {shown(value)}, expected positive numbers for ({', '.join(dims)})")
    return tuple(values.tolist())


def _listed(labels: Any) -> tuple[int, ...] | None:
    """The labels to describe, without the background."""
    if labels is None:
        return None
    return tuple(sorted(set(ids_of(labels, "labels").ravel().tolist()) - {0}))


def _channels(components: str | None, ndim: int) -> tuple[int, ...]:
    """The kernels' numbers of the channels."""
    names = "0123456789" if ndim == 3 else "012345"
    digits = names if components is None else components
    if not isinstance(digits, str):
        raise TypeError(f"components: found {shown(digits)}, expected digits as text, such as '012'")
    if not digits or any(d not in names for d in digits) or list(digits) != sorted(set(digits)):
        raise ValueError(f"components: found {components!r}, expected ascending digits out of {names!r}")
    return tuple(int(d) if ndim == 3 else _CHANNELS_2D[int(d)] for d in digits)


def _region(grid: Grid, roi: Any, downsample: int) -> Region:
    if roi is None:
        region = tuple(slice(0, n) for n in grid.shape)
    elif hasattr(roi, "get_begin"):
        begin, end = tuple(roi.get_begin()), tuple(roi.get_end())
        region = grid.region(begin, tuple(e - b for b, e in zip(begin, end, strict=True)))
    else:
        region = grid.resolve(roi)
    if any(s.start % downsample or s.stop % downsample for s in region):
        raise ValueError(
            f"segmentation: found voxels [{', '.join(f'{s.start}:{s.stop}' for s in region)}] to describe, "
            f"expected multiples of downsample {downsample}"
        )
    return region


def _three(values: Any, missing: Any) -> tuple[Any, Any, Any]:
    """One value for each of z, y and x; an image has the `missing` one along z."""
    z, y, x = (missing, *values)[-3:]
    return z, y, x
