"""What all steps share: the cluster, preparing their output, running blocks, and telling the user."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakSet

import zarr
from distributed import Client, performance_report
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from lsd_dask.blockwise.blocks import BlockGrid
from lsd_dask.blockwise.ledgers import Ledger
from lsd_dask.blockwise.runs import BlockTask, RunSummary, run_blocks
from lsd_dask.clusters.connecting import session
from lsd_dask.segmentation.derivation import facts_of_run, mark_of, mark_of_run
from lsd_dask.space.grids import Grid
from lsd_dask.storage import files
from lsd_dask.storage.own_files import check_replaceable
from lsd_dask.storage.stores import options_for
from lsd_dask.volumes.formats.zarr_creating import check_free, container_of, normalise_path, open_node
from lsd_dask.volumes.opening import open_stored
from lsd_dask.volumes.saving import create_volume
from lsd_dask.volumes.stored import MARK, StoredVolume

from ..config.options import RunOptions

#: Text is printed as it is: names of files may look like rich's markup or its names of emoji.
console = Console(
    stderr=True, highlight=False, soft_wrap=True, force_jupyter=False, markup=False, emoji=False
)


def in_bold(text: str, rest: str = "") -> Text:
    """Text to be printed in bold, and what follows it."""
    return Text.assemble((text, "bold"), rest)


@dataclass(frozen=True)
class StepResult:
    """What a step did.

    Attributes
    ----------
    step
        Name of the step.
    outputs
        Paths of what it wrote, by name.
    seconds
        Wall time.
    blocks, skipped
        Number of blocks, and how many of them an earlier run had done.
    """

    step: str
    outputs: Mapping[str, str]
    seconds: float
    blocks: int = 0
    skipped: int = 0
    facts: Mapping[str, Any] = field(default_factory=dict)


@contextmanager
def cluster(options: RunOptions, **started_with: Any) -> Iterator[Client]:
    """The client a step works with: the user's own where one is active, else one for the occasion.

    Parameters
    ----------
    options
        Where and how many the workers are.
    **started_with
        More of `lsd_dask.clusters.connecting.connect`, for workers that are started.
    """
    settings = {
        "num_workers": options.num_workers,
        "memory": options.memory,
        "walltime": options.walltime,
        "job_extra_directives": options.job_extra_directives,
        "security": options.security,
    }
    _check_report(options.performance_report)
    with session(options.queue, **settings | started_with) as client:
        show_dashboard(client)
        _wait_for_a_worker(client, options.queue)
        with client.as_current(), _performance_reported(client, options.performance_report):
            yield client


#: Steps that share a client say once where its dashboard is.
_shown: "WeakSet[Client]" = WeakSet()

#: Clients of whose work a report is being made.
_watched: "WeakSet[Client]" = WeakSet()


def show_dashboard(client: Client) -> None:
    """Print where to watch a client's work; once."""
    link = client.dashboard_link
    if link and client not in _shown:
        _shown.add(client)
        console.print(f"Watch it work: {link}")


def _wait_for_a_worker(client: Client, queue: str) -> None:
    """What blocks may take of a worker's memory is known when there is one.

    Waiting is for a task: a cluster that scales with the work has no worker until there is some.
    """
    if not client.nthreads():
        console.print(f"Waiting for the first worker ({queue})")
        client.submit(_is_there, pure=False).result()


def _is_there() -> bool:
    return True


def _check_report(path: str | None) -> None:
    if path is not None:
        check_replaceable(path, "performance_report")


@contextmanager
def _performance_reported(client: Client, path: str | None) -> Iterator[None]:
    """Have dask write a report; one of all steps where they share a client."""
    if path is None or client in _watched:
        yield
        return
    _watched.add(client)
    try:
        with performance_report(path):
            yield
    finally:
        _watched.discard(client)
    console.print(f"  performance report: {files.shown(path)}")


