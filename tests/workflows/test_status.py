"""What is done of each step, and one block by itself."""

import re
from pathlib import Path

import numpy as np
import pytest
from distributed import Client

import lsd_dask as ld
from lsd_dask import workflows
from lsd_dask.blockwise.ledgers import Ledger
from lsd_dask.blockwise.runs import RunFailedError
from lsd_dask.cli import main

from ..helpers.tissue import tissue

FRAGMENTS = "runs/extract_fragments/volumes/fragments"
BLOCK = (32, 36, 44)


@pytest.fixture
def container(tmp_path: Path) -> Path:
    path = tmp_path / "cells.zarr"
    ld.save_volume(tissue().affinities.values, path / "volumes/affs")
    return path


def given(container: Path) -> dict[str, object]:
    return {"affs_file": container, "fragments_file": container, "block_size": BLOCK}


@pytest.fixture
def made(cluster_client: Client, container: Path) -> Path:
    workflows.extract_fragments(given(container))
    workflows.agglomerate(given(container))
    return container


def test_the_state_of_every_step(made: Path) -> None:
    found = {one.step: one for one in workflows.status(made)}
    assert list(found) == ["extract_fragments", "region_graph", "agglomerate"]
    first = found["extract_fragments"]
    assert (first.output, first.state, first.blocks, first.done) == ("volumes/fragments", "done", 8, 8)
    assert (first.failures, first.missing) == ({}, ())
    assert re.fullmatch(r"\w+@[\w.-]+", first.by)
    assert re.match(r"\d{4}-\d\d-\d\dT", first.started)
    assert found["agglomerate"].output == "volumes/fragments/hist_quant_75"
    assert (found["agglomerate"].state, found["agglomerate"].blocks) == ("done", None)


def test_blocks_that_are_missing_and_a_run_that_is_at_work(made: Path) -> None:
    (made / FRAGMENTS / "blocks/0_1_0.json").unlink()
    (made / FRAGMENTS / "blocks/1_1_1.json").unlink()
    first = workflows.status(made)[0]
    assert (first.state, first.done, first.missing) == ("interrupted", 6, ("0_1_0", "1_1_1"))
    with Ledger(str(made / FRAGMENTS), {}).held():
        assert workflows.status(made)[0].state == "running"
    assert workflows.status(made)[0].state == "interrupted"


def test_blocks_that_failed(cluster_client: Client, container: Path, capsys: pytest.CaptureFixture) -> None:
    values = np.zeros((3, 24, 24, 240), np.float32)
    values[0, 0, 0, 0] = 2
    ld.save_volume(values, container / "wrong")
    with pytest.raises(RunFailedError):
        workflows.extract_fragments(
            affs_file=container, affs_dataset="wrong", fragments_file=container, block_size=(24, 24, 80)
        )
    (only,) = workflows.status(container)
    assert (only.state, only.blocks, only.done, only.missing) == ("failed", 3, 2, ("0_0_0",))
    assert "values from 0 to 2" in only.failures["0_0_0"]

    capsys.readouterr()
    assert main.main(["status", str(container)]) == 0
    printed = capsys.readouterr().err
    assert "failed" in printed
    assert "2 of 3" in printed
    assert "extract_fragments, block 0_0_0: ValueError:" in printed
    assert "extract_fragments, to be done: 0_0_0" in printed


def test_a_container_that_no_step_wrote_to(container: Path, capsys: pytest.CaptureFixture) -> None:
    assert main.main(["status", str(container)]) == 2
    assert "no step of lsd-dask has written to this container" in capsys.readouterr().err


def test_one_block_in_this_process(made: Path, container: Path, capsys: pytest.CaptureFixture) -> None:
    """It is computed also where it is done, and is then what it was."""
    fragments = ld.open_volume(made / "volumes/fragments").to_numpy()
    records = {path: path.stat().st_mtime_ns for path in (made / FRAGMENTS / "blocks").iterdir()}
    again = made / FRAGMENTS / "blocks/1_0_1.json"
    facts = workflows.run_block("extract_fragments", "1_0_1", given(container))
    assert facts["foreground"] == np.count_nonzero(fragments[32:, :36, 44:])
    changed = {path for path, when in records.items() if path.stat().st_mtime_ns != when}
    assert changed == {again}
    assert np.array_equal(ld.open_volume(made / "volumes/fragments").to_numpy(), fragments)

    arguments = [f"--{key.replace('_', '-')}" for key in ("affs_file", "fragments_file")]
    command = ["run-block", "extract-fragments", "0_1_1", arguments[0], str(made), arguments[1], str(made)]
    assert main.main([*command, "--block-size", *map(str, BLOCK)]) == 0
    printed = capsys.readouterr().err
    assert "block 0_1_1, voxels [0:32, 36:72, 44:88]" in printed
    assert "block 0_1_1 is done: foreground" in printed


def test_what_a_block_raises_is_raised_here(container: Path) -> None:
    values = np.zeros((3, 24, 24, 240), np.float32)
    values[0, 0, 0, 0] = 2
    ld.save_volume(values, container / "wrong")
    with pytest.raises(ValueError, match="wrong: Affinities hold values from 0 to 2"):
        workflows.run_block(
            "extract_fragments",
            "0_0_0",
            affs_file=container,
            affs_dataset="wrong",
            fragments_file=container,
            block_size=(24, 24, 80),
        )


@pytest.mark.parametrize(
    ("step", "block", "message"),
    [
        (
            "extract_fragments",
            "2_0_0",
            "there is no block '2_0_0'; 0_0_0 to 1_1_1 there are, of 32 x 36 x 44",
        ),
        ("extract_fragments", "0_0", "there is no block '0_0'"),
        ("extract_fragments", "a_b_c", "there is no block 'a_b_c'"),
        ("segment", "0_0_0", "there is no step 'segment' that is done in blocks, expected extract_fragments"),
        ("agglomerate", "0_0_0", "agglomerate: the sum over all blocks is there already"),
    ],
)
def test_blocks_that_cannot_be_run(made: Path, step: str, block: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        workflows.run_block(step, block, given(made))


def test_commands_that_do_not_exist(capsys: pytest.CaptureFixture) -> None:
    for arguments, message in (
        (["statis"], "did you mean status?"),
        (["run-block", "extract-fragment", "0_0_0"], "did you mean extract-fragments?"),
        (["run-block", "extract-fragments"], "the following arguments are required: BLOCK"),
    ):
        with pytest.raises(SystemExit):
            main.main(arguments)
        assert message in capsys.readouterr().err
    with pytest.raises(SystemExit) as helped:
        main.main(["run-block", "--help"])
    assert helped.value.code == 0
