"""Scripts that start processes, with and without a guard; each is run as one."""

import subprocess
import sys
from pathlib import Path

import pytest

WORK = "with connect('local', num_workers=1) as client: print(client.submit(abs, -1).result())"
GUARD = 'if __name__ == "__main__":'

GUARDED = {
    "below": f"{GUARD}\n    {WORK}",
    "a function": f"def main():\n    {WORK}\n\n{GUARD}\n    main()",
}
UNGUARDED = {
    "none": WORK,
    "a function": f"def main():\n    {WORK}\n\nmain()",
    "a guard elsewhere": f"{GUARD}\n    print('begins')\n{WORK}",
}


def run(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    path = folder / "script.py"
    path.write_text(f"from lsd_dask.clusters import connect\n{script}\n")
    return subprocess.run([sys.executable, path], capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("kind", GUARDED)
def test_a_script_with_a_guard_runs(kind: str, tmp_path: Path) -> None:
    ended = run(GUARDED[kind], tmp_path)
    assert (ended.returncode, ended.stdout) == (0, "1\n"), ended.stderr


@pytest.mark.parametrize("kind", UNGUARDED)
def test_a_script_without_one_ends_with_a_sentence(kind: str, tmp_path: Path) -> None:
    ended = run(UNGUARDED[kind], tmp_path)
    said = ended.stderr.strip().splitlines()
    assert ended.returncode == 1
    assert len(said) < 40 and "__main__" in said[-1]
    assert any(
        f"script.py, line {len((tmp_path / 'script.py').read_text().splitlines())}" in line for line in said
    )


def test_what_is_no_script_needs_none(tmp_path: Path) -> None:
    program = f"from lsd_dask.clusters import connect\n{WORK}\n"
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, cwd=tmp_path
    )
    assert (ended.returncode, ended.stdout) == (0, "1\n"), ended.stderr
