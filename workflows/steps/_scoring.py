"""What both evaluations share: where scores lie, writing them, and drawing them."""

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lsd_dask.evaluation import ScoreTable, best_row, plots
from lsd_dask.segmentation.derivation import new_mark, source
from lsd_dask.storage import files
from lsd_dask.storage.own_files import check_replaceable
from lsd_dask.volumes.formats.zarr_creating import normalise_path

from ..config.options import RunOptions
from ..config.steps import EvaluateAnnotationsConfig, EvaluateVolumesConfig
from ..running.outputs import StepResult, check_made_by, console
from .find_segments import merge_tree_path, rag_directory_of

type Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Evaluation(StepResult):
    """What an evaluation found.

    Attributes
    ----------
    scores
        One row a threshold: ``method``, ``merge_function``, ``threshold``, and every metric.
    metric
        Score that the best row is chosen by.
    """

    scores: Rows = ()
    metric: str = "voi_sum"

    @property
    def best(self) -> Mapping[str, Any]:
        """The row with the best value of `metric`."""
        return best_row(self.scores, self.metric)


def scores_path(config: EvaluateVolumesConfig | EvaluateAnnotationsConfig, kind: str = "") -> str:
    """Where a table of scores lies; `kind` is added to the name of the merge function."""
    variant = [config.run_type] if config.run_type else []
    return files.join(rag_directory_of(config), "scores", *variant, f"{config.merge_function}{kind}.parquet")


def check_tables(config: EvaluateVolumesConfig | EvaluateAnnotationsConfig, *paths: str) -> None:
    """Check that tables, and the pictures beside them, may be written, before any work.

    Raises
    ------
    FileExistsError
        If one is there that the step did not write.
    """
    check_made_by(config.step, *paths, overwrite=config.overwrite)
    for path in paths:
        if not config.overwrite:
            check_replaceable(picture_beside(path), "the picture of the scores")


def mark_of_scores(
    config: EvaluateVolumesConfig | EvaluateAnnotationsConfig, **inputs: str
) -> dict[str, Any]:
    """The mark of what is found of the segmentations of a merge tree, and of more inputs, by their paths."""
    made_of = {"fragments": config.fragments_path, "merge tree": merge_tree_path(config, config), **inputs}
    sources = {role: source(normalise_path(path)) for role, path in made_of.items()}
    return new_mark(config.step, normalise_path(config.fragments_file), sources)


def write_scores(
    config: EvaluateVolumesConfig | EvaluateAnnotationsConfig, rows: Rows, path: str, mark: Mapping[str, Any]
) -> dict[str, str]:
    """Write scores, tidy and with the run's configuration, and draw them: paths of both."""
    # How it was run has no part in what was found.
    told = config.model_dump(mode="json", exclude=set(RunOptions.model_fields))
    ScoreTable(rows, {"step": config.step, **told}).to_parquet(path, {"mark": mark})
    title = " ".join(filter(None, [config.method, config.merge_function, config.run_type]))
    return {"scores": path, **draw(plots.plot_metrics, rows, picture_beside(path), title=title)}


def picture_beside(path: str) -> str:
    """Path of the picture of a table."""
    return path.removesuffix(".parquet") + ".png"


def draw(plot: Any, *what: Any, **options: Any) -> dict[str, str]:
    """Draw a plot, whose last argument is its path, and return that; nothing without matplotlib."""
    if importlib.util.find_spec("matplotlib") is None:
        console.print('No plot is drawn: that needs matplotlib (pip install "lsd-dask[view]").')
        return {}
    return {"plot": plot(*what, **options)}
