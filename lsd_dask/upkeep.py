"""Keeps a cluster at the size it was asked for: what dask and dask-jobqueue leave to the user.

A worker process that is killed is restarted by its nanny, but where that takes long on a busy machine, dask
gives the nanny up, and the cluster is smaller from then on. A job that reached its walltime, or that was
cancelled, is not replaced at all (dask-jobqueue#691). With no worker left, a run would wait for ever.
"""

import asyncio
import logging

from distributed import SpecCluster, Status
from tornado.ioloop import PeriodicCallback

logger = logging.getLogger(__name__)

#: Seconds between two looks.
INTERVAL = 5.0


class Upkeep:
    """Starts anew the workers that a cluster should have and has no more.

    Parameters
    ----------
    cluster
        Looked after until `stop` is called or it is closed.
    """

    def __init__(self, cluster: SpecCluster) -> None:
        assert cluster.loop is not None
        self._cluster = cluster
        self._loop = cluster.loop
        self._callback = PeriodicCallback(self._look, INTERVAL * 1000)
        self._loop.add_callback(self._callback.start)

    def stop(self) -> None:
        """Look after the cluster no longer."""
        self._loop.add_callback(self._callback.stop)

    def _look(self) -> None:
        cluster = self._cluster
        if cluster.status != Status.running:
            return
        missing = len(set(cluster.worker_spec) - set(cluster.workers))
        if missing:
            logger.warning("%d of %d workers are gone; starting them anew", missing, len(cluster.worker_spec))
            cluster._correct_state().add_done_callback(_log_error)


def _log_error(starting: "asyncio.Task[None]") -> None:
    if not starting.cancelled() and starting.exception() is not None:
        logger.warning("workers could not be started, which will be tried again: %s", starting.exception())
