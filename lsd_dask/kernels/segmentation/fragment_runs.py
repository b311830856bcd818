"""Fragments as runs along x: one pass over the voxels, after which nothing has to look at each of them.

Two-dimensional data come as three-dimensional with one section.
"""

import numpy as np

from ..compiling import inner_device, kernel
from ..hashing import doubled, doubled_rows, new_recent, new_slots, place, rehashed, slot


@kernel
def list_runs(
    fragments: np.ndarray,
    affinities: np.ndarray,
    start: np.ndarray,
    origin: np.ndarray,
    numbers: np.ndarray,
    ends: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Fragments of a block and its halo as runs along x; size, position, affinity of those in the block.

    `fragments` is ``(z, y, x)`` uint64 with a halo, the block's first voxel at `start`, which is voxel
    `origin` of the volume; `affinities` is ``(c, z, y, x)`` unsigned integers of the block's own voxels (only
    the channels that count). `numbers` and `ends` (int32) are room for runs, and replaced by larger ones if
    need be. Fragments get numbers in order of appearance, the background has 0. Returns ids ``(n,)`` by
    number; int64 columns ``(n, 11)``: size; sums of z, y, x; minima of z, y, x; maxima of z, y, x, plus 1;
    sum of the affinities; and the runs of each row (z, y): where they begin in the list of runs,
    ``(rows + 1,)`` int64, and for each run its fragment's number and its end in x, int32.

    For example one fragment 7 at voxels (0, 0, 0) and (0, 0, 1) with affinities 3 and 4 gives ids [0, 7],
    columns [..., [2, 0, 0, 1, 0, 0, 0, 1, 1, 2, 7]], row starts [0, 1], numbers [1] and ends [2].
    """
    depth, height, width = fragments.shape
    core_depth, core_height, core_width = affinities.shape[1:]
    row_starts = np.zeros(depth * height + 1, np.int64)
    number_of_id = new_slots(1 << 12)
    recent = new_recent()
    ids = np.zeros(1 << 10, np.uint64)
    columns = np.zeros((1 << 10, 11), np.int64)
    running = np.zeros(core_width + 1, np.int64)
    found = 1
    begin = 0
    for z in range(depth):
        for y in range(height):
            # Room for all that a row can bring, so that nothing has to grow within it.
            while begin + width > numbers.size:
                numbers = doubled(numbers)
                ends = doubled(ends)
            while found + width > ids.size:
                ids = doubled(ids)
                columns = doubled_rows(columns)
            while 2 * (found + width) > number_of_id[0].size:
                number_of_id = rehashed(*number_of_id)
            runs, found = _runs_of_row(
                fragments[z, y],
                number_of_id,
                recent,
                ids,
                columns,
                found,
                numbers[begin:],
                ends[begin:],
            )
            core_z, core_y = z - start[0], y - start[1]
            if 0 <= core_z < core_depth and 0 <= core_y < core_height:
                _running_sums(affinities, core_z, core_y, running)
                first = 0
                for run in range(begin, begin + runs):
                    last = min(ends[run] - start[2], core_width)
                    if numbers[run] > 0 and first < last:
                        _add_run(
                            columns[numbers[run]],
                            core_z + origin[0],
                            core_y + origin[1],
                            first + origin[2],
                            last - first,
                            running[last] - running[first],
                        )
                    first = max(last, 0)
            begin += runs
            row_starts[z * height + y + 1] = begin
    return ids[:found].copy(), columns[:found].copy(), row_starts, numbers[:begin], ends[:begin]


@inner_device
def _runs_of_row(
    fragments: np.ndarray,
    number_of_id: tuple[np.ndarray, np.ndarray],
    recent: tuple[np.ndarray, np.ndarray],
    ids: np.ndarray,
    columns: np.ndarray,
    found: int,
    numbers: np.ndarray,
    ends: np.ndarray,
) -> tuple[int, int]:
    """Write the runs of a row of fragments; how many there are, and how many fragments are known thereafter.

    For example [7, 7, 9], 7 being number 1 and 9 unknown, gives numbers [1, 2] and ends [2, 3].
    """
    keys, values = number_of_id
    recent_ids, recent_numbers = recent
    # Without branches, which could not be foreseen: an end is written at every voxel, and kept if it is one.
    runs = 0
    for x in range(1, fragments.size):
        ends[runs] = x
        runs += fragments[x] != fragments[x - 1]
    ends[runs] = fragments.size
    runs += 1
    for run in range(runs):
        fragment = fragments[ends[run] - 1]
        if fragment == 0:
            numbers[run] = 0
            continue
        recently = place(fragment)
        if recent_ids[recently] != fragment:
            at = slot(keys, fragment)
            if keys[at] == 0:
                keys[at] = fragment
                values[at] = found
                ids[found] = fragment
                for column in range(columns.shape[1]):
                    columns[found, column] = 0
                found += 1
            recent_ids[recently] = fragment
            recent_numbers[recently] = values[at]
        numbers[run] = recent_numbers[recently]
    return runs, found


@inner_device
def _running_sums(affinities: np.ndarray, z: int, y: int, running: np.ndarray) -> None:
    """Sums over all channels of the voxels before each voxel of a row, its end included.

    For example affinities 3, 4 and 1 of one channel give [0, 3, 7, 8].
    """
    for x in range(affinities.shape[3]):
        running[x + 1] = 0
    for c in range(affinities.shape[0]):
        for x in range(affinities.shape[3]):
            running[x + 1] += np.int64(affinities[c, z, y, x])
    total = np.int64(0)
    for x in range(affinities.shape[3]):
        total += running[x + 1]
        running[x + 1] = total


@inner_device
def _add_run(columns: np.ndarray, z: int, y: int, x: int, length: int, affinity: int) -> None:
    """Add `length` voxels along x, from (z, y, x) on, with a sum of affinities, to a fragment's columns."""
    if columns[0] == 0:
        columns[4] = z
        columns[5] = y
        columns[6] = x
        columns[7] = z + 1
        columns[8] = y + 1
        columns[9] = x + length
    columns[0] += length
    columns[1] += z * length
    columns[2] += y * length
    columns[3] += x * length + length * (length - 1) // 2
    columns[4] = min(columns[4], z)
    columns[5] = min(columns[5], y)
    columns[6] = min(columns[6], x)
    columns[7] = max(columns[7], z + 1)
    columns[8] = max(columns[8], y + 1)
    columns[9] = max(columns[9], x + length)
    columns[10] += affinity
