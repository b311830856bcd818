"""The min-cut metric: cases worked out by hand, drawn, and random ones against networkx."""

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsd_dask.evaluation import Corrections, Skeletons, min_cut_metric
from lsd_dask.segmentation.agglomeration import LookupTable, agglomerate

from ..helpers.strategies import Values, edge_values, graph_of, seeds


def corrections(
    edges: dict[tuple[int, int], float],
    sites: dict[int, list[int]],
    segments: list[set[int]] | None = None,
    places: dict[int, float] | None = None,
) -> Corrections:
    """Edges with merge scores, fragments with sites by skeleton, segments (by default one), places in x."""
    fragments = np.array(sorted({n for pair in edges for n in pair} | {f for s in sites.values() for f in s}))
    fragments = fragments[fragments > 0]
    whole = [set(fragments.tolist())] if segments is None else segments
    lut = LookupTable(
        fragments, np.array([min(next(s for s in whole if f in s)) for f in fragments.tolist()])
    )
    at = [fragment for found in sites.values() for fragment in found]
    owners = [skeleton for skeleton, found in sites.items() for _ in found]
    positions = [[0, 0, (places or {}).get(fragment, fragment)] for fragment in at]
    u, v = np.array(list(edges)).T
    skeletons = Skeletons(positions, [], np.array(owners))
    return min_cut_metric(skeletons, at, lut, u, v, np.array(list(edges.values())))


def test_two_skeletons_in_a_chain() -> None:
    # A A   B B
    # 1-2-3-4-5   the weakest edge is cut, once; no skeleton is torn
    found = corrections({(1, 2): 0.1, (2, 3): 0.6, (3, 4): 0.2, (4, 5): 0.1}, {7: [1, 2], 8: [4, 5]})
    assert (found.splits, found.merges, found.unsplittable.tolist()) == (1, 0, [])


def test_a_loop_has_to_be_cut_on_both_sides_at_once() -> None:
    # A        A and B are joined on two ways; one minimum cut parts both
    # 1---2---3
    # |       |
    # 4---5---6
    #         B
    edges = {(1, 2): 0.0, (2, 3): 0.5, (3, 6): 0.0, (5, 6): 0.0, (4, 5): 0.9, (1, 4): 0.0}
    assert corrections(edges, {7: [1], 8: [6]}).splits == 1


def test_three_skeletons_take_two_cuts() -> None:
    # A   B   C
    # 1-2-3-4-5
    found = corrections({(1, 2): 0.6, (2, 3): 0.2, (3, 4): 0.2, (4, 5): 0.6}, {1: [1], 2: [3], 3: [5]})
    assert (found.splits, found.merges) == (2, 0)


def test_a_cut_that_tears_a_skeleton_takes_a_merge_to_mend() -> None:
    # A B A   the skeleton of A reaches around B: two cuts, and the two ends of A are joined anew
    # 1-2-3
    found = corrections({(1, 2): 0.2, (2, 3): 0.2}, {1: [1, 3], 2: [2]})
    assert (found.splits, found.merges) == (2, 1)


def test_a_fragment_of_two_skeletons_cannot_be_split() -> None:
    # A AB B   fragment 2 is left out as a site; the rest is parted by a cut
    # 1-2-3
    found = corrections({(1, 2): 0.2, (2, 3): 0.4}, {1: [1, 2], 2: [2, 3]})
    assert (found.splits, found.merges, found.unsplittable.tolist()) == (1, 0, [2])
    # AB       nothing else is there: no cut can help
    # 1-2
    found = corrections({(1, 2): 0.2}, {1: [1], 2: [1]})
    assert (found.splits, found.merges, found.unsplittable.tolist()) == (0, 0, [1])


def test_splits_take_merges() -> None:
    # A  A  A     three segments of one skeleton: two merges; edges between segments are no way
    # 1 |2 |3-4
    found = corrections({(1, 2): 0.9, (2, 3): 0.9, (3, 4): 0.1}, {1: [1, 2, 3, 4]}, [{1}, {2}, {3, 4}])
    assert (found.splits, found.merges) == (0, 2)


def test_sites_in_the_background_do_not_count() -> None:
    found = corrections({(1, 2): 0.1}, {1: [1, 0, 0], 2: [0, 2]})
    assert (found.splits, found.merges) == (1, 0)


