"""Affinities as unsigned integers, so that sums are exact in any order.

uint8 affinities are taken as they are, 255 for 1. Floating-point ones become uint16, ``floor(65536 a)``
capped at 65535, so that their upper eight bits are waterz' histogram bin, ``min(int(256 a), 255)``.
"""

from typing import Any, NamedTuple

import numpy as np

from ..volumes.voxel_values import check_affinity_range


class Quantisation(NamedTuple):
    """How integers stand for affinities.

    Attributes
    ----------
    dtype
        Of the integers.
    scale
        The integer that stands for 1.
    shift
        ``value >> shift`` is the histogram bin.
    """

    dtype: np.dtype
    scale: int
    shift: int


def quantisation_of(dtype: Any) -> Quantisation:
    """The quantisation of affinities stored as `dtype`.

    Parameters
    ----------
    dtype
        uint8 or a floating-point type.

    Raises
    ------
    TypeError
        For a type that is neither uint8 nor floating point.

    Examples
    --------
    >>> quantisation_of("uint8").scale, quantisation_of("float32").scale
    (255, 65535)
    """
    dtype = np.dtype(dtype)
    if dtype == np.uint8:
        return Quantisation(dtype, 255, 0)
    if dtype.kind == "f":
        return Quantisation(np.dtype(np.uint16), 65535, 8)
    raise TypeError(
        f"Affinities are stored as {dtype}, expected uint8 (0 ... 255) or floating point (0 ... 1). "
        "Is this a volume of labels or of raw data?"
    )


def quantise(affinities: np.ndarray) -> np.ndarray:
    """Affinities as C-contiguous unsigned integers; uint8 is not copied.

    Beside its result it needs little more than a section, the last two axes, at a time.

    Parameters
    ----------
    affinities
        uint8, or floating point in [0, 1], of any shape; what lies beyond by a rounding error is taken for 0
        or 1.

    Returns
    -------
    integers
        uint8 or uint16, of the same shape.

    Raises
    ------
    TypeError
        For a type that is neither uint8 nor floating point.
    ValueError
        For values that are NaN or not in [0, 1].

    Examples
    --------
    >>> quantise(np.array([0.0, 0.5, 1.0], dtype=np.float32))
    array([    0, 32768, 65535], dtype=uint16)
    """
    if quantisation_of(affinities.dtype).shift == 0:
        return np.ascontiguousarray(affinities)
    check_affinity_range(affinities)
    integers = np.empty(affinities.shape, np.uint16)
    # float16 ends at 65504.
    scaling = np.result_type(affinities.dtype, np.float32)
    for section in np.ndindex(affinities.shape[:-2]):
        integers[section] = np.clip(np.multiply(affinities[section], 65536, dtype=scaling), 0, 65535)
    return integers
