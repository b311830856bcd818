"""The viewer: what it finds and serves, and what a real browser shows of it."""

import contextlib
import io
import shutil
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.image import imread

import lsd_dask as ld
from lsd_dask import create_volume, save_volume, synthetic, viewer
from lsd_dask.cli import main
from lsd_dask.segmentation.agglomeration import MergeTree
from lsd_dask.segmentation.edits import Edits
from lsd_dask.viewer.browser import FLAGS, find_browser
from lsd_dask.viewer.contents import contents_of
from lsd_dask.viewer.layers import ServedVolume
from lsd_dask.viewer.merging import Merging
from lsd_dask.viewer.sources import source_of

needs_browser = pytest.mark.skipif(
    find_browser() is None or shutil.which("chromedriver") is None,
    reason="no browser: install chromium and chromium-driver",
)


@pytest.fixture(scope="module")
def container(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tissue, segmented without a cluster, with all that a viewer shows."""
    path = tmp_path_factory.mktemp("viewer") / "tissue.zarr"
    tissue = synthetic.neuropil((48, 48, 48), chunks=48, leaks=0.01)
    affs, labels = (tissue[name].compute() for name in ("affinities", "labels"))
    fragments = ld.extract_fragments(affs)
    graph = ld.build_region_graph(affs, fragments)
    lsds = ld.local_shape_descriptors(labels, sigma=80)
    arrays = {"raw": tissue["raw"], "affs": affs, "lsds": lsds, "fragments": fragments}
    for name, volume in arrays.items():
        save_volume(volume, path / "volumes" / name)
    tree = ld.agglomerate(graph)
    save_volume(ld.relabel(fragments, tree.cut(0.5)), path / "volumes" / "segmentation_50")
    graph.to_parquet(str(path / "rag"))
    tree.to_parquet(str(path / "rag" / "merges_hist_quant_75.parquet"))
    return path


@pytest.fixture
def opened(container: Path) -> Iterator[viewer.Viewer]:
    one = ld.view(container, threshold=0.5)
    yield one
    one.close()


class TestContents:
    def test_a_container_is_opened_with_all_its_volumes_and_trees(self, container: Path) -> None:
        contents = contents_of(container)
        assert set(contents.volumes) == {"raw", "affs", "lsds", "fragments", "segmentation_50"}
        (tree,) = contents.trees
        assert (tree.fragments, tree.merge_function) == ("volumes/fragments", "hist_quant_75")
        assert not contents.skipped

    def test_names_are_as_long_as_they_have_to_be(self, tmp_path: Path) -> None:
        for name in ("a/raw", "b/raw", "b/labels"):
            save_volume(np.zeros((2, 4, 4), np.uint8), tmp_path / "x.zarr" / name)
        assert set(contents_of(tmp_path / "x.zarr").volumes) == {"a/raw", "b/raw", "labels"}

    def test_coarser_levels_are_no_volumes_of_their_own_and_are_read(self, tmp_path: Path) -> None:
        import zarr

        voxels = np.arange(8 * 8 * 8, dtype=np.uint8).reshape(8, 8, 8)
        group = zarr.create_group(tmp_path / "pyramid.zarr")
        scales = {"s0": 1, "s1": 2}
        for name, step in scales.items():
            # So that it shows from which level something was read.
            array = group.create_array(name, shape=(8 // step,) * 3, dtype="uint8", chunks=(4, 4, 4))
            array[...] = voxels if step == 1 else 200
        group.attrs["ome"] = {
            "version": "0.5",
            "multiscales": [
                {
                    "axes": [{"name": a, "type": "space", "unit": "nanometer"} for a in "zyx"],
                    "datasets": [
                        {
                            "path": name,
                            "coordinateTransformations": [
                                {"type": "scale", "scale": [4.0 * step] * 3},
                                {"type": "translation", "translation": [2.0 * (step - 1)] * 3},
                            ],
                        }
                        for name, step in scales.items()
                    ],
                }
            ],
        }
        (stored,) = contents_of(tmp_path / "pyramid.zarr").volumes.values()
        source = source_of("raw", stored)
        assert source.coarsest == 8
        fine, coarse = (
            source.read(np.zeros(3, int), np.array([8 // n] * 3), np.array([n] * 3)) for n in (1, 2)
        )
        assert np.array_equal(fine, voxels)
        assert (coarse == 200).all()

    def test_what_is_no_volume_is_told(self, tmp_path: Path) -> None:
        import zarr

        group = zarr.create_group(tmp_path / "odd.zarr")
        group.create_array("line", shape=(4,), dtype="uint8", chunks=(4,))
        with pytest.raises(ValueError, match=r"odd\.zarr: found no volume in it; .*line"):
            contents_of(tmp_path / "odd.zarr")
        save_volume(np.zeros((4, 4), np.uint8), tmp_path / "odd.zarr" / "raw")
        contents = contents_of(tmp_path / "odd.zarr")
        assert (set(contents.volumes), set(contents.skipped)) == ({"raw"}, {"line"})
        with pytest.raises(FileNotFoundError, match=r"none\.zarr"):
            contents_of(tmp_path / "none.zarr")


def downsampled(voxels: np.ndarray, factors: tuple[int, ...], *, labels: bool) -> np.ndarray:
    """Voxel by voxel."""
    shape = tuple(-(-n // f) for n, f in zip(voxels.shape, factors, strict=True))
    out = np.empty(shape, np.float64)
    for place in np.ndindex(shape):
        box = voxels[tuple(slice(p * f, (p + 1) * f) for p, f in zip(place, factors, strict=True))]
        out[place] = box.ravel()[0] if labels else box.astype(np.float64).mean()
    return out


class TestSources:
    @given(st.data())
    def test_boxes_are_those_of_the_whole_volume_made_coarser(self, data: st.DataObject) -> None:
        shape = data.draw(st.tuples(*[st.integers(1, 9)] * 3))
        factors = data.draw(st.tuples(*[st.sampled_from([1, 2, 3, 4])] * 3))
        labels = data.draw(st.booleans())
        rng = np.random.default_rng(data.draw(st.integers(0, 99)))
        voxels = rng.integers(0, 2**40 if labels else 255, shape).astype(np.uint64 if labels else np.float32)
        expected = downsampled(voxels, factors, labels=labels)
        start = np.array([data.draw(st.integers(0, n - 1)) for n in expected.shape])
        stop = np.array(
            [data.draw(st.integers(s + 1, n)) for s, n in zip(start, expected.shape, strict=True)]
        )
        source = source_of("volume", da.from_array(voxels, chunks=4))
        assert source.kind == ("labels" if labels else "image")
        found = source.read(start, stop, np.array(factors))
        box = expected[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))]
        assert np.allclose(found, box, rtol=1e-6)

    @pytest.mark.parametrize("dtype", ["bool", "float16", "float64", "int64", "int32", "uint16"])
    def test_every_type_is_shown_as_one_that_neuroglancer_has(self, dtype: str) -> None:
        voxels = np.arange(24).reshape(2, 3, 4).astype(dtype)
        source = source_of("volume", voxels)
        assert source.dtype in ("uint8", "float32", "uint64", "int32", "uint16")
        found = source.read(np.zeros(3, int), np.array(voxels.shape), np.ones(3, int))
        assert found.dtype == source.dtype
        assert np.array_equal(found, voxels.astype(source.dtype))

    def test_chunks_are_served_as_the_server_asks_for_them(self) -> None:
        labels = np.arange(8**3, dtype=np.uint64).reshape(8, 8, 8)
        served = ServedVolume(source_of("labels", labels))
        chunk, _ = served.get_encoded_subvolume("npz", np.array([0, 1, 2]), np.array([4, 3, 4]), "2,2,2")
        assert np.array_equal(np.load(io.BytesIO(zlib.decompress(chunk))), labels[::2, 2:6:2, 4:8:2])
        for start, stop, key in (([0] * 3, [9] * 3, "1,1,1"), ([0] * 3, [1] * 3, "8,8,8"), ([0], [1], "1")):
            with pytest.raises(ValueError, match="expected"):
                served.get_encoded_subvolume("npz", np.array(start), np.array(stop), key)


@st.composite
def trees(draw: st.DrawFn) -> MergeTree:
    n = draw(st.integers(1, 12))
    ids = np.cumsum(draw(st.lists(st.integers(1, 5), min_size=n, max_size=n))).astype(np.uint64)
    parents = np.array([draw(st.integers(0, i)) for i in range(n)])
    levels = np.where(parents == np.arange(n), 256, [draw(st.integers(0, 255)) for _ in range(n)])
    return MergeTree(ids, parents, levels, "mean")


@given(trees(), st.floats(0, 1), st.floats(0, 1))
def test_merging_is_cutting_the_tree(tree: MergeTree, first: float, threshold: float) -> None:
    merging = Merging(tree, first)
    merging.cut(threshold)
    table = tree.cut(threshold)
    assert np.array_equal(merging.apply(table.keys), table.values)
    assert merging.segments == len(set(table.values.tolist()))
    unknown = np.setdiff1d(np.arange(70, dtype=np.uint64), tree.ids)
    assert np.array_equal(merging.apply(unknown), unknown)
    for fragment in tree.ids.tolist():
        facts = merging.facts(fragment)
        assert facts is not None
        assert fragment in facts.fragments
        assert set(facts.fragments) == set(table.keys[table.values == facts.segment].tolist())
    assert merging.facts(int(tree.ids[-1]) + 1) is None


class TestViewing:
    def test_the_layers_are_those_of_the_container(self, opened: viewer.Viewer) -> None:
        assert opened.layers == ["raw", "affs", "lsds", "fragments", "segmentation_50", "segments"]
        layers = {layer.name: layer for layer in opened.neuroglancer.state.layers}
        assert [name for name, layer in layers.items() if layer.visible] == ["raw", "segments"]
        assert "vec3(toNormalized(getDataValue(0))" in layers["affs"].shader
        assert "component" in layers["lsds"].shader

    def test_sizes_are_those_of_the_segmentation(self, opened: viewer.Viewer, container: Path) -> None:
        segmentation = ld.open_volume(container / "volumes/segmentation_50").to_numpy()
        ids, sizes = np.unique(segmentation[segmentation > 0], return_counts=True)
        opened.select(*ids.tolist())
        facts = opened.selected()
        assert {one.segment: one.voxels for one in facts} == dict(
            zip(ids.tolist(), sizes.tolist(), strict=True)
        )
        fragments = ld.open_volume(container / "volumes/fragments").to_numpy()
        for one in facts:
            assert set(one.fragments) == set(np.unique(fragments[segmentation == one.segment]).tolist())

    def test_what_is_selected_stays_so_when_the_threshold_moves(self, opened: viewer.Viewer) -> None:
        opened.threshold = 0.0
        fragment = int(opened._merging.tree.ids[-1])
        opened.select(fragment)
        assert [one.fragments for one in opened.selected()] == [(fragment,)]
        opened.threshold = 0.95
        (facts,) = opened.selected()
        assert fragment in facts.fragments
        assert len(facts.fragments) > 1
        opened.show_fragments(facts.segment)
        layer = opened.neuroglancer.state.layers["fragments"]
        assert layer.visible
        assert set(layer.layer.segments) == set(facts.fragments)

    def test_edits_beside_the_tree_are_honoured(self, container: Path) -> None:
        place = container / "rag" / "edits.parquet"
        tree = MergeTree.from_parquet(str(container / "rag" / "merges_hist_quant_75.parquet"))
        joined = tree.cut(0.5)
        first = next(i for i in joined.values.tolist() if np.count_nonzero(joined.values == i) > 1)
        second = int(joined.keys[(joined.values == first) & (joined.keys != first)][0])
        Edits(cannot_link=[(first, second)]).write(place)
        try:
            one = ld.view(container, threshold=0.5)
        finally:
            place.unlink()
        merging = one._merging
        assert merging is not None
        assert merging.facts(first) != merging.facts(second)
        assert np.array_equal(merging.table.values, tree.cut(0.5, edits=merging.edits).values)
        assert merging.segments == len(np.unique(merging.table.values))
        one.close()

    def test_volumes_in_memory_with_a_tree(self) -> None:
        affs = np.full((3, 4, 8, 8), 230, np.uint8)
        fragments = np.repeat(np.arange(1, 9, dtype=np.uint64), 32).reshape(4, 8, 8)
        graph = ld.build_region_graph(affs, fragments)
        raw = da.zeros((4, 8, 8), chunks=4, dtype=np.uint8)
        one = ld.view(
            {"raw": raw, "supervoxels": fragments},
            tree=ld.agglomerate(graph),
            graph=graph,
            fragments="supervoxels",
        )
        assert one.layers == ["raw", "supervoxels", "segments"]
        one.select(1)
        assert one.selected()[0].voxels == fragments.size
        assert one.url in one._repr_html_()
        one.close()
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(one.url)

    def test_volumes_lie_where_their_offsets_say(self, tmp_path: Path) -> None:
        create_volume(tmp_path / "x.zarr/raw", (4, 6, 8), "uint8", voxel_size=(40, 4, 4), offset=(80, 2, 0))
        one = ld.view(tmp_path / "x.zarr/raw")
        source = one.neuroglancer.state.layers["raw"].source[0]
        assert source.transform.matrix[:, -1].tolist() == [2, 0.5, 0]
        assert one.neuroglancer.state.position.tolist() == [4.5, 3.5, 4.5]
        one.close()

    @pytest.mark.parametrize(
        ("what", "options", "message"),
        [
            ([], {}, "there is nothing to look at"),
            ([{"a": np.ones((2, 2, 2))}], {"threshold": 0.5}, "no such merge tree; there is none"),
            ([{"a": np.ones((2, 2, 2))}], {"fragments": "b"}, "found no 'b', expected one of a"),
            ([{"a": np.ones(2)}], {}, "expected|1"),
            ([{"segments": np.ones((2, 2, 2))}], {}, "two layers of this name"),
        ],
    )
    def test_what_cannot_be_shown_is_refused(self, what: Any, options: Any, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            ld.view(*what, **options)

    def test_wrong_thresholds_and_segments_are_refused(self, opened: viewer.Viewer, container: Path) -> None:
        with pytest.raises(ValueError, match="threshold"):
            opened.threshold = 1.5
        with pytest.raises(ValueError, match="7777777777 is none of the"):
            opened.select(7777777777)
        with pytest.raises(ValueError, match="no such merge tree; there is hist_quant_75 of fragments"):
            ld.view(container, merge_function="mean")
        request = urllib.request.Request(opened.url + "threshold", b"2")
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request)
        assert b"threshold" in refused.value.read()


def colors_of(picture: np.ndarray) -> set[tuple[int, ...]]:
    """Colours that are no greys, of at least a few pixels."""
    colors, counts = np.unique(np.rint(255 * picture[..., :3]).reshape(-1, 3), axis=0, return_counts=True)
    vivid = np.ptp(colors, axis=1) > 40
    return set(map(tuple, colors[vivid & (counts > 20)].tolist()))


@needs_browser
def test_a_screenshot_needs_no_window(opened: viewer.Viewer, tmp_path: Path) -> None:
    # Without raw data under them, a segment has one colour.
    with opened.neuroglancer.txn() as state:
        state.layers["raw"].visible = False
        state.layout = "xy"
    before = opened.neuroglancer.config_state.state
    picture = imread(opened.screenshot(tmp_path / "new" / "shot.png", size=(400, 300)))
    assert picture.shape[:2] == (300, 400)
    assert len(colors_of(picture)) > 5
    assert opened.neuroglancer.config_state.state.show_ui_controls == before.show_ui_controls


@needs_browser
def test_the_command_takes_screenshots(
    container: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "shot.png"
    options = ["--threshold", "0.5", "--screenshot", str(path), "--size", "320", "240"]
    assert main.main(["view", str(container / "volumes"), *options]) == 2
    assert "no such merge tree" in capsys.readouterr().err
    assert main.main(["view", str(container), *options]) == 0
    assert capsys.readouterr().out.strip() == str(path)
    assert imread(path).shape[:2] == (240, 320)


def test_without_a_browser_it_is_named(
    opened: viewer.Viewer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("lsd_dask.viewer.browser.PROGRAMS", ("chromium", "none"))
    with pytest.raises(FileNotFoundError, match="a screenshot needs Chromium or Chrome"):
        opened.screenshot(tmp_path / "shot.png")
    assert not (tmp_path / "shot.png").exists()


@needs_browser
def test_the_page_in_a_browser(opened: viewer.Viewer) -> None:
    with browser() as driver:
        driver.get(opened.url)
        wait(driver, lambda: driver.find_element("id", "slider").is_displayed())
        first = canvas(opened)
        assert len(colors_of(first)) > 5, "the picture is blank"
        driver.switch_to.frame("viewer")
        shown = wait(driver, lambda: driver.find_elements("css selector", ".neuroglancer-layer-item-label"))
        assert [element.text for element in shown] == opened.layers
        driver.switch_to.default_content()

        slider = driver.find_element("id", "slider")
        slider.send_keys("\ue010")  # End: everything that touches is one
        wait(driver, lambda: len(colors_of(canvas(opened))) < len(colors_of(first)))
        assert opened.threshold == 1
        assert "segments of" in driver.find_element("id", "count").text
        slider.send_keys("\ue011")  # Home: nothing is
        wait(driver, lambda: len(colors_of(canvas(opened))) > len(colors_of(first)))
        assert opened.threshold == 0

        viewer_frame = driver.find_element("id", "viewer")
        select(driver, viewer_frame)
        (facts,) = wait(driver, opened.selected)
        title = f"segment {facts.segment}"
        wait(driver, lambda: title in driver.find_element("id", "selected").text)
        assert f"{facts.voxels:,} voxels" in driver.find_element("id", "selected").text
        driver.find_element("css selector", "#selected button").click()
        wait(driver, lambda: opened.neuroglancer.state.layers["fragments"].visible)

        for layer in ("affs", "lsds"):
            with opened.neuroglancer.txn() as state:
                for one in state.layers:
                    one.visible = one.name == layer
            # More than there are segments.
            wait(driver, lambda: len(colors_of(canvas(opened))) > 40)


@contextlib.contextmanager
def browser() -> Iterator[Any]:
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = find_browser()
    for flag in (*FLAGS, "--window-size=800,560"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        yield driver
    finally:
        driver.quit()


def wait(driver: Any, condition: Any) -> Any:
    """What a condition gives, once that is something."""
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(driver, 60, 0.1).until(lambda _: condition())


def canvas(one: viewer.Viewer) -> np.ndarray:
    """What neuroglancer draws, once everything is there."""
    one.neuroglancer.retry_txn(lambda state: setattr(state.layers["raw"], "visible", False), lock=True)
    return imread(io.BytesIO(one.neuroglancer.screenshot().screenshot.image))


def select(driver: Any, frame: Any) -> None:
    """Double-click a little beside the middle of the first panel."""
    from selenium.webdriver import ActionChains

    width, height = frame.size["width"], frame.size["height"]
    # Positions are relative to the middle of the frame; the first panel is its upper left quarter.
    actions = ActionChains(driver).move_to_element_with_offset(frame, -width // 4 + 6, -height // 4 + 12)
    actions.pause(0.5).double_click().perform()
