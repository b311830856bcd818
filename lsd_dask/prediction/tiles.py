"""Affinities and local shape descriptors of raw data, predicted by a trained network, tile by tile.

Tiles begin where the network's pooling puts its lattice over the whole volume, so the result does not depend
on how the volume is cut into blocks and tiles. Needs the extra `train`.
"""

import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import dask.array as da
import numpy as np
import xarray as xr

from ..checks.arguments import check_array, naming, whole_numbers
from ..networks.checkpoints import Checkpoint
from ..networks.cost import forward_bytes
from ..networks.geometry import Geometry
from ..space.grids import Grid, Region, mirrored
from ..space.neighborhoods import noted
from ..space.units import UNKNOWN
from ..volumes.dask_arrays import find_stored, grid_of
from ..volumes.overlap import Reader, map_regions
from ..volumes.voxel_values import full_scale, say_if_faint, say_if_zero_and_one
from .inference import LoadedNetwork, Precision, Predictor, StoredNetwork, check_lsds, digest
from .symmetries import Augmentation

type Context = Literal["reflect", "valid"]

#: Tiles are as large as they can be with a forward pass in this many bytes.
TILE_BYTES = 2 * 10**9
#: Longest side of a tile's output in 2-D and 3-D, in voxels.
_LONGEST = {2: 1024, 3: 160}


def predict(
    raw: Any,
    checkpoint: str | os.PathLike[str] | Checkpoint,
    *,
    outputs: Sequence[str] | None = None,
    context: Context = "reflect",
    lsds: Any = None,
    augmentation: Augmentation = "none",
    precision: Precision = "float32",
    tile_shape: Sequence[int] | None = None,
    device: str | None = None,
) -> dict[str, Any]:
    """Predict affinities and local shape descriptors.

    Parameters
    ----------
    raw : ([channel,] z, y, x) or ([channel,] y, x) array of uint8, uint16 or float, dask array or DataArray
        Raw data; floating point is from 0 to 1. It is scaled to -1 to 1 as in training.
    checkpoint : str, path-like or Checkpoint
        The trained network.
    outputs : sequence of {"affinities", "lsds"}, optional
        What to predict; by default all that the network was trained for.
    context : {"reflect", "valid"}, optional
        What is beyond the faces of the volume: "reflect" mirrors it there, and predicts all of it; "valid"
        predicts only what the network can without. The scripts of the reference do the latter where they
        scan a volume in one process, and put black voxels around it where they predict blockwise.
    lsds : (channel, z, y, x) or (channel, y, x) array of uint8, dask array or DataArray, optional
        For autocontext: the descriptors that the first network predicted, of the same voxels as `raw`. By
        default the first network is run on the fly.
    augmentation : {"none", "mirrors", "all"}, optional
        Average the predictions of mirrored data, or of data that is mirrored and transposed in y and x. Takes
        8 or 16 times as long in 3-D, 4 or 8 times in 2-D.
    precision : {"float32", "bfloat16", "float16"}, optional
        Of the network's convolutions. Reduced precision is faster and changes values by some grey values;
        float16 is for GPUs.
    tile_shape : sequence of int, optional
        Shape of the output of a forward pass, in voxels, rounded up to what the network's pooling asks for. A
        matter of speed and memory; by default, a forward pass takes at most about 2 GB.
    device : str, optional
        Where to compute, "cpu" or "cuda"; by default on a GPU where there is one.

    Returns
    -------
    dict of (channel, z, y, x) or (channel, y, x) array of uint8
        By name, 255 times the values; of the same kind as `raw`, lazy unless that is a NumPy array. With
        "valid", smaller than `raw` by the network's context, and by what its pooling cannot halve.

    Raises
    ------
    FileNotFoundError
        If there is no such checkpoint.
    TypeError
        If `raw` is no array, or of another dtype.
    ValueError
        If the checkpoint is none, or does not fit the raw data: its axes, channels or voxel size.

    Notes
    -----
    The result is that of one forward pass of the whole volume, with its context around it, up to rounding: at
    most one grey value. Voxels of floating point beyond the range are found when they are read.

    References
    ----------
    .. [1] A. Sheridan et al., "Local shape descriptors for neuron segmentation", Nature Methods 20, 2023.
       https://doi.org/10.1038/s41592-022-01711-z

    Examples
    --------
    >>> from lsd_dask.networks import checkpoints, models
    >>> config = models.ModelConfig(kind="mtlsd", dims=2, downsample_factors=((2, 2),), num_fmaps=4)
    >>> network = checkpoints.Checkpoint(models.build_model(config).eval(), (4.0, 4.0), iteration=0)
    >>> found = predict(np.zeros((50, 40), np.uint8), network)
    >>> found["affinities"].shape, found["lsds"].shape
    ((2, 50, 40), (6, 50, 40))
    >>> predict(np.zeros((50, 40), np.uint8), network, context="valid")["lsds"].shape
    (6, 34, 24)
    """
    if isinstance(checkpoint, Checkpoint):
        network: StoredNetwork | LoadedNetwork = LoadedNetwork(checkpoint)
    else:
        path = os.fspath(checkpoint)
        network = StoredNetwork(path, digest(path))
    loaded = network.load()
    names = loaded.config.predictions if outputs is None else tuple(outputs)
    predictor = Predictor(network, names, augmentation, precision, device, lsds is not None)
    dims = loaded.config.dims
    check_raw(raw, loaded, "raw")
    if isinstance(raw, np.ndarray):
        say_if_faint([raw], raw.dtype, "raw", loaded.raw_range)
    if isinstance(lsds, np.ndarray):
        say_if_zero_and_one([lsds], lsds.dtype, "lsds")
    volumes, channel_axes = [raw], [raw.ndim > dims]
    if lsds is not None:
        check_array(lsds, "lsds")
        check_lsds(lsds.shape, lsds.dtype, loaded.config)
        _check_same_place(raw, lsds, dims)
        volumes, channel_axes = [raw, lsds], [raw.ndim > dims, True]
    shape = tuple(raw.shape[-dims:])
    task = PredictRegion(predictor, context, tile_shape_for(predictor, tile_shape))
    found = find_stored(raw) if isinstance(raw, xr.DataArray | da.Array) else None
    part = task.part(shape, tuple(s.start for s in found[1]) if found else (0,) * dims)
    values = map_regions(
        task,
        volumes,
        channel_axes,
        depth=task.depth,
        dtype=np.uint8,
        channels=predictor.channels,
    )[(slice(None), *part)]
    predictions = dict(
        zip(names, _split(values, [loaded.config.channels[name] for name in names]), strict=True)
    )
    if isinstance(values, xr.DataArray) and "affinities" in predictions:
        predictions["affinities"] = noted(predictions["affinities"], loaded.config.neighborhood)
    return predictions


