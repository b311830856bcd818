"""Synthetic neuropil: the same bits under any chunking, lazy at any size, and like neuropil."""

import tracemalloc

import cc3d
import dask
import dask.array as da
import edt
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from lsd_dask.space.grids import Grid
from lsd_dask.synthetic.generating import degrade_affinities, neuropil
from lsd_dask.synthetic.noise import key_of, patches, smooth_noise, white_noise
from lsd_dask.volumes.dask_arrays import grid_of, label

SHAPE = (24, 30, 40)
ARRAYS = ("labels", "raw", "affinities")


@pytest.fixture(scope="module")
def cube() -> xr.Dataset:
    return neuropil((160, 160, 160), chunks=160).compute(scheduler="synchronous")


@pytest.fixture(scope="module")
def small() -> xr.Dataset:
    return neuropil(SHAPE, chunks=SHAPE).compute(scheduler="synchronous")


def chunkings(shape: tuple[int, ...]) -> st.SearchStrategy[tuple[tuple[int, ...], ...]]:
    def split(n: int) -> st.SearchStrategy[tuple[int, ...]]:
        cuts = st.sets(st.integers(1, n - 1), max_size=2)
        return cuts.map(lambda c: tuple(np.diff([0, *sorted(c), n]).tolist()))

    return st.tuples(*map(split, shape))


@settings(max_examples=8)
@given(chunks=chunkings(SHAPE))
def test_any_chunking_gives_the_same_bits(small: xr.Dataset, chunks: tuple[tuple[int, ...], ...]) -> None:
    xr.testing.assert_identical(neuropil(SHAPE, chunks=chunks).compute(scheduler="synchronous"), small)


@settings(max_examples=8)
@given(
    st.tuples(*[st.integers(0, n - 4) for n in SHAPE]),
    st.sampled_from([(8, 8, 8), (40, 4, 4), (1.1, 2.3, 0.7)]),
)
def test_a_region_made_alone_is_the_crop_of_the_whole(
    start: tuple[int, ...], voxel_size: tuple[float, ...]
) -> None:
    whole = neuropil(SHAPE, voxel_size=voxel_size, chunks=SHAPE, somata=False)
    region = {axis: slice(s, s + 4) for axis, s in zip("zyx", start, strict=True)}
    offset = [s * v for s, v in zip(start, voxel_size, strict=True)]
    alone = neuropil((4, 4, 4), voxel_size=voxel_size, offset=offset, somata=False)
    for name in ARRAYS:
        np.testing.assert_array_equal(alone[name].values, whole[name].isel(region).values)


def test_chunks_at_a_soma_agree_too() -> None:
    # Seed 0 has a soma of radius 2 micrometres around (6056, 6816, 13824) nm: this window is at its surface.
    window = {"voxel_size": (32, 32, 32), "offset": (6048, 6816, 15040)}
    whole = neuropil((32, 32, 32), chunks=32, **window).labels.values
    parts = neuropil((32, 32, 32), chunks=(12, 32, 17), **window).labels.values
    np.testing.assert_array_equal(parts, whole)
    elsewhere = neuropil((32, 32, 32), chunks=32, somata=False, **window).labels.values
    _, sizes = np.unique(whole[whole != elsewhere], return_counts=True)
    assert sizes.max() > 32**3 / 4


def test_the_seed_changes_everything(small: xr.Dataset) -> None:
    other = neuropil(SHAPE, seed=1).compute()
    assert not np.isin(other.labels, small.labels).any()
    for name in ("raw", "affinities"):
        assert np.mean(other[name].values == small[name].values) < 0.2


def test_a_volume_larger_than_memory_costs_only_what_is_computed() -> None:
    region = {"z": slice(5000, 5032), "y": slice(0, 32), "x": slice(9968, 10000)}
    neuropil((4, 4, 4)).compute()
    tracemalloc.start()
    volume = neuropil((10_000, 10_000, 10_000), chunks=64)
    corner = volume.isel(region).compute(scheduler="synchronous")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert volume.labels.size == 10**12
    assert peak < 150e6
    assert corner.affinities.shape == (3, 32, 32, 32)


