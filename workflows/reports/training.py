"""The part of a report about a training: its speed, losses and scores over steps, samples, checkpoints."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lsd_dask.evaluation import plots
from lsd_dask.storage import files
from lsd_dask.training.history import Curve, History, read_history
from lsd_dask.viewing.figures import as_png

from ..config.train import VolumeConfig
from .page import Page, duration, to_the_second
from .sections import draw_training_volume

#: Pictures of samples, and of volumes, that are shown.
_SNAPSHOTS, _VOLUMES = 3, 4

#: Scores of a validation that are shown beside its loss.
_SCORES = ("voi_split", "voi_merge", "voi_sum")

type _Lines = dict[str, tuple[np.ndarray, np.ndarray]]


def add_training(page: Page, directory: str) -> Mapping[str, Any]:
    """Add what is known of a training that is running, was interrupted, or is done.

    Parameters
    ----------
    page
        To write on.
    directory
        Folder of the training: path or URL.

    Returns
    -------
    mapping
        What `train` was told.

    Raises
    ------
    ValueError
        If one of the training's files is damaged.
    """
    history = read_history(directory)
    noted = history.description
    told: Mapping[str, Any] = noted["configuration"]
    page.heading("Training")
    page.table(*_summary(history))
    panels = _panels(history)
    if panels:
        page.picture(
            as_png(plots.draw_training(panels)), "Losses, scores and speed over the training's steps"
        )
    else:
        page.text("Nothing is logged: logs need TensorBoard, and a folder on this machine.")
    _add_validations(page, history)
    _add_snapshots(page, history)
    _add_volumes(page, "Volumes", told.get("volumes") or ())
    _add_volumes(page, "Volumes to validate on", told.get("validation_volumes") or ())
    page.heading("Checkpoints")
    page.table(
        ("file", "steps", "size"),
        [[one.name, f"{one.iteration:,}", f"{one.size / 1e6:.1f} MB"] for one in history.checkpoints],
    )
    page.data({**noted["network"], **{key: noted[key] for key in ("voxel_size", "units")}}, "network")
    page.data(noted["identity"], "what decided the result")
    page.data(noted["options"], "how it was trained")
    page.data({**noted["versions"], "by": noted["by"], "device": noted["device"]}, "versions")
    return told


def _summary(history: History) -> tuple[list[str], list[list[str]]]:
    """Columns and cells of the table that a training is summed up in."""
    noted, options = history.description, history.description["options"]
    asked = options["iterations"]
    steps = np.median(history.rate.values) if len(history.rate.values) else None
    loss = history.curves.get("loss/loss")
    cells = {
        "network": f"{noted['network']['kind']}, {noted['network']['dims']}-D",
        "parameters": f"{noted['parameters']:,}",
        "state": "done" if history.iteration >= asked else "running or interrupted",
        "steps": f"{history.iteration:,} of {asked:,}",
        "at work": duration(history.seconds) if history.seconds else "",
        "steps a second (median)": "" if steps is None else f"{steps:.3g}",
        "samples a second": "" if steps is None else f"{steps * options['batch_size']:.3g}",
        "last loss": "" if loss is None else f"{loss.values[-1]:.4g}",
        "best validation": "" if history.best is None else f"{history.best['score']:.4g}",
        "device": noted["device"],
        "started": to_the_second(noted["started"]),
    }
    return list(cells), [list(cells.values())]


def _panels(history: History) -> dict[str, _Lines]:
    """Curves by name, for each panel by its name."""
    losses = {
        name.removeprefix("loss/"): _line(curve)
        for name, curve in history.curves.items()
        if name.startswith("loss/")
    }
    if total := losses.pop("loss", None):
        # The loss of a single prediction is the same as the sum.
        losses = {"sum": total, **(losses if len(losses) > 1 else {})}
    if validated := _validated(history, ("loss",)):
        losses["validation"] = validated["loss"]
    rates = {"learning rate": history.curves.get("training/learning_rate"), "steps a second": history.rate}
    panels = {
        "loss": losses,
        "VOI of validation (bits)": _validated(history, _SCORES),
        "threshold of the best VOI": _validated(history, ("threshold",)),
        **{name: {"": _line(curve)} for name, curve in rates.items() if curve and len(curve.steps)},
    }
    return {name: lines for name, lines in panels.items() if lines}


def _line(curve: Curve) -> tuple[np.ndarray, np.ndarray]:
    return curve.steps, curve.values


def _validated(history: History, names: Sequence[str]) -> _Lines:
    """What validations found, over their steps."""
    steps = np.array([found["iteration"] for found in history.validations])
    return {
        name.removeprefix("voi_"): (steps, np.array([found[name] for found in history.validations]))
        for name in names
        if history.validations and name in history.validations[0]
    }


def _add_validations(page: Page, history: History) -> None:
    if not history.validations:
        return
    page.heading("Validations")
    names = [name for name in history.validations[0] if name not in ("iteration", "score")]
    page.table(
        ("steps", *(name.replace("_", " ") for name in names), ""),
        [
            [
                f"{found['iteration']:,}",
                *(f"{found[name]:.4g}" for name in names),
                "best" if found is history.best else "",
            ]
            for found in history.validations
        ],
    )


def _add_snapshots(page: Page, history: History) -> None:
    steps = list(history.snapshots)
    if not steps:
        return
    page.heading("Samples")
    # The predictions of a network have the order of its targets.
    page.text(
        "From left to right: raw data, and of each prediction (affinities, descriptors) the first three "
        "channels in red, green and blue; above what is wanted, below what the network says."
    )
    chosen = sorted({steps[i] for i in np.linspace(len(steps) - 1, 0, _SNAPSHOTS).astype(int)})
    page.row({f"A sample of step {step:,}": files.read_bytes(history.snapshots[step]) for step in chosen})


def _add_volumes(page: Page, title: str, volumes: Sequence[Mapping[str, Any]]) -> None:
    if not volumes:
        return
    page.heading(title)
    checked = [VolumeConfig.model_validate(volume) for volume in volumes]
    page.table(("raw data", "labels", "region", "mask", "probability"), [_told_of(one) for one in checked])
    for one in checked[:_VOLUMES]:
        picture, problems = draw_training_volume(one.raw_path, one.labels_path, one.roi_offset, one.roi_shape)
        page.picture(picture, f"A section of {one.labels_path}")
        for problem in problems:
            page.text(f"Not drawn: {problem}")


def _told_of(volume: VolumeConfig) -> list[str]:
    region = "all"
    if volume.roi_offset is not None:
        region = f"offset {_numbers(volume.roi_offset)}, shape {_numbers(volume.roi_shape or ())}"
    return [volume.raw_path, volume.labels_path, region, volume.mask_path or "", f"{volume.probability:g}"]


def _numbers(values: Sequence[float | str]) -> str:
    return " ".join(value if isinstance(value, str) else f"{value:g}" for value in values)
