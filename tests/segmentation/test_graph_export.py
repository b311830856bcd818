"""Region graphs as other tools read them: scipy, DuckDB, polars, pandas, SQLite and PostgreSQL."""

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import networkx as nx
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csgraph

from lsd_dask.segmentation.agglomeration import agglomerate
from lsd_dask.segmentation.graph_export import to_postgresql, to_sparse, to_sqlite
from lsd_dask.segmentation.region_graph import RegionGraph

from ..helpers.strategies import LARGE_IDS, edge_values, graph_of, random_edge_values

GRAPH = graph_of(random_edge_values(0, 60, 90))
SCORES = agglomerate(GRAPH, "hist_quant_90").merge_scores(GRAPH)
SCORES[3] = np.nan


def rows_of(graph: RegionGraph, scores: np.ndarray) -> dict[tuple[int, int], float | None]:
    pairs = zip(graph.edges.u.tolist(), graph.edges.v.tolist(), strict=True)
    return {pair: None if np.isnan(score) else score for pair, score in zip(pairs, scores, strict=True)}


@given(edge_values(), st.sampled_from([0.2, 0.5, 0.8]))
def test_sparse_matrices_hold_what_networkx_does(values, threshold):
    graph = graph_of({(u + 2**60, v + 2**60): row for (u, v), row in values.items()}, nodes=[1, *LARGE_IDS])
    scores = agglomerate(graph, "mean").merge_scores(graph)
    matrix = to_sparse(graph, scores)
    ids = graph.nodes.ids.tolist()
    expected = nx.Graph(graph.to_networkx(scores))
    expected.remove_edges_from([e for *e, s in expected.edges(data="merge_score") if s is None])
    found = nx.relabel_nodes(nx.from_scipy_sparse_array(matrix), dict(enumerate(ids)))
    assert set(map(frozenset, found.edges)) == set(map(frozenset, expected.edges))
    assert all(found.edges[e]["weight"] == expected.edges[e]["merge_score"] for e in expected.edges)
    np.testing.assert_array_equal(matrix.toarray(), matrix.toarray().T)

    cut = to_sparse(graph, np.where(scores <= threshold, 1.0, np.nan))
    _, segments = csgraph.connected_components(cut, directed=False)
    lut = agglomerate(graph, "mean").cut(threshold)
    assert len(set(zip(segments.tolist(), lut.values.tolist(), strict=True))) == len(set(segments.tolist()))


def test_sparse_matrices_need_a_value_an_edge():
    with pytest.raises(ValueError, match=r"values: found shape \(2,\), expected \(\d+,\), one for each edge"):
        to_sparse(GRAPH, np.zeros(2))


# Parquet


def test_duckdb_polars_and_pandas_read_the_tables(tmp_path):
    duckdb, polars = pytest.importorskip("duckdb"), pytest.importorskip("polars")
    GRAPH.to_parquet(str(tmp_path))
    lut = agglomerate(GRAPH, "mean").cut(0.5)
    lut.to_parquet(str(tmp_path / "lut.parquet"))
    expected = pd.DataFrame({"segment": lut.values, "size": GRAPH.nodes.sizes}).groupby("segment").sum()
    query = f"""
        SELECT segment, sum(size)::BIGINT AS size
        FROM '{tmp_path}/lut.parquet' JOIN '{tmp_path}/nodes.parquet' ON fragment = id
        GROUP BY segment ORDER BY segment
    """
    assert duckdb.sql(query).fetchall() == list(expected["size"].items())
    frame = (
        polars.scan_parquet(tmp_path / "lut.parquet")
        .join(polars.scan_parquet(tmp_path / "nodes.parquet"), left_on="fragment", right_on="id")
        .group_by("segment")
        .agg(polars.col("size").sum())
        .sort("segment")
        .collect()
    )
    assert frame.rows() == list(expected["size"].items())
    edges = pd.read_parquet(tmp_path / "edges.parquet")
    np.testing.assert_array_equal(edges["u"], GRAPH.edges.u)
    assert edges["histogram_bins"].map(len).sum() == len(GRAPH.edges.bins)


# Databases


