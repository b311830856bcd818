"""Noise that belongs to places: the same for a voxel in whichever block it is computed."""

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from ..kernels.synthetic import noise as kernels


def key_of(seed: int, purpose: int) -> np.uint64:
    """A key for random numbers, one for each use of a seed.

    Parameters
    ----------
    seed, purpose : int
        Not negative.
    """
    return np.uint64(np.random.SeedSequence([seed, purpose]).generate_state(1, np.uint64)[0])


def white_noise(key: np.uint64, origin: Sequence[int], shape: Sequence[int]) -> np.ndarray:
    """Independent noise of mean 0 and variance 1 for each voxel.

    Parameters
    ----------
    key : uint64
    origin : (3,) sequence of int
        Index of the first voxel, z, y, x.
    shape : (3,) sequence of int

    Returns
    -------
    (z, y, x) ndarray of float32
        Nearly normal: within -3.5 and 3.5.
    """
    out = np.empty(shape, np.float32)
    kernels.white_noise(key, np.array(origin, np.int64), out)
    return out


def smooth_noise(key: np.uint64, axes: Sequence[np.ndarray], spacing: float) -> np.ndarray:
    """Smooth noise of mean 0 and variance about 1, nearly normal.

    Parameters
    ----------
    key : uint64
    axes : sequence of three (n,) ndarray of float
        Positions along z, y and x, ascending.
    spacing : float
        Of the control points, in units of the positions: about half a wavelength.

    Returns
    -------
    (z, y, x) ndarray of float32
    """
    out = np.empty([axis.size for axis in axes], np.float32)
    z, y, x = (axis / spacing for axis in axes)
    kernels.smooth_noise(key, z, y, x, out)
    return out


def patches(key: np.uint64, axes: Sequence[np.ndarray], spacing: float, share: float) -> np.ndarray:
    """Random patches that fill about a share of space.

    Parameters
    ----------
    key, axes, spacing
        As for `smooth_noise`; patches are about as wide as the spacing.
    share : float
        From 0 to 1.

    Returns
    -------
    (z, y, x) ndarray of float32
        1 inside, 0 outside, in between on the patches' soft rims.
    """
    shape = [axis.size for axis in axes]
    if share in (0, 1):
        return np.full(shape, share, np.float32)
    threshold = np.float32(NormalDist().inv_cdf(1 - share))
    depth = smooth_noise(key, axes, spacing) - threshold
    return np.clip(np.float32(4) * depth + np.float32(0.5), 0, 1)
