"""Wrong input, by function and by file: told at once, in words that name what is wrong; nothing is touched.

`test_mistakes` has the mistakes that are made with workflows. Here each row of a table is a call that fails:
with what, and what the message says. What can be seen from a type, a shape or attributes is told when the
function is called, also for lazy arrays; only what voxels hold waits until they are computed.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dask.array as da
import h5py
import imageio.v3 as iio
import numpy as np
import pyarrow as pa
import pytest
import tifffile
import xarray as xr
import zarr
from dask.delayed import delayed
from distributed import Client

import lsd_dask as ld
from lsd_dask import parquet, workflows
from lsd_dask.agglomeration import LookupTable, MergeTree
from lsd_dask.grids import Grid
from lsd_dask.lazy import label
from lsd_dask.region_graph import RegionGraph
from lsd_dask.runs import RunFailedError
from lsd_dask.storage import StoredVolume

ZYX = ("z", "y", "x")
SHAPE = (8, 8, 8)
LABELS = np.repeat(np.arange(1, 3, dtype=np.uint64), 4)[:, None, None] * np.ones(SHAPE, np.uint64)
AFFINITIES = np.asarray(ld.affinities(LABELS))
GRAPH = ld.build_region_graph(AFFINITIES, LABELS)
TREE = ld.agglomerate(GRAPH, "mean")
LUT = TREE.cut(0.5)
PLACE: dict[str, Any] = {"voxel_size": (40, 8, 8), "offset": (400, 0, 0)}


def digest(folder: Path) -> str:
    """Of all files below a folder: their names and what is in them."""
    hashed = hashlib.blake2b()
    for path in sorted(folder.rglob("*")):
        hashed.update(str(path).encode())
        if path.is_file():
            hashed.update(path.read_bytes())
    return hashed.hexdigest()


def refused(folder: Path, call: Callable[[], Any], error: type[Exception], *parts: str) -> None:
    """Check that a call fails, that its message has all of these parts, and that no file was touched."""
    before = digest(folder)
    with pytest.raises(error) as caught:
        call()
    message = str(caught.value)
    for part in parts:
        assert part in message, message
    assert digest(folder) == before


def cut(path: Path, share: float = 0.5) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])


def only_file(folder: Path) -> Path:
    (path,) = (p for p in folder.rglob("*") if p.is_file() and not p.name.startswith((".z", "zarr")))
    return path


def edited(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Everything that the tables below look at. It stays as it is, as nothing may touch it: the last word."""
    folder = tmp_path_factory.mktemp("house")
    containers(folder)
    pictures(folder)
    tables(folder)
    before = digest(folder)
    yield folder
    assert digest(folder) == before


def containers(folder: Path) -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, SHAPE).astype(np.uint64)
    good = folder / "good.zarr"
    ld.save_volume(LABELS, good / "volumes/labels", **PLACE)
    ld.save_volume(AFFINITIES, good / "volumes/affs", **PLACE)
    ld.save_volume(noise, good / "volumes/noise", **PLACE)
    (folder / "nothing").mkdir()
    (folder / "nothing.zarr").mkdir()
    (folder / "note.txt").write_text("hello")
    (folder / "note.zarr").write_text("hello")

    for name, damage in {
        "half": lambda path: cut(path / "labels/zarr.json"),
        "none": lambda path: (path / "labels/zarr.json").write_bytes(b""),
        "bytes": lambda path: (path / "labels/zarr.json").write_bytes(b"\xff\xfe\x00"),
        "list": lambda path: (path / "labels/zarr.json").write_text("[]"),
        "parent": lambda path: cut(path / "zarr.json"),
        "shape": lambda path: edited(path / "labels/zarr.json", shape=[8, 8]),
        "negative": lambda path: edited(path / "labels/zarr.json", shape=[-1, 8, 8]),
        "type": lambda path: edited(path / "labels/zarr.json", data_type="words"),
        "codec": lambda path: edited(path / "labels/zarr.json", codecs=[{"name": "gnome"}]),
        "shard": lambda path: cut(only_file(path / "noise"), 0.9),
        "shard_none": lambda path: only_file(path / "noise").write_bytes(b""),
        "shard_other": lambda path: only_file(path / "noise").write_bytes(b"x" * 1000),
    }.items():
        shutil.copytree(good, folder / f"{name}.zarr")
        damage(folder / f"{name}.zarr/volumes")

    for name, part in {"array": "labels/.zarray", "attributes": "labels/.zattrs", "group": ".zgroup"}.items():
        ld.save_volume(noise, folder / f"v2_{name}.zarr/labels", zarr_format=2, **PLACE)
        cut(folder / f"v2_{name}.zarr" / part)
    ld.save_volume(noise, folder / "v2_chunk.zarr/noise", zarr_format=2, **PLACE)
    cut(only_file(folder / "v2_chunk.zarr/noise"))

    for name, attributes in {
        "scalar": {"resolution": 4},
        "text": {"resolution": "4, 4, 4"},
        "words": {"resolution": ["a", "b", "c"]},
        "nan": {"resolution": [4, float("nan"), 4]},
        "null": {"resolution": [4, 4, 4], "offset": [None, 0, 0]},
        "corner": {"offset": 5},
        "unit": {"resolution": [4, 4, 4], "units": 5},
        "units": {"resolution": [4, 4, 4], "units": [["nm"], ["nm"], ["nm"]]},
        "numbered": {"axis_names": [1, 2, 3]},
        "kinds": {"types": ["space", "space", "smell"]},
    }.items():
        zarr.create_array(
            str(folder / "attributes.zarr"),
            name=name,
            shape=SHAPE,
            dtype="u8",
            chunks=(4,) * 3,
            attributes=attributes,
        )

    axes = [{"name": name, "type": "space"} for name in ZYX]
    for name, ome in {
        "word": "hello",
        "mapping": {"multiscales": {"a": 1}},
        "pathless": {"multiscales": [{"axes": axes, "datasets": [{"coordinateTransformations": []}]}]},
        "words": {"multiscales": [{"axes": axes, "datasets": [scaled(["a", "b", "c"])]}]},
        "short": {"multiscales": [{"axes": axes, "datasets": [scaled([4, 4])]}]},
        "zero": {"multiscales": [{"axes": axes, "datasets": [scaled([4, 4, 0])]}]},
    }.items():
        group = zarr.create_group(str(folder / f"ome_{name}.zarr"))
        group.create_array("0", shape=SHAPE, dtype="u8", chunks=(4,) * 3)
        group.attrs["ome"] = ome


