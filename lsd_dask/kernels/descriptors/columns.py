"""From the moments of a column's cells to the output: packed, made descriptors of, written in rows.

A cell holds several labels, each of which owns some of its lanes. Only these are kept, side by side, in the
order in which cells come: label by label, and of a label plane by plane. So the arithmetic and the memory of
a column do not grow with the number of labels in it.
"""

from typing import NamedTuple

import numpy as np

from ..compiling import device, inner_device
from .labels import CELLS, COLUMN, Cells, Lattice, corner_of_column, count_bits, voxels_of_cell
from .lanes import LANES, fill, load, store
from .statistics import Target, moments_to_descriptors, place_unreached

#: The bits of a cell that owns all of its lanes.
_ALL = 2**LANES - 1
#: Samples whose moments are turned into descriptors at once, and whose descriptors lie together in memory.
_BATCH = 4 * LANES
#: Room for them; lanes are copied eight at a time, the last ones of which may be more than there are.
_ROOM = _BATCH + 2 * LANES
#: Voxels along y that are written at once: one channel after the other, as channels tend to be powers of two
#: apart and so compete for the same few cache lines.
_ROWS = 32


class ColumnSpace(NamedTuple):
    """Room for the samples of a column, used again for the next.

    Attributes
    ----------
    moments
        Flat (10, 8): sums of 1, z, y, x, zz, yy, xx, zy, zx, yx of one cell.
    batch
        Flat (10, _ROOM): the same of the lanes owned by the latest cells.
    descriptors
        Flat (n, channels, _BATCH): the descriptors wanted, of the lanes owned by the column's cells.
    taken
        How many lanes these cells own.
    first
        Of each cell of the column: how many lanes are before its own.
    rows
        Flat (channels, _ROWS or more, m): the descriptors of some rows of voxels.
    """

    moments: np.ndarray
    batch: np.ndarray
    descriptors: np.ndarray
    taken: np.ndarray
    first: np.ndarray
    rows: np.ndarray


