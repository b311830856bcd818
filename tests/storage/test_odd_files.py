"""Damaged or lying files: each opens, or is refused in one line that names it, in bounded time and memory."""

import io
import json
import uuid
import zipfile
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import fsspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lsd_dask as ld
from lsd_dask.blockwise.blocks import Block
from lsd_dask.blockwise.ledgers import Ledger
from lsd_dask.storage import files, locks, parquet
from lsd_dask.storage.paths import normalise_path

DEEP = b"[" * 200_000
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["run", "fingerprint", "identity", "files", "token", "process", "system", "a"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
).map(lambda value: json.dumps(value).encode())
CONTENTS = st.binary(max_size=30) | ANY_JSON | st.sampled_from([DEEP, b"", b"\xff\xfe", b"9" * 5000])
REFUSALS = (ValueError, OSError, MemoryError, locks.LockedError)


def saved(root: Path, zarr_format: Any = 3) -> Path:
    ld.save_volume(np.ones((4, 4, 4), np.uint8), root / "raw", zarr_format=zarr_format)
    return root / "raw"


def rewritten(array: Path, change: Callable[[Any], None]) -> None:
    path = next(array / name for name in ("zarr.json", ".zarray") if (array / name).exists())
    metadata = json.loads(path.read_text())
    change(metadata)
    path.write_text(json.dumps(metadata))


def with_chunks(metadata: dict[str, Any], chunks: Any) -> None:
    if "chunks" in metadata:
        metadata["chunks"] = chunks
        return
    metadata["chunk_grid"]["configuration"]["chunk_shape"] = chunks
    metadata["codecs"] = metadata["codecs"][0]["configuration"]["codecs"]


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("key", ["shape", "chunks"])
@pytest.mark.parametrize(
    "value",
    [[2**65, 4, 4], [-1, 4, 4], [4.5, 4, 4], ["4", 4, 4], [None, 4, 4], [4, 4], 4, {}, [[4], 4, 4]],
    ids=str,
)
def test_shapes_that_cannot_be_are_refused(tmp_path: Path, zarr_format: int, key: str, value: Any) -> None:
    array = saved(tmp_path / "v.zarr", zarr_format)
    rewritten(array, lambda m: m.update(shape=value) if key == "shape" else with_chunks(m, value))
    with pytest.raises(ValueError, match=str(array)):
        ld.open_volume(array)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_chunks_that_no_memory_holds_are_refused(tmp_path: Path, zarr_format: int) -> None:
    array = saved(tmp_path / "v.zarr", zarr_format)
    rewritten(array, lambda m: with_chunks(m, [2**20, 2**10, 2**20]))
    with pytest.raises(ValueError, match=r"raw: found chunks of .* fit into the memory"):
        ld.open_volume(array)


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.filterwarnings("ignore::zarr.errors.ZarrUserWarning")
def test_chunks_of_nothing_are_refused(tmp_path: Path, zarr_format: int) -> None:
    array = saved(tmp_path / "v.zarr", zarr_format)
    rewritten(array, lambda m: with_chunks(m, [0, 4, 4]))
    with pytest.raises(ValueError, match="found chunks of no voxels"):
        ld.open_volume(array)


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("name", ["raw/", ""])
@pytest.mark.parametrize("content", [DEEP, b"[]", b"3", b"", b"\xff\x00"], ids=lambda c: str(c[:5]))
def test_damaged_zarr_metadata_is_named(tmp_path: Path, zarr_format: int, name: str, content: bytes) -> None:
    array = saved(tmp_path / "v.zarr", zarr_format)
    metadata = "zarr.json" if zarr_format == 3 else ".zarray" if name else ".zattrs"
    (tmp_path / "v.zarr" / name / metadata).write_bytes(content)
    with pytest.raises(ValueError, match=r"v\.zarr.*metadata cannot be read"):
        ld.open_volume(array)


