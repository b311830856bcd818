"""TIFF files: the axes they state, and their pages as planes of one volume.

The pages of a file are sections along z, in their order, unless the file says something else: OME-XML,
ImageJ, ScanImage and tifffile's own description are heeded. What is not along channels, z, y or x is refused
by name, and so is a file of which not every page has its place. Smaller copies of pages (pyramids,
thumbnails) are marked as such, and left aside.


References
----------
.. [1] TIFF 6.0, Adobe 1992
.. [2] https://docs.openmicroscopy.org/ome-model/latest/ome-tiff/specification.html
"""

import itertools
import json
import math
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tifffile
from numpy.typing import NDArray

from ...checks.arguments import naming
from .pixel_sizes import PixelSize, pixel_size_of, pixels_of
from .scanimage import axes_of_pages, settings_of

#: What TIFF files begin with: of either byte order, small and large.
SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

#: Letters of tifffile for the axes of a volume; I and Q are what has no name.
_DIMS = {"C": "channel", "Z": "z", "Y": "y", "X": "x"}
_UNNAMED = "IQ"
_NAMES = {"T": "time", "S": "colours, alpha", "I": "pages", "Q": "without a name", **_DIMS}

#: Whose metadata say what the pages of a file are; of all others, pages are sections.
_DESCRIBED = ("ome", "imagej", "scanimage", "mmstack", "ndtiff", "lsm", "stk", "fluoview", "nih", "shaped")

_NO_IMAGE = "this is no image that can be read, or one that was cut short"
_CUT_SHORT = "the file was cut short, or its metadata lie"

# What tifffile and decoders raise for bytes that are not what was written.
_DAMAGED = (
    ValueError,
    RuntimeError,
    OSError,
    LookupError,
    TypeError,
    ArithmeticError,
    struct.error,
    zlib.error,
)

type _Pages = list[tifffile.TiffPage]


@dataclass(frozen=True)
class Tiff:
    """How a TIFF file is a volume.

    Parameters
    ----------
    dims : tuple of str
        Names of the axes as stored, slowest first; axes of length one are left out, but for y and x.
    shape : tuple of int
        Their lengths.
    dtype : numpy.dtype
    planes : tuple of (str, int)
        File and page of each plane, in the order of the axes before those of a plane.
    plane_ndim : int
        How many of the last axes a page holds.
    offset : int or None
        Where the one page begins that all planes lie behind, one after the other; None for a page each.
    pixel_size : PixelSize
    """

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    planes: tuple[tuple[str, int], ...]
    plane_ndim: int
    offset: int | None
    pixel_size: PixelSize

    def read(self, box: Mapping[str, slice]) -> NDArray[Any]:
        """Read a box of voxels, one slice for each of `dims`; its axes are in the order channel, z, y, x."""
        selection = tuple(box[dim] for dim in self.dims)
        order = [self.dims.index(dim) for dim in _DIMS.values() if dim in self.dims]
        if self.offset is None:
            return np.ascontiguousarray(_read_planes(self, selection).transpose(order))
        file = self.planes[0][0]
        stored = np.memmap(file, _stored_dtype(file, self.dtype), "r", self.offset, self.shape)
        return np.ascontiguousarray(stored[selection].transpose(order), dtype=self.dtype)


def describe(file: str) -> Tiff:
    """Read what a TIFF file states, and check that its pages are just that.

    Parameters
    ----------
    file : str

    Returns
    -------
    Tiff

    Raises
    ------
    ValueError
        If the file is damaged or was cut short, holds other images than grey ones, states axes that are not
        those of a volume, or has pages that do not belong to it.
    """
    status = Path(file).stat()
    return _describe(file, status.st_mtime_ns, status.st_size)


