"""What goes wrong in long runs: killed processes, full disks, torn files, two runs at once.

Each is a real one. After each, the run goes on, its output is bit for bit that of an undisturbed run, and
what was done is not done again. What a test protects against was seen by switching the protection off; how is
said in its docstring.
"""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from distributed import Client, WorkerPlugin

import lsd_dask as ld
from lsd_dask import workflows
from lsd_dask.blockwise.blocks import Block, BlockGrid
from lsd_dask.blockwise.ledgers import Ledger, LockedError, ReplacedError
from lsd_dask.blockwise.runs import RecordedTask, RunFailedError, run_blocks

from ..helpers.faulty import (
    ARRAYS,
    BLOCK,
    THRESHOLD,
    digests,
    options,
    records,
    save_tissue,
    undisturbed_digests,
)

ROOT = Path(__file__).parents[2]

#: Processes are started again and again, on machines that are busy with other tests.
pytestmark = pytest.mark.timeout(1200)


@pytest.fixture(scope="module")
def container(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("faults") / "tissue.zarr"
    save_tissue(path)
    return path


@pytest.fixture(scope="module")
def undisturbed(container: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Digests of what a run gives that nothing happened to."""
    return undisturbed_digests(container, tmp_path_factory.mktemp("undisturbed") / "out.zarr")


@pytest.fixture
def own_cluster() -> Iterator[Client]:
    """Two processes that may die; not those of the other tests."""
    with ld.connect("local", num_workers=2, memory="1 GiB") as client:
        yield client


# Workers that die


class KillOnce(WorkerPlugin):
    """Kills its worker a moment after it began with the third task of a step; once for each step."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.begun: dict[str, int] = {}

    def transition(self, key: str, start: str, finish: str, **_: Any) -> None:
        step = str(key).partition("-")[0]
        if finish != "executing" or " " not in step:
            return
        self.begun[step] = self.begun.get(step, 0) + 1
        if self.begun[step] == 3:
            with contextlib.suppress(FileExistsError):
                (self.directory / step).touch(exist_ok=False)
                threading.Timer(0.003, os.kill, (os.getpid(), signal.SIGKILL)).start()


@pytest.mark.filterwarnings("ignore")
def test_a_worker_is_killed_in_the_midst_of_every_step(
    own_cluster: Client, container: Path, tmp_path: Path, undisturbed: dict[str, str]
) -> None:
    """With `distributed.scheduler.allowed-failures` at 0 and no second try for `killers`, blocks fail."""
    killed = tmp_path / "killed"
    killed.mkdir()
    own_cluster.register_plugin(KillOnce(killed))
    out = tmp_path / "out.zarr"
    done = workflows.segment(options(container, out))
    steps = {path.name for path in killed.iterdir()}
    assert {"extract fragments", "build region graph", "extract segmentation"} <= steps
    assert done.skipped == 0
    assert digests(out) == undisturbed


@dataclass(frozen=True)
class Noting:
    """Notes each call as a file; what it does to some blocks is done by a function."""

    directory: Path
    bad: str = ""
    deed: Callable[[], None] = lambda: None

    def compute(self, block: Block) -> int:
        if block.name == self.bad:
            self.deed()
        return sum(block.index)

    def write(self, block: Block, result: int) -> Mapping[str, Any]:
        (self.directory / f"{block.name}.{time.time_ns()}").touch()
        return {"sum": result}


def kill_self() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class DeadlyLedger(Ledger):
    """Kills its worker, once, when it has recorded a block and before anybody is told."""

    def record(self, block: Block, facts: Mapping[str, Any], paths: Iterable[str] = ()) -> None:
        super().record(block, facts, paths)
        if block.name in DEADLY:
            with contextlib.suppress(FileExistsError):
                (Path(self.directory) / f"killed_{block.name}").touch(exist_ok=False)
                kill_self()


#: Blocks after which `DeadlyLedger` kills.
DEADLY = ("0_1", "2_0")


@pytest.mark.filterwarnings("ignore")
def test_a_worker_that_dies_after_it_recorded_a_block(own_cluster: Client, tmp_path: Path) -> None:
    """Without `has` in `RecordedTask`, the blocks are computed and written a second time."""
    grid = BlockGrid((12, 8), (3, 4))
    begun(tmp_path, grid)
    ledger = DeadlyLedger(str(tmp_path / "runs"), {"step": "count"})
    written = tmp_path / "written"
    written.mkdir()
    summary = run_blocks("count", Noting(written), grid, ledger, own_cluster)
    assert all((tmp_path / "runs" / f"killed_{name}").exists() for name in DEADLY)
    assert (summary.computed, summary.failures) == (8, {})
    assert ledger.done() == {block.name for block in grid}
    counts = Counter(path.name.partition(".")[0] for path in written.iterdir())
    assert counts == dict.fromkeys(ledger.done(), 1)


def take_all_memory() -> None:
    hoard = []
    for _ in range(64):
        hoard.append(np.ones(2**23))
        time.sleep(0.1)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("deed", [kill_self, take_all_memory])
def test_a_block_that_kills_its_worker_is_named_and_all_others_are_done(
    own_cluster: Client, tmp_path: Path, deed: Callable[[], None]
) -> None:
    """Where `killers` count as failed at once, blocks that shared a worker with the bad one fail too."""
    grid = BlockGrid((12, 8), (3, 4))
    ledger = begun(tmp_path, grid)
    written = tmp_path / "written"
    written.mkdir()
    with pytest.raises(RunFailedError) as caught:
        run_blocks("count", Noting(written, "1_1", deed), grid, ledger, own_cluster)
    message = str(caught.value)
    assert "count: 1 of 8 blocks failed (7 are done" in message
    assert "block 1_1, voxels [3:6, 4:8]: its worker died each of 4 times" in message
    assert "out of memory?" in message
    assert ledger.done() == {block.name for block in grid} - {"1_1"}
    assert {path.name.partition(".")[0] for path in written.iterdir()} == ledger.done()

    before = len(list(written.iterdir()))
    summary = run_blocks("count", Noting(written), grid, ledger, own_cluster)
    assert (summary.skipped, summary.computed) == (7, 1)
    assert len(list(written.iterdir())) == before + 1


def begun(directory: Path, grid: BlockGrid) -> Ledger:
    ledger = Ledger(str(directory / "runs"), {"step": "count"})
    ledger.clear()
    ledger.begin(grid)
    return ledger


# Clients that die


def start(container: Path, out: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.helpers.faulty", str(container), str(out)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def killed_after(process: subprocess.Popen[bytes], out: Path, more: int, moment: float) -> bool:
    """Kill a client a moment after it has done some more blocks; whether it was still at work.

    At the very moment, its workers are killed with it, as when a machine goes down; else they are left to
    notice.
    """
    before = len(records(out))
    while process.poll() is None and len(records(out)) < before + more:
        time.sleep(0.001)
    if moment:
        time.sleep(moment)
        process.kill()
    else:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    return process.returncode == -signal.SIGKILL


def test_a_client_is_killed_at_twenty_moments(
    container: Path, tmp_path: Path, undisturbed: dict[str, str]
) -> None:
    """With `record` before `write` in `RecordedTask`, voxels of recorded blocks are missing at the end.

    What is between a record and its voxels, in whichever order, is milliseconds; so half of the moments are
    those in which a record has just appeared. A run that comes to its end between two of them is begun anew.
    """
    out = tmp_path / "out.zarr"
    dice = random.Random(4)
    kept: dict[Path, int] = {}
    kills = 0
    for _ in range(20):
        # Seldom before the first block of a run is done, so that the runs get on.
        process = start(container, out)
        moment = dice.choice([0, 0.3]) * dice.random()
        killed = killed_after(process, out, dice.choice([0, 1, 1, 2, 3]) if moment else 1, moment)
        now = records(out)
        assert kept.items() <= now.items(), "a block was done again"
        kept = now
        kills += killed
        if not killed:
            assert process.returncode == 0
            assert digests(out) == undisturbed
            shutil.rmtree(out)
            kept = {}
    assert kills >= 15
    last = start(container, out)
    _, errors = last.communicate()
    assert last.returncode == 0, errors.decode()
    assert kept.items() <= records(out).items()
    assert digests(out) == undisturbed


def test_the_second_of_two_clients_on_one_output_refuses(
    own_cluster: Client, container: Path, tmp_path: Path, undisturbed: dict[str, str]
) -> None:
    """Without `held`, both work, and none is told."""
    out = tmp_path / "out.zarr"
    first = start(container, out)
    lock = out / "runs/extract_fragments/volumes/fragments/lock.json"
    while not lock.exists():
        assert first.poll() is None, first.communicate()[1].decode()
        time.sleep(0.002)
    os.kill(first.pid, signal.SIGSTOP)
    before = records(out)
    with pytest.raises(LockedError) as caught:
        workflows.segment(options(container, out))
    assert f"(process {first.pid}) has been working on this output since" in str(caught.value)
    assert str(lock.parent) in str(caught.value)
    assert records(out) == before
    os.kill(first.pid, signal.SIGCONT)
    _, errors = first.communicate()
    assert first.returncode == 0, errors.decode()
    assert digests(out) == undisturbed
    assert not list(out.rglob("lock.json"))


def test_a_worker_of_a_run_that_was_replaced_writes_nothing(tmp_path: Path) -> None:
    """Without `check_run`, the block of the old run is taken for one of the new one."""
    grid = BlockGrid((4,), (4,))
    ledger = begun(tmp_path, grid)
    written = tmp_path / "written"
    written.mkdir()

    def replace() -> None:
        begun(tmp_path, grid)

    late = RecordedTask(Noting(written, "0", replace), ledger, ledger.recorded_run())
    with pytest.raises(ReplacedError, match="another run began on the same output"):
        late(next(iter(grid)))
    assert not list(written.iterdir())
    assert ledger.done() == set()


# Disks


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one megabyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a small disk cannot be mounted here: that takes root")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def remount(disk: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(disk)], check=True)


def test_a_full_disk(
    cluster_client: Client, container: Path, small_disk: Path, undisturbed: dict[str, str]
) -> None:
    """Where a failure to note failures is raised, the blocks that failed are not named."""
    out = small_disk / "out.zarr"
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(900_000))
    with pytest.raises(RunFailedError) as caught:
        workflows.segment(options(container, out))
    assert "No space left on device" in str(caught.value)
    assert "extract fragments: " in str(caught.value)
    remount(small_disk, "size=64m")
    before = records(out)
    assert before
    result = workflows.segment(options(container, out))
    assert result.skipped == len(before)
    assert before.items() <= records(out).items()
    assert digests(out) == undisturbed


def test_a_disk_that_cannot_be_written_to(container: Path, small_disk: Path) -> None:
    """Without `check_writable`, a cluster is started first, and the message is that of the system alone."""
    out = small_disk / "out.zarr"
    remount(small_disk, "size=64m")
    shutil.copytree(container, out)
    remount(small_disk, "ro")
    given = {**options(container, out), "affs_file": out}
    for step, keys in {
        "segment": given,
        "extract_fragments": {"affs_file": out, "fragments_file": out},
    }.items():
        with pytest.raises(PermissionError, match=r"cannot be written to; .* is read-only") as caught:
            getattr(workflows, step)(keys)
        assert str(out) in str(caught.value)
    remount(small_disk, "rw")


# Torn files


@pytest.fixture
def made(cluster_client: Client, container: Path, tmp_path: Path) -> Path:
    out = tmp_path / "out.zarr"
    workflows.segment(options(container, out))
    return out


def tear(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def shard(out: Path, dataset: str, *index: int) -> Path:
    return out / dataset / "c" / "/".join(map(str, index))


@pytest.mark.parametrize("dataset", ARRAYS)
def test_a_shard_that_a_killed_worker_left_torn(
    made: Path, container: Path, undisturbed: dict[str, str], dataset: str
) -> None:
    """Its block has no record, so it is written again; with a record written first, it would stay torn."""
    step = "extract_fragments" if dataset == ARRAYS[0] else "extract_segmentation"
    tear(shard(made, dataset, 1, 1, 1))
    (made / "runs" / step / dataset / "blocks/1_1_1.json").unlink()
    before = records(made)
    workflows.segment(options(container, made))
    assert before.items() <= records(made).items()
    assert len(records(made)) == len(before) + 1
    assert digests(made) == undisturbed


def test_a_shard_that_was_torn_later_is_named_and_can_be_made_again(
    made: Path, container: Path, undisturbed: dict[str, str]
) -> None:
    """Where records alone count in `check_finished`, a shard that is gone is read as background."""
    tear(shard(made, ARRAYS[0], 1, 0, 2))
    shutil.rmtree(made / "runs/extract_segmentation")
    shutil.rmtree(made / ARRAYS[1])
    segmentation = {
        "fragments_file": made,
        "threshold": THRESHOLD,
        "out_file": made,
        "out_dataset": ARRAYS[1],
        "block_size": (BLOCK,) * 3,
    }
    with pytest.raises(ValueError, match=r"missing or damaged\. Run extract_fragments again") as caught:
        workflows.extract_segmentation(segmentation)
    assert f"{made}/{ARRAYS[0]}: found 17 of 18 blocks" in str(caught.value)
    workflows.run_block(
        "extract_fragments",
        "1_0_2",
        affs_file=container,
        fragments_file=made,
        block_size=(BLOCK,) * 3,
    )
    result = workflows.extract_segmentation(segmentation)
    assert (result.blocks, result.skipped) == (18, 0)
    assert digests(made) == undisturbed


@pytest.mark.parametrize("name", ["nodes", "edges", "merges_hist_quant_75"])
def test_a_table_that_was_torn_is_made_again(
    made: Path, container: Path, undisturbed: dict[str, str], name: str
) -> None:
    path = made / f"rag/{name}.parquet"
    tear(path)
    before = {path: when for path, when in records(made).items() if "extract" in str(path)}
    workflows.segment(options(container, made))
    assert digests(made) == undisturbed
    # Of the same fragments: no shard is written again.
    written = records(made)
    assert {path for path in before if "fragments" in path.parts} <= written.keys()
    assert all(written[path] == when for path, when in before.items() if "extract_fragments" in path.parts)


# Memory


@pytest.mark.timeout(120)
def test_blocks_that_are_too_large_for_a_worker_are_refused(container: Path, tmp_path: Path) -> None:
    """Without `check_memory`, dask pauses the worker when the first block has filled it, and the run stands
    still for ever, which here ends with the time that the test is given."""
    out = tmp_path / "out.zarr"
    with (
        ld.connect("local", num_workers=1, memory="480 MB"),
        pytest.raises(MemoryError, match=r"extract fragments: a block of 32 x 32 x 32 voxels needs about"),
    ):
        workflows.segment(options(container, out))
    assert not out.exists()
