"""Region graph and agglomeration on one thread, beside waterz.

Ours makes the whole merge tree, to be cut at any threshold; waterz merges up to one threshold.

    python benchmarks/region_graph.py               # 256^3, usual and many fragments; a minute
    python benchmarks/region_graph.py --size 128
"""

import argparse

import numpy as np
from _peers import Waterz
from _timing import HEADER, in_turns, rows

import lsd_dask as ld
from lsd_dask.evaluation import rand_voi
from lsd_dask.synthetic.generating import neuropil

MERGE_FUNCTION, THRESHOLD = "hist_quant_75", 0.5


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=256, help="side of the volume, voxels")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    volume = neuropil((options.size,) * 3, leaks=0.01).compute()
    affinities, labels = volume.affinities.to_numpy(), volume.labels.to_numpy()
    print(HEADER)
    for kind, rules in (("", {}), (", many fragments", {"smoothing": 0.5, "height": "affinity"})):
        fragments = ld.extract_fragments(affinities, **rules)
        ours(affinities, fragments)
        timed = in_turns(
            {
                "lsd_dask": lambda f=fragments: ours(affinities, f),
                "waterz": Waterz(affinities, fragments, MERGE_FUNCTION, THRESHOLD, options.repeats),
            },
            options.repeats,
        )
        print(rows(f"RAG + agglomeration{kind}", timed), flush=True)
        graph, tree = timed["lsd_dask"].result
        parts = in_turns(
            {
                "lsd_dask, RAG": lambda f=fragments: ld.build_region_graph(affinities, f),
                "lsd_dask, agglomeration": lambda g=graph: ld.agglomerate(g, MERGE_FUNCTION),
            },
            options.repeats,
        )
        for name, side in parts.items():
            print(f"|  of this | {name} | {side.cpu:.3f} | {side.wall:.3f} | |", flush=True)
        cuts = {
            "lsd_dask": ld.relabel(fragments, tree.cut(THRESHOLD)),
            "waterz": timed["waterz"].result,
        }
        voi = {}
        for name, cut in cuts.items():
            scores = rand_voi(labels, cut)
            voi[name] = f"{name} {scores['voi_split'] + scores['voi_merge']:.3f}"
        print(
            f"|  | {len(graph.nodes)} fragments, {len(graph.edges)} edges; VOI at {THRESHOLD}: "
            f"{', '.join(voi.values())} | | | |"
        )


def ours(affinities: np.ndarray, fragments: np.ndarray) -> tuple:
    graph = ld.build_region_graph(affinities, fragments)
    return graph, ld.agglomerate(graph, MERGE_FUNCTION)


if __name__ == "__main__":
    main()
