"""All steps in one call: affinities or raw data -> segmentation, scored where there is a ground truth."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lsd_dask.space.neighborhoods import Offsets, agreed, direct_for
from lsd_dask.volumes.overlap import StoredReader

from ..config.fields import array_path
from ..config.steps import (
    AgglomerateConfig,
    EvaluateVolumesConfig,
    ExtractFragmentsConfig,
    ExtractSegmentationConfig,
    FindSegmentsConfig,
    PredictConfig,
    SegmentConfig,
)
from ..running.inputs import check_labels, naming, offsets_of, open_input, shared_part
from ..running.outputs import StepResult, check_output, cluster, console, in_bold, ledger_for
from ..step import workflow
from .agglomerate import agglomerate
from .evaluate_volumes import evaluate_volumes
from .extract_fragments import extract_fragments, plan_fragments
from .extract_segmentation import extract_segmentation
from .find_segments import find_segments


@dataclass(frozen=True)
class Segmentation(StepResult):
    """What `segment` made. Blocks are those of all steps.

    Attributes
    ----------
    threshold
        Threshold of the segmentation.
    scores
        Where there is a ground truth: one row a threshold, as of `evaluate_volumes`.
    """

    threshold: float = 0.5
    scores: Sequence[Mapping[str, Any]] = ()

    @property
    def path(self) -> str:
        """Path of the segmentation."""
        return self.outputs["segmentation"]


@workflow(SegmentConfig)
def segment(config: SegmentConfig) -> Segmentation:
    """Make a segmentation of affinities, or of raw data that a trained network predicts them from.

    Fragments, region graph, agglomeration, segmentation, scores: runs every step on one cluster; run again
    after an interruption, it goes on where it stopped. The container it writes to holds the affinities if
    they are predicted, the fragments, the segmentation of the chosen threshold, the region graph with the
    merge tree and a lookup table for every threshold (``rag``), and the ledgers (``runs``).
    """
    started = time.perf_counter()
    made = {"fragments_file": config.out_file, "fragments_dataset": config.fragments_dataset}
    edges = {"edges_collection": f"edges_{config.merge_function}"}
    scores: Sequence[Mapping[str, Any]] = ()
    threshold = config.fixed_threshold
    steps: list[StepResult] = []
    if config.checkpoint is None:
        _check(config, made)
    else:
        _check_prediction(config)
    with cluster(config, **_workers(config)):
        if config.checkpoint is not None:
            steps.append(_predict(config))
            config = _with_affinities(config)
            _check(config, made)
        affinities = {"affs_file": config.affs_file, "affs_dataset": config.affs_dataset}
        steps += [
            extract_fragments(config.part(ExtractFragmentsConfig, **affinities, **made)),
            agglomerate(config.part(AgglomerateConfig, **affinities, **made)),
            find_segments(config.part(FindSegmentsConfig, **made, **edges)),
        ]
        if config.gt_path is not None:
            truth = {"gt_file": config.gt_file, "gt_dataset": config.gt_dataset}
            evaluation = evaluate_volumes(config.part(EvaluateVolumesConfig, **made, **edges, **truth))
            steps.append(evaluation)
            scores = evaluation.scores
            threshold = evaluation.best["threshold"] if threshold is None else threshold
        assert threshold is not None
        written = {"out_file": config.out_file, "out_dataset": _name_at(config, threshold)}
        steps.append(
            extract_segmentation(
                config.part(ExtractSegmentationConfig, **made, **edges, **written, threshold=threshold)
            )
        )
    seconds = time.perf_counter() - started
    console.print(in_bold("segment", f": all steps in {seconds:.1f} s, at threshold {threshold:g}"))
    return Segmentation(
        "segment",
        {name: path for step in steps for name, path in step.outputs.items()},
        seconds,
        sum(step.blocks for step in steps),
        sum(step.skipped for step in steps),
        threshold=threshold,
        scores=scores,
    )


def prediction_of(config: SegmentConfig) -> PredictConfig:
    """What the prediction of the affinities is told."""
    return config.part(
        PredictConfig,
        raw_file=config.raw_file,
        raw_dataset=config.raw_dataset,
        checkpoint=config.checkpoint,
        out_file=config.out_file,
        affs_dataset=config.affs_dataset,
        outputs="affinities",
    )


# PyTorch is optional, so what needs it is imported where raw data is segmented.


def _workers(config: SegmentConfig) -> dict[str, Any]:
    """How workers are started, where they predict."""
    if config.checkpoint is None:
        return {}
    from .predict import workers_for

    return workers_for(config.device, config.queue, config.num_workers)


def _predict(config: SegmentConfig) -> StepResult:
    from .predict import predict

    return predict(prediction_of(config))


def _with_affinities(config: SegmentConfig) -> SegmentConfig:
    """The options once the affinities are there."""
    return config.model_copy(
        update={
            "affs_file": config.out_file,
            "raw_file": None,
            "checkpoint": None,
            "neighborhood": neighborhood_of(config),
        }
    )


def neighborhood_of(config: SegmentConfig) -> Offsets:
    """What the affinities that are to be predicted join: what the network says, which knows.

    Raises
    ------
    ValueError
        If the options say something else.
    """
    from lsd_dask.networks.checkpoints import load_checkpoint

    network = load_checkpoint(str(config.checkpoint)).config
    offsets = network.neighborhood
    assert offsets is not None
    with naming(str(config.checkpoint)):
        return agreed(config.neighborhood, offsets, len(offsets), network.dims, where="the network")


def _name_at(config: SegmentConfig, threshold: float) -> str:
    return f"{config.segmentation_dataset}_{100 * threshold:.9g}"


def _check(config: SegmentConfig, made: Mapping[str, Any]) -> None:
    """Find now what the later steps would only find when the first ones have worked for hours."""
    read = {"affs_file": config.affs_file, "affs_dataset": config.affs_dataset}
    affinities = plan_fragments(config.part(ExtractFragmentsConfig, **read, **made)).affinities
    offsets_of(affinities.stored, config.neighborhood)
    _check_truth(config, affinities, affinities.stored.path)
    _check_segmentation(config, affinities.stored.path)


def _check_prediction(config: SegmentConfig) -> None:
    """Find the same before there are affinities."""
    from .predict import plan_prediction

    plan = plan_prediction(prediction_of(config))
    with naming(str(config.checkpoint)):
        direct_for(neighborhood_of(config), plan.grid.shape)
    _check_truth(config, plan.raw, plan.raw.stored.path)
    _check_segmentation(config, plan.raw.stored.path)


def _check_truth(config: SegmentConfig, reader: StoredReader, like: str) -> None:
    if config.gt_path is not None:
        truth, _ = shared_part(open_input(config.gt_path), reader, like)
        check_labels(truth)


def _check_segmentation(config: SegmentConfig, *inputs: str) -> None:
    if config.fixed_threshold is not None:
        name = _name_at(config, config.fixed_threshold)
        ledger = ledger_for(config.out_file, "extract_segmentation", name, {})
        check_output(ledger, array_path(config.out_file, name), *inputs, overwrite=config.overwrite)
