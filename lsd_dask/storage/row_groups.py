"""Row groups of sorted tables: the parts of a Parquet file that can be read alone.

As ids are addresses, a row group holds the fragments of some place, and the file's statistics say which ids
these are. So a table that is larger than memory can be sorted into one of several, and read in parts.
"""

import itertools
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..checks.id_lists import ids_of
from . import disks, files
from .parquet import encoding_of, opened, with_facts
from .stores import filesystem, is_remote, retried

#: Rows of a group of a table that is read in parts, and how many of these a process keeps.
ROWS, KEPT = 1 << 17, 32

#: Rows that are sorted at once when tables are merged, beside those that wait for others.
_SORTED = 1 << 18


@dataclass(frozen=True)
class RowGroup:
    """A part of a table.

    Attributes
    ----------
    path
        Of the file.
    number
        Of the group in it.
    rows
        How many rows it has.
    first, last
        Least and greatest id in it.
    """

    path: str
    number: int
    rows: int
    first: int
    last: int


def row_groups(path: str, key: str) -> list[RowGroup]:
    """The row groups of a table, with the ids that they hold.

    Parameters
    ----------
    path
        Path or URL of a Parquet file.
    key
        Name of the column of ids.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is damaged, has no such column, or does not say what its groups hold.
    """
    with opened(path) as file:
        column = _column(file, key, path)
        found = []
        for number in range(file.metadata.num_row_groups):
            group = file.metadata.row_group(number)
            statistics = group.column(column).statistics
            if group.num_rows and (statistics is None or not statistics.has_min_max):
                raise ValueError(
                    f"{path}: found no statistics of column {key}, expected those of every group"
                )
            if group.num_rows:
                found.append(RowGroup(path, number, group.num_rows, statistics.min, statistics.max))
    return found


def bytes_of(path: str) -> int:
    """What a table takes in memory, about: 8 bytes for each value."""
    with opened(path) as file:
        groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
        return 8 * sum(group.column(i).num_values for group in groups for i in range(group.num_columns))


def merge_tables(
    paths: Sequence[str], out: str, *keys: str, what: str, facts: Mapping[str, Any] | None = None
) -> int:
    """Make one sorted table of several sorted ones, a few row groups at a time.

    Parameters
    ----------
    paths
        Of tables with the same columns; at least one.
    out
        Path or URL of the table that is written, whole or not at all; it has the facts of the first one.
    *keys
        Columns by which all are sorted, and by which no two rows are equal.
    what
        What a row is, for the message.
    facts
        More of them.

    Returns
    -------
    int
        Number of rows.

    Raises
    ------
    ValueError
        If two rows are equal, naming them.

    Notes
    -----
    The groups are read in the order of the least id that they hold. What is less than the next one's least is
    complete, and written. Groups that span many others wait in memory; of the cells of an octree, these are
    few. What waits is sorted again only when as much has come as was left, so no row is sorted often.
    """
    with opened(paths[0]) as file:
        schema = with_facts(file.schema_arrow, facts or {})
    groups = sorted(
        (group for path in paths for group in row_groups(path, keys[0])), key=lambda group: group.first
    )
    order = [(key, "ascending") for key in keys]
    # Of a run that was killed here: this one holds its lock.
    files.remove_partial(out)
    total = left = 0
    waiting: list[pa.Table] = []
    with _written(out, schema) as writer:
        for group, upcoming in itertools.zip_longest(groups, groups[1:]):
            waiting.append(_read(group))
            if upcoming is not None and sum(map(len, waiting)) < 2 * left + _SORTED:
                continue
            table = pa.concat_tables(waiting).sort_by(order)
            ids = ids_of(table[keys[0]].to_numpy(), keys[0])
            stop = len(table) if upcoming is None else int(np.searchsorted(ids, np.uint64(upcoming.first)))
            done = table.slice(0, stop)
            _check_unique(done, keys, what, out)
            writer.write_table(done, row_group_size=ROWS)
            total += stop
            # A slice would keep all of the table.
            waiting = [table.take(np.arange(stop, len(table)))] if stop < len(table) else []
            left = len(table) - stop
    return total


def read_rows(path: str, key: str, wanted: np.ndarray) -> dict[str, np.ndarray]:
    """The columns of those row groups of a table that may hold some ids.

    Parameters
    ----------
    path
        Path or URL of a Parquet file of plain columns, sorted by ids.
    key
        Name of the column of ids.
    wanted
        uint64, ``(n,)``, ascending.

    Returns
    -------
    dict
        Columns by name; none if no group can hold any of the ids. The `KEPT` groups that were read last stay
        in memory.

    Raises
    ------
    FileNotFoundError, ValueError
        As for `row_groups`.
    """
    # A worker outlives runs, and the next one may write another table to the same path: hence the version.
    version = files.version(path)
    begins, ends = _bounds(path, version, key)
    some = np.flatnonzero(np.searchsorted(wanted, begins) < np.searchsorted(wanted, ends, side="right"))
    parts = [_kept_columns(path, version, key, int(number)) for number in some]
    found = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if parts else {}
    return found | {key: ids_of(found[key], key)} if found else {}


@lru_cache(maxsize=4)
def _groups(path: str, version: str, key: str) -> list[RowGroup]:
    return row_groups(path, key)


@lru_cache(maxsize=4)
def _bounds(path: str, version: str, key: str) -> tuple[np.ndarray, np.ndarray]:
    groups = _groups(path, version, key)
    return np.array([g.first for g in groups], np.uint64), np.array([g.last for g in groups], np.uint64)


@lru_cache(maxsize=KEPT)
def _kept_columns(path: str, version: str, key: str, number: int) -> dict[str, np.ndarray]:
    table = _read(_groups(path, version, key)[number])
    return {name: np.array(table[name].to_numpy()) for name in table.column_names}


def _read(group: RowGroup) -> pa.Table:
    def read() -> pa.Table:
        with opened(group.path) as file:
            return file.read_row_group(group.number)

    return retried(read, group.path, "reading it")


def _column(file: pq.ParquetFile, name: str, path: str) -> int:
    names = [file.metadata.schema.column(i).path for i in range(file.metadata.num_columns)]
    if name not in names:
        raise ValueError(f"{path}: found the columns {', '.join(names)}, expected also {name}.")
    return names.index(name)


def _check_unique(table: pa.Table, keys: Sequence[str], what: str, out: str) -> None:
    columns = [table[key].to_numpy() for key in keys]
    same = np.all([column[1:] == column[:-1] for column in columns], axis=0)
    if same.any():
        row = int(np.flatnonzero(same)[0])
        found = ", ".join(str(column[row]) for column in columns)
        raise ValueError(f"{out}: found {what} {found} more than once, expected each one once")


@contextmanager
def _written(path: str, schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
    """A writer of a file that is there when it is complete."""
    fs, inner = filesystem(path)
    folder = inner.rsplit("/", 1)[0]
    if is_remote(path):
        fs.makedirs(folder, exist_ok=True)
    else:
        disks.make_folder(folder)
    # Object stores show an object when it is complete, others are written beside their place and moved there.
    beside = f"{inner}.{uuid.uuid4().hex}.partial"
    try:
        with fs.open(beside, "wb") as file, pq.ParquetWriter(file, schema, **encoding_of(schema)) as writer:
            yield writer
        if not is_remote(path):
            disks.sync_file(beside)
            disks.rename(beside, inner)
        else:
            fs.mv(beside, inner)
    finally:
        if fs.exists(beside):
            fs.rm(beside)
