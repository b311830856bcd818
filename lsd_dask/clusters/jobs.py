"""What the jobs of a batch system ask for: what the caller says, the site's configuration, and defaults."""

import math
import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dask
from dask.utils import parse_bytes

from ..checks.arguments import shown
from .directives import (
    check_directives,
    is_one_line,
    log_directives,
    memory_in,
    skipped_lines,
    time_in,
)
from .environment import exports
from .walltimes import seconds_for, seconds_of, walltime_for

#: The batch systems by name: dask-jobqueue's class, and a command that only this batch system has. The order
#: is that of detection: Slurm is often installed with wrappers that carry the commands of LSF and PBS.
BATCH_SYSTEMS = {
    "slurm": ("SLURMCluster", "sbatch"),
    "lsf": ("LSFCluster", "bsub"),
    "moab": ("MoabCluster", "msub"),
    "pbs": ("PBSCluster", "pbsnodes"),
    "sge": ("SGECluster", "qconf"),
    "oar": ("OARCluster", "oarsub"),
    "htcondor": ("HTCondorCluster", "condor_submit"),
}

#: What a job asks for where neither the caller nor dask's configuration says it.
DEFAULT_MEMORY = "8 GB"
DEFAULT_WALLTIME = "24:00:00"

#: How a job asks for GPUs, in the words of the batch systems that have one word for it.
GPU_DIRECTIVES = {"slurm": "--gres=gpu:{number}", "lsf": '-gpu "num={number}"'}

# Workers leave before their job ends, this share of its time but at most five minutes, and not all at once.
_MARGIN, _LONGEST_MARGIN = 0.05, 300

# What dask-jobqueue ships: half an hour, which would end most runs halfway.
_SHIPPED_WALLTIMES = ("00:30:00", "00:30")


@dataclass(frozen=True)
class Workers:
    """What the caller said of the workers, checked; None where nothing was said.

    Attributes
    ----------
    number
        Of workers.
    memory
        Of each, as text or in bytes.
    cores
        Of each job.
    walltime
        Of each job.
    resources
        What each worker offers to tasks.
    job_extra_directives
        More that jobs ask for, in the batch system's own words.

    Raises
    ------
    ValueError, TypeError
        If one of them makes no sense.
    """

    number: int | None = None
    memory: str | int | None = None
    cores: int | None = None
    walltime: str | None = None
    resources: Mapping[str, float] | None = None
    job_extra_directives: Sequence[str] | None = None

    def __post_init__(self) -> None:
        for name, value in (("num_workers", self.number), ("cores", self.cores)):
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
                raise ValueError(f"{name} should be a whole number of at least 1, not {value!r}")
        if self.memory is not None:
            bytes_of(self.memory)
        if self.walltime is not None:
            seconds_of(self.walltime)
        check_directives(self.job_extra_directives or ())


def job_settings(kind: str, queue: str, workers: Workers, options: Mapping[str, Any]) -> dict[str, Any]:
    """Merge what the caller says, dask's configuration and our defaults into keywords for dask-jobqueue.

    Parameters
    ----------
    kind
        Name of the batch system.
    queue
        Of the batch system; empty for its default one.
    workers
        What the caller said of them.
    options
        Keywords for dask-jobqueue's class, which come before all else.

    Raises
    ------
    ValueError
        If the batch system has no queues and one is named, directives ask for memory in two ways, or a
        setting has several lines.
    """
    if queue and kind == "htcondor":
        raise ValueError(
            f"htcondor:{queue}: HTCondor has no queues, expected 'htcondor'; what a job asks for is said in "
            "job_extra_directives"
        )
    configured = dask.config.get(f"jobqueue.{options.get('config_name', kind)}", {})
    cores = workers.cores or configured.get("cores") or 1
    processes = (not workers.cores and configured.get("processes")) or cores
    settings: dict[str, Any] = {
        "cores": cores,
        "processes": processes,
    }
    if queue:
        settings["queue"] = queue
    if workers.memory is not None or configured.get("memory") is None:
        settings["memory"] = processes * bytes_of(workers.memory or DEFAULT_MEMORY)
    if workers.walltime is not None:
        settings["walltime"] = walltime_for(kind, workers.walltime)
    elif configured.get("walltime") in _SHIPPED_WALLTIMES:
        settings["walltime"] = walltime_for(kind, DEFAULT_WALLTIME)
    settings |= {name: value for name, value in options.items() if name != "scheduler_options"}
    folder = settings.get("log_directory") or configured.get("log-directory") or "dask-logs"
    settings["log_directory"] = os.fspath(folder)
    merged = {name.replace("-", "_"): value for name, value in configured.items()} | settings
    _check_lines(merged)
    directives = _directives(kind, workers, merged)
    memory = memory_in(kind, directives, cores)
    if memory is not None:
        # A worker must not believe that it has more than its job.
        settings["memory"] = min(memory, bytes_of(merged["memory"]))
    limit = seconds_for(kind, time_in(kind, directives) or merged.get("walltime"))
    of_logs, lines_of_logs = log_directives(kind, merged["log_directory"])
    settings["job_extra_directives"] = directives + of_logs
    if skipped := skipped_lines(kind, directives) + lines_of_logs:
        settings["job_directives_skip"] = [*(merged.get("job_directives_skip") or []), *skipped]
    settings["worker_extra_args"] = _worker_arguments(workers, merged, limit)
    settings |= _quoted(merged)
    # What the site or the caller sets comes later, and so goes first.
    settings["job_script_prologue"] = [*exports(), *(merged.get("job_script_prologue") or [])]
    return settings


