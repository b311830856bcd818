"""Lookup tables of many thresholds, beside connected components for each of them (SciPy).

Ends with status 1 if the segments differ at any threshold.

    python benchmarks/lookup_tables.py                    # 10 million edges; a minute
    python benchmarks/lookup_tables.py --edges 1000000
"""

import argparse

import numpy as np
from _timing import HEADER, in_turns, rows
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from lsd_dask.segmentation.agglomeration import LookupTable, MergeTree, agglomerate
from lsd_dask.segmentation.graph_tables import EdgeTable, NodeTable
from lsd_dask.segmentation.region_graph import RegionGraph
from lsd_dask.space.grids import Grid

THRESHOLDS = np.arange(1, 51) / 51


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--edges", type=int, default=10_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    graph = random_graph(options.edges // 7, options.edges)
    tree = agglomerate(graph, "mean")
    scores = tree.merge_scores(graph)
    rows_of_ends = np.searchsorted(graph.nodes.ids, np.stack([graph.edges.u, graph.edges.v]))
    cut(tree)

    timed = in_turns(
        {
            "lsd_dask": lambda: cut(tree),
            "connected components (SciPy)": lambda: components(rows_of_ends, scores, len(graph.nodes)),
        },
        options.repeats,
    )
    print(HEADER)
    print(rows(f"{len(THRESHOLDS)} lookup tables, {len(graph.edges):,} edges", timed))
    ours, theirs = (side.result for side in timed.values())
    same = all(partitions_agree(a.values, b) for a, b in zip(ours, theirs, strict=True))
    print(f"\nThe same segments at every threshold: {same}")
    if not same:
        raise SystemExit(1)


def random_graph(nodes: int, edges: int) -> RegionGraph:
    """Nodes in a row, with edges to some of those that come soon after, of random mean affinity."""
    rng = np.random.default_rng(0)
    u = rng.integers(0, nodes - 1, edges)
    v = np.minimum(u + rng.integers(1, 64, edges), nodes - 1)
    pairs = np.unique(u[u < v] * nodes + v[u < v])
    ids = 10 * np.arange(1, nodes + 1).astype(np.uint64)
    ones, positions = np.ones(nodes, np.int64), np.zeros((nodes, 3), np.int64)
    count = np.ones(len(pairs), np.int64)
    value = rng.integers(0, 256, len(pairs))
    return RegionGraph(
        NodeTable(ids, ones, positions, positions, positions + 1, ones),
        EdgeTable(
            ids[pairs // nodes],
            ids[pairs % nodes],
            count,
            count,
            value,
            value,
            np.arange(len(pairs) + 1),
            value.astype(np.uint8),
            count,
        ),
        Grid(("z", "y", "x"), (1, 1, nodes), (1, 1, 1), (0, 0, 0), "nanometer"),
        255,
    )


def cut(tree: MergeTree) -> list[LookupTable]:
    return [tree.cut(threshold) for threshold in THRESHOLDS]


def components(ends: np.ndarray, scores: np.ndarray, nodes: int) -> list[np.ndarray]:
    """The reference's way: components of the edges with scores up to each threshold."""
    tables = []
    for threshold in THRESHOLDS:
        u, v = ends[:, scores <= threshold]
        graph = coo_array((np.ones(len(u), np.int8), (u, v)), shape=(nodes, nodes))
        tables.append(connected_components(graph, directed=False)[1])
    return tables


def partitions_agree(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two labellings have the same segments, under whatever names."""
    names_a, a = np.unique(a, return_inverse=True)
    names_b, b = np.unique(b, return_inverse=True)
    both = np.unique(a * len(names_b) + b)
    return len(names_a) == len(names_b) == len(both)


if __name__ == "__main__":
    main()
