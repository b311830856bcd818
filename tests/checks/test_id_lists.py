"""Ids around 2**53, 2**63 and 2**64, in any mixture of Python's and NumPy's integers: always exact."""

from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lsd_dask as ld
from lsd_dask.checks.id_lists import comparable, id_of, ids_of, whole_numbers_of
from lsd_dask.evaluation import ContingencyTable, Skeletons, count_overlaps, min_cut_metric, read_skeletons
from lsd_dask.evaluation.run_lengths import expected_run_length
from lsd_dask.segmentation.agglomeration import LookupTable, MergeTree
from lsd_dask.segmentation.edits import Edits, rows_of
from lsd_dask.viewer.merging import Merging
from lsd_dask.viewing import label_colors
from lsd_dask.workflows.config.loading import ConfigError, load_config
from lsd_dask.workflows.config.steps import EvaluateVolumesConfig
from lsd_dask.workflows.config.train import VolumeConfig

#: Where float64, int64 and uint64 end.
EDGES = sorted({2**power + step for power in (8, 31, 32, 53, 63) for step in (-1, 0, 1)} | {1, 2**64 - 1})

ID_SETS = st.lists(st.sampled_from(EDGES), min_size=3, max_size=6, unique=True)
TYPES = ("uint8", "int8", "int32", "uint32", "int64", "uint64")


@st.composite
def mixtures(draw: st.DrawFn) -> tuple[list[int], Any]:
    """Ids, and the same as someone may give them."""
    ids = draw(ID_SETS)
    mixed: list[Any] = []
    for one in ids:
        fitting = [name for name in TYPES if one <= np.iinfo(name).max]
        name = draw(st.sampled_from(["int", *fitting]))
        mixed.append(one if name == "int" else np.dtype(name).type(one))
    kind = draw(st.sampled_from(["list", "tuple", "set", "iterator", "array", "objects"]))
    given: dict[str, Any] = {
        "list": mixed,
        "tuple": tuple(mixed),
        "set": set(mixed),
        "iterator": iter(mixed),
        "array": np.array(ids, np.uint64),
        "objects": np.array(mixed, object),
    }
    return ids, given[kind]


@given(mixtures())
def test_ids_in_any_mixture_are_exact(case: tuple[list[int], Any]) -> None:
    ids, given = case
    found = ids_of(given, "ids")
    assert found.dtype == np.uint64
    assert sorted(found.tolist()) == sorted(ids)


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (1.0, TypeError, "ids: found 1.0, expected whole numbers from 0"),
        (np.float64(1), TypeError, "ids: found "),
        (True, TypeError, "ids: found True"),
        ("7", TypeError, "ids: found '7'"),
        (None, TypeError, "ids: found None"),
        (-1, ValueError, "ids: found the negative id -1"),
        (2**64, ValueError, "ids: found the id 18446744073709551616, expected at most"),
    ],
)
def test_what_is_no_id(value: Any, error: type[Exception], message: str) -> None:
    for call in (
        lambda: id_of(value, "ids"),
        lambda: ids_of(value, "ids"),
        lambda: ids_of([5, value], "ids"),
        lambda: ids_of({value}, "ids"),
    ):
        with pytest.raises(error) as caught:
            call()
        assert message in str(caught.value)
    for array in (np.array([1.0]), np.array([True])):
        with pytest.raises(TypeError, match="ids: found dtype"):
            ids_of(array, "ids")
    for nothing in ([], (), np.array([])):
        assert ids_of(nothing, "ids").dtype == np.uint64


@given(mixtures(), st.randoms())
def test_objects_that_are_ignored(case: tuple[list[int], Any], random: Any) -> None:
    ids, given = case
    beside = next(one for one in EDGES if one not in ids)
    truth = np.array([*ids, beside, *ids], np.uint64)
    table = count_overlaps(truth, np.arange(len(truth)))
    assert set(table.without(given).truth.tolist()) == {beside}


@given(ID_SETS)
def test_tables_are_relabelled_exactly(ids: list[int]) -> None:
    ids = sorted(ids)
    for keys in (ids, np.array(ids, np.uint64), [np.uint64(one) for one in ids]):
        table = ContingencyTable.from_volumes(np.ones(len(ids), int), np.array(ids, np.uint64))
        assert table.relabel_test(keys, ids[::-1]).test.tolist() == ids
        lut = LookupTable(keys, ids[::-1])
        assert [lut[one] for one in ids] == ids[::-1]
        assert [lut[np.uint64(one)] for one in ids] == ids[::-1]
        fragments = np.array([ids], np.uint64)
        assert ld.relabel(fragments, lut).tolist() == [ids[::-1]]


@given(ID_SETS)
def test_merge_trees_and_edits_are_exact(ids: list[int]) -> None:
    ids = sorted(ids)
    tree = MergeTree(ids, np.zeros(len(ids), int), np.array([256] + [100] * (len(ids) - 1)), "mean")
    edits = Edits(cannot_link=[(ids[0], ids[1])], must_link=[(np.uint64(ids[1]), ids[2])])
    assert edits.fragments.tolist() == ids[:3]
    assert rows_of(edits, ids).tolist() == [0, 1, 2]
    cut = tree.cut(1, edits=edits)
    assert [cut[one] for one in ids] == [ids[0], ids[1], ids[1], *[ids[0]] * (len(ids) - 3)]
    small = [one for one in ids if one < 2**63]
    merging = Merging(tree, 1.0)
    assert merging.apply(np.array(small, np.int64)).tolist() == [ids[0]] * len(small)
    facts = merging.facts(np.uint64(ids[-1]))
    assert facts is not None
    assert facts.fragments == tuple(ids)


