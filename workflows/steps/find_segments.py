"""Step 3: merge tree -> lookup tables, one a threshold."""

import time
from typing import Any

import numpy as np

from lsd_dask.checks.arguments import naming
from lsd_dask.segmentation.agglomeration import LookupTable, MergeTree
from lsd_dask.segmentation.derivation import (
    EDITS,
    Derivation,
    new_mark,
    remove_stale_luts,
    source,
    source_of_edits,
)
from lsd_dask.segmentation.edits import FILE_NAME, Edits, fragments_beside, rows_of
from lsd_dask.segmentation.region_graph import RegionGraph
from lsd_dask.storage import files, parquet
from lsd_dask.volumes.formats.zarr_creating import normalise_path

from ..config.options import EdgesInput, EditsInput, Fragments
from ..config.steps import FindSegmentsConfig
from ..graph.counting import rag_directory
from ..running.inputs import region_of
from ..running.outputs import StepResult, check_made_by, console, report
from ..step import Step, workflow


class FindSegments(Step[FindSegmentsConfig]):
    """Cut the merge tree at a range of thresholds: one lookup table (fragment, segment) for each.

    The tables are written as Parquet files into the folder ``rag/luts`` of the container. With a region, they
    hold the fragments whose bounding box meets it; segment ids are those of the whole volume.
    """

    model = FindSegmentsConfig
    container = "fragments_file"

    def run(self, options: FindSegmentsConfig) -> StepResult:
        """Cut the tree, and write the tables."""
        started = time.perf_counter()
        tree = open_merge_tree(options, options)
        edits = open_edits(options, options, tree)
        selected = _fragments_in_region(options)
        paths = [lookup_table_path(options, options, threshold) for threshold in options.thresholds]
        check_made_by("find_segments", *paths, overwrite=options.overwrite)
        container = normalise_path(options.fragments_file)
        made_of = made_of_tree_and_edits(options, options, options)
        for threshold, path in zip(options.thresholds, paths, strict=True):
            lut = tree.cut(threshold, edits=edits)
            if selected is not None:
                rows = np.isin(lut.keys, selected)
                lut = LookupTable(lut.keys[rows], lut.values[rows])
            lut.to_parquet(path, {"mark": new_mark("find_segments", container, made_of)})
        remove_stale_luts(container, rag_directory_of(options))
        folder = paths[0].rsplit("/", 1)[0]
        return report(
            StepResult(
                "find_segments",
                {"lookup tables": folder},
                time.perf_counter() - started,
                facts={"thresholds": len(paths), "fragments": len(tree), **edits_fact(edits)},
            )
        )


def open_merge_tree(fragments: Fragments, edges: EdgesInput) -> MergeTree:
    """The merge tree that `agglomerate` wrote.

    Raises
    ------
    FileNotFoundError
        If there is none, saying which there are.
    ValueError
        If it cannot be read, or the fragments were made anew since.
    """
    directory = rag_directory_of(fragments)
    path = merge_tree_path(fragments, edges)
    if not files.exists(path):
        found = [
            n[7:-8] for n in files.names(directory) if n.startswith("merges_") and n.endswith(".parquet")
        ]
        there = f"there are {', '.join(found)}" if found else "nothing was agglomerated there yet"
        raise FileNotFoundError(
            f"{path}: no merge tree for {edges.merge_function}; {there}. Run agglomerate with merge_function "
            f"{edges.merge_function} first."
        )
    stale = Derivation(normalise_path(fragments.fragments_file)).stale(path)
    if stale is not None:
        raise ValueError(
            f"{path}: this merge tree is of other fragments or affinities than there are now, {stale}. "
            f"Run agglomerate with merge_function {edges.merge_function} again."
        )
    return MergeTree.from_parquet(path)


def merge_tree_path(fragments: Fragments, edges: EdgesInput) -> str:
    """Where the merge tree lies."""
    return files.join(rag_directory_of(fragments), f"merges_{edges.merge_function}.parquet")


def open_edits(fragments: Fragments, options: EditsInput, tree: MergeTree) -> Edits:
    """The edits that are named, or else those beside the region graph; none where there are none.

    Raises
    ------
    FileNotFoundError
        If those that are named are not there.
    ValueError
        If the table cannot be read, contradicts itself, or names fragments that are not in the tree.
    """
    beside = files.join(rag_directory_of(fragments), FILE_NAME)
    path = options.edits or beside
    if path == "none" or (options.edits is None and not files.is_file(path)):
        return Edits()
    if not files.is_file(path):
        raise FileNotFoundError(
            f"{path}: there is no such table of edits; those beside the region graph would be {beside}"
        )
    edits = Edits.read(path)
    known = parquet.facts_of(path).get("of") if path.endswith(".parquet") else None
    if known is not None and known != fragments_beside(beside):
        console.print(
            f"{path}: these edits were made for fragments that were made anew since, or others; their ids "
            "may be of other places now (lsd_dask.segmentation.edits.Edits.moved takes them along)."
        )
    with naming(path):
        rows_of(edits, tree.ids)
    return edits


def made_of_tree_and_edits(
    fragments: Fragments, edges: EdgesInput, options: EditsInput
) -> dict[str, dict[str, Any]]:
    """What a cut of the merge tree is made of, for its mark: new edits beside the graph make it stale."""
    made_of = {"merge tree": source(merge_tree_path(fragments, edges))}
    if options.edits != "none":
        path = options.edits or files.join(rag_directory_of(fragments), FILE_NAME)
        made_of[EDITS] = source_of_edits(normalise_path(path))
    return made_of


def edits_fact(edits: Edits) -> dict[str, int]:
    """What a step says of the edits that it honoured."""
    return {"edits": len(edits)} if len(edits) else {}


def rag_directory_of(fragments: Fragments) -> str:
    """Folder of the region graph of some fragments."""
    return rag_directory(fragments.fragments_file, fragments.fragments_dataset)


def lookup_table_path(fragments: Fragments, edges: EdgesInput, threshold: float) -> str:
    """Where the lookup table of a threshold lies; the threshold is written out in full."""
    variant = [edges.run_type] if edges.run_type else []
    name = f"{edges.merge_function}_{threshold:.9g}.parquet"
    return files.join(rag_directory_of(fragments), "luts", *variant, name)


def _fragments_in_region(config: FindSegmentsConfig) -> np.ndarray | None:
    if config.roi_offset is None:
        return None
    directory = rag_directory_of(config)
    graph = RegionGraph.from_parquet(directory)
    # Of the graph's own grid: agglomerate may have been told a region, too.
    return graph.select(region_of(graph.grid, config, directory)).nodes.ids


find_segments = workflow(FindSegments())
