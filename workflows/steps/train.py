"""Train a network: from volumes with labels to a checkpoint that `predict` takes."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lsd_dask.checks.arguments import naming
from lsd_dask.kernels import affinities
from lsd_dask.kernels.descriptors import labels
from lsd_dask.space.lengths import convert, lengths_in
from lsd_dask.space.neighborhoods import direct_for
from lsd_dask.space.units import UNKNOWN, can_convert
from lsd_dask.storage import files
from lsd_dask.storage.locks import held
from lsd_dask.volumes.saving import grid_of, open_volume

from ..config.train import AugmentationOptions, TrainConfig, VolumeConfig
from ..running.first_run import say_if_compiled
from ..running.inputs import check_extent
from ..running.outputs import StepResult, console, report
from ..step import Step, workflow

if TYPE_CHECKING:
    from lsd_dask.networks.models import ModelConfig
    from lsd_dask.training.labelled_volumes import TrainingVolume
    from lsd_dask.training.loop import Sampler, TrainingOptions, TrainingResult
    from lsd_dask.training.presets import Preset
    from lsd_dask.training.samples import SampleSpec

#: Seconds between lines about a training whose progress no terminal shows.
TELL_EVERY = 60.0


@dataclass(frozen=True)
class TrainStepResult(StepResult):
    """What `train` did.

    Attributes
    ----------
    validations
        What each validation found, in order: ``iteration``, ``loss``, ``voi_split``, ``voi_merge``,
        ``voi_sum``, ``threshold``, ...
    """

    validations: Sequence[Mapping[str, float]] = ()

    @property
    def path(self) -> str:
        """Path of the best checkpoint."""
        return self.outputs["checkpoint"]


class Train(Step[TrainConfig]):
    """Train a network to predict affinities and local shape descriptors.

    Writes checkpoints into the folder `out_dir`: ``last.pt``, from which an interrupted training goes on, to
    the same parameters as without interruption; and ``best.pt``, the best one by validation. TensorBoard logs
    are in ``logs``, pictures in ``snapshots``. Needs the extra `train`.
    """

    model = TrainConfig
    container = "out_dir"

    def run(self, options: TrainConfig) -> TrainStepResult:
        """Open what is learnt from, build the network, and train it."""
        from lsd_dask.networks.models import build_model
        from lsd_dask.networks.pytorch import torch
        from lsd_dask.training.labelled_volumes import prepare_volumes
        from lsd_dask.training.loop import train as train_network
        from lsd_dask.training.validation import Validator

        started = time.perf_counter()
        preset, network = _network(options)
        volumes = [_open(volume) for volume in options.volumes]
        held_out = [_open(volume) for volume in options.validation_volumes or ()]
        voxel_size, units = _voxels_of(volumes[0], network)
        spec = _samples(options, preset, network, volumes[0])
        fitting: dict[str, Any] = {
            "dims": network.dims,
            "channels": network.in_channels,
            "voxel_size": voxel_size,
            "units": units,
        }
        _say_if_nothing_is_known(volumes[0], options, preset)
        volumes = prepare_volumes(volumes, **fitting, shape=spec.output_shape)
        validator = None
        if held_out:
            held_out = prepare_volumes(held_out, **fitting, shape=(1,) * network.dims)
            validator = Validator(
                held_out, spec, voxel_size, options.merge_function, minimum_size=options.minimum_size
            )
        sampler = _sampler(options, volumes, spec)
        if options.num_threads is not None:
            torch.set_num_threads(options.num_threads)
        torch.manual_seed(options.seed)
        model = build_model(network, lsd_checkpoint=options.lsd_checkpoint)
        optimisation = _options(options, preset)
        say_if_compiled(affinities, labels)
        files.check_writable(options.out_dir)
        with held(options.out_dir), _progress(optimisation.iterations) as show:
            result = train_network(
                model,
                sampler,
                options.out_dir,
                optimisation,
                voxel_size=voxel_size,
                units=units,
                identity=_identity(options, spec),
                configuration=options.model_dump(mode="json"),
                validate=validator,
                progress=show,
                resume=options.resume,
            )
        if result.resumed:
            console.print(f"{options.step}: went on after {result.resumed} steps of an earlier run")
        done = TrainStepResult(
            options.step,
            _outputs(options, result),
            time.perf_counter() - started,
            facts=_facts(result),
            validations=result.validations,
        )
        report(done)
        return done


def _outputs(config: TrainConfig, result: "TrainingResult") -> dict[str, str]:
    folders = {name: files.join(config.out_dir, name) for name in ("logs", "snapshots")}
    outputs = {"checkpoint": result.best, **folders}
    if result.last != result.best:
        outputs["last checkpoint"] = result.last
    return {name: path for name, path in outputs.items() if files.exists(path)}


def _facts(result: "TrainingResult") -> dict[str, Any]:
    """What is told at the end, by name."""
    facts = {name: f"{value:.4f}" for name, value in result.loss.items() if name == "loss"}
    if result.validations:
        best = min(result.validations, key=lambda found: found["score"])
        named = {"loss": "validation loss", "voi_sum": "validation VOI"}
        facts |= {name: f"{best[key]:.3f}" for key, name in named.items() if key in best}
    return facts


def _network(config: TrainConfig) -> "tuple[Preset, ModelConfig]":
    from lsd_dask.networks.models import ModelConfig, with_first
    from lsd_dask.training.presets import PRESETS

    preset = PRESETS[config.preset]
    kind = config.kind
    single = preset.model("affinities" if config.lsd_checkpoint else kind, neighborhood=config.neighborhood)
    changes = {key: getattr(config, key) for key in ("num_fmaps", "fmap_inc_factor")}
    network = ModelConfig.model_validate(
        single.model_dump() | {key: value for key, value in changes.items() if value is not None}
    )
    if kind in ("aclsd", "acrlsd") and config.lsd_checkpoint is not None:
        network = with_first(kind, network, config.lsd_checkpoint)
    if "affinities" in network.predictions and network.neighborhood is not None:
        # Or else nothing could be segmented, neither in validation nor later.
        direct_for(network.neighborhood, (2,) * network.dims)
    return preset, network


def _open(config: VolumeConfig) -> "TrainingVolume":
    from lsd_dask.training.labelled_volumes import TrainingVolume

    labels = open_volume(config.labels_path)
    if config.roi_offset is not None and config.roi_shape is not None:
        with naming(f"{config.labels_path}: roi_offset and roi_shape"):
            labels = labels[grid_of(labels).region(config.roi_offset, config.roi_shape)]
    return TrainingVolume(
        open_volume(config.raw_path),
        labels,
        mask=None if config.mask_path is None else open_volume(config.mask_path),
        labelled_ids=config.labelled_ids,
        ignored_ids=config.ignored_ids or (),
        unlabelled_background=config.unlabelled_background,
        probability=config.probability,
        name=f"{config.raw_path} with {config.labels_path}",
    )


def _say_if_nothing_is_known(volume: "TrainingVolume", config: TrainConfig, preset: "Preset") -> None:
    """Images do not tell how large their voxels are, but the extent of descriptors is in nanometers."""
    if config.lsd_sigma is None and volume.grid.units == UNKNOWN:
        console.print(
            f"{config.step}: {volume.name} have no voxel size; the lsd_sigma of {config.preset}, "
            f"{preset.lsd_sigma:g}, is then as many voxels. Give them a voxel size (lsd-dask convert "
            "--voxel-size), or say lsd_sigma."
        )


def _voxels_of(volume: "TrainingVolume", network: "ModelConfig") -> tuple[tuple[float, ...], str]:
    """Voxel size that a network is trained for, and its unit: nanometers where the volume's is known."""
    grid = volume.grid.last(network.dims)
    if can_convert(grid.units, "nanometer"):
        grid = grid.told_in("nanometer")
    return grid.voxel_size, grid.units


