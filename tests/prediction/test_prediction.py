"""Prediction beside one forward pass of the whole volume, whatever the blocks; and mirrored predictions."""

import itertools
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
from dask.base import tokenize
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

import lsd_dask as ld  # noqa: E402
from lsd_dask.networks.checkpoints import Checkpoint, save_checkpoint  # noqa: E402
from lsd_dask.networks.cost import forward_bytes  # noqa: E402
from lsd_dask.networks.models import AUTOCONTEXT  # noqa: E402
from lsd_dask.networks.normalisation import normalise  # noqa: E402
from lsd_dask.prediction import inference  # noqa: E402
from lsd_dask.prediction.inference import LoadedNetwork, Predictor  # noqa: E402
from lsd_dask.prediction.symmetries import Symmetry, affinity_sources, descriptor_sources, shifted, symmetries  # noqa: E402
from lsd_dask.prediction.tiles import TILE_BYTES, PredictRegion, predict, read_reflected, tile_shape_for  # noqa: E402
from lsd_dask.volumes.overlap import readers_of  # noqa: E402

from ..helpers.networks import KINDS, VOXEL_SIZE, checkpoint  # noqa: E402

#: Networks with all that makes prediction difficult: odd factors, several steps, zeros around the input.
NETWORKS: dict[str, dict[str, Any]] = {
    "plain": {},
    "same": {"padding": "same"},
    "two steps": {"downsample_factors": ((2, 3), (2, 2))},
    "odd": {"downsample_factors": ((3, 3),)},
}
SHAPE = (83, 71)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def image(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape or SHAPE).astype(np.uint8)


def whole(network: Checkpoint, raw: np.ndarray, context: str = "reflect") -> dict[str, np.ndarray]:
    """One forward pass of everything."""
    geometry = network.config.geometry()
    if context == "reflect":
        before = [margins[0] for margins in geometry.margins]
        padded = geometry.covering(raw.shape)
        around = [(b, n - m - b) for b, n, m in zip(before, padded, raw.shape, strict=True)]
        raw, shape = np.pad(raw, around, mode="reflect"), raw.shape
        begins = [b - c for b, c in zip(before, geometry.cut, strict=True)]
    else:
        largest = geometry.valid_input_shapes(raw.shape)[0]
        raw = raw[tuple(slice(0, n) for n in largest)]
        begins = [b - c for (b, _), c in zip(geometry.margins, geometry.cut, strict=True)]
        shape = tuple(n - sum(m) for n, m in zip(largest, geometry.margins, strict=True))
    with torch.no_grad():
        found = network.model(torch.from_numpy(normalise(raw))[None, None])
    inner = tuple(slice(b, b + n) for b, n in zip(begins, shape, strict=True))
    return {name: (values[0][(..., *inner)] * 255).round().numpy() for name, values in found.items()}


def assert_close(found: dict[str, Any], expected: dict[str, np.ndarray]) -> None:
    """The same to one grey value."""
    assert found.keys() == expected.keys()
    for name, values in found.items():
        array = np.asarray(values)
        assert array.dtype == np.uint8
        assert array.shape == expected[name].shape
        assert np.abs(array.astype(float) - expected[name]).max() <= 1
        # Or else it would be easy.
        assert expected[name].std() > 5


@pytest.mark.parametrize("context", ["reflect", "valid"])
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_forward_pass_of_the_whole(kind: str, name: str, context: Any) -> None:
    network = checkpoint(kind, 2, **NETWORKS[name])
    raw = image(160, 130) if context == "valid" else image()
    expected = whole(network, raw, context)
    assert_close(predict(raw, network, context=context), expected)
    assert_close(predict(raw, network, context=context, tile_shape=(24, 36)), expected)


