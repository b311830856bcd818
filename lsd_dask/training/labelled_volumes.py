"""Volumes to train on: raw data with labels, and what of the labels is known, sparse or to be ignored."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr

from ..checks.arguments import check_array, check_axes, naming
from ..checks.id_lists import ids_of
from ..space.grids import Grid, mirrored, spatial_dims
from ..volumes.saving import grid_of
from ..volumes.voxel_values import (
    as_ids,
    as_mask,
    check_labels,
    check_mask_type,
    check_not_negative,
    check_raw_values,
    full_scale,
    sample_regions,
    say_if_faint,
)

#: Volumes that together take less than this are read into memory once.
MEMORY_LIMIT = 2**31

#: gunpowder compares labels as numbers of 32 bits.
_LARGEST_LABEL = 2**31


@dataclass(frozen=True)
class Labels:
    """A box of labels and what is known there, all of one shape.

    Attributes
    ----------
    objects
        Object ids; 0 for background, for ignored objects, and for what is not labelled.
    known
        uint8, 0 where it is not known what is there: nothing is learnt from it.
    labelled
        uint8, 0 where no object is labelled though there may be one: what is learnt is that it is none of the
        labelled ones.
    ignored
        uint8, 1 in objects to be ignored: their affinities and descriptors are learnt to be 0.
    """

    objects: np.ndarray
    known: np.ndarray
    labelled: np.ndarray
    ignored: np.ndarray

    @property
    def fraction(self) -> float:
        """The fraction of voxels that are known and labelled."""
        return float(np.mean(self.known * self.labelled))


@dataclass(frozen=True, eq=False)
class TrainingVolume:
    """Raw data with labels.

    Parameters
    ----------
    raw : DataArray
        ([channel,] z, y, x) or ([channel,] y, x): uint8, uint16, or float from 0 to 1. May reach farther than
        the labels; where it does not, it is mirrored.
    labels : DataArray
        Integers from 0 on, 0 = background, with voxels of the size of those of the raw data.
    mask : DataArray, optional
        0 where the labels are not known; it covers the labels.
    labelled_ids : iterable of int, optional
        Of sparse labels, the objects that are labelled; all others count as not labelled.
    ignored_ids : iterable of int, optional
        Objects whose affinities and descriptors the network shall predict as 0, such as glia.
    unlabelled_background : bool, optional
        Whether label 0 stands for what is not labelled, rather than for membranes and the like.
    probability : float, optional
        How often samples are drawn from it, relative to the other volumes.
    name : str, optional
        For messages.

    Raises
    ------
    TypeError
        If labels or ids are not integers, or raw data or mask are of another dtype.
    ValueError
        If voxel sizes differ or voxels lie between each other, or labels reach out of the raw data or the
        mask.

    Examples
    --------
    >>> from lsd_dask.volumes.dask_arrays import label
    >>> from lsd_dask.space.grids import Grid
    >>> grid = Grid(("y", "x"), (2, 4), (4, 4), (0, 0))
    >>> volume = TrainingVolume(
    ...     label(np.zeros((2, 4), np.uint8), grid),
    ...     label(np.array([[5, 5, 0, 9], [5, 0, 9, 9]]), grid),
    ...     ignored_ids=[9],
    ... )
    >>> volume.read_labels((0, 0), (2, 4)).objects
    array([[5, 5, 0, 0],
           [5, 0, 0, 0]])
    """

    raw: xr.DataArray
    labels: xr.DataArray
    mask: xr.DataArray | None = None
    labelled_ids: np.ndarray | Iterable[int] | None = None
    ignored_ids: np.ndarray | Iterable[int] = ()
    unlabelled_background: bool = False
    probability: float = 1.0
    name: str = "volume"
    _origins: dict[str, tuple[int, ...]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        with naming(self.name):
            check_array(self.raw, "raw")
            check_axes(self.raw, "raw", channel=self.channels is not None)
            full_scale(self.raw.dtype)
            check_labels(self.labels, "labels")
            origins = {"labels": (0,) * self.ndim, "raw": self._origin(self.raw, "raw")}
            if self.mask is not None:
                check_array(self.mask, "mask")
                check_mask_type(self.mask.dtype, "mask")
                check_axes(self.mask, "mask", channel=False)
                origins["mask"] = self._origin(self.mask, "mask")
                self._check_covered(self.mask, origins["mask"], "mask")
            self._check_covered(self.raw, origins["raw"], "raw")
            if not self.probability > 0:
                raise ValueError(f"probability: found {self.probability}, expected a number above 0")
            if self.labelled_ids is not None:
                object.__setattr__(self, "labelled_ids", ids_of(self.labelled_ids, "labelled_ids"))
            object.__setattr__(self, "ignored_ids", ids_of(self.ignored_ids, "ignored_ids"))
        object.__setattr__(self, "_origins", origins)

    @property
    def ndim(self) -> int:
        """Number of spatial axes."""
        return self.labels.ndim

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels of the labels."""
        return tuple(self.labels.shape)

    @property
    def channels(self) -> int | None:
        """Channels of the raw data; None if there is no such axis."""
        return int(self.raw.sizes["channel"]) if "channel" in self.raw.dims else None

    @cached_property
    def grid(self) -> Grid:
        """Where the labels lie."""
        return grid_of(self.labels)

    @property
    def voxel_size(self) -> tuple[float, ...]:
        """In world units, one number an axis."""
        return self.grid.voxel_size

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(array.nbytes for array in (self.raw, self.labels, self.mask) if array is not None)

    def loaded(self) -> "TrainingVolume":
        """The same with all arrays in memory."""
        mask = None if self.mask is None else self.mask.compute()
        return replace(self, raw=self.raw.compute(), labels=self.labels.compute(), mask=mask)

    def look(self) -> None:
        """Check voxels before any work: all that are in memory, and some of those that are not.

        Raises
        ------
        ValueError
            If labels are negative, or raw data or mask are not what they can be.
        """
        with naming(self.name):
            for part in _looked_at(self.labels, self.ndim):
                check_not_negative(part, "labels")
            if self.mask is not None:
                for part in _looked_at(self.mask, self.ndim):
                    as_mask(part, "mask")
            parts = list(_looked_at(self.raw, self.ndim))
            for part in parts:
                check_raw_values(part, "raw")
        say_if_faint(parts, self.raw.dtype, f"{self.name}: raw")

    def sections(self) -> list["TrainingVolume"]:
        """The z sections of a 3-D volume as 2-D ones, for networks in 2-D."""
        begin, count = self._origins["raw"][0], self.shape[0]
        mask_begin = self._origins["mask"][0] if self.mask is not None else 0
        return [
            replace(
                self,
                raw=self.raw.isel(z=z - begin),
                labels=self.labels.isel(z=z),
                mask=None if self.mask is None else self.mask.isel(z=z - mask_begin),
                probability=self.probability / count,
                name=f"{self.name}, section {z}",
            )
            for z in range(count)
        ]

    def read_raw(self, begin: Sequence[int], end: Sequence[int]) -> np.ndarray:
        """Raw data of a box, in voxels of the labels, scaled to the range from 0 to 1.

        Parameters
        ----------
        begin, end : sequence of int
            Corners of the box. Beyond its faces, the volume is mirrored.

        Returns
        -------
        (channel, z, y, x) or (channel, y, x) ndarray of float32
        """
        origin, shape = self._origins["raw"], self.raw.shape[-self.ndim :]
        wanted = [
            mirrored(np.arange(b - o, e - o), n) for b, e, o, n in zip(begin, end, origin, shape, strict=True)
        ]
        box = tuple(slice(int(w.min()), int(w.max()) + 1) for w in wanted)
        found = _read(self.raw, box)
        with naming(self.name):
            check_raw_values(found, "raw")
        found = found[(..., *np.ix_(*(w - s.start for w, s in zip(wanted, box, strict=True))))]
        scaled = found.astype(np.float32) / np.float32(full_scale(self.raw.dtype))
        return scaled if self.channels is not None else scaled[None]

    def read_labels(self, begin: Sequence[int], end: Sequence[int]) -> Labels:
        """Labels of a box, in voxels; beyond the faces of the volume nothing is known."""
        known = inside = self._padded("labels", None, begin, end)
        with naming(self.name):
            labels = as_ids(self._padded("labels", self.labels, begin, end), "labels")
            if self.mask is not None:
                known = as_mask(self._padded("mask", self.mask, begin, end), "mask")
        ignored = np.isin(labels, ids_of(self.ignored_ids, "ignored_ids"))
        labelled = np.ones_like(known)
        if self.labelled_ids is not None:
            labelled = np.isin(labels, ids_of(self.labelled_ids, "labelled_ids"))
        if self.unlabelled_background:
            labelled = labelled & (labels != 0)
        ignored &= inside
        objects = np.where(labelled & ~ignored, labels, 0)
        return Labels(
            _of_32_bits(objects),
            known.astype(np.uint8),
            (labelled | ignored).astype(np.uint8),
            ignored.astype(np.uint8),
        )

    def _padded(
        self, what: str, array: xr.DataArray | None, begin: Sequence[int], end: Sequence[int]
    ) -> np.ndarray:
        """The voxels of a box, with 0 around the volume; for no array, where the volume is."""
        shape = self.shape if array is None else array.shape
        low = [b - o for b, o in zip(begin, self._origins[what], strict=True)]
        high = [e - o for e, o in zip(end, self._origins[what], strict=True)]
        box = tuple(
            slice(min(max(b, 0), n), min(max(e, 0), n)) for b, e, n in zip(low, high, shape, strict=True)
        )
        padded = np.zeros(
            [h - b for b, h in zip(low, high, strict=True)], np.bool_ if array is None else array.dtype
        )
        if all(s.stop > s.start for s in box):
            place = tuple(slice(s.start - b, s.stop - b) for s, b in zip(box, low, strict=True))
            padded[place] = True if array is None else _read(array, box)
        return padded

    def _origin(self, array: xr.DataArray, what: str) -> tuple[int, ...]:
        """The first voxel of an array, in voxels of the labels."""
        own, stated = self.grid, grid_of(array)
        if own.dims != stated.dims:
            raise ValueError(
                f"{what}: found the axes {stated.dims}, expected those of the labels, {own.dims}"
            )
        with naming(what):
            other = stated.in_units_of(own)
        if not other.has_voxels_of(own):
            raise ValueError(
                f"{what}: found voxels of {stated.voxel_size} {stated.units}, expected those of the labels, "
                f"{own.voxel_size} {own.units}"
            )
        distance = (np.array(other.offset) - own.offset) / own.voxel_size
        if np.any(np.abs(distance - np.round(distance)) > 1e-3):
            raise ValueError(
                f"{what}: found the offset {other.offset}, expected whole voxels from that of the labels, "
                f"{own.offset}"
            )
        return tuple(int(d) for d in np.round(distance))

    def _check_covered(self, array: xr.DataArray, origin: Sequence[int], what: str) -> None:
        shape = array.shape[-self.ndim :]
        if any(o > 0 or o + n < m for o, n, m in zip(origin, shape, self.shape, strict=True)):
            raise ValueError(
                f"{what}: found {grid_of(array).box}, which does not cover the labels, "
                f"{grid_of(self.labels).box}"
            )


