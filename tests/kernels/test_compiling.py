"""Compiled kernels are cached on disk, and out of date as soon as anything they are made of changes."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from lsd_dask.kernels import compiling

WHOLE = """
from .compiling import kernel
from .part import part

@kernel
def whole(x):
    return x + part()
"""
PART = """
from .compiling import device

@device
def part():
    return {}
"""


def result(folder: Path) -> tuple[int, bool]:
    """What the kernel gives in a new process, and whether it was read from the cache."""
    code = (
        "from kernels.whole import whole; print(whole(1), bool(whole.__wrapped__ and "
        "whole.__closure__[0].cell_contents.stats.cache_hits))"
    )
    environment = {**os.environ, "PYTHONPATH": str(folder), "XDG_CACHE_HOME": str(folder)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    value, cached = done.stdout.split()
    return int(value), cached == "True"


def test_a_kernel_is_compiled_anew_when_a_function_of_another_module_changes(tmp_path: Path) -> None:
    """Without all sources in the stamp, the last call gives 2: what numba alone makes of it."""
    package = tmp_path / "kernels"
    package.mkdir()
    (package / "__init__.py").touch()
    shutil.copy(compiling.__file__, package)
    (package / "whole.py").write_text(WHOLE)
    (package / "part.py").write_text(PART.format(1))
    assert result(tmp_path) == (2, False)
    assert result(tmp_path) == (2, True)
    (package / "part.py").write_text(PART.format(40))
    assert result(tmp_path) == (41, False)
