"""What steps read: opening it, and checking before any work that it is what the step expects."""

import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from lsd_dask.checks.arguments import naming as naming
from lsd_dask.segmentation.derivation import check_finished
from lsd_dask.segmentation.quantisation import quantisation_of
from lsd_dask.space.grids import TOLERANCE, Grid, Region
from lsd_dask.space.lengths import likely_unit
from lsd_dask.space.neighborhoods import Offsets, agreed, default_neighborhood, direct_for
from lsd_dask.volumes.opening import open_stored
from lsd_dask.volumes.overlap import StoredReader
from lsd_dask.volumes.stored import StoredVolume
from lsd_dask.volumes.voxel_values import (
    as_mask,
    check_affinity_range,
    check_mask_type,
    check_not_negative,
    check_raw_values,
    sample_regions,
    say_if_faint,
    say_if_zero_and_one,
)

from ..config.options import Region as RegionOptions

#: Blocks are this many voxels wide, unless the user says otherwise: small enough that a laptop's workers
#: share a small volume, large enough that a block is seconds of work in a large one.
SMALL_BLOCK, LARGE_BLOCK, PLANAR_BLOCK = 128, 256, 1024

#: Volumes of more voxels than this are cut into large blocks.
LARGE_VOLUME = 2**26

#: The largest extent of descriptors, in voxels.
MOST_SIGMA = 1000


def open_input(path: str) -> StoredVolume:
    """Open a stored volume that a step reads.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such volume, or the run of a step that writes it has not finished.
    """
    stored = open_stored(path)
    check_finished(stored.path)
    return stored


def open_region(path: str, options: RegionOptions) -> StoredReader:
    """Open a stored volume, or the part of it that the options name.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such volume, or the region does not lie in it and on its voxels; the message names the
        file.
    """
    stored = open_input(path)
    return StoredReader(stored, region_of(stored.grid, options, path))


def open_affinities(path: str, options: RegionOptions) -> StoredReader:
    """Open affinities, or the part of them that the options name.

    Raises
    ------
    FileNotFoundError, ValueError
        As for `open_region`; or if there are no channels, or a look at some places finds values that
        cannot be affinities.
    TypeError
        If they are neither uint8 nor floating point.
    """
    reader = open_region(path, options)
    check_affinities(reader)
    return reader


def open_labels(path: str, options: RegionOptions) -> StoredReader:
    """Open fragments or other labels, or the part of them that the options name.

    Raises
    ------
    FileNotFoundError, ValueError
        As for `open_region`; or if a look at some places finds a negative label.
    TypeError
        If they are not integers, or have channels.
    """
    reader = open_region(path, options)
    check_labels(reader)
    return reader


def open_mask(path: str, grid: Grid, like: str) -> StoredReader:
    """Open a mask, whose voxels may be coarser.

    Parameters
    ----------
    path
        Of the mask.
    grid
        Of what is processed.
    like
        Path of what is processed, for messages.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such mask, it does not cover what is processed, or a look at some places finds values
        that a mask cannot have.
    TypeError
        If it holds neither truth values nor numbers.
    """
    stored = open_input(path)
    check_mask_type(stored.dtype, stored.path)
    if stored.channels is not None or stored.grid.dims != grid.dims:
        raise ValueError(
            f"{stored.path}: found a mask of shape {stored.shape} with the axes {', '.join(stored.dims)}, "
            f"expected {', '.join(grid.dims)}."
        )
    with naming(stored.path, like):
        own = stored.grid.in_units_of(grid)
    corners = zip(own.offset, grid.offset, own.end, grid.end, grid.voxel_size, strict=True)
    if any(begin > first + v / 2 or end < last - v / 2 for begin, first, end, last, v in corners):
        raise ValueError(
            f"{stored.path}: the mask does not cover {like}: it fills {own.box}, what is to be processed "
            f"{grid.box}."
        )
    reader = StoredReader(stored, tuple(slice(0, n) for n in stored.grid.shape))
    for part in samples_of(reader):
        as_mask(part, stored.path)
    return reader


def region_of(grid: Grid, options: RegionOptions, path: str) -> Region:
    """The voxels that the options name, of the volume at `path`: all where they name none."""
    if options.roi_offset is None or options.roi_shape is None:
        return tuple(slice(0, n) for n in grid.shape)
    try:
        return grid.region(options.roi_offset, options.roi_shape)
    except ValueError as error:
        raise ValueError(f"{path}: roi_offset and roi_shape: {error}") from None


