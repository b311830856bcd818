"""Raw data -> affinities and local shape descriptors, by a trained network."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from lsd_dask.blockwise.blocks import Block
from lsd_dask.networks.pytorch import torch
from lsd_dask.prediction.inference import Predictor, StoredNetwork, check_lsds, digest
from lsd_dask.prediction.tiles import TILE_BYTES, PredictRegion, check_raw, tile_shape_for
from lsd_dask.space import neighborhoods
from lsd_dask.volumes.overlap import StoredReader
from lsd_dask.volumes.stored import StoredVolume
from lsd_dask.volumes.voxel_values import say_if_zero_and_one

from ..config.fields import array_path
from ..config.loading import load_config
from ..config.options import Region as RegionOptions
from ..config.steps import PredictConfig, RegionConfig
from ..running.costs import Cost
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
from ..running.memory import forward_budget, prediction
from ..running.outputs import Output, check_output
from ..running.plans import StepPlan
from ..step import BlockStep, workflow


@dataclass(frozen=True, kw_only=True)
class PredictionPlan(StepPlan):
    """What predicting will do.

    Attributes
    ----------
    raw, lsds
        Readers of the whole stored volumes: around a region, what lies beside it is read as well.
    predict
        What is done for a region.
    """

    raw: StoredReader
    lsds: StoredReader | None
    predict: PredictRegion

    def fitted(self, limit: int | None) -> "PredictionPlan":
        """As of `StepPlan.fitted`: tiles do not show in the result, so that they may depend on workers."""
        tile_shape = tile_shape_for(self.predict.predictor, budget=forward_budget(limit, TILE_BYTES))
        predict = replace(self.predict, tile_shape=tile_shape)
        cost = Cost(prediction(self.raw, predict, predict.predictor.channels, self.lsds))
        task = partial(self.task, predict=predict)
        return replace(self, predict=predict, cost=cost, task=task)


class Predict(BlockStep[PredictConfig]):
    """Predict affinities and local shape descriptors of raw data, block by block.

    Blocks read the context that the network needs, and no block shows in the result. The network is loaded
    once in each worker.
    """

    model = PredictConfig
    container = "out_container"

    def workers(self, options: PredictConfig) -> dict[str, Any]:
        """On GPUs, one for each; see `workers_for`."""
        return workers_for(options.device, options.queue, options.num_workers)

    def plan(self, options: PredictConfig) -> PredictionPlan:
        """Load the network; see `BlockStep.plan`."""
        path, region = _raw_of(options)
        network = StoredNetwork(options.checkpoint_path, digest(options.checkpoint_path))
        checkpoint = network.load()
        stored = open_input(path)
        with naming(stored.path):
            check_raw(stored, checkpoint, "raw", stored.grid)
            look_at_raw(_whole(stored), checkpoint.raw_range)
        predictor = Predictor(
            network,
            checkpoint.config.predictions if options.outputs == "all" else (options.outputs,),
            options.augmentation,
            options.precision,
            None if options.device == "auto" else options.device,
            options.auto_path is not None,
        )
        predict = PredictRegion(predictor, options.borders, tile_shape_for(predictor))
        raw = _whole(stored)
        wanted = region_of(stored.grid, region, path)
        with naming(path):
            possible = predict.part(raw.shape, raw.origin)
        part = tuple(
            slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(wanted, possible, strict=True)
        )
        if any(s.stop <= s.start for s in part):
            raise ValueError(f"{path}: the network predicts nothing of the region with borders 'valid'")
        grid = stored.grid.crop(part)
        lsds = _first_prediction(options, raw, checkpoint.config)
        block_shape = block_shape_for(grid, options.block_size, path)
        dataset = {"affinities": options.affs_dataset, "lsds": options.lsds_dataset}
        datasets = {name: dataset[name] for name in predictor.outputs}
        ledger = self.ledger(
            options.out_container,
            datasets[predictor.outputs[0]],
            raw=identity_of(StoredReader(stored, part)),
            checkpoint=network.digest,
            descriptors=None if lsds is None else identity_of(lsds),
            outputs=datasets,
            borders=options.borders,
            augmentation=options.augmentation,
            precision=options.precision,
            blocks=block_shape,
        )
        stated = {"affinities": neighborhoods.attributes(predictor.config.neighborhood)}
        volumes = [
            Output(
                name,
                array_path(options.out_container, dataset[name]),
                "uint8",
                predictor.config.channels[name],
                stated.get(name, {}),
            )
            for name in predictor.outputs
        ]
        for output in volumes:
            check_output(
                ledger,
                output.path,
                *(reader.stored.path for reader in (raw, lsds) if reader),
                overwrite=options.overwrite,
            )
        start = tuple(s.start for s in part)

        def task(*outputs: StoredVolume, predict: PredictRegion = predict) -> _PredictBlock:
            return _PredictBlock(outputs, raw, lsds, predict, start)

        return PredictionPlan(
            what="predict",
            options=options,
            ledger=ledger,
            grid=grid,
            block_shape=block_shape,
            cost=Cost(prediction(raw, predict, predictor.channels, lsds)),
            task=task,
            made="prediction",
            volumes=volumes,
            resources={"GPU": 1} if options.device == "cuda" else None,
            raw=raw,
            lsds=lsds,
            predict=predict,
        )


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


predict = workflow(Predict())
