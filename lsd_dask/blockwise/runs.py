"""The resumable run of a task over the blocks of a volume. It knows nothing of neurons.

Each block is one dask task. Tasks are handed to the scheduler a few at a time, so that a million blocks do
not wait there. When a block's data are written, its worker leaves a record beside them; a later run with the
same fingerprint skips the block, and one with another computes it again. A block that fails is retried, then
recorded and passed over; one whose worker dies is tried again with nothing else at work, so that a block that
kills its workers does not take others with it. At the end the run raises, naming the blocks.
"""

import itertools
import math
import resource
import time
import traceback
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from distributed import Client, Future, KilledWorker, as_completed

from ..storage import files
from ..storage.credentials import without_secrets
from .blocks import Block, BlockGrid
from .ledgers import Ledger

#: Tasks in the scheduler's hands for each thread of the cluster: enough to keep every thread busy.
TASKS_A_THREAD = 3

#: Seconds after which the scheduler is asked anew how many threads there are.
ASK_EVERY = 1.0

#: How often a block is tried again after it failed.
RETRIES = 2

#: Failures whose messages the error of a run shows; all are in a file.
SHOWN = 5


class RunFailedError(RuntimeError):
    """Blocks of a run failed; the message names them."""


class BlockTask[T](Protocol):
    """What a run does for each block. Called on workers, so it must be picklable.

    Computing and writing are apart, so that nothing is written for a run that another one has replaced in the
    meantime. Both may be called again for a block, so they must overwrite.
    """

    def compute(self, block: Block) -> T:
        """The block's result."""

    def write(self, block: Block, result: T) -> Mapping[str, Any]:
        """Write the result; facts for the block's record, and under "files" the paths of what was written."""


@dataclass
class RunSummary:
    """What a run did.

    Attributes
    ----------
    step
        Name of the step.
    blocks, skipped, computed
        Number of blocks in all, done by an earlier run, done by this one.
    damaged
        Of those that an earlier run had done: how many are made anew, as their files are missing or damaged.
    failures
        Message by name of the block that failed.
    seconds
        Wall time.
    """

    step: str
    blocks: int
    skipped: int = 0
    damaged: int = 0
    computed: int = 0
    failures: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0


def run_blocks(
    step: str,
    task: BlockTask[Any],
    grid: BlockGrid,
    ledger: Ledger,
    client: Client,
    *,
    progress: Callable[[RunSummary], None] | None = None,
    resources: Mapping[str, float] | None = None,
    verify: bool = False,
) -> RunSummary:
    """Run a task on every block that is not done yet.

    Parameters
    ----------
    step
        Name of the step, for dask's tasks and for messages.
    task
        Computes a block and writes its data.
    grid
        The blocks.
    ledger
        Where finished blocks are recorded; those that are recorded already are skipped.
    client
        Of the cluster.
    progress
        Called with the state of the run at its start and whenever a block ends.
    resources
        What each task takes of a worker, such as ``{"GPU": 1}``: names that workers were started with. Tasks
        go to workers that have it; where none has, to all.
    verify
        Whether to read what earlier runs wrote and compare it with the checksums that they noted. Sizes are
        compared in any case.

    Returns
    -------
    RunSummary

    Raises
    ------
    RunFailedError
        If blocks failed. All others are done by then, and recorded.
    """
    started = time.perf_counter()
    ledger.check_held()
    files.remove(ledger.failures_path)
    recorded_before = ledger.recorded()
    damaged = ledger.damaged(recorded_before, verify=verify)
    for name in damaged:
        ledger.forget(name)
    done = recorded_before - damaged
    summary = RunSummary(step, len(grid), skipped=len(done), damaged=len(damaged))
    report = progress or (lambda _: None)
    report(summary)
    recorded = RecordedTask(task, ledger, ledger.recorded_run())
    needs = _offered(resources, client)
    failed: list[Block] = []
    killers: list[Block] = []

    def count(block: Block, error: str | None) -> None:
        if error is None:
            summary.computed += 1
        else:
            summary.failures[block.name] = error
            failed.append(block)
        report(summary)

    waiting = (block for block in grid if block.name not in done)
    for block, future in _run_some(step, recorded, waiting, client, needs):
        if isinstance(error := _error_of(future), KilledWorker):
            killers.append(block)
        else:
            count(block, _explain(error))
    for suspect in killers:
        for block, future in _run_some(step, recorded, [suspect], client, needs):
            count(block, _explain(_error_of(future)))
    summary.seconds = time.perf_counter() - started
    if failed:
        _raise_failures(summary, failed, ledger)
    return summary


