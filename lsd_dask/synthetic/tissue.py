"""Endless synthetic tissue: the labels and the image of any region of it.

`lsd_dask.kernels.synthetic.curves` and `lsd_dask.kernels.synthetic.neuropil` describe its geometry.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ..kernels.synthetic import neuropil as kernels
from ..kernels.synthetic.curves import COLUMNS, Curves, lay_curves
from .noise import key_of, smooth_noise, white_noise

#: World units, nanometres, per unit of length of the geometry.
UNIT = 8.0
#: Context, in voxels, that the image of a region needs.
IMAGE_DEPTH = 5


@dataclass(frozen=True)
class _Packing:
    """A lattice of curves: its period, whether they are tubes, and what keeps its random numbers apart."""

    period: float
    tubes: bool
    purpose: int


_DENDRITES = _Packing(192.0, True, 1)
_NEURITES = _Packing(42.0, False, 2)
#: Somata are on a lattice of so many cells of the lattice of dendrites.
_SOMA_CELLS = 6
#: How space is bent: spacing and standard deviation of smooth displacements.
_BENDS = ((96.0, 24.0), (28.0, 4.0))


@dataclass(frozen=True)
class Tissue:
    """Endless neuropil on a grid of voxels.

    Attributes
    ----------
    seed : int
        Of all randomness.
    voxel_size : tuple of float
        z, y, x, in nanometres.
    somata : bool
        Whether there are cell bodies.
    """

    seed: int
    voxel_size: tuple[float, ...]
    somata: bool

    def labels(self, origin: Sequence[int], shape: Sequence[int]) -> np.ndarray:
        """Ids of the neurites in a region.

        Parameters
        ----------
        origin : (3,) sequence of int
            Index of the first voxel.
        shape : (3,) sequence of int

        Returns
        -------
        (z, y, x) ndarray of uint64
        """
        haloed = tuple(n + 2 for n in shape)
        places = self._places([o - 1 for o in origin], haloed)
        labels = np.zeros(places.shape[1], np.uint64)
        for ball, soma in self._somata_near(places) if self.somata else ():
            kernels.enter_soma(ball, soma, places, labels)
        kernels.enter_tubes(*self._curves_near(places, _DENDRITES), places, labels)
        kernels.join_nearest(*self._curves_near(places, _NEURITES), places, labels)
        out = np.empty(shape, np.uint64)
        kernels.despeckle(labels.reshape(haloed), out)
        return out

    def image(self, labels: np.ndarray, origin: Sequence[int]) -> np.ndarray:
        """An EM-like image: dark membranes, textured cytoplasm, mitochondria, noise.

        Parameters
        ----------
        labels : (z, y, x) ndarray of uint64
            Of the region and `IMAGE_DEPTH` voxels more on each side.
        origin : (3,) sequence of int
            Index of the region's first voxel.

        Returns
        -------
        (z, y, x) ndarray of uint8
            Of the region.
        """
        core = (slice(IMAGE_DEPTH, -IMAGE_DEPTH),) * 3
        shape = labels[core].shape
        axes = self._positions(origin, shape)
        membranes = _membranes(labels)
        membrane = ndimage.gaussian_filter(membranes, 0.8, radius=2)[core]
        texture = smooth_noise(self._key(201), axes, 2.5)
        body = smooth_noise(self._key(200), axes, 18.0) - np.float32(1.1)
        body = np.clip(np.float32(4) * body, 0, 1)
        body *= np.clip(1 - _count_near(membranes)[core] / np.float32(20), 0, 1)
        grey = 172 + _tones(labels[core]) + np.float32(8) * texture - np.float32(115) * membrane
        grey -= np.float32(62) * body * (1 + np.float32(0.2) * texture)
        grey += np.float32(9) * white_noise(self._key(202), origin, shape)
        return np.clip(grey, 0, 255).astype(np.uint8)

    def _positions(self, origin: Sequence[int], shape: Sequence[int]) -> list[np.ndarray]:
        """Positions of voxel centres along each axis, in units of the geometry."""
        return [
            (np.arange(o, o + n) + 0.5) * (v / UNIT)
            for o, n, v in zip(origin, shape, self.voxel_size, strict=True)
        ]

    def _places(self, origin: Sequence[int], shape: Sequence[int]) -> np.ndarray:
        """Where the voxel centres were before space was bent, (3, voxels)."""
        axes = self._positions(origin, shape)
        places = np.stack(np.meshgrid(*axes, indexing="ij"))
        for axis in range(3):
            for bend, (spacing, amplitude) in enumerate(_BENDS):
                shift = smooth_noise(self._key(10 + 3 * bend + axis), axes, spacing)
                places[axis] += np.float32(amplitude) * shift
        return places.reshape(3, -1)

    def _curves_near(self, places: np.ndarray, packing: _Packing) -> tuple[Curves, np.ndarray, np.ndarray]:
        """The curves near places, and the lists `starts` and `members` of those that matter in each part."""
        # Rounded as the kernels do, so that no place falls out of the box.
        scale = kernels.PARTS / packing.period
        first = np.floor(places.min(axis=1) * scale).astype(np.int64) // kernels.PARTS - 1
        shape = np.floor(places.max(axis=1) * scale).astype(np.int64) // kernels.PARTS - first + 3
        curves = self._lay_curves(packing, first, shape)
        parts = int(np.prod(kernels.PARTS * (shape - 3)))
        # Only as much of this memory is ever touched as there are members.
        starts, members = np.empty(parts + 1, np.int64), np.empty(36 * parts, np.int32)
        kernels.list_curves(curves, packing.tubes, starts, members)
        return curves, starts, members

    def _lay_curves(self, packing: _Packing, first: np.ndarray, shape: np.ndarray) -> Curves:
        rows = 3 * int(np.prod(shape))
        arrays = np.empty((rows, COLUMNS)), np.empty(rows, np.uint64), np.empty(rows, np.int64)
        curves = Curves(packing.period, first, shape, *arrays)
        lay_curves(self._key(packing.purpose), packing.tubes, curves)
        return curves

    def _somata_near(self, places: np.ndarray) -> Iterator[tuple[np.ndarray, np.uint64]]:
        """Ball (z, y, x, radius) and id of each soma that reaches some places.

        There is at most one in each cell of a lattice. It sits on the curve of a dendrite and has its id.
        """
        low, high = places.min(axis=1), places.max(axis=1)
        spacing = _SOMA_CELLS * _DENDRITES.period
        first = np.floor(low / spacing - 1).astype(np.int64)
        count = np.floor(high / spacing + 1).astype(np.int64) - first + 1
        for index in np.ndindex(*count):
            cell = first + index
            bits = np.random.SeedSequence([self.seed, 300, *(cell % 2**32).tolist()]).generate_state(3)
            shift = [int(bits[0] >> axis) & 1 for axis in range(3)]
            point = _SOMA_CELLS * cell + _SOMA_CELLS // 2 + shift
            curves = self._lay_curves(_DENDRITES, point, np.ones(3, np.int64))
            axis = int(bits[1]) % 3
            along, b, c, radius = curves.pieces[axis, [12, 0, 4, 8]]
            ball = np.append(np.roll([along, b, c], axis), 180 + 80 * (int(bits[2]) / 2**32))
            reach = kernels.SOMA_REACH * ball[3]
            in_reach = np.all(ball[:3] + reach > low) and np.all(ball[:3] - reach < high)
            # Not where the dendrite tapers off.
            if curves.labels[axis] != 0 and radius > 10 and in_reach:
                yield ball, curves.labels[axis]

    def _key(self, purpose: int) -> np.uint64:
        return key_of(self.seed, purpose)


def _membranes(labels: np.ndarray) -> np.ndarray:
    """1 on both sides of every boundary, else 0."""
    out = np.zeros(labels.shape, np.float32)
    for axis in range(3):
        after, before = (slice(None),) * axis + (slice(1, None),), (slice(None),) * axis + (slice(None, -1),)
        differ = labels[after] != labels[before]
        out[after][differ] = 1
        out[before][differ] = 1
    return out


def _count_near(membranes: np.ndarray) -> np.ndarray:
    """Number of membrane voxels in the cube around each voxel that `IMAGE_DEPTH` leaves room for."""
    # Not uniform_filter, whose running sums round differently wherever a block begins.
    for axis in range(3):
        membranes = ndimage.correlate1d(membranes, np.ones(2 * IMAGE_DEPTH - 1), axis, mode="nearest")
    return membranes


def _tones(labels: np.ndarray) -> np.ndarray:
    """A shade of grey for each neurite, from -8 to 8."""
    return (labels % np.uint64(251)).astype(np.float32) * np.float32(16 / 250) - np.float32(8)
