"""Locks of folders that several processes, on whatever machines, may want to work on.

A lock is a file that its holder rewrites every few seconds. Whether the holder is alive shows in the file
changing while somebody watches it: clocks of machines are not compared, and names of machines and numbers of
processes, which containers share, are not trusted. Only where the holder belongs to the very system that the
watcher runs on (the same boot, the same process numbers) is it looked up, so that a run that was killed is
taken up at once.

The lock that counts is the one of the highest number: ``lock.json``, ``lock.1.json``, ... One whose holder is
dead is not removed by those who want it, since the one removed might be the next one's already; it is
succeeded. The file of the next number can be created by one process only, and that one holds the lock if the
file it succeeds is still, to the beat, the one that it watched.
"""

import getpass
import logging
import os
import random
import re
import socket
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from . import files

logger = logging.getLogger(__name__)

#: A lock is rewritten this often, in seconds, and void when it was watched for so long and was not.
BEAT, SILENCE = 2.0, 30.0

_NAME = re.compile(r"lock(?:\.(\d+))?\.json")

#: Locks that this process holds, by folder.
_held: dict[str, "Lock"] = {}

#: Tokens of all locks that this process made and has not given back, from before their files are there.
_made: set[str | None] = set()


class LockedError(RuntimeError):
    """Somebody else is working on the same output."""


@dataclass(frozen=True)
class Lock:
    """A lock as it was found.

    Attributes
    ----------
    path
        Of its file.
    number
        Those with lower numbers in the same folder are succeeded by it.
    noted
        What its holder wrote; other words after each beat. Empty where the file was cut short.
    """

    path: str
    number: int
    noted: Mapping[str, Any]

    @property
    def token(self) -> str | None:
        """The holder's own."""
        return self.noted.get("token")


@contextmanager
def held(directory: str) -> Iterator[None]:
    """Hold the lock of a folder.

    Raises
    ------
    LockedError
        If somebody else does; the message says who.
    """
    mine = _claim(directory)
    _held[directory] = mine
    done = threading.Event()
    beating = threading.Thread(target=_keep, args=(mine, done), daemon=True)
    beating.start()
    try:
        yield
    finally:
        done.set()
        beating.join()
        del _held[directory]
        _made.discard(mine.token)
        # Also where it was succeeded: the name has this process's number, and is nobody else's.
        if _is_mine(mine):
            files.remove(mine.path)


def check_held(directory: str) -> None:
    """Raise LockedError if this process held the lock of a folder, and somebody else does now.

    To be called before something is written that only the holder may write. A process may have been stopped
    for so long, with the lid of a laptop, say, that others took it for dead.
    """
    mine = _held.get(directory)
    found = _highest(directory) if mine is not None else None
    if mine is not None and (found is None or found.token != mine.token):
        now = "its lock was removed" if found is None else _told(found.noted)
        raise LockedError(
            f"{directory}: this process lost its lock, as one that stands still is taken for dead; {now}."
        )


def lock_of(directory: str) -> dict[str, Any]:
    """What the living holder of the lock of a folder noted; empty where nobody is at work."""
    return living([directory]).get(directory, {})


def living(directories: Iterable[str]) -> dict[str, dict[str, Any]]:
    """What the holders of those locks noted that are at work, by folder.

    Where that cannot be looked up, all are watched at the same time, for `SILENCE` seconds at most.
    """
    found = {directory: lock for directory in directories if (lock := _highest(directory)) is not None}
    known = {directory: _lives(lock) for directory, lock in found.items()}
    alive = {directory for directory, lives in known.items() if lives}
    waiting = {directory for directory, lives in known.items() if lives is None}
    for directory in waiting:
        logger.warning(
            "%s: %s, on another machine or in another container. Watching for %g s whether that is so",
            directory,
            _told(found[directory].noted),
            SILENCE,
        )
    until = time.monotonic() + SILENCE
    while waiting and time.monotonic() < until:
        time.sleep(BEAT / 10)
        changed = {directory for directory in waiting if _highest(directory) != found[directory]}
        waiting -= changed
        # What is gone by now was given back.
        alive |= {directory for directory in changed if _highest(directory) is not None}
    return {directory: dict(found[directory].noted) for directory in alive}


def is_lock(name: str) -> bool:
    """Whether a file of this name in a folder belongs to its lock, complete or not.

    Examples
    --------
    >>> [is_lock(name) for name in ("lock.json", "lock.2.json", "run.json")]
    [True, True, False]
    """
    return name.startswith("lock.")


