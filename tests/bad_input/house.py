"""What the tables of wrong input look at: arrays in memory, and files of all kinds, good and damaged."""

import json
import shutil
from pathlib import Path
from typing import Any

import dask.array as da
import h5py
import imageio.v3 as iio
import numpy as np
import pyarrow as pa
import tifffile
import xarray as xr
import zarr

import lsd_dask as ld
from lsd_dask.space.grids import Grid
from lsd_dask.storage import parquet
from lsd_dask.volumes.dask_arrays import label

ZYX = ("z", "y", "x")
SHAPE = (8, 8, 8)
LABELS = np.repeat(np.arange(1, 3, dtype=np.uint64), 4)[:, None, None] * np.ones(SHAPE, np.uint64)
AFFINITIES = np.asarray(ld.affinities(LABELS))
GRAPH = ld.build_region_graph(AFFINITIES, LABELS)
TREE = ld.agglomerate(GRAPH, "mean")
LUT = TREE.cut(0.5)
#: Part of the message for metadata that are damaged.
METADATA = "zarr metadata cannot be read"
PLACE: dict[str, Any] = {"voxel_size": (40, 8, 8), "offset": (400, 0, 0)}


def cut(path: Path, share: float = 0.5) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])


def only_file(folder: Path) -> Path:
    (path,) = (p for p in folder.rglob("*") if p.is_file() and not p.name.startswith((".z", "zarr")))
    return path


def edited(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


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


def as_kind(kind: str, values: np.ndarray) -> Any:
    """An array as NumPy has it, in dask's chunks, or a lazy DataArray with as many axes as they take."""
    if kind == "numpy":
        return values
    lazy = da.from_array(values, chunks=4)
    if kind == "dask":
        return lazy
    names = ("time", "phase", "channel", *ZYX)
    return xr.DataArray(lazy, dims=names[len(names) - values.ndim :], name="cells")


def placed(values: Any, **changes: Any) -> xr.DataArray:
    """Voxels with a place of their own."""
    options = {"voxel_size": (1, 1, 1), "offset": (0, 0, 0), "units": "nanometer", **changes}
    return label(values, Grid(ZYX, values.shape[-3:], **options))


def named(*dims: str, **options: Any) -> xr.DataArray:
    return xr.DataArray(AFFINITIES if len(dims) == 4 else LABELS, dims=dims, **options)
