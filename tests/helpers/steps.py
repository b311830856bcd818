"""What tests of single steps share: tissue on disk, short ways to run them and to look at their output."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import lsd_dask as ld
from lsd_dask import workflows
from lsd_dask.workflows.config.options import Config
from lsd_dask.workflows.step import Step, workflow

from .tissue import SHAPE, VOXEL_SIZE, tissue

OFFSET = (320.0, 0.0, 1600.0)
REFINEMENT = {"filter_fragments": 0.5, "epsilon_agglomerate": 0.15, "remove_debris": 60}


def world(*voxels: int) -> tuple[float, ...]:
    return tuple(n * v for n, v in zip(voxels, VOXEL_SIZE, strict=True))


def save_tissue_with_mask(container: Path) -> None:
    """Affinities, labels and a coarse mask, away from the origin of the world."""
    place = {"voxel_size": VOXEL_SIZE, "offset": OFFSET}
    ld.save_volume(tissue().affinities.values, container / "volumes/affs", **place)
    ld.save_volume(tissue().labels.values, container / "volumes/labels", **place)
    mask = np.zeros([n // 8 for n in SHAPE], np.uint8)
    mask[1:7, 2:, :9] = 1
    coarse = {"voxel_size": tuple(8 * v for v in VOXEL_SIZE), "offset": OFFSET}
    ld.save_volume(mask, container / "volumes/mask", **coarse)


def extract(affs: Path, out: Path, **options: Any) -> Any:
    return workflows.extract_fragments(affs_file=affs, fragments_file=out, **options)


def values(path: str | Path) -> np.ndarray:
    array: np.ndarray = ld.open_volume(path).values
    return array


def in_memory(**options: Any) -> np.ndarray:
    fragments: np.ndarray = ld.extract_fragments(tissue().affinities.values, **options)
    return fragments


def snapshot(folder: Path) -> dict[str, int]:
    """When each file was last written."""
    return {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


def workflow_that(does: Callable[[Any], Any], model: type[Config]) -> Any:
    """The function of a step with these options that does something else."""

    class Other(Step):
        container = "out_file"

        def run(self, options: Any) -> Any:
            return does(options)

    Other.model = model
    return workflow(Other())