def scaled(scale: list[Any]) -> dict[str, Any]:
    return {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": scale}]}


def pictures(folder: Path) -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (40, 40, 40)).astype(np.uint8)
    with h5py.File(folder / "good.h5", "w") as file:
        file.create_dataset("noise", data=noise, chunks=(8, 8, 8), compression="gzip")
        file["words"] = "hello"
    whole = (folder / "good.h5").read_bytes()
    for share in (1, 9):
        (folder / f"cut{share}.h5").write_bytes(whole[: len(whole) * share // 10])
    middle = len(whole) // 2
    (folder / "damaged.h5").write_bytes(whole[:middle] + bytes(9000) + whole[middle + 9000 :])
    (folder / "folder.h5").mkdir()

    for name, widths in {"uneven": (8, 9), "second": (8, 8), "first": (8, 8)}.items():
        (folder / name).mkdir()
        for z, width in enumerate(widths):
            iio.imwrite(folder / name / f"s{z}.png", noise[z, :8, :width])
    cut(folder / "second/s1.png", 0.6)
    cut(folder / "first/s0.png", 0.6)
    tifffile.imwrite(folder / "pages.tif", noise[:4], photometric="minisblack")
    cut(folder / "pages.tif", 0.7)
    tifffile.imwrite(folder / "large.tif", noise[:4], photometric="minisblack", bigtiff=True)
    cut(folder / "large.tif", 0.7)
    (folder / "note.tif").write_text("hello")
    (folder / "folder.tif").mkdir()


def tables(folder: Path) -> None:
    GRAPH.to_parquet(str(folder / "rag"))
    TREE.to_parquet(str(folder / "tree.parquet"))
    LUT.to_parquet(str(folder / "lut.parquet"))
    shutil.copy(folder / "tree.parquet", folder / "tree_cut.parquet")
    cut(folder / "tree_cut.parquet", 0.99)
    shutil.copy(folder / "lut.parquet", folder / "lut_cut.parquet")
    cut(folder / "lut_cut.parquet", 0.3)
    (folder / "empty.parquet").write_bytes(b"")
    (folder / "note.parquet").write_text("hello")

    def ids(*values: int) -> np.ndarray:
        return np.array(values, np.uint64)

    for name, columns in {
        "floats": {"fragment": np.array([1.5]), "segment": np.array([2.5])},
        "words": {"fragment": ["a"], "segment": ["b"]},
        "gaps": {"fragment": pa.array([1, None], pa.uint64()), "segment": ids(1, 1)},
        "unsorted": {"fragment": ids(2, 1), "segment": ids(1, 1)},
        "twice": {"fragment": ids(1, 1), "segment": ids(1, 2)},
        "negative": {"fragment": np.array([-2, 1]), "segment": ids(1, 1)},
    }.items():
        parquet.write_table(str(folder / f"lut_{name}.parquet"), columns)

    good: dict[str, Any] = {"fragment": ids(1, 2), "parent": ids(1, 1), "level": np.array([256, 3])}
    for name, function, changes in (
        ("unknown", "meen", {}),
        ("stranger", "mean", {"parent": ids(1, 9)}),
        ("upwards", "mean", {"parent": ids(2, 1)}),
        ("unsorted", "mean", {"fragment": ids(2, 1)}),
        ("below", "mean", {"level": np.array([256, -3])}),
        ("half", "mean", {"level": np.array([256, 0.5])}),
    ):
        path = str(folder / f"tree_{name}.parquet")
        parquet.write_table(path, {**good, **changes}, {"merge_function": function})
    parquet.write_table(str(folder / "tree_mute.parquet"), good)

    other = ld.build_region_graph(AFFINITIES, LABELS + np.uint64(5))
    nodes = GRAPH.nodes.columns()
    facts = {
        "scale": 65535,
        "dims": ZYX,
        "shape": SHAPE,
        "voxel_size": (1, 1, 1),
        "offset": (0, 0, 0),
        "units": "x",
    }
    for name, damage in {
        "no_edges": lambda path: (path / "edges.parquet").unlink(),
        "edges_cut": lambda path: cut(path / "edges.parquet"),
        "nodes_cut": lambda path: cut(path / "nodes.parquet", 0.9),
        "swapped": lambda path: shutil.copy(path / "edges.parquet", path / "nodes.parquet"),
        "mixed": lambda path: parquet.write_table(str(path / "edges.parquet"), other.edges.columns()),
        "mute": lambda path: parquet.write_table(str(path / "nodes.parquet"), nodes),
        "flat": lambda path: parquet.write_table(
            str(path / "nodes.parquet"), nodes, {**facts, "voxel_size": (1, 0, 1)}
        ),
        "scale": lambda path: parquet.write_table(
            str(path / "nodes.parquet"), nodes, {**facts, "scale": "a"}
        ),
        "floats": lambda path: parquet.write_table(
            str(path / "nodes.parquet"), {**nodes, "size": nodes["size"] / 2}, facts
        ),
    }.items():
        shutil.copytree(folder / "rag", folder / f"rag_{name}")
        damage(folder / f"rag_{name}")


# Opening

type Row = tuple[str, dict[str, Any], type[Exception], tuple[str, ...]]

NO_CONTAINER = "there is no zarr container at or above this path"
METADATA = "zarr metadata cannot be read"

#: What is opened, with which options; the error, and parts of its message beside the path.
OPENED: dict[str, Row] = {
    "a folder of nothing": ("nothing", {}, FileNotFoundError, (NO_CONTAINER,)),
    "a container of nothing": ("nothing.zarr", {}, FileNotFoundError, (NO_CONTAINER,)),
    "a text file": ("note.txt", {}, FileNotFoundError, (NO_CONTAINER,)),
    "an array in a text file": ("note.zarr/raw", {}, FileNotFoundError, (NO_CONTAINER,)),
    "the metadata themselves": (
        "good.zarr/volumes/labels/zarr.json",
        {},
        FileNotFoundError,
        ("holds no array 'zarr.json'", "the container itself"),
    ),
    "a group": (
        "good.zarr/volumes",
        {},
        ValueError,
        ("this is a group, not an array", "affs, labels, noise"),
    ),
    "chunks of nothing": ("good.zarr/volumes/labels", {"chunks": 0}, ValueError, ("chunks: found 0",)),
    "negative chunks": (
        "good.zarr/volumes/labels",
        {"chunks": (4, -3, 4)},
        ValueError,
        ("chunks: found -3, expected a whole number from 1",),
    ),
    "half chunks": ("good.zarr/volumes/labels", {"chunks": (4.5, 4, 4)}, TypeError, ("chunks: found 4.5",)),
    "chunks in words": ("good.zarr/volumes/labels", {"chunks": "auto"}, TypeError, ("chunks: found 'auto'",)),
    "a negative level": ("good.zarr/volumes/labels", {"level": -1}, ValueError, ("level: found -1",)),
    "half a level": ("good.zarr/volumes/labels", {"level": 1.5}, TypeError, ("level: found 1.5",)),
    "a level in words": ("good.zarr/volumes/labels", {"level": "s0"}, TypeError, ("level: found 's0'",)),
    "one voxel size": (
        "good.zarr/volumes/labels",
        {"voxel_size": 4},
        ValueError,
        ("voxel_size: found 4, expected a number for each",),
    ),
    "a voxel size of 0": (
        "good.zarr/volumes/labels",
        {"voxel_size": (0, 4, 4)},
        ValueError,
        ("voxel sizes must be positive numbers, but are (0, 4, 4)",),
    ),
    "a voxel size of NaN": (
        "good.zarr/volumes/labels",
        {"voxel_size": (np.nan, 4, 4)},
        ValueError,
        ("positive numbers, but are (nan, 4, 4)",),
    ),
    "a voxel size in words": (
        "good.zarr/volumes/labels",
        {"voxel_size": "abc"},
        ValueError,
        ("voxel_size: found 'abc'",),
    ),
    "no voxel size on one axis": (
        "good.zarr/volumes/labels",
        {"voxel_size": (None, 4, 4)},
        ValueError,
        ("voxel_size: found (None, 4, 4)",),
    ),
    "an offset of NaN": (
        "good.zarr/volumes/labels",
        {"offset": (0, np.nan, 0)},
        ValueError,
        ("offsets must be finite numbers, but are (0, nan, 0)",),
    ),
    "an endless offset": (
        "good.zarr/volumes/labels",
        {"offset": (0, 0, np.inf)},
        ValueError,
        ("offsets must be finite",),
    ),
    "one offset": ("good.zarr/volumes/labels", {"offset": 5}, ValueError, ("offset: found 5",)),
    "a unit that is a number": ("good.zarr/volumes/labels", {"units": 4}, ValueError, ("unit", "4")),
    "metadata cut short": ("half.zarr/volumes/labels", {}, ValueError, (METADATA,)),
    "a group around them": ("half.zarr", {}, ValueError, ("zarr metadata of an array or group below",)),
    "another array beside them": (
        "half.zarr/x",
        {},
        ValueError,
        ("zarr metadata of an array or group below",),
    ),
    "metadata of nothing": ("none.zarr/volumes/labels", {}, ValueError, (METADATA,)),
    "metadata that are no text": ("bytes.zarr/volumes/labels", {}, ValueError, (METADATA,)),
    "metadata that are a list": ("list.zarr/volumes/labels", {}, ValueError, (METADATA, "list")),
    "metadata of the parent cut short": ("parent.zarr/volumes/labels", {}, ValueError, (METADATA,)),
    "metadata of another shape": ("shape.zarr/volumes/labels", {}, ValueError, (METADATA, "dimensions")),
    "metadata of a negative shape": (
        "negative.zarr/volumes/labels",
        {},
        ValueError,
        (METADATA, "[-1, 8, 8]"),
    ),
    "metadata of an unknown type": ("type.zarr/volumes/labels", {}, ValueError, (METADATA, "words")),
    "metadata of an unknown codec": ("codec.zarr/volumes/labels", {}, ValueError, (METADATA, "gnome")),
    "format 2 cut short": ("v2_array.zarr/labels", {}, ValueError, (METADATA,)),
    "attributes of format 2 cut short": ("v2_attributes.zarr/labels", {}, ValueError, (METADATA,)),
    "a group of format 2 cut short": ("v2_group.zarr/labels", {}, ValueError, (METADATA,)),
    "one stored resolution": (
        "attributes.zarr/scalar",
        {},
        ValueError,
        ("resolution: found 4, expected a list of numbers",),
    ),
    "a stored resolution in words": (
        "attributes.zarr/text",
        {},
        ValueError,
        ("resolution: found '4, 4, 4'",),
    ),
    "stored resolutions of letters": (
        "attributes.zarr/words",
        {},
        ValueError,
        ("resolution: found ['a', 'b'",),
    ),
    "a stored resolution of NaN": (
        "attributes.zarr/nan",
        {},
        ValueError,
        ("positive numbers, but are (4, nan, 4)",),
    ),
    "a stored offset of nothing": ("attributes.zarr/null", {}, ValueError, ("offset: found [None, 0, 0]",)),
    "one stored offset": (
        "attributes.zarr/corner",
        {},
        ValueError,
        ("offset: found 5, expected a list of numbers",),
    ),
    "a stored unit that is a number": ("attributes.zarr/unit", {}, ValueError, ("units: found 5",)),
    "stored units in lists": ("attributes.zarr/units", {}, ValueError, ("units: found [['nm'], ['nm']",)),
    "stored axes that are numbers": (
        "attributes.zarr/numbered",
        {},
        ValueError,
        ("axis_names: found [1, 2, 3]",),
    ),
    "stored axes of no kind": ("attributes.zarr/kinds", {}, ValueError, ("'space', 'smell'",)),
    "OME metadata that are a word": ("ome_word.zarr", {}, ValueError, ("OME-NGFF metadata", "'hello'")),
    "multiscales that are no list": ("ome_mapping.zarr", {}, ValueError, ("OME-NGFF metadata", "{'a': 1}")),
    "levels without paths": ("ome_pathless.zarr", {}, ValueError, ("need datasets with paths, but found",)),
    "scales of letters": (
        "ome_words.zarr",
        {},
        ValueError,
        ("scales and translations of 3 numbers", "['a', 'b'"),
    ),
    "too few scales": ("ome_short.zarr", {}, ValueError, ("scales and translations of 3 numbers", "[4, 4]")),
    "a scale of 0": (
        "ome_zero.zarr",
        {},
        ValueError,
        ("voxel sizes must be positive numbers, but are (4, 4, 0)",),
    ),
    "an HDF5 file cut early": ("cut1.h5/noise", {}, ValueError, ("damaged or was cut short", "truncated")),
    "an HDF5 file cut late": ("cut9.h5/noise", {}, ValueError, ("damaged or was cut short", "truncated")),
    "words in an HDF5 file": (
        "good.h5/words",
        {},
        ValueError,
        ("expected axes [channel,] z, y, x", "shape ()"),
    ),
    "a folder called like an HDF5 file": ("folder.h5/noise", {}, FileNotFoundError, ("no such HDF5 file",)),
    "a first section cut short": ("first", {}, ValueError, ("s0.png: this is no image", "cut short")),
    "two voxel sizes of a stack": (
        "uneven",
        {"voxel_size": (4, 4)},
        ValueError,
        ("voxel_size needs 3 numbers (z, y, x), but has 2",),
    ),
    "pages cut short": ("pages.tif", {}, ValueError, ("the list of pages leads to byte", "cut short")),
    "pages of a large file cut short": (
        "large.tif",
        {},
        ValueError,
        ("the list of pages leads to", "cut short"),
    ),
    "text called like an image": ("note.tif", {}, ValueError, ("this is no image that can be read",)),
    "a folder called like an image": (
        "folder.tif",
        {},
        FileNotFoundError,
        ("no image files are in this folder",),
    ),
}


@pytest.mark.parametrize("case", OPENED)
def test_what_is_no_volume_is_not_opened(house: Path, case: str) -> None:
    path, options, error, parts = OPENED[case]
    container = str(house / path.split("/", maxsplit=1)[0])
    refused(house, lambda: ld.open_volume(house / path, **options), error, container, *parts)


@pytest.mark.parametrize(
    ("path", "error", "parts"),
    [
        (None, TypeError, ("path: found None, expected a path or URL",)),
        (LABELS, TypeError, ("path: found a ndarray",)),
        ("", ValueError, ("path: found ''",)),
        ("nonsense://em.zarr/raw", ValueError, ("nonsense://em.zarr/raw: found the protocol 'nonsense'",)),
    ],
    ids=["nothing", "an array", "empty", "an unknown protocol"],
)
def test_what_is_no_path_is_not_opened_or_written(
    house: Path, path: Any, error: type[Exception], parts: tuple[str, ...]
) -> None:
    refused(house, lambda: ld.open_volume(path), error, *parts)
    refused(house, lambda: ld.save_volume(LABELS, path), error, *parts)


#: What can be opened, but not be read; parts of the message.
READ = {
    "a shard cut short": ("shard.zarr/volumes/noise", "voxels [0:8, 0:8, 0:8] cannot be read"),
    "a shard of nothing": ("shard_none.zarr/volumes/noise", "was a file of the array cut short?"),
    "a shard of something else": ("shard_other.zarr/volumes/noise", "was a file of the array cut short?"),
    "a chunk of format 2 cut short": ("v2_chunk.zarr/noise", "was a file of the array cut short?"),
    "HDF5 damaged inside": ("damaged.h5/noise", "the HDF5 file is damaged or was cut short"),
    "a second section cut short": ("second", "s1.png: this is no image that can be read"),
    "sections of different shapes": ("uneven", "s1.png: expected a section of shape (1, 8, 8)"),
}


@pytest.mark.parametrize("case", READ)
def test_what_is_cut_short_is_neither_zeros_nor_something_else(house: Path, case: str) -> None:
    path, part = READ[case]
    volume = ld.open_volume(house / path)
    refused(house, lambda: volume.compute(), ValueError, str(house / path), part)


@pytest.mark.parametrize(
    "case", ["a shard cut short", "a chunk of format 2 cut short", "HDF5 damaged inside"]
)
def test_what_is_made_of_something_cut_short_names_it(house: Path, case: str) -> None:
    path, part = READ[case]
    volume = ld.open_volume(house / path)
    for made in (
        ld.affinities(volume),
        ld.local_shape_descriptors(volume, 2.0),
        ld.relabel(volume, LUT),
    ):
        refused(house, made.compute, ValueError, str(house / path), part)
    refused(house, lambda: ld.evaluation.rand_voi(volume, volume), ValueError, str(house / path), part)


# Saving


def placed(values: Any, **changes: Any) -> xr.DataArray:
    """Voxels with a place of their own."""
    options = {"voxel_size": (1, 1, 1), "offset": (0, 0, 0), "units": "nanometer", **changes}
    return label(values, Grid(ZYX, values.shape[-3:], **options))


def named(*dims: str, **options: Any) -> xr.DataArray:
    return xr.DataArray(AFFINITIES if len(dims) == 4 else LABELS, dims=dims, **options)


DEPTHS = [0, 1, 2, 3, 4, 5, 6, 9]

#: What is saved, with which options; the error and parts of its message.
SAVED: dict[str, tuple[Any, dict[str, Any], type[Exception], str]] = {
    "a list": ([[1, 2], [3, 4]], {}, TypeError, "volume: found a list, expected a NumPy array"),
    "text": ("labels", {}, TypeError, "volume: found the text 'labels'"),
    "nothing": (None, {}, TypeError, "volume: found None"),
    "a promise": (delayed(LABELS), {}, TypeError, "volume: found a Delayed"),
    "a data set": (xr.Dataset({"a": named(*ZYX)}), {}, TypeError, "volume: found a Dataset"),
    "a row": (np.ones(4), {}, ValueError, "not 1 axes"),
    "five axes": (np.ones((1, 1, 2, 2, 2)), {}, ValueError, "not 5 axes"),
    "objects": (
        np.array([[1, None]], object),
        {},
        ValueError,
        "expected numbers, but the array holds object",
    ),
    "words": (np.array([["a", "b"]]), {}, ValueError, "expected numbers, but the array holds <U1"),
    "complex numbers": (np.ones((4, 4), complex), {}, ValueError, "but the array holds complex128"),
    "dates": (np.zeros((4, 4), "M8[s]"), {}, ValueError, "but the array holds datetime64[s]"),
    "records": (np.zeros((4, 4), [("a", "i4")]), {}, ValueError, "but the array holds [('a', '<i4')]"),
    "numbers of 16 bytes": (np.zeros((4, 4), np.longdouble), {}, ValueError, "the array holds float128"),
    "an unknown shape": (
        da.from_array(LABELS)[da.from_array(LABELS[:, 0, 0]) > 1],
        {},
        ValueError,
        "shape (nan, 8, 8), which is not known yet",
    ),
    "one voxel size": (LABELS, {"voxel_size": 4}, ValueError, "voxel_size: found 4"),
    "a voxel size of 0": (LABELS, {"voxel_size": (0, 4, 4)}, ValueError, "but are (0, 4, 4)"),
    "a negative voxel size": (LABELS, {"voxel_size": (-4, 4, 4)}, ValueError, "but are (-4, 4, 4)"),
    "too many voxel sizes": (
        LABELS,
        {"voxel_size": (1,) * 4},
        ValueError,
        "voxel_size needs 3 numbers (z, y, x)",
    ),
    "one offset": (LABELS, {"offset": 0}, ValueError, "offset: found 0"),
    "too few offsets": (
        LABELS,
        {"offset": (0, 0)},
        ValueError,
        "offset needs 3 numbers (z, y, x), but has 2",
    ),
    "a unit that is a number": (
        LABELS,
        {"units": 5},
        ValueError,
        "units must be the name of a unit, but are 5",
    ),
    "a second place": (named(*ZYX), {"voxel_size": (1, 1, 1)}, ValueError, "a DataArray knows its place"),
    "blocks of nothing": (
        LABELS,
        {"block_shape": (0, 4, 4)},
        ValueError,
        "block_shape needs 3 positive numbers",
    ),
    "half blocks": (LABELS, {"block_shape": (4.5, 4, 4)}, TypeError, "block_shape: found 4.5"),
    "one block size": (LABELS, {"block_shape": 4}, TypeError, "block_shape: found 4, expected a sequence"),
    "blocks of channels": (
        AFFINITIES,
        {"block_shape": (3, 4, 4, 4)},
        ValueError,
        "block_shape needs 3 positive",
    ),
    "blocks that chunks do not divide": (
        LABELS,
        {"block_shape": (4, 4, 4), "chunk_shape": (3, 3, 3)},
        ValueError,
        "block_shape (4, 4, 4) must be a multiple of chunk_shape (3, 3, 3)",
    ),
    "format 1": (LABELS, {"zarr_format": 1}, ValueError, "zarr_format: found 1, expected 2 or 3"),
    "another format": (
        LABELS,
        {"zarr_format": 2},
        ValueError,
        "has zarr format 3, and cannot hold arrays of",
    ),
    "axes in another order": (named("x", "y", "z"), {}, ValueError, "found ('x', 'y', 'z')"),
    "channels at the end": (named(*ZYX, "channel"), {}, ValueError, "found ('z', 'y', 'x', 'channel')"),
    "uneven coordinates": (
        named(*ZYX, coords={"z": DEPTHS}),
        {},
        ValueError,
        "the z coordinates of None are not evenly",
    ),
    "coordinates of NaN": (
        named(*ZYX, coords={"z": [0, 1, 2, np.nan, 4, 5, 6, 7]}),
        {},
        ValueError,
        "the z coordinates of None are not evenly spaced",
    ),
    "coordinates in words": (
        named(*ZYX, coords={"z": list("abcdefgh")}),
        {},
        ValueError,
        "the z coordinates of None hold <U1, expected world positions",
    ),
    "flipped": (placed(LABELS)[::-1], {}, ValueError, "not evenly spaced and ascending"),
    "an attribute in words": (named(*ZYX, attrs={"voxel_size": "abc"}), {}, ValueError, "found 'abc'"),
    "an attribute of 0": (
        named(*ZYX, attrs={"voxel_size": (0, 4, 4)}),
        {},
        ValueError,
        "expected positive numbers",
    ),
    "a number for a unit": (
        named(*ZYX, attrs={"units": 4}),
        {},
        ValueError,
        "units must be the name of a unit",
    ),
}


@pytest.mark.parametrize("case", SAVED)
def test_what_is_no_volume_is_not_saved(house: Path, case: str) -> None:
    volume, options, error, part = SAVED[case]
    path = house / "good.zarr/volumes/new"
    refused(house, lambda: ld.save_volume(volume, path, **options), error, str(path), part)


#: Where something is saved that could be saved elsewhere.
PLACES: dict[str, tuple[str, type[Exception], str]] = {
    "no container": ("out", ValueError, "expected a container and the name of an array in it"),
    "a container": ("out.zarr", ValueError, "expected a container and the name of an array in it"),
    "an array that is there": (
        "good.zarr/volumes/labels",
        FileExistsError,
        "pass overwrite=True to replace it",
    ),
    "a group": (
        "good.zarr/volumes",
        FileExistsError,
        "a group is already there, with the arrays affs, labels, noise",
    ),
    "below an array": (
        "good.zarr/volumes/labels/new",
        NotADirectoryError,
        "is an array, which cannot hold another",
    ),
    "in a text file": ("note.zarr/new", NotADirectoryError, "note.zarr is a file, expected a zarr container"),
    "in an HDF5 file": ("good.h5/new", NotADirectoryError, "good.h5 is a file, expected a zarr container"),
    "on metadata": ("good.zarr/volumes/zarr.json", FileExistsError, "a file is already there"),
    "beside a group cut short": ("parent.zarr/volumes/new", ValueError, METADATA),
    "on an array cut short": ("half.zarr/volumes/labels", ValueError, METADATA),
}


@pytest.mark.parametrize("case", PLACES)
def test_nothing_is_saved_where_it_cannot_be(house: Path, case: str) -> None:
    place, error, part = PLACES[case]
    refused(
        house,
        lambda: ld.save_volume(LABELS, house / place),
        error,
        str(house / place.split("/", maxsplit=1)[0]),
        part,
    )


def test_a_volume_does_not_replace_what_it_is_computed_from(house: Path) -> None:
    path = house / "good.zarr/volumes/labels"
    volume = ld.open_volume(path) + 1
    part = "the volume is computed from the array it would replace"
    refused(house, lambda: ld.save_volume(volume, path, overwrite=True), ValueError, str(path), part)


CREATED: dict[str, tuple[Any, Any, dict[str, Any], type[Exception], str]] = {
    "a negative shape": ((-1, 4, 4), "u1", {}, ValueError, "shape: found -1, expected a whole number from 0"),
    "half a shape": ((4.5, 4, 4), "u1", {}, TypeError, "shape: found 4.5"),
    "one length": (4, "u1", {}, TypeError, "shape: found 4, expected a sequence of whole numbers"),
    "a shape in words": ("abc", "u1", {}, TypeError, "shape: found 'abc'"),
    "no axes": ((), "u1", {}, ValueError, "not 0 axes"),
    "five axes": ((1,) * 5, "u1", {}, ValueError, "not 5 axes"),
    "an unknown type": ((4, 4, 4), "uint65", {}, TypeError, "uint65"),
    "no type": ((4, 4, 4), None, {}, TypeError, "dtype: found None"),
    "objects": ((4, 4, 4), object, {}, ValueError, "expected numbers, but the array holds object"),
    "axes in another order": ((4, 4, 4), "u1", {"dims": ("x", "y", "z")}, ValueError, "not ('x', 'y', 'z')"),
    "too few axes": ((4, 4, 4), "u1", {"dims": ("y", "x")}, ValueError, "for 3 axes, not ('y', 'x')"),
    "too few voxel sizes": ((4, 4, 4), "u1", {"voxel_size": (1,)}, ValueError, "voxel_size needs 3 numbers"),
    "attributes in a list": ((4, 4, 4), "u1", {"attributes": [1]}, TypeError, "attributes: found a list"),
    "attributes that are no data": (
        (4, 4, 4),
        "u1",
        {"attributes": {"a": np.ones(2)}},
        TypeError,
        "attributes: found {'a': array([1., 1.])}, expected plain data",
    ),
}


@pytest.mark.parametrize("case", CREATED)
def test_what_would_be_no_volume_is_not_created(house: Path, case: str) -> None:
    shape, dtype, options, error, part = CREATED[case]
    path = house / "good.zarr/volumes/new"
    refused(house, lambda: ld.create_volume(path, shape, dtype, **options), error, str(path), part)


def box(*bounds: tuple[Any, ...]) -> tuple[slice, ...]:
    return tuple(slice(*bound) for bound in bounds)


CORNER, BLOCK = box((0, 4), (0, 4), (0, 4)), np.ones((4, 4, 4), np.uint64)

WRITTEN: dict[str, tuple[Any, Any, type[Exception], str]] = {
    "a part of a shard": (
        box((0, 3), (0, 4), (0, 4)),
        BLOCK[:3],
        ValueError,
        "0:3 along z cover a shard in part",
    ),
    "another shape": (
        CORNER,
        BLOCK[:3],
        ValueError,
        "the region has shape (4, 4, 4), but the array (3, 4, 4)",
    ),
    "another type": (CORNER, BLOCK.astype(int), ValueError, "the volume holds uint64, but the array int64"),
    "a list": (CORNER, BLOCK.tolist(), TypeError, "array: found a list"),
    "nothing": (CORNER, None, TypeError, "array: found None"),
    "outside": (box((8, 12), (0, 4), (0, 4)), BLOCK, ValueError, "[8:12, 0:4, 0:4] are not a box inside"),
    "before the begin": (
        box((-4, None), (0, 4), (0, 4)),
        BLOCK,
        ValueError,
        "[-4:None, 0:4, 0:4] are not a box",
    ),
    "every other voxel": (
        box((0, 8, 2), (0, 4), (0, 4)),
        BLOCK,
        ValueError,
        "[0:8:2, 0:4, 0:4] are not a box",
    ),
    "half voxels": (
        box((0, 4.5), (0, 4), (0, 4)),
        BLOCK,
        ValueError,
        "[0:4.5, 0:4, 0:4] are no whole numbers",
    ),
    "too few axes": (CORNER[:2], BLOCK, ValueError, "needs 3 slices, but has 2"),
    "one voxel": ((0, 0, 0), BLOCK, ValueError, "a region is 3 slices of voxels, but found (0, 0, 0)"),
    "everything": (..., BLOCK, ValueError, "a region is 3 slices of voxels, but found Ellipsis"),
}


@pytest.fixture
def blocks(tmp_path: Path) -> StoredVolume:
    return ld.create_volume(tmp_path / "out.zarr/blocks", (10, 8, 8), "uint64", block_shape=(4, 4, 4))


@pytest.mark.parametrize("case", WRITTEN)
def test_what_is_no_box_of_shards_is_not_written(blocks: StoredVolume, tmp_path: Path, case: str) -> None:
    region, array, error, part = WRITTEN[case]
    refused(tmp_path, lambda: blocks.write(region, array), error, blocks.path, part)


@pytest.mark.parametrize("region", [box((8, 12), (0, 4), (0, 4)), (0, 0, 0), box((0, 4))])
def test_what_is_no_box_is_not_read(blocks: StoredVolume, tmp_path: Path, region: Any) -> None:
    refused(tmp_path, lambda: blocks.read(region), ValueError, blocks.path)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_shard_that_was_cut_short_can_be_written_anew(tmp_path: Path, zarr_format: Any) -> None:
    """Also at the end of a volume, where zarr reads a shard before it replaces it."""
    path = tmp_path / "out.zarr/noise"
    shape = (3, 4, 4, 10)
    values = np.random.default_rng(0).integers(0, 99, shape).astype(np.uint64)
    stored = ld.create_volume(path, shape, "uint64", block_shape=(4, 4, 4), zarr_format=zarr_format)
    regions = [box((0, 4), (0, 4), (0, 4)), box((0, 4), (0, 4), (4, 10))]
    for damage in (lambda _: None, cut, lambda file: file.write_bytes(b"")):
        for file in path.rglob("*"):
            if file.is_file() and not file.name.startswith((".z", "zarr")):
                damage(file)
        for region in regions:
            stored.write(region, values[:, *region])
        np.testing.assert_array_equal(ld.open_volume(path), values)


# Arrays in memory


def as_kind(kind: str, values: np.ndarray) -> Any:
    """An array as NumPy has it, in dask's chunks, or a lazy DataArray with as many axes as they take."""
    if kind == "numpy":
        return values
    lazy = da.from_array(values, chunks=4)
    if kind == "dask":
        return lazy
    names = ("time", "phase", "channel", *ZYX)
    return xr.DataArray(lazy, dims=names[len(names) - values.ndim :], name="cells")


FUNCTIONS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "affinities": ("labels", ld.affinities),
    "local_shape_descriptors": ("segmentation", lambda labels: ld.local_shape_descriptors(labels, 2.0)),
    "relabel": ("fragments", lambda labels: ld.relabel(labels, LUT)),
    "build_region_graph": ("fragments", lambda labels: ld.build_region_graph(AFFINITIES, labels)),
}

BAD_LABELS: dict[str, tuple[np.ndarray, type[Exception], str]] = {
    "booleans": (LABELS > 1, TypeError, "found dtype bool, expected integers"),
    "floats": (LABELS.astype(np.float32), TypeError, "found dtype float32, expected integers"),
    "NaN": (np.full(SHAPE, np.nan), TypeError, "found dtype float64, expected integers"),
    "complex numbers": (LABELS.astype(complex), TypeError, "found dtype complex128, expected integers"),
    "objects": (LABELS.astype(object), TypeError, "found dtype object, expected integers"),
    "words": (LABELS.astype(str), TypeError, "expected integers"),
    "one axis": (LABELS[0, 0], ValueError, "found shape (8,), 1 axes, expected z, y, x or y, x"),
    "four axes": (LABELS[None], ValueError, "found shape (1, 8, 8, 8), 4 axes, expected z, y, x or y, x"),
    "five axes": (LABELS[None, None], ValueError, "found shape (1, 1, 8, 8, 8), 5 axes"),
}


@pytest.mark.parametrize("kind", ["numpy", "dask", "DataArray"])
@pytest.mark.parametrize("case", BAD_LABELS)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_labels_that_are_none(house: Path, function: str, case: str, kind: str) -> None:
    name, call = FUNCTIONS[function]
    values, error, part = BAD_LABELS[case]
    refused(house, lambda: call(as_kind(kind, values)), error, name, part)


NO_ARRAYS: dict[str, tuple[Any, str]] = {
    "a list": (LABELS.tolist(), "found a list, expected a NumPy array, dask array or DataArray"),
    "a path": (
        "good.zarr/volumes/labels",
        "found the text 'good.zarr/volumes/labels', expected a NumPy array",
    ),
    "nothing": (None, "found None"),
    "a mapping": ({"labels": LABELS}, "found a dict"),
    "a number": (5, "found a int"),
    "a promise": (delayed(LABELS), "found a Delayed"),
}


@pytest.mark.parametrize("case", NO_ARRAYS)
def test_what_is_no_array(house: Path, case: str) -> None:
    value, part = NO_ARRAYS[case]
    for name, call in (
        *FUNCTIONS.values(),
        ("affinities", ld.extract_fragments),
        ("affinities", lambda value: ld.build_region_graph(value, LABELS)),
        ("truth", lambda value: ld.evaluation.rand_voi(value, LABELS)),
        ("test", lambda value: ld.evaluation.rand_voi(LABELS, value)),
        (
            "mask",
            lambda value: ld.extract_fragments(AFFINITIES, mask=np.ones(SHAPE) if value is None else value),
        ),
        ("segmentation", lambda value: ld.LsdExtractor((2, 2, 2)).get_descriptors(value)),
    ):
        if name != "mask" or value is not None:
            refused(house, lambda call=call: call(value), TypeError, name, part)


@pytest.mark.parametrize("kind", ["numpy", "dask", "DataArray"])
def test_a_crop_beside_the_volume(house: Path, kind: str) -> None:
    """In world coordinates, a box outside of a volume is a crop without voxels."""
    labels, affinities = as_kind(kind, LABELS)[:0], as_kind(kind, AFFINITIES)[:, :0]
    part = "(0, 8, 8), expected at least one voxel; was the volume cropped to a box outside of it?"
    for name in ("affinities", "relabel", "build_region_graph"):
        refused(house, lambda name=name: FUNCTIONS[name][1](labels), ValueError, part)
    refused(
        house, lambda: ld.extract_fragments(affinities), ValueError, "(3, 0, 8, 8), expected at least one"
    )
    part = "truth: found no voxel with a label other than 0"
    refused(house, lambda: ld.evaluation.rand_voi(labels, labels), ValueError, part)
    # As in the reference implementation.
    assert ld.local_shape_descriptors(labels, 2.0).shape == (10, 0, 8, 8)
    assert np.asarray(ld.local_shape_descriptors(labels, 2.0)).size == 0


@pytest.mark.parametrize("dims", [("x", "y", "z"), ("channel", "y", "x"), ("z", "y", "t")])
def test_axes_that_are_others(house: Path, dims: tuple[str, ...]) -> None:
    for name, call in FUNCTIONS.values():
        refused(
            house, lambda call=call: call(named(*dims)), ValueError, name, f"found the axes {', '.join(dims)}"
        )


BAD_AFFINITIES: dict[str, tuple[np.ndarray, type[Exception], str]] = {
    "booleans": (AFFINITIES > 0.5, TypeError, "stored as bool, expected uint8"),
    "whole numbers": (AFFINITIES.astype(np.int64), TypeError, "stored as int64, expected uint8"),
    "numbers of 16 bits": (AFFINITIES.astype(np.uint16), TypeError, "stored as uint16, expected uint8"),
    "complex numbers": (AFFINITIES.astype(complex), TypeError, "stored as complex128, expected uint8"),
    "objects": (AFFINITIES.astype(object), TypeError, "stored as object, expected uint8"),
    "two channels": (AFFINITIES[:2], ValueError, "2 channels, expected"),
    "no channels": (AFFINITIES[:0], ValueError, "shape (0, 8, 8, 8)"),
    "five axes": (AFFINITIES[None], ValueError, "5 axes, expected channel, z, y, x or channel, y, x"),
    "two axes": (AFFINITIES[0, 0], ValueError, "2 axes, expected channel, z, y, x or channel, y, x"),
}


@pytest.mark.parametrize("kind", ["numpy", "dask", "DataArray"])
@pytest.mark.parametrize("case", BAD_AFFINITIES)
def test_affinities_that_are_none(house: Path, case: str, kind: str) -> None:
    values, error, part = BAD_AFFINITIES[case]
    affinities = as_kind(kind, values)
    refused(house, lambda: ld.extract_fragments(affinities), error, "ffinities", part)
    refused(house, lambda: ld.build_region_graph(affinities, as_kind(kind, LABELS)), error, "ffinities", part)


@pytest.mark.parametrize(
    "dims", [("c", *ZYX), (*ZYX, "channel"), ("channel", "x", "y", "z")], ids=["c", "last", "reversed"]
)
def test_axes_of_affinities_that_are_others(house: Path, dims: tuple[str, ...]) -> None:
    affinities = named(*dims)
    part = f"found the axes {', '.join(dims)}, expected channel, z, y, x or channel, y, x"
    refused(house, lambda: ld.extract_fragments(affinities), ValueError, part)
    refused(house, lambda: ld.build_region_graph(affinities, LABELS), ValueError, part)


@pytest.mark.parametrize("kind", ["numpy", "dask", "DataArray"])
@pytest.mark.parametrize(
    ("value", "part"),
    [
        (np.nan, "NaN"),
        (np.inf, "values from 0 to inf"),
        (-np.inf, "values from -inf to 1"),
        (-0.5, "values from -0.5 to 1"),
        (1.5, "values from 0 to 1.5"),
        (255, "values from 0 to 255"),
    ],
)
def test_affinities_out_of_range_in_one_voxel(house: Path, value: float, part: str, kind: str) -> None:
    values = AFFINITIES.copy()
    values[1, 6, 2, 5] = value
    affinities = as_kind(kind, values)
    parts = (part, "expected values from 0 to 1 (or uint8, 0 to 255)")
    refused(house, lambda: np.asarray(ld.extract_fragments(affinities)), ValueError, *parts)
    refused(house, lambda: ld.build_region_graph(affinities, as_kind(kind, LABELS)), ValueError, *parts)


@pytest.mark.parametrize("kind", ["numpy", "dask", "DataArray"])
def test_negative_ids(house: Path, kind: str) -> None:
    negative = as_kind(kind, -LABELS.astype(np.int64))
    refused(
        house,
        lambda: np.asarray(ld.relabel(negative, LUT)),
        ValueError,
        "fragments: found the negative id -2",
    )
    part = "Fragment ids must not be negative, but found -2"
    refused(house, lambda: ld.build_region_graph(AFFINITIES, negative), ValueError, part)
    part = "test: found the negative label -2"
    refused(house, lambda: ld.evaluation.rand_voi(LABELS, negative), ValueError, part)


@pytest.mark.parametrize("kind", ["numpy", "dask", "DataArray"])
def test_labels_of_the_truth_that_are_none(house: Path, kind: str) -> None:
    for case in ("booleans", "floats", "NaN", "complex numbers", "objects"):
        values = as_kind(kind, BAD_LABELS[case][0])
        part = f"found dtype {values.dtype}, expected integer labels"
        refused(house, lambda v=values: ld.evaluation.rand_voi(v, LABELS), TypeError, f"truth: {part}")
        refused(house, lambda v=values: ld.evaluation.rand_voi(LABELS, v), TypeError, f"test: {part}")


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"voxel_size": (2, 1, 1)}, "(2.0, 1.0, 1.0)"),
        ({"offset": (0, 3, 0)}, "(0.0, 3.0, 0.0)"),
        ({"units": "micrometer"}, "micrometer"),
    ],
    ids=["voxel size", "offset", "units"],
)
def test_volumes_of_different_places(house: Path, changes: dict[str, Any], part: str) -> None:
    other = placed(LABELS, **changes)
    refused(
        house,
        lambda: ld.build_region_graph(placed(AFFINITIES), other),
        ValueError,
        "do not lie in the same",
        part,
    )
    refused(house, lambda: ld.evaluation.rand_voi(placed(LABELS), other), ValueError, "truth", "test", part)
    mask = placed(np.ones(SHAPE, bool), **changes)
    if "voxel_size" not in changes:  # a mask of larger voxels is what masks are
        refused(house, lambda: ld.extract_fragments(placed(AFFINITIES), mask=mask), ValueError, "mask")


