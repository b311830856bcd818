"""Augmentation of training samples: what can be varied, and the gunpowder nodes that do it."""

import warnings
from collections.abc import Sequence
from typing import Annotated, Any, Self

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    model_validator,
)

type Fraction = Annotated[float, Field(ge=0, le=1)]


class AugmentationConfig(BaseModel):
    """How training samples are varied.

    Attributes
    ----------
    elastic_control_points : tuple of int, optional
        Distance of the control points of an elastic deformation along each axis, in voxels; None for no
        deformation, no rotation, slip and shift.
    elastic_jitter : tuple of float
        Standard deviation of the control points' displacement along each axis, in voxels.
    rotation : float
        Rotate in the section by an angle between 0 and this, in degrees.
    slip, shift : float
        Probability that a section is displaced alone (slip), or with all that follow (shift).
    misalign : int
        Displace sections by up to this many voxels. Goes with slip and shift.
    mirror : tuple of int
        Axes to mirror, each with a probability of a half.
    transpose : tuple of int
        Axes to permute. Their voxel sizes have to be equal.
    intensity_scale, intensity_shift : tuple of float
        Ranges of the factor on the distance of values from their mean, and of what is added, where raw data
        are from 0 to 1.
    section_wise : bool
        Draw another factor and another shift for each section.
    grow_boundary : int
        Take this many voxels off each object, so that a boundary of background lies between any two.
    grow_in_section : bool
        Only take voxels off within the section.
    missing_sections, low_contrast_sections : float
        Probability that a section is black, or of low contrast.

    Raises
    ------
    ValueError
        If ranges are upside down, or displaced sections go without a deformation.

    Examples
    --------
    >>> AugmentationConfig(mirror=(0, 1, 2), transpose=(1, 2)).needs_gunpowder
    False
    >>> AugmentationConfig(missing_sections=0.05).needs_gunpowder
    True
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    elastic_control_points: tuple[PositiveInt, ...] | None = None
    elastic_jitter: tuple[NonNegativeFloat, ...] = (0.0, 2.0, 2.0)
    rotation: Annotated[float, Field(ge=0, le=360)] = 0.0
    slip: Fraction = 0.0
    shift: Fraction = 0.0
    misalign: NonNegativeInt = 0
    mirror: tuple[int, ...] = ()
    transpose: tuple[int, ...] = ()
    intensity_scale: tuple[NonNegativeFloat, NonNegativeFloat] = (1.0, 1.0)
    intensity_shift: tuple[float, float] = (0.0, 0.0)
    section_wise: bool = False
    grow_boundary: NonNegativeInt = 0
    grow_in_section: bool = False
    missing_sections: Fraction = 0.0
    low_contrast_sections: Fraction = 0.0

    @model_validator(mode="after")
    def _check(self) -> Self:
        for key in ("intensity_scale", "intensity_shift"):
            low, high = getattr(self, key)
            if low > high:
                raise ValueError(f"{key}: found {low:g} to {high:g}, expected the lower number first")
        if self.elastic_control_points is None and (self.slip or self.shift or self.rotation):
            raise ValueError(
                "rotation, slip and shift are parts of the elastic deformation, found no "
                "elastic_control_points"
            )
        if self.missing_sections + self.low_contrast_sections > 1:
            raise ValueError("missing_sections and low_contrast_sections: found a sum of more than 1")
        return self

    @property
    def needs_gunpowder(self) -> bool:
        """Whether the plain dataset cannot do it."""
        return (
            self.elastic_control_points is not None
            or self.missing_sections > 0
            or self.low_contrast_sections > 0
        )

    def check_axes(self, dims: int, voxel_size: Sequence[float], shape: Sequence[int]) -> None:
        """Raise ValueError if this cannot be done with samples of such axes, voxels and shapes."""
        for key in ("mirror", "transpose"):
            axes = getattr(self, key)
            if any(not 0 <= axis < dims for axis in axes) or len(set(axes)) != len(axes):
                raise ValueError(f"{key}: found the axes {axes}, expected some of {tuple(range(dims))}")
        if len({voxel_size[axis] for axis in self.transpose}) > 1:
            raise ValueError(
                f"transpose: found the axes {self.transpose} with voxels of {tuple(voxel_size)}, expected "
                "axes with voxels of one size"
            )
        if len({shape[axis] for axis in self.transpose}) > 1:
            raise ValueError(
                f"transpose: found the axes {self.transpose} and samples of {tuple(shape)} voxels, expected "
                "axes with as many voxels as each other"
            )
        for key in ("elastic_control_points", "elastic_jitter"):
            numbers = getattr(self, key)
            if self.elastic_control_points is not None and len(numbers) != dims:
                raise ValueError(f"{key}: found {len(numbers)} numbers, expected {dims}")
        sections = ("slip", "shift", "missing_sections", "low_contrast_sections", "section_wise")
        given = [key for key in sections if getattr(self, key)]
        if dims == 2 and given:
            raise ValueError(f"{', '.join(given)}: found for images, expected volumes of sections")

    def reach(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Voxels that the deformation may need around a sample of this shape, on each side of each axis."""
        if self.elastic_control_points is None:
            return (0,) * len(shape)
        diagonal = float(np.hypot(shape[-2], shape[-1]))
        turned = (diagonal - np.array(shape)) / 2 if self.rotation else np.zeros(len(shape))
        around = [3 * j + self.misalign for j in self.elastic_jitter]
        if len(shape) == 3:
            turned[0], around[0] = 0, 3 * self.elastic_jitter[0]
        return tuple(int(np.ceil(max(0, t) + a)) + 1 for t, a in zip(turned, around, strict=True))


