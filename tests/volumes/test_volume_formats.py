"""Volumes as others write them, with plain zarr calls, independent of this package."""

import importlib
import json

import imageio.v3 as iio
import numpy as np
import pytest
import zarr

from lsd_dask.space.grids import Grid
from lsd_dask.volumes.opening import open_stored
from lsd_dask.volumes.saving import find_stored, grid_of, open_volume, save_volume

SHAPE = (6, 20, 30)
ZYX = ("z", "y", "x")
GRID = Grid(ZYX, SHAPE, (40, 4, 4), (400, 40, 8), "nanometer")
VOXELS = np.random.default_rng(0).integers(0, 255, (3, *SHAPE)).astype("uint8")

both_formats = pytest.mark.parametrize("zarr_format", [2, 3])


def write(path, name, voxels=VOXELS[0], zarr_format=3, names=None, **attributes) -> str:
    array = zarr.create_array(
        str(path),
        name=name,
        shape=voxels.shape,
        dtype=voxels.dtype,
        chunks=tuple(min(n, 8) for n in voxels.shape),
        zarr_format=zarr_format,
        attributes=attributes,
        dimension_names=names,
    )
    array[...] = voxels
    return f"{path}/{name}"


def axes_of(names) -> list[dict[str, str]]:
    types = {"t": "time", "c": "channel"}
    return [
        {"name": n, "type": types[n]} if n in types else {"name": n, "type": "space", "unit": "nanometer"}
        for n in names
    ]


def describe(path, group, axes, datasets, zarr_format=3, **more) -> None:
    """Write OME-NGFF 0.5 (0.4 in zarr format 2); `datasets` maps paths to scale and translation (or None)."""
    entries = []
    for name, (scale, translation) in datasets.items():
        steps = [{"type": "scale", "scale": scale}]
        if translation is not None:
            steps.append({"type": "translation", "translation": translation})
        entries.append({"path": name, "coordinateTransformations": steps})
    multiscales = [{"axes": axes, "datasets": entries, **more}]
    node = zarr.open_group(f"{path}/{group}".rstrip("/"), mode="a", zarr_format=zarr_format)
    if zarr_format == 3:
        node.attrs["ome"] = {"version": "0.5", "multiscales": multiscales}
    else:
        node.attrs["multiscales"] = [{"version": "0.4", **multiscales[0]}]


# funkelab attributes


@both_formats
@pytest.mark.parametrize(
    "attributes",
    [
        {"offset": [400, 40, 8], "resolution": [40, 4, 4]},
        {"offset": [400, 40, 8], "voxel_size": [40, 4, 4], "units": ["nm", "nm", "nm"]},
        {
            "offset": [400.0, 40.0, 8.0],
            "resolution": [40, 4, 4],
            "units": "nm",
            "axis_names": ["z", "y", "x"],
        },
    ],
)
def test_funkelab_attributes(tmp_path, zarr_format, attributes):
    path = write(tmp_path / "em.zarr", "volumes/raw", zarr_format=zarr_format, **attributes)
    volume = open_volume(path)
    assert grid_of(volume) == GRID
    np.testing.assert_array_equal(volume.sel(z=slice(480, 560), x=slice(16, 32)), VOXELS[0, 2:4, :, 2:6])


@both_formats
@pytest.mark.parametrize(
    "attributes",
    [
        {"axis_names": ["c^", "z", "y", "x"]},
        {"axis_names": ["channels", "z", "y", "x"], "units": ["", "nm", "nm", "nm"]},
        {"types": ["channel", "space", "space", "space"]},
        {},
    ],
)
def test_funkelab_channels(tmp_path, zarr_format, attributes):
    attributes |= {"offset": [400, 40, 8], "resolution": [40, 4, 4]}
    path = write(tmp_path / "em.zarr", "volumes/affs", VOXELS, zarr_format, **attributes)
    volume = open_volume(path)
    assert volume.dims == ("channel", *ZYX)
    assert grid_of(volume) == GRID
    np.testing.assert_array_equal(volume, VOXELS)