# Options

type Options = tuple[dict[str, Any], type[Exception], str]

DESCRIBED: dict[str, Options] = {
    "sigma 0": ({"sigma": 0}, ValueError, "sigma: found 0, expected positive numbers for (z, y, x)"),
    "a negative sigma": ({"sigma": -1}, ValueError, "sigma: found -1"),
    "sigma NaN": ({"sigma": np.nan}, ValueError, "sigma: found nan"),
    "an endless sigma": ({"sigma": np.inf}, ValueError, "sigma: found inf"),
    "one sigma NaN": ({"sigma": (1, np.nan, 1)}, ValueError, "sigma: found (1, nan, 1)"),
    "two sigmas": ({"sigma": (1, 2)}, ValueError, "sigma: found (1, 2)"),
    "sigma in words": ({"sigma": "a"}, ValueError, "sigma: found 'a'"),
    "no sigma": ({"sigma": None}, ValueError, "sigma: found None"),
    "sigma by axis": ({"sigma": {"z": 1}}, ValueError, "sigma: found {'z': 1}"),
    "a complex sigma": ({"sigma": 1j}, ValueError, "sigma: found 1j"),
    "voxel size 0": ({"voxel_size": 0}, ValueError, "voxel_size: found 0"),
    "one voxel size 0": ({"voxel_size": (0, 1, 1)}, ValueError, "voxel_size: found (0, 1, 1)"),
    "voxel size NaN": ({"voxel_size": np.nan}, ValueError, "voxel_size: found nan"),
    "voxel size in words": ({"voxel_size": "a"}, ValueError, "voxel_size: found 'a'"),
    "components in a list": ({"components": [0, 1]}, TypeError, "components: found [0, 1], expected digits"),
    "one component": ({"components": 5}, TypeError, "components: found 5, expected digits"),
    "a component twice": ({"components": "00"}, ValueError, "components: found '00', expected ascending"),
    "no mode": ({"mode": None}, ValueError, "mode: found None, expected 'gaussian' or 'sphere'"),
    "half a downsampling": ({"downsample": 1.5}, TypeError, "downsample: found 1.5, expected a whole number"),
    "downsampling in words": ({"downsample": "2"}, TypeError, "downsample: found '2'"),
    "downsampling NaN": ({"downsample": np.nan}, TypeError, "downsample: found nan"),
    "downsampling that does not divide": (
        {"downsample": 3},
        ValueError,
        "expected multiples of downsample 3",
    ),
    "half threads": ({"num_threads": 1.5}, TypeError, "num_threads: found 1.5"),
    "a region in words": ({"roi": "x"}, ValueError, "a region is 3 slices of voxels, but found 'x'"),
    "one slice": (
        {"roi": slice(0, 4)},
        ValueError,
        "a region is 3 slices of voxels, but found slice(0, 4, None)",
    ),
    "one voxel": ({"roi": (0, 0, 0)}, ValueError, "but found (0, 0, 0)"),
    "half voxels": ({"roi": (slice(0.5, 4),) * 3}, ValueError, "are no whole numbers"),
    "a region backwards": ({"roi": (slice(4, 2),) * 3}, ValueError, "[4:2, 4:2, 4:2] are not a box"),
    "labels in words": ({"labels": "x"}, TypeError, "labels: found 'x', expected whole numbers"),
    "labels of nothing": ({"labels": [None]}, TypeError, "labels: found [None], expected whole numbers"),
}


