"""What `train` can be told."""

import os
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from .fields import (
    Dataset,
    File,
    Fraction,
    MergeFunction,
    Neighborhood,
    ObjectIds,
    PositiveLength,
    Size,
    array_path,
)
from .options import Config, Region, ReportOptions, check_both_or_none


class VolumeConfig(Region):
    """A volume to train or validate on."""

    step = "volume"
    summary = "Name raw data and labels."
    heading = "Volume"

    raw_file: File = Field(examples=["volume.zarr"])
    """Container of the raw data."""

    raw_dataset: Dataset = "volumes/raw"
    """Array of raw data in it, uint8, uint16 or float from 0 to 1; may reach farther than the labels."""

    labels_file: File | None = None
    """Container of the labels; by default that of the raw data."""

    labels_dataset: Dataset = "volumes/labels/neuron_ids"
    """Array of labels in it, integer, 0 = background. roi_offset and roi_shape name a part of them."""

    mask_file: File | None = None
    """Container of a mask; nothing is learnt where it is 0. Goes with mask_dataset."""

    mask_dataset: Dataset | None = None
    """Array of the mask in it, 0 = it is not known what is there."""

    labelled_ids: ObjectIds | None = None
    """Of sparse labels, the ids of the objects that are labelled; all others count as not labelled."""

    ignored_ids: ObjectIds | None = None
    """Ids of objects that the network learns to predict nothing for, such as glia."""

    unlabelled_background: bool = False
    """Whether label 0 is what nobody labelled, rather than membranes and the like."""

    probability: PositiveFloat = 1.0
    """How often samples are drawn from it, relative to the other volumes."""

    @model_validator(mode="before")
    @classmethod
    def _of_a_path(cls, given: Any) -> Any:
        return {"raw_file": given} if isinstance(given, str | os.PathLike) else given

    @model_validator(mode="after")
    def _check_mask(self) -> Self:
        check_both_or_none(self, "mask_file", "mask_dataset")
        return self

    @property
    def raw_path(self) -> str:
        """Path of the raw data."""
        return array_path(self.raw_file, self.raw_dataset)

    @property
    def labels_path(self) -> str:
        """Path of the labels."""
        return array_path(self.labels_file or self.raw_file, self.labels_dataset)

    @property
    def mask_path(self) -> str | None:
        """Path of the mask, if there is one."""
        return array_path(self.mask_file, self.mask_dataset) if self.mask_file and self.mask_dataset else None


class AugmentationOptions(Config):
    """How training samples are varied: what the preset says, unless told otherwise."""

    heading = "Augmentation"

    elastic_control_points: tuple[PositiveInt, ...] | None = None
    """Distance of the control points of an elastic deformation, in voxels, one number an axis. By default, as
    all below, that of the preset."""

    elastic_jitter: tuple[NonNegativeFloat, ...] | None = None
    """Standard deviation of the control points' displacement, in voxels, one number an axis."""

    rotation: float | None = Field(None, ge=0, le=360)
    """Largest angle of a rotation in the section, in degrees. Goes with elastic_control_points."""

    slip: Fraction | None = None
    """Probability that a section is displaced alone. Goes with elastic_control_points."""

    shift: Fraction | None = None
    """Probability that a section is displaced with all that follow. Goes with elastic_control_points."""

    misalign: NonNegativeInt | None = None
    """Largest such displacement, in voxels."""

    mirror: tuple[NonNegativeInt, ...] | None = None
    """Axes to mirror: 0 is z, in 2-D y."""

    transpose: tuple[NonNegativeInt, ...] | None = None
    """Axes to permute; their voxels have one size. By default those of the preset for which this is so."""

    intensity_scale: tuple[float, float] | None = None
    """Range of the factor that intensities are scaled by, around their mean."""

    intensity_shift: tuple[float, float] | None = None
    """Range of what is added to intensities, where raw data are from 0 to 1."""

    section_wise: bool | None = None
    """Vary the intensities of each section by itself."""

    grow_boundary: NonNegativeInt | None = None
    """Voxels taken off each object, so that there is a boundary between any two."""

    grow_in_section: bool | None = None
    """Take them off within the section only."""

    missing_sections: Fraction | None = None
    """Probability that a section is black."""

    low_contrast_sections: Fraction | None = None
    """Probability that a section is of low contrast."""

    sampler: Literal["gunpowder", "plain"] | None = None
    """What draws samples: "gunpowder" can do all of this; "plain" is faster, and leaves out deformations and
    defects of sections. By default "plain" where it is enough."""


class OptimisationOptions(Config):
    """How parameters are found: what the preset says, unless told otherwise."""

    heading = "Optimisation"

    iterations: PositiveInt | None = None
    """Number of training steps. By default, as all below, that of the preset."""

    batch_size: PositiveInt | None = None
    """Samples a step."""

    learning_rate: PositiveFloat | None = None
    """Of Adam."""

    decay: Literal["none", "cosine"] | None = None
    """What becomes of the learning rate: "none" keeps it, "cosine" brings it down to 0 over all steps."""

    seed: NonNegativeInt = 0
    """Of everything that is drawn at random. On a CPU, the same seed gives the same network."""

    lsd_weight: PositiveFloat = 1.0
    """How much the loss of descriptors counts beside that of affinities."""

    balance: bool = True
    """Weigh affinities so that 0 and 1 count the same in each sample."""

    minimum_labelled: Fraction = 0.5
    """Pass over samples with a smaller fraction of voxels that are labelled and known."""


