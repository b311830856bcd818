"""A small run in a process of its own, to be killed; and what tells whether its output is what it should be.

``python -m tests.helpers.faulty CONTAINER OUT`` runs the main job on two worker processes.
"""

import hashlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from distributed import Client

import lsd_dask as ld
from lsd_dask import workflows

from .tissue import tissue

#: 18 blocks of it.
BLOCK = 32
THRESHOLD = 0.3
ARRAYS = ("volumes/fragments", f"volumes/segmentation_{100 * THRESHOLD:.9g}")


def save_tissue(container: Path) -> None:
    """Affinities and labels."""
    ld.save_volume(tissue().affinities.values, container / "volumes/affs")
    ld.save_volume(tissue().labels.values, container / "volumes/labels")


def options(container: Path, out: Path) -> dict[str, Any]:
    """Of the main job."""
    return {
        "affs_file": container,
        "gt_file": container,
        "gt_dataset": "volumes/labels",
        "out_file": out,
        "threshold": THRESHOLD,
        "block_size": (BLOCK,) * 3,
        "num_workers": 2,
    }


def digests(out: Path) -> dict[str, str]:
    """Digest of every voxel and every row that the main job writes."""
    found = {}
    for name in ARRAYS:
        if (out / name).exists():
            voxels = np.ascontiguousarray(ld.open_volume(out / name).to_numpy())
            found[name] = hashlib.sha256(voxels.tobytes()).hexdigest()
    for path in sorted((out / "rag").rglob("*.parquet")):
        rows = pq.read_table(path).to_pylist()
        found[str(path.relative_to(out))] = hashlib.sha256(repr(rows).encode()).hexdigest()
    return found


def undisturbed_digests(container: Path, out: Path) -> dict[str, str]:
    """Those of a run on a thread of this process, which nothing happens to."""
    with Client(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0"):
        workflows.segment(options(container, out))
    found = digests(out)
    assert set(ARRAYS) < set(found)
    return found


def records(out: Path) -> dict[Path, int]:
    """When each record of a finished block was written."""
    return {path: path.stat().st_mtime_ns for path in (out / "runs").rglob("blocks/*.json")}


if __name__ == "__main__":
    workflows.segment(options(Path(sys.argv[1]), Path(sys.argv[2])))
