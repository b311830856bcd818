"""A real Slurm of one node: the main job in its queue, cancelled jobs, jobs at the end of their time.

Its output is bit for bit that of this machine. What a test protects against was seen by switching the
protection off; how is said in its docstring.
"""

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dask
import pytest
from dask_jobqueue import SLURMCluster
from distributed import Client, Worker, WorkerPlugin

from lsd_dask import workflows
from lsd_dask.blockwise import runs
from lsd_dask.clusters import upkeep
from lsd_dask.clusters.connecting import connect

from ..helpers.faulty import digests, options, save_tissue, undisturbed_digests
from ..helpers.slurm import slurm, what_is_missing

ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.skipif(what_is_missing() is not None, reason=str(what_is_missing())),
    pytest.mark.timeout(600),
]


@pytest.fixture(scope="module", autouse=True)
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A Slurm that is found by its commands, and jobs that find these tests."""
    folder = tmp_path_factory.mktemp("slurm")
    with pytest.MonkeyPatch.context() as patch, slurm(folder) as environment:
        patch.chdir(folder)
        for name in ("SLURM_CONF", "PATH"):
            patch.setenv(name, environment[name])
        patch.setenv("PYTHONPATH", str(ROOT))
        # What takes a minute of a site's time, and a quarter of it, here takes seconds.
        patch.setattr(upkeep, "INTERVAL", 1.0)
        patch.setattr(upkeep, "ASKING_INTERVAL", 2.0)
        with dask.config.set({"distributed.deploy.lost-worker-timeout": "2s"}):
            yield


@pytest.fixture(scope="module")
def container(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tissue") / "tissue.zarr"
    save_tissue(path)
    return path


@pytest.fixture(scope="module")
def local(container: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Digests of what a run on this machine gives."""
    return undisturbed_digests(container, tmp_path_factory.mktemp("local") / "out.zarr")


def scontrol(job: str) -> dict[str, str]:
    """What Slurm says of a job."""
    shown = subprocess.run(["scontrol", "show", "job", job], capture_output=True, text=True, check=True)
    return dict(entry.split("=", 1) for entry in shown.stdout.split() if "=" in entry)


def jobs_of(client: Client) -> list[str]:
    return [job.job_id for job in client.cluster.workers.values()]


def wait_until(is_so: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.1)


class Hang(WorkerPlugin):
    """Lets the workers of some jobs do a few blocks, and then never end another one."""

    def __init__(self, jobs: list[str], folder: Path, blocks: int = 3) -> None:
        self.jobs, self.folder, self.blocks = jobs, folder, blocks

    def setup(self, worker: Worker) -> None:
        job = os.environ["SLURM_JOB_ID"]
        if job not in self.jobs:
            return
        begun, call = [], runs.RecordedTask.__call__

        def hanging(task: Any, block: Any) -> Any:
            begun.append(block)
            if len(begun) <= self.blocks:
                return call(task, block)
            (self.folder / f"hangs-{job}").touch()
            return time.sleep(3600)

        runs.RecordedTask.__call__ = hanging  # type: ignore[method-assign]

    def hang(self) -> bool:
        """Whether a worker of each of the jobs is in the midst of a block that never ends."""
        return all((self.folder / f"hangs-{job}").exists() for job in self.jobs)


