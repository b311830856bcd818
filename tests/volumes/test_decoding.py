"""Chunks that decode to more than their array says: refused, however small the file is."""

import gzip
import tracemalloc
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pyarrow as pa
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

import lsd_dask as ld
from lsd_dask.volumes.formats.decoding import decode

CODECS = ["gzip", "zstd", "blosc", "lz4", "zlib", "bz2"]
BOMB = bytes(1 << 24)


def codec_of(name: str) -> Any:
    return numcodecs.get_codec({"id": name})


def unstated(content: bytes) -> bytes:
    """zstd as a stream, whose header does not say how much it holds."""
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return bytes(sink.getvalue())


COMPRESSED: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    **{name: (name, lambda content, name=name: bytes(codec_of(name).encode(content))) for name in CODECS},
    "zstd, not stated": ("zstd", unstated),
    "zstd, two frames": ("zstd", lambda content: COMPRESSED["zstd"][1](content[:9]) + unstated(content[9:])),
    "gzip, two members": ("gzip", lambda content: gzip.compress(content[:9]) + gzip.compress(content[9:])),
}


@pytest.mark.parametrize("name", COMPRESSED)
@settings(max_examples=40)
@given(content=st.binary(min_size=10, max_size=200_000) | st.integers(10, 200_000).map(bytes))
def test_what_fits_is_decoded(name: str, content: bytes) -> None:
    codec, compressed = COMPRESSED[name]
    assert bytes(decode(codec, compressed(content), len(content))) == content


@pytest.mark.parametrize("name", COMPRESSED)
def test_what_does_not_fit_is_refused_in_bounded_memory(name: str) -> None:
    codec, compressed = COMPRESSED[name]
    content = compressed(BOMB)
    tracemalloc.start()
    before = pa.total_allocated_bytes()
    with pytest.raises(ValueError, match="decodes to more than"):
        decode(codec, content, 1 << 16)
    assert tracemalloc.get_traced_memory()[1] < len(BOMB) / 4
    assert pa.total_allocated_bytes() - before < len(BOMB) / 4
    tracemalloc.stop()


@pytest.mark.parametrize("name", [name for name in CODECS if name != "lz4"])
@settings(max_examples=40)
@given(content=st.binary(max_size=40))
def test_what_is_no_such_content_is_refused(name: str, content: bytes) -> None:
    with suppress(ValueError, RuntimeError, EOFError, zlib.error):
        decode(name, content, 1 << 16)


def saved(path: Path, zarr_format: Any, codec: str) -> Path:
    """An array whose only chunk is a bomb; in format 3 within a shard where the codec is gzip."""
    values = np.zeros((8, 8, 8), np.uint8)
    more: dict[str, Any] = {"compressors": {"id": codec}}
    if zarr_format == 3:
        more = {"compressors": {"name": codec, "configuration": {"level": 1}}}
        if codec == "blosc":
            more = {"compressors": zarr.codecs.BloscCodec()}
    group = zarr.create_group(path, zarr_format=zarr_format)
    array = group.create_array(
        "raw", shape=values.shape, dtype="uint8", chunks=(8, 8, 8), fill_value=1, **more
    )
    array[:] = values
    return path / "raw"


@pytest.mark.parametrize(
    ("zarr_format", "codec"), [(2, name) for name in CODECS] + [(3, "gzip"), (3, "zstd"), (3, "blosc")]
)
def test_a_bomb_in_an_array_is_named(tmp_path: Path, zarr_format: Any, codec: str) -> None:
    array = saved(tmp_path / "v.zarr", zarr_format, codec)
    assert not ld.open_volume(array).values.any()
    chunk = next(path for path in array.rglob("*") if path.is_file() and path.name in ("0.0.0", "0"))
    chunk.write_bytes(COMPRESSED[codec][1](BOMB))
    with pytest.raises(
        ValueError, match=r"raw: voxels \[0:8, 0:8, 0:8\] cannot be read \(found a chunk that"
    ):
        ld.open_volume(array).values.sum()


def test_a_bomb_in_a_shard_is_named(tmp_path: Path) -> None:
    group = zarr.create_group(tmp_path / "v.zarr")
    array = group.create_array("raw", shape=(8, 8), dtype="uint8", chunks=(4, 4), shards=(8, 8), fill_value=1)
    array[:] = 0
    shard = tmp_path / "v.zarr" / "raw" / "c" / "0" / "0"
    bomb = COMPRESSED["zstd"][1](BOMB)
    index = np.array([[0, len(bomb)]] * 4, "<u8").tobytes()
    shard.write_bytes(bomb + bytes(numcodecs.CRC32C(location="end").encode(np.frombuffer(index, np.uint8))))
    with pytest.raises(ValueError, match=r"raw: voxels .* cannot be read \(found a chunk that"):
        ld.open_volume(tmp_path / "v.zarr" / "raw").values.sum()
