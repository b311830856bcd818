"""A step's public function: of a body that takes a checked configuration."""

import functools
import os
import typing
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from .config.describing import docstring, signature
from .config.loading import load_config
from .config.options import Config
from .reports.requested import reported


class Workflow[C: Config, T](Protocol):
    """A step as a function: of a configuration, of keywords, or of both, where keywords go first."""

    #: What the step can be told.
    model: type[C]

    def __call__(
        self, config: C | str | os.PathLike[str] | Mapping[str, Any] | None = None, /, **options: Any
    ) -> T:
        """Run the step."""


def workflow[C: Config, T](model: type[C]) -> Callable[[Callable[[C], T]], Workflow[C, T]]:
    """Make a step's public function of a body that takes a checked configuration.

    The function takes what `load_config` takes; its signature and the Parameters section of its docstring are
    those of `model`.

    Parameters
    ----------
    model : type of Config
        What the step can be told.

    Returns
    -------
    Callable
        The decorator.
    """

    def decorate(body: Callable[[C], T]) -> Workflow[C, T]:
        @functools.wraps(body)
        def run(config: Any = None, /, **options: Any) -> T:
            checked = load_config(model, config, **options)
            with reported(checked):
                return body(checked)

        vars(run).update(model=model, __signature__=signature(model, body))
        run.__doc__ = docstring(model, body)
        return typing.cast(Workflow[C, T], run)

    return decorate
