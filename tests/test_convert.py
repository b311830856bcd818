"""`lsd-dask convert`: a volume from any format to any other."""

from pathlib import Path

import numpy as np
import pytest
import tifffile

from lsd_dask.cli import main
from lsd_dask.grids import Grid
from lsd_dask.volumes import grid_of, open_volume

VOXELS = np.random.default_rng(0).integers(0, 2000, (5, 20, 30)).astype("uint16")


@pytest.fixture
def sections(tmp_path: Path) -> Path:
    folder = tmp_path / "sections"
    folder.mkdir()
    for z, section in enumerate(VOXELS):
        tifffile.imwrite(folder / f"{z}.tif", section)
    return folder


def test_a_stack_becomes_a_volume_at_its_place(sections, tmp_path, capsys):
    target = f"{tmp_path}/em.zarr/volumes/raw"
    place = ["--voxel-size", "40", "4", "4", "--offset", "80", "0", "8"]
    assert main(["convert", str(sections), target, *place]) == 0
    volume = open_volume(target)
    np.testing.assert_array_equal(volume, VOXELS)
    assert grid_of(volume) == Grid(("z", "y", "x"), VOXELS.shape, (40, 4, 4), (80, 0, 8), "nanometer")
    assert target in capsys.readouterr().out


def test_what_is_stored_is_kept(sections, tmp_path):
    first, second = f"{tmp_path}/em.zarr/raw", f"{tmp_path}/em.hdf/raw"
    main(["convert", str(sections), first, "--voxel-size", "40", "4", "4"])
    assert main(["convert", first, second]) == 0
    assert grid_of(open_volume(second)) == grid_of(open_volume(first))
    np.testing.assert_array_equal(open_volume(second), VOXELS)


def test_nothing_is_replaced_unasked(sections, tmp_path, capsys):
    target = f"{tmp_path}/em.zarr/raw"
    assert main(["convert", str(sections), target]) == 0
    assert main(["convert", str(sections), target]) == 2
    assert target in capsys.readouterr().err
    assert main(["convert", str(sections), target, "--overwrite"]) == 0


@pytest.mark.parametrize("voxel_size", [["4"], ["0", "4", "4"]])
def test_voxel_sizes_that_cannot_be(sections, tmp_path, voxel_size, capsys):
    arguments = ["convert", str(sections), f"{tmp_path}/em.zarr/raw", "--voxel-size", *voxel_size]
    assert main(arguments) == 2
    assert "sections" in capsys.readouterr().err
    assert not (tmp_path / "em.zarr").exists()
