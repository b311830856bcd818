"""The part of a report about scores: of one run over all thresholds, and of several side by side."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lsd_dask.evaluation import ScoreTable, best_row, plots
from lsd_dask.evaluation.scores import BETTER, Row, by_threshold
from lsd_dask.segmentation.derivation import Derivation
from lsd_dask.storage import files, parquet
from lsd_dask.viewing.figures import as_png

from .page import Page

#: Scores that are told of each of several runs, of those that it has.
_TOLD = (
    "voi_split",
    "voi_merge",
    "voi_sum",
    "adapted_rand_error",
    "cremi_score",
    "expected_run_length",
    "normalized_erl",
)


def add_score_tables(page: Page, container: str) -> None:
    """Add the scores of all that was evaluated in a container.

    Parameters
    ----------
    page
        To write on.
    container
        Path or URL.

    Raises
    ------
    ValueError
        If a table cannot be read.
    """
    derivation = Derivation(container)
    for name, table in _score_tables(container):
        page.heading(f"Scores: {name}")
        if (reason := derivation.stale(files.join(container, name))) is not None:
            page.text(f"Stale: {reason}")
        _add_scores(page, table.rows)
        page.data(table.configuration, "configuration")


def add_comparison(page: Page, path: str) -> Mapping[str, Any]:
    """Add what `compare` found.

    Parameters
    ----------
    page
        To write on.
    path
        Table that `compare` wrote: path or URL.

    Returns
    -------
    mapping
        What `compare` was told.

    Raises
    ------
    FileNotFoundError
        If there is no such table.
    ValueError
        If it cannot be read, or is none of `compare`.
    """
    table, facts = parquet.read_table(path)
    expected = {"run", "reported", "threshold", "metric", "value"}
    if not expected <= set(table.column_names):
        raise ValueError(
            f"{path}: found the columns {', '.join(table.column_names)}, expected those of compare: "
            f"{', '.join(sorted(expected))}"
        )
    told: Mapping[str, Any] = facts["configuration"]
    records: dict[str, list[Row]] = {}
    for record in table.to_pylist():
        records.setdefault(record["run"], []).append(record)
    runs = {name: by_threshold(found) for name, found in records.items()}
    reported = {
        name: by_threshold(row for row in found if row["reported"]) for name, found in records.items()
    }
    page.heading("Scores at the chosen thresholds")
    page.table(*at_thresholds({name: rows[0] for name, rows in reported.items()}))
    chosen_on = told.get("validation")
    where = "on another volume" if chosen_on else "of the run itself"
    page.text(f"Each threshold is the one with the best {told['metric']} {where}.")
    page.picture(as_png(plots.draw_comparison(runs, metric=told["metric"])), "All runs over their thresholds")
    columns = ("run", "scores", *(["threshold chosen on"] if chosen_on else []))
    page.table(
        columns, [list(row) for row in zip(runs, told["runs"], *filter(None, [chosen_on]), strict=True)]
    )
    for name, rows in runs.items():
        page.heading(f"Scores: {name}")
        _add_scores(page, rows)
    return told


def _score_tables(container: str) -> Iterator[tuple[str, ScoreTable]]:
    """Tables of scores below the region graphs, by their place."""
    waiting = [files.join(container, "rag")]
    while waiting:
        directory = waiting.pop()
        for name in files.names(directory):
            path = files.join(directory, name)
            if "/scores/" in path and name.endswith(".parquet"):
                if not name.endswith("_mistakes.parquet"):
                    yield path.removeprefix(f"{container}/"), ScoreTable.from_parquet(path)
            elif not files.is_file(path):
                waiting.append(path)


def _add_scores(page: Page, rows: Sequence[Row]) -> None:
    page.picture(as_png(plots.draw_metrics(rows)), "Scores over thresholds")
    best = []
    for metric in [name for name in rows[0] if name in BETTER]:
        row = best_row(rows, metric)
        best.append([metric, f"{row[metric]:.6g}", f"{row['threshold']:g}"])
    page.table(("score", "best", "at threshold"), best)


def at_thresholds(runs: Mapping[str, Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Columns and cells of a table of several runs, each at one threshold.

    Parameters
    ----------
    runs
        Row of scores by the name of the run.

    Examples
    --------
    >>> at_thresholds({"a": {"threshold": 0.5, "voi_sum": 1.25}})
    (['run', 'threshold', 'voi sum'], [['a', '0.5', '1.25']])
    """
    metrics = [name for name in _TOLD if any(name in row for row in runs.values())]
    rows = [
        [name, f"{row['threshold']:g}", *(f"{row[m]:.4g}" if m in row else "" for m in metrics)]
        for name, row in runs.items()
    ]
    return ["run", "threshold", *(name.replace("_", " ") for name in metrics)], rows
