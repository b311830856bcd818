"""The steps that evaluate: volumes, skeletons, and several runs beside each other."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from distributed import Client

import lsd_dask as ld
from lsd_dask import workflows
from lsd_dask.cli.main import main
from lsd_dask.evaluation import (
    ScoreTable,
    Skeletons,
    count_overlaps,
    expected_run_length,
    min_cut_metric,
    rand_voi,
)
from lsd_dask.segmentation.agglomeration import MergeTree
from lsd_dask.segmentation.region_graph import RegionGraph
from lsd_dask.workflows.running import inputs

from ..helpers.steps import OFFSET, save_tissue_with_mask
from ..helpers.tissue import SHAPE, VOXEL_SIZE, tissue


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Affinities, truth, a mask, fragments and their merge tree, away from the origin of the world."""
    out = tmp_path_factory.mktemp("evaluated") / "out.zarr"
    save_tissue_with_mask(out)
    with Client(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=":0"):
        workflows.extract_fragments(affs_file=out, fragments_file=out)
        workflows.agglomerate(affs_file=out, fragments_file=out)
    yield out


@pytest.fixture(scope="module")
def skeletons() -> Skeletons:
    """A node in every fourth voxel of the five largest objects, joined as they come: not pretty, but true."""
    labels = tissue().labels.values
    ids, sizes = np.unique(labels[labels > 0], return_counts=True)
    positions, edges, owners = [], [], []
    for skeleton in ids[np.argsort(-sizes)[:5]]:
        voxels = np.argwhere(labels[::4, ::4, ::4] == skeleton) * 4
        first = len(positions)
        positions += (np.array(OFFSET) + (voxels + 0.5) * VOXEL_SIZE).tolist()
        edges += [[i, i + 1] for i in range(first, len(positions) - 1)]
        owners += [int(skeleton)] * len(voxels)
    return Skeletons(positions, edges, owners, np.arange(len(owners)) + 1000)


def write_collections(skeletons: Skeletons, folder: Path) -> None:
    """As `mongoexport` writes what the funkelab scripts read."""
    z, y, x = skeletons.positions.T.tolist()
    rows = list(zip(skeletons.nodes.tolist(), z, y, x, strict=True))
    ends = skeletons.nodes[skeletons.edges].tolist()
    content: dict[str, list[dict[str, Any]]] = {
        "finch.nodes": [{"id": i, "z": a, "y": b, "x": c} for i, a, b, c in rows],
        "finch.edges": [{"source": u, "target": v} for u, v in ends],
        "mask_test": [{"id": i, "masked": True} for i, *_ in rows],
        "components": [
            {"id": i, "component_id": int(s)} for (i, *_), s in zip(rows, skeletons.skeletons, strict=True)
        ],
        "synapses.edges": [{"source": i, "target": i + 1} for i in skeletons.nodes[:-1:20].tolist()],
    }
    for name, documents in content.items():
        (folder / f"{name}.json").write_text("\n".join(map(json.dumps, documents)))


def values(path: Path) -> np.ndarray:
    array: np.ndarray = ld.open_volume(path).values
    return array


# Volumes


OPTIONS: dict[str, Any] = {
    "gt_dataset": "volumes/labels",
    "mask_dataset": "volumes/mask",
    "ignore_ids": [3, 5],
    "ignore_dust": 300,
    "boundary_tolerance": 20,
    "thresholds_minmax": (0.1, 0.5),
    "thresholds_step": 0.2,
}


