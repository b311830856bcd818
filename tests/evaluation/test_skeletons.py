"""Skeletons: what they are, every format they are read from, and the labels at their nodes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import networkx as nx
import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsd_dask.evaluation import Skeletons, labels_at, read_skeletons
from lsd_dask.space.grids import Grid
from lsd_dask.volumes.dask_arrays import label
from lsd_dask.volumes.saving import open_volume, save_volume
from lsd_dask.volumes.stored import StoredVolume

from ..helpers.strategies import chunkings, label_volumes, seeds, shapes

#: Two skeletons, of nodes 10-20-30 and 40-50, and a node 60 that is masked out.
NODES = [
    {"id": 10, "z": 0, "y": 0, "x": 1.5, "component_id": 4, "masked": True},
    {"id": 20, "z": 0, "y": 3, "x": 1.5, "component_id": 4, "masked": True},
    {"id": 30, "z": 4, "y": 3, "x": 1.5, "component_id": 4, "masked": True},
    {"id": 40, "z": 9, "y": 0, "x": 0.5, "component_id": 0, "masked": True},
    {"id": 50, "z": 9, "y": 0, "x": 1.5, "component_id": 0, "masked": True},
    {"id": 60, "z": 9, "y": 9, "x": 9.5, "component_id": 0, "masked": False},
]
EDGES = [
    {"source": 10, "target": 20},
    {"source": 30, "target": 20},
    {"source": 40, "target": 50},
    {"source": 50, "target": 60},
    {"source": 50, "target": 999},
]
SWC = """# a neurite
1 2 1.5 0 0 0.5 -1
2 2 1.5 3 0 0.5 1  # a comment
3 2 1.5 3 4 0.5 2
"""


def columns_of(documents: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(documents)


def as_parquet(documents: list[dict[str, Any]], path: Path) -> None:
    pq.write_table(columns_of(documents), f"{path}.parquet")


def as_csv(documents: list[dict[str, Any]], path: Path) -> None:
    pa_csv.write_csv(columns_of(documents), f"{path}.csv")


def as_json(documents: list[dict[str, Any]], path: Path) -> None:
    Path(f"{path}.json").write_text(json.dumps(documents))


def as_lines(documents: list[dict[str, Any]], path: Path) -> None:
    """As mongoexport writes them."""
    marked = [
        {"_id": {"$oid": "5f"}, **d, "id": {"$numberLong": str(d["id"])}} if "id" in d else d
        for d in documents
    ]
    Path(f"{path}.json").write_text("\n".join(map(json.dumps, marked)) + "\n")


def check(found: Skeletons) -> None:
    assert found.nodes.tolist() == [10, 20, 30, 40, 50]
    assert found.skeletons.tolist() == [4, 4, 4, 0, 0]
    assert found.positions.tolist() == [[d["z"], d["y"], d["x"]] for d in NODES[:5]]
    assert found.lengths == {4: 7.0, 0: 1.0}


@pytest.mark.parametrize("write", [as_parquet, as_csv, as_json, as_lines])
@pytest.mark.parametrize("folder", [False, True])
def test_tables_of_nodes_and_edges(write: Callable[..., None], folder: bool, tmp_path: Path) -> None:
    (tmp_path / "finch").mkdir(exist_ok=folder)
    for name, documents in (("nodes", NODES), ("edges", EDGES)):
        write(documents, tmp_path / ("finch/" + name if folder else "finch." + name))
    check(read_skeletons(str(tmp_path / "finch")))


def test_one_json_document_and_networkx(tmp_path: Path) -> None:
    path = tmp_path / "finch.json"
    path.write_text(json.dumps({"nodes": NODES, "edges": EDGES}))
    check(read_skeletons(str(path)))
    graph = nx.Graph()
    for node in NODES[:5]:
        graph.add_node(node["id"], **{k: v for k, v in node.items() if k != "id"})
    graph.add_edges_from([(10, 20), (30, 20), (40, 50)])
    check(Skeletons.from_networkx(graph, skeleton_id_attribute="component_id"))
    path.write_text(json.dumps(nx.node_link_data(graph, edges="links")))
    check(read_skeletons(str(path)))


def test_collections_beside_the_nodes(tmp_path: Path) -> None:
    """As the funkelab scripts have them: masks, components and synapses in collections of their own."""
    bare = [{k: d[k] for k in ("id", "z", "y", "x")} for d in NODES]
    as_json(bare, tmp_path / "finch.nodes")
    as_parquet(EDGES, tmp_path / "finch.edges")
    as_csv([{"id": d["id"], "masked": d["masked"]} for d in NODES], tmp_path / "mask")
    as_lines([{"id": d["id"], "component_id": d["component_id"]} for d in NODES], tmp_path / "components")
    as_json([{"source": 10, "target": 50}], tmp_path / "synapses.edges")
    found = read_skeletons(
        str(tmp_path / "finch"),
        mask=str(tmp_path / "mask"),
        components=str(tmp_path / "components.json"),
        synapses=str(tmp_path / "synapses"),
    )
    check(found)
    assert found.synapses.tolist() == [True, False, False, False, True]


def test_swc(tmp_path: Path) -> None:
    (tmp_path / "b.swc").write_text("7 0 0.5 0 9 1 -1\n9 0 1.5 0 9 1 7\n")
    (tmp_path / "a.swc").write_text(SWC)
    one = read_skeletons(str(tmp_path / "a.swc"), scale=2)
    assert one.positions.tolist() == [[0, 0, 3], [0, 6, 3], [8, 6, 3]]
    assert one.lengths == {1: 14.0}
    assert read_skeletons(str(tmp_path)).lengths == {1: 7.0, 2: 1.0}


def test_without_ids_each_component_is_a_skeleton_also_after_a_cut(tmp_path: Path) -> None:
    documents = {"nodes": [{"id": i, "y": 0, "x": i} for i in range(5)], "edges": []}
    documents["edges"] = [{"source": i, "target": i + 1} for i in range(4)]
    (tmp_path / "line.json").write_text(json.dumps(documents))
    found = read_skeletons(str(tmp_path / "line.json"))
    assert found.positions.shape == (5, 2)
    assert found.lengths == {1: 4.0}
    assert found.take(np.arange(5) != 2).lengths == {1: 1.0, 2: 1.0}
    named = found.changed(skeletons=np.full(5, 8))
    assert named.take(np.arange(5) != 2).lengths == {8: 2.0}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.swc", "1 2 3\n", r"a\.swc: line 1: found '1 2 3', expected id, type"),
        ("a.swc", "# nothing\n", r"a\.swc: found no sample"),
        ("a.swc", "1 0 0 0 0 1 5\n", r"a\.swc: found nothing for node 5"),
        ("a.json", "{", r"a\.json: line 1"),
        ("a.json", "[1]", r"a\.json: found \[1\], expected an object with the lists nodes"),
        ("a.json", '{"nodes": [3]}', r"a\.json: found 3, expected documents"),
        ("a.json", '{"nodes": [{"id": 1, "z": 0, "y": 0}]}', r"columns id, z, y, expected also x"),
        ("a.json", '{"nodes": [{"id": 1.5, "y": 0, "x": 0}]}', r"id: found 1\.5 in row 0, expected whole"),
        ("a.json", '{"nodes": [{"id": 1, "y": NaN, "x": 0}]}', r"a\.json: positions: found \[nan, 0\.0\]"),
        (
            "a.json",
            '{"nodes": [{"id": 1, "y": 0, "x": 0}, {"id": 1, "y": 0, "x": 0}]}',
            r"1 occurs more than once",
        ),
        (
            "a.json",
            '{"nodes": [{"id": 1, "y": 0, "x": 0, "skeleton_id": 1},'
            '{"id": 2, "y": 0, "x": 0, "skeleton_id": 2}],'
            ' "edges": [{"source": 1, "target": 2}]}',
            r"nodes 1 of skeleton 1 and 2 of skeleton 2, expected edges within",
        ),
    ],
)
def test_damaged_files_are_named(name: str, content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        read_skeletons(str(tmp_path / name))


def test_missing_files_and_columns_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"finch: found no skeletons there"):
        read_skeletons(str(tmp_path / "finch"))
    with pytest.raises(FileNotFoundError, match=r"none\.swc"):
        read_skeletons(str(tmp_path / "none.swc"))
    (tmp_path / "finch.json").write_text(json.dumps({"nodes": NODES, "edges": EDGES}))
    with pytest.raises(FileNotFoundError, match="mask: there is no such table"):
        read_skeletons(str(tmp_path / "finch.json"), mask=str(tmp_path / "mask"))
    as_json([{"id": 10}], tmp_path / "mask")
    with pytest.raises(ValueError, match=r"mask\.json: found the columns id, expected also masked"):
        read_skeletons(str(tmp_path / "finch.json"), mask=str(tmp_path / "mask"))
    as_json([{"id": 10, "component_id": 1}], tmp_path / "components")
    with pytest.raises(ValueError, match=r"components\.json: found nothing for node 20, and 3 others"):
        read_skeletons(str(tmp_path / "finch.json"), components=str(tmp_path / "components"))
    as_parquet(NODES, tmp_path / "cut.nodes")
    as_parquet(EDGES, tmp_path / "cut.edges")
    table = tmp_path / "cut.edges.parquet"
    table.write_bytes(table.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"cut\.edges\.parquet: not a readable table"):
        read_skeletons(str(tmp_path / "cut"))


def test_wrong_skeletons_are_refused() -> None:
    with pytest.raises(ValueError, match=r"positions: found shape \(3,\), expected"):
        Skeletons([1, 2, 3], [])
    with pytest.raises(ValueError, match=r"edges: found \[0, 2\], expected rows of the 2 nodes"):
        Skeletons([[0, 0], [1, 1]], [[0, 2]])
    with pytest.raises(ValueError, match=r"skeletons: found int64 of shape \(3,\)"):
        Skeletons([[0, 0], [1, 1]], [], [1, 2, 3])
    with pytest.raises(ValueError, match="synapses: found int64"):
        Skeletons([[0, 0]], [], synapses=[1])
    graph = nx.Graph()
    graph.add_node("a", z=0)
    with pytest.raises(ValueError, match="node 'a': found the attributes z, expected also y, x"):
        Skeletons.from_networkx(graph)


# Labels at the nodes


@given(st.data(), seeds)
def test_labels_at_positions_whatever_the_chunks(data: st.DataObject, seed: int) -> None:
    shape = data.draw(shapes(6, 7, 8))
    labels = data.draw(label_volumes(shape))
    grid = Grid(("z", "y", "x"), shape, (40, 4, 4), (1000, -20, 0))
    rng = np.random.default_rng(seed)
    voxels = rng.integers(0, shape, (20, 3))
    inside = rng.choice([0.0, 0.3, 0.999], (20, 3))
    positions = np.array(grid.offset) + (voxels + inside) * grid.voxel_size
    expected = labels[tuple(voxels.T)]
    lazy = label(da.from_array(labels, data.draw(chunkings(shape))), grid)
    with dask.config.set(scheduler="synchronous"):
        np.testing.assert_array_equal(labels_at(lazy, positions), expected)
        np.testing.assert_array_equal(labels_at(label(labels, grid), positions), expected)
    np.testing.assert_array_equal(labels_at(labels, voxels + inside), expected)


def test_only_what_holds_positions_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.arange(32**3, dtype=np.uint64).reshape(32, 32, 32)
    save_volume(labels, tmp_path / "a.zarr/labels", block_shape=(16, 16, 16))
    read: list[Any] = []
    kept = StoredVolume.read
    monkeypatch.setattr(StoredVolume, "read", lambda self, region: read.append(region) or kept(self, region))
    volume = open_volume(tmp_path / "a.zarr/labels", chunks=16)[2:, :, :]
    with dask.config.set(scheduler="synchronous"):
        found = labels_at(volume, [[2.5, 0.5, 0.5], [5.5, 1.5, 3.5], [31.5, 31.5, 31.5]])
    assert found.tolist() == labels[[2, 5, 31], [0, 1, 31], [0, 3, 31]].tolist()
    assert sorted(read) == [
        (slice(2, 6), slice(0, 2), slice(0, 4)),
        (slice(31, 32), slice(31, 32), slice(31, 32)),
    ]


def test_positions_outside_are_told() -> None:
    volume = label(np.ones((4, 4, 4), np.uint8), Grid(("z", "y", "x"), (4, 4, 4), (2, 2, 2), (0, 0, 0)))
    assert labels_at(volume, np.empty((0, 3))).tolist() == []
    with pytest.raises(
        ValueError, match=r"positions: 2 of 3 lie outside of the volume, \(0\.0, 0\.0, 8\.0\)"
    ):
        labels_at(volume, [[0, 0, 8], [1, 1, 1], [-0.1, 0, 0]])
    with pytest.raises(ValueError, match="1 of 1 lie outside"):
        labels_at(volume, [[np.nan, 0, 0]])
    with pytest.raises(ValueError, match=r"positions: found shape \(1, 2\), expected \(n, 3\)"):
        labels_at(volume, [[0, 0]])
    with pytest.raises(TypeError, match="volume: found dtype float64"):
        labels_at(np.ones((2, 2)), [[0, 0]])
    with pytest.raises(ValueError, match="skeletons have 2 axes, the volume has 3"):
        Skeletons([[0, 0]], []).inside(Grid(("z", "y", "x"), (1, 1, 1), (1, 1, 1), (0, 0, 0)))
