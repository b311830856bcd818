"""Step 2: fragments -> region graph -> merge tree."""

import time

import numpy as np
import pyarrow as pa

from lsd_dask import files
from lsd_dask.agglomeration import agglomerate as agglomerate_graph
from lsd_dask.agglomeration import merge_function_named
from lsd_dask.formats import open_stored
from lsd_dask.parquet import write_table
from lsd_dask.runs import Ledger

from .config import workflow
from .counting import count_graph, rag_directory
from .models import AgglomerateConfig
from .running import (
    StepResult,
    cluster,
    ledger_for,
    matching_part,
    open_region,
    prepare,
    report,
)


@workflow(AgglomerateConfig)
def agglomerate(config: AgglomerateConfig) -> StepResult:
    """Build the region graph of fragments and agglomerate it.

    Blocks count the pairs of touching fragments; the tables add up to the exact graph of the whole volume. It
    is agglomerated as a whole, so no block shows in the result. Writes, as Parquet files into the folder
    ``rag`` of the container: the graph (``nodes``, ``edges``), the merge tree (``merges_...``) and each
    edge's score (``edges_...``).
    """
    started = time.perf_counter()
    merge_function_named(config.merge_function)
    fragments = open_region(config.fragments_path, config)
    if fragments.stored.dtype.kind not in "ui":
        raise TypeError(
            f"{config.fragments_path}: fragments are stored as {fragments.stored.dtype}, expected integers."
        )
    grid = fragments.stored.grid.crop(fragments.part)
    affinities = matching_part(open_stored(config.affs_path), grid, config.fragments_path)
    name = config.fragments_dataset.strip("/").rsplit("/", 1)[-1]
    directory = rag_directory(config.fragments_file, name)
    tree_path = files.join(directory, f"merges_{config.merge_function}.parquet")
    with cluster(config) as client:
        graph = count_graph(
            client,
            config,
            config.fragments_file,
            name,
            affinities,
            fragments,
            config.neighborhood,
            fingerprint_of_fragments(config.fragments_file, name),
        )
    graph_run = Ledger(
        files.join(config.fragments_file, "runs", "region_graph", name), {}
    ).recorded_fingerprint()
    ledger = ledger_for(
        config.fragments_file,
        "agglomerate",
        f"{name}_{config.merge_function}",
        {"graph": graph_run, "merge_function": config.merge_function},
    )
    prepare(ledger, config, what="merge tree")
    skipped = ledger.finished() is not None
    if not skipped:
        tree = agglomerate_graph(graph, config.merge_function)
        scores = tree.merge_scores(graph)
        write_table(
            files.join(directory, f"edges_{config.merge_function}.parquet"),
            {
                "u": graph.edges.u,
                "v": graph.edges.v,
                "merge_score": pa.array(scores, mask=np.isnan(scores)),
            },
        )
        tree.to_parquet(tree_path)
        ledger.finish({"fragments": len(tree)})
    return report(
        StepResult(
            "agglomerate",
            {"region graph": directory, "merge tree": tree_path},
            time.perf_counter() - started,
            facts={"fragments": len(graph.nodes), "edges": len(graph.edges)},
        )
    )


def fingerprint_of_fragments(container: str, name: str) -> str | None:
    """Fingerprint of the run that wrote some fragments; None where they come from elsewhere."""
    return Ledger(files.join(container, "runs", "extract_fragments", name), {}).recorded_fingerprint()
