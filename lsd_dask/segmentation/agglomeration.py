"""Agglomeration of a region graph into a merge tree.

Again and again the edge with the best score is contracted, and edges that become parallel are added. Scores
lie on 256 levels, so many are equal; what goes first of equals is decided by a rank that every edge has for
itself - the one with the largest sum of affinities first, or mean for ``_initmax`` - so the outcome does not
depend on the order of anything. (Contracting all edges of a level at once would not depend on it either, but
is worse where affinities are noisy: see docs/quality.md.)

Mean affinity and histogram quantiles are *reducible*: merging never gives an edge a better score than the
best it replaces. As an edge that absorbs a parallel one takes the later of their ranks, the order by score
and rank is reducible too: merges that are best for both sides can be made at any time, by anyone, with the
same outcome. Scores are those of waterz [1]_.

References
----------
.. [1] J. Funke et al., "Large scale image segmentation with structured loss based deep learning for
   connectome reconstruction", IEEE TPAMI 41(7), 2019. https://github.com/funkey/waterz
"""

import difflib
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np

from ..checks.arguments import described, naming, real_number
from ..checks.id_lists import LARGEST, ids_of, index_of
from ..kernels.segmentation import agglomeration as kernels
from ..storage import parquet
from .edits import Edits, as_edits, cut_with_edits
from .graph_tables import EdgeTable
from .region_graph import RegionGraph

LEVELS = kernels.LEVELS


@dataclass(frozen=True)
class MergeFunction:
    """How an edge is scored.

    Attributes
    ----------
    quantile
        Percentage of the affinities' quantile, or None for their mean.
    initial_maximum
        Whether each edge of the region graph counts once, with its highest affinity, not with all of them.
    """

    quantile: int | None
    initial_maximum: bool = False


#: The merge functions by name. A score is 1 - quantile, or 1 - mean; low scores are merged first.
MERGE_FUNCTIONS = {
    **{f"hist_quant_{q}": MergeFunction(q) for q in (10, 25, 50, 75, 90)},
    **{f"hist_quant_{q}_initmax": MergeFunction(q, True) for q in (10, 25, 50, 75, 90)},
    "mean": MergeFunction(None),
}


@dataclass(frozen=True)
class MergeTree:
    """Which components of fragments became one, and at what score.

    A component is named by its smallest fragment id. Every fragment id names a component at first, and stops
    doing so at most once: when its component joins one with a smaller name.

    Attributes
    ----------
    ids
        uint64, ``(n,)``, the fragments, ascending.
    parents
        int64, ``(n,)``, row of the name of the component that each was joined to; its own row for none.
    levels
        int64, ``(n,)``, level at which that happened, `LEVELS` for never. The score of a level is
        ``(level + 0.5) / 256``.
    merge_function
        Name of the merge function.
    """

    ids: np.ndarray
    parents: np.ndarray
    levels: np.ndarray
    merge_function: str

    def __post_init__(self) -> None:
        merge_function_named(self.merge_function)
        object.__setattr__(self, "ids", _ids("ids", self.ids))
        for name, low, high in (("parents", 0, np.arange(len(self.ids))), ("levels", 0, LEVELS)):
            rows = np.asarray(getattr(self, name))
            if rows.shape != self.ids.shape or rows.dtype.kind not in "iu":
                raise ValueError(
                    f"{name}: found {rows.dtype} of shape {rows.shape}, expected integers of shape "
                    f"{self.ids.shape}, one for each fragment"
                )
            wrong = np.flatnonzero((rows < low) | (rows > high))
            if wrong.size:
                expected = "its own row or one above" if name == "parents" else f"{low} to {high}"
                raise ValueError(f"{name}: found {rows[wrong[0]]} in row {wrong[0]}, expected {expected}")
            object.__setattr__(self, name, rows)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def scores(self) -> np.ndarray:
        """Score at which each fragment's id stopped naming a component, float64, ``(n,)``; NaN for never."""
        return scores_of(self.levels)

    def cut(self, threshold: float, edits: Edits | str | PathLike[str] | None = None) -> "LookupTable":
        """The segment of every fragment when all merges with scores up to `threshold` are made.

        Parameters
        ----------
        threshold
            In [0, 1]; 0 merges nothing.
        edits
            Corrections that are honoured, or the path of a table of them: what must, and what cannot, be of
            one segment. See `lsd_dask.edits`.

        Returns
        -------
        LookupTable
            Fragment id -> segment id, which is the smallest fragment id of the segment.

        Raises
        ------
        ValueError
            For a threshold outside [0, 1], and for edits of fragments that are not in the tree.

        Examples
        --------
        >>> ids = np.array([3, 5, 9], np.uint64)
        >>> tree = MergeTree(ids, np.array([0, 0, 0]), np.array([256, 55, 155]), "mean")
        >>> tree.cut(0.5).values
        array([3, 3, 9], dtype=uint64)
        """
        level = level_of(threshold)
        if edits is not None:
            edits = as_edits(edits)
            return LookupTable(self.ids, cut_with_edits(self.ids, self.parents, self.levels, level, edits))
        return LookupTable(self.ids, kernels.cut(self.ids, self.parents, self.levels, level))

    def merge_scores(self, graph: RegionGraph) -> np.ndarray:
        """Score at which the two ends of each edge of the region graph became one.

        Returns
        -------
        scores
            float64, one for each row of ``graph.edges``; NaN where they never did.
        """
        ends = np.stack([rows_of(self.ids, graph.edges.u), rows_of(self.ids, graph.edges.v)], axis=1)
        return scores_of(kernels.joining_levels(self.parents, self.levels, ends))

    def to_parquet(self, path: str, facts: Mapping[str, Any] | None = None) -> None:
        """Write the tree: one row a fragment, with the component it joined and when; and facts about it."""
        columns = {
            "fragment": self.ids,
            "parent": self.ids[self.parents],
            "level": self.levels,
            "score": self.scores,
        }
        parquet.write_table(path, columns, {**(facts or {}), "merge_function": self.merge_function})

    @classmethod
    def from_parquet(cls, path: str) -> "MergeTree":
        """Read what `to_parquet` wrote.

        Raises
        ------
        FileNotFoundError, ValueError
            If the file is missing, cut short, or another kind of table.
        """
        table, facts = parquet.read_table(path, "fragment", "parent", "level")
        with naming(path):
            ids = _ids("fragment", parquet.column(table, "fragment"))
            names = _ids("parent", parquet.column(table, "parent"), ascending=False)
            parents = np.searchsorted(ids, names)
            found = ids[np.minimum(parents, len(ids) - 1)] == names if len(ids) else np.empty(0, bool)
            if not found.all():
                raise ValueError(f"parent: found {names[~found][0]}, which is no fragment of the table")
            return cls(ids, parents, parquet.column(table, "level"), facts["merge_function"])

    def linkage(self) -> np.ndarray:
        """The tree in the form of `scipy.cluster.hierarchy`.

        Returns
        -------
        linkage
            float64, ``(n - 1, 4)``: the two clusters joined, their score, the number of fragments in the new
            cluster. Cluster i < n is the fragment in row i of `ids`. What was never merged is joined at an
            infinite score.
        """
        order = np.argsort(self.levels, kind="stable")
        cluster = np.arange(len(self))
        size = np.ones(len(self), np.int64)
        rows = np.empty((max(len(self) - 1, 0), 4))
        trunk = -1
        made = 0
        for i in order.tolist():
            if self.levels[i] < LEVELS:
                target, score = int(self.parents[i]), (self.levels[i] + 0.5) / LEVELS
            elif trunk < 0:
                trunk = i
                continue
            else:
                target, score = trunk, np.inf
            size[target] += size[i]
            rows[made] = (*sorted((cluster[target], cluster[i])), score, size[target])
            cluster[target] = len(self) + made
            made += 1
        return rows


