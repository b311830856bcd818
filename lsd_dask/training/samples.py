"""What a network is trained towards: affinities and descriptors of labels, and how much each value counts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..networks.models import ModelConfig
from ..targets.affinities import affinities
from ..targets.descriptors import local_shape_descriptors
from .augmentation import AugmentationConfig
from .labelled_volumes import Labels

#: A class counts as at least this fraction of the values when classes are balanced, and at most as the rest.
_LEAST_FRACTION = 0.05


@dataclass(frozen=True)
class Sample:
    """What a network sees, and what it should predict.

    Attributes
    ----------
    raw
        (channel, [z,] y, x) float32 from -1 to 1.
    targets, weights
        By name, "affinities" and "lsds": (channel, [z,] y, x) float32, of the shape of the output.
    """

    raw: np.ndarray
    targets: Mapping[str, np.ndarray]
    weights: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class SampleSpec:
    """What samples are made of.

    Parameters
    ----------
    model : ModelConfig
        Of the network to train.
    output_shape : tuple of int
        Of the predictions that are compared with targets, in voxels.
    lsd_sigma : tuple of float
        Extent of the descriptors, in voxels, one number an axis.
    lsd_downsample : int, optional
        As for `local_shape_descriptors`.
    augmentation : AugmentationConfig, optional
        How samples are varied.
    raw_range : tuple of float, optional
        Raw values, as fractions of the largest one, that become -1 and 1.
    minimum_labelled : float, optional
        Samples with a smaller fraction of voxels whose labels are known are passed over.
    balance : bool, optional
        Whether affinities 0 and 1 weigh the same in sum.
    border : int, optional
        Predict this many voxels more on each side, which are not compared: for networks that pad with zeros,
        and predict worse near the faces of a sample than in the middle of a volume.

    Raises
    ------
    ValueError
        If the shape is none that the network can predict, or no multiple of `lsd_downsample`.
    """

    model: ModelConfig
    output_shape: tuple[int, ...]
    lsd_sigma: tuple[float, ...]
    lsd_downsample: int = 1
    augmentation: AugmentationConfig = field(default_factory=lambda: AugmentationConfig())
    raw_range: tuple[float, float] = (0.0, 1.0)
    minimum_labelled: float = 0.0
    balance: bool = True
    border: int = 0

    def __post_init__(self) -> None:
        if len(self.lsd_sigma) != self.model.dims:
            raise ValueError(f"lsd_sigma: found {self.lsd_sigma}, expected {self.model.dims} numbers")
        self.model.geometry().input_shape(self._predicted_shape)
        if "lsds" in self.model.predictions and any(n % self.lsd_downsample for n in self.output_shape):
            raise ValueError(
                f"output_shape: found {self.output_shape}, expected multiples of lsd_downsample "
                f"{self.lsd_downsample}"
            )

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the raw data, in voxels."""
        return tuple(self.model.geometry().input_shape(self._predicted_shape))

    @property
    def before(self) -> tuple[int, ...]:
        """Voxels of raw data before the first voxel of the output."""
        return tuple(cut + self.border for cut in self.model.geometry().cut)

    def _whole_steps(self, voxels: int) -> int:
        return -(-voxels // self.lsd_downsample) * self.lsd_downsample

    @property
    def _predicted_shape(self) -> tuple[int, ...]:
        return tuple(n + 2 * self.border for n in self.output_shape)

    @property
    def margin(self) -> tuple[int, ...]:
        """Voxels of labels that the targets need around the output, on each side."""
        assert self.model.neighborhood is not None
        grown = self.augmentation.grow_boundary
        reach = [max(abs(o) for o in axis) for axis in zip(*self.model.neighborhood, strict=True)]
        if "lsds" not in self.model.predictions:
            return tuple(r + grown for r in reach)
        context = [self._whole_steps(int(np.ceil(3 * sigma))) for sigma in self.lsd_sigma]
        return tuple(self._whole_steps(max(c, r) + grown) for c, r in zip(context, reach, strict=True))


def targets_of(
    labels: Labels, spec: SampleSpec, shape: tuple[int, ...] | None = None
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Targets and weights of labels.

    Parameters
    ----------
    labels : Labels
        Of the output and `spec.margin` around it.
    spec : SampleSpec
        Says which targets.
    shape : tuple of int, optional
        Of the output; by default that of a sample.

    Returns
    -------
    targets, weights : dict of str to ndarray of float32
        (channel, [z,] y, x), of the shape of the output.
    """
    inside = tuple(slice(m, m + n) for m, n in zip(spec.margin, shape or spec.output_shape, strict=True))
    config = spec.augmentation
    objects = grow_boundary(
        labels.objects, config.grow_boundary, labels.known, in_section=config.grow_in_section
    )
    targets, weights = {}, {}
    if "affinities" in spec.model.predictions:
        target, known = affinity_target(objects, labels.known, labels.labelled, spec.model.neighborhood)
        targets["affinities"] = np.ascontiguousarray(target[(slice(None), *inside)])
        known = known[(slice(None), *inside)]
        weights["affinities"] = balanced(targets["affinities"], known) if spec.balance else known
    if "lsds" in spec.model.predictions:
        targets["lsds"] = local_shape_descriptors(
            objects, spec.lsd_sigma, voxel_size=1, roi=inside, downsample=spec.lsd_downsample
        )
        weight = descriptor_weight(objects, labels.known, labels.labelled, labels.ignored)[inside]
        weights["lsds"] = np.broadcast_to(weight, targets["lsds"].shape).astype(np.float32)
    return targets, {name: np.ascontiguousarray(weight, np.float32) for name, weight in weights.items()}


def affinity_target(
    objects: np.ndarray, known: np.ndarray, labelled: np.ndarray, neighborhood: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Affinities of labels, and where they are known: what gunpowder's ``AddAffinities`` gives.

    Parameters
    ----------
    objects, known, labelled : ([z,] y, x) ndarray of int
        As in `Labels`. Affinities count where both voxels are known, and unless both are not labelled.
    neighborhood : sequence of tuple of int
        Offsets of the channels.

    Returns
    -------
    affinities, mask : (channel, [z,] y, x) ndarray of float32
    """
    target = affinities(objects, neighborhood)
    mask = affinities(known.astype(np.uint8), neighborhood)
    mask *= 1 - affinities(1 - labelled.astype(np.uint8), neighborhood)
    return target, mask


def descriptor_weight(
    objects: np.ndarray, known: np.ndarray, labelled: np.ndarray, ignored: np.ndarray
) -> np.ndarray:
    """Where descriptors count: in labelled objects, and in ignored ones, where they should be 0."""
    return ((objects != 0) | (ignored != 0)) & (known != 0) & (labelled != 0)


def grow_boundary(
    objects: np.ndarray, steps: int, known: np.ndarray | None = None, *, in_section: bool = False
) -> np.ndarray:
    """Take voxels off objects where they touch others or background, as gunpowder's ``GrowBoundary``.

    Its time does not grow with the number of objects.

    Parameters
    ----------
    objects : ([z,] y, x) ndarray of int
        Object ids, 0 = background.
    steps : int
        Number of voxels to take off.
    known : ndarray of int, optional
        0 where labels are not known: there is no boundary towards them.
    in_section : bool, optional
        Leave the z axis alone.

    Returns
    -------
    ndarray of int

    Examples
    --------
    >>> grow_boundary(np.array([[1, 1, 1, 2, 2, 2]]), 1)
    array([[1, 1, 0, 0, 2, 2]])
    """
    grown = objects
    axes = range(objects.ndim - 2 if in_section else 0, objects.ndim)
    for _ in range(steps):
        boundary = np.zeros(objects.shape, bool)
        for axis in axes:
            low, high = _pairs(axis, objects.ndim)
            differ = grown[low] != grown[high]
            if known is not None:
                differ &= (known[low] != 0) & (known[high] != 0)
            boundary[low] |= differ
            boundary[high] |= differ
        grown = np.where(boundary, grown.dtype.type(0), grown)
    return grown


def balanced(target: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Weights by which 0 and 1 count the same in sum, as gunpowder's ``BalanceLabels``.

    Parameters
    ----------
    target : ndarray
        0 and 1.
    mask : ndarray
        0 where values do not count.

    Returns
    -------
    ndarray of float32

    Examples
    --------
    >>> balanced(np.array([1, 1, 1, 0, 0]), np.array([1, 1, 1, 1, 0])).round(2)
    array([0.67, 0.67, 0.67, 2.  , 0.  ], dtype=float32)
    """
    counted = mask != 0
    number = np.count_nonzero(counted)
    ones = np.count_nonzero(target[counted]) / number if number else 0.5
    fractions = np.clip([1 - ones, ones], _LEAST_FRACTION, 1 - _LEAST_FRACTION)
    weights = (1 / (2 * fractions)).astype(np.float32)
    return np.where(counted, np.where(target != 0, weights[1], weights[0]), np.float32(0))


def _pairs(axis: int, ndim: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Views of an array in which neighbours along an axis are in the same place."""
    low, high = [slice(None)] * ndim, [slice(None)] * ndim
    low[axis], high[axis] = slice(None, -1), slice(1, None)
    return tuple(low), tuple(high)
