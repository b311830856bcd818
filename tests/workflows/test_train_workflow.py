"""`workflows.train`: from stored volumes to a checkpoint, and what it says of input it cannot use."""

import json
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from lsd_dask import save_volume, workflows  # noqa: E402
from lsd_dask.cli.main import main  # noqa: E402
from lsd_dask.networks.checkpoints import load_checkpoint  # noqa: E402
from lsd_dask.prediction.tiles import predict  # noqa: E402
from lsd_dask.workflows.config.loading import ConfigError  # noqa: E402

from ..helpers.training_data import cells, image_of, store_cells  # noqa: E402
from ..helpers.training_data import named_volume as volume  # noqa: E402
from ..helpers.training_data import training_options as options  # noqa: E402


@pytest.fixture
def container(tmp_path: Path) -> Path:
    return store_cells(tmp_path / "cells.zarr")


def state_of(path):
    return {k: v.numpy().copy() for k, v in load_checkpoint(str(path)).model.state_dict().items()}


def test_from_stored_volumes_to_a_checkpoint(container, tmp_path):
    result = workflows.train(
        options(
            container,
            validation_volumes=[
                volume(container, "held_out", roi_offset=[0, 0, 0], roi_shape=[80, 160, 160])
            ],
        )
    )
    assert result.path == str(tmp_path / "network" / "best.pt")
    assert [found["iteration"] for found in result.validations] == [3, 6]
    assert result.validations[0].keys() >= {"loss", "voi_split", "voi_merge", "voi_sum", "threshold"}
    for name in ("checkpoint", "last checkpoint", "logs", "snapshots"):
        assert Path(result.outputs[name]).exists()
    checkpoint = load_checkpoint(result.path)
    assert checkpoint.voxel_size == (4, 4)
    predicted = predict(image_of(cells((30, 30))), checkpoint)
    assert predicted["affinities"].shape == (2, 30, 30)
    assert predicted["lsds"].shape == (6, 30, 30)


def test_without_a_terminal_the_loss_is_told_in_lines(container, monkeypatch, capsys):
    monkeypatch.setattr(import_module("lsd_dask.workflows.steps.train"), "TELL_EVERY", 0.0)
    workflows.train(options(container))
    told = re.findall(r"^  (\d) of 6 steps, loss \d\.\d{4}$", capsys.readouterr().err, re.MULTILINE)
    assert told == [*"123456"]


def test_goes_on_where_it_was_interrupted(container, tmp_path):
    whole = workflows.train(options(container, decay="none", out_dir=str(tmp_path / "whole")))
    workflows.train(options(container, decay="none", iterations=4))
    longer = workflows.train(options(container, decay="none"))
    for name, values in state_of(whole.path).items():
        np.testing.assert_array_equal(values, state_of(longer.path)[name])


def test_both_samplers(container):
    found = workflows.train(
        options(container, sampler="gunpowder", elastic_control_points=[10, 10], elastic_jitter=[1, 1])
    )
    assert found.facts["loss"]
    with pytest.raises(ValueError, match="or use the sampler 'gunpowder'"):
        workflows.train(
            options(container, sampler="plain", elastic_control_points=[10, 10], elastic_jitter=[1, 1])
        )


def test_autocontext(container, tmp_path):
    first = workflows.train(options(container, kind="lsd", out_dir=str(tmp_path / "lsd")))
    second = workflows.train(
        options(container, kind="acrlsd", lsd_checkpoint=first.path, out_dir=str(tmp_path / "auto"))
    )
    found = load_checkpoint(second.path)
    assert found.config.kind == "acrlsd"
    for name, values in state_of(first.path).items():
        np.testing.assert_array_equal(values, state_of(second.path)[f"first.{name}"])


def test_masks(container, tmp_path):
    mask = np.ones((3, 60, 60), np.uint8)
    mask[:, :, :10] = 0
    save_volume(mask, container / "mask", voxel_size=(40, 4, 4))
    one = volume(container, mask_file=str(container), mask_dataset="mask", probability=2)
    other = volume(container, "held_out", labelled_ids=list(range(1, 20)), ignored_ids=[2, 3])
    found = workflows.train(options(container, volumes=[one, other], minimum_labelled=0.2))
    assert Path(found.path).exists()


