"""The resumable run of a function over the blocks of a volume. It knows nothing of neurons.

Each block is one task. Tasks are handed to the scheduler a few at a time, so that a million blocks do not
wait there. When a block's data are written, its worker leaves a record beside them; a later run with the same
fingerprint skips the block, and one with another computes it again. A block that fails is retried, then
recorded and passed over; at the end the run raises, naming the blocks.
"""

import getpass
import hashlib
import importlib.metadata
import itertools
import json
import socket
import time
import traceback
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from distributed import Client, Future, as_completed

from . import files

type Region = tuple[slice, ...]

#: Tasks in the scheduler's hands for each thread of the cluster: enough to keep every thread busy.
TASKS_A_THREAD = 3

#: How often a block is tried again after it failed.
RETRIES = 2

_HEADER = "run.json"
_FAILURES = "failures.json"


@dataclass(frozen=True)
class Block:
    """One block of a volume.

    Attributes
    ----------
    index
        Place in the grid of blocks.
    region
        Its voxels.
    """

    index: tuple[int, ...]
    region: Region

    @property
    def name(self) -> str:
        """Name in the ledger.

        Examples
        --------
        >>> Block((0, 12, 3), ()).name
        '0_12_3'
        """
        return "_".join(map(str, self.index))


@dataclass(frozen=True)
class BlockGrid:
    """The blocks that cover a volume, in order of their index.

    Attributes
    ----------
    shape
        Of the volume, in voxels.
    block_shape
        Of a block; those at the upper ends may be smaller.
    """

    shape: tuple[int, ...]
    block_shape: tuple[int, ...]

    def __len__(self) -> int:
        count = 1
        for n, b in zip(self.shape, self.block_shape, strict=True):
            count *= -(-n // b)
        return count

    def __iter__(self) -> Iterator[Block]:
        counts = [range(-(-n // b)) for n, b in zip(self.shape, self.block_shape, strict=True)]
        for index in itertools.product(*counts):
            region = tuple(
                slice(i * b, min((i + 1) * b, n))
                for i, b, n in zip(index, self.block_shape, self.shape, strict=True)
            )
            yield Block(index, region)


class RunFailedError(RuntimeError):
    """Blocks of a run failed; the message names them."""


@dataclass(frozen=True)
class Ledger:
    """What is done of a step: a folder with the step's configuration and one record a finished block.

    Attributes
    ----------
    directory
        Path or URL of the folder.
    identity
        Everything that decides the step's result, as plain data.
    """

    directory: str
    identity: Mapping[str, Any]

    @property
    def fingerprint(self) -> str:
        """Digest of the identity."""
        return fingerprint_of(self.identity)

    def recorded_run(self) -> str | None:
        """Name of the run that is recorded, whatever its fingerprint.

        Two runs never share one, be their parameters the same: what was made of the first one's result is not
        made of the second one's.
        """
        name = self._header().get("run")
        return None if name is None else str(name)

    def recorded_identity(self) -> Mapping[str, Any]:
        """Identity of the run that is recorded; empty where there is none."""
        return dict(self._header().get("identity", {}))

    def is_current(self) -> bool:
        """Whether what is recorded is of a run with this fingerprint."""
        return self._header().get("fingerprint") == self.fingerprint

    def exists(self) -> bool:
        """Whether anything is recorded, of whatever run."""
        return bool(self._header())

    def clear(self) -> None:
        """Forget all records of blocks; what is recorded then is that a run was about to begin.

        The run's output is prepared before `begin`, so that one that was killed in between is not taken for
        one that can be resumed.
        """
        files.write_json(files.join(self.directory, _HEADER), {"identity": self.identity})
        for name in files.names(self.directory):
            if name != _HEADER:
                files.remove(files.join(self.directory, name))

    def begin(self) -> None:
        """Note what the coming run is."""
        header = {
            "fingerprint": self.fingerprint,
            "run": uuid.uuid4().hex,
            "identity": self.identity,
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "by": f"{getpass.getuser()}@{socket.gethostname()}",
            "versions": {
                name: importlib.metadata.version(name) for name in ("numpy", "numba", "dask", "zarr")
            },
        }
        files.write_json(files.join(self.directory, _HEADER), header)

    def done(self) -> set[str]:
        """Names of the blocks that are recorded as done."""
        return {name.removesuffix(".json") for name in files.names(self._blocks()) if name.endswith(".json")}

    def finish(self, facts: Mapping[str, Any]) -> None:
        """Note that the step as a whole is done."""
        files.write_json(files.join(self.directory, "finished.json"), dict(facts))

    def finished(self) -> dict[str, Any] | None:
        """What `finish` noted, None where the step is not done."""
        path = files.join(self.directory, "finished.json")
        return dict(files.read_json(path)) if self.is_current() and files.exists(path) else None

    def changes(self) -> list[str]:
        """Top-level entries of the identity that differ from those of the run that is recorded."""
        before = self.recorded_identity()
        now = json.loads(json.dumps(self.identity, default=str))
        return sorted(k for k in {*before, *now} if before.get(k) != now.get(k))

    def record(self, block: Block, facts: Mapping[str, Any]) -> None:
        """Note that a block is done. To be called after its data are written."""
        files.write_json(files.join(self._blocks(), f"{block.name}.json"), dict(facts))

    def _header(self) -> dict[str, Any]:
        path = files.join(self.directory, _HEADER)
        return dict(files.read_json(path)) if files.exists(path) else {}

    def _blocks(self) -> str:
        return files.join(self.directory, "blocks")


def fingerprint_of(identity: Any) -> str:
    """Digest of plain data.

    Examples
    --------
    >>> fingerprint_of({"a": 1, "b": 2}) == fingerprint_of({"b": 2, "a": 1})
    True
    """
    text = json.dumps(identity, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


@dataclass
class RunSummary:
    """What a run did.

    Attributes
    ----------
    step
        Name of the step.
    blocks, skipped, computed
        Number of blocks in all, done by an earlier run, done by this one.
    failures
        Message by name of the block that failed.
    seconds
        Wall time.
    """

    step: str
    blocks: int
    skipped: int = 0
    computed: int = 0
    failures: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0


def run_blocks(
    step: str,
    function: Callable[[Block], Mapping[str, Any] | None],
    grid: BlockGrid,
    ledger: Ledger,
    client: Client,
    *,
    progress: Callable[[RunSummary], None] | None = None,
) -> RunSummary:
    """Run a function on every block that is not done yet.

    Parameters
    ----------
    step
        Name of the step, for tasks and messages.
    function
        Computes a block and writes its data; returns facts for its record. Called on workers, so it must be
        picklable; it may be called again for a block, so it must overwrite.
    grid
        The blocks.
    ledger
        Where finished blocks are recorded; those that are recorded already are skipped.
    client
        Of the cluster.
    progress
        Called with the state of the run at its start and whenever a block ends.

    Returns
    -------
    RunSummary

    Raises
    ------
    RunFailedError
        If blocks failed. All others are done by then, and recorded.
    """
    started = time.perf_counter()
    files.remove(files.join(ledger.directory, _FAILURES))
    done = ledger.done()
    summary = RunSummary(step, len(grid), skipped=len(done))
    waiting = (block for block in grid if block.name not in done)
    report = progress or (lambda _: None)
    report(summary)
    task = _Recorded(function, ledger)
    running: dict[str, Block] = {}

    def submit(count: int) -> list[Future]:
        futures = []
        for block in itertools.islice(waiting, count):
            # pure=False and a key of its own: a result of an earlier run must never be taken for this one.
            key = f"{step}-{block.name}-{ledger.fingerprint}-{time.time_ns()}"
            futures.append(client.submit(task, block, key=key, retries=RETRIES, pure=False))
            running[key] = block
        return futures

    threads = sum(client.nthreads().values())
    completed = as_completed(submit(max(1, threads) * TASKS_A_THREAD))
    for future in completed:
        block = running.pop(future.key)
        if future.status == "finished":
            summary.computed += 1
        else:
            summary.failures[block.name] = _explain(future)
        report(summary)
        # Workers may have come since the run began, so ask anew how many tasks they can take.
        room = max(1, sum(client.nthreads().values())) * TASKS_A_THREAD - len(running)
        for upcoming in submit(max(0, room)):
            completed.add(upcoming)
    summary.seconds = time.perf_counter() - started
    if summary.failures:
        _raise_failures(summary, grid, ledger)
    return summary


@dataclass(frozen=True)
class _Recorded:
    function: Callable[[Block], Mapping[str, Any] | None]
    ledger: Ledger

    def __call__(self, block: Block) -> None:
        started = time.perf_counter()
        facts = dict(self.function(block) or {})
        self.ledger.record(block, {**facts, "seconds": round(time.perf_counter() - started, 4)})


def _explain(future: Future) -> str:
    error = future.exception()
    return "".join(traceback.format_exception_only(error)).strip() if error else str(future.status)


def _raise_failures(summary: RunSummary, grid: BlockGrid, ledger: Ledger) -> None:
    path = files.join(ledger.directory, _FAILURES)
    files.write_json(path, summary.failures)
    regions = {block.name: block.region for block in grid if block.name in summary.failures}
    shown = [
        f"  block {name}, voxels [{', '.join(f'{s.start}:{s.stop}' for s in regions[name])}]: {message}"
        for name, message in itertools.islice(summary.failures.items(), 5)
    ]
    more = len(summary.failures) - len(shown)
    raise RunFailedError(
        f"{summary.step}: {len(summary.failures)} of {summary.blocks} blocks failed "
        f"({summary.skipped + summary.computed} are done and will be skipped when it is run again):\n"
        + "\n".join(shown)
        + (f"\n  ... and {more} more" if more else "")
        + f"\nAll messages: {path}"
    )
