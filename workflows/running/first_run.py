"""Say that kernels are compiled, where a first run would be slow without a visible reason."""

import functools
from pathlib import Path
from types import ModuleType

from lsd_dask import kernels

from .outputs import console


def say_if_compiled(*modules: ModuleType) -> None:
    """Print a line, once a process, if a step will compile its kernels before it begins to work.

    Parameters
    ----------
    *modules
        Those of `lsd_dask.kernels` that take the step seconds to compile.
    """
    if not all(map(_is_cached, modules)):
        _say()


@functools.cache
def _say() -> None:
    console.print(
        "Kernels are compiled when they are first used on a machine, which takes up to a minute; later runs "
        "read them from a cache."
    )


def _is_cached(module: ModuleType) -> bool:
    """Whether machine code of a module is on disk, and no older than the sources."""
    folder = _cache_folder_of(module)
    name = module.__name__.rpartition(".")[2]
    made = [path.stat().st_mtime for path in folder.glob(f"{name}.*.nbi")] if folder else []
    sources = Path(kernels.__path__[0]).rglob("*.py")
    return bool(made) and max(made) >= max(path.stat().st_mtime for path in sources)


def _cache_folder_of(module: ModuleType) -> Path | None:
    """Folder that numba keeps the machine code of a module in; None where it cannot keep any."""
    folders = (getattr(each, "cache_folder", None) for each in vars(module).values())
    return next(filter(None, folders), None)
