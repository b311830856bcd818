"""Fragments of whole volumes: the same under any chunking, decisions about whole fragments included."""

from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from lsd_dask import ids
from lsd_dask.segmentation.agglomeration import agglomerate
from lsd_dask.segmentation.fragments import extract_fragments, refine
from lsd_dask.segmentation.region_graph import build_region_graph, region_graph_bag
from lsd_dask.segmentation.relabelling import relabel
from lsd_dask.volumes.saving import open_volume, save_volume

from ..helpers.strategies import affinities, chunkings, label_volumes, shapes
from ..helpers.tasks import tasks_of
from ..helpers.tissue import VOXEL_SIZE, image, tissue

REFINEMENT = {"filter_fragments": 0.5, "epsilon_agglomerate": 0.15, "remove_debris": 60}
OPTIONS: list[dict[str, Any]] = [
    {},
    {"fragments_in_xy": True},
    {"height": "distance", "smoothing": 1.5},
    {"anisotropic": True, "height": "affinity"},
    {"replace_sections": [3, 4, 17]},
    REFINEMENT,
    {**REFINEMENT, "fragments_in_xy": True},
]


def affs(side: int = 40) -> np.ndarray:
    return tissue().affinities.values[:, :side, :side, :side]


def mean_affinity(values: np.ndarray, part: np.ndarray) -> float:
    """By the definition: over all voxels of a fragment and all directions."""
    scale = 255 if values.dtype == np.uint8 else 65535
    integers = values if values.dtype == np.uint8 else np.minimum(np.floor(values * 65536.0), 65535)
    return float(integers[:, part].mean(dtype=np.float64) / scale)


# Decisions about whole fragments


@given(st.data())
def test_refining_is_dropping_merging_and_dropping_again(data: st.DataObject) -> None:
    """Step by step on the arrays themselves, counting anew after each step."""
    shape = data.draw(shapes(4, 5, 6) | shapes(7, 8))
    fragments = data.draw(label_volumes(shape))
    values = data.draw(affinities(shape, dtypes="uf"))
    faint = data.draw(st.sampled_from([0.0, 0.2, 0.5]))
    epsilon = data.draw(st.sampled_from([0.0, 0.3, 0.7]))
    debris = data.draw(st.integers(0, 8))

    graph = build_region_graph(values, fragments)
    lut = refine(graph, filter_fragments=faint, epsilon_agglomerate=epsilon, remove_debris=debris)
    refined = relabel(fragments, lut)

    bright = fragments.copy()
    for i in np.unique(fragments[fragments != 0]):
        if mean_affinity(values, fragments == i) < faint - 1e-12:
            bright[fragments == i] = 0
    rest = build_region_graph(values, bright)
    expected = relabel(bright, agglomerate(rest, "hist_quant_25").cut(epsilon))
    for i, n in zip(*np.unique(expected, return_counts=True), strict=True):
        if n < debris:
            expected[expected == i] = 0
    np.testing.assert_array_equal(refined, expected)


def test_nothing_asked_for_changes_nothing() -> None:
    values = affs()
    graph = build_region_graph(values, extract_fragments(values))
    lut = refine(graph)
    np.testing.assert_array_equal(lut.keys, lut.values)


def test_refinement_drops_and_merges() -> None:
    """On tissue each of the decisions has something to decide."""
    values = affs()
    plain = extract_fragments(values)
    count = len(np.unique(plain))
    for option, value in REFINEMENT.items():
        refined = extract_fragments(values, **{option: value})
        assert 2 < len(np.unique(refined)) < count
        assert set(np.unique(refined).tolist()) <= {0, *np.unique(plain).tolist()}
        dropped = (refined == 0) & (plain != 0)
        assert dropped.any() == (option != "epsilon_agglomerate")
    sizes = np.unique(extract_fragments(values, remove_debris=60), return_counts=True)[1][1:]
    assert sizes.min() >= 60


# One answer


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_any_chunking_gives_the_fragments_of_the_whole(options: dict[str, Any]) -> None:
    values = affs()
    whole = extract_fragments(values, **options)
    assert len(np.unique(whole)) > 10
    for chunks in ((3, 16, 16, 16), (1, 13, 40, 27)):
        lazy = extract_fragments(da.from_array(values, chunks=chunks), context=(60, 60, 60), **options)
        assert isinstance(lazy, da.Array)
        np.testing.assert_array_equal(lazy.compute(scheduler="threads", num_workers=2), whole, strict=True)


@pytest.mark.parametrize("options", [{}, REFINEMENT], ids=str)
def test_any_blocks_of_a_stored_volume(tmp_path: Path, options: dict[str, Any]) -> None:
    values = affs(48)
    whole = extract_fragments(values, **options)
    save_volume(values, tmp_path / "a.zarr/affs", voxel_size=VOXEL_SIZE, offset=(160, 0, 32))
    mask = np.zeros((12, 12, 12), np.uint8)
    mask[2:11, :9, 3:] = 1
    save_volume(mask, tmp_path / "a.zarr/mask", voxel_size=(64, 64, 64), offset=(160, 0, 32))
    masked = extract_fragments(values, mask=mask, **options)
    for chunks in (48, 32, 20, (48, 9, 48)):
        volume = open_volume(tmp_path / "a.zarr/affs", chunks=chunks)
        lazy = extract_fragments(volume, **options)
        assert isinstance(lazy, xr.DataArray)
        assert lazy.attrs == volume.attrs
        np.testing.assert_array_equal(lazy.data.compute(scheduler="threads", num_workers=2), whole)
        lazy = extract_fragments(volume, mask=open_volume(tmp_path / "a.zarr/mask"), **options)
        np.testing.assert_array_equal(lazy.data.compute(scheduler="threads", num_workers=2), masked)
    outside = np.repeat(np.repeat(np.repeat(mask == 0, 4, 0), 4, 1), 4, 2)
    assert not masked[outside].any()


