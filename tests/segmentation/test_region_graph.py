import dataclasses
import math
import uuid
from collections import defaultdict

import dask
import dask.array as da
import networkx as nx
import numpy as np
import pytest
import waterz
from hypothesis import given
from hypothesis import strategies as st

from lsd_dask.segmentation.graph_tables import EdgeTable, GraphTables, NodeTable
from lsd_dask.segmentation.region_graph import RegionGraph, build_region_graph, finish_graph, region_graph_bag
from lsd_dask.space.grids import Grid
from lsd_dask.volumes.dask_arrays import label
from lsd_dask.volumes.saving import grid_of, open_volume, save_volume

from ..helpers.strategies import (
    LARGE_IDS,
    affinities,
    chunkings,
    edge_values,
    edges_of,
    graph_of,
    label_volumes,
    neighborhoods,
    regions,
    seeds,
    shapes,
)

SHAPES = st.one_of(shapes(3, 4, 6), shapes(5, 7))


@st.composite
def problems(draw: st.DrawFn, shape=SHAPES) -> tuple[np.ndarray, np.ndarray, list[list[int]]]:
    """Affinities, fragments and the neighborhood."""
    shape = draw(shape)
    offsets = draw(neighborhoods(len(shape)))
    return draw(affinities(shape, channels=len(offsets))), draw(label_volumes(shape)), offsets


def assert_same(one, other) -> None:
    """Tables are equal bit for bit: every column, its type and its shape."""
    assert type(one) is type(other)
    for field in dataclasses.fields(one):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if dataclasses.is_dataclass(a) and not isinstance(a, Grid):
            assert_same(a, b)
        elif isinstance(a, np.ndarray):
            assert (a.dtype, a.shape) == (b.dtype, b.shape), field.name
            assert np.array_equal(a, b), field.name
        else:
            assert a == b, field.name


# Counting by hand


def integer(affinity) -> int:
    if isinstance(affinity, np.uint8):
        return int(affinity)
    return min(math.floor(65536 * float(affinity)), 65535)


def counted_nodes(values, fragments) -> dict[int, tuple]:
    """Size, sums, begin and end along the axes there are, and sum of affinities, of each id."""
    ndim = fragments.ndim
    nodes: dict[int, list] = {}
    for voxel in np.ndindex(fragments.shape):
        if (fragment := int(fragments[voxel])) == 0:
            continue
        size, sums, begin, end, total = nodes.get(fragment, (0, [0] * ndim, voxel, voxel, 0))
        nodes[fragment] = (
            size + 1,
            [a + b for a, b in zip(sums, voxel, strict=True)],
            np.minimum(begin, voxel),
            np.maximum(end, np.add(voxel, 1)),
            total + sum(integer(values[(c, *voxel)]) for c in range(ndim)),
        )
    return nodes


def counted_faces(values, fragments, offsets) -> dict[tuple[int, int], list[tuple[int, bool]]]:
    """The affinities between each two fragments, and whether they are between direct neighbours."""
    faces = defaultdict(list)
    for c, offset in enumerate(offsets):
        for voxel in np.ndindex(fragments.shape):
            other = tuple(v + o for v, o in zip(voxel, offset, strict=True))
            if not all(0 <= o < n for o, n in zip(other, fragments.shape, strict=True)):
                continue
            u, v = sorted((int(fragments[voxel]), int(fragments[other])))
            if u != v and u != 0:
                faces[u, v].append((integer(values[(c, *voxel)]), sum(map(abs, offset)) == 1))
    return {pair: found for pair, found in sorted(faces.items()) if any(direct for _, direct in found)}


@given(problems())
def test_nodes_are_counted(problem):
    values, fragments, offsets = problem
    nodes = build_region_graph(values, fragments, offsets).nodes
    lead = 3 - fragments.ndim
    # What is drawn after the direct lower neighbours may be direct too, in another direction.
    direct = [c for c, offset in enumerate(offsets) if sum(map(abs, offset)) == 1]
    expected = counted_nodes(values[: fragments.ndim], fragments)
    assert nodes.ids.tolist() == sorted(expected)
    for row, fragment in enumerate(nodes.ids.tolist()):
        size, sums, begin, end, total = expected[fragment]
        assert nodes.sizes[row] == size
        assert nodes.position_sums[row].tolist() == [0] * lead + sums
        assert nodes.begins[row].tolist() == [0] * lead + list(begin)
        assert nodes.ends[row].tolist() == [1] * lead + list(end)
        if len(direct) == fragments.ndim:
            assert nodes.affinity_sums[row] == total