@device
def make_column_space(target: Target, cells: Cells) -> ColumnSpace:
    """Room for any of the columns."""
    channels = target.channels.size
    step = target.lattice.step
    return ColumnSpace(
        np.empty(11 * LANES, np.float32),
        np.empty(10 * _ROOM, np.float32),
        np.empty((cells.samples.max() // _BATCH + 1) * channels * _BATCH + LANES, np.float32),
        np.zeros(1, np.int64),
        np.empty(np.diff(cells.starts).max(), np.int32),
        np.empty(channels * max(_ROWS, step) * (COLUMN * step + LANES), np.float32),
    )


@inner_device
def add_cell(
    target: Target, cells: Cells, cell: int, column: int, z: int, y: int, x: int, space: ColumnSpace
) -> None:
    """Take over the moments of the cell at sample (z, y, x), in ``space.moments``."""
    moments, batch, taken = space.moments, space.batch, space.taken
    if target.lattice.step > 1:
        place_unreached(moments, target.scaling, (z, y, x))
    before = taken[0]
    space.first[cell - cells.starts[column]] = before
    at = before % _BATCH
    owned = int(cells.owned[cell])
    lane = 0
    if owned == _ALL:
        for i in range(10):
            store(batch, i * _ROOM + at, load(moments, i * LANES))
        at += LANES
        lane = LANES
    while owned >> lane:
        while not (owned >> lane) & 1:
            lane += 1
        begin = lane
        while (owned >> lane) & 1:
            lane += 1
        for i in range(10):
            store(batch, i * _ROOM + at, load(moments, i * LANES + begin))
        at += lane - begin
    taken[0] += at - before % _BATCH
    if at >= _BATCH:
        _finish_batch(target, before // _BATCH * _BATCH, space)
        for i in range(10):
            store(batch, i * _ROOM, load(batch, i * _ROOM + _BATCH))


@inner_device
def _finish_batch(target: Target, first: int, space: ColumnSpace) -> None:
    """Turn the moments of a batch, of the lanes from `first` on, into the descriptors wanted."""
    batch, descriptors, channels = space.batch, space.descriptors, target.channels
    for i in range(0, _BATCH, LANES):
        moments_to_descriptors(batch, i, _ROOM, target.scaling)
        for c in range(channels.size):
            at = first * channels.size + c * _BATCH + i
            store(descriptors, at, load(batch, channels[c] * _ROOM + i))


@inner_device
def write_column(target: Target, cells: Cells, column: int, space: ColumnSpace) -> None:
    """Write the descriptors of a column's cells to the voxels they stand for, and empty the space."""
    _finish_batch(target, space.taken[0] // _BATCH * _BATCH, space)
    space.taken[0] = 0
    cell_z, cell_place = cells.z, cells.place
    begin, last = cells.starts[column], cells.starts[column + 1]
    samples = max(1, _ROWS // target.lattice.step)
    while begin < last:
        first_row = cell_place[begin] // CELLS // samples * samples
        last_row = min(first_row + samples, COLUMN)
        end = begin + 1
        while end < last and cell_z[end] == cell_z[begin] and cell_place[end] < last_row * CELLS:
            end += 1
        _write_rows(target, cells, begin, end, column, first_row, last_row, space)
        begin = end


@inner_device
def _write_rows(
    target: Target,
    cells: Cells,
    begin: int,
    end: int,
    column: int,
    first_row: int,
    last_row: int,
    space: ColumnSpace,
) -> None:
    """Write the descriptors of the cells [begin, end), which are in some rows of a plane, to their voxels."""
    lattice, channels = target.lattice, target.channels.size
    z = cells.z[begin]
    y0, x0 = corner_of_column(lattice, column)
    last_row = min(last_row, lattice.last[1] - y0)
    voxel_z, (begin_y, _), (begin_x, _) = voxels_of_cell(lattice, z, y0 + first_row, x0)
    _, (_, end_y), _ = voxels_of_cell(lattice, z, y0 + last_row - 1, x0)
    end_x = min(lattice.phase[2] + lattice.step * (x0 + COLUMN), lattice.core_end[2])
    width = COLUMN * lattice.step + LANES
    stride = max(_ROWS, lattice.step) * width
    for i in range(voxel_z[0], voxel_z[1]):
        cell = begin
        for row in range(first_row, last_row):
            next_cell = cell
            _, voxel_y, _ = voxels_of_cell(lattice, z, y0 + row, x0)
            for j in range(voxel_y[0], voxel_y[1]):
                voxels = (i * lattice.shape[1] + j) * lattice.shape[2]
                at = (j - begin_y) * width - begin_x
                next_cell = _fill_row(
                    target, cells, cell, end, column, row, voxels, begin_x, end_x, at, stride, space
                )
            cell = next_cell
        for c in range(channels):
            for j in range(begin_y, end_y):
                at = c * stride + (j - begin_y) * width
                _copy(space.rows, at, target.out, _out_address(lattice, c, i, j, begin_x), end_x - begin_x)


@inner_device
def _fill_row(
    target: Target,
    cells: Cells,
    cell: int,
    last_cell: int,
    column: int,
    row: int,
    voxels: int,
    x: int,
    end_x: int,
    row_at: int,
    stride: int,
    space: ColumnSpace,
) -> int:
    """Fill a row of voxels, which are [x, end_x), from the cells of a row, which begin with `cell`.

    Voxel x is number ``voxels + x`` of all and goes to ``row_at + x`` of each channel. Runs of voxels are
    written in their order, as each may write over the next ones. Returns the cell after those of the row.
    """
    step, channels, numbers, rows = target.lattice.step, target.channels.size, target.numbers, space.rows
    cell_x = target.lattice.phase[2] + corner_of_column(target.lattice, column)[1] * step
    for place in range(row * CELLS, (row + 1) * CELLS):
        begin = cell
        while cell < last_cell and cells.place[cell] == place:
            cell += 1
        cell_end = min(cell_x + LANES * step, end_x)
        if step == 1 and begin < cell and cells.owned[begin] == _ALL:
            sample = space.first[begin - cells.starts[column]]
            _copy_run(sample, LANES, row_at + x, stride, channels, space)
            x = cell_end
        while x < cell_end:
            number = numbers[voxels + x]
            run_end = x + 1
            while run_end < cell_end and numbers[voxels + run_end] == number:
                run_end += 1
            if number <= 0:
                for c in range(channels):
                    for k in range(x, run_end, LANES):
                        store(rows, c * stride + row_at + k, fill(np.float32(0)))
            else:
                of_label = begin
                while cells.label[of_label] != number:
                    of_label += 1
                lane = (x - cell_x) // step
                before = count_bits(int(cells.owned[of_label]) & ((1 << lane) - 1))
                sample = space.first[of_label - cells.starts[column]] + before
                if step == 1:
                    _copy_run(sample, run_end - x, row_at + x, stride, channels, space)
                else:
                    part = cell_x + (lane + 1) * step - x
                    _repeat_run(sample, run_end - x, part, step, row_at + x, stride, channels, space)
            x = run_end
        cell_x += LANES * step
    return cell


@inner_device
def _copy_run(sample: int, count: int, at: int, stride: int, channels: int, space: ColumnSpace) -> None:
    """Copy the descriptors of `count` samples, at most eight, to voxels, and up to seven more after them."""
    descriptors, rows = space.descriptors, space.rows
    batch, lane = sample // _BATCH, sample % _BATCH
    source = batch * _BATCH * channels + lane
    for c in range(channels):
        store(rows, c * stride + at, load(descriptors, source + c * _BATCH))
    if lane + count > _BATCH:
        at += _BATCH - lane
        source = (batch + 1) * _BATCH * channels
        for c in range(channels):
            store(rows, c * stride + at, load(descriptors, source + c * _BATCH))


@inner_device
def _repeat_run(
    sample: int, count: int, part: int, step: int, at: int, stride: int, channels: int, space: ColumnSpace
) -> None:
    """Repeat the descriptors of samples for `count` voxels, and up to seven more after them.

    The first sample fills `part` voxels, the others `step`.
    """
    descriptors, rows = space.descriptors, space.rows
    end = at + count
    until = at + part
    while at < end:
        source = sample // _BATCH * _BATCH * channels + sample % _BATCH
        for c in range(channels):
            value = fill(descriptors[source + c * _BATCH])
            for k in range(at, until, LANES):
                store(rows, c * stride + k, value)
        sample += 1
        at = until
        until += step


@inner_device
def _out_address(lattice: Lattice, channel: int, z: int, y: int, x: int) -> int:
    """Where a voxel is in a channel of the flat output."""
    begin_z, begin_y, begin_x = lattice.core_begin
    end_z, end_y, end_x = lattice.core_end
    plane = channel * (end_z - begin_z) + z - begin_z
    return (plane * (end_y - begin_y) + y - begin_y) * (end_x - begin_x) + x - begin_x


@inner_device
def _copy(source: np.ndarray, first: int, target: np.ndarray, at: int, count: int) -> None:
    """Copy `count` values from ``source[first]`` and on to ``target[at]`` and on."""
    done = 0
    while done + LANES <= count:
        store(target, at + done, load(source, first + done))
        done += LANES
    while done < count:
        target[at + done] = source[first + done]
        done += 1
