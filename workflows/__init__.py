"""The steps from affinities to a scored segmentation: one module and one function a step, and `segment` for
all.

Each takes its options as keywords, as a dict, or as the path of a JSON or YAML file, runs block by block on a
dask cluster, can be run again after it was interrupted, and returns what it wrote.
"""

import importlib
import importlib.util
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
    from .planning import plan
    from .reports.report import report
    from .reports.status import status
    from .run_block import run_block
    from .steps.agglomerate import agglomerate
    from .steps.build_pyramid import build_pyramid
    from .steps.compare import compare
    from .steps.evaluate_annotations import evaluate_annotations
    from .steps.evaluate_volumes import evaluate_volumes
    from .steps.extract_fragments import extract_fragments
    from .steps.extract_segmentation import extract_segmentation
    from .steps.find_segments import find_segments
    from .steps.lsds import lsds
    from .steps.predict import predict
    from .steps.segment import segment
    from .steps.train import train


#: Where these are that are no steps; each step has a module of its name.
_ELSEWHERE = {
    "plan": "planning",
    "report": "reports.report",
    "run_block": "run_block",
    "status": "reports.status",
}


def __getattr__(name: str) -> Any:
    # Late, so that a command line that only prints its help does not wait for numba.
    place = f".{_ELSEWHERE.get(name, f'steps.{name}')}"
    if name.startswith("_") or importlib.util.find_spec(place, __name__) is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = getattr(importlib.import_module(place, __name__), name)
    return globals()[name]


def __dir__() -> list[str]:
    return sorted(__all__)
