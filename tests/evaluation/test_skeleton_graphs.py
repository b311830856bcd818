"""Skeletons as graphs: edges have no direction, ids are exact and there once, and no column is dropped."""

import itertools
import json
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsd_dask.evaluation import Skeletons, expected_run_length, read_skeletons

from ..helpers.strategies import LARGE_IDS

LINE = [(0, 1), (1, 2), (2, 3)]


@given(st.lists(st.tuples(st.sampled_from(LINE), st.booleans()), max_size=6), st.randoms(), st.booleans())
def test_edges_have_no_direction(again: list[Any], random: Any, loop: bool) -> None:
    """Whichever way, in whatever order and however often: two of three edges of 10 lie in one segment."""
    edges = LINE + [edge[::-1] if back else edge for edge, back in again] + [(1, 1)] * loop
    random.shuffle(edges)
    positions = [[0, 0, 10 * n] for n in range(4)]
    graphs: list[nx.Graph] = [nx.Graph(), nx.DiGraph(), nx.MultiGraph(), nx.MultiDiGraph()]
    for graph in graphs:
        graph.add_nodes_from((n, {"z": 0, "y": 0, "x": 10 * n}) for n in range(4))
        graph.add_edges_from(edges)
    for skeletons in (Skeletons(positions, edges), *graphs):
        found = expected_run_length(skeletons, [5, 5, 5, 9])
        assert (found.erl, found.maximum_erl, found.total) == (20 * 20 / 30, 30, 30)


def write(path: Path, nodes: list[dict[str, Any]], edges: list[dict[str, Any]]) -> str:
    if path.suffix == ".json":
        path.write_text(json.dumps({"nodes": nodes, "edges": edges}))
        return str(path)
    for name, rows in (("nodes", nodes), ("edges", edges)):
        keys = list(dict.fromkeys(key for row in rows for key in row))
        lines = [",".join(keys), *(",".join(str(row.get(key, "")) for key in keys) for row in rows)]
        Path(f"{path.with_suffix('')}.{name}.csv").write_text("\n".join(lines) + "\n")
    return str(path.with_suffix(""))


@pytest.mark.parametrize("suffix", [".json", ".csv"])
def test_ids_are_exact(suffix: str, tmp_path: Path) -> None:
    nodes = [{"id": i, "z": 0, "y": 0, "x": n, "skeleton_id": LARGE_IDS[0]} for n, i in enumerate(LARGE_IDS)]
    edges = [{"source": a, "target": b} for a, b in itertools.pairwise(LARGE_IDS)]
    found = read_skeletons(write(tmp_path / f"a{suffix}", nodes, edges))
    assert found.nodes.tolist() == LARGE_IDS
    assert found.edges.tolist() == [[n, n + 1] for n in range(len(LARGE_IDS) - 1)]
    graph = nx.Graph()
    graph.add_nodes_from(
        (np.uint64(i) if n % 2 else i, {"z": 0, "y": 0, "x": n}) for n, i in enumerate(LARGE_IDS)
    )
    assert Skeletons.from_networkx(graph).nodes.tolist() == LARGE_IDS


@pytest.mark.parametrize("suffix", [".json", ".csv"])
@pytest.mark.parametrize("key", ["id", "x", "masked", "component_id"])
def test_what_one_node_lacks_is_named(suffix: str, key: str, tmp_path: Path) -> None:
    nodes: list[dict[str, Any]] = [
        {"id": n, "z": 0, "y": 0, "x": n, "masked": 1, "component_id": 7} for n in range(3)
    ]
    del nodes[2][key]
    with pytest.raises(ValueError, match=rf"a.*{key}: found none in row 2, expected one in each row"):
        read_skeletons(write(tmp_path / f"a{suffix}", nodes, []))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"masked": "no"}, "masked: found 'no' in row 1, expected true or false"),
        ({"id": 2.0**60}, r"id: found 1\.15.* in row 1, expected whole numbers, none rounded"),
        ({"id": "b"}, "id: found 'b' in row 1"),
        ({"id": True}, "id: found True in row 1"),
        ({"x": "far"}, "x: found 'far' in row 1, expected a number"),
        ({"component_id": "cell"}, "component_id: found 'cell' in row 1"),
    ],
)
def test_values_of_another_kind_are_named(changed: dict[str, Any], message: str, tmp_path: Path) -> None:
    nodes = [{"id": n, "z": 0, "y": 0, "x": n, "masked": True, "component_id": 7} for n in range(3)]
    nodes[1] |= changed
    with pytest.raises(ValueError, match=rf"a\.json: {message}"):
        read_skeletons(write(tmp_path / "a.json", nodes, []))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["1 0 0 0 0 1 -1", "1 0 9 0 0 1 -1"], "id: 1 occurs more than once"),
        (["1 0 0 0 0 1 2", "2 0 9 0 0 1 1"], "parents that go in a circle"),
        (["1 0 0 0 0 1 1"], "parents that go in a circle"),
        (["-1 0 0 0 0 1 -1"], "found the id -1, expected ids from 0 on"),
        (["1 0 nan 0 0 1 -1"], "line 1: .*expected a position of finite numbers"),
        (["1.5 0 0 0 0 1 -1"], r"id: found '1\.5' in row 0"),
    ],
)
def test_swc_files_that_are_no_trees(rows: list[str], message: str, tmp_path: Path) -> None:
    (tmp_path / "a.swc").write_text("\n".join(rows))
    with pytest.raises(ValueError, match=rf"a\.swc: .*{message}"):
        read_skeletons(str(tmp_path / "a.swc"))


def test_swc_parents_may_come_later_and_trees_be_several(tmp_path: Path) -> None:
    ids = 2**53 + 1, 2**53, 3, 4
    rows = [f"{ids[0]} 0 10 0 0 1 {ids[1]}", f"{ids[1]} 0 0 0 0 1 -1", "3 0 0 99 0 1 -1", "4 0 5 99 0 1 3"]
    (tmp_path / "a.swc").write_text("\n".join(rows))
    (tmp_path / "._a.swc").write_bytes(b"\0")
    assert read_skeletons(str(tmp_path)).lengths == {1: 15.0}


def test_tables_that_name_a_node_twice(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", [{"id": 1, "y": 0, "x": 0}], [])
    twice = [{"id": 1, "masked": True, "component_id": 1}, {"id": 1, "masked": False, "component_id": 2}]
    (tmp_path / "t.json").write_text(json.dumps(twice))
    for option in ("mask", "components"):
        with pytest.raises(ValueError, match=r"t\.json: id: 1 occurs more than once"):
            read_skeletons(path, **{option: str(tmp_path / "t.json")})


def test_attributes_of_graphs_are_named() -> None:
    graph = nx.Graph()
    graph.add_node(1, z=0, y=0, x="far", cell=1.5)
    with pytest.raises(ValueError, match="node 1: "):
        Skeletons.from_networkx(graph)
    graph.nodes[1]["x"] = 0
    with pytest.raises(ValueError, match=r"cell: found 1\.5 in row 0"):
        Skeletons.from_networkx(graph, skeleton_id_attribute="cell")
