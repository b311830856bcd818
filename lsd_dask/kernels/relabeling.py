"""Replacing ids by way of a sorted lookup table."""

import numpy as np

from .compiling import device, kernel


@kernel
def relabel(labels: np.ndarray, keys: np.ndarray, values: np.ndarray, out: np.ndarray) -> np.uint64:
    """Write the value of each label to `out`; 0 stays 0. Returns a label that has no value, or 0 if all do.

    All arrays are flat uint64, `keys` ascending. For example labels [5, 5, 0, 3], keys [3, 5], values [1, 2]
    give [2, 2, 0, 1].
    """
    missing = np.uint64(0)
    last_label = np.uint64(0)
    last_value = np.uint64(0)
    for i in range(labels.size):
        label = labels[i]
        if label != last_label:
            last_label = label
            last_value = np.uint64(0)
            if label != 0:
                row = _row(keys, label)
                if row < 0:
                    missing = label
                else:
                    last_value = values[row]
        out[i] = last_value
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