def test_axes_of_other_voxels_stay_in_their_place(tmp_path, monkeypatch):
    """Presets transpose all axes; of sections thicker than wide, two of them, unless told otherwise."""
    container = tmp_path / "thick.zarr"
    labels = cells((24, 40, 40))
    save_volume(image_of(labels), container / "volumes/raw", voxel_size=(40, 8, 8))
    save_volume(labels, container / "volumes/labels/neuron_ids", voxel_size=(40, 8, 8))
    network = tmp_path / "network"
    small = ["--output-shape", "8", "12", "12", "--num-fmaps", "2", "--iterations", "1", "--device", "cpu"]
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--volumes", "thick.zarr", "--out-dir", str(network), *small]) == 0
    assert load_checkpoint(str(network / "last.pt")).voxel_size == (40, 8, 8)
    with pytest.raises(ValueError, match="transpose: found the axes"):
        workflows.train(volumes=[container], out_dir=network, output_shape=(8, 12, 12), transpose=(0, 1, 2))


def test_command_line(container, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.json").write_text(json.dumps(options(container)))
    assert main(["train", "train.json", "--iterations", "2"]) == 0
    assert load_checkpoint(str(tmp_path / "network/last.pt")).iteration == 2


class TestErrors:
    """All come before anything is written."""

    @pytest.fixture(autouse=True)
    def nothing_is_written(self, tmp_path):
        yield
        assert not (tmp_path / "network").exists()

    def test_missing_array(self, container):
        with pytest.raises(FileNotFoundError, match="train/labels"):
            workflows.train(options(container, volumes=[volume(container, labels_dataset="labels")]))

    def test_labels_that_are_not_integers(self, container):
        save_volume(np.zeros((3, 60, 60), np.float32), container / "float", voxel_size=(40, 4, 4))
        with pytest.raises(
            TypeError, match=r"cells\.zarr/float: labels: found dtype float32, expected integers"
        ):
            workflows.train(options(container, volumes=[volume(container, labels_dataset="float")]))

    def test_voxel_sizes(self, container):
        save_volume(np.zeros((3, 60, 60), np.uint8), container / "other", voxel_size=(40, 8, 8))
        with pytest.raises(
            ValueError, match=r"raw: found voxels of \(40.0, 8.0, 8.0\) .*, expected those of the labels"
        ):
            workflows.train(options(container, volumes=[volume(container, raw_dataset="other")]))

    def test_volumes_of_other_voxels(self, container):
        for name in ("raw", "labels"):
            save_volume(np.zeros((3, 60, 60), np.uint8), container / "coarse" / name, voxel_size=(40, 8, 8))
        with pytest.raises(
            ValueError, match=r"coarse/labels: found voxels of \(8.0, 8.0\) nanometer, expected \(4.0, 4.0\)"
        ):
            workflows.train(options(container, volumes=[volume(container), volume(container, "coarse")]))

    def test_volume_smaller_than_a_sample(self, container):
        with pytest.raises(
            ValueError, match=r"labels: found \(60, 60\) voxels, expected at least \(100, 100\)"
        ):
            workflows.train(options(container, output_shape=None))

    def test_shape_the_network_does_not_give(self, container):
        with pytest.raises(ValueError, match=r"output shape: found \(22, 20\)"):
            workflows.train(options(container, output_shape=[22, 20]))

    def test_region_outside(self, container):
        with pytest.raises(
            ValueError, match=r"labels: roi_offset and roi_shape: .* reaches out of the volume"
        ):
            workflows.train(
                options(
                    container, volumes=[volume(container, roi_offset=[0, 0, 0], roi_shape=[40, 400, 400])]
                )
            )

    def test_autocontext_without_first_network(self, container):
        with pytest.raises(ConfigError, match="kind 'aclsd' goes with lsd_checkpoint, found none"):
            workflows.train(options(container, kind="aclsd"))

    def test_keys_of_a_volume(self, container):
        with pytest.raises(ConfigError, match=r"volumes\[0\]"):
            workflows.train(options(container, volumes=[volume(container, glia=[3])]))
        with pytest.raises(ConfigError, match="mask_file and mask_dataset go together"):
            workflows.train(options(container, volumes=[volume(container, mask_file="m.zarr")]))


def test_importing_the_package_does_not_import_torch():
    program = "import sys, lsd_dask, lsd_dask.workflows.config.steps; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)
