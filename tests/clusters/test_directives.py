"""Scripts of jobs: asked for once, each path one word, and no line that nobody wrote."""

import re
import shlex
from pathlib import Path

import dask
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsd_dask.clusters.connecting import job_script
from lsd_dask.clusters.directives import is_one_line
from lsd_dask.clusters.walltimes import EXPECTED, seconds_of
from lsd_dask.workflows.config.loading import ConfigError, load_config
from lsd_dask.workflows.config.steps import ExtractFragmentsConfig

MARKS = {"slurm": "#SBATCH", "lsf": "#BSUB", "pbs": "#PBS", "moab": "#PBS", "sge": "#$"}


def lines_of(script: str, kind: str) -> list[str]:
    mark = f"{MARKS[kind]} "
    return [line.removeprefix(mark) for line in script.splitlines() if line.startswith(mark)]


@pytest.mark.parametrize("directive", ["--mem-per-cpu=4G", "--mem=0", "--mem-per-gpu=8G", "--mem 16G"])
def test_memory_is_asked_for_once(directive: str) -> None:
    for script in (
        job_script("slurm", memory="8 GB", job_extra_directives=[directive]),
        _of_a_site("slurm", "job-extra-directives", [directive]),
    ):
        assert [line for line in lines_of(script, "slurm") if line.startswith("--mem")] == [directive]


def _of_a_site(kind: str, key: str, value: object) -> str:
    with dask.config.set({f"jobqueue.{kind}.{key}": value}):
        return job_script(kind)


@pytest.mark.parametrize(
    ("kind", "directive", "line"),
    [
        ("lsf", "-M 4000", "-M"),
        ("pbs", "-l select=1:ncpus=2:mem=9gb", "-l select"),
        ("moab", "-l mem=9gb", "-l select"),
    ],
)
def test_so_it_is_by_other_batch_systems(kind: str, directive: str, line: str) -> None:
    lines = lines_of(job_script(kind, job_extra_directives=[directive]), kind)
    assert directive in lines
    assert [each for each in lines if each.startswith(line)] in ([directive], [])


def test_workers_take_no_more_than_their_job_asks_for() -> None:
    for directive, cores, limit in (
        ("--mem-per-cpu=1G", 2, "1.00GiB"),
        ("--mem=4096", 2, "2.00GiB"),
        ("--mem=64G", 1, "4.00GiB"),
        ("--mem=0", 1, "4.00GiB"),
    ):
        script = job_script("slurm", memory="4 GiB", cores=cores, job_extra_directives=[directive])
        assert f"--memory-limit {limit}" in script


@pytest.mark.parametrize("wrong", [["--mem=much"], ["--mem=4G", "--mem-per-cpu=2G"]])
def test_memory_that_makes_no_sense_is_refused(wrong: list[str]) -> None:
    with pytest.raises(ValueError, match=r"job_extra_directives: found '--mem=\w+'"):
        job_script("slurm", job_extra_directives=wrong)


@pytest.mark.parametrize(
    ("kind", "directive", "seconds"),
    [
        ("slurm", "--time=02:00:00", 7200),
        ("slurm", "-t 2-00:00:00", 172800),
        ("lsf", "-W 2:00", 7200),
        ("sge", "-l h_rt=2:00:00", 7200),
    ],
)
def test_workers_leave_before_the_end_that_a_directive_gives(kind: str, directive: str, seconds: int) -> None:
    script = job_script(kind, walltime="72:00", job_extra_directives=[directive])
    lifetime, stagger = map(int, re.search(r"--lifetime (\d+)s --lifetime-stagger (\d+)s", script).groups())
    assert 0.8 * seconds < lifetime < lifetime + stagger < seconds
    assert "72:00" not in script
    assert directive in lines_of(script, kind)


@pytest.mark.parametrize("kind", MARKS)
def test_a_folder_of_logs_is_one_word(kind: str, tmp_path: Path) -> None:
    for name in ("my logs", "it's", "a;b", "plain"):
        script = job_script(kind, log_directory=tmp_path / name)
        logs = [words for line in lines_of(script, kind) if (words := shlex.split(line))[0] in ("-e", "-o")]
        assert len(logs) == 2 and all(len(words) == 2 for words in logs)
        assert all(words[1].startswith(f"{tmp_path}/{name}/") for words in logs)


def test_paths_in_the_command_of_a_worker_are_one_word() -> None:
    command = shlex.split(job_script("slurm", local_directory="$TMPDIR/my scratch").splitlines()[-1])
    assert command[command.index("--local-directory") + 1] == "$TMPDIR/my scratch"


@pytest.mark.parametrize(
    "name", ["account", "queue", "job_name", "log_directory", "local_directory", "python"]
)
@pytest.mark.parametrize("end", ["\n", "\r", "\x0b", "\u2028"])
def test_no_setting_begins_a_line_of_its_own(name: str, end: str) -> None:
    with pytest.raises(ValueError, match=f"{name}: found .* expected one line"):
        job_script("slurm", **{name: f"lab{end}rm -r data"})
    with pytest.raises(ValueError, match="expected one line"):
        job_script(f"slurm:gpu{end}rm -r data")
    with pytest.raises(ValueError, match="single options of the batch system"):
        job_script("slurm", job_extra_directives=[f"-A lab{end}rm -r data"])
    with pytest.raises(ConfigError, match="one option of the batch system"):
        load_config(
            ExtractFragmentsConfig,
            affs_file="a.zarr",
            fragments_file="a.zarr",
            job_extra_directives=[f"-A lab{end}rm -r data"],
        )


@given(text=st.text())
def test_a_line_is_what_no_reader_takes_for_two(text: str) -> None:
    assert not is_one_line(text) or len(text.splitlines()) < 2


def test_every_time_limit_that_messages_advise_is_taken() -> None:
    options = {"affs_file": "a.zarr", "fragments_file": "a.zarr"}
    for wrong in (720, 43200.0, "720", "soon", ["12:00"]):
        with pytest.raises(ConfigError) as refusal:
            load_config(ExtractFragmentsConfig, walltime=wrong, **options)
        assert EXPECTED in str(refusal.value)
    advised = re.findall(r"'([^'\[]*\d[^']*)'", EXPECTED)
    assert len(advised) == 4
    for example in advised:
        assert load_config(ExtractFragmentsConfig, walltime=example, **options).walltime == example
        assert "--lifetime" in job_script("slurm", walltime=example)


@given(hours=st.integers(1, 999), minutes=st.integers(0, 59))
def test_a_time_limit_is_the_same_however_it_is_written(hours: int, minutes: int) -> None:
    written = (
        f"{hours}:{minutes:02d}",
        f"{hours // 24}-{hours % 24}:{minutes:02d}:00",
        f"{60 * hours + minutes} min",
        f"{3600 * hours + 60 * minutes}s",
    )
    assert {seconds_of(each) for each in written} == {3600 * hours + 60 * minutes}
