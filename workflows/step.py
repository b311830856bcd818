"""A step: its options, what it will do with them, and doing it; and the function that users call."""

import functools
import os
import time
import typing
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

from lsd_dask.blockwise.ledgers import Ledger

from .config.describing import docstring, signature
from .config.loading import load_config
from .config.options import Config, ReportOptions, RunOptions
from .reports.requested import reported
from .running.outputs import StepResult, cluster, ledger_for, report
from .running.plans import StepPlan, execute, held


class Step[C: ReportOptions](ABC):
    """What is done in one call. Its docstring is that of the function which users call.

    Attributes
    ----------
    model
        Its options; they have its name, too.
    container
        The option that names what it writes to.
    revision
        Part of the identity in its ledgers: to be raised when its code gives another result for the same
        input and options, so that what the earlier code made is made anew.
    """

    model: type[C]
    container: ClassVar[str]
    revision: ClassVar[int] = 1

    @property
    def name(self) -> str:
        """Name of the function, and, with hyphens, of the command."""
        return self.model.step

    @abstractmethod
    def run(self, options: C) -> StepResult:
        """Do it all."""

    def ledger(self, container: str, dataset: str, **identity: Any) -> Ledger:
        """The ledger for a dataset that it writes; without an identity, to look at what is recorded."""
        return ledger_for(container, self.name, dataset, {"revision": self.revision, **identity})


class BlockStep[C: RunOptions](Step[C]):
    """A step that is one run over the blocks of a volume."""

    @abstractmethod
    def plan(self, options: C) -> StepPlan:
        """Open what is read, and check everything, before any work; nothing is written.

        Raises
        ------
        FileNotFoundError, FileExistsError, TypeError, ValueError
            If something does not fit; the message names the file.
        """

    def workers(self, options: C) -> dict[str, Any]:
        """How workers are started, beside what the options say."""
        return {}

    def run(self, options: C) -> StepResult:
        """Do all blocks that are not done yet."""
        started = time.perf_counter()
        plan = self.plan(options)
        with cluster(options, **self.workers(options)) as client, held(plan, client) as plan:
            summary = execute(plan, client)
        seconds = time.perf_counter() - started
        return report(
            StepResult(self.name, plan.outputs, seconds, summary.blocks, summary.skipped, facts=plan.facts)
        )


class Workflow[C: Config, T](Protocol):
    """A step as a function: of a configuration, of keywords, or of both, where keywords go first."""

    #: The step.
    step: Step[Any]
    #: What the step can be told.
    model: type[C]

    def __call__(
        self, config: C | str | os.PathLike[str] | Mapping[str, Any] | None = None, /, **options: Any
    ) -> T:
        """Run the step."""


class _Runs[C: Config, T](Protocol):
    """A step, of which the type of the result is known."""

    model: type[C]

    def run(self, options: C) -> T: ...


def workflow[C: Config, T](step: _Runs[C, T]) -> Workflow[C, T]:
    """The function that users call: with the options as keywords, and their Parameters section.

    It takes what `load_config` takes.
    """
    assert isinstance(step, Step)

    def run(config: Any = None, /, **options: Any) -> T:
        checked = load_config(step.model, config, **options)
        with reported(checked, step.container):
            return step.run(checked)

    described = functools.update_wrapper(run, type(step), assigned=("__module__", "__doc__"), updated=())
    described.__name__ = described.__qualname__ = step.name
    described.__doc__ = docstring(step.model, type(step))
    vars(described).update(step=step, model=step.model, __signature__=signature(step.model, step.run))
    return typing.cast(Workflow[C, T], described)
