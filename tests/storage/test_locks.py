"""Locks: who lives holds, who is dead does not, and of several who claim one succeeds.

What a test protects against was seen by switching the protection off; how is said in its docstring.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import lsd_dask as ld
from lsd_dask.blockwise.ledgers import Ledger
from lsd_dask.storage import disks, files, locks
from lsd_dask.storage.locks import LockedError, held, lock_of

#: Of a process on another machine, which cannot be looked up.
ELSEWHERE = {"token": "theirs", "by": "ada@elsewhere", "process": 1, "process_began": "1", "system": "other"}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "BEAT", 0.05)
    monkeypatch.setattr(locks, "SILENCE", 0.5)


def lock_files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("lock*"))


class Beating:
    """Somebody elsewhere who renews a lock; the clock of that machine is wrong."""

    def __init__(self, path: Path) -> None:
        self.path, self.over = path, threading.Event()
        path.parent.mkdir(exist_ok=True, parents=True)
        self.beat(0)
        self.thread = threading.Thread(target=self.run)

    def beat(self, number: int) -> None:
        disks.write(self.path, json.dumps({**ELSEWHERE, "beat": number}).encode(), kept=False)

    def run(self) -> None:
        number = 0
        while not self.over.wait(0.05):
            number += 1
            self.beat(number)

    def __enter__(self) -> None:
        self.thread.start()

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()


def test_one_who_lives_elsewhere_holds_and_one_who_is_silent_does_not(tmp_path: Path) -> None:
    """Whatever the clocks say: nothing in the lock is a time that is compared."""
    path = tmp_path / "lock.json"
    with Beating(path):
        assert lock_of(str(tmp_path))["by"] == "ada@elsewhere"
        with pytest.raises(LockedError, match=r"ada@elsewhere .* remove .*lock\.json"), held(str(tmp_path)):
            pass
    assert lock_of(str(tmp_path)) == {}
    with held(str(tmp_path)):
        assert lock_files(tmp_path) == ["lock.1.json"]
        assert lock_of(str(tmp_path))["process"] == os.getpid()
    assert lock_files(tmp_path) == []


@pytest.mark.parametrize("content", [b"", b'{"token": "th', b"[]", b"\xff\xfe", b'{"process": "many"}'])
def test_a_lock_that_was_cut_short_is_void_when_nobody_renews_it(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "lock.json").write_bytes(content)
    with held(str(tmp_path)):
        pass
    assert lock_files(tmp_path) == []


@pytest.mark.parametrize(
    "change",
    [(r'"process": \d+', '"process": 999999999'), (r'"process_began": "\d+"', '"process_began": "1"')],
)
def test_one_who_died_on_this_machine_is_known_at_once(
    tmp_path: Path, change: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a process of the same number is there by now."""
    monkeypatch.setattr(locks, "SILENCE", 1e6)
    with held(str(tmp_path)):
        mine = (tmp_path / "lock.json").read_text()
    text = re.sub(*change, mine)
    assert text != mine
    (tmp_path / "lock.json").write_text(text)
    assert lock_of(str(tmp_path)) == {}
    with held(str(tmp_path)):
        pass
    assert lock_files(tmp_path) == []


@pytest.mark.parametrize("void", [True, False])
def test_of_many_who_claim_at_once_one_succeeds(tmp_path: Path, void: bool) -> None:
    """Where a void lock is removed before another is made, several succeed: they remove each other's."""
    directory, inside, most, entered = str(tmp_path), [], [], []

    def claim(_: int) -> None:
        try:
            mine = locks._claim(directory)
        except LockedError:
            return
        inside.append(mine.token)
        most.append(len(inside))
        entered.append(mine.token)
        time.sleep(0.002)
        inside.remove(mine.token)
        files.remove(mine.path)

    for round_ in range(10):
        if void:
            (tmp_path / "lock.json").write_text(json.dumps({**ELSEWHERE, "process": round_}))
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(claim, range(8)))
    assert len(entered) >= 10
    assert max(most) == 1
    assert lock_files(tmp_path) == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
@given(order=st.lists(st.integers(0, 2), max_size=24))
def test_whatever_the_order_of_steps_no_two_hold(
    tmp_path_factory: pytest.TempPathFactory, order: list[int]
) -> None:
    """Three who judged the same lock void go on in any order; each gives back what it holds."""
    folder = tmp_path_factory.mktemp("order")
    (folder / "lock.json").write_text(json.dumps({**ELSEWHERE, "beat": 3}))
    holding: set[int] = set()
    void = locks._highest(str(folder))
    runs = [_steps(str(folder), who, holding, void) for who in range(3)]
    for who in order:
        next(runs[who], None)
        assert len(holding) <= 1
    shutil.rmtree(folder)


