"""Pages and pictures that we wrote, told from those of others by a marker in them: only ours are replaced.

================ =======================================================
page             ``<meta name="generator" content="lsd-dask">``
picture          a text of a PNG file, ``Software``: ``lsd-dask``
report of dask   its title
================ =======================================================
"""

import struct
import zlib

from . import files

#: Who wrote a page or a picture.
GENERATOR = "lsd-dask"

_PNG = b"\x89PNG\r\n\x1a\n"

#: In which of these a file must have one of the markers, and how far from its begin.
_MARKERS = (
    f'<meta name="generator" content="{GENERATOR}">'.encode(),
    b"<title>Dask Performance Report</title>",
    b"tEXtSoftware\x00" + GENERATOR.encode(),
)
_LOOKED_AT = 1 << 16


def check_replaceable(path: str, what: str) -> None:
    """Check that a page or picture may be written, before there is anything in it.

    Parameters
    ----------
    path
        Path or URL of the file.
    what
        What is to be written, for messages.

    Raises
    ------
    FileExistsError
        If a file is there that holds something which we did not write.
    IsADirectoryError
        If a folder is.
    PermissionError
        If it cannot be written.
    """
    if files.exists(path) and not files.is_file(path):
        raise IsADirectoryError(f"{path}: expected the name of a file for {what}, found a folder")
    files.check_writable(path)
    if not files.exists(path):
        return
    content = files.read_bytes(path)[:_LOOKED_AT]
    if content and not any(marker in content for marker in _MARKERS):
        raise FileExistsError(
            f"{path}: found a file that was not written by lsd-dask, expected none, or an earlier one for "
            f"{what}; name another file, or remove this one"
        )


def marked_png(content: bytes) -> bytes:
    r"""A PNG picture with our marker.

    Examples
    --------
    >>> b"lsd-dask" in marked_png(b"\x89PNG\r\n\x1a\n" + bytes(25))
    True
    """
    # Behind the header, which is 13 bytes with 12 around them.
    begin = len(_PNG) + 25
    chunk = b"tEXtSoftware\x00" + GENERATOR.encode()
    check = struct.pack(">I", zlib.crc32(chunk))
    return content[:begin] + struct.pack(">I", len(chunk) - 4) + chunk + check + content[begin:]
