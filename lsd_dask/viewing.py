"""Pictures: sections of volumes side by side, and scores over thresholds (extra ``view``: matplotlib)."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from dask.base import compute

from .checks import check_array, described

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DPI = 150
_PANEL_INCHES = 3.4
_GREY = "0.35"
_RING: dict[str, Any] = {
    "s": 130,
    "facecolors": "none",
    "edgecolors": "crimson",
    "linewidths": 1.6,
    "zorder": 3,
}
_SYMBOLS = {"nanometer": "nm", "micrometer": "µm"}


def label_colors(ids: npt.ArrayLike) -> npt.NDArray[np.uint8]:
    """Give every id a colour of its own, the same in every picture.

    Parameters
    ----------
    ids : array_like of int
        Labels, of any shape.

    Returns
    -------
    (..., 4) ndarray of uint8
        Red, green, blue and opacity of each label. Label 0 is black and transparent, all others are opaque.

    Raises
    ------
    TypeError
        If `ids` are not integers.

    Notes
    -----
    The colour is a function of the id alone: its hash (the finaliser of SplitMix64 [1]_, in which every bit
    of the id matters) chooses hue, saturation and brightness. Neighbouring ids, such as those of fragments
    that touch, thus get unrelated colours.

    References
    ----------
    .. [1] G. L. Steele, D. Lea and C. H. Flood, "Fast splittable pseudorandom number generators",
       OOPSLA 2014. :doi:`10.1145/2660193.2660195`

    Examples
    --------
    >>> label_colors([0, 7, 7])[:, 3]
    array([  0, 255, 255], dtype=uint8)
    """
    labels = np.asarray(ids)
    if labels.dtype.kind not in "iu":
        raise TypeError(f"labels should be integers, not {labels.dtype}")
    # Colours are computed once for each label: a section has many voxels and few labels.
    unique, inverse = np.unique(labels, return_inverse=True)
    return _colors_of(unique.astype(np.uint64))[inverse].reshape(*labels.shape, 4)


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
        red, green and blue.
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
    shape = _common_shape(volumes)
    index = _check_section(section, shape)
    sections = dict(zip(volumes, _compute_sections(volumes, index), strict=True))
    voxel_size, units = _voxel_size(volumes)
    aspect = voxel_size[0] / voxel_size[1]
    figure, panels = _new_panels(len(sections), height_to_width=shape[-2] * aspect / shape[-1])
    for axes, (name, voxels) in zip(panels, sections.items(), strict=True):
        _draw_section(axes, name, voxels, aspect)
    if units is not None:
        _draw_scale_bar(panels[0], shape[-2:], voxel_size[1], units)
    if title is not None:
        figure.suptitle(title, fontsize=12)
    return _save(figure, path)


def plot_scores(scores: Any, path: str | Path, *, title: str | None = None) -> Path:
    """Draw how segmentations at several thresholds differ from the truth into a picture file.

    On the left split against merge errors, on the right both and their sum over thresholds. The threshold
    with the smallest sum is marked.

    Parameters
    ----------
    scores : pyarrow.Table, or iterable of mappings
        A row a threshold with at least ``threshold``, ``voi_split`` and ``voi_merge`` (in bits), in any
        order.
    path : str or Path
        The file to write; its ending says the format. Missing folders are made.
    title : str, optional
        A title over both plots.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    ValueError
        If there are no scores, or if one lacks a column.
    ImportError
        If matplotlib is not installed.

    Examples
    --------
    >>> scores = [{"threshold": t, "voi_split": 1 - t, "voi_merge": t * t} for t in (0.1, 0.5, 0.9)]
    >>> plot_scores(scores, "scores.png").name
    'scores.png'
    """
    threshold, split, merge = _score_columns(scores)
    total = split + merge
    best = int(np.argmin(total))
    figure = _import_figure()(figsize=(9, 3.8), dpi=_DPI, layout="constrained")
    plane, curves = figure.subplots(1, 2)

    plane.plot(merge, split, color=_GREY, linewidth=1, zorder=1)
    dots = plane.scatter(merge, split, c=threshold, cmap="viridis", s=22, zorder=2)
    plane.scatter(merge[best], split[best], **_RING)
    plane.set(xlabel="VOI merge (bits)", ylabel="VOI split (bits)", xlim=(0, None), ylim=(0, None))
    figure.colorbar(dots, ax=plane, label="threshold")

    curves.plot(threshold, total, color="black", linewidth=1.8, marker=".", label="sum")
    curves.plot(threshold, split, color="tab:blue", linewidth=1.2, label="split")
    curves.plot(threshold, merge, color="tab:orange", linewidth=1.2, label="merge")
    curves.axvline(threshold[best], color="crimson", linewidth=1, linestyle=":")
    curves.scatter(threshold[best], total[best], **_RING)
    curves.set(xlabel="threshold", ylabel="VOI (bits)", ylim=(0, None))
    curves.set_title(
        f"best: {total[best]:.3f} at threshold {threshold[best]:.3g}", fontsize=10, color="crimson"
    )
    curves.legend(frameon=False)
    for axes in (plane, curves):
        axes.spines[["top", "right"]].set_visible(False)
    if title is not None:
        figure.suptitle(title, fontsize=12)
    return _save(figure, path)


def _colors_of(ids: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint8]:
    """Hash ids to colours.

    >>> _colors_of(np.array([0, 1, 2], np.uint64))
    array([[  0,   0,   0,   0],
           [ 70, 182,  89, 255],
           [110, 185, 112, 255]], dtype=uint8)
    """
    bits = ids + np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    bits ^= bits >> np.uint64(31)
    hue, saturation, value = (
        ((bits >> np.uint64(shift)) & np.uint64(0xFFFF)) / 0xFFFF for shift in (0, 16, 32)
    )
    saturation = 0.35 + 0.5 * saturation
    value = 0.65 + 0.35 * value
    # HSV to RGB in closed form: each channel is a trapezoid over the circle of hues.
    phase = (np.array([5, 3, 1]) + 6 * hue[:, np.newaxis]) % 6
    dip = np.clip(np.minimum(phase, 4 - phase), 0, 1)
    rgb = value[:, np.newaxis] * (1 - saturation[:, np.newaxis] * dip)
    colors = np.empty((len(ids), 4), np.uint8)
    colors[:, :3] = np.rint(255 * rgb)
    colors[:, 3] = 255
    colors[ids == 0] = 0
    return colors


def _common_shape(volumes: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the spatial shape of all volumes."""
    if not isinstance(volumes, Mapping):
        raise TypeError(f"volumes: found {described(volumes)}, expected a mapping from names to arrays")
    if not volumes:
        raise ValueError("there is no volume to draw")
    for name, volume in volumes.items():
        check_array(volume, repr(name))
        if volume.dtype.kind not in "biuf":
            raise TypeError(f"{name!r}: found dtype {volume.dtype}, expected numbers")
    shapes = {name: tuple(volume.shape)[_has_channels(volume) :] for name, volume in volumes.items()}
    for name, shape in shapes.items():
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


