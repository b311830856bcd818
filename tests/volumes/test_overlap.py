import math
import pickle

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from dask import delayed
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from lsd_dask.space.grids import Grid
from lsd_dask.volumes.dask_arrays import label
from lsd_dask.volumes.overlap import (
    ArrayReader,
    OutOfReachError,
    OverlapBlock,
    StoredReader,
    bag_regions,
    blocks_of,
    grow,
    map_overlap,
    map_regions,
    readers_of,
    within,
)
from lsd_dask.volumes.saving import create_volume, grid_of, open_volume, save_volume

from ..helpers.strategies import chunkings, regions, seeds, shapes

SHAPES = st.one_of(shapes(9, 12), shapes(6, 7, 8))


class WindowSum:
    """Weighted sum over a window, plus the place of each voxel: wrong where any context or place is."""

    def __init__(self, depth):
        self.depth = depth

    def __call__(self, haloed: np.ndarray, block) -> np.ndarray:
        depth = np.broadcast_to(self.depth, len(block.core))
        window = np.arange(math.prod(2 * depth + 1)).reshape(2 * depth + 1) + 1
        channels = haloed.reshape(-1, *haloed.shape[haloed.ndim - len(block.core) :])
        total = sum(ndimage.correlate(c.astype(np.int64), window, mode="constant") for c in channels)
        return total[block.core] + places(block.origin, [s.stop - s.start for s in block.core], block.shape)


def places(origin, extent, shape) -> np.ndarray:
    index = np.indices(extent) + np.reshape(origin, (-1, *[1] * len(extent)))
    return np.ravel_multi_index(tuple(index), shape)


def with_two_channels(haloed: np.ndarray, block) -> np.ndarray:
    core = haloed[..., *block.core]
    return np.stack([core, -core])


def voxels(seed: int, shape) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 100, shape)


def depths(ndim: int) -> st.SearchStrategy:
    return st.one_of(st.integers(0, 3), st.tuples(*[st.integers(0, 4)] * ndim))


def expected(values: np.ndarray, depth, channel_axis=False) -> np.ndarray:
    return map_overlap(WindowSum(depth), values, depth, dtype=np.int64, channel_axis=channel_axis)


@given(SHAPES, seeds, st.data())
def test_one_block_is_the_whole_array(shape, seed, data):
    values = voxels(seed, shape)
    depth = data.draw(depths(len(shape)))
    block = OverlapBlock(tuple(slice(0, n) for n in shape), (0,) * len(shape), shape)
    assert np.array_equal(expected(values, depth), WindowSum(depth)(values, block))


@given(SHAPES, seeds, st.data())
def test_any_chunks_and_any_depth_give_the_answer_of_one_block(shape, seed, data):
    values = voxels(seed, shape)
    depth = data.draw(depths(len(shape)))
    chunked = da.from_array(values, chunks=data.draw(chunkings(shape)))
    lazy = map_overlap(WindowSum(depth), chunked, depth, dtype=np.int64)
    assert isinstance(lazy, da.Array)
    assert lazy.chunks == chunked.chunks
    assert np.array_equal(lazy.compute(scheduler="sync"), expected(values, depth))


@given(SHAPES, seeds, st.integers(1, 3), st.data())
def test_channels_of_the_input_stay_together(shape, seed, channels, data):
    values = voxels(seed, (channels, *shape))
    depth = data.draw(depths(len(shape)))
    chunked = da.from_array(values, chunks=(1, *data.draw(chunkings(shape))))
    lazy = map_overlap(WindowSum(depth), chunked, depth, dtype=np.int64, channel_axis=True)
    assert np.array_equal(lazy.compute(scheduler="sync"), expected(values, depth, channel_axis=True))


@given(SHAPES, seeds, st.booleans(), st.data())
def test_channels_of_the_result_are_one_chunk(shape, seed, channel_axis, data):
    values = voxels(seed, (1, *shape) if channel_axis else shape)
    chunks = data.draw(chunkings(shape))
    chunked = da.from_array(values, chunks=(1, *chunks) if channel_axis else chunks)

    def kernel(haloed, block):
        return with_two_channels(haloed[0] if channel_axis else haloed, block)

    lazy = map_overlap(kernel, chunked, 2, dtype=np.int64, channels=2, channel_axis=channel_axis)
    core = values[0] if channel_axis else values
    assert lazy.chunks == ((2,), *chunks)
    assert np.array_equal(lazy.compute(scheduler="sync"), np.stack([core, -core]))


