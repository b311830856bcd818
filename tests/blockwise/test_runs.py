"""Resumable runs: what is done stays done, what failed is named, and nothing is taken for what it is not."""

import json
import math
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from distributed import Client
from hypothesis import given
from hypothesis import strategies as st

from lsd_dask.blockwise.blocks import Block, BlockGrid
from lsd_dask.blockwise.ledgers import Ledger, ReplacedError, fingerprint_of
from lsd_dask.blockwise.runs import (
    RETRIES,
    RecordedTask,
    RunFailedError,
    RunSummary,
    run_blocks,
)
from lsd_dask.storage import files

GRID = BlockGrid((10, 7), (4, 4))
NAMES = {"0_0", "0_1", "1_0", "1_1", "2_0", "2_1"}


def begun(directory: Path, **identity: Any) -> Ledger:
    ledger = Ledger(str(directory / "runs"), identity)
    ledger.clear()
    ledger.begin()
    return ledger


@dataclass(frozen=True)
class Touching:
    """A task that notes each of its calls as a file, and fails the first n times for some blocks."""

    directory: Path
    failing: Mapping[str, int] = field(default_factory=dict)

    def compute(self, block: Block) -> int:
        self.directory.mkdir(parents=True, exist_ok=True)
        before = len(list(self.directory.glob(f"{block.name}.*")))
        (self.directory / f"{block.name}.{before}").touch()
        if before < self.failing.get(block.name, 0):
            raise ValueError(f"values from 0 to {before + 3}")
        return math.prod(s.stop - s.start for s in block.region)

    def write(self, block: Block, result: int) -> Mapping[str, Any]:
        return {"voxels": result}


def calls(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.glob("*"))


@given(
    shape=st.lists(st.integers(1, 30), min_size=1, max_size=3),
    blocks=st.lists(st.integers(1, 12), min_size=3, max_size=3),
)
def test_blocks_cover_every_voxel_once(shape: list[int], blocks: list[int]) -> None:
    grid = BlockGrid(tuple(shape), tuple(blocks[: len(shape)]))
    seen = set()
    for block in grid:
        voxels = {()}
        for part in block.region:
            voxels = {(*v, i) for v in voxels for i in range(part.start, part.stop)}
        assert voxels
        assert not voxels & seen
        seen |= voxels
    assert len(seen) == math.prod(shape)
    assert len(list(grid)) == len(grid) == len({block.name for block in grid})


def test_every_block_is_run_and_recorded(cluster_client: Client, tmp_path: Path) -> None:
    ledger = begun(tmp_path)
    shown: list[int] = []

    def show(summary: RunSummary) -> None:
        shown.append(summary.computed)

    summary = run_blocks("test", Touching(tmp_path / "calls"), GRID, ledger, cluster_client, progress=show)
    assert (summary.blocks, summary.skipped, summary.computed, summary.failures) == (6, 0, 6, {})
    assert calls(tmp_path / "calls") == sorted(f"{name}.0" for name in NAMES)
    assert ledger.done() == NAMES
    assert shown == list(range(7))
    record = files.read_json(files.join(ledger.directory, "blocks", "2_1.json"))
    assert record["voxels"] == 2 * 3
    assert record["seconds"] >= 0


def test_what_is_done_is_not_done_again(cluster_client: Client, tmp_path: Path) -> None:
    ledger = begun(tmp_path)
    run_blocks("test", Touching(tmp_path / "first"), GRID, ledger, cluster_client)
    again = run_blocks("test", Touching(tmp_path / "second"), GRID, ledger, cluster_client)
    assert (again.skipped, again.computed) == (6, 0)
    assert calls(tmp_path / "second") == []

    files.remove(files.join(ledger.directory, "blocks", "1_0.json"))
    third = run_blocks("test", Touching(tmp_path / "third"), GRID, ledger, cluster_client)
    assert (third.skipped, third.computed) == (5, 1)
    assert calls(tmp_path / "third") == ["1_0.0"]


def test_a_block_that_fails_is_tried_again(cluster_client: Client, tmp_path: Path) -> None:
    summary = run_blocks(
        "test", Touching(tmp_path / "calls", {"0_1": RETRIES}), GRID, begun(tmp_path), cluster_client
    )
    assert summary.computed == 6
    assert [name for name in calls(tmp_path / "calls") if name.startswith("0_1")] == [
        f"0_1.{i}" for i in range(RETRIES + 1)
    ]


def test_a_block_that_keeps_failing_is_named_and_the_others_are_done(
    cluster_client: Client, tmp_path: Path
) -> None:
    ledger = begun(tmp_path)
    failing = Touching(tmp_path / "calls", {"2_1": 99})
    with pytest.raises(RunFailedError) as caught:
        run_blocks("find cells", failing, GRID, ledger, cluster_client)
    message = str(caught.value)
    assert "find cells: 1 of 6 blocks failed (5 are done and will be skipped" in message
    assert f"block 2_1, voxels [8:10, 4:7]: ValueError: values from 0 to {RETRIES + 3}" in message
    assert ledger.done() == NAMES - {"2_1"}
    report = Path(ledger.directory) / "failures.json"
    assert str(report) in message
    assert json.loads(report.read_text()).keys() == {"2_1"}

    summary = run_blocks("find cells", Touching(tmp_path / "again"), GRID, ledger, cluster_client)
    assert (summary.skipped, summary.computed) == (5, 1)
    assert calls(tmp_path / "again") == ["2_1.0"]
    assert not report.exists()


def test_many_failures_are_summed_up(cluster_client: Client, tmp_path: Path) -> None:
    failing = Touching(tmp_path / "calls", dict.fromkeys(NAMES, 99))
    with pytest.raises(RunFailedError, match="6 of 6 blocks failed") as caught:
        run_blocks("test", failing, GRID, begun(tmp_path), cluster_client)
    assert "... and 1 more" in str(caught.value)


