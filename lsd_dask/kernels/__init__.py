"""Compiled kernels: numba on NumPy arrays, and nothing else (neither dask nor xarray is imported here)."""
