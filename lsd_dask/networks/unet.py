"""The U-Net of funlib.learn.torch: the same parameters under the same names, in 2-D and 3-D.

Published checkpoints of networks that were built with it can be read, and the other way round.
"""

from collections.abc import Sequence
from math import prod
from typing import Any, Literal

from .geometry import Geometry, UNetAxis
from .pytorch import torch

nn = torch.nn

type Padding = Literal["valid", "same"]
#: Kernel sizes of the convolutions of one level, such as ``[(3, 3, 3), (3, 3, 3)]``.
type KernelSizes = Sequence[Sequence[int]]


class ConvPass(nn.Module):
    """Convolutions, each followed by an activation.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels of the input and of every convolution.
    kernel_sizes : sequence of sequence of int
        One kernel size for each convolution; two numbers for 2-D, three for 3-D, all odd.
    activation : str or None
        Name of a class in `torch.nn`.
    padding : {"valid", "same"}, optional
        Whether the borders are cut off, or zeros put around the input.

    Examples
    --------
    >>> ConvPass(1, 4, [(3, 3), (3, 3)], "ReLU")(torch.zeros(1, 1, 16, 16)).shape
    torch.Size([1, 4, 12, 12])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_sizes: KernelSizes,
        activation: str | None,
        padding: Padding = "valid",
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for size in kernel_sizes:
            convolution: Any = {2: nn.Conv2d, 3: nn.Conv3d}[len(size)]
            around = tuple(k // 2 for k in size) if padding == "same" else 0
            layers.append(convolution(in_channels, out_channels, tuple(size), padding=around))
            if activation is not None:
                layers.append(getattr(nn, activation)())
            in_channels = out_channels
        self.conv_pass = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Convolve: (batch, channels, [z,] y, x)."""
        y: torch.Tensor = self.conv_pass(x)
        return y


