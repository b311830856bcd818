"""Tables on disk: Parquet files, sorted by id, that pandas, DuckDB and polars read as they are.

================= ====================================================================================
nodes.parquet     id, size (voxels), center_z, center_y, center_x (world units), and the sums they come from
edges.parquet     u, v, count, contacts, sum, maximum, histogram_bins, histogram_counts
merges_*.parquet  fragment, parent, level, score: the merge tree of one merge function
edges_*.parquet   u, v, merge_score: the region graph's edges with the score at which their ends became one
luts/*.parquet    fragment, segment: a lookup table
================= ====================================================================================

As ids are addresses, a table sorted by id is sorted by place, and the statistics of its row groups are a
spatial index.
"""

import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from . import files
from .stores import StoreError, filesystem, retried

_KEY = b"lsd_dask"
_ROWS = 1 << 17


def write_table(path: str, columns: Mapping[str, Any], facts: Mapping[str, Any] | None = None) -> None:
    """Write a table, whole or not at all.

    Parameters
    ----------
    path
        Path or URL.
    columns
        Arrays of one length by name; NumPy or arrow.
    facts
        Plain data about the table, kept in the file's schema.
    """
    table = pa.table(dict(columns)).replace_schema_metadata({_KEY: json.dumps(facts or {})})
    buffer = io.BytesIO()
    pq.write_table(table, buffer, row_group_size=_ROWS, **encoding_of(table.schema))
    files.write_bytes(path, buffer.getvalue())


def with_facts(schema: pa.Schema, facts: Mapping[str, Any]) -> pa.Schema:
    """A schema with facts besides those that it has."""
    known = json.loads((schema.metadata or {}).get(_KEY, b"{}"))
    return schema.with_metadata({**(schema.metadata or {}), _KEY: json.dumps({**known, **facts})})


@contextmanager
def opened(path: str) -> Iterator[pq.ParquetFile]:
    """A Parquet file; ValueError, naming it, where it cannot be read."""
    fs, inner = filesystem(path)
    with fs.open(inner, "rb") as file:
        try:
            yield pq.ParquetFile(file, page_checksum_verification=True)
        except pa.ArrowInvalid as error:
            raise ValueError(f"{path}: not a readable Parquet file ({error}); was it cut short?") from error


def facts_of(path: str) -> dict[str, Any]:
    """The facts about a table, of which no row is read; none for a table from elsewhere.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such file, or it is none.
    """

    def read() -> dict[str, Any]:
        with opened(path) as file:
            facts = json.loads((file.schema_arrow.metadata or {}).get(_KEY, b"{}"))
        return facts if isinstance(facts, dict) else {}

    return retried(read, path, "reading it")


def encoding_of(schema: pa.Schema) -> dict[str, Any]:
    """Keywords for pyarrow's writers: how tables are stored.

    Dictionaries are for text and histograms alone, whose values are few. Ids are as many as rows: looking for
    some that repeat takes as long as all else, and the table is larger for it.

    Examples
    --------
    >>> encoding_of(pa.schema({"id": pa.uint64(), "bins": pa.large_list(pa.uint8())}))["use_dictionary"]
    ['bins.list.element']
    """
    repeating = []
    for field in schema:
        if pa.types.is_large_list(field.type):
            repeating.append(f"{field.name}.list.element")
        elif pa.types.is_string(field.type):
            repeating.append(field.name)
    return {"compression": "zstd", "write_page_checksum": True, "use_dictionary": repeating}


def read_table(path: str, *names: str) -> tuple[pa.Table, dict[str, Any]]:
    """Read a table with the columns `names`, all of whole numbers or lists of them, and the facts about it.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged, cut short, or another kind of table, also later when a fact is asked for that
        is not there; the message names the file.
    """
    try:
        table = table_in(files.read_bytes(path))
        facts = _Facts(json.loads((table.schema.metadata or {}).get(_KEY, b"{}")))
    except (pa.ArrowException, OSError, ValueError, TypeError, RecursionError) as error:
        if isinstance(error, FileNotFoundError | PermissionError | StoreError):
            raise
        raise ValueError(f"{path}: not a readable Parquet file ({error}); was it cut short?") from error
    facts.path = path
    missing = [name for name in names if name not in table.column_names]
    if missing:
        raise ValueError(
            f"{path}: found the columns {', '.join(table.column_names)}, expected also {', '.join(missing)}."
        )
    for name in names:
        _check_integers(table[name], name, path)
    return table, facts


def table_in(content: bytes) -> pa.Table:
    """The table in the bytes of a Parquet file; ValueError where it says to be larger than the memory.

    A value that repeats takes a few bytes of the file, however often it does.
    """
    with pq.ParquetFile(io.BytesIO(content), page_checksum_verification=True) as file:
        rows, columns = file.metadata.num_rows, file.metadata.num_columns
        size, memory = 8 * rows * columns, psutil.virtual_memory().total
        if size > memory:
            raise ValueError(
                f"found {rows:,} rows of {columns} columns, expected a table that fits into the memory of "
                f"{memory:,} bytes"
            )
        return file.read()


def _check_integers(values: pa.ChunkedArray, name: str, path: str) -> None:
    kind = values.type.value_type if pa.types.is_large_list(values.type) else values.type
    if not pa.types.is_integer(kind):
        raise ValueError(f"{path}: column {name} holds {values.type}, expected whole numbers.")
    if values.null_count:
        raise ValueError(
            f"{path}: column {name} lacks {values.null_count} of {len(values)} values, expected all of them."
        )


class _Facts(dict[str, Any]):
    path = ""

    def __missing__(self, key: str) -> Any:
        raise ValueError(f"{self.path}: the table does not say its {key}; was it written by something else?")


def column(table: pa.Table, name: str) -> np.ndarray:
    """A column as a NumPy array."""
    return writable(table[name].combine_chunks())


def ragged(starts: np.ndarray, values: np.ndarray) -> pa.Array:
    """Rows of different lengths: row i is ``values[starts[i]:starts[i + 1]]``."""
    return pa.LargeListArray.from_arrays(pa.array(starts, pa.int64()), pa.array(values))


def unragged(table: pa.Table, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Starts and values of a column that `ragged` made."""
    lists = table[name].combine_chunks()
    lengths = np.asarray(lists.value_lengths().to_numpy(zero_copy_only=False), np.int64)
    return np.concatenate([[0], np.cumsum(lengths)]), writable(lists.flatten())


def writable(array: Any) -> np.ndarray:
    """A NumPy copy: arrow's own memory is read-only, and kernels are compiled once, for writable arrays."""
    return np.array(array.to_numpy(zero_copy_only=False))
