import dask.array as da
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsd_dask.space.grids import Grid, spatial_dims
from lsd_dask.volumes.dask_arrays import label
from lsd_dask.volumes.masks import MaskReader, align_mask
from lsd_dask.volumes.overlap import readers_of

from ..helpers.strategies import regions, seeds, shapes

SHAPES = st.one_of(shapes(10, 12), shapes(5, 6, 7))


def grid_for(shape, voxel_size=None, offset=None) -> Grid:
    n = len(shape)
    return Grid(spatial_dims(n), shape, voxel_size or (1.0,) * n, offset or (0.0,) * n)


def random_mask(seed: int, shape) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 3, shape).astype(np.uint8)


@st.composite
def placed_masks(draw, *, covering: bool) -> tuple[np.ndarray, Grid, Grid]:
    """A mask, its grid and that of a volume; all in multiples of 0.5, so that centres on edges are exact."""
    shape = draw(SHAPES)
    n = len(shape)
    voxel_size = draw(st.tuples(*[st.sampled_from([1.0, 2.0, 4.5])] * n))
    grid = grid_for(shape, voxel_size, draw(st.tuples(*[st.integers(-8, 8).map(float)] * n)))
    coarse = tuple(v * draw(st.sampled_from([1, 2, 3, 1.5])) for v in voxel_size)
    if covering:
        lead = draw(st.tuples(*[st.integers(0, 2)] * n))
        offset = tuple(o - k * v for o, k, v in zip(grid.offset, lead, coarse, strict=True))
        trail = draw(st.integers(0, 2))
        mask_shape = tuple(
            trail + int(-(-(e - o) // v)) for e, o, v in zip(grid.end, offset, coarse, strict=True)
        )
    else:
        offset = draw(st.tuples(*[st.integers(-20, 20).map(float)] * n))
        mask_shape = draw(shapes(*[6] * n))
    return random_mask(draw(seeds), mask_shape), grid_for(mask_shape, coarse, offset), grid


def at_centres(mask: np.ndarray, mask_grid: Grid, grid: Grid) -> np.ndarray:
    """Look up each voxel's centre by itself."""
    out = np.zeros(grid.shape, bool)
    for voxel in np.ndindex(grid.shape):
        centre = [o + (i + 0.5) * v for o, i, v in zip(grid.offset, voxel, grid.voxel_size, strict=True)]
        index = [
            int((c - o) // v) for c, o, v in zip(centre, mask_grid.offset, mask_grid.voxel_size, strict=True)
        ]
        if all(0 <= i < n for i, n in zip(index, mask_grid.shape, strict=True)):
            out[voxel] = mask[tuple(index)]
    return out


@given(placed_masks(covering=True))
def test_a_mask_is_placed_by_its_coordinates(problem):
    mask, mask_grid, grid = problem
    expected = at_centres(mask, mask_grid, grid)
    aligned = align_mask(label(mask, mask_grid), grid)
    assert aligned.dtype == bool
    assert np.array_equal(aligned, expected)
    lazy = align_mask(label(da.from_array(mask, chunks=2), mask_grid), grid)
    assert isinstance(lazy, da.Array)
    assert lazy.dtype == bool
    assert np.array_equal(lazy.compute(scheduler="sync"), expected)


@given(SHAPES, seeds, st.data())
def test_a_bare_mask_covers_the_volume(shape, seed, data):
    factors = data.draw(st.tuples(*[st.integers(1, 4)] * len(shape)))
    mask = random_mask(seed, tuple(-(-n // f) for n, f in zip(shape, factors, strict=True)))
    # A factor that leaves one voxel stands for all that do.
    factors = [-(-n // m) for n, m in zip(shape, mask.shape, strict=True)]
    if any((m - 1) * f >= n for n, m, f in zip(shape, mask.shape, factors, strict=True)):
        return
    repeated = mask
    for axis, f in enumerate(factors):
        repeated = repeated.repeat(f, axis)
    expected = repeated[tuple(slice(0, n) for n in shape)] != 0
    grid = grid_for(shape, (4.0,) * len(shape), (40.0,) * len(shape))
    assert np.array_equal(align_mask(mask, grid), expected)
    assert np.array_equal(align_mask(da.from_array(mask), grid).compute(scheduler="sync"), expected)


@given(placed_masks(covering=False), st.data())
def test_a_reader_gives_nothing_beyond_the_mask(problem, data):
    mask, mask_grid, grid = problem
    reader = MaskReader(readers_of([mask], [False])[0], mask_grid, grid)
    region = data.draw(regions(grid.shape))
    assert reader.shape == grid.shape
    assert reader.origin == (0,) * len(grid.shape)
    assert np.array_equal(reader.read(region), at_centres(mask, mask_grid, grid)[region])


@pytest.mark.parametrize("dtype", ["bool", "int16", "float32"])
def test_whatever_is_not_zero_counts(dtype):
    mask = np.array([[0, 1], [-3, 0.5]]).astype(dtype)
    assert np.array_equal(align_mask(mask, grid_for((2, 2))), mask != 0)


def test_coordinates_with_rounding_errors():
    grid = grid_for((1, 30), (1.0, 0.1), (0.0, 0.3))
    mask = label(np.arange(10)[None] % 2, grid_for((1, 10), (1.0, 0.3), (0.0, 0.1 * 3)))
    assert np.array_equal(align_mask(mask, grid)[0], np.repeat(np.arange(10) % 2, 3) != 0)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.ones((4, 4)), r"shape \(4, 4\) .* volume of shape \(8, 8, 8\)"),
        (np.ones((4, 8, 5)), r"shape \(4, 8, 5\) does not fit .* \(8, 8, 8\)"),
        (np.ones((9, 8, 8)), "does not fit"),
        (label(np.ones((4, 4)), grid_for((4, 4), (2, 2))), r"axes \(y, x\), expected \(z, y, x\)"),
        (label(np.ones((4, 4, 3)), grid_for((4, 4, 3), (2, 2, 2))), "does not cover the volume along x"),
        (
            label(np.ones((8, 8, 8)), grid_for((8, 8, 8), offset=(0, 1, 0))),
            "along y: it spans 1 to 9, .* 0 to 8",
        ),
        (
            label(np.ones((2, 4, 4, 4)), grid_for((4, 4, 4), (2, 2, 2))),
            r"axes \(channel, z, y, x\), expected",
        ),
        (label(np.ones((4, 4, 4)), grid_for((4, 4), (2, 2))), r"axes \(channel, y, x\), expected"),
    ],
)
def test_masks_that_do_not_fit(mask, message):
    with pytest.raises(ValueError, match=message):
        align_mask(mask, grid_for((8, 8, 8)))
