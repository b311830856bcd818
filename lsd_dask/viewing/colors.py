"""Colours of labels: functions of the id alone, so that a label has the same one in every picture."""

from typing import Any

import numpy as np
import numpy.typing as npt

from ..checks.id_lists import ids_of


def label_colors(ids: npt.ArrayLike) -> npt.NDArray[np.uint8]:
    """Give every id a colour of its own, the same in every picture.

    Parameters
    ----------
    ids : array_like of int
        Labels, of any shape.

    Returns
    -------
    (..., 4) ndarray of uint8
        Red, green, blue and opacity of each label. Label 0 is black and transparent, all others are opaque.

    Raises
    ------
    TypeError
        If `ids` are not integers.
    ValueError
        If an id is negative.

    Notes
    -----
    The colour is a function of the id alone: its hash (the finaliser of SplitMix64 [1]_, in which every bit
    of the id matters) chooses hue, saturation and brightness. Neighbouring ids, such as those of fragments
    that touch, thus get unrelated colours.

    References
    ----------
    .. [1] G. L. Steele, D. Lea and C. H. Flood, "Fast splittable pseudorandom number generators",
       OOPSLA 2014. :doi:`10.1145/2660193.2660195`

    Examples
    --------
    >>> label_colors([0, 7, 7])[:, 3]
    array([  0, 255, 255], dtype=uint8)
    """
    labels = ids_of(ids, "labels")
    # Colours are computed once for each label: a section has many voxels and few labels.
    unique, inverse = np.unique(labels, return_inverse=True)
    return _colors_of(unique)[inverse].reshape(*labels.shape, 4)


def outlines(labels: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Find the border of labels: voxels whose next one along any axis has another label.

    Parameters
    ----------
    labels : (..., y, x) ndarray of int

    Returns
    -------
    ndarray of bool
        Of the same shape.

    Examples
    --------
    >>> outlines(np.array([[1, 1, 2, 2]]))
    array([[False,  True, False, False]])
    """
    found = np.zeros(labels.shape, bool)
    for axis in range(labels.ndim):
        before = (slice(None),) * axis + (slice(None, -1),)
        after = (slice(None),) * axis + (slice(1, None),)
        found[before] |= labels[before] != labels[after]
    return found


def _colors_of(ids: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint8]:
    """Hash ids to colours.

    >>> _colors_of(np.array([0, 1, 2], np.uint64))
    array([[  0,   0,   0,   0],
           [ 70, 182,  89, 255],
           [110, 185, 112, 255]], dtype=uint8)
    """
    bits = ids + np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    bits ^= bits >> np.uint64(31)
    hue, saturation, value = (
        ((bits >> np.uint64(shift)) & np.uint64(0xFFFF)) / 0xFFFF for shift in (0, 16, 32)
    )
    saturation = 0.35 + 0.5 * saturation
    value = 0.65 + 0.35 * value
    # HSV to RGB in closed form: each channel is a trapezoid over the circle of hues.
    phase = (np.array([5, 3, 1]) + 6 * hue[:, np.newaxis]) % 6
    dip = np.clip(np.minimum(phase, 4 - phase), 0, 1)
    rgb = value[:, np.newaxis] * (1 - saturation[:, np.newaxis] * dip)
    colors = np.empty((len(ids), 4), np.uint8)
    colors[:, :3] = np.rint(255 * rgb)
    colors[:, 3] = 255
    colors[ids == 0] = 0
    return colors
