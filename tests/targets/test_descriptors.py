"""Shape descriptors equal those of lsds; wrong input, lazy volumes, ids and types of all kinds."""

import importlib
import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import ndimage

import lsd_dask as ld


def smooth_labels(shape: tuple[int, ...], seed: int = 0, most: int = 6) -> np.ndarray:
    """Touching objects of rounded shapes and some background, with ids above 2**32."""
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.normal(size=(most, *shape)), (0, *(3,) * len(shape)))
    ids = np.concatenate([[0], 2**40 + rng.permutation(most - 1)]).astype(np.uint64)
    return ids[noise.argmax(axis=0)]


@pytest.fixture
def lsds(monkeypatch: pytest.MonkeyPatch) -> Callable[..., np.ndarray]:
    """The function of the package, in double precision.

    In single precision, it subtracts squares of coordinates from each other, which takes away most digits of
    the smaller variances and of the Pearson coefficients.
    """
    pytest.importorskip("lsd", reason="needs the package lsds")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = importlib.import_module("lsd.train.local_shape_descriptor")
    double = SimpleNamespace(**{**vars(np), "float32": np.float64})
    monkeypatch.setattr(module, "np", double)
    return module.get_local_shape_descriptors


CASES: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "3-D": ((20, 24, 50), {"sigma": (3, 3, 3)}),
    "2-D": ((40, 60), {"sigma": (4, 4)}),
    "sigma per axis": ((20, 24, 50), {"sigma": (2, 4, 3.3)}),
    "anisotropic voxels": ((12, 40, 44), {"sigma": (100, 120, 140), "voxel_size": (40, 16, 16)}),
    "window larger than the volume": ((5, 40, 9), {"sigma": (8, 8, 8)}),
    "sphere": ((20, 24, 50), {"sigma": (4, 4, 4), "mode": "sphere"}),
    "sphere of fractional radius": (
        (16, 20, 24),
        {"sigma": (9, 9, 9), "voxel_size": (2, 2, 2), "mode": "sphere"},
    ),
    "sphere in world units": (
        (16, 20, 40),
        {"sigma": (80, 40, 40), "voxel_size": (20, 10, 10), "mode": "sphere"},
    ),
    "downsampled": ((24, 28, 52), {"sigma": (8, 8, 8), "downsample": 2}),
    "downsampled, anisotropic": (
        (12, 24, 48),
        {"sigma": (80, 80, 80), "voxel_size": (40, 9, 9), "downsample": 3},
    ),
    "downsampled sphere": ((16, 20, 24), {"sigma": (8, 8, 8), "downsample": 2, "mode": "sphere"}),
    "2-D, downsampled": ((40, 64), {"sigma": (40, 80), "voxel_size": (4, 8), "downsample": 4}),
    "components": ((12, 16, 20), {"sigma": (3, 3, 3), "components": "0129"}),
    "components in 2-D": ((30, 40), {"sigma": (5, 5), "components": "0145"}),
    "some labels": ((12, 16, 20), {"sigma": (3, 3, 3), "labels": [2**40, 2**40 + 3, 77, 0]}),
}


@pytest.mark.parametrize("case", CASES)
def test_equals_lsds(case: str, lsds: Callable[..., np.ndarray]) -> None:
    shape, options = CASES[case]
    labels = smooth_labels(shape)
    assert_allclose(ld.local_shape_descriptors(labels, **options), lsds(labels, **options), rtol=0, atol=1e-4)


def test_equals_lsds_in_a_region(lsds: Callable[..., np.ndarray]) -> None:
    labels = smooth_labels((20, 32, 40))
    roi = pytest.importorskip("funlib.geometry").Roi((4, 8, 2), (10, 20, 30))
    for options in ({}, {"downsample": 2}):
        expected = lsds(labels, (4, 4, 4), roi=roi, **options)
        assert_allclose(
            ld.local_shape_descriptors(labels, 4, roi=roi, **options), expected, rtol=0, atol=1e-4
        )


def test_equals_lsds_where_no_sample_of_the_object_is_near(lsds: Callable[..., np.ndarray]) -> None:
    labels = np.zeros((8, 12, 16), np.int64)
    labels[1, 1, 1], labels[3, 5, 9], labels[5, 7, 3:] = 1, 2, 3
    options = {"sigma": (1, 1, 1), "downsample": 2}
    assert_allclose(ld.local_shape_descriptors(labels, **options), lsds(labels, **options), rtol=0, atol=1e-5)


