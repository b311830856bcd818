"""Reading skeletons: SWC, JSON documents, and tables of nodes and edges in Parquet or CSV.

================================== ====================================================================
``x.swc``, a folder of such files  one skeleton a file; SWC has x, y, z
``x.json``                         ``{"nodes": [...], "edges": [...]}``, also as networkx writes it
``x`` for ``x.nodes.*``,           two tables; ``*`` is ``parquet``, ``csv`` or ``json`` (a list of documents,
``x.edges.*``                      or one a line, as ``mongoexport`` writes them)
a folder with ``nodes.*``,         the same
``edges.*``
================================== ====================================================================

Nodes have ``id``, ``z``, ``y``, ``x`` in world units, and may have ``masked`` (only true ones are read) and
the id of their skeleton: ``component_id``, ``skeleton_id`` or ``neuron_id``. Edges have ``source`` and
``target``, in either order; those of nodes that are not there are left out. That is the layout of the
collections that the funkelab scripts read. What some nodes have, all need to have, and each id is there once.
"""

import io
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from ..checks.arguments import naming, shown
from ..checks.id_lists import are_in, comparable
from ..storage import files
from ..storage.parquet import table_in
from .skeleton_units import stated_units
from .skeletons import Skeletons, whole_ids

#: Columns that may hold the skeleton of a node: the first that is there is taken.
SKELETON_COLUMNS = ("component_id", "skeleton_id", "neuron_id")

#: Columns that hold ids, and those that hold positions; with ``masked``, all that are read.
_IDS = ("id", "source", "target", *SKELETON_COLUMNS)
_AXES = ("z", "y", "x")

_ENDINGS = ("parquet", "csv", "json")

type Columns = dict[str, np.ndarray]


def read_skeletons(
    path: str,
    *,
    components: str | None = None,
    mask: str | None = None,
    synapses: str | None = None,
    scale: float = 1.0,
    units: str | None = None,
) -> Skeletons:
    """Read skeletons from any of the formats of this module.

    Parameters
    ----------
    path : str
        Of a file or folder, or the path of two tables up to ``.nodes``; may be a URL.
    components : str, optional
        Path of a table (the ending may be left out) with ``id`` and ``component_id`` of nodes, which take the
        place of the skeletons that the nodes name themselves.
    mask : str, optional
        Path of a table with ``id`` and ``masked``: only nodes for which it says true are read.
    synapses : str, optional
        Path of a table of the nodes at synapses: either their ``id``, or edges between them, ``source`` and
        ``target`` (as ``<path>.edges.*``, too).
    scale : float
        Factor that positions are multiplied by.
    units : str, optional
        That they are then in, such as "um". By default those that the file states, if it does; else those of
        the volume that they are compared with.

    Returns
    -------
    Skeletons
        Nodes that are not read take their edges with them.

    Raises
    ------
    FileNotFoundError
        If there is nothing of that name.
    ValueError
        If a file cannot be read, lacks a column, or its content does not fit; the message names the file.
    """
    swc = _swc_files(path)
    if swc:
        skeletons = _read_swc(swc)
    else:
        nodes, edges, source = _read_nodes_and_edges(path)
        with naming(source):
            skeletons = _from_columns(nodes, edges)
    if mask is not None:
        table, source = _read_table(mask)
        with naming(source):
            ids, wanted = _once(_column(table, "id")), _column(table, "masked")
            skeletons = skeletons.take(are_in(skeletons.nodes, ids[wanted]))
    if components is not None:
        table, source = _read_table(components)
        with naming(source):
            ids = _looked_up(skeletons.nodes, _column(table, "id"), _column(table, "component_id"))
            skeletons = skeletons.changed(skeletons=ids)
    if synapses is not None:
        table, source = _read_table(synapses, also="edges")
        with naming(source):
            names = ("source", "target") if "source" in table else ("id",)
            at_synapses = [are_in(skeletons.nodes, _column(table, name)) for name in names]
            skeletons = skeletons.changed(synapses=np.logical_or.reduce(at_synapses))
    step, stated = stated_units(path, swc) if units is None else (1.0, units)
    return skeletons.changed(positions=skeletons.positions * (scale * step), units=stated)


def _swc_files(path: str) -> list[str]:
    if path.lower().endswith(".swc"):
        return [path]
    # Hidden files, such as the ._a.swc of some systems, are none.
    names = (name for name in files.names(path) if not name.startswith("."))
    return [files.join(path, name) for name in names if name.lower().endswith(".swc")]