@pytest.mark.parametrize(
    "info",
    [
        {"scales": {}},
        {"scales": 3},
        {"scales": [3]},
        {"scales": [{}]},
        {"scales": [{"key": "../b", "resolution": [1, 1, 1]}]},
        {"scales": [{"key": "/b", "resolution": [1, 1, 1]}]},
        {"scales": [{"key": "a", "resolution": "abc"}]},
        {"scales": [{"key": "a", "resolution": [1, 1]}]},
        {"scales": [{"key": "a", "resolution": [1, 1, 1], "size": [2**65, -1, 0], "chunk_sizes": [[0, 1]]}]},
    ],
    ids=str,
)
def test_precomputed_info_that_cannot_be_is_refused(tmp_path: Path, info: Any) -> None:
    pytest.importorskip("tensorstore")
    (tmp_path / "info").write_text(json.dumps(info))
    with pytest.raises(ValueError, match=str(tmp_path)):
        ld.open_volume(f"precomputed://{tmp_path}")


@settings(max_examples=60)
@given(
    name=st.sampled_from(["run.json", "finished.json", "lock.json", "blocks/0.0.0.json"]), content=CONTENTS
)
def test_a_damaged_ledger_is_read_or_refused(name: str, content: bytes) -> None:
    with TemporaryDirectory() as place:
        ledger = Ledger(f"{place}/run", {"of": "a"})
        ledger.begin()
        ledger.record(Block((0, 0, 0), (slice(0, 1),) * 3), {})
        ledger.finish({})
        files.write_bytes(f"{place}/run/{name}", content)
        for ask in (
            ledger.header,
            ledger.recorded_run,
            ledger.recorded_identity,
            ledger.is_current,
            ledger.done,
            ledger.finished,
            ledger.changes,
            lambda: ledger.check_run("b" * 32),
        ):
            try:
                ask()
            except (*REFUSALS, RuntimeError) as error:
                assert not isinstance(error, RecursionError)
                assert place in str(error)


@settings(max_examples=60)
@given(content=CONTENTS)
def test_a_damaged_table_is_refused(content: bytes) -> None:
    path = f"memory://{uuid.uuid4().hex}/table"
    files.write_bytes(path, content)
    for read in (files.read_arrays, parquet.read_table):
        with pytest.raises(ValueError, match="table: not a readable"):
            read(path)


def test_headers_of_tables_that_lie_are_refused(tmp_path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<u8", "fortran_order": False, "shape": (2**50,)})
    for content in (header.getvalue(), b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 65535, b"nothing"):
        with zipfile.ZipFile(tmp_path / "t.npz", "w") as archive:
            archive.writestr("ids.npy", content)
        with pytest.raises(ValueError, match=r"t\.npz: not a readable table"):
            files.read_arrays(str(tmp_path / "t.npz"))["ids"].sum()


@pytest.mark.parametrize(
    "name", ["b.zip", "b.zarr.zip", "b.zip/raw", "b.zarr.zip/raw", "b.tar.gz/em.zarr/raw"]
)
def test_archives_are_refused_and_folders_of_such_names_are_not(tmp_path: Path, name: str) -> None:
    (tmp_path / name.split("/")[0]).write_bytes(b"PK")
    with pytest.raises(ValueError, match="unpack the archive"):
        ld.open_volume(tmp_path / name)
    folder = tmp_path / "folders"
    (folder / name.split("/")[0]).mkdir(parents=True)
    assert normalise_path(folder / name) == str(folder / name)


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("foreign", ["notes.txt", "mesh/1", "other/zarr.json"])
def test_replacing_an_array_takes_no_foreign_file(tmp_path: Path, zarr_format: Any, foreign: str) -> None:
    array = saved(tmp_path / "v.zarr", zarr_format)
    ld.save_volume(np.zeros((4, 4, 4), np.uint8), array, overwrite=True)
    files.write_bytes(str(array / foreign), b"mine")
    with pytest.raises(FileExistsError, match=f"found {foreign.split('/')[0]} in the folder"):
        ld.save_volume(np.ones((4, 4, 4), np.uint8), array, overwrite=True)
    assert (array / foreign).read_bytes() == b"mine"
    assert not ld.open_volume(array).values.any()


def test_removing_on_a_store_follows_no_pattern() -> None:
    root = f"memory://{uuid.uuid4().hex}"
    for name in ("a*/c/0", "ab/c/0", "a?", "ax", "a[b]/1", "ab/1"):
        files.write_bytes(f"{root}/{name}", b"1")
    for name in ("a*", "a?", "a[b]"):
        files.remove(f"{root}/{name}")
    assert files.names(root) == ["ab", "ax"]
    assert len(fsspec.filesystem("memory").find(root)) == 3
