"""The axes of stored arrays: what files call them, and which is which.

An axis is ``channel``, ``time``, ``z``, ``y`` or ``x``. Names like ``dim_0`` or ``d1``, which tools give
where nobody gave any, say nothing; any other one is refused, unless it is stated to be channels or time.
"""

import re
from collections.abc import Sequence
from typing import Any

from ...checks.arguments import shown
from ...space.grids import spatial_dims

SPACE = ("z", "y", "x")

_KNOWN = {
    "z": ("z", "depth", "plane"),
    "y": ("y", "height", "row"),
    "x": ("x", "width", "column"),
    "time": ("t", "time", "timepoint", "time_point", "frame"),
    "channel": (
        *("c", "ch", "channel", "aff", "affinity", "affinities", "lsd", "descriptor", "feature", "component"),
        *("class", "direction", "neighborhood", "rgb"),
    ),
}
_AXIS_OF = {name + plural: axis for axis, names in _KNOWN.items() for name in names for plural in ("", "s")}
_NO_NAME = re.compile(r"((phony_)?dim(ension)?|axis|d)?[_-]?\d*")
_NO_KIND = ("", "array", "unknown")


def axis_of(name: str | None) -> str | None:
    """Tell which axis a name means.

    Parameters
    ----------
    name : str or None

    Returns
    -------
    str or None
        ``"channel"``, ``"time"``, ``"z"``, ``"y"`` or ``"x"``; None for a name that says nothing; the name
        itself where it is not known.

    Examples
    --------
    >>> [axis_of(name) for name in ("Z", "c^", "frames", "dim_0", "q")]
    ['z', 'channel', 'time', None, 'q']
    """
    if name is None or _NO_NAME.fullmatch(name.lower()):
        return None
    return "channel" if name.endswith("^") else _AXIS_OF.get(name.lower(), name)


def kind_of(kind: str | None) -> str | None:
    """The kind of an axis, or None where what is written says nothing, as ``"array"`` does."""
    return None if kind is None or kind.lower() in _NO_KIND else kind.lower()


def stored_dims(
    shape: Sequence[int],
    names: Sequence[str | None] | None,
    kinds: Sequence[str | None] | None,
    *,
    n_listed: int | None,
    found: str,
) -> tuple[str | None, ...]:
    """Find out what the axes of a stored array are.

    Parameters
    ----------
    shape : sequence of int
        Of the array.
    names, kinds : sequence of str or None
        One for each axis, or None where nothing is said of them.
    n_listed : int or None
        How many voxel sizes are listed: with 3 axes and 2 of them, the first axis is channels.
    found : str
        What the axes are and who says so, for messages.

    Returns
    -------
    tuple of str or None
        ``"channel"``, ``"z"``, ``"y"`` or ``"x"`` for each stored axis; None for time of one point.

    Raises
    ------
    ValueError
        If they are not those of a volume in any order, or it is not clear which is which.

    Examples
    --------
    >>> stored_dims((8, 6, 4, 1), ["x", "y", "z", "t"], None, n_listed=None, found="axes x, y, z, t")
    ('x', 'y', 'z', None)
    >>> stored_dims((3, 6, 8), None, None, n_listed=2, found="no axes")
    ('channel', 'y', 'x')
    """
    ndim = len(shape)
    roles: list[str | None] = [
        _role(name, kind, found)
        for name, kind in zip(names or [None] * ndim, kinds or [None] * ndim, strict=True)
    ]
    if not any(roles):
        n_spatial = n_listed if n_listed in (2, 3) and n_listed in (ndim - 1, ndim) else min(ndim, 3)
        roles = [*["channel"] * (ndim - n_spatial), *["space"] * n_spatial]
    elif roles[0] is None and sum(role in (None, "space", *SPACE) for role in roles) == 4:
        roles[0] = "channel"
    axes = [role or "space" for role in roles]
    if any(axis == "time" and n != 1 for axis, n in zip(axes, shape, strict=True)):
        raise ValueError(f"expected a single time point, but found {found}")
    twice = sorted({axis for axis in axes if axis not in ("space", "time") and axes.count(axis) > 1})
    n_spatial = sum(axis in ("space", *SPACE) for axis in axes)
    if twice or n_spatial not in (2, 3):
        found += f", with {' and '.join(twice)} more than once" if twice else ""
        raise ValueError(
            f"expected axes [channel,] z, y, x or [channel,] y, x, in any order, but found {found}"
        )
    dims = spatial_dims(n_spatial)
    if wrong := [axis for axis in axes if axis in SPACE and axis not in dims]:
        raise ValueError(f"expected {', '.join(dims)} for the two spatial axes, but {wrong[0]} is in {found}")
    unnamed = iter([dim for dim in dims if dim not in axes])
    return tuple(None if a == "time" else next(unnamed) if a == "space" else a for a in axes)


def names_agree(one: Sequence[Any], other: Sequence[Any]) -> bool:
    """Whether two lists of names can be of the same axes; what says nothing, or is not known, agrees."""
    known = {*_KNOWN, None}
    pairs = [(axis_of(a), axis_of(b)) for a, b in zip(one, other, strict=False)]
    return len(one) == len(other) and all(
        a == b or None in (a, b) or a not in known or b not in known for a, b in pairs
    )


def _role(name: str | None, kind: str | None, found: str) -> str | None:
    axis, kind = axis_of(name), kind_of(kind)
    if kind not in (None, "space", "channel", "time"):
        raise ValueError(f"found an axis of the kind {shown(kind)}, expected space, channel or time; {found}")
    if axis is None:
        return kind
    if axis not in _KNOWN:
        if kind in ("channel", "time"):
            return kind
        raise ValueError(f"found an axis {shown(name)}, expected names such as z, y, x, c and t; {found}")
    if kind not in (None, "space" if axis in SPACE else axis):
        raise ValueError(f"found an axis {shown(name)} of the kind {shown(kind)}, which contradict; {found}")
    return axis
