"""Where the work runs: this machine, the jobs of a batch system, or a dask scheduler that already runs."""

import atexit
import math
import os
import re
import shutil
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask
from dask.system import CPU_COUNT
from dask.utils import parse_bytes
from distributed import Client, LocalCluster, SpecCluster, Status, Worker, WorkerPlugin

from . import files
from .checks import described
from .upkeep import Upkeep

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

# What dask-jobqueue ships: half an hour, which would end most runs halfway.
_SHIPPED_WALLTIMES = ("00:30:00", "00:30")


def connect(
    cluster: str | Path = "local",
    *,
    num_workers: int | None = None,
    memory: str | int | None = None,
    cores: int | None = None,
    walltime: str | None = None,
    resources: Mapping[str, float] | None = None,
    **options: Any,
) -> Client:
    """Start workers, or find running ones, and connect to them.

    Workers are processes with one thread each. What is started for the client is stopped when the client is
    closed: by its method `close`, at the end of a ``with`` statement, or at the end of the program.

    Parameters
    ----------
    cluster : str or Path
        Where the workers are:

        - ``"local"``: processes on this machine;
        - ``"slurm"``, ``"lsf"``, ``"pbs"``, ``"sge"``, ``"moab"``, ``"oar"``, ``"htcondor"``: jobs of that
          batch system (extra ``cluster``) in its default queue; ``"slurm:gpu"``: in the queue (partition)
          ``gpu``;
        - ``"tcp://10.0.0.1:8786"``, ``"host:8786"`` or the path of a scheduler file ``*.json``: the workers
          of a dask scheduler that already runs;
        - any other name: a queue of this site's batch system, which is the one named by the environment
          variable ``LSD_DASK_CLUSTER``, by the key ``lsd-dask.cluster`` of dask's configuration, or else the
          one whose commands are installed.
    num_workers : int, optional
        Number of workers. Default: on this machine one per CPU, on a batch system one. A scheduler that
        already runs keeps the workers it has.
    memory : str or int, optional
        Memory per worker, such as ``"8 GB"``, or a number of bytes. Default: on this machine an equal share
        of all of it, on a batch system 8 GB.
    cores : int, optional
        Cores per job (batch systems only). A job runs as many workers as it has cores, and asks for the
        memory of all of them. Default: 1.
    walltime : str, optional
        Time limit of a job (batch systems only): ``"[days-]hours:minutes[:seconds]"``.
        Default: 24 hours.
    resources : mapping, optional
        What each worker that is started offers to tasks, such as ``{"GPU": 1}``; dask only counts it. That a
        job gets a GPU is said with the batch system's own words, in `job_extra_directives` or dask's
        configuration.
    **options
        For the class that makes the connection: `distributed.LocalCluster`; `dask_jobqueue.SLURMCluster` and
        its like (``account``, ``job_extra_directives``, ``interface``, ``log_directory``, ...);
        `distributed.Client`.

    Returns
    -------
    distributed.Client
        ``client.dashboard_link`` is the address of the dashboard.

    Raises
    ------
    ValueError
        If `num_workers`, `cores`, `memory` or `walltime` makes no sense, or `cluster` is none of the above.
    ImportError
        If a batch system is asked for and dask-jobqueue is not installed.
    FileNotFoundError
        If the scheduler file, or the batch system's command for submitting jobs, does not exist.
    RuntimeError
        If the batch system refuses the jobs.
    OSError
        If no scheduler answers at the address.

    See Also
    --------
    session : The same for work that should use the client the caller already has.

    Notes
    -----
    What is left open on a batch system is taken from the section ``jobqueue.<batch system>`` of dask's
    configuration [1]_, where a site describes itself, and only then from the defaults above. Jobs write their
    logs to the folder ``dask-logs`` unless that section or `log_directory` names another.

    References
    ----------
    .. [1] https://jobqueue.dask.org/en/latest/configurations-setup.html

    Examples
    --------
    >>> with connect("local", num_workers=1) as client:
    ...     client.submit(sum, [1, 2, 3]).result()
    6
    """
    workers = _Workers(num_workers, memory, cores, walltime, resources)
    if not isinstance(cluster, str | os.PathLike):
        raise TypeError(f"cluster: found {described(cluster)}, expected a name, an address or a path")
    name = os.fspath(cluster)
    if name.lower() == "local":
        return _connect_local(workers, options)
    if name.endswith(".json"):
        return _connect_scheduler_file(name, options)
    kind, _, queue = name.partition(":")
    if kind.lower() in BATCH_SYSTEMS:
        return _connect_batch_system(kind.lower(), queue, workers, options)
    if "://" in name or re.fullmatch(r"[\w.-]+:\d+", name):
        return Client(name, **options)
    return _connect_batch_system(_site_batch_system(name), name, workers, options)


