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
``target``; those of nodes that are not there are left out. That is the layout of the collections that the
funkelab scripts read.
"""

import io
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from .. import files
from ..checks import naming, shown
from ..id_lists import are_in, comparable, whole_numbers_of
from .skeleton_units import stated_units
from .skeletons import Skeletons

#: Columns that may hold the skeleton of a node: the first that is there is taken.
SKELETON_COLUMNS = ("component_id", "skeleton_id", "neuron_id")

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
            masked = _whole(table, "id")[_truth(table, "masked")]
            skeletons = skeletons.take(are_in(skeletons.nodes, masked))
    if components is not None:
        table, source = _read_table(components)
        with naming(source):
            ids = _looked_up(skeletons.nodes, _whole(table, "id"), _whole(table, "component_id"))
            skeletons = skeletons.changed(skeletons=ids)
    if synapses is not None:
        table, source = _read_table(synapses, also="edges")
        with naming(source):
            names = ("source", "target") if "source" in table else ("id",)
            sites = np.concatenate(comparable(*(_whole(table, name) for name in names)))
            at_synapses = are_in(skeletons.nodes, sites)
            skeletons = skeletons.changed(synapses=at_synapses)
    step, stated = stated_units(path, swc) if units is None else (1.0, units)
    return skeletons.changed(positions=skeletons.positions * (scale * step), units=stated)


def _swc_files(path: str) -> list[str]:
    if path.lower().endswith(".swc"):
        return [path]
    return [files.join(path, name) for name in files.names(path) if name.lower().endswith(".swc")]


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
        positions.append(points)
        edges.append(count + np.stack([children, rows], axis=1))
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
            rows.append((_whole_number(sample), (float(z), float(y), float(x)), _whole_number(parent)))
        except ValueError:
            raise ValueError(
                f"line {number}: found {shown(line)}, expected id, type, x, y, z, radius and parent"
            ) from None
    if not rows:
        raise ValueError("found no sample, expected lines of id, type, x, y, z, radius and parent")
    ids, positions, parents = zip(*rows, strict=True)
    return whole_numbers_of(ids), np.array(positions), whole_numbers_of(parents)


def _whole_number(text: str) -> int:
    """A whole number that may be written as 7.0; ValueError for anything else."""
    try:
        return int(text)
    except ValueError:
        number = float(text)
    if abs(number) >= 2**53 or number != int(number):
        raise ValueError(f"found {text}, expected a whole number")
    return int(number)


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
                pq.read_table(io.BytesIO(content))
                if path.endswith(".parquet")
                else pa_csv.read_csv(io.BytesIO(content))
            )
        except (pa.ArrowException, OSError) as error:
            raise ValueError(f"not a readable table ({error})") from error
        return {name: table[name].to_numpy() for name in table.column_names}


def _parse_json(content: bytes) -> Any:
    """A JSON value, or the list of those on the lines of a file."""
    text = content.decode("utf-8", "replace")
    try:
        return json.loads(text)
    except json.JSONDecodeError as whole:
        lines = [line for line in text.splitlines() if line.strip()]
        try:
            return [json.loads(line) for line in lines]
        except json.JSONDecodeError:
            raise ValueError(f"line {whole.lineno}, column {whole.colno}: {whole.msg}") from None


def _columns(documents: Sequence[Any]) -> Columns:
    """Documents as columns, of the keys that are in all of them and hold numbers."""
    if not documents:
        return {}
    if not all(isinstance(document, dict) for document in documents):
        wrong = next(document for document in documents if not isinstance(document, dict))
        raise ValueError(f"found {shown(wrong)}, expected documents with keys and values")
    columns: Columns = {}
    for key in documents[0]:
        values = [_plain(document.get(key)) for document in documents]
        if all(type(value) is int for value in values):
            columns[key] = whole_numbers_of(values)
        elif all(isinstance(value, int | float) for value in values):
            columns[key] = np.array(values)
    return columns


def _plain(value: Any) -> Any:
    """A number of extended JSON, such as {"$numberLong": "7"}, as a number."""
    if isinstance(value, dict) and len(value) == 1:
        ((kind, text),) = value.items()
        if kind in ("$numberLong", "$numberInt"):
            return int(text)
        if kind == "$numberDouble":
            return float(text)
    return value


def _from_columns(nodes: Columns, edges: Columns) -> Skeletons:
    axes = [axis for axis in ("z", "y", "x") if axis in nodes]
    missing = [name for name in ("id", "y", "x") if name not in nodes]
    if missing:
        raise ValueError(
            f"nodes have the columns {', '.join(nodes) or 'none'}, expected also {', '.join(missing)}"
        )
    ids = _whole(nodes, "id")
    column = next((name for name in SKELETON_COLUMNS if name in nodes), None)
    ends = [_whole(edges, name) if edges else np.empty(0, np.int64) for name in ("source", "target")]
    there = are_in(ends[0], ids) & are_in(ends[1], ids)
    skeletons = Skeletons(
        np.stack([np.asarray(nodes[axis], np.float64) for axis in axes], axis=1),
        np.stack([_looked_up(end[there], ids, np.arange(len(ids))) for end in ends], axis=1),
        _whole(nodes, column) if column else np.empty(0, np.int64),
        ids,
    )
    return skeletons.take(_truth(nodes, "masked")) if "masked" in nodes else skeletons


def _whole(table: Columns, name: str) -> np.ndarray:
    """A column of whole numbers, which floats are only as far as they are exact."""
    if name not in table:
        raise ValueError(f"found the columns {', '.join(table) or 'none'}, expected also {name}")
    values = np.asarray(table[name])
    if values.dtype.kind == "f" and (values == np.round(values)).all():
        if np.abs(values).max(initial=0) >= 2**53:
            raise ValueError(
                f"column {name} holds {values.dtype} up to {np.abs(values).max():.17g}, where floats are not "
                "exact: expected integers"
            )
        values = values.astype(np.int64)
    if values.dtype.kind not in "iu":
        raise ValueError(f"column {name} holds {values.dtype}, expected whole numbers")
    return values


def _truth(table: Columns, name: str) -> np.ndarray:
    """A column that says yes or no: booleans, or numbers of which 0 is no."""
    if name not in table:
        raise ValueError(f"found the columns {', '.join(table) or 'none'}, expected also {name}")
    values = np.asarray(table[name])
    if values.dtype.kind not in "biu":
        raise ValueError(f"column {name} holds {values.dtype}, expected true and false")
    return values.astype(bool)


def _looked_up(wanted: np.ndarray, ids: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The value of each wanted id; ValueError where there is none."""
    wanted, ids = comparable(wanted, ids)
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
