"""Arrays in memory that are not what a function takes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dask.delayed import delayed

import lsd_dask as ld

from ..helpers.refusals import refused
from .house import AFFINITIES, LABELS, LUT, SHAPE, ZYX, as_kind, named, placed

FUNCTIONS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "affinities": ("labels", ld.affinities),
    "local_shape_descriptors": ("segmentation", lambda labels: ld.local_shape_descriptors(labels, 2.0)),
    "relabel": ("fragments", lambda labels: ld.relabel(labels, LUT)),
    "build_region_graph": ("fragments", lambda labels: ld.build_region_graph(AFFINITIES, labels)),
}

BAD_LABELS: dict[str, tuple[np.ndarray, type[Exception], str]] = {
    "booleans": (LABELS > 1, TypeError, "found dtype bool, expected integers"),
    "floats": (LABELS.astype(np.float32), TypeError, "found dtype float32, expected integers"),
    "NaN": (np.full(SHAPE, np.nan), TypeError, "found dtype float64, expected integers"),
    "complex numbers": (LABELS.astype(complex), TypeError, "found dtype complex128, expected integers"),
    "objects": (LABELS.astype(object), TypeError, "found dtype object, expected integers"),
    "words": (LABELS.astype(str), TypeError, "expected integers"),
    "one axis": (LABELS[0, 0], ValueError, "found shape (8,), 1 axes, expected z, y, x or y, x"),
    "four axes": (LABELS[None], ValueError, "found shape (1, 8, 8, 8), 4 axes, expected z, y, x or y, x"),
    "five axes": (LABELS[None, None], ValueError, "found shape (1, 1, 8, 8, 8), 5 axes"),
}


@pytest.mark.parametrize("kind", ["numpy", "dask", "DataArray"])
@pytest.mark.parametrize("case", BAD_LABELS)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_labels_that_are_none(house: Path, function: str, case: str, kind: str) -> None:
    name, call = FUNCTIONS[function]
    values, error, part = BAD_LABELS[case]
    refused(house, lambda: call(as_kind(kind, values)), error, name, part)


NO_ARRAYS: dict[str, tuple[Any, str]] = {
    "a list": (LABELS.tolist(), "found a list, expected a NumPy array, dask array or DataArray"),
    "a path": (
        "good.zarr/volumes/labels",
        "found the text 'good.zarr/volumes/labels', expected a NumPy array",
    ),
    "nothing": (None, "found None"),
    "a mapping": ({"labels": LABELS}, "found a dict"),
    "a number": (5, "found a int"),
    "a promise": (delayed(LABELS), "found a Delayed"),
}


@pytest.mark.parametrize("case", NO_ARRAYS)
def test_what_is_no_array(house: Path, case: str) -> None:
    value, part = NO_ARRAYS[case]
    for name, call in (
        *FUNCTIONS.values(),
        ("affinities", ld.extract_fragments),
        ("affinities", lambda value: ld.build_region_graph(value, LABELS)),
        ("truth", lambda value: ld.evaluation.rand_voi(value, LABELS)),
        ("test", lambda value: ld.evaluation.rand_voi(LABELS, value)),
        (
            "mask",
            lambda value: ld.extract_fragments(AFFINITIES, mask=np.ones(SHAPE) if value is None else value),
        ),
        ("segmentation", lambda value: ld.LsdExtractor((2, 2, 2)).get_descriptors(value)),
    ):
        if name != "mask" or value is not None:
            refused(house, lambda call=call: call(value), TypeError, name, part)


@pytest.mark.parametrize("kind", ["numpy", "dask", "DataArray"])
def test_a_crop_beside_the_volume(house: Path, kind: str) -> None:
    """In world coordinates, a box outside of a volume is a crop without voxels."""
    labels, affinities = as_kind(kind, LABELS)[:0], as_kind(kind, AFFINITIES)[:, :0]
    part = "(0, 8, 8), expected at least one voxel; was the volume cropped to a box outside of it?"
    for name in ("affinities", "relabel", "build_region_graph"):
        refused(house, lambda name=name: FUNCTIONS[name][1](labels), ValueError, part)
    refused(
        house, lambda: ld.extract_fragments(affinities), ValueError, "(3, 0, 8, 8), expected at least one"
    )
    part = "truth: found no voxel with a label other than 0"
    refused(house, lambda: ld.evaluation.rand_voi(labels, labels), ValueError, part)
    # As in the reference implementation.
    assert ld.local_shape_descriptors(labels, 2.0).shape == (10, 0, 8, 8)
    assert np.asarray(ld.local_shape_descriptors(labels, 2.0)).size == 0


@pytest.mark.parametrize("dims", [("x", "y", "z"), ("channel", "y", "x"), ("z", "y", "t")])
def test_axes_that_are_others(house: Path, dims: tuple[str, ...]) -> None:
    for name, call in FUNCTIONS.values():
        refused(
            house, lambda call=call: call(named(*dims)), ValueError, name, f"found the axes {', '.join(dims)}"
        )


BAD_AFFINITIES: dict[str, tuple[np.ndarray, type[Exception], str]] = {
    "booleans": (AFFINITIES > 0.5, TypeError, "stored as bool, expected uint8"),
    "whole numbers": (AFFINITIES.astype(np.int64), TypeError, "stored as int64, expected uint8"),
    "numbers of 16 bits": (AFFINITIES.astype(np.uint16), TypeError, "stored as uint16, expected uint8"),
    "complex numbers": (AFFINITIES.astype(complex), TypeError, "stored as complex128, expected uint8"),
    "objects": (AFFINITIES.astype(object), TypeError, "stored as object, expected uint8"),
    "two channels": (AFFINITIES[:2], ValueError, "2 channels, expected"),
    "no channels": (AFFINITIES[:0], ValueError, "shape (0, 8, 8, 8)"),
    "five axes": (AFFINITIES[None], ValueError, "5 axes, expected channel, z, y, x or channel, y, x"),
    "two axes": (AFFINITIES[0, 0], ValueError, "2 axes, expected channel, z, y, x or channel, y, x"),
}


@pytest.mark.parametrize("kind", ["numpy", "dask", "DataArray"])
@pytest.mark.parametrize("case", BAD_AFFINITIES)
def test_affinities_that_are_none(house: Path, case: str, kind: str) -> None:
    values, error, part = BAD_AFFINITIES[case]
    affinities = as_kind(kind, values)
    refused(house, lambda: ld.extract_fragments(affinities), error, "ffinities", part)
    refused(house, lambda: ld.build_region_graph(affinities, as_kind(kind, LABELS)), error, "ffinities", part)


@pytest.mark.parametrize(
    "dims", [("c", *ZYX), (*ZYX, "channel"), ("channel", "x", "y", "z")], ids=["c", "last", "reversed"]
)
def test_axes_of_affinities_that_are_others(house: Path, dims: tuple[str, ...]) -> None:
    affinities = named(*dims)
    part = f"found the axes {', '.join(dims)}, expected channel, z, y, x or channel, y, x"
    refused(house, lambda: ld.extract_fragments(affinities), ValueError, part)
    refused(house, lambda: ld.build_region_graph(affinities, LABELS), ValueError, part)


@pytest.mark.parametrize("kind", ["numpy", "dask", "DataArray"])
@pytest.mark.parametrize(
    ("value", "part"),
    [
        (np.nan, "NaN"),
        (np.inf, "values from 0 to inf"),
        (-np.inf, "values from -inf to 1"),
        (-0.5, "values from -0.5 to 1"),
        (1.5, "values from 0 to 1.5"),
        (255, "values from 0 to 255"),
    ],
)
def test_affinities_out_of_range_in_one_voxel(house: Path, value: float, part: str, kind: str) -> None:
    values = AFFINITIES.copy()
    values[1, 6, 2, 5] = value
    affinities = as_kind(kind, values)
    parts = (part, "expected values from 0 to 1 (or uint8, 0 to 255)")
    refused(house, lambda: np.asarray(ld.extract_fragments(affinities)), ValueError, *parts)
    refused(house, lambda: ld.build_region_graph(affinities, as_kind(kind, LABELS)), ValueError, *parts)


@pytest.mark.parametrize("kind", ["numpy", "dask", "DataArray"])
def test_negative_ids(house: Path, kind: str) -> None:
    negative = as_kind(kind, -LABELS.astype(np.int64))
    refused(
        house,
        lambda: np.asarray(ld.relabel(negative, LUT)),
        ValueError,
        "fragments: found the negative label -2",
    )
    part = "fragments: found the negative label -2"
    refused(house, lambda: ld.build_region_graph(AFFINITIES, negative), ValueError, part)
    part = "test: found the negative label -2"
    refused(house, lambda: ld.evaluation.rand_voi(LABELS, negative), ValueError, part)


@pytest.mark.parametrize("kind", ["numpy", "dask", "DataArray"])
def test_labels_of_the_truth_that_are_none(house: Path, kind: str) -> None:
    for case in ("booleans", "floats", "NaN", "complex numbers", "objects"):
        values = as_kind(kind, BAD_LABELS[case][0])
        part = f"found dtype {values.dtype}, expected integers"
        refused(house, lambda v=values: ld.evaluation.rand_voi(v, LABELS), TypeError, f"truth: {part}")
        refused(house, lambda v=values: ld.evaluation.rand_voi(LABELS, v), TypeError, f"test: {part}")


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"voxel_size": (2, 1, 1)}, "(2.0, 1.0, 1.0)"),
        ({"offset": (0, 3, 0)}, "(0.0, 3.0, 0.0)"),
        ({"units": "micrometer"}, "(1000.0, 1000.0, 1000.0)"),
    ],
    ids=["voxel size", "offset", "units"],
)
def test_volumes_of_different_places(house: Path, changes: dict[str, Any], part: str) -> None:
    other = placed(LABELS, **changes)
    refused(
        house,
        lambda: ld.build_region_graph(placed(AFFINITIES), other),
        ValueError,
        "do not lie in the same",
        part,
    )
    refused(house, lambda: ld.evaluation.rand_voi(placed(LABELS), other), ValueError, "truth", "test", part)
    mask = placed(np.ones(SHAPE, bool), **changes)
    if "offset" in changes:  # a mask of larger voxels is what masks are
        refused(house, lambda: ld.extract_fragments(placed(AFFINITIES), mask=mask), ValueError, "mask")
