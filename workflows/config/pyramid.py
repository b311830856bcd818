"""What `build_pyramid` can be told."""

from typing import Literal, Self

from pydantic import Field, PositiveInt, model_validator

from .fields import Dataset, File, ZarrFormat, array_path
from .options import Blocks, RunOptions, check_both_or_none


class BuildPyramidConfig(Blocks, RunOptions):
    """Options of `build_pyramid`."""

    step = "build_pyramid"
    summary = "Make the coarser levels of a volume, for viewers."
    heading = "Pyramid"

    in_file: File = Field(examples=["volume.zarr"])
    """Container of the volume."""

    in_dataset: Dataset = "volumes/raw"
    """Array of the volume in it, ([channel,] z, y, x)."""

    out_file: File | None = None
    """Container that a copy with all its levels is written to. Goes with out_dataset. By default nothing is
    copied, and the coarser levels are put beside the array, as <in_dataset>_levels."""

    out_dataset: Dataset | None = None
    """Group of the copy in it: an OME-NGFF image of its own. Below a group called "labels" it is known as
    labels."""

    reduction: Literal["auto", "mean", "mode"] = "auto"
    """What becomes of up to 2 x 2 x 2 voxels: their "mean" or, for labels, the most frequent one, "mode".
    "auto": the mode for whole numbers of 32 bits or more, the mean for others."""

    levels: PositiveInt | None = None
    """How many coarser levels to make. By default until one has at most 64 voxels along each axis (512 in
    2-D)."""

    zarr_format: ZarrFormat | None = None
    """Zarr format of the copy: 2 goes with OME-NGFF 0.4, 3 with 0.5. By default that of the container, and 3
    for a new one."""

    @model_validator(mode="after")
    def _check_output(self) -> Self:
        check_both_or_none(self, "out_file", "out_dataset")
        if self.zarr_format is not None and self.out_file is None:
            raise ValueError("zarr_format is for a copy: expected out_file and out_dataset beside it")
        return self

    @property
    def in_path(self) -> str:
        """Path of the volume."""
        return array_path(self.in_file, self.in_dataset)

    @property
    def out_path(self) -> str | None:
        """Path of the group of the copy, if there is to be one."""
        return array_path(self.out_file, self.out_dataset) if self.out_file and self.out_dataset else None

    @property
    def out_container(self) -> str:
        """Path of the container that is written to."""
        return self.out_file or self.in_file
