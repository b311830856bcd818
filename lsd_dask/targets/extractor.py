"""Replacements for what the package `lsds` offers in `lsd.train`, with its signatures."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..checks.arguments import check_array, real_numbers
from .descriptors import local_shape_descriptors


class LsdExtractor:
    """Computes local shape descriptors, as `lsd.train.LsdExtractor` does.

    Parameters
    ----------
    sigma : sequence of float
        Extent of the neighbourhood in world units, one per axis; the last ones are ignored for an image.
    mode : {"gaussian", "sphere"}, optional
        Whether `sigma` is the standard deviation of a Gaussian or the radius of a ball.
    downsample : int, optional
        Look at every n-th voxel only.

    See Also
    --------
    lsd_dask.local_shape_descriptors : The same as a function, also for lazy arrays.

    Examples
    --------
    >>> import numpy as np
    >>> extractor = LsdExtractor(sigma=(2, 2, 2))
    >>> extractor.get_descriptors(np.ones((8, 8, 8), np.uint64)).shape
    (10, 8, 8, 8)
    >>> extractor.get_context()
    (6.0, 6.0, 6.0)
    """

    def __init__(self, sigma: Sequence[float], mode: str = "gaussian", downsample: int = 1) -> None:
        self.sigma = real_numbers("sigma", sigma)
        self.mode = mode
        self.downsample = downsample

    def get_descriptors(
        self,
        segmentation: np.ndarray,
        components: str | None = None,
        voxel_size: Sequence[float] | None = None,
        roi: Any = None,
        labels: Any = None,
    ) -> np.ndarray:
        """Descriptors of a segmentation.

        Parameters
        ----------
        segmentation : (z, y, x) or (y, x) array of int
            Object ids, 0 is background.
        components, voxel_size, labels
            As for `lsd_dask.local_shape_descriptors`.
        roi : Roi, optional
            Voxels to compute descriptors for, as a `gunpowder.Roi` in voxels.

        Returns
        -------
        (C, z, y, x) or (C, y, x) array of float32 in [0, 1]
            Descriptors of the voxels of `roi`.
        """
        check_array(segmentation, "segmentation")
        return local_shape_descriptors(
            segmentation,
            self.sigma[: segmentation.ndim],
            components,
            voxel_size,
            None if roi is None else roi.to_slices(),
            labels,
            self.mode,
            self.downsample,
        )

    def get_context(self) -> tuple[float, ...]:
        """Context needed around the voxels to describe, in world units."""
        return tuple(3.0 * s for s in self.sigma) if self.mode == "gaussian" else self.sigma


def get_local_shape_descriptors(
    segmentation: np.ndarray,
    sigma: Sequence[float],
    components: str | None = None,
    voxel_size: Sequence[float] | None = None,
    roi: Any = None,
    labels: Any = None,
    mode: str = "gaussian",
    downsample: int = 1,
) -> np.ndarray:
    """Local shape descriptors, as the function of that name in `lsd.train.local_shape_descriptor`.

    The parameters are those of `lsd_dask.local_shape_descriptors`, except that `roi` is a `gunpowder.Roi` in
    voxels.
    """
    return LsdExtractor(sigma, mode, downsample).get_descriptors(
        segmentation, components, voxel_size, roi, labels
    )
