"""Synthetic neuropil of any size: labels, an EM-like image and imperfect affinities, as lazy volumes.

Everything is a function of world coordinates and a seed, so any part of a volume can be made alone, under any
chunking, with the same bits; the volume itself never has to exist. `lsd_dask.kernels.synthetic` describes the geometry.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from scipy import ndimage

from .grids import Grid
from .kernels import noise as noise_kernels
from .kernels import synthetic as kernels
from .lazy import label
from .overlap import OverlapBlock, map_overlap

#: World units, nanometres, per unit of length of the geometry.
UNIT = 8.0
#: Context, in voxels, of the image.
_IMAGE_DEPTH = 5


def neuropil(
    shape: Sequence[int],
    *,
    voxel_size: Sequence[float] = (8, 8, 8),
    offset: Sequence[float] = (0, 0, 0),
    chunks: int | Sequence[int] = 128,
    seed: int = 0,
    somata: bool = True,
    blur: float = 1.0,
    noise: float = 0.2,
    leaks: float = 0.03,
    breaks: float = 0.01,
) -> xr.Dataset:
    """Synthetic neuropil: branching, touching neurites with an EM-like image and affinities.

    Parameters
    ----------
    shape : (3,) sequence of int
        Number of voxels, z, y, x.
    voxel_size : (3,) sequence of float
        In nanometres. Neurites have the sizes of real ones, whatever the voxel size: most are 50 to 250 nm thick,
        dendrites 200 to 500 nm.
    offset : (3,) sequence of float
        World position of the lower corner, a multiple of the voxel size: the volume is a window on endless tissue.
    chunks : int or (3,) sequence of int
        Chunk shape of the arrays. Values do not depend on it.
    seed : int
        Of all randomness.
    somata : bool
        Whether there are cell bodies; about one every 9 micrometres, none near the origin.
    blur, noise, leaks, breaks
        Of the affinities, see `degrade_affinities`.

    Returns
    -------
    xarray.Dataset
        Lazy, two tasks a chunk:

        ``labels`` : (z, y, x) uint64
            Ids below 2**53; every voxel belongs to a neurite.
        ``raw`` : (z, y, x) uint8
            Dark membranes, textured cytoplasm, mitochondria, noise.
        ``affinities`` : (channel, z, y, x) uint8
            To the neighbours before each voxel along z, y and x, 255 for the same neurite.

    Raises
    ------
    ValueError
        If `shape`, `voxel_size`, `offset` or `chunks` do not have three numbers, if `offset` does not lie on the
        voxel grid, or if a parameter of the affinities is out of range.

    Notes
    -----
    Nearly all of a neurite hangs together within the volume's surroundings; where one leaves the volume and enters it
    again its parts have one id, as in any crop of real data.

    Examples
    --------
    >>> volume = neuropil((256, 256, 256), chunks=64)
    >>> volume.labels.dtype, volume.affinities.shape
    (dtype('uint64'), (3, 256, 256, 256))
    >>> corner = volume.isel(z=slice(0, 16), y=slice(0, 16), x=slice(0, 16)).compute()
    """
    for name, value in (("shape", shape), ("voxel_size", voxel_size), ("offset", offset)):
        if len(value) != 3:
            raise ValueError(f"{name}: expected three numbers (z, y, x), found {tuple(value)}")
    grid = Grid(("z", "y", "x"), tuple(shape), tuple(voxel_size), tuple(offset), "nanometer")
    tissue = _Tissue(int(seed), grid.voxel_size, somata)
    degradation = Degradation(blur, noise, leaks, breaks, int(seed))
    depth = max(_IMAGE_DEPTH, degradation.depth)

    axes = _voxel_indices(grid, chunks)
    haloed = _blockwise("zyx", axes, _HaloedLabels(tissue, depth), np.uint64, grow=depth)
    labels = _blockwise("zyx", axes, _core, np.uint64, haloed, depth)
    raw = _blockwise("zyx", axes, _Image(tissue, depth), np.uint8, haloed, depth)
    affinities = _blockwise("czyx", axes, _Affinities(degradation, depth), np.uint8, haloed, depth)
    arrays = {"labels": labels, "raw": raw, "affinities": affinities}
    return xr.Dataset(
        {name: label(array, grid) for name, array in arrays.items()},
        attrs={"voxel_size": grid.voxel_size, "units": grid.units},
    )


def degrade_affinities(
    labels: Any,
    *,
    blur: float = 1.0,
    noise: float = 0.2,
    leaks: float = 0.03,
    breaks: float = 0.01,
    seed: int = 0,
) -> Any:
    """Affinities of labels as a network might predict them: blurred, noisy, with leaks and false boundaries.

    Parameters
    ----------
    labels : (z, y, x) array of int
        Object ids; 0 is background. NumPy array, dask array or DataArray.
    blur : float
        Standard deviation, in voxels, of the Gaussian over the boundaries.
    noise : float
        Standard deviation of the noise, where 1 is the contrast between boundary and inside. Two fifths of its power
        are white, the rest is smooth over three voxels and shared by the channels.
    leaks : float
        Share of the boundaries that vanish, in patches of about eight voxels; 0 to 1.
    breaks : float
        Share of the space with boundaries that are none, in blobs of about six voxels; 0 to 1.
    seed : int
        Of all randomness.

    Returns
    -------
    (3, z, y, x) array of uint8
        Of the same kind as `labels`. Affinities to the neighbours before each voxel along z, y and x.

    Raises
    ------
    TypeError
        If labels are not integers.
    ValueError
        If labels are not three-dimensional or a parameter is out of range.

    Examples
    --------
    >>> labels = np.repeat([1, 2], 8 * 16 * 16).reshape(16, 16, 16)
    >>> affs = degrade_affinities(labels, noise=0.1, leaks=0, breaks=0)
    >>> affs[0, 8].mean() < 50, affs[0, 4].mean() > 200
    (np.True_, np.True_)
    """
    degradation = Degradation(blur, noise, leaks, breaks, int(seed))
    if np.dtype(labels.dtype).kind not in "iu":
        raise TypeError(f"labels: found dtype {labels.dtype}, expected integers")
    if labels.ndim != 3:
        raise ValueError(f"labels: found shape {labels.shape}, expected (z, y, x)")
    return map_overlap(degradation, labels, degradation.depth, dtype=np.uint8, channels=3)


@dataclass(frozen=True)
class Degradation:
    """What happens to affinities on their way through an imperfect network; see `degrade_affinities`."""

    blur: float
    noise: float
    leaks: float
    breaks: float
    seed: int

    def __post_init__(self) -> None:
        for name in ("blur", "noise"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}: expected a number from 0 on, found {getattr(self, name)}")
        for name in ("leaks", "breaks"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: expected a share from 0 to 1, found {getattr(self, name)}")

    @property
    def depth(self) -> int:
        """Context in voxels: the reach of the blur, and the neighbour before."""
        return _radius(self.blur) + 1

    def __call__(self, labels: np.ndarray, block: OverlapBlock) -> np.ndarray:
        """Affinities (3, z, y, x) of the core of a block of labels."""
        field = self._boundaries(labels, block.core)
        shape = field.shape[1:]
        weaken = np.float32(1) - _patches(self._key(0), block.origin, shape, 8.0, self.leaks)
        pretend = np.float32(0.9) * _patches(self._key(1), block.origin, shape, 6.0, self.breaks)
        shared = np.float32(np.sqrt(0.6) * self.noise) * _smooth(self._key(2), block.origin, shape, 3.0)
        out = np.empty(field.shape, np.uint8)
        for d in range(3):
            own = np.float32(np.sqrt(0.4) * self.noise) * _white(self._key(3 + d), block.origin, shape)
            signal = np.float32(5) * (np.float32(0.5) - field[d] * weaken - pretend + shared + own)
            # A sigmoid of nothing but correctly rounded operations: its bits depend on no vector library.
            squashed = signal / np.sqrt(np.float32(1) + signal * signal)
            out[d] = np.float32(127.5) * squashed + np.float32(128)
        return out

    def _boundaries(self, labels: np.ndarray, core: tuple[slice, ...]) -> np.ndarray:
        """How much of a boundary is seen at each voxel of the core, per channel: 1 on a flat boundary, 0 inside."""
        steps = [_steps(labels, axis) for axis in range(3)]
        anywhere = _blurred(np.maximum.reduce(steps), self.blur)[core]
        # Most of what a network sees of a boundary is in the channel across it, some in all.
        return np.stack(
            [
                np.float32(0.7) * _blurred(step, self.blur)[core] + np.float32(0.35) * anywhere
                for step in steps
            ]
        )

    def _key(self, purpose: int) -> np.uint64:
        return _key(self.seed, 100 + purpose)


@dataclass(frozen=True)
class _Tissue:
    """Endless neuropil on a grid of voxels."""

    seed: int
    voxel_size: tuple[float, ...]
    somata: bool

    def labels(self, origin: Sequence[int], shape: Sequence[int]) -> np.ndarray:
        """Ids (z, y, x) of a region that begins at voxel `origin`."""
        axes = self.positions(origin, shape)
        warp = np.zeros((3, *shape), np.float32)
        for axis in range(3):
            for spacing, amplitude in ((96.0, 24.0), (28.0, 4.0)):
                key = _key(self.seed, 10 * axis + int(spacing))
                warp[axis] += np.float32(amplitude) * _smooth_at(key, axes, spacing)
        balls, ids = self._somata_near(axes, warp)
        out = np.empty(shape, np.uint64)
        kernels.neurites(np.uint64(self.seed), *axes, warp, balls, ids, out)
        return out

    def positions(self, origin: Sequence[int], shape: Sequence[int]) -> list[np.ndarray]:
        """Positions of voxel centres along each axis, in units of the geometry."""
        return [
            (np.arange(o, o + n) + 0.5) * (v / UNIT)
            for o, n, v in zip(origin, shape, self.voxel_size, strict=True)
        ]

    def _somata_near(self, axes: list[np.ndarray], warp: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Balls (n, 4) and ids of the somata that reach into a region."""
        spacing = kernels.SOMA_CELLS * kernels.WIDE
        low = [axis[0] + shift.min() for axis, shift in zip(axes, warp, strict=True)]
        high = [axis[-1] + shift.max() for axis, shift in zip(axes, warp, strict=True)]
        first = np.floor(np.divide(low, spacing) - 1).astype(int)
        count = np.floor(np.divide(high, spacing) + 1).astype(int) - first + 1
        balls, ids = [], []
        for cell in np.ndindex(*count if self.somata else (0, 0, 0)):
            ball = np.empty(4)
            soma = kernels.soma_of(np.uint64(self.seed), *(first + cell).tolist(), ball)
            reach = kernels.SOMA_REACH * ball[3]
            if soma and np.all(ball[:3] + reach > low) and np.all(ball[:3] - reach < high):
                balls.append(ball)
                ids.append(soma)
        return np.array(balls).reshape(-1, 4), np.array(ids, np.uint64)


