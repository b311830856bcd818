"""Scores of segmentations."""

from .contingency import ContingencyTable, merge_tables
from .volumes import count_overlaps, rand_voi

__all__ = ["ContingencyTable", "count_overlaps", "merge_tables", "rand_voi"]
