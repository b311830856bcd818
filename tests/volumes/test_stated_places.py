"""What files state of axes and places, in every format: wherever it stands, the volume is the same.

One volume is written in any order of axes, and each key that places it - axes, voxel size, offset, units - is
put at random on the array, the group or the multiscale, or on several of them.
"""

import itertools
import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from lsd_dask.space.grids import Grid
from lsd_dask.volumes.opening import open_stored
from lsd_dask.volumes.saving import grid_of, open_volume

tensorstore = pytest.importorskip("tensorstore")

SIZE = {"z": 40.0, "y": 4.0, "x": 8.0, "c": 1.0, "t": 1.0}
CORNER = {"z": 80.0, "y": -4.0, "x": 16.0, "c": 0.0, "t": 0.0}
GRID = Grid(("z", "y", "x"), (3, 4, 5), (40, 4, 8), (80, -4, 16), "nanometer")
VOXELS = np.random.default_rng(0).integers(0, 255, (2, 3, 4, 5)).astype("uint8")

few = settings(max_examples=25)

orders = st.sampled_from(["zyx", "czyx", "tczyx"]).flatmap(st.permutations).map("".join)


def stored(order: str) -> np.ndarray:
    """The voxels with their axes in some order."""
    axes = [letter for letter in "czyx" if letter in order]
    voxels = VOXELS if "c" in order else VOXELS[0]
    if "t" in order:
        voxels, axes = voxels[None], ["t", *axes]
    return voxels.transpose([axes.index(letter) for letter in order])


def check(path: Path | str, order: str) -> None:
    volume = open_volume(path)
    expected = VOXELS if "c" in order else VOXELS[0]
    assert grid_of(volume) == GRID
    assert volume.dims == ("channel",) * ("c" in order) + GRID.dims
    np.testing.assert_array_equal(volume, expected)
    box = (slice(1, 3), slice(0, 2), slice(2, 5))
    np.testing.assert_array_equal(open_stored(path).read(box), expected[(..., *box)])


def funkelab(order: str) -> dict[str, Any]:
    """All keys of funkelab's attributes."""
    spatial = [letter for letter in order if letter in "zyx"]
    return {
        "axis_names": [letter + "^" * (letter == "c") for letter in order],
        "resolution": [SIZE[letter] for letter in spatial],
        "offset": [CORNER[letter] for letter in spatial],
        "units": ["nm"] * len(spatial),
    }


def ngff(order: str, version: str, said: set[str]) -> dict[str, Any]:
    """A multiscale that says some of the keys; its axes always, as the standard has it."""
    types = {"c": "channel", "t": "time"}
    unit = {"unit": "nanometer"} if "units" in said else {}
    axes = [
        {"name": n, "type": types[n]} if n in types else {"name": n, "type": "space", **unit} for n in order
    ]
    scale = [SIZE[n] if "resolution" in said else 1.0 for n in order]
    steps: list[dict[str, Any]] = [{"type": "scale", "scale": scale}]
    if "offset" in said:
        steps.append({"type": "translation", "translation": [CORNER[n] for n in order]})
    if version != "0.6":
        return {"axes": axes, "datasets": [{"path": "s0", "coordinateTransformations": steps}]}
    step = {"type": "sequence", "transformations": steps, "input": {"path": "s0"}, "output": {"name": "em"}}
    systems = [
        {"name": "other", "axes": axes[::-1]},
        {"name": "em", "axes": axes},
    ]
    registered = {"type": "rotation", "path": "r", "input": {"name": "em"}, "output": {"name": "other"}}
    return {
        "coordinateSystems": systems,
        "datasets": [{"path": "s0", "coordinateTransformations": [step]}],
        "coordinateTransformations": [registered],
    }


@few
@given(data=st.data())
def test_zarr_and_ngff(tmp_path_factory, data):
    order = data.draw(orders)
    version = data.draw(st.sampled_from(["0.4", "0.5", "0.6"]))
    zarr_format = 2 if version == "0.4" else 3
    attributes = funkelab(order)
    places: dict[str, dict[str, Any]] = {"array": {}, "group": {}}
    in_multiscale = set()
    for key in attributes:
        for place in data.draw(st.sets(st.sampled_from(["array", "group", "multiscale"]), min_size=1)):
            if place == "multiscale":
                in_multiscale.add(key)
            else:
                places[place][key] = attributes[key]
    root = tmp_path_factory.mktemp("split") / "em.zarr"
    group = zarr.create_group(str(root), path="raw", zarr_format=zarr_format)
    if in_multiscale:
        entry = ngff(order, version, in_multiscale)
        ome = {"version": version, "multiscales": [entry]}
        places["group"] |= (
            {"ome": ome} if zarr_format == 3 else {"multiscales": [{"version": "0.4", **entry}]}
        )
    group.update_attributes(places["group"])
    voxels = stored(order)
    array = group.create_array(
        "s0", shape=voxels.shape, dtype="uint8", chunks=tuple(min(n, 2) for n in voxels.shape)
    )
    array.update_attributes(places["array"])
    array[...] = voxels
    check(root / "raw" / "s0", order)
    check(root / "raw", order)


