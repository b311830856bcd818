import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsd_dask import ids


def voxels(ndim: int) -> st.SearchStrategy[list[tuple[int, ...]]]:
    index = st.integers(0, 2 ** ids.BITS[ndim] - 1)
    return st.lists(st.tuples(*[index] * ndim), min_size=1)


any_voxels = st.sampled_from([2, 3]).flatmap(voxels)


def interleaved(voxel: tuple[int, ...]) -> int:
    """1 + Morton code, from strings of bits."""
    bits = ids.BITS[len(voxel)]
    return 1 + int("".join("".join(b) for b in zip(*(f"{i:0{bits}b}" for i in voxel), strict=True)), 2)


@given(any_voxels)
def test_ids_interleave_bits(indices):
    assert ids.encode(np.array(indices)).tolist() == [interleaved(v) for v in indices]


@given(any_voxels)
def test_ids_are_addresses(indices):
    assert ids.decode(ids.encode(np.array(indices)), len(indices[0])).tolist() == [list(v) for v in indices]


@given(any_voxels, st.data())
def test_larger_along_any_axis_is_a_larger_id(indices, data):
    step = np.array(indices)
    axis = data.draw(st.integers(0, step.shape[1] - 1))
    step = step[step[:, axis] < 2 ** ids.BITS[step.shape[1]] - 1]
    after = step.copy()
    after[:, axis] += 1
    assert (ids.encode(after) > ids.encode(step)).all()


def test_every_voxel_of_a_cube_has_an_id_of_its_own_and_none_is_background():
    cube = np.indices((16, 16, 16)).reshape(3, -1).T
    assert np.sort(ids.encode(cube)).tolist() == list(range(1, 16**3 + 1))


@pytest.mark.parametrize(("ndim", "largest"), [(2, 2**62), (3, 2**63)])
def test_the_last_voxel_has_the_largest_id(ndim, largest):
    last = np.full((1, ndim), 2 ** ids.BITS[ndim] - 1)
    assert ids.encode(last).tolist() == [largest]
    assert ids.decode(np.array([largest], np.uint64), ndim).tolist() == last.tolist()


@pytest.mark.parametrize("ndim", [2, 3])
def test_no_voxels(ndim):
    assert ids.encode(np.empty((0, ndim), int)).shape == (0,)
    assert ids.decode(np.empty(0, np.uint64), ndim).shape == (0, ndim)


@pytest.mark.parametrize("dtype", ["int8", "uint16", "uint64", ">i4"])
def test_indices_of_any_integer_type(dtype):
    assert ids.encode(np.array([[0, 1, 1]], dtype)).tolist() == [4]


@pytest.mark.parametrize("indices", [[[0, 0, 2**21]], [[0, 2**31]], [[-1, 0, 0]], [[1, 2, 3, 4]], [[7]]])
def test_voxels_that_have_no_address(indices):
    with pytest.raises(ValueError, match=r"expected at most|must not be negative|2-D or 3-D"):
        ids.encode(np.array(indices))


@pytest.mark.parametrize("indices", [[1, 2, 3], [[0.5, 1.0, 2.0]]])
def test_indices_that_are_no_rows_of_whole_numbers(indices):
    with pytest.raises(ValueError, match=r"expected whole numbers of shape \(n, 3\) or \(n, 2\)"):
        ids.encode(np.array(indices))


@pytest.mark.parametrize(("fragment", "ndim"), [(0, 3), (2**63 + 1, 3), (2**62 + 1, 2)])
def test_ids_that_are_no_addresses(fragment, ndim):
    with pytest.raises(ValueError, match=f"Id {fragment} "):
        ids.decode(np.array([1, fragment], np.uint64), ndim)


def test_extent_of_a_volume():
    ids.check_extent((2**21, 1, 2**21))
    with pytest.raises(ValueError, match=r"\(1, 2097153, 1\) voxels is too large .* 2097152 voxels an axis"):
        ids.check_extent((1, 2**21 + 1, 1))
