"""What every workflow step can be told: one frozen model a step.

The keys are those of the funkelab scripts, so that existing configuration files keep working.
"""

from typing import Literal, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from .fields import (
    Dataset,
    File,
    Fraction,
    Ids,
    Length,
    Name,
    Position,
    PositiveLength,
    Size,
    Unit,
    array_path,
)
from .options import (
    OBSOLETE_KEYS,
    AffinitiesInput,
    AgglomerationOptions,
    Blocks,
    Channels,
    Config,
    EdgesInput,
    EditsInput,
    FragmentOptions,
    Fragments,
    PredictionOptions,
    Region,
    ReportOptions,
    RunOptions,
    Thresholds,
    check_both_or_none,
    check_same_axes,
)
from .pyramid import BuildPyramidConfig
from .train import TrainConfig

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


class FindSegmentsConfig(Fragments, EdgesInput, EditsInput, Thresholds, Region, RunOptions):
    """Options of `find_segments`."""

    step = "find_segments"
    summary = "Cut the merge tree at a range of thresholds, giving lookup tables."
    obsolete = OBSOLETE_KEYS | {"block_size": "not needed: the merge tree is cut in one piece"}


class ExtractSegmentationConfig(Fragments, EdgesInput, EditsInput, Blocks, Region, RunOptions):
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

    mask_file: File | None = None
    """Container of a mask; voxels outside it are not evaluated. Goes with mask_dataset."""

    mask_dataset: Dataset | None = None
    """Array of the mask in it, 0 = outside. Its voxels may be coarser than those of the fragments."""

    ignore_ids: Ids | None = None
    """Ids of true objects that are not evaluated."""

    ignore_dust: NonNegativeInt = 0
    """True objects of fewer voxels than this, as far as they are evaluated, are left out. 0: none is."""

    boundary_tolerance: Length = 0.0
    """True voxels with a voxel of another object, or of none, within this distance are not evaluated: a
    number in the units of the ground truth's volume, or text such as "0.1 um". 0: all are."""

    method: Name | None = None
    """Name of the network that predicted the affinities, noted in the table of scores."""

    @model_validator(mode="after")
    def _check_mask(self) -> Self:
        check_both_or_none(self, "mask_file", "mask_dataset")
        return self

    @property
    def gt_path(self) -> str:
        """Path of the ground truth."""
        return array_path(self.gt_file, self.gt_dataset)


class SegmentInput(Channels):
    """What is segmented: affinities, or raw data with a trained network."""

    heading = "Input"

    affs_file: File | None = Field(None, examples=["volume.zarr"])
    """Container (zarr or HDF5) with affinities. Or else raw_file and checkpoint say what they are predicted
    from."""

    affs_dataset: Dataset = "volumes/affs"
    """Array of affinities, (channel, z, y, x), uint8 or float from 0 to 1: in affs_file, or in out_file where
    they are predicted."""

    raw_file: File | None = None
    """Container of raw data to predict affinities from. Goes with checkpoint."""

    raw_dataset: Dataset = "volumes/raw"
    """Array of raw data in it, ([channel,] z, y, x), uint8, uint16 or float from 0 to 1."""

    checkpoint: File | None = None
    """The trained network: a checkpoint that was written by training."""

    @model_validator(mode="after")
    def _check_input(self) -> Self:
        check_both_or_none(self, "raw_file", "checkpoint")
        if (self.affs_file is None) == (self.checkpoint is None):
            found = "none" if self.affs_file is None else "both"
            raise ValueError(
                f"missing key 'affs_file': expected affs_file, or raw_file and checkpoint; found {found}"
            )
        return self


class SegmentConfig(
    SegmentInput,
    PredictionOptions,
    FragmentOptions,
    AgglomerationOptions,
    EditsInput,
    Thresholds,
    Blocks,
    Region,
    RunOptions,
):
    """Options of `segment`."""

    step = "segment"
    summary = "Make a segmentation of affinities, or of raw data with a trained network: all in one command."
    heading = "Output"

    out_file: File = Field(examples=["volume.zarr"])
    """Container that everything is written to; may be that of the affinities or of the raw data."""

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
    """Lower corner of the region, one length an axis (z, y, x): a number in world units, or text that says
    its unit, e.g. "1.2 um"."""

    size: Size = Field(examples=[(1000, 1000, 1000)])
    """Size of the region, one length an axis, as offset."""

    @model_validator(mode="after")
    def _check_axes(self) -> Self:
        check_same_axes(self, "offset", "size")
        return self