def _lsd_sigma(
    config: TrainConfig, preset: "Preset", network: "ModelConfig", volume: "TrainingVolume"
) -> tuple[float, ...]:
    """Extent of the descriptors, in voxels."""
    told = config.lsd_sigma or preset.lsd_sigma
    each = told if isinstance(told, tuple) else (told,) * network.dims
    if len(each) != network.dims:
        raise ValueError(f"lsd_sigma: found {len(each)} numbers, expected {network.dims}")
    voxel_size, units = _voxels_of(volume, network)
    # Presets are in nanometers; a user's plain numbers in the units of the volume.
    own = volume.grid.units if config.lsd_sigma else units
    extent = convert(lengths_in(own, "lsd_sigma", each), own, units)
    voxels = tuple((extent / voxel_size).tolist())
    check_extent("lsd_sigma", each, voxels, own)
    return voxels


def _samples(
    config: TrainConfig, preset: "Preset", network: "ModelConfig", volume: "TrainingVolume"
) -> "SampleSpec":
    from lsd_dask.training.augmentation import AugmentationConfig
    from lsd_dask.training.samples import SampleSpec

    keys = [key for key in AugmentationOptions.own_keys() if key in AugmentationConfig.model_fields]
    told = {key: value for key in keys if (value := getattr(config, key)) is not None}
    if "transpose" not in told:
        # The presets are for any volume, and name all axes that may change places.
        axes = preset.augmentation.transpose
        voxel_size = volume.voxel_size[-network.dims :]
        told["transpose"] = tuple(axis for axis in axes if voxel_size[axis] == voxel_size[-1])
    return SampleSpec(
        network,
        config.output_shape or preset.output_shape,
        _lsd_sigma(config, preset, network, volume),
        config.lsd_downsample or preset.lsd_downsample,
        AugmentationConfig.model_validate(preset.augmentation.model_dump() | told),
        minimum_labelled=config.minimum_labelled,
        balance=config.balance,
        border=preset.border,
    )


