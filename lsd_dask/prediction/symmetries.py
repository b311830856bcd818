"""Mirrored and transposed predictions, brought back and averaged: test-time augmentation.

An affinity joins a voxel with its neighbour on one side. Of the mirrored data, the network gives the affinity
with the neighbour on the other side, which is the affinity that this neighbour has with the voxel: it is
found one step further. A descriptor that points the other way in the mirrored data is left out of the
average, because its value for the background does not turn with it.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from ..networks.pytorch import torch

type Augmentation = Literal["none", "mirrors", "all"]


@dataclass(frozen=True)
class Symmetry:
    """A mirroring of some axes after a transposition of y and x.

    Attributes
    ----------
    flips
        Whether each spatial axis is mirrored.
    transpose
        Whether y and x are exchanged before.

    Examples
    --------
    >>> turn = Symmetry((True, False), transpose=True)
    >>> turn.apply(torch.tensor([[0, 1, 2], [3, 4, 5]])[None, None])[0, 0].tolist()
    [[2, 5], [1, 4], [0, 3]]
    >>> turn.direction((0, 1))
    (-1, 0)
    """

    flips: tuple[bool, ...]
    transpose: bool

    def apply(self, x: torch.Tensor) -> torch.Tensor:
        """Transform the spatial axes of (batch, channels, [z,] y, x)."""
        return (x.transpose(-1, -2) if self.transpose else x).flip(self._flipped())

    def undo(self, x: torch.Tensor) -> torch.Tensor:
        """Bring back what `apply` transformed."""
        x = x.flip(self._flipped())
        return x.transpose(-1, -2) if self.transpose else x

    def direction(self, vector: Sequence[int]) -> tuple[int, ...]:
        """Where a vector of the original data points in the transformed data."""
        turned = list(vector)
        if self.transpose:
            turned[-2:] = turned[:-3:-1]
        return tuple(-v if flip else v for v, flip in zip(turned, self.flips, strict=True))

    def _flipped(self) -> list[int]:
        return [axis - len(self.flips) for axis, flip in enumerate(self.flips) if flip]


@dataclass(frozen=True)
class Source:
    """Where a channel is found in a prediction that was brought back.

    Attributes
    ----------
    channel
        Its number there.
    step
        How many voxels further along each axis.
    """

    channel: int
    step: tuple[int, ...]


def symmetries(dims: int, augmentation: Augmentation) -> list[Symmetry]:
    """The transformations whose predictions are averaged, the identity first.

    Parameters
    ----------
    dims : int
        Number of spatial axes.
    augmentation : {"none", "mirrors", "all"}
        The identity alone; with all mirrorings; these with and without transposition of y and x.

    Returns
    -------
    list of Symmetry

    Examples
    --------
    >>> [len(symmetries(3, name)) for name in ("none", "mirrors", "all")]
    [1, 8, 16]
    """
    flips = [(False,) * dims] if augmentation == "none" else itertools.product((False, True), repeat=dims)
    turns = (False, True) if augmentation == "all" else (False,)
    return [Symmetry(tuple(flip), turn) for turn, flip in itertools.product(turns, list(flips))]


def affinity_sources(neighborhood: Sequence[Sequence[int]], symmetry: Symmetry) -> list[Source | None]:
    """Where each channel of affinities is found; None where no channel of the prediction has it.

    Parameters
    ----------
    neighborhood
        Offsets of the channels.
    symmetry
        How the data was transformed.

    Examples
    --------
    >>> affinity_sources([(-1, 0), (0, -1)], Symmetry((True, False), transpose=False))
    [Source(channel=0, step=(-1, 0)), Source(channel=1, step=(0, 0))]
    """
    offsets = [tuple(offset) for offset in neighborhood]
    sources: list[Source | None] = []
    for offset in offsets:
        turned = symmetry.direction(offset)
        opposite = tuple(-v for v in turned)
        if turned in offsets:
            sources.append(Source(offsets.index(turned), (0,) * len(offset)))
        elif opposite in offsets:
            sources.append(Source(offsets.index(opposite), offset))
        else:
            sources.append(None)
    return sources


def descriptor_sources(dims: int, symmetry: Symmetry) -> list[Source | None]:
    """Where each descriptor is found; None where its sign has changed.

    Parameters
    ----------
    dims
        Number of spatial axes.
    symmetry
        How the data was transformed.
    """
    here = (0,) * dims
    units = [tuple(int(i == j) for j in range(dims)) for i in range(dims)]
    turned = [symmetry.direction(unit) for unit in units]
    axes = [next(a for a, v in enumerate(vector) if v) for vector in turned]
    signs = [sum(vector) for vector in turned]
    pairs = _pairs(dims)
    sources: list[Source | None] = [Source(axes[a], here) if signs[a] > 0 else None for a in range(dims)]
    sources += [Source(dims + axes[a], here) for a in range(dims)]
    for a, b in pairs:
        there = pairs.index((min(axes[a], axes[b]), max(axes[a], axes[b])))
        sources.append(Source(2 * dims + there, here) if signs[a] * signs[b] > 0 else None)
    return [*sources, Source(2 * dims + len(pairs), here)]


def _pairs(dims: int) -> list[tuple[int, int]]:
    """Axes of the Pearson coefficients in their order: zy, zx, yx."""
    return list(itertools.combinations(range(dims), 2))


def shifted(x: torch.Tensor, step: Sequence[int]) -> torch.Tensor:
    """Voxels `step` further along each axis of ([z,] y, x); at the end of an axis, those of its beginning."""
    return x if not any(step) else x.roll([-s for s in step], dims=list(range(len(step))))


def halo(neighborhood: Sequence[Sequence[int]], augmentation: Augmentation) -> tuple[int, ...]:
    """Voxels around the output that averaging looks at, on each side of each axis."""
    if augmentation == "none":
        return (0,) * len(neighborhood[0])
    return tuple(max(abs(v) for v in along) for along in zip(*neighborhood, strict=True))


def contributions(sources: Sequence[Sequence[Source | None]]) -> Iterator[int]:
    """How many predictions each channel is the average of."""
    for channel in zip(*sources, strict=True):
        yield sum(source is not None for source in channel)
