"""What is done of a run, on disk beside its data: so that an interrupted run goes on, and two do not mix.

A ledger is a folder: a header that says what the run is, one record a finished block, and a lock for as long
as somebody works on it. Every file is written whole or not at all. A record names the files that it stands
for, and is believed as long as they are there. It knows nothing of neurons.
"""

import hashlib
import importlib.metadata
import json
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from ..storage import files, locks, written
from ..storage.locks import LockedError as LockedError
from .blocks import Block, BlockGrid

_HEADER = "run.json"
_FINISHED = "finished.json"
_FAILURES = "failures.json"

#: In records: the files that they stand for.
_FILES = "files"

#: What a run leaves in its ledger beside the header. All else there is not its own: the ledger of an array
#: that lies below its own has its place there.
_CLEARED = ("blocks", _FINISHED, _FAILURES, "tables", "refined.parquet", "lookup.parquet")


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

    def run(self) -> str | None:
        """Name of the run that is recorded, or about to begin: what it writes is to carry it."""
        header = self.header()
        return header.get("run", header.get("coming"))

    def known_runs(self) -> set[str]:
        """Names of the runs whose output may lie there: besides `run`, those it replaces until it begins."""
        header = self.header()
        return {str(name) for name in (self.run(), *header.get("replaced", ())) if name is not None}

    def recorded_identity(self) -> Mapping[str, Any]:
        """Identity of the run that is recorded; empty where there is none."""
        identity = self.header().get("identity", {})
        if not isinstance(identity, dict):
            raise ValueError(  # noqa: TRY004
                f"{self._path(_HEADER)}: found the identity {str(identity)[:80]}, expected names with values"
            )
        return identity

    def is_current(self) -> bool:
        """Whether what is recorded is of a run with this fingerprint."""
        return self.header().get("fingerprint") == self.fingerprint

    def exists(self) -> bool:
        """Whether anything is recorded, of whatever run."""
        return files.exists(self._path(_HEADER))

    def clear(self) -> None:
        """Forget all records of blocks; what is recorded then is that a run was about to begin.

        The run's output is prepared before `begin`, so that one that was killed in between is not taken for
        one that can be resumed. The coming run has its name already, as its output carries it.
        """
        locks.check_held(self.directory)
        header = {
            "identity": self.identity,
            "coming": uuid.uuid4().hex,
            "replaced": sorted(self.known_runs()),
        }
        files.write_json(self._path(_HEADER), header)
        for name in _CLEARED:
            files.remove(self._path(name))

    def begin(self, grid: BlockGrid | None = None, **facts: Any) -> None:
        """Note what the coming run is, how many blocks it has, and more facts about it."""
        locks.check_held(self.directory)
        header = {
            "fingerprint": self.fingerprint,
            "run": self.header().get("coming") or uuid.uuid4().hex,
            "identity": self.identity,
            **facts,
            "grid": None if grid is None else {"shape": grid.shape, "block_shape": grid.block_shape},
            **provenance("lsd-dask", "numpy", "numba", "dask", "zarr"),
        }
        files.write_json(self._path(_HEADER), header)

    def recorded(self) -> set[str]:
        """Names of the blocks that have a record, whether it is to be believed or not."""
        names = files.names(self._path("blocks"))
        return {name.removesuffix(".json") for name in names if name.endswith(".json")}

    def done(self) -> set[str]:
        """Names of the blocks that are done: recorded, and what they wrote is there."""
        names = self.recorded()
        return names - self.damaged(names)

    def damaged(self, names: Iterable[str], *, verify: bool = False) -> set[str]:
        """Those of some recorded blocks whose record cannot be read, or whose files are not as it says.

        A file must be there, and as long as it was; on request its checksum is compared, too.
        """
        names = list(names)
        records = files.read_all_json(self._path("blocks"), [f"{name}.json" for name in names])
        noted = {name: _files_in(record) for name, record in zip(names, records, strict=True)}
        return written.damaged(noted, self.directory, verify=verify)

    def has(self, block: Block) -> bool:
        """Whether a block is recorded as done."""
        return files.exists(self._record_path(block.name))

    def record(self, block: Block, facts: Mapping[str, Any], paths: Iterable[str] = ()) -> None:
        """Note that a block is done, and the files that hold it. To be called after these are written."""
        noted = {**facts, _FILES: written.note(paths, self.directory)}
        files.write_json(self._record_path(block.name), noted)

    def forget(self, name: str) -> None:
        """Remove the record of a block, so that it is computed again."""
        files.remove(self._record_path(name))

    def _record_path(self, name: str) -> str:
        return self._path("blocks", f"{name}.json")

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

    def finish(self, facts: Mapping[str, Any], paths: Iterable[str] = ()) -> None:
        """Note that the step as a whole is done, and the files that it leaves."""
        locks.check_held(self.directory)
        noted = {**facts, _FILES: written.note(paths, self.directory)}
        files.write_json(self._path(_FINISHED), noted)

    def finished(self, *, verify: bool = False) -> dict[str, Any] | None:
        """The facts that `finish` noted; None where the step is not done, or its files are not as noted."""
        if not self.is_current():
            return None
        (noted,) = files.read_all_json(self.directory, [_FINISHED])
        if written.damaged({"": _files_in(noted)}, self.directory, verify=verify):
            return None
        return {name: fact for name, fact in noted.items() if name != _FILES}

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
        with locks.held(self.directory):
            for name in files.names(self.directory):
                # Others may be about to find that the lock is taken.
                if not locks.is_lock(name):
                    files.remove_partial(self._path(name))
            yield

    def check_held(self) -> None:
        """Raise LockedError if this process held the lock, and somebody else does now."""
        locks.check_held(self.directory)

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
    return {"started": _now(), "by": locks.who(), "versions": versions}


def fingerprint_of(identity: Any) -> str:
    """Digest of plain data.

    Examples
    --------
    >>> fingerprint_of({"a": 1, "b": 2}) == fingerprint_of({"b": 2, "a": 1})
    True
    """
    text = json.dumps(identity, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


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


def _files_in(record: Any) -> written.Noted | None:
    """The files that a record names; None where it is no record."""
    noted = record.get(_FILES) if isinstance(record, dict) else None
    return noted if isinstance(noted, dict) and all(isinstance(v, dict) for v in noted.values()) else None


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="milliseconds")
