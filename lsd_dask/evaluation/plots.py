"""Plots: scores over thresholds, of one run or several; run lengths; losses over steps (extra ``view``)."""

import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from ..storage import files
from ..storage.own_files import marked_png
from ..viewing.figures import as_written
from .scores import BETTER, KEYS, Row, best_row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DPI = 120
_BEST: dict[str, Any] = {"marker": "o", "markersize": 8, "fillstyle": "none", "color": "crimson"}

#: Running means are over this part of a curve.
_SMOOTHED = 40

#: The panel of split against merge errors, in the order in which their scores are looked for.
_PLANES = (("voi_merge", "voi_split"), ("synapse_voi_merge", "synapse_voi_split"))


def plot_metrics(rows: Sequence[Row], path: str, *, title: str | None = None) -> str:
    """Draw all scores of a run into a picture: split against merge, and every metric over the threshold.

    The best point of each metric that has one is marked; in the plane, the one with the lowest sum.

    Parameters
    ----------
    rows : sequence of mapping
        Scores, one row a threshold: `lsd_dask.evaluation.ScoreTable.rows`.
    path : str
        Path or URL of the picture; its ending (``.png``, ``.pdf``, ...) says the format.
    title : str, optional
        Over all panels.

    Returns
    -------
    str
        `path`.

    Raises
    ------
    ValueError
        If there are no scores.
    ImportError
        If matplotlib is not installed.

    Examples
    --------
    >>> rows = [{"threshold": t, "voi_split": 1 - t, "voi_merge": t * t} for t in (0.1, 0.5, 0.9)]
    >>> plot_metrics(rows, "metrics.png")
    'metrics.png'
    """
    return _save(draw_metrics(rows), path, title)


def draw_metrics(rows: Sequence[Row]) -> "Figure":
    """Draw what `plot_metrics` writes, as a figure of matplotlib.

    Parameters
    ----------
    rows : sequence of mapping
        As for `plot_metrics`.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError, ImportError
        As for `plot_metrics`.
    """
    ordered = sorted(rows, key=lambda row: row["threshold"])
    if not ordered:
        raise ValueError("there are no scores to draw")
    metrics = [name for name in ordered[0] if name not in KEYS]
    planes = [plane for plane in _PLANES if set(plane) <= set(metrics)]
    figure, panels = _panels(len(planes) + len(metrics))
    for axes, plane in zip(panels, planes, strict=False):
        _draw_plane(axes, {"": ordered}, plane)
    for axes, metric in zip(panels[len(planes) :], metrics, strict=True):
        _draw_curves(axes, {"": ordered}, metric)
    return figure


def plot_comparison(
    runs: Mapping[str, Sequence[Row]], path: str, *, metric: str = "voi_sum", title: str | None = None
) -> str:
    """Draw the scores of several runs into one picture: split against merge, and one metric.

    Parameters
    ----------
    runs : mapping of str to sequence of mapping
        Scores, one row a threshold, by the name of the run.
    path : str
        As for `plot_metrics`.
    metric : str
        What is drawn over the threshold, and marked where it is best.
    title : str, optional
        Over both panels.

    Returns
    -------
    str
        `path`.

    Raises
    ------
    ValueError
        If there are no runs, or one lacks the metric.
    ImportError
        If matplotlib is not installed.
    """
    return _save(draw_comparison(runs, metric=metric), path, title)


def draw_comparison(runs: Mapping[str, Sequence[Row]], *, metric: str = "voi_sum") -> "Figure":
    """Draw what `plot_comparison` writes, as a figure of matplotlib.

    Parameters
    ----------
    runs, metric
        As for `plot_comparison`.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError, ImportError
        As for `plot_comparison`.
    """
    if not runs:
        raise ValueError("there are no runs to compare")
    ordered = {name: sorted(rows, key=lambda row: row["threshold"]) for name, rows in runs.items()}
    for rows in ordered.values():
        best_row(rows, metric)
    planes = [plane for plane in _PLANES if all(set(plane) <= set(rows[0]) for rows in ordered.values())]
    figure, panels = _panels(len(planes) + 1, width=4.6, height=3.8)
    for axes, plane in zip(panels, planes, strict=False):
        _draw_plane(axes, ordered, plane, metric)
    _draw_curves(panels[len(planes)], ordered, metric)
    panels[len(planes)].legend(frameon=False, fontsize=8)
    return figure


def draw_training(panels: Mapping[str, Mapping[str, tuple[ArrayLike, ArrayLike]]]) -> "Figure":
    """Draw what changed over the steps of a training, such as losses, as a figure of matplotlib.

    Parameters
    ----------
    panels : mapping of str to mapping of str to tuple
        Lines by name, for each panel by its name: numbers of steps, and a value at each. Where there are many
        values, their running mean is drawn over them.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If there is no panel.
    ImportError
        If matplotlib is not installed.

    Examples
    --------
    >>> figure = draw_training({"loss": {"lsds": ([10, 20], [0.3, 0.2])}})
    >>> figure.axes[0].get_ylabel()
    'loss'
    """
    if not panels:
        raise ValueError("there is nothing to draw")
    figure, drawn = _panels(len(panels), width=4.2, height=3.0, columns=3)
    for axes, (name, lines) in zip(drawn, panels.items(), strict=True):
        for label, (steps, values) in lines.items():
            _draw_smoothed(axes, np.asarray(steps, float), np.asarray(values, float), label)
        axes.set(xlabel="steps", ylabel=name)
        if len(lines) > 1:
            axes.legend(frameon=False, fontsize=8)
    return figure


