"""Corrections by people: pairs of fragments that belong together, or do not, whatever the merge tree says.

A *must-link* is a merge: both fragments are of one segment. A *cannot-link* is a split: they are not. They
are kept as a small table beside the region graph and are honoured by `MergeTree.cut`, so that they outlive
another threshold, another merge function and a graph that is counted anew.

What a cut with edits is
------------------------
Fragments that must be linked are joined first. Then the merges of the tree with scores up to the threshold
are made, best score first (of equal scores that of the component with the larger name), except each that
would bring two fragments together that cannot be linked. This is Kruskal's algorithm with constraints, as in
the mutex watershed [1]_, over the merges of the tree. For a single cannot-link it undoes one merge: the worst
on the tree's path between the two fragments. Nothing depends on the order in which edits were made. A
segment's id is the smallest fragment id in it, as ever.

References
----------
.. [1] S. Wolf et al., "The mutex watershed and its objective: efficient, parameter-free graph partitioning",
   IEEE TPAMI 43(10), 2021. https://doi.org/10.1109/TPAMI.2020.2980827
"""

import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from os import PathLike, fspath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv

from ..checks.arguments import described, naming, shown
from ..checks.id_lists import LARGEST, id_of, ids_of
from ..kernels.segmentation import agglomeration as kernels
from ..storage import files, parquet

#: Name of the table beside the region graph.
FILE_NAME = "edits.parquet"

MUST_LINK, CANNOT_LINK = "must-link", "cannot-link"

type Pair = tuple[int, int]


