"""Scores of segmentations as tables, and the choice of a threshold by them.

On disk a table of scores is tidy: one row for each method, merge function, threshold and metric, so that
tables of several runs can be put under each other. In Python it is rows by threshold.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..checks.arguments import naming
from ..storage import parquet
from .metrics import BETTER as OF_VOLUMES

#: What is no metric of a row.
KEYS = ("method", "merge_function", "threshold")

#: Whether the best value of a metric is the highest (1) or the lowest (-1), for those that have a best value.
BETTER = {
    **OF_VOLUMES,
    "synapse_voi_split": -1,
    "synapse_voi_merge": -1,
    "synapse_voi_sum": -1,
    "expected_run_length": 1,
    "normalized_erl": 1,
    "length_correct": 1,
    "length_split": -1,
    "length_merged": -1,
    "length_omitted": -1,
    "number_of_split_skeletons": -1,
    "number_of_merging_segments": -1,
    "number_of_splits": -1,
    "number_of_merges": -1,
    "total_splits_needed_to_fix_merges": -1,
    "total_merges_needed_to_fix_splits": -1,
    "total_corrections_needed": -1,
}

type Row = Mapping[str, Any]


@dataclass(frozen=True)
class ScoreTable:
    """Scores of the segmentations of one run.

    Attributes
    ----------
    rows
        One a threshold: ``method``, ``merge_function``, ``threshold``, and every metric.
    configuration
        What the run was told.
    """

    rows: Sequence[Row]
    configuration: Mapping[str, Any] = field(default_factory=dict)

    def to_parquet(self, path: str, facts: Mapping[str, Any] | None = None) -> None:
        """Write the table: columns method, merge_function, threshold, metric, value, and the configuration.

        Parameters
        ----------
        path : str
            Path or URL.
        facts : mapping, optional
            More facts about the table.
        """
        told = {**(facts or {}), "configuration": dict(self.configuration)}
        parquet.write_table(path, tidy(self.rows), told)

    @classmethod
    def from_parquet(cls, path: str) -> "ScoreTable":
        """Read what `to_parquet` wrote.

        Raises
        ------
        FileNotFoundError, ValueError
            If the file is missing, cut short, or no table of scores.
        """
        table, facts = parquet.read_table(path)
        expected = (*KEYS, "metric", "value")
        if not set(expected) <= set(table.column_names):
            raise ValueError(
                f"{path}: found the columns {', '.join(table.column_names)}, expected {', '.join(expected)}"
            )
        rows = by_threshold(table.select(expected).to_pylist())
        if not rows:
            raise ValueError(f"{path}: found no scores")
        with naming(path):
            return cls(rows, facts["configuration"])

    def best(self, metric: str = "voi_sum") -> Row:
        """The row with the best value of a metric: see `best_row`."""
        return best_row(self.rows, metric)


@dataclass(frozen=True)
class Report:
    """The score at a threshold that was chosen on another volume.

    Attributes
    ----------
    metric
        What the threshold was chosen by.
    chosen
        Row of the volume that it was chosen on.
    reported
        Row of the other volume at the same threshold.
    best
        The best row of the other volume, which would be too good to report.
    """

    metric: str
    chosen: Row
    reported: Row
    best: Row

    @property
    def threshold(self) -> float:
        """The threshold."""
        return float(self.chosen["threshold"])


def choose_and_report(validation: Sequence[Row], testing: Sequence[Row], metric: str = "voi_sum") -> Report:
    """Choose the threshold on one volume, and report the scores of another at it.

    Parameters
    ----------
    validation, testing : sequence of mapping
        Rows of scores, one a threshold, of the volume to choose on and of the one to report on.
    metric : str
        Name of the score that decides; of several best thresholds, the lowest is taken.

    Returns
    -------
    Report

    Raises
    ------
    ValueError
        If there is no such metric, or the other volume was not scored at that threshold.

    Examples
    --------
    >>> validation = [{"threshold": 0.2, "voi_sum": 1.5}, {"threshold": 0.4, "voi_sum": 1.0}]
    >>> testing = [{"threshold": 0.2, "voi_sum": 1.0}, {"threshold": 0.4, "voi_sum": 1.25}]
    >>> found = choose_and_report(validation, testing)
    >>> found.threshold, found.reported["voi_sum"], found.best["voi_sum"]
    (0.4, 1.25, 1.0)
    """
    chosen = best_row(validation, metric)
    threshold = chosen["threshold"]
    at = [row for row in testing if abs(row["threshold"] - threshold) < 1e-9]
    if not at:
        scored = ", ".join(f"{row['threshold']:g}" for row in testing)
        raise ValueError(
            f"The threshold {threshold:g} was chosen, but the other volume was scored at {scored or 'none'}: "
            "evaluate it at the same thresholds."
        )
    return Report(metric, chosen, at[0], best_row(testing, metric))


def best_row(rows: Iterable[Row], metric: str = "voi_sum") -> Row:
    """The row with the best value of a metric, of several that with the lowest threshold.

    Parameters
    ----------
    rows : iterable of mapping
        Scores, one row a threshold.
    metric : str
        Name of a score that has a best value.

    Raises
    ------
    ValueError
        If there is no row, or no such metric, or none that could be best.
    """
    candidates = list(rows)
    if not candidates:
        raise ValueError("There are no scores to choose from.")
    if metric not in BETTER:
        raise ValueError(f"metric: found {metric!r}, expected one of {', '.join(BETTER)}")
    if any(metric not in row for row in candidates):
        found = [name for name in candidates[0] if name in BETTER]
        raise ValueError(f"The scores have no {metric}, they have {', '.join(found) or 'none'}.")
    return min(candidates, key=lambda row: (-BETTER[metric] * row[metric], row["threshold"]))


def tidy(rows: Sequence[Row]) -> dict[str, list[Any]]:
    """Rows by threshold as the columns of a table with one row for each metric.

    Examples
    --------
    >>> tidy([{"method": "a", "merge_function": "mean", "threshold": 0.5, "nid": 0.2}])["metric"]
    ['nid']
    """
    columns: dict[str, list[Any]] = {name: [] for name in (*KEYS, "metric", "value")}
    for row in rows:
        for metric, value in row.items():
            if metric in KEYS:
                continue
            # Arrow would not know the type of a column of nothing but None.
            columns["method"].append(row.get("method") or "")
            columns["merge_function"].append(row.get("merge_function") or "")
            columns["threshold"].append(float(row["threshold"]))
            columns["metric"].append(metric)
            columns["value"].append(float(value))
    return columns


def by_threshold(records: Iterable[Row]) -> list[dict[str, Any]]:
    """Rows by threshold of those of a table that `tidy` made.

    Examples
    --------
    >>> row = {"method": "a", "merge_function": "mean", "threshold": 0.5}
    >>> by_threshold([{**row, "metric": "nid", "value": 0.2}]) == [{**row, "nid": 0.2}]
    True
    """
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    for record in records:
        key = tuple(record[name] for name in KEYS)
        row = rows.setdefault(key, dict(zip(KEYS, key, strict=True)))
        row[record["metric"]] = record["value"]
    return list(rows.values())
