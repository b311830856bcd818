"""PNG files: a grey image each.

References
----------
.. [1] https://www.w3.org/TR/png-3/
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .pixel_sizes import PixelSize, of_png

#: What PNG files begin with.
SIGNATURE = b"\x89PNG\r\n\x1a\n"

_DTYPES = {1: np.dtype(bool), 8: np.dtype("uint8"), 16: np.dtype("uint16")}
_COLOURS = {2: "colours", 3: "colours of a palette", 4: "grey values and alpha", 6: "colours and alpha"}


@dataclass(frozen=True)
class Png:
    """A PNG file as an image.

    Parameters
    ----------
    file : str
    shape : tuple of int
        Height and width.
    dtype : numpy.dtype
    pixel_size : PixelSize
    """

    file: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    pixel_size: PixelSize

    @property
    def dims(self) -> tuple[str, ...]:
        """Names of the axes."""
        return ("y", "x")

    def read(self, box: Mapping[str, slice]) -> NDArray[Any]:
        """Read a box of pixels, one slice for ``"y"`` and ``"x"`` each."""
        # Late: no worker should wait for it that has no images to read.
        from PIL.PngImagePlugin import PngImageFile

        # Image.open would refuse sections that are large.
        try:
            with PngImageFile(self.file) as image:
                pixels = np.asarray(image)
        except FileNotFoundError:
            raise
        except (OSError, SyntaxError, ValueError) as error:
            raise ValueError(f"{self.file}: the image is damaged or was cut short ({error})") from error
        return np.ascontiguousarray(pixels[box["y"], box["x"]], dtype=self.dtype)


def describe(file: str) -> Png:
    """Read what a PNG file states before its pixels.

    Parameters
    ----------
    file : str

    Returns
    -------
    Png

    Raises
    ------
    ValueError
        If the file is damaged, animated, or holds other than grey values of 1, 8 or 16 bits.
    """
    density = None
    with Path(file).open("rb") as stream:
        stream.seek(len(SIGNATURE))
        header = b""
        while (kind := (head := stream.read(8))[4:]) != b"IDAT":
            length = int.from_bytes(head[:4], "big")
            content = stream.read(length) if kind in (b"IHDR", b"pHYs") else b""
            if len(head) < 8 or (kind == b"IHDR" and len(content) < 13) or not (header or kind == b"IHDR"):
                raise ValueError(f"{file}: this is no image that can be read, or one that was cut short")
            if kind == b"IHDR":
                header = content
            elif kind == b"pHYs" and length == 9:
                density = int.from_bytes(content[:4], "big"), int.from_bytes(content[4:8], "big"), content[8]
            elif kind == b"acTL":
                raise ValueError(f"{file}: expected one image, but this one is animated")
            stream.seek(length - len(content) + 4, 1)
    width, height = int.from_bytes(header[:4], "big"), int.from_bytes(header[4:8], "big")
    bits, colour = header[8], header[9]
    if colour != 0:
        found = _COLOURS.get(colour, f"pixels of kind {colour}")
        raise ValueError(f"{file}: expected grey images, but found {found}, {height} x {width} pixels")
    if bits not in _DTYPES:
        raise ValueError(f"{file}: found {bits} bits a pixel, expected 1, 8 or 16")
    return Png(file, (height, width), _DTYPES[bits], of_png(density))
