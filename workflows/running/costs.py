"""What all blocks of a run take, from what it reads and the rates that were measured."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lsd_dask.segmentation.region_graph import CountRegion
from lsd_dask.segmentation.watershed import Rules
from lsd_dask.space.neighborhoods import Direct
from lsd_dask.volumes.overlap import StoredReader

from . import memory, rates


@dataclass(frozen=True)
class Cost:
    """What a run over blocks takes.

    Attributes
    ----------
    needs
        Bytes that a block of a shape takes of a worker's memory.
    read, written
        Bytes of all blocks, before compression, context included; None where nobody counted them.
    seconds
        Of one core for all of them; None where nobody measured a rate.
    """

    needs: memory.BytesFor
    read: int | None = None
    written: int | None = None
    seconds: float | None = None


def extraction(
    affinities: StoredReader, rules: Rules, block: Sequence[int], direct: Direct | None = None
) -> Cost:
    """What extracting fragments takes; parameters as of `memory.extraction`."""
    voxels = voxels_read(affinities.shape, block, rules.depth)
    return Cost(
        memory.extraction(affinities, rules, direct),
        read=voxels * _voxel_bytes(affinities),
        written=8 * math.prod(affinities.shape),
        seconds=voxels / rates.EXTRACTION,
    )


def counting(
    affinities: StoredReader, fragments: StoredReader, count: CountRegion, block: Sequence[int]
) -> Cost:
    """What counting a region graph takes; parameters as of `memory.counting`."""
    shape = affinities.shape
    voxels = math.prod(shape)
    labels = voxels_read(shape, block, count.depth[3 - len(shape) :])
    return Cost(
        memory.counting(affinities, fragments, count),
        read=8 * labels + _voxel_bytes(affinities) * voxels,
        written=rates.EDGE_COUNTED * int(rates.EDGES * voxels),
        seconds=voxels / rates.COUNTING,
    )


def relabelling(fragments: StoredReader, rows: int) -> Cost:
    """What replacing fragments takes; parameters as of `memory.relabelling`."""
    voxels = math.prod(fragments.shape)
    return Cost(
        memory.relabelling(fragments, rows),
        read=8 * voxels,
        written=8 * voxels,
        seconds=voxels / rates.RELABELLING,
    )


def overlaps(truth: StoredReader, fragments: StoredReader, depth: Sequence[int]) -> Cost:
    """What counting overlaps takes; parameters as of `memory.overlaps`."""
    voxels = math.prod(fragments.shape)
    return Cost(
        memory.overlaps(truth, fragments, depth),
        read=voxels * (8 + truth.stored.dtype.itemsize),
        written=0,
        seconds=voxels / rates.OVERLAPS,
    )


def voxels_read(shape: Sequence[int], block: Sequence[int], depth: Sequence[int]) -> int:
    """Voxels that all blocks read together, each with its context.

    >>> voxels_read((10, 7), (5, 7), (1, 2))
    84
    """
    lengths = [
        sum(min(n, start + b + d) - max(0, start - d) for start in range(0, n, b))
        for n, b, d in zip(shape, block, depth, strict=True)
    ]
    return math.prod(lengths)


def _voxel_bytes(reader: StoredReader) -> int:
    return reader.stored.dtype.itemsize * (reader.stored.channels or 1)
