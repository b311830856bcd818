"""Step 2: fragments -> region graph -> merge tree."""

import time
from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np
import pyarrow as pa
from distributed import Client

from lsd_dask import files
from lsd_dask.agglomeration import agglomerate as agglomerate_graph
from lsd_dask.containers import normalise_path
from lsd_dask.formats import open_stored
from lsd_dask.ledgers import Ledger
from lsd_dask.neighborhoods import lifted
from lsd_dask.parquet import write_table
from lsd_dask.region_graph import CountRegion, RegionGraph

from .cells import Cells, CellsDone
from .config import workflow
from .contracting import agglomerate_in_cells, remove_cells
from .counting import count_graph, rag_directory
from .inputs import check_affinities, matching_part, offsets_of, open_labels
from .models import AgglomerateConfig
from .running import StepResult, cluster, console, hold, ledger_for, prepare, report, run_that_wrote


@workflow(AgglomerateConfig)
def agglomerate(config: AgglomerateConfig) -> StepResult:
    """Build the region graph of fragments and agglomerate it.

    Blocks count the pairs of touching fragments; the tables add up to the exact graph of the whole volume. It
    is agglomerated as a whole, or, where no process can hold it, in the cells of an octree with the same
    result; no block shows in it. Writes, as Parquet files into the folder
    ``rag`` of the container: the graph (``nodes``, ``edges``), the merge tree (``merges_...``) and each
    edge's score (``edges_...``).
    """
    started = time.perf_counter()
    container, dataset = config.fragments_file, config.fragments_dataset
    fragments = open_labels(config.fragments_path, config)
    grid = fragments.stored.grid.crop(fragments.part)
    affinities = matching_part(open_stored(config.affs_path), grid, config.fragments_path)
    check_affinities(affinities)
    offsets = offsets_of(affinities.stored, config.neighborhood)
    fragments_run = run_that_wrote(container, dataset)
    directory = rag_directory(container, dataset)
    outputs = [
        files.join(directory, f"{table}_{config.merge_function}.parquet") for table in ("merges", "edges")
    ]
    done = None
    with ExitStack() as graph_kept:
        with cluster(config) as client:
            counted = graph_kept.enter_context(
                count_graph(
                    client,
                    config,
                    container,
                    dataset,
                    affinities,
                    fragments,
                    CountRegion(lifted(offsets)),
                    fragments_run,
                    config.octree,
                )
            )
            identity = {
                "graph": ledger_for(container, "region_graph", dataset, {}).recorded_run(),
                "fragments": fragments_run,
                "merge_function": config.merge_function,
            }
            ledger = ledger_for(
                container, "agglomerate", files.join(dataset, config.merge_function), identity
            )
            if counted.cells is not None:
                done = _agglomerate_in_cells(client, config, ledger, counted.cells, outputs)
        # Workers are not needed, and their memory may be.
        if counted.cells is None:
            _agglomerate_whole(config, ledger, counted.whole(), outputs)
    result = report(
        StepResult(
            "agglomerate",
            {"region graph": directory, "merge tree": outputs[0]},
            time.perf_counter() - started,
            counted.run.blocks,
            counted.run.skipped,
            facts={
                "fragments": counted.nodes,
                "edges": counted.edges,
                **({} if done is None else done.facts),
            },
        )
    )
    if counted.nodes == 0:
        console.print(
            "  There are no fragments, which are where affinities are above 0.5 on average. Look at them "
            "(lsd-dask view): is it the right array, was the network trained for long enough?"
        )
    return result


def _agglomerate_whole(
    config: AgglomerateConfig, ledger: Ledger, graph: RegionGraph, outputs: Sequence[str]
) -> None:
    """Agglomerate a graph that this process holds."""
    tree_path, edges_path = outputs
    with hold(ledger):
        if prepare(ledger, config, what="merge tree") and ledger.finished(verify=config.verify) is not None:
            return
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
        ledger.finish({"fragments": len(tree)}, outputs)


def _agglomerate_in_cells(
    client: Client | None, config: AgglomerateConfig, ledger: Ledger, graph: Cells, outputs: Sequence[str]
) -> CellsDone | None:
    """Agglomerate a graph that lies in the cells of an octree; None where an earlier run did."""
    container = normalise_path(config.fragments_file)
    runs = files.join(container, "runs", "agglomerate_cells")
    with hold(ledger):
        cells = Ledger(files.join(runs, config.fragments_dataset, config.merge_function), ledger.identity)
        done = None
        resumed = prepare(ledger, config, what="merge tree")
        if not resumed or ledger.finished(verify=config.verify) is None:
            done = agglomerate_in_cells(client, config, cells, graph, config.merge_function, *outputs)
            ledger.begin()
            ledger.finish({"peak_memory": done.peak_memory}, outputs)
        # Also what is left of an earlier run that was killed while it removed them.
        remove_cells(cells)
        return done
