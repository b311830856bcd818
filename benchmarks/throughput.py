"""Throughput of steps over the number of workers, of one thread each.

The blocks are the same for every number of workers. The ideal is as many times as fast as one worker, up to
the number of cores; more workers than cores gain only what waiting for the disk leaves.

    python benchmarks/throughput.py                              # 1, 2, 4, 8 workers, 256^3, some minutes
    python benchmarks/throughput.py --size 128 --workers 1 2     # to see that it runs
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from distributed import Client, LocalCluster
from pipeline import VOXEL, make_volume

from lsd_dask import workflows
from lsd_dask.workflows.running.outputs import StepResult


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 8], help="numbers of processes")
    parser.add_argument("--size", type=int, default=256, help="side of the volume, voxels")
    parser.add_argument("--block", type=int, default=64, help="side of a block, voxels")
    parser.add_argument("--folder", type=Path, help="where volumes are kept; by default they are removed")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    print(f"{os.cpu_count()} cores, load before: {load:.1f}\n")
    print("| workers | step | blocks | wall s | Mvoxel/s | CPU s of workers | times one worker |")
    print("| ---: | --- | ---: | ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        volume = Path(folder) / "in.zarr"
        make_volume(volume, options.size, 2)
        first: dict[str, float] = {}
        for workers in options.workers:
            measure(volume, Path(folder) / f"out_{workers}.zarr", options, workers, first)


def measure(
    volume: Path, out: Path, options: argparse.Namespace, workers: int, first: dict[str, float]
) -> None:
    """Run the steps that are done by blocks, each once to have all workers warm, and once more."""
    size = {"block_size": (options.block * VOXEL,) * 3}
    affinities = {"affs_file": str(volume), "affs_dataset": "affs"}
    fragments = {"fragments_file": str(out)}
    steps: dict[str, Callable[[], StepResult]] = {
        "extract fragments": lambda: workflows.extract_fragments(
            **affinities, **fragments, **size, resume=False
        ),
        "agglomerate": lambda: workflows.agglomerate(**affinities, **fragments, **size, resume=False),
        "extract segmentation": lambda: workflows.extract_segmentation(
            **fragments, **size, threshold=0.5, out_file=str(out), resume=False
        ),
    }
    with (
        LocalCluster(
            n_workers=workers, threads_per_worker=1, memory_limit=0, dashboard_address=":0"
        ) as cluster,
        Client(cluster) as client,
    ):
        for name, step in steps.items():
            if name == "extract segmentation":
                workflows.find_segments(**fragments)
            step()
            before, started = cpu_of(client), time.perf_counter()
            result = step()
            wall, cpu = time.perf_counter() - started, cpu_of(client) - before
            first.setdefault(name, wall)
            speed = options.size**3 / 1e6 / wall
            print(
                f"| {workers} | {name} | {result.blocks} | {wall:.1f} | {speed:.1f} | {cpu:.1f} | "
                f"{first[name] / wall:.2f} |",
                flush=True,
            )


def cpu_of(client: Client) -> float:
    """CPU seconds of all workers so far."""
    return float(np.sum(list(client.run(time.process_time).values())))


if __name__ == "__main__":
    main()