@pytest.mark.parametrize("name", ARRAYS)
def test_at_most_two_tasks_a_chunk(name: str) -> None:
    volume = neuropil((256, 256, 256), chunks=64)
    (optimised,) = dask.optimize(volume[name].data)
    indices = 3 * 4
    assert len(optimised.__dask_graph__()) <= 2 * 64 + indices


def test_all_arrays_together_share_their_labels() -> None:
    volume = neuropil((256, 256, 256), chunks=64)
    optimised = dask.optimize(*(volume[name].data for name in ARRAYS))
    keys = set().union(*(array.__dask_graph__().keys() for array in optimised))
    assert len(keys) <= 4 * 64 + 3 * 4


def test_volumes_lie_where_they_should() -> None:
    volume = neuropil((8, 9, 10), voxel_size=(40, 4, 4), offset=(400, 8, -12))
    for name, dtype in zip(ARRAYS, (np.uint64, np.uint8, np.uint8), strict=True):
        assert volume[name].dtype == dtype
        expected = Grid(("z", "y", "x"), (8, 9, 10), (40, 4, 4), (400, 8, -12), "nanometer")
        assert grid_of(volume[name]) == expected
    assert volume.affinities.dims == ("channel", "z", "y", "x")


def test_neurites_are_as_many_and_as_thick_as_real_ones(cube: xr.Dataset) -> None:
    labels = cube.labels.values
    assert labels.min() > 0
    assert labels.max() < 2**53
    _, indices, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    assert 80 < len(sizes) < 300
    # A cylinder's mean distance to its surface is a third of its radius.
    distance = edt.edt(indices.reshape(labels.shape).astype(np.uint32) + 1)
    calibres = 6 * np.bincount(indices.ravel(), distance.ravel())[sizes > 1000] / sizes[sizes > 1000]
    assert 10 < np.median(calibres) < 25
    assert calibres.min() < 12
    assert calibres.max() > 25


def test_neurites_touch_many_others(cube: xr.Dataset) -> None:
    labels = cube.labels.values
    differ = labels[1:] != labels[:-1]
    pairs = np.unique(np.stack([labels[1:][differ], labels[:-1][differ]], axis=1), axis=0)
    _, partners = np.unique(pairs[:, 0], return_counts=True)
    assert np.median(partners) >= 4


def test_neurites_hang_together(cube: xr.Dataset) -> None:
    """Pieces that reach the faces of the volume may be joined outside it; others must be the largest."""
    labels = cube.labels.values
    pieces, n = cc3d.connected_components(labels, connectivity=6, return_N=True)
    sizes = np.bincount(pieces.ravel(), minlength=n + 1)
    label_of = np.zeros(n + 1, np.uint64)
    label_of[pieces.ravel()] = labels.ravel()
    faces = [np.take(pieces, end, axis).ravel() for axis in range(3) for end in (0, -1)]
    order = np.argsort(-sizes[1:]) + 1
    largest = order[np.unique(label_of[order], return_index=True)[1]]
    stray = np.setdiff1d(order, np.union1d(np.concatenate(faces), largest))
    assert sizes[stray].sum() < 0.002 * labels.size


def test_membranes_are_dark_and_affinities_low(cube: xr.Dataset) -> None:
    labels, raw, affinities = (cube[name].values for name in ARRAYS)
    inside = (
        edt.edt(np.unique(labels, return_inverse=True)[1].reshape(labels.shape).astype(np.uint32) + 1) > 4
    )
    for axis in range(3):
        boundary = np.diff(labels, axis=axis) != 0
        values = np.delete(affinities[axis], 0, axis)[boundary]
        assert values.mean() < 80
        assert affinities[axis][inside].mean() > 220
        assert np.delete(raw, 0, axis)[boundary].mean() < raw[inside].mean() - 50


@given(chunks=chunkings((12, 13, 14)))
def test_degraded_affinities_do_not_depend_on_chunks(chunks: tuple[tuple[int, ...], ...]) -> None:
    labels = np.random.default_rng(0).integers(0, 3, (12, 13, 14)).repeat(1, 0)
    expected = degrade_affinities(labels, seed=3)
    lazy = degrade_affinities(da.from_array(labels, chunks), seed=3)
    assert isinstance(lazy, da.Array)
    np.testing.assert_array_equal(lazy.compute(scheduler="synchronous"), expected)


