"""A page about all that was run on a container: ``lsd-dask report``, or the option `report` of a step.

It is made of what is on disk - ledgers, tables, volumes - and is one file that needs no other.
"""

import importlib.util
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lsd_dask import files, plots, viewing
from lsd_dask.blocks import BlockGrid
from lsd_dask.containers import normalise_path
from lsd_dask.evaluation import ScoreTable, best_row
from lsd_dask.evaluation.scores import BETTER
from lsd_dask.ledgers import Ledger
from lsd_dask.viewing.figures import as_png

from .report_page import Page
from .report_sections import draw_result
from .running import console
from .status import StepStatus, status

#: Name of the page in a container.
USUAL_NAME = "report.html"

#: Failures and rows of scores that are shown.
_SHOWN = 10


@dataclass(frozen=True)
class RunFacts:
    """What is known of one run of a step.

    Attributes
    ----------
    status
        What is done of it.
    header
        What its ledger says it is.
    grid
        Its blocks; None for a step that is not done in blocks.
    seconds, started
        Of the blocks that are done, by name: how long each took, and when it began, in seconds since 1970.
    peak_memory
        Most memory, in bytes, that any worker has held; 0 where that is not known.
    """

    status: StepStatus
    header: Mapping[str, Any]
    grid: BlockGrid | None
    seconds: Mapping[str, float]
    started: Mapping[str, float]
    peak_memory: int

    @property
    def voxels(self) -> int:
        """In all blocks that are done."""
        if self.grid is None:
            return 0
        blocks = (self.grid.named(name) for name in self.seconds)
        return sum(math.prod(part.stop - part.start for part in block.region) for block in blocks)

    @property
    def at_work(self) -> float:
        """Seconds in which at least one block was being worked on: without the pauses between runs.

        Examples
        --------
        >>> there = StepStatus("s", "o", "done", 2, 2, {}, (), "", "")
        >>> RunFacts(there, {}, None, {"0": 2.0, "1": 2.0, "2": 1.0}, {"0": 0, "1": 1, "2": 9}, 0).at_work
        4.0
        """
        total, until = 0.0, float("-inf")
        for begin, end in sorted((self.started[n], self.started[n] + s) for n, s in self.seconds.items()):
            total += max(0.0, end - max(begin, until))
            until = max(until, end)
        return total


def report(container: str, path: str | None = None, *, configuration: Mapping[str, Any] | None = None) -> str:
    """Write a page (HTML) about all that was run on a container.

    It shows what each step was told and when, how long its blocks took and where they failed, the voxels a
    second, the scores of all thresholds, and a section of the result. It is one file that needs no other, and
    runs no scripts.

    Parameters
    ----------
    container
        Path or URL.
    path
        File to write; by default ``report.html`` in the container.
    configuration
        Options of the run that the page is about, if they are to be shown.

    Returns
    -------
    str
        Path of the page.

    Raises
    ------
    FileNotFoundError
        If no step ever wrote to the container.
    ValueError
        If a ledger or a table cannot be read.
    ImportError
        If matplotlib is not installed.
    """
    container = normalise_path(container)
    path = files.join(container, USUAL_NAME) if path is None else str(path)
    check_report(path)
    there = files.names(container)
    if not {"rag", "runs"} & set(there):
        raise FileNotFoundError(f"{container}: no step of lsd-dask has written to this container")
    runs = [_facts_of(one, container) for one in (status(container) if "runs" in there else ())]
    page = Page(container, f"Made on {time.strftime('%Y-%m-%d at %H:%M %Z')}")
    if runs:
        page.heading("Steps")
        page.table(_COLUMNS, [_summary(run) for run in runs])
    picture, problems = draw_result(container, [run.header.get("identity", {}) for run in runs])
    page.picture(picture, "Sections of the result")
    for problem in problems:
        page.text(f"Not drawn: {problem}")
    for name, table in _score_tables(container):
        _add_scores(page, name, table)
    for run in runs:
        _add_run(page, run)
    if configuration is not None:
        page.heading("Configuration")
        page.data({key: value for key, value in configuration.items() if value is not None})
    files.write_bytes(path, page.html().encode())
    return path


def check_report(path: str) -> None:
    """Raise ImportError or an OSError where a report could not be written, before there is anything in it."""
    if importlib.util.find_spec("matplotlib") is None:
        raise ImportError('A report needs matplotlib: pip install "lsd-dask[view]"')
    if files.exists(path) and not files.is_file(path):
        raise IsADirectoryError(f"{path}: expected the name of a file for the report, found a folder")
    files.check_writable(path)


