"""Which steps there are: a module of `steps` each, found by its file being there.

A step's options are known by the step. Those of the steps that come with the package are in `config` as well,
so that a command line that only prints its help does not wait for numba.
"""

import importlib
import pkgutil
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from . import steps
from .config.options import Config
from .config.steps import STEPS

if TYPE_CHECKING:
    from .step import BlockStep, Step


def names() -> list[str]:
    """Names of all steps: those that come with the package, in the order of their work, then others."""
    known = [model.step for model in STEPS]
    found = sorted(module.name for module in pkgutil.iter_modules(steps.__path__))
    return [*known, *(name for name in found if name not in known and not name.startswith("_"))]


def models() -> dict[str, type[Config]]:
    """The options of all steps, by name."""
    known: dict[str, type[Config]] = {model.step: model for model in STEPS}
    return {name: known.get(name) or step_named(name).model for name in names()}


def step_named(name: str) -> "Step[Any]":
    """The step of a name that there is."""
    step: Step[Any] = getattr(importlib.import_module(f"{steps.__name__}.{name}"), name).step
    return step


def block_step_named(name: str) -> "BlockStep[Any]":
    """The step of a name, if it is one run over blocks.

    Raises
    ------
    ValueError
        If it is not, or if there is no such step.
    """
    from .step import BlockStep

    if name in names() and isinstance(step := step_named(name), BlockStep):
        return step
    raise ValueError(
        f"there is no step {name!r} that is done in blocks, expected {', '.join(_done_in_blocks())}"
    )


def _done_in_blocks() -> Iterator[str]:
    from .step import BlockStep

    for name in names():
        # What some need is optional.
        with suppress(ImportError):
            if isinstance(step_named(name), BlockStep):
                yield name