def test_sqlite_is_read_by_funlib_persistence(tmp_path):
    graphs = pytest.importorskip("funlib.persistence.graphs")
    path = tmp_path / "new" / "rag.sqlite"
    to_sqlite(GRAPH, path, merge_scores=SCORES)
    database = graphs.SQLiteGraphDataBase(path, "position", mode="r")
    read = database.read_graph()
    database.close()
    expected = GRAPH.to_networkx(SCORES)
    assert {frozenset(e) for e in read.edges} == {frozenset(e) for e in expected.edges}
    for u, v, found in read.edges(data=True):
        assert found == expected.edges[u, v]
    for row, (node, found) in enumerate(sorted(read.nodes(data=True))):
        assert node == GRAPH.nodes.ids[row]
        assert found["size"] == GRAPH.nodes.sizes[row]
        np.testing.assert_array_equal(found["position"], GRAPH.centers[row])
    assert sorted(p.name for p in path.parent.iterdir()) == ["rag-meta.json", "rag.sqlite"]


def test_sqlite_files_are_replaced_only_when_asked(tmp_path):
    pytest.importorskip("funlib.persistence")
    path = tmp_path / "rag.sqlite"
    to_sqlite(GRAPH, path)
    with pytest.raises(FileExistsError, match=r"rag.sqlite: a file is already there"):
        to_sqlite(GRAPH, path)
    few = graph_of({(1, 2): [3]})
    to_sqlite(few, str(path), overwrite=True)
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT u, v, count FROM edges").fetchall() == [(1, 2, 1)]
        columns = [row[1] for row in connection.execute("PRAGMA table_info(edges)")]
    connection.close()
    assert "merge_score" not in columns
    with pytest.raises(ValueError, match=r"found the fragment id 18446744073709551615, expected at most"):
        to_sqlite(graph_of({(1, 2**64 - 1): [3]}), path, overwrite=True)
    with pytest.raises(ValueError, match=r"merge_scores: found shape \(3,\), expected \(1,\)"):
        to_sqlite(few, path, overwrite=True, merge_scores=np.zeros(3))
    assert len(list(tmp_path.iterdir())) == 2


def test_the_extra_is_named_where_it_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "funlib.persistence", None)
    with pytest.raises(
        ModuleNotFoundError, match=r"needs funlib.persistence: pip install 'lsd-dask\[formats"
    ):
        to_sqlite(GRAPH, tmp_path / "rag.sqlite")


@pytest.fixture
def postgresql() -> Iterator[dict[str, object]]:
    """A server of its own, in a folder that is gone afterwards."""
    if not (shutil.which("initdb") and shutil.which("pg_ctl")):
        pytest.skip("PostgreSQL (initdb, pg_ctl) is not installed")
    pytest.importorskip("psycopg2")
    # The server refuses to be run by root.
    user = {"user": "nobody"} if os.getuid() == 0 else {}
    folder = Path(tempfile.mkdtemp(prefix="pg"))
    if user:
        shutil.chown(folder, "nobody")
    options = f"-c listen_addresses='' -c fsync=off -k {folder}"
    quiet = {"check": True, "stdout": subprocess.DEVNULL, "cwd": folder, **user}
    subprocess.run(["initdb", "-D", folder / "data", "-U", "tester", "-A", "trust", "--no-sync"], **quiet)
    subprocess.run(
        ["pg_ctl", "-D", folder / "data", "-w", "-l", folder / "log", "-o", options, "start"], **quiet
    )
    try:
        yield {"host": str(folder), "user": "tester"}
    finally:
        subprocess.run(["pg_ctl", "-D", folder / "data", "-m", "immediate", "stop"], **quiet)
        shutil.rmtree(folder)


def test_postgresql_is_read_by_funlib_persistence(postgresql):
    graphs = pytest.importorskip("funlib.persistence.graphs")
    to_postgresql(GRAPH, "rag", merge_scores=SCORES, **postgresql)
    with pytest.raises(FileExistsError, match="the database holds a graph already"):
        to_postgresql(GRAPH, "rag", merge_scores=SCORES, **postgresql)
    to_postgresql(GRAPH, "rag", merge_scores=SCORES, overwrite=True, **postgresql)
    server = {"db_host": postgresql["host"], "db_user": postgresql["user"]}
    database = graphs.PgSQLGraphDatabase("position", "rag", mode="r", **server)
    read = database.read_graph()
    database.close()
    found = {tuple(sorted(e)): s for *e, s in read.edges(data="merge_score")}
    expected = rows_of(GRAPH, SCORES)
    assert found.keys() == expected.keys()
    for pair, score in expected.items():
        # Single precision is what funlib.persistence keeps there.
        assert found[pair] == (None if score is None else np.float32(score)), pair
    assert {n: d["size"] for n, d in read.nodes(data=True)} == dict(
        zip(GRAPH.nodes.ids.tolist(), GRAPH.nodes.sizes.tolist(), strict=True)
    )
