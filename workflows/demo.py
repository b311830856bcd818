"""The main job on made-up tissue: ``python -m lsd_dask.workflows.demo``, or ``make demo``.

Makes a volume of synthetic neuropil with affinities as a network might predict them, segments it on a local
dask cluster, scores the result against the truth, draws a picture, and prints how to do the same with other
data.
"""

import argparse
import os
import shutil
import sys
import time
from pathlib import Path

from lsd_dask import clusters, open_volume, save_volume, synthetic, viewing
from lsd_dask.kernels.synthetic import neuropil

from .running.first_run import say_if_compiled
from .running.outputs import console, in_bold, show_dashboard
from .steps.segment import segment


def main() -> None:
    """Run the demo."""
    parser = argparse.ArgumentParser(description="Segment a volume of synthetic neuropil.")
    parser.add_argument("--size", type=int, default=256, help="voxels along each axis (default: 256)")
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder to write to (default: demo)")
    parser.add_argument("--workers", type=int, default=2, help="worker processes (default: 2)")
    options = parser.parse_args()
    container = options.out / "neuropil.zarr"
    with clusters.connect("local", num_workers=options.workers) as client:
        console.print(f"A local dask cluster of {options.workers} processes is there.")
        show_dashboard(client)
        make_volume(container, options.size)
        result = segment(
            affs_file=str(container),
            out_file=str(container),
            gt_file=str(container),
            gt_dataset="volumes/labels",
        )
    panels = {
        "raw": open_volume(container / "volumes/raw"),
        "fragments": open_volume(result.outputs["fragments"]),
        "segmentation": open_volume(result.path),
        "truth": open_volume(container / "volumes/labels"),
    }
    picture = viewing.section_panel(panels, options.out / "sections.png")
    curve = viewing.plot_scores(result.scores, options.out / "scores.png")
    _print_scores(result.scores)
    console.print("\nRaw, fragments, segmentation and truth side by side:", in_bold(str(picture)))
    console.print(f"Scores over thresholds: {curve}")
    told = {"command": _command(), "container": container, "threshold": f"{result.threshold:g}"}
    print(_HOW_TO.format(**told), file=sys.stderr)


_HOW_TO = """
In a browser, with a slider for the threshold:

  {command} view {container}

The same with your own affinities (zarr or HDF5; channels first, to the lower neighbour along z, y, x):

  {command} segment --affs-file YOURS.zarr --affs-dataset volumes/affs \\
    --out-file out.zarr --threshold {threshold}

or in Python:

  from lsd_dask import workflows
  workflows.segment(affs_file="YOURS.zarr", out_file="out.zarr", threshold={threshold})

With --gt-file and --gt-dataset the best threshold is chosen for you; {command} segment --help
tells the rest.
"""


def _command() -> str:
    """The command line program, by its path where that is needed: in an environment that is not active."""
    installed = Path(sys.executable).parent / "lsd-dask"
    if shutil.which("lsd-dask") or not installed.is_file():
        return "lsd-dask"
    return os.path.relpath(installed)


def make_volume(container: Path, size: int) -> None:
    """Write raw data, labels and affinities of a cube of synthetic neuropil; nothing if they are there."""
    started = time.perf_counter()
    tissue = synthetic.neuropil((size, size, size), chunks=min(size, 128), leaks=0.01)
    names = {"raw": "volumes/raw", "labels": "volumes/labels", "affinities": "volumes/affs"}
    say_if_compiled(neuropil)
    missing = [name for name, dataset in names.items() if not (container / dataset).exists()]
    for name in missing:
        save_volume(tissue[name], container / names[name])
    made = "made" if missing else "there from an earlier run"
    console.print(
        f"Synthetic neuropil of {size}^3 voxels {made} in {time.perf_counter() - started:.0f} s: {container}"
    )


def _print_scores(scores: object) -> None:
    assert isinstance(scores, list | tuple)
    best = min(scores, key=lambda row: row["voi_sum"])
    console.print("\nVariation of information against the truth, in bits (lower is better):")
    console.print("  threshold   split   merge     sum")
    for row in scores[:: max(1, len(scores) // 10)]:
        console.print(_score_line(row))
    console.print(_score_line(best) + "  <- best")


def _score_line(row: dict[str, float]) -> str:
    return f"  {row['threshold']:9.2f} {row['voi_split']:7.3f} {row['voi_merge']:7.3f} {row['voi_sum']:7.3f}"


if __name__ == "__main__":
    main()
