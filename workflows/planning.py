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
from lsd_dask.segmentation.watershed import Rules
from lsd_dask.space.grids import Grid
from lsd_dask.space.neighborhoods import lifted
from lsd_dask.volumes.formats.zarr_creating import normalise_path
from lsd_dask.volumes.opening import open_stored
from lsd_dask.volumes.overlap import StoredReader
from lsd_dask.volumes.stored import StoredVolume

from .config.loading import load_config
from .config.steps import ExtractFragmentsConfig, SegmentConfig
from .running import memory, rates
from .running.inputs import block_shape_for, check_labels, offsets_of, shared_part
from .running.outputs import console
from .steps.extract_fragments import ExtractFragments, rules_for

type Neighborhood = tuple[tuple[int, ...], ...] | None

#: Numbers of workers that a plan is made for, unless others are asked for.
WORKERS = (1, 10, 100, 1000)


@dataclass(frozen=True)
class StepPlan:
    """What a step will take.

    Attributes
    ----------
    step
        Name of the step.
    blocks, tasks
        Number of blocks, and of dask's tasks.
    read, written
        Bytes, before compression, context included.
    memory
        Bytes that a worker should have, for one block at a time.
    core_seconds
        Of all workers together.
    serial_seconds
        Of one process, while the others wait.
    """

    step: str
    blocks: int
    tasks: int
    read: int
    written: int
    memory: int
    core_seconds: float
    serial_seconds: float = 0.0

    def seconds(self, workers: int) -> float:
        """Wall time with a number of workers of one thread.

        Blocks are done in waves, and no faster than the scheduler hands them out.
        """
        waves = math.ceil(self.blocks / workers) * self.core_seconds / max(1, self.blocks)
        return max(waves, self.tasks * rates.SCHEDULING) + self.serial_seconds


@dataclass(frozen=True)
class Plan:
    """What `segment` will take.

    Attributes
    ----------
    shape
        Of what is segmented, in voxels.
    block_shape
        In voxels.
    steps
        In the order in which they run.
    fragments, edges
        Expected size of the region graph.
    graph_bytes
        Memory of the process that holds the graph, while it is added up.
    workers
        Numbers of workers that it is told for.
    remarks
        What is not counted.
    """

    shape: tuple[int, ...]
    block_shape: tuple[int, ...]
    steps: tuple[StepPlan, ...]
    fragments: int
    edges: int
    graph_bytes: int
    workers: tuple[int, ...] = WORKERS
    remarks: tuple[str, ...] = ()

    @property
    def core_hours(self) -> float:
        """Of all steps."""
        return sum(step.core_seconds + step.serial_seconds for step in self.steps) / 3600

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
    workers: Sequence[int] = WORKERS,
    **options: Any,
) -> Plan:
    """Tell what `segment` will take, without doing any of it.

    Everything is checked as by `segment` itself, and shapes are those of the data. Seconds and the size of
    the graph come from the rates in ``running/rates.py``, which were measured on one machine with synthetic
    tissue: they tell a minute from an hour, not 40 minutes from 50.

    Parameters
    ----------
    config, **options
        As for `segment`.
    workers
        Numbers of workers of one thread each.

    Returns
    -------
    Plan

    Raises
    ------
    ConfigError, FileNotFoundError, FileExistsError, TypeError, ValueError
        As by `segment`, or if a number of workers is not positive.
    """
    if not workers or min(workers) < 1:
        raise ValueError(f"num_workers: found {list(workers)}, expected positive whole numbers")
    checked = load_config(SegmentConfig, config, **options)
    steps: list[StepPlan] = []
    remarks = ["Bytes are before compression."]
    if checked.checkpoint is None:
        made = {"fragments_file": checked.out_file, "fragments_dataset": checked.fragments_dataset}
        read = {"affs_file": checked.affs_file, "affs_dataset": checked.affs_dataset}
        found = ExtractFragments().plan(checked.part(ExtractFragmentsConfig, **read, **made))
        affinities, rules, neighborhood = found.affinities, found.rules, checked.neighborhood
    else:
        step, affinities, neighborhood = _prediction(checked)
        steps.append(step)
        remarks.append("Prediction is told for processors; no GPU has been measured.")
        rules = rules_for(checked, affinities.stored.grid.crop(affinities.part))
    path, grid = affinities.stored.path, affinities.stored.grid.crop(affinities.part)
    block = block_shape_for(grid, checked.block_size, path)
    count = CountRegion(lifted(offsets_of(affinities.stored, neighborhood)))
    labels = _not_there_yet(checked.fragments_path, grid, "uint64", block)
    fragments, edges = (int(density * math.prod(grid.shape)) for density in (rates.FRAGMENTS, rates.EDGES))
    counting = _counting(affinities, labels, count, block, edges)
    steps += [_extraction(affinities, rules, block)]
    if any((checked.filter_fragments, checked.epsilon_agglomerate, checked.remove_debris)):
        steps += [counting, _adding(edges), _relabelling("refine fragments", labels, fragments, block)]
    steps += [counting, _adding(edges), _merging(edges), _cutting(fragments, len(checked.thresholds))]
    if checked.gt_path is not None:
        steps.append(_evaluation(checked.gt_path, affinities))
    steps.append(_relabelling("extract segmentation", labels, fragments, block))
    held = int(memory.BASE + memory.ADDING * rates.EDGE_HELD * edges)
    if checked.octree:
        remarks.append("With octree, no process holds the graph; adding up and merging is work of many.")
    return Plan(grid.shape, block, tuple(steps), fragments, edges, held, tuple(workers), tuple(remarks))