def ledger_for(container: str, step: str, dataset: str, identity: Mapping[str, Any]) -> Ledger:
    """The ledger of a step for the dataset it writes: in the folder ``runs`` of the dataset's container.

    Raises
    ------
    NotADirectoryError
        If the container is a file, which cannot hold what a run notes.
    """
    container = normalise_path(container)
    if files.is_file(container):
        raise NotADirectoryError(
            f"{container} is a file; a step keeps tables beside the arrays, so expected a zarr container. "
            "Save the array to one (lsd_dask.save_volume), or name another container."
        )
    return Ledger(files.join(container, "runs", step, dataset), {"step": step, **identity})


def prepare(ledger: Ledger, options: RunOptions, *, what: str, outputs: Sequence[str] = ()) -> bool:
    """Decide whether a run goes on where an earlier one stopped; if not, forget that one.

    The ledger is held, so what killed writers left of the outputs is nobody's, and removed.

    Parameters
    ----------
    ledger
        Of the step.
    options
        Say whether to resume, and whether what others wrote is replaced.
    what
        What the step makes, for messages.
    outputs
        Paths of the arrays and tables that must be there of the earlier run. What else lies there is refused.

    Returns
    -------
    bool
        Whether there is something to go on with. If not, the ledger's `begin` is to be called once the output
        is ready to be written.

    Raises
    ------
    FileExistsError
        As of `check_output`.
    """
    for output in outputs:
        files.remove_partial(output)
        check_own(ledger, output, overwrite=options.overwrite)
    there = all(_run_of(output, ledger) == ledger.recorded_run() for output in outputs)
    if options.resume and ledger.is_current() and there:
        return True
    if ledger.exists():
        changes = ledger.changes()
        reason = (
            f"{', '.join(changes)} changed" if changes else "as asked" if not options.resume else "it is gone"
        )
        finished = len(ledger.recorded())
        replaced = f", replacing {finished} finished blocks" if finished else ""
        console.print(f"{what}: made anew{replaced} ({reason}).")
    ledger.clear()
    return False


def check_output(ledger: Ledger, path: str, *inputs: str, overwrite: bool = False) -> None:
    """Check that an array may be written, before anything is touched.

    Raises
    ------
    FileExistsError
        If something is there that no run of this step wrote, and `overwrite` is False.
    PermissionError
        If the container cannot be written to.
    ValueError
        If the path names no array in a container, or is that of an input.
    """
    path = normalise_path(path)
    files.check_writable(container_of(path)[0])
    if path in inputs:
        raise ValueError(f"{path}: the step would overwrite its own input; choose another name.")
    check_own(ledger, path, overwrite=overwrite)
    check_free(path, overwrite=True)


def check_own(ledger: Ledger, path: str, *, overwrite: bool) -> None:
    """Raise FileExistsError for an array or a table that no run of this ledger wrote, and that is to stay."""
    found = _run_of(path, ledger)
    if overwrite or found in ledger.known_runs() or (found is None and not _holds_something(path)):
        return
    found = "no run" if found is None else f"the run {found}"
    raise FileExistsError(
        f"{path} exists and was not written by this step. Choose another name, or remove it. (It names "
        f"{found}, expected one that {ledger.directory} knows; pass overwrite=True to replace it.)"
    )


def check_made_by(step: str, *paths: str, overwrite: bool | None) -> None:
    """Raise FileExistsError for a table that no run of a step without a ledger wrote, and that is to stay.

    Of a step that has no such option, `overwrite` is None.
    """
    remedy = "" if overwrite is None else ", or pass overwrite=True to replace it"
    for path in paths:
        if not overwrite and files.exists(path) and mark_of(path).get("step") != step:
            raise FileExistsError(
                f"{path} exists and was not written by {step}. Remove it, or keep it under another "
                f"name{remedy}."
            )


def _run_of(path: str, ledger: Ledger) -> str | None:
    """Name of the run in an output; a damaged table of this step, which the ledger finds, is its own."""
    try:
        run = mark_of(path).get("run")
    except ValueError:
        if not (path.endswith(".parquet") and ledger.recorded_run() and ledger.finished() is None):
            raise
        run = ledger.recorded_run()
    return None if run is None else str(run)


def _holds_something(path: str) -> bool:
    """Whether there is a table, or an array; a folder that lost its array is none."""
    return files.exists(path) if path.endswith(".parquet") else open_node(path) is not None


