"""Affinities of a labelling, the training targets and the input of the segmentation."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from .kernels.affinities import compare_with_neighbors


def affinities(
    labels: np.ndarray,
    neighborhood: ArrayLike | None = None,
    *,
    dtype: DTypeLike = np.float32,
) -> np.ndarray:
    """Affinities of a labelling: 1 where a voxel and its neighbour belong to the same object.

    Parameters
    ----------
    labels : (z, y, x) or (y, x) array of int
        Object ids of any size; 0 is background and has affinity 0 to everything, itself included.
    neighborhood : (n, d) array_like of int, optional
        Offsets, in voxels, of the neighbours a voxel is compared with. Defaults to the direct predecessors
        ``[[-1, 0, 0], [0, -1, 0], [0, 0, -1]]``, in 2-D ``[[-1, 0], [0, -1]]``.
    dtype : {"float32", "uint8"}, optional
        float32 affinities are 0 and 1, uint8 ones 0 and 255, the form in which they are stored.

    Returns
    -------
    (n, z, y, x) or (n, y, x) array of `dtype`
        ``out[i, p]`` is the affinity of voxel p to voxel ``p + neighborhood[i]``, 0 where that lies outside.

    Raises
    ------
    TypeError
        If `labels` or `neighborhood` are not integers, or `dtype` is neither float32 nor uint8.
    ValueError
        If `labels` is neither 2-D nor 3-D, or `neighborhood` does not fit it.

    References
    ----------
    .. [1] S. C. Turaga et al., "Convolutional networks can learn to generate affinity graphs for image
       segmentation", Neural Computation 22(2), 2010. https://doi.org/10.1162/neco.2009.10-08-881

    Examples
    --------
    >>> import numpy as np
    >>> affinities(np.array([[7, 7, 0], [7, 9, 9]]))[1]
    array([[0., 1., 0.],
           [0., 0., 1.]], dtype=float32)
    """
    offsets = _checked_neighborhood(neighborhood, labels)
    same = _value_of_same_object(dtype)
    return _affinities_of_block(labels, offsets, same, tuple(slice(0, n) for n in labels.shape))


def _affinities_of_block(
    labels: np.ndarray, offsets: np.ndarray, same: np.generic, core: Sequence[slice]
) -> np.ndarray:
    """Affinities of the `core` of `labels`, which may look at neighbours outside the core."""
    missing = 3 - labels.ndim
    unsigned = np.ascontiguousarray(labels, labels.dtype.newbyteorder("=")).view(f"u{labels.dtype.itemsize}")
    bounds = np.array([(0, 1)] * missing + [(s.start, s.stop) for s in core])
    shape = tuple(s.stop - s.start for s in core)
    out = np.empty((len(offsets), *shape), same.dtype)
    compare_with_neighbors(
        unsigned.reshape((1,) * missing + labels.shape),
        np.pad(offsets, ((0, 0), (missing, 0))),
        same,
        bounds,
        out.reshape((len(offsets),) + (1,) * missing + shape),
    )
    return out


def _checked_neighborhood(neighborhood: ArrayLike | None, labels: Any) -> np.ndarray:
    if labels.dtype.kind not in "iu":
        raise TypeError(f"labels: found dtype {labels.dtype}, expected integers")
    if labels.ndim not in (2, 3):
        raise ValueError(f"labels: found shape {labels.shape}, expected (z, y, x) or (y, x)")
    if neighborhood is None:
        return -np.eye(labels.ndim, dtype=np.int64)
    offsets = np.asarray(neighborhood)
    if offsets.dtype.kind not in "iu":
        raise TypeError(f"neighborhood: found dtype {offsets.dtype}, expected integers")
    if offsets.ndim != 2 or offsets.shape[1] != labels.ndim or len(offsets) == 0:
        raise ValueError(
            f"neighborhood: found shape {offsets.shape}, expected (n, {labels.ndim}) offsets for "
            f"labels of shape {labels.shape}"
        )
    return offsets.astype(np.int64)


def _value_of_same_object(dtype: DTypeLike) -> np.generic:
    if np.dtype(dtype) == np.float32:
        return np.float32(1)
    if np.dtype(dtype) == np.uint8:
        return np.uint8(255)
    raise TypeError(f"dtype: found {np.dtype(dtype)}, expected float32 or uint8")