@pytest.mark.parametrize("kind", ["numpy", "dask", "DataArray"])
@pytest.mark.parametrize("case", DESCRIBED)
def test_descriptors_that_cannot_be(house: Path, case: str, kind: str) -> None:
    options, error, part = DESCRIBED[case]
    call = lambda: ld.local_shape_descriptors(as_kind(kind, LABELS), **{"sigma": 2.0, **options})  # noqa: E731
    refused(house, call, error, part)


NEIGHBORHOODS: dict[str, Options] = {
    "words": ({"neighborhood": "abc"}, TypeError, "neighborhood: found dtype <U3"),
    "different lengths": (
        {"neighborhood": [[1, 0, 0], [1]]},
        ValueError,
        "neighborhood: found offsets of several",
    ),
    "nothing on one axis": ({"neighborhood": [[None, 0, 0]]}, TypeError, "neighborhood: found dtype object"),
    "booleans": ({"neighborhood": [[True, False, False]]}, TypeError, "neighborhood: found dtype bool"),
    "NaN": ({"neighborhood": [[np.nan, 0, 0]]}, TypeError, "neighborhood: found dtype float64"),
    "one number": ({"neighborhood": 5}, ValueError, "neighborhood: found shape (), expected (n, 3) offsets"),
    "another type": ({"dtype": "float64"}, TypeError, "dtype: found float64, expected float32 or uint8"),
}


