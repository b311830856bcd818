"""Segmentations: fragments relabelled with a lookup table."""

from dataclasses import dataclass
from os import PathLike, fspath

import numpy as np
from dask.delayed import Delayed, delayed
from distributed import Client

from ..checks.arguments import described, naming
from ..kernels.segmentation import relabeling
from ..space.grids import Region
from ..storage import files
from ..storage.row_groups import read_rows, row_groups
from ..volumes.dask_arrays import V
from ..volumes.overlap import Reader, StoredReader, map_regions
from ..volumes.voxel_values import as_ids, check_labels
from .agglomeration import LookupTable


def relabel(fragments: V, lut: "LookupTable | Delayed | str | PathLike[str]") -> V:
    """Replace fragment ids by segment ids.

    Parameters
    ----------
    fragments
        ``(z, y, x)`` or ``(y, x)``, unsigned integers; 0 stays 0.
    lut
        The table, as from `MergeTree.cut`; or the path of one that was written with `LookupTable.to_parquet`,
        of which each worker then reads what its blocks need. A table given as such goes to the workers once,
        not with every task.

    Returns
    -------
    segmentation
        uint64, of the same kind and shape as `fragments`; lazy unless that is a NumPy array.

    Raises
    ------
    TypeError
        If the fragments are no array of integers, or the table is none.
    FileNotFoundError
        If there is no such file of a table.
    ValueError
        If the fragments have other axes or hold no voxel; if there is a fragment that is not in the table.

    Examples
    --------
    >>> lut = LookupTable(np.array([3, 5], np.uint64), np.array([3, 3], np.uint64))
    >>> relabel(np.array([[0, 3, 5]], np.uint64), lut)
    array([[0, 3, 3]], dtype=uint64)
    """
    check_labels(fragments, "fragments")
    if not isinstance(lut, LookupTable | Delayed | str | PathLike):
        raise TypeError(
            f"lut: found {described(lut)}, expected a LookupTable, as from MergeTree.cut, or the path of one"
        )
    if isinstance(lut, str | PathLike):
        lut = fspath(lut)
        if not files.is_file(lut):
            raise FileNotFoundError(f"{lut}: there is no such lookup table")
        return map_regions(RelabelRegion(lut), [fragments], [False], depth=0, dtype=np.uint64)
    if isinstance(fragments, np.ndarray):
        return relabel_array(fragments, lut.compute() if isinstance(lut, Delayed) else lut)
    return map_regions(_relabel_region, [fragments], [False], depth=0, dtype=np.uint64, shared=_share(lut))


def relabel_array(fragments: np.ndarray, lut: LookupTable, out: np.ndarray | None = None) -> np.ndarray:
    """`relabel` for an array in memory; `out` is a C-contiguous uint64 array, and may be `fragments`."""
    labels = as_ids(fragments, "fragments")
    if out is None:
        out = np.empty(labels.shape, np.uint64)
    missing = relabeling.relabel(labels.ravel(), lut.keys, lut.values, out.reshape(-1))
    if missing:
        raise ValueError(_not_in_table(int(missing), len(lut)))
    return out


def _not_in_table(fragment: int, rows: int) -> str:
    return (
        f"Fragment {fragment} is not in the lookup table of {rows} fragments: was the table made from these "
        "fragments?"
    )


@dataclass(frozen=True)
class RelabelRegion:
    """Relabels a region with the lookup table in a file, of which it reads the row groups that it needs.

    Attributes
    ----------
    path
        Of the table.
    """

    path: str

    name = "extract-segmentation"

    def __call__(self, region: Region, fragments: Reader) -> np.ndarray:
        """The segmentation of a region."""
        labels = fragments.read(region)
        with naming(self.path):
            ids = as_ids(labels, "fragments")
            wanted = np.sort(relabeling.distinct(ids.ravel()))
            if not len(wanted):
                return np.zeros(labels.shape, np.uint64)
            table = self.rows_for(wanted)
            # What was read from storage is nobody else's.
            own = isinstance(fragments, StoredReader) or ids is not labels
            return relabel_array(ids, table, ids if own else None)

    def rows_for(self, wanted: np.ndarray) -> LookupTable:
        """The part of the table that has some fragments, whose ids are given in order, and more.

        Ids are addresses and the table is sorted by them, so the rows of a region lie close together.
        """
        columns = read_rows(self.path, "fragment", wanted)
        keys = columns.get("fragment", np.empty(0, np.uint64))
        missing = np.setdiff1d(wanted, keys, assume_unique=True)
        with naming(self.path):
            if len(missing):
                rows = sum(group.rows for group in row_groups(self.path, "fragment"))
                raise ValueError(_not_in_table(int(missing[0]), rows))
            if "segment" not in columns:
                raise ValueError(f"found the columns {', '.join(columns)}, expected also segment")
            return LookupTable(keys, columns["segment"])


def _relabel_region(region: Region, lut: LookupTable, fragments: Reader) -> np.ndarray:
    return relabel_array(fragments.read(region), lut)


def _share(lut: LookupTable | Delayed) -> Delayed:
    if isinstance(lut, Delayed):
        return lut
    try:
        client = Client.current()
    except ValueError:
        return delayed(lut, pure=True, traverse=False)
    return delayed(client.scatter(lut, direct=True))
