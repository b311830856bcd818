"""Fragments on one thread, beside the reference's seeded watershed (SciPy and mahotas).

The table has medians of several turns; ratios are of CPU seconds.

    python benchmarks/fragments.py               # 256^3; a few minutes
    python benchmarks/fragments.py --size 128
"""

import argparse

import numpy as np
from _peers import seeded_watershed
from _timing import HEADER, in_turns, rows

import lsd_dask as ld
from lsd_dask.evaluation import rand_voi
from lsd_dask.synthetic.generating import neuropil


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=256, help="side of the volume, voxels")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    volume = neuropil((options.size,) * 3, leaks=0.01).compute()
    affinities, labels = volume.affinities.to_numpy(), volume.labels.to_numpy()
    ld.extract_fragments(affinities[:, :32, :32, :32])
    ld.extract_fragments(affinities[:, :32, :32, :32], fragments_in_xy=True)

    print(HEADER)
    whole = in_turns(
        {
            "lsd_dask": lambda: ld.extract_fragments(affinities),
            "SciPy + mahotas": lambda: seeded_watershed(affinities),
        },
        options.repeats,
    )
    print(rows("fragments", whole), flush=True)
    in_xy = in_turns(
        {
            "lsd_dask": lambda: ld.extract_fragments(affinities, fragments_in_xy=True),
            "SciPy + mahotas, section by section": lambda: seeded_sections(affinities),
        },
        options.repeats,
    )
    print(rows("fragments in xy", in_xy), flush=True)
    print("\nFragments, and the bits by which they split and merge the truth:")
    for name, timed in whole.items():
        scores = rand_voi(labels, timed.result)
        count = len(np.unique(timed.result))
        print(f"  {name}: {count}, split {scores['voi_split']:.2f}, merge {scores['voi_merge']:.3f}")


def seeded_sections(affinities: np.ndarray) -> np.ndarray:
    """Fragments of each section by itself, from the affinities along y and x."""
    sections = []
    used = 0
    for section in affinities[1:].transpose(1, 0, 2, 3):
        fragments = seeded_watershed(section)
        sections.append(fragments + np.uint64(used))
        used += int(fragments.max())
    return np.stack(sections)


if __name__ == "__main__":
    main()