@pytest.mark.parametrize("kind", ["numpy", "dask", "DataArray"])
@pytest.mark.parametrize("case", NEIGHBORHOODS)
def test_affinities_that_cannot_be(house: Path, case: str, kind: str) -> None:
    options, error, part = NEIGHBORHOODS[case]
    refused(house, lambda: ld.affinities(as_kind(kind, LABELS), **options), error, part)


@pytest.mark.parametrize(
    "neighborhood",
    ["abc", 5, [[1, 0, 0], [1], [0, 0, 1]], [[None, 0, 0]] * 3, [[-1.0, 0, 0], [0, -1, 0], [0, 0, -1]]],
    ids=["words", "a number", "different lengths", "nothing", "floats"],
)
def test_neighborhoods_of_a_graph_that_are_none(house: Path, neighborhood: Any) -> None:
    parts = (
        "Found the neighborhood",
        "expected one offset of 3 whole numbers, not all 0, for each of 3 channels",
    )
    for kind in ("numpy", "dask", "DataArray"):
        call = lambda kind=kind: ld.build_region_graph(as_kind(kind, AFFINITIES), LABELS, neighborhood)  # noqa: E731
        refused(house, call, ValueError, *parts)


FRAGMENTED: dict[str, Options] = {
    "no method": ({"method": None}, ValueError, "There is no method None"),
    "heights in a list": ({"height": ["distance"]}, ValueError, "There is no height ['distance']"),
    "smoothing NaN": ({"smoothing": np.nan}, ValueError, "smoothing (in voxels) is nan, expected 0 to 16"),
    "smoothing in words": ({"smoothing": "a"}, TypeError, "smoothing (in voxels) is 'a', expected 0 to 16"),
    "no smoothing": ({"smoothing": None}, TypeError, "smoothing (in voxels) is None"),
    "smoothing by axis": ({"smoothing": (1, 1, 1)}, TypeError, "smoothing (in voxels) is (1, 1, 1)"),
    "half a distance": ({"min_seed_distance": 1.5}, TypeError, "min_seed_distance: found 1.5"),
    "a distance NaN": ({"min_seed_distance": np.nan}, TypeError, "min_seed_distance: found nan"),
    "one context": ({"context": 4}, TypeError, "context: found 4, expected a sequence of whole numbers"),
    "half a context": ({"context": (1.5, 1, 1)}, TypeError, "context: found 1.5"),
    "a negative context": ({"context": (-1, 1, 1)}, ValueError, "context: found -1"),
    "a context in words": ({"context": "abc"}, TypeError, "context: found 'abc'"),
    "one section": ({"replace_sections": 5}, TypeError, "replace_sections: found 5, expected a sequence"),
    "half a section": ({"replace_sections": [1.5]}, TypeError, "replace_sections: found 1.5"),
    "a section before the first": ({"replace_sections": [-1]}, ValueError, "replace_sections: found -1"),
    "a filter NaN": ({"filter_fragments": np.nan}, ValueError, "filter_fragments is nan, expected 0 to 1"),
    "a filter in words": ({"filter_fragments": "a"}, TypeError, "filter_fragments is 'a', expected 0 to 1"),
    "a score NaN": ({"epsilon_agglomerate": np.nan}, ValueError, "epsilon_agglomerate is nan"),
    "no score": ({"epsilon_agglomerate": None}, TypeError, "epsilon_agglomerate is None"),
    "debris NaN": ({"remove_debris": np.nan}, TypeError, "remove_debris: found nan"),
    "half a voxel of debris": ({"remove_debris": 1.5}, TypeError, "remove_debris: found 1.5"),
    "a mask of another shape": (
        {"mask": np.ones((7, 8, 8), bool)},
        ValueError,
        "mask of shape (7, 8, 8) does not fit a volume of shape (8, 8, 8)",
    ),
    "a mask that does not divide": (
        {"mask": np.ones((8, 8, 5), bool)},
        ValueError,
        "mask of shape (8, 8, 5) does not fit a volume of shape (8, 8, 8)",
    ),
    "a finer mask": (
        {"mask": np.ones((16, 16, 16), bool)},
        ValueError,
        "mask of shape (16, 16, 16) does not fit",
    ),
    "a mask with channels": (
        {"mask": np.ones((1, 8, 8, 8), bool)},
        ValueError,
        "mask of shape (1, 8, 8, 8) was",
    ),
    "a mask of nothing": (
        {"mask": np.ones((0, 8, 8), bool)},
        ValueError,
        "shape (0, 8, 8) was found, expected at",
    ),
    "a mask in words": (
        {"mask": np.full(SHAPE, "a")},
        TypeError,
        "mask: found dtype <U1, expected booleans or",
    ),
    "a mask of objects": ({"mask": np.ones(SHAPE, object)}, TypeError, "mask: found dtype object"),
    "a complex mask": ({"mask": np.ones(SHAPE, complex)}, TypeError, "mask: found dtype complex128"),
    "a mask with other axes": ({"mask": named("x", "y", "z")}, ValueError, "The mask has the axes (x, y, z)"),
    "a smaller mask": (
        {"mask": placed(LABELS[:4])},
        ValueError,
        "The mask does not cover the volume along z",
    ),
}


