"""Scores of several runs in one table and one plot, at thresholds that may have been chosen elsewhere."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rich.table import Table

from lsd_dask.checks.arguments import naming
from lsd_dask.evaluation import Report, ScoreTable, choose_and_report
from lsd_dask.evaluation.plots import plot_comparison
from lsd_dask.evaluation.scores import tidy
from lsd_dask.segmentation.derivation import Derivation, container_around, new_mark, source
from lsd_dask.storage import files, parquet
from lsd_dask.storage.own_files import check_replaceable
from lsd_dask.volumes.formats.zarr_creating import normalise_path

from ..config.steps import CompareConfig
from ..reports.scores import at_thresholds
from ..running.outputs import StepResult, check_made_by, console, report
from ..step import Step, workflow
from ._scoring import draw, picture_beside


@dataclass(frozen=True)
class Comparison(StepResult):
    """What `compare` found.

    Attributes
    ----------
    reports
        One a run: the threshold, where it was chosen, and the scores at it.
    """

    reports: Sequence[Report] = ()


class Compare(Step[CompareConfig]):
    """Compare the scores of several runs, each at one threshold.

    Without ``validation``, the threshold of a run is the one that is best for the run itself, which is too
    good to be published. With it, the threshold is chosen on another volume, and the run's scores are
    reported at that. A Parquet file gets the scores of all thresholds of all runs, with a column ``run``, and
    ``reported``, which is true where the threshold is the chosen one.

    Returns
    -------
    Comparison
        The chosen thresholds and the scores at them, as ``result.reports``.
    """

    model = CompareConfig
    container = "out_file"

    def run(self, options: CompareConfig) -> Comparison:
        """Choose the thresholds, and write table and plot."""
        started = time.perf_counter()
        tables = [ScoreTable.from_parquet(path) for path in options.runs]
        validation = [ScoreTable.from_parquet(path) for path in options.validation or options.runs]
        _tell_stale(dict.fromkeys((*options.runs, *(options.validation or ()))))
        reports = []
        for path, chosen_on, run, other in zip(
            options.runs, options.validation or options.runs, tables, validation, strict=True
        ):
            with naming(path, chosen_on):
                reports.append(choose_and_report(other.rows, run.rows, options.metric))
        names = options.names or _names(options.runs, tables)
        files.check_writable(options.out_file.rpartition("/")[0] or ".")
        check_made_by(options.step, options.out_file, overwrite=None)
        check_replaceable(picture_beside(options.out_file), "the picture of the scores")
        columns: dict[str, list[object]] = {}
        for name, run, found in zip(names, tables, reports, strict=True):
            part = tidy(run.rows)
            at = [abs(threshold - found.threshold) < 1e-9 for threshold in part["threshold"]]
            for key, values in {"run": [name] * len(at), **part, "reported": at}.items():
                columns.setdefault(key, []).extend(values)
        made_of = {
            f"scores {n}": source(normalise_path(path)) for n, path in enumerate(options.runs, start=1)
        }
        mark = new_mark(options.step, normalise_path(options.out_file).rpartition("/")[0], made_of)
        told = {"configuration": options.model_dump(mode="json"), "mark": mark}
        parquet.write_table(options.out_file, columns, told)
        rows = {name: run.rows for name, run in zip(names, tables, strict=True)}
        drawn = draw(plot_comparison, rows, picture_beside(options.out_file), metric=options.metric)
        result = Comparison(
            "compare",
            {"scores": options.out_file, **drawn},
            time.perf_counter() - started,
            facts={"runs": len(tables)},
            reports=reports,
        )
        report(result)
        console.print(_shown(dict(zip(names, reports, strict=True))))
        return result


def _tell_stale(paths: Iterable[str]) -> None:
    for path in paths:
        place = normalise_path(path)
        if (reason := Derivation(container_around(place)).stale(place)) is not None:
            console.print(f"{path}: these scores are stale, {reason}", markup=False)


def _names(paths: Sequence[str], tables: Sequence[ScoreTable]) -> tuple[str, ...]:
    methods = tuple(str(table.rows[0]["method"]) for table in tables)
    return methods if all(methods) and len(set(methods)) == len(methods) else tuple(paths)


def _shown(reports: Mapping[str, Report]) -> Table:
    columns, rows = at_thresholds({name: found.reported for name, found in reports.items()})
    table = Table(*columns)
    for row in rows:
        table.add_row(*row)
    return table


compare = workflow(Compare())
