"""Agglomeration: contract the best edge, add the tables of parallel edges, go on.

Nodes are 0 ... n - 1. The smaller side of a contraction (by edges) is moved into the larger, so an edge is
touched a logarithmic number of times however many nodes its ends absorb. An edge that absorbs parallel ones
is scored anew only when it is next in the queue: its score cannot have become better than the best of
theirs, under which it waits until then.
"""

import numpy as np

from ..compiling import device, kernel

LEVELS = 256
#: Steps of a level that tell who goes first in it.
FINE = 256
#: `quantile` argument of `contract` that asks for the mean.
MEAN = -1


@kernel
def contract(
    node_count: int,
    ends: np.ndarray,
    counts: np.ndarray,
    sums: np.ndarray,
    starts: np.ndarray,
    bins: np.ndarray,
    bin_counts: np.ndarray,
    ranks: np.ndarray,
    frozen: np.ndarray,
    quantile: int,
    scale: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The merge forest of a region graph: again and again, contract the edge that is first by level and rank.

    An edge to a frozen node is not contracted, and freezes the node at its other end: that one's best edge
    stays its best, whatever is merged elsewhere, so it can join nobody before what is frozen does.

    Parameters
    ----------
    node_count
        Number of nodes.
    ends
        ``(e, 2)`` int64, nodes of each edge, each pair once, no loops.
    counts, sums
        ``(e,)`` int64, number and sum of the affinities of each edge (used for the mean).
    starts, bins, bin_counts
        Histograms of the edges in compressed rows (used for a quantile).
    ranks
        ``(e,)`` int64, different for all edges: who goes first of those on a level. An edge that absorbs a
        parallel one takes the later of their ranks.
    frozen
        ``(node_count,)`` bool, nodes that have edges which are not among these.
    quantile
        Percentage, or `MEAN`.
    scale
        The integer that stands for affinity 1 in `sums`.

    Returns
    -------
    parents, levels
        ``(node_count,)`` int64: at level ``levels[i]`` the component whose smallest node is i joined the one
        whose smallest node is ``parents[i]``; levels are `LEVELS` (and parents are i) for what stayed a root.
    left_ends, left_ranks, left_columns, left_starts, left_bins, left_bin_counts
        The edges that are left, between components by their smallest nodes: as the arguments of these names,
        columns ``(m, 2)`` being counts and sums, and counts of bins int64.

    Examples
    --------
    A path 0 - 1 - 2 with affinity bins 200 and 100: 1 joins 0 at level 55, then 2 joins them at level 155, so
    parents are [0, 0, 0] and levels [256, 55, 155]. With node 2 frozen, levels are [256, 55, 256], and the
    edge between 0 and 2 is left. With node 0 frozen, both edges are.
    """
    edge_count = len(ends)
    u = ends[:, 0].copy()
    v = ends[:, 1].copy()
    counts = counts.copy()
    sums = sums.copy()
    alive = np.ones(edge_count, np.bool_)

    hist_begin = starts[:-1].copy()
    hist_end = starts[1:].copy()
    # Histograms are those given, or, once an edge has absorbed others, in a pool of sums.
    summed = np.zeros(edge_count, np.bool_)
    pool_bins = np.empty(LEVELS, bins.dtype)
    pool_counts = np.empty(LEVELS, np.int64)
    pool_used = 0
    dense = np.zeros(LEVELS, np.int64)
    # Edges that were absorbed and not counted yet, a list for each edge: the next one, and the last one.
    following_part = np.full(edge_count, -1, np.int64)
    last_part = np.arange(edge_count)
    outdated = np.zeros(edge_count, np.bool_)

    levels = np.empty(edge_count, np.int64)
    for e in range(edge_count):
        levels[e] = _level(counts[e], sums[e], bins, bin_counts, hist_begin[e], hist_end[e], quantile, scale)
    ranks = ranks.copy()
    frozen = frozen.copy()
    keys = np.empty(edge_count, np.int64)
    heap = np.empty(max(16, edge_count), np.int64)
    heap_edges = np.empty(heap.size, np.int64)
    waiting = 0
    for e in range(edge_count):
        keys[e] = _key(levels[e], ranks[e])
        waiting = _push(heap, heap_edges, waiting, keys[e], e)

    # Half-edges 2e (at u) and 2e + 1 (at v), linked by node.
    head = np.full(node_count, -1, np.int64)
    tail = np.full(node_count, -1, np.int64)
    degree = np.zeros(node_count, np.int64)
    following = np.full(2 * edge_count, -1, np.int64)
    for e in range(edge_count):
        _append(head, tail, following, u[e], 2 * e)
        _append(head, tail, following, v[e], 2 * e + 1)
        degree[u[e]] += 1
        degree[v[e]] += 1

    slots, mask, filled = _fill_slots(u, v, alive, edge_count)

    root = np.arange(node_count)
    smallest = np.arange(node_count)
    parents = np.arange(node_count)
    retired_at = np.full(node_count, LEVELS, np.int64)
    retired = np.empty(node_count, np.int64)
    retirements = 0
    level = 0

    while waiting > 0:
        key, e = heap[0], heap_edges[0]
        waiting = _pop(heap, heap_edges, waiting)
        if not alive[e]:
            continue
        if outdated[e]:
            outdated[e] = False
            if quantile != MEAN:
                if pool_used + LEVELS > pool_bins.size:
                    pool_bins, pool_counts, pool_used = _compact(
                        pool_bins, pool_counts, hist_begin, hist_end, summed
                    )
                part = e
                while part >= 0:
                    begin, end = hist_begin[part], hist_end[part]
                    if summed[part]:
                        _add(dense, pool_bins[begin:end], pool_counts[begin:end])
                    else:
                        _add(dense, bins[begin:end], bin_counts[begin:end])
                    hist_end[part] = begin
                    upcoming_part = following_part[part]
                    following_part[part] = -1
                    part = upcoming_part
                summed[e] = True
                hist_begin[e] = pool_used
                pool_used = _move(dense, pool_bins, pool_counts, pool_used)
                hist_end[e] = pool_used
                last_part[e] = e
            levels[e] = _level(
                counts[e], sums[e], pool_bins, pool_counts, hist_begin[e], hist_end[e], quantile, scale
            )
            keys[e] = _key(levels[e], ranks[e])
            if keys[e] != key:
                waiting = _push(heap, heap_edges, waiting, keys[e], e)
                continue
        if frozen[u[e]] or frozen[v[e]]:
            frozen[u[e]] = True
            frozen[v[e]] = True
            continue
        if levels[e] // FINE > level:
            _name_parents(retired, retirements, parents, smallest, root)
            retirements = 0
            level = levels[e] // FINE
        small, large = u[e], v[e]
        if degree[small] > degree[large]:
            small, large = large, small
        node = max(smallest[small], smallest[large])
        retired[retirements] = node
        retirements += 1
        retired_at[node] = level
        smallest[large] = min(smallest[small], smallest[large])
        root[small] = large

        half = head[small]
        while half >= 0:
            upcoming = following[half]
            e = half >> 1
            if alive[e]:
                other = v[e] if half & 1 == 0 else u[e]
                if other == large:
                    alive[e] = False
                    _drop_parts(hist_begin, hist_end, following_part, e)
                else:
                    if 2 * (filled + 1) > slots.size:
                        slots, mask, filled = _fill_slots(u, v, alive, edge_count)
                    slot = _find_slot(slots, mask, u, v, large, other)
                    twin = slots[slot]
                    if twin >= 0:
                        kept, absorbed = (e, twin) if keys[e] < keys[twin] else (twin, e)
                        alive[absorbed] = False
                        counts[kept] += counts[absorbed]
                        sums[kept] += sums[absorbed]
                        ranks[kept] = max(ranks[kept], ranks[absorbed])
                        following_part[last_part[kept]] = absorbed
                        last_part[kept] = last_part[absorbed]
                        outdated[kept] = True
                        if kept == twin:
                            half = upcoming
                            continue
                        # Its old slots must not answer for the edge that takes its place.
                        u[twin] = -1
                        v[twin] = -1
                    else:
                        filled += 1
                        degree[large] += 1
                    slots[slot] = e
                    if half & 1 == 0:
                        u[e] = large
                    else:
                        v[e] = large
                    _append(head, tail, following, large, half)
            half = upcoming
        head[small] = -1
    _name_parents(retired, retirements, parents, smallest, root)

    left = np.flatnonzero(alive)
    left_ends = np.empty((left.size, 2), np.int64)
    left_columns = np.empty((left.size, 2), np.int64)
    left_starts = np.zeros(left.size + 1, np.int64)
    for i in range(left.size):
        e = left[i]
        a = smallest[u[e]]
        b = smallest[v[e]]
        left_ends[i, 0] = min(a, b)
        left_ends[i, 1] = max(a, b)
        left_columns[i, 0] = counts[e]
        left_columns[i, 1] = sums[e]
        left_starts[i + 1] = left_starts[i] + hist_end[e] - hist_begin[e]
    left_bins = np.empty(left_starts[-1], bins.dtype)
    left_bin_counts = np.empty(left_starts[-1], np.int64)
    for i in range(left.size):
        e = left[i]
        for k in range(hist_end[e] - hist_begin[e]):
            if summed[e]:
                left_bins[left_starts[i] + k] = pool_bins[hist_begin[e] + k]
                left_bin_counts[left_starts[i] + k] = pool_counts[hist_begin[e] + k]
            else:
                left_bins[left_starts[i] + k] = bins[hist_begin[e] + k]
                left_bin_counts[left_starts[i] + k] = bin_counts[hist_begin[e] + k]
    return parents, retired_at, left_ends, ranks[left], left_columns, left_starts, left_bins, left_bin_counts


@device
def _name_parents(
    retired: np.ndarray, count: int, parents: np.ndarray, smallest: np.ndarray, root: np.ndarray
) -> None:
    """At the end of a level: those who lost their name in it get that of the component they are in now."""
    for r in range(count):
        parents[retired[r]] = smallest[_find(root, retired[r])]


@device
def _key(level: int, rank: int) -> int | np.int64:
    """Place in the queue: by level, then by rank."""
    return (np.int64(level) << 40) | rank


@device
def _push(heap: np.ndarray, edges: np.ndarray, size: int, key: int | np.int64, edge: int) -> int:
    """Add an entry to a binary heap of keys (smallest first) and edges; returns the new size."""
    i = size
    while i > 0:
        above = (i - 1) >> 1
        if heap[above] <= key:
            break
        heap[i] = heap[above]
        edges[i] = edges[above]
        i = above
    heap[i] = key
    edges[i] = edge
    return size + 1


@device
def _pop(heap: np.ndarray, edges: np.ndarray, size: int) -> int:
    """Remove the first entry of a binary heap; returns the new size."""
    size -= 1
    key = heap[size]
    edge = edges[size]
    i = 0
    while True:
        below = 2 * i + 1
        if below >= size:
            break
        if below + 1 < size and heap[below + 1] < heap[below]:
            below += 1
        if key <= heap[below]:
            break
        heap[i] = heap[below]
        edges[i] = edges[below]
        i = below
    heap[i] = key
    edges[i] = edge
    return size


@device
def _level(
    count: int,
    total: int,
    bins: np.ndarray,
    counts: np.ndarray,
    begin: int,
    end: int,
    quantile: int,
    scale: int,
) -> np.int64 | int:
    """Level of an edge in fine steps, `FINE` to a level: 0 is the best.

    For a quantile, `FINE` times 255 - its bin: a histogram {10: 1, 200: 3} has the median (pivot
    4 * 50 // 100 + 1 = 3) in bin 200, level 55. For the mean, 65536 * (1 - mean) rounded down.
    """
    if quantile == MEAN:
        whole = count * scale
        return min(FINE * LEVELS - 1, FINE * LEVELS * (whole - total) // whole)
    n = 0
    for k in range(begin, end):
        n += counts[k]
    pivot = min(n, quantile * n // 100 + 1)
    seen = 0
    for k in range(begin, end):
        seen += counts[k]
        if seen >= pivot:
            return FINE * (LEVELS - 1 - np.int64(bins[k]))
    return FINE * (LEVELS - 1)


@device
def _add(dense: np.ndarray, bins: np.ndarray, counts: np.ndarray) -> None:
    """Add a sparse histogram to a dense one."""
    for k in range(bins.size):
        dense[bins[k]] += counts[k]


@device
def _move(dense: np.ndarray, bins: np.ndarray, counts: np.ndarray, used: int) -> int:
    """Write a dense histogram as a sparse one behind the last used entry of a pool, and clear it.

    Returns the new end of what is used. There must be room for all bins: each is written, and kept if it is
    not empty, which cannot be foreseen.
    """
    for b in range(dense.size):
        bins[used] = b
        counts[used] = dense[b]
        used += dense[b] > 0
        dense[b] = 0
    return used


@device
def _drop_parts(begins: np.ndarray, ends: np.ndarray, following_part: np.ndarray, edge: int) -> None:
    """Leave an edge, and those it absorbed, without histograms."""
    while edge >= 0:
        ends[edge] = begins[edge]
        edge = following_part[edge]


@device
def _compact(
    bins: np.ndarray, counts: np.ndarray, begins: np.ndarray, ends: np.ndarray, summed: np.ndarray
) -> tuple[np.ndarray, np.ndarray, int]:
    """A new pool of the sums that are still needed, with room for as much again.

    For example edges with sums {5: 1}, none and {9: 1} leave bins [5, 9].
    """
    used = 0
    for e in range(begins.size):
        if summed[e]:
            used += ends[e] - begins[e]
    new_bins = np.empty(2 * used + LEVELS + 16 * begins.size, bins.dtype)
    new_counts = np.empty(2 * used + LEVELS + 16 * begins.size, counts.dtype)
    out = 0
    for e in range(begins.size):
        if summed[e]:
            begin = out
            for k in range(begins[e], ends[e]):
                new_bins[out] = bins[k]
                new_counts[out] = counts[k]
                out += 1
            begins[e] = begin
            ends[e] = out
    return new_bins, new_counts, out


@device
def _append(head: np.ndarray, tail: np.ndarray, following: np.ndarray, node: int, half: int) -> None:
    """Add a half-edge at the end of a node's list."""
    following[half] = -1
    if head[node] < 0:
        head[node] = half
    else:
        following[tail[node]] = half
    tail[node] = half


@device
def _fill_slots(
    u: np.ndarray, v: np.ndarray, alive: np.ndarray, edge_count: int
) -> tuple[np.ndarray, np.uint64, int]:
    """Open-addressing table from the ends of each living edge to the edge, at most a quarter full."""
    living = 0
    for e in range(edge_count):
        living += alive[e]
    size = 16
    while size < 4 * living:
        size *= 2
    slots = np.full(size, -1, np.int64)
    mask = np.uint64(size - 1)
    for e in range(edge_count):
        if alive[e]:
            slots[_find_slot(slots, mask, u, v, u[e], v[e])] = e
    return slots, mask, living


@device
def _find_slot(slots: np.ndarray, mask: np.uint64, u: np.ndarray, v: np.ndarray, a: int, b: int) -> np.uint64:
    """Slot of the edge between a and b, or the free slot where it belongs.

    An edge that was moved to other ends, or is dead, leaves its old slot behind: it stays a stepping stone,
    and matches nothing that is asked for, since its ends now are others, or no node any more.
    """
    low = np.uint64(min(a, b))
    high = np.uint64(max(a, b))
    key = (high << np.uint64(32)) ^ low
    key ^= key >> np.uint64(30)
    key *= np.uint64(0xBF58476D1CE4E5B9)
    key ^= key >> np.uint64(27)
    key *= np.uint64(0x94D049BB133111EB)
    slot = (key ^ (key >> np.uint64(31))) & mask
    while slots[slot] >= 0:
        e = slots[slot]
        if (u[e] == a and v[e] == b) or (u[e] == b and v[e] == a):
            break
        slot = (slot + np.uint64(1)) & mask
    return slot


@device
def _find(root: np.ndarray, node: int) -> int:
    """Root of a node, halving the path."""
    while root[node] != node:
        root[node] = root[root[node]]
        node = root[node]
    return node


@kernel
def cut(ids: np.ndarray, parents: np.ndarray, levels: np.ndarray, level: int) -> np.ndarray:
    """Name of the component that every node is in when merges up to and including `level` are made.

    No parent comes after its node: one pass is enough. For example ids [3, 5, 9], parents [0, 0, 0], levels
    [256, 55, 155] cut at 100 give [3, 3, 9].
    """
    names = np.empty_like(ids)
    for i in range(ids.size):
        names[i] = names[parents[i]] if levels[i] <= level else ids[i]
    return names


@kernel
def joining_levels(parents: np.ndarray, levels: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Level at which the two ends of each pair became one, `LEVELS` where they never did.

    For example parents [0, 0, 0], levels [256, 55, 155]: nodes 1 and 2 joined at 155.
    """
    joined = np.empty(len(ends), np.int64)
    for e in range(len(ends)):
        a = ends[e, 0]
        b = ends[e, 1]
        level = 0
        while a != b and level < LEVELS:
            if levels[a] <= levels[b]:
                level = levels[a]
                a = parents[a]
            else:
                level = levels[b]
                b = parents[b]
        joined[e] = level
    return joined
