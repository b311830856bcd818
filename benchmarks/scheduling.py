"""What a run costs beside its blocks: many empty blocks through `lsd_dask.blockwise.runs.run_blocks`.

Blocks do nothing, and are recorded as all blocks are. Client and scheduler are this process, whose memory
should not grow with the number of blocks: a few are in their hands at any time. At the end, the run is begun
once more, and finds every block done.

    python benchmarks/scheduling.py                          # 20,000 blocks, about two minutes
    python benchmarks/scheduling.py --blocks 1000000         # an hour or two; 4 GB of disk for the records
"""

import argparse
import gc
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import dask
import psutil
from distributed import Client, LocalCluster

from lsd_dask.blockwise.blocks import Block, BlockGrid
from lsd_dask.blockwise.ledgers import Ledger
from lsd_dask.blockwise.runs import RunSummary, run_blocks


@dataclass(frozen=True)
class Nothing:
    """A task without any work."""

    def compute(self, block: Block) -> None:
        """Nothing."""

    def write(self, block: Block, result: None) -> Mapping[str, int]:
        """Nothing."""
        return {"foreground": 0}


class Watch:
    """Prints, now and then, how far a run is."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.started = self.last = time.perf_counter()
        self.done = 0
        self.first: float | None = None

    def __call__(self, summary: RunSummary) -> None:
        """Look at a run."""
        if summary.computed and self.first is None:
            self.first = time.perf_counter() - self.started
        if summary.computed - self.done < max(1, summary.blocks // self.steps):
            return
        now = time.perf_counter()
        rate = (summary.computed - self.done) / (now - self.last)
        print(
            f"| {summary.computed:,} | {now - self.started:.1f} | {rate:.0f} | {megabytes():.0f} |",
            flush=True,
        )
        self.done, self.last = summary.computed, now


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--blocks", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--threads", type=int, default=1, help="of each; with more, more tasks are in flight")
    parser.add_argument(
        "--log-length",
        type=int,
        help="entries that dask keeps in each of its logs of messages and profiles (default: its own, 1,000)",
    )
    parser.add_argument("--rows", type=int, default=10, help="of the table")
    parser.add_argument("--folder", type=Path, help="where records are kept; by default they are removed")
    options = parser.parse_args()
    logs = (
        {} if options.log_length is None else {"distributed.admin.low-level-log-length": options.log_length}
    )
    with dask.config.set(logs), tempfile.TemporaryDirectory(dir=options.folder) as folder:
        measure(Path(folder), options)


def measure(folder: Path, options: argparse.Namespace) -> None:
    blocks, workers, threads = options.blocks, options.workers, options.threads
    grid = BlockGrid((blocks, 1, 1), (1, 1, 1))
    ledger = Ledger(str(folder / "runs"), {"blocks": blocks})
    with (
        LocalCluster(n_workers=workers, threads_per_worker=threads, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        ledger.begin(grid)
        print(f"{blocks:,} empty blocks, {workers} processes of {threads} threads")
        print(f"before: {megabytes():.0f} MB\n")
        print("| blocks | seconds | blocks a second | client + scheduler MB |\n| ---: | ---: | ---: | ---: |")
        watch = Watch(options.rows)
        before = cpu_seconds()
        summary = run_blocks("nothing", Nothing(), grid, ledger, client, progress=watch)
        own = cpu_seconds() - before
        print(
            f"\nall: {summary.seconds:.1f} s, {blocks / summary.seconds:.0f} blocks a second; the first "
            f"ended after {watch.first:.3f} s; client and scheduler took {1e3 * own / blocks:.2f} CPU ms a "
            "block"
        )
        gc.collect()
        held, started = megabytes(), time.perf_counter()
        done = ledger.done()
        listing = time.perf_counter() - started
        print(f"listing {len(done):,} records: {listing:.2f} s, {megabytes() - held:.0f} MB")
        del done
        again = run_blocks("nothing", Nothing(), grid, ledger, client)
        assert again.skipped == blocks
        print(f"run again: {again.skipped:,} blocks skipped in {again.seconds:.2f} s")


def megabytes() -> float:
    return float(psutil.Process().memory_info().rss / 1e6)


def cpu_seconds() -> float:
    times = psutil.Process().cpu_times()
    return float(times.user + times.system)


if __name__ == "__main__":
    main()
