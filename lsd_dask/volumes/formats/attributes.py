"""Attributes that say where an array lies, in the spelling of several tools; how volumes are written.

funkelab (daisy, gunpowder, funlib.persistence) keeps ``offset``, ``resolution`` or ``voxel_size``, ``units``
and ``axis_names`` on the array, in world units and for the spatial axes only; `offset` is the lower corner of
the volume. xarray names axes by ``_ARRAY_DIMENSIONS``, vigra and ilastik by ``axistags``, the plugins of Fiji
give ``element_size_um``, n5-viewer ``pixelResolution`` (x, y, z) and COSEM a ``transform``. OME-NGFF is the
subject of `lsd_dask.volumes.formats.ngff`.

How volumes are written
-----------------------
Readers of funkelab's arrays expect an *array* at the path of a volume; OME readers expect a *group* that
describes it. Both are served without storing anything twice: the array ``out.zarr/volumes/fragments`` carries
the funkelab attributes, and its parent ``out.zarr/volumes`` carries one entry of ``multiscales`` per volume,
called after the array. NGFF allows several entries in a group, to be chosen by name.

References
----------
.. [1] https://github.com/funkelab/funlib.persistence
.. [2] https://github.com/janelia-cellmap/cellmap-schemas
.. [3] https://github.com/saalfeldlab/n5-universe
"""

import json
from collections.abc import Mapping
from typing import Any

from ...checks.arguments import shown
from ...space.grids import Grid
from ...space.units import unit_symbol
from .layouts import Source, Stated

#: Keys that `source_from_attributes` looks at.
KEYS = (
    *("voxel_size", "resolution", "element_size_um", "pixelResolution", "offset", "units", "transform"),
    *("axis_names", "_ARRAY_DIMENSIONS", "axes", "types", "axistags"),
)


def source_from_attributes(
    attributes: Mapping[str, Any],
    *,
    where: str,
    dimension_names: Any = None,
    x_first: bool = False,
) -> Source:
    """Read what the attributes of an array, or of the group around it, say.

    Parameters
    ----------
    attributes : mapping
    where : str
        Path of the array or group, for messages.
    dimension_names : sequence of str, optional
        Names that the array itself gives to its axes, as those of zarr 3 do.
    x_first : bool
        Whether lists are in the reverse order of the axes of the array, as in N5.

    Returns
    -------
    Source
        Values as they stand there: they are checked when they are used.
    """
    said = {key: value for key, value in attributes.items() if value is not None}

    def listed(key: str) -> Any:
        return _reversed(said[key]) if x_first else said[key]

    names = [Stated(key, listed(key)) for key in ("axis_names", "_ARRAY_DIMENSIONS") if key in said]
    kinds = [Stated("types", listed("types"))] if "types" in said else []
    sizes = [Stated(key, listed(key)) for key in ("voxel_size", "resolution") if key in said]
    corners = [Stated("offset", listed("offset"))] if "offset" in said else []
    units = [Stated("units", listed("units"))] if "units" in said else []
    if dimension_names is not None:
        names.append(Stated("dimension_names", list(dimension_names)))
    if "element_size_um" in said:
        sizes.append(Stated("element_size_um", listed("element_size_um"), units="micrometer"))
    if "pixelResolution" in said:
        sizes.append(_pixel_resolution(said["pixelResolution"], said.get("downsamplingFactors")))
    parts = [_transform(said["transform"])] if "transform" in said else []
    parts += [_listed_axes("axes", listed("axes"))] if "axes" in said else []
    parts += [_axistags(said["axistags"])] if "axistags" in said else []
    for part in parts:
        names += part.names
        kinds += part.kinds
        sizes += part.voxel_size
        corners += part.offset
        units += part.units
    if "pixelResolution" in said and not units:
        # Nothing else says in which unit the offset beside it is.
        units = [Stated("pixelResolution.unit", _pixel_resolution(said["pixelResolution"]).units)]
    return Source(where, tuple(names), tuple(kinds), tuple(sizes), tuple(corners), tuple(units))


def shifted_transform(attributes: Mapping[str, Any], finest: Any) -> dict[str, Any]:
    """Attributes of a coarser level with the lower corner in ``transform``, where COSEM has centres.

    Parameters
    ----------
    attributes : mapping
        Of the level.
    finest
        The ``transform`` of the finest level: both are of the centres of first voxels, in a frame in which
        that of the finest level is its lower corner.

    Returns
    -------
    dict
        The attributes as they are where there is nothing to compare, or where ``offset`` has the corner.
    """
    own = attributes.get("transform")
    if "offset" in attributes or not isinstance(own, Mapping) or not isinstance(finest, Mapping):
        return dict(attributes)
    translate, scale, scale_0 = map(_numbers, (own.get("translate"), own.get("scale"), finest.get("scale")))
    if not len(translate) == len(scale) == len(scale_0) > 0:
        return dict(attributes)
    corner = [t - (s - s0) / 2 for t, s, s0 in zip(translate, scale, scale_0, strict=True)]
    return {**attributes, "transform": {**own, "translate": corner}}


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
    axes = axes_of(grid, channels)
    voxel_size = [_tidy(v) for v in grid.voxel_size]
    return {
        "offset": [_tidy(o) for o in grid.offset],
        "resolution": voxel_size,
        "voxel_size": voxel_size,
        "units": [unit_symbol(grid.units)] * grid.ndim,
        "axis_names": [name + "^" * (kind == "channel") for name, kind in axes],
        "types": [kind for _, kind in axes],
    }


