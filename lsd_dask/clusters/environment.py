"""What the processes of workers need beside code: environment variables, and how zarr reads."""

import zarr

#: How workers keep memory, which has to be said before their process begins. dask lets go of all memory that
#: is free, so that every chunk of a volume, a few megabytes, is asked of the system anew and cleared by it:
#: that doubles the time of reading. What is kept with these is at most some tens of megabytes. What the user
#: has set in the environment goes first.
WORKER_ENVIRONMENT = {
    "MALLOC_TRIM_THRESHOLD_": "16777216",
    "MALLOC_MMAP_THRESHOLD_": "4194304",
    "MALLOC_ARENA_MAX": "2",
}

_USUAL, _SYNCHRONOUS = (f"zarr.core.codec_pipeline.{name}CodecPipeline" for name in ("Batched", "Fused"))


def exports() -> list[str]:
    """Shell commands that set what is not set.

    Examples
    --------
    >>> exports()[2]
    'export MALLOC_ARENA_MAX="${MALLOC_ARENA_MAX:-2}"'
    """
    return [f'export {name}="${{{name}:-{value}}}"' for name, value in WORKER_ENVIRONMENT.items()]


def read_in_one_thread() -> None:
    """Let zarr read and write in the thread that asks for it, in all of this process; unless told otherwise.

    zarr's usual pipeline makes a coroutine for every chunk and decodes in threads beside the worker's own.
    The synchronous one takes less of a core, and a worker's thread then takes no more than the one core that
    it counts for. Object stores are read as ever, many chunks at a time.
    """
    if zarr.config.get("codec_pipeline.path") == _USUAL:
        zarr.config.set({"codec_pipeline.path": _SYNCHRONOUS, "codec_pipeline.max_workers": 1})
