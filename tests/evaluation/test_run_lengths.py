"""Expected run lengths: cases worked out by hand, drawn, and random ones against the definition."""

import math
from collections import defaultdict
from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsd_dask.evaluation import RunLengths, Skeletons, expected_run_length

from ..helpers.strategies import seeds


def line(*places: float, skeleton: int = 1) -> Skeletons:
    """Nodes along x, joined one after the other."""
    positions = [[0, 0, x] for x in places]
    count = len(places)
    edges = [[i, i + 1] for i in range(count - 1)]
    return Skeletons(positions, edges, np.full(count, skeleton))


def together(*parts: Skeletons) -> Skeletons:
    starts = np.cumsum([0, *map(len, parts)])
    return Skeletons(
        np.concatenate([p.positions for p in parts]),
        np.concatenate([p.edges + s for p, s in zip(parts, starts, strict=False)]),
        np.concatenate([p.skeletons for p in parts]),
    )


class TestByHand:
    """Two neurites, 6 and 4 long, with nodes at o::

    skeleton 1   o--o--o--o--o--o--o     x = 0 ... 6
    skeleton 2   o--o--o--o--o           x = 0 ... 4
    """

    skeletons = together(line(*range(7)), line(*range(5), skeleton=2))

    def erl(self, *segments: str, **options: Any) -> RunLengths:
        """One letter a node; "." is segment 0."""
        labels = [0 if letter == "." else ord(letter) for letter in "".join(segments)]
        return expected_run_length(self.skeletons, labels, **options)

    def test_without_errors(self) -> None:
        found = self.erl("aaaaaaa", "bbbbb")
        assert found.erl == found.maximum_erl == (6 * 6 + 4 * 4) / 10
        assert found.normalized_erl == 1
        assert found.runs.tolist() == [6, 4]
        assert (found.number_of_splits, found.number_of_merges) == (0, 0)

    def test_a_split(self) -> None:
        # a--a--a--a  b--b--b     3 and 2 are left of 6, and 1 is split
        # c--c--c--c--c
        found = self.erl("aaaabbb", "ccccc")
        assert found.erl == (3 * 3 + 2 * 2 + 4 * 4) / 10
        assert (found.correct, found.split, found.merged, found.omitted) == (9, 1, 0, 0)
        assert (found.number_of_split_skeletons, found.number_of_splits) == (1, 1)

    def test_runs_of_one_segment_belong_together(self) -> None:
        # a--a--a  b  a--a--a     2 + 2 in segment a, though b is between them
        found = self.erl("aaabaaa", "ccccc")
        assert found.erl == ((2 + 2) ** 2 + 4 * 4) / 10
        assert found.split == 2

    def test_a_merger(self) -> None:
        # a--a--a--a  b--b--b     all of a is merged with the other skeleton, b is not
        # a--a--a--a--a
        found = self.erl("aaaabbb", "aaaaa")
        assert found.erl == 2 * 2 / 10
        assert (found.correct, found.split, found.merged) == (2, 1, 3 + 4)
        assert (found.number_of_merging_segments, found.number_of_merges) == (1, 1)

    def test_an_omission(self) -> None:
        # a--a--.--a--a--a--a     the two edges of the node in the background are lost
        found = self.erl("aa.aaaa", "bbbbb")
        assert found.erl == ((1 + 3) ** 2 + 4 * 4) / 10
        assert found.omitted == 2
        assert (found.number_of_background_sites, found.number_of_split_skeletons) == (1, 0)

    def test_the_background_merges_nothing(self) -> None:
        found = self.erl("aaaaa..", "..bbb")
        assert (found.merged, found.omitted, found.number_of_merging_segments) == (0, 2 + 2, 0)

    def test_a_stray_node(self) -> None:
        # a--a--a--a--a--a--a     one click of the second annotator hit the first neurite
        # a  b--b--b--b
        strict, tolerant = self.erl("aaaaaaa", "abbbb"), self.erl("aaaaaaa", "abbbb", stray_nodes=1)
        assert (strict.erl, strict.merged) == (3 * 3 / 10, 6)
        assert (tolerant.erl, tolerant.merged) == ((6 * 6 + 3 * 3) / 10, 0)
        assert (tolerant.number_of_merges, tolerant.number_of_splits) == (0, 0)
        # Two are no slip any more; and the two that strayed are not correct because they are few.
        assert self.erl("aaaaaaa", "aabbb", stray_nodes=1).erl == 2 * 2 / 10
        assert self.erl("aaaaaaa", "aabbb", stray_nodes=2).merged == 1

    def test_nothing_is_found(self) -> None:
        found = self.erl(".......", ".....")
        assert (found.erl, found.omitted, found.number_of_segments) == (0, 10, 0)
        assert found.runs.tolist() == []


