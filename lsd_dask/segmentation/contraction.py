r"""Agglomeration in parts: to the same merge tree as `agglomerate`, without a process that holds the graph.

A volume is divided into cells, as an octree is. A fragment is *complete* in a cell if all faces of it lie
there; in other cells that hold a part of it, it is frozen. Cells are contracted from the blocks to the root
of the tree. Each takes what its children left undecided, adds the edges that are complete in it and in none
of them, contracts what can be contracted, and hands up what is left. On the way back from the root, each
learns what became of that (`Fate`), and with it the final parents and levels of its own fragments, and the
score at which the ends of its own edges met.

Notes
-----
Why the result is the same, bit for bit. The state of an agglomeration is a partition of the fragments into
components. The edge between two components has the sum of the counts of all edges of the region graph between
their fragments, and the latest of their ranks; both depend on the partition alone, not on the order of merges
that led to it. Its *key* is (level, rank). Ranks order the pairs of sum (or mean) and ids of the edges of the
region graph, so all keys in a state differ, and a cell can compare those it holds without knowing the others.

(1) *Reducible*: if a and b merge, the key of (ab, c) is not below the smaller one of (a, c) and (b, c): a
quantile of a sum of histograms lies between those of the parts, as does a mean, and the later rank is not
below either.

(2) *Merges that are best for both commute*. Let e = (u, v) have the smallest key of all edges of u and of all
of v. By (1), merges of others do not change that, so the queue over the whole graph contracts e sooner or
later, with u, v and the key as they are now. Contracting it now instead leaves the queue's choices before
that as they were: of its edges only those of u and v change, to keys that are, by (1), above that of e or of
one that waits behind the queue's choice. So the merges and their levels are the same, and so is the partition
at the end of each level, which names parents.

(3) *What is contracted in a cell is such a merge*. A component that is not frozen is made of complete
fragments, so all of its edges are in the cell, with all of their sums. Edges are taken by ascending keys. If
neither end is frozen, all other edges of both are behind this one: (2) holds. If one is, the edge to it is
the best of the other end, and stays so: nothing in this cell can be done with either, so both are frozen. Any
two cells that are not within each other share no component that is not frozen, so they commute as well.

(4) A component that a cell hands up merges, later on, with others at the level of its own merges or above: by
(1), since its edges were all behind them. So levels do not fall along a chain of parents, whoever made it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from ..blockwise.octree import Octree
from ..kernels.segmentation import agglomeration as kernels
from ..kernels.segmentation.merge_trees import restrict
from .agglomeration import (
    LEVELS,
    MergeTree,
    counted_bins,
    firmness_of,
    merge_function_named,
    ranks_of,
    rows_of,
    scores_of,
)
from .graph_tables import EdgeTable
from .region_graph import RegionGraph


class Columns:
    """A table that is written as plain arrays."""

    def arrays(self) -> dict[str, np.ndarray]:
        """The columns by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]


@dataclass(frozen=True)
class Residual(Columns):
    """Components of fragments that are not decided yet, and the edges between them that are known.

    Attributes
    ----------
    ids
        uint64, ``(n,)``, smallest fragment of each component, ascending.
    frozen
        bool, ``(n,)``, those of a fragment that is not complete.
    ends
        int64, ``(m, 2)``, rows in `ids` of the two ends of each edge, the smaller one first.
    counts, sums
        int64, ``(m,)``, number and sum of the affinities between them, quantised.
    starts, bins, bin_counts
        Histograms of what counts for the score, in compressed rows; int64, uint8, int64. Empty for the mean.
    firmness, firmest
        ``(m,)``, int64 or float64, and uint64 ``(m, 2)``: which edge of the region graph gives its rank, by
        what decides between equal scores, and its two fragments.
    """

    ids: np.ndarray
    frozen: np.ndarray
    ends: np.ndarray
    counts: np.ndarray
    sums: np.ndarray
    starts: np.ndarray
    bins: np.ndarray
    bin_counts: np.ndarray
    firmness: np.ndarray
    firmest: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def of_edges(cls, edges: EdgeTable, merge_function: str) -> "Residual":
        """Edges of a region graph, before anything is merged; no fragment is taken for complete."""
        function = merge_function_named(merge_function)
        pairs = np.stack([edges.u, edges.v], axis=1)
        ids = np.unique(pairs)
        if function.quantile is None:
            starts, bins, counts = np.zeros(len(edges) + 1, np.int64), np.empty(0, np.uint8), np.empty(0)
        else:
            starts, bins, counts = counted_bins(edges, function)
        return cls(
            ids,
            np.ones(len(ids), bool),
            np.searchsorted(ids, pairs),
            edges.counts,
            edges.sums,
            starts,
            bins,
            counts.astype(np.int64),
            firmness_of(edges, function),
            pairs,
        )

    @classmethod
    def joined(cls, parts: Sequence["Residual"], complete: np.ndarray) -> "Residual":
        """Several parts as one; none has an edge of another one.

        Parameters
        ----------
        parts
            At least one.
        complete
            uint64, ascending: fragments that are complete in the whole of them, and in none of the parts.
        """
        ids = np.unique(np.concatenate([*(part.ids for part in parts), complete]))
        frozen = np.zeros(len(ids), bool)
        for part in parts:
            frozen[np.searchsorted(ids, part.ids)] = part.frozen
        frozen[np.searchsorted(ids, complete)] = False
        entries = np.cumsum([0] + [len(part.bins) for part in parts])
        starts = [part.starts[:-1] + entry for part, entry in zip(parts, entries[:-1], strict=True)]
        rows = [np.searchsorted(ids, part.ids) for part in parts]
        plain = ("counts", "sums", "bins", "bin_counts", "firmness", "firmest")
        return cls(
            ids=ids,
            frozen=frozen,
            ends=np.concatenate([row[part.ends] for row, part in zip(rows, parts, strict=True)]),
            starts=np.concatenate([*starts, entries[-1:]]),
            **{name: np.concatenate([getattr(part, name) for part in parts]) for name in plain},
        )


