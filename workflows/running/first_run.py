"""Say that kernels are compiled, where a first run would be slow without a visible reason."""

import functools
from pathlib import Path

from lsd_dask import kernels
from lsd_dask.kernels.compiling import cache_folder_of
from lsd_dask.kernels.segmentation.relabeling import relabel

from .outputs import console


def say_if_compiled(*modules: str) -> None:
    """Print a line, once a process, if a step will compile its kernels before it begins to work.

    Parameters
    ----------
    *modules : str
        Those modules of `lsd_dask.kernels` that take the step seconds to compile.
    """
    if not all(map(_is_cached, modules)):
        _say()


@functools.cache
def _say() -> None:
    console.print(
        "Kernels are compiled when they are first used on a machine, which takes up to a minute; later runs "
        "read them from a cache."
    )


def _is_cached(module: str) -> bool:
    """Whether machine code of a module is on disk, and no older than the sources."""
    folder = cache_folder_of(relabel)
    made = [path.stat().st_mtime for path in folder.glob(f"{module}.*.nbi")] if folder else []
    sources = Path(kernels.__path__[0]).glob("*.py")
    return bool(made) and max(made) >= max(path.stat().st_mtime for path in sources)
