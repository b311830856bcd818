import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsd_dask.segmentation.quantisation import quantisation_of, quantise

from ..helpers.strategies import affinities

FLOATS = ["float16", "float32", "float64", ">f4"]


@given(affinities((3, 4), dtypes="ufde"))
def test_upper_bits_are_the_bin_that_waterz_takes(values):
    expected = (
        values if values.dtype == np.uint8 else np.minimum((256 * values.astype("f8")).astype(int), 255)
    )
    assert np.array_equal(quantise(values) >> quantisation_of(values.dtype).shift, expected)


@given(affinities((3, 4), dtypes="fde"))
def test_floats_lose_less_than_one_part_in_65536(values):
    error = values.astype("f8") - quantise(values) / 65536
    assert (error >= 0).all()
    assert (error <= 1 / 65536).all()


@pytest.mark.parametrize("dtype", FLOATS)
def test_floats_become_integers_of_one_layout(dtype):
    values = np.linspace(0, 1, 12).reshape(3, 4).astype(dtype)
    for layout in (values, np.asfortranarray(values), values[:, ::-1]):
        integers = quantise(layout)
        assert integers.dtype == np.uint16
        assert integers.flags.c_contiguous
        assert np.array_equal(integers, np.minimum(layout.astype("f8") * 65536, 65535).astype(int))


def test_uint8_is_taken_as_it_is():
    values = np.arange(256, dtype=np.uint8)
    assert np.shares_memory(quantise(values), values)
    assert quantise(np.asfortranarray(values.reshape(16, 16))).flags.c_contiguous


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_ends_of_the_scale(dtype):
    one = 255 if dtype == "uint8" else 1
    quantisation = quantisation_of(dtype)
    integers = quantise(np.array([0, one], dtype))
    assert integers.tolist() == [0, quantisation.scale]
    assert (integers >> quantisation.shift).tolist() == [0, 255]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_little_is_needed_beside_the_result(dtype):
    values = np.ones((3, 40, 64, 64), dtype)
    quantise(values[:, :1])  # Machine code that is loaded, or compiled, takes memory as well.
    tracemalloc.start()
    quantise(values)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < values.size * 2 + 4 * 64 * 64 * 8 + 100_000


def test_no_affinities():
    assert quantise(np.empty((3, 0), np.float32)).shape == (3, 0)


@given(
    st.sampled_from(["float16", "float32", "float64"]), st.sampled_from([np.nan, -0.1, 1.1, np.inf, -np.inf])
)
def test_floats_out_of_range(dtype, value):
    with pytest.raises(ValueError, match=r"expected values from 0 to 1") as error:
        quantise(np.array([0.5, value], dtype))
    found = sorted([0.5, float(np.dtype(dtype).type(value))])
    assert ("NaN" if np.isnan(value) else "from {:g} to {:g}".format(*found)) in str(error.value)


@pytest.mark.parametrize("dtype", ["uint16", "int8", "bool", "complex64"])
def test_types_that_are_no_affinities(dtype):
    with pytest.raises(TypeError, match=rf"stored as {dtype}, expected uint8"):
        quantise(np.zeros(3, dtype))