@given(problems())
def test_edges_are_counted(problem):
    values, fragments, offsets = problem
    graph = build_region_graph(values, fragments, offsets)
    edges = graph.edges
    expected = counted_faces(values, fragments, offsets)
    assert list(zip(edges.u.tolist(), edges.v.tolist(), strict=True)) == list(expected)
    for row, found in enumerate(expected.values()):
        integers = [value for value, _ in found]
        assert edges.counts[row] == len(found)
        assert edges.contacts[row] == sum(direct for _, direct in found)
        assert edges.sums[row] == sum(integers)
        assert edges.maxima[row] == max(integers)
        bins = [i * 256 // (graph.scale + 1) for i in integers]
        assert np.array_equal(edges.histogram(row), np.bincount(bins, minlength=256))


@given(affinities((3, 4, 5), dtypes="fde"), label_volumes((3, 4, 5)))
def test_floats_fall_into_the_bins_of_waterz(values, fragments):
    edges = build_region_graph(values, fragments).edges
    histograms = defaultdict(lambda: np.zeros(256, int))
    for axis, channel in enumerate(values):
        upper = [slice(None)] * 3
        lower = [slice(None)] * 3
        upper[axis], lower[axis] = slice(1, None), slice(None, -1)
        one, two = fragments[tuple(upper)], fragments[tuple(lower)]
        for a, u, v in zip(channel[tuple(upper)].flat, one.flat, two.flat, strict=True):
            histograms[min(u, v), max(u, v)][min(int(256 * float(a)), 255)] += 1
    for row, pair in enumerate(zip(edges.u, edges.v, strict=True)):
        assert np.array_equal(edges.histogram(row), histograms[pair])


@pytest.mark.parametrize("quantile", [10, 50, 90, None])
@given(seed=seeds)
def test_edges_and_their_first_scores_are_those_of_waterz(quantile, seed):
    rng = np.random.default_rng(seed)
    fragments = rng.integers(0, 9, (4, 5, 6)).astype(np.uint64)
    values = rng.random((3, 4, 5, 6)).astype(np.float32)
    function = "MeanAffinity<RegionGraphType, ScoreValue>"
    if quantile:
        function = f"HistogramQuantileAffinity<RegionGraphType, {quantile}, ScoreValue, 256, false>"
    # At threshold 0 nothing is merged: the graph is the one from which waterz begins.
    ((_, found),) = waterz.agglomerate(
        values,
        [0.0],
        fragments=fragments.copy(),
        scoring_function=f"OneMinus<{function}>",
        return_region_graph=True,
    )
    graph = build_region_graph(values, fragments)
    edges = graph.edges
    scores = 1 - graph.mean_affinities
    if quantile:
        cumulated = np.array([edges.histogram(row) for row in range(len(edges))]).cumsum(axis=1)
        pivots = np.minimum(quantile * edges.counts // 100 + 1, edges.counts)
        scores = 1 - ((cumulated >= pivots[:, None]).argmax(axis=1) + 0.5) / 256
    theirs = sorted((*sorted((edge["u"], edge["v"])), edge["score"]) for edge in found)
    assert [(u, v) for u, v, _ in theirs] == list(zip(edges.u.tolist(), edges.v.tolist(), strict=True))
    assert np.allclose([score for *_, score in theirs], scores, atol=1e-6 if quantile else 2e-5)


def test_more_fragments_and_faces_than_the_first_tables_hold():
    fragments = np.random.default_rng(0).permutation(24**3).reshape(24, 24, 24).astype(np.uint64) + 1
    values = np.random.default_rng(1).integers(0, 256, (3, 24, 24, 24)).astype(np.uint8)
    graph = build_region_graph(values, fragments)
    assert graph.nodes.ids.tolist() == list(range(1, 24**3 + 1))
    assert (graph.nodes.sizes == 1).all()
    order = np.argsort(fragments, axis=None)
    assert np.array_equal(graph.nodes.begins, np.indices(fragments.shape).reshape(3, -1).T[order])
    assert np.array_equal(graph.nodes.affinity_sums, values.sum(axis=0, dtype=int).ravel()[order])
    pairs, sums = [], []
    for axis in range(3):
        one, two = fragments.take(range(1, 24), axis), fragments.take(range(23), axis)
        pairs.append(np.stack([np.minimum(one, two).ravel(), np.maximum(one, two).ravel()], axis=1))
        sums.append(values[axis].take(range(1, 24), axis).ravel())
    pairs, sums = np.concatenate(pairs), np.concatenate(sums)
    order = np.lexsort(pairs.T[::-1])
    assert np.array_equal(np.stack([graph.edges.u, graph.edges.v], axis=1), pairs[order])
    assert np.array_equal(graph.edges.sums, sums[order])
    assert np.array_equal(graph.edges.bins, sums[order])
    assert (graph.edges.counts == 1).all()


# Parts add up


@given(problems(), st.data())
def test_any_chunking_gives_the_same_graph(problem, data):
    values, fragments, offsets = problem
    lazy = [
        da.from_array(values, chunks=(1, *data.draw(chunkings(fragments.shape)))),
        da.from_array(fragments, chunks=data.draw(chunkings(fragments.shape))),
    ]
    with dask.config.set(scheduler="sync"):
        graph = build_region_graph(*lazy, offsets)
    assert_same(graph, build_region_graph(values, fragments, offsets))


@given(problems(), st.data())
def test_tables_add_up_in_any_order_and_grouping(problem, data):
    values, fragments, offsets = problem
    chunked = da.from_array(fragments, chunks=data.draw(chunkings(fragments.shape)))
    parts = region_graph_bag(values, chunked, offsets).compute(scheduler="sync")
    parts = data.draw(st.permutations(parts))
    while len(parts) > 1:
        n = data.draw(st.integers(2, len(parts)))
        parts = [*parts[n:], GraphTables.joined(parts[:n])]
    whole = build_region_graph(values, fragments, offsets)
    assert_same(finish_graph(parts[0], whole.grid, values.dtype), whole)


@given(affinities((3, 5, 6)), label_volumes((3, 5, 6)), st.permutations([0, 1, 2]))
def test_axes_are_alike(values, fragments, order):
    graph = build_region_graph(values, fragments)
    turned = build_region_graph(
        values[order].transpose(0, *(1 + np.array(order))), fragments.transpose(order)
    )
    assert_same(turned.edges, graph.edges)
    assert np.array_equal(turned.nodes.begins, graph.nodes.begins[:, order])


@given(affinities((5, 6)), label_volumes((5, 6)))
def test_an_image_is_a_volume_of_one_section(values, fragments):
    image = build_region_graph(values, fragments)
    volume = build_region_graph(np.concatenate([values[:1], values])[:, None], fragments[None])
    assert_same(image.edges, volume.edges)
    assert np.array_equal(image.nodes.begins, volume.nodes.begins)
    assert np.array_equal(image.centers, volume.centers[:, 1:])


@pytest.mark.parametrize("dtype", ["uint8", "uint32", "int64", ">u8"])
def test_fragments_of_any_integer_type(dtype):
    fragments = np.arange(24).reshape(2, 3, 4) // 5
    values = np.random.default_rng(0).random((3, 2, 3, 4))
    fragments_read_only = fragments.astype(dtype)
    fragments_read_only.flags.writeable = False
    assert_same(build_region_graph(values, fragments_read_only), build_region_graph(values, fragments))


def test_stored_volumes_are_counted_a_task_a_block(tmp_path):
    rng = np.random.default_rng(3)
    values = rng.random((3, 20, 24, 30)).astype(np.float32)
    fragments = np.kron(rng.integers(0, 50, (5, 6, 6)), np.ones((4, 4, 5), int)).astype(np.uint64)
    save_volume(values, tmp_path / "a.zarr" / "affs", voxel_size=(40, 4, 4), offset=(80, 0, 8))
    save_volume(fragments, tmp_path / "a.zarr" / "frags", voxel_size=(40, 4, 4), offset=(80, 0, 8))
    affs = open_volume(tmp_path / "a.zarr" / "affs")
    frags = open_volume(tmp_path / "a.zarr" / "frags", chunks=(7, 9, 11))
    (bag,) = dask.optimize(region_graph_bag(affs, frags))
    assert bag.npartitions == 27
    assert len(dict(bag.__dask_graph__())) == 27
    graph = build_region_graph(affs, frags)
    assert graph.grid == grid_of(frags)
    assert_same(graph, dataclasses.replace(build_region_graph(values, fragments), grid=graph.grid))
    crop = (slice(3, 15), slice(4, 20), slice(0, 11))
    part = build_region_graph(affs[(slice(None), *crop)], frags[crop])
    expected = build_region_graph(values[(slice(None), *crop)], fragments[crop])
    assert_same(part, dataclasses.replace(expected, grid=part.grid))
    assert part.grid.offset == (200, 16, 8)


def test_ids_that_collide_as_floats_or_in_half_a_word():
    fragments = np.array([LARGE_IDS], np.uint64)
    values = np.array([np.zeros((1, 6)), [[0, 10, 20, 30, 40, 50]]], np.uint8)
    graph = build_region_graph(values, fragments)
    assert graph.nodes.ids.tolist() == LARGE_IDS
    assert graph.edges.u.tolist() == LARGE_IDS[:-1]
    assert graph.edges.v.tolist() == LARGE_IDS[1:]
    assert graph.edges.sums.tolist() == [10, 20, 30, 40, 50]


@pytest.mark.parametrize("chunks", [(1, 4), (1, 2)])
def test_without_background_the_lowest_id_stays(chunks):
    fragments = da.from_array(np.array([[5, 5, 6, 7]], np.uint64), chunks=chunks)
    graph = build_region_graph(np.ones((2, 1, 4), np.uint8), fragments)
    assert graph.nodes.ids.tolist() == [5, 6, 7]
    assert graph.nodes.sizes.tolist() == [2, 1, 1]


@pytest.mark.parametrize("fragments", [np.zeros((2, 3), np.uint64), np.ones((2, 3), np.uint64)])
@pytest.mark.parametrize("chunks", [None, 1])
def test_no_edges(fragments, chunks):
    kind = fragments if chunks is None else da.from_array(fragments, chunks=chunks)
    graph = build_region_graph(np.ones((2, 2, 3), np.float32), kind)
    assert graph.nodes.sizes.tolist() == ([6] if fragments.any() else [])
    assert (len(graph.edges), graph.edges.starts.tolist(), len(graph.edges.bins)) == (0, [0], 0)
    assert graph.centers.shape == (len(graph.nodes), 2)
    assert graph.to_networkx().number_of_nodes() == len(graph.nodes)


# What a graph tells


def test_centers_and_means_in_world_units():
    fragments = np.zeros((2, 3, 4), np.uint64)
    fragments[1, 2, 1:] = 7
    fragments[0] = 9
    volume = label(fragments, Grid(("z", "y", "x"), (2, 3, 4), (40, 4, 4), (400, 0, 8)))
    values = np.full((3, 2, 3, 4), 51, np.uint8)
    graph = build_region_graph(values, volume)
    assert graph.centers.tolist() == [[460, 10, 18], [420, 6, 16]]
    assert graph.mean_affinities.tolist() == [0.2]
    found = graph.to_networkx(np.array([0.25]))
    assert dict(found.nodes[7]) == {"size": 3, "center_z": 460, "center_y": 10, "center_x": 18}
    assert dict(found.edges[7, 9]) == {
        "count": 3,
        "mean_affinity": 0.2,
        "max_affinity": 0.2,
        "merge_score": 0.25,
    }


@given(problems())
def test_networkx_holds_the_same_graph(problem):
    values, fragments, offsets = problem
    graph = build_region_graph(values, fragments, offsets)
    scores = np.where(np.arange(len(graph.edges)) % 2, np.nan, 0.5)
    found = graph.to_networkx(scores)
    assert list(found.nodes) == graph.nodes.ids.tolist()
    edges = {tuple(sorted(pair)): data for *pair, data in found.edges(data=True)}
    assert sorted(edges) == list(zip(graph.edges.u.tolist(), graph.edges.v.tolist(), strict=True))
    for row, pair in enumerate(sorted(edges)):
        assert edges[pair]["count"] == graph.edges.counts[row]
        assert edges[pair]["mean_affinity"] == graph.mean_affinities[row]
        assert edges[pair]["max_affinity"] * graph.scale == pytest.approx(graph.edges.maxima[row])
        assert edges[pair]["merge_score"] == (None if row % 2 else 0.5)
    assert not nx.get_edge_attributes(graph.to_networkx(), "merge_score")


@given(problems(), st.data())
def test_selection_by_place(problem, data):
    values, fragments, offsets = problem
    graph = build_region_graph(values, fragments, offsets)
    region = data.draw(regions(fragments.shape))
    part = graph.select(region)
    boxes = {
        i: all(
            coordinates.min() < s.stop and coordinates.max() >= s.start
            for coordinates, s in zip(np.nonzero(fragments == i), region, strict=True)
        )
        for i in graph.nodes.ids
    }
    assert part.nodes.ids.tolist() == [int(i) for i in graph.nodes.ids if boxes[i]]
    assert set(np.unique(fragments[region]).tolist()) <= {0, *part.nodes.ids.tolist()}
    kept = [boxes[u] and boxes[v] for u, v in zip(graph.edges.u, graph.edges.v, strict=True)]
    assert_same(part.edges, graph.edges.take(np.array(kept, bool)))
    assert (part.grid, part.scale) == (graph.grid, graph.scale)


@given(problems())
def test_parquet_keeps_every_bit(problem):
    values, fragments, offsets = problem
    graph = build_region_graph(values, fragments, offsets)
    directory = f"memory://{uuid.uuid4().hex}.zarr/rag"
    graph.to_parquet(directory)
    assert_same(RegionGraph.from_parquet(directory), graph)


def test_parquet_that_is_missing_or_cut_short(tmp_path):
    with pytest.raises(FileNotFoundError, match="nodes"):
        RegionGraph.from_parquet(str(tmp_path))
    graph_of({(1, 2): [3]}).to_parquet(str(tmp_path))
    edges = tmp_path / "edges.parquet"
    edges.write_bytes(edges.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"edges.parquet: .*cut short"):
        RegionGraph.from_parquet(str(tmp_path))


# Tables


@given(edge_values(), st.data())
def test_rows_of_edges_in_any_order_and_number(values, data):
    edges = edges_of(values)
    rows = np.array(data.draw(st.lists(st.integers(0, len(edges) - 1), max_size=20)), np.int64)
    taken = edges.take(rows)
    pairs = list(values)
    assert list(zip(taken.u.tolist(), taken.v.tolist(), strict=True)) == [pairs[r] for r in rows]
    assert taken.sums.tolist() == [sum(values[pairs[r]]) for r in rows]
    for row, r in enumerate(rows):
        assert np.array_equal(taken.histogram(row), edges.histogram(r))


@given(edge_values(), edge_values(), edge_values())
def test_edges_add_up(one, two, three):
    total = {
        pair: [*one.get(pair, []), *two.get(pair, []), *three.get(pair, [])]
        for pair in {**one, **two, **three}
    }
    expected = edges_of(total)
    assert_same(EdgeTable.joined([edges_of(e) for e in (one, two, three)]), expected)
    assert_same(
        EdgeTable.joined([EdgeTable.joined([edges_of(three), edges_of(two)]), edges_of(one)]), expected
    )
    assert_same(EdgeTable.joined([edges_of({}), expected]), expected)


def test_nodes_add_up_with_nothing():
    nodes = graph_of({(1, 2): [3]}).nodes
    empty = nodes.take(np.zeros(2, bool))
    assert_same(NodeTable.joined([empty, nodes, empty]), nodes)
    assert len(NodeTable.joined([empty, empty])) == 0


# Mistakes

AFFS = np.zeros((3, 4, 5, 6), np.float32)
FRAGS = np.ones((4, 5, 6), np.uint64)


def placed(array, offset):
    return label(array, Grid(("z", "y", "x"), (4, 5, 6), (40, 4, 4), offset))


@pytest.mark.parametrize(
    ("affs", "frags", "neighborhood", "error", "message"),
    [
        (AFFS, FRAGS[0, 0], None, ValueError, "1 axes, expected z, y, x or y, x"),
        (AFFS, FRAGS.astype(float), None, TypeError, "found dtype float64, expected integers"),
        (AFFS, -FRAGS.astype(np.int64), None, ValueError, "negative"),
        (AFFS.astype(int), FRAGS, None, TypeError, "stored as int64, expected uint8"),
        (AFFS + 2, FRAGS, None, ValueError, "values from 2 to 2, expected"),
        (AFFS * np.nan, FRAGS, None, ValueError, "NaN"),
        (
            AFFS,
            FRAGS[1:],
            None,
            ValueError,
            r"\(3, 4, 5, 6\) and fragments of shape \(3, 5, 6\) do not match",
        ),
        (AFFS[0], FRAGS, None, ValueError, "do not match"),
        (
            AFFS[:2],
            FRAGS,
            None,
            ValueError,
            "2 channels, expected 3 for the direct lower neighbours along z, y, x",
        ),
        (AFFS, FRAGS, [[-1, 0, 0], [0, -1, 0]], ValueError, "for each of 3 channels"),
        (
            AFFS,
            FRAGS,
            [[-1, 0], [0, -1], [1, 0]],
            ValueError,
            r"found shape \(3, 2\), expected \(n, 3\) offsets",
        ),
        (AFFS, FRAGS, [[-1, 0, 0], [0, -1, 0], [0, 0, 0]], ValueError, r"found \[0, 0, 0\]"),
        (AFFS, FRAGS, [[-1, 0, 0], [0, -1, 0], [0, 0, -0.5]], TypeError, "expected integers"),
        (
            placed(AFFS, (0, 0, 0)),
            placed(FRAGS, (40, 0, 0)),
            None,
            ValueError,
            "do not lie in the same place",
        ),
    ],
)
def test_input_that_makes_no_graph(affs, frags, neighborhood, error, message):
    with pytest.raises(error, match=message):
        build_region_graph(affs, frags, neighborhood)
