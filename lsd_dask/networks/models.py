"""The networks of the paper: raw data in, affinities and local shape descriptors out."""

from collections.abc import Sequence
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, PositiveInt, model_validator

from ..space.neighborhoods import checked, default_neighborhood
from . import weights
from .geometry import ChainedAxis, Geometry
from .pytorch import torch
from .unet import ConvPass, Padding, UNet, unet_geometry

type Kind = Literal["affinities", "lsd", "mtlsd", "aclsd", "acrlsd"]
type Size = tuple[PositiveInt, ...]

#: What each kind of network predicts.
PREDICTIONS: dict[str, tuple[str, ...]] = {
    "affinities": ("affinities",),
    "lsd": ("lsds",),
    "mtlsd": ("affinities", "lsds"),
    "aclsd": ("affinities",),
    "acrlsd": ("affinities",),
}
#: Kinds of networks that see what another one, of kind "lsd", predicts.
AUTOCONTEXT = ("aclsd", "acrlsd")
#: Descriptors in 2-D and 3-D.
LSD_CHANNELS = {2: 6, 3: 10}


class ModelConfig(BaseModel):
    """What a network is made of.

    Attributes
    ----------
    kind : {"affinities", "lsd", "mtlsd", "aclsd", "acrlsd"}
        What it predicts: affinities; descriptors; both; affinities from the descriptors that a first network
        predicts; or affinities from these and the raw data.
    dims : {2, 3}
        Number of spatial axes.
    in_channels : int
        Channels of the raw data.
    num_fmaps, fmap_inc_factor, num_fmaps_out, constant_upsample, padding
        As for `lsd_dask.networks.unet.UNet`.
    downsample_factors, kernel_size_down, kernel_size_up
        The same; kernels of None are two of 3 voxels a side on each level.
    neighborhood : tuple of tuple of int
        The offset, in voxels, that each channel of affinities is for; None for the direct predecessors.
    first : ModelConfig, optional
        The network of kind "lsd" that an "aclsd" or "acrlsd" begins with.

    Examples
    --------
    >>> config = ModelConfig(kind="mtlsd", dims=2, downsample_factors=((2, 2),), num_fmaps=4)
    >>> config.neighborhood, config.channels
    (((-1, 0), (0, -1)), {'affinities': 2, 'lsds': 6})
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind = "mtlsd"
    dims: Literal[2, 3] = 3
    in_channels: PositiveInt = 1
    num_fmaps: PositiveInt = 12
    fmap_inc_factor: PositiveInt = 5
    num_fmaps_out: PositiveInt | None = None
    downsample_factors: tuple[Size, ...] = ((2, 2, 2), (2, 2, 2))
    kernel_size_down: tuple[tuple[Size, ...], ...] | None = None
    kernel_size_up: tuple[tuple[Size, ...], ...] | None = None
    constant_upsample: bool = False
    padding: Padding = "valid"
    neighborhood: tuple[tuple[int, ...], ...] | None = None
    first: "ModelConfig | None" = None

    @model_validator(mode="before")
    @classmethod
    def _default_neighborhood(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("neighborhood") is None:
            values = values | {"neighborhood": default_neighborhood(int(values.get("dims", 3)))}
        return values

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.downsample_factors:
            raise ValueError("downsample_factors: found none, expected one factor an axis for each level")
        assert self.neighborhood is not None
        checked(self.neighborhood, self.dims)
        if len(self.downsample_factors[0]) != self.dims:
            raise ValueError(
                f"downsample_factors: found {self.downsample_factors}, expected {self.dims} numbers a level"
            )
        own = self.second_geometry()
        if (self.kind in AUTOCONTEXT) != (self.first is not None):
            raise ValueError(
                f"first: found {'none' if self.first is None else 'one'} for kind {self.kind!r}; a first "
                f"network of kind 'lsd' goes with {' and '.join(AUTOCONTEXT)}"
            )
        if self.first is not None:
            self._check_first(self.first, own)
        return self

    def _check_first(self, first: "ModelConfig", own: Geometry) -> None:
        expected = {
            "kind": "lsd",
            "dims": self.dims,
            "in_channels": self.in_channels,
            "padding": self.padding,
        }
        for key, value in expected.items():
            if getattr(first, key) != value:
                raise ValueError(
                    f"first: found a network with {key} {getattr(first, key)!r}, expected {value!r}"
                )
        periods = zip(first.geometry().period, own.period, strict=True)
        if any(a % b for a, b in periods):
            raise ValueError(
                f"first: found a network that downsamples by {first.geometry().period} in all, expected "
                f"multiples of {own.period}"
            )

    @property
    def predictions(self) -> tuple[str, ...]:
        """Names of what the network predicts: "affinities", "lsds"."""
        return PREDICTIONS[self.kind]

    @property
    def channels(self) -> dict[str, int]:
        """Number of channels of each prediction."""
        assert self.neighborhood is not None
        number = {"affinities": len(self.neighborhood), "lsds": LSD_CHANNELS[self.dims]}
        return {name: number[name] for name in self.predictions}

    def geometry(self) -> Geometry:
        """Sizes of input and output, and the field of view."""
        own = self.second_geometry()
        if self.first is None:
            return own
        first = self.first.geometry()
        return Geometry(tuple(ChainedAxis(a, b) for a, b in zip(first.axes, own.axes, strict=True)))

    def without_first(self) -> "ModelConfig":
        """The second network of an autocontext as one by itself, which sees channels of raw data."""
        channels = LSD_CHANNELS[self.dims] + (self.in_channels if self.kind == "acrlsd" else 0)
        return self.model_copy(update={"kind": "affinities", "in_channels": channels, "first": None})

    def kernels(self) -> tuple[tuple[tuple[Size, ...], ...], tuple[tuple[Size, ...], ...]]:
        """Kernel sizes on the way down and up, written out."""
        usual, steps = ((3,) * self.dims,) * 2, len(self.downsample_factors)
        return self.kernel_size_down or (usual,) * (steps + 1), self.kernel_size_up or (usual,) * steps

    def second_geometry(self) -> Geometry:
        """The same without the first network of an autocontext."""
        return unet_geometry(self.downsample_factors, *self.kernels(), self.padding)


class Model(torch.nn.Module):
    """A network that predicts affinities, descriptors, or both, from raw data.

    Its parameters have the names of the models in the reference's notebooks and scripts: ``unet``,
    ``aff_head``, ``lsd_head``. Those of the first network of an autocontext are under ``first`` and are not
    trained.

    Parameters
    ----------
    config : ModelConfig
        What it is made of.

    References
    ----------
    .. [1] A. Sheridan et al., "Local shape descriptors for neuron segmentation", Nature Methods 20, 2023.
       https://doi.org/10.1038/s41592-022-01711-z

    Examples
    --------
    >>> model = Model(ModelConfig(kind="mtlsd", dims=2, downsample_factors=((2, 2),), num_fmaps=4))
    >>> model.input_shape((20, 20))
    (36, 36)
    >>> {name: tuple(t.shape) for name, t in model(torch.zeros(1, 1, 36, 36)).items()}
    {'affinities': (1, 2, 20, 20), 'lsds': (1, 6, 20, 20)}
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.geometry = config.geometry()
        self.first = None if config.first is None else _frozen(Model(config.first))
        down, up = config.kernels()
        self.unet = UNet(
            self._unet_channels(),
            config.num_fmaps,
            config.fmap_inc_factor,
            config.downsample_factors,
            down,
            up,
            num_fmaps_out=config.num_fmaps_out,
            constant_upsample=config.constant_upsample,
            padding=config.padding,
            crop=False,
        )
        point = [(1,) * config.dims]
        for name, channels in config.channels.items():
            head = ConvPass(self.unet.out_channels, channels, point, activation="Sigmoid")
            self.add_module(_HEADS[name], head)

    def forward(self, raw: torch.Tensor) -> dict[str, torch.Tensor]:
        """Predict.

        Parameters
        ----------
        raw : (batch, in_channels, [z,] y, x) Tensor of float
            Raw data scaled to -1 to 1, of a valid shape.

        Returns
        -------
        dict of (batch, channels, [z,] y, x) Tensor
            By name, values from 0 to 1.

        Raises
        ------
        ValueError
            If the shape is not valid; the message names the next sizes that are.
        """
        self._check(raw)
        return self.heads(raw if self.first is None else self.second_input(raw, self.describe(raw)))

    def describe(self, raw: torch.Tensor) -> torch.Tensor:
        """The descriptors that the first network of an autocontext predicts: (batch, channels, [z,] y, x).

        They are rounded as they are where they are stored, so that the second network sees the same values
        whether or not they come by way of a disk.
        """
        assert self.first is not None
        with torch.no_grad():
            lsds: torch.Tensor = self.first(raw)["lsds"]
            return torch.round(lsds * 255) / 255

    def second_input(self, raw: torch.Tensor, lsds: torch.Tensor) -> torch.Tensor:
        """What the second network of an autocontext sees: descriptors, for "acrlsd" with the raw data."""
        chains = [axis for axis in self.geometry.axes if isinstance(axis, ChainedAxis)]
        shape = [n - 2 * chain.crop for n, chain in zip(lsds.shape[2:], chains, strict=True)]
        lsds = _part(lsds, [chain.crop for chain in chains], shape)
        if self.config.kind == "aclsd":
            return lsds
        raw = _part(raw, [chain.first.cut + chain.crop for chain in chains], shape)
        return torch.cat([raw, lsds], dim=1)

    def heads(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Run the network itself, without a first one: predictions by name."""
        features = self.unet(x)
        return {name: self.get_submodule(_HEADS[name])(features) for name in self.targets}

    def train(self, mode: bool = True) -> Self:
        """Set the mode; the first network of an autocontext stays as it is, for evaluation."""
        super().train(mode)
        if self.first is not None:
            self.first.eval()
        return self

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of what it is trained for: "affinities", "lsds"."""
        return self.config.predictions

    @property
    def context(self) -> tuple[int, ...]:
        """Voxels of the input around the output, on each side of each axis."""
        return self.geometry.context

    @property
    def field_of_view(self) -> tuple[int, ...]:
        """Extent of the largest window of the input that an output voxel depends on, in voxels."""
        return self.geometry.field_of_view

    def input_shape(self, output_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the input for an output of this shape; see `Geometry.input_shape`."""
        return self.geometry.input_shape(output_shape)

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the output for an input of this shape; see `Geometry.output_shape`."""
        return self.geometry.output_shape(input_shape)

    def valid_input_shapes(self, near: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The next valid input shapes: at most as large as `near`, and at least as large."""
        return self.geometry.valid_input_shapes(near)

    def _unet_channels(self) -> int:
        alone = self.config if self.first is None else self.config.without_first()
        return alone.in_channels

    def _check(self, raw: torch.Tensor) -> None:
        expected = (self.config.in_channels, self.config.dims + 2)
        if (raw.shape[1] if raw.ndim > 1 else 0, raw.ndim) != expected:
            axes = "z, y, x" if self.config.dims == 3 else "y, x"
            raise ValueError(
                f"raw: found shape {tuple(raw.shape)}, expected (batch, {self.config.in_channels}, {axes})"
            )
        self.geometry.output_shape(raw.shape[2:])


_HEADS = {"affinities": "aff_head", "lsds": "lsd_head"}


def _part(x: torch.Tensor, begins: Sequence[int], shape: Sequence[int]) -> torch.Tensor:
    return x[(slice(None), slice(None), *(slice(b, b + n) for b, n in zip(begins, shape, strict=True)))]


def _frozen(model: Model) -> Model:
    model.requires_grad_(False)
    return model.eval()


def build_model(config: ModelConfig, *, lsd_checkpoint: str | None = None) -> Model:
    """A new network, with random parameters.

    Parameters
    ----------
    config : ModelConfig
        What it is made of. Of kinds "aclsd" and "acrlsd", `first` may be what the checkpoint says, see
        `with_first`.
    lsd_checkpoint : str, optional
        Checkpoint of the first network of an autocontext; without, its parameters are random as well.

    Returns
    -------
    Model

    Raises
    ------
    FileNotFoundError
        If there is no such checkpoint.
    ValueError
        If it is none, or that of another network than `config` says; or if there is no first network.

    Examples
    --------
    >>> config = ModelConfig(kind="affinities", dims=2, downsample_factors=((2, 2),), num_fmaps=4)
    >>> sum(p.numel() for p in build_model(config).parameters())
    7194
    """
    model = Model(config)
    if lsd_checkpoint is not None:
        if model.first is None:
            raise ValueError(f"lsd_checkpoint: a network of kind {config.kind!r} has no first network")
        content = weights.read(lsd_checkpoint)
        found = config_in(content, lsd_checkpoint)
        if found is not None and found != config.first:
            raise ValueError(f"{lsd_checkpoint}: found the network {found}, expected {config.first}")
        weights.load_parameters(model.first, weights.parameters_in(content, lsd_checkpoint), lsd_checkpoint)
    return model


def with_first(kind: Literal["aclsd", "acrlsd"], config: ModelConfig, lsd_checkpoint: str) -> ModelConfig:
    """The configuration of an autocontext whose first network comes from a checkpoint.

    Parameters
    ----------
    kind : {"aclsd", "acrlsd"}
        Of the autocontext.
    config : ModelConfig
        Of the second network; its kind and first network do not matter.
    lsd_checkpoint : str
        Checkpoint of the first network, with its configuration.

    Returns
    -------
    ModelConfig

    Raises
    ------
    ValueError
        If the checkpoint has no configuration, or is that of a network of another kind.
    """
    first = config_in(weights.read(lsd_checkpoint), lsd_checkpoint)
    if first is None:
        raise ValueError(
            f"{lsd_checkpoint}: found parameters alone, expected the network's configuration too"
        )
    return ModelConfig.model_validate({**config.model_dump(), "kind": kind, "first": first.model_dump()})


def config_in(content: dict[str, Any], path: str) -> ModelConfig | None:
    """The configuration in the content of a checkpoint; None if it is not one of this package."""
    if "model_config" not in content:
        return None
    try:
        return ModelConfig.model_validate(content["model_config"])
    except ValueError as error:
        raise ValueError(f"{path}: found a network that this version does not know: {error}") from error