def axes_of(grid: Grid, channels: int | None) -> list[tuple[str, str]]:
    """Name and kind of each axis of a volume, as files spell them.

    Parameters
    ----------
    grid : Grid
    channels : int or None

    Returns
    -------
    list of (str, str)

    Examples
    --------
    >>> axes_of(Grid(("y", "x"), (4, 4), (1, 1), (0, 0)), channels=3)
    [('c', 'channel'), ('y', 'space'), ('x', 'space')]
    """
    channel = [] if channels is None else [("c", "channel")]
    return channel + [(dim, "space") for dim in grid.dims]


def _tidy(value: float) -> float | int:
    """Whole numbers as int: funlib.persistence insists on it."""
    return int(value) if value.is_integer() else value


def _numbers(value: Any) -> list[float]:
    """A list of numbers; empty where it is none, which is told of when it is used."""
    whole = isinstance(value, list) and all(isinstance(v, int | float) for v in value)
    return value if whole else []


def _reversed(value: Any) -> Any:
    return value[::-1] if isinstance(value, list | tuple | str) else value


def _pixel_resolution(value: Any, factors: Any = None) -> Stated:
    """That of n5-viewer: with its unit, or without; x comes first in any format.

    Beside the factors of a level, it is that of the finest one [3]_. Groups have a list of factors a level.
    """
    unit = value.get("unit") if isinstance(value, Mapping) else None
    sizes = value.get("dimensions") if isinstance(value, Mapping) else value
    of_array = isinstance(factors, list) and not any(isinstance(factor, list) for factor in factors)
    return Stated(
        "pixelResolution", _reversed(sizes), units=unit, factors=factors[::-1] if of_array else None
    )


def _transform(value: Any) -> Source:
    """That of COSEM, whose lists are in the order of NumPy if nothing else is said."""
    if not isinstance(value, Mapping):
        wrong = Stated(
            "transform", problem=f"found {shown(value)}, expected axes, scale, translate and units"
        )
        return Source("", voxel_size=(wrong,), offset=(wrong,))
    order = value.get("order", value.get("ordering", "C"))
    if order not in ("C", "F", None):
        wrong = Stated("transform.order", problem=f"found {shown(order)}, expected C or F")
        return Source("", (wrong,), voxel_size=(wrong,), offset=(wrong,))

    def stated(key: str) -> tuple[Stated, ...]:
        if value.get(key) is None:
            return ()
        own, units = (
            _reversed(v) if order == "F" and isinstance(v, list) else v
            for v in (value[key], value.get("units"))
        )
        return (Stated(f"transform.{key}", own, units=units if key in ("scale", "translate") else None),)

    return Source("", stated("axes"), (), stated("scale"), stated("translate"), stated("units"))


def _listed_axes(key: str, value: Any) -> Source:
    """Axes by name, or with a name, and what else is known, for each."""
    if not isinstance(value, list | tuple) or not any(isinstance(axis, Mapping) for axis in value):
        return Source("", names=(Stated(key, value),))
    if not all(isinstance(axis, Mapping) for axis in value):
        return _no_axes(key, value)
    names = [axis.get("name") or axis.get("label") or axis.get("key") for axis in value]
    kinds, units = ([axis.get(what) for axis in value] for what in ("type", "unit"))
    return Source(
        "",
        names=(Stated(key, names),),
        kinds=(Stated(key, kinds),) if any(kinds) else (),
        units=(Stated(key, units),) if any(units) else (),
    )


def _axistags(value: Any) -> Source:
    """Those of vigra: JSON in which each axis has a key, and a resolution, 0 where that is not known."""
    key = "axistags"
    try:
        tags = json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        tags = None
    axes = tags.get("axes") if isinstance(tags, Mapping) else None
    if not isinstance(axes, list) or not axes or not all(isinstance(axis, Mapping) for axis in axes):
        return _no_axes(key, value)
    named = _listed_axes(key, axes)
    sizes = [axis.get("resolution", 0) for axis in axes]
    known = any(
        size != 0 and axis.get("key") not in ("c", "t") for size, axis in zip(sizes, axes, strict=True)
    )
    size = (Stated("resolution in axistags", sizes),) if known else ()
    return Source("", names=named.names, voxel_size=size, units=named.units)


def _no_axes(key: str, value: Any) -> Source:
    return Source("", names=(Stated(key, problem=f"found {shown(value)}, expected a name for each axis"),))
