"""What is not counted: voxels outside a mask and near a boundary, whatever the chunks."""

from pathlib import Path

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from lsd_dask.evaluation import ContingencyTable, count_overlaps
from lsd_dask.kernels.evaluation.boundaries import near_other_labels
from lsd_dask.space.grids import Grid
from lsd_dask.volumes.dask_arrays import label
from lsd_dask.volumes.saving import open_volume, save_volume

from ..helpers.strategies import chunkings, label_volumes, shapes

voxel_sizes = st.tuples(*(st.sampled_from([1.0, 2.0, 3.5]) for _ in range(3)))
tolerances = st.sampled_from([0.5, 1.0, 2.0, 2.9, 3.5, 5.0])


def near_by_definition(labels: np.ndarray, voxel_size: tuple[float, ...], tolerance: float) -> np.ndarray:
    places = np.indices(labels.shape).reshape(labels.ndim, -1).T * np.array(voxel_size)
    distances = np.sqrt(((places[:, None] - places) ** 2).sum(axis=2))
    other = labels.ravel()[:, None] != labels.ravel()
    return ((distances <= tolerance * (1 + 1e-7)) & other).any(axis=1).reshape(labels.shape)


@given(shapes(5, 6, 7).flatmap(label_volumes), voxel_sizes, tolerances)
def test_what_is_near_a_boundary(
    labels: np.ndarray, voxel_size: tuple[float, float, float], tolerance: float
) -> None:
    found = near_other_labels(labels, np.array(voxel_size), tolerance)
    np.testing.assert_array_equal(found, near_by_definition(labels, voxel_size, tolerance))


@given(st.data(), voxel_sizes, tolerances, st.booleans())
def test_any_chunking_gives_the_same_table(
    data: st.DataObject, voxel_size: tuple[float, float, float], tolerance: float, masked: bool
) -> None:
    shape = data.draw(shapes(6, 7, 8))
    truth, test = data.draw(label_volumes(shape)), data.draw(label_volumes(shape))
    mask = np.random.default_rng(len(np.unique(test))).random(shape) < 0.7 if masked else None
    near = near_by_definition(truth, voxel_size, tolerance)
    kept = ~near if mask is None else ~near & mask
    expected = ContingencyTable.from_volumes(np.where(kept, truth, np.uint64(0)), test)

    def placed(array: np.ndarray | da.Array) -> xr.DataArray:
        return label(array, Grid(("z", "y", "x"), shape, voxel_size, (0, 0, 0)))

    lazy_truth, lazy_test = (
        placed(da.from_array(array, data.draw(chunkings(shape)))) for array in (truth, test)
    )
    pairs = [(placed(truth), placed(test)), (lazy_truth, lazy_test), (placed(truth), lazy_test)]
    with dask.config.set(scheduler="synchronous"):
        found = count_overlaps(*data.draw(st.sampled_from(pairs)), mask=mask, boundary_tolerance=tolerance)
    assert_same(found, expected)


def test_stored_volumes_read_their_own_context(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    truth = np.repeat(np.repeat(rng.integers(0, 5, (16, 16, 32)), 2, axis=0), 2, axis=1).astype(np.uint32)
    test = rng.integers(0, 5, truth.shape, np.uint64)
    for name, array in (("truth", truth), ("test", test)):
        save_volume(array, tmp_path / f"a.zarr/{name}", voxel_size=(2, 1, 1), block_shape=(16, 16, 16))
    stored = [open_volume(tmp_path / f"a.zarr/{name}") for name in ("truth", "test")]
    with dask.config.set(scheduler="synchronous"):
        found = count_overlaps(*stored, boundary_tolerance=2)
    kept = ~near_other_labels(truth.astype(np.uint64), np.array([2.0, 1.0, 1.0]), 2.0)
    assert_same(found, ContingencyTable.from_volumes(np.where(kept, truth, 0), test))


def test_two_dimensions_and_signed_labels() -> None:
    truth = np.array([[1, 1, 1, 2, 2, 2]], np.int32)
    found = count_overlaps(truth, truth, boundary_tolerance=1)
    assert (found.truth.tolist(), found.counts.tolist()) == ([1, 2], [2, 2])


def test_everything_near_a_boundary_leaves_nothing_to_score() -> None:
    labels = np.indices((4, 4, 4)).sum(axis=0) % 2 + 1
    with pytest.raises(ValueError, match="nothing to score"):
        count_overlaps(labels, labels, boundary_tolerance=1).scores()


def test_coarse_masks() -> None:
    labels = np.ones((4, 4, 4), np.uint8)
    mask = np.zeros((2, 2, 2), bool)
    mask[0] = True
    assert count_overlaps(labels, labels, mask=mask).counts.tolist() == [32]


def test_wrong_options_are_refused() -> None:
    labels = np.ones((4, 4, 4), np.uint8)
    for tolerance, found in ((-1, "-1"), (np.nan, "nan"), (np.inf, "inf")):
        with pytest.raises(ValueError, match=f"boundary_tolerance is {found}, expected"):
            count_overlaps(labels, labels, boundary_tolerance=tolerance)
    with pytest.raises(ValueError, match="does not fit a volume"):
        count_overlaps(labels, labels, mask=np.ones((3, 4, 4)))
    with pytest.raises(ValueError, match="truth: found the negative label -1"):
        count_overlaps(-labels.astype(int), labels, boundary_tolerance=1)
    with pytest.raises(ValueError, match="truth has 1 axes"):
        count_overlaps(labels[0, 0], labels[0, 0], boundary_tolerance=1)


def assert_same(found: ContingencyTable, expected: ContingencyTable) -> None:
    for name in ("truth", "test", "counts"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
