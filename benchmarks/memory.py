"""Memory that one block of each step needs, beside what `lsd_dask.workflows.running.memory` expects.

The block is the middle one of a stored volume, so that it has its whole context. Each measurement is made in
a process of its own, which first does a small block, to have all code compiled and loaded. The exit status is
1 if a block needs more than is expected.

    python benchmarks/memory.py                      # some minutes; 6 GB of memory
    python benchmarks/memory.py --sizes 64 96        # small blocks, to see that it runs
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from _process import reset_peak, status

from lsd_dask import extract_fragments
from lsd_dask.blockwise.blocks import Block, BlockGrid
from lsd_dask.blockwise.ledgers import Ledger
from lsd_dask.clusters.environment import WORKER_ENVIRONMENT, read_in_one_thread
from lsd_dask.evaluation.volumes import OverlapCounter
from lsd_dask.segmentation.agglomeration import LookupTable
from lsd_dask.segmentation.region_graph import CountRegion
from lsd_dask.segmentation.relabelling import RelabelRegion
from lsd_dask.segmentation.watershed import Rules
from lsd_dask.space.neighborhoods import direct_for
from lsd_dask.synthetic.generating import neuropil
from lsd_dask.targets.descriptors import make_method
from lsd_dask.volumes.opening import open_stored
from lsd_dask.volumes.overlap import StoredReader
from lsd_dask.volumes.saving import create_volume
from lsd_dask.volumes.stored import StoredVolume
from lsd_dask.workflows.graph.counting import _CountBlock
from lsd_dask.workflows.running import memory
from lsd_dask.workflows.steps.evaluate_volumes import _OverlapBlock
from lsd_dask.workflows.steps.extract_fragments import RelabelBlock, _ExtractBlock
from lsd_dask.workflows.steps.lsds import _DescribeBlock

#: Side of the piece of neuropil that volumes are tiled with, and of the small block that is done first.
TILE, SMALL = 128, 32
#: Context, in voxels, that there is around the block: enough for every step.
CONTEXT = 48
#: Standard deviation of the descriptors' Gaussian, in voxels.
SIGMA = 8
DIRECT = ((-1, 0, 0), (0, -1, 0), (0, 0, -1))
#: Rows of the lookup table.
TABLE_ROWS = 1_000_000


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128, 192, 256], help="sides of blocks")
    parser.add_argument("--steps", nargs="+", default=list(STEPS), choices=list(STEPS))
    parser.add_argument("--json", action="store_true", help="one JSON object a line instead of a table")
    arguments = parser.parse_args()
    if not arguments.json:
        print("| step | block | measured | expected | ratio | a voxel read, beyond affinities |")
        print("| --- | --- | --- | --- | --- | --- |")
    too_little = False
    with tempfile.TemporaryDirectory() as directory:
        make_tiles(Path(directory))
        for size in arguments.sizes:
            for step in arguments.steps:
                found = measured(Path(directory), step, size)
                too_little |= found["expected"] < found["measured"]
                print(json.dumps(found) if arguments.json else row(found), flush=True)
    sys.exit(too_little)


def row(found: dict[str, Any]) -> str:
    ratio = found["expected"] / found["measured"]
    sizes = " | ".join(f"{found[key] / 1e6:.0f} MB" for key in ("measured", "expected"))
    beyond = (found["measured"] - found["before"] - found["affinities"]) / found["voxels"]
    return f"| {found['step']} | {found['size']}^3 | {sizes} | {ratio:.2f} | {beyond:.1f} bytes |"


def measured(directory: Path, step: str, size: int) -> dict[str, Any]:
    """What a block of a step needs, measured in a new process, and what it is expected to need; in bytes."""
    for side in (SMALL, size):
        make_volumes(directory, step, side)
        if step == "extract segmentation":
            make_table(directory, side)
    command = [sys.executable, __file__, "--peak", str(directory), step, str(size)]
    environment = {**os.environ, **WORKER_ENVIRONMENT}
    ended = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


def peak(directory: Path, step: str, size: int) -> dict[str, Any]:
    """Memory of this process before a block and at its peak, and what is expected."""
    read_in_one_thread()
    make = STEPS[step]
    run(*make(directory, SMALL)[:1], SMALL, context_of(step))
    task, bytes_for, haloed = make(directory, size)
    reset_peak()
    before = status("VmRSS")
    run(task, size, context_of(step))
    expected = bytes_for((size,) * 3)
    return {
        "step": step,
        "size": size,
        "before": before,
        "measured": status("VmHWM"),
        "expected": expected,
        "base": memory.BASE,
        "voxels": haloed**3,
        "affinities": 3 * haloed**3 if "affinities_uint8" in READ[step] else 0,
    }


def run(task: Any, size: int, context: int) -> None:
    """Compute and write the block of a step, as a worker does."""
    begin = size if context else 0
    block = Block((int(bool(context)),) * 3, (slice(begin, begin + size),) * 3)
    task.write(block, task.compute(block))


def context_of(step: str) -> int:
    return CONTEXT if step.startswith(("extract fragments", "describe", "count overlaps, ", "predict")) else 0


def extraction(directory: Path, size: int, dtype: str, method: Any = "steepest_ascent") -> Any:
    affinities = reader(directory, f"affinities_{dtype}", size, CONTEXT)
    rules = Rules(method=method)
    direct = direct_for(DIRECT, affinities.shape)
    task = _ExtractBlock(output(directory, affinities, size), affinities, None, (0, 0, 0), rules, direct)
    return task, memory.extraction(affinities, rules), size + 2 * rules.depth[0]


def counting(directory: Path, size: int) -> Any:
    affinities = reader(directory, "affinities_uint8", size, 0)
    fragments = reader(directory, "fragments", size, 0)
    count = CountRegion(DIRECT)
    task = _CountBlock(affinities, fragments, count, ledger(directory))
    return task, memory.counting(affinities, fragments, count), size


def relabelling(directory: Path, size: int) -> Any:
    fragments = reader(directory, "fragments", size, 0)
    path = str(directory / f"table_{size}.parquet")
    task = RelabelBlock(output(directory, fragments, size), fragments, RelabelRegion(path))
    return task, memory.relabelling(fragments, TABLE_ROWS), size


def overlaps(directory: Path, size: int, boundary_tolerance: float = 0.0) -> Any:
    counter = OverlapCounter((1, 1, 1), boundary_tolerance)
    context = CONTEXT if boundary_tolerance else 0
    truth, fragments = (reader(directory, name, size, context) for name in ("labels", "fragments"))
    task = _OverlapBlock(counter, truth, fragments, None, ledger(directory))
    return task, memory.overlaps(truth, fragments, counter.depth), size + 2 * counter.depth[0]


def description(directory: Path, size: int, dtype: str) -> Any:
    labels = reader(directory, "labels", size, CONTEXT)
    method = make_method(labels.stored.grid, SIGMA)
    task = _DescribeBlock(output(directory, labels, size, dtype, 10), labels, method)
    return task, memory.description(labels, method, dtype), size + 2 * method.depth[0]


def prediction(directory: Path, size: int) -> Any:
    # Here, so that the other steps are measured without PyTorch.
    from lsd_dask.networks.checkpoints import save_checkpoint
    from lsd_dask.networks.models import ModelConfig, build_model
    from lsd_dask.prediction.inference import Predictor, StoredNetwork, digest
    from lsd_dask.prediction.tiles import PredictRegion, tile_shape_for
    from lsd_dask.workflows.steps.predict import _PredictBlock

    raw, network = reader(directory, "raw", size, CONTEXT), str(directory / "network.pt")
    if not Path(network).exists():
        model = build_model(ModelConfig(kind="mtlsd", num_fmaps=8, fmap_inc_factor=3))
        save_checkpoint(network, model, voxel_size=(1, 1, 1), iteration=0)
    predictor = Predictor(StoredNetwork(network, digest(network)), ("affinities", "lsds"))
    predict = PredictRegion(predictor, "reflect", tile_shape_for(predictor))
    outputs = [output(directory, raw, size, "uint8", channels) for channels in (3, 10)]
    task = _PredictBlock(outputs, raw, None, predict, (0, 0, 0))
    return task, memory.prediction(raw, predict, predictor.channels), size + 2 * predict.depth[0]


STEPS: dict[str, Callable[[Path, int], Any]] = {
    "extract fragments, uint8": lambda d, n: extraction(d, n, "uint8"),
    "extract fragments, float32": lambda d, n: extraction(d, n, "float32"),
    "extract fragments, seeded": lambda d, n: extraction(d, n, "uint8", "seeded"),
    "build region graph": counting,
    "extract segmentation": relabelling,
    "count overlaps": overlaps,
    "count overlaps, boundaries": lambda d, n: overlaps(d, n, 2.0),
    "describe shapes, uint8": lambda d, n: description(d, n, "uint8"),
    "describe shapes, float32": lambda d, n: description(d, n, "float32"),
    "predict": prediction,
}

#: What the volumes of each step are called.
READ = {
    "extract fragments, uint8": ("affinities_uint8",),
    "extract fragments, float32": ("affinities_float32",),
    "extract fragments, seeded": ("affinities_uint8",),
    "build region graph": ("affinities_uint8", "fragments"),
    "extract segmentation": ("fragments",),
    "count overlaps": ("labels", "fragments"),
    "count overlaps, boundaries": ("labels", "fragments"),
    "describe shapes, uint8": ("labels",),
    "describe shapes, float32": ("labels",),
    "predict": ("raw",),
}


def make_tiles(directory: Path) -> None:
    """Save a piece of neuropil: affinities, labels, fragments."""
    tissue = neuropil((TILE,) * 3, somata=False).compute(scheduler="synchronous")
    affinities = tissue.affinities.values
    np.save(directory / "affinities_uint8.npy", affinities)
    np.save(directory / "affinities_float32.npy", affinities / np.float32(255))
    np.save(directory / "labels.npy", tissue.labels.values)
    np.save(directory / "raw.npy", tissue.raw.values)
    np.save(directory / "fragments.npy", extract_fragments(affinities))


def make_volumes(directory: Path, step: str, size: int) -> None:
    """Store what a step reads, tile beside tile: one block, or also its context, in the blocks around it."""
    context = context_of(step)
    begin, end = (size - context, 2 * size + context) if context else (0, size)
    shape = ((3 if context else 1) * size,) * 3
    for name in READ[step]:
        path = path_of(directory, name, size, context)
        if Path(path).exists():
            continue
        tile = np.load(directory / f"{name}.npy")
        lead = tile.shape[:-3]
        stored = create_volume(path, lead + shape, tile.dtype, voxel_size=(1,) * 3, block_shape=(size,) * 3)
        for block in BlockGrid(shape, (size,) * 3):
            held = [np.arange(max(s.start, begin), min(s.stop, end)) for s in block.region]
            place = [
                slice(h[0] - s.start, h[-1] + 1 - s.start) for h, s in zip(held, block.region, strict=True)
            ]
            voxels = np.zeros(lead + (size,) * 3, tile.dtype)
            voxels[(..., *place)] = tile[(..., *np.ix_(*(h % TILE for h in held)))]
            if tile.dtype == np.uint64:
                # The same in each tile, but other objects.
                z, y, x = (h // TILE for h in held)
                number = np.uint64(2**48) * (z[:, None, None] * 64 + y[:, None] * 8 + x).astype(np.uint64)
                voxels[(..., *place)] += number * (voxels[(..., *place)] > 0)
            stored.write(block.region, voxels)


def make_table(directory: Path, size: int) -> None:
    """Write a lookup table of the fragments, and of as many as a large volume has."""
    fragments = reader(directory, "fragments", size, 0)
    found = np.unique(fragments.read(fragments.part))
    found = found[found > 0]
    ids = np.concatenate([found, np.arange(2**62, 2**62 + TABLE_ROWS - len(found), dtype=np.uint64)])
    LookupTable(ids, ids).to_parquet(str(directory / f"table_{size}.parquet"))


def path_of(directory: Path, name: str, size: int, context: int) -> str:
    return str(directory / "volumes.zarr" / f"{name}_{size}_{context}")


def reader(directory: Path, name: str, size: int, context: int) -> StoredReader:
    stored = open_stored(path_of(directory, name, size, context))
    return StoredReader(stored, tuple(slice(0, n) for n in stored.grid.shape))


def output(
    directory: Path, like: StoredReader, size: int, dtype: str = "uint64", channels: int | None = None
) -> StoredVolume:
    lead: Sequence[int] = () if channels is None else (channels,)
    return create_volume(
        str(directory / "volumes.zarr" / f"out_{channels}"),
        (*lead, *like.shape),
        dtype,
        voxel_size=(1,) * 3,
        block_shape=(size,) * 3,
        overwrite=True,
    )


def ledger(directory: Path) -> Ledger:
    return Ledger(str(directory / "runs"), {})


if __name__ == "__main__":
    if sys.argv[1:2] == ["--peak"]:
        print(json.dumps(peak(Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))))
    else:
        main()