def test_what_is_not_evaluated(cluster_client: Client, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mask = np.zeros(SHAPE, bool)
    mask[8:56, 16:, :72] = True
    fragments, truth = (ld.open_volume(made / f"volumes/{name}") for name in ("fragments", "labels"))
    table = count_overlaps(truth.compute(), fragments.compute(), mask=mask, boundary_tolerance=20)
    table = table.without([3, 5]).without_dust(300)
    tree = MergeTree.from_parquet(str(made / "rag/merges_hist_quant_75.parquet"))
    found = []
    for side in (128, 48):
        monkeypatch.setattr(inputs, "SMALL_BLOCK", side)
        found.append(
            workflows.evaluate_volumes(
                fragments_file=made, gt_file=made, mask_file=made, run_type="a", **OPTIONS
            )
        )
    assert (found[0].blocks, found[1].blocks) == (1, 2 * 2 * 2)
    assert found[0].scores == found[1].scores
    for row in found[0].scores:
        lut = tree.cut(row["threshold"])
        expected = table.relabel_test(lut.keys, lut.values).scores()
        assert {name: row[name] for name in expected} == expected
    table_on_disk = ScoreTable.from_parquet(found[0].outputs["scores"])
    assert table_on_disk.configuration["ignore_dust"] == 300
    assert "num_workers" not in table_on_disk.configuration
    assert Path(found[0].outputs["plot"]).read_bytes().startswith(b"\x89PNG")


def test_mistakes_can_be_looked_at(cluster_client: Client, made: Path) -> None:
    result = workflows.evaluate_volumes(
        fragments_file=made, gt_file=made, gt_dataset="volumes/labels", thresholds_minmax=(0.5, 0.5)
    )
    fragments = ld.open_volume(made / "volumes/fragments")
    assert {m.kind for m in result.mistakes} == {"split", "merge"}
    for mistake in result.mistakes:
        assert mistake.position is not None
        place = dict(zip("zyx", mistake.position, strict=True))
        assert int(fragments.sel(place, method="nearest")) == mistake.fragment
    table = pq.read_table(result.outputs["mistakes"])
    assert table["label"].to_pylist() == [m.label for m in result.mistakes]
    assert table["z"].to_pylist() == [m.position[0] for m in result.mistakes if m.position]


def test_a_mask_that_does_not_cover_the_fragments(cluster_client: Client, made: Path, tmp_path: Path) -> None:
    ld.save_volume(np.ones((2, 2, 2), np.uint8), tmp_path / "m.zarr/mask", voxel_size=VOXEL_SIZE)
    with pytest.raises(ValueError, match="the mask does not cover"):
        workflows.evaluate_volumes(
            fragments_file=made,
            gt_file=made,
            gt_dataset="volumes/labels",
            mask_file=tmp_path / "m.zarr",
            mask_dataset="mask",
        )


def test_truth_of_nothing_but_background(cluster_client: Client, made: Path, tmp_path: Path) -> None:
    place = {"voxel_size": VOXEL_SIZE, "offset": OFFSET}
    ld.save_volume(np.zeros(SHAPE, np.uint8), tmp_path / "t.zarr/labels", **place)
    with pytest.raises(ValueError, match=r"t\.zarr/labels.*nothing to score"):
        workflows.evaluate_volumes(fragments_file=made, gt_file=tmp_path / "t.zarr", gt_dataset="labels")


# Skeletons


def test_scores_of_skeletons_are_those_of_the_segmentation(
    cluster_client: Client, made: Path, skeletons: Skeletons, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "SMALL_BLOCK", 32)
    write_collections(skeletons, tmp_path)
    result = workflows.evaluate_annotations(
        fragments_file=made,
        annotations_file=tmp_path,
        annotations_skeletons_collection_name="finch",
        annotations_synapses_collection_name="synapses",
        node_components="components",
        node_mask="mask",
        run_type="test",
        compute_mincut_metric=True,
        stray_nodes=1,
        method="synthetic",
        thresholds_minmax=(0.1, 0.7),
        thresholds_step=0.2,
    )
    tree = MergeTree.from_parquet(str(made / "rag/merges_hist_quant_75.parquet"))
    graph = RegionGraph.from_parquet(str(made / "rag"))
    fragments = values(made / "volumes/fragments")
    voxels = ((skeletons.positions - OFFSET) // VOXEL_SIZE).astype(int)
    at = fragments[tuple(voxels.T)]
    synaptic = np.zeros(len(skeletons), bool)
    synaptic[:-1:20] = synaptic[1::20] = True
    assert [row["threshold"] for row in result.scores] == [0.1, 0.3, 0.5]
    for row in result.scores:
        lut = tree.cut(row["threshold"])
        segments = ld.relabel(fragments, lut)[tuple(voxels.T)]
        expected = expected_run_length(skeletons, segments, stray_nodes=1)
        on_sites = rand_voi(skeletons.skeletons, segments)
        at_synapses = rand_voi(skeletons.skeletons[synaptic], segments[synaptic])
        assert {name: row[name] for name in on_sites} == pytest.approx(on_sites)
        assert row["synapse_voi_split"] == pytest.approx(at_synapses["voi_split"])
        assert {name: row[name] for name in expected.scores()} == pytest.approx(expected.scores())
        edges = (graph.edges.u, graph.edges.v, tree.merge_scores(graph))
        cuts = min_cut_metric(skeletons.take(synaptic), at[synaptic], lut, *edges)
        assert row["total_splits_needed_to_fix_merges"] == cuts.splits
        assert row["total_merges_needed_to_fix_splits"] == cuts.merges
    assert result.best["expected_run_length"] == max(row["expected_run_length"] for row in result.scores)
    assert result.outputs["scores"].endswith("rag/scores/test/hist_quant_75_annotations.parquet")
    runs = pq.read_table(result.outputs["run lengths"])
    assert sum(runs["length"].to_pylist()) == pytest.approx(
        sum(found.correct for found in result.run_lengths)
    )
    for picture in ("plot", "plot of run lengths"):
        assert Path(result.outputs[picture]).read_bytes().startswith(b"\x89PNG")


def test_nodes_outside_are_left_out_with_their_edges(
    cluster_client: Client, made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line through the volume and beyond; and what is left of it in a region is in two parts."""
    y, z = OFFSET[1] + 8, OFFSET[0] + 8
    lines = [f"{i} 0 {OFFSET[2] - 64 + 16 * i} {y} {z} 1 {i - 1 if i > 1 else -1}" for i in range(1, 21)]
    (tmp_path / "line.swc").write_text("\n".join(lines))
    options: dict[str, Any] = {
        "fragments_file": made,
        "annotations_file": tmp_path / "line.swc",
        "thresholds_minmax": (0.5, 0.5),
    }
    result = workflows.evaluate_annotations(**options)
    assert "3 of 20 nodes lie outside" in capsys.readouterr().err
    assert result.run_lengths[0].total == 16 * 16
    part = workflows.evaluate_annotations(
        **options, roi_offset=OFFSET, roi_shape=tuple(8 * v for v in VOXEL_SIZE)
    )
    assert part.run_lengths[0].total == 7 * 16
    with pytest.raises(ValueError, match=r"line\.swc.*found 20 nodes.*none of which lies.*annotations_scale"):
        workflows.evaluate_annotations(**options, annotations_scale=100)
    with pytest.raises(FileNotFoundError, match="found no skeletons there"):
        workflows.evaluate_annotations(**options | {"annotations_file": tmp_path / "none"})


def test_fragments_that_the_tree_does_not_have(cluster_client: Client, tmp_path: Path, made: Path) -> None:
    """A tree of other fragments is told by name, not scored."""
    out = tmp_path / "other.zarr"
    ld.save_volume(
        np.full(SHAPE, 2**40, np.uint64), out / "volumes/fragments", voxel_size=VOXEL_SIZE, offset=OFFSET
    )
    tree = MergeTree.from_parquet(str(made / "rag/merges_hist_quant_75.parquet"))
    tree.to_parquet(str(out / "rag/merges_hist_quant_75.parquet"))
    (tmp_path / "a.swc").write_text(f"1 0 {OFFSET[2] + 8} 8 {OFFSET[0] + 8} 1 -1\n")
    with pytest.raises(ValueError, match=r"other\.zarr/volumes/fragments.*missing in the merge tree"):
        workflows.evaluate_annotations(fragments_file=out, annotations_file=tmp_path / "a.swc")


# Several runs


def scored(folder: Path, name: str, sums: dict[float, float]) -> str:
    rows = [
        {
            "method": name,
            "merge_function": "mean",
            "threshold": t,
            "voi_split": s / 2,
            "voi_merge": s / 2,
            "voi_sum": s,
        }
        for t, s in sums.items()
    ]
    path = str(folder / f"{name}.parquet")
    ScoreTable(rows, {"method": name}).to_parquet(path)
    return path


def test_several_runs_in_one_table_and_plot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [scored(tmp_path, "a", {0.2: 2.0, 0.4: 1.0}), scored(tmp_path, "b", {0.2: 1.5, 0.4: 3.0})]
    chosen_on = [scored(tmp_path, "va", {0.2: 1.0, 0.4: 2.0}), scored(tmp_path, "vb", {0.2: 1.0, 0.4: 1.0})]
    out = tmp_path / "both.parquet"
    result = workflows.compare(runs=runs, validation=chosen_on, out_file=out)
    assert [found.threshold for found in result.reports] == [0.2, 0.2]
    assert [found.reported["voi_sum"] for found in result.reports] == [2.0, 1.5]
    table = pq.read_table(out)
    assert set(table["run"].to_pylist()) == {"a", "b"}
    reported = [row for row in table.to_pylist() if row["reported"]]
    assert {(row["run"], row["threshold"]) for row in reported} == {("a", 0.2), ("b", 0.2)}
    assert Path(result.outputs["plot"]).read_bytes().startswith(b"\x89PNG")
    assert main(["compare", "--runs", *runs, "--names", "A", "B", "--out-file", str(out)]) == 0
    assert set(pq.read_table(out)["run"].to_pylist()) == {"A", "B"}
    said = capsys.readouterr().err
    assert "0.4" in said and "1.5" in said


def test_runs_that_cannot_be_compared(tmp_path: Path) -> None:
    a, b = scored(tmp_path, "a", {0.2: 2.0}), scored(tmp_path, "b", {0.3: 2.0})
    with pytest.raises(ValueError, match="validation should have as many entries as runs, found 2 for 1"):
        workflows.compare(runs=[a], validation=[a, b], out_file=tmp_path / "x.parquet")
    with pytest.raises(ValueError, match=r"a\.parquet.*b\.parquet.*threshold 0\.3 was chosen"):
        workflows.compare(runs=[a], validation=[b], out_file=tmp_path / "x.parquet")
    with pytest.raises(ValueError, match="names should differ, found c, c"):
        workflows.compare(runs=[a, b], names=["c", "c"], out_file=tmp_path / "x.parquet")
    with pytest.raises(FileNotFoundError):
        workflows.compare(runs=[tmp_path / "none.parquet"], out_file=tmp_path / "x.parquet")
    with pytest.raises(ValueError, match="metric: found 'none'"):
        workflows.compare(runs=[a], metric="none", out_file=tmp_path / "x.parquet")
    assert not (tmp_path / "x.parquet").exists()
