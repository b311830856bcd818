"""How a stored array is a volume: put together key by key from all places that say something of it.

The places are asked in order: the array itself, its group, the multiscale around it. For each key - axes,
voxel size, offset, units - the first that states it wins, and what the caller states comes before all. Where
one place states a key twice, the two have to agree. Lists are in the order of the axes that the same place
names, or else in that in which the array is stored, and have one entry for each axis or each spatial one.

A length is in the unit stated beside it; if there is none, in the first unit that any place states.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ...checks.arguments import shown
from ...space.grids import Grid
from ...space.lengths import convert
from ...space.units import UNKNOWN, can_convert, unit_name
from .axes import SPACE, axis_of, kind_of, names_agree, stored_dims

#: How much two numbers that say the same may differ, relatively.
_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Layout:
    """How a stored array is a volume.

    Parameters
    ----------
    grid : Grid
        The spatial axes.
    dims : tuple of str
        All axes of the volume: the grid's, after ``"channel"`` where there are channels.
    stored_dims : tuple of str or None
        The axes in the order in which the array is stored; None for those of length one (time) that the
        volume does without. Empty if they are `dims`.
    """

    grid: Grid
    dims: tuple[str, ...]
    stored_dims: tuple[str | None, ...] = ()

    def of_volume(self, stored: Sequence[int]) -> tuple[int, ...]:
        """Entries of a list with one for each stored axis, in the order of the volume's axes."""
        order = self.stored_dims or self.dims
        return tuple(stored[order.index(dim)] for dim in self.dims)


@dataclass(frozen=True)
class Stated:
    """What a key says.

    Parameters
    ----------
    key : str
        As the file calls it.
    value
        As it stands there, with one entry for each stored axis or each spatial one. It is checked when used.
    units
        Those of these lengths alone, where they are stated with them.
    factors
        What to multiply with: the value is that of the finest level.
    problem : str
        Why the value cannot be used, for a message if no other place states it.
    """

    key: str
    value: Any = None
    units: Any = None
    factors: Any = None
    problem: str = ""


@dataclass(frozen=True)
class Source:
    """What one place says of an array. Several entries of a key have to agree.

    Parameters
    ----------
    where : str
        The place, for messages.
    names, kinds, voxel_size, offset, units : tuple of Stated
    assumed_unit : str
        Unit of lengths for which none is stated anywhere.
    """

    where: str
    names: tuple[Stated, ...] = ()
    kinds: tuple[Stated, ...] = ()
    voxel_size: tuple[Stated, ...] = ()
    offset: tuple[Stated, ...] = ()
    units: tuple[Stated, ...] = ()
    assumed_unit: str = "nanometer"


@dataclass(frozen=True)
class _Lengths:
    """Lengths by spatial axis, who stated them, and in which units if that was said beside them."""

    values: Mapping[str, float]
    units: Mapping[str, str] = field(default_factory=dict)
    source: Source | None = None
    key: str = ""
    entries: int = 0


def layout_of(
    shape: Sequence[int], sources: Sequence[Source], stated: Mapping[str, Any], *, where: str
) -> Layout:
    """Put together what is said of a stored array.

    Parameters
    ----------
    shape : sequence of int
        Of the stored array.
    sources : sequence of Source
        In the order in which they are asked.
    stated : mapping
        ``voxel_size``, ``offset`` (z, y, x) and ``units`` as the caller states them.
    where : str
        The array's path, for messages.

    Returns
    -------
    Layout
        With voxel size 1, offset 0 and unit ``"voxel"`` where nothing is said.

    Raises
    ------
    ValueError
        If what is said does not fit the shape or contradicts itself, or the axes are not those of a volume.
    """
    if "units" in stated:
        sources = [_without_units(source) for source in sources]
    stored = _stored_dims(shape, sources, stated, where)
    spatial = tuple(dim for dim in SPACE if dim in stored)
    dims = ("channel",) * ("channel" in stored) + spatial
    lengths = {
        what: _from_caller(what, stated, dims) or _lengths(what, sources, stored, where)
        for what in ("voxel_size", "offset")
    }
    size, corner = lengths["voxel_size"], lengths["offset"]
    named = any(_first_texts(what, sources, len(shape), where)[0] for what in ("names", "kinds"))
    if not named and size and corner and size.source == corner.source and size.entries != corner.entries:
        raise ValueError(f"{where}: {_shown(size)} and {_shown(corner)} differ in length")
    units, declaring = _declared_units(sources, stored, where)
    _check_own_unit(size, declaring, units, stored, where)
    if units:
        unit = _common_unit(units, where)
    else:
        unit = UNKNOWN if size is None else size.source.assumed_unit if size.source else "nanometer"
    sizes = _in_unit(size, units, unit, where) or dict.fromkeys(spatial, 1.0)
    offsets = _in_unit(corner, units, unit, where) or dict.fromkeys(spatial, 0.0)
    extent = tuple(shape[stored.index(dim)] for dim in spatial)
    size_list, corner_list = (tuple(by_axis[dim] for dim in spatial) for by_axis in (sizes, offsets))
    try:
        grid = Grid(spatial, extent, size_list, corner_list, stated.get("units", unit))
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    return Layout(grid, dims, () if stored == dims else stored)


