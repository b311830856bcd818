"""Step 3: merge tree -> lookup tables, one a threshold."""

import time

import numpy as np

from lsd_dask import files
from lsd_dask.agglomeration import LookupTable, MergeTree
from lsd_dask.checks import naming
from lsd_dask.edits import FILE_NAME, Edits, rows_of
from lsd_dask.region_graph import RegionGraph

from .config import workflow
from .counting import rag_directory
from .inputs import region_of
from .models import FindSegmentsConfig
from .options import EdgesInput, EditsInput, Fragments
from .running import StepResult, ledger_for, report, run_that_wrote


@workflow(FindSegmentsConfig)
def find_segments(config: FindSegmentsConfig) -> StepResult:
    """Cut the merge tree at a range of thresholds: one lookup table (fragment, segment) for each.

    The tables are written as Parquet files into the folder ``rag/luts`` of the container. With a region, they
    hold the fragments whose bounding box meets it; segment ids are those of the whole volume.
    """
    started = time.perf_counter()
    tree = open_merge_tree(config, config)
    edits = open_edits(config, config, tree)
    selected = _fragments_in_region(config)
    paths = {}
    for threshold in config.thresholds:
        lut = tree.cut(threshold, edits=edits)
        if selected is not None:
            rows = np.isin(lut.keys, selected)
            lut = LookupTable(lut.keys[rows], lut.values[rows])
        path = lookup_table_path(config, config, threshold)
        lut.to_parquet(path)
        paths[f"{threshold:g}"] = path
    folder = next(iter(paths.values())).rsplit("/", 1)[0]
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
    path = files.join(directory, f"merges_{edges.merge_function}.parquet")
    if not files.exists(path):
        found = [
            n[7:-8] for n in files.names(directory) if n.startswith("merges_") and n.endswith(".parquet")
        ]
        there = f"there are {', '.join(found)}" if found else "nothing was agglomerated there yet"
        raise FileNotFoundError(
            f"{path}: no merge tree for {edges.merge_function}; {there}. Run agglomerate with merge_function "
            f"{edges.merge_function} first."
        )
    container, dataset = fragments.fragments_file, fragments.fragments_dataset
    run = ledger_for(container, "agglomerate", files.join(dataset, edges.merge_function), {})
    made_from = run.recorded_identity().get("fragments")
    if made_from is not None and made_from != run_that_wrote(container, dataset):
        raise ValueError(
            f"{path}: this merge tree was made of other fragments than {fragments.fragments_path} holds now. "
            f"Run agglomerate with merge_function {edges.merge_function} again."
        )
    return MergeTree.from_parquet(path)


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
    with naming(path):
        rows_of(edits, tree.ids)
    return edits


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
