"""Steepest ascent: each voxel points up its steepest slope; the trees of that forest are the fragments."""

import numpy as np

from ..compiling import device, inner_device, kernel
from ..hashing import RECENT_BITS, place
from .morton import address, address_2d

#: Pitch, in voxels, of the lattice that divides plateaus.
LATTICE = 32

#: A voxel whose slopes have not been looked at.
UNKNOWN = -1


@kernel
def ascend(
    height: np.ndarray,
    begin: np.ndarray,
    end: np.ndarray,
    origin: np.ndarray,
    slopes: np.ndarray,
    pointers: np.ndarray,
) -> np.ndarray:
    """Index of the voxel that each voxel points to: the neighbour up the steepest slope, itself at a maximum.

    Parameters
    ----------
    height
        float32 ``(z + 2, y + 2, x + 2)``: the heights with a rim of one voxel; -inf in the rim and for
        background, to which nothing points.
    begin, end
        Box, without counting the rim, of the voxels to look at. Pointers of others are `UNKNOWN`.
    origin
        Index in the volume of the first voxel, without counting the rim.
    slopes
        float32 ``(3, 3, 3)``, one over the distance to each of 26 neighbours; 0 for one that is no neighbour.
    pointers
        int32 ``(z * y * x,)``, all `UNKNOWN` to begin with; what is found is written here.

    Returns
    -------
    pointers
        Flat indices into the array without the rim.

    Notes
    -----
    Where the highest neighbours are as high as the voxel itself, it points to the one that comes first in a
    strict order: by distance to the nearest centre of a fixed lattice, then by place in the volume. So
    plateaus are divided among lattice cells, chains on them are short, and no chain is a circle.

    Heights [1, 2, 5, 4] give pointers [1, 2, 2, 2].
    """
    rows, width = height.shape[1] - 2, height.shape[2] - 2
    left, right = begin[2], end[2]
    steepest = np.empty(right - left, np.float32)
    steps = np.empty(right - left, np.int32)
    ties = np.empty(right - left, np.int32)
    for z in range(begin[0], end[0]):
        for y in range(begin[1], end[1]):
            here = height[z + 1, y + 1, left + 1 : right + 1]
            steepest[:] = 0
            steps[:] = 0
            ties[:] = 0
            for dz in range(3):
                for dy in range(3):
                    there = height[z + dz, y + dy]
                    for dx in range(3):
                        slope = slopes[dz, dy, dx]
                        if slope > 0:
                            step = np.int32(((dz - 1) * rows + dy - 1) * width + dx - 1)
                            _steepen(steepest, steps, ties, here, there[left + dx :], slope, step)
            first = (z * rows + y) * width + left
            for x in range(right - left):
                i = first + x
                if here[x] == -np.inf:
                    pointers[i] = i
                elif ties[x]:
                    pointers[i] = _first_of_equals(height, z, y, left + x, steepest[x], origin, slopes)
                else:
                    pointers[i] = i + steps[x]
    return pointers


@inner_device
def _steepen(
    steepest: np.ndarray,
    steps: np.ndarray,
    ties: np.ndarray,
    here: np.ndarray,
    there: np.ndarray,
    slope: np.float32,
    step: np.int32,
) -> None:
    """Look at one neighbour of each voxel of a row: whether the slope there is steeper, or as steep.

    For example heights [1, 2] and [3, 2] there, slope 1, with steepest [1, 0] so far, give steepest [2, 0],
    steps [step, ...] and ties [0, 1].
    """
    for x in range(steepest.size):
        rise = (there[x] - here[x]) * slope
        steeper = rise > steepest[x]
        ties[x] = np.int32(0) if steeper else ties[x] | np.int32(rise == steepest[x])
        steps[x] = step if steeper else steps[x]
        steepest[x] = rise if steeper else steepest[x]


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
def follow(
    pointers: np.ndarray,
    height: np.ndarray,
    begin: np.ndarray,
    end: np.ndarray,
    known_begin: np.ndarray,
    known_end: np.ndarray,
    origin: np.ndarray,
    slopes: np.ndarray,
) -> bool:
    """Replace the pointers of the voxels in a box by the roots of their trees.

    Chains that leave the box go on: pointers that are `UNKNOWN` are found on the way. Returns whether all
    chains ended within the box ``known_begin ... known_end``, in which heights and those of all neighbours
    are known; if not, the work is incomplete. Other arguments are as for `ascend`.

    For example pointers [1, 2, 2, 2] become [2, 2, 2, 2].
    """
    rows, width = height.shape[1] - 2, height.shape[2] - 2
    _shorten(pointers, begin, end, rows, width)
    for z in range(begin[0], end[0]):
        for y in range(begin[1], end[1]):
            for x in range(begin[2], end[2]):
                i = (z * rows + y) * width + x
                root = np.int64(pointers[i])
                if pointers[root] == root:
                    continue
                while True:
                    upcoming = np.int64(pointers[root])
                    if upcoming == UNKNOWN:
                        rz, ry, rx = root // (rows * width), root // width % rows, root % width
                        if not (
                            known_begin[0] <= rz < known_end[0]
                            and known_begin[1] <= ry < known_end[1]
                            and known_begin[2] <= rx < known_end[2]
                        ):
                            return False
                        upcoming = np.int64(_uphill(height, rz, ry, rx, origin, slopes))
                        pointers[root] = upcoming
                    if upcoming == root:
                        break
                    root = upcoming
                j = i
                while j != root:
                    upcoming = np.int64(pointers[j])
                    pointers[j] = root
                    j = upcoming
    return True


