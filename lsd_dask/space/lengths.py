"""Lengths of one unit in those of another."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks.arguments import naming, real_numbers
from .units import PICOMETERS, can_convert, parse_length, unit_name

#: Units that people give lengths in microscopy in, the commonest first.
_COMMON = ("nanometer", "micrometer", "millimeter")


def convert(lengths: ArrayLike, units: str, to: str) -> NDArray[np.float64]:
    """Tell lengths of one unit in another.

    Parameters
    ----------
    lengths : array_like of float
    units, to : str
        Names or symbols of the unit that the lengths are in, and of the one that is wanted.

    Returns
    -------
    ndarray of float64
        Decimal numbers become decimal numbers, of at most 15 digits: 0.043 micrometers are 43 nanometers, not
        42.99999999999999.

    Raises
    ------
    ValueError
        If the units differ, and one of them is not known.

    Examples
    --------
    >>> convert([0.043, 1.2], "um", "nm").tolist()
    [43.0, 1200.0]
    """
    values = np.asarray(lengths, np.float64)
    units, to = unit_name(units), unit_name(to)
    if not can_convert(units, to):
        raise ValueError(f"units: found lengths in {units} and in {to}, which cannot be compared")
    if units == to:
        return values
    return _decimal(values * PICOMETERS[units] / PICOMETERS[to])


def lengths_in(units: str, name: str, values: Any) -> tuple[float, ...]:
    """What an option says, in some unit.

    Parameters
    ----------
    units : str
        The unit that is wanted, in which plain numbers are.
    name : str
        Of the option, for messages.
    values : sequence of float or str
        Text says its unit: see `parse_length`.

    Returns
    -------
    tuple of float

    Raises
    ------
    ValueError
        If one is no length, or is in a unit that cannot be converted.

    Examples
    --------
    >>> lengths_in("nanometer", "roi_offset", ("1.2 um", 800))
    (1200.0, 800.0)
    """
    if not isinstance(values, Iterable) or isinstance(values, str | bytes):
        return real_numbers(name, values)
    with naming(name):
        told = [parse_length(value) if isinstance(value, str) else (value, None) for value in values]
        return real_numbers(
            name, [value if unit is None else convert(value, unit, units) for value, unit in told]
        )


def likely_unit(units: str, fits: Callable[[float], bool]) -> str | None:
    """The unit that numbers may have been meant in, where they make no sense in the one they are taken in.

    Parameters
    ----------
    units : str
        That they are taken in.
    fits : callable
        Whether the numbers times a factor make sense.

    Returns
    -------
    str or None
        A common unit; None where none would do.

    Examples
    --------
    >>> likely_unit("micrometer", lambda factor: 0.1 < 800 * factor < 1)
    'nanometer'
    """
    others = [unit for unit in _COMMON if unit != unit_name(units) and can_convert(unit, units)]
    return next((unit for unit in others if fits(float(convert(1, unit, units)))), None)


def _decimal(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The nearest decimal numbers of 15 digits: what a number was before it was rounded to a binary one."""
    size = np.abs(values)
    # Powers of ten are exact up to the 22nd; 0, NaN and infinity have no digits to be rounded.
    fit = (size > 1e-7) & (size < 1e15)
    shift = 10.0 ** (14 - np.floor(np.log10(np.where(fit, size, 1.0))))
    return np.where(fit, np.rint(values * shift) / shift, values)
