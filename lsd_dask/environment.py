"""Environment variables of workers, which have to be there before their process begins."""

#: How workers keep memory and read arrays. What the user has set in the environment goes first.
#:
#: dask lets go of all memory that is free, so that every chunk of a volume, a few megabytes, is asked of the
#: system anew and cleared by it: that doubles the time of reading. What is kept with these is at most some
#: tens of megabytes.
#:
#: zarr's usual pipeline makes a coroutine for every chunk and decodes in threads beside the worker's own. The
#: synchronous one takes less of a core, and a worker's thread then takes no more than the one core that it
#: counts for. Object stores are read as ever, many chunks at a time.
WORKER_ENVIRONMENT = {
    "MALLOC_TRIM_THRESHOLD_": "16777216",
    "MALLOC_MMAP_THRESHOLD_": "4194304",
    "MALLOC_ARENA_MAX": "2",
    "ZARR_CODEC_PIPELINE__PATH": "zarr.core.codec_pipeline.FusedCodecPipeline",
    "ZARR_CODEC_PIPELINE__MAX_WORKERS": "1",
}


def exports() -> list[str]:
    """Shell commands that set what is not set.

    Examples
    --------
    >>> exports()[2]
    'export MALLOC_ARENA_MAX="${MALLOC_ARENA_MAX:-2}"'
    """
    return [f'export {name}="${{{name}:-{value}}}"' for name, value in WORKER_ENVIRONMENT.items()]
