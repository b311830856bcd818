"""What a new worker imports before its first block: it should not wait for what its block does not need."""

import subprocess
import sys

#: The tasks of all steps that need no network.
TASKS = """
from lsd_dask.blockwise.runs import RecordedTask
from lsd_dask.workflows.graph.counting import _CountBlock
from lsd_dask.workflows.steps.evaluate_volumes import _OverlapBlock
from lsd_dask.workflows.steps.extract_fragments import RelabelBlock, _ExtractBlock
from lsd_dask.workflows.steps.lsds import _DescribeBlock
"""

#: Packages that take long to import. This fails where `lsd_dask.segmentation.watershed`
#: imports mahotas at its top, which imports Pillow.
HEAVY = {"torch", "gunpowder", "matplotlib", "neuroglancer", "PIL"}


def test_workers_import_no_heavy_packages() -> None:
    code = f"import sys\n{TASKS}\nprint(*{HEAVY!r} & sys.modules.keys())"
    ended = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert ended.stdout.split() == []
