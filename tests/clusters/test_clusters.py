import asyncio
import copy
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dask
import dask_jobqueue
import distributed
import pytest
import zarr
from distributed import Client, LocalCluster
from hypothesis import given
from hypothesis import strategies as st

from lsd_dask import clusters
from lsd_dask.clusters import jobs, upkeep
from lsd_dask.clusters.connecting import connect, session
from lsd_dask.clusters.environment import WORKER_ENVIRONMENT
from lsd_dask.clusters.jobs import BATCH_SYSTEMS
from lsd_dask.clusters.walltimes import seconds_of, walltime_for


@pytest.fixture(autouse=True)
def no_site(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hide the batch system of the machine that runs the tests, and write logs where they are thrown away."""
    monkeypatch.delenv("LSD_DASK_CLUSTER", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.chdir(tmp_path)


def test_local_workers_are_single_threaded_processes_that_end_with_the_client() -> None:
    with connect("local", num_workers=2, memory="1 GiB") as client:
        pids = client.run(os.getpid)
        workers = client.scheduler_info()["workers"].values()
        assert client.submit(sum, [1, 2, 3]).result() == 6
        assert len(set(pids.values()) | {os.getpid()}) == 3
        assert [worker["nthreads"] for worker in workers] == [1, 1]
        assert [worker["memory_limit"] for worker in workers] == [2**30, 2**30]
        assert client.dashboard_link.startswith("http://")
        cluster = client.cluster
    assert cluster.status == distributed.Status.closed


def test_workers_begin_in_the_environment_that_they_need(monkeypatch: pytest.MonkeyPatch) -> None:
    """The C library reads it once, before a worker can do anything about it. The caller's own goes first."""
    monkeypatch.setenv("MALLOC_ARENA_MAX", "3")
    # As dask leaves it behind in the process that has started a cluster.
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "65536")
    with connect("local", num_workers=1, env={"MALLOC_MMAP_THRESHOLD_": "5"}) as client:
        (begun_in,) = client.run(lambda: Path("/proc/self/environ").read_text().split("\0")).values()
        (reading,) = client.run(_how_zarr_reads).values()
    found = dict(each.split("=", 1) for each in begun_in if each)
    assert {name: found.get(name) for name in WORKER_ENVIRONMENT} == WORKER_ENVIRONMENT | {
        "MALLOC_ARENA_MAX": "3",
        "MALLOC_MMAP_THRESHOLD_": "5",
    }
    assert reading == ("FusedCodecPipeline", 1)
    assert _how_zarr_reads()[0] == "BatchedCodecPipeline"


def _how_zarr_reads() -> tuple[str, int]:
    array = zarr.zeros((2,), chunks=(1,))
    return type(array._async_array.codec_pipeline).__name__, zarr.config.get("codec_pipeline.max_workers")


def test_jobs_set_the_environment_unless_their_site_does() -> None:
    script = clusters.job_script("slurm:short", job_script_prologue=["module load cells"])
    lines = script.splitlines()
    begin = next(i for i, line in enumerate(lines) if line.startswith("export "))
    exported = lines[begin : begin + len(WORKER_ENVIRONMENT)]
    assert lines[begin + len(exported)] == "module load cells"
    command = "\n".join([*exported, *(f'echo "${name}"' for name in WORKER_ENVIRONMENT)])
    environment = {"PATH": os.defpath, "MALLOC_ARENA_MAX": "3"}
    ended = subprocess.run(
        ["/bin/sh", "-c", command], env=environment, capture_output=True, text=True, check=True
    )
    assert ended.stdout.split() == [*(WORKER_ENVIRONMENT | {"MALLOC_ARENA_MAX": "3"}).values()]


def test_a_client_can_be_closed_twice() -> None:
    client = connect("local", num_workers=1)
    client.close()
    client.close()


def test_no_warning_when_the_usual_dashboard_port_is_taken() -> None:
    with connect("local", num_workers=1) as first, connect("local", num_workers=1) as second:
        assert first.dashboard_link != second.dashboard_link


def test_a_program_that_forgets_to_close_ends_cleanly(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "from lsd_dask.clusters import connect\n"
        "if __name__ == '__main__':\n"
        "    print(connect('local', num_workers=1).submit(abs, -1).result())\n"
    )
    ended = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout == "1\n"
    assert "Traceback" not in ended.stderr


