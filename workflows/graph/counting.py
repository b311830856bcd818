"""Counting a region graph block by block: tables on disk, added up as a tree or in the cells of an octree."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import psutil
from distributed import Client

from lsd_dask.blockwise.blocks import Block
from lsd_dask.blockwise.ledgers import Ledger
from lsd_dask.blockwise.octree import Octree
from lsd_dask.blockwise.runs import BlockTask, RunSummary
from lsd_dask.kernels.segmentation import region_graph as kernels
from lsd_dask.segmentation.derivation import facts_of_run, mark_of_run, remove_stale_luts
from lsd_dask.segmentation.graph_tables import EdgeTable, GraphTables, NodeTable
from lsd_dask.segmentation.quantisation import quantisation_of
from lsd_dask.segmentation.region_graph import CountRegion, RegionGraph, finish_graph
from lsd_dask.storage import files
from lsd_dask.volumes.formats.zarr_creating import normalise_path
from lsd_dask.volumes.overlap import StoredReader

from ..config.options import RunOptions
from ..running import costs
from ..running.inputs import block_shape_for, identity_of, naming
from ..running.memory import sum_fits, worker_limit
from ..running.outputs import check_own, ledger_for, prepare
from ..running.plans import StepPlan, execute, held
from ..running.tasks import add_up, remove_tables, tables_of, write_table
from .cells import Cells
from .summing import AddCell, add_up_in_cells, divide

#: Dataset of fragments whose region graph lies in the folder ``rag`` itself.
USUAL_FRAGMENTS = "volumes/fragments"

_STEP = "build region graph"
#: As of `Step.revision`.
REVISION = 1


def rag_directory(container: str, dataset: str) -> str:
    """Folder of the region graph of some fragments: ``rag``, and in it the dataset unless that is usual."""
    name = dataset.strip("/")
    return files.join(normalise_path(container), "rag", "" if name == USUAL_FRAGMENTS else name)


def graph_tables(directory: str) -> list[str]:
    """Paths of the tables of a region graph."""
    return [files.join(directory, name) for name in ("nodes.parquet", "edges.parquet")]


@dataclass(frozen=True)
class CountedGraph:
    """A region graph that was counted.

    Attributes
    ----------
    directory
        Folder of its tables.
    graph
        The graph, where this process holds it.
    cells
        Its tables by the cells of an octree, where they were made.
    nodes, edges
        Numbers of these.
    run
        What counting the blocks took.
    """

    directory: str
    graph: RegionGraph | None
    cells: Cells | None
    nodes: int
    edges: int
    run: RunSummary

    def whole(self) -> RegionGraph:
        """The graph, read where this process does not hold it yet."""
        return RegionGraph.from_parquet(self.directory) if self.graph is None else self.graph


@dataclass(frozen=True, kw_only=True)
class GraphPlan(StepPlan):
    """What counting a region graph will do.

    Attributes
    ----------
    affinities, fragments
        Readers of the same region.
    count
        What is counted.
    container, dataset
        Of the fragments; graph and ledger are kept in the container.
    """

    affinities: StoredReader
    fragments: StoredReader
    count: CountRegion
    container: str
    dataset: str

    @property
    def directory(self) -> str:
        """Folder of the tables of the graph."""
        return rag_directory(self.container, self.dataset)

    @property
    def tables(self) -> list[str]:
        """Paths of the tables of the graph."""
        return graph_tables(self.directory)

    @property
    def cells(self) -> Cells:
        """Where the tables of the cells of an octree are, if they are made."""
        return Cells(files.join(self.directory, "octree"), Octree(self.grid.shape, self.block_shape))

    def prepare(self) -> BlockTask[Any] | None:
        """As of `StepPlan.prepare`: None where an earlier run counted and wrote the graph."""
        ledger, options = self.ledger, self.options
        for path in self.tables:
            check_own(ledger, path, overwrite=options.overwrite)
        # Of a run that finished, both tables have to be there.
        outputs = self.tables if ledger.finished() is not None else ()
        if not prepare(ledger, options, what=self.made, outputs=outputs):
            for path in (*self.tables, self.cells.directory):
                files.remove(path)
            remove_stale_luts(normalise_path(self.container), self.directory)
            ledger.begin(self.blocks, **facts_of_run(ledger, *self.tables))
        # Where a table is damaged or gone, blocks are counted again: their own tables are gone, too.
        return self.task() if self.found() is None else None

    def found(self) -> Mapping[str, Any] | None:
        """Numbers of nodes and edges, where the graph is there."""
        return self.ledger.finished(verify=self.options.verify)


def plan_graph(
    options: RunOptions,
    container: str,
    dataset: str,
    affinities: StoredReader,
    fragments: StoredReader,
    count: CountRegion,
) -> GraphPlan:
    """Plan to count the region graph of some fragments; parameters as of `GraphPlan`."""
    grid = fragments.stored.grid.crop(fragments.part)
    block_shape = block_shape_for(grid, getattr(options, "block_size", None), fragments.stored.path)
    identity = {
        "revision": REVISION,
        "affinities": identity_of(affinities),
        "fragments": identity_of(fragments),
        "neighborhood": count.neighborhood,
        "blocks": block_shape,
    }
    ledger = ledger_for(container, "region_graph", dataset, identity)
    return GraphPlan(
        what=_STEP,
        options=options,
        ledger=ledger,
        grid=grid,
        block_shape=block_shape,
        cost=costs.counting(affinities, fragments, count, block_shape),
        task=lambda: _CountBlock(affinities, fragments, count, ledger),
        made="region graph",
        kernels=[kernels],
        affinities=affinities,
        fragments=fragments,
        count=count,
        container=container,
        dataset=dataset,
    )


@contextmanager
def count_graph(plan: GraphPlan, client: Client, octree: bool | None = False) -> Iterator[CountedGraph]:
    """The region graph of stored fragments; counted once, then read.

    A graph that this process holds is written while the caller works with it, as that takes about as long as
    its agglomeration; it is there, and recorded, at the end of the context.

    Parameters
    ----------
    plan
        What is counted.
    client
        Of the cluster.
    octree
        Whether to add up in the cells of an octree: no process holds the graph then. None: where neither a
        worker nor this process could.
    """
    ledger = plan.ledger
    with ExitStack() as lock:
        lock.enter_context(held(plan, client))
        summary = execute(plan, client)
        if (found := plan.found()) is not None:
            counted = _counted_before(plan, found, octree, summary)
            lock.close()
            yield counted
            return
        if octree or (octree is None and not _fits(ledger, client)):
            counted = _add_up_in_cells(plan, client, summary)
            lock.close()
            yield counted
            return
        tables = add_up(client, ledger, plan.blocks, _tables, GraphTables.joined)
        graph = finish_graph(tables, plan.grid, plan.affinities.stored.dtype)
        with ThreadPoolExecutor(1) as writer:
            writing = writer.submit(_keep, graph, plan)
            yield CountedGraph(plan.directory, graph, None, len(graph.nodes), len(graph.edges), summary)
            writing.result()


def _add_up_in_cells(plan: GraphPlan, client: Client, summary: RunSummary) -> CountedGraph:
    ledger, grid = plan.ledger, plan.grid
    scale = quantisation_of(plan.affinities.stored.dtype).scale
    reach = tuple(max(1, n) for n in plan.count.depth[3 - grid.ndim :])
    adding = AddCell(plan.cells, 0, ledger, grid, scale, reach, _tables, _arrays, None)
    runs = files.join(normalise_path(plan.container), "runs", "region_graph_cells", plan.dataset)
    levels = Ledger(runs, {**ledger.identity, "counted": ledger.recorded_run()})
    facts = {"mark": mark_of_run(ledger)}
    done, rows = add_up_in_cells(client, plan.options, levels, plan.cells, adding, plan.directory, facts)
    ledger.finish({**rows, "cells": done.cells, "peak_memory": done.peak_memory}, plan.tables)
    remove_tables(ledger)
    return CountedGraph(plan.directory, None, plan.cells, rows["nodes"], rows["edges"], summary)


def _keep(graph: RegionGraph, plan: GraphPlan) -> None:
    graph.to_parquet(plan.directory, {"mark": mark_of_run(plan.ledger)})
    plan.ledger.finish({"nodes": len(graph.nodes), "edges": len(graph.edges)}, plan.tables)
    remove_tables(plan.ledger)


def _fits(ledger: Ledger, client: Client) -> bool:
    """Whether a worker, or this process, can add up the tables of all blocks."""
    size = files.size_of(tables_of(ledger))
    limits = worker_limit(client), psutil.virtual_memory().available
    return any(sum_fits(size, limit) for limit in limits)


def _counted_before(
    plan: GraphPlan, rows: Mapping[str, Any], octree: bool | None, summary: RunSummary
) -> CountedGraph:
    """A graph that is there, with the tables of cells if these are asked for."""
    graph, cells, directory = None, plan.cells, plan.directory
    (root,) = cells.octree.cells(cells.octree.depth)
    # The root's are written last.
    there = files.exists(cells.path(cells.octree.depth, root, "edges.parquet"))
    if octree and not there:
        graph = RegionGraph.from_parquet(directory)
        divide(graph, cells)
    wanted = there if octree is None else octree
    return CountedGraph(directory, graph, cells if wanted else None, rows["nodes"], rows["edges"], summary)


@dataclass(frozen=True)
class _CountBlock:
    affinities: StoredReader
    fragments: StoredReader
    count: CountRegion
    ledger: Ledger

    def compute(self, block: Block) -> GraphTables:
        with naming(self.affinities.stored.path, self.fragments.stored.path):
            return self.count(block.region, self.affinities, self.fragments)

    def write(self, block: Block, result: GraphTables) -> Mapping[str, Any]:
        paths = write_table(self.ledger, block, _arrays(result))
        return {"nodes": len(result.nodes), "edges": len(result.edges), "files": paths}


def _arrays(tables: GraphTables) -> dict[str, np.ndarray]:
    parts: dict[str, NodeTable | EdgeTable] = {"node": tables.nodes, "edge": tables.edges}
    return {f"{p}_{f.name}": getattr(table, f.name) for p, table in parts.items() for f in fields(table)}


def _tables(arrays: Mapping[str, np.ndarray]) -> GraphTables:
    nodes = NodeTable(*(arrays[f"node_{f.name}"] for f in fields(NodeTable)))
    edges = EdgeTable(*(arrays[f"edge_{f.name}"] for f in fields(EdgeTable)))
    return GraphTables(nodes, edges)
