"""The notebooks run from top to bottom, and show what they say."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"

type Notebook = Any


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Notebook]:
    """Runs a notebook in an empty folder, out of reach of the user's own kernels and settings."""
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "jupyter"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    folder = tmp_path / "working directory"
    folder.mkdir()

    def run(name: str) -> Notebook:
        notebook = nbformat.read(NOTEBOOKS / name, as_version=4)
        resources = {"metadata": {"path": str(folder)}}
        # A cell that fails raises CellExecutionError, which shows the cell and its traceback.
        NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources).execute()
        assert not list(folder.iterdir()), "a notebook should leave nothing where it is run"
        return notebook

    return run


def cells_with(notebook: Notebook, text: str) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code" and text in cell.source]


# Where nothing is compiled yet, everything is.
@pytest.mark.timeout(600)
def test_quickstart(run: Callable[[str], Notebook]) -> None:
    notebook = run("quickstart.ipynb")

    drawing = cells_with(notebook, "Image(")
    assert len(drawing) >= 6
    for cell in drawing:
        assert [list(output.data) for output in cell.outputs] == [["image/png", "text/plain"]], cell.source

    (dashboard,) = cells_with(notebook, "dashboard_link")
    assert dashboard.outputs[0].text.startswith("http")

    (comparison,) = cells_with(notebook, "np.array_equal(first, second), np.array_equal(first, in_memory)")
    assert comparison.outputs[-1].data["text/plain"] == "(True, True)"


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_cells_have_lasting_names(path: Path) -> None:
    """Names that an editor makes up anew would show as changes."""
    names = [cell["id"] for cell in json.loads(path.read_text())["cells"]]
    assert names == [f"{path.stem}-{number:02d}" for number in range(1, len(names) + 1)]
