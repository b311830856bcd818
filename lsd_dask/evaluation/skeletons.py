"""Skeletons: what annotators trace, as nodes with positions and edges between them."""

import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import networkx as nx
import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ..checks.arguments import described, naming, shown
from ..checks.id_lists import whole_numbers_of
from ..space.grids import Grid
from ..space.lengths import convert


@dataclass(frozen=True, eq=False)
class Skeletons:
    """Skeletons of a volume.

    Attributes
    ----------
    positions
        float64, ``(n, 3)`` z, y, x or ``(n, 2)`` y, x, of the nodes, in world units.
    edges
        int64, ``(m, 2)``, rows of the nodes that each edge joins; both are of one skeleton. Edges have no
        direction: one that is given both ways, or several times, is one; none joins a node to itself.
    skeletons
        int64, ``(n,)``, the skeleton of each node; by default each connected component is one, from 1 on,
        also of what `take` leaves.
    nodes
        ``(n,)``, ids of the nodes, each one once; by default 0, 1, ...
    synapses
        bool, ``(n,)``, whether a node is at a synapse; by default no node is.
    units
        Of the positions; by default those of the volume that they are compared with.
    by_component
        Whether skeletons are connected components because none were given.

    Raises
    ------
    ValueError
        If shapes do not fit, a position is not finite, an edge names a node that is not there or joins two
        skeletons, or an id of a node occurs twice.

    Examples
    --------
    >>> Skeletons([[0, 0, 0], [0, 3, 4], [0, 9, 9]], [[0, 1]]).lengths
    {1: 5.0, 2: 0.0}
    """

    positions: np.ndarray
    edges: np.ndarray
    skeletons: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    nodes: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    synapses: np.ndarray = field(default_factory=lambda: np.empty(0, bool))
    units: str | None = None
    by_component: bool = field(init=False)

    def __post_init__(self) -> None:
        positions = np.asarray(self.positions, np.float64)
        if positions.ndim != 2 or positions.shape[1] not in (2, 3):
            raise ValueError(f"positions: found shape {positions.shape}, expected (n, 3) or (n, 2)")
        count = len(positions)
        if not np.isfinite(positions).all():
            row = int(np.flatnonzero(~np.isfinite(positions).all(axis=1))[0])
            raise ValueError(
                f"positions: found {positions[row].tolist()} in row {row}, expected finite numbers"
            )
        edges = _edges(self.edges, count)
        skeletons = np.asarray(self.skeletons)
        object.__setattr__(self, "by_component", not skeletons.size)
        if not skeletons.size:
            skeletons = 1 + _components(count, edges)
        nodes = np.asarray(self.nodes)
        nodes = nodes if nodes.size else np.arange(count)
        synapses = np.asarray(self.synapses)
        synapses = synapses if synapses.size else np.zeros(count, bool)
        for name, column, kinds in (
            ("skeletons", skeletons, "iu"),
            ("nodes", nodes, "iu"),
            ("synapses", synapses, "b"),
        ):
            if column.shape != (count,) or column.dtype.kind not in kinds:
                expected = "booleans" if kinds == "b" else "whole numbers"
                raise ValueError(
                    f"{name}: found {column.dtype} of shape {column.shape}, expected {expected} of shape "
                    f"({count},), one a node"
                )
        if len(np.unique(nodes)) < count:
            ids, found = np.unique(nodes, return_counts=True)
            raise ValueError(f"nodes: {ids[found > 1][0]} occurs more than once")
        across = np.flatnonzero(skeletons[edges[:, 0]] != skeletons[edges[:, 1]])
        if across.size:
            u, v = edges[across[0]]
            raise ValueError(
                f"edges: found one between nodes {nodes[u]} of skeleton {skeletons[u]} and {nodes[v]} of "
                f"skeleton {skeletons[v]}, expected edges within skeletons"
            )
        if skeletons.max(initial=0) > np.iinfo(np.int64).max:
            raise ValueError(f"skeletons: found the id {skeletons.max()}, expected at most 2**63 - 1")
        columns = (positions, edges, skeletons.astype(np.int64, copy=False), nodes, synapses)
        for name, column in zip(_COLUMNS, columns, strict=True):
            object.__setattr__(self, name, column)

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def edge_lengths(self) -> np.ndarray:
        """Length of each edge in world units, float64, ``(m,)``."""
        ends = self.positions[self.edges]
        return np.sqrt(((ends[:, 1] - ends[:, 0]) ** 2).sum(axis=1))

    @property
    def lengths(self) -> dict[int, float]:
        """Length of each skeleton in world units, by its id."""
        ids, rows = np.unique(self.skeletons, return_inverse=True)
        sums = np.bincount(rows[self.edges[:, 0]], self.edge_lengths, minlength=len(ids))
        return dict(zip(ids.tolist(), sums.tolist(), strict=True))

    def take(self, kept: ArrayLike) -> "Skeletons":
        """Some of the nodes, and the edges between them.

        Parameters
        ----------
        kept : (n,) array_like of bool
        """
        chosen = np.asarray(kept, bool)
        rows = np.cumsum(chosen) - 1
        edges = self.edges[chosen[self.edges].all(axis=1)]
        return Skeletons(
            self.positions[chosen],
            rows[edges],
            self.skeletons[:0] if self.by_component else self.skeletons[chosen],
            self.nodes[chosen],
            self.synapses[chosen],
            self.units,
        )

    def changed(self, **columns: Any) -> "Skeletons":
        """The same with other columns, such as ``synapses``.

        Examples
        --------
        >>> Skeletons([[0, 0], [1, 1]], [[0, 1]]).changed(positions=np.array([[0, 0], [3, 4]])).lengths
        {1: 5.0}
        """
        kept: dict[str, Any] = {name: getattr(self, name) for name in (*_COLUMNS, "units")}
        if self.by_component:
            kept.pop("skeletons")
        return Skeletons(**{**kept, **columns})

    def in_units_of(self, grid: Grid) -> "Skeletons":
        """The same with positions in the units of a volume; ValueError if the units cannot be compared."""
        if self.units is None:
            return self.changed(units=grid.units)
        return self.changed(positions=convert(self.positions, self.units, grid.units), units=grid.units)

    def inside(self, grid: Grid) -> np.ndarray:
        """Which nodes lie in the box of a volume, bool, ``(n,)``; its upper faces do not belong to it.

        Raises
        ------
        ValueError
            If nodes and volume have different numbers of axes.
        """
        if self.positions.shape[1] != grid.ndim:
            raise ValueError(
                f"skeletons have {self.positions.shape[1]} axes, the volume has {grid.ndim} "
                f"({', '.join(grid.dims)}): expected the same"
            )
        positions = self.in_units_of(grid).positions
        inside: np.ndarray = ((positions >= np.array(grid.offset)) & (positions < np.array(grid.end))).all(
            axis=1
        )
        return inside

    @classmethod
    def from_networkx(
        cls,
        graph: nx.Graph,
        *,
        skeleton_id_attribute: str | None = None,
        position_attributes: tuple[str, ...] = ("z", "y", "x"),
    ) -> "Skeletons":
        """Skeletons of a graph, such as ``funlib.evaluate`` takes.

        Parameters
        ----------
        graph : networkx.Graph
            Its nodes have a position in world units.
        skeleton_id_attribute : str, optional
            Attribute of the nodes with the id of their skeleton. Without it, each connected component is one.
        position_attributes : tuple of str
            Attributes of the nodes with their position along each axis; or the one attribute that has it for
            all axes.

        Raises
        ------
        ValueError
            If a node lacks an attribute.

        Notes
        -----
        Rows are in the order of the graph's nodes. Where these are not whole numbers, they are numbered. Of a
        graph with directed or parallel edges, each pair of nodes has one edge.
        """
        rows: dict[Hashable, int] = {node: row for row, node in enumerate(graph)}
        positions: list[np.ndarray] = []
        ids: list[Any] = []
        for node, attributes in graph.nodes(data=True):
            wanted = [*position_attributes, *([skeleton_id_attribute] if skeleton_id_attribute else [])]
            missing = [name for name in wanted if name not in attributes]
            if missing:
                found = ", ".join(map(str, attributes)) or "none"
                raise ValueError(
                    f"node {node!r}: found the attributes {found}, expected also {', '.join(missing)}"
                )
            position = [attributes[name] for name in position_attributes]
            with naming(f"node {node!r}"):
                found_at = np.array(position[0] if len(position) == 1 else position, float)
            if found_at.ndim != 1 or (positions and found_at.shape != positions[0].shape):
                raise ValueError(
                    f"node {node!r}: found the position {shown(position)}, expected a number an axis"
                )
            positions.append(found_at)
            if skeleton_id_attribute:
                ids.append(attributes[skeleton_id_attribute])
        numbered = all(isinstance(node, int | np.integer) and not isinstance(node, bool) for node in rows)
        return cls(
            np.stack(positions) if positions else np.empty((0, 3)),
            np.array([[rows[u], rows[v]] for u, v in graph.edges()], np.int64).reshape(-1, 2),
            whole_ids(str(skeleton_id_attribute), ids),
            whole_ids("nodes", list(rows)) if numbered else np.arange(len(rows)),
        )


