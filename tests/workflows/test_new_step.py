"""A step is added by adding one file: commands, plan, status, one block and report know it then."""

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from distributed import Client

import lsd_dask as ld
from lsd_dask import workflows
from lsd_dask.cli.main import main
from lsd_dask.workflows import registry, steps
from lsd_dask.workflows.config.loading import ConfigError, load_config
from lsd_dask.workflows.step import BlockStep

from ..helpers.tissue import tissue

#: The folder of the one file.
ADDED = Path(__file__).parent / "added_steps"


@pytest.fixture
def added(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The file among those of the other steps."""
    monkeypatch.setattr(steps, "__path__", [*steps.__path__, str(ADDED)])
    yield
    for package, name in ((workflows, "count_voxels"), (steps, "count_voxels")):
        vars(package).pop(name, None)
    sys.modules.pop("lsd_dask.workflows.steps.count_voxels", None)


@pytest.fixture
def client() -> Iterator[Client]:
    """A worker in this process, which knows the file, too."""
    with Client(processes=False, n_workers=1, threads_per_worker=1, dashboard_address=":0") as client:
        yield client


@pytest.fixture
def container(tmp_path: Path) -> Path:
    ld.save_volume(tissue().labels[:40, :48, :40], tmp_path / "cells.zarr/volumes/labels")
    return tmp_path / "cells.zarr"


def test_a_step_in_one_file(
    added: None, container: Path, client: Client, capfd: pytest.CaptureFixture[str]
) -> None:
    options = ["--labels-file", str(container), "--block-size", "512", "512", "512"]
    config = container.parent / "count.yaml"
    config.write_text(f"{{labels_file: {container}, block_size: [512, 512, 512]}}")

    assert main(["plan", str(config), "--step", "count-voxels"]) == 0
    told = capfd.readouterr().err
    assert "40 x 48 x 40 voxels in blocks of 32 x 32 x 32; a worker needs" in told
    assert "count voxels" in told
    assert not (container / "runs").exists()

    report = container.parent / "report.html"
    assert main(["count-voxels", *options, "--report", str(report)]) == 0
    assert "count_voxels: 8 blocks" in capfd.readouterr().err
    assert "count_voxels" in report.read_text()
    table = pq.read_table(container / "voxels.parquet")
    labels, counts = np.unique(ld.open_volume(container / "volumes/labels").values, return_counts=True)
    assert table["label"].to_pylist() == labels.tolist()
    assert table["voxels"].to_pylist() == counts.tolist()

    (status,) = workflows.status(container)
    assert (status.step, status.output, status.state) == ("count_voxels", "volumes/labels", "done")
    assert (status.blocks, status.done) == (8, 8)

    assert main(["run-block", "count-voxels", "1_1_1", *options]) == 0
    assert "count_voxels: block 1_1_1 is done: labels" in capfd.readouterr().err
    # What was done is skipped, as of any step.
    result = workflows.count_voxels(labels_file=container, block_size=(512,) * 3)
    assert (result.blocks, result.skipped) == (8, 8)


def test_its_options_are_explained(added: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["count-voxels", "--example"]) == 0
    shown = capsys.readouterr().out
    assert yaml.safe_load(shown) == {"labels_file": "volume.zarr"}
    model = registry.models()["count_voxels"]
    assert load_config(model, yaml.safe_load(shown)).labels_dataset == "volumes/labels"
    assert all(f"{key}:" in shown for key in model.model_fields)
    for arguments in (["--help"], ["count-voxels", "--help"]):
        with pytest.raises(SystemExit):
            main(arguments)
        assert "Count the voxels of each label." in capsys.readouterr().out
    assert inspect.signature(workflows.count_voxels).parameters.keys() == {"config", *model.model_fields}
    assert "Container of the labels" in workflows.count_voxels.__doc__
    with pytest.raises(ConfigError, match="missing key 'labels_file'"):
        workflows.count_voxels()


def test_steps_are_those_of_the_folder(added: None) -> None:
    assert registry.names()[-1] == "count_voxels"
    assert isinstance(registry.step_named("count_voxels"), BlockStep)
    for name in registry.names():
        if name not in ("predict", "train"):  # which need PyTorch
            step = registry.step_named(name)
            assert step.model is registry.models()[name]
            assert step.name == name
    with pytest.raises(AttributeError):
        workflows._scoring  # noqa: B018 - no step


def test_without_the_file_there_is_no_such_step(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["count-voxels", "--help"])
    assert "there is no command 'count-voxels'" in capsys.readouterr().err
    assert not hasattr(workflows, "count_voxels")
