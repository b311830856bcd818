import colorsys
import sys
from pathlib import Path

import dask.array as da
import numpy as np
import pyarrow as pa
import pytest
import xarray as xr
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from matplotlib.image import imread

from lsd_dask.viewing import (
    descriptor_images,
    descriptor_panel,
    figures,
    label_colors,
    outlines,
    overlay,
    plot_scores,
    scores,
    section_panel,
)

PANEL_PIXELS = 510
SCORES = [{"threshold": t, "voi_split": 2 * (1 - t), "voi_merge": 3 * t**2} for t in (0.9, 0.1, 0.3, 0.5)]


def pixels(path: Path) -> np.ndarray:
    """Read a picture as uint8 (rows, columns, 4)."""
    return np.rint(255 * imread(path)).astype(np.uint8)


def colors_in(picture: np.ndarray) -> set[tuple[int, ...]]:
    return set(map(tuple, picture.reshape(-1, 4).tolist()))


@given(npst.arrays(np.uint64, st.integers(0, 50)))
def test_a_label_has_the_same_colour_wherever_it_is(labels: np.ndarray) -> None:
    alone = np.array([label_colors([label])[0] for label in labels], np.uint8).reshape(-1, 4)
    assert np.array_equal(label_colors(labels), alone)


@given(st.integers(1, 2**64 - 1))
def test_the_colour_is_that_of_the_labels_splitmix64_hash(label: int) -> None:
    bits = (label + 0x9E3779B97F4A7C15) % 2**64
    bits = (bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    bits = (bits ^ (bits >> 27)) * 0x94D049BB133111EB % 2**64
    bits ^= bits >> 31
    hue, saturation, value = ((bits >> shift & 0xFFFF) / 0xFFFF for shift in (0, 16, 32))
    rgb = colorsys.hsv_to_rgb(hue, 0.35 + 0.5 * saturation, 0.65 + 0.35 * value)
    color = label_colors(np.uint64(label)).astype(int)
    assert np.abs(color[:3] - 255 * np.array(rgb)).max() < 0.501
    assert color[3] == 255


@pytest.mark.parametrize("first", [1, 2**20, 2**40])
def test_labels_that_follow_each_other_can_be_told_apart(first: int) -> None:
    colors = label_colors(first + np.arange(1000, dtype=np.uint64))[:, :3].astype(int)
    assert len(np.unique(colors, axis=0)) > 990
    steps = np.abs(np.diff(colors, axis=0)).max(axis=1)
    assert np.median(steps) > 60
    assert np.mean(steps < 16) < 0.05
    assert colors.max(axis=1).min() > 160, "too dark to tell from background"


def test_colours_have_the_shape_of_the_labels_and_signed_labels_those_of_unsigned() -> None:
    labels = np.arange(24).reshape(2, 3, 4)
    assert label_colors(labels).shape == (2, 3, 4, 4)
    assert np.array_equal(label_colors(labels), label_colors(labels.astype(np.uint64)))


def test_labels_that_are_not_integers_are_refused() -> None:
    with pytest.raises(TypeError, match=r"labels: found 0\.5, expected whole numbers"):
        label_colors([0.5])


def make_labels(shape: tuple[int, ...] = (6, 40, 50)) -> np.ndarray:
    z, y, x = np.indices(shape)
    return (1 + z + 10 * (y // 8) + 1000 * (x // 8)).astype(np.uint64)


def test_a_panel_shows_every_label_of_its_section(tmp_path: Path) -> None:
    labels = make_labels()
    raw = np.arange(labels.size, dtype=np.uint8).reshape(labels.shape)
    path = section_panel({"raw": raw, "labels": labels}, tmp_path / "new" / "panel.png")
    picture = pixels(path)
    assert picture.shape[1] == 2 * PANEL_PIXELS
    middle = set(map(tuple, label_colors(np.unique(labels[3])).tolist()))
    assert middle <= colors_in(picture[:, PANEL_PIXELS:])
    assert len(colors_in(picture[:, :PANEL_PIXELS])) > 100
    assert path == tmp_path / "new" / "panel.png"


def test_a_section_can_be_chosen_and_each_looks_different(tmp_path: Path) -> None:
    labels = make_labels()
    first, last = (
        pixels(section_panel({"labels": labels}, tmp_path / f"{z}.png", section=z)) for z in (0, 5)
    )
    assert set(map(tuple, label_colors(np.unique(labels[5])).tolist())) <= colors_in(last)
    assert not np.array_equal(first, last)


def test_labels_of_one_section_and_five_panels_in_two_rows(tmp_path: Path) -> None:
    labels = make_labels()[0]
    one = pixels(section_panel({"labels": labels}, tmp_path / "one.png", title="one"))
    five = pixels(section_panel(dict.fromkeys("abcde", labels), tmp_path / "five.png"))
    assert five.shape[:2] == (2 * one.shape[0], 4 * PANEL_PIXELS)


def test_channels_are_red_green_and_blue(tmp_path: Path) -> None:
    affinities = np.zeros((3, 2, 8, 8), np.float32)
    affinities[1] = 1
    assert (0, 255, 0, 255) in colors_in(pixels(section_panel({"a": affinities}, tmp_path / "a.png")))
    flat = xr.DataArray(affinities[:, 0], dims=("channel", "y", "x"))
    assert (0, 255, 0, 255) in colors_in(pixels(section_panel({"a": flat}, tmp_path / "b.png")))
    both = section_panel(
        {"two": affinities[1:], "bytes": (255 * affinities).astype(np.uint8)}, tmp_path / "c.png"
    )
    assert {(255, 0, 0, 255), (0, 255, 0, 255)} <= colors_in(pixels(both))


class Recorder:
    """An array that notes which sections are read."""

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.shape, self.dtype, self.ndim = array, array.shape, array.dtype, array.ndim
        self.read: set[int] = set()

    def __getitem__(self, key: tuple[slice, ...]) -> np.ndarray:
        self.read |= set(np.arange(self.shape[0])[key[0]].ravel().tolist())
        return self.array[key]


def test_only_the_section_is_computed(tmp_path: Path) -> None:
    stored = Recorder(make_labels())
    lazy = da.from_array(stored, chunks=(1, 16, 16))
    named = xr.DataArray(lazy + 1, dims=("z", "y", "x"))
    section_panel({"lazy": lazy, "named": named}, tmp_path / "panel.png", section=4)
    assert stored.read == {4}


def test_the_scale_bar_is_drawn_where_voxels_have_a_size(tmp_path: Path) -> None:
    black = np.zeros((2, 40, 40), np.uint8)
    sized = xr.DataArray(black, dims=("z", "y", "x"), attrs={"voxel_size": (40, 4, 4), "units": "nanometer"})
    without = pixels(section_panel({"raw": black}, tmp_path / "without.png"))
    with_bar = pixels(section_panel({"raw": sized}, tmp_path / "with.png"))
    assert with_bar.shape == without.shape
    bar = (with_bar != without).any(axis=-1)
    rows, columns = np.nonzero(bar)
    # 50 nm of 160 nm, in the lower right quarter.
    assert columns.max() - columns.min() + 1 == pytest.approx(50 / 160 * PANEL_PIXELS, rel=0.1)
    assert rows.min() > bar.shape[0] / 2
    assert columns.min() > bar.shape[1] / 2


def test_voxels_keep_their_proportions(tmp_path: Path) -> None:
    section = xr.DataArray(np.ones((10, 10), np.uint64), dims=("y", "x"), attrs={"voxel_size": (20, 10)})
    picture = pixels(section_panel({"labels": section}, tmp_path / "panel.png"))
    rows, columns = np.nonzero((picture == label_colors(1)).all(axis=-1))
    assert np.ptp(rows) == pytest.approx(2 * np.ptp(columns), rel=0.02)


@example(0.3)
@given(st.floats(1e-3, 1e9))
def test_scale_bars_are_round_and_between_an_eighth_and_a_third(width: float) -> None:
    length, label = figures._scale_bar(width, "micrometer")
    assert width / 8 < length <= width / 3
    assert f"{length:e}"[0] in "125"
    assert label.endswith(" µm")


@pytest.mark.parametrize(
    ("volumes", "section", "message"),
    [
        ({}, None, "there is no volume to draw"),
        ({"a": np.zeros(3)}, None, r"'a' should be \(y, x\), .* its shape is \(3,\)"),
        ({"a": np.zeros((0, 2, 2))}, None, r"'a' should be .* its shape is \(0, 2, 2\)"),
        (
            {"a": np.zeros((2, 2, 2)), "b": np.zeros((2, 2, 3))},
            None,
            "volumes should have one shape, .* 'b': ",
        ),
        ({"a": np.zeros((2, 2, 2))}, 2, "section should be one of 0 to 1, not 2"),
        ({"a": np.zeros((2, 2, 2))}, -1, "section should be one of 0 to 1, not -1"),
        ({"a": np.zeros((2, 2))}, 0, "section 0 of volumes without sections"),
    ],
)
def test_wrong_volumes_are_refused(tmp_path: Path, volumes: dict, section: int | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        section_panel(volumes, tmp_path / "panel.png", section=section)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("scores", [SCORES, iter(SCORES), pa.Table.from_pylist(SCORES)])
def test_scores_are_drawn_from_rows_or_a_table(tmp_path: Path, scores: object) -> None:
    picture = pixels(plot_scores(scores, tmp_path / "scores.png", title="scores"))
    assert picture.shape == (570, 1350, 4)
    crimson = (220, 20, 60, 255)
    assert crimson in colors_in(picture[:, :675])
    assert crimson in colors_in(picture[:, 675:])


def test_scores_are_sorted_by_threshold() -> None:
    threshold, split, merge = scores._score_columns(SCORES)
    assert threshold.tolist() == [0.1, 0.3, 0.5, 0.9]
    assert np.allclose(split, 2 * (1 - threshold))
    assert np.allclose(merge, 3 * threshold**2)


def test_scores_without_rows_or_columns_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there are no scores"):
        plot_scores([], tmp_path / "scores.png")
    with pytest.raises(ValueError, match=r"should have the columns .* there is no 'voi_merge'"):
        plot_scores([{"threshold": 0.5, "voi_split": 1.0}], tmp_path / "scores.png")


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r'pip install "lsd-dask\[view\]"'):
        section_panel({"raw": np.zeros((4, 4))}, tmp_path / "panel.png")


@given(npst.arrays(np.uint64, st.tuples(st.integers(1, 6), st.integers(1, 6)), elements=st.integers(0, 3)))
def test_outlines_are_where_the_next_voxel_is_another_label(labels: np.ndarray) -> None:
    expected = np.zeros(labels.shape, bool)
    for y, x in np.ndindex(labels.shape):
        for place in ((y + 1, x), (y, x + 1)):
            if place[0] < labels.shape[0] and place[1] < labels.shape[1]:
                expected[y, x] |= labels[place] != labels[y, x]
    assert np.array_equal(outlines(labels), expected)


@given(
    npst.arrays(np.uint8, (5, 6)),
    npst.arrays(np.uint64, (5, 6), elements=st.integers(0, 3)),
    st.floats(0, 1),
)
def test_overlays_are_between_image_and_labels(image: np.ndarray, labels: np.ndarray, opacity: float) -> None:
    mixed = overlay(image, labels, opacity=opacity, lines=False).astype(float)
    below = np.repeat(image[..., np.newaxis], 3, axis=-1).astype(float)
    color = label_colors(labels)[..., :3]
    assert np.array_equal(mixed[labels == 0], below[labels == 0])
    expected = (1 - opacity) * below + opacity * color
    assert np.abs(mixed - expected)[labels != 0].max(initial=0) < 0.51
    lined = overlay(image, labels, opacity=opacity)
    border = outlines(labels) & (labels != 0)
    assert np.array_equal(lined[border], color[border])
    assert np.array_equal(lined[~border], mixed[~border])


def test_a_pair_is_drawn_as_an_overlay(tmp_path: Path) -> None:
    labels = make_labels()
    raw = xr.DataArray(da.full(labels.shape, 120, dtype=np.uint8), dims=("z", "y", "x"))
    picture = pixels(section_panel({"both": (raw, labels)}, tmp_path / "both.png"))
    one = int(labels[3, 3, 3])
    inside = overlay(np.full((1, 1), 120, np.uint8), np.full((1, 1), one, np.uint64))[0, 0]
    assert (*inside.tolist(), 255) in colors_in(picture)
    with pytest.raises(TypeError, match="'both': found float64, expected integer labels"):
        section_panel({"both": (raw, labels / 2)}, tmp_path / "no.png")
    with pytest.raises(ValueError, match=r"these differ: .*labels"):
        section_panel({"both": (raw, labels[1:])}, tmp_path / "no.png")


class TestDescriptors:
    @pytest.mark.parametrize("components", [None, "0129", "9", "345678"])
    def test_pictures_have_the_channels_of_their_names(self, components: str | None) -> None:
        digits = components or "0123456789"
        lsds = np.stack([np.full((2, 4, 4), int(digit)) for digit in digits])
        found = {
            name: image.reshape(-1, 32)[:, 0].tolist()
            for name, image in descriptor_images(lsds, components).items()
        }
        expected = {"mean offset": "012", "variance": "345", "Pearson coefficients": "678", "size": "9"}
        assert found == {n: [int(c) for c in of] for n, of in expected.items() if set(of) <= set(digits)}

    def test_offset_variance_and_coefficients_are_coloured(self, tmp_path: Path) -> None:
        lsds = np.zeros((10, 2, 8, 8), np.float32)
        for channel, value in {0: 1, 4: 1, 8: 1}.items():
            lsds[channel] = value
        found = colors_in(pixels(descriptor_panel(da.from_array(lsds), tmp_path / "lsds.png")))
        assert {(255, 0, 0, 255), (0, 255, 0, 255), (0, 0, 255, 255)} <= found

    def test_of_two_dimensions_and_beside_other_volumes(self, tmp_path: Path) -> None:
        lsds = np.zeros((6, 8, 8), np.uint8)
        lsds[1] = 255
        labels = np.ones((8, 8), np.uint64)
        path = descriptor_panel(lsds, tmp_path / "flat.png", volumes={"labels": labels}, title="flat")
        picture = pixels(path)
        assert picture.shape[1] == 4 * PANEL_PIXELS
        assert {(0, 255, 0, 255), tuple(label_colors(1).tolist())} <= colors_in(picture)

    @pytest.mark.parametrize(
        ("shape", "components"), [((4, 2, 8, 8), None), ((3, 2, 8, 8), "01"), ((10,), None)]
    )
    def test_other_channels_are_refused(self, shape: tuple[int, ...], components: str | None) -> None:
        with pytest.raises(ValueError, match="lsds: found"):
            descriptor_images(np.zeros(shape), components)
