"""The test-suite of the package `lsds`, unchanged, with `lsd.train` and `lsd.train.gp` pointing at ours."""

import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

VERSION = "0.1.3"

#: What stands in for the package `lsd` while its tests run.
STAND_INS = {
    "lsd/__init__.py": "",
    "lsd/train/__init__.py": "from lsd_dask import LsdExtractor\nfrom . import local_shape_descriptor\n",
    "lsd/train/local_shape_descriptor.py": "from lsd_dask import LsdExtractor, get_local_shape_descriptors\n",
    "lsd/train/gp/__init__.py": "from lsd_dask.gunpowder import AddLocalShapeDescriptor\n",
}

#: Its tests pass the mode to `zarr.open` by position, which current zarr takes by name alone.
CONFTEST = """
import lsd.train
import zarr

assert lsd.train.LsdExtractor.__module__ == "lsd_dask.targets.extractor"
opened = zarr.open
zarr.open = lambda store, mode="a": opened(store, mode=mode)
"""


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tests of `lsds` as its source distribution has them."""
    folder = tmp_path_factory.mktemp("lsds")
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        f"lsds=={VERSION}",
        "--no-deps",
        "--no-binary",
        "lsds",
    ]
    fetched = subprocess.run([*command, "--dest", str(folder)], capture_output=True, text=True, check=False)
    if fetched.returncode:
        pytest.skip(f"the source of lsds {VERSION} cannot be fetched: {fetched.stderr.strip()[-200:]}")
    with tarfile.open(folder / f"lsds-{VERSION}.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    tests = folder / f"lsds-{VERSION}" / "tests"
    (tests / "conftest.py").write_text(CONFTEST)
    return tests


def test_the_suite_of_lsds_passes_with_ours_in_its_place(suite: Path, tmp_path: Path) -> None:
    for name, source in STAND_INS.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    # `-P` keeps the folder of the source, which holds the package itself, out of the path.
    command = [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(suite)]
    run = subprocess.run(
        [*command, str(suite)],
        cwd=suite,
        env={"PYTHONPATH": str(tmp_path), "PATH": "", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-2000:]
    assert "6 passed" in run.stdout
