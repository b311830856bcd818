"""Which two voxels each channel of affinities joins: the one definition that every step uses.

A neighborhood is a list of offsets z, y, x (or y, x), in voxels, one a channel: channel d at voxel p holds
the affinity of p and ``p + neighborhood[d]``. It stands in the attributes of an array, under `KEY`, or is
said by whoever calls; where both are there, they have to agree. Affinities without either have as many
channels as axes, and join each voxel with the one before it along each axis.

The watershed wants just that: the affinity to the direct lower neighbour along each axis. `Direct` says which
channel has it, and `DirectReader` reads it. A channel of the neighbour after each voxel, an offset of +1, has
the same affinities one voxel further down: that of p with p - 1 is stored at p - 1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import xarray as xr

from ..checks.arguments import shown
from .grids import Region, spatial_dims

type Offsets = tuple[tuple[int, ...], ...]

#: Name of the attribute, of stored arrays and of DataArrays.
KEY = "neighborhood"


def default_neighborhood(ndim: int) -> Offsets:
    """The direct lower neighbours along each axis.

    Examples
    --------
    >>> default_neighborhood(2)
    ((-1, 0), (0, -1))
    """
    return tuple(tuple(-int(axis == other) for other in range(ndim)) for axis in range(ndim))


def checked(neighborhood: Any, ndim: int, channels: int | None = None, *, name: str = KEY) -> Offsets:
    """A neighborhood as a tuple of offsets.

    Parameters
    ----------
    neighborhood
        What a user or a file gives.
    ndim
        Number of spatial axes.
    channels
        How many offsets there have to be; None for any number.
    name
        What the message calls it.

    Raises
    ------
    TypeError
        If it is not made of whole numbers.
    ValueError
        If it is not one offset of `ndim` numbers for each channel, if one joins a voxel with itself, or if
        two are the same.

    Examples
    --------
    >>> checked([[-1, 0], [0, 1]], 2)
    ((-1, 0), (0, 1))
    >>> checked([[-1, 0], [0, 0]], 2)
    Traceback (most recent call last):
    ValueError: neighborhood: found [0, 0], expected offsets to other voxels
    """
    each = f"one offset of {ndim} whole numbers, not all 0, for each {'of ' * bool(channels)}"
    expected = f"expected {each}{f'{channels} channels' if channels else 'channel'}"
    try:
        offsets = np.asarray(neighborhood)
    except ValueError:
        raise ValueError(f"{name}: found offsets of several lengths, {expected}") from None
    if offsets.dtype.kind not in "iu" and offsets.size:
        raise TypeError(f"{name}: found dtype {offsets.dtype}, {shown(neighborhood)}, expected integers")
    if offsets.ndim != 2 or offsets.shape[1] != ndim or len(offsets) == 0:
        raise ValueError(
            f"{name}: found shape {offsets.shape}, expected (n, {ndim}) offsets of the axes "
            f"{', '.join(spatial_dims(ndim))}"
        )
    found: Offsets = tuple(tuple(map(int, offset)) for offset in offsets)
    if channels is not None and len(found) != channels:
        raise ValueError(f"{name}: found {len(found)} offsets, {shown(_plain(found))}, {expected}")
    for place, offset in enumerate(found):
        if not any(offset):
            raise ValueError(f"{name}: found {list(offset)}, expected offsets to other voxels")
        if offset in found[:place]:
            raise ValueError(f"{name}: found {list(offset)} twice, expected another offset for each channel")
    return found


def agreed(
    option: Any,
    stated: Any,
    channels: int,
    ndim: int,
    *,
    where: str = f"the attribute {KEY!r} of the affinities",
) -> Offsets:
    """The neighborhood of affinities, from what is said and what stands in their attributes.

    Parameters
    ----------
    option
        What the caller says; None for nothing.
    stated
        What the attributes say; None for nothing.
    channels, ndim
        Numbers of channels and of spatial axes of the affinities.
    where
        What the message calls the place of what is stated.

    Raises
    ------
    TypeError, ValueError
        If either is no neighborhood of these channels, if they differ, or if nothing is said and there are
        not as many channels as axes.

    Examples
    --------
    >>> agreed(None, None, 2, 2)
    ((-1, 0), (0, -1))
    >>> agreed([[-1, 0], [0, -1]], [[1, 0], [0, 1]], 2, 2)
    Traceback (most recent call last):
    ValueError: neighborhood: found [[-1, 0], [0, -1]], but the attribute 'neighborhood' of the affinities \
