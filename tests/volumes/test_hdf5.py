"""HDF5 files: as CREMI ships them, and as others read what is written."""

import sys
from pathlib import Path
from typing import Any

import dask.array as da
import gunpowder as gp
import h5py
import numpy as np
import pytest
from distributed import Client
from hypothesis import given, settings
from hypothesis import strategies as st

from lsd_dask.space.grids import Grid
from lsd_dask.storage import disks
from lsd_dask.volumes.opening import open_stored
from lsd_dask.volumes.saving import find_stored, grid_of, open_volume, save_volume

from ..helpers.strategies import chunkings, regions, seeds, shapes

SHAPE = (6, 20, 30)
ZYX = ("z", "y", "x")
GRID = Grid(ZYX, SHAPE, (40, 4, 4), (400, 40, 8), "nanometer")
PLACE = {"voxel_size": (40, 4, 4), "offset": (400, 40, 8)}
VOXELS = np.random.default_rng(0).integers(0, 255, (3, *SHAPE)).astype("uint8")
LABELS = VOXELS[0].astype("uint64") + 2**60

# Read


@pytest.fixture
def cremi(tmp_path) -> str:
    path = tmp_path / "sample_A.hdf"
    with h5py.File(path, "w") as file:
        file.create_dataset("volumes/raw", data=VOXELS[0], chunks=(2, 8, 8)).attrs["resolution"] = (
            40.0,
            4.0,
            4.0,
        )
        labels = file.create_dataset("volumes/labels/neuron_ids", data=VOXELS[0].astype("uint64"))
        labels.attrs["resolution"] = (40.0, 4.0, 4.0)
        labels.attrs["offset"] = (400.0, 40.0, 8.0)
        labels.attrs["units"] = np.array([b"nm", b"nm", b"nm"])
        file["plain"] = VOXELS
    return str(path)


def test_hdf5_as_cremi_ships_it(cremi):
    labels = open_volume(f"{cremi}/volumes/labels/neuron_ids")
    assert labels.name == "neuron_ids"
    assert grid_of(labels) == GRID
    np.testing.assert_array_equal(labels.sel(z=slice(440, 480)), VOXELS[0, 1:2])
    assert grid_of(open_volume(f"{cremi}/volumes/raw")).offset == (0, 0, 0)
    plain = open_volume(f"{cremi}/plain")
    assert plain.dims == ("channel", *ZYX)
    assert grid_of(plain).voxel_size == (1, 1, 1)
    stored, region = find_stored(plain[:, 1:4])
    np.testing.assert_array_equal(stored.read(region), VOXELS[:, 1:4])


def test_hdf5_datasets_that_are_not_there(cremi, tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"no array 'volumes/rav'; did you mean 'volumes/raw'\? Its arrays: plain"
    ):
        open_volume(f"{cremi}/volumes/rav")
    with pytest.raises(
        ValueError, match=r"a group, not an array; name one of its arrays: volumes/labels.*, volumes/raw"
    ):
        open_volume(f"{cremi}/volumes")
    with pytest.raises(FileNotFoundError, match="there is no such HDF5 file"):
        open_volume(tmp_path / "sample_B.hdf" / "volumes" / "raw")
    (tmp_path / "cut.h5").write_bytes(b"123")
    with pytest.raises(ValueError, match="not an HDF5 file, or one that was cut short"):
        open_volume(tmp_path / "cut.h5" / "raw")
    with pytest.raises(ValueError, match="local files only"):
        open_volume("s3://bucket/sample_A.hdf/volumes/raw")


# Written


