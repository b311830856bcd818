"""Kernels of fragments, region graphs, agglomeration and relabelling."""