def print_plan(found: Plan) -> None:
    """Print a plan as two tables: the steps, and wall times by the number of workers."""
    console.print(
        f"{_times(found.shape)} voxels in blocks of {_times(found.block_shape)}; expected are "
        f"{found.fragments:,} fragments and {found.edges:,} edges. The process that adds up the graph needs "
        f"{_bytes(found.graph_bytes)}, a worker {_bytes(found.memory)} for each thread."
    )
    table = Table("step", "blocks", "tasks", "read", "written", "a worker", "core hours", box=None)
    for step in found.steps:
        table.add_row(
            step.step,
            f"{step.blocks:,}",
            f"{step.tasks:,}",
            _bytes(step.read),
            _bytes(step.written),
            _bytes(step.memory),
            f"{(step.core_seconds + step.serial_seconds) / 3600:.3g}",
        )
    console.print(table)
    names = ("workers", *(step.step for step in found.steps), "all")
    times = Table(*(Column(name, overflow="fold") for name in names), box=None)
    for workers in found.workers:
        each = [_duration(step.seconds(workers)) for step in found.steps]
        times.add_row(f"{workers:,}", *each, _duration(found.seconds(workers)))
    console.print(times)
    console.print(f"{found.core_hours:.3g} core hours in all. Rates are of {rates.MACHINE}.")
    for remark in found.remarks:
        console.print(remark)


def _prediction(config: SegmentConfig) -> tuple[StepPlan, StoredReader, Neighborhood]:
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
    step = StepPlan(
        "predict",
        len(blocks),
        len(blocks),
        tiles * each,
        channels * math.prod(grid.shape),
        found.needs(block),
        operations / rates.CONVOLUTION + len(blocks) * rates.RECORDING,
    )
    affinities = _not_there_yet(found.outputs["affinities"], grid, "uint8", block, channels)
    return step, affinities, neighborhood_of(config)


def _extraction(affinities: StoredReader, rules: Rules, block: tuple[int, ...]) -> StepPlan:
    stored, shape = affinities.stored, affinities.shape
    voxels = _voxels_read(shape, block, rules.depth)
    return _by_blocks(
        "extract fragments",
        BlockGrid(shape, block),
        read=voxels * stored.dtype.itemsize * (stored.channels or 1),
        written=8 * math.prod(shape),
        needs=memory.extraction(affinities, rules),
        seconds=voxels / rates.EXTRACTION,
    )


