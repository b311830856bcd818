"""Step 2: fragments -> region graph -> merge tree."""

import time

import numpy as np
import pyarrow as pa

from lsd_dask import files
from lsd_dask.agglomeration import agglomerate as agglomerate_graph
from lsd_dask.formats import open_stored
from lsd_dask.parquet import write_table

from .config import workflow
from .counting import count_graph, rag_directory
from .inputs import check_affinities, check_offsets, matching_part, open_labels
from .models import AgglomerateConfig
from .running import StepResult, cluster, hold, ledger_for, prepare, report, run_that_wrote


@workflow(AgglomerateConfig)
def agglomerate(config: AgglomerateConfig) -> StepResult:
    """Build the region graph of fragments and agglomerate it.

    Blocks count the pairs of touching fragments; the tables add up to the exact graph of the whole volume. It
    is agglomerated as a whole, so no block shows in the result. Writes, as Parquet files into the folder
    ``rag`` of the container: the graph (``nodes``, ``edges``), the merge tree (``merges_...``) and each
    edge's score (``edges_...``).
    """
    started = time.perf_counter()
    container, dataset = config.fragments_file, config.fragments_dataset
    fragments = open_labels(config.fragments_path, config)
    grid = fragments.stored.grid.crop(fragments.part)
    affinities = matching_part(open_stored(config.affs_path), grid, config.fragments_path)
    check_affinities(affinities)
    offsets = check_offsets(affinities.stored, config.neighborhood)
    fragments_run = run_that_wrote(container, dataset)
    directory = rag_directory(container, dataset)
    with cluster(config) as client:
        graph, counted = count_graph(
            client, config, container, dataset, affinities, fragments, offsets, fragments_run
        )
    ledger = ledger_for(
        container,
        "agglomerate",
        files.join(dataset, config.merge_function),
        {
            "graph": ledger_for(container, "region_graph", dataset, {}).recorded_run(),
            "fragments": fragments_run,
            "merge_function": config.merge_function,
        },
    )
    tree_path, edges_path = (
        files.join(directory, f"{table}_{config.merge_function}.parquet") for table in ("merges", "edges")
    )
    with hold(ledger):
        if not prepare(ledger, config, what="merge tree", outputs=[tree_path, edges_path]):
            tree = agglomerate_graph(graph, config.merge_function)
            scores = tree.merge_scores(graph)
            edges = {
                "u": graph.edges.u,
                "v": graph.edges.v,
                "merge_score": pa.array(scores, mask=np.isnan(scores)),
            }
            write_table(edges_path, edges)
            tree.to_parquet(tree_path)
            ledger.begin()
    return report(
        StepResult(
            "agglomerate",
            {"region graph": directory, "merge tree": tree_path},
            time.perf_counter() - started,
            counted.blocks,
            counted.skipped,
            facts={"fragments": len(graph.nodes), "edges": len(graph.edges)},
        )
    )
