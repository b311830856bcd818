"""How kernels are compiled: lazily, without the GIL, cached on disk, safely when many workers start."""

import functools
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numba
import numpy as np
from filelock import FileLock

#: For functions that are only called from other kernels, whose machine code theirs becomes part of. Not
#: cached by themselves: several kernels may call one, for different types, and be compiled at the same time.
device = numba.njit(nogil=True)

#: For device functions of inner loops, which allocate nothing. Numba counts references to every array that is
#: taken out of a tuple, two atomic operations each, and hands over seven words for every array: in functions
#: of some hundred cycles, as much as the work itself.
inner_device = numba.njit(nogil=True, _nrt=False, forceinline=True)  # type: ignore[call-overload]


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
    compiled: Any = numba.njit(nogil=True, cache=True)(function)
    cache_file = compiled._cache._cache_file
    cache_file._source_stamp = (cache_file._source_stamp, _digest_of_sources())
    ready: set[tuple[Any, ...]] = set()

    def call(*args: Any) -> Any:
        signature = tuple(map(_type_of, args))
        if signature in ready:
            return compiled(*args)
        with FileLock(_lock_path(function)):
            compiled.compile(tuple(numba.typeof(arg) for arg in args))
        ready.add(signature)
        return compiled(*args)

    wrapped: Any = functools.wraps(function)(call)
    wrapped.cache_folder = Path(compiled.stats.cache_path)
    return cast(F, wrapped)


def cache_folder_of(function: Callable[..., Any]) -> Path:
    """Folder that numba keeps the machine code of a kernel in."""
    folder: Path = cast(Any, function).cache_folder
    return folder


@functools.cache
def _digest_of_sources() -> str:
    """Digest of the modules of this package."""
    digest = hashlib.blake2b(digest_size=8)
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _type_of(argument: Any) -> Any:
    if isinstance(argument, np.ndarray):
        return argument.dtype, argument.ndim, argument.flags.c_contiguous, argument.flags.writeable
    return type(argument)


def _lock_path(function: Callable[..., Any]) -> Path:
    directory = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "lsd_dask"
    directory.mkdir(parents=True, exist_ok=True)
    return directory / f"{function.__module__}.{function.__qualname__}.lock"
