"""What zarr reads and writes through: for local disks, a store whose files are there after a power cut.

zarr's own store for local files leaves it to the system when they are written to the disk; a shard that was
named in a record may then be empty after a power cut, and so may the metadata of a whole container.
"""

import asyncio
from pathlib import Path
from typing import Any, Literal

from zarr.abc.store import Store
from zarr.core.buffer import Buffer
from zarr.storage import LocalStore

from . import disks
from .stores import is_remote, options_for


class DiskStore(LocalStore):
    """A folder on a local disk. What was set is on the disk, whole, under its name."""

    def set_sync(self, key: str, value: Buffer) -> None:
        """Write a file."""
        self._check_writable()
        self._keep(key, value)

    async def _set(self, key: str, value: Buffer, exclusive: bool = False) -> None:
        self._check_writable()
        await asyncio.to_thread(self._keep, key, value, exclusive)

    def _keep(self, key: str, value: Buffer, exclusive: bool = False) -> None:
        path = self.root / key
        if not exclusive:
            disks.write(path, value.as_buffer_like())
        elif not disks.create(path, value.as_buffer_like()):
            raise FileExistsError(f"{path}: is there already")
        # Folders may be another writer's, who has not come to this yet.
        disks.sync_names(path.parent, self.root)


def opened_with(path: str, mode: Literal["r", "r+", "w"]) -> dict[str, Any]:
    """Keywords ``store`` and ``storage_options`` of zarr's functions, for a normalised path.

    Parameters
    ----------
    path : str
        Of an array, a group, or a container that is to be made.
    mode : "r", "r+" or "w"
        Whether to read, to change what is there, or to make what is not.

    Raises
    ------
    FileNotFoundError
        If there is no folder to read or to change.
    """
    return {"store": _store_of(path, mode), "storage_options": options_for(path)}


def _store_of(path: str, mode: Literal["r", "r+", "w"]) -> Store | str:
    if is_remote(path):
        return path
    if mode == "w":
        disks.make_folder(path)
    elif not Path(path).is_dir():
        raise FileNotFoundError(f"{path}: there is no such folder")
    return DiskStore(path, read_only=mode == "r")
