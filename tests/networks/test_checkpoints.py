"""Checkpoints: what is written comes back, what is none is told, and published networks can be read."""

import io
import pickle
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from lsd_dask.networks.checkpoints import load_checkpoint, load_published, save_checkpoint  # noqa: E402
from lsd_dask.networks.models import ModelConfig, build_model  # noqa: E402
from lsd_dask.storage import files  # noqa: E402

from ..helpers.funlib import Network, Pass  # noqa: E402
from ..helpers.networks import KINDS, config  # noqa: E402


@pytest.fixture
def saved(tmp_path: Path) -> str:
    path = str(tmp_path / "network.pt")
    save_checkpoint(path, build_model(config("mtlsd", 2)), voxel_size=(4, 4), iteration=12)
    return path


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_comes_back(kind: str, dims: int, tmp_path: Path) -> None:
    model = build_model(config(kind, dims))
    state = {"optimizer": {"step": torch.tensor(3.0)}, "random": torch.get_rng_state(), "losses": [0.5, 0.25]}
    path = str(tmp_path / "deep" / "network.pt")
    voxel_size = (40.0, 4.5, 4.5)[-dims:]
    save_checkpoint(
        path, model, voxel_size=voxel_size, iteration=12, raw_range=(0.1, 0.9), training_state=state
    )
    found = load_checkpoint(path)
    assert found.config == model.config
    assert found.voxel_size == voxel_size
    assert (found.iteration, found.raw_range, found.path) == (12, (0.1, 0.9), path)
    assert found.training_state["losses"] == [0.5, 0.25]
    assert torch.equal(found.training_state["random"], state["random"])
    for name, value in model.state_dict().items():
        assert torch.equal(found.model.state_dict()[name], value)
    assert not found.model.training
    assert list(Path(path).parent.iterdir()) == [Path(path)]


def test_checkpoints_may_be_in_any_store() -> None:
    path = "memory://checkpoints/network.pt"
    save_checkpoint(path, build_model(config("lsd", 2)), voxel_size=(4, 4), iteration=1)
    assert load_checkpoint(path).iteration == 1


