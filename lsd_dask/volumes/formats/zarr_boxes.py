"""Boxes of zarr arrays, read and written in little more memory than the voxels themselves take.

Left alone, zarr works on as many chunks at once as a slow network wants. What it reads is then there twice,
as chunks and as the box that these are copied to, and so is what it writes.
"""

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.buffer.cpu import NDBuffer

#: Boxes of fewer bytes are read in one go.
SMALL = 1 << 24

#: Chunks that are compressed at once. More than the threads of a worker need is memory for nothing.
COMPRESSED_AT_ONCE = 4

_lock = threading.Lock()
_writers = 0
_setting: Any = None


def read_box(array: zarr.Array[Any], selection: tuple[int | slice, ...], *, in_pieces: bool) -> NDArray[Any]:
    """Read a box of an array.

    Parameters
    ----------
    array : zarr.Array
    selection : tuple of int or slice
        One for each axis; slices have a start and a stop, and no step.
    in_pieces : bool
        Whether a large box is read piece by piece, each of whole chunks, so that the chunks of one piece are
        all that is there beside the result. Takes as long on a disk; an object store would be asked for each
        chunk of a shard by itself.

    Returns
    -------
    ndarray

    Examples
    --------
    >>> array = zarr.array(np.arange(12).reshape(4, 3), chunks=(2, 3))
    >>> read_box(array, (slice(1, 4), 2), in_pieces=True)
    array([ 5,  8, 11])
    """
    with _one_error():
        return _read(array, selection, in_pieces)


def _read(array: zarr.Array[Any], selection: tuple[int | slice, ...], in_pieces: bool) -> NDArray[Any]:
    if not in_pieces or _bytes(array, selection) <= SMALL:
        return np.asarray(array[selection])
    result = np.empty(_shape(selection), array.dtype)
    for piece in _pieces(array, selection):
        place = tuple(
            slice(part.start - whole.start, part.stop - whole.start)
            for part, whole in zip(piece, selection, strict=True)
            if isinstance(part, slice) and isinstance(whole, slice)
        )
        array.get_basic_selection(piece, out=NDBuffer.from_ndarray_like(result[place]))
    return result


def write_box(array: zarr.Array[Any], selection: tuple[slice, ...], voxels: NDArray[Any]) -> None:
    """Write a box of an array.

    Parameters
    ----------
    array : zarr.Array
    selection : tuple of slice
        One for each axis, with a start and a stop, and no step.
    voxels : ndarray
        Of the shape of the selection.

    Examples
    --------
    >>> array = zarr.zeros((2, 4), chunks=(2, 2), dtype="uint8")
    >>> write_box(array, (slice(0, 2), slice(2, 4)), np.ones((2, 2), np.uint8))
    >>> array[0]
    array([0, 0, 1, 1], dtype=uint8)
    """
    with _few_at_once(), _one_error():
        array[selection] = voxels


@contextmanager
def _one_error() -> Iterator[None]:
    """Raise the first error of a group by itself: tasks that read the chunks of a shard fail together."""
    try:
        yield
    except ExceptionGroup as group:
        error: Exception = group
        while isinstance(error, ExceptionGroup):
            error = error.exceptions[0]
        raise error from group


def _pieces(array: zarr.Array[Any], selection: tuple[int | slice, ...]) -> Iterator[tuple[int | slice, ...]]:
    """Cut a box between chunks, along the first axes, into boxes of at most `SMALL` bytes if that can be."""
    if _bytes(array, selection) > SMALL:
        for axis, (part, chunk) in enumerate(zip(selection, array.chunks, strict=True)):
            if isinstance(part, slice) and part.stop > (part.start // chunk + 1) * chunk:
                for layer in _layers(part, chunk):
                    yield from _pieces(array, (*selection[:axis], layer, *selection[axis + 1 :]))
                return
    yield selection


def _layers(part: slice, chunk: int) -> Iterator[slice]:
    """Cut a slice where chunks end: that of 3 to 9, for chunks of 4, into 3 to 4, 4 to 8 and 8 to 9."""
    start = part.start
    while start < part.stop:
        stop = min(part.stop, (start // chunk + 1) * chunk)
        yield slice(start, stop)
        start = stop


def _shape(selection: tuple[int | slice, ...]) -> tuple[int, ...]:
    return tuple(part.stop - part.start for part in selection if isinstance(part, slice))


def _bytes(array: zarr.Array[Any], selection: tuple[int | slice, ...]) -> int:
    return math.prod(_shape(selection)) * array.dtype.itemsize


@contextmanager
def _few_at_once() -> Iterator[None]:
    """Let zarr work on few chunks at once.

    zarr reads this from its configuration, which all threads share: the first one changes it and the last one
    puts it back.
    """
    global _writers, _setting
    with _lock:
        if _writers == 0:
            _setting = zarr.config.get("async.concurrency")
            zarr.config.set({"async.concurrency": min(COMPRESSED_AT_ONCE, _setting or COMPRESSED_AT_ONCE)})
        _writers += 1
    try:
        yield
    finally:
        with _lock:
            _writers -= 1
            if _writers == 0:
                zarr.config.set({"async.concurrency": _setting})
