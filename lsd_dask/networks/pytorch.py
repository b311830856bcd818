"""PyTorch, or an error that says how to get it."""

try:
    import torch as torch
except ImportError as error:
    raise ImportError(
        "Training networks and predicting with them need PyTorch: pip install 'lsd-dask[train]'"
    ) from error
