"""How steps are timed beside their peers: in turns, so that both see the same machine; medians."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

HEADER = "| step | who | CPU s | wall s | ratio |\n| --- | --- | ---: | ---: | ---: |"


@dataclass(frozen=True)
class Timed:
    """Medians of CPU and wall seconds, and the last result."""

    cpu: float
    wall: float
    result: Any


def in_turns(sides: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, Timed]:
    """Time several ways to do the same, one after the other, `repeats` times."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    results: dict[str, Any] = {}
    for _ in range(repeats):
        for name, side in sides.items():
            cpu, wall = time.process_time(), time.perf_counter()
            results[name] = side()
            seconds[name].append((time.process_time() - cpu, time.perf_counter() - wall))
    return {
        name: Timed(median(c for c, _ in found), median(w for _, w in found), results[name])
        for name, found in seconds.items()
    }


def rows(step: str, timed: Mapping[str, Timed]) -> str:
    """Rows of a table; ratios are CPU seconds as multiples of the first side's, which is ours."""
    ours = next(iter(timed.values()))
    return "\n".join(
        f"| {step} | {name} | {side.cpu:.3f} | {side.wall:.3f} | {side.cpu / ours.cpu:.1f} |"
        for name, side in timed.items()
    )
