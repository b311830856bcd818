"""Rand scores and variation of information: against their definition, a peer, and any chunking."""

import math
from collections import Counter
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from lsd_dask.evaluation import ContingencyTable, count_overlaps, merge_tables, rand_voi
from lsd_dask.evaluation import volumes as evaluation
from lsd_dask.space.grids import Grid
from lsd_dask.volumes.dask_arrays import label
from lsd_dask.volumes.saving import open_volume, save_volume

NAMES = ["rand_split", "rand_merge", "voi_split", "voi_merge", "nvi_split", "nvi_merge", "nid"]

# Few labels, so that they meet; some above 2**53, where doubles are no longer exact.
label_values = st.sampled_from([0, 1, 2, 3, 2**53, 2**53 + 1, 2**64 - 1])


@st.composite
def pairs_of_volumes(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    shape = draw(npst.array_shapes(min_dims=3, max_dims=3, max_side=6))
    truth = draw(npst.arrays(np.uint64, shape, elements=label_values))
    test = draw(npst.arrays(np.uint64, shape, elements=label_values))
    truth.flat[draw(st.integers(0, truth.size - 1))] = 5
    return truth, test


def chunkings(shape: tuple[int, ...]) -> st.SearchStrategy[tuple[tuple[int, ...], ...]]:
    def split(n: int) -> st.SearchStrategy[tuple[int, ...]]:
        cuts = st.sets(st.integers(1, n - 1)) if n > 1 else st.just(set())
        return cuts.map(lambda c: tuple(np.diff([0, *sorted(c), n]).tolist()))

    return st.tuples(*map(split, shape))


@pytest.mark.parametrize("n", [1, 2048, 2049, 50_000])
@pytest.mark.parametrize("different", [1, 30, 400])
def test_pairs_are_counted_however_many_there_are(n: int, different: int) -> None:
    """More than tables have room for at first, in runs that end where blocks of the kernel do not."""
    rng = np.random.default_rng(n + different)
    ids = np.append(rng.integers(1, 2**64, different, np.uint64), np.uint64(0))
    truth, test = (np.repeat(rng.choice(ids, n), rng.integers(1, 9, n))[:n] for _ in range(2))
    table = ContingencyTable.from_volumes(truth, test)
    expected = Counter((i, j) for i, j in zip(truth.tolist(), test.tolist(), strict=True) if i)
    found = zip(table.truth.tolist(), table.test.tolist(), table.counts.tolist(), strict=True)
    assert {(i, j): count for i, j, count in found} == expected


def scores_by_definition(truth: np.ndarray, test: np.ndarray) -> dict[str, Any]:
    pairs = [(i, j) for i, j in zip(truth.ravel().tolist(), test.ravel().tolist(), strict=True) if i]
    total = len(pairs)
    p = {pair: n / total for pair, n in Counter(pairs).items()}
    a = {i: n / total for i, n in Counter(i for i, _ in pairs).items()}
    b = {j: n / total for j, n in Counter(j for _, j in pairs).items()}

    def entropy(shares: dict[Any, float]) -> float:
        return -sum(s * math.log2(s) for s in shares.values())

    def squares(shares: dict[Any, float]) -> float:
        return sum(s * s for s in shares.values())

    split_i = {i: -sum(s * math.log2(s / a[i]) for (k, _), s in p.items() if k == i) for i in a}
    merge_j = {j: -sum(s * math.log2(s / b[j]) for (_, k), s in p.items() if k == j) for j in b}
    information = entropy(a) + entropy(b) - entropy(p)
    return {
        "rand_split": squares(p) / squares(a),
        "rand_merge": squares(p) / squares(b),
        "voi_split": sum(split_i.values()),
        "voi_merge": sum(merge_j.values()),
        "nvi_split": sum(split_i.values()) / entropy(p) if len(p) > 1 else 0.0,
        "nvi_merge": sum(merge_j.values()) / entropy(p) if len(p) > 1 else 0.0,
        "nid": 1 - information / max(entropy(a), entropy(b)) if len(p) > 1 else 0.0,
        "voi_split_i": split_i,
        "voi_merge_j": merge_j,
    }


def test_the_reference_vector() -> None:
    truth = np.array([1, 1, 2, 2, 2, 3, 3, 3, 3, 4, 4])
    test = np.array([3, 3, 3, 3, 4, 5, 6, 6, 5, 5, 5])
    expected = [0.636364, 0.567568, 0.614081, 0.727273, 0.240784, 0.285167, 0.375607]
    assert [round(rand_voi(truth, test)[name], 6) for name in NAMES] == expected


@given(pairs_of_volumes())
def test_scores_are_what_their_definition_says(volumes: tuple[np.ndarray, np.ndarray]) -> None:
    expected = scores_by_definition(*volumes)
    found = rand_voi(*volumes, return_cluster_scores=True)
    assert found.keys() == expected.keys()
    for name in NAMES:
        assert found[name] == pytest.approx(expected[name], abs=1e-12)
    for name in ("voi_split_i", "voi_merge_j"):
        assert found[name] == pytest.approx(expected[name], abs=1e-12)


def test_scores_agree_with_waterz() -> None:
    waterz = pytest.importorskip("waterz")
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 20, (20, 30, 40), np.uint64)
    test = np.where(
        rng.random(truth.shape) < 0.7, truth // np.uint64(2), rng.integers(0, 50, truth.shape, np.uint64)
    )
    expected = waterz.evaluate(test, truth)
    found = rand_voi(truth, test)
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-9)


