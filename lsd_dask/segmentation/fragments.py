"""Fragments (supervoxels) of affinities: the watershed, and decisions about whole fragments.

The watershed itself is local (`lsd_dask.segmentation.watershed`). Dropping small or faint fragments, or
merging the surest of them at once, are decisions about whole fragments, wherever their parts lie; so they are
made on the region graph of the whole volume, never on a block's part of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from dask.delayed import delayed

from ..checks.arguments import check_array, check_axes, naming, real_number, whole_number, whole_numbers
from ..space.grids import Grid, Region
from ..space.neighborhoods import Direct, DirectReader, agreed, direct_for
from ..volumes.dask_arrays import V, Volume
from ..volumes.masks import align_mask
from ..volumes.overlap import Reader, looked_at, map_regions
from ..volumes.saving import grid_of, stated_by
from ..volumes.voxel_values import say_if_zero_and_one
from . import ids
from .agglomeration import LookupTable, agglomerate
from .graph_tables import GraphTables
from .quantisation import quantisation_of
from .region_graph import CountRegion, RegionGraph, counted_bag, counted_graph, finish_graph, is_lazy
from .relabelling import relabel
from .watershed import HEIGHTS, Height, Method, Rules, seeded_packages

__all__ = ["extract_fragments", "refine"]


def extract_fragments(
    affinities: V,
    *,
    neighborhood: Sequence[Sequence[int]] | None = None,
    method: Method = "steepest_ascent",
    height: Height = Rules.height,
    smoothing: float = Rules.smoothing,
    anisotropic: bool = False,
    fragments_in_xy: bool = False,
    min_seed_distance: int = 10,
    context: Sequence[int] | None = None,
    mask: Volume | None = None,
    replace_sections: Sequence[int] | None = None,
    filter_fragments: float = 0.0,
    epsilon_agglomerate: float = 0.0,
    remove_debris: int = 0,
) -> V:
    """Divide a volume into fragments by a watershed of its affinities.

    Parameters
    ----------
    affinities
        ``(c, z, y, x)`` or ``(c, y, x)``, uint8 or floating point in [0, 1]; NumPy, dask or DataArray.
    neighborhood
        Offset, in voxels, that each channel joins; by default what the attributes of the affinities say, or
        else the direct lower neighbours, ``[[-1, 0, 0], [0, -1, 0], [0, 0, -1]]`` (2-D:
        ``[[-1, 0], [0, -1]]``). The channels of direct neighbours are used, in whatever order, and of either
        sign, the lower one where there are both; others are ignored.
    method
        "steepest_ascent": local rules, the same fragments under any chunking. "seeded": the seeded
        watershed of the reference system [1]_ (extra `seeded`); on blocks its fragments depend on `context`,
        and only a context as large as the volume is sure to give those of the whole volume. What differs lies
        mostly near the blocks' borders, and is little where objects are thinner than the context.
    height
        What steepest ascent climbs: the boundary "distance", the "affinity", or "both" added.
    smoothing
        Standard deviation, in voxels, of the Gaussian that smooths the height.
    anisotropic
        Measure distances in world units (in units of the smallest side of a voxel) instead of voxels.
    fragments_in_xy
        Divide each section by itself, from its y and x affinities; then there need not be one along z, unless
        decisions about whole fragments are made, on all neighbours.
    min_seed_distance
        Of "seeded": size, in voxels, of the window in which a seed is the maximum.
    context
        Voxels along each axis to read around each block: decides the result of "seeded" (default 32).
        Steepest ascent reads as much as it needs from stored volumes; for dask arrays that are not stored,
        this is the most it may ask for.
    mask
        Fragments and affinities are 0 where it is 0. A DataArray is placed by its coordinates, a bare array
        covers the volume; any coarser resolution.
    replace_sections
        Indices along z of sections whose affinities and fragments are set to 0.
    filter_fragments
        Drop fragments whose mean affinity is lower.
    epsilon_agglomerate
        Merge fragments up to this score, by the 25 % quantile of affinities.
    remove_debris
        Drop fragments of fewer voxels, after that merging.

    Returns
    -------
    fragments
        uint64, ``(z, y, x)`` or ``(y, x)``, of the same kind as `affinities`, lazy unless that is a NumPy
        array. 0 is background; other ids are addresses of voxels (`lsd_dask.ids`), in the voxels of the
        stored volume if this is a crop of one.

    Raises
    ------
    TypeError
        If affinities are no array, or neither uint8 nor floating point; if an option is of another kind.
    ValueError
        If affinities are not in [0, 1] or hold no voxel, for a neighborhood that does not fit their channels,
        lacks a direct neighbour or differs from what their attributes say, for options out of range, and for
        a mask that does not fit.

    References
    ----------
    .. [1] A. Sheridan et al., "Local shape descriptors for neuron segmentation", Nature Methods 20, 2023.

    Examples
    --------
    >>> affinities = np.ones((2, 8, 32), dtype=np.float32)
    >>> affinities[:, :, 16] = 0
    >>> np.unique(extract_fragments(affinities)).size
    2
    """
    check_array(affinities, "affinities")
    quantisation_of(affinities.dtype)
    grid = _grid_of(affinities)
    say_if_zero_and_one(looked_at(affinities, channel_axis=True), affinities.dtype, "affinities")
    rules = make_rules(
        grid.voxel_size,
        method=method,
        height=height,
        smoothing=smoothing,
        anisotropic=anisotropic,
        fragments_in_xy=fragments_in_xy,
        min_seed_distance=min_seed_distance,
        context=context,
        replace_sections=replace_sections,
    )
    check_sections(rules, grid.shape)
    check_refinement(filter_fragments, epsilon_agglomerate, remove_debris)
    refined = bool(filter_fragments or epsilon_agglomerate or remove_debris)
    with naming("affinities"):
        offsets = agreed(neighborhood, stated_by(affinities), len(affinities), grid.ndim)
    direct = direct_for(offsets, grid.shape, sections=fragments_in_xy and not refined)
    ids.check_extent(grid.shape)
    volumes: list[Volume] = [affinities]
    if mask is not None:
        volumes.append(align_mask(mask, grid))
    fragments = map_regions(
        _OfChannels(rules, direct),
        volumes,
        [True, False][: len(volumes)],
        depth=[d + r for d, r in zip(rules.depth, direct.reach, strict=True)],
        dtype=np.uint64,
    )
    if not refined:
        return fragments
    return _refined(affinities, fragments, direct, filter_fragments, epsilon_agglomerate, remove_debris)


@dataclass(frozen=True)
class _OfChannels:
    """The watershed of a region of affinities with any channels."""

    rules: Rules
    direct: Direct

    #: Of dask's tasks.
    name = "extract-fragments"

    def __call__(self, region: Region, affinities: Reader, *mask: Reader) -> np.ndarray:
        return self.rules(region, DirectReader(affinities, self.direct), *mask)


def make_rules(
    voxel_size: Sequence[float],
    *,
    method: Method,
    height: Height,
    smoothing: float,
    anisotropic: bool,
    fragments_in_xy: bool,
    min_seed_distance: int,
    context: Sequence[int] | None,
    replace_sections: Sequence[int] | None,
) -> Rules:
    """Check the options of `extract_fragments` and collect those that decide the watershed of a region."""
    ndim = len(voxel_size)
    if method not in ("steepest_ascent", "seeded"):
        raise ValueError(f'There is no method {method!r}, expected "steepest_ascent" or "seeded".')
    if method == "seeded":
        seeded_packages()  # if one is missing, say so before any work
    if height not in list(HEIGHTS):
        raise ValueError(f"There is no height {height!r}, expected one of {', '.join(HEIGHTS)}.")
    voxels = None if context is None else whole_numbers("context", context, least=0)
    if voxels is not None and len(voxels) != ndim:
        raise ValueError(f"context: found {list(voxels)}, expected {ndim} numbers of voxels")
    if fragments_in_xy and ndim == 2:
        raise ValueError("fragments_in_xy is for volumes: this image has no sections.")
    smallest = min(voxel_size)
    sections = () if replace_sections is None else replace_sections
    return Rules(
        method=method,
        height=height,
        smoothing=real_number("smoothing (in voxels)", smoothing, 0, 16),
        in_xy=fragments_in_xy,
        min_seed_distance=whole_number("min_seed_distance", min_seed_distance, least=1),
        context=voxels,
        voxel_size=tuple(v / smallest for v in voxel_size) if anisotropic else (1.0,) * ndim,
        replace_sections=tuple(sorted(whole_numbers("replace_sections", sections, least=0))),
    )


def check_sections(rules: Rules, shape: Sequence[int]) -> None:
    """Raise ValueError where sections are to be replaced that a volume of this shape does not have."""
    beyond = [section for section in rules.replace_sections if section >= shape[0]]
    if beyond and len(shape) == 3:
        raise ValueError(
            f"replace_sections: found {beyond[0]}, expected sections from 0 to {shape[0] - 1}, those of the "
            "volume along z"
        )


def check_refinement(filter_fragments: float, epsilon_agglomerate: float, remove_debris: int) -> None:
    """Raise TypeError or ValueError for an option of `refine` that is no number or out of range."""
    for name, value in (("filter_fragments", filter_fragments), ("epsilon_agglomerate", epsilon_agglomerate)):
        real_number(name, value, 0, 1)
    whole_number("remove_debris", remove_debris, least=0)


def refine(
    graph: RegionGraph,
    *,
    filter_fragments: float = 0.0,
    epsilon_agglomerate: float = 0.0,
    remove_debris: int = 0,
) -> LookupTable:
    """Decide about whole fragments: drop faint ones, merge the surest, drop small ones; in this order.

    Parameters
    ----------
    graph
        Region graph of the fragments as the watershed made them.
    filter_fragments, epsilon_agglomerate, remove_debris
        As for `extract_fragments`.

    Returns
    -------
    LookupTable
        Fragment id -> id of the refined fragment (the smallest id it consists of), 0 where it is dropped.
    """
    nodes, ndim = graph.nodes, len(graph.grid.shape)
    kept = nodes.affinity_sums >= filter_fragments * (nodes.sizes * (ndim * graph.scale))
    bright = nodes.ids[kept]
    edges = graph.edges.take(np.isin(graph.edges.u, bright) & np.isin(graph.edges.v, bright))
    rest = RegionGraph(nodes.take(kept), edges, graph.grid, graph.scale)
    merged = agglomerate(rest, "hist_quant_25").cut(epsilon_agglomerate)
    segments, group = np.unique(merged.values, return_inverse=True)
    sizes = np.zeros(len(segments), np.int64)
    np.add.at(sizes, group, rest.nodes.sizes)
    values = np.zeros(len(nodes), np.uint64)
    values[kept] = np.where(sizes[group] >= remove_debris, merged.values, np.uint64(0))
    return LookupTable(nodes.ids, values)


def _refined(
    affinities: Volume, fragments: V, direct: Direct, filtered: float, epsilon: float, debris: int
) -> V:
    options: dict[str, Any] = {
        "filter_fragments": filtered,
        "epsilon_agglomerate": epsilon,
        "remove_debris": debris,
    }
    count = CountRegion.of_direct(direct)
    if not is_lazy(fragments):
        return relabel(fragments, refine(counted_graph(affinities, fragments, count), **options))
    bag = counted_bag(affinities, fragments, count)
    tables = bag.reduction(GraphTables.joined, GraphTables.joined).to_delayed()
    lut = delayed(_refine_tables)(tables, grid_of(fragments), affinities.dtype, options)
    return relabel(fragments, lut)


def _refine_tables(tables: GraphTables, grid: Grid, dtype: Any, options: dict[str, Any]) -> LookupTable:
    return refine(finish_graph(tables, grid, dtype), **options)


def _grid_of(affinities: Volume) -> Grid:
    """Grid of affinities; a bare array of three axes is channel, y, x here."""
    check_axes(affinities, "affinities", channel=True)
    return grid_of(affinities[0])
