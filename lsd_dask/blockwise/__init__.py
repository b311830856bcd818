"""Blocks of a volume, what is done of them, and running them on dask. Knows no neurons."""
