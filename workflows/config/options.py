"""The options that several workflow steps share.

Each class is one section of the steps' keywords, of the command line's help and of the documentation; the
text under an option is its description in all of them.
"""

import inspect
import math
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    model_validator,
)

from .fields import (
    Dataset,
    Directive,
    EdgesCollection,
    File,
    Fraction,
    Margin,
    MergeFunction,
    Name,
    Neighborhood,
    Position,
    Size,
    Walltime,
    array_path,
)

_NO_DATABASE = "no database is needed: graphs and scores are tables beside the arrays"
_NO_CONTAINER = "no container image is needed: workers run in the Python environment of the caller"
_NO_DIRECTORIES = "not needed: every input and output is named by a key of its own"

#: Keys of the funkelab scripts that name what no longer exists, and what takes their place.
OBSOLETE_KEYS = {
    "db_host": _NO_DATABASE,
    "db_name": _NO_DATABASE,
    "rag_db_name": _NO_DATABASE,
    "edges_db_host": _NO_DATABASE,
    "edges_db_name": _NO_DATABASE,
    "scores_db_host": _NO_DATABASE,
    "scores_db_name": _NO_DATABASE,
    "annotations_db_host": _NO_DATABASE,
    "annotations_db_name": _NO_DATABASE,
    "singularity_image": _NO_CONTAINER,
    "base_dir": _NO_DIRECTORIES,
    "experiment": _NO_DIRECTORIES,
    "setup": _NO_DIRECTORIES,
    "iteration": _NO_DIRECTORIES,
    "config_slab": _NO_DIRECTORIES,
}


class Config(BaseModel):
    """A frozen set of options; unknown keys are errors."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        # Workers import the models with the steps, and validate nothing.
        defer_build=True,
    )

    #: Name of the step as a Python function.
    step: ClassVar[str] = ""
    #: What the step does, in a sentence.
    summary: ClassVar[str] = ""
    #: What the options a class adds are about: the title of their section in every documentation.
    heading: ClassVar[str] = "Options"
    #: Keys that are accepted and answered with a line saying what takes their place.
    obsolete: ClassVar[Mapping[str, str]] = OBSOLETE_KEYS

    @classmethod
    def sections(cls) -> Iterator[tuple[str, list[str]]]:
        """Yield title and keys of every section of options, the step's own first."""
        for owner in cls.__mro__:
            if issubclass(owner, Config) and (keys := owner.own_keys()):
                yield owner.heading, keys

    @classmethod
    def own_keys(cls) -> list[str]:
        """Return the keys this class adds."""
        return [key for key in inspect.get_annotations(cls) if key in cls.model_fields]

    @classmethod
    def describe(cls, key: str) -> str:
        """Return the description of an option, in one line."""
        return " ".join((cls.model_fields[key].description or "").split())

    def part[C: Config](self, model: type[C], **options: Any) -> C:
        """Return the options of another step: those of the sections both have, and `options`."""
        sections = [owner for owner in type(self).__mro__ if issubclass(owner, Config)]
        keys = [key for owner in sections if issubclass(model, owner) for key in owner.own_keys()]
        return model(**{**{key: getattr(self, key) for key in keys}, **options})


class ReportOptions(Config):
    """What a step leaves to be read."""

    heading = "Report"

    report: File | None = None
    """HTML file for a page about the run: what it was told, how long it took, scores, sections of volumes.
    Needs the extra view."""


class RunOptions(ReportOptions):
    """How a step is run; nothing here changes its result."""

    heading = "Workers"

    num_workers: PositiveInt | None = None
    """Number of worker processes. By default one a processor of this machine, or one job on a batch
    system."""

    queue: str = Field("local", min_length=1)
    """Where the workers run: "local" (this machine); a batch system, "slurm", "lsf", ..., or one of its
    queues, "slurm:gpu"; the address of a running dask scheduler, "tcp://host:8786", or the path of its file
    (.json)."""

    memory: str | None = Field(None, min_length=1)
    """Memory of each worker, e.g. "8 GB". By default an equal share of this machine's, or 8 GB on a batch
    system."""

    walltime: Walltime | None = None
    """How long a job of a batch system may run, e.g. "12:00" (hours:minutes) or "12 h". By default 24 hours.
    Jobs that end are submitted again while there is work."""

    job_extra_directives: tuple[Directive, ...] | None = None
    """What else a job asks for, in the batch system's own words, e.g. ["-A lab", "-C a100"]."""

    security: File | None = None
    """Encrypt what workers are told and what they answer, and let only those join who have the certificates:
    "temporary" makes some for this run; or a dask configuration (YAML) with the section distributed.comm.tls
    names them. By default as dask's own configuration says."""

    performance_report: File | None = None
    """HTML file for dask's report of the run: when each worker did what, and how much it moved and held."""

    resume: bool = True
    """Skip the blocks that an earlier run with the same parameters finished, if the files that it wrote are
    there and as long as they were. If false, compute all blocks again."""

    verify: bool = False
    """Before blocks are skipped, read all that was written of them, and compare it with the checksums that
    were noted; what differs is made anew."""

    overwrite: bool = False
    """Replace an array or a table that lies at the place of an output and was not written by this step."""


