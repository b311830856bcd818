"""Kernels of synthetic tissue."""
