"""How kernels are compiled: lazily, without the GIL, cached on disk, safely when many workers start."""

import functools
import hashlib
import os
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Any, cast

import numba
import numpy as np
from filelock import FileLock


def device[F: Callable[..., Any]](function: F) -> F:
    """Compile a function that is only called from kernels, whose machine code its own becomes part of.

    Not cached by itself: several kernels may call one, for different types, and be compiled at the same time.
    """
    return cast(F, numba.njit(nogil=True)(function))


def inner_device[F: Callable[..., Any]](function: F) -> F:
    """Compile a device function of an inner loop, which allocates nothing.

    Numba counts references to every array that is taken out of a tuple, two atomic operations each, and hands
    over seven words for every array: in functions of some hundred cycles, as much as the work itself.
    """
    return cast(F, numba.njit(nogil=True, _nrt=False, forceinline=True)(function))  # type: ignore[call-overload]


def kernel[F: Callable[..., Any]](function: F) -> F:
    """Compile `function` with numba on its first call with each combination of argument types.

    The on-disk cache of numba keeps one index a function. Two processes that compile the same function
    for different types at the same time can leave an index entry that names the other one's machine code, so
    the first call for a combination of types holds a lock shared by all processes of the user.

    The machine code holds that of device functions and constants of other modules, but numba looks only at
    the kernel's own file to tell whether it is out of date; here, all files of the package count.

    Never `parallel=True`: numba's default threading layer aborts when it is entered from several threads, and
    dask workers are such threads.
    """
    compiled = _cached(function)
    ready: set[tuple[Any, ...]] = set()

    def call(*args: Any) -> Any:
        signature = tuple(map(_type_of, args))
        if signature in ready:
            return compiled(*args)
        with _lock(function):
            compiled.compile(tuple(numba.typeof(arg) for arg in args))
        ready.add(signature)
        return compiled(*args)

    wrapped: Any = functools.wraps(function)(call)
    wrapped.cache_folder = Path(compiled.stats.cache_path) if compiled.stats.cache_path else None
    return cast(F, wrapped)


def _cached(function: Callable[..., Any]) -> Any:
    """A function that numba is to compile, and to keep on disk where there is a place for it."""
    if _cache_of_user() is not None:
        # It cannot where neither the folder of the sources nor the user's can be written to.
        with suppress(RuntimeError):
            return _kept(function)
    folder = _own_folder()
    if folder is None:
        return numba.njit(nogil=True)(function)
    settings: Any = numba.config
    before, settings.CACHE_DIR = settings.CACHE_DIR, str(folder / "kernels")
    try:
        return _kept(function)
    finally:
        settings.CACHE_DIR = before


def _kept(function: Callable[..., Any]) -> Any:
    """The same in the folder that numba takes; RuntimeError where it has none."""
    compiled: Any = numba.njit(nogil=True, cache=True)(function)
    cache_file = compiled._cache._cache_file
    cache_file._source_stamp = (cache_file._source_stamp, _digest_of_sources())
    return compiled


@functools.cache
def _digest_of_sources() -> str:
    """Digest of the modules of this package."""
    digest = hashlib.blake2b(digest_size=8)
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _type_of(argument: Any) -> Any:
    if isinstance(argument, np.ndarray):
        return argument.dtype, argument.ndim, argument.flags.c_contiguous, argument.flags.writeable
    return type(argument)


def _lock(function: Callable[..., Any]) -> AbstractContextManager[Any]:
    """What processes of this user wait for that compile the same function."""
    folder = _own_folder()
    if folder is None:
        return nullcontext()
    return FileLock(folder / f"{function.__module__}.{function.__qualname__}.lock")


@functools.cache
def _own_folder() -> Path | None:
    """A folder for what this package keeps between programs: in the user's cache.

    A container may have no home, or one that cannot be written to: then in the folder for temporary files, or
    nowhere.
    """
    with suppress(OSError):
        if (cache := _cache_of_user()) is not None:
            folder = cache / "lsd_dask"
            folder.mkdir(parents=True, exist_ok=True)
            if os.access(folder, os.W_OK):
                return folder
    with suppress(OSError):
        folder = Path(tempfile.gettempdir()) / f"lsd_dask-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        state = folder.stat()
        # Machine code is run. Here, another user may have made the folder, to put some into it.
        if state.st_uid == os.getuid() and not state.st_mode & 0o022:
            return folder
    return None


def _cache_of_user() -> Path | None:
    """The folder that a user's programs keep files in; None for a user without a home.

    Numba would then make a folder called ``~`` in the working directory.
    """
    named = os.environ.get("XDG_CACHE_HOME")
    with suppress(RuntimeError):
        return Path(named) if named else Path.home() / ".cache"
    return None
