"""What it costs that blocks are on the disk before they are recorded: the pipeline with `fsync`, and without.

The pipeline of `pipeline.py` is run in pairs on the same volume: once as it is, and once with every call of
`fsync` turned into nothing, in this process and in all workers. Which of a pair comes first changes from
pair to pair, and before each run the disk is let to write what is left of the last one. The cost is the
median of the ratios of the pairs. It depends on the disk more than on the processor: give a folder of the
disk that counts. A file system in memory, which many machines have at /tmp, shows nothing.

    python benchmarks/durability.py --folder /data/scratch              # some minutes; the processor quiet
    python benchmarks/durability.py --size 96 --block 32 --pairs 1      # whether it works
"""

import argparse
import itertools
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import psutil
from all import machine
from distributed import Client
from pipeline import folder, make_volume, run, total

from lsd_dask import clusters

#: The cost that docs/faults.md speaks of, as a share of the wall time of all steps.
AIM = 0.03

_FSYNC = os.fsync
_calls = itertools.count()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=512, help="side of the volume, voxels")
    parser.add_argument("--block", type=int, help="side of a block, voxels; by default chosen by the library")
    parser.add_argument("--workers", type=int, default=2, help="number of processes")
    parser.add_argument("--pairs", type=int, default=5, help="how often it is run both ways")
    parser.add_argument("--folder", type=Path, help="where volumes are kept; by default they are removed")
    options = parser.parse_args()
    seconds: dict[bool, list[dict[str, float]]] = {True: [], False: []}
    with folder(options.folder) as directory:
        volume, out = directory / f"neuropil_{options.size}.zarr", directory / "out_durability.zarr"
        make_volume(volume, options.size, options.workers)
        with clusters.connect("local", num_workers=options.workers) as client:
            list(run(client, volume, out, options.block))  # workers import and compile for the first one
            for pair in range(options.pairs):
                for synced in (True, False) if pair % 2 else (False, True):
                    seconds[synced].append(once(client, volume, out, options.block, synced=synced))
            syncs = sum(client.run(count_syncs).values()) + count_syncs()
        shutil.rmtree(out)
        where = file_system(directory)
    print("| step | with fsync, wall s | without, wall s | cost |")
    print("| --- | ---: | ---: | ---: |")
    for step in seconds[True][0]:
        sides = [[costs[step] for costs in seconds[synced]] for synced in (True, False)]
        print(f"| {step} | {median(sides[0]):.2f} | {median(sides[1]):.2f} | {cost(*sides):+.1%} |")
    print(
        f"\n*{options.size}^3 voxels on {where}, {options.workers} workers, {options.pairs} pairs, ", end=""
    )
    print(f"{syncs / options.pairs:.0f} syncs a run; {machine()}*")
    every = [[costs["**all**"] for costs in seconds[synced]] for synced in (True, False)]
    if cost(*every) > AIM:
        sys.exit(f"durability costs {cost(*every):.1%}, expected at most {AIM:.0%}")


def once(client: Client, volume: Path, out: Path, block: int | None, *, synced: bool) -> dict[str, float]:
    """Wall seconds of each step, and of all, of a run with `fsync` or without."""
    shutil.rmtree(out)
    os.sync()
    client.run(set_syncing, synced)
    set_syncing(synced)
    try:
        costs = list(run(client, volume, out, block))
    finally:
        client.run(set_syncing, True)
        set_syncing(True)
    return {cost.step: cost.wall for cost in [*costs, total(costs)]}


def set_syncing(synced: bool) -> None:
    """Let `fsync` do what it does, and count its calls; or nothing."""

    def counted(handle: int) -> None:
        next(_calls)
        _FSYNC(handle)

    os.fsync = counted if synced else lambda handle: None


def count_syncs() -> int:
    """How often this process called `fsync` while that was counted."""
    return next(_calls)


def cost(synced: Sequence[float], unsynced: Sequence[float]) -> float:
    """Median of what each pair cost more with `fsync`, as a share."""
    return median(a / b for a, b in zip(synced, unsynced, strict=True)) - 1


def file_system(path: Path) -> str:
    """Kind of the file system that a folder lies in."""
    around = [
        part for part in psutil.disk_partitions(all=True) if path.resolve().is_relative_to(part.mountpoint)
    ]
    return max(around, key=lambda part: len(part.mountpoint)).fstype


if __name__ == "__main__":
    main()
