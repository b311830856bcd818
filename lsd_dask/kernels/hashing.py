"""Hash tables of 64-bit keys, and arrays that grow, for use within other kernels."""

import numpy as np

from .compiling import device, inner_device

#: Size, as a power of two, of a table of the keys met last. It fits the cache; rows of voxels are much alike.
RECENT_BITS = 10


@device
def new_slots(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Keys (0 is free) and values of an open-addressing table of a power-of-two size."""
    return np.zeros(size, np.uint64), np.empty(size, np.int32)


@device
def new_recent() -> tuple[np.ndarray, np.ndarray]:
    """Keys, each at its `place`, and values of a table of the keys met last; 0 is none."""
    return np.zeros(1 << RECENT_BITS, np.uint64), np.zeros(1 << RECENT_BITS, np.int32)


@inner_device
def place(key: np.uint64) -> np.uint64:
    """Place of a key among the recent ones."""
    return (key * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(64 - RECENT_BITS)


@inner_device
def slot(keys: np.ndarray, key: np.uint64) -> np.uint64:
    """Slot of a key, or the free slot where it belongs."""
    mask = np.uint64(keys.size - 1)
    at = mixed(key) & mask
    while keys[at] != 0 and keys[at] != key:
        at = (at + np.uint64(1)) & mask
    return at


@device
def rehashed(keys: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same table with twice as many slots."""
    new_keys, new_values = new_slots(2 * keys.size)
    for i in range(keys.size):
        if keys[i] != 0:
            at = slot(new_keys, keys[i])
            new_keys[at] = keys[i]
            new_values[at] = values[i]
    return new_keys, new_values


@inner_device
def mixed(key: np.uint64) -> np.uint64:
    """Finaliser of splitmix64: spreads every bit of the key over all bits (0 stays 0)."""
    key ^= key >> np.uint64(30)
    key *= np.uint64(0xBF58476D1CE4E5B9)
    key ^= key >> np.uint64(27)
    key *= np.uint64(0x94D049BB133111EB)
    return key ^ (key >> np.uint64(31))


@device
def doubled(a: np.ndarray) -> np.ndarray:
    """A copy with room for twice as many elements."""
    b = np.empty(2 * a.size, a.dtype)
    for i in range(a.size):
        b[i] = a[i]
    return b


@device
def doubled_rows(a: np.ndarray) -> np.ndarray:
    """A copy with room for twice as many rows."""
    b = np.empty((2 * a.shape[0], a.shape[1]), a.dtype)
    for i in range(a.shape[0]):
        for j in range(a.shape[1]):
            b[i, j] = a[i, j]
    return b
