"""The examples in docstrings run, and say what they say."""

import doctest
import importlib
import pkgutil
from pathlib import Path

import pytest

import lsd_dask
import lsd_dask.workflows

MODULES = sorted(
    module.name
    for package in (lsd_dask, lsd_dask.workflows)
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
)


@pytest.mark.parametrize("name", ["lsd_dask", "lsd_dask.workflows", *MODULES])
def test_examples(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    results = doctest.testmod(importlib.import_module(name), optionflags=options)
    assert results.failed == 0, "see the captured output"
