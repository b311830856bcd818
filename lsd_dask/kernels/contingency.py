"""Counting how often two labels meet at a voxel."""

import numpy as np

from .compiling import device, kernel

_FIRST_CAPACITY = 1024


@kernel
def count_pairs(truth: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct pairs of labels (n, 2), in no particular order, and their numbers of voxels (n,).

    Both label arrays are (voxels,) and uint64. Voxels whose true label is 0 do not count.

    For truth `[1, 1, 0, 2]` and test `[5, 5, 5, 5]`: pairs `[[1, 5], [2, 5]]`, counts `[2, 1]`.
    """
    pairs = np.empty((_FIRST_CAPACITY, 2), np.uint64)
    counts = np.zeros(_FIRST_CAPACITY, np.int64)
    filled = 0
    i = 0
    while i < truth.size:
        a, b = truth[i], test[i]
        begin = i
        # Labels come in runs: one look into the table for each.
        while i < truth.size and truth[i] == a and test[i] == b:
            i += 1
        if a == 0:
            continue
        slot = _slot(pairs, counts, a, b)
        if counts[slot] == 0:
            if 2 * (filled + 1) > counts.size:
                pairs, counts = _grown(pairs, counts)
                slot = _slot(pairs, counts, a, b)
            pairs[slot, 0] = a
            pairs[slot, 1] = b
            filled += 1
        counts[slot] += i - begin
    return _compressed(pairs, counts, filled)


@device
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