def whole_ids(name: str, values: Sequence[Any]) -> np.ndarray:
    """Ids as int64, or uint64 where one needs it, exactly: none passes through a float.

    Whole numbers are also taken as text, and as floats below 2**53; ValueError for anything else, which names
    the row.

    Examples
    --------
    >>> whole_ids("id", [2**63 + 1, np.int64(7), "9007199254740993", 4.0])
    array([9223372036854775809,                   7,    9007199254740993,
                             4], dtype=uint64)
    """
    numbers = [_whole_id(name, row, value) for row, value in enumerate(values)]
    least, most = min(numbers, default=0), max(numbers, default=0)
    if least < -(2**63) or most >= 2**64 or (least < 0 and most >= 2**63):
        raise ValueError(f"{name}: found ids from {least} to {most}, expected ids that fit into 64 bits")
    return whole_numbers_of(numbers)


def _whole_id(name: str, row: int, value: Any) -> int:
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return int(value)
    if isinstance(value, str) and re.fullmatch(r"\s*[-+]?\d+\s*", value):
        return int(value)
    try:
        number = float(value) if not isinstance(value, bool) else float("nan")
    except (TypeError, ValueError):
        number = float("nan")
    if not number.is_integer() or abs(number) >= 2**53:
        raise ValueError(f"{name}: found {shown(value)} in row {row}, expected whole numbers, none rounded")
    return int(number)


