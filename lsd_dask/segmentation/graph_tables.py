"""Tables of a region adjacency graph: sums of blocks, which add up to the same graph in any order."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..checks.arguments import naming
from ..checks.id_lists import ids_of
from ..kernels.segmentation import region_graph as kernels
from ..kernels.segmentation.fragment_runs import list_runs
from ..storage import parquet


@dataclass(frozen=True)
class NodeTable:
    """One row a fragment, sorted by id. Positions are voxel indices z, y, x; 2-D data have z = 0.

    Attributes
    ----------
    ids
        uint64, ``(n,)``.
    sizes
        int64, ``(n,)``, number of voxels.
    position_sums
        int64, ``(n, 3)``, sum of the voxels' indices.
    begins, ends
        int64, ``(n, 3)``, bounding box, ends exclusive.
    affinity_sums
        int64, ``(n,)``, sum of the voxels' affinities to their direct lower neighbours, quantised.
    """

    ids: np.ndarray
    sizes: np.ndarray
    position_sums: np.ndarray
    begins: np.ndarray
    ends: np.ndarray
    affinity_sums: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: np.ndarray) -> "NodeTable":
        """The table of some rows."""
        return NodeTable(*(column[rows] for column in self._columns()))

    def _columns(self) -> tuple[np.ndarray, ...]:
        return (self.ids, self.sizes, self.position_sums, self.begins, self.ends, self.affinity_sums)

    def columns(self) -> dict[str, Any]:
        """The table by columns, for Parquet."""
        columns: dict[str, Any] = {"id": self.ids, "size": self.sizes, "affinity_sum": self.affinity_sums}
        for axis, name in enumerate("zyx"):
            columns[f"sum_{name}"] = self.position_sums[:, axis]
            columns[f"begin_{name}"] = self.begins[:, axis]
            columns[f"end_{name}"] = self.ends[:, axis]
        return columns

    @classmethod
    def from_parquet(cls, path: str) -> "tuple[NodeTable, dict[str, Any]]":
        """Read a table of nodes, and the facts that were written with it."""
        triples = [[f"{name}_{axis}" for axis in "zyx"] for name in ("sum", "begin", "end")]
        single = ["id", "size", "affinity_sum"]
        table, facts = parquet.read_table(path, *single, *(name for names in triples for name in names))
        sizes, affinity_sums = (parquet.column(table, name) for name in single[1:])
        with naming(path):
            ids = ids_of(parquet.column(table, "id"), "id")
        sums, begins, ends = (
            np.stack([parquet.column(table, name) for name in names], axis=1) for names in triples
        )
        return cls(ids, sizes, sums, begins, ends, affinity_sums), facts

    @classmethod
    def joined(cls, tables: Sequence["NodeTable"]) -> "NodeTable":
        """The sum of several tables."""
        if len(tables) == 1:
            return tables[0]
        ids, sizes, sums, begins, ends, affinities = map(
            np.concatenate, zip(*(t._columns() for t in tables), strict=True)
        )
        if not len(ids):
            return tables[0]
        order = np.argsort(ids, kind="stable")
        ids = ids[order]
        starts = np.flatnonzero(np.concatenate([[True], ids[1:] != ids[:-1]]))
        return cls(
            ids[starts],
            np.add.reduceat(sizes[order], starts),
            np.add.reduceat(sums[order], starts),
            np.minimum.reduceat(begins[order], starts),
            np.maximum.reduceat(ends[order], starts),
            np.add.reduceat(affinities[order], starts),
        )


#: Names on disk of the plain columns of edges.
_EDGE_COLUMNS = {
    "u": "u",
    "v": "v",
    "counts": "count",
    "contacts": "contacts",
    "sums": "sum",
    "maxima": "maximum",
}


@dataclass(frozen=True)
class EdgeTable:
    """One row a pair of touching fragments, u < v, sorted by (u, v).

    Attributes
    ----------
    u, v
        uint64, ``(n,)``, the fragments.
    counts
        int64, ``(n,)``, number of affinities between them.
    contacts
        int64, ``(n,)``, number of those between direct neighbours: the area of contact in voxel faces.
    sums, maxima
        int64, ``(n,)``, sum and maximum of the affinities, quantised.
    starts, bins, bin_counts
        Histograms of the affinities over 256 bins, in compressed rows: those of row i are
        ``bins[starts[i]:starts[i + 1]]`` (uint8, ascending), with ``bin_counts`` (uint32).
    """

    u: np.ndarray
    v: np.ndarray
    counts: np.ndarray
    contacts: np.ndarray
    sums: np.ndarray
    maxima: np.ndarray
    starts: np.ndarray
    bins: np.ndarray
    bin_counts: np.ndarray

    def __len__(self) -> int:
        return len(self.u)

    def histogram(self, row: int) -> np.ndarray:
        """Histogram of one edge, int64, ``(256,)``."""
        dense = np.zeros(kernels.BINS, np.int64)
        entries = slice(self.starts[row], self.starts[row + 1])
        dense[self.bins[entries]] = self.bin_counts[entries]
        return dense

    def take(self, rows: np.ndarray) -> "EdgeTable":
        """The table of some rows, in their order."""
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows
        groups = np.arange(len(rows) + 1)
        histograms = kernels.add_histograms(rows, groups, self.starts, self.bins, self.bin_counts)
        u, v, counts, contacts, sums, maxima = (column[rows] for column in self._columns())
        return EdgeTable(u, v, counts, contacts, sums, maxima, *histograms)

    def _columns(self) -> tuple[np.ndarray, ...]:
        return (self.u, self.v, self.counts, self.contacts, self.sums, self.maxima)

    def columns(self) -> dict[str, Any]:
        """The table by columns, for Parquet; histograms are lists."""
        return {
            **{name: getattr(self, field) for field, name in _EDGE_COLUMNS.items()},
            "histogram_bins": parquet.ragged(self.starts, self.bins),
            "histogram_counts": parquet.ragged(self.starts, self.bin_counts),
        }

    @classmethod
    def from_parquet(cls, path: str) -> "tuple[EdgeTable, dict[str, Any]]":
        """Read a table of edges, and the facts that were written with it."""
        names = _EDGE_COLUMNS.values()
        table, facts = parquet.read_table(path, *names, "histogram_bins", "histogram_counts")
        starts, bins = parquet.unragged(table, "histogram_bins")
        ends, counts = parquet.unragged(table, "histogram_counts")
        if not np.array_equal(starts, ends):
            raise ValueError(
                f"{path}: histogram_bins and histogram_counts differ in length, expected the same."
            )
        plain = {field: parquet.column(table, name) for field, name in _EDGE_COLUMNS.items()}
        with naming(path):
            plain |= {end: ids_of(plain[end], end) for end in ("u", "v")}
        return cls(**plain, starts=starts, bins=bins, bin_counts=counts), facts

    @classmethod
    def joined(cls, tables: Sequence["EdgeTable"]) -> "EdgeTable":
        """The sum of several tables."""
        if len(tables) == 1:
            return tables[0]
        u, v, counts, contacts, sums, maxima = map(
            np.concatenate, zip(*(t._columns() for t in tables), strict=True)
        )
        if not len(u):
            return tables[0]
        entries = np.cumsum([0] + [len(t.bins) for t in tables])
        row_starts = np.concatenate(
            [t.starts[:-1] + e for t, e in zip(tables, entries[:-1], strict=True)] + [entries[-1:]]
        )
        order = np.lexsort((v, u))
        u, v = u[order], v[order]
        starts = np.flatnonzero(np.concatenate([[True], (u[1:] != u[:-1]) | (v[1:] != v[:-1])]))
        histograms = kernels.add_histograms(
            order,
            np.append(starts, len(order)),
            row_starts,
            np.concatenate([t.bins for t in tables]),
            np.concatenate([t.bin_counts for t in tables]),
        )
        return cls(
            u[starts],
            v[starts],
            np.add.reduceat(counts[order], starts),
            np.add.reduceat(contacts[order], starts),
            np.add.reduceat(sums[order], starts),
            np.maximum.reduceat(maxima[order], starts),
            *histograms,
        )


@dataclass(frozen=True)
class FragmentRuns:
    """The fragments of a block and its halo as runs along x: a fraction of the memory of their voxels.

    Attributes
    ----------
    shape, start
        Shape of block and halo, and the place of the block's first voxel in it.
    ids, columns, row_starts, numbers, ends
        See `lsd_dask.kernels.segmentation.fragment_runs.list_runs`.
    """

    shape: tuple[int, ...]
    start: tuple[int, ...]
    ids: np.ndarray
    columns: np.ndarray
    row_starts: np.ndarray
    numbers: np.ndarray
    ends: np.ndarray

    @classmethod
    def of_block(
        cls,
        fragments: np.ndarray,
        affinities: np.ndarray,
        start: Sequence[int],
        origin: Sequence[int],
        neighborhood: np.ndarray,
    ) -> "FragmentRuns":
        """List the runs of a block.

        Parameters
        ----------
        fragments
            uint64, ``(z, y, x)``, of the block with a halo.
        affinities
            Quantised affinities of the block's own voxels, ``(c, z, y, x)``.
        start, origin
            Place of the block's first voxel in `fragments`, and in the volume.
        neighborhood
            ``(c, 3)``, what the channels of the affinities join; nodes sum those to direct neighbours.
        """
        of_direct = np.abs(neighborhood).sum(axis=1) == 1
        direct = affinities if of_direct.all() else np.ascontiguousarray(affinities[of_direct])
        # Usual fragments have fewer runs; what is not touched costs nothing.
        room = max(1 << 14, fragments.size // 4)
        numbers, ends = np.empty(room, np.int32), np.empty(room, np.int32)
        place, first = np.asarray(start, np.int64), np.asarray(origin, np.int64)
        listed = list_runs(fragments, direct, place, first, numbers, ends)
        return cls(fragments.shape, tuple(start), *listed)


@dataclass(frozen=True)
class GraphTables:
    """Nodes and edges counted in one part of a volume."""

    nodes: NodeTable
    edges: EdgeTable

    @classmethod
    def of_runs(
        cls, runs: "FragmentRuns", affinities: np.ndarray, neighborhood: np.ndarray, shift: int
    ) -> "GraphTables":
        """Count the fragments of a block, and the pairs that touch across the faces that it owns.

        Parameters
        ----------
        runs
            The fragments of the block with a halo.
        affinities
            Quantised affinities of the block's own voxels, ``(c, z, y, x)``.
        neighborhood
            ``(c, 3)``; affinity c at voxel p joins p and p + neighborhood[c], and is owned by the block of p.
        shift
            ``value >> shift`` is the histogram bin.
        """
        offsets = np.asarray(neighborhood, np.int64)
        shape, start = np.array(runs.shape), np.array(runs.start)
        # Usual fragments have fewer faces; what is not touched costs nothing.
        room = max(1 << 14, affinities.size // 8)
        found = kernels.list_faces(
            affinities,
            shape,
            runs.row_starts,
            runs.numbers,
            runs.ends,
            start,
            offsets,
            np.empty(room, np.int32),
            np.empty(room, affinities.dtype),
        )
        ids, columns = runs.ids, runs.columns
        order = np.argsort(ids)
        nodes = NodeTable(
            ids, columns[:, 0], columns[:, 1:4], columns[:, 4:7], columns[:, 7:10], columns[:, 10]
        ).take(order[columns[order, 0] > 0])
        return cls(nodes, _edges_of(ids, order, *found, shift))

    @classmethod
    def joined(cls, parts: Iterable["GraphTables"]) -> "GraphTables":
        """The sum of several parts: the same in any order and any grouping."""
        parts = list(parts)
        return cls(NodeTable.joined([p.nodes for p in parts]), EdgeTable.joined([p.edges for p in parts]))


def _edges_of(
    ids: np.ndarray,
    order: np.ndarray,
    pairs: np.ndarray,
    counts: np.ndarray,
    contacts: np.ndarray,
    face_rows: np.ndarray,
    face_values: np.ndarray,
    shift: int,
) -> EdgeTable:
    """What `list_faces` found as a table. `order` sorts the ids; pairs are of their places before that."""
    ranks = np.empty(len(ids), np.int64)
    ranks[order] = np.arange(len(ids))
    ends = np.sort(ranks[pairs], axis=1)
    rows = np.argsort(ends[:, 0] << 32 | ends[:, 1])
    n = len(face_rows)
    columns, *histograms = kernels.summarise_faces(
        rows,
        counts,
        face_rows,
        face_values,
        shift,
        np.empty(n, face_values.dtype),
        np.empty(n + 1, np.uint8),
        np.empty(n + 1, np.uint32),
    )
    u, v = ids[order[ends[rows]]].T
    return EdgeTable(u, v, counts[rows], contacts[rows], *columns.T, *histograms)
