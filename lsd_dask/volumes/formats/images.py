"""Stacks of image files, one section a file, and TIFF files of several pages."""

import glob
import io
import itertools
import re
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...space.grids import Grid, Region, spatial_dims
from ...space.units import UNKNOWN, can_convert
from ...storage.missing import missing_path
from ...storage.paths import is_pattern, pattern_of
from ..stored import StoredVolume
from . import pngs, tiffs
from .pixel_sizes import PixelSize

#: What ends the name of an image file.
SUFFIXES = (".tif", ".tiff", ".png")

type _Image = tiffs.Tiff | pngs.Png


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
        section = max(1, (self.channels or 1) * int(np.prod(self.grid.shape[-2:])))
        sections = max(1, 2**26 // section)
        return (*(min(sections, 128, n) for n in self.grid.shape[:-2]), *self.grid.shape[-2:])

    def _load(self, selection: tuple[slice, ...]) -> NDArray[Any]:
        box = dict(zip(self.dims, selection, strict=True))
        files = _known_files(self.pattern, self.n_files)
        at_z = self.dims.index("z") if "z" in self.dims else None
        if len(files) == 1:
            image = self._image(files[0])
            voxels = image.read({dim: box[dim] for dim in image.dims})
            return voxels if at_z is None or "z" in image.dims else np.expand_dims(voxels, at_z)
        sections = [self._image(file).read(box) for file in files[box["z"]]]
        return np.stack(sections, axis=at_z or 0)

    def _image(self, file: str) -> _Image:
        """What a file holds now, which has to be what there was on opening."""
        image = _describe(file)
        each = dict(zip(self.dims, self.shape, strict=True))
        if self.n_files > 1 or each.get("z") == 1:
            del each["z"]
        _check_like(file, image, each, self.dtype)
        return image

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
    return bool(_suffixes(folder))


def open_stack(path: str, stated: Mapping[str, Any]) -> StoredStack:
    """Open image files as a volume.

    Parameters
    ----------
    path : str
        A folder, a glob pattern or a single file. Files are sections in natural order: ``s9`` before ``s10``.
    stated : mapping
        ``voxel_size``, ``offset`` and ``units``, which come before what the files state.

    Returns
    -------
    StoredStack
        ``([channel, ]z, y, x)``; ``([channel, ]y, x)`` for a single section, unless its `voxel_size` has
        three numbers.

    Raises
    ------
    FileNotFoundError
        If no file matches.
    ValueError
        If images are not grey, the files in a folder are of several kinds, shapes or types, hold several
        sections each, or state a voxel size along some axes alone; if a file cannot be read, or states axes
        that a volume has not.
    """
    pattern = _pattern_of(path)
    files = _list_files(pattern)
    if not files:
        no_match = f"{path}: no image files match" if is_pattern(path) else missing_path(path)
        raise FileNotFoundError(no_match)
    first = _describe(files[0])
    lengths = dict(zip(first.dims, first.shape, strict=True))
    if len(files) > 1:
        if "z" in lengths:
            raise ValueError(
                f"{files[0]}: expected one section a file, but this one has {lengths['z']}; if it "
                "describes all files of a set, open it by itself"
            )
        _check_numbers(files)
        _check_all_like(files, first, check_size="voxel_size" not in stated)
        lengths["z"] = len(files)
    elif "z" not in lengths and len(stated.get("voxel_size", (1, 1))) == 3:
        lengths["z"] = 1
    dims = tuple(dim for dim in ("channel", "z", "y", "x") if dim in lengths)
    shape = tuple(lengths[dim] for dim in dims)
    spatial = tuple(lengths[dim] for dim in dims if dim != "channel")
    return StoredStack(
        path=path,
        grid=_grid(spatial, stated, first.pixel_size, files[0]),
        dims=dims,
        shape=shape,
        dtype=first.dtype,
        write_shape=(1,) * (len(spatial) - 2) + spatial[-2:],
        pattern=pattern,
        n_files=len(files),
    )


def _describe(file: str) -> _Image:
    with Path(file).open("rb") as stream:
        start = stream.read(len(pngs.SIGNATURE))
    if start == pngs.SIGNATURE:
        return pngs.describe(file)
    if start.startswith(tiffs.SIGNATURES):
        return tiffs.describe(file)
    raise ValueError(f"{file}: this is no image that can be read (TIFF, PNG), or one that was cut short")


def _check_all_like(files: Sequence[str], first: _Image, *, check_size: bool) -> None:
    """ValueError unless all sections have the shape, the type and, if stated, the pixel size of the first."""
    each = dict(zip(first.dims, first.shape, strict=True))
    size = first.pixel_size
    # File systems answer several questions at once.
    with ThreadPoolExecutor(8) as pool:
        for file, image in zip(files, pool.map(_describe, files), strict=True):
            _check_like(file, image, each, first.dtype)
            found = image.pixel_size
            same = found.units == size.units and found.sizes.keys() == size.sizes.keys()
            if check_size and not (
                same and all(abs(found.sizes[d] / n - 1) < 1e-3 for d, n in size.sizes.items())
            ):
                raise ValueError(
                    f"{file}: states {_spelled(found)}, but the first section {_spelled(size)}; expected the "
                    "same, or a voxel_size given for all"
                )


def _check_like(file: str, image: _Image, expected: Mapping[str, int], dtype: np.dtype[Any]) -> None:
    found = dict(zip(image.dims, image.shape, strict=True))
    if found != expected or image.dtype != dtype:
        (shape, dims), (found_shape, found_dims) = (
            (tuple(lengths.values()), ", ".join(lengths)) for lengths in (expected, found)
        )
        raise ValueError(
            f"{file}: expected a section of shape {shape} ({dims}) and dtype {dtype} like the first one, but "
            f"found {found_shape} ({found_dims}) and {image.dtype}"
        )


@lru_cache(maxsize=16)
def _known_files(pattern: str, n_files: int) -> tuple[str, ...]:
    files = _list_files(pattern)
    if len(files) != n_files:
        raise FileNotFoundError(f"{pattern}: {n_files} files matched on opening, but now {len(files)} do")
    return files


def _list_files(pattern: str) -> tuple[str, ...]:
    # Path.glob would take hidden files too, such as the ._s1.tif of some systems.
    return tuple(sorted(glob.glob(pattern), key=lambda name: (_natural(name), name)))  # noqa: PTH207


def _natural(name: str) -> list[int | str]:
    """Sort key under which s9.png comes before s10.png.

    >>> _natural("s10.png")
    ['s', 10, '.png']
    """
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]