def _without_units(source: Source) -> Source:
    size, offset = (
        tuple(replace(said, units=None) for said in stated) for stated in (source.voxel_size, source.offset)
    )
    return replace(source, voxel_size=size, offset=offset, units=())


def _stored_dims(
    shape: Sequence[int], sources: Sequence[Source], stated: Mapping[str, Any], where: str
) -> tuple[str | None, ...]:
    names, of_names = _first_texts("names", sources, len(shape), where)
    kinds, of_kinds = _first_texts("kinds", sources, len(shape), where)
    listed = [stated.get("voxel_size"), stated.get("offset")]
    listed += [said.value for source in sources for said in (*source.voxel_size, *source.offset)]
    n_listed = next((len(value) for value in listed if isinstance(value, list | tuple)), None)
    said = " and ".join(part for part in (of_names, of_kinds) if part) or "no names of axes"
    found = f"axes of shape {tuple(shape)}: {said}"
    try:
        return stored_dims(shape, names, kinds, n_listed=n_listed, found=found)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _first_texts(
    what: str, sources: Sequence[Source], ndim: int, where: str
) -> tuple[list[str | None] | None, str]:
    """Names or kinds of the axes as the first source that says something states them, and who that is."""
    means = axis_of if what == "names" else kind_of
    problem = ""
    for source in sources:
        lists = []
        for said in getattr(source, what):
            label = _label(said.key, source, where)
            problem = problem or (said.problem and f"{where}: {label}: {said.problem}")
            texts = None if said.problem else _texts(said.value, ndim, f"{where}: {label}", what)
            if texts is not None and any(means(text) is not None for text in texts):
                lists.append((texts, f"{label} {shown(texts)}"))
        for texts, label in lists[1:]:
            agree = names_agree(lists[0][0], texts) if what == "names" else lists[0][0] == texts
            if not agree:
                raise ValueError(f"{where}: {lists[0][1]} and {label} contradict each other")
        if lists:
            return _merged([texts for texts, _ in lists], means), lists[0][1]
    if problem:
        raise ValueError(problem)
    return None, ""


def _merged(lists: Sequence[list[str | None]], means: Any) -> list[str | None]:
    """For each axis the first text that means something, if possible something known."""
    known = (None, "channel", "time", "space", *SPACE)
    merged = []
    for texts in zip(*lists, strict=True):
        telling = sorted((t for t in texts if means(t) is not None), key=lambda t: means(t) not in known)
        merged.append(telling[0] if telling else None)
    return merged


def _texts(value: Any, ndim: int, label: str, what: str) -> list[str | None]:
    if isinstance(value, str) and len(value) == ndim:
        value = list(value)
    if not isinstance(value, list | tuple) or not all(isinstance(v, str | None) for v in value):
        raise ValueError(f"{label}: found {shown(value)}, expected a list of {what}, one for each axis")
    if len(value) != ndim:
        raise ValueError(f"{label}: the array has {ndim} axes, but this has {len(value)}: {shown(value)}")
    return list(value)