def test_three_axes_with_two_voxel_sizes_are_channels_of_an_image(tmp_path):
    path = write(tmp_path / "em.zarr", "affs", resolution=[4, 4])
    assert open_volume(path).dims == ("channel", "y", "x")
    assert open_volume(write(tmp_path / "em.zarr", "plain"), voxel_size=(4, 4)).dims == ("channel", "y", "x")


def test_units_follow_what_is_known(tmp_path):
    um = write(tmp_path / "em.zarr", "um", resolution=[4, 4, 4], units=["um"] * 3)
    assert open_volume(um).attrs["units"] == "micrometer"
    assert open_volume(um, units="millimeter").attrs["units"] == "millimeter"
    assert open_volume(write(tmp_path / "em.zarr", "nm", resolution=[4, 4, 4])).attrs["units"] == "nanometer"
    mixed = write(tmp_path / "em.zarr", "mixed", resolution=[4, 4, 4], units=["um", "nm", "nm"])
    assert grid_of(open_volume(mixed)).voxel_size == (4000, 4, 4)


# Plain arrays


@both_formats
def test_plain_arrays_have_voxels_of_one(tmp_path, zarr_format):
    volume = open_volume(write(tmp_path / "em.zarr", "raw", zarr_format=zarr_format))
    assert grid_of(volume) == Grid(ZYX, SHAPE, (1, 1, 1), (0, 0, 0), "voxel")
    np.testing.assert_array_equal(volume, VOXELS[0])


def test_the_place_of_a_plain_array_can_be_given(tmp_path):
    path = write(tmp_path / "em.zarr", "raw")
    assert grid_of(open_volume(path, voxel_size=(40, 4, 4), offset=(400, 40, 8))) == GRID


def test_names_of_axes_are_enough_to_find_channels(tmp_path):
    two_dimensional = write(tmp_path / "em.zarr", "a", names=["c", "y", "x"])
    assert open_volume(two_dimensional).dims == ("channel", "y", "x")
    as_xarray_writes = write(tmp_path / "v2.zarr", "a", VOXELS, 2, _ARRAY_DIMENSIONS=["aff", "z", "y", "x"])
    assert open_volume(as_xarray_writes).dims == ("channel", *ZYX)


def test_an_array_may_be_the_whole_container(tmp_path):
    array = zarr.create_array(str(tmp_path / "em.zarr"), shape=(4, 5), dtype="uint8", chunks=(2, 2))
    array[...] = 3
    assert int(open_volume(tmp_path / "em.zarr").sum()) == 60


def test_a_group_of_one_array_stands_for_it(tmp_path):
    write(tmp_path / "em.zarr", "volumes/raw")
    assert open_volume(tmp_path / "em.zarr").name == "raw"


def test_relative_paths_and_urls(tmp_path, monkeypatch):
    write(tmp_path / "em.zarr", "volumes/raw")
    monkeypatch.chdir(tmp_path)
    stored = open_stored("em.zarr/volumes/raw/")
    assert stored.path == str(tmp_path / "em.zarr" / "volumes" / "raw")
    assert open_stored(f"file://{tmp_path}/em.zarr/volumes/raw") == stored
    write("memory://formats.zarr", "volumes/raw")
    np.testing.assert_array_equal(open_volume("memory://formats.zarr/volumes/raw"), VOXELS[0])


# OME-NGFF


@pytest.fixture
def pyramid(tmp_path, request) -> str:
    zarr_format = request.param
    path = tmp_path / "em.zarr"
    for name, voxels in (("em/s0", VOXELS[0]), ("em/s1", VOXELS[0, ::2, ::2, ::2])):
        write(path, name, voxels, zarr_format)
    datasets = {"s0": ([40, 4, 4], [400, 40, 8]), "s1": ([80, 8, 8], [420, 42, 10])}
    describe(path, "em", axes_of("zyx"), datasets, zarr_format)
    return f"{path}/em"


both_pyramids = pytest.mark.parametrize("pyramid", [2, 3], indirect=True)


