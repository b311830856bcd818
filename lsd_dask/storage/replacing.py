"""Local folders that take the place of others when they are complete: N5 and precomputed volumes.

The new folder is written beside its place, the old one gets another name, the new one gets its name, what
others put into the old one moves over, and the rest of that goes. A writer may be killed between any two of
these: `settle` brings the old folder back if the new one had not got its name, and else ends what was begun.
"""

import os
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager

from . import disks, files
from .missing import listed
from .stores import is_remote

#: Names of what is in a folder that belongs to the volume there; all else is somebody's, such as meshes.
type Own = Callable[[str], Set[str]]


@contextmanager
def replaced(path: str, where: str, own: Own) -> Iterator[str]:
    """Let a local folder be written beside its place, and moved there when complete.

    `settle` is to be called before.

    Parameters
    ----------
    path : str
        Of the volume, for messages.
    where : str
        Its place. A folder that is there is replaced, but for what is not the volume's; it stays as it is if
        writing the other one fails. Of a symbolic link, what it leads to stays.
    own : callable
        Names of what is in a folder that belongs to the volume.

    Yields
    ------
    str
        The folder to write.

    Raises
    ------
    ValueError
        If it is a URL.
    FileExistsError
        If the new volume has a file or folder of the same name as one that is not the old volume's.
    """
    if is_remote(where):
        raise ValueError(f"{path}: a volume is already there, and only local ones are replaced; remove it")
    new, old, _ = _names(where)
    files.remove(new)
    try:
        yield new
        if same := _others(where, own) & set(files.names(new)):
            raise FileExistsError(
                f"{path}: found {listed(sorted(same), 3)} in {where}, which is not the volume's, expected "
                "nothing of that name; move it, or choose another place"
            )
    except BaseException:
        files.remove(new)
        raise
    if os.path.lexists(where):
        disks.rename(where, old)
    disks.rename(new, where)
    settle(where, own)


def settle(where: str, own: Own) -> None:
    """End what a killed writer began, or take it back, so that the volume is there under its name.

    Parameters
    ----------
    where : str
        Place of the volume. For URLs, and where nothing was left, nothing is done.
    own : callable
        As for `replaced`.

    Raises
    ------
    FileExistsError
        If something that others put into the old folder would replace something in the new one.
    """
    _, old, rest = _names(where)
    if is_remote(where):
        return
    files.remove(rest)
    if not os.path.lexists(old):
        return
    if not os.path.lexists(where):
        disks.rename(old, where)
        return
    for name in sorted(_others(old, own)):
        if os.path.lexists(f"{where}/{name}"):
            raise FileExistsError(
                f"{where}/{name}: found one here and one in {old}, which a killed run left, expected one; "
                "keep which you need"
            )
        disks.rename(f"{old}/{name}", f"{where}/{name}")
    # Not bit by bit: without its metadata, what is left of it would be taken for what others put there.
    disks.rename(old, rest)
    files.remove(rest)


def left_of(where: str) -> str:
    """What a killed writer left of a volume that is not there, as the end of a message; empty for nothing."""
    _, old, _ = _names(where)
    if is_remote(where) or os.path.lexists(where) or not os.path.lexists(old):
        return ""
    return f". A run that was killed while it replaced it left it at {old}: run it again, or rename it"


def _others(where: str, own: Own) -> set[str]:
    """Names of what is in a folder and is not the volume's; none where a link leads there."""
    found = set() if os.path.islink(where) else set(files.names(where))  # noqa: PTH114
    return found - own(where) if found else set()


def _names(where: str) -> tuple[str, str, str]:
    """Where the new folder is written, where the old one waits, and where the rest of it is removed."""
    return f"{where}.new.partial", f"{where}.old.partial", f"{where}.gone.partial"
