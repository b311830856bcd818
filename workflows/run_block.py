"""One block of a step in this process, for debugging: ``lsd-dask run-block``."""

import os
from collections.abc import Mapping
from typing import Any

from .config.loading import load_config
from .registry import block_step_named
from .running.outputs import console, in_bold
from .running.plans import execute_block


def run_block(
    step: str, block: str, config: str | os.PathLike[str] | Mapping[str, Any] | None = None, **options: Any
) -> dict[str, Any]:
    """Run one block of a step in this process, without a cluster: under a debugger, or to make it again.

    The block is computed, written and recorded as in a run of the step, also if it was recorded before. What
    it raises is raised here, with its traceback.

    Parameters
    ----------
    step
        Name of the step, such as "extract_fragments".
    block
        Name of the block, as messages and ledgers have it: its place in the grid of blocks, "0_12_3".
    config, **options
        As for the step.

    Returns
    -------
    dict
        Facts that were recorded of the block, ``seconds`` among them.

    Raises
    ------
    ValueError
        If there is no such step or block, or nothing is left to be done in blocks.
    """
    found = block_step_named(step)
    plan = found.plan(load_config(found.model, config, **options))
    facts = execute_block(plan, block)
    if facts is None:
        raise ValueError(
            f"{step}: the sum over all blocks is there already, so no block is left to be run; resume=False "
            "begins anew"
        )
    told = ", ".join(f"{name} {value}" for name, value in facts.items())
    console.print(in_bold(step, f": block {block} is done: {told}"))
    return facts