@dataclass(frozen=True)
class Stage(Columns):
    """What the contraction of a cell decided.

    Attributes
    ----------
    ids
        uint64, ``(n,)``, smallest fragments of the components that the cell began with, ascending.
    parents, levels
        int64, ``(n,)``: the row of the component that each was joined to, and at which level; its own row and
        `LEVELS` for those that were not.
    left
        bool, ``(n,)``, those of components that are handed up. What neither joined another one nor is handed
        up has no edges any more, and stays as it is.
    """

    ids: np.ndarray
    parents: np.ndarray
    levels: np.ndarray
    left: np.ndarray


@dataclass(frozen=True)
class Fate(Columns):
    """What became of some components.

    Attributes
    ----------
    ids
        uint64, ``(n,)``, ascending.
    parents, levels
        uint64 and int64, ``(n,)``: the final fragment whose component each was joined to, and at which level;
        itself and `LEVELS` for never.
    among, among_levels
        int64, ``(n,)``: the merge tree of these alone, as rows and levels: each two of them meet in it at the
        level at which they do in the whole.
    """

    ids: np.ndarray
    parents: np.ndarray
    levels: np.ndarray
    among: np.ndarray
    among_levels: np.ndarray

    @classmethod
    def empty(cls) -> "Fate":
        """Of no components: what the root is told."""
        ids, rows = np.empty(0, np.uint64), np.empty(0, np.int64)
        return cls(ids, ids, rows, rows, rows)

    def take(self, wanted: np.ndarray) -> "Fate":
        """Of some of the components, by their ids, ascending."""
        kept = np.zeros(len(self.ids), bool)
        kept[rows_of(self.ids, wanted)] = True
        among, among_levels = restrict(self.among, self.among_levels, kept)
        return Fate(self.ids[kept], self.parents[kept], self.levels[kept], among, among_levels)

    def merge_levels(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Level at which each two fragments became one; `LEVELS` for never."""
        ends = np.stack([rows_of(self.ids, u), rows_of(self.ids, v)], axis=1)
        levels: np.ndarray = kernels.joining_levels(self.among, self.among_levels, ends)
        return levels


def contract(part: Residual, merge_function: str, scale: int) -> tuple[Stage, Residual]:
    """Contract everything that what is frozen cannot change.

    Parameters
    ----------
    part
        What a cell holds.
    merge_function
        As for `agglomerate`.
    scale
        The integer that stands for affinity 1 in the sums.

    Returns
    -------
    stage
        What was decided.
    left
        What is to be handed up: components that have edges still.
    """
    quantile = merge_function_named(merge_function).quantile
    ranks = ranks_of(part.firmest, part.firmness)
    order = np.empty_like(ranks)
    order[ranks] = np.arange(len(ranks))
    parents, levels, ends, left_ranks, columns, starts, bins, bin_counts = kernels.contract(
        len(part),
        part.ends,
        part.counts,
        part.sums,
        part.starts,
        part.bins,
        part.bin_counts,
        ranks,
        part.frozen,
        kernels.MEAN if quantile is None else quantile,
        scale,
    )
    left = np.zeros(len(part), bool)
    left[ends] = True
    numbers = np.cumsum(left) - 1
    firmest = order[left_ranks]
    residual = Residual(
        part.ids[left],
        part.frozen[left],
        numbers[ends],
        columns[:, 0].copy(),
        columns[:, 1].copy(),
        starts,
        bins,
        bin_counts,
        part.firmness[firmest],
        part.firmest[firmest],
    )
    return Stage(part.ids, parents, levels, left), residual


def settle(stage: Stage, above: Fate) -> Fate:
    """What became of all components that a cell began with.

    Parameters
    ----------
    stage
        What the cell decided.
    above
        What became of those that it handed up.

    Returns
    -------
    Fate
        Rows of `stage` that were not handed up are final nowhere else.
    """
    left = np.flatnonzero(stage.left)
    among, among_levels = stage.parents.copy(), stage.levels.copy()
    among[left], among_levels[left] = left[above.among], above.among_levels
    parents, levels = stage.ids[stage.parents], stage.levels.copy()
    parents[left], levels[left] = above.parents, above.levels
    # A parent that loses its name within the level at which it got this one is known by that of another.
    renamed = np.flatnonzero(~stage.left & (stage.levels < LEVELS) & stage.left[stage.parents])
    into = stage.parents[renamed]
    same = levels[into] == levels[renamed]
    parents[renamed[same]] = parents[into[same]]
    return Fate(stage.ids, parents, levels, among, among_levels)


def agglomerate_in_cells(
    graph: RegionGraph, merge_function: str, homes: np.ndarray, above: np.ndarray
) -> tuple[MergeTree, np.ndarray]:
    """Agglomerate a region graph in memory, cell by cell: what the workflow does with tables on disk.

    Parameters
    ----------
    graph
        The region graph.
    merge_function
        As for `agglomerate`.
    homes
        int64, ``(n,)``: the cell in which each fragment is complete. Of the ends of an edge, one's home is
        that of the other, or lies within it.
    above
        int64, ``(c,)``: the cell that each one lies in, which comes after it; the last one is the root, and
        its own.

    Returns
    -------
    tree, scores
        As `agglomerate` and `MergeTree.merge_scores` give them.

    Examples
    --------
    A path of three fragments, in two cells and the root over them: the one in the middle touches both.

    >>> from lsd_dask.segmentation.region_graph import build_region_graph
    >>> fragments = np.array([[1, 2, 3]], dtype=np.uint64)
    >>> affinities = np.array([[[0, 0, 0]], [[0, 0.9, 0.2]]], dtype=np.float32)
    >>> graph = build_region_graph(affinities, fragments)
    >>> tree, _ = agglomerate_in_cells(graph, "mean", np.array([0, 2, 1]), np.array([2, 2, 2]))
    >>> tree.cut(0.5).values
    array([1, 1, 3], dtype=uint64)
    """
    cells = len(above)
    ends = np.stack([rows_of(graph.nodes.ids, edge) for edge in (graph.edges.u, graph.edges.v)], axis=1)
    # Cells come after what they hold, so the smaller number is the inner cell.
    owners = homes[ends].min(axis=1, initial=cells)
    edges = [graph.edges.take(owners == cell) for cell in range(cells)]
    handed: list[list[Residual]] = [[] for _ in range(cells)]
    stages: list[Stage] = []
    for cell in range(cells):
        parts = [*handed[cell], Residual.of_edges(edges[cell], merge_function)]
        part = Residual.joined(parts, graph.nodes.ids[homes == cell])
        stage, left = contract(part, merge_function, graph.scale)
        stages.append(stage)
        if above[cell] != cell:
            handed[above[cell]].append(left)
        handed[cell] = []
    fates: dict[int, Fate] = {cells - 1: Fate.empty()}
    parents, levels = np.arange(len(graph.nodes)), np.full(len(graph.nodes), LEVELS)
    merge_levels = np.full(len(graph.edges), LEVELS)
    for cell in reversed(range(cells)):
        told = fates[int(above[cell])]
        stage = stages[cell]
        fate = settle(stage, told if cell == cells - 1 else told.take(stage.ids[stage.left]))
        fates[cell] = fate
        rows = rows_of(graph.nodes.ids, fate.ids)
        parents[rows], levels[rows] = rows_of(graph.nodes.ids, fate.parents), fate.levels
        merge_levels[owners == cell] = fate.merge_levels(edges[cell].u, edges[cell].v)
    return MergeTree(graph.nodes.ids, parents, levels, merge_function), scores_of(merge_levels)


def agglomerate_in_blocks(
    graph: RegionGraph, merge_function: str, block_shape: Sequence[int]
) -> tuple[MergeTree, np.ndarray]:
    """`agglomerate_in_cells` for the octree over the blocks of the graph's volume.

    Parameters
    ----------
    graph
        The region graph.
    merge_function
        As for `agglomerate`.
    block_shape
        In voxels, one number an axis.

    Returns
    -------
    tree, scores
        As `agglomerate` and `MergeTree.merge_scores` give them.
    """
    octree = Octree(graph.grid.shape, tuple(block_shape))
    ndim = len(octree.shape)
    begins, ends = graph.nodes.begins[:, 3 - ndim :], graph.nodes.ends[:, 3 - ndim :]
    homes = octree.numbers(*octree.homes(begins, ends, (1,) * ndim))
    cells = list(octree.all_cells())
    parents = [
        (level + 1, octree.parent(level, cell).index) if level < octree.depth else (level, cell.index)
        for level, cell in cells
    ]
    above = octree.numbers(
        np.array([level for level, _ in parents]), np.array([place for _, place in parents])
    )
    return agglomerate_in_cells(graph, merge_function, homes, above)
