"""Hypothesis strategies: volumes, chunkings and graphs that are small enough for brute force."""

import itertools
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from hypothesis import strategies as st
from scipy import ndimage

from lsd_dask.segmentation.graph_tables import EdgeTable, NodeTable
from lsd_dask.segmentation.region_graph import RegionGraph
from lsd_dask.space.grids import Grid, spatial_dims

type Region = tuple[slice, ...]
type Values = Mapping[tuple[int, int], Sequence[int]]

#: Ids that float64 cannot tell apart, that are negative as int64, and that are the largest of all.
LARGE_IDS = [2**53, 2**53 + 1, 2**62 + 1, 2**63, 2**63 + 1, 2**64 - 1]

seeds = st.integers(0, 2**32 - 1)


def shapes(*longest: int) -> st.SearchStrategy[tuple[int, ...]]:
    """Shapes of at least one voxel an axis and at most these."""
    return st.tuples(*(st.integers(1, n) for n in longest))


@st.composite
def chunkings(draw: st.DrawFn, shape: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """Ways to cut a volume into chunks, even or not, as dask spells them."""
    chunks = []
    for n in shape:
        cuts = draw(st.sets(st.integers(1, n - 1), max_size=3)) if n > 1 else set()
        chunks.append(tuple(np.diff([0, *sorted(cuts), n]).tolist()))
    return tuple(chunks)


@st.composite
def regions(draw: st.DrawFn, shape: Sequence[int]) -> Region:
    """Boxes of at least one voxel."""
    ends = [sorted(draw(st.sets(st.integers(0, n), min_size=2, max_size=2))) for n in shape]
    return tuple(slice(*e) for e in ends)


@st.composite
def label_volumes(draw: st.DrawFn, shape: Sequence[int], *, most: int = 8) -> np.ndarray:
    """Voronoi cells or salt and pepper, uint64, with or without background, of small or large ids."""
    rng = np.random.default_rng(draw(seeds))
    n = draw(st.integers(1, most))
    if draw(st.booleans()):
        voxels = np.indices(shape).reshape(len(shape), -1).T
        centers = rng.uniform(0, shape, (n, len(shape)))
        cells = ((voxels[:, None] - centers) ** 2).sum(axis=2).argmin(axis=1).reshape(shape)
    else:
        cells = rng.integers(0, n, shape)
    pool = draw(st.sampled_from([list(range(1, 20)), LARGE_IDS, [*LARGE_IDS, 1, 2, 3]]))
    ids = rng.choice(np.array(pool, np.uint64), n)
    if draw(st.booleans()):
        ids[0] = 0
    return ids[cells]


@st.composite
def affinities(
    draw: st.DrawFn, shape: Sequence[int], *, channels: int | None = None, dtypes: str = "ufe"
) -> np.ndarray:
    """Affinities to some neighbours, by default one an axis: smooth, in steps, noisy, flat, or nearly so.

    `dtypes`: u for uint8, f and d for float32 and float64, e for float16.
    """
    rng = np.random.default_rng(draw(seeds))
    size = (len(shape) if channels is None else channels, *shape)
    kind = draw(st.sampled_from(["smooth", "cells", "steps", "noise", "flat", "holes", "specks"]))
    if kind in ("smooth", "cells"):
        field = ndimage.gaussian_filter(rng.normal(size=size), (0, *(1.5,) * len(shape)), mode="nearest")
        spread = np.ptp(field) or 1
        values = (field - field.min()) / spread
        if kind == "cells":
            values = (values > 0.4).astype(float)
    elif kind == "steps":
        values = rng.integers(0, 4, size) / 3
    elif kind == "noise":
        values = rng.random(size)
    elif kind == "flat":
        values = np.full(size, draw(st.sampled_from([0.0, 0.3, 0.7, 1.0])))
    else:
        few = rng.random(size[1:]) < draw(st.sampled_from([0.0002, 0.002, 0.02]))
        values = np.broadcast_to(few != (kind == "holes"), size).astype(float)
    dtype = draw(st.sampled_from([np.dtype("u1" if d == "u" else d) for d in dtypes]))
    return np.rint(values * 255).astype(np.uint8) if dtype == np.uint8 else values.astype(dtype)


@st.composite
def neighborhoods(draw: st.DrawFn, ndim: int) -> list[list[int]]:
    """The direct lower neighbours and, after them, some of longer range."""
    direct = (-np.eye(ndim, dtype=int)).tolist()
    steps = st.lists(st.integers(-3, 3), min_size=ndim, max_size=ndim)
    others = steps.filter(lambda step: any(step) and step not in direct)
    return [*direct, *draw(st.lists(others, max_size=2, unique_by=tuple))]


@st.composite
def edge_values(draw: st.DrawFn, *, most_nodes: int = 7, most_affinities: int = 6) -> Values:
    """The uint8 affinities between each two of a few nodes that touch."""
    n = draw(st.integers(2, most_nodes))
    pairs = draw(st.sets(st.sampled_from(list(itertools.combinations(range(1, n + 1), 2))), min_size=1))
    values = st.lists(st.integers(0, 255), min_size=1, max_size=most_affinities)
    return {pair: draw(values) for pair in sorted(pairs)}


@st.composite
def trees(draw: st.DrawFn, *, most_nodes: int = 8) -> Values:
    """The same, of a connected graph without cycles."""
    n = draw(st.integers(2, most_nodes))
    values = st.lists(st.integers(0, 255), min_size=1, max_size=6)
    return {(draw(st.integers(1, v - 1)), v): draw(values) for v in range(2, n + 1)}


def random_edge_values(seed: int, nodes: int, edges: int, most_affinities: int = 9) -> Values:
    """The same for a larger graph, some of whose nodes may have no edge."""
    rng = np.random.default_rng(seed)
    ends = np.unique(np.sort(rng.integers(1, nodes + 1, (edges, 2)), axis=1), axis=0)
    return {
        (u, v): rng.integers(0, 256, rng.integers(1, most_affinities + 1)).tolist()
        for u, v in ends.tolist()
        if u != v
    }


def graph_of(values: Values, nodes: Iterable[int] = (), *, scale: int = 255) -> RegionGraph:
    """A region graph with these affinities between its nodes, and with more nodes that touch nothing.

    Affinities are integers up to `scale`, 255 or 65535.
    """
    ids = np.array(sorted({n for pair in values for n in pair} | set(nodes)), np.uint64)
    n = len(ids)
    corner = np.zeros((n, 3), np.int64)
    table = NodeTable(ids, np.ones(n, np.int64), corner, corner, corner + 1, np.zeros(n, np.int64))
    return RegionGraph(
        table, edges_of(values, scale=scale), Grid(spatial_dims(3), (1,) * 3, (1,) * 3, (0,) * 3), scale
    )


def edges_of(values: Values, *, scale: int = 255) -> EdgeTable:
    """The edges of `graph_of`, in ascending order."""
    ordered = sorted(values.items())
    histograms = [np.unique(np.array(v) // ((scale + 1) // 256), return_counts=True) for _, v in ordered]
    counts = np.array([len(v) for _, v in ordered], np.int64)
    return EdgeTable(
        u=np.array([u for (u, _), _ in ordered], np.uint64),
        v=np.array([v for (_, v), _ in ordered], np.uint64),
        counts=counts,
        contacts=counts,
        sums=np.array([sum(v) for _, v in ordered], np.int64),
        maxima=np.array([max(v) for _, v in ordered], np.int64),
        starts=np.cumsum([0] + [len(b) for b, _ in histograms]),
        bins=np.concatenate([b for b, _ in histograms] or [[]]).astype(np.uint8),
        bin_counts=np.concatenate([c for _, c in histograms] or [[]]).astype(np.uint32),
    )
