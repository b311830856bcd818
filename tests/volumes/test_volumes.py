import pickle
import uuid

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
import zarr
from dask.base import compute
from hypothesis import given
from hypothesis import strategies as st

from lsd_dask.space.grids import Grid
from lsd_dask.volumes.dask_arrays import label
from lsd_dask.volumes.opening import open_stored
from lsd_dask.volumes.saving import create_volume, find_stored, grid_of, open_volume, save_volume

SHAPE = (40, 50, 60)


def voxels_of(shape, dtype="uint32") -> np.ndarray:
    return np.random.default_rng(0).integers(0, 200, shape).astype(dtype)


@pytest.fixture(params=["folder", "memory"])
def container(request, tmp_path) -> str:
    return str(tmp_path / "a.zarr") if request.param == "folder" else f"memory://{uuid.uuid4().hex}.zarr"


@pytest.fixture
def path(tmp_path) -> str:
    return str(tmp_path / "a.zarr" / "volumes" / "labels")


@pytest.fixture
def stored_volume(path) -> xr.DataArray:
    save_volume(
        voxels_of(SHAPE),
        path,
        voxel_size=(40, 4, 4),
        offset=(400, 0, 8),
        block_shape=(16, 16, 32),
        chunk_shape=(8, 8, 8),
    )
    return open_volume(path, chunks=(16, 16, 32))


@pytest.fixture
def stored_affinities(tmp_path) -> xr.DataArray:
    path = tmp_path / "a.zarr" / "volumes" / "affs"
    save_volume(voxels_of((3, *SHAPE), "uint8"), path, block_shape=(16, 16, 32))
    return open_volume(path, chunks=(16, 16, 32))


@pytest.fixture(scope="module")
def tiny_image() -> str:
    save_volume(voxels_of((9, 11)), "memory://tiny.zarr/image", overwrite=True)
    return "memory://tiny.zarr/image"


# Saving and opening


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize(
    ("shape", "voxel_size"),
    [((20, 30), (4, 8)), (SHAPE, (40, 4, 4)), ((3, *SHAPE), (40, 4, 4)), ((2, 20, 30), (4, 8))],
)
@pytest.mark.parametrize("kind", ["numpy", "dask", "labelled"])
def test_what_is_saved_is_what_is_opened(container, zarr_format, shape, voxel_size, kind):
    path = f"{container}/volumes/labels"
    voxels = voxels_of(shape)
    offset = tuple(10 * v for v in voxel_size)
    dims = ("y", "x") if len(voxel_size) == 2 else ("z", "y", "x")
    grid = Grid(dims, shape[-len(dims) :], voxel_size, offset)
    array = voxels if kind == "numpy" else da.from_array(voxels, chunks=7)
    if kind == "labelled":
        save_volume(label(array, grid), path, zarr_format=zarr_format)
    else:
        save_volume(array, path, voxel_size=voxel_size, offset=offset, zarr_format=zarr_format)

    volume = open_volume(path)
    assert volume.name == "labels"
    assert volume.dims == ("channel",) * (len(shape) - len(dims)) + dims
    assert volume.dtype == voxels.dtype
    assert isinstance(volume.data, da.Array)
    assert volume.attrs == {"voxel_size": voxel_size, "units": "nanometer"}
    assert grid_of(volume) == grid
    np.testing.assert_array_equal(volume.values, voxels)
    assert zarr.open_array(path, mode="r").metadata.zarr_format == zarr_format


@given(st.data())
def test_any_chunks_are_saved_to_whole_shards(data):
    """dask's own `to_zarr` loses voxels where chunks and shards are not aligned."""
    shape = data.draw(st.tuples(st.integers(1, 40), st.integers(1, 40)))
    chunks = [
        data.draw(st.lists(st.integers(1, n), max_size=4).filter(lambda c, n=n: sum(c) <= n)) for n in shape
    ]
    chunks = [(*c, n - sum(c)) if sum(c) < n else tuple(c) for c, n in zip(chunks, shape, strict=True)]
    block = data.draw(st.tuples(st.integers(1, 20), st.integers(1, 20)))
    voxels = voxels_of(shape) + 1
    path = "memory://chunks.zarr/labels"
    save_volume(da.from_array(voxels, chunks=chunks), path, block_shape=block, overwrite=True)
    np.testing.assert_array_equal(open_volume(path).values, voxels)
    stored, _ = find_stored(open_volume(path))
    assert stored.write_shape == block


