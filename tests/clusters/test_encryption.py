"""Who may reach a cluster: dashboards on this machine alone, and certificates for all connections."""

from pathlib import Path

import dask
import psutil
import pytest
import yaml
from distributed import Client, LocalCluster, Security

from lsd_dask.clusters import encryption
from lsd_dask.clusters.connecting import connect, job_script
from lsd_dask.clusters.encryption import security_of


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dask configuration that names certificates in files."""
    made = Security.temporary()
    folder = tmp_path_factory.mktemp("certificates")
    for name in ("ca", "cert", "key"):
        content = made.tls_ca_file if name == "ca" else getattr(made, f"tls_worker_{name}")
        (folder / f"{name}.pem").write_text(content)
    pair = {"cert": f"{folder}/cert.pem", "key": f"{folder}/key.pem"}
    tls = {"ca-file": f"{folder}/ca.pem", "client": pair, "scheduler": pair, "worker": pair}
    path = folder / "dask.yaml"
    path.write_text(yaml.safe_dump({"distributed": {"comm": {"tls": tls}}}))
    return path


def listening() -> set[str]:
    """Addresses at which this process and those it started wait for connections."""
    me = psutil.Process()
    return {
        connection.laddr.ip
        for process in (me, *me.children(recursive=True))
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    }


def test_a_local_cluster_listens_on_this_machine_alone() -> None:
    before = listening()
    with connect("local", num_workers=1) as client:
        assert client.submit(sum, [1, 2]).result() == 3
        assert client.dashboard_link.startswith("http://127.0.0.1:")
        assert listening() - before <= {"127.0.0.1", "::1"}


@pytest.mark.parametrize("source", ["temporary", "file", "object"])
def test_connections_are_encrypted_where_it_is_asked_for(source: str, certificates: Path) -> None:
    security = {"temporary": "temporary", "file": certificates, "object": security_of(certificates)}[source]
    with connect("local", num_workers=1, security=security) as client:
        assert client.scheduler.address.startswith("tls://")
        assert all(address.startswith("tls://") for address in client.scheduler_info()["workers"])
        with pytest.raises(OSError):
            Client(client.scheduler.address.replace("tls://", "tcp://"), timeout=1)


def test_a_running_scheduler_asks_for_certificates(certificates: Path) -> None:
    with LocalCluster(
        n_workers=0,
        processes=False,
        dashboard_address=":0",
        protocol="tls://",
        security=security_of(certificates),
    ) as cluster:
        address = cluster.scheduler_address
        with pytest.raises(ValueError, match=f"{address}: found no certificates"):
            connect(address)
        with connect(address, security=certificates) as client:
            assert client.scheduler_info()["address"] == address


def test_jobs_are_told_where_certificates_are(certificates: Path) -> None:
    script = job_script("slurm", security=certificates)
    folder = certificates.parent
    for words in ("tls://SCHEDULER:PORT", f"--tls-ca-file {folder}/ca.pem", f"--tls-key {folder}/key.pem"):
        assert words in script
    shown = job_script("slurm", security="temporary")
    assert "--tls-key TLS_WORKER_KEY" in shown and "PRIVATE" not in shown


def test_what_dask_is_told_holds_where_nothing_else_is_said(certificates: Path) -> None:
    settings = yaml.safe_load(certificates.read_text())["distributed"]["comm"]["tls"]
    assert security_of(None) is None
    with dask.config.set(
        {"distributed.comm.require-encryption": True, "distributed.comm.tls.ca-file": settings["ca-file"]}
    ):
        assert security_of(None).tls_ca_file == settings["ca-file"]


@pytest.mark.parametrize(
    ("content", "error", "part"),
    [
        (None, FileNotFoundError, "there is no such file"),
        ("- 5", ValueError, "found no such section"),
        ("distributed: {comm: {tls: {ca-file: none.pem}}}", FileNotFoundError, "ca-file: found 'none.pem'"),
        ("distributed: {comm: {tls: {worker: {cert: none.pem}}}}", ValueError, "found no key ca-file"),
        ("distributed: {comm: {tls: {ca_fil: none.pem}}}", ValueError, "found the key ca-fil"),
        ("distributed: {", ValueError, "expected the section"),
    ],
)
def test_files_that_name_no_certificates_are_refused(
    content: str | None, error: type[Exception], part: str, tmp_path: Path
) -> None:
    path = tmp_path / "tls.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(error, match=part) as refusal:
        connect("local", security=path)
    assert str(path) in str(refusal.value)


def test_a_path_that_is_no_word_is_refused_for_jobs(certificates: Path, tmp_path: Path) -> None:
    security = security_of(certificates)
    encryption.check_words(security)
    security = Security(require_encryption=True, tls_ca_file=f"{tmp_path}/my ca.pem")
    with pytest.raises(ValueError, match=r"tls_ca_file: found .*my ca\.pem"):
        encryption.check_words(security)
    with pytest.raises(TypeError, match="security: found a int"):
        security_of(5)  # type: ignore[arg-type]
