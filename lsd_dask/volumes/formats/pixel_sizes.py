"""What image files state of the size and the place of their voxels: OME-XML, ImageJ, ScanImage, tags, PNG.

Each axis is read by itself; an axis of which nothing is stated has no size here, and none is made up for it.

Programs that know nothing of a size write the resolution of a screen or a printer into the tags for it. Hence
tags alone count only if pixels are smaller than `LARGEST`: 72 dots an inch are no statement, 2,000,000 pixels
a centimeter are one. Where metadata name a unit (ImageJ, OME-XML), what they say counts as it is.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree

import tifffile

from ...checks.arguments import shown
from ...space.lengths import convert
from ...space.units import UNKNOWN, unit_name
from .scanimage import settings_of, sizes_of

#: Pixels of tags that count are smaller than this, in micrometers; dots of printers, 2,400 an inch, are not.
LARGEST = 10.0

#: Units that no volume is told in; such sizes are told in nanometers.
_OUTSIZE = ("inch", "centimeter", "meter")

#: The units of TIFF's ResolutionUnit; 1 is none.
_TAG_UNITS = {2: "inch", 3: "centimeter"}


@dataclass(frozen=True)
class PixelSize:
    """Size and place of voxels, as far as a file states them.

    Parameters
    ----------
    sizes : mapping of str to float
        Voxel size along the axes ``"z"``, ``"y"``, ``"x"`` of which one is stated.
    units : str
        Unit of the sizes; ``"voxel"`` where none is stated.
    origin : mapping of str to float
        Where the origin of the world lies, in voxels from the lower corner, along axes that state it.
    """

    sizes: Mapping[str, float] = field(default_factory=dict)
    units: str = UNKNOWN
    origin: Mapping[str, float] = field(default_factory=dict)


def pixel_size_of(tif: tifffile.TiffFile, kind: str) -> PixelSize:
    """What a TIFF file states.

    Parameters
    ----------
    tif : tifffile.TiffFile
    kind : str
        Whose metadata it has: ``"ome"``, ``"imagej"``, ``"scanimage"``, ``"shaped"`` (tifffile's own), or
        others.

    Returns
    -------
    PixelSize

    Raises
    ------
    ValueError
        If a size or a unit is stated that is none.
    """
    if kind == "ome":
        return _of_ome(pixels_of(tif.ome_metadata or ""))
    if kind == "scanimage":
        return _of_scanimage(tif)
    if kind == "imagej":
        return _of_imagej(tif, tif.imagej_metadata or {})
    if kind == "shaped":
        return _of_imagej(tif, (tif.shaped_metadata or ({},))[0])
    return _of_tags(tif)


def pixels_of(xml: str) -> ElementTree.Element:
    """The element Pixels of the one image that OME-XML describes.

    Raises
    ------
    ValueError
        If this is no OME-XML, lies in another file, or describes several images or none.
    """
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError as error:
        raise ValueError(f"its OME-XML cannot be read ({error})") from error
    elsewhere = root.find("{*}BinaryOnly")
    if elsewhere is not None:
        other = elsewhere.get("MetadataFile", "another file")
        raise ValueError(f"its OME-XML is in {other}; open a file of the set that holds the metadata itself")
    pixels = root.findall("{*}Image/{*}Pixels")
    if len(pixels) != 1:
        raise ValueError(
            f"its OME-XML describes {len(pixels)} images, each a series of pages, expected one image"
        )
    return pixels[0]


def of_png(density: tuple[int, int, int] | None) -> PixelSize:
    """What the chunk pHYs of a PNG file states: pixels per unit along x and y, and 1 for a meter."""
    if density is None or density[2] != 1 or 0 in density[:2]:
        return PixelSize()
    return _if_small({"x": 1 / density[0], "y": 1 / density[1]}, "meter")


def _of_ome(pixels: ElementTree.Element) -> PixelSize:
    stated = {axis: pixels.get(f"PhysicalSize{axis.upper()}") for axis in "zyx"}
    sizes = {axis: _length(f"PhysicalSize{axis.upper()}", text) for axis, text in stated.items() if text}
    units = {axis: pixels.get(f"PhysicalSize{axis.upper()}Unit", "µm") for axis in sizes}
    if not sizes:
        return PixelSize()
    first = unit_name(units[min(sizes)])
    told = {axis: float(convert(size, units[axis], first)) for axis, size in sizes.items()}
    return _usual(told, first)


def _of_imagej(tif: tifffile.TiffFile, metadata: Mapping[str, Any]) -> PixelSize:
    """ImageJ has pixels per unit in the tags, the unit and the distance of sections in its description."""
    named = metadata.get("unit")
    # tifffile reads a description of numbers as numbers, and ImageJ escapes what is not ASCII.
    units = unit_name(str(named)) if named is not None else UNKNOWN
    spacing = {"z": abs(_length("spacing", metadata["spacing"]))} if metadata.get("spacing") else {}
    if units == UNKNOWN:
        tags = _of_tags(tif)
        if tags.sizes:
            depth = _usual(spacing, _unit_of_tags(tif)).sizes
            return PixelSize({**depth, **tags.sizes}, tags.units, _origin(metadata))
        ratio = _pixels(tif) if spacing else {}
        return PixelSize({**spacing, **ratio}, UNKNOWN, _origin(metadata))
    found = _usual({**spacing, **_pixels(tif)}, units)
    return PixelSize(found.sizes, found.units, _origin(metadata))


def _of_scanimage(tif: tifffile.TiffFile) -> PixelSize:
    first = tif.pages.first
    sizes = sizes_of(settings_of(tif), first.imagelength, first.imagewidth)
    if "x" not in sizes:
        tags = _of_tags(tif)
        sizes |= {axis: float(convert(size, tags.units, "um")) for axis, size in tags.sizes.items()}
    return PixelSize(sizes, "micrometer") if sizes else PixelSize()


def _of_tags(tif: tifffile.TiffFile) -> PixelSize:
    units = _unit_of_tags(tif)
    return PixelSize() if units == UNKNOWN else _if_small(_pixels(tif), units)


def _unit_of_tags(tif: tifffile.TiffFile) -> str:
    tag = tif.pages.first.tags.get("ResolutionUnit")
    # TIFF 6.0: an inch, where there is no tag.
    return _TAG_UNITS.get(2 if tag is None else int(tag.value), UNKNOWN)


def _pixels(tif: tifffile.TiffFile) -> dict[str, float]:
    """Units per pixel along x and y, of the tags for pixels per unit."""
    sizes = {}
    for axis, name in (("y", "YResolution"), ("x", "XResolution")):
        tag = tif.pages.first.tags.get(name)
        value = None if tag is None else tag.value
        # A fraction of whole numbers; 0 in either of them states nothing.
        if isinstance(value, tuple) and len(value) == 2 and all(value):
            sizes[axis] = value[1] / value[0]
    return sizes


def _origin(metadata: Mapping[str, Any]) -> dict[str, float]:
    found = {axis: metadata.get(f"{axis}origin") for axis in "zyx"}
    return {axis: float(value) for axis, value in found.items() if isinstance(value, int | float)}


def _if_small(sizes: Mapping[str, float], units: str) -> PixelSize:
    stated = all(float(convert(size, units, "um")) < LARGEST for size in sizes.values())
    return _usual(sizes, units) if stated and sizes else PixelSize()


def _usual(sizes: Mapping[str, float], units: str) -> PixelSize:
    """Sizes in a unit that volumes are told in."""
    to = "nanometer" if units in _OUTSIZE else units
    return PixelSize({axis: float(convert(size, units, to)) for axis, size in sizes.items()}, to)


def _length(name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = 0.0
    if not 0 < abs(number) < float("inf"):
        raise ValueError(f"{name}: found {shown(value)}, expected the size of a voxel")
    return number
