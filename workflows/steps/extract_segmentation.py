"""Step 4: fragments and a lookup table -> segmentation."""

import numpy as np

from lsd_dask.segmentation.relabelling import RelabelRegion
from lsd_dask.storage import files
from lsd_dask.storage.row_groups import KEPT, ROWS
from lsd_dask.volumes.stored import StoredVolume

from ..config.steps import ExtractSegmentationConfig
from ..running import costs
from ..running.inputs import block_shape_for, identity_of, open_labels
from ..running.outputs import Output, check_output
from ..running.plans import StepPlan
from ..step import BlockStep, workflow
from .extract_fragments import RelabelBlock
from .find_segments import edits_fact, made_of_tree_and_edits, open_edits, open_merge_tree


class ExtractSegmentation(BlockStep[ExtractSegmentationConfig]):
    """Write the segmentation of one threshold: every fragment becomes its segment.

    A segment's id is the smallest fragment id in it, so the same object keeps its id in every crop and for
    every block size.
    """

    model = ExtractSegmentationConfig
    container = "out_file"

    def plan(self, options: ExtractSegmentationConfig) -> StepPlan:
        """Cut the merge tree; see `BlockStep.plan`."""
        fragments = open_labels(options.fragments_path, options)
        tree = open_merge_tree(options, options)
        grid = fragments.stored.grid.crop(fragments.part)
        block_shape = block_shape_for(grid, options.block_size, options.fragments_path)
        edits = open_edits(options, options, tree)
        lut = tree.cut(options.threshold, edits=edits)
        identity = {
            "fragments": identity_of(fragments),
            "lookup table": lut.digest,
            "blocks": block_shape,
        }
        ledger = self.ledger(options.out_file, options.out_dataset, **identity)
        check_output(ledger, options.out_path, fragments.stored.path, overwrite=options.overwrite)

        def task(out: StoredVolume) -> RelabelBlock:
            table = files.join(ledger.directory, "lookup.parquet")
            lut.to_parquet(table)
            return RelabelBlock(out, fragments, RelabelRegion(table))

        return StepPlan(
            what="extract segmentation",
            options=options,
            ledger=ledger,
            grid=grid,
            block_shape=block_shape,
            # Of larger tables, workers read what they need.
            cost=costs.relabelling(fragments, min(len(lut), KEPT * ROWS)),
            task=task,
            made="segmentation",
            volumes=[Output("segmentation", options.out_path, "uint64")],
            # One that was made anew with the same rows gives the same, so it is not in the identity.
            made_of=made_of_tree_and_edits(options, options, options),
            facts={"segments": len(np.unique(lut.values)), **edits_fact(edits)},
        )


extract_segmentation = workflow(ExtractSegmentation())
