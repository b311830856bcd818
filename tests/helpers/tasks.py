"""How much a task graph asks of the scheduler."""

from typing import Any

import dask
from dask._task_spec import Alias, DataNode


def tasks_of(collection: Any) -> list[Any]:
    """What is left to be run after optimisation, which drops what nothing needs.

    Aliases, which name a result once more, are resolved without being run, and data lie in the graph as they
    are: neither is work.
    """
    graph = dask.optimize(collection)[0].__dask_graph__()
    return [task for task in dict(graph).values() if not isinstance(task, Alias | DataNode)]
