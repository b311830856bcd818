"""Segments at a threshold that can be changed: what fragments are shown as, and what segments are made of."""

from dataclasses import dataclass

import numpy as np

from ..checks.id_lists import ids_of
from ..segmentation.agglomeration import LookupTable, MergeTree
from ..segmentation.edits import Edits
from ..segmentation.graph_tables import NodeTable


@dataclass(frozen=True)
class SegmentFacts:
    """What is known of a segment.

    Attributes
    ----------
    segment
        Its id.
    fragments
        Ids of the fragments it is made of, the largest first; ascending where sizes are not known.
    voxels
        Its size; None where it is not known.
    """

    segment: int
    fragments: tuple[int, ...]
    voxels: int | None


class Merging:
    """A merge tree that is cut where one likes.

    Parameters
    ----------
    tree
        Of the fragments.
    threshold
        In [0, 1], where it is cut first.
    nodes
        The fragments with their sizes, if these are to be told.
    edits
        Corrections that are honoured at every threshold, if there are any.

    Examples
    --------
    >>> ids = np.array([3, 5, 9], np.uint64)
    >>> tree = MergeTree(ids, np.array([0, 0, 0]), np.array([256, 55, 155]), "mean")
    >>> merging = Merging(tree, 0.5)
    >>> merging.segments, merging.facts(5)
    (2, SegmentFacts(segment=3, fragments=(3, 5), voxels=None))
    >>> merging.cut(0.7)
    >>> merging.apply(np.array([0, 5, 9], np.uint64))
    array([0, 3, 3], dtype=uint64)
    """

    def __init__(
        self,
        tree: MergeTree,
        threshold: float,
        nodes: NodeTable | None = None,
        edits: Edits | None = None,
    ) -> None:
        self.tree = tree
        self.edits = edits
        self._sizes = None if nodes is None else _sizes_of(tree, nodes)
        self.cut(threshold)

    def cut(self, threshold: float) -> None:
        """Cut the tree at another threshold; ValueError outside [0, 1]."""
        # One assignment, as other threads read it at any time.
        self._state: tuple[float, LookupTable] = (threshold, self.tree.cut(threshold, edits=self.edits))

    @property
    def threshold(self) -> float:
        """Where the tree is cut."""
        return self._state[0]

    @property
    def table(self) -> LookupTable:
        """Fragment to segment, at the threshold."""
        return self._state[1]

    @property
    def segments(self) -> int:
        """Number of segments at the threshold."""
        return int(np.count_nonzero(self.table.keys == self.table.values))

    def apply(self, fragments: np.ndarray) -> np.ndarray:
        """Segments of fragments; fragments that the tree does not know stay what they are."""
        table, fragments = self.table, ids_of(fragments, "fragments")
        if not len(table):
            return fragments
        rows = np.minimum(np.searchsorted(table.keys, fragments), len(table) - 1)
        return np.where(table.keys[rows] == fragments, table.values[rows], fragments)

    def size_of(self, fragment: int) -> int | None:
        """Voxels of a fragment of the tree; None where sizes are not known."""
        if self._sizes is None:
            return None
        return int(self._sizes[np.searchsorted(self.tree.ids, np.uint64(fragment))])

    def facts(self, fragment: int) -> SegmentFacts | None:
        """The segment that holds a fragment; None for one that the tree does not know."""
        table = self.table
        try:
            segment = table[fragment]
        except KeyError:
            return None
        rows = np.flatnonzero(table.values == np.uint64(segment))
        if self._sizes is None:
            return SegmentFacts(segment, tuple(table.keys[rows].tolist()), None)
        rows = rows[np.argsort(-self._sizes[rows], kind="stable")]
        return SegmentFacts(segment, tuple(table.keys[rows].tolist()), int(self._sizes[rows].sum()))


def _sizes_of(tree: MergeTree, nodes: NodeTable) -> np.ndarray:
    """Voxels of each fragment of the tree; 0 for those that the table lacks."""
    if not len(nodes):
        return np.zeros(len(tree), np.int64)
    rows = np.minimum(np.searchsorted(nodes.ids, tree.ids), len(nodes) - 1)
    return np.where(nodes.ids[rows] == tree.ids, nodes.sizes[rows], 0)
