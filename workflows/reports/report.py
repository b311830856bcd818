"""A page about what was run: ``lsd-dask report``, or the option `report` of a step.

It is made of what is on disk - ledgers, tables, logs, volumes - and is one file that needs no other.
"""

import importlib.util
import time
from collections.abc import Mapping
from typing import Any

from lsd_dask.storage import files
from lsd_dask.storage.own_files import check_replaceable
from lsd_dask.volumes.formats.zarr_creating import normalise_path

from ..running.outputs import console
from .page import Page
from .runs import add_runs
from .scores import add_comparison

#: Name of the page in a container, or in the folder of a training.
USUAL_NAME = "report.html"

#: File that says that a folder is that of a training.
_TRAINING = "training.json"

_TABLE = ".parquet"


def report(container: str, path: str | None = None, *, configuration: Mapping[str, Any] | None = None) -> str:
    """Write a page (HTML) about all that was run on a container, about a training, or about a comparison.

    It shows what each step was told and when, how long its blocks took and where they failed, the voxels a
    second, the scores of all thresholds, and a section of the result; of a training the steps a second,
    losses and scores over its steps, the volumes it learns from, samples with predictions, and checkpoints.
    It is one file that needs no other, and runs no scripts.

    Parameters
    ----------
    container
        Path or URL of a container, of the folder of a training (`out_dir`), or of the table of a comparison.
    path
        File to write; by default ``report.html`` in the container or folder, or a file beside the table.
    configuration
        Options of the run that the page is about, if they are to be shown and are not on disk.

    Returns
    -------
    str
        Path of the page.

    Raises
    ------
    FileNotFoundError
        If no step ever wrote there.
    FileExistsError
        If a file is there that is no report of ours.
    ValueError
        If a ledger, a table, a log or a checkpoint cannot be read.
    ImportError
        If matplotlib is not installed, or of a training PyTorch.
    """
    container = normalise_path(container)
    path = _usual_path(container) if path is None else str(path)
    check_report(path)
    page = Page(container, f"Made on {time.strftime('%Y-%m-%d at %H:%M %Z')}")
    recorded = _add_contents(page, container)
    configuration = recorded if configuration is None else configuration
    if configuration:
        page.heading("Configuration")
        page.data({key: value for key, value in configuration.items() if value is not None})
    files.write_bytes(path, page.html().encode())
    return path


def check_report(path: str) -> None:
    """Raise ImportError or an OSError where a report could not be written, before there is anything in it."""
    if importlib.util.find_spec("matplotlib") is None:
        raise ImportError('A report needs matplotlib: pip install "lsd-dask[view]"')
    check_replaceable(path, "the report")


def write_report(container: str, path: str, configuration: Mapping[str, Any]) -> None:
    """Write the report of a step that was asked for one, and tell where."""
    console.print(f"  report: {files.shown(report(container, path, configuration=configuration))}")


def _is_table(container: str) -> bool:
    return container.endswith(_TABLE) or files.is_file(container)


def _usual_path(container: str) -> str:
    if _is_table(container):
        return f"{container.removesuffix(_TABLE)}.html"
    return files.join(container, USUAL_NAME)


def _add_contents(page: Page, container: str) -> Mapping[str, Any]:
    """Add all that is there; what it was told, where that is noted as a whole."""
    if _is_table(container):
        return add_comparison(page, container)
    there = set(files.names(container))
    if not {"rag", "runs", _TRAINING} & there:
        raise FileNotFoundError(f"{container}: no step of lsd-dask has written to this container")
    if {"rag", "runs"} & there:
        add_runs(page, container)
    if _TRAINING not in there:
        return {}
    # Late, as it needs PyTorch.
    told: Mapping[str, Any] = importlib.import_module(".training", __package__).add_training(page, container)
    return told
