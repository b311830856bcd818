"""Morton codes: the bits of z, y and x interleaved."""

import numpy as np

from ..compiling import device, kernel


@kernel
def encode(indices: np.ndarray) -> np.ndarray:
    """1 + Morton code of each row of `indices`, ``(n, 2 or 3)`` int64.

    For example (z, y, x) = (1, 0, 3), x = 0b11 at bits 3 and 0, z = 0b1 at bit 2: 1 + 0b1101 = 14.
    """
    n, ndim = indices.shape
    ids = np.empty(n, np.uint64)
    for i in range(n):
        if ndim == 3:
            ids[i] = address(indices[i, 0], indices[i, 1], indices[i, 2])
        else:
            ids[i] = address_2d(indices[i, 0], indices[i, 1])
    return ids


@kernel
def decode(ids: np.ndarray, ndim: int) -> np.ndarray:
    """Indices ``(n, ndim)`` int64 of ids; for example 14 in 3-D is (1, 0, 3)."""
    indices = np.empty((ids.size, ndim), np.int64)
    for i in range(ids.size):
        code = ids[i] - np.uint64(1)
        for axis in range(ndim):
            shifted = code >> np.uint64(ndim - 1 - axis)
            indices[i, axis] = _gather_3(shifted) if ndim == 3 else _gather_2(shifted)
    return indices


@device
def address(z: int, y: int, x: int) -> np.uint64:
    """Id of a voxel in 3-D: (0, 0, 1) is 2, (0, 1, 0) is 3, (1, 0, 0) is 5."""
    return np.uint64(1) + (
        (_spread_3(np.uint64(z)) << np.uint64(2))
        | (_spread_3(np.uint64(y)) << np.uint64(1))
        | _spread_3(np.uint64(x))
    )


@device
def address_2d(y: int, x: int) -> np.uint64:
    """Id of a pixel in 2-D: (0, 1) is 2, (1, 0) is 3."""
    return np.uint64(1) + ((_spread_2(np.uint64(y)) << np.uint64(1)) | _spread_2(np.uint64(x)))


@device
def _spread_3(v: np.uint64) -> np.uint64:
    """Two zero bits after each of 21 bits: 0b101 becomes 0b1000001."""
    v &= np.uint64(0x1FFFFF)
    v = (v | (v << np.uint64(32))) & np.uint64(0x1F00000000FFFF)
    v = (v | (v << np.uint64(16))) & np.uint64(0x1F0000FF0000FF)
    v = (v | (v << np.uint64(8))) & np.uint64(0x100F00F00F00F00F)
    v = (v | (v << np.uint64(4))) & np.uint64(0x10C30C30C30C30C3)
    return (v | (v << np.uint64(2))) & np.uint64(0x1249249249249249)


@device
def _gather_3(v: np.uint64) -> np.uint64:
    """Every third bit: 0b1000001 becomes 0b101."""
    v &= np.uint64(0x1249249249249249)
    v = (v ^ (v >> np.uint64(2))) & np.uint64(0x10C30C30C30C30C3)
    v = (v ^ (v >> np.uint64(4))) & np.uint64(0x100F00F00F00F00F)
    v = (v ^ (v >> np.uint64(8))) & np.uint64(0x1F0000FF0000FF)
    v = (v ^ (v >> np.uint64(16))) & np.uint64(0x1F00000000FFFF)
    return (v ^ (v >> np.uint64(32))) & np.uint64(0x1FFFFF)


@device
def _spread_2(v: np.uint64) -> np.uint64:
    """One zero bit after each of 32 bits: 0b101 becomes 0b10001."""
    v &= np.uint64(0xFFFFFFFF)
    v = (v | (v << np.uint64(16))) & np.uint64(0x0000FFFF0000FFFF)
    v = (v | (v << np.uint64(8))) & np.uint64(0x00FF00FF00FF00FF)
    v = (v | (v << np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    v = (v | (v << np.uint64(2))) & np.uint64(0x3333333333333333)
    return (v | (v << np.uint64(1))) & np.uint64(0x5555555555555555)


@device
def _gather_2(v: np.uint64) -> np.uint64:
    """Every second bit: 0b10001 becomes 0b101."""
    v &= np.uint64(0x5555555555555555)
    v = (v ^ (v >> np.uint64(1))) & np.uint64(0x3333333333333333)
    v = (v ^ (v >> np.uint64(2))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    v = (v ^ (v >> np.uint64(4))) & np.uint64(0x00FF00FF00FF00FF)
    v = (v ^ (v >> np.uint64(8))) & np.uint64(0x0000FFFF0000FFFF)
    return (v ^ (v >> np.uint64(16))) & np.uint64(0xFFFFFFFF)