def _from_caller(what: str, stated: Mapping[str, Any], dims: Sequence[str]) -> _Lengths | None:
    if what not in stated:
        return None
    values = list(stated[what])
    return _Lengths(_by_axis(values, dims, what), key=what, entries=len(values))


def _lengths(
    what: str, sources: Sequence[Source], stored: Sequence[str | None], where: str
) -> _Lengths | None:
    """Voxel size or offset as the first source that has it states it."""
    problem = ""
    for source in sources:
        found: list[_Lengths] = []
        for said in getattr(source, what):
            label = f"{where}: {_label(said.key, source, where)}"
            if said.problem:
                problem = problem or f"{label}: {said.problem}"
            else:
                found.append(_placed(said, source, stored, what, label, where))
        for other in found[1:]:
            if not _same(found[0], other):
                one, two = (
                    f"{_label(lengths.key, source, where)} {_shown(lengths)}" for lengths in (found[0], other)
                )
                raise ValueError(
                    f"{where}: {one} and {two} contradict each other, expected the same {what} (z, y, x)"
                )
        if found:
            return found[0]
    if problem:
        raise ValueError(problem)
    return None


def _placed(
    said: Stated, source: Source, stored: Sequence[str | None], what: str, label: str, where: str
) -> _Lengths:
    axes = _axes_of_lists(source, stored, where)
    try:
        values = _numbers_by_axis(said.value, axes, what)
        if said.factors is not None:
            factors = _numbers_by_axis(said.factors, axes, "voxel_size")
            values = {dim: value * factors[dim] for dim, value in values.items()}
        units = _unit_by_axis(said.units, axes)
    except ValueError as error:
        raise ValueError(f"{label}: {error}") from None
    units = units or _units_of(source, stored, where)
    return _Lengths(values, units, source, said.key, len(said.value))


def _axes_of_lists(source: Source, stored: Sequence[str | None], where: str) -> Sequence[str | None]:
    """Axes in the order of a source's lists: those that it names itself, or else as the array is stored."""
    if all(said.problem for said in source.names):
        return stored
    names, _ = _first_texts("names", [source], len(stored), where)
    axes = [axis_of(name) for name in names or ()]
    spatial = [dim for dim in SPACE if dim in stored]
    return axes if all(axes.count(dim) == 1 for dim in spatial) else stored


def _numbers_by_axis(value: Any, axes: Sequence[str | None], what: str) -> dict[str, float]:
    low, expected = (0.0, "positive") if what == "voxel_size" else (-math.inf, "finite")
    if isinstance(value, list | tuple):
        by_axis = _by_axis(value, axes, what)
        if all(
            isinstance(v, int | float) and not isinstance(v, bool) and low < v < math.inf
            for v in by_axis.values()
        ):
            return {dim: float(v) for dim, v in by_axis.items()}
    raise ValueError(f"found {shown(value)}, expected a list of {expected} numbers, one for each axis")


def _by_axis(values: Sequence[Any], axes: Sequence[str | None], what: str) -> dict[str, Any]:
    """Entries of the spatial axes, from a list with one for each axis or one for each spatial axis."""
    spatial = [axis for axis in axes if axis in SPACE]
    entries = axes if len(values) == len(axes) else spatial
    if len(values) != len(entries):
        raise ValueError(
            f"{what} needs {len(spatial)} entries, one per spatial axis, but has {len(values)}: "
            f"{shown(list(values))}"
        )
    by_axis = {axis: value for axis, value in zip(entries, values, strict=True) if axis in SPACE}
    return {str(dim): by_axis[dim] for dim in SPACE if dim in by_axis}


def _unit_by_axis(value: Any, axes: Sequence[str | None]) -> dict[str, str]:
    spatial = [axis for axis in axes if axis in SPACE]
    if value is None:
        return {}
    units = [value] * len(spatial) if isinstance(value, str) else value
    if not isinstance(units, list | tuple) or not all(isinstance(u, str | None) for u in units):
        raise ValueError(f"found {shown(value)}, expected the name of a unit, or one for each axis")
    by_axis = _by_axis(units, axes, "units")
    if all(unit is None for unit in by_axis.values()):
        return {}
    missing = [axis for axis, unit in by_axis.items() if unit is None]
    if missing:
        raise ValueError(f"found {shown(value)}, expected a unit also for {', '.join(missing)}")
    return {axis: unit_name(unit) for axis, unit in by_axis.items()}