def shared_part(stored: StoredVolume, reader: StoredReader, like: str) -> tuple[StoredReader, StoredReader]:
    """The parts of two volumes that lie in the same place: where both have voxels.

    Parameters
    ----------
    stored
        The one volume.
    reader
        A part of the other.
    like
        Path of the other, for messages.

    Returns
    -------
    tuple
        Readers of the one and of the other, of one shape.

    Raises
    ------
    ValueError
        If voxel sizes or axes differ, if the voxels of one lie between those of the other, or if there is no
        such place.
    """
    grid = reader.stored.grid.crop(reader.part)
    other = _of_same_voxels(stored, grid, like)
    begin = [max(a, b) for a, b in zip(other.offset, grid.offset, strict=True)]
    end = [min(a, b) for a, b in zip(other.end, grid.end, strict=True)]
    if any(e <= b for b, e in zip(begin, end, strict=True)):
        raise ValueError(
            f"{stored.path} fills {other.box}, which has nothing in common with {like}: {grid.box}."
        )
    with naming(stored.path, like):
        region = grid.region(begin, [e - b for b, e in zip(begin, end, strict=True)])
    part = tuple(slice(p.start + s.start, p.start + s.stop) for p, s in zip(reader.part, region, strict=True))
    shared = StoredReader(reader.stored, part)
    return matching_part(stored, grid.crop(region), like), shared


def matching_part(stored: StoredVolume, grid: Grid, like: str) -> StoredReader:
    """The part of a stored volume that lies where another one does.

    Raises
    ------
    ValueError
        If voxel sizes differ, or the other one does not lie within this one and on its voxels.
    """
    other = _of_same_voxels(stored, grid, like)
    size = [e - o for e, o in zip(grid.end, grid.offset, strict=True)]
    try:
        return StoredReader(stored, other.region(grid.offset, size))
    except ValueError as error:
        raise ValueError(
            f"{stored.path} does not cover {like}: {error}. With roi_offset and roi_shape, a part can be "
            "processed alone."
        ) from None


def _of_same_voxels(stored: StoredVolume, grid: Grid, like: str) -> Grid:
    """Where a stored volume lies, in the units of another one that has the same voxels."""
    if stored.grid.dims != grid.dims:
        raise ValueError(f"{stored.path} has the axes {stored.grid.dims}, but {like} has {grid.dims}.")
    with naming(stored.path, like):
        other = stored.grid.in_units_of(grid)
    if not other.has_voxels_of(grid):
        raise ValueError(
            f"{stored.path} has voxels of {stored.grid.voxel_size} {stored.grid.units}, but {like} of "
            f"{grid.voxel_size} {grid.units}: expected the same."
        )
    return other


def check_affinities(reader: StoredReader) -> None:
    """Raise TypeError or ValueError where a stored volume cannot be affinities."""
    stored = reader.stored
    with naming(stored.path):
        quantisation_of(stored.dtype)
        if stored.channels is None:
            raise ValueError(
                f"found an array of shape {stored.shape} with no channel axis, expected affinities: "
                f"{stored.grid.ndim} channels or more before the axes {', '.join(stored.grid.dims)}."
            )
        for part in (parts := list(samples_of(reader))):
            check_affinity_range(part)
    say_if_zero_and_one(parts, stored.dtype, stored.path)


def check_labels(reader: StoredReader) -> None:
    """Raise TypeError or ValueError where a stored volume cannot be labels."""
    stored = reader.stored
    if stored.dtype.kind not in "ui" or stored.channels is not None:
        raise TypeError(
            f"{stored.path}: found {stored.dtype} of shape {stored.shape}, expected integer labels with the "
            f"axes {', '.join(stored.grid.dims)}."
        )
    if stored.dtype.kind == "i":
        for part in samples_of(reader):
            check_not_negative(part, stored.path)


def look_at_raw(reader: StoredReader, raw_range: tuple[float, float]) -> None:
    """Raise ValueError where some places of a stored volume show that it cannot be raw data."""
    for part in (parts := list(samples_of(reader))):
        check_raw_values(part, "raw")
    say_if_faint(parts, reader.stored.dtype, reader.stored.path, raw_range)


def samples_of(reader: StoredReader) -> Iterator[np.ndarray]:
    """Some voxels of a volume, to look at before any work.

    What cannot be read is passed over: the blocks that need it say so, and all others are done.
    """
    for region in sample_regions(reader.shape):
        with suppress(ValueError):
            yield reader.read(region)


