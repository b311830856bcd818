"""How much memory a block of each step needs, so that a run that would die of it is refused before it begins.

Coefficients are bytes a voxel, counted from the arrays that the code holds at its peak and checked against
measured blocks by ``benchmarks/memory.py``.
"""

import math
from collections.abc import Callable, Sequence
from typing import Protocol

import psutil
import zarr
from distributed import Client

from lsd_dask.segmentation.region_graph import CountRegion
from lsd_dask.segmentation.watershed import Rules
from lsd_dask.space.grids import Grid
from lsd_dask.space.neighborhoods import Direct
from lsd_dask.storage.stores import is_remote
from lsd_dask.storage.zarr_stores import opened_with
from lsd_dask.targets.descriptors import Method
from lsd_dask.volumes.formats.zarr_boxes import SMALL as PIECE
from lsd_dask.volumes.overlap import StoredReader
from lsd_dask.volumes.stored import StoredVolume

type BytesFor = Callable[[tuple[int, ...]], int]


class Forward(Protocol):
    """What predicts the tiles of a block."""

    def tile_bytes(self, shape: tuple[int, ...]) -> tuple[tuple[int, ...], int]:
        """For a block shape: shape of what is read for its largest tile, and bytes of a forward pass."""


#: Bytes of a worker that has imported everything and loaded its kernels (up to 410 MB were measured), and of
#: what its allocator keeps of small arrays.
BASE = 450_000_000

#: Share of a worker's limit that can be used: there dask pauses it, and soon after kills it.
USABLE = 0.8

#: Beside a piece that is read there is the same in decoded chunks, and half of that in compressed ones.
DECODING = 1.5
#: What is written is there a second time compressed, and a third time when that is joined; labels, which
#: compress well, hardly.
WRITING, WRITING_LABELS = 3.5, 1.5

#: Voxels of a block whose overlaps are counted at once.
LAYER = 1 << 22

#: Of each voxel that steepest ascent reads: its height in float32 with and without a rim, a flag, and a fifth
#: more for what the allocator keeps of reading.
ASCENT = 11.0
#: Of each voxel that the seeded watershed reads, mostly for seeds; fewer where sections are done singly.
SEEDED, SEEDED_IN_XY = 54.0, 24.0

#: Of each voxel, in runs of usual fragments, of which there is one for every eight voxels or fewer.
RUNS = 4.0
#: Of each face between two fragments: its edge and its bin, in arrays that grow by doubling, and sorted bins.
FACE = 12.0
#: Faces a voxel, for each direct neighbour and for each of longer range; an upper bound for usual fragments.
DIRECT_FACES, FAR_FACES = 0.3, 1.0

#: Of each row of a lookup table: two columns in the file, in Arrow and, copied, in NumPy.
TABLE_ROW = 64

#: Of each voxel of the truth whose distance to a boundary is sought: that, squared, in float32, and whether
#: it is near.
NEAR = 5.0

#: Of each byte of tables that are added up: itself, joined and sorted, and the sum (up to 3.8 were measured).
ADDING = 4.0

#: Of each descriptor where uint8 is made of float32: itself, scaled, rounded, and the result.
ROUNDING = 14.0

#: Bytes of PyTorch beside what every worker has loaded (up to 470 MB were measured).
TORCH = 500_000_000
#: Of each byte that the feature maps of a forward pass take: itself, and what the allocator keeps of earlier
#: tiles (0.93 to 1.3 were measured).
NETWORK = 1.4

#: Least side of a block, in voxels, that is proposed; sides are multiples of it.
_LEAST_SIDE = 8


