"""The U-Net beside one that was written independently, and its sizes beside brute force."""

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from lsd_dask.networks.geometry import ChainedAxis, UNetAxis  # noqa: E402
from lsd_dask.networks.unet import ConvPass, Downsample, UNet, Upsample, unet_geometry  # noqa: E402

from ..helpers.funlib import Network  # noqa: E402

TWO = [(3, 3), (3, 3)]
VARIANTS: dict[str, dict[str, Any]] = {
    "2-D": {"downsample_factors": [(2, 2), (2, 2)], "down": [TWO] * 3, "up": [TWO] * 2},
    "constant": {
        "downsample_factors": [(2, 2), (2, 2)],
        "down": [TWO] * 3,
        "up": [TWO] * 2,
        "constant_upsample": True,
    },
    "odd factors": {"downsample_factors": [(2, 3), (3, 1)], "down": [TWO] * 3, "up": [TWO] * 2},
    "same": {
        "downsample_factors": [(2, 2), (3, 2)],
        "down": [TWO, [(5, 3)], TWO],
        "up": [TWO] * 2,
        "padding": "same",
    },
    "two heads": {"downsample_factors": [(2, 2)], "down": [TWO] * 2, "up": [TWO], "num_heads": 2},
    "wider output": {"downsample_factors": [(2, 2)], "down": [TWO] * 2, "up": [TWO], "num_fmaps_out": 5},
    "anisotropic 3-D": {
        "downsample_factors": [(1, 2, 2), (2, 2, 2)],
        "down": [[(1, 3, 3), (1, 3, 3)], [(3, 3, 3)], [(3, 3, 3), (1, 1, 1)]],
        "up": [[(1, 3, 3), (3, 3, 3)], [(3, 3, 3)]],
    },
}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def both(name: str, **more: Any) -> tuple[UNet, Network]:
    """Our network and the other one, with random parameters."""
    variant = dict(VARIANTS[name])
    down, up = variant.pop("down"), variant.pop("up")
    torch.manual_seed(0)
    options = {"in_channels": 2, "num_fmaps": 3, "fmap_inc_factor": 2, **variant}
    kernels = {"kernel_size_down": down, "kernel_size_up": up}
    return UNet(**options, **kernels, **more), Network(**options, **kernels)


def sizes(unet: UNet, larger: int) -> tuple[int, ...]:
    """A valid input shape, other sizes along each axis."""
    smallest = [axis.smallest for axis in unet.geometry.axes]
    periods = unet.geometry.period
    return tuple(n + (larger + i) * p for i, (n, p) in enumerate(zip(smallest, periods, strict=True)))


@pytest.mark.parametrize("name", VARIANTS)
def test_parameters_have_the_names_and_shapes_of_funlib(name: str) -> None:
    ours, theirs = both(name)
    shapes = {key: tuple(value.shape) for key, value in theirs.state_dict().items()}
    assert {key: tuple(value.shape) for key, value in ours.state_dict().items()} == shapes
    assert "l_conv.0.conv_pass.2.weight" in shapes or name == "same"


@pytest.mark.parametrize("crop", [True, False])
@pytest.mark.parametrize("name", VARIANTS)
def test_parameters_of_an_independent_network_give_the_same_output(name: str, crop: bool) -> None:
    ours, theirs = both(name, crop=crop)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 2, *sizes(ours, 4))
    with torch.no_grad():
        found, expected = ours(x), theirs(x, crop)
    for a, b in pairs(found, expected):
        torch.testing.assert_close(a, b)


def pairs(found: Any, expected: Any) -> Any:
    return zip(found, expected, strict=True) if isinstance(found, list) else [(found, expected)]


@pytest.mark.parametrize("name", VARIANTS)
def test_cropped_output_is_a_part_of_the_whole_and_joins_without_a_seam(name: str) -> None:
    whole, _ = both(name, crop=False)
    cropped, _ = both(name)
    period, x = whole.geometry.period, torch.randn(1, 2, *sizes(whole, 6))
    with torch.no_grad():
        (all_of_it, _), *_ = pairs(whole(x), whole(x))
        (part, _), *_ = pairs(cropped(x), cropped(x))
    if VARIANTS[name].get("padding") != "same":
        assert not any(n % p for n, p in zip(part.shape[2:], period, strict=True))
    places = itertools.product(
        *(range(n - m + 1) for n, m in zip(all_of_it.shape[2:], part.shape[2:], strict=True))
    )
    windows = [tuple(slice(o, o + m) for o, m in zip(p, part.shape[2:], strict=True)) for p in places]
    assert any(torch.allclose(all_of_it[(..., *window)], part, atol=1e-6) for window in windows)