@given(SHAPES, seeds, st.data())
def test_volumes_with_other_chunks_than_the_first(shape, seed, data):
    first, second = voxels(seed, shape), voxels(seed + 1, (2, *shape))
    depth = data.draw(depths(len(shape)))

    def total(region, one, two):
        haloed = grow(region, depth, one.shape)
        return one.read(region) + two.read(haloed)[1][within(region, haloed)]

    volumes = [
        da.from_array(first, chunks=data.draw(chunkings(shape))),
        data.draw(st.sampled_from([second, da.from_array(second, chunks=(1, *data.draw(chunkings(shape))))])),
    ]
    lazy = map_regions(total, volumes, [False, True], depth=depth, dtype=np.int64)
    assert np.array_equal(lazy.compute(scheduler="sync"), first + second[1])


# Kinds of volumes


def test_a_labelled_volume_keeps_its_labels():
    grid = Grid(("z", "y", "x"), (4, 6, 8), (40, 4, 4), (400, 0, 8))
    volume = label(da.from_array(voxels(0, (3, 4, 6, 8)), chunks=(1, 2, 3, 5)), grid, name="affs")
    lazy = map_overlap(with_two_channels_of_first, volume, 1, dtype=np.int64, channels=2, channel_axis=True)
    assert isinstance(lazy, xr.DataArray)
    assert isinstance(lazy.data, da.Array)
    assert lazy.dims == ("channel", "z", "y", "x")
    assert grid_of(lazy) == grid
    plain = map_overlap(WindowSum(1), volume, 1, dtype=np.int64, channel_axis=True)
    assert plain.dims == ("z", "y", "x")
    assert grid_of(plain) == grid
    assert np.array_equal(plain, expected(volume.values, 1, channel_axis=True))


def with_two_channels_of_first(haloed, block):
    return with_two_channels(haloed[0], block)


def test_a_labelled_volume_in_memory_is_one_block():
    volume = label(voxels(0, (6, 8)), Grid(("y", "x"), (6, 8), (4, 4), (0, 8)))
    lazy = map_overlap(WindowSum(2), volume, 2, dtype=np.int64)
    assert lazy.data.numblocks == (1, 1)
    assert np.array_equal(lazy, expected(volume.values, 2))


@pytest.fixture
def stored(tmp_path) -> xr.DataArray:
    path = tmp_path / "a.zarr" / "labels"
    save_volume(voxels(5, (20, 24, 30)), path, block_shape=(8, 8, 16), offset=(10, 0, 0))
    return open_volume(path, chunks=(7, 9, 11))


@pytest.mark.parametrize("depth", [0, 1, (9, 0, 2)])
@pytest.mark.parametrize("crop", [(), (slice(3, 19), slice(None), slice(5, 6))])
def test_a_stored_volume_is_read_with_its_halo(stored, depth, crop):
    volume = stored[crop]
    lazy = map_overlap(WindowSum(depth), volume, depth, dtype=np.int64)
    assert np.array_equal(lazy, expected(volume.values, depth))


@pytest.mark.parametrize("crop", [(), (slice(3, 19), slice(None), slice(5, 21))])
def test_a_block_of_a_stored_volume_is_one_task(stored, crop):
    lazy = map_overlap(WindowSum(3), stored[crop].chunk(5), 3, dtype=np.int64)
    assert tasks_of(lazy.data) == math.prod(lazy.data.numblocks)


def test_a_block_of_several_stored_volumes_is_one_task(stored, tmp_path):
    save_volume(voxels(6, (2, 20, 24, 30)), tmp_path / "a.zarr" / "affs")
    volumes = [stored, open_volume(tmp_path / "a.zarr" / "affs")]

    def total(region, one, two):
        return one.read(region) + two.read(region).sum(axis=0)

    lazy = map_regions(total, volumes, [False, True], depth=0, dtype=np.int64)
    assert tasks_of(lazy.data) == math.prod(lazy.data.numblocks)
    assert np.array_equal(lazy, volumes[0].values + volumes[1].values.sum(axis=0))


def test_what_is_not_stored_costs_one_task_a_block_more_than_its_chunks(stored):
    volume = stored + 1
    lazy = map_overlap(WindowSum(3), volume, 3, dtype=np.int64)
    assert tasks_of(lazy.data) == tasks_of(volume.data) + math.prod(lazy.data.numblocks)
    assert np.array_equal(lazy, expected(stored.values + 1, 3))


def tasks_of(array: da.Array) -> int:
    (optimised,) = dask.optimize(array)
    return len(dict(optimised.__dask_graph__()))


def test_workers_in_other_processes(stored, cluster_client):
    lazy = map_overlap(WindowSum(2), stored, 2, dtype=np.int64)
    assert np.array_equal(lazy.compute(), expected(stored.values, 2))


# Readers


@given(shapes(6, 7, 8), st.data())
def test_readers_read_boxes(shape, data):
    values = voxels(0, (2, *shape))
    region = data.draw(regions(shape))
    reader = readers_of([values], [True])[0]
    assert reader.shape == shape
    assert reader.origin == (0, 0, 0)
    assert np.array_equal(reader.read(region), values[:, *region])


