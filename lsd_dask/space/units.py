"""Units of length: what they are called, and how large they are.

`lsd_dask.space.lengths` converts. All else in the package compares lengths by way of two methods of `Grid`:
`in_units_of` brings a volume to the units of another one, `lengths` what an option says to those of a volume.
"""

import re
import unicodedata

#: Unit of what has no known size: its lengths are numbers of voxels, or in a unit that nobody told.
UNKNOWN = "voxel"

#: Picometers in a unit, by its name, which is that of OME-NGFF; whole numbers, so that nothing is rounded.
PICOMETERS = {
    "picometer": 1,
    "angstrom": 100,
    "nanometer": 10**3,
    "micrometer": 10**6,
    "millimeter": 10**9,
    "centimeter": 10**10,
    "meter": 10**12,
    "inch": 254 * 10**8,
}
#: What funkelab's tools, and pictures, write in the place of a name.
_SYMBOLS = {
    "picometer": "pm",
    "nanometer": "nm",
    "micrometer": "um",
    "millimeter": "mm",
    "centimeter": "cm",
    "meter": "m",
    UNKNOWN: "",
}
#: Other names of units, as `_folded` leaves them: in small letters, in the singular, with the Greek mu.
_OTHER_NAMES = {
    **{symbol: name for name, symbol in _SYMBOLS.items()},
    "μm": "micrometer",
    "μ": "micrometer",
    "micron": "micrometer",
    "\\u00b5m": "micrometer",  # as ImageJ escapes it
    "å": "angstrom",
    "ångström": "angstrom",
    "ångstrom": "angstrom",
    "ang": "angstrom",
    "in": "inch",
    "inche": "inch",
    "px": UNKNOWN,
    "pix": UNKNOWN,
    "pixel": UNKNOWN,
    "vox": UNKNOWN,
    "vx": UNKNOWN,
}


def unit_name(text: str) -> str:
    """The one name of a unit, however it is written; of a unit that is not known here, what was given.

    Parameters
    ----------
    text : str
        A name or symbol in any case, singular or plural, American or British; empty for none.

    Returns
    -------
    str
        As OME-NGFF has it, such as ``"nanometer"``; ``"voxel"`` where there is no unit.

    Examples
    --------
    >>> unit_name("nm"), unit_name("µm"), unit_name("Microns"), unit_name("Millimetres"), unit_name("")
    ('nanometer', 'micrometer', 'micrometer', 'millimeter', 'voxel')
    >>> unit_name("fathom")
    'fathom'
    """
    folded = _folded(text)
    name = _OTHER_NAMES.get(folded, folded)
    return name if name in PICOMETERS or name == UNKNOWN else text


def is_unit(text: str) -> bool:
    """Whether a text is the name or symbol of a unit that is known here; of none, too.

    Parameters
    ----------
    text : str

    Returns
    -------
    bool

    Examples
    --------
    >>> is_unit("µm"), is_unit("fathom")
    (True, False)
    """
    return unit_name(text) in {*PICOMETERS, UNKNOWN}


def unit_symbol(units: str) -> str:
    """What stands for a unit in funkelab's attributes: ``"nm"``, and the name where there is no plain symbol.

    Parameters
    ----------
    units : str

    Returns
    -------
    str

    Examples
    --------
    >>> unit_symbol("micrometer"), unit_symbol("angstrom"), unit_symbol("voxel")
    ('um', 'angstrom', '')
    """
    name = unit_name(units)
    return _SYMBOLS.get(name, name)


def can_convert(units: str, to: str) -> bool:
    """Whether lengths of one unit can be told in another one: both are known, or they are the same.

    Parameters
    ----------
    units, to : str

    Returns
    -------
    bool

    Examples
    --------
    >>> can_convert("nm", "inches"), can_convert("fathom", "fathom"), can_convert("voxel", "nm")
    (True, True, False)
    """
    units, to = unit_name(units), unit_name(to)
    return units == to or (units in PICOMETERS and to in PICOMETERS)


def parse_length(text: str) -> tuple[float, str | None]:
    """A length that is written with its unit, or without.

    Parameters
    ----------
    text : str
        A number and the name or symbol of a unit.

    Returns
    -------
    (float, str or None)
        The number, and the name of the unit; None where there is only a number.

    Raises
    ------
    ValueError
        If it is anything else, or the unit is not one of length.

    Examples
    --------
    >>> parse_length("1.2 um"), parse_length("40nm"), parse_length("8")
    ((1.2, 'micrometer'), (40.0, 'nanometer'), (8.0, None))
    """
    found = _LENGTH.fullmatch(text.strip())
    if found is None or not is_unit(found["unit"]):
        raise ValueError(f'found {text!r}, expected a number, or one with a unit such as "1.2 um"')
    return float(found["number"]), unit_name(found["unit"]) if found["unit"] else None


_LENGTH = re.compile(r"(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(?P<unit>\D*)")


def _folded(text: str) -> str:
    """A name in small letters and in the singular, with one of the several signs for mu and angstrom.

    >>> _folded(" Micrometres"), _folded("ms")
    ('micrometer', 'ms')
    """
    folded = unicodedata.normalize("NFKC", text).strip().casefold().replace("metre", "meter")
    # Symbols have no plural: ms are milliseconds.
    return folded.removesuffix("s") if len(folded) > 3 else folded
