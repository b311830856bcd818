"""Small volumes to train on, and networks that learn from them in seconds."""

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from scipy import ndimage

from lsd_dask import save_volume
from lsd_dask.networks.models import ModelConfig
from lsd_dask.space.grids import Grid, spatial_dims
from lsd_dask.training.augmentation import AugmentationConfig
from lsd_dask.training.labelled_volumes import TrainingVolume, prepare_volumes
from lsd_dask.training.samples import SampleSpec
from lsd_dask.volumes.dask_arrays import label

MIRRORED = AugmentationConfig(mirror=(0, 1), transpose=(0, 1), intensity_scale=(0.9, 1.1), grow_boundary=1)

#: A network and a training of seconds.
SMALL = {
    "preset": "tiny-2d",
    "num_fmaps": 4,
    "output_shape": [20, 20],
    "lsd_sigma": 12,
    "iterations": 6,
    "batch_size": 2,
    "validate_every": 3,
    "snapshot_every": 3,
    "num_threads": 1,
}


def cells(shape: tuple[int, ...], *, number: int = 12, seed: int = 0) -> np.ndarray:
    """Voronoi cells with ids from 1."""
    rng = np.random.default_rng(seed)
    centres = rng.uniform(0, shape, (number, len(shape)))
    places = np.indices(shape).reshape(len(shape), -1).T
    nearest = ((places[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1)
    return (nearest + 1).reshape(shape).astype(np.uint64)


def image_of(labels: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Raw data: dark where labels meet, and noise."""
    edge = ndimage.grey_dilation(labels.astype(np.int64), size=3) != ndimage.grey_erosion(
        labels.astype(np.int64), size=3
    )
    noise = np.random.default_rng(seed).normal(0, 0.05, labels.shape)
    return np.round(255 * np.clip(np.where(edge, 0.25, 0.75) + noise, 0, 1)).astype(np.uint8)


def placed(array: np.ndarray, offset: float = 0.0, voxel_size: float = 4.0) -> xr.DataArray:
    """An array as a volume."""
    dims = spatial_dims(array.ndim)
    return label(array, Grid(dims, array.shape, (voxel_size,) * array.ndim, (offset,) * array.ndim))


def volume(shape: tuple[int, ...] = (64, 64), *, seed: int = 0, number: int = 12) -> TrainingVolume:
    """Cells with their image."""
    labels = cells(shape, seed=seed, number=number)
    return TrainingVolume(placed(image_of(labels, seed=seed)), placed(labels))


def spec(
    kind: str = "mtlsd", dims: int = 2, augmentation: AugmentationConfig = MIRRORED, **options
) -> SampleSpec:
    """Samples for a very small network."""
    model = ModelConfig(
        kind=kind,
        dims=dims,
        num_fmaps=8 if dims == 2 else 4,
        fmap_inc_factor=2,
        downsample_factors=((2,) * dims,),
        constant_upsample=True,
    )
    chosen = {"output_shape": (24,) * dims if dims == 2 else (8,) * dims, "lsd_sigma": (3.0,) * dims}
    return SampleSpec(model, augmentation=augmentation, **{**chosen, **options})


def prepared(*volumes: TrainingVolume, of: SampleSpec) -> list[TrainingVolume]:
    """Volumes that fit a spec."""
    return prepare_volumes(
        volumes, dims=of.model.dims, channels=1, voxel_size=(4.0,) * of.model.dims, shape=of.output_shape
    )


def store_cells(path: Path) -> Path:
    """Write two volumes of cells with their images, "train" and "held_out", into a container."""
    for name, seed in (("train", 0), ("held_out", 1)):
        labels = cells((3, 60, 60), number=30, seed=seed)
        save_volume(labels, path / name / "labels", voxel_size=(40, 4, 4))
        save_volume(image_of(labels, seed=seed), path / name / "raw", voxel_size=(40, 4, 4))
    return path


def named_volume(container: Path, name: str = "train", **options: Any) -> dict[str, Any]:
    """One of them, as `train` is told of it."""
    return {
        "raw_file": str(container),
        "raw_dataset": f"{name}/raw",
        "labels_dataset": f"{name}/labels",
        **options,
    }


def training_options(container: Path, **changes: Any) -> dict[str, Any]:
    """Options of a training of seconds, in a folder beside the container."""
    made = {**SMALL, "volumes": [named_volume(container)], "out_dir": str(container.parent / "network")}
    return {**made, **changes}
