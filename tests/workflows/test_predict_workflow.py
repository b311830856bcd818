"""The step `predict`, and `segment` from raw data: one answer, nothing twice, and errors before any work."""

import json
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest
from distributed import Client, LocalCluster, Worker, get_worker

torch = pytest.importorskip("torch")

import lsd_dask as ld  # noqa: E402
from lsd_dask import workflows  # noqa: E402
from lsd_dask.blockwise.blocks import Block, BlockGrid  # noqa: E402
from lsd_dask.blockwise.ledgers import Ledger  # noqa: E402
from lsd_dask.blockwise.runs import RunFailedError, run_blocks  # noqa: E402
from lsd_dask.networks.checkpoints import save_checkpoint  # noqa: E402
from lsd_dask.volumes.stored import StoredVolume  # noqa: E402
from lsd_dask.workflows.config.loading import ConfigError  # noqa: E402

from ..helpers.networks import VOXEL_SIZE, checkpoint  # noqa: E402

SHAPE = (14, 40, 46)
OFFSET = (80.0, 400.0, 0.0)


def world(*voxels: int) -> tuple[float, ...]:
    return tuple(n * v for n, v in zip(voxels, VOXEL_SIZE, strict=True))


def raw() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, SHAPE).astype(np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Raw data, and a checkpoint of a network of each kind."""
    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("predict")
    place = {"voxel_size": VOXEL_SIZE, "offset": OFFSET}
    ld.save_volume(raw(), path / "em.zarr/volumes/raw", **place)
    for kind in ("affinities", "lsd", "mtlsd", "acrlsd"):
        model = checkpoint(kind).model
        save_checkpoint(str(path / f"{kind}.pt"), model, voxel_size=VOXEL_SIZE, iteration=7)
    return path


def run(folder: Path, out: Path, kind: str = "mtlsd", **options: Any) -> Any:
    given = {"raw_file": folder / "em.zarr", "checkpoint": folder / f"{kind}.pt", "out_file": out}
    return workflows.predict(given, **options)


def values(path: str | Path) -> np.ndarray:
    array: np.ndarray = ld.open_volume(path).values
    return array


def assert_close(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.dtype == expected.dtype == np.uint8
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).max() <= 1


def test_one_answer_whatever_the_blocks(cluster_client: Client, folder: Path, tmp_path: Path) -> None:
    expected = ld.predict(raw(), folder / "mtlsd.pt")
    for number, block in enumerate([None, (5, 16, 13), (14, 40, 46)]):
        size = None if block is None else world(*block)
        result = run(folder, tmp_path / f"{number}.zarr", block_size=size)
        assert set(result.outputs) == {"affinities", "lsds"}
        assert result.blocks == (36 if number == 1 else 1)
        for name, path in result.outputs.items():
            volume = ld.open_volume(path)
            assert_close(volume.values, expected[name])
            grid = ld.volumes.grid_of(volume)
            assert (grid.voxel_size, grid.offset) == (VOXEL_SIZE, OFFSET)
        again = run(folder, tmp_path / f"{number}.zarr", block_size=size)
        assert again.skipped == again.blocks == result.blocks


def test_borders_regions_and_outputs(cluster_client: Client, folder: Path, tmp_path: Path) -> None:
    valid = run(folder, tmp_path / "valid.zarr", borders="valid", outputs="lsds")
    assert list(valid.outputs) == ["lsds"]
    expected = ld.predict(raw(), folder / "mtlsd.pt", context="valid")["lsds"]
    assert_close(values(valid.outputs["lsds"]), expected)
    # A region is predicted as a part of the whole is: what lies beside it is read.
    whole = ld.predict(raw(), folder / "mtlsd.pt")["affinities"]
    box = {"offset": (120, 420, 40), "size": world(7, 21, 20)}
    region = tuple(slice(*ends) for ends in ((1, 8), (5, 26), (10, 30)))
    json_file = tmp_path / "region.json"
    json_file.write_text(json.dumps({"container": str(folder / "em.zarr"), **box}))
    for number, options in enumerate(
        (
            {"roi_offset": box["offset"], "roi_shape": box["size"]},
            {"raw_file": {"container": str(folder / "em.zarr"), **box}},
            {"raw_file": json_file},
        )
    ):
        result = run(folder, tmp_path / f"region{number}.zarr", block_size=world(4, 8, 8), **options)
        found = ld.open_volume(result.outputs["affinities"])
        assert_close(found.values, whole[(slice(None), *region)])
        assert ld.volumes.grid_of(found).offset == box["offset"]


def test_the_keys_of_the_funkelab_scripts(cluster_client: Client, folder: Path, tmp_path: Path) -> None:
    setup = tmp_path / "hemi/02_train/setup01"
    setup.mkdir(parents=True)
    (setup / "model_checkpoint_400").write_bytes((folder / "affinities.pt").read_bytes())
    result = workflows.predict(
        base_dir=tmp_path,
        experiment="hemi",
        setup="setup01",
        iteration=400,
        raw_file=folder / "em.zarr",
        raw_dataset="volumes/raw",
        out_base=tmp_path / "output",
        file_name="foo.zarr",
        num_workers=1,
        db_host="mongodb client",
        db_name="foo",
        queue="local",
    )
    assert result.outputs["affinities"] == f"{tmp_path}/output/setup01/400/foo.zarr/volumes/affs"
    assert_close(
        values(result.outputs["affinities"]), ld.predict(raw(), folder / "affinities.pt")["affinities"]
    )


def test_autocontext_on_the_fly_and_by_way_of_a_disk(
    cluster_client: Client, folder: Path, tmp_path: Path
) -> None:
    fly = run(folder, tmp_path / "fly.zarr", "acrlsd", block_size=world(7, 20, 23))
    assert list(fly.outputs) == ["affinities"]
    assert_close(values(fly.outputs["affinities"]), ld.predict(raw(), folder / "acrlsd.pt")["affinities"])
    first = run(folder, tmp_path / "disk.zarr", "lsd")
    stored = {"auto_file": tmp_path / "disk.zarr", "auto_dataset": "volumes/lsds"}
    second = run(folder, tmp_path / "disk.zarr", "acrlsd", block_size=world(7, 20, 23), **stored)
    expected = ld.predict(raw(), folder / "acrlsd.pt", lsds=values(first.outputs["lsds"]))["affinities"]
    assert_close(values(second.outputs["affinities"]), expected)
    # Descriptors that are predicted anew are other ones.
    run(folder, tmp_path / "disk.zarr", "lsd", resume=False)
    assert run(folder, tmp_path / "disk.zarr", "acrlsd", block_size=world(7, 20, 23), **stored).skipped == 0


def test_another_network_predicts_anew(
    cluster_client: Client, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = tmp_path / "n.pt"
    for kind in ("affinities", "mtlsd"):
        network.write_bytes((folder / f"{kind}.pt").read_bytes())
        result = run(folder, tmp_path / "o.zarr", checkpoint=network, outputs="affinities")
        assert result.skipped == 0
    assert (
        "prediction: made anew, replacing 1 finished blocks (checkpoint changed)" in capsys.readouterr().err
    )


class TestInterrupted:
    def test_a_killed_run_goes_on_to_the_same_result(
        self, cluster_client: Client, folder: Path, tmp_path: Path
    ) -> None:
        whole = run(folder, tmp_path / "whole.zarr", block_size=world(7, 10, 12))
        out = tmp_path / "killed.zarr"
        program = f"""
            import os
            from pathlib import Path
            from distributed import Client
            from lsd_dask import workflows
            from lsd_dask.workflows.running import outputs as running

            def kill(summary):
                if summary.computed == 5:
                    os._exit(9)

            run_blocks = running.run_blocks
            running.run_blocks = lambda *args, progress, **more: run_blocks(*args, progress=kill, **more)
            if __name__ == "__main__":
                folder = Path({str(folder)!r})
                with Client(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0"):
                    workflows.predict(
                        raw_file=folder / "em.zarr",
                        checkpoint=folder / "mtlsd.pt",
                        out_file={str(out)!r},
                        block_size={world(7, 10, 12)!r},
                    )
            """
        ended = subprocess.run([sys.executable, "-c", dedent(program)], capture_output=True, text=True)
        assert ended.returncode == 9, ended.stderr
        # The lock of a process that is gone does not hold.
        result = run(folder, out, block_size=world(7, 10, 12))
        assert 5 <= result.skipped < result.blocks == whole.blocks == 32
        for name, path in whole.outputs.items():
            np.testing.assert_array_equal(values(result.outputs[name]), values(path), strict=True)

    def test_blocks_that_fail_are_named_and_computed_by_the_next_run(
        self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write = StoredVolume.write

        def failing(self: StoredVolume, region: Any, array: np.ndarray) -> None:
            if region[1].start == 20 and self.name == "lsds":
                raise OSError("no space left on device")
            write(self, region, array)

        with Client(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0"):
            monkeypatch.setattr(StoredVolume, "write", failing)
            with pytest.raises(RunFailedError, match=r"1 of 2 blocks failed.*\n.*0_1_0.*no space left"):
                run(folder, tmp_path / "o.zarr", block_size=world(14, 20, 46))
            monkeypatch.undo()
            result = run(folder, tmp_path / "o.zarr", block_size=world(14, 20, 46))
        assert (result.blocks, result.skipped) == (2, 1)
        expected = ld.predict(raw(), folder / "mtlsd.pt")
        for name, path in result.outputs.items():
            assert_close(values(path), expected[name])


class TestErrors:
    """All before any work: nothing is written."""

    def refused(self, message: str, folder: Path, out: Path, kind: type[Exception], **options: Any) -> None:
        with pytest.raises(kind, match=message):
            run(folder, out, **options)
        assert not out.exists()

    def test_what_does_not_fit(self, folder: Path, tmp_path: Path) -> None:
        out = tmp_path / "o.zarr"
        self.refused(
            "gone.pt: there is no such", folder, out, FileNotFoundError, checkpoint=tmp_path / "gone.pt"
        )
        (tmp_path / "text.pt").write_text("text")
        self.refused("text.pt: not a readable", folder, out, ValueError, checkpoint=tmp_path / "text.pt")
        self.refused("gone.zarr", folder, out, FileNotFoundError, raw_file=tmp_path / "gone.zarr")
        coarse = tmp_path / "coarse.zarr"
        ld.save_volume(raw(), coarse / "volumes/raw", voxel_size=(40, 8, 8))
        self.refused(
            r"coarse.zarr/volumes/raw: raw: found voxels of \(40.0, 8.0, 8.0\) nanometer, but .*mtlsd.pt",
            folder,
            out,
            ValueError,
            raw_file=coarse,
        )
        ld.save_volume(np.zeros((2, *SHAPE), np.uint8), coarse / "volumes/two", voxel_size=VOXEL_SIZE)
        self.refused(
            r"volumes/two: raw: found shape \(2, 14, 40, 46\), expected the axes z, y, x with 1 channels",
            folder,
            out,
            ValueError,
            raw_file=coarse,
            raw_dataset="volumes/two",
        )
        ld.save_volume(np.zeros(SHAPE, np.int64), coarse / "volumes/ids", voxel_size=VOXEL_SIZE)
        self.refused(
            "volumes/ids: raw: found dtype int64",
            folder,
            out,
            TypeError,
            raw_file=coarse,
            raw_dataset="volumes/ids",
        )
        self.refused(
            "roi_offset and roi_shape", folder, out, ValueError, roi_offset=(0, 0, 0), roi_shape=(40, 4, 4)
        )

    def test_kinds_of_networks(self, folder: Path, tmp_path: Path) -> None:
        out = tmp_path / "o.zarr"
        with pytest.raises(ValueError, match="kind 'affinities' predicts affinities"):
            run(folder, out, "affinities", outputs="lsds")
        stored = {"auto_file": folder / "em.zarr", "auto_dataset": "volumes/raw"}
        with pytest.raises(ValueError, match="kind 'mtlsd' does not take descriptors"):
            run(folder, out, **stored)
        with pytest.raises(
            ValueError, match=r"volumes/raw: lsds: found shape \(14, 40, 46\), expected 10 channels"
        ):
            run(folder, out, "acrlsd", **stored)
        assert not out.exists()

    def test_configurations(self, folder: Path) -> None:
        for given, message in (
            ({}, "missing key 'raw_file'"),
            ({"raw_file": "r.zarr", "out_file": "o.zarr"}, "missing key 'checkpoint': or else base_dir"),
            ({"raw_file": "r.zarr", "checkpoint": "n.pt"}, "missing key 'out_file': or else out_base"),
            (
                {"raw_file": "r.zarr", "out_file": "o.zarr", "checkpoint": "n.pt", "auto_file": "l.zarr"},
                "auto_file and auto_dataset go together",
            ),
            ({"raw_file": "r.zarr", "out_file": "o.zarr", "chekpoint": "n.pt"}, "did you mean 'checkpoint'"),
        ):
            with pytest.raises(ConfigError, match=message):
                workflows.predict(given)

    def test_an_array_of_somebody_else_is_not_overwritten(self, folder: Path, tmp_path: Path) -> None:
        ld.save_volume(np.zeros(SHAPE, np.uint8), tmp_path / "o.zarr/volumes/lsds", voxel_size=VOXEL_SIZE)
        with pytest.raises(FileExistsError, match="volumes/lsds exists and was not written by this step"):
            run(folder, tmp_path / "o.zarr")
        with pytest.raises(ValueError, match="overwrite its own input"):
            run(folder, folder / "em.zarr", affs_dataset="volumes/raw")

    @pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
    def test_no_gpu(self, folder: Path, tmp_path: Path) -> None:
        self.refused("PyTorch sees no GPU", folder, tmp_path / "o.zarr", ValueError, device="cuda")

    def test_blocks_that_do_not_fit_into_memory(self, folder: Path, tmp_path: Path) -> None:
        with Client(
            n_workers=1, threads_per_worker=1, processes=False, memory_limit="500 MB", dashboard_address=":0"
        ):
            self.refused("predict: a block of", folder, tmp_path / "o.zarr", MemoryError)


class TestSegment:
    def test_from_raw_data_to_a_segmentation(
        self, cluster_client: Client, folder: Path, tmp_path: Path
    ) -> None:
        given = {"raw_file": folder / "em.zarr", "checkpoint": folder / "mtlsd.pt"}
        result = workflows.segment(given, out_file=tmp_path / "o.zarr", threshold=0.5)
        affinities = values(result.outputs["affinities"])
        assert_close(affinities, ld.predict(raw(), folder / "mtlsd.pt")["affinities"])
        expected = workflows.segment(
            affs_file=tmp_path / "o.zarr", out_file=tmp_path / "p.zarr", threshold=0.5
        )
        np.testing.assert_array_equal(values(result.path), values(expected.path), strict=True)
        again = workflows.segment(given, out_file=tmp_path / "o.zarr", threshold=0.5)
        assert again.skipped == again.blocks == result.blocks
        # Of affinities that were predicted anew, everything is made anew.
        given["checkpoint"] = folder / "affinities.pt"
        assert workflows.segment(given, out_file=tmp_path / "o.zarr", threshold=0.5).skipped == 0

    def test_a_network_says_what_its_affinities_join(
        self, cluster_client: Client, folder: Path, tmp_path: Path
    ) -> None:
        far = ((-1, 0, 0), (0, -1, 0), (0, 0, -1), (0, -4, 0))
        network = str(tmp_path / "far.pt")
        model = checkpoint("affinities", neighborhood=far).model
        save_checkpoint(network, model, voxel_size=VOXEL_SIZE, iteration=1)
        out = {"out_file": tmp_path / "o.zarr", "threshold": 0.5}
        found = workflows.segment(raw_file=folder / "em.zarr", checkpoint=network, **out)
        assert ld.open_volume(tmp_path / "o.zarr/volumes/affs").attrs["neighborhood"] == [*map(list, far)]
        given = {"affs_file": tmp_path / "o.zarr", "threshold": 0.5}
        expected = workflows.segment(given, out_file=tmp_path / "p.zarr")
        np.testing.assert_array_equal(values(found.path), values(expected.path), strict=True)
        with pytest.raises(ValueError, match=r"far\.pt: neighborhood: found .* expected the same"):
            workflows.segment(
                raw_file=folder / "em.zarr",
                checkpoint=network,
                out_file=tmp_path / "q.zarr",
                neighborhood=(*far[:3], (0, 0, -4)),
            )
        assert not (tmp_path / "q.zarr").exists()

    def test_what_does_not_fit_is_told_before_anything_is_predicted(
        self, folder: Path, tmp_path: Path
    ) -> None:
        raw_data = {"raw_file": folder / "em.zarr", "out_file": tmp_path / "o.zarr"}
        with pytest.raises(ValueError, match="kind 'lsd' predicts lsds"):
            workflows.segment(raw_data, checkpoint=folder / "lsd.pt")
        ld.save_volume(np.ones((4, 4, 4), np.uint64), tmp_path / "t.zarr/labels", voxel_size=(1, 1, 1))
        truth = {"gt_file": tmp_path / "t.zarr", "gt_dataset": "labels"}
        with pytest.raises(ValueError, match=r"t.zarr/labels has voxels of"):
            workflows.segment(raw_data, checkpoint=folder / "mtlsd.pt", **truth)
        with pytest.raises(ConfigError, match="expected affs_file, or raw_file and checkpoint; found both"):
            workflows.segment(raw_data, checkpoint=folder / "mtlsd.pt", affs_file="a.zarr")
        with pytest.raises(ConfigError, match="found none"):
            workflows.segment(out_file=tmp_path / "o.zarr")
        with pytest.raises(ConfigError, match="raw_file and checkpoint go together"):
            workflows.segment(raw_data, affs_file="a.zarr")
        assert not (tmp_path / "o.zarr").exists()


class _Where:
    """A task that notes which worker it ran on."""

    def compute(self, block: Block) -> str:
        return str(get_worker().name)

    def write(self, block: Block, result: str) -> dict[str, str]:
        return {"worker": result}


@pytest.mark.parametrize(("offered", "expected"), [({"GPU": 1}, {"1"}), ({}, {"0", "1"})])
def test_tasks_that_need_a_gpu_go_to_workers_that_have_one(
    offered: dict[str, int], expected: set[str], tmp_path: Path
) -> None:
    with (
        LocalCluster(n_workers=0, processes=False, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        cluster.worker_spec = {
            name: {"cls": Worker, "options": {"nthreads": 1, "resources": resources}}
            for name, resources in ((0, {}), (1, offered))
        }
        cluster.sync(cluster._correct_state)
        client.wait_for_workers(2)
        grid, ledger = BlockGrid((40,), (1,)), Ledger(str(tmp_path / "ledger"), {})
        ledger.begin(grid)
        run_blocks("where", _Where(), grid, ledger, client, resources={"GPU": 1})
        records = (tmp_path / "ledger/blocks").glob("*.json")
        assert {json.loads(path.read_text())["worker"] for path in records} == expected


def test_without_pytorch_the_error_says_what_to_install() -> None:
    program = """
        import sys
        sys.modules["torch"] = None
        import lsd_dask
        from lsd_dask import workflows
        assert workflows.segment
        def train():
            workflows.train(volumes=["em.zarr"], out_dir="network")
        for use in (lambda: lsd_dask.predict, lambda: workflows.predict, train):
            try:
                use()
            except ImportError as error:
                assert "pip install 'lsd-dask[train]'" in str(error), error
            else:
                raise AssertionError
        """
    ended = subprocess.run([sys.executable, "-c", dedent(program)], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
