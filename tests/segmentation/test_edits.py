"""Corrections that a cut honours: against a definition that looks at all fragments and all pairs."""

import itertools
from pathlib import Path

import networkx as nx
import numpy as np
import pandas as pd
import pytest
from distributed import Client
from hypothesis import given, settings
from hypothesis import strategies as st

import lsd_dask as ld
from lsd_dask import synthetic, workflows
from lsd_dask.evaluation.sites import labels_at
from lsd_dask.segmentation.agglomeration import MergeTree, agglomerate
from lsd_dask.segmentation.edits import Edits, append_edits

from ..helpers.strategies import LARGE_IDS, edge_values, graph_of

NEVER = 256
thresholds = st.sampled_from([0.0, 0.2, 0.5, 0.8, 1.0])


@st.composite
def merge_trees(draw: st.DrawFn) -> MergeTree:
    """Of a graph, or with scores that are mostly equal, which graphs seldom give."""
    if draw(st.booleans()):
        return agglomerate(graph_of(draw(edge_values(most_nodes=9)), nodes=range(1, 10)), "mean")
    n = draw(st.integers(2, 9))
    ids = np.array(sorted(draw(st.permutations([*range(1, 9), *LARGE_IDS]))[:n]), np.uint64)
    parents, levels = np.zeros(n, np.int64), np.full(n, NEVER)
    for row in range(1, n):
        parents[row] = draw(st.integers(0, row - 1))
    # A component loses its name after all that joined it did.
    for row in range(n - 1, 0, -1):
        joined = levels[(parents == row) & (np.arange(n) > row)]
        levels[row] = draw(st.integers(max(joined, default=0), max(joined, default=0) + 2))
    return MergeTree(ids, parents, levels, "mean")


@st.composite
def edits_of(draw: st.DrawFn, tree: MergeTree, *, must: int = 3, cannot: int = 4) -> Edits:
    """Edits that do not contradict each other."""
    pairs = list(itertools.combinations(tree.ids.tolist(), 2))
    must_link = draw(st.lists(st.sampled_from(pairs), max_size=must))
    linked = nx.Graph([(i, i) for i in tree.ids.tolist()] + must_link)
    group = {i: n for n, ids in enumerate(nx.connected_components(linked)) for i in ids}
    apart = [(u, v) for u, v in pairs if group[u] != group[v]]
    chosen = draw(st.lists(st.sampled_from(apart), max_size=cannot)) if apart else []
    return Edits(tuple(must_link), tuple(chosen))


def cut_by_definition(tree: MergeTree, threshold: float, edits: Edits) -> list[int]:
    """Sets of fragments that are merged, one merge after the other, each looked at in full."""
    segment = {i: frozenset([i]) for i in tree.ids.tolist()}

    def join(u: int, v: int) -> None:
        both = segment[u] | segment[v]
        segment.update(dict.fromkeys(both, both))

    for pair in edits.must_link:
        join(*pair)
    ids = tree.ids.tolist()
    for row in sorted(range(len(ids)), key=lambda row: (tree.levels[row], -row)):
        u, v = ids[row], ids[tree.parents[row]]
        both = segment[u] | segment[v]
        if tree.scores[row] <= threshold and not any({*pair} <= both for pair in edits.cannot_link):
            join(u, v)
    return [min(segment[i]) for i in ids]


@given(st.data())
def test_a_cut_with_edits_is_kruskal_with_constraints(data):
    tree, threshold = data.draw(merge_trees()), data.draw(thresholds)
    edits = data.draw(edits_of(tree))
    lut = tree.cut(threshold, edits=edits)
    assert lut.values.tolist() == cut_by_definition(tree, threshold, edits)
    assert lut.keys is tree.ids
    assert all(lut[u] == lut[v] for u, v in edits.must_link)
    assert all(lut[u] != lut[v] for u, v in edits.cannot_link)


@given(st.data())
def test_one_split_undoes_the_worst_merge_between_the_two(data):
    tree, threshold = data.draw(merge_trees()), data.draw(thresholds)
    u, v = data.draw(st.sampled_from(list(itertools.combinations(tree.ids.tolist(), 2))))
    before, after = tree.cut(threshold), tree.cut(threshold, edits=Edits(cannot_link=[(u, v)]))
    if before[u] != before[v]:
        assert after.digest == before.digest
        return
    forest = nx.Graph()
    forest.add_nodes_from(tree.ids.tolist())
    for row in np.flatnonzero(tree.scores <= threshold).tolist():
        key = (tree.levels[row], -row)
        forest.add_edge(int(tree.ids[row]), int(tree.ids[tree.parents[row]]), key=key)
    path = nx.shortest_path(forest, u, v)
    worst = max(itertools.pairwise(path), key=lambda edge: forest.edges[edge]["key"])
    forest.remove_edge(*worst)
    expected = {i: min(part) for part in nx.connected_components(forest) for i in part}
    assert dict(zip(after.keys.tolist(), after.values.tolist(), strict=True)) == expected