def test_a_crop_is_saved_in_its_place(stored_volume, path):
    crop = stored_volume.sel(z=slice(480, 1600), x=slice(12, 100))
    save_volume(crop, path + "_crop")
    xr.testing.assert_identical(
        open_volume(path + "_crop").drop_attrs(), crop.drop_attrs().rename("labels_crop")
    )


def test_a_result_is_saved_in_the_place_of_its_input(stored_volume, path):
    save_volume(stored_volume + 1, path + "_1")
    assert grid_of(open_volume(path + "_1")) == grid_of(stored_volume)
    np.testing.assert_array_equal(open_volume(path + "_1").values, voxels_of(SHAPE) + 1)


def test_shards_are_blocks_with_inner_chunks_for_viewers(container):
    stored = create_volume(f"{container}/affs", (3, 300, 300, 300), "uint8", block_shape=(128, 256, 100))
    array = zarr.open_array(f"{container}/affs", mode="r")
    assert stored.write_shape == (128, 256, 100)
    assert array.shards == (3, 128, 256, 100)
    assert array.chunks == (3, 64, 64, 100)
    assert array.fill_value == 0
    assert create_volume(f"{container}/small", (10, 70, 300), "uint8").write_shape == (10, 128, 256)


def test_a_new_volume_follows_the_format_of_its_container(container):
    save_volume(voxels_of(SHAPE), f"{container}/raw", zarr_format=2)
    save_volume(voxels_of(SHAPE), f"{container}/volumes/labels")
    group = zarr.open_group(container, mode="r", zarr_format=2)
    assert sorted(name for name, _ in group.members(max_depth=None)) == ["raw", "volumes", "volumes/labels"]
    with pytest.raises(ValueError, match=r"has zarr format 2, and cannot hold arrays of format 3"):
        save_volume(voxels_of(SHAPE), f"{container}/more", zarr_format=3)


def test_places_may_be_arrays_of_numbers(container):
    place = {"voxel_size": np.array([40, 4, 4]), "offset": np.array([400.0, 0.0, 8.0])}
    save_volume(voxels_of(SHAPE), f"{container}/raw", block_shape=np.array([16, 16, 16]), **place)
    grid = Grid(("z", "y", "x"), SHAPE, (40, 4, 4), (400, 0, 8))
    assert grid_of(open_volume(f"{container}/raw")) == grid
    assert grid_of(open_volume(f"{container}/raw", **place)) == grid


def test_attributes_of_the_user_are_kept(container):
    create_volume(f"{container}/raw", SHAPE, "uint8", attributes={"experiment": "zebrafinch"})
    assert zarr.open_array(f"{container}/raw", mode="r").attrs["experiment"] == "zebrafinch"


# The grid of a volume


@given(st.data())
def test_selecting_world_positions_gives_the_voxels_of_the_half_open_box(data):
    n = data.draw(st.integers(1, 50))
    voxel_size = data.draw(st.sampled_from([1.0, 4.0, 0.1, 1 / 3, 32.5]))
    offset = data.draw(st.sampled_from([0.0, 400.0, -13.0, 0.7]))
    start, stop = sorted(data.draw(st.tuples(st.integers(0, n), st.integers(0, n))))
    volume = label(voxels_of((3, n)), Grid(("y", "x"), (3, n), (1, voxel_size), (0, offset)))
    crop = volume.sel(x=slice(offset + start * voxel_size, offset + stop * voxel_size))
    np.testing.assert_array_equal(crop.values, volume.values[:, start:stop])
    if stop > start:
        grid = grid_of(crop)
        assert grid.voxel_size == (1, voxel_size)
        assert grid.offset[1] == pytest.approx(offset + start * voxel_size)


