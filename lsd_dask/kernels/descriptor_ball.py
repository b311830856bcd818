"""Moments of each label within a ball around each of its voxels, from cumulated sums along rows.

A ball is a stack of rows of voxels. For each row of a plane that holds the label, the sums of 1, x and x^2
over the label's voxels are cumulated along x; a row of the ball then costs the differences of two of each,
however long it is. Counted from the column's own x these are whole numbers that float32 holds exactly, so
that they do not depend on where columns, blocks or volumes begin.
"""

from typing import NamedTuple

import numpy as np

from .compiling import device, kernel
from .descriptor_labels import CELLS, COLUMN, Cells, Lattice, Runs, first_run_of
from .descriptor_lanes import LANES, fill, load, multiply_add, store
from .descriptor_statistics import Scaling, write_cell


class BallWindow(NamedTuple):
    """The rows of a ball.

    Attributes
    ----------
    before, after
        How far the ball reaches along z, y and x, in samples.
    begin, end
        (before[0] + 1 + after[0], before[1] + 1 + after[1]) int64: the row at offset (dz, dy) holds the
        offsets [begin, end) along x.
    """

    before: tuple[int, int, int]
    after: tuple[int, int, int]
    begin: np.ndarray
    end: np.ndarray


def ball_window(radius: float, ndim: int) -> BallWindow:
    """The ball (disc, if `ndim` is 2) of a radius in samples, as the reference implementation draws it.

    The ball's voxels have their centres at -radius, 1 - radius, ... in each axis, below +radius. It is turned
    around (as a convolution does), so it reaches to +radius, but on the other side to 1 - radius only.

    >>> window = ball_window(2, ndim=2)
    >>> window.before, window.after
    ((0, 1, 1), (0, 2, 2))
    >>> window.begin, window.end
    (array([[-1, -1, -1,  0]]), array([[2, 3, 2, 1]]))
    """
    squares = np.arange(-radius, radius)[::-1] ** 2
    n = len(squares)
    after = n // 2
    before = n - 1 - after
    plane = squares[:, np.newaxis] + squares if ndim == 3 else squares[np.newaxis]
    inside = plane[:, :, np.newaxis] + squares <= radius**2
    begin = np.argmax(inside, axis=2) - before
    reach = (0 if ndim == 2 else before, before, before), (0 if ndim == 2 else after, after, after)
    return BallWindow(*reach, begin, begin + inside.sum(axis=2))


@kernel
def describe_ball(
    numbers: np.ndarray,
    lattice: Lattice,
    runs: Runs,
    cells: Cells,
    first_group: int,
    last_group: int,
    window: BallWindow,
    degree: int,
    scaling: Scaling,
    channels: np.ndarray,
    out: np.ndarray,
) -> None:
    """Write the descriptors of the cells of the groups [first_group, last_group), from moments up to
    `degree`.

    The arguments are those of `describe_gaussian`. Of a label `[[[1, 1]]]` and a ball that reaches one voxel
    to each side, the left voxel gets the moments of the offsets 0 and 1: 2 voxels, mean 1/2, variance 1/4.
    """
    before_z, before_y, before_x = window.before
    after_z, after_y, after_x = window.after
    run_z, run_y, run_begin, run_end = runs.z, runs.y, runs.begin, runs.end
    cell_z, cell_place, groups = cells.z, cells.place, cells.groups
    row_begin, row_end = window.begin, window.end
    columns_x = (lattice.last[2] - lattice.first[2] + COLUMN - 1) // COLUMN

    depth = min(before_z + 1 + after_z, lattice.shape[0])
    height = before_y + COLUMN + after_y
    width = before_x + COLUMN + after_x + 1
    present = np.empty((depth, height), np.bool_)
    sums = np.empty(depth * height * 3 * width, np.float32)
    moments = np.empty(10 * LANES, np.float32)
    repeated = np.empty(10 * LANES * lattice.step, np.float32)
    ramp = np.arange(LANES).astype(np.float32)

    for group in range(first_group, last_group):
        begin, end, column = groups[group, 0], groups[group, 1], groups[group, 2]
        label = cells.label[begin]
        y0 = lattice.first[1] + column // columns_x * COLUMN
        x0 = lattice.first[2] + column % columns_x * COLUMN
        first_run, last_run = runs.starts[label], runs.starts[label + 1]
        low = cell_z[begin] - before_z
        high = low - 1
        if last_run > first_run:
            low = max(low, np.int64(run_z[first_run]))
            high = min(cell_z[end - 1] + after_z, run_z[last_run - 1])
        done = begin
        for z in range(low, max(low, cell_z[end - 1] + after_z) + 1):
            if z <= high:
                run = first_run_of(run_z, run_y, first_run, last_run, z, y0 - before_y)
                stop = first_run_of(run_z, run_y, run, last_run, z, y0 + COLUMN + after_y)
                present[z % depth] = False
                _cumulate_rows(
                    run_y, run_begin, run_end, run, stop, y0 - before_y, x0 - before_x, width,
                    present[z % depth], sums[z % depth * height * 3 * width :],
                )  # fmt: skip
            while done < end and cell_z[done] + after_z <= z:
                at, place = cell_z[done], cell_place[done]
                done += 1
                _add_rows(
                    at, place, low, high, present, sums, width, before_z, before_y, before_x,
                    row_begin, row_end, degree, ramp, moments,
                )  # fmt: skip
                y = y0 + place // CELLS
                x = x0 + place % CELLS * LANES
                write_cell(numbers, lattice, label, at, y, x, moments, repeated, scaling, channels, out)


