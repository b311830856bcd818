"""Region graphs for other tools: sparse matrices, and databases of funlib.persistence (extra ``formats``).

Parquet tables are what a workflow leaves anyway (`lsd_dask.storage.parquet`), and `RegionGraph.to_networkx`
makes a graph for networkx. Here are scipy's sparse matrices, and SQLite or PostgreSQL as funlib.persistence
lays them out [1]_, which proofreading tools of the funkelab ecosystem read and write.

References
----------
.. [1] https://github.com/funkelab/funlib.persistence
"""

import itertools
import os
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from .region_graph import RegionGraph

#: Rows that are handed to a database at once.
_BATCH = 1 << 16

#: The largest id that a column of a database holds.
_MOST = 2**63 - 1


def to_sparse(graph: RegionGraph, values: np.ndarray | None = None) -> sparse.csr_array:
    """The graph as a symmetric matrix, for scipy.sparse.csgraph and the like.

    Parameters
    ----------
    graph : RegionGraph
        Of n fragments.
    values : (m,) ndarray, optional
        One number for each row of ``graph.edges``, such as the scores of `MergeTree.merge_scores`; by default
        their mean affinities. Edges with NaN are left out; zeros are kept.

    Returns
    -------
    (n, n) csr_array
        Row i is the fragment ``graph.nodes.ids[i]``.

    Raises
    ------
    ValueError
        If there is not one value an edge.

    Examples
    --------
    >>> from lsd_dask.segmentation.region_graph import build_region_graph
    >>> fragments = np.array([[1, 2, 4]], dtype=np.uint64)
    >>> affinities = np.array([[[0, 0, 0]], [[0, 255, 51]]], dtype=np.uint8)
    >>> to_sparse(build_region_graph(affinities, fragments)).toarray()
    array([[0. , 1. , 0. ],
           [1. , 0. , 0.2],
           [0. , 0.2, 0. ]])
    """
    given = graph.mean_affinities if values is None else np.asarray(values)
    if given.shape != (len(graph.edges),):
        raise ValueError(
            f"values: found shape {given.shape}, expected ({len(graph.edges)},), one for each edge of the "
            "graph"
        )
    known = ~np.isnan(given) if given.dtype.kind == "f" else np.ones(len(given), bool)
    ids = graph.nodes.ids
    u, v = (np.searchsorted(ids, ends[known]) for ends in (graph.edges.u, graph.edges.v))
    rows, columns = np.concatenate([u, v]), np.concatenate([v, u])
    both = np.concatenate([given[known]] * 2)
    return sparse.csr_array((both, (rows, columns)), shape=(len(ids), len(ids)))


def to_sqlite(
    graph: RegionGraph,
    path: str | PathLike[str],
    *,
    merge_scores: np.ndarray | None = None,
    overwrite: bool = False,
) -> None:
    """Write the graph into an SQLite file of funlib.persistence.

    Parameters
    ----------
    graph : RegionGraph
    path : str or PathLike
        Of a local file. funlib.persistence keeps ``<name>-meta.json`` beside it.
    merge_scores : (m,) ndarray, optional
        Score at which the ends of each edge became one (`MergeTree.merge_scores`); NaN becomes NULL.
    overwrite : bool, optional
        Whether a file that is there is replaced.

    Raises
    ------
    ModuleNotFoundError
        Without funlib.persistence.
    FileExistsError
        If the file is there and `overwrite` is False.
    ValueError
        If an id does not fit into a column, or there is not one score an edge.

    Notes
    -----
    Table ``nodes``: ``id``, ``size`` (voxels), ``position_0``, ... (centre of mass, world units, z, y, x).
    Table ``edges``: ``u``, ``v``, ``count``, ``mean_affinity``, ``max_affinity`` and, if given,
    ``merge_score``.
    """
    graphs = _funlib()
    file = Path(path).absolute()
    if file.exists() and not overwrite:
        raise FileExistsError(f"{file}: a file is already there; pass overwrite=True to replace it")
    batches = _check(graph, merge_scores)
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_name(f"{file.stem}.{os.getpid()}.partial")
    described = beside.with_name(f"{beside.stem}-meta.json")
    try:
        database = graphs.SQLiteGraphDataBase(beside, mode="w", **_layout(graph, merge_scores))
        try:
            _fill(database, batches)
        finally:
            database.close()
        described.replace(file.with_name(f"{file.stem}-meta.json"))
        beside.replace(file)
    finally:
        for left in (beside, described, *file.parent.glob(f"{beside.name}-*")):
            left.unlink(missing_ok=True)