def prepare_volumes(
    volumes: Sequence[TrainingVolume],
    *,
    dims: int,
    channels: int,
    voxel_size: Sequence[float],
    units: str = "nanometer",
    shape: Sequence[int],
) -> list[TrainingVolume]:
    """Check volumes against a network, and bring them to its number of axes.

    Parameters
    ----------
    volumes : sequence of TrainingVolume
        Those of 3-D are cut into sections for a network in 2-D.
    dims, channels : int
        Axes of the network, and channels of its input.
    voxel_size : sequence of float
        What the network is trained for, one number an axis.
    units : str, optional
        That these are in.
    shape : sequence of int
        Of the output of the network while it is trained, in voxels.

    Returns
    -------
    list of TrainingVolume
        In memory, if they are not too large for it.

    Raises
    ------
    ValueError
        If there is no volume, or one does not fit, or holds what labels, raw data or masks cannot be; the
        message names it.
    """
    if not volumes:
        raise ValueError("volumes: found none, expected at least one")
    network = Grid(spatial_dims(dims), (1,) * dims, tuple(voxel_size), (0.0,) * dims, units)
    for volume in volumes:
        with naming(volume.name):
            _check_fits(volume, network, channels, shape)
    if sum(volume.nbytes for volume in volumes) <= MEMORY_LIMIT:
        volumes = [volume.loaded() for volume in volumes]
    for volume in volumes:
        volume.look()
    if dims == 3:
        return list(volumes)
    return [part for volume in volumes for part in (volume.sections() if volume.ndim == 3 else [volume])]


