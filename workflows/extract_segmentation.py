"""Step 4: fragments and a lookup table -> segmentation."""

import time

from lsd_dask import files
from lsd_dask.overlap import StoredReader
from lsd_dask.runs import BlockGrid, Ledger
from lsd_dask.segmentation import RelabelRegion

from .config import workflow
from .extract_fragments import RelabelBlock
from .find_segments import open_merge_tree
from .models import ExtractSegmentationConfig
from .running import (
    StepResult,
    block_shape_for,
    cluster,
    identity_of,
    ledger_for,
    open_region,
    prepare_volume,
    report,
    run,
)


@workflow(ExtractSegmentationConfig)
def extract_segmentation(config: ExtractSegmentationConfig) -> StepResult:
    """Write the segmentation of one threshold: every fragment becomes its segment.

    A segment's id is the smallest fragment id in it, so the same object keeps its id in every crop and for
    every block size.
    """
    started = time.perf_counter()
    fragments = open_region(config.fragments_path, config)
    tree = open_merge_tree(config, config)
    grid = fragments.stored.grid.crop(fragments.part)
    block_shape = block_shape_for(grid, config.block_size, config.fragments_path)
    name = config.fragments_dataset.strip("/").rsplit("/", 1)[-1]
    out_name = config.out_dataset.strip("/").rsplit("/", 1)[-1]
    tree_run = Ledger(
        files.join(config.fragments_file, "runs", "agglomerate", f"{name}_{config.merge_function}"), {}
    ).recorded_fingerprint()
    identity = {
        "fragments": identity_of(fragments),
        "merge_tree": tree_run,
        "merge_function": config.merge_function,
        "threshold": config.threshold,
        "blocks": block_shape,
    }
    ledger = ledger_for(config.out_file, "extract_segmentation", out_name, identity)
    with cluster(config) as client:
        out = prepare_volume(ledger, config, config.out_path, grid, "uint64", block_shape, "segmentation")
        table = files.join(ledger.directory, "lookup.parquet")
        lut = tree.cut(config.threshold)
        lut.to_parquet(table)
        whole = tuple(slice(0, n) for n in grid.shape)
        task = RelabelBlock(StoredReader(fragments.stored, fragments.part), out, RelabelRegion(table))
        summary = run(
            "extract segmentation",
            task,
            BlockGrid(tuple(s.stop for s in whole), block_shape),
            ledger,
            client,
        )
    return report(
        StepResult(
            "extract_segmentation",
            {"segmentation": config.out_path},
            time.perf_counter() - started,
            summary.blocks,
            summary.skipped,
            facts={"segments": len(set(lut.values.tolist()))},
        )
    )
