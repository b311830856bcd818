"""Work on the cells of an octree over the blocks of a volume: one level after the other, each resumable."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distributed import Client

from lsd_dask.blockwise.blocks import Block
from lsd_dask.blockwise.ledgers import Ledger
from lsd_dask.blockwise.octree import Octree
from lsd_dask.blockwise.runs import BlockTask
from lsd_dask.storage import files

from ..config.options import RunOptions
from ..running.memory import BASE, USABLE
from ..running.outputs import console, prepare, run

#: Lets Linux begin anew with the peak memory of this process.
_CLEAR_PEAK = Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Cells:
    """Tables of the cells of an octree on disk.

    Attributes
    ----------
    directory
        Path or URL of their folder.
    octree
        The cells.
    """

    directory: str
    octree: Octree

    def path(self, level: int, cell: Block, *parts: str) -> str:
        """Path of a table of a cell, or of the folder of all of them."""
        return files.join(self.directory, str(level), cell.name, *parts)

    def remove(self) -> None:
        """Remove all tables, of whatever octree, and nothing else."""
        for name in files.names(self.directory):
            if name.isdecimal():
                files.remove(files.join(self.directory, name))

    def all_paths(self, *parts: str) -> list[str]:
        """Paths of a table of every cell."""
        return [self.path(level, cell, *parts) for level, cell in self.octree.all_cells()]


@dataclass(frozen=True)
class CellsDone:
    """What working on some cells took.

    Attributes
    ----------
    cells, skipped
        Number of cells, and how many of them an earlier run had done.
    peak_memory
        Most bytes that a process held at any time of a cell: by what was made, level and name of the cell.
    """

    cells: int
    skipped: int
    peak_memory: Mapping[str, int]

    @property
    def facts(self) -> dict[str, Any]:
        """For the report of a step."""
        largest = max(self.peak_memory.values(), default=0)
        return {"cells": self.cells, "MB at most in one of them": round(largest / 1e6)}

    def __add__(self, other: "CellsDone") -> "CellsDone":
        peaks = {**self.peak_memory, **other.peak_memory}
        return CellsDone(self.cells + other.cells, self.skipped + other.skipped, peaks)


def run_cells(
    client: Client,
    options: RunOptions,
    ledger: Ledger,
    cells: Cells,
    levels: Iterable[int],
    tasks: Mapping[int, BlockTask[Any]],
    what: str,
) -> CellsDone:
    """Run a task on all cells of some levels, one level after the other.

    Parameters
    ----------
    client
        Of the cluster.
    options
        Say whether to resume.
    ledger
        Of which each level has one in a folder of its own.
    cells
        Of the octree.
    levels
        In the order in which they are done.
    tasks
        What is done, by level.
    what
        What is made, for messages.
    """
    skipped, total = 0, 0
    peaks: dict[str, int] = {}
    for level in levels:
        grid = cells.octree.cells(level)
        own = Ledger(files.join(ledger.directory, str(level)), {**ledger.identity, "level": level})
        name = f"{what}, level {level} of {cells.octree.depth}"
        if not prepare(own, options, what=name):
            own.begin(grid)
        summary = run(name, tasks[level], grid, own, client, verify=options.verify)
        skipped, total = skipped + summary.skipped, total + len(grid)
        held = {cell.name: _peak_memory(own, cell) for cell in grid}
        peaks |= {f"{what}/{level}/{cell}": peak for cell, peak in held.items()}
        console.print(f"  {name}: {len(grid)} cells, {max(held.values()) / 1e6:.0f} MB at most")
    return CellsDone(total, skipped, peaks)


def _peak_memory(ledger: Ledger, cell: Block) -> int:
    return int(files.read_json(files.join(ledger.directory, "blocks", f"{cell.name}.json"))["peak_memory"])


def begin_measuring() -> None:
    """Let the peak memory that is recorded of a cell be its own, where Linux can tell."""
    if os.access(_CLEAR_PEAK, os.W_OK):
        _CLEAR_PEAK.write_text("5")


def check_cell(what: str, cell: Block, needed: float, limit: int | None) -> None:
    """Check that a worker's memory is enough for what is known of a cell.

    Raises
    ------
    MemoryError
        If it is not; the message says what would be.
    """
    total = BASE + needed
    if limit and total > USABLE * limit:
        raise MemoryError(
            f"{what}: the tables of voxels {cell.place} need about {total / 1e9:.3g} GB, but a worker may "
            f"use {USABLE * limit / 1e9:.3g} GB ({USABLE:.0%} of its memory). Give workers "
            f"{total / USABLE / 1e9:.3g} GB or more; what is done will be skipped when it is run again."
        )
