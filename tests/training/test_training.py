"""Training: it learns, it can be interrupted, and it is the same again."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from lsd_dask.networks.checkpoints import load_checkpoint  # noqa: E402
from lsd_dask.networks.models import build_model  # noqa: E402
from lsd_dask.training.crops import VolumeDataset  # noqa: E402
from lsd_dask.training.loop import TrainingOptions, train  # noqa: E402
from lsd_dask.training.validation import Validator, without_dust  # noqa: E402

from ..helpers.training_data import prepared, spec, volume  # noqa: E402

OPTIONS = {"learning_rate": 5e-3, "batch_size": 2, "checkpoint_every": 10, "log_every": 5}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def run(directory, iterations, *, of=None, seed=0, validate=None, resume=True, stop_at=None, **options):
    """Train a new network; `stop_at` interrupts after so many steps."""
    of = of or spec()
    torch.manual_seed(seed)
    model = build_model(of.model)

    def progress(iteration, losses):
        if iteration == stop_at:
            raise KeyboardInterrupt

    try:
        result = train(
            model,
            VolumeDataset(prepared(volume(), of=of), of, seed=seed),
            str(directory),
            TrainingOptions(iterations, seed=seed, **{**OPTIONS, **options}),
            voxel_size=(4.0,) * of.model.dims,
            validate=validate,
            progress=progress,
            resume=resume,
        )
    except KeyboardInterrupt:
        result = None
    return model, result


def parameters(path):
    return load_checkpoint(str(path)).model.state_dict()


def assert_equal(one, other):
    """Two states of plain values and tensors, to the bit."""
    assert type(one) is type(other)
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_equal(one[key], other[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_equal(a, b)
    else:
        assert one == other


@pytest.mark.parametrize("kind", ["affinities", "lsd", "mtlsd"])
def test_a_hundred_steps_beat_a_constant(kind, tmp_path):
    of = spec(kind)
    losses = []
    torch.manual_seed(0)
    sampler = VolumeDataset(prepared(volume(), of=of), of)
    model = build_model(of.model)
    train(
        model,
        sampler,
        str(tmp_path),
        TrainingOptions(100, **OPTIONS),
        voxel_size=(4.0, 4.0),
        progress=lambda iteration, found: losses.append(found["loss"]),
    )
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10])
    of_model, of_constant = [], []
    for number in range(1000, 1010):
        sample = sampler[number]
        with torch.no_grad():
            predictions = model(torch.from_numpy(sample.raw)[None])
        for name, target in sample.targets.items():
            weight = sample.weights[name]
            axes = tuple(range(1, target.ndim))
            mean = (weight * target).sum(axes, keepdims=True) / weight.sum(axes, keepdims=True)
            of_model.append((weight * (predictions[name][0].numpy() - target) ** 2).mean())
            of_constant.append((weight * (mean - target) ** 2).mean())
    # The constant knows the mean of each channel of each sample.
    assert np.mean(of_model) < 0.8 * np.mean(of_constant)


class TestResuming:
    def test_is_bitwise(self, tmp_path):
        """Interrupted within and at a checkpoint, and not at all."""
        run(tmp_path / "whole", 30, decay="cosine", warmup=5)
        for stop in (17, 20):
            directory = tmp_path / str(stop)
            run(directory, 30, decay="cosine", warmup=5, stop_at=stop)
            _, result = run(directory, 30, seed=0, decay="cosine", warmup=5)
            assert result.resumed == 10 if stop == 17 else 20
            one, other = (load_checkpoint(str(d / "last.pt")) for d in (tmp_path / "whole", directory))
            assert_equal(one.model.state_dict(), other.model.state_dict())
            assert_equal(dict(one.training_state), dict(other.training_state))

    def test_with_other_random_numbers_in_between(self, tmp_path):
        run(tmp_path / "whole", 20)
        run(tmp_path / "parts", 20, stop_at=15)
        np.random.seed(123)  # noqa: NPY002 - the generator that gunpowder uses
        torch.manual_seed(123)
        run(tmp_path / "parts", 20)
        assert_equal(parameters(tmp_path / "whole/last.pt"), parameters(tmp_path / "parts/last.pt"))

    def test_a_longer_training_begins_as_a_shorter_one(self, tmp_path):
        run(tmp_path / "one", 10)
        _, result = run(tmp_path / "one", 20)
        assert result.resumed == 10
        run(tmp_path / "other", 20)
        assert_equal(parameters(tmp_path / "one/last.pt"), parameters(tmp_path / "other/last.pt"))

    def test_what_is_done_is_done(self, tmp_path):
        run(tmp_path, 10)
        before = parameters(tmp_path / "last.pt")
        _, result = run(tmp_path, 10)
        assert result.resumed == result.iteration == 10
        assert_equal(before, parameters(tmp_path / "last.pt"))

    def test_another_training_is_refused(self, tmp_path):
        run(tmp_path, 10)
        with pytest.raises(
            ValueError, match=r"found a training that was told something else \(learning_rate\)"
        ):
            run(tmp_path, 20, learning_rate=1e-4)
        with pytest.raises(ValueError, match=r"\(network\); choose another folder, or resume=False"):
            run(tmp_path, 20, of=spec("lsd"))
        _, result = run(tmp_path, 10, learning_rate=1e-4, resume=False)
        assert result.resumed == 0

    def test_a_checkpoint_cut_short_is_told(self, tmp_path):
        run(tmp_path, 10)
        content = (tmp_path / "last.pt").read_bytes()
        (tmp_path / "last.pt").write_bytes(content[: len(content) // 2])
        with pytest.raises(ValueError, match=r"last\.pt: not a readable checkpoint"):
            run(tmp_path, 20)


class TestSeeds:
    def test_the_same_seed_gives_the_same_network(self, tmp_path):
        for name in ("a", "b"):
            run(tmp_path / name, 10, seed=3)
        assert_equal(parameters(tmp_path / "a/last.pt"), parameters(tmp_path / "b/last.pt"))

    def test_another_seed_gives_another_one(self, tmp_path):
        found = [run(tmp_path / str(seed), 2, seed=seed)[1].loss["loss"] for seed in (0, 1)]
        assert found[0] != found[1]


class TestMaskedLoss:
    def test_nothing_is_learnt_where_nothing_is_known(self, tmp_path):
        whole = volume()
        of = spec()
        unknown = type(whole)(whole.raw, whole.labels, mask=0 * whole.labels)
        torch.manual_seed(0)
        model = build_model(of.model)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        train(
            model,
            VolumeDataset(prepared(unknown, of=of), of),
            str(tmp_path),
            TrainingOptions(3, **OPTIONS),
            voxel_size=(4.0, 4.0),
        )
        assert_equal(before, dict(model.state_dict()))


class TestValidation:
    def validator(self, of, **options):
        return Validator(prepared(volume(seed=1), of=of), of, (4.0, 4.0), **options)

    def test_best_checkpoint_is_kept(self, tmp_path):
        scores = iter([3.0, 1.0, 2.0])
        _, result = run(tmp_path, 15, validate=lambda model: {"score": next(scores)}, validate_every=5)
        assert [found["score"] for found in result.validations] == [3, 1, 2]
        assert load_checkpoint(result.best).iteration == 10
        assert load_checkpoint(result.last).iteration == 15
        assert result.best == str(tmp_path / "best.pt")

    def test_scores_fall_with_training(self, tmp_path):
        of = spec()
        validate = self.validator(of)
        torch.manual_seed(0)
        before = validate(build_model(of.model).eval())
        _, result = run(tmp_path, 150, of=of, validate=validate)
        after = result.validations[-1]
        assert after["loss"] < 0.5 * before["loss"]
        assert after["voi_sum"] < min(1.0, before["voi_sum"])
        assert after["voi_sum"] == after["voi_split"] + after["voi_merge"] == after["score"]

    def test_loss_is_that_of_a_sample_of_the_whole_volume(self):
        of = spec(lsd_downsample=2)
        whole = volume((24, 24))
        torch.manual_seed(0)
        model = build_model(of.model).eval()
        found = Validator(prepared(whole, of=of), of, (4.0, 4.0))(model)
        plain = spec(
            lsd_downsample=2, augmentation=of.augmentation.model_copy(update={"mirror": (), "transpose": ()})
        )
        sample = VolumeDataset(prepared(whole, of=plain), plain)[0]
        # Intensities of the sample vary; those of the validation do not.
        raw = whole.read_raw(
            [-b for b in of.before], [n - b for n, b in zip(of.input_shape, of.before, strict=True)]
        )
        with torch.no_grad():
            predictions = model(torch.from_numpy(2 * raw - 1)[None])
        for name, target in sample.targets.items():
            weight = sample.weights[name]
            error = weight * (predictions[name][0].numpy() - target) ** 2
            assert found[name] == pytest.approx(error.sum() / np.count_nonzero(weight), rel=0.02)

    def test_descriptors_alone_are_scored_by_their_loss(self):
        of = spec("lsd")
        found = self.validator(of)(build_model(of.model).eval())
        assert found.keys() == {"lsds", "loss", "score"}
        assert found["score"] == found["loss"] == found["lsds"]

    def test_dust(self):
        labels = np.array([[1, 1, 2], [3, 3, 3]], np.uint64)
        assert without_dust(labels, 2).tolist() == [[1, 1, 0], [3, 3, 3]]


class TestRecords:
    def test_logs_pictures_and_checkpoints(self, tmp_path):
        run(tmp_path, 10, snapshot_every=5, keep_checkpoints=True, checkpoint_every=5)
        names = {path.name for path in tmp_path.iterdir()}
        checkpoints = {"last.pt", "iteration_0000005.pt", "iteration_0000010.pt"}
        assert names == checkpoints | {"logs", "snapshots", "training.json"}
        assert len(list((tmp_path / "snapshots").glob("*.png"))) == 2
        assert list((tmp_path / "logs").glob("events*"))

    def test_pictures_show_raw_data_targets_and_predictions(self, tmp_path):
        image = pytest.importorskip("PIL.Image")
        run(tmp_path, 5, snapshot_every=5)
        with image.open(tmp_path / "snapshots" / "iteration_0000005.png") as picture:
            colours = np.asarray(picture)
        # Three panels of 24 voxels, enlarged 8 times: raw, affinities, descriptors; predictions below.
        assert colours.shape == (2 * 8 * 24 + 4, 3 * (8 * 24 + 4), 3)
        assert len(np.unique(colours[: 8 * 24, : 8 * 24])) > 10

    def test_a_loss_that_is_not_finite(self, tmp_path):
        with pytest.raises(FloatingPointError, match="iteration 1: found a loss of nan"):
            run(tmp_path, 3, loss_factors={"lsds": float("nan")})
        assert not (tmp_path / "last.pt").exists()

    def test_processes_that_make_samples_change_nothing(self, tmp_path):
        run(tmp_path / "one", 4)
        run(tmp_path / "other", 4, num_workers=1)
        assert_equal(parameters(tmp_path / "one/last.pt"), parameters(tmp_path / "other/last.pt"))

    def test_half_precision(self, tmp_path):
        _, result = run(tmp_path, 40, mixed_precision=True)
        assert result.loss["loss"] < 0.3