@dataclass(frozen=True)
class Edits:
    """Pairs of fragment ids that must, and that cannot, be of one segment.

    Parameters
    ----------
    must_link, cannot_link : iterable of (int, int), optional
        The pairs; which of the two is named first, and how often, makes no difference.

    Raises
    ------
    TypeError
        If something else than pairs of whole numbers is given.
    ValueError
        If an id is not in 1 to 2**64 - 1, if a fragment is paired with itself, or if must-links join two
        fragments that cannot be linked: the message says over which fragments.

    Examples
    --------
    >>> edits = Edits(must_link=[(9, 5)]).with_pairs(cannot_link=[(3, 5)])
    >>> edits.must_link, edits.cannot_link
    (((5, 9),), ((3, 5),))
    """

    must_link: tuple[Pair, ...] = ()
    cannot_link: tuple[Pair, ...] = ()

    def __post_init__(self) -> None:
        for kind, name in ((MUST_LINK, "must_link"), (CANNOT_LINK, "cannot_link")):
            object.__setattr__(self, name, tuple(sorted({_pair(p, kind) for p in getattr(self, name)})))
        if not self.must_link:
            return
        # Late: importing it takes longer than most workers ever need of this module.
        import networkx as nx

        linked = nx.Graph(self.must_link)
        group_of = {i: n for n, group in enumerate(nx.connected_components(linked)) for i in group}
        for u, v in self.cannot_link:
            if group_of.get(u, -1) == group_of.get(v, -2):
                path = " - ".join(map(str, nx.shortest_path(linked, u, v)))
                raise ValueError(
                    f"fragments {u} and {v} cannot be linked, but must-links join them ({path}): take back "
                    "one of these edits"
                )

    def __len__(self) -> int:
        return len(self.must_link) + len(self.cannot_link)

    @property
    def fragments(self) -> np.ndarray:
        """All fragments that are named, uint64, ascending."""
        return np.array(sorted({i for pair in (*self.must_link, *self.cannot_link) for i in pair}), np.uint64)

    @property
    def digest(self) -> str:
        """Digest of all pairs: equal edits have the same."""
        return hashlib.blake2b(repr((self.must_link, self.cannot_link)).encode(), digest_size=12).hexdigest()

    def with_pairs(self, must_link: Iterable[Pair] = (), cannot_link: Iterable[Pair] = ()) -> "Edits":
        """These edits and more; errors as of `Edits`."""
        return Edits((*self.must_link, *must_link), (*self.cannot_link, *cannot_link))

    def without(self, *pairs: Pair) -> "Edits":
        """These edits without some pairs, of whichever kind.

        Raises
        ------
        KeyError
            If a pair is not among them.

        Examples
        --------
        >>> Edits(must_link=[(5, 9), (5, 7)]).without((9, 5)).must_link
        ((5, 7),)
        """
        gone = {_pair(pair, "edit") for pair in pairs}
        missing = gone.difference(self.must_link, self.cannot_link)
        if missing:
            raise KeyError(f"There is no edit of the fragments {sorted(missing)[0]} among {len(self)} edits.")
        return Edits(
            tuple(p for p in self.must_link if p not in gone),
            tuple(p for p in self.cannot_link if p not in gone),
        )

    def moved(self, now: Mapping[int, int]) -> "Edits":
        """These edits for fragments that were made anew.

        Parameters
        ----------
        now : mapping of int to int
            For each fragment that is named, the one that is in its place now. As an id is the address of a
            voxel of its fragment (`lsd_dask.segmentation.ids.decode`), that is the fragment which holds this
            voxel now.

        Returns
        -------
        Edits
            Without must-links of what is one fragment now.

        Raises
        ------
        ValueError
            If one is background now, or two that cannot be linked are one fragment.

        Examples
        --------
        >>> Edits(must_link=[(3, 5), (3, 9)]).moved({3: 3, 5: 3, 9: 10})
        Edits(must_link=((3, 10),), cannot_link=())
        """
        gone = [fragment for fragment in self.fragments.tolist() if not now.get(fragment)]
        if gone:
            raise ValueError(f"the places of {len(gone)} fragments are background now, such as {gone[0]}")
        must, cannot = (
            [(id_of(now[u], "now"), id_of(now[v], "now")) for u, v in pairs]
            for pairs in (self.must_link, self.cannot_link)
        )
        for (u, v), (first, second) in zip(self.cannot_link, cannot, strict=True):
            if first == second:
                raise ValueError(f"fragments {u} and {v} cannot be linked, but are one fragment now, {first}")
        return Edits(tuple(pair for pair in must if pair[0] != pair[1]), tuple(cannot))

    def write(self, path: str | PathLike[str]) -> None:
        """Write the table: ``u``, ``v`` (uint64) and ``kind``; Parquet, or CSV if the name ends in ``.csv``.

        Parameters
        ----------
        path : str or PathLike
            Path or URL.
        """
        pairs = (*self.must_link, *self.cannot_link)
        columns = {
            "u": np.array([u for u, _ in pairs], np.uint64),
            "v": np.array([v for _, v in pairs], np.uint64),
            "kind": pa.array([MUST_LINK] * len(self.must_link) + [CANNOT_LINK] * len(self.cannot_link)),
        }
        path = fspath(path)
        if path.lower().endswith(".csv"):
            buffer = io.BytesIO()
            pyarrow.csv.write_csv(pa.table(columns), buffer)
            files.write_bytes(path, buffer.getvalue())
        else:
            parquet.write_table(path, columns, {"of": fragments_beside(path)})

    @classmethod
    def read(cls, path: str | PathLike[str]) -> "Edits":
        """Read what `write` wrote, or a table of the same columns that was made elsewhere.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If the table is damaged, lacks a column or has kinds other than must-link and cannot-link, or the
            edits contradict each other.
        """
        path = fspath(path)
        with naming(path):
            table = _read_csv(path) if path.lower().endswith(".csv") else _read_parquet(path)
            kinds = table["kind"].to_pylist()
            unknown = [kind for kind in kinds if kind not in (MUST_LINK, CANNOT_LINK)]
            if unknown:
                raise ValueError(f"kind: found {unknown[0]!r}, expected {MUST_LINK!r} or {CANNOT_LINK!r}")
            rows = list(zip(table["u"].to_pylist(), table["v"].to_pylist(), kinds, strict=True))
            return cls(
                tuple((u, v) for u, v, kind in rows if kind == MUST_LINK),
                tuple((u, v) for u, v, kind in rows if kind == CANNOT_LINK),
            )


def fragments_beside(path: str) -> str | None:
    """Name of the run that made the fragments whose region graph lies beside a table, where that is known."""
    nodes = files.join(path.rpartition("/")[0] or ".", "nodes.parquet")
    if not files.is_file(nodes):
        return None
    made_of = parquet.facts_of(nodes).get("mark", {}).get("made_of", {})
    run = made_of.get("fragments", {}).get("run")
    return None if run is None else str(run)


