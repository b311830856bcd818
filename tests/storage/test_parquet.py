"""Tables on disk: they come back as they were, others can read them, and a damaged one is named."""

import dataclasses
import io
import itertools
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsd_dask.segmentation.agglomeration import LookupTable, MergeTree, agglomerate
from lsd_dask.segmentation.graph_tables import EdgeTable, NodeTable
from lsd_dask.segmentation.region_graph import RegionGraph, build_region_graph
from lsd_dask.space.grids import Grid, spatial_dims
from lsd_dask.storage import parquet

from ..helpers.strategies import LARGE_IDS, affinities, edge_values, graph_of, label_volumes, shapes


def directory() -> str:
    return f"memory://{uuid.uuid4().hex}.zarr/rag"


def assert_equal(first: Any, second: Any) -> None:
    """Dataclasses of arrays, however deep, with the same values and types."""
    assert type(first) is type(second)
    for field in dataclasses.fields(first):
        a, b = getattr(first, field.name), getattr(second, field.name)
        if isinstance(a, np.ndarray):
            np.testing.assert_array_equal(a, b, strict=True, err_msg=field.name)
        elif isinstance(a, NodeTable | EdgeTable):
            assert_equal(a, b)
        else:
            assert a == b, field.name


@st.composite
def graphs(draw: st.DrawFn) -> RegionGraph:
    """Graphs of small volumes, 2-D and 3-D, with ids of any size; some of them are empty."""
    shape = draw(shapes(4, 5, 6) | shapes(6, 7))
    fragments = draw(label_volumes(shape))
    if draw(st.integers(0, 4)) == 0:
        fragments[:] = 0
    graph = build_region_graph(draw(affinities(shape, dtypes="uf")), fragments)
    sizes = draw(st.sampled_from([(1.0, 1.0, 1.0), (40.0, 4.25, 0.1)]))[: len(shape)]
    grid = Grid(spatial_dims(len(shape)), shape, sizes, tuple(3.3 * v for v in sizes), "micrometer")
    return dataclasses.replace(graph, grid=grid)


@given(graphs())
def test_graphs_come_back(graph: RegionGraph) -> None:
    path = directory()
    graph.to_parquet(path)
    again = RegionGraph.from_parquet(path)
    assert_equal(again, graph)
    # What is read can be worked with like what was built.
    assert_equal(agglomerate(again, "mean"), agglomerate(graph, "mean"))


@given(edge_values(), st.sampled_from(["mean", "hist_quant_50", "hist_quant_10_initmax"]))
def test_merge_trees_and_lookup_tables_come_back(values: Any, merge_function: str) -> None:
    graph = graph_of(values, nodes=LARGE_IDS)
    path = directory()
    tree = agglomerate(graph, merge_function)
    tree.to_parquet(f"{path}/merges.parquet")
    assert_equal(MergeTree.from_parquet(f"{path}/merges.parquet"), tree)
    lut = tree.cut(0.5)
    lut.to_parquet(f"{path}/lut.parquet")
    assert_equal(LookupTable.from_parquet(f"{path}/lut.parquet"), lut)


def test_empty_trees_and_lookup_tables_come_back() -> None:
    path = directory()
    tree = MergeTree(np.zeros(0, np.uint64), np.zeros(0, np.int64), np.zeros(0, np.int64), "mean")
    tree.to_parquet(f"{path}/merges.parquet")
    assert_equal(MergeTree.from_parquet(f"{path}/merges.parquet"), tree)
    tree.cut(1).to_parquet(f"{path}/lut.parquet")
    assert_equal(LookupTable.from_parquet(f"{path}/lut.parquet"), tree.cut(1))


