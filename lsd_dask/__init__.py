"""From affinities to neurons: descriptors, fragments, region graphs and agglomeration, on dask.

The result is the same, bit for bit, whatever the chunking, the number of workers and the order in which
blocks finish.
"""

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Names by the module they come from, imported when they are first used: a command line that only prints its
# help should not wait for numba.
_NAMES = {
    "open_volume": "volumes",
    "create_volume": "volumes",
    "save_volume": "volumes",
    "local_shape_descriptors": "descriptors",
    "LsdExtractor": "extractor",
    "get_local_shape_descriptors": "extractor",
    "affinities": "affinities",
    "extract_fragments": "fragments",
    "build_region_graph": "region_graph",
    "RegionGraph": "region_graph",
    "agglomerate": "agglomeration",
    "MergeTree": "agglomeration",
    "LookupTable": "agglomeration",
    "Edits": "edits",
    "append_edits": "edits",
    "relabel": "segmentation",
    "predict": "prediction",
    "connect": "clusters",
    "view": "viewer",
}
_MODULES = [
    "clusters",
    "edits",
    "evaluation",
    "graph_export",
    "ids",
    "plots",
    "pyramids",
    "synthetic",
    "training",
    "viewing",
    "workflows",
]

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
    from . import evaluation, training, viewing
    from .clusters import connecting
    from .clusters.connecting import connect
    from .evaluation import plots
    from .prediction.tiles import predict
    from .segmentation import edits, graph_export, ids
    from .segmentation.agglomeration import LookupTable, MergeTree, agglomerate
    from .segmentation.edits import Edits, append_edits
    from .segmentation.fragments import extract_fragments
    from .segmentation.region_graph import RegionGraph, build_region_graph
    from .segmentation.relabelling import relabel
    from .synthetic import generating
    from .targets.affinities import affinities
    from .targets.descriptors import local_shape_descriptors
    from .targets.extractor import LsdExtractor, get_local_shape_descriptors
    from .viewer import view
    from .volumes import pyramids
    from .volumes.saving import create_volume, open_volume, save_volume


class _Package(ModuleType):
    """Makes importing the module `affinities` bind the function of that name, not the module."""

    def __setattr__(self, name: str, value: Any) -> None:
        same = isinstance(value, ModuleType) and _NAMES.get(name) == name
        super().__setattr__(name, getattr(value, name) if same else value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f".{name}", __name__)
    if name not in _NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_NAMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
