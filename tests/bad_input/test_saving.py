"""Volumes that cannot be saved, created or written, and places where they cannot be."""

from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from dask.delayed import delayed

import lsd_dask as ld
from lsd_dask.volumes.stored import StoredVolume

from ..helpers.refusals import refused
from .house import AFFINITIES, LABELS, METADATA, ZYX, cut, named, placed

DEPTHS = [0, 1, 2, 3, 4, 5, 6, 9]

#: What is saved, with which options; the error and parts of its message.
SAVED: dict[str, tuple[Any, dict[str, Any], type[Exception], str]] = {
    "a list": ([[1, 2], [3, 4]], {}, TypeError, "volume: found a list, expected a NumPy array"),
    "text": ("labels", {}, TypeError, "volume: found the text 'labels'"),
    "nothing": (None, {}, TypeError, "volume: found None"),
    "a promise": (delayed(LABELS), {}, TypeError, "volume: found a Delayed"),
    "a data set": (xr.Dataset({"a": named(*ZYX)}), {}, TypeError, "volume: found a Dataset"),
    "a row": (np.ones(4), {}, ValueError, "not 1 axes"),
    "five axes": (np.ones((1, 1, 2, 2, 2)), {}, ValueError, "not 5 axes"),
    "objects": (
        np.array([[1, None]], object),
        {},
        ValueError,
        "expected numbers, but the array holds object",
    ),
    "words": (np.array([["a", "b"]]), {}, ValueError, "expected numbers, but the array holds <U1"),
    "complex numbers": (np.ones((4, 4), complex), {}, ValueError, "but the array holds complex128"),
    "dates": (np.zeros((4, 4), "M8[s]"), {}, ValueError, "but the array holds datetime64[s]"),
    "records": (np.zeros((4, 4), [("a", "i4")]), {}, ValueError, "but the array holds [('a', '<i4')]"),
    "numbers of 16 bytes": (np.zeros((4, 4), np.longdouble), {}, ValueError, "the array holds float128"),
    "an unknown shape": (
        da.from_array(LABELS)[da.from_array(LABELS[:, 0, 0]) > 1],
        {},
        ValueError,
        "shape (nan, 8, 8), which is not known yet",
    ),
    "one voxel size": (LABELS, {"voxel_size": 4}, ValueError, "voxel_size: found 4"),
    "a voxel size of 0": (LABELS, {"voxel_size": (0, 4, 4)}, ValueError, "but are (0, 4, 4)"),
    "a negative voxel size": (LABELS, {"voxel_size": (-4, 4, 4)}, ValueError, "but are (-4, 4, 4)"),
    "too many voxel sizes": (
        LABELS,
        {"voxel_size": (1,) * 4},
        ValueError,
        "voxel_size needs 3 numbers (z, y, x)",
    ),
    "one offset": (LABELS, {"offset": 0}, ValueError, "offset: found 0"),
    "too few offsets": (
        LABELS,
        {"offset": (0, 0)},
        ValueError,
        "offset needs 3 numbers (z, y, x), but has 2",
    ),
    "a unit that is a number": (
        LABELS,
        {"units": 5},
        ValueError,
        "units must be the name of a unit, but are 5",
    ),
    "a second place": (named(*ZYX), {"voxel_size": (1, 1, 1)}, ValueError, "a DataArray knows its place"),
    "blocks of nothing": (
        LABELS,
        {"block_shape": (0, 4, 4)},
        ValueError,
        "block_shape needs 3 positive numbers",
    ),
    "half blocks": (LABELS, {"block_shape": (4.5, 4, 4)}, TypeError, "block_shape: found 4.5"),
    "one block size": (LABELS, {"block_shape": 4}, TypeError, "block_shape: found 4, expected a sequence"),
    "blocks of channels": (
        AFFINITIES,
        {"block_shape": (3, 4, 4, 4)},
        ValueError,
        "block_shape needs 3 positive",
    ),
    "blocks that chunks do not divide": (
        LABELS,
        {"block_shape": (4, 4, 4), "chunk_shape": (3, 3, 3)},
        ValueError,
        "block_shape (4, 4, 4) must be a multiple of chunk_shape (3, 3, 3)",
    ),
    "format 1": (LABELS, {"zarr_format": 1}, ValueError, "zarr_format: found 1, expected 2 or 3"),
    "another format": (
        LABELS,
        {"zarr_format": 2},
        ValueError,
        "has zarr format 3, and cannot hold arrays of",
    ),
    "axes in another order": (named("x", "y", "z"), {}, ValueError, "found ('x', 'y', 'z')"),
    "channels at the end": (named(*ZYX, "channel"), {}, ValueError, "found ('z', 'y', 'x', 'channel')"),
    "uneven coordinates": (
        named(*ZYX, coords={"z": DEPTHS}),
        {},
        ValueError,
        "the z coordinates of None are not evenly",
    ),
    "coordinates of NaN": (
        named(*ZYX, coords={"z": [0, 1, 2, np.nan, 4, 5, 6, 7]}),
        {},
        ValueError,
        "the z coordinates of None are not evenly spaced",
    ),
    "coordinates in words": (
        named(*ZYX, coords={"z": list("abcdefgh")}),
        {},
        ValueError,
        "the z coordinates of None hold <U1, expected world positions",
    ),
    "flipped": (placed(LABELS)[::-1], {}, ValueError, "not evenly spaced and ascending"),
    "an attribute in words": (named(*ZYX, attrs={"voxel_size": "abc"}), {}, ValueError, "found 'abc'"),
    "an attribute of 0": (
        named(*ZYX, attrs={"voxel_size": (0, 4, 4)}),
        {},
        ValueError,
        "expected positive numbers",
    ),
    "a number for a unit": (
        named(*ZYX, attrs={"units": 4}),
        {},
        ValueError,
        "units must be the name of a unit",
    ),
}


