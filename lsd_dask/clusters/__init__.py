"""Clusters to work on: this machine, a scheduler that runs, or jobs of a batch system. Knows no volumes."""

import importlib
from typing import TYPE_CHECKING, Any

__all__ = ["connect", "job_script", "session"]

if TYPE_CHECKING:
    from .connecting import connect, job_script, session


def __getattr__(name: str) -> Any:
    # Late, so that a command line that only prints its help does not wait for distributed.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(".connecting", __name__), name)
