"""Which objects a segmentation gets most wrong, and where to look at them."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..segmentation import ids
from ..segmentation.agglomeration import LookupTable
from ..space.grids import Grid
from .contingency import ContingencyTable
from .metrics import sums_of


@dataclass(frozen=True)
class Mistake:
    """An object that a segmentation splits, or a segment that merges objects.

    Attributes
    ----------
    kind
        "split" or "merge".
    label
        Id of the true object that is split, or of the segment that merges.
    voi
        What it adds to ``voi_split`` or ``voi_merge``, in bits.
    voxels
        Size of the object, as far as it was evaluated.
    pieces
        Number of segments it is split into, or of true objects it merges.
    piece
        The largest of these but one and but the background: a segment, or a true object.
    fragment
        The fragment of the mistake's largest part in that piece: a place to look at.
    position
        Of that fragment's root voxel, in world units; None where ids are no addresses, or not known to be.
    """

    kind: Literal["split", "merge"]
    label: int
    voi: float
    voxels: int
    pieces: int
    piece: int
    fragment: int
    position: tuple[float, ...] | None = None


def worst_mistakes(
    table: ContingencyTable, lut: LookupTable, *, count: int = 10, grid: Grid | None = None
) -> list[Mistake]:
    """The objects that add most to the variation of information.

    Parameters
    ----------
    table : ContingencyTable
        Of the truth and the fragments.
    lut : LookupTable
        Fragment -> segment.
    count : int
        Number of splits, and of merges, that are wanted.
    grid : Grid, optional
        Of the volume that fragment ids are addresses in (that of the affinities), for their positions.

    Returns
    -------
    list of Mistake
        At most `count` splits, the worst first, then as many merges. Objects without a mistake are not among
        them.

    Raises
    ------
    ValueError
        If the table is empty, or the lookup table lacks a fragment of it.

    Examples
    --------
    >>> table = ContingencyTable.from_volumes(np.array([1, 1, 1, 2]), np.array([3, 3, 5, 9]))
    >>> lut = LookupTable(np.array([3, 5, 9], np.uint64), np.array([3, 5, 5], np.uint64))
    >>> [(m.kind, m.label, round(m.voi, 3), m.piece, m.fragment) for m in worst_mistakes(table, lut)]
    [('split', 1, 0.689, 5, 5), ('merge', 5, 0.5, 2, 9)]
    """
    segments = table.relabel_test(lut.keys, lut.values)
    pairs, truth_ids, test_ids = segments.numbered()
    truth, segment_of_pair = table.truth, _segments_of(table.test, lut)
    split = sums_of(pairs.truth, pairs.split_bits(pairs.truth_sizes))
    merge = sums_of(pairs.test, pairs.merge_bits(pairs.test_sizes))
    found: list[Mistake] = []
    for number in _worst(split, count):
        rows = pairs.truth == number
        inside = truth == truth_ids[number]
        pieces = (segments.test[rows], segments.counts[rows])
        found.append(
            _mistake("split", truth_ids[number], split[number], pieces, table, segment_of_pair, inside, grid)
        )
    for number in _worst(merge, count):
        rows = pairs.test == number
        inside = segment_of_pair == test_ids[number]
        pieces = (segments.truth[rows], segments.counts[rows])
        found.append(_mistake("merge", test_ids[number], merge[number], pieces, table, truth, inside, grid))
    return found


def _worst(bits: np.ndarray, count: int) -> np.ndarray:
    """Numbers of the objects that add most, at least something; of equals the first ones."""
    order: np.ndarray = np.argsort(-bits, kind="stable")[:count]
    return order[bits[order] > 0]


def _mistake(
    kind: Literal["split", "merge"],
    label: np.uint64,
    voi: float,
    pieces: tuple[np.ndarray, np.ndarray],
    table: ContingencyTable,
    piece_of_pair: np.ndarray,
    inside: np.ndarray,
    grid: Grid | None,
) -> Mistake:
    """A mistake with these pieces and their sizes; `inside` are its pairs in the table of fragments."""
    labels, counts = pieces
    order = np.argsort(-counts, kind="stable")
    # There is nothing to be seen at a place of the background.
    second = next((row for row in order[1:] if labels[row] != 0), order[0])
    of_piece = np.flatnonzero(inside & (piece_of_pair == labels[second]))
    fragment = int(table.test[of_piece[np.argmax(table.counts[of_piece])]])
    return Mistake(
        kind,
        int(label),
        float(voi),
        int(counts.sum()),
        len(counts),
        int(labels[second]),
        fragment,
        _position(fragment, grid),
    )


def _segments_of(fragments: np.ndarray, lut: LookupTable) -> np.ndarray:
    """The segment of each fragment; 0 stays 0."""
    keys = np.append(np.uint64(0), lut.keys) if not np.any(lut.keys == 0) else lut.keys
    values = np.append(np.uint64(0), lut.values) if len(keys) > len(lut.keys) else lut.values
    segments: np.ndarray = values[np.searchsorted(keys, fragments)]
    return segments


def _position(fragment: int, grid: Grid | None) -> tuple[float, ...] | None:
    if grid is None or fragment == 0 or fragment > 2 ** (ids.BITS[grid.ndim] * grid.ndim):
        return None
    voxel = ids.decode(np.array([fragment], np.uint64), grid.ndim)[0].tolist()
    if any(i >= n for i, n in zip(voxel, grid.shape, strict=True)):
        return None
    places = zip(grid.offset, voxel, grid.voxel_size, strict=True)
    return tuple(o + (i + 0.5) * v for o, i, v in places)
