"""Resuming with another parameter: what depends on it is computed again, and nothing else.

Blocks are counted by their records, which are written when a block has been computed.
"""

import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from distributed import Client

import lsd_dask as ld
from lsd_dask import workflows

from ..helpers.faulty import digests
from ..helpers.tissue import tissue

#: As many blocks as there are of 40 voxels in the tissue.
SIDE, BLOCKS = 40, 2 * 2 * 3
FRAGMENTS, SEGMENTATION = "extract_fragments/volumes/fragments", "extract_segmentation/volumes/segmentation"
GRAPH, TREE, OVERLAPS = (
    f"{step}/volumes/fragments" for step in ("region_graph", "agglomerate", "evaluate_volumes")
)
#: The overlaps of so small a volume are counted in one block.
EVERYTHING = {FRAGMENTS: BLOCKS, GRAPH: BLOCKS, f"{TREE}/hist_quant_75": 1, OVERLAPS: 1}


@pytest.fixture(scope="module", autouse=True)
def client() -> Iterator[Client]:
    with Client(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=":0") as client:
        yield client


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cells") / "cells.zarr"
    ld.save_volume(tissue().affinities.values, path / "volumes/affs")
    ld.save_volume(tissue().labels.values, path / "volumes/labels")
    ld.save_volume(tissue().labels.values // 2, path / "volumes/pairs")
    return path


def settings(cells: Path, **changes: Any) -> dict[str, Any]:
    return {
        "affs_file": cells,
        "gt_file": cells,
        "gt_dataset": "volumes/labels",
        "threshold": 0.3,
        "thresholds_step": 0.25,
        "block_size": (SIDE,) * 3,
        **changes,
    }


def work(out: Path) -> dict[Path, int]:
    """When each block was recorded, and each step that is not done in blocks."""
    runs = out / "runs"
    done = [*runs.rglob("blocks/*.json"), *(runs / "agglomerate").rglob("run.json")]
    return {path.relative_to(runs): path.stat().st_mtime_ns for path in done}


def ledger_of(record: Path) -> str:
    return str(record.parent.parent if record.parent.name == "blocks" else record.parent)


def computed(out: Path, **given: Any) -> Counter[str]:
    """How many blocks of each ledger a run computes."""
    before = work(out)
    workflows.segment(out_file=out, **given)
    return Counter(ledger_of(path) for path, when in work(out).items() if before.get(path) != when)


# Each is changed after those before it: what, and what is computed then.
CHANGES: list[tuple[dict[str, Any], dict[str, int]]] = [
    ({}, {**EVERYTHING, f"{SEGMENTATION}_30": BLOCKS}),
    ({}, {}),
    ({"num_workers": 3, "memory": "2 GB"}, {}),
    ({"threshold": 0.45}, {f"{SEGMENTATION}_45": BLOCKS}),
    ({"thresholds_step": 0.1}, {}),
    ({"thresholds_minmax": (0.1, 0.8)}, {}),
    ({"gt_dataset": "volumes/pairs"}, {OVERLAPS: 1}),
    ({"merge_function": "mean"}, {f"{TREE}/mean": 1, f"{SEGMENTATION}_45": BLOCKS}),
    (
        {"neighborhood": [[-1, 0, 0], [0, 0, -1], [0, -1, 0]]},
        {FRAGMENTS: BLOCKS, GRAPH: BLOCKS, f"{TREE}/mean": 1, OVERLAPS: 1, f"{SEGMENTATION}_45": BLOCKS},
    ),
    (
        {"height": "distance"},
        {FRAGMENTS: BLOCKS, GRAPH: BLOCKS, f"{TREE}/mean": 1, OVERLAPS: 1, f"{SEGMENTATION}_45": BLOCKS},
    ),
    (
        {"method": "seeded"},
        {FRAGMENTS: BLOCKS, GRAPH: BLOCKS, f"{TREE}/mean": 1, OVERLAPS: 1, f"{SEGMENTATION}_45": BLOCKS},
    ),
    (
        {"min_seed_distance": 6},
        {FRAGMENTS: BLOCKS, GRAPH: BLOCKS, f"{TREE}/mean": 1, OVERLAPS: 1, f"{SEGMENTATION}_45": BLOCKS},
    ),
    (
        # One more pass, and a graph of its own, for decisions about whole fragments.
        {"remove_debris": 20},
        {
            f"{FRAGMENTS}_unrefined": BLOCKS,
            f"{GRAPH}_unrefined": BLOCKS,
            FRAGMENTS: BLOCKS,
            GRAPH: BLOCKS,
            f"{TREE}/mean": 1,
            OVERLAPS: 1,
            f"{SEGMENTATION}_45": BLOCKS,
        },
    ),
    (
        {"remove_debris": 60},
        {FRAGMENTS: BLOCKS, GRAPH: BLOCKS, f"{TREE}/mean": 1, OVERLAPS: 1, f"{SEGMENTATION}_45": BLOCKS},
    ),
]


def test_what_depends_on_a_parameter_and_only_that_is_computed_again(cells: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    changes: dict[str, Any] = {}
    for change, expected in CHANGES:
        changes |= change
        assert computed(out, **settings(cells, **changes)) == expected, change
    # After all of this, what is there is what a run makes that knows nothing of it.
    fresh = tmp_path / "fresh.zarr"
    workflows.segment(out_file=fresh, **settings(cells, **changes))
    expected_digests = digests(fresh)
    assert len(expected_digests) > 5
    assert expected_digests.items() <= digests(out).items()
    # What was made with the other merge function is still there; nobody takes it for current.
    assert set(digests(out)) > set(expected_digests)


def test_scores_of_other_thresholds_take_no_block(cells: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    first = workflows.segment(out_file=out, **settings(cells))
    before = {path: path.stat().st_mtime_ns for path in (out / "volumes").rglob("*") if path.is_file()}
    second = workflows.segment(out_file=out, **settings(cells, thresholds_step=0.2))
    assert second.blocks == second.skipped == first.blocks
    assert [row["threshold"] for row in second.scores] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8])
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_what_killed_writers_left_of_an_array_is_cleaned_up(cells: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    given = {"affs_file": cells, "fragments_file": out, "block_size": (SIDE,) * 3}
    workflows.extract_fragments(given)
    part = f"{uuid.uuid4().hex}.partial"
    left = [out / f"volumes/fragments/c/0/0/0.{part}", out / f"volumes/fragments/zarr.{part}"]
    # Of an array that somebody else may be writing.
    other = out / f"volumes/others/c/0/0/0.{part}"
    other.parent.mkdir(parents=True)
    for path in (*left, other):
        path.touch()
    before = set((out / "volumes").rglob("*"))
    assert workflows.extract_fragments(given).skipped == BLOCKS
    assert before - set((out / "volumes").rglob("*")) == set(left)
