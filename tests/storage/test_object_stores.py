"""Everything on an object store: a real server on loopback, behind a proxy that fails as networks do.

Where the store fails for a moment, the result is the same; where it fails for good, the error names the URL.
`retried` in `lsd_dask.storage.stores` is what holds this: without it, all tests with "for_good" and "longer"
in their names fail.
"""

import itertools
import json
import random
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from distributed import Client, LocalCluster
from fsspec.asyn import sync as fsspec_sync
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from zarr.core.sync import sync as zarr_sync

import lsd_dask as ld
from lsd_dask import workflows
from lsd_dask.blockwise.blocks import BlockGrid
from lsd_dask.blockwise.ledgers import Ledger, LockedError, ReplacedError
from lsd_dask.storage import files, stores
from lsd_dask.storage.parquet import read_table, write_table
from lsd_dask.storage.stores import StoreError
from lsd_dask.volumes.opening import open_stored
from lsd_dask.volumes.saving import create_volume

from ..helpers.object_store import PATIENCE, Failure, Proxy, Rule, environment, serving
from ..helpers.tissue import tissue

pytest.importorskip("moto", reason="no S3-compatible server: install the extra `test`")
s3fs = pytest.importorskip("s3fs", reason="no client of S3: install the extra `cloud`")

#: What happens on the way; the answer cut short without notice is told from them, since no client can see it.
SEEN: tuple[Failure, ...] = ("slow down", "reset", "lost", "truncated", "timeout")
ROOT = "s3://cells"


@pytest.fixture(scope="module")
def proxy() -> Iterator[Proxy]:
    """The server, known to all clients of this process and of those that it starts."""
    options = {"config_kwargs": {"read_timeout": PATIENCE, "connect_timeout": 5}}
    with pytest.MonkeyPatch.context() as patch, serving() as proxy:
        # Of the three that try again - botocore, s3fs, and we - botocore is told not to, to have it quick.
        told = {**environment(proxy), "FSSPEC_S3": json.dumps(options), "AWS_MAX_ATTEMPTS": "1"}
        for name, value in told.items():
            patch.setenv(name, value)
        patch.setitem(fsspec.config.conf, "s3", options)
        patch.setattr(s3fs.S3FileSystem, "retries", 2)
        patch.setattr(stores, "PAUSES", (0.05, 0.1))
        s3fs.S3FileSystem.clear_instance_cache()
        s3fs.S3FileSystem().mkdir("cells")
        yield proxy
        _close_clients()


def _close_clients() -> None:
    """Close what s3fs leaves open to the end of the process: pytest makes errors of warnings about it."""
    for client in s3fs.S3FileSystem._cache.values():
        if client._s3 is not None:
            # Those of zarr live in its event loop, all others in that of fsspec.
            run = zarr_sync if client.asynchronous else partial(fsspec_sync, client.loop)
            run(client._s3.close() if client.asynchronous else client._s3.close)
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def url(proxy: Proxy, request: pytest.FixtureRequest) -> str:
    """A place of its own for each test."""
    return f"{ROOT}/{abs(hash(request.node.nodeid))}"


def first(count: int, failure: Failure, method: str = "", part: str = "") -> Rule:
    """The first requests of a kind fail."""
    left = itertools.count(count, -1)
    lock = threading.Lock()

    def rule(found: str, path: str) -> Failure | None:
        with lock:
            return failure if method in found and part in path and next(left) > 0 else None

    return rule


def always(failure: Failure, part: str = "") -> Rule:
    return lambda method, path: failure if part in path else None


