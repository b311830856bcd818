"""Step 5: segmentations of all thresholds against a ground truth, from one pass over the volumes."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from lsd_dask.blockwise.blocks import Block, BlockGrid
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
from lsd_dask.segmentation.derivation import facts_of_run
from lsd_dask.segmentation.ids import BITS
from lsd_dask.space.grids import Grid, Region
from lsd_dask.storage import parquet
from lsd_dask.volumes.masks import MaskReader
from lsd_dask.volumes.overlap import StoredReader, grow, within

from ..config.fields import array_path
from ..config.steps import EvaluateVolumesConfig
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
from ..running.memory import LAYER, check_memory, overlaps, worker_limit
from ..running.outputs import cluster, console, hold, ledger_for, prepare, report, run
from ..running.tasks import add_up, write_table
from ..step import workflow
from .extract_fragments import UNREFINED
from .find_segments import open_merge_tree
from .scoring import Evaluation, check_tables, mark_of_scores, scores_path, write_scores

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


@workflow(EvaluateVolumesConfig)
def evaluate_volumes(config: EvaluateVolumesConfig) -> VolumeEvaluation:
    """Score the segmentations of a range of thresholds against a ground truth.

    One pass over the volumes counts how fragments and true objects overlap; every threshold is then scored on
    that table alone. What is evaluated is where both have voxels, except where the true label is 0. The
    scores are written as a Parquet file into the folder ``rag/scores`` of the fragments' container, with a
    plot and a table of the worst mistakes beside it.
    """
    started = time.perf_counter()
    container, dataset = config.fragments_file, config.fragments_dataset
    fragments = open_labels(config.fragments_path, config)
    truth, fragments = shared_part(open_input(config.gt_path), fragments, config.fragments_path)
    grid = fragments.stored.grid.crop(fragments.part)
    check_labels(truth)
    mask = None
    if config.mask_file is not None and config.mask_dataset is not None:
        mask = open_mask(array_path(config.mask_file, config.mask_dataset), grid, config.fragments_path)
    tree = open_merge_tree(config, config)
    check_tables(config, scores_path(config), scores_path(config, "_mistakes"))
    mark = mark_of_scores(config, truth=config.gt_path)
    tolerance = grid.lengths("boundary_tolerance", (config.boundary_tolerance,) * grid.ndim)[0]
    if 0 < tolerance < min(grid.voxel_size):
        console.print(
            f"boundary_tolerance: {tolerance:g} {grid.units} is less than a voxel, {min(grid.voxel_size):g}, "
            'and leaves nothing out; a unit can be told, such as "30 nm"'
        )
    counter = OverlapCounter(grid.voxel_size, tolerance)
    block_shape = block_shape_for(grid, None, config.fragments_path)
    identity = {
        "truth": identity_of(truth),
        "fragments": identity_of(fragments),
        "mask": identity_of(mask) if mask else None,
        "boundary_tolerance": tolerance,
        "blocks": block_shape,
    }
    ledger = ledger_for(container, "evaluate_volumes", dataset, identity)
    blocks = BlockGrid(grid.shape, block_shape)
    task = _OverlapBlock(
        counter, truth, fragments, MaskReader(mask, mask.stored.grid, grid) if mask else None, ledger
    )
    with hold(ledger), cluster(config) as client:
        needs = overlaps(truth, fragments, counter.depth)
        check_memory("count overlaps", needs, block_shape, grid, worker_limit(client))
        if not prepare(ledger, config, what="overlaps"):
            ledger.begin(blocks, **facts_of_run(ledger))
        summary = run("count overlaps", task, blocks, ledger, client, verify=config.verify)
        assert client is not None
        table = add_up(client, ledger, blocks, _table, merge_tables)
    table = table.without(config.ignore_ids or ()).without_dust(config.ignore_dust)
    if np.any(table.truth == np.uint64(LARGEST)):
        console.print(
            f"{config.gt_path}: the label {LARGEST} counts as an object; where it stands for no truth, as in "
            "some data sets, name it in ignore_ids"
        )
    noted = {"method": config.method, "merge_function": config.merge_function}
    with naming(config.gt_path, config.fragments_path):
        rows = [{**noted, **scores} for scores in score_cuts(table, tree, config.thresholds)]
        best = tree.cut(best_row(rows)["threshold"])
        mistakes = worst_mistakes(table, best, count=LISTED, grid=_grid_of_addresses(config, grid))
    outputs = write_scores(config, rows, scores_path(config), mark)
    result = VolumeEvaluation(
        "evaluate_volumes",
        outputs,
        time.perf_counter() - started,
        summary.blocks,
        summary.skipped,
        scores=rows,
        mistakes=mistakes,
    )
    outputs["mistakes"] = _write_mistakes(config, result, grid, mark)
    report(result)
    _tell(result)
    return result


def _grid_of_addresses(config: EvaluateVolumesConfig, grid: Grid) -> Grid | None:
    """Grid of the affinities that ids of fragments are addresses in; None for fragments made elsewhere."""
    for dataset in (config.fragments_dataset, config.fragments_dataset + UNREFINED):
        ledger = ledger_for(config.fragments_file, "extract_fragments", dataset, {})
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
