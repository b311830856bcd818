"""The files that all tables of wrong input look at."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ..helpers.refusals import snapshot
from .house import containers, pictures, tables


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Everything that the tables look at. It stays as it is, as nothing may touch it: the last word."""
    folder = tmp_path_factory.mktemp("house")
    containers(folder)
    pictures(folder)
    tables(folder)
    before = snapshot(folder)
    yield folder
    assert snapshot(folder) == before