def offsets_of(
    affinities: StoredVolume, neighborhood: Sequence[Sequence[int]] | None, *, sections: bool = False
) -> Offsets:
    """The offsets that the channels of stored affinities join: as the options say, or their attributes.

    Parameters
    ----------
    affinities
        The whole volume.
    neighborhood
        What the options say.
    sections
        Whether nothing is to be joined along z.

    Raises
    ------
    TypeError, ValueError
        If the neighborhood does not fit the channels, differs from what the attributes say, lacks a direct
        neighbour, or reaches out of the volume; the message names the file.
    """
    grid = affinities.grid
    with naming(affinities.path):
        found = agreed(neighborhood, affinities.neighborhood, affinities.channels or 0, grid.ndim)
        nearest = default_neighborhood(grid.ndim)
        for offset in found:
            direct = offset in nearest or tuple(-step for step in offset) in nearest
            if not direct and any(abs(step) >= n for step, n in zip(offset, grid.shape, strict=True)):
                raise ValueError(
                    f"neighborhood: found {list(offset)}, expected offsets that stay within the {grid.shape} "
                    "voxels of the volume; they are in voxels"
                )
        direct_for(found, grid.shape, sections=sections)
        return found


def block_shape_for(grid: Grid, block_size: Sequence[float | str] | None, path: str) -> tuple[int, ...]:
    """Shape of a block in voxels.

    Parameters
    ----------
    grid
        Of the volume that is cut into blocks.
    block_size
        One length an axis, as for `Grid.lengths`; None for a default.
    path
        Of the volume, for messages.
    """
    if block_size is None:
        voxels = 1
        for n in grid.shape:
            voxels *= n
        side = PLANAR_BLOCK if grid.ndim == 2 else LARGE_BLOCK if voxels > LARGE_VOLUME else SMALL_BLOCK
        return tuple(min(side, n) for n in grid.shape)
    with naming(path):
        block_size = grid.lengths("block_size", block_size)
    shape = [max(1, round(b / v)) for b, v in zip(block_size, grid.voxel_size, strict=True)]
    nearest = [n * v for n, v in zip(shape, grid.voxel_size, strict=True)]
    if any(abs(a - b) > 1e-3 * v for a, b, v in zip(nearest, block_size, grid.voxel_size, strict=True)):
        raise ValueError(
            f"block_size {list(block_size)} is no multiple of the voxel size {list(grid.voxel_size)} "
            f'{grid.units} of {path}; {nearest} would be (a unit can be told, such as "1.2 um").'
        )
    return tuple(min(s, n) for s, n in zip(shape, grid.shape, strict=True))


def to_voxels(name: str, lengths: Sequence[float | str] | None, grid: Grid) -> tuple[int, ...] | None:
    """Lengths that an option says as voxels, rounded up."""
    if lengths is None:
        return None
    told = zip(grid.lengths(name, lengths), grid.voxel_size, strict=True)
    # A hair less, for decimal fractions: 0.6 / 0.2 is a bit less than 3, and others are a bit more.
    return tuple(math.ceil(length / v - TOLERANCE) for length, v in told)


def check_extent(name: str, told: Sequence[float | str], voxels: Sequence[float], units: str) -> None:
    """Raise ValueError for an extent of descriptors that cannot be meant: of less than a voxel, or very many.

    Parameters
    ----------
    name, told
        Of the option, for messages.
    voxels
        The same in voxels.
    units
        That plain numbers are in.
    """

    def fits(factor: float) -> bool:
        # Descriptors look three sigmas far.
        return 3 * max(voxels) * factor >= 1 and max(voxels) * factor <= MOST_SIGMA

    if not fits(1.0):
        likely = likely_unit(units, fits)
        hint = f'; a unit can be told, such as "{told[0]} {likely}"' if likely and told[0] == told[-1] else ""
        raise ValueError(
            f"{name}: found {list(told)} (numbers are in {units}), which is {max(voxels):.4g} voxels, "
            f"expected at least a third of a voxel and at most {MOST_SIGMA}{hint}"
        )


def identity_of(reader: StoredReader) -> dict[str, Any]:
    """What is read, as far as it decides a result.

    Parameters
    ----------
    reader
        Of a volume. Its place, layout, part and the run that wrote it tell it from another one, but not from
        one of the same layout that replaced it and was written elsewhere: voxels are not looked at.
    """
    stored = reader.stored
    return {
        "path": stored.path,
        "layout": stored.fingerprint,
        "part": [[s.start, s.stop] for s in reader.part],
        "voxel_size": stored.grid.voxel_size,
        "offset": stored.grid.offset,
        "dtype": str(stored.dtype),
        "run": stored.run,
    }
