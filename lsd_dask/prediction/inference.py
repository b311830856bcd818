"""A trained network at work on one tile; loaded once in each process."""

import hashlib
import threading
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from distributed import get_worker

from ..networks.checkpoints import Checkpoint, load_checkpoint
from ..networks.geometry import Geometry
from ..networks.models import AUTOCONTEXT, LSD_CHANNELS, Model, ModelConfig
from ..networks.normalisation import normalise
from ..networks.pytorch import torch
from ..networks.weights import no_checkpoint
from ..storage import files
from .symmetries import (
    Augmentation,
    Source,
    Symmetry,
    affinity_sources,
    contributions,
    descriptor_sources,
    halo,
    shifted,
    symmetries,
)

type Precision = Literal["float32", "bfloat16", "float16"]

_lock = threading.Lock()


def digest(path: str) -> str:
    """Digest of what is in a checkpoint: another one when anything in it is different."""
    if not files.is_file(path):
        raise no_checkpoint(path)
    return hashlib.sha256(files.read_bytes(path)).hexdigest()[:16]


@dataclass(frozen=True)
class StoredNetwork:
    """A checkpoint, to be loaded where it is needed.

    Attributes
    ----------
    path
        Of the checkpoint.
    digest
        Of what is expected in it.
    """

    path: str
    digest: str

    def load(self) -> Checkpoint:
        """The checkpoint; read once in a process. ValueError if it is no longer what it was."""
        with _lock:
            return _loaded(self.path, self.digest)


@lru_cache(maxsize=4)
def _loaded(path: str, expected: str) -> Checkpoint:
    if digest(path) != expected:
        raise ValueError(f"{path}: the checkpoint was replaced since the run began; begin it anew")
    return load_checkpoint(path)


@dataclass(frozen=True)
class LoadedNetwork:
    """A checkpoint in memory, which goes along with every task."""

    checkpoint: Checkpoint

    def load(self) -> Checkpoint:
        """The checkpoint."""
        return self.checkpoint


