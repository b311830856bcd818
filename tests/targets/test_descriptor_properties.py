"""Shape descriptors equal their definition, and depend on nothing but the voxels around: properties."""

from itertools import combinations

import dask.array as da
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from lsd_dask import local_shape_descriptors

from ..helpers.strategies import chunkings, label_volumes, regions, seeds, shapes


@st.composite
def volumes(draw: st.DrawFn, multiple: int = 1) -> np.ndarray:
    """Labels in 2-D or 3-D; some wider than the squares in which the kernels work."""
    shape = draw(shapes(6, 7, 9) | shapes(9, 12) | shapes(2, 3, 40) | shapes(2, 36, 5))
    return draw(label_volumes(tuple(multiple * n for n in shape)))


@st.composite
def neighbourhoods(draw: st.DrawFn, ndim: int) -> dict:
    """Keyword arguments that say what is around a voxel."""
    mode = draw(st.sampled_from(["gaussian", "sphere"]))
    voxel_size = draw(st.tuples(*(st.sampled_from([0.5, 1, 4, 30]),) * ndim))
    if mode == "sphere":
        samples = (draw(st.sampled_from([1.0, 1.5, 2.0, 2.7, 4.0])),) * ndim
    else:
        samples = draw(st.tuples(*(st.floats(0.4, 4),) * ndim))
    sigma = tuple(s * v for s, v in zip(samples, voxel_size, strict=True))
    return {"mode": mode, "sigma": sigma, "voxel_size": voxel_size}


def by_definition(labels: np.ndarray, sigma, voxel_size, mode: str) -> np.ndarray:
    """Weighted statistics, voxel by voxel, in double precision."""
    ndim = labels.ndim
    sigma, voxel_size = np.array(sigma, float), np.array(voxel_size, float)
    positions = np.indices(labels.shape).reshape(ndim, -1).T
    pairs = list(combinations(range(ndim), 2))
    out = np.zeros((2 * ndim + len(pairs) + 1, *labels.shape))
    for p in positions:
        label = labels[tuple(p)]
        if label == 0:
            continue
        d = positions[labels.ravel() == label] - p
        weights = gaussian(d, sigma / voxel_size) if mode == "gaussian" else ball(d, sigma[0] / voxel_size[0])
        size, d = weights.sum(), d * voxel_size
        mean = weights @ d / size
        covariance = (weights[:, None] * (d - mean)).T @ (d - mean) / size
        variance = np.maximum(np.diag(covariance), 1e-3)
        reach = sigma if mode == "gaussian" else sigma / 2
        pearson = [covariance[i, j] / np.sqrt(variance[i] * variance[j]) * 0.5 + 0.5 for i, j in pairs]
        values = [*(mean / reach * 0.5 + 0.5), *(variance / sigma**2), *pearson, size]
        out[(slice(None), *p)] = np.clip(values, 0, 1)
    return out


def gaussian(d: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    weights = np.ones(len(d))
    for axis, s in enumerate(sigma):
        radius = int(3 * s + 0.5)
        kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / s) ** 2)
        inside = np.abs(d[:, axis]) <= radius
        at = np.clip(d[:, axis] + radius, 0, 2 * radius)
        weights *= np.where(inside, kernel[at] / kernel.sum(), 0)
    return weights


def ball(d: np.ndarray, radius: float) -> np.ndarray:
    squares = np.arange(-radius, radius) ** 2
    n = len(squares)
    at = n // 2 - d
    inside = ((at >= 0) & (at < n)).all(axis=1)
    return (inside & (squares[np.clip(at, 0, n - 1)].sum(axis=1) <= radius**2)).astype(float)


@given(st.data())
def test_equals_the_definition(data: st.DataObject) -> None:
    labels = data.draw(volumes())
    around = data.draw(neighbourhoods(labels.ndim))
    expected = by_definition(labels, **around)
    assert_allclose(local_shape_descriptors(labels, **around), expected, atol=1e-5, rtol=0)


@given(st.data(), st.sampled_from([1, 2, 3]))
def test_chunks_do_not_matter(data: st.DataObject, downsample: int) -> None:
    labels = data.draw(volumes(multiple=downsample))
    options = {**data.draw(neighbourhoods(labels.ndim)), "downsample": downsample}
    lazy = da.from_array(labels, chunks=data.draw(chunkings(labels.shape)))
    computed = local_shape_descriptors(lazy, **options).compute(scheduler="synchronous")
    assert_same_bits(computed, local_shape_descriptors(labels, **options))