def test_degraded_affinities_of_a_volume_are_a_volume() -> None:
    grid = Grid(("z", "y", "x"), (8, 8, 8), (40, 4, 4), (40, 0, 0), "nanometer")
    affinities = degrade_affinities(label(da.ones((8, 8, 8), dtype=np.int32, chunks=4), grid))
    assert affinities.dims == ("channel", "z", "y", "x")
    assert affinities.dtype == np.uint8
    assert grid_of(affinities) == grid


def test_without_degradation_affinities_tell_the_labels() -> None:
    labels = np.random.default_rng(1).integers(0, 4, (6, 7, 8), np.uint64)
    affinities = degrade_affinities(labels, blur=0, noise=0, leaks=0, breaks=0)
    for axis in range(3):
        here, before = (np.delete(labels, end, axis) for end in (0, -1))
        same = (here == before) & (here != 0)
        values = np.delete(affinities[axis], 0, axis)
        assert values[same].min() > 127 >= values[~same].max()


@pytest.mark.parametrize("labels_dtype", [np.uint8, np.int32, np.uint64])
def test_leaks_raise_boundaries_and_breaks_lower_the_inside(labels_dtype: type) -> None:
    labels = np.repeat(np.arange(1, 5), 12 * 48 * 48).reshape(48, 48, 48).astype(labels_dtype)
    quiet = {"noise": 0.0, "leaks": 0.0, "breaks": 0.0}
    clean = degrade_affinities(labels, **quiet)[0]
    leaky = degrade_affinities(labels, **(quiet | {"leaks": 0.2}))[0]
    broken = degrade_affinities(labels, **(quiet | {"breaks": 0.2}))[0]
    boundary, inside = slice(12, 48, 12), slice(6, 48, 12)
    assert 0.1 < np.mean(leaky[boundary] > 128) < 0.3
    assert 0.1 < np.mean(broken[inside] < 128) < 0.3
    assert clean[boundary].max() < 128 < clean[inside].min()
    assert np.all(degrade_affinities(labels, **(quiet | {"leaks": 1.0})) > 200)


def test_noise_has_the_variance_it_should() -> None:
    axes = [np.arange(64.0)] * 3
    white = white_noise(key_of(0, 1), (0, -5, 2**40), (64, 64, 64))
    smooth = smooth_noise(key_of(0, 2), axes, 2.5)
    for noise, tolerance in ((white, 0.02), (smooth, 0.1)):
        assert abs(noise.mean()) < tolerance
        assert abs(noise.var() - 1) < tolerance
    assert abs(np.corrcoef(white[1:].ravel(), white[:-1].ravel())[0, 1]) < 0.01
    assert np.corrcoef(smooth[1:].ravel(), smooth[:-1].ravel())[0, 1] > 0.7
    for share in (0.0, 0.1, 1.0):
        assert abs(patches(key_of(0, 3), axes, 2.5, share).mean() - share) < 0.03


def test_wrong_parameters_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shape: found \(8, 8\), expected three numbers"):
        neuropil((8, 8))
    with pytest.raises(ValueError, match=r"shape: found \(8, 0, 8\), expected numbers from 1 on"):
        neuropil((8, 0, 8))
    with pytest.raises(ValueError, match=r"offset: found \(4.0, 0.0, 0.0\), expected a multiple of \(8.0"):
        neuropil((8, 8, 8), offset=(4, 0, 0))
    with pytest.raises(ValueError, match=r"chunks: found \(4, 4\), expected one or three numbers"):
        neuropil((8, 8, 8), chunks=(4, 4))
    with pytest.raises(ValueError, match="leaks: found 3, expected a share from 0 to 1"):
        neuropil((8, 8, 8), leaks=3)
    with pytest.raises(ValueError, match="seed: found -1, expected a number from 0 on"):
        neuropil((8, 8, 8), seed=-1)
    with pytest.raises(ValueError, match=r"labels: found shape \(4, 4\), expected \(z, y, x\)"):
        degrade_affinities(np.ones((4, 4), int))
    with pytest.raises(TypeError, match="labels: found dtype float64, expected integers"):
        degrade_affinities(np.ones((4, 4, 4)))
