"""Merge trees of a part of the components."""

import numpy as np

from ..compiling import kernel
from .agglomeration import LEVELS


@kernel
def restrict(parents: np.ndarray, levels: np.ndarray, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The merge tree of some of the components: each two of them meet at the level at which they do in all.

    Parameters
    ----------
    parents, levels
        ``(n,)`` int64, a merge tree as of `contract`: no parent comes after its node, nor joins at a lower
        level; roots are their own parents, at `LEVELS`.
    kept
        ``(n,)`` bool, which nodes are wanted.

    Returns
    -------
    parents, levels
        ``(k,)`` int64, a tree of the k nodes that are kept, numbered in their order.

    Examples
    --------
    Parents [0, 0, 0], levels [256, 55, 155]: of nodes 1 and 2 alone, 2 joins 1 at level 155, which is parents
    [0, 0] and levels [256, 155].
    """
    n = parents.size
    begins = np.zeros(LEVELS + 2, np.int64)
    for i in range(n):
        begins[levels[i] + 1] += 1
    for level in range(LEVELS + 1):
        begins[level + 1] += begins[level]
    order = np.empty(n, np.int64)
    # The last first within a level: what joins a node that joins another one at once is there by then.
    for i in range(n - 1, -1, -1):
        order[begins[levels[i]]] = i
        begins[levels[i]] += 1

    number = np.empty(n, np.int64)
    count = 0
    for i in range(n):
        number[i] = count if kept[i] else -1
        count += int(kept[i])
    first = number.copy()
    kept_parents = np.arange(count)
    kept_levels = np.full(count, LEVELS, np.int64)
    for row in order:
        parent = parents[row]
        if levels[row] == LEVELS or first[row] < 0:
            continue
        other = first[parent]
        if other < 0:
            first[parent] = first[row]
            continue
        later = max(first[row], other)
        first[parent] = min(first[row], other)
        kept_parents[later] = first[parent]
        kept_levels[later] = levels[row]
    return kept_parents, kept_levels
