"""The gunpowder node does what that of lsds does."""

import importlib
import warnings
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

import lsd_dask as ld

pytest.importorskip("gunpowder", reason="needs the extra gunpowder", exc_type=ImportError)


def quietly(name: str) -> ModuleType:
    """Import a module whose dependencies use what is deprecated."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(name)


gp = quietly("gunpowder")
AddLocalShapeDescriptor = quietly("lsd_dask.gunpowder").AddLocalShapeDescriptor

LABELS, MASK, UNLABELLED = (gp.ArrayKey(name) for name in ("LABELS", "LABELS_MASK", "UNLABELLED"))
LSDS, LSDS_MASK = (gp.ArrayKey(name) for name in ("LSDS", "LSDS_MASK"))
VOXEL_SIZE = {2: gp.Coordinate(2, 4), 3: gp.Coordinate(8, 2, 4)}


class Source(gp.BatchProvider):
    """Gives labels and two masks of a volume that begins at 0."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        rng = np.random.default_rng(0)
        self.arrays = {
            LABELS: rng.integers(0, 3, shape, np.uint64),
            MASK: rng.integers(0, 2, shape, np.uint8),
            UNLABELLED: rng.integers(0, 2, shape, np.uint8),
        }
        self.voxel_size = VOXEL_SIZE[len(shape)]

    def setup(self) -> None:
        roi = gp.Roi((0,) * self.voxel_size.dims, self.arrays[LABELS].shape) * self.voxel_size
        for key, array in self.arrays.items():
            self.provides(key, gp.ArraySpec(roi, self.voxel_size, interpolatable=False, dtype=array.dtype))

    def provide(self, request: Any) -> Any:
        batch = gp.Batch()
        for key, wanted in request.items():
            spec = self.spec[key].copy()
            spec.roi = wanted.roi
            batch[key] = gp.Array(self.arrays[key][(wanted.roi / self.voxel_size).to_slices()], spec)
        return batch


def run(node: Any, shape: tuple[int, ...], wanted: Any, keys: list[Any]) -> dict[Any, np.ndarray]:
    """What a pipeline with the node gives for `wanted`, a box of voxels."""
    roi = wanted * VOXEL_SIZE[len(shape)]
    request = gp.BatchRequest({key: gp.ArraySpec(roi) for key in keys})
    with gp.build(Source(shape) + node) as pipeline:
        batch = pipeline.request_batch(request)
    assert all(batch[key].spec.roi == roi for key in keys)
    return {key: batch[key].data for key in keys}