def _check_numbers(files: Sequence[str]) -> None:
    """Warn of sections that are missing in a row of numbers; ValueError for two of the same number.

    Every so many sections may have been left out on purpose, and numbers may be times: what is missing is
    told where most steps are the same.
    """
    names = [_natural(Path(file).name) for file in files]
    if len({len(name) for name in names}) > 1:
        return
    varying = [i for i, parts in enumerate(zip(*names, strict=True)) if len(set(parts)) > 1]
    if len(varying) > 1 or not all(isinstance(names[0][i], int) for i in varying):
        return
    numbers = [int(name[varying[0]]) if varying else 0 for name in names]
    steps = np.diff(numbers)
    step = int(steps.min())
    if step == 0:
        twice = int(steps.argmin())
        raise ValueError(f"{files[twice]}, {files[twice + 1]}: found two sections of the same number")
    gaps = [n for a, b in itertools.pairwise(numbers) for n in range(a + step, b, step)[:10]][:10]
    if gaps and 2 * np.count_nonzero(steps == step) >= len(steps):
        warnings.warn(
            f"{Path(files[0]).parent}: found {len(files)} sections numbered {numbers[0]} to {numbers[-1]}, "
            f"but none numbered {', '.join(map(str, gaps))}; what follows a gap is read as the next section",
            stacklevel=2,
        )


def _pattern_of(path: str) -> str:
    if not Path(path).is_dir():
        return pattern_of(path)
    suffixes = _suffixes(Path(path))
    if not suffixes:
        raise FileNotFoundError(f"{path}: no image files are in this folder")
    if len(suffixes) > 1:
        kinds = ", ".join(f"{n} x {suffix}" for suffix, n in sorted(suffixes.items()))
        raise ValueError(f"{path}: there are several kinds of images ({kinds}); give a pattern such as *.tif")
    return f"{glob.escape(path)}/*{next(iter(suffixes))}"


def _suffixes(folder: Path) -> Counter[str]:
    """How many images of each kind are in a folder, hidden files aside."""
    return Counter(
        item.suffix
        for item in folder.iterdir()
        if item.suffix.lower() in SUFFIXES and not item.name.startswith(".")
    )


def _grid(shape: tuple[int, ...], stated: Mapping[str, Any], size: PixelSize, file: str) -> Grid:
    """The grid of a volume: what the caller states before what the file does, key by key."""
    dims = spatial_dims(len(shape))
    sizes = {dim: size.sizes[dim] for dim in dims if dim in size.sizes}
    if "voxel_size" in stated:
        voxel_size = tuple(stated["voxel_size"])
    elif not sizes or len(sizes) == len(dims):
        voxel_size = tuple(sizes.get(dim, 1.0) for dim in dims)
    else:
        unknown = ", ".join(dim for dim in dims if dim not in sizes)
        raise ValueError(
            f"{file}: states {_spelled(size)}, and none along {unknown}; give the voxel_size of all axes"
        )
    known = size.units != UNKNOWN
    if known and "units" not in stated and not can_convert(size.units, "nanometer"):
        raise ValueError(
            f"{file}: states the unit {size.units!r}, expected one of length; give voxel_size and units"
        )
    default = "nanometer" if "voxel_size" in stated else UNKNOWN
    offset = [-size.origin.get(dim, 0.0) * n for dim, n in zip(dims, voxel_size, strict=False)]
    try:
        return Grid(
            dims,
            shape,
            voxel_size,
            stated.get("offset", offset),
            stated.get("units", size.units if known else default),
        )
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None


def _spelled(size: PixelSize) -> str:
    sizes = ", ".join(f"{n:g} along {dim}" for dim, n in size.sizes.items())
    return f"a voxel size of {sizes} ({size.units})" if sizes else "no voxel size"