@dataclass(frozen=True)
class LookupTable:
    """Maps fragment ids to segment ids.

    Attributes
    ----------
    keys
        uint64, ``(n,)``, fragment ids, ascending.
    values
        uint64, ``(n,)``, segment ids.
    """

    keys: np.ndarray
    values: np.ndarray

    def __post_init__(self) -> None:
        object.__setattr__(self, "keys", _ids("keys", self.keys))
        object.__setattr__(self, "values", _ids("values", self.values, ascending=False))
        if self.keys.shape != self.values.shape:
            raise ValueError(
                f"keys have shape {self.keys.shape}, values {self.values.shape}: expected the same"
            )

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def digest(self) -> str:
        """Digest of all rows: equal tables have the same."""
        hashed = hashlib.blake2b(np.ascontiguousarray(self.keys, "<u8").tobytes(), digest_size=12)
        hashed.update(np.ascontiguousarray(self.values, "<u8").tobytes())
        return hashed.hexdigest()

    def __getitem__(self, fragment: int) -> int:
        wanted = index_of(fragment, "fragment")
        row = int(np.searchsorted(self.keys, np.uint64(wanted))) if 0 <= wanted <= LARGEST else len(self)
        if row == len(self) or self.keys[row] != wanted:
            raise KeyError(f"Fragment {fragment} is not in this lookup table of {len(self)} fragments.")
        return int(self.values[row])

    def to_parquet(self, path: str, facts: Mapping[str, Any] | None = None) -> None:
        """Write the table: columns fragment and segment; and facts about it."""
        parquet.write_table(path, {"fragment": self.keys, "segment": self.values}, facts)

    @classmethod
    def from_parquet(cls, path: str) -> "LookupTable":
        """Read what `to_parquet` wrote.

        Raises
        ------
        FileNotFoundError, ValueError
            If the file is missing, cut short, or another kind of table.
        """
        table, _ = parquet.read_table(path, "fragment", "segment")
        with naming(path):
            return cls(parquet.column(table, "fragment"), parquet.column(table, "segment"))


