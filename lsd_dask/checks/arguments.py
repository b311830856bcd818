"""What functions check of what they are given: its name, what was found and what was expected, in one style.

What an array's type, shape and axes tell is checked when a function is called, also for lazy arrays; what
only its voxels tell is checked where they are read.
"""

import operator
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import xarray as xr


@contextmanager
def naming(*paths: str) -> Iterator[None]:
    """Begin the message of an error by the paths of what it is about, unless it names the first already.

    Examples
    --------
    >>> with naming("affs.zarr"):
    ...     raise ValueError("found 2 channels, expected 3")
    Traceback (most recent call last):
    ValueError: affs.zarr: found 2 channels, expected 3
    """
    try:
        yield
    except (TypeError, ValueError) as error:
        if paths[0] in str(error):
            raise
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{', '.join(paths)}: {error}") from error


def check_array(array: Any, name: str) -> None:
    """Raise TypeError for what is no array, ValueError for one of a shape that is not known yet.

    Parameters
    ----------
    array
        NumPy array, dask array, DataArray, or anything else with a dtype and a shape, as stored arrays have.
    name
        What the message calls it.

    Examples
    --------
    >>> check_array([[1, 2], [3, 4]], "labels")
    Traceback (most recent call last):
    TypeError: labels: found a list, expected a NumPy array, dask array or DataArray
    """
    # A Delayed pretends to have any attribute, hence the look at what the attributes are.
    if not isinstance(getattr(array, "dtype", None), np.dtype) or not isinstance(array.shape, tuple):
        raise TypeError(f"{name}: found {described(array)}, expected a NumPy array, dask array or DataArray")
    if any(n != n for n in array.shape):
        raise ValueError(
            f"{name}: found a dask array of shape {array.shape}, which is not known yet; call its "
            "compute_chunk_sizes first"
        )


def check_axes(volume: Any, name: str, *, channel: bool, empty: bool = False) -> None:
    """Raise ValueError unless an array can be a volume: ``[channel,] z, y, x`` or ``[channel,] y, x``.

    Parameters
    ----------
    volume
        Something that `check_array` accepts.
    name
        What the message calls it.
    channel
        Whether the first axis is to be channels.
    empty
        Whether it may hold no voxel, as a crop to a box outside of a volume does.

    Examples
    --------
    >>> check_axes(np.zeros(4), "labels", channel=False)
    Traceback (most recent call last):
    ValueError: labels: found shape (4,), 1 axes, expected z, y, x or y, x
    """
    lead = ("channel",) * channel
    allowed = [(*lead, "z", "y", "x"), (*lead, "y", "x")]
    expected = " or ".join(", ".join(dims) for dims in allowed)
    if volume.ndim not in map(len, allowed):
        axes = f"{volume.ndim} axes"
        raise ValueError(f"{name}: found shape {tuple(volume.shape)}, {axes}, expected {expected}")
    if isinstance(volume, xr.DataArray) and volume.dims not in allowed:
        found = ", ".join(map(str, volume.dims))
        raise ValueError(f"{name} {volume.name!r}: found the axes {found}, expected {expected}")
    if 0 in volume.shape and not empty:
        raise ValueError(
            f"{name}: found shape {tuple(volume.shape)}, expected at least one voxel; was the volume cropped "
            "to a box outside of it?"
        )


def whole_number(name: str, value: Any, least: int) -> int:
    """An option as an int; TypeError for no whole number, ValueError for one that is too small.

    Examples
    --------
    >>> whole_number("level", 1.5, least=0)
    Traceback (most recent call last):
    TypeError: level: found 1.5, expected a whole number from 0 on
    """
    expected = f"expected a whole number from {least} on"
    try:
        if isinstance(value, bool | np.bool_):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}: found {shown(value)}, {expected}") from None
    if number < least:
        raise ValueError(f"{name}: found {number}, {expected}")
    return number


def whole_numbers(name: str, values: Any, least: int) -> tuple[int, ...]:
    """A sequence of whole numbers; errors as of `whole_number`."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise TypeError(f"{name}: found {shown(values)}, expected a sequence of whole numbers")
    return tuple(whole_number(name, value, least) for value in values)


def real_number(name: str, value: Any, low: float, high: float, *, meaning: str = "") -> float:
    """An option as a float; TypeError for no number, ValueError for one out of range.

    Parameters
    ----------
    name, value
        Of the option.
    low, high
        The ends of the range, which belong to it.
    meaning
        What the range is, for the message.

    Examples
    --------
    >>> real_number("threshold", float("nan"), 0, 1)
    Traceback (most recent call last):
    ValueError: threshold is nan, expected 0 to 1
    """
    expected = f"expected {meaning or f'{low:g} to {high:g}'}"
    if isinstance(value, str | complex | bool | np.bool_) or np.ndim(value):
        raise TypeError(f"{name} is {shown(value)}, {expected}")
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} is {shown(value)}, {expected}") from None
    if not low <= number <= high:
        raise ValueError(f"{name} is {value}, {expected}")
    return number


def real_numbers(name: str, values: Any) -> tuple[float, ...]:
    """Numbers, one an axis, as files and users give them; ValueError for anything else.

    Examples
    --------
    >>> real_numbers("voxel_size", 4)
    Traceback (most recent call last):
    ValueError: voxel_size: found 4, expected a number for each spatial axis
    """
    try:
        if isinstance(values, str | bytes):
            raise TypeError
        values = tuple(values)
        if any(isinstance(value, bool | np.bool_) for value in values):
            raise TypeError
        return tuple(float(value) for value in values)
    except (TypeError, ValueError):
        raise ValueError(f"{name}: found {shown(values)}, expected a number for each spatial axis") from None


def described(value: Any) -> str:
    """What kind of thing a value is, for messages.

    Examples
    --------
    >>> described({}), described("em.zarr"), described(None)
    ('a dict', "the text 'em.zarr'", 'None')
    """
    if value is None:
        return "None"
    return f"the text {shown(value)}" if isinstance(value, str) else f"a {type(value).__name__}"


def shown(value: Any) -> str:
    """A value for messages, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
