"""Adding up the tables of blocks: the same sum for any tree, few tasks for many blocks, and within memory."""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from distributed import Client
from hypothesis import given
from hypothesis import strategies as st

import lsd_dask as ld
from lsd_dask import workflows
from lsd_dask.blockwise.blocks import BlockGrid
from lsd_dask.blockwise.ledgers import Ledger
from lsd_dask.workflows.running import memory, tasks

from ..helpers.faulty import records
from ..helpers.tasks import tasks_of
from ..helpers.tissue import tissue

SIDE = 32


@pytest.fixture(scope="module", autouse=True)
def client() -> Iterator[Client]:
    with Client(
        n_workers=1, threads_per_worker=1, memory_limit="4GB", processes=False, dashboard_address=":0"
    ) as client:
        yield client


@dataclass(frozen=True)
class Sums:
    """A table: how often each number was seen."""

    counts: np.ndarray


def read(arrays: Mapping[str, np.ndarray]) -> Sums:
    return Sums(arrays["counts"])


def join(tables: list[Sums]) -> Sums:
    assert 1 <= len(tables) <= tasks.FAN_IN + 1
    return Sums(np.sum([table.counts for table in tables], axis=0))


@given(counts=st.tuples(*[st.integers(1, 6)] * 3), readers=st.integers(1, 40))
def test_every_block_counts_once(client: Client, tmp_path_factory: Any, counts: Any, readers: int) -> None:
    """However many blocks a task reads."""
    blocks = BlockGrid(counts, (1, 1, 1))
    ledger = Ledger(str(tmp_path_factory.mktemp("sums")), {"step": "count"})
    for number, block in enumerate(blocks):
        tasks.write_table(ledger, block, {"counts": np.eye(1, len(blocks), number, dtype=np.int64)[0]})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tasks, "READERS", readers)
        total = tasks.add_up(client, ledger, blocks, read, join)
    assert total.counts.tolist() == [1] * len(blocks)


class _Keeping:
    """A client that computes nothing, and keeps what it was given."""

    given: Any = None

    def scheduler_info(self, n_workers: int) -> dict[str, Any]:
        return {"workers": {}}

    def compute(self, collection: Any) -> Any:
        self.given = collection
        return self

    def result(self) -> None:
        return None


@pytest.mark.parametrize("side", [3, 20, 100, 200])
def test_few_tasks_add_up_any_number_of_blocks(side: int) -> None:
    """With `FAN_IN` blocks a task, eight million blocks would take more than a million tasks."""
    blocks, client = BlockGrid((side,) * 3, (1,) * 3), _Keeping()
    tasks.add_up(client, Ledger("nowhere", {"step": "count"}), blocks, read, join)  # type: ignore[arg-type]
    n = len(tasks_of(client.given))
    assert n <= 1 + 0.3 * len(blocks)
    assert n < 10_000


def test_tables_that_one_task_would_add_up_stay_with_the_client(tmp_path: Path) -> None:
    """The sum would have to be sent to it."""
    blocks, client = BlockGrid((2, 2, 2), (1, 1, 1)), _Keeping()
    ledger = Ledger(str(tmp_path), {"step": "count"})
    for number, block in enumerate(blocks):
        tasks.write_table(ledger, block, {"counts": np.eye(1, len(blocks), number, dtype=np.int64)[0]})
    total = tasks.add_up(client, ledger, blocks, read, join)  # type: ignore[arg-type]
    assert total.counts.tolist() == [1] * len(blocks)
    assert client.given is None


# Memory


