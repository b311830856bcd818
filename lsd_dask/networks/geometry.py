"""Sizes of what goes into a U-Net and comes out of it, and how far it sees: whole numbers, axis by axis.

A U-Net is not equivariant to every translation: pooling puts a lattice over its input, with as many voxels
between two points as the downsampling factors multiplied. Inputs that begin on the same phase of the lattice
give the same values; that is why tiles of a volume must begin at multiples of the `period`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Protocol


class Axis(Protocol):
    """What a network does to one axis.

    Attributes
    ----------
    period
        Distance of two places at which tiles may begin: the downsampling factors multiplied.
    smallest
        The smallest valid input size; the others are larger by multiples of the period.
    cut
        How many voxels of the input come before the first voxel of the output.
    margins
        How many voxels of context a tile needs before and after the output that is wanted, which begins at a
        multiple of the period. With valid convolutions, what the network cuts off.
    """

    @property
    def period(self) -> int:
        """Distance of two places at which tiles may begin."""

    @property
    def smallest(self) -> int:
        """The smallest valid input size."""

    @property
    def cut(self) -> int:
        """Voxels of the input before the first voxel of the output."""

    @property
    def margins(self) -> tuple[int, int]:
        """Context that a tile needs before and after its output."""

    def output(self, size: int) -> int:
        """Size of the output for a valid input size."""

    def seen(self, low: int, high: int) -> tuple[int, int]:
        """First and last input voxel that output voxels depend on, all by their place in the input."""


@dataclass(frozen=True)
class UNetAxis:
    """One axis of a U-Net.

    Attributes
    ----------
    factors
        Downsampling factor of each level but the lowest.
    down, up
        How far the convolutions of each level reach to each side, on the way down and up.
    valid
        Whether convolutions are valid, and cut the borders off; else they keep the size.

    Examples
    --------
    >>> axis = UNetAxis((2, 2), (2, 2, 2), (2, 2), valid=True)
    >>> axis.period, axis.cut, axis.smallest, axis.output(164)
    (4, 20, 44, 124)
    """

    factors: tuple[int, ...]
    down: tuple[int, ...]
    up: tuple[int, ...]
    valid: bool

    @property
    def period(self) -> int:
        """The downsampling factors multiplied."""
        return prod(self.factors)

    @cached_property
    def cut(self) -> int:
        """Voxels of the input before the first voxel of the output."""
        if not self.valid:
            return 0
        reach = [d + u for d, u in zip(self.down, (*self.up, 0), strict=True)]
        return sum(r * prod(self.factors[:level]) for level, r in enumerate(reach))

    @cached_property
    def smallest(self) -> int:
        """The smallest valid input size."""
        if not self.valid:
            return self.period
        bottom = 1
        while (size := self._from_bottom(bottom)) <= 0:
            bottom += 1
        return size

    @cached_property
    def margins(self) -> tuple[int, int]:
        """Context that a tile needs before and after its output."""
        if self.valid:
            return self.cut, self.cut
        before = -self.seen(0, 0)[0]
        after = max(self.seen(p, p)[1] - p for p in range(self.period))
        return -(-before // self.period) * self.period, after

    def output(self, size: int) -> int:
        """Size of the output for a valid input size."""
        return size - 2 * self.cut

    def seen(self, low: int, high: int) -> tuple[int, int]:
        """First and last input voxel that output voxels depend on, all by their place in the input."""
        return self._seen(0, low, high)

    def _seen(self, level: int, low: int, high: int) -> tuple[int, int]:
        down = self.down[level]
        if level == len(self.factors):
            return low - down, high + down
        factor, start = self.factors[level], down if self.valid else 0
        low, high = low - self.up[level], high + self.up[level]
        first, last = self._seen(level + 1, (low - start) // factor, (high - start) // factor)
        first, last = start + first * factor, start + last * factor + factor - 1
        return min(low, first) - down, max(high, last) + down

    def _from_bottom(self, bottom: int) -> int:
        """Input size for an output of the lowest level; 0 where nothing is left on the way up."""
        size = up = bottom
        for factor, reach in zip(reversed(self.factors), reversed(self.up), strict=True):
            up = up * factor - 2 * reach
            if up < 1:
                return 0
        size += 2 * self.down[-1]
        for factor, reach in zip(reversed(self.factors), reversed(self.down[:-1]), strict=True):
            size = size * factor + 2 * reach
        return size


@dataclass(frozen=True)
class ChainedAxis:
    """One axis of two networks, the second of which sees what the first one gives.

    Where that is no valid input size of the second network, it is cropped to one, by as much on both sides.

    Attributes
    ----------
    first, second
        The networks; the period of the first is a multiple of that of the second, so that the crop is the
        same for all tiles.

    Examples
    --------
    The two networks of FIB-25:

    >>> axis = UNetAxis((2, 2, 3), (2, 2, 2, 2), (2, 2, 2), valid=True)
    >>> ChainedAxis(axis, axis).output(304)
    92
    """

    first: Axis
    second: Axis

    @property
    def period(self) -> int:
        """That of the first network."""
        return self.first.period

    @cached_property
    def crop(self) -> int:
        """What is cut off the first network's output on each side."""
        period = self.second.period
        surplus = (self.first.output(self.first.smallest) - self.second.smallest) % period
        # Only with an odd period can it be odd, and another period makes it even.
        return (surplus + period * (surplus % 2)) // 2

    @property
    def smallest(self) -> int:
        """The smallest valid input size."""
        size = self.first.smallest
        while self.first.output(size) - 2 * self.crop < self.second.smallest:
            size += self.period
        return size

    @property
    def cut(self) -> int:
        """Voxels of the input before the first voxel of the output."""
        return self.first.cut + self.crop + self.second.cut

    @property
    def margins(self) -> tuple[int, int]:
        """Context that a tile needs before and after its output."""
        (a, b), (c, d) = self.first.margins, self.second.margins
        return a + self.crop + c, b + self.crop + d

    def output(self, size: int) -> int:
        """Size of the output for a valid input size."""
        return self.second.output(self.first.output(size) - 2 * self.crop)

    def seen(self, low: int, high: int) -> tuple[int, int]:
        """First and last input voxel that output voxels depend on, all by their place in the input."""
        begin = self.first.cut + self.crop
        inner = self.second.seen(low - begin, high - begin)
        return self.first.seen(inner[0] + begin, inner[1] + begin)


