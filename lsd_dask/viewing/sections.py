"""Sections of volumes side by side, and labels over images."""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from dask.base import compute

from ..checks.arguments import check_array, described, real_number
from .colors import label_colors, outlines
from .figures import GREY, as_written, draw_scale_bar, new_panels, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def section_panel(
    volumes: Mapping[str, Any], path: str | Path, *, section: int | None = None, title: str | None = None
) -> Path:
    """Draw one section of several volumes side by side into a picture file.

    Parameters
    ----------
    volumes : mapping of str to array
        Volumes of one shape by their names, which become the titles of the panels: NumPy, dask or stored
        arrays or DataArrays, ``(y, x)`` or ``(z, y, x)``, with an optional leading channel (without names of
        dimensions only before z). Only the section is read or computed. Integers of 32 and 64 bits are drawn
        as labels in colour; all others as images in grey, or where there are channels, their first three in
        red, green and blue. A pair of an image and labels is drawn as the labels over the image (`overlay`).
    path : str or Path
        The file to write; its ending (``.png``, ``.pdf``, ...) says the format. Missing folders are made.
    section : int, optional
        Index of the section along z, in voxels. Default: the middle.
    title : str, optional
        A title over all panels.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    ValueError
        If there is no volume, if their shapes differ or are not those above, or if there is no such section.
    ImportError
        If matplotlib is not installed.

    Notes
    -----
    A scale bar is drawn where the first volume that is a DataArray has a voxel size
    (``attrs["voxel_size"]``), and voxels are drawn in their proportions.

    Examples
    --------
    >>> labels = np.arange(60, dtype=np.uint64).reshape(3, 4, 5)
    >>> raw = labels.astype(np.uint8)
    >>> section_panel({"raw": raw, "labels": labels}, "panel.png").name
    'panel.png'
    """
    return save(draw_sections(volumes, section=section, title=title), path)


def draw_sections(
    volumes: Mapping[str, Any], *, section: int | None = None, title: str | None = None
) -> "Figure":
    """Draw what `section_panel` writes, as a figure of matplotlib.

    Parameters
    ----------
    volumes, section, title
        As for `section_panel`.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError, ImportError
        As for `section_panel`.
    """
    layers = _layers(volumes)
    shape = _common_shape(layers)
    sections = _compute_sections(layers, _check_section(section, shape))
    voxel_size, units = _voxel_size(layers)
    aspect = voxel_size[0] / voxel_size[1]
    figure, panels = new_panels(len(sections), height_to_width=shape[-2] * aspect / shape[-1])
    for axes, (name, drawn) in zip(panels, sections.items(), strict=True):
        _draw_section(axes, name, drawn, aspect)
    if units is not None:
        draw_scale_bar(panels[0], shape[-2:], voxel_size[1], units)
    if title is not None:
        figure.suptitle(as_written(title), fontsize=12)
    return figure


def overlay(
    image: npt.NDArray[Any], labels: npt.NDArray[Any], *, opacity: float = 0.4, lines: bool = True
) -> npt.NDArray[np.uint8]:
    """Put the colours of labels over an image.

    Parameters
    ----------
    image : (y, x) or (channel, y, x) ndarray
        Grey values, of any type; uint8 is drawn as it is, others from their least to their largest value. Or
        up to three channels, uint8 or in [0, 1].
    labels : (y, x) ndarray of int
        Label 0 is transparent.
    opacity : float
        Of the labels, in [0, 1].
    lines : bool
        Whether voxels at the border of a label have its full colour.

    Returns
    -------
    (y, x, 3) ndarray of uint8
        Red, green and blue.

    Raises
    ------
    TypeError
        If labels are not integers.
    ValueError
        If the shapes differ, or the opacity is none.

    Examples
    --------
    >>> overlay(np.zeros((1, 2), np.uint8), np.array([[0, 7]]), opacity=1.0)[0, 0]
    array([0, 0, 0], dtype=uint8)
    """
    real_number("opacity", opacity, 0, 1)
    if image.shape[-2:] != labels.shape:
        raise ValueError(f"image and labels should have one shape, found {image.shape} and {labels.shape}")
    below = _as_rgb(image) if image.ndim == 3 else np.repeat(_as_grey(image)[..., np.newaxis], 3, axis=-1)
    colors = label_colors(labels)
    weight = np.full(labels.shape, opacity)
    if lines:
        weight[outlines(labels)] = 1
    weight *= labels != 0
    mixed = below + weight[..., np.newaxis] * (colors[..., :3] - below.astype(np.float64))
    return np.rint(mixed).astype(np.uint8)


type _Layers = tuple[Any, ...]


def _layers(volumes: Mapping[str, Any]) -> dict[str, _Layers]:
    """What is drawn over what in each panel: one volume, or an image and labels."""
    if not isinstance(volumes, Mapping):
        raise TypeError(f"volumes: found {described(volumes)}, expected a mapping from names to arrays")
    if not volumes:
        raise ValueError("there is no volume to draw")
    return {name: one if isinstance(one, tuple) else (one,) for name, one in volumes.items()}