#: The augmentation of the paper for isotropic volumes (FIB-25), and for sections (zebrafinch).
ISOTROPIC = AugmentationConfig(
    elastic_control_points=(40, 40, 40),
    elastic_jitter=(0, 2, 2),
    rotation=90,
    slip=0.01,
    shift=0.01,
    misalign=1,
    mirror=(0, 1, 2),
    transpose=(0, 1, 2),
    intensity_scale=(0.9, 1.1),
    intensity_shift=(-0.1, 0.1),
    grow_boundary=1,
)
SECTIONS = AugmentationConfig(
    elastic_control_points=(4, 40, 40),
    elastic_jitter=(0, 2, 2),
    rotation=90,
    slip=0.05,
    shift=0.05,
    misalign=10,
    mirror=(0, 1, 2),
    transpose=(1, 2),
    intensity_scale=(0.9, 1.1),
    intensity_shift=(-0.1, 0.1),
    section_wise=True,
    grow_boundary=1,
    grow_in_section=True,
    missing_sections=0.01,
    low_contrast_sections=0.01,
)
#: For images, and what a CPU does in no time.
IMAGES = AugmentationConfig(
    mirror=(0, 1),
    transpose=(0, 1),
    intensity_scale=(0.9, 1.1),
    intensity_shift=(-0.1, 0.1),
    grow_boundary=1,
)
CHEAP = AugmentationConfig(
    mirror=(0, 1, 2),
    transpose=(0, 1, 2),
    intensity_scale=(0.9, 1.1),
    intensity_shift=(-0.1, 0.1),
    grow_boundary=1,
)


def vary_intensity(raw: np.ndarray, config: AugmentationConfig, rng: np.random.Generator) -> np.ndarray:
    """Scale and shift intensities as gunpowder's ``IntensityAugment``.

    Parameters
    ----------
    raw : (channel, [z,] y, x) ndarray of float32
        From 0 to 1.
    config : AugmentationConfig
        Says by how much.
    rng : Generator
        Draws the numbers.

    Returns
    -------
    ndarray of float32
        From 0 to 1.
    """
    sections = [raw[:, z] for z in range(raw.shape[1])] if config.section_wise else [raw]
    varied = []
    for section in sections:
        mean = section.mean()
        scale, shift = rng.uniform(*config.intensity_scale), rng.uniform(*config.intensity_shift)
        varied.append(np.clip(mean + (section - mean) * scale + shift, 0, 1).astype(np.float32))
    return np.stack(varied, axis=1) if config.section_wise else varied[0]


def augmentation_nodes(config: AugmentationConfig, raw: Any, dims: int, channels: int = 1) -> list[Any]:
    """The gunpowder nodes of an augmentation, in their order; the boundary is grown by another one.

    Parameters
    ----------
    config : AugmentationConfig
        What they shall do.
    raw : gunpowder.ArrayKey
        Of the raw data, from 0 to 1.
    dims : int
        Number of spatial axes.
    channels : int, optional
        Of the raw data, which have an axis of channels if there are several.

    Returns
    -------
    list of gunpowder.BatchFilter
    """
    import gunpowder as gp

    nodes: list[Any] = []
    if config.elastic_control_points is not None:
        with warnings.catch_warnings():
            # DeformAugment, which is to replace it, neither slips nor shifts sections.
            warnings.simplefilter("ignore", DeprecationWarning)
            nodes.append(
                gp.ElasticAugment(
                    config.elastic_control_points,
                    config.elastic_jitter,
                    (0, np.deg2rad(config.rotation)),
                    prob_slip=config.slip,
                    prob_shift=config.shift,
                    max_misalign=config.misalign,
                    subsample=8 if min(config.elastic_control_points) >= 8 else 1,
                    spatial_dims=dims,
                )
            )
    if config.mirror or config.transpose:
        nodes.append(gp.SimpleAugment(mirror_only=list(config.mirror), transpose_only=list(config.transpose)))
    if config.intensity_scale != (1, 1) or config.intensity_shift != (0, 0):
        nodes.append(
            gp.IntensityAugment(
                raw,
                *config.intensity_scale,
                *config.intensity_shift,
                slab=(*([-1] * (channels > 1)), 1, -1, -1) if config.section_wise else None,
            )
        )
    if config.missing_sections or config.low_contrast_sections:
        nodes.append(
            gp.DefectAugment(
                raw,
                prob_missing=config.missing_sections,
                prob_low_contrast=config.low_contrast_sections,
                contrast_scale=0.5,
            )
        )
    return nodes
