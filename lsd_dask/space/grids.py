"""Where the voxels of a volume lie in the world, and how world boxes become regions of voxels."""

import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checks.arguments import real_numbers, shown
from .lengths import convert, lengths_in, likely_unit
from .units import UNKNOWN, can_convert, unit_name

#: A box of voxels: one slice per spatial axis.
type Region = tuple[slice, ...]

#: How far, in voxels, a world position may lie beside the voxel grid and still count as on it. World
#: positions come out of decimal fractions and JSON files, so equality would be too much to ask.
TOLERANCE = 1e-3

_DIMS = {2: ("y", "x"), 3: ("z", "y", "x")}


@dataclass(frozen=True)
class Grid:
    """Shape, voxel size and place of a volume; spatial axes only.

    Parameters
    ----------
    dims : tuple of str
        Names of the axes, ``("z", "y", "x")`` or ``("y", "x")``.
    shape : tuple of int
        Number of voxels per axis.
    voxel_size : tuple of float
        World units per voxel and axis.
    offset : tuple of float
        World position of the lower corner of the volume (not of the centre of its first voxel).
    units : str
        Unit of the world coordinates, for instance ``"nanometer"`` or ``"nm"``; ``"voxel"`` where nothing is
        known.

    Raises
    ------
    ValueError
        If the lengths differ, a voxel size is not a positive number or an offset no finite one.

    Examples
    --------
    >>> grid = Grid(("y", "x"), (100, 200), voxel_size=(8, 4), offset=(80, 0), units="nanometer")
    >>> grid.end
    (880.0, 800.0)
    >>> grid.region(offset=(160, 40), size=(80, 40))
    (slice(10, 20, None), slice(10, 20, None))
    >>> grid.crop((slice(10, 20), slice(10, 20))).offset
    (160.0, 40.0)
    """

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    voxel_size: tuple[float, ...]
    offset: tuple[float, ...]
    units: str = "nanometer"

    def __post_init__(self) -> None:
        object.__setattr__(self, "dims", tuple(self.dims))
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        object.__setattr__(self, "voxel_size", real_numbers("voxel_size", self.voxel_size))
        object.__setattr__(self, "offset", real_numbers("offset", self.offset))
        if self.dims not in _DIMS.values():
            raise ValueError(f"the spatial axes must be (z, y, x) or (y, x), not {_tuple(self.dims)}")
        for name in ("shape", "voxel_size", "offset"):
            self._check_length(name, getattr(self, name))
        if min(self.shape) < 0:
            raise ValueError(f"a shape cannot be negative, but is {_tuple(self.shape)}")
        if not all(np.isfinite(v) and v > 0 for v in self.voxel_size):
            raise ValueError(f"voxel sizes must be positive numbers, but are {_tuple(self.voxel_size)}")
        if not (isinstance(self.units, str) and self.units):
            raise ValueError(f"units must be the name of a unit, but are {shown(self.units)}")
        object.__setattr__(self, "units", unit_name(self.units))
        if not all(np.isfinite(o) for o in self.offset):
            raise ValueError(f"offsets must be finite numbers, but are {_tuple(self.offset)}")

    @property
    def ndim(self) -> int:
        """Number of spatial axes."""
        return len(self.dims)

    def in_units_of(self, other: "Grid") -> "Grid":
        """The same voxels, their size and place told in the units of another volume.

        Whatever compares two volumes, or divides lengths of one by those of the other, does this first.

        Parameters
        ----------
        other : Grid

        Returns
        -------
        Grid

        Raises
        ------
        ValueError
            If the units cannot be compared. Where one is ``"voxel"``, nothing is known but numbers: they are
            taken to be in the other's units if voxels are of the same size in both, and refused otherwise.

        Examples
        --------
        >>> affinities = Grid(("y", "x"), (100, 200), (0.008, 0.004), (0.08, 0), "micrometer")
        >>> mask = Grid(("y", "x"), (50, 100), (16, 8), (80, 0), "nanometer")
        >>> mask.in_units_of(affinities).voxel_size
        (0.016, 0.008)
        """
        if can_convert(self.units, other.units):
            return self.told_in(other.units)
        if UNKNOWN not in (self.units, other.units) or not self.has_voxels_of(other):
            raise ValueError(
                f"units: found voxels of {_tuple(self.voxel_size)} {self.units}, which cannot be compared "
                f"with those of {_tuple(other.voxel_size)} {other.units}: expected a known unit in both "
                "(lsd-dask convert --voxel-size ... --units ... tells one)"
            )
        return replace(self, units=other.units)

    def last(self, ndim: int) -> "Grid":
        """The last of its axes alone: those of a section."""
        first = self.ndim - ndim
        kept = {name: getattr(self, name)[first:] for name in ("shape", "voxel_size", "offset")}
        return replace(self, dims=_DIMS[ndim], **kept)

    def told_in(self, units: str) -> "Grid":
        """The same voxels, their size and place told in another unit; ValueError if that cannot be."""
        voxel_size, offset = (convert(each, self.units, units) for each in (self.voxel_size, self.offset))
        return replace(self, voxel_size=tuple(voxel_size), offset=tuple(offset), units=units)

    def has_voxels_of(self, other: "Grid") -> bool:
        """Whether the voxel sizes of both are the same numbers, but for rounding."""
        return self.dims == other.dims and bool(
            np.allclose(self.voxel_size, other.voxel_size, rtol=1e-6, atol=0)
        )

    def begins_like(self, other: "Grid") -> bool:
        """Whether voxels of the same index are the same voxel, of volumes in the same units."""
        shifts = zip(self.offset, other.offset, self.voxel_size, strict=True)
        return self.has_voxels_of(other) and all(abs(a - b) <= TOLERANCE * v for a, b, v in shifts)

    def lengths(self, name: str, values: Any) -> tuple[float, ...]:
        """What an option says, in the units of this volume.

        Parameters
        ----------
        name : str
            Of the option, for messages.
        values : sequence of float or str
            One an axis: numbers are in the units of the volume, text says its unit, such as ``"1.2 um"``.

        Returns
        -------
        tuple of float

        Raises
        ------
        ValueError
            If there is another number of them, one is no length, or one is in a unit that cannot be compared
            with that of the volume.

        Examples
        --------
        >>> Grid(("y", "x"), (100, 200), (8, 4), (0, 0)).lengths("block_size", ("0.4 um", 400))
        (400.0, 400.0)
        """
        numbers = lengths_in(self.units, name, values)
        self._check_length(name, numbers)
        return numbers

    @property
    def end(self) -> tuple[float, ...]:
        """World position of the upper corner, exclusive."""
        return tuple(o + n * v for o, n, v in zip(self.offset, self.shape, self.voxel_size, strict=True))

    @property
    def box(self) -> str:
        """The world box the volume fills, for messages."""
        return f"{_tuple(self.offset)} to {_tuple(self.end)} {self.units} ({', '.join(self.dims)})"

    def coords(self) -> dict[str, NDArray[np.float64]]:
        """World positions of the voxel centres of each axis: ``offset + (i + 0.5) * voxel_size``.

        Each is computed from its index, so that no rounding error adds up along an axis. As centres never
        touch the faces of voxels, the centres between two faces are those of the half-open box between them.
        """
        return {
            dim: o + (np.arange(n, dtype=np.float64) + 0.5) * v
            for dim, n, v, o in zip(self.dims, self.shape, self.voxel_size, self.offset, strict=True)
        }

    def region(self, offset: Sequence[float | str], size: Sequence[float | str]) -> Region:
        """Find the voxels of a world box.

        Parameters
        ----------
        offset, size : sequence of float or str
            Lower corner and extent of the box, one length per axis, as for `lengths`.

        Returns
        -------
        tuple of slice
            One slice per axis.

        Raises
        ------
        ValueError
            If a size is not positive, or the box does not lie on the voxel grid (to a thousandth of a voxel),
            or reaches out of the volume.
        """
        offset, size = self.lengths("offset", offset), self.lengths("size", size)
        if not all(np.isfinite(v) for v in (*offset, *size)):
            raise ValueError(
                f"offset and size must be finite numbers, but are {_tuple(offset)} and {_tuple(size)}"
            )
        if any(s <= 0 for s in size):
            raise ValueError(f"the size of a region must be positive in every axis, but is {_tuple(size)}")
        starts = (np.asarray(offset, dtype=float) - self.offset) / self.voxel_size
        extents = np.asarray(size, dtype=float) / self.voxel_size
        first, count = np.round(starts), np.maximum(np.round(extents), 1)
        hint = self._hint(offset, size)
        asked = f"the region with offset {_tuple(offset)} and size {_tuple(size)}"
        if np.any(np.abs(starts - first) > TOLERANCE) or np.any(np.abs(extents - count) > TOLERANCE):
            nearest_offset, nearest_size = self.offset + first * self.voxel_size, count * self.voxel_size
            raise ValueError(
                f"{asked} does not lie on the voxel grid "
                f"(voxel size {_tuple(self.voxel_size)}, origin {_tuple(self.offset)}); "
                f"nearest: offset {_tuple(nearest_offset)}, size {_tuple(nearest_size)}{hint}"
            )
        if np.any(first < 0) or np.any(first + count > self.shape):
            raise ValueError(f"{asked} reaches out of the volume, which fills {self.box}{hint}")
        return tuple(slice(int(a), int(a + n)) for a, n in zip(first, count, strict=True))

    def resolve(self, region: Region) -> Region:
        """Write a region out with explicit bounds, having checked that it lies inside the volume.

        Parameters
        ----------
        region : tuple of slice
            One slice of step 1 per axis, in voxels; ``slice(None)`` is the whole axis.

        Returns
        -------
        tuple of slice
            The same region; every ``start`` and ``stop`` is an int.

        Raises
        ------
        ValueError
            If the region has another number of axes, a step, or bounds outside the volume.
        """
        if not isinstance(region, tuple | list) or not all(isinstance(part, slice) for part in region):
            raise ValueError(f"a region is {self.ndim} slices of voxels, but found {shown(region)}")
        if len(region) != self.ndim:
            raise ValueError(f"a region of this volume needs {self.ndim} slices, but has {len(region)}")
        bounds = []
        for part, n in zip(region, self.shape, strict=True):
            start = _bound(part.start, 0, region)
            stop = _bound(part.stop, n, region)
            if part.step not in (None, 1) or not 0 <= start <= stop <= n:
                raise ValueError(
                    f"voxels {_slices(region)} are not a box inside a volume of {_tuple(self.shape)}"
                )
            bounds.append(slice(start, stop))
        return tuple(bounds)

    def crop(self, region: Region) -> "Grid":
        """Return the grid of a region of voxels of this volume.

        Parameters
        ----------
        region : tuple of slice
            As for `resolve`.

        Returns
        -------
        Grid
            Same voxel size, the region's shape and place.
        """
        region = self.resolve(region)
        return replace(
            self,
            shape=tuple(part.stop - part.start for part in region),
            offset=tuple(
                o + part.start * v for o, v, part in zip(self.offset, self.voxel_size, region, strict=True)
            ),
        )

    def _hint(self, offset: Sequence[float], size: Sequence[float]) -> str:
        """The unit in which a region that reaches out of the volume would lie in it, for messages."""

        def fits(factor: float) -> bool:
            first = (np.array(offset) * factor - self.offset) / self.voxel_size
            count = np.array(size) * factor / self.voxel_size
            beyond = (first < -TOLERANCE) | (first + count > np.array(self.shape) + TOLERANCE)
            return not beyond.any() and bool((count > 1 - TOLERANCE).all())

        unit = likely_unit(self.units, fits)
        return f'; in {unit} it would lie there: tell a unit, such as "{size[-1]:g} {unit}"' if unit else ""

    def _check_length(self, name: str, values: Sequence[float]) -> None:
        if len(values) != self.ndim:
            expected = f"{self.ndim} numbers ({', '.join(self.dims)})"
            raise ValueError(f"{name} needs {expected}, but has {len(values)}: {_tuple(values)}")


