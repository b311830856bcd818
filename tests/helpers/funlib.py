"""The U-Net of funlib.learn.torch, written anew from its description: what published networks are made of."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

CONVOLUTION = {2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
POOLING = {2: nn.MaxPool2d, 3: nn.MaxPool3d}


class Pass(nn.Module):
    def __init__(
        self, n_in: int, n_out: int, kernels: Sequence[Sequence[int]], act: type[nn.Module], pad: bool
    ):
        super().__init__()
        layers: list[nn.Module] = []
        for number, kernel in enumerate(kernels):
            around = [k // 2 if pad else 0 for k in kernel]
            convolution: Any = CONVOLUTION[len(kernel)]
            layers += [convolution(n_out if number else n_in, n_out, kernel, padding=around), act()]
        self.conv_pass = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv_pass(x)


class Up(nn.Module):
    """Holds the transposed convolution under the name it has there."""

    def __init__(self, factor: Sequence[int], channels: int, constant: bool):
        super().__init__()
        transposed: Any = TRANSPOSED[len(factor)]
        self.up = None if constant else transposed(channels, channels, factor, stride=factor)


class Network(nn.Module):
    """U-Net of which only the parameters are modules; what it does is written out below."""

    def __init__(
        self,
        in_channels: int,
        num_fmaps: int,
        fmap_inc_factor: int,
        downsample_factors: Sequence[Sequence[int]],
        kernel_size_down: Sequence[Sequence[Sequence[int]]],
        kernel_size_up: Sequence[Sequence[Sequence[int]]],
        num_fmaps_out: int | None = None,
        num_heads: int = 1,
        constant_upsample: bool = False,
        padding: str = "valid",
    ):
        super().__init__()
        self.factors, self.up_kernels = downsample_factors, kernel_size_up
        self.constant, self.same, self.heads = constant_upsample, padding == "same", num_heads
        steps, same = len(downsample_factors), padding == "same"

        def width(level: int) -> int:
            return num_fmaps * fmap_inc_factor**level

        self.l_conv = nn.ModuleList()
        for level, kernels in enumerate(kernel_size_down):
            n_in = width(level - 1) if level else in_channels
            self.l_conv.append(Pass(n_in, width(level), kernels, nn.ReLU, same))
        self.r_up, self.r_conv = nn.ModuleList(), nn.ModuleList()
        for _ in range(num_heads):
            ups, passes = nn.ModuleList(), nn.ModuleList()
            for level in range(steps):
                n_out = num_fmaps_out if num_fmaps_out and not level else width(level)
                ups.append(Up(downsample_factors[level], width(level + 1), constant_upsample))
                passes.append(
                    Pass(width(level) + width(level + 1), n_out, kernel_size_up[level], nn.ReLU, same)
                )
            self.r_up.append(ups)
            self.r_conv.append(passes)

    def forward(self, x: torch.Tensor, crop: bool = True) -> Any:
        outputs = [self.run(0, head, x, crop) for head in range(self.heads)]
        return outputs[0] if self.heads == 1 else outputs

    def run(self, level: int, head: int, x: torch.Tensor, crop: bool) -> torch.Tensor:
        left = self.l_conv[level](x)
        if level == len(self.factors):
            return left
        factor = self.factors[level]
        for size, f in zip(left.shape[2:], factor, strict=True):
            if size % f:
                raise RuntimeError("cannot be halved")
        below = self.run(level + 1, head, POOLING[len(factor)](tuple(factor))(left), crop)
        if self.constant:
            for axis, f in enumerate(factor):
                below = below.repeat_interleave(f, axis + 2)
        else:
            below = self.r_up[head][level].up(below)
        if crop and not self.same:
            below = self.cropped_to_multiples(below, level)
        return self.r_conv[head][level](torch.cat([middle(left, below.shape), below], 1))

    def cropped_to_multiples(self, x: torch.Tensor, level: int) -> torch.Tensor:
        shape = list(x.shape)
        for axis in range(x.ndim - 2):
            multiple = 1
            for factor in self.factors[level:]:
                multiple *= factor[axis]
            lost = sum(kernel[axis] - 1 for kernel in self.up_kernels[level])
            shape[axis + 2] = (shape[axis + 2] - lost) // multiple * multiple + lost
        return middle(x, shape)


def middle(x: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    for axis in range(2, x.ndim):
        x = x.narrow(axis, (x.shape[axis] - shape[axis]) // 2, shape[axis])
    return x
