"""What all steps share: opening their input, preparing their output, running blocks, and telling the user."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from distributed import Client
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from lsd_dask import __version__, files
from lsd_dask.clusters import session
from lsd_dask.formats import open_stored
from lsd_dask.grids import Grid, Region
from lsd_dask.overlap import StoredReader
from lsd_dask.runs import Block, BlockGrid, Ledger, RunSummary, run_blocks
from lsd_dask.storage import StoredVolume
from lsd_dask.volumes import create_volume

from .options import Region as RegionOptions
from .options import RunOptions

console = Console(stderr=True, highlight=False, soft_wrap=True)

#: Blocks are this many voxels wide, unless the user says otherwise: small enough that a laptop's workers
#: share a small volume, large enough that a block is seconds of work in a large one.
SMALL_BLOCK, LARGE_BLOCK, PLANAR_BLOCK = 128, 256, 1024

#: Volumes of more voxels than this are cut into large blocks.
LARGE_VOLUME = 2**28


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
def cluster(options: RunOptions) -> Iterator[Client]:
    """The client a step works with: the user's own where one is active, else one for the occasion."""
    with session(
        options.queue, num_workers=options.num_workers, memory=options.memory, walltime=options.walltime
    ) as client:
        _show_dashboard(client)
        with client.as_current():
            yield client


_dashboards_shown: set[str] = set()


def _show_dashboard(client: Client) -> None:
    link = client.dashboard_link
    if link and link not in _dashboards_shown:
        _dashboards_shown.add(link)
        console.print(f"Watch it work: {link}")


def open_region(path: str, options: RegionOptions) -> StoredReader:
    """Open a stored volume, or the part of it that the options name.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such volume, or the region does not lie in it and on its voxels; the message names the
        file.
    """
    stored = open_stored(path)
    return StoredReader(stored, region_of(stored, options))


def region_of(stored: StoredVolume, options: RegionOptions) -> Region:
    """The voxels of a stored volume that the options name: all where they name none."""
    if options.roi_offset is None or options.roi_shape is None:
        return tuple(slice(0, n) for n in stored.grid.shape)
    try:
        return stored.grid.region(options.roi_offset, options.roi_shape)
    except ValueError as error:
        raise ValueError(f"{stored.path}: roi_offset and roi_shape: {error}") from None


def matching_part(stored: StoredVolume, grid: Grid, like: str) -> StoredReader:
    """The part of a stored volume that lies where another one does.

    Raises
    ------
    ValueError
        If voxel sizes differ, or the other one does not lie within this one and on its voxels.
    """
    if stored.grid.dims != grid.dims:
        raise ValueError(f"{stored.path} has the axes {stored.grid.dims}, but {like} has {grid.dims}.")
    if any(abs(a - b) > 1e-6 * b for a, b in zip(stored.grid.voxel_size, grid.voxel_size, strict=True)):
        raise ValueError(
            f"{stored.path} has voxels of {stored.grid.voxel_size} {stored.grid.units}, but {like} of "
            f"{grid.voxel_size} {grid.units}: expected the same."
        )
    size = [e - o for e, o in zip(grid.end, grid.offset, strict=True)]
    try:
        return StoredReader(stored, stored.grid.region(grid.offset, size))
    except ValueError as error:
        raise ValueError(f"{stored.path} does not cover {like}: {error}") from None


def block_shape_for(grid: Grid, block_size: Sequence[float] | None, path: str) -> tuple[int, ...]:
    """Shape of a block in voxels.

    Parameters
    ----------
    grid
        Of the volume that is cut into blocks.
    block_size
        In world units, one number an axis; None for a default.
    path
        Of the volume, for messages.
    """
    if block_size is None:
        voxels = 1
        for n in grid.shape:
            voxels *= n
        side = PLANAR_BLOCK if grid.ndim == 2 else LARGE_BLOCK if voxels > LARGE_VOLUME else SMALL_BLOCK
        return tuple(min(side, n) for n in grid.shape)
    if len(block_size) != grid.ndim:
        raise ValueError(
            f"block_size has {len(block_size)} numbers, expected {grid.ndim} ({', '.join(grid.dims)}) "
            f"for {path}."
        )
    shape = [round(b / v) for b, v in zip(block_size, grid.voxel_size, strict=True)]
    if any(
        n < 1 or abs(n * v - b) > 1e-3 * v for n, b, v in zip(shape, block_size, grid.voxel_size, strict=True)
    ):
        nearest = [max(1, n) * v for n, v in zip(shape, grid.voxel_size, strict=True)]
        raise ValueError(
            f"block_size {list(block_size)} is no multiple of the voxel size {list(grid.voxel_size)} "
            f"{grid.units} of "
            f"{path}; {nearest} would be."
        )
    return tuple(min(s, n) for s, n in zip(shape, grid.shape, strict=True))


