"""How much a network has to compute: counted by PyTorch itself, on tensors without data."""

from collections.abc import Sequence

from .models import ModelConfig, build_model
from .pytorch import torch


def forward_operations(config: ModelConfig, input_shape: Sequence[int]) -> int:
    """Floating-point operations of a forward pass for one input; a multiplication and an addition are two.

    Parameters
    ----------
    config : ModelConfig
        Of the network.
    input_shape : sequence of int
        Spatial, in voxels.

    Returns
    -------
    int
        Of convolutions; all else is small beside them.

    Examples
    --------
    >>> forward_operations(ModelConfig(num_fmaps=8, fmap_inc_factor=3), (136, 136, 136)) / 1e9
    67.323938688
    """
    from torch.utils.flop_counter import FlopCounterMode

    model = build_model(config).to("meta").eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.empty((1, config.in_channels, *input_shape), device="meta"))
    return int(counter.get_total_flops())
