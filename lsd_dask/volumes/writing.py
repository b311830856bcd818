"""Writing all of a volume: beside its place, and moved there when it is complete.

So a volume that is there is whole, whenever its writer was killed. Of what is copied from a stored volume, a
ledger beside the part says which shards are done, and who is at work: the same copy, begun again, goes on.
"""

import itertools
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import compute
from numpy.typing import NDArray

from ..blockwise.blocks import Block, BlockGrid
from ..blockwise.ledgers import Ledger, fingerprint_of
from ..space.grids import Region
from ..storage import files
from ..storage.locks import living
from ..storage.stores import is_remote
from .dask_arrays import find_stored
from .formats import zarr_creating
from .stored import StoredVolume

_LEDGER = "copied"


@dataclass(frozen=True)
class Part:
    """Where a volume is written until it is complete.

    Attributes
    ----------
    path
        Of its array.
    ledger
        Knows which shards are written; None for what cannot go on.
    goes_on
        Whether an earlier copy left the array, and what it wrote of it.
    """

    path: str
    ledger: Ledger | None = None
    goes_on: bool = False


@contextmanager
def written_beside(
    volume: xr.DataArray,
    path: str,
    layout: Mapping[str, Any],
    parent_attributes: zarr_creating.ParentAttributes,
    *,
    overwrite: bool,
) -> Iterator[Part]:
    """Let a zarr array be written beside its place, and move it there when the body is done.

    Parameters
    ----------
    volume
        What is to be written.
    path
        Its place. An array that is there stays as it is until then.
    layout
        How it is stored, as plain data.
    parent_attributes
        As for `lsd_dask.volumes.formats.zarr_creating.create_array`.
    overwrite
        Whether an array that is there is replaced.

    Yields
    ------
    Part

    Raises
    ------
    FileExistsError
        If an array is there and `overwrite` is False, now or at the end.
    LockedError
        If somebody else is making the same copy.
    """
    source = _source_of(volume)
    identity = {"source": source, "target": path, **layout}
    # 32 digits, as of all that is not complete yet.
    key = uuid.uuid4().hex if source is None else (fingerprint_of(identity) + fingerprint_of(path))[:32]
    folder = f"{path}.{key}.partial"
    _remove_left(path, folder)
    beside = files.join(folder, path.rsplit("/", 1)[-1])
    if source is None:
        try:
            yield Part(beside)
        except BaseException:
            zarr_creating.discard(folder)
            raise
        zarr_creating.put_in_place(beside, path, parent_attributes, overwrite=overwrite)
    else:
        ledger = Ledger(files.join(folder, _LEDGER), {"step": "save_volume", **identity})
        with ledger.held():
            goes_on = ledger.is_current() and zarr_creating.open_node(beside) is not None
            if not goes_on:
                ledger.clear()
                files.remove(beside)
            yield Part(beside, ledger, goes_on)
            zarr_creating.put_in_place(beside, path, parent_attributes, overwrite=overwrite)
    files.remove(folder)


def write_volume(volume: xr.DataArray, stored: StoredVolume, ledger: Ledger | None = None) -> None:
    """Write all voxels of a volume, whole shards at a time.

    Parameters
    ----------
    volume
        Lazy ones are computed by the active dask client, one task a shard.
    stored
        Where to.
    ledger
        Where shards are recorded; those that are recorded already are not written.
    """
    if ledger is not None and ledger.recorded_run() is None:
        ledger.begin(BlockGrid(stored.grid.shape, stored.write_shape))
    if isinstance(volume.data, da.Array) and not stored.one_writer:
        compute(_writing(volume, stored, ledger))
        return
    for region in _regions(stored):
        stored.write(region, np.asarray(volume.data[(..., *region)]))


def _source_of(volume: xr.DataArray) -> dict[str, Any] | None:
    """What tells a stored volume that is copied from any other; None where it is not known.

    Its files are told by their size and time: those of voxels only where these are whole sections.
    """
    found = find_stored(volume) if isinstance(volume.data, da.Array) else None
    if found is None or is_remote(found[0].path):
        return None
    stored, region = found
    place = Path(stored.path.partition("://")[2] or stored.path)
    while not place.exists():
        place = place.parent
    content = sorted(place.iterdir()) if place.is_dir() else [place]
    return {
        "path": stored.path,
        "run": stored.run,
        "layout": stored.fingerprint,
        "shape": stored.shape,
        "part": [[s.start, s.stop] for s in region],
        "files": fingerprint_of([(one.name, _state_of(one)) for one in content if one.is_file()]),
    }


def _state_of(path: Path) -> tuple[int, int]:
    state = path.stat()
    return state.st_size, state.st_mtime_ns


def _remove_left(path: str, folder: str) -> None:
    """Remove what killed writers left beside a path, but for what is gone on with, or is at work."""
    parent, _, name = path.rpartition("/")
    for found in files.names(parent):
        left = files.join(parent, found)
        if found.startswith(f"{name}.") and zarr_creating.is_part(found) and left != folder:
            ledger = files.join(left, _LEDGER)
            if ledger not in living([ledger]):
                files.remove(left)


def _regions(stored: StoredVolume) -> list[Region]:
    axes = [
        [slice(start, min(start + unit, n)) for start in range(0, n, unit)]
        for n, unit in zip(stored.grid.shape, stored.write_shape, strict=True)
    ]
    return list(itertools.product(*axes))


def _writing(volume: xr.DataArray, target: StoredVolume, ledger: Ledger | None) -> da.Array:
    """A lazy array with one element per shard, whose computation writes the shard."""
    n_blocks = tuple(-(-n // unit) for n, unit in zip(target.grid.shape, target.write_shape, strict=True))
    chunks = ((1,),) * (target.ndim - target.grid.ndim) + tuple((1,) * n for n in n_blocks)
    done = {"chunks": chunks, "dtype": bool, "meta": np.empty((0,) * target.ndim, dtype=bool)}
    source = find_stored(volume)
    # What is stored in pieces larger than a shard, as sections are, would be read again for each shard.
    if source is not None and all(
        piece <= shard for piece, shard in zip(source[0].write_shape, target.write_shape, strict=True)
    ):
        return da.map_blocks(_copy_block, *source, target, ledger, **done)
    shards = target.shape[: target.ndim - target.grid.ndim] + target.write_shape
    aligned = volume.data.rechunk(shards, method="tasks")
    return aligned.map_blocks(_write_block, target, ledger, **done)


def _write_block(
    voxels: NDArray[Any],
    target: StoredVolume,
    ledger: Ledger | None,
    block_id: tuple[int, ...] | None = None,
) -> NDArray[np.bool_]:
    block = _block_of(target, block_id)
    target.write(block.region, voxels)
    if ledger is not None:
        ledger.record(block, {})
    return np.ones((1,) * target.ndim, dtype=bool)


def _copy_block(
    source: StoredVolume,
    box: Region,
    target: StoredVolume,
    ledger: Ledger | None,
    block_id: tuple[int, ...] | None = None,
) -> NDArray[np.bool_]:
    block = _block_of(target, block_id)
    if ledger is None or not ledger.has(block):
        there = tuple(
            slice(b.start + r.start, b.start + r.stop) for b, r in zip(box, block.region, strict=True)
        )
        target.write(block.region, source.read(there))
        if ledger is not None:
            ledger.record(block, {})
    return np.ones((1,) * target.ndim, dtype=bool)


def _block_of(target: StoredVolume, block_id: tuple[int, ...] | None) -> Block:
    assert block_id is not None
    place = tuple(int(i) for i in block_id[-target.grid.ndim :])
    return BlockGrid(target.grid.shape, target.write_shape).at(place)