@pytest.mark.parametrize("case", SAVED)
def test_what_is_no_volume_is_not_saved(house: Path, case: str) -> None:
    volume, options, error, part = SAVED[case]
    path = house / "good.zarr/volumes/new"
    refused(house, lambda: ld.save_volume(volume, path, **options), error, str(path), part)


#: Where something is saved that could be saved elsewhere.
PLACES: dict[str, tuple[str, type[Exception], str]] = {
    "no container": ("out", ValueError, "expected a container and the name of an array in it"),
    "a container": ("out.zarr", ValueError, "expected a container and the name of an array in it"),
    "an array that is there": (
        "good.zarr/volumes/labels",
        FileExistsError,
        "pass overwrite=True to replace it",
    ),
    "a group": (
        "good.zarr/volumes",
        FileExistsError,
        "a group is already there, with the arrays affs, labels, noise",
    ),
    "below an array": (
        "good.zarr/volumes/labels/new",
        NotADirectoryError,
        "is an array, which cannot hold another",
    ),
    "in a text file": ("note.zarr/new", NotADirectoryError, "note.zarr is a file, expected a zarr container"),
    "on a dataset of an HDF5 file": ("good.h5/noise", FileExistsError, "pass overwrite=True to replace it"),
    "below a dataset of an HDF5 file": (
        "good.h5/noise/new",
        NotADirectoryError,
        "noise is a dataset, which cannot hold another",
    ),
    "in an HDF5 file without a name": ("good.h5", ValueError, "expected a file and the name of a dataset"),
    "in an HDF5 file cut short": ("cut9.h5/new", ValueError, "the HDF5 file is damaged or was cut short"),
    "in a folder named as HDF5": ("folder.h5/new", IsADirectoryError, "expected an HDF5 file"),
    "on metadata": ("good.zarr/volumes/zarr.json", ValueError, "a file of zarr's own"),
    "beside a group cut short": ("parent.zarr/volumes/new", ValueError, METADATA),
    "on an array cut short": ("half.zarr/volumes/labels", ValueError, METADATA),
}


@pytest.mark.parametrize("case", PLACES)
def test_nothing_is_saved_where_it_cannot_be(house: Path, case: str) -> None:
    place, error, part = PLACES[case]
    refused(
        house,
        lambda: ld.save_volume(LABELS, house / place),
        error,
        str(house / place.split("/", maxsplit=1)[0]),
        part,
    )


def test_a_volume_does_not_replace_what_it_is_computed_from(house: Path) -> None:
    path = house / "good.zarr/volumes/labels"
    volume = ld.open_volume(path) + 1
    part = "the volume is computed from the array it would replace"
    refused(house, lambda: ld.save_volume(volume, path, overwrite=True), ValueError, str(path), part)


CREATED: dict[str, tuple[Any, Any, dict[str, Any], type[Exception], str]] = {
    "a negative shape": ((-1, 4, 4), "u1", {}, ValueError, "shape: found -1, expected a whole number from 0"),
    "half a shape": ((4.5, 4, 4), "u1", {}, TypeError, "shape: found 4.5"),
    "one length": (4, "u1", {}, TypeError, "shape: found 4, expected a sequence of whole numbers"),
    "a shape in words": ("abc", "u1", {}, TypeError, "shape: found 'abc'"),
    "no axes": ((), "u1", {}, ValueError, "not 0 axes"),
    "five axes": ((1,) * 5, "u1", {}, ValueError, "not 5 axes"),
    "an unknown type": ((4, 4, 4), "uint65", {}, TypeError, "uint65"),
    "no type": ((4, 4, 4), None, {}, TypeError, "dtype: found None"),
    "objects": ((4, 4, 4), object, {}, ValueError, "expected numbers, but the array holds object"),
    "axes in another order": ((4, 4, 4), "u1", {"dims": ("x", "y", "z")}, ValueError, "not ('x', 'y', 'z')"),
    "too few axes": ((4, 4, 4), "u1", {"dims": ("y", "x")}, ValueError, "for 3 axes, not ('y', 'x')"),
    "too few voxel sizes": ((4, 4, 4), "u1", {"voxel_size": (1,)}, ValueError, "voxel_size needs 3 numbers"),
    "attributes in a list": ((4, 4, 4), "u1", {"attributes": [1]}, TypeError, "attributes: found a list"),
    "attributes that are no data": (
        (4, 4, 4),
        "u1",
        {"attributes": {"a": np.ones(2)}},
        TypeError,
        "attributes: found {'a': array([1., 1.])}, expected plain data",
    ),
}