@pytest.mark.parametrize("name", VARIANTS)
def test_shifting_the_input_by_a_period_shifts_the_output(name: str) -> None:
    unet, _ = both(name, crop=False)
    same = VARIANTS[name].get("padding") == "same"
    period, shape = unet.geometry.period, sizes(unet, 12 if same else 4)
    x = torch.randn(1, 2, *(n + p for n, p in zip(shape, period, strict=True)))
    with torch.no_grad():
        (first, second), *_ = pairs(
            unet(x[(..., *(slice(0, n) for n in shape))]),
            unet(x[(..., *(slice(p, None) for p in period))]),
        )
    # Beside what zeros around it reach.
    margins = unet.geometry.margins if same else [(0, 0)] * len(shape)
    inner = [slice(b, n - p - a) for (b, a), n, p in zip(margins, first.shape[2:], period, strict=True)]
    assert all(s.stop > s.start for s in inner)
    here = tuple(slice(s.start + p, s.stop + p) for s, p in zip(inner, period, strict=True))
    torch.testing.assert_close(second[(..., *inner)], first[(..., *here)])


def axes() -> st.SearchStrategy[tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], bool]]:
    def levels(factors: list[int]) -> Any:
        reach = st.integers(0, 2)
        return st.tuples(
            st.just(tuple(factors)),
            st.tuples(*[reach] * (len(factors) + 1)),
            st.tuples(*[reach] * len(factors)),
            st.booleans(),
        )

    return st.lists(st.integers(1, 3), min_size=1, max_size=2).flatmap(levels)


def network(factors: tuple[int, ...], down: tuple[int, ...], up: tuple[int, ...], valid: bool) -> Network:
    """A network that does nothing along the first axis; each weight is positive, so nothing is lost."""
    kernels = [[[(1, 2 * r + 1)] for r in reaches] for reaches in (down, up)]
    padding = "valid" if valid else "same"
    made = Network(1, 1, 1, [(1, f) for f in factors], *kernels, padding=padding)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.fill_(1.0 if parameter.ndim > 1 else 0.0)
    return made.double()


@given(axes())
def test_sizes_are_those_of_an_independent_network(axis: Any) -> None:
    geometry, made = UNetAxis(*axis), network(*axis)
    for size in range(1, 40):
        try:
            with torch.no_grad():
                expected = made(torch.zeros(1, 1, 1, size).double(), crop=False).shape[-1]
        except RuntimeError:
            expected = 0
        valid = size >= geometry.smallest and (size - geometry.smallest) % geometry.period == 0
        assert (geometry.output(size) if valid else 0) == expected


@given(axes(), st.integers(0, 2))
def test_the_field_of_view_is_what_a_changed_voxel_changes(axis: Any, larger: int) -> None:
    geometry, made = UNetAxis(*axis), network(*axis)
    size = geometry.smallest + (larger + 2) * geometry.period
    assume(size <= 60)
    x = torch.rand(1, 1, 1, size).double()
    # The largest voxel of its neighbourhood passes all pooling.
    inputs = torch.cat([x] + [x + 1000 * (torch.arange(size) == i).double() for i in range(size)])
    with torch.no_grad():
        outputs = made(inputs, crop=False)[:, 0, 0]
    changed = (outputs[1:] != outputs[:1]).numpy()
    for place in range(changed.shape[1]):
        low, high = geometry.seen(place + geometry.cut, place + geometry.cut)
        seen = np.flatnonzero(changed[:, place])
        assert (seen.min(), seen.max()) == (max(low, 0), min(high, size - 1))
        if axis[3]:
            assert (low, high) == (max(low, 0), min(high, size - 1))


