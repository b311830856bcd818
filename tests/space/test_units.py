"""Names of units of length, and lengths of one in those of another."""

from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsd_dask.space.grids import Grid
from lsd_dask.space.lengths import convert, lengths_in
from lsd_dask.space.units import can_convert, parse_length, unit_name, unit_symbol

#: What people and programs write, by the name that OME-NGFF has for it.
SPELLINGS = {
    "nanometer": ["nm", "NM", "nanometers", "Nanometre", "nanometres", " nm "],
    "micrometer": ["um", "µm", "μm", "UM", "micron", "Microns", "micrometres", "\\u00B5m"],
    "millimeter": ["mm", "millimetre", "MILLIMETERS"],
    "centimeter": ["cm", "centimetres"],
    "meter": ["m", "metre", "Meters"],
    "picometer": ["pm", "picometers"],
    "angstrom": ["Å", "\u212b", "å", "Angstroms", "ångström"],
    "inch": ["in", "inches", "Inch"],
    "voxel": ["", "px", "pixel", "Pixels", "voxels"],
}
METERS = {
    "picometer": "1e-12",
    "angstrom": "1e-10",
    "nanometer": "1e-9",
    "micrometer": "1e-6",
    "millimeter": "1e-3",
    "centimeter": "1e-2",
    "meter": "1",
    "inch": "0.0254",
}
#: Numbers that people write: of up to six digits, with some of them after the point.
decimals = st.builds(lambda n, d: Decimal(n).scaleb(-d), st.integers(1, 10**6), st.integers(0, 5))
lengths = st.sampled_from(sorted(METERS))


@pytest.mark.parametrize("name", SPELLINGS)
def test_spellings_of_a_unit(name: str) -> None:
    assert {unit_name(text) for text in [name, name.upper(), *SPELLINGS[name]]} == {name}
    assert unit_name(unit_symbol(name)) == name


@pytest.mark.parametrize("text", ["ms", "s", "seconds", "fathom", "mM", "nms", "degrees", "nm/px"])
def test_what_is_no_known_unit_of_length_stays_as_it_is(text: str) -> None:
    # Prefixes are not told by their case: nobody measures voxels in megameters.
    if text != "mM":
        assert unit_name(text) == text
        assert not can_convert(text, "nanometer") and not can_convert(text, "voxel")
        assert convert([3], text, text).tolist() == [3]


@given(number=decimals, units=lengths, to=lengths)
def test_decimal_numbers_become_decimal_numbers(number: Decimal, units: str, to: str) -> None:
    expected = number * Decimal(METERS[units]) / Decimal(METERS[to])
    found = float(convert(float(number), units, to))
    # Of numbers with many digits, the last of those that a float can hold may differ.
    exact = len(expected.normalize().as_tuple().digits) <= 12 and expected > Decimal("1e-7")
    assert found == (float(expected) if exact else pytest.approx(float(expected), rel=1e-14))


@given(number=decimals, units=lengths, to=lengths)
def test_there_and_back(number: Decimal, units: str, to: str) -> None:
    back = convert(convert(float(number), units, to), to, units)
    assert float(back) == pytest.approx(float(number), rel=1e-14)


def test_numbers_without_digits_stay() -> None:
    found = convert([0, -0.043, np.inf, -np.inf, np.nan], "um", "nm")
    np.testing.assert_array_equal(found, [0, -43, np.inf, -np.inf, np.nan])


@given(number=decimals, units=st.sampled_from([u for us in SPELLINGS.values() for u in us if u.strip()]))
def test_a_length_with_its_unit(number: Decimal, units: str) -> None:
    if units != "\\u00B5m":
        assert parse_length(f"{number}{units}") == parse_length(f" {number} {units} ")
        assert parse_length(f"-{number} {units}") == (-float(number), unit_name(units))
    assert parse_length(str(number)) == (float(number), None)


@pytest.mark.parametrize("text", ["", "nm", "1 fathom", "1 2 nm", "1,2 um", "1 s", "nan", "inf nm", "0x10"])
def test_what_is_no_length(text: str) -> None:
    with pytest.raises(ValueError, match=r"^roi_offset: found .*expected a number"):
        lengths_in("nanometer", "roi_offset", [text])


def test_lengths_of_a_unit_that_the_volume_does_not_know() -> None:
    with pytest.raises(ValueError, match=r"^block_size: .* nanometer and in voxel"):
        Grid(("y", "x"), (4, 4), (1, 1), (0, 0), "voxel").lengths("block_size", ["8 nm", 8])
    assert Grid(("y", "x"), (4, 4), (1, 1), (0, 0), "px").lengths("block_size", ["8 px", 8]) == (8, 8)


def test_a_grid_knows_units_by_one_name() -> None:
    first, second = (Grid(("y", "x"), (4, 4), (4, 4), (0, 0), name) for name in ("nm", "Nanometers"))
    assert first == second and first.units == "nanometer"


@given(sizes=st.tuples(decimals, decimals), units=lengths, to=lengths)
def test_a_grid_in_other_units_has_the_same_voxels(
    sizes: tuple[Decimal, Decimal], units: str, to: str
) -> None:
    grid = Grid(("y", "x"), (4, 4), [float(s) for s in sizes], [float(3 * s) for s in sizes], units)
    told = grid.told_in(to)
    assert told.units == to and told.in_units_of(grid).begins_like(grid)
    first, second = (np.divide(each.offset, each.voxel_size) for each in (grid, told))
    np.testing.assert_allclose(first, second, rtol=1e-12)


def test_where_no_unit_is_known_voxels_of_one_size_are_compared() -> None:
    dims, shape = ("y", "x"), (4, 4)
    known = Grid(dims, shape, (8, 8), (16, 0), "nanometer")
    assert Grid(dims, shape, (8, 8), (16, 0), "voxel").in_units_of(known) == known
    assert known.in_units_of(Grid(dims, shape, (8, 8), (0, 0), "voxel")).units == "voxel"
    for other in (Grid(dims, shape, (1, 1), (0, 0), "voxel"), Grid(dims, shape, (8, 8), (0, 0), "fathom")):
        for one, two in ((known, other), (other, known)):
            with pytest.raises(ValueError, match=rf"^units: .*{one.units}.*{two.units}"):
                one.in_units_of(two)
