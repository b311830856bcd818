"""All steps in one call: affinities -> segmentation, scored where there is a ground truth."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from . import agglomerate, evaluate_volumes, extract_fragments, extract_segmentation, find_segments
from .config import workflow
from .models import (
    AgglomerateConfig,
    EvaluateVolumesConfig,
    ExtractFragmentsConfig,
    ExtractSegmentationConfig,
    FindSegmentsConfig,
    SegmentConfig,
)
from .running import StepResult, cluster, console


@dataclass(frozen=True)
class Segmentation(StepResult):
    """What `segment` made.

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
    edges = {"edges_collection": f"edges_{config.merge_function}"}
    scores: Sequence[Mapping[str, Any]] = ()
    threshold = config.fixed_threshold
    with cluster(config):
        first = extract_fragments(config.part(ExtractFragmentsConfig, **made))
        agglomerate(config.part(AgglomerateConfig, **made))
        find_segments(config.part(FindSegmentsConfig, **made, **edges))
        if config.gt_path is not None:
            evaluation = evaluate_volumes(
                config.part(
                    EvaluateVolumesConfig,
                    **made,
                    **edges,
                    gt_file=config.gt_file,
                    gt_dataset=config.gt_dataset,
                )
            )
            scores = evaluation.scores
            threshold = evaluation.best["threshold"] if threshold is None else threshold
        assert threshold is not None
        name = f"{config.segmentation_dataset}_{100 * threshold:.9g}"
        last = extract_segmentation(
            config.part(
                ExtractSegmentationConfig,
                **made,
                **edges,
                threshold=threshold,
                out_file=config.out_file,
                out_dataset=name,
            )
        )
    seconds = time.perf_counter() - started
    console.print(f"[bold]segment[/bold]: all steps in {seconds:.1f} s, at threshold {threshold:g}")
    return Segmentation(
        "segment",
        {**first.outputs, **last.outputs},
        seconds,
        last.blocks,
        threshold=threshold,
        scores=scores,
    )
