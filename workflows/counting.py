"""Counting a region graph block by block: tables on disk, added up as a tree."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import dask.bag as db
import numpy as np
from distributed import Client

from lsd_dask import files
from lsd_dask.overlap import StoredReader
from lsd_dask.region_graph import FAN_IN, CountRegion, RegionGraph, check_neighborhood, finish_graph
from lsd_dask.runs import Block, BlockGrid, Ledger
from lsd_dask.tables import EdgeTable, GraphTables, NodeTable

from .options import RunOptions
from .running import block_shape_for, identity_of, ledger_for, prepare, run


def rag_directory(container: str, name: str) -> str:
    """Folder of the region graph of the fragments called `name`: ``rag`` for the usual name."""
    return files.join(container, "rag" if name == "fragments" else f"rag_{name}")


def count_graph(
    client: Client,
    options: RunOptions,
    container: str,
    name: str,
    affinities: StoredReader,
    fragments: StoredReader,
    neighborhood: Sequence[Sequence[int]] | None,
    fragments_run: str | None,
) -> RegionGraph:
    """The region graph of stored fragments; counted once, then read.

    Parameters
    ----------
    client
        Of the cluster.
    options
        Say whether to resume.
    container
        Where graph and ledger are kept.
    name
        Of the fragments.
    affinities, fragments
        Readers of the same region.
    neighborhood
        As for `build_region_graph`.
    fragments_run
        Fingerprint of the run that wrote the fragments.
    """
    ndim = len(fragments.shape)
    channels = affinities.stored.channels or 0
    if neighborhood is None and channels > ndim:
        raise ValueError(
            f"{affinities.stored.path}: found {channels} channels, expected {ndim}, or a neighborhood "
            "that says which "
            "offset each of them joins."
        )
    offsets = check_neighborhood(neighborhood, channels, ndim)
    grid = fragments.stored.grid.crop(fragments.part)
    block_shape = block_shape_for(grid, getattr(options, "block_size", None), fragments.stored.path)
    identity = {
        "affinities": identity_of(affinities),
        "fragments": {**identity_of(fragments), "run": fragments_run},
        "neighborhood": offsets,
        "blocks": block_shape,
    }
    ledger = ledger_for(container, "region_graph", name, identity)
    directory = rag_directory(container, name)
    prepare(ledger, options, what="region graph")
    if ledger.finished() is None:
        task = _CountBlock(affinities, fragments, CountRegion(offsets), ledger)
        blocks = BlockGrid(grid.shape, block_shape)
        run("build region graph", task, blocks, ledger, client)
        paths = [_table_path(ledger, block) for block in blocks]
        bag = db.from_sequence(paths, partition_size=FAN_IN)
        total = bag.reduction(_join_files, GraphTables.joined, split_every=FAN_IN)
        tables = client.compute(total).result()
        graph = finish_graph(tables, grid, affinities.stored.dtype)
        graph.to_parquet(directory)
        ledger.finish({"nodes": len(graph.nodes), "edges": len(graph.edges)})
        files.remove(files.join(ledger.directory, "tables"))
        return graph
    return RegionGraph.from_parquet(directory)


@dataclass(frozen=True)
class _CountBlock:
    affinities: StoredReader
    fragments: StoredReader
    count: CountRegion
    ledger: Ledger

    def __call__(self, block: Block) -> Mapping[str, Any]:
        tables = self.count(block.region, self.affinities, self.fragments)
        files.write_arrays(_table_path(self.ledger, block), _arrays(tables))
        return {"nodes": len(tables.nodes), "edges": len(tables.edges)}


def _table_path(ledger: Ledger, block: Block) -> str:
    return files.join(ledger.directory, "tables", f"{block.name}.npz")


def _arrays(tables: GraphTables) -> dict[str, np.ndarray]:
    parts: dict[str, NodeTable | EdgeTable] = {"node": tables.nodes, "edge": tables.edges}
    return {f"{p}_{f.name}": getattr(table, f.name) for p, table in parts.items() for f in fields(table)}


def _join_files(paths: Sequence[str]) -> GraphTables:
    parts = []
    for path in paths:
        arrays = files.read_arrays(path)
        nodes = NodeTable(*(arrays[f"node_{f.name}"] for f in fields(NodeTable)))
        edges = EdgeTable(*(arrays[f"edge_{f.name}"] for f in fields(EdgeTable)))
        parts.append(GraphTables(nodes, edges))
    return GraphTables.joined(parts)