@contextmanager
def session(
    cluster: str | Path = "local",
    *,
    num_workers: int | None = None,
    memory: str | int | None = None,
    cores: int | None = None,
    walltime: str | None = None,
    resources: Mapping[str, float] | None = None,
    **options: Any,
) -> Iterator[Client]:
    """Work with the active client, or where there is none with one that is connected for the occasion.

    Parameters
    ----------
    cluster, num_workers, memory, cores, walltime, resources, **options
        As for `connect`. They are not looked at where a client is active.

    Yields
    ------
    distributed.Client
        The active client, which stays open: the one made last, or the one chosen with `Client.as_current`.
        Else a new one.

    Examples
    --------
    >>> with connect("local", num_workers=1) as client, session("lsf:normal", num_workers=500) as same:
    ...     same is client
    True
    """
    active = _active_client()
    if active is not None:
        yield active
        return
    with connect(
        cluster,
        num_workers=num_workers,
        memory=memory,
        cores=cores,
        walltime=walltime,
        resources=resources,
        **options,
    ) as client:
        yield client


class _OwningClient(Client):
    """A client of a cluster that was started for it: it keeps up its size, and stops it when it is closed."""

    def __init__(self, cluster: SpecCluster) -> None:
        super().__init__(cluster)
        self._upkeep = Upkeep(cluster)

    def close(self, *args: Any, **kwargs: Any) -> Any:
        cluster = self.cluster
        self._upkeep.stop()
        result = super().close(*args, **kwargs)
        if cluster is not None:
            cluster.close()
        return result


class _LeaveQuickly(WorkerPlugin):
    """Lets worker processes end without taking the interpreter down.

    Freeing numba's machine code takes seconds on a busy machine, and then dask complains of workers that do
    not stop, and kills them. A worker has said goodbye to its scheduler when its process ends.
    """

    def setup(self, worker: Worker) -> None:
        """Ask the process of a worker for a short end, if it is one of its own."""
        if worker.nanny is not None:
            atexit.register(_leave)


def _leave() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


@dataclass(frozen=True)
class _Workers:
    """What the caller said of the workers, checked; None where nothing was said."""

    number: int | None
    memory: str | int | None
    cores: int | None
    walltime: str | None
    resources: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        for name, value in (("num_workers", self.number), ("cores", self.cores)):
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
                raise ValueError(f"{name} should be a whole number of at least 1, not {value!r}")
        if self.memory is not None:
            _bytes(self.memory)
        if self.walltime is not None:
            _seconds(self.walltime)


def _active_client() -> Client | None:
    try:
        return Client.current()
    except ValueError:
        return None


def _connect_local(workers: _Workers, options: dict[str, Any]) -> Client:
    settings = {
        "n_workers": workers.number or CPU_COUNT,
        "threads_per_worker": 1,
        "processes": True,
        "memory_limit": "auto" if workers.memory is None else _bytes(workers.memory),
        "dashboard_address": _dashboard_address(),
        "resources": workers.resources,
    }
    client = _OwningClient(LocalCluster(**settings | options))
    client.register_plugin(_LeaveQuickly(), name="lsd_dask-leave-quickly")
    return client


def _connect_scheduler_file(path: str, options: dict[str, Any]) -> Client:
    # The client itself would wait for the file to appear, for ever and silently.
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"{path}: no such scheduler file. A scheduler writes it: dask scheduler --scheduler-file {path}"
        )
    # Nor does it say anything of a file that is none.
    found = files.read_json(path)
    address = found.get("address") if isinstance(found, dict) else None
    if not address or not isinstance(address, str):
        raise ValueError(
            f"{path}: found no address of a scheduler, expected the file that a scheduler writes"
        )
    return Client(scheduler_file=path, **options)


def _connect_batch_system(kind: str, queue: str, workers: _Workers, options: dict[str, Any]) -> Client:
    cluster_class = getattr(_import_jobqueue(), BATCH_SYSTEMS[kind][0])
    command = cluster_class.job_cls.submit_command
    if shutil.which(command) is None:
        raise FileNotFoundError(
            f"{kind}: its command {command!r} is not installed on this machine. Run where jobs can be "
            "submitted, or on this machine alone with 'local'."
        )
    settings = _job_settings(kind, queue, workers, options)
    cluster = cluster_class(**settings)
    try:
        # Not with `cluster.scale`: it submits in the background, and only logs it where a job is refused.
        for _ in range(math.ceil((workers.number or 1) / settings["processes"])):
            cluster.worker_spec.update(cluster.new_worker_spec())
        cluster.sync(cluster._correct_state)
        return _OwningClient(cluster)
    except BaseException:
        # Closing cancels the jobs that were accepted, but insists that no job looks alive.
        for job in cluster.workers.values():
            job.status = Status.failed
        cluster.close()
        raise