def to_postgresql(
    graph: RegionGraph,
    database: str,
    *,
    host: str = "localhost",
    port: int | None = None,
    user: str | None = None,
    password: str | None = None,
    merge_scores: np.ndarray | None = None,
    overwrite: bool = False,
) -> None:
    """Write the graph into a PostgreSQL database of funlib.persistence.

    Parameters
    ----------
    graph : RegionGraph
    database : str
        Name of the database; it is made where there is none.
    host, port, user, password : optional
        Of the server; what is not given is found as psycopg2 finds it.
    merge_scores, overwrite
        As for `to_sqlite`.

    Raises
    ------
    ModuleNotFoundError, ValueError
        As for `to_sqlite`.
    FileExistsError
        If the database holds a graph and `overwrite` is False.

    Notes
    -----
    Tables as of `to_sqlite`; ``position`` is one column, an array. Fractions are kept in single precision.
    """
    graphs = _funlib()
    batches = _check(graph, merge_scores)
    server = {"db_name": database, "db_host": host, "db_port": port, "db_user": user, "db_password": password}
    if not overwrite:
        try:
            graphs.PgSQLGraphDatabase("position", mode="r", **server).close()
        except RuntimeError:
            # That it has no graph yet.
            pass
        else:
            raise FileExistsError(
                f"{database} on {host}: the database holds a graph already; pass overwrite=True to replace it"
            )
    opened = graphs.PgSQLGraphDatabase(mode="w", **server, **_layout(graph, merge_scores))
    try:
        _fill(opened, batches)
    finally:
        opened.close()


type _Batches = tuple[Iterator[dict[int, dict[str, Any]]], Iterator[dict[tuple[int, int], dict[str, Any]]]]


def _check(graph: RegionGraph, merge_scores: np.ndarray | None) -> _Batches:
    """Nodes and edges, some at a time; all errors come before a database is touched."""
    if len(graph.nodes) and graph.nodes.ids[-1] > _MOST:
        raise ValueError(
            f"found the fragment id {graph.nodes.ids[-1]}, expected at most {_MOST} in a database"
        )
    if merge_scores is not None and np.shape(merge_scores) != (len(graph.edges),):
        raise ValueError(
            f"merge_scores: found shape {np.shape(merge_scores)}, expected ({len(graph.edges)},), one for "
            "each edge of the graph"
        )
    return _nodes(graph), _edges(graph, merge_scores)


def _layout(graph: RegionGraph, merge_scores: np.ndarray | None) -> dict[str, Any]:
    from funlib.persistence.types import Vec

    edge_attributes: dict[str, Any] = {"count": int, "mean_affinity": float, "max_affinity": float}
    if merge_scores is not None:
        edge_attributes["merge_score"] = float
    return {
        "position_attribute": "position",
        "node_attrs": {"position": Vec(float, graph.grid.ndim), "size": int},
        "edge_attrs": edge_attributes,
    }


def _nodes(graph: RegionGraph) -> Iterator[dict[int, dict[str, Any]]]:
    for start in range(0, len(graph.nodes), _BATCH):
        rows = slice(start, start + _BATCH)
        columns = (graph.nodes.ids[rows], graph.centers[rows], graph.nodes.sizes[rows])
        yield {
            fragment: {"position": center, "size": size}
            for fragment, center, size in zip(*(column.tolist() for column in columns), strict=True)
        }


def _edges(
    graph: RegionGraph, merge_scores: np.ndarray | None
) -> Iterator[dict[tuple[int, int], dict[str, Any]]]:
    columns: dict[str, np.ndarray] = {
        "count": graph.edges.counts,
        "mean_affinity": graph.mean_affinities,
        "max_affinity": graph.edges.maxima / graph.scale,
    }
    if merge_scores is not None:
        columns["merge_score"] = np.asarray(merge_scores)
    pairs = zip(graph.edges.u.tolist(), graph.edges.v.tolist(), strict=True)
    values = zip(*(column.tolist() for column in columns.values()), strict=True)
    for some in itertools.batched(zip(pairs, values, strict=True), _BATCH):
        yield {pair: _without_nan(zip(columns, row, strict=True)) for pair, row in some}


def _without_nan(items: Any) -> dict[str, Any]:
    return {name: None if value != value else value for name, value in items}


def _fill(database: Any, batches: _Batches) -> None:
    nodes, edges = batches
    with database.bulk_write_mode():
        for some_nodes in nodes:
            database.bulk_write_nodes(some_nodes)
        for some_edges in edges:
            database.bulk_write_edges({}, some_edges)


def _funlib() -> Any:
    try:
        from funlib.persistence import graphs
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "Writing graphs into databases needs funlib.persistence: pip install 'lsd-dask[formats]'"
        ) from error
    return graphs