@dataclass(frozen=True)
class Output:
    """A volume that a run writes.

    Attributes
    ----------
    name
        What it is, for results.
    path
        Of the array.
    dtype
        Of its values.
    channels
        How many there are; None for no axis of channels.
    attributes
        More of what the array says of itself.
    """

    name: str
    path: str
    dtype: str
    channels: int | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)


def prepare_volumes(
    ledger: Ledger,
    options: RunOptions,
    outputs: Sequence[Output],
    grid: Grid,
    block_shape: tuple[int, ...],
    what: str,
    made_of: Mapping[str, Mapping[str, Any]],
) -> list[StoredVolume]:
    """Open the volumes that a run writes, or create them; `made_of` as of `derivation.new_mark`."""
    paths = [output.path for output in outputs]
    for path in paths:
        check_output(ledger, path, overwrite=options.overwrite)
    resumed = prepare(ledger, options, what=what, outputs=paths)
    mark = mark_of_run(ledger, made_of)
    if resumed:
        for path in paths:
            _keep_mark(path, mark)
        return [open_stored(path) for path in paths]
    created = [_create(output, grid, block_shape, mark) for output in outputs]
    ledger.begin(BlockGrid(grid.shape, block_shape), **facts_of_run(ledger, *paths))
    return created


def _keep_mark(path: str, mark: Mapping[str, Any]) -> None:
    """Let an array name inputs that were made anew since, where the result is the same."""
    if mark_of(path) != mark:
        array = zarr.open_array(normalise_path(path), mode="r+", storage_options=options_for(path))
        array.update_attributes({MARK: dict(mark)})


def _create(
    output: Output, grid: Grid, block_shape: tuple[int, ...], mark: Mapping[str, Any]
) -> StoredVolume:
    """Create a volume that carries the name of the run that is about to begin."""
    channels = output.channels
    return create_volume(
        output.path,
        grid.shape if channels is None else (channels, *grid.shape),
        output.dtype,
        voxel_size=grid.voxel_size,
        offset=grid.offset,
        units=grid.units,
        dims=grid.dims if channels is None else ("channel", *grid.dims),
        block_shape=block_shape,
        overwrite=True,
        attributes={**output.attributes, MARK: mark},
    )


@contextmanager
def hold(ledger: Ledger) -> Iterator[None]:
    """Hold the lock of a ledger, so that nobody else writes the same output.

    Raises
    ------
    PermissionError
        If the container cannot be written to.
    LockedError
        If somebody else is at work; the message says who.
    """
    files.check_writable(ledger.directory)
    with ledger.held():
        yield


def run(
    step: str,
    task: BlockTask[Any],
    grid: BlockGrid,
    ledger: Ledger,
    client: Client,
    *,
    resources: Mapping[str, float] | None = None,
    verify: bool = False,
) -> RunSummary:
    """Run the blocks of a step under a progress bar; `resources` and `verify` as for `run_blocks`."""
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("blocks"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    ) as bar:
        row = bar.add_task(step, total=len(grid))

        def show(summary: RunSummary) -> None:
            if summary.damaged and not (summary.computed or summary.failures):
                console.print(
                    f"{step}: {summary.damaged} of {summary.blocks} blocks are made anew: what an earlier "
                    "run wrote of them is missing or damaged."
                )
            failed = f" ({len(summary.failures)} failed)" if summary.failures else ""
            finished = summary.skipped + summary.computed + len(summary.failures)
            bar.update(row, completed=finished, description=step + failed)

        return run_blocks(step, task, grid, ledger, client, progress=show, resources=resources, verify=verify)


def report(result: StepResult) -> StepResult:
    """Print what a step did, and return it."""
    blocks = f"{result.blocks} block{'s' * (result.blocks > 1)}" if result.blocks else "done"
    skipped = f", {result.skipped} of them by an earlier run" if result.skipped else ""
    facts = "".join(f", {value} {name}" for name, value in result.facts.items())
    console.print(in_bold(result.step, f": {blocks}{skipped}{facts} in {result.seconds:.1f} s"))
    for name, path in result.outputs.items():
        console.print(f"  {name}: {files.shown(path)}")
    return result