def _job_settings(kind: str, queue: str, workers: _Workers, options: dict[str, Any]) -> dict[str, Any]:
    """Merge what the caller says, dask's configuration and our defaults into keywords for dask-jobqueue."""
    configured = dask.config.get(f"jobqueue.{options.get('config_name', kind)}", {})
    cores = workers.cores or configured.get("cores") or 1
    processes = (not workers.cores and configured.get("processes")) or cores
    settings: dict[str, Any] = {
        "cores": cores,
        "processes": processes,
        "log_directory": configured.get("log-directory") or "dask-logs",
    }
    if queue:
        settings["queue"] = queue
    if workers.memory is not None or configured.get("memory") is None:
        settings["memory"] = processes * _bytes(workers.memory or DEFAULT_MEMORY)
    if workers.walltime is not None:
        settings["walltime"] = _format_walltime(workers.walltime, kind)
    elif configured.get("walltime") in _SHIPPED_WALLTIMES:
        settings["walltime"] = _format_walltime(DEFAULT_WALLTIME, kind)
    if workers.resources:
        offered = ",".join(f"{name}={n:g}" for name, n in workers.resources.items())
        settings["worker_extra_args"] = [
            *(configured.get("worker-extra-args") or []),
            "--resources",
            offered,
        ]
    settings |= options
    settings["scheduler_options"] = {
        "dashboard_address": _dashboard_address(),
        **(configured.get("scheduler-options") or {}),
        **options.get("scheduler_options", {}),
    }
    return settings


def _site_batch_system(name: str) -> str:
    """Return the batch system of this site, for which `name` is taken to be a queue."""
    kind = os.environ.get("LSD_DASK_CLUSTER") or dask.config.get("lsd-dask.cluster", None)
    if kind is None:
        kind = next((kind for kind, (_, command) in BATCH_SYSTEMS.items() if shutil.which(command)), None)
    if kind is None:
        raise ValueError(
            f"cluster {name!r} is neither 'local', a batch system ({', '.join(BATCH_SYSTEMS)}), an address "
            "('tcp://host:8786') nor a scheduler file ('*.json'). If it is a queue: no batch system is found "
            f"on this machine, say 'slurm:{name}' or set the environment variable LSD_DASK_CLUSTER=slurm."
        )
    if kind not in BATCH_SYSTEMS:
        raise ValueError(
            f"LSD_DASK_CLUSTER (or lsd-dask.cluster in dask's configuration) should be one of "
            f"{', '.join(BATCH_SYSTEMS)}, not {kind!r}"
        )
    return kind


def _import_jobqueue() -> Any:
    try:
        import dask_jobqueue
    except ImportError as error:
        raise ImportError('Batch systems need dask-jobqueue: pip install "lsd-dask[cluster]"') from error
    return dask_jobqueue


def _dashboard_address() -> str:
    """Return dask's usual port if it is free, else any: dask itself would do the same, with a warning."""
    try:
        socket.create_server(("", 8787)).close()
    except OSError:
        return ":0"
    return ":8787"


def _bytes(memory: str | int) -> int:
    """Read a size in memory.

    >>> _bytes("8 GB")
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


def _seconds(walltime: str) -> int:
    """Read a time limit.

    >>> _seconds("12:00"), _seconds("1-12:00:00")
    (43200, 129600)
    """
    clock = re.fullmatch(r"(?:(\d+)-)?(\d+):([0-5]\d)(?::([0-5]\d))?", str(walltime))
    if clock:
        days, hours, minutes, seconds = (int(part or 0) for part in clock.groups())
        duration = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
        if duration > 0:
            return duration
    raise ValueError(
        f"walltime should be '[days-]hours:minutes[:seconds]', such as '12:00', not {walltime!r}"
    )


def _format_walltime(walltime: str, kind: str) -> str:
    """Write a time limit as the batch system reads it: "12:00" is 12 hours for LSF and 12 minutes for Slurm.

    >>> _format_walltime("12:00", "lsf"), _format_walltime("12:00", "slurm")
    ('12:00', '12:00:00')
    """
    minutes, seconds = divmod(_seconds(walltime), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}" + ("" if kind == "lsf" else f":{seconds:02d}")
