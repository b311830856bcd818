"""Step 5: segmentations of all thresholds against a ground truth, from one pass over the volumes."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from lsd_dask.blockwise.blocks import Block
from lsd_dask.blockwise.ledgers import Ledger
from lsd_dask.checks.id_lists import LARGEST
from lsd_dask.evaluation import (
    ContingencyTable,
    Mistake,
    best_row,
    merge_tables,
    score_cuts,
    worst_mistakes,
)
from lsd_dask.evaluation.volumes import OverlapCounter
from lsd_dask.segmentation.agglomeration import MergeTree
from lsd_dask.segmentation.ids import BITS
from lsd_dask.space.grids import Grid, Region
from lsd_dask.storage import parquet
from lsd_dask.volumes.masks import MaskReader
from lsd_dask.volumes.overlap import StoredReader, grow, within

from ..config.fields import array_path
from ..config.steps import EvaluateVolumesConfig
from ..running import costs
from ..running.inputs import (
    block_shape_for,
    check_labels,
    identity_of,
    naming,
    open_input,
    open_labels,
    open_mask,
    shared_part,
)
from ..running.memory import LAYER
from ..running.outputs import cluster, console, report
from ..running.plans import StepPlan, execute, held
from ..running.tasks import add_up, write_table
from ..step import BlockStep, workflow
from ._scoring import Evaluation, check_tables, mark_of_scores, scores_path, write_scores
from .extract_fragments import UNREFINED, ExtractFragments
from .find_segments import open_merge_tree

#: Objects with mistakes that are told, and that are listed in the file.
TOLD, LISTED = 3, 10

#: How thick chunks usually are.
CHUNK = 64


@dataclass(frozen=True)
class VolumeEvaluation(Evaluation):
    """What `evaluate_volumes` found.

    Attributes
    ----------
    mistakes
        The objects that the best segmentation splits and merges worst, with places to look at.
    """

    mistakes: Sequence[Mistake] = ()


@dataclass(frozen=True, kw_only=True)
class OverlapsPlan(StepPlan):
    """What counting overlaps will do, and the merge tree whose segmentations are scored.

    Attributes
    ----------
    tree
        The merge tree.
    mark
        What the tables that are written say of their inputs.
    """

    tree: MergeTree
    mark: Mapping[str, Any]


class EvaluateVolumes(BlockStep[EvaluateVolumesConfig]):
    """Score the segmentations of a range of thresholds against a ground truth.

    One pass over the volumes counts how fragments and true objects overlap; every threshold is then scored on
    that table alone. What is evaluated is where both have voxels, except where the true label is 0. The
    scores are written as a Parquet file into the folder ``rag/scores`` of the fragments' container, with a
    plot and a table of the worst mistakes beside it.
    """

    model = EvaluateVolumesConfig
    container = "fragments_file"

    def plan(self, options: EvaluateVolumesConfig) -> OverlapsPlan:
        """Counting overlaps; see `BlockStep.plan`."""
        fragments = open_labels(options.fragments_path, options)
        truth, fragments = shared_part(open_input(options.gt_path), fragments, options.fragments_path)
        grid = fragments.stored.grid.crop(fragments.part)
        check_labels(truth)
        mask = None
        if options.mask_file is not None and options.mask_dataset is not None:
            path = array_path(options.mask_file, options.mask_dataset)
            mask = open_mask(path, grid, options.fragments_path)
        tree = open_merge_tree(options, options)
        check_tables(options, scores_path(options), scores_path(options, "_mistakes"))
        mark = mark_of_scores(options, truth=options.gt_path)
        tolerance = grid.lengths("boundary_tolerance", (options.boundary_tolerance,) * grid.ndim)[0]
        if 0 < tolerance < min(grid.voxel_size):
            console.print(
                f"boundary_tolerance: {tolerance:g} {grid.units} is less than a voxel, "
                f'{min(grid.voxel_size):g}, and leaves nothing out; a unit can be told, such as "30 nm"'
            )
        counter = OverlapCounter(grid.voxel_size, tolerance)
        block_shape = block_shape_for(grid, None, options.fragments_path)
        ledger = self.ledger(
            options.fragments_file,
            options.fragments_dataset,
            truth=identity_of(truth),
            fragments=identity_of(fragments),
            mask=identity_of(mask) if mask else None,
            boundary_tolerance=tolerance,
            blocks=block_shape,
        )
        masking = MaskReader(mask, mask.stored.grid, grid) if mask else None
        return OverlapsPlan(
            what="count overlaps",
            options=options,
            ledger=ledger,
            grid=grid,
            block_shape=block_shape,
            cost=costs.overlaps(truth, fragments, counter.depth),
            task=lambda: _OverlapBlock(counter, truth, fragments, masking, ledger),
            made="overlaps",
            tree=tree,
            mark=mark,
        )

    def run(self, options: EvaluateVolumesConfig) -> VolumeEvaluation:
        """Count overlaps, and score all thresholds by them."""
        started = time.perf_counter()
        plan = self.plan(options)
        with cluster(options) as client, held(plan, client) as plan:
            summary = execute(plan, client)
            table = add_up(client, plan.ledger, plan.blocks, _table, merge_tables)
        table = table.without(options.ignore_ids or ()).without_dust(options.ignore_dust)
        if np.any(table.truth == np.uint64(LARGEST)):
            console.print(
                f"{options.gt_path}: the label {LARGEST} counts as an object; where it stands for no truth, "
                "as in some data sets, name it in ignore_ids"
            )
        noted = {"method": options.method, "merge_function": options.merge_function}
        tree, grid = plan.tree, plan.grid
        with naming(options.gt_path, options.fragments_path):
            rows = [{**noted, **scores} for scores in score_cuts(table, tree, options.thresholds)]
            best = tree.cut(best_row(rows)["threshold"])
            mistakes = worst_mistakes(table, best, count=LISTED, grid=_grid_of_addresses(options, grid))
        outputs = write_scores(options, rows, scores_path(options), plan.mark)
        result = VolumeEvaluation(
            self.name,
            outputs,
            time.perf_counter() - started,
            summary.blocks,
            summary.skipped,
            scores=rows,
            mistakes=mistakes,
        )
        outputs["mistakes"] = _write_mistakes(options, result, grid, plan.mark)
        report(result)
        _tell(result)
        return result


def _grid_of_addresses(config: EvaluateVolumesConfig, grid: Grid) -> Grid | None:
    """Grid of the affinities that ids of fragments are addresses in; None for fragments made elsewhere."""
    for dataset in (config.fragments_dataset, config.fragments_dataset + UNREFINED):
        ledger = ExtractFragments().ledger(config.fragments_file, dataset)
        affinities = ledger.recorded_identity().get("affinities")
        if affinities is not None:
            # How large the affinities are is not recorded: a root may lie anywhere that ids can name.
            shape = (2 ** BITS[grid.ndim],) * grid.ndim
            return Grid(grid.dims, shape, affinities["voxel_size"], affinities["offset"], grid.units)
    return None


def _write_mistakes(
    config: EvaluateVolumesConfig, result: VolumeEvaluation, grid: Grid, mark: Mapping[str, Any]
) -> str:
    path = scores_path(config, "_mistakes")
    mistakes = result.mistakes
    columns: dict[str, Any] = {
        "kind": [m.kind for m in mistakes],
        "voi": [m.voi for m in mistakes],
        **{
            name: np.array([getattr(m, name) for m in mistakes], np.uint64)
            for name in ("label", "voxels", "pieces", "piece", "fragment")
        },
    }
    for axis, dim in enumerate(grid.dims):
        places = [m.position[axis] if m.position else np.nan for m in mistakes]
        columns[dim] = np.array(places, np.float64)
    facts = {
        "threshold": result.best["threshold"],
        "merge_function": config.merge_function,
        "mark": mark,
    }
    parquet.write_table(path, columns, facts)
    return path


def _tell(result: VolumeEvaluation) -> None:
    best = result.best
    console.print(
        f"  best threshold: {best['threshold']:g} (VOI split {best['voi_split']:.3f}, "
        f"merge {best['voi_merge']:.3f}, sum {best['voi_sum']:.3f})"
    )
    for kind, words in (("split", "object"), ("merge", "segment")):
        for mistake in [m for m in result.mistakes if m.kind == kind][:TOLD]:
            place = ", ".join(f"{x:g}" for x in mistake.position or ())
            console.print(
                f"  worst {kind}: {words} {mistake.label}, {mistake.pieces} pieces, VOI {mistake.voi:.3f}"
                + (f", look at ({place})" if place else "")
            )


@dataclass(frozen=True)
class _OverlapBlock:
    counter: OverlapCounter
    truth: StoredReader
    fragments: StoredReader
    mask: MaskReader | None
    ledger: Ledger

    def compute(self, block: Block) -> ContingencyTable:
        with naming(self.truth.stored.path, self.fragments.stored.path):
            if self.counter.boundary_tolerance:
                return self._count(block.region)
            return merge_tables([self._count(layer) for layer in _layers(block.region)])

    def _count(self, part: Region) -> ContingencyTable:
        # Around a region, the truth beside it is read as well.
        stored = self.truth.stored
        whole = StoredReader(stored, tuple(slice(0, n) for n in stored.grid.shape))
        places = zip(part, self.truth.origin, strict=True)
        region = tuple(slice(s.start + o, s.stop + o) for s, o in places)
        read = grow(region, self.counter.depth, whole.shape)
        truth = whole.read(read)
        core = within(region, read)
        # Where nothing is true, nothing counts.
        fragments = self.fragments.read(part) if truth[core].any() else np.zeros_like(truth[core])
        return self.counter.count(truth, fragments, self.mask.read(part) if self.mask else None, core)

    def write(self, block: Block, result: ContingencyTable) -> Mapping[str, Any]:
        paths = write_table(self.ledger, block, {f.name: getattr(result, f.name) for f in fields(result)})
        return {"overlaps": len(result), "files": paths}


def _layers(region: Region) -> Iterator[Region]:
    """Cut a region along its first axis into layers of about `LAYER` voxels, whole chunks thick."""
    first, *rest = region
    thickness = CHUNK * max(1, LAYER // (CHUNK * math.prod(s.stop - s.start for s in rest)))
    for start in range(first.start, first.stop, thickness):
        yield (slice(start, min(start + thickness, first.stop)), *rest)


def _table(arrays: Mapping[str, np.ndarray]) -> ContingencyTable:
    return ContingencyTable(**arrays)


evaluate_volumes = workflow(EvaluateVolumes())
