"""Small files: whole or not at all, on a disk and on any other store."""

import os
import uuid
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsd_dask.storage import files


@pytest.fixture(params=["disk", "memory"])
def directory(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "tables") if request.param == "disk" else f"memory://{uuid.uuid4().hex}/tables"


def test_what_is_written_is_read(directory: str) -> None:
    path = files.join(directory, "a", "b.bin")
    assert not files.exists(path)
    files.write_bytes(path, b"one")
    assert files.read_bytes(path) == b"one"
    first = files.version(path)
    assert files.version(path) == first
    files.write_bytes(path, b"two, longer")
    assert files.read_bytes(path) == b"two, longer"
    assert files.version(path) != first
    assert files.is_file(path)
    assert not files.is_file(directory)
    assert files.names(files.join(directory, "a")) == ["b.bin"]
    assert files.names(directory) == ["a"]
    files.remove(directory)
    assert files.names(directory) == []
    files.remove(directory)


def test_paths_below_the_working_directory_are_shown_from_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "project" / "here"
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    assert files.shown(here / "out.zarr" / "rag") == "out.zarr/rag"
    assert files.shown("./out.zarr/") == "out.zarr"
    assert files.shown(tmp_path / "project" / "out.zarr") == str(tmp_path / "project" / "out.zarr")
    assert files.shown("/data") == "/data"
    assert files.shown("memory://out.zarr/rag") == "memory://out.zarr/rag"


def test_a_replaced_file_of_the_same_size_is_another_version(directory: str) -> None:
    path = files.join(directory, "table")
    versions = set()
    for content in (b"one", b"two", b"six"):
        files.write_bytes(path, content)
        versions.add(files.version(path))
    assert len(versions) == 3


@given(
    arrays=st.dictionaries(
        st.sampled_from(["u", "v", "sums"]),
        st.lists(st.integers(0, 2**64 - 1), max_size=5).map(lambda v: np.array(v, np.uint64)),
    )
)
def test_arrays_and_json_round_trip(arrays: dict[str, np.ndarray]) -> None:
    path = f"memory://{uuid.uuid4().hex}/arrays.npz"
    files.write_arrays(path, arrays)
    read = files.read_arrays(path)
    assert read.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(read[name], array, strict=True)
    plain = {name: array.tolist() for name, array in arrays.items()}
    files.write_json(path + ".json", plain)
    assert files.read_json(path + ".json") == plain


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_writer_that_fails_leaves_nothing_half_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    path = tmp_path / "table.json"
    files.write_bytes(str(path), b"old")

    def fail(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    if failing == "fsync":
        monkeypatch.setattr(os, "fsync", fail)
    else:
        monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="no space"):
        files.write_bytes(str(path), b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_files_cut_short_are_named(directory: str) -> None:
    path = files.join(directory, "table")
    files.write_arrays(path, {"ids": np.arange(100)})
    whole = files.read_bytes(path)
    for n in (0, 1, 10, len(whole) // 2, len(whole) - 1):
        files.write_bytes(path, whole[:n])
        with pytest.raises(ValueError, match=r"table: not a readable table .* cut short"):
            files.read_arrays(path)
    files.write_bytes(path, b'{"a": [1, 2')
    with pytest.raises(ValueError, match=r"table: not a readable JSON file .* cut short"):
        files.read_json(path)


def test_missing_files_are_missing_files(directory: str) -> None:
    for read in (files.read_bytes, files.read_json, files.read_arrays):
        with pytest.raises(FileNotFoundError, match="nothing"):
            read(files.join(directory, "nothing"))


def test_what_killed_writers_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    hexadecimal = uuid.uuid4().hex
    left = [
        f"a/c/0/0/1.{hexadecimal}.partial",
        f"a/zarr.{hexadecimal}.partial",
        f"a.{hexadecimal}.partial",
        f"table.parquet.{hexadecimal}.partial",
    ]
    others = [
        "a/c/0/0/1",
        "a/zarr.json",
        "a/my.partial",
        f"b.{hexadecimal}.partial",
        f"b/1.{hexadecimal}.partial",
    ]
    for name in (*left, *others, "table.parquet", f"a/{hexadecimal}", f"c/{hexadecimal}.partial.txt"):
        files.write_bytes(str(tmp_path / name), b"...")
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    for name in ("a", "table.parquet", "nothing"):
        files.remove_partial(str(tmp_path / name))
    after = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert before - after == {tmp_path / name for name in left}
    files.remove_partial(f"memory://{uuid.uuid4().hex}/a")


def test_a_folder_is_moved(directory: str) -> None:
    files.write_bytes(files.join(directory, "a", "b", "one"), b"one")
    files.move(files.join(directory, "a"), files.join(directory, "c"))
    assert files.names(directory) == ["c"]
    assert files.read_bytes(files.join(directory, "c", "b", "one")) == b"one"


@pytest.mark.parametrize(
    ("parts", "joined"),
    [
        (("out.zarr", "rag"), "out.zarr/rag"),
        (("out.zarr/", "/volumes/fragments/", "x"), "out.zarr/volumes/fragments/x"),
        (("out.zarr", "", "/"), "out.zarr"),
        (("s3://bucket/out.zarr", "rag"), "s3://bucket/out.zarr/rag"),
    ],
)
def test_join(parts: tuple[str, ...], joined: str) -> None:
    assert files.join(*parts) == joined
