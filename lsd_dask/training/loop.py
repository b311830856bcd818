"""The training loop: from samples to checkpoints, the same whenever it was interrupted and taken up again."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol

import numpy as np

from ..networks.checkpoints import load_checkpoint, save_checkpoint
from ..networks.models import Model
from ..networks.pytorch import torch
from ..networks.unet import crop
from ..storage import files
from .losses import losses
from .recording import Recorder
from .samples import Sample, SampleSpec

#: Names of the checkpoints in the folder of a training: the last one, and the best one by validation.
LAST, BEST = "last.pt", "best.pt"


class Sampler(Protocol):
    """Gives samples by number, each always the same."""

    spec: SampleSpec

    def __getitem__(self, index: int) -> Sample: ...


@dataclass(frozen=True)
class TrainingOptions:
    """How a network is trained.

    Attributes
    ----------
    iterations
        Number of steps.
    batch_size
        Samples a step.
    learning_rate, betas
        Of Adam.
    decay
        What becomes of the learning rate: "none" keeps it, "cosine" brings it to 0 in half a cosine.
    warmup
        Steps in which the learning rate rises to its value.
    loss_factors
        How much the loss of each prediction counts in the sum.
    seed
        Of samples; that of parameters is the caller's.
    log_every, snapshot_every, checkpoint_every, validate_every
        Steps between two lines in the log, two pictures, two checkpoints, and two validations; 0 for none but
        the last checkpoint.
    keep_checkpoints
        Whether to keep all checkpoints, rather than the last and the best one.
    device
        "cpu", "cuda", "cuda:1", ...; None for a GPU where there is one.
    mixed_precision
        Whether convolutions compute with 16 bits; None for where a GPU is.
    compiled
        Whether to compile the network; None for where a GPU is.
    num_workers
        Processes that make samples; 0 for this one.
    """

    iterations: int
    batch_size: int = 1
    learning_rate: float = 5e-5
    betas: tuple[float, float] = (0.95, 0.999)
    decay: Literal["none", "cosine"] = "none"
    warmup: int = 0
    loss_factors: Mapping[str, float] = field(default_factory=dict)
    seed: int = 0
    log_every: int = 10
    snapshot_every: int = 0
    checkpoint_every: int = 1000
    validate_every: int = 0
    keep_checkpoints: bool = False
    device: str | None = None
    mixed_precision: bool | None = None
    compiled: bool | None = None
    num_workers: int = 0

    def identity(self) -> dict[str, Any]:
        """What decides the result of a training, so that another one is not taken for it."""
        names = ["batch_size", "learning_rate", "betas", "decay", "warmup", "loss_factors", "seed"]
        # Without decay, a longer training begins as a shorter one.
        names += ["iterations"] if self.decay != "none" else []
        return {name: value for name, value in asdict(self).items() if name in names}

    def rate(self, iteration: int) -> float:
        """The learning rate of a step.

        Examples
        --------
        >>> options = TrainingOptions(100, learning_rate=1, decay="cosine", warmup=4)
        >>> [round(options.rate(i), 2) for i in (0, 3, 50, 99)]
        [0.25, 1.0, 0.5, 0.0]
        """
        rate = self.learning_rate * min(1.0, (iteration + 1) / max(1, self.warmup))
        if self.decay == "cosine":
            rate *= (1 + np.cos(np.pi * iteration / self.iterations)) / 2
        return float(rate)


@dataclass(frozen=True)
class TrainingResult:
    """What a training gave.

    Attributes
    ----------
    iteration
        Number of steps in all.
    resumed
        Number of those that an earlier run did.
    seconds
        Of this run.
    loss
        Mean over the last steps (`log_every`), by name.
    validations
        What each validation found, in order: "iteration" and its scores.
    last, best
        Paths of the checkpoints. Without validation, the best one is the last.
    """

    iteration: int
    resumed: int
    seconds: float
    loss: Mapping[str, float]
    validations: tuple[Mapping[str, float], ...]
    last: str
    best: str


def train(
    model: Model,
    sampler: Sampler,
    directory: str,
    options: TrainingOptions,
    *,
    voxel_size: tuple[float, ...],
    units: str = "nanometer",
    identity: Mapping[str, Any] | None = None,
    configuration: Mapping[str, Any] | None = None,
    validate: Callable[[Model], Mapping[str, float]] | None = None,
    progress: Callable[[int, Mapping[str, float]], None] | None = None,
    resume: bool = True,
) -> TrainingResult:
    """Train a network.

    After an interruption, the same call goes on from the last checkpoint, and ends with the same parameters
    as without: a sample depends on the seed and its number alone, and the checkpoint holds everything else.

    Parameters
    ----------
    model : Model
        The network; its parameters are changed.
    sampler : Sampler
        Gives samples: `VolumeDataset` or `GunpowderSampler`.
    directory : str
        Where checkpoints, logs and pictures are written to.
    options : TrainingOptions
        How to train.
    voxel_size : tuple of float
    units : str, optional
        Noted in the checkpoints.
    identity : mapping, optional
        What else decides the result: volumes, masks, augmentation.
    configuration : mapping, optional
        What the caller was told, as plain data: noted for reports.
    validate : callable, optional
        Scores the network on volumes it does not see. The checkpoint with the lowest "score" is kept as the
        best.
    progress : callable, optional
        Called after each step with its number and the losses.
    resume : bool, optional
        Go on with an earlier run in this directory. If false, begin anew.

    Returns
    -------
    TrainingResult

    Raises
    ------
    ValueError
        If there is an earlier run that was told something else.
    FloatingPointError
        If the loss is not finite any more; the last checkpoint is from before.

    References
    ----------
    .. [1] D. P. Kingma, J. Ba, "Adam: a method for stochastic optimization", ICLR 2015.
       https://arxiv.org/abs/1412.6980
    """
    started = time.perf_counter()
    files.check_writable(directory)
    told = _plain({**options.identity(), **(identity or {})})
    run = _Run(model, directory, options, voxel_size, units, told)
    run.raw_range = sampler.spec.raw_range
    first = run.load() if resume else 0
    if not first:
        files.remove(run.path(BEST))
    with Recorder(directory, first) as recorder:
        if first < options.iterations:
            recorder.describe(run.description(dict(configuration or {})))
        for iteration, batch in zip(
            range(first, options.iterations), _batches(sampler, options, first), strict=False
        ):
            values, predictions = run.step(iteration, batch)
            recorder.add_losses(iteration + 1, values, options.rate(iteration), every=options.log_every)
            if progress is not None:
                progress(iteration + 1, values)
            if _due(iteration + 1, options.snapshot_every):
                recorder.add_snapshot(iteration + 1, batch, predictions)
            last = iteration + 1 == options.iterations
            if validate is not None and (_due(iteration + 1, options.validate_every) or last):
                run.validated(iteration + 1, validate(model.eval()))
                recorder.add_scores(iteration + 1, run.validations[-1])
                model.train()
            if _due(iteration + 1, options.checkpoint_every) or last:
                run.save(iteration + 1)
    model.eval()
    best = run.path(BEST) if files.exists(run.path(BEST)) else run.path(LAST)
    return TrainingResult(
        max(first, options.iterations),
        first,
        time.perf_counter() - started,
        run.mean_losses(),
        tuple(run.validations),
        run.path(LAST),
        best,
    )


class _Run:
    """A network with its optimiser, and where both are kept."""

    def __init__(
        self,
        model: Model,
        directory: str,
        options: TrainingOptions,
        voxel_size: tuple[float, ...],
        units: str,
        identity: dict[str, Any],
    ) -> None:
        self.options, self.directory, self.identity = options, directory, identity
        self.voxel_size, self.units = voxel_size, units
        self.device = torch.device(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
        gpu = self.device.type == "cuda"
        self.layout = {2: torch.channels_last, 3: torch.channels_last_3d}[model.config.dims]
        self.model = model.to(self.device).to(memory_format=self.layout).train()
        compiled = gpu if options.compiled is None else options.compiled
        self.network: Callable[..., dict[str, torch.Tensor]] = torch.compile(model) if compiled else model
        self.mixed = gpu if options.mixed_precision is None else options.mixed_precision
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimiser = torch.optim.Adam(trained, lr=options.learning_rate, betas=options.betas)
        half = gpu and not torch.cuda.is_bf16_supported()
        self.type = torch.float16 if half else torch.bfloat16
        self.scaler = torch.amp.GradScaler("cuda", enabled=self.mixed and half)
        self.raw_range = (0.0, 1.0)
        self.validations: list[dict[str, float]] = []
        self._recent: list[dict[str, float]] = []

    def path(self, name: str) -> str:
        return files.join(self.directory, name)

    def description(self, configuration: dict[str, Any]) -> dict[str, Any]:
        """What the training is, for people."""
        return {
            "network": self.model.config.model_dump(),
            "parameters": sum(parameter.numel() for parameter in self.model.parameters()),
            "voxel_size": self.voxel_size,
            "units": self.units,
            "device": str(self.device),
            "options": asdict(self.options),
            "identity": self.identity,
            "configuration": configuration,
        }

    def step(
        self, iteration: int, batch: Mapping[str, Any]
    ) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
        """One step: losses and predictions."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.options.rate(iteration)
        raw = batch["raw"].to(self.device, memory_format=self.layout, non_blocking=True)
        targets, wanted = (
            {k: v.to(self.device) for k, v in batch[name].items()} for name in ("targets", "weights")
        )
        with self._autocast():
            predictions = self.network(raw)
        predictions = {
            name: crop(prediction.float(), targets[name].shape[2:])
            for name, prediction in predictions.items()
        }
        found = losses(predictions, targets, wanted, self.options.loss_factors)
        self.optimiser.zero_grad(set_to_none=True)
        self.scaler.scale(found["loss"]).backward()
        self.scaler.step(self.optimiser)
        self.scaler.update()
        values = {name: float(loss.detach()) for name, loss in found.items()}
        if not np.isfinite(values["loss"]):
            raise FloatingPointError(
                f"iteration {iteration + 1}: found a loss of {values['loss']}; the last checkpoint is from "
                "before. A smaller learning_rate may help."
            )
        self._recent = [*self._recent[1 - self.options.log_every :], values]
        return values, {name: prediction.detach() for name, prediction in predictions.items()}

    def mean_losses(self) -> dict[str, float]:
        """Means over the last steps of this run."""
        names = self._recent[0] if self._recent else ()
        return {name: float(np.mean([values[name] for values in self._recent])) for name in names}

    def validated(self, iteration: int, scores: Mapping[str, float]) -> None:
        """Note what a validation found, and keep the network if it is the best so far."""
        self.validations.append({"iteration": iteration, **scores})
        if scores["score"] <= min(found["score"] for found in self.validations):
            self._write(self.path(BEST), iteration, {"validations": self.validations})

    def save(self, iteration: int) -> None:
        """Write a checkpoint from which the training can go on."""
        state = {
            "identity": self.identity,
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
            "random": torch.get_rng_state(),
            "validations": self.validations,
        }
        if self.device.type == "cuda":
            state["random_gpu"] = torch.cuda.get_rng_state(self.device)
        self._write(self.path(LAST), iteration, state)
        if self.options.keep_checkpoints:
            self._write(self.path(f"iteration_{iteration:07d}.pt"), iteration, {})

    def load(self) -> int:
        """Go on from the last checkpoint; the number of steps that are done, 0 if there is none."""
        path = self.path(LAST)
        if not files.exists(path):
            return 0
        checkpoint = load_checkpoint(path)
        state = checkpoint.training_state
        self._check_same(path, state.get("identity", {}), checkpoint)
        self.model.load_state_dict(checkpoint.model.state_dict())
        self.optimiser.load_state_dict(state["optimiser"])
        self.scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(state["random"])
        if self.device.type == "cuda" and "random_gpu" in state:
            torch.cuda.set_rng_state(state["random_gpu"], self.device)
        self.validations = [dict(found) for found in state["validations"]]
        return checkpoint.iteration

    def _check_same(self, path: str, identity: Mapping[str, Any], checkpoint: Any) -> None:
        keys = sorted(identity.keys() | self.identity.keys())
        changed = [key for key in keys if identity.get(key) != self.identity.get(key)]
        changed += ["network"] if checkpoint.config != self.model.config else []
        if changed:
            raise ValueError(
                f"{path}: found a training that was told something else ({', '.join(changed)}); choose "
                "another folder, or resume=False to begin anew"
            )

    def _write(self, path: str, iteration: int, state: Mapping[str, Any]) -> None:
        save_checkpoint(
            path,
            self.model,
            voxel_size=self.voxel_size,
            units=self.units,
            iteration=iteration,
            raw_range=self.raw_range,
            training_state=state,
        )

    def _autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, self.type, enabled=self.mixed)


class _Numbered(torch.utils.data.Dataset[dict[str, Any]]):
    """Samples as dictionaries, which PyTorch knows to join to batches."""

    def __init__(self, sampler: Sampler) -> None:
        self.sampler = sampler

    def __getitem__(self, index: int) -> dict[str, Any]:
        sample = self.sampler[index]
        return {"raw": sample.raw, "targets": dict(sample.targets), "weights": dict(sample.weights)}


def _batches(sampler: Sampler, options: TrainingOptions, first: int) -> Iterator[dict[str, Any]]:
    numbers = range(first * options.batch_size, options.iterations * options.batch_size)
    return iter(
        torch.utils.data.DataLoader(
            _Numbered(sampler),
            batch_size=options.batch_size,
            sampler=numbers,
            num_workers=options.num_workers,
            generator=torch.Generator(),
            pin_memory=torch.cuda.is_available(),
        )
    )


def _due(iteration: int, every: int) -> bool:
    return every > 0 and iteration % every == 0


def _plain(value: Any) -> Any:
    """What a checkpoint can hold, and is equal after it was read again."""
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return value
