"""What a training left on disk, read again: what it was told, losses over steps, checkpoints, pictures."""

import importlib.util
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..networks import weights
from ..storage import files
from ..storage.stores import is_remote
from .loop import BEST, LAST
from .recording import DESCRIPTION, LOGS, SNAPSHOTS

#: The logged value that every step has, and by whose entries steps are timed.
_TIMED = "loss/loss"


@dataclass(frozen=True)
class Curve:
    """Values over steps.

    Attributes
    ----------
    steps, values
        (n,) ndarrays of float: numbers of steps, ascending, and the value at each.
    """

    steps: np.ndarray
    values: np.ndarray


@dataclass(frozen=True)
class SavedCheckpoint:
    """A checkpoint in the folder of a training.

    Attributes
    ----------
    name
        Of the file.
    iteration
        Number of steps it was trained for.
    size
        In bytes.
    """

    name: str
    iteration: int
    size: int


@dataclass(frozen=True)
class History:
    """What is known of a training, running, interrupted or done.

    Attributes
    ----------
    description
        What was noted when it began: "configuration", "network", "options", "identity", "versions", ...
    iteration
        Number of steps that are done, as far as is known.
    curves
        What was logged, by name as in TensorBoard: "loss/loss", "training/learning_rate", ...
    rate
        Steps a second, over the steps.
    seconds
        In which it was at work: without the pauses between runs. 0 where there are no logs.
    validations
        What each validation found up to the last checkpoint, in order.
    best
        The one with the lowest "score", the first of several; None where there is none.
    checkpoints
        The last one first.
    snapshots
        Paths of the pictures by step.
    """

    description: Mapping[str, Any]
    iteration: int
    curves: Mapping[str, Curve]
    rate: Curve
    seconds: float
    validations: tuple[Mapping[str, float], ...]
    best: Mapping[str, float] | None
    checkpoints: tuple[SavedCheckpoint, ...]
    snapshots: Mapping[int, str]


def read_history(directory: str) -> History:
    """Read what a training left in its folder.

    Parameters
    ----------
    directory : str
        Path or URL of the folder.

    Returns
    -------
    History
        Without curves, rate and seconds where TensorBoard is not installed, or there are no logs.

    Raises
    ------
    FileNotFoundError
        If no training began there.
    ValueError
        If one of the files is damaged.
    """
    description = files.read_json(files.join(directory, DESCRIPTION))
    there = set(files.names(directory))
    last = weights.read(files.join(directory, LAST)) if LAST in there else {}
    validations = tuple(last.get("training_state", {}).get("validations", ()))
    curves, rate, seconds = _read_logs(files.join(directory, LOGS))
    iteration = int(last.get("iteration", 0))
    best = min(validations, key=lambda found: found["score"], default=None)
    saved = {LAST: iteration} if last else {}
    saved |= {BEST: int(best["iteration"])} if best is not None and BEST in there else {}
    saved |= _numbered(there, "pt")
    return History(
        description,
        max([iteration, *(int(curve.steps[-1]) for curve in curves.values())]),
        curves,
        rate,
        seconds,
        validations,
        best,
        tuple(
            SavedCheckpoint(name, steps, files.size_of(files.join(directory, name)))
            for name, steps in saved.items()
        ),
        _snapshots(directory),
    )


def _snapshots(directory: str) -> dict[int, str]:
    folder = files.join(directory, SNAPSHOTS)
    numbered = _numbered(set(files.names(folder)), "png")
    return {iteration: files.join(folder, name) for name, iteration in numbered.items()}


def _numbered(names: set[str], ending: str) -> dict[str, int]:
    """Numbers of steps in names of files, ascending."""
    matches = [re.fullmatch(rf"iteration_(\d+)\.{ending}", name) for name in sorted(names)]
    return {match[0]: int(match[1]) for match in matches if match}


@dataclass(frozen=True)
class _Log:
    """What one run of a training logged: when it began, after which step, and (step, time, name, value)."""

    started: float
    first: int
    entries: list[tuple[int, float, str, float]]


def _read_logs(directory: str) -> tuple[dict[str, Curve], Curve, float]:
    """Curves, steps a second, and seconds at work."""
    curves: dict[str, dict[int, float]] = {}
    rates: dict[int, float] = {}
    seconds = 0.0
    for log in sorted(_logs(directory), key=lambda log: log.started):
        # What an interrupted run did after its last checkpoint was done again.
        curves = {name: _up_to(log.first, values) for name, values in curves.items()}
        rates = _up_to(log.first, rates)
        reached, moment = log.first, log.started
        for step, time, name, value in log.entries:
            curves.setdefault(name, {})[step] = value
            if name == _TIMED and time > moment:
                rates[step] = (step - reached) / (time - moment)
                seconds += time - moment
                reached, moment = step, time
    return {name: _curve(values) for name, values in curves.items() if values}, _curve(rates), seconds


def _logs(directory: str) -> Iterator[_Log]:
    """Logs of all runs; none where TensorBoard is not installed, or the folder is not on this machine."""
    if is_remote(directory) or importlib.util.find_spec("tensorboard") is None:
        return
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

    for name in files.names(directory):
        if not name.startswith("events.out.tfevents"):
            continue
        started, first, entries = None, 0, []
        for event in LegacyEventFileLoader(files.join(directory, name)).Load():
            started = event.wall_time if started is None else started
            if event.HasField("session_log"):
                first = event.step - 1
            entries += [
                (event.step, event.wall_time, value.tag, value.simple_value) for value in event.summary.value
            ]
        if started is not None:
            yield _Log(started, first, entries)


def _up_to(last: int, values: Mapping[int, float]) -> dict[int, float]:
    return {step: value for step, value in values.items() if step <= last}


def _curve(values: Mapping[int, float]) -> Curve:
    return Curve(np.array(list(values), float), np.array(list(values.values()), float))