@pytest.mark.parametrize("case", CREATED)
def test_what_would_be_no_volume_is_not_created(house: Path, case: str) -> None:
    shape, dtype, options, error, part = CREATED[case]
    path = house / "good.zarr/volumes/new"
    refused(house, lambda: ld.create_volume(path, shape, dtype, **options), error, str(path), part)


def box(*bounds: tuple[Any, ...]) -> tuple[slice, ...]:
    return tuple(slice(*bound) for bound in bounds)


CORNER, BLOCK = box((0, 4), (0, 4), (0, 4)), np.ones((4, 4, 4), np.uint64)

WRITTEN: dict[str, tuple[Any, Any, type[Exception], str]] = {
    "a part of a shard": (
        box((0, 3), (0, 4), (0, 4)),
        BLOCK[:3],
        ValueError,
        "0:3 along z cover a shard in part",
    ),
    "another shape": (
        CORNER,
        BLOCK[:3],
        ValueError,
        "the region has shape (4, 4, 4), but the array (3, 4, 4)",
    ),
    "another type": (CORNER, BLOCK.astype(int), ValueError, "the volume holds uint64, but the array int64"),
    "a list": (CORNER, BLOCK.tolist(), TypeError, "array: found a list"),
    "nothing": (CORNER, None, TypeError, "array: found None"),
    "outside": (box((8, 12), (0, 4), (0, 4)), BLOCK, ValueError, "[8:12, 0:4, 0:4] are not a box inside"),
    "before the begin": (
        box((-4, None), (0, 4), (0, 4)),
        BLOCK,
        ValueError,
        "[-4:None, 0:4, 0:4] are not a box",
    ),
    "every other voxel": (
        box((0, 8, 2), (0, 4), (0, 4)),
        BLOCK,
        ValueError,
        "[0:8:2, 0:4, 0:4] are not a box",
    ),
    "half voxels": (
        box((0, 4.5), (0, 4), (0, 4)),
        BLOCK,
        ValueError,
        "[0:4.5, 0:4, 0:4] are no whole numbers",
    ),
    "too few axes": (CORNER[:2], BLOCK, ValueError, "needs 3 slices, but has 2"),
    "one voxel": ((0, 0, 0), BLOCK, ValueError, "a region is 3 slices of voxels, but found (0, 0, 0)"),
    "everything": (..., BLOCK, ValueError, "a region is 3 slices of voxels, but found Ellipsis"),
}


@pytest.fixture
def blocks(tmp_path: Path) -> StoredVolume:
    return ld.create_volume(tmp_path / "out.zarr/blocks", (10, 8, 8), "uint64", block_shape=(4, 4, 4))


@pytest.mark.parametrize("case", WRITTEN)
def test_what_is_no_box_of_shards_is_not_written(blocks: StoredVolume, tmp_path: Path, case: str) -> None:
    region, array, error, part = WRITTEN[case]
    refused(tmp_path, lambda: blocks.write(region, array), error, blocks.path, part)


@pytest.mark.parametrize("region", [box((8, 12), (0, 4), (0, 4)), (0, 0, 0), box((0, 4))])
def test_what_is_no_box_is_not_read(blocks: StoredVolume, tmp_path: Path, region: Any) -> None:
    refused(tmp_path, lambda: blocks.read(region), ValueError, blocks.path)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_shard_that_was_cut_short_can_be_written_anew(tmp_path: Path, zarr_format: Any) -> None:
    """Also at the end of a volume, where zarr reads a shard before it replaces it."""
    path = tmp_path / "out.zarr/noise"
    shape = (3, 4, 4, 10)
    values = np.random.default_rng(0).integers(0, 99, shape).astype(np.uint64)
    stored = ld.create_volume(path, shape, "uint64", block_shape=(4, 4, 4), zarr_format=zarr_format)
    regions = [box((0, 4), (0, 4), (0, 4)), box((0, 4), (0, 4), (4, 10))]
    for damage in (lambda _: None, cut, lambda file: file.write_bytes(b"")):
        for file in path.rglob("*"):
            if file.is_file() and not file.name.startswith((".z", "zarr")):
                damage(file)
        for region in regions:
            stored.write(region, values[:, *region])
        np.testing.assert_array_equal(ld.open_volume(path), values)