@dataclass(frozen=True)
class RecordedTask:
    """Computes a block, writes it, and only then records it; nothing of a run that was replaced.

    Attributes
    ----------
    task
        What is done.
    ledger
        Where it is recorded.
    run
        Name of the run that this belongs to.
    """

    task: BlockTask[Any]
    ledger: Ledger
    run: str | None

    def __call__(self, block: Block) -> dict[str, Any]:
        """Facts about the block, as they are recorded; none if they were recorded before."""
        self.ledger.check_run(self.run)
        # A task whose worker dies before its client heard of its end is run again by dask.
        if self.ledger.has(block):
            return {}
        started = time.time()
        result = self.task.compute(block)
        self.ledger.check_run(self.run)
        told = dict(self.task.write(block, result))
        paths = told.pop("files", ())
        facts = {
            **told,
            "started": round(started, 3),
            "seconds": round(time.time() - started, 4),
            "peak_memory": _peak_memory(),
        }
        self.ledger.check_run(self.run)
        self.ledger.record(block, facts, paths)
        return facts


def _run_some(
    step: str,
    task: RecordedTask,
    blocks: Iterable[Block],
    client: Client,
    resources: Mapping[str, float] | None,
) -> Iterable[tuple[Block, Future[Any]]]:
    """Blocks with their futures as they end; only a few are in the scheduler's hands at any time."""
    waiting = iter(blocks)
    running: dict[str, Block] = {}

    capacity = _Capacity(client)
    # A result of another run must never be taken for this one. Keys are short: the scheduler reads them as
    # keys of dictionaries, and Python 3.12 keeps all of those for ever.
    run = uuid.uuid4().hex[:12]

    def submit(count: int) -> list[Future[Any]]:
        upcoming = list(itertools.islice(waiting, count))
        keys = [f"{step}-{block.name}-{run}" for block in upcoming]
        running.update(zip(keys, upcoming, strict=True))
        # Of `dask.annotate`, resources would be lost when the graph is optimised.
        futures: list[Future[Any]] = client.map(
            task, upcoming, key=keys, retries=RETRIES, pure=False, resources=dict(resources or {}) or None
        )
        return futures

    completed = as_completed(submit(capacity()))
    # Those that ended together are replaced together: one message for all, and none that waits.
    for batch in completed.batches():
        task.ledger.check_held()
        for future in batch:
            yield running.pop(future.key), future
        completed.update(submit(max(0, capacity() - len(running))))


def _offered(resources: Mapping[str, float] | None, client: Client) -> Mapping[str, float] | None:
    """The resources, if there is a worker that has them: a task that asks for others would wait for ever."""
    workers = client.scheduler_info(n_workers=-1)["workers"].values() if resources else ()
    for worker in workers:
        if all(worker["resources"].get(name, 0) >= n for name, n in (resources or {}).items()):
            return resources
    return None


class _Capacity:
    """How many tasks the workers can take. They come and go, so it is asked anew, but not for each block."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.asked, self.tasks = -math.inf, 0

    def __call__(self) -> int:
        if time.monotonic() - self.asked > ASK_EVERY:
            self.tasks = max(1, sum(self.client.nthreads().values())) * TASKS_A_THREAD
            self.asked = time.monotonic()
        return self.tasks


def _peak_memory() -> int:
    """Most memory, in bytes, that this process has ever held."""
    # Linux hands the peak of `getrusage` down to processes that are started; this one is a process's own.
    status = Path("/proc/self/status")
    if status.exists():
        return next(
            int(line.split()[1]) * 1024 for line in status.read_text().splitlines() if "VmHWM" in line
        )
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _error_of(future: Future[Any]) -> BaseException | None:
    if future.status == "finished":
        return None
    return future.exception() or RuntimeError(f"the task is {future.status}")


def _explain(error: BaseException | None) -> str | None:
    if error is None:
        return None
    if isinstance(error, KilledWorker):
        return (
            f"its worker died each of {error.allowed_failures + 1} times, with nothing else at work. Was it "
            "out of memory? Then smaller blocks, or more memory for workers, will do. The workers' logs tell "
            "more."
        )
    return without_secrets("".join(traceback.format_exception_only(error)).strip())


def _raise_failures(summary: RunSummary, failed: list[Block], ledger: Ledger) -> None:
    shown = [
        f"  block {block.name}, voxels {block.place}: {summary.failures[block.name]}"
        for block in failed[:SHOWN]
    ]
    more = len(failed) - len(shown)
    raise RunFailedError(
        f"{summary.step}: {len(failed)} of {summary.blocks} blocks failed "
        f"({summary.skipped + summary.computed} are done and will be skipped when it is run again):\n"
        + "\n".join(shown)
        + (f"\n  ... and {more} more" if more else "")
        + f"\n{_write_failures(summary, ledger)}"
    )


def _write_failures(summary: RunSummary, ledger: Ledger) -> str:
    """Write all messages to a file, and say where; the disk may be what failed."""
    try:
        files.write_json(ledger.failures_path, summary.failures)
    except OSError as error:
        return f"The list of failures could not be written either: {error}"
    return f"All messages: {ledger.failures_path}"
