"""N5 and Neuroglancer precomputed volumes: round trips, as others write them, and as others read them."""

import json
import sys
import threading
import warnings
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
from distributed import Client
from hypothesis import given, settings
from hypothesis import strategies as st

from lsd_dask import workflows
from lsd_dask.space.grids import Grid
from lsd_dask.volumes.opening import open_stored
from lsd_dask.volumes.pyramids import downsample
from lsd_dask.volumes.saving import create_volume, find_stored, grid_of, open_volume, save_volume

from ..helpers.strategies import LARGE_IDS, chunkings, regions, seeds, shapes

tensorstore = pytest.importorskip("tensorstore")

ZYX = ("z", "y", "x")
SHAPE = (19, 40, 37)
PLACE = {"voxel_size": (40, 4, 8), "offset": (400, 40, 8)}
GRID = Grid(ZYX, SHAPE, (40, 4, 8), (400, 40, 8), "nanometer")
RAW = np.random.default_rng(0).integers(0, 256, (3, *SHAPE)).astype("uint8")
LABELS = np.random.default_rng(1).choice(np.array([0, *LARGE_IDS], "uint64"), SHAPE)

both = pytest.mark.parametrize("name", ["em.n5/volumes/em", "precomputed://em"])


def path_in(folder: Path, name: str) -> str:
    prefix, _, rest = name.rpartition("://")
    return f"{prefix}://{folder}/{rest}" if prefix else f"{folder}/{name}"


def write(driver: str, path: Path, voxels: np.ndarray, **metadata: Any) -> None:
    """With plain calls of tensorstore; voxels are in the order x, y, z[, channel]."""
    spec = {"driver": driver, "kvstore": {"driver": "file", "path": f"{path}/"}, "create": True, **metadata}
    tensorstore.open(spec).result().write(voxels).result()


# Round trips


@both
@settings(max_examples=min(settings().max_examples, 50))
@given(data=st.data())
def test_what_is_saved_is_opened(tmp_path_factory, name, data):
    path = path_in(tmp_path_factory.mktemp("round"), name)
    dtype = data.draw(st.sampled_from(["uint8", "uint16", "uint32", "uint64", "int32", "float32"]))
    shape = data.draw(shapes(20, 20, 20))
    lead = data.draw(st.sampled_from([(), (2,), (3,)]))
    rng = np.random.default_rng(data.draw(seeds))
    voxels = (rng.random((*lead, *shape)) * 2**40).astype("uint64").astype(dtype)
    voxel_size = data.draw(st.tuples(*[st.sampled_from([4, 8, 9.5, 40])] * 3))
    corner = data.draw(st.tuples(*[st.integers(-9, 9)] * 3))
    volume = voxels
    if data.draw(st.booleans()):
        volume = da.from_array(voxels, chunks=(-1,) * len(lead) + data.draw(chunkings(shape)))
    grid = Grid(ZYX, shape, voxel_size, tuple(c * v for c, v in zip(corner, voxel_size, strict=True)))
    side = data.draw(st.sampled_from([4, 8, 16]))
    times = data.draw(st.sampled_from([1, 2])) if "://" in name else 1
    shards = {"chunk_shape": (side,) * 3, "block_shape": (side * times,) * 3}
    save_volume(volume, path, voxel_size=voxel_size, offset=grid.offset, **shards)
    opened = open_volume(path)
    assert opened.dtype == dtype
    assert grid_of(opened) == grid
    np.testing.assert_array_equal(opened, voxels)
    region = data.draw(regions(shape))
    np.testing.assert_array_equal(open_stored(path).read(region), voxels[(..., *region)])


