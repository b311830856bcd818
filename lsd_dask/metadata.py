"""What attributes say about the axes and the place of an array: how it is a volume.

funkelab (daisy, gunpowder, funlib.persistence) keeps ``offset``, ``resolution`` or ``voxel_size``, ``units``
and ``axis_names`` on the array, in world units and for the spatial axes only; `offset` is the lower corner of
the volume. OME-NGFF is the subject of `lsd_dask.ngff`.

How volumes are written
-----------------------
Readers of funkelab's arrays expect an *array* at the path of a volume; OME readers expect a *group* that
describes it. Both are served without storing anything twice: the array ``out.zarr/volumes/fragments`` carries
the funkelab attributes, and its parent ``out.zarr/volumes`` carries one entry of ``multiscales`` per volume,
called after the array. NGFF allows several entries in a group, to be chosen by name.

References
----------
.. [1] https://github.com/funkelab/funlib.persistence
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

from .checks import shown
from .grids import Grid, spatial_dims
from .units import unit_name, unit_symbol


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
    voxel_size = _entries(attributes, "voxel_size", "resolution", where=where)
    offset = _entries(attributes, "offset", where=where)
    if voxel_size is not None and offset is not None and len(voxel_size) != len(offset):
        raise ValueError(f"{where}: voxel_size {list(voxel_size)} and offset {list(offset)} differ in length")
    names = _entries(attributes, "axis_names", "_ARRAY_DIMENSIONS", where=where, of=str) or axis_names
    kinds = _entries(attributes, "types", where=where, of=str) or kinds_of_axes(
        len(shape), names, voxel_size or offset
    )
    units = attributes.get("units") or ("voxel" if voxel_size is None else "nanometer")
    return layout_of(shape, kinds, names, voxel_size=voxel_size, offset=offset, units=units, where=where)


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


def kinds_of_axes(
    ndim: int, names: Sequence[str | None] | None, per_spatial_axis: Sequence[Any] | None = None
) -> list[str]:
    """Tell channel, time and space apart; with nothing to go by, a fourth axis in front is channels.

    Parameters
    ----------
    ndim : int
        Number of axes.
    names : sequence of str or None
        Their names; funkelab marks channels with ``^``.
    per_spatial_axis : sequence, optional
        Something with one entry per spatial axis, for arrays without names.

    Returns
    -------
    list of str
        ``"channel"``, ``"time"`` or ``"space"`` for each axis.

    Examples
    --------
    >>> kinds_of_axes(4, ["c^", "z", "y", "x"])
    ['channel', 'space', 'space', 'space']
    >>> kinds_of_axes(3, None, (4, 4))
    ['channel', 'space', 'space']
    """
    if names is not None and any(names):
        kinds = [_kind(name) for name in names]
        return kinds if kinds.count("space") < 4 else ["channel", *kinds[1:]]
    n_spatial = 0 if per_spatial_axis is None else len(per_spatial_axis)
    if n_spatial not in (2, 3) or n_spatial not in (ndim - 1, ndim):
        n_spatial = min(ndim, 3)
    return ["channel"] * (ndim - n_spatial) + ["space"] * n_spatial


def layout_of(
    shape: Sequence[int],
    kinds: Sequence[str],
    names: Sequence[str | None] | None,
    *,
    voxel_size: Sequence[float] | None,
    offset: Sequence[float] | None,
    units: str | Sequence[str],
    where: str,
) -> Layout:
    """Check what is known of the axes of a stored array, and put it together.

    Parameters
    ----------
    shape : sequence of int
    kinds : sequence of str
        As `kinds_of_axes` gives them.
    names : sequence of str or None
        Names of the axes, where they have any.
    voxel_size, offset, units
        With one entry per axis, or one per spatial axis; None for 1 and 0.
    where : str
        The array's path, for messages.

    Returns
    -------
    Layout

    Raises
    ------
    ValueError
        If the entries do not fit the axes or one another, or the axes are not ``[channel,] z, y, x``.
    """
    for given in (kinds, names):
        if given is not None and len(given) != len(shape):
            named = f"its metadata names {len(given)}: {list(given)}"
            raise ValueError(f"{where}: the array has {len(shape)} axes, but {named}")
    dropped, dims = _check_axes(shape, list(kinds), names, where)
    spatial = tuple(dim for dim in dims if dim != "channel")
    n = len(spatial)
    all_units = [units] * n if isinstance(units, str) else units
    if not isinstance(all_units, list | tuple) or not all(isinstance(unit, str) for unit in all_units):
        raise ValueError(f"{where}: units: found {shown(units)}, expected the name of one, or one an axis")
    all_units = _spatial(all_units, kinds, "units", where)
    unit_names = {unit_name(unit) for unit in all_units}
    if len(unit_names) > 1:
        raise ValueError(f"{where}: all axes need the same unit, but they have {sorted(unit_names)}")
    sizes = [1.0] * n if voxel_size is None else _spatial(voxel_size, kinds, "voxel_size", where)
    corner = [0.0] * n if offset is None else _spatial(offset, kinds, "offset", where)
    try:
        grid = Grid(spatial, tuple(shape[-n:]), tuple(sizes), tuple(corner), *unit_names)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    return Layout(grid, dims, dropped)


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
    while kinds[dropped : dropped + 1] == ["time"]:
        if shape[dropped] != 1:
            raise ValueError(f"{where}: expected a single time point, but found {found}")
        dropped += 1
    rest = kinds[dropped:]
    n_channel, n_spatial = rest.count("channel"), rest.count("space")
    ordered = ["channel"] * n_channel + ["space"] * n_spatial
    if n_channel > 1 or n_spatial not in (2, 3) or rest != ordered:
        raise ValueError(f"{where}: expected axes [channel,] z, y, x or [channel,] y, x, but found {found}")
    dims = spatial_dims(n_spatial)
    spatial_names = tuple(names[-n_spatial:]) if names else dims
    if spatial_names != dims and set(spatial_names) == set(dims):
        raise ValueError(f"{where}: expected spatial axes in the order {', '.join(dims)}, but found {found}")
    return dropped, ("channel",) * n_channel + dims


def _spatial(values: Sequence[Any], kinds: Sequence[str], what: str, where: str) -> list[Any]:
    """Keep the entries of the spatial axes from a list with one per axis, or one per spatial axis."""
    n_spatial = list(kinds).count("space")
    if len(values) == n_spatial:
        return list(values)
    if len(values) == len(kinds):
        return [value for value, kind in zip(values, kinds, strict=True) if kind == "space"]
    expected = f"{n_spatial} entries, one per spatial axis"
    raise ValueError(f"{where}: {what} needs {expected}, but has {len(values)}: {list(values)}")


def _first(attributes: Mapping[str, Any], *keys: str) -> Any:
    """Value of the first key that has one."""
    return next((attributes[key] for key in keys if attributes.get(key) is not None), None)


def _entries(attributes: Mapping[str, Any], *keys: str, where: str, of: type | None = None) -> Any:
    """List that the first key with a value has: of numbers, unless `of` says something else."""
    value = _first(attributes, *keys)
    if value is None or (of is str and isinstance(value, str)):
        return value
    kind = Real if of is None else of
    if not isinstance(value, list | tuple) or not all(isinstance(item, kind) for item in value):
        found = next(key for key in keys if attributes.get(key) is not None)
        expected = "numbers" if of is None else "names"
        raise ValueError(
            f"{where}: {found}: found {shown(value)}, expected a list of {expected}, one an axis"
        )
    return value


def _tidy(value: float) -> float | int:
    """Whole numbers as int: funlib.persistence insists on it."""
    return int(value) if value.is_integer() else value
