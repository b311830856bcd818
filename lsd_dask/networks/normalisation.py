"""How raw data is scaled for networks: the same for training and prediction."""

import numpy as np

from ..checks.arguments import check_array
from ..volumes.voxel_values import check_raw_values, full_scale


def normalise(raw: np.ndarray, raw_range: tuple[float, float] = (0.0, 1.0)) -> np.ndarray:
    """Scale raw data so that `raw_range` becomes -1 to 1.

    Parameters
    ----------
    raw : ndarray of uint8, uint16, or float from 0 to 1
        Any shape.
    raw_range : tuple of float, optional
        As fractions of the largest value of the dtype; by default all that it can hold, as gunpowder's
        `Normalize` and ``IntensityScaleShift(raw, 2, -1)`` do it.

    Returns
    -------
    ndarray of float32

    Raises
    ------
    TypeError
        If the dtype is another one.
    ValueError
        If floating point is not finite, or far below 0 or above 1.

    Examples
    --------
    >>> normalise(np.array([0, 51, 255], np.uint8)).round(3)
    array([-1. , -0.6,  1. ], dtype=float32)
    """
    check_array(raw, "raw")
    largest = full_scale(raw.dtype)
    check_raw_values(raw, "raw")
    low, high = (float(end) * largest for end in raw_range)
    scaled = raw.astype(np.float32)
    scaled -= np.float32(low)
    scaled *= np.float32(2 / (high - low))
    scaled -= np.float32(1)
    return scaled
