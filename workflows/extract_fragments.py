"""Step 1: affinities -> fragments."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from distributed import Client

from lsd_dask import files, ids
from lsd_dask.formats import open_stored
from lsd_dask.fragments import check_refinement, make_rules, refine
from lsd_dask.masks import MaskReader
from lsd_dask.overlap import Reader, StoredReader
from lsd_dask.quantisation import quantisation_of
from lsd_dask.runs import Block, BlockGrid
from lsd_dask.segmentation import RelabelRegion
from lsd_dask.storage import StoredVolume
from lsd_dask.watershed import Rules

from .config import workflow
from .counting import count_graph
from .models import ExtractFragmentsConfig
from .running import (
    StepResult,
    block_shape_for,
    cluster,
    identity_of,
    ledger_for,
    open_region,
    prepare_volume,
    report,
    run,
    to_voxels,
)

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
    affinities = open_region(config.affs_path, config)
    _check_affinities(affinities.stored)
    grid = affinities.stored.grid.crop(affinities.part)
    ids.check_extent(affinities.stored.grid.shape)
    rules = make_rules(
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
    options: dict[str, Any] = {
        "filter_fragments": config.filter_fragments,
        "epsilon_agglomerate": config.epsilon_agglomerate,
        "remove_debris": config.remove_debris,
    }
    check_refinement(**options)
    mask = _open_mask(config, affinities.stored)
    block_shape = block_shape_for(grid, config.block_size, config.affs_path)
    refined = any(options.values())
    path = config.fragments_path
    base_path = path + UNREFINED if refined else path

    name = config.fragments_dataset.strip("/").rsplit("/", 1)[-1]
    identity = {
        "affinities": identity_of(affinities),
        "mask": identity_of(mask) if mask else None,
        "rules": asdict(rules),
        "blocks": block_shape,
    }
    with cluster(config) as client:
        ledger = ledger_for(
            config.fragments_file, "extract_fragments", name + (UNREFINED if refined else ""), identity
        )
        out = prepare_volume(ledger, config, base_path, grid, "uint64", block_shape, "fragments")
        corner = tuple(s.start for s in affinities.part)
        whole = StoredReader(affinities.stored, tuple(slice(0, n) for n in affinities.stored.grid.shape))
        upsampled = MaskReader(mask, mask.stored.grid, whole.stored.grid) if mask else None
        task = _ExtractBlock(whole, upsampled, out, corner, rules)
        summary = run("extract fragments", task, BlockGrid(grid.shape, block_shape), ledger, client)
        if refined:
            _refine(config, client, out, affinities, options, name, block_shape, ledger.fingerprint)
    return report(
        StepResult(
            "extract_fragments",
            {"fragments": path},
            time.perf_counter() - started,
            summary.blocks,
            summary.skipped,
        )
    )


@dataclass(frozen=True)
class _ExtractBlock:
    affinities: StoredReader
    mask: Reader | None
    out: StoredVolume
    corner: tuple[int, ...]
    rules: Rules

    def __call__(self, block: Block) -> Mapping[str, Any]:
        region = tuple(slice(s.start + c, s.stop + c) for s, c in zip(block.region, self.corner, strict=True))
        fragments = self.rules(region, self.affinities, self.mask)
        # Arrays begin as zeros: what is all background is recorded, not written.
        if fragments.any():
            self.out.write(block.region, fragments)
        return {"foreground": int(np.count_nonzero(fragments))}


def _check_affinities(stored: StoredVolume) -> None:
    try:
        quantisation_of(stored.dtype)
    except TypeError as error:
        raise TypeError(f"{stored.path}: {error}") from None
    if stored.channels is None or stored.channels < stored.grid.ndim:
        found = f"{stored.channels} channels" if stored.channels else "no channel axis"
        raise ValueError(
            f"{stored.path}: found an array of shape {stored.shape} with {found}, expected affinities: "
            f"{stored.grid.ndim} channels or more before the axes {', '.join(stored.grid.dims)}."
        )


def _open_mask(config: ExtractFragmentsConfig, affinities: StoredVolume) -> StoredReader | None:
    if config.mask_file is None or config.mask_dataset is None:
        return None
    stored = open_stored(f"{config.mask_file.rstrip('/')}/{config.mask_dataset.strip('/')}")
    if stored.channels is not None or stored.grid.dims != affinities.grid.dims:
        raise ValueError(
            f"{stored.path}: found a mask of shape {stored.shape}, expected the axes "
            f"{', '.join(affinities.grid.dims)}."
        )
    return StoredReader(stored, tuple(slice(0, n) for n in stored.grid.shape))


def _refine(
    config: ExtractFragmentsConfig,
    client: Client,
    base: StoredVolume,
    affinities: StoredReader,
    options: dict[str, Any],
    name: str,
    block_shape: tuple[int, ...],
    base_fingerprint: str,
) -> None:
    """Decide about whole fragments on the graph of all of them, and write what remains."""
    fragments = StoredReader(base, tuple(slice(0, n) for n in base.grid.shape))
    graph = count_graph(
        client, config, config.fragments_file, name + UNREFINED, affinities, fragments, None, base_fingerprint
    )
    ledger = ledger_for(
        config.fragments_file,
        "extract_fragments",
        name,
        {"unrefined": base_fingerprint, **options, "blocks": block_shape},
    )
    out = prepare_volume(ledger, config, config.fragments_path, base.grid, "uint64", block_shape, "fragments")
    table = files.join(ledger.directory, "refined.parquet")
    refine(graph, **options).to_parquet(table)
    task = RelabelBlock(fragments, out, RelabelRegion(table))
    run("refine fragments", task, BlockGrid(base.grid.shape, block_shape), ledger, client)


@dataclass(frozen=True)
class RelabelBlock:
    """Writes the relabelled fragments of a block."""

    fragments: StoredReader
    out: StoredVolume
    relabel: RelabelRegion

    def __call__(self, block: Block) -> Mapping[str, Any]:
        """Relabel a block."""
        labels = self.relabel(block.region, self.fragments)
        if labels.any():
            self.out.write(block.region, labels)
        return {"foreground": int(np.count_nonzero(labels))}