CASES: dict[str, tuple[tuple[int, ...], Any, dict[str, Any]]] = {
    "default": ((16, 40, 30), gp.Roi((5, 14, 12), (4, 12, 8)), {"sigma": 8}),
    "sigma per axis": ((20, 40, 30), gp.Roi((6, 8, 6), (6, 12, 8)), {"sigma": (8.0, 2.0, 4.0)}),
    "2-D": ((40, 30), gp.Roi((14, 8), (12, 10)), {"sigma": 8}),
    "2-D, components": ((40, 30), gp.Roi((14, 8), (12, 10)), {"sigma": 8, "components": "0145"}),
    "downsampled": ((24, 64, 40), gp.Roi((8, 24, 12), (8, 16, 8)), {"sigma": 16, "downsample": 2}),
    "sphere": ((20, 40, 40), gp.Roi((6, 8, 8), (6, 12, 8)), {"sigma": (16, 4, 8), "mode": "sphere"}),
    "mask": ((16, 40, 30), gp.Roi((5, 14, 12), (4, 12, 8)), {"sigma": 8, "labels_mask": MASK}),
    "unlabelled": ((16, 40, 30), gp.Roi((5, 14, 12), (4, 12, 8)), {"sigma": 8, "unlabelled": UNLABELLED}),
    "both": (
        (16, 40, 30),
        gp.Roi((5, 14, 12), (4, 12, 8)),
        {"sigma": 8, "labels_mask": MASK, "unlabelled": UNLABELLED, "components": "9"},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_does_what_that_of_lsds_does(case: str) -> None:
    pytest.importorskip("lsd", reason="needs the package lsds")
    shape, wanted, options = CASES[case]
    theirs = quietly("lsd.train.gp").AddLocalShapeDescriptor
    keys = [LABELS, LSDS, LSDS_MASK]
    expected = run(theirs(LABELS, LSDS, LSDS_MASK, **options), shape, wanted, keys)
    actual = run(AddLocalShapeDescriptor(LABELS, LSDS, LSDS_MASK, **options), shape, wanted, keys)
    for key in keys:
        assert actual[key].dtype == expected[key].dtype
        assert_allclose(actual[key], expected[key], rtol=0, atol=1e-4)


def test_without_context_the_volume_ends() -> None:
    source = Source((16, 40, 30))
    node = AddLocalShapeDescriptor(LABELS, LSDS, sigma=8)
    wanted = gp.Roi((5, 14, 12), (4, 12, 8))
    descriptors = run(node, (16, 40, 30), wanted, [LSDS])[LSDS]
    part = wanted.grow((3, 12, 6), (3, 12, 6)).to_slices()
    expected = ld.local_shape_descriptors(source.arrays[LABELS][part], 8, voxel_size=(8, 2, 4))
    assert np.array_equal(descriptors, expected[:, 3:-3, 12:-12, 6:-6])


def test_is_idle_where_nothing_is_asked_of_it() -> None:
    node = AddLocalShapeDescriptor(LABELS, LSDS, LSDS_MASK, labels_mask=MASK, sigma=8)
    shape, everything = (16, 40, 30), gp.Roi((0, 0, 0), (16, 40, 30))
    assert run(node, shape, everything, [LABELS])[LABELS].shape == shape
    wanted = gp.Roi((5, 14, 12), (4, 12, 8))
    assert run(node, shape, wanted, [LSDS])[LSDS].shape == (10, 4, 12, 8)
    assert run(node, shape, everything, [LABELS])[LABELS].shape == shape


def test_downsampling_begins_at_the_first_voxel_wanted() -> None:
    """The context, 3 voxels, is no multiple of 2; that of lsds refuses."""
    node = AddLocalShapeDescriptor(LABELS, LSDS, sigma=8, downsample=2)
    wanted = gp.Roi((5, 15, 13), (4, 12, 8))
    descriptors = run(node, (16, 60, 40), wanted, [LSDS, LABELS])[LSDS]
    labels = Source((16, 60, 40)).arrays[LABELS][1:, 1:, 1:]
    region = (wanted - gp.Coordinate(1, 1, 1)).to_slices()
    expected = ld.local_shape_descriptors(labels, 8, voxel_size=(8, 2, 4), downsample=2, roi=region)
    assert np.array_equal(descriptors, expected)


def test_batches_of_random_places() -> None:
    node = AddLocalShapeDescriptor(LABELS, LSDS, LSDS_MASK, sigma=3)
    request = gp.BatchRequest()
    for key in (LABELS, LSDS, LSDS_MASK):
        request.add(key, (40, 40))
    with gp.build(Source((200, 100)) + gp.RandomLocation() + node + gp.Stack(4)) as pipeline:
        batch = pipeline.request_batch(request)
    assert batch[LSDS].data.shape == batch[LSDS_MASK].data.shape == (4, 6, 20, 10)
    inside = np.broadcast_to(batch[LABELS].data[:, np.newaxis] != 0, (4, 6, 20, 10))
    assert np.array_equal(batch[LSDS_MASK].data, inside)
    assert not batch[LSDS].data[~inside].any()
    assert batch[LSDS].data[inside].all()


def test_unknown_mode() -> None:
    with pytest.raises(ValueError, match="cube"):
        AddLocalShapeDescriptor(LABELS, LSDS, mode="cube")
