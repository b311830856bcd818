"""Expected run length: how far one can follow a skeleton in a segmentation before an error."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import networkx as nx
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks.arguments import whole_number
from ..checks.id_lists import ids_of
from .skeletons import Skeletons, as_skeletons


@dataclass(frozen=True, eq=False)
class RunLengths:
    """How far skeletons can be followed in a segmentation; all lengths in world units.

    Attributes
    ----------
    runs
        float64, ``(n,)``, length of the correct edges of a skeleton in a segment, for each such pair that has
        some; in descending order.
    correct, split, merged, omitted
        Length of all edges that are correct, whose ends lie in different segments, that lie in a segment
        which also holds another skeleton, and that have an end in segment 0.
    maximum_erl
        The expected run length of a segmentation without errors.
    number_of_components, number_of_segments
        Number of skeletons, and of segments other than 0 that hold a node.
    number_of_split_skeletons, number_of_merging_segments
        Number of skeletons that lie in several segments, and of segments that hold several skeletons.
    number_of_splits, number_of_merges
        The same, counting every segment of a skeleton but one, and every skeleton of a segment but one.
    number_of_background_sites
        Number of nodes in segment 0.
    """

    runs: NDArray[np.float64]
    correct: float
    split: float
    merged: float
    omitted: float
    maximum_erl: float
    number_of_components: int
    number_of_segments: int
    number_of_split_skeletons: int
    number_of_merging_segments: int
    number_of_splits: int
    number_of_merges: int
    number_of_background_sites: int

    @property
    def total(self) -> float:
        """Length of all skeletons."""
        return self.correct + self.split + self.merged + self.omitted

    @property
    def erl(self) -> float:
        """The expected run length: sum of the squared runs over the length of all skeletons."""
        return float(self.runs @ self.runs) / self.total

    @property
    def normalized_erl(self) -> float:
        """The expected run length over the one that can be reached, 0 to 1."""
        return self.erl / self.maximum_erl

    def scores(self) -> dict[str, float]:
        """All numbers by the names that the tables of scores have."""
        counts = {name: getattr(self, name) for name in self.__annotations__ if name.startswith("number_of")}
        lengths = {
            f"length_{name}": getattr(self, name) for name in ("correct", "split", "merged", "omitted")
        }
        return {
            "expected_run_length": self.erl,
            "max_erl": self.maximum_erl,
            "normalized_erl": self.normalized_erl,
            **lengths,
            **counts,
        }


def expected_run_length(
    skeletons: Skeletons | nx.Graph,
    segments: ArrayLike | Mapping[Any, int],
    *,
    skeleton_id_attribute: str | None = None,
    stray_nodes: int = 0,
) -> RunLengths:
    """Expected run length of skeletons in a segmentation.

    Parameters
    ----------
    skeletons : Skeletons or networkx.Graph
        Nodes of a graph have ``z``, ``y`` and ``x`` in world units.
    segments : (n,) array_like of int, or mapping
        The segment at each node: in the order of the nodes (see `labels_at`), or by the id of the node.
    skeleton_id_attribute : str, optional
        Attribute of a graph's nodes with the id of their skeleton; by default each connected component is a
        skeleton.
    stray_nodes : int
        A skeleton with at most this many nodes in a segment is not taken to be merged with the others there.

    Returns
    -------
    RunLengths
        ``erl``, ``maximum_erl``, ``normalized_erl``, and what they are made of.

    Raises
    ------
    ValueError
        If segments do not fit the nodes or are negative, or the skeletons have no length at all.
    TypeError
        If segments are not integers.

    Notes
    -----
    An edge with an end in segment 0 is omitted; one whose ends lie in different segments is split; one in a
    segment that also holds a node of another skeleton is merged; all others are correct. A run is the length
    of the correct edges of one skeleton in one segment, and the expected run length is that of the run in
    which a point lies that is drawn from all skeletons by their length; it is 0 for points outside of all
    runs [1]_. Its maximum is that of segments which equal the skeletons.

    A single node that strays into the neighbour, for instance because annotators clicked next to it, makes a
    merger of two long runs. Later work therefore asks for more than a few nodes before it counts one:
    `stray_nodes`.

    References
    ----------
    .. [1] M. Januszewski et al., "High-precision automated reconstruction of neurons with flood-filling
       networks", Nature Methods 15, 2018. https://doi.org/10.1038/s41592-018-0049-4

    Examples
    --------
    >>> skeletons = Skeletons([[0, 0, 0], [0, 0, 3], [0, 0, 4]], [[0, 1], [1, 2]])
    >>> lengths = expected_run_length(skeletons, [7, 7, 9])
    >>> lengths.erl, lengths.maximum_erl, lengths.split
    (2.25, 4.0, 1.0)
    """
    traced = as_skeletons(skeletons, skeleton_id_attribute)
    strays = whole_number("stray_nodes", stray_nodes, 0)
    if isinstance(segments, Mapping):
        keys = list(skeletons) if isinstance(skeletons, nx.Graph) else traced.nodes.tolist()
        segments = _from_mapping(segments, keys)
    labels = ids_of(segments, "segments")
    if labels.shape != (len(traced),):
        raise ValueError(f"segments: found shape {labels.shape}, expected ({len(traced)},), one a node")
    lengths = traced.edge_lengths
    total = float(lengths.sum())
    if total <= 0:
        raise ValueError(
            f"skeletons: found {len(traced)} nodes and {len(lengths)} edges of no length, expected some"
        )

    components, component = np.unique(traced.skeletons, return_inverse=True)
    found, segment = np.unique(labels, return_inverse=True)
    # A pair of a segment and a skeleton that has nodes in it.
    keys_of_pairs, pair, nodes_of_pair = np.unique(
        segment * len(components) + component, return_inverse=True, return_counts=True
    )
    segment_of_pair = keys_of_pairs // len(components)
    settled = (nodes_of_pair > strays) & (found[segment_of_pair] != 0)
    skeletons_in = np.bincount(segment_of_pair[settled], minlength=len(found))
    segments_of = np.bincount((keys_of_pairs % len(components))[settled], minlength=len(components))
    merged_pair = skeletons_in[segment_of_pair] - settled > 0

    u, v = traced.edges.T
    omitted = (labels[u] == 0) | (labels[v] == 0)
    split = ~omitted & (labels[u] != labels[v])
    merged = ~omitted & ~split & merged_pair[pair[u]]
    correct = ~(omitted | split | merged)
    runs = np.bincount(pair[u][correct], lengths[correct], minlength=len(keys_of_pairs))
    whole = np.bincount(component[u], lengths, minlength=len(components))
    return RunLengths(
        runs=np.sort(runs[runs > 0])[::-1],
        correct=float(lengths[correct].sum()),
        split=float(lengths[split].sum()),
        merged=float(lengths[merged].sum()),
        omitted=float(lengths[omitted].sum()),
        maximum_erl=float(whole @ whole) / total,
        number_of_components=len(components),
        number_of_segments=int(np.count_nonzero(found)),
        number_of_split_skeletons=int(np.count_nonzero(segments_of > 1)),
        number_of_merging_segments=int(np.count_nonzero(skeletons_in > 1)),
        number_of_splits=int(np.maximum(segments_of - 1, 0).sum()),
        number_of_merges=int(np.maximum(skeletons_in - 1, 0).sum()),
        number_of_background_sites=int(np.count_nonzero(labels == 0)),
    )


def _from_mapping(segments: Mapping[Any, int], nodes: list[Any]) -> list[int]:
    missing = [node for node in nodes if node not in segments]
    if missing:
        raise ValueError(
            f"segments: found none for {len(missing)} of {len(nodes)} nodes, {missing[0]!r} is the first"
        )
    return [segments[node] for node in nodes]