@pytest.fixture
def running() -> Iterator[LocalCluster]:
    with LocalCluster(n_workers=1, processes=False, dashboard_address=":0", protocol="tcp://") as cluster:
        yield cluster


def test_a_running_scheduler_is_left_running(running: LocalCluster, tmp_path: Path) -> None:
    scheduler_file = tmp_path / "scheduler.json"
    with Client(running) as writer:
        writer.write_scheduler_file(scheduler_file)
    address = running.scheduler_address
    for cluster in (address, address.removeprefix("tcp://"), scheduler_file):
        with connect(cluster, num_workers=99) as client:
            assert client.submit(sum, [1, 2]).result() == 3
        assert running.status == distributed.Status.running


def test_an_active_client_is_used_and_left_open(running: LocalCluster) -> None:
    with Client(running) as mine:
        with session("slurm:gpu", num_workers=100) as client:
            assert client is mine
        assert mine.submit(sum, [1, 2]).result() == 3


def test_without_an_active_client_a_session_makes_one_and_closes_it() -> None:
    with session("local", num_workers=1) as client:
        assert Client.current() is client
        cluster = client.cluster
    assert cluster.status == distributed.Status.closed


def test_a_session_that_fails_closes_its_cluster() -> None:
    with pytest.raises(ZeroDivisionError), session("local", num_workers=1) as client:
        cluster = client.cluster
        client.submit(divmod, 1, 0).result()
    assert cluster.status == distributed.Status.closed


@pytest.mark.parametrize("wrong", [0, -1, 1.5, True, "4"])
def test_numbers_of_workers_and_cores_are_checked(wrong: object) -> None:
    with pytest.raises(ValueError, match="num_workers should be a whole number of at least 1, not"):
        connect("local", num_workers=wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="cores should be a whole number of at least 1, not"):
        connect("slurm", cores=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", ["much", "8", "-1 GB", 0])
def test_memory_is_checked(wrong: str | int) -> None:
    with pytest.raises(ValueError, match="memory should be a size such as '8 GB'"):
        connect("local", memory=wrong)


@pytest.mark.parametrize("wrong", ["12", "720", "12 weeks", "0:00", "0 h", "1:75", "soon", ""])
def test_walltime_is_checked(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"walltime should be '\[days-\]hours:minutes\[:seconds\]'"):
        connect("slurm", walltime=wrong)


def test_a_name_that_is_nothing_is_refused_with_what_to_do() -> None:
    with pytest.raises(ValueError, match=r"'locl' is neither 'local', a batch system .* say 'slurm:locl'"):
        connect("locl")


def test_a_site_with_an_unknown_batch_system_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LSD_DASK_CLUSTER", "slrum")
    with pytest.raises(ValueError, match=r"LSD_DASK_CLUSTER .* one of slurm, lsf, .* not 'slrum'"):
        connect("gpu")


def test_a_missing_scheduler_file_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"scheduler\.json: no such scheduler file"):
        connect(tmp_path / "scheduler.json")


def test_a_dask_configuration_names_the_cluster(tmp_path: Path) -> None:
    site = tmp_path / "site.yaml"
    site.write_text("lsd-dask:\n  cluster: local\ndistributed:\n  scheduler:\n    allowed-failures: 7\n")
    before = copy.deepcopy(dask.config.config)
    try:
        with connect(site, num_workers=1) as client:
            assert client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.allowed_failures) == 7
    finally:
        dask.config.config.clear()
        dask.config.config.update(before)


@pytest.mark.parametrize("content", ["", "lsd-dask: slurm", "lsd-dask: {cluster: 5}", "[", "- slurm"])
def test_a_dask_configuration_that_names_none_is_refused(content: str, tmp_path: Path) -> None:
    site = tmp_path / "site.yaml"
    site.write_text(content)
    with pytest.raises(ValueError, match=r"site\.yaml"):
        connect(site)
    with pytest.raises(FileNotFoundError, match=r"other\.yaml: there is no such dask configuration"):
        connect(tmp_path / "other.yaml")


def test_an_address_where_nobody_answers_is_an_error() -> None:
    with pytest.raises(OSError, match=r"tcp://127\.0\.0\.1:9"):
        connect("127.0.0.1:9", timeout="0.2s")