@few
@given(data=st.data())
def test_n5(tmp_path_factory, data):
    # Time is no axis that is told of in N5.
    order = data.draw(st.sampled_from(["zyx", "czyx"]).flatmap(st.permutations).map("".join))
    spatial = [letter for letter in order if letter in "zyx"]
    size = [SIZE[letter] for letter in spatial]
    # tensorstore wants an entry for channels, too.
    whole = {
        "units": ["nm" if letter in spatial else "" for letter in order[::-1]],
        "offset": [CORNER[letter] for letter in order[::-1]],
        "resolution": [SIZE[letter] for letter in order[::-1]],
        "axes": list(order)[::-1],
    }
    transform = {
        "axes": list(order),
        "scale": [SIZE[letter] for letter in order],
        "translate": [CORNER[letter] for letter in order],
        "units": ["nm" if letter in spatial else "" for letter in order],
    }
    if data.draw(st.booleans()):
        transform = {key: value[::-1] for key, value in transform.items()} | {"order": "F"}
    dialects: dict[str, dict[str, Any]] = {
        "resolution": {key: whole[key] for key in ("resolution", "axes", "offset")},
        "pixelResolution": {
            "pixelResolution": {"dimensions": [s / 1000 for s in size[::-1]], "unit": "um"},
            "axes": whole["axes"],
            "offset": [c / 1000 for c in whole["offset"]],
        },
        "transform": {"transform": transform},
        "multiscales": {"multiscales": [{"datasets": [{"path": "s0", "transform": transform}]}]},
    }
    name = data.draw(st.sampled_from(sorted(dialects)))
    attributes = dialects[name]
    places: dict[str, dict[str, Any]] = {"array": {}, "group": {}, "root": {}}
    for key, value in attributes.items():
        choice = ["group"] if key == "multiscales" else sorted(places)
        for place in data.draw(st.sets(st.sampled_from(choice), min_size=1)):
            places[place][key] = value
    if name == "resolution" and data.draw(st.booleans()):
        places[data.draw(st.sampled_from(sorted(places)))]["units"] = whole["units"]
    root = tmp_path_factory.mktemp("split") / "em.n5"
    write_n5(root / "raw" / "s0", stored(order), places["array"])
    for folder, place in ((root, "root"), (root / "raw", "group")):
        (folder / "attributes.json").write_text(json.dumps(places[place]))
    if name == "pixelResolution" and open_volume(root / "raw").attrs["units"] == "micrometer":
        volume = open_volume(root / "raw")
        assert grid_of(volume).told_in("nanometer") == GRID
        np.testing.assert_array_equal(volume, VOXELS if "c" in order else VOXELS[0])
        return
    check(root / "raw" / "s0", order)
    check(root / "raw", order)


def write_n5(path: Path, voxels: np.ndarray, attributes: dict[str, Any]) -> None:
    """With plain calls of tensorstore, which has the axes in the reverse order."""
    metadata = {
        "dataType": "uint8",
        "dimensions": voxels.shape[::-1],
        "blockSize": [2] * voxels.ndim,
        "compression": {"type": "gzip"},
    }
    spec = {"driver": "n5", "kvstore": {"driver": "file", "path": f"{path}/"}, "metadata": metadata}
    tensorstore.open({**spec, "create": True}).result().write(voxels.T).result()
    file = path / "attributes.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **attributes}))


@few
@given(data=st.data())
def test_hdf5(tmp_path_factory, data):
    order = data.draw(orders)
    attributes = funkelab(order)
    tags = {"axes": [{"key": letter, "typeFlags": 2, "resolution": 0} for letter in order]}
    naming = data.draw(st.sets(st.sampled_from(["axis_names", "axistags", "labels", "scales"]), min_size=1))
    sizing = data.draw(st.sets(st.sampled_from(["resolution", "element_size_um"]), min_size=1))
    values: dict[str, Any] = {
        "axis_names": attributes["axis_names"],
        "axistags": json.dumps(tags),
        "resolution": attributes["resolution"],
        "element_size_um": [size / 1000 for size in attributes["resolution"]],
        "offset": attributes["offset"],
        "units": attributes["units"],
    }
    with h5py.File(tmp_path_factory.mktemp("split") / "a.h5", "w") as file:
        dataset = file.create_dataset("volumes/raw", data=stored(order))
        for key in sorted({*naming, *sizing, "offset", "units"} & values.keys()):
            nodes = data.draw(st.sets(st.sampled_from(["dataset", "group"]), min_size=1))
            # A size without a unit beside one in micrometers is refused, as it could be in any.
            for node in nodes | ({"dataset"} if key == "units" and len(sizing) == 2 else set()):
                (dataset if node == "dataset" else dataset.parent).attrs[key] = values[key]
        for axis, letter in enumerate(order):
            if "labels" in naming:
                dataset.dims[axis].label = letter
            if "scales" in naming:
                place = np.arange(dataset.shape[axis]) * SIZE[letter] + CORNER[letter] + SIZE[letter] / 2
                file[letter] = place if letter in "zyx" else np.array(["a"] * dataset.shape[axis], "S1")
                file[letter].attrs["units"] = "nm"
                file[letter].make_scale(letter)
                dataset.dims[axis].attach_scale(file[letter])
        path = file.filename
    check(f"{path}/volumes/raw", order)