@given(st.data(), st.sampled_from([1, 2]))
def test_a_region_is_cropped_from_the_whole(data: st.DataObject, downsample: int) -> None:
    labels = data.draw(volumes(multiple=downsample))
    options = {**data.draw(neighbourhoods(labels.ndim)), "downsample": downsample}
    region = data.draw(regions([n // downsample for n in labels.shape]))
    region = tuple(slice(s.start * downsample, s.stop * downsample) for s in region)
    cropped = local_shape_descriptors(labels, roi=region, **options)
    assert_same_bits(cropped, local_shape_descriptors(labels, **options)[(slice(None), *region)])


@given(st.data())
def test_place_and_surroundings_do_not_matter(data: st.DataObject) -> None:
    labels = data.draw(volumes())
    around = data.draw(neighbourhoods(labels.ndim))
    margins = data.draw(st.tuples(*(st.tuples(st.integers(0, 9), st.integers(0, 40)),) * labels.ndim))
    region = tuple(slice(a, a + n) for (a, _), n in zip(margins, labels.shape, strict=True))
    other = next(i for i in range(1, 99) if i not in labels)
    padded = np.pad(labels, margins, constant_values=data.draw(st.sampled_from([0, other])))
    assert_same_bits(
        local_shape_descriptors(padded, roi=region, **around), local_shape_descriptors(labels, **around)
    )


@given(st.data(), st.sampled_from([2, 4]))
def test_downsampling_repeats_what_the_samples_give(data: st.DataObject, n: int) -> None:
    samples = data.draw(volumes())
    around = data.draw(neighbourhoods(samples.ndim))
    labels = samples
    for axis in range(samples.ndim):
        labels = labels.repeat(n, axis)
    expected = local_shape_descriptors(samples, **around)
    for axis in range(samples.ndim):
        expected = expected.repeat(n, axis + 1)
    around["voxel_size"] = tuple(v / n for v in around["voxel_size"])
    assert_allclose(local_shape_descriptors(labels, downsample=n, **around), expected, atol=2e-6)


@given(st.data(), st.integers(2, 5))
def test_threads_and_names_do_not_matter(data: st.DataObject, num_threads: int) -> None:
    labels = data.draw(volumes())
    around = data.draw(neighbourhoods(labels.ndim))
    expected = local_shape_descriptors(labels, **around)
    assert_same_bits(local_shape_descriptors(labels, num_threads=num_threads, **around), expected)
    rng = np.random.default_rng(data.draw(seeds))
    _, inverse = np.unique(np.append(labels.ravel(), np.uint64(0)), return_inverse=True)
    names = np.concatenate([[0], 1 + rng.permutation(inverse.max())]).astype(np.int8)
    renamed = names[inverse[:-1]].reshape(labels.shape)
    assert_same_bits(local_shape_descriptors(renamed, **around), expected)


@given(st.data())
def test_components_and_labels_pick_from_the_whole(data: st.DataObject) -> None:
    labels = data.draw(volumes())
    around = data.draw(neighbourhoods(labels.ndim))
    whole = local_shape_descriptors(labels, **around)
    digits = sorted(data.draw(st.sets(st.integers(0, len(whole) - 1), min_size=1)))
    picked = local_shape_descriptors(labels, components="".join(map(str, digits)), **around)
    assert_same_bits(picked, whole[digits])
    chosen = data.draw(st.sets(st.sampled_from([*np.unique(labels).tolist(), 77])))
    some = local_shape_descriptors(labels, labels=sorted(chosen), **around)
    inside = np.isin(labels, np.array(list(chosen), np.uint64)) & (labels != 0)
    assert_same_bits(some[:, inside], whole[:, inside])
    n = labels.ndim
    none = [0.5] * n + [0.0] * n + [0.5] * (len(whole) - 2 * n - 1) + [0.0]
    others = some[:, ~inside & (labels != 0)].T
    assert np.all(others == np.float32(none))
    assert not some[:, labels == 0].any()


def assert_same_bits(actual: np.ndarray, expected: np.ndarray) -> None:
    assert actual.dtype == expected.dtype == np.float32
    assert actual.shape == expected.shape
    assert actual.tobytes() == expected.tobytes()
