"""Steepest ascent: each voxel points up its steepest slope; the trees of that forest are the fragments."""

import numpy as np

from .compiling import device, kernel
from .morton import address, address_2d

#: Pitch, in voxels, of the lattice that divides plateaus.
LATTICE = 32

#: A chain that leaves the part of a block where slopes are known.
ESCAPED = -1


@kernel
def ascend(
    height: np.ndarray,
    begin: np.ndarray,
    end: np.ndarray,
    origin: np.ndarray,
    slopes: np.ndarray,
) -> np.ndarray:
    """Index of the voxel that each voxel points to: the neighbour up the steepest slope, itself at a maximum.

    Parameters
    ----------
    height
        float32 ``(z + 2, y + 2, x + 2)``: the heights with a rim of one voxel; -inf in the rim and for
        background, to which nothing points.
    begin, end
        Box, without counting the rim, in which heights and those of all neighbours are known. Elsewhere
        pointers are `ESCAPED`.
    origin
        Index in the volume of the first voxel, without counting the rim.
    slopes
        float32 ``(3, 3, 3)``, one over the distance to each of 26 neighbours; 0 for one that is no neighbour.

    Returns
    -------
    pointers
        int32 flat indices into the array without the rim, ``(z * y * x,)``.

    Notes
    -----
    Where the highest neighbours are as high as the voxel itself, it points to the one that comes first in a
    strict order: by distance to the nearest centre of a fixed lattice, then by place in the volume. So
    plateaus are divided among lattice cells, chains on them are short, and no chain is a circle.

    Heights [1, 2, 5, 4] give pointers [1, 2, 2, 2].
    """
    depth, rows, width = height.shape[0] - 2, height.shape[1] - 2, height.shape[2] - 2
    pointers = np.full(depth * rows * width, ESCAPED, np.int32)
    steepest = np.empty(width, np.float32)
    steps = np.empty(width, np.int32)
    ties = np.empty(width, np.int32)
    for z in range(begin[0], end[0]):
        for y in range(begin[1], end[1]):
            here = height[z + 1, y + 1, 1 : width + 1]
            steepest[:] = 0
            steps[:] = 0
            ties[:] = 0
            for dz in range(3):
                for dy in range(3):
                    for dx in range(3):
                        slope = slopes[dz, dy, dx]
                        if slope == 0:
                            continue
                        there = height[z + dz, y + dy, dx : dx + width]
                        step = ((dz - 1) * rows + dy - 1) * width + dx - 1
                        for x in range(width):
                            rise = (there[x] - here[x]) * slope
                            steeper = rise > steepest[x]
                            ties[x] = 0 if steeper else ties[x] | (rise == steepest[x])
                            steps[x] = step if steeper else steps[x]
                            steepest[x] = rise if steeper else steepest[x]
            i = (z * rows + y) * width
            for x in range(begin[2], end[2]):
                if here[x] == -np.inf:
                    pointers[i + x] = i + x
                elif ties[x]:
                    pointers[i + x] = _first_of_equals(height, z, y, x, steepest[x], origin, slopes)
                else:
                    pointers[i + x] = i + x + steps[x]
    return pointers


@device
def _first_of_equals(
    height: np.ndarray,
    z: int,
    y: int,
    x: int,
    steepest: np.float32,
    origin: np.ndarray,
    slopes: np.ndarray,
) -> int:
    """Of the neighbours up the same slope - and the voxel itself, if that is level - the first in the strict
    order.
    """
    rows, width = height.shape[1] - 2, height.shape[2] - 2
    here = height[z + 1, y + 1, x + 1]
    first = -1
    nearest = 0
    for dz in range(3):
        for dy in range(3):
            for dx in range(3):
                itself = dz == 1 and dy == 1 and dx == 1
                if itself:
                    if steepest > 0:
                        continue
                elif (
                    slopes[dz, dy, dx] == 0
                    or (height[z + dz, y + dy, x + dx] - here) * slopes[dz, dy, dx] != steepest
                ):
                    continue
                nz, ny, nx = z + dz - 1, y + dy - 1, x + dx - 1
                distance = _to_lattice(nz + origin[0], ny + origin[1], nx + origin[2])
                if first < 0 or distance < nearest:
                    first = (nz * rows + ny) * width + nx
                    nearest = distance
    return first


@device
def _to_lattice(z: int, y: int, x: int) -> int:
    """Squared distance of a voxel from the centre of its lattice cell: that of (16, 16, 20) is 16."""
    half = LATTICE // 2
    dz = z % LATTICE - half
    dy = y % LATTICE - half
    dx = x % LATTICE - half
    return dz * dz + dy * dy + dx * dx


@kernel
def follow(pointers: np.ndarray) -> None:
    """Replace each pointer by the root of its tree, or by `ESCAPED` where its chain leaves the known part.

    For example [1, 2, 2, -1, 3] becomes [2, 2, 2, -1, -1].
    """
    for i in range(pointers.size):
        root = np.int64(i)
        while pointers[root] >= 0 and pointers[root] != root:
            root = np.int64(pointers[root])
        last = root if pointers[root] >= 0 else np.int64(ESCAPED)
        j = np.int64(i)
        while pointers[j] >= 0 and j != root:
            upcoming = np.int64(pointers[j])
            pointers[j] = last
            j = upcoming


@kernel
def root_addresses(
    pointers: np.ndarray,
    keep: np.ndarray,
    begin: np.ndarray,
    end: np.ndarray,
    origin: np.ndarray,
    ndim: int,
) -> np.ndarray:
    """Id of the root of every voxel in a box, 0 for what is not kept; the roots are known.

    For example, in 3-D, voxels whose root is the one at (0, 0, 1) of the volume get id 2.
    """
    _, rows, width = keep.shape
    ids = np.zeros((end[0] - begin[0], end[1] - begin[1], end[2] - begin[2]), np.uint64)
    for z in range(begin[0], end[0]):
        for y in range(begin[1], end[1]):
            last_root = -1
            last_id = np.uint64(0)
            for x in range(begin[2], end[2]):
                if not keep[z, y, x]:
                    continue
                root = pointers[(z * rows + y) * width + x]
                if root != last_root:
                    last_root = root
                    rz = root // (rows * width) + origin[0]
                    ry = root // width % rows + origin[1]
                    rx = root % width + origin[2]
                    last_id = address(rz, ry, rx) if ndim == 3 else address_2d(ry, rx)
                ids[z - begin[0], y - begin[1], x - begin[2]] = last_id
    return ids


@kernel
def escapes(pointers: np.ndarray, keep: np.ndarray, begin: np.ndarray, end: np.ndarray) -> bool:
    """Whether the chain of any kept voxel in a box leaves the known part."""
    _, rows, width = keep.shape
    for z in range(begin[0], end[0]):
        for y in range(begin[1], end[1]):
            for x in range(begin[2], end[2]):
                if keep[z, y, x] and pointers[(z * rows + y) * width + x] < 0:
                    return True
    return False