class Downsample(nn.Module):
    """Max-pooling.

    Parameters
    ----------
    downsample_factor : sequence of int
        One factor for each axis.

    Raises
    ------
    ValueError
        When it is called: if a size is no multiple of its factor.
    """

    def __init__(self, downsample_factor: Sequence[int]) -> None:
        super().__init__()
        self.factor = tuple(downsample_factor)
        pool = {2: nn.MaxPool2d, 3: nn.MaxPool3d}[len(self.factor)]
        self.down = pool(self.factor, stride=self.factor)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Pool: (batch, channels, [z,] y, x)."""
        size = tuple(x.shape[2:])
        if any(n % f for n, f in zip(size, self.factor, strict=True)):
            raise ValueError(f"found feature maps of {size} voxels, expected multiples of {self.factor}")
        y: torch.Tensor = self.down(x)
        return y


class Upsample(nn.Module):
    """Makes feature maps larger, and joins them with those of the way down, cropped in the middle.

    Parameters
    ----------
    scale_factor : sequence of int
        One factor for each axis.
    mode : {"transposed_conv", "nearest"}, optional
        A transposed convolution, or each voxel repeated.
    in_channels, out_channels : int, optional
        Of the transposed convolution.
    crop_factor : sequence of int, optional
        Crop, so that what the next convolutions give has sizes that are multiples of this.
    next_conv_kernel_sizes : sequence of sequence of int, optional
        Of these valid convolutions. Goes with `crop_factor`.
    """

    def __init__(
        self,
        scale_factor: Sequence[int],
        mode: Literal["transposed_conv", "nearest"] = "transposed_conv",
        in_channels: int | None = None,
        out_channels: int | None = None,
        crop_factor: Sequence[int] | None = None,
        next_conv_kernel_sizes: KernelSizes | None = None,
    ) -> None:
        super().__init__()
        if (crop_factor is None) != (next_conv_kernel_sizes is None):
            raise ValueError("crop_factor and next_conv_kernel_sizes go together, found one of them")
        self.crop_factor = crop_factor
        self.next_conv_kernel_sizes = next_conv_kernel_sizes
        factor = tuple(scale_factor)
        if mode == "transposed_conv":
            transposed: Any = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}[len(factor)]
            self.up: nn.Module = transposed(in_channels, out_channels, kernel_size=factor, stride=factor)
        else:
            self.up = nn.Upsample(scale_factor=tuple(map(float, factor)), mode=mode)

    def forward(self, f_left: torch.Tensor, g_out: torch.Tensor) -> torch.Tensor:
        """Join two feature maps, (batch, channels, [z,] y, x)."""
        g_up = self.up(g_out)
        if self.crop_factor is not None and self.next_conv_kernel_sizes is not None:
            g_up = crop(g_up, self._equivariant(tuple(g_up.shape[2:])))
        return torch.cat([crop(f_left, g_up.shape[2:]), g_up], dim=1)

    def _equivariant(self, shape: Sequence[int]) -> list[int]:
        """The largest shape from which the convolutions give multiples of the crop factor."""
        assert self.crop_factor is not None
        assert self.next_conv_kernel_sizes is not None
        lost = [sum(k - 1 for k in sizes) for sizes in zip(*self.next_conv_kernel_sizes, strict=True)]
        target = [(n - k) // f * f + k for n, k, f in zip(shape, lost, self.crop_factor, strict=True)]
        if any(n <= k for n, k in zip(target, lost, strict=True)):
            raise ValueError(
                f"found feature maps of {tuple(shape)} voxels, of which the convolutions {lost} and the crop "
                f"to multiples of {list(self.crop_factor)} leave nothing; a larger input is needed"
            )
        return target


class UNet(nn.Module):
    """U-Net with one way down and one or more ways up.

    Parameters
    ----------
    in_channels : int
        Channels of the input.
    num_fmaps : int
        Feature maps of the first level, and channels of the output.
    fmap_inc_factor : int
        Each level has this many times the feature maps of the one above.
    downsample_factors : sequence of sequence of int
        One factor an axis for each step down, such as ``[(2, 2, 2), (2, 2, 2)]``.
    kernel_size_down : sequence of sequence of sequence of int, optional
        Kernel sizes of the convolutions of each level on the way down, all odd. By default two of 3 voxels a
        side.
    kernel_size_up : sequence of sequence of sequence of int, optional
        The same on the way up: one level less.
    activation : str, optional
        Name of a class in `torch.nn`.
    num_fmaps_out : int, optional
        Channels of the output, if not `num_fmaps`.
    num_heads : int, optional
        Number of ways up.
    constant_upsample : bool, optional
        Repeat voxels instead of a transposed convolution.
    padding : {"valid", "same"}, optional
        Whether convolutions cut the borders off, or keep the size by zeros around.
    crop : bool, optional
        With valid convolutions, crop feature maps on the way up so that the size of the output is a multiple
        of the downsampling factors multiplied: outputs of tiles that touch then join without a seam. False
        gives all voxels that were computed; tiles must then begin at such multiples (see
        `lsd_dask.networks.geometry`). The values are the same.

    Raises
    ------
    ValueError
        If kernel sizes are even or factors and kernels do not fit each other; when it is called, if the input
        has a size that cannot be halved and joined again - the message names the next valid ones.

    References
    ----------
    .. [1] O. Ronneberger, P. Fischer, T. Brox, "U-Net: convolutional networks for biomedical image
       segmentation", MICCAI 2015. https://doi.org/10.1007/978-3-319-24574-4_28
    .. [2] J. Funke et al., "Large scale image segmentation with structured loss based deep learning for
       connectome reconstruction", IEEE TPAMI 41(7), 2019. https://doi.org/10.1109/TPAMI.2018.2835450
    .. [3] funlib.learn.torch, whose names and shapes of parameters these are.
       https://github.com/funkelab/funlib.learn.torch

    Examples
    --------
    >>> unet = UNet(1, 4, 2, [(2, 2), (2, 2)], crop=False)
    >>> unet(torch.zeros(1, 1, 60, 60)).shape
    torch.Size([1, 4, 20, 20])
    """

    def __init__(
        self,
        in_channels: int,
        num_fmaps: int,
        fmap_inc_factor: int,
        downsample_factors: Sequence[Sequence[int]],
        kernel_size_down: Sequence[KernelSizes] | None = None,
        kernel_size_up: Sequence[KernelSizes] | None = None,
        activation: str | None = "ReLU",
        num_fmaps_out: int | None = None,
        num_heads: int = 1,
        constant_upsample: bool = False,
        padding: Padding = "valid",
        crop: bool = True,
    ) -> None:
        super().__init__()
        steps = len(downsample_factors)
        dims = len(downsample_factors[0])
        usual = [(3,) * dims] * 2
        down = [usual] * (steps + 1) if kernel_size_down is None else kernel_size_down
        up = [usual] * steps if kernel_size_up is None else kernel_size_up
        self.geometry = unet_geometry(downsample_factors, down, up, padding)
        self.num_heads = num_heads
        self.in_channels = in_channels
        self.out_channels = num_fmaps_out or num_fmaps
        fmaps = [num_fmaps * fmap_inc_factor**level for level in range(steps + 1)]

        self.l_conv = nn.ModuleList(
            ConvPass(fan_in, fan_out, sizes, activation, padding)
            for fan_in, fan_out, sizes in zip([in_channels, *fmaps], fmaps, down, strict=False)
        )
        self.l_down = nn.ModuleList(map(Downsample, downsample_factors))

        def join(level: int) -> Upsample:
            below = fmaps[level + 1]
            factors = zip(*downsample_factors[level:], strict=True)
            product = [prod(axis) for axis in factors]
            cropping = (product, up[level]) if crop and padding == "valid" else (None, None)
            mode: Literal["transposed_conv", "nearest"] = (
                "nearest" if constant_upsample else "transposed_conv"
            )
            return Upsample(downsample_factors[level], mode, below, below, *cropping)

        def convolve(level: int) -> ConvPass:
            fan_out = fmaps[level] if level else self.out_channels
            return ConvPass(fmaps[level] + fmaps[level + 1], fan_out, up[level], activation, padding)

        heads, levels = range(num_heads), range(steps)
        self.r_up = nn.ModuleList(nn.ModuleList(map(join, levels)) for _ in heads)
        self.r_conv = nn.ModuleList(nn.ModuleList(map(convolve, levels)) for _ in heads)

    def forward(self, x: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        """Run the network.

        Parameters
        ----------
        x : (batch, channels, [z,] y, x) Tensor
            Its spatial shape is one that `geometry` calls valid.

        Returns
        -------
        (batch, num_fmaps, [z,] y, x) Tensor, or list of Tensor
            A list, one for each head, if there are several.
        """
        self.geometry.output_shape(x.shape[2:])
        left = []
        for level, convolve in enumerate(self.l_conv):
            x = convolve(x)
            if level < len(self.l_down):
                left.append(x)
                x = self.l_down[level](x)
        out = [self._upwards(head, left, x) for head in range(self.num_heads)]
        return out[0] if self.num_heads == 1 else out

    def _upwards(self, head: int, left: Sequence[torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        for level in reversed(range(len(left))):
            join, convolve = (self.get_submodule(f"{name}.{head}.{level}") for name in ("r_up", "r_conv"))
            x = convolve(join(left[level], x))
        return x


def unet_geometry(
    downsample_factors: Sequence[Sequence[int]],
    kernel_size_down: Sequence[KernelSizes],
    kernel_size_up: Sequence[KernelSizes],
    padding: Padding,
) -> Geometry:
    """Sizes of the input and output of a U-Net without crop, and its field of view.

    Parameters
    ----------
    downsample_factors, kernel_size_down, kernel_size_up, padding
        As for `UNet`.

    Returns
    -------
    Geometry

    Raises
    ------
    ValueError
        If a kernel size is even, or the numbers of levels or axes differ.
    """
    dims, steps = len(downsample_factors[0]), len(downsample_factors)
    _check_levels("kernel_size_down", kernel_size_down, steps + 1, dims)
    _check_levels("kernel_size_up", kernel_size_up, steps, dims)
    if any(len(factor) != dims or min(factor) < 1 for factor in downsample_factors):
        raise ValueError(f"downsample_factors: found {downsample_factors}, expected {dims} factors a level")

    def reach(levels: Sequence[KernelSizes], axis: int) -> tuple[int, ...]:
        return tuple(sum(size[axis] // 2 for size in sizes) for sizes in levels)

    return Geometry(
        tuple(
            UNetAxis(
                tuple(factor[axis] for factor in downsample_factors),
                reach(kernel_size_down, axis),
                reach(kernel_size_up, axis),
                padding == "valid",
            )
            for axis in range(dims)
        )
    )


def crop(x: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """The middle of a tensor (batch, channels, [z,] y, x), with this spatial shape."""
    begins = [(n - m) // 2 for n, m in zip(x.shape[2:], shape, strict=True)]
    return x[(slice(None), slice(None), *(slice(b, b + m) for b, m in zip(begins, shape, strict=True)))]


def _check_levels(name: str, levels: Sequence[KernelSizes], expected: int, dims: int) -> None:
    if len(levels) != expected:
        raise ValueError(f"{name}: found {len(levels)} levels, expected {expected}")
    sizes = [tuple(size) for level in levels for size in level]
    if any(len(size) != dims or any(k < 1 or k % 2 == 0 for k in size) for size in sizes):
        raise ValueError(f"{name}: found {sizes}, expected {dims} odd numbers for each convolution")
