"""Neuroglancer's layers: one a volume, with a shader for what it is. To be imported late."""

import math
from collections.abc import Sequence
from typing import Any

import neuroglancer as ng
import numpy as np
from neuroglancer import local_volume
from neuroglancer.chunks import encode_npz

from ..space.grids import Grid
from ..space.units import can_convert
from .sources import Source

#: Meshes are made of the whole volume, so only of volumes of at most this many voxels.
MESHED = 2**24

#: How much coarser than the coarsest level that is stored chunks are made on the fly, in voxels.
_COARSER = 64


class ServedVolume(local_volume.LocalVolume):  # type: ignore[misc]
    """A source, as neuroglancer's server asks for it.

    Parameters
    ----------
    source
        Where voxels come from.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self.limit = source.coarsest * _COARSER
        super().__init__(
            source,
            space_of(source.grid, channels=source.has_channels),
            volume_type="segmentation" if source.kind == "labels" else "image",
            voxel_offset=[0] * len(source.shape),
            max_downsampling=self.limit,
        )

    def get_encoded_subvolume(
        self, data_format: str, start: np.ndarray, end: np.ndarray, scale_key: str
    ) -> tuple[bytes, str]:
        """Read a chunk for the browser; ValueError if there is no such chunk."""
        factors = np.array(scale_key.split(","), np.int64)
        if data_format != "npz" or len(factors) != self.rank or len(start) != self.rank:
            raise ValueError(f"found a request for {data_format} of {scale_key}, expected npz")
        if (factors < 1).any() or np.prod(factors) > self.limit:
            raise ValueError(f"found the downsampling {scale_key}, expected at most {self.limit}")
        shape = -(-np.array(self.source.shape) // factors)
        if (start < 0).any() or (end < start).any() or (end > shape).any():
            raise ValueError(f"found a box from {start} to {end}, expected one within {shape}")
        return encode_npz(self.source.read(start, end, factors)), "application/octet-stream"

    def get_object_mesh(self, object_id: int) -> bytes:
        """The surface of a segment, of volumes that are small."""
        if self.source.kind != "labels" or math.prod(self.source.shape) > MESHED:
            raise local_volume.MeshesNotSupportedForVolume
        return super().get_object_mesh(object_id)


def layer_for(source: Source, served: ServedVolume, *, opacity: float = 0.5) -> ng.Layer:
    """Make the layer of a source.

    Parameters
    ----------
    source
        What is shown.
    served
        The same, as it is served.
    opacity
        Of labels, over images.
    """
    placed = ng.LayerDataSource(served)
    placed.transform = _placement(source)
    if source.kind == "labels":
        return ng.SegmentationLayer(
            source=placed, selected_alpha=opacity, not_selected_alpha=0.12, hide_segment_zero=True
        )
    if source.kind == "image":
        low, high = source.contrast()
        controls = {"normalized": {"range": [low, high]}}
        shader = _GREY.replace("CHANNEL", "channel=0, " if source.has_channels else "")
        return ng.ImageLayer(source=placed, shader=shader, shader_controls=controls, opacity=1.0)
    channels = source.shape[0]
    if source.kind == "affinities":
        shader = _rgb(range(min(channels, 3)), source.dtype)
    else:
        shader = _descriptor_shader(channels, source.grid.ndim, source.dtype)
    return ng.ImageLayer(source=placed, shader=shader, opacity=1.0)


def space_of(grid: Grid, *, channels: bool = False) -> ng.CoordinateSpace:
    """Axes of a volume and the size of its voxels.

    Examples
    --------
    >>> space_of(Grid(("y", "x"), (2, 2), (4, 4), (0, 0))).units
    ('m', 'm')
    """
    unit = ""
    if can_convert(grid.units, "nanometer"):
        grid, unit = grid.told_in("nanometer"), "nm"
    lead = int(channels)
    return ng.CoordinateSpace(
        names=["c^"] * lead + list(grid.dims),
        units=[""] * lead + [unit] * grid.ndim,
        scales=[1.0] * lead + list(grid.voxel_size),
    )


def _placement(source: Source) -> ng.CoordinateSpaceTransform:
    """From voxels of a volume to the world, in units of its voxels."""
    lead = int(source.has_channels)
    offset = np.divide(source.grid.offset, source.grid.voxel_size)
    matrix = np.eye(source.grid.ndim + lead, source.grid.ndim + lead + 1)
    matrix[lead:, -1] = offset
    return ng.CoordinateSpaceTransform(
        output_dimensions=space_of(source.grid, channels=source.has_channels), matrix=matrix
    )


_GREY = """\
#uicontrol invlerp normalized(CHANNELclamp=true)
void main() {
  emitGrayscale(normalized());
}
"""


def _value(channel: int, dtype: np.dtype[Any]) -> str:
    """Shader code of a channel from 0 to 1: integers are of their type's full range."""
    value = f"getDataValue({channel})"
    return value if dtype.kind == "f" else f"toNormalized({value})"


def _rgb(channels: Sequence[int], dtype: np.dtype[Any]) -> str:
    values = [_value(channel, dtype) for channel in channels] + ["0.0"] * (3 - len(channels))
    return f"""\
#uicontrol float brightness slider(min=0, max=4, default=1)
void main() {{
  emitRGB(brightness * vec3({", ".join(values)}));
}}
"""


def _descriptor_shader(channels: int, ndim: int, dtype: np.dtype[Any]) -> str:
    """Offsets in colour; with the slider, variances, Pearson coefficients and size instead."""
    # Some components may not have been computed: then all that there is, by threes.
    groups = [(0, 1, 2), (3, 4, 5), (6, 7, 8), (9,)] if ndim == 3 else [(0, 1), (2, 3), (4,), (5,)]
    if channels != groups[-1][-1] + 1:
        groups = [tuple(range(i, min(i + 3, channels))) for i in range(0, channels, 3)]
    cases = []
    for number, group in enumerate(groups):
        values = [_value(channel, dtype) for channel in group]
        color = values * 3 if len(values) == 1 else values + ["0.0"] * (3 - len(values))
        cases.append(f"  if (component == {number}) emitRGB(vec3({', '.join(color)}));")
    return f"""\
// 0: offsets, 1: variances, 2: Pearson coefficients, 3: size
#uicontrol int component slider(min=0, max={len(groups) - 1}, default=0)
void main() {{
{chr(10).join(cases)}
}}
"""