def who() -> str:
    """Name of the user and of the machine."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        # Containers run as users that nobody has entered into the list of users.
        user = f"user {os.getuid()}"
    return f"{user}@{socket.gethostname()}"


def _claim(directory: str) -> Lock:
    """Become the holder; LockedError where somebody is."""
    while True:
        before = _highest(directory)
        if before is not None and (noted := living([directory]).get(directory)) is not None:
            raise LockedError(
                f"{directory}: {_told(noted)}. Wait until that is done, or stop it first. If it is certain "
                f"that nobody is, remove {before.path}."
            )
        if (mine := _succeed(directory, before)) is not None:
            return mine
        # Several want it. Who it is shows at once; if it is nobody, all should not come back together.
        time.sleep(random.uniform(0, 0.2))


def _succeed(directory: str, before: Lock | None) -> Lock | None:
    """Become the holder after a lock that is void, or where there is none; None where others were first."""
    number = 0 if before is None else before.number + 1
    path = files.join(directory, f"lock.{number}.json" if number else "lock.json")
    mine = Lock(path, number, _noted())
    _made.add(mine.token)
    if not files.create_json(path, mine.noted):
        _made.discard(mine.token)
        return None
    # The void lock must still be there, as it was: else it was succeeded, or given back, and others may hold
    # another by now.
    if _highest(directory) != mine or (before is not None and _read(before.path) != before.noted):
        files.remove(path)
        _made.discard(mine.token)
        return None
    for old, name in sorted(_numbers(directory).items()):
        if old < number:
            files.remove(files.join(directory, name))
    return mine


def _noted() -> dict[str, Any]:
    return {
        "token": uuid.uuid4().hex,
        "by": who(),
        "process": os.getpid(),
        "process_began": _began(os.getpid()),
        "system": _system(),
        "since": datetime.now().astimezone().isoformat(timespec="milliseconds"),
        "beat": 0,
    }


def _told(noted: Mapping[str, Any]) -> str:
    """Who holds a lock."""
    return (
        f"{noted.get('by', 'somebody')} (process {noted.get('process', 'unknown')}) has been working on this "
        f"output since {noted.get('since', 'just now')}"
    )


def _keep(mine: Lock, done: threading.Event) -> None:
    """Rewrite a lock until `done`, as long as it is there: one that was succeeded is removed."""
    beat = 0
    while not done.wait(BEAT):
        beat += 1
        try:
            if _is_mine(mine):
                files.write_json(mine.path, {**mine.noted, "beat": beat}, kept=False)
        except OSError as error:
            # The disk may be full, or the store busy, for a moment; the lock holds for some beats more.
            logger.warning("%s could not be renewed: %s", mine.path, error)


def _is_mine(mine: Lock) -> bool:
    noted = _read(mine.path)
    return noted is not None and noted.get("token") == mine.token


def _highest(directory: str) -> Lock | None:
    """The lock that counts, whether its holder lives or not."""
    names = _numbers(directory)
    for number in sorted(names, reverse=True):
        path = files.join(directory, names[number])
        # It may be gone since the folder was listed.
        if (noted := _read(path)) is not None:
            return Lock(path, number, noted)
    return None


def _numbers(directory: str) -> dict[int, str]:
    matches = map(_NAME.fullmatch, files.names(directory))
    return {int(match[1] or 0): match[0] for match in matches if match}


def _read(path: str) -> dict[str, Any] | None:
    """What is noted in a lock; nothing where it was cut short, None where there is none."""
    with suppress(ValueError):
        try:
            noted = files.read_json(path)
        except FileNotFoundError:
            return None
        if isinstance(noted, dict):
            return noted
    return {}


def _lives(lock: Lock) -> bool | None:
    """Whether the holder is alive; None where it cannot be looked up from here."""
    process, system = lock.noted.get("process"), lock.noted.get("system")
    if not isinstance(process, int) or system is None or system != _system():
        return None
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OverflowError:
        return None
    except OSError:
        # Another user's.
        pass
    began = _began(process)
    if began is None or began != lock.noted.get("process_began"):
        return None if began is None else False
    # What this process holds it knows: it may have failed to give a lock back, for want of a disk.
    return process != os.getpid() or lock.token in list(_made)


def _system() -> str | None:
    """What gives processes their numbers: this boot of the machine, and this container; None if unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        # What shows the processes of another container is no help.
        shown = int(Path("/proc/self").readlink().name) == os.getpid()
        return f"{boot} {Path('/proc/self/ns/pid').stat().st_ino}" if shown else None
    except (OSError, ValueError):
        return None


def _began(process: int) -> str | None:
    """When a process began, in ticks since the system's start; "" for one that is over, None if unknown."""
    try:
        state, *fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return "" if state in ("Z", "X") else fields[18]