class ValidationOptions(Config):
    """How the network is looked at while it is trained."""

    heading = "Validation"

    validation_volumes: tuple[VolumeConfig, ...] | None = None
    """Volumes that are not trained on, as in volumes: the network is scored on them."""

    validate_every: NonNegativeInt = 1000
    """Steps between two validations, by loss and by variation of information of the segmentation. 0: only
    after the last step."""

    merge_function: MergeFunction = "hist_quant_75"
    """Score by which fragments are merged for that."""

    minimum_size: NonNegativeInt = 0
    """True objects of fewer voxels than this are not scored."""

    snapshot_every: NonNegativeInt = 500
    """Steps between two pictures of raw data, targets and predictions. 0: none."""

    log_every: PositiveInt = 10
    """Steps between two entries in the logs for TensorBoard, of mean losses."""


class MachineOptions(Config):
    """What computes; nothing here changes the result, but for rounding."""

    heading = "Machine"

    device: str | None = Field(None, min_length=1)
    """Where to train: "cpu", "cuda", "cuda:1", ...; by default on a GPU where there is one."""

    mixed_precision: bool | None = None
    """Compute convolutions with 16 bits. By default on GPUs; recent CPUs have instructions for it, too."""

    compiled: bool | None = None
    """Compile the network, which takes a minute and makes steps faster. By default on GPUs."""

    num_workers: NonNegativeInt = 0
    """Processes that make samples beside the one that trains. 0: none, it does that as well."""

    num_threads: PositiveInt | None = None
    """Threads to compute with. By default those of PyTorch."""


class TrainConfig(OptimisationOptions, AugmentationOptions, ValidationOptions, MachineOptions, ReportOptions):
    """Options of `train`."""

    step = "train"
    summary = "Train a network to predict affinities and local shape descriptors."
    heading = "Training"
    #: There was no such script: what is called like one of their keys is a mistyped one of these.
    obsolete: ClassVar[Mapping[str, str]] = {}

    volumes: tuple[VolumeConfig, ...] = Field(min_length=1, examples=["volume.zarr"])
    """Volumes to train on: of each the path of its container, or, where arrays have other names or there is a
    mask, its keys: {"raw_file": "volume.zarr", "raw_dataset": "em"}."""

    out_dir: File = Field(examples=["network"])
    """Folder that checkpoints, logs and pictures are written to."""

    kind: Literal["affinities", "lsd", "mtlsd", "aclsd", "acrlsd"] = "mtlsd"
    """What the network predicts: "affinities"; "lsd", descriptors; "mtlsd", both; "aclsd" and "acrlsd",
    affinities from the descriptors that a first network predicts, the latter from raw data as well."""

    preset: Literal["fib25", "zebrafinch", "2d", "tiny", "tiny-2d"] = "tiny"
    """Network and numbers to begin with: "fib25", "zebrafinch" and "2d" are those of the paper, for GPUs;
    "tiny" and "tiny-2d" learn something useful on a CPU."""

    lsd_checkpoint: File | None = None
    """Checkpoint of the first network of "aclsd" and "acrlsd", of kind "lsd"."""

    num_fmaps: PositiveInt | None = None
    """Feature maps of the first level. By default, as all below, what the preset says."""

    fmap_inc_factor: PositiveInt | None = None
    """How many times as many feature maps each level has as the one above."""

    neighborhood: Neighborhood | None = None
    """Offsets of the affinities in voxels, e.g. [[-1,0,0],[0,-1,0],[0,0,-1],[-2,0,0]]: the direct
    neighbours along all axes, before or after, and others. Predictions say them in their attributes."""

    output_shape: tuple[PositiveInt, ...] | None = None
    """Shape of what is predicted of a training sample, in voxels."""

    lsd_sigma: PositiveLength | Size | None = None
    """Extent of the descriptors: the standard deviation of their Gaussian, for all axes or one for each.
    Numbers are in the units of the first volume; text says its unit, e.g. "80 nm"."""

    lsd_downsample: PositiveInt | None = None
    """Look at every n-th voxel only for descriptors."""

    checkpoint_every: PositiveInt = 1000
    """Steps between two checkpoints."""

    keep_checkpoints: bool = False
    """Keep all of them, rather than the last and the best one."""

    resume: bool = True
    """Go on from the last checkpoint of an interrupted training. If false, begin anew."""

    @model_validator(mode="after")
    def _check_autocontext(self) -> Self:
        autocontext = self.kind in ("aclsd", "acrlsd")
        if autocontext and self.lsd_checkpoint is None:
            raise ValueError(f"kind {self.kind!r} goes with lsd_checkpoint, found none")
        if not autocontext and self.lsd_checkpoint is not None:
            raise ValueError(f"lsd_checkpoint goes with the kinds aclsd and acrlsd, found {self.kind!r}")
        return self

    @property
    def last_path(self) -> str:
        """Path of the last checkpoint."""
        return array_path(self.out_dir, "last.pt")
