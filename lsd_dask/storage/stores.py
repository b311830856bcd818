"""Stores that files and arrays lie in: local disks, and object stores that fail now and then.

What goes over a network fails: servers ask for patience (503), connections are reset, answers do not come or
are cut short. Clients such as s3fs try again for some two seconds. That is too short for a store that a
thousand workers ask at once, so everything here is tried for longer, with growing pauses, and what remains is
told with the URL.
"""

import os
import random
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from .credentials import check_no_secrets, without_secrets

#: Seconds between tries, at most; what is waited is between half of it and all of it, so that workers that
#: failed together do not come back together.
PAUSES = (1.0, 4.0, 12.0)

#: Nothing is gained by trying these again.
_FINAL = (
    FileNotFoundError,
    FileExistsError,
    PermissionError,
    IsADirectoryError,
    NotADirectoryError,
    NotImplementedError,
    ArithmeticError,
    AttributeError,
    ImportError,
    LookupError,
    MemoryError,
    TypeError,
    ValueError,
)

#: What keeps a copy of listings does not see what other processes write.
_OPTIONS = {"use_listings_cache": False}

#: Stores without folders: nothing has to be made before a file, and looking for a folder costs a request.
_OBJECT_STORES = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oci", "oss", "memory"}


#: What URLs begin with: a protocol, or several that are chained, as in ``simplecache::s3://``.
_URL = re.compile(r"[a-z][a-z0-9+.-]*(::[a-z][a-z0-9+.-]*)*://", re.IGNORECASE)


class StoreError(OSError):
    """A store did not do what it was asked to, however often it was asked."""


def is_remote(path: str) -> bool:
    """Whether a path is a URL; every other one is a local path.

    Parameters
    ----------
    path : str

    Returns
    -------
    bool

    Examples
    --------
    >>> is_remote("s3://bucket/em.zarr"), is_remote("/data/a://b"), is_remote("c:/em.zarr"), is_remote("a::b")
    (True, False, False, False)
    """
    return _URL.match(path) is not None


def filesystem(path: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """The store of a path or URL, and the path within it.

    Parameters
    ----------
    path : str

    Returns
    -------
    fs : fsspec.AbstractFileSystem
        It keeps no copy of listings.
    inner : str

    Examples
    --------
    >>> fs, inner = filesystem("memory://em.zarr/rag/nodes.parquet")
    >>> inner
    '/em.zarr/rag/nodes.parquet'
    """
    check_no_secrets(path)
    path = path.removeprefix("file://")
    if not is_remote(path):
        # Not by fsspec, which finds protocols, chains and patterns in names.
        return LocalFileSystem(), str(Path(os.path.expanduser(path)).absolute())  # noqa: PTH111
    fs, inner = fsspec.core.url_to_fs(path, **options_for(path) or {})
    return fs, inner


def options_for(path: str) -> dict[str, Any] | None:
    """Storage options that a path is opened with; None where nothing goes over a network.

    Parameters
    ----------
    path : str

    Returns
    -------
    dict or None
    """
    return dict(_OPTIONS) if _is_over_a_network(path) else None


def _is_over_a_network(path: str) -> bool:
    return is_remote(path) and not path.startswith("memory://")


def protocols_of(fs: fsspec.AbstractFileSystem) -> set[str]:
    """Names of the protocols of a store, such as s3 and s3a.

    Parameters
    ----------
    fs : fsspec.AbstractFileSystem

    Returns
    -------
    set of str
    """
    return set(fs.protocol) if isinstance(fs.protocol, tuple | list) else {fs.protocol}


def has_folders(fs: fsspec.AbstractFileSystem) -> bool:
    """Whether a folder must be made before there is a file in it.

    Parameters
    ----------
    fs : fsspec.AbstractFileSystem

    Returns
    -------
    bool
    """
    return not protocols_of(fs) & _OBJECT_STORES


def retried[T](
    operation: Callable[[], T], path: str, doing: str, also: tuple[type[Exception], ...] = ()
) -> T:
    """Do something with a store, again and again where the store fails.

    Parameters
    ----------
    operation : callable
        It must be harmless to do it twice, also if its first time succeeded and nobody heard of it.
    path : str
        What it is about. Local disks do not fail for a moment, so there it is done once.
    doing : str
        What is done, for messages, such as "reading".
    also : tuple of type, optional
        Errors that are worth another try although they are not the store's, such as those of a codec that got
        half of its bytes. At the end, they are raised as they are.

    Returns
    -------
    object
        What the operation returns.

    Raises
    ------
    StoreError
        If it still fails after the last of `PAUSES`, naming the URL and the error.
    OSError
        At once, naming the URL, where another try cannot help: no such file, no permission.

    Examples
    --------
    >>> retried(lambda: 1, "s3://bucket/out.zarr/zarr.json", "reading")
    1
    """
    if not _is_over_a_network(path):
        return operation()
    for pause in (*PAUSES, None):
        try:
            return operation()
        except StoreError:
            raise
        except Exception as error:
            if isinstance(error, _FINAL) and not isinstance(error, also):
                if isinstance(error, OSError) and path not in str(error):
                    raise type(error)(f"{path}: {without_secrets(str(error))}") from error
                raise
            if pause is None and isinstance(error, also):
                raise
            if pause is None:
                raise StoreError(
                    f"{path}: {doing} failed {len(PAUSES) + 1} times; last, {type(error).__name__}: "
                    f"{without_secrets(str(error))}"
                ) from error
        time.sleep(pause * random.uniform(0.5, 1))
    raise AssertionError("the last try returns or raises")
