"""Local shape descriptors of a whole volume of labels: training targets, computed once."""

from dataclasses import asdict, dataclass

import numpy as np

from lsd_dask.blockwise.blocks import Block
from lsd_dask.kernels.descriptors import labels as label_kernels
from lsd_dask.targets.descriptors import Method, make_method
from lsd_dask.volumes.overlap import Haloed, StoredReader

from ..config.steps import LsdsConfig
from ..running.costs import Cost
from ..running.inputs import block_shape_for, identity_of, open_labels
from ..running.memory import description
from ..running.outputs import Output, check_output
from ..running.plans import StepPlan
from ..running.tasks import VolumeTask
from ..step import BlockStep, workflow


class Lsds(BlockStep[LsdsConfig]):
    """Write the local shape descriptors of a volume of labels, block by block.

    Blocks read the context they need from the labels, so that no block shows in the result.
    """

    model = LsdsConfig
    container = "lsds_file"

    def plan(self, options: LsdsConfig) -> StepPlan:
        """Choose the method; see `BlockStep.plan`."""
        labels = open_labels(options.labels_path, options)
        grid = labels.stored.grid.crop(labels.part)
        method = make_method(
            grid,
            options.sigma,
            components=options.components,
            mode=options.mode,
            downsample=options.downsample,
        )
        if any(n % options.downsample for n in grid.shape):
            raise ValueError(
                f"{options.labels_path}: found {grid.shape} voxels, expected multiples of downsample "
                f"{options.downsample}."
            )
        block_shape = block_shape_for(grid, options.block_size, options.labels_path)
        ledger = self.ledger(
            options.lsds_file,
            options.lsds_dataset,
            labels=identity_of(labels),
            descriptors=asdict(method),
            dtype=options.dtype,
            blocks=block_shape,
        )
        check_output(ledger, options.lsds_path, labels.stored.path, overwrite=options.overwrite)
        return StepPlan(
            what="describe shapes",
            options=options,
            ledger=ledger,
            grid=grid,
            block_shape=block_shape,
            cost=Cost(description(labels, method, options.dtype)),
            task=lambda out: _DescribeBlock(out, labels, method),
            made="descriptors",
            volumes=[Output("descriptors", options.lsds_path, options.dtype, len(method.channels))],
            kernels=[label_kernels],
        )


@dataclass(frozen=True)
class _DescribeBlock(VolumeTask):
    labels: StoredReader
    method: Method

    def compute(self, block: Block) -> np.ndarray:
        values = Haloed(self.method, self.method.depth)(block.region, self.labels)
        if self.out.dtype == np.uint8:
            values *= np.float32(255)
            np.rint(values, out=values)
            values = values.astype(np.uint8)
        return values


lsds = workflow(Lsds())