def spatial_dims(ndim: int) -> tuple[str, ...]:
    """Names of the spatial axes of a volume with `ndim` of them.

    Parameters
    ----------
    ndim : int
        2 or 3.

    Returns
    -------
    tuple of str

    Raises
    ------
    ValueError
        For any other number.
    """
    if ndim not in _DIMS:
        raise ValueError(f"a volume has 2 or 3 spatial axes, not {ndim}")
    return _DIMS[ndim]


def _tuple(values: Sequence[float] | Sequence[str] | NDArray[np.float64]) -> str:
    """Format for messages: ``(80, 0.5)`` rather than ``(np.float64(80.0), np.float64(0.5))``."""
    return "(" + ", ".join(v if isinstance(v, str) else f"{v:.10g}" for v in values) + ")"


def _bound(value: Any, default: int, region: Region) -> int:
    try:
        return default if value is None else operator.index(value)
    except TypeError:
        raise ValueError(f"voxels {_slices(region)} are no whole numbers") from None


def _slices(region: Region) -> str:
    return "[" + ", ".join(f"{s.start}:{s.stop}" + (f":{s.step}" if s.step else "") for s in region) + "]"


def mirrored(places: np.ndarray, size: int) -> np.ndarray:
    """Places on an axis of voxels that is mirrored at its ends, again and again; the end is not repeated.

    Examples
    --------
    >>> mirrored(np.arange(-3, 6), 3)
    array([1, 2, 1, 0, 1, 2, 1, 0, 1])
    """
    if size == 1:
        return np.zeros_like(places)
    period = 2 * (size - 1)
    folded = places % period
    return np.minimum(folded, period - folded)
