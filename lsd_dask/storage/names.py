"""Names of groups and arrays within a container: they lead down from it, and nowhere else."""

import os
import unicodedata

#: Bytes of a name that file systems take.
LONGEST = 255

#: Files of zarr's own, whose places no array or group can take.
_RESERVED = {"zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata"}


def check_key(key: str, where: str = "") -> None:
    """Raise ValueError unless each part of a name within a container leads down from the one before it.

    Parameters
    ----------
    key
        Names of groups and an array, separated by slashes.
    where
        Begins the message: what the name is found in.

    Examples
    --------
    >>> check_key("../raw", "em.zarr")
    Traceback (most recent call last):
    ValueError: em.zarr: found '..' in '../raw', expected names that lead down from the container
    """
    begin = f"{where}: " if where else ""
    for part in key.split("/"):
        if part in (".", ".."):
            raise ValueError(
                f"{begin}found {part!r} in {_shown(key)}, expected names that lead down from the container"
            )
        if not part:
            raise ValueError(f"{begin}found an empty name in {_shown(key)}, expected one between two slashes")
        if part in _RESERVED:
            raise ValueError(f"{begin}found {part!r} in {_shown(key)}, which is a file of zarr's own")
        # zarr takes a backslash for a slash.
        odd = [letter for letter in part if letter == "\\" or unicodedata.category(letter) in ("Cc", "Cs")]
        if odd:
            raise ValueError(
                f"{begin}found the character {odd[0]!r} in {_shown(key)}, expected names without control "
                "characters and backslashes"
            )
        check_length(part, begin + _shown(key))


def check_length(name: str, where: str) -> None:
    """Raise ValueError for a name that no file system can write; `where` begins the message."""
    try:
        length = len(os.fsencode(name))
    except UnicodeEncodeError:
        raise ValueError(f"{where!a}: found a character that no file system can write") from None
    if length > LONGEST:
        raise ValueError(f"{where}: found a name of {length} bytes, expected at most {LONGEST}")


def _shown(key: str) -> str:
    text = repr(key)
    return text if len(text) <= 80 else f"{text[:77]}..."
