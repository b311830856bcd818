"""Gaussian-weighted moments of each label around each of its voxels, by passes over that label alone.

For offsets d from a voxel to the voxels of its label, the sums of w(d), d w(d) and d d' w(d), with w a
truncated Gaussian, are sums along one axis at a time: x gives 3 moments, y makes them 6 (times 1, d, d^2), z
makes them 10.

- *x*, of the label's runs: the sum over a run, however long, is a difference of two values of the
  cumulated kernel.
- *y*, from the rows of a plane that hold the label, to where a cell within reach of the plane wants it.
- *z*, to the cells.

A column is swept plane by plane, so each plane passes x and y once; the planes in reach of a cell are kept
in a ring. Each sum runs over its window in one fixed order, and leaves out nothing but zeros; so the moments
do not depend on where columns, blocks or volumes begin.
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
from .lanes import LANES, fill, load, load_difference, multiply_add, store
from .statistics import Target

_ROW = 3 * LANES  # moments of one cell after the x pass: sums of 1, x, x^2
_PLANE = 6 * LANES  # after the y pass: of 1, y, y^2, x, yx, x^2


class GaussianWindow(NamedTuple):
    """Kernels of the three passes, for a Gaussian cut off at `radius` samples.

    Attributes
    ----------
    radius
        Along z, y and x.
    along_z, along_y
        (2 radius + 1, 3) float32: w, d w and d^2 w for d = -radius, ..., radius.
    along_x
        (3 n) float64: the same, cumulated from the largest d down, with constant margins. The sum of w over
        the voxels [a, b) seen from voxel x is ``along_x[m + x - b] - along_x[m + x - a]``, m = n // 2.
    """

    radius: tuple[int, int, int]
    along_z: np.ndarray
    along_y: np.ndarray
    along_x: np.ndarray


def gaussian_window(sigma: tuple[float, float, float], truncate: float = 3.0) -> GaussianWindow:
    """Kernels for a Gaussian of standard deviation `sigma` (in samples; 0 sees nothing but its own plane).

    The window is that of `scipy.ndimage.gaussian_filter`.

    >>> gaussian_window((0, 0, 0.5)).radius
    (0, 0, 2)
    """
    radius_z, radius_y, radius_x = (int(truncate * s + 0.5) for s in sigma)
    z, y, x = (_moment_kernels(s, truncate) for s in sigma)
    margin = radius_x + LANES + 1
    ends = -np.arange(-margin, margin + 1) - 1
    cumulated = np.concatenate([np.zeros((1, 3)), np.cumsum(x, axis=0)])
    along_x = cumulated[np.clip(ends + radius_x + 1, 0, 2 * radius_x + 1)].T
    return GaussianWindow(
        (radius_z, radius_y, radius_x), z.astype(np.float32), y.astype(np.float32), along_x.ravel()
    )


def _moment_kernels(sigma: float, truncate: float) -> np.ndarray:
    radius = int(truncate * sigma + 0.5)
    d = np.arange(-radius, radius + 1, dtype=np.float64)
    weight = np.exp(-0.5 * (d / sigma) ** 2) if radius else np.ones(1)
    return (weight / weight.sum())[:, np.newaxis] * d[:, np.newaxis] ** np.arange(3)


class _Workspace(NamedTuple):
    """Room for the moments of one label in one column, used again for the next.

    Attributes
    ----------
    wanted
        For each place, then for each row, then for each cell in a row: how many cells have the current plane
        in reach.
    row_y, rows
        y of the rows of the current plane that hold the label, and their moments along x.
    ring, filled
        Moments along y and x of the planes in reach, plane z in slot ``z % depth``; and which hold any.
    column
        What becomes of them.
    """

    wanted: np.ndarray
    row_y: np.ndarray
    rows: np.ndarray
    ring: np.ndarray
    filled: np.ndarray
    column: ColumnSpace


@kernel
def describe_gaussian(
    target: Target, runs: Runs, cells: Cells, first: int, last: int, window: GaussianWindow, degree: int
) -> None:
    """Write the descriptors of the columns [first, last), from moments up to `degree`.

    Of a label `[[[1, 1]]]` and a window of radius 1, the left voxel has the moments w(0) + w(1), w(1) and
    w(1) for 1, x and x^2, and 0 for all others.
    """
    depth = min(2 * window.radius[0] + 1, target.lattice.shape[0])
    height = COLUMN + 2 * window.radius[1]
    space = _Workspace(
        np.empty(COLUMN * CELLS + COLUMN + CELLS, np.int32),
        np.empty(height, np.int64),
        np.empty(height * CELLS * _ROW, np.float32),
        np.empty(COLUMN * CELLS * depth * _PLANE, np.float32),
        np.empty(depth, np.bool_),
        make_column_space(target, cells),
    )
    group = first_group_of(cells, first)
    for column in range(first, last):
        while group < len(cells.groups) and cells.groups[group, 2] == column:
            _describe_group(target, runs, cells, group, window, degree, space)
            group += 1
        write_column(target, cells, column, space.column)


@inner_device
def _describe_group(
    target: Target,
    runs: Runs,
    cells: Cells,
    group: int,
    window: GaussianWindow,
    degree: int,
    space: _Workspace,
) -> None:
    """Sweep the column of a group: each plane that holds the label passes x and y, each cell in turn z."""
    begin, end, column = cells.groups[group]
    order, cell_z, cell_place, wanted, filled = cells.order, cells.z, cells.place, space.wanted, space.filled
    column_space = space.column
    y0, x0 = corner_of_column(target.lattice, column)
    label = cells.label[order[begin]]
    radius = window.radius[0]
    last_z = cell_z[order[end - 1]]
    low, high = planes_in_reach(runs, label, cell_z[order[begin]] - radius, last_z + radius)
    wanted[:] = 0
    entering = leaving = done = begin
    run = runs.starts[label]
    for z in range(low, max(low, last_z + radius) + 1):
        while entering < end and cell_z[order[entering]] <= z + radius:
            _count_place(wanted, cell_place[order[entering]], 1)
            entering += 1
        while leaving < entering and cell_z[order[leaving]] < z - radius:
            _count_place(wanted, cell_place[order[leaving]], -1)
            leaving += 1
        if z <= high:
            slot = z % filled.size
            filled[slot] = False
            if leaving < entering:
                box = _bounding_box(wanted)
                count, run = _pass_x(runs, label, run, z, y0, x0, box, window, degree, space)
                if count > 0:
                    _pass_y(count, y0, box, window, degree, slot, space)
                    filled[slot] = True
        while done < end and cell_z[order[done]] + radius <= z:
            cell = order[done]
            _pass_z(cell_z[cell], cell_place[cell], low, high, window, degree, space)
            y = y0 + cell_place[cell] // CELLS
            x = x0 + cell_place[cell] % CELLS * LANES
            add_cell(target, cells, cell, column, cell_z[cell], y, x, column_space)
            done += 1


@inner_device
def _count_place(wanted: np.ndarray, place: int, change: int) -> None:
    """Count one cell more or less at a place, in its row and in its cell of the rows."""
    wanted[place] += change
    wanted[COLUMN * CELLS + place // CELLS] += change
    wanted[COLUMN * CELLS + COLUMN + place % CELLS] += change


@inner_device
def _bounding_box(wanted: np.ndarray) -> tuple[int, int, int, int]:
    """First and last + 1 row and cell-in-row of the places that are wanted; there is one."""
    rows = COLUMN * CELLS
    first_row, last_row = 0, COLUMN
    while wanted[rows + first_row] == 0:
        first_row += 1
    while wanted[rows + last_row - 1] == 0:
        last_row -= 1
    cells = rows + COLUMN
    first_cell, last_cell = 0, CELLS
    while wanted[cells + first_cell] == 0:
        first_cell += 1
    while wanted[cells + last_cell - 1] == 0:
        last_cell -= 1
    return first_row, last_row, first_cell, last_cell


@inner_device
def _pass_x(
    runs: Runs,
    label: int,
    after: int,
    z: int,
    y0: int,
    x0: int,
    box: tuple[int, int, int, int],
    window: GaussianWindow,
    degree: int,
    space: _Workspace,
) -> tuple[int, int]:
    """Moments along x of a label's runs in plane z, which are not before run `after`.

    Returns the number of rows that hold any, and the first run after them.
    """
    radius = window.radius[2]
    weights, row_y, rows = window.along_x, space.row_y, space.rows
    run_y, run_begin, run_end = runs.y, runs.begin, runs.end
    middle = weights.size // 6
    begin_x = x0 + box[2] * LANES - radius
    end_x = x0 + box[3] * LANES + radius
    begin_y = y0 + box[0] - window.radius[1]
    end_y = y0 + box[1] + window.radius[1]
    first = first_run_of(runs, after, runs.starts[label + 1], z, begin_y)
    last = first_run_of(runs, first, runs.starts[label + 1], z, end_y)
    count = 0
    for run in range(first, last):
        if run_begin[run] >= end_x or run_end[run] <= begin_x:
            continue
        if count == 0 or row_y[count - 1] != run_y[run]:
            row_y[count] = run_y[run]
            for i in range((count * CELLS + box[2]) * _ROW, (count * CELLS + box[3]) * _ROW):
                rows[i] = 0
            count += 1
        for cell in range(box[2], box[3]):
            x = x0 + cell * LANES
            begin = max(int(run_begin[run]), x - radius)
            end = min(int(run_end[run]), x + LANES + radius)
            if begin < end:
                at = ((count - 1) * CELLS + cell) * _ROW
                for power in range(degree + 1):
                    origin = power * (2 * middle + 1) + middle + x
                    part = load_difference(weights, origin - end, origin - begin)
                    store(rows, at, load(rows, at) + part)
                    at += LANES
    return count, last


@inner_device
def _pass_y(
    count: int,
    y0: int,
    box: tuple[int, int, int, int],
    window: GaussianWindow,
    degree: int,
    slot: int,
    space: _Workspace,
) -> None:
    """Moments along y and x of one plane with `count` rows, at the wanted places, into a slot of the ring."""
    radius, weights = window.radius[1], window.along_y
    wanted, row_y, rows, ring, depth = space.wanted, space.row_y, space.rows, space.ring, space.filled.size
    zero = fill(np.float32(0))
    first = 0
    last = 0
    for row in range(box[0], box[1]):
        y = y0 + row
        while first < count and row_y[first] < y - radius:
            first += 1
        while last < count and row_y[last] <= y + radius:
            last += 1
        for cell in range(box[2], box[3]):
            if wanted[row * CELLS + cell] == 0:
                continue
            one = y1 = yy = x1 = yx = xx = zero
            for i in range(first, last):
                tap = row_y[i] - y + radius
                at = (i * CELLS + cell) * _ROW
                w0 = fill(weights[tap, 0])
                row_one = load(rows, at)
                one = multiply_add(w0, row_one, one)
                if degree > 0:
                    w1 = fill(weights[tap, 1])
                    row_x = load(rows, at + LANES)
                    y1 = multiply_add(w1, row_one, y1)
                    x1 = multiply_add(w0, row_x, x1)
                    if degree > 1:
                        yy = multiply_add(fill(weights[tap, 2]), row_one, yy)
                        yx = multiply_add(w1, row_x, yx)
                        xx = multiply_add(w0, load(rows, at + 2 * LANES), xx)
            at = ((row * CELLS + cell) * depth + slot) * _PLANE
            store(ring, at, one)
            if degree > 0:
                store(ring, at + LANES, y1)
                store(ring, at + 2 * LANES, x1)
                if degree > 1:
                    store(ring, at + 3 * LANES, yy)
                    store(ring, at + 4 * LANES, yx)
                    store(ring, at + 5 * LANES, xx)


@inner_device
def _pass_z(
    z: int, place: int, low: int, high: int, window: GaussianWindow, degree: int, space: _Workspace
) -> None:
    """Moments of one cell, in the order 1, z, y, x, zz, yy, xx, zy, zx, yx, from the planes of the ring."""
    radius, weights = window.radius[0], window.along_z
    ring, filled, moments = space.ring, space.filled, space.column.moments
    zero = fill(np.float32(0))
    one = z1 = y1 = x1 = zz = yy = xx = zy = zx = yx = zero
    first = max(low, z - radius)
    slot = first % filled.size - 1
    for tap in range(first - z + radius, min(high - z, radius) + radius + 1):
        slot = 0 if slot + 1 == filled.size else slot + 1
        if not filled[slot]:
            continue
        at = (place * filled.size + slot) * _PLANE
        w0 = fill(weights[tap, 0])
        plane_one = load(ring, at)
        one = multiply_add(w0, plane_one, one)
        if degree > 0:
            w1 = fill(weights[tap, 1])
            plane_y = load(ring, at + LANES)
            plane_x = load(ring, at + 2 * LANES)
            z1 = multiply_add(w1, plane_one, z1)
            y1 = multiply_add(w0, plane_y, y1)
            x1 = multiply_add(w0, plane_x, x1)
            if degree > 1:
                zz = multiply_add(fill(weights[tap, 2]), plane_one, zz)
                zy = multiply_add(w1, plane_y, zy)
                zx = multiply_add(w1, plane_x, zx)
                yy = multiply_add(w0, load(ring, at + 3 * LANES), yy)
                yx = multiply_add(w0, load(ring, at + 4 * LANES), yx)
                xx = multiply_add(w0, load(ring, at + 5 * LANES), xx)
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
