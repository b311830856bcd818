"""The promise, from affinities on disk to the scored segmentation: blocks, place and type do not show.

The oracle is the library's functions on the whole volume in memory, which have oracles of their own. That any
chunking gives the same bits is held function by function as well, where each has its tests: fragments
(`test_watershed`, `test_fragments`), graph (`test_region_graph`), merge tree (`test_agglomeration`), lookup
tables and segmentation (`test_segmentation`), affinities (`test_affinities`), descriptors
(`test_descriptor_properties`) and scores (`test_evaluation_volumes`).

Blocks here are always thinner than the halo of steepest ascent, and may be a voxel thick.
"""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import xarray as xr
from distributed import Client
from hypothesis import given, settings
from hypothesis import strategies as st

import lsd_dask as ld
from lsd_dask import workflows
from lsd_dask.grids import Region
from lsd_dask.watershed import CAP

from .strategies import affinities, label_volumes, regions, seeds, shapes
from .tissue import SHAPE, tissue

VOXEL_SIZE = (30.0, 5.0, 5.0)

#: An example here is a run of all steps.
pytestmark = pytest.mark.timeout(300 + 6 * settings().max_examples)


@pytest.fixture(scope="module", autouse=True)
def client() -> Iterator[Client]:
    with Client(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=":0") as client:
        yield client


@contextmanager
def container() -> Iterator[Path]:
    """An empty one for each example."""
    directory = Path(tempfile.mkdtemp())
    try:
        yield directory / "cells.zarr"
    finally:
        shutil.rmtree(directory)


def voxel_size_of(ndim: int) -> tuple[float, ...]:
    return VOXEL_SIZE[3 - ndim :]