@dataclass(frozen=True)
class PredictRegion:
    """Predicts regions of a volume: what one task does.

    Attributes
    ----------
    predictor
        The network.
    context
        As for `predict`.
    tile_shape
        Of the output of a forward pass, in voxels: multiples of the network's period.
    """

    predictor: Predictor
    context: Context
    tile_shape: tuple[int, ...]

    #: Name of dask's tasks.
    name = "predict"

    @property
    def depth(self) -> tuple[int, ...]:
        """How far beyond its region a task reads, on each side of each axis."""
        geometry = self.predictor.geometry
        return tuple(
            max(margins) + 2 * period + halo
            for margins, period, halo in zip(
                geometry.margins, geometry.period, self.predictor.halo, strict=True
            )
        )

    def part(self, shape: Sequence[int], origin: Sequence[int]) -> Region:
        """What is predicted of a volume.

        Parameters
        ----------
        shape
            In voxels.
        origin
            Where it begins in the stored volume that it was cropped from.

        Raises
        ------
        ValueError
            If it is too small for a prediction without what is beyond its faces.
        """
        geometry = self.predictor.geometry
        if self.context == "reflect":
            return tuple(slice(0, n) for n in shape)
        # Inputs begin on the lattice of the stored volume.
        skipped = [-o % period for o, period in zip(origin, geometry.period, strict=True)]
        largest = geometry.valid_input_shapes([n - k for n, k in zip(shape, skipped, strict=True)])[0]
        if any(k + m > n for k, m, n in zip(skipped, largest, shape, strict=True)):
            raise ValueError(
                f"raw: found {tuple(shape)} voxels, expected at least {largest} for context 'valid'"
            )
        return tuple(
            slice(k + before, k + n - after)
            for k, (before, after), n in zip(skipped, geometry.margins, largest, strict=True)
        )

    def tile_bytes(self, shape: tuple[int, ...]) -> tuple[tuple[int, ...], int]:
        """For a block shape: shape of what is read for its largest tile, and bytes of a forward pass."""
        predictor = self.predictor
        largest = zip(shape, self.tile_shape, predictor.halo, predictor.geometry.period, strict=True)
        # A block may begin between two places where tiles may.
        read = predictor.geometry.covering([min(n, t) + 2 * h + p - 1 for n, t, h, p in largest])
        return read, forward_bytes(predictor.own_config, read)

    def __call__(self, region: Region, raw: Reader, lsds: Reader | None = None) -> np.ndarray:
        """The prediction for a region: (channel, [z,] y, x) uint8, 0 where nothing is predicted."""
        shape = tuple(s.stop - s.start for s in region)
        out = np.zeros((self.predictor.channels, *shape), np.uint8)
        # Chunks of a dask array may lie where "valid" predicts nothing.
        wanted = [
            slice(max(s.start, p.start), min(s.stop, p.stop))
            for s, p in zip(region, self.part(raw.shape, raw.origin), strict=True)
        ]
        for tile in _tiles(wanted, self._anchors(raw.origin), self.tile_shape):
            here = tuple(
                slice(t.start - s.start, t.stop - s.start) for t, s in zip(tile, region, strict=True)
            )
            out[(slice(None), *here)] = self._predict_tile(tile, raw, lsds)
        return out

    def _predict_tile(self, tile: Region, raw: Reader, lsds: Reader | None) -> np.ndarray:
        geometry, halo = self.predictor.geometry, self.predictor.halo
        places = zip(tile, halo, self._anchors(raw.origin), geometry.period, strict=True)
        starts = [anchor + (t.start - h - anchor) // period * period for t, h, anchor, period in places]
        covered = [t.stop + h - start for t, h, start in zip(tile, halo, starts, strict=True)]
        begins = [start - before for start, (before, _) in zip(starts, geometry.margins, strict=True)]
        box = tuple(slice(b, b + n) for b, n in zip(begins, geometry.covering(covered), strict=True))
        values = self.predictor(read_reflected(raw, box), None if lsds is None else read_reflected(lsds, box))
        inner = [t.start - b - cut for t, b, cut in zip(tile, begins, geometry.cut, strict=True)]
        own = tuple(slice(i, i + t.stop - t.start) for i, t in zip(inner, tile, strict=True))
        return values[(slice(None), *own)]

    def _anchors(self, origin: Sequence[int]) -> list[int]:
        """Where tiles may begin, give or take periods: fixed in the stored volume."""
        before = [margins[0] for margins in self.predictor.geometry.margins]
        first = before if self.context == "valid" else [0] * len(before)
        return [f - o for f, o in zip(first, origin, strict=True)]


def tile_shape_for(
    predictor: Predictor, tile_shape: Sequence[int] | None = None, *, budget: int = TILE_BYTES
) -> tuple[int, ...]:
    """Shape of the output of a forward pass: what is asked for, or the largest one that fits a budget.

    Parameters
    ----------
    predictor
        The network.
    tile_shape
        In voxels; rounded up to multiples of the network's period.
    budget
        Bytes that a forward pass may take; at the least, it is one of a single period.

    Returns
    -------
    tuple of int

    Raises
    ------
    TypeError, ValueError
        If these are not as many positive whole numbers as there are axes.
    """
    geometry = predictor.geometry
    if tile_shape is not None:
        given = whole_numbers("tile_shape", tile_shape, least=1)
        if len(given) != len(geometry.period):
            raise ValueError(f"tile_shape: found {given}, expected {len(geometry.period)} numbers")
        return _rounded_up(given, geometry)
    longest = _LONGEST[len(geometry.period)]
    shape = _rounded_up((longest,) * len(geometry.period), geometry)
    while forward_bytes(predictor.own_config, geometry.covering(shape)) > budget:
        smaller = _rounded_up(
            [max(1, n - period) for n, period in zip(shape, geometry.period, strict=True)], geometry
        )
        if smaller == shape:
            break
        shape = smaller
    return shape


def check_raw(raw: Any, checkpoint: Checkpoint, name: str, grid: Grid | None = None) -> None:
    """Raise TypeError or ValueError unless a network fits raw data.

    Parameters
    ----------
    raw
        An array of any kind, or anything else with a dtype and a shape.
    checkpoint
        The network.
    name
        What the message calls the raw data.
    grid
        Where its voxels lie, if `raw` does not tell.
    """
    check_array(raw, name)
    full_scale(raw.dtype)
    config = checkpoint.config
    axes = ["z", "y", "x"][-config.dims :]
    channels = raw.shape[0] if raw.ndim == config.dims + 1 else 1
    if raw.ndim not in (config.dims, config.dims + 1) or channels != config.in_channels:
        raise ValueError(
            f"{name}: found shape {tuple(raw.shape)}, expected the axes {', '.join(axes)} with "
            f"{config.in_channels} channels for the network {checkpoint.path or config.kind}"
        )
    if 0 in raw.shape:
        raise ValueError(f"{name}: found shape {tuple(raw.shape)}, expected at least one voxel")
    if grid is None and isinstance(raw, xr.DataArray):
        grid = grid_of(raw)
    if grid is None or (grid.units == UNKNOWN and set(grid.voxel_size) == {1.0}):
        # Images, of which nothing is known: it is for the user to know that they fit.
        return
    network = checkpoint.grid
    with naming(name):
        told = grid.in_units_of(network)
    if not told.has_voxels_of(network):
        raise ValueError(
            f"{name}: found voxels of {grid.voxel_size} {grid.units}, but the network "
            f"{checkpoint.path or config.kind} was trained on voxels of {network.voxel_size} {network.units}"
        )


def read_reflected(reader: Reader, box: Region) -> np.ndarray:
    """Voxels of a box that may reach out of the volume, which is mirrored there, with a channel axis.

    Parameters
    ----------
    reader
        Of the volume.
    box
        In voxels; may begin below 0 and end beyond the volume.

    Returns
    -------
    (channel, [z,] y, x) ndarray
    """
    places = [mirrored(np.arange(s.start, s.stop), n) for s, n in zip(box, reader.shape, strict=True)]
    inside = tuple(slice(int(p.min()), int(p.max()) + 1) for p in places)
    voxels = reader.read(inside)
    if voxels.ndim == len(box):
        voxels = voxels[None]
    for axis, (place, s) in enumerate(zip(places, inside, strict=True), start=1):
        if len(place) != s.stop - s.start or place[0] != s.start:
            voxels = voxels.take(place - s.start, axis=axis)
    return np.ascontiguousarray(voxels)


def _tiles(region: Sequence[slice], anchors: Sequence[int], shape: Sequence[int]) -> Iterator[Region]:
    """Cut a region into tiles, the first of which begins at the last anchor before it."""
    cuts = []
    for s, anchor, size in zip(region, anchors, shape, strict=True):
        period_start = s.start - (s.start - anchor) % size if s.stop - s.start > size else s.start
        starts = range(period_start, s.stop, size)
        cuts.append([slice(max(a, s.start), min(a + size, s.stop)) for a in starts])
    yield from itertools.product(*cuts)


def _rounded_up(shape: Sequence[int], geometry: Geometry) -> tuple[int, ...]:
    return tuple(-(-n // period) * period for n, period in zip(shape, geometry.period, strict=True))


def _split(values: Any, channels: Sequence[int]) -> Iterator[Any]:
    end = 0
    for count in channels:
        yield values[end : end + count]
        end += count


def _check_same_place(raw: Any, lsds: Any, dims: int) -> None:
    if raw.shape[-dims:] != lsds.shape[-dims:]:
        raise ValueError(f"lsds: found shape {lsds.shape}, expected {raw.shape[-dims:]} voxels as of raw")
    if isinstance(raw, xr.DataArray) and isinstance(lsds, xr.DataArray):
        here = grid_of(raw)
        with naming("lsds"):
            there = grid_of(lsds).in_units_of(here)
        if not here.begins_like(there):
            raise ValueError(f"lsds: found voxels in {there.box}, expected those of raw: {here.box}")
