"""What is done of a run, on disk beside its data: so that an interrupted run goes on, and two do not mix.

A ledger is a folder: a header that says what the run is, one record a finished block, and a lock for as long
as somebody works on it. Every file is written whole or not at all. It knows nothing of neurons.
"""

import getpass
import hashlib
import importlib.metadata
import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

import psutil

from . import files
from .blocks import Block, BlockGrid

logger = logging.getLogger(__name__)

#: A lock is renewed this often, in seconds, and void when it was not for so long, if its process cannot be
#: looked up because it is one of another machine.
BEAT, SILENCE = 15.0, 120.0

_HEADER = "run.json"
_LOCK = "lock.json"
_FINISHED = "finished.json"
_FAILURES = "failures.json"


class LockedError(RuntimeError):
    """Somebody else is working on the same output."""


class ReplacedError(RuntimeError):
    """Another run began on the same output, so this one must not write any more."""


@dataclass(frozen=True)
class Ledger:
    """What is done of a step: a folder with the step's configuration and one record a finished block.

    Attributes
    ----------
    directory
        Path or URL of the folder.
    identity
        Everything that decides the step's result, as plain data.
    """

    directory: str
    identity: Mapping[str, Any]

    @property
    def fingerprint(self) -> str:
        """Digest of the identity."""
        return fingerprint_of(self.identity)

    @property
    def failures_path(self) -> str:
        """Path of the messages of the blocks that failed last."""
        return self._path(_FAILURES)

    def header(self) -> dict[str, Any]:
        """What is noted of the run that is recorded, whatever its fingerprint; empty where there is none."""
        return _read(self._path(_HEADER)) if self.exists() else {}

    def recorded_run(self) -> str | None:
        """Name of the run that is recorded, whatever its fingerprint.

        Two runs never share one, be their parameters the same: what was made of the first one's result is not
        made of the second one's.
        """
        name = self.header().get("run")
        return None if name is None else str(name)

    def recorded_identity(self) -> Mapping[str, Any]:
        """Identity of the run that is recorded; empty where there is none."""
        return dict(self.header().get("identity", {}))

    def is_current(self) -> bool:
        """Whether what is recorded is of a run with this fingerprint."""
        return self.header().get("fingerprint") == self.fingerprint

    def exists(self) -> bool:
        """Whether anything is recorded, of whatever run."""
        return files.exists(self._path(_HEADER))

    def clear(self) -> None:
        """Forget all records of blocks; what is recorded then is that a run was about to begin.

        The run's output is prepared before `begin`, so that one that was killed in between is not taken for
        one that can be resumed.
        """
        files.write_json(self._path(_HEADER), {"identity": self.identity})
        for name in files.names(self.directory):
            if name not in (_HEADER, _LOCK):
                files.remove(self._path(name))

    def begin(self, grid: BlockGrid | None = None) -> None:
        """Note what the coming run is, and how many blocks it has."""
        header = {
            "fingerprint": self.fingerprint,
            "run": uuid.uuid4().hex,
            "identity": self.identity,
            "grid": None if grid is None else {"shape": grid.shape, "block_shape": grid.block_shape},
            **provenance("lsd-dask", "numpy", "numba", "dask", "zarr"),
        }
        files.write_json(self._path(_HEADER), header)

    def done(self) -> set[str]:
        """Names of the blocks that are recorded as done."""
        names = files.names(self._path("blocks"))
        return {name.removesuffix(".json") for name in names if name.endswith(".json")}

    def has(self, block: Block) -> bool:
        """Whether a block is recorded as done."""
        return files.exists(self._path("blocks", f"{block.name}.json"))

    def record(self, block: Block, facts: Mapping[str, Any]) -> None:
        """Note that a block is done. To be called after its data are written."""
        files.write_json(self._path("blocks", f"{block.name}.json"), dict(facts))

    def forget(self, block: Block) -> None:
        """Remove the record of a block, so that it is computed again."""
        files.remove(self._path("blocks", f"{block.name}.json"))

    def check_run(self, run: str | None) -> None:
        """Raise ReplacedError unless the run that is recorded is this one.

        A worker that lost its scheduler may still be at work when the next run begins. The header is read
        when it is another file than at the last call in this process.
        """
        path = self._path(_HEADER)
        try:
            found = _run_in(path, files.version(path))
        except FileNotFoundError:
            found = None
        if found != run:
            raise ReplacedError(
                f"{self._path(_HEADER)}: found run {found}, expected {run}: another run began on the same "
                "output, so this one stops."
            )

    def finish(self, facts: Mapping[str, Any]) -> None:
        """Note that the step as a whole is done."""
        files.write_json(self._path(_FINISHED), dict(facts))

    def finished(self) -> dict[str, Any] | None:
        """What `finish` noted, None where the step is not done."""
        path = self._path(_FINISHED)
        return _read(path) if self.is_current() and files.exists(path) else None

    def changes(self) -> list[str]:
        """Top-level entries of the identity that differ from those of the run that is recorded."""
        before = self.recorded_identity()
        now = json.loads(json.dumps(self.identity, default=str))
        return sorted(k for k in {*before, *now} if before.get(k) != now.get(k))

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the ledger's lock: nobody else may work on the same output.

        What killed processes left in the folder without completing it is removed.

        Raises
        ------
        LockedError
            If somebody else does; the message says who.
        """
        mine = _claim(self._path(_LOCK))
        done = threading.Event()
        beating = threading.Thread(target=_keep, args=(self._path(_LOCK), mine, done), daemon=True)
        beating.start()
        try:
            for name in files.names(self.directory):
                # Others may be about to find that the lock is taken.
                if not name.startswith(_LOCK):
                    files.remove_partial(self._path(name))
            yield
        finally:
            done.set()
            beating.join()
            if lock_of(self.directory).get("token") == mine["token"]:
                files.remove(self._path(_LOCK))

    def _path(self, *parts: str) -> str:
        return files.join(self.directory, *parts)


def provenance(*packages: str) -> dict[str, Any]:
    """Where and when a run begins: "started", "by", and the "versions" of some packages.

    Examples
    --------
    >>> list(provenance("numpy")["versions"])
    ['numpy']
    """
    versions = {name: importlib.metadata.version(name) for name in packages}
    return {"started": _now(), "by": _who(), "versions": versions}


def fingerprint_of(identity: Any) -> str:
    """Digest of plain data.

    Examples
    --------
    >>> fingerprint_of({"a": 1, "b": 2}) == fingerprint_of({"b": 2, "a": 1})
    True
    """
    text = json.dumps(identity, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def lock_of(directory: str) -> dict[str, Any]:
    """The lock of the ledger in a folder; empty where there is none that holds."""
    path = files.join(directory, _LOCK)
    try:
        lock = _read(path, "host", "process", "process_started", "beat")
    except FileNotFoundError:
        return {}
    return lock if _holds(lock) else {}


@lru_cache(maxsize=64)
def _run_in(path: str, version: str) -> str | None:
    """Name of the run in a header; a file that was replaced has another version."""
    name = _read(path).get("run")
    return None if name is None else str(name)


def _read(path: str, *keys: str) -> dict[str, Any]:
    """A record of a ledger; ValueError, naming the file, where it is none or lacks one of the keys."""
    record = files.read_json(path)
    missing = [key for key in keys if key not in record] if isinstance(record, dict) else ["all of it"]
    if missing:
        expected = ", ".join(keys) or "names with values"
        raise ValueError(
            f"{path}: found no record of a run, expected {expected}; was it written by something else?"
        )
    return dict(record)


def _claim(path: str) -> dict[str, Any]:
    """Write a lock; LockedError where one holds."""
    directory = path.rsplit("/", 1)[0]
    mine = {
        "token": uuid.uuid4().hex,
        "by": _who(),
        "host": socket.gethostname(),
        "process": os.getpid(),
        "process_started": psutil.Process().create_time(),
        "since": _now(),
        "beat": time.time(),
    }
    if files.exists(path) and not lock_of(directory):
        files.remove(path)
    if not files.create_json(path, mine):
        found = lock_of(directory)
        raise LockedError(
            f"{directory}: {found.get('by', 'somebody')} (process {found.get('process', 'unknown')}) has "
            f"been working on this output since {found.get('since', 'just now')}. Wait until that is done, "
            f"or stop it first. If it is certain that nobody is, remove {path}."
        )
    return mine


def _keep(path: str, mine: Mapping[str, Any], done: threading.Event) -> None:
    """Renew a lock until `done`."""
    while not done.wait(BEAT):
        try:
            files.write_json(path, {**mine, "beat": time.time()})
        except OSError as error:
            # The disk may be full, or the store busy, for a moment; the lock holds for some beats more.
            logger.warning("%s could not be renewed: %s", path, error)


def _holds(lock: Mapping[str, Any]) -> bool:
    """Whether the process that wrote a lock is, as far as one can tell, still there."""
    if lock["host"] != socket.gethostname():
        return bool(time.time() - lock["beat"] < SILENCE)
    try:
        process = psutil.Process(lock["process"])
        same = abs(process.create_time() - lock["process_started"]) < 1
        return bool(same and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="milliseconds")


def _who() -> str:
    return f"{getpass.getuser()}@{socket.gethostname()}"