@dataclass(frozen=True)
class Predictor:
    """Predicts the tiles of a volume.

    Attributes
    ----------
    network
        Where the network comes from.
    outputs
        Names of what is predicted: "affinities", "lsds".
    augmentation, precision, device
        As for `lsd_dask.prediction.tiles.predict`.
    stored_lsds
        Whether the descriptors of an autocontext are given, in place of its first network.
    """

    network: StoredNetwork | LoadedNetwork
    outputs: tuple[str, ...]
    augmentation: Augmentation = "none"
    precision: Precision = "float32"
    device: str | None = None
    stored_lsds: bool = False
    config: ModelConfig = field(init=False)

    def __post_init__(self) -> None:
        config = self.network.load().config
        object.__setattr__(self, "config", config)
        unknown = [name for name in self.outputs if name not in config.predictions]
        if unknown or not self.outputs:
            raise ValueError(
                f"outputs: found {list(self.outputs)}, but a network of kind {config.kind!r} predicts "
                f"{' and '.join(config.predictions)}"
            )
        if self.stored_lsds and config.kind not in AUTOCONTEXT:
            raise ValueError(f"lsds: a network of kind {config.kind!r} does not take descriptors")
        if self.stored_lsds and self.augmentation != "none":
            raise ValueError("augmentation: descriptors from a volume cannot be mirrored; leave lsds out")
        axes = self.geometry.axes
        if self.augmentation == "all" and axes[-1] != axes[-2]:
            raise ValueError("augmentation: found 'all' for a network that treats y and x differently")

    @property
    def geometry(self) -> Geometry:
        """Sizes of input and output."""
        return self.config.second_geometry() if self.stored_lsds else self.config.geometry()

    @property
    def own_config(self) -> ModelConfig:
        """Configuration of what is run: without the first network where its descriptors are given."""
        return self.config.without_first() if self.stored_lsds else self.config

    @property
    def halo(self) -> tuple[int, ...]:
        """Voxels beyond those wanted that have to be predicted as well, on each side."""
        if "affinities" not in self.outputs:
            return (0,) * self.config.dims
        assert self.config.neighborhood is not None
        return halo(self.config.neighborhood, self.augmentation)

    @property
    def channels(self) -> int:
        """Number of channels of all outputs."""
        return sum(self.config.channels[name] for name in self.outputs)

    def __call__(self, raw: np.ndarray, lsds: np.ndarray | None = None) -> np.ndarray:
        """Predict a tile.

        Parameters
        ----------
        raw : (channel, [z,] y, x) ndarray
            As it is stored; of a valid shape.
        lsds : (channel, [z,] y, x) ndarray of uint8, optional
            Descriptors at the same place, for `stored_lsds`.

        Returns
        -------
        (channel, [z,] y, x) ndarray of uint8
            All outputs, 255 times the values, rounded.
        """
        checkpoint = self.network.load()
        device = torch.device(self.device or default_device())
        scaled = torch.from_numpy(normalise(raw, checkpoint.raw_range))[None].to(device)
        reduced = self.precision != "float32"
        with torch.inference_mode(), torch.autocast(device.type, _dtype(self.precision), enabled=reduced):
            model = _placed(checkpoint.model, device, reduced)
            if lsds is None:
                values = self._average(model, scaled)
            else:
                values = self._joined(model.heads(_second_input(model, scaled, lsds)))
            return (values * 255).round().to(torch.uint8).cpu().numpy()

    def _average(self, model: Model, raw: torch.Tensor) -> torch.Tensor:
        turns = symmetries(self.config.dims, self.augmentation)
        found = [self._sources(turn) for turn in turns]
        total: torch.Tensor | None = None
        for turn, sources in zip(turns, found, strict=True):
            values = self._joined({k: turn.undo(v) for k, v in model(turn.apply(raw)).items()})
            total = values.clone().zero_() if total is None else total
            for channel, source in enumerate(sources):
                if source is not None:
                    total[channel] += shifted(values[source.channel], source.step)
        assert total is not None
        counts = torch.tensor(list(contributions(found)), device=raw.device)
        return total / counts.reshape(-1, *(1,) * self.config.dims)

    def _joined(self, predictions: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.cat([predictions[name][0].float() for name in self.outputs])

    def _sources(self, turn: Symmetry) -> list[Source | None]:
        """Where the channels of all outputs are found."""
        assert self.config.neighborhood is not None
        every: list[Source | None] = []
        for name in self.outputs:
            if name == "affinities":
                sources = affinity_sources(self.config.neighborhood, turn)
            else:
                sources = descriptor_sources(self.config.dims, turn)
            every += [s and Source(len(every) + s.channel, s.step) for s in sources]
        return every


def default_device() -> str:
    """A GPU where there is one, of several that of this worker's number; else the CPU."""
    if not torch.cuda.is_available():
        return "cpu"
    try:
        name: Any = get_worker().name
    except ValueError:
        name = 0
    number = int(name) if str(name).isdecimal() else 0
    return f"cuda:{number % torch.cuda.device_count()}"


def check_lsds(shape: tuple[int, ...], dtype: np.dtype, config: ModelConfig) -> None:
    """Raise TypeError or ValueError unless an array has the descriptors that an autocontext takes."""
    if dtype != np.uint8:
        raise TypeError(f"lsds: found dtype {dtype}, expected uint8, in which 255 stands for 1")
    if len(shape) != config.dims + 1 or shape[0] != LSD_CHANNELS[config.dims]:
        raise ValueError(
            f"lsds: found shape {shape}, expected {LSD_CHANNELS[config.dims]} channels and {config.dims} axes"
        )


def _second_input(model: Model, raw: torch.Tensor, lsds: np.ndarray) -> torch.Tensor:
    given = torch.from_numpy(lsds)[None].to(raw.device).float() / 255
    return given if model.config.kind == "aclsd" else torch.cat([raw, given], dim=1)


def _placed(model: Model, device: torch.device, reduced: bool) -> Model:
    """The network where it computes. CPUs reduce precision faster with channels last."""
    model.to(device)
    if reduced and model.config.dims == 3:
        model.to(memory_format=torch.channels_last_3d)
    return model


def _dtype(precision: Precision) -> torch.dtype:
    dtype: torch.dtype = getattr(torch, precision)
    # Autocast is disabled with float32, but insists on a type it knows.
    return torch.bfloat16 if precision == "float32" else dtype