def extraction(affinities: StoredReader, rules: Rules, direct: Direct | None = None) -> BytesFor:
    """What extracting fragments needs.

    Parameters
    ----------
    affinities
        What is processed; around it, the whole stored volume is read.
    rules
        Of the watershed.
    direct
        The channels that it takes; copied, unless they are the first ones, in the order of the axes, as they
        are by default.

    Returns
    -------
    callable
        Bytes for a block shape in voxels. Where steepest ascent has to read twice the context, it is more.
    """
    stored = affinities.stored
    reading = _reading(stored)
    channels, size = stored.channels or 1, stored.dtype.itemsize
    # What is not uint8 becomes uint16 beside what was read.
    integers = 0 if stored.dtype == "uint8" else 2 * channels
    copied = 0 if direct is None or direct.is_default else size * stored.grid.ndim
    if rules.method == "seeded":
        work = (SEEDED_IN_XY if rules.in_xy else SEEDED) + integers + copied
    else:
        work = max(ASCENT, channels * size + copied + integers + 6)

    def bytes_for(shape: tuple[int, ...]) -> int:
        read = _grown(shape, rules.depth, stored.grid.shape)
        block = math.prod(shape)
        ids = (5 * math.prod(read) + 8 * block, WRITING_LABELS * 8 * block)
        return BASE + int(max(reading(read), work * math.prod(read), *ids))

    return bytes_for


def counting(affinities: StoredReader, fragments: StoredReader, count: CountRegion) -> BytesFor:
    """What counting a region graph needs.

    Parameters
    ----------
    affinities, fragments
        Of the same region.
    count
        What is counted.

    Returns
    -------
    callable
        Bytes for a block shape in voxels.
    """
    neighborhood, depth = count.neighborhood, count.depth[3 - len(fragments.shape) :]
    of_affinities, of_fragments = _reading(affinities.stored), _reading(fragments.stored)
    direct = sum(sum(map(abs, offset)) == 1 for offset in neighborhood)
    faces = DIRECT_FACES * direct + FAR_FACES * (len(neighborhood) - direct)
    channels, size = affinities.stored.channels or 1, affinities.stored.dtype.itemsize
    # What is not uint8 becomes uint16 beside what was read.
    integers = 0 if affinities.stored.dtype == "uint8" else 2 * len(neighborhood)
    copied = 0 if count.direct is None or count.direct.is_default else size * len(neighborhood)

    def bytes_for(shape: tuple[int, ...]) -> int:
        read = _grown(shape, depth, fragments.shape)
        block, labels = math.prod(shape), 8 * math.prod(read)
        nodes = labels + max(of_affinities(shape), (channels * size + copied + integers + RUNS) * block)
        edges = (channels * size + copied + integers + RUNS + FACE * faces) * block
        return BASE + int(max(of_fragments(read), nodes, edges))

    return bytes_for


def relabelling(fragments: StoredReader, rows: int) -> BytesFor:
    """What replacing fragments by way of a lookup table needs.

    Parameters
    ----------
    fragments
        What is relabelled.
    rows
        Number of fragments in the table, which each worker holds.

    Returns
    -------
    callable
        Bytes for a block shape in voxels.
    """
    reading = _reading(fragments.stored)
    # What is not uint64 is converted, and relabelled into another array.
    of_labels = 8 if fragments.stored.dtype == "uint64" else fragments.stored.dtype.itemsize + 16

    def bytes_for(shape: tuple[int, ...]) -> int:
        block = math.prod(shape)
        return (
            BASE + TABLE_ROW * rows + int(max(reading(shape), of_labels * block, WRITING_LABELS * 8 * block))
        )

    return bytes_for