def test_a_machine_that_cannot_submit_jobs_is_told() -> None:
    with pytest.raises(FileNotFoundError, match="slurm: its command 'sbatch' is not installed"):
        connect("slurm")


def test_without_dask_jobqueue_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dask_jobqueue", None)
    with pytest.raises(ImportError, match=r'pip install "lsd-dask\[cluster\]"'):
        connect("slurm")


def job_script(kind: str, queue: str = "", **options: object) -> str:
    wanted = {
        name: options.pop(name, None)
        for name in ("memory", "cores", "walltime", "resources", "job_extra_directives")
    }
    settings = jobs.job_settings(kind, queue, jobs.Workers(**wanted), options)
    settings["scheduler_options"] = {"dashboard_address": ":0"}
    with getattr(dask_jobqueue, BATCH_SYSTEMS[kind][0])(**settings) as cluster:
        return cluster.job_script()


@pytest.mark.parametrize(("kind", "queue"), [("slurm", "gpu"), ("lsf", "normal"), ("sge", "")])
def test_a_script_can_be_looked_at_before_it_is_submitted(kind: str, queue: str) -> None:
    wanted = {"memory": "4 GiB", "cores": 2, "walltime": "12:00", "resources": {"GPU": 1}}
    shown = clusters.job_script(f"{kind}:{queue}" if queue else kind, **wanted)
    assert not list(Path.cwd().iterdir())
    submitted = job_script(kind, queue, **wanted)
    submitted = re.sub(r"tcp://[\w.]+:\d+ --name \S+", "tcp://SCHEDULER:PORT --name NAME", submitted)
    # LSF's logs are named after the worker.
    assert shown == submitted.replace("dummy-name", "NAME")


def test_where_there_are_no_jobs_there_is_no_script() -> None:
    with pytest.raises(ValueError, match="no jobs"):
        clusters.job_script("local")
    with pytest.raises(ValueError, match="no jobs"):
        clusters.job_script("tcp://10.0.0.1:8786")


def test_a_slurm_job_asks_for_what_its_workers_need(tmp_path: Path) -> None:
    script = job_script("slurm", "gpu", memory="4 GiB", cores=4, walltime="2-00:30", account="lab")
    for line in (
        "#SBATCH -p gpu",
        "#SBATCH -A lab",
        "#SBATCH --cpus-per-task=4",
        "#SBATCH --mem=16G",
        "#SBATCH -t 48:30:00",
        "#SBATCH -o dask-logs/dask-worker-%J.out",
    ):
        assert line in script.splitlines()
    assert "--nthreads 1 --memory-limit 4.00GiB" in script
    assert "--nworkers 4" in script
    assert (tmp_path / "dask-logs").is_dir()


def test_workers_offer_resources() -> None:
    with dask.config.set({"jobqueue.slurm.worker-extra-args": ["--no-dashboard"]}):
        assert "--no-dashboard --resources GPU=1,TAPE=2" in job_script(
            "slurm", resources={"GPU": 1, "TAPE": 2}
        )
    with connect("local", num_workers=1, resources={"GPU": 1}) as client:
        workers = client.scheduler_info()["workers"].values()
        assert [worker["resources"] for worker in workers] == [{"GPU": 1}]