@both
def test_volumes_are_written_by_workers_and_read_where_they_are(tmp_path, cluster_client: Client, name):
    path = path_in(tmp_path, name)
    save_volume(LABELS, tmp_path / "em.zarr" / "labels", **PLACE, block_shape=(8, 16, 16))
    blocks = {"block_shape": (16, 16, 16), "chunk_shape": (8, 8, 8) if "://" in name else None}
    save_volume(open_volume(tmp_path / "em.zarr" / "labels"), path, **blocks)
    volume = open_volume(path)
    np.testing.assert_array_equal(volume, LABELS)
    assert grid_of(volume) == GRID
    stored, region = find_stored(volume[3:9, :, 5:])
    np.testing.assert_array_equal(stored.read(region), LABELS[3:9, :, 5:])


@both
def test_volumes_are_replaced_when_the_new_one_is_complete(tmp_path, name):
    path = path_in(tmp_path, name)
    save_volume(LABELS, path, **PLACE)
    before = open_stored(path)
    with pytest.raises(FileExistsError, match=r"already there; pass overwrite=True"):
        save_volume(LABELS, path, **PLACE)

    def fail(block: np.ndarray) -> np.ndarray:
        raise RuntimeError("no disk")

    failing = da.from_array(LABELS, chunks=8).map_blocks(fail, dtype="uint64", meta=LABELS[:0])
    with pytest.raises(RuntimeError, match="no disk"):
        save_volume(failing, path, **PLACE, overwrite=True)
    np.testing.assert_array_equal(open_volume(path), LABELS)
    save_volume(RAW, path, **PLACE, overwrite=True)
    np.testing.assert_array_equal(open_volume(path), RAW)
    with pytest.raises(ValueError, match="the volume was replaced by a different one since it was opened"):
        before.read(tuple(slice(0, n) for n in SHAPE))
    assert not list(tmp_path.rglob("*.partial"))


def test_steps_read_precomputed_volumes(tmp_path, cluster_client: Client):
    path = f"precomputed://{tmp_path}/labels"
    save_volume(LABELS, path, **PLACE)
    pyramid = {"out_file": str(tmp_path / "view.zarr"), "out_dataset": "labels", "levels": 1}
    workflows.build_pyramid(in_file=path, in_dataset="/", **pyramid)
    np.testing.assert_array_equal(open_volume(tmp_path / "view.zarr" / "labels"), LABELS)
    affinities = f"precomputed://{tmp_path}/affinities"
    save_volume(RAW, affinities, **PLACE)
    out = {"fragments_file": str(tmp_path / "out.zarr")}
    workflows.extract_fragments(affs_file=affinities, affs_dataset="/", **out)
    assert grid_of(open_volume(tmp_path / "out.zarr" / "volumes" / "fragments")) == GRID


# Precomputed


@pytest.fixture
def pyramid(tmp_path: Path) -> str:
    path = f"precomputed://{tmp_path}/labels"
    place = {"voxel_size": (40, 8, 8), "offset": (400, 80, 16)}
    save_volume(LABELS, path, **place, chunk_shape=(8, 8, 8), block_shape=(16, 16, 16))
    coarse = {"voxel_size": (40, 16, 16), "offset": (400, 80, 16)}
    save_volume(downsample(LABELS, (1, 2, 2), "mode"), path, **coarse)
    return path


def test_pyramids_have_a_scale_a_level(pyramid):
    for level, voxels in enumerate([LABELS, downsample(LABELS, (1, 2, 2), "mode")]):
        volume = open_volume(pyramid, level=level)
        np.testing.assert_array_equal(volume, voxels)
        assert grid_of(volume).voxel_size == (40, 8 * 2**level, 8 * 2**level)
        assert grid_of(volume).offset == (400, 80, 16)
    with pytest.raises(ValueError, match="level 2 was asked for, but the levels are 0 to 1"):
        open_volume(pyramid, level=2)
    with pytest.raises(ValueError, match="data_type"):
        save_volume(RAW[0], pyramid, voxel_size=(80, 32, 32))


