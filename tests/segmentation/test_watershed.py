import sys
from dataclasses import replace

import cc3d
import dask.array as da
import mahotas
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import ndimage

from lsd_dask import extract_fragments, ids
from lsd_dask.segmentation.watershed import CAP, HEIGHTS, Rules, watershed_region
from lsd_dask.volumes.overlap import OutOfReachError, StoredReader, map_regions, readers_of
from lsd_dask.volumes.saving import find_stored, open_volume, save_volume

from ..helpers.strategies import affinities, chunkings, regions, seeds, shapes

TINY = st.one_of(shapes(3, 4, 7), shapes(6, 9))
#: Larger than what a voxel's slope depends on, in one direction after the other.
LONG = st.sampled_from([(40, 6, 9), (7, 45, 8), (5, 9, 70), (12, 20, 24), (9, 90), (50, 40)])


def rules_for(ndim: int, **fixed) -> st.SearchStrategy[Rules]:
    options = {
        "height": st.sampled_from(sorted(HEIGHTS)),
        "smoothing": st.sampled_from([0.0, 0.7, 1.3]),
        "in_xy": st.booleans() if ndim == 3 else st.just(False),
        "voxel_size": st.sampled_from([(1.0,) * 3, (2.5, 1.0, 1.2)]).map(lambda size: size[:ndim]),
        "replace_sections": st.sampled_from([(), (0, 2)]),
        "context": st.sampled_from([None, (0,) * ndim, (1, 0, 2)[:ndim]]),
    }
    return st.builds(Rules, **{**options, **{name: st.just(value) for name, value in fixed.items()}})


def masks(shape: tuple[int, ...]) -> st.SearchStrategy[np.ndarray | None]:
    def mask(seed: int) -> np.ndarray:
        values = np.random.default_rng(seed).random(shape)
        return ndimage.uniform_filter(values, 3) > 0.42

    return st.none() | seeds.map(mask)


@st.composite
def problems(draw: st.DrawFn, shape=TINY, **rules) -> tuple[np.ndarray, np.ndarray | None, Rules]:
    shape = draw(shape)
    return draw(affinities(shape)), draw(masks(shape)), draw(rules_for(len(shape), **rules))


def fragments_of(values, mask, rules: Rules, region=None) -> np.ndarray:
    volumes = [values] if mask is None else [values, mask]
    readers = readers_of(volumes, [True, False][: len(volumes)])
    region = region or tuple(slice(0, n) for n in values.shape[1:])
    return watershed_region(region, readers[0], readers[1] if mask is not None else None, rules)