def test_an_lsf_job_asks_for_what_the_funkelab_scripts_ask_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """They call ``bsub -o OUT -e ERR -n CPUS -gpu "num=1:mps=no" -R "rusage[mem=MB]" -q QUEUE``."""
    monkeypatch.setenv("LSF_ENVDIR", "/nowhere")
    script = job_script("lsf", "normal", memory="4 GB", cores=2, walltime="12:00:00", resources={"GPU": 0.5})
    header = [line.removeprefix("#BSUB ") for line in script.splitlines() if line.startswith("#BSUB")]
    for line in (
        "-q normal",
        "-n 2",
        '-R "span[hosts=1]"',
        "-M 8000000",
        '-R "rusage[mem=8000]"',
        "-W 12:00",
        "-o dask-logs/dummy-name-%J.out",
        "-e dask-logs/dummy-name-%J.err",
        '-gpu "num=1"',
    ):
        assert line in header


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("unit", ["MB", "GB"])
def test_lsf_reads_memory_in_the_units_of_the_site(
    unit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lsf.conf").write_text(f"LSF_UNIT_FOR_LIMITS={unit}\n")
    monkeypatch.setenv("LSF_ENVDIR", str(tmp_path))
    memory = {"MB": 8000, "GB": 8}[unit]
    for script in (job_script("lsf"), job_script("lsf", lsf_units=unit.lower())):
        assert f"#BSUB -M {memory}\n" in script
        assert f'#BSUB -R "rusage[mem={memory}]"' in script
    script = job_script("lsf", job_extra_directives=['-R "rusage[mem=1] select[ssd]"'])
    assert re.findall(r"rusage\S+", script) == ["rusage[mem=1]"]


def test_what_the_caller_says_is_asked_for_beside_what_the_site_says() -> None:
    with dask.config.set({"jobqueue.slurm.job-extra-directives": ["--account=lab"]}):
        script = job_script(
            "slurm", job_extra_directives=["--constraint=a100"], resources={"GPU": 2}, cores=2
        )
        for line in ("--account=lab", "--constraint=a100", "--gres=gpu:4"):
            assert f"#SBATCH {line}\n" in script
        assert "gpu" not in job_script("slurm")
    for gpus in ("--gres=gpu:a100:1", "--gpus=1", "--gpus-per-node=1"):
        script = job_script("slurm", job_extra_directives=[gpus, "--gres=disk:1"], resources={"GPU": 1})
        assert re.findall(r"^#SBATCH (.*gpu.*)$", script, re.MULTILINE) == [gpus]


@pytest.mark.parametrize("wrong", ["", "#SBATCH -A lab", "-A\nlab", 5])
def test_directives_are_checked(wrong: object) -> None:
    with pytest.raises(ValueError, match="job_extra_directives should be single options of the batch system"):
        connect("slurm", job_extra_directives=[wrong])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="job_extra_directives should be a list of text"):
        connect("slurm", job_extra_directives="-A lab")


def lifetime_of(script: str) -> tuple[int, int]:
    """Seconds after which a job's workers leave, and by how many that is stirred."""
    lifetime, stagger = re.search(r"--lifetime (\d+)s --lifetime-stagger (\d+)s", script).groups()
    return int(lifetime), int(stagger)


@given(seconds=st.integers(60, 30 * 24 * 3600), kind=st.sampled_from(["slurm", "lsf", "pbs"]))
def test_workers_leave_before_their_jobs_end_and_not_much_earlier(seconds: int, kind: str) -> None:
    seconds -= seconds % 60  # as LSF counts
    walltime = f"{seconds // 3600}:{seconds // 60 % 60:02d}"
    workers = jobs.Workers(walltime=walltime)
    for configured in ({}, {"walltime": walltime_for(kind, walltime)}):
        with dask.config.set({f"jobqueue.{kind}": configured}):
            settings = jobs.job_settings(kind, "", jobs.Workers() if configured else workers, {})
        if configured.get("walltime") in jobs._SHIPPED_WALLTIMES:
            continue
        lifetime, stagger = lifetime_of(" ".join(settings["worker_extra_args"]))
        assert lifetime + stagger < seconds
        assert lifetime - stagger > seconds - max(0.15 * seconds + 2, 0) and stagger <= 300


def test_a_site_may_say_when_its_workers_leave() -> None:
    assert lifetime_of(job_script("slurm")) == (24 * 3600 - 600, 300)
    with dask.config.set({"jobqueue.slurm.walltime": "90:00"}):
        assert lifetime_of(job_script("slurm")) == (4860, 270)
    for unlimited in ("UNLIMITED", "0", "00:00:00"):
        with dask.config.set({"jobqueue.slurm.walltime": unlimited}):
            assert "--lifetime" not in job_script("slurm")
    with dask.config.set({"jobqueue.slurm.worker-extra-args": ["--lifetime", "1h"]}):
        assert job_script("slurm").count("--lifetime") == 1


@pytest.mark.parametrize("kind", BATCH_SYSTEMS)
def test_defaults_make_a_job_of_every_batch_system(kind: str) -> None:
    # These two ask their users for one thing more.
    options = {"htcondor": {"disk": "1 GB"}, "oar": {"memory_per_core_property_name": "mem_core"}}
    script = job_script(kind, **options.get(kind, {}))
    assert "--nthreads 1 --memory-limit 7.45GiB" in script
    if kind != "htcondor":
        assert "24:00" in script


