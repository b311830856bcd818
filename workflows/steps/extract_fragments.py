"""Step 1: affinities -> fragments."""

import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from distributed import Client

from lsd_dask.blockwise.blocks import Block, BlockGrid
from lsd_dask.blockwise.ledgers import Ledger
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
from lsd_dask.volumes.formats.zarr_creating import normalise_path
from lsd_dask.volumes.masks import MaskReader
from lsd_dask.volumes.overlap import Reader, StoredReader
from lsd_dask.volumes.stored import StoredVolume

from ..config.fields import array_path
from ..config.options import FragmentOptions
from ..config.steps import ExtractFragmentsConfig
from ..graph.counting import count_graph, rag_directory
from ..running.first_run import say_if_compiled
from ..running.inputs import (
    block_shape_for,
    identity_of,
    naming,
    offsets_of,
    open_affinities,
    open_mask,
    to_voxels,
)
from ..running.memory import check_memory, extraction, worker_limit
from ..running.outputs import StepResult, check_output, cluster, hold, ledger_for, prepare_volume, report, run
from ..running.tasks import VolumeTask
from ..step import workflow

#: Added to the name of the fragments for those that decisions about whole fragments are made on.
UNREFINED = "_unrefined"


@workflow(ExtractFragmentsConfig)
def extract_fragments(config: ExtractFragmentsConfig) -> StepResult:
    """Make fragments (supervoxels) of affinities by watershed, block by block.

    Every block writes its own part of the fragments, with ids that are final. Where fragments are to be
    filtered, merged or dropped, that is decided on the region graph of the whole volume, and a second pass
    writes the result; the first one's fragments stay beside it under a name that ends in ``_unrefined``.
    """
    started = time.perf_counter()
    plan = plan_fragments(config)
    grid, shape = plan.grid, plan.block_shape
    with cluster(config) as client:
        needs = extraction(plan.affinities, plan.rules, plan.direct)
        check_memory("extract fragments", needs, shape, grid, worker_limit(client))
        with hold(plan.ledger):
            out = prepare_volume(plan.ledger, config, plan.path, grid, "uint64", shape, "fragments")
            _remove_stale(config)
            task = plan.task(out)
            say_if_compiled(height, ascent)
            blocks = BlockGrid(grid.shape, shape)
            summary = run("extract fragments", task, blocks, plan.ledger, client, verify=config.verify)
        if plan.refinement is not None:
            _refine(config, client, plan, out)
    return report(
        StepResult(
            "extract_fragments",
            {"fragments": config.fragments_path},
            time.perf_counter() - started,
            summary.blocks,
            summary.skipped,
        )
    )


@dataclass(frozen=True)
class FragmentsPlan:
    """What is to be done, checked.

    Attributes
    ----------
    affinities, mask
        Readers of what is processed, and of a mask of any resolution.
    direct
        Which channels it takes.
    rules
        What decides the watershed.
    refinement
        Decisions about whole fragments, if any: the options of `lsd_dask.segmentation.fragments.refine`.
    block_shape
        In voxels.
    path, ledger
        Of the fragments that the watershed makes.
    """

    affinities: StoredReader
    mask: StoredReader | None
    direct: Direct
    rules: Rules
    refinement: dict[str, Any] | None
    block_shape: tuple[int, ...]
    path: str
    ledger: Ledger

    @property
    def grid(self) -> Grid:
        """Of the fragments."""
        return self.affinities.stored.grid.crop(self.affinities.part)

    def task(self, out: StoredVolume) -> "_ExtractBlock":
        """What is done for each block."""
        stored = self.affinities.stored
        # Around a region, what lies beside it is read as well.
        whole = StoredReader(stored, tuple(slice(0, n) for n in stored.grid.shape))
        mask = MaskReader(self.mask, self.mask.stored.grid, stored.grid) if self.mask else None
        return _ExtractBlock(out, whole, mask, self.affinities.origin, self.rules, self.direct)


def plan_fragments(config: ExtractFragmentsConfig) -> FragmentsPlan:
    """Open what `extract_fragments` reads, and check everything, before any work.

    Raises
    ------
    FileNotFoundError, FileExistsError, TypeError, ValueError
        If something does not fit; the message names the file.
    """
    affinities = open_affinities(config.affs_path, config)
    stored = affinities.stored
    grid = stored.grid.crop(affinities.part)
    with naming(config.affs_path):
        ids.check_extent(stored.grid.shape)
    rules = rules_for(config, grid)
    refinement: dict[str, Any] = {
        "filter_fragments": config.filter_fragments,
        "epsilon_agglomerate": config.epsilon_agglomerate,
        "remove_debris": config.remove_debris,
    }
    with naming(config.affs_path):
        check_sections(rules, stored.grid.shape)
    check_refinement(**refinement)
    refined = any(refinement.values())
    sections = config.fragments_in_xy and not refined
    offsets = offsets_of(stored, config.neighborhood, sections=sections)
    direct = direct_for(offsets, stored.grid.shape, sections=sections)
    mask = None
    if config.mask_file is not None and config.mask_dataset is not None:
        mask = open_mask(array_path(config.mask_file, config.mask_dataset), grid, config.affs_path)
    block_shape = block_shape_for(grid, config.block_size, config.affs_path)
    dataset = config.fragments_dataset + (UNREFINED if refined else "")
    identity = {
        "affinities": identity_of(affinities),
        "mask": identity_of(mask) if mask else None,
        "rules": asdict(rules),
        "blocks": block_shape,
        **({} if direct.is_default else {"channels": asdict(direct)}),
    }
    for output in {dataset, config.fragments_dataset}:
        check_output(
            ledger_for(config.fragments_file, "extract_fragments", output, {}),
            array_path(config.fragments_file, output),
            stored.path,
            *([mask.stored.path] if mask else []),
            overwrite=config.overwrite,
        )
    return FragmentsPlan(
        affinities,
        mask,
        direct,
        rules,
        refinement if refined else None,
        block_shape,
        array_path(config.fragments_file, dataset),
        ledger_for(config.fragments_file, "extract_fragments", dataset, identity),
    )


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


def _refine(
    config: ExtractFragmentsConfig, client: Client | None, plan: FragmentsPlan, base: StoredVolume
) -> None:
    """Decide about whole fragments on the graph of all of them, and write what remains."""
    assert plan.refinement is not None
    fragments = StoredReader(base, tuple(slice(0, n) for n in base.grid.shape))
    graph = count_graph(
        client,
        config,
        config.fragments_file,
        config.fragments_dataset + UNREFINED,
        plan.affinities,
        fragments,
        CountRegion.of_direct(plan.direct),
    )
    ledger = ledger_for(
        config.fragments_file,
        "extract_fragments",
        config.fragments_dataset,
        {"unrefined": identity_of(fragments), **plan.refinement, "blocks": plan.block_shape},
    )
    with graph as counted, hold(ledger):
        out = prepare_volume(
            ledger, config, config.fragments_path, base.grid, "uint64", plan.block_shape, "refined fragments"
        )
        _remove_stale(config)
        table = files.join(ledger.directory, "refined.parquet")
        refine(counted.whole(), **plan.refinement).to_parquet(table)
        task = RelabelBlock(out, fragments, RelabelRegion(table))
        blocks = BlockGrid(base.grid.shape, plan.block_shape)
        run("refine fragments", task, blocks, ledger, client, verify=config.verify)


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
