"""The steps from affinities to a scored segmentation: one module and one function a step, and `segment` for
all.

Each takes its options as keywords, as a dict, or as the path of a JSON or YAML file, runs block by block on a
dask cluster, can be run again after it was interrupted, and returns what it wrote.
"""

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

__all__ = [
    "agglomerate",
    "build_pyramid",
    "compare",
    "evaluate_annotations",
    "evaluate_volumes",
    "extract_fragments",
    "extract_segmentation",
    "find_segments",
    "lsds",
    "plan",
    "predict",
    "report",
    "run_block",
    "segment",
    "status",
    "train",
]

if TYPE_CHECKING:
    from .agglomerate import agglomerate
    from .build_pyramid import build_pyramid
    from .compare import compare
    from .evaluate_annotations import evaluate_annotations
    from .evaluate_volumes import evaluate_volumes
    from .extract_fragments import extract_fragments
    from .extract_segmentation import extract_segmentation
    from .find_segments import find_segments
    from .lsds import lsds
    from .plan import plan
    from .predict import predict
    from .report import report
    from .run_block import run_block
    from .segment import segment
    from .status import status
    from .train import train


class _Steps(ModuleType):
    """Makes importing a step's module bind the step's function, which has the same name, not the module."""

    def __setattr__(self, name: str, value: Any) -> None:
        same = isinstance(value, ModuleType) and name in __all__
        super().__setattr__(name, getattr(value, name) if same else value)


sys.modules[__name__].__class__ = _Steps


def __getattr__(name: str) -> Any:
    # Late, so that a command line that only prints its help does not wait for numba.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    importlib.import_module(f".{name}", __name__)
    return globals()[name]


def __dir__() -> list[str]:
    return sorted(__all__)