def test_is_in_place_of_lsds(lsds: Callable[..., np.ndarray]) -> None:
    geometry = pytest.importorskip("funlib.geometry")
    labels = smooth_labels((12, 16, 20))
    theirs = importlib.import_module("lsd.train").LsdExtractor((8, 8, 8), downsample=2)
    ours = ld.LsdExtractor((8, 8, 8), downsample=2)
    assert ours.get_context() == theirs.get_context()
    assert ld.LsdExtractor((8, 8, 8), mode="sphere").get_context() == (8, 8, 8)
    arguments = labels, "012", geometry.Coordinate(2, 2, 2), geometry.Roi((2, 4, 6), (8, 8, 8)), [2**40 + 1]
    expected = theirs.get_descriptors(*arguments)
    assert_allclose(ours.get_descriptors(*arguments), expected, rtol=0, atol=1e-4)
    assert_allclose(
        ld.get_local_shape_descriptors(labels, (8, 8, 8), *arguments[1:], "gaussian", 2), expected, atol=1e-4
    )


def test_the_extractor_ignores_sigmas_an_image_has_no_axis_for(lsds: Callable[..., np.ndarray]) -> None:
    image = smooth_labels((30, 40))
    expected = lsds(image, (3, 3))
    for components in (None, "012345"):
        descriptors = ld.LsdExtractor((3, 3, 3)).get_descriptors(image, components)
        assert_allclose(descriptors, expected, rtol=0, atol=1e-4)


def test_ids_of_any_size_and_type() -> None:
    labels = smooth_labels((10, 12, 14))
    numbers = np.unique(labels, return_inverse=True)[1].reshape(labels.shape)
    expected = ld.local_shape_descriptors(numbers, 3)
    for dtype in ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", ">u4", ">i8"):
        assert np.array_equal(ld.local_shape_descriptors(numbers.astype(dtype), 3), expected)
    renamed = np.where(labels == labels.max(), np.iinfo(np.uint64).max, labels)
    assert np.array_equal(ld.local_shape_descriptors(renamed, 3), expected)
    assert np.array_equal(ld.local_shape_descriptors(renamed, 3, labels=renamed), expected)


def test_memory_order_does_not_matter() -> None:
    labels = smooth_labels((10, 12, 14))
    expected = ld.local_shape_descriptors(labels, 3)
    assert np.array_equal(ld.local_shape_descriptors(np.asfortranarray(labels), 3), expected)
    view = np.repeat(labels, 2, axis=2)[:, :, ::2]
    view.flags.writeable = False
    assert np.array_equal(ld.local_shape_descriptors(view, 3), expected)


@pytest.mark.parametrize("shape", [(4, 5, 6), (0, 5, 6), (5, 6), (5, 0)])
def test_nothing_but_background(shape: tuple[int, ...]) -> None:
    descriptors = ld.local_shape_descriptors(np.zeros(shape, np.uint8), 2, num_threads=2)
    assert descriptors.shape == (10 if len(shape) == 3 else 6, *shape)
    assert descriptors.dtype == np.float32
    assert not descriptors.any()


def test_one_object_everywhere() -> None:
    descriptors = ld.local_shape_descriptors(np.ones((30, 30, 30), int), 2)
    middle = descriptors[:, 15, 15, 15]
    assert_allclose(middle[:3], 0.5, atol=1e-6)
    assert_allclose(middle[6:], [0.5, 0.5, 0.5, 1], atol=1e-6)
    truncated = np.arange(-6, 7) ** 2
    weights = np.exp(-truncated / 8)
    assert_allclose(middle[3:6], weights @ truncated / weights.sum() / 4, rtol=1e-5)


def test_many_labels() -> None:
    """More than the first hash table has room for."""
    labels = np.arange(1, 1 + 20**3).reshape(20, 20, 20)
    assert np.all(ld.local_shape_descriptors(labels, 2, components="6") == 0.5)
    assert np.array_equal(
        ld.local_shape_descriptors(labels, 2, labels=labels), ld.local_shape_descriptors(labels, 2)
    )