def test_precomputed_axes_are_x_y_z(pyramid):
    info = json.loads((Path(pyramid.removeprefix("precomputed://")) / "info").read_text())
    assert (info["type"], info["data_type"], info["num_channels"]) == ("segmentation", "uint64", 1)
    fine = info["scales"][0]
    assert fine["size"] == [37, 40, 19]
    assert fine["resolution"] == [8, 8, 40]
    assert fine["voxel_offset"] == [2, 10, 10]
    assert fine["encoding"] == "compressed_segmentation"
    assert fine["sharding"]["@type"] == "neuroglancer_uint64_sharded_v1"
    stored = open_stored(pyramid)
    assert stored.write_shape == (16, 16, 16)
    with pytest.raises(ValueError, match="cover a shard in part"):
        stored.write((slice(0, 8), slice(0, 16), slice(0, 16)), LABELS[:8, :16, :16])


def test_cloudvolume_reads_sharded_segmentations_and_images(pyramid, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cloudvolume = pytest.importorskip("cloudvolume")
        for level, voxels in enumerate([LABELS, downsample(LABELS, (1, 2, 2), "mode")]):
            read = cloudvolume.CloudVolume(
                pyramid.replace("precomputed://", "precomputed://file://"), mip=level, progress=False
            )
            np.testing.assert_array_equal(read[:][..., 0], voxels.T)
            assert read.resolution.tolist() == [8 * 2**level, 8 * 2**level, 40]
            assert (read.voxel_offset * read.resolution).tolist() == [16, 80, 400]
        save_volume(RAW, f"precomputed://{tmp_path}/raw", **PLACE)
        image = cloudvolume.CloudVolume(f"precomputed://file://{tmp_path}/raw", progress=False)
        np.testing.assert_array_equal(image[:], RAW.T)


def test_precomputed_as_others_write_it(tmp_path):
    scale = {"size": SHAPE[::-1], "resolution": [8, 4, 40], "voxel_offset": [1, 10, 10], "encoding": "raw"}
    about = {"type": "image", "data_type": "uint8", "num_channels": 1}
    write(
        "neuroglancer_precomputed",
        tmp_path / "raw",
        RAW[:1].T,
        scale_metadata={**scale, "chunk_size": [16, 8, 4]},
        multiscale_metadata=about,
    )
    volume = open_volume(f"precomputed://{tmp_path}/raw")
    assert volume.dims == ZYX
    assert grid_of(volume) == GRID
    np.testing.assert_array_equal(volume, RAW[0])
    assert grid_of(open_volume(f"precomputed://{tmp_path}/raw", voxel_size=(1, 1, 1))).voxel_size == (1, 1, 1)


def test_micrometers_become_nanometers(tmp_path):
    path = f"precomputed://{tmp_path}/raw"
    save_volume(RAW[0], path, voxel_size=(0.04, 0.004, 0.008), units="micrometer")
    assert grid_of(open_volume(path)) == Grid(ZYX, SHAPE, (40, 4, 8), (0, 0, 0), "nanometer")


@pytest.mark.parametrize(
    ("voxels", "options", "message"),
    [
        (RAW[0] > 9, {}, "found voxels of bool, expected one of uint8, uint16"),
        (LABELS.astype("int64"), {}, "found voxels of int64"),
        (RAW[0, 0], {}, "found a volume of the axes y, x, expected z, y, x"),
        (LABELS, {"offset": (2, 0, 0), "voxel_size": (4, 4, 4)}, "is no multiple of the voxel size"),
        (
            LABELS,
            {"voxel_size": (4, 4, 4), "units": "second"},
            "units: found 'second', expected a unit of length",
        ),
        (LABELS, {"block_shape": (64, 64, 96)}, r"block_shape: found .* expected 1, 2, 4, ... times"),
        (LABELS, {"block_shape": (96, 96, 96)}, r"block_shape: found .* expected 1, 2, 4, ... times"),
        (LABELS, {"chunk_shape": (64, 64)}, "chunk_shape needs 3 positive numbers"),
        (LABELS, {"zarr_format": 3}, "zarr_format: found 3, expected none"),
    ],
)
def test_what_precomputed_cannot_hold(tmp_path, voxels, options, message):
    with pytest.raises(ValueError, match=message):
        save_volume(voxels, f"precomputed://{tmp_path}/a", **options)
    assert not (tmp_path / "a").exists()


def test_precomputed_volumes_that_are_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no precomputed volume: expected a file .*/a/info"):
        open_volume(f"precomputed://{tmp_path}/a")
    with pytest.raises(ValueError, match="found the protocol 'memory', expected a path or one of gs"):
        open_volume("precomputed://memory://a")
    with pytest.raises(ValueError, match="create_volume makes zarr arrays; save_volume writes other formats"):
        create_volume(f"precomputed://{tmp_path}/a", (4, 4, 4), "uint8")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "info").write_text('{"scales": [')
    with pytest.raises(ValueError, match=r"a/info: not a readable JSON file .*; was it cut short"):
        open_volume(f"precomputed://{tmp_path}/a")


