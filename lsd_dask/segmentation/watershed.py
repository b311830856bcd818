"""Watershed of affinities by local rules: the fragments of one region of a volume.

Each voxel points up the steepest slope of a height that is itself local, and the trees of that forest are the
fragments. A fragment's id is the address of its root (`lsd_dask.ids`). So a region gets the same ids whether
it is computed alone or as part of the whole volume, provided that every chain of pointers that begins in the
region ends in what was read: where one does not, the region is read again with more around it.

`method="seeded"` is the seeded watershed of the reference system [1]_ instead, which depends on the context
it is given, and needs the extra `seeded`.

References
----------
.. [1] A. Sheridan et al., "Local shape descriptors for neuron segmentation", Nature Methods 20, 2023.
   https://github.com/funkelab/lsd
"""

import importlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy import ndimage

from ..kernels.segmentation import ascent, height
from ..space.grids import Region
from ..volumes.overlap import Reader, grow, within
from . import ids
from .quantisation import quantisation_of, quantise

type Method = Literal["steepest_ascent", "seeded"]
type Height = Literal["distance", "affinity", "both"]

#: Weight of (distance, affinity) in the height. Distances are in voxels, affinities in [0, 1]. Chosen by
#: measurement: see docs/quality.md.
HEIGHTS: dict[str, tuple[float, float]] = {"distance": (1, 0), "affinity": (0, 1), "both": (1, 10)}

#: Boundary distances, in voxels, are cut off here: what lies deeper inside is as high as this, and what lies
#: deeper outside is background.
CAP = 8.0

#: Context, in voxels, that is read at first for chains that leave a region.
FIRST_MARGIN = 32


@dataclass(frozen=True)
class Rules:
    """What decides the fragments of a volume.

    Attributes
    ----------
    method
        "steepest_ascent" or "seeded".
    height
        What "steepest_ascent" climbs: boundary "distance", "affinity", or the sum of "both".
    smoothing
        Standard deviation, in voxels, of the Gaussian that smooths the height.
    in_xy
        Whether each section is divided by itself, from its y and x affinities.
    min_seed_distance
        Of "seeded": size, in voxels, of the window in which a seed is the maximum.
    context
        Voxels, along each axis, to read around a region. For "seeded" they decide the result; for
        "steepest_ascent" they are only a first guess. None for the default.
    voxel_size
        Relative size of a voxel along each axis; ones for distances in voxels.
    replace_sections
        Sections (indices along z) without affinities.
    """

    method: Method = "steepest_ascent"
    height: Height = "both"
    smoothing: float = 0.85
    in_xy: bool = False
    min_seed_distance: int = 10
    context: tuple[int, ...] | None = None
    voxel_size: tuple[float, ...] = (1.0, 1.0, 1.0)
    replace_sections: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """Name of the tasks."""
        return "extract-fragments"

    @property
    def depth(self) -> tuple[int, ...]:
        """Context, in voxels, that is read around a region at first."""
        local = self.height_depth
        if self.method == "seeded":
            wanted = self.context or (32,) * len(local)
        else:
            margin = self.context or (FIRST_MARGIN,) * len(local)
            wanted = tuple(h + m for h, m in zip(local, margin, strict=True))
        return self.beside(wanted)

    @property
    def height_depth(self) -> tuple[int, ...]:
        """Context, in voxels, on which the slope at a voxel depends."""
        reach = [math.ceil(CAP / size) for size in self.voxel_size]
        return self.beside([r + self.smoothing_radius + 2 for r in reach])

    @property
    def smoothing_radius(self) -> int:
        """Reach of the smoothing, in voxels: that of a Gaussian truncated at three standard deviations."""
        return int(3 * self.smoothing + 0.5)

    def beside(self, depth: Sequence[int]) -> tuple[int, ...]:
        """A depth without that along z, if each section is divided by itself."""
        return tuple(0 if self.in_xy and axis < len(depth) - 2 else d for axis, d in enumerate(depth))

    def __call__(self, region: Region, affinities: Reader, mask: Reader | None = None) -> np.ndarray:
        """Fragments of a region; see `watershed_region`."""
        return watershed_region(region, affinities, mask, self)


def watershed_region(region: Region, affinities: Reader, mask: Reader | None, rules: Rules) -> np.ndarray:
    """Fragments of a region of a volume.

    Parameters
    ----------
    region
        The region, in voxels.
    affinities
        Reader of the affinities to the direct lower neighbours along z, y, x (or y, x), uint8 or floating
        point in [0, 1]; more channels are ignored.
    mask
        Reader of a mask of the same shape, or None.
    rules
        What decides the fragments.

    Returns
    -------
    fragments
        uint64, of the region's shape; 0 is background: outside the mask, in a replaced section, or farther
        than `CAP` voxels outside of any cell.

    Raises
    ------
    ValueError, TypeError
        For affinities of the wrong type, range or number of channels, a volume that is too large for ids, and
        a region that is too large to be divided at once.
    """
    ids.check_extent([n + o for n, o in zip(affinities.shape, affinities.origin, strict=True)])
    if rules.method == "seeded":
        return _seeded(region, affinities, mask, rules)
    return _steepest_ascent(region, affinities, mask, rules)


