"""Training samples without gunpowder: for images of any kind, and for speed on a CPU."""

from collections.abc import Sequence

import numpy as np

from ..networks.normalisation import normalise
from ..networks.pytorch import torch
from .augmentation import vary_intensity
from .labelled_volumes import Labels, TrainingVolume
from .samples import Sample, SampleSpec, targets_of

#: How often a place with enough labels is looked for.
ATTEMPTS = 1000


class VolumeDataset(torch.utils.data.Dataset[Sample]):
    """Random crops of volumes, mirrored and transposed, with their intensities varied.

    Sample `i` depends on the seed and on `i`, and on nothing else.

    Parameters
    ----------
    volumes : sequence of TrainingVolume
        As `prepare_volumes` gives them.
    spec : SampleSpec
        What samples are made of.
    seed : int, optional
        Of all that is drawn at random.
    length : int, optional
        Number of samples.

    Raises
    ------
    ValueError
        If the augmentation needs gunpowder, see `GunpowderSampler`, or does not fit the volumes.
    """

    def __init__(
        self, volumes: Sequence[TrainingVolume], spec: SampleSpec, *, seed: int = 0, length: int = 2**31
    ) -> None:
        if spec.augmentation.needs_gunpowder:
            raise ValueError(
                "augmentation: found elastic deformation or defects of sections, expected what can be done "
                "without gunpowder: mirror, transpose, intensity_scale, intensity_shift, section_wise, "
                "grow_boundary; or use the sampler 'gunpowder'"
            )
        check_spec(volumes, spec)
        self.volumes, self.spec, self.seed, self.length = list(volumes), spec, seed, length
        chances = np.array([volume.probability for volume in volumes])
        self._chances = chances / chances.sum()

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        """Draw a sample.

        Raises
        ------
        RuntimeError
            If no place with enough labels was found.
        """
        for attempt in range(ATTEMPTS):
            rng = np.random.default_rng((self.seed, index, attempt))
            sample = self._draw(rng)
            if sample is not None:
                return sample
        raise too_few_labels(self.spec)

    def _draw(self, rng: np.random.Generator) -> Sample | None:
        """A sample from a random place; None if too little is labelled there."""
        spec, config = self.spec, self.spec.augmentation
        volume = self.volumes[rng.choice(len(self.volumes), p=self._chances)]
        order, mirrored = _orientation(rng, spec)
        # Of samples that are transposed, shape and margins are equal along the axes that change places.
        begin = [
            int(rng.integers(0, n - m + 1)) for n, m in zip(volume.shape, spec.output_shape, strict=True)
        ]
        labels = volume.read_labels(
            [b - m for b, m in zip(begin, spec.margin, strict=True)],
            [b + n + m for b, n, m in zip(begin, spec.output_shape, spec.margin, strict=True)],
        )
        inside = tuple(slice(m, m + n) for m, n in zip(spec.margin, spec.output_shape, strict=True))
        if (labels.known * labels.labelled)[inside].mean() < spec.minimum_labelled:
            return None
        start = [b - c for b, c in zip(begin, spec.before, strict=True)]
        raw = volume.read_raw(start, [s + n for s, n in zip(start, spec.input_shape, strict=True)])
        raw = np.stack([_oriented(channel, order, mirrored) for channel in raw])
        raw = vary_intensity(raw, config, rng)
        parts = (labels.objects, labels.known, labels.labelled, labels.ignored)
        turned = Labels(*(np.ascontiguousarray(_oriented(part, order, mirrored)) for part in parts))
        return Sample(normalise(raw, spec.raw_range), *targets_of(turned, spec))


def check_spec(volumes: Sequence[TrainingVolume], spec: SampleSpec) -> None:
    """Raise ValueError if an augmentation does not fit the axes and voxels of volumes."""
    for volume in volumes:
        spec.augmentation.check_axes(spec.model.dims, volume.voxel_size, spec.input_shape)
    moved = spec.augmentation.transpose
    for name, numbers in (
        ("output_shape", spec.output_shape),
        ("margin of the labels", spec.margin),
        ("field of view", spec.before),
    ):
        if len({numbers[axis] for axis in moved}) > 1:
            raise ValueError(
                f"transpose: found the axes {moved} with a {name} of {numbers}, expected equal numbers"
            )


def too_few_labels(spec: SampleSpec) -> RuntimeError:
    """The error for volumes with too few labels."""
    return RuntimeError(
        f"found no place with {spec.minimum_labelled:.0%} of its voxels labelled in {ATTEMPTS} attempts; "
        "choose a smaller minimum_labelled, or other labelled_ids"
    )


def _orientation(rng: np.random.Generator, spec: SampleSpec) -> tuple[list[int], tuple[int, ...]]:
    """Order of the axes, and those to mirror."""
    order = list(range(spec.model.dims))
    moved = list(spec.augmentation.transpose)
    for axis, other in zip(moved, rng.permutation(moved), strict=True):
        order[axis] = int(other)
    return order, tuple(axis for axis in spec.augmentation.mirror if rng.random() < 0.5)


def _oriented(array: np.ndarray, order: list[int], mirrored: tuple[int, ...]) -> np.ndarray:
    return np.flip(array.transpose(order), mirrored)
