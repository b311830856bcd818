"""Relabelling: the table's answer whatever the chunks, and never a copy of the table with each task."""

import uuid
from pathlib import Path
from typing import Any

import cloudpickle
import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from dask.delayed import delayed
from distributed import Client
from hypothesis import given
from hypothesis import strategies as st

from lsd_dask.kernels.segmentation import relabeling
from lsd_dask.segmentation.agglomeration import LookupTable
from lsd_dask.segmentation.relabelling import relabel
from lsd_dask.volumes.saving import open_volume, save_volume

from ..helpers.strategies import LARGE_IDS, chunkings, label_volumes, shapes
from ..helpers.tasks import tasks_of

SMALL = LookupTable(np.array([3, 5, 9], np.uint64), np.array([3, 3, 9], np.uint64))
FRAGMENTS = np.array([[0, 3, 5, 9], [9, 9, 0, 5]], np.uint64)
SEGMENTS = np.array([[0, 3, 3, 9], [9, 9, 0, 3]], np.uint64)


def table_of(fragments: np.ndarray, seed: int) -> LookupTable:
    keys = np.unique(fragments[fragments != 0]).astype(np.uint64)
    values = np.random.default_rng(seed).choice(np.append(keys, np.array(LARGE_IDS, np.uint64)), len(keys))
    return LookupTable(keys, values)


@pytest.mark.parametrize("n", [0, 1, 2048, 2049, 30_000])
@pytest.mark.parametrize("different", [1, 5, 3000, 20_000])
def test_distinct_labels_in_the_order_in_which_they_come(n: int, different: int) -> None:
    """Of more than tables have room for at first, in runs, with the background and ids above 2**53."""
    rng = np.random.default_rng(n + different)
    ids = np.append(rng.integers(1, 2**64, different, np.uint64), np.uint64(0))
    labels = np.repeat(rng.choice(ids, n), rng.integers(1, 4, n))[:n]
    expected = [label for label in dict.fromkeys(labels.tolist()) if label]
    assert relabeling.distinct(labels).tolist() == expected


@given(st.data())
def test_every_fragment_gets_its_segment_whatever_the_chunks(data: st.DataObject) -> None:
    fragments = data.draw(shapes(4, 5, 6).flatmap(label_volumes) | shapes(6, 7).flatmap(label_volumes))
    lut = table_of(fragments, data.draw(st.integers(0, 9)))
    segment_of = {0: 0, **dict(zip(lut.keys.tolist(), lut.values.tolist(), strict=True))}
    expected = np.array([segment_of[i] for i in fragments.ravel().tolist()], np.uint64)
    expected = expected.reshape(fragments.shape)

    np.testing.assert_array_equal(relabel(fragments, lut), expected, strict=True)
    lazy = relabel(da.from_array(fragments, chunks=data.draw(chunkings(fragments.shape))), lut)
    assert isinstance(lazy, da.Array)
    np.testing.assert_array_equal(lazy.compute(scheduler="synchronous"), expected, strict=True)

    path = f"memory://{uuid.uuid4().hex}/lut.parquet"
    lut.to_parquet(path)
    np.testing.assert_array_equal(relabel(fragments, path), expected, strict=True)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.uint32, np.int64, np.uint64])
def test_fragments_of_any_integers(dtype: type) -> None:
    np.testing.assert_array_equal(relabel(FRAGMENTS.astype(dtype), SMALL), SEGMENTS, strict=True)
    strided = np.repeat(FRAGMENTS.astype(dtype), 2, axis=1)[:, ::2]
    np.testing.assert_array_equal(relabel(strided, SMALL), SEGMENTS, strict=True)


@pytest.mark.parametrize("kind", ["numpy", "dask", "dataarray"])
def test_a_table_that_is_computed_later(kind: str) -> None:
    fragments: Any = {
        "numpy": FRAGMENTS,
        "dask": da.from_array(FRAGMENTS, chunks=2),
        "dataarray": xr.DataArray(da.from_array(FRAGMENTS, chunks=2), dims=("y", "x")),
    }[kind]
    segmentation = relabel(fragments, delayed(SMALL))
    assert type(segmentation) is type(fragments)
    np.testing.assert_array_equal(np.asarray(segmentation), SEGMENTS)


