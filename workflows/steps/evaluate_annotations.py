"""Step 5: segmentations of all thresholds against skeletons, whose nodes are mapped to fragments once."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lsd_dask.checks.id_lists import ids_of
from lsd_dask.evaluation import (
    ContingencyTable,
    RunLengths,
    Skeletons,
    best_row,
    expected_run_length,
    labels_at,
    min_cut_metric,
    read_skeletons,
)
from lsd_dask.evaluation.placement import MANY, advice, check_placement
from lsd_dask.evaluation.plots import plot_run_lengths
from lsd_dask.evaluation.thresholds import rows_of, segment_rows
from lsd_dask.segmentation.agglomeration import LookupTable
from lsd_dask.space.grids import Grid
from lsd_dask.storage import files, parquet
from lsd_dask.volumes.dask_arrays import as_volume

from ..config.steps import EvaluateAnnotationsConfig
from ..running.inputs import block_shape_for, naming, open_labels
from ..running.outputs import cluster, console, report
from ..step import Step, workflow
from ._scoring import (
    Evaluation,
    check_tables,
    draw,
    mark_of_scores,
    picture_beside,
    scores_path,
    write_scores,
)
from .find_segments import open_merge_tree, rag_directory_of

#: Score that the best threshold is chosen by.
METRIC = "expected_run_length"

type Edges = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class AnnotationEvaluation(Evaluation):
    """What `evaluate_annotations` found.

    Attributes
    ----------
    run_lengths
        How far skeletons can be followed in the segmentation of each threshold.
    """

    run_lengths: Sequence[RunLengths] = ()


class EvaluateAnnotations(Step[EvaluateAnnotationsConfig]):
    """Score the segmentations of a range of thresholds against skeletons.

    One pass over the blocks that hold nodes maps these to fragments; every threshold is then scored by way of
    the merge tree. Nodes outside of the fragments, or of the region, are left out, with their edges. The
    scores are written as a Parquet file into the folder ``rag/scores`` of the fragments' container, with
    plots and a table of the run lengths beside it.
    """

    model = EvaluateAnnotationsConfig
    container = "fragments_file"

    def run(self, options: EvaluateAnnotationsConfig) -> AnnotationEvaluation:
        """Map nodes to fragments, and score all thresholds."""
        started = time.perf_counter()
        fragments = open_labels(options.fragments_path, options)
        grid = fragments.stored.grid.crop(fragments.part)
        tree = open_merge_tree(options, options)
        edges = _read_edges(options) if options.compute_mincut_metric else None
        source = options.annotations_path(options.annotations_skeletons_collection_name)
        skeletons = _read(options, source, grid)
        path = scores_path(options, "_annotations")
        files.check_writable(path.rpartition("/")[0])
        check_tables(options, path, scores_path(options, "_run_lengths"))
        mark = mark_of_scores(options)
        volume = as_volume(fragments.stored, block_shape_for(grid, None, options.fragments_path))[
            fragments.part
        ]
        with cluster(options), naming(options.fragments_path):
            at = labels_at(volume, skeletons.positions)
            rows = rows_of(tree.ids, at)
        _say_if_in_background(source, skeletons, at, grid)
        lengths: list[RunLengths] = []
        scores: list[dict[str, Any]] = []
        with naming(source):
            for threshold in options.thresholds:
                lut = tree.cut(threshold)
                # Segments by the row of the smallest fragment in them.
                segments = segment_rows(lut)[rows]
                lengths.append(expected_run_length(skeletons, segments, stray_nodes=options.stray_nodes))
                noted = {
                    "method": options.method,
                    "merge_function": options.merge_function,
                    "threshold": threshold,
                }
                scores.append({**noted, **lengths[-1].scores(), **_on_sites(skeletons, segments)})
                if edges is not None:
                    scores[-1] |= _corrections(skeletons, at, lut, edges, lengths[-1])
        outputs = write_scores(options, scores, path, mark)
        outputs |= _write_run_lengths(options, lengths, scores, mark)
        result = AnnotationEvaluation(
            "evaluate_annotations",
            outputs,
            time.perf_counter() - started,
            facts={"skeletons": len(skeletons.lengths), "nodes": len(skeletons)},
            scores=scores,
            metric=METRIC,
            run_lengths=lengths,
        )
        report(result)
        best = result.best
        console.print(
            f"  best threshold: {best['threshold']:g} (expected run length {best[METRIC]:.4g} of "
            f"{best['max_erl']:.4g}, {best['number_of_split_skeletons']:g} skeletons split, "
            f"{best['number_of_merging_segments']:g} segments merge several)"
        )
        return result


def _read(config: EvaluateAnnotationsConfig, source: str, grid: Grid) -> Skeletons:
    """The skeletons inside a volume; ValueError if there are none."""
    skeletons = read_skeletons(
        source,
        components=_variant(config, config.node_components),
        mask=_variant(config, config.node_mask),
        synapses=config.annotations_path(config.annotations_synapses_collection_name)
        if config.annotations_synapses_collection_name
        else None,
        scale=config.annotations_scale,
        units=config.annotations_units,
    )
    with naming(source, config.fragments_path):
        skeletons = skeletons.in_units_of(grid)
        check_placement(skeletons, grid)
        inside = skeletons.inside(grid)
        if not inside.any():
            low, high = (
                tuple(bound(skeletons.positions, axis=0).tolist()) if len(skeletons) else ()
                for bound in (np.min, np.max)
            )
            raise ValueError(
                f"found {len(skeletons)} nodes from {low} to {high}, none of which lies in what is "
                f"evaluated{advice(skeletons.positions, grid)}"
            )
    if not inside.all():
        left_out = f"{np.count_nonzero(~inside)} of {len(skeletons)} nodes"
        console.print(f"{source}: {left_out} lie outside of what is evaluated, and are left out")
    return skeletons.take(inside)


def _say_if_in_background(source: str, skeletons: Skeletons, at: np.ndarray, grid: Grid) -> None:
    """Skeletons run through objects: where most nodes do not, their units may be others."""
    outside = np.count_nonzero(at == 0)
    if len(at) >= MANY and outside > len(at) / 2:
        console.print(
            f"{source}: {outside} of {len(at)} nodes lie in background{advice(skeletons.positions, grid)}"
        )


def _variant(config: EvaluateAnnotationsConfig, collection: str | None) -> str | None:
    """Path of a table of nodes: that of the run type, if there is one."""
    if collection is None:
        return None
    path = config.annotations_path(collection)
    folder, _, name = path.rpartition("/")
    of_run_type = f"{name}_{config.run_type}"
    there = {found.partition(".")[0] for found in files.names(folder or ".")}
    return f"{path}_{config.run_type}" if config.run_type and of_run_type in there else path


def _read_edges(config: EvaluateAnnotationsConfig) -> Edges:
    path = files.join(rag_directory_of(config), f"{config.edges_collection}.parquet")
    table, _ = parquet.read_table(path, "u", "v")
    with naming(path):
        if "merge_score" not in table.column_names:
            raise ValueError(f"found the columns {', '.join(table.column_names)}, expected also merge_score")
    # What is null, because the two never became one, comes as NaN.
    scores = np.asarray(table["merge_score"].to_numpy(), np.float64)
    with naming(path):
        u, v = (ids_of(parquet.column(table, end), end) for end in ("u", "v"))
    return u, v, scores


def _on_sites(skeletons: Skeletons, segments: np.ndarray) -> dict[str, float]:
    """Scores of nodes in the place of voxels; those at synapses by themselves, too."""
    _, components = np.unique(skeletons.skeletons, return_inverse=True)
    found: dict[str, float] = ContingencyTable.from_volumes(components + 1, segments).scores()
    if skeletons.synapses.any():
        at = skeletons.synapses
        scores = ContingencyTable.from_volumes(components[at] + 1, segments[at]).scores()
        found |= {f"synapse_{name}": scores[name] for name in ("voi_split", "voi_merge", "voi_sum")}
    return found


def _corrections(
    skeletons: Skeletons, at: np.ndarray, lut: LookupTable, edges: Edges, lengths: RunLengths
) -> Mapping[str, float]:
    sites = skeletons.synapses if skeletons.synapses.any() else np.ones(len(skeletons), bool)
    found = min_cut_metric(skeletons.take(sites), at[sites], lut, *edges)
    return {
        "total_splits_needed_to_fix_merges": found.splits,
        "total_merges_needed_to_fix_splits": found.merges,
        "total_corrections_needed": found.splits + found.merges,
        "average_splits_needed_to_fix_merges": found.splits / max(lengths.number_of_segments, 1),
        "average_merges_needed_to_fix_splits": found.merges / lengths.number_of_components,
        "number_of_unsplittable_fragments": len(found.unsplittable),
    }


def _write_run_lengths(
    config: EvaluateAnnotationsConfig,
    lengths: Sequence[RunLengths],
    scores: Sequence[Mapping[str, Any]],
    mark: Mapping[str, Any],
) -> dict[str, str]:
    """Write the run lengths of all thresholds, and draw those of the best one."""
    path = scores_path(config, "_run_lengths")
    runs = [found.runs for found in lengths]
    thresholds = np.repeat(config.thresholds, [len(found) for found in runs])
    columns = {"threshold": thresholds, "length": np.concatenate(runs)}
    facts = {"total": lengths[0].total, "merge_function": config.merge_function, "mark": mark}
    parquet.write_table(path, columns, facts)
    best = best_row(scores, METRIC)["threshold"]
    found = lengths[config.thresholds.index(best)]
    name = f"{config.method or config.merge_function}, threshold {best:g}"
    drawn = draw(plot_run_lengths, {name: found.runs}, {name: found.total}, picture_beside(path))
    return {"run lengths": path, **{f"{kind} of run lengths": picture for kind, picture in drawn.items()}}


evaluate_annotations = workflow(EvaluateAnnotations())
