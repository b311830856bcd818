"""Agglomeration in parts: for any cells, the merge tree of one process, bit for bit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsd_dask.blockwise.octree import Octree
from lsd_dask.kernels.segmentation import agglomeration as kernels
from lsd_dask.kernels.segmentation.merge_trees import restrict
from lsd_dask.segmentation.agglomeration import MERGE_FUNCTIONS, MergeTree, agglomerate
from lsd_dask.segmentation.contraction import agglomerate_in_blocks, agglomerate_in_cells
from lsd_dask.segmentation.region_graph import RegionGraph, build_region_graph

from ..helpers.strategies import affinities, graph_of, label_volumes, random_edge_values, seeds, shapes

every_function = pytest.mark.parametrize("name", MERGE_FUNCTIONS)


def assert_same(found: tuple[MergeTree, np.ndarray], graph: RegionGraph, name: str) -> None:
    tree, scores = found
    expected = agglomerate(graph, name)
    np.testing.assert_array_equal(tree.ids, expected.ids, strict=True)
    np.testing.assert_array_equal(tree.levels, expected.levels, strict=True)
    np.testing.assert_array_equal(tree.parents, expected.parents, strict=True)
    np.testing.assert_array_equal(scores, expected.merge_scores(graph), strict=True)


# Random graphs and random trees of cells


@st.composite
def cells_above(draw: st.DrawFn, *, most: int = 64) -> np.ndarray:
    """Trees of cells: the cell that each lies in, which comes after it."""
    count = draw(st.integers(1, most))
    rng = np.random.default_rng(draw(seeds))
    reach = draw(st.sampled_from([1, 2, 8, most]))
    above = [int(rng.integers(cell + 1, min(count, cell + 1 + reach))) for cell in range(count - 1)]
    return np.array([*above, count - 1])


@st.composite
def graphs(draw: st.DrawFn) -> RegionGraph:
    """Sparse and dense ones, of few values, so that most edges are tied, or of many."""
    nodes = draw(st.integers(2, 40))
    edges = draw(st.integers(1, 3 * nodes))
    values = random_edge_values(draw(seeds), nodes, edges, draw(st.sampled_from([1, 2, 9])))
    steps = draw(st.sampled_from([1, 64, 128, 255]))
    coarse = {pair: [a // steps * steps for a in found] for pair, found in values.items()}
    return graph_of(coarse, nodes=range(1, nodes + 1))


def line_of(cell: int, above: np.ndarray) -> list[int]:
    line = [cell]
    while above[line[-1]] != line[-1]:
        line.append(int(above[line[-1]]))
    return line


def homes_of(graph: RegionGraph, leaves: np.ndarray, above: np.ndarray) -> np.ndarray:
    """For fragments that lie in some cell each: the smallest one that holds a fragment and its neighbours."""
    touched = [{int(leaf)} for leaf in leaves]
    ends = np.searchsorted(graph.nodes.ids, [graph.edges.u, graph.edges.v]).T
    for a, b in ends.tolist():
        touched[a].add(int(leaves[b]))
        touched[b].add(int(leaves[a]))
    homes = []
    for cells in touched:
        lines = [line_of(cell, above) for cell in cells]
        homes.append(next(cell for cell in lines[0] if all(cell in line for line in lines)))
    return np.array(homes)


@every_function
@given(graphs(), cells_above(), seeds, st.booleans())
def test_any_graph_in_any_cells(
    name: str, graph: RegionGraph, above: np.ndarray, seed: int, near: bool
) -> None:
    rng = np.random.default_rng(seed)
    leaves = rng.integers(0, len(above), len(graph.nodes))
    if near:
        # Cells of neighbouring numbers: most edges are within one.
        leaves.sort()
    assert_same(agglomerate_in_cells(graph, name, homes_of(graph, leaves, above), above), graph, name)


@pytest.mark.parametrize("name", ["hist_quant_25", "hist_quant_90_initmax", "mean"])
def test_large_graphs(name: str) -> None:
    """A ring of 64 cells of 60 fragments each, with edges within cells and between neighbouring ones."""
    rng = np.random.default_rng(len(name))
    cells, each = 64, 60
    first = rng.integers(0, cells * each, 4 * cells * each)
    second = (first + rng.integers(1, 2 * each, len(first))) % (cells * each)
    values = {
        (min(a, b) + 1, max(a, b) + 1): (rng.integers(0, 16, rng.integers(1, 6)) * 16).tolist()
        for a, b in zip(first.tolist(), second.tolist(), strict=True)
    }
    graph = graph_of(values, nodes=range(1, cells * each + 1))
    # A binary tree: 64 cells, 32 over them, and so on.
    above = np.array([64 + cell // 2 for cell in range(126)] + [126])
    leaves = np.arange(cells * each) // each
    homes = homes_of(graph, leaves, above)
    assert np.bincount(homes, minlength=127)[:64].sum() > 0
    assert_same(agglomerate_in_cells(graph, name, homes, above), graph, name)


# Volumes


@pytest.mark.parametrize("name", ["hist_quant_75", "hist_quant_50_initmax", "mean"])
@given(st.data())
def test_any_volume_in_any_blocks(name: str, data: st.DataObject) -> None:
    """From 1 to 64 blocks and more; fragments are as scattered as they like, where the graph is at hand."""
    shape = data.draw(shapes(9, 9, 9) | shapes(16, 16))
    fragments = data.draw(label_volumes(shape, most=30))
    graph = build_region_graph(data.draw(affinities(shape, dtypes="uf")), fragments)
    block_shape = [data.draw(st.integers(2, max(2, n))) for n in shape]
    assert_same(agglomerate_in_blocks(graph, name, block_shape), graph, name)


@pytest.mark.parametrize(("side", "depth"), [(16, 1), (8, 2), (4, 3), (2, 4)])
@pytest.mark.parametrize("name", ["hist_quant_75", "hist_quant_25_initmax", "mean"])
def test_depths(name: str, side: int, depth: int) -> None:
    rng = np.random.default_rng(depth)
    shape = (32, 32, 32)
    blocks = rng.integers(1, 2**63, (8, 8, 8)).astype(np.uint64)
    fragments = np.kron(blocks, np.ones((4, 4, 4), np.uint64))
    fragments = np.roll(fragments, (1, 2, 3), (0, 1, 2))
    graph = build_region_graph(rng.integers(0, 9, (3, *shape)).astype(np.uint8) * 30, fragments)
    assert Octree(shape, (side,) * 3).depth == depth
    assert_same(agglomerate_in_blocks(graph, name, (side,) * 3), graph, name)


@given(shapes(40, 40, 40), st.data())
def test_homes_are_the_smallest_cells(shape: tuple[int, ...], data: st.DataObject) -> None:
    tree = Octree(shape, data.draw(shapes(20, 20, 20)))
    ends = np.array([[data.draw(st.integers(1, n)) for n in shape]])
    begins = np.array([[data.draw(st.integers(0, n - 1)) for n in ends[0].tolist()]])
    reach = data.draw(st.tuples(*[st.integers(0, 3)] * 3))
    (level,), (place,) = tree.homes(begins, ends, reach)
    box = [
        range(max(b - r, 0), min(e + r, n))
        for b, e, r, n in zip(begins[0], ends[0], reach, shape, strict=True)
    ]

    def holding(level: int) -> list[tuple[int, ...]]:
        return [
            cell.index
            for cell in tree.cells(level)
            if all(s.start <= b[0] and b[-1] < s.stop for s, b in zip(cell.region, box, strict=True))
        ]

    assert holding(int(level)) == [tuple(place)]
    assert level == 0 or holding(int(level) - 1) == []
    assert len(tree.cells(tree.depth)) == 1


@given(st.integers(0, 3), shapes(5, 5))
def test_children_make_up_their_parents(level: int, shape: tuple[int, ...]) -> None:
    tree = Octree(shape, (1, 1))
    level = min(level, tree.depth)
    cells = list(tree.cells(level))
    found = [
        (child.name, tree.parent(level - 1, child).name) for c in cells for child in tree.children(level, c)
    ]
    expected = {block.name for block in tree.cells(level - 1)} if level else set()
    assert {name for name, _ in found} == expected
    assert len(found) == len(expected)
    assert all(
        parent == cell.name
        for cell in cells
        for child in tree.children(level, cell)
        for parent in [tree.parent(level - 1, child).name]
    )


# Trees of a part of the components


@given(graphs(), seeds)
def test_a_part_of_a_tree_meets_as_in_the_whole(graph: RegionGraph, seed: int) -> None:
    tree = agglomerate(graph)
    kept = np.random.default_rng(seed).random(len(tree)) < 0.5
    parents, levels = restrict(tree.parents, tree.levels, kept)
    rows = np.flatnonzero(kept)
    pairs = np.array([(a, b) for a in range(len(rows)) for b in range(a)], np.int64).reshape(-1, 2)
    np.testing.assert_array_equal(
        kernels.joining_levels(parents, levels, pairs),
        kernels.joining_levels(tree.parents, tree.levels, rows[pairs]),
    )
    assert (parents <= np.arange(len(rows))).all()