def test_a_run_that_was_killed_goes_on(cluster_client: Client, tmp_path: Path) -> None:
    """Whatever stops the caller, the records of the finished blocks are there."""
    ledger = begun(tmp_path)

    def stop(summary: RunSummary) -> None:
        if summary.computed == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_blocks("test", Touching(tmp_path / "calls"), GRID, ledger, cluster_client, progress=stop)
    # What was already running may still end; it must not be half-counted.
    while any(cluster_client.processing().values()):
        time.sleep(0.01)
    done = len(ledger.done())
    assert done >= 2
    again = run_blocks("test", Touching(tmp_path / "calls"), GRID, ledger, cluster_client)
    assert (again.skipped, again.computed) == (done, 6 - done)


def test_few_tasks_wait_in_the_scheduler(cluster_client: Client, tmp_path: Path) -> None:
    """A million blocks are not handed over at once."""
    most = 0

    def watch(_: RunSummary) -> None:
        nonlocal most
        most = max(most, len(cluster_client.futures))

    grid = BlockGrid((40,), (1,))
    run_blocks("test", Touching(tmp_path / "calls"), grid, begun(tmp_path), cluster_client, progress=watch)
    assert len(calls(tmp_path / "calls")) == 40
    # Those that ended are forgotten by and by.
    assert most <= 2 * 3 * sum(cluster_client.nthreads().values())


def test_a_ledger_knows_its_run(tmp_path: Path) -> None:
    directory = str(tmp_path / "runs")
    first = Ledger(directory, {"threshold": 0.5, "blocks": (4, 4)})
    assert not first.exists()
    assert first.recorded_run() is None
    assert first.recorded_identity() == {}
    assert first.done() == set()

    first.clear()
    first.begin()
    first.record(next(iter(GRID)), {})
    same = Ledger(directory, {"blocks": [4, 4], "threshold": 0.5})
    assert same.is_current()
    assert same.changes() == []
    assert same.done() == {"0_0"}
    assert same.recorded_run() == first.recorded_run()

    other = Ledger(directory, {"threshold": 0.6, "blocks": (4, 4), "mask": None})
    assert other.exists()
    assert not other.is_current()
    assert other.changes() == ["threshold"]


def test_beginning_anew_forgets_everything_and_is_another_run(tmp_path: Path) -> None:
    ledger = begun(tmp_path, a=1)
    ledger.record(next(iter(GRID)), {})
    ledger.finish({"nodes": 3})
    run = ledger.recorded_run()
    assert ledger.finished() == {"nodes": 3}
    ledger.clear()
    ledger.begin()
    assert ledger.done() == set()
    assert ledger.finished() is None
    assert ledger.recorded_run() not in (None, run)


def test_a_run_killed_before_its_output_was_there_is_not_resumed(tmp_path: Path) -> None:
    ledger = begun(tmp_path, a=1)
    ledger.clear()
    assert ledger.exists()
    assert not ledger.is_current()
    assert ledger.recorded_run() is None


def test_a_ledger_that_was_cut_short_is_named(tmp_path: Path) -> None:
    ledger = begun(tmp_path, a=1)
    header = Path(ledger.directory) / "run.json"
    header.write_text(header.read_text()[:20])
    with pytest.raises(ValueError, match=r"run\.json: not a readable JSON file .* cut short"):
        ledger.is_current()


def test_the_header_is_read_once_however_many_blocks_look_at_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = begun(tmp_path, a=1)
    task = RecordedTask(Touching(tmp_path / "calls"), ledger, ledger.recorded_run())
    reads: list[str] = []
    read = files.read_bytes

    def counted(path: str) -> bytes:
        reads.append(path)
        return read(path)

    monkeypatch.setattr(files, "read_bytes", counted)
    for block in GRID:
        task(block)
    assert [path for path in reads if path.endswith("run.json")] == [f"{ledger.directory}/run.json"]
    assert ledger.done() == NAMES
    # Not only the first time is another run found out.
    ledger.begin()
    with pytest.raises(ReplacedError):
        task(next(iter(GRID)))
    files.remove(ledger.directory)
    with pytest.raises(ReplacedError, match="found run None"):
        task(next(iter(GRID)))


def test_what_killed_writers_left_is_removed_when_the_lock_is_taken(tmp_path: Path) -> None:
    ledger = begun(tmp_path, a=1)
    ledger.record(next(iter(GRID)), {})
    part = f"{uuid.uuid4().hex}.partial"
    folder = Path(ledger.directory)
    left = [
        folder / f"blocks/0_1.json.{part}",
        folder / f"tables/0_0.npz.{part}",
        folder / f"run.json.{part}",
    ]
    # Of somebody who is about to find that the lock is taken.
    kept = [folder / f"lock.json.{part}", folder / "blocks/0_0.json", folder / "run.json"]
    for path in left + kept[:1]:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    with ledger.held():
        assert [path.exists() for path in left] == [False] * len(left)
        assert [path.exists() for path in kept] == [True] * len(kept)


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=3), plain, max_size=4), st.text(max_size=3), plain)
def test_fingerprints_tell_identities_apart(identity: dict[str, Any], key: str, value: Any) -> None:
    shuffled = dict(reversed(identity.items()))
    assert fingerprint_of(shuffled) == fingerprint_of(identity)
    changed = {**identity, key: value}
    same = json.dumps(changed, sort_keys=True) == json.dumps(identity, sort_keys=True)
    assert (fingerprint_of(changed) == fingerprint_of(identity)) == same