@given(st.data())
def test_any_chunking_of_an_image(data: st.DataObject) -> None:
    _, values = image()
    values = values[:, :40, :56]
    options = data.draw(st.sampled_from([{}, REFINEMENT, {"height": "distance"}]))
    whole = extract_fragments(values, **options)
    chunks = (2, *data.draw(chunkings(values.shape[1:])))
    lazy = extract_fragments(da.from_array(values, chunks=chunks), context=(80, 80), **options)
    np.testing.assert_array_equal(lazy.compute(scheduler="synchronous"), whole, strict=True)


def test_ids_are_addresses_of_voxels_of_the_fragment() -> None:
    fragments = extract_fragments(affs())
    found = np.unique(fragments)
    found = found[found > 0]
    z, y, x = ids.decode(found).T
    np.testing.assert_array_equal(fragments[z, y, x], found)


def test_affinities_of_longer_range_do_not_count() -> None:
    values = affs()
    more = np.concatenate([values, values[:1]])
    neighborhood = [[-1, 0, 0], [0, -1, 0], [0, 0, -1], [-3, 0, 0]]
    for options in ({}, REFINEMENT):
        np.testing.assert_array_equal(
            extract_fragments(more, neighborhood=neighborhood, **options),
            extract_fragments(values, **options),
        )


# Tasks


def test_a_block_of_a_stored_volume_is_one_task_a_pass(tmp_path: Path) -> None:
    """Steps are budgeted at two tasks a block: fragments take one, the region graph one."""
    save_volume(affs(48), tmp_path / "a.zarr/affs")
    volume = open_volume(tmp_path / "a.zarr/affs", chunks=16)
    assert len(tasks_of(extract_fragments(volume).data)) == 27
    mask = np.ones((48, 48, 48), np.uint8)
    save_volume(mask, tmp_path / "a.zarr/mask", block_shape=(16, 16, 16))
    masked = extract_fragments(volume, mask=open_volume(tmp_path / "a.zarr/mask", chunks=16))
    assert len(tasks_of(masked.data)) <= 2 * 27
    save_volume(extract_fragments(volume), tmp_path / "a.zarr/fragments")
    stored = open_volume(tmp_path / "a.zarr/fragments", chunks=16)
    assert len(tasks_of(region_graph_bag(volume, stored))) == 27
    # Decisions about whole fragments are three passes: make, count, relabel; and one small reduction.
    reduction = -(-27 // 8) + 3
    assert len(tasks_of(extract_fragments(volume, **REFINEMENT).data)) <= 3 * 27 + reduction


# Mistakes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "waterfall"}, "There is no method 'waterfall', expected"),
        ({"height": "altitude"}, "There is no height 'altitude', expected one of distance, affinity, both"),
        ({"smoothing": -1}, r"smoothing \(in voxels\) is -1, expected 0 to 16"),
        ({"min_seed_distance": 0}, "min_seed_distance: found 0, expected a whole number from 1 on"),
        ({"context": (3, 3)}, r"context: found \[3, 3\], expected 3 numbers"),
        ({"filter_fragments": 40}, "filter_fragments is 40, expected 0 to 1"),
        ({"epsilon_agglomerate": -0.1}, r"epsilon_agglomerate is -0\.1, expected 0 to 1"),
        ({"remove_debris": -1}, "remove_debris: found -1, expected a whole number from 0 on"),
        ({"mask": np.ones((5, 5))}, r"mask of shape \(5, 5\) was found for a volume of shape \(8, 8, 8\)"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        extract_fragments(np.ones((3, 8, 8, 8), np.float32), **options)


def test_sections_of_an_image() -> None:
    with pytest.raises(ValueError, match="fragments_in_xy is for volumes"):
        extract_fragments(np.ones((2, 8, 8), np.float32), fragments_in_xy=True)


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        (np.ones((3, 8, 8, 8), np.int32), TypeError, "int32, expected uint8"),
        (np.ones((2, 8, 8, 8), np.float32), ValueError, "found 2 channels, expected 3"),
        (
            np.full((3, 8, 8, 8), 3.5, np.float32),
            ValueError,
            r"values from 3\.5 to 3\.5, expected values from 0",
        ),
        (np.full((3, 8, 8, 8), np.nan, np.float32), ValueError, "hold NaN, expected"),
        (np.ones((8, 8), np.float32), ValueError, r"found shape \(8, 8\), 2 axes, expected channel"),
    ],
)
def test_arrays_that_are_no_affinities(values: np.ndarray, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        extract_fragments(values)


def test_a_volume_without_channels() -> None:
    """Of a bare array nobody can tell whether its first axis is z; a DataArray says it."""
    with pytest.raises(ValueError, match="found the axes z, y, x, expected channel"):
        extract_fragments(xr.DataArray(np.ones((8, 8, 8), np.uint8), dims=("z", "y", "x")))