def _read_swc(paths: Sequence[str]) -> Skeletons:
    """One skeleton a file, numbered from 1 on; nodes are numbered over all files."""
    positions: list[np.ndarray] = []
    edges: list[np.ndarray] = []
    skeletons: list[np.ndarray] = []
    count = 0
    for number, path in enumerate(paths, start=1):
        with naming(path):
            ids, points, parents = _swc_rows(files.read_bytes(path).decode("utf-8", "replace"))
            children = np.flatnonzero(parents >= 0)
            rows = _looked_up(parents[children], ids, np.arange(len(ids)))
            tree = Skeletons(points, np.stack([children, rows], axis=1))
            # A forest has one edge less than nodes, for each of its trees.
            if len(children) != len(ids) - len(np.unique(tree.skeletons)):
                raise ValueError("found parents that go in a circle, expected trees")
        positions.append(points)
        edges.append(count + tree.edges)
        skeletons.append(np.full(len(ids), number))
        count += len(ids)
    return Skeletons(np.concatenate(positions), np.concatenate(edges), np.concatenate(skeletons))


def _swc_rows(text: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ids, positions z, y, x, and parents (negative for none) of the samples of an SWC file."""
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split("#")[0].split()
        if not words:
            continue
        try:
            sample, _, x, y, z, _, parent = words[:7]
            rows.append((sample, (float(z), float(y), float(x)), parent))
        except ValueError:
            raise ValueError(
                f"line {number}: found {shown(line)}, expected id, type, x, y, z, radius and parent"
            ) from None
        if not np.isfinite(rows[-1][1]).all():
            raise ValueError(f"line {number}: found {shown(line)}, expected a position of finite numbers")
    if not rows:
        raise ValueError("found no sample, expected lines of id, type, x, y, z, radius and parent")
    samples, positions, parents = zip(*rows, strict=True)
    ids = whole_ids("id", samples)
    if ids.min() < 0:
        raise ValueError(f"found the id {ids.min()}, expected ids from 0 on, as a negative parent is none")
    return ids, np.array(positions), whole_ids("parent", parents)


def _read_nodes_and_edges(path: str) -> tuple[Columns, Columns, str]:
    """Columns of nodes and edges, and the file or files they come from."""
    if path.endswith(".json") and files.is_file(path):
        with naming(path):
            content = _parse_json(files.read_bytes(path))
            documents = content if isinstance(content, dict) else {}
            nodes, edges = documents.get("nodes"), documents.get("edges", documents.get("links", []))
            if isinstance(nodes, list) and isinstance(edges, list):
                return _columns(nodes), _columns(edges), path
            raise ValueError(f"found {shown(content)}, expected an object with the lists nodes and edges")
    tables = []
    for name in ("nodes", "edges"):
        found = [
            candidate
            for ending in _ENDINGS
            for candidate in (f"{path}.{name}.{ending}", files.join(path, f"{name}.{ending}"))
            if files.is_file(candidate)
        ]
        if not found:
            raise FileNotFoundError(
                f"{path}: found no skeletons there: no SWC file, no folder of these, no JSON file, neither "
                f"{path}.{name}.parquet nor {files.join(path, name)}.parquet (.csv, .json)"
            )
        tables.append((_read_columns(found[0]), found[0]))
    (nodes, first), (edges_table, second) = tables
    return nodes, edges_table, f"{first}, {second}"


def _read_table(path: str, also: str = "nodes") -> tuple[Columns, str]:
    """Columns of a table whose ending may be left out, and its path."""
    candidates = [path, *(f"{path}{kind}.{ending}" for kind in ("", f".{also}") for ending in _ENDINGS)]
    for candidate in candidates:
        if candidate.rpartition(".")[2] in _ENDINGS and files.is_file(candidate):
            return _read_columns(candidate), candidate
    raise FileNotFoundError(f"{path}: there is no such table, nor {', '.join(candidates[1:4])}")


def _read_columns(path: str) -> Columns:
    content = files.read_bytes(path)
    with naming(path):
        if path.endswith(".json"):
            documents = _parse_json(content)
            if not isinstance(documents, list):
                raise ValueError(f"found {shown(documents)}, expected a list of documents, or one a line")
            return _columns(documents)
        try:
            table: pa.Table = (
                table_in(content)
                if path.endswith(".parquet")
                # Ids as text: what is larger than int64 would be read as floats.
                else pa_csv.read_csv(
                    io.BytesIO(content),
                    convert_options=pa_csv.ConvertOptions(
                        column_types=dict.fromkeys(_IDS, pa.string()), strings_can_be_null=True
                    ),
                )
            )
        except (pa.ArrowException, OSError) as error:
            raise ValueError(f"not a readable table ({error})") from error
        names = [name for name in (*_IDS, *_AXES, "masked") if name in table.column_names]
        return {name: _values(name, _listed(table[name])) for name in names}


def _listed(column: pa.ChunkedArray) -> Any:
    """Values of a column; an array where none is missing and no text."""
    plain = column.null_count == 0 and (pa.types.is_integer(column.type) or pa.types.is_floating(column.type))
    return column.to_numpy() if plain else column.to_pylist()


def _parse_json(content: bytes) -> Any:
    """A JSON value, or the list of those on the lines of a file."""
    text = content.decode("utf-8", "replace")
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("found brackets nested thousands deep, expected nodes and edges") from None
    except json.JSONDecodeError as whole:
        lines = [line for line in text.splitlines() if line.strip()]
        try:
            return [json.loads(line) for line in lines]
        except json.JSONDecodeError:
            raise ValueError(f"line {whole.lineno}, column {whole.colno}: {whole.msg}") from None


def _columns(documents: Sequence[Any]) -> Columns:
    """Documents as columns, of the keys that are read and that any of them has."""
    if not all(isinstance(document, dict) for document in documents):
        wrong = next(document for document in documents if not isinstance(document, dict))
        raise ValueError(f"found {shown(wrong)}, expected documents with keys and values")
    keys = [key for key in (*_IDS, *_AXES, "masked") if any(key in document for document in documents)]
    return {key: _values(key, [_plain(document.get(key)) for document in documents]) for key in keys}


def _values(name: str, values: Any) -> np.ndarray:
    """A column as ids, positions or truth; ValueError, which names the row, where one is missing."""
    if isinstance(values, np.ndarray):
        if name in _AXES:
            return values.astype(np.float64)
        if values.dtype.kind in "iu":
            return values if name in _IDS else values.astype(bool)
        values = values.tolist()
    missing = next((row for row, value in enumerate(values) if value is None), None)
    if missing is not None:
        raise ValueError(f"{name}: found none in row {missing}, expected one in each row, or in none")
    if name in _IDS:
        return whole_ids(name, values)
    kinds: tuple[type, ...] = (int, float) if name in _AXES else (bool, int)
    for row, value in enumerate(values):
        if not isinstance(value, kinds) or (name in _AXES and isinstance(value, bool)):
            expected = "a number" if name in _AXES else "true or false"
            raise ValueError(f"{name}: found {shown(value)} in row {row}, expected {expected}")
    return np.array(values, np.float64 if name in _AXES else bool)


def _plain(value: Any) -> Any:
    """A number of extended JSON, such as {"$numberLong": "7"}, as a number."""
    if isinstance(value, dict) and len(value) == 1:
        ((kind, text),) = value.items()
        if not isinstance(text, str | int | float):
            return value
        if kind in ("$numberLong", "$numberInt"):
            return int(text)
        if kind == "$numberDouble":
            return float(text)
    return value


def _from_columns(nodes: Columns, edges: Columns) -> Skeletons:
    axes = [axis for axis in _AXES if axis in nodes]
    missing = [name for name in ("id", "y", "x") if name not in nodes]
    if missing:
        raise ValueError(
            f"nodes have the columns {', '.join(nodes) or 'none'}, expected also {', '.join(missing)}"
        )
    ids = nodes["id"]
    column = next((name for name in SKELETON_COLUMNS if name in nodes), None)
    ends = [_column(edges, name) if edges else np.empty(0, np.int64) for name in ("source", "target")]
    there = are_in(ends[0], ids) & are_in(ends[1], ids)
    skeletons = Skeletons(
        np.stack([nodes[axis] for axis in axes], axis=1),
        np.stack([_looked_up(end[there], ids, np.arange(len(ids))) for end in ends], axis=1),
        nodes[column] if column else np.empty(0, np.int64),
        ids,
    )
    return skeletons.take(nodes["masked"]) if "masked" in nodes else skeletons


def _column(table: Columns, name: str) -> np.ndarray:
    if name not in table:
        raise ValueError(f"found the columns {', '.join(table) or 'none'}, expected also {name}")
    return table[name]


def _once(ids: np.ndarray) -> np.ndarray:
    """Ids, each of which is there once; ValueError otherwise."""
    found, counts = np.unique(ids, return_counts=True)
    if len(found) < len(ids):
        raise ValueError(f"id: {found[counts > 1][0]} occurs more than once, expected each id once")
    return ids


def _looked_up(wanted: np.ndarray, ids: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The value of each wanted id; ValueError where there is none, or an id occurs twice."""
    wanted, ids = comparable(wanted, _once(ids))
    order = np.argsort(ids, kind="stable")
    rows = np.searchsorted(ids, wanted, sorter=order)
    there = rows < len(ids)
    there[there] = ids[order[rows[there]]] == wanted[there]
    if not there.all():
        missing = wanted[~there]
        others = f", and {len(missing) - 1} others" if len(missing) > 1 else ""
        raise ValueError(f"found nothing for node {missing[0]}{others}")
    found: np.ndarray = values[order[rows]]
    return found