@settings(max_examples=min(settings().max_examples, 50))
@given(data=st.data())
def test_what_is_saved_is_opened(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("hdf5") / "new" / "a.hdf" / "volumes" / "raw"
    shape = data.draw(st.one_of(shapes(9, 9), shapes(9, 9, 9)))
    dtype = data.draw(st.sampled_from(["uint8", "uint64", "float32", "bool"]))
    lead = data.draw(st.sampled_from([(), (2,)]))
    voxels = np.random.default_rng(data.draw(seeds)).integers(0, 2, (*lead, *shape)).astype(dtype)
    volume = voxels
    if data.draw(st.booleans()):
        volume = da.from_array(voxels, chunks=(-1,) * len(lead) + data.draw(chunkings(shape)))
    place = {"voxel_size": (4,) * len(shape), "offset": (8,) * len(shape)}
    chunk = data.draw(st.sampled_from([None, (3,) * len(shape)]))
    save_volume(volume, path, **place, chunk_shape=chunk)
    opened = open_volume(path)
    assert opened.dtype == dtype
    assert grid_of(opened) == Grid(ZYX[3 - len(shape) :], shape, **place)
    np.testing.assert_array_equal(opened, voxels)
    region = data.draw(regions(shape))
    np.testing.assert_array_equal(open_stored(path).read(region), voxels[(..., *region)])


def test_one_process_writes_what_workers_compute(tmp_path, cluster_client: Client):
    save_volume(LABELS, tmp_path / "a.zarr" / "labels", **PLACE, block_shape=(4, 8, 8))
    save_volume(open_volume(tmp_path / "a.zarr" / "labels"), tmp_path / "a.hdf" / "labels")
    np.testing.assert_array_equal(open_volume(tmp_path / "a.hdf" / "labels"), LABELS)


def test_the_extra_is_named_where_it_is_missing(cremi, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ModuleNotFoundError, match=r"need h5py: pip install 'lsd-dask\[hdf5\]'"):
        open_volume(cremi)
    with pytest.raises(ModuleNotFoundError, match=r"need h5py: pip install 'lsd-dask\[hdf5\]'"):
        save_volume(np.zeros((2, 2, 2), np.uint8), tmp_path / "new" / "a.hdf" / "raw")
    assert not (tmp_path / "new").exists()


def test_datasets_are_replaced_when_the_new_one_is_complete(tmp_path):
    path = tmp_path / "a.hdf" / "volumes" / "raw"
    save_volume(LABELS, path, **PLACE)
    with pytest.raises(FileExistsError, match=r"raw: a dataset of shape \(6, 20, 30\) .* is already there"):
        save_volume(LABELS, path)
    with pytest.raises(FileExistsError, match="volumes: a group is already there"):
        save_volume(LABELS, path.parent, overwrite=True)
    with pytest.raises(ValueError, match="expected a file and the name of a dataset"):
        save_volume(LABELS, tmp_path / "a.hdf")

    def fail(block: np.ndarray) -> np.ndarray:
        raise RuntimeError("no disk")

    with pytest.raises(RuntimeError, match="no disk"):
        save_volume(da.from_array(LABELS).map_blocks(fail, meta=LABELS[:0]), path, overwrite=True)
    np.testing.assert_array_equal(open_volume(path), LABELS)
    save_volume(VOXELS, path, overwrite=True)
    np.testing.assert_array_equal(open_volume(path), VOXELS)
    with h5py.File(tmp_path / "a.hdf") as file:
        assert list(file["volumes"]) == ["raw"]


def test_files_are_as_cremi_has_them(tmp_path):
    save_volume(VOXELS[0], tmp_path / "a.hdf" / "volumes" / "raw", voxel_size=(40, 4, 4))
    save_volume(LABELS, tmp_path / "a.hdf" / "volumes" / "labels" / "neuron_ids", **PLACE)
    with h5py.File(tmp_path / "a.hdf") as file:
        assert file.attrs["file_format"] == "0.2"
        labels = file["volumes/labels/neuron_ids"]
        assert labels.dtype == "uint64"
        assert labels.attrs["resolution"].tolist() == [40, 4, 4]
        assert labels.attrs["offset"].tolist() == [400, 40, 8]
        np.testing.assert_array_equal(labels, LABELS)


@pytest.mark.filterwarnings("ignore:HDF5LikeSource is depricated:DeprecationWarning")
def test_gunpowder_reads_them(tmp_path):
    save_volume(LABELS, tmp_path / "a.hdf" / "volumes" / "labels", **PLACE)
    key = gp.ArrayKey("LABELS")
    source = gp.Hdf5Source(str(tmp_path / "a.hdf"), {key: "volumes/labels"})
    request = gp.BatchRequest()
    request[key] = gp.ArraySpec(roi=gp.Roi((440, 48, 16), (80, 40, 40)))
    with gp.build(source):
        assert source.spec[key].roi == gp.Roi((400, 40, 8), (240, 80, 120))
        assert source.spec[key].voxel_size == (40, 4, 4)
        batch = source.request_batch(request)
    np.testing.assert_array_equal(batch[key].data, LABELS[1:3, 2:12, 2:12])


def test_a_file_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    for name in ("sync_file", "rename"):
        function = getattr(disks, name)

        def noted(*what: Any, name: str = name, function: Any = function) -> None:
            done.append(f"{name} {Path(what[0]).suffix}")
            function(*what)

        monkeypatch.setattr(disks, name, noted)
    save_volume(np.ones((4, 4, 4), np.uint8), tmp_path / "new/em.h5/raw")
    assert done[-3:-1] == ["sync_file .partial", "rename .partial"]