def append_edits(
    path: str | PathLike[str], *, must_link: Iterable[Pair] = (), cannot_link: Iterable[Pair] = ()
) -> Edits:
    """Add edits to a table, which is made where there is none; to be called by one process at a time.

    Parameters
    ----------
    path : str or PathLike
        Of the table, Parquet or CSV. Beside a region graph (``out.zarr/rag/edits.parquet``) the steps of a
        workflow find it by themselves.
    must_link, cannot_link : iterable of (int, int), optional
        Pairs of fragment ids.

    Returns
    -------
    Edits
        All edits of the table.

    Raises
    ------
    TypeError, ValueError
        As of `Edits` and of `Edits.read`; the table is unchanged then.

    Examples
    --------
    >>> _ = append_edits("memory://doc.zarr/rag/edits.parquet", must_link=[(3, 9)])
    >>> append_edits("memory://doc.zarr/rag/edits.parquet", cannot_link=[(3, 5)])
    Edits(must_link=((3, 9),), cannot_link=((3, 5),))
    """
    path = fspath(path)
    edits = Edits.read(path) if files.is_file(path) else Edits()
    with naming(path):
        edits = edits.with_pairs(must_link, cannot_link)
    edits.write(path)
    return edits


def as_edits(edits: Edits | str | PathLike[str]) -> Edits:
    """Edits as they are, or those of a table.

    Raises
    ------
    TypeError
        For anything else.
    FileNotFoundError, ValueError
        As of `Edits.read`.
    """
    if isinstance(edits, Edits):
        return edits
    if isinstance(edits, str | PathLike):
        return Edits.read(edits)
    raise TypeError(f"edits: found {described(edits)}, expected Edits or the path of a table of them")


def cut_with_edits(
    fragments: np.ndarray, parents: np.ndarray, levels: np.ndarray, level: int, edits: Edits
) -> np.ndarray:
    """Segment of every fragment when the merges up to a level are made, as far as edits allow.

    Parameters
    ----------
    fragments : (n,) ndarray of uint64
        Ids, ascending.
    parents, levels : (n,) ndarray of int64
        As of `lsd_dask.MergeTree`.
    level : int
        The highest level that is merged; -1 for none.
    edits : Edits

    Returns
    -------
    (n,) ndarray of uint64
        Segment ids: the smallest fragment id of each segment.

    Raises
    ------
    ValueError
        If edits name fragments that are not in the tree.

    Notes
    -----
    Only merges on the paths from the named fragments to their roots can be refused, so that the cost of edits
    depends on these, beside one pass over all fragments. A component that none of them is in joins its parent
    as it would without edits.

    Examples
    --------
    A chain of merges, 3 - 5 - 9, of which 5 - 9 has the worse score:

    >>> ids_, parents = np.array([3, 5, 9], np.uint64), np.array([0, 0, 1])
    >>> cut_with_edits(ids_, parents, np.array([256, 60, 50]), 100, Edits(cannot_link=[(3, 9)]))
    array([3, 5, 5], dtype=uint64)
    """
    fragments = ids_of(fragments, "fragments")
    rows = rows_of(edits, fragments)
    row_of = dict(zip(edits.fragments.tolist(), rows.tolist(), strict=True))
    components = _Components([(row_of[u], row_of[v]) for u, v in edits.cannot_link])
    for u, v in edits.must_link:
        components.join(row_of[u], row_of[v])
    allowed = np.array(levels)
    for row in _by_score(_paths(rows, parents, levels, level), levels):
        if not components.join(row, int(parents[row])):
            allowed[row] = kernels.LEVELS
    segments = kernels.cut(fragments, parents, allowed, level)
    return _with_must_links(segments, [(row_of[u], row_of[v]) for u, v in edits.must_link])


def rows_of(edits: Edits, fragments: np.ndarray) -> np.ndarray:
    """Rows of the fragments that edits name.

    Parameters
    ----------
    edits : Edits
    fragments : (n,) ndarray of uint64
        Ids, ascending.

    Returns
    -------
    ndarray of int64
        One for each of ``edits.fragments``.

    Raises
    ------
    ValueError
        If one is not there.
    """
    named, fragments = edits.fragments, ids_of(fragments, "fragments")
    rows = np.searchsorted(fragments, named)
    known = np.isin(named, fragments[rows[rows < len(fragments)]])
    if not known.all():
        raise ValueError(
            f"edits name {np.count_nonzero(~known)} fragments that are not in the merge tree, such as "
            f"{named[~known][0]}; were the fragments made anew? Edits.moved takes edits to other fragments"
        )
    return rows


