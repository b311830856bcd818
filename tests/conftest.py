"""Hypothesis profiles, the real volumes where they are at hand, and one cluster for all tests."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from distributed import Client, LocalCluster
from hypothesis import settings

from .helpers.steps import save_tissue_with_mask

#: Where files in memory may lie, and how much room the tests need there.
MEMORY, ROOM = Path("/dev/shm"), 6 << 30


def _keep_files_in_memory() -> None:
    """Put temporary files where bringing them to the disk costs nothing, which runs do for every block.

    That it is done is seen by `test_power_cut`, on a disk of its own. Whoever sets TMPDIR has them there.
    """
    if "TMPDIR" in os.environ or not os.access(MEMORY, os.W_OK) or shutil.disk_usage(MEMORY).free < ROOM:
        return
    os.environ["TMPDIR"] = str(MEMORY)
    tempfile.tempdir = None


_keep_files_in_memory()

settings.register_profile("default", max_examples=25, deadline=None)
settings.register_profile("ci", max_examples=60, deadline=None, derandomize=True)
settings.register_profile("long", max_examples=2000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


#: Files of few tests that take long: begun first, or one process would be at the last of them alone.
LONG = (
    "test_one_answer",
    "test_slurm",
    "test_one_answer_regions",
    "test_training_notebooks",
    "test_notebooks",
    "test_resuming",
    "test_faults",
    "test_memory",
    "test_power_cut",
    "test_adding_up",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put long files first; ``--no-loadscope-reorder`` has processes take them in that order."""
    place = {name: i for i, name in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.path.stem, len(LONG)))


@pytest.fixture(scope="session")
def data_directory() -> Path:
    """The folder of real volumes: `LSD_DASK_DATA`, or `shared/data` beside the checkout."""
    beside = Path(__file__).parents[2] / "shared" / "data"
    directory = Path(os.environ.get("LSD_DASK_DATA", beside))
    if not directory.is_dir():
        pytest.skip("no real volumes: set LSD_DASK_DATA to the folder that holds them")
    return directory


@pytest.fixture(scope="session")
def _cluster() -> Iterator[LocalCluster]:
    with LocalCluster(
        n_workers=2, threads_per_worker=1, memory_limit="2 GiB", dashboard_address=":0"
    ) as cluster:
        yield cluster


@pytest.fixture
def cluster_client(_cluster: LocalCluster) -> Iterator[Client]:
    """The active client of a cluster of two processes, which is started once for all tests."""
    with Client(_cluster) as client:
        yield client


@pytest.fixture(scope="session")
def tissue_zarr(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Affinities, labels and a coarse mask, for single steps; not to be written to."""
    container = tmp_path_factory.mktemp("tissue") / "tissue.zarr"
    save_tissue_with_mask(container)
    return container
