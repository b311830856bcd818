"""Messages for paths at which there is no volume: how far they lead, and what was perhaps meant."""

import difflib
from collections.abc import Sequence
from pathlib import Path

from .stores import is_remote


def missing_path(path: str) -> str:
    """Message for a path that leads to no volume.

    Parameters
    ----------
    path : str
        Normalised; of URLs, nothing is listed.

    Returns
    -------
    str
        Begins with the path.

    Examples
    --------
    >>> missing_path("s3://bucket/em.zarr/volumes/raw")
    's3://bucket/em.zarr/volumes/raw: there is no zarr container at or above this path'
    """
    if is_remote(path):
        return f"{path}: there is no zarr container at or above this path"
    wanted = Path(path)
    if wanted.is_file():
        return f"{path}: this file is no volume of a format that is read, such as zarr, HDF5 or TIFF"
    if wanted.is_dir():
        return (
            f"{path}: there is no zarr container at or above this path, and no image (.tif, .tiff, .png) in "
            f"this folder; there are: {listed(_names(wanted))}"
        )
    below = wanted
    while not below.parent.exists():
        below = below.parent
    if below.parent.is_file():
        return f"{path}: {below.parent} is a file, expected a zarr container or a folder"
    names = _names(below.parent)
    close = difflib.get_close_matches(below.name, names, n=3, cutoff=0.5)
    meant = f"; did you mean {' or '.join(map(repr, close))}?" if close else "."
    found = "" if close else f" There are: {listed(names)}"
    return f"{path}: there is no {below.name!r} in {below.parent}{meant}{found}"


def missing_array(container: str, wanted: str, names: Sequence[str]) -> str:
    """Message for an array that is not there: the nearest name, and those that are.

    Parameters
    ----------
    container, wanted : str
    names : sequence of str
        The arrays of the container.

    Returns
    -------
    str

    Examples
    --------
    >>> missing_array("em.zarr", "volumes/labels", ["volumes/label"])
    "em.zarr holds no array 'volumes/labels'; did you mean 'volumes/label'? Its arrays: volumes/label"
    """
    nearest = difflib.get_close_matches(wanted, names, n=1, cutoff=0.4)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else "."
    return f"{container} holds no array {wanted!r}{hint} Its arrays: {listed(names)}"


def listed(names: Sequence[str], limit: int = 12) -> str:
    """Join names for a message; past the limit, say how many there are.

    Parameters
    ----------
    names : sequence of str
    limit : int, optional

    Returns
    -------
    str

    Examples
    --------
    >>> listed(["raw", "labels", "mask"], limit=2)
    'raw, labels, ... (3 in all)'
    """
    more = f", ... ({len(names)} in all)" if len(names) > limit else ""
    return (", ".join(names[:limit]) + more) or "none"


def _names(folder: Path) -> list[str]:
    """What a user sees in a folder."""
    try:
        return sorted(item.name for item in folder.iterdir() if not item.name.startswith("."))
    except PermissionError:
        return []