def _counting(
    affinities: StoredReader, labels: StoredReader, count: CountRegion, block: tuple[int, ...], edges: int
) -> StepPlan:
    stored, shape = affinities.stored, affinities.shape
    depth = count.depth[3 - len(shape) :]
    voxels = math.prod(shape)
    size = stored.dtype.itemsize * (stored.channels or 1)
    return _by_blocks(
        "build region graph",
        BlockGrid(shape, block),
        read=8 * _voxels_read(shape, block, depth) + size * voxels,
        written=rates.EDGE_COUNTED * edges,
        needs=memory.counting(affinities, labels, count),
        seconds=voxels / rates.COUNTING,
    )


def _adding(edges: int) -> StepPlan:
    return _whole(
        "add up the graph",
        rates.EDGE_COUNTED * edges,
        rates.EDGE_STORED * edges,
        memory.BASE + int(memory.ADDING * rates.EDGE_HELD * edges),
        rates.ADDING * edges,
    )


def _merging(edges: int) -> StepPlan:
    held = memory.BASE + int(2 * rates.EDGE_HELD * edges)
    # The graph is written meanwhile.
    seconds = (max(rates.MERGING, rates.WRITING_GRAPH) + rates.SCORING) * edges
    return _whole("agglomerate", rates.EDGE_STORED * edges, 24 * edges, held, seconds)


def _cutting(fragments: int, thresholds: int) -> StepPlan:
    rows = thresholds * fragments
    held = memory.BASE + memory.TABLE_ROW * fragments
    return _whole("find segments", 25 * fragments, rates.LOOKUP_ROW * rows, held, rates.CUTTING * rows)


def _evaluation(path: str, affinities: StoredReader) -> StepPlan:
    truth, common = shared_part(open_stored(path), affinities, affinities.stored.path)
    check_labels(truth)
    grid = common.stored.grid.crop(common.part)
    block = block_shape_for(grid, None, path)
    fragments = _not_there_yet(path, grid, "uint64", block)
    voxels = math.prod(grid.shape)
    return _by_blocks(
        "evaluate volumes",
        BlockGrid(grid.shape, block),
        read=voxels * (8 + truth.stored.dtype.itemsize),
        written=0,
        needs=memory.overlaps(truth, fragments, (0,) * grid.ndim),
        seconds=voxels / rates.OVERLAPS,
    )


def _relabelling(step: str, labels: StoredReader, fragments: int, block: tuple[int, ...]) -> StepPlan:
    voxels = math.prod(labels.shape)
    return _by_blocks(
        step,
        BlockGrid(labels.shape, block),
        read=8 * voxels,
        written=8 * voxels,
        needs=memory.relabelling(labels, fragments),
        seconds=voxels / rates.RELABELLING,
    )


def _by_blocks(
    step: str, blocks: BlockGrid, *, read: int, written: int, needs: memory.BytesFor, seconds: float
) -> StepPlan:
    least = math.ceil(needs(blocks.block_shape) / memory.USABLE)
    seconds += len(blocks) * rates.RECORDING
    return StepPlan(step, len(blocks), len(blocks), read, written, least, seconds)


def _whole(step: str, read: int, written: int, held: int, seconds: float) -> StepPlan:
    """A step that one process does."""
    return StepPlan(step, 0, 0, read, written, math.ceil(held / memory.USABLE), 0.0, seconds)


class _NotThereYet(StoredVolume):
    """A volume that a step will write."""


def _not_there_yet(
    path: str, grid: Grid, dtype: str, block: tuple[int, ...], channels: int | None = None
) -> StoredReader:
    lead = () if channels is None else (channels,)
    dims = grid.dims if channels is None else ("channel", *grid.dims)
    volume = _NotThereYet(normalise_path(path), grid, dims, (*lead, *grid.shape), np.dtype(dtype), block)
    return StoredReader(volume, tuple(slice(0, n) for n in grid.shape))


def _voxels_read(shape: Sequence[int], block: Sequence[int], depth: Sequence[int]) -> int:
    """Voxels that all blocks read together, each with its context.

    >>> _voxels_read((10, 7), (5, 7), (1, 2))
    84
    """
    lengths = [
        sum(min(n, start + b + d) - max(0, start - d) for start in range(0, n, b))
        for n, b, d in zip(shape, block, depth, strict=True)
    ]
    return math.prod(lengths)


def _times(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} PB"


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.3g} h"