says [[1, 0], [0, 1]]; expected the same
    """
    given = None if option is None else checked(option, ndim, channels)
    if stated is not None:
        said = checked(stated, ndim, channels, name=where)
        if given not in (None, said):
            raise ValueError(
                f"{KEY}: found {_plain(given)}, but {where} says {_plain(said)}; expected the same"
            )
        return said
    if given is not None:
        return given
    if channels != ndim:
        raise ValueError(
            f"found {channels} channels, expected {ndim} for the direct lower neighbours along "
            f"{', '.join(spatial_dims(ndim))}, or a {KEY} that says which offset each of them joins"
        )
    return default_neighborhood(ndim)


def lifted(offsets: Offsets) -> tuple[tuple[int, int, int], ...]:
    """Offsets z, y, x, as kernels take them: (-1, 0) becomes (0, -1, 0)."""
    padded = [(0,) * (3 - len(offset)) + offset for offset in offsets]
    return tuple((z, y, x) for z, y, x in padded)


# What stands in attributes


def frozen(stated: Any) -> Any:
    """What an attribute holds, as something that can be compared and hashed: lists become tuples."""
    return tuple(map(frozen, stated)) if isinstance(stated, list | tuple) else stated


def stated_by(volume: Any) -> Any:
    """What the attributes of a DataArray say of the channels it has; None for nothing.

    Affinities that were opened or made here number their channels, so that a part of them, or another order,
    is still known.
    """
    stated = volume.attrs.get(KEY) if isinstance(volume, xr.DataArray) else None
    if stated is None or "channel" not in volume.coords or volume.coords["channel"].ndim != 1:
        return stated
    numbers = volume.coords["channel"].values
    if numbers.dtype.kind in "iu" and np.ndim(stated) and numbers.min() >= 0 and numbers.max() < len(stated):
        return [stated[number] for number in numbers]
    return stated


def noted(volume: xr.DataArray, stated: Any) -> xr.DataArray:
    """Affinities whose attributes say what their channels join."""
    return volume.assign_coords(channel=np.arange(len(volume))).assign_attrs({KEY: _plain(stated)})


def attributes(stated: Any) -> dict[str, Any]:
    """What is written beside affinities of a neighborhood; nothing where none is stated.

    Examples
    --------
    >>> attributes(((-1, 0), (0, -1)))
    {'neighborhood': [[-1, 0], [0, -1]]}
    """
    return {} if stated is None else {KEY: _plain(stated)}


def written(volume: xr.DataArray, stated: Any) -> dict[str, Any]:
    """What is written beside a volume of which a neighborhood is stated, checked against its channels."""
    if volume.dims[0] != "channel" or stated is None:
        return {}
    return attributes(checked(stated, volume.ndim - 1, len(volume), name=f"attribute {KEY!r}"))


def on_coarser_level(stated: Any) -> Any:
    """What holds of affinities at a coarser level: direct neighbours stay such, other offsets do not."""
    try:
        far = any(sum(map(abs, offset)) != 1 for offset in stated)
    except TypeError:  # nothing, or no offsets, as whoever uses them will say
        return stated
    return None if far else stated


def without(attributes: Mapping[Any, Any]) -> dict[Any, Any]:
    """Attributes for what has other channels."""
    return {key: value for key, value in attributes.items() if key != KEY}


# The direct neighbours


@dataclass(frozen=True)
class Direct:
    """Where the affinities to the direct lower neighbours are, one entry an axis.

    Attributes
    ----------
    channels
        Number of the channel; None where there is none.
    forward
        Whether it joins each voxel with the next one instead.
    """

    channels: tuple[int | None, ...]
    forward: tuple[bool, ...]

    @property
    def is_default(self) -> bool:
        """Whether they are the first channels, in the order of the axes."""
        return self.channels == tuple(range(len(self.channels))) and not any(self.forward)

    @property
    def reach(self) -> tuple[int, ...]:
        """Voxels before a region, along each axis, that have affinities of its voxels."""
        return tuple(map(int, self.forward))


def direct_for(offsets: Offsets, shape: Sequence[int], *, sections: bool = False) -> Direct:
    """Which channels join direct neighbours; the lower one, where there are both along an axis.

    Parameters
    ----------
    offsets
        What each channel joins.
    shape
        Of the volume: along an axis of one voxel nothing is to be joined.
    sections
        Whether nothing is to be joined along z.

    Raises
    ------
    ValueError
        If there is no channel for an axis.

    Examples
    --------
    >>> direct_for(((0, 1), (-3, 0), (-1, 0)), (50, 50))
    Direct(channels=(2, 0), forward=(False, True))
    """
    axes = spatial_dims(len(shape))
    channels: list[int | None] = []
    forward: list[bool] = []
    for axis, lower in enumerate(default_neighborhood(len(shape))):
        upper = tuple(-step for step in lower)
        found = next((offset for offset in (lower, upper) if offset in offsets), None)
        if found is None and shape[axis] > 1 and not (sections and axes[axis] == "z"):
            raise ValueError(
                f"{KEY}: found {_plain(offsets)}, without a direct neighbour along {axes[axis]}; expected a "
                f"channel that joins {_plain(lower)} or {_plain(upper)}"
            )
        channels.append(None if found is None else offsets.index(found))
        forward.append(found == upper)
    return Direct(tuple(channels), tuple(forward))


class _Reader(Protocol):
    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def origin(self) -> tuple[int, ...]: ...

    def read(self, region: Region) -> np.ndarray: ...


@dataclass(frozen=True)
class DirectReader:
    """Reads affinities to the direct lower neighbours, one channel an axis, whatever channels there are.

    Where there is nothing below a voxel, in what is stored, an affinity to the voxel after it gives 0. Also
    where an axis has no channel.
    """

    reader: _Reader
    direct: Direct

    @property
    def shape(self) -> tuple[int, ...]:
        """Spatial shape, in voxels."""
        return self.reader.shape

    @property
    def origin(self) -> tuple[int, ...]:
        """Where it begins in the stored volume."""
        return self.reader.origin

    def read(self, region: Region) -> np.ndarray:
        """The affinities of `region`, ``(axis, [z,] y, x)``: a view of what is read, where it can be one."""
        if self.direct.is_default:
            return self.reader.read(region)[: len(region)]
        # What is stored before a crop is no part of it, and there all the same.
        before = [
            min(reach, s.start + o)
            for reach, s, o in zip(self.direct.reach, region, self.reader.origin, strict=True)
        ]
        values = self.reader.read(
            tuple(slice(s.start - b, s.stop) for s, b in zip(region, before, strict=True))
        )
        out = np.zeros((len(region), *(s.stop - s.start for s in region)), values.dtype)
        for axis, channel in enumerate(self.direct.channels):
            if channel is not None:
                source, target = [slice(b, None) for b in before], [slice(None)] * len(region)
                if self.direct.forward[axis]:
                    source[axis], target[axis] = slice(0, -1), slice(1 - before[axis], None)
                out[axis][tuple(target)] = values[channel][tuple(source)]
        return out


def _plain(stated: Any) -> Any:
    """Lists for tuples."""
    return list(map(_plain, stated)) if isinstance(stated, list | tuple) else stated
