"""Damaged edits and skeletons: each is read, or refused in one ValueError that names the file."""

import io
import json
import uuid
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsd_dask.evaluation import read_skeletons
from lsd_dask.segmentation.edits import Edits
from lsd_dask.storage import files

from ..helpers.damage import VALUES, check, damaged

EDITS = pa.table({"u": pa.array([3, 2**63], pa.uint64()), "v": [9, 11], "kind": ["must-link", "cannot-link"]})
NODES = [{"id": i, "z": 4.0 * i, "y": 0, "x": 0, "component_id": 7} for i in range(3)]
SKELETON = {"nodes": NODES, "edges": [{"source": 0, "target": 1}, {"source": 1, "target": 2}]}


def csv_of(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pyarrow.csv.write_csv(table, sink)
    return sink.getvalue()


def parquet_of(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


@given(content=damaged(csv_of(EDITS)) | st.binary(max_size=50))
def test_damaged_edits_in_csv(content: bytes) -> None:
    check(Edits.read, "edits.csv", content)


@given(content=damaged(parquet_of(EDITS)))
def test_damaged_edits_in_parquet(content: bytes) -> None:
    check(Edits.read, "edits.parquet", content)


@given(u=VALUES, v=VALUES, kind=VALUES)
def test_edits_of_anything(u: Any, v: Any, kind: Any) -> None:
    try:
        content = parquet_of(pa.table({"u": [u], "v": [v], "kind": [kind]}))
    except (pa.ArrowException, TypeError, OverflowError):
        return
    check(Edits.read, "edits.parquet", content)


@given(
    content=damaged(json.dumps(SKELETON).encode())
    | st.sampled_from(["[", '{"nodes":']).map(lambda deep: deep.encode() * 99_999)
)
def test_damaged_skeletons(content: bytes) -> None:
    check(read_skeletons, "tree.json", content)
    check(read_skeletons, "tree.swc", content)


@given(
    key=st.sampled_from(["id", "z", "x", "component_id", "masked"]),
    value=VALUES,
    edge=st.fixed_dictionaries({"source": VALUES, "target": VALUES}),
    nodes=VALUES,
    odd=st.sampled_from(["node", "edge", "nodes"]),
)
def test_skeletons_of_anything(key: str, value: Any, edge: Any, nodes: Any, odd: str) -> None:
    document: dict[str, Any] = json.loads(json.dumps(SKELETON))
    if odd == "node":
        document["nodes"][1][key] = value
    elif odd == "edge":
        document["edges"][0] = edge
    else:
        document["nodes"] = nodes
    check(read_skeletons, "tree.json", json.dumps(document).encode())


@given(content=damaged(parquet_of(pa.table({"id": [1, 2], "z": [0.0, 4], "y": [0, 0], "x": [0, 0]}))))
def test_damaged_tables_of_nodes(content: bytes) -> None:
    def read(path: str) -> None:
        files.write_bytes(
            path.replace("nodes", "edges"), parquet_of(pa.table({"source": [1], "target": [2]}))
        )
        read_skeletons(path.removesuffix(".nodes.parquet"))

    check(read, "tree.nodes.parquet", content)


def varint(number: int) -> bytes:
    """A number as Parquet's footer has it."""
    parts = []
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    return bytes([*parts, number])


@pytest.mark.parametrize("read", [Edits.read, lambda path: read_skeletons(path.rpartition("/")[0])])
def test_a_table_of_more_rows_than_memory_holds_is_refused(read: Callable[[str], Any]) -> None:
    rows = 12_345
    whole = parquet_of(pa.table({name: np.zeros(rows, np.uint64) for name in ("id", "u", "v")}))
    footer, tail = whole[-8 - int.from_bytes(whole[-8:-4], "little") : -8], whole[-4:]
    # Field 3, the number of rows, of signed numbers: a claim of 2^50.
    lying = footer.replace(b"\x16" + varint(2 * rows), b"\x16" + varint(2 << 50), 1)
    path = f"memory://{uuid.uuid4().hex}/nodes.parquet"
    files.write_bytes(path, whole[: -8 - len(footer)] + lying + len(lying).to_bytes(4, "little") + tail)
    files.write_bytes(path.replace("nodes", "edges"), whole)
    with pytest.raises(ValueError, match=r"nodes\.parquet: .*found 1,125,899,906,842,624 rows of 3 columns"):
        read(path)
