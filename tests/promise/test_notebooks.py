"""The notebooks run from top to bottom, and show what they say."""

import ast
import asyncio
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from aiohttp import web

import lsd_dask as ld

from ..helpers.notebooks import FOLDER, TRAINING, Runner, cells_with, check_pictures, printed
from ..helpers.notebooks import run as run

PATHS = sorted(FOLDER.glob("*.ipynb"))
OTHERS = (
    "01_local_shape_descriptors",
    "02_data",
    "07_watershed_agglomeration_segmentation",
    "08_sparse_labels",
    "09_ignoring_glia",
    "10_non_em_pytorch",
    "11_scaling_out",
    "12_evaluation",
    "quickstart",
)

# Where nothing is compiled yet, everything is.
pytestmark = pytest.mark.timeout(600)


def test_all_are_run() -> None:
    assert sorted(path.stem for path in PATHS) == sorted(TRAINING + OTHERS)


def test_quickstart(run: Runner) -> None:
    notebook = run("quickstart")
    check_pictures(notebook, least=6)
    assert printed(notebook, "dashboard_link").startswith("http")
    (comparison,) = cells_with(notebook, "np.array_equal(first, second), np.array_equal(first, in_memory)")
    assert comparison.outputs[-1].data["text/plain"] == "(True, True)"


def test_local_shape_descriptors(run: Runner) -> None:
    notebook = run("01_local_shape_descriptors")
    check_pictures(notebook, least=5)
    assert printed(notebook, "LsdExtractor") == "True"


def test_data_without_a_network(run: Runner) -> None:
    notebook = run("02_data")
    check_pictures(notebook, least=3)
    for cell in ("is_reachable(f", "is_reachable(CREMI)"):
        assert "cannot be reached" in printed(notebook, cell)


def test_data_with_a_network(run: Runner, tmp_path: Path) -> None:
    """A server on loopback takes the place of the bucket and of CREMI."""
    tissue = ld.synthetic.neuropil((140, 140, 140), chunks=140)[["raw", "labels"]].compute()
    volumes = tmp_path / "fib25/training/trvol-250-1.zarr/volumes"
    ld.save_volume(tissue.raw, volumes / "raw", zarr_format=2)
    ld.save_volume(tissue.labels[4:-4, 4:-4, 4:-4], volumes / "labels/neuron_ids", zarr_format=2)
    for name, array in (("raw", tissue.raw), ("labels/neuron_ids", tissue.labels)):
        ld.save_volume(array.values, tmp_path / "sample.hdf/volumes" / name, voxel_size=(40, 4, 4))
    (volumes.parents[3] / "sample.hdf").rename(tmp_path / "sample_A_20160501.hdf")
    with serving(tmp_path) as url:
        places = {
            "https://open-neurodata.s3.amazonaws.com/funke": url,
            "https://cremi.org/static/data": url,
        }
        notebook = run("02_data", changes=places)
    check_pictures(notebook, least=3)
    for cell in ("is_reachable(f", "is_reachable(CREMI)"):
        assert not printed(notebook, cell)


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """A web server that answers requests for parts of files, too."""
    loop, started = asyncio.new_event_loop(), threading.Event()
    application = web.Application()
    application.router.add_static("/", folder)
    runner = web.AppRunner(application)

    async def start() -> None:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        started.set()

    def serve() -> None:
        loop.run_until_complete(start())
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())
        loop.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    assert started.wait(30)
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


def test_watershed_agglomeration_segmentation(run: Runner) -> None:
    notebook = run("07_watershed_agglomeration_segmentation")
    check_pictures(notebook, least=6)
    assert printed(notebook, "np.array_equal(segmentation") == "True"


@pytest.mark.parametrize("name", ["08_sparse_labels", "09_ignoring_glia"])
def test_what_is_not_to_be_learnt(run: Runner, name: str) -> None:
    check_pictures(run(name), least=3)


def test_non_em_pytorch(run: Runner) -> None:
    notebook = run("10_non_em_pytorch")
    check_pictures(notebook, least=4)
    scores = ast.literal_eval(printed(notebook, "rand_voi("))
    # More than five bits would be all cells in one.
    assert scores["voi_split"] + scores["voi_merge"] < 1.5


def test_scaling_out(run: Runner) -> None:
    notebook = run("11_scaling_out")
    check_pictures(notebook, least=1)
    assert "#SBATCH -p normal" in printed(notebook, "slurm:normal")
    assert "extract_fragments: interrupted, 6 of 8 blocks" in printed(notebook, "workflows.status")
    assert printed(notebook, "again.path == result.path") == "(True, 2)"


def test_evaluation(run: Runner) -> None:
    notebook = run("12_evaluation")
    check_pictures(notebook, least=5)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_cells_have_lasting_names(path: Path) -> None:
    """Names that an editor makes up anew would show as changes."""
    names = [cell["id"] for cell in json.loads(path.read_text())["cells"]]
    assert names == [f"{path.stem}-{number:02d}" for number in range(1, len(names) + 1)]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_committed_without_outputs(path: Path) -> None:
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_opens_with_what_one_will_learn_and_links_lead_somewhere(path: Path) -> None:
    texts = [
        "".join(cell["source"])
        for cell in json.loads(path.read_text())["cells"]
        if cell["cell_type"] == "markdown"
    ]
    assert re.match(r"# .+\n\nYou will( learn)?\n\n- ", texts[0])
    for link in re.findall(r"\]\((?!http)([^)#]+)", "".join(texts)):
        assert (path.parent / link).is_file(), link
    for document in re.findall(r"`(docs/\S+\.md)`", "".join(texts)):
        assert (path.parents[1] / document).is_file(), document