class TestFiles:
    @pytest.mark.parametrize("failure", SEEN)
    @pytest.mark.parametrize("count", [1, 3], ids=["for a moment", "longer than s3fs waits"])
    def test_what_is_written_is_read(self, proxy: Proxy, url: str, failure: Failure, count: int) -> None:
        with proxy.failing(first(count, failure, "PUT")) as failures:
            files.write_bytes(f"{url}/file", b"voxels" * 1000)
        # The answer is empty, so that nothing of it can be cut off.
        assert failures[failure] == (1 if failure == "truncated" else count)
        with proxy.failing(first(count, failure, "GET", "file")) as failures:
            assert files.read_bytes(f"{url}/file") == b"voxels" * 1000
        assert failures[failure] == count

    @pytest.mark.parametrize("failure", ["slow down", "reset"])
    @pytest.mark.parametrize(
        "operation",
        [
            files.read_bytes,
            files.exists,
            files.is_file,
            files.names,
            files.version,
            files.remove,
            files.size_of,
            lambda path: files.write_bytes(path, b"new"),
            lambda path: files.create_json(path, {}),
            lambda path: files.move(path, f"{path}-moved"),
        ],
    )
    def test_failing_for_good_names_the_url(
        self, proxy: Proxy, url: str, failure: Failure, operation: Callable[[str], Any]
    ) -> None:
        files.write_bytes(f"{url}/file", b"old")
        with (
            proxy.failing(always(failure)),
            pytest.raises(StoreError, match=rf"^{url}/file: .* failed 3 times"),
        ):
            operation(f"{url}/file")
        assert files.read_bytes(f"{url}/file") == b"old"

    def test_what_cannot_be_helped_is_told_at_once(self, proxy: Proxy, url: str) -> None:
        before = proxy.requests.total()
        with pytest.raises(FileNotFoundError, match=f"{url}/nothing"):
            files.read_bytes(f"{url}/nothing")
        with pytest.raises(FileNotFoundError, match=r"s3://another/file: .*bucket"):
            files.write_bytes("s3://another/file", b"")
        assert not files.exists("s3://another")
        assert proxy.requests.total() - before < 12

    def test_what_others_write_and_remove_is_seen(self, proxy: Proxy, url: str) -> None:
        other = s3fs.S3FileSystem()
        files.write_bytes(f"{url}/blocks/0.json", b"{}")
        assert files.names(f"{url}/blocks") == ["0.json"]
        other.pipe_file(f"{url}/blocks/1.json", b"{}")
        assert files.exists(f"{url}/blocks/1.json")
        assert files.names(f"{url}/blocks") == ["0.json", "1.json"]
        other.rm_file(f"{url}/blocks/0.json")
        assert not files.exists(f"{url}/blocks/0.json")

    def test_a_folder_is_moved_though_copying_fails_midway(self, proxy: Proxy, url: str) -> None:
        for name in "abc":
            files.write_bytes(f"{url}/from/{name}/c", name.encode())
        with proxy.failing(first(3, "slow down", "PUT", "/to/b")):
            files.move(f"{url}/from", f"{url}/to")
        assert [files.read_bytes(f"{url}/to/{name}/c") for name in "abc"] == [b"a", b"b", b"c"]
        assert files.names(f"{url}/to") == ["a", "b", "c"]
        assert not files.exists(f"{url}/from")

    def test_what_is_not_deleted_is_noticed(self, proxy: Proxy, url: str) -> None:
        files.write_bytes(f"{url}/old/file", b"old")
        with (
            proxy.failing(always("not deleted", "?delete")),
            pytest.raises(StoreError, match="not everything"),
        ):
            files.remove(f"{url}/old")
        with proxy.failing(first(2, "not deleted", "POST", "?delete")):
            files.remove(f"{url}/old")
        assert not files.exists(f"{url}/old")

    @settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(failures=st.lists(st.sampled_from(["slow down", "reset", "lost", "truncated", None]), max_size=10))
    def test_nothing_is_ever_half_there(self, proxy: Proxy, url: str, failures: list[Failure | None]) -> None:
        """Whatever fails when: a file has the content that was there, or the one that was to be written."""
        old, new = b"old" * 5000, b"new" * 5000
        files.write_bytes(f"{url}/file", old)
        schedule = iter(failures)
        written, found = False, None
        with proxy.failing(lambda method, path: next(schedule, None)):
            try:
                files.write_bytes(f"{url}/file", new)
                written = True
                found = files.read_bytes(f"{url}/file")
            except StoreError:
                pass
        assert found in (None, new)
        assert files.read_bytes(f"{url}/file") in ((new,) if written else (old, new))