class PredictConfig(PredictionOptions, Blocks, Region, RunOptions):
    """Options of `predict`."""

    step = "predict"
    summary = "Predict affinities and descriptors from raw data with a trained network."
    heading = "Network and data"

    raw_file: RegionConfig | File = Field(examples=["volume.zarr"])
    """Container of the raw data; or a region of one: container, offset and size, or the path of a JSON file
    with these."""

    raw_dataset: Dataset = "volumes/raw"
    """Array of raw data in it, ([channel,] z, y, x), uint8, uint16 or float from 0 to 1."""

    checkpoint: File | None = Field(None, examples=["trained.pt"])
    """The trained network: a checkpoint that was written by training. Or else base_dir, experiment, setup and
    iteration say where it is."""

    auto_file: File | None = None
    """Container of the descriptors that a first network predicted, for networks of kind aclsd and acrlsd. By
    default that network is run on the fly. Goes with auto_dataset."""

    auto_dataset: Dataset | None = None
    """Array of these descriptors in it."""

    out_file: File | None = Field(None, examples=["volume.zarr"])
    """Container the predictions are written to. Or else out_base and file_name say where it is."""

    affs_dataset: Dataset = "volumes/affs"
    """Array of affinities in it, uint8, if the network predicts them."""

    lsds_dataset: Dataset = "volumes/lsds"
    """Array of descriptors in it, uint8, if the network predicts them."""

    outputs: Literal["all", "affinities", "lsds"] = "all"
    """What to predict: all that the network was trained for, or only "affinities" or "lsds"."""

    base_dir: File | None = None
    """Directory of all experiments: the network is
    <base_dir>/<experiment>/02_train/<setup>/model_checkpoint_<iteration>."""

    experiment: Name | None = None
    """Directory of the experiment in base_dir."""

    setup: Name | None = None
    """Directory of the network in the experiment."""

    iteration: NonNegativeInt | None = None
    """Training iteration whose checkpoint is used."""

    out_base: File | None = None
    """Directory of all output: the container is <out_base>/<setup>/<iteration>/<file_name>."""

    file_name: Name | None = None
    """Name of the output container in out_base."""

    @model_validator(mode="after")
    def _check_paths(self) -> Self:
        check_both_or_none(self, "auto_file", "auto_dataset")
        self._check_one_of("checkpoint", "base_dir", "experiment", "setup", "iteration")
        self._check_one_of("out_file", "out_base", "file_name", "setup", "iteration")
        if isinstance(self.raw_file, RegionConfig) and self.roi_offset is not None:
            raise ValueError("raw_file names a region, and so do roi_offset and roi_shape: expected one")
        return self

    def _check_one_of(self, key: str, *others: str) -> None:
        """What a path of its own says, or all of the other keys."""
        lacking = [other for other in others if getattr(self, other) is None]
        if getattr(self, key) is None and lacking:
            raise ValueError(f"missing key '{key}': or else {', '.join(others)}; found no {lacking[0]}")

    @property
    def checkpoint_path(self) -> str:
        """Path of the checkpoint."""
        if self.checkpoint is not None:
            return self.checkpoint
        return f"{self.base_dir}/{self.experiment}/02_train/{self.setup}/model_checkpoint_{self.iteration}"

    @property
    def out_container(self) -> str:
        """Path of the container that is written to."""
        if self.out_file is not None:
            return self.out_file
        return f"{self.out_base}/{self.setup}/{self.iteration}/{self.file_name}"

    @property
    def auto_path(self) -> str | None:
        """Path of the descriptors of a first network, if they are stored."""
        return array_path(self.auto_file, self.auto_dataset) if self.auto_file and self.auto_dataset else None


