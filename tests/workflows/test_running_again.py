"""Steps that are run once more: nothing is done twice, and nothing is left of what was replaced."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from distributed import Client

from lsd_dask import workflows
from lsd_dask.segmentation.region_graph import RegionGraph

from ..helpers.steps import REFINEMENT, extract, in_memory, snapshot, values, world


def test_a_second_run_computes_nothing(cluster_client: Client, tissue_zarr: Path, tmp_path: Path) -> None:
    out, size = tmp_path / "out.zarr", world(32, 72, 88)
    for _ in range(2):
        before = snapshot(out) if out.exists() else None
        results = [
            extract(tissue_zarr, out, block_size=size, **REFINEMENT),
            workflows.agglomerate(affs_file=tissue_zarr, fragments_file=out, block_size=size),
            workflows.extract_segmentation(fragments_file=out, out_file=out, threshold=0.3, block_size=size),
        ]
    assert [(r.blocks, r.skipped) for r in results] == [(2, 2)] * 3
    after = snapshot(out)
    written = {name for name in after if before is not None and before.get(name) != after[name]}
    # Small tables that each block reads anew; no voxel, no record, no graph.
    assert all(name.endswith(("refined.parquet", "lookup.parquet")) for name in written)


def test_one_missing_record_is_one_block(cluster_client: Client, tissue_zarr: Path, tmp_path: Path) -> None:
    out, size = tmp_path / "out.zarr", world(32, 36, 88)
    expected = values(extract(tissue_zarr, out, block_size=size).outputs["fragments"])
    records = sorted((out / "runs/extract_fragments/volumes/fragments/blocks").iterdir())
    assert len(records) == 4
    before = snapshot(out / "volumes")
    records[2].unlink()
    result = extract(tissue_zarr, out, block_size=size)
    assert (result.blocks, result.skipped) == (4, 3)
    after = snapshot(out / "volumes")
    assert sum(before[name] != after[name] for name in before) == 1
    np.testing.assert_array_equal(values(out / "volumes/fragments"), expected)


def test_another_parameter_is_another_run(
    cluster_client: Client, tissue_zarr: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, size = tmp_path / "out.zarr", world(32, 72, 88)
    extract(tissue_zarr, out, block_size=size)
    capsys.readouterr()
    result = extract(tissue_zarr, out, block_size=size, smoothing=2.0)
    assert (result.blocks, result.skipped) == (2, 0)
    assert "fragments: made anew, replacing 2 finished blocks (rules changed)" in capsys.readouterr().err
    np.testing.assert_array_equal(values(out / "volumes/fragments"), in_memory(smoothing=2.0))
    again = extract(tissue_zarr, out, block_size=size, smoothing=2.0, resume=False)
    assert (again.blocks, again.skipped) == (2, 0)
    assert "(as asked)" in capsys.readouterr().err


def test_what_was_made_of_replaced_fragments_is_made_anew(
    cluster_client: Client, tissue_zarr: Path, tmp_path: Path
) -> None:
    """Even of the same parameters: their affinities may have been predicted anew."""
    out = tmp_path / "out.zarr"
    extract(tissue_zarr, out)
    workflows.agglomerate(affs_file=tissue_zarr, fragments_file=out)
    extract(tissue_zarr, out, resume=False)
    for step in (workflows.find_segments, workflows.evaluate_volumes, workflows.extract_segmentation):
        options: dict[str, Any] = {
            "evaluate_volumes": {"gt_file": tissue_zarr, "gt_dataset": "volumes/labels"},
            "extract_segmentation": {"out_file": out, "threshold": 0.5},
        }.get(step.__name__, {})
        with pytest.raises(ValueError, match=r"merges_hist_quant_75.* other fragments .* Run agglomerate"):
            step(fragments_file=out, **options)
    result = workflows.agglomerate(affs_file=tissue_zarr, fragments_file=out)
    assert (result.blocks, result.skipped) == (1, 0)
    workflows.find_segments(fragments_file=out)


def test_a_table_that_went_missing_is_made_again(
    cluster_client: Client, tissue_zarr: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.zarr"
    extract(tissue_zarr, out)
    workflows.agglomerate(affs_file=tissue_zarr, fragments_file=out)
    tables = sorted((out / "rag").glob("*.parquet"))
    assert len(tables) == 4
    contents = [repr(pq.read_table(path).to_pylist()) for path in tables]
    for table, content in zip(tables, contents, strict=True):
        table.unlink()
        workflows.agglomerate(affs_file=tissue_zarr, fragments_file=out)
        # The run that it names is another one.
        assert repr(pq.read_table(table).to_pylist()) == content


def test_a_run_killed_before_its_array_was_made_is_not_taken_for_one_that_began(
    cluster_client: Client, tissue_zarr: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks of nothing but background are not written, so what an older run left there would show."""
    out, size = tmp_path / "out.zarr", world(8, 72, 88)
    extract(tissue_zarr, out, block_size=size)

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    mask = {"mask_file": tissue_zarr, "mask_dataset": "volumes/mask", "block_size": size}
    with monkeypatch.context() as patch:
        patch.setattr("lsd_dask.workflows.running.outputs.create_volume", killed)
        with pytest.raises(KeyboardInterrupt):
            extract(tissue_zarr, out, **mask)
    extract(tissue_zarr, out, **mask)
    expected = in_memory(mask=values(tissue_zarr / "volumes/mask"))
    np.testing.assert_array_equal(values(out / "volumes/fragments"), expected)


def test_datasets_of_one_name_in_different_groups_have_ledgers_and_graphs_of_their_own(
    cluster_client: Client, tissue_zarr: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.zarr"
    names = ["fine/fragments", "coarse/fragments"]
    for name, smoothing in zip(names, (0.7, 2.0), strict=True):
        extract(tissue_zarr, out, fragments_dataset=name, smoothing=smoothing)
        workflows.agglomerate(affs_file=tissue_zarr, fragments_file=out, fragments_dataset=name)
    for name, smoothing in zip(names, (0.7, 2.0), strict=True):
        assert extract(tissue_zarr, out, fragments_dataset=name, smoothing=smoothing).skipped == 1
        graph = RegionGraph.from_parquet(str(out / "rag" / name))
        expected = in_memory(smoothing=smoothing)
        np.testing.assert_array_equal(graph.nodes.ids, np.unique(expected[expected > 0]))


def test_workers_in_another_directory_find_relative_paths(
    cluster_client: Client, tissue_zarr: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    workflows.extract_fragments(affs_file=tissue_zarr, fragments_file="out.zarr", **REFINEMENT)
    workflows.agglomerate(affs_file=tissue_zarr, fragments_file="out.zarr")
    workflows.extract_segmentation(fragments_file="out.zarr", out_file="out.zarr", threshold=0.3)
    assert {path.name for path in tmp_path.iterdir()} == {"out.zarr"}
    assert values("out.zarr/volumes/segmentation").any()
