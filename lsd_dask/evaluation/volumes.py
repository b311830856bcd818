"""Scores of a segmentation against dense ground truth: Rand scores and variation of information."""

from typing import Any

import dask.array as da
import xarray as xr
from dask.delayed import delayed

from ..checks import check_array
from ..grids import TOLERANCE
from ..lazy import Volume, grid_of
from ..overlap import Reader, Region, map_regions
from .contingency import ContingencyTable, Scores, check_labels, merge_tables

#: Tables that one task of the reduction adds up.
_TABLES_AT_ONCE = 16


def rand_voi(truth: Volume, test: Volume, return_cluster_scores: bool = False) -> Scores:
    """Rand scores and variation of information of a segmentation.

    Voxels whose true label is 0 are skipped; in the segmentation 0 is a label like any other. Below, ``p_ij``
    is the share of voxels with label i in the truth and j in the segmentation; ``p_i``, ``p_j`` are its sums.

    Parameters
    ----------
    truth, test : (z, y, x) array of int
        True labels and segmentation, 3-D or 2-D. NumPy arrays, or dask arrays and DataArrays, which are
        compared chunk by chunk, on the active dask client if there is one, with the same result.
    return_cluster_scores : bool
        Whether each object's share of the variation of information is wanted too.

    Returns
    -------
    dict
        ``rand_split``, ``rand_merge``
            sum p_ij^2 / sum p_i^2 and sum p_ij^2 / sum p_j^2; 1 is best.
        ``voi_split``, ``voi_merge``
            Conditional entropies H(test | truth) and H(truth | test) in bits; 0 is best.
        ``nvi_split``, ``nvi_merge``
            The same divided by the joint entropy H(truth, test).
        ``nid``
            Normalised information distance, 1 - I(truth; test) / max(H(truth), H(test)).
        ``voi_split_i``, ``voi_merge_j``
            On request: what each true object adds to ``voi_split``, and each object of the segmentation
            to ``voi_merge``; dicts by label.

    Raises
    ------
    TypeError
        If labels are not integers.
    ValueError
        If shapes, voxel sizes or offsets differ, a label is negative, or no true label is other than 0.

    Notes
    -----
    Names and values are those of ``funlib.evaluate.rand_voi``. Voxels are only counted, so memory goes with
    the number of pairs of objects that overlap. To score many segmentations of the same fragments, count once
    with `count_overlaps` and relabel the `ContingencyTable`.

    References
    ----------
    .. [1] M. Meila, "Comparing clusterings - an information based distance", Journal of Multivariate
       Analysis 98(5), 2007. https://doi.org/10.1016/j.jmva.2006.11.013
    .. [2] I. Arganda-Carreras et al., "Crowdsourcing the creation of image segmentation algorithms for
       connectomics", Frontiers in Neuroanatomy 9, 2015. https://doi.org/10.3389/fnana.2015.00142
    .. [3] N. X. Vinh, J. Epps and J. Bailey, "Information theoretic measures for clusterings comparison",
       Journal of Machine Learning Research 11, 2010. https://jmlr.org/papers/v11/vinh10a.html

    Examples
    --------
    >>> import numpy as np
    >>> truth = np.array([[1, 1, 2, 2]])
    >>> rand_voi(truth, np.array([[7, 7, 7, 7]]))["voi_merge"]
    1.0
    >>> rand_voi(truth, np.array([[7, 8, 9, 9]]), return_cluster_scores=True)["voi_split_i"]
    {1: 0.5, 2: 0.0}
    """
    return count_overlaps(truth, test).scores(return_cluster_scores)


def count_overlaps(truth: Volume, test: Volume) -> ContingencyTable:
    """The contingency table of two volumes, computed now, chunk by chunk where they are lazy.

    Parameters
    ----------
    truth, test : (z, y, x) array of int
        As for `rand_voi`.

    Returns
    -------
    ContingencyTable

    Raises
    ------
    TypeError
        If labels are not integers.
    ValueError
        If shapes, voxel sizes or offsets differ, or a label is negative.
    """
    for volume, name in ((truth, "truth"), (test, "test")):
        check_array(volume, name)
        check_labels(volume, name)
    _check_same_place(truth, test)
    arrays: list[Any] = [
        volume.data if isinstance(volume, xr.DataArray) else volume for volume in (truth, test)
    ]
    chunks = next((array.chunks for array in arrays if isinstance(array, da.Array)), None)
    if chunks is None or 0 in truth.shape:
        return ContingencyTable.from_volumes(*arrays)
    # The chunks of the first volume are the blocks, so it must have some.
    blocks = [array if isinstance(array, da.Array) else da.from_array(array, chunks) for array in arrays]
    return _sum_of_tables(map_regions(_count_block, blocks, (False, False), depth=0, dtype=object))


def _check_same_place(truth: Volume, test: Volume) -> None:
    if truth.shape != test.shape:
        raise ValueError(f"truth has shape {truth.shape}, test has shape {test.shape}: expected the same")
    if not (isinstance(truth, xr.DataArray) and isinstance(test, xr.DataArray)):
        return
    here, there = grid_of(truth), grid_of(test)
    if not here.same_units(there):
        raise ValueError(f"truth is in {here.units}, test in {there.units}: expected the same")
    for what in ("voxel_size", "offset"):
        expected, found = getattr(here, what), getattr(there, what)
        if any(abs(a - b) > TOLERANCE * v for a, b, v in zip(expected, found, here.voxel_size, strict=True)):
            raise ValueError(f"truth has {what} {expected}, test has {what} {found}: expected the same")


def _count_block(region: Region, truth: Reader, test: Reader) -> Any:
    return ContingencyTable.from_volumes(truth.read(region), test.read(region))


def _sum_of_tables(tables: da.Array) -> ContingencyTable:
    """Add the tables that the blocks of an array stand for, in a tree."""
    parts = list(tables.to_delayed().ravel())
    while len(parts) > 1:
        groups = [parts[i : i + _TABLES_AT_ONCE] for i in range(0, len(parts), _TABLES_AT_ONCE)]
        parts = [delayed(merge_tables)(group) for group in groups]
    return parts[0].compute()
