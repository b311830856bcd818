"""Replacing ids by way of a sorted lookup table."""

import numpy as np

from .compiling import device, kernel
from .hashing import RECENT_BITS, place


@kernel
def relabel(labels: np.ndarray, keys: np.ndarray, values: np.ndarray, out: np.ndarray) -> np.uint64:
    """Write the value of each label to `out`; 0 stays 0. Returns a label that has no value, or 0 if all do.

    All arrays are flat uint64, `keys` ascending. For example labels [5, 5, 0, 3], keys [3, 5], values [1, 2]
    give [2, 2, 0, 1].
    """
    missing = np.uint64(0)
    recent = np.zeros(1 << RECENT_BITS, np.uint64)
    recent_values = np.zeros(1 << RECENT_BITS, np.uint64)
    for i in range(labels.size):
        label = labels[i]
        recently = place(label)
        if recent[recently] != label:
            row = _row(keys, label)
            if row < 0 and label != 0:
                missing = label
            recent[recently] = label
            recent_values[recently] = values[row] if row >= 0 else np.uint64(0)
        out[i] = recent_values[recently]
    return missing


@device
def _row(keys: np.ndarray, key: np.uint64) -> int:
    """Row of `key` in ascending `keys`, -1 if it is not there."""
    low = 0
    high = keys.size
    while low < high:
        middle = (low + high) >> 1
        if keys[middle] < key:
            low = middle + 1
        else:
            high = middle
    if low < keys.size and keys[low] == key:
        return low
    return -1
