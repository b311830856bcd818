"""How much memory a forward pass needs: counted from the feature maps that are held at the same time."""

from collections.abc import Sequence
from math import prod

from .models import LSD_CHANNELS, ModelConfig

#: Bytes of a value.
_FLOAT = 4


def forward_bytes(config: ModelConfig, input_shape: Sequence[int]) -> int:
    """Bytes that a network needs, at its peak, for one input, without gradients.

    Parameters
    ----------
    config : ModelConfig
        Of the network.
    input_shape : sequence of int
        Spatial, in voxels.

    Returns
    -------
    int

    Examples
    --------
    >>> config = ModelConfig(num_fmaps=8, fmap_inc_factor=3)
    >>> round(forward_bytes(config, (136, 136, 136)) / 1e6)
    386
    """
    if config.first is None:
        return _unet_bytes(config, input_shape)
    first = config.first.geometry()
    inner = [axis.output(n) for axis, n in zip(first.axes, input_shape, strict=True)]
    held = _FLOAT * (config.in_channels * prod(input_shape) + LSD_CHANNELS[config.dims] * prod(inner))
    return held + max(_unet_bytes(config.first, input_shape), _unet_bytes(config.without_first(), inner))


def _unet_bytes(config: ModelConfig, shape: Sequence[int]) -> int:
    down, up = config.kernels()
    factors = config.downsample_factors
    lost = 1 if config.padding == "valid" else 0
    fmaps = [config.num_fmaps * config.fmap_inc_factor**level for level in range(len(down))]

    def convolved(size: Sequence[int], kernels: Sequence[Sequence[int]]) -> list[int]:
        return [n - lost * sum(k[a] - 1 for k in kernels) for a, n in enumerate(size)]

    held, peak, size, channels = 0, 0, list(shape), config.in_channels
    left = []
    for level, kernels in enumerate(down):
        before = channels * prod(size)
        size = convolved(size, kernels)
        features = fmaps[level] * prod(size)
        # Input, result before and after the activation, and a copy in the layout of the kernels.
        peak = max(peak, held + max(before, features) + 3 * features)
        left.append(features)
        if level < len(factors):
            held += features
            channels, size = fmaps[level], [n // f for n, f in zip(size, factors[level], strict=True)]
    for level in reversed(range(len(factors))):
        size = [n * f for n, f in zip(size, factors[level], strict=True)]
        joined = (fmaps[level] + fmaps[level + 1]) * prod(size)
        size = convolved(size, up[level])
        out = fmaps[level] if level or not config.num_fmaps_out else config.num_fmaps_out
        peak = max(peak, held + 2 * joined + 2 * out * prod(size))
        held -= left[level]
    heads = sum(config.channels.values()) * prod(size)
    return _FLOAT * max(peak, 2 * heads + (config.num_fmaps_out or config.num_fmaps) * prod(size))
