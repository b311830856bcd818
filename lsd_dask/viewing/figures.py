"""What pictures share: panels, scale bars, files."""

import io
import math
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 150
PANEL_INCHES = 3.4
GREY = "0.35"

_SYMBOLS = {"nanometer": "nm", "micrometer": "µm"}


def new_panels(count: int, height_to_width: float) -> "tuple[Figure, list[Axes]]":
    """Make a figure of panels in rows of at most four."""
    columns = min(count, 4)
    rows = math.ceil(count / columns)
    # Room for the title above a panel and the number of labels below it.
    size = (columns * PANEL_INCHES, rows * (PANEL_INCHES * height_to_width + 0.6))
    figure = import_figure()(figsize=size, dpi=DPI, layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for unused in panels[count:]:
        unused.set_axis_off()
    return figure, panels[:count]


def draw_scale_bar(axes: "Axes", shape: tuple[int, ...], voxel_width: float, units: str) -> None:
    """Draw a scale bar into the lower right corner of a section."""
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


def as_written(text: str) -> str:
    r"""Text that matplotlib shows as it is, and does not read as a formula.

    Examples
    --------
    >>> as_written("$x$")
    '\\$x\\$'
    """
    return text.replace("$", r"\$")


def import_figure() -> "type[Figure]":
    """Import matplotlib late, and without its global state: no window, no figure that stays open."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('Pictures need matplotlib: pip install "lsd-dask[view]"') from error
    return Figure


def save(figure: "Figure", path: str | Path) -> Path:
    """Write a figure to a file, whose folder is made."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return path


def as_png(figure: "Figure") -> bytes:
    """A figure as the content of a PNG file."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    return picture.getvalue()