@both_pyramids
def test_a_multiscale_group_stands_for_its_levels(pyramid):
    assert grid_of(open_volume(pyramid)) == GRID
    np.testing.assert_array_equal(open_volume(pyramid), VOXELS[0])
    coarse = open_volume(pyramid, level=1)
    assert grid_of(coarse) == Grid(ZYX, (3, 10, 15), (80, 8, 8), (400, 40, 8), "nanometer")
    np.testing.assert_array_equal(coarse, VOXELS[0, ::2, ::2, ::2])


@both_pyramids
def test_an_array_in_a_multiscale_group_has_its_place(pyramid):
    assert grid_of(open_volume(f"{pyramid}/s0")) == GRID
    assert grid_of(open_volume(f"{pyramid}/s1")) == grid_of(open_volume(pyramid, level=1))
    assert grid_of(open_volume(f"{pyramid}/s0", level=1)) == grid_of(open_volume(pyramid, level=1))


@both_pyramids
def test_what_ome_metadata_says_can_be_overridden(pyramid):
    grid = grid_of(open_volume(pyramid, voxel_size=(1, 1, 1), offset=(0, 0, 0), units="micrometer"))
    assert grid == Grid(ZYX, SHAPE, (1, 1, 1), (0, 0, 0), "micrometer")


@both_pyramids
def test_levels_that_do_not_exist_are_refused(pyramid):
    with pytest.raises(ValueError, match="em: level 2 was asked for, but the levels are 0 to 1"):
        open_volume(pyramid, level=2)
    with pytest.raises(ValueError, match="s1: there is no level 1"):
        open_volume(f"{pyramid}/s1", level=1)


def test_channels_and_one_time_point(tmp_path):
    path = tmp_path / "em.zarr"
    write(path, "0", VOXELS[None])
    describe(path, "", axes_of("tczyx"), {"0": ([1, 1, 40, 4, 4], [0, 0, 400, 40, 8])})
    volume = open_volume(path)
    assert volume.dims == ("channel", *ZYX)
    assert grid_of(volume) == GRID
    np.testing.assert_array_equal(volume, VOXELS)
    stored, region = find_stored(volume[:, 2:5])
    np.testing.assert_array_equal(stored.read(region), VOXELS[:, 2:5])


def test_several_time_points_are_refused(tmp_path):
    path = tmp_path / "em.zarr"
    write(path, "0", VOXELS)
    describe(path, "", axes_of("tzyx"), {"0": ([1, 40, 4, 4], None)})
    with pytest.raises(ValueError, match="expected a single time point, but found axes"):
        open_volume(path)


def test_levels_without_translations_share_a_corner(tmp_path):
    path = tmp_path / "em.zarr"
    for name in ("0", "1"):
        write(path, name)
    describe(path, "", axes_of("zyx"), {"0": ([40, 4, 4], None), "1": ([80, 8, 8], None)})
    assert grid_of(open_volume(path, level=1)).offset == (0, 0, 0)


def test_transformations_of_all_levels_come_last(tmp_path):
    path = tmp_path / "em.zarr"
    write(path, "0")
    more = [{"type": "scale", "scale": [4, 4, 4]}, {"type": "translation", "translation": [0, 0, 8]}]
    describe(path, "", axes_of("zyx"), {"0": ([10, 1, 1], [100, 10, 0])}, coordinateTransformations=more)
    assert grid_of(open_volume(path)) == GRID


def test_axes_in_another_order_are_transposed(tmp_path):
    path = tmp_path / "em.zarr"
    write(path, "0", VOXELS[0].T)
    describe(path, "", axes_of("xyz"), {"0": ([4, 4, 40], [8, 40, 400])})
    assert grid_of(open_volume(path)) == GRID
    np.testing.assert_array_equal(open_volume(path), VOXELS[0])
    last = write(path, "last", np.moveaxis(VOXELS, 0, -1), axis_names=["z", "y", "x", "c^"])
    np.testing.assert_array_equal(open_volume(last), VOXELS)


def test_old_multiscales_are_refused(tmp_path):
    path = tmp_path / "em.zarr"
    write(path, "0")
    describe(path, "", ["z", "y", "x"], {"0": ([1, 1, 1], None)})
    with pytest.raises(ValueError, match=r"without named axes; versions 0.4, 0.5 and 0.6 can be read"):
        open_volume(path)