@inner_device
def _shorten(pointers: np.ndarray, begin: np.ndarray, end: np.ndarray, rows: int, width: int) -> None:
    """Let the voxels in a box point to where those point that they point to, forwards and then backwards.

    Without branches, which could not be foreseen; and as most of what a pointer leads to was shortened just
    before, nine of ten then lead to the root. For example pointers [1, 2, 3, 3] become [3, 3, 3, 3].
    """
    for z in range(begin[0], end[0]):
        for y in range(begin[1], end[1]):
            row = (z * rows + y) * width
            for i in range(row + begin[2], row + end[2]):
                upcoming = pointers[pointers[i]]
                pointers[i] = pointers[i] if upcoming == UNKNOWN else upcoming
    for z in range(end[0] - 1, begin[0] - 1, -1):
        for y in range(end[1] - 1, begin[1] - 1, -1):
            row = (z * rows + y) * width
            for i in range(row + end[2] - 1, row + begin[2] - 1, -1):
                upcoming = pointers[pointers[i]]
                pointers[i] = pointers[i] if upcoming == UNKNOWN else upcoming


@device
def _uphill(height: np.ndarray, z: int, y: int, x: int, origin: np.ndarray, slopes: np.ndarray) -> int:
    """What `ascend` finds for one voxel."""
    here = height[z + 1, y + 1, x + 1]
    steepest = np.float32(0)
    for dz in range(3):
        for dy in range(3):
            for dx in range(3):
                slope = slopes[dz, dy, dx]
                if slope > 0:
                    steepest = max(steepest, (height[z + dz, y + dy, x + dx] - here) * slope)
    return _first_of_equals(height, z, y, x, steepest, origin, slopes)


@kernel
def root_addresses(
    pointers: np.ndarray,
    keep: np.ndarray,
    begin: np.ndarray,
    end: np.ndarray,
    origin: np.ndarray,
    ndim: int,
    ids: np.ndarray,
) -> np.ndarray:
    """Id of the root of every voxel in a box, 0 for what is not kept; the roots are known.

    Written into `ids`, uint64, of the shape of the box, zeros to begin with.

    For example, in 3-D, voxels whose root is the one at (0, 0, 1) of the volume get id 2.
    """
    _, rows, width = keep.shape
    # An id takes divisions and a Morton code; nearly always the root was met a moment ago.
    roots = np.zeros(1 << RECENT_BITS, np.uint64)
    recent_ids = np.zeros(1 << RECENT_BITS, np.uint64)
    for z in range(begin[0], end[0]):
        for y in range(begin[1], end[1]):
            row = ids[z - begin[0], y - begin[1]]
            for x in range(begin[2], end[2]):
                if not keep[z, y, x]:
                    continue
                root = np.int64(pointers[(z * rows + y) * width + x])
                # 0 is none among those met.
                key = np.uint64(root + 1)
                recently = place(key)
                if roots[recently] != key:
                    rz = root // (rows * width) + origin[0]
                    ry = root // width % rows + origin[1]
                    rx = root % width + origin[2]
                    roots[recently] = key
                    recent_ids[recently] = address(rz, ry, rx) if ndim == 3 else address_2d(ry, rx)
                row[x - begin[2]] = recent_ids[recently]
    return ids
