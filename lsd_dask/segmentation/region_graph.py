"""The region adjacency graph of a volume: what fragments there are, which touch, and with what affinities.

Each block counts its own voxels and faces; a face belongs to exactly one block, so the blocks' tables add up
to the exact graph of the whole volume, in any order and for any block grid. Scores come later: sums do not
depend on order, scores would.

The counting follows waterz [1]_: affinity d at voxel p joins p and its neighbour along offset d, pairs with
the background (id 0) are dropped, and an affinity a falls into bin ``min(int(256 a), 255)``.

References
----------
.. [1] J. Funke et al., "Large scale image segmentation with structured loss based deep learning for
   connectome reconstruction", IEEE TPAMI 41(7), 2019. https://github.com/funkey/waterz
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import dask.array as da
import dask.bag as db
import numpy as np
import xarray as xr
from dask.base import get_scheduler

from ..checks.arguments import check_array, check_axes, naming
from ..space.grids import Grid, Region
from ..space.neighborhoods import Direct, DirectReader, agreed, default_neighborhood, direct_for, lifted
from ..storage import files, parquet
from ..volumes.dask_arrays import Volume
from ..volumes.overlap import Reader, bag_regions, grow, looked_at, readers_of, within
from ..volumes.saving import grid_of, stated_by
from ..volumes.voxel_values import as_ids, check_labels, say_if_zero_and_one
from .graph_tables import EdgeTable, FragmentRuns, GraphTables, NodeTable
from .quantisation import quantisation_of, quantise

if TYPE_CHECKING:
    import networkx as nx

#: Tables that one task of the reduction adds up.
FAN_IN = 8


@dataclass(frozen=True)
class RegionGraph:
    """A region adjacency graph.

    Attributes
    ----------
    nodes
        One row a fragment.
    edges
        One row a pair of touching fragments.
    grid
        Where the volume's voxels lie in the world. Indices in `nodes` count from the volume's first voxel.
    scale
        The integer that stands for affinity 1 in the tables: 255 for uint8, 65535 for floating point.
    """

    nodes: NodeTable
    edges: EdgeTable
    grid: Grid
    scale: int

    @property
    def centers(self) -> np.ndarray:
        """Centre of mass of each node in world units, float64, ``(n, 3)`` (z, y, x) or ``(n, 2)`` (y, x)."""
        ndim = len(self.grid.shape)
        mean = self.nodes.position_sums[:, 3 - ndim :] / self.nodes.sizes[:, None]
        return np.asarray(self.grid.offset) + (mean + 0.5) * np.asarray(self.grid.voxel_size)

    @property
    def mean_affinities(self) -> np.ndarray:
        """Mean affinity of each edge, float64, ``(n,)``."""
        return self.edges.sums / (self.edges.counts * float(self.scale))

    def select(self, region: Region) -> "RegionGraph":
        """The part of the graph that a region touches: fragments whose bounding box meets it, their edges.

        Parameters
        ----------
        region
            One slice of voxels along each axis.
        """
        begin = np.array([0] * (3 - len(region)) + [s.start for s in region])
        end = np.array([1] * (3 - len(region)) + [s.stop for s in region])
        inside = ((self.nodes.begins < end) & (self.nodes.ends > begin)).all(axis=1)
        kept = self.nodes.ids[inside]
        edges = np.isin(self.edges.u, kept) & np.isin(self.edges.v, kept)
        return replace(self, nodes=self.nodes.take(inside), edges=self.edges.take(edges))

    def to_networkx(self, merge_scores: np.ndarray | None = None) -> "nx.Graph":
        """The graph for networkx.

        Parameters
        ----------
        merge_scores
            Score at which the ends of each edge became one (`MergeTree.merge_scores`), NaN for never.

        Returns
        -------
        networkx.Graph
            Nodes are fragment ids with ``size``, ``center_z``, ``center_y``, ``center_x`` (world units);
            edges have ``count``, ``mean_affinity``, ``max_affinity`` and, if given, ``merge_score`` (None
            for NaN).
        """
        # Late: workers count and never ask for this.
        import networkx as nx

        graph = nx.Graph()
        names = [f"center_{axis}" for axis in self.grid.dims]
        for fragment, size, center in zip(
            self.nodes.ids.tolist(), self.nodes.sizes.tolist(), self.centers.tolist(), strict=True
        ):
            graph.add_node(fragment, size=size, **dict(zip(names, center, strict=True)))
        means = self.mean_affinities.tolist()
        maxima = (self.edges.maxima / self.scale).tolist()
        pairs = zip(self.edges.u.tolist(), self.edges.v.tolist(), strict=True)
        for row, (u, v) in enumerate(pairs):
            graph.add_edge(
                u, v, count=int(self.edges.counts[row]), mean_affinity=means[row], max_affinity=maxima[row]
            )
            if merge_scores is not None:
                score = float(merge_scores[row])
                graph.edges[u, v]["merge_score"] = None if np.isnan(score) else score
        return graph

    def to_parquet(self, directory: str, more: Mapping[str, Any] | None = None) -> None:
        """Write ``nodes.parquet`` and ``edges.parquet`` into a directory or URL (`lsd_dask.storage.parquet`).

        Parameters
        ----------
        directory
            Path or URL.
        more
            Facts about the graph that are kept with those that `from_parquet` needs.
        """
        grid = self.grid
        facts = {
            **(more or {}),
            "scale": self.scale,
            "dims": grid.dims,
            "shape": grid.shape,
            "voxel_size": grid.voxel_size,
            "offset": grid.offset,
            "units": grid.units,
        }
        centers = {f"center_{axis}": c for axis, c in zip(grid.dims, self.centers.T, strict=True)}
        parquet.write_table(
            files.join(directory, "nodes.parquet"), {**self.nodes.columns(), **centers}, facts
        )
        parquet.write_table(files.join(directory, "edges.parquet"), self.edges.columns(), facts)

    @classmethod
    def from_parquet(cls, directory: str) -> "RegionGraph":
        """Read what `to_parquet` wrote.

        Raises
        ------
        FileNotFoundError, ValueError
            If a file is missing, cut short, another kind of table, or of another graph than the other one.
        """
        nodes, facts = NodeTable.from_parquet(files.join(directory, "nodes.parquet"))
        edges, _ = EdgeTable.from_parquet(files.join(directory, "edges.parquet"))
        with naming(files.join(directory, "nodes.parquet")):
            grid = Grid(facts["dims"], facts["shape"], facts["voxel_size"], facts["offset"], facts["units"])
            if facts["scale"] not in (255, 65535):
                raise ValueError(f"found the scale {facts['scale']!r} of affinities, expected 255 or 65535")
        known = np.isin(np.concatenate([edges.u, edges.v]), nodes.ids)
        if not known.all():
            unknown = np.concatenate([edges.u, edges.v])[~known][0]
            path = files.join(directory, "edges.parquet")
            raise ValueError(
                f"{path}: found an edge of fragment {unknown}, which is not in nodes.parquet beside it; are "
                "the two of one graph?"
            )
        return cls(nodes, edges, grid, facts["scale"])


@dataclass(frozen=True)
class CountRegion:
    """Counts the nodes and edges of a region: what one task of a graph does.

    Attributes
    ----------
    neighborhood
        Offsets z, y, x that the channels of the affinities join, one triple a channel.
    direct
        Where the channels are found, if only those of direct neighbours are to count, as lower ones.
    """

    neighborhood: tuple[tuple[int, int, int], ...]
    direct: Direct | None = None

    name = "region-graph"

    @classmethod
    def of_direct(cls, direct: Direct) -> "CountRegion":
        """Counts the affinities to direct lower neighbours alone."""
        return cls(lifted(default_neighborhood(len(direct.channels))), direct)

    @property
    def depth(self) -> tuple[int, int, int]:
        """Context, in voxels along z, y, x, of fragments that a region needs."""
        z, y, x = np.abs(self.neighborhood).max(axis=0).tolist()
        return z, y, x

    def __call__(self, region: Region, affinities: Reader, fragments: Reader) -> GraphTables:
        """The tables of a region."""
        ndim = len(region)
        haloed = grow(region, self.depth[3 - ndim :], fragments.shape)
        labels = as_ids(fragments.read(haloed), "fragments")
        labels = labels.reshape((1,) * (3 - ndim) + labels.shape)
        place = (slice(0, 1),) * (3 - ndim) + within(region, haloed)
        start, shape = [s.start for s in place], [s.stop - s.start for s in place]
        origin = [0] * (3 - ndim) + [s.start for s in region]
        neighborhood = np.array(self.neighborhood)
        if any(section.any() for section in labels[place]):
            values, shift = self._quantised(affinities, region, shape)
        else:
            values, shift = np.zeros((0, *shape), quantisation_of(np.uint8).dtype), 0
            neighborhood = neighborhood[:0]
        runs = FragmentRuns.of_block(labels, values, start, origin, neighborhood)
        # Most of what a block holds, and not needed any more.
        del labels
        return GraphTables.of_runs(runs, values, neighborhood, shift)

    def _quantised(self, affinities: Reader, region: Region, shape: Sequence[int]) -> tuple[np.ndarray, int]:
        """Affinities of a region as whole numbers ``(c, z, y, x)``, and how far right a bin is shifted."""
        read = (affinities if self.direct is None else DirectReader(affinities, self.direct)).read(region)
        if len(read) != len(self.neighborhood):
            raise ValueError(
                f"Affinities with {len(read)} channels were found, expected {len(self.neighborhood)}: one "
                f"for each offset of the neighborhood {list(self.neighborhood)}."
            )
        return quantise(read).reshape((len(read), *shape)), quantisation_of(read.dtype).shift


def build_region_graph(
    affinities: Volume, fragments: Volume, neighborhood: Sequence[Sequence[int]] | None = None
) -> RegionGraph:
    """Build the region adjacency graph of a volume.

    Parameters
    ----------
    affinities
        ``(c, z, y, x)`` or ``(c, y, x)``, uint8 or floating point in [0, 1]; NumPy, dask or DataArray.
    fragments
        ``(z, y, x)`` or ``(y, x)``, unsigned integers, 0 is background.
    neighborhood
        Offset, in voxels, that each channel joins; by default what the attributes of the affinities say, or
        else the direct lower neighbours, ``[[-1, 0, 0], [0, -1, 0], [0, 0, -1]]`` (2-D:
        ``[[-1, 0], [0, -1]]``). There has to be a direct neighbour along each axis, before or after.
        Affinities of longer range add to the edges of fragments that touch, and make no edges between others.

    Returns
    -------
    RegionGraph
        Computed, also for lazy input: each block is counted in one task, and the tables are added up as a
        tree. A `distributed.Client` is used where one is active.

    Raises
    ------
    ValueError
        For shapes or axes that do not match or hold no voxel, negative ids, affinities that are out of range,
        and a neighborhood that does not fit their channels, lacks a direct neighbour or differs from what
        their attributes say.
    TypeError
        For fragments or a neighborhood that are not integers, or affinities of another type.

    Examples
    --------
    >>> fragments = np.array([[1, 1, 2], [1, 1, 2]], dtype=np.uint64)
    >>> affinities = np.full((2, 2, 3), 0.5, dtype=np.float32)
    >>> graph = build_region_graph(affinities, fragments)
    >>> graph.edges.u, graph.edges.v, graph.edges.counts
    (array([1], dtype=uint64), array([2], dtype=uint64), array([2]))
    """
    offsets = check_graph_input(affinities, fragments, neighborhood)
    say_if_zero_and_one(looked_at(affinities, channel_axis=True), affinities.dtype, "affinities")
    return counted_graph(affinities, fragments, CountRegion(offsets))


def counted_graph(affinities: Volume, fragments: Volume, count: CountRegion) -> RegionGraph:
    """The graph that a way of counting gives; what is counted is checked."""
    if isinstance(affinities, np.ndarray) and isinstance(fragments, np.ndarray):
        readers = readers_of([affinities, fragments], [True, False])
        tables = count(tuple(slice(0, n) for n in fragments.shape), *readers)
    else:
        total = counted_bag(affinities, fragments, count).reduction(
            GraphTables.joined, GraphTables.joined, split_every=FAN_IN
        )
        # A bag's own default, a pool of processes, needs a guarded main module; the kernels release the GIL.
        tables = total.compute(**({} if get_scheduler() else {"scheduler": "threads"}))
    return finish_graph(tables, grid_of(fragments), affinities.dtype)


def region_graph_bag(
    affinities: Volume, fragments: Volume, neighborhood: Sequence[Sequence[int]] | None = None
) -> db.Bag:
    """The tables of the blocks of a volume as a dask bag: the lazy half of `build_region_graph`.

    Parameters
    ----------
    affinities, fragments, neighborhood
        As for `build_region_graph`. The chunks of the fragments are the blocks.

    Returns
    -------
    dask.bag.Bag
        One `GraphTables` a block, each in a partition of its own.
    """
    return counted_bag(
        affinities, fragments, CountRegion(check_graph_input(affinities, fragments, neighborhood))
    )


def counted_bag(affinities: Volume, fragments: Volume, count: CountRegion) -> db.Bag:
    """The tables of the blocks that a way of counting gives; what is counted is checked."""
    depth = count.depth[3 - fragments.ndim :]
    return bag_regions(_FragmentsFirst(count), [fragments, affinities], [False, True], depth=depth)


@dataclass(frozen=True)
class _FragmentsFirst:
    count: CountRegion
    name = CountRegion.name

    def __call__(self, region: Region, fragments: Reader, affinities: Reader) -> GraphTables:
        return self.count(region, affinities, fragments)


def finish_graph(tables: GraphTables, grid: Grid, affinity_dtype: Any) -> RegionGraph:
    """The graph of a volume from the sum of the tables of all of its blocks."""
    edges = tables.edges
    if len(edges) and not edges.contacts.all():
        edges = edges.take(edges.contacts > 0)
    return RegionGraph(tables.nodes, edges, grid, quantisation_of(affinity_dtype).scale)


def check_graph_input(
    affinities: Volume, fragments: Volume, neighborhood: Sequence[Sequence[int]] | None
) -> tuple[tuple[int, int, int], ...]:
    """Check what `build_region_graph` was given; the neighborhood as offsets z, y, x."""
    check_labels(fragments, "fragments")
    check_array(affinities, "affinities")
    quantisation_of(affinities.dtype)
    check_axes(affinities, "affinities", channel=True)
    ndim = fragments.ndim
    if affinities.ndim != ndim + 1 or affinities.shape[1:] != fragments.shape:
        raise ValueError(
            f"Affinities of shape {affinities.shape} and fragments of shape {fragments.shape} do not match: "
            f"expected affinities of shape (channels, {', '.join(map(str, fragments.shape))})."
        )
    if isinstance(affinities, xr.DataArray) and isinstance(fragments, xr.DataArray):
        first = grid_of(affinities)
        with naming("fragments"):
            second = grid_of(fragments).in_units_of(first)
        places = [f"voxel size {g.voxel_size}, offset {g.offset} {g.units}" for g in (first, second)]
        if not first.begins_like(second):
            raise ValueError(
                f"Affinities ({places[0]}) and fragments ({places[1]}) do not lie in the same place."
            )
    with naming("affinities"):
        offsets = agreed(neighborhood, stated_by(affinities), len(affinities), ndim)
    direct_for(offsets, fragments.shape)
    return lifted(offsets)


def is_lazy(volume: Volume) -> bool:
    """Whether a volume is computed by dask when it is needed."""
    return isinstance(volume, da.Array) or (isinstance(volume, xr.DataArray) and volume.chunks is not None)