class Region(Config):
    """A part of the volume."""

    heading = "Region"

    roi_offset: Position | None = None
    """Lower corner of the region to process, one length an axis (z, y, x): a number in world units, or text
    that says its unit, e.g. "1.2 um". By default the whole volume is processed."""

    roi_shape: Size | None = None
    """Size of the region to process, one length an axis, as roi_offset, which it goes with."""

    @model_validator(mode="after")
    def _check_region(self) -> Self:
        check_both_or_none(self, "roi_offset", "roi_shape")
        check_same_axes(self, "roi_offset", "roi_shape", "block_size", "context")
        return self


class Blocks(Config):
    """How the volume is cut into pieces that are processed one by one."""

    heading = "Blocks"

    block_size: Size | None = None
    """Size of a block, one length an axis (z, y, x): a number in world units, or text that says its unit,
    e.g. "1.2 um"; a multiple of the voxel size. By default chosen from the volume. A matter of speed and
    memory."""


class Channels(Config):
    """Which two voxels each channel of affinities joins."""

    heading = "Channels"

    neighborhood: Neighborhood | None = None
    """Offsets of the affinity channels in voxels, e.g. [[-1,0,0],[0,-1,0],[0,0,-1]]: channel d joins voxels p
    and p + neighborhood[d]. By default what the attributes of the array say, as those of predictions do, or
    else the direct neighbours before each voxel, one channel an axis. Fragments are made of the direct
    neighbours, before or after; affinities of longer range add to the edges of fragments that touch."""


class AffinitiesInput(Channels):
    """Affinities that are read."""

    heading = "Affinities"

    affs_file: File = Field(examples=["volume.zarr"])
    """Container (zarr or HDF5) with the predicted affinities."""

    affs_dataset: Dataset = "volumes/affs"
    """Array of affinities in it, (channel, z, y, x), uint8 or float from 0 to 1."""

    @property
    def affs_path(self) -> str:
        """Path of the affinities."""
        return array_path(self.affs_file, self.affs_dataset)


class Fragments(Config):
    """Fragments that are written by one step and read by the others."""

    heading = "Fragments"

    fragments_file: File = Field(examples=["volume.zarr"])
    """Container of the fragments (supervoxels); their region graph is kept in it as well."""

    fragments_dataset: Dataset = "volumes/fragments"
    """Array of fragments in it, uint64, 0 = background."""

    @property
    def fragments_path(self) -> str:
        """Path of the fragments."""
        return array_path(self.fragments_file, self.fragments_dataset)


class FragmentOptions(Config):
    """How fragments are made of affinities."""

    heading = "Watershed"

    method: Literal["steepest_ascent", "seeded"] = "steepest_ascent"
    """Kind of watershed: "steepest_ascent" gives the same fragments whatever the blocks; "seeded" is that of
    the funkelab scripts (extra `seeded`), whose fragments depend on blocks and context."""

    height: Literal["distance", "affinity", "both"] = "both"
    """What steepest ascent climbs: the "distance" to the nearest boundary, the mean "affinity", or "both"
    added."""

    smoothing: NonNegativeFloat = 0.85
    """Standard deviation of the Gaussian that smooths this height, in voxels. 0: no smoothing."""

    anisotropic: bool = False
    """Measure boundary distances in world units instead of voxels, for voxels that are not cubes."""

    min_seed_distance: PositiveInt = 10
    """Least distance between two seeds of method "seeded", in voxels."""

    context: Margin | None = None
    """Margin that method "seeded" reads around each block, one length an axis (z, y, x): a number in world
    units, or text that says its unit. Steepest ascent knows what it needs."""

    fragments_in_xy: bool = False
    """Make the fragments of each z section by itself, from the y and x affinities: for thick sections."""

    epsilon_agglomerate: Fraction = 0.0
    """Merge fragments with a score below this right away, by the 25 % quantile. 0: merge nothing."""

    filter_fragments: Fraction = 0.0
    """Drop fragments whose mean affinity is below this, from 0 to 1. 0: keep all."""

    remove_debris: NonNegativeInt = 0
    """Drop fragments of fewer voxels than this. 0: keep all."""

    replace_sections: tuple[NonNegativeInt, ...] | None = None
    """Indices of z sections, in voxels, whose fragments are set to 0: for sections with large artifacts."""

    mask_file: File | None = None
    """Container of a mask; outside it, affinities and fragments are 0. Goes with mask_dataset."""

    mask_dataset: Dataset | None = None
    """Array of the mask in it, (z, y, x), 0 = outside. Its voxels may be coarser than those of the
    affinities."""

    @model_validator(mode="after")
    def _check_mask(self) -> Self:
        check_both_or_none(self, "mask_file", "mask_dataset")
        return self


