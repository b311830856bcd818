"""How the blocks of a run went: where they are, how long they took, when they were done."""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..blockwise.blocks import BlockGrid
from .figures import DPI, import_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MISSING, _FAILED = "0.85", "crimson"


def draw_blocks(
    grid: BlockGrid,
    seconds: Mapping[str, float],
    started: Mapping[str, float],
    failed: Collection[str] = (),
) -> "Figure":
    """Draw a map of the blocks of a run, how long they took, and how many were done when.

    Parameters
    ----------
    grid : BlockGrid
        The blocks.
    seconds, started : mapping of str to float
        Of the blocks that are done, by name: how long each took, and when it began, in seconds from some
        moment on.
    failed : collection of str
        Names of the blocks that failed.

    Returns
    -------
    matplotlib.figure.Figure
        In the map, blocks are coloured by the mean time of all that lie behind each other along the axis that
        is not seen. Grey: none of these is done; red: one of them failed.

    Raises
    ------
    ImportError
        If matplotlib is not installed.

    Examples
    --------
    >>> grid = BlockGrid((8, 8), (4, 4))
    >>> len(draw_blocks(grid, {"0_0": 1.5}, {"0_0": 0.0}, ["1_1"]).axes)
    4
    """
    views = [(-2, -1)] if len(grid.counts) == 2 else [(-2, -1), (-3, -1)]
    figure = import_figure()(figsize=(3.1 * (len(views) + 2), 2.7), dpi=DPI * 0.8, layout="constrained")
    panels = figure.subplots(1, len(views) + 2, squeeze=False)[0]
    names = "zyx"[-len(grid.counts) :]
    shown = [_project(grid, seconds, failed, view) for view in views]
    top = max((float(np.nanmax(mean)) for mean, _ in shown if np.isfinite(mean).any()), default=1.0)
    drawn: Any = None
    for axes, view, (mean, red) in zip(panels, views, shown, strict=False):
        drawn = _draw_map(axes, mean, red, top)
        axes.set(xlabel=f"blocks along {names[view[1]]}", ylabel=f"along {names[view[0]]}")
    bar = figure.colorbar(drawn, ax=panels[len(views) - 1])
    bar.set_label("seconds a block", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    _draw_times(panels[-2], panels[-1], seconds, started)
    for axes in panels:
        axes.tick_params(labelsize=7)
        axes.xaxis.label.set_size(8)
        axes.yaxis.label.set_size(8)
    return figure


def _project(
    grid: BlockGrid, seconds: Mapping[str, float], failed: Collection[str], view: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Mean time of the blocks behind each other, NaN for none; and whether one of them failed."""
    shape = tuple(grid.counts[axis] for axis in view)
    total, count, red = np.zeros(shape), np.zeros(shape, int), np.zeros(shape, bool)
    for name, took in seconds.items():
        place = _place(name, view)
        total[place] += took
        count[place] += 1
    for name in failed:
        red[_place(name, view)] = True
    return np.where(count > 0, total / np.maximum(count, 1), np.nan), red


def _place(name: str, view: tuple[int, int]) -> tuple[int, int]:
    index = [int(part) for part in name.split("_")]
    return index[view[0]], index[view[1]]


def _draw_map(axes: "Axes", mean: np.ndarray, red: np.ndarray, top: float) -> Any:
    axes.set_facecolor(_MISSING)
    drawn = axes.imshow(mean, cmap="viridis", vmin=0, vmax=top, interpolation="nearest")
    rows, columns = np.nonzero(red)
    axes.scatter(columns, rows, marker="s", s=30, color=_FAILED)
    axes.locator_params(integer=True, nbins=5, min_n_ticks=1)
    return drawn


def _draw_times(
    durations: "Axes", progress: "Axes", seconds: Mapping[str, float], started: Mapping[str, float]
) -> None:
    took = np.array(list(seconds.values()))
    durations.hist(took, bins=min(30, max(5, len(took) // 4)), color="tab:blue")
    durations.set(xlabel="seconds a block", ylabel="blocks", xlim=(0, None))
    ends = np.sort([started[name] + seconds[name] for name in seconds if name in started])
    if len(ends):
        begin = min(started.values())
        progress.step([0, *(ends - begin)], range(len(ends) + 1), where="post", color="tab:blue")
    progress.set(xlabel="seconds since the first began", ylabel="blocks done", ylim=(0, None))
    for axes in (durations, progress):
        axes.spines[["top", "right"]].set_visible(False)
