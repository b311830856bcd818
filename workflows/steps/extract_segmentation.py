"""Step 4: fragments and a lookup table -> segmentation."""

import time

import numpy as np

from lsd_dask.blockwise.blocks import BlockGrid
from lsd_dask.segmentation.relabelling import RelabelRegion
from lsd_dask.storage import files
from lsd_dask.storage.row_groups import KEPT, ROWS

from ..config.steps import ExtractSegmentationConfig
from ..running.inputs import block_shape_for, identity_of, open_labels
from ..running.memory import check_memory, relabelling, worker_limit
from ..running.outputs import StepResult, check_output, cluster, hold, ledger_for, prepare_volume, report, run
from ..step import workflow
from .extract_fragments import RelabelBlock
from .find_segments import edits_fact, made_of_tree_and_edits, open_edits, open_merge_tree


@workflow(ExtractSegmentationConfig)
def extract_segmentation(config: ExtractSegmentationConfig) -> StepResult:
    """Write the segmentation of one threshold: every fragment becomes its segment.

    A segment's id is the smallest fragment id in it, so the same object keeps its id in every crop and for
    every block size.
    """
    started = time.perf_counter()
    fragments = open_labels(config.fragments_path, config)
    tree = open_merge_tree(config, config)
    grid = fragments.stored.grid.crop(fragments.part)
    block_shape = block_shape_for(grid, config.block_size, config.fragments_path)
    edits = open_edits(config, config, tree)
    lut = tree.cut(config.threshold, edits=edits)
    identity = {
        "fragments": identity_of(fragments),
        "lookup table": lut.digest,
        "blocks": block_shape,
    }
    # A tree that was made anew with the same rows gives the same segmentation, so it is not in the identity.
    of_tree = made_of_tree_and_edits(config, config, config)
    ledger = ledger_for(config.out_file, "extract_segmentation", config.out_dataset, identity)
    check_output(ledger, config.out_path, fragments.stored.path, overwrite=config.overwrite)
    with hold(ledger), cluster(config) as client:
        # Of larger tables, workers read what they need.
        needs = relabelling(fragments, min(len(lut), KEPT * ROWS))
        check_memory("extract segmentation", needs, block_shape, grid, worker_limit(client))
        out = prepare_volume(
            ledger, config, config.out_path, grid, "uint64", block_shape, "segmentation", made_of=of_tree
        )
        table = files.join(ledger.directory, "lookup.parquet")
        lut.to_parquet(table)
        task = RelabelBlock(out, fragments, RelabelRegion(table))
        blocks = BlockGrid(grid.shape, block_shape)
        summary = run("extract segmentation", task, blocks, ledger, client, verify=config.verify)
    return report(
        StepResult(
            "extract_segmentation",
            {"segmentation": config.out_path},
            time.perf_counter() - started,
            summary.blocks,
            summary.skipped,
            facts={"segments": len(np.unique(lut.values)), **edits_fact(edits)},
        )
    )
