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
from ..running.outputs import StepResult, check_output, cluster, console, in_bold
from ..step import Step, workflow
from .agglomerate import agglomerate
from .evaluate_volumes import evaluate_volumes
from .extract_fragments import ExtractFragments, extract_fragments
from .extract_segmentation import ExtractSegmentation, extract_segmentation
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


class Segment(Step[SegmentConfig]):
    """Make a segmentation of affinities, or of raw data that a trained network predicts them from.

    Fragments, region graph, agglomeration, segmentation, scores: runs every step on one cluster; run again
    after an interruption, it goes on where it stopped. The container it writes to holds the affinities if
    they are predicted, the fragments, the segmentation of the chosen threshold, the region graph with the
    merge tree and a lookup table for every threshold (``rag``), and the ledgers (``runs``).
    """

    model = SegmentConfig
    container = "out_file"

    def run(self, options: SegmentConfig) -> Segmentation:
        """Check what all steps will need, then run them on one cluster."""
        started = time.perf_counter()
        made = {"fragments_file": options.out_file, "fragments_dataset": options.fragments_dataset}
        edges = {"edges_collection": f"edges_{options.merge_function}"}
        scores: Sequence[Mapping[str, Any]] = ()
        threshold = options.fixed_threshold
        steps: list[StepResult] = []
        if options.checkpoint is None:
            _check(options, made)
        else:
            _check_prediction(options)
        with cluster(options, **_workers(options)):
            if options.checkpoint is not None:
                steps.append(_predict(options))
                options = _with_affinities(options)
                _check(options, made)
            affinities = {"affs_file": options.affs_file, "affs_dataset": options.affs_dataset}
            steps += [
                extract_fragments(options.part(ExtractFragmentsConfig, **affinities, **made)),
                agglomerate(options.part(AgglomerateConfig, **affinities, **made)),
                find_segments(options.part(FindSegmentsConfig, **made, **edges)),
            ]
            if options.gt_path is not None:
                truth = {"gt_file": options.gt_file, "gt_dataset": options.gt_dataset}
                evaluation = evaluate_volumes(options.part(EvaluateVolumesConfig, **made, **edges, **truth))
                steps.append(evaluation)
                scores = evaluation.scores
                threshold = evaluation.best["threshold"] if threshold is None else threshold
            assert threshold is not None
            written = {"out_file": options.out_file, "out_dataset": _name_at(options, threshold)}
            steps.append(
                extract_segmentation(
                    options.part(ExtractSegmentationConfig, **made, **edges, **written, threshold=threshold)
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
    plan = ExtractFragments().plan(config.part(ExtractFragmentsConfig, **read, **made))
    offsets_of(plan.affinities.stored, config.neighborhood)
    _check_later(config, plan.affinities)


def _check_prediction(config: SegmentConfig) -> None:
    """Find the same before there are affinities."""
    from .predict import Predict

    plan = Predict().plan(prediction_of(config))
    with naming(str(config.checkpoint)):
        direct_for(neighborhood_of(config), plan.grid.shape)
    _check_later(config, plan.raw)


def _check_later(config: SegmentConfig, reader: StoredReader) -> None:
    """Check the ground truth, and the place of the segmentation, of what is read first."""
    path = reader.stored.path
    if config.gt_path is not None:
        truth, _ = shared_part(open_input(config.gt_path), reader, path)
        check_labels(truth)
    if config.fixed_threshold is not None:
        name = _name_at(config, config.fixed_threshold)
        ledger = ExtractSegmentation().ledger(config.out_file, name)
        check_output(ledger, array_path(config.out_file, name), path, overwrite=config.overwrite)


segment = workflow(Segment())