def _check_fits(volume: TrainingVolume, network: Grid, channels: int, shape: Sequence[int]) -> None:
    dims = network.ndim
    if volume.ndim < dims:
        raise ValueError(f"found {volume.ndim} axes, expected the {dims} of the network")
    found = volume.channels or 1
    if found != channels:
        raise ValueError(f"raw: found {found} channels, expected the {channels} of the network")
    own = volume.grid.last(network.ndim)
    with naming("voxels"):
        told = own.in_units_of(network)
    if not np.allclose(told.voxel_size, network.voxel_size, rtol=1e-3, atol=0):
        raise ValueError(
            f"found voxels of {own.voxel_size} {own.units}, expected {network.voxel_size} {network.units}, "
            "those the network is trained for"
        )
    if any(n < m for n, m in zip(volume.shape[-dims:], shape, strict=True)):
        raise ValueError(
            f"labels: found {volume.shape[-dims:]} voxels, expected at least {tuple(shape)}, the output of "
            "the network; train with a smaller shape"
        )


def _looked_at(array: xr.DataArray, ndim: int) -> Iterator[np.ndarray]:
    """All voxels of an array in memory; some of one that is not."""
    if isinstance(array.data, np.ndarray):
        yield array.data
        return
    for region in sample_regions(array.shape[-ndim:]):
        yield _read(array, region)


def _read(array: xr.DataArray, box: tuple[slice, ...]) -> np.ndarray:
    part: Any = array.data[(..., *box)]
    # In this thread: samples are small, and there is nothing to gain from dask's.
    return part if isinstance(part, np.ndarray) else part.compute(scheduler="synchronous")


def _of_32_bits(labels: np.ndarray) -> np.ndarray:
    """The same objects, numbered anew if their ids are too large."""
    if labels.dtype.itemsize > 2 and labels.size and labels.max() >= _LARGEST_LABEL:
        ids, numbers = np.unique(labels, return_inverse=True)
        return (numbers.reshape(labels.shape) + int(ids[0] != 0)).astype(np.int64)
    return labels.astype(np.int64)
