"""TIFF files: every page is read into its place, or the file is refused by name."""

import importlib.util
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from lsd_dask.volumes.opening import open_stored
from lsd_dask.volumes.saving import open_volume

#: Channel, z, y, x.
VOXELS = np.random.default_rng(0).integers(0, 255, (2, 6, 20, 24)).astype("uint8")
STACK = VOXELS[0]
OME = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
CHANNELS = ("channel", "z", "y", "x")


def stored_as(voxels: np.ndarray, axes: str, of: str = "CZYX") -> np.ndarray:
    """An array with its axes in another order."""
    return np.ascontiguousarray(voxels.transpose([of.index(axis) for axis in axes]))


def ome_xml(order: str, planes: Sequence[tuple[int, int]], **attributes: Any) -> str:
    """OME-XML of two channels and six sections that names the page of each, (z, c), in turn."""
    data = "".join(
        f'<TiffData IFD="{page}" FirstZ="{z}" FirstC="{c}" PlaneCount="1"/>'
        for page, (z, c) in enumerate(planes)
    )
    more = "".join(f' {key}="{value}"' for key, value in attributes.items())
    return (
        f'<OME xmlns="{OME}"><Image ID="Image:0"><Pixels ID="Pixels:0" '
        f'DimensionOrder="{order}" Type="uint8" SizeX="24" SizeY="20" SizeZ="6" SizeC="2" SizeT="1"{more}>'
        f'<Channel ID="C:0"/><Channel ID="C:1"/>{data}</Pixels></Image></OME>'
    )


@given(st.permutations("CZYX"), st.sampled_from("<>"), st.booleans(), st.sampled_from([None, "zlib"]))
@settings(max_examples=25)
def test_any_order_of_named_axes(
    axes: list[str], byteorder: Any, bigtiff: bool, compression: str | None
) -> None:
    voxels = VOXELS[:, :4, :5, :7].astype("uint16") * 257
    with TemporaryDirectory() as folder:
        path = Path(folder) / "a.tif"
        tifffile.imwrite(
            path,
            stored_as(voxels, "".join(axes)),
            metadata={"axes": "".join(axes)},
            byteorder=byteorder,
            bigtiff=bigtiff,
            compression=compression,
            photometric="minisblack",
        )
        volume = open_volume(path)
        assert volume.dims == CHANNELS
        np.testing.assert_array_equal(volume, voxels)
        np.testing.assert_array_equal(volume[1:, 2:4, 3:, :6], voxels[1:, 2:4, 3:, :6])


