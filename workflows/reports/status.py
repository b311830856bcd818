"""What is done of each step in a container: ``lsd-dask status``."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rich.table import Column, Table

from lsd_dask.blockwise.blocks import BlockGrid
from lsd_dask.blockwise.ledgers import Ledger
from lsd_dask.segmentation.derivation import Derivation
from lsd_dask.storage import files
from lsd_dask.storage.locks import living
from lsd_dask.volumes.formats.zarr_creating import normalise_path

from ..running.outputs import console
from .page import runs_of, to_the_second

type State = Literal["done", "stale", "running", "failed", "interrupted"]


@dataclass(frozen=True)
class StepStatus:
    """What is done of one run of a step.

    Attributes
    ----------
    step
        Name of the step.
    output
        What it writes: an array, with the merge function where there are several.
    state
        "running" if somebody is at work on it, "done" if nothing is missing, "stale" if it is done and what
        it was made of was made anew since, or its output is gone, "failed" if blocks failed, else
        "interrupted".
    blocks, done
        Number of blocks in all and done; None and 0 for a step that is not done in blocks.
    failures
        Message by name of the block that failed in the last run.
    missing
        Names of the first blocks that are not done, at most `MISSING`.
    started, by
        When the run began, and whose it is.
    stale
        Why it is stale.
    """

    step: str
    output: str
    state: State
    blocks: int | None
    done: int
    failures: dict[str, str]
    missing: tuple[str, ...]
    started: str
    by: str
    stale: str | None = None


#: Names of missing blocks that are told.
MISSING = 8


def status(container: str) -> list[StepStatus]:
    """What is done of every step that wrote, or began to write, to a container.

    Parameters
    ----------
    container
        Path or URL.

    Returns
    -------
    list of StepStatus
        In the order in which the runs began.

    Raises
    ------
    FileNotFoundError
        If no step ever wrote to it.
    ValueError
        If a ledger cannot be read.
    """
    container = normalise_path(container)
    runs = files.join(container, "runs")
    derivation = Derivation(container)
    directories = list(_headers(runs))
    at_work = living(directories)
    found = [_status_of(path, runs, path in at_work, derivation) for path in directories]
    if not found:
        raise FileNotFoundError(f"{runs}: no step of lsd-dask has written to this container")
    return sorted(found, key=lambda one: (one.started, one.step))


def stale_files(container: str) -> dict[str, str]:
    """Why tables and pages of a container are stale that no ledger knows, by their names.

    Parameters
    ----------
    container
        Path or URL.
    """
    container = normalise_path(container)
    tables = Derivation(container).stale_tables(files.join(container, "rag"))
    found = {path.removeprefix(f"{container}/"): reason for path, reason in tables.items()}
    page = files.join(container, "report.html")
    told = runs_of(files.read_bytes(page).decode(errors="replace")) if files.is_file(page) else {}
    since = [name for name, run in told.items() if _run_of(container, name) != run]
    if since:
        found["report.html"] = f"it tells of {since[0]} as it was before that was made anew"
    return found


def _run_of(container: str, name: str) -> str:
    return Ledger(files.join(container, "runs", name), {}).header().get("run", "")


def print_status(container: str) -> None:
    """Print what is done of every step."""
    found = status(container)
    names = ("step", "output", "state", "blocks", "failed", "missing", "started", "by")
    # Where a terminal is narrow, or there is none, what is too long goes on in the next line.
    table = Table(*(Column(name, overflow="fold") for name in names), box=None)
    for one in found:
        blocks = "" if one.blocks is None else f"{one.done} of {one.blocks}"
        missing = "" if one.blocks is None else str(one.blocks - one.done)
        table.add_row(
            one.step,
            one.output,
            one.state,
            blocks,
            str(len(one.failures)),
            missing,
            to_the_second(one.started),
            one.by,
        )
    console.print(table)
    for one in found:
        if one.stale is not None:
            console.print(f"{one.step}, {one.output}: stale, {one.stale}", markup=False)
    for name, reason in stale_files(container).items():
        console.print(f"{name}: stale, {reason}", markup=False)
    for one in found:
        for name, message in list(one.failures.items())[:MISSING]:
            console.print(f"{one.step}, block {name}: {message}")
        if one.state != "done" and one.missing:
            console.print(f"{one.step}, to be done: {_listed(one)}")


def _listed(one: StepStatus) -> str:
    more = (one.blocks or 0) - one.done - len(one.missing)
    return ", ".join(one.missing) + (f", and {more} more" if more else "")


def _headers(directory: str) -> Iterator[str]:
    """Folders of ledgers below a folder."""
    names = files.names(directory)
    if "run.json" in names:
        yield directory
        return
    for name in names:
        yield from _headers(files.join(directory, name))


def _status_of(directory: str, runs: str, at_work: bool, derivation: Derivation) -> StepStatus:
    ledger = Ledger(directory, {})
    header = ledger.header()
    step, _, output = directory.removeprefix(f"{runs}/").partition("/")
    noted = header.get("grid")
    grid = BlockGrid(tuple(noted["shape"]), tuple(noted["block_shape"])) if noted else None
    done = blocks_done(ledger)
    failures = files.read_json(ledger.failures_path) if files.exists(ledger.failures_path) else {}
    missing: Sequence[str] = ()
    if grid is not None and len(done) < len(grid):
        missing = [block.name for block in grid if block.name not in done]
    complete = "run" in header and (grid is None or len(done) == len(grid))
    stale = _stale(header, derivation) if complete else None
    return StepStatus(
        step,
        output,
        _state(complete, stale is not None, failures, at_work),
        None if grid is None else len(grid),
        len(done),
        failures,
        tuple(missing[:MISSING]),
        header.get("started", ""),
        header.get("by", ""),
        stale,
    )


def blocks_done(ledger: Ledger) -> set[str]:
    """Names of the blocks that are done: all of a run that finished, whose tables of blocks may be gone."""
    if Ledger(ledger.directory, ledger.recorded_identity()).finished() is not None:
        return ledger.recorded()
    return ledger.done()


def _stale(header: Mapping[str, Any], derivation: Derivation) -> str | None:
    """Why what a run made is not current: its inputs, or itself."""
    for output in header.get("outputs", ()):
        found = derivation.run_of(output)
        if found != header["run"]:
            return f"{output} is gone" if found is None else f"{output} was replaced since"
        if (reason := derivation.stale(output)) is not None:
            return reason
    return derivation.reason(header.get("made_of", {}))


def _state(complete: bool, stale: bool, failures: dict[str, str], at_work: bool) -> State:
    if at_work:
        return "running"
    if complete:
        return "stale" if stale else "done"
    return "failed" if failures else "interrupted"
