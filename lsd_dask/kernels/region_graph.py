"""Counting kernels of the region adjacency graph: one pass over the voxels for nodes, one for faces.

Two-dimensional data come as three-dimensional with one section.
"""

import numpy as np

from .compiling import device, kernel

BINS = 256


@kernel
def count_nodes(
    fragments: np.ndarray, affinities: np.ndarray, origin: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Size, position and affinity of every fragment in a block.

    `fragments` is ``(z, y, x)`` uint64, `affinities` ``(c, z, y, x)`` unsigned integers over the same voxels
    (only the channels that count), `origin` the index of the first voxel in the volume. Returns ids ``(n,)``,
    in order of appearance, and int64 columns ``(n, 11)``: size; sums of z, y, x; minima of z, y, x; maxima
    of z, y, x, plus 1; sum of the affinities.

    For example one fragment 7 at voxels (0, 0, 0) and (0, 0, 1) with affinities 3 and 4 gives ids [7] and
    [[2, 0, 0, 1, 0, 0, 0, 1, 1, 2, 7]].
    """
    depth, height, width = fragments.shape
    slots, mask = _new_slots(1 << 12)
    ids = np.empty(1 << 10, np.uint64)
    columns = np.empty((1 << 10, 11), np.int64)
    n = 0
    for z in range(depth):
        for y in range(height):
            previous = np.uint64(0)
            i = 0
            for x in range(width):
                fragment = fragments[z, y, x]
                if fragment == 0:
                    continue
                if fragment != previous:
                    previous = fragment
                    slot = _hash(fragment) & mask
                    while slots[slot] >= 0 and ids[slots[slot]] != fragment:
                        slot = (slot + np.uint64(1)) & mask
                    i = slots[slot]
                    if i < 0:
                        if n == ids.size:
                            ids = _doubled(ids)
                            columns = _doubled_rows(columns)
                        i = n
                        n += 1
                        slots[slot] = i
                        ids[i] = fragment
                        for column in range(11):
                            columns[i, column] = 0
                        columns[i, 4] = z
                        columns[i, 5] = y
                        columns[i, 6] = x
                        if 2 * n > slots.size:
                            slots, mask = _new_slots(2 * slots.size)
                            for j in range(n):
                                slot = _hash(ids[j]) & mask
                                while slots[slot] >= 0:
                                    slot = (slot + np.uint64(1)) & mask
                                slots[slot] = j
                columns[i, 0] += 1
                columns[i, 1] += z
                columns[i, 2] += y
                columns[i, 3] += x
                columns[i, 4] = min(columns[i, 4], z)
                columns[i, 5] = min(columns[i, 5], y)
                columns[i, 6] = min(columns[i, 6], x)
                columns[i, 7] = max(columns[i, 7], z + 1)
                columns[i, 8] = max(columns[i, 8], y + 1)
                columns[i, 9] = max(columns[i, 9], x + 1)
                for c in range(affinities.shape[0]):
                    columns[i, 10] += np.int64(affinities[c, z, y, x])
    for i in range(n):
        for axis in range(3):
            columns[i, 1 + axis] += origin[axis] * columns[i, 0]
            columns[i, 4 + axis] += origin[axis]
            columns[i, 7 + axis] += origin[axis]
    return ids[:n].copy(), columns[:n].copy()


@kernel
def count_faces(
    affinities: np.ndarray, fragments: np.ndarray, start: np.ndarray, neighborhood: np.ndarray, shift: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Every pair of touching fragments in a block, with statistics of the affinities between them.

    `affinities` is ``(c, z, y, x)`` unsigned integers of the block's own voxels, `fragments` ``(z, y, x)``
    uint64 with a halo, the block's first voxel at `start`; channel c joins p and p + neighborhood[c]; a
    value's bin is ``value >> shift``. Returns, in order of appearance: pairs ``(n, 2)`` with the smaller id
    first; int64 columns ``(n, 4)``: affinities counted, those of direct neighbours among them, sum, maximum;
    and the histograms in compressed rows: row starts ``(n + 1,)``, bins, counts.

    For example fragments [[[1, 2, 2]]] and x-affinities [9, 5, 8] (shift 0) give pairs [[1, 2]], columns
    [[1, 1, 5, 5]], and the histogram {5: 1}.
    """
    channels, depth, height, width = affinities.shape
    slots, mask = _new_slots(1 << 12)
    pairs = np.empty((1 << 10, 2), np.uint64)
    columns = np.empty((1 << 10, 4), np.int64)
    face_edges = np.empty(1 << 14, np.int32)
    face_bins = np.empty(1 << 14, np.uint8)
    n = 0
    faces = 0
    for c in range(channels):
        dz, dy, dx = neighborhood[c]
        direct = abs(dz) + abs(dy) + abs(dx) == 1
        for z in range(depth):
            fz = start[0] + z
            if fz + dz < 0 or fz + dz >= fragments.shape[0]:
                continue
            for y in range(height):
                fy = start[1] + y
                if fy + dy < 0 or fy + dy >= fragments.shape[1]:
                    continue
                last_u = np.uint64(0)
                last_v = np.uint64(0)
                edge = 0
                for x in range(width):
                    fx = start[2] + x
                    if fx + dx < 0 or fx + dx >= fragments.shape[2]:
                        continue
                    u = fragments[fz, fy, fx]
                    v = fragments[fz + dz, fy + dy, fx + dx]
                    if u == v or u == 0 or v == 0:
                        continue
                    if u > v:
                        u, v = v, u
                    if u != last_u or v != last_v:
                        last_u = u
                        last_v = v
                        slot = _hash_pair(u, v) & mask
                        while slots[slot] >= 0 and (pairs[slots[slot], 0] != u or pairs[slots[slot], 1] != v):
                            slot = (slot + np.uint64(1)) & mask
                        edge = slots[slot]
                        if edge < 0:
                            if n == len(pairs):
                                pairs = _doubled_rows(pairs)
                                columns = _doubled_rows(columns)
                            edge = n
                            n += 1
                            slots[slot] = edge
                            pairs[edge, 0] = u
                            pairs[edge, 1] = v
                            for column in range(4):
                                columns[edge, column] = 0
                            if 2 * n > slots.size:
                                slots, mask = _new_slots(2 * slots.size)
                                for j in range(n):
                                    slot = _hash_pair(pairs[j, 0], pairs[j, 1]) & mask
                                    while slots[slot] >= 0:
                                        slot = (slot + np.uint64(1)) & mask
                                    slots[slot] = j
                    value = np.int64(affinities[c, z, y, x])
                    columns[edge, 0] += 1
                    columns[edge, 1] += direct
                    columns[edge, 2] += value
                    columns[edge, 3] = max(columns[edge, 3], value)
                    if faces == face_edges.size:
                        face_edges = _doubled(face_edges)
                        face_bins = _doubled(face_bins)
                    face_edges[faces] = edge
                    face_bins[faces] = value >> shift
                    faces += 1
    starts, bins, counts = _histograms(face_edges[:faces], face_bins[:faces], n)
    return pairs[:n].copy(), columns[:n].copy(), starts, bins, counts


@device
def _histograms(
    face_edges: np.ndarray, face_bins: np.ndarray, n: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compressed histogram rows of `n` edges from one (edge, bin) a face.

    For example edges [0, 1, 0], bins [5, 9, 5] give starts [0, 1, 2], bins [5, 9], counts [2, 1].
    """
    ends = np.zeros(n + 1, np.int64)
    for f in range(face_edges.size):
        ends[face_edges[f] + 1] += 1
    for e in range(n):
        ends[e + 1] += ends[e]
    place = ends[:n].copy()
    sorted_bins = np.empty(face_bins.size, np.uint8)
    for f in range(face_edges.size):
        e = face_edges[f]
        sorted_bins[place[e]] = face_bins[f]
        place[e] += 1
    starts = np.zeros(n + 1, np.int64)
    bins = np.empty(face_bins.size, np.uint8)
    counts = np.empty(face_bins.size, np.int64)
    dense = np.zeros(BINS, np.int64)
    used = 0
    for e in range(n):
        for f in range(ends[e], ends[e + 1]):
            dense[sorted_bins[f]] += 1
        used = _flush(dense, bins, counts, used)
        starts[e + 1] = used
    return starts, bins[:used].copy(), counts[:used].copy()


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
    out_counts = np.empty(room, np.int64)
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
    return out_starts, out_bins[:used].copy(), out_counts[:used].copy()


@device
def _new_slots(size: int) -> tuple[np.ndarray, np.uint64]:
    """An empty open-addressing table (-1 is free) of a power-of-two size, and the mask for its slots."""
    return np.full(size, -1, np.int64), np.uint64(size - 1)


@device
def _hash(key: np.uint64) -> np.uint64:
    """Finaliser of splitmix64: spreads every bit of the key over all bits (0 stays 0)."""
    key ^= key >> np.uint64(30)
    key *= np.uint64(0xBF58476D1CE4E5B9)
    key ^= key >> np.uint64(27)
    key *= np.uint64(0x94D049BB133111EB)
    return key ^ (key >> np.uint64(31))


@device
def _hash_pair(u: np.uint64, v: np.uint64) -> np.uint64:
    """Hash of an ordered pair."""
    return _hash(_hash(u) + np.uint64(0x9E3779B97F4A7C15) + v)


@device
def _doubled(a: np.ndarray) -> np.ndarray:
    """A copy with room for twice as many elements."""
    b = np.empty(2 * a.size, a.dtype)
    for i in range(a.size):
        b[i] = a[i]
    return b


@device
def _doubled_rows(a: np.ndarray) -> np.ndarray:
    """A copy with room for twice as many rows."""
    b = np.empty((2 * a.shape[0], a.shape[1]), a.dtype)
    for i in range(a.shape[0]):
        for j in range(a.shape[1]):
            b[i, j] = a[i, j]
    return b