# What this package writes, read by others


@both_formats
def test_written_metadata_is_valid_ome_ngff(tmp_path, zarr_format):
    models = importlib.import_module("ome_zarr_models.v05" if zarr_format == 3 else "ome_zarr_models.v04")
    path = str(tmp_path / "out.zarr" / "volumes")
    place = {"voxel_size": (40, 4, 4), "offset": (400, 40, 8), "zarr_format": zarr_format}
    save_volume(VOXELS, f"{path}/affs", **place)
    save_volume(VOXELS[0], f"{path}/fragments", **place)
    save_volume(VOXELS[0], f"{path}/fragments", **place, overwrite=True)
    save_volume(VOXELS[0], f"{path}/mask", zarr_format=zarr_format)
    image = models.Image.from_zarr(zarr.open_group(path, mode="r"))
    multiscales = image.ome_attributes.multiscales
    assert [entry.name for entry in multiscales] == ["affs", "fragments", "mask"]
    assert [axis.unit for axis in multiscales[0].axes] == [None, "nanometer", "nanometer", "nanometer"]


@both_formats
def test_written_volumes_have_the_same_place_for_both_kinds_of_readers(tmp_path, zarr_format):
    path = str(tmp_path / "out.zarr" / "affs")
    save_volume(VOXELS, path, voxel_size=(40, 4, 4), offset=(400, 40, 8), zarr_format=zarr_format)
    assert grid_of(open_volume(path)) == GRID
    array = zarr.open_array(path, mode="r+")
    assert array.attrs["offset"] == [400, 40, 8]
    assert array.attrs["resolution"] == array.attrs["voxel_size"] == [40, 4, 4]
    array.attrs.clear()
    assert grid_of(open_volume(path)) == GRID


@both_formats
def test_funlib_persistence_reads_written_volumes(tmp_path, zarr_format):
    persistence = pytest.importorskip("funlib.persistence")
    path = tmp_path / "out.zarr" / "volumes" / "affs"
    save_volume(VOXELS, path, voxel_size=(40, 4, 4), offset=(400, 40, 8), zarr_format=zarr_format)
    array = persistence.open_ds(path)
    assert tuple(array.voxel_size) == GRID.voxel_size
    assert tuple(array.roi.begin) == GRID.offset
    assert tuple(array.roi.end) == GRID.end
    assert array.axis_names == ["c^", "z", "y", "x"]
    np.testing.assert_array_equal(array[:], VOXELS)


# Mistakes


def test_containers_that_are_not_there(tmp_path):
    (tmp_path / "sections").mkdir()
    with pytest.raises(
        FileNotFoundError, match=r"em.zarr/volumes/raw: there is no 'em.zarr' in .*: sections$"
    ):
        open_volume(tmp_path / "em.zarr" / "volumes" / "raw")
    with pytest.raises(FileNotFoundError, match=r"there is no 'sektions' in .*did you mean 'sections'\?"):
        open_volume(tmp_path / "sektions")
    with pytest.raises(FileNotFoundError, match="there is no zarr container"):
        open_volume("memory://nowhere.zarr/volumes/raw")


@both_formats
def test_arrays_that_are_not_there(tmp_path, zarr_format):
    for name in ("volumes/raw", "volumes/labels/neuron_ids"):
        write(tmp_path / "em.zarr", name, zarr_format=zarr_format)
    with pytest.raises(
        FileNotFoundError,
        match=r"volumes holds no array 'row'; did you mean 'raw'\? Its arrays: labels/neuron_ids, raw$",
    ):
        open_volume(tmp_path / "em.zarr" / "volumes" / "row")
    with pytest.raises(
        FileNotFoundError, match=r"em.zarr holds no array 'volume/raw'; did you mean 'volumes/raw'\?"
    ):
        open_volume(tmp_path / "em.zarr" / "volume" / "raw")
    with pytest.raises(FileNotFoundError, match=r"raw holds no array 's0'. Its arrays: the container itself"):
        open_volume(tmp_path / "em.zarr" / "volumes" / "raw" / "s0")