def _steepest_ascent(region: Region, affinities: Reader, mask: Reader | None, rules: Rules) -> np.ndarray:
    margin = tuple(d - h for d, h in zip(rules.depth, rules.height_depth, strict=True))
    while True:
        found = _ascend(region, margin, affinities, mask, rules)
        if found is not None:
            return found
        margin = rules.beside([max(2 * m, FIRST_MARGIN) for m in margin])


def _ascend(
    region: Region, margin: Sequence[int], affinities: Reader, mask: Reader | None, rules: Rules
) -> np.ndarray | None:
    """Fragments of a region from slopes that are known `margin` voxels around it; None if that is too little.

    Most of the memory that a block needs is needed here: 9 bytes for each voxel that is read (16 where
    affinities are floating point), hence nothing is kept that is not needed any more.
    """
    shape = affinities.shape
    known = grow(region, margin, shape)
    read = grow(known, rules.height_depth, shape)
    _check_size(read)
    keep = _kept(read, mask, rules)
    if not keep[within(region, read)].any():
        return np.zeros([s.stop - s.start for s in region], np.uint64)
    values, keep = _read(read, affinities, keep, rules)
    begin, end = _box(within(region, read))
    axes = np.arange(3 - len(values), 3)
    inner = _mean_affinity(values, axes)
    del values
    heights, keep = _heights(inner, keep, axes, rules)
    origin = _lift([s.start + o for s, o in zip(read, affinities.origin, strict=True)], 0)
    slopes = _slopes(rules)
    # Their memory is there already; more would have to be asked of the system.
    pointers = inner.reshape(-1).view(np.int32)
    pointers.fill(ascent.UNKNOWN)
    ascent.ascend(heights, begin, end, origin, slopes, pointers)
    if not ascent.follow(pointers, heights, begin, end, *_box(within(known, read)), origin, slopes):
        return None
    del heights
    found = np.zeros(end - begin, np.uint64)
    ascent.root_addresses(pointers, keep, begin, end, origin, len(region), found)
    return found.reshape([s.stop - s.start for s in region])


def _check_size(region: Region) -> None:
    """Pointers are 32-bit indices."""
    shape = tuple(s.stop - s.start for s in region)
    if math.prod(shape) > np.iinfo(np.int32).max:
        raise ValueError(
            f"{shape} voxels are too many to be divided at once, expected at most 2**31 - 1: "
            "pass a volume in smaller chunks."
        )


def _kept(region: Region, mask: Reader | None, rules: Rules) -> np.ndarray:
    """Where a region may have fragments: inside the mask, and in no section that is replaced."""
    if mask is None:
        keep = np.ones([s.stop - s.start for s in region], bool)
    else:
        keep = mask.read(region).astype(bool)
    for section in rules.replace_sections if len(region) == 3 else ():
        if region[0].start <= section < region[0].stop:
            keep[section - region[0].start] = False
    return keep


def _read(
    region: Region, affinities: Reader, keep: np.ndarray, rules: Rules
) -> tuple[np.ndarray, np.ndarray]:
    """Affinities of the axes that count as integers, 0 where masked; and what is kept; ``([c,] z, y, x)``."""
    values = affinities.read(region)
    ndim = len(region)
    if values.ndim != ndim + 1 or len(values) < ndim:
        raise ValueError(
            f"Affinities of shape {values.shape} were found, expected a channel axis of at least {ndim} "
            f"channels (direct neighbours along {'z, y, x' if ndim == 3 else 'y, x'}) before {ndim} spatial "
            "axes."
        )
    values = quantise(values[ndim - 2 : ndim] if rules.in_xy and ndim == 3 else values[:ndim])
    if not keep.all():
        values = values * keep
    three_d = (1,) * (3 - ndim) + keep.shape
    return values.reshape((-1, *three_d)), keep.reshape(three_d)