@given(order=orders)
@few
def test_any_order_is_written_as_it_is_read(tmp_path_factory, order):
    root = tmp_path_factory.mktemp("write") / "em.zarr"
    voxels = np.zeros_like(stored(order))
    array = zarr.create_array(
        str(root), name="a", shape=voxels.shape, dtype="uint8", chunks=(2,) * voxels.ndim
    )
    array.update_attributes(funkelab(order))
    volume = open_stored(root / "a")
    assert volume.write_shape == (2, 2, 2)
    expected = VOXELS if "c" in order else VOXELS[0]
    for box in itertools.product(*([slice(i, min(i + 2, n)) for i in range(0, n, 2)] for n in GRID.shape)):
        volume.write(box, expected[(..., *box)])
    np.testing.assert_array_equal(array[...], stored(order))


# Malformed


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-9, 9)
    | st.floats(allow_nan=True)
    | st.sampled_from(["", "z", "zyx", "nm", "s0", "t", "c^", "{}"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["axes", "scale", "translate", "units", "unit", "dimensions", "name", "type", "path"]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)
KEYS = (
    *("offset", "resolution", "voxel_size", "units", "axis_names", "types", "_ARRAY_DIMENSIONS", "axistags"),
    *("pixelResolution", "transform", "axes", "element_size_um", "downsamplingFactors", "scales"),
    *("multiscales", "ome"),
)
attributes_of_any_kind = st.dictionaries(st.sampled_from(KEYS), json_values, max_size=4)
steps = st.dictionaries(
    st.sampled_from(["type", "scale", "translation", "affine", "rotation", "mapAxis", "input", "output"]),
    json_values | st.sampled_from(["scale", "affine", "sequence", "mapAxis", "byDimension"]),
)
multiscales_of_any_kind = st.fixed_dictionaries(
    {"datasets": st.just([{"path": "s0"}]) | st.lists(st.fixed_dictionaries({"path": st.just("s0")}))},
    optional={
        "axes": json_values,
        "coordinateSystems": json_values | st.lists(st.fixed_dictionaries({"name": json_values})),
        "coordinateTransformations": st.lists(steps, max_size=2),
    },
)


def opens_or_is_refused(path: Path) -> None:
    try:
        open_volume(path)
    except ValueError as error:
        assert type(error) is ValueError, "a subclass is not meant for this"
        assert "em." in str(error) or "a.h5" in str(error)


@given(array=attributes_of_any_kind, group=attributes_of_any_kind, multiscale=multiscales_of_any_kind)
@settings(max_examples=20)
@pytest.mark.parametrize("kind", ["zarr", "n5"])
def test_malformed_metadata_opens_or_is_refused(tmp_path_factory, kind, array, group, multiscale):
    root = tmp_path_factory.mktemp("bad") / f"em.{kind}"
    group = {"multiscales": [multiscale], **group}
    if kind == "n5":
        write_n5(root / "raw" / "s0", VOXELS[0], array)
        (root / "raw" / "attributes.json").write_text(json.dumps(group))
    else:
        node = zarr.create_group(str(root), path="raw", zarr_format=2)
        made = node.create_array("s0", shape=(2, 2, 2), dtype="uint8", chunks=(2, 2, 2))
        made.update_attributes(array)
        node.update_attributes(group)
    opens_or_is_refused(root / "raw" / "s0")
    opens_or_is_refused(root / "raw")


@given(attributes=attributes_of_any_kind)
@settings(max_examples=20)
def test_malformed_attributes_of_hdf5(tmp_path_factory, attributes):
    path = tmp_path_factory.mktemp("bad") / "a.h5"
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("raw", data=VOXELS[0])
        for key, value in attributes.items():
            try:
                dataset.attrs[key] = value
            except (TypeError, ValueError):
                dataset.attrs[key] = json.dumps(value)
    opens_or_is_refused(path / "raw")
