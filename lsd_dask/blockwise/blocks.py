"""The blocks that a volume is worked on in."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from ..space.grids import Region


@dataclass(frozen=True)
class Block:
    """One block of a volume.

    Attributes
    ----------
    index
        Place in the grid of blocks.
    region
        Its voxels.
    """

    index: tuple[int, ...]
    region: Region

    @property
    def name(self) -> str:
        """Name in the ledger.

        Examples
        --------
        >>> Block((0, 12, 3), ()).name
        '0_12_3'
        """
        return "_".join(map(str, self.index))

    @property
    def place(self) -> str:
        """Its voxels, for messages.

        Examples
        --------
        >>> Block((1, 0), (slice(4, 8), slice(0, 3))).place
        '[4:8, 0:3]'
        """
        return "[" + ", ".join(f"{s.start}:{s.stop}" for s in self.region) + "]"


@dataclass(frozen=True)
class BlockGrid:
    """The blocks that cover a volume, in order of their index.

    Attributes
    ----------
    shape
        Of the volume, in voxels.
    block_shape
        Of a block; those at the upper ends may be smaller.
    """

    shape: tuple[int, ...]
    block_shape: tuple[int, ...]

    @property
    def counts(self) -> tuple[int, ...]:
        """Number of blocks along each axis."""
        return tuple(-(-n // b) for n, b in zip(self.shape, self.block_shape, strict=True))

    def __len__(self) -> int:
        count = 1
        for n in self.counts:
            count *= n
        return count

    def __iter__(self) -> Iterator[Block]:
        return map(self.at, itertools.product(*map(range, self.counts)))

    def between(self, start: int, stop: int) -> Iterator[Block]:
        """Some of the blocks: those from the one at `start` to the one before `stop`, in order.

        Examples
        --------
        >>> [block.name for block in BlockGrid((10, 7), (4, 4)).between(1, 4)]
        ['0_1', '1_0', '1_1']
        """
        for number in range(start, stop):
            index = []
            for n in reversed(self.counts):
                number, i = divmod(number, n)
                index.append(i)
            yield self.at(tuple(reversed(index)))

    def named(self, name: str) -> Block:
        """The block of a name.

        Raises
        ------
        ValueError
            If there is none, saying which there are.

        Examples
        --------
        >>> BlockGrid((10, 7), (4, 4)).named("2_1").region
        (slice(8, 10, None), slice(4, 7, None))
        """
        parts = name.split("_")
        index = tuple(int(part) if part.isdecimal() else -1 for part in parts)
        counts = self.counts
        if len(index) != len(counts) or any(not 0 <= i < n for i, n in zip(index, counts, strict=False)):
            last = "_".join(str(n - 1) for n in counts)
            raise ValueError(
                f"there is no block {name!r}; {'_'.join('0' * len(counts))} to {last} there are, of "
                f"{' x '.join(map(str, self.block_shape))} voxels."
            )
        return self.at(index)

    def at(self, index: tuple[int, ...]) -> Block:
        """The block at a place in the grid."""
        region = tuple(
            slice(i * b, min((i + 1) * b, n))
            for i, b, n in zip(index, self.block_shape, self.shape, strict=True)
        )
        return Block(index, region)
