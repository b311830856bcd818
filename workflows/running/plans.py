"""A run over blocks: what it will do, as plain data; doing it on a cluster, or one block in this process."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Self

from distributed import Client

from lsd_dask.blockwise.blocks import BlockGrid
from lsd_dask.blockwise.ledgers import Ledger
from lsd_dask.blockwise.runs import BlockTask, RecordedTask, RunSummary
from lsd_dask.space.grids import Grid

from ..config.options import RunOptions
from .costs import Cost
from .first_run import say_if_compiled
from .memory import check_memory, worker_limit
from .outputs import Output, console, hold, prepare_volumes, run


@dataclass(frozen=True, kw_only=True)
class StepPlan:
    """What a step will do block by block, checked; nothing is written yet.

    Attributes
    ----------
    what
        What is done, for messages: "extract fragments".
    options
        How it is run, whether it resumes, verifies and replaces.
    ledger
        Where blocks are recorded; its identity is all that decides the result.
    grid
        Of what is processed.
    block_shape
        In voxels.
    cost
        What its blocks take.
    task
        Gives, once the output is prepared and the ledger held, what is done for each block.
    made
        What is made, for messages: "fragments".
    volumes
        What is written; empty where each block leaves a table.
    made_of
        Inputs beside those of the ledger's identity, as of `lsd_dask.segmentation.derivation.new_mark`.
    kernels
        Modules of `lsd_dask.kernels` that take seconds to compile.
    resources
        What each task takes of a worker.
    facts
        What is said of the result.
    """

    what: str
    options: RunOptions
    ledger: Ledger
    grid: Grid
    block_shape: tuple[int, ...]
    cost: Cost
    task: Callable[..., BlockTask[Any]]
    made: str
    volumes: Sequence[Output] = ()
    made_of: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    kernels: Sequence[ModuleType] = ()
    resources: Mapping[str, float] | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def blocks(self) -> BlockGrid:
        """The blocks."""
        return BlockGrid(self.grid.shape, self.block_shape)

    @property
    def outputs(self) -> dict[str, str]:
        """Paths of what is written, by name."""
        return {volume.name: volume.path for volume in self.volumes}

    def fitted(self, limit: int | None) -> Self:
        """The plan for workers that may use so many bytes a block, where it depends on that."""
        return self

    def prepare(self) -> BlockTask[Any] | None:
        """Open what an earlier run left, or begin anew: what is to be done for each block.

        None where nothing is left to be done of blocks, as what was made of all of them is there.
        """
        return self.task(
            *prepare_volumes(
                self.ledger, self.options, self.volumes, self.grid, self.block_shape, self.made, self.made_of
            )
        )


@contextmanager
def held[P: StepPlan](plan: P, client: Client) -> Iterator[P]:
    """The plan as it fits the workers of a client, with its ledger held: nothing was written before.

    The ledger is held until the end of the context, as some make a sum of what the blocks leave.

    Raises
    ------
    MemoryError
        If a worker's memory is not enough for a block.
    LockedError
        If somebody else is at work; the message says who.
    """
    plan = plan.fitted(limit := worker_limit(client))
    check_memory(plan.what, plan.cost.needs, plan.block_shape, plan.grid, limit)
    with hold(plan.ledger):
        yield plan


def execute(plan: StepPlan, client: Client) -> RunSummary:
    """Do all blocks of a plan that are not done yet; it is `held`.

    Raises
    ------
    FileExistsError
        If an output is there that no run of this step wrote, and is to stay.
    RunFailedError
        If blocks failed; all others are done by then.
    """
    task = plan.prepare()
    if task is None:
        return RunSummary(plan.what, len(plan.blocks), skipped=len(plan.blocks))
    say_if_compiled(*plan.kernels)
    return run(
        plan.what,
        task,
        plan.blocks,
        plan.ledger,
        client,
        resources=plan.resources,
        verify=plan.options.verify,
    )


def execute_block(plan: StepPlan, name: str) -> dict[str, Any] | None:
    """Do one block of a plan in this process, also if it was done before: facts that are recorded of it.

    None where nothing is left to be done of blocks. What the block raises is raised here.
    """
    block = plan.blocks.named(name)
    with hold(plan.ledger):
        task = plan.prepare()
        if task is None:
            return None
        say_if_compiled(*plan.kernels)
        console.print(f"{plan.what}: block {name}, voxels {block.place}")
        plan.ledger.forget(block.name)
        return RecordedTask(task, plan.ledger, plan.ledger.recorded_run())(block)