def test_lazy_volumes_know_where_they_are(tmp_path: Any) -> None:
    labels = smooth_labels((16, 20, 24))
    path = tmp_path / "labels.zarr" / "volumes" / "labels"
    ld.save_volume(labels, path, block_shape=(8, 8, 8), voxel_size=(40, 20, 20), offset=(80, 0, 20))
    volume = ld.open_volume(path)
    expected = ld.local_shape_descriptors(labels, 60, voxel_size=(40, 20, 20))
    descriptors = ld.local_shape_descriptors(volume, 60)
    assert isinstance(descriptors.data, da.Array)
    assert descriptors.dims == ("channel", "z", "y", "x")
    assert descriptors.attrs["voxel_size"] == (40, 20, 20)
    for axis in "zyx":
        assert np.array_equal(descriptors[axis], volume[axis])
    assert np.array_equal(descriptors, expected)
    isotropic = ld.local_shape_descriptors(volume, 60, voxel_size=20)
    assert np.array_equal(isotropic, ld.local_shape_descriptors(labels, 60, voxel_size=20))
    geometry = pytest.importorskip("funlib.geometry")
    part = ld.local_shape_descriptors(volume, 60, roi=geometry.Roi((160, 100, 20), (320, 100, 200)))
    assert part.z[0] == 180
    assert np.array_equal(part, expected[:, 2:10, 5:10, :10])
    cropped = ld.local_shape_descriptors(volume.sel(z=slice(160, 480)), 60)
    assert np.array_equal(cropped, ld.local_shape_descriptors(labels[2:10], 60, voxel_size=(40, 20, 20)))


def test_a_block_costs_a_task(tmp_path: Any) -> None:
    path = tmp_path / "a.zarr" / "labels"
    ld.save_volume(smooth_labels((16, 16, 16)), path, block_shape=(8, 8, 8))
    descriptors = ld.local_shape_descriptors(ld.open_volume(path), 2)
    (optimized,) = dask.optimize(descriptors.data)
    assert len(dict(optimized.__dask_graph__())) <= 2 * 8


WRONG = {
    "floats": (np.zeros((4, 4, 4)), {}, TypeError, "float64"),
    "booleans": (np.zeros((4, 4, 4), bool), {}, TypeError, "bool"),
    "four axes": (np.zeros((2, 4, 4, 4), int), {}, ValueError, r"\(2, 4, 4, 4\)"),
    "one axis": (np.zeros(4, int), {}, ValueError, r"\(4,\)"),
    "two sigmas": (np.zeros((4, 4, 4), int), {"sigma": (1, 1)}, ValueError, "sigma"),
    "no sigma": (np.zeros((4, 4, 4), int), {"sigma": 0}, ValueError, "sigma"),
    "voxel size": (np.zeros((4, 4), int), {"voxel_size": (1, 1, 1)}, ValueError, "voxel_size"),
    "component 6 of an image": (np.zeros((4, 4), int), {"components": "016"}, ValueError, "016"),
    "no component": (np.zeros((4, 4), int), {"components": ""}, ValueError, "components"),
    "unordered components": (np.zeros((4, 4), int), {"components": "10"}, ValueError, "ascending"),
    "mode": (np.zeros((4, 4), int), {"mode": "cube"}, ValueError, "cube"),
    "ellipsoid": (np.zeros((4, 4), int), {"mode": "sphere", "sigma": (1, 2)}, ValueError, "sphere"),
    "downsample": (np.zeros((4, 5), int), {"downsample": 2}, ValueError, "0:4, 0:5.*downsample 2"),
    "no downsample": (np.zeros((4, 5), int), {"downsample": 0}, ValueError, "downsample"),
    "no thread": (np.zeros((4, 5), int), {"num_threads": 0}, ValueError, "num_threads"),
    "region outside": (np.zeros((4, 5), int), {"roi": (slice(0, 4), slice(2, 6))}, ValueError, "2:6"),
    "region of one axis": (np.zeros((4, 5), int), {"roi": (slice(0, 4),)}, ValueError, "2 slices"),
    "labels": (np.zeros((4, 5), int), {"labels": [1.5]}, TypeError, "labels: found 1.5"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_named(case: str) -> None:
    labels, options, error, message = WRONG[case]
    with pytest.raises(error, match=message):
        ld.local_shape_descriptors(labels, **{"sigma": 1, **options})
    with pytest.raises(error, match=message):
        ld.local_shape_descriptors(da.from_array(labels, chunks=2), **{"sigma": 1, **options})


@pytest.mark.parametrize("name", ["fib25_a", "cube_cx1", "cube_fib191"])
def test_real_objects(name: str, data_directory: Any, lsds: Callable[..., np.ndarray]) -> None:
    with np.load(data_directory / f"{name}.npz") as arrays:
        key = "neuron_ids" if "neuron_ids" in arrays else "segmentation"
        labels = arrays[key][:24, :40, :48]
    expected = lsds(labels, (4, 4, 4))
    assert_allclose(ld.local_shape_descriptors(labels, 4), expected, rtol=0, atol=1e-5)
