"""The whole pipeline, from affinities on disk to a segmentation on disk and its scores, step by step.

Synthetic neuropil of any size, made blockwise, in a folder that a later call finds again with `--folder`.
Starting the workers, and what they and this process import, comes before and is not in the seconds.

    python benchmarks/pipeline.py                                      # 256^3 and 512^3, one and two workers
    python benchmarks/pipeline.py --sizes 256 --workers 2 --peer       # beside the reference's steps
    python benchmarks/pipeline.py --sizes 512 --workers 2 --peer       # a quarter of an hour, 12 GB of memory
    python benchmarks/pipeline.py --sizes 1024 --workers 2 --memory "2 GB" --block 256    # 8 GB of disk
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from _process import reset_peak, status
from _reference import Reference
from distributed import Client

import lsd_dask as ld
from lsd_dask import clusters
from lsd_dask.synthetic.generating import neuropil
from lsd_dask.workflows import (
    agglomerate,
    evaluate_volumes,
    extract_fragments,
    extract_segmentation,
    find_segments,
)

#: Thresholds that are scored, and the one that is written.
THRESHOLDS, THRESHOLD = 50, 0.5
VOXEL = 8
#: Chunk side of the inputs, as labs store them.
CHUNK = 128


@dataclass(frozen=True)
class Cost:
    """What a step cost: wall and CPU seconds, and the most memory of a worker and of the client, in bytes."""

    step: str
    wall: float
    cpu: float
    worker: int
    client: int


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512], help="sides of volumes, voxels")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="numbers of processes")
    parser.add_argument("--memory", help="limit of each worker, e.g. '2 GB'")
    parser.add_argument("--block", type=int, help="side of a block, voxels; by default chosen by the library")
    parser.add_argument("--peer", action="store_true", help="also the steps of the reference's scripts")
    parser.add_argument("--folder", type=Path, help="where volumes are kept; by default they are removed")
    options = parser.parse_args()
    print("| size | workers | step | wall s | CPU s | Mvoxel a CPU second | worker MB | client MB |")
    print("| ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: |")
    with folder(options.folder) as directory:
        for size in options.sizes:
            volume = directory / f"neuropil_{size}.zarr"
            make_volume(volume, size, max(options.workers))
            for workers in options.workers:
                out = directory / f"out_{size}_{workers}.zarr"
                with clusters.connect("local", num_workers=workers, memory=options.memory) as client:
                    costs = list(run(client, volume, out, options.block))
                for cost in [*costs, total(costs)]:
                    print(row(size, workers, cost), flush=True)
                if options.peer:
                    beside(volume, directory / f"peer_{size}.zarr", size, workers, total(costs))


def beside(volume: Path, out: Path, size: int, workers: int, ours: Cost) -> None:
    """Measure the steps of the reference's scripts, and compare all with ours."""
    started = last = time.perf_counter(), cpu_of_family()
    thresholds = np.arange(THRESHOLDS) / THRESHOLDS

    def show(step: str, wall: float, cpu: float) -> None:
        print(f"| {size}^3 | {workers} | reference: {step} | {wall:.1f} | {cpu:.1f} | | | |", flush=True)

    for step in Reference(volume, out, workers).run(thresholds, THRESHOLD):
        now = time.perf_counter(), cpu_of_family()
        show(step, now[0] - last[0], now[1] - last[1])
        last = now
    wall, cpu = last[0] - started[0], last[1] - started[1]
    show("**all**", wall, cpu)
    print(f"| | | reference / lsd_dask | {wall / ours.wall:.1f} | {cpu / ours.cpu:.1f} | | | |", flush=True)


@contextmanager
def folder(kept: Path | None) -> Iterator[Path]:
    if kept is None:
        with tempfile.TemporaryDirectory() as directory:
            yield Path(directory)
    else:
        kept.mkdir(parents=True, exist_ok=True)
        yield kept


def make_volume(container: Path, size: int, workers: int) -> None:
    """Write affinities and labels, unless they are there."""
    if (container / "complete").exists():
        return
    tissue = neuropil((size,) * 3, voxel_size=(VOXEL,) * 3, chunks=min(size, CHUNK), leaks=0.01)
    with clusters.connect("local", num_workers=workers):
        ld.save_volume(tissue.labels, container / "labels", overwrite=True)
        ld.save_volume(tissue.affinities, container / "affs", overwrite=True)
    (container / "complete").touch()


def run(client: Client, volume: Path, out: Path, block: int | None) -> Iterator[Cost]:
    """Do all steps anew, and measure each."""
    size = {} if block is None else {"block_size": (block * VOXEL,) * 3}
    affinities = {"affs_file": str(volume), "affs_dataset": "affs"}
    fragments = {"fragments_file": str(out)}
    edges = {"edges_collection": "edges_hist_quant_75"}
    thresholds = {"thresholds_minmax": (0, 1), "thresholds_step": 1 / THRESHOLDS}
    steps: dict[str, Callable[[], object]] = {
        "extract fragments": lambda: extract_fragments(**affinities, **fragments, **size, resume=False),
        "agglomerate": lambda: agglomerate(**affinities, **fragments, **size, merge_function="hist_quant_75"),
        "find segments": lambda: find_segments(**fragments, **edges, **thresholds),
        "extract segmentation": lambda: extract_segmentation(
            **fragments, **edges, **size, threshold=THRESHOLD, out_file=str(out)
        ),
        "evaluate volumes": lambda: evaluate_volumes(
            **fragments, **edges, **thresholds, gt_file=str(volume), gt_dataset="labels"
        ),
    }
    for name, step in steps.items():
        yield measured(client, name, step)


def measured(client: Client, name: str, step: Callable[[], object]) -> Cost:
    client.run(reset_peak)
    reset_peak()
    before, started = cpu_of_all(client), time.perf_counter()
    step()
    wall = time.perf_counter() - started
    workers = client.run(status, "VmHWM").values()
    return Cost(name, wall, cpu_of_all(client) - before, max(workers), status("VmHWM"))


def total(costs: Sequence[Cost]) -> Cost:
    return Cost(
        "**all**",
        sum(cost.wall for cost in costs),
        sum(cost.cpu for cost in costs),
        max(cost.worker for cost in costs),
        max(cost.client for cost in costs),
    )


def row(size: int, workers: int, cost: Cost) -> str:
    speed = size**3 / 1e6 / cost.cpu
    return (
        f"| {size}^3 | {workers} | {cost.step} | {cost.wall:.1f} | {cost.cpu:.1f} | {speed:.2f} | "
        f"{cost.worker / 1e6:.0f} | {cost.client / 1e6:.0f} |"
    )


def cpu_of_family() -> float:
    """CPU seconds of this process and those that it has started and that still run."""
    times = [process.cpu_times() for process in psutil.Process().children(recursive=True)]
    return time.process_time() + sum(t.user + t.system for t in times)


def cpu_of_all(client: Client) -> float:
    """CPU seconds of this process and its workers so far."""
    return time.process_time() + sum(client.run(time.process_time).values())


if __name__ == "__main__":
    sys.exit(main())