def test_a_stored_reader_counts_from_its_part(stored):
    part = stored[2:12, 4:20]
    (reader,) = readers_of([part], [False])
    assert isinstance(reader, StoredReader)
    assert reader.shape == (10, 16, 30)
    assert reader.origin == (2, 4, 0)
    region = (slice(1, 3), slice(0, 16), slice(29, 30))
    assert np.array_equal(reader.read(region), part.values[region])
    assert pickle.loads(pickle.dumps(reader)) == reader


def test_a_stored_volume_can_be_read_beyond_the_depth(stored):
    def everything(region, reader):
        whole = reader.read(tuple(slice(0, n) for n in reader.shape))
        return np.full([s.stop - s.start for s in region], whole.sum())

    lazy = map_regions(everything, [stored], [False], depth=0, dtype=np.int64)
    assert (lazy == stored.values.sum()).all()


def test_a_dask_array_cannot_be_read_beyond_the_depth():
    def greedy(region, reader):
        return reader.read(grow(region, 5, reader.shape))

    lazy = map_regions(greedy, [da.zeros((20, 20), chunks=4)], [False], depth=1, dtype=float)
    with pytest.raises(OutOfReachError, match=r"needs the voxels \[\d.*\], more context .*Store the volume"):
        lazy.compute(scheduler="sync")


def test_a_part_in_memory_knows_what_it_holds():
    reader = ArrayReader(np.arange(4), (10,), (3,), (4,))
    assert reader.read((slice(3, 7),)).tolist() == [0, 1, 2, 3]
    for region in (slice(2, 5), slice(5, 8)):
        with pytest.raises(OutOfReachError):
            reader.read((region,))


# Graphs


def test_the_meaning_of_axes_is_part_of_a_name():
    values = da.from_array(voxels(0, (2, 6, 8)), chunks=(2, 3, 4))
    volume = map_overlap(WindowSum(0), values, 0, dtype=np.int64)
    image = map_overlap(WindowSum(0), values, 0, dtype=np.int64, channel_axis=True)
    assert volume.name != image.name
    one = bag_regions(shape_of, [values], [False], depth=0)
    two = bag_regions(shape_of, [values], [True], depth=0)
    assert one.name != two.name


def shape_of(region, reader):
    return reader.read(region).shape


@given(shapes(6, 7), st.data())
def test_a_bag_has_one_element_a_block(shape, data):
    chunks = data.draw(chunkings(shape))
    bag = bag_regions(shape_of, [da.zeros(shape, chunks=chunks)], [False], depth=1)
    blocks = [tuple(s.stop - s.start for s in region) for _, region in blocks_of(chunks)]
    assert bag.npartitions == len(blocks)
    assert bag.compute(scheduler="sync") == blocks


def test_what_is_shared_is_one_key_of_the_graph(stored):
    table = np.arange(100)

    def look_up(region, shared, reader):
        return shared[reader.read(region)]

    shared = delayed(table, pure=True)
    lazy = map_regions(look_up, [stored], [False], depth=0, dtype=np.int64, shared=shared)
    graph = dict(lazy.data.__dask_graph__())
    assert len(graph) == math.prod(lazy.data.numblocks) + 1
    assert np.array_equal(lazy, stored.values)


# Boxes


@given(SHAPES, st.data())
def test_blocks_cover_every_voxel_once(shape, data):
    count = np.zeros(shape, int)
    for index, region in blocks_of(chunks := data.draw(chunkings(shape))):
        count[region] += 1
        assert tuple(s.stop - s.start for s in region) == tuple(
            c[i] for c, i in zip(chunks, index, strict=True)
        )
    assert (count == 1).all()


@given(SHAPES, st.data())
def test_a_region_lies_within_its_halo(shape, data):
    values = voxels(0, shape)
    region = data.draw(regions(shape))
    depth = data.draw(depths(len(shape)))
    haloed = grow(region, depth, shape)
    assert np.array_equal(values[haloed][within(region, haloed)], values[region])
    for s, h, n, d in zip(region, haloed, shape, np.broadcast_to(depth, len(shape)), strict=True):
        assert h == slice(max(0, s.start - d), min(n, s.stop + d))


def test_depth_as_numpy_has_it():
    assert (
        grow((slice(2, 3),), np.int64(1), (9,)) == grow((slice(2, 3),), np.array([1]), (9,)) == (slice(1, 4),)
    )


def test_a_volume_that_is_being_written_can_be_read(tmp_path):
    """Nothing is kept from one read to the next."""
    stored = create_volume(tmp_path / "a.zarr" / "labels", (8, 8), "uint8", block_shape=(4, 4))
    reader = StoredReader(stored, (slice(0, 8), slice(0, 8)))
    assert reader.read((slice(0, 4), slice(0, 4))).sum() == 0
    stored.write((slice(0, 4), slice(0, 4)), np.ones((4, 4), np.uint8))
    assert reader.read((slice(0, 8), slice(0, 4))).sum() == 16
