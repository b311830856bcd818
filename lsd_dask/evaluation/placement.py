"""Whether positions are in the units of a volume, which few files of skeletons tell."""

import warnings

import numpy as np

from ..space.grids import Grid
from ..space.lengths import likely_unit
from .skeletons import Skeletons

#: Of fewer nodes it may be chance that they share voxels.
MANY = 8

#: Nodes in a voxel, on average, from which on they are crowded: annotators and resamplers leave far fewer.
CROWDED = 4

#: Voxels along an axis within which no skeleton of some nodes ends.
_FEW = 2


def check_placement(skeletons: Skeletons, grid: Grid) -> None:
    """Raise ValueError where skeletons cannot be in the units of a volume: their nodes share a few voxels.

    Parameters
    ----------
    skeletons : Skeletons
        All of them, also what lies outside of the volume.
    grid : Grid
        Of the volume.

    Raises
    ------
    ValueError
        If nodes are crowded, and either no skeleton is longer than two voxels, or all would lie in the volume
        if they were in another unit, which the message names.

    Warns
    -----
    UserWarning
        If nodes are crowded, and nothing else is wrong.
    """
    # A single node, such as a synapse, has no length to be judged by.
    longer = [positions for positions in _by_skeleton(skeletons) if len(positions) > 1]
    if not longer:
        return
    positions = np.concatenate(longer)
    found = crowding(positions, grid)
    if not found:
        return
    longest = max(float((np.ptp(each, axis=0) / grid.voxel_size).max()) for each in longer)
    if longest < _FEW or other_unit(positions, grid):
        raise ValueError(found)
    warnings.warn(found, stacklevel=2)


def crowding(positions: np.ndarray, grid: Grid) -> str:
    """What to say of positions that share very few voxels of a volume; empty where they do not."""
    shared = _voxels(positions, grid)
    if max(grid.shape) < MANY or not _is_crowded(positions, shared):
        return ""
    return f"found {len(positions)} nodes in {shared} voxel{'s' * (shared > 1)}{advice(positions, grid)}"


def other_unit(positions: np.ndarray, grid: Grid) -> str | None:
    """The unit in which nearly all of some positions would lie in a volume, and not crowded."""

    def fits(factor: float) -> bool:
        there = positions * factor
        inside = ((there >= grid.offset) & (there < grid.end)).all(axis=1)
        return bool(np.count_nonzero(inside) > 0.9 * len(there)) and not _is_crowded(
            there, _voxels(there, grid)
        )

    return likely_unit(grid.units, fits) if len(positions) else None


def _voxels(positions: np.ndarray, grid: Grid) -> int:
    """The number of voxels that hold positions."""
    return len(np.unique(np.floor((positions - np.array(grid.offset)) / grid.voxel_size), axis=0))


def _is_crowded(positions: np.ndarray, voxels: int) -> bool:
    return len(positions) >= max(MANY, CROWDED * voxels)


def advice(positions: np.ndarray, grid: Grid) -> str:
    """How to mend positions that may be in another unit than the volume."""
    unit = other_unit(positions, grid)
    told = f"in {unit} they would lie in it" if unit else "are they in the same units?"
    option = (
        f'annotations_units="{unit}", or annotations_scale'
        if unit
        else "annotations_units or annotations_scale"
    )
    return f"; the volume fills {grid.box}: {told} (tell with {option})"


def _by_skeleton(skeletons: Skeletons) -> list[np.ndarray]:
    """Positions of the nodes of each skeleton."""
    order = np.argsort(skeletons.skeletons, kind="stable")
    _, first = np.unique(skeletons.skeletons[order], return_index=True)
    return np.split(skeletons.positions[order], first[1:])
