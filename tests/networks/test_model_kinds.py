"""Models of every kind, in 2-D and 3-D, and the presets."""

from typing import Any

import pytest
from pydantic import ValidationError

torch = pytest.importorskip("torch")

from lsd_dask.networks.checkpoints import save_checkpoint  # noqa: E402
from lsd_dask.networks.models import AUTOCONTEXT, ModelConfig, build_model, with_first  # noqa: E402
from lsd_dask.training.presets import PRESETS  # noqa: E402

from ..helpers.networks import KINDS, config  # noqa: E402

OUTPUTS = {
    "affinities": {"affinities"},
    "lsd": {"lsds"},
    "mtlsd": {"affinities", "lsds"},
    "aclsd": {"affinities"},
    "acrlsd": {"affinities"},
}
FAR = ((-1, 0, 0), (0, -1, 0), (0, 0, -1), (-2, 0, 0), (0, -9, 9))


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_predicts_what_it_is_named_for(kind: str, dims: int, padding: str) -> None:
    model = build_model(config(kind, dims, padding=padding))
    assert set(model.targets) == OUTPUTS[kind]
    shape = model.valid_input_shapes((9, 41, 45)[-dims:])[1]
    predictions = model(torch.rand(2, 1, *shape) * 2 - 1)
    assert set(predictions) == OUTPUTS[kind]
    channels = {"affinities": dims, "lsds": 6 if dims == 2 else 10}
    for name, values in predictions.items():
        assert values.shape == (2, channels[name], *model.output_shape(shape))
        assert 0 <= values.min() <= values.max() <= 1
    assert model.input_shape(model.output_shape(shape)) == shape
    assert model.config.channels == {name: channels[name] for name in model.targets}


def test_affinities_of_longer_range() -> None:
    model = build_model(config("mtlsd", neighborhood=FAR))
    shape = model.valid_input_shapes((1, 1, 1))[1]
    assert model(torch.zeros(1, 1, *shape))["affinities"].shape[1] == 5
    assert config("aclsd", neighborhood=FAR).channels == {"affinities": 5}


def test_several_channels_of_raw_data() -> None:
    for kind in KINDS:
        model = build_model(config(kind, 2, in_channels=3))
        shape = model.valid_input_shapes((1, 1))[1]
        model(torch.zeros(1, 3, *shape))
        with pytest.raises(ValueError, match=r"raw: found shape .*, expected \(batch, 3, y, x\)"):
            model(torch.zeros(1, 1, *shape))