def partition(labels: np.ndarray) -> np.ndarray:
    """Labels renamed by the place where they first occur, so that equal partitions are equal arrays."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return first[inverse].reshape(labels.shape)


# The definition, in NumPy and plain Python


def kept_and_integers(values, mask, rules) -> tuple[np.ndarray, np.ndarray, float]:
    scale = 255 if values.dtype == np.uint8 else 65535
    if scale == 65535:
        values = np.minimum(np.floor(values.astype("f8") * 65536), scale)
    if values.ndim == 3:
        values = values[:, None]
        mask = None if mask is None else mask[None]
    kept = np.ones(values.shape[1:], bool) if mask is None else mask.copy()
    if values.shape[0] == 3:
        kept[[s for s in rules.replace_sections if s < len(kept)]] = False
    return values[1:] if rules.in_xy else values, kept, scale


def mean_of_both_sides(values: np.ndarray, scale: float) -> np.ndarray:
    total = np.zeros(values.shape[1:])
    for axis, channel in zip(range(3 - len(values), 3), values.astype(float), strict=True):
        index = np.minimum(np.arange(channel.shape[axis]) + 1, channel.shape[axis] - 1)
        total += channel + channel.take(index, axis)
    return total.astype(np.float32) / np.float32(2 * len(values) * scale)


def capped_distance(inside: np.ndarray, sides) -> np.ndarray:
    """Of all voxels to all voxels of the other kind; a side of 0 is infinite."""
    voxels = np.indices(inside.shape).reshape(3, -1)
    square = np.zeros((inside.size,) * 2, np.float32)
    for axis in (2, 1, 0):
        steps = (voxels[axis][:, None] - voxels[axis]).astype(np.float32) ** 2
        side = np.float32(sides[axis]) * np.float32(sides[axis])
        square = steps * side + square if side else np.where(steps > 0, np.float32(np.inf), square)
    square[inside.ravel()[:, None] == inside.ravel()] = np.inf
    distance = np.sqrt(np.minimum(square.min(axis=1), np.float32(CAP * CAP))).reshape(inside.shape)
    return np.where(inside, distance, -distance)


def smoothed(height: np.ndarray, rules: Rules, axes) -> np.ndarray:
    if rules.smoothing == 0:
        return height
    radius = int(3 * rules.smoothing + 0.5)
    taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / rules.smoothing) ** 2)
    taps = (taps / taps.sum())[radius:].astype(np.float32)
    for axis in axes:
        n = height.shape[axis]
        out = taps[0] * height
        for t in range(1, len(taps)):
            lower = height.take(np.maximum(np.arange(n) - t, 0), axis)
            upper = height.take(np.minimum(np.arange(n) + t, n - 1), axis)
            out = out + taps[t] * (lower + upper)
        height = out
    return height


def climbed(height: np.ndarray, kept: np.ndarray, rules: Rules, ndim: int) -> np.ndarray:
    """From every voxel the steepest way up; of equals the nearest to a lattice centre, then the first."""
    sides = (1.0,) * (3 - ndim) + rules.voxel_size

    def next_of(voxel):
        best, at = (np.float32(0), *rank(voxel)), voxel
        for step in np.ndindex(3, 3, 3):
            to = tuple(v + s - 1 for v, s in zip(voxel, step, strict=True))
            if to == voxel or min(to) < 0 or any(t >= n for t, n in zip(to, height.shape, strict=True)):
                continue
            if not kept[to] or (rules.in_xy and to[0] != voxel[0]):
                continue
            length = np.sqrt(sum(((s - 1) * side) ** 2 for s, side in zip(step, sides, strict=True)))
            rise = (height[to] - height[voxel]) * np.float32(1 / length)
            if (-rise, *rank(to)) < best:
                best, at = (-rise, *rank(to)), to
        return at

    def rank(voxel):
        return sum((v % 32 - 16) ** 2 for v in voxel), voxel

    out = np.zeros(height.shape, np.uint64)
    for voxel in map(tuple, np.argwhere(kept)):
        root = voxel
        while (higher := next_of(root)) != root:
            root = higher
        out[voxel] = ids.encode(np.array([root[3 - ndim :]]))[0]
    return out


@given(problems())
def test_fragments_are_what_the_rules_say(problem):
    values, mask, rules = problem
    ndim = values.ndim - 1
    integers, kept, scale = kept_and_integers(values, mask, rules)
    affinity = mean_of_both_sides(integers * kept, scale)
    sides = [0.0] * (3 - ndim) + list(rules.voxel_size)
    sides[0] *= not rules.in_xy
    distance = capped_distance(affinity > 0.5, sides)
    kept &= distance > -CAP
    of_distance, of_affinity = (np.float32(w) for w in HEIGHTS[rules.height])
    height = of_affinity * affinity + of_distance * distance
    height = smoothed(height, rules, range(3 - len(integers), 3))
    expected = climbed(height, kept, rules, ndim).reshape(values.shape[1:])
    assert np.array_equal(fragments_of(values, mask, rules), expected)


# Any part of a volume


@given(problems(LONG), st.data())
def test_a_region_has_the_fragments_of_the_whole_volume(problem, data):
    values, mask, rules = problem
    region = data.draw(regions(values.shape[1:]))
    whole = fragments_of(values, mask, rules)
    assert np.array_equal(fragments_of(values, mask, rules, region), whole[region])


@pytest.mark.parametrize("side", [1.0, 1.7])
@pytest.mark.parametrize("hole", range(24, 57, 2))
def test_a_voxel_alone_knows_the_boundary_on_either_side(hole, side):
    values = np.full((2, 1, 80), 255, np.uint8)
    values[:, 0, hole] = 0
    rules = Rules(voxel_size=(1.0, side), context=(0, 0))
    whole = fragments_of(values, None, rules)
    for x in range(hole - 12, hole + 13):
        region = (slice(0, 1), slice(x, x + 1))
        assert fragments_of(values, None, rules, region) == whole[region]


@given(problems(LONG), st.data())
def test_any_chunking_gives_the_same_fragments(problem, data):
    values, mask, rules = problem
    chunks = data.draw(chunkings(values.shape[1:]))
    volumes = [da.from_array(values, chunks=(1, *chunks))]
    if mask is not None:
        volumes.append(da.from_array(mask, chunks=3))
    axes = [True, False][: len(volumes)]
    lazy = map_regions(rules, volumes, axes, depth=100, dtype=np.uint64)
    assert np.array_equal(lazy.compute(scheduler="sync"), fragments_of(values, mask, rules))


def test_a_chain_that_leaves_what_dask_gives_is_an_error():
    values = np.ones((3, 1, 1, 160), np.float32)
    values[2] = np.linspace(0.5, 1, 160)
    volume = da.from_array(values, chunks=(3, 1, 1, 20))
    rules = Rules(height="affinity")
    lazy = map_regions(rules, [volume], [True], depth=rules.depth, dtype=np.uint64)
    with pytest.raises(OutOfReachError, match=r"needs the voxels \[0:1, 0:1, .*Store the volume first"):
        lazy.compute(scheduler="sync")


# What fragments are


@given(problems(st.one_of(TINY, LONG)))
def test_fragments_are_connected_and_hold_their_root(problem):
    values, mask, rules = problem
    fragments = fragments_of(values, mask, rules)
    found = np.unique(fragments[fragments > 0])
    if len(found):
        assert (fragments[tuple(ids.decode(found, fragments.ndim).T)] == found).all()
    sections = fragments if rules.in_xy else [fragments]
    connectivity = 8 if fragments.ndim == 2 or rules.in_xy else 26
    parts = [cc3d.connected_components(s, connectivity=connectivity, return_N=True)[1] for s in sections]
    assert sum(parts) == len(found)


@given(problems(LONG, replace_sections=(1,)))
def test_background_is_void_masked_or_replaced(problem):
    values, mask, rules = problem
    integers, kept, scale = kept_and_integers(values, mask, rules)
    inside = mean_of_both_sides(integers * kept, scale) > 0.5
    sides = [1.0] * (4 - values.ndim) + list(rules.voxel_size)
    for section in [slice(z, z + 1) for z in range(len(inside))] if rules.in_xy else [slice(None)]:
        if not inside[section].any():
            kept[section] = False
        else:
            kept[section] &= ndimage.distance_transform_edt(~inside[section], sides) < CAP
    assert np.array_equal(fragments_of(values, mask, rules) > 0, kept.reshape(values.shape[1:]))


@given(problems(st.one_of(TINY, LONG)))
def test_numbers_that_mean_the_same_give_the_same_fragments(problem):
    values, mask, rules = problem
    binary = values > values.max() / 2
    expected = fragments_of(binary.astype(np.float32), mask, rules)
    assert np.array_equal(fragments_of(binary.astype(np.uint8) * np.uint8(255), mask, rules), expected)
    assert np.array_equal(fragments_of(binary.astype(np.float16), mask, rules), expected)


def test_further_channels_do_not_count():
    values = np.random.default_rng(0).random((5, 4, 9, 9)).astype(np.float32)
    assert np.array_equal(fragments_of(values, None, Rules()), fragments_of(values[:3], None, Rules()))


@pytest.mark.parametrize("value", [0.6, 1.0])
def test_a_plateau_is_divided_by_the_lattice(value):
    values = np.full((2, 64, 96), value, np.float32)
    fragments = fragments_of(values, None, Rules(voxel_size=(1.0, 1.0)))
    roots = ids.decode(np.unique(fragments), 2)
    assert {tuple(r) for r in roots.tolist()} == {(y, x) for y in (16, 48) for x in (16, 48, 80)}
    assert np.bincount(np.unique(fragments, return_inverse=True)[1].ravel()).max() < 1.1 * 32**2


def test_no_inside_at_all_is_background():
    assert not fragments_of(np.zeros((3, 5, 30, 30), np.uint8), None, Rules()).any()


# Stored volumes


@pytest.fixture
def stored(tmp_path):
    values = ndimage.gaussian_filter(np.random.default_rng(1).random((3, 12, 50, 60)), (0, 1, 2, 2))
    values = ((values - values.min()) / np.ptp(values)).astype(np.float32)
    save_volume(values, tmp_path / "a.zarr" / "affs", block_shape=(16, 16, 16), offset=(100, 0, 7))
    return values, open_volume(tmp_path / "a.zarr" / "affs", chunks=(5, 17, 23))


@pytest.mark.parametrize("rules", [Rules(), Rules(in_xy=True), Rules(context=(0, 0, 0), smoothing=2.0)])
def test_blocks_of_a_stored_volume(stored, rules):
    values, volume = stored
    lazy = map_regions(rules, [volume], [True], depth=rules.depth, dtype=np.uint64)
    assert np.array_equal(lazy.compute(scheduler="sync"), fragments_of(values, None, rules))


@pytest.mark.parametrize("rules", [Rules(), Rules(method="seeded")])
def test_ids_of_a_part_are_addresses_in_the_stored_volume(stored, rules):
    values, volume = stored
    crop = (slice(3, 12), slice(10, 45), slice(20, 60))
    reader = StoredReader(*find_stored(volume[(slice(None), *crop)]))
    region = tuple(slice(0, s.stop - s.start) for s in crop)
    part = watershed_region(region, reader, None, rules)
    roots = ids.decode(np.unique(part[part > 0]))
    whole = np.zeros(values.shape[1:], np.uint64)
    whole[crop] = part
    assert (whole[tuple(roots.T)] == ids.encode(roots)).all()
    assert np.array_equal(partition(part), partition(fragments_of(values[(slice(None), *crop)], None, rules)))


# The seeded watershed


def seeded_reference(values: np.ndarray, mask, rules: Rules) -> np.ndarray:
    """Seeds at the maxima of the boundary distance, flooded by mahotas, as the reference system does it."""
    integers, kept, scale = kept_and_integers(values, mask, rules)
    inside = (integers * kept).mean(axis=0) > 0.5 * scale
    if rules.in_xy or values.ndim == 3:
        sections = [flooded(section, rules, rules.voxel_size[-2:]) for section in inside]
        out = np.stack([s + 10**6 * (z + 1) for z, s in enumerate(sections)])
    else:
        out = flooded(inside, rules, rules.voxel_size)
    return np.where(kept, out, 0).reshape(values.shape[1:])


def flooded(inside: np.ndarray, rules: Rules, sampling) -> np.ndarray:
    assume(not inside.all())
    distance = ndimage.distance_transform_edt(inside, sampling)
    maxima = ndimage.maximum_filter(distance, rules.min_seed_distance) == distance
    labels, _ = ndimage.label(maxima)
    return mahotas.cwatershed(distance.max() - distance, labels)


@given(problems(st.one_of(TINY, LONG), method="seeded"), st.integers(1, 12))
def test_seeded_equals_the_reference(problem, distance):
    values, mask, rules = problem
    rules = replace(rules, min_seed_distance=distance, voxel_size=(1.0,) * (values.ndim - 1))
    fragments = fragments_of(values, mask, rules)
    expected = seeded_reference(values, mask, rules)
    assert np.array_equal(fragments == 0, expected == 0)
    assert np.array_equal(partition(fragments), partition(expected))


@pytest.mark.parametrize("package", ["mahotas", "edt"])
def test_the_extra_is_named_where_it_is_missing(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    nearest = da.zeros((3, 4, 4, 4), dtype=np.uint8)
    extract_fragments(nearest)
    with pytest.raises(ModuleNotFoundError, match=r"needs mahotas and edt: pip install 'lsd-dask\[seeded\]'"):
        extract_fragments(nearest, method="seeded")


@given(problems(st.one_of(TINY, LONG), method="seeded", replace_sections=()))
def test_seeds_give_the_ids(problem):
    values, _, rules = problem
    fragments = fragments_of(values, None, rules)
    found = np.unique(fragments)
    assert (fragments[tuple(ids.decode(found, fragments.ndim).T)] == found).all()


@given(problems(LONG, method="seeded"), st.data())
def test_seeded_with_all_of_the_volume_as_context(problem, data):
    values, mask, rules = problem
    region = data.draw(regions(values.shape[1:]))
    rules = replace(rules, context=(100,) * len(region))
    assert np.array_equal(
        fragments_of(values, mask, rules, region), fragments_of(values, mask, rules)[region]
    )


# Mistakes


@pytest.mark.parametrize("method", ["steepest_ascent", "seeded"])
@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        (np.zeros((2, 4, 4, 4), np.uint8), ValueError, "at least 3 channels"),
        (np.full((3, 4, 4, 4), np.nan, np.float32), ValueError, "NaN"),
        (np.full((3, 4, 4, 4), 2, np.float32), ValueError, "expected values from 0 to 1"),
        (np.zeros((3, 4, 4, 4), np.uint32), TypeError, "expected uint8"),
    ],
)
def test_affinities_that_are_none(method, values, error, message):
    with pytest.raises(error, match=message):
        fragments_of(values, None, Rules(method))
