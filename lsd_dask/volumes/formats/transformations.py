"""Coordinate transformations of OME-NGFF, from the voxels of an array to a coordinate system.

Those that scale, shift and reorder axes are composed; a matrix is taken if it does no more than that. All
others are refused by name, since voxels would have to be computed.

References
----------
.. [1] https://ngff.openmicroscopy.org/rfc/5/
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from ...checks.arguments import shown

#: What counts as zero in a matrix, next to its largest entry: cos(90 degrees) is 6e-17.
_ZERO = 1e-9


@dataclass(frozen=True)
class Placement:
    """Where the voxels of an array lie, along the axes of a coordinate system.

    Parameters
    ----------
    order : tuple of int
        For each axis of the coordinate system, the axis of the array that it is.
    scale, translation : tuple of float
        Along the axes of the coordinate system.
    shifted : bool
        Whether there is a word of a translation.
    """

    order: tuple[int, ...]
    scale: tuple[float, ...]
    translation: tuple[float, ...]
    shifted: bool = False

    @classmethod
    def of_array(cls, ndim: int) -> Self:
        """That of an array in its own voxels."""
        return cls(tuple(range(ndim)), (1.0,) * ndim, (0.0,) * ndim)

    def then(self, steps: Iterable[Any]) -> "Placement":
        """Apply transformations, one after the other.

        Parameters
        ----------
        steps : iterable of mapping
            As they stand in the metadata.

        Returns
        -------
        Placement

        Raises
        ------
        ValueError
            For one that does more than to scale, shift and reorder axes, or is malformed.

        Examples
        --------
        >>> swapped = Placement.of_array(2).then([{"type": "mapAxis", "mapAxis": [1, 0]}])
        >>> swapped.then([{"type": "scale", "scale": [4, 8]}]).along_array("scale")
        (8.0, 4.0)
        """
        placement = self
        for step in steps:
            placement = placement._after(step)
        return placement

    def along_array(self, what: str) -> tuple[float, ...]:
        """Scale or translation, in the order of the array's axes."""
        values = getattr(self, what)
        return tuple(values[self.order.index(axis)] for axis in range(len(self.order)))

    def _after(self, step: Any, *, within: bool = False) -> "Placement":
        kind = step.get("type") if isinstance(step, Mapping) else None
        if kind == "identity":
            return self
        if kind == "sequence" and not within:
            steps = step.get("transformations")
            if not isinstance(steps, list):
                raise ValueError(f"found {shown(step)}, expected a list of transformations in the sequence")
            placement = self
            for inner in steps:
                placement = placement._after(inner, within=True)
            return placement
        n = len(self.order)
        if kind == "scale":
            return self._scaled(_numbers(step, kind, n))
        if kind == "translation":
            return self._shifted(_numbers(step, kind, n))
        if kind == "mapAxis":
            order = step.get(kind)
            if not _is_permutation(order, n):
                raise ValueError(f"found {shown(step)}, expected each of the axes 0 to {n - 1} once")
            return self._reordered(order)
        if kind in ("affine", "rotation"):
            return self._by_matrix(_matrix(step, kind, n))
        known = "identity, scale, translation, sequence, mapAxis, affine or rotation"
        raise ValueError(f"found {shown(step)}, expected a transformation of the type {known}")

    def _scaled(self, factors: Sequence[float]) -> "Placement":
        scale, translation = (
            tuple(a * b for a, b in zip(values, factors, strict=True))
            for values in (self.scale, self.translation)
        )
        return Placement(self.order, scale, translation, self.shifted)

    def _shifted(self, by: Sequence[float]) -> "Placement":
        translation = tuple(a + b for a, b in zip(self.translation, by, strict=True))
        return Placement(self.order, self.scale, translation, shifted=True)

    def _reordered(self, order: Sequence[int]) -> "Placement":
        scale, translation = (tuple(values[i] for i in order) for values in (self.scale, self.translation))
        return Placement(tuple(self.order[i] for i in order), scale, translation, self.shifted)

    def _by_matrix(self, rows: Sequence[Sequence[float]]) -> "Placement":
        n = len(rows)
        largest = max(abs(value) for row in rows for value in row[:n])
        axes = [[i for i, value in enumerate(row[:n]) if abs(value) > _ZERO * largest] for row in rows]
        if not all(len(axis) == 1 for axis in axes) or not _is_permutation([axis[0] for axis in axes], n):
            raise ValueError(
                f"found the matrix {shown(list(rows))}, expected one that scales, shifts and reorders axes"
            )
        placement = self._reordered([axis[0] for axis in axes])
        placement = placement._scaled([row[axis[0]] for row, axis in zip(rows, axes, strict=True)])
        return placement._shifted([row[n] for row in rows]) if len(rows[0]) > n else placement


def _numbers(step: Mapping[str, Any], kind: str, n: int) -> list[float]:
    values = step.get(kind)
    if not isinstance(values, list) or not _are_numbers(values, n):
        raise ValueError(f"found {shown(step)}, expected scales and translations of {n} numbers")
    return [float(value) for value in values]


def _matrix(step: Mapping[str, Any], kind: str, n: int) -> list[list[float]]:
    rows, width = step.get(kind), n + (kind == "affine")
    if not isinstance(rows, list) or len(rows) != n or not all(_are_numbers(row, width) for row in rows):
        raise ValueError(f"found {shown(step)}, expected a matrix of {n} rows of {width} numbers")
    return [[float(value) for value in row] for row in rows]


def _are_numbers(values: Any, n: int) -> bool:
    whole = isinstance(values, list) and len(values) == n
    return whole and all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)


def _is_permutation(order: Any, n: int) -> bool:
    whole = isinstance(order, list) and all(isinstance(i, int) and not isinstance(i, bool) for i in order)
    return whole and sorted(order) == list(range(n))
