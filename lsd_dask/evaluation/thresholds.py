"""Scores of all cuts of a merge tree, from the contingency table of its fragments."""

from collections.abc import Sequence

import numpy as np

from ..segmentation.agglomeration import LookupTable, MergeTree
from .contingency import ContingencyTable
from .metrics import Contingency, Scores


def score_cuts(table: ContingencyTable, tree: MergeTree, thresholds: Sequence[float]) -> list[Scores]:
    """Score the segmentations that a merge tree gives at several thresholds.

    Parameters
    ----------
    table : ContingencyTable
        Of the truth and the fragments: see `count_overlaps`.
    tree : MergeTree
        Of the fragments.
    thresholds : sequence of float
        From 0 to 1, in any order.

    Returns
    -------
    list of dict
        One for each threshold, in their order: ``threshold``, and the scores below.

    Raises
    ------
    ValueError
        If the table is empty or holds a fragment that the tree does not have, or for a threshold outside
        [0, 1].

    Notes
    -----
    ``voi_split``, ``voi_merge``, ``rand_split``, ``rand_merge``, ``nvi_split``, ``nvi_merge``, ``nid``
        As defined by `lsd_dask.evaluation.rand_voi`.
    ``voi_sum``
        ``voi_split`` + ``voi_merge``.
    ``adapted_rand_error``
        1 - the F score of precision and recall, where an event is that two different voxels lie in one object
        [1]_; as ``skimage.metrics.adapted_rand_error`` has it for truth in which 0 is ignored. (The script of
        the CREMI challenge differs where the segmentation is 0: there, such voxels are objects of their own.)
    ``cremi_score``
        Geometric mean of ``voi_sum`` and ``adapted_rand_error`` [2]_.

    Fragments that have become one segment are added up, and the next threshold goes on with that table: all
    thresholds together cost little more than the first few.

    References
    ----------
    .. [1] I. Arganda-Carreras et al., "Crowdsourcing the creation of image segmentation algorithms for
       connectomics", Frontiers in Neuroanatomy 9, 2015. https://doi.org/10.3389/fnana.2015.00142
    .. [2] MICCAI Challenge on Circuit Reconstruction from Electron Microscopy Images, https://cremi.org

    Examples
    --------
    >>> table = ContingencyTable.from_volumes(np.array([1, 1, 2, 2]), np.array([3, 5, 9, 9]))
    >>> ids = np.array([3, 5, 9], np.uint64)
    >>> tree = MergeTree(ids, np.array([0, 0, 0]), np.array([256, 55, 155]), "mean")
    >>> [(row["voi_split"], row["voi_merge"]) for row in score_cuts(table, tree, [0, 0.5, 1])]
    [(0.5, 0.0), (0.0, 0.0), (0.0, 1.0)]
    """
    pairs, _, fragments = table.numbered()
    rows = rows_of(tree.ids, fragments)
    # The background, if it is there, comes first and stays a segment of its own.
    merged = Contingency(pairs.truth, rows[pairs.test], pairs.counts)
    scores: dict[float, Scores] = {}
    for threshold in sorted(set(thresholds)):
        merged = _merged(merged, segment_rows(tree.cut(threshold)))
        scores[threshold] = {"threshold": threshold, **merged.scores()}
    return [scores[threshold] for threshold in thresholds]


def rows_of(ids: np.ndarray, fragments: np.ndarray) -> np.ndarray:
    """1 + the row of each fragment in ascending `ids`; 0 for fragment 0.

    Raises
    ------
    ValueError
        If a fragment is not there.
    """
    rows = np.searchsorted(ids, fragments)
    known = fragments == 0
    if len(ids):
        known |= ids[np.minimum(rows, len(ids) - 1)] == fragments
    if not known.all():
        raise ValueError(
            f"{np.count_nonzero(~known)} fragments are missing in the merge tree of {len(ids)} fragments, "
            f"{fragments[~known][0]} is the first: was it made from other fragments?"
        )
    return np.where(fragments == 0, 0, rows + 1)


def segment_rows(lut: LookupTable) -> np.ndarray:
    """Where each fragment's segment, the smallest fragment in it, has its row, counted as `rows_of` does."""
    return np.concatenate([[0], 1 + np.searchsorted(lut.keys, lut.values)])


def _merged(pairs: Contingency, segments: np.ndarray) -> Contingency:
    """The pairs once each row of the segmentation has become another one."""
    test = segments[pairs.test]
    # Sorted before, they still nearly are: the sort that makes use of it is the fastest.
    keys = pairs.truth * len(segments) + test
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    starts = np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))
    first = order[starts]
    return Contingency(pairs.truth[first], test[first], np.add.reduceat(pairs.counts[order], starts))
