"""Agglomeration along an octree, with tables on disk: see `lsd_dask.segmentation.contraction`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from distributed import Client

from lsd_dask.blockwise.blocks import Block
from lsd_dask.blockwise.ledgers import Ledger
from lsd_dask.segmentation.agglomeration import scores_of
from lsd_dask.segmentation.contraction import Fate, Residual, Stage, contract, settle
from lsd_dask.segmentation.graph_tables import EdgeTable
from lsd_dask.storage import files, parquet
from lsd_dask.storage.row_groups import bytes_of, merge_tables

from ..config.options import RunOptions
from ..running.memory import worker_limit
from .cells import Cells, CellsDone, begin_measuring, check_cell, run_cells

#: Bytes that contracting takes for each byte of what a cell holds: it, joined, the queue and the sums (up to
#: 2.5 were measured).
CONTRACTING = 4.0

_STAGE, _LEFT, _FATE = "stage.npz", "left.npz", "fate.npz"
_MERGES, _EDGES = "merges.parquet", "edges.parquet"
_TABLES, _CONTRACT, _SETTLE = "tables", "contract", "settle"


@dataclass(frozen=True)
class _Cell:
    """What both passes know.

    Attributes
    ----------
    graph
        Tables of the region graph.
    cells
        Where those of the agglomeration are kept.
    level
        Of the cell.
    merge_function
        As for `agglomerate`.
    limit
        Memory of a worker, in bytes.
    """

    graph: Cells
    cells: Cells
    level: int
    merge_function: str
    limit: int | None

    def children(self, cell: Block, name: str) -> list[str]:
        """Paths of a table of each child."""
        below = self.graph.octree.children(self.level, cell)
        return [self.cells.path(self.level - 1, child, name) for child in below]


class _Contract(_Cell):
    """On the way up: contracts what can be, and hands up what cannot."""

    def compute(self, cell: Block) -> tuple[Stage, Residual]:
        begin_measuring()
        children = self.children(cell, _LEFT)
        own = self.graph.path(self.level, cell, "edges.parquet")
        known = sum(map(files.size_of, children)) + bytes_of(own)
        check_cell("agglomerate", cell, CONTRACTING * known, self.limit)
        part, scale = self._known(cell)
        return contract(part, self.merge_function, scale)

    def _known(self, cell: Block) -> tuple[Residual, int]:
        """What the children left, with the cell's own edges; the integer that stands for affinity 1."""
        nodes, facts = parquet.read_table(self.graph.path(self.level, cell, "nodes.parquet"), "id")
        edges, _ = EdgeTable.from_parquet(self.graph.path(self.level, cell, "edges.parquet"))
        parts = [Residual.of_edges(edges, self.merge_function)]
        parts += [Residual(**files.read_arrays(path)) for path in self.children(cell, _LEFT)]
        return Residual.joined(parts, parquet.column(nodes, "id")), facts["scale"]

    def write(self, cell: Block, result: tuple[Stage, Residual]) -> Mapping[str, Any]:
        stage, left = result
        paths = [self.cells.path(self.level, cell, name) for name in (_STAGE, _LEFT)]
        for path, part in zip(paths, result, strict=True):
            files.write_arrays(path, part.arrays())
        return {
            "components": len(stage.ids),
            "left": len(left),
            "left_edges": len(left.ends),
            "files": paths,
        }


@dataclass(frozen=True)
class _Settled:
    fate: Fate
    own: np.ndarray
    u: np.ndarray
    v: np.ndarray
    merge_levels: np.ndarray
    told: dict[str, Fate]


class _Settle(_Cell):
    """On the way down: final merges and scores of a cell, and what its children are to be told."""

    def compute(self, cell: Block) -> _Settled:
        begin_measuring()
        stage = Stage(**files.read_arrays(self.cells.path(self.level, cell, _STAGE)))
        is_root = self.level == self.graph.octree.depth
        above = self.cells.path(self.level, cell, _FATE)
        fate = settle(stage, Fate.empty() if is_root else Fate(**files.read_arrays(above)))
        edges, _ = parquet.read_table(self.graph.path(self.level, cell, "edges.parquet"), "u", "v")
        u, v = (parquet.column(edges, name) for name in ("u", "v"))
        told = {}
        fates = self.children(cell, _FATE)
        for left, path in zip(self.children(cell, _LEFT), fates, strict=True):
            told[path] = fate.take(files.read_arrays(left)["ids"])
        return _Settled(fate, ~stage.left, u, v, fate.merge_levels(u, v), told)

    def write(self, cell: Block, result: _Settled) -> Mapping[str, Any]:
        for path, told in result.told.items():
            files.write_arrays(path, told.arrays())
        fate, own = result.fate, result.own
        merges = {
            "fragment": fate.ids[own],
            "parent": fate.parents[own],
            "level": fate.levels[own],
            "score": scores_of(fate.levels[own]),
        }
        facts = {"merge_function": self.merge_function}
        parquet.write_table(self.cells.path(self.level, cell, _MERGES), merges, facts)
        scores = scores_of(result.merge_levels)
        edges = {"u": result.u, "v": result.v, "merge_score": pa.array(scores, mask=np.isnan(scores))}
        parquet.write_table(self.cells.path(self.level, cell, _EDGES), edges)
        paths = [self.cells.path(self.level, cell, name) for name in (_MERGES, _EDGES)]
        return {"fragments": int(own.sum()), "edges": len(result.u), "files": [*paths, *result.told]}


def agglomerate_in_cells(
    client: Client,
    options: RunOptions,
    ledger: Ledger,
    graph: Cells,
    merge_function: str,
    tree_path: str,
    edges_path: str,
    about: Mapping[str, Any],
) -> CellsDone:
    """Agglomerate a region graph in the cells of an octree, and write the merge tree and the edges' scores.

    Parameters
    ----------
    client
        Of the cluster.
    options
        Say whether to resume.
    ledger
        In whose folder the ledgers of all levels, and the cells' tables, are kept until all is done.
    graph
        Tables of the region graph.
    merge_function
        As for `agglomerate`.
    tree_path, edges_path
        What is written.
    about
        Facts about these tables.
    """
    limit, depth = worker_limit(client), graph.octree.depth
    tables = Cells(files.join(ledger.directory, _TABLES), graph.octree)
    levels = range(depth + 1)
    done = CellsDone(0, 0, {})
    passes: list[tuple[str, type[_Contract | _Settle], range]] = [
        (_CONTRACT, _Contract, levels),
        (_SETTLE, _Settle, range(depth, -1, -1)),
    ]
    for name, task, order in passes:
        own = Ledger(files.join(ledger.directory, name), {**ledger.identity, "pass": name})
        tasks = {level: task(graph, tables, level, merge_function, limit) for level in levels}
        done += run_cells(client, options, own, tables, order, tasks, name)
    merge_tables(tables.all_paths(_MERGES), tree_path, "fragment", what="fragment", facts=about)
    merge_tables(tables.all_paths(_EDGES), edges_path, "u", "v", what="edge", facts=about)
    return done


def remove_cells(ledger: Ledger) -> None:
    """Remove what `agglomerate_in_cells` kept, once the merge tree is recorded."""
    # Records first, those of the second pass before those of the first: none may outlive what it stands for.
    for name in (_SETTLE, _CONTRACT, _TABLES):
        files.remove(files.join(ledger.directory, name))
