"""Affinities equal their definition, whatever the chunks."""

from typing import Any

import dask.array as da
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lsd_dask as ld

from ..helpers.strategies import chunkings, label_volumes, neighborhoods, shapes


@st.composite
def volumes(draw: st.DrawFn) -> np.ndarray:
    return draw(label_volumes(draw(shapes(5, 6, 7) | shapes(8, 9))))


def by_definition(labels: np.ndarray, neighborhood: list[list[int]]) -> np.ndarray:
    out = np.zeros((len(neighborhood), *labels.shape), bool)
    for i, offset in enumerate(neighborhood):
        for p in np.ndindex(labels.shape):
            q = np.add(p, offset)
            if np.all((q >= 0) & (q < labels.shape)):
                out[(i, *p)] = labels[p] != 0 and labels[p] == labels[tuple(q)]
    return out


@given(st.data())
def test_equal_the_definition(data: st.DataObject) -> None:
    labels = data.draw(volumes())
    neighborhood = data.draw(neighborhoods(labels.ndim))
    expected = by_definition(labels, neighborhood)
    affinities = ld.affinities(labels, neighborhood)
    assert affinities.dtype == np.float32
    assert np.array_equal(affinities, expected)
    stored = ld.affinities(labels, neighborhood, dtype="uint8")
    assert stored.dtype == np.uint8
    assert np.array_equal(stored, 255 * expected)


@given(st.data())
def test_chunks_do_not_matter(data: st.DataObject) -> None:
    labels = data.draw(volumes())
    neighborhood = data.draw(neighborhoods(labels.ndim))
    lazy = ld.affinities(da.from_array(labels, chunks=data.draw(chunkings(labels.shape))), neighborhood)
    assert isinstance(lazy, da.Array)
    assert lazy.shape == (len(neighborhood), *labels.shape)
    assert np.array_equal(lazy.compute(scheduler="synchronous"), ld.affinities(labels, neighborhood))


@given(volumes())
def test_default_neighborhood_is_the_direct_predecessors(labels: np.ndarray) -> None:
    affinities = ld.affinities(labels)
    assert np.array_equal(affinities, ld.affinities(labels, -np.eye(labels.ndim, dtype=int)))
    for axis, channel in enumerate(affinities):
        assert not np.take(channel, 0, axis).any()


def test_ids_of_any_size_and_type() -> None:
    labels = np.random.default_rng(0).integers(0, 3, (4, 5, 6))
    expected = ld.affinities(labels)
    for dtype in ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", ">u4"):
        assert np.array_equal(ld.affinities(labels.astype(dtype)), expected)
    assert np.array_equal(ld.affinities(np.asfortranarray(labels)), expected)
    large = np.where(labels, labels.astype(np.uint64) + np.uint64(2**53), np.uint64(0))
    assert np.array_equal(ld.affinities(large), expected)


def test_lazy_volumes_know_where_they_are(tmp_path: Any) -> None:
    labels = np.random.default_rng(0).integers(0, 3, (8, 9, 10), np.uint64)
    path = tmp_path / "a.zarr" / "labels"
    ld.save_volume(labels, path, block_shape=(4, 4, 4), voxel_size=(40, 4, 4), offset=(80, 0, 4))
    volume = ld.open_volume(path)
    affinities = ld.affinities(volume, [[-1, 0, 0], [0, -5, 3]])
    assert isinstance(affinities.data, da.Array)
    assert affinities.dims == ("channel", "z", "y", "x")
    for axis in "zyx":
        assert np.array_equal(affinities[axis], volume[axis])
    assert np.array_equal(affinities, ld.affinities(labels, [[-1, 0, 0], [0, -5, 3]]))


WRONG = {
    "floats": (np.zeros((4, 4, 4)), {}, TypeError, "float64"),
    "booleans": (np.zeros((4, 4, 4), bool), {}, TypeError, "bool"),
    "one axis": (np.zeros(4, int), {}, ValueError, r"\(4,\)"),
    "offsets of images": (
        np.zeros((4, 4, 4), int),
        {"neighborhood": [[-1, 0]]},
        ValueError,
        r"\(1, 2\).*\(n, 3\)",
    ),
    "one offset": (np.zeros((4, 4), int), {"neighborhood": [-1, 0]}, ValueError, r"\(2,\)"),
    "no offset": (np.zeros((4, 4), int), {"neighborhood": np.zeros((0, 2), int)}, ValueError, r"\(0, 2\)"),
    "half an offset": (np.zeros((4, 4), int), {"neighborhood": [[-0.5, 0]]}, TypeError, "float64"),
    "type": (np.zeros((4, 4), int), {"dtype": "int8"}, TypeError, "int8"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_named(case: str) -> None:
    labels, options, error, message = WRONG[case]
    with pytest.raises(error, match=message):
        ld.affinities(labels, **options)
