"""Relabelling by a lookup table on one thread, ids above 2**32, beside fastremap.

Ends with status 1 if the results differ.

    python benchmarks/relabeling.py               # 256^3; a minute
    python benchmarks/relabeling.py --size 128
"""

import argparse

import fastremap
import numpy as np
from _timing import HEADER, in_turns, rows

import lsd_dask as ld
from lsd_dask.segmentation.agglomeration import LookupTable
from lsd_dask.synthetic.generating import neuropil

BEYOND = np.uint64(2**40)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=256, help="side of the volume, voxels")
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    volume = neuropil((options.size,) * 3, leaks=0.01)
    fragments = ld.extract_fragments(volume.affinities.to_numpy())
    fragments[fragments > 0] += BEYOND
    keys = np.unique(fragments[fragments > 0])
    values = keys[np.random.default_rng(0).integers(0, keys.size, keys.size)]
    table, dictionary = LookupTable(keys, values), dict(zip(keys.tolist(), values.tolist(), strict=True))
    ld.relabel(fragments[:8], table)

    timed = in_turns(
        {
            "lsd_dask": lambda: ld.relabel(fragments, table),
            "fastremap.remap": lambda: fastremap.remap(
                fragments, dictionary, preserve_missing_labels=True, in_place=False
            ),
        },
        options.repeats,
    )
    print(HEADER)
    print(rows(f"relabelling, {len(keys):,} fragments", timed))
    if not np.array_equal(*(side.result for side in timed.values())):
        raise SystemExit("The results differ.")


if __name__ == "__main__":
    main()
