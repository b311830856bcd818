"""What ScanImage writes into its TIFF files: which channel and section a page is, and the size of voxels.

References
----------
.. [1] https://docs.scanimage.org/Appendix/ScanImage%2BBigTiff%2BSpecification.html
"""

from collections.abc import Mapping
from typing import Any

import tifffile

type Settings = Mapping[str, Any]


def settings_of(tif: tifffile.TiffFile) -> Settings:
    """Settings of the microscope, such as ``SI.hStackManager.numSlices``; empty where there are none.

    Newer files have them in their header, older ones in the software tag or the first description.
    """
    header = (tif.scanimage_metadata or {}).get("FrameData")
    if header:
        return dict(header)
    first = tif.pages.first
    text = first.software if first.software.startswith("SI.") else first.description
    lines = (line.removeprefix("scanimage.").strip() for line in text.splitlines())
    return dict(tifffile.matlabstr2py("\n".join(line for line in lines if line.startswith("SI."))))


def axes_of_pages(settings: Settings, n_pages: int) -> tuple[str, tuple[int, ...]]:
    """Axes that pages run along, and their lengths: channels are fastest, then sections.

    Raises
    ------
    ValueError
        If the settings do not tell, or the pages are not those of one volume.

    Examples
    --------
    >>> axes_of_pages({"SI.hChannels.channelSave": [[1], [2]], "SI.hStackManager.numSlices": 3}, 6)
    ('ZC', (3, 2))
    """
    saved = settings.get("SI.hChannels.channelSave")
    if saved is None and n_pages > 1:
        raise ValueError("its ScanImage metadata lack SI.hChannels.channelSave, so pages may be anything")
    n_channels = len(saved) if isinstance(saved, list) else 1
    n_sections = _sections(settings)
    if n_channels * n_sections != n_pages:
        raise ValueError(
            f"its ScanImage metadata speak of {n_sections} sections and {n_channels} channels, but the file "
            f"has {n_pages} pages; expected one volume, not several frames or volumes over time"
        )
    return "ZC", (n_sections, n_channels)


def sizes_of(settings: Settings, height: int, width: int) -> dict[str, float]:
    """Voxel size along the axes that the settings tell it of, in micrometers."""
    sizes = {}
    step = _first(settings, "SI.hStackManager.actualStackZStepSize", "SI.hStackManager.stackZStepSize")
    if isinstance(step, int | float) and step:
        sizes["z"] = abs(float(step))
    corners = settings.get("SI.hRoiManager.imagingFovUm")
    if isinstance(corners, list) and len(corners) == 4 and all(len(corner) == 2 for corner in corners):
        xs, ys = zip(*corners, strict=True)
        if max(xs) > min(xs) and max(ys) > min(ys):
            sizes |= {"y": (max(ys) - min(ys)) / height, "x": (max(xs) - min(xs)) / width}
    return sizes


def _sections(settings: Settings) -> int:
    if settings.get("SI.hStackManager.enable") is False and not settings.get("SI.hFastZ.enable"):
        return 1
    return int(_first(settings, "SI.hStackManager.actualNumSlices", "SI.hStackManager.numSlices") or 1)


def _first(settings: Settings, *keys: str) -> Any:
    return next((settings[key] for key in keys if settings.get(key)), None)