def _compute_sections(volumes: Mapping[str, Any], index: int | None) -> Sequence[npt.NDArray[Any]]:
    """Read one section of each volume, all lazy ones in one computation."""
    lazy = [volume.data if isinstance(volume, xr.DataArray) else volume for volume in volumes.values()]
    if index is not None:
        lazy = [volume[..., index, :, :] for volume in lazy]
    return [np.asarray(section) for section in compute(*lazy)]


def _voxel_size(volumes: Mapping[str, Any]) -> tuple[tuple[float, float], str | None]:
    """Return the size of a voxel along y and x and its units, (1, 1) and None where it is not known."""
    for volume in volumes.values():
        if isinstance(volume, xr.DataArray) and "voxel_size" in volume.attrs:
            height, width = volume.attrs["voxel_size"][-2:]
            return (float(height), float(width)), volume.attrs.get("units", "")
    return (1.0, 1.0), None


def _new_panels(count: int, height_to_width: float) -> "tuple[Figure, list[Axes]]":
    """Make a figure of panels in rows of at most four."""
    columns = min(count, 4)
    rows = math.ceil(count / columns)
    # Room for the title above a panel and the number of labels below it.
    size = (columns * _PANEL_INCHES, rows * (_PANEL_INCHES * height_to_width + 0.6))
    figure = _import_figure()(figsize=size, dpi=_DPI, layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for unused in panels[count:]:
        unused.set_axis_off()
    return figure, panels[:count]


def _draw_section(axes: "Axes", name: str, voxels: npt.NDArray[Any], aspect: float) -> None:
    axes.set_title(name, fontsize=11, pad=6)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_facecolor("black")
    if voxels.ndim == 3:
        axes.imshow(_as_rgb(voxels), aspect=aspect)
    elif voxels.dtype.kind in "iu" and voxels.dtype.itemsize >= 4:
        axes.imshow(label_colors(voxels), aspect=aspect, interpolation_stage="rgba")
        count = int(np.count_nonzero(np.unique(voxels)))
        axes.set_xlabel(f"{count} label{'s' if count != 1 else ''} in this section", fontsize=8, color=_GREY)
    else:
        axes.imshow(voxels, aspect=aspect, cmap="gray")


def _as_rgb(channels: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Show up to three channels, uint8 or in [0, 1], in red, green and blue."""
    if channels.dtype != np.uint8:
        channels = np.rint(255 * np.clip(channels, 0, 1)).astype(np.uint8)
    rgb = np.zeros((*channels.shape[1:], 3), np.uint8)
    rgb[..., : len(channels)] = np.moveaxis(channels[:3], 0, -1)
    return rgb


def _draw_scale_bar(axes: "Axes", shape: tuple[int, ...], voxel_width: float, units: str) -> None:
    length, label = _scale_bar(shape[1] * voxel_width, units)
    right, bottom = 0.95 * shape[1] - 0.5, 0.94 * shape[0] - 0.5
    left = right - length / voxel_width
    for color, width in (("black", 5), ("white", 3)):
        axes.plot([left, right], [bottom, bottom], color=color, linewidth=width, solid_capstyle="butt")
    axes.annotate(
        label,
        ((left + right) / 2, bottom),
        textcoords="offset points",
        xytext=(0, 5),
        ha="center",
        fontsize=9,
        color="white",
        bbox={"boxstyle": "round,pad=0.15", "facecolor": "black", "alpha": 0.5, "linewidth": 0},
    )


def _scale_bar(width: float, units: str) -> tuple[float, str]:
    """Choose a round length of at most a third of the width.

    >>> _scale_bar(4000, "nanometer")
    (1000.0, '1 µm')
    >>> _scale_bar(100, "voxel")
    (20.0, '20 voxel')
    """
    magnitude = 10.0 ** math.floor(math.log10(width / 3))
    # A hair below a power of ten, the logarithm is rounded up to it: hence the half.
    length = next(step * magnitude for step in (5, 2, 1, 0.5) if step * magnitude <= width / 3)
    if units in ("nanometer", "nm") and length >= 1000:
        return length, f"{length / 1000:g} µm"
    return length, f"{length:g} {_SYMBOLS.get(units, units)}".rstrip()


def _score_columns(scores: Any) -> tuple[npt.NDArray[np.float64], ...]:
    """Return threshold, split and merge, by increasing threshold."""
    rows: Iterable[Mapping[str, Any]] = scores.to_pylist() if hasattr(scores, "to_pylist") else scores
    names = ("threshold", "voi_split", "voi_merge")
    try:
        table = np.array(sorted(tuple(row[name] for name in names) for row in rows), float)
    except KeyError as error:
        raise ValueError(f"scores should have the columns {', '.join(names)}: there is no {error}") from error
    if not len(table):
        raise ValueError("there are no scores to draw")
    return tuple(table.T)


def _import_figure() -> "type[Figure]":
    """Import matplotlib late, and without its global state: no window, no figure that stays open."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('Pictures need matplotlib: pip install "lsd-dask[view]"') from error
    return Figure


def _save(figure: "Figure", path: str | Path) -> Path:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return path
