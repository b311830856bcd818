"""Reports: what they say is what is on disk."""

import base64
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from distributed import Client
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.image import imread

from lsd_dask import save_volume, viewing, workflows
from lsd_dask.blockwise.blocks import BlockGrid
from lsd_dask.blockwise.runs import RunFailedError
from lsd_dask.cli import main
from lsd_dask.evaluation import ScoreTable
from lsd_dask.viewing.blocks import _project
from lsd_dask.viewing.figures import as_png
from lsd_dask.workflows.reports.runs import RunFacts
from lsd_dask.workflows.reports.status import StepStatus

from ..helpers.tissue import tissue


class Checked(HTMLParser):
    """A page whose tags are closed and which needs nothing from elsewhere."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.headings: list[str] = []
        self.pictures: list[bytes] = []
        self.folded = ""
        self.feed(page.read_text())
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "img"):
            self.open.append(tag)
        named = dict(attributes)
        assert tag not in ("script", "link", "iframe")
        assert "href" not in named
        if tag == "img":
            kind, _, data = str(named["src"]).partition(",")
            assert kind == "data:image/png;base64"
            self.pictures.append(base64.b64decode(data, validate=True))
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")
        if tag == "h2":
            self.headings.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        inner = self.open[-1] if self.open else ""
        if inner in ("td", "th"):
            self.tables[-1][-1][-1] += data
        if inner == "h2":
            self.headings[-1] += data
        if inner == "pre":
            self.folded += data


@pytest.fixture
def container(tmp_path: Path) -> Path:
    path = tmp_path / "a & <b>.zarr"
    save_volume(tissue().affinities, path / "volumes/affs")
    save_volume(tissue().labels, path / "volumes/labels")
    return path


def test_a_run_leaves_its_report(container: Path, cluster_client: Client, tmp_path: Path) -> None:
    page = tmp_path / "pages" / "report.html"
    result = workflows.segment(
        affs_file=str(container),
        out_file=str(container),
        gt_file=str(container),
        gt_dataset="volumes/labels",
        block_size=(512, 512, 704),
        thresholds_step=0.25,
        report=str(page),
    )
    seen = Checked(page)
    head, *rows = seen.tables[0]
    steps = {row[0]: dict(zip(head, row, strict=True)) for row in rows}
    fragments = steps["extract_fragments"]
    assert fragments["blocks"] == f"{np.prod([2, 3, 2])} of 12"
    assert fragments["voxels"] == f"{tissue().labels.size:,}"
    assert {step["state"] for step in steps.values()} == {"done"}
    assert list(steps) == [
        "extract_fragments",
        "region_graph",
        "agglomerate",
        "evaluate_volumes",
        "extract_segmentation",
    ]
    assert "Scores: rag/scores/hist_quant_75.parquet" in seen.headings
    best = next(row for table in seen.tables for row in table if row[0] == "voi_sum")
    assert float(best[2]) == result.threshold
    # Sections, scores, and the blocks of each step but the agglomeration.
    assert len(seen.pictures) == 6
    for number, picture in enumerate(seen.pictures):
        (tmp_path / f"{number}.png").write_bytes(picture)
        assert imread(tmp_path / f"{number}.png").std() > 0.05
    assert "thresholds_step: 0.25" in seen.folded
    assert "height: both" in seen.folded

    assert main.main(["report", str(container)]) == 0
    assert Checked(container / "report.html").tables[0] == seen.tables[0]
    # A container with a report is still one that can be read and worked on.
    again = workflows.segment(
        affs_file=str(container), out_file=str(container), block_size=(512, 512, 704), threshold=0.5
    )
    assert again.skipped > 0


def test_blocks_that_failed_are_told(
    container: Path, cluster_client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = {"affs_file": str(container), "fragments_file": str(container), "block_size": (512, 512, 704)}
    workflows.extract_fragments(config)
    done = container / "runs/extract_fragments/volumes/fragments"
    (done / "blocks/0_1_0.json").unlink()
    (done / "failures.json").write_text('{"0_1_0": "ValueError: <nothing>"}')
    seen = Checked(Path(workflows.report(str(container))))
    assert ["0_1_0", "ValueError: <nothing>"] in [row for table in seen.tables for row in table]
    assert "11 of 12, 1 failed" in [cell for row in seen.tables[0] for cell in row]


def test_a_step_that_fails_leaves_its_report(container: Path, cluster_client: Client, tmp_path: Path) -> None:
    (shard,) = (container / "volumes/affs/c").rglob("0/0/0/0")
    shard.write_bytes(shard.read_bytes()[:1000])
    page = tmp_path / "report.html"
    with pytest.raises(RunFailedError, match="blocks failed"):
        workflows.extract_fragments(
            affs_file=str(container),
            fragments_file=str(container),
            block_size=(512, 512, 704),
            report=str(page),
        )
    seen = Checked(page)
    assert any("was a file of the array cut short?" in cell for row in seen.tables[1] for cell in row)
    assert "failed" in seen.tables[0][1][3]
    assert "Not drawn: " in page.read_text()


def test_a_report_that_cannot_be_written_stops_a_step_before_it_begins(
    container: Path, tmp_path: Path
) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError, match="folder: expected the name of a file for the report"):
        workflows.segment(affs_file=str(container), out_file=str(container), report=str(tmp_path / "folder"))
    assert not (container / "runs").exists()
    with pytest.raises(FileNotFoundError, match="no step of lsd-dask has written"):
        workflows.report(str(container))
    assert not (container / "report.html").exists()


def scores(folder: Path, name: str, sums: dict[float, float]) -> str:
    row = {"method": name, "merge_function": "mean"}
    rows = [
        {**row, "threshold": t, "voi_split": s / 4, "voi_merge": s, "voi_sum": s} for t, s in sums.items()
    ]
    ScoreTable(rows, {"method": name}).to_parquet(str(folder / f"{name}.parquet"))
    return str(folder / f"{name}.parquet")


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_comparison_leaves_its_report(tmp_path: Path, elsewhere: bool) -> None:
    runs = [scores(tmp_path, "<a>", {0.2: 2.0, 0.4: 1.0}), scores(tmp_path, "b&c", {0.2: 1.5, 0.4: 3.0})]
    other = [scores(tmp_path, name, {0.2: 1.0, 0.4: 3.0}) for name in ("va", "vb")]
    page = tmp_path / "pages" / "both.html"
    workflows.compare(
        runs=runs,
        validation=other if elsewhere else None,
        out_file=str(tmp_path / "both.parquet"),
        report=str(page),
    )
    seen = Checked(page)
    assert seen.tables[0] == [
        ["run", "threshold", "voi split", "voi merge", "voi sum"],
        ["<a>", "0.2", "0.5", "2", "2"] if elsewhere else ["<a>", "0.4", "0.25", "1", "1"],
        ["b&c", "0.2", "0.375", "1.5", "1.5"],
    ]
    assert [row[2:] for row in seen.tables[1][1:]] == [[path] if elsewhere else [] for path in other]
    assert ["voi_sum", "1", "0.4"] in seen.tables[2]
    assert ["voi_sum", "1.5", "0.2"] in seen.tables[3]
    assert seen.headings[1:] == ["Scores: <a>", "Scores: b&c", "Configuration"]
    assert len(seen.pictures) == 3
    assert "metric: voi_sum" in seen.folded

    assert main.main(["report", str(tmp_path / "both.parquet")]) == 0
    assert Checked(tmp_path / "both.html").tables == seen.tables
    with pytest.raises(ValueError, match="expected those of compare: metric, reported, run"):
        workflows.report(runs[0])


@given(st.data())
def test_time_at_work_is_that_in_which_a_block_was_worked_on(data: st.DataObject) -> None:
    spans = data.draw(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 9)), max_size=8))
    moments = {moment for begin, took in spans for moment in range(begin, begin + took)}
    facts = facts_of({str(i): (float(b), float(t)) for i, (b, t) in enumerate(spans)}, None)
    assert facts.at_work == len(moments)


def facts_of(spans: dict[str, tuple[float, float]], grid: BlockGrid | None) -> RunFacts:
    there = StepStatus("step", "output", "done", len(spans), len(spans), {}, (), "", "")
    started = {name: begin for name, (begin, _) in spans.items()}
    return RunFacts(there, {}, grid, {name: took for name, (_, took) in spans.items()}, started, 0)


def test_voxels_are_those_of_finished_blocks() -> None:
    grid = BlockGrid((10, 7), (4, 4))
    assert facts_of({"0_0": (0, 1), "2_1": (0, 1)}, grid).voxels == 16 + 2 * 3


def test_maps_show_means_over_what_lies_behind() -> None:
    grid = BlockGrid((8, 8, 8), (4, 4, 4))
    seconds: Any = {"0_0_0": 1.0, "1_0_0": 3.0, "0_1_1": 5.0}
    mean, red = _project(grid, seconds, ["1_1_0"], (-2, -1))
    assert np.array_equal(mean, [[2, np.nan], [np.nan, 5]], equal_nan=True)
    assert red.tolist() == [[False, False], [True, False]]
    nothing = viewing.draw_blocks(grid, {}, {}, ["0_0_0"])
    assert re.match(rb"\x89PNG", as_png(nothing))
