"""What the tasks of all steps share: how a block's result is written, and how tables are added up."""

import itertools
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dask.bag as db
import numpy as np
import psutil
from distributed import Client

from lsd_dask.blockwise.blocks import Block, BlockGrid
from lsd_dask.blockwise.ledgers import Ledger
from lsd_dask.segmentation.region_graph import FAN_IN
from lsd_dask.storage import files
from lsd_dask.volumes.stored import StoredVolume

from .memory import check_sum, sum_fits, worker_limit

#: Most tasks that read tables: where there are more blocks than these could read a few each, they read more.
READERS = 4096


@dataclass(frozen=True)
class VolumeTask:
    """Writes blocks of a volume.

    Attributes
    ----------
    out
        The volume; a block of it is made of whole shards.
    """

    out: StoredVolume

    def write(self, block: Block, result: np.ndarray) -> Mapping[str, Any]:
        """Write a block. Arrays begin as zeros: what is all background is recorded, not written."""
        foreground = int(np.count_nonzero(result if self.out.channels is None else result.any(axis=0)))
        if not foreground:
            return {"foreground": 0}
        self.out.write(block.region, result)
        return {"foreground": foreground, "files": self.out.shards(block.region)}


def write_table(ledger: Ledger, block: Block, arrays: Mapping[str, np.ndarray]) -> list[str]:
    """Write the table of a block beside the ledger, so that an interrupted run goes on; its path."""
    path = table_path(ledger, block)
    files.write_arrays(path, arrays)
    return [path]


def add_up[T](
    client: Client,
    ledger: Ledger,
    blocks: BlockGrid,
    read: Callable[[Mapping[str, np.ndarray]], T],
    join: Callable[[Sequence[T]], T],
) -> T:
    """The sum of the tables of all blocks.

    It is made as a tree of tasks on the cluster. Where that would be one task, or a worker's memory is not
    enough, this process makes it, which is to hold it anyway.

    Parameters
    ----------
    client
        Of the cluster.
    ledger
        Of the step.
    blocks
        Their tables are all there.
    read
        Makes a table of what `write_table` wrote.
    join
        Adds up several tables.

    Raises
    ------
    MemoryError
        If the sum fits neither into a worker nor into this process.

    Notes
    -----
    The tree has at most a few thousand tasks, however many blocks there are.
    """
    size, limit = files.size_of(tables_of(ledger)), worker_limit(client)
    here = len(blocks) <= FAN_IN and sum_fits(size, psutil.virtual_memory().available)
    if not (here or sum_fits(size, limit)):
        check_sum(str(ledger.identity["step"]), size, limit)
        here = True
    if here:
        return join([read(files.read_arrays(table_path(ledger, block))) for block in blocks])
    each = max(FAN_IN, -(-len(blocks) // READERS))
    starts = db.from_sequence(range(0, len(blocks), each), partition_size=1)
    adding = _AddingFiles(join, read, ledger, blocks, each, uuid.uuid4().hex)
    total = starts.reduction(adding, _Adding(join), split_every=FAN_IN)
    result: T = client.compute(total).result()
    return result


def remove_tables(ledger: Ledger) -> None:
    """Remove the tables of all blocks, once their sum is kept."""
    files.remove(tables_of(ledger))


@dataclass(frozen=True)
class _Adding[T]:
    join: Callable[[Sequence[T]], T]

    def __call__(self, tables: Iterable[T]) -> T:
        return self.join(list(tables))


@dataclass(frozen=True)
class _AddingFiles[T]:
    """Adds up the tables of some blocks, a few at a time."""

    join: Callable[[Sequence[T]], T]
    read: Callable[[Mapping[str, np.ndarray]], T]
    ledger: Ledger
    blocks: BlockGrid
    each: int
    #: Names the tasks, so that what became of earlier ones is never taken for these.
    token: str

    def __call__(self, starts: Iterable[int]) -> T:
        (start,) = starts
        total: list[T] = []
        stop = min(start + self.each, len(self.blocks))
        for some in itertools.batched(self.blocks.between(start, stop), FAN_IN):
            tables = (self.read(files.read_arrays(table_path(self.ledger, block))) for block in some)
            total = [self.join([*total, *tables])]
        return total[0]


def tables_of(ledger: Ledger) -> str:
    """Folder of the tables of a step's blocks."""
    return files.join(ledger.directory, "tables")


def table_path(ledger: Ledger, block: Block) -> str:
    """Path of the table of a block."""
    return files.join(tables_of(ledger), f"{block.name}.npz")