@pytest.mark.parametrize("kind", ["numpy", "dask", "DataArray"])
@pytest.mark.parametrize("case", FRAGMENTED)
def test_fragments_that_cannot_be(house: Path, case: str, kind: str) -> None:
    options, error, part = FRAGMENTED[case]
    refused(house, lambda: ld.extract_fragments(as_kind(kind, AFFINITIES), **options), error, part)


@pytest.mark.parametrize("kind", ["numpy", "dask"])
def test_a_mask_that_does_not_say_what_is_to_be(house: Path, kind: str) -> None:
    values = np.ones(SHAPE)
    values[3, 3, 3] = np.nan
    for affinities in (AFFINITIES, da.from_array(AFFINITIES)):
        call = lambda a=affinities: np.asarray(ld.extract_fragments(a, mask=as_kind(kind, values)))  # noqa: E731
        refused(house, call, ValueError, "mask: found NaN, expected 0 where nothing is to be")


CUTS: dict[str, tuple[Any, type[Exception]]] = {
    "a little below": (-1e-9, ValueError),
    "a little above": (1.000001, ValueError),
    "endless": (np.inf, ValueError),
    "words": ("0.5", TypeError),
    "nothing": (None, TypeError),
    "a list": ([0.5], TypeError),
    "an array": (np.array([0.5, 0.6]), TypeError),
    "a complex number": (0.5 + 0j, TypeError),
}


