"""Samples: both ways to make them give the same, masks do what they say, and seeds decide everything."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

pytest.importorskip("torch")
pytest.importorskip("gunpowder", exc_type=ImportError)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import gunpowder as gp

    from lsd_dask.training.gunpowder_samples import GunpowderSampler
from lsd_dask import local_shape_descriptors, open_volume, save_volume
from lsd_dask.space.grids import mirrored
from lsd_dask.targets.affinities import affinities
from lsd_dask.training.augmentation import AugmentationConfig
from lsd_dask.training.crops import VolumeDataset
from lsd_dask.training.labelled_volumes import Labels, TrainingVolume, prepare_volumes
from lsd_dask.training.samples import affinity_target, balanced, descriptor_weight, grow_boundary, targets_of

from ..helpers.strategies import label_volumes, seeds
from ..helpers.training_data import cells, image_of, placed, prepared, spec, volume

NOTHING = AugmentationConfig()


def assert_same(one, other, **tolerance):
    assert one.targets.keys() == other.targets.keys()
    for a, b in (
        (one.raw, other.raw),
        *((one.targets[name], other.targets[name]) for name in one.targets),
        *((one.weights[name], other.weights[name]) for name in one.targets),
    ):
        assert a.dtype == b.dtype == np.float32
        assert_allclose(a, b, **tolerance)


class TestTargets:
    def test_are_those_of_the_whole_volume(self):
        of = spec(augmentation=NOTHING)
        whole = volume((of.output_shape[0] + 40,) * 2, number=60)
        begin, end = (10, 12), (34, 36)
        labels = whole.read_labels(
            [b - m for b, m in zip(begin, of.margin, strict=True)],
            [e + m for e, m in zip(end, of.margin, strict=True)],
        )
        targets, weights = targets_of(labels, of)
        there = (slice(None), *(slice(b, e) for b, e in zip(begin, end, strict=True)))
        truth = whole.labels.to_numpy()
        assert_array_equal(targets["affinities"], affinities(truth)[there])
        assert_allclose(targets["lsds"], local_shape_descriptors(truth, 3.0)[there], atol=1e-6)
        assert (weights["lsds"] == 1).all()
        assert weights["affinities"][targets["affinities"] == 1].sum() == pytest.approx(
            weights["affinities"][targets["affinities"] == 0].sum(), rel=1e-4
        )

    @given(label_volumes((9, 10)), st.integers(1, 2), seeds)
    def test_boundary_is_that_of_gunpowder(self, labels, steps, seed):
        labels = np.unique(labels, return_inverse=True)[1].reshape(labels.shape)
        grown = labels.copy()
        gp.GrowBoundary(None, steps=steps)._GrowBoundary__grow(grown)
        assert_array_equal(grow_boundary(labels, steps), grown)
        known = (np.random.default_rng(seed).random(labels.shape) < 0.7).astype(np.uint8)
        masked = labels.copy()
        gp.GrowBoundary(None)._GrowBoundary__grow(masked, known)
        assert_array_equal(grow_boundary(labels, 1, known)[known == 1], masked[known == 1])

    def test_boundary_in_sections(self):
        labels = np.repeat(cells((1, 12, 12)), 3, axis=0)
        labels[2] += 100
        assert_array_equal(grow_boundary(labels, 1, in_section=True)[0], grow_boundary(labels[0], 1))

    @given(seeds, st.floats(0, 1), st.floats(0, 1))
    def test_balance_is_that_of_gunpowder(self, seed, ones, masked):
        rng = np.random.default_rng(seed)
        target = (rng.random((2, 4, 5)) < ones).astype(np.float32)
        mask = (rng.random(target.shape) >= masked).astype(np.float32)
        expected = mask.copy()
        gp.BalanceLabels(None, None)._BalanceLabels__balance(target, expected)
        assert_allclose(balanced(target, mask), expected, rtol=1e-5)


class TestMasks:
    """One row of two objects; offset -1."""

    objects = np.array([[1, 1, 1, 2, 2, 2]])

    def target(self, known=None, labelled=None, objects=None):
        ones = np.ones_like(self.objects)
        return affinity_target(
            self.objects if objects is None else objects,
            ones if known is None else np.array([known]),
            ones if labelled is None else np.array([labelled]),
            [[0, -1]],
        )

    def test_nothing_masked(self):
        target, mask = self.target()
        assert target.tolist() == [[[0, 1, 1, 0, 1, 1]]]
        # The first voxel has no neighbour.
        assert mask.tolist() == [[[0, 1, 1, 1, 1, 1]]]

    def test_affinities_to_what_is_not_known_do_not_count(self):
        _, mask = self.target(known=[1, 1, 0, 1, 1, 1])
        assert mask.tolist() == [[[0, 1, 0, 0, 1, 1]]]

    def test_affinities_to_what_is_not_labelled_are_0_and_count(self):
        target, mask = self.target(labelled=[1, 1, 1, 0, 0, 0], objects=np.array([[1, 1, 1, 0, 0, 0]]))
        assert target.tolist() == [[[0, 1, 1, 0, 0, 0]]]
        assert mask.tolist() == [[[0, 1, 1, 1, 0, 0]]]

    def test_descriptors_count_in_objects_and_in_ignored_ones(self):
        objects, ignored = np.array([1, 0, 0, 2, 0]), np.array([0, 1, 0, 0, 0])
        known, labelled = np.array([1, 1, 1, 0, 1]), np.array([1, 1, 1, 1, 0])
        assert descriptor_weight(objects, known, labelled, ignored).tolist() == [1, 1, 0, 0, 0]

    def read(self, **options) -> Labels:
        row = np.array([[0, 5, 5, 7, 7, 9]], np.uint64)
        mask = options.pop("mask", None)
        return TrainingVolume(
            placed(np.zeros((1, 6), np.uint8)),
            placed(row),
            mask=None if mask is None else placed(np.array([mask], np.uint8)),
            **options,
        ).read_labels((0, -1), (1, 7))

    def test_beyond_the_volume_nothing_is_known(self):
        found = self.read()
        assert found.objects.tolist() == [[0, 0, 5, 5, 7, 7, 9, 0]]
        assert found.known.tolist() == [[0, 1, 1, 1, 1, 1, 1, 0]]
        assert found.fraction == 6 / 8

    def test_mask(self):
        assert self.read(mask=[1, 1, 0, 0, 1, 1]).known.tolist() == [[0, 1, 1, 0, 0, 1, 1, 0]]

    def test_sparse_labels(self):
        found = self.read(labelled_ids=[7])
        assert found.objects.tolist() == [[0, 0, 0, 0, 7, 7, 0, 0]]
        assert found.labelled.tolist() == [[0, 0, 0, 0, 1, 1, 0, 0]]

    def test_ignored_objects_are_known_background(self):
        found = self.read(ignored_ids=[7])
        assert found.objects.tolist() == [[0, 0, 5, 5, 0, 0, 9, 0]]
        assert found.ignored.tolist() == [[0, 0, 0, 0, 1, 1, 0, 0]]
        assert found.labelled[0, 1:7].all()
        assert found.known[0, 1:7].all()

    def test_unlabelled_background(self):
        found = self.read(unlabelled_background=True)
        assert found.labelled.tolist() == [[0, 0, 1, 1, 1, 1, 1, 0]]

    def test_glia_is_learnt_to_be_nothing(self):
        whole = volume((64, 64), number=2)
        glia = TrainingVolume(whole.raw, whole.labels, ignored_ids=[2])
        of = spec(augmentation=NOTHING)
        for sampler in samplers(prepared(glia, of=of), of):
            for i in range(5):
                sample = sampler[i]
                nothing = (sample.targets["lsds"] == 0).all(axis=0)
                assert (sample.weights["lsds"][:, nothing] == 1).all()
                assert (sample.weights["affinities"] > 0).all()

    def test_samples_have_enough_labels(self):
        whole = volume((64, 64))
        mask = np.zeros((64, 64), np.uint8)
        mask[:, :40] = 1
        masked = TrainingVolume(whole.raw, whole.labels, mask=placed(mask))
        for sampler in samplers(prepared(masked, of=spec()), spec("affinities", minimum_labelled=0.9)):
            counted = [np.mean(sampler[i].weights["affinities"] != 0) for i in range(10)]
            assert min(counted) >= 0.8
            assert min(counted) < 1

    def test_too_few_labels(self):
        none = TrainingVolume(volume().raw, volume().labels, labelled_ids=[999])
        of = spec(minimum_labelled=0.5)
        with pytest.raises(RuntimeError, match="found no place with 50% of its voxels labelled"):
            VolumeDataset(prepared(none, of=of), of)[0]

    @given(seeds)
    def test_large_ids_stay_apart(self, seed):
        ids = np.array([1, 2**31, 2**32 + 1, 2**63, 2**64 - 1], np.uint64)
        labels = np.random.default_rng(seed).choice(ids, (3, 4))
        found = TrainingVolume(placed(np.zeros((3, 4), np.uint8)), placed(labels)).read_labels((0, 0), (3, 4))
        same = labels[..., None] == labels.reshape(-1)
        assert_array_equal(found.objects[..., None] == found.objects.reshape(-1), same)
        assert found.objects.min() > 0
        assert found.objects.max() < 2**31


def samplers(volumes, of, seed=0):
    made = [] if of.augmentation.needs_gunpowder else [VolumeDataset(volumes, of, seed=seed)]
    return [*made, GunpowderSampler(volumes, of, seed=seed)]


class TestBothWays:
    """Volumes as large as a sample leave no choice of place: then both ways give the same."""

    @pytest.mark.parametrize("kind", ["affinities", "lsd", "mtlsd"])
    @pytest.mark.parametrize("dims", [2, 3])
    @pytest.mark.parametrize("masks", [{}, {"labelled_ids": [1, 2, 3, 4, 5]}, {"ignored_ids": [1, 2, 3]}])
    def test_equal(self, kind, dims, masks):
        of = spec(kind, dims, AugmentationConfig(grow_boundary=1), lsd_downsample=2)
        whole = volume(of.output_shape)
        mask = np.ones(of.output_shape, np.uint8)
        mask[..., :3] = 0
        chosen = TrainingVolume(whole.raw, whole.labels, mask=placed(mask), **masks)
        plain, gunpowder = samplers(prepared(chosen, of=of), of)
        assert_same(plain[0], gunpowder[0], atol=1e-5)

    @pytest.mark.parametrize("dims", [2, 3])
    def test_shapes(self, dims):
        of = spec(dims=dims, augmentation=NOTHING, border=4)
        for sampler in samplers(prepared(volume((40,) * dims), of=of), of):
            sample = sampler[0]
            assert sample.raw.shape == (1, *of.input_shape)
            assert sample.targets["affinities"].shape == (dims, *of.output_shape)
            assert sample.targets["lsds"].shape == ({2: 6, 3: 10}[dims], *of.output_shape)
            assert -1 <= sample.raw.min() < sample.raw.max() <= 1

    def test_raw_and_targets_stay_together(self):
        """Raw data are the labels: affinities follow from the raw data of a sample."""
        labels = cells((64, 64), number=6)
        whole = TrainingVolume(placed((40 * labels).astype(np.uint8)), placed(labels))
        of = spec("affinities", augmentation=AugmentationConfig(mirror=(0, 1), transpose=(0, 1)))
        cut = tuple(slice(b, b + n) for b, n in zip(of.before, of.output_shape, strict=True))
        for sampler in samplers(prepared(whole, of=of), of):
            for i in range(8):
                sample = sampler[i]
                seen = np.round((sample.raw[0] + 1) * 255 / 2 / 40).astype(np.uint64)
                counted = sample.weights["affinities"] != 0
                expected = affinities(seen)[(slice(None), *cut)]
                assert_array_equal(sample.targets["affinities"][counted], expected[counted])
                assert counted.mean() > 0.9

    def test_every_orientation_comes_up(self):
        of = spec(
            "affinities", augmentation=AugmentationConfig(mirror=(0, 1), transpose=(0, 1)), balance=False
        )
        whole = volume(of.output_shape)
        for sampler in samplers(prepared(whole, of=of), of):
            assert len({sampler[i].raw.tobytes() for i in range(60)}) == 8

    @pytest.mark.parametrize("seed", [0, 1])
    def test_seed_and_number_decide(self, seed):
        of = spec()
        volumes = prepared(volume(), of=of)
        for one, other in zip(*(samplers(volumes, of, seed) for _ in range(2)), strict=True):
            numbers = [5, 0, 3]
            found = {i: one[i] for i in numbers}
            for i in reversed(numbers):
                assert_same(found[i], other[i], rtol=0)
            assert not np.array_equal(found[0].raw, found[3].raw)

    def test_probabilities(self):
        of = spec("affinities", augmentation=NOTHING)
        dark, light = (placed(np.full((40, 40), value, np.uint8)) for value in (0, 255))
        labels = placed(cells((40, 40)))
        volumes = [TrainingVolume(dark, labels, probability=3), TrainingVolume(light, labels, probability=1)]
        for sampler in samplers(prepared(*volumes, of=of), of):
            share = np.mean([sampler[i].raw.mean() < 0 for i in range(100)])
            assert 0.6 < share < 0.9

    def test_stored_volumes_and_raw_that_reaches_farther(self, tmp_path):
        raw = image_of(cells((80, 80)))
        save_volume(raw, tmp_path / "v.zarr/raw", voxel_size=(4, 4))
        save_volume(
            cells((80, 80))[20:60, 20:60], tmp_path / "v.zarr/labels", voxel_size=(4, 4), offset=(80, 80)
        )
        whole = TrainingVolume(open_volume(tmp_path / "v.zarr/raw"), open_volume(tmp_path / "v.zarr/labels"))
        assert_allclose(whole.read_raw((-4, 0), (40, 50))[0], raw[16:60, 20:70] / 255, atol=1e-6)
        of = spec(augmentation=NOTHING)
        one, other = samplers([whole], of)
        assert one[0].raw.shape == other[0].raw.shape


class TestSections:
    def test_volumes_are_cut_for_networks_in_2d(self):
        of = spec(augmentation=NOTHING)
        labels = cells((3, 40, 40))
        raw = np.zeros((3, 40, 40), np.uint8)
        raw[2] = 255
        sections = prepared(TrainingVolume(placed(raw), placed(labels), probability=3), of=of)
        assert [section.shape for section in sections] == [(40, 40)] * 3
        assert [section.probability for section in sections] == [1, 1, 1]
        assert_array_equal(sections[2].read_labels((0, 0), (40, 40)).objects, labels[2])
        assert sections[2].read_raw((0, 0), (4, 4)).min() == 1


@given(st.integers(1, 6), st.integers(-20, 0), st.integers(1, 20))
def test_mirroring_is_that_of_numpy(size, begin, end):
    padded = np.pad(np.arange(size), (-begin, max(0, end - size)), mode="reflect")
    assert_array_equal(mirrored(np.arange(begin, end), size), padded[: end - begin])


class TestErrors:
    def test_labels_that_are_not_integers(self):
        with pytest.raises(TypeError, match="volume: labels: found dtype float64, expected integers"):
            TrainingVolume(placed(np.zeros((8, 8), np.uint8)), placed(np.zeros((8, 8))))

    def test_raw_of_another_dtype(self):
        with pytest.raises(TypeError, match="raw: found dtype int64"):
            TrainingVolume(placed(np.zeros((8, 8), np.int64)), placed(np.zeros((8, 8), np.uint8)))

    def test_voxel_sizes_differ(self):
        raw = placed(np.zeros((8, 8), np.uint8), voxel_size=8)
        with pytest.raises(
            ValueError, match=r"raw: found voxels of \(8.0, 8.0\) nanometer, expected those of the labels"
        ):
            TrainingVolume(raw, placed(np.zeros((8, 8), np.uint8)))

    def test_voxels_between_voxels(self):
        raw = placed(np.zeros((8, 8), np.uint8), offset=-2)
        with pytest.raises(ValueError, match="expected whole voxels from that of the labels"):
            TrainingVolume(raw, placed(np.zeros((4, 4), np.uint8)))

    def test_labels_outside_of_raw(self):
        with pytest.raises(ValueError, match=r"raw: found .* which does not cover the labels"):
            TrainingVolume(placed(np.zeros((4, 4), np.uint8)), placed(np.zeros((8, 8), np.uint8)))

    def test_no_volumes(self):
        with pytest.raises(ValueError, match="volumes: found none"):
            prepared(of=spec())

    def test_volume_smaller_than_a_sample(self):
        with pytest.raises(
            ValueError, match=r"labels: found \(10, 10\) voxels, expected at least \(24, 24\), the output"
        ):
            prepared(volume((10, 10)), of=spec())

    def test_voxels_the_network_is_not_for(self):
        with pytest.raises(ValueError, match=r"found voxels of \(4.0, 4.0\) .*, expected \(8.0, 8.0\)"):
            prepare_volumes([volume()], dims=2, channels=1, voxel_size=(8, 8), shape=(8, 8))

    def test_channels_the_network_does_not_take(self):
        with pytest.raises(ValueError, match="raw: found 1 channels, expected the 2 of the network"):
            prepare_volumes([volume()], dims=2, channels=2, voxel_size=(4, 4), shape=(8, 8))

    def test_images_for_a_network_in_3d(self):
        with pytest.raises(ValueError, match="found 2 axes, expected the 3 of the network"):
            prepared(volume(), of=spec(dims=3))

    def test_shape_no_network_gives(self):
        with pytest.raises(ValueError, match=r"output shape: found \(25, 25\)"):
            spec(output_shape=(25, 25))

    def test_shape_no_multiple_of_downsample(self):
        with pytest.raises(ValueError, match="expected multiples of lsd_downsample 5"):
            spec(lsd_downsample=5)