_COLUMNS = ("positions", "edges", "skeletons", "nodes", "synapses")


def as_skeletons(skeletons: Any, skeleton_id_attribute: str | None = None) -> Skeletons:
    """Skeletons given as such or as a networkx graph; TypeError for anything else."""
    if isinstance(skeletons, Skeletons):
        return skeletons
    if isinstance(skeletons, nx.Graph):
        return Skeletons.from_networkx(skeletons, skeleton_id_attribute=skeleton_id_attribute)
    raise TypeError(f"skeletons: found {described(skeletons)}, expected Skeletons or a networkx graph")


def _edges(edges: ArrayLike, count: int) -> np.ndarray:
    found = np.asarray(edges)
    if not found.size:
        return np.empty((0, 2), np.int64)
    if found.ndim != 2 or found.shape[1] != 2 or found.dtype.kind not in "iu":
        raise ValueError(f"edges: found {found.dtype} of shape {found.shape}, expected rows of nodes, (m, 2)")
    if found.min() < 0 or found.max() >= count:
        wrong = found[((found < 0) | (found >= count)).any(axis=1)][0]
        raise ValueError(
            f"edges: found {wrong.tolist()}, expected rows of the {count} nodes, from 0 to {count - 1}"
        )
    ends = np.sort(found.astype(np.int64, copy=False), axis=1)
    _, first = np.unique(ends, axis=0, return_index=True)
    kept = np.sort(first)
    once: np.ndarray = found[kept[ends[kept, 0] != ends[kept, 1]]].astype(np.int64, copy=False)
    return once


def _components(count: int, edges: np.ndarray) -> np.ndarray:
    """Number of each node's connected component, numbered as they first occur."""
    graph = coo_array((np.ones(len(edges), bool), (edges[:, 0], edges[:, 1])), shape=(count, count))
    found = connected_components(graph, directed=False)[1] if count else np.empty(0)
    return np.asarray(found, np.int64)