def _check_lines(merged: Mapping[str, Any]) -> None:
    """Raise ValueError for a setting that would begin a line of its own in the script of a job."""
    for name, value in merged.items():
        # These lines are the site's own commands.
        if name == "job_script_prologue":
            continue
        for text in value if isinstance(value, list | tuple) else [value]:
            if isinstance(text, str) and not is_one_line(text):
                raise ValueError(
                    f"{name}: found {shown(text)}, expected one line, as it goes into the script of jobs"
                )


def _quoted(merged: Mapping[str, Any]) -> dict[str, str]:
    """The paths in the command that starts a worker, as one word each."""
    quoted = {}
    if not merged.get("python"):
        quoted["python"] = shlex.quote(sys.executable)
    folder = merged.get("local_directory")
    if isinstance(folder, str) and re.search(r"\s", folder) and folder[0] not in "\"'":
        # In quotes that leave $TMPDIR and the like to the shell.
        quoted["local_directory"] = f'"{folder}"'
    return quoted


def _worker_arguments(workers: Workers, merged: Mapping[str, Any], limit: int | None) -> list[str]:
    """Arguments of the command that starts workers: what they offer, and when they are to leave."""
    arguments = list(merged.get("worker_extra_args") or [])
    if workers.resources:
        offered = ",".join(f"{name}={n:g}" for name, n in workers.resources.items())
        arguments += ["--resources", offered]
    if limit is not None and "--lifetime" not in arguments:
        margin = min(_MARGIN * limit, _LONGEST_MARGIN)
        # The worker hands over what it holds; when the batch system ends the job, that would be lost.
        arguments += ["--lifetime", f"{limit - 2 * margin:.0f}s", "--lifetime-stagger", f"{margin:.0f}s"]
    return arguments


def _directives(kind: str, workers: Workers, merged: Mapping[str, Any]) -> list[str]:
    """What jobs ask for beyond what dask-jobqueue writes: the site's, the caller's, memory of LSF, GPUs."""
    directives = [*(merged.get("job_extra_directives") or []), *(workers.job_extra_directives or [])]
    if kind == "lsf" and not any("rusage" in each for each in directives):
        directives.append(_reserved_memory(merged))
    gpus = (workers.resources or {}).get("GPU", 0) * merged["processes"]
    asked = any(re.search(r"gres=\S*gpu|-gpus?\b", each) for each in directives)
    if gpus and kind in GPU_DIRECTIVES and not asked:
        directives.append(GPU_DIRECTIVES[kind].format(number=math.ceil(gpus)))
    return directives


def _reserved_memory(merged: Mapping[str, Any]) -> str:
    """What LSF is to keep free for a job: its limit alone, which dask-jobqueue writes, reserves nothing."""
    from dask_jobqueue.lsf import lsf_detect_units, lsf_format_bytes_ceil

    units = merged.get("lsf_units")
    if units is None:
        # Where a site says nothing, LSF reads limits in KB, and what is reserved in MB.
        units = "mb" if (detected := lsf_detect_units()).startswith("k") else detected
    memory = merged.get("mem") or bytes_of(merged["memory"])
    return f'-R "rusage[mem={lsf_format_bytes_ceil(memory, lsf_units=units)}]"'


def bytes_of(memory: str | int) -> int:
    """Read a size in memory.

    Examples
    --------
    >>> bytes_of("8 GB")
    8000000000
    """
    try:
        size = parse_bytes(memory)
    except (ValueError, TypeError, AttributeError):
        size = 0
    # Nobody means eight bytes by "8".
    if size < 2**20:
        raise ValueError(f"memory should be a size such as '8 GB', not {memory!r}")
    return size