@pytest.mark.parametrize("case", CUTS)
def test_thresholds_that_are_none(house: Path, case: str) -> None:
    threshold, error = CUTS[case]
    refused(
        house,
        lambda: TREE.cut(threshold),
        error,
        "The threshold is",
        "expected a score from 0 (merge nothing) to 1",
    )


@pytest.mark.parametrize(
    ("call", "error", "part"),
    [
        (lambda: ld.agglomerate(None), TypeError, "graph: found None, expected a RegionGraph"),
        (lambda: ld.agglomerate(AFFINITIES), TypeError, "graph: found a ndarray"),
        (lambda: ld.agglomerate("rag"), TypeError, "graph: found the text 'rag'"),
        (lambda: ld.agglomerate(GRAPH.to_networkx()), TypeError, "graph: found a Graph"),
        (lambda: ld.agglomerate(GRAPH, None), TypeError, "merge_function: found None, expected one of"),
        (lambda: ld.agglomerate(GRAPH, 75), TypeError, "merge_function: found a int"),
        (lambda: ld.agglomerate(GRAPH, "meen"), ValueError, "no merge function 'meen'; did you mean 'mean'?"),
        (
            lambda: TREE.merge_scores(ld.build_region_graph(AFFINITIES, LABELS + np.uint64(5))),
            ValueError,
            "fragment 6, for which the graph has no node",
        ),
    ],
    ids=["nothing", "an array", "a path", "networkx", "no function", "a number", "misspelt", "another graph"],
)
def test_agglomerations_that_cannot_be(
    house: Path, call: Callable[[], Any], error: type[Exception], part: str
) -> None:
    refused(house, call, error, part)


# Tables


@pytest.mark.parametrize("kind", ["numpy", "dask", "DataArray"])
@pytest.mark.parametrize(
    ("lut", "error", "part"),
    [
        ({1: 1, 2: 1}, TypeError, "lut: found a dict, expected a LookupTable, as from MergeTree.cut"),
        (np.array([0, 1, 1]), TypeError, "lut: found a ndarray"),
        ((LUT.keys, LUT.values), TypeError, "lut: found a tuple"),
        (TREE, TypeError, "lut: found a MergeTree"),
        (None, TypeError, "lut: found None"),
        ("nothing.parquet", FileNotFoundError, "nothing.parquet: there is no such lookup table"),
        (Path("nothing.parquet"), FileNotFoundError, "nothing.parquet: there is no such lookup table"),
    ],
    ids=["a dict", "an array", "two arrays", "a tree", "nothing", "no file", "no file either"],
)
def test_what_is_no_lookup_table(house: Path, lut: Any, error: type[Exception], part: str, kind: str) -> None:
    refused(house, lambda: ld.relabel(as_kind(kind, LABELS), lut), error, part)


@pytest.mark.parametrize("kind", ["numpy", "dask", "DataArray"])
def test_a_fragment_that_is_not_in_the_table(house: Path, kind: str) -> None:
    labels = as_kind(kind, LABELS + np.uint64(7))
    refused(house, lambda: np.asarray(ld.relabel(labels, LUT)), ValueError, "is not in the lookup table of 2")


@pytest.mark.parametrize(
    ("keys", "values", "part"),
    [
        ([2, 1], [1, 1], "keys: found 2 before 1, expected ascending ids, each one once"),
        ([1, 1], [1, 2], "keys: found 1 before 1, expected ascending ids"),
        ([1, 2], [1], "keys have shape (2,), values (1,)"),
        ([1.0, 2.0], [1, 1], "keys: found float64 of shape (2,), expected integer ids"),
        ([1, 2], [1.0, np.nan], "values: found float64 of shape (2,)"),
        ([[1, 2]], [[1, 1]], "keys: found int64 of shape (1, 2)"),
        ([-1, 2], [1, 1], "keys: found the negative id -1"),
        (["a"], ["b"], "keys: found <U1"),
    ],
)
def test_columns_that_are_no_lookup_table(house: Path, keys: Any, values: Any, part: str) -> None:
    refused(house, lambda: LookupTable(np.array(keys), np.array(values)), ValueError, part)


def test_a_lookup_table_has_no_negative_fragments() -> None:
    with pytest.raises(KeyError, match="Fragment -1 is not in this lookup table of 2"):
        LUT[-1]


#: What reads a table, which file, the error and parts of its message beside the path.
TABLES: dict[str, tuple[Callable[[str], Any], str, type[Exception], str]] = {
    "a tree that is not there": (MergeTree.from_parquet, "no.parquet", FileNotFoundError, "No such file"),
    "a tree cut short": (MergeTree.from_parquet, "tree_cut.parquet", ValueError, "was it cut short?"),
    "a tree of nothing": (MergeTree.from_parquet, "empty.parquet", ValueError, "was it cut short?"),
    "text for a tree": (MergeTree.from_parquet, "note.parquet", ValueError, "not a readable Parquet file"),
    "a folder for a tree": (MergeTree.from_parquet, "rag", ValueError, "not a readable Parquet file"),
    "a lookup table for a tree": (
        MergeTree.from_parquet,
        "lut.parquet",
        ValueError,
        "found the columns fragment, segment, expected also parent, level",
    ),
    "a tree of no merge function": (
        MergeTree.from_parquet,
        "tree_mute.parquet",
        ValueError,
        "its merge_function",
    ),
    "a tree of an unknown one": (
        MergeTree.from_parquet,
        "tree_unknown.parquet",
        ValueError,
        "did you mean 'mean'?",
    ),
    "a tree with a stranger": (
        MergeTree.from_parquet,
        "tree_stranger.parquet",
        ValueError,
        "parent: found 9, which is no fragment of the table",
    ),
    "a tree upside down": (
        MergeTree.from_parquet,
        "tree_upwards.parquet",
        ValueError,
        "parents: found 1 in row 0, expected its own row or one above",
    ),
    "a tree in disorder": (MergeTree.from_parquet, "tree_unsorted.parquet", ValueError, "found 2 before 1"),
    "a tree with a level below 0": (
        MergeTree.from_parquet,
        "tree_below.parquet",
        ValueError,
        "levels: found -3 in row 1, expected 0 to 256",
    ),
    "a tree of half levels": (
        MergeTree.from_parquet,
        "tree_half.parquet",
        ValueError,
        "column level holds double",
    ),
    "a lookup table cut short": (
        LookupTable.from_parquet,
        "lut_cut.parquet",
        ValueError,
        "was it cut short?",
    ),
    "a tree for a lookup table": (
        LookupTable.from_parquet,
        "tree.parquet",
        ValueError,
        "expected also segment",
    ),
    "a lookup table of floats": (
        LookupTable.from_parquet,
        "lut_floats.parquet",
        ValueError,
        "column fragment holds double, expected whole numbers",
    ),
    "a lookup table of words": (LookupTable.from_parquet, "lut_words.parquet", ValueError, "holds string"),
    "a lookup table with gaps": (
        LookupTable.from_parquet,
        "lut_gaps.parquet",
        ValueError,
        "column fragment lacks 1 of 2 values",
    ),
    "a lookup table in disorder": (
        LookupTable.from_parquet,
        "lut_unsorted.parquet",
        ValueError,
        "2 before 1",
    ),
    "a lookup table that repeats": (LookupTable.from_parquet, "lut_twice.parquet", ValueError, "1 before 1"),
    "a negative lookup table": (
        LookupTable.from_parquet,
        "lut_negative.parquet",
        ValueError,
        "negative id -2",
    ),
    "a lookup table to relabel with": (
        lambda path: ld.relabel(da.from_array(LABELS), path).compute(),
        "lut_cut.parquet",
        ValueError,
        "was it cut short?",
    ),
    "a graph that is not there": (RegionGraph.from_parquet, "rag_no", FileNotFoundError, "nodes.parquet"),
    "a graph without edges": (RegionGraph.from_parquet, "rag_no_edges", FileNotFoundError, "edges.parquet"),
    "edges cut short": (
        RegionGraph.from_parquet,
        "rag_edges_cut",
        ValueError,
        "edges.parquet: not a readable",
    ),
    "nodes cut short": (
        RegionGraph.from_parquet,
        "rag_nodes_cut",
        ValueError,
        "nodes.parquet: not a readable",
    ),
    "edges for nodes": (RegionGraph.from_parquet, "rag_swapped", ValueError, "expected also id, size"),
    "edges of another graph": (
        RegionGraph.from_parquet,
        "rag_mixed",
        ValueError,
        "edges.parquet: found an edge of fragment 6, which is not in nodes.parquet",
    ),
    "a graph of nowhere": (RegionGraph.from_parquet, "rag_mute", ValueError, "does not say its dims"),
    "a graph of flat voxels": (
        RegionGraph.from_parquet,
        "rag_flat",
        ValueError,
        "nodes.parquet: voxel sizes must",
    ),
    "a graph of no scale": (
        RegionGraph.from_parquet,
        "rag_scale",
        ValueError,
        "nodes.parquet: found the scale 'a'",
    ),
    "nodes of half voxels": (RegionGraph.from_parquet, "rag_floats", ValueError, "column size holds double"),
    "scores cut short": (
        ld.evaluation.ContingencyTable.from_parquet,
        "lut_cut.parquet",
        ValueError,
        "not a whole Parquet file",
    ),
    "a tree for scores": (
        ld.evaluation.ContingencyTable.from_parquet,
        "tree.parquet",
        ValueError,
        "expected truth (uint64), test (uint64), count (int64)",
    ),
}