def _common_shape(layers: Mapping[str, _Layers]) -> tuple[int, ...]:
    """Return the spatial shape of all volumes."""
    shapes = {}
    for name, drawn in layers.items():
        if len(drawn) > 2:
            raise ValueError(f"{name!r}: found {len(drawn)} volumes, expected one, or an image and labels")
        for volume in drawn:
            check_array(volume, repr(name))
            if volume.dtype.kind not in "biuf":
                raise TypeError(f"{name!r}: found dtype {volume.dtype}, expected numbers")
        if len(drawn) == 2 and (drawn[1].dtype.kind not in "iu" or _has_channels(drawn[1])):
            found = f"{drawn[1].dtype}{' with channels' if _has_channels(drawn[1]) else ''}"
            raise TypeError(f"{name!r}: found {found}, expected integer labels to draw over the image")
        for place, volume in zip(("", " (labels)"), drawn, strict=False):
            shape = shapes[name + place] = tuple(volume.shape)[_has_channels(volume) :]
            if len(shape) not in (2, 3) or 0 in shape:
                raise ValueError(
                    f"{name!r} should be (y, x), (z, y, x) or (channel, z, y, x), its shape is {shape}"
                )
    if len(set(shapes.values())) > 1:
        raise ValueError(f"volumes should have one shape, these differ: {shapes}")
    return next(iter(shapes.values()))


def _has_channels(volume: Any) -> bool:
    return "channel" in volume.dims if isinstance(volume, xr.DataArray) else volume.ndim == 4


def _check_section(section: int | None, shape: tuple[int, ...]) -> int | None:
    """Return the index of the section, None where the volumes are one section."""
    if len(shape) == 2:
        if section is not None:
            raise ValueError(f"section {section} of volumes without sections, of shape {shape}")
        return None
    if section is None:
        return shape[0] // 2
    if not isinstance(section, int | np.integer):
        raise TypeError(f"section should be a whole number, not {section!r}")
    if not 0 <= section < shape[0]:
        raise ValueError(f"section should be one of 0 to {shape[0] - 1}, not {section}")
    return section


def _compute_sections(layers: Mapping[str, _Layers], index: int | None) -> dict[str, list[npt.NDArray[Any]]]:
    """Read one section of each volume, all lazy ones in one computation."""
    lazy = [
        [volume.data if isinstance(volume, xr.DataArray) else volume for volume in drawn]
        for drawn in layers.values()
    ]
    if index is not None:
        lazy = [[volume[..., index, :, :] for volume in drawn] for drawn in lazy]
    computed = compute(*lazy)
    return {name: [np.asarray(one) for one in drawn] for name, drawn in zip(layers, computed, strict=True)}


def _voxel_size(layers: Mapping[str, _Layers]) -> tuple[tuple[float, float], str | None]:
    """Return the size of a voxel along y and x and its units, (1, 1) and None where it is not known."""
    for volume in itertools.chain(*layers.values()):
        if isinstance(volume, xr.DataArray) and "voxel_size" in volume.attrs:
            height, width = volume.attrs["voxel_size"][-2:]
            return (float(height), float(width)), volume.attrs.get("units", "")
    return (1.0, 1.0), None


def _draw_section(axes: "Axes", name: str, drawn: list[npt.NDArray[Any]], aspect: float) -> None:
    axes.set_title(as_written(name), fontsize=11, pad=6)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_facecolor("black")
    voxels = drawn[-1]
    if len(drawn) == 2:
        axes.imshow(overlay(*drawn), aspect=aspect)
    elif voxels.ndim == 3:
        axes.imshow(_as_rgb(voxels), aspect=aspect)
    elif voxels.dtype.kind in "iu" and voxels.dtype.itemsize >= 4:
        axes.imshow(label_colors(voxels), aspect=aspect, interpolation_stage="rgba")
    else:
        axes.imshow(voxels, aspect=aspect, cmap="gray")
        return
    if voxels.ndim == 2:
        count = int(np.count_nonzero(np.unique(voxels)))
        axes.set_xlabel(f"{count} label{'s' if count != 1 else ''} in this section", fontsize=8, color=GREY)


def _as_grey(image: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    if image.dtype == np.uint8:
        return image
    values = image.astype(np.float64)
    low, high = values.min(), values.max()
    return np.rint(255 * (values - low) / ((high - low) or 1)).astype(np.uint8)


def _as_rgb(channels: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Show up to three channels, uint8 or in [0, 1], in red, green and blue."""
    if channels.dtype != np.uint8:
        channels = np.rint(255 * np.clip(channels, 0, 1)).astype(np.uint8)
    rgb = np.zeros((*channels.shape[1:], 3), np.uint8)
    rgb[..., : len(channels)] = np.moveaxis(channels[:3], 0, -1)
    return rgb
