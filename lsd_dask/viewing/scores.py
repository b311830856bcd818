"""Split and merge errors over thresholds, as a picture."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .figures import DPI, GREY, as_written, import_figure, save

_RING: dict[str, Any] = {
    "s": 130,
    "facecolors": "none",
    "edgecolors": "crimson",
    "linewidths": 1.6,
    "zorder": 3,
}


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
    figure = import_figure()(figsize=(9, 3.8), dpi=DPI, layout="constrained")
    plane, curves = figure.subplots(1, 2)

    plane.plot(merge, split, color=GREY, linewidth=1, zorder=1)
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
        figure.suptitle(as_written(title), fontsize=12)
    return save(figure, path)


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