@pytest.mark.parametrize("case", TABLES)
def test_files_that_are_not_the_table(house: Path, case: str) -> None:
    read, name, error, part = TABLES[case]
    refused(house, lambda: read(str(house / name)), error, str(house / name), part)


# The rest


@pytest.mark.parametrize(
    ("call", "error", "part"),
    [
        (
            lambda: ld.ids.decode(np.array([1.5])),
            ValueError,
            "type float64, expected whole numbers of shape (n,)",
        ),
        (
            lambda: ld.ids.decode(np.array([-1])),
            ValueError,
            "expected whole numbers of shape (n,), from 1 on",
        ),
        (lambda: ld.ids.decode(np.array([[1, 2]])), ValueError, "Found ids of shape (1, 2)"),
        (lambda: ld.ids.decode(np.array([1]), 4), ValueError, "ndim: found 4, expected 2 or 3"),
        (lambda: ld.ids.encode(None), ValueError, "type object, expected whole numbers"),
        (lambda: ld.LsdExtractor(3.0), ValueError, "sigma: found 3.0, expected a number for each"),
        (lambda: ld.LsdExtractor("abc"), ValueError, "sigma: found 'abc'"),
        (lambda: ld.connect(None), TypeError, "cluster: found None, expected a name, an address or a path"),
        (lambda: ld.connect(["local"]), TypeError, "cluster: found a list"),
        (
            lambda: ld.connect("local", memory=[8]),
            ValueError,
            "memory should be a size such as '8 GB', not [8]",
        ),
        (lambda: ld.connect("local", walltime=5), ValueError, "walltime should be '[days-]hours:minutes"),
        (lambda: ld.viewing.label_colors(["a"]), TypeError, "labels should be integers, not <U1"),
    ],
)
def test_arguments_that_are_of_another_kind(
    house: Path, call: Callable[[], Any], error: type[Exception], part: str
) -> None:
    refused(house, call, error, part)


@pytest.mark.parametrize(
    ("volumes", "options", "error", "part"),
    [
        ([LABELS], {}, TypeError, "volumes: found a list, expected a mapping from names to arrays"),
        ({"labels": LABELS.tolist()}, {}, TypeError, "'labels': found a list, expected a NumPy array"),
        ({"labels": LABELS.astype(object)}, {}, TypeError, "'labels': found dtype object, expected numbers"),
        ({"labels": LABELS.astype(complex)}, {}, TypeError, "'labels': found dtype complex128"),
        ({"labels": LABELS}, {"section": 1.5}, TypeError, "section should be a whole number, not 1.5"),
        (
            {"labels": LABELS},
            {"section": "first"},
            TypeError,
            "section should be a whole number, not 'first'",
        ),
        ({"labels": LABELS}, {"section": 8}, ValueError, "section should be one of 0 to 7, not 8"),
    ],
)
def test_pictures_that_cannot_be(
    house: Path, volumes: Any, options: dict[str, Any], error: type[Exception], part: str
) -> None:
    refused(house, lambda: ld.viewing.section_panel(volumes, house / "panel.png", **options), error, part)


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("{", "not a readable JSON file"),
        ("{}", "found no address of a scheduler"),
        ("[]", "found no address of a scheduler"),
        ('{"address": 5}', "found no address of a scheduler"),
    ],
)
def test_scheduler_files_that_are_none(tmp_path: Path, content: str, part: str) -> None:
    path = tmp_path / "scheduler.json"
    path.write_text(content)
    refused(tmp_path, lambda: ld.connect(path), ValueError, str(path), part)


@pytest.mark.parametrize(
    ("offset", "size", "part"),
    [
        ((np.nan, 0, 0), (40, 8, 8), "offset and size must be finite numbers, but are (nan, 0, 0)"),
        ((400, 0, 0), (np.inf, 8, 8), "but are (400, 0, 0) and (inf, 8, 8)"),
        ((400, 0, 0), (0, 8, 8), "must be positive in every axis"),
        ((420, 0, 0), (40, 8, 8), "does not lie on the voxel grid"),
        ((400, 0, 0), (40, 8, 12), "does not lie on the voxel grid"),
        ((400, 0, 0), (400, 8, 8), "reaches out of the volume"),
        (400, (40, 8, 8), "offset: found 400, expected a number for each"),
        ("abc", (40, 8, 8), "offset: found 'abc'"),
    ],
)
def test_boxes_that_are_none_of_the_volume(offset: Any, size: Any, part: str) -> None:
    grid = Grid(ZYX, SHAPE, **PLACE)
    with pytest.raises(ValueError) as caught:
        grid.region(offset, size)
    assert part in str(caught.value)
    roi = SimpleNamespace(
        get_begin=lambda: offset, get_end=lambda: [o + s for o, s in zip(offset, size, strict=True)]
    )
    if isinstance(offset, tuple):
        with pytest.raises(ValueError) as caught:
            ld.local_shape_descriptors(label(LABELS, grid), 80, roi=roi)
        assert part.split(",")[0].split(" and ")[0][:20] in str(caught.value)


# Files that steps read


@pytest.mark.parametrize("name", ["half", "none", "list", "parent", "shape", "codec"])
def test_steps_refuse_metadata_that_are_damaged(
    house: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "lsd_dask.workflows.running.session", lambda *_, **__: pytest.fail("a cluster was started")
    )
    path = house / f"{name}.zarr"
    parts = (str(path), METADATA)
    affs = house / "good.zarr"
    fragments = {"fragments_file": path, "fragments_dataset": "volumes/labels"}
    refused(house, lambda: workflows.agglomerate(affs_file=affs, **fragments), ValueError, *parts)
    truth = {"gt_file": path, "gt_dataset": "volumes/labels", "fragments_file": affs}
    options = {**truth, "fragments_dataset": "volumes/labels"}
    refused(house, lambda: workflows.evaluate_volumes(**options), (ValueError, FileNotFoundError))
    options = {
        "affs_file": affs,
        "out_file": house / "out.zarr",
        "gt_file": path,
        "gt_dataset": "volumes/labels",
    }
    refused(house, lambda: workflows.segment(options), ValueError, *parts)


@pytest.fixture
def begun(tmp_path: Path, cluster_client: Client) -> Path:
    """A container in which fragments were made."""
    path = tmp_path / "cells.zarr"
    affinities = (AFFINITIES * 255).astype(np.uint8)
    ld.save_volume(np.repeat(np.repeat(affinities, 3, axis=2), 3, axis=3), path / "volumes/affs", **PLACE)
    workflows.extract_fragments(affs_file=path, fragments_file=path)
    return path


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("run.json", "[]", "found no record of a run"),
        ("run.json", "3", "found no record of a run"),
        ("run.json", '"hello"', "found no record of a run"),
        ("run.json", "", "not a readable JSON file"),
        ("lock.json", '{"host": ', "not a readable JSON file"),
        ("lock.json", "{}", "found no record of a run, expected host, process"),
    ],
)
def test_steps_refuse_a_ledger_that_is_damaged(begun: Path, name: str, content: str, part: str) -> None:
    path = begun / "runs/extract_fragments/volumes/fragments" / name
    path.write_text(content)
    call = lambda: workflows.extract_fragments(affs_file=begun, fragments_file=begun)  # noqa: E731
    refused(begun.parent, call, ValueError, str(path), part)


def test_a_step_names_the_shard_that_was_cut_short(begun: Path) -> None:
    """Nothing but reading it tells, so the block fails, and what is there stays."""
    cut(only_file(begun / "volumes/affs"), 0.9)
    with pytest.raises(RunFailedError) as caught:
        workflows.agglomerate(affs_file=begun, fragments_file=begun)
    message = str(caught.value)
    assert f"ValueError: {begun}/volumes/affs: voxels" in message
    assert "was a file of the array cut short?" in message
    assert not (begun / "rag/nodes.parquet").exists()