def test_what_does_not_fit_into_workers_is_added_up_by_the_client(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without, a worker is killed that adds up, or is told to (see the next test)."""
    cells = tmp_path / "cells.zarr"
    ld.save_volume(tissue().affinities.values, cells / "volumes/affs")
    graphs = []
    for name, fits in (("on_workers", True), ("here", False)):
        out = tmp_path / f"{name}.zarr"
        workflows.extract_fragments(affs_file=cells, fragments_file=out, block_size=(SIDE,) * 3)
        with monkeypatch.context() as patch:
            patch.setattr(tasks, "sum_fits", lambda size, limit, fits=fits: size > 1000 and fits)
            patch.setattr(tasks, "_AddingFiles", tasks._AddingFiles if fits else None)
            workflows.agglomerate(affs_file=cells, fragments_file=out, block_size=(SIDE,) * 3)
        graphs.append([pq.read_table(out / "rag" / f"{table}.parquet") for table in ("nodes", "edges")])
    assert graphs[0] == graphs[1]


def test_a_sum_that_fits_nowhere_is_refused_and_the_blocks_stay(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without `check_sum`, it is tried, and whoever adds up is killed."""
    cells, out = tmp_path / "cells.zarr", tmp_path / "out.zarr"
    ld.save_volume(tissue().affinities.values, cells / "volumes/affs")
    size = {"block_size": (SIDE,) * 3}
    workflows.extract_fragments(affs_file=cells, fragments_file=out, **size)
    with monkeypatch.context() as patch:
        patch.setattr(memory, "ADDING", 1_000_000.0)
        with pytest.raises(
            MemoryError, match=r"^region_graph: adding up tables of .* GB needs about"
        ) as caught:
            workflows.agglomerate(affs_file=cells, fragments_file=out, octree=False, **size)
    assert "but a worker may use 3.2 GB (80% of its memory), and this process" in str(caught.value)
    before = records(out)
    result = workflows.agglomerate(affs_file=cells, fragments_file=out, **size)
    assert result.skipped == result.blocks
    assert records(out) == before


@given(st.integers(0, 10**12), st.integers(1, 10**12))
def test_what_is_said_to_fit_does(size: int, limit: int) -> None:
    assert memory.sum_fits(size, limit) == (memory.BASE + memory.ADDING * size <= memory.USABLE * limit)
    assert memory.sum_fits(size, None)
    assert memory.sum_fits(size, 0)


@pytest.mark.parametrize(("edges", "bins"), [(60_000, 3), (30_000, 20), (10_000, 80)])
def test_the_model_covers_what_is_measured(edges: int, bins: int) -> None:
    """Of eight tables of different edges, in a process of its own."""
    program = f"""
        import re
        from dataclasses import fields
        from pathlib import Path
        import numpy as np
        from lsd_dask.segmentation.graph_tables import EdgeTable, GraphTables, NodeTable

        def memory(field):
            return int(re.search(field + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024

        def table(first, n):
            ids, ones = np.arange(first, first + n, dtype=np.uint64), np.ones(n, np.int64)
            nodes = NodeTable(ids, ones, *(np.ones((n, 3), np.int64) for _ in range(3)), ones.copy())
            columns = [ones.copy() for _ in range(4)]
            histograms = np.tile(np.arange({bins}, dtype=np.uint8), n), np.ones(n * {bins}, np.uint32)
            edges = EdgeTable(ids, ids + np.uint64(1), *columns, {bins} * np.arange(n + 1), *histograms)
            return GraphTables(nodes.take(np.arange(0, n, 6)), edges)

        def size_of(table):
            if isinstance(table, np.ndarray):
                return table.nbytes
            return sum(size_of(getattr(table, field.name)) for field in fields(table))

        GraphTables.joined([table(i, 9) for i in range(3)])
        tables = [table(i * {edges}, {edges}) for i in range(8)]
        size = sum(map(size_of, tables))
        before = memory("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")
        total = GraphTables.joined(tables)
        assert len(total.edges) == 8 * {edges}
        print(1 + (memory("VmHWM") - before) / size)
        """
    command = [sys.executable, "-W", "error", "-c", dedent(program)]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert memory.ADDING / 2 <= float(ended.stdout) <= memory.ADDING
