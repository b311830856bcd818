"""Tables of scores, the choice of a threshold, and plots."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsd_dask import plots
from lsd_dask.evaluation import ScoreTable, best_row, choose_and_report
from lsd_dask.storage import parquet

imread = pytest.importorskip("matplotlib.image").imread


def rows_of(sums: dict[float, float], method: str = "a", **more: float) -> list[dict[str, Any]]:
    return [
        {"method": method, "merge_function": "mean", "threshold": t, "voi_split": 1.0, "voi_sum": s, **more}
        for t, s in sums.items()
    ]


def test_tables_are_tidy_and_come_back(tmp_path: Path) -> None:
    rows = rows_of({0.1: 3.0, 0.2: 2.0}, nid=0.5)
    path = str(tmp_path / "scores.parquet")
    ScoreTable(rows, {"step": "evaluate_volumes", "gt_file": "t.zarr"}).to_parquet(path)
    table = pq.read_table(path)
    assert table.column_names == ["method", "merge_function", "threshold", "metric", "value"]
    assert table.num_rows == 2 * 3
    assert table.to_pylist()[1] == {
        "method": "a",
        "merge_function": "mean",
        "threshold": 0.1,
        "metric": "voi_sum",
        "value": 3.0,
    }
    found = ScoreTable.from_parquet(path)
    assert (found.rows, found.configuration["gt_file"]) == (rows, "t.zarr")
    assert found.best()["threshold"] == 0.2


def test_a_run_without_a_method_has_an_empty_one(tmp_path: Path) -> None:
    path = str(tmp_path / "scores.parquet")
    ScoreTable([{"method": None, "threshold": 0, "nid": 1}]).to_parquet(path)
    assert ScoreTable.from_parquet(path).rows == [
        {"method": "", "merge_function": "", "threshold": 0.0, "nid": 1.0}
    ]


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "scores.parquet")
    parquet.write_table(path, {"u": [1]})
    with pytest.raises(ValueError, match=r"scores\.parquet: found the columns u, expected method"):
        ScoreTable.from_parquet(path)
    ScoreTable([]).to_parquet(path)
    with pytest.raises(ValueError, match=r"scores\.parquet: found no scores"):
        ScoreTable.from_parquet(path)
    Path(path).write_bytes(Path(path).read_bytes()[:-9])
    with pytest.raises(ValueError, match="cut short"):
        ScoreTable.from_parquet(path)


@given(st.dictionaries(st.floats(0, 1), st.integers(0, 5).map(float), min_size=1))
def test_the_best_row_is_the_first_of_the_best(sums: dict[float, float]) -> None:
    found = best_row(rows_of(sums))
    assert found["voi_sum"] == min(sums.values())
    assert found["threshold"] == min(t for t, s in sums.items() if s == min(sums.values()))
    longest = best_row(
        [{"threshold": t, "expected_run_length": s} for t, s in sums.items()], "expected_run_length"
    )
    assert longest["expected_run_length"] == max(sums.values())


def test_a_threshold_is_chosen_on_one_volume_and_reported_on_another() -> None:
    found = choose_and_report(rows_of({0.1: 2.0, 0.3: 1.0}), rows_of({0.1: 1.0, 0.3: 1.5}))
    assert (found.threshold, found.reported["voi_sum"], found.best["voi_sum"]) == (0.3, 1.5, 1.0)
    with pytest.raises(
        ValueError, match=r"threshold 0\.3 was chosen, but the other volume was scored at 0\.1"
    ):
        choose_and_report(rows_of({0.3: 1.0}), rows_of({0.1: 1.0}))
    with pytest.raises(ValueError, match="metric: found 'voi', expected one of voi_split"):
        choose_and_report(rows_of({0.3: 1.0}), rows_of({0.3: 1.0}), "voi")
    with pytest.raises(ValueError, match="The scores have no nid, they have voi_split, voi_sum"):
        choose_and_report(rows_of({0.3: 1.0}), rows_of({0.3: 1.0}), "nid")
    with pytest.raises(ValueError, match="no scores to choose from"):
        best_row([])


def drawn(path: str) -> bool:
    """Whether there is a picture with something on it."""
    return bool(np.ptp(imread(path)) > 0.5)


def test_plots(tmp_path: Path) -> None:
    rows = rows_of({0.1: 3.0, 0.2: 2.0}, voi_merge=0.5, nid=0.5, number_of_segments=7)
    other = rows_of({0.2: 1.0}, method="b", voi_merge=0.2)
    assert drawn(plots.plot_metrics(rows, str(tmp_path / "sub/metrics.png"), title="a"))
    assert drawn(plots.plot_comparison({"a": rows, "b": other}, str(tmp_path / "comparison.png")))
    assert drawn(plots.plot_run_lengths({"a": [3, 1], "b": []}, {"a": 5, "b": 5}, str(tmp_path / "runs.png")))
    # Runs on skeletons and on volumes have other metrics.
    lengths = [{"threshold": 0.1, "expected_run_length": 8.0}]
    picture = str(tmp_path / "erl.png")
    assert drawn(plots.plot_comparison({"a": lengths, "b": lengths}, picture, metric="expected_run_length"))
    with pytest.raises(ValueError, match="no voi_sum"):
        plots.plot_comparison({"a": rows, "b": lengths}, str(tmp_path / "x.png"))
    with pytest.raises(ValueError, match="no scores to draw"):
        plots.plot_metrics([], str(tmp_path / "x.png"))
    with pytest.raises(ValueError, match="no runs to compare"):
        plots.plot_comparison({}, str(tmp_path / "x.png"))
    assert not (tmp_path / "x.png").exists()
