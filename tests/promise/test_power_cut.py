"""The power goes, at any moment of any step: nothing that was recorded is lost, and the rerun ends the same.

A real file system: ext4 on a loop device, which is told to forget, from one moment to the next, all that it
has not written yet. With zarr's own store in place of `DiskStore`, shards of recorded blocks are missing or
empty after the first cut. That folders are brought to the disk (`disks.sync_folder`) does not show here:
ext4 writes the names with the file that is brought to the disk last. Other file systems promise less.
"""

import contextlib
import fcntl
import itertools
import os
import random
import shutil
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tifffile
from distributed import Client

import lsd_dask as ld
from lsd_dask import workflows
from lsd_dask.blockwise.ledgers import Ledger

from ..helpers.faulty import digests
from ..helpers.tissue import tissue

SIDE = 16
INSIDE = (slice(0, 32),) * 3
#: EXT4_IOC_SHUTDOWN, and its flag for "without writing the log".
SHUTDOWN, WITHOUT_LOG = 0x8004587D, 2
CUTS = 20

pytestmark = pytest.mark.timeout(1200)


class Disk:
    """A disk of its own, whose power can be cut."""

    def __init__(self, folder: Path) -> None:
        self.image, self.path = folder / "image", folder / "disk"
        self.path.mkdir()
        with self.image.open("wb") as file:
            file.truncate(96 << 20)
        subprocess.run(["mkfs.ext4", "-q", "-F", str(self.image)], check=True)

    def mount(self) -> bool:
        command = ["mount", "-o", "loop", str(self.image), str(self.path)]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def unmount(self) -> None:
        for _ in range(100):
            if subprocess.run(["umount", str(self.path)], capture_output=True, check=False).returncode == 0:
                return
            time.sleep(0.1)
        raise AssertionError("the disk is busy")

    def cut_power(self) -> None:
        handle = os.open(self.path, os.O_RDONLY)
        fcntl.ioctl(handle, SHUTDOWN, struct.pack("I", WITHOUT_LOG))
        os.close(handle)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    if os.geteuid() or not shutil.which("mkfs.ext4"):
        pytest.skip("a disk whose power is cut takes root and mkfs.ext4")
    made = Disk(tmp_path)
    if not made.mount():
        pytest.skip("no loop device can be mounted here")
    yield made
    subprocess.run(["umount", "--lazy", str(made.path)], capture_output=True, check=False)


@pytest.fixture(scope="module", autouse=True)
def client() -> Iterator[Client]:
    with Client(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=":0") as client:
        yield client


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cells") / "cells.zarr"
    ld.save_volume(tissue().affinities.values[(slice(None), *INSIDE)], path / "volumes/affs")
    ld.save_volume(tissue().labels.values[INSIDE], path / "volumes/labels")
    tifffile.imwrite(path.parent / "stack.tif", tissue().affinities.values[(0, *INSIDE)])
    return path


@pytest.fixture(autouse=True)
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take half of the time, and are written like all other files."""
    monkeypatch.setattr("lsd_dask.workflows.steps._scoring.draw", lambda *_, **__: {})


class Syncs:
    """Counts the calls of fsync, of all threads, and does something at one of them.

    So a cut comes at the same place of the work on machines of any speed. Those that come at once are between
    a file and its name, or between a shard and its record; others come a moment later, in the midst of it.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._fsync = os.fsync
        self._calls = itertools.count(1)
        self._at, self._timer = 0, threading.Timer(0, lambda: None)
        monkeypatch.setattr(os, "fsync", self._sync)

    def begin(self, at: int = 0, timer: threading.Timer | None = None) -> None:
        self._calls = itertools.count(1)
        self._at, self._timer = at, timer or self._timer

    def end(self) -> int:
        """How many there were; the timer, if it was begun, has done its work, and begins no more."""
        self._at = 0
        if self._timer.is_alive():
            self._timer.join()
        return next(self._calls) - 1

    def _sync(self, handle: int) -> None:
        if next(self._calls) == self._at:
            self._timer.start()
            if not self._timer.interval:
                self._timer.join()
        self._fsync(handle)


def wait_for_tasks(client: Client) -> None:
    """Let the tasks come to their end that were at work when a run failed: here their process lives on."""
    (worker,) = client.cluster.workers.values()
    while worker.active_threads:
        time.sleep(0.005)


def all_steps(cells: Path, out: Path) -> None:
    blocks: dict[str, Any] = {"block_size": (SIDE,) * 3}
    made = {"fragments_file": out}
    thresholds = {"thresholds_minmax": (0.2, 0.6), "thresholds_step": 0.2}
    workflows.extract_fragments(affs_file=cells, remove_debris=4, **made, **blocks)
    workflows.agglomerate(affs_file=cells, **made, **blocks)
    workflows.find_segments(**made, **thresholds)
    segmentation = {"out_file": out, "out_dataset": "volumes/segmentation_30"}
    workflows.extract_segmentation(threshold=0.3, **segmentation, **made, **blocks)
    workflows.evaluate_volumes(gt_file=cells, gt_dataset="volumes/labels", **made, **thresholds)
    workflows.build_pyramid(in_file=out, in_dataset="volumes/segmentation_30", levels=1, **blocks)
    workflows.lsds(
        labels_file=cells, labels_dataset="volumes/labels", lsds_file=out, sigma=3, downsample=1, **blocks
    )
    for name, source in {"copy": cells / "volumes/labels", "stack": cells.parent / "stack.tif"}.items():
        if not (out / "volumes" / name).exists():
            ld.save_volume(ld.open_volume(source), out / "volumes" / name, block_shape=(SIDE,) * 3)


