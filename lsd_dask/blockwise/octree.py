"""The octree over the blocks of a volume: level 0 are the blocks, and a cell of the next is two of them wide.

In 2-D it is a quadtree.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .blocks import Block, BlockGrid


@dataclass(frozen=True)
class Octree:
    """The cells over the blocks of a volume, up to the one that holds all of it.

    Attributes
    ----------
    shape
        Of the volume, in voxels.
    block_shape
        Of a block; those at the upper ends may be smaller.

    Examples
    --------
    >>> tree = Octree((10, 30), (8, 8))
    >>> [tree.cells(level).counts for level in range(tree.depth + 1)]
    [(2, 4), (1, 2), (1, 1)]
    >>> [child.name for child in tree.children(1, tree.cells(1).named("0_1"))]
    ['0_2', '0_3', '1_2', '1_3']
    """

    shape: tuple[int, ...]
    block_shape: tuple[int, ...]

    @property
    def depth(self) -> int:
        """Number of levels above the blocks."""
        return (max(BlockGrid(self.shape, self.block_shape).counts) - 1).bit_length()

    def cells(self, level: int) -> BlockGrid:
        """The cells of a level: the grid of blocks that are 2**level times as wide."""
        return BlockGrid(self.shape, tuple(n << level for n in self.block_shape))

    def children(self, level: int, cell: Block) -> Iterator[Block]:
        """The cells of the level below that make up a cell of this one; none of a block."""
        if level:
            below = self.cells(level - 1)
            places = [range(2 * i, min(2 * i + 2, n)) for i, n in zip(cell.index, below.counts, strict=True)]
            yield from (below.at(index) for index in itertools.product(*places))

    def parent(self, level: int, cell: Block) -> Block:
        """The cell of the level above that a cell is in."""
        return self.cells(level + 1).at(tuple(i // 2 for i in cell.index))

    def all_cells(self) -> Iterator[tuple[int, Block]]:
        """Level and cell of all cells, in the order of their numbers: every one comes after what it holds."""
        for level in range(self.depth + 1):
            for cell in self.cells(level):
                yield level, cell

    def numbers(self, levels: np.ndarray, places: np.ndarray) -> np.ndarray:
        """Numbers of cells, int64, ``(n,)``, given their levels and places as `homes` gives them.

        Examples
        --------
        >>> Octree((16, 16), (4, 4)).numbers(np.array([0, 1, 2]), np.array([[0, 1], [0, 1], [0, 0]])).tolist()
        [1, 17, 20]
        """
        numbers = np.empty(len(levels), np.int64)
        first = 0
        for level in range(self.depth + 1):
            grid, here = self.cells(level), levels == level
            numbers[here] = first + np.ravel_multi_index(tuple(places[here].T), grid.counts)
            first += len(grid)
        return numbers

    def homes(
        self, begins: np.ndarray, ends: np.ndarray, reach: tuple[int, ...]
    ) -> tuple[np.ndarray, np.ndarray]:
        """The smallest cell that each of some boxes lies in, with as many voxels around it as there are.

        Parameters
        ----------
        begins, ends
            ``(n, d)`` voxels, ends exclusive.
        reach
            Voxels around a box that are to lie in the cell, or beyond the volume, one number an axis.

        Returns
        -------
        levels, places
            int64, ``(n,)`` and ``(n, d)``: level of the cell, and its place in the grid of that level.

        Examples
        --------
        >>> levels, places = Octree((16, 16), (4, 4)).homes(
        ...     np.array([[0, 0], [9, 5], [8, 5]]), np.array([[3, 3], [11, 7], [11, 7]]), (1, 1)
        ... )
        >>> levels.tolist(), places.tolist()
        ([0, 0, 2], [[0, 0], [2, 1], [0, 0]])
        """
        shape = np.array(self.shape)
        first = np.maximum(begins - reach, 0) // self.block_shape
        last = (np.minimum(ends + reach, shape) - 1) // self.block_shape
        differing = (first ^ last).max(axis=1, initial=0)
        # The exponent of frexp is the number of bits of a whole number.
        levels = np.frexp(differing)[1].astype(np.int64)
        return levels, first >> levels[:, None]
