"""Counting a region graph block by block: tables on disk, added up as a tree."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from distributed import Client

from lsd_dask import files
from lsd_dask.blocks import Block, BlockGrid
from lsd_dask.containers import normalise_path
from lsd_dask.grids import Region
from lsd_dask.ledgers import Ledger
from lsd_dask.overlap import StoredReader
from lsd_dask.region_graph import CountRegion, RegionGraph, finish_graph
from lsd_dask.runs import RunSummary
from lsd_dask.tables import EdgeTable, GraphTables, NodeTable

from .inputs import Offsets, block_shape_for, identity_of, naming
from .memory import check_memory, counting, worker_limit
from .options import RunOptions
from .running import hold, ledger_for, prepare, run, run_that_predicted
from .tasks import add_up, remove_tables, write_table

#: Dataset of fragments whose region graph lies in the folder ``rag`` itself.
USUAL_FRAGMENTS = "volumes/fragments"

_STEP = "build region graph"


def rag_directory(container: str, dataset: str) -> str:
    """Folder of the region graph of some fragments: ``rag``, and in it the dataset unless that is usual."""
    name = dataset.strip("/")
    return files.join(normalise_path(container), "rag", "" if name == USUAL_FRAGMENTS else name)


def count_graph(
    client: Client | None,
    options: RunOptions,
    container: str,
    dataset: str,
    affinities: StoredReader,
    fragments: StoredReader,
    offsets: Offsets,
    fragments_run: str | None,
) -> tuple[RegionGraph, RunSummary]:
    """The region graph of stored fragments; counted once, then read.

    Parameters
    ----------
    client
        Of the cluster.
    options
        Say whether to resume.
    container
        Where graph and ledger are kept.
    dataset
        Of the fragments.
    affinities, fragments
        Readers of the same region.
    offsets
        What the channels of the affinities join; channels beyond these do not count.
    fragments_run
        Name of the run that wrote the fragments.
    """
    grid = fragments.stored.grid.crop(fragments.part)
    block_shape = block_shape_for(grid, getattr(options, "block_size", None), fragments.stored.path)
    identity = {
        "affinities": identity_of(affinities, run_that_predicted(affinities.stored.path)),
        "fragments": identity_of(fragments, fragments_run),
        "neighborhood": offsets,
        "blocks": block_shape,
    }
    ledger = ledger_for(container, "region_graph", dataset, identity)
    directory = rag_directory(container, dataset)
    blocks = BlockGrid(grid.shape, block_shape)
    written = [files.join(directory, name) for name in ("nodes.parquet", "edges.parquet")]
    needs = counting(affinities, fragments, offsets)
    check_memory(_STEP, needs, block_shape, grid, worker_limit(client))
    with hold(ledger):
        outputs = written if ledger.finished() is not None else ()
        if not prepare(ledger, options, what="region graph", outputs=outputs):
            ledger.begin(blocks)
        if ledger.finished() is not None:
            return RegionGraph.from_parquet(directory), RunSummary(_STEP, len(blocks), skipped=len(blocks))
        task = _CountBlock(affinities, fragments, CountRegion(offsets), ledger)
        summary = run(_STEP, task, blocks, ledger, client)
        assert client is not None
        tables = add_up(client, ledger, blocks, _tables, GraphTables.joined)
        graph = finish_graph(tables, grid, affinities.stored.dtype)
        graph.to_parquet(directory)
        ledger.finish({"nodes": len(graph.nodes), "edges": len(graph.edges)})
        remove_tables(ledger)
    return graph, summary


@dataclass(frozen=True)
class _CountBlock:
    affinities: StoredReader
    fragments: StoredReader
    count: CountRegion
    ledger: Ledger

    def compute(self, block: Block) -> GraphTables:
        direct = _FirstChannels(self.affinities, len(self.count.neighborhood))
        with naming(self.affinities.stored.path, self.fragments.stored.path):
            return self.count(block.region, direct, self.fragments)

    def write(self, block: Block, result: GraphTables) -> Mapping[str, Any]:
        write_table(self.ledger, block, _arrays(result))
        return {"nodes": len(result.nodes), "edges": len(result.edges)}


@dataclass(frozen=True)
class _FirstChannels:
    """Reads the first channels of a stored volume."""

    reader: StoredReader
    channels: int

    @property
    def shape(self) -> tuple[int, ...]:
        return self.reader.shape

    @property
    def origin(self) -> tuple[int, ...]:
        return self.reader.origin

    def read(self, region: Region) -> np.ndarray:
        return self.reader.read(region)[: self.channels]


def _arrays(tables: GraphTables) -> dict[str, np.ndarray]:
    parts: dict[str, NodeTable | EdgeTable] = {"node": tables.nodes, "edge": tables.edges}
    return {f"{p}_{f.name}": getattr(table, f.name) for p, table in parts.items() for f in fields(table)}


def _tables(arrays: Mapping[str, np.ndarray]) -> GraphTables:
    nodes = NodeTable(*(arrays[f"node_{f.name}"] for f in fields(NodeTable)))
    edges = EdgeTable(*(arrays[f"edge_{f.name}"] for f in fields(EdgeTable)))
    return GraphTables(nodes, edges)