def outcome(out: Path) -> dict[str, Any]:
    """Digests of everything that the steps leave."""
    voxels = {
        name: ld.open_volume(out / "volumes" / name).values.tobytes() for name in ("lsds", "copy", "stack")
    }
    return {**digests(out), **voxels}


def believed(out: Path) -> dict[Path, int]:
    """When the records of those blocks were written whose shards and tables are there."""
    found = {}
    for header in (out / "runs").rglob("run.json"):
        for name in Ledger(str(header.parent), {}).done():
            path = header.parent / "blocks" / f"{name}.json"
            found[path] = path.stat().st_mtime_ns
    return found


def recorded(out: Path) -> set[Path]:
    return set((out / "runs").rglob("blocks/*.json"))


def test_the_power_goes_at_twenty_moments(
    disk: Disk, cells: Path, tmp_path: Path, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lsd_dask.blockwise.runs.RETRIES", 0)
    undisturbed, syncs = tmp_path / "out.zarr", Syncs(monkeypatch)
    all_steps(cells, undisturbed)
    shutil.rmtree(undisturbed)
    # Names of folders above are brought to the disk once in a process.
    syncs.begin()
    all_steps(cells, undisturbed)
    count = syncs.end()
    right = outcome(undisturbed)
    assert len(right) > 8
    dice, out, interrupted = random.Random(7), disk.path / "out.zarr", 0
    for cut in range(CUTS):
        # One after the other, so that all steps have their share.
        moment = 1 + int((cut + dice.random()) / CUTS * count)
        syncs.begin(moment, threading.Timer(dice.choice([0, 0.01]) * dice.random(), disk.cut_power))
        interrupted += 1
        with contextlib.suppress(Exception):
            all_steps(cells, out)
            interrupted -= 1
        wait_for_tasks(client)
        syncs.end()
        disk.unmount()
        assert disk.mount()
        kept = believed(out)
        # Tables of blocks go when their sum is there; all else that is recorded must be.
        lost = {path for path in recorded(out) - kept.keys() if "region_graph" not in path.parts}
        assert not lost, f"cut {cut}: recorded, and not there: {lost}"
        all_steps(cells, out)
        assert kept.items() <= believed(out).items() | _of_tables(kept), f"cut {cut}: made a second time"
        assert outcome(out) == right, f"cut {cut} at sync {moment} of {count}"
        shutil.rmtree(out)
    assert interrupted >= CUTS // 2


def _of_tables(kept: dict[Path, int]) -> set[tuple[Path, int]]:
    """Records of blocks whose tables were added up since, and removed."""
    return {(path, when) for path, when in kept.items() if path.exists() and path.stat().st_mtime_ns == when}


def delete(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def tear(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("damage", [delete, empty, tear])
def test_what_was_damaged_since_is_made_anew_and_nothing_else(
    cells: Path, tmp_path: Path, damage: Callable[[Path], None], capsys: pytest.CaptureFixture
) -> None:
    """Where `done` believes records alone, all is said to be done over arrays that cannot be read."""
    out = tmp_path / "out.zarr"
    all_steps(cells, out)
    right, before = outcome(out), believed(out)
    files = damaged_files(out)
    for path in files:
        damage(path)
    capsys.readouterr()
    all_steps(cells, out)
    assert "missing or damaged" in " ".join(capsys.readouterr().err.split())
    assert outcome(out) == right
    again = {path for path, when in before.items() if path.exists() and path.stat().st_mtime_ns != when}
    # One block for each file of an array, and those of a graph whose tables were added up.
    assert len({path for path in again if "region_graph" not in path.parts}) <= len(files)


def damaged_files(out: Path) -> list[Path]:
    """One of each kind that the steps leave."""
    arrays = ("fragments", "fragments_unrefined", "segmentation_30", "segmentation_30_levels/s1", "lsds")
    found = [
        next(path for path in sorted((out / "volumes" / name / "c").rglob("*")) if path.is_file())
        for name in arrays
        if (out / "volumes" / name).exists()
    ]
    found += [next((out / "runs/evaluate_volumes").rglob("tables/*.npz"))]
    return [*found, out / "rag/edges.parquet", out / "rag/merges_hist_quant_75.parquet"]


def test_on_request_checksums_are_compared(cells: Path, tmp_path: Path) -> None:
    """A byte that turned is not seen in the size of a file."""
    out = tmp_path / "out.zarr"
    given: dict[str, Any] = {"affs_file": cells, "fragments_file": out, "block_size": (SIDE,) * 3}
    made = workflows.extract_fragments(**given)
    shard = next(path for path in (out / "volumes/fragments/c").rglob("*") if path.is_file())
    right = shard.read_bytes()
    shard.write_bytes(right[:-9] + bytes([right[-9] ^ 1]) + right[-8:])
    assert workflows.extract_fragments(**given).skipped == made.blocks
    assert workflows.extract_fragments(verify=True, **given).skipped == made.blocks - 1
    assert shard.read_bytes() == right
