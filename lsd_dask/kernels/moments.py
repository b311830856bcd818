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

from .compiling import device, kernel
from .descriptor_labels import CELLS, COLUMN, Cells, Lattice, Runs, first_run_of
from .descriptor_lanes import LANES, fill, load, load_difference, multiply_add, store
from .descriptor_statistics import Scaling, write_cell

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


@kernel
def describe_gaussian(
    numbers: np.ndarray,
    lattice: Lattice,
    runs: Runs,
    cells: Cells,
    first_group: int,
    last_group: int,
    window: GaussianWindow,
    degree: int,
    scaling: Scaling,
    channels: np.ndarray,
    out: np.ndarray,
) -> None:
    """Write the descriptors of the cells of some `groups` (first, last + 1), from moments up to `degree`.

    A label that fills one voxel of `[[[1]]]` has moments 1, 0, ..., 0 there, if the window's radius is 0.
    """
    radius_z, radius_y, radius_x = window.radius
    along_z, along_y, along_x = window.along_z, window.along_y, window.along_x
    run_z, run_y, run_begin, run_end = runs.z, runs.y, runs.begin, runs.end
    cell_z, cell_place, groups = cells.z, cells.place, cells.groups
    middle_x = along_x.size // 6
    columns_x = (lattice.last[2] - lattice.first[2] + COLUMN - 1) // COLUMN

    depth = min(2 * radius_z + 1, lattice.shape[0])
    ring = np.empty(depth * COLUMN * CELLS * _PLANE, np.float32)
    filled = np.zeros(depth, np.bool_)
    wanted = np.zeros(COLUMN * CELLS, np.int32)
    row_y = np.empty(COLUMN + 2 * radius_y, np.int64)
    rows = np.empty(row_y.size * CELLS * _ROW, np.float32)
    moments = np.empty(10 * LANES, np.float32)
    repeated = np.empty(10 * LANES * lattice.step, np.float32)

    for group in range(first_group, last_group):
        begin, end, column = groups[group, 0], groups[group, 1], groups[group, 2]
        label = cells.label[begin]
        y0 = lattice.first[1] + column // columns_x * COLUMN
        x0 = lattice.first[2] + column % columns_x * COLUMN
        first_run, last_run = runs.starts[label], runs.starts[label + 1]
        low = cell_z[begin] - radius_z
        high = low - 1
        if last_run > first_run:
            low = max(low, np.int64(run_z[first_run]))
            high = min(cell_z[end - 1] + radius_z, run_z[last_run - 1])
        wanted[:] = 0
        entering = begin
        leaving = begin
        done = begin
        for z in range(low, max(low, cell_z[end - 1] + radius_z) + 1):
            while entering < end and cell_z[entering] <= z + radius_z:
                wanted[cell_place[entering]] += 1
                entering += 1
            while leaving < entering and cell_z[leaving] < z - radius_z:
                wanted[cell_place[leaving]] -= 1
                leaving += 1
            if z <= high:
                count = 0
                if leaving < entering:
                    box = _bounding_box(wanted)
                    begin_y = y0 + box[0] - radius_y
                    run = first_run_of(run_z, run_y, first_run, last_run, z, begin_y)
                    end_y = y0 + box[1] + radius_y
                    stop = first_run_of(run_z, run_y, run, last_run, z, end_y)
                    count = _pass_x(
                        run_y,
                        run_begin,
                        run_end,
                        run,
                        stop,
                        x0,
                        box,
                        radius_x,
                        along_x,
                        middle_x,
                        degree,
                        row_y,
                        rows,
                    )
                    if count > 0:
                        _pass_y(
                            row_y,
                            rows,
                            count,
                            y0,
                            box,
                            wanted,
                            radius_y,
                            along_y,
                            degree,
                            ring,
                            z % depth,
                            depth,
                        )
                filled[z % depth] = count > 0
            while done < end and cell_z[done] + radius_z <= z:
                at, place = cell_z[done], cell_place[done]
                done += 1
                _pass_z(at, place, low, high, ring, filled, radius_z, along_z, degree, moments)
                y = y0 + place // CELLS
                x = x0 + place % CELLS * LANES
                write_cell(numbers, lattice, label, at, y, x, moments, repeated, scaling, channels, out)


@device
def _bounding_box(wanted: np.ndarray) -> tuple[int, int, int, int]:
    """First and last + 1 row and cell-in-row of a column's places that are wanted (not 0)."""
    first_row, last_row, first_cell, last_cell = COLUMN, 0, CELLS, 0
    for row in range(COLUMN):
        for cell in range(CELLS):
            if wanted[row * CELLS + cell] > 0:
                first_row = min(first_row, row)
                last_row = row + 1
                first_cell = min(first_cell, cell)
                last_cell = max(last_cell, cell + 1)
    return first_row, last_row, first_cell, last_cell


@device
def _pass_x(
    run_y: np.ndarray,
    run_begin: np.ndarray,
    run_end: np.ndarray,
    first: int,
    last: int,
    x0: int,
    box: tuple[int, int, int, int],
    radius: int,
    weights: np.ndarray,
    middle: int,
    degree: int,
    row_y: np.ndarray,
    rows: np.ndarray,
) -> int:
    """Moments along x of the runs [first, last), which lie in one plane: cells for each row that holds any.

    Writes y of those rows into `row_y`, their moments into `rows`, and returns how many there are.
    """
    begin_x = x0 + box[2] * LANES - radius
    end_x = x0 + box[3] * LANES + radius
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
    return count


@device
def _pass_y(
    row_y: np.ndarray,
    rows: np.ndarray,
    count: int,
    y0: int,
    box: tuple[int, int, int, int],
    wanted: np.ndarray,
    radius: int,
    weights: np.ndarray,
    degree: int,
    ring: np.ndarray,
    slot: int,
    depth: int,
) -> None:
    """Moments along y and x of one plane, at the column's wanted places, into a slot of the ring."""
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


@device
def _pass_z(
    z: int,
    place: int,
    low: int,
    high: int,
    ring: np.ndarray,
    filled: np.ndarray,
    radius: int,
    weights: np.ndarray,
    degree: int,
    moments: np.ndarray,
) -> None:
    """Moments of one cell, in the order 1, z, y, x, zz, yy, xx, zy, zx, yx, from the planes of the ring."""
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