def _draw_smoothed(axes: "Axes", steps: np.ndarray, values: np.ndarray, label: str) -> None:
    width = len(values) // _SMOOTHED
    if width < 2:
        axes.plot(steps, values, marker=".", markersize=4, linewidth=1.2, label=label)
        return
    (line,) = axes.plot(steps, values, linewidth=0.6, alpha=0.3)
    mean = np.convolve(values, np.full(width, 1 / width), "valid")
    middle = np.convolve(steps, np.full(width, 1 / width), "valid")
    axes.plot(middle, mean, color=line.get_color(), linewidth=1.4, label=label)


def plot_run_lengths(
    runs: Mapping[str, ArrayLike], totals: Mapping[str, float], path: str, *, title: str | None = None
) -> str:
    """Draw which share of all skeletons lies in correct runs of at least some length into a picture.

    Parameters
    ----------
    runs : mapping of str to (n,) array_like of float
        Lengths of runs (`lsd_dask.evaluation.RunLengths.runs`) by the name of the segmentation. The area
        under the curve is the expected run length.
    totals : mapping of str to float
        Length of all skeletons, by the same names.
    path, title : str
        As for `plot_metrics`.

    Returns
    -------
    str
        `path`.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    figure, (axes,) = _panels(1, width=5.2, height=3.8)
    for name, lengths in runs.items():
        ordered = np.sort(np.asarray(lengths, float))
        erl = float(ordered @ ordered) / totals[name]
        longer = np.append(np.cumsum(ordered[::-1])[::-1], 0) / totals[name]
        axes.step(np.append(0, ordered), longer, where="post", label=as_written(f"{name}: {erl:.4g}"))
        axes.axvline(erl, color=axes.lines[-1].get_color(), linewidth=0.8, linestyle=":")
    axes.set(xlabel="run length, at least", ylabel="share of all skeletons", ylim=(0, 1), xlim=(0, None))
    axes.legend(frameon=False, fontsize=8, title="expected run length", title_fontsize=8)
    return _save(figure, path, title)


def _draw_plane(
    axes: "Axes", runs: Mapping[str, Sequence[Row]], plane: tuple[str, str], metric: str | None = None
) -> None:
    across, up = plane
    for name, rows in runs.items():
        axes.plot(
            [r[across] for r in rows],
            [r[up] for r in rows],
            marker=".",
            markersize=3,
            linewidth=1,
            label=as_written(name),
        )
        best = best_row(rows, metric) if metric else min(rows, key=lambda r: r[across] + r[up])
        axes.plot([best[across]], [best[up]], **_BEST)
    axes.set(xlabel=_words(across), ylabel=_words(up), xlim=(0, None), ylim=(0, None))


def _draw_curves(axes: "Axes", runs: Mapping[str, Sequence[Row]], metric: str) -> None:
    for name, rows in runs.items():
        axes.plot(
            [r["threshold"] for r in rows],
            [r[metric] for r in rows],
            marker=".",
            markersize=3,
            linewidth=1,
            label=as_written(name),
        )
        if metric in BETTER:
            best = best_row(rows, metric)
            axes.plot([best["threshold"]], [best[metric]], **_BEST)
            if len(runs) == 1:
                where = f"{best[metric]:.4g} at {best['threshold']:g}"
                axes.set_title(where, fontsize=8, color="crimson")
    axes.set(xlabel="threshold", ylabel=_words(metric))


def _words(metric: str) -> str:
    return metric.replace("_", " ").replace("voi", "VOI").replace("erl", "ERL").replace("nid", "NID")


def _panels(
    count: int, width: float = 2.6, height: float = 2.1, columns: int = 5
) -> "tuple[Figure, list[Axes]]":
    """A figure of some panels, in rows of at most so many."""
    try:
        # Without matplotlib's global state: no window, no figure that stays open.
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('Plots need matplotlib: pip install "lsd-dask[view]"') from error
    columns = min(count, columns)
    lines = math.ceil(count / columns)
    size = (columns * width, lines * height)
    figure = Figure(figsize=size, dpi=_DPI)
    # Inches, as a layout that looks at every label takes longer than the scores.
    margins = {
        "left": 0.75 / size[0],
        "right": 1 - 0.15 / size[0],
        "bottom": 0.5 / size[1],
        "top": 1 - 0.5 / size[1],
    }
    gaps = {"wspace": 0.8 / (width - 0.9), "hspace": 0.75 / (height - 0.75)}
    panels = list(figure.subplots(lines, columns, squeeze=False, gridspec_kw=margins | gaps).flat)
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=7)
        axes.xaxis.label.set_size(8)
        axes.yaxis.label.set_size(8)
    for unused in panels[count:]:
        unused.set_axis_off()
    return figure, panels[:count]


def _save(figure: "Figure", path: str, title: str | None) -> str:
    if title is not None:
        figure.suptitle(as_written(title), fontsize=11)
    picture = io.BytesIO()
    figure.savefig(picture, format=path.rpartition(".")[2])
    content = picture.getvalue()
    files.write_bytes(path, marked_png(content) if path.lower().endswith(".png") else content)
    return path
