"""Affinities of a labelling, the training targets and the input of the segmentation."""

from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, DTypeLike

from ..kernels.affinities import compare_with_neighbors
from ..space.neighborhoods import checked, default_neighborhood, noted
from ..volumes.dask_arrays import V
from ..volumes.overlap import OverlapBlock, map_overlap
from ..volumes.voxel_values import as_unsigned, check_labels


def affinities(
    labels: V,
    neighborhood: ArrayLike | None = None,
    *,
    dtype: DTypeLike = np.float32,
) -> V:
    """Affinities of a labelling: 1 where a voxel and its neighbour belong to the same object.

    Parameters
    ----------
    labels : (z, y, x) or (y, x) array of int, dask array or DataArray
        Object ids of any size, from 0 on; 0 is background and has affinity 0 to everything, itself included.
    neighborhood : (n, d) array_like of int, optional
        Offsets, in voxels, of the neighbours a voxel is compared with. Defaults to the direct predecessors
        ``[[-1, 0, 0], [0, -1, 0], [0, 0, -1]]``, in 2-D ``[[-1, 0], [0, -1]]``.
    dtype : {"float32", "uint8"}, optional
        float32 affinities are 0 and 1, uint8 ones 0 and 255, the form in which they are stored.

    Returns
    -------
    (n, z, y, x) or (n, y, x) array of `dtype`
        Of the same kind as `labels`; lazy unless that is a NumPy array, and then the same for any chunking.
        ``out[i, p]`` is the affinity of voxel p to voxel ``p + neighborhood[i]``, 0 where that lies outside.
        A DataArray has the neighborhood in its attributes, which `save_volume` keeps and all steps read.

    Raises
    ------
    TypeError
        If `labels` is no array, `labels` or `neighborhood` are not integers, or `dtype` is neither float32
        nor uint8.
    ValueError
        If `labels` is neither 2-D nor 3-D, holds no voxel or a negative label, or `neighborhood` does not fit
        it, has an offset of zeros or one twice. The voxels of lazy labels are checked when they are read.

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
    check_labels(labels, "labels")
    offsets = (
        default_neighborhood(labels.ndim) if neighborhood is None else checked(neighborhood, labels.ndim)
    )
    method = _Method(offsets, _value_of_same_object(dtype))
    depth = np.abs(offsets).max(axis=0).tolist()
    found = map_overlap(method, labels, depth, dtype=method.same.dtype, channels=len(offsets))
    return noted(found, offsets) if isinstance(found, xr.DataArray) else found


@dataclass(frozen=True)
class _Method:
    """The affinities of a block; the kernel of `map_overlap`."""

    neighborhood: tuple[tuple[int, ...], ...]
    same: np.generic

    def __call__(self, haloed: np.ndarray, block: OverlapBlock) -> np.ndarray:
        missing = 3 - haloed.ndim
        labels = as_unsigned(haloed, "labels")
        offsets = np.pad(np.array(self.neighborhood), ((0, 0), (missing, 0)))
        core = np.array([(0, 1)] * missing + [(s.start, s.stop) for s in block.core])
        out = np.empty((len(offsets), *(core[:, 1] - core[:, 0])), self.same.dtype)
        compare_with_neighbors(
            labels.reshape((1,) * missing + labels.shape),
            offsets,
            self.same,
            core,
            out,
        )
        return out.reshape(len(offsets), *out.shape[1 + missing :])


def _value_of_same_object(dtype: DTypeLike) -> np.generic:
    if np.dtype(dtype) == np.float32:
        return np.float32(1)
    if np.dtype(dtype) == np.uint8:
        return np.uint8(255)
    raise TypeError(f"dtype: found {np.dtype(dtype)}, expected float32 or uint8")
