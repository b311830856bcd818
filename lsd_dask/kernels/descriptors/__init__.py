"""Kernels of local shape descriptors."""
