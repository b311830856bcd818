"""The demo, smaller, as `make demo` runs it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import matplotlib.image
import numpy as np

import lsd_dask as ld


def test_the_demo_makes_neurons_scores_and_pictures(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "lsd_dask.workflows.demo",
        "--size",
        "64",
        "--out",
        str(tmp_path / "demo"),
    ]
    run = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=False, env={**os.environ, "PATH": ""}
    )
    assert run.returncode == 0, run.stderr
    segmentation = re.search(r"\n +segmentation: (\S+)", run.stderr)
    assert segmentation is not None, run.stderr
    segments = np.unique(ld.open_volume(tmp_path / segmentation[1]).to_numpy())
    fragments = np.unique(ld.open_volume(tmp_path / "demo/neuropil.zarr/volumes/fragments").to_numpy())
    assert 1 < len(segments) < len(fragments)
    assert "<- best" in run.stderr
    for name in ("sections.png", "scores.png"):
        assert f"demo/{name}" in run.stderr
        picture = matplotlib.image.imread(tmp_path / "demo" / name)
        assert picture.std() > 0.05
    # The command that it prints is there, also where the environment is not active.
    program = re.search(r"(\S+) segment --affs-file", run.stderr)
    assert program is not None
    found = subprocess.run([tmp_path / program[1], "--help"], capture_output=True, check=False)
    assert found.returncode == 0