@both_formats
def test_groups_of_several_arrays(tmp_path, zarr_format):
    for name in ("volumes/raw", "volumes/labels"):
        write(tmp_path / "em.zarr", name, zarr_format=zarr_format)
    with pytest.raises(
        ValueError,
        match=r"em.zarr: this is a group, not an array; name one of .*: volumes/labels, volumes/raw",
    ):
        open_volume(tmp_path / "em.zarr")
    save_volume(VOXELS, tmp_path / "out.zarr" / "a")
    save_volume(VOXELS, tmp_path / "out.zarr" / "b")
    with pytest.raises(
        ValueError, match=r"out.zarr: this is a group, not an array; name one of its arrays: a, b"
    ):
        open_volume(tmp_path / "out.zarr")


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"resolution": [40, 4]}, "differ in length"),
        (
            {"resolution": [40, 4, 4, 4], "offset": None},
            r"resolution: voxel_size needs 3 entries, one per spatial axis, but has 4: \[40, 4, 4, 4\]",
        ),
        ({"resolution": [40, 4, 0]}, r"resolution: found \[40, 4, 0\], expected a list of positive numbers"),
        ({"resolution": [40, 4, 4], "offset": [0, 0]}, "offset: offset needs 3 entries"),
        ({"axis_names": ["z", "y"]}, "axis_names: the array has 3 axes, but this has 2"),
        ({"axis_names": ["x", "y", "y"]}, "y more than once"),
        ({"axis_names": ["z", "y", "q"]}, "axis_names .*found an axis 'q'|found an axis 'q'.*axis_names"),
    ],
)
def test_attributes_that_do_not_fit(tmp_path, attributes, message):
    attributes.setdefault("offset", [0, 0, 0])
    path = write(tmp_path / "em.zarr", "raw", **attributes)
    with pytest.raises(ValueError, match=f"em.zarr/raw: .*({message})"):
        open_volume(path)


def test_given_voxel_sizes_that_do_not_fit(tmp_path):
    path = write(tmp_path / "em.zarr", "affs", VOXELS, resolution=[40, 4, 4])
    with pytest.raises(
        ValueError, match=r"affs: voxel_size needs 3 entries, one per spatial axis, but has 1: \[4\]"
    ):
        open_volume(path, voxel_size=(4,))
    with pytest.raises(ValueError, match=r"chunks need 3 numbers, one per spatial axis, not \(64, 64\)"):
        open_volume(path, chunks=(64, 64))


def test_arrays_without_numbers_or_with_too_many_axes(tmp_path):
    with pytest.raises(ValueError, match="expected numbers, but the array holds complex64"):
        open_volume(write(tmp_path / "em.zarr", "c", VOXELS[0].astype("complex64")))
    with pytest.raises(ValueError, match=r"expected axes \[channel,\] z, y, x.*shape \(1, 3, 6, 20, 30\)"):
        open_volume(write(tmp_path / "em.zarr", "five", VOXELS[None]))
    with pytest.raises(ValueError, match=r"expected axes .* found .*shape \(6,\)"):
        open_volume(write(tmp_path / "em.zarr", "one", VOXELS[0, :, 0, 0]))


def test_metadata_cut_short_is_named(tmp_path):
    path = write(tmp_path / "em.zarr", "volumes/raw")
    metadata = tmp_path / "em.zarr" / "volumes" / "raw" / "zarr.json"
    metadata.write_text(metadata.read_text()[:100])
    with pytest.raises(ValueError, match="volumes/raw: the array's zarr metadata cannot be read"):
        open_volume(path)
    metadata.write_text(json.dumps({"zarr_format": 3, "node_type": "array"}))
    with pytest.raises(ValueError, match="volumes/raw: the array's zarr metadata cannot be read"):
        open_volume(path)


def test_only_some_formats_have_levels(tmp_path):
    iio.imwrite(tmp_path / "s0.png", VOXELS[0, 0])
    with pytest.raises(ValueError, match="level 1 was asked for, but only OME-NGFF, N5 and precomputed"):
        open_volume(tmp_path, level=1)
