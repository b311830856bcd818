"""Where the voxels of each label are, so that shape descriptors need no loop over volumes.

A labelling is turned into *runs* (stretches of voxels of one label along x) and *cells* (eight voxels along x
in which a label wants descriptors), both sorted by label. Cells are further grouped into *columns*, squares
of `COLUMN` x `COLUMN` voxels in y and x through all planes, and lie plane by plane within a column.
"""

import math
from typing import NamedTuple

import numpy as np

from ..compiling import device, inner_device, kernel
from .lanes import LANES

#: Side of a column, in voxels.
COLUMN = 32
#: Cells in a row of a column.
CELLS = COLUMN // LANES


class Lattice(NamedTuple):
    """Which voxels are sampled, and where descriptors are wanted.

    Sample i of an axis is voxel ``phase + step * i`` and stands for that voxel and the ``step - 1`` after it.
    Descriptors are wanted for the voxels of the core, which are those of the samples [first, last).
    """

    shape: tuple[int, int, int]
    step: int
    phase: tuple[int, int, int]
    core_begin: tuple[int, int, int]
    core_end: tuple[int, int, int]
    first: tuple[int, int, int]
    last: tuple[int, int, int]


class Runs(NamedTuple):
    """Runs of sampled voxels, sorted by label, z, y, x; those of label n are [starts[n], starts[n + 1])."""

    starts: np.ndarray
    z: np.ndarray
    y: np.ndarray
    begin: np.ndarray
    end: np.ndarray


class Cells(NamedTuple):
    """Cells, column by column, and within a column sorted by z, y, x.

    Attributes
    ----------
    label, z, place
        Of each cell; its place within the column is ``CELLS * y + x``.
    owned
        Of each cell: bit i is set if the label has voxels of the core in lane i.
    starts
        The cells of column c are [starts[c], starts[c + 1]).
    samples
        Of each column: the lanes owned by all its cells.
    order
        The cells sorted by label; those of a label as before.
    groups
        (n, 3): the cells of one label in one column are ``order[begin:end]``; begin, end and the column,
        sorted by column.
    """

    label: np.ndarray
    z: np.ndarray
    place: np.ndarray
    owned: np.ndarray
    starts: np.ndarray
    samples: np.ndarray
    order: np.ndarray
    groups: np.ndarray


@kernel
def number_labels(
    labels: np.ndarray,
    listed: np.ndarray,
    only_listed: bool,
    keys: np.ndarray,
    values: np.ndarray,
    numbers: np.ndarray,
) -> int:
    """Write the number of each voxel's label into `numbers`: 1, 2, ..., in order of appearance.

    0 stays 0; labels that are not `listed` get -1 if there are `only_listed` ones. `keys` (uint64) and
    `values` (int32, zeros) are the room for a hash table, their length a power of two. Returns the largest
    number, or -1 if there was not enough room.

    For labels `[[[7, 7, 0, 9]]]`, `numbers` becomes `[[[1, 1, 0, 2]]]` and 2 is returned; if only 9 is
    listed, `[[[-1, -1, 0, 1]]]` and 1.
    """
    count = np.int32(0)
    for i in range(listed.size):
        slot = _find(keys, values, listed[i])
        if values[slot] == 0:
            count += np.int32(1)
            keys[slot] = listed[i]
            values[slot] = count
    flat = labels.reshape(-1)
    out = numbers.reshape(-1)
    last = np.uint64(0)
    number = np.int32(0)
    for i in range(flat.size):
        key = np.uint64(flat[i])
        if key != last:
            last = key
            number = np.int32(0)
            if key != np.uint64(0):
                slot = _find(keys, values, key)
                number = values[slot]
                if number == 0 and only_listed:
                    number = np.int32(-1)
                elif number == 0:
                    if 2 * count >= keys.size:
                        return -1
                    count += np.int32(1)
                    number = count
                    keys[slot] = key
                    values[slot] = number
        out[i] = number
    return int(count)


@inner_device
def _find(keys: np.ndarray, values: np.ndarray, key: np.uint64) -> int:
    """Slot of `key` in an open-addressing hash table, or the free slot (value 0) where it belongs.

    In an empty table of four slots, key 1 belongs in slot 1.
    """
    mask = np.uint64(keys.size - 1)
    slot = (key * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32) & mask
    while values[np.int64(slot)] != 0 and keys[np.int64(slot)] != key:
        slot = (slot + np.uint64(1)) & mask
    return int(slot)