class TestTables:
    @pytest.mark.parametrize("failure", ["truncated", "shortened", "slow down"])
    def test_damaged_or_failing_for_good_is_told(self, proxy: Proxy, url: str, failure: Failure) -> None:
        write_table(f"{url}/nodes.parquet", {"id": np.arange(100_000) ** 2})
        files.write_arrays(f"{url}/block.npz", {"id": np.arange(1000)})
        files.write_json(f"{url}/run.json", {"run": "a" * 100})
        for name, read in {
            "nodes.parquet": read_table,
            "block.npz": files.read_arrays,
            "run.json": files.read_json,
        }.items():
            # What was cut short unnoticed does not agree with its checksum, or is no table.
            error = (ValueError, StoreError) if failure == "shortened" else StoreError
            with proxy.failing(always(failure, name)), pytest.raises(error, match=f"^{url}/{name}: "):
                read(f"{url}/{name}")
            read(f"{url}/{name}")

    def test_a_trained_network(self, proxy: Proxy, url: str) -> None:
        torch = pytest.importorskip("torch")
        from lsd_dask.networks import weights

        weights.write(f"{url}/trained.pt", {"a": torch.arange(1000)})
        with proxy.failing(first(3, "truncated", "GET", "trained")):
            assert (weights.read(f"{url}/trained.pt")["a"] == torch.arange(1000)).all()
        with (
            proxy.failing(always("reset", "trained")),
            pytest.raises(StoreError, match=f"^{url}/trained.pt: "),
        ):
            weights.read(f"{url}/trained.pt")


class TestVolumes:
    SHAPE, BLOCK = (12, 16, 16), (12, 16, 8)

    def volume(self, url: str) -> tuple[Any, np.ndarray]:
        stored = create_volume(f"{url}/em.zarr/labels", self.SHAPE, "uint64", block_shape=self.BLOCK)
        voxels = np.random.default_rng(0).integers(1, 2**60, self.SHAPE, dtype=np.uint64)
        for block in BlockGrid(self.SHAPE, self.BLOCK):
            stored.write(block.region, voxels[block.region])
        return stored, voxels

    @pytest.mark.parametrize("failure", [*SEEN, "shortened"])
    def test_read_and_written_though_the_store_fails(self, proxy: Proxy, url: str, failure: Failure) -> None:
        with proxy.failing(first(1 if failure == "timeout" else 3, failure, "PUT", "labels/c")):
            stored, voxels = self.volume(url)
        parts = [(slice(0, 12), slice(0, 16), slice(0, 16)), (slice(3, 5), slice(0, 16), slice(6, 9))]
        for part in parts:
            with proxy.failing(first(2, failure, "GET", "labels/c")) as failures:
                assert (stored.read(part) == voxels[part]).all()
            assert failures[failure] == 2

    @pytest.mark.parametrize("failure", ["slow down", "reset", "truncated", "shortened"])
    def test_failing_for_good_is_an_error_and_no_voxel_is_zero(
        self, proxy: Proxy, url: str, failure: Failure
    ) -> None:
        stored, voxels = self.volume(url)
        # What was cut short unnoticed does not agree with its checksum, or is no table, or cannot be decoded.
        error = (ValueError, StoreError) if failure == "shortened" else StoreError
        for part in [(slice(0, 12),) * 2 + (slice(0, 16),), (slice(3, 5), slice(0, 12), slice(6, 9))]:
            with proxy.failing(always(failure, "labels/c")), pytest.raises(error, match=f"^{stored.path}: "):
                stored.read(part)
            assert (stored.read(part) == voxels[part]).all()

    @pytest.mark.parametrize("failure", ["slow down", "reset"])
    def test_writing_opening_and_creating_tell_the_url(
        self, proxy: Proxy, url: str, failure: Failure
    ) -> None:
        stored, voxels = self.volume(url)
        block = next(iter(BlockGrid(self.SHAPE, self.BLOCK)))
        with proxy.failing(always(failure, "em.zarr")):
            for operation in (
                lambda: stored.write(block.region, voxels[block.region]),
                lambda: open_stored(stored.path),
                lambda: create_volume(f"{url}/em.zarr/more", self.SHAPE, "uint8"),
            ):
                with pytest.raises(StoreError, match=f"^{url}/em.zarr.* failed 3 times"):
                    operation()
        assert (open_stored(stored.path).read((slice(0, 12),) * 3) == voxels[:, :12, :12]).all()

    def test_old_voxels_never_show_in_an_array_that_replaces_another(self, proxy: Proxy, url: str) -> None:
        stored, _ = self.volume(url)
        with proxy.failing(first(2, "not deleted", "POST")) as failures:
            new = create_volume(stored.path, self.SHAPE, "uint64", block_shape=self.BLOCK, overwrite=True)
        assert failures["not deleted"] == 2
        assert not new.read((slice(0, 12), slice(0, 16), slice(0, 16))).any()


