"""Local shape descriptors in gunpowder pipelines. Needs the extra `gunpowder`."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from gunpowder import Array, ArrayKey, ArraySpec, Batch, BatchFilter, BatchRequest, Coordinate

from .targets.extractor import LsdExtractor


class AddLocalShapeDescriptor(BatchFilter):  # type: ignore[misc]
    """Adds the local shape descriptors of a segmentation to a batch, as the node of `lsd.train.gp`.

    Parameters
    ----------
    segmentation : ArrayKey
        The segmentation to describe. More of it than of the descriptors is requested upstream: 3 sigma on
        each side, or sigma for a ball.
    descriptor : ArrayKey
        The array to add, (C, z, y, x) or (C, y, x) float32.
    lsds_mask : ArrayKey, optional
        A mask to add if it is requested, of the shape of the descriptors: 1 where there is an object. Weights
        a loss.
    labels_mask : ArrayKey, optional
        Mask of the segmentation. Where it is given, it is `lsds_mask`, in place of the objects.
    unlabelled : ArrayKey, optional
        An array that is 0 where the segmentation is not known; `lsds_mask` is multiplied with it.
    sigma : float or sequence of float, optional
        Extent of the neighbourhood in world units, for all axes or one for each.
    mode : {"gaussian", "sphere"}, optional
        Whether `sigma` is the standard deviation of a Gaussian or the radius of a ball.
    components : str, optional
        Digits of the channels to compute, as for `lsd_dask.local_shape_descriptors`.
    downsample : int, optional
        Look at every n-th voxel only, beginning at the first one described.

    Raises
    ------
    ValueError
        If `mode` is neither "gaussian" nor "sphere".
    """

    def __init__(
        self,
        segmentation: ArrayKey,
        descriptor: ArrayKey,
        lsds_mask: ArrayKey | None = None,
        labels_mask: ArrayKey | None = None,
        unlabelled: ArrayKey | None = None,
        sigma: float | Sequence[float] = 5.0,
        mode: str = "gaussian",
        components: str | None = None,
        downsample: int = 1,
    ) -> None:
        if mode not in ("gaussian", "sphere"):
            raise ValueError(f"mode: found {mode!r}, expected 'gaussian' or 'sphere'")
        self.segmentation = segmentation
        self.descriptor = descriptor
        self.lsds_mask = lsds_mask
        self.labels_mask = labels_mask
        self.unlabelled = unlabelled
        self.sigma = (sigma,) * 3 if isinstance(sigma, int | float) else tuple(sigma)
        self.mode = mode
        self.components = components
        self.downsample = downsample
        self.extractor = LsdExtractor(self.sigma, mode, downsample)

    def setup(self) -> None:
        """Announce the descriptors and their mask, where the segmentation is."""
        spec = self.spec[self.segmentation].copy()
        spec.dtype = np.float32
        self.voxel_size: Coordinate = spec.voxel_size
        self.provides(self.descriptor, spec)
        if self.lsds_mask:
            self.provides(self.lsds_mask, spec.copy())

    def skip_node(self, request: BatchRequest) -> bool:
        """Whether there is nothing to do: no descriptors are requested."""
        return self.descriptor not in request

    def prepare(self, request: BatchRequest) -> BatchRequest:
        """Ask for the segmentation and its masks with the context of the descriptors."""
        wanted = request[self.descriptor].roi
        roi = self._with_context(wanted)
        if self.segmentation in request:
            roi = roi.union(request[self.segmentation].roi)
        dependencies = BatchRequest()
        for key in (self.segmentation, self.labels_mask, self.unlabelled):
            if key:
                dependencies[key] = ArraySpec(roi=roi)
        return dependencies

    def process(self, batch: Batch, request: BatchRequest) -> Batch:
        """Compute the descriptors of the requested voxels, and their mask."""
        segmentation = batch[self.segmentation]
        wanted = request[self.descriptor].roi
        aligned = self._aligned(segmentation.spec.roi, wanted)
        descriptors = self.extractor.get_descriptors(
            segmentation.crop(aligned).data,
            self.components,
            self.voxel_size,
            (wanted - aligned.get_begin()) / self.voxel_size,
        )
        spec = self.spec[self.descriptor].copy()
        spec.roi = wanted.copy()
        added = Batch()
        added[self.descriptor] = Array(descriptors, spec)
        if self.lsds_mask and self.lsds_mask in request:
            mask = np.broadcast_to(self._mask(batch, wanted), descriptors.shape).astype(np.float32)
            added[self.lsds_mask] = Array(mask, spec.copy())
        return added

    def _with_context(self, wanted: Any) -> Any:
        """The voxels within 3 sigma of those wanted; whole steps of `downsample` on each side."""
        context = Coordinate(
            -(c // v // -self.downsample) * self.downsample * v
            for c, v in zip(self.extractor.get_context(), self.voxel_size, strict=False)
        )
        return wanted.grow(context, context)

    def _aligned(self, available: Any, wanted: Any) -> Any:
        """The part of the available voxels from which `downsample` picks the first wanted one."""
        before = (wanted.get_begin() - available.get_begin()) / self.voxel_size
        surplus = Coordinate(b % self.downsample for b in before) * self.voxel_size
        return available.grow(-surplus, 0)

    def _mask(self, batch: Batch, wanted: Any) -> np.ndarray:
        if self.labels_mask:
            mask = batch[self.labels_mask].crop(wanted).data
        else:
            mask = batch[self.segmentation].crop(wanted).data != 0
        if self.unlabelled:
            mask = mask * batch[self.unlabelled].crop(wanted).data
        return mask
