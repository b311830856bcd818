"""Stacks of image files, one section a file, and TIFF files of several pages; read through dask-image."""

import glob
import io
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import dask.array as da
import numpy as np
from numpy.typing import NDArray

from .grids import Grid, Region, spatial_dims
from .missing import missing_path
from .paths import is_pattern, pattern_of
from .storage import StoredVolume

#: What ends the name of an image file.
SUFFIXES = (".tif", ".tiff", ".png")

#: What their files begin with: TIFF of either byte order, small and large, and PNG.
_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"\x89PNG\r\n\x1a\n")


@dataclass(frozen=True, kw_only=True)
class StoredStack(StoredVolume):
    """Sections along z, in files or pages; a single image is a two-dimensional volume.

    Parameters
    ----------
    pattern : str
        Glob pattern of the files. Not their list: a handle should be small.
    n_files : int
        Number of files there were on opening.
    """

    pattern: str
    n_files: int

    @property
    def read_shape(self) -> tuple[int, ...]:
        """Whole sections, as a part of one takes as long to read; not more of them than fit in 64 Mvoxels."""
        sections = max(1, 2**26 // max(1, int(np.prod(self.grid.shape[-2:]))))
        return (*(min(sections, 128, n) for n in self.grid.shape[:-2]), *self.grid.shape[-2:])

    def _load(self, selection: tuple[slice, ...]) -> NDArray[Any]:
        z, y, x = selection if self.ndim == 3 else (slice(0, 1), *selection)
        files = _known_files(self.pattern, self.n_files)
        if len(files) == 1:
            voxels = _read(_open(files[0])[z], y, x)
        else:
            voxels = np.concatenate([self._section(file, y, x) for file in files[z]])
        return voxels if self.ndim == 3 else voxels[0]

    def _section(self, file: str, y: slice, x: slice) -> NDArray[Any]:
        section = _open(file)
        expected = (1, *self.shape[1:])
        if section.shape != expected or section.dtype != self.dtype:
            raise ValueError(
                f"{file}: expected a section of shape {expected} and dtype {self.dtype} like the first one, "
                f"but found {section.shape} and {section.dtype}"
            )
        return _read(section, y, x)

    def _store(self, region: Region, voxels: NDArray[Any]) -> None:
        raise io.UnsupportedOperation(f"{self.path}: image stacks are only read; save_volume writes zarr")


def is_stack(path: str) -> bool:
    """Whether a path names image files: a glob pattern, an image file or a folder that holds some.

    Parameters
    ----------
    path : str

    Returns
    -------
    bool
    """
    if path.lower().endswith(SUFFIXES) or is_pattern(path):
        return True
    folder = Path(path)
    if not folder.is_dir() or any((folder / name).exists() for name in ("zarr.json", ".zarray", ".zgroup")):
        return False
    return any(item.suffix.lower() in SUFFIXES for item in folder.iterdir())


def open_stack(path: str, stated: Mapping[str, Any]) -> StoredStack:
    """Open image files as a volume.

    Parameters
    ----------
    path : str
        A folder, a glob pattern or a single file. Files are sections in natural order: ``s9`` before ``s10``.
    stated : mapping
        ``voxel_size``, ``offset`` and ``units``; images do not tell them.

    Returns
    -------
    StoredStack
        ``(z, y, x)``; ``(y, x)`` for a single image, unless its `voxel_size` has three numbers.

    Raises
    ------
    FileNotFoundError
        If no file matches.
    ValueError
        If images are not grey, the files in a folder are of several kinds, or a file cannot be read.
    """
    pattern = _pattern_of(path)
    files = _list_files(pattern)
    if not files:
        no_match = f"{path}: no image files match" if is_pattern(path) else missing_path(path)
        raise FileNotFoundError(no_match)
    if len(files) == 1:
        _check_pages(files[0])
    first = _open(files[0])
    if first.ndim != 3:
        raise ValueError(f"{files[0]}: expected grey images, but found one of shape {first.shape[1:]}")
    flat = len(files) == len(first) == 1 and len(stated.get("voxel_size", (1, 1))) == 2
    if len(files) > 1 and len(first) > 1:
        raise ValueError(f"{files[0]}: expected one section a file, but this one has {len(first)} pages")
    shape = first.shape[1:] if flat else (max(len(files), len(first)), *first.shape[1:])
    return StoredStack(
        path=path,
        grid=_grid(shape, stated, path),
        dims=spatial_dims(len(shape)),
        shape=shape,
        dtype=first.dtype,
        write_shape=(1,) * (len(shape) - 2) + shape[-2:],
        pattern=pattern,
        n_files=len(files),
    )


@lru_cache(maxsize=16)
def _known_files(pattern: str, n_files: int) -> tuple[str, ...]:
    files = _list_files(pattern)
    if len(files) != n_files:
        raise FileNotFoundError(f"{pattern}: {n_files} files matched on opening, but now {len(files)} do")
    return files


def _list_files(pattern: str) -> tuple[str, ...]:
    # Path.glob would take hidden files too, such as the ._s1.tif of some systems.
    return tuple(sorted(glob.glob(pattern), key=_natural))  # noqa: PTH207


def _natural(name: str) -> list[int | str]:
    """Sort key under which s9.png comes before s10.png.

    >>> _natural("s10.png")
    ['s', 10, '.png']
    """
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]