def test_the_main_job_runs_in_a_queue(
    container: Path, tmp_path: Path, local: dict[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    told = {
        "queue": "short",
        "memory": "1 GB",
        "walltime": "0:05",
        "job_extra_directives": ["--comment=tissue"],
        "performance_report": tmp_path / "report.html",
    }
    workflows.segment(options(container, tmp_path / "out.zarr") | told)
    assert digests(tmp_path / "out.zarr") == local
    assert "extract_fragments" in (tmp_path / "report.html").read_text()
    said = capfd.readouterr().err
    assert "Watch it work: http://" in said
    assert "Waiting for the first worker (short)" in said
    assert said.count("performance report:") == 1
    assert list(Path("dask-logs").glob("*.err"))


@contextlib.contextmanager
def cancelling(jobs: list[str], when: Callable[[], bool]) -> Iterator[None]:
    """Cancel jobs as soon as something is so, while something else goes on."""

    def cancel() -> None:
        wait_until(when, 60)
        subprocess.run(["scancel", *jobs], check=True)

    with ThreadPoolExecutor(1) as thread:
        cancelled = thread.submit(cancel)
        yield
        cancelled.result()


@contextlib.contextmanager
def my_own_client() -> Iterator[Client]:
    """One that knows nothing of this package."""
    with (
        SLURMCluster(
            cores=1, memory="1 GB", log_directory="logs", scheduler_options={"dashboard_address": ":0"}
        ) as cluster,
        Client(cluster) as client,
    ):
        cluster.scale(2)
        yield client


@contextlib.contextmanager
def a_job_of_two_workers() -> Iterator[Client]:
    with connect("slurm", num_workers=2, cores=2, memory="1 GB") as client:
        assert len(jobs_of(client)) == 1
        yield client


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("connected", [a_job_of_two_workers, my_own_client])
def test_all_jobs_are_cancelled_in_the_midst_of_a_run(
    connected: Callable[[], contextlib.AbstractContextManager[Client]],
    container: Path,
    tmp_path: Path,
    local: dict[str, str],
) -> None:
    """Without `Upkeep`, and where it does not look at groups of workers, the run waits for ever."""
    with connected() as client:
        client.wait_for_workers(2, timeout=60)
        jobs = jobs_of(client)
        plugin = Hang(jobs, tmp_path)
        client.register_plugin(plugin)
        with cancelling(jobs, plugin.hang):
            workflows.segment(options(container, tmp_path / "out.zarr"))
        assert set(jobs_of(client)).isdisjoint(jobs)
    assert {scontrol(job)["JobState"] for job in jobs} == {"CANCELLED"}
    assert digests(tmp_path / "out.zarr") == local


@pytest.mark.filterwarnings("ignore")
def test_jobs_reach_their_walltime(container: Path, tmp_path: Path, local: dict[str, str]) -> None:
    """Slurm ends them between one and one and a half minutes. Without `Upkeep`, the run waits for ever."""
    staying = ["--lifetime", "1h"]
    with connect("slurm", num_workers=2, memory="1 GB", walltime="0:01", worker_extra_args=staying) as client:
        client.wait_for_workers(2, timeout=60)
        jobs = jobs_of(client)
        client.register_plugin(Hang(jobs, tmp_path))
        workflows.segment(options(container, tmp_path / "out.zarr"))
        assert set(jobs_of(client)).isdisjoint(jobs)
    assert {scontrol(job)["JobState"] for job in jobs} == {"TIMEOUT"}
    assert digests(tmp_path / "out.zarr") == local


def test_a_worker_that_leaves_ends_its_job_and_is_replaced() -> None:
    """With a lifetime, as `connect` gives it by the walltime: the job is not killed, and lasts no longer."""
    leaving = ["--lifetime", "5s"]
    with (
        dask.config.set({"distributed.deploy.lost-worker-timeout": "10s"}),
        connect("slurm", memory="1 GB", worker_extra_args=leaving) as client,
    ):
        (first,) = jobs_of(client)
        wait_until(lambda: jobs_of(client) not in ([], [first]), 60)
    assert scontrol(first)["JobState"] == "COMPLETED"


def test_a_job_that_ends_while_it_waits_is_submitted_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the list of jobs, it is taken to be waiting for ever."""
    warned: list[str] = []
    # Not `caplog`, whose handlers dask silences for as long as there is a cluster of jobs.
    monkeypatch.setattr(upkeep.logger, "warning", lambda message, *values: warned.append(message % values))
    with connect("slurm:closed", memory="1 GB", resources={"GPU": 1}) as client:
        (waiting,) = jobs_of(client)
        assert scontrol(waiting)["JobState"] == "PENDING"
        assert scontrol(waiting)["TresPerNode"] == "gres:gpu:1"
        subprocess.run(["scancel", waiting], check=True)
        wait_until(lambda: jobs_of(client) not in ([], [waiting]), 30)
        assert scontrol(jobs_of(client)[0])["JobState"] == "PENDING"
    assert any(f"job {waiting} ended before its workers began" in message for message in warned)


def test_a_queue_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="invalid partition specified: long"):
        connect("slurm:long", memory="1 GB")
