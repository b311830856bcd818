"""Stacks of images, as others write them, with plain imageio and tifffile calls."""

import imageio.v3 as iio
import numpy as np
import pytest
import tifffile
from PIL import Image

from lsd_dask.space.grids import Grid
from lsd_dask.volumes.opening import open_stored
from lsd_dask.volumes.saving import find_stored, grid_of, open_volume, save_volume

ZYX = ("z", "y", "x")
VOXELS = np.random.default_rng(0).integers(0, 255, (3, 6, 20, 30)).astype("uint8")


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("pattern", ["", "section*"])
def test_folders_of_sections(tmp_path, suffix, dtype, pattern):
    voxels = np.random.default_rng(0).integers(0, 2000, (12, 20, 30)).astype(dtype)
    for z, section in enumerate(voxels):
        iio.imwrite(tmp_path / f"section{z}.{suffix}", section)
    volume = open_volume(tmp_path / pattern, voxel_size=(50, 4, 4), offset=(100, 0, 0))
    assert volume.dims == ZYX
    assert volume.dtype == dtype
    assert grid_of(volume) == Grid(ZYX, (12, 20, 30), (50, 4, 4), (100, 0, 0), "nanometer")
    np.testing.assert_array_equal(volume, voxels)
    np.testing.assert_array_equal(volume.sel(z=slice(550, 650), y=slice(8, 40)), voxels[9:11, 2:10])
    stored, region = find_stored(volume[9:11, 2:10])
    np.testing.assert_array_equal(stored.read(region), voxels[9:11, 2:10])
    assert volume.data.npartitions == 1


def test_stacks_are_saved_to_zarr(tmp_path):
    for z, section in enumerate(VOXELS[0]):
        iio.imwrite(tmp_path / f"s{z}.png", section)
    save_volume(
        open_volume(tmp_path, voxel_size=(40, 4, 4)), tmp_path / "em.zarr" / "raw", block_shape=(4, 8, 8)
    )
    np.testing.assert_array_equal(open_volume(tmp_path / "em.zarr" / "raw"), VOXELS[0])
    assert grid_of(open_volume(tmp_path / "em.zarr" / "raw")).voxel_size == (40, 4, 4)


def test_tiff_files_of_several_pages(tmp_path):
    tifffile.imwrite(tmp_path / "stack.tif", VOXELS[0])
    volume = open_volume(tmp_path / "stack.tif", voxel_size=(40, 4, 4))
    assert grid_of(volume).voxel_size == (40, 4, 4)
    np.testing.assert_array_equal(volume[2:4, :, 5:], VOXELS[0, 2:4, :, 5:])


def test_a_single_image_is_two_dimensional_unless_it_has_a_thickness(tmp_path):
    iio.imwrite(tmp_path / "image.png", VOXELS[0, 0])
    np.testing.assert_array_equal(open_volume(tmp_path / "image.png"), VOXELS[0, 0])
    np.testing.assert_array_equal(open_volume(tmp_path / "image.png", voxel_size=(50, 4, 4)), VOXELS[0, :1])
    with pytest.raises(ValueError, match=r"image.png: offset needs 2 numbers"):
        open_volume(tmp_path / "image.png", offset=(1, 2, 3))


def test_stacks_that_are_none(tmp_path):
    with pytest.raises(FileNotFoundError, match="no image files match"):
        open_volume(tmp_path / "*.png")
    colour, odd = tmp_path / "colour", tmp_path / "odd"
    colour.mkdir()
    odd.mkdir()
    iio.imwrite(colour / "s0.png", np.zeros((20, 30, 3), dtype="uint8"))
    with pytest.raises(ValueError, match=r"s0.png: expected grey images, but found colours, 20 x 30 pixels"):
        open_volume(colour)
    iio.imwrite(odd / "s0.png", np.zeros((20, 30), dtype="uint8"))
    iio.imwrite(odd / "s1.png", np.zeros((20, 31), dtype="uint8"))
    with pytest.raises(
        ValueError, match=r"s1.png: expected a section of shape \(20, 30\).*but found \(20, 31\)"
    ):
        open_volume(odd)
    iio.imwrite(odd / "s2.tif", np.zeros((20, 30), dtype="uint8"))
    with pytest.raises(ValueError, match=r"several kinds of images \(2 x .png, 1 x .tif\)"):
        open_volume(odd)
    tifffile.imwrite(odd / "s3.tif", VOXELS[0])
    with pytest.raises(ValueError, match=r"s3.tif: expected a section of shape \(20, 30\)"):
        open_volume(odd / "*.tif")


