import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from lsd_dask.kernels import height

from .strategies import seeds, shapes

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


@given(seeds, shapes(5, 9, 20), st.floats(0.02, 0.98), st.sampled_from([2.0, CAP, 100.0]))
def test_distance_equals_the_euclidean_distance_transform(seed, shape, share, cap):
    inside = volume(seed, shape) < share
    distance = height.signed_distance(inside, np.ones(3), cap, np.empty(inside.shape, np.float32))
    assert distance.dtype == np.float32
    assert np.array_equal(distance, distance_to_the_other_kind(inside, (1, 1, 1), cap).astype(np.float32))


@given(seeds, shapes(5, 9, 20), st.tuples(*[st.floats(0.3, 3)] * 3))
def test_distance_between_voxels_of_unequal_sides(seed, shape, sides):
    inside = volume(seed, shape) < 0.9
    distance = height.signed_distance(inside, np.array(sides), CAP, np.empty(inside.shape, np.float32))
    assert np.allclose(distance, distance_to_the_other_kind(inside, sides, CAP), rtol=1e-5)


@given(seeds, shapes(4, 9, 12))
def test_distance_within_sections(seed, shape):
    inside = volume(seed, shape) < 0.8
    distance = height.signed_distance(inside, np.array([0.0, 1, 1]), CAP, np.empty(inside.shape, np.float32))
    sections = [distance_to_the_other_kind(section, (1, 1), CAP) for section in inside]
    assert np.array_equal(distance, np.array(sections, np.float32))


@pytest.mark.parametrize("inside", [True, False])
def test_distance_where_there_is_no_boundary(inside):
    distance = height.signed_distance(
        np.full((2, 3, 4), inside), np.ones(3), CAP, np.empty((2, 3, 4), np.float32)
    )
    assert (distance == (CAP if inside else -CAP)).all()


@given(seeds, shapes(4, 5, 6), st.sets(st.integers(0, 2), min_size=1))
def test_interior_adds_the_affinities_to_both_neighbours(seed, shape, axes):
    axes = sorted(axes)
    values = (volume(seed, (len(axes), *shape)) * 65535).astype(np.uint16)
    expected = np.zeros(shape)
    for (channel, axis), voxel in itertools.product(enumerate(axes), np.ndindex(shape)):
        upper = list(voxel)
        upper[axis] = min(upper[axis] + 1, shape[axis] - 1)
        expected[voxel] += float(values[channel][voxel]) + float(values[channel][tuple(upper)])
    assert np.array_equal(
        height.interior(values, np.array(axes), np.zeros(values.shape[1:], np.float32)), expected
    )


@given(seeds, shapes(6, 8, 12), st.floats(0.2, 4), st.sets(st.integers(0, 2), min_size=1))
def test_smoothing_is_a_truncated_gaussian(seed, shape, sigma, axes):
    radius = int(3 * sigma + 0.5)
    taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    taps = (taps / taps.sum())[radius:].astype(np.float32)
    values = volume(seed, shape).astype(np.float32)
    expected = values.astype(float)
    for axis in sorted(axes):
        expected = ndimage.gaussian_filter1d(expected, sigma, axis, mode="nearest", truncate=3)
    smooth = height.smooth(values, taps, np.array(sorted(axes)))
    assert smooth.dtype == np.float32
    assert np.allclose(smooth, expected, atol=1e-5)


@given(seeds, shapes(4, 4, 14), st.integers(1, 5))
def test_any_symmetric_taps_also_on_lines_shorter_than_they_are(seed, shape, n):
    values = volume(seed, shape).astype(np.float32)
    taps = volume(seed + 1, (n,)).astype(np.float32)
    expected = values.astype(float)
    for axis in range(3):
        expected = ndimage.correlate1d(expected, [*taps[:0:-1], *taps], axis, mode="nearest")
    assert np.allclose(height.smooth(values, taps, np.arange(3)), expected, rtol=1e-4)