def test_a_volume_stays_where_it_is(tmp_path: Path) -> None:
    save_volume(FRAGMENTS, tmp_path / "a.zarr/fragments", voxel_size=(4, 8), offset=(40, 0))
    fragments = open_volume(tmp_path / "a.zarr/fragments")
    segmentation = relabel(fragments, SMALL)
    xr.testing.assert_equal(segmentation, xr.DataArray(SEGMENTS, coords=fragments.coords, dims=("y", "x")))
    assert segmentation.attrs == fragments.attrs
    cropped = relabel(fragments.sel(x=slice(8, 24)), SMALL)
    np.testing.assert_array_equal(cropped, SEGMENTS[:, 1:3])


@pytest.mark.parametrize("lut", ["memory", "file"])
def test_a_fragment_that_the_table_does_not_know(tmp_path: Path, lut: str) -> None:
    path = tmp_path / "lut.parquet"
    SMALL.to_parquet(str(path))
    table = SMALL if lut == "memory" else str(path)
    with pytest.raises(ValueError, match="Fragment 7 is not in the lookup table of 3 fragments") as caught:
        relabel(np.array([[3, 7]], np.uint64), table)
    assert (str(path) in str(caught.value)) == (lut == "file")


def test_fragments_that_are_no_labels() -> None:
    with pytest.raises(TypeError, match="float32, expected integers"):
        relabel(FRAGMENTS.astype(np.float32), SMALL)


def test_a_table_in_a_file_may_be_replaced(cluster_client: Client, tmp_path: Path) -> None:
    """Workers keep a table, as every block needs it, but not longer than it is the file's content."""
    path = str(tmp_path / "lut.parquet")
    save_volume(FRAGMENTS, tmp_path / "a.zarr/fragments")
    fragments = open_volume(tmp_path / "a.zarr/fragments")
    for offset in (0, 1, 2):
        LookupTable(SMALL.keys, SMALL.values + np.uint64(offset)).to_parquet(path)
        found = relabel(fragments, path).data.compute()
        np.testing.assert_array_equal(found, np.where(FRAGMENTS, SEGMENTS + np.uint64(offset), 0))


@pytest.fixture
def stored(tmp_path: Path) -> xr.DataArray:
    """27 blocks on disk."""
    voxels = np.arange(1, 48**3 + 1, dtype=np.uint64).reshape(48, 48, 48)
    save_volume(voxels, tmp_path / "a.zarr/fragments", block_shape=(16, 16, 16))
    return open_volume(tmp_path / "a.zarr/fragments", chunks=16)


LARGE = LookupTable(np.arange(1, 48**3 + 1, dtype=np.uint64), np.arange(48**3, 0, -1).astype(np.uint64))


def test_a_block_of_a_stored_volume_is_one_task(stored: xr.DataArray, tmp_path: Path) -> None:
    LARGE.to_parquet(str(tmp_path / "lut.parquet"))
    assert len(tasks_of(relabel(stored, str(tmp_path / "lut.parquet")).data)) == 27
    # The table itself, which is given as it is, may be one more.
    assert len(tasks_of(relabel(stored, LARGE).data)) <= 27 + 1


def test_a_table_goes_to_the_workers_once_and_not_with_the_graph(
    cluster_client: Client, stored: xr.DataArray, tmp_path: Path
) -> None:
    size = LARGE.keys.nbytes + LARGE.values.nbytes
    segmentation = relabel(stored, LARGE).data
    optimised = dask.optimize(segmentation)[0]
    assert len(cloudpickle.dumps(optimised.__dask_graph__())) < size / 20
    assert len(tasks_of(segmentation)) <= 27 + 1
    held = [key for keys in cluster_client.has_what().values() for key in keys]
    assert sum(str(key).startswith("LookupTable") for key in held) == 1
    np.testing.assert_array_equal(segmentation.compute(), LARGE.values.reshape(stored.shape), strict=True)


def test_without_a_cluster_a_table_is_in_the_graph_once(stored: xr.DataArray) -> None:
    size = LARGE.keys.nbytes + LARGE.values.nbytes
    segmentation = relabel(stored, LARGE).data
    graph = dask.optimize(segmentation)[0].__dask_graph__()
    assert size < len(cloudpickle.dumps(graph)) < 1.2 * size
    found = segmentation.compute(scheduler="threads", num_workers=2)
    np.testing.assert_array_equal(found, LARGE.values.reshape(stored.shape), strict=True)
