"""What is told before a run, beside what the run then does."""

import itertools
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from distributed import Client
from hypothesis import given
from hypothesis import strategies as st

import lsd_dask as ld
from lsd_dask import workflows
from lsd_dask.blockwise.blocks import BlockGrid
from lsd_dask.cli.main import main
from lsd_dask.segmentation.watershed import Rules
from lsd_dask.volumes.opening import open_stored
from lsd_dask.volumes.overlap import StoredReader
from lsd_dask.volumes.saving import create_volume
from lsd_dask.workflows.config.loading import ConfigError
from lsd_dask.workflows.planning import Plan, StepCost, plan
from lsd_dask.workflows.running import memory, rates
from lsd_dask.workflows.running.costs import voxels_read

from ..helpers.tissue import tissue

BLOCK = 32
VOXEL = 16
NAMES = {
    "extract fragments": "extract_fragments/volumes/fragments",
    "build region graph": "region_graph/volumes/fragments",
    "evaluate volumes": "evaluate_volumes/volumes/fragments",
    "extract segmentation": "extract_segmentation/volumes/segmentation_30",
}


@pytest.fixture
def options(tmp_path: Path) -> dict[str, Any]:
    container = tmp_path / "cells.zarr"
    ld.save_volume(tissue().affinities[:, :40, :48, :40], container / "volumes/affs")
    ld.save_volume(tissue().labels[:40, :48, :40], container / "volumes/labels")
    return {
        "affs_file": container,
        "gt_file": container,
        "gt_dataset": "volumes/labels",
        "out_file": tmp_path / "out.zarr",
        "threshold": 0.3,
        "block_size": (BLOCK * VOXEL,) * 3,
    }


def step_of(found: Plan, name: str) -> StepCost:
    (step,) = [step for step in found.steps if step.step == name]
    return step


def test_what_is_told_is_what_is_done(options: dict[str, Any], cluster_client: Client) -> None:
    told = plan(options)
    assert not Path(options["out_file"]).exists()
    workflows.segment(options)
    runs = Path(options["out_file"]) / "runs"
    for step, name in NAMES.items():
        records = list((runs / name / "blocks").glob("*.json"))
        assert len(records) == step_of(told, step).blocks, step
        # One task a block.
        assert step_of(told, step).tasks == len(records)
    for step in ("extract fragments", "extract segmentation"):
        written = NAMES[step].partition("/")[2]
        volume = ld.open_volume(Path(options["out_file"]) / written)
        assert step_of(told, step).written == volume.nbytes
    assert told.shape == (40, 48, 40)
    assert told.block_shape == (BLOCK,) * 3


def test_steps_are_those_that_will_run(options: dict[str, Any]) -> None:
    usual = [step.step for step in plan(options).steps]
    assert usual == [
        "extract fragments",
        "build region graph",
        "add up the graph",
        "agglomerate",
        "find segments",
        "evaluate volumes",
        "extract segmentation",
    ]
    without = plan({**options, "gt_file": None, "gt_dataset": None})
    assert [step.step for step in without.steps] == [step for step in usual if step != "evaluate volumes"]
    refined = [step.step for step in plan({**options, "remove_debris": 5}).steps]
    assert refined.count("build region graph") == 2
    assert "refine fragments" in refined
    region = plan({**options, "roi_offset": (0, 0, 0), "roi_shape": (20 * VOXEL,) * 3})
    assert region.shape == (20, 20, 20)
    assert step_of(region, "extract fragments").blocks == 1


def test_the_memory_that_is_told_is_enough_and_less_is_not(tmp_path: Path) -> None:
    """That of the model by which runs are refused."""
    path = tmp_path / "large.zarr"
    affinities = create_volume(path / "volumes/affs", (3, 600, 600, 600), "uint8", block_shape=(200,) * 3)
    found = plan(affs_file=path, out_file=path)
    needs = memory.extraction(StoredReader(affinities, (slice(0, 600),) * 3), Rules())
    told = step_of(found, "extract fragments").memory
    memory.check_memory("a step", needs, found.block_shape, affinities.grid, told)
    with pytest.raises(MemoryError):
        memory.check_memory("a step", needs, found.block_shape, affinities.grid, told - 10)
    assert found.memory == max(step.memory for step in found.steps if step.blocks)


