"""Speed and memory of local shape descriptors, beside the package lsds and beside Gaussian filters.

Every comparison is measured in one run, in CPU and in wall seconds, the best of a few repetitions. Time that
`lsds` takes is measured on some labels and scaled to all of them, as it filters whole volumes for one label
after the other.

    python benchmarks/lsds.py             # a few minutes
    python benchmarks/lsds.py --quick     # small volumes, to see that it runs
"""

import argparse
import importlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from _process import reset_peak, status
from distributed import Client, LocalCluster
from scipy.ndimage import gaussian_filter

from lsd_dask import local_shape_descriptors, open_volume, save_volume
from lsd_dask.synthetic.generating import neuropil

#: Standard deviation of the Gaussian, in voxels.
SIGMA = 8
#: Voxel size, in nm, at which 128^3 voxels of synthetic neuropil hold 100 to 200 neurites.
VOXEL_SIZE = 12
#: Voxel sizes at which they hold about 10, 100 and 1000.
VOXEL_SIZES = (2, 10, 28)
#: Of the real volume: voxel size and sigma in nm, as the zebrafinch networks of the paper were trained.
PINKY_VOXEL_SIZE = (40, 32, 32)
PINKY_SIGMA = 120


@dataclass(frozen=True)
class Seconds:
    """CPU and wall time."""

    cpu: float
    wall: float

    def __mul__(self, factor: float) -> "Seconds":
        return Seconds(self.cpu * factor, self.wall * factor)

    def __str__(self) -> str:
        return f"{self.cpu:9.3f} s CPU {self.wall:9.3f} s wall"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small volumes and few labels")
    parser.add_argument("--data", type=Path, help="folder of pinky40_a.npz (default: LSD_DASK_DATA)")
    arguments = parser.parse_args()
    size, labels = (64, 3) if arguments.quick else (128, 20)
    compile_kernels()

    beside_lsds(size, labels, downsample=1)
    beside_lsds(size, labels, downsample=2)
    by_number_of_labels(size)
    memory(size)
    through_dask(find_pinky(arguments.data), arguments.quick)


def beside_lsds(size: int, some: int, downsample: int) -> None:
    """Time and differences on touching neurites, sigma 8 voxels, one thread."""
    volume = neurites(size, VOXEL_SIZE)
    labels = np.unique(volume)
    chosen = np.random.default_rng(0).choice(labels, min(some, len(labels)), replace=False)
    print(f"\n{size}^3, {len(labels)} touching neurites, downsample {downsample}, one thread")

    ours = measured(lambda: local_shape_descriptors(volume, SIGMA, downsample=downsample), 5)
    smooth = volume.astype(np.float32)
    gaussians = measured(lambda: [filtered(smooth) for _ in range(10)], 2)
    options = {"sigma": (SIGMA,) * 3, "labels": chosen, "downsample": downsample}
    reference = lsds("float32")
    none = measured(lambda: reference(volume, **{**options, "labels": []}))
    part = measured(lambda: reference(volume, **options))
    per_label = Seconds(part.cpu - none.cpu, part.wall - none.wall) * (1 / len(chosen))
    whole = Seconds(none.cpu + per_label.cpu * len(labels), none.wall + per_label.wall * len(labels))

    row("lsd_dask", ours)
    row("ten scipy Gaussian filters", gaussians, ours)
    row(f"lsds (scaled from {len(chosen)} labels)", whole, ours)
    inside = np.isin(volume, chosen)
    descriptors = local_shape_descriptors(volume, SIGMA, downsample=downsample)[:, inside]
    for precision in ("float32", "float64"):
        theirs = lsds(precision)(volume, **options)[:, inside]
        by_channel = " ".join(f"{d:.0e}" for d in np.abs(descriptors - theirs).max(axis=1))
        print(f"  largest difference from lsds in {precision}, by channel: {by_channel}", flush=True)


def lsds(precision: str) -> Callable[..., np.ndarray]:
    """The function of lsds, which works in float32, or what it gives when it works in float64.

    In float32 it subtracts squares of coordinates from each other, which leaves few digits of small variances
    and of the Pearson coefficients that these are divided by.
    """
    module: Any = importlib.import_module("lsd.train.local_shape_descriptor")
    module.np = SimpleNamespace(**{**vars(np), "float32": getattr(np, precision)})
    return module.get_local_shape_descriptors


def by_number_of_labels(size: int) -> None:
    """The same number of voxels, from few thick to many thin neurites."""
    print(f"\n{size}^3 by number of labels, one thread")
    for downsample in (1, 2):
        least = None
        for voxel_size in VOXEL_SIZES:
            volume = neurites(size, voxel_size)
            seconds = measured(partial(local_shape_descriptors, volume, SIGMA, downsample=downsample), 5)
            least = least or seconds
            row(f"downsample {downsample}, {len(np.unique(volume))} labels", seconds, least)


