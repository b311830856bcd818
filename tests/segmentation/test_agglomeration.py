import dataclasses
import heapq
import itertools
import uuid

import numpy as np
import pytest
import waterz
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import ndimage, sparse
from scipy.cluster import hierarchy

from lsd_dask.evaluation import rand_voi
from lsd_dask.segmentation.agglomeration import MERGE_FUNCTIONS, LookupTable, MergeTree, agglomerate, level_of
from lsd_dask.segmentation.region_graph import RegionGraph, build_region_graph
from lsd_dask.segmentation.watershed import Rules, watershed_region
from lsd_dask.targets.affinities import affinities as affinities_of
from lsd_dask.volumes.overlap import readers_of

from ..helpers.strategies import LARGE_IDS, edge_values, graph_of, random_edge_values, trees

NEVER = 256

every_function = pytest.mark.parametrize("name", MERGE_FUNCTIONS)


def quantile_of(name: str) -> int | None:
    return None if name == "mean" else int(name.split("_")[2])


# The definition: again and again the best edge; of equals the firmest one


@dataclasses.dataclass
class Edge:
    histogram: np.ndarray
    count: int
    total: int
    rank: int

    def absorb(self, other: "Edge") -> None:
        self.histogram = self.histogram + other.histogram
        self.count += other.count
        self.total += other.total
        self.rank = max(self.rank, other.rank)

    def key(self, scale: int, quantile: int | None) -> tuple[int, int]:
        """Step, 256 of them to a level, and rank."""
        if quantile is None:
            whole = self.count * scale
            return min(65536 * (whole - self.total) // whole, 65535), self.rank
        cumulated = self.histogram.cumsum()
        pivot = min(quantile * cumulated[-1] // 100 + 1, cumulated[-1])
        return 256 * (255 - int((cumulated >= pivot).argmax())), self.rank


def tree_by_definition(graph: RegionGraph, name: str) -> tuple[list[int], list[int]]:
    """Parents and levels."""
    n = len(graph.nodes)
    parents, levels = list(range(n)), [NEVER] * n
    edges, quantile = graph.edges, quantile_of(name)
    ends = np.sort(np.searchsorted(graph.nodes.ids, [edges.u, edges.v]), axis=0).T.tolist()
    near: list[dict[int, Edge]] = [{} for _ in range(n)]
    queue = []
    firmness = edges.sums / edges.counts if name.endswith("initmax") else edges.sums
    for rank, row in enumerate(sorted(range(len(ends)), key=lambda row: (-firmness[row], ends[row]))):
        (a, b), histogram = ends[row], edges.histogram(row)
        if name.endswith("initmax"):
            histogram = (np.arange(256) == histogram.nonzero()[0].max()).astype(int)
        edge = Edge(histogram, int(edges.counts[row]), int(edges.sums[row]), rank)
        near[a][b] = near[b][a] = edge
        queue.append((edge.key(graph.scale, quantile), a, b))
    heapq.heapify(queue)
    while queue:
        key, a, b = heapq.heappop(queue)
        if b not in near[a] or near[a][b].key(graph.scale, quantile) != key:
            continue
        parents[b], levels[b] = a, key[0] // 256
        for c, edge in near[b].items():
            del near[c][b]
            if c == a:
                continue
            if c in near[a]:
                near[a][c].absorb(edge)
            else:
                near[a][c] = near[c][a] = edge
            heapq.heappush(queue, (near[a][c].key(graph.scale, quantile), *sorted((a, c))))
        near[b] = {}
    # The parent of what lost its name in a level is what its component is called at the end of the level.
    for node in range(n):
        while levels[node] < NEVER and levels[parents[node]] == levels[node]:
            parents[node] = parents[parents[node]]
    return parents, levels


@every_function
@given(edge_values())
def test_trees_are_as_defined(name, values):
    graph = graph_of(values, nodes=[50, 60])
    tree = agglomerate(graph, name)
    parents, levels = tree_by_definition(graph, name)
    assert tree.merge_function == name
    assert tree.ids.tolist() == graph.nodes.ids.tolist()
    assert tree.levels.tolist() == levels
    assert tree.parents.tolist() == parents


@pytest.mark.parametrize("name", ["hist_quant_75", "hist_quant_50_initmax", "mean"])
@given(edge_values())
def test_finer_affinities_have_the_same_definition(name, values):
    fine = {pair: [257 * a - (a + k) % 200 * (a > 0) for k, a in enumerate(v)] for pair, v in values.items()}
    graph = graph_of(fine, scale=65535)
    tree = agglomerate(graph, name)
    parents, levels = tree_by_definition(graph, name)
    assert (tree.levels.tolist(), tree.parents.tolist()) == (levels, parents)


@pytest.mark.parametrize(
    ("name", "nodes", "edges"),
    [
        ("hist_quant_25", 5000, 20_000),
        ("hist_quant_75", 100, 2000),
        ("hist_quant_90_initmax", 1000, 4000),
        ("mean", 1000, 4000),
    ],
)
def test_large_graphs(name, nodes, edges):
    graph = graph_of(random_edge_values(nodes, nodes, edges))
    tree = agglomerate(graph, name)
    assert (tree.parents.tolist(), tree.levels.tolist()) == tree_by_definition(graph, name)


@pytest.mark.parametrize("name", ["hist_quant_50", "mean"])
def test_a_hub_that_absorbs_everything(name):
    """One node touches all others, which touch each other in a ring: parallel edges abound."""
    rng = np.random.default_rng(0)
    n = 500
    pairs = [(1, k) for k in range(2, n)] + [(k, k + 1) for k in range(2, n - 1)]
    graph = graph_of({pair: rng.integers(0, 256, 5).tolist() for pair in pairs})
    tree = agglomerate(graph, name)
    assert (tree.parents.tolist(), tree.levels.tolist()) == tree_by_definition(graph, name)


# The priority queue, without ranks


def queue(values, name: str, threshold: float) -> tuple[dict[int, int], bool]:
    """Merge the best score first: node -> smallest id of its segment, and whether two scores were equal."""
    edges = {pair: [max(v)] if name.endswith("initmax") else list(v) for pair, v in values.items()}
    segment = {n: n for pair in values for n in pair}
    tied = False
    while edges:
        steps = sorted((step_of(found, name), pair) for pair, found in edges.items())
        step, (u, v) = steps[0]
        if (step // 256 + 0.5) / 256 > threshold:
            break
        tied |= len(steps) > 1 and steps[1][0] == step
        segment = {n: u if s == v else s for n, s in segment.items()}
        merged: dict[tuple[int, int], list[int]] = {}
        for pair, found in edges.items():
            a, b = sorted(u if n == v else n for n in pair)
            if a != b:
                merged.setdefault((a, b), []).extend(found)
        edges = merged
    return segment, tied


def step_of(values: list[int], name: str) -> int:
    n = len(values)
    if (quantile := quantile_of(name)) is None:
        return min(65536 * (255 * n - sum(values)) // (255 * n), 65535)
    return 256 * (255 - sorted(values)[min(n, quantile * n // 100 + 1) - 1])


def segments(tree: MergeTree, threshold: float) -> dict[int, int]:
    lut = tree.cut(threshold)
    return dict(zip(lut.keys.tolist(), lut.values.tolist(), strict=True))


thresholds = st.integers(0, 256).map(lambda level: level / 256)


@every_function
@given(trees(), thresholds)
def test_a_queue_does_the_same_where_there_are_no_cycles(name, values, threshold):
    assert segments(agglomerate(graph_of(values), name), threshold) == queue(values, name, threshold)[0]


@every_function
@given(edge_values(), thresholds)
def test_a_queue_does_the_same_where_no_scores_are_equal(name, values, threshold):
    expected, tied = queue(values, name, threshold)
    assume(not tied)
    assert segments(agglomerate(graph_of(values), name), threshold) == expected


@every_function
@given(edge_values())
def test_no_merge_makes_an_edge_better_than_the_best_it_replaces(name, values):
    """What lets merges be made in any order that is best for both sides."""
    parts = [[max(v)] if name.endswith("initmax") else v for v in values.values()]
    assert step_of([a for part in parts for a in part], name) >= min(step_of(part, name) for part in parts)


# waterz


def cells(seed: int, shape=(40, 48, 48), n=40) -> np.ndarray:
    rng = np.random.default_rng(seed)
    voxels = np.indices(shape).reshape(3, -1).T
    centers = rng.uniform(0, shape, (n, 3))
    squares = (voxels**2).sum(axis=1)[:, None] - 2 * voxels @ centers.T + (centers**2).sum(axis=1)
    return squares.argmin(axis=1).reshape(shape).astype(np.uint64) + 1


@pytest.fixture(scope="module")
def noisy() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth, affinities with blur and noise, and fragments in consecutive ids, as waterz wants them."""
    truth = cells(0)
    blurred = ndimage.gaussian_filter(affinities_of(truth), (0, 1, 1, 1), mode="nearest")
    noise = ndimage.gaussian_filter(np.random.default_rng(1).normal(size=blurred.shape), (0, 1, 1, 1))
    values = (1 / (1 + np.exp(-3 * (blurred - 0.5 + noise)))).astype(np.float32)
    whole = tuple(slice(0, n) for n in truth.shape)
    rules = Rules(height="both", smoothing=0.7)
    fragments = watershed_region(whole, readers_of([values], [True])[0], None, rules)
    _, consecutive = np.unique(fragments, return_inverse=True)
    return truth, values, consecutive.reshape(truth.shape).astype(np.uint64) + (fragments.min() > 0)


@every_function
def test_segmentations_are_those_of_waterz_but_for_ties(name, noisy, capfd):
    """waterz leaves it to its heap which of equal scores goes first."""
    truth, values, fragments = noisy
    tree = agglomerate(build_region_graph(values, fragments), name)
    function = "MeanAffinity<RegionGraphType, ScoreValue>"
    if name != "mean":
        initmax = str(name.endswith("initmax")).lower()
        function = (
            f"HistogramQuantileAffinity<RegionGraphType, {quantile_of(name)}, ScoreValue, 256, {initmax}>"
        )
    to_truth, between = [], []
    for threshold in np.arange(0.05, 1, 0.05):
        (theirs,) = waterz.agglomerate(
            values, [threshold], fragments=fragments.copy(), scoring_function=f"OneMinus<{function}>"
        )
        lut = tree.cut(threshold)
        ours = np.append(lut.values, np.uint64(0))[np.searchsorted(lut.keys, fragments) - (fragments == 0)]
        to_truth.append((distance(truth, ours), distance(truth, theirs)))
        between.append(distance(theirs + 1, ours + 1))
    assert np.median(between) < 0.01
    ours_best, theirs_best = np.min(to_truth, axis=0)
    assert ours_best < theirs_best + 0.15


def distance(truth: np.ndarray, segmentation: np.ndarray) -> float:
    """Variation of information."""
    scores = rand_voi(truth, segmentation)
    return scores["voi_split"] + scores["voi_merge"]


# Invariance


@every_function
@given(values=edge_values(), data=st.data())
def test_the_order_of_edges_does_not_matter(name, values, data):
    graph = graph_of(values)
    order = np.array(data.draw(st.permutations(range(len(graph.edges)))))
    edges = graph.edges.take(order)
    swapped = np.array(data.draw(st.lists(st.booleans(), min_size=len(order), max_size=len(order))))
    edges = dataclasses.replace(
        edges, u=np.where(swapped, edges.v, edges.u), v=np.where(swapped, edges.u, edges.v)
    )
    tree, other = agglomerate(graph, name), agglomerate(dataclasses.replace(graph, edges=edges), name)
    assert np.array_equal(tree.levels, other.levels)
    assert np.array_equal(tree.parents, other.parents)


@pytest.mark.parametrize("name", ["hist_quant_50", "hist_quant_75_initmax", "mean"])
@given(values=edge_values(most_nodes=len(LARGE_IDS)), threshold=thresholds, data=st.data())
def test_names_do_not_matter_where_no_scores_are_equal(name, values, threshold, data):
    names = dict(enumerate(data.draw(st.permutations(LARGE_IDS)), start=1))
    renamed = {tuple(sorted((names[u], names[v]))): a for (u, v), a in values.items()}
    # Of equal scores and equal sums, the smaller ids go first.
    assume(not queue(values, name, threshold)[1])
    before = segments(agglomerate(graph_of(values), name), threshold)
    after = segments(agglomerate(graph_of(renamed), name), threshold)
    assert {names[n] for n in before} == set(after)
    for one, two in itertools.combinations(before, 2):
        assert (before[one] == before[two]) == (after[names[one]] == after[names[two]])
    assert all(after[n] <= n for n in after)


@given(edge_values())
def test_tables_that_cannot_be_written(values):
    """As they come from shared memory."""
    graph = graph_of(values)
    expected = agglomerate(graph, "hist_quant_50")
    for table in (graph.nodes, graph.edges):
        for field in dataclasses.fields(table):
            getattr(table, field.name).flags.writeable = False
    tree = agglomerate(graph, "hist_quant_50")
    assert np.array_equal(tree.levels, expected.levels)


@every_function
@given(edge_values())
def test_agglomeration_leaves_the_graph_alone(name, values):
    graph, expected = graph_of(values), graph_of(values)
    agglomerate(graph, name)
    for field in dataclasses.fields(graph.edges):
        assert np.array_equal(getattr(graph.edges, field.name), getattr(expected.edges, field.name))


# Merge trees


@st.composite
def merge_trees(draw: st.DrawFn) -> tuple[RegionGraph, MergeTree]:
    graph = graph_of(draw(edge_values()), nodes=draw(st.sets(st.integers(1, 12), max_size=3)))
    return graph, agglomerate(graph, draw(st.sampled_from(sorted(MERGE_FUNCTIONS))))


@given(merge_trees())
def test_merge_scores_are_the_lowest_thresholds_that_join(problem):
    graph, tree = problem
    found = tree.merge_scores(graph)
    for row, (u, v) in enumerate(zip(graph.edges.u, graph.edges.v, strict=True)):
        scores = [(level + 0.5) / 256 for level in range(256)]
        joined = [score for score in scores if (lut := tree.cut(score))[u] == lut[v]]
        assert found[row] == joined[0] if joined else np.isnan(found[row])


@given(merge_trees())
def test_cuts_are_nested_and_named_by_their_smallest_fragment(problem):
    _, tree = problem
    levels = sorted({0, 1, *np.unique(tree.levels).tolist()})
    cuts = [tree.cut((min(level, 255) + 0.5) / 256) for level in levels]
    for cut in cuts:
        for segment in np.unique(cut.values):
            assert cut.keys[cut.values == segment].min() == segment
    for fine, coarse in itertools.pairwise(cuts):
        lut = dict(zip(coarse.keys.tolist(), coarse.values.tolist(), strict=True))
        assert all(lut[k] == lut[v] for k, v in zip(fine.keys.tolist(), fine.values.tolist(), strict=True))


@given(merge_trees(), st.floats(0, 1))
def test_a_threshold_includes_its_own_score(problem, threshold):
    _, tree = problem
    below = tree.scores[tree.scores <= threshold]
    expected = tree.cut(below.max()) if len(below) else tree.cut(0)
    assert np.array_equal(tree.cut(threshold).values, expected.values)


@given(merge_trees())
def test_threshold_zero_merges_nothing_and_one_merges_what_touches(problem):
    graph, tree = problem
    assert np.array_equal(tree.cut(0).values, tree.ids)
    ends = [np.searchsorted(tree.ids, ends) for ends in (graph.edges.u, graph.edges.v)]
    n = len(tree)
    touching = sparse.coo_array((np.ones(len(graph.edges)), ends), (n, n))
    parts, _ = sparse.csgraph.connected_components(touching, directed=False)
    assert len(np.unique(tree.cut(1).values)) == parts


@given(merge_trees(), thresholds)
def test_linkage_is_what_scipy_cuts(problem, threshold):
    _, tree = problem
    linkage = tree.linkage()
    assert hierarchy.is_valid_linkage(linkage)
    assert hierarchy.is_monotonic(linkage)
    clusters = hierarchy.fcluster(linkage, threshold, "distance")
    values = tree.cut(threshold).values
    pairs = set(zip(clusters.tolist(), values.tolist(), strict=True))
    assert len(pairs) == len(set(clusters.tolist())) == len(set(values.tolist()))


@given(merge_trees())
def test_trees_and_tables_on_disk(problem):
    _, tree = problem
    directory = f"memory://{uuid.uuid4().hex}.zarr/rag"
    tree.to_parquet(f"{directory}/merges.parquet")
    read = MergeTree.from_parquet(f"{directory}/merges.parquet")
    assert read.merge_function == tree.merge_function
    for field in ("ids", "parents", "levels"):
        one, two = getattr(read, field), getattr(tree, field)
        assert one.dtype == two.dtype
        assert np.array_equal(one, two)
    tree.cut(0.5).to_parquet(f"{directory}/lut.parquet")
    lut = LookupTable.from_parquet(f"{directory}/lut.parquet")
    assert np.array_equal(lut.keys, tree.cut(0.5).keys)
    assert np.array_equal(lut.values, tree.cut(0.5).values)


@every_function
@pytest.mark.parametrize("nodes", [[], [7], [3, 2**63, 5]])
def test_graphs_without_edges(name, nodes):
    graph = graph_of({}, nodes=nodes)
    tree = agglomerate(graph, name)
    assert tree.cut(1).values.tolist() == sorted(nodes)
    assert tree.merge_scores(graph).tolist() == []
    assert np.isnan(tree.scores).all()
    assert tree.linkage().shape == (max(len(nodes) - 1, 0), 4)


def test_the_ends_of_the_scale():
    tree = agglomerate(graph_of({(1, 2): [255], (2, 3): [0]}), "mean")
    assert tree.scores[1:].tolist() == [0.5 / 256, 255.5 / 256]


# Lookup tables


def test_looking_up():
    lut = LookupTable(np.array([3, 5, 2**63], np.uint64), np.array([3, 3, 2**63], np.uint64))
    assert len(lut) == 3
    assert (lut[5], lut[2**63]) == (3, 2**63)
    for missing in (0, 4, 2**64 - 1):
        with pytest.raises(KeyError, match=f"Fragment {missing} is not in this lookup table of 3 fragments"):
            lut[missing]


# Mistakes


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("hist_quant_57", "hist_quant_75"), ("Mean", "mean"), ("hist_quant_50_initmx", "hist_quant_50_initmax")],
)
def test_unknown_merge_functions_name_the_nearest(name, nearest):
    with pytest.raises(ValueError, match=f"no merge function '{name}'; did you mean '{nearest}'"):
        agglomerate(graph_of({(1, 2): [3]}), name)


@pytest.mark.parametrize("threshold", [-0.1, 1.01, np.nan, 40])
def test_thresholds_out_of_range(threshold):
    tree = agglomerate(graph_of({(1, 2): [3]}))
    with pytest.raises(ValueError, match=r"expected a score from 0 \(merge nothing\) to 1"):
        tree.cut(threshold)
    with pytest.raises(ValueError, match="expected a score"):
        level_of(threshold)


@pytest.mark.parametrize("missing", [1, 2, 3])
def test_edges_of_unknown_nodes(missing):
    graph = graph_of({(1, 2): [3], (2, 3): [4]})
    tree = agglomerate(graph)
    part = dataclasses.replace(graph, nodes=graph.nodes.take(graph.nodes.ids != missing))
    with pytest.raises(ValueError, match=f"{missing}.* no node"):
        agglomerate(part)
    with pytest.raises(ValueError, match=f"{missing}.* no node"):
        MergeTree(part.nodes.ids, tree.parents[:2], tree.levels[:2], "mean").merge_scores(graph)