@given(st.permutations([(z, c) for z in range(6) for c in range(2)]), st.permutations("ZCT"))
@settings(max_examples=15)
def test_ome_planes_in_any_order(planes: list[tuple[int, int]], order: list[str]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "a.ome.tif"
        pages = np.stack([VOXELS[c, z] for z, c in planes])
        tifffile.imwrite(
            path,
            pages,
            description=ome_xml("XY" + "".join(order), planes),
            metadata=None,
            photometric="minisblack",
        )
        volume = open_volume(path)
        assert volume.dims == CHANNELS
        np.testing.assert_array_equal(volume, VOXELS)


@pytest.mark.parametrize("order", ["czt", "ctz", "zct", "ztc", "tcz", "tzc"])
def test_imagej_orders(order: str, tmp_path: Path) -> None:
    """The letters of ImageJ's order begin with the axis that runs fastest."""
    pages = stored_as(VOXELS, order.upper().replace("T", "")[::-1] + "YX").reshape(12, 20, 24)
    text = f"ImageJ=1.53t\nimages=12\nchannels=2\nslices=6\nhyperstack=true\norder={order}\n"
    tifffile.imwrite(tmp_path / "a.tif", pages, description=text, metadata=None)
    np.testing.assert_array_equal(open_volume(tmp_path / "a.tif"), VOXELS)


def page_by_page(path: Path, **options: Any) -> None:
    with tifffile.TiffWriter(path) as writer:
        for section in STACK:
            writer.write(section, **options)


def with_a_thumbnail(path: Path) -> None:
    with tifffile.TiffWriter(path) as writer:
        writer.write(STACK[0, ::2, ::2], subfiletype=1, metadata=None)
        writer.write(STACK, metadata=None)


def pyramid(path: Path) -> None:
    with tifffile.TiffWriter(path, ome=True) as writer:
        writer.write(STACK, subifds=1, metadata={"axes": "ZYX"})
        writer.write(STACK[:, ::2, ::2], subfiletype=1)


def in_one_piece(path: Path, sections: int = 6, told: int = 6) -> None:
    """As ImageJ writes what is larger than 4 GB: one page, behind which all sections lie."""
    text = f"ImageJ=1.53t\nimages={told}\nslices={told}\n"
    tifffile.imwrite(path, STACK[0], description=text, metadata=None)
    with tifffile.TiffFile(path) as tif:
        start = tif.pages[0].dataoffsets[0]
    path.write_bytes(path.read_bytes()[:start] + STACK[:sections].tobytes())


@pytest.mark.parametrize(
    "write",
    [
        page_by_page,
        lambda path: page_by_page(path, metadata=None),
        lambda path: page_by_page(path, contiguous=False, compression="zlib"),
        with_a_thumbnail,
        pyramid,
        in_one_piece,
        lambda path: tifffile.imwrite(path, STACK, metadata=None),
        lambda path: tifffile.imwrite(path, STACK, tile=(16, 16), compression="zlib"),
        lambda path: tifffile.imwrite(path, STACK, volumetric=True, tile=(16, 16, 16)),
        lambda path: tifffile.imwrite(path, STACK, imagej=True, metadata={"axes": "ZYX"}),
        lambda path: tifffile.imwrite(path, STACK[None, :, None], imagej=True, metadata={"axes": "TZCYX"}),
    ],
)
def test_ways_to_write_a_stack(write: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    write(path)
    volume = open_volume(path)
    assert volume.dims == ("z", "y", "x")
    np.testing.assert_array_equal(volume, STACK)
    np.testing.assert_array_equal(volume[2:4, 3:, :7], STACK[2:4, 3:, :7])
    assert len(pickle.dumps(open_stored(path))) < 2000


def test_three_sections_that_are_told_to_be_sections(tmp_path: Path) -> None:
    """tifffile takes three of anything for colours, beside the axes that it is told."""
    tifffile.imwrite(tmp_path / "a.tif", STACK[:3], metadata={"axes": "ZYX"}, photometric="rgb")
    np.testing.assert_array_equal(open_volume(tmp_path / "a.tif"), STACK[:3])


def test_true_and_false(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", STACK > 100)
    np.testing.assert_array_equal(open_volume(tmp_path / "a.tif"), STACK > 100)


SETTINGS = "SI.hChannels.channelSave = [1;2]\nSI.hStackManager.numSlices = {}\nSI.hStackManager.enable = true"


def test_scanimage(tmp_path: Path) -> None:
    """Channels are the fastest, then sections."""
    pages = stored_as(VOXELS, "ZCYX").reshape(12, 20, 24)
    tifffile.imwrite(tmp_path / "a.tif", pages, software=SETTINGS.format(6), metadata=None)
    np.testing.assert_array_equal(open_volume(tmp_path / "a.tif", voxel_size=(2, 1, 1)), VOXELS)
    tifffile.imwrite(tmp_path / "b.tif", pages, software=SETTINGS.format(3), metadata=None)
    with pytest.raises(
        ValueError, match=r"b\.tif: its ScanImage metadata speak of 3 sections and 2 channels"
    ):
        open_volume(tmp_path / "b.tif")


def write_set(folder: Path) -> None:
    """Two files of three sections each, and OME-XML in both that describes all."""
    data = "".join(
        f'<TiffData IFD="{z % 3}" FirstZ="{z}" PlaneCount="1"><UUID FileName="{"ab"[z // 3]}.tif">'
        f"urn:uuid:{'ab'[z // 3]}</UUID></TiffData>"
        for z in range(6)
    )
    for n, name in enumerate("ab"):
        xml = (
            f'<OME xmlns="{OME}" UUID="urn:uuid:{name}"><Image '
            'ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" SizeX="24" SizeY="20" '
            f'SizeZ="6" SizeC="1" SizeT="1"><Channel ID="C:0"/>{data}</Pixels></Image></OME>'
        )
        sections = STACK[3 * n : 3 * n + 3]
        tifffile.imwrite(
            folder / f"{name}.tif", sections, description=xml, metadata=None, photometric="minisblack"
        )


def test_ome_sets_of_files(tmp_path: Path) -> None:
    write_set(tmp_path)
    np.testing.assert_array_equal(open_volume(tmp_path / "a.tif"), STACK)
    np.testing.assert_array_equal(open_volume(tmp_path / "b.tif"), STACK)
    with pytest.raises(ValueError, match=r"a\.tif: expected one section a file.*open it by itself"):
        open_volume(tmp_path)
    (tmp_path / "part").mkdir()
    (tmp_path / "a.tif").rename(tmp_path / "part" / "a.tif")
    with pytest.raises(
        ValueError, match=r"a\.tif: its ome metadata speak of 6 pages, of which 3 are not there"
    ):
        open_volume(tmp_path / "part" / "a.tif")


def several(path: Path, *pages: np.ndarray, **options: Any) -> None:
    with tifffile.TiffWriter(path, **options) as writer:
        for page in pages:
            writer.write(page, contiguous=False)


def with_one_other_page(path: Path) -> None:
    with tifffile.TiffWriter(path) as writer:
        for n in range(12):
            writer.write(np.zeros((20, 23 if n == 3 else 24), "uint8"), metadata=None)


def cut_short(path: Path) -> None:
    tifffile.imwrite(path, STACK)
    path.write_bytes(path.read_bytes()[:1500])


def told(text: str) -> Callable[[Path], None]:
    return lambda path: tifffile.imwrite(path, STACK, description=text, metadata=None)


def imagej(axes: str) -> Callable[[Path], None]:
    return lambda path: tifffile.imwrite(path, VOXELS, imagej=True, metadata={"axes": axes})


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (imagej("TZYX"), r"2 along T \(time\), 6 along Z"),
        (imagej("TCYX"), r"2 along T \(time\), 6 along C"),
        (lambda path: tifffile.imwrite(path, VOXELS), r"2 along Q \(without a name\), 6 along Q"),
        (lambda path: tifffile.imwrite(path, STACK, metadata={"axes": "TYX"}), r"6 along T \(time\)"),
        (lambda path: tifffile.imwrite(path, STACK, metadata={"axes": "AYX"}), r"6 along A"),
        (lambda path: several(path, *VOXELS), r"2 series of pages, of shapes \(6, 20, 24\), \(6, 20, 24\)"),
        (lambda path: several(path, *STACK, ome=True), "describes 6 images, each a series of pages"),
        (with_one_other_page, r"page 4 of 12 has shape \(20, 23\)"),
        (lambda path: several(path, STACK, STACK[0, ::2, ::2]), r"page 7 of 7 has shape \(10, 12\)"),
        (cut_short, "cut short"),
        (lambda path: in_one_piece(path, sections=4), "cut short"),
        (
            told("ImageJ=1.53t\nimages=4\nslices=4\n"),
            "holds 6 pages, but its imagej metadata have a place for 4",
        ),
        (told("ImageJ=1.53t\nimages=8\nslices=8\n"), "its imagej metadata do not tell"),
        (
            told(ome_xml("XYZCT", [(z, 0) for z in range(6)])),
            "its ome metadata speak of 12 pages, of which 6",
        ),
        (told(f'<OME xmlns="{OME}"><Image></OME>'), "OME-XML cannot be read"),
        (
            told(f'<OME xmlns="{OME}"><BinaryOnly MetadataFile="s.companion.ome"/></OME>'),
            r"its OME-XML is in s\.companion\.ome",
        ),
        (
            lambda path: tifffile.imwrite(path, VOXELS[0, :, :, :3], photometric="rgb"),
            "expected grey images.*RGB",
        ),
        (lambda path: tifffile.imwrite(path, STACK, photometric="miniswhite"), "MINISWHITE; 0 is white"),
        (
            lambda path: tifffile.imwrite(
                path, STACK[0], photometric="palette", colormap=np.zeros((3, 256), "uint16")
            ),
            "PALETTE; its values stand for colours",
        ),
        (
            lambda path: tifffile.imwrite(
                path,
                STACK[0].reshape(20, 12, 2),
                photometric="minisblack",
                planarconfig="contig",
                extrasamples=["unassalpha"],
            ),
            r"2 along S \(colours, alpha\)",
        ),
        (lambda path: path.write_bytes(b"II*\0"), "this is no image that can be read"),
        (lambda path: path.write_bytes(b""), "this is no image that can be read"),
    ],
)
def test_what_is_refused(write: Callable[[Path], None], message: str, tmp_path: Path) -> None:
    write(tmp_path / "a.tif")
    with pytest.raises(ValueError, match=rf"a\.tif: .*{message}"):
        open_volume(tmp_path / "a.tif")


def test_pages_that_cannot_be_unpacked(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", STACK, compression="zlib")
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        start = tif.pages[3].dataoffsets[0]
        tag = tif.pages[2].tags["Compression"].valueoffset
    content = bytearray((tmp_path / "a.tif").read_bytes())
    content[start + 2 : start + 40] = b"\xff" * 38
    (tmp_path / "a.tif").write_bytes(content)
    stored = open_stored(tmp_path / "a.tif")
    whole = (slice(None), slice(None))
    np.testing.assert_array_equal(stored.read((slice(0, 3), *whole)), STACK[:3])
    with pytest.raises(ValueError, match=r"a\.tif: page 4 cannot be read"):
        stored.read((slice(3, 4), *whole))
    content[tag : tag + 2] = (34712).to_bytes(2, "little")
    (tmp_path / "b.tif").write_bytes(content)
    if importlib.util.find_spec("imagecodecs") is None:
        with pytest.raises(ValueError, match=r"b\.tif: page 3 is packed in a way.*imagecodecs"):
            open_volume(tmp_path / "b.tif")