@dataclass(frozen=True)
class Geometry:
    """Sizes of the input and output of a network.

    Attributes
    ----------
    axes
        One `Axis` for each spatial axis.

    Examples
    --------
    >>> axis = UNetAxis((2, 2), (2, 2, 2), (2, 2), valid=True)
    >>> geometry = Geometry((axis, axis))
    >>> geometry.output_shape((164, 164)), geometry.input_shape((124, 124)), geometry.context
    ((124, 124), (164, 164), (20, 20))
    >>> geometry.output_shape((165, 164))
    Traceback (most recent call last):
    ValueError: input shape: found (165, 164), which this network cannot halve and join again; next valid \
sizes along y: 164 and 168
    """

    axes: tuple[Axis, ...]

    @property
    def period(self) -> tuple[int, ...]:
        """Distance of two places at which tiles may begin, in voxels."""
        return tuple(axis.period for axis in self.axes)

    @property
    def cut(self) -> tuple[int, ...]:
        """Voxels of the input before the first voxel of the output; 0 for convolutions that keep the size."""
        return tuple(axis.cut for axis in self.axes)

    @property
    def margins(self) -> tuple[tuple[int, int], ...]:
        """Context that a tile needs before and after its output, in voxels."""
        return tuple(axis.margins for axis in self.axes)

    @property
    def context(self) -> tuple[int, ...]:
        """The larger one of the `margins`."""
        return tuple(max(axis.margins) for axis in self.axes)

    @cached_property
    def field_of_view(self) -> tuple[int, ...]:
        """Extent of the largest window of the input that an output voxel depends on, in voxels."""

        def window(axis: Axis, place: int) -> int:
            low, high = axis.seen(place, place)
            return high - low + 1

        return tuple(max(window(axis, place) for place in range(axis.period)) for axis in self.axes)

    def output_shape(self, input_shape: Sequence[int]) -> tuple[int, ...]:
        """Shape of the output.

        Parameters
        ----------
        input_shape : sequence of int
            In voxels.

        Returns
        -------
        tuple of int
            In voxels.

        Raises
        ------
        ValueError
            If the network cannot take such an input; the message names the next valid sizes.
        """
        self._check_axes("input shape", input_shape)
        if not all(_is_valid(axis, n) for axis, n in zip(self.axes, input_shape, strict=True)):
            raise ValueError(
                f"input shape: found {tuple(input_shape)}, which this network cannot halve and join again; "
                f"next valid sizes along {self._named(input_shape, lambda size, axis: size)}"
            )
        return tuple(axis.output(n) for axis, n in zip(self.axes, input_shape, strict=True))

    def input_shape(self, output_shape: Sequence[int]) -> tuple[int, ...]:
        """Shape of the input that gives an output of exactly this shape.

        Parameters
        ----------
        output_shape : sequence of int
            In voxels.

        Returns
        -------
        tuple of int
            In voxels.

        Raises
        ------
        ValueError
            If no input does; the message names the next output sizes.
        """
        self._check_axes("output shape", output_shape)
        lost = [axis.smallest - axis.output(axis.smallest) for axis in self.axes]
        shape = [n + k for n, k in zip(output_shape, lost, strict=True)]
        if not all(_is_valid(axis, n) for axis, n in zip(self.axes, shape, strict=True)):
            raise ValueError(
                f"output shape: found {tuple(output_shape)}, which this network does not give for any input; "
                f"next valid sizes along {self._named(shape, lambda size, axis: axis.output(size))}"
            )
        return tuple(shape)

    def valid_input_shapes(self, near: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The nearest input shapes that are valid: at most as large as `near`, and at least as large.

        Parameters
        ----------
        near : sequence of int
            A shape in voxels.

        Returns
        -------
        tuple
            Two shapes. The first one is larger than `near` along axes where `near` is smaller than the
            smallest valid size.
        """
        self._check_axes("shape", near)
        below, above = zip(*(_neighbours(a, n) for a, n in zip(self.axes, near, strict=True)), strict=True)
        return tuple(below), tuple(above)

    def covering(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The smallest input of a tile from which outputs of a shape come with all their context."""
        needed = [n + sum(axis.margins) for n, axis in zip(shape, self.axes, strict=True)]
        return self.valid_input_shapes(needed)[1]

    def _named(self, shape: Sequence[int], size_of: Callable[[int, Axis], int]) -> str:
        """The next sizes of each axis that is not valid: "y: 4 and 8; x: 5 and 10"."""
        names = ("z", "y", "x")[-len(self.axes) :]
        wrong = [
            f"{name}: {' and '.join(str(size_of(n, axis)) for n in sorted(set(_neighbours(axis, size))))}"
            for name, axis, size in zip(names, self.axes, shape, strict=True)
            if not _is_valid(axis, size)
        ]
        return "; ".join(wrong)

    def _check_axes(self, name: str, shape: Sequence[int]) -> None:
        if len(shape) != len(self.axes):
            raise ValueError(f"{name}: found {tuple(shape)}, expected {len(self.axes)} numbers")


def _is_valid(axis: Axis, size: int) -> bool:
    return size >= axis.smallest and (size - axis.smallest) % axis.period == 0


def _neighbours(axis: Axis, size: int) -> tuple[int, int]:
    steps = max(0, (size - axis.smallest) // axis.period)
    below = axis.smallest + steps * axis.period
    return below, below if below >= size else below + axis.period