@pytest.mark.parametrize("name", ["em.n5/em", "precomputed://em"])
def test_volumes_are_read_over_http(tmp_path, name):
    # Python's server sends files whole, hence no shards.
    shards = {"chunk_shape": (16, 16, 16), "block_shape": (16, 16, 16)}
    save_volume(LABELS, path_in(tmp_path, name), **PLACE, **shards)
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            prefix, _, rest = name.rpartition("://")
            url = f"http://127.0.0.1:{server.server_port}/{rest}"
            path = f"{prefix}://{url}" if prefix else url
            volume = open_volume(path)
            assert grid_of(volume) == GRID
            np.testing.assert_array_equal(volume, LABELS)
            with pytest.raises(ValueError, match="only local ones are replaced"):
                save_volume(LABELS, path, **PLACE, overwrite=True)
        finally:
            server.shutdown()
            thread.join()


def test_the_extra_is_named_where_it_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorstore", None)
    with pytest.raises(ModuleNotFoundError, match=r"need tensorstore: pip install 'lsd-dask\[formats\]'"):
        open_volume(tmp_path / "em.n5" / "raw")


def test_damaged_shards_are_named(pyramid):
    for shard in Path(pyramid.removeprefix("precomputed://")).rglob("*.shard"):
        shard.write_bytes(shard.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"labels: .*"):
        open_volume(pyramid).compute()


# N5


@pytest.mark.parametrize(
    "attributes",
    [
        {"resolution": [8, 4, 40], "offset": [8, 40, 400], "units": ["nm"] * 3, "axes": ["x", "y", "z"]},
        {"resolution": [8, 4, 40], "offset": [8, 40, 400]},
        {"pixelResolution": {"dimensions": [8, 4, 40], "unit": "nm"}, "offset": [8, 40, 400]},
        {
            "transform": {
                "axes": ["z", "y", "x"],
                "ordering": "C",
                "scale": [40, 4, 8],
                "translate": [400, 40, 8],
                "units": ["nm"] * 3,
            },
            "pixelResolution": {"dimensions": [0.008, 0.004, 0.04], "unit": "um"},
        },
    ],
)
def test_n5_as_others_write_it(tmp_path, attributes):
    path = tmp_path / "em.n5" / "volumes" / "raw"
    metadata = {"dataType": "uint8", "dimensions": SHAPE[::-1], "blockSize": [16, 8, 4]}
    write("n5", path, RAW[0].T, metadata={**metadata, "compression": {"type": "gzip"}})
    file = path / "attributes.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **attributes}))
    volume = open_volume(path)
    assert grid_of(volume) == GRID
    np.testing.assert_array_equal(volume, RAW[0])
    np.testing.assert_array_equal(volume.sel(z=slice(480, 560), x=slice(16, 32)), RAW[0, 2:4, :, 1:3])