class PredictionOptions(Config):
    """How a trained network is used."""

    heading = "Prediction"

    borders: Literal["reflect", "valid"] = "reflect"
    """What is beyond the faces of the raw data: "reflect" mirrors it there and predicts all of it; "valid"
    predicts what the network can without, and writes a smaller volume."""

    augmentation: Literal["none", "mirrors", "all"] = "none"
    """Average the predictions of mirrored raw data: 8 times the work in 3-D; "all": also transposed in y and
    x, 16 times."""

    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Of the network's convolutions. Reduced precision is faster and changes values by some grey values;
    float16 is for GPUs."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the network runs: on a GPU where a worker sees one, else on the CPU. "cuda" starts one worker for
    each GPU; workers of your own are to be started with the resource GPU=1."""


class AgglomerationOptions(Config):
    """How fragments are merged."""

    heading = "Agglomeration"

    merge_function: MergeFunction = "hist_quant_75"
    """Score of two touching fragments; lower scores are merged first. hist_quant_Q, with Q one of 10, 25, 50,
    75, 90: 1 - the Q % quantile of the affinities between them. hist_quant_Q_initmax: the same, but each
    initial pair counts once, with its highest affinity. mean: 1 - the mean affinity."""

    octree: bool | None = None
    """Add up and agglomerate the region graph in the cells of an octree over the blocks, so that no process
    holds all of it; with the same result. By default where neither a worker nor the client could."""


class Thresholds(Config):
    """The thresholds a merge tree is cut at."""

    heading = "Thresholds"

    thresholds_minmax: tuple[Fraction, Fraction] = (0.0, 1.0)
    """Range of thresholds, from 0 (nothing merged) to 1; the upper end is left out."""

    thresholds_step: float = Field(0.02, gt=0, le=1)
    """Step between two thresholds."""

    @model_validator(mode="after")
    def _check_thresholds(self) -> Self:
        low, high = self.thresholds_minmax
        if low > high:
            raise ValueError(f"thresholds_minmax should be [lowest, highest], found [{low:g}, {high:g}]")
        return self

    @property
    def thresholds(self) -> tuple[float, ...]:
        """All thresholds; at least the lower end of the range.

        Examples
        --------
        >>> Thresholds(thresholds_minmax=(0, 0.06)).thresholds
        (0.0, 0.02, 0.04)
        """
        low, high = self.thresholds_minmax
        steps = (high - low) / self.thresholds_step
        # A hair fewer, so that rounding does not let the upper end in.
        return tuple(round(low + i * self.thresholds_step, 9) for i in range(max(1, math.ceil(steps - 1e-6))))


class EdgesInput(Config):
    """Scored edges of the region graph that are read."""

    heading = "Region graph"

    edges_collection: EdgesCollection = "edges_hist_quant_75"
    """Edges of the region graph: "edges_" and the merge function they were agglomerated with."""

    run_type: Name | None = None
    """Name of a variant, e.g. testing or validation: its lookup tables and scores lie in a folder of that
    name."""

    @property
    def merge_function(self) -> str:
        """The merge function that gave the edges their scores."""
        return self.edges_collection.removeprefix("edges_")


class EditsInput(Config):
    """Corrections by people that are read."""

    heading = "Proofreading"

    edits: File | None = None
    """Table of edits (Parquet or CSV): which fragments must, and which cannot, be of one segment. By default
    edits.parquet beside the region graph, if there is one; "none" for no edits."""


def check_both_or_none(config: Config, first: str, second: str) -> None:
    """Raise ValueError if one of two options is given without the other."""
    given = [key for key in (first, second) if getattr(config, key) is not None]
    if len(given) == 1:
        lacking = second if given[0] == first else first
        raise ValueError(f"{first} and {second} go together, found {given[0]} without {lacking}")


def check_same_axes(config: Config, *keys: str) -> None:
    """Raise ValueError if options with one number an axis have different numbers of axes."""
    lengths = {key: len(value) for key in keys if (value := getattr(config, key, None)) is not None}
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{length} in {key}" for key, length in lengths.items())
        raise ValueError(f"the number of axes should be the same everywhere, found {found}")