def to_voxels(name: str, lengths: Sequence[float] | None, grid: Grid) -> tuple[int, ...] | None:
    """World lengths as voxels, rounded up."""
    if lengths is None:
        return None
    if len(lengths) != grid.ndim:
        raise ValueError(f"{name} has {len(lengths)} numbers, expected {grid.ndim} ({', '.join(grid.dims)}).")
    return tuple(-int(-w // v) for w, v in zip(lengths, grid.voxel_size, strict=True))


def ledger_for(container: str, step: str, name: str, identity: Mapping[str, Any]) -> Ledger:
    """The ledger of a step: in the folder ``runs`` of the container it writes to."""
    return Ledger(
        files.join(container, "runs", step, name), {"step": step, "version": __version__, **identity}
    )


def identity_of(reader: StoredReader) -> dict[str, Any]:
    """What is read, as far as it decides a result: place, layout, and the run that wrote it."""
    stored = reader.stored
    return {
        "path": stored.path,
        "layout": stored.fingerprint,
        "part": [[s.start, s.stop] for s in reader.part],
        "voxel_size": stored.grid.voxel_size,
        "offset": stored.grid.offset,
        "dtype": str(stored.dtype),
    }


def prepare(ledger: Ledger, options: RunOptions, *, what: str, output: str | None = None) -> bool:
    """Decide whether a run goes on where an earlier one stopped; if not, begin anew.

    Parameters
    ----------
    ledger
        Of the step.
    options
        Say whether to resume.
    what
        What the step makes, for messages.
    output
        Path of the array it writes, if any.

    Returns
    -------
    bool
        Whether there is something to go on with. If not, the output is to be created, replacing what is
        there.

    Raises
    ------
    FileExistsError
        If the output is there and no run has recorded that it wrote it.
    """
    there = output is None or files.exists(output)
    if options.resume and ledger.is_current() and there:
        return True
    if output is not None and there and not ledger.exists() and options.resume:
        raise FileExistsError(
            f"{output} exists and was not written by this step. Choose another name, remove it, or "
            "replace it with "
            "resume=False."
        )
    if ledger.exists():
        changes = ledger.changes()
        reason = (
            f"{', '.join(changes)} changed" if changes else "as asked" if not options.resume else "it is gone"
        )
        console.print(f"{what}: made anew, replacing {len(ledger.done())} finished blocks ({reason}).")
    ledger.begin()
    return False


def prepare_volume(
    ledger: Ledger,
    options: RunOptions,
    path: str,
    grid: Grid,
    dtype: str,
    block_shape: Sequence[int],
    what: str,
    channels: int | None = None,
) -> StoredVolume:
    """Open the volume that a run writes, or create it."""
    if prepare(ledger, options, what=what, output=path):
        return open_stored(path)
    return create_volume(
        path,
        grid.shape if channels is None else (channels, *grid.shape),
        dtype,
        voxel_size=grid.voxel_size,
        offset=grid.offset,
        units=grid.units,
        dims=grid.dims if channels is None else ("channel", *grid.dims),
        block_shape=block_shape,
        overwrite=True,
    )


def run(
    step: str,
    function: Callable[[Block], Mapping[str, Any] | None],
    grid: BlockGrid,
    ledger: Ledger,
    client: Client,
) -> RunSummary:
    """Run the blocks of a step under a progress bar."""
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("blocks"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    ) as bar:
        task = bar.add_task(step, total=len(grid))

        def show(summary: RunSummary) -> None:
            failed = f" ({len(summary.failures)} failed)" if summary.failures else ""
            finished = summary.skipped + summary.computed + len(summary.failures)
            bar.update(task, completed=finished, description=step + failed)

        return run_blocks(step, function, grid, ledger, client, progress=show)


def report(result: StepResult) -> StepResult:
    """Print what a step did, and return it."""
    blocks = f"{result.blocks} blocks" if result.blocks else "done"
    skipped = f", {result.skipped} of them by an earlier run" if result.skipped else ""
    facts = "".join(f", {value} {name}" for name, value in result.facts.items())
    console.print(f"[bold]{result.step}[/bold]: {blocks}{skipped}{facts} in {result.seconds:.1f} s")
    for name, path in result.outputs.items():
        console.print(f"  {name}: {path}")
    return result
