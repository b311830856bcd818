"""Counting how often two labels meet at a voxel."""

import numpy as np

from ..compiling import device, inner_device, kernel
from ..hashing import RECENT_BITS, place

#: Voxels whose runs are listed at once; the list stays in the cache.
_AT_ONCE = 2048

#: Room for all pairs that so many voxels can bring, in a table that is half full at most.
_FIRST_CAPACITY = 2 * _AT_ONCE


@kernel
def count_pairs(truth: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct pairs of labels (n, 2), in no particular order, and their numbers of voxels (n,).

    Both label arrays are (voxels,) and uint64. Voxels whose true label is 0 do not count.

    For truth `[1, 1, 0, 2]` and test `[5, 5, 5, 5]`: pairs `[[1, 5], [2, 5]]`, counts `[2, 1]`.
    """
    pairs = np.empty((_FIRST_CAPACITY, 2), np.uint64)
    counts = np.zeros(_FIRST_CAPACITY, np.int64)
    recent_pairs = np.zeros((1 << RECENT_BITS, 2), np.uint64)
    recent_counts = np.zeros(1 << RECENT_BITS, np.int64)
    ends = np.empty(_AT_ONCE, np.int64)
    filled = 0
    for begin in range(0, truth.size, _AT_ONCE):
        while 2 * (filled + _AT_ONCE) > counts.size:
            pairs, counts = _grown(pairs, counts)
        part = slice(begin, begin + _AT_ONCE)
        runs = _list_runs(truth[part], test[part], ends)
        filled = _add_runs(
            truth[part], test[part], ends[:runs], recent_pairs, recent_counts, pairs, counts, filled
        )
    while 2 * (filled + recent_counts.size) > counts.size:
        pairs, counts = _grown(pairs, counts)
    for at in range(recent_counts.size):
        filled += _add(pairs, counts, recent_pairs[at, 0], recent_pairs[at, 1], recent_counts[at])
    return _compressed(pairs, counts, filled)


@inner_device
def _add_runs(
    truth: np.ndarray,
    test: np.ndarray,
    ends: np.ndarray,
    recent_pairs: np.ndarray,
    recent_counts: np.ndarray,
    pairs: np.ndarray,
    counts: np.ndarray,
    filled: int,
) -> int:
    """Count runs, whose ends are given, among the pairs met last; those that make way, in the table of all.

    How many pairs are in that table thereafter. Most runs are of pairs met a moment ago, and the table of all
    is larger than the cache.
    """
    first = 0
    for end in ends:
        a, b = truth[first], test[first]
        voxels = end - first
        first = end
        if a == 0:
            continue
        at = place(a * np.uint64(3) + b)
        if recent_pairs[at, 0] != a or recent_pairs[at, 1] != b:
            filled += _add(pairs, counts, recent_pairs[at, 0], recent_pairs[at, 1], recent_counts[at])
            recent_pairs[at, 0] = a
            recent_pairs[at, 1] = b
            recent_counts[at] = 0
        recent_counts[at] += voxels
    return filled


@inner_device
def _add(pairs: np.ndarray, counts: np.ndarray, a: np.uint64, b: np.uint64, voxels: int) -> int:
    """Count voxels of a pair in the table, which has room for it; 1 if the pair is new, else 0."""
    if voxels == 0:
        return 0
    slot = _slot(pairs, counts, a, b)
    new = counts[slot] == 0
    pairs[slot, 0] = a
    pairs[slot, 1] = b
    counts[slot] += voxels
    return 1 if new else 0


@inner_device
def _list_runs(truth: np.ndarray, test: np.ndarray, ends: np.ndarray) -> int:
    """Write where runs of equal pairs end; how many there are: 2 for [1, 1, 2] and [5, 5, 5], ends [2, 3]."""
    # Without branches, which could not be foreseen: an end is written at every voxel, and kept if it is one.
    runs = 0
    for i in range(1, truth.size):
        ends[runs] = i
        runs += (truth[i] != truth[i - 1]) | (test[i] != test[i - 1])
    ends[runs] = truth.size
    return runs + 1


@inner_device
def _slot(pairs: np.ndarray, counts: np.ndarray, a: np.uint64, b: np.uint64) -> np.int64:
    """Where a pair is in an open hash table, or the free slot (count 0) where it belongs.

    The capacity is a power of two. In a table with every slot free, a pair belongs where its hash points.
    """
    bits = (a ^ (b >> np.uint64(32)) ^ (b << np.uint64(32))) * np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> np.uint64(29)) ^ b) * np.uint64(0xBF58476D1CE4E5B9)
    mask = np.int64(counts.size - 1)
    slot = np.int64(bits >> np.uint64(33)) & mask
    while counts[slot] != 0 and (pairs[slot, 0] != a or pairs[slot, 1] != b):
        slot = (slot + 1) & mask
    return slot


@device
def _grown(pairs: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same table with four times the slots: 1024 become 4096."""
    new_pairs = np.empty((4 * counts.size, 2), np.uint64)
    new_counts = np.zeros(4 * counts.size, np.int64)
    for i in range(counts.size):
        if counts[i] != 0:
            slot = _slot(new_pairs, new_counts, pairs[i, 0], pairs[i, 1])
            new_pairs[slot, 0] = pairs[i, 0]
            new_pairs[slot, 1] = pairs[i, 1]
            new_counts[slot] = counts[i]
    return new_pairs, new_counts


@device
def _compressed(pairs: np.ndarray, counts: np.ndarray, filled: int) -> tuple[np.ndarray, np.ndarray]:
    """The slots in use: counts `[0, 7, 0, 2]` become `[7, 2]`."""
    used_pairs = np.empty((filled, 2), np.uint64)
    used_counts = np.empty(filled, np.int64)
    row = 0
    for i in range(counts.size):
        if counts[i] != 0:
            used_pairs[row, 0] = pairs[i, 0]
            used_pairs[row, 1] = pairs[i, 1]
            used_counts[row] = counts[i]
            row += 1
    return used_pairs, used_counts