@given(st.data())
def test_the_order_of_edits_makes_no_difference(data):
    tree, threshold = data.draw(merge_trees()), data.draw(thresholds)
    edits = data.draw(edits_of(tree))
    must = data.draw(st.permutations([pair[::-1] for pair in edits.must_link] * 2))
    cannot = data.draw(st.permutations([pair[::-1] for pair in edits.cannot_link]))
    again = Edits().with_pairs(must_link=must).with_pairs(cannot_link=cannot)
    assert again == edits
    assert again.digest == edits.digest
    assert tree.cut(threshold, edits=again).digest == tree.cut(threshold, edits=edits).digest


@given(merge_trees(), thresholds)
def test_no_edits_change_nothing(tree, threshold):
    assert tree.cut(threshold, edits=Edits()).digest == tree.cut(threshold).digest


def test_a_long_chain_of_merges_is_followed():
    n = 20_000
    ids = np.arange(1, n + 1, dtype=np.uint64)
    tree = MergeTree(ids, np.maximum(np.arange(n) - 1, 0), np.array([NEVER] + [9] * (n - 1)), "mean")
    cut = tree.cut(0.5, edits=Edits(cannot_link=[(1, n), (n // 2, n - 1)]))
    assert np.unique(cut.values).tolist() == [1, n // 2 + 1]


# Tables


@pytest.mark.parametrize("name", ["edits.parquet", "edits.csv"])
@settings(max_examples=min(settings().max_examples, 50))
@given(data=st.data())
def test_tables_keep_edits(tmp_path_factory, name, data):
    edits = data.draw(edits_of(data.draw(merge_trees())))
    path = tmp_path_factory.mktemp("edits") / name
    edits.write(path)
    assert Edits.read(path) == edits
    table = pd.read_csv(path) if name.endswith(".csv") else pd.read_parquet(path)
    assert list(table.columns) == ["u", "v", "kind"]
    assert len(table) == len(edits)


def test_edits_are_appended_and_taken_back(tmp_path):
    path = tmp_path / "rag" / "edits.csv"
    append_edits(path, must_link=[(9, 3)])
    edits = append_edits(str(path), cannot_link=[(3, 5)], must_link=[(3, 9)])
    assert edits == Edits.read(path) == Edits([(3, 9)], [(3, 5)])
    with pytest.raises(
        ValueError, match=r"edits.csv: fragments 3 and 5 cannot be linked, but .*\(3 - 9 - 5\)"
    ):
        append_edits(path, must_link=[(5, 9)], cannot_link=[(7, 9)])
    assert Edits.read(path) == edits
    edits.without((5, 3)).write(path)
    assert Edits.read(path) == Edits([(3, 9)])
    with pytest.raises(KeyError, match="no edit of the fragments"):
        edits.without((5, 9))


def test_tables_made_by_hand(tmp_path):
    path = tmp_path / "edits.csv"
    path.write_text("kind,v,note,u\ncannot-link,3,soma,18446744073709551615\n")
    assert Edits.read(path) == Edits(cannot_link=[(3, 2**64 - 1)])
    for text, message in (
        ("u,v\n1,2\n", "no table of edits with the columns u, v, kind"),
        ("u,v,kind\n1,x,must-link\n", "no table of edits"),
        ("u,v,kind\n1,2,merge\n", "kind: found 'merge', expected 'must-link' or 'cannot-link'"),
        ("u,v,kind\n1,1,must-link\n", "must-link: found fragment 1 paired with itself"),
        ("u,v,kind\n0,1,must-link\n", "expected ids from 1"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=rf"edits.csv: .*{message}"):
            Edits.read(path)
    (tmp_path / "cut.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match=r"cut.parquet: not a readable Parquet file"):
        Edits.read(tmp_path / "cut.parquet")
    with pytest.raises(FileNotFoundError):
        Edits.read(tmp_path / "none.csv")


def test_edits_that_are_none():
    for pairs in ([3], ["ab"], [(1, 2, 3)], [(1.0, 2)], [(True, 2)]):
        with pytest.raises(TypeError, match="must-link: found"):
            Edits(must_link=pairs)
    tree = MergeTree(np.array([3, 5], np.uint64), np.array([0, 0]), np.array([NEVER, 9]), "mean")
    with pytest.raises(ValueError, match="edits name 1 fragments that are not in the merge tree, such as 4"):
        tree.cut(0.5, edits=Edits(must_link=[(3, 4)]))
    with pytest.raises(TypeError, match="edits: found a list, expected Edits"):
        tree.cut(0.5, edits=[(3, 5)])


def test_edits_move_to_fragments_that_were_made_anew():
    edits = Edits(must_link=[(3, 5), (3, 9)], cannot_link=[(3, 20)])
    assert edits.moved({3: 4, 5: 4, 9: 10, 20: 20}) == Edits([(4, 10)], [(4, 20)])
    with pytest.raises(ValueError, match="the places of 1 fragments are background now, such as 9"):
        edits.moved({3: 4, 5: 4, 9: 0, 20: 20})
    with pytest.raises(ValueError, match="fragments 3 and 20 cannot be linked, but are one fragment now, 4"):
        edits.moved({3: 4, 5: 4, 9: 10, 20: 4})


# In workflows


@pytest.fixture
def segmented(tmp_path: Path, cluster_client: Client) -> Path:
    """Affinities, fragments and their merge tree."""
    container = tmp_path / "volume.zarr"
    tissue = synthetic.neuropil((24, 40, 40), chunks=40, seed=1)
    ld.save_volume(tissue["affinities"], container / "volumes" / "affs")
    files = {"affs_file": str(container), "fragments_file": str(container)}
    workflows.extract_fragments(**files)
    workflows.agglomerate(**files)
    return container


def test_steps_honour_edits_beside_the_graph(segmented: Path):
    tree = MergeTree.from_parquet(str(segmented / "rag" / "merges_hist_quant_75.parquet"))
    before = tree.cut(0.5)
    (large, *_), (alone, *_) = (
        before.keys[before.values == segment].tolist()
        for segment in (np.argmax(np.bincount(before.values.astype(int))), before.values[-1])
    )
    inside = before.keys[before.values == before[large]].tolist()
    assert len(inside) > 1
    files = {"fragments_file": str(segmented)}
    out = {"threshold": 0.5, "out_file": str(segmented), "out_dataset": "volumes/segmentation"}
    fragments = ld.open_volume(segmented / "volumes" / "fragments").values

    def made() -> np.ndarray:
        return ld.open_volume(segmented / "volumes" / "segmentation").values

    workflows.extract_segmentation(**files, **out)
    np.testing.assert_array_equal(made(), ld.relabel(fragments, before))

    path = segmented / "rag" / "edits.parquet"
    edits = append_edits(path, must_link=[(large, alone)], cannot_link=[(inside[0], inside[-1])])
    result = workflows.extract_segmentation(**files, **out)
    assert result.facts["edits"] == 2
    after = tree.cut(0.5, edits=path)
    assert after[large] == after[alone]
    assert after[inside[0]] != after[inside[-1]]
    np.testing.assert_array_equal(made(), ld.relabel(fragments, after))
    # They outlive another threshold, and the graph counted anew.
    workflows.agglomerate(affs_file=str(segmented), **files, merge_function="mean", resume=False)
    workflows.find_segments(**files, edges_collection="edges_mean", thresholds_minmax=(0.2, 0.3))
    lut = ld.LookupTable.from_parquet(str(segmented / "rag" / "luts" / "mean_0.2.parquet"))
    assert lut[large] == lut[alone]
    assert lut[inside[0]] != lut[inside[-1]]

    # The tree of the graph that was replaced is stale.
    with pytest.raises(ValueError, match=r"made of rag/nodes.parquet, which was made anew since"):
        workflows.extract_segmentation(**files, **out, edits="none")
    workflows.agglomerate(affs_file=str(segmented), **files)
    workflows.extract_segmentation(**files, **out, edits="none")
    np.testing.assert_array_equal(made(), ld.relabel(fragments, before))
    edits.without((large, alone)).write(segmented / "mine.csv")
    assert workflows.find_segments(**files, edits=segmented / "mine.csv").facts["edits"] == 1


def test_steps_name_edits_that_cannot_be_used(segmented: Path):
    with pytest.raises(FileNotFoundError, match=r"none.csv: there is no such table of edits; those beside"):
        workflows.find_segments(fragments_file=str(segmented), edits="none.csv")
    append_edits(segmented / "rag" / "edits.parquet", must_link=[(1, 2**62)])
    with pytest.raises(ValueError, match=r"edits.parquet: edits name .* that are not in the merge tree"):
        workflows.find_segments(fragments_file=str(segmented))


def test_edits_are_taken_to_other_fragments_by_their_places():
    tissue = synthetic.neuropil((24, 40, 40), chunks=40, seed=1)
    affinities = tissue["affinities"].values
    old, new = (ld.extract_fragments(affinities, smoothing=sigma) for sigma in (0.5, 1.5))
    names = np.setdiff1d(old, [0])
    edits = Edits(must_link=[(names[3], names[9])], cannot_link=[(names[0], names[-1])])
    places = ld.ids.decode(edits.fragments)
    now = dict(zip(edits.fragments.tolist(), labels_at(new, places).tolist(), strict=True))
    for fragment, place in zip(edits.fragments, places, strict=True):
        assert old[tuple(place)] == fragment
    moved = edits.moved(now)
    assert np.isin(moved.fragments, new).all()
    agglomerate(ld.build_region_graph(affinities, new)).cut(0.5, edits=moved)