class _Components:
    """Rows that were joined so far, and which of them must stay apart."""

    def __init__(self, apart: Iterable[Pair]) -> None:
        self._above: dict[int, int] = {}
        self._enemies: dict[int, set[int]] = {}
        for a, b in apart:
            self._enemies.setdefault(a, set()).add(b)
            self._enemies.setdefault(b, set()).add(a)

    def find(self, row: int) -> int:
        """The row that names the component of a row."""
        root = row
        while (above := self._above.get(root, root)) != root:
            root = above
        while row != root:
            self._above[row], row = root, self._above[row]
        return root

    def join(self, a: int, b: int) -> bool:
        """Join the components of two rows, unless they must stay apart: then False."""
        a, b = self.find(a), self.find(b)
        if a == b:
            return True
        ours, theirs = self._enemies.get(a, set()), self._enemies.get(b, set())
        if len(ours) > len(theirs):
            a, b, ours, theirs = b, a, theirs, ours
        if any(self.find(enemy) == b for enemy in ours):
            return False
        self._above[a] = b
        if ours:
            self._enemies[b] = theirs
            theirs |= ours
        return True


def _paths(rows: np.ndarray, parents: np.ndarray, levels: np.ndarray, level: int) -> np.ndarray:
    """All rows from some up to their roots whose merges are up to a level."""
    seen: set[int] = set()
    for start in rows.tolist():
        row = start
        while levels[row] <= level and row not in seen:
            seen.add(row)
            row = int(parents[row])
    return np.array(sorted(seen), np.int64)


def _by_score(rows: np.ndarray, levels: np.ndarray) -> Iterator[int]:
    """Rows in the order of their merges: a component loses its name after those that joined it."""
    yield from rows[np.lexsort((-rows, levels[rows]))].tolist()


def _with_must_links(segments: np.ndarray, linked: Iterable[Pair]) -> np.ndarray:
    """Segments of every row, those of linked rows being one."""
    import networkx as nx

    graph = nx.Graph([(int(segments[a]), int(segments[b])) for a, b in linked])
    smallest = {name: min(group) for group in nx.connected_components(graph) for name in group}
    if not smallest:
        return segments
    old = np.array(sorted(smallest), np.uint64)
    new = np.array([smallest[name] for name in old.tolist()], np.uint64)
    places = np.minimum(np.searchsorted(old, segments), len(old) - 1)
    return np.where(old[places] == segments, new[places], segments)


def _pair(pair: Any, kind: str) -> Pair:
    if not isinstance(pair, Iterable) or isinstance(pair, str | bytes) or len(found := list(pair)) != 2:
        raise TypeError(f"{kind}: found {shown(pair)}, expected a pair of fragment ids")
    if not all(isinstance(i, int | np.integer) and not isinstance(i, bool) for i in found):
        raise TypeError(f"{kind}: found {shown(pair)}, expected two whole numbers")
    u, v = sorted(map(int, found))
    if u < 1 or v > LARGEST:
        raise ValueError(f"{kind}: found the fragments {u} and {v}, expected ids from 1 to 2**64 - 1")
    if u == v:
        raise ValueError(f"{kind}: found fragment {u} paired with itself, expected two fragments")
    return u, v


def _read_parquet(path: str) -> pa.Table:
    table, _ = parquet.read_table(path, "u", "v")
    if "kind" not in table.column_names:
        raise ValueError(f"found the columns {', '.join(table.column_names)}, expected also kind")
    return table


def _read_csv(path: str) -> pa.Table:
    types = {"u": pa.uint64(), "v": pa.uint64(), "kind": pa.string()}
    options = pyarrow.csv.ConvertOptions(column_types=types, include_columns=list(types))
    try:
        return pyarrow.csv.read_csv(io.BytesIO(files.read_bytes(path)), convert_options=options)
    except (pa.ArrowInvalid, KeyError) as error:
        raise ValueError(f"{path}: no table of edits with the columns u, v, kind ({error})") from error