@device
def _cumulate_rows(
    run_y: np.ndarray,
    run_begin: np.ndarray,
    run_end: np.ndarray,
    first: int,
    last: int,
    y0: int,
    x0: int,
    width: int,
    present: np.ndarray,
    sums: np.ndarray,
) -> None:
    """Cumulate 1, x and x^2 over the runs [first, last) of a plane, row by row, from x0 on.

    Of a run [1, 3) and x0 = 0, the three cumulated sums are 0 0 1 2, 0 0 1 3 and 0 0 1 5.
    """
    run = first
    while run < last:
        y = run_y[run]
        present[y - y0] = True
        at = (y - y0) * 3 * width
        count = np.float32(0)
        linear = np.float32(0)
        square = np.float32(0)
        for i in range(width):
            sums[at + i] = count
            sums[at + width + i] = linear
            sums[at + 2 * width + i] = square
            while run < last and run_y[run] == y and run_end[run] <= x0 + i:
                run += 1
            if run < last and run_y[run] == y and run_begin[run] <= x0 + i:
                count += np.float32(1)
                linear += np.float32(i)
                square += np.float32(i) * np.float32(i)
        while run < last and run_y[run] == y:
            run += 1


@device
def _add_rows(
    z: int,
    place: int,
    low: int,
    high: int,
    present: np.ndarray,
    sums: np.ndarray,
    width: int,
    before_z: int,
    before_y: int,
    before_x: int,
    row_begin: np.ndarray,
    row_end: np.ndarray,
    degree: int,
    ramp: np.ndarray,
    moments: np.ndarray,
) -> None:
    """Moments of one cell, in the order 1, z, y, x, zz, yy, xx, zy, zx, yx, from the rows of its ball."""
    depth, height = present.shape
    y = place // CELLS
    x = place % CELLS * LANES + before_x
    zero = fill(np.float32(0))
    minus_x = zero - (load(ramp, 0) + fill(np.float32(x)))
    one = z1 = y1 = x1 = zz = yy = xx = zy = zx = yx = zero
    for row_z in range(max(0, low - z + before_z), min(row_begin.shape[0], high + 1 - z + before_z)):
        slot = (z + row_z - before_z) % depth
        plane_one = plane_y = plane_x = plane_yy = plane_yx = plane_xx = zero
        for row_y in range(row_begin.shape[1]):
            begin, end = row_begin[row_z, row_y], row_end[row_z, row_y]
            if begin == end or not present[slot, y + row_y]:
                continue
            at = (slot * height + y + row_y) * 3 * width + x
            count = load(sums, at + end) - load(sums, at + begin)
            plane_one = plane_one + count
            if degree > 0:
                at += width
                dy = fill(np.float32(row_y - before_y))
                absolute = load(sums, at + end) - load(sums, at + begin)
                linear = multiply_add(minus_x, count, absolute)
                plane_y = multiply_add(dy, count, plane_y)
                plane_x = plane_x + linear
                if degree > 1:
                    at += width
                    square = load(sums, at + end) - load(sums, at + begin)
                    plane_yy = multiply_add(dy * dy, count, plane_yy)
                    plane_yx = multiply_add(dy, linear, plane_yx)
                    plane_xx = plane_xx + multiply_add(minus_x, absolute + linear, square)
        dz = fill(np.float32(row_z - before_z))
        one = one + plane_one
        z1 = multiply_add(dz, plane_one, z1)
        y1 = y1 + plane_y
        x1 = x1 + plane_x
        zz = multiply_add(dz * dz, plane_one, zz)
        yy = yy + plane_yy
        xx = xx + plane_xx
        zy = multiply_add(dz, plane_y, zy)
        zx = multiply_add(dz, plane_x, zx)
        yx = yx + plane_yx
    store(moments, 0, one)
    store(moments, LANES, z1)
    store(moments, 2 * LANES, y1)
    store(moments, 3 * LANES, x1)
    store(moments, 4 * LANES, zz)
    store(moments, 5 * LANES, yy)
    store(moments, 6 * LANES, xx)
    store(moments, 7 * LANES, zy)
    store(moments, 8 * LANES, zx)
    store(moments, 9 * LANES, yx)