@given(st.data())
def test_the_grid_follows_from_the_coordinates_alone(data):
    shape = data.draw(st.tuples(st.integers(2, 30), st.integers(2, 30)))
    voxel_size = data.draw(st.tuples(*[st.sampled_from([1.0, 4.0, 0.1, 1 / 3])] * 2))
    offset = data.draw(st.tuples(*[st.sampled_from([0.0, 400.0, 0.3, 1e5 + 0.1])] * 2))
    grid = Grid(("y", "x"), shape, voxel_size, offset)
    assert grid_of(label(np.zeros(shape), grid)) == grid
    without_attributes = grid_of(label(np.zeros(shape), grid).drop_attrs())
    np.testing.assert_allclose(without_attributes.voxel_size, voxel_size, rtol=1e-9)
    np.testing.assert_allclose(without_attributes.offset, offset, rtol=1e-9, atol=1e-9)


def test_a_strided_volume_has_larger_voxels(stored_volume):
    grid = grid_of(stored_volume[::2, 10:])
    assert grid.voxel_size == (80, 4, 4)
    assert grid.offset == (380, 40, 8)
    assert grid.shape == (20, 40, 60)


def test_a_single_section_keeps_its_thickness(stored_volume):
    assert grid_of(stored_volume[3:4]).voxel_size == (40, 4, 4)
    assert grid_of(stored_volume[3]).voxel_size == (4, 4)


def test_a_plain_array_has_voxels_of_one():
    assert grid_of(np.zeros((3, 4, 5, 6))) == Grid(("z", "y", "x"), (4, 5, 6), (1, 1, 1), (0, 0, 0), "voxel")
    assert grid_of(da.zeros((4, 5))) == Grid(("y", "x"), (4, 5), (1, 1), (0, 0), "voxel")


def test_uneven_coordinates_are_refused(stored_volume):
    with pytest.raises(ValueError, match="not evenly spaced and ascending"):
        grid_of(stored_volume[[0, 1, 5]])
    with pytest.raises(ValueError, match="not evenly spaced and ascending"):
        grid_of(stored_volume[::-1])
    with pytest.raises(ValueError, match="expected the axes"):
        grid_of(stored_volume.transpose())


# From a lazy array back to what is stored


CONTIGUOUS = {
    "everything": lambda v: v,
    "world box": lambda v: v.sel(z=slice(480, 1200), y=slice(0, 100)),
    "voxel box": lambda v: v.isel(y=slice(3, 47), x=slice(31, 33)),
    "box of a box": lambda v: v.isel(z=slice(5, 35)).isel(z=slice(2, 20), x=slice(10, None))[1:],
    "rechunked": lambda v: v.chunk({"z": 7, "y": 50}),
    "rechunked twice": lambda v: v.chunk({"z": 7}).chunk({"z": -1, "x": 9}),
    "rechunked box": lambda v: v[3:30, 1:].chunk({"z": 7, "x": 5}),
    "renamed": lambda v: v.rename("other").assign_attrs(note=1),
    "dask box": lambda v: v.data[4:20],
    "dask rechunked": lambda v: v.data.rechunk(13),
    "moved in the world": lambda v: v[5:10].assign_coords(z=np.arange(5.0)),
}
OTHERWISE = {
    "computed": lambda v: v * 2,
    "added to itself": lambda v: v + v,
    "loaded": lambda v: v.load(),
    "persisted": lambda v: v.persist(),
    "strided": lambda v: v[::2],
    "flipped": lambda v: v[::-1],
    "flipped, pretending not to be": lambda v: v[::-1].assign_coords(z=v.z),
    "flipped dask array under the same coordinates": lambda v: v.copy(data=v.data[:, ::-1]),
    "transposed": lambda v: v.transpose(),
    "transposed twice": lambda v: v.transpose().transpose(),
    "swapped dask axes": lambda v: v.data.swapaxes(0, 1),
    "picked": lambda v: v[[3, 1, 2]],
    "masked": lambda v: v[np.arange(40) % 3 > 0],
    "section": lambda v: v[3],
    "new axis": lambda v: v.data[None],
    "rolled": lambda v: v.roll(z=5),
    "glued": lambda v: da.concatenate([v.data[20:], v.data[:20]]),
    "cropped after rechunking, which is given up": lambda v: v.chunk({"z": 7})[3:],
    "mapped by a function called rechunk": lambda v: v.data.map_blocks(rechunk, dtype=v.dtype),
    "mapped by a function called getitem": lambda v: v.data.map_blocks(getitem, dtype=v.dtype),
    "nothing": lambda v: v[5:5],
    "another kind of array": lambda v: v.values,
}


