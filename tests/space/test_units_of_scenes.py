"""One scene in any units: volumes that are meant to lie in one place do, bit for bit, or are refused."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import lsd_dask as ld
from lsd_dask.evaluation import count_overlaps
from lsd_dask.prediction.tiles import check_raw
from lsd_dask.segmentation.region_graph import check_graph_input
from lsd_dask.space.grids import Grid
from lsd_dask.training.labelled_volumes import TrainingVolume, prepare_volumes
from lsd_dask.volumes.dask_arrays import label
from lsd_dask.volumes.masks import align_mask
from lsd_dask.volumes.opening import open_stored
from lsd_dask.volumes.overlap import StoredReader
from lsd_dask.workflows.running.inputs import (
    block_shape_for,
    matching_part,
    open_mask,
    shared_part,
    to_voxels,
)

from ..helpers.networks import checkpoint

UNITS = ["nm", "um", "mm", "angstrom", "pm", "cm", "m", "inch"]
SHAPE = (6, 8, 10)
units = st.sampled_from(UNITS)
#: Voxel sizes in nanometers, as people have them.
sizes = st.tuples(*[st.sampled_from([1.0, 4.0, 4.3, 8.0, 9.0, 16.5, 33.0, 40.0, 512.0])] * 3)
corners = st.tuples(*[st.integers(-100, 100)] * 3)


def place(voxel_size: tuple[float, ...], corner: tuple[int, ...], coarser: int = 1) -> Grid:
    offset = tuple(round(c * v, 3) for c, v in zip(corner, voxel_size, strict=True))
    shape = tuple(n // coarser for n in SHAPE)
    return Grid(("z", "y", "x"), shape, tuple(v * coarser for v in voxel_size), offset, "nm")


@given(voxel_size=sizes, corner=corners, one=units, other=units)
def test_masks(voxel_size: tuple[float, ...], corner: tuple[int, ...], one: str, other: str) -> None:
    values = np.random.default_rng(0).random((3, 4, 5)) > 0.5
    volume, mask = place(voxel_size, corner), place(voxel_size, corner, coarser=2)
    expected = np.repeat(np.repeat(np.repeat(values, 2, 0), 2, 1), 2, 2)
    found = align_mask(label(values, mask.told_in(one)), volume.told_in(other))
    np.testing.assert_array_equal(found, expected)


@given(voxel_size=sizes, corner=corners, one=units, other=units)
def test_affinities_fragments_and_truth(
    voxel_size: tuple[float, ...], corner: tuple[int, ...], one: str, other: str
) -> None:
    first, second = (place(voxel_size, corner).told_in(each) for each in (one, other))
    labels = np.arange(480, dtype=np.uint64).reshape(SHAPE) // 7
    check_graph_input(label(np.zeros((3, *SHAPE), np.uint8), first), label(labels, second), None)
    found = count_overlaps(label(labels, first), label(labels, second))
    expected = count_overlaps(labels, labels)
    assert found.scores() == expected.scores()


@given(voxel_size=sizes, one=units, other=units, shift=st.integers(0, 2))
def test_raw_data_and_labels(voxel_size: tuple[float, ...], one: str, other: str, shift: int) -> None:
    raw = np.random.default_rng(0).integers(0, 255, SHAPE, dtype=np.uint8)
    there = place(voxel_size, (3, 4, 5)).told_in(one)
    inner = place(voxel_size, (3, 4, 5)).crop((slice(shift, 4 + shift), slice(1, 7), slice(2, 8)))
    labels = np.ones(inner.shape, np.uint64)
    volume = TrainingVolume(label(raw, there), label(labels, inner.told_in(other)))
    plain = TrainingVolume(label(raw, there.told_in("nm")), label(labels, inner))
    assert np.array_equal(volume.read_raw((0, 0, 0), (4, 6, 6)), plain.read_raw((0, 0, 0), (4, 6, 6)))
    (prepared,) = prepare_volumes([volume], dims=3, channels=1, voxel_size=voxel_size, shape=(2, 2, 2))
    assert prepared.grid.units == inner.told_in(other).units
    wrong = Grid(there.dims, there.shape, there.voxel_size, there.offset, "fathom")
    with pytest.raises(ValueError, match=r"raw: .*fathom"):
        TrainingVolume(label(raw, wrong), label(labels, inner.told_in(other)))


@given(one=units)
def test_raw_data_and_a_network(one: str) -> None:
    network = checkpoint("affinities")
    told = network.grid.told_in(one)
    raw = np.zeros((8, 8, 8), np.uint8)
    good = Grid(told.dims, raw.shape, told.voxel_size, (0, 0, 0), one)
    check_raw(raw, network, "raw", good)
    for units in ({*UNITS, "fathom"} - {one}) if one == "nm" else {"nm"}:
        with pytest.raises(ValueError, match=r"raw: .*nanometer"):
            check_raw(raw, network, "raw", Grid(told.dims, raw.shape, told.voxel_size, (0, 0, 0), units))
    check_raw(raw, network, "raw", Grid(told.dims, raw.shape, (1, 1, 1), (0, 0, 0), "voxel"))


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(voxel_size=sizes, corner=corners, one=units, other=units)
def test_stored_volumes(
    tmp_path: Path, voxel_size: tuple[float, ...], corner: tuple[int, ...], one: str, other: str
) -> None:
    values = np.arange(480, dtype=np.uint64).reshape(SHAPE)
    whole = place(voxel_size, corner)
    part = whole.crop((slice(1, 5), slice(2, 6), slice(3, 9)))
    inner = (slice(1, 5), slice(2, 6), slice(3, 9))
    for name, array, grid in (
        ("whole", values, whole.told_in(one)),
        ("part", values[inner], part.told_in(other)),
    ):
        ld.save_volume(label(array, grid), tmp_path / f"v.zarr/{name}", overwrite=True)
    first, second = (open_stored(f"{tmp_path}/v.zarr/{name}") for name in ("whole", "part"))
    everything = StoredReader(first, tuple(slice(0, n) for n in SHAPE))
    assert np.array_equal(matching_part(first, second.grid, "part").read(_all(part)), values[inner])
    for reader in shared_part(second, everything, "whole"):
        assert reader.shape == part.shape
        assert np.array_equal(reader.read(_all(part)), values[inner])
    assert open_mask(f"{tmp_path}/v.zarr/whole", second.grid, "part").shape == SHAPE


@given(voxel_size=sizes, one=units, other=units, count=st.tuples(*[st.integers(1, 6)] * 3))
def test_options(voxel_size: tuple[float, ...], one: str, other: str, count: tuple[int, ...]) -> None:
    """A number of voxels, told as a length in any unit, is that number of voxels of a volume in any other."""
    nanometers = place(voxel_size, (3, 4, 5))
    grid, told = nanometers.told_in(one), nanometers.told_in(other)
    lengths = [f"{n * v!r} {other}" for n, v in zip(count, told.voxel_size, strict=True)]
    assert block_shape_for(grid, lengths, "v") == count
    assert to_voxels("context", lengths, grid) == count
    offset = [f"{o!r} {other}" for o in told.offset]
    assert grid.region(offset, lengths) == tuple(slice(0, n) for n in count)


@given(one=st.sampled_from(["nm", "um", "mm", "angstrom"]))
@settings(max_examples=10)
def test_descriptors(one: str) -> None:
    labels = (np.indices((12, 12, 12)).sum(axis=0) // 9 + 1).astype(np.uint64)
    grid = Grid(("z", "y", "x"), labels.shape, (40, 4, 4), (0, 0, 0), "nm")
    expected = ld.local_shape_descriptors(label(labels, grid), sigma=40)
    found = ld.local_shape_descriptors(label(labels, grid.told_in(one)), sigma="0.04 um")
    np.testing.assert_array_equal(found, expected)


def test_where_one_unit_is_not_known() -> None:
    """Numbers alone are compared only where they are the same, and the units are named where they are not."""
    known = Grid(("z", "y", "x"), SHAPE, (8, 8, 8), (0, 0, 0), "nm")
    nothing = Grid(known.dims, (60, 80, 100), (1, 1, 1), (0, 0, 0), "voxel")
    with pytest.raises(ValueError, match=r"mask: units: .* voxel, .* nanometer"):
        align_mask(label(np.ones(nothing.shape, np.uint8), nothing), known)
    with pytest.raises(ValueError, match=r"mask: units: .* nanometer, .* voxel"):
        align_mask(label(np.ones(SHAPE, np.uint8), known), nothing)


@pytest.mark.parametrize(
    ("units", "offset", "size", "said"),
    [
        ("um", (0, 0, 0), (48, 64, 80), "in nanometer it would lie there: tell a unit"),
        ("nm", (0, 0, 0), (0.048, 0.064, 0.08), None),
        ("mm", (8, 8, 8), (16, 16, 16), "in nanometer it would lie there"),
        ("nm", (0, 0, 0), (4800, 64, 80), ""),
    ],
)
def test_a_region_in_other_units_is_told_of(
    units: str, offset: tuple[float, ...], size: tuple[float, ...], said: str | None
) -> None:
    grid = Grid(("z", "y", "x"), SHAPE, (8, 8, 8), (0, 0, 0), "nm").told_in(units)
    with pytest.raises(ValueError, match="the region with offset") as caught:
        grid.region(offset, size)
    if said:
        assert said in str(caught.value)
    elif said == "":
        assert "tell a unit" not in str(caught.value)


def _all(grid: Grid) -> tuple[slice, ...]:
    return tuple(slice(0, n) for n in grid.shape)
