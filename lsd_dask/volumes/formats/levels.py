"""Coarser levels of volumes whose group tells of the finest one alone, as n5-viewer and Paintera have it.

Such levels are called ``s0``, ``s1``, ..., and say by which factors they are coarser: in
``downsamplingFactors`` of their own, or of their group, where that is a list with an entry a level, also
called ``scales``. Factors are in the order x, y, z in any format. All levels have the same lower corner.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from .layouts import Source, Stated

_LEVEL = re.compile(r"s?(\d+)")

#: Stands for factors that nobody states.
UNKNOWN: tuple[float, ...] = ()


def level_of(path: str) -> int:
    """Number of a level by its name; 0 for any other name.

    Examples
    --------
    >>> level_of("em.n5/raw/s2"), level_of("em.n5/raw")
    (2, 0)
    """
    found = _LEVEL.fullmatch(path.rsplit("/", 1)[-1])
    return int(found[1]) if found else 0


def factors_of(path: str, own: Mapping[str, Any], *groups: Mapping[str, Any]) -> Sequence[Any] | None:
    """By how much a level is coarser than the finest one, in the order of NumPy.

    Parameters
    ----------
    path : str
        Of the level.
    own : mapping
        Its attributes.
    *groups : mapping
        Attributes of the groups above it, nearest first.

    Returns
    -------
    sequence or None
        As it stands there; `UNKNOWN` if that is nowhere, None for the finest level.
    """
    if isinstance(own.get("downsamplingFactors"), list):
        return list(own["downsamplingFactors"][::-1])
    level = level_of(path)
    for group in groups:
        for key in ("downsamplingFactors", "scales"):
            of_levels = group.get(key)
            if isinstance(of_levels, list) and level < len(of_levels) and isinstance(of_levels[level], list):
                return list(of_levels[level][::-1])
    return UNKNOWN if level else None


def held_against(level: Source, *above: Source) -> Source:
    """A source of a level, whose ``pixelResolution`` times its factors has to agree with those above it.

    Some writers put the size of the level itself beside the factors, which readers multiply once more.
    """
    if all(said.factors is None for said in level.voxel_size):
        return level
    held = [
        replace(said, key=f"{said.key} of {source.where}")
        for source in above
        for said in source.voxel_size
        if said.key == "pixelResolution"
    ]
    return replace(level, voxel_size=(*level.voxel_size, *held))


def of_level(finest: Source, factors: Sequence[Any] | None) -> Source:
    """What a source that tells of the finest level says of a coarser one.

    Parameters
    ----------
    finest : Source
    factors : sequence or None
        As `factors_of` gives them.

    Returns
    -------
    Source
        With a problem in the place of the voxel size where factors are not known.
    """
    if factors is None:
        return finest
    if len(factors) == 0:
        problem = "is that of the finest level, expected downsamplingFactors for this one"
        return replace(
            finest, voxel_size=tuple(Stated(said.key, problem=problem) for said in finest.voxel_size)
        )
    return replace(finest, voxel_size=tuple(replace(said, factors=factors) for said in finest.voxel_size))