def rechunk(block):
    return block + 1


def getitem(block):
    return block + 1


@pytest.mark.parametrize("crop", CONTIGUOUS.values(), ids=CONTIGUOUS.keys())
def test_a_box_of_a_stored_volume_is_found(stored_volume, crop):
    array = crop(stored_volume)
    stored, region = find_stored(array)
    np.testing.assert_array_equal(stored.read(region), np.asarray(array))


@pytest.mark.parametrize("change", OTHERWISE.values(), ids=OTHERWISE.keys())
def test_nothing_else_is_taken_for_a_stored_volume(stored_volume, change):
    assert find_stored(change(stored_volume)) is None


def test_stored_channels_are_found_only_together(stored_affinities):
    stored, region = find_stored(stored_affinities[:, 5:20])
    assert region == (slice(5, 20), slice(0, 50), slice(0, 60))
    np.testing.assert_array_equal(stored.read(region), stored_affinities[:, 5:20].values)
    for part in (
        stored_affinities[:2],
        stored_affinities[1:],
        stored_affinities[[2, 1, 0]],
        stored_affinities[0],
    ):
        assert find_stored(part) is None


def test_chunks_of_one_voxel_tell_no_stride_and_yet_are_not_confused(tiny_image):
    volume = open_volume(tiny_image, chunks=(1, 11))
    assert find_stored(volume[2:7])[1] == (slice(2, 7), slice(0, 11))
    assert find_stored(volume[::2]) is None
    assert find_stored(volume[::-1]) is None


@given(st.data())
def test_found_regions_are_never_wrong(tiny_image, data):
    array = open_volume(tiny_image, chunks=data.draw(st.tuples(st.integers(1, 9), st.integers(1, 11))))
    bounds = st.none() | st.integers(-12, 12)
    part = st.builds(slice, bounds, bounds, st.sampled_from([None, 1, 2])) | st.just(slice(None, None, -1))
    for _ in range(data.draw(st.integers(0, 3))):
        array = array[data.draw(st.tuples(part, part))]
    if data.draw(st.booleans()):
        array = array.chunk({"y": 3})
    found = find_stored(array)
    if found is not None:
        np.testing.assert_array_equal(found[0].read(found[1]), array.values)


# Handles


def test_a_handle_is_small_and_picklable(stored_affinities):
    stored, region = find_stored(stored_affinities)
    assert len(pickle.dumps(stored)) < 1000
    copy = pickle.loads(pickle.dumps(stored))
    assert copy == stored
    np.testing.assert_array_equal(copy.read(region), stored_affinities.values)


def test_a_haloed_box_is_read_with_the_channels_asked_for(stored_affinities):
    voxels = voxels_of((3, *SHAPE), "uint8")
    stored, _ = find_stored(stored_affinities)
    region = (slice(11, 33), slice(0, 50), slice(7, 40))
    np.testing.assert_array_equal(stored.read(region), voxels[:, 11:33, :, 7:40])
    np.testing.assert_array_equal(stored.read(region, channels=slice(1, 3)), voxels[1:, 11:33, :, 7:40])
    assert stored.read((slice(5, 5), slice(0, 2), slice(0, 3))).shape == (3, 0, 2, 3)
    assert stored.channels == 3


@given(st.data())
def test_handles_index_like_numpy(tiny_image, data):
    voxels = voxels_of((9, 11))
    stored = open_stored(tiny_image)
    bounds = st.none() | st.integers(-12, 12)
    step = st.sampled_from([None, 1, 2, 3, -1, -2])
    part = st.builds(slice, bounds, bounds, step) | st.integers(-9, 8)
    index = data.draw(st.tuples(part, part) | part)
    np.testing.assert_array_equal(stored[index], voxels[index])


def test_reading_outside_the_volume_is_refused(stored_volume):
    stored, _ = find_stored(stored_volume)
    with pytest.raises(
        ValueError, match=r"labels: voxels \[0:41, 0:1, 0:1\] are not a box inside a volume of"
    ):
        stored.read((slice(0, 41), slice(0, 1), slice(0, 1)))