def test_an_old_checkpoint_stays_where_a_new_one_cannot_be_written(
    saved: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        save_checkpoint(saved, build_model(config("lsd", 2)), voxel_size=(4, 4), iteration=99)
    monkeypatch.undo()
    assert load_checkpoint(saved).iteration == 12


class TestErrors:
    def test_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match=r"gone.pt: there is no such checkpoint"):
            load_checkpoint(str(tmp_path / "gone.pt"))
        with pytest.raises(ValueError, match="found a directory"):
            load_checkpoint(str(tmp_path))

    @pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 cut short"])
    def test_another_file(self, content: bytes, tmp_path: Path) -> None:
        path = tmp_path / "network.pt"
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"network.pt: not a readable checkpoint of PyTorch"):
            load_checkpoint(str(path))

    def test_a_file_cut_short(self, saved: str) -> None:
        content = Path(saved).read_bytes()
        for end in (10, len(content) // 2, len(content) - 30):
            Path(saved).write_bytes(content[:end])
            with pytest.raises(ValueError, match="was it cut short"):
                load_checkpoint(saved)

    def test_code_is_not_run(self, tmp_path: Path) -> None:
        path, ran = tmp_path / "network.pt", tmp_path / "ran"

        class Evil:
            def __reduce__(self) -> Any:
                return Path.touch, (ran,)

        torch.save({"format": "lsd_dask checkpoint", "model_config": Evil()}, path)
        with pytest.raises(ValueError, match=r"network.pt: not a readable checkpoint"):
            load_checkpoint(str(path))
        path.write_bytes(pickle.dumps(Evil(), protocol=2))
        with pytest.raises(ValueError, match=r"network.pt: not a readable checkpoint"):
            load_checkpoint(str(path))
        assert not ran.exists()

    @pytest.mark.parametrize("content", [{"weights": torch.zeros(3)}, {"epoch": 3}, {}])
    def test_a_checkpoint_of_another_program(self, content: Any, tmp_path: Path) -> None:
        path = tmp_path / "network.pt"
        torch.save(content, path)
        with pytest.raises(
            ValueError, match=r"network.pt: found the keys .*, expected a checkpoint of lsd_dask"
        ):
            load_checkpoint(str(path))

    def test_no_dictionary(self, tmp_path: Path) -> None:
        torch.save(torch.zeros(3), tmp_path / "network.pt")
        with pytest.raises(ValueError, match="found a Tensor, expected the dictionary"):
            load_checkpoint(str(tmp_path / "network.pt"))

    def test_parameters_that_do_not_fit(self, saved: str) -> None:
        content = torch.load(saved, weights_only=True)

        def refused(**changes: Any) -> str:
            torch.save({**content, **changes}, saved)
            with pytest.raises(ValueError, match=r"network.pt: found parameters of another network") as error:
                load_checkpoint(saved)
            return str(error.value)

        parameters = content["model_state_dict"]
        wider = {**parameters, "aff_head.conv_pass.0.weight": torch.zeros(3, 3, 1, 1)}
        assert "aff_head.conv_pass.0.weight of shape (3, 3, 1, 1), expected (2, 3, 1, 1)" in refused(
            model_state_dict=wider
        )
        without = {key: value for key, value in parameters.items() if not key.startswith("lsd_head")}
        assert "without lsd_head.conv_pass.0.weight, lsd_head.conv_pass.0.bias" in refused(
            model_state_dict=without
        )
        assert "with third_head, which this network does not have" in refused(
            model_state_dict={**parameters, "third_head": torch.zeros(1)}
        )

    def test_a_network_of_another_version(self, saved: str) -> None:
        content = torch.load(saved, weights_only=True)
        torch.save({**content, "model_config": {"kind": "transformer"}}, saved)
        with pytest.raises(ValueError, match=r"network.pt: found a network that this version does not know"):
            load_checkpoint(saved)

    def test_voxel_sizes(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"voxel_size: found \(8, 4, 4\), expected 2 numbers"):
            save_checkpoint(
                str(tmp_path / "n.pt"), build_model(config("lsd", 2)), voxel_size=(8, 4, 4), iteration=1
            )
        assert not list(tmp_path.iterdir())


class Published(torch.nn.Module):
    """A model as the reference's notebooks have it."""

    def __init__(self, dims: int) -> None:
        super().__init__()
        kernel, point = (3,) * dims, [(1,) * dims]
        self.unet = Network(
            1, 4, 3, [(2,) * dims] * 2, [[kernel, kernel]] * 3, [[kernel, kernel]] * 2, constant_upsample=True
        )
        self.lsd_head = Pass(4, 6 if dims == 2 else 10, point, torch.nn.Sigmoid, pad=False)
        self.aff_head = Pass(4, dims, point, torch.nn.Sigmoid, pad=False)

    def forward(self, x: Any) -> Any:
        z = self.unet(x, crop=False)
        return {"affinities": self.aff_head(z), "lsds": self.lsd_head(z)}


class TestPublished:
    def network(self, dims: Any) -> ModelConfig:
        return ModelConfig(
            kind="mtlsd",
            dims=dims,
            num_fmaps=4,
            fmap_inc_factor=3,
            downsample_factors=((2,) * dims,) * 2,
            constant_upsample=True,
        )

    @pytest.mark.parametrize("dims", [2, 3])
    @pytest.mark.parametrize("wrap", ["bare", "gunpowder", "several GPUs"])
    def test_gives_the_same_output(self, dims: int, wrap: str, tmp_path: Path) -> None:
        theirs = Published(dims).eval()
        state: dict[str, Any] = dict(theirs.state_dict())
        if wrap == "several GPUs":
            state = {f"module.{name}": value for name, value in state.items()}
        content = {"model_state_dict": state, "optimizer_state_dict": {}} if wrap == "gunpowder" else state
        path = str(tmp_path / "model_checkpoint_50000")
        torch.save(content, path)
        found = load_published(path, self.network(dims), voxel_size=(4,) * dims, raw_range=(-1, 1))
        assert found.raw_range == (-1, 1)
        shape = found.model.valid_input_shapes((60,) * dims)[0]
        x = torch.rand(1, 1, *shape)
        with torch.no_grad():
            ours, expected = found.model(x), theirs(x)
        for name, values in expected.items():
            torch.testing.assert_close(ours[name], values)

    def test_ours_can_be_read_there(self) -> None:
        theirs = Published(2)
        theirs.load_state_dict(build_model(self.network(2)).state_dict())

    def test_another_network_is_told(self, tmp_path: Path) -> None:
        path = str(tmp_path / "model_checkpoint_50000")
        torch.save(Published(2).state_dict(), path)
        three = self.network(2).model_copy(update={"num_fmaps": 5})
        with pytest.raises(ValueError, match=r"of shape \(4, 1, 3, 3\), expected \(5, 1, 3, 3\)"):
            load_published(path, three, voxel_size=(4, 4))
        lsd = self.network(2).model_copy(update={"kind": "lsd"})
        with pytest.raises(ValueError, match="with aff_head"):
            load_published(path, lsd, voxel_size=(4, 4))
        buffer = io.BytesIO()
        torch.save({"iteration": 3}, buffer)
        Path(path).write_bytes(buffer.getvalue())
        with pytest.raises(ValueError, match="found the keys iteration, expected the parameters"):
            load_published(path, lsd, voxel_size=(4, 4))

    def test_is_pointed_to(self, tmp_path: Path) -> None:
        torch.save({"model_state_dict": Published(2).state_dict()}, tmp_path / "n")
        with pytest.raises(ValueError, match="load_published"):
            load_checkpoint(str(tmp_path / "n"))