@settings(max_examples=10)
@given(st.data())
def test_blocks_and_tiles_do_not_show(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(KINDS))
    network = checkpoint(kind, 2, **NETWORKS[data.draw(st.sampled_from(sorted(NETWORKS)))])
    raw, cuts = image(), st.lists(st.integers(1, 60), max_size=3)
    chunks = []
    for n in SHAPE:
        ends = sorted({c for c in data.draw(cuts) if c < n} | {0, n})
        chunks.append(tuple(np.diff(ends).tolist()))
    tile = data.draw(st.tuples(st.integers(20, 90), st.integers(20, 90)))
    lazy = predict(da.from_array(raw, chunks=tuple(chunks)), network, tile_shape=tile)
    assert all(isinstance(values, da.Array) for values in lazy.values())
    computed = da.compute(lazy, scheduler="sync")[0]
    assert_close(computed, whole(network, raw))


def test_three_dimensions(tmp_path: Path) -> None:
    network = checkpoint("mtlsd", downsample_factors=((1, 2, 2), (2, 2, 2)))
    raw = image(19, 30, 26)
    expected = whole(network, raw)
    assert_close(predict(raw, network, tile_shape=(8, 16, 12)), expected)
    ld.save_volume(
        raw, tmp_path / "v.zarr/raw", voxel_size=VOXEL_SIZE, offset=(40, 8, 0), block_shape=(8, 16, 16)
    )
    volume = ld.open_volume(tmp_path / "v.zarr/raw")
    path = str(tmp_path / "n.pt")
    save_checkpoint(path, network.model, voxel_size=VOXEL_SIZE, iteration=1)
    lazy = predict(volume.chunk(z=7, y=30, x=15), path)
    assert lazy["lsds"].dims == ("channel", "z", "y", "x")
    assert lazy["affinities"].chunks[1:] == ((7, 7, 5), (30,), (15, 11))
    assert ld.volumes.grid_of(lazy["affinities"]) == ld.volumes.grid_of(volume)
    assert_close({name: values.compute(scheduler="sync") for name, values in lazy.items()}, expected)


def test_a_part_of_a_stored_volume_is_predicted_as_the_whole_is(tmp_path: Path) -> None:
    """Away from its faces, and wherever it begins: it is known where in the stored volume that is."""
    network = checkpoint("affinities", 2, downsample_factors=((2, 2), (2, 2)))
    raw = image(120, 130)
    ld.save_volume(raw, tmp_path / "v.zarr/raw", voxel_size=VOXEL_SIZE[1:])
    volume = ld.open_volume(tmp_path / "v.zarr/raw")
    expected = whole(network, raw)["affinities"]
    for origin in itertools.product((3, 4), (5, 6)):
        part = volume[origin[0] : 115, origin[1] : 125]
        found = predict(part, network)["affinities"].compute(scheduler="sync")
        inner = (slice(None), slice(30, -30), slice(30, -30))
        there = expected[:, origin[0] : 115, origin[1] : 125]
        assert np.abs(found.values[inner] - there[inner]).max() <= 1
        valid = predict(part, network, context="valid")["affinities"].compute(scheduler="sync")
        begin = [round((valid[d][0] - volume[d][0]).item() / 4) for d in ("y", "x")]
        before = [b - o for b, o in zip(begin, origin, strict=True)]
        assert all(20 <= b < 24 for b in before)


def test_outputs_can_be_chosen() -> None:
    network = checkpoint("mtlsd", 2)
    found = predict(image(), network, outputs=["lsds"])
    assert_close(found, {"lsds": whole(network, image())["lsds"]})
    swapped = predict(image(), network, outputs=["lsds", "affinities"])
    assert [len(values) for values in swapped.values()] == [6, 2]


