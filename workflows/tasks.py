"""What the tasks of all steps share: how a block's result is written, and how tables are added up."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dask.bag as db
import numpy as np
from distributed import Client

from lsd_dask import files
from lsd_dask.blocks import Block, BlockGrid
from lsd_dask.ledgers import Ledger
from lsd_dask.region_graph import FAN_IN
from lsd_dask.storage import StoredVolume


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
        if foreground:
            self.out.write(block.region, result)
        return {"foreground": foreground}


def write_table(ledger: Ledger, block: Block, arrays: Mapping[str, np.ndarray]) -> None:
    """Write the table of a block beside the ledger, so that an interrupted run goes on."""
    files.write_arrays(_table_path(ledger, block), arrays)


def add_up[T](
    client: Client,
    ledger: Ledger,
    blocks: BlockGrid,
    read: Callable[[Mapping[str, np.ndarray]], T],
    join: Callable[[Sequence[T]], T],
) -> T:
    """The sum of the tables of all blocks, as a tree of tasks on the cluster.

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
    """
    paths = db.from_sequence([_table_path(ledger, block) for block in blocks], partition_size=FAN_IN)
    total = paths.reduction(_JoinFiles(read, join), _Join(join), split_every=FAN_IN)
    result: T = client.compute(total).result()
    return result


def remove_tables(ledger: Ledger) -> None:
    """Remove the tables of all blocks, once their sum is kept."""
    files.remove(files.join(ledger.directory, "tables"))


@dataclass(frozen=True)
class _JoinFiles[T]:
    read: Callable[[Mapping[str, np.ndarray]], T]
    join: Callable[[Sequence[T]], T]

    def __call__(self, paths: Sequence[str]) -> T:
        return self.join([self.read(files.read_arrays(path)) for path in paths])


@dataclass(frozen=True)
class _Join[T]:
    join: Callable[[Sequence[T]], T]

    def __call__(self, tables: Sequence[T]) -> T:
        return self.join(list(tables))


def _table_path(ledger: Ledger, block: Block) -> str:
    return files.join(ledger.directory, "tables", f"{block.name}.npz")
