"""Damaged files: what they are made of, and how to see that one is read or refused."""

import uuid
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from lsd_dask.storage import files

#: What may stand in a file in the place of a value.
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["", "7", "1e3", "9" * 5000]),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["$numberLong", "id"]), inner)
    ),
    max_leaves=4,
)


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """A file cut short, with some bytes changed, or with others in their place."""
    content = bytearray(whole[: draw(st.integers(0, len(whole)))] if draw(st.booleans()) else whole)
    for _ in range(draw(st.integers(0, 3))):
        if content:
            begin = draw(st.integers(0, len(content) - 1))
            content[begin : begin + 1] = draw(st.binary(min_size=1, max_size=3))
    return bytes(content)


def check(read: Callable[[str], Any], name: str, content: bytes) -> None:
    path = f"memory://{uuid.uuid4().hex}/{name}"
    files.write_bytes(path, content)
    try:
        read(path)
    except ValueError as error:
        assert path in str(error)