@given(ID_SETS)
def test_descriptors_of_listed_objects(ids: list[int]) -> None:
    labels = np.repeat(np.array(ids, np.uint64), 6)[None]
    every = ld.local_shape_descriptors(labels, 1, components="5")[0]
    found = ld.local_shape_descriptors(labels, 1, components="5", labels=ids[:2])[0]
    assert np.array_equal(found, np.where(np.isin(labels, np.array(ids[:2], np.uint64)), every, 0))


@given(ID_SETS)
def test_colors_are_those_of_the_id_alone(ids: list[int]) -> None:
    alone = [label_colors(np.array([one], np.uint64))[0] for one in ids]
    assert np.array_equal(label_colors(ids), alone)


@given(ID_SETS)
def test_skeletons_in_segments_of_any_ids(ids: list[int]) -> None:
    first, second, *_ = ids
    line = Skeletons([[0, 0, 0], [0, 0, 1], [0, 0, 2]], [[0, 1], [1, 2]])
    assert expected_run_length(line, [first, first, second]).split == 1
    assert expected_run_length(line, {0: first, 1: first, 2: first}).split == 0
    low, middle, high = sorted(ids[:3])
    lut = LookupTable([low, middle, high], [low, low, low])
    sites = Skeletons([[0, 0, 0], [0, 0, 9]], [])
    found = min_cut_metric(sites, [low, high], lut, [low, middle], [middle, high], np.array([0.1, 0.4]))
    assert (found.splits, found.merges) == (1, 0)


@given(mixtures())
def test_configurations_hold_ids_exactly(case: tuple[list[int], Any]) -> None:
    ids, given = case
    options = {"gt_file": "a.zarr", "fragments_file": "b.zarr"}
    found = load_config(EvaluateVolumesConfig, {**options, "ignore_ids": given}).ignore_ids
    assert found is not None
    assert sorted(found) == sorted(ids)
    assert all(type(one) is int for one in found)
    volume = VolumeConfig(raw_file="a.zarr", ignored_ids=[str(one) for one in ids])
    assert volume.ignored_ids == tuple(ids)


@pytest.mark.parametrize("value", [1.0, 1.8e19, True, -1, 2**64, "1e3", "7.0", None])
def test_configurations_refuse_what_is_no_id(value: Any) -> None:
    options = {"gt_file": "a.zarr", "fragments_file": "b.zarr", "ignore_ids": [value]}
    with pytest.raises(ConfigError, match=r"ignore_ids\[0\] should be a whole number from 0 to 2\*\*64 - 1"):
        load_config(EvaluateVolumesConfig, options)


@given(st.lists(st.sampled_from([-1, -(2**63), *EDGES]), min_size=1, unique=True))
def test_integers_of_any_sign(values: list[int]) -> None:
    assert whole_numbers_of(values).tolist() == values
    columns = [whole_numbers_of([value]) for value in values]
    assert np.concatenate(comparable(*columns)).tolist() == values


NODES = [2**53 + 1, 2**53, 2**63 + 1, 2**64 - 1, 5]


@pytest.mark.parametrize("ending", ["parquet", "json"])
def test_skeleton_files_with_large_ids(tmp_path: Path, ending: str) -> None:
    nodes = [{"id": one, "z": 0.0, "y": 0.0, "x": float(row)} for row, one in enumerate(NODES)]
    edges = [{"source": 5, "target": 2**53 + 1}, {"source": 5, "target": 2**53}]
    if ending == "json":
        import json

        (tmp_path / "a.json").write_text(json.dumps({"nodes": nodes, "edges": edges}))
        found = read_skeletons(str(tmp_path / "a.json"))
    else:
        columns = {name: [node[name] for node in nodes] for name in ("z", "y", "x")}
        pq.write_table(pa.table({"id": pa.array(NODES, pa.uint64()), **columns}), tmp_path / "nodes.parquet")
        pq.write_table(pa.Table.from_pylist(edges), tmp_path / "edges.parquet")
        found = read_skeletons(str(tmp_path))
    assert found.nodes.tolist() == NODES
    assert sorted(found.edges.tolist()) == [[4, 0], [4, 1]]


def test_skeleton_files_of_floats_that_are_not_exact(tmp_path: Path) -> None:
    text = f"1 0 0 0 0 1 -1\n{2**53 + 1} 0 1 0 0 1 1\n{2**53 + 3} 0 2 0 0 1 {2**53 + 1}\n"
    (tmp_path / "trees").mkdir()
    (tmp_path / "trees" / "a.swc").write_text(text)
    assert read_skeletons(str(tmp_path / "trees" / "a.swc")).edges.tolist() == [[1, 0], [2, 1]]
    columns = {name: [0.0, 1.0] for name in ("z", "y", "x")}
    for ids in ([5.0, 2.0**53], [5.0, 1e19]):
        pq.write_table(pa.table({"id": ids, **columns}), tmp_path / "nodes.parquet")
        pq.write_table(pa.table({"source": [5], "target": [5]}), tmp_path / "edges.parquet")
        with pytest.raises(ValueError, match=r"id: found .* in row 1, expected whole numbers, none rounded"):
            read_skeletons(str(tmp_path))


def test_graphs_with_large_ids() -> None:
    graph = nx.path_graph(NODES)
    for row, node in enumerate(NODES):
        graph.nodes[node].update(z=0, y=0, x=row)
    skeletons = Skeletons.from_networkx(graph)
    assert skeletons.nodes.tolist() == NODES
    assert expected_run_length(graph, dict.fromkeys(NODES, 2**64 - 1)).split == 0
    nx.set_node_attributes(graph, 2**63, "skeleton")
    with pytest.raises(ValueError, match="skeletons: found the id 9223372036854775808, expected at most"):
        Skeletons.from_networkx(graph, skeleton_id_attribute="skeleton")
