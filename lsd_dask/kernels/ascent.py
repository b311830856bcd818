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
    keep: np.ndarray,
    begin: np.ndarray,
    end: np.ndarray,
    origin: np.ndarray,
    slopes: np.ndarray,
) -> np.ndarray:
    """Index of the voxel that each voxel points to: the neighbour up the steepest slope, itself at a maximum.

    Parameters
    ----------
    height
        float32 ``(z, y, x)``.
    keep
        boolean; voxels that are not kept are background and nothing points to them.
    begin, end
        Box in which heights, and those of all neighbours, are known. Elsewhere pointers are `ESCAPED`.
    origin
        Index of the array's first voxel in the volume.
    slopes
        float32 ``(3, 3, 3)``, one over the distance to each of 26 neighbours; 0 for one that is no neighbour.

    Returns
    -------
    pointers
        int32 flat indices, ``(z * y * x,)``.

    Notes
    -----
    Where the highest neighbours are as high as the voxel itself, it points to the one that comes first in a
    strict order: by distance to the nearest centre of a fixed lattice, then by place in the volume. So
    plateaus are divided among lattice cells, chains on them are short, and no chain is a circle.

    Heights [1, 2, 5, 4] give pointers [1, 2, 2, 2].
    """
    depth, rows, width = height.shape
    pointers = np.full(height.size, ESCAPED, np.int32)
    for z in range(begin[0], end[0]):
        for y in range(begin[1], end[1]):
            for x in range(begin[2], end[2]):
                i = (z * rows + y) * width + x
                pointers[i] = i
                if not keep[z, y, x]:
                    continue
                here = height[z, y, x]
                steepest = np.float32(0)
                flat = False
                for nz in range(max(z - 1, 0), min(z + 2, depth)):
                    for ny in range(max(y - 1, 0), min(y + 2, rows)):
                        for nx in range(max(x - 1, 0), min(x + 2, width)):
                            slope = slopes[nz - z + 1, ny - y + 1, nx - x + 1]
                            if slope == 0 or not keep[nz, ny, nx]:
                                continue
                            rise = (height[nz, ny, nx] - here) * slope
                            if rise > steepest:
                                steepest = rise
                                flat = False
                                pointers[i] = (nz * rows + ny) * width + nx
                            elif rise == steepest:
                                flat = True
                if flat:
                    pointers[i] = _first_of_equals(height, keep, z, y, x, steepest, origin, slopes)
    return pointers


@device
def _first_of_equals(
    height: np.ndarray,
    keep: np.ndarray,
    z: int,
    y: int,
    x: int,
    steepest: np.float32,
    origin: np.ndarray,
    slopes: np.ndarray,
) -> int:
    """Of the neighbours up the same slope, and the voxel itself if that is level, the first in the order.

    For example, on a plateau with the lattice centre to its right, every voxel but the last points right.
    """
    depth, rows, width = height.shape
    here = height[z, y, x]
    first = -1
    nearest = 0
    for nz in range(max(z - 1, 0), min(z + 2, depth)):
        for ny in range(max(y - 1, 0), min(y + 2, rows)):
            for nx in range(max(x - 1, 0), min(x + 2, width)):
                slope = slopes[nz - z + 1, ny - y + 1, nx - x + 1]
                itself = nz == z and ny == y and nx == x
                if not itself and (slope == 0 or not keep[nz, ny, nx]):
                    continue
                if itself and steepest > 0:
                    continue
                if not itself and (height[nz, ny, nx] - here) * slope != steepest:
                    continue
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
