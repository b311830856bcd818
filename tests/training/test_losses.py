"""The loss is that of gunpowder's training scripts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
from lsd_dask.training.losses import losses, weighted_mse  # noqa: E402

from ..helpers.strategies import seeds  # noqa: E402


@given(seeds, st.floats(0, 1))
def test_equals_a_mean_over_what_counts(seed, masked):
    rng = np.random.default_rng(seed)
    prediction, target, weight = rng.random((3, 2, 3, 4))
    weight[rng.random(weight.shape) < masked] = 0
    counted = weight != 0
    expected = np.mean((weight * (prediction - target) ** 2)[counted]) if counted.any() else 0
    found = weighted_mse(*map(torch.from_numpy, (prediction, target, weight)))
    assert found.item() == pytest.approx(expected)


def test_what_has_no_weight_does_not_matter():
    prediction = torch.tensor([0.5, 0.5], requires_grad=True)
    weighted_mse(prediction, torch.tensor([1.0, 1.0]), torch.tensor([1.0, 0.0])).backward()
    assert prediction.grad[1] == 0
    assert prediction.grad[0] != 0


def test_heads_are_added():
    values = {name: torch.full((4,), value) for name, value in (("affinities", 0.5), ("lsds", 1.0))}
    zeros = {name: torch.zeros(4) for name in values}
    ones = {name: torch.ones(4) for name in values}
    found = losses(values, zeros, ones)
    assert found["loss"] == found["affinities"] + found["lsds"] == 1.25
    assert losses(values, zeros, ones, {"lsds": 0.5})["loss"] == 0.75


def test_shapes_have_to_agree():
    with pytest.raises(
        ValueError, match=r"found tensors of the shapes \[\(2,\), \(3,\)\], expected one shape"
    ):
        weighted_mse(torch.zeros(3), torch.zeros(2))


def test_every_prediction_needs_a_target():
    with pytest.raises(ValueError, match="expected all three for each"):
        losses({"lsds": torch.zeros(1)}, {}, {})