def test_vectors_of_funlib_evaluate() -> None:
    graph = nx.Graph()
    places = {1: (1, 0, 0, 0), 2: (1, 1, 1, 0), 3: (1, 0, 1, 1), 4: (2, 1, 1, 1), 5: (2, 0, 0, 1)}
    for node, (skeleton, z, y, x) in places.items():
        graph.add_node(node, skeleton_id=skeleton, z=z, y=y, x=x)
    graph.add_edges_from([(1, 2), (2, 3), (4, 5)])
    first = graph.subgraph([1, 2, 3])

    def erl(skeletons: nx.Graph, lut: dict[int, int]) -> float:
        return expected_run_length(skeletons, lut, skeleton_id_attribute="skeleton_id").erl

    assert erl(first, {1: 10, 2: 10, 3: 10}) == pytest.approx(2 * math.sqrt(2))
    assert erl(first, {1: 10, 2: 10, 3: 20}) == pytest.approx(0.5 * math.sqrt(2))
    assert erl(graph, {1: 10, 2: 10, 3: 30, 4: 20, 5: 40}) == pytest.approx(2 / 3 * 0.5 * math.sqrt(2))
    assert erl(graph, dict.fromkeys(places, 10)) == 0


def by_definition(skeletons: Skeletons, segments: np.ndarray) -> dict[str, float]:
    holds = defaultdict(set)
    for skeleton, segment in zip(skeletons.skeletons.tolist(), segments.tolist(), strict=True):
        holds[segment].add(skeleton)
    found: dict[str, float] = dict.fromkeys(("correct", "split", "merged", "omitted"), 0.0)
    runs: dict[tuple[int, int], float] = defaultdict(float)
    whole: dict[int, float] = defaultdict(float)
    for u, v in skeletons.edges.tolist():
        length = math.dist(skeletons.positions[u], skeletons.positions[v])
        skeleton, (a, b) = int(skeletons.skeletons[u]), segments[[u, v]].tolist()
        whole[skeleton] += length
        if 0 in (a, b):
            found["omitted"] += length
        elif a != b:
            found["split"] += length
        elif len(holds[a]) > 1:
            found["merged"] += length
        else:
            found["correct"] += length
            runs[skeleton, a] += length
    total = sum(whole.values())
    found["erl"] = sum(run * run for run in runs.values()) / total
    found["maximum_erl"] = sum(length * length for length in whole.values()) / total
    return found


@st.composite
def forests(draw: st.DrawFn) -> Skeletons:
    rng = np.random.default_rng(draw(seeds))
    count = draw(st.integers(2, 30))
    parents = np.array([rng.integers(0, i) for i in range(1, count)])
    edges = np.stack([np.arange(1, count), parents], axis=1)[rng.random(count - 1) < 0.8]
    positions = rng.integers(0, 9, (count, 3)) + 0.5
    positions[0], positions[1] = -1, 20
    return Skeletons(positions, edges if len(edges) else np.array([[0, 1]]))


@given(forests(), seeds)
def test_random_cases_against_the_definition(skeletons: Skeletons, seed: int) -> None:
    segments = np.random.default_rng(seed).integers(0, 6, len(skeletons))
    found = expected_run_length(skeletons, segments)
    for name, value in by_definition(skeletons, segments).items():
        assert getattr(found, name) == pytest.approx(value, abs=1e-9), name
    assert found.total == pytest.approx(sum(skeletons.lengths.values()))


@given(forests(), seeds, st.integers(0, 5))
def test_tolerance_only_adds(skeletons: Skeletons, seed: int, strays: int) -> None:
    segments = np.random.default_rng(seed).integers(0, 4, len(skeletons))
    less, more = (expected_run_length(skeletons, segments, stray_nodes=n) for n in (strays, strays + 1))
    assert less.erl <= more.erl + 1e-9 and more.erl <= more.maximum_erl + 1e-9


@given(forests(), seeds)
def test_names_and_order_do_not_matter(skeletons: Skeletons, seed: int) -> None:
    rng = np.random.default_rng(seed)
    segments = rng.integers(0, 6, len(skeletons)).astype(np.uint64)
    order = rng.permutation(len(skeletons))
    names = np.array([0, 2**53, 2**53 + 1, 2**64 - 1, 7, 2**63], np.uint64)
    places = np.argsort(order)
    shuffled = Skeletons(
        skeletons.positions[order], places[skeletons.edges][:, ::-1], skeletons.skeletons[order] + 10**12
    )
    found = expected_run_length(shuffled, names[segments][order]).scores()
    assert found == pytest.approx(expected_run_length(skeletons, segments).scores())


def test_wrong_input_is_refused() -> None:
    skeletons = line(0, 1, 2)
    with pytest.raises(ValueError, match=r"segments: found shape \(2,\), expected \(3,\), one a node"):
        expected_run_length(skeletons, [1, 2])
    with pytest.raises(TypeError, match=r"segments: found 1\.0"):
        expected_run_length(skeletons, [1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="segments: found none for 1 of 3 nodes, 2 is the first"):
        expected_run_length(skeletons, {0: 1, 1: 1})
    with pytest.raises(ValueError, match="stray_nodes: found -1"):
        expected_run_length(skeletons, [1, 1, 1], stray_nodes=-1)
    with pytest.raises(ValueError, match="2 nodes and 0 edges of no length"):
        expected_run_length(Skeletons([[0, 0, 0], [1, 1, 1]], []), [1, 1])
    with pytest.raises(ValueError, match="0 nodes and 0 edges"):
        expected_run_length(Skeletons(np.empty((0, 3)), []), [])
    with pytest.raises(TypeError, match="skeletons: found a list"):
        expected_run_length([[0, 1]], [1, 1])  # type: ignore[arg-type]
