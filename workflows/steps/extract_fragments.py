"""Step 1: affinities -> fragments."""

import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from distributed import Client

from lsd_dask.blockwise.blocks import Block
from lsd_dask.kernels.segmentation import ascent, height
from lsd_dask.segmentation import ids
from lsd_dask.segmentation.derivation import remove_stale_luts
from lsd_dask.segmentation.fragments import check_refinement, check_sections, make_rules, refine
from lsd_dask.segmentation.region_graph import CountRegion
from lsd_dask.segmentation.relabelling import RelabelRegion
from lsd_dask.segmentation.watershed import Rules
from lsd_dask.space.grids import Grid
from lsd_dask.space.neighborhoods import Direct, DirectReader, direct_for
from lsd_dask.storage import files
from lsd_dask.storage.row_groups import KEPT, ROWS
from lsd_dask.volumes.formats.zarr_creating import normalise_path
from lsd_dask.volumes.masks import MaskReader
from lsd_dask.volumes.opening import open_stored
from lsd_dask.volumes.overlap import Reader, StoredReader
from lsd_dask.volumes.stored import StoredVolume

from ..config.fields import array_path
from ..config.options import FragmentOptions
from ..config.steps import ExtractFragmentsConfig
from ..graph.counting import count_graph, plan_graph, rag_directory
from ..running import costs
from ..running.inputs import (
    block_shape_for,
    identity_of,
    naming,
    offsets_of,
    open_affinities,
    open_mask,
    to_voxels,
)
from ..running.outputs import Output, StepResult, check_output, cluster, report
from ..running.plans import StepPlan, execute, held
from ..running.tasks import VolumeTask
from ..step import BlockStep, workflow

#: Added to the name of the fragments for those that decisions about whole fragments are made on.
UNREFINED = "_unrefined"


@dataclass(frozen=True, kw_only=True)
class FragmentsPlan(StepPlan):
    """What the watershed will do, and what is decided about its fragments.

    Attributes
    ----------
    affinities
        What is processed.
    direct
        Which channels the watershed takes.
    rules
        What decides it.
    refinement
        Decisions about whole fragments, if any: the options of `lsd_dask.segmentation.fragments.refine`.
    """

    affinities: StoredReader
    direct: Direct
    rules: Rules
    refinement: dict[str, Any] | None


