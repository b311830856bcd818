"""Moments of each label within a ball around each of its voxels, from cumulated sums along rows.

A ball is a stack of rows of voxels. For each row of a plane that holds the label, the sums of 1, x and x^2
over the label's voxels are cumulated along x; a row of the ball then costs the differences of two of each,
however long it is. Counted from the column's own x these are whole numbers that float32 holds exactly, so
that they do not depend on where columns, blocks or volumes begin.
"""

from typing import NamedTuple

import numpy as np

from ..compiling import inner_device, kernel
from .columns import ColumnSpace, add_cell, make_column_space, write_column
from .labels import (
    CELLS,
    COLUMN,
    Cells,
    Runs,
    corner_of_column,
    first_group_of,
    first_run_of,
    planes_in_reach,
)
from .lanes import LANES, fill, load, multiply_add, store
from .statistics import Target


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


class _Workspace(NamedTuple):
    """Room for the sums of one label in one column, used again for the next.

    Attributes
    ----------
    present
        (depth, height): which rows of the planes in reach hold the label; plane z is in slot ``z % depth``.
    sums
        Flat (depth, height, 3, width): 1, x and x^2, cumulated along these rows.
    column
        What becomes of them.
    ramp
        0, 1, ..., 7.
    """

    present: np.ndarray
    sums: np.ndarray
    column: ColumnSpace
    ramp: np.ndarray


@kernel
def describe_ball(
    target: Target, runs: Runs, cells: Cells, first: int, last: int, window: BallWindow, degree: int
) -> None:
    """Write the descriptors of the columns [first, last), from moments up to `degree`.

    Of a label `[[[1, 1]]]` and a ball that reaches one voxel to each side, the left voxel has the moments 2,
    1 and 1 for 1, x and x^2, and 0 for all others.
    """
    depth = min(window.before[0] + 1 + window.after[0], target.lattice.shape[0])
    height = window.before[1] + COLUMN + window.after[1]
    width = window.before[2] + COLUMN + window.after[2] + 1
    space = _Workspace(
        np.empty((depth, height), np.bool_),
        np.empty(depth * height * 3 * width, np.float32),
        make_column_space(target, cells),
        np.arange(LANES).astype(np.float32),
    )
    group = first_group_of(cells, first)
    for column in range(first, last):
        while group < len(cells.groups) and cells.groups[group, 2] == column:
            _describe_group(target, runs, cells, group, window, degree, width, space)
            group += 1
        write_column(target, cells, column, space.column)


@inner_device
def _describe_group(
    target: Target,
    runs: Runs,
    cells: Cells,
    group: int,
    window: BallWindow,
    degree: int,
    width: int,
    space: _Workspace,
) -> None:
    """Sweep the column of a group: cumulate each plane that holds the label, add up the ball of each cell."""
    begin, end, column = cells.groups[group]
    order, cell_z, cell_place = cells.order, cells.z, cells.place
    column_space = space.column
    y0, x0 = corner_of_column(target.lattice, column)
    label = cells.label[order[begin]]
    before, after = window.before[0], window.after[0]
    last_z = cell_z[order[end - 1]]
    low, high = planes_in_reach(runs, label, cell_z[order[begin]] - before, last_z + after)
    done = begin
    for z in range(low, max(low, last_z + after) + 1):
        if z <= high:
            _cumulate_plane(runs, label, z, y0, x0, window, width, space)
        while done < end and cell_z[order[done]] + after <= z:
            cell = order[done]
            _add_rows(cell_z[cell], cell_place[cell], low, high, window, degree, width, space)
            y = y0 + cell_place[cell] // CELLS
            x = x0 + cell_place[cell] % CELLS * LANES
            add_cell(target, cells, cell, column, cell_z[cell], y, x, column_space)
            done += 1


@inner_device
def _cumulate_plane(
    runs: Runs, label: int, z: int, y0: int, x0: int, window: BallWindow, width: int, space: _Workspace
) -> None:
    """Cumulate 1, x and x^2 over a label's runs in plane z, row by row.

    Of a run [1, 3), with x counted from the first voxel in reach, the sums are 0 0 1 2, 0 0 1 3 and 0 0 1 5.
    """
    present, sums = space.present, space.sums
    run_y, run_begin, run_end = runs.y, runs.begin, runs.end
    first_y = y0 - window.before[1]
    first_x = x0 - window.before[2]
    height = present.shape[1]
    slot = z % present.shape[0]
    present[slot] = False
    run = first_run_of(runs, runs.starts[label], runs.starts[label + 1], z, first_y)
    last = first_run_of(runs, run, runs.starts[label + 1], z, first_y + height)
    while run < last:
        y = run_y[run]
        present[slot, y - first_y] = True
        at = (slot * height + y - first_y) * 3 * width
        count = linear = square = np.float32(0)
        for i in range(width):
            sums[at + i] = count
            sums[at + width + i] = linear
            sums[at + 2 * width + i] = square
            while run < last and run_y[run] == y and run_end[run] <= first_x + i:
                run += 1
            if run < last and run_y[run] == y and run_begin[run] <= first_x + i:
                count += np.float32(1)
                linear += np.float32(i)
                square += np.float32(i * i)
        while run < last and run_y[run] == y:
            run += 1


@inner_device
def _add_rows(
    z: int, place: int, low: int, high: int, window: BallWindow, degree: int, width: int, space: _Workspace
) -> None:
    """Moments of one cell, in the order 1, z, y, x, zz, yy, xx, zy, zx, yx, from the rows of its ball."""
    row_begin, row_end, present, sums = window.begin, window.end, space.present, space.sums
    before_z, before_y, before_x = window.before
    depth, height = present.shape
    y = place // CELLS
    x = place % CELLS * LANES + before_x
    zero = fill(np.float32(0))
    minus_x = zero - (load(space.ramp, 0) + fill(np.float32(x)))
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
    moments = space.column.moments
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
