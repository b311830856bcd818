"""Labels, raw data, affinities and masks that are not what they seem: the same word wherever they are."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lsd_dask as ld
from lsd_dask import workflows
from lsd_dask.segmentation.agglomeration import LookupTable
from lsd_dask.segmentation.quantisation import quantise
from lsd_dask.synthetic.degradation import degrade_affinities
from lsd_dask.viewer.sources import source_of
from lsd_dask.volumes.voxel_values import as_mask, check_raw_values, full_scale, sample_regions, say_if_faint

SHAPE = (12, 16, 20)
LABELS = np.random.default_rng(0).integers(0, 3, SHAPE)
AFFINITIES = ld.affinities(LABELS)
LUT = LookupTable(np.array([1, 2]), np.array([1, 1]))

#: Whatever reads the voxels of labels.
READS_LABELS: dict[str, Callable[[Any], Any]] = {
    "affinities": ld.affinities,
    "descriptors": lambda labels: ld.local_shape_descriptors(labels, 2, components="9"),
    "degradation": degrade_affinities,
    "relabelling": lambda labels: ld.relabel(labels, LUT),
    "region graph": lambda labels: ld.build_region_graph(AFFINITIES, labels),
    "truth": lambda labels: ld.evaluation.rand_voi(labels, LABELS),
    "segmentation": lambda labels: ld.evaluation.rand_voi(LABELS, labels),
    "points": lambda labels: ld.evaluation.labels_at(labels, [[3.5, 2.5, 1.5]]),
}


@pytest.mark.parametrize("reads", READS_LABELS.values(), ids=READS_LABELS)
@pytest.mark.parametrize("dtype", ["int8", "int16", ">i4", "int64"])
@pytest.mark.parametrize("kind", ["numpy", "dask", "stored"])
def test_a_negative_label_is_refused_wherever_labels_are_read(
    tmp_path: Path, reads: Callable[[Any], Any], dtype: str, kind: str
) -> None:
    labels = LABELS.astype(dtype)
    labels[3, 2, 1] = -1
    volume: Any = labels
    if kind == "dask":
        volume = da.from_array(labels, chunks=8)
    elif kind == "stored":
        ld.save_volume(labels.astype(labels.dtype.newbyteorder("=")), tmp_path / "a.zarr/labels")
        volume = ld.open_volume(tmp_path / "a.zarr/labels")
    with pytest.raises(ValueError, match="found the negative label -1, expected labels from 0 on; set what"):
        np.asarray(reads(volume))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "int8", "int16", "int32", "int64", ">u8"])
def test_labels_of_any_other_integers_are_labels(dtype: str) -> None:
    given = LABELS.astype(dtype)
    for name in ("affinities", "descriptors", "degradation"):
        assert np.array_equal(READS_LABELS[name](given), READS_LABELS[name](LABELS)), name
    assert np.array_equal(ld.relabel(given, LUT), LABELS != 0)


def test_a_step_looks_for_negative_labels_before_any_work(tmp_path: Path) -> None:
    labels = np.where(LABELS == 0, -1, LABELS)
    ld.save_volume(labels, tmp_path / "a.zarr/labels", voxel_size=(4, 4, 4))
    ld.save_volume(AFFINITIES, tmp_path / "a.zarr/volumes/affs", voxel_size=(4, 4, 4))
    before = sorted(tmp_path.rglob("*"))
    dataset = {"fragments_file": tmp_path / "a.zarr", "fragments_dataset": "labels"}
    for call in (
        lambda: workflows.lsds(
            labels_file=tmp_path / "a.zarr", labels_dataset="labels", lsds_file=tmp_path / "a.zarr", sigma=8
        ),
        lambda: workflows.agglomerate(affs_file=tmp_path / "a.zarr", **dataset),
        lambda: workflows.evaluate_volumes(**dataset, gt_file=tmp_path / "a.zarr", gt_dataset="labels"),
        lambda: source_of("labels", tmp_path / "a.zarr/labels"),
    ):
        with pytest.raises(ValueError, match=r"labels: found the negative label -1"):
            call()
    assert sorted(tmp_path.rglob("*")) == before


@given(st.sampled_from(["float16", "float32", "float64"]), st.integers(-16, 16))
def test_affinities_beyond_by_rounding_are_0_and_1(dtype: str, units: int) -> None:
    step = max(np.finfo(dtype).eps, np.finfo(np.float32).eps)
    beyond = np.array([units * step, 1 + units * step], dtype)
    assert np.array_equal(quantise(beyond), quantise(beyond.clip(0, 1)))
    farther = np.array([0.5, 1 + 20 * step], dtype)
    with pytest.raises(ValueError, match=r"to 1\.0\d*[1-9]\d*, expected values from 0 to 1"):
        quantise(farther)
    with pytest.raises(ValueError, match="from -"):
        quantise(1 - farther)


def test_fragments_and_graph_of_affinities_a_rounding_error_above_1() -> None:
    over = np.where(AFFINITIES == 1, np.nextafter(np.float32(1), np.float32(2)), np.float32(-1e-7))
    assert np.array_equal(ld.extract_fragments(over), ld.extract_fragments(AFFINITIES))
    found, right = (ld.build_region_graph(values, LABELS).edges for values in (over, AFFINITIES))
    assert np.array_equal(found.sums, right.sums)


@pytest.mark.parametrize("kind", ["numpy", "stored"])
@pytest.mark.parametrize("step", ["fragments", "graph"])
def test_affinities_of_0_and_1_in_uint8_get_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str, step: str
) -> None:
    def work(values: np.ndarray) -> str:
        caplog.clear()
        volume: Any = values
        if kind == "stored":
            ld.save_volume(values, tmp_path / "a.zarr/affs", overwrite=True)
            volume = ld.open_volume(tmp_path / "a.zarr/affs")
        if step == "fragments":
            ld.extract_fragments(volume)
        else:
            ld.build_region_graph(volume, LABELS)
        return caplog.text

    assert "the largest value that was found is 1, where 255 in uint8 stands for 1" in work(
        AFFINITIES.astype(np.uint8)
    )
    for legitimate in (np.zeros(AFFINITIES.shape, np.uint8), ld.affinities(LABELS, dtype="uint8")):
        assert not work(legitimate)


@pytest.mark.usefixtures("cluster_client")
def test_a_step_says_that_affinities_are_0_and_1(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ld.save_volume(AFFINITIES.astype(np.uint8), tmp_path / "a.zarr/volumes/affs", voxel_size=(4, 4, 4))
    workflows.extract_fragments(
        affs_file=tmp_path / "a.zarr", fragments_file=tmp_path / "b.zarr", queue="none"
    )
    assert f"{tmp_path}/a.zarr/volumes/affs: the largest value that was found is 1" in caplog.text


@pytest.mark.parametrize("dtype", ["uint32", "uint64", "int8", "int16", "int32", "int64"])
def test_raw_data_in_other_integers_are_told_which_would_do(dtype: str) -> None:
    with pytest.raises(TypeError, match=f"raw: found dtype {dtype}, .*; save values from 0 to 255 as uint8"):
        full_scale(np.dtype(dtype))


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([0, 255], "values from 0 to 255"),
        ([-1, 1], "values from -1 to 1"),
        ([-0.5, 0.5], "values from -0.5 to 0.5"),
        ([0, np.nan], "NaN"),
        ([0, np.inf], "values from 0 to inf"),
    ],
)
def test_raw_data_of_another_range(values: list[float], found: str) -> None:
    for dtype in ("float16", "float32", "float64"):
        with pytest.raises(ValueError, match=f"raw: found {found}, expected 0 to 1"):
            check_raw_values(np.array(values, dtype), "raw")
    check_raw_values(np.array([-0.05, 1.05]), "raw")
    check_raw_values(np.empty((0, 3)), "raw")


@pytest.mark.parametrize(
    ("dtype", "largest", "faint"),
    [
        ("uint16", 255, True),
        ("uint16", 4095, True),
        ("uint16", 65535, False),
        ("uint16", 0, False),
        ("uint8", 1, True),
        ("uint8", 200, False),
        ("float32", 0.01, True),
        ("float32", 0.9, False),
    ],
)
def test_raw_data_that_are_nearly_black_get_a_word(
    caplog: pytest.LogCaptureFixture, dtype: str, largest: float, faint: bool
) -> None:
    say_if_faint([np.zeros(3, dtype), np.array([0, largest], dtype)], np.dtype(dtype), "em.zarr")
    assert (caplog.record_tuples[:1] != []) == faint
    if faint:
        assert "em.zarr: the largest value that was found is" in caplog.text
        assert caplog.records[0].levelno == logging.WARNING
    caplog.clear()
    say_if_faint([np.array([largest], dtype)], np.dtype(dtype), "em.zarr", (0.0, 0.01))
    assert not caplog.records or dtype != "uint16" or largest == 0 or largest <= 40


def test_masks() -> None:
    values = np.array([[0, 1], [-1, 2]])
    for dtype in ("bool", "int8", "int64", "float32"):
        assert np.array_equal(as_mask(values.astype(dtype), "mask"), values != 0)
    with pytest.raises(ValueError, match="mask: found NaN, expected 0 where nothing is to be"):
        as_mask(np.array([0, np.nan]), "mask")
    with pytest.raises(TypeError, match="mask: found dtype complex128"):
        as_mask(values.astype(complex), "mask")


def test_a_stored_mask_of_nan_is_refused_before_any_work(tmp_path: Path) -> None:
    ld.save_volume(AFFINITIES, tmp_path / "a.zarr/volumes/affs", voxel_size=(4, 4, 4))
    ld.save_volume(np.full(SHAPE, np.nan, np.float32), tmp_path / "a.zarr/mask", voxel_size=(4, 4, 4))
    with pytest.raises(ValueError, match="mask: found NaN"):
        workflows.extract_fragments(
            affs_file=tmp_path / "a.zarr",
            fragments_file=tmp_path / "b.zarr",
            mask_file=tmp_path / "a.zarr",
            mask_dataset="mask",
        )
    assert not (tmp_path / "b.zarr").exists()


@settings(max_examples=50)
@given(st.lists(st.integers(1, 300), min_size=1, max_size=3))
def test_samples_lie_in_the_volume_and_are_small(shape: list[int]) -> None:
    for region in sample_regions(shape):
        for s, n in zip(region, shape, strict=True):
            assert 0 <= s.start < s.stop <= n
            assert s.stop - s.start <= 32
