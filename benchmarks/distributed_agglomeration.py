"""Memory of every task of an agglomeration in the cells of an octree, beside that of one process.

A volume of synthetic neuropil is cut into fragments; their region graph is added up and agglomerated in the
cells of an octree, and then by one process, which is a new one. The merge trees are compared, byte by byte.
Memory is beyond that of a process that has done the same for a small graph, so that code and caches are not
counted. The exit status is 1 if the trees differ.

    python benchmarks/distributed_agglomeration.py                            # 256^3 voxels, 64 blocks
    python benchmarks/distributed_agglomeration.py --side 1024 --block 128    # 512 blocks; 10 GB of memory
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from _process import reset_peak, status

import lsd_dask as ld
from lsd_dask import synthetic, workflows
from lsd_dask.segmentation.agglomeration import MergeTree, agglomerate
from lsd_dask.segmentation.contraction import agglomerate_in_blocks
from lsd_dask.segmentation.region_graph import RegionGraph

#: Side, in voxels, of the small volume that is done first, and of the pieces that neuropil is made in.
SMALL, PIECE = 64, 128
VOXEL_SIZE = (16.0, 16.0, 16.0)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--side", type=int, default=256, help="of the volume, in voxels")
    parser.add_argument("--block", type=int, default=64, help="side of a block, in voxels")
    parser.add_argument("--merge-function", default="hist_quant_75")
    parser.add_argument("--num-workers", type=int, default=2)
    parser.add_argument("--container", type=Path, help="kept, and gone on with; by default a temporary one")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        container = arguments.container or Path(directory) / "distributed.zarr"
        found = measured(arguments, container)
    print(json.dumps(found) if arguments.json else table(found))
    sys.exit(not found["same"])


def measured(arguments: argparse.Namespace, container: Path) -> dict[str, Any]:
    """Everything that is told, of a volume in a container."""
    block_size = [arguments.block * v for v in VOXEL_SIZE]
    options = {
        "fragments_file": container,
        "affs_file": container,
        "block_size": block_size,
        "num_workers": arguments.num_workers,
    }
    if not (container / "volumes/affs").exists():
        volume = synthetic.neuropil((arguments.side,) * 3, voxel_size=VOXEL_SIZE, chunks=PIECE)
        ld.save_volume(volume.affinities, container / "volumes/affs")
    workflows.extract_fragments(**options)
    started = time.perf_counter()
    result = workflows.agglomerate(**options, merge_function=arguments.merge_function, octree=True)
    seconds = time.perf_counter() - started
    runs = container / "runs"
    peaks: dict[str, int] = {}
    for path in (
        runs / "region_graph/volumes/fragments",
        runs / "agglomerate/volumes/fragments" / arguments.merge_function,
    ):
        peaks |= json.loads((path / "finished.json").read_text())["peak_memory"]
    tree_path = Path(result.outputs["merge tree"])
    command = [sys.executable, __file__, "--one", str(tree_path.parent), arguments.merge_function]
    ended = subprocess.run(command, check=True, capture_output=True, text=True)
    return {
        "side": arguments.side,
        "block": arguments.block,
        "fragments": result.facts["fragments"],
        "edges": result.facts["edges"],
        "seconds": seconds,
        "cells": cells_of(peaks),
        **json.loads(ended.stdout),
    }


def cells_of(peaks: dict[str, int]) -> dict[str, dict[str, float]]:
    """Of each task and level: number of cells, and the peak of the largest beyond the least of all."""
    base = min(peaks.values())
    levels: dict[str, list[int]] = defaultdict(list)
    for name, peak in peaks.items():
        levels[name.rpartition("/")[0]].append(peak - base)
    return {name: {"cells": len(held), "most": max(held)} for name, held in levels.items()}


def one_process(directory: str, merge_function: str) -> dict[str, Any]:
    """Memory that this process takes for the same, and whether the results are."""
    small = synthetic.neuropil((SMALL,) * 3, voxel_size=VOXEL_SIZE, chunks=SMALL).affinities.values
    first = ld.build_region_graph(small, ld.extract_fragments(small))
    agglomerate(first, merge_function).merge_scores(first)
    agglomerate_in_blocks(first, merge_function, (SMALL // 2,) * 3)
    del small, first
    reset_peak()
    before, started = status("VmRSS"), time.perf_counter()
    graph = RegionGraph.from_parquet(directory)
    tree = agglomerate(graph, merge_function)
    scores = tree.merge_scores(graph)
    peak, seconds = status("VmHWM") - before, time.perf_counter() - started
    written = MergeTree.from_parquet(f"{directory}/merges_{merge_function}.parquet")
    edges = pq.read_table(f"{directory}/edges_{merge_function}.parquet")["merge_score"]
    same = all(
        np.array_equal(getattr(tree, name), getattr(written, name)) for name in ("ids", "parents", "levels")
    )
    same = same and np.array_equal(scores, edges.to_numpy(), equal_nan=True)
    return {"one_process": peak, "one_process_seconds": seconds, "same": bool(same)}


def table(found: dict[str, Any]) -> str:
    lines = [
        f"{found['side']}^3 voxels in blocks of {found['block']}^3: {found['fragments']} fragments, "
        f"{found['edges']} edges; {found['seconds']:.0f} s in cells",
        "",
        "| task, level | cells | most memory of one | of one process' |",
        "| --- | ---: | ---: | ---: |",
        f"| one process | | {found['one_process'] / 1e6:.0f} MB | |",
    ]
    for name, cells in found["cells"].items():
        share = cells["most"] / found["one_process"]
        lines.append(f"| {name} | {cells['cells']:.0f} | {cells['most'] / 1e6:.0f} MB | {share:.2f} |")
    return "\n".join([*lines, "", f"the same merge tree and scores: {found['same']}"])


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(one_process(*sys.argv[2:])))
    else:
        main()
