"""What every workflow step can be told: one frozen model a step.

The keys are those of the funkelab scripts, so that existing configuration files keep working.
"""

from typing import Literal, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from .fields import Dataset, File, Fraction, Name, Position, Size, array_path
from .options import (
    OBSOLETE_KEYS,
    AffinitiesInput,
    AgglomerationOptions,
    Blocks,
    Config,
    EdgesInput,
    FragmentOptions,
    Fragments,
    Region,
    RunOptions,
    Thresholds,
    check_both_or_none,
    check_same_axes,
)

#: Where the merge tree is cut if neither a threshold nor a ground truth is given.
DEFAULT_THRESHOLD = 0.5


class ExtractFragmentsConfig(AffinitiesInput, Fragments, FragmentOptions, Blocks, Region, RunOptions):
    """Options of `extract_fragments`."""

    step = "extract_fragments"
    summary = "Make fragments (supervoxels) of affinities by watershed."


class AgglomerateConfig(AffinitiesInput, Fragments, AgglomerationOptions, Blocks, Region, RunOptions):
    """Options of `agglomerate`."""

    step = "agglomerate"
    summary = "Build the region graph of the fragments and merge it step by step."
    obsolete = OBSOLETE_KEYS | {
        "context": "not needed: the region graph is that of the whole volume, whatever the blocks"
    }


class FindSegmentsConfig(Fragments, EdgesInput, Thresholds, Region, RunOptions):
    """Options of `find_segments`."""

    step = "find_segments"
    summary = "Cut the merge tree at a range of thresholds, giving lookup tables."
    obsolete = OBSOLETE_KEYS | {"block_size": "not needed: the merge tree is cut in one piece"}


class ExtractSegmentationConfig(Fragments, EdgesInput, Blocks, Region, RunOptions):
    """Options of `extract_segmentation`."""

    step = "extract_segmentation"
    summary = "Write the segmentation of one threshold."
    heading = "Segmentation"

    threshold: Fraction = Field(examples=[0.4])
    """Threshold the merge tree is cut at, from 0 (nothing merged) to 1."""

    out_file: File = Field(examples=["volume.zarr"])
    """Container the segmentation is written to."""

    out_dataset: Dataset = "volumes/segmentation"
    """Array of the segmentation in it, uint64, 0 = background."""

    @property
    def out_path(self) -> str:
        """Path of the segmentation."""
        return array_path(self.out_file, self.out_dataset)


class EvaluateVolumesConfig(Fragments, EdgesInput, Thresholds, Region, RunOptions):
    """Options of `evaluate_volumes`."""

    step = "evaluate_volumes"
    summary = "Score the segmentations of a range of thresholds against a ground truth."
    heading = "Ground truth"

    gt_file: File = Field(examples=["truth.zarr"])
    """Container of the ground truth."""

    gt_dataset: Dataset = "volumes/labels/neuron_ids"
    """Array of the ground truth in it, integer; voxels with 0 are not evaluated."""

    method: Name | None = None
    """Name of the network that predicted the affinities, noted in the table of scores."""

    @property
    def gt_path(self) -> str:
        """Path of the ground truth."""
        return array_path(self.gt_file, self.gt_dataset)


class SegmentConfig(
    AffinitiesInput, FragmentOptions, AgglomerationOptions, Thresholds, Blocks, Region, RunOptions
):
    """Options of `segment`."""

    step = "segment"
    summary = "Make a segmentation of affinities: all steps in one command."
    heading = "Output"

    out_file: File = Field(examples=["volume.zarr"])
    """Container that everything is written to; may be that of the affinities."""

    fragments_dataset: Dataset = "volumes/fragments"
    """Array of fragments in it, uint64, 0 = background."""

    segmentation_dataset: Dataset = "volumes/segmentation"
    """Array of the segmentation in it; "_" and 100 times the threshold are added to the name."""

    threshold: Fraction | None = None
    """Threshold the merge tree is cut at, from 0 (nothing merged) to 1. By default the one with the lowest
    variation of information if there is a ground truth, else 0.5."""

    gt_file: File | None = None
    """Container of a ground truth to score the segmentations of all thresholds against. Goes with
    gt_dataset."""

    gt_dataset: Dataset | None = None
    """Array of the ground truth in it, integer; voxels with 0 are not evaluated."""

    @model_validator(mode="after")
    def _check_ground_truth(self) -> Self:
        check_both_or_none(self, "gt_file", "gt_dataset")
        return self

    @property
    def fragments_path(self) -> str:
        """Path of the fragments."""
        return array_path(self.out_file, self.fragments_dataset)

    @property
    def gt_path(self) -> str | None:
        """Path of the ground truth, if there is one."""
        return array_path(self.gt_file, self.gt_dataset) if self.gt_file and self.gt_dataset else None

    @property
    def fixed_threshold(self) -> float | None:
        """The threshold to cut at, or None where the ground truth decides."""
        if self.threshold is None and self.gt_file is None:
            return DEFAULT_THRESHOLD
        return self.threshold


