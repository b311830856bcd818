"""Keeps a cluster at the size it was asked for: what dask and dask-jobqueue leave to the user.

A worker process that is killed is restarted by its nanny, but where that takes long on a busy machine, dask
gives the nanny up, and the cluster is smaller from then on. A job that reached its walltime, or that was
cancelled, is not replaced at all (dask-jobqueue#691); one of several workers is not even missed, nor is one
that ended before its workers began. With no worker left, a run would wait for ever.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakSet

import dask
from dask.utils import parse_timedelta
from distributed import SpecCluster, Status
from tornado.ioloop import PeriodicCallback

logger = logging.getLogger(__name__)

#: Seconds between two looks.
INTERVAL = 5.0

#: Seconds between two questions to a batch system, whose controller answers everybody at the site. It is only
#: asked about jobs that have no worker.
ASKING_INTERVAL = 60.0

#: What lists the ids of the user's jobs that wait or run, by the command that submits them.
LISTING = {
    "sbatch": ("squeue", "--noheader", "--me", "--format=%A"),
    "bsub": ("bjobs", "-noheader", "-o", "jobid"),
}

#: What LSF says, as an error, where there are none.
_NO_JOBS = b"No unfinished job found"

_kept: "WeakSet[SpecCluster]" = WeakSet()


class Upkeep:
    """Starts anew the workers that a cluster should have and has no more.

    Parameters
    ----------
    cluster
        Looked after until `stop` is called or it is closed.
    """

    def __init__(self, cluster: SpecCluster) -> None:
        assert cluster.loop is not None
        _kept.add(cluster)
        self._cluster = cluster
        self._loop = cluster.loop
        self._jobs = _Jobs(cluster)
        self._callback = PeriodicCallback(self._look, INTERVAL * 1000)
        self._loop.add_callback(self._callback.start)

    def stop(self) -> None:
        """Look after the cluster no longer."""
        _kept.discard(self._cluster)
        self._loop.add_callback(self._callback.stop)

    async def _look(self) -> None:
        cluster = self._cluster
        if cluster.status != Status.running:
            return
        for name in await self._jobs.ended():
            await cluster.workers.pop(name).close()
        missing = len(set(cluster.worker_spec) - set(cluster.workers))
        if missing and cluster.status == Status.running:
            logger.warning("%d of %d workers are gone; starting them anew", missing, len(cluster.worker_spec))
            cluster._correct_state().add_done_callback(_log_error)


@contextmanager
def kept_up(cluster: Any) -> Iterator[None]:
    """Keep up a cluster that somebody else made, as long as the context lasts.

    Parameters
    ----------
    cluster
        Left alone where it is no `distributed.SpecCluster`, or is kept up already.
    """
    if not isinstance(cluster, SpecCluster) or cluster.loop is None or cluster in _kept:
        yield
        return
    upkeep = Upkeep(cluster)
    try:
        yield
    finally:
        upkeep.stop()


class _Jobs:
    """Which jobs of a cluster have ended; none where its workers are no jobs of a batch system."""

    def __init__(self, cluster: SpecCluster, now: Callable[[], float] = time.monotonic) -> None:
        self._cluster = cluster
        self._now = now
        self._patience = parse_timedelta(dask.config.get("distributed.deploy.lost-worker-timeout"))
        self._worked: set[str | None] = set()
        self._alone_since: dict[str | None, float] = {}
        self._asked = now()

    async def ended(self) -> list[Any]:
        """Names of the jobs all of whose workers left, or which the batch system does not know any more."""
        jobs = {name: job for name, job in self._cluster.workers.items() if getattr(job, "job_id", None)}
        connected = {worker["name"] for worker in self._cluster.scheduler_info["workers"].values()}
        alone = {}
        for name, job in jobs.items():
            if connected.isdisjoint(self._worker_names(name)):
                alone[name] = job
                self._alone_since.setdefault(job.job_id, self._now())
            else:
                self._worked.add(job.job_id)
                self._alone_since.pop(job.job_id, None)
        left = [name for name, job in alone.items() if self._has_left(job.job_id)]
        unknown = [name for name in await self._unknown(alone) if name not in left]
        for name in unknown:
            if alone[name].job_id not in self._worked:
                logger.warning("%s", _ended_early(alone[name]))
        return [name for name in left + unknown if self._cluster.workers.get(name) is alone[name]]

    def _worker_names(self, name: Any) -> set[Any]:
        group = self._cluster.worker_spec.get(name, {}).get("group")
        return {f"{name}{suffix}" for suffix in group} if group else {name}

    def _has_left(self, job_id: str) -> bool:
        return job_id in self._worked and self._now() - self._alone_since[job_id] >= self._patience

    async def _unknown(self, jobs: dict[Any, Any]) -> list[Any]:
        if not jobs or self._now() - self._asked < ASKING_INTERVAL:
            return []
        self._asked = self._now()
        known = await _listed(next(iter(jobs.values())).submit_command)
        return [] if known is None else [name for name, job in jobs.items() if job.job_id not in known]


async def _listed(submit_command: str) -> set[str] | None:
    """Ids of the user's jobs that wait or run; None where the batch system does not say."""
    command = LISTING.get(submit_command)
    if command is None:
        return None
    try:
        asked = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
    except OSError as error:
        logger.warning("jobs cannot be listed: %s", error)
        return None
    answer, complaint = await asked.communicate()
    if asked.returncode and _NO_JOBS not in complaint:
        logger.warning("jobs cannot be listed: %s: %s", " ".join(command), complaint.decode().strip())
        return None
    return set(answer.decode().split())


def _ended_early(job: Any) -> str:
    logs = f" Its log in {job.log_directory} tells why." if job.log_directory else ""
    return f"job {job.job_id} ended before its workers began, and is submitted again.{logs}"


def _log_error(starting: "asyncio.Task[None]") -> None:
    if not starting.cancelled() and starting.exception() is not None:
        logger.warning("workers could not be started, which will be tried again: %s", starting.exception())