def write_report(container: str, path: str, configuration: Mapping[str, Any]) -> None:
    """Write the report of a step that was asked for one, and tell where."""
    console.print(f"  report: {report(container, path, configuration=configuration)}")


def _facts_of(one: StepStatus, container: str) -> RunFacts:
    directory = files.join(container, "runs", one.step, one.output)
    ledger = Ledger(directory, {})
    header = ledger.header()
    noted = header.get("grid")
    grid = BlockGrid(tuple(noted["shape"]), tuple(noted["block_shape"])) if noted else None
    records = {
        name: files.read_json(files.join(directory, "blocks", f"{name}.json"))
        for name in sorted(ledger.done())
    }
    timed = {name: record for name, record in records.items() if "seconds" in record and "started" in record}
    return RunFacts(
        one,
        header,
        grid,
        {name: float(record["seconds"]) for name, record in timed.items()},
        {name: float(record["started"]) for name, record in timed.items()},
        max((int(record.get("peak_memory", 0)) for record in records.values()), default=0),
    )


_COLUMNS = (
    "step",
    "output",
    "state",
    "blocks",
    "voxels",
    "at work",
    "sum of blocks",
    "voxels a second",
    "peak memory of a worker",
    "started",
)


def _summary(run: RunFacts) -> list[str]:
    one = run.status
    blocks = "" if one.blocks is None else f"{one.done} of {one.blocks}"
    if one.failures:
        blocks += f", {len(one.failures)} failed"
    timed = bool(run.seconds)
    speed = run.voxels / run.at_work if timed and run.at_work > 0 else None
    return [
        one.step,
        one.output,
        one.state,
        blocks,
        f"{run.voxels:,}" if timed else "",
        _duration(run.at_work) if timed else "",
        _duration(sum(run.seconds.values())) if timed else "",
        "" if speed is None else f"{speed:,.3g}" if speed < 1000 else f"{speed / 1e6:.3g} million",
        f"{run.peak_memory / 1e9:.2f} GB" if run.peak_memory else "",
        one.started.partition(".")[0].replace("T", " "),
    ]


def _add_run(page: Page, run: RunFacts) -> None:
    one = run.status
    page.heading(f"{one.step}: {one.output}")
    if run.grid is not None and (run.seconds or one.failures):
        shape = " x ".join(map(str, run.grid.block_shape))
        figure = viewing.draw_blocks(run.grid, run.seconds, run.started, list(one.failures))
        page.picture(as_png(figure), f"Blocks of {shape} voxels")
    if one.failures:
        shown = list(one.failures.items())[:_SHOWN]
        page.table(("failed block", "message"), [list(entry) for entry in shown])
    if one.missing:
        more = (one.blocks or 0) - one.done - len(one.missing)
        page.text(f"To be done: {', '.join(one.missing)}" + (f", and {more} more" if more else ""))
    page.data(run.header.get("identity", {}), "what decided the result")
    page.data({**run.header.get("versions", {}), "by": one.by}, "versions")


def _score_tables(container: str) -> Iterator[tuple[str, ScoreTable]]:
    """Tables of scores below the region graphs, by their place."""
    waiting = [files.join(container, "rag")]
    while waiting:
        directory = waiting.pop()
        for name in files.names(directory):
            path = files.join(directory, name)
            if "/scores/" in path and name.endswith(".parquet"):
                if not name.endswith("_mistakes.parquet"):
                    yield path.removeprefix(f"{container}/"), ScoreTable.from_parquet(path)
            elif not files.is_file(path):
                waiting.append(path)


def _add_scores(page: Page, name: str, table: ScoreTable) -> None:
    page.heading(f"Scores: {name}")
    page.picture(as_png(plots.draw_metrics(table.rows)), "Scores over thresholds")
    best = []
    for metric in [name for name in table.rows[0] if name in BETTER]:
        row = best_row(table.rows, metric)
        best.append([metric, f"{row[metric]:.6g}", f"{row['threshold']:g}"])
    page.table(("score", "best", "at threshold"), best)
    page.data(table.configuration, "configuration")


def _duration(seconds: float) -> str:
    """Say how long something took.

    >>> _duration(12.34), _duration(754), _duration(36000)
    ('12.3 s', '12 min 34 s', '10 h 0 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds:.2f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"
