"""Sections for a report: of a result with what it was made of, and of what a network learns from."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from lsd_dask import viewing
from lsd_dask.space.grids import Grid, Region
from lsd_dask.viewer.contents import Kind, contents_of, kind_of
from lsd_dask.viewing.figures import as_png
from lsd_dask.volumes.dask_arrays import label
from lsd_dask.volumes.opening import open_stored
from lsd_dask.volumes.stored import StoredVolume

#: Voxels along each axis of the section that is drawn, at most; and panels.
_WINDOW, _PANELS = 512, 8

_ORDER = ("image", "affinities", "descriptors", "labels")


def draw_result(container: str, identities: Sequence[Mapping[str, Any]]) -> tuple[bytes | None, list[str]]:
    """Draw a section of everything that a container holds, and of what its steps read elsewhere.

    Parameters
    ----------
    container
        Path or URL.
    identities
        What the steps were told; volumes that are named there are drawn, too.

    Returns
    -------
    picture : bytes or None
        PNG; None where there is no volume.
    problems : list of str
        What is wrong with the volumes that could not be read.
    """
    volumes = _volumes(container, identities)
    if not volumes:
        return None, []
    kinds = _kinds(volumes)
    # Of the last one, as a result is smaller than what it was made of, if they differ.
    return _draw(volumes, kinds, _middle(volumes[list(kinds)[-1]].grid))


def draw_training_volume(
    raw_path: str,
    labels_path: str,
    offset: Sequence[float | str] | None = None,
    shape: Sequence[float | str] | None = None,
) -> tuple[bytes | None, list[str]]:
    """Draw a section of raw data with their labels.

    Parameters
    ----------
    raw_path, labels_path
        Paths or URLs of the volumes.
    offset, shape
        Region of the labels, in world units; by default all of them.

    Returns
    -------
    picture : bytes or None
        PNG; None where there is nothing to draw.
    problems : list of str
        What is wrong with the volumes that could not be read.
    """
    try:
        volumes = {"raw": open_stored(raw_path), "labels": open_stored(labels_path)}
        grid = volumes["labels"].grid
        if offset is not None and shape is not None:
            grid = grid.crop(grid.region(offset, shape))
    except (FileNotFoundError, ValueError) as error:
        # They may have been moved or replaced since.
        return None, [str(error)]
    return _draw(volumes, {"raw": "image", "labels": "labels"}, _middle(grid))


def _kinds(volumes: Mapping[str, StoredVolume]) -> dict[str, Kind]:
    """Kinds of volumes, what is drawn first before all others."""
    kinds = {name: kind_of(name, v.dtype, v.channels, v.grid.ndim) for name, v in volumes.items()}
    return dict(sorted(kinds.items(), key=lambda item: _ORDER.index(item[1])))


def _draw(
    volumes: Mapping[str, StoredVolume], kinds: Mapping[str, Kind], place: Grid
) -> tuple[bytes | None, list[str]]:
    drawn: dict[str, Any] = {}
    problems = []
    for name in kinds:
        try:
            section = _section(volumes[name], place)
        except ValueError as error:
            # A page about a run that failed is to be written all the same.
            problems.append(str(error))
            continue
        if section is not None:
            drawn[name] = _shown(section, kinds[name])
    images = [name for name in drawn if kinds[name] == "image"]
    labels = [name for name in drawn if kinds[name] == "labels"]
    panels = dict(list(drawn.items())[-_PANELS:])
    if images and labels:
        panels[f"{labels[-1]} over {images[0]}"] = (drawn[images[0]], drawn[labels[-1]])
    return as_png(viewing.draw_sections(panels)) if panels else None, problems


def _shown(section: xr.DataArray, kind: Kind) -> xr.DataArray:
    """What is drawn of a section: of descriptors the offsets, where all are there; of images one channel."""
    if kind == "descriptors" and section.sizes["channel"] in (6, 10):
        offsets: xr.DataArray = viewing.descriptor_images(section)["mean offset"]
        return offsets
    if kind == "labels" and section.dtype.itemsize < 4:
        # Integers of fewer bits are drawn in grey.
        return section.astype(np.uint32)
    return section.isel(channel=0) if kind == "image" and "channel" in section.dims else section


def _volumes(container: str, identities: Sequence[Mapping[str, Any]]) -> dict[str, StoredVolume]:
    """All volumes by name, those of intermediate results left out."""
    try:
        found = dict(contents_of(container).volumes)
    except ValueError:
        # A container of tables alone.
        found = {}
    known = {stored.path for stored in found.values()}
    for path in {path for identity in identities for path in _paths_in(identity)} - known:
        try:
            stored = open_stored(path)
        except (FileNotFoundError, ValueError):
            # What was read then may have been moved or replaced since.
            continue
        found.setdefault(stored.name if stored.name not in found else path, stored)
    return {name: stored for name, stored in found.items() if not name.endswith("_unrefined")}


def _paths_in(identity: Any) -> Iterator[str]:
    """Paths of the volumes that are named somewhere in an identity."""
    if not isinstance(identity, Mapping):
        return
    if "path" in identity and "layout" in identity:
        yield identity["path"]
    for value in identity.values():
        yield from _paths_in(value)


def _middle(grid: Grid) -> Grid:
    """One section, at most so large, in the middle of a volume."""
    region: list[slice] = []
    for axis, n in enumerate(grid.shape):
        size = 1 if grid.ndim == 3 and axis == 0 else min(n, _WINDOW)
        region.append(slice((n - size) // 2, (n - size) // 2 + size))
    return grid.crop(tuple(region))


def _section(stored: StoredVolume, place: Grid) -> xr.DataArray | None:
    """The voxels of a volume in some place; None if it has others, or does not cover it."""
    if stored.grid.dims != place.dims:
        return None
    try:
        grid = stored.grid.in_units_of(place)
        size = [e - o for o, e in zip(place.offset, place.end, strict=True)]
        region: Region = grid.region(place.offset, size)
    except ValueError:
        return None
    if not grid.has_voxels_of(place):
        return None
    section = label(stored.read(region), place, stored.name)
    return section.isel(z=0) if place.ndim == 3 else section
