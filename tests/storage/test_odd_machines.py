"""Containers and nodes of clusters: a user whom no list knows, without a home, among read-only folders.

Where a machine lets its users make namespaces (`unshare`), which many containers do not.
"""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import lsd_dask as ld

PACKAGE = Path(ld.__file__).parent
USER = 54321

#: A kernel, a lock of a container, and a step with a ledger.
STEP = f"""
import getpass, os
import numpy as np
from distributed import Client
import lsd_dask as ld
from lsd_dask.kernels.segmentation.relabeling import distinct
from lsd_dask.workflows import build_pyramid

if __name__ == "__main__":
    assert os.getuid() == {USER} and "HOME" not in os.environ
    try:
        raise SystemExit(getpass.getuser())
    except (KeyError, OSError):
        pass
    assert not os.access(ld.__path__[0], os.W_OK)
    ids = np.arange(512, dtype=np.uint64).reshape(8, 8, 8)
    ld.save_volume(ids, "out.zarr/ids")
    with Client(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None):
        build_pyramid(in_file="out.zarr", in_dataset="ids", levels=1)
    print(ld.open_volume("out.zarr/ids_levels/s1").shape, distinct.cache_folder)
"""


def run_as_nobody(folder: Path, *read_only: Path) -> subprocess.CompletedProcess[str]:
    """Run the step as a user that is unknown, without a home, with some folders read-only."""
    (folder / "step.py").write_text(STEP)
    binds = [
        f"mount --bind {name} {name} && mount -o remount,bind,ro {name}"
        for name in (shlex.quote(str(path)) for path in read_only)
    ]
    python = f"unshare --user --map-user={USER} --map-group={USER} {shlex.quote(sys.executable)} step.py"
    command = ["unshare", "--user", "--mount", "--map-root-user", "sh", "-c", " && ".join([*binds, python])]
    environment = {key: value for key, value in os.environ.items() if key in ("PATH", "LD_LIBRARY_PATH")}
    environment |= {"PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": str(folder / "tmp")}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module", autouse=True)
def namespaces() -> None:
    tried = [
        "unshare",
        "--user",
        "--mount",
        "--map-root-user",
        "unshare",
        "--user",
        f"--map-user={USER}",
        "true",
    ]
    try:
        subprocess.run(tried, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no namespaces can be made here ({error})")


@pytest.mark.parametrize("writable", [True, False], ids=["temporary folder", "nothing to keep files in"])
def test_a_user_without_name_or_home(tmp_path: Path, writable: bool) -> None:
    (tmp_path / "tmp").mkdir()
    done = run_as_nobody(tmp_path, PACKAGE, *[] if writable else [tmp_path / "tmp"])
    assert done.returncode == 0, done.stderr
    assert "(4, 4, 4)" in done.stdout
    assert not (tmp_path / "~").exists()
    if writable:
        assert f"{tmp_path}/tmp/lsd_dask-{USER}/kernels" in done.stdout