def test_sections_that_vanish_are_noticed(tmp_path):
    for z in range(3):
        iio.imwrite(tmp_path / f"s{z}.png", VOXELS[0, z])
    volume = open_volume(tmp_path)
    (tmp_path / "s1.png").unlink()
    with pytest.raises(FileNotFoundError, match="3 files matched on opening, but now 2 do"):
        volume.compute()


def test_stacks_are_not_written(tmp_path):
    iio.imwrite(tmp_path / "s0.png", VOXELS[0, 0])
    stored = open_stored(tmp_path / "s0.png")
    region = tuple(slice(0, n) for n in stored.grid.shape)
    with pytest.raises(OSError, match="only read; save_volume writes zarr"):
        stored.write(region, stored.read(region))
    with pytest.raises(ValueError, match=r"s1.png: images are only read, expected an array in a container"):
        save_volume(VOXELS[0], tmp_path / "s1.png")


def test_folders_with_odd_names_and_hidden_files(tmp_path):
    folder = tmp_path / "a [1] #2"
    folder.mkdir()
    for z in range(2):
        iio.imwrite(folder / f"s{z}.png", VOXELS[0, z])
    (folder / "._s0.tif").write_bytes(b"not an image")
    np.testing.assert_array_equal(open_volume(folder), VOXELS[0, :2])


def test_sections_of_several_channels(tmp_path):
    for z in range(6):
        tifffile.imwrite(
            tmp_path / f"s{z}.tif", VOXELS[:, z], metadata={"axes": "CYX"}, photometric="minisblack"
        )
    volume = open_volume(tmp_path, voxel_size=(40, 4, 4))
    assert volume.dims == ("channel", *ZYX)
    np.testing.assert_array_equal(volume, VOXELS)
    np.testing.assert_array_equal(volume[1:, 2:4, 3:, :7], VOXELS[1:, 2:4, 3:, :7])


def test_numbers_of_sections(tmp_path):
    """What is missing is told; what was left out regularly, or is numbered by time, is not."""
    for folder, numbers in (("gap", "0124"), ("steps", "0369"), ("times", "0158"), ("twice", ("1", "01"))):
        (tmp_path / folder).mkdir()
        for number in numbers:
            iio.imwrite(tmp_path / folder / f"s{number}.png", VOXELS[0, int(number) % 6])
    with pytest.warns(UserWarning, match=r"gap: found 4 sections numbered 0 to 4, but none numbered 3"):
        assert open_volume(tmp_path / "gap").sizes["z"] == 4
    assert open_volume(tmp_path / "steps").sizes["z"] == 4
    assert open_volume(tmp_path / "times").sizes["z"] == 4
    with pytest.raises(ValueError, match=r"s01\.png, .*s1\.png: found two sections of the same number"):
        open_volume(tmp_path / "twice")


@pytest.mark.parametrize(
    ("mode", "found"), [("LA", "grey values and alpha"), ("P", "palette"), ("RGBA", "alpha")]
)
def test_png_files_of_colours(mode, found, tmp_path):
    Image.fromarray(VOXELS[0, 0]).convert(mode).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=rf"a\.png: expected grey images, but found .*{found}"):
        open_volume(tmp_path / "a.png")


def test_png_files_that_are_cut_short(tmp_path):
    iio.imwrite(tmp_path / "a.png", VOXELS[0, 0])
    content = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"a\.png: the image is damaged or was cut short"):
        open_volume(tmp_path / "a.png").compute()
    (tmp_path / "b.png").write_bytes(content[:20])
    with pytest.raises(ValueError, match=r"b\.png: this is no image that can be read"):
        open_volume(tmp_path / "b.png")
