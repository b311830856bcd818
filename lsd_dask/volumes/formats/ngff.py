"""OME-NGFF metadata of groups: the axes, places and levels of the arrays below them.

NGFF 0.4 (zarr format 2), 0.5 and 0.6 (format 3) keep a list of ``multiscales`` on a *group*, each naming the
arrays below the group that are its levels, with a scale and a translation. In 0.6, these lead to one of
several coordinate systems, which has the axes; where others are reached from there, volumes stay in that one,
as the standard advises. Strictly read, a translation is
the centre of the first voxel; in the field, funkelab's tools and the volumes on public buckets among it, that
of level 0 is the lower corner, and that of level l is ::

    translation_l = offset + (voxel_size_l - voxel_size_0) / 2

which puts all levels into one frame. Both directions here follow the field. A level without a translation is
taken to share the lower corner of level 0.

References
----------
.. [1] https://ngff.openmicroscopy.org/0.5/
.. [2] https://ngff.openmicroscopy.org/rfc/5/
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ...checks.arguments import shown
from ...space.grids import Grid
from ...space.units import UNKNOWN
from ...storage.names import check_key
from .attributes import axes_of, shifted_transform, source_from_attributes
from .axes import kind_of
from .layouts import Source, Stated
from .transformations import Placement

type Multiscale = Mapping[str, Any]


def multiscales_of(attributes: Mapping[str, Any], *, where: str) -> list[Multiscale]:
    """List the multiscales of a group; empty where it has none.

    Parameters
    ----------
    attributes : mapping
        Attributes of the group. NGFF 0.5 keeps its metadata below ``"ome"``, 0.4 at the top.
    where : str
        The group's path, for messages.

    Returns
    -------
    list of mapping

    Raises
    ------
    ValueError
        If one of them names no arrays.
    """
    ome = attributes.get("ome", attributes)
    multiscales = ome.get("multiscales", []) if isinstance(ome, Mapping) else ome
    if not isinstance(multiscales, list) or not all(isinstance(item, Mapping) for item in multiscales):
        raise ValueError(f"{where}: expected OME-NGFF metadata with multiscales, but found {shown(ome)}")
    for multiscale in multiscales:
        datasets = multiscale.get("datasets")
        if not isinstance(datasets, list) or not datasets or not all(map(_has_path, datasets)):
            raise ValueError(f"{where}: OME-NGFF multiscales need datasets with paths, but found {datasets}")
        for dataset in datasets:
            check_key(dataset["path"].strip("/"), f"{where}: OME-NGFF multiscales: datasets")
    return multiscales


def paths_of(multiscale: Multiscale) -> list[str]:
    """Paths of the levels of a multiscale, relative to its group, finest first.

    Parameters
    ----------
    multiscale : mapping
        One of `multiscales_of`.

    Returns
    -------
    list of str
    """
    return [dataset["path"] for dataset in multiscale["datasets"]]


def source_of_multiscale(multiscale: Multiscale, level: int, *, where: str) -> Source:
    """Read what a multiscale says of one of its levels.

    Parameters
    ----------
    multiscale : mapping
        One of `multiscales_of`.
    level : int
        Index into its datasets.
    where : str
        The group's path, for messages.

    Returns
    -------
    Source
        What cannot be used of it is refused when no other source states it.
    """
    where = f"the multiscale in {where}"
    dataset = multiscale["datasets"][level]
    if "transform" in dataset and "coordinateTransformations" not in dataset:
        finest = multiscale["datasets"][0].get("transform")
        return source_from_attributes(shifted_transform(dataset, finest), where=where)
    try:
        axes, key = _axes(multiscale, level)
        placement = Placement.of_array(len(axes))
    except ValueError as error:
        problem = Stated("axes", problem=str(error))
        return Source(where, (problem,), (problem,), (problem,), (problem,))
    length = "coordinateTransformations"
    try:
        placement = _placement(multiscale, level, len(axes))
        size, corner = placement.along_array("scale"), placement.along_array("translation")
        if level > 0:
            finest = _placement(multiscale, 0, len(axes))
            size_0, corner_0 = finest.along_array("scale"), finest.along_array("translation")
            if placement.shifted:
                shifts = zip(corner, size, size_0, strict=True)
                corner_0 = tuple(c - (s - s0) / 2 for c, s, s0 in shifts)
            corner = corner_0
        lengths = Stated(length, size), Stated(length, corner)
    except ValueError as error:
        lengths = Stated(length, problem=str(error)), Stated(length, problem=str(error))
    along = [axes[placement.order.index(axis)] for axis in range(len(axes))]
    names, kinds, units = ([axis.get(what) for axis in along] for what in ("name", "type", "unit"))
    # What the field leaves out of axes of channels and time is no gap, but out of one of space it is.
    of_space = [unit for unit, kind in zip(units, kinds, strict=True) if kind_of(kind) in (None, "space")]
    return Source(
        where,
        names=(Stated(key, names),),
        kinds=(Stated(key, kinds),),
        # A scale of 1 may stand for one that is not known.
        voxel_size=() if lengths[0].value and set(lengths[0].value) == {1.0} else (lengths[0],),
        offset=(lengths[1],),
        units=(Stated(key, units),) if any(of_space) else (),
        assumed_unit=UNKNOWN,
    )


def add_multiscale(
    attributes: Mapping[str, Any],
    name: str,
    zarr_format: int,
    *,
    grid: Grid,
    channels: int | None,
    coarser: Mapping[str, Grid] | None = None,
) -> dict[str, Any]:
    """Describe an array, and its coarser levels, in the metadata of its parent group.

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
    coarser : mapping of str to Grid, optional
        Path in the group and grid of each coarser level, finest first.

    Returns
    -------
    dict
        The attributes to change: ``"ome"`` or ``"multiscales"``.
    """
    entry = multiscale_of(name, {name: grid, **(coarser or {})}, channels=channels)
    there = multiscales_of(attributes, where=name)
    others = [other for other in there if paths_of(other)[0] != name]
    # In its old place: many readers look at the first entry alone.
    place = next((n for n, other in enumerate(there) if paths_of(other)[0] == name), len(others))
    return group_attributes(attributes, [*others[:place], entry, *others[place:]], zarr_format)


def multiscale_of(name: str, levels: Mapping[str, Grid], *, channels: int | None) -> dict[str, Any]:
    """The entry of a volume in the list of multiscales of a group.

    Parameters
    ----------
    name : str
        Of the volume.
    levels : mapping of str to Grid
        Path in the group and grid of each level, finest first.
    channels : int or None
        Number of channels; None for a volume without a channel axis.

    Returns
    -------
    dict

    Examples
    --------
    >>> fine = Grid(("y", "x"), (8, 8), (4, 4), (80, 0))
    >>> coarse = Grid(("y", "x"), (4, 4), (8, 8), (80, 0))
    >>> for dataset in multiscale_of("raw", {"s0": fine, "s1": coarse}, channels=None)["datasets"]:
    ...     print(dataset["path"], dataset["coordinateTransformations"][1]["translation"])
    s0 [80.0, 0.0]
    s1 [82.0, 2.0]
    """
    finest = next(iter(levels.values()))
    axes = axes_of(finest, channels)
    unit = {} if finest.units == "voxel" else {"unit": finest.units}
    return {
        "name": name,
        "axes": [{"name": n, "type": kind, **(unit if kind == "space" else {})} for n, kind in axes],
        "datasets": [
            {"path": path, "coordinateTransformations": _transformations(grid, finest, len(axes))}
            for path, grid in levels.items()
        ],
    }


def group_attributes(
    attributes: Mapping[str, Any], multiscales: Sequence[Multiscale], zarr_format: int, **more: Any
) -> dict[str, Any]:
    """What to change in the attributes of a group so that it has these multiscales.

    Parameters
    ----------
    attributes : mapping
        Attributes of the group so far.
    multiscales : sequence of mapping
        As `multiscale_of` gives them.
    zarr_format : int
        3 gives NGFF 0.5, 2 gives NGFF 0.4.
    **more
        Other keys of the metadata, such as ``image-label``.

    Returns
    -------
    dict
    """
    if zarr_format == 2:
        return {"multiscales": [{"version": "0.4", **entry} for entry in multiscales], **more}
    ome = {"version": "0.5", **attributes.get("ome", {}), "multiscales": list(multiscales), **more}
    return {"ome": ome}


def _transformations(grid: Grid, finest: Grid, n_axes: int) -> list[dict[str, Any]]:
    lead = n_axes - grid.ndim
    shifts = zip(grid.offset, grid.voxel_size, finest.voxel_size, strict=True)
    translation = [offset + (size - size_0) / 2 for offset, size, size_0 in shifts]
    return [
        {"type": "scale", "scale": [1.0] * lead + list(grid.voxel_size)},
        {"type": "translation", "translation": [0.0] * lead + translation},
    ]


def _has_path(dataset: Any) -> bool:
    return isinstance(dataset, Mapping) and isinstance(dataset.get("path"), str)


def _axes(multiscale: Multiscale, level: int) -> tuple[list[Mapping[str, Any]], str]:
    """Axes of the coordinate system that a level is placed in, and the key they stand under."""
    axes, key = multiscale.get("axes"), "axes"
    if "coordinateSystems" in multiscale:
        name = _intrinsic(multiscale, level)
        axes, key = _systems(multiscale)[name].get("axes"), f"coordinateSystems {name!r}"
    if not isinstance(axes, list) or not axes or not all(map(_is_axis, axes)):
        raise ValueError(
            f"found {shown(axes)}, OME-NGFF multiscales without named axes; versions 0.4, 0.5 and 0.6 can be "
            "read"
        )
    return axes, key


def _is_axis(axis: Any) -> bool:
    texts = [axis.get("name"), axis.get("type"), axis.get("unit")] if isinstance(axis, Mapping) else [None]
    return isinstance(texts[0], str) and all(isinstance(text, str | None) for text in texts)


def _systems(multiscale: Multiscale) -> dict[str, Mapping[str, Any]]:
    systems = multiscale["coordinateSystems"]
    named = isinstance(systems, list) and all(
        isinstance(system, Mapping) and isinstance(system.get("name"), str) for system in systems
    )
    if not named or len({system["name"] for system in systems}) != len(systems):
        raise ValueError(f"coordinateSystems: found {shown(systems)}, expected a list with a name for each")
    return {system["name"]: system for system in systems}


def _intrinsic(multiscale: Multiscale, level: int) -> str:
    """The coordinate system that levels are placed in: of physical lengths, before any registration."""
    names = list(_systems(multiscale))
    steps = _steps(multiscale["datasets"][level])
    stated = [name for step in steps if (name := _system_of(step.get("output")))]
    if not stated and len(names) == 1:
        return names[0]
    if not stated or stated[-1] not in names:
        raise ValueError(
            f"coordinateTransformations: found the output {stated[-1:]}, expected one of {names}"
        )
    return stated[-1]


def _steps(owner: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    steps = owner.get("coordinateTransformations") or []
    if not isinstance(steps, list) or not all(isinstance(step, Mapping) for step in steps):
        raise ValueError(f"found {shown(steps)}, expected a list of transformations")
    return steps


def _system_of(end: Any) -> str | None:
    """Name of an input or output, which early drafts have as a text."""
    end = (end.get("name") or end.get("path")) if isinstance(end, Mapping) else end
    return end if isinstance(end, str) and end else None


def _placement(multiscale: Multiscale, level: int, ndim: int) -> Placement:
    dataset = multiscale["datasets"][level]
    steps = _steps(dataset)
    shared = _steps(multiscale)
    if "coordinateSystems" in multiscale:
        intrinsic = _intrinsic(multiscale, level)
        if _intrinsic(multiscale, 0) != intrinsic:
            raise ValueError("found levels in different coordinate systems, expected the same output for all")
        at = [dataset["path"], *(_system_of(step.get("output")) for step in steps)]
        for step, here in zip(steps[1:], at[1:], strict=False):
            if here and _system_of(step.get("input")) not in (None, here):
                raise ValueError(f"found {shown(step)}, expected one that goes on from {here!r}")
        # These lead from there to other coordinate systems.
        shared = [step for step in shared if _system_of(step.get("output")) in (None, intrinsic)]
    return Placement.of_array(ndim).then([*steps, *shared])
