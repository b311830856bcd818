"""Arrays on disk and in the world: opening, creating, saving, reading in blocks."""

from .dask_arrays import grid_of
from .saving import create_volume, open_volume, save_volume

__all__ = ["create_volume", "grid_of", "open_volume", "save_volume"]
