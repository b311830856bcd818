"""Coarser levels of a volume, for viewers: an OME-NGFF pyramid."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr

from lsd_dask.blockwise.blocks import Block
from lsd_dask.space.grids import Grid
from lsd_dask.space.neighborhoods import attributes, on_coarser_level
from lsd_dask.storage import files
from lsd_dask.storage.zarr_stores import opened_with
from lsd_dask.volumes.formats import ngff
from lsd_dask.volumes.formats.zarr_creating import (
    ancestors,
    container_of,
    format_for,
    normalise_path,
    open_node,
)
from lsd_dask.volumes.opening import open_stored
from lsd_dask.volumes.overlap import StoredReader
from lsd_dask.volumes.pyramids import DownsampleRegion, Kind, Level, cell_bytes, kind_of, plan_levels
from lsd_dask.volumes.stored import StoredVolume

from ..config.pyramid import BuildPyramidConfig
from ..running.costs import Cost
from ..running.inputs import block_shape_for, identity_of, open_input
from ..running.memory import BASE, DECODING, WRITING, BytesFor
from ..running.outputs import Output, StepResult, check_output, cluster, report
from ..running.plans import StepPlan, execute, held
from ..running.tasks import VolumeTask
from ..step import Step, workflow


class BuildPyramid(Step[BuildPyramidConfig]):
    """Write the coarser levels of a volume, each made of the next finer one, block by block.

    A block of a level depends on the voxels it covers alone, so no block shows. The levels are described as
    an OME-NGFF multiscale when all of them are complete. They begin at the lower corner of the volume.
    """

    model = BuildPyramidConfig
    container = "out_container"

    def run(self, options: BuildPyramidConfig) -> StepResult:
        """Make one level after the other; each is a run over blocks of its own."""
        started = time.perf_counter()
        source = open_input(options.in_path)
        plan = _plan(options, source)
        finest, summaries = source, []
        with cluster(options) as client:
            for name in plan.levels:
                level = self._plan_level(options, plan, name, source, finest)
                with held(level, client) as level:
                    if not (level.ledger.is_current() and len(level.ledger.done()) == len(level.blocks)):
                        _undescribe(plan, source)
                    summaries.append(execute(level, client))
                finest = open_stored(level.outputs[name])
        _describe(plan, source)
        return report(
            StepResult(
                self.name,
                {"pyramid": plan.path},
                time.perf_counter() - started,
                sum(summary.blocks for summary in summaries),
                sum(summary.skipped for summary in summaries),
                facts={"levels": len(plan.levels)},
            )
        )

    def _plan_level(
        self, options: BuildPyramidConfig, plan: "_Plan", name: str, source: StoredVolume, finer: StoredVolume
    ) -> StepPlan:
        """Plan to write one level of those of the pyramid, of the finer one."""
        level = plan.levels[name]
        voxels = block_shape_for(source.grid, options.block_size, source.path)
        block_shape = tuple(min(b, n) for b, n in zip(voxels, level.grid.shape, strict=True))
        reader = StoredReader(finer, tuple(slice(0, n) for n in finer.grid.shape))
        making = DownsampleRegion(level.factors, plan.kind)
        is_copy = max(level.factors) == 1
        offsets = finer.neighborhood if is_copy else on_coarser_level(finer.neighborhood)
        identity = {
            "finer level": identity_of(reader),
            "factors": level.factors,
            "kind": plan.kind,
            "blocks": block_shape,
        }
        ledger = self.ledger(plan.container, files.join(plan.group, name), **identity)
        path = files.join(plan.container, plan.group, name)
        check_output(ledger, path, source.path, overwrite=options.overwrite)
        return StepPlan(
            what=f"build pyramid, {name}",
            options=options,
            ledger=ledger,
            grid=level.grid,
            block_shape=block_shape,
            cost=Cost(_needs(finer, making)),
            task=lambda out: _MakeBlock(out, reader, making),
            made=f"level {name}",
            volumes=[Output(name, path, str(source.dtype), source.channels, attributes(offsets))],
        )


@dataclass(frozen=True)
class _Plan:
    """What is to be made.

    Attributes
    ----------
    path
        What opens as the volume with its levels.
    container, group
        Where the levels are put.
    levels
        By name, finest first.
    copied
        Whether the finest of them is a copy of the volume.
    """

    path: str
    container: str
    group: str
    levels: Mapping[str, Level]
    kind: Kind
    copied: bool


def _plan(config: BuildPyramidConfig, source: StoredVolume) -> _Plan:
    """Check what is asked for, before any work."""
    kind = kind_of(source.dtype) if config.reduction == "auto" else config.reduction
    coarser = plan_levels(source.grid, config.levels)
    if config.out_path is None:
        if type(source) is not StoredVolume:
            raise ValueError(
                f"{source.path}: levels are put beside zarr arrays alone; name a copy with out_file and "
                "out_dataset"
            )
        if source.stored_dims:
            stored = ", ".join(dim or "time" for dim in source.stored_dims)
            raise ValueError(
                f"{source.path}: found an array stored as {stored}, expected {', '.join(source.dims)}, as "
                "one multiscale has one order of axes; name a copy with out_file and out_dataset"
            )
        path = source.path
        container, name, _ = container_of(path)
        group = f"{name}_levels"
        levels = {f"s{n}": level for n, level in enumerate(coarser, start=1)}
    else:
        path = normalise_path(config.out_path)
        container, group, found = container_of(files.join(path, "s0"))
        group = group.rpartition("/")[0]
        zarr_format: Any = config.zarr_format
        format_for(files.join(path, "s0"), zarr_format)
        if found is None and zarr_format is not None:
            zarr.create_group(zarr_format=zarr_format, **opened_with(container, "w"))
        whole = Level(source.grid, (1,) * source.grid.ndim)
        levels = {f"s{n}": level for n, level in enumerate([whole, *coarser])}
    if kind == "mean" and source.dtype.kind == "b":
        raise ValueError(f"{source.path}: found truth values, which have no mean; expected mode or auto")
    if not levels:
        raise ValueError(f"{source.path}: found {source.grid.shape} voxels, which need no coarser level")
    return _Plan(path, container, group, levels, kind, config.out_path is not None)


@dataclass(frozen=True)
class _MakeBlock(VolumeTask):
    finer: StoredReader
    making: DownsampleRegion

    def compute(self, block: Block) -> np.ndarray:
        return self.making(block.region, self.finer)


def _needs(finer: StoredVolume, making: DownsampleRegion) -> BytesFor:
    """Bytes that a block takes: what is read and sorted for some planes of it, and itself, written."""
    size = finer.dtype.itemsize * (finer.channels or 1)
    chunk = size * math.prod(finer.write_shape)

    def bytes_for(shape: tuple[int, ...]) -> int:
        planes = cell_bytes(making.factors, size) * math.prod(shape) // shape[0]
        return BASE + int(planes + DECODING * chunk + WRITING * size * math.prod(shape))

    return bytes_for


def _undescribe(plan: _Plan, source: StoredVolume) -> None:
    """Let no multiscale name levels that are not complete, or of voxels that are gone."""
    group = files.join(plan.container, plan.group)
    if not isinstance(open_node(group), zarr.Group):
        return
    if plan.copied:
        copies = _open_group(group)
        copies.update_attributes(ngff.group_attributes(dict(copies.attrs), [], copies.metadata.zarr_format))
        return
    parent = _open_group(next(ancestors(plan.path)))
    alone = ngff.add_multiscale(
        dict(parent.attrs),
        source.name,
        parent.metadata.zarr_format,
        grid=source.grid,
        channels=source.channels,
    )
    parent.update_attributes(alone)


def _describe(plan: _Plan, source: StoredVolume) -> None:
    """Describe all levels as one multiscale, in place of one for each array."""
    grids: dict[str, Grid] = {name: level.grid for name, level in plan.levels.items()}
    group = _open_group(files.join(plan.container, plan.group))
    zarr_format = group.metadata.zarr_format
    if plan.copied:
        entry = ngff.multiscale_of(plan.path.rsplit("/", 1)[-1], grids, channels=source.channels)
        entry["type"] = plan.kind
        label = {} if zarr_format == 3 else {"version": "0.4"}
        more = {"image-label": label} if plan.kind == "mode" and source.channels is None else {}
        group.update_attributes(ngff.group_attributes(dict(group.attrs), [entry], zarr_format, **more))
        if more:
            _list_as_labels(plan.path, zarr_format)
        return
    group.update_attributes(ngff.group_attributes(dict(group.attrs), [], zarr_format))
    levels = plan.group.rsplit("/", 1)[-1]
    parent = _open_group(next(ancestors(plan.path)))
    coarser = {f"{levels}/{name}": grid for name, grid in grids.items()}
    parent.update_attributes(
        ngff.add_multiscale(
            dict(parent.attrs),
            source.name,
            zarr_format,
            grid=source.grid,
            channels=source.channels,
            coarser=coarser,
        )
    )


def _list_as_labels(path: str, zarr_format: int) -> None:
    """Name an image in the group of labels above it, where its readers look for labels of the image above."""
    above, _, name = path.rpartition("/")
    if not above.endswith("/labels"):
        return
    labels = _open_group(above)
    attributes: dict[str, Any] = dict(labels.attrs)
    known = attributes if zarr_format == 2 else attributes.get("ome", {})
    names = sorted({*known.get("labels", []), name})
    labels.update_attributes(
        {"labels": names} if zarr_format == 2 else {"ome": {"version": "0.5", "labels": names}}
    )


def _open_group(path: str) -> zarr.Group:
    return zarr.open_group(mode="r+", use_consolidated=False, **opened_with(path, "r+"))


build_pyramid = workflow(BuildPyramid())
