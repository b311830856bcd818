"""Networks and numbers to begin with: those of the paper, and small ones for a laptop."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ..networks.models import AUTOCONTEXT, Kind, ModelConfig
from .augmentation import CHEAP, IMAGES, ISOTROPIC, SECTIONS, AugmentationConfig


@dataclass(frozen=True)
class Preset:
    """What a network is made of and how it is trained.

    Attributes
    ----------
    network
        Configuration without kind. Each kind gets its own of it by `model`.
    output_shape
        Of a training sample, in voxels; `input_shape` has that of its raw data.
    voxel_size
        In nanometers, one number an axis.
    lsd_sigma, lsd_downsample
        Of the target descriptors: `sigma` (nanometers) and `downsample` of `local_shape_descriptors`.
    batch_size
        Samples a training step.
    learning_rate, betas
        Of Adam.
    multitask_fmaps
        `num_fmaps_out` of kind "mtlsd"; None for as many as `num_fmaps`.
    augmentation
        How samples are varied.
    iterations, decay, warmup
        Number of training steps, and what becomes of the learning rate: see `TrainingOptions`.
    border
        Voxels around the output that are predicted and not compared: see `SampleSpec`.
    """

    network: ModelConfig
    output_shape: tuple[int, ...]
    voxel_size: tuple[float, ...]
    lsd_sigma: float
    lsd_downsample: int
    batch_size: int = 1
    learning_rate: float = 0.5e-4
    betas: tuple[float, float] = (0.95, 0.999)
    multitask_fmaps: int | None = None
    augmentation: AugmentationConfig = CHEAP
    iterations: int = 400_000
    decay: Literal["none", "cosine"] = "none"
    warmup: int = 0
    border: int = 0

    def model(self, kind: Kind, *, neighborhood: tuple[tuple[int, ...], ...] | None = None) -> ModelConfig:
        """Configuration of a network of some kind.

        Parameters
        ----------
        kind : {"affinities", "lsd", "mtlsd", "aclsd", "acrlsd"}
            What it predicts.
        neighborhood : sequence of tuple of int, optional
            Offsets of the channels of affinities; the direct predecessors by default.

        Returns
        -------
        ModelConfig

        Examples
        --------
        >>> PRESETS["fib25"].model("mtlsd").channels
        {'affinities': 3, 'lsds': 10}
        """
        changes: dict[str, object] = {"kind": kind}
        if neighborhood is not None:
            changes["neighborhood"] = neighborhood
        if kind == "mtlsd":
            changes["num_fmaps_out"] = self.multitask_fmaps
        if kind in AUTOCONTEXT:
            changes["first"] = self.model("lsd").model_dump()
        return ModelConfig.model_validate(self.network.model_dump() | changes)

    def input_shape(self, kind: Kind) -> tuple[int, ...]:
        """Shape of the raw data of a training sample, in voxels.

        Examples
        --------
        >>> PRESETS["fib25"].input_shape("affinities"), PRESETS["fib25"].input_shape("acrlsd")
        ((196, 196, 196), (304, 304, 304))
        """
        predicted = tuple(n + 2 * self.border for n in self.output_shape)
        return self.model(kind).geometry().input_shape(predicted)


_TWO_STEPS = ((2, 2, 2), (2, 2, 2))

#: Presets by name. "fib25", "zebrafinch" and "2d" have the numbers of the paper and its notebooks; "tiny" and
#: "tiny-2d" learn something useful on a laptop without a GPU.
PRESETS: Mapping[str, Preset] = {
    "fib25": Preset(
        ModelConfig(num_fmaps=12, fmap_inc_factor=6, downsample_factors=((2, 2, 2), (2, 2, 2), (3, 3, 3))),
        output_shape=(92, 92, 92),
        voxel_size=(8, 8, 8),
        lsd_sigma=80,
        lsd_downsample=2,
        multitask_fmaps=14,
        augmentation=ISOTROPIC,
    ),
    "zebrafinch": Preset(
        ModelConfig(num_fmaps=12, fmap_inc_factor=5, downsample_factors=((1, 3, 3), (1, 3, 3), (3, 3, 3))),
        output_shape=(48, 56, 56),
        voxel_size=(20, 9, 9),
        lsd_sigma=120,
        lsd_downsample=2,
        multitask_fmaps=14,
        augmentation=SECTIONS,
    ),
    "2d": Preset(
        ModelConfig(
            dims=2,
            num_fmaps=12,
            fmap_inc_factor=5,
            downsample_factors=((2, 2), (2, 2)),
            constant_upsample=True,
        ),
        output_shape=(124, 124),
        voxel_size=(4, 4),
        lsd_sigma=80,
        lsd_downsample=2,
        batch_size=5,
        augmentation=IMAGES,
        iterations=10_000,
    ),
    "tiny": Preset(
        ModelConfig(
            num_fmaps=16,
            fmap_inc_factor=2,
            downsample_factors=_TWO_STEPS,
            constant_upsample=True,
            padding="same",
        ),
        output_shape=(32, 32, 32),
        voxel_size=(8, 8, 8),
        lsd_sigma=80,
        lsd_downsample=2,
        learning_rate=1e-3,
        augmentation=CHEAP,
        iterations=3000,
        decay="cosine",
        warmup=20,
        border=8,
    ),
    "tiny-2d": Preset(
        ModelConfig(
            dims=2,
            num_fmaps=16,
            fmap_inc_factor=2,
            downsample_factors=((2, 2), (2, 2), (2, 2)),
            constant_upsample=True,
        ),
        output_shape=(100, 100),
        voxel_size=(4, 4),
        lsd_sigma=40,
        lsd_downsample=2,
        batch_size=4,
        learning_rate=1e-3,
        betas=(0.9, 0.999),
        augmentation=IMAGES,
        iterations=2000,
        decay="cosine",
        warmup=20,
    ),
}
