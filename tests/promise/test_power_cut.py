"""The power goes, at any moment of any step: nothing that was recorded is lost, and the rerun ends the same.

A real file system: ext4 on a loop device, which is told to forget, from one moment to the next, all that it
has not written yet. With zarr's own store in place of `DiskStore`, shards of recorded blocks are missing or
empty after the first cut. That folders are brought to the disk (`disks.sync_folder`) does not show here:
ext4 writes the names with the file that is brought to the disk last. Other file systems promise less.
"""

import contextlib
import fcntl
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
from distributed import Client

import lsd_dask as ld
from lsd_dask import workflows
from lsd_dask.blockwise.ledgers import Ledger

from ..helpers.faulty import digests
from ..helpers.tissue import tissue

SIDE = 16
INSIDE = (slice(0, 32), slice(0, 48), slice(0, 32))
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
    return path


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


def outcome(out: Path) -> dict[str, Any]:
    """Digests of everything that the steps leave."""
    voxels = {name: ld.open_volume(out / name).values.tobytes() for name in ("volumes/lsds",)}
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
    disk: Disk, cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lsd_dask.blockwise.runs.RETRIES", 0)
    undisturbed = tmp_path / "out.zarr"
    all_steps(cells, undisturbed)
    shutil.rmtree(undisturbed)
    started = time.perf_counter()
    all_steps(cells, undisturbed)
    seconds = time.perf_counter() - started
    right = outcome(undisturbed)
    assert len(right) > 6
    dice, out, interrupted = random.Random(7), disk.path / "out.zarr", 0
    for cut in range(CUTS):
        # One after the other, so that all steps have their share.
        moment = (cut + dice.random()) / CUTS * seconds
        timer = threading.Timer(moment, disk.cut_power)
        timer.start()
        with contextlib.suppress(Exception):
            all_steps(cells, out)
            interrupted -= 1
        interrupted += 1
        timer.join()
        # Tasks that were at work end with the errors of their disk.
        time.sleep(0.05)
        disk.unmount()
        assert disk.mount()
        kept = believed(out)
        # Tables of blocks go when their sum is there; all else that is recorded must be.
        lost = {path for path in recorded(out) - kept.keys() if "region_graph" not in path.parts}
        assert not lost, f"cut {cut}: recorded, and not there: {lost}"
        all_steps(cells, out)
        assert kept.items() <= believed(out).items() | _of_tables(kept), f"cut {cut}: made a second time"
        assert outcome(out) == right, f"cut {cut} after {moment:.2f} s"
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