class RegionConfig(Config):
    """A region of a stored volume."""

    step = "region"
    summary = "Name a region of a stored volume."
    heading = "Region"

    container: File = Field(examples=["volume.zarr"])
    """Container of the volume."""

    offset: Position = Field(examples=[(0, 0, 0)])
    """Lower corner of the region in world units, one number an axis (z, y, x)."""

    size: Size = Field(examples=[(1000, 1000, 1000)])
    """Size of the region in world units, one number an axis (z, y, x)."""

    @model_validator(mode="after")
    def _check_axes(self) -> Self:
        check_same_axes(self, "offset", "size")
        return self


class PredictConfig(RunOptions):
    """Options of `predict`."""

    step = "predict"
    summary = "Predict affinities from raw data with a trained network."
    heading = "Network and data"

    base_dir: File = Field(examples=["networks"])
    """Directory of all experiments."""

    experiment: Name = Field(examples=["hemi"])
    """Directory of the experiment in it."""

    setup: Name = Field(examples=["setup01"])
    """Directory of the network in the experiment."""

    iteration: NonNegativeInt = Field(examples=[400000])
    """Training iteration whose checkpoint is used."""

    raw_file: RegionConfig | File = Field(examples=["raw.zarr"])
    """Container of the raw data; or a region of one: container, offset and size, or the path of a JSON file
    with these."""

    raw_dataset: Dataset = "volumes/raw"
    """Array of raw data in it."""

    auto_file: File | None = None
    """Container of a first network's output, for networks that take it as input. Goes with auto_dataset."""

    auto_dataset: Dataset | None = None
    """Array of the first network's output in it."""

    out_base: File = Field(examples=["output"])
    """Directory the output container is written to."""

    file_name: Name = Field(examples=["volume.zarr"])
    """Name of the output container."""

    @model_validator(mode="after")
    def _check_first_network(self) -> Self:
        check_both_or_none(self, "auto_file", "auto_dataset")
        return self


class EvaluateAnnotationsConfig(Fragments, EdgesInput, Thresholds, Region, RunOptions):
    """Options of `evaluate_annotations`."""

    step = "evaluate_annotations"
    summary = "Score the segmentations of a range of thresholds against skeletons."
    heading = "Annotations"

    annotations_skeletons_collection_name: Name = Field(examples=["zebrafinch"])
    """Name of the skeletons."""

    annotations_synapses_collection_name: Name | None = None
    """Name of the synapses; if given, only the skeleton nodes at synapses are evaluated."""

    node_components: Name | None = None
    """Name of the table that gives each skeleton node its connected component in the region."""

    node_mask: Name | None = None
    """Name of the table that says which skeleton nodes are evaluated."""

    compute_mincut_metric: bool = False
    """Also count the splits and merges that would correct the segmentation. Slow for large regions."""

    method: Name | None = None
    """Name of the network that predicted the affinities, noted in the table of scores."""


class LsdsConfig(Blocks, Region, RunOptions):
    """Options of `lsds`."""

    step = "lsds"
    summary = "Compute the local shape descriptors of a volume of labels."
    heading = "Descriptors"

    labels_file: File = Field(examples=["truth.zarr"])
    """Container of the labels."""

    labels_dataset: Dataset = "volumes/labels/neuron_ids"
    """Array of labels in it, integer, 0 = background."""

    lsds_file: File = Field(examples=["truth.zarr"])
    """Container the descriptors are written to."""

    lsds_dataset: Dataset = "volumes/lsds"
    """Array of descriptors in it, (channel, z, y, x)."""

    sigma: PositiveFloat | Size = Field(examples=[120])
    """Extent of the neighbourhood in world units, for all axes or one for each: the standard deviation of a
    Gaussian, or the radius of a ball."""

    components: str | None = Field(None, pattern="^[0-9]+$")
    """Digits of the channels to compute, ascending, e.g. "0129"; all by default. Offsets 0-2, variances 3-5,
    Pearson coefficients 6-8, size 9; in 2-D 0-1, 2-3, 4, 5."""

    mode: Literal["gaussian", "sphere"] = "gaussian"
    """Shape of the neighbourhood."""

    downsample: PositiveInt = 1
    """Look at every n-th voxel only, and give each block of n voxels a side one value."""

    dtype: Literal["uint8", "float32"] = "uint8"
    """How values from 0 to 1 are stored: uint8 is 255 times the value, rounded."""

    @property
    def labels_path(self) -> str:
        """Path of the labels."""
        return array_path(self.labels_file, self.labels_dataset)

    @property
    def lsds_path(self) -> str:
        """Path of the descriptors."""
        return array_path(self.lsds_file, self.lsds_dataset)


#: The steps that can be run, by one command each.
STEPS: tuple[type[Config], ...] = (
    SegmentConfig,
    ExtractFragmentsConfig,
    AgglomerateConfig,
    FindSegmentsConfig,
    ExtractSegmentationConfig,
    EvaluateVolumesConfig,
    LsdsConfig,
)