@given(pairs_of_volumes())
def test_swapping_the_volumes_swaps_split_and_merge(volumes: tuple[np.ndarray, np.ndarray]) -> None:
    truth, test = (volume + np.uint64(volume.max() < 2**63) for volume in volumes)
    truth[truth == 0], test[test == 0] = 9, 9
    forth, back = rand_voi(truth, test), rand_voi(test, truth)
    for name in ("rand", "voi", "nvi"):
        assert forth[f"{name}_split"] == pytest.approx(back[f"{name}_merge"], abs=1e-12)


def test_identical_volumes_have_perfect_scores() -> None:
    labels = np.arange(1, 65, dtype=np.uint64).reshape(4, 4, 4) % np.uint64(7) + np.uint64(2**60)
    assert rand_voi(labels, labels) == dict.fromkeys(NAMES, 0.0) | {"rand_split": 1.0, "rand_merge": 1.0}


def test_a_single_object_has_perfect_scores() -> None:
    labels = np.ones((2, 2, 2), np.uint8)
    assert rand_voi(labels, labels) == dict.fromkeys(NAMES, 0.0) | {"rand_split": 1.0, "rand_merge": 1.0}


@given(st.data())
def test_any_chunking_gives_the_same_bits(data: st.DataObject) -> None:
    truth, test = data.draw(pairs_of_volumes())
    lazy_truth = da.from_array(truth, data.draw(chunkings(truth.shape)))
    lazy_test = da.from_array(test, data.draw(chunkings(truth.shape)))
    expected = rand_voi(truth, test, return_cluster_scores=True)
    with dask.config.set(scheduler="synchronous"):
        assert rand_voi(lazy_truth, lazy_test, return_cluster_scores=True) == expected
        assert rand_voi(truth, lazy_test, return_cluster_scores=True) == expected
        assert rand_voi(lazy_truth, test, return_cluster_scores=True) == expected


def test_stored_volumes_take_a_task_a_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    truth = np.random.default_rng(1).integers(0, 9, (64, 64, 64), np.uint64)
    test = truth // np.uint64(2)
    save_volume(truth, tmp_path / "a.zarr/truth", block_shape=(16, 16, 16), chunk_shape=(8, 8, 8))
    save_volume(test, tmp_path / "a.zarr/test", block_shape=(32, 64, 16), chunk_shape=(8, 8, 8))
    lazy_truth = open_volume(tmp_path / "a.zarr/truth", chunks=16)
    lazy_test = open_volume(tmp_path / "a.zarr/test")
    seen = []
    kept = evaluation._sum_of_tables
    monkeypatch.setattr(evaluation, "_sum_of_tables", lambda tables: seen.append(tables) or kept(tables))
    assert rand_voi(lazy_truth, lazy_test) == rand_voi(truth, test)
    (graph,) = (dask.optimize(tables)[0].__dask_graph__() for tables in seen)
    assert len(graph) <= 64


def test_tables_of_parts_add_up_in_any_order() -> None:
    rng = np.random.default_rng(2)
    truth, test = rng.integers(0, 50, (2, 12, 20, 30))
    whole = ContingencyTable.from_volumes(truth, test)
    parts = [ContingencyTable.from_volumes(truth[i : i + 2], test[i : i + 2]) for i in range(0, 12, 2)]
    for merged in (
        merge_tables(parts),
        merge_tables(parts[::-1]),
        parts[0].merge(merge_tables(parts[:0:-1])),
    ):
        assert_same_tables(merged, whole)


