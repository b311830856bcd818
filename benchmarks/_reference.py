"""The steps of the reference's scripts [1]_, block by block on several processes, from zarr to zarr.

As in the scripts, each block is read with a context, fragments and edges at its border depend on it, an edge
belongs to the block of its smaller id, the volumes are read once, and relabelled and scored anew for every
threshold. Where this does less than the scripts, it is in their favour: edges are kept in memory in place of
a database and networkx, lookup tables are not written, a pool of processes that are started once takes the
place of their scheduler, SciPy's connected components and fastremap that of funlib.segment, and our own
`rand_voi` that of funlib.evaluate.

References
----------
.. [1] https://github.com/funkelab/lsd, lsd/tutorial/scripts
"""

import itertools
import multiprocessing
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import fastremap
import numpy as np
import waterz
import zarr
from _peers import SCORING_FUNCTIONS, seeded_watershed, standard_output_discarded
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from lsd_dask.evaluation import rand_voi

#: In voxels; the scripts' example has blocks of 3600 nm and a context of 240 nm of 8 nm voxels.
BLOCK, CONTEXT = 128, 30

type Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Reference:
    """The pipeline of the reference on one volume.

    Attributes
    ----------
    volume, out
        Containers of affinities and labels, and of what is written.
    processes
        How many work at a time.
    """

    volume: Path
    out: Path
    processes: int

    def run(self, thresholds: np.ndarray, threshold: float) -> Iterator[str]:
        """Do all steps, and tell the name of each when it is done."""
        shape = zarr.open_array(self.volume / "labels", mode="r").shape
        blocks = list(enumerate(_blocks(shape)))
        options = {"shape": shape, "chunks": (BLOCK,) * 3, "dtype": np.uint64, "overwrite": True}
        for name in ("fragments", "segmentation"):
            zarr.create_array(self.out / name, **options)
        with multiprocessing.get_context("spawn").Pool(self.processes) as pool:
            centers = pool.starmap(self.extract_fragments, blocks)
            yield "extract fragments"
            edges = np.concatenate(pool.starmap(self.agglomerate, blocks))
            yield "agglomerate"
            nodes = np.concatenate(centers)
            tables = list(pool.starmap(_components, [(nodes, edges, float(t)) for t in thresholds]))
            yield "find segments"
            chosen = tables[int(np.argmin(np.abs(thresholds - threshold)))]
            pool.starmap(self.extract_segmentation, [(box, nodes, chosen) for _, box in blocks])
            yield "extract segmentation"
            pool.starmap(self.score, [(nodes, table) for table in tables])
            yield "evaluate volumes"

    def extract_fragments(self, number: int, box: Box) -> np.ndarray:
        """Write the fragments of a block, under ids of its own; the ids."""
        affinities = zarr.open_array(self.volume / "affs", mode="r")
        grown, inside = _grow(box, affinities.shape[1:])
        fragments = seeded_watershed(affinities[(slice(None), *grown)])[inside]
        fragments = fastremap.renumber(np.ascontiguousarray(fragments), in_place=True)[0].astype(np.uint64)
        ids = np.arange(1, int(fragments.max()) + 1)
        ndimage.center_of_mass(np.ones_like(fragments), fragments, ids)
        first = np.uint64(number * BLOCK**3)
        zarr.open_array(self.out / "fragments", mode="r+")[box] = fragments + first
        return ids.astype(np.uint64) + first

    def agglomerate(self, number: int, box: Box) -> np.ndarray:
        """Edges of a block and its context: rows of two ids and the bits of the score they merge at."""
        affinities = zarr.open_array(self.volume / "affs", mode="r")
        grown, _ = _grow(box, affinities.shape[1:])
        fragments, ids = fastremap.renumber(zarr.open_array(self.out / "fragments", mode="r")[grown])
        of_number = np.zeros(len(ids) + 1, np.uint64)
        of_number[list(ids.values())] = list(ids.keys())
        with standard_output_discarded():
            merges = waterz.agglomerate(
                affinities[(slice(None), *grown)].astype(np.float32) / 255,
                [0, 1.0],
                fragments=fragments.astype(np.uint64),
                scoring_function=SCORING_FUNCTIONS["hist_quant_75"],
                discretize_queue=256,
                return_merge_history=True,
                return_region_graph=True,
            )
            _, _, graph = next(merges)
            pairs = np.array([(edge["u"], edge["v"]) for edge in graph], np.int64).reshape(-1, 2)
            _, history, _ = next(merges)
        scores = _scores(pairs, history, len(of_number))
        edges = np.column_stack([of_number[pairs], scores.view(np.uint64)])
        # Of ids 1, 2, ... after the block's first; those of two other blocks are seen in the context.
        return edges[(edges[:, :2].min(axis=1) - 1) // BLOCK**3 == number]

    def extract_segmentation(self, box: Box, nodes: np.ndarray, segments: np.ndarray) -> None:
        """Write a block of the segmentation."""
        table = dict(zip(nodes.tolist(), segments.tolist(), strict=True))
        fragments = zarr.open_array(self.out / "fragments", mode="r")[box]
        relabelled = fastremap.remap(fragments, table, preserve_missing_labels=True)
        zarr.open_array(self.out / "segmentation", mode="r+")[box] = relabelled

    def score(self, nodes: np.ndarray, segments: np.ndarray) -> dict:
        """Scores of one threshold."""
        table = dict(zip(nodes.tolist(), segments.tolist(), strict=True))
        fragments = _voxels(self.out / "fragments")
        segmentation = fastremap.remap(fragments, table, preserve_missing_labels=True)
        return rand_voi(_voxels(self.volume / "labels"), segmentation)


@cache
def _voxels(path: Path) -> np.ndarray:
    """A whole volume, read once a process."""
    return zarr.open_array(path, mode="r")[:]


def _blocks(shape: tuple[int, ...]) -> Iterator[Box]:
    for corner in itertools.product(*(range(0, n, BLOCK) for n in shape)):
        z, y, x = (slice(c, min(c + BLOCK, n)) for c, n in zip(corner, shape, strict=True))
        yield z, y, x


def _grow(box: Box, shape: tuple[int, ...]) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """A block with its context, and where the block is in it."""
    grown = tuple(
        slice(max(0, s.start - CONTEXT), min(n, s.stop + CONTEXT)) for s, n in zip(box, shape, strict=True)
    )
    inside = tuple(slice(s.start - g.start, s.stop - g.start) for s, g in zip(box, grown, strict=True))
    return grown, inside


def _scores(pairs: np.ndarray, history: list[dict], count: int) -> np.ndarray:
    """The score at which the ends of each edge became one; infinite for never."""
    merges = np.array([(m["a"], m["b"], m["c"]) for m in history], np.int64).reshape(-1, 3)
    at = np.array([m["score"] for m in history])
    # Each node's way to the root, as a tree of merges.
    parents, scores = np.arange(count), np.full(count, np.inf)
    for (a, b, c), score in zip(merges.tolist(), at.tolist(), strict=True):
        for gone in {a, b} - {c}:
            parents[gone], scores[gone] = c, score
    found = np.full(len(pairs), np.inf)
    for row, (u, v) in enumerate(pairs.tolist()):
        while u != v:
            if scores[u] > scores[v]:
                u, v = v, u
            if scores[u] == np.inf:
                break
            found[row] = scores[u]
            u = int(parents[u])
        else:
            continue
        found[row] = np.inf
    return found


def _components(nodes: np.ndarray, edges: np.ndarray, threshold: float) -> np.ndarray:
    """Segment of each node when edges with scores up to the threshold are merged."""
    kept = edges[edges[:, 2].copy().view(np.float64) <= threshold]
    u, v = np.searchsorted(nodes, kept[:, 0]), np.searchsorted(nodes, kept[:, 1])
    graph = coo_array((np.ones(len(u), np.int8), (u, v)), shape=(len(nodes), len(nodes)))
    return connected_components(graph, directed=False)[1].astype(np.uint64) + 1
