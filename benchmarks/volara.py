"""The pipeline beside volara's [1]_: from affinities in zarr to a segmentation in zarr.

volara needs versions of its own of what it shares with the project, so it is looked for in a virtual
environment of its own; where there is none, this script says how to make one, and measures nothing.

    python -m venv volara-env && volara-env/bin/python -m pip install volara
    python benchmarks/volara.py --volara-python volara-env/bin/python                # 256^3, two workers
    LSD_DASK_VOLARA_PYTHON=volara-env/bin/python python benchmarks/volara.py --sizes 256 512

Notes
-----
volara's steps are its mutex watershed with seeds, its mean affinity of touching fragments (SQLite, written in
bulk), its mutex watershed of the graph, and its relabelling. It is made for affinities of long range, which
the volume does not have; its smoothing and biases are those of several that segment the volume best. Ours
finds segments for fifty thresholds where volara finds them for one. Neither the start of our cluster nor the
imports of either side are in the seconds; what volara starts for each step is.

References
----------
.. [1] https://github.com/e11bio/volara
"""

import argparse
import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import zarr
from pipeline import folder, make_volume, run

from lsd_dask import clusters
from lsd_dask.evaluation import rand_voi

VARIABLE = "LSD_DASK_VOLARA_PYTHON"
#: In voxels.
BLOCK, CONTEXT = 128, 16
#: Of volara's mutex watershed of voxels, and of the graph. Tried on 128^3: smoothing of 0, 1 and 2 voxels,
#: with and without seeds, and seven biases of the graph.
EXTRACTION = {"bias": [-0.5] * 3, "sigma": [1] * 3, "noise_eps": 0.001, "min_seed_distance": 10}
BIAS = -0.7
STEPS = ("extract fragments", "agglomerate", "find segments", "extract segmentation")
HEADER = (
    "| size | step | lsd_dask, wall s | volara, wall s | ratio | lsd_dask, CPU s | volara, CPU s | ratio |\n"
    "| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |"
)


@dataclass(frozen=True)
class Seconds:
    """What a step took, workers included."""

    wall: float
    cpu: float


type Costs = Mapping[str, Seconds]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--volara-python", type=Path, help=f"interpreter with volara; by default ${VARIABLE}")
    parser.add_argument("--sizes", type=int, nargs="+", default=[256], help="sides of volumes, voxels")
    parser.add_argument("--workers", type=int, default=2, help="number of processes")
    parser.add_argument("--repeats", type=int, default=1, help="runs of each side, in turns; medians count")
    parser.add_argument("--folder", type=Path, help="where volumes are kept; by default they are removed")
    options = parser.parse_args()
    given = options.volara_python or (Path(os.environ[VARIABLE]) if VARIABLE in os.environ else None)
    if given is None:
        print(
            "Nothing is measured: volara is not there. Make it an environment of its own\n"
            "    python -m venv volara-env && volara-env/bin/python -m pip install volara\n"
            f"and name its interpreter with --volara-python or {VARIABLE}."
        )
        return
    python = given.absolute()
    version = version_of(python)
    print(HEADER)
    with folder(options.folder) as directory:
        for size in options.sizes:
            volume = directory / f"neuropil_{size}.zarr"
            make_volume(volume, size, options.workers)
            ours, theirs = directory / f"beside_volara_{size}.zarr", directory / f"volara_{size}"
            costs: list[tuple[Costs, Costs]] = []
            for _ in range(options.repeats):
                mine = run_ours(volume, ours, options.workers)
                costs.append((mine, run_volara(python, volume, theirs, options.workers)))
            table(size, medians([c for c, _ in costs]), medians([c for _, c in costs]))
            truth = zarr.open_array(volume / "labels", mode="r")[:]
            segmentations = {
                "lsd_dask": ours / "volumes" / "segmentation",
                f"volara {version}": theirs / "segmentation",
            }
            scores = "; ".join(f"{name} {voi(truth, path)}" for name, path in segmentations.items())
            print(f"| {size}^3 | VOI: {scores} | | | | | | |", flush=True)


def version_of(python: Path) -> str:
    """The version of volara that an interpreter has."""
    if not python.is_file():
        raise SystemExit(f"{python}: found no such file, expected a Python interpreter that has volara")
    ask = "import importlib.metadata as m; print(m.version('volara'))"
    asked = subprocess.run([str(python), "-P", "-c", ask], capture_output=True, text=True, check=False)
    if asked.returncode:
        raise SystemExit(f"{python}: found no volara; install it with {python} -m pip install volara")
    return asked.stdout.strip()


def run_ours(volume: Path, out: Path, workers: int) -> Costs:
    """Our steps, anew, without the scores."""
    with clusters.connect("local", num_workers=workers) as client:
        costs = itertools.islice(run(client, volume, out, None), len(STEPS))
        return {cost.step: Seconds(cost.wall, cost.cpu) for cost in costs}


def run_volara(python: Path, volume: Path, out: Path, workers: int) -> Costs:
    """The steps of volara, anew, in a process of its own interpreter.

    Raises
    ------
    RuntimeError
        If it fails.
    """
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    arguments = {
        "affinities": str((volume / "affs").absolute()),
        "out": str(out.absolute()),
        "block": BLOCK,
        "context": CONTEXT,
        "workers": workers,
        "extraction": EXTRACTION,
        "bias": BIAS,
    }
    script = Path(__file__).with_name("_volara.py")
    # -P: the folder of these scripts has a volara.py, and must not be searched for modules.
    command = [str(python), "-P", str(script), json.dumps(arguments)]
    with (out / "messages.txt").open("w") as messages:
        ran = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=messages, text=True, cwd=out, check=False
        )
    lines = [json.loads(line) for line in ran.stdout.splitlines() if line.startswith("{")]
    costs = {line["step"]: Seconds(line["wall"], line["cpu"]) for line in lines}
    if ran.returncode or set(costs) != set(STEPS):
        said = (out / "messages.txt").read_text()[-2000:]
        raise RuntimeError(f"volara ended with status {ran.returncode} after {len(costs)} steps:\n{said}")
    return costs


def medians(runs: Sequence[Costs]) -> Costs:
    return {
        step: Seconds(median(costs[step].wall for costs in runs), median(costs[step].cpu for costs in runs))
        for step in STEPS
    }


def table(size: int, ours: Costs, theirs: Costs) -> None:
    """Print the rows of a size: each step, and all together."""

    def row(step: str, a: Seconds, b: Seconds) -> None:
        walls = f"{a.wall:.1f} | {b.wall:.1f} | {b.wall / a.wall:.1f}"
        print(
            f"| {size}^3 | {step} | {walls} | {a.cpu:.1f} | {b.cpu:.1f} | {b.cpu / a.cpu:.1f} |", flush=True
        )

    for step in STEPS:
        row(step, ours[step], theirs[step])
    row("**all**", total(ours), total(theirs))


def total(costs: Costs) -> Seconds:
    return Seconds(sum(cost.wall for cost in costs.values()), sum(cost.cpu for cost in costs.values()))


def voi(truth: np.ndarray, path: Path) -> str:
    """Variation of information of a stored segmentation: split + merge."""
    scores = rand_voi(truth, zarr.open_array(path, mode="r")[:])
    split, merge = scores["voi_split"], scores["voi_merge"]
    return f"{split + merge:.2f} ({split:.2f} + {merge:.2f})"


if __name__ == "__main__":
    sys.exit(main())
