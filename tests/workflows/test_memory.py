"""Whether a block fits into a worker: the model beside measured blocks, and what is proposed instead."""

import json
import math
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from distributed import Client
from hypothesis import given
from hypothesis import strategies as st

from lsd_dask.segmentation.region_graph import CountRegion
from lsd_dask.segmentation.watershed import Rules
from lsd_dask.space.grids import Grid
from lsd_dask.targets.descriptors import make_method
from lsd_dask.volumes.overlap import StoredReader
from lsd_dask.volumes.saving import create_volume
from lsd_dask.volumes.stored import StoredVolume
from lsd_dask.workflows.running import memory
from lsd_dask.workflows.running.inputs import block_shape_for

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "memory.py"
DIRECT = ((-1, 0, 0), (0, -1, 0), (0, 0, -1))
FAR = (*DIRECT, (-9, 0, 0), (0, -9, 0), (0, 0, -9))
STEPS = (
    "extract fragments, uint8",
    "extract fragments, float32",
    "extract fragments, seeded",
    "build region graph",
    "extract segmentation",
    "count overlaps",
    "count overlaps, boundaries",
    "describe shapes, uint8",
    "describe shapes, float32",
    "predict",
)


@cache
def measurements() -> dict[str, dict[str, Any]]:
    """One block of each step, each in a process of its own."""
    # Much of what smaller blocks need is what the allocator keeps.
    command = [sys.executable, "-W", "error", str(BENCHMARK), "--sizes", "128", "--json"]
    ended = subprocess.run(command, capture_output=True, text=True)
    found = [json.loads(line) for line in ended.stdout.splitlines()]
    assert found, ended.stderr
    return {one["step"]: one for one in found}


@pytest.mark.parametrize("step", STEPS)
def test_the_model_covers_what_is_measured(step: str) -> None:
    found = measurements()[step]
    assert found["expected"] >= found["measured"]
    assert found["expected"] <= 1.5 * found["measured"]


def stored(dtype: str, channels: int | None = None, **layout: Any) -> StoredReader:
    """A volume of 1024^3 voxels, none of which is there."""
    path = f"memory://memory-{dtype}-{channels}-{'-'.join(map(str, layout.values()))}.zarr/volume"
    shape = (1024,) * 3 if channels is None else (channels, 1024, 1024, 1024)
    volume = create_volume(path, shape, dtype, voxel_size=(4, 3, 3), overwrite=True, **layout)
    return StoredReader(volume, (slice(0, 1024),) * 3)


def needs() -> dict[str, memory.BytesFor]:
    affinities, labels = stored("uint8", 3), stored("uint64")
    method = make_method(labels.stored.grid, 30)
    return {
        "uint8": memory.extraction(affinities, Rules()),
        "float32": memory.extraction(stored("float32", 3), Rules()),
        "seeded": memory.extraction(affinities, Rules(method="seeded")),
        "sections": memory.extraction(affinities, Rules(method="seeded", in_xy=True)),
        "chunks": memory.extraction(stored("uint8", 3, zarr_format=2, block_shape=(128,) * 3), Rules()),
        "graph": memory.counting(affinities, labels, CountRegion(DIRECT)),
        "segmentation": memory.relabelling(labels, 1000),
        "overlaps": memory.overlaps(stored("uint32"), labels, (0, 0, 0)),
        "descriptors": memory.description(labels, method, "uint8"),
    }


@pytest.mark.parametrize("name", needs())
def test_larger_blocks_need_more(name: str) -> None:
    bytes_for = needs()[name]
    sides = [bytes_for((side,) * 3) for side in (8, 64, 256, 1024)]
    assert sides[0] > memory.BASE
    assert sides == sorted(set(sides))


def test_more_is_needed_for_larger_values_channels_tables_and_chunks() -> None:
    found, block = {name: bytes_for((256,) * 3) for name, bytes_for in needs().items()}, (256,) * 3
    affinities, labels = stored("uint8", 3), stored("uint64")
    assert found["uint8"] < found["float32"] < found["seeded"]
    many = memory.extraction(stored("uint8", 12), Rules())(block)
    assert found["uint8"] < many
    far = memory.counting(stored("uint8", 6), labels, CountRegion(FAR))(block)
    assert found["graph"] < far
    assert memory.counting(stored("float32", 3), labels, CountRegion(DIRECT))(block) > found["graph"]
    rows = memory.relabelling(labels, 10**7)(block) - found["segmentation"]
    assert rows == memory.TABLE_ROW * (10**7 - 1000)
    # Of a volume without shards, whole chunks are decoded.
    large = memory.extraction(stored("uint8", 3, zarr_format=2, block_shape=(1024,) * 3), Rules())((8,) * 3)
    assert large > 3 * 1024**3 > memory.extraction(affinities, Rules())((8,) * 3)


