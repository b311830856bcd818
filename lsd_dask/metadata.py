"""What the attributes of arrays and groups say about axes and places: funkelab's conventions and OME-NGFF.

funkelab (daisy, gunpowder, funlib.persistence) keeps ``offset``, ``resolution`` or ``voxel_size``, ``units``
and ``axis_names`` on the array, in world units and for the spatial axes only; `offset` is the lower corner of
the volume.

OME-NGFF 0.4 and 0.5 keep a list of ``multiscales`` on a *group*, each naming the arrays below the group that
are its levels, with a scale and a translation. Strictly read, a translation is the centre of the first voxel;
in the field, funkelab's tools and the volumes on public buckets among it, that of level 0 is the lower
corner, and that of level l is ::

    translation_l = offset + (voxel_size_l - voxel_size_0) / 2

which puts all levels into one frame. Both directions here follow the field. A level without a translation is
taken to share the lower corner of level 0.

How volumes are written
-----------------------
Readers of funkelab's arrays expect an *array* at the path of a volume; OME readers expect a *group* that
describes it. Both are served without storing anything twice: the array ``out.zarr/volumes/fragments`` carries
the funkelab attributes, and its parent ``out.zarr/volumes`` carries one entry of ``multiscales`` per volume,
called after the array. NGFF allows several entries in a group, to be chosen by name.

References
----------
.. [1] https://ngff.openmicroscopy.org/0.5/
.. [2] https://github.com/funkelab/funlib.persistence
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .grids import Grid, spatial_dims

_UNIT_NAMES = {
    "nm": "nanometer",
    "um": "micrometer",
    "µm": "micrometer",
    "μm": "micrometer",
    "mm": "millimeter",
    "a": "angstrom",
    "Å": "angstrom",
    "nanometers": "nanometer",
    "micrometers": "micrometer",
    "": "voxel",
    "px": "voxel",
    "pixel": "voxel",
    "voxels": "voxel",
}
_UNIT_SYMBOLS = {"nanometer": "nm", "micrometer": "um", "millimeter": "mm", "voxel": ""}


@dataclass(frozen=True)
class Layout:
    """How a stored array is a volume.

    Parameters
    ----------
    grid : Grid
        The spatial axes.
    dims : tuple of str
        All axes of the volume: the grid's, after ``"channel"`` where there are channels.
    dropped_axes : int
        Number of leading axes of length one (time) that the volume does without.
    """

    grid: Grid
    dims: tuple[str, ...]
    dropped_axes: int = 0


def layout_from_attributes(
    shape: Sequence[int],
    attributes: Mapping[str, Any],
    axis_names: Sequence[str | None] | None = None,
    *,
    where: str,
) -> Layout:
    """Read funkelab's attributes; an array without any has voxel size 1 and offset 0.

    Parameters
    ----------
    shape : sequence of int
        Shape of the stored array.
    attributes : mapping
        Attributes of the stored array.
    axis_names : sequence of str, optional
        Names that the array itself gives to its axes (zarr's ``dimension_names``), used where the attributes
        have none.
    where : str
        The array's path, for messages.

    Returns
    -------
    Layout

    Raises
    ------
    ValueError
        If the attributes do not fit the shape, or the axes are not ``[channel,] z, y, x``.
    """
    voxel_size = _first(attributes, "voxel_size", "resolution")
    offset = _first(attributes, "offset")
    if voxel_size is not None and offset is not None and len(voxel_size) != len(offset):
        raise ValueError(f"{where}: voxel_size {list(voxel_size)} and offset {list(offset)} differ in length")
    names = _first(attributes, "axis_names", "_ARRAY_DIMENSIONS") or axis_names
    kinds = _kinds(len(shape), attributes.get("types"), names, voxel_size or offset, where)
    dropped, dims = _check_axes(shape, kinds, names, where)
    n_spatial = kinds.count("space")
    given = attributes.get("units") or ("voxel" if voxel_size is None else "nanometer")
    units = [given] * n_spatial if isinstance(given, str) else list(given)
    return _layout(
        shape,
        dims,
        dropped,
        _spatial(voxel_size, kinds, 1.0, "voxel_size", where),
        _spatial(offset, kinds, 0.0, "offset", where),
        _spatial(units, kinds, "", "units", where),
        where,
    )


def has_geometry(attributes: Mapping[str, Any]) -> bool:
    """Whether an array's own attributes place it in the world.

    Parameters
    ----------
    attributes : mapping

    Returns
    -------
    bool
    """
    return _first(attributes, "voxel_size", "resolution", "offset") is not None


def multiscales_of(attributes: Mapping[str, Any]) -> list[dict[str, Any]]:
    """List the OME-NGFF multiscales of a group; empty where it has none.

    Parameters
    ----------
    attributes : mapping
        Attributes of the group. NGFF 0.5 keeps its metadata below ``"ome"``, 0.4 at the top.

    Returns
    -------
    list of dict
    """
    return list(attributes.get("ome", attributes).get("multiscales", []))


def layout_from_multiscale(
    shape: Sequence[int], multiscale: Mapping[str, Any], level: int, *, where: str
) -> Layout:
    """Read the axes and the place of one level of an OME-NGFF multiscale.

    Parameters
    ----------
    shape : sequence of int
        Shape of the stored array of that level.
    multiscale : mapping
        One of `multiscales_of`.
    level : int
        Index into its datasets.
    where : str
        The array's path, for messages.

    Returns
    -------
    Layout

    Raises
    ------
    ValueError
        If the metadata is not of NGFF 0.4 or 0.5 or does not fit the shape, or the axes are not
        ``[channel,] z, y, x``.
    """
    axes = multiscale.get("axes", [])
    if not axes or not all(isinstance(axis, Mapping) for axis in axes):
        raise ValueError(
            f"{where}: OME-NGFF multiscales without named axes; versions 0.4 and 0.5 can be read"
        )
    if len(axes) != len(shape):
        raise ValueError(f"{where}: OME-NGFF names {len(axes)} axes, but the array has shape {tuple(shape)}")
    names = [axis["name"] for axis in axes]
    kinds = _kinds(len(shape), [axis.get("type") or _kind(axis["name"]) for axis in axes], names, None, where)
    dropped, dims = _check_axes(shape, kinds, names, where)
    scale, translation = _transformation(multiscale, level, len(shape))
    if level > 0:
        scale_0, translation_0 = _transformation(multiscale, 0, len(shape))
        translation_0 = translation_0 or [0.0] * len(shape)
        if translation is None:
            translation = translation_0
        else:
            translation = [t - (s - s0) / 2 for t, s, s0 in zip(translation, scale, scale_0, strict=True)]
    known = next((axis["unit"] for axis in axes if axis.get("unit") and axis.get("type") == "space"), "")
    return _layout(
        shape,
        dims,
        dropped,
        _spatial(scale, kinds, 1.0, "scale", where),
        _spatial(translation, kinds, 0.0, "translation", where),
        _spatial([axis.get("unit") or known for axis in axes], kinds, "", "units", where),
        where,
    )


def volume_attributes(grid: Grid, channels: int | None) -> dict[str, Any]:
    """Write funkelab's attributes of an array.

    Parameters
    ----------
    grid : Grid
    channels : int or None
        Number of channels; None for a volume without a channel axis.

    Returns
    -------
    dict
        ``voxel_size`` and ``resolution`` are the same: older tools ask for one, newer for the other.
    """
    axes = _axes(grid, channels)
    voxel_size = [_tidy(v) for v in grid.voxel_size]
    return {
        "offset": [_tidy(o) for o in grid.offset],
        "resolution": voxel_size,
        "voxel_size": voxel_size,
        "units": [_UNIT_SYMBOLS.get(grid.units, grid.units)] * grid.ndim,
        "axis_names": [name + "^" * (kind == "channel") for name, kind in axes],
        "types": [kind for _, kind in axes],
    }


def add_multiscale(
    attributes: Mapping[str, Any], name: str, zarr_format: int, *, grid: Grid, channels: int | None
) -> dict[str, Any]:
    """Describe an array in the OME-NGFF metadata of its parent group.

    Parameters
    ----------
    attributes : mapping
        Attributes of the group so far.
    name : str
        Name of the array in the group. Entries that had it as their finest level are replaced.
    zarr_format : int
        3 gives NGFF 0.5, 2 gives NGFF 0.4.
    grid : Grid
    channels : int or None
        Number of channels; None for a volume without a channel axis.

    Returns
    -------
    dict
        The attributes to change: ``"ome"`` or ``"multiscales"``.
    """
    axes = _axes(grid, channels)
    unit = {} if grid.units == "voxel" else {"unit": grid.units}
    lead = len(axes) - grid.ndim
    entry = {
        "name": name,
        "axes": [{"name": n, "type": kind, **(unit if kind == "space" else {})} for n, kind in axes],
        "datasets": [
            {
                "path": name,
                "coordinateTransformations": [
                    {"type": "scale", "scale": [1.0] * lead + list(grid.voxel_size)},
                    {"type": "translation", "translation": [0.0] * lead + list(grid.offset)},
                ],
            }
        ],
    }
    others = [other for other in multiscales_of(attributes) if other["datasets"][0]["path"] != name]
    if zarr_format == 2:
        return {"multiscales": [*others, {"version": "0.4", **entry}]}
    return {"ome": {"version": "0.5", **attributes.get("ome", {}), "multiscales": [*others, entry]}}


def dimension_names(grid: Grid, channels: int | None) -> tuple[str, ...]:
    """Names of an array's axes as NGFF spells them: ``("c", "z", "y", "x")``.

    Parameters
    ----------
    grid : Grid
    channels : int or None

    Returns
    -------
    tuple of str
    """
    return tuple(name for name, _ in _axes(grid, channels))


def _axes(grid: Grid, channels: int | None) -> list[tuple[str, str]]:
    channel = [] if channels is None else [("c", "channel")]
    return channel + [(dim, "space") for dim in grid.dims]


def _layout(
    shape: Sequence[int],
    dims: tuple[str, ...],
    dropped: int,
    voxel_size: Sequence[Any],
    offset: Sequence[Any],
    units: Sequence[Any],
    where: str,
) -> Layout:
    names = {_UNIT_NAMES.get(unit, unit) for unit in units}
    if len(names) > 1:
        raise ValueError(f"{where}: all axes need the same unit, but they have {sorted(names)}")
    spatial = tuple(dim for dim in dims if dim != "channel")
    try:
        grid = Grid(
            spatial, tuple(shape[len(shape) - len(spatial) :]), tuple(voxel_size), tuple(offset), *names
        )
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    return Layout(grid, dims, dropped)


def _kinds(
    ndim: int,
    types: Sequence[str] | None,
    names: Sequence[str | None] | None,
    per_spatial_axis: Sequence[Any] | None,
    where: str,
) -> list[str]:
    """Tell the channel, time and space axes apart; with nothing to go by, a fourth axis in front is channels.

    >>> _kinds(4, None, ["c^", "z", "y", "x"], None, "")
    ['channel', 'space', 'space', 'space']
    >>> _kinds(3, None, None, [4, 4], "")
    ['channel', 'space', 'space']
    """
    for given in (types, names):
        if given is not None and len(given) != ndim:
            raise ValueError(
                f"{where}: the array has {ndim} axes, but its metadata names {len(given)}: {list(given)}"
            )
    if types is not None:
        return list(types)
    if names is not None and any(names):
        kinds = [_kind(name) for name in names]
        return kinds if kinds.count("space") < 4 else ["channel", *kinds[1:]]
    n_spatial = 0 if per_spatial_axis is None else len(per_spatial_axis)
    if n_spatial not in (2, 3) or n_spatial not in (ndim - 1, ndim):
        n_spatial = min(ndim, 3)
    return ["channel"] * (ndim - n_spatial) + ["space"] * n_spatial


def _kind(name: str | None) -> str:
    if name is not None and (name.endswith("^") or name in ("c", "channel", "channels")):
        return "channel"
    return "time" if name in ("t", "time") else "space"


def _check_axes(
    shape: Sequence[int], kinds: list[str], names: Sequence[str | None] | None, where: str
) -> tuple[int, tuple[str, ...]]:
    """Return how many leading axes to drop, and the dims of the volume."""
    found = f"axes {list(names or kinds)} of shape {tuple(shape)}"
    dropped = 0
    while kinds[dropped] == "time":
        if shape[dropped] != 1:
            raise ValueError(
                f"{where}: {found} hold several time points; a volume has one. Store one as an array"
            )
        dropped += 1
    remaining = kinds[dropped:]
    n_channel, n_spatial = remaining.count("channel"), remaining.count("space")
    if (
        n_channel > 1
        or n_spatial not in (2, 3)
        or remaining != ["channel"] * n_channel + ["space"] * n_spatial
    ):
        raise ValueError(f"{where}: expected axes [channel,] z, y, x or [channel,] y, x, but found {found}")
    dims = spatial_dims(n_spatial)
    spatial_names = tuple(names[-n_spatial:]) if names else dims
    if spatial_names != dims and set(spatial_names) == set(dims):
        raise ValueError(f"{where}: expected spatial axes in the order {', '.join(dims)}, but found {found}")
    return dropped, ("channel",) * n_channel + dims


def _spatial(
    values: Sequence[Any] | None, kinds: list[str], default: Any, what: str, where: str
) -> list[Any]:
    """Keep the entries of the spatial axes from a list with one per axis, or one per spatial axis."""
    n_spatial = kinds.count("space")
    if values is None:
        return [default] * n_spatial
    if len(values) == n_spatial:
        return list(values)
    if len(values) == len(kinds):
        return [value for value, kind in zip(values, kinds, strict=True) if kind == "space"]
    expected = f"{n_spatial} entries, one per spatial axis"
    raise ValueError(f"{where}: {what} needs {expected}, but has {len(values)}: {list(values)}")


def _transformation(
    multiscale: Mapping[str, Any], level: int, ndim: int
) -> tuple[list[float], list[float] | None]:
    """Scale and translation (None if there is no word of one) of a level: its own, then all levels'."""
    scale, translation = [1.0] * ndim, None
    steps = [
        *multiscale["datasets"][level].get("coordinateTransformations", []),
        *multiscale.get("coordinateTransformations", []),
    ]
    for step in steps:
        if step["type"] == "scale":
            scale = [a * b for a, b in zip(scale, step["scale"], strict=True)]
            translation = translation and [a * b for a, b in zip(translation, step["scale"], strict=True)]
        elif step["type"] == "translation":
            before = translation or [0.0] * ndim
            translation = [a + b for a, b in zip(before, step["translation"], strict=True)]
    return scale, translation


def _first(attributes: Mapping[str, Any], *keys: str) -> Any:
    """Value of the first key that has one."""
    return next((attributes[key] for key in keys if attributes.get(key) is not None), None)


def _tidy(value: float) -> float | int:
    """Whole numbers as int: funlib.persistence insists on it."""
    return int(value) if value.is_integer() else value
