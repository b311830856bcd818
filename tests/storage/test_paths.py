"""Paths are taken as they stand; names within a container lead down, and nothing else is touched."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from distributed import Client
from hypothesis import given, settings
from hypothesis import strategies as st

import lsd_dask as ld
from lsd_dask import workflows
from lsd_dask.blockwise.blocks import Block
from lsd_dask.blockwise.ledgers import Ledger
from lsd_dask.storage import files, parquet
from lsd_dask.storage.paths import normalise_path
from lsd_dask.workflows.config.loading import ConfigError

#: Letters that shells, URLs and patterns take for something else, and others.
LETTERS = st.sampled_from("#?[]*~ %:;&=!'\"$(){}|<>+,@^-._aä字")
NAMES = st.text(LETTERS, min_size=1, max_size=20).filter(lambda name: name not in (".", ".."))
DOTS = st.lists(st.sampled_from(["a", "volumes", ".."]), min_size=1, max_size=5).filter(lambda x: ".." in x)


@settings(max_examples=40)
@given(folder=NAMES, container=NAMES)
def test_any_letters_are_part_of_a_name(folder: str, container: str) -> None:
    voxels = np.arange(8, dtype=np.uint64).reshape(2, 2, 2)
    with TemporaryDirectory() as place:
        root = f"{place}/{folder}/{container}.zarr"
        ld.save_volume(voxels, f"{root}/raw")
        ld.save_volume(voxels + 1, f"{root}/raw", overwrite=True)
        assert np.array_equal(ld.open_volume(f"{root}/raw").values, voxels + 1)
        parquet.write_table(f"{root}/rag/nodes.parquet", {"id": voxels.ravel()})
        assert len(parquet.read_table(f"{root}/rag/nodes.parquet", "id")[0]) == 8
        assert [path.name for path in Path(place).iterdir()] == [folder]


def test_a_run_with_its_report_in_a_folder_of_an_odd_name(
    cluster_client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "a #b?[1]*%20 ~x"
    folder.mkdir()
    monkeypatch.chdir(folder)
    labels = np.arange(1, 9, dtype=np.uint64).reshape(2, 2, 2).repeat(6, 0).repeat(6, 1).repeat(6, 2)
    ld.save_volume(ld.affinities(labels), "c [2]#.zarr/affs")
    given = {"affs_file": "c [2]#.zarr", "affs_dataset": "affs", "fragments_file": "o?*.zarr"}
    workflows.extract_fragments(**given, performance_report="p #1?.html", report="r [x]*.html")
    assert Path(workflows.report("o?*.zarr", folder / "rep ?#.html")).name == "rep ?#.html"
    found = {path.name for path in folder.iterdir()}
    assert found == {"c [2]#.zarr", "o?*.zarr", "p #1?.html", "r [x]*.html", "rep ?#.html"}
    assert len(np.unique(ld.open_volume("o?*.zarr/volumes/fragments"))) == 8


@settings(max_examples=40)
@given(parts=DOTS)
def test_names_with_dots_are_refused_and_nothing_is_touched(parts: list[str]) -> None:
    key = "/".join(parts)
    with TemporaryDirectory() as place:
        ld.save_volume(np.zeros((3, 2, 2, 2), np.uint8), f"{place}/v.zarr/volumes/affs")
        before = sorted(Path(place).rglob("*"))
        with pytest.raises(ConfigError, match=r"fragments_dataset found '\.\.'"):
            workflows.extract_fragments(
                affs_file=f"{place}/v.zarr", fragments_file=f"{place}/v.zarr", fragments_dataset=key
            )
        with pytest.raises(ValueError, match=r"found '\.\.'"):
            ld.save_volume(np.zeros((2, 2, 2), np.uint8), f"{place}/v.zarr/{key}", overwrite=True)
        with pytest.raises(ValueError, match=r"found '\.\.'"):
            ld.open_volume(f"{place}/v.zarr/{key}")
        assert sorted(Path(place).rglob("*")) == before


def test_dots_before_the_container_are_those_of_the_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "far" / "below").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "far" / "below")
    monkeypatch.chdir(tmp_path / "far")
    assert normalise_path("../v.zarr/raw") == f"{tmp_path}/v.zarr/raw"
    assert normalise_path(f"{tmp_path}/link/../v.zarr/raw") == f"{tmp_path}/far/v.zarr/raw"
    assert normalise_path("./~/v.zarr") == f"{tmp_path}/far/~/v.zarr"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("zip://raw::file:///b.zip", "zip archives are not read"),
        ("nowhere://x/raw", "the protocol 'nowhere'"),
        ("s3://bucket/a/../b.zarr", "found '..'"),
        (f"/{'a' * 256}.zarr/raw", "a name of 261 bytes"),
        (f"/{'a/' * 2100}b.zarr", "a path of 4"),
        ("/a\0b.zarr/raw", "no path can hold"),
        ("/v.zarr/a\\b", "the character"),
        ("/v.zarr/zarr.json", "a file of zarr's own"),
    ],
)
def test_what_cannot_be_a_path_is_refused(path: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        normalise_path(path)


def test_a_ledger_removes_what_a_ledger_wrote(tmp_path: Path) -> None:
    outer = Ledger(str(tmp_path / "runs" / "a"), {"of": "a"})
    inner = Ledger(str(tmp_path / "runs" / "a" / "b"), {"of": "a/b"})
    for ledger in (outer, inner):
        ledger.begin()
        ledger.record(Block((0, 0, 0), (slice(0, 1),) * 3), {})
    outer.clear()
    assert not outer.done()
    assert inner.is_current()
    assert len(inner.done()) == 1
    assert files.names(outer.directory) == ["b", "run.json"]


def test_levels_that_lead_out_of_their_group_are_refused(tmp_path: Path) -> None:
    import zarr

    ld.save_volume(np.zeros((2, 2, 2), np.uint8), tmp_path / "v.zarr" / "raw")
    axes = [{"name": name, "type": "space"} for name in "zyx"]
    entry = {"axes": axes, "datasets": [{"path": "../../v.zarr/raw"}]}
    zarr.open_group(tmp_path / "v.zarr" / "image").attrs["ome"] = {"version": "0.5", "multiscales": [entry]}
    with pytest.raises(ValueError, match=r"image: OME-NGFF multiscales: datasets: found '\.\.'"):
        ld.open_volume(tmp_path / "v.zarr" / "image")
