"""What a machine gives to two processes at once: arithmetic, and reading and writing memory.

A ratio of 1.0 is two cores that do not notice each other, 2.0 is no gain at all. It bounds what any step can
gain from a second process.

    python benchmarks/two_processes.py     # a minute
"""

import multiprocessing
import time
from collections.abc import Callable
from statistics import median

import numpy as np

REPEATS = 5


def arithmetic() -> None:
    total = 0
    for i in range(10_000_000):
        total += i * i


def memory() -> None:
    voxels = np.ones(32_000_000)
    for _ in range(10):
        voxels += 1


def fresh_memory() -> None:
    for _ in range(20):
        np.ones(8_000_000)


def seconds(work: Callable[[], None]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    print("| work | one process, s | two at once, s | ratio |")
    print("| --- | ---: | ---: | ---: |")
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pool.map(seconds, [arithmetic, memory], chunksize=1)
        for work in (arithmetic, memory, fresh_memory):
            alone, together = [], []
            for _ in range(REPEATS):
                alone.append(pool.apply(seconds, [work]))
                together.append(max(pool.map(seconds, [work, work], chunksize=1)))
            one, two = median(alone), median(together)
            name = work.__name__.replace("_", " ")
            print(f"| {name} | {one:.2f} | {two:.2f} | {two / one:.2f} |", flush=True)


if __name__ == "__main__":
    main()
