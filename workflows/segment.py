"""All steps in one call: affinities -> segmentation, scored where there is a ground truth."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lsd_dask.formats import open_stored

from . import agglomerate, evaluate_volumes, extract_fragments, extract_segmentation, find_segments
from .config import workflow
from .extract_fragments import plan_fragments
from .fields import array_path
from .inputs import check_labels, check_offsets, shared_part
from .models import (
    AgglomerateConfig,
    EvaluateVolumesConfig,
    ExtractFragmentsConfig,
    ExtractSegmentationConfig,
    FindSegmentsConfig,
    SegmentConfig,
)
from .running import StepResult, check_output, cluster, console, ledger_for


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
    """Make a segmentation of affinities: fragments, region graph, agglomeration, segmentation, scores.

    Runs every step on one cluster; run again after an interruption, it goes on where it stopped. The
    container it writes to holds the fragments, the segmentation of the chosen threshold, the region graph
    with the merge tree and a lookup table for every threshold (``rag``), and the ledgers (``runs``).
    """
    started = time.perf_counter()
    made = {"fragments_file": config.out_file, "fragments_dataset": config.fragments_dataset}
    _check(config, config.part(ExtractFragmentsConfig, **made))
    edges = {"edges_collection": f"edges_{config.merge_function}"}
    scores: Sequence[Mapping[str, Any]] = ()
    threshold = config.fixed_threshold
    with cluster(config):
        steps = [
            extract_fragments(config.part(ExtractFragmentsConfig, **made)),
            agglomerate(config.part(AgglomerateConfig, **made)),
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
    console.print(f"[bold]segment[/bold]: all steps in {seconds:.1f} s, at threshold {threshold:g}")
    return Segmentation(
        "segment",
        {name: path for step in steps for name, path in step.outputs.items()},
        seconds,
        sum(step.blocks for step in steps),
        sum(step.skipped for step in steps),
        threshold=threshold,
        scores=scores,
    )


def _name_at(config: SegmentConfig, threshold: float) -> str:
    return f"{config.segmentation_dataset}_{100 * threshold:.9g}"


def _check(config: SegmentConfig, first: ExtractFragmentsConfig) -> None:
    """Find now what the later steps would only find when the first ones have worked for hours."""
    affinities = plan_fragments(first).affinities
    check_offsets(affinities.stored, config.neighborhood)
    if config.gt_path is not None:
        truth, _ = shared_part(open_stored(config.gt_path), affinities, config.affs_path)
        check_labels(truth.stored)
    if config.fixed_threshold is not None:
        name = _name_at(config, config.fixed_threshold)
        ledger = ledger_for(config.out_file, "extract_segmentation", name, {})
        check_output(ledger, array_path(config.out_file, name), affinities.stored.path)
