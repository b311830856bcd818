"""The promise, from affinities on disk to the scored segmentation: blocks, place and type do not show.

The oracle is the library's functions on the whole volume in memory, which have oracles of their own. That any
chunking gives the same bits is held function by function as well, where each has its tests: fragments
(`test_watershed`, `test_fragments`), graph (`test_region_graph`), merge tree (`test_agglomeration`), lookup
tables and segmentation (`test_segmentation`), affinities (`test_affinities`), descriptors
(`test_descriptor_properties`) and scores (`test_evaluation_volumes`).

Blocks here are always thinner than the halo of steepest ascent, and may be a voxel thick.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from distributed import Client
from hypothesis import given
from hypothesis import strategies as st

import lsd_dask as ld
from lsd_dask import workflows
from lsd_dask.segmentation.watershed import CAP
from lsd_dask.workflows.steps import _scoring

from ..helpers.jobs import PATIENCE, container, fewer_examples, jobs, relabelled, voxel_size_of
from ..helpers.tissue import SHAPE, tissue

pytestmark = pytest.mark.timeout(PATIENCE)


@pytest.fixture(scope="module", autouse=True)
def client() -> Iterator[Client]:
    with (
        Client(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=":0") as client,
        pytest.MonkeyPatch.context() as patch,
    ):
        # A plot is no answer, and takes as long as all else of such small volumes.
        patch.setattr(_scoring, "draw", lambda *args, **options: {})
        yield client


@fewer_examples
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
