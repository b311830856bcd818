"""Seconds from the start of a worker process to its first finished block, for a block of each step.

A new scheduler and worker for each kind of block, with compiled code in the cache: the process and its nanny
start, take the task, import what it needs, load the kernels, compute a small block, and write and record it.
The same block once more shows what of this is the block itself. Seconds are wall seconds, medians of some
workers.

    python benchmarks/startup.py                           # five workers a step; a minute
    python benchmarks/startup.py --steps predict           # only this; needs the extra `train`

The exit status is 1 if a worker has imported a package that its step has no use for.
"""

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

# A new worker imports the script that started it. What workers do not need for themselves is therefore
# imported in functions: of the command line, too, they import little.

#: Steps that are measured: one of each kind of task.
KINDS = (
    "extract fragments, uint8",
    "build region graph",
    "extract segmentation",
    "count overlaps",
    "describe shapes, uint8",
    "predict",
)
#: Packages that take long to import, and the steps that need them.
HEAVY = {"torch": ("predict",), "matplotlib": (), "gunpowder": (), "neuroglancer": ()}


@dataclass(frozen=True)
class Start:
    """How a worker started, in seconds.

    Attributes
    ----------
    connected, first
        From asking for it until it is connected, and until its first block is done.
    again
        For the same block once more.
    cpu
        CPU seconds of the worker until its first block was done.
    imported
        What of `HEAVY` it has imported.
    """

    connected: float
    first: float
    again: float
    cpu: float
    imported: frozenset[str]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", nargs="+", default=list(KINDS), metavar="STEP")
    parser.add_argument("--repeats", type=int, default=5, help="workers that are started for each step")
    arguments = parser.parse_args()
    print(
        "| first block of a new worker | connected, s | done, s | the same again, s | CPU s of the worker |"
    )
    print("| --- | ---: | ---: | ---: | ---: |")
    needless: dict[str, frozenset[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        from memory import make_tiles

        make_tiles(directory)
        for step in arguments.steps:
            task = prepared(directory, step)
            # The first worker compiles what no cache has.
            starts = [start(directory, step, task) for _ in range(1 + arguments.repeats)][1:]
            print(row(step, starts), flush=True)
            found = frozenset().union(*(s.imported for s in starts))
            needless[step] = frozenset(name for name in found if step not in HEAVY[name])
    for step, names in needless.items():
        if names:
            print(f"{step}: workers have imported {', '.join(sorted(names))}, for which they have no use")
    sys.exit(any(needless.values()))


def row(step: str, starts: list[Start]) -> str:
    seconds = (median(getattr(s, name) for s in starts) for name in ("connected", "first", "again", "cpu"))
    return f"| {step} | {' | '.join(f'{s:.2f}' for s in seconds)} |"


def prepared(directory: Path, step: str) -> Any:
    """The task of a step, with the volumes that it needs."""
    from memory import SMALL, STEPS, make_table, make_volumes

    make_volumes(directory, step, SMALL)
    if step == "extract segmentation":
        make_table(directory, SMALL)
    return STEPS[step](directory, SMALL)[0]


def start(directory: Path, step: str, task: Any) -> Start:
    """Start a worker, and have it do a block twice."""
    from memory import SMALL, context_of

    from lsd_dask import clusters
    from lsd_dask.blockwise.blocks import Block
    from lsd_dask.blockwise.ledgers import Ledger
    from lsd_dask.blockwise.runs import RecordedTask

    begin = SMALL if context_of(step) else 0
    block = Block((begin // SMALL,) * 3, (slice(begin, begin + SMALL),) * 3)
    ledger = Ledger(str(directory / "runs"), {})
    recorded = RecordedTask(task, ledger, ledger.recorded_run())
    started = time.perf_counter()
    with clusters.connect("local", num_workers=1) as client:
        connected = time.perf_counter() - started
        client.submit(recorded, block, pure=False).result()
        first = time.perf_counter() - started
        cpu, imported = next(iter(client.run(state, tuple(HEAVY)).values()))
        ledger.forget(block)
        started = time.perf_counter()
        client.submit(recorded, block, pure=False).result()
        again = time.perf_counter() - started
        ledger.forget(block)
    return Start(connected, first, again, cpu, imported)


def state(packages: tuple[str, ...]) -> tuple[float, frozenset[str]]:
    """CPU seconds of this process, and which packages it has imported. Run on a worker."""
    return time.process_time(), frozenset(packages) & sys.modules.keys()


if __name__ == "__main__":
    main()
