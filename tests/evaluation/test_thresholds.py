"""Scores of all cuts of a merge tree, and the worst mistakes: against relabelling the voxels, and peers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsd_dask import ids
from lsd_dask.evaluation import (
    ContingencyTable,
    count_overlaps,
    rand_voi,
    score_cuts,
    worst_mistakes,
)
from lsd_dask.segmentation.agglomeration import LookupTable, MergeTree
from lsd_dask.segmentation.relabelling import relabel
from lsd_dask.space.grids import Grid

from ..helpers.strategies import label_volumes, seeds, shapes


@st.composite
def trees_of(draw: st.DrawFn, fragments: np.ndarray) -> MergeTree:
    """Merge trees of the fragments of a volume: any order of merges, at any levels."""
    rng = np.random.default_rng(draw(seeds))
    found = np.unique(fragments[fragments != 0])
    parents, levels = np.arange(len(found)), np.full(len(found), 256)
    names = set(range(len(found)))
    for level in np.sort(rng.integers(0, 256, rng.integers(0, len(found) + 1))):
        if len(names) < 2:
            break
        keeper, joined = sorted(rng.choice(sorted(names), 2, replace=False))
        parents[joined], levels[joined] = keeper, level
        names.remove(joined)
    return MergeTree(found, parents, levels, "mean")


@st.composite
def problems(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, MergeTree]:
    shape = draw(shapes(5, 6, 7))
    truth, fragments = draw(label_volumes(shape)), draw(label_volumes(shape, most=12))
    truth.flat[0] = 5
    return truth, fragments, draw(trees_of(fragments))


@given(problems(), st.lists(st.floats(0, 1), min_size=1, max_size=5))
def test_scores_of_cuts_are_those_of_the_relabelled_volume(
    problem: tuple[np.ndarray, np.ndarray, MergeTree], thresholds: list[float]
) -> None:
    truth, fragments, tree = problem
    found = score_cuts(count_overlaps(truth, fragments), tree, thresholds)
    assert [row["threshold"] for row in found] == thresholds
    for row in found:
        segmentation = relabel(fragments, tree.cut(row["threshold"]))
        expected = count_overlaps(truth, segmentation).scores()
        assert {name: row[name] for name in expected} == expected, "bit for bit"
        assert expected.items() >= rand_voi(truth, segmentation).items()


@given(problems())
def test_shared_metrics_are_those_of_skimage(problem: tuple[np.ndarray, np.ndarray, MergeTree]) -> None:
    metrics = pytest.importorskip("skimage.metrics")
    # skimage wants memory for the largest label.
    truth, test = (np.unique(volume, return_inverse=True)[1].reshape(volume.shape) for volume in problem[:2])
    truth += 1
    found = count_overlaps(truth, test).scores()
    conditional = metrics.variation_of_information(truth, test, ignore_labels=())
    assert (found["voi_split"], found["voi_merge"]) == pytest.approx(
        (conditional[0], conditional[1]), abs=1e-9
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        error, _, _ = metrics.adapted_rand_error(truth, test, ignore_labels=())
    # Of a single voxel, or where all are alone in both, skimage has 0 / 0.
    assert found["adapted_rand_error"] == pytest.approx(0 if np.isnan(error) else error, abs=1e-9)


def test_the_adapted_rand_error_ignores_truth_of_0_alone() -> None:
    metrics = pytest.importorskip("skimage.metrics")
    rng = np.random.default_rng(0)
    truth, test = rng.integers(0, 4, (2, 12, 12, 12))
    error, _, _ = metrics.adapted_rand_error(truth, test, ignore_labels=(0,))
    found = count_overlaps(truth, test).scores()
    assert found["adapted_rand_error"] == pytest.approx(error, abs=1e-12)
    assert found["cremi_score"] == pytest.approx(np.sqrt(error * found["voi_sum"]), abs=1e-12)


def test_waterz_scores_the_cuts_alike() -> None:
    waterz = pytest.importorskip("waterz")
    rng = np.random.default_rng(1)
    truth = np.repeat(rng.integers(0, 9, (8, 8, 8), np.uint64), 2, axis=0)
    fragments = np.arange(1, truth.size + 1, dtype=np.uint64).reshape(truth.shape)
    # All join the first one, at any level.
    levels = rng.integers(0, 256, truth.size)
    levels[0] = 256
    tree = MergeTree(fragments.ravel(), np.zeros(truth.size, int), levels, "mean")
    for row in score_cuts(count_overlaps(truth, fragments), tree, [0.0, 0.5, 1.0]):
        expected = waterz.evaluate(relabel(fragments, tree.cut(row["threshold"])), truth)
        assert {name: row[name] for name in expected} == pytest.approx(expected, abs=1e-9)


def test_ignored_ids_and_dust_are_as_if_they_were_background() -> None:
    rng = np.random.default_rng(2)
    truth, test = rng.integers(0, 6, (2, 10, 10, 10))
    truth[0, 0, :3] = 99
    table = count_overlaps(truth, test)
    same = count_overlaps(np.where(np.isin(truth, [2, 4]), 0, truth), test)
    assert_same(table.without([4, 2, 77]), same)
    assert_same(table.without([]), table)
    assert_same(table.without_dust(4), count_overlaps(np.where(truth == 99, 0, truth), test))
    assert_same(table.without_dust(3), table)
    with pytest.raises(ValueError, match="voxels: found -1"):
        table.without_dust(-1)
    with pytest.raises(TypeError, match=r"truth_ids: found 0\.5"):
        table.without([0.5])
    with pytest.raises(ValueError, match="nothing to score"):
        table.without_dust(10_000).scores()


def test_a_fragment_that_the_tree_does_not_have_is_named() -> None:
    table = count_overlaps(np.array([[1, 1]]), np.array([[3, 8]]))
    tree = MergeTree(np.array([3, 5], np.uint64), np.array([0, 0]), np.array([256, 9]), "mean")
    with pytest.raises(ValueError, match="1 fragments are missing in the merge tree of 2 fragments, 8 is"):
        score_cuts(table, tree, [0.5])
    with pytest.raises(ValueError, match=r"The threshold is 1\.5"):
        score_cuts(count_overlaps(np.array([[1]]), np.array([[3]])), tree, [1.5])


def test_background_stays_apart() -> None:
    table = count_overlaps(np.array([[1, 1]]), np.array([[0, 8]]))
    tree = MergeTree(np.array([8], np.uint64), np.array([0]), np.array([256]), "mean")
    assert [row["voi_split"] for row in score_cuts(table, tree, [0.0, 1.0])] == [1.0, 1.0]


class TestMistakes:
    """Truth and fragments of two rows, with the segments below::

    truth      1 1 1 1 1 1 2 2 2 3
    fragments  a a a b b c d d e e
    segments   a a a b b b d d d d
    """

    a, b, c, d, e = ids.encode(np.array([[0, 0, 0], [0, 0, 3], [0, 0, 5], [0, 0, 6], [0, 0, 8]])).tolist()
    truth = np.array([[[1, 1, 1, 1, 1, 1, 2, 2, 2, 3]]])
    fragments = np.array([[[a, a, a, b, b, c, d, d, e, e]]], np.uint64)
    lut = LookupTable(np.array([a, b, c, d, e], np.uint64), np.array([a, b, b, d, d], np.uint64))
    grid = Grid(("z", "y", "x"), (1, 1, 10), voxel_size=(40, 4, 4), offset=(0, 0, 100))

    def test_they_are_sorted_and_can_be_looked_at(self) -> None:
        table = count_overlaps(self.truth, self.fragments)
        split, merge = worst_mistakes(table, self.lut, grid=self.grid)
        assert (split.kind, split.label, split.voxels, split.pieces) == ("split", 1, 6, 2)
        assert split.voi == pytest.approx(0.6)
        # Of two pieces of one size the first comes first, so b is the one to look at, which is larger than c.
        assert (split.piece, split.fragment, split.position) == (self.b, self.b, (20, 2, 114))
        assert (merge.kind, merge.label, merge.voxels, merge.pieces) == ("merge", self.d, 4, 2)
        assert merge.voi == pytest.approx(0.3 * np.log2(4 / 3) + 0.1 * 2)
        assert (merge.piece, merge.fragment, merge.position) == (3, self.e, (20, 2, 134))

    def test_they_add_up_to_the_variation_of_information(self) -> None:
        rng = np.random.default_rng(3)
        truth, test = rng.integers(0, 9, (2, 8, 8, 8))
        table = count_overlaps(truth, test)
        found = worst_mistakes(table, LookupTable(np.arange(1, 9), np.arange(1, 9)), count=99)
        scores = table.scores()
        for kind in ("split", "merge"):
            voi = [mistake.voi for mistake in found if mistake.kind == kind]
            assert voi == sorted(voi, reverse=True)
            assert sum(voi) == pytest.approx(scores[f"voi_{kind}"])

    def test_no_more_than_asked_for_and_none_without_mistakes(self) -> None:
        table = count_overlaps(self.truth, self.fragments)
        assert len(worst_mistakes(table, self.lut, count=0)) == 0
        perfect = count_overlaps(self.truth, self.truth)
        assert worst_mistakes(perfect, LookupTable(np.arange(1, 4), np.arange(1, 4))) == []

    def test_background_is_no_place_to_look_at(self) -> None:
        table = count_overlaps(np.array([[1, 1, 1, 1]]), np.array([[0, 0, 7, 9]]))
        (mistake,) = worst_mistakes(table, LookupTable(np.array([7, 9]), np.array([7, 9])))
        assert (mistake.piece, mistake.pieces, mistake.position) == (7, 3, None)

    def test_ids_that_are_no_addresses_have_no_position(self) -> None:
        table = count_overlaps(np.array([[[1, 1]]]), np.array([[[2**63 + 7, 2**64 - 1]]], np.uint64))
        lut = LookupTable(np.array([2**63 + 7, 2**64 - 1], np.uint64), np.array([1, 2], np.uint64))
        assert [m.position for m in worst_mistakes(table, lut, grid=self.grid)] == [None]


def assert_same(found: ContingencyTable, expected: ContingencyTable) -> None:
    for name in ("truth", "test", "counts"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