def _read_planes(tiff: Tiff, selection: tuple[slice, ...]) -> NDArray[Any]:
    n_outer = len(tiff.dims) - tiff.plane_ndim
    outer, inner = selection[:n_outer], selection[n_outer:]
    voxels = np.empty([s.stop - s.start for s in selection], tiff.dtype)
    wanted = [
        (tuple(i - s.start for i, s in zip(index, outer, strict=True)), tiff.planes[_flat(index, tiff.shape)])
        for index in itertools.product(*(range(s.start, s.stop) for s in outer))
    ]
    for file, places in itertools.groupby(wanted, key=lambda place: place[1][0]):
        with _opened(file) as tif:
            for index, (_, page) in places:
                with _readable(f"{file}: page {page + 1}"):
                    plane = tif.pages[page].asarray(maxworkers=1)
                voxels[index] = plane.reshape(tiff.shape[n_outer:])[inner]
    return voxels


def _flat(index: tuple[int, ...], shape: Sequence[int]) -> int:
    return int(np.ravel_multi_index(index, tuple(shape[: len(index)]))) if index else 0


def _stored_dtype(file: str, dtype: np.dtype[Any]) -> np.dtype[Any]:
    with Path(file).open("rb") as stream:
        return dtype.newbyteorder(">" if stream.read(2) == b"MM" else "<")


@lru_cache(maxsize=64)
def _describe(file: str, _changed: int, size: int) -> Tiff:
    n_pages = _count_pages(file, size)
    with naming(file), _opened(file) as tif:
        images = _images(tif, n_pages, size)
        described = [kind for kind in _DESCRIBED if kind in tif.flags]
        own_axes = _axes_of_pages(images) if described == ["shaped"] else None
        planes, offset = [(file, page.index) for page in images], None
        if "scanimage" in described:
            kind = "scanimage"
            axes, shape = axes_of_pages(settings_of(tif), len(images))
            axes, shape = axes + images[0].axes, (*shape, *images[0].shape)
        elif described and own_axes is None:
            kind, axes, shape, planes, offset = _from_series(tif, described)
        else:
            kind = "shaped" if described else "generic"
            axes, shape = f"I{own_axes or images[0].axes}", (len(images), *images[0].shape)
        _check_all_placed(file, images, planes, kind)
        _check_grey(images[0], kind, axes)
        dims, lengths = _dims_of(axes, shape)
        plane_ndim = len(dims) if offset else _plane_ndim(lengths, images[0].size)
        dtype = np.dtype(images[0].dtype)
        if offset and offset + math.prod(lengths) * dtype.itemsize > size:
            raise ValueError(f"{_CUT_SHORT}: its {kind} metadata speak of {lengths} voxels in {size:,} bytes")
        pixel_size = pixel_size_of(tif, kind)
    for other in {path for path, _ in planes} - {file}:
        _check_companion(other, images[0])
    return Tiff(dims, lengths, dtype, tuple(planes), plane_ndim, offset, pixel_size)


def _images(tif: tifffile.TiffFile, n_pages: int, size: int) -> _Pages:
    """Pages but those that are smaller copies of others; ValueError unless they are of one shape and type."""
    with _readable("its pages"):
        pages = [tif.pages[i].aspage() for i in range(len(tif.pages))]
        if len(pages) != n_pages:
            raise ValueError(f"found {len(pages)} of {n_pages} pages")
    images = [page for page in pages if not page.is_reduced] or pages
    first = images[0]
    if first.dtype is None:
        raise ValueError(f"page {first.index + 1} holds values of a type that cannot be read")
    for page in images:
        if (page.shape, page.dtype, page.photometric) != (first.shape, first.dtype, first.photometric):
            raise ValueError(
                f"page {page.index + 1} of {n_pages} has shape {page.shape} and dtype {page.dtype}, page "
                f"{first.index + 1} has {first.shape} and {first.dtype}; expected sections of one kind"
            )
        _check_data(page, size)
    with _readable("its smaller copies"):
        copies = list(first.pages or ())
    if any(math.prod(copy.shape) >= first.size for copy in copies):
        raise ValueError(f"page {first.index + 1} has pages below it that are no smaller copies of it")
    return images