def test_the_closest_sites_are_parted_first() -> None:
    # A       A B       A's fragment 9 and B's are neighbours in space, and there the cut is sought: it is the
    # 1---5---9-2       one between 9 and 2, since 1 and 5 are held by stronger edges
    found = corrections(
        {(1, 5): 0.1, (5, 9): 0.3, (9, 2): 0.2}, {1: [1, 9], 2: [2]}, places={1: 0, 9: 80, 2: 88}
    )
    assert (found.splits, found.merges) == (1, 0)


def test_edges_that_never_joined_are_no_way() -> None:
    # 1   2      apart in the graph already: they can be told apart for nothing
    found = corrections({(1, 2): np.nan}, {1: [1], 2: [2]})
    assert (found.splits, found.merges) == (0, 0)


@given(edge_values(most_nodes=7), st.floats(0.3, 1), seeds)
def test_random_cases_against_networkx(values: Values, threshold: float, seed: int) -> None:
    """The same recursion, with the cut of another library: where cuts are unique, they are the same."""
    rng = np.random.default_rng(seed)
    graph = graph_of(values)
    tree = agglomerate(graph, "mean")
    lut, scores = tree.cut(threshold), tree.merge_scores(graph)
    count = 6
    at = rng.choice(np.append(graph.nodes.ids, np.uint64(0)), count)
    skeletons = Skeletons(rng.random((count, 3)), [], rng.integers(1, 4, count))
    found = min_cut_metric(skeletons, at, lut, graph.edges.u, graph.edges.v, scores)
    ambiguous, splits = _splits_by_networkx(graph, lut, scores, at, skeletons)
    if not ambiguous:
        assert found.splits == splits
    segments = {int(f): lut[int(f)] for f in at if f and f not in found.unsplittable}
    used = {
        (int(s), segments[int(f)]) for s, f in zip(skeletons.skeletons, at, strict=True) if int(f) in segments
    }
    # Cuts can only add parts.
    assert found.merges >= len(used) - len({s for s, _ in used})


def _splits_by_networkx(graph, lut, scores, at, skeletons):  # type: ignore[no-untyped-def]
    whole = nx.Graph()
    whole.add_nodes_from(graph.nodes.ids.tolist())
    for u, v, score in zip(graph.edges.u.tolist(), graph.edges.v.tolist(), scores.tolist(), strict=True):
        if lut[u] == lut[v] and not np.isnan(score):
            whole.add_edge(u, v, capacity=round((1 - score) * 512))
    owners = {
        int(f): {int(s) for s, g in zip(skeletons.skeletons, at, strict=True) if g == f} for f in at if f
    }
    sites = [
        (int(s), int(f), position)
        for s, f, position in zip(skeletons.skeletons, at, skeletons.positions, strict=True)
        if f and len(owners[int(f)]) == 1
    ]
    waiting = [set(c) for c in nx.connected_components(whole)]
    splits, ambiguous = 0, False
    while waiting:
        part = waiting.pop()
        here = [site for site in sites if site[1] in part]
        sizes = sorted(
            {s: sum(t == s for t, *_ in here) for s, *_ in here}.items(), key=lambda i: (-i[1], i[0])
        )
        if len(sizes) < 2:
            continue
        (a, _), (b, _) = sizes[:2]
        pairs = [(np.linalg.norm(p - q), f, g) for s, f, p in here if s == a for t, g, q in here if t == b]
        _, source, target = min(pairs)
        inside = whole.subgraph(part)
        _, (first, second) = nx.minimum_cut(inside, source, target)
        _, (other, _) = nx.minimum_cut(inside, target, source)
        ambiguous |= first != set(part) - other
        splits += 1
        waiting += [first, second]
    return ambiguous, splits


def test_wrong_input_is_refused() -> None:
    skeletons = Skeletons([[0, 0, 0], [0, 0, 1]], [])
    lut = LookupTable(np.array([1, 2]), np.array([1, 1]))
    edges = (np.array([1]), np.array([2]), np.array([0.5]))
    with pytest.raises(ValueError, match=r"fragments: found shape \(1,\), expected \(2,\)"):
        min_cut_metric(skeletons, [1], lut, *edges)
    with pytest.raises(ValueError, match="fragments: 9 is not in the lookup table of 2 fragments"):
        min_cut_metric(skeletons, [1, 9], lut, *edges)
    with pytest.raises(TypeError, match=r"fragments: found 1\.0"):
        min_cut_metric(skeletons, [1.0, 2.0], lut, *edges)
