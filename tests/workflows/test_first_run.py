"""That kernels are compiled is said where it takes time: once, and only where they are in no cache."""

import os
from pathlib import Path

import numpy as np
import pytest

from lsd_dask import kernels
from lsd_dask.kernels.segmentation import ascent, height, region_graph, relabeling
from lsd_dask.workflows.running import first_run


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(first_run, "_cache_folder_of", lambda _: tmp_path)
    first_run._say.cache_clear()
    return tmp_path


def made(cache: Path, module: str, *, seconds_after_the_sources: float) -> None:
    sources = max(path.stat().st_mtime for path in Path(kernels.__path__[0]).rglob("*.py"))
    index = cache / f"{module}.some_kernel-12.py312.nbi"
    index.touch()
    os.utime(index, (0, sources + seconds_after_the_sources))


def test_it_is_said_once(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first_run.say_if_compiled(height, ascent)
    first_run.say_if_compiled(region_graph)
    assert capsys.readouterr().err.count("Kernels are compiled") == 1


def test_nothing_is_said_where_all_are_cached(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for module in ("height", "ascent"):
        made(cache, module, seconds_after_the_sources=1)
    first_run.say_if_compiled(height, ascent)
    assert not capsys.readouterr().err


@pytest.mark.parametrize("lacking", ["older than the sources", "absent"])
def test_one_that_is_not_is_enough(cache: Path, lacking: str, capsys: pytest.CaptureFixture[str]) -> None:
    made(cache, "height", seconds_after_the_sources=1)
    if lacking == "older than the sources":
        made(cache, "ascent", seconds_after_the_sources=-1)
    first_run.say_if_compiled(height, ascent)
    assert "Kernels are compiled" in capsys.readouterr().err


def test_the_cache_is_where_numba_keeps_them() -> None:
    ids = np.ones(3, np.uint64)
    relabeling.relabel(ids, ids[:1], ids[:1], np.empty_like(ids))
    assert list(first_run._cache_folder_of(relabeling).glob("relabeling.relabel-*.nbi"))
