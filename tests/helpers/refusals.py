"""Checks that a call is refused: it fails, in words that help, and touches nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def snapshot(folder: Path) -> dict[Path, tuple[int, int] | None]:
    """When each file below a folder was last written, and its size; and what folders there are."""
    return {
        path: (path.stat().st_mtime_ns, path.stat().st_size) if path.is_file() else None
        for path in folder.rglob("*")
    }


def refused(folder: Path, call: Callable[[], Any], error: type[Exception], *parts: str) -> None:
    """Check that a call fails, that its message has all of these parts, and that no file was touched."""
    before = snapshot(folder)
    with pytest.raises(error) as caught:
        call()
    message = str(caught.value)
    for part in parts:
        assert part in message, message
    assert snapshot(folder) == before
