"""Evaluation: all thresholds from one table beside relabelling for each; memory; the scores of `fib25_a`.

    python benchmarks/evaluation.py                   # all of it
    python benchmarks/evaluation.py speed             # 50 thresholds of 512 x 512 x 256 voxels, three ways
    python benchmarks/evaluation.py memory            # peak memory up to a billion voxels
    python benchmarks/evaluation.py fib25 --write     # the table of docs/quality.md; needs LSD_DASK_DATA

The exit status is 1 if the table is not at least 20 times faster than relabelling.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
from _inputs import find_data, inputs
from _peers import standard_output_discarded
from _process import reset_peak, status
from quality import THRESHOLDS, _table, _write

import lsd_dask as ld
from lsd_dask.evaluation import (
    Skeletons,
    choose_and_report,
    count_overlaps,
    expected_run_length,
    min_cut_metric,
    rand_voi,
    score_cuts,
)
from lsd_dask.segmentation.agglomeration import MergeTree

#: Side of the piece of neuropil that volumes are tiled with.
TILE = 128
SHAPE = (256, 512, 512)
SPEED_THRESHOLDS = tuple(round(0.02 * i, 2) for i in range(50))
#: Thresholds that the slowest way is measured at; its time is scaled to all.
FEW = SPEED_THRESHOLDS[5::10]
AIM = 20
#: Voxels of `fib25_a` in nanometres, and nodes (about 14 nm apart) that may stray for tolerant run lengths.
VOXEL, STRAYS = 10, (10, 50)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "what", nargs="*", default=["speed", "memory", "fib25"], help="of these; all by default"
    )
    parser.add_argument("--sides", type=int, nargs="+", default=[256, 512, 1024], help="of cubes, for memory")
    parser.add_argument("--data", type=Path, help="folder of the real volumes")
    parser.add_argument("--write", action="store_true", help="write the table into docs/quality.md")
    parser.add_argument("--peak", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        peak(options.sides[0])
        return 0
    fast = speed() if "speed" in options.what else True
    if "memory" in options.what:
        memory(options.sides)
    if "fib25" in options.what:
        scores(find_data(options.data), options.write)
    return int(not fast)


# Speed


def speed() -> bool:
    """Whether the table is as much faster than relabelling as is claimed."""
    truth, fragments, tree = tiled(SHAPE)
    rand_voi(truth[:1], ld.relabel(fragments[:1], tree.cut(0.5)))  # to have everything compiled
    rows, of_table = timed(lambda: score_cuts(count_overlaps(truth, fragments), tree, SPEED_THRESHOLDS))
    relabelled, of_relabelling = timed(
        lambda: [rand_voi(truth, ld.relabel(fragments, tree.cut(t))) for t in SPEED_THRESHOLDS]
    )
    assert all(row.items() >= found.items() for row, found in zip(rows, relabelled, strict=True))
    import waterz

    numbers = np.arange(len(tree), dtype=np.uint64) + np.uint64(1)
    compact = ld.relabel(fragments, ld.LookupTable(tree.ids, numbers))
    own_tree = MergeTree(numbers, tree.parents, tree.levels, tree.merge_function)
    with standard_output_discarded():
        found, of_few = timed(
            lambda: [waterz.evaluate(ld.relabel(compact, own_tree.cut(t)), truth) for t in FEW]
        )
    for scores_of_few, t in zip(found, FEW, strict=True):
        row = rows[SPEED_THRESHOLDS.index(t)]
        assert all(abs(row[name] - value) < 1e-6 for name, value in scores_of_few.items())
    of_waterz = of_few * len(SPEED_THRESHOLDS) / len(FEW)
    print(f"{len(tree)} fragments, {len(SPEED_THRESHOLDS)} thresholds, CPU seconds")
    print(f"one table:                     {of_table:.2f}")
    print(f"relabel and rand_voi:          {of_relabelling:.1f} ({of_relabelling / of_table:.0f} x)")
    print(f"relabel and waterz.evaluate:   {of_waterz:.0f} ({of_waterz / of_table:.0f} x)")
    return of_relabelling >= AIM * of_table


def tiled(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, MergeTree]:
    """Neuropil tile beside tile, each with objects and fragments of its own; and their merge tree."""
    labels, fragments, tree = tile()
    counts = [n // TILE for n in shape]
    number = np.arange(np.prod(counts), dtype=np.uint64).reshape(counts)
    wide = np.kron(number, np.ones((TILE,) * 3, np.uint64)) << np.uint64(48)
    parts = len(number.ravel())
    ids = (tree.ids + (number.reshape(-1, 1) << np.uint64(48))).ravel()
    rows = len(tree) * np.arange(parts)[:, None]
    whole = MergeTree(ids, (tree.parents + rows).ravel(), np.tile(tree.levels, parts), tree.merge_function)
    truth, own = (np.tile(array, counts) for array in (labels, fragments))
    return np.where(truth, truth + wide, 0), np.where(own, own + wide, 0), whole


def tile() -> tuple[np.ndarray, np.ndarray, MergeTree]:
    tissue = ld.synthetic.neuropil((TILE,) * 3, leaks=0.01).compute(scheduler="synchronous")
    affinities = tissue.affinities.values
    fragments = ld.extract_fragments(affinities)
    tree = ld.agglomerate(ld.build_region_graph(affinities, fragments))
    return tissue.labels.values.astype(np.uint64), fragments, tree


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    started = time.process_time()
    return work(), time.process_time() - started


# Memory


def memory(sides: list[int]) -> None:
    print("| voxels | pairs | table, MB | peak, MB | of which before, MB | seconds |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    for side in sides:
        command = [sys.executable, __file__, "memory", "--peak", "--sides", str(side)]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        print(
            "| {voxels:.3g} | {pairs} | {table:.0f} | {peak:.0f} | {before:.0f} | {seconds:.0f} |".format(
                **found
            )
        )


def peak(side: int) -> None:
    """Count the overlaps of lazy volumes whose chunks are made one by one, on two threads."""
    labels, fragments, _ = tile()
    chunks = ((TILE,) * (side // TILE),) * 3

    def lazy(array: np.ndarray) -> da.Array:
        def make(block_id: tuple[int, ...]) -> np.ndarray:
            number = np.uint64(np.ravel_multi_index(block_id, (side // TILE,) * 3))
            return np.where(array, array + (number << np.uint64(48)), np.uint64(0))

        return da.map_blocks(make, chunks=chunks, dtype=np.uint64, meta=np.empty((0,) * 3, np.uint64))

    reset_peak()
    before = status("VmRSS") / 1e6
    with dask.config.set(scheduler="threads", num_workers=2):
        started = time.perf_counter()
        table = count_overlaps(lazy(labels), lazy(fragments))
    seconds = time.perf_counter() - started
    after = status("VmHWM") / 1e6
    facts = {"voxels": side**3, "pairs": len(table), "table": 24 * len(table) / 1e6}
    print(json.dumps(facts | {"peak": after, "before": before, "seconds": seconds}))


# fib25_a


def scores(data: Path | None, write: bool) -> None:
    if data is None or not (data / "fib25_a_skeletons.npz").is_file():
        print("evaluation: found no fib25_a.npz with fib25_a_skeletons.npz; name their folder with --data")
        return
    table = fib25(data)
    print(table)
    if write:
        _write({"fib25": table})


def fib25(data: Path) -> str:
    """All scores of three segmentations of `fib25_a`, with the metrics as rows."""
    arrays, traced = np.load(data / "fib25_a.npz"), np.load(data / "fib25_a_skeletons.npz")
    skeletons = Skeletons(traced["vertices_nm_zyx"], traced["edges"], traced["neuron_id_of_vertex"])
    truth = next(one for one in inputs(data, 1) if one.name.startswith("fib25")).truth
    columns: dict[str, Mapping[str, float]] = {
        name: of_segmentation(truth, arrays[key], skeletons)
        for name, key in (("FFN", "ffn_segmentation"), ("oversegmentation", "oversegmentation"))
    }
    for kind in ("fib25, leaks", "fib25, noise"):
        given = [one for one in inputs(data, 2) if one.name == kind]
        columns[f"ours ({kind})"] = of_affinities(given[1], given[0], skeletons)
    metrics = list(dict.fromkeys(name for found in columns.values() for name in found))
    rows = [(name, *(shown(found.get(name)) for found in columns.values())) for name in metrics]
    return _table(("score", *columns), rows)


def of_segmentation(truth: np.ndarray, segmentation: np.ndarray, skeletons: Skeletons) -> dict[str, float]:
    """Scores of a segmentation, and of where it is not 0."""
    found = scores_of(count_overlaps(truth, segmentation).scores())
    filled = rand_voi(np.where(segmentation, truth, 0), segmentation)
    found |= {f"{name}, where it is not 0": filled[name] for name in ("voi_split", "voi_merge")}
    return found | on_skeletons(skeletons, labels_of(segmentation, skeletons))


def of_affinities(validation: Any, testing: Any, skeletons: Skeletons) -> dict[str, float]:
    """Scores of our segmentation at the threshold that is best for other noise on the same affinities."""
    rows = []
    for one in (validation, testing):
        fragments = ld.extract_fragments(one.affinities)
        graph = ld.build_region_graph(one.affinities, fragments)
        tree = ld.agglomerate(graph)
        rows.append(score_cuts(count_overlaps(one.truth, fragments), tree, THRESHOLDS))
    report = choose_and_report(*rows)
    lut = tree.cut(report.threshold)
    at = labels_of(fragments, skeletons)
    edges = (graph.edges.u, graph.edges.v, tree.merge_scores(graph))
    cuts = min_cut_metric(skeletons, at, lut, *edges)
    return {
        "threshold": report.threshold,
        **scores_of(report.reported),
        **on_skeletons(skeletons, labels_of(ld.relabel(fragments, lut), skeletons)),
        "splits needed (min-cut)": cuts.splits,
        "merges needed (min-cut)": cuts.merges,
        "unsplittable fragments": len(cuts.unsplittable),
    }


def scores_of(scores: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in scores.items() if name != "threshold"}


def labels_of(volume: np.ndarray, skeletons: Skeletons) -> np.ndarray:
    """Labels at the nodes, whose positions are in nanometres."""
    return ld.evaluation.labels_at(volume, skeletons.positions / VOXEL)


def on_skeletons(skeletons: Skeletons, segments: np.ndarray) -> dict[str, float]:
    lengths = expected_run_length(skeletons, segments)
    on_nodes = rand_voi(skeletons.skeletons, segments)
    return {
        **{f"{name}, on nodes": on_nodes[name] for name in ("voi_split", "voi_merge")},
        **{name: value for name, value in lengths.scores().items() if name != "number_of_components"},
        **{
            f"normalized_erl, {n} stray nodes": expected_run_length(
                skeletons, segments, stray_nodes=n
            ).normalized_erl
            for n in STRAYS
        },
    }


def shown(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3f}"


if __name__ == "__main__":
    raise SystemExit(main())