@pytest.mark.parametrize(
    ("region", "shape", "message"),
    [
        (
            (slice(0, 16), slice(0, 16), slice(0, 30)),
            (16, 16, 30),
            r"voxels 0:30 along x cover a shard in part.*0:32",
        ),
        ((slice(8, 32), slice(0, 16), slice(0, 32)), (24, 16, 32), r"multiples of 16, for instance 0:32"),
        ((slice(32, 40), slice(48, 50), slice(0, 32)), (8, 3, 32), "has shape"),
        ((slice(0, 48), slice(0, 16), slice(0, 32)), (48, 16, 32), "not a box inside"),
    ],
)
def test_writing_parts_of_shards_is_refused(stored_volume, region, shape, message):
    stored, _ = find_stored(stored_volume)
    with pytest.raises(ValueError, match=message):
        stored.write(region, np.zeros(shape, dtype="uint32"))
    np.testing.assert_array_equal(stored_volume.values, voxels_of(SHAPE))


def test_writing_another_dtype_is_refused(stored_volume):
    stored, _ = find_stored(stored_volume)
    with pytest.raises(ValueError, match="holds uint32, but the array float64"):
        stored.write((slice(0, 16), slice(0, 16), slice(0, 32)), np.zeros((16, 16, 32)))


def test_the_last_shard_may_end_with_the_volume(stored_volume):
    stored, _ = find_stored(stored_volume)
    region = (slice(32, 40), slice(32, 50), slice(32, 60))
    stored.write(region, np.full((8, 18, 28), 7, dtype="uint32"))
    expected = voxels_of(SHAPE)
    expected[region] = 7
    np.testing.assert_array_equal(stored_volume.values, expected)


def test_a_replaced_array_is_not_read_through_an_old_handle(container):
    path = f"{container}/labels"
    save_volume(np.ones((10, 10), dtype="uint8"), path)
    assert open_volume(path).values.sum() == 100
    save_volume(np.ones((20, 30), dtype="uint32"), path, overwrite=True, block_shape=(8, 8))
    assert open_volume(path).values.sum() == 600


def test_an_array_replaced_by_a_different_one_is_noticed(container):
    path = f"{container}/labels"
    save_volume(np.ones((10, 10), dtype="uint8"), path)
    volume = open_volume(path)
    save_volume(np.ones((20, 30), dtype="uint8"), path, overwrite=True)
    with pytest.raises(
        ValueError, match="labels: the array was replaced by a different one since it was opened"
    ):
        volume.compute()


# Lazily, and on a cluster


def test_every_chunk_is_one_task(stored_volume, stored_affinities):
    for volume in (stored_volume, stored_affinities):
        (optimised,) = dask.optimize(volume.data)
        assert len(optimised.__dask_graph__()) == volume.data.npartitions
    (optimised,) = dask.optimize((stored_volume * 2 + 1).data)
    assert len(optimised.__dask_graph__()) == stored_volume.data.npartitions


def test_small_chunks_are_grouped_into_comfortable_ones(container):
    create_volume(f"{container}/labels", (3, 500, 500, 500), "uint8", block_shape=(32, 32, 32), zarr_format=2)
    assert open_volume(f"{container}/labels").data.chunksize == (3, 128, 128, 128)
    assert open_volume(f"{container}/labels", chunks=64).data.chunksize == (3, 64, 64, 64)


def test_volumes_are_read_and_written_by_processes(cluster_client, stored_volume, path):
    save_volume((stored_volume + 1).chunk({"z": 11}), path + "_1")
    assert (
        int(open_volume(path + "_1").sum().compute()) == int(voxels_of(SHAPE).sum()) + voxels_of(SHAPE).size
    )
    stored, region = find_stored(open_volume(path + "_1"))
    voxels = cluster_client.submit(stored.read, region).result()
    np.testing.assert_array_equal(voxels, voxels_of(SHAPE) + 1)


