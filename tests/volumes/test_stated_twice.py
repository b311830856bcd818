"""What files state twice, in part, in other units or by matrices: the right place, or a refusal."""

import json

import h5py
import numpy as np
import pytest
import zarr

from lsd_dask import workflows
from lsd_dask.volumes.saving import grid_of, open_volume

VOXELS = np.arange(4 * 6 * 8, dtype="uint8").reshape(4, 6, 8)
UM = [{"name": n, "type": "space", "unit": "micrometer"} for n in "zyx"]


def write(path, attributes, group=None, voxels=VOXELS, zarr_format=3) -> str:
    node = zarr.create_group(str(path), path="raw", zarr_format=zarr_format)
    node.update_attributes(group or {})
    array = node.create_array("s0", shape=voxels.shape, dtype=voxels.dtype, chunks=voxels.shape)
    array.update_attributes(attributes)
    array[...] = voxels
    return f"{path}/raw/s0"


def multiscale(steps, axes=UM, **more):
    datasets = [{"path": "s0", "coordinateTransformations": steps}]
    return {"ome": {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets, **more}]}}


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"resolution": [40, 4, 4], "voxel_size": [4, 4, 4]}, r"voxel_size \(4, 4, 4\) and resolution \(40"),
        ({"resolution": [40, 4, 4], "element_size_um": [0.4, 0.04, 0.04], "units": "nm"}, "element_size_um"),
        (
            {"resolution": [8] * 3, "pixelResolution": {"dimensions": [1, 1, 1], "unit": "nm"}},
            "pixelResolution",
        ),
        ({"axis_names": ["z", "y", "x"], "_ARRAY_DIMENSIONS": ["x", "y", "z"]}, "_ARRAY_DIMENSIONS"),
        ({"axis_names": ["t", "y", "x"]}, "single time point"),
        ({"axis_names": ["c", "channel", "x"]}, "channel more than once"),
        ({"axis_names": ["z", "y", "x"], "types": ["channel", "space", "space"]}, "kind 'channel'"),
        ({"resolution": [40, None, 4]}, r"resolution: found \[40, None, 4\]"),
        ({"resolution": [40, float("nan"), 4]}, "resolution: found"),
        ({"resolution": "40"}, "resolution: found '40'"),
        ({"offset": 5}, "offset: found 5"),
        ({"resolution": [1, 1, 1], "units": ["nm", "", "nm"]}, "units"),
        ({"transform": {"scale": [4, 4], "axes": ["z", "y", "x"]}}, r"transform\.scale"),
        ({"transform": [4, 4, 4]}, "transform: found"),
        ({"axistags": "{"}, "axistags: found"),
    ],
)
def test_contradictions_and_mistakes_are_named(tmp_path, attributes, message):
    with pytest.raises(ValueError, match=f"em.zarr/raw/s0: .*{message}"):
        open_volume(write(tmp_path / "em.zarr", attributes))


def test_the_array_comes_before_its_group_and_the_multiscale(tmp_path):
    around = {"offset": [1, 1, 1], **multiscale([{"type": "scale", "scale": [9, 9, 9]}])}
    path = write(tmp_path / "em.zarr", {"resolution": [40, 4, 8], "units": "nm"}, around)
    for opened in (path, path.removesuffix("/s0")):
        grid = grid_of(open_volume(opened))
        assert (grid.voxel_size, grid.offset, grid.units) == ((40, 4, 8), (1, 1, 1), "nanometer")


def test_lengths_are_in_the_unit_stated_beside_them(tmp_path):
    around = multiscale([{"type": "scale", "scale": [0.04, 0.004, 0.008]}])
    grid = grid_of(open_volume(write(tmp_path / "em.zarr", {"units": "nm"}, around)))
    assert (grid.voxel_size, grid.units) == ((40, 4, 8), "nanometer")
    with pytest.raises(ValueError, match=r"resolution is \(40, 4, 8\) without units"):
        open_volume(write(tmp_path / "em2.zarr", {"resolution": [40, 4, 8]}, around))
    unequal = [{**axis, "unit": unit} for axis, unit in zip(UM, ("micrometer", "nm", "nm"), strict=True)]
    around = multiscale([{"type": "scale", "scale": [0.04, 4, 8]}], unequal)
    assert grid_of(open_volume(write(tmp_path / "em3.zarr", {}, around))).voxel_size == (40, 4, 8)


