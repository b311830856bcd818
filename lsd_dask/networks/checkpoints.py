"""Checkpoints: a trained network with all that is needed to use it, or to go on with its training."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..checks.arguments import naming, real_numbers, shown
from ..space.grids import Grid, spatial_dims
from ..space.units import unit_name
from . import weights
from .models import Model, ModelConfig, build_model, config_in
from .pytorch import torch

#: Written into each checkpoint, to tell them from other files.
FORMAT = "lsd_dask checkpoint"


@dataclass(frozen=True)
class Checkpoint:
    """A trained network and how to use it.

    Attributes
    ----------
    model
        The network, on the CPU, for evaluation.
    voxel_size
        Of what it was trained on, one number an axis.
    iteration
        Number of training steps.
    raw_range
        Values of the raw data, as fractions of the largest value of its dtype, that become -1 and 1: see
        `lsd_dask.networks.normalisation`.
    training_state
        Whatever the training wants to go on from: plain values and tensors.
    path
        Where it comes from.
    units
        That the voxel size is in.
    """

    model: Model
    voxel_size: tuple[float, ...]
    iteration: int
    raw_range: tuple[float, float] = (0.0, 1.0)
    training_state: Mapping[str, Any] = field(default_factory=dict)
    path: str = ""
    units: str = "nanometer"

    @property
    def grid(self) -> Grid:
        """Of the voxels it was trained on: one of them, to compare with volumes."""
        n = len(self.voxel_size)
        return Grid(spatial_dims(n), (1,) * n, self.voxel_size, (0.0,) * n, self.units)

    @property
    def config(self) -> ModelConfig:
        """What the network is made of."""
        return self.model.config


def save_checkpoint(
    path: str,
    model: Model,
    *,
    voxel_size: tuple[float, ...],
    units: str = "nanometer",
    iteration: int,
    raw_range: tuple[float, float] = (0.0, 1.0),
    training_state: Mapping[str, Any] | None = None,
) -> None:
    """Write a checkpoint, whole or not at all.

    Parameters
    ----------
    path : str
        Of the file, or a URL.
    model : Model
        The network. That of an autocontext is written with its first network.
    voxel_size : tuple of float
        Of what it was trained on.
    units : str, optional
        That these are in; "voxel" where nothing is known.
    iteration : int
        Number of training steps.
    raw_range : tuple of float, optional
        As for `Checkpoint`.
    training_state : mapping, optional
        Plain values and tensors, to go on with the training.

    Raises
    ------
    ValueError
        If the voxel size does not fit the network.
    """
    if len(voxel_size) != model.config.dims:
        raise ValueError(f"voxel_size: found {voxel_size}, expected {model.config.dims} numbers")
    weights.write(
        path,
        {
            "format": FORMAT,
            "model_config": model.config.model_dump(),
            "model_state_dict": model.state_dict(),
            "voxel_size": real_numbers("voxel_size", voxel_size),
            "units": unit_name(units),
            "iteration": iteration,
            "raw_range": real_numbers("raw_range", raw_range),
            "training_state": dict(training_state or {}),
        },
    )


def load_checkpoint(path: str) -> Checkpoint:
    """Read what `save_checkpoint` wrote. Code in the file is not run.

    Parameters
    ----------
    path : str
        Of the file, or a URL.

    Returns
    -------
    Checkpoint

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no checkpoint, is one of another program (see `load_published`), or its parameters do not fit
        its configuration.
    """
    content = weights.read(path)
    config = config_in(content, path)
    if content.get("format") != FORMAT or config is None:
        raise ValueError(
            f"{path}: found the keys {', '.join(map(str, list(content)[:5]))}, expected a checkpoint of "
            "lsd_dask; of a network of funlib.learn.torch, make one with "
            "lsd_dask.networks.checkpoints.load_published and save_checkpoint"
        )
    with naming(path):
        voxel_size = real_numbers("voxel_size", content.get("voxel_size"))
        if len(voxel_size) != config.dims:
            raise ValueError(f"voxel_size: found {voxel_size}, expected {config.dims} numbers")
        raw_range = real_numbers("raw_range", content.get("raw_range"))
        if len(raw_range) != 2:
            raise ValueError(f"raw_range: found {raw_range}, expected two numbers")
        if not isinstance(iteration := content.get("iteration"), int) or iteration < 0:
            raise ValueError(f"iteration: found {shown(iteration)}, expected a whole number from 0 on")
        units = content.get("units", "nanometer")
        if units != str(units):
            raise ValueError(f"units: found {shown(units)}, expected the name of a unit")
    state = content.get("training_state")
    model = _loaded(config, content, path)
    return Checkpoint(
        model, voxel_size, iteration, raw_range, state if isinstance(state, Mapping) else {}, path, units
    )


def load_published(
    path: str,
    config: ModelConfig,
    *,
    voxel_size: tuple[float, ...],
    units: str = "nanometer",
    raw_range: tuple[float, float] = (0.0, 1.0),
) -> Checkpoint:
    """Read the checkpoint of a network that was built with funlib.learn.torch.

    Parameters
    ----------
    path : str
        A file of `torch.save`: the network's ``state_dict``, or a dictionary that has it under
        ``model_state_dict``, as gunpowder writes it.
    config : ModelConfig
        What the network is made of: such a file does not say.
    voxel_size : tuple of float
        Of what it was trained on.
    units : str, optional
        That these are in; "voxel" where nothing is known.
    raw_range : tuple of float, optional
        As for `Checkpoint`. Networks of the reference's 2-D notebooks see raw data from 0 to 1: (-1, 1).

    Returns
    -------
    Checkpoint

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no such file, or its parameters are not those of this network; the message says which are
        missing, unknown, or of another shape.
    """
    content = weights.read(path)
    model = _loaded(config, content, path)
    iteration = content.get("iteration", 0)
    return Checkpoint(
        model,
        real_numbers("voxel_size", voxel_size),
        iteration if isinstance(iteration, int) else 0,
        raw_range,
        path=path,
        units=unit_name(units),
    )


def _loaded(config: ModelConfig, content: dict[str, Any], path: str) -> Model:
    """The network of a configuration with the parameters of a file, for evaluation."""
    parameters = weights.parameters_in(content, path)
    try:
        # Without memory, as the configuration may tell of a network far larger than the file.
        with torch.device("meta"):
            weights.check_parameters(build_model(config), parameters, path)
    except (RuntimeError, OverflowError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path}: found a network that cannot be made ({reason}): {config}") from error
    model = build_model(config)
    weights.load_parameters(model, parameters, path)
    return model.eval()
