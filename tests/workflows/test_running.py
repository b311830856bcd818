"""What all steps share: the client they work with, and the report of what it did."""

from pathlib import Path

import pytest
from distributed import Client, LocalCluster

from lsd_dask.workflows.config.options import RunOptions
from lsd_dask.workflows.running.outputs import cluster


def test_steps_that_share_a_client_share_a_report(
    cluster_client: Client, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "new" / "report.html"
    options = RunOptions(performance_report=str(report))
    with cluster(options):
        with cluster(options) as client:
            assert client is cluster_client
            client.submit(abs, -1, key="a_step").result()
        assert not report.exists()
    assert "<html" in report.read_text()
    assert capfd.readouterr().err.count(f"performance report: {report}") == 1


def test_a_run_that_fails_is_reported_as_well(cluster_client: Client, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    with pytest.raises(ZeroDivisionError), cluster(RunOptions(performance_report=str(report))) as client:
        assert client is not None
        client.submit(divmod, 1, 0).result()
    assert report.exists()


def test_a_folder_for_a_report_is_refused_before_anything_is_started(tmp_path: Path) -> None:
    options = RunOptions(performance_report=str(tmp_path), queue="slurm")
    with pytest.raises(IsADirectoryError, match="expected the name of a file for performance_report"):
        cluster(options).__enter__()


def test_work_begins_when_there_is_a_worker(capfd: pytest.CaptureFixture[str]) -> None:
    """Else what fits into a worker would not be known."""
    with (
        LocalCluster(n_workers=0, processes=False, dashboard_address=":0") as workers,
        Client(workers),
    ):
        workers.loop.call_later(1, workers.scale, 1)
        with cluster(RunOptions()) as client:
            assert client is not None
            assert client.nthreads()
    assert "Waiting for the first worker" in capfd.readouterr().err
