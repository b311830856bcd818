"""What is said to be on a disk is there when the power goes: files, folders, and what was removed.

A file that was written lies in the memory of the machine for half a minute, and so does the entry in its
folder. What is written here is on the disk when the call returns: the content first, then the name, then the
names of all folders that are new. A name never stands for a part of a file, so nothing else has to be looked
at after a power cut. Object stores need none of this: what they have acknowledged is kept.
"""

import errno
import os
import shutil
import uuid
from collections.abc import Buffer
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

#: Of file systems that cannot be told to write a folder; they do so by themselves.
_NOT_FOR_FOLDERS = {errno.EINVAL, errno.EBADF, errno.ENOTSUP, errno.ENOSYS, errno.EACCES, errno.EPERM}

#: Of file systems on which a file has one name: FAT, and many that are reached over a network.
_NO_SECOND_NAME = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EACCES}


def write(path: str | Path, content: Buffer, *, kept: bool = True) -> None:
    """Write a file, replacing one that is there, so that nobody ever sees a part of it.

    Parameters
    ----------
    path
        Of the file, in a folder that is made where there is none.
    content
        Its bytes.
    kept
        Whether it must be there after a power cut.
    """
    path = Path(path)
    make_folder(path.parent)
    beside = _beside(path)
    try:
        _put(beside, content, kept=kept)
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    if kept:
        sync_folder(path.parent)


def create(path: str | Path, content: Buffer) -> bool:
    """Write a file unless there is one, whole or not at all; of several who try, one succeeds.

    What is written should be its writer's alone, with a token in it, say. Where the file system knows no
    second name for a file, others may for a moment see a part of it.
    """
    path = Path(path)
    make_folder(path.parent)
    beside = _beside(path)
    try:
        _put(beside, content, kept=True)
        try:
            os.link(beside, path)
        except FileExistsError:
            # Over a network, a first try may have succeeded without an answer.
            with suppress(FileNotFoundError):
                return beside.samefile(path)
            return False
        except OSError as error:
            if error.errno not in _NO_SECOND_NAME:
                raise
            if not _create_in_place(path, content):
                return False
    finally:
        beside.unlink(missing_ok=True)
    sync_folder(path.parent)
    return True


def remove(path: str | Path) -> None:
    """Remove a file, or a folder with all that is in it; nothing if it is not there."""
    path = Path(path)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif os.path.lexists(path):
        path.unlink(missing_ok=True)
    else:
        return
    sync_folder(path.parent)


def rename(path: str | Path, to: str | Path) -> None:
    """Give a file or folder another name on the same file system; its content is on the disk already."""
    path, to = Path(path), Path(to)
    make_folder(to.parent)
    path.replace(to)
    sync_folder(to.parent)
    if path.parent != to.parent:
        sync_folder(path.parent)


def make_folder(path: str | Path) -> None:
    """Make a folder and those above it, where they are not there."""
    path = Path(path)
    new = []
    while not path.is_dir():
        new.append(path)
        path = path.parent
    for folder in reversed(new):
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def sync_file(path: str | Path) -> None:
    """Have the content of a file written to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_folder(path: str | Path) -> None:
    """Have the names in a folder written to the disk."""
    try:
        sync_file(path)
    except FileNotFoundError:
        # Removed in the meantime, with all that was in it.
        return
    except OSError as error:
        if error.errno not in _NOT_FOR_FOLDERS:
            raise


def sync_names(path: str | Path, top: str | Path) -> None:
    """Have the name of a folder, and of those above it up to `top`, written to the disk.

    Each is brought to the disk once: a folder with a thousand shards has but one name. One that was removed
    and made again is another one, with another number; a number that came back by chance would cost a block,
    which a rerun finds missing.
    """
    path, top = Path(path), Path(top)
    while path != top and path != path.parent:
        with suppress(FileNotFoundError):
            state = path.stat()
            _sync_name(path, state.st_dev, state.st_ino)
        path = path.parent


@lru_cache(maxsize=4096)
def _sync_name(path: Path, device: int, number: int) -> None:
    sync_folder(path.parent)


def _beside(path: Path) -> Path:
    """Name of a file that is not complete yet; `lsd_dask.storage.files.remove_partial` knows it."""
    return path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")


def _put(path: Path, content: Buffer, *, kept: bool) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        if kept:
            os.fsync(file.fileno())


def _create_in_place(path: Path, content: Buffer) -> bool:
    try:
        with path.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        return False
    return True
