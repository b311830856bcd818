"""Folders that are replaced: what others put there stays, and what links lead to; a kill loses no volume."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lsd_dask.storage import disks, parquet
from lsd_dask.volumes.saving import open_volume, save_volume

SHAPE = (8, 8, 8)
OLD, NEW = np.arange(512, dtype="uint64").reshape(SHAPE), np.full(SHAPE, 7, "uint64")
FORMATS = {"n5": "em.n5/raw", "precomputed": "precomputed://em", "zarr": "em.zarr/raw", "hdf5": "em.h5/raw"}

folders = pytest.mark.parametrize("name", ["n5", "precomputed"])
every = pytest.mark.parametrize("name", FORMATS)


def path_in(folder: Path, name: str) -> str:
    if name in ("n5", "precomputed"):
        pytest.importorskip("tensorstore")
    prefix, _, rest = FORMATS[name].rpartition("://")
    return f"{prefix}://{folder}/{rest}" if prefix else f"{folder}/{rest}"


def place_of(path: str) -> Path:
    return Path(path.removeprefix("precomputed://"))


def save(voxels: np.ndarray, path: str, **options: Any) -> None:
    save_volume(voxels, path, voxel_size=(8, 8, 8), units="nanometer", **options)


def is_there(voxels: np.ndarray, path: str) -> bool:
    return np.array_equal(open_volume(path).values, voxels)


@folders
def test_what_others_put_into_the_folder_stays(tmp_path: Path, name: str) -> None:
    path = path_in(tmp_path, name)
    save(OLD, path)
    mesh = place_of(path) / "mesh/1:0"
    mesh.parent.mkdir()
    mesh.write_text("a mesh")
    (place_of(path) / "provenance").write_text("{}")
    with pytest.raises(FileExistsError, match="already there"):
        save(NEW, path)
    save(NEW, path, overwrite=True)
    assert is_there(NEW, path)
    assert mesh.read_text() == "a mesh"
    assert (place_of(path) / "provenance").exists()
    assert not list(tmp_path.rglob("*.partial"))


class Killed(BaseException):
    """In place of a kill, which no handler of errors sees either."""


@folders
@pytest.mark.parametrize("moment", range(1, 5))
def test_a_writer_that_is_killed_between_two_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, moment: int
) -> None:
    """With the removal of the old folder before the move of the new one, neither is there at one of them."""
    path = path_in(tmp_path, name)
    save(OLD, path)
    (place_of(path) / "mesh").mkdir()
    calls, rename = iter(range(1, 99)), disks.rename

    def killing(source: str | Path, to: str | Path) -> None:
        if next(calls) >= moment:
            raise Killed
        rename(source, to)

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(disks, "rename", killing)
        save(NEW, path, overwrite=True)
    if not place_of(path).exists():
        with pytest.raises(FileNotFoundError, match=r"left it at .*\.old\.partial: run it again, or rename"):
            open_volume(path)
    else:
        assert is_there(OLD if moment == 1 else NEW, path)
    with pytest.raises(FileExistsError, match="already there"):
        save(NEW + 1, path)
    assert is_there(OLD if moment < 3 else NEW, path)
    assert (place_of(path) / "mesh").is_dir()
    save(NEW + 1, path, overwrite=True)
    assert is_there(NEW + 1, path)
    assert (place_of(path) / "mesh").is_dir()
    assert not [left for left in tmp_path.rglob("*.partial") if not left.name.endswith(".new.partial")]


@every
def test_what_a_link_leads_to_stays(tmp_path: Path, name: str) -> None:
    """The path itself, a folder above it, and what is in it."""
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    kept = path_in(outside, name)
    save(OLD, kept)
    (outside / "notes").write_text("mine")

    path = path_in(inside, name)
    save(OLD, path)
    target = place_of(kept)
    # What is not an array's own is refused in the folder of a zarr array.
    within = "c" if name == "zarr" else ""
    if name == "hdf5":
        link, target = place_of(path).parent, target.parent
        link.unlink()
    else:
        link = place_of(path)
        link.rename(inside / "aside")
        (target / within / "elsewhere").symlink_to(outside)
    link.symlink_to(target)
    save(NEW, path, overwrite=True)
    assert is_there(NEW, path)
    assert is_there(OLD, kept)

    if name != "hdf5":
        (place_of(path) / within / "elsewhere").symlink_to(outside)
        save(NEW + 1, path, overwrite=True)
        assert is_there(OLD, kept)

    (tmp_path / "above").symlink_to(outside)
    save(NEW, path_in(tmp_path / "above", name), overwrite=True)
    assert is_there(NEW, kept)
    assert (tmp_path / "above").is_symlink()
    assert (outside / "notes").read_text() == "mine"


def test_a_table_that_is_a_link_is_replaced_and_its_target_stays(tmp_path: Path) -> None:
    target, link = tmp_path / "outside.parquet", tmp_path / "rag/nodes.parquet"
    parquet.write_table(str(target), {"id": np.arange(3)})
    before = target.read_bytes()
    link.parent.mkdir()
    link.symlink_to(target)
    parquet.write_table(str(link), {"id": np.arange(5)})
    assert len(parquet.read_table(str(link), "id")[0]) == 5
    assert target.read_bytes() == before


@pytest.mark.parametrize("what", ["file", "folder"])
def test_removing_a_link_leaves_its_target(tmp_path: Path, what: str) -> None:
    target, folder = tmp_path / "outside", tmp_path / "inside"
    target.mkdir()
    (target / "mine").write_text("mine")
    folder.mkdir()
    (folder / "link").symlink_to(target / "mine" if what == "file" else target)
    disks.remove(folder / "link" if what == "file" else folder)
    assert (target / "mine").read_text() == "mine"
