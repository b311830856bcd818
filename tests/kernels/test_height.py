import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from lsd_dask.kernels.segmentation import height

from ..helpers.strategies import seeds, shapes

CAP = 4.0


def volume(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(seed).random(shape)


def distance_to_the_other_kind(inside: np.ndarray, sampling: tuple[float, ...], cap: float) -> np.ndarray:
    """Two Euclidean distance transforms; scipy's is undefined where there is no boundary at all."""
    if inside.all() or not inside.any():
        return np.where(inside, cap, -cap)
    within = ndimage.distance_transform_edt(inside, sampling)
    outside = ndimage.distance_transform_edt(~inside, sampling)
    return np.where(inside, np.minimum(within, cap), -np.minimum(outside, cap))


def signed_distance(inside: np.ndarray, sides: tuple[float, ...], cap: float, kind: type) -> np.ndarray:
    squares = np.array(sides, np.float32) ** 2
    squared = height.squared_distance(inside, squares, cap**2, np.empty(inside.shape, kind))
    assert squared.dtype == kind
    distance = np.sqrt(squared.astype(np.float32))
    return np.where(inside, distance, -distance)


@given(
    seeds,
    shapes(5, 9, 20),
    st.floats(0.02, 0.98),
    st.sampled_from([(2.0, np.uint8), (11.0, np.uint8), (CAP, np.float32), (100.0, np.float32)]),
)
def test_distance_equals_the_euclidean_distance_transform(seed, shape, share, capped):
    cap, kind = capped
    inside = volume(seed, shape) < share
    expected = distance_to_the_other_kind(inside, (1, 1, 1), cap).astype(np.float32)
    assert np.array_equal(signed_distance(inside, (1, 1, 1), cap, kind), expected)


@pytest.mark.parametrize("width", [1, 127, 128, 129, 300])
def test_distance_in_rows_of_any_length(width):
    """What a loop does at once, and what is left of it."""
    inside = volume(width, (3, 4, width)) < 0.97
    expected = distance_to_the_other_kind(inside, (1, 1, 1), CAP).astype(np.float32)
    for kind in (np.uint8, np.float32):
        assert np.array_equal(signed_distance(inside, (1, 1, 1), CAP, kind), expected)


@given(seeds, shapes(5, 9, 20), st.tuples(*[st.floats(0.3, 3)] * 3))
def test_distance_between_voxels_of_unequal_sides(seed, shape, sides):
    inside = volume(seed, shape) < 0.9
    distance = signed_distance(inside, sides, CAP, np.float32)
    assert np.allclose(distance, distance_to_the_other_kind(inside, sides, CAP), rtol=1e-5)


@given(seeds, shapes(4, 9, 12), st.sampled_from([np.uint8, np.float32]))
def test_distance_within_sections(seed, shape, kind):
    inside = volume(seed, shape) < 0.8
    sections = [distance_to_the_other_kind(section, (1, 1), CAP) for section in inside]
    assert np.array_equal(signed_distance(inside, (0, 1, 1), CAP, kind), np.array(sections, np.float32))


@pytest.mark.parametrize("inside", [True, False])
def test_distance_where_there_is_no_boundary(inside):
    for kind in (np.uint8, np.float32):
        distance = signed_distance(np.full((2, 3, 4), inside), (1, 1, 1), CAP, kind)
        assert (distance == (CAP if inside else -CAP)).all()


@given(seeds, shapes(4, 5, 6), st.sampled_from([np.uint8, np.float32]))
def test_distances_are_added_inside_and_subtracted_outside(seed, shape, kind):
    heights, inside, keep = volume(seed, shape), volume(seed + 1, shape) < 0.5, volume(seed + 2, shape) < 0.5
    heights = heights.astype(np.float32)
    squared = np.random.default_rng(seed).integers(0, 9, shape, endpoint=True).astype(kind)
    distance = np.where(inside, 1, -1) * np.sqrt(squared.astype(np.float32))
    kept = keep.copy()
    added = height.add_distance(
        heights.copy(), inside, squared, np.array([2, 10], np.float32), np.float32(3), kept
    )
    assert np.allclose(added, 10 * heights + 2 * distance, rtol=1e-6)
    assert np.array_equal(kept, keep & (distance > -3))


@given(seeds, shapes(4, 5, 6), st.sets(st.integers(0, 2), min_size=1))
def test_interior_adds_the_affinities_to_both_neighbours(seed, shape, axes):
    axes = sorted(axes)
    values = (volume(seed, (len(axes), *shape)) * 65535).astype(np.uint16)
    expected = np.zeros(shape)
    for (channel, axis), voxel in itertools.product(enumerate(axes), np.ndindex(shape)):
        upper = list(voxel)
        upper[axis] = min(upper[axis] + 1, shape[axis] - 1)
        expected[voxel] += float(values[channel][voxel]) + float(values[channel][tuple(upper)])
    mean = height.interior(values, np.array(axes), np.float32(4), np.empty(shape, np.float32))
    assert np.array_equal(mean, expected / 4)


def smoothed(values: np.ndarray, taps: np.ndarray, along_z: bool) -> np.ndarray:
    """What `smooth` gives where everything is kept; its rim is as it should be."""
    keep = np.ones(values.shape, bool)
    rimmed = np.zeros([n + 2 for n in values.shape], np.float32)
    out = height.smooth(values.copy(), taps, along_z, keep, rimmed)
    assert out is rimmed
    inner = out[1:-1, 1:-1, 1:-1]
    assert (np.pad(inner, 1, constant_values=-np.inf) == out).all()
    return inner


@given(seeds, shapes(6, 8, 12), st.floats(0.2, 4), st.booleans())
def test_smoothing_is_a_truncated_gaussian(seed, shape, sigma, along_z):
    radius = int(3 * sigma + 0.5)
    taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    taps = (taps / taps.sum())[radius:].astype(np.float32)
    values = volume(seed, shape).astype(np.float32)
    expected = values.astype(float)
    for axis in range(0 if along_z else 1, 3):
        expected = ndimage.gaussian_filter1d(expected, sigma, axis, mode="nearest", truncate=3)
    assert np.allclose(smoothed(values, taps, along_z), expected, atol=1e-5)


@given(seeds, shapes(4, 4, 14), st.integers(1, 5))
def test_any_symmetric_taps_also_on_lines_shorter_than_they_are(seed, shape, n):
    values = volume(seed, shape).astype(np.float32)
    taps = volume(seed + 1, (n,)).astype(np.float32)
    expected = values.astype(float)
    for axis in range(3):
        expected = ndimage.correlate1d(expected, [*taps[:0:-1], *taps], axis, mode="nearest")
    assert np.allclose(smoothed(values, taps, along_z=True), expected, rtol=1e-4)


@given(seeds, shapes(4, 5, 6))
def test_what_is_not_kept_is_below_everything(seed, shape):
    values, keep = volume(seed, shape).astype(np.float32), volume(seed + 1, shape) < 0.5
    rimmed = np.empty([n + 2 for n in shape], np.float32)
    out = height.smooth(values.copy(), np.ones(1, np.float32), True, keep, rimmed)
    assert np.array_equal(out[1:-1, 1:-1, 1:-1], np.where(keep, values, -np.inf))