def test_matrices_that_only_reorder_are_taken(tmp_path):
    affine = [[0, 0, 40, 80], [0, 4, 0, 0], [8, 0, 0, 16]]
    systems = [{"name": "em", "axes": UM}, {"name": "atlas", "axes": UM}]
    step = {"type": "affine", "affine": affine, "input": {"path": "s0"}, "output": {"name": "em"}}

    def around(step):
        entry = {
            "coordinateSystems": systems,
            "datasets": [{"path": "s0", "coordinateTransformations": [step]}],
        }
        return {"ome": {"version": "0.6", "multiscales": [entry]}}

    volume = open_volume(write(tmp_path / "em.zarr", {}, around(step), VOXELS.T))
    np.testing.assert_array_equal(volume, VOXELS)
    assert grid_of(volume).voxel_size == (40, 4, 8)
    assert grid_of(volume).offset == (80, 0, 16)
    refused = [
        ({**step, "affine": [[1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]}, "affine|matrix"),
        ({**step, "affine": [[-1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]}, "positive"),
        ({"type": "displacements", "path": "d", "output": {"name": "em"}}, "displacements"),
        ({**step, "output": {"name": "brain"}}, "brain"),
    ]
    for n, (wrong, message) in enumerate(refused):
        with pytest.raises(ValueError, match=message):
            open_volume(write(tmp_path / f"{n}.zarr", {}, around(wrong)))


def test_a_group_tells_of_its_finest_level(tmp_path):
    path = write(tmp_path / "em.zarr", {}, {"resolution": [40, 4, 4]})
    zarr.open_group(path.removesuffix("/s0")).create_array(
        "s1", shape=(4, 3, 4), dtype="uint8", chunks=(4, 3, 4)
    )
    with pytest.raises(ValueError, match=r"resolution of .* expected downsamplingFactors"):
        open_volume(path.replace("s0", "s1"))
    zarr.open_array(path.replace("s0", "s1"), mode="r+").attrs["downsamplingFactors"] = [2, 2, 1]
    assert grid_of(open_volume(path.replace("s0", "s1"))).voxel_size == (40, 8, 8)


def test_levels_of_cosem_share_a_corner(tmp_path):
    tensorstore = pytest.importorskip("tensorstore")
    transforms = [
        {
            "axes": ["z", "y", "x"],
            "scale": [size] * 3,
            "translate": [80 + (size - 4) / 2] * 3,
            "units": ["nm"] * 3,
        }
        for size in (4, 8)
    ]
    for level, transform in enumerate(transforms):
        folder = tmp_path / "em.n5" / "raw" / f"s{level}"
        metadata = {"dataType": "uint8", "dimensions": [4] * 3, "blockSize": [4] * 3}
        spec = {"driver": "n5", "kvstore": {"driver": "file", "path": f"{folder}/"}, "create": True}
        tensorstore.open({**spec, "metadata": {**metadata, "compression": {"type": "gzip"}}}).result()
        file = folder / "attributes.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "transform": transform}))
    grid = grid_of(open_volume(tmp_path / "em.n5" / "raw", level=1))
    assert (grid.voxel_size, grid.offset) == ((8, 8, 8), (80, 80, 80))


def test_positions_that_are_no_voxels_are_refused(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        data = file.create_dataset("data", data=VOXELS)
        file["z"] = np.array([0.0, 40, 90, 120])
        file["z"].make_scale("z")
        data.dims[0].attach_scale(file["z"])
    with pytest.raises(ValueError, match="dimension scales: /z: found positions that are not evenly spaced"):
        open_volume(path / "data")


def test_levels_are_not_put_beside_an_array_of_another_order(tmp_path):
    write(tmp_path / "em.zarr", {"axis_names": ["x", "y", "z"]}, voxels=VOXELS.T)
    with pytest.raises(ValueError, match="stored as x, y, z, expected z, y, x"):
        workflows.build_pyramid(in_file=str(tmp_path / "em.zarr"), in_dataset="raw/s0", levels=1)
