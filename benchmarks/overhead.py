"""What runs of blocks cost beside the work: as many empty blocks as each step of the pipeline has.

The pipeline is run on synthetic neuropil; then, for each step that works block by block, `run_blocks` hands
the same blocks to a task that does nothing. What that takes - scheduling, and the records beside the data -
is what dask and the ledger add to a step.

    python benchmarks/overhead.py --sizes 512 --workers 2
"""

import argparse
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import folder, make_volume, run

from lsd_dask import clusters
from lsd_dask.blockwise.blocks import Block, BlockGrid
from lsd_dask.blockwise.ledgers import Ledger
from lsd_dask.blockwise.runs import run_blocks
from lsd_dask.volumes.opening import open_stored
from lsd_dask.workflows.running.inputs import block_shape_for

#: Steps that work block by block.
BLOCKWISE = ("extract fragments", "agglomerate", "extract segmentation", "evaluate volumes")


@dataclass(frozen=True)
class Nothing:
    """The task of a block that has nothing to do."""

    def compute(self, block: Block) -> None:
        """Nothing."""

    def write(self, block: Block, result: None) -> Mapping[str, Any]:
        """No facts."""
        return {}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[512], help="sides of volumes, voxels")
    parser.add_argument("--workers", type=int, default=2, help="number of processes")
    parser.add_argument("--folder", type=Path, help="where volumes are kept; by default they are removed")
    options = parser.parse_args()
    print("| size | workers | step | blocks | wall s | empty blocks, wall s | share |")
    print("| ---: | ---: | --- | ---: | ---: | ---: | ---: |")
    with folder(options.folder) as directory:
        for size in options.sizes:
            volume = directory / f"neuropil_{size}.zarr"
            make_volume(volume, size, options.workers)
            grid = open_stored(volume / "affs").grid
            blocks = BlockGrid(grid.shape, block_shape_for(grid, None, str(volume)))
            with clusters.connect("local", num_workers=options.workers) as client:
                costs = list(run(client, volume, directory / f"overhead_{size}.zarr", None))
                empty = directory / f"empty_{size}"
                empty_run(client, blocks, empty)  # workers import for the first one
                spent = {step: empty_run(client, blocks, empty) for step in BLOCKWISE}
            rows = [(cost.step, cost.wall, spent[cost.step]) for cost in costs if cost.step in spent]
            rows.append(("**all**", sum(cost.wall for cost in costs), sum(spent.values())))
            for step, wall, idle in rows:
                count = len(blocks) * (1 if step in spent else len(spent))
                print(
                    f"| {size}^3 | {options.workers} | {step} | {count} | {wall:.1f} | {idle:.2f} | "
                    f"{idle / wall:.1%} |",
                    flush=True,
                )


def empty_run(client: Any, blocks: BlockGrid, directory: Path) -> float:
    """Wall seconds of a run of blocks with nothing to do."""
    ledger = Ledger(str(directory), {"step": "nothing"})
    ledger.clear()
    ledger.begin(blocks)
    started = time.perf_counter()
    run_blocks("nothing", Nothing(), blocks, ledger, client)
    return time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(main())
