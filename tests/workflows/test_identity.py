"""Identity, not name: what was derived names its runs, and what was not written by a step stays.

Seen to fail with the guard off: without `check_own`, the foreign array is taken for the result or replaced;
without `remove_stale_luts`, tables of other fragments stay; without `check_finished`, half an array is read.
"""

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import zarr
from distributed import Client

import lsd_dask as ld
from lsd_dask import workflows
from lsd_dask.cli.main import main
from lsd_dask.segmentation.edits import append_edits
from lsd_dask.storage.own_files import check_replaceable, marked_png
from lsd_dask.viewer.contents import contents_of
from lsd_dask.workflows.reports.status import stale_files, status

from ..helpers.tissue import tissue


@pytest.fixture(scope="module", autouse=True)
def client() -> Iterator[Client]:
    with Client(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=":0") as client:
        yield client


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Affinities and true labels."""
    cells = tmp_path_factory.mktemp("cells") / "cells.zarr"
    ld.save_volume(tissue().affinities.values, cells / "volumes/affs")
    ld.save_volume(tissue().labels.values, cells / "volumes/labels")
    return cells


@pytest.fixture(scope="module")
def segmented_once(cells: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("segmented") / "out.zarr"
    segment(cells, out)
    return out


@pytest.fixture
def out(segmented_once: Path, tmp_path: Path) -> Path:
    """A container that was segmented; and moved, as paths in it are seen from itself."""
    return Path(shutil.copytree(segmented_once, tmp_path / "out.zarr"))


def segment(cells: Path, out: Path, **changes: Any) -> Any:
    truth = {"gt_file": cells, "gt_dataset": "volumes/labels"}
    return workflows.segment(
        affs_file=cells, out_file=out, threshold=0.5, thresholds_step=0.25, **truth | changes
    )


def test_tables_of_fragments_that_are_gone_are_removed_and_scores_shown_as_stale(cells, out):
    assert {one.state for one in status(out)} == {"done"}
    assert stale_files(out) == {}
    workflows.extract_fragments(affs_file=cells, fragments_file=out, smoothing=2.0)
    assert not list((out / "rag/luts").glob("*.parquet"))
    states = {one.step: one.state for one in status(out)}
    assert states["extract_fragments"] == "done"
    assert {states[step] for step in ("region_graph", "agglomerate", "extract_segmentation")} == {"stale"}
    assert "rag/scores/hist_quant_75.parquet" in stale_files(out)
    contents = contents_of(out)
    assert "volumes/fragments" in contents.stale["segmentation_50"]
    assert contents.trees[0].path in contents.stale
    segment(cells, out, smoothing=2.0)
    assert {one.state for one in status(out)} == {"done"}
    assert stale_files(out) == {}
    now = set(np.unique(ld.open_volume(out / "volumes/fragments").values)) - {0}
    for table in (out / "rag/luts").glob("*.parquet"):
        assert set(pq.read_table(table)["fragment"].to_pylist()) == now


def test_what_was_made_with_other_edits_is_stale(out):
    """Without edits among what a mark names, nothing is."""
    lut, segmentation = "rag/luts/hist_quant_75_0.5.parquet", "extract_segmentation"
    workflows.find_segments(fragments_file=out, thresholds_minmax=(0.5, 0.5))
    assert stale_files(out) == {}
    names = pq.read_table(out / lut)["fragment"].to_pylist()
    append_edits(out / "rag/edits.parquet", must_link=[(names[0], names[-1])])
    assert "the edits of rag/edits.parquet, which are others now" in stale_files(out)[lut]
    assert {one.step: one.state for one in status(out)}[segmentation] == "stale"
    workflows.find_segments(fragments_file=out, thresholds_minmax=(0.5, 0.5))
    assert lut not in stale_files(out)


def test_stale_scores_are_told_of_where_they_are_compared(cells, out, tmp_path, capsys):
    scores = out / "rag/scores/hist_quant_75.parquet"
    workflows.compare(runs=[scores], out_file=tmp_path / "before.parquet")
    assert "scores are stale" not in capsys.readouterr().err
    workflows.extract_fragments(affs_file=cells, fragments_file=out, smoothing=2.0)
    workflows.compare(runs=[scores], out_file=tmp_path / "after.parquet")
    assert "these scores are stale, made of" in " ".join(capsys.readouterr().err.split())


def test_a_container_that_was_moved_is_not_stale(out):
    assert {one.state for one in status(out)} == {"done"}
    assert stale_files(out) == {}
    workflows.find_segments(fragments_file=out)


def test_affinities_that_were_saved_anew_are_others(cells, tmp_path):
    cells, out = Path(shutil.copytree(cells, tmp_path / "cells.zarr")), tmp_path / "out.zarr"
    assert workflows.extract_fragments(affs_file=cells, fragments_file=out).skipped == 0
    assert workflows.extract_fragments(affs_file=cells, fragments_file=out).skipped > 0
    ld.save_volume(tissue().affinities.values, cells / "volumes/affs", overwrite=True)
    assert [one.state for one in status(out)] == ["stale"]
    assert workflows.extract_fragments(affs_file=cells, fragments_file=out).skipped == 0


@pytest.mark.parametrize("changes", [{}, {"smoothing": 2.0}, {"resume": False}])
def test_an_array_of_somebody_else_is_neither_the_result_nor_replaced(cells, out, changes):
    mine = np.full(tissue().labels.shape, 7, np.uint64)
    given = {"affs_file": cells, "fragments_file": out, **changes}
    ld.save_volume(mine, out / "volumes/fragments", overwrite=True)
    with pytest.raises(FileExistsError, match="volumes/fragments exists and was not written by this step"):
        workflows.extract_fragments(given)
    np.testing.assert_array_equal(ld.open_volume(out / "volumes/fragments"), mine)
    workflows.extract_fragments({**given, "overwrite": True})
    assert (ld.open_volume(out / "volumes/fragments") != 7).all()


@pytest.mark.parametrize("table", ["nodes", "merges_hist_quant_75", "luts/hist_quant_75_0.25"])
def test_a_table_of_somebody_else_stays(cells, out, table):
    path = out / f"rag/{table}.parquet"
    columns = pq.read_table(path)
    pq.write_table(columns.replace_schema_metadata(None), path)
    before = path.read_bytes()
    with pytest.raises((FileExistsError, ValueError), match=path.name):
        segment(cells, out, resume=False)
    assert path.read_bytes() == before


def test_what_is_not_finished_is_not_read(cells, out):
    for record in (out / "runs/extract_fragments/volumes/fragments/blocks").iterdir():
        record.unlink()
    with pytest.raises(ValueError, match=r"volumes/fragments: found 0 of .* Run extract_fragments again"):
        workflows.agglomerate(affs_file=cells, fragments_file=out)


def test_levels_go_with_the_array_they_were_made_of(tmp_path):
    path = tmp_path / "em.zarr/raw"
    ld.save_volume(np.ones((64, 64, 64), "uint8"), path)
    workflows.build_pyramid(in_file=tmp_path / "em.zarr", in_dataset="raw", levels=1)
    ld.save_volume(np.full((64, 64, 64), 9, "uint8"), path, overwrite=True)
    (entry,) = zarr.open_group(tmp_path / "em.zarr").attrs["ome"]["multiscales"]
    assert [level["path"] for level in entry["datasets"]] == ["raw"]
    assert not (tmp_path / "em.zarr/raw_levels/s1/zarr.json").exists()


def test_only_our_own_pages_and_pictures_are_replaced(tmp_path):
    png = b"\x89PNG\r\n\x1a\n" + bytes(25)
    for name, content in {"notes.yaml": b"threshold: 0.4", "a.html": b"<p>lsd-dask", "a.png": png}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(FileExistsError, match=name):
            check_replaceable(str(tmp_path / name), "the report")
    for content in (b"", marked_png(png)):
        (tmp_path / "ours").write_bytes(content)
        check_replaceable(str(tmp_path / "ours"), "the report")


@pytest.mark.parametrize("target", ["b.zarr/raw", "b.h5/raw", "precomputed://b"])
def test_a_conversion_that_was_killed_is_no_volume_and_goes_on_when_asked_again(
    tmp_path, monkeypatch, target
):
    monkeypatch.chdir(tmp_path)
    voxels = np.random.default_rng(0).integers(1, 255, (128, 128, 128)).astype("uint8")
    ld.save_volume(voxels, "a.zarr/raw", voxel_size=(8, 8, 8), block_shape=(32, 32, 32))
    command = ["convert", "a.zarr/raw", target]
    process = subprocess.Popen(
        [Path(sys.executable).parent / "lsd-dask", *command], stderr=subprocess.DEVNULL
    )
    while process.poll() is None and not [*tmp_path.glob("b*/*.partial/*"), *tmp_path.glob("b*.partial*")]:
        time.sleep(0.001)
    process.kill()
    process.wait()
    try:
        np.testing.assert_array_equal(ld.open_volume(target), voxels)
    except FileNotFoundError:
        assert main(command) == 0
    np.testing.assert_array_equal(ld.open_volume(target), voxels)
    assert not list(tmp_path.rglob("*.partial"))
