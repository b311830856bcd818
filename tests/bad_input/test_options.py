"""Options that are of another kind, out of range, or do not fit."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest

import lsd_dask as ld

from ..helpers.refusals import refused
from .house import AFFINITIES, GRAPH, LABELS, SHAPE, TREE, as_kind, named, placed

type Options = tuple[dict[str, Any], type[Exception], str]

DESCRIBED: dict[str, Options] = {
    "sigma 0": ({"sigma": 0}, ValueError, "sigma: found 0, expected positive numbers for (z, y, x)"),
    "a negative sigma": ({"sigma": -1}, ValueError, "sigma: found -1"),
    "sigma NaN": ({"sigma": np.nan}, ValueError, "sigma: found nan"),
    "an endless sigma": ({"sigma": np.inf}, ValueError, "sigma: found inf"),
    "one sigma NaN": ({"sigma": (1, np.nan, 1)}, ValueError, "sigma: found (1, nan, 1)"),
    "two sigmas": ({"sigma": (1, 2)}, ValueError, "sigma: found (1, 2)"),
    "a sigma beyond all volumes": (
        {"sigma": (2, 1e6, 2)},
        ValueError,
        "which is 1e+06 samples of voxels of size (1.0, 1.0, 1.0) voxel, expected at most 10000 in mode",
    ),
    "a ball beyond all memory": (
        {"sigma": 1000, "mode": "sphere"},
        ValueError,
        "expected at most 200 in mode 'sphere'",
    ),
    "sigma in words": ({"sigma": "a"}, ValueError, "sigma: found 'a'"),
    "no sigma": ({"sigma": None}, ValueError, "sigma: found None"),
    "sigma by axis": ({"sigma": {"z": 1}}, ValueError, "sigma: found {'z': 1}"),
    "a complex sigma": ({"sigma": 1j}, ValueError, "sigma: found 1j"),
    "voxel size 0": ({"voxel_size": 0}, ValueError, "voxel_size: found 0"),
    "one voxel size 0": ({"voxel_size": (0, 1, 1)}, ValueError, "voxel_size: found (0, 1, 1)"),
    "voxel size NaN": ({"voxel_size": np.nan}, ValueError, "voxel_size: found nan"),
    "voxel size in words": ({"voxel_size": "a"}, ValueError, "voxel_size: found 'a'"),
    "components in a list": ({"components": [0, 1]}, TypeError, "components: found [0, 1], expected digits"),
    "one component": ({"components": 5}, TypeError, "components: found 5, expected digits"),
    "a component twice": ({"components": "00"}, ValueError, "components: found '00', expected ascending"),
    "no mode": ({"mode": None}, ValueError, "mode: found None, expected 'gaussian' or 'sphere'"),
    "half a downsampling": ({"downsample": 1.5}, TypeError, "downsample: found 1.5, expected a whole number"),
    "downsampling in words": ({"downsample": "2"}, TypeError, "downsample: found '2'"),
    "downsampling NaN": ({"downsample": np.nan}, TypeError, "downsample: found nan"),
    "downsampling that does not divide": (
        {"downsample": 3},
        ValueError,
        "expected multiples of downsample 3",
    ),
    "half threads": ({"num_threads": 1.5}, TypeError, "num_threads: found 1.5"),
    "a region in words": ({"roi": "x"}, ValueError, "a region is 3 slices of voxels, but found 'x'"),
    "one slice": (
        {"roi": slice(0, 4)},
        ValueError,
        "a region is 3 slices of voxels, but found slice(0, 4, None)",
    ),
    "one voxel": ({"roi": (0, 0, 0)}, ValueError, "but found (0, 0, 0)"),
    "half voxels": ({"roi": (slice(0.5, 4),) * 3}, ValueError, "are no whole numbers"),
    "a region backwards": ({"roi": (slice(4, 2),) * 3}, ValueError, "[4:2, 4:2, 4:2] are not a box"),
    "labels in words": ({"labels": "x"}, TypeError, "labels: found 'x', expected whole numbers"),
    "labels of nothing": ({"labels": [None]}, TypeError, "labels: found None, expected whole numbers"),
}


@pytest.mark.parametrize("kind", ["numpy", "dask", "DataArray"])
@pytest.mark.parametrize("case", DESCRIBED)
def test_descriptors_that_cannot_be(house: Path, case: str, kind: str) -> None:
    options, error, part = DESCRIBED[case]
    call = lambda: ld.local_shape_descriptors(as_kind(kind, LABELS), **{"sigma": 2.0, **options})  # noqa: E731
    refused(house, call, error, part)


NEIGHBORHOODS: dict[str, Options] = {
    "words": ({"neighborhood": "abc"}, TypeError, "neighborhood: found dtype <U3"),
    "different lengths": (
        {"neighborhood": [[1, 0, 0], [1]]},
        ValueError,
        "neighborhood: found offsets of several",
    ),
    "nothing on one axis": ({"neighborhood": [[None, 0, 0]]}, TypeError, "neighborhood: found dtype object"),
    "booleans": ({"neighborhood": [[True, False, False]]}, TypeError, "neighborhood: found dtype bool"),
    "NaN": ({"neighborhood": [[np.nan, 0, 0]]}, TypeError, "neighborhood: found dtype float64"),
    "one number": ({"neighborhood": 5}, ValueError, "neighborhood: found shape (), expected (n, 3) offsets"),
    "another type": ({"dtype": "float64"}, TypeError, "dtype: found float64, expected float32 or uint8"),
}


@pytest.mark.parametrize("kind", ["numpy", "dask", "DataArray"])
@pytest.mark.parametrize("case", NEIGHBORHOODS)
def test_affinities_that_cannot_be(house: Path, case: str, kind: str) -> None:
    options, error, part = NEIGHBORHOODS[case]
    refused(house, lambda: ld.affinities(as_kind(kind, LABELS), **options), error, part)


OF_THREE: dict[str, tuple[Any, type[Exception], str]] = {
    "words": ("abc", TypeError, "found dtype <U3, 'abc', expected integers"),
    "a number": (5, ValueError, "found shape (), expected (n, 3) offsets"),
    "different lengths": ([[1, 0, 0], [1], [0, 0, 1]], ValueError, "for each of 3 channels"),
    "nothing": ([[None, 0, 0]] * 3, TypeError, "found dtype object"),
    "floats": ([[-1.0, 0, 0], [0, -1, 0], [0, 0, -1]], TypeError, "found dtype float64"),
    "two": ([[-1, 0, 0], [0, -1, 0]], ValueError, "found 2 offsets, [[-1, 0, 0], [0, -1, 0]], expected one"),
    "itself": ([[-1, 0, 0], [0, 0, 0], [0, 0, -1]], ValueError, "found [0, 0, 0], expected offsets to other"),
    "twice": ([[-1, 0, 0], [0, -1, 0], [0, -1, 0]], ValueError, "found [0, -1, 0] twice"),
    "none along x": ([[-1, 0, 0], [0, -1, 0], [0, 0, -2]], ValueError, "without a direct neighbour along x"),
}


@pytest.mark.parametrize("kind", ["numpy", "dask", "DataArray"])
@pytest.mark.parametrize("case", OF_THREE)
def test_neighborhoods_of_three_channels_that_cannot_be(house: Path, case: str, kind: str) -> None:
    neighborhood, error, part = OF_THREE[case]
    affinities = as_kind(kind, AFFINITIES)
    graph = lambda: ld.build_region_graph(affinities, LABELS, neighborhood)  # noqa: E731
    refused(house, graph, error, "neighborhood: ", part)
    fragments = lambda: ld.extract_fragments(affinities, neighborhood=neighborhood)  # noqa: E731
    refused(house, fragments, error, "neighborhood: ", part)


FRAGMENTED: dict[str, Options] = {
    "no method": ({"method": None}, ValueError, "There is no method None"),
    "heights in a list": ({"height": ["distance"]}, ValueError, "There is no height ['distance']"),
    "smoothing NaN": ({"smoothing": np.nan}, ValueError, "smoothing (in voxels) is nan, expected 0 to 16"),
    "smoothing in words": ({"smoothing": "a"}, TypeError, "smoothing (in voxels) is 'a', expected 0 to 16"),
    "no smoothing": ({"smoothing": None}, TypeError, "smoothing (in voxels) is None"),
    "smoothing by axis": ({"smoothing": (1, 1, 1)}, TypeError, "smoothing (in voxels) is (1, 1, 1)"),
    "half a distance": ({"min_seed_distance": 1.5}, TypeError, "min_seed_distance: found 1.5"),
    "a distance NaN": ({"min_seed_distance": np.nan}, TypeError, "min_seed_distance: found nan"),
    "one context": ({"context": 4}, TypeError, "context: found 4, expected a sequence of whole numbers"),
    "half a context": ({"context": (1.5, 1, 1)}, TypeError, "context: found 1.5"),
    "a negative context": ({"context": (-1, 1, 1)}, ValueError, "context: found -1"),
    "a context in words": ({"context": "abc"}, TypeError, "context: found 'abc'"),
    "one section": ({"replace_sections": 5}, TypeError, "replace_sections: found 5, expected a sequence"),
    "half a section": ({"replace_sections": [1.5]}, TypeError, "replace_sections: found 1.5"),
    "a section before the first": ({"replace_sections": [-1]}, ValueError, "replace_sections: found -1"),
    "a section after the last": (
        {"replace_sections": [1, 8]},
        ValueError,
        "replace_sections: found 8, expected sections from 0 to 7",
    ),
    "a filter NaN": ({"filter_fragments": np.nan}, ValueError, "filter_fragments is nan, expected 0 to 1"),
    "a filter in words": ({"filter_fragments": "a"}, TypeError, "filter_fragments is 'a', expected 0 to 1"),
    "a score NaN": ({"epsilon_agglomerate": np.nan}, ValueError, "epsilon_agglomerate is nan"),
    "no score": ({"epsilon_agglomerate": None}, TypeError, "epsilon_agglomerate is None"),
    "debris NaN": ({"remove_debris": np.nan}, TypeError, "remove_debris: found nan"),
    "half a voxel of debris": ({"remove_debris": 1.5}, TypeError, "remove_debris: found 1.5"),
    "a mask of another shape": (
        {"mask": np.ones((7, 8, 8), bool)},
        ValueError,
        "mask of shape (7, 8, 8) does not fit a volume of shape (8, 8, 8)",
    ),
    "a mask that does not divide": (
        {"mask": np.ones((8, 8, 5), bool)},
        ValueError,
        "mask of shape (8, 8, 5) does not fit a volume of shape (8, 8, 8)",
    ),
    "a finer mask": (
        {"mask": np.ones((16, 16, 16), bool)},
        ValueError,
        "mask of shape (16, 16, 16) does not fit",
    ),
    "a mask with channels": (
        {"mask": np.ones((1, 8, 8, 8), bool)},
        ValueError,
        "mask of shape (1, 8, 8, 8) was",
    ),
    "a mask of nothing": (
        {"mask": np.ones((0, 8, 8), bool)},
        ValueError,
        "shape (0, 8, 8) was found, expected at",
    ),
    "a mask in words": (
        {"mask": np.full(SHAPE, "a")},
        TypeError,
        "mask: found dtype <U1, expected booleans or",
    ),
    "a mask of objects": ({"mask": np.ones(SHAPE, object)}, TypeError, "mask: found dtype object"),
    "a complex mask": ({"mask": np.ones(SHAPE, complex)}, TypeError, "mask: found dtype complex128"),
    "a mask with other axes": ({"mask": named("x", "y", "z")}, ValueError, "The mask has the axes (x, y, z)"),
    "a smaller mask": (
        {"mask": placed(LABELS[:4])},
        ValueError,
        "The mask does not cover the volume along z",
    ),
}


@pytest.mark.parametrize("kind", ["numpy", "dask", "DataArray"])
@pytest.mark.parametrize("case", FRAGMENTED)
def test_fragments_that_cannot_be(house: Path, case: str, kind: str) -> None:
    options, error, part = FRAGMENTED[case]
    refused(house, lambda: ld.extract_fragments(as_kind(kind, AFFINITIES), **options), error, part)


@pytest.mark.parametrize("kind", ["numpy", "dask"])
def test_a_mask_that_does_not_say_what_is_to_be(house: Path, kind: str) -> None:
    values = np.ones(SHAPE)
    values[3, 3, 3] = np.nan
    for affinities in (AFFINITIES, da.from_array(AFFINITIES)):
        call = lambda a=affinities: np.asarray(ld.extract_fragments(a, mask=as_kind(kind, values)))  # noqa: E731
        refused(house, call, ValueError, "mask: found NaN, expected 0 where nothing is to be")


CUTS: dict[str, tuple[Any, type[Exception]]] = {
    "a little below": (-1e-9, ValueError),
    "a little above": (1.000001, ValueError),
    "endless": (np.inf, ValueError),
    "words": ("0.5", TypeError),
    "nothing": (None, TypeError),
    "a list": ([0.5], TypeError),
    "an array": (np.array([0.5, 0.6]), TypeError),
    "a complex number": (0.5 + 0j, TypeError),
}


@pytest.mark.parametrize("case", CUTS)
def test_thresholds_that_are_none(house: Path, case: str) -> None:
    threshold, error = CUTS[case]
    refused(
        house,
        lambda: TREE.cut(threshold),
        error,
        "The threshold is",
        "expected a score from 0 (merge nothing) to 1",
    )


@pytest.mark.parametrize(
    ("call", "error", "part"),
    [
        (lambda: ld.agglomerate(None), TypeError, "graph: found None, expected a RegionGraph"),
        (lambda: ld.agglomerate(AFFINITIES), TypeError, "graph: found a ndarray"),
        (lambda: ld.agglomerate("rag"), TypeError, "graph: found the text 'rag'"),
        (lambda: ld.agglomerate(GRAPH.to_networkx()), TypeError, "graph: found a Graph"),
        (lambda: ld.agglomerate(GRAPH, None), TypeError, "merge_function: found None, expected one of"),
        (lambda: ld.agglomerate(GRAPH, 75), TypeError, "merge_function: found a int"),
        (lambda: ld.agglomerate(GRAPH, "meen"), ValueError, "no merge function 'meen'; did you mean 'mean'?"),
        (
            lambda: TREE.merge_scores(ld.build_region_graph(AFFINITIES, LABELS + np.uint64(5))),
            ValueError,
            "fragment 6, for which the graph has no node",
        ),
    ],
    ids=["nothing", "an array", "a path", "networkx", "no function", "a number", "misspelt", "another graph"],
)
def test_agglomerations_that_cannot_be(
    house: Path, call: Callable[[], Any], error: type[Exception], part: str
) -> None:
    refused(house, call, error, part)
