"""What files of skeletons say of their unit: SWC in comments, JSON documents by a key."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..checks.arguments import naming, shown
from ..space.units import is_unit, parse_length, unit_name
from ..storage import files

#: "# units: um", and the line with metadata that navis writes: '# Meta: {"units": "8 nanometer", ...}'.
_COMMENT = re.compile(r"""^\s*#.*?\bunits?["']?\s*[:=]\s*["']?([^"',;}\n]+)""", re.IGNORECASE | re.MULTILINE)


def stated_units(path: str, swc: Sequence[str]) -> tuple[float, str | None]:
    """The length of a step of positions, and its unit.

    Parameters
    ----------
    path : str
        Of the skeletons.
    swc : sequence of str
        The SWC files that they are in, if they are.

    Returns
    -------
    (float, str or None)
        1 and None where nothing is said.

    Raises
    ------
    ValueError
        If what is said is no unit, or files of one folder say different ones; the message names the file.
    """
    found: dict[tuple[float, str | None], str] = {}
    for file in swc or [path] * (path.endswith(".json") and files.is_file(path)):
        with naming(file):
            found.setdefault(_stated(files.read_bytes(file).decode("utf-8", "replace"), bool(swc)), file)
    if len(found) > 1:
        (first, one), (second, other) = list(found.items())[:2]
        raise ValueError(f"{other}: units: found {second}, expected {first} as in {one}")
    return next(iter(found), (1.0, None))


def _stated(text: str, swc: bool) -> tuple[float, str | None]:
    if swc:
        return _of_comment(text)
    said = _key_of(json.loads(text))
    if said is None:
        return 1.0, None
    with naming("units"):
        return _step(said if isinstance(said, str) else shown(said))


def _of_comment(text: str) -> tuple[float, str | None]:
    comment = _COMMENT.search(text)
    try:
        return _step(comment[1].strip()) if comment else (1.0, None)
    except ValueError:
        # Prose that happens to have a word before a colon.
        return 1.0, None


def _step(said: str) -> tuple[float, str | None]:
    """One unit by its name, or several: "8 nm"."""
    return (1.0, unit_name(said)) if is_unit(said) else parse_length(said)


def _key_of(content: Any) -> Any:
    """The key of a document, or of what networkx keeps of a whole graph."""
    for part in (content, content.get("graph") if isinstance(content, Mapping) else None):
        if isinstance(part, Mapping) and part.get("units") is not None:
            return part["units"]
    return None
