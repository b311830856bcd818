"""What metadata claim of an array's size, held against what a machine can hold, before anything is read."""

import math
from collections.abc import Sequence

import psutil

#: Bytes of an array, at most: what NumPy and dask can count.
_MOST = 2**63 - 1


def check_claims(path: str, shape: Sequence[int], chunk: Sequence[int], itemsize: int) -> None:
    """Raise ValueError, naming the array, if it is larger than can be counted, or a chunk than the memory.

    A chunk is always read whole, however little of it is asked for.

    Examples
    --------
    >>> check_claims("em.zarr/raw", (2**40, 4, 4), (2**20, 2**10, 2**20), 1)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: em.zarr/raw: found chunks of (1048576, 1024, 1048576) voxels, expected chunks that ...
    """
    if itemsize * math.prod(shape) > _MOST:
        raise ValueError(
            f"{path}: found a shape of {tuple(shape)}, expected at most {_MOST} bytes; are its metadata "
            "damaged?"
        )
    memory = psutil.virtual_memory().total
    if itemsize * math.prod(chunk) > memory:
        raise ValueError(
            f"{path}: found chunks of {tuple(chunk)} voxels, expected chunks that fit into the memory of "
            f"{memory:,} bytes; are its metadata damaged?"
        )
