"""OME-NGFF metadata of groups: the axes, places and levels of the arrays below them.

NGFF 0.4 (zarr format 2) and 0.5 (format 3) keep a list of ``multiscales`` on a *group*, each naming the
arrays below the group that are its levels, with a scale and a translation. Strictly read, a translation is
the centre of the first voxel; in the field, funkelab's tools and the volumes on public buckets among it, that
of level 0 is the lower corner, and that of level l is ::

    translation_l = offset + (voxel_size_l - voxel_size_0) / 2

which puts all levels into one frame. Both directions here follow the field. A level without a translation is
taken to share the lower corner of level 0.

References
----------
.. [1] https://ngff.openmicroscopy.org/0.5/
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from .checks import shown
from .grids import Grid
from .metadata import Layout, axes_of, kinds_of_axes, layout_of
from .names import check_key

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


def layout_from_multiscale(shape: Sequence[int], multiscale: Multiscale, level: int, *, where: str) -> Layout:
    """Read the axes and the place of one level of a multiscale.

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
    if not axes or not all(isinstance(axis, Mapping) and "name" in axis for axis in axes):
        raise ValueError(
            f"{where}: OME-NGFF multiscales without named axes; versions 0.4 and 0.5 can be read"
        )
    names = [axis["name"] for axis in axes]
    inferred = kinds_of_axes(len(names), names)
    kinds = [axis.get("type") or kind for axis, kind in zip(axes, inferred, strict=True)]
    scale, translation = _transformation(multiscale, level, len(axes), where)
    if level > 0:
        scale_0, translation_0 = _transformation(multiscale, 0, len(axes), where)
        if translation is None:
            translation = translation_0
        else:
            translation = [t - (s - s0) / 2 for t, s, s0 in zip(translation, scale, scale_0, strict=True)]
    known = next((axis["unit"] for axis in axes if axis.get("unit") and axis.get("type") == "space"), "")
    units = [axis.get("unit") or known for axis in axes]
    return layout_of(shape, kinds, names, voxel_size=scale, offset=translation, units=units, where=where)


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


def _are_numbers(values: Any, count: int) -> TypeGuard[list[float]]:
    whole = isinstance(values, list) and len(values) == count
    return whole and all(isinstance(value, int | float) for value in values)


def _has_path(dataset: Any) -> bool:
    return isinstance(dataset, Mapping) and isinstance(dataset.get("path"), str)


def _transformation(
    multiscale: Multiscale, level: int, ndim: int, where: str
) -> tuple[list[float], list[float] | None]:
    """Scale and translation (None if there is no word of one) of a level: its own, then all levels'."""
    scale, translation = [1.0] * ndim, None
    own = multiscale["datasets"][level].get("coordinateTransformations", [])
    for step in [*own, *multiscale.get("coordinateTransformations", [])]:
        kind = step.get("type") if isinstance(step, Mapping) else None
        values = step.get(kind) if isinstance(kind, str) else None
        if kind == "identity":
            continue
        if kind not in ("scale", "translation") or not _are_numbers(values, ndim):
            raise ValueError(f"{where}: expected scales and translations of {ndim} numbers, but found {step}")
        if kind == "scale":
            scale = [a * b for a, b in zip(scale, values, strict=True)]
            translation = translation and [a * b for a, b in zip(translation, values, strict=True)]
        else:
            translation = [a + b for a, b in zip(translation or [0.0] * ndim, values, strict=True)]
    return scale, translation
