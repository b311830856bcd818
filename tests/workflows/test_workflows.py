"""The steps one by one: one answer whatever the blocks."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from dask import base
from distributed import Client
from distributed.diagnostics.plugin import SchedulerPlugin

import lsd_dask as ld
from lsd_dask import workflows
from lsd_dask.evaluation import ScoreTable, rand_voi
from lsd_dask.segmentation.agglomeration import MERGE_FUNCTIONS, LookupTable, MergeTree
from lsd_dask.segmentation.region_graph import RegionGraph, build_region_graph

from ..helpers.steps import OFFSET, REFINEMENT, extract, in_memory, values, world
from ..helpers.tissue import SHAPE, VOXEL_SIZE, image, tissue


@pytest.fixture(scope="session")
def image_zarr(tmp_path_factory: pytest.TempPathFactory) -> Path:
    container = tmp_path_factory.mktemp("image") / "image.zarr"
    labels, affinities = image()
    place = {"voxel_size": VOXEL_SIZE[1:], "offset": OFFSET[1:]}
    ld.save_volume(affinities, container / "volumes/affs", **place)
    ld.save_volume(labels, container / "volumes/labels", **place)
    return container


@pytest.fixture(scope="session")
def made(tissue_zarr: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Fragments and their merge tree, for the steps that read them; not to be written to."""
    out = tmp_path_factory.mktemp("made") / "out.zarr"
    with Client(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=":0"):
        extract(tissue_zarr, out)
        workflows.agglomerate(affs_file=tissue_zarr, fragments_file=out)
    return out


# One answer


