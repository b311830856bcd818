"""Places and lengths: units, grids of voxels, and the neighbours that affinities connect."""
