"""Raw data to neurons in one command, with a trained network, scored and drawn.

Writes sections 85 to 124 of fib25_a, which `training.py` does not train on, to zarr; `workflows.segment` then
predicts affinities, makes fragments, graph, segmentation and scores of them.

    python benchmarks/training.py --data-set fib25 --kind mtlsd --seed 0
    python benchmarks/neurons.py
"""

import argparse
import os
from pathlib import Path

import numpy as np

import lsd_dask as ld
from lsd_dask import viewing, workflows
from lsd_dask.space.grids import Grid
from lsd_dask.volumes.dask_arrays import label

RESULTS = Path(__file__).resolve().parents[1] / "bench-results"
NETWORK = RESULTS / "training" / "fib25_mtlsd_0_3000" / "last.pt"
SECTIONS, VOXEL_SIZE = slice(85, 125), (10, 10, 10)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", type=Path, default=NETWORK)
    parser.add_argument("--data", type=Path, help="folder of fib25_a.npz (default: LSD_DASK_DATA)")
    parser.add_argument("--out", type=Path, default=RESULTS / "neurons")
    options = parser.parse_args()
    data = options.data or Path(os.environ["LSD_DASK_DATA"])
    volume, out = options.out / "fib25.zarr", options.out / "neurons.zarr"
    arrays = np.load(data / "fib25_a.npz")
    grid = Grid(("z", "y", "x"), arrays["raw"][SECTIONS].shape, VOXEL_SIZE, (0, 0, 0), "nanometer")
    for name in ("raw", "neuron_ids"):
        ld.save_volume(label(arrays[name][SECTIONS], grid), volume / name, overwrite=True)

    result = workflows.segment(
        raw_file=volume,
        raw_dataset="raw",
        checkpoint=options.checkpoint,
        out_file=out,
        gt_file=volume,
        gt_dataset="neuron_ids",
        num_workers=2,
    )
    panels = {
        "raw": ld.open_volume(volume / "raw"),
        "affinities": ld.open_volume(out / "volumes/affs"),
        "fragments": ld.open_volume(result.outputs["fragments"]),
        "neurons": ld.open_volume(result.path),
        "truth": ld.open_volume(volume / "neuron_ids"),
    }
    print(viewing.section_panel(panels, options.out / "sections.png"))
    print(viewing.plot_scores(result.scores, options.out / "scores.png"))


if __name__ == "__main__":
    main()