@dataclass(frozen=True)
class _HaloedLabels:
    tissue: _Tissue
    depth: int

    def __call__(self, *axes: np.ndarray) -> np.ndarray:
        origin = [axis[0] - self.depth for axis in axes]
        return self.tissue.labels(origin, [axis.size + 2 * self.depth for axis in axes])


@dataclass(frozen=True)
class _Image:
    """An EM-like image of labels."""

    tissue: _Tissue
    depth: int

    def __call__(
        self, z: np.ndarray, y: np.ndarray, x: np.ndarray, labels: np.ndarray, depth: int
    ) -> np.ndarray:
        core = (slice(depth, -depth),) * 3
        origin, shape = (z[0], y[0], x[0]), (z.size, y.size, x.size)
        axes = self.tissue.positions(origin, shape)
        seed = self.tissue.seed
        seen = _membranes(labels)
        membrane = ndimage.gaussian_filter(seen, 0.8, radius=2)[core]
        interior = 1 - np.minimum(6 * ndimage.uniform_filter(seen, 2 * _IMAGE_DEPTH - 1)[core], 1)
        body = np.clip(4 * (_smooth_at(_key(seed, 200), axes, 18.0) - np.float32(1.1)), 0, 1) * interior
        texture = _smooth_at(_key(seed, 201), axes, 2.5)
        grain = _white(_key(seed, 202), origin, shape)
        tone = _tones(labels[core])
        value = np.float32(172) + tone + np.float32(8) * texture + np.float32(9) * grain
        value -= np.float32(62) * body * (1 + np.float32(0.2) * texture) + np.float32(115) * membrane
        return np.clip(value, 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class _Affinities:
    degradation: Degradation
    depth: int

    def __call__(
        self, z: np.ndarray, y: np.ndarray, x: np.ndarray, labels: np.ndarray, depth: int
    ) -> np.ndarray:
        block = OverlapBlock((slice(depth, -depth),) * 3, (int(z[0]), int(y[0]), int(x[0])), labels.shape)
        return self.degradation(labels, block)


def _core(z: np.ndarray, y: np.ndarray, x: np.ndarray, labels: np.ndarray, depth: int) -> np.ndarray:
    return labels[(slice(depth, -depth),) * 3]


def _voxel_indices(grid: Grid, chunks: int | Sequence[int]) -> list[da.Array]:
    """Indices of the voxels along each axis, counted from world position 0."""
    sizes = (chunks,) * 3 if isinstance(chunks, int) else tuple(chunks)
    if len(sizes) != 3:
        raise ValueError(f"chunks: expected one or three numbers (z, y, x), found {sizes}")
    axes = []
    for n, v, o, size in zip(grid.shape, grid.voxel_size, grid.offset, sizes, strict=True):
        first = round(o / v)
        if abs(first * v - o) > 1e-3 * v:
            raise ValueError(f"offset: {grid.offset} does not lie on the grid of voxels of {grid.voxel_size}")
        axes.append(da.arange(first, first + n, chunks=size, dtype=np.int64))
    return axes


def _blockwise(
    out: str,
    axes: list[da.Array],
    function: Any,
    dtype: Any,
    haloed: da.Array | None = None,
    depth: int = 0,
    *,
    grow: int = 0,
) -> da.Array:
    """One task a chunk: `function` of the voxel indices of its three axes and, where given, its haloed labels."""
    arguments: list[Any] = [item for axis, name in zip(axes, "zyx", strict=True) for item in (axis, name)]
    if haloed is not None:
        arguments += [haloed, "zyx", depth, None]
    return da.blockwise(
        function,
        out,
        *arguments,
        dtype=dtype,
        meta=np.empty((0,) * len(out), dtype),
        new_axes={"c": 3} if "c" in out else None,
        adjust_chunks={name: (lambda n: n + 2 * grow) for name in "zyx"} if grow else None,
        align_arrays=False,
    )


def _steps(labels: np.ndarray, axis: int) -> np.ndarray:
    """1 where a voxel and the one before it along an axis are not of one object, else 0; the first has none before."""
    here = labels[(slice(None),) * axis + (slice(1, None),)]
    before = labels[(slice(None),) * axis + (slice(None, -1),)]
    out = (labels == 0).astype(np.float32)
    out[(slice(None),) * axis + (slice(1, None),)] = (here != before) | (here == 0)
    return out


def _membranes(labels: np.ndarray) -> np.ndarray:
    """1 on both sides of every boundary, else 0."""
    out = np.zeros(labels.shape, np.float32)
    for axis in range(3):
        upper = (slice(None),) * axis + (slice(1, None),)
        lower = (slice(None),) * axis + (slice(None, -1),)
        differ = labels[upper] != labels[lower]
        out[upper][differ] = 1
        out[lower][differ] = 1
    return out


def _tones(labels: np.ndarray) -> np.ndarray:
    """A shade of grey for each neurite, from -8 to 8."""
    return (labels % np.uint64(251)).astype(np.float32) * np.float32(16 / 250) - np.float32(8)


def _radius(sigma: float) -> int:
    return int(3 * sigma + 0.5)


def _blurred(field: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian of a field, scaled so that a sheet one voxel thick stays 1 in its middle."""
    radius = _radius(sigma)
    if radius == 0:
        return field
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    blurred = ndimage.gaussian_filter(field, sigma, radius=radius, mode="nearest")
    return blurred * np.float32(weights.sum())


def _patches(
    key: np.uint64, origin: Sequence[int], shape: Sequence[int], spacing: float, share: float
) -> np.ndarray:
    """Random patches that fill about a share of space: 1 inside, 0 outside, with soft rims."""
    if share == 0:
        return np.zeros(shape, np.float32)
    if share == 1:
        return np.ones(shape, np.float32)
    threshold = np.float32(NormalDist().inv_cdf(1 - share))
    return np.clip((_smooth(key, origin, shape, spacing) - threshold) * np.float32(4) + np.float32(0.5), 0, 1)


def _smooth(key: np.uint64, origin: Sequence[int], shape: Sequence[int], spacing: float) -> np.ndarray:
    """Smooth noise over voxels, of variance about 1."""
    return _smooth_at(key, [np.arange(o, o + n) + 0.5 for o, n in zip(origin, shape, strict=True)], spacing)


def _smooth_at(key: np.uint64, axes: Sequence[np.ndarray], spacing: float) -> np.ndarray:
    """Smooth noise at the positions `axes`, of variance about 1."""
    out = np.empty([axis.size for axis in axes], np.float32)
    noise_kernels.smooth_noise(key, *(axis / spacing for axis in axes), out)
    return out


def _white(key: np.uint64, origin: Sequence[int], shape: Sequence[int]) -> np.ndarray:
    """White noise over voxels, of variance 1."""
    out = np.empty(shape, np.float32)
    noise_kernels.white_noise(key, np.array(origin, np.int64), out)
    return out


def _key(seed: int, purpose: int) -> np.uint64:
    """A key of its own for every use of the seed."""
    return np.uint64(np.random.SeedSequence([seed, purpose]).generate_state(1, np.uint64)[0])
