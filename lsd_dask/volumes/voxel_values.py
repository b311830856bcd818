"""What the voxels of labels, raw data, affinities and masks can be: one definition of each.

========== =====================================================================================
labels     integers from 0 on, of any size; 0 is background
raw data   uint8 or uint16, of which the largest number is white; or floating point from 0 to 1
affinities uint8, where 255 stands for 1; or floating point from 0 to 1, but for rounding
masks      0 where nothing is to be, and any other number or truth value elsewhere; not NaN
========== =====================================================================================

What the type, shape and axes of an array tell is checked when a function is called, also for lazy arrays.
What only its voxels tell is checked wherever they are read; and of a stored volume, some places are looked at
before any work. What cannot be is refused. What can be, but hardly is meant, gets a word in the log.
"""

import itertools
import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checks.arguments import check_array, check_axes
from ..space.grids import Region

logger = logging.getLogger(__name__)

#: How far raw data may go beyond 0 to 1: what was interpolated goes a little beyond. Other scales, such as
#: -0.5 to 0.5, go farther.
OVERSHOOT = 0.1

#: Raw data are faint if the largest value is at most this fraction of white: 12 bits in 16, for one.
FAINT = 1 / 16

#: Stored volumes are looked at, before any work, in boxes of at most this many voxels a side.
SAMPLE = 32


