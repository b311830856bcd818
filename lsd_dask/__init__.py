"""Descriptors, fragments, region graphs and agglomeration for neuron segmentation, on dask."""
