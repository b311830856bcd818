"""Scores of a segmentation, from the numbers of voxels that true objects share with segments."""

from dataclasses import dataclass
from math import fsum, sqrt
from typing import Any

import numpy as np

type Scores = dict[str, Any]

#: Names of all scores, and whether the best value is the highest (1) or the lowest (-1).
BETTER = {
    "voi_split": -1,
    "voi_merge": -1,
    "voi_sum": -1,
    "rand_split": 1,
    "rand_merge": 1,
    "adapted_rand_error": -1,
    "nvi_split": -1,
    "nvi_merge": -1,
    "nid": -1,
    "cremi_score": -1,
}


@dataclass(frozen=True, eq=False)
class Contingency:
    """Pairs of a true object and a segment that share voxels, with the objects numbered from 0 on.

    Attributes
    ----------
    truth, test
        int64, ``(n,)``, number of each pair's true object and of its segment; no pair occurs twice.
    counts
        int64, ``(n,)``, voxels of each pair, at least 1.
    """

    truth: np.ndarray
    test: np.ndarray
    counts: np.ndarray

    @property
    def truth_sizes(self) -> np.ndarray:
        """Voxels of each true object."""
        return sums_of(self.truth, self.counts)

    @property
    def test_sizes(self) -> np.ndarray:
        """Voxels of each segment; 0 for numbers that no pair has."""
        return sums_of(self.test, self.counts)

    def split_bits(self, truth_sizes: np.ndarray) -> np.ndarray:
        """What each pair adds to ``voi_split``: what its voxels tell about the segment once the true object
        is known.
        """
        return self.counts / self.counts.sum() * np.log2(truth_sizes[self.truth] / self.counts)

    def merge_bits(self, test_sizes: np.ndarray) -> np.ndarray:
        """What each pair adds to ``voi_merge``."""
        return self.counts / self.counts.sum() * np.log2(test_sizes[self.test] / self.counts)

    def scores(self) -> Scores:
        """All scores that `BETTER` names.

        Sums are exact before they are rounded, so they do not depend on the order of the pairs.
        """
        total = int(self.counts.sum())
        truth_sizes, test_sizes = self.truth_sizes, self.test_sizes
        voi_split, voi_merge = _sum(self.split_bits(truth_sizes)), _sum(self.merge_bits(test_sizes))
        voi_sum = voi_split + voi_merge
        truth_entropy, test_entropy = _entropy(truth_sizes, total), _entropy(test_sizes, total)
        squares, of_truth, of_test = (
            _sum_of_squares(sizes) for sizes in (self.counts, truth_sizes, test_sizes)
        )
        # Pairs of two different voxels, in either order.
        together, in_truth, in_test = squares - total, of_truth - total, of_test - total
        error = 1 - _ratio(2 * together, in_truth + in_test, otherwise=1.0)
        return {
            "voi_split": voi_split,
            "voi_merge": voi_merge,
            "voi_sum": voi_sum,
            "rand_split": squares / of_truth,
            "rand_merge": squares / of_test,
            "adapted_rand_error": error,
            "nvi_split": _ratio(voi_split, voi_split + truth_entropy),
            "nvi_merge": _ratio(voi_merge, voi_split + truth_entropy),
            "nid": _ratio(max(voi_split, voi_merge), max(truth_entropy, test_entropy)),
            "cremi_score": sqrt(voi_sum * error),
        }


def sums_of(rows: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Sum of the values of each row.

    Examples
    --------
    >>> sums_of(np.array([0, 2, 0]), np.array([5, 7, 1]))
    array([6, 0, 7])
    """
    sums = np.zeros(int(rows.max(initial=-1)) + 1, values.dtype)
    np.add.at(sums, rows, values)
    return sums


def _sum(values: np.ndarray) -> float:
    return fsum(values.tolist())


def _entropy(sizes: np.ndarray, total: int) -> float:
    found = sizes[sizes > 0]
    return _sum(found / total * np.log2(total / found))


def _sum_of_squares(sizes: np.ndarray) -> int:
    if int(sizes.max(initial=0)) * int(sizes.sum()) < 2**63:
        return int(sizes @ sizes)
    return sum(size * size for size in sizes.tolist())


def _ratio(part: float, whole: float, otherwise: float = 0.0) -> float:
    """A ratio, or `otherwise` where the whole is 0: two labellings of one object are as alike as can be."""
    return part / whole if whole else otherwise
