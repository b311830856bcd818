"""Replacing ids by way of a sorted lookup table."""

import numpy as np

from ..compiling import device, inner_device, kernel
from ..hashing import RECENT_BITS, doubled, new_slots, place, rehashed, slot

#: Labels among which there is room for all that may be new.
_AT_ONCE = 1 << 11


@kernel
def distinct(labels: np.ndarray) -> np.ndarray:
    """Labels other than 0, each once, in the order in which they come first.

    `labels` are flat uint64. For example [5, 5, 0, 3, 5] gives [5, 3].
    """
    keys, values = new_slots(1 << 12)
    recent = np.zeros(1 << RECENT_BITS, np.uint64)
    found = np.empty(_AT_ONCE, np.uint64)
    count = 0
    for begin in range(0, labels.size, _AT_ONCE):
        while count + _AT_ONCE > found.size:
            found = doubled(found)
        while 2 * (count + _AT_ONCE) > keys.size:
            keys, values = rehashed(keys, values)
        count = _add_distinct(labels[begin : begin + _AT_ONCE], keys, recent, found, count)
    return found[:count].copy()


@inner_device
def _add_distinct(
    labels: np.ndarray, keys: np.ndarray, recent: np.ndarray, found: np.ndarray, count: int
) -> int:
    """Add labels that are not among `keys` to these and to what is found; how many are found thereafter."""
    previous = np.uint64(0)
    for label in labels:
        if label == previous:
            continue
        previous = label
        recently = place(label)
        if recent[recently] == label:
            continue
        recent[recently] = label
        at = slot(keys, label)
        if keys[at] == 0 and label != 0:
            keys[at] = label
            found[count] = label
            count += 1
    return count


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