class ExtractFragments(BlockStep[ExtractFragmentsConfig]):
    """Make fragments (supervoxels) of affinities by watershed, block by block.

    Every block writes its own part of the fragments, with ids that are final. Where fragments are to be
    filtered, merged or dropped, that is decided on the region graph of the whole volume, and a second pass
    writes the result; the first one's fragments stay beside it under a name that ends in ``_unrefined``.
    """

    model = ExtractFragmentsConfig
    container = "fragments_file"

    def run(self, options: ExtractFragmentsConfig) -> StepResult:
        """Do all blocks; where fragments are refined, in a second pass."""
        started = time.perf_counter()
        plan = self.plan(options)
        with cluster(options) as client:
            with held(plan, client) as plan:
                summary = execute(plan, client)
            if plan.refinement is not None:
                self._refine(options, plan, plan.refinement, client)
        return report(
            StepResult(
                self.name,
                {"fragments": options.fragments_path},
                time.perf_counter() - started,
                summary.blocks,
                summary.skipped,
            )
        )

    def plan(self, options: ExtractFragmentsConfig) -> FragmentsPlan:
        """The first pass; see `BlockStep.plan`."""
        affinities = open_affinities(options.affs_path, options)
        stored = affinities.stored
        grid = stored.grid.crop(affinities.part)
        with naming(options.affs_path):
            ids.check_extent(stored.grid.shape)
        rules = rules_for(options, grid)
        refinement: dict[str, Any] = {
            "filter_fragments": options.filter_fragments,
            "epsilon_agglomerate": options.epsilon_agglomerate,
            "remove_debris": options.remove_debris,
        }
        with naming(options.affs_path):
            check_sections(rules, stored.grid.shape)
        check_refinement(**refinement)
        refined = any(refinement.values())
        sections = options.fragments_in_xy and not refined
        offsets = offsets_of(stored, options.neighborhood, sections=sections)
        direct = direct_for(offsets, stored.grid.shape, sections=sections)
        mask = None
        if options.mask_file is not None and options.mask_dataset is not None:
            mask = open_mask(array_path(options.mask_file, options.mask_dataset), grid, options.affs_path)
        block_shape = block_shape_for(grid, options.block_size, options.affs_path)
        dataset = options.fragments_dataset + (UNREFINED if refined else "")
        identity = {
            "affinities": identity_of(affinities),
            "mask": identity_of(mask) if mask else None,
            "rules": asdict(rules),
            "blocks": block_shape,
            **({} if direct.is_default else {"channels": asdict(direct)}),
        }
        for output in {dataset, options.fragments_dataset}:
            check_output(
                self.ledger(options.fragments_file, output),
                array_path(options.fragments_file, output),
                stored.path,
                *([mask.stored.path] if mask else []),
                overwrite=options.overwrite,
            )

        def task(out: StoredVolume) -> _ExtractBlock:
            _remove_stale(options)
            # Around a region, what lies beside it is read as well.
            whole = StoredReader(stored, tuple(slice(0, n) for n in stored.grid.shape))
            masking = MaskReader(mask, mask.stored.grid, stored.grid) if mask else None
            return _ExtractBlock(out, whole, masking, affinities.origin, rules, direct)

        return FragmentsPlan(
            what="extract fragments",
            options=options,
            ledger=self.ledger(options.fragments_file, dataset, **identity),
            grid=grid,
            block_shape=block_shape,
            cost=costs.extraction(affinities, rules, block_shape, direct),
            task=task,
            made="fragments",
            volumes=[Output("fragments", array_path(options.fragments_file, dataset), "uint64")],
            kernels=[height, ascent],
            affinities=affinities,
            direct=direct,
            rules=rules,
            refinement=refinement if refined else None,
        )

    def _refine(
        self,
        options: ExtractFragmentsConfig,
        plan: FragmentsPlan,
        refinement: dict[str, Any],
        client: Client,
    ) -> None:
        """Decide about whole fragments on the graph of all of them, and write what remains."""
        base = open_stored(plan.outputs["fragments"])
        fragments = StoredReader(base, tuple(slice(0, n) for n in base.grid.shape))
        counting = plan_graph(
            options,
            options.fragments_file,
            options.fragments_dataset + UNREFINED,
            plan.affinities,
            fragments,
            CountRegion.of_direct(plan.direct),
        )
        ledger = self.ledger(
            options.fragments_file,
            options.fragments_dataset,
            unrefined=identity_of(fragments),
            **refinement,
            blocks=plan.block_shape,
        )
        with count_graph(counting, client) as counted:

            def task(out: StoredVolume) -> RelabelBlock:
                _remove_stale(options)
                table = files.join(ledger.directory, "refined.parquet")
                refine(counted.whole(), **refinement).to_parquet(table)
                return RelabelBlock(out, fragments, RelabelRegion(table))

            refining = StepPlan(
                what="refine fragments",
                options=options,
                ledger=ledger,
                grid=base.grid,
                block_shape=plan.block_shape,
                cost=costs.relabelling(fragments, min(counted.nodes, KEPT * ROWS)),
                task=task,
                made="refined fragments",
                volumes=[Output("fragments", options.fragments_path, "uint64")],
            )
            with held(refining, client) as refining:
                execute(refining, client)


def rules_for(config: FragmentOptions, grid: Grid) -> Rules:
    """The rules of the watershed that the options name, for the voxels of a grid."""
    return make_rules(
        grid.voxel_size,
        method=config.method,
        height=config.height,
        smoothing=config.smoothing,
        anisotropic=config.anisotropic,
        fragments_in_xy=config.fragments_in_xy,
        min_seed_distance=config.min_seed_distance,
        context=to_voxels("context", config.context, grid),
        replace_sections=config.replace_sections,
    )


@dataclass(frozen=True)
class _ExtractBlock(VolumeTask):
    affinities: StoredReader
    mask: Reader | None
    corner: tuple[int, ...]
    rules: Rules
    direct: Direct

    def compute(self, block: Block) -> np.ndarray:
        region = tuple(slice(s.start + c, s.stop + c) for s, c in zip(block.region, self.corner, strict=True))
        with naming(self.affinities.stored.path):
            return self.rules(region, DirectReader(self.affinities, self.direct), self.mask)


def _remove_stale(config: ExtractFragmentsConfig) -> None:
    """Remove lookup tables of the fragments that were replaced."""
    container = normalise_path(config.fragments_file)
    for dataset in (config.fragments_dataset, config.fragments_dataset + UNREFINED):
        remove_stale_luts(container, rag_directory(container, dataset))


@dataclass(frozen=True)
class RelabelBlock(VolumeTask):
    """Relabels the fragments of a block."""

    fragments: StoredReader
    relabel: RelabelRegion

    def compute(self, block: Block) -> np.ndarray:
        """The relabelled fragments."""
        return self.relabel(block.region, self.fragments)


extract_fragments = workflow(ExtractFragments())
