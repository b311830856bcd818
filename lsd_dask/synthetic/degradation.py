"""Affinities as an imperfect network would predict them, from the labels they should have shown."""

from dataclasses import dataclass

import numpy as np
import xarray as xr
from scipy import ndimage

from ..space.neighborhoods import default_neighborhood, noted
from ..volumes.dask_arrays import V
from ..volumes.overlap import OverlapBlock, map_overlap
from ..volumes.voxel_values import as_unsigned, check_labels
from .noise import key_of, patches, smooth_noise, white_noise


def degrade_affinities(
    labels: V,
    *,
    blur: float = 1.0,
    noise: float = 0.2,
    leaks: float = 0.03,
    breaks: float = 0.01,
    seed: int = 0,
) -> V:
    """Affinities of labels as a network might predict them: blurred, noisy, with leaks and false boundaries.

    Parameters
    ----------
    labels : (z, y, x) array of int
        Object ids; 0 is background. NumPy array, dask array or DataArray.
    blur : float
        Standard deviation, in voxels, of the Gaussian over the boundaries.
    noise : float
        Standard deviation of the noise, where 1 is the contrast between boundary and inside. Two fifths of
        its power are white, the rest is smooth over three voxels and shared by the channels.
    leaks : float
        Share of the boundaries that vanish, in patches of about eight voxels; 0 to 1.
    breaks : float
        Share of space with boundaries where there are none, in blobs of about six voxels; 0 to 1.
    seed : int
        Of all randomness.

    Returns
    -------
    (3, z, y, x) array of uint8
        Of the same kind as `labels`, and the same under any chunking. Affinities to the neighbours before
        each voxel along z, y and x: 255 for the same object. A DataArray has that as its neighborhood.

    Raises
    ------
    TypeError
        If labels are not integers.
    ValueError
        If labels are not three-dimensional or negative, or a parameter is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> labels = np.repeat([1, 2], 8 * 16 * 16).reshape(16, 16, 16)
    >>> affs = degrade_affinities(labels, noise=0.1, leaks=0, breaks=0)
    >>> bool(affs[0, 8].mean() < 30), bool(affs[0, 4].mean() > 225)
    (True, True)
    """
    degradation = Degradation(blur, noise, leaks, breaks, seed)
    check_labels(labels, "labels")
    if labels.ndim != 3:
        raise ValueError(f"labels: found shape {labels.shape}, expected (z, y, x)")
    found = map_overlap(degradation, labels, degradation.depth, dtype=np.uint8, channels=3)
    return noted(found, default_neighborhood(3)) if isinstance(found, xr.DataArray) else found


@dataclass(frozen=True)
class Degradation:
    """What happens to affinities in an imperfect network; see `degrade_affinities`."""

    blur: float
    noise: float
    leaks: float
    breaks: float
    seed: int

    def __post_init__(self) -> None:
        for name in ("blur", "noise", "seed"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}: found {getattr(self, name)}, expected a number from 0 on")
        for name in ("leaks", "breaks"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: found {getattr(self, name)}, expected a share from 0 to 1")

    @property
    def depth(self) -> int:
        """Context in voxels: the reach of the blur, and the neighbour before."""
        return _radius(self.blur) + 1

    def __call__(self, labels: np.ndarray, block: OverlapBlock) -> np.ndarray:
        """Affinities (3, z, y, x) of the core of a block of labels."""
        boundaries = self._boundaries(as_unsigned(labels, "labels"), block.core)
        shape = boundaries.shape[1:]
        axes = [np.arange(start, start + n) + 0.5 for start, n in zip(block.origin, shape, strict=True)]
        tight = 1 - patches(self._key(0), axes, 8, self.leaks)
        false = np.float32(0.9) * patches(self._key(1), axes, 6, self.breaks)
        shared = np.float32(0.6**0.5 * self.noise) * smooth_noise(self._key(2), axes, 3)
        out = np.empty(boundaries.shape, np.uint8)
        for channel, boundary in enumerate(boundaries):
            own = white_noise(self._key(3 + channel), block.origin, shape)
            seen = boundary * tight + false + shared + np.float32(0.4**0.5 * self.noise) * own
            out[channel] = _affinity(seen)
        return out

    def _boundaries(self, labels: np.ndarray, core: tuple[slice, ...]) -> np.ndarray:
        """How much of a boundary each voxel of the core shows, by channel: 1.05 on a flat one, 0 inside."""
        steps = [_steps(labels, axis) for axis in range(3)]
        anywhere = _blurred(np.maximum.reduce(steps), self.blur)[core]
        # Most of what a network sees of a boundary is in the channel across it, some in all of them.
        return np.stack(
            [
                np.float32(0.7) * _blurred(step, self.blur)[core] + np.float32(0.35) * anywhere
                for step in steps
            ]
        )

    def _key(self, purpose: int) -> np.uint64:
        return key_of(self.seed, 100 + purpose)


def _steps(labels: np.ndarray, axis: int) -> np.ndarray:
    """1 where a voxel and the one before it along an axis are not of one object, else 0.

    The first voxel has none before it, and counts as inside its object.
    """
    here, before = (slice(None),) * axis + (slice(1, None),), (slice(None),) * axis + (slice(None, -1),)
    out = (labels == 0).astype(np.float32)
    out[here] = (labels[here] != labels[before]) | (labels[here] == 0)
    return out


def _blurred(steps: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian of steps, scaled so that in the middle of a flat boundary they stay 1."""
    radius = _radius(sigma)
    if radius == 0:
        return steps
    peak = 1 / np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2).sum()
    return ndimage.gaussian_filter(steps, sigma, radius=radius, mode="nearest") * np.float32(1 / peak)


def _radius(sigma: float) -> int:
    return int(3 * sigma + 0.5)


def _affinity(boundary: np.ndarray) -> np.ndarray:
    """Affinity, 0 to 255, where so much of a boundary is seen: 245 for 0, 128 for 0.5, 10 for 1."""
    logit = np.float32(5) * (np.float32(0.5) - boundary)
    # A sigmoid of nothing but correctly rounded operations: its bits depend on no vector library.
    squashed = logit / np.sqrt(np.float32(1) + logit * logit)
    return (np.float32(127.5) * squashed + np.float32(128)).astype(np.uint8)
