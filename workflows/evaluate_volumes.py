"""Step 5: segmentations of all thresholds against a ground truth, from one pass over the volumes."""

import io
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lsd_dask import files
from lsd_dask.blocks import Block, BlockGrid
from lsd_dask.evaluation import ContingencyTable, merge_tables
from lsd_dask.formats import open_stored
from lsd_dask.ledgers import Ledger
from lsd_dask.overlap import StoredReader

from .config import workflow
from .find_segments import open_merge_tree, rag_directory_of
from .inputs import block_shape_for, check_labels, identity_of, naming, open_labels, shared_part
from .memory import check_memory, overlaps, worker_limit
from .models import EvaluateVolumesConfig
from .running import (
    StepResult,
    cluster,
    console,
    hold,
    ledger_for,
    prepare,
    report,
    run,
    run_that_wrote,
)
from .tasks import add_up, write_table


@dataclass(frozen=True)
class Evaluation(StepResult):
    """What `evaluate_volumes` found.

    Attributes
    ----------
    scores
        One row a threshold: ``threshold``, ``voi_split``, ``voi_merge``, ``voi_sum``, ``rand_split``,
        ``rand_merge``, ...
    """

    scores: Sequence[Mapping[str, Any]] = ()

    @property
    def best(self) -> Mapping[str, Any]:
        """The row with the lowest sum of VOI split and merge."""
        return min(self.scores, key=lambda row: (row["voi_sum"], row["threshold"]))


@workflow(EvaluateVolumesConfig)
def evaluate_volumes(config: EvaluateVolumesConfig) -> Evaluation:
    """Score the segmentations of a range of thresholds against a ground truth.

    One pass over the volumes counts how fragments and true objects overlap; every threshold is then scored on
    that table alone. What is evaluated is where both have voxels, except where the true label is 0. The
    scores are written as a Parquet file into the folder ``rag/scores`` of the fragments' container.
    """
    started = time.perf_counter()
    container, dataset = config.fragments_file, config.fragments_dataset
    fragments = open_labels(config.fragments_path, config)
    truth, fragments = shared_part(open_stored(config.gt_path), fragments, config.fragments_path)
    grid = fragments.stored.grid.crop(fragments.part)
    check_labels(truth.stored)
    tree = open_merge_tree(config, config)
    block_shape = block_shape_for(grid, None, config.fragments_path)
    identity = {
        "truth": identity_of(truth),
        "fragments": identity_of(fragments, run_that_wrote(container, dataset)),
        "blocks": block_shape,
    }
    ledger = ledger_for(container, "evaluate_volumes", dataset, identity)
    blocks = BlockGrid(grid.shape, block_shape)
    with hold(ledger), cluster(config) as client:
        needs = overlaps(truth, fragments)
        check_memory("count overlaps", needs, block_shape, grid, worker_limit(client))
        if not prepare(ledger, config, what="overlaps"):
            ledger.begin(blocks)
        summary = run("count overlaps", _OverlapBlock(truth, fragments, ledger), blocks, ledger, client)
        assert client is not None
        table = add_up(client, ledger, blocks, _table, merge_tables)
    rows = []
    for threshold in config.thresholds:
        lut = tree.cut(threshold)
        with naming(config.gt_path, config.fragments_path):
            scores = table.relabel_test(lut.keys, lut.values).scores()
        rows.append(
            {
                "method": config.method,
                "merge_function": config.merge_function,
                "threshold": threshold,
                **scores,
                "voi_sum": scores["voi_split"] + scores["voi_merge"],
            }
        )
    path = _scores_path(config)
    _write_scores(rows, path)
    result = Evaluation(
        "evaluate_volumes",
        {"scores": path},
        time.perf_counter() - started,
        summary.blocks,
        summary.skipped,
        scores=rows,
    )
    report(result)
    best = result.best
    console.print(
        f"  best threshold: {best['threshold']:g} (VOI split {best['voi_split']:.3f}, "
        f"merge {best['voi_merge']:.3f}, sum {best['voi_sum']:.3f})"
    )
    return result


@dataclass(frozen=True)
class _OverlapBlock:
    truth: StoredReader
    fragments: StoredReader
    ledger: Ledger

    def compute(self, block: Block) -> ContingencyTable:
        with naming(self.truth.stored.path, self.fragments.stored.path):
            return ContingencyTable.from_volumes(
                self.truth.read(block.region), self.fragments.read(block.region)
            )

    def write(self, block: Block, result: ContingencyTable) -> Mapping[str, Any]:
        write_table(self.ledger, block, {f.name: getattr(result, f.name) for f in fields(result)})
        return {"overlaps": len(result)}


def _table(arrays: Mapping[str, np.ndarray]) -> ContingencyTable:
    return ContingencyTable(**arrays)


def _scores_path(config: EvaluateVolumesConfig) -> str:
    variant = [config.run_type] if config.run_type else []
    name = f"{config.merge_function}.parquet"
    return files.join(rag_directory_of(config), "scores", *variant, name)


def _write_scores(rows: list[dict[str, Any]], path: str) -> None:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), buffer)
    files.write_bytes(path, buffer.getvalue())
