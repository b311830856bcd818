"""Tests, and modules that they share, whose assertions say what they found as those of the tests do."""

from pathlib import Path

import pytest

pytest.register_assert_rewrite(*(f"tests.{path.stem}" for path in Path(__file__).parent.glob("[!_]*.py")))
