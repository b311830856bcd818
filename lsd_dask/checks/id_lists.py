"""Ids as users, files and programs give them, exactly: never through floating point.

NumPy makes float64 of Python integers above 2**63 together with smaller ones, and of int64 together with
uint64; floats above 2**53 are then other ids.
"""

import operator
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .arguments import shown

#: The largest id.
LARGEST = 2**64 - 1


def ids_of(values: Any, name: str) -> NDArray[np.uint64]:
    """Ids as uint64.

    Parameters
    ----------
    values
        An array of any integer type, or an iterable of whole numbers of any kind: Python's and NumPy's,
        mixed as one likes; or one such number.
    name
        What messages call them.

    Returns
    -------
    ndarray of uint64
        Of the shape of an array; else ``(n,)``, or of the shape of nested lists.

    Raises
    ------
    TypeError
        For floats, also whole ones, truth values, text and anything else.
    ValueError
        For ids that are negative or larger than 2**64 - 1.

    Examples
    --------
    >>> ids_of([2**64 - 1, 5, np.int8(3)], "ignore_ids").tolist()
    [18446744073709551615, 5, 3]
    >>> ids_of([7.0], "ignore_ids")
    Traceback (most recent call last):
    TypeError: ignore_ids: found 7.0, expected whole numbers from 0 to 2**64 - 1
    """
    array = np.asarray(values) if hasattr(values, "__array__") else _as_objects(values, name)
    if array.dtype.kind == "O" or not array.size:
        return np.array([id_of(one, name) for one in array.ravel()], np.uint64).reshape(array.shape)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name}: found dtype {array.dtype}, expected integers")
    if array.dtype.kind == "i" and (least := array.min()) < 0:
        raise ValueError(f"{name}: found the negative id {least}, expected ids from 0 on")
    return array.astype(np.uint64, copy=False)


def id_of(value: Any, name: str) -> int:
    """One id as a Python integer; errors as of `ids_of`.

    Examples
    --------
    >>> id_of(-1, "fragment")
    Traceback (most recent call last):
    ValueError: fragment: found the negative id -1, expected ids from 0 on
    """
    number = index_of(value, name)
    if number < 0:
        raise ValueError(f"{name}: found the negative id {number}, expected ids from 0 on")
    if number > LARGEST:
        raise ValueError(f"{name}: found the id {number}, expected at most 2**64 - 1")
    return number


def index_of(value: Any, name: str) -> int:
    """A whole number of any kind and sign; TypeError for anything else, also for whole floats."""
    try:
        if isinstance(value, bool | np.bool_):
            raise TypeError
        return operator.index(value)
    except TypeError:
        expected = "expected whole numbers from 0 to 2**64 - 1"
        raise TypeError(f"{name}: found {shown(_plain(value))}, {expected}") from None


def whole_numbers_of(values: Sequence[int]) -> NDArray[Any]:
    """Python integers of any sign, exactly: int64, or uint64 where one is too large for that.

    Where neither holds all of them, they stay Python's: an array of objects.
    """
    low, high = min(values, default=0), max(values, default=0)
    if low >= -(2**63) and high < 2**63:
        return np.array(values, np.int64)
    return np.array(values, np.uint64 if low >= 0 and high <= LARGEST else object)


def comparable(*columns: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    """Integers in one type, in which all of them are themselves.

    Examples
    --------
    >>> comparable(np.array([7]), np.array([2**64 - 1], np.uint64))[0].dtype
    dtype('uint64')
    """
    if all(column.dtype != np.uint64 for column in columns) or len({column.dtype for column in columns}) == 1:
        return columns
    positive = all(column.dtype.kind == "u" or column.min(initial=0) >= 0 for column in columns)
    return tuple(column.astype(np.uint64 if positive else object) for column in columns)


def are_in(ids: NDArray[Any], others: NDArray[Any]) -> NDArray[np.bool_]:
    """Which of some integers are among others, of whatever types the two are."""
    first, second = comparable(ids, others)
    return np.isin(first, second)


def _as_objects(values: Any, name: str) -> NDArray[Any]:
    """What is given, or what is in it, as an array of objects."""
    single = isinstance(values, str | bytes) or not isinstance(values, Iterable)
    try:
        return np.array(values if single else list(values), object)
    except ValueError:
        raise ValueError(f"{name}: found lists of several lengths, expected whole numbers") from None


def _plain(value: Any) -> Any:
    """A NumPy number as a Python one: its repr is what a user wrote."""
    return value.item() if isinstance(value, np.generic) else value
