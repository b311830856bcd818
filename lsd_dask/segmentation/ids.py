"""Fragment ids that are addresses: 1 + the Morton code of the fragment's root voxel.

The code interleaves the bits of the voxel's indices, x lowest (``... z1 y1 x1 z0 y0 x0``), so ids need no
counter, do not collide, do not depend on blocks, and sort by place: neighbours in space are mostly neighbours
in a table.

References
----------
.. [1] G. M. Morton, "A computer oriented geodetic data base and a new technique in file sequencing", IBM,
   1966.
"""

from collections.abc import Sequence

import numpy as np

from ..checks.id_lists import ids_of
from ..kernels.segmentation import morton

#: Bits an axis, by number of axes: as many as 64-bit ids hold with 0 kept free.
BITS = {2: 31, 3: 21}


def encode(indices: np.ndarray) -> np.ndarray:
    """Ids of voxels.

    Parameters
    ----------
    indices
        Integer voxel indices, ``(n, 3)`` in z, y, x or ``(n, 2)`` in y, x.

    Returns
    -------
    ids
        uint64, ``(n,)``, at least 1: 0 stays free for the background.

    Raises
    ------
    ValueError
        Where an index is negative or too large for the bits an axis has (2**21 in 3-D, 2**31 in 2-D), and for
        anything but rows of whole numbers.

    Examples
    --------
    >>> encode(np.array([[0, 0, 0], [0, 0, 1], [0, 1, 0], [1, 0, 0]]))
    array([1, 2, 3, 5], dtype=uint64)
    """
    indices = np.asarray(indices)
    if indices.ndim != 2 or indices.dtype.kind not in "ui":
        raise ValueError(
            f"Found voxel indices of shape {indices.shape} and type {indices.dtype}, "
            "expected whole numbers of shape (n, 3) or (n, 2)."
        )
    check_extent(indices.max(axis=0, initial=0) + 1)
    if indices.min(initial=0) < 0:
        raise ValueError(f"Voxel indices must not be negative, but found {indices.min()}.")
    return morton.encode(np.ascontiguousarray(indices, dtype=np.int64))


def decode(ids: np.ndarray, ndim: int = 3) -> np.ndarray:
    """Root voxels of ids: the inverse of `encode`.

    Parameters
    ----------
    ids
        Ids, ``(n,)``.
    ndim
        Number of axes of the volume, 3 or 2.

    Returns
    -------
    indices
        int64, ``(n, 3)`` in z, y, x or ``(n, 2)`` in y, x.

    Raises
    ------
    TypeError
        For anything but whole numbers.
    ValueError
        For 0, the background, for ids that are negative or larger than any address, and for another shape.

    Examples
    --------
    >>> decode(np.array([1, 2, 3, 5], dtype=np.uint64)).tolist()
    [[0, 0, 0], [0, 0, 1], [0, 1, 0], [1, 0, 0]]
    """
    if ndim not in BITS:
        raise ValueError(f"ndim: found {ndim}, expected 2 or 3")
    ids = ids_of(ids, "ids")
    if ids.ndim != 1:
        raise ValueError(f"ids: found shape {ids.shape}, expected (n,)")
    if len(ids) and ids.min() == 0:
        raise ValueError("Id 0 is the background and has no address.")
    if len(ids) and ids.max() > 2 ** (BITS[ndim] * ndim):
        raise ValueError(
            f"Id {ids.max()} is no address of a voxel in {ndim}-D: were these ids made elsewhere?"
        )
    return morton.decode(np.ascontiguousarray(ids), ndim)


def check_extent(extent: Sequence[int] | np.ndarray) -> None:
    """Check that every voxel of a volume has an address.

    Parameters
    ----------
    extent
        Where the volume ends, in voxels along each axis.

    Raises
    ------
    ValueError
        If the volume has voxels that no id can address.
    """
    bits = BITS.get(len(extent))
    if bits is None:
        raise ValueError(f"Ids address voxels in 2-D or 3-D, but found {len(extent)} axes.")
    if max(extent) > 2**bits:
        raise ValueError(
            f"A volume of {tuple(int(n) for n in extent)} voxels is too large for 64-bit fragment ids: "
            f"expected at most {2**bits} voxels an axis in {len(extent)}-D."
        )