def _units_of(source: Source, stored: Sequence[str | None], where: str) -> dict[str, str]:
    """Units that a source states for all its lengths."""
    return _first_units([(said.key, said.value) for said in source.units], source, stored, where)


def _units_of_lengths(source: Source, stored: Sequence[str | None], where: str) -> dict[str, str]:
    """Units that a source states for some of its lengths."""
    lengths = [said for said in (*source.voxel_size, *source.offset) if not said.problem]
    return _first_units([(said.key, said.units) for said in lengths], source, stored, where)


def _first_units(
    stated: Sequence[tuple[str, Any]], source: Source, stored: Sequence[str | None], where: str
) -> dict[str, str]:
    axes = _axes_of_lists(source, stored, where)
    for key, value in stated:
        try:
            if units := _unit_by_axis(value, axes):
                return units
        except ValueError as error:
            raise ValueError(f"{where}: {_label(key, source, where)}: {error}") from None
    return {}


def _declared_units(
    sources: Sequence[Source], stored: Sequence[str | None], where: str
) -> tuple[dict[str, str], Source | None]:
    for look in (_units_of, _units_of_lengths):
        for source in sources:
            if units := look(source, stored, where):
                return units, source
    return {}, None


def _check_own_unit(
    size: _Lengths | None,
    declaring: Source | None,
    units: Mapping[str, str],
    stored: Sequence[str | None],
    where: str,
) -> None:
    """Refuse a voxel size whose unit would be that of another place with another voxel size."""
    if size is None or size.source is None or size.units or declaring is None or not declaring.voxel_size:
        return
    other = _lengths("voxel_size", [declaring], stored, where)
    assumed = dict.fromkeys(units, size.source.assumed_unit)
    if other is None or dict(units) == assumed or _same(size, _Lengths(other.values)):
        return
    one, two = _label(size.key, size.source, where), _label(other.key, declaring, where)
    raise ValueError(
        f"{where}: {one} is {_shown(size)} without units, and {two} is {_shown(other)}: expected units "
        "beside the former, as they cannot be the same"
    )


def _in_unit(
    lengths: _Lengths | None, declared: Mapping[str, str], unit: str, where: str
) -> dict[str, float] | None:
    if lengths is None:
        return None
    converted = {}
    for dim, value in lengths.values.items():
        own = lengths.units.get(dim) or declared.get(dim, unit)
        if not can_convert(own, unit):
            raise ValueError(f"{where}: {lengths.key} is in {own}, expected the unit of all, {unit}")
        converted[dim] = float(convert(value, own, unit))
    return converted


def _common_unit(units: Mapping[str, str], where: str) -> str:
    """The unit of all axes, or the smallest one."""
    one, *others = set(units.values())
    if not all(can_convert(one, other) for other in others):
        raise ValueError(
            f"{where}: units: found {list(units.values())}, expected one unit for all axes, or lengths"
        )
    return min([one, *others], key=lambda unit: float(convert(1, unit, one)))


def _same(one: _Lengths, other: _Lengths) -> bool:
    for dim, value in one.values.items():
        mine, theirs = one.units.get(dim), other.units.get(dim)
        compared = other.values[dim]
        if mine and theirs:
            if not can_convert(theirs, mine):
                return False
            compared = float(convert(compared, theirs, mine))
        if not math.isclose(value, compared, rel_tol=_TOLERANCE, abs_tol=1e-9):
            return False
    return True


def _shown(lengths: _Lengths) -> str:
    numbers = ", ".join(f"{value:.10g}" for value in lengths.values.values())
    return " ".join([f"({numbers})", *sorted(set(lengths.units.values()))])


def _label(key: str, source: Source, where: str) -> str:
    return key if source.where == where else f"{key} of {source.where}"