@pytest.mark.parametrize("kind", AUTOCONTEXT)
def test_the_first_network_of_an_autocontext_is_not_trained(kind: str) -> None:
    model = build_model(config(kind, 2))
    assert model.first is not None
    before = {name: value.clone() for name, value in model.first.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    model.train()
    assert model.training
    assert not model.first.training
    shape = model.valid_input_shapes((1, 1))[1]
    loss = model(torch.rand(1, 1, *shape))["affinities"].sum()
    loss.backward()
    optimizer.step()
    for name, value in model.first.state_dict().items():
        assert torch.equal(value, before[name])
    assert all(p.grad is None for p in model.first.parameters())
    assert all(p.grad is not None for p in model.unet.parameters())


@pytest.mark.parametrize("kind", AUTOCONTEXT)
def test_the_second_network_sees_the_descriptors_and_raw_data_of_the_same_place(kind: str) -> None:
    """Found by a first network that copies: its descriptors are the raw data of its centre."""
    model = build_model(config(kind, 2))
    shape = model.valid_input_shapes((40, 44))[1]
    raw = torch.rand(1, 1, *shape)
    assert model.first is not None
    cut = model.first.geometry.cut
    inner = model.first.output_shape(shape)
    there = raw[(..., *(slice(c, c + n) for c, n in zip(cut, inner, strict=True)))]
    seen = model.second_input(raw, there.expand(1, 6, *inner))
    assert seen.shape[1] == (6 if kind == "aclsd" else 7)
    assert seen.shape[2:] == model.config.second_geometry().valid_input_shapes(seen.shape[2:])[0]
    for channel in seen[0]:
        assert torch.equal(channel, seen[0, 0])
    assert model.unet(seen).shape[2:] == model.output_shape(shape)


class TestFirstNetwork:
    def test_its_parameters_come_from_its_checkpoint(self, tmp_path: Any) -> None:
        first = build_model(config("lsd", 2))
        path = str(tmp_path / "lsd.pt")
        save_checkpoint(path, first, voxel_size=(4, 4), iteration=3)
        for kind in AUTOCONTEXT:
            whole = with_first(kind, config("affinities", 2, num_fmaps=4), path)
            model = build_model(whole, lsd_checkpoint=path)
            assert model.first is not None
            assert model.first.config == first.config
            for name, value in first.state_dict().items():
                assert torch.equal(model.first.state_dict()[name], value)

    def test_another_one_is_refused(self, tmp_path: Any) -> None:
        path = str(tmp_path / "lsd.pt")
        save_checkpoint(path, build_model(config("lsd", 2, num_fmaps=5)), voxel_size=(4, 4), iteration=3)
        with pytest.raises(ValueError, match=r"lsd.pt: found the network .* expected"):
            build_model(config("aclsd", 2), lsd_checkpoint=path)
        with pytest.raises(ValueError, match="kind 'mtlsd' has no first network"):
            build_model(config("mtlsd", 2), lsd_checkpoint=path)
        save_checkpoint(path, build_model(config("mtlsd", 2)), voxel_size=(4, 4), iteration=3)
        with pytest.raises(ValueError, match="kind 'mtlsd', expected 'lsd'"):
            with_first("aclsd", config("affinities", 2), path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "malis"}, "kind"),
        ({"num_fmaps": 0}, "num_fmaps"),
        ({"downsample_factors": ()}, "downsample_factors: found none"),
        ({"downsample_factors": ((2, 2),)}, "expected 3 numbers a level"),
        ({"neighborhood": ((-1, 0),)}, "neighborhood: found"),
        ({"neighborhood": ((0, 0, 0),)}, "neighborhood: found"),
        ({"neighborhood": ()}, "neighborhood: found"),
        ({"kernel_size_down": (((3, 3, 3),),)}, "kernel_size_down: found 1 levels, expected 3"),
        ({"kind": "aclsd"}, "first: found none for kind 'aclsd'"),
        ({"kind": "mtlsd", "first": {"kind": "lsd"}}, "first: found one for kind 'mtlsd'"),
        ({"kind": "aclsd", "first": {"kind": "mtlsd"}}, "with kind 'mtlsd', expected 'lsd'"),
        ({"kind": "aclsd", "first": {"kind": "lsd", "padding": "same"}}, "padding 'same', expected 'valid'"),
        (
            {"kind": "aclsd", "first": {"kind": "lsd", "downsample_factors": ((2, 2, 3),)}},
            r"downsamples by \(2, 2, 3\) in all, expected multiples of \(4, 4, 4\)",
        ),
        ({"fmaps": 3}, "fmaps"),
    ],
)
def test_what_cannot_be_a_network(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ModelConfig(**options)


class TestPresets:
    """The numbers of the paper."""

    @pytest.mark.parametrize("kind", ["affinities", "lsd", "mtlsd"])
    def test_shapes(self, kind: Any) -> None:
        assert PRESETS["fib25"].input_shape(kind) == (196, 196, 196)
        assert PRESETS["zebrafinch"].input_shape(kind) == (84, 268, 268)
        assert PRESETS["2d"].input_shape(kind) == (164, 164)

    @pytest.mark.parametrize("kind", AUTOCONTEXT)
    def test_shapes_of_autocontext(self, kind: Any) -> None:
        assert PRESETS["fib25"].input_shape(kind) == (304, 304, 304)
        assert PRESETS["zebrafinch"].input_shape(kind) == (120, 484, 484)

    @pytest.mark.parametrize("name", PRESETS)
    @pytest.mark.parametrize("kind", KINDS)
    def test_every_kind_of_every_preset(self, name: str, kind: Any) -> None:
        preset = PRESETS[name]
        made = preset.model(kind)
        assert made.kind == kind
        predicted = tuple(n + 2 * preset.border for n in preset.output_shape)
        assert made.geometry().output_shape(preset.input_shape(kind)) == predicted
        assert len(preset.voxel_size) == made.dims == len(preset.output_shape)

    def test_neighborhood(self) -> None:
        assert PRESETS["tiny"].model("mtlsd", neighborhood=FAR).channels["affinities"] == 5
        assert PRESETS["2d"].model("aclsd", neighborhood=((0, -1), (-1, 0))).neighborhood == (
            (0, -1),
            (-1, 0),
        )