def test_others_read_the_tables_by_the_names_of_their_columns(tmp_path: Path) -> None:
    fragments = np.array([[[1, 1, 5]], [[1, 5, 5]]], np.uint64)
    graph = build_region_graph(np.full((3, 2, 1, 3), 128, np.uint8), fragments)
    grid = Grid(("z", "y", "x"), (2, 1, 3), (40, 4, 4), (400, 0, 0), "nanometer")
    dataclasses.replace(graph, grid=grid).to_parquet(str(tmp_path))

    nodes = pq.read_table(tmp_path / "nodes.parquet")
    row = {name: values[0] for name, values in nodes.to_pydict().items()}
    assert (row["id"], row["size"]) == (1, 3)
    assert row["center_z"] == pytest.approx(400 + (1 / 3 + 0.5) * 40)
    assert row["center_x"] == pytest.approx((1 / 3 + 0.5) * 4)
    assert (row["begin_x"], row["end_x"]) == (0, 2)
    assert nodes.schema.field("id").type == pa.uint64()

    edges = pq.read_table(tmp_path / "edges.parquet").to_pydict()
    assert (edges["u"], edges["v"], edges["count"], edges["sum"]) == ([1], [5], [3], [3 * 128])
    assert edges["histogram_bins"] == [[128]]
    assert edges["histogram_counts"] == [[3]]


def test_tables_sorted_by_id_are_an_index(tmp_path: Path) -> None:
    """The statistics of the row groups tell which of them hold an id."""
    path = tmp_path / "lut.parquet"
    keys = np.arange(1, 300_001, dtype=np.uint64)
    LookupTable(keys, keys).to_parquet(str(path))
    metadata = pq.ParquetFile(path).metadata
    ranges = [metadata.row_group(i).column(0).statistics for i in range(metadata.num_row_groups)]
    assert len(ranges) > 1
    assert all(a.max < b.min for a, b in itertools.pairwise(ranges))


@pytest.mark.parametrize("kept", [0, 1, 4, 0.5, -1])
def test_a_file_cut_short_is_named(tmp_path: Path, kept: float) -> None:
    path = tmp_path / "merges_mean.parquet"
    agglomerate(graph_of({(1, 2): [200]}), "mean").to_parquet(str(path))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole)) if kept == 0.5 else int(kept)])
    with pytest.raises(ValueError, match=r"merges_mean\.parquet: not a readable Parquet file .* cut short"):
        MergeTree.from_parquet(str(path))


def test_a_damaged_page_is_named(tmp_path: Path) -> None:
    path = tmp_path / "lut.parquet"
    keys = np.random.default_rng(0).integers(1, 2**62, 4000).astype(np.uint64)
    LookupTable(np.sort(keys), keys).to_parquet(str(path))
    content = bytearray(path.read_bytes())
    content[100:400] = bytes(300)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"lut\.parquet: not a readable Parquet file"):
        LookupTable.from_parquet(str(path))


def test_another_kind_of_table_is_named(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    keys = np.array([1, 2], np.uint64)
    LookupTable(keys, keys).to_parquet(str(path))
    with pytest.raises(
        ValueError, match=r"table\.parquet: found the columns fragment, segment, expected also"
    ):
        MergeTree.from_parquet(str(path))
    buffer = io.BytesIO()
    pq.write_table(pa.table({"fragment": keys, "parent": keys, "level": [0, 1]}), buffer)
    path.write_bytes(buffer.getvalue())
    with pytest.raises(ValueError, match=r"table\.parquet: the table does not say its merge_function"):
        MergeTree.from_parquet(str(path))


def test_a_missing_table_is_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nodes\.parquet"):
        RegionGraph.from_parquet(str(tmp_path))


@given(st.lists(st.lists(st.integers(0, 255), max_size=4), max_size=5))
def test_ragged_columns_come_back(rows: list[list[int]]) -> None:
    values = np.array([v for row in rows for v in row], np.uint8)
    starts = np.cumsum([0] + [len(row) for row in rows])
    path = f"{directory()}/table.parquet"
    parquet.write_table(path, {"bins": parquet.ragged(starts, values)}, {"scale": 255})
    table, facts = parquet.read_table(path, "bins")
    assert facts == {"scale": 255}
    assert table["bins"].to_pylist() == rows
    found_starts, found = parquet.unragged(table, "bins")
    np.testing.assert_array_equal(found_starts, starts)
    np.testing.assert_array_equal(found, values, strict=True)
    assert found.flags.writeable
