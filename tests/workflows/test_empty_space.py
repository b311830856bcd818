"""Empty space costs nothing: blocks without a voxel inside the mask, and blocks that are all background."""

import json
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from distributed import Client

import lsd_dask as ld
from lsd_dask import workflows
from lsd_dask.volumes.stored import StoredVolume

from ..helpers.tissue import SHAPE, tissue

SIDE = 32
COUNTS = tuple(-(-n // SIDE) for n in SHAPE)


@pytest.fixture(scope="module", autouse=True)
def client() -> Iterator[Client]:
    """Workers in this process, so that reads can be counted."""
    with Client(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0") as client:
        yield client


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cells") / "cells.zarr"
    ld.save_volume(tissue().affinities.values, path / "volumes/affs")
    return path


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often blocks read voxels of each volume from storage; what is looked at before is not counted."""
    counts: Counter[str] = Counter()
    load = StoredVolume._load

    def counted(self: StoredVolume, selection: Any) -> np.ndarray:
        counts[self.name] += threading.current_thread() is not threading.main_thread()
        return load(self, selection)

    monkeypatch.setattr(StoredVolume, "_load", counted)
    return counts


def extract(cells: Path, out: Path, mask: np.ndarray, **options: Any) -> np.ndarray:
    """Fragments inside a mask, whose voxels may be larger."""
    size = tuple(float(n // m) for n, m in zip(SHAPE, mask.shape, strict=True))
    ld.save_volume(mask, out / "mask", voxel_size=size, units="voxel")
    workflows.extract_fragments(
        affs_file=cells,
        fragments_file=out,
        mask_file=out,
        mask_dataset="mask",
        block_size=(SIDE,) * 3,
        **options,
    )
    fragments: np.ndarray = ld.open_volume(out / "volumes/fragments").values
    return fragments


def shards(array: Path) -> set[str]:
    return {"_".join(path.relative_to(array / "c").parts) for path in array.rglob("c/*/*/*")}


def foreground(out: Path, step: str, dataset: str) -> dict[str, int]:
    """As it was recorded, by block."""
    records = (out / "runs" / step / dataset / "blocks").iterdir()
    return {path.stem: json.loads(path.read_text())["foreground"] for path in records}


@pytest.mark.parametrize("method", ["steepest_ascent", "seeded"])
def test_a_block_outside_of_the_mask_reads_the_mask_alone(
    cells: Path, tmp_path: Path, reads: Counter[str], method: str
) -> None:
    """Where affinities are read before the mask is looked at, they are read once for each block at least."""
    mask = np.zeros([n // 8 for n in SHAPE], np.uint8)
    mask[1:3, 1:3, 3:6] = 1
    fragments = extract(cells, tmp_path / "out.zarr", mask, method=method)
    assert fragments.any()
    # Two blocks along x.
    assert reads["affs"] == 2
    assert reads["mask"] >= np.prod(COUNTS)
    assert np.array_equal(fragments != 0, fragments * mask.repeat(8, 0).repeat(8, 1).repeat(8, 2) != 0)


def test_nothing_at_all(
    cells: Path, tmp_path: Path, reads: Counter[str], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.zarr"
    assert not extract(cells, out, np.zeros((1, 1, 1), np.uint8)).any()
    workflows.agglomerate(affs_file=cells, fragments_file=out, block_size=(SIDE,) * 3)
    assert "There are no fragments" in capsys.readouterr().err
    assert reads["affs"] == 0
    workflows.extract_segmentation(fragments_file=out, out_file=out, threshold=0.5, block_size=(SIDE,) * 3)
    assert shards(out / "volumes/fragments") == shards(out / "volumes/segmentation") == set()
    recorded = foreground(out, "extract_segmentation", "volumes/segmentation")
    assert len(recorded) == np.prod(COUNTS)
    assert set(recorded.values()) == {0}


def test_replaced_sections_are_not_read(cells: Path, tmp_path: Path, reads: Counter[str]) -> None:
    whole = np.ones((1, 1, 1), np.uint8)
    fragments = extract(cells, tmp_path / "out.zarr", whole, replace_sections=range(SIDE))
    assert not fragments[:SIDE].any()
    assert fragments[SIDE:].any()
    assert reads["affs"] == np.prod(COUNTS) / 2


def test_blocks_of_background_are_recorded_and_not_written(cells: Path, tmp_path: Path) -> None:
    """If they were written, there would be a shard of zeros for each."""
    out = tmp_path / "out.zarr"
    mask = np.zeros([n // 8 for n in SHAPE], np.uint8)
    mask[:, :, :4] = 1
    extract(cells, out, mask)
    workflows.agglomerate(affs_file=cells, fragments_file=out, block_size=(SIDE,) * 3)
    workflows.extract_segmentation(fragments_file=out, out_file=out, threshold=0.3, block_size=(SIDE,) * 3)
    for step, dataset in (
        ("extract_fragments", "volumes/fragments"),
        ("extract_segmentation", "volumes/segmentation"),
    ):
        recorded = foreground(out, step, dataset)
        assert len(recorded) == np.prod(COUNTS)
        written = {name for name, voxels in recorded.items() if voxels}
        assert shards(out / dataset) == written
        # The mask ends with the first block along x.
        assert {name for name in recorded if name.endswith("_0")} == written
