"""`lsd-dask convert`: a volume from any format to any other."""

from pathlib import Path

import numpy as np
import pytest
import tifffile

from lsd_dask.cli.main import main
from lsd_dask.space.grids import Grid
from lsd_dask.volumes.saving import grid_of, open_volume

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
    place = ["--voxel-size", "40,4,4", "--offset", "80", "0", "8"]
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
    said = capsys.readouterr().err
    assert target in said
    assert "pass --overwrite to replace it" in said
    assert main(["convert", str(sections), target, "--overwrite"]) == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["sectoins", "--voxel-size", "4"], "there is no 'sectoins' in {}; did you mean 'sections'?"),
        (["sections/4.tiff"], "there is no '4.tiff' in {}/sections; did you mean '4.tif'"),
        (["sections", "--voxel-size", "4 nm"], "--voxel-size: expected numbers, found '4 nm'"),
    ],
)
def test_mistakes_are_named(sections, tmp_path, arguments, said, capsys):
    source, *options = arguments
    assert main(["convert", f"{tmp_path}/{source}", f"{tmp_path}/em.zarr/raw", *options]) == 2
    assert said.format(tmp_path) in capsys.readouterr().err
    assert not (tmp_path / "em.zarr").exists()


def test_an_option_that_does_not_exist(capsys):
    with pytest.raises(SystemExit):
        main(["convert", "sections", "em.zarr/raw", "--voxelsize", "4", "4", "4"])
    assert "there is no option --voxelsize, did you mean --voxel-size?" in capsys.readouterr().err


@pytest.mark.parametrize("voxel_size", [["4"], ["0", "4", "4"]])
def test_voxel_sizes_that_cannot_be(sections, tmp_path, voxel_size, capsys):
    arguments = ["convert", str(sections), f"{tmp_path}/em.zarr/raw", "--voxel-size", *voxel_size]
    assert main(arguments) == 2
    assert "sections" in capsys.readouterr().err
    assert not (tmp_path / "em.zarr").exists()
