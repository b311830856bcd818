"""Contingency tables: how many voxels each true object shares with each object of a segmentation.

A table is all that scores need. It is small, tables of parts of a volume add up to that of the whole, and a
segmentation that relabels fragments relabels their table: one pass over the voxels serves all thresholds.
"""

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray
from pyarrow import parquet

from ..checks.arguments import whole_number
from ..checks.id_lists import ids_of
from ..kernels.evaluation.contingency import count_pairs
from ..storage import files
from ..volumes.voxel_values import as_ids, check_label_type
from .metrics import Contingency, Scores, sums_of

#: Voxels of an array that are converted and counted at a time.
_VOXELS_AT_ONCE = 1 << 23


@dataclass(frozen=True, eq=False)
class ContingencyTable:
    """Numbers of voxels by true label and label in a segmentation. Voxels whose true label is 0 do not count.

    Attributes
    ----------
    truth, test
        uint64, ``(n,)``, labels of the pairs that occur, sorted by truth, then test.
    counts
        int64, ``(n,)``, number of voxels of each pair.

    Examples
    --------
    >>> table = ContingencyTable.from_volumes(np.array([1, 1, 1, 0]), np.array([7, 7, 8, 9]))
    >>> table.truth, table.test, table.counts
    (array([1, 1], dtype=uint64), array([7, 8], dtype=uint64), array([2, 1]))
    """

    truth: NDArray[np.uint64]
    test: NDArray[np.uint64]
    counts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.counts)

    @classmethod
    def from_volumes(cls, truth: np.ndarray, test: np.ndarray) -> "ContingencyTable":
        """Count the pairs of labels of two arrays.

        Parameters
        ----------
        truth, test : array of int
            Labels of the same shape, not negative.

        Raises
        ------
        TypeError
            If labels are not integers.
        ValueError
            If shapes differ or a label is negative.
        """
        truth, test = np.asarray(truth), np.asarray(test)
        check_label_type(truth.dtype, "truth")
        check_label_type(test.dtype, "test")
        if truth.shape != test.shape:
            raise ValueError(f"truth has shape {truth.shape}, test has shape {test.shape}: expected the same")
        flat_truth, flat_test = truth.reshape(-1), test.reshape(-1)
        parts = []
        for begin in range(0, max(truth.size, 1), _VOXELS_AT_ONCE):
            part = slice(begin, begin + _VOXELS_AT_ONCE)
            pairs, counts = count_pairs(as_ids(flat_truth[part], "truth"), as_ids(flat_test[part], "test"))
            parts.append(cls._summed(pairs[:, 0], pairs[:, 1], counts))
        return merge_tables(parts)

    @classmethod
    def from_parquet(cls, path: str | PathLike[str]) -> "ContingencyTable":
        """Read a table written by `to_parquet`.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If the file is not a whole Parquet file of a contingency table.
        """
        content = files.read_bytes(str(path))
        try:
            table = parquet.read_table(io.BytesIO(content))
        except (pa.ArrowException, OSError) as error:
            raise ValueError(f"{path}: not a whole Parquet file ({error})") from error
        expected = {"truth": pa.uint64(), "test": pa.uint64(), "count": pa.int64()}
        found = dict(zip(table.schema.names, table.schema.types, strict=True))
        if found != expected:
            raise ValueError(f"{path}: found columns {_described(found)}, expected {_described(expected)}")
        return cls._summed(*(table[name].to_numpy() for name in expected))

    def to_parquet(self, path: str | PathLike[str]) -> None:
        """Write the table with the columns ``truth``, ``test`` and ``count``.

        Parameters
        ----------
        path : str or PathLike
            Path, or any URL that fsspec knows. The file is written whole or not at all, and replaces another.
        """
        table = pa.table({"truth": self.truth, "test": self.test, "count": self.counts})
        buffer = io.BytesIO()
        parquet.write_table(table, buffer)
        files.write_bytes(str(path), buffer.getvalue())

    def merge(self, other: "ContingencyTable") -> "ContingencyTable":
        """Add the table of other voxels."""
        return merge_tables([self, other])

    def relabel_test(self, keys: ArrayLike, values: ArrayLike) -> "ContingencyTable":
        """The table of a segmentation that merges labels of this one.

        Parameters
        ----------
        keys, values : (n,) array_like of int
            Lookup table: voxels with label ``keys[i]`` get label ``values[i]``. Label 0 stays 0 if it is not
            listed.

        Raises
        ------
        ValueError
            If lengths differ, a key occurs twice, or a label of the table is neither 0 nor among the keys.

        Examples
        --------
        >>> table = ContingencyTable.from_volumes(np.array([1, 1, 2]), np.array([7, 8, 9]))
        >>> table.relabel_test([7, 8, 9], [7, 7, 9]).counts
        array([2, 1])
        """
        old, new = ids_of(keys, "keys"), ids_of(values, "values")
        if old.ndim != 1 or old.shape != new.shape:
            raise ValueError(f"keys have shape {old.shape}, values {new.shape}: expected the same, (n,)")
        if not np.any(old == 0):
            old, new = np.append(old, np.uint64(0)), np.append(new, np.uint64(0))
        order = np.argsort(old)
        old, new = old[order], new[order]
        twice = old[1:][old[1:] == old[:-1]]
        if twice.size:
            raise ValueError(f"keys: {twice[0]} occurs more than once")
        place = np.minimum(np.searchsorted(old, self.test), old.size - 1)
        missing = np.unique(self.test[old[place] != self.test])
        if missing.size:
            raise ValueError(
                f"keys: {missing.size} labels of the segmentation are missing, {missing[0]} is the first"
            )
        return self._summed(self.truth, new[place], self.counts)

    def without(self, truth_ids: ArrayLike | Iterable[int]) -> "ContingencyTable":
        """The table without the voxels of some true objects.

        Parameters
        ----------
        truth_ids : iterable of int, or array of int
            Ids of true objects, integers of any kinds; those that the table does not have do not matter.

        Examples
        --------
        >>> table = ContingencyTable.from_volumes(np.array([1, 1, 2]), np.array([7, 7, 8]))
        >>> table.without([2]).truth
        array([1], dtype=uint64)
        """
        ignored = ids_of(truth_ids, "truth_ids")
        if not ignored.size:
            return self
        kept = ~np.isin(self.truth, ignored)
        return ContingencyTable(self.truth[kept], self.test[kept], self.counts[kept])

    def without_dust(self, voxels: int) -> "ContingencyTable":
        """The table without true objects of fewer voxels than `voxels`, counting those that are in the table.

        Examples
        --------
        >>> table = ContingencyTable.from_volumes(np.array([1, 1, 2]), np.array([7, 8, 8]))
        >>> table.without_dust(2).truth
        array([1, 1], dtype=uint64)
        """
        ids, rows = np.unique(self.truth, return_inverse=True)
        return self.without(ids[sums_of(rows, self.counts) < whole_number("voxels", voxels, 0)])

    def scores(self) -> Scores:
        """All scores: see `lsd_dask.evaluation.rand_voi` and the notes of `lsd_dask.evaluation.score_cuts`.

        Returns
        -------
        dict
            Those of `rand_voi`, and ``voi_sum``, ``adapted_rand_error``, ``cremi_score``.

        Raises
        ------
        ValueError
            If the table is empty.
        """
        return self.numbered()[0].scores()

    def cluster_scores(self) -> Scores:
        """What each true object adds to ``voi_split``, and each segment to ``voi_merge``, in bits.

        Returns
        -------
        dict
            ``voi_split_i`` and ``voi_merge_j``, dicts by label.

        Raises
        ------
        ValueError
            If the table is empty.
        """
        pairs, truth, test = self.numbered()
        split = sums_of(pairs.truth, pairs.split_bits(pairs.truth_sizes))
        merge = sums_of(pairs.test, pairs.merge_bits(pairs.test_sizes))
        return {
            "voi_split_i": dict(zip(truth.tolist(), split.tolist(), strict=True)),
            "voi_merge_j": dict(zip(test.tolist(), merge.tolist(), strict=True)),
        }

    def numbered(self) -> tuple[Contingency, NDArray[np.uint64], NDArray[np.uint64]]:
        """The pairs with their labels numbered from 0 on, and the labels of the numbers: true ones, others.

        Raises
        ------
        ValueError
            If the table is empty.
        """
        if not len(self):
            raise ValueError("truth: found no voxel with a label other than 0, so there is nothing to score")
        truth, truth_rows = np.unique(self.truth, return_inverse=True)
        test, test_rows = np.unique(self.test, return_inverse=True)
        return Contingency(truth_rows, test_rows, self.counts), truth, test

    @classmethod
    def _summed(cls, truth: np.ndarray, test: np.ndarray, counts: np.ndarray) -> "ContingencyTable":
        """The table of pairs in any order, some of them repeated."""
        if not counts.size:
            return cls(truth, test, counts)
        order = np.lexsort((test, truth))
        truth, test = truth[order], test[order]
        first = np.append(True, (truth[1:] != truth[:-1]) | (test[1:] != test[:-1]))
        starts = np.flatnonzero(first)
        return cls(truth[starts], test[starts], np.add.reduceat(counts[order], starts))


def merge_tables(tables: Sequence[ContingencyTable]) -> ContingencyTable:
    """Add the tables of parts of a volume: the same in any order and any grouping.

    Parameters
    ----------
    tables : sequence of ContingencyTable
        At least one.
    """
    if len(tables) == 1:
        return tables[0]
    columns = ([getattr(table, name) for table in tables] for name in ("truth", "test", "counts"))
    return ContingencyTable._summed(*(np.concatenate(column) for column in columns))


def _described(columns: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} ({kind})" for name, kind in columns.items())