def sample_regions(shape: Sequence[int]) -> Iterator[Region]:
    """Boxes in the middle of each half of each axis: few voxels, none of them at the volume's faces."""
    centres = [sorted({n // 4, 3 * n // 4}) for n in shape]
    for centre in itertools.product(*centres):
        yield tuple(
            slice(max(0, c - SAMPLE // 2), min(n, c + SAMPLE // 2))
            for c, n in zip(centre, shape, strict=True)
        )


# Labels


def check_labels(labels: Any, name: str, *, empty: bool = False) -> None:
    """Raise TypeError or ValueError unless an array can be labels: integers, ``z, y, x`` or ``y, x``.

    Parameters
    ----------
    labels
        Anything.
    name
        What the message calls it.
    empty
        Whether it may hold no voxel, as a crop to a box outside of a volume does.
    """
    check_array(labels, name)
    check_label_type(labels.dtype, name)
    check_axes(labels, name, channel=False, empty=empty)


def check_label_type(dtype: np.dtype, name: str) -> None:
    """Raise TypeError unless labels can be of a type."""
    if dtype.kind not in "iu":
        raise TypeError(f"{name}: found dtype {dtype}, expected integers")


def check_not_negative(labels: np.ndarray, name: str) -> None:
    """Raise ValueError for negative labels, which are no objects: many programs mean what is not labelled."""
    if labels.dtype.kind == "i" and (least := labels.min(initial=0)) < 0:
        raise ValueError(
            f"{name}: found the negative label {least}, expected labels from 0 on; set what is not labelled "
            "to 0"
        )


def as_ids(labels: np.ndarray, name: str) -> NDArray[np.uint64]:
    """Labels as uint64 that kernels are compiled for, which may be the same array.

    Raises
    ------
    TypeError, ValueError
        If they are not integers, or one is negative.

    Examples
    --------
    >>> as_ids(np.array([[-1, 7]]), "labels")
    Traceback (most recent call last):
    ValueError: labels: found the negative label -1, expected labels from 0 on; set what is not labelled to 0
    """
    check_label_type(labels.dtype, name)
    check_not_negative(labels, name)
    return np.require(labels, np.uint64, ["C_CONTIGUOUS", "WRITEABLE"])


def as_unsigned(labels: np.ndarray, name: str) -> NDArray[Any]:
    """Labels as unsigned integers of their own size: errors as of `as_ids`, and no copy for their type."""
    check_label_type(labels.dtype, name)
    check_not_negative(labels, name)
    native = np.ascontiguousarray(labels, labels.dtype.newbyteorder("="))
    return native.view(f"u{native.itemsize}")


# Raw data


def full_scale(dtype: np.dtype) -> float:
    """What stands for white in raw data of a type: 255 in uint8, 65535 in uint16, 1 in floating point.

    Raises
    ------
    TypeError
        For any other type.

    Examples
    --------
    >>> full_scale(np.dtype("uint16"))
    65535.0
    """
    if dtype.kind == "u" and dtype.itemsize <= 2:
        return float(np.iinfo(dtype).max)
    if dtype.kind == "f":
        return 1.0
    advice = "; save values from 0 to 255 as uint8, from 0 to 65535 as uint16" if dtype.kind in "iu" else ""
    raise TypeError(f"raw: found dtype {dtype}, expected uint8, uint16 or floating point from 0 to 1{advice}")


def check_raw_values(raw: np.ndarray, name: str) -> None:
    """Raise ValueError for floating-point raw data that are not from 0 to 1, or not finite.

    Examples
    --------
    >>> check_raw_values(np.array([0.0, 255.0]), "raw")
    Traceback (most recent call last):
    ValueError: raw: found values from 0 to 255, expected 0 to 1, or uint8 from 0 to 255
    """
    if raw.dtype.kind != "f" or not raw.size:
        return
    low, high = raw.min(), raw.max()
    if not (low >= -OVERSHOOT and high <= 1 + OVERSHOOT):
        raise ValueError(f"{name}: found {_range(low, high)}, expected 0 to 1, or uint8 from 0 to 255")


def say_if_faint(
    parts: Iterable[np.ndarray], dtype: np.dtype, name: str, raw_range: tuple[float, float] = (0.0, 1.0)
) -> None:
    """Log a word where raw data are nearly black, as are bytes that are stored in 16 bits.

    Parameters
    ----------
    parts
        All voxels, or some of them.
    dtype
        Of the raw data.
    name
        What the word calls them.
    raw_range
        What is black and white for the network, as fractions of the type's largest number.
    """
    white, low, high = full_scale(dtype), max(raw_range[0], 0.0), raw_range[1]
    largest = _largest(parts)
    if 0 < largest / white <= low + FAINT * (high - low):
        logger.warning(
            "%s: the largest value that was found is %s, where %s in %s is white: the network sees next to "
            "nothing. Is this raw data of fewer bits? Scale it, or save it in a type that it fills.",
            name,
            _number(largest),
            _number(white),
            dtype,
        )


# Affinities


def check_affinity_range(affinities: np.ndarray) -> None:
    """Raise ValueError for floating-point affinities that are not from 0 to 1, but for rounding.

    As means of a network's outputs may be, they may be beyond 0 and 1 by 16 units of rounding of their type,
    or of single precision, which is the coarser one of float64.

    Examples
    --------
    >>> check_affinity_range(np.array([0, 1.0000001], np.float32))
    >>> check_affinity_range(np.array([0, 1.00001], np.float32))
    Traceback (most recent call last):
    ValueError: Affinities hold values from 0 to 1.00001, expected values from 0 to 1 (or uint8, 0 to 255).
    """
    if affinities.dtype.kind != "f" or not affinities.size:
        return
    low, high = affinities.min(), affinities.max()
    beyond = 16 * max(float(np.finfo(affinities.dtype).eps), float(np.finfo(np.float32).eps))
    if not (low >= -beyond and high <= 1 + beyond):
        found = _range(low, high)
        raise ValueError(f"Affinities hold {found}, expected values from 0 to 1 (or uint8, 0 to 255).")


def say_if_zero_and_one(parts: Iterable[np.ndarray], dtype: np.dtype, name: str) -> None:
    """Log a word where uint8, in which 255 stands for 1, holds nothing but 0 and 1.

    Blocks without tissue look like that, too; so it is not refused, and what is of 0 alone gets no word.

    Parameters
    ----------
    parts
        All voxels, or some of them.
    dtype
        Of the affinities or descriptors.
    name
        What the word calls them.
    """
    if dtype == np.uint8 and _largest(parts) == 1:
        logger.warning(
            "%s: the largest value that was found is 1, where 255 in uint8 stands for 1: this is next to 0. "
            "Are these values 0 and 1? Multiply them by 255, or save them as float32.",
            name,
        )


# Masks


def check_mask_type(dtype: np.dtype, name: str) -> None:
    """Raise TypeError unless masks can be of a type."""
    if dtype.kind not in "biuf":
        raise TypeError(f"{name}: found dtype {dtype}, expected booleans or numbers")


def as_mask(values: np.ndarray, name: str) -> NDArray[np.bool_]:
    """Where a mask is not 0; ValueError for NaN, which is not 0 and says neither.

    Examples
    --------
    >>> as_mask(np.array([0, 1, 255], np.uint8), "mask")
    array([False,  True,  True])
    """
    check_mask_type(values.dtype, name)
    if values.dtype.kind == "f" and np.isnan(values).any():
        raise ValueError(f"{name}: found NaN, expected 0 where nothing is to be, else another number")
    return values.astype(bool)


def _largest(parts: Iterable[np.ndarray]) -> float:
    return max((float(part.max(initial=0)) for part in parts), default=0.0)


def _range(low: Any, high: Any) -> str:
    """What was found, with as many digits as it takes to see that it is beyond a limit."""
    return "NaN" if np.isnan(low) else f"values from {_number(low)} to {_number(high)}"


def _number(value: Any) -> str:
    short = f"{value:g}"
    return short if float(short) == value else str(value)
