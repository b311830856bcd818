"""Local shape descriptors of a whole volume of labels: training targets, computed once."""

import time
from dataclasses import asdict, dataclass

import numpy as np

from lsd_dask.blockwise.blocks import Block, BlockGrid
from lsd_dask.kernels.descriptors import labels as label_kernels
from lsd_dask.targets.descriptors import Method, make_method
from lsd_dask.volumes.overlap import Haloed, StoredReader

from ..config.steps import LsdsConfig
from ..running.first_run import say_if_compiled
from ..running.inputs import block_shape_for, identity_of, open_labels
from ..running.memory import check_memory, description, worker_limit
from ..running.outputs import StepResult, check_output, cluster, hold, ledger_for, prepare_volume, report, run
from ..running.tasks import VolumeTask
from ..step import workflow


@workflow(LsdsConfig)
def lsds(config: LsdsConfig) -> StepResult:
    """Write the local shape descriptors of a volume of labels, block by block.

    Blocks read the context they need from the labels, so that no block shows in the result.
    """
    started = time.perf_counter()
    labels = open_labels(config.labels_path, config)
    grid = labels.stored.grid.crop(labels.part)
    method = make_method(
        grid,
        config.sigma,
        components=config.components,
        mode=config.mode,
        downsample=config.downsample,
    )
    if any(n % config.downsample for n in grid.shape):
        raise ValueError(
            f"{config.labels_path}: found {grid.shape} voxels, expected multiples of downsample "
            f"{config.downsample}."
        )
    block_shape = block_shape_for(grid, config.block_size, config.labels_path)
    identity = {
        "labels": identity_of(labels),
        "descriptors": asdict(method),
        "dtype": config.dtype,
        "blocks": block_shape,
    }
    ledger = ledger_for(config.lsds_file, "lsds", config.lsds_dataset, identity)
    check_output(ledger, config.lsds_path, labels.stored.path, overwrite=config.overwrite)
    with hold(ledger), cluster(config) as client:
        needs = description(labels, method, config.dtype)
        check_memory("describe shapes", needs, block_shape, grid, worker_limit(client))
        out = prepare_volume(
            ledger,
            config,
            config.lsds_path,
            grid,
            config.dtype,
            block_shape,
            "descriptors",
            channels=len(method.channels),
        )
        task = _DescribeBlock(out, labels, method)
        say_if_compiled(label_kernels)
        blocks = BlockGrid(grid.shape, block_shape)
        summary = run("describe shapes", task, blocks, ledger, client, verify=config.verify)
    return report(
        StepResult(
            "lsds",
            {"descriptors": config.lsds_path},
            time.perf_counter() - started,
            summary.blocks,
            summary.skipped,
        )
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
