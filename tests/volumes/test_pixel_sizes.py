"""What images state of the size of their voxels, and what of it counts."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lsd_dask.space.grids import Grid
from lsd_dask.space.lengths import convert
from lsd_dask.volumes.saving import grid_of, open_volume

STACK = np.random.default_rng(0).integers(0, 255, (5, 6, 7)).astype("uint8")
EM = {"unit": "nm", "spacing": 40, "axes": "ZYX"}


def grid(path: Path, **stated: Any) -> Grid:
    return grid_of(open_volume(path, **stated))


def write(path: Path, voxels: np.ndarray = STACK, **options: Any) -> Path:
    tifffile.imwrite(path, voxels, **options)
    return path


#: Symbol of a unit, and how many nanometers it has.
UNITS = {"nm": 1, "um": 1e3, "micron": 1e3, "\\u00B5m": 1e3, "µm": 1e3, "mm": 1e6, "cm": 1e7, "inch": 2.54e7}


@given(
    st.sampled_from(list(UNITS)),
    st.tuples(*[st.sampled_from([1, 3.5, 4, 7.9, 40, 500])] * 3),
    st.sampled_from(["imagej", "ome", "tifffile"]),
)
@settings(max_examples=30)
def test_a_size_is_the_same_in_any_unit(unit: str, nanometers: tuple[float, ...], kind: str) -> None:
    z, y, x = (n / UNITS[unit] for n in nanometers)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "a.tif"
        if kind == "ome":
            symbol = {"um": "µm", "micron": "µm", "\\u00B5m": "µm", "inch": "in"}.get(unit, unit)
            told = {f"PhysicalSize{axis}": size for axis, size in zip("ZYX", (z, y, x), strict=True)}
            units = {f"PhysicalSize{axis}Unit": symbol for axis in "ZYX"}
            write(path, ome=True, metadata={"axes": "ZYX", **told, **units})
        else:
            text = unit.replace("µ", "\\u00B5")
            metadata = {"unit": text, "spacing": z, "axes": "ZYX"}
            write(path, imagej=kind == "imagej", resolution=(1 / x, 1 / y), metadata=metadata)
        found = grid(path)
    sizes = convert(found.voxel_size, found.units, "nanometer")
    np.testing.assert_allclose(sizes, nanometers, rtol=1e-5)


def test_ome_lengths_are_micrometers_unless_told(tmp_path: Path) -> None:
    sizes = {"PhysicalSizeZ": 0.04, "PhysicalSizeY": 4, "PhysicalSizeYUnit": "nm", "PhysicalSizeX": 0.004}
    found = grid(write(tmp_path / "a.tif", ome=True, metadata={"axes": "ZYX", **sizes}))
    assert (found.voxel_size, found.units) == ((0.04, 0.004, 0.004), "micrometer")


def test_tags_alone(tmp_path: Path) -> None:
    """Screens and printers state no voxel size; microscopes do, of a single image that is all."""
    for n, (resolution, unit) in enumerate(
        [((72, 72), 2), ((118.11, 118.11), 3), ((2400, 2400), 2), ((4, 4), 1)]
    ):
        path = write(tmp_path / f"{n}.tif", resolution=resolution, resolutionunit=unit)
        assert (grid(path).voxel_size, grid(path).units) == ((1, 1, 1), "voxel")
    path = write(tmp_path / "em.tif", STACK[0], resolution=(2e6, 2.5e6), resolutionunit=3)
    assert (grid(path).voxel_size, grid(path).units) == ((4, 5), "nanometer")


def test_png(tmp_path: Path) -> None:
    for name, dpi in (("print", 300), ("em", 5_080_000)):
        Image.fromarray(STACK[0]).save(tmp_path / f"{name}.png", dpi=(dpi, dpi))
    assert grid(tmp_path / "print.png").units == "voxel"
    assert (grid(tmp_path / "em.png").voxel_size, grid(tmp_path / "em.png").units) == ((5, 5), "nanometer")


def test_what_is_told_comes_first_key_by_key(tmp_path: Path) -> None:
    origin = {"xorigin": 10, "yorigin": -5}
    path = write(tmp_path / "a.tif", imagej=True, resolution=(0.25, 0.25), metadata={**EM, **origin})
    assert grid(path) == Grid(("z", "y", "x"), STACK.shape, (40, 4, 4), (0, 20, -40), "nanometer")
    assert grid(path, voxel_size=(30, 2, 2)).voxel_size == (30, 2, 2)
    assert grid(path, offset=(1, 2, 3)).offset == (1, 2, 3)
    assert grid(path, units="micrometer").voxel_size == (40, 4, 4)
    assert grid(path, units="micrometer").units == "micrometer"


def test_distances_without_a_unit(tmp_path: Path) -> None:
    metadata = {"unit": "pixel", "spacing": 10, "axes": "ZYX"}
    path = write(tmp_path / "a.tif", imagej=True, metadata=metadata)
    assert (grid(path).voxel_size, grid(path).units) == ((10, 1, 1), "voxel")
    assert grid(path, units="nanometer").units == "nanometer"


def test_sizes_of_some_axes_alone_are_no_voxel_size(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.tif", imagej=True, resolution=(0.25, 0.25), metadata={"unit": "nm", "axes": "ZYX"}
    )
    with pytest.raises(
        ValueError, match=r"a\.tif: states a voxel size of 4 along y, 4 along x \(nanometer\), and"
    ):
        open_volume(path)
    assert grid(path, voxel_size=(40, 4, 4)).voxel_size == (40, 4, 4)


@pytest.mark.parametrize(
    ("changed", "message"),
    [({"unit": "fathom"}, "states the unit 'fathom'"), ({"spacing": "far"}, "spacing: found 'far'")],
)
def test_sizes_that_are_none(changed: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", imagej=True, resolution=(0.25, 0.25), metadata={**EM, **changed})
    with pytest.raises(ValueError, match=rf"a\.tif: .*{message}"):
        open_volume(path)


def test_sections_of_several_sizes(tmp_path: Path) -> None:
    for n, size in enumerate((4, 4.0001, 8)):
        write(tmp_path / f"s{n}.tif", STACK[n], resolution=(1e7 / size, 1e7 / size), resolutionunit=3)
    with pytest.raises(
        ValueError, match=r"s2\.tif: states a voxel size of 8 along y.*the first section.* of 4"
    ):
        open_volume(tmp_path)
    np.testing.assert_array_equal(open_volume(tmp_path, voxel_size=(40, 4, 4)), STACK[:3])
