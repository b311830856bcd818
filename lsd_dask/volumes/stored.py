"""Volumes on disk: handles that pickle small, open their array lazily, and read and write boxes of voxels.

A `StoredVolume` says where an array lies and what it looks like; it holds no open file. Any process that
unpickles one can read a box, halo included, in a single call, and write boxes that are made of whole shards.
"""

import errno
import gzip
import hashlib
import itertools
import lzma
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Literal

import numpy as np
import zarr
from numpy.typing import NDArray

from ..checks.arguments import check_array, naming
from ..space.grids import Grid, Region
from ..storage import files
from ..storage.stores import is_remote, retried
from ..storage.zarr_stores import opened_with
from .formats.decoding import bounded
from .formats.zarr_boxes import read_box, write_box

#: Attribute of an array that says which run wrote it: see `lsd_dask.segmentation.derivation`.
MARK = "lsd_dask"

# What codecs and zarr raise for bytes that are not what they wrote, such as places outside of a shard.
_DAMAGED = (
    *(ValueError, TypeError, LookupError, ArithmeticError, AssertionError, RuntimeError, EOFError),
    *(zlib.error, lzma.LZMAError, gzip.BadGzipFile),
)


@dataclass(frozen=True)
class StoredVolume:
    """An array in a zarr container, as a volume.

    Parameters
    ----------
    path : str
        Container and array in one: an absolute path or a URL.
    grid : Grid
        Shape, voxel size and place of the spatial axes.
    dims : tuple of str
        Names of all axes: those of the grid, after ``"channel"`` where there are channels.
    shape : tuple of int
        Shape over `dims`.
    dtype : numpy.dtype
        Element type; nothing is converted on reading or writing.
    write_shape : tuple of int
        Spatial shape of the smallest unit that may be written: a shard, or a chunk where there are no shards.
    fingerprint : str
        Digest of how a zarr array is stored, so that one that replaced it is not taken for it.
    stored_dims : tuple of str or None
        The axes in the order in which they are stored, if that is not the order of `dims`; None for each axis
        of length one, such as time, that the stored array has and the volume does not.
    neighborhood : tuple of tuple of int or None
        What its attributes say of affinities, as it stands there: see `lsd_dask.space.neighborhoods`.
    run : str, optional
        Name of the run that wrote it, where that is known.

    Examples
    --------
    >>> from lsd_dask.volumes.saving import create_volume
    >>> path = "memory://doc.zarr/labels"
    >>> stored = create_volume(path, (4, 6), "uint64", block_shape=(4, 4), overwrite=True)
    >>> stored.write((slice(0, 4), slice(4, 6)), np.ones((4, 2), dtype="uint64"))
    >>> stored.read((slice(0, 1), slice(2, 6)))
    array([[0, 0, 1, 1]], dtype=uint64)
    """

    path: str
    grid: Grid
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    write_shape: tuple[int, ...]
    fingerprint: str = ""
    stored_dims: tuple[str | None, ...] = ()
    neighborhood: Any = None
    run: str | None = None

    #: Whether all of it has to be written by one process.
    one_writer: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """Name of the array, the last part of its path."""
        return self.path.rsplit("/", 1)[-1]

    @property
    def ndim(self) -> int:
        """Number of axes, channels included."""
        return len(self.shape)

    @property
    def channels(self) -> int | None:
        """Number of channels; None where the volume has no channel axis."""
        return self.shape[0] if self.ndim > self.grid.ndim else None

    @property
    def read_shape(self) -> tuple[int, ...]:
        """Spatial shape to read at once: whole shards, grouped to about 128 voxels an axis (1024 in 2-D)."""
        side = 1024 if self.grid.ndim == 2 else 128
        shape = [unit * max(1, round(side / unit)) for unit in self.write_shape]
        while math.prod(shape) > 2**26:
            largest = shape.index(max(shape))
            shape[largest] = -(-shape[largest] // 2)
        return tuple(min(a, max(n, 1)) for a, n in zip(shape, self.grid.shape, strict=True))

    def read(self, region: Region, channels: slice | None = None) -> NDArray[Any]:
        """Read a box of voxels.

        Parameters
        ----------
        region : tuple of slice
            One slice per spatial axis, in voxels.
        channels : slice, optional
            The channels to read; by default all.

        Returns
        -------
        ([C, ]z, y, x) ndarray
            The voxels, in the dtype of the volume.

        Raises
        ------
        ValueError
            If the region is not a box inside the volume, or what is stored of it is damaged or cut short.
        """
        region = self._checked(region)
        wanted = region if self.channels is None else (channels or slice(None), *region)
        selection = tuple(slice(*part.indices(n)[:2]) for part, n in zip(wanted, self.shape, strict=True))
        extents = [max(0, part.stop - part.start) for part in selection]
        if 0 in extents:
            return np.empty(extents, dtype=self.dtype)
        voxels = self._load(self._as_stored(selection))
        order = [dim for dim in self.stored_dims if dim is not None]
        if not order or order == list(self.dims):
            return voxels
        return np.ascontiguousarray(voxels.transpose([order.index(dim) for dim in self.dims]))

    def write(self, region: Region, array: NDArray[Any]) -> None:
        """Write a box of voxels made of whole shards.

        Two tasks that write into the same shard would lose one another's voxels, silently. Hence a region
        must begin at a multiple of `write_shape` and end at one, or at the end of the volume.

        Parameters
        ----------
        region : tuple of slice
            One slice per spatial axis, in voxels.
        array : ([C, ]z, y, x) ndarray
            The voxels, in the dtype of the volume, with all its channels.

        Raises
        ------
        TypeError
            If `array` is no array.
        ValueError
            If the region lies outside the volume or covers a shard in part, or if the shape or dtype of
            `array` is not that of the region. Nothing has been written then.
        """
        region = self._checked(region)
        self._check_alignment(region)
        with naming(self.path):
            check_array(array, "array")
        expected = self.shape[: self.ndim - self.grid.ndim] + tuple(part.stop - part.start for part in region)
        if array.shape != expected:
            raise ValueError(f"{self.path}: the region has shape {expected}, but the array {array.shape}")
        if array.dtype != self.dtype:
            raise ValueError(f"{self.path}: the volume holds {self.dtype}, but the array {array.dtype}")
        if array.size:
            lead = tuple(slice(0, n) for n in self.shape[: self.ndim - self.grid.ndim])
            order = [self.dims.index(dim) for dim in self.stored_dims if dim is not None]
            self._store(self._as_stored(lead + region), array.transpose(order) if order else array)

    def shards(self, region: Region) -> list[str]:
        """Paths of the files that hold a box of a zarr array; those that are all zeros are not there.

        Parameters
        ----------
        region : tuple of slice
            One slice per spatial axis, in voxels.

        Returns
        -------
        list of str
        """
        array = _open_array(self.path, "r", self.fingerprint)
        return [f"{self.path}/{key}" for key in _keys(array, self._box_of(self._checked(region)))]

    def __getitem__(self, index: Any) -> NDArray[Any]:
        """Read as NumPy indexes, so that `dask.array.from_array` can take a stored volume.

        The box around the selection is read; all that is finer than a box is left to NumPy.
        """
        index = index if isinstance(index, tuple) else (index,)
        index = index + (slice(None),) * (self.ndim - len(index))
        boxes, rest = zip(*(_box(part, n) for part, n in zip(index, self.shape, strict=True)), strict=True)
        n_channel_axes = self.ndim - self.grid.ndim
        voxels = self.read(boxes[n_channel_axes:], *boxes[:n_channel_axes])
        return voxels[rest]

    def _checked(self, region: Region) -> Region:
        try:
            return self.grid.resolve(region)
        except ValueError as error:
            raise ValueError(f"{self.path}: {error}") from None

    def _as_stored(self, selection: tuple[slice, ...]) -> tuple[Any, ...]:
        """A selection of the volume, one of the array that is stored."""
        by_dim = dict(zip(self.dims, selection, strict=True))
        return tuple(0 if dim is None else by_dim[dim] for dim in self.stored_dims or self.dims)

    def _check_alignment(self, region: Region) -> None:
        for dim, part, unit, n in zip(self.grid.dims, region, self.write_shape, self.grid.shape, strict=True):
            if part.start % unit or (part.stop % unit and part.stop != n):
                nearest = f"{part.start // unit * unit}:{min(-(-part.stop // unit) * unit, n)}"
                raise ValueError(
                    f"{self.path}: voxels {part.start}:{part.stop} along {dim} cover a shard in part; "
                    f"write at multiples of {unit}, for instance {nearest}"
                )

    def _box_of(self, region: Region) -> Region:
        """A box of all channels, as one of the array that is stored."""
        lead = tuple(slice(0, n) for n in self.shape[: self.ndim - self.grid.ndim])
        parts = self._as_stored(lead + region)
        return tuple(part if isinstance(part, slice) else slice(part, part + 1) for part in parts)

    def _load(self, selection: tuple[Any, ...]) -> NDArray[Any]:
        """Read a box of what is stored, with its axes in the order in which they are stored."""
        array = _open_array(self.path, "r", self.fingerprint)
        try:
            # Of what was damaged on its way, the next try may get all.
            return retried(
                lambda: read_box(array, selection, in_pieces=not is_remote(self.path)),
                self.path,
                "reading voxels",
                _DAMAGED,
            )
        except (*_DAMAGED, MemoryError, OSError) as error:
            if isinstance(error, OSError) and not isinstance(error, _DAMAGED) and error.errno != errno.EINVAL:
                raise
            spatial = zip(self.stored_dims or self.dims, selection, strict=True)
            parts = {dim: part for dim, part in spatial if isinstance(part, slice)}
            box = ", ".join(f"{parts[dim].start}:{parts[dim].stop}" for dim in self.grid.dims)
            kind: Any = MemoryError if isinstance(error, MemoryError) else ValueError
            reason = str(error) or type(error).__name__
            raise kind(
                f"{self.path}: voxels [{box}] cannot be read ({reason}); was a file of the array cut short?"
            ) from error

    def _store(self, selection: tuple[Any, ...], voxels: NDArray[Any]) -> None:
        """Write a box of what is stored, with its axes in the order in which they are stored."""
        array = _open_array(self.path, "r+", self.fingerprint)
        box = tuple(part if isinstance(part, slice) else slice(part, part + 1) for part in selection)
        content = voxels.reshape([part.stop - part.start for part in box])

        def write() -> None:
            write_box(array, box, content)

        try:
            retried(write, self.path, "writing voxels")
        except _DAMAGED:
            # At the end of a volume, zarr reads a shard before it replaces it, and stumbles over one that a
            # machine that went down left cut short. Nothing of it is needed, as the region holds it whole.
            for key in _keys(array, box):
                files.remove(f"{self.path}/{key}")
            retried(write, self.path, "writing voxels")


def fingerprint_of(array: zarr.Array[Any]) -> str:
    """Digest of how an array is stored: shape, dtype, chunks and codecs, but not its attributes.

    Parameters
    ----------
    array : zarr.Array

    Returns
    -------
    str
        16 hexadecimal digits.
    """
    metadata = {key: value for key, value in array.metadata.to_dict().items() if key != "attributes"}
    return hashlib.blake2b(repr(metadata).encode(), digest_size=8).hexdigest()


def run_in(attributes: Mapping[str, Any]) -> str | None:
    """Name of the run that wrote an array, from its attributes; None where they name none.

    Examples
    --------
    >>> run_in({"lsd_dask": {"run": "4f1c"}}), run_in({})
    ('4f1c', None)
    """
    mark = attributes.get(MARK)
    run = mark.get("run") if isinstance(mark, Mapping) else None
    return None if run is None else str(run)


@lru_cache(maxsize=64)
def _open_array(path: str, mode: Literal["r", "r+"], fingerprint: str) -> zarr.Array[Any]:
    array = retried(lambda: zarr.open_array(mode=mode, **opened_with(path, mode)), path, "opening the array")
    if fingerprint_of(array) != fingerprint:
        raise ValueError(
            f"{path}: the array was replaced by a different one since it was opened; open it anew"
        )
    return bounded(array)


def _keys(array: zarr.Array[Any], selection: Region) -> Iterator[str]:
    """Names of the shards that hold a box of an array."""
    units = array.shards or array.chunks
    touched = (range(s.start // n, -(-s.stop // n)) for s, n in zip(selection, units, strict=True))
    yield from map(array.metadata.encode_chunk_key, itertools.product(*touched))


def _box(index: Any, n: int) -> tuple[slice, Any]:
    """Split an index along an axis of length n into a box and what remains to be indexed within that box.

    >>> _box(slice(8, 2, -2), 10)
    (slice(4, 9, None), slice(4, None, -2))
    >>> _box(-1, 10)
    (slice(9, 10, None), 0)
    """
    if isinstance(index, slice):
        indices = range(*index.indices(n))
        if not indices:
            return slice(0, 0), slice(None)
        low, high = min(indices[0], indices[-1]), max(indices[0], indices[-1])
        return slice(low, high + 1), slice(indices[0] - low, None, indices.step)
    if isinstance(index, int | np.integer):
        start = range(n)[index]
        return slice(start, start + 1), 0
    return slice(0, n), index


def chunk_shape_for(block_shape: Sequence[int]) -> tuple[int, ...]:
    """Choose the inner chunks of a shard: what viewers fetch at once.

    Parameters
    ----------
    block_shape : sequence of int
        Spatial shape of the shard.

    Returns
    -------
    tuple of int
        Per axis 64 (512 in 2-D) where that divides the block, else the largest divisor between a quarter and
        twice of that, else the whole block.
    """
    preferred = 512 if len(block_shape) == 2 else 64
    return tuple(_inner_chunk(extent, preferred) for extent in block_shape)


def _inner_chunk(extent: int, preferred: int) -> int:
    if extent % preferred == 0:
        return preferred
    candidates = range(min(2 * preferred, extent), preferred // 4 - 1, -1)
    return next((size for size in candidates if extent % size == 0), extent)
