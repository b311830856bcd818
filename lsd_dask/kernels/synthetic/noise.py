"""Random numbers that belong to places: hashes of coordinates, and smooth noise made of them.

No generator carries a state, so a voxel's number does not depend on the block it is computed in.

References
----------
.. [1] G. L. Steele Jr., D. Lea and C. H. Flood, "Fast splittable pseudorandom number generators",
   OOPSLA 2014.
   https://doi.org/10.1145/2660193.2660195 (the mixing function of SplitMix64)
"""

import numpy as np

from ..compiling import device, kernel


@device
def mix(x: np.uint64) -> np.uint64:
    """Scramble the bits of `x`, one to one: ``mix(0) = 16294208416658607535``."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@device
def hash_of(key: np.uint64, a: int, b: int, c: int) -> np.uint64:
    """The hash of three integers under a key: ``mix(mix(mix(key ^ a) ^ b) ^ c)``."""
    return mix(mix(mix(key ^ np.uint64(a)) ^ np.uint64(b)) ^ np.uint64(c))


@device
def uniform(bits: np.uint64) -> float:
    """A number in [0, 1) from the upper 53 bits: ``uniform(2**63) = 0.5``."""
    return np.float64(np.int64(bits >> np.uint64(11))) * (1.0 / 9007199254740992.0)


@device
def below(bits: np.uint64, n: int) -> int:
    """A number from 0 to n - 1: ``below(17, 5) = 2``."""
    return int(np.int64(bits % np.uint64(n)))


@device
def spline_weight(tap: int, u: float) -> float:
    """Weight of control point ``floor(x) + tap - 1`` in a uniform cubic B-spline at x; u is x - floor(x).

    At u = 0 the four weights are 1/6, 4/6, 1/6, 0.
    """
    if tap == 0:
        return (1.0 - u) * (1.0 - u) * (1.0 - u) / 6.0
    if tap == 1:
        return ((3.0 * u - 6.0) * u * u + 4.0) / 6.0
    if tap == 2:
        return (((-3.0 * u + 3.0) * u + 3.0) * u + 1.0) / 6.0
    return u * u * u / 6.0


@kernel
def white_noise(key: np.uint64, origin: np.ndarray, out: np.ndarray) -> None:
    """Fill `out` (z, y, x) with independent noise of mean 0 and variance 1, nearly normal.

    `origin` is the position of the first voxel. A value is the sum of the four 16-bit words of the hash of
    the voxel's position, centred and scaled: 0xffff, 0, 0, 0 gives (65535 - 131070) / 37837 = -1.73.
    """
    low = np.uint64(0xFFFF)
    for z in range(out.shape[0]):
        for y in range(out.shape[1]):
            row = mix(mix(key ^ np.uint64(z + origin[0])) ^ np.uint64(y + origin[1]))
            for x in range(out.shape[2]):
                bits = mix(row ^ np.uint64(x + origin[2]))
                total = (
                    np.int64(bits & low)
                    + np.int64((bits >> np.uint64(16)) & low)
                    + np.int64((bits >> np.uint64(32)) & low)
                    + np.int64(bits >> np.uint64(48))
                )
                out[z, y, x] = np.float32(total - 131070) * np.float32(1.0 / 37837.227)


@kernel
def smooth_noise(key: np.uint64, z: np.ndarray, y: np.ndarray, x: np.ndarray, out: np.ndarray) -> None:
    """Fill `out` (z, y, x) with smooth noise of mean 0 and variance about 1: a B-spline over random numbers.

    `z`, `y` and `x` are the positions along each axis, in units of the spacing of the control points; the
    noise at a position is the same in whichever block it is asked for. Interpolating axis after axis costs
    four multiplications a voxel instead of 64.

    At an integer position the noise is the mean of 27 control points with weights 1/6, 4/6, 1/6 along each
    axis.
    """
    z0, nz = _control_points(z)
    y0, ny = _control_points(y)
    x0, nx = _control_points(x)
    points = np.empty((nz, ny, nx))
    # A spline through uniform numbers of variance 1/12 has, averaged over a cell, (151/315)^3 of their
    # variance.
    scale = np.sqrt(12.0 * (315.0 / 151.0) ** 3)
    for k in range(nz):
        for j in range(ny):
            for i in range(nx):
                points[k, j, i] = scale * (uniform(hash_of(key, k + z0, j + y0, i + x0)) - 0.5)
    plane = np.empty((ny, nx))
    line = np.empty(nx)
    weights, first = _weights(x, x0)
    for k in range(z.size):
        _collapse(points.reshape(nz, ny * nx), z[k], z0, plane.reshape(ny * nx))
        for j in range(y.size):
            _collapse(plane, y[j], y0, line)
            for i in range(x.size):
                f = first[i]
                out[k, j, i] = (
                    weights[i, 0] * line[f]
                    + weights[i, 1] * line[f + 1]
                    + weights[i, 2] * line[f + 2]
                    + weights[i, 3] * line[f + 3]
                )


@device
def _control_points(positions: np.ndarray) -> tuple[int, int]:
    """First control point that ascending positions need, and how many: [2.0, 2.5] needs 4 from 1 on."""
    first = int(np.floor(positions[0])) - 1
    return first, int(np.floor(positions[-1])) - first + 3


@device
def _weights(positions: np.ndarray, start: int) -> tuple[np.ndarray, np.ndarray]:
    """The four weights at each position, and the index of the first control point they belong to.

    Position 2.0 over control points from 0 gives weights 1/6, 4/6, 1/6, 0 and index 1.
    """
    weights = np.empty((positions.size, 4))
    first = np.empty(positions.size, np.int64)
    for i in range(positions.size):
        cell = np.floor(positions[i])
        first[i] = np.int64(cell) - 1 - start
        for tap in range(4):
            weights[i, tap] = spline_weight(tap, positions[i] - cell)
    return weights, first


@device
def _collapse(points: np.ndarray, position: float, start: int, out: np.ndarray) -> None:
    """Interpolate along the first axis: points [[0], [6], [0], [0]] from 0 on at position 1.0 give [4]."""
    cell = np.floor(position)
    first = np.int64(cell) - 1 - start
    u = position - cell
    w0, w1, w2, w3 = spline_weight(0, u), spline_weight(1, u), spline_weight(2, u), spline_weight(3, u)
    for i in range(out.size):
        out[i] = (
            w0 * points[first, i]
            + w1 * points[first + 1, i]
            + w2 * points[first + 2, i]
            + w3 * points[first + 3, i]
        )
