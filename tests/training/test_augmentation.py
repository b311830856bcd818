"""Augmentation: what is asked for happens, stays in its bounds, and is refused where it cannot be done."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

pytest.importorskip("torch")
pytest.importorskip("gunpowder", exc_type=ImportError)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from lsd_dask.training.gunpowder_samples import GunpowderSampler
from lsd_dask.training.augmentation import (
    CHEAP,
    IMAGES,
    ISOTROPIC,
    SECTIONS,
    AugmentationConfig,
    vary_intensity,
)
from lsd_dask.training.crops import VolumeDataset
from lsd_dask.training.labelled_volumes import TrainingVolume
from lsd_dask.training.presets import PRESETS

from ..helpers.strategies import seeds
from ..helpers.training_data import cells, placed, prepared, spec, volume


class TestIntensities:
    @given(seeds, st.floats(0, 1), st.floats(0, 0.5))
    def test_stay_between_0_and_1(self, seed, scale, shift):
        rng = np.random.default_rng(seed)
        config = AugmentationConfig(intensity_scale=(1 - scale, 1 + scale), intensity_shift=(-shift, shift))
        varied = vary_intensity(rng.random((1, 4, 5), np.float32), config, rng)
        assert varied.dtype == np.float32
        assert varied.min() >= 0
        assert varied.max() <= 1

    def test_scale_around_the_mean_and_shift(self):
        raw = np.array([[[0.4, 0.6]]], np.float32)
        config = AugmentationConfig(intensity_scale=(0.5, 0.5), intensity_shift=(0.1, 0.1))
        np.testing.assert_allclose(
            vary_intensity(raw, config, np.random.default_rng(0)), [[[0.55, 0.65]]], rtol=1e-6
        )

    def test_each_section_by_itself(self):
        raw = np.full((1, 5, 3, 3), 0.5, np.float32)
        for flag, different in ((True, 5), (False, 1)):
            config = AugmentationConfig(intensity_shift=(-0.2, 0.2), section_wise=flag)
            varied = vary_intensity(raw, config, np.random.default_rng(0))
            assert varied.shape == raw.shape
            assert len(np.unique(varied)) == different

    def test_gunpowder_does_the_same_to_sections(self):
        grey = placed(np.full((16, 16, 16), 128, np.uint8))
        whole = TrainingVolume(grey, placed(cells((16, 16, 16))))
        config = AugmentationConfig(intensity_shift=(-0.2, 0.2), section_wise=True)
        of = spec("affinities", 3, config)
        for sampler in (
            VolumeDataset(prepared(whole, of=of), of),
            GunpowderSampler(prepared(whole, of=of), of),
        ):
            raw = sampler[0].raw[0]
            assert np.ptp(raw, axis=(1, 2)).max() == 0
            assert len(np.unique(raw)) == len(raw)


class TestDeformation:
    @pytest.mark.parametrize("dims", [2, 3])
    @pytest.mark.parametrize("rotation", [0, 90])
    def test_raw_data_and_labels_stay_together(self, dims, rotation):
        """Raw data are the labels: where they are equal, deformed labels are."""
        labels = cells((48,) * dims, number=4)
        whole = TrainingVolume(placed((60 * labels).astype(np.uint8)), placed(labels))
        config = AugmentationConfig(
            elastic_control_points=(10,) * dims, elastic_jitter=(2,) * dims, rotation=rotation, mirror=(0, 1)
        )
        of = spec("affinities", dims, config, balance=False)
        sampler = GunpowderSampler(prepared(whole, of=of), of)
        wrong = []
        for number in range(4):
            sample = sampler[number]
            inside = tuple(slice(b, b + n) for b, n in zip(of.before, of.output_shape, strict=True))
            grey = sample.raw[0]
            differs = np.abs(grey - np.roll(grey, 1, axis=-1))[inside] > 0.2
            boundary = sample.targets["affinities"][-1] == 0
            known = sample.weights["affinities"][-1] != 0
            wrong.append((differs != boundary)[known].mean())
        # Labels are not interpolated and raw data are, so that edges may be a voxel apart.
        assert np.mean(wrong) < 0.12

    def test_nothing_is_learnt_beyond_the_volume(self):
        whole = volume((32, 32))
        config = AugmentationConfig(elastic_control_points=(10, 10), elastic_jitter=(0, 0), rotation=360)
        of = spec("affinities", 2, config, output_shape=(28, 28), minimum_labelled=0.5)
        sampler = GunpowderSampler(prepared(whole, of=of), of)
        counted = [np.mean(sampler[i].weights["affinities"] != 0) for i in range(8)]
        assert 0.4 < min(counted) < 0.98

    @pytest.mark.parametrize("config", [ISOTROPIC, SECTIONS])
    def test_those_of_the_paper(self, config):
        of = spec("mtlsd", 3, config, minimum_labelled=0.5)
        volumes = prepared(volume((24, 40, 40)), of=of)
        one, other = (GunpowderSampler(volumes, of, seed=1)[2] for _ in range(2))
        assert one.raw.shape == (1, *of.input_shape)
        assert np.array_equal(one.raw, other.raw)
        assert np.array_equal(one.targets["lsds"], other.targets["lsds"])
        assert set(np.unique(one.targets["affinities"])) == {0, 1}


class TestDefects:
    def test_missing_sections(self):
        whole = TrainingVolume(placed(np.full((24, 24, 24), 200, np.uint8)), placed(cells((24, 24, 24))))
        of = spec("affinities", 3, AugmentationConfig(missing_sections=0.5))
        raw = GunpowderSampler(prepared(whole, of=of), of)[0].raw[0]
        black = (raw == -1).all(axis=(1, 2))
        assert 0.1 < black.mean() < 0.9

    def test_need_gunpowder(self):
        of = spec("affinities", 3, AugmentationConfig(missing_sections=0.5))
        with pytest.raises(ValueError, match="expected what can be done without gunpowder"):
            VolumeDataset(prepared(volume((24, 24, 24)), of=of), of)


class TestErrors:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (
                {"intensity_scale": (1.1, 0.9)},
                "intensity_scale: found 1.1 to 0.9, expected the lower number first",
            ),
            ({"rotation": 90}, "found no elastic_control_points"),
            ({"missing_sections": 0.6, "low_contrast_sections": 0.6}, "found a sum of more than 1"),
            ({"mirrors": (0,)}, "mirrors"),
        ],
    )
    def test_what_makes_no_sense(self, options, message):
        with pytest.raises(ValidationError, match=message):
            AugmentationConfig(**options)

    @pytest.mark.parametrize(
        ("options", "dims", "message"),
        [
            ({"mirror": (0, 2)}, 2, r"mirror: found the axes \(0, 2\), expected some of \(0, 1\)"),
            (
                {"elastic_control_points": (40, 40, 40)},
                2,
                "elastic_control_points: found 3 numbers, expected 2",
            ),
            ({"section_wise": True}, 2, "section_wise: found for images, expected volumes of sections"),
        ],
    )
    def test_what_does_not_fit_the_axes(self, options, dims, message):
        with pytest.raises(ValueError, match=message):
            AugmentationConfig(**options).check_axes(dims, (4.0,) * dims, (16,) * dims)

    def test_axes_with_other_voxels_cannot_change_places(self):
        with pytest.raises(ValueError, match="expected axes with voxels of one size"):
            CHEAP.check_axes(3, (40.0, 4.0, 4.0), (16, 16, 16))
        with pytest.raises(ValueError, match="expected axes with as many voxels as each other"):
            CHEAP.check_axes(3, (4.0, 4.0, 4.0), (8, 16, 16))


@pytest.mark.parametrize("name", PRESETS)
def test_presets_can_be_done(name):
    preset = PRESETS[name]
    preset.augmentation.check_axes(preset.network.dims, preset.voxel_size, preset.input_shape("mtlsd"))
    assert (preset.augmentation in (IMAGES, CHEAP)) != preset.augmentation.needs_gunpowder
