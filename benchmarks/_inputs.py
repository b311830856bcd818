"""Affinities with ground truth that quality is measured on."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lsd_dask.synthetic.generating import degrade_affinities, neuropil

#: Objects of `fib25_a.npz` with fewer voxels are dust of its annotation, and are not scored.
DUST = 200
#: Standard deviation of the white noise of "fib25, white noise", where 1 is the range of affinities.
WHITE_NOISE = 0.2


@dataclass(frozen=True)
class Input:
    """Affinities with ground truth.

    Attributes
    ----------
    name
        Kind of input.
    seed
        Of its noise; None where there is none.
    affinities
        uint8, (3, z, y, x).
    truth
        Object ids, (z, y, x); voxels with 0 are not scored.
    """

    name: str
    seed: int | None
    affinities: np.ndarray
    truth: np.ndarray


def find_data(directory: Path | None) -> Path | None:
    """Folder of the real volumes: as given, `LSD_DASK_DATA`, or `shared/data` beside the checkout.

    Raises
    ------
    FileNotFoundError
        If a folder was given and does not hold them.
    """
    given = directory or (Path(os.environ["LSD_DASK_DATA"]) if "LSD_DASK_DATA" in os.environ else None)
    found = given or Path(__file__).resolve().parents[2] / "shared" / "data"
    missing = [name for name in ("gala.npz", "fib25_a.npz") if not (found / name).is_file()]
    if not missing:
        return found
    if given is None:
        return None
    raise FileNotFoundError(f"{given}: found no {' and no '.join(missing)}")


def inputs(data: Path | None, seeds: int) -> Iterator[Input]:
    """All inputs, made one after the other, those with noise `seeds` times; without `data` the synthetic
    ones.
    """
    kinds: dict[str, Callable[[int], tuple[np.ndarray, np.ndarray]]] = {"synthetic": _synthetic}
    if data is not None:
        yield Input("gala", None, *_gala(data))
        neurons = np.load(data / "fib25_a.npz")["neuron_ids"]
        truth = without_dust(neurons)

        def degraded(seed: int, **options: Any) -> tuple[np.ndarray, np.ndarray]:
            return degrade_affinities(neurons, seed=seed, **options), truth

        def whitened(seed: int) -> tuple[np.ndarray, np.ndarray]:
            degraded = degrade_affinities(neurons, seed=seed, noise=0.1, leaks=0.003)
            return _with_white_noise(degraded, seed), truth

        kinds["fib25, leaks"] = lambda seed: degraded(seed, noise=0.2, leaks=0.01)
        kinds["fib25, noise"] = lambda seed: degraded(seed, noise=0.3, leaks=0.003)
        kinds["fib25, blur"] = lambda seed: degraded(seed, blur=1.5, noise=0.3, leaks=0.003)
        kinds["fib25, white noise"] = whitened
    for name, make in kinds.items():
        for seed in range(seeds):
            yield Input(name, seed, *make(seed))


def _gala(data: Path) -> tuple[np.ndarray, np.ndarray]:
    """Affinity of two voxels: 1 - the higher one of their boundary probabilities."""
    arrays = np.load(data / "gala.npz")
    boundary = arrays["boundary_probability"].astype(np.float32)
    affinities = np.empty((3, *boundary.shape), np.uint8)
    for axis in range(3):
        before = boundary.take([0, *range(boundary.shape[axis] - 1)], axis)
        affinities[axis] = np.round(255 * (1 - np.clip(np.maximum(boundary, before), 0, 1)))
    return affinities, arrays["neuron_ids"]


def _synthetic(seed: int) -> tuple[np.ndarray, np.ndarray]:
    volume = neuropil((128, 128, 128), seed=seed, leaks=0.01)
    return volume.affinities.to_numpy(), volume.labels.to_numpy()


def _with_white_noise(affinities: np.ndarray, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal(affinities.shape, np.float32)
    return np.clip(np.round(affinities + 255 * WHITE_NOISE * noise), 0, 255).astype(np.uint8)


def without_dust(labels: np.ndarray) -> np.ndarray:
    """Labels without the objects of fewer than `DUST` voxels."""
    ids, inverse, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    return np.where(sizes < DUST, 0, ids)[inverse].reshape(labels.shape)
