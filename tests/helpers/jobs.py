"""Runs of all steps to try the promise of one answer with: affinities, masks, blocks and options."""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from hypothesis import settings
from hypothesis import strategies as st

import lsd_dask as ld

from .strategies import affinities, label_volumes, regions, seeds, shapes

VOXEL_SIZE = (30.0, 5.0, 5.0)

#: For properties whose examples are runs of all steps.
fewer_examples = settings(max_examples=settings().max_examples // 2)

#: Seconds for such a property.
PATIENCE = 300 + 12 * fewer_examples.max_examples


@contextmanager
def container() -> Iterator[Path]:
    """An empty one for each example."""
    directory = Path(tempfile.mkdtemp())
    try:
        yield directory / "cells.zarr"
    finally:
        shutil.rmtree(directory)


def voxel_size_of(ndim: int) -> tuple[float, ...]:
    return VOXEL_SIZE[3 - ndim :]


@st.composite
def block_sizes(draw: st.DrawFn, shape: Sequence[int]) -> tuple[float, ...]:
    """In world units: any number of voxels, but at most a few dozen blocks."""
    voxels = [draw(st.integers(1, n)) for n in shape]
    # It is their borders that count, not their number.
    while np.prod([-(-n // b) for n, b in zip(shape, voxels, strict=True)]) > 24:
        voxels = [min(2 * b, n) for n, b in zip(shape, voxels, strict=True)]
    return tuple(b * v for b, v in zip(voxels, voxel_size_of(len(shape)), strict=True))


@st.composite
def masks(draw: st.DrawFn, shape: Sequence[int]) -> tuple[np.ndarray, tuple[int, ...]]:
    """A mask of as large voxels or larger ones, and how much larger they are along each axis.

    Holes in it, a box of it, half of it, or nothing: so that there are blocks without any voxel.
    """
    rng = np.random.default_rng(draw(seeds))
    factors = tuple(draw(st.sampled_from([1, 1, 2, 3, 8])) for _ in shape)
    mask = np.zeros([-(-n // f) for n, f in zip(shape, factors, strict=True)], np.uint8)
    kind = draw(st.sampled_from(["holes", "box", "half", "nothing"]))
    if kind == "holes":
        mask[:] = rng.random(mask.shape) < 0.8
    elif kind == "box":
        mask[draw(regions(mask.shape))] = 1
    elif kind == "half":
        axis = draw(st.integers(0, mask.ndim - 1))
        np.moveaxis(mask, axis, 0)[: -(-mask.shape[axis] // 2)] = 1
    return mask, factors


@st.composite
def jobs(draw: st.DrawFn) -> dict[str, Any]:
    """Affinities, truth, mask and options of the watershed; and how the work is cut up."""
    ndim = draw(st.sampled_from([2, 3, 3, 3]))
    shape = draw(shapes(12, 20, 20)) if ndim == 3 else draw(shapes(30, 30))
    options: dict[str, Any] = {
        "height": draw(st.sampled_from(["distance", "affinity", "both"])),
        "smoothing": draw(st.sampled_from([0.0, 0.85, 1.5])),
        "anisotropic": draw(st.booleans()),
    }
    if ndim == 3:
        options["fragments_in_xy"] = draw(st.booleans())
        options["replace_sections"] = draw(st.lists(st.integers(0, shape[0] - 1), max_size=2)) or None
    refinement = {"remove_debris": 5, "filter_fragments": 0.5, "epsilon_agglomerate": 0.4}
    options |= {name: value for name, value in refinement.items() if draw(st.integers(0, 3)) == 0}
    return {
        "affinities": draw(affinities(shape, dtypes="uf")),
        "truth": draw(label_volumes(shape)),
        "mask": draw(st.none() | masks(shape)),
        "options": options,
        "run": {
            "block_size": draw(block_sizes(shape)),
            "merge_function": draw(st.sampled_from(["hist_quant_75", "mean", "hist_quant_50_initmax"])),
        },
    }


def relabelled(fragments: xr.DataArray, tree: Any, threshold: float) -> np.ndarray:
    segmentation: np.ndarray = ld.relabel(fragments.to_numpy(), tree.cut(threshold))
    return segmentation
