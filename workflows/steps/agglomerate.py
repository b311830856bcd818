"""Step 2: fragments -> region graph -> merge tree."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import pyarrow as pa
from distributed import Client

from lsd_dask.blockwise.ledgers import Ledger
from lsd_dask.segmentation.agglomeration import agglomerate as agglomerate_graph
from lsd_dask.segmentation.derivation import facts_of_run, mark_of_run, remove_stale_luts, source
from lsd_dask.segmentation.region_graph import CountRegion, RegionGraph
from lsd_dask.space.neighborhoods import lifted
from lsd_dask.storage import files
from lsd_dask.storage.parquet import write_table
from lsd_dask.volumes.formats.zarr_creating import normalise_path

from ..config.steps import AgglomerateConfig
from ..graph.cells import Cells, CellsDone
from ..graph.contracting import agglomerate_in_cells, remove_cells
from ..graph.counting import GraphPlan, count_graph, plan_graph, rag_directory
from ..running.inputs import check_affinities, matching_part, offsets_of, open_input, open_labels
from ..running.outputs import StepResult, check_own, cluster, console, hold, prepare, report
from ..step import BlockStep, workflow


class Agglomerate(BlockStep[AgglomerateConfig]):
    """Build the region graph of fragments and agglomerate it.

    Blocks count the pairs of touching fragments; the tables add up to the exact graph of the whole volume. It
    is agglomerated as a whole, or, where no process can hold it, in the cells of an octree with the same
    result; no block shows in it. Writes, as Parquet files into the folder
    ``rag`` of the container: the graph (``nodes``, ``edges``), the merge tree (``merges_...``) and each
    edge's score (``edges_...``).
    """

    model = AgglomerateConfig
    container = "fragments_file"

    def plan(self, options: AgglomerateConfig) -> GraphPlan:
        """Counting the region graph; see `BlockStep.plan`."""
        container, dataset = options.fragments_file, options.fragments_dataset
        fragments = open_labels(options.fragments_path, options)
        grid = fragments.stored.grid.crop(fragments.part)
        affinities = matching_part(open_input(options.affs_path), grid, options.fragments_path)
        check_affinities(affinities)
        count = CountRegion(lifted(offsets_of(affinities.stored, options.neighborhood)))
        plan = plan_graph(options, container, dataset, affinities, fragments, count)
        for path in plan.tables:
            check_own(plan.ledger, path, overwrite=options.overwrite)
        for path in self._tables(options):
            check_own(self._ledger(options), path, overwrite=options.overwrite)
        return plan

    def run(self, options: AgglomerateConfig) -> StepResult:
        """Count the graph, and agglomerate it while it is written."""
        started = time.perf_counter()
        plan = self.plan(options)
        outputs = self._tables(options)
        done = None
        with ExitStack() as graph_kept:
            with cluster(options) as client:
                counted = graph_kept.enter_context(count_graph(plan, client, options.octree))
                ledger = self._ledger(
                    options,
                    # Its tables may still be on their way to the disk.
                    graph={"path": plan.tables[0], "run": plan.ledger.recorded_run()},
                    fragments=source(plan.fragments.stored.path),
                    merge_function=options.merge_function,
                )
                if counted.cells is not None:
                    done = _agglomerate_in_cells(client, options, ledger, counted.cells, outputs)
            # Workers are not needed, and their memory may be.
            if counted.cells is None:
                _agglomerate_whole(options, ledger, counted.whole(), outputs)
        result = report(
            StepResult(
                self.name,
                {"region graph": plan.directory, "merge tree": outputs[0]},
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

    def _ledger(self, options: AgglomerateConfig, **identity: Any) -> Ledger:
        dataset = files.join(options.fragments_dataset, options.merge_function)
        return self.ledger(options.fragments_file, dataset, **identity)

    def _tables(self, options: AgglomerateConfig) -> list[str]:
        """Paths of merge tree and scored edges."""
        directory = rag_directory(options.fragments_file, options.fragments_dataset)
        return [
            files.join(directory, f"{name}_{options.merge_function}.parquet") for name in ("merges", "edges")
        ]


def _remove_stale(config: AgglomerateConfig) -> None:
    """Remove lookup tables of the merge tree that was replaced."""
    container = normalise_path(config.fragments_file)
    remove_stale_luts(container, rag_directory(container, config.fragments_dataset))


def _is_made(ledger: Ledger, config: AgglomerateConfig, outputs: Sequence[str]) -> bool:
    """Whether an earlier run made the tables; if not, the coming run has a name, which its tables carry."""
    if not prepare(ledger, config, what="merge tree", outputs=outputs):
        return False
    if ledger.finished(verify=config.verify) is not None:
        return True
    ledger.clear()
    return False


def _agglomerate_whole(
    config: AgglomerateConfig, ledger: Ledger, graph: RegionGraph, outputs: Sequence[str]
) -> None:
    """Agglomerate a graph that this process holds."""
    tree_path, edges_path = outputs
    with hold(ledger):
        if _is_made(ledger, config, outputs):
            return
        tree = agglomerate_graph(graph, config.merge_function)
        scores = tree.merge_scores(graph)
        edges = {
            "u": graph.edges.u,
            "v": graph.edges.v,
            "merge_score": pa.array(scores, mask=np.isnan(scores)),
        }
        facts = {"mark": mark_of_run(ledger)}
        write_table(edges_path, edges, facts)
        tree.to_parquet(tree_path, facts)
        ledger.begin(**facts_of_run(ledger, *outputs))
        _remove_stale(config)
        ledger.finish({"fragments": len(tree)}, outputs)


def _agglomerate_in_cells(
    client: Client, config: AgglomerateConfig, ledger: Ledger, graph: Cells, outputs: Sequence[str]
) -> CellsDone | None:
    """Agglomerate a graph that lies in the cells of an octree; None where an earlier run did."""
    container = normalise_path(config.fragments_file)
    runs = files.join(container, "runs", "agglomerate_cells")
    with hold(ledger):
        cells = Ledger(files.join(runs, config.fragments_dataset, config.merge_function), ledger.identity)
        done = None
        if not _is_made(ledger, config, outputs):
            facts = {"mark": mark_of_run(ledger)}
            tree, edges = outputs
            function = config.merge_function
            done = agglomerate_in_cells(client, config, cells, graph, function, tree, edges, facts)
            ledger.begin(**facts_of_run(ledger, *outputs))
            _remove_stale(config)
            ledger.finish({"peak_memory": done.peak_memory}, outputs)
        # Also what is left of an earlier run that was killed while it removed them.
        remove_cells(cells)
        return done


agglomerate = workflow(Agglomerate())