class EvaluateAnnotationsConfig(Fragments, EdgesInput, Thresholds, Region, RunOptions):
    """Options of `evaluate_annotations`."""

    step = "evaluate_annotations"
    summary = "Score the segmentations of a range of thresholds against skeletons."
    heading = "Annotations"

    annotations_file: File | None = Field(None, examples=["skeletons"])
    """File or folder of the skeletons, in any format that lsd_dask.evaluation.read_skeletons reads; or, with
    the names of collections, the folder that these lie in, by default the current one."""

    annotations_skeletons_collection_name: Name | None = None
    """Name of the skeletons in this folder: that of a file or folder, or of two tables <name>.nodes and
    <name>.edges (.parquet, .csv or .json)."""

    annotations_synapses_collection_name: Name | None = None
    """Name of a table of the nodes at synapses (id), or of the edges between them (source, target). If given,
    these are scored by themselves, too, and the min-cut metric looks at them alone."""

    node_components: Name | None = None
    """Name of a table that gives each node (id) its skeleton (component_id); with a run_type, of that name
    and the run_type, if there is one. By default as the nodes say, or by connected component."""

    node_mask: Name | None = None
    """Name of a table that says which nodes (id) are evaluated (masked); with a run_type as above."""

    annotations_scale: PositiveFloat = 1.0
    """Factor that the positions of the skeletons are multiplied by."""

    annotations_units: Unit | None = None
    """Unit that they are then in, e.g. "um". By default what the file says, or else that of the volume."""

    stray_nodes: NonNegativeInt = 0
    """A skeleton with at most this many nodes in a segment does not count as merged with the others there."""

    compute_mincut_metric: bool = False
    """Also count the splits and merges that would correct the segmentation. Slow for large regions."""

    method: Name | None = None
    """Name of the network that predicted the affinities, noted in the table of scores."""

    @model_validator(mode="after")
    def _check_annotations(self) -> Self:
        if self.annotations_file is None and self.annotations_skeletons_collection_name is None:
            raise ValueError(
                "no skeletons are named: expected annotations_file or annotations_skeletons_collection_name, "
                "or both"
            )
        return self

    def annotations_path(self, collection: str | None) -> str:
        """Path of a collection of annotations; for None, of what annotations_file names."""
        folder = self.annotations_file or "."
        return folder if collection is None else f"{folder.rstrip('/')}/{collection}"


class CompareConfig(ReportOptions):
    """Options of `compare`."""

    step = "compare"
    summary = "Put the scores of several runs into one table and one plot."
    heading = "Runs"

    runs: tuple[File, ...] = Field(min_length=1, examples=[("a.parquet", "b.parquet")])
    """Tables of scores, as evaluate_volumes and evaluate_annotations write them."""

    validation: tuple[File, ...] | None = None
    """Tables of scores of the same methods on another volume, one for each of the runs, in their order. The
    threshold of each is chosen there, and the run's scores are reported at it."""

    names: tuple[str, ...] | None = None
    """Names of the runs, in their order. By default their methods where these differ, else their paths."""

    metric: Name = "voi_sum"
    """Score that the best threshold is chosen by."""

    out_file: File = "comparison.parquet"
    """Table that is written: the scores of all runs, one below the other. The plot is written beside it."""

    @model_validator(mode="after")
    def _check_runs(self) -> Self:
        for key in ("validation", "names"):
            given = getattr(self, key)
            if given is not None and len(given) != len(self.runs):
                raise ValueError(
                    f"{key} should have as many entries as runs, found {len(given)} for {len(self.runs)}"
                )
        if self.names is not None and len(set(self.names)) < len(self.names):
            raise ValueError(f"names should differ, found {', '.join(self.names)}")
        return self


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

    sigma: PositiveLength | Size = Field(examples=[120])
    """Extent of the neighbourhood, for all axes or one for each: the standard deviation of a Gaussian, or the
    radius of a ball. Numbers are in the units of the labels; text says its unit, e.g. "80 nm"."""

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
    EvaluateAnnotationsConfig,
    CompareConfig,
    LsdsConfig,
    BuildPyramidConfig,
    PredictConfig,
    TrainConfig,
)
