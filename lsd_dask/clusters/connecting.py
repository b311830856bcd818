"""Where the work runs: this machine, the jobs of a batch system, or a dask scheduler that already runs."""

import atexit
import math
import os
import re
import shutil
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import dask
from dask.system import CPU_COUNT
from distributed import Client, LocalCluster, Nanny, SpecCluster, Status, Worker, WorkerPlugin

from ..checks.arguments import described
from ..storage import files
from ..storage.config_files import read_config
from .encryption import Encryption, check_encrypted, check_words, in_files, security_of
from .environment import WORKER_ENVIRONMENT, read_in_one_thread
from .jobs import BATCH_SYSTEMS, Workers, bytes_of, job_settings
from .main_guard import check_main_guard
from .upkeep import Upkeep, kept_up


def connect(
    cluster: str | Path = "local",
    *,
    num_workers: int | None = None,
    memory: str | int | None = None,
    cores: int | None = None,
    walltime: str | None = None,
    resources: Mapping[str, float] | None = None,
    job_extra_directives: Sequence[str] | None = None,
    security: Encryption = None,
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
        - the path of a dask configuration ``*.yaml``, which names one of these in the key
          ``lsd-dask.cluster``; it joins dask's configuration for as long as the program runs;
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
        Time limit of a job (batch systems only): ``"[days-]hours:minutes[:seconds]"``, or a number with a
        unit, ``"90 min"``. Default: 24 hours. Workers leave a little earlier, at most 15 minutes.
    resources : mapping, optional
        What each worker that is started offers to tasks, such as ``{"GPU": 1}``; dask only counts it. Jobs of
        Slurm and LSF ask for so many GPUs, unless a directive speaks of them; for other batch systems, say it
        in `job_extra_directives`.
    job_extra_directives : sequence of str, optional
        More that jobs ask for (batch systems only), in the batch system's own words, such as
        ``["--constraint=a100"]``. They are added to those of dask's configuration. What they say of memory or
        of time, such as ``"--mem-per-cpu=4G"``, takes the place of `memory` and `walltime` in the job.
    security : distributed.Security, str or Path, optional
        TLS for all connections, so that only who has its certificates may join: an object of dask; the path
        of a dask configuration with the section ``distributed.comm.tls``; or ``"temporary"``, certificates
        that are made for this cluster. Default: what dask's configuration says, which is usually none.
    **options
        For the class that makes the connection: `distributed.LocalCluster`; `dask_jobqueue.SLURMCluster` and
        its like (``account``, ``interface``, ``log_directory``, ...); `distributed.Client`.

    Returns
    -------
    distributed.Client
        ``client.dashboard_link`` is the address of the dashboard.

    Raises
    ------
    ValueError
        If `num_workers`, `cores`, `memory`, `walltime` or `job_extra_directives` makes no sense, or `cluster`
        is none of the above.
    ImportError
        If a batch system is asked for and dask-jobqueue is not installed.
    FileNotFoundError
        If the scheduler file, the configuration, or the batch system's command for submitting jobs, does not
        exist.
    RuntimeError
        If the batch system refuses the jobs, or a script starts workers on this machine without the guard
        ``if __name__ == "__main__":``.
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

    A job that ends is submitted again, as long as the client is open: at its time limit, when it is cancelled
    or its node fails. Slurm and LSF are also asked, at most once a minute, for jobs that ended before a
    worker began.

    References
    ----------
    .. [1] https://jobqueue.dask.org/en/latest/configurations-setup.html

    Examples
    --------
    >>> with connect("local", num_workers=1) as client:
    ...     client.submit(sum, [1, 2, 3]).result()
    6
    """
    workers = Workers(num_workers, memory, cores, walltime, resources, job_extra_directives)
    if options.get("asynchronous"):
        raise ValueError("asynchronous: found True, expected a client that waits for its results")
    if not isinstance(cluster, str | os.PathLike):
        raise TypeError(f"cluster: found {described(cluster)}, expected a name, an address or a path")
    name = os.fspath(cluster)
    if name.endswith((".yaml", ".yml")):
        name = _configured_cluster(name)
    options["security"] = security_of(security)
    if name.lower() == "local":
        return _connect_local(workers, options)
    if name.endswith(".json"):
        return _connect_scheduler_file(name, options)
    kind, _, queue = name.partition(":")
    if kind.lower() in BATCH_SYSTEMS:
        return _connect_batch_system(kind.lower(), queue, workers, options)
    if "://" in name or re.fullmatch(r"[\w.-]+:\d+", name):
        check_encrypted(name, options["security"])
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
    job_extra_directives: Sequence[str] | None = None,
    security: Encryption = None,
    **options: Any,
) -> Iterator[Client]:
    """Work with the active client, or where there is none with one that is connected for the occasion.

    Parameters
    ----------
    cluster, num_workers, memory, cores, walltime, resources, job_extra_directives, security, **options
        As for `connect`. They are not looked at where a client is active.

    Yields
    ------
    distributed.Client
        The active client, which stays open: the one made last, or the one chosen with `Client.as_current`.
        Else a new one. If the active client has a cluster of jobs or processes that this program started,
        those that end are replaced as long as the session lasts.

    Raises
    ------
    RuntimeError
        If the active client is asynchronous.
    ValueError, TypeError, ImportError, OSError
        As by `connect`.

    Examples
    --------
    >>> with connect("local", num_workers=1) as client, session("lsf:normal", num_workers=500) as same:
    ...     same is client
    True
    """
    active = _active_client()
    if active is not None:
        with kept_up(active.cluster):
            yield active
        return
    with connect(
        cluster,
        num_workers=num_workers,
        memory=memory,
        cores=cores,
        walltime=walltime,
        resources=resources,
        job_extra_directives=job_extra_directives,
        security=security,
        **options,
    ) as client:
        yield client


def job_script(
    cluster: str,
    *,
    memory: str | int | None = None,
    cores: int | None = None,
    walltime: str | None = None,
    resources: Mapping[str, float] | None = None,
    job_extra_directives: Sequence[str] | None = None,
    security: Encryption = None,
    **options: Any,
) -> str:
    """The script of the jobs that `connect` would submit, to be looked at; nothing is submitted or started.

    Parameters
    ----------
    cluster : str
        A batch system, its queue, or a queue of this site, as for `connect`.
    memory, cores, walltime, resources, job_extra_directives, security, **options
        As for `connect`.

    Returns
    -------
    str
        With placeholders for the address of the scheduler, the name of the worker, and the files of temporary
        certificates.

    Raises
    ------
    ValueError, TypeError
        As by `connect`, or if there are no jobs where the workers are to be.
    ImportError
        If dask-jobqueue is not installed.

    Examples
    --------
    >>> "#SBATCH -p normal" in job_script("slurm:normal", memory="8 GB", walltime="12:00")
    True
    """
    workers = Workers(None, memory, cores, walltime, resources, job_extra_directives)
    kind, _, queue = cluster.partition(":")
    if kind.lower() == "local" or "://" in cluster:
        raise ValueError(f"cluster {cluster!r} has no jobs, expected a batch system or one of its queues")
    if kind.lower() not in BATCH_SYSTEMS:
        kind, queue = _site_batch_system(cluster), cluster
    job_class = getattr(_import_jobqueue(), BATCH_SYSTEMS[kind.lower()][0]).job_cls
    settings = job_settings(kind.lower(), queue, workers, options)
    certificates = security_of(security)
    if certificates is not None:
        settings |= {"security": in_files(certificates), "protocol": "tls://"}
    address = "tcp://SCHEDULER:PORT" if certificates is None else "tls://SCHEDULER:PORT"
    # dask-jobqueue makes the folder of the logs as soon as it describes a job.
    with TemporaryDirectory() as logs:
        script: str = job_class(address, "NAME", **settings | {"log_directory": logs}).job_script()
    return script.replace(logs, settings["log_directory"])


class _OwningClient(Client):
    """A client of a cluster that was started for it: it keeps up its size, and stops it when it is closed."""

    def __init__(self, cluster: SpecCluster) -> None:
        super().__init__(cluster)  # type: ignore[no-untyped-call]
        self._upkeep = Upkeep(cluster)
        self.register_plugin(_ReadInOneThread(), name="lsd_dask-read-in-one-thread")

    def close(self, *args: Any, **kwargs: Any) -> Any:
        cluster = self.cluster
        self._upkeep.stop()
        result = super().close(*args, **kwargs)  # type: ignore[no-untyped-call]
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


class _ReadInOneThread(WorkerPlugin):
    """Has workers read volumes in their own thread."""

    def setup(self, worker: Worker) -> None:
        """Tell zarr in the process of a worker."""
        read_in_one_thread()


def _active_client() -> Client | None:
    try:
        client = Client.current()
    except ValueError:
        return None
    if client.asynchronous:
        raise RuntimeError(
            "found an active dask client that is asynchronous, expected one that waits for results: make it "
            "with Client(...) outside of a coroutine, or close it, so that one is started for the occasion"
        )
    return client


class _Nanny(Nanny):
    """Starts a worker's process in the environment it needs; dask's option `env` is set in it too late."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # Of a cluster that was there before, dask leaves its own values in the environment of this process.
        of_dask = dask.config.get("distributed.nanny.pre-spawn-environ")
        set_before = {k: v for k, v in os.environ.items() if v != str(of_dask.get(k))}
        given = set_before | (options.get("env") or {})
        for name, value in WORKER_ENVIRONMENT.items():
            self.pre_spawn_env[name] = self.env[name] = given.get(name, value)


def _connect_local(workers: Workers, options: dict[str, Any]) -> Client:
    settings = {
        "n_workers": workers.number or CPU_COUNT,
        "threads_per_worker": 1,
        "processes": True,
        "worker_class": _Nanny,
        "memory_limit": "auto" if workers.memory is None else bytes_of(workers.memory),
        # On this machine alone: who sees a dashboard sees paths, code and results.
        "dashboard_address": _dashboard_address("127.0.0.1"),
        "worker_dashboard_address": "127.0.0.1:0",
        "resources": workers.resources,
    }
    if (settings | options)["processes"]:
        check_main_guard()
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


def _connect_batch_system(kind: str, queue: str, workers: Workers, options: dict[str, Any]) -> Client:
    cluster_class = getattr(_import_jobqueue(), BATCH_SYSTEMS[kind][0])
    command = cluster_class.job_cls.submit_command
    if shutil.which(command) is None:
        raise FileNotFoundError(
            f"{kind}: its command {command!r} is not installed on this machine. Run where jobs can be "
            "submitted, or on this machine alone with 'local'."
        )
    configured = dask.config.get(f"jobqueue.{options.get('config_name', kind)}", {})
    settings = job_settings(kind, queue, workers, options)
    if settings["security"] is not None:
        check_words(settings["security"])
        # Where workers find certificates that are made for this cluster; they see this folder anyway.
        settings.setdefault(
            "shared_temp_directory", configured.get("shared-temp-directory") or str(Path.cwd())
        )
    settings["scheduler_options"] = {
        "dashboard_address": _dashboard_address(),
        **(configured.get("scheduler-options") or {}),
        **options.get("scheduler_options", {}),
    }
    cluster = cluster_class(**settings)
    try:
        # Not with `cluster.scale`: it submits in the background, and only logs it where a job is refused.
        for _ in range(math.ceil((workers.number or 1) / settings["processes"])):
            cluster.worker_spec.update(cluster.new_worker_spec())
        cluster.sync(cluster._correct_state)
        return _OwningClient(cluster)
    except BaseException as error:
        # Closing cancels the jobs that were accepted, but insists that no job looks alive.
        for job in cluster.workers.values():
            job.status = Status.failed
        cluster.close()
        if isinstance(error, RuntimeError):
            raise RuntimeError(  # noqa: TRY004 - as documented; it is cleaned up after any error
                _refusal(kind, command, str(error))
            ) from error
        raise


def _refusal(kind: str, command: str, message: str) -> str:
    """What a batch system said, of the page that dask-jobqueue makes of it."""
    complaint = message.partition("stderr:\n")[2].strip() or message
    return (
        f"{kind}: {command} refused a job: {' '.join(complaint.split())}. What was asked for shows "
        "lsd_dask.clusters.connecting.job_script, called with the same options."
    )


def _configured_cluster(path: str) -> str:
    """Take a file into dask's configuration; the cluster it names.

    It stays there, because dask-jobqueue looks at the configuration whenever it submits a job.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: there is no such dask configuration (YAML file)")
    content = read_config(Path(path))
    ours = content.get("lsd-dask")
    name = ours.get("cluster") if isinstance(ours, dict) else None
    if not isinstance(name, str) or name.endswith((".yaml", ".yml")):
        raise ValueError(
            f"{path}: found {described(name)} for the key 'cluster' of the section 'lsd-dask', expected a "
            "name such as 'slurm'"
        )
    del content["lsd-dask"]
    dask.config.update(dask.config.config, content, priority="new")
    return name


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


def _dashboard_address(host: str = "") -> str:
    """Return dask's usual port if it is free, else any: dask itself would do the same, with a warning."""
    try:
        socket.create_server((host, 8787)).close()
    except OSError:
        return f"{host}:0"
    return f"{host}:8787"