def test_context_is_clipped_to_the_volume() -> None:
    bytes_for = memory.extraction(stored("uint8", 3), Rules())
    assert bytes_for((1024, 1024, 1024)) == memory.BASE + max(12, 5 + 8) * 1024**3


def grid_of_sizes(voxel_size: tuple[float, ...]) -> Grid:
    return Grid(("z", "y", "x"), (100_000,) * 3, voxel_size, (0,) * 3)


@given(
    st.tuples(*[st.integers(1, 2000)] * 3),
    st.tuples(*[st.sampled_from([1.0, 3.0, 4.5, 40.0])] * 3),
    st.integers(1, 10**11),
    st.integers(0, 10**9),
    st.integers(1, 100),
)
def test_what_is_proposed_passes_the_check(
    shape: tuple[int, ...], voxel_size: tuple[float, ...], limit: int, base: int, each: int
) -> None:
    grid = grid_of_sizes(voxel_size)

    def bytes_for(block: tuple[int, ...]) -> int:
        return base + each * math.prod(n + 64 for n in block)

    def check(block: tuple[int, ...], allowed: int) -> None:
        memory.check_memory("a step", bytes_for, block, grid, allowed)

    if bytes_for(shape) <= memory.USABLE * limit:
        check(shape, limit)
        return
    with pytest.raises(MemoryError, match=r"^a step: a block of .* voxels needs about") as refused:
        check(shape, limit)
    message = str(refused.value)
    proposed = re.search(r"With block_size \[(.*)\]", message)
    if proposed is None:
        assert "No block would fit" in message
        # Not even the smallest block, of 8 voxels a side or less.
        assert bytes_for(tuple(min(n, 8) for n in shape)) > memory.USABLE * limit
        return
    block = block_shape_for(grid, [float(number) for number in proposed[1].split(", ")], "volume")
    check(block, limit)
    assert all(a <= b for a, b in zip(block, shape, strict=True))
    assert all(a == b or a % 8 == 0 for a, b in zip(block, shape, strict=True))


def test_what_the_messages_say() -> None:
    grid = grid_of_sizes((12.0, 12.0, 12.0))

    def bytes_for(block: tuple[int, ...]) -> int:
        return 400_000_000 + 40 * math.prod(block)

    with pytest.raises(MemoryError) as refused:
        memory.check_memory("extract fragments", bytes_for, (512,) * 3, grid, 2_000_000_000)
    assert str(refused.value) == (
        "extract fragments: a block of 512 x 512 x 512 voxels needs about 5.77 GB, but a worker may use "
        "1.6 GB (80% of its memory). With block_size [3072, 3072, 3072] it would need 1.07 GB; or give "
        "workers 7.21 GB or more."
    )
    with pytest.raises(MemoryError) as refused:
        memory.check_memory("extract fragments", bytes_for, (20, 16, 4), grid, 100_000_000)
    assert str(refused.value) == (
        "extract fragments: a block of 20 x 16 x 4 voxels needs about 0.4 GB, but a worker may use 0.08 GB "
        "(80% of its memory). No block would fit: even one of 8 x 8 x 4 voxels takes workers with 0.5 GB."
    )


@pytest.mark.parametrize("limit", [None, 0])
def test_without_a_limit_everything_fits(limit: int | None) -> None:
    memory.check_memory("a step", lambda _: 10**15, (8, 8, 8), grid_of_sizes((1.0,) * 3), limit)


def test_the_limit_of_workers(cluster_client: Client) -> None:
    assert memory.worker_limit(cluster_client) == 2 * 2**30


class _Workers:
    """A client that knows some workers: (limit, threads) of each."""

    def __init__(self, *workers: tuple[int, int]) -> None:
        self.workers = {f"tcp://{i}": {"memory_limit": m, "nthreads": n} for i, (m, n) in enumerate(workers)}

    def scheduler_info(self, n_workers: int) -> dict[str, Any]:
        assert n_workers == -1
        return {"workers": self.workers}


@pytest.mark.parametrize(
    ("workers", "limit"),
    [([], None), ([(0, 1)], None), ([(8, 1), (6, 1), (0, 4)], 6), ([(8, 1), (24, 4)], 6)],
)
def test_the_least_limit_counts_for_each_thread(workers: list[tuple[int, int]], limit: int | None) -> None:
    assert memory.worker_limit(_Workers(*workers)) == limit  # type: ignore[arg-type]


def test_what_is_read_in_other_formats_is_there_once_more_in_chunks() -> None:
    zarr = stored("uint64").stored

    class Other(StoredVolume):
        """As of an HDF5 file."""

    other = Other(zarr.path, zarr.grid, zarr.dims, zarr.shape, zarr.dtype, (64, 64, 64))
    reader = StoredReader(other, (slice(0, 1024),) * 3)
    assert memory.relabelling(reader, 0)((256,) * 3) == memory.BASE + 20 * 256**3
