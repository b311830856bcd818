"""Lookup tables and files of tables that are none."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest

import lsd_dask as ld
from lsd_dask.segmentation.agglomeration import LookupTable, MergeTree
from lsd_dask.segmentation.region_graph import RegionGraph

from ..helpers.refusals import refused
from .house import LABELS, LUT, TREE, as_kind


@pytest.mark.parametrize("kind", ["numpy", "dask", "DataArray"])
@pytest.mark.parametrize(
    ("lut", "error", "part"),
    [
        ({1: 1, 2: 1}, TypeError, "lut: found a dict, expected a LookupTable, as from MergeTree.cut"),
        (np.array([0, 1, 1]), TypeError, "lut: found a ndarray"),
        ((LUT.keys, LUT.values), TypeError, "lut: found a tuple"),
        (TREE, TypeError, "lut: found a MergeTree"),
        (None, TypeError, "lut: found None"),
        ("nothing.parquet", FileNotFoundError, "nothing.parquet: there is no such lookup table"),
        (Path("nothing.parquet"), FileNotFoundError, "nothing.parquet: there is no such lookup table"),
    ],
    ids=["a dict", "an array", "two arrays", "a tree", "nothing", "no file", "no file either"],
)
def test_what_is_no_lookup_table(house: Path, lut: Any, error: type[Exception], part: str, kind: str) -> None:
    refused(house, lambda: ld.relabel(as_kind(kind, LABELS), lut), error, part)


@pytest.mark.parametrize("kind", ["numpy", "dask", "DataArray"])
def test_a_fragment_that_is_not_in_the_table(house: Path, kind: str) -> None:
    labels = as_kind(kind, LABELS + np.uint64(7))
    refused(house, lambda: np.asarray(ld.relabel(labels, LUT)), ValueError, "is not in the lookup table of 2")


@pytest.mark.parametrize(
    ("keys", "values", "part"),
    [
        ([2, 1], [1, 1], "keys: found 2 before 1, expected ascending ids, each one once"),
        ([1, 1], [1, 2], "keys: found 1 before 1, expected ascending ids"),
        ([1, 2], [1], "keys have shape (2,), values (1,)"),
        ([1.0, 2.0], [1, 1], "keys: found dtype float64, expected integers"),
        ([1, 2], [1.0, np.nan], "values: found dtype float64"),
        ([[1, 2]], [[1, 1]], "keys: found shape (1, 2), expected ids of shape (n,)"),
        ([-1, 2], [1, 1], "keys: found the negative id -1"),
        (["a"], ["b"], "keys: found dtype <U1"),
    ],
)
def test_columns_that_are_no_lookup_table(house: Path, keys: Any, values: Any, part: str) -> None:
    kind = TypeError if "dtype" in part else ValueError
    refused(house, lambda: LookupTable(np.array(keys), np.array(values)), kind, part)


def test_a_lookup_table_has_no_negative_fragments() -> None:
    with pytest.raises(KeyError, match="Fragment -1 is not in this lookup table of 2"):
        LUT[-1]


#: What reads a table, which file, the error and parts of its message beside the path.
TABLES: dict[str, tuple[Callable[[str], Any], str, type[Exception], str]] = {
    "a tree that is not there": (MergeTree.from_parquet, "no.parquet", FileNotFoundError, "No such file"),
    "a tree cut short": (MergeTree.from_parquet, "tree_cut.parquet", ValueError, "was it cut short?"),
    "a tree of nothing": (MergeTree.from_parquet, "empty.parquet", ValueError, "was it cut short?"),
    "text for a tree": (MergeTree.from_parquet, "note.parquet", ValueError, "not a readable Parquet file"),
    "a folder for a tree": (MergeTree.from_parquet, "rag", ValueError, "not a readable Parquet file"),
    "a lookup table for a tree": (
        MergeTree.from_parquet,
        "lut.parquet",
        ValueError,
        "found the columns fragment, segment, expected also parent, level",
    ),
    "a tree of no merge function": (
        MergeTree.from_parquet,
        "tree_mute.parquet",
        ValueError,
        "its merge_function",
    ),
    "a tree of an unknown one": (
        MergeTree.from_parquet,
        "tree_unknown.parquet",
        ValueError,
        "did you mean 'mean'?",
    ),
    "a tree with a stranger": (
        MergeTree.from_parquet,
        "tree_stranger.parquet",
        ValueError,
        "parent: found 9, which is no fragment of the table",
    ),
    "a tree upside down": (
        MergeTree.from_parquet,
        "tree_upwards.parquet",
        ValueError,
        "parents: found 1 in row 0, expected its own row or one above",
    ),
    "a tree in disorder": (MergeTree.from_parquet, "tree_unsorted.parquet", ValueError, "found 2 before 1"),
    "a tree with a level below 0": (
        MergeTree.from_parquet,
        "tree_below.parquet",
        ValueError,
        "levels: found -3 in row 1, expected 0 to 256",
    ),
    "a tree of half levels": (
        MergeTree.from_parquet,
        "tree_half.parquet",
        ValueError,
        "column level holds double",
    ),
    "a lookup table cut short": (
        LookupTable.from_parquet,
        "lut_cut.parquet",
        ValueError,
        "was it cut short?",
    ),
    "a tree for a lookup table": (
        LookupTable.from_parquet,
        "tree.parquet",
        ValueError,
        "expected also segment",
    ),
    "a lookup table of floats": (
        LookupTable.from_parquet,
        "lut_floats.parquet",
        ValueError,
        "column fragment holds double, expected whole numbers",
    ),
    "a lookup table of words": (LookupTable.from_parquet, "lut_words.parquet", ValueError, "holds string"),
    "a lookup table with gaps": (
        LookupTable.from_parquet,
        "lut_gaps.parquet",
        ValueError,
        "column fragment lacks 1 of 2 values",
    ),
    "a lookup table in disorder": (
        LookupTable.from_parquet,
        "lut_unsorted.parquet",
        ValueError,
        "2 before 1",
    ),
    "a lookup table that repeats": (LookupTable.from_parquet, "lut_twice.parquet", ValueError, "1 before 1"),
    "a negative lookup table": (
        LookupTable.from_parquet,
        "lut_negative.parquet",
        ValueError,
        "negative id -2",
    ),
    "a lookup table to relabel with": (
        lambda path: ld.relabel(da.from_array(LABELS), path).compute(),
        "lut_cut.parquet",
        ValueError,
        "was it cut short?",
    ),
    "a graph that is not there": (RegionGraph.from_parquet, "rag_no", FileNotFoundError, "nodes.parquet"),
    "a graph without edges": (RegionGraph.from_parquet, "rag_no_edges", FileNotFoundError, "edges.parquet"),
    "edges cut short": (
        RegionGraph.from_parquet,
        "rag_edges_cut",
        ValueError,
        "edges.parquet: not a readable",
    ),
    "nodes cut short": (
        RegionGraph.from_parquet,
        "rag_nodes_cut",
        ValueError,
        "nodes.parquet: not a readable",
    ),
    "edges for nodes": (RegionGraph.from_parquet, "rag_swapped", ValueError, "expected also id, size"),
    "edges of another graph": (
        RegionGraph.from_parquet,
        "rag_mixed",
        ValueError,
        "edges.parquet: found an edge of fragment 6, which is not in nodes.parquet",
    ),
    "a graph of nowhere": (RegionGraph.from_parquet, "rag_mute", ValueError, "does not say its dims"),
    "a graph of flat voxels": (
        RegionGraph.from_parquet,
        "rag_flat",
        ValueError,
        "nodes.parquet: voxel sizes must",
    ),
    "a graph of no scale": (
        RegionGraph.from_parquet,
        "rag_scale",
        ValueError,
        "nodes.parquet: found the scale 'a'",
    ),
    "nodes of half voxels": (RegionGraph.from_parquet, "rag_floats", ValueError, "column size holds double"),
    "scores cut short": (
        ld.evaluation.ContingencyTable.from_parquet,
        "lut_cut.parquet",
        ValueError,
        "not a whole Parquet file",
    ),
    "a tree for scores": (
        ld.evaluation.ContingencyTable.from_parquet,
        "tree.parquet",
        ValueError,
        "expected truth (uint64), test (uint64), count (int64)",
    ),
}


@pytest.mark.parametrize("case", TABLES)
def test_files_that_are_not_the_table(house: Path, case: str) -> None:
    read, name, error, part = TABLES[case]
    refused(house, lambda: read(str(house / name)), error, str(house / name), part)