def _steps(directory: str, who: int, holding: set[int], void: locks.Lock | None) -> Iterator[None]:
    """What `_claim` does between two looks at the disk, and giving back."""
    before: locks.Lock | None = void
    while True:
        mine = locks._succeed(directory, before)
        if mine is not None:
            holding.add(who)
            yield
            holding.discard(who)
            files.remove(mine.path)
            return
        yield
        before = locks._highest(directory)
        if before is not None and before != void:
            return
        yield


def test_a_holder_who_was_taken_for_dead_notices_and_stops(tmp_path: Path) -> None:
    """Without `check_held`, both write."""
    ledger = Ledger(str(tmp_path), {"a": 1})
    with pytest.raises(LockedError, match="taken for dead; ada@elsewhere"), ledger.held():
        ledger.clear()
        files.write_json(str(tmp_path / "lock.1.json"), {**ELSEWHERE, "beat": 0})
        (tmp_path / "lock.json").unlink()
        time.sleep(4 * locks.BEAT)
        assert lock_files(tmp_path) == ["lock.1.json"]
        ledger.begin()
    # The other one's is left alone.
    assert files.read_json(str(tmp_path / "lock.1.json"))["by"] == "ada@elsewhere"
    assert "fingerprint" not in ledger.header()


def test_a_lock_that_somebody_removed_is_noticed(tmp_path: Path) -> None:
    with pytest.raises(LockedError, match="its lock was removed"), held(str(tmp_path)):
        (tmp_path / "lock.json").unlink()
        locks.check_held(str(tmp_path))


HOLDER = """
import sys, time
from lsd_dask.storage.locks import held
with held(sys.argv[1]):
    print("held", flush=True)
    time.sleep(600)
"""


def test_one_in_another_container_is_not_looked_up_by_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the names of machines compared instead of systems, the lock is void at once."""
    apart = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    if os.geteuid() or subprocess.run([*apart, "true"], capture_output=True, check=False).returncode:
        pytest.skip("another space of process numbers needs root and unshare")
    with subprocess.Popen(
        [*apart, sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        (lock,) = [locks._highest(str(tmp_path))]
        assert lock is not None
        assert locks._lives(lock) is None
        monkeypatch.setattr(locks, "SILENCE", 15.0)
        assert lock_of(str(tmp_path))["process"] == lock.noted["process"]
        holder.send_signal(signal.SIGKILL)


def test_where_files_have_one_name_one_of_many_creates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    path = str(tmp_path / "a/lock.json")
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda n: files.create_json(path, {"n": n}), range(8)))
    assert made.count(True) == 1
    assert files.read_json(path) == {"n": made.index(True)}
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["lock.json"]
    ld.save_volume(np.ones((4, 4, 4), "uint8"), tmp_path / "out.zarr/volumes/raw")
    assert ld.open_volume(tmp_path / "out.zarr/volumes/raw").values.sum() == 64


@pytest.fixture
def fat(tmp_path: Path) -> Iterator[Path]:
    """A file system of sticks and cards, on which a file has one name."""
    image, disk = tmp_path / "image", tmp_path / "disk"
    disk.mkdir()
    with image.open("wb") as file:
        file.truncate(48 << 20)
    if os.geteuid() or not shutil.which("mkfs.vfat"):
        pytest.skip("needs root and mkfs.vfat")
    subprocess.run(["mkfs.vfat", str(image)], check=True, capture_output=True)
    mounted = subprocess.run(["mount", "-o", "loop", image, disk], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("no loop device can be mounted here")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_run_on_a_file_system_without_hard_links(fat: Path) -> None:
    """Where `disks.create` knows hard links alone, nothing can be locked, nor can zarr make a group."""
    for path in (fat / "out.zarr" / "volumes" / "raw", fat / "out.zarr" / "volumes" / "other"):
        ld.save_volume(np.arange(4096, dtype="uint16").reshape(16, 16, 16), path)
        assert ld.open_volume(path).values.sum() == 4096 * 4095 // 2
    ledger = Ledger(str(fat / "out.zarr" / "runs"), {"a": 1})
    with ledger.held():
        ledger.clear()
        ledger.begin()
        with pytest.raises(LockedError), ledger.held():
            pass
    assert ledger.is_current()
    assert lock_files(fat / "out.zarr" / "runs") == []
