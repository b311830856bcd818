"""Tests, and modules that they share, whose assertions say what they found as those of the tests do."""

from pathlib import Path

import pytest

pytest.register_assert_rewrite(
    *(f"tests.helpers.{path.stem}" for path in (Path(__file__).parent / "helpers").glob("[!_]*.py"))
)
