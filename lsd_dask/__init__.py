"""From affinities to neurons: descriptors, fragments, region graphs and agglomeration, on dask.

The result is the same, bit for bit, whatever the chunking, the number of workers and the order in which
blocks finish.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Names by the module they come from, imported when they are first used: a command line that only prints its
# help should not wait for numba.
_NAMES = {
    "open_volume": "volumes",
    "create_volume": "volumes",
    "save_volume": "volumes",
    "local_shape_descriptors": "targets.descriptors",
    "LsdExtractor": "targets.extractor",
    "get_local_shape_descriptors": "targets.extractor",
    "affinities": "targets.affinities",
    "extract_fragments": "segmentation.fragments",
    "build_region_graph": "segmentation.region_graph",
    "RegionGraph": "segmentation.region_graph",
    "agglomerate": "segmentation.agglomeration",
    "MergeTree": "segmentation.agglomeration",
    "LookupTable": "segmentation.agglomeration",
    "Edits": "segmentation.edits",
    "append_edits": "segmentation.edits",
    "relabel": "segmentation.relabelling",
    "predict": "prediction.tiles",
    "connect": "clusters",
    "view": "viewer",
}
_MODULES = {
    "clusters": "clusters",
    "edits": "segmentation.edits",
    "evaluation": "evaluation",
    "graph_export": "segmentation.graph_export",
    "ids": "segmentation.ids",
    "plots": "evaluation.plots",
    "pyramids": "volumes.pyramids",
    "synthetic": "synthetic",
    "training": "training",
    "viewing": "viewing",
    "workflows": "workflows",
}

__all__ = [
    "Edits",
    "LookupTable",
    "LsdExtractor",
    "MergeTree",
    "RegionGraph",
    "__version__",
    "affinities",
    "agglomerate",
    "append_edits",
    "build_region_graph",
    "clusters",
    "connect",
    "create_volume",
    "edits",
    "evaluation",
    "extract_fragments",
    "get_local_shape_descriptors",
    "graph_export",
    "ids",
    "local_shape_descriptors",
    "open_volume",
    "plots",
    "predict",
    "pyramids",
    "relabel",
    "save_volume",
    "synthetic",
    "training",
    "view",
    "viewing",
    "workflows",
]

if TYPE_CHECKING:
    from . import clusters, evaluation, synthetic, training, viewing
    from .clusters import connect
    from .evaluation import plots
    from .prediction.tiles import predict
    from .segmentation import edits, graph_export, ids
    from .segmentation.agglomeration import LookupTable, MergeTree, agglomerate
    from .segmentation.edits import Edits, append_edits
    from .segmentation.fragments import extract_fragments
    from .segmentation.region_graph import RegionGraph, build_region_graph
    from .segmentation.relabelling import relabel
    from .targets.affinities import affinities
    from .targets.descriptors import local_shape_descriptors
    from .targets.extractor import LsdExtractor, get_local_shape_descriptors
    from .viewer import view
    from .volumes import create_volume, open_volume, pyramids, save_volume


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        value: Any = importlib.import_module(f".{_MODULES[name]}", __name__)
    elif name in _NAMES:
        value = getattr(importlib.import_module(f".{_NAMES[name]}", __name__), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
