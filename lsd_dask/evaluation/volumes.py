"""Scores of a segmentation against dense ground truth: Rand scores and variation of information."""

import math
from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from dask.delayed import delayed

from ..checks.arguments import check_array, naming, real_number
from ..kernels.evaluation.boundaries import near_other_labels
from ..space.grids import TOLERANCE, Region
from ..volumes.dask_arrays import Volume, grid_of
from ..volumes.masks import align_mask
from ..volumes.overlap import Reader, grow, map_regions, within
from ..volumes.voxel_values import as_ids, check_label_type
from .contingency import ContingencyTable, merge_tables
from .metrics import Scores

#: Tables that one task of the reduction adds up.
_TABLES_AT_ONCE = 16

#: The scores of `rand_voi`.
_RAND_VOI = ("rand_split", "rand_merge", "voi_split", "voi_merge", "nvi_split", "nvi_merge", "nid")


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
    table = count_overlaps(truth, test)
    scores = table.scores()
    found = {name: scores[name] for name in _RAND_VOI}
    return found | table.cluster_scores() if return_cluster_scores else found


def count_overlaps(
    truth: Volume, test: Volume, *, mask: Volume | None = None, boundary_tolerance: float = 0.0
) -> ContingencyTable:
    """The contingency table of two volumes, computed now, chunk by chunk where they are lazy.

    Parameters
    ----------
    truth, test : (z, y, x) array of int
        As for `rand_voi`.
    mask : (z, y, x) array, optional
        Voxels where it is 0 do not count. It may be coarser: see `lsd_dask.volumes.masks.align_mask`.
    boundary_tolerance : float
        Voxels of the truth that have a voxel of another true label, or of none, within this distance of their
        centre do not count. In world units, or voxels where `truth` has none. 0: all count.

    Returns
    -------
    ContingencyTable

    Raises
    ------
    TypeError
        If labels are not integers.
    ValueError
        If shapes, voxel sizes or offsets differ, a label is negative, the mask does not cover the volume, or
        the tolerance is negative.

    Examples
    --------
    >>> import numpy as np
    >>> truth, test = np.array([[1, 1, 1, 2, 2, 2]]), np.array([[7, 7, 7, 7, 8, 8]])
    >>> count_overlaps(truth, test, boundary_tolerance=1).counts
    array([2, 2])
    """
    for volume, name in ((truth, "truth"), (test, "test")):
        check_array(volume, name)
        check_label_type(volume.dtype, name)
    _check_same_place(truth, test)
    grid = grid_of(truth) if truth.ndim in (2, 3) else None
    if grid is None and (mask is not None or boundary_tolerance):
        raise ValueError(f"truth has {truth.ndim} axes: masks and tolerances need z, y, x or y, x")
    counter = OverlapCounter(() if grid is None else grid.voxel_size, boundary_tolerance)
    volumes = [truth, test] if mask is None or grid is None else [truth, test, align_mask(mask, grid)]
    arrays: list[Any] = [volume.data if isinstance(volume, xr.DataArray) else volume for volume in volumes]
    chunks = next((array.chunks for array in arrays if isinstance(array, da.Array)), None)
    if chunks is None or 0 in truth.shape:
        first, second, *rest = map(np.asarray, arrays)
        return counter.count(first, second, rest[0] if rest else None)
    # The chunks of the first volume are the blocks, so it must have some.
    blocks = [array if isinstance(array, da.Array) else da.from_array(array, chunks) for array in arrays]
    no_channels = (False,) * len(blocks)
    return _sum_of_tables(map_regions(counter, blocks, no_channels, depth=counter.depth, dtype=object))


@dataclass(frozen=True)
class OverlapCounter:
    """Counts the overlaps of true objects and segments in a region.

    Attributes
    ----------
    voxel_size
        In world units, one number an axis.
    boundary_tolerance
        As for `count_overlaps`.
    """

    voxel_size: tuple[float, ...]
    boundary_tolerance: float = 0.0

    name = "count-overlaps"

    def __post_init__(self) -> None:
        real_number(
            "boundary_tolerance", self.boundary_tolerance, 0, math.inf, meaning="a distance from 0 on"
        )
        if self.boundary_tolerance == math.inf:
            raise ValueError("boundary_tolerance is inf, expected a finite distance")

    @property
    def depth(self) -> tuple[int, ...]:
        """Voxels of the truth that have to be known around a region."""
        # As in the kernel, a distance that is the tolerance but for rounding counts.
        return tuple(int(self.boundary_tolerance * (1 + 1e-6) // v) for v in self.voxel_size)

    def __call__(self, region: Region, truth: Reader, test: Reader, mask: Reader | None = None) -> Any:
        """The table of a region."""
        read = grow(region, self.depth, truth.shape) if self.boundary_tolerance else region
        labels = truth.read(read)
        return self.count(
            labels,
            test.read(region),
            None if mask is None else mask.read(region),
            within(region, read),
        )

    def count(
        self,
        truth: np.ndarray,
        test: np.ndarray,
        mask: np.ndarray | None = None,
        core: Region | None = None,
    ) -> ContingencyTable:
        """The table of arrays; of truth that comes with context, `core` says where the others lie in it."""
        core = tuple(slice(0, n) for n in truth.shape) if core is None else core
        inner = truth[core]
        if self.boundary_tolerance and inner.size:
            labels = as_ids(truth, "truth").reshape((1,) * (3 - truth.ndim) + truth.shape)
            voxel_size = np.array((1.0,) * (3 - truth.ndim) + self.voxel_size)
            near = near_other_labels(labels, voxel_size, float(self.boundary_tolerance))
            inner = np.where(near.reshape(truth.shape)[core], truth.dtype.type(0), inner)
        if mask is not None:
            inner = np.where(mask, inner, inner.dtype.type(0))
        return ContingencyTable.from_volumes(inner, test)


def _check_same_place(truth: Volume, test: Volume) -> None:
    if truth.shape != test.shape:
        raise ValueError(f"truth has shape {truth.shape}, test has shape {test.shape}: expected the same")
    if not (isinstance(truth, xr.DataArray) and isinstance(test, xr.DataArray)):
        return
    here = grid_of(truth)
    with naming("test"):
        there = grid_of(test).in_units_of(here)
    for what in ("voxel_size", "offset"):
        expected, found = getattr(here, what), getattr(there, what)
        if any(abs(a - b) > TOLERANCE * v for a, b, v in zip(expected, found, here.voxel_size, strict=True)):
            raise ValueError(f"truth has {what} {expected}, test has {what} {found}: expected the same")


def _sum_of_tables(tables: da.Array) -> ContingencyTable:
    """Add the tables that the blocks of an array stand for, in a tree."""
    parts = list(tables.to_delayed().ravel())
    while len(parts) > 1:
        groups = [parts[i : i + _TABLES_AT_ONCE] for i in range(0, len(parts), _TABLES_AT_ONCE)]
        parts = [delayed(merge_tables)(group) for group in groups]
    return parts[0].compute()
