"""What a training leaves to be looked at: what it was told, losses and scores for TensorBoard, pictures."""

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import numpy as np

from ..blockwise.ledgers import provenance
from ..networks.pytorch import torch
from ..storage import files
from ..storage.stores import is_remote
from .snapshots import save_snapshot

#: In the folder of a training: what it was told, logs, and pictures.
DESCRIPTION, LOGS, SNAPSHOTS = "training.json", "logs", "snapshots"


class Recorder:
    """Writes TensorBoard logs into ``logs`` and pictures into ``snapshots`` of a folder.

    Where TensorBoard is not installed, or the folder is not on this machine, there are no logs.

    Parameters
    ----------
    directory : str
        The folder.
    first : int
        Number of steps an earlier run did; what it logged later is dropped.
    """

    def __init__(self, directory: str, first: int) -> None:
        self.directory = directory
        self._writer: Any = None
        self._sums: dict[str, list[float]] = {}
        if is_remote(directory):
            return
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return
        self._writer = SummaryWriter(files.join(directory, LOGS), purge_step=first + 1 if first else None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.close()

    def describe(self, told: Mapping[str, Any]) -> None:
        """Note what the training is, when it began, and with which packages."""
        noted = {**provenance("lsd-dask", "numpy", "torch"), **told}
        files.write_json(files.join(self.directory, DESCRIPTION), noted)

    def add_losses(self, iteration: int, losses: Mapping[str, float], rate: float, *, every: int) -> None:
        """Log the means of the last losses, each time so many steps are done."""
        for name, loss in losses.items():
            self._sums.setdefault(name, []).append(loss)
        if every > 0 and iteration % every == 0:
            self._write("loss", iteration, {name: float(np.mean(v)) for name, v in self._sums.items()})
            self._write("training", iteration, {"learning_rate": rate})
            self._sums.clear()

    def add_scores(self, iteration: int, scores: Mapping[str, float]) -> None:
        """Log what a validation found."""
        self._write("validation", iteration, {k: v for k, v in scores.items() if k != "iteration"})

    def add_snapshot(
        self, iteration: int, batch: Mapping[str, Any], predictions: Mapping[str, torch.Tensor]
    ) -> None:
        """Draw the first sample of a batch: raw data, targets and predictions."""
        save_snapshot(
            files.join(self.directory, SNAPSHOTS, f"iteration_{iteration:07d}.png"),
            batch["raw"][0].float().numpy(),
            {name: target[0].numpy() for name, target in batch["targets"].items()},
            {name: prediction[0].float().cpu().numpy() for name, prediction in predictions.items()},
        )

    def _write(self, group: str, iteration: int, values: Mapping[str, float]) -> None:
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(f"{group}/{name}", value, iteration)
