"""Coarser levels: against a definition cell by cell, blockwise, resumed, and as others read them."""

import importlib
import itertools
import json
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import zarr
from distributed import Client
from hypothesis import given
from hypothesis import strategies as st
from skimage.measure import block_reduce

from lsd_dask import workflows
from lsd_dask.space.grids import Grid
from lsd_dask.volumes.pyramids import downsample, kind_of, plan_levels
from lsd_dask.volumes.saving import grid_of, open_volume, save_volume

from ..helpers.strategies import label_volumes, seeds, shapes

factors = st.lists(st.sampled_from([1, 2]), min_size=2, max_size=3)
both_formats = pytest.mark.parametrize("zarr_format", [2, 3])
RAW = np.random.default_rng(0).integers(0, 256, (11, 40, 37)).astype("uint8")
LABELS = np.random.default_rng(1).choice(np.array([0, 7, 2**63, 2**64 - 1], "uint64"), RAW.shape)
PLACE = {"voxel_size": (40, 8, 8), "offset": (400, 40, 8)}


def cells(array: np.ndarray, factors: list[int]) -> Iterator[tuple[tuple[int, ...], list]]:
    """Place and voxels of every cell."""
    counts = [range(-(-n // f)) for n, f in zip(array.shape, factors, strict=True)]
    for place in itertools.product(*counts):
        box = tuple(slice(i * f, (i + 1) * f) for i, f in zip(place, factors, strict=True))
        yield place, array[box].ravel().tolist()


@given(st.data())
def test_labels_become_the_most_frequent_one(data):
    by = data.draw(factors)
    labels = data.draw(label_volumes(data.draw(shapes(*[5] * len(by)))))
    found = downsample(labels, by, "mode")
    assert found.dtype == labels.dtype
    for place, voxels in cells(labels, by):
        counted = Counter(voxels)
        best = max(counted, key=lambda label: (counted[label], label != 0, -label))
        assert found[place] == best


@given(st.data())
def test_numbers_become_their_mean(data):
    by = data.draw(factors)
    dtype = np.dtype(data.draw(st.sampled_from(["u1", "i2", "u4", "i8", "u8"])))
    rng, limits = np.random.default_rng(data.draw(seeds)), np.iinfo(dtype)
    shape = data.draw(shapes(*[5] * len(by)))
    low = data.draw(st.sampled_from([limits.min, limits.max - 3]))
    array = rng.integers(low, limits.max, shape, dtype=dtype, endpoint=True)
    found = downsample(array, by, "mean")
    assert found.dtype == dtype
    for place, voxels in cells(array, by):
        assert found[place] == (Fraction(sum(voxels), len(voxels)) + Fraction(1, 2)) // 1


@given(seeds, factors, st.sampled_from(["f2", "f4", "f8"]))
def test_fractions_are_reduced_as_by_scikit_image(seed, by, dtype):
    array = np.random.default_rng(seed).random([4, 6, 8][: len(by)]).astype(dtype)
    expected = block_reduce(array.astype("f8"), tuple(by), np.mean).astype(dtype)
    np.testing.assert_allclose(downsample(array, by, "mean"), expected, rtol=1e-3 if dtype == "f2" else 1e-6)


@pytest.mark.parametrize("kind", ["mean", "mode"])
def test_channels_are_reduced_by_themselves(kind):
    both = np.stack([RAW, RAW // 100])
    expected = [downsample(channel, (1, 2, 2), kind) for channel in both]
    np.testing.assert_array_equal(downsample(both, (1, 2, 2), kind), expected)


def test_what_cannot_be_reduced():
    with pytest.raises(ValueError, match=r"factors: found \(3, 2\), expected 1 or 2"):
        downsample(RAW, (3, 2), "mean")
    with pytest.raises(ValueError, match="kind: found 'max', expected 'mean' or 'mode'"):
        downsample(RAW, (2, 2), "max")
    with pytest.raises(TypeError, match="truth values"):
        downsample(RAW > 9, (2, 2), "mean")
    assert downsample(RAW > 9, (1, 2, 2), "mode").dtype == bool
    assert kind_of(np.dtype("int64")) == kind_of(np.dtype(bool)) == "mode"


@given(st.data())
def test_levels_cover_the_volume_from_its_corner(data):
    n = data.draw(st.sampled_from([2, 3]))
    shape = data.draw(st.tuples(*[st.integers(1, 3000)] * n))
    size = data.draw(st.tuples(*[st.sampled_from([4, 9.2, 20, 40])] * n))
    finest = grid = Grid(("z", "y", "x")[3 - n :], shape, size, (8,) * n)
    levels = plan_levels(grid)
    for level in levels:
        assert level.grid.offset == finest.offset
        for axis, factor in enumerate(level.factors):
            assert level.grid.shape[axis] == -(-grid.shape[axis] // factor)
            assert level.grid.voxel_size[axis] == factor * grid.voxel_size[axis]
            smallest = min(v for v, m in zip(grid.voxel_size, grid.shape, strict=True) if m > 1)
            assert (factor == 2) == (grid.shape[axis] > 1 and grid.voxel_size[axis] < 1.999 * smallest)
        grid = level.grid
    assert max(grid.shape) <= (512 if n == 2 else 64)
    assert len(plan_levels(finest, 2)) == (0 if max(shape) == 1 else 1 if max(shape) == 2 else 2)


# The workflow


def expected_levels(array: np.ndarray, kind: str, levels: int) -> list[np.ndarray]:
    grid = Grid(("z", "y", "x"), array.shape, PLACE["voxel_size"], PLACE["offset"])
    found = [array]
    for level in plan_levels(grid, levels):
        found.append(downsample(found[-1], level.factors, kind))
    return found


@pytest.fixture
def container(tmp_path: Path, request: pytest.FixtureRequest) -> str:
    zarr_format = getattr(request, "param", 3)
    path = str(tmp_path / "volume.zarr")
    save_volume(RAW, f"{path}/volumes/raw", **PLACE, zarr_format=zarr_format, block_shape=(4, 16, 16))
    save_volume(LABELS, f"{path}/volumes/neurons", **PLACE, zarr_format=zarr_format)
    return path


@pytest.mark.parametrize("block_size", [None, (160, 128, 128), (40, 72, 400)])
@pytest.mark.parametrize(("dataset", "kind"), [("raw", "mean"), ("neurons", "mode")])
def test_no_block_shows(container: str, cluster_client: Client, block_size, dataset, kind):
    array = {"raw": RAW, "neurons": LABELS}[dataset]
    result = workflows.build_pyramid(
        in_file=container, in_dataset=f"volumes/{dataset}", levels=3, block_size=block_size
    )
    assert result.outputs["pyramid"] == f"{container}/volumes/{dataset}"
    for level, expected in enumerate(expected_levels(array, kind, 3)):
        volume = open_volume(f"{container}/volumes/{dataset}", level=level)
        np.testing.assert_array_equal(volume, expected)
        assert grid_of(volume).offset == PLACE["offset"]
    assert grid_of(volume).voxel_size == (80, 64, 64)
    attributes = zarr.open_group(f"{container}/volumes").attrs["ome"]["multiscales"]
    assert [entry["name"] for entry in attributes] == ["raw", "neurons"]


def test_a_pyramid_goes_on_where_it_stopped(container: str, tmp_path: Path, cluster_client: Client):
    options = {"in_file": container, "out_file": container, "out_dataset": "view/raw", "levels": 2}
    first = workflows.build_pyramid(**options, block_size=(160, 128, 128))
    assert (first.blocks, first.skipped) == (3 * 9 + 3 * 4 + 3, 0)
    done = tmp_path / "volume.zarr" / "runs" / "build_pyramid" / "view" / "raw" / "s1" / "blocks"
    records = sorted(done.iterdir())
    records[1].unlink()
    again = workflows.build_pyramid(**options, block_size=(160, 128, 128))
    assert (again.blocks, again.skipped) == (first.blocks, first.blocks - 1)
    other = workflows.build_pyramid(**options, reduction="mode", block_size=(160, 128, 128))
    assert other.skipped == 0
    for level, expected in enumerate(expected_levels(RAW, "mode", 2)):
        np.testing.assert_array_equal(open_volume(f"{container}/view/raw", level=level), expected)


def test_a_level_is_made_anew_when_the_finer_one_was(container: str, cluster_client: Client):
    options = {"in_file": container, "levels": 2}
    workflows.build_pyramid(**options)
    assert workflows.build_pyramid(**options).skipped == 2
    assert workflows.build_pyramid(**options, resume=False).skipped == 0
    levels = Path(container) / "runs" / "build_pyramid" / "volumes" / "raw_levels"
    runs = [json.loads((levels / name / "run.json").read_text()) for name in ("s1", "s2")]
    assert runs[1]["identity"]["finer level"]["run"] == runs[0]["run"]


def test_descriptors_keep_their_channels(container: str, cluster_client: Client):
    affinities = np.stack([RAW] * 3)
    save_volume(affinities, f"{container}/volumes/affs", **PLACE)
    workflows.build_pyramid(in_file=container, in_dataset="volumes/affs", levels=1)
    volume = open_volume(f"{container}/volumes/affs", level=1)
    assert volume.dims == ("channel", "z", "y", "x")
    np.testing.assert_array_equal(volume, downsample(affinities, (1, 2, 2), "mean"))


def test_pyramids_that_are_refused(container: str, tmp_path: Path, cluster_client: Client):
    with pytest.raises(ValueError, match=r"out_file and out_dataset go together"):
        workflows.build_pyramid(in_file=container, out_file=container)
    with pytest.raises(ValueError, match="zarr_format is for a copy"):
        workflows.build_pyramid(in_file=container, zarr_format=2)
    with pytest.raises(ValueError, match="has zarr format 3, and cannot hold arrays of format 2"):
        workflows.build_pyramid(in_file=container, out_file=container, out_dataset="v", zarr_format=2)
    with pytest.raises(ValueError, match="which need no coarser level"):
        workflows.build_pyramid(in_file=container)
    save_volume(RAW, tmp_path / "a.hdf" / "raw")
    with pytest.raises(ValueError, match=r"a.hdf/raw: levels are put beside zarr arrays alone"):
        workflows.build_pyramid(in_file=tmp_path / "a.hdf", in_dataset="raw", levels=1)
    save_volume(RAW, f"{container}/volumes/raw_levels/s1")
    with pytest.raises(FileExistsError, match="raw_levels/s1 exists and was not written by this step"):
        workflows.build_pyramid(in_file=container, levels=1)


# As others read it


@pytest.fixture
def image(container: str, tmp_path: Path, cluster_client: Client, request: pytest.FixtureRequest) -> str:
    """A copy with labels: an image as OME-NGFF has it."""
    zarr_format = zarr.open_group(container).metadata.zarr_format
    copy = {"out_file": str(tmp_path / "image.zarr"), "levels": 2, "zarr_format": zarr_format}
    workflows.build_pyramid(in_file=container, **copy, out_dataset="raw")
    labels = {"in_dataset": "volumes/neurons", "out_dataset": "raw/labels/neurons"}
    workflows.build_pyramid(in_file=container, **copy, **labels)
    return f"{copy['out_file']}/raw"


both_containers = pytest.mark.parametrize("container", [2, 3], indirect=True)


@both_containers
def test_metadata_is_valid(container: str, image: str):
    zarr_format = zarr.open_group(image).metadata.zarr_format
    models = importlib.import_module(f"ome_zarr_models.v0{2 + zarr_format}")
    group = zarr.open_group(image, mode="r")
    (multiscale,) = models.Image.from_zarr(group).ome_attributes.multiscales
    assert [dataset.path for dataset in multiscale.datasets] == ["s0", "s1", "s2"]
    assert models.Labels.from_zarr(group["labels"]).ome_attributes.labels == ["neurons"]
    labels = models.ImageLabel.from_zarr(group["labels/neurons"])
    assert [len(m.datasets) for m in labels.ome_attributes.multiscales] == [3]
    workflows.build_pyramid(in_file=container, levels=2)
    beside = models.Image.from_zarr(zarr.open_group(f"{container}/volumes", mode="r"))
    assert [dataset.path for dataset in beside.ome_attributes.multiscales[0].datasets] == [
        "raw",
        "raw_levels/s1",
        "raw_levels/s2",
    ]


@both_containers
def test_ome_zarr_reads_image_and_labels(image: str):
    reader, io = (pytest.importorskip(f"ome_zarr.{name}") for name in ("reader", "io"))
    nodes = list(reader.Reader(io.parse_url(image))())
    found = {str(node.zarr).split("image.zarr")[1].split(" ")[0]: node for node in nodes}
    for path, array, kind in (("/raw", RAW, "mean"), ("/raw/labels/neurons", LABELS, "mode")):
        for level, expected in zip(found[path].data, expected_levels(array, kind, 2), strict=True):
            assert isinstance(level, da.Array)
            np.testing.assert_array_equal(level.compute(scheduler="synchronous"), expected)
    steps = [
        [step[step["type"]] for step in level] for level in nodes[0].metadata["coordinateTransformations"]
    ]
    assert steps[0] == [[40, 8, 8], [400, 40, 8]]
    assert steps[2] == [[40, 32, 32], [400, 52, 20]]


@both_containers
def test_ngff_zarr_reads_it(image: str):
    multiscales = pytest.importorskip("ngff_zarr").from_ngff_zarr(image)
    assert multiscales.metadata.axes[0].unit == "nanometer"
    for found, expected in zip(multiscales.images, expected_levels(RAW, "mean", 2), strict=True):
        np.testing.assert_array_equal(found.data.compute(scheduler="synchronous"), expected)
    assert multiscales.images[2].scale == {"z": 40, "y": 32, "x": 32}
    assert multiscales.images[2].translation == {"z": 400, "y": 52, "x": 20}


@both_containers
def test_tensorstore_reads_it(image: str):
    """The library of neuroglancer's author."""
    tensorstore = pytest.importorskip("tensorstore")
    driver = "zarr3" if zarr.open_group(image).metadata.zarr_format == 3 else "zarr"
    spec = {"driver": driver, "kvstore": {"driver": "file", "path": f"{image}/labels/neurons/s1"}}
    read = tensorstore.open(spec).result().read().result()
    np.testing.assert_array_equal(read, expected_levels(LABELS, "mode", 1)[1])


@both_containers
def test_napari_reads_it(image: str):
    napari_ome_zarr = pytest.importorskip("napari_ome_zarr")
    layers = napari_ome_zarr.napari_get_reader(image)(image)
    assert [kind for _, _, kind in layers] == ["image", "labels"]
    np.testing.assert_array_equal(layers[1][0][0], LABELS)
