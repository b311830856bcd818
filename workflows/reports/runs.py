"""The part of a report about the steps that ran on a container: times, maps of blocks, sections, scores."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lsd_dask import viewing
from lsd_dask.blockwise.blocks import BlockGrid
from lsd_dask.blockwise.ledgers import Ledger
from lsd_dask.storage import files
from lsd_dask.viewing.figures import as_png

from .page import Page, duration, to_the_second
from .scores import add_score_tables
from .sections import draw_result
from .status import StepStatus, blocks_done, status

#: Failures that are shown.
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


def add_runs(page: Page, container: str) -> None:
    """Add all that was run on a container, in the order in which it was begun.

    Parameters
    ----------
    page
        To write on.
    container
        Path or URL, as `normalise_path` makes it.

    Raises
    ------
    ValueError
        If a ledger or a table cannot be read.
    """
    there = status(container) if "runs" in files.names(container) else ()
    runs = [_facts_of(one, container) for one in there]
    page.runs = {f"{run.status.step}/{run.status.output}": run.header.get("run", "") for run in runs}
    if runs:
        page.heading("Steps")
        page.table(_COLUMNS, [_summary(run) for run in runs])
    picture, problems = draw_result(container, [run.header.get("identity", {}) for run in runs])
    page.picture(picture, "Sections of the result")
    for problem in problems:
        page.text(f"Not drawn: {problem}")
    add_score_tables(page, container)
    for run in runs:
        _add_run(page, run)


def _facts_of(one: StepStatus, container: str) -> RunFacts:
    directory = files.join(container, "runs", one.step, one.output)
    ledger = Ledger(directory, {})
    header = ledger.header()
    noted = header.get("grid")
    grid = BlockGrid(tuple(noted["shape"]), tuple(noted["block_shape"])) if noted else None
    records = {
        name: files.read_json(files.join(directory, "blocks", f"{name}.json"))
        for name in sorted(blocks_done(ledger))
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
        duration(run.at_work) if timed else "",
        duration(sum(run.seconds.values())) if timed else "",
        "" if speed is None else f"{speed:,.3g}" if speed < 1000 else f"{speed / 1e6:.3g} million",
        f"{run.peak_memory / 1e9:.2f} GB" if run.peak_memory else "",
        to_the_second(one.started),
    ]


def _add_run(page: Page, run: RunFacts) -> None:
    one = run.status
    page.heading(f"{one.step}: {one.output}")
    if one.stale is not None:
        page.text(f"Stale: {one.stale}")
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
