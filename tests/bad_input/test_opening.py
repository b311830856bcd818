"""Paths that lead to no volume, and files that are damaged."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lsd_dask as ld

from ..helpers.refusals import refused
from .house import LABELS, LUT, METADATA

type Row = tuple[str, dict[str, Any], type[Exception], tuple[str, ...]]

NO_CONTAINER = "there is no zarr container at or above this path, and no image"

#: What is opened, with which options; the error, and parts of its message beside the path.
OPENED: dict[str, Row] = {
    "a folder of nothing": ("nothing", {}, FileNotFoundError, (NO_CONTAINER,)),
    "a container of nothing": ("nothing.zarr", {}, FileNotFoundError, (NO_CONTAINER,)),
    "a text file": ("note.txt", {}, FileNotFoundError, ("this file is no volume of a format that is read",)),
    "an array in a text file": ("note.zarr/raw", {}, FileNotFoundError, ("note.zarr is a file",)),
    "the metadata themselves": (
        "good.zarr/volumes/labels/zarr.json",
        {},
        ValueError,
        ("labels/zarr.json", "a file of zarr's own"),
    ),
    "a group": (
        "good.zarr/volumes",
        {},
        ValueError,
        ("this is a group, not an array", "affs, labels, noise"),
    ),
    "chunks of nothing": ("good.zarr/volumes/labels", {"chunks": 0}, ValueError, ("chunks: found 0",)),
    "negative chunks": (
        "good.zarr/volumes/labels",
        {"chunks": (4, -3, 4)},
        ValueError,
        ("chunks: found -3, expected a whole number from 1",),
    ),
    "half chunks": ("good.zarr/volumes/labels", {"chunks": (4.5, 4, 4)}, TypeError, ("chunks: found 4.5",)),
    "chunks in words": ("good.zarr/volumes/labels", {"chunks": "auto"}, TypeError, ("chunks: found 'auto'",)),
    "a negative level": ("good.zarr/volumes/labels", {"level": -1}, ValueError, ("level: found -1",)),
    "half a level": ("good.zarr/volumes/labels", {"level": 1.5}, TypeError, ("level: found 1.5",)),
    "a level in words": ("good.zarr/volumes/labels", {"level": "s0"}, TypeError, ("level: found 's0'",)),
    "one voxel size": (
        "good.zarr/volumes/labels",
        {"voxel_size": 4},
        ValueError,
        ("voxel_size: found 4, expected a number for each",),
    ),
    "a voxel size of 0": (
        "good.zarr/volumes/labels",
        {"voxel_size": (0, 4, 4)},
        ValueError,
        ("voxel sizes must be positive numbers, but are (0, 4, 4)",),
    ),
    "a voxel size of NaN": (
        "good.zarr/volumes/labels",
        {"voxel_size": (np.nan, 4, 4)},
        ValueError,
        ("positive numbers, but are (nan, 4, 4)",),
    ),
    "a voxel size in words": (
        "good.zarr/volumes/labels",
        {"voxel_size": "abc"},
        ValueError,
        ("voxel_size: found 'abc'",),
    ),
    "no voxel size on one axis": (
        "good.zarr/volumes/labels",
        {"voxel_size": (None, 4, 4)},
        ValueError,
        ("voxel_size: found (None, 4, 4)",),
    ),
    "an offset of NaN": (
        "good.zarr/volumes/labels",
        {"offset": (0, np.nan, 0)},
        ValueError,
        ("offsets must be finite numbers, but are (0, nan, 0)",),
    ),
    "an endless offset": (
        "good.zarr/volumes/labels",
        {"offset": (0, 0, np.inf)},
        ValueError,
        ("offsets must be finite",),
    ),
    "one offset": ("good.zarr/volumes/labels", {"offset": 5}, ValueError, ("offset: found 5",)),
    "a unit that is a number": ("good.zarr/volumes/labels", {"units": 4}, ValueError, ("unit", "4")),
    "metadata cut short": ("half.zarr/volumes/labels", {}, ValueError, (METADATA,)),
    "a group around them": ("half.zarr", {}, ValueError, ("zarr metadata of an array or group below",)),
    "another array beside them": (
        "half.zarr/x",
        {},
        ValueError,
        ("zarr metadata of an array or group below",),
    ),
    "metadata of nothing": ("none.zarr/volumes/labels", {}, ValueError, (METADATA,)),
    "metadata that are no text": ("bytes.zarr/volumes/labels", {}, ValueError, (METADATA,)),
    "metadata that are a list": ("list.zarr/volumes/labels", {}, ValueError, (METADATA, "list")),
    "metadata of the parent cut short": ("parent.zarr/volumes/labels", {}, ValueError, (METADATA,)),
    "metadata of another shape": ("shape.zarr/volumes/labels", {}, ValueError, (METADATA, "dimensions")),
    "metadata of a negative shape": (
        "negative.zarr/volumes/labels",
        {},
        ValueError,
        (METADATA, "[-1, 8, 8]"),
    ),
    "metadata of an unknown type": ("type.zarr/volumes/labels", {}, ValueError, (METADATA, "words")),
    "metadata of an unknown codec": ("codec.zarr/volumes/labels", {}, ValueError, (METADATA, "gnome")),
    "format 2 cut short": ("v2_array.zarr/labels", {}, ValueError, (METADATA,)),
    "attributes of format 2 cut short": ("v2_attributes.zarr/labels", {}, ValueError, (METADATA,)),
    "a group of format 2 cut short": ("v2_group.zarr/labels", {}, ValueError, (METADATA,)),
    "one stored resolution": (
        "attributes.zarr/scalar",
        {},
        ValueError,
        ("resolution: found 4, expected a list of positive numbers",),
    ),
    "a stored resolution in words": (
        "attributes.zarr/text",
        {},
        ValueError,
        ("resolution: found '4, 4, 4'",),
    ),
    "stored resolutions of letters": (
        "attributes.zarr/words",
        {},
        ValueError,
        ("resolution: found ['a', 'b'",),
    ),
    "a stored resolution of NaN": (
        "attributes.zarr/nan",
        {},
        ValueError,
        ("resolution: found [4, nan, 4], expected a list of positive numbers",),
    ),
    "a stored offset of nothing": ("attributes.zarr/null", {}, ValueError, ("offset: found [None, 0, 0]",)),
    "one stored offset": (
        "attributes.zarr/corner",
        {},
        ValueError,
        ("offset: found 5, expected a list of finite numbers",),
    ),
    "a stored unit that is a number": ("attributes.zarr/unit", {}, ValueError, ("units: found 5",)),
    "stored units in lists": ("attributes.zarr/units", {}, ValueError, ("units: found [['nm'], ['nm']",)),
    "stored axes that are numbers": (
        "attributes.zarr/numbered",
        {},
        ValueError,
        ("axis_names: found [1, 2, 3]",),
    ),
    "stored axes of no kind": ("attributes.zarr/kinds", {}, ValueError, ("'space', 'smell'",)),
    "OME metadata that are a word": ("ome_word.zarr", {}, ValueError, ("OME-NGFF metadata", "'hello'")),
    "multiscales that are no list": ("ome_mapping.zarr", {}, ValueError, ("OME-NGFF metadata", "{'a': 1}")),
    "levels without paths": ("ome_pathless.zarr", {}, ValueError, ("need datasets with paths, but found",)),
    "scales of letters": (
        "ome_words.zarr",
        {},
        ValueError,
        ("scales and translations of 3 numbers", "['a', 'b'"),
    ),
    "too few scales": ("ome_short.zarr", {}, ValueError, ("scales and translations of 3 numbers", "[4, 4]")),
    "a scale of 0": (
        "ome_zero.zarr",
        {},
        ValueError,
        ("found (4.0, 4.0, 0.0), expected a list of positive numbers",),
    ),
    "an HDF5 file cut early": ("cut1.h5/noise", {}, ValueError, ("damaged or was cut short", "truncated")),
    "an HDF5 file cut late": ("cut9.h5/noise", {}, ValueError, ("damaged or was cut short", "truncated")),
    "words in an HDF5 file": (
        "good.h5/words",
        {},
        ValueError,
        ("expected axes [channel,] z, y, x", "shape ()"),
    ),
    "a folder called like an HDF5 file": ("folder.h5/noise", {}, FileNotFoundError, ("no such HDF5 file",)),
    "sections of different shapes": (
        "uneven",
        {},
        ValueError,
        ("s1.png: expected a section of shape (8, 8)", "found (8, 9)"),
    ),
    "two voxel sizes of a stack": (
        "second",
        {"voxel_size": (4, 4)},
        ValueError,
        ("voxel_size needs 3 numbers (z, y, x), but has 2",),
    ),
    "pages cut short": ("pages.tif", {}, ValueError, ("the list of pages leads to byte", "cut short")),
    "pages of a large file cut short": (
        "large.tif",
        {},
        ValueError,
        ("the list of pages leads to", "cut short"),
    ),
    "text called like an image": ("note.tif", {}, ValueError, ("this is no image that can be read",)),
    "a folder called like an image": (
        "folder.tif",
        {},
        FileNotFoundError,
        ("no image files are in this folder",),
    ),
}


@pytest.mark.parametrize("case", OPENED)
def test_what_is_no_volume_is_not_opened(house: Path, case: str) -> None:
    path, options, error, parts = OPENED[case]
    container = str(house / path.split("/", maxsplit=1)[0])
    refused(house, lambda: ld.open_volume(house / path, **options), error, container, *parts)


@pytest.mark.parametrize(
    ("path", "error", "parts"),
    [
        (None, TypeError, ("path: found None, expected a path or URL",)),
        (LABELS, TypeError, ("path: found a ndarray",)),
        ("", ValueError, ("path: found ''",)),
        ("nonsense://em.zarr/raw", ValueError, ("nonsense://em.zarr/raw: found the protocol 'nonsense'",)),
    ],
    ids=["nothing", "an array", "empty", "an unknown protocol"],
)
def test_what_is_no_path_is_not_opened_or_written(
    house: Path, path: Any, error: type[Exception], parts: tuple[str, ...]
) -> None:
    refused(house, lambda: ld.open_volume(path), error, *parts)
    refused(house, lambda: ld.save_volume(LABELS, path), error, *parts)


#: What can be opened, but not be read; parts of the message.
READ = {
    "a shard cut short": ("shard.zarr/volumes/noise", "voxels [0:8, 0:8, 0:8] cannot be read"),
    "a shard of nothing": ("shard_none.zarr/volumes/noise", "was a file of the array cut short?"),
    "a shard of something else": ("shard_other.zarr/volumes/noise", "was a file of the array cut short?"),
    "a chunk of format 2 cut short": ("v2_chunk.zarr/noise", "was a file of the array cut short?"),
    "HDF5 damaged inside": ("damaged.h5/noise", "the HDF5 file is damaged or was cut short"),
    "a first section cut short": ("first", "s0.png: the image is damaged or was cut short"),
    "a second section cut short": ("second", "s1.png: the image is damaged or was cut short"),
}


@pytest.mark.parametrize("case", READ)
def test_what_is_cut_short_is_neither_zeros_nor_something_else(house: Path, case: str) -> None:
    path, part = READ[case]
    volume = ld.open_volume(house / path)
    refused(house, lambda: volume.compute(), ValueError, str(house / path), part)


@pytest.mark.parametrize(
    "case", ["a shard cut short", "a chunk of format 2 cut short", "HDF5 damaged inside"]
)
def test_what_is_made_of_something_cut_short_names_it(house: Path, case: str) -> None:
    path, part = READ[case]
    volume = ld.open_volume(house / path)
    for made in (
        ld.affinities(volume),
        ld.local_shape_descriptors(volume, 2.0),
        ld.relabel(volume, LUT),
    ):
        refused(house, made.compute, ValueError, str(house / path), part)
    refused(house, lambda: ld.evaluation.rand_voi(volume, volume), ValueError, str(house / path), part)