def _pattern_of(path: str) -> str:
    if not Path(path).is_dir():
        return pattern_of(path)
    suffixes = Counter(item.suffix for item in Path(path).iterdir() if item.suffix.lower() in SUFFIXES)
    if not suffixes:
        raise FileNotFoundError(f"{path}: no image files are in this folder")
    if len(suffixes) > 1:
        kinds = ", ".join(f"{n} x {suffix}" for suffix, n in sorted(suffixes.items()))
        raise ValueError(f"{path}: there are several kinds of images ({kinds}); give a pattern such as *.tif")
    return f"{glob.escape(path)}/*{next(iter(suffixes))}"


def _grid(shape: tuple[int, ...], stated: Mapping[str, Any], path: str) -> Grid:
    n = len(shape)
    voxel_size, offset = stated.get("voxel_size", (1.0,) * n), stated.get("offset", (0.0,) * n)
    units = stated.get("units", "nanometer" if "voxel_size" in stated else "voxel")
    try:
        return Grid(spatial_dims(n), shape, voxel_size, offset, units)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _check_pages(file: str) -> None:
    """ValueError for a TIFF file whose list of pages leads out of it.

    The readers take the pages up to there for all of them: of a stack that was cut short, a part would be
    read as if it were the whole.
    """
    size = Path(file).stat().st_size
    with Path(file).open("rb") as stream:
        kind = stream.read(4)
        order: Literal["little", "big"] = "big" if kind[:2] == b"MM" else "little"
        large = int.from_bytes(kind[2:4], order) == 43
        if kind not in _SIGNATURES:
            return  # another format, or no image
        # In a large file counts are 8 bytes, entries 20 and places 8; else 2, 12 and 4.
        of_count, of_entry, of_place = (8, 20, 8) if large else (2, 12, 4)
        at = 8 if large else 4
        seen = set()
        while True:
            stream.seek(at)
            page = int.from_bytes(stream.read(of_place), order)
            if page == 0:
                return
            stream.seek(page)
            at = page + of_count + of_entry * int.from_bytes(stream.read(of_count), order)
            if at + of_place > size or page in seen:
                raise ValueError(
                    f"{file}: the list of pages leads to byte {page:,} of {size:,}; this is no image that "
                    "can be read, or one that was cut short"
                )
            seen.add(page)


# dask-image is given one file at a time, never the pattern: for several files it opens the first through a
# plugin interface that scikit-image is about to remove.
def _open(file: str) -> da.Array:
    # Late: they import matplotlib.pyplot, for which no worker should wait that has no images to read.
    from dask_image.imread import imread
    from pims.api import UnknownFormatError  # type: ignore[import-untyped]

    reason = "this is no image that can be read, or one that was cut short"
    # The readers would try one after the other, each leaving the file open.
    with Path(file).open("rb") as stream:
        if file.lower().endswith(SUFFIXES) and not stream.read(8).startswith(_SIGNATURES):
            raise ValueError(f"{file}: {reason}")
    try:
        return imread(file)
    except UnknownFormatError as error:
        raise ValueError(f"{file}: {reason}") from error


def _read(pages: da.Array, y: slice, x: slice) -> NDArray[Any]:
    # Within a task of a larger graph: no further threads.
    return np.asarray(pages[:, y, x].compute(scheduler="synchronous"))
