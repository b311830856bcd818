"""Synthetic tissue with known neurons, to try everything on."""

from .generating import degrade_affinities, neuropil

__all__ = ["degrade_affinities", "neuropil"]
