"""Tables on disk: Parquet files, sorted by id, that pandas, DuckDB and polars read as they are.

================= ======================================================================================================
nodes.parquet     id, size (voxels), center_z, center_y, center_x (world units), and the sums they come from
edges.parquet     u, v, count, contacts, sum, maximum, histogram_bins, histogram_counts
merges_*.parquet  fragment, parent, level, score: the merge tree of one merge function
edges_*.parquet   u, v, merge_score: the region graph's edges with the score at which their ends became one
luts/*.parquet    fragment, segment: a lookup table
================= ======================================================================================================

As ids are addresses, a table sorted by id is sorted by place, and the statistics of its row groups are a spatial index.
"""

import io
import json
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from . import files
from .agglomeration import LookupTable, MergeTree
from .grids import Grid
from .region_graph import RegionGraph
from .tables import EdgeTable, NodeTable

_KEY = b"lsd_dask"
_ROWS = 1 << 17


def write_graph(graph: RegionGraph, directory: str) -> None:
    """Write a region graph as ``nodes.parquet`` and ``edges.parquet`` into a directory or URL."""
    nodes, edges = graph.nodes, graph.edges
    centers = np.full((len(nodes), 3), graph.grid.offset[0] if len(graph.grid.shape) == 2 else 0.0)
    centers[:, 3 - len(graph.grid.shape) :] = graph.centers
    columns: dict[str, Any] = {"id": nodes.ids, "size": nodes.sizes, "affinity_sum": nodes.affinity_sums}
    for axis, name in enumerate("zyx"):
        if name in graph.grid.dims:
            columns[f"center_{name}"] = centers[:, axis]
        columns[f"sum_{name}"] = nodes.position_sums[:, axis]
        columns[f"begin_{name}"] = nodes.begins[:, axis]
        columns[f"end_{name}"] = nodes.ends[:, axis]
    grid = graph.grid
    facts = {
        "scale": graph.scale,
        "dims": grid.dims,
        "shape": grid.shape,
        "voxel_size": grid.voxel_size,
        "offset": grid.offset,
        "units": grid.units,
    }
    _write(files.join(directory, "nodes.parquet"), columns, facts)
    starts = pa.array(edges.starts, pa.int64())
    _write(
        files.join(directory, "edges.parquet"),
        {
            "u": edges.u,
            "v": edges.v,
            "count": edges.counts,
            "contacts": edges.contacts,
            "sum": edges.sums,
            "maximum": edges.maxima,
            "histogram_bins": pa.LargeListArray.from_arrays(starts, pa.array(edges.bins)),
            "histogram_counts": pa.LargeListArray.from_arrays(starts, pa.array(edges.bin_counts)),
        },
        facts,
    )


def read_graph(directory: str) -> RegionGraph:
    """Read what `write_graph` wrote."""
    table, facts = _read(files.join(directory, "nodes.parquet"))
    grid = Grid(
        tuple(facts["dims"]),
        tuple(facts["shape"]),
        tuple(facts["voxel_size"]),
        tuple(facts["offset"]),
        facts["units"],
    )

    def triple(name: str) -> np.ndarray:
        return np.stack([_column(table, f"{name}_{axis}") for axis in "zyx"], axis=1)

    nodes = NodeTable(
        _column(table, "id"),
        _column(table, "size"),
        triple("sum"),
        triple("begin"),
        triple("end"),
        _column(table, "affinity_sum"),
    )
    table, facts = _read(files.join(directory, "edges.parquet"))
    bins, counts = (table[name].combine_chunks() for name in ("histogram_bins", "histogram_counts"))
    plain = [_column(table, name) for name in ("u", "v", "count", "contacts", "sum", "maximum")]
    starts = _writable(bins.offsets).astype(np.int64)
    edges = EdgeTable(*plain, starts - starts[0], _writable(bins.flatten()), _writable(counts.flatten()))
    return RegionGraph(nodes, edges, grid, facts["scale"])


def write_merge_tree(tree: MergeTree, path: str) -> None:
    """Write a merge tree: one row a fragment, with the component it joined and when."""
    columns = {
        "fragment": tree.ids,
        "parent": tree.ids[tree.parents],
        "level": tree.levels,
        "score": tree.scores,
    }
    _write(path, columns, {"merge_function": tree.merge_function})


def read_merge_tree(path: str) -> MergeTree:
    """Read what `write_merge_tree` wrote."""
    table, facts = _read(path)
    ids = _column(table, "fragment")
    parents = np.searchsorted(ids, _column(table, "parent"))
    return MergeTree(ids, parents, _column(table, "level"), facts["merge_function"])


def write_merge_scores(graph: RegionGraph, scores: np.ndarray, path: str) -> None:
    """Write the edges of a graph with their merge scores; those that never merged have none."""
    column = pa.array(scores, mask=np.isnan(scores))
    _write(path, {"u": graph.edges.u, "v": graph.edges.v, "merge_score": column}, {})


def write_lookup_table(lut: LookupTable, path: str) -> None:
    """Write a lookup table: columns fragment and segment."""
    _write(path, {"fragment": lut.keys, "segment": lut.values}, {})


def read_lookup_table(path: str) -> LookupTable:
    """Read what `write_lookup_table` wrote."""
    table, _ = _read(path)
    return LookupTable(_column(table, "fragment"), _column(table, "segment"))


def _write(path: str, columns: dict[str, Any], facts: dict[str, Any]) -> None:
    table = pa.table(columns).replace_schema_metadata({_KEY: json.dumps(facts)})
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", row_group_size=_ROWS)
    files.write_bytes(path, buffer.getvalue())


def _read(path: str) -> tuple[pa.Table, dict[str, Any]]:
    try:
        table = pq.read_table(io.BytesIO(files.read_bytes(path)))
        return table, json.loads((table.schema.metadata or {})[_KEY])
    except (pa.ArrowInvalid, OSError, KeyError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ValueError(f"{path}: not a table of lsd_dask, or cut short ({error}).") from error


def _column(table: pa.Table, name: str) -> np.ndarray:
    return _writable(table[name].combine_chunks())


def _writable(array: Any) -> np.ndarray:
    """A NumPy copy: arrow's own memory is read-only, and kernels are compiled once, for writable arrays."""
    return np.array(array.to_numpy(zero_copy_only=False))
