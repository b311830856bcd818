"""Files that steps read."""

from pathlib import Path

import numpy as np
import pytest
from distributed import Client

import lsd_dask as ld
from lsd_dask import workflows
from lsd_dask.blockwise.runs import RunFailedError

from ..helpers.refusals import refused
from .house import AFFINITIES, METADATA, PLACE, cut, only_file


@pytest.mark.parametrize("name", ["half", "none", "list", "parent", "shape", "codec"])
def test_steps_refuse_metadata_that_are_damaged(
    house: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "lsd_dask.workflows.running.outputs.session", lambda *_, **__: pytest.fail("a cluster was started")
    )
    path = house / f"{name}.zarr"
    parts = (str(path), METADATA)
    affs = house / "good.zarr"
    fragments = {"fragments_file": path, "fragments_dataset": "volumes/labels"}
    refused(house, lambda: workflows.agglomerate(affs_file=affs, **fragments), ValueError, *parts)
    truth = {"gt_file": path, "gt_dataset": "volumes/labels", "fragments_file": affs}
    options = {**truth, "fragments_dataset": "volumes/labels"}
    refused(house, lambda: workflows.evaluate_volumes(**options), (ValueError, FileNotFoundError))
    options = {
        "affs_file": affs,
        "out_file": house / "out.zarr",
        "gt_file": path,
        "gt_dataset": "volumes/labels",
    }
    refused(house, lambda: workflows.segment(options), ValueError, *parts)


@pytest.fixture
def begun(tmp_path: Path, cluster_client: Client) -> Path:
    """A container in which fragments were made."""
    path = tmp_path / "cells.zarr"
    affinities = (AFFINITIES * 255).astype(np.uint8)
    ld.save_volume(np.repeat(np.repeat(affinities, 3, axis=2), 3, axis=3), path / "volumes/affs", **PLACE)
    workflows.extract_fragments(affs_file=path, fragments_file=path)
    return path


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("run.json", "[]", "found no record of a run"),
        ("run.json", "3", "found no record of a run"),
        ("run.json", '"hello"', "found no record of a run"),
        ("run.json", "", "not a readable JSON file"),
    ],
)
def test_steps_refuse_a_ledger_that_is_damaged(begun: Path, name: str, content: str, part: str) -> None:
    path = begun / "runs/extract_fragments/volumes/fragments" / name
    path.write_text(content)
    call = lambda: workflows.extract_fragments(affs_file=begun, fragments_file=begun)  # noqa: E731
    refused(begun.parent, call, ValueError, str(path), part)


def test_a_step_names_the_shard_that_was_cut_short(begun: Path) -> None:
    """Nothing but reading it tells, so the block fails, and what is there stays."""
    cut(only_file(begun / "volumes/affs"), 0.9)
    with pytest.raises(RunFailedError) as caught:
        workflows.agglomerate(affs_file=begun, fragments_file=begun)
    message = str(caught.value)
    assert f"ValueError: {begun}/volumes/affs: voxels" in message
    assert "was a file of the array cut short?" in message
    assert not (begun / "rag/nodes.parquet").exists()
