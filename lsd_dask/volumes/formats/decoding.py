"""Chunks decode to what their array says they hold: a small file that decodes to a huge one is refused.

zarr's codecs decode all there is, and look at how much it was afterwards.
"""

import zlib
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numcodecs
import numcodecs.abc
import numpy as np
import pyarrow as pa
import zarr
from numcodecs.compat import ensure_bytes
from zarr.abc.codec import Codec
from zarr.codecs import BloscCodec, GzipCodec, ShardingCodec, ZstdCodec
from zarr.core.array_spec import ArraySpec
from zarr.core.buffer import Buffer

#: Bytes of an element in the middle of codecs that change its type, at most.
_WIDEST = 16

_OF_FORMAT_2 = ("gzip", "zstd", "blosc", "lz4", "zlib", "bz2")

#: Codecs whose content always begins with a header, and where in it the decoded size stands, in four bytes.
_STATING = {"blosc": 4, "lz4": 0}

#: Bytes of the content's size in the header of a zstd frame, and of a dictionary's number before it, each by
#: the two bits that say how many (RFC 8878).
_ZSTD_SIZES = (1, 2, 4, 8)
_ZSTD_NUMBERS = (0, 1, 2, 4)


def bounded(array: zarr.Array[Any]) -> zarr.Array[Any]:
    """An array that reads and writes the same, but decodes no chunk to far more than its shape says.

    Held for gzip, zstd and blosc, and in format 2 also for lz4, zlib and bz2; other codecs stay as they are.
    """
    metadata: Any = array.metadata
    if metadata.zarr_format == 3:
        metadata = replace(metadata, codecs=_bounded_codecs(metadata.codecs))
    elif getattr(metadata.compressor, "codec_id", None) in _OF_FORMAT_2:
        width = _WIDEST if metadata.filters else array.dtype.itemsize
        size = int(np.prod(metadata.chunks, dtype=object)) * width
        metadata = replace(metadata, compressor=_Bounded(metadata.compressor, size))
    inner = array.async_array
    return zarr.Array(type(inner)(metadata=metadata, store_path=inner.store_path, config=inner.config))


def decode(codec: str, content: Any, size: int) -> Any:
    """Decode a chunk; ValueError where it is damaged, or holds more than twice what it should.

    Parameters
    ----------
    codec : str
        As numcodecs names it.
    content : buffer
        The compressed chunk.
    size : int
        Bytes that it should decode to. Twice as many pass, for what other codecs may add: zarr tells of them.
    """
    content = ensure_bytes(content)
    most = 2 * size + 2**16
    stated = _stated_size(codec, content)
    if stated is not None and stated <= most:
        try:
            return numcodecs.get_codec({"id": codec}).decode(content, np.empty(stated, np.uint8))
        except (ValueError, RuntimeError):
            # Of zstd, more frames may follow the first, and only that was looked at.
            if codec != "zstd":
                raise
    if codec not in _STATING:
        decoded = _streamed(codec, content, most + 1)
        if len(decoded) <= most:
            return decoded
    raise ValueError(f"found a chunk that decodes to more than {most:,} bytes, expected {size:,}")


def _stated_size(codec: str, content: bytes) -> int | None:
    """Size of the decoded content that a header states; None where there is none."""
    if codec == "zstd" and len(content) > 5:
        length, single, number = content[4] >> 6, content[4] >> 5 & 1, content[4] & 3
        if length == 0 and not single:
            return None
        begin = 5 + (not single) + _ZSTD_NUMBERS[number]
        size = int.from_bytes(content[begin : begin + _ZSTD_SIZES[length]], "little")
        return size + 256 if length == 1 else size
    if codec in _STATING:
        begin = _STATING[codec]
        return int.from_bytes(content[begin : begin + 4], "little")
    return None


def _streamed(codec: str, content: bytes, most: int) -> bytes:
    """Decode at most so many bytes."""
    try:
        if codec == "zlib":
            return zlib.decompressobj().decompress(content, most)
        with pa.input_stream(pa.py_buffer(content), compression=codec) as stream:
            return bytes(stream.read(most))
    except OSError as error:
        raise ValueError(str(error)) from error


def _bounded_codecs(codecs: Iterable[Codec]) -> tuple[Codec, ...]:
    return tuple(_bounded_codec(codec) for codec in codecs)


def _bounded_codec(codec: Codec) -> Codec:
    if isinstance(codec, ShardingCodec):
        return replace(codec, codecs=_bounded_codecs(codec.codecs))
    kind = _BOUNDED.get(type(codec))
    return codec if kind is None else kind.from_dict(codec.to_dict())


def _decoded(codec: str, chunk: Buffer, spec: ArraySpec) -> Buffer:
    size = int(np.prod(spec.shape, dtype=object)) * spec.dtype.to_native_dtype().itemsize
    return spec.prototype.buffer.from_bytes(decode(codec, chunk.as_numpy_array(), size))


class _Gzip(GzipCodec):
    def _decode_sync(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> Buffer:
        return _decoded("gzip", chunk_bytes, chunk_spec)


class _Zstd(ZstdCodec):
    def _decode_sync(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> Buffer:
        return _decoded("zstd", chunk_bytes, chunk_spec)


class _Blosc(BloscCodec):
    def _decode_sync(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> Buffer:
        return _decoded("blosc", chunk_bytes, chunk_spec)


_BOUNDED: dict[type[Codec], Any] = {GzipCodec: _Gzip, ZstdCodec: _Zstd, BloscCodec: _Blosc}


class _Bounded(numcodecs.abc.Codec):  # type: ignore[misc]
    """A compressor of format 2."""

    codec_id = "bounded"

    def __init__(self, codec: Any, size: int) -> None:
        self._codec = codec
        self._size = size

    def get_config(self) -> dict[str, Any]:
        return dict(self._codec.get_config())

    def encode(self, buf: Any) -> Any:
        return self._codec.encode(buf)

    def decode(self, buf: Any, out: Any = None) -> Any:
        return decode(self._codec.codec_id, buf, self._size)