def test_volumes_created_at_the_same_time_are_all_described(tmp_path):
    create = dask.delayed(lambda i: create_volume(tmp_path / "a.zarr" / "volumes" / f"v{i}", (8, 8), "uint8"))
    compute(*[create(i) for i in range(12)], scheduler="threads", num_workers=6)
    ome = zarr.open_group(tmp_path / "a.zarr" / "volumes", mode="r").attrs["ome"]
    assert sorted(entry["name"] for entry in ome["multiscales"]) == sorted(f"v{i}" for i in range(12))


# Mistakes


def test_an_array_is_not_replaced_unasked(stored_volume, path):
    with pytest.raises(FileExistsError, match=r"labels: an array of shape \(40, 50, 60\).*overwrite=True"):
        save_volume(np.zeros((5, 5, 5)), path)
    np.testing.assert_array_equal(stored_volume.values, voxels_of(SHAPE))


def test_a_group_is_never_replaced(stored_volume, path):
    with pytest.raises(FileExistsError, match=r"a group is already there, with the arrays labels"):
        save_volume(np.zeros((5, 5, 5)), path.removesuffix("/labels"), overwrite=True)
    np.testing.assert_array_equal(stored_volume.values, voxels_of(SHAPE))


def test_tables_in_the_folder_are_not_lost(tmp_path):
    table = tmp_path / "a.zarr" / "rag" / "edges.parquet"
    table.parent.mkdir(parents=True)
    table.write_text("edges")
    with pytest.raises(FileExistsError, match=r"rag: found edges\.parquet in the folder"):
        save_volume(np.zeros((5, 5)), tmp_path / "a.zarr" / "rag", overwrite=True)
    assert table.read_text() == "edges"


@pytest.mark.parametrize(
    "crop", [lambda v: v + 1, lambda v: v[3:], lambda v: v.chunk({"z": 3}).rolling(z=3).mean()]
)
def test_a_volume_does_not_replace_what_it_is_computed_from(stored_volume, path, crop):
    with pytest.raises(ValueError, match="computed from the array it would replace"):
        save_volume(crop(stored_volume), path, overwrite=True)
    np.testing.assert_array_equal(stored_volume.values, voxels_of(SHAPE))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"voxel_size": (4, 4)}, "voxel_size needs 3 numbers"),
        ({"voxel_size": (4, 4, 0)}, "must be positive numbers"),
        ({"offset": (0, 0)}, "offset needs 3 numbers"),
        ({"block_shape": (64, 64)}, "block_shape needs 3 positive numbers"),
        ({"block_shape": (64, 64, 0)}, "block_shape needs 3 positive numbers"),
        ({"block_shape": (64, 64, 100), "chunk_shape": (32, 32, 32)}, "must be a multiple of chunk_shape"),
    ],
)
def test_nonsense_volumes_are_not_created(tmp_path, arguments, message):
    path = tmp_path / "a.zarr" / "raw"
    with pytest.raises(ValueError, match=f"a.zarr/raw: .*{message}"):
        create_volume(path, (9, 50, 60), "uint8", dims=("z", "y", "x"), **arguments)
    assert not (tmp_path / "a.zarr").exists()


@pytest.mark.parametrize("name", ["a.zarr", "plain/raw"])
def test_a_path_names_an_array_in_a_container(tmp_path, name):
    with pytest.raises(
        ValueError, match=r"expected a container and the name of an array in it, for instance .*zarr/"
    ):
        save_volume(np.zeros((5, 5)), tmp_path / name)


def test_an_array_holds_no_other_arrays(stored_volume, path):
    with pytest.raises(NotADirectoryError, match="labels is an array, which cannot hold another one"):
        save_volume(np.zeros((5, 5)), path + "/more")


def test_a_labelled_volume_knows_its_place(stored_volume, path):
    with pytest.raises(ValueError, match="a DataArray knows its place"):
        save_volume(stored_volume, path + "_1", voxel_size=(1, 1, 1))


@pytest.mark.parametrize("shape", [(5,), (2, 2, 5, 5, 5)])
def test_volumes_of_one_or_five_axes_are_refused(tmp_path, shape):
    with pytest.raises(ValueError, match="a volume has the axes"):
        save_volume(np.zeros(shape), tmp_path / "a.zarr" / "raw")