def _check_data(page: tifffile.TiffPage, size: int) -> None:
    """ValueError where the bytes of a page are not in the file, or cannot be unpacked here."""
    for start, count in zip(page.dataoffsets, page.databytecounts, strict=False):
        if not start or not count or start + count > size:
            raise ValueError(
                f"{_CUT_SHORT}: page {page.index + 1} has {count:,} bytes at byte {start:,} of {size:,}"
            )
    try:
        if page.compression != 1:
            tifffile.TIFF.DECOMPRESSORS[page.compression]
        if page.predictor != 1:
            tifffile.TIFF.UNPREDICTORS[page.predictor]
    except KeyError as error:
        raise ValueError(
            f"page {page.index + 1} is packed in a way that cannot be read: {error.args[0]} "
            "(pip install imagecodecs)"
        ) from error


def _axes_of_pages(images: _Pages) -> str | None:
    """Axes of each page, where tifffile describes each page as an image of its own; else None."""
    found = set()
    for page in images:
        try:
            description = json.loads(page.shaped_description or "")
        except ValueError:
            return None
        shape = description.get("shape")
        if shape is None or math.prod(shape) != page.size:
            return None
        found.add("".join(a for a, n in zip(description.get("axes", ""), shape, strict=False) if n > 1))
    axes = found.pop()
    return None if found else axes or images[0].axes


def _from_series(
    tif: tifffile.TiffFile, described: Sequence[str]
) -> tuple[str, str, tuple[int, ...], list[tuple[str, int]], int | None]:
    """Kind, axes, shape, planes and place of the planes of the one image that metadata describe."""
    if "ome" in described:
        pixels_of(tif.ome_metadata or "")
    with _readable(f"its {described[0]} metadata"):
        series = [each for each in tif.series if not each.keyframe.is_reduced and not each.keyframe.is_subifd]
        kinds = {each.kind.lower() for each in series}
    if len(kinds) != 1 or not kinds <= set(described) or ("ome" in described and kinds == {"imagej"}):
        raise ValueError(
            f"its {described[0]} metadata do not tell what its pages are; it is damaged, "
            "was cut short, or its metadata lie"
        )
    if len(series) != 1:
        shapes = ", ".join(str(tuple(each.shape)) for each in series[:4])
        raise ValueError(f"it holds {len(series)} series of pages, of shapes {shapes}, expected one")
    (one,) = series
    kind, axes, shape = one.kind.lower(), one.axes, tuple(one.shape)
    if len(tif.pages) == 1 and math.prod(shape) > one.keyframe.size and one.dataoffset:
        return kind, axes, shape, [(tif.filehandle.path, 0)], one.dataoffset
    pages = [one.pages[i] for i in range(len(one.pages))]
    planes = [(page.parent.filehandle.path, page.index) for page in pages if page is not None]
    if len(planes) < len(pages):
        raise ValueError(
            f"its {kind} metadata speak of {len(pages)} pages, of which {len(pages) - len(planes)} are not "
            "there; are files of the set missing beside it?"
        )
    return kind, axes, shape, planes, None


def _check_all_placed(file: str, images: _Pages, planes: Sequence[tuple[str, int]], kind: str) -> None:
    """ValueError unless each page of the file is a plane of the volume, once."""
    here = sorted(page for path, page in planes if path == file)
    if here != [page.index for page in images]:
        raise ValueError(
            f"the file holds {len(images)} pages, but its {kind} metadata have a place for {len(here)}; "
            "expected each page to have one"
        )


def _check_grey(page: tifffile.TiffPage, kind: str, axes: str) -> None:
    """ValueError for pages whose values are no grey values, or count down."""
    photometric = getattr(page.photometric, "name", str(page.photometric))
    # ImageJ has a palette beside what it measures, only to show it. tifffile calls three sections colours,
    # and what is true and false white, whatever the axes that it is told.
    grey = {
        "MINISBLACK": True,
        "PALETTE": kind == "imagej",
        "RGB": kind == "shaped" and "S" not in axes,
        "MINISWHITE": kind == "shaped" and page.dtype == bool,
    }
    if not grey.get(photometric, False):
        remedy = {
            "MINISWHITE": "; 0 is white there: invert it first",
            "PALETTE": "; its values stand for colours: save it as grey values first",
            "RGB": "; sections that a program took for colours are to be saved with photometric='minisblack'",
        }.get(photometric, "")
        raise ValueError(
            f"expected grey images, but found pages of shape {page.shape}, which are {photometric}{remedy}"
        )


