"""The notebooks that train networks, and use them, run from top to bottom, and show what they say."""

import pytest

from ..helpers.notebooks import TRAINING, Runner, check_pictures, printed
from ..helpers.notebooks import run as run

# Where nothing is compiled yet, everything is.
pytestmark = pytest.mark.timeout(600)


@pytest.mark.parametrize("name", TRAINING)
def test_a_notebook_runs(run: Runner, name: str) -> None:
    notebook = run(name)
    check_pictures(notebook, least=3)
    if name == "06_inference":
        assert printed(notebook, "largest difference") in (
            "'largest difference: 0'",
            "'largest difference: 1'",
        )