def overlaps(truth: StoredReader, fragments: StoredReader, depth: Sequence[int]) -> BytesFor:
    """What counting the overlaps of fragments and true objects needs.

    Parameters
    ----------
    truth, fragments
        Of the same region.
    depth
        Voxels of the truth that are read around a block, to find its boundaries.

    Returns
    -------
    callable
        Bytes for a block shape in voxels.
    """
    of_truth = _reading(truth.stored)
    sizes = truth.stored.dtype.itemsize, fragments.stored.dtype.itemsize

    def bytes_for(shape: tuple[int, ...]) -> int:
        read, block = _grown(shape, depth, truth.shape), math.prod(shape)
        if not any(depth):
            # Both are counted in layers, as uint64.
            layer = min(block, max(LAYER, 64 * block // shape[0]))
            return BASE + int((sum(sizes) + 16 + DECODING * max(sizes)) * layer)
        # The truth, as uint64 too, and what of it is near; the rest of it, and the fragments beside it.
        converted = 0 if sizes[0] == 8 else 8
        counted = (sizes[0] + converted + NEAR) * math.prod(read) + sum(sizes) * block
        counted += 24 * min(block, 2**23)
        return BASE + int(max(of_truth(read), counted))

    return bytes_for


def description(labels: StoredReader, method: Method, dtype: str) -> BytesFor:
    """What describing shapes needs.

    Parameters
    ----------
    labels
        What is described.
    method
        Of the descriptors.
    dtype
        Of what is written, "uint8" or "float32".

    Returns
    -------
    callable
        Bytes for a block shape in voxels.
    """
    reading = _reading(labels.stored)
    channels, size = len(method.channels), labels.stored.dtype.itemsize

    def bytes_for(shape: tuple[int, ...]) -> int:
        read, block = _grown(shape, method.depth, labels.shape), math.prod(shape)
        # Labels, their numbers, the result and half of it: see the notes of `local_shape_descriptors`.
        work = (size + 4) * math.prod(read) + 1.5 * 4 * channels * block
        result = (ROUNDING if dtype == "uint8" else WRITING * 4) * channels * block
        return BASE + int(max(reading(read), work, result))

    return bytes_for


def prediction(raw: StoredReader, task: Forward, channels: int, lsds: StoredReader | None = None) -> BytesFor:
    """What predicting with a network needs.

    Parameters
    ----------
    raw, lsds
        What is read.
    task
        Tells of a block how large its largest tile is with its context, and what a forward pass takes.
    channels
        Of all that is predicted.

    Returns
    -------
    callable
        Bytes for a block shape in voxels.
    """
    readings = [_reading(reader.stored) for reader in (raw, lsds) if reader is not None]

    def bytes_for(shape: tuple[int, ...]) -> int:
        read, forward = task.tile_bytes(shape)
        block = channels * math.prod(shape)
        tile = max(sum(reading(read) for reading in readings), NETWORK * forward)
        return BASE + TORCH + int(max(2 * block + tile, WRITING * block))

    return bytes_for


def forward_budget(limit: int | None, most: int) -> int:
    """Bytes that a forward pass may take in a worker, so that there is room for the block itself.

    Parameters
    ----------
    limit
        Of a worker, in bytes; None or 0 for none.
    most
        What is enough.
    """
    available = (USABLE * (limit or math.inf) - BASE - TORCH) / NETWORK
    return int(min(most, max(0.0, 0.75 * available)))


def check_memory(
    step: str, bytes_for: BytesFor, block_shape: tuple[int, ...], grid: Grid, limit: int | None
) -> None:
    """Check that a worker's memory is enough for a block.

    Parameters
    ----------
    step
        Name of the step, for the message.
    bytes_for
        What a block of a shape (in voxels) needs, in bytes.
    block_shape
        In voxels.
    grid
        Of what is processed, for block sizes in world units.
    limit
        Of a worker, in bytes; None or 0 for none.

    Raises
    ------
    MemoryError
        If it is not. The message names a block size that would fit, or else the least memory that would do.
    """
    usable = USABLE * (limit or math.inf)
    needed = bytes_for(block_shape)
    if needed <= usable:
        return
    problem = (
        f"{step}: a block of {_times(block_shape)} voxels needs about {_gigabytes(needed)}, but a worker may "
        f"use {_gigabytes(usable)} ({USABLE:.0%} of its memory)."
    )
    shape = block_shape
    while bytes_for(shape) > usable:
        if max(shape) <= _LEAST_SIDE:
            least = _gigabytes(bytes_for(shape) / USABLE)
            raise MemoryError(
                f"{problem} No block would fit: even one of {_times(shape)} voxels takes workers with "
                f"{least}."
            )
        shape = _halved(shape)
    size = ", ".join(f"{n * v:.10g}" for n, v in zip(shape, grid.voxel_size, strict=True))
    raise MemoryError(
        f"{problem} With block_size [{size}] it would need {_gigabytes(bytes_for(shape))}; or give workers "
        f"{_gigabytes(needed / USABLE)} or more."
    )


def sum_fits(size: int, limit: int | None) -> bool:
    """Whether a process can add up some tables.

    Parameters
    ----------
    size
        Of the tables, in bytes.
    limit
        Of the process, in bytes; None or 0 for none.
    """
    return BASE + ADDING * size <= USABLE * (limit or math.inf)


def check_sum(step: str, size: int, limit: int | None) -> None:
    """Check that this process can add up the tables of all blocks, for which workers are too small.

    How large the tables are is known when they are there, so this is told in the midst of a step.

    Parameters
    ----------
    step
        Name of the step, for the message.
    size
        Of the tables, in bytes.
    limit
        Of a worker, for the message.

    Raises
    ------
    MemoryError
        If it cannot. The message names the least memory that would do.
    """
    available, needed = psutil.virtual_memory().available, BASE + ADDING * size
    if not sum_fits(size, available):
        raise MemoryError(
            f"{step}: adding up tables of {_gigabytes(size)} needs about {_gigabytes(needed)}, but a worker "
            f"may use {_gigabytes(USABLE * (limit or 0))} ({USABLE:.0%} of its memory), and this process "
            f"{_gigabytes(USABLE * available)}. Give workers {_gigabytes(needed / USABLE)} or more; the "
            "blocks are done, and will be skipped when it is run again."
        )


def worker_limit(client: Client) -> int | None:
    """The least memory, in bytes, that a worker of a client has for one block.

    Parameters
    ----------
    client
        Of a cluster.

    Returns
    -------
    int or None
        A worker with several threads works on as many blocks at once, and divides its limit by them. None if
        there is no worker yet, or no limit.
    """
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    limits = [worker["memory_limit"] // max(1, worker["nthreads"]) for worker in workers]
    return min((limit for limit in limits if limit), default=None)


def _reading(stored: StoredVolume) -> Callable[[Sequence[int]], float]:
    """Bytes that reading a box of a volume takes at its peak, for the shape of the box."""
    size = stored.dtype.itemsize * (stored.channels or 1)
    if type(stored) is not StoredVolume:
        return lambda shape: (1 + DECODING) * size * math.prod(shape)
    array = zarr.open_array(mode="r", **opened_with(stored.path, "r"))
    order = stored.stored_dims or stored.dims
    spatial = [array.chunks[order.index(dim)] for dim in stored.grid.dims]
    chunk = size * math.prod(spatial)

    def reading(shape: Sequence[int]) -> float:
        result = size * math.prod(shape)
        touched = math.prod(
            min(-(-n // c) + 1, -(-total // c))
            for n, c, total in zip(shape, spatial, stored.grid.shape, strict=True)
        )
        some = int(zarr.config.get("async.concurrency") or touched)
        beside = chunk * min(touched, some)
        if array.shards:
            beside = max(chunk, result)
        if not is_remote(stored.path):
            beside = min(beside, max(chunk, PIECE))
        return result + DECODING * beside

    return reading


def _grown(shape: Sequence[int], depth: Sequence[int], volume: Sequence[int]) -> tuple[int, ...]:
    """Shape of a block with its context, at most that of the volume: (8, 4), (2, 2), (20, 5) give (12, 5)."""
    return tuple(min(n + 2 * d, total) for n, d, total in zip(shape, depth, volume, strict=True))


def _halved(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape with its largest side halved, to a multiple of `_LEAST_SIDE`: (40, 16) gives (24, 16)."""
    axis = shape.index(max(shape))
    half = -(-shape[axis] // (2 * _LEAST_SIDE)) * _LEAST_SIDE
    return (*shape[:axis], half, *shape[axis + 1 :])


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _gigabytes(n: float) -> str:
    return f"{n / 1e9:.3g} GB"
