"""What a run will take, before it begins: ``lsd-dask plan``."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from dask.utils import parse_bytes
from rich.table import Column, Table

from lsd_dask.blockwise.blocks import BlockGrid
from lsd_dask.segmentation.region_graph import CountRegion
from lsd_dask.space.grids import Grid
from lsd_dask.space.neighborhoods import lifted
from lsd_dask.volumes.formats.zarr_creating import normalise_path
from lsd_dask.volumes.opening import open_stored
from lsd_dask.volumes.overlap import StoredReader
from lsd_dask.volumes.stored import StoredVolume

from .config.loading import load_config
from .config.steps import ExtractFragmentsConfig, SegmentConfig
from .registry import block_step_named
from .running import costs, memory, rates
from .running.costs import Cost
from .running.inputs import block_shape_for, check_labels, offsets_of, shared_part
from .running.outputs import console
from .steps.extract_fragments import ExtractFragments, rules_for

type Neighborhood = tuple[tuple[int, ...], ...] | None

#: What a table has where nothing was counted or measured.
_UNKNOWN = "?"

_BYTES = "Bytes are before compression."

#: Numbers of workers that a plan is made for, unless others are asked for.
WORKERS = (1, 10, 100, 1000)


@dataclass(frozen=True)
class StepCost:
    """What a step will take.

    Attributes
    ----------
    step
        Name of the step.
    blocks, tasks
        Number of blocks, and of dask's tasks.
    read, written
        Bytes, before compression, context included; None where nobody counted them.
    memory
        Bytes that a worker should have, for one block at a time.
    core_seconds
        Of all workers together; None where nobody measured how fast the step is.
    serial_seconds
        Of one process, while the others wait.
    """

    step: str
    blocks: int
    tasks: int
    read: int | None
    written: int | None
    memory: int
    core_seconds: float | None
    serial_seconds: float = 0.0

    def seconds(self, workers: int) -> float:
        """Wall time with a number of workers of one thread.

        Blocks are done in waves, and no faster than the scheduler hands them out.
        """
        waves = math.ceil(self.blocks / workers) * (self.core_seconds or 0.0) / max(1, self.blocks)
        return max(waves, self.tasks * rates.SCHEDULING) + self.serial_seconds


@dataclass(frozen=True)
class Plan:
    """What `segment`, or another step, will take.

    Attributes
    ----------
    shape
        Of what is segmented, in voxels.
    block_shape
        In voxels.
    steps
        In the order in which they run.
    fragments, edges
        Expected size of the region graph; 0 where none is made.
    graph_bytes
        Memory of the process that holds the graph, while it is added up.
    workers
        Numbers of workers that it is told for.
    remarks
        What is not counted.
    """

    shape: tuple[int, ...]
    block_shape: tuple[int, ...]
    steps: tuple[StepCost, ...]
    fragments: int = 0
    edges: int = 0
    graph_bytes: int = 0
    workers: tuple[int, ...] = WORKERS
    remarks: tuple[str, ...] = ()

    @property
    def core_hours(self) -> float:
        """Of all steps."""
        return sum((step.core_seconds or 0.0) + step.serial_seconds for step in self.steps) / 3600

    @property
    def memory(self) -> int:
        """Bytes that a worker should have, for one block of any step at a time."""
        return max(step.memory for step in self.steps if step.blocks)

    def seconds(self, workers: int) -> float:
        """Wall time of all steps with a number of workers of one thread."""
        return sum(step.seconds(workers) for step in self.steps)


def plan(
    config: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    *,
    step: str = "segment",
    workers: Sequence[int] = WORKERS,
    **options: Any,
) -> Plan:
    """Tell what `segment`, or another step, will take, without doing any of it.

    Everything is checked as by the step itself, and shapes are those of the data. Seconds and the size of
    the graph come from the rates in ``running/rates.py``, which were measured on one machine with synthetic
    tissue: they tell a minute from an hour, not 40 minutes from 50.

    Parameters
    ----------
    config, **options
        As for the step.
    step
        Name of the step: "segment", or one that is done in blocks, whose inputs have to be there.
    workers
        Numbers of workers of one thread each.

    Returns
    -------
    Plan

    Raises
    ------
    ConfigError, FileNotFoundError, FileExistsError, TypeError, ValueError
        As by the step, or if a number of workers is not positive.
    """
    if not workers or min(workers) < 1:
        raise ValueError(f"num_workers: found {list(workers)}, expected positive whole numbers")
    if step == "segment":
        return _plan_segment(load_config(SegmentConfig, config, **options), tuple(workers))
    alone = block_step_named(step)
    found = alone.plan(load_config(alone.model, config, **options))
    steps = (_by_blocks(found.what, found.blocks, found.cost),)
    return Plan(found.grid.shape, found.block_shape, steps, workers=tuple(workers), remarks=(_BYTES,))


def _plan_segment(config: SegmentConfig, workers: tuple[int, ...]) -> Plan:
    """Ask the plan of the first step, and reckon with what it will have made for all others."""
    steps: list[StepCost] = []
    remarks = [_BYTES]
    neighborhood: Neighborhood = config.neighborhood
    if config.checkpoint is None:
        made = {"fragments_file": config.out_file, "fragments_dataset": config.fragments_dataset}
        read = {"affs_file": config.affs_file, "affs_dataset": config.affs_dataset}
        found = ExtractFragments().plan(config.part(ExtractFragmentsConfig, **read, **made))
        affinities, extracting = found.affinities, found.cost
        grid, block = found.grid, found.block_shape
    else:
        step, affinities, neighborhood = _prediction(config)
        steps.append(step)
        remarks.append("Prediction is told for processors; no GPU has been measured.")
        grid = affinities.stored.grid
        block = block_shape_for(grid, config.block_size, affinities.stored.path)
        extracting = costs.extraction(affinities, rules_for(config, grid), block)
    blocks = BlockGrid(grid.shape, block)
    count = CountRegion(lifted(offsets_of(affinities.stored, neighborhood)))
    labels = _not_there_yet(config.fragments_path, grid, "uint64", block)
    fragments, edges = (int(density * math.prod(grid.shape)) for density in (rates.FRAGMENTS, rates.EDGES))
    counting = _by_blocks("build region graph", blocks, costs.counting(affinities, labels, count, block))
    relabelling = costs.relabelling(labels, fragments)
    steps.append(_by_blocks("extract fragments", blocks, extracting))
    if any((config.filter_fragments, config.epsilon_agglomerate, config.remove_debris)):
        steps += [counting, _adding(edges), _by_blocks("refine fragments", blocks, relabelling)]
    steps += [counting, _adding(edges), _merging(edges), _cutting(fragments, len(config.thresholds))]
    if config.gt_path is not None:
        steps.append(_evaluation(config.gt_path, affinities))
    steps.append(_by_blocks("extract segmentation", blocks, relabelling))
    held = int(memory.BASE + memory.ADDING * rates.EDGE_HELD * edges)
    if config.octree:
        remarks.append("With octree, no process holds the graph; adding up and merging is work of many.")
    return Plan(grid.shape, block, tuple(steps), fragments, edges, held, workers, tuple(remarks))


def print_plan(found: Plan) -> None:
    """Print a plan as two tables: the steps, and wall times by the number of workers."""
    worker = "; a worker needs"
    if found.graph_bytes:
        worker = (
            f"; expected are {found.fragments:,} fragments and {found.edges:,} edges. The process that adds "
            f"up the graph needs {_bytes(found.graph_bytes)}, a worker"
        )
    console.print(
        f"{_times(found.shape)} voxels in blocks of {_times(found.block_shape)}{worker} "
        f"{_bytes(found.memory)} for each thread."
    )
    table = Table("step", "blocks", "tasks", "read", "written", "a worker", "core hours", box=None)
    for step in found.steps:
        hours = None if step.core_seconds is None else (step.core_seconds + step.serial_seconds) / 3600
        table.add_row(
            step.step,
            f"{step.blocks:,}",
            f"{step.tasks:,}",
            _bytes(step.read),
            _bytes(step.written),
            _bytes(step.memory),
            _UNKNOWN if hours is None else f"{hours:.3g}",
        )
    console.print(table)
    if all(step.core_seconds is not None for step in found.steps):
        _print_times(found)
    else:
        console.print("How long it takes has not been measured.")
    for remark in found.remarks:
        console.print(remark)


def _print_times(found: Plan) -> None:
    names = ("workers", *(step.step for step in found.steps), "all")
    times = Table(*(Column(name, overflow="fold") for name in names), box=None)
    for workers in found.workers:
        each = [_duration(step.seconds(workers)) for step in found.steps]
        times.add_row(f"{workers:,}", *each, _duration(found.seconds(workers)))
    console.print(times)
    console.print(f"{found.core_hours:.3g} core hours in all. Rates are of {rates.MACHINE}.")


def _prediction(config: SegmentConfig) -> tuple[StepCost, StoredReader, Neighborhood]:
    """What predicting takes, and the affinities that will be there."""
    # PyTorch is optional.
    from lsd_dask.networks.flops import forward_operations
    from lsd_dask.prediction.symmetries import symmetries

    from .steps.predict import Predict
    from .steps.segment import neighborhood_of, prediction_of

    limit = None if config.memory is None else parse_bytes(config.memory)
    found = Predict().plan(prediction_of(config)).fitted(limit)
    tile, block = found.predict.tile_shape, found.block_shape
    predictor, grid = found.predict.predictor, found.grid
    read, _ = found.predict.tile_bytes(block)
    blocks = BlockGrid(grid.shape, block)
    tiles = len(blocks) * math.prod(-(-b // t) for b, t in zip(block, tile, strict=True))
    turns = len(symmetries(predictor.config.dims, config.augmentation))
    operations = tiles * turns * forward_operations(predictor.own_config, read)
    channels = predictor.channels
    raw = found.raw.stored
    each = math.prod(read) * raw.dtype.itemsize * (raw.channels or 1)
    step = StepCost(
        "predict",
        len(blocks),
        len(blocks),
        tiles * each,
        channels * math.prod(grid.shape),
        found.cost.needs(block),
        operations / rates.CONVOLUTION + len(blocks) * rates.RECORDING,
    )
    affinities = _not_there_yet(found.outputs["affinities"], grid, "uint8", block, channels)
    return step, affinities, neighborhood_of(config)


def _adding(edges: int) -> StepCost:
    return _whole(
        "add up the graph",
        rates.EDGE_COUNTED * edges,
        rates.EDGE_STORED * edges,
        memory.BASE + int(memory.ADDING * rates.EDGE_HELD * edges),
        rates.ADDING * edges,
    )


def _merging(edges: int) -> StepCost:
    held = memory.BASE + int(2 * rates.EDGE_HELD * edges)
    # The graph is written meanwhile.
    seconds = (max(rates.MERGING, rates.WRITING_GRAPH) + rates.SCORING) * edges
    return _whole("agglomerate", rates.EDGE_STORED * edges, 24 * edges, held, seconds)


def _cutting(fragments: int, thresholds: int) -> StepCost:
    rows = thresholds * fragments
    held = memory.BASE + memory.TABLE_ROW * fragments
    return _whole("find segments", 25 * fragments, rates.LOOKUP_ROW * rows, held, rates.CUTTING * rows)


def _evaluation(path: str, affinities: StoredReader) -> StepCost:
    truth, common = shared_part(open_stored(path), affinities, affinities.stored.path)
    check_labels(truth)
    grid = common.stored.grid.crop(common.part)
    blocks = BlockGrid(grid.shape, block_shape_for(grid, None, path))
    fragments = _not_there_yet(path, grid, "uint64", blocks.block_shape)
    return _by_blocks("evaluate volumes", blocks, costs.overlaps(truth, fragments, (0,) * grid.ndim))


def _by_blocks(step: str, blocks: BlockGrid, cost: Cost) -> StepCost:
    seconds = None if cost.seconds is None else cost.seconds + len(blocks) * rates.RECORDING
    least = math.ceil(cost.needs(blocks.block_shape) / memory.USABLE)
    return StepCost(step, len(blocks), len(blocks), cost.read, cost.written, least, seconds)


def _whole(step: str, read: int, written: int, held: int, seconds: float) -> StepCost:
    """A step that one process does."""
    return StepCost(step, 0, 0, read, written, math.ceil(held / memory.USABLE), 0.0, seconds)


class _NotThereYet(StoredVolume):
    """A volume that a step will write."""


def _not_there_yet(
    path: str, grid: Grid, dtype: str, block: tuple[int, ...], channels: int | None = None
) -> StoredReader:
    lead = () if channels is None else (channels,)
    dims = grid.dims if channels is None else ("channel", *grid.dims)
    volume = _NotThereYet(normalise_path(path), grid, dims, (*lead, *grid.shape), np.dtype(dtype), block)
    return StoredReader(volume, tuple(slice(0, n) for n in grid.shape))


def _times(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _bytes(size: float | None) -> str:
    if size is None:
        return _UNKNOWN
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} PB"


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.3g} h"
