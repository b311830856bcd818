"""Arguments of the smaller functions."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import lsd_dask as ld
from lsd_dask.space.grids import Grid
from lsd_dask.volumes.dask_arrays import label

from ..helpers.refusals import refused
from .house import LABELS, PLACE, SHAPE, ZYX


@pytest.mark.parametrize(
    ("call", "error", "part"),
    [
        (
            lambda: ld.ids.decode(np.array([1.5])),
            TypeError,
            "ids: found dtype float64, expected integers",
        ),
        (
            lambda: ld.ids.decode(np.array([-1])),
            ValueError,
            "ids: found the negative id -1, expected ids from 0 on",
        ),
        (lambda: ld.ids.decode(np.array([[1, 2]])), ValueError, "ids: found shape (1, 2)"),
        (lambda: ld.ids.decode(np.array([1]), 4), ValueError, "ndim: found 4, expected 2 or 3"),
        (lambda: ld.ids.encode(None), ValueError, "type object, expected whole numbers"),
        (lambda: ld.LsdExtractor(3.0), ValueError, "sigma: found 3.0, expected a number for each"),
        (lambda: ld.LsdExtractor("abc"), ValueError, "sigma: found 'abc'"),
        (lambda: ld.connect(None), TypeError, "cluster: found None, expected a name, an address or a path"),
        (lambda: ld.connect(["local"]), TypeError, "cluster: found a list"),
        (
            lambda: ld.connect("local", memory=[8]),
            ValueError,
            "memory should be a size such as '8 GB', not [8]",
        ),
        (lambda: ld.connect("local", walltime=5), ValueError, "walltime should be '[days-]hours:minutes"),
        (lambda: ld.viewing.label_colors(["a"]), TypeError, "labels: found 'a', expected whole numbers"),
    ],
)
def test_arguments_that_are_of_another_kind(
    house: Path, call: Callable[[], Any], error: type[Exception], part: str
) -> None:
    refused(house, call, error, part)


@pytest.mark.parametrize(
    ("volumes", "options", "error", "part"),
    [
        ([LABELS], {}, TypeError, "volumes: found a list, expected a mapping from names to arrays"),
        ({"labels": LABELS.tolist()}, {}, TypeError, "'labels': found a list, expected a NumPy array"),
        ({"labels": LABELS.astype(object)}, {}, TypeError, "'labels': found dtype object, expected numbers"),
        ({"labels": LABELS.astype(complex)}, {}, TypeError, "'labels': found dtype complex128"),
        ({"labels": LABELS}, {"section": 1.5}, TypeError, "section should be a whole number, not 1.5"),
        (
            {"labels": LABELS},
            {"section": "first"},
            TypeError,
            "section should be a whole number, not 'first'",
        ),
        ({"labels": LABELS}, {"section": 8}, ValueError, "section should be one of 0 to 7, not 8"),
    ],
)
def test_pictures_that_cannot_be(
    house: Path, volumes: Any, options: dict[str, Any], error: type[Exception], part: str
) -> None:
    refused(house, lambda: ld.viewing.section_panel(volumes, house / "panel.png", **options), error, part)


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("{", "not a readable JSON file"),
        ("{}", "found no address of a scheduler"),
        ("[]", "found no address of a scheduler"),
        ('{"address": 5}', "found no address of a scheduler"),
    ],
)
def test_scheduler_files_that_are_none(tmp_path: Path, content: str, part: str) -> None:
    path = tmp_path / "scheduler.json"
    path.write_text(content)
    refused(tmp_path, lambda: ld.connect(path), ValueError, str(path), part)


@pytest.mark.parametrize(
    ("offset", "size", "part"),
    [
        ((np.nan, 0, 0), (40, 8, 8), "offset and size must be finite numbers, but are (nan, 0, 0)"),
        ((400, 0, 0), (np.inf, 8, 8), "but are (400, 0, 0) and (inf, 8, 8)"),
        ((400, 0, 0), (0, 8, 8), "must be positive in every axis"),
        ((420, 0, 0), (40, 8, 8), "does not lie on the voxel grid"),
        ((400, 0, 0), (40, 8, 12), "does not lie on the voxel grid"),
        ((400, 0, 0), (400, 8, 8), "reaches out of the volume"),
        (400, (40, 8, 8), "offset: found 400, expected a number for each"),
        ("abc", (40, 8, 8), "offset: found 'abc'"),
    ],
)
def test_boxes_that_are_none_of_the_volume(offset: Any, size: Any, part: str) -> None:
    grid = Grid(ZYX, SHAPE, **PLACE)
    with pytest.raises(ValueError) as caught:
        grid.region(offset, size)
    assert part in str(caught.value)
    roi = SimpleNamespace(
        get_begin=lambda: offset, get_end=lambda: [o + s for o, s in zip(offset, size, strict=True)]
    )
    if isinstance(offset, tuple):
        with pytest.raises(ValueError) as caught:
            ld.local_shape_descriptors(label(LABELS, grid), 80, roi=roi)
        assert part.split(",")[0].split(" and ")[0][:20] in str(caught.value)