class TestLedgers:
    def test_of_several_one_holds_the_lock(self, proxy: Proxy, url: str) -> None:
        ledger = Ledger(f"{url}/runs/step", {"a": 1})
        with ledger.held(), pytest.raises(LockedError, match=f"{url}/runs/step"), ledger.held():
            pass
        with ledger.held():
            assert files.exists(f"{url}/runs/step/lock.json")
        assert not files.exists(f"{url}/runs/step/lock.json")

    def test_a_lock_is_ours_though_its_answer_was_lost(self, proxy: Proxy, url: str) -> None:
        ledger = Ledger(f"{url}/runs/step", {})
        with proxy.failing(first(1, "lost", "PUT", "lock.json")) as failures, ledger.held():
            pass
        assert failures["lost"] == 1

    def test_records_and_runs(self, proxy: Proxy, url: str) -> None:
        ledger, grid = Ledger(f"{url}/runs/step", {"a": 1}), BlockGrid((8, 8), (4, 4))
        ledger.begin(grid)
        run = ledger.recorded_run()
        with proxy.failing(first(3, "lost", "PUT", "blocks")):
            for block in grid:
                ledger.record(block, {"foreground": 1})
        assert ledger.done() == {block.name for block in grid}
        ledger.check_run(run)
        Ledger(f"{url}/runs/step", {"a": 2}).begin(grid)
        with pytest.raises(ReplacedError):
            ledger.check_run(run)


class _Unreliable:
    """One request of seven fails, each time another way; the same one never more often than once."""

    def __init__(self) -> None:
        self.random = random.Random(0)
        self.failed: set[tuple[str, str]] = set()
        self.lock = threading.Lock()

    def __call__(self, method: str, path: str) -> Failure | None:
        with self.lock:
            if (method, path) in self.failed or self.random.random() > 1 / 7:
                return None
            self.failed.add((method, path))
            return self.random.choices(SEEN, [4, 4, 4, 4, 1])[0]


def test_a_segmentation_on_an_unreliable_store_is_the_local_one(
    proxy: Proxy, url: str, tmp_path: Path
) -> None:
    options = {
        "threshold": 0.3,
        "block_size": (16 * 32,) * 3,
        "gt_dataset": "volumes/labels",
        "thresholds_step": 0.25,
    }
    inside = (slice(0, 40), slice(0, 48), slice(0, 24))
    affinities, labels = tissue().affinities[(slice(None), *inside)], tissue().labels[inside]
    unreliable = _Unreliable()
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster),
        proxy.failing(unreliable) as failures,
    ):
        for place in (str(tmp_path), url):
            read = f"{place}/in.zarr"
            ld.save_volume(affinities, f"{read}/volumes/affs")
            ld.save_volume(labels, f"{read}/volumes/labels")
            workflows.segment(affs_file=read, gt_file=read, out_file=f"{place}/out.zarr", **options)
    assert failures.total() > 30
    assert len(failures) == len(SEEN)
    for name in ("fragments", "segmentation_30"):
        local, remote = (
            ld.open_volume(f"{place}/out.zarr/volumes/{name}").to_numpy() for place in (tmp_path, url)
        )
        assert local.any()
        assert (local == remote).all(), name
    tables = sorted(path.relative_to(tmp_path) for path in (tmp_path / "out.zarr").rglob("*.parquet"))
    assert len(tables) > 8
    for table in tables:
        local, remote = (read_table(f"{place}/{table}")[0].to_pylist() for place in (tmp_path, url))
        # As text, since there are scores that are no numbers.
        assert str(local) == str(remote), table