def _sampler(config: TrainConfig, volumes: "list[TrainingVolume]", spec: "SampleSpec") -> "Sampler":
    chosen = config.sampler or ("gunpowder" if spec.augmentation.needs_gunpowder else "plain")
    if chosen == "gunpowder":
        from lsd_dask.training.gunpowder_samples import GunpowderSampler

        return GunpowderSampler(volumes, spec, seed=config.seed)
    from lsd_dask.training.crops import VolumeDataset

    return VolumeDataset(volumes, spec, seed=config.seed)


def _options(config: TrainConfig, preset: "Preset") -> "TrainingOptions":
    from lsd_dask.training.loop import TrainingOptions

    return TrainingOptions(
        config.iterations or preset.iterations,
        batch_size=config.batch_size or preset.batch_size,
        learning_rate=config.learning_rate or preset.learning_rate,
        betas=preset.betas,
        decay=config.decay or preset.decay,
        warmup=preset.warmup,
        loss_factors={"lsds": config.lsd_weight},
        seed=config.seed,
        log_every=config.log_every,
        snapshot_every=config.snapshot_every,
        checkpoint_every=config.checkpoint_every,
        validate_every=config.validate_every,
        keep_checkpoints=config.keep_checkpoints,
        device=config.device,
        mixed_precision=config.mixed_precision,
        compiled=config.compiled,
        num_workers=config.num_workers,
    )


def _identity(config: TrainConfig, spec: "SampleSpec") -> dict[str, Any]:
    """What decides the result beside the network and the optimisation."""
    return {
        "volumes": [volume.model_dump() for volume in config.volumes],
        "output_shape": spec.output_shape,
        "lsd_sigma": spec.lsd_sigma,
        "lsd_downsample": spec.lsd_downsample,
        "augmentation": spec.augmentation.model_dump(),
        "minimum_labelled": spec.minimum_labelled,
        "balance": spec.balance,
        "sampler": config.sampler,
    }


class _progress:  # noqa: N801 - used as a function
    """A progress bar with the loss; where there is no terminal, a line now and then."""

    def __init__(self, iterations: int) -> None:
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("steps"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._row = self._bar.add_task("train", total=iterations)
        self._iterations, self._told = iterations, time.monotonic()

    def __enter__(self) -> "_progress":
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def __call__(self, iteration: int, losses: Mapping[str, float]) -> None:
        if console.is_terminal:
            self._bar.update(self._row, completed=iteration, description=f"train (loss {losses['loss']:.4f})")
        elif time.monotonic() - self._told > TELL_EVERY:
            console.print(f"  {iteration} of {self._iterations} steps, loss {losses['loss']:.4f}")
            self._told = time.monotonic()


train = workflow(Train())