def memory(size: int) -> None:
    """Peak memory of one call, in a process of its own."""
    print(f"\n{size}^3, peak memory of one call beyond its input and result, as a part of the result")
    for voxel_size in VOXEL_SIZES:
        volume = neurites(size, voxel_size)
        with tempfile.TemporaryDirectory() as directory:
            path = str(Path(directory) / "volume.npy")
            np.save(path, volume)
            for downsample in (1, 2):
                command = [sys.executable, __file__, "--peak", path, str(downsample)]
                extra = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                print(f"  downsample {downsample}, {len(np.unique(volume)):4} labels: {float(extra):5.2f}")


def peak_beyond_result(path: str, downsample: int) -> float:
    """Peak memory of a call beyond what was there before and its result, as a part of the result."""
    compile_kernels()
    volume = np.load(path)
    reset_peak()
    before = status("VmRSS")
    result = local_shape_descriptors(volume, SIGMA, downsample=downsample)
    return (status("VmHWM") - before) / result.nbytes - 1


def through_dask(pinky: Path | None, quick: bool) -> None:
    """A large automated segmentation from zarr, on a local cluster of two processes."""
    if pinky is None:
        print("\npinky40_a.npz not found: set LSD_DASK_DATA to its folder")
        return
    with np.load(pinky) as arrays:
        volume = arrays["segmentation"]
    if quick:
        volume = volume[:64, :128, :128]
    with tempfile.TemporaryDirectory() as directory:
        path = str(Path(directory) / "pinky.zarr" / "segmentation")
        save_volume(volume, path, voxel_size=PINKY_VOXEL_SIZE, block_shape=(64, 256, 256))
        cluster = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
        with cluster, Client(cluster) as client:
            client.run(compile_kernels)
            client.run(reset_peak)
            before = client.run(status, "VmRSS")
            stored = open_volume(path)
            descriptors = local_shape_descriptors(stored, PINKY_SIGMA, downsample=2).data
            start = time.perf_counter()
            descriptors.map_blocks(mean_of_channels, chunks=(10, 1, 1, 1), dtype=np.float64).compute()
            wall = time.perf_counter() - start
            after = client.run(status, "VmHWM")
    print(f"\n{pinky.name}, {volume.shape} voxels, sigma {PINKY_SIGMA} nm, downsample 2, on 2 processes")
    million = volume.size / wall / 1e6
    print(f"  {wall:.2f} s wall, {million:.1f} million voxels a second, {descriptors.npartitions} blocks")
    for worker in before:
        megabytes = f"{after[worker] / 2**20:.0f} MiB, {before[worker] / 2**20:.0f} MiB of them at the start"
        print(f"  peak memory of a worker: {megabytes}")


def compile_kernels() -> None:
    for dtype in (np.uint32, np.uint64):
        local_shape_descriptors(np.ones((8, 8, 8), dtype), 2)


def mean_of_channels(block: np.ndarray) -> np.ndarray:
    return block.mean(axis=(1, 2, 3), keepdims=True, dtype=np.float64)


def neurites(size: int, voxel_size: int) -> np.ndarray:
    tissue = neuropil((size,) * 3, voxel_size=(voxel_size,) * 3, somata=False)
    return tissue.labels.compute(scheduler="synchronous").values


def filtered(image: np.ndarray) -> np.ndarray:
    return gaussian_filter(image, SIGMA, mode="constant", truncate=3.0)


def measured(function: Callable[[], object], repetitions: int = 1) -> Seconds:
    best = Seconds(np.inf, np.inf)
    for _ in range(repetitions):
        cpu, wall = time.process_time(), time.perf_counter()
        function()
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        best = Seconds(min(best.cpu, cpu), min(best.wall, wall))
    return best


def row(name: str, seconds: Seconds, relative_to: Seconds | None = None) -> None:
    ratios = ""
    if relative_to is not None:
        ratios = f"   x {seconds.cpu / relative_to.cpu:.2f} CPU, x {seconds.wall / relative_to.wall:.2f} wall"
    print(f"  {name:34}{seconds}{ratios}", flush=True)


def find_pinky(directory: Path | None) -> Path | None:
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    path = (directory or Path(os.environ.get("LSD_DASK_DATA", beside))) / "pinky40_a.npz"
    return path if path.is_file() else None


if __name__ == "__main__":
    if sys.argv[1:2] == ["--peak"]:
        print(peak_beyond_result(sys.argv[2], int(sys.argv[3])))
    else:
        main()
