"""A step in one file, as a user may add one to `lsd_dask.workflows.steps`: the voxels of each label.

`test_new_step` puts it there.
"""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import Field

from lsd_dask.blockwise.blocks import Block
from lsd_dask.blockwise.ledgers import Ledger
from lsd_dask.storage import files, parquet
from lsd_dask.volumes.overlap import StoredReader

from ..config.fields import Dataset, File, array_path
from ..config.options import Blocks, Region, RunOptions
from ..running.costs import Cost
from ..running.inputs import block_shape_for, identity_of, open_labels
from ..running.memory import BASE
from ..running.outputs import StepResult, cluster, report
from ..running.plans import StepPlan, execute, held
from ..running.tasks import add_up, write_table
from ..step import BlockStep, workflow


class CountVoxelsConfig(Blocks, Region, RunOptions):
    """Options of `count_voxels`."""

    step = "count_voxels"
    summary = "Count the voxels of each label."
    heading = "Labels"

    labels_file: File = Field(examples=["volume.zarr"])
    """Container of the labels; the table is written to it."""

    labels_dataset: Dataset = "volumes/labels"
    """Array of labels in it."""


class CountVoxels(BlockStep[CountVoxelsConfig]):
    """Count the voxels of each label, block by block.

    The table, ``voxels.parquet``, is written to the container.
    """

    model = CountVoxelsConfig
    container = "labels_file"

    def plan(self, options: CountVoxelsConfig) -> StepPlan:
        """Open the labels."""
        labels = open_labels(array_path(options.labels_file, options.labels_dataset), options)
        grid = labels.stored.grid.crop(labels.part)
        block_shape = block_shape_for(grid, options.block_size, labels.stored.path)
        ledger = self.ledger(
            options.labels_file, options.labels_dataset, labels=identity_of(labels), blocks=block_shape
        )
        return StepPlan(
            what="count voxels",
            options=options,
            ledger=ledger,
            grid=grid,
            block_shape=block_shape,
            cost=Cost(lambda shape: BASE + 24 * math.prod(shape)),
            task=lambda: _CountBlock(labels, ledger),
            made="numbers of voxels",
        )

    def run(self, options: CountVoxelsConfig) -> StepResult:
        """Count, and add up."""
        started = time.perf_counter()
        plan = self.plan(options)
        with cluster(options) as client, held(plan, client) as plan:
            summary = execute(plan, client)
            labels, voxels = add_up(client, plan.ledger, plan.blocks, _pair, _joined)
        path = files.join(options.labels_file, "voxels.parquet")
        parquet.write_table(path, {"label": labels, "voxels": voxels})
        seconds = time.perf_counter() - started
        return report(StepResult(self.name, {"voxels": path}, seconds, summary.blocks, summary.skipped))


@dataclass(frozen=True)
class _CountBlock:
    labels: StoredReader
    ledger: Ledger

    def compute(self, block: Block) -> dict[str, np.ndarray]:
        found, counts = np.unique(self.labels.read(block.region), return_counts=True)
        return {"labels": found, "voxels": counts}

    def write(self, block: Block, result: dict[str, np.ndarray]) -> Mapping[str, Any]:
        return {"labels": len(result["labels"]), "files": write_table(self.ledger, block, result)}


def _pair(table: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    return table["labels"], table["voxels"]


def _joined(tables: Any) -> tuple[np.ndarray, np.ndarray]:
    labels, voxels = (np.concatenate(column) for column in zip(*tables, strict=True))
    found, places = np.unique(labels, return_inverse=True)
    return found, np.bincount(places, weights=voxels).astype(np.int64)


count_voxels = workflow(CountVoxels())