def agglomerate(graph: RegionGraph, merge_function: str = "hist_quant_75") -> MergeTree:
    """Agglomerate a region graph.

    Parameters
    ----------
    graph
        The region graph.
    merge_function
        One of `MERGE_FUNCTIONS`: ``hist_quant_{10,25,50,75,90}``, each also with ``_initmax``, or ``mean``.

    Returns
    -------
    MergeTree
        The whole tree, to be cut at any threshold.

    Raises
    ------
    TypeError
        If it is no region graph.
    ValueError
        For an unknown merge function.

    Examples
    --------
    >>> from lsd_dask.segmentation.region_graph import build_region_graph
    >>> fragments = np.array([[1, 2, 3]], dtype=np.uint64)
    >>> affinities = np.array([[[0, 0, 0]], [[0, 0.9, 0.2]]], dtype=np.float32)
    >>> agglomerate(build_region_graph(affinities, fragments), "mean").cut(0.5).values
    array([1, 1, 3], dtype=uint64)
    """
    if not isinstance(graph, RegionGraph):
        raise TypeError(
            f"graph: found {described(graph)}, expected a RegionGraph, as from build_region_graph"
        )
    function = merge_function_named(merge_function)
    edges = graph.edges
    ends = np.stack([rows_of(graph.nodes.ids, edges.u), rows_of(graph.nodes.ids, edges.v)], axis=1)
    starts, bins, bin_counts = counted_bins(edges, function)
    # The kernel is compiled for arrays that can be written, and replaces these by its own as it goes.
    counts, sums, starts, bins, bin_counts = (
        np.require(column, requirements=["C", "W"])
        for column in (edges.counts, edges.sums, starts, bins, bin_counts)
    )
    parents, levels, *_ = kernels.contract(
        len(graph.nodes),
        ends,
        counts,
        sums,
        starts,
        bins,
        bin_counts,
        ranks_of(ends, firmness_of(edges, function)),
        np.zeros(len(graph.nodes), np.bool_),
        kernels.MEAN if function.quantile is None else function.quantile,
        graph.scale,
    )
    return MergeTree(graph.nodes.ids, parents, levels, merge_function)


def counted_bins(edges: EdgeTable, function: MergeFunction) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Histograms that scores are made of, in compressed rows: starts, bins, counts."""
    if not function.initial_maximum:
        return edges.starts, edges.bins, edges.bin_counts
    return np.arange(len(edges) + 1), edges.bins[edges.starts[1:] - 1], np.ones(len(edges), np.uint32)


def firmness_of(edges: EdgeTable, function: MergeFunction) -> np.ndarray:
    """What decides between edges of one score: the sum of affinities; their mean where the score knows only
    the highest of them.
    """
    return edges.sums / edges.counts if function.initial_maximum else edges.sums


def ranks_of(ends: np.ndarray, firmness: np.ndarray) -> np.ndarray:
    """Who goes first of edges with one score: the firmer one, then that with smaller ids."""
    low, high = np.minimum(*ends.T), np.maximum(*ends.T)
    order = np.lexsort((high, low, -firmness))
    ranks = np.empty(len(ends), np.int64)
    ranks[order] = np.arange(len(ends))
    return ranks


def merge_function_named(name: str) -> MergeFunction:
    """The merge function of a name; ValueError, with the nearest one, if there is none."""
    if not isinstance(name, str):
        raise TypeError(
            f"merge_function: found {described(name)}, expected one of {', '.join(MERGE_FUNCTIONS)}"
        )
    if name not in MERGE_FUNCTIONS:
        near = difflib.get_close_matches(name, MERGE_FUNCTIONS, n=1, cutoff=0)
        raise ValueError(
            f"There is no merge function {name!r}; did you mean {near[0]!r}? "
            f"Known: {', '.join(MERGE_FUNCTIONS)}."
        )
    return MERGE_FUNCTIONS[name]


def level_of(threshold: float) -> int:
    """The highest level whose score is at most `threshold`; -1 for none."""
    real_number("The threshold", threshold, 0, 1, meaning="a score from 0 (merge nothing) to 1.")
    return int(np.floor(threshold * LEVELS - 0.5))


def scores_of(levels: np.ndarray) -> np.ndarray:
    """Scores of levels, float64; NaN for `LEVELS`, which is never."""
    return np.where(levels < LEVELS, (levels + 0.5) / LEVELS, np.nan)


def _ids(name: str, ids: np.ndarray, *, ascending: bool = True) -> np.ndarray:
    """Ids as uint64, which kernels are compiled for; TypeError or ValueError where a column cannot be ids."""
    found = ids_of(ids, name)
    if found.ndim != 1:
        raise ValueError(f"{name}: found shape {found.shape}, expected ids of shape (n,)")
    wrong = np.flatnonzero(found[1:] <= found[:-1]) if ascending else np.empty(0)
    if wrong.size:
        before, after = found[wrong[0]], found[wrong[0] + 1]
        raise ValueError(f"{name}: found {before} before {after}, expected ascending ids, each one once")
    return found


def rows_of(ids: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Rows of `wanted` in ascending `ids`."""
    rows = np.searchsorted(ids, wanted)
    found = np.minimum(rows, max(len(ids) - 1, 0))
    missing = wanted[ids[found] != wanted] if len(ids) else wanted
    if len(missing):
        raise ValueError(
            f"The edges name fragment {missing[0]}, for which the graph has no node: were they made from "
            "other data?"
        )
    return rows
