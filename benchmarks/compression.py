"""Codecs for labels and for affinities: seconds to write and to read a shard, and its size.

One block of synthetic neuropil as one shard of chunks of 64^3, in memory, on one thread. The library
writes labels with zstd at level 3, affinities at level 1; ratios are to that. Ends with
status 1 if what is read is not what was written.

    python benchmarks/compression.py               # 256^3; three minutes
    python benchmarks/compression.py --size 128
"""

import argparse
import sys
import time
from statistics import median
from typing import Any

import numpy as np
import zarr
from zarr.codecs import BloscCodec, GzipCodec, ZstdCodec
from zarr.storage import MemoryStore

import lsd_dask as ld
from lsd_dask.clusters.environment import read_in_one_thread
from lsd_dask.synthetic.generating import neuropil

CHUNK = 64
CODECS: dict[str, Any] = {
    "zstd, level 3": ZstdCodec(level=3),
    "zstd, level 1": ZstdCodec(level=1),
    "zstd, level 5": ZstdCodec(level=5),
    "blosc: zstd 1, bitshuffle": BloscCodec(cname="zstd", clevel=1, shuffle="bitshuffle"),
    "blosc: zstd 5, shuffle": BloscCodec(cname="zstd", clevel=5, shuffle="shuffle"),
    "blosc: lz4 5, shuffle": BloscCodec(cname="lz4", clevel=5, shuffle="shuffle"),
    "blosc: lz4 5, no shuffle": BloscCodec(cname="lz4", clevel=5, shuffle="noshuffle"),
    "gzip, level 1": GzipCodec(level=1),
    "none": None,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=256, help="side of the block, voxels")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    # As workers read and write.
    read_in_one_thread()
    volume = neuropil((options.size,) * 3, leaks=0.01)
    affinities = volume.affinities.to_numpy()
    kinds = {
        "fragments, uint64": (ld.extract_fragments(affinities), "zstd, level 3"),
        "affinities, uint8": (affinities, "zstd, level 1"),
    }
    print("| what | codec | write, CPU s | read, CPU s | MB | write, ratio | read, ratio | size, ratio |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for kind, (voxels, chosen) in kinds.items():
        measured(voxels, CODECS[chosen], 2)
        ours = measured(voxels, CODECS[chosen], options.repeats)
        for name, codec in CODECS.items():
            found = ours if name == chosen else measured(voxels, codec, options.repeats)
            figures = " | ".join(f"{value:.2f}" for value in (found[0], found[1], found[2] / 1e6))
            ratios = " | ".join(f"{value / own:.2f}" for value, own in zip(found, ours, strict=True))
            print(f"| {kind} | {name} | {figures} | {ratios} |", flush=True)


def measured(voxels: np.ndarray, codec: Any, repeats: int) -> tuple[float, float, int]:
    """CPU seconds of writing and of reading a shard, medians, and its bytes."""
    seconds: list[tuple[float, float]] = []
    for _ in range(repeats):
        store = MemoryStore()
        lead = voxels.shape[:-3]
        array = zarr.create_array(
            store,
            shape=voxels.shape,
            dtype=voxels.dtype,
            shards=voxels.shape,
            chunks=(*lead, CHUNK, CHUNK, CHUNK),
            compressors=codec,
        )
        begun = time.process_time()
        array[...] = voxels
        written = time.process_time()
        back = array[...]
        seconds.append((written - begun, time.process_time() - written))
        if not np.array_equal(back, voxels):
            sys.exit("What was read is not what was written.")
    size = sum(len(value.to_bytes()) for key, value in store._store_dict.items() if "zarr.json" not in key)
    return median(w for w, _ in seconds), median(r for _, r in seconds), size


if __name__ == "__main__":
    main()