@given(axes())
def test_margins_are_enough_for_every_voxel(axis: Any) -> None:
    geometry = UNetAxis(*axis)
    before, after = geometry.margins
    assert (before - geometry.cut) % geometry.period == 0
    for place in range(3 * geometry.period):
        low, high = geometry.seen(before + place, before + place)
        assert low >= 0
        # Valid convolutions give nothing else.
        assert geometry.valid or high <= before + place + after


@given(axes(), axes())
def test_two_networks_in_a_chain(first: Any, second: Any) -> None:
    one, two = UNetAxis(*first[:3], valid=True), UNetAxis(*second[:3], valid=True)
    assume(one.period % two.period == 0)
    chain = ChainedAxis(one, two)
    for size in range(chain.smallest, chain.smallest + 3 * chain.period, chain.period):
        inner = one.output(size) - 2 * chain.crop
        assert inner >= two.smallest
        assert (inner - two.smallest) % two.period == 0
        assert chain.output(size) == two.output(inner) == size - 2 * chain.cut
        low, high = chain.seen(chain.cut, chain.cut + chain.output(size) - 1)
        assert low >= 0
        assert high < size


def test_the_networks_of_the_paper() -> None:
    three = [[(3, 3, 3), (3, 3, 3)]]
    fib25 = unet_geometry([(2, 2, 2), (2, 2, 2), (3, 3, 3)], three * 4, three * 3, "valid")
    assert fib25.output_shape((196, 196, 196)) == (92, 92, 92)
    assert fib25.context == (52, 52, 52)
    zebrafinch = unet_geometry([(1, 3, 3), (1, 3, 3), (3, 3, 3)], three * 4, three * 3, "valid")
    assert zebrafinch.output_shape((84, 268, 268)) == (48, 56, 56)
    assert zebrafinch.input_shape((48, 56, 56)) == (84, 268, 268)


class TestErrors:
    geometry = unet_geometry([(2, 2), (2, 2)], [TWO] * 3, [TWO] * 2, "valid")

    def test_sizes_name_the_next_ones(self) -> None:
        unet = UNet(1, 1, 1, [(2, 2), (2, 2)])
        with pytest.raises(ValueError, match=r"found \(60, 62\).*next valid sizes along x: 60 and 64"):
            unet(torch.zeros(1, 1, 60, 62))
        with pytest.raises(ValueError, match=r"next valid sizes along y: 4; x: 20 and 24") as error:
            self.geometry.input_shape((1, 22))
        assert "output shape: found (1, 22)" in str(error.value)
        with pytest.raises(ValueError, match="expected 2 numbers"):
            self.geometry.output_shape((60, 60, 60))
        assert self.geometry.valid_input_shapes((1, 62)) == ((44, 60), (44, 64))

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"kernel_size_down": [[(2, 2)]] * 3}, "kernel_size_down: found .* odd"),
            ({"kernel_size_down": [TWO] * 2}, "kernel_size_down: found 2 levels, expected 3"),
            ({"kernel_size_up": [TWO] * 3}, "kernel_size_up: found 3 levels, expected 2"),
            ({"kernel_size_up": [[(3, 3, 3)]] * 2}, "kernel_size_up: .* expected 2 odd numbers"),
        ],
    )
    def test_kernels(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            UNet(1, 1, 1, [(2, 2), (2, 2)], **options)

    def test_factors(self) -> None:
        with pytest.raises(ValueError, match=r"downsample_factors: found .* expected 2 factors a level"):
            unet_geometry([(2, 2), (2, 2, 2)], [TWO] * 3, [TWO] * 2, "valid")

    def test_parts(self) -> None:
        with pytest.raises(ValueError, match=r"expected multiples of \(2, 2\)"):
            Downsample((2, 2))(torch.zeros(1, 1, 4, 5))
        with pytest.raises(ValueError, match="go together"):
            Upsample((2, 2), "nearest", crop_factor=(2, 2))
        with pytest.raises(ValueError, match="a larger input is needed"):
            UNet(1, 1, 1, [(3, 3), (3, 3)])(torch.zeros(1, 1, 70, 70))
        assert ConvPass(1, 1, [(3, 3)], None)(torch.zeros(1, 1, 5, 5)).shape[-1] == 3
