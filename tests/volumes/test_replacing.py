"""An array that is saved over another one takes its place when it is complete, and not before."""

import uuid
from pathlib import Path
from typing import Any, Literal

import dask.array as da
import numpy as np
import pytest
import zarr

from lsd_dask.volumes.saving import open_volume, save_volume


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("where", ["disk", "memory"])
def test_an_array_stays_until_the_one_that_replaces_it_is_complete(
    tmp_path: Path, where: str, zarr_format: Literal[2, 3]
) -> None:
    container = tmp_path / "a.zarr" if where == "disk" else f"memory://{uuid.uuid4().hex}.zarr"
    path = f"{container}/volumes/labels"
    old = np.arange(24 * 16, dtype="uint16").reshape(24, 16)
    save_volume(old, path, voxel_size=(4, 4), zarr_format=zarr_format)

    def fail(block: np.ndarray, block_info: Any = None) -> np.ndarray:
        if block_info[None]["chunk-location"] == (2, 0):
            # Other blocks are being written then.
            raise RuntimeError("the third block")
        return block + 1

    with pytest.raises(RuntimeError, match="the third block"):
        save_volume(
            da.from_array(old, chunks=8).map_blocks(fail, dtype="uint16"),
            path,
            block_shape=(8, 8),
            overwrite=True,
            voxel_size=(8, 8),
        )
    there = open_volume(path)
    np.testing.assert_array_equal(there.values, old)
    assert there.attrs["voxel_size"] == (4, 4)

    new = da.ones((5, 6), dtype="uint8")
    save_volume(new, path, overwrite=True, voxel_size=(8, 8))
    there = open_volume(path)
    np.testing.assert_array_equal(there.values, np.ones((5, 6)))
    assert there.attrs["voxel_size"] == (8, 8)
    group = zarr.open_group(f"{container}/volumes", mode="r")
    assert list(group.keys()) == ["labels"]
    described = group.attrs["ome"] if zarr_format == 3 else group.attrs
    (entry,) = described["multiscales"]
    assert entry["name"] == "labels"
    assert entry["datasets"][0]["coordinateTransformations"][0]["scale"] == [8, 8]


def test_mistakes_are_told_before_anything_is_written_and_name_the_array(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr/labels"
    save_volume(np.ones((8, 8), "uint8"), path)
    for options in ({"block_shape": (8, 7), "chunk_shape": (4, 4)}, {"zarr_format": 2}, {"block_shape": 3}):
        with pytest.raises((ValueError, TypeError)) as caught:
            save_volume(np.zeros((8, 8), "uint8"), path, overwrite=True, **options)
        assert f"{path}: " in str(caught.value)
        assert {p.name for p in path.parent.iterdir()} == {"zarr.json", "labels"}
        assert open_volume(path).values.all()
