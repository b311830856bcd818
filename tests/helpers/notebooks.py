"""Runs notebooks as a reader would: from top to bottom, each in a kernel and an empty folder of its own."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[2] / "notebooks"

#: distributed warns of a busy machine, which is no fault of a notebook.
SLOW_DISK = re.compile(r"UserWarning: Creating scratch directories is taking")

#: Half of the work is theirs, so they have a file of tests, and so a process, of their own.
TRAINING = ("03_training_affinities", "04_training_lsds", "05_training_mtlsd", "06_inference")

type Notebook = Any
type Runner = Callable[..., Notebook]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runner:
    """Runs a notebook out of reach of the network, and of the user's own kernels and settings."""
    for variable, value in {
        "JUPYTER_DATA_DIR": str(tmp_path / "jupyter"),
        "IPYTHONDIR": str(tmp_path / "ipython"),
        "TMPDIR": str(tmp_path),
        # Two processes run tests at the same time.
        "OMP_NUM_THREADS": "1",
        # A proxy that is not there: nothing is downloaded, also where there is a network.
        "https_proxy": "http://127.0.0.1:9",
    }.items():
        monkeypatch.setenv(variable, value)
    folder = tmp_path / "working directory"
    folder.mkdir()

    def run(name: str, changes: dict[str, str] | None = None) -> Notebook:
        notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
        for before, after in (changes or {}).items():
            assert cells_with(notebook, before)
            for cell in notebook.cells:
                cell.source = cell.source.replace(before, after)
        resources = {"metadata": {"path": str(folder)}}
        # A cell that fails raises CellExecutionError, which shows the cell and its traceback.
        NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources).execute()
        assert not list(folder.iterdir()), "a notebook should leave nothing where it is run"
        return notebook

    return run


def cells_with(notebook: Notebook, text: str) -> list[Any]:
    """The code cells whose source has a text in it."""
    return [cell for cell in notebook.cells if cell.cell_type == "code" and text in cell.source]


def check_pictures(notebook: Notebook, least: int) -> None:
    """Every cell that draws shows a picture, and nothing complains."""
    drawing = cells_with(notebook, "Image(")
    assert len(drawing) >= least
    for cell in drawing:
        shown = [name for output in cell.outputs for name in output.get("data", {})]
        assert shown == ["image/png", "text/plain"], cell.source
    written = [
        line
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        for line in output.get("text", "").splitlines()
    ]
    assert not [line for line in written if "Warning" in line and not SLOW_DISK.search(line)]


def printed(notebook: Notebook, text: str) -> str:
    """What the one cell with this text shows."""
    (cell,) = cells_with(notebook, text)
    shown = [
        output.get("text") or output.get("data", {}).get("text/plain", "")
        for output in cell.outputs
        if output.get("name") != "stderr"
    ]
    return "".join(shown).strip()