def test_tables_count_more_pairs_than_fit_at_first() -> None:
    truth = np.arange(1, 5001).repeat(3)
    test = np.tile(np.arange(3, dtype=np.uint64) << np.uint64(62), 5000)
    table = ContingencyTable.from_volumes(truth, test)
    np.testing.assert_array_equal(table.truth, truth)
    np.testing.assert_array_equal(table.test, test)
    assert np.all(table.counts == 1)


@given(pairs_of_volumes(), st.dictionaries(label_values, st.integers(0, 3)))
def test_relabelling_the_table_relabels_the_volume(
    volumes: tuple[np.ndarray, np.ndarray], lookup: dict[int, int]
) -> None:
    truth, test = volumes
    lookup = {int(i): 1 for i in np.unique(test) if i} | lookup
    relabelled = np.vectorize(lambda i: lookup.get(i, 0), otypes=[np.uint64])(test)
    keys, values = np.array(list(lookup), np.uint64), np.array(list(lookup.values()), np.uint64)
    table = ContingencyTable.from_volumes(truth, test).relabel_test(keys, values)
    assert_same_tables(table, ContingencyTable.from_volumes(truth, relabelled))


def test_relabelling_refuses_an_incomplete_or_ambiguous_table() -> None:
    table = ContingencyTable.from_volumes(np.array([1, 1, 1]), np.array([0, 7, 8]))
    with pytest.raises(ValueError, match="1 labels of the segmentation are missing, 8 is the first"):
        table.relabel_test([7], [1])
    with pytest.raises(ValueError, match="7 occurs more than once"):
        table.relabel_test([7, 8, 7], [1, 1, 1])
    with pytest.raises(ValueError, match=r"keys have shape \(2,\), values \(1,\)"):
        table.relabel_test([7, 8], [1])


def test_a_table_survives_a_file(tmp_path: Path) -> None:
    table = ContingencyTable.from_volumes(
        np.array([1, 2**63, 3], np.uint64), np.array([2**64 - 1, 0, 7], np.uint64)
    )
    table.to_parquet(tmp_path / "table.parquet")
    assert_same_tables(ContingencyTable.from_parquet(tmp_path / "table.parquet"), table)


def test_a_damaged_or_foreign_file_is_named(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    path = tmp_path / "table.parquet"
    ContingencyTable.from_volumes(np.array([1]), np.array([2])).to_parquet(path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"table\.parquet: not a whole Parquet file"):
        ContingencyTable.from_parquet(path)
    pa.parquet.write_table(pa.table({"u": [1]}), path)
    with pytest.raises(ValueError, match=r"table\.parquet: found columns u \(int64\), expected truth"):
        ContingencyTable.from_parquet(path)
    with pytest.raises(FileNotFoundError):
        ContingencyTable.from_parquet(tmp_path / "none.parquet")


def test_wrong_volumes_are_refused() -> None:
    labels = np.ones((4, 4, 4), np.uint32)
    with pytest.raises(ValueError, match=r"truth has shape \(4, 4, 4\), test has shape \(4, 4, 3\)"):
        rand_voi(labels, labels[..., :3])
    with pytest.raises(TypeError, match="test: found dtype float64, expected integers"):
        rand_voi(labels, labels / 2)
    with pytest.raises(ValueError, match="truth: found the negative label -1"):
        rand_voi(-labels.astype(np.int32), labels)
    with pytest.raises(ValueError, match="truth: found no voxel with a label other than 0"):
        rand_voi(0 * labels, labels)
    with pytest.raises(ValueError, match="truth: found no voxel with a label other than 0"):
        rand_voi(labels[:0], labels[:0])


def test_volumes_that_lie_elsewhere_are_refused() -> None:
    def placed(**where: Any) -> xr.DataArray:
        grid = Grid(("z", "y", "x"), (4, 4, 4), **({"voxel_size": (8, 8, 8), "offset": (0, 0, 0)} | where))
        return label(da.ones((4, 4, 4), dtype=np.uint32), grid)

    assert rand_voi(placed(), placed(offset=(0, 0, 1e-4)))["voi_split"] == 0
    with pytest.raises(ValueError, match=r"truth has voxel_size \(8.0, 8.0, 8.0\), test has voxel_size \(4"):
        rand_voi(placed(), placed(voxel_size=(4, 8, 8)))
    with pytest.raises(ValueError, match=r"truth has offset \(0.0, 0.0, 0.0\), test has offset \(0.0, 8.0"):
        count_overlaps(placed(), placed(offset=(0, 8, 0)))


def assert_same_tables(found: ContingencyTable, expected: ContingencyTable) -> None:
    for name in ("truth", "test", "counts"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
        assert getattr(found, name).dtype == getattr(expected, name).dtype