def _mean_affinity(values: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """Mean affinity of each voxel to both of its neighbours along some axes, from 0 to 1."""
    scale = np.float32(quantisation_of(np.uint8 if values.dtype == np.uint8 else np.float32).scale)
    divisor = np.float32(2 * len(values)) * scale
    return height.interior(values, axes, divisor, np.empty(values.shape[1:], np.float32))


def _heights(
    inner: np.ndarray, keep: np.ndarray, axes: np.ndarray, rules: Rules
) -> tuple[np.ndarray, np.ndarray]:
    """The height of each voxel, -inf outside of fragments and in a rim around all; and what is inside.

    Of the mean affinity of each voxel, and of what is to be kept at all; both arrays are overwritten.
    """
    sizes = _lift(list(rules.voxel_size), 0.0)
    if rules.in_xy:
        sizes[0] = 0
    squares = (sizes**2).astype(np.float32)
    # Between voxels of one size, squared distances below the cap are small whole numbers.
    kind = np.uint8 if np.isin(squares, (0, 1)).all() else np.float32
    inside = inner > 0.5
    squared = height.squared_distance(inside, squares, CAP**2, np.empty(inner.shape, kind))
    weights = np.array(HEIGHTS[rules.height], np.float32)
    height.add_distance(inner, inside, squared, weights, np.float32(CAP), keep)
    del inside, squared
    rimmed = np.empty([n + 2 for n in inner.shape], np.float32)
    return height.smooth(inner, _taps(rules), bool(axes[0] == 0), keep, rimmed), keep


def _taps(rules: Rules) -> np.ndarray:
    """Centre and one side of a normalised Gaussian."""
    if rules.smoothing == 0:
        return np.ones(1, np.float32)
    steps = np.arange(-rules.smoothing_radius, rules.smoothing_radius + 1)
    weights = np.exp(-0.5 * (steps / rules.smoothing) ** 2)
    return (weights / weights.sum())[rules.smoothing_radius :].astype(np.float32)


def _slopes(rules: Rules) -> np.ndarray:
    """One over the distance to each of 26 neighbours; 0 for other sections where each counts by itself."""
    steps = np.indices((3, 3, 3)) - 1
    sizes = _lift(list(rules.voxel_size), 1.0)
    distance = np.sqrt(((steps * sizes[:, None, None, None]) ** 2).sum(axis=0))
    distance[1, 1, 1] = np.inf
    if rules.in_xy:
        distance[[0, 2]] = np.inf
    return (1 / distance).astype(np.float32)


def _lift(values: list[float], fill: float) -> np.ndarray:
    """Values for z, y, x from values for the axes there are."""
    return np.array([fill] * (3 - len(values)) + values)


def _box(region: Region) -> tuple[np.ndarray, np.ndarray]:
    begin = _lift([s.start for s in region], 0)
    return begin, _lift([s.stop for s in region], 1)


def seeded_packages() -> tuple[Any, Any]:
    """The packages mahotas and edt, which only `method="seeded"` needs: they come with the extra `seeded`."""
    try:
        return importlib.import_module("mahotas"), importlib.import_module("edt")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "method=\"seeded\" needs mahotas and edt: pip install 'lsd-dask[seeded]'"
        ) from error


def _seeded(region: Region, affinities: Reader, mask: Reader | None, rules: Rules) -> np.ndarray:
    """Seeded watershed of a region with the context that `rules` give, cropped to the region."""
    mahotas, _ = seeded_packages()
    read = grow(region, rules.depth, affinities.shape)
    keep = _kept(read, mask, rules)
    if not keep[within(region, read)].any():
        return np.zeros([s.stop - s.start for s in region], np.uint64)
    values, keep = _read(read, affinities, keep, rules)
    scale = 255.0 if values.dtype == np.uint8 else 65535.0
    inner = values.astype(np.float32).mean(axis=0) / scale
    origin = _lift([s.start + o for s, o in zip(read, affinities.origin, strict=True)], 0)
    fragments = np.zeros(keep.shape, np.uint64)
    sections = [slice(z, z + 1) for z in range(len(keep))] if rules.in_xy else [slice(None)]
    for section in sections:
        distance, labels = _seeds(inner[section] > 0.5, rules)
        flooded = mahotas.cwatershed(distance.max() - distance, labels)
        fragments[section] = _addresses(labels, origin, section, len(region))[flooded]
    fragments[~keep] = 0
    begin, end = _box(within(region, read))
    core = fragments[begin[0] : end[0], begin[1] : end[1], begin[2] : end[2]]
    return np.ascontiguousarray(core.reshape([s.stop - s.start for s in region]))


def _seeds(inside: np.ndarray, rules: Rules) -> tuple[np.ndarray, np.ndarray]:
    """Distance to the boundary, and its maxima, labelled 1, 2, ..."""
    sizes = tuple(float(v) for v in _lift(list(rules.voxel_size), 1.0))
    if inside.all():
        distance = np.full(inside.shape, np.float32(np.sqrt(sum(n * n for n in inside.shape))))
    else:
        _, edt = seeded_packages()
        distance = edt.edt(np.ascontiguousarray(inside), anisotropy=sizes, black_border=False)
    maxima = ndimage.maximum_filter(distance, rules.min_seed_distance) == distance
    labels, _ = ndimage.label(maxima)
    return distance, labels


def _addresses(labels: np.ndarray, origin: np.ndarray, section: slice, ndim: int) -> np.ndarray:
    """Id of each label: the address of its first voxel."""
    flat = labels.ravel()
    found, first = np.unique(flat, return_index=True)
    voxels = np.stack(np.unravel_index(first, labels.shape), axis=1) + origin
    voxels[:, 0] += section.start or 0
    addresses = np.zeros(int(found[-1]) + 1, np.uint64)
    addresses[found] = ids.encode(voxels[:, 3 - ndim :])
    addresses[0] = 0
    return addresses