@pytest.mark.parametrize("options", [{}, {"fragments_in_xy": True}, REFINEMENT], ids=str)
def test_fragments_do_not_depend_on_the_blocks(
    cluster_client: Client, tissue_zarr: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    expected = in_memory(**options)
    for side in (None, 32, 48, 64):
        size = None if side is None else world(side, side, side)
        result = extract(tissue_zarr, tmp_path / f"{side}.zarr", block_size=size, **options)
        assert result.blocks == (1 if side is None else np.prod([-(-n // side) for n in SHAPE]))
        fragments = ld.open_volume(result.outputs["fragments"])
        np.testing.assert_array_equal(fragments.values, expected, strict=True)
        assert ld.volumes.grid_of(fragments).offset == OFFSET
        assert ld.volumes.grid_of(fragments).voxel_size == VOXEL_SIZE


def test_segmentations_do_not_depend_on_the_blocks(
    cluster_client: Client, tissue_zarr: Path, tmp_path: Path
) -> None:
    fragments = in_memory()
    tree = ld.agglomerate(build_region_graph(tissue().affinities.values, fragments))
    expected = ld.relabel(fragments, tree.cut(0.3))
    for side in (32, 48, 64, 96):
        out, size = tmp_path / f"{side}.zarr", world(side, side, side)
        extract(tissue_zarr, out, block_size=size)
        workflows.agglomerate(affs_file=tissue_zarr, fragments_file=out, block_size=size)
        result = workflows.extract_segmentation(
            fragments_file=out, out_file=out, threshold=0.3, block_size=size
        )
        np.testing.assert_array_equal(values(result.outputs["segmentation"]), expected, strict=True)


@pytest.mark.parametrize("options", [{}, REFINEMENT], ids=str)
def test_a_mask_of_coarser_voxels(
    cluster_client: Client, tissue_zarr: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    mask = values(tissue_zarr / "volumes/mask")
    expected = in_memory(mask=mask, **options)
    assert not expected[:8].any()
    for side in (40, 64):
        result = extract(
            tissue_zarr,
            tmp_path / f"{side}.zarr",
            mask_file=tissue_zarr,
            mask_dataset="volumes/mask",
            block_size=world(side, side, side),
            **options,
        )
        np.testing.assert_array_equal(values(result.outputs["fragments"]), expected, strict=True)


@pytest.mark.parametrize("options", [{}, {"fragments_in_xy": True}, {"replace_sections": [20, 21]}], ids=str)
def test_a_region_has_the_fragments_of_the_whole_volume(
    cluster_client: Client, tissue_zarr: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    """What lies around a region is read, so its fragments are those of the whole up to its very faces."""
    result = extract(
        tissue_zarr,
        tmp_path / "out.zarr",
        roi_offset=tuple(o + d for o, d in zip(OFFSET, world(7, 16, 33), strict=True)),
        roi_shape=world(40, 41, 55),
        block_size=world(32, 32, 32),
        **options,
    )
    region = (slice(7, 47), slice(16, 57), slice(33, 88))
    np.testing.assert_array_equal(values(result.outputs["fragments"]), in_memory(**options)[region])


def test_images(cluster_client: Client, image_zarr: Path, tmp_path: Path) -> None:
    affinities = image()[1]
    fragments = ld.extract_fragments(affinities, **REFINEMENT)
    tree = ld.agglomerate(build_region_graph(affinities, fragments), "mean")
    for side in (32, 64):
        out, size = tmp_path / f"{side}.zarr", world(side, side, side)[1:]
        extract(image_zarr, out, block_size=size, **REFINEMENT)
        workflows.agglomerate(
            affs_file=image_zarr, fragments_file=out, block_size=size, merge_function="mean"
        )
        result = workflows.extract_segmentation(
            fragments_file=out, out_file=out, threshold=0.4, block_size=size, edges_collection="edges_mean"
        )
        expected = ld.relabel(fragments, tree.cut(0.4))
        np.testing.assert_array_equal(values(result.outputs["segmentation"]), expected, strict=True)


def test_affinities_of_longer_range(cluster_client: Client, tissue_zarr: Path, tmp_path: Path) -> None:
    """They add to the edges, and do not stand in the way of decisions about whole fragments."""
    neighborhood = [[-1, 0, 0], [0, -1, 0], [0, 0, -1], [0, -5, 0]]
    affinities = np.concatenate([tissue().affinities.values, tissue().affinities.values[1:2] // 2])
    ld.save_volume(affinities, tmp_path / "affs.zarr/volumes/affs")
    out = tmp_path / "out.zarr"
    size = (40, 40, 40)
    extract(tmp_path / "affs.zarr", out, neighborhood=neighborhood, block_size=size, **REFINEMENT)
    fragments = in_memory(**REFINEMENT)
    np.testing.assert_array_equal(values(out / "volumes/fragments"), fragments)
    workflows.agglomerate(
        affs_file=tmp_path / "affs.zarr", fragments_file=out, neighborhood=neighborhood, block_size=size
    )
    expected = build_region_graph(affinities, fragments, neighborhood)
    found = RegionGraph.from_parquet(str(out / "rag"))
    np.testing.assert_array_equal(found.edges.sums, expected.edges.sums)
    np.testing.assert_array_equal(found.edges.counts, expected.edges.counts)


# Graph and merge trees


def test_merge_functions_side_by_side_share_one_graph(
    cluster_client: Client, tissue_zarr: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.zarr"
    fragments = values(extract(tissue_zarr, out).outputs["fragments"])
    graph = build_region_graph(tissue().affinities.values, fragments)
    counted = []
    for name in MERGE_FUNCTIONS:
        result = workflows.agglomerate(affs_file=tissue_zarr, fragments_file=out, merge_function=name)
        counted.append(result.blocks - result.skipped)
        tree = MergeTree.from_parquet(result.outputs["merge tree"])
        expected = ld.agglomerate(graph, name)
        np.testing.assert_array_equal(tree.cut(0.4).values, expected.cut(0.4).values)
        edges = pq.read_table(out / "rag" / f"edges_{name}.parquet")
        scores = np.array([np.nan if s is None else s for s in edges["merge_score"].to_pylist()])
        np.testing.assert_array_equal(scores, expected.merge_scores(graph))
    assert counted == [1] + [0] * (len(MERGE_FUNCTIONS) - 1)


def test_a_region_of_the_graph(cluster_client: Client, tissue_zarr: Path, made: Path, tmp_path: Path) -> None:
    """The region graph of a part of the fragments is that of the part alone."""
    out = tmp_path / "out.zarr"
    ld.save_volume(ld.open_volume(made / "volumes/fragments"), out / "volumes/fragments")
    roi = {
        "roi_offset": tuple(o + d for o, d in zip(OFFSET, world(8, 0, 16), strict=True)),
        "roi_shape": world(40, 72, 48),
    }
    workflows.agglomerate(affs_file=tissue_zarr, fragments_file=out, block_size=world(32, 32, 32), **roi)
    region = (slice(8, 48), slice(0, 72), slice(16, 64))
    graph = RegionGraph.from_parquet(str(out / "rag"))
    fragments = values(made / "volumes/fragments")[region]
    expected = build_region_graph(tissue().affinities.values[(slice(None), *region)], fragments)
    np.testing.assert_array_equal(graph.edges.u, expected.edges.u)
    np.testing.assert_array_equal(graph.edges.sums, expected.edges.sums)

    # The graph counts voxels from the region's corner; a smaller region is found in it all the same.
    part = {"roi_offset": roi["roi_offset"], "roi_shape": world(8, 16, 16)}
    workflows.find_segments(fragments_file=out, thresholds_minmax=(0.3, 0.3), **part)
    lut = LookupTable.from_parquet(str(out / "rag/luts/hist_quant_75_0.3.parquet"))
    inside = np.unique(fragments[:8, :16, :16])
    assert set(inside[inside > 0].tolist()) <= set(lut.keys.tolist())
    assert len(lut) < len(graph.nodes)


# Segments


def test_a_lookup_table_for_every_threshold(made: Path, tmp_path: Path) -> None:
    """Named in full: 0.28 and 0.29 are two thresholds, and 0.58 is not 0.57."""
    result = workflows.find_segments(
        fragments_file=made, thresholds_minmax=[0.28, 0.6], thresholds_step=0.01, run_type="testing"
    )
    folder = Path(result.outputs["lookup tables"])
    assert folder == made / "rag/luts/testing"
    names = {f"hist_quant_75_{i / 100:g}.parquet" for i in range(28, 60)}
    assert {path.name for path in folder.iterdir()} == names
    tree = MergeTree.from_parquet(str(made / "rag/merges_hist_quant_75.parquet"))
    for threshold in (0.28, 0.29, 0.58):
        lut = LookupTable.from_parquet(str(folder / f"hist_quant_75_{threshold}.parquet"))
        np.testing.assert_array_equal(lut.keys, tree.ids)
        np.testing.assert_array_equal(lut.values, tree.cut(threshold).values)


def test_lookup_tables_of_a_region(made: Path) -> None:
    workflows.find_segments(
        fragments_file=made,
        thresholds_minmax=[0.4, 0.4],
        run_type="region",
        roi_offset=OFFSET,
        roi_shape=world(16, 16, 16),
    )
    lut = LookupTable.from_parquet(str(made / "rag/luts/region/hist_quant_75_0.4.parquet"))
    inside = np.unique(values(made / "volumes/fragments")[:16, :16, :16])
    whole = MergeTree.from_parquet(str(made / "rag/merges_hist_quant_75.parquet")).cut(0.4)
    assert set(inside[inside > 0].tolist()) <= set(lut.keys.tolist())
    assert len(lut) < len(whole)
    assert all(lut[int(key)] == whole[int(key)] for key in lut.keys)


def test_a_segmentation_without_finding_segments_first(
    cluster_client: Client, made: Path, tmp_path: Path
) -> None:
    tree = MergeTree.from_parquet(str(made / "rag/merges_hist_quant_75.parquet"))
    for threshold in (0.25, 0.45, 0.45):
        result = workflows.extract_segmentation(
            fragments_file=made, out_file=tmp_path / "out.zarr", threshold=threshold
        )
        expected = ld.relabel(values(made / "volumes/fragments"), tree.cut(threshold))
        np.testing.assert_array_equal(values(result.outputs["segmentation"]), expected, strict=True)
    assert (result.blocks, result.skipped) == (1, 1)


def test_a_segmentation_of_a_region(cluster_client: Client, made: Path, tmp_path: Path) -> None:
    """Ids are those of the whole volume."""
    options = {"fragments_file": made, "threshold": 0.4}
    workflows.extract_segmentation(out_file=tmp_path / "whole.zarr", **options)
    result = workflows.extract_segmentation(
        out_file=tmp_path / "part.zarr",
        roi_offset=tuple(o + d for o, d in zip(OFFSET, world(8, 9, 10), strict=True)),
        roi_shape=world(20, 30, 40),
        block_size=world(16, 16, 16),
        **options,
    )
    region = (slice(8, 28), slice(9, 39), slice(10, 50))
    whole = values(tmp_path / "whole.zarr/volumes/segmentation")
    np.testing.assert_array_equal(values(result.outputs["segmentation"]), whole[region])


def test_scores_are_those_of_the_segmentations(cluster_client: Client, tissue_zarr: Path, made: Path) -> None:
    result = workflows.evaluate_volumes(
        fragments_file=made,
        gt_file=tissue_zarr,
        gt_dataset="volumes/labels",
        thresholds_step=0.05,
        method="synthetic",
    )
    tree = MergeTree.from_parquet(str(made / "rag/merges_hist_quant_75.parquet"))
    fragments, truth = values(made / "volumes/fragments"), tissue().labels.values
    for row in result.scores[::5]:
        segmentation = ld.relabel(fragments, tree.cut(row["threshold"]))
        expected = rand_voi(truth, segmentation)
        assert {key: row[key] for key in expected} == pytest.approx(expected, abs=1e-12)
    assert result.best["voi_sum"] == min(row["voi_sum"] for row in result.scores)
    assert list(ScoreTable.from_parquet(result.outputs["scores"]).rows) == list(result.scores)
    assert {row["method"] for row in result.scores} == {"synthetic"}
    # Merging can only lower the splits and raise the merges.
    assert np.all(np.diff([row["voi_split"] for row in result.scores]) <= 1e-12)
    assert np.all(np.diff([row["voi_merge"] for row in result.scores]) >= -1e-12)


@pytest.mark.parametrize("named", [False, True])
def test_scores_of_a_region(cluster_client: Client, made: Path, tmp_path: Path, named: bool) -> None:
    """The truth may cover no more than a region, whether that is named or not."""
    region = (slice(8, 40), slice(0, 72), slice(30, 88))
    offset = tuple(o + d for o, d in zip(OFFSET, world(8, 0, 30), strict=True))
    truth = tissue().labels.values[region]
    ld.save_volume(truth, tmp_path / "gt.zarr/labels", voxel_size=VOXEL_SIZE, offset=offset)
    result = workflows.evaluate_volumes(
        fragments_file=made,
        gt_file=tmp_path / "gt.zarr",
        gt_dataset="labels",
        thresholds_minmax=(0.3, 0.3),
        run_type="region",
        **({"roi_offset": offset, "roi_shape": world(*truth.shape)} if named else {}),
    )
    tree = MergeTree.from_parquet(str(made / "rag/merges_hist_quant_75.parquet"))
    expected = rand_voi(truth, ld.relabel(values(made / "volumes/fragments")[region], tree.cut(0.3)))
    assert {key: result.scores[0][key] for key in expected} == pytest.approx(expected, abs=1e-12)
    assert result.outputs["scores"].endswith("rag/scores/region/hist_quant_75.parquet")


# Tasks


class _Count(SchedulerPlugin):
    """Counts, by kind, the tasks that the scheduler hands to workers."""

    name = "count-tasks"

    def __init__(self) -> None:
        self.keys: set[Any] = set()

    def transition(self, key: Any, start: str, finish: str, *_: Any, **__: Any) -> None:
        if finish == "processing":
            self.keys.add(key)


@contextmanager
def counting_tasks(client: Client) -> Iterator[Counter[str]]:
    """Fills a counter of tasks by kind when the block ends."""
    scheduler = client.cluster.scheduler
    plugin = _Count()
    scheduler.add_plugin(plugin)
    counts: Counter[str] = Counter()
    try:
        yield counts
    finally:
        scheduler.remove_plugin(plugin.name)
        counts.update(base.key_split(key) for key in plugin.keys)


def test_at_most_two_tasks_a_block(cluster_client: Client, tissue_zarr: Path, tmp_path: Path) -> None:
    """As the scheduler saw them. Steps that add up tables need a few more: one for each eight."""
    out, size = tmp_path / "out.zarr", world(24, 24, 24)
    n = 3 * 3 * 4
    reduction = -(-n // 8) + 3
    with counting_tasks(cluster_client) as tasks:
        assert extract(tissue_zarr, out, block_size=size).blocks == n
    assert tasks.total() == n
    with counting_tasks(cluster_client) as tasks:
        workflows.agglomerate(affs_file=tissue_zarr, fragments_file=out, block_size=size)
    assert n <= tasks.total() <= n + 2 * reduction
    with counting_tasks(cluster_client) as tasks:
        workflows.find_segments(fragments_file=out)
    assert tasks.total() == 0
    with counting_tasks(cluster_client) as tasks:
        workflows.extract_segmentation(fragments_file=out, out_file=out, threshold=0.3, block_size=size)
    assert tasks.total() == n
    with counting_tasks(cluster_client) as tasks:
        workflows.evaluate_volumes(fragments_file=out, gt_file=tissue_zarr, gt_dataset="volumes/labels")
    assert 1 <= tasks.total() <= 1 + 2 * 3
    # Decisions about whole fragments are three passes of one task a block: make, count, write.
    with counting_tasks(cluster_client) as tasks:
        extract(tissue_zarr, out, block_size=size, fragments_dataset="volumes/refined", **REFINEMENT)
    assert 3 * n <= tasks.total() <= 3 * n + 2 * reduction
