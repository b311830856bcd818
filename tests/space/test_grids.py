import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lsd_dask.checks.arguments import real_number, real_numbers, whole_number
from lsd_dask.space.grids import Grid, spatial_dims

voxel_sizes = st.sampled_from([1.0, 4.0, 40.0, 0.1, 9.0, 32.5, 1 / 3]) | st.floats(0.01, 1000)
offsets = st.integers(-10_000, 10_000).map(float) | st.floats(-1e6, 1e6)


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    ndim = draw(st.sampled_from([2, 3]))
    axes = [draw(st.tuples(st.integers(1, 200), voxel_sizes, offsets)) for _ in range(ndim)]
    shape, voxel_size, offset = zip(*axes, strict=True)
    return Grid(spatial_dims(ndim), shape, voxel_size, offset)


@st.composite
def grids_and_regions(draw: st.DrawFn) -> tuple[Grid, tuple[slice, ...]]:
    grid = draw(grids())
    bounds = [sorted(draw(st.tuples(st.integers(0, n), st.integers(0, n)))) for n in grid.shape]
    assume(all(start < stop for start, stop in bounds))
    return grid, tuple(slice(start, stop) for start, stop in bounds)


def sizes(grid: Grid) -> tuple[float, ...]:
    return tuple(end - offset for end, offset in zip(grid.end, grid.offset, strict=True))


@given(grids_and_regions())
def test_the_region_of_a_crop_is_what_was_cropped(case):
    grid, region = case
    crop = grid.crop(region)
    assert grid.region(crop.offset, sizes(crop)) == region


@given(grids_and_regions())
def test_the_coordinates_of_a_crop_are_those_of_the_volume(case):
    grid, region = case
    whole, cropped = grid.coords(), grid.crop(region).coords()
    for dim, part, voxel_size in zip(grid.dims, region, grid.voxel_size, strict=True):
        np.testing.assert_allclose(cropped[dim], whole[dim][part], rtol=1e-12, atol=1e-9 * voxel_size)


@given(grids_and_regions())
def test_centres_between_two_voxel_faces_are_those_of_the_half_open_box(case):
    grid, region = case
    crop = grid.crop(region)
    for dim, part, low, high in zip(grid.dims, region, crop.offset, crop.end, strict=True):
        centres = grid.coords()[dim]
        np.testing.assert_array_equal(np.flatnonzero((centres >= low) & (centres < high)), np.r_[part])


@given(grids_and_regions(), st.floats(-1e-4, 1e-4))
def test_rounding_errors_of_world_positions_are_forgiven(case, error):
    grid, region = case
    crop = grid.crop(region)
    nudged = [o + error * v for o, v in zip(crop.offset, grid.voxel_size, strict=True)]
    assert grid.region(nudged, sizes(crop)) == region


@given(grids_and_regions(), st.floats(0.01, 0.99))
def test_positions_between_voxels_are_refused(case, beside):
    grid, region = case
    crop = grid.crop(region)
    shifted = [o + beside * v for o, v in zip(crop.offset, grid.voxel_size, strict=True)]
    with pytest.raises(ValueError, match="voxel grid"):
        grid.region(shifted, sizes(crop))


@given(grids(), st.integers(1, 50))
def test_regions_beyond_the_volume_are_refused(grid, beyond):
    low = [o - beyond * v for o, v in zip(grid.offset, grid.voxel_size, strict=True)]
    with pytest.raises(ValueError, match="reaches out of the volume, which fills"):
        grid.region(low, grid.voxel_size)
    with pytest.raises(ValueError, match="reaches out of the volume"):
        grid.region(grid.offset, [s + beyond * v for s, v in zip(sizes(grid), grid.voxel_size, strict=True)])


def test_coordinates_do_not_drift_along_the_axis():
    grid = Grid(("y", "x"), (100_001, 1), (0.1, 1), (0, 0))
    assert grid.coords()["y"][100_000] == 100_000.5 * 0.1


def test_the_nearest_region_on_the_grid_is_named():
    grid = Grid(("z", "y", "x"), (100, 100, 100), (40, 4, 4), (0, 0, 400))
    with pytest.raises(ValueError, match=r"nearest: offset \(80, 40, 400\), size \(400, 4, 40\)"):
        grid.region((70, 41, 400), (400, 1, 40))


@pytest.mark.parametrize(
    ("offset", "size", "message"),
    [
        ((0, 0), (4, 4, 4), r"offset needs 3 numbers \(z, y, x\), but has 2: \(0, 0\)"),
        ((0, 0, 0), (4, 4), "size needs 3 numbers"),
        ((0, 0, 0), (40, 4, 0), "must be positive in every axis"),
        ((0, 0, 0), (40, -4, 4), "must be positive in every axis"),
    ],
)
def test_nonsense_boxes_are_refused(offset, size, message):
    grid = Grid(("z", "y", "x"), (100, 100, 100), (40, 4, 4), (0, 0, 0))
    with pytest.raises(ValueError, match=message):
        grid.region(offset, size)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"voxel_size": (4, 4, 4)}, "voxel_size needs 2 numbers"),
        ({"offset": (4,)}, "offset needs 2 numbers"),
        ({"voxel_size": (4, 0)}, "must be positive numbers"),
        ({"voxel_size": (4, float("nan"))}, "must be positive numbers"),
        ({"offset": (float("inf"), 0)}, "must be finite"),
        ({"shape": (4, -1)}, "cannot be negative"),
        ({"dims": ("x", "y")}, r"must be \(z, y, x\) or \(y, x\)"),
    ],
)
def test_nonsense_grids_are_refused(change, message):
    arguments = {"dims": ("y", "x"), "shape": (5, 5), "voxel_size": (4, 4), "offset": (0, 0)}
    with pytest.raises(ValueError, match=message):
        Grid(**(arguments | change))


@pytest.mark.parametrize(
    "region",
    [(slice(0, 2),), (slice(0, 9), slice(0, 1)), (slice(-1, 2), slice(0, 1)), (slice(0, 4, 2), slice(0, 1))],
)
def test_only_boxes_inside_the_volume_are_regions(region):
    with pytest.raises(ValueError, match=r"region|not a box"):
        Grid(("y", "x"), (5, 5), (4, 4), (0, 0)).resolve(region)


def test_a_volume_has_two_or_three_spatial_axes():
    with pytest.raises(ValueError, match="2 or 3 spatial axes, not 1"):
        spatial_dims(1)


@pytest.mark.parametrize("wrong", [True, np.True_])
def test_true_is_no_length_and_no_count(wrong):
    with pytest.raises(ValueError, match=r"voxel_size: found .*True.*, expected a number"):
        real_numbers("voxel_size", (wrong, 4, 4))
    with pytest.raises(TypeError, match=r"found .*True"):
        whole_number("level", wrong, least=0)
    with pytest.raises(TypeError, match=r"sigma is .*True"):
        real_number("sigma", wrong, 0, 9)