def find_runs(numbers: np.ndarray, lattice: Lattice, count: int) -> Runs:
    """Runs of the sampled voxels of `numbers`, which holds the label numbers 1 to `count`.

    For numbers `[[[1, 1, 0, 2]]]`, all of them sampled, the runs are [0, 2) of label 1 and [3, 4) of label 2.
    """
    starts = np.zeros(count + 2, np.int64)
    _count_runs(numbers, lattice, starts[1:])
    np.cumsum(starts, out=starts)
    parts = [np.empty(starts[-1], np.int32) for _ in range(4)]
    runs = Runs(starts, *parts)
    _collect_runs(numbers, lattice, starts.copy(), *parts)
    return runs


def find_cells(numbers: np.ndarray, lattice: Lattice, count: int) -> Cells:
    """Cells of the core of `numbers`, which holds the label numbers 1 to `count`.

    For numbers `[[[1, 1, 0, 2]]]` there are two cells, one of each label, both at place 0 of column 0.
    """
    columns = [-(-(lattice.last[axis] - lattice.first[axis]) // COLUMN) for axis in (1, 2)]
    starts = np.zeros(columns[0] * columns[1] + 1, np.int64)
    samples = np.zeros(columns[0] * columns[1], np.int64)
    # Room for a cell a voxel; memory that is never written to is never taken.
    most = math.prod(e - b for b, e in zip(lattice.core_begin, lattice.core_end, strict=True))
    label, z, place = (np.empty(most, np.int32) for _ in range(3))
    owned = np.empty(most, np.uint8)
    _collect_cells(numbers, lattice, starts, samples, label, z, place, owned)
    found = slice(0, starts[-1])
    order = _order_by_label(label[found], np.zeros(count + 2, np.int64))
    groups = _group_cells(label[found], starts, order)
    groups = groups[np.argsort(groups[:, 2], kind="stable")]
    return Cells(label[found], z[found], place[found], owned[found], starts, samples, order, groups)


@kernel
def _count_runs(numbers: np.ndarray, lattice: Lattice, counts: np.ndarray) -> None:
    """Add to counts[n] the number of runs of label n."""
    for z in range(lattice.phase[0], numbers.shape[0], lattice.step):
        for y in range(lattice.phase[1], numbers.shape[1], lattice.step):
            previous = 0
            for x in range(lattice.phase[2], numbers.shape[2], lattice.step):
                number = numbers[z, y, x]
                if number != previous and number > 0:
                    counts[number] += 1
                previous = number


@kernel
def _collect_runs(
    numbers: np.ndarray,
    lattice: Lattice,
    free: np.ndarray,
    run_z: np.ndarray,
    run_y: np.ndarray,
    run_begin: np.ndarray,
    run_end: np.ndarray,
) -> None:
    """Write the runs of label n from free[n] on, and move free[n] to their end."""
    step = lattice.step
    for z in range(lattice.phase[0], numbers.shape[0], step):
        for y in range(lattice.phase[1], numbers.shape[1], step):
            previous = 0
            samples = 0
            for x in range(lattice.phase[2], numbers.shape[2], step):
                number = numbers[z, y, x]
                if number != previous:
                    if previous > 0:
                        run_end[free[previous]] = samples
                        free[previous] += 1
                    if number > 0:
                        run_z[free[number]] = z // step
                        run_y[free[number]] = y // step
                        run_begin[free[number]] = samples
                previous = number
                samples += 1
            if previous > 0:
                run_end[free[previous]] = samples
                free[previous] += 1


@kernel
def _collect_cells(
    numbers: np.ndarray,
    lattice: Lattice,
    starts: np.ndarray,
    samples: np.ndarray,
    label: np.ndarray,
    cell_z: np.ndarray,
    place: np.ndarray,
    owned: np.ndarray,
) -> None:
    """Write the cells, where those of each column begin and end, and how many lanes they own."""
    at = 0
    for column in range(samples.size):
        y0, x0 = corner_of_column(lattice, column)
        for z in range(lattice.first[0], lattice.last[0]):
            for y in range(y0, min(y0 + COLUMN, lattice.last[1])):
                for x in range(x0, min(x0 + COLUMN, lattice.last[2]), LANES):
                    begin = at
                    at = _append_labels_of_cell(numbers, lattice, z, y, x, label, owned, at)
                    for cell in range(begin, at):
                        cell_z[cell] = z
                        place[cell] = CELLS * (y - y0) + (x - x0) // LANES
                        samples[column] += count_bits(owned[cell])
        starts[column + 1] = at


@kernel
def _order_by_label(label: np.ndarray, free: np.ndarray) -> np.ndarray:
    """Indices that sort the labels, equal ones in their order; `free` is zeros, one more than labels.

    For labels `[2, 1, 2]` they are `[1, 0, 2]`.
    """
    for cell in range(label.size):
        free[label[cell] + 1] += 1
    for number in range(1, free.size):
        free[number] += free[number - 1]
    order = np.empty(label.size, np.int32)
    for cell in range(label.size):
        order[free[label[cell]]] = cell
        free[label[cell]] += 1
    return order


@kernel
def _group_cells(label: np.ndarray, starts: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Begin, end and column of each stretch of `order` that is of one label and in one column."""
    groups = np.empty((order.size, 3), np.int32)
    count = 0
    column_end = 0
    for i in range(order.size):
        cell = order[i]
        if i == 0 or label[cell] != label[order[i - 1]] or cell >= column_end:
            column = np.searchsorted(starts, cell, side="right") - 1
            column_end = starts[column + 1]
            groups[count] = i, order.size, column
            if count > 0:
                groups[count - 1, 1] = i
            count += 1
    return groups[:count].copy()


@inner_device
def corner_of_column(lattice: Lattice, column: int) -> tuple[int, int]:
    """Y and x of a column's first samples."""
    columns = (lattice.last[2] - lattice.first[2] + COLUMN - 1) // COLUMN
    return lattice.first[1] + column // columns * COLUMN, lattice.first[2] + column % columns * COLUMN


@inner_device
def _append_labels_of_cell(
    numbers: np.ndarray,
    lattice: Lattice,
    z: int,
    y: int,
    x: int,
    label: np.ndarray,
    owned: np.ndarray,
    begin: int,
) -> int:
    """List the distinct labels of the core's voxels in the cell at sample (z, y, x), and the lanes they own.

    They are written from `begin` on; returns where they end.
    """
    end = begin
    step = lattice.step
    voxel_z, voxel_y, voxel_x = voxels_of_cell(lattice, z, y, x)
    first_x = lattice.phase[2] + step * x
    for i in range(voxel_z[0], voxel_z[1]):
        for j in range(voxel_y[0], voxel_y[1]):
            k = voxel_x[0]
            while k < voxel_x[1]:
                number = numbers[i, j, k]
                lane = (k - first_x) // step
                k += 1
                while k < voxel_x[1] and numbers[i, j, k] == number:
                    k += 1
                if number <= 0:
                    continue
                cell = begin
                while cell < end and label[cell] != number:
                    cell += 1
                if cell == end:
                    label[cell] = number
                    owned[cell] = 0
                    end += 1
                owned[cell] |= np.uint8((2 << (k - 1 - first_x) // step) - (1 << lane))
    return end


@inner_device
def count_bits(bits: int) -> int:
    """How many of the lowest eight bits are set, 3 of 0b1101."""
    count = 0
    for lane in range(LANES):
        count += (bits >> lane) & 1
    return count


@inner_device
def voxels_of_cell(
    lattice: Lattice, z: int, y: int, x: int
) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    """Begin and end along z, y and x of the core's voxels in the cell that begins at sample (z, y, x)."""
    step = lattice.step
    voxel_z = lattice.phase[0] + step * z
    voxel_y = lattice.phase[1] + step * y
    voxel_x = lattice.phase[2] + step * x
    return (
        (max(voxel_z, lattice.core_begin[0]), min(voxel_z + step, lattice.core_end[0])),
        (max(voxel_y, lattice.core_begin[1]), min(voxel_y + step, lattice.core_end[1])),
        (max(voxel_x, lattice.core_begin[2]), min(voxel_x + step * LANES, lattice.core_end[2])),
    )


@device
def first_group_of(cells: Cells, column: int) -> int:
    """The first group of a column or a later one."""
    return int(np.searchsorted(cells.groups[:, 2], column))


@inner_device
def planes_in_reach(runs: Runs, label: int, first: int, last: int) -> tuple[int, int]:
    """The first and last plane in [first, last] that may hold the label; `first` and the one before if none.

    Where runs are in planes 2 and 5, the planes in reach of [0, 4] are 2 to 4.
    """
    begin, end = runs.starts[label], runs.starts[label + 1]
    if begin == end:
        return first, first - 1
    return max(first, runs.z[begin]), min(last, runs.z[end - 1])


@inner_device
def first_run_of(runs: Runs, begin: int, end: int, z: int, y: int) -> int:
    """First of the runs [begin, end) that lies at (z, y) or after; found the sooner the nearer to `begin`."""
    run_z, run_y = runs.z, runs.y
    stride = 1
    while begin + stride <= end:
        probe = begin + stride - 1
        if run_z[probe] > z or (run_z[probe] == z and run_y[probe] >= y):
            end = probe
            break
        begin = probe + 1
        stride *= 2
    while begin < end:
        middle = (begin + end) // 2
        if run_z[middle] < z or (run_z[middle] == z and run_y[middle] < y):
            begin = middle + 1
        else:
            end = middle
    return begin