def test_levels_of_an_n5_group(tmp_path):
    group = tmp_path / "em.n5" / "raw"
    for level, voxels in enumerate([RAW[0], RAW[0, :, ::2, ::2]]):
        metadata = {"dataType": "uint8", "dimensions": voxels.shape[::-1], "blockSize": [16, 8, 4]}
        write("n5", group / f"s{level}", voxels.T, metadata={**metadata, "compression": {"type": "gzip"}})
    (group / "attributes.json").write_text(json.dumps({"resolution": [8, 4, 40], "offset": [8, 40, 400]}))
    file = group / "s1" / "attributes.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "downsamplingFactors": [2, 2, 1]}))
    assert grid_of(open_volume(group)) == GRID
    coarse = open_volume(group, level=1)
    assert grid_of(coarse) == Grid(ZYX, (19, 20, 19), (40, 8, 16), (400, 40, 8), "nanometer")
    np.testing.assert_array_equal(coarse, RAW[0, :, ::2, ::2])
    with pytest.raises(ValueError, match="s0: level 1 was asked for, but this is an array"):
        open_volume(group / "s0", level=1)


def test_pixel_resolution_beside_factors_is_that_of_the_finest_level(tmp_path):
    group = tmp_path / "em.n5" / "raw"

    def write_level(name, pixel_resolution, factors):
        metadata = {"dataType": "uint8", "dimensions": SHAPE[::-1], "blockSize": [16, 8, 4]}
        write("n5", group / name, RAW[0].T, metadata={**metadata, "compression": {"type": "gzip"}})
        said = {"pixelResolution": {"dimensions": pixel_resolution, "unit": "nm"}}
        file = group / name / "attributes.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **said, "downsamplingFactors": factors}))

    write_level("s1", [8, 4, 40], [2, 2, 1])
    assert grid_of(open_volume(group / "s1")).voxel_size == (40, 8, 16)
    write_level("s0", [8, 4, 40], [1, 1, 1])
    write_level("s2", [32, 16, 80], [4, 4, 2])
    assert grid_of(open_volume(group)).voxel_size == (40, 4, 8)
    assert grid_of(open_volume(group, level=1)).voxel_size == (40, 8, 16)
    with pytest.raises(ValueError, match=r"\(160, 64, 128\).* and .*raw/s0.*\(80, 16, 32\).* contradict"):
        open_volume(group, level=2)
    assert grid_of(open_volume(group, level=2, voxel_size=(80, 16, 32))).voxel_size == (80, 16, 32)


def test_tensorstore_and_cloudvolume_read_n5(tmp_path):
    save_volume(LABELS, tmp_path / "em.n5" / "labels", **PLACE)
    spec = {"driver": "n5", "kvstore": {"driver": "file", "path": f"{tmp_path}/em.n5/labels/"}}
    store = tensorstore.open(spec).result()
    assert store.domain.labels == ("x", "y", "z")
    assert [(unit.multiplier, unit.base_unit) for unit in store.dimension_units] == [
        (8, "nanometer"),
        (4, "nanometer"),
        (40, "nanometer"),
    ]
    np.testing.assert_array_equal(store.read().result(), LABELS.T)
    assert json.loads((tmp_path / "em.n5" / "attributes.json").read_text()) == {"n5": "2.0.0"}
    attributes = json.loads((tmp_path / "em.n5" / "labels" / "attributes.json").read_text())
    assert attributes["offset"] == [8, 40, 400]
    assert attributes["transform"]["translate"] == [400, 40, 8]


def test_n5_arrays_that_are_not_there(tmp_path):
    path = tmp_path / "em.n5"
    with pytest.raises(FileNotFoundError, match="there is no N5 array"):
        open_volume(path / "raw")
    with pytest.raises(ValueError, match="expected a container and the name of an array in it"):
        save_volume(LABELS, path)
    save_volume(LABELS, path / "volumes" / "labels")
    save_volume(RAW, path / "volumes" / "raw")
    assert open_volume(path / "volumes" / "raw").dims == ("channel", *ZYX)
    with pytest.raises(FileNotFoundError, match=r"did you mean 'volumes/raw'\? Its arrays: volumes/labels, "):
        open_volume(path / "volumes" / "rav")
