"""Scores of segmentations: against volumes of ground truth, and against skeletons."""

from .contingency import ContingencyTable, merge_tables
from .min_cuts import Corrections, min_cut_metric
from .objects import Mistake, worst_mistakes
from .placement import check_placement
from .run_lengths import RunLengths, expected_run_length
from .scores import Report, ScoreTable, best_row, choose_and_report
from .sites import labels_at
from .skeleton_files import read_skeletons
from .skeletons import Skeletons
from .thresholds import score_cuts
from .volumes import count_overlaps, rand_voi

__all__ = [
    "ContingencyTable",
    "Corrections",
    "Mistake",
    "Report",
    "RunLengths",
    "ScoreTable",
    "Skeletons",
    "best_row",
    "check_placement",
    "choose_and_report",
    "count_overlaps",
    "expected_run_length",
    "labels_at",
    "merge_tables",
    "min_cut_metric",
    "rand_voi",
    "read_skeletons",
    "score_cuts",
    "worst_mistakes",
]