def test_raw_data_of_any_scale() -> None:
    network, raw = checkpoint("affinities", 2), image()
    expected = predict(raw, network)["affinities"]
    for other in (raw.astype(np.uint16) * 257, raw / np.float32(255), raw / 255):
        found = predict(other, network)["affinities"]
        assert np.abs(found.astype(int) - expected).max() <= 1
    brighter = Checkpoint(network.model, network.voxel_size, 0, raw_range=(0.0, 0.5))
    found = predict(raw // 2, brighter)["affinities"]
    np.testing.assert_allclose(found, predict((raw // 2 * 2), network)["affinities"], atol=1)


def test_colours() -> None:
    network = checkpoint("lsd", 2, in_channels=3)
    raw = image(3, *SHAPE)
    found = predict(raw, network)["lsds"]
    assert found.shape == (6, *SHAPE)
    lazy = predict(da.from_array(raw, chunks=(1, 40, 71)), network)["lsds"]
    assert np.abs(lazy.compute(scheduler="sync").astype(int) - found).max() <= 1


@pytest.mark.parametrize("kind", AUTOCONTEXT)
def test_descriptors_by_way_of_an_array(kind: str) -> None:
    """Beside a forward pass of the second network of the stored descriptors."""
    network = checkpoint(kind, 2)
    raw, lsds = image(), np.random.default_rng(1).integers(0, 256, (6, *SHAPE)).astype(np.uint8)
    geometry = network.config.second_geometry()
    padded = geometry.covering(SHAPE)
    around = [(c, n - m - c) for c, n, m in zip(geometry.cut, padded, SHAPE, strict=True)]
    inputs = [np.pad(lsds, [(0, 0), *around], mode="reflect") / np.float32(255)]
    if kind == "acrlsd":
        inputs.insert(0, normalise(np.pad(raw, around, mode="reflect"))[None])
    with torch.no_grad():
        values = network.model.heads(torch.from_numpy(np.concatenate(inputs))[None])["affinities"][0]
    expected = {"affinities": (values * 255).round().numpy()[:, : SHAPE[0], : SHAPE[1]]}
    assert_close(predict(raw, network, lsds=lsds, tile_shape=(20, 30)), expected)
    lazy = predict(da.from_array(raw, chunks=(40, 33)), network, lsds=da.from_array(lsds, chunks=(6, 50, 71)))
    assert_close({"affinities": lazy["affinities"].compute(scheduler="sync")}, expected)


class TestAugmentation:
    @pytest.mark.parametrize("dims", [2, 3])
    def test_of_a_network_that_is_exact_nothing_changes(self, dims: int) -> None:
        """Affinities and descriptors of labels, mirrored and brought back, are those of the labels."""
        rng = np.random.default_rng(0)
        labels = rng.integers(1, 3, (6, 7, 8)[-dims:])
        far = [tuple(-int(i == j) for j in range(dims)) for i in range(dims)]
        far += [(-2, *[0] * (dims - 1)), (0,) * (dims - 2) + (-1, 1), (0,) * (dims - 2) + (2, 0)]
        affinities = ld.affinities(labels, far)
        descriptors = ld.local_shape_descriptors(labels, 2.0)
        for turn in symmetries(dims, "all"):
            turned = turn.apply(torch.from_numpy(labels)[None, None])[0, 0].numpy()
            for truth, back, sources in (
                (affinities, ld.affinities(turned, far), affinity_sources(far, turn)),
                (
                    descriptors,
                    ld.local_shape_descriptors(turned, 2.0),
                    descriptor_sources(dims, turn),
                ),
            ):
                values = turn.undo(torch.from_numpy(back)[None])[0]
                for channel, source in enumerate(sources):
                    if source is None:
                        continue
                    found = shifted(values[source.channel], source.step).numpy()
                    inner = tuple(slice(2, -2) for _ in range(dims))
                    np.testing.assert_allclose(found[inner], truth[channel][inner], atol=1e-5)

    def test_every_direct_neighbour_takes_part_in_every_mirroring(self) -> None:
        direct = [(-1, 0, 0), (0, -1, 0), (0, 0, -1)]
        for turn in symmetries(3, "all"):
            assert None not in affinity_sources(direct, turn)
        assert affinity_sources([(-1, -1)], Symmetry((True, False), transpose=False)) == [None]

    @pytest.mark.parametrize("augmentation", ["mirrors", "all"])
    def test_blocks_do_not_show(self, augmentation: Any) -> None:
        network, raw = checkpoint("mtlsd", 2), image(50, 44)
        expected = predict(raw, network, augmentation=augmentation)
        assert np.abs(expected["affinities"].astype(int) - predict(raw, network)["affinities"]).max() > 1
        lazy = predict(da.from_array(raw, chunks=(19, 13)), network, augmentation=augmentation)
        for name, values in lazy.items():
            found = values.compute(scheduler="sync")
            assert np.abs(found.astype(int) - expected[name]).max() <= 1

    def test_is_the_mean_over_mirrored_volumes(self) -> None:
        network, raw = checkpoint("affinities", 2), image(48, 48)
        found = predict(raw, network, augmentation="mirrors")["affinities"][:, 4:-4, 4:-4].astype(float)
        total = np.zeros((2, 48, 48))
        for flip_y, flip_x in itertools.product((False, True), repeat=2):
            axes = tuple(axis for axis, flip in enumerate((flip_y, flip_x)) if flip)
            back = np.flip(predict(np.flip(raw, axes), network)["affinities"], [a + 1 for a in axes])
            for channel, flip in enumerate((flip_y, flip_x)):
                # The affinity that the lower neighbour has with this voxel.
                total[channel] += np.roll(back[channel], 1, channel) if flip else back[channel]
        assert np.abs(found - total[:, 4:-4, 4:-4] / 4).max() <= 1.5


class TestErrors:
    network = checkpoint("mtlsd", 2)

    def refused(self, message: str, *args: Any, kind: type[Exception] = ValueError, **options: Any) -> None:
        with pytest.raises(kind, match=message):
            predict(*args, **options)

    def test_raw_data(self) -> None:
        net = self.network
        self.refused("raw: found a list", [[1]], net, kind=TypeError)
        self.refused("raw: found dtype int64", image().astype(int), net, kind=TypeError)
        self.refused(
            r"raw: found shape \(4, 83, 71\), expected the axes y, x with 1 channels", image(4, 83, 71), net
        )
        self.refused("raw: found shape", image(3, 4, 5, 6), net)
        self.refused("at least one voxel", np.zeros((0, 4), np.uint8), net)
        self.refused("raw: found values from 0 to 255, expected 0 to 1", image().astype(np.float32), net)
        self.refused("raw: found NaN", np.full(SHAPE, np.nan, np.float32), net)
        self.refused(r"at least \(18, 40\) for context 'valid'", image(5, 40), net, context="valid")

    def test_voxel_size(self, tmp_path: Path) -> None:
        ld.save_volume(image(), tmp_path / "v.zarr/raw", voxel_size=(8, 8))
        volume = ld.open_volume(tmp_path / "v.zarr/raw")
        self.refused(
            r"found voxels of \(8.0, 8.0\) nanometer, .* trained on voxels of \(4.0, 4.0\)",
            volume,
            self.network,
        )

    def test_network(self, tmp_path: Path) -> None:
        self.refused("there is no such checkpoint", image(), tmp_path / "n.pt", kind=FileNotFoundError)
        self.refused("kind 'mtlsd' predicts affinities and lsds", image(), self.network, outputs=["labels"])
        self.refused("outputs: found", image(), self.network, outputs=[])
        self.refused("does not take descriptors", image(), self.network, lsds=np.zeros((6, *SHAPE), np.uint8))
        odd = checkpoint("affinities", 2, downsample_factors=((2, 3),))
        self.refused("treats y and x differently", image(), odd, augmentation="all")

    def test_descriptors(self) -> None:
        net = checkpoint("aclsd", 2)
        self.refused(
            "lsds: found shape .*, expected 6 channels", image(), net, lsds=np.zeros((5, *SHAPE), np.uint8)
        )
        self.refused("lsds: found shape .* as of raw", image(), net, lsds=np.zeros((6, 9, 9), np.uint8))
        lsds = np.zeros((6, *SHAPE), np.uint8)
        self.refused("cannot be mirrored", image(), net, lsds=lsds, augmentation="mirrors")

    def test_tiles(self) -> None:
        self.refused("tile_shape: found", image(), self.network, tile_shape=(4,))
        self.refused("tile_shape: found", image(), self.network, tile_shape=(4.5, 4), kind=TypeError)


def test_the_network_is_loaded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "n.pt")
    save_checkpoint(path, checkpoint("lsd", 2).model, voxel_size=(4, 4), iteration=1)
    loads = []
    load = inference.load_checkpoint
    monkeypatch.setattr(inference, "load_checkpoint", lambda path: loads.append(path) or load(path))
    volume = da.from_array(image(), chunks=(20, 20))
    predict(volume, path)["lsds"].compute(scheduler="threads", num_workers=3)
    predict(volume, path)["lsds"].compute(scheduler="threads", num_workers=3)
    assert loads == [path]
    # Another network of the same name is loaded; what was planned with the old one does not take it.
    planned = predict(volume, path)["lsds"]
    save_checkpoint(path, checkpoint("lsd", 2, num_fmaps=4).model, voxel_size=(4, 4), iteration=1)
    predict(volume, path)["lsds"].compute(scheduler="sync")
    assert loads == [path, path]
    inference._loaded.cache_clear()
    with pytest.raises(ValueError, match="the checkpoint was replaced"):
        planned.compute(scheduler="sync")


def test_lazy_predictions_of_one_network_have_one_name(tmp_path: Path) -> None:
    path = str(tmp_path / "n.pt")
    save_checkpoint(path, checkpoint("lsd", 2).model, voxel_size=(4, 4), iteration=1)
    volume = da.from_array(image(), chunks=40)
    assert tokenize(predict(volume, path)["lsds"]) == tokenize(predict(volume, path)["lsds"])


def test_reduced_precision_is_close() -> None:
    network, raw = checkpoint("affinities", 2), image()
    exact, reduced = (predict(raw, network, precision=p)["affinities"] for p in ("float32", "bfloat16"))
    difference = np.abs(exact.astype(int) - reduced)
    assert 0 < difference.max() < 60
    assert difference.mean() < 5


class TestTiles:
    def test_the_default_fits_the_memory(self) -> None:
        for kind in ("mtlsd", "acrlsd"):
            for fmaps in (4, 40):
                predictor = Predictor(
                    LoadedNetwork(checkpoint(kind, num_fmaps=fmaps)), checkpoint(kind).config.predictions
                )
                shape = tile_shape_for(predictor)
                assert not any(n % p for n, p in zip(shape, predictor.geometry.period, strict=True))
                needed = forward_bytes(predictor.config, predictor.geometry.covering(shape))
                assert needed <= TILE_BYTES
                small = tile_shape_for(predictor, budget=10**8)
                assert forward_bytes(predictor.config, predictor.geometry.covering(small)) <= 10**8
                assert tile_shape_for(predictor, budget=0) == predictor.geometry.period
                task = PredictRegion(predictor, "reflect", shape)
                assert (
                    task.tile_bytes((16, 16, 16))[1] < task.tile_bytes((500, 500, 500))[1] < 1.3 * TILE_BYTES
                )

    @given(st.integers(1, 9), st.integers(-30, 5), st.integers(1, 40))
    def test_mirrored_at_the_faces(self, n: int, begin: int, size: int) -> None:
        array = np.arange(n)
        if n > 1:
            before, after = max(0, -begin), max(0, begin + size - n)
            expected = np.pad(array, (before, after), mode="reflect")[max(0, begin) :][:size]
        else:
            expected = np.zeros(size, int)
        readers = readers_of([array[None]], [False])
        found = read_reflected(readers[0], (slice(0, 1), slice(begin, begin + size)))
        np.testing.assert_array_equal(found[0, 0], expected)
