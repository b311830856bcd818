"""The packages that quality is measured against, called as the reference system calls them."""

import ctypes
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import mahotas
import numpy as np
import waterz
from scipy import ndimage

#: waterz' names of the merge functions. The last argument of a quantile: whether only maxima of edges count.
SCORING_FUNCTIONS = {
    "hist_quant_75": "OneMinus<HistogramQuantileAffinity<RegionGraphType, 75, ScoreValue, 256, false>>",
    "hist_quant_50_initmax": (
        "OneMinus<HistogramQuantileAffinity<RegionGraphType, 50, ScoreValue, 256, true>>"
    ),
    "mean": "OneMinus<MeanAffinity<RegionGraphType, ScoreValue>>",
}


def seeded_watershed(affinities: np.ndarray, min_seed_distance: int = 10) -> np.ndarray:
    """Fragments of a whole volume by the seeded watershed of the reference system [1]_.

    Parameters
    ----------
    affinities : (3, z, y, x) array of uint8
    min_seed_distance : int
        Size, in voxels, of the window in which a seed is the maximum.

    Returns
    -------
    (z, y, x) array of uint64
        Fragments 1, 2, ...; there is no background.

    References
    ----------
    .. [1] A. Sheridan et al., "Local shape descriptors for neuron segmentation", Nature Methods 20, 2023.
       https://github.com/funkelab/lsd
    """
    mean = affinities.mean(axis=0, dtype=np.float32) / 255
    distance = ndimage.distance_transform_edt(mean > 0.5 * mean.max())
    seeds, _ = ndimage.label(ndimage.maximum_filter(distance, min_seed_distance) == distance)
    return mahotas.cwatershed(distance.max() - distance, seeds).astype(np.uint64)


def waterz_cuts(
    affinities: np.ndarray,
    fragments: np.ndarray,
    merge_function: str,
    thresholds: Sequence[float],
    numbering: int = 0,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Agglomerate with waterz: one lookup table a threshold.

    Parameters
    ----------
    affinities : (3, z, y, x) array of uint8
    fragments : (z, y, x) array of int
        Ids of any size, 0 is background.
    merge_function : str
        One of `SCORING_FUNCTIONS`.
    thresholds : sequence of float
        Ascending.
    numbering : int
        Seed of the order in which waterz sees the ids, which decides between edges of one score; 0 for the
        ascending order.

    Yields
    ------
    keys, values : (n,) array of uint64
        Fragment ids and their segments.
    """
    keys, first, rows = np.unique(fragments, return_index=True, return_inverse=True)
    # waterz needs memory for the largest id, writes into the fragments it is given, and drops id 0.
    begin = int(keys[0] == 0)
    order = np.arange(begin, len(keys))
    if numbering:
        np.random.default_rng(numbering).shuffle(order)
    compact = np.concatenate([np.zeros(begin, np.uint64), order + 1 - begin]).astype(np.uint64)
    own = compact[rows].reshape(fragments.shape)
    with standard_output_discarded():
        cuts = waterz.agglomerate(
            affinities.astype(np.float32) / 255,
            list(thresholds),
            fragments=own,
            scoring_function=SCORING_FUNCTIONS[merge_function],
            return_region_graph=False,
        )
    for _ in thresholds:
        with standard_output_discarded():
            segmentation = next(cuts)
        yield keys, segmentation.ravel()[first]


class Waterz:
    """Agglomerates with waterz up to one threshold when it is called; what can be made ready is made before.

    Parameters
    ----------
    affinities : (3, z, y, x) array of uint8
    fragments : (z, y, x) array of int
        Ids of any size, 0 is background.
    merge_function : str
        One of `SCORING_FUNCTIONS`.
    threshold : float
    calls : int
        How often it will be called at most: each call writes into fragments of its own.
    """

    def __init__(
        self, affinities: np.ndarray, fragments: np.ndarray, merge_function: str, threshold: float, calls: int
    ) -> None:
        ids, numbers = np.unique(fragments, return_inverse=True)
        compact = numbers.reshape(fragments.shape).astype(np.uint64) + np.uint64(ids[0] != 0)
        self._fragments = [compact.copy() for _ in range(calls)]
        self._affinities = affinities.astype(np.float32) / 255
        self._function = SCORING_FUNCTIONS[merge_function]
        self._threshold = threshold

    def __call__(self) -> np.ndarray:
        """The segmentation, (z, y, x) array of uint64."""
        with standard_output_discarded():
            return next(
                waterz.agglomerate(
                    self._affinities,
                    [self._threshold],
                    fragments=self._fragments.pop(),
                    scoring_function=self._function,
                    return_region_graph=False,
                )
            )


@contextmanager
def standard_output_discarded() -> Iterator[None]:
    """Discard what compiled code prints."""
    sys.stdout.flush()
    saved = os.dup(1)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    try:
        yield
    finally:
        ctypes.CDLL(None).fflush(None)  # what is still in C's buffer would be printed later
        os.dup2(saved, 1)
        os.close(saved)
        os.close(null)