def test_seconds_grow_with_the_volume_and_shrink_with_workers(tmp_path: Path) -> None:
    found = []
    for size in (512, 1024, 4096):
        path = tmp_path / f"{size}.zarr"
        create_volume(path / "volumes/affs", (3, size, size, size), "uint8", block_shape=(256,) * 3)
        found.append(plan(affs_file=path, out_file=path, workers=(1, 10)))
    for small, large in itertools.pairwise(found):
        ratio = math.prod(large.shape) / math.prod(small.shape)
        assert 0.8 * ratio < large.edges / small.edges < 1.2 * ratio
        assert ratio <= large.core_hours / small.core_hours < 2 * ratio
    for one in found:
        times = [one.seconds(workers) for workers in (1, 2, 10, 100, 10_000)]
        assert times == sorted(times, reverse=True)
        assert times[0] == pytest.approx(3600 * one.core_hours, rel=0.01)
        # Neither the graph nor the scheduler grows with the workers.
        blocks = sum(step.blocks for step in one.steps)
        serial = sum(step.serial_seconds for step in one.steps)
        assert times[-1] >= serial + blocks * rates.SCHEDULING


@given(st.lists(st.tuples(st.integers(1, 30), st.integers(1, 12), st.integers(0, 9)), min_size=1, max_size=3))
def test_voxels_that_are_read(axes: Sequence[tuple[int, int, int]]) -> None:
    shape, block, depth = zip(*axes, strict=True)
    read = 0
    for one in BlockGrid(shape, block):
        grown = [
            len(range(n)[max(0, s.start - d) : s.stop + d])
            for s, d, n in zip(one.region, depth, shape, strict=True)
        ]
        read += math.prod(grown)
    assert voxels_read(shape, block, depth) == read


def test_with_a_trained_network(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from lsd_dask.networks import checkpoints, models

    config = models.ModelConfig(num_fmaps=4, fmap_inc_factor=2, downsample_factors=((2, 2, 2),))
    network = models.build_model(config).eval()
    checkpoints.save_checkpoint(str(tmp_path / "a.pt"), network, voxel_size=(8.0,) * 3, iteration=1)
    raw = np.zeros((64, 64, 64), np.uint8)
    ld.save_volume(raw, tmp_path / "raw.zarr/volumes/raw", voxel_size=(8,) * 3)
    given = {
        "raw_file": tmp_path / "raw.zarr",
        "checkpoint": tmp_path / "a.pt",
        "out_file": tmp_path / "o.zarr",
    }
    found = plan(given)
    predicted = step_of(found, "predict")
    assert predicted.written == 3 * raw.size
    assert predicted.read >= raw.size
    assert found.steps[0] is predicted
    assert step_of(found, "extract fragments").read == 3 * raw.size
    # Eight mirrored predictions take eight times as long.
    mirrored = step_of(plan({**given, "augmentation": "mirrors"}), "predict")
    assert mirrored.core_seconds > 7.5 * predicted.core_seconds
    assert not (tmp_path / "o.zarr").exists()


def test_what_is_wrong_is_told_as_by_the_run(options: dict[str, Any]) -> None:
    for wrong, error in [
        ({"affs_dataset": "volumes/nothing"}, FileNotFoundError),
        ({"block_size": (7,) * 3}, ValueError),
        ({"bloc_size": (32,) * 3}, ConfigError),
        ({"gt_dataset": "volumes/affs"}, TypeError),
    ]:
        with pytest.raises(error):
            plan({**options, **wrong})
    with pytest.raises(ValueError, match=r"num_workers: found \[0\]"):
        plan(options, workers=(0,))


def test_the_command(options: dict[str, Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "segment.json"
    file.write_text(json.dumps({key: str(v) if isinstance(v, Path) else v for key, v in options.items()}))
    assert main(["plan", str(file), "--num-workers", "1", "7"]) == 0
    told = capfd.readouterr().err
    for word in ("40 x 48 x 40", "extract fragments", "core hours", "\n 7 ", rates.MACHINE):
        assert word in told
    file.write_text("{}")
    assert main(["plan", str(file)]) == 2
    assert "missing key 'out_file'" in capfd.readouterr().err
    assert open_stored(f"{options['affs_file']}/volumes/affs").shape == (3, 40, 48, 40)
