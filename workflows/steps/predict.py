"""Raw data -> affinities and local shape descriptors, by a trained network."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lsd_dask.blockwise.blocks import Block, BlockGrid
from lsd_dask.blockwise.ledgers import Ledger
from lsd_dask.networks.pytorch import torch
from lsd_dask.prediction.inference import Predictor, StoredNetwork, check_lsds, digest
from lsd_dask.prediction.tiles import TILE_BYTES, PredictRegion, check_raw, tile_shape_for
from lsd_dask.segmentation.derivation import facts_of_run
from lsd_dask.space import neighborhoods
from lsd_dask.space.grids import Grid
from lsd_dask.volumes.opening import open_stored
from lsd_dask.volumes.overlap import StoredReader
from lsd_dask.volumes.stored import StoredVolume
from lsd_dask.volumes.voxel_values import say_if_zero_and_one

from ..config.fields import array_path
from ..config.loading import load_config
from ..config.options import Region as RegionOptions
from ..config.steps import PredictConfig, RegionConfig
from ..running.inputs import (
    block_shape_for,
    identity_of,
    look_at_raw,
    matching_part,
    naming,
    open_input,
    region_of,
    samples_of,
)
from ..running.memory import check_memory, forward_budget, prediction, worker_limit
from ..running.outputs import (
    StepResult,
    check_output,
    cluster,
    create_output,
    hold,
    ledger_for,
    prepare,
    report,
    run,
)
from ..step import workflow


@workflow(PredictConfig)
def predict(config: PredictConfig) -> StepResult:
    """Predict affinities and local shape descriptors of raw data, block by block.

    Blocks read the context that the network needs, and no block shows in the result. The network is loaded
    once in each worker.
    """
    started = time.perf_counter()
    plan = plan_prediction(config)
    task, grid = plan.task, plan.grid
    workers = workers_for(config.device, config.queue, config.num_workers)
    with cluster(config, **workers) as client:
        limit = worker_limit(client)
        # Tiles do not show in the result, so that they may depend on the workers.
        tile_shape = tile_shape_for(task.predictor, budget=forward_budget(limit, TILE_BYTES))
        task = replace(task, tile_shape=tile_shape)
        needs = prediction(plan.raw, task, task.predictor.channels, plan.lsds)
        check_memory("predict", needs, plan.block_shape, grid, limit)
        with hold(plan.ledger):
            outputs = _prepare(plan, config)
            summary = run(
                "predict",
                _PredictBlock(outputs, plan.raw, plan.lsds, task, plan.start),
                BlockGrid(grid.shape, plan.block_shape),
                plan.ledger,
                client,
                resources={"GPU": 1} if config.device == "cuda" else None,
                verify=config.verify,
            )
    return report(
        StepResult("predict", plan.paths, time.perf_counter() - started, summary.blocks, summary.skipped)
    )


@dataclass(frozen=True)
class PredictionPlan:
    """What is to be done, checked.

    Attributes
    ----------
    raw, lsds
        Readers of the whole stored volumes: around a region, what lies beside it is read as well.
    task
        What is done for a region.
    grid
        Of what is predicted.
    start
        Where that begins in the raw data, in voxels.
    block_shape
        In voxels.
    paths
        Of what is written, by name.
    ledger
        Of the step.
    """

    raw: StoredReader
    lsds: StoredReader | None
    task: PredictRegion
    grid: Grid
    start: tuple[int, ...]
    block_shape: tuple[int, ...]
    paths: Mapping[str, str]
    ledger: Ledger


def plan_prediction(config: PredictConfig) -> PredictionPlan:
    """Open what `predict` reads, and check everything, before any work.

    Raises
    ------
    FileNotFoundError, FileExistsError, TypeError, ValueError
        If something does not fit; the message names the file.
    """
    path, region = _raw_of(config)
    network = StoredNetwork(config.checkpoint_path, digest(config.checkpoint_path))
    checkpoint = network.load()
    stored = open_input(path)
    with naming(stored.path):
        check_raw(stored, checkpoint, "raw", stored.grid)
        look_at_raw(_whole(stored), checkpoint.raw_range)
    predictor = Predictor(
        network,
        checkpoint.config.predictions if config.outputs == "all" else (config.outputs,),
        config.augmentation,
        config.precision,
        None if config.device == "auto" else config.device,
        config.auto_path is not None,
    )
    task = PredictRegion(predictor, config.borders, tile_shape_for(predictor))
    raw = _whole(stored)
    wanted = region_of(stored.grid, region, path)
    with naming(path):
        possible = task.part(raw.shape, raw.origin)
    part = tuple(
        slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(wanted, possible, strict=True)
    )
    if any(s.stop <= s.start for s in part):
        raise ValueError(f"{path}: the network predicts nothing of the region with borders 'valid'")
    grid = stored.grid.crop(part)
    lsds = _first_prediction(config, raw, checkpoint.config)
    block_shape = block_shape_for(grid, config.block_size, path)
    dataset = {"affinities": config.affs_dataset, "lsds": config.lsds_dataset}
    datasets = [dataset[name] for name in predictor.outputs]
    identity = {
        "raw": identity_of(StoredReader(stored, part)),
        "checkpoint": network.digest,
        "descriptors": None if lsds is None else identity_of(lsds),
        "outputs": dict(zip(predictor.outputs, datasets, strict=True)),
        "borders": config.borders,
        "augmentation": config.augmentation,
        "precision": config.precision,
        "blocks": block_shape,
    }
    ledger = ledger_for(config.out_container, "predict", datasets[0], identity)
    paths = {name: array_path(config.out_container, dataset[name]) for name in predictor.outputs}
    for output in paths.values():
        check_output(
            ledger,
            output,
            *(reader.stored.path for reader in (raw, lsds) if reader),
            overwrite=config.overwrite,
        )
    start = tuple(s.start for s in part)
    return PredictionPlan(raw, lsds, task, grid, start, block_shape, paths, ledger)


def _raw_of(config: PredictConfig) -> tuple[str, RegionOptions]:
    """Path of the raw data, and the region of it that is named."""
    given = config.raw_file
    if isinstance(given, str) and given.endswith(".json"):
        given = load_config(RegionConfig, given)
    if isinstance(given, str):
        return array_path(given, config.raw_dataset), config
    region = config.model_copy(update={"roi_offset": given.offset, "roi_shape": given.size})
    return array_path(given.container, config.raw_dataset), region


def _whole(stored: StoredVolume) -> StoredReader:
    return StoredReader(stored, tuple(slice(0, n) for n in stored.grid.shape))


def _first_prediction(config: PredictConfig, raw: StoredReader, network: Any) -> StoredReader | None:
    """The stored descriptors of a first network, if they are named: of the same voxels as the raw data."""
    if config.auto_path is None:
        return None
    stored = open_input(config.auto_path)
    with naming(stored.path):
        check_lsds(stored.shape, stored.dtype, network)
    say_if_zero_and_one(samples_of(_whole(stored)), stored.dtype, stored.path)
    return matching_part(stored, raw.stored.grid, raw.stored.path)


def workers_for(device: str, queue: str, num_workers: int | None) -> dict[str, Any]:
    """How workers are started: for device "cuda" with the resource GPU, on this machine one for each GPU.

    Raises
    ------
    ValueError
        If this machine is to compute on a GPU and has none.
    """
    if device != "cuda":
        return {}
    workers: dict[str, Any] = {"resources": {"GPU": 1}}
    if queue == "local":
        if not torch.cuda.is_available():
            raise ValueError("device: found 'cuda', but PyTorch sees no GPU on this machine")
        workers["num_workers"] = num_workers or torch.cuda.device_count()
    return workers


def _prepare(plan: PredictionPlan, config: PredictConfig) -> list[StoredVolume]:
    """Open the volumes that the run writes, or create them."""
    if prepare(plan.ledger, config, what="prediction", outputs=list(plan.paths.values())):
        return [open_stored(path) for path in plan.paths.values()]
    network, grid = plan.task.predictor.config, plan.grid
    stated = {"affinities": neighborhoods.attributes(network.neighborhood)}
    created = [
        create_output(
            plan.ledger,
            path,
            grid,
            "uint8",
            plan.block_shape,
            network.channels[name],
            attributes=stated.get(name),
        )
        for name, path in plan.paths.items()
    ]
    plan.ledger.begin(
        BlockGrid(grid.shape, plan.block_shape), **facts_of_run(plan.ledger, *plan.paths.values())
    )
    return created


@dataclass(frozen=True)
class _PredictBlock:
    """Predicts a block, and writes each prediction to its volume."""

    outputs: Sequence[StoredVolume]
    raw: StoredReader
    lsds: StoredReader | None
    task: PredictRegion
    start: tuple[int, ...]

    def compute(self, block: Block) -> np.ndarray:
        there = tuple(slice(o + s.start, o + s.stop) for s, o in zip(block.region, self.start, strict=True))
        return self.task(there, self.raw, *(reader for reader in (self.lsds,) if reader is not None))

    def write(self, block: Block, result: np.ndarray) -> Mapping[str, Any]:
        end, paths = 0, []
        for out in self.outputs:
            assert out.channels is not None
            out.write(block.region, result[end : end + out.channels])
            end += out.channels
            paths += out.shards(block.region)
        return {"mean": round(float(result.mean()) / 255, 4), "files": paths}
