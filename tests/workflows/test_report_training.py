"""Reports of trainings: what they say is what the training left on disk."""

import io
import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread

torch = pytest.importorskip("torch")
from lsd_dask import workflows  # noqa: E402
from lsd_dask.cli import main  # noqa: E402
from lsd_dask.training.history import read_history  # noqa: E402
from lsd_dask.training.recording import Recorder  # noqa: E402

from ..helpers.training_data import named_volume as volume  # noqa: E402
from ..helpers.training_data import store_cells  # noqa: E402
from ..helpers.training_data import training_options as options  # noqa: E402
from .test_report import Checked  # noqa: E402


@pytest.fixture
def container(tmp_path: Path) -> Path:
    return store_cells(tmp_path / "cells.zarr")


def told(container: Path, **changes: Any) -> dict[str, Any]:
    """Options of a training of seconds with entries in its log at each step."""
    return options(container, log_every=1, decay="none", **changes)


def cells_of(page: Path, number: int = 0) -> dict[str, str]:
    """A table of one row, by its columns."""
    head, row = Checked(page).tables[number]
    return dict(zip(head, row, strict=True))


def test_a_training_leaves_its_report(container: Path, tmp_path: Path) -> None:
    page = tmp_path / "pages" / "train.html"
    held_out = volume(container, "held_out", roi_offset=[0, 0, 0], roi_shape=[80, 160, 160])
    result = workflows.train(
        told(
            container,
            volumes=[volume(container, probability=2)],
            validation_volumes=[held_out],
            out_dir=str(tmp_path / "a & <b>"),
            report=str(page),
        )
    )
    seen = Checked(page)
    summary = cells_of(page)
    assert summary["network"] == "mtlsd, 2-D"
    assert summary["state"] == "done"
    assert summary["steps"] == "6 of 6"
    assert (
        summary["last loss"]
        == f"{read_history(str(tmp_path / 'a & <b>')).curves['loss/loss'].values[-1]:.4g}"
    )
    per_second, of_samples = (
        float(summary[name]) for name in ("steps a second (median)", "samples a second")
    )
    assert of_samples == pytest.approx(2 * per_second, rel=0.02)
    assert seen.headings == [
        "Training",
        "Validations",
        "Samples",
        "Volumes",
        "Volumes to validate on",
        "Checkpoints",
        "Configuration",
    ]
    validations, volumes, validated_on, checkpoints = seen.tables[1:]
    best = [row for row in validations if row[-1] == "best"]
    assert [row[0] for row in validations[1:]] == ["3", "6"]
    assert [float(row[validations[0].index("voi sum")]) for row in best] == [
        pytest.approx(min(found["voi_sum"] for found in result.validations), rel=1e-3)
    ]
    assert volumes[1] == [f"{container}/train/raw", f"{container}/train/labels", "all", "", "2"]
    assert validated_on[1][2] == "offset 0 0 0, shape 80 160 160"
    assert [row[:2] for row in checkpoints[1:]] == [["last.pt", "6"], ["best.pt", best[0][0]]]
    # Curves, two samples, and a section of each volume.
    assert len(seen.pictures) == 5
    assert all(imread(io.BytesIO(picture)).std() > 0.05 for picture in seen.pictures)
    assert "lsd_sigma: 12" in seen.folded
    assert "raw_dataset: held_out/raw" in seen.folded

    assert main.main(["report", str(tmp_path / "a & <b>")]) == 0
    assert Checked(tmp_path / "a & <b>" / "report.html").tables == seen.tables


def test_runs_of_an_interrupted_training_are_one(
    container: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stop(self: Recorder, iteration: int, *_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Recorder, "add_snapshot", stop)
        workflows.train(told(container, checkpoint_every=2, keep_checkpoints=True))
    page = Path(workflows.report(str(tmp_path / "network")))
    summary = cells_of(page)
    assert (summary["state"], summary["steps"]) == ("running or interrupted", "3 of 6")
    assert ["iteration_0000002.pt", "2"] in [row[:2] for table in Checked(page).tables for row in table]
    before = read_history(str(tmp_path / "network"))

    workflows.train(told(container))
    history = read_history(str(tmp_path / "network"))
    assert history.iteration == 6
    assert list(history.snapshots) == [3, 6]
    # The same as a reader of TensorBoard's own takes them for.
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logged = EventAccumulator(str(tmp_path / "network" / "logs")).Reload()
    assert history.curves.keys() == set(logged.Tags()["scalars"])
    for name, curve in history.curves.items():
        assert curve.steps.tolist() == [1, 2, 3, 4, 5, 6]
        assert curve.values.tolist() == [entry.value for entry in logged.Scalars(name)]
    assert history.rate.steps.tolist() == [1, 2, 3, 4, 5, 6]
    # Time for what was done again counts; that between the runs does not.
    times = [entry.wall_time for entry in logged.Scalars("loss/loss")]
    pause = max(later - earlier for earlier, later in pairwise(times))
    assert before.seconds + times[-1] - times[2] <= history.seconds <= times[-1] - times[0] + before.seconds
    assert pause > 0
    assert cells_of(Path(workflows.report(str(tmp_path / "network"))))["state"] == "done"


def test_a_training_that_fails_leaves_its_report(container: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    with pytest.raises(FloatingPointError, match="found a loss of"):
        workflows.train(told(container, learning_rate=1e30, snapshot_every=0, report=str(page)))
    summary = cells_of(page)
    assert summary["state"] == "running or interrupted"
    assert int(summary["steps"].partition(" ")[0]) < 6
    assert "Samples" not in Checked(page).headings


def test_without_logs_there_is_what_else_is_known(container: Path, tmp_path: Path) -> None:
    network = tmp_path / "network"
    workflows.train(told(container, snapshot_every=0))
    for log in (network / "logs").iterdir():
        log.unlink()
    # The volumes may be elsewhere by now, and what was told may be of any kind.
    noted = json.loads((network / "training.json").read_text())
    noted["configuration"]["volumes"][0]["raw_dataset"] = "<moved>"
    (network / "training.json").write_text(json.dumps(noted))
    page = Path(workflows.report(str(network)))
    assert cells_of(page)["steps"] == "6 of 6"
    assert "Nothing is logged" in page.read_text()
    assert re.search("Not drawn: .* holds no array .*&lt;moved&gt;", page.read_text())
    assert Checked(page).pictures == []


def test_a_training_that_is_done_is_described_as_it_was(container: Path, tmp_path: Path) -> None:
    workflows.train(told(container))
    noted = (tmp_path / "network" / "training.json").read_text()
    workflows.train(told(container, iterations=4))
    assert (tmp_path / "network" / "training.json").read_text() == noted
    assert np.isfinite(read_history(str(tmp_path / "network")).curves["loss/loss"].values).all()
