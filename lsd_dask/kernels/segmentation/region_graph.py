"""Counting kernels of the region adjacency graph: affinities between fragments, pair by pair.

Two-dimensional data come as three-dimensional with one section.
"""

import numpy as np

from ..compiling import device, inner_device, kernel
from ..hashing import doubled, doubled_rows, new_recent, new_slots, place, rehashed, slot

BINS = 256


@kernel
def list_faces(
    affinities: np.ndarray,
    haloed: np.ndarray,
    row_starts: np.ndarray,
    numbers: np.ndarray,
    ends: np.ndarray,
    start: np.ndarray,
    neighborhood: np.ndarray,
    face_rows: np.ndarray,
    face_values: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Every pair of touching fragments of a block, and every affinity between two fragments.

    `affinities` is ``(c, z, y, x)`` unsigned integers of the block's own voxels; `row_starts`, `numbers` and
    `ends` are the runs of the fragments of shape `haloed` (see `list_runs`), in which the block's first voxel
    is at `start`; channel c joins p and p + neighborhood[c]. `face_rows` (int32) and `face_values` (of the
    type of the affinities) are room for what is found, and replaced by larger ones if need be. Returns pairs
    ``(n, 2)`` int32 in order of appearance, the smaller number first; int64 ``(n,)`` numbers of affinities,
    and of those between direct neighbours; and for every affinity between two fragments the row of its pair
    (int32) and its value.

    For example runs of fragments [[[1, 2, 2]]] and x-affinities [9, 5, 8] give pairs [[1, 2]], counts [1] and
    [1], rows [0] and values [5].
    """
    channels, depth, height, width = affinities.shape
    row_of_pair = new_slots(1 << 12)
    recent = new_recent()
    segment_keys = np.empty(width + 1, np.uint64)
    segment_begins = np.empty(width + 1, np.int64)
    segment_ends = np.empty(width + 1, np.int64)
    pairs = np.empty((1 << 10, 2), np.int32)
    counts = np.zeros((1 << 10, 2), np.int64)
    found = 0
    faces = 0
    for z in range(depth):
        for y in range(height):
            # Room for all that a row can bring, so that nothing has to grow within it.
            while faces + channels * width > face_rows.size:
                face_rows = doubled(face_rows)
                face_values = doubled(face_values)
            while found + channels * width > len(pairs):
                pairs = doubled_rows(pairs)
                counts = doubled_rows(counts)
            while 2 * (found + channels * width) > row_of_pair[0].size:
                row_of_pair = rehashed(*row_of_pair)
            for c in range(channels):
                dz, dy, dx = neighborhood[c]
                other_z = start[0] + z + dz
                other_y = start[1] + y + dy
                if not (0 <= other_z < haloed[0] and 0 <= other_y < haloed[1]):
                    continue
                end = min(width, haloed[2] - start[2] - dx)
                if end <= max(0, -start[2] - dx):
                    continue
                own = row_starts[(start[0] + z) * haloed[1] + start[1] + y]
                if dz == 0 and dy == 0 and dx == -1:
                    segments = _neighbours_in_row(
                        numbers[own:], ends[own:], start[2], end, segment_keys, segment_begins, segment_ends
                    )
                else:
                    other = row_starts[other_z * haloed[1] + other_y]
                    segments = _neighbours_of_rows(
                        numbers[own:],
                        ends[own:],
                        start[2],
                        numbers[other:],
                        ends[other:],
                        start[2] + dx,
                        end,
                        segment_keys,
                        segment_begins,
                        segment_ends,
                    )
                found, faces = _add_segments(
                    affinities[c, z, y],
                    int(abs(dz) + abs(dy) + abs(dx) == 1),
                    segment_keys[:segments],
                    segment_begins,
                    segment_ends,
                    row_of_pair,
                    recent,
                    pairs,
                    counts,
                    found,
                    face_rows,
                    face_values,
                    faces,
                )
    return (
        pairs[:found].copy(),
        counts[:found, 0].copy(),
        counts[:found, 1].copy(),
        face_rows[:faces],
        face_values[:faces],
    )


@inner_device
def _neighbours_of_rows(
    numbers: np.ndarray,
    ends: np.ndarray,
    shift: int,
    other_numbers: np.ndarray,
    other_ends: np.ndarray,
    other_shift: int,
    width: int,
    keys: np.ndarray,
    begins: np.ndarray,
    stops: np.ndarray,
) -> int:
    """Stretches of a row along which two fragments lie side by side; how many there are.

    The runs of the row and those of the row it is compared with are walked together: voxel x of the block is
    at ``x + shift`` in the one and at ``x + other_shift`` in the other. A key has the smaller number in its
    upper half.

    For example runs of fragments [1, 1, 2] and [1, 2, 2] give one stretch, from 1 to 2, with key (1, 2).
    """
    own = 0
    other = 0
    x = max(0, -other_shift)
    while ends[own] - shift <= x:
        own += 1
    while other_ends[other] - other_shift <= x:
        other += 1
    # Without branches, which could not be foreseen: a stretch is written at each step, and kept if it is one.
    segments = 0
    while x < width:
        own_end = ends[own] - shift
        other_end = other_ends[other] - other_shift
        end = min(width, min(own_end, other_end))
        a = numbers[own]
        b = other_numbers[other]
        keys[segments] = np.uint64(min(a, b)) << np.uint64(32) | np.uint64(max(a, b))
        begins[segments] = x
        stops[segments] = end
        segments += (a != b) & (min(a, b) > 0)
        own += int(own_end == end)
        other += int(other_end == end)
        x = end
    return segments


@inner_device
def _neighbours_in_row(
    numbers: np.ndarray,
    ends: np.ndarray,
    shift: int,
    width: int,
    keys: np.ndarray,
    begins: np.ndarray,
    stops: np.ndarray,
) -> int:
    """`_neighbours_of_rows` of a row and itself, one voxel earlier: where one run ends and the next begins.

    For example runs of fragments [1, 1, 2] give one stretch, from 2 to 3, with key (1, 2).
    """
    run = 0
    while ends[run] - shift < 0:
        run += 1
    segments = 0
    x = ends[run] - shift
    while x < width:
        a = numbers[run]
        b = numbers[run + 1]
        keys[segments] = np.uint64(min(a, b)) << np.uint64(32) | np.uint64(max(a, b))
        begins[segments] = x
        stops[segments] = x + 1
        segments += min(a, b) > 0
        run += 1
        x = ends[run] - shift
    return segments


@inner_device
def _add_segments(
    affinities: np.ndarray,
    direct: int,
    segment_keys: np.ndarray,
    segment_begins: np.ndarray,
    segment_ends: np.ndarray,
    row_of_pair: tuple[np.ndarray, np.ndarray],
    recent: tuple[np.ndarray, np.ndarray],
    pairs: np.ndarray,
    counts: np.ndarray,
    found: int,
    face_rows: np.ndarray,
    face_values: np.ndarray,
    faces: int,
) -> tuple[int, int]:
    """The part of `list_faces` of one row and one channel; numbers of pairs and of faces thereafter."""
    keys, rows = row_of_pair
    recent_keys, recent_rows = recent
    for segment in range(segment_keys.size):
        key = segment_keys[segment]
        recently = place(key)
        if recent_keys[recently] != key:
            at = slot(keys, key)
            if keys[at] == 0:
                keys[at] = key
                rows[at] = found
                pairs[found, 0] = key >> np.uint64(32)
                pairs[found, 1] = key & np.uint64(0xFFFFFFFF)
                counts[found, 0] = 0
                counts[found, 1] = 0
                found += 1
            recent_keys[recently] = key
            recent_rows[recently] = rows[at]
        row = recent_rows[recently]
        begin = segment_begins[segment]
        length = segment_ends[segment] - begin
        counts[row, 0] += length
        counts[row, 1] += length * direct
        # Most stretches are one face long; a loop that may not run at all would cost more than the face.
        face_rows[faces] = row
        face_values[faces] = affinities[begin]
        for i in range(1, length):
            face_rows[faces + i] = row
            face_values[faces + i] = affinities[begin + i]
        faces += length
    return found, faces


@kernel
def summarise_faces(
    order: np.ndarray,
    counts: np.ndarray,
    face_rows: np.ndarray,
    face_values: np.ndarray,
    shift: int,
    values: np.ndarray,
    bins: np.ndarray,
    bin_counts: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Statistics of the affinities of each pair, the pairs in a given order.

    Takes what `list_faces` found; a value's bin is ``value >> shift``. `values` (of the type of the
    affinities) is room to sort them in, `bins` (uint8) and `bin_counts` (uint32) for the histograms: for one
    entry more than there are faces, because every bin that is looked at is written, and kept if it is not
    empty. Returns int64 columns ``(n, 2)``: sum and maximum; and the histograms in compressed rows: row
    starts ``(n + 1,)``, bins, counts.

    For example order [1, 0], counts [2, 1], rows [0, 1, 0] and values [5, 9, 5] (shift 0) give columns
    [[9, 9], [10, 5]], starts [0, 1, 2], bins [9, 5] and counts [1, 2].
    """
    n = order.size
    begins = np.empty(n, np.int64)
    place = np.empty(n, np.int64)
    total = 0
    for e in order:
        begins[e] = total
        place[e] = total
        total += counts[e]
    for f in range(total):
        row = face_rows[f]
        values[place[row]] = face_values[f]
        place[row] += 1
    columns = np.zeros((n, 2), np.int64)
    starts = np.zeros(n + 1, np.int64)
    dense = np.zeros(BINS, np.int64)
    used = 0
    for i in range(n):
        e = order[i]
        summed = np.int64(0)
        smallest = largest = np.int64(values[begins[e]])
        for f in range(begins[e], place[e]):
            value = np.int64(values[f])
            summed += value
            smallest = min(smallest, value)
            largest = max(largest, value)
            dense[value >> shift] += 1
        columns[i, 0] = summed
        columns[i, 1] = largest
        for b in range(smallest >> shift, (largest >> shift) + 1):
            bins[used] = b
            bin_counts[used] = dense[b]
            used += dense[b] > 0
            dense[b] = 0
        starts[i + 1] = used
    # Not copied: what was never touched takes no memory.
    return columns, starts, bins[:used], bin_counts[:used]


@kernel
def add_histograms(
    rows: np.ndarray, groups: np.ndarray, starts: np.ndarray, bins: np.ndarray, counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Add the histograms of groups of rows: ``rows[groups[g]:groups[g + 1]]`` make row g of the result.

    For example rows [0, 1], groups [0, 2], starts [0, 1, 2], bins [5, 5], counts [1, 2] give starts [0, 1],
    bins [5], counts [3].
    """
    n = groups.size - 1
    room = 0
    for row in rows:
        room += starts[row + 1] - starts[row]
    out_starts = np.zeros(n + 1, np.int64)
    out_bins = np.empty(room, np.uint8)
    out_counts = np.empty(room, np.uint32)
    dense = np.zeros(BINS, np.int64)
    used = 0
    for g in range(n):
        if groups[g + 1] == groups[g] + 1:
            row = rows[groups[g]]
            for k in range(starts[row], starts[row + 1]):
                out_bins[used] = bins[k]
                out_counts[used] = counts[k]
                used += 1
        else:
            for r in range(groups[g], groups[g + 1]):
                row = rows[r]
                for k in range(starts[row], starts[row + 1]):
                    dense[bins[k]] += counts[k]
            used = _flush(dense, out_bins, out_counts, used)
        out_starts[g + 1] = used
    # Not copied: what was never touched takes no memory.
    return out_starts, out_bins[:used], out_counts[:used]


@device
def _flush(dense: np.ndarray, bins: np.ndarray, counts: np.ndarray, used: int) -> int:
    """Append the non-zero entries of a dense histogram to sparse ones, and clear it."""
    for b in range(BINS):
        if dense[b] > 0:
            bins[used] = b
            counts[used] = dense[b]
            used += 1
            dense[b] = 0
    return used