@st.composite
def block_sizes(draw: st.DrawFn, shape: Sequence[int]) -> tuple[float, ...]:
    """In world units: any number of voxels, but at most a few dozen blocks."""
    voxels = [draw(st.integers(1, n)) for n in shape]
    # It is their borders that count, not their number.
    while np.prod([-(-n // b) for n, b in zip(shape, voxels, strict=True)]) > 24:
        voxels = [min(2 * b, n) for n, b in zip(shape, voxels, strict=True)]
    return tuple(b * v for b, v in zip(voxels, voxel_size_of(len(shape)), strict=True))


@st.composite
def masks(draw: st.DrawFn, shape: Sequence[int]) -> tuple[np.ndarray, tuple[int, ...]]:
    """A mask of as large voxels or larger ones, and how much larger they are along each axis.

    Holes in it, a box of it, half of it, or nothing: so that there are blocks without any voxel.
    """
    rng = np.random.default_rng(draw(seeds))
    factors = tuple(draw(st.sampled_from([1, 1, 2, 3, 8])) for _ in shape)
    mask = np.zeros([-(-n // f) for n, f in zip(shape, factors, strict=True)], np.uint8)
    kind = draw(st.sampled_from(["holes", "box", "half", "nothing"]))
    if kind == "holes":
        mask[:] = rng.random(mask.shape) < 0.8
    elif kind == "box":
        mask[draw(regions(mask.shape))] = 1
    elif kind == "half":
        axis = draw(st.integers(0, mask.ndim - 1))
        np.moveaxis(mask, axis, 0)[: -(-mask.shape[axis] // 2)] = 1
    return mask, factors


@st.composite
def jobs(draw: st.DrawFn) -> dict[str, Any]:
    """Affinities, truth, mask and options of the watershed; and how the work is cut up."""
    ndim = draw(st.sampled_from([2, 3, 3, 3]))
    shape = draw(shapes(12, 20, 20)) if ndim == 3 else draw(shapes(30, 30))
    options: dict[str, Any] = {
        "height": draw(st.sampled_from(["distance", "affinity", "both"])),
        "smoothing": draw(st.sampled_from([0.0, 0.85, 1.5])),
        "anisotropic": draw(st.booleans()),
    }
    if ndim == 3:
        options["fragments_in_xy"] = draw(st.booleans())
        options["replace_sections"] = draw(st.lists(st.integers(0, shape[0] - 1), max_size=2)) or None
    refinement = {"remove_debris": 5, "filter_fragments": 0.5, "epsilon_agglomerate": 0.4}
    options |= {name: value for name, value in refinement.items() if draw(st.integers(0, 3)) == 0}
    return {
        "affinities": draw(affinities(shape, dtypes="uf")),
        "truth": draw(label_volumes(shape)),
        "mask": draw(st.none() | masks(shape)),
        "options": options,
        "run": {
            "block_size": draw(block_sizes(shape)),
            "merge_function": draw(st.sampled_from(["hist_quant_75", "mean", "hist_quant_50_initmax"])),
        },
    }


@given(jobs(), st.integers(-3, 1000))
def test_a_segmentation_is_that_of_the_whole_volume(job: dict[str, Any], corner: int) -> None:
    truth, options, run = job["truth"], job["options"], job["run"]
    voxel_size = voxel_size_of(truth.ndim)
    place = {"voxel_size": voxel_size, "offset": tuple(corner * v for v in voxel_size)}
    with container() as cells:
        ld.save_volume(job["affinities"], cells / "affs", **place)
        ld.save_volume(truth, cells / "truth", **place)
        affs = ld.open_volume(cells / "affs").load()
        given = {"affs_file": cells, "affs_dataset": "affs"}
        mask = None
        if job["mask"] is not None:
            values, factors = job["mask"]
            coarse = tuple(f * v for f, v in zip(factors, voxel_size, strict=True))
            ld.save_volume(values, cells / "mask", voxel_size=coarse, offset=place["offset"])
            given |= {"mask_file": cells, "mask_dataset": "mask"}
            mask = upsampled(values, factors, truth.shape)
        if truth.any():
            given |= {"gt_file": cells, "gt_dataset": "truth"}
        whole = ld.extract_fragments(affs, mask=mask, **options)
        assert mask is None or not whole.values[~mask].any()
        graph = ld.build_region_graph(affs, whole)
        tree = ld.agglomerate(graph, run["merge_function"])

        result = workflows.segment(
            out_file=cells, threshold=0.4, thresholds_step=0.2, **given, **options, **run
        )
        assert np.array_equal(ld.open_volume(cells / "volumes/fragments"), whole)
        assert np.array_equal(ld.open_volume(result.path), relabelled(whole, tree, 0.4))
        check_tables(cells / "rag", graph, tree, run["merge_function"])
        for row in result.scores:
            expected = ld.evaluation.rand_voi(truth, relabelled(whole, tree, row["threshold"]))
            assert {name: row[name] for name in expected} == expected


def upsampled(mask: np.ndarray, factors: Sequence[int], shape: Sequence[int]) -> np.ndarray:
    for axis, factor in enumerate(factors):
        mask = mask.repeat(factor, axis)
    return mask[tuple(slice(0, n) for n in shape)].astype(bool)


def relabelled(fragments: xr.DataArray, tree: Any, threshold: float) -> np.ndarray:
    segmentation: np.ndarray = ld.relabel(fragments.to_numpy(), tree.cut(threshold))
    return segmentation


def check_tables(rag: Path, graph: Any, tree: Any, merge_function: str) -> None:
    """Nodes, edges with all of their sums, merge tree and lookup tables, as they are on disk."""
    nodes, edges = pq.read_table(rag / "nodes.parquet"), pq.read_table(rag / "edges.parquet")
    for table, columns in ((nodes, graph.nodes.columns()), (edges, graph.edges.columns())):
        for name, column in columns.items():
            expected = column.to_pylist() if hasattr(column, "to_pylist") else column.tolist()
            assert table[name].to_pylist() == expected, name
    merges = pq.read_table(rag / f"merges_{merge_function}.parquet")
    assert merges["level"].to_pylist() == tree.levels.tolist()
    assert merges["fragment"].to_pylist() == tree.ids.tolist()
    lut, cut = pq.read_table(rag / f"luts/{merge_function}_0.4.parquet"), tree.cut(0.4)
    assert lut["fragment"].to_pylist() == cut.keys.tolist()
    assert lut["segment"].to_pylist() == cut.values.tolist()


@given(jobs(), st.data())
def test_a_region_has_the_fragments_of_the_whole_volume(job: dict[str, Any], data: st.DataObject) -> None:
    """What is around a region is read, and is no part of its graph."""
    values = job["affinities"]
    voxel_size = voxel_size_of(values.ndim - 1)
    region: Region = data.draw(regions(values.shape[1:]))
    refinement = ("remove_debris", "filter_fragments", "epsilon_agglomerate")
    options = {name: value for name, value in job["options"].items() if name not in refinement}
    block_size = data.draw(block_sizes([s.stop - s.start for s in region]))
    with container() as cells:
        ld.save_volume(values, cells / "affs", voxel_size=voxel_size)
        affs = ld.open_volume(cells / "affs").load()
        expected = ld.extract_fragments(affs, **options)[region]
        result = workflows.segment(
            affs_file=cells,
            affs_dataset="affs",
            out_file=cells,
            threshold=0.4,
            roi_offset=[s.start * v for s, v in zip(region, voxel_size, strict=True)],
            roi_shape=[(s.stop - s.start) * v for s, v in zip(region, voxel_size, strict=True)],
            block_size=block_size,
            **options,
        )
        assert np.array_equal(ld.open_volume(cells / "volumes/fragments"), expected)
        tree = ld.agglomerate(ld.build_region_graph(affs[(slice(None), *region)], expected))
        assert np.array_equal(ld.open_volume(result.path), relabelled(expected, tree, 0.4))


@given(st.data())
def test_descriptors_are_those_of_the_whole_volume(data: st.DataObject) -> None:
    shape = data.draw(shapes(10, 16, 16) | shapes(24, 24))
    labels = data.draw(label_volumes(shape))
    voxel_size = voxel_size_of(labels.ndim)
    options = {"sigma": data.draw(st.sampled_from([8.0, 20.0, 45.0])), "downsample": 1}
    with container() as cells:
        ld.save_volume(labels, cells / "labels", voxel_size=voxel_size)
        workflows.lsds(
            labels_file=cells,
            labels_dataset="labels",
            lsds_file=cells,
            lsds_dataset="lsds",
            dtype="float32",
            block_size=data.draw(block_sizes(shape)),
            **options,
        )
        expected = ld.local_shape_descriptors(labels, voxel_size=voxel_size, **options)
        found = ld.open_volume(cells / "lsds").values
        assert np.array_equal(found.view(np.uint32), expected.view(np.uint32))


# What is far from everything


def test_neurites_that_span_many_blocks_and_blocks_of_nothing(tmp_path: Path) -> None:
    """One bar through all blocks, two far from it, and blocks that are deeper than `CAP` in nothing."""
    shape = (8, 90, 70)
    labels = np.zeros(shape, np.uint64)
    labels[2:6, 3:7, :] = 1
    labels[:, 80:84, 10:14] = 2
    labels[:, 85:, 10:14] = 3
    values = np.asarray(ld.affinities(labels)).astype(np.float32)
    ld.save_volume(values, tmp_path / "cells.zarr/affs")
    whole = ld.extract_fragments(values)
    assert not whole[:, 30:50].any()
    assert 2 * CAP < 50 - 30
    for side in (9, 33):
        out = tmp_path / f"{side}.zarr"
        result = workflows.segment(
            affs_file=tmp_path / "cells.zarr",
            affs_dataset="affs",
            out_file=out,
            threshold=0.5,
            block_size=(8, side, side),
        )
        assert np.array_equal(ld.open_volume(out / "volumes/fragments"), whole)
        tree = ld.agglomerate(ld.build_region_graph(values, whole))
        assert np.array_equal(ld.open_volume(result.path), ld.relabel(whole, tree.cut(0.5)))


# What is not promised


def test_the_watershed_of_the_reference_depends_on_the_blocks(tmp_path: Path) -> None:
    """`method="seeded"`: its seeds and floods see no farther than the context.

    Here, cells are a few voxels thick. With no context half of the voxels are in another fragment than they
    would be without blocks, most of them near the blocks' borders; the more context, the fewer and the nearer
    they are; with the default, 32 voxels, there are none. With all of the volume as context there are never
    any: `test_watershed`.
    """
    values = tissue().affinities.values
    side = 32
    ld.save_volume(values, tmp_path / "a.zarr/affs", block_shape=(side,) * 3)
    stored = ld.open_volume(tmp_path / "a.zarr/affs", chunks=side)
    whole = ld.extract_fragments(values, method="seeded")
    near = np.minimum.reduce(np.meshgrid(*(to_border(n, side) for n in SHAPE), indexing="ij"))

    def others(context: int | None) -> np.ndarray:
        options = {} if context is None else {"context": (context,) * 3}
        blocks = ld.extract_fragments(stored, method="seeded", **options)
        return np.asarray(blocks.values != whole)

    shares = {context: others(context) for context in (0, 4, 8, 16)}
    for less, more in pairwise(shares.values()):
        assert 0 < more.mean() < less.mean() / 1.5
    assert shares[0].mean() > 0.3
    for context, other in shares.items():
        assert other[near < 4].mean() > 5 * other[near >= 12].mean(), context
    assert shares[16].mean() < 0.03
    assert not others(None).any()


def to_border(n: int, side: int) -> np.ndarray:
    """Distance of each of n voxels to the nearest border between blocks."""
    borders = np.arange(side, n, side)
    return np.abs(np.arange(n)[:, None] + 0.5 - borders).min(axis=1)