def _check_companion(file: str, like: tifffile.TiffPage) -> None:
    """ValueError unless another file of the set has pages of the same kind, and all their bytes."""
    size = Path(file).stat().st_size
    n_pages = _count_pages(file, size)
    with naming(file), _opened(file) as tif:
        page = _images(tif, n_pages, size)[0]
        if (page.shape, page.dtype) != (like.shape, like.dtype):
            raise ValueError(
                f"found pages of shape {page.shape} and dtype {page.dtype}, expected {like.shape} and "
                f"{like.dtype}"
            )


def _dims_of(axes: str, shape: Sequence[int]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Names and lengths of axes, without those of length one; ValueError for what no volume has."""
    kept = [(axis, n) for axis, n in zip(axes, shape, strict=True) if n > 1 or axis in "YX"]
    letters = "".join(axis for axis, _ in kept)
    # A single axis without a name is that of the pages.
    if "Z" not in letters and sum(letters.count(axis) for axis in _UNNAMED) == 1:
        letters = letters.translate({ord(axis): "Z" for axis in _UNNAMED})
    wrong = [axis for axis in letters if axis not in _DIMS or letters.count(axis) > 1]
    if wrong or not {"Y", "X"} <= set(letters):
        found = ", ".join(f"{n} along {axis} ({_NAMES.get(axis, 'not of a volume')})" for axis, n in kept)
        raise ValueError(
            f"expected the axes channel, z, y, x in any order, but found {found}; time points, colours and "
            "axes without names are no sections: save parts by themselves, or with the names of their axes"
        )
    return tuple(_DIMS[axis] for axis in letters), tuple(n for _, n in kept)


def _plane_ndim(lengths: Sequence[int], size: int) -> int:
    """How many of the last axes make a page of so many values."""
    for ndim in range(1, len(lengths) + 1):
        if math.prod(lengths[-ndim:]) == size:
            return ndim
    raise ValueError(
        f"its metadata speak of shape {tuple(lengths)}, which pages of {size} voxels do not fill"
    )


def _count_pages(file: str, size: int) -> int:
    """Number of pages in the list of a file; ValueError where that leads out of it, or in a circle.

    Readers take the pages up to there for all of them: of a stack that was cut short, a part would be read as
    if it were the whole.
    """
    with Path(file).open("rb") as stream:
        kind = stream.read(4)
        if kind not in SIGNATURES:
            raise ValueError(f"{file}: {_NO_IMAGE}")
        order: Literal["little", "big"] = "big" if kind[:2] == b"MM" else "little"
        # In a large file counts are 8 bytes, entries 20 and places 8; else 2, 12 and 4.
        of_count, of_entry, of_place, at = (8, 20, 8, 8) if b"+" in kind else (2, 12, 4, 4)
        seen: set[int] = set()
        while True:
            stream.seek(at)
            page = int.from_bytes(stream.read(of_place), order)
            if page == 0 and seen:
                return len(seen)
            stream.seek(page)
            at = page + of_count + of_entry * int.from_bytes(stream.read(of_count), order)
            if at + of_place > size or page in seen or page == 0:
                raise ValueError(f"{file}: the list of pages leads to byte {page:,} of {size:,}; {_NO_IMAGE}")
            seen.add(page)


@contextmanager
def _opened(file: str) -> Iterator[tifffile.TiffFile]:
    with _readable(file):
        tif = tifffile.TiffFile(file)
    try:
        yield tif
    finally:
        tif.close()


@contextmanager
def _readable(what: str) -> Iterator[None]:
    """ValueError for what a reader stumbles over."""
    try:
        yield
    except FileNotFoundError:
        raise
    except _DAMAGED as error:
        raise ValueError(f"{what} cannot be read ({error}); {_NO_IMAGE}") from error
