"""Small networks with random parameters, of every kind."""

from typing import Any

from lsd_dask.networks.checkpoints import Checkpoint
from lsd_dask.networks.models import AUTOCONTEXT, ModelConfig, build_model
from lsd_dask.networks.pytorch import torch

KINDS = ("affinities", "lsd", "mtlsd", "aclsd", "acrlsd")
VOXEL_SIZE = (40.0, 4.0, 4.0)


def config(kind: Any, dims: Any = 3, **options: Any) -> ModelConfig:
    """Of a network with one step down, unless the options say otherwise."""
    plain: dict[str, Any] = {
        "dims": dims,
        "num_fmaps": 3,
        "fmap_inc_factor": 2,
        "downsample_factors": ((1, 2, 2)[-dims:],),
        **options,
    }
    first = ModelConfig(kind="lsd", **{**plain, "neighborhood": None}) if kind in AUTOCONTEXT else None
    return ModelConfig(kind=kind, first=first, **plain)


def checkpoint(kind: Any, dims: Any = 3, **options: Any) -> Checkpoint:
    """A network whose predictions differ from voxel to voxel by many grey values."""
    torch.manual_seed(1)
    model = build_model(config(kind, dims, **options))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 3.0 if parameter.ndim > 1 else 1.0
    return Checkpoint(model.eval(), VOXEL_SIZE[-dims:], iteration=7)