def test_htcondor_has_no_queues() -> None:
    with pytest.raises(ValueError, match="htcondor:long: HTCondor has no queues"):
        jobs.job_settings("htcondor", "long", jobs.Workers(), {})


def test_a_sites_own_configuration_comes_before_the_defaults() -> None:
    site = {"cores": 8, "processes": 2, "memory": "64 GiB", "walltime": "10:00:00", "log-directory": "logs"}
    with dask.config.set({f"jobqueue.slurm.{key}": value for key, value in site.items()}):
        script = job_script("slurm")
        assert "#SBATCH --cpus-per-task=8" in script
        assert "#SBATCH --mem=64G" in script
        assert "#SBATCH -t 10:00:00" in script
        assert "-o logs/" in script
        assert "--nthreads 4 --memory-limit 32.00GiB --nworkers 2" in script
        assert "#SBATCH --mem=2G" in job_script("slurm", cores=1, memory="2 GiB")


@given(days=st.integers(0, 9), hours=st.integers(0, 99), minutes=st.integers(1, 59))
def test_every_batch_system_reads_the_same_time(days: int, hours: int, minutes: int) -> None:
    walltime = f"{days}-{hours}:{minutes:02d}"
    slurm, lsf = (walltime_for(kind, walltime) for kind in ("slurm", "lsf"))
    assert slurm == f"{lsf}:00"
    assert seconds_of(slurm) == ((days * 24 + hours) * 60 + minutes) * 60


@pytest.fixture
def slurm(tmp_path: Path) -> Path:
    """A Slurm of two scripts in a folder: `jobs` lists what happened, `one-job` limits it to one job."""
    submit = f"""
        if test -e {tmp_path}/one-job && ! mkdir {tmp_path}/taken; then echo "too many jobs" >&2; exit 1; fi
        grep "^#SBATCH -p" "$1" >> {tmp_path}/jobs
        job=$(cat "$1")
        bash -c "$job" > /dev/null 2>&1 &
        echo "Submitted batch job $!"
    """
    cancel = f"""
        kill "$1"
        echo "cancelled" >> {tmp_path}/jobs
    """
    (tmp_path / "bin").mkdir()
    for name, body in {"sbatch": submit, "scancel": cancel}.items():
        script = tmp_path / "bin" / name
        script.write_text(f"#!/bin/bash\nPATH=/usr/bin:/bin\n{body}")
        script.chmod(0o755)
    return tmp_path


def test_jobs_are_submitted_work_and_are_cancelled(slurm: Path) -> None:
    # Any unknown name is a queue here: `sbatch` tells which batch system this site has.
    with connect("short", num_workers=2, memory="1 GB", interface="lo") as client:
        client.wait_for_workers(2, timeout=60)
        assert client.submit(sum, [1, 2, 3]).result() == 6
        assert (slurm / "jobs").read_text() == "#SBATCH -p short\n" * 2
    assert (slurm / "jobs").read_text() == "#SBATCH -p short\n" * 2 + "cancelled\n" * 2


def test_if_a_job_is_refused_it_is_an_error_and_the_others_are_cancelled(slurm: Path) -> None:
    (slurm / "one-job").touch()
    with pytest.raises(RuntimeError, match="too many jobs"):
        connect("slurm:short", num_workers=3, interface="lo")
    assert (slurm / "jobs").read_text() == "#SBATCH -p short\ncancelled\n"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("echo 17; echo 4", {"17", "4"}),
        ("echo 'No unfinished job found' >&2; exit 255", set()),
        ("echo 'LSF is down. Please wait ...' >&2; exit 255", None),
    ],
)
def test_what_lsf_says_of_its_jobs(slurm: Path, answer: str, expected: set[str] | None) -> None:
    """A job is replaced where LSF does not know it; never because LSF does not answer."""
    (slurm / "bin" / "bjobs").write_text(f"#!/bin/bash\n{answer}\n")
    (slurm / "bin" / "bjobs").chmod(0o755)
    assert asyncio.run(upkeep._listed("bsub")) == expected
    assert asyncio.run(upkeep._listed("condor_submit")) is None
    (slurm / "bin" / "bjobs").unlink()
    assert asyncio.run(upkeep._listed("bsub")) is None
