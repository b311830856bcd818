"""The region graph of a volume as tables of the cells of an octree, without a process that holds it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from distributed import Client

from lsd_dask.blockwise.blocks import Block
from lsd_dask.blockwise.ledgers import Ledger
from lsd_dask.segmentation.graph_tables import GraphTables
from lsd_dask.segmentation.region_graph import RegionGraph
from lsd_dask.space.grids import Grid
from lsd_dask.storage import files
from lsd_dask.storage.row_groups import merge_tables

from ..config.options import RunOptions
from ..running.memory import ADDING, worker_limit
from ..running.tasks import table_path
from .cells import Cells, CellsDone, begin_measuring, check_cell, run_cells

_WHAT = "add up the region graph"
_PARTIAL = "partial.npz"

type ReadTables = Callable[[Mapping[str, np.ndarray]], GraphTables]
type ArraysOf = Callable[[GraphTables], dict[str, np.ndarray]]


@dataclass(frozen=True)
class AddCell:
    """Adds up what is not complete in the children of a cell, or counts of its block, and keeps what now is.

    A fragment is complete in a cell if its bounding box there is `reach` voxels away from every face of the
    cell that is not one of the volume: all faces of it are in the cell then, provided that its parts touch
    each other. An edge is complete if one of its ends is.

    Attributes
    ----------
    cells
        Where tables of cells are kept.
    level
        Of the cell.
    counted
        Ledger of the blocks' tables.
    grid
        Of the volume.
    scale
        The integer that stands for affinity 1 in the tables.
    reach
        Voxels around a fragment, along each axis, that hold all affinities of it.
    read, arrays
        From tables on disk, and to them.
    limit
        Memory of a worker, in bytes.
    """

    cells: Cells
    level: int
    counted: Ledger
    grid: Grid
    scale: int
    reach: tuple[int, ...]
    read: ReadTables
    arrays: ArraysOf
    limit: int | None

    def compute(self, cell: Block) -> tuple[RegionGraph, GraphTables]:
        """The part of the graph that is complete in this cell and in none of its children; and the rest."""
        begin_measuring()
        paths = self._paths(cell)
        check_cell(_WHAT, cell, ADDING * sum(map(files.size_of, paths)), self.limit)
        tables = GraphTables.joined([self.read(files.read_arrays(path)) for path in paths])
        nodes, edges, ndim = tables.nodes, tables.edges, len(cell.region)
        begins, ends = nodes.begins[:, 3 - ndim :], nodes.ends[:, 3 - ndim :]
        complete = self.cells.octree.homes(begins, ends, self.reach)[0] <= self.level
        ids = nodes.ids[complete]
        settled = np.isin(edges.u, ids) | np.isin(edges.v, ids)
        graph = RegionGraph(
            nodes.take(complete), edges.take(settled & (edges.contacts > 0)), self.grid, self.scale
        )
        return graph, GraphTables(nodes.take(~complete), edges.take(~settled))

    def _paths(self, cell: Block) -> list[str]:
        if self.level == 0:
            return [table_path(self.counted, cell)]
        children = self.cells.octree.children(self.level, cell)
        return [self.cells.path(self.level - 1, child, _PARTIAL) for child in children]

    def write(self, cell: Block, result: tuple[RegionGraph, GraphTables]) -> Mapping[str, Any]:
        """Write both."""
        graph, rest = result
        graph.to_parquet(self.cells.path(self.level, cell))
        files.write_arrays(self.cells.path(self.level, cell, _PARTIAL), self.arrays(rest))
        names = ("nodes.parquet", "edges.parquet", _PARTIAL)
        return {
            "nodes": len(graph.nodes),
            "edges": len(graph.edges),
            "partial": len(rest.nodes),
            "files": [self.cells.path(self.level, cell, name) for name in names],
        }


def add_up_in_cells(
    client: Client,
    options: RunOptions,
    ledger: Ledger,
    cells: Cells,
    task: AddCell,
    directory: str,
    facts: Mapping[str, Any],
) -> tuple[CellsDone, dict[str, int]]:
    """Add up the tables of blocks along an octree, and make one sorted table of nodes and one of edges of it.

    Parameters
    ----------
    client
        Of the cluster.
    options
        Say whether to resume.
    ledger
        Of which each level has one in a folder of its own.
    cells
        Where tables of cells are kept.
    task
        For level 0.
    directory
        Folder that ``nodes.parquet`` and ``edges.parquet`` are written to.
    facts
        About these tables.

    Returns
    -------
    done, rows
        What it took; number of nodes and edges.

    Raises
    ------
    ValueError
        If a fragment has parts that do not touch each other, far enough apart for it to be taken for two.
    """
    limit = worker_limit(client)
    levels = range(cells.octree.depth + 1)
    tasks = {level: replace(task, level=level, limit=limit) for level in levels}
    done = run_cells(client, options, ledger, cells, levels, tasks, _WHAT)
    try:
        nodes = merge_tables(
            cells.all_paths("nodes.parquet"),
            files.join(directory, "nodes.parquet"),
            "id",
            what="fragment",
            facts=facts,
        )
    except ValueError as error:
        raise ValueError(
            f"{error}. Do fragments have parts that do not touch? An octree takes connected ones alone: set "
            "octree to false, or label connected components first."
        ) from error
    edges = merge_tables(
        cells.all_paths("edges.parquet"),
        files.join(directory, "edges.parquet"),
        "u",
        "v",
        what="edge",
        facts=facts,
    )
    for path in cells.all_paths(_PARTIAL):
        files.remove(path)
    return done, {"nodes": nodes, "edges": edges}


def divide(graph: RegionGraph, cells: Cells) -> None:
    """Write the tables of cells of a graph that this process holds."""
    octree = cells.octree
    ndim = len(octree.shape)
    begins, ends = graph.nodes.begins[:, 3 - ndim :], graph.nodes.ends[:, 3 - ndim :]
    homes = octree.numbers(*octree.homes(begins, ends, (1,) * ndim))
    rows = np.stack([np.searchsorted(graph.nodes.ids, end) for end in (graph.edges.u, graph.edges.v)], axis=1)
    # Cells come after what they hold, so the smaller number is the inner cell.
    owners = homes[rows].min(axis=1, initial=np.iinfo(np.int64).max)
    for number, (level, cell) in enumerate(octree.all_cells()):
        part = replace(
            graph, nodes=graph.nodes.take(homes == number), edges=graph.edges.take(owners == number)
        )
        part.to_parquet(cells.path(level, cell))
