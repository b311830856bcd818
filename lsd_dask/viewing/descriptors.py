"""Local shape descriptors as pictures, as in the paper [1]_: offsets, variances, Pearson coefficients, size.

References
----------
.. [1] A. Sheridan et al., "Local shape descriptors for neuron segmentation", Nature Methods 20,
   295-303, 2023. :doi:`10.1038/s41592-022-01711-z`
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import xarray as xr

from ..checks.arguments import check_array
from .sections import section_panel

#: Channels of each picture, by number of channels in all: of 3-D and of 2-D descriptors.
_GROUPS: Mapping[int, Mapping[str, tuple[int, ...]]] = {
    10: {"mean offset": (0, 1, 2), "variance": (3, 4, 5), "Pearson coefficients": (6, 7, 8), "size": (9,)},
    6: {"mean offset": (0, 1), "variance": (2, 3), "Pearson coefficient": (4,), "size": (5,)},
}


def descriptor_images(lsds: Any, components: str | None = None) -> dict[str, Any]:
    """Take descriptors apart into what is shown in one picture each.

    Parameters
    ----------
    lsds : (C, [z, ]y, x) array
        Descriptors in [0, 1] or uint8: NumPy or dask array, or DataArray.
    components : str, optional
        Digits of the channels it has, as of `lsd_dask.local_shape_descriptors`. By default, all 10 of 3-D
        descriptors or all 6 of 2-D ones.

    Returns
    -------
    dict of str to array
        ``mean offset``, ``variance``, ``Pearson coefficients`` and ``size``, as far as there are channels of
        them: ``(3, [z, ]y, x)`` or ``(2, [z, ]y, x)``, to be shown in red, green and blue, or without
        channels. Lazy where `lsds` is.

    Raises
    ------
    TypeError
        If it is no array.
    ValueError
        If the number of channels is another one.

    Examples
    --------
    >>> import numpy as np
    >>> {name: image.shape for name, image in descriptor_images(np.zeros((6, 4, 4))).items()}
    {'mean offset': (2, 4, 4), 'variance': (2, 4, 4), 'Pearson coefficient': (4, 4), 'size': (4, 4)}
    """
    check_array(lsds, "lsds")
    ndim = len(lsds.shape) - 1
    if ndim not in (2, 3):
        raise ValueError(
            f"lsds: found the shape {lsds.shape}, expected (channel, z, y, x) or (channel, y, x)"
        )
    # One section of 3-D descriptors has two axes, and ten channels.
    total = 10 if ndim == 3 or lsds.shape[0] == 10 else 6
    digits = [int(digit) for digit in (components or "0123456789"[:total])]
    if lsds.shape[0] != len(digits) or max(digits) >= total:
        of = (
            f"the components {components}"
            if components
            else f"all {total} components; name those that it has"
        )
        raise ValueError(f"lsds: found {lsds.shape[0]} channels, expected {of}")
    images = {}
    for name, channels in _GROUPS[total].items():
        rows = [digits.index(channel) for channel in channels if channel in digits]
        if rows:
            images[name] = lsds[rows[0]] if len(rows) == 1 else lsds[rows]
    return images


def descriptor_panel(
    lsds: Any,
    path: str | Path,
    *,
    volumes: Mapping[str, Any] | None = None,
    components: str | None = None,
    section: int | None = None,
    title: str | None = None,
) -> Path:
    """Draw one section of descriptors into a picture file, as in the paper.

    Mean offset, variance and Pearson coefficients are drawn in colour: the component of z (of the
    coefficients, zy) is red, that of y (zx) green and that of x (yx) blue; in 2-D, y is red and x green.
    Size is grey, from its least to its largest value in the section.

    Parameters
    ----------
    lsds : (C, [z, ]y, x) array
        As for `descriptor_images`.
    path : str or Path
        The file to write; its ending says the format.
    volumes : mapping of str to array, optional
        More volumes, such as raw data and labels, that are drawn first: as for `section_panel`.
    components : str, optional
        As for `descriptor_images`.
    section, title
        As for `section_panel`.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    TypeError, ValueError, ImportError
        As for `descriptor_images` and `section_panel`.

    Examples
    --------
    >>> import numpy as np
    >>> descriptor_panel(np.zeros((10, 2, 8, 8), np.float32), "lsds.png").name
    'lsds.png'
    """
    check_array(lsds, "lsds")
    if len(lsds.shape) == 3 and not isinstance(lsds, xr.DataArray):
        # Or else its channels would be taken for sections.
        lsds = xr.DataArray(lsds, dims=("channel", "y", "x"))
    images = descriptor_images(lsds, components)
    return section_panel({**(volumes or {}), **images}, path, section=section, title=title)
