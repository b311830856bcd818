"""The speed of every step beside its peer, as the tables of docs/benchmarks.md.

Runs the scripts that are named below, one after the other, and puts the tables that they print between the
marks of the same name in the document.

    python benchmarks/all.py                          # an hour on two cores; 30 GB of disk
    python benchmarks/all.py fragments relabeling     # only these

volara is measured where LSD_DASK_VOLARA_PYTHON names an interpreter that has it (`volara.py` says how to make
one); elsewhere its table stays as it is.
"""

import argparse
import importlib.metadata
import platform
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import psutil

#: Scripts with their arguments, by the name of their mark in the document.
SCRIPTS = {
    "fragments": ["fragments.py"],
    "region_graph": ["region_graph.py"],
    "lookup_tables": ["lookup_tables.py"],
    "relabeling": ["relabeling.py"],
    "pipeline": ["pipeline.py", "--sizes", "128", "256", "512", "--workers", "1", "2"],
    "two_processes": ["two_processes.py"],
    "peer": ["pipeline.py", "--sizes", "512", "--workers", "2", "--peer"],
    "volara": ["volara.py"],
    "compression": ["compression.py"],
    "startup": ["startup.py"],
    "overhead": ["overhead.py"],
    "memory": ["memory.py", "--sizes", "256"],
    "large": ["pipeline.py", "--sizes", "1024", "--workers", "2", "--memory", "2 GB", "--block", "256"],
}
DIRECTORY = Path(__file__).resolve().parent
DOCUMENT = DIRECTORY.parent / "docs" / "benchmarks.md"
PACKAGES = ("numpy", "numba", "dask", "zarr", "scipy", "mahotas", "waterz", "fastremap")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help=f"of {', '.join(SCRIPTS)}; all by default")
    names = parser.parse_args().names or list(SCRIPTS)
    unknown = set(names) - set(SCRIPTS)
    if unknown:
        parser.error(f"found {', '.join(sorted(unknown))}, expected some of {', '.join(SCRIPTS)}")
    for name in names:
        script, *arguments = SCRIPTS[name]
        print(f"== {script} {' '.join(arguments)}", flush=True)
        table = table_of([sys.executable, str(DIRECTORY / script), *arguments])
        if table is not None:
            replace(name, table)


def table_of(command: list[str]) -> str | None:
    """Run a script, show what it prints, and return the rows of its table with a line on the machine; None
    where it has measured nothing, because its peer is not installed.
    """
    rows = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        for line in running.stdout:
            print(line, end="", flush=True)
            if line.startswith("|"):
                rows.append(line.rstrip())
    if running.returncode:
        raise SystemExit(f"{' '.join(command)} ended with status {running.returncode}")
    return "\n".join(["", *rows, "", f"*{machine()}*", ""]) if rows else None


def machine() -> str:
    """The machine, and versions of what was measured."""
    versions = ", ".join(f"{package} {importlib.metadata.version(package)}" for package in PACKAGES)
    memory = round(psutil.virtual_memory().total / 2**30)
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {psutil.cpu_count()} cores of {_processor()}, {memory} GiB, "
        f"Python {platform.python_version()}, {versions}"
    )


def _processor() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


def replace(name: str, table: str) -> None:
    """Put a table between its marks in the document."""
    text = DOCUMENT.read_text(encoding="utf-8")
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    if begin not in text or end not in text:
        raise SystemExit(f"{DOCUMENT}: found no marks {begin} and {end}")
    before, rest = text.split(begin)
    DOCUMENT.write_text(f"{before}{begin}\n{table}\n{end}{rest.split(end)[1]}", encoding="utf-8")


if __name__ == "__main__":
    main()
