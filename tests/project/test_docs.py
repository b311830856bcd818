"""The site of the documentation: built without warnings, complete, with pictures drawn by the library."""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
IMAGES = DOCS / "images"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mkdocs", reason="the site is built with the extra `docs`")
    pytest.importorskip("mkdocstrings", reason="the site is built with the extra `docs`")
    path = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(path)]
    told = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=told, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    assert "WARNING" not in built.stderr
    return path


def test_pages_are_built(site: Path) -> None:
    for page in DOCS.rglob("*.md"):
        if not page.name.startswith("_"):
            name = page.relative_to(DOCS).with_suffix("")
            assert (
                (site / name.parent if name.name == "index" else site / name).joinpath("index.html").exists()
            )


def test_the_api_is_read_from_docstrings(site: Path) -> None:
    page = (site / "api" / "segmentation" / "index.html").read_text()
    assert "Divide a volume into fragments by a watershed of its affinities." in page
    assert "[1]_" not in page


def test_notebooks_are_there_for_downloading(site: Path) -> None:
    assert 'href="notebooks/quickstart.ipynb"' in (site / "index.html").read_text()
    listed = (DOCS / "notebooks.md").read_text()
    for notebook in (ROOT / "notebooks").glob("*.ipynb"):
        assert f"](../notebooks/{notebook.name})" in listed
        assert (site / "notebooks" / notebook.name).exists()


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    page = (site / "index.html").read_text()
    assert not re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="https?://', page)


def test_the_api_has_every_public_name() -> None:
    documented = "\n".join(page.read_text() for page in (DOCS / "api").glob("*.md"))
    for name in ("", ".evaluation", ".viewing", ".workflows"):
        for each in importlib.import_module(f"lsd_dask{name}").__all__:
            assert each.startswith("__") or re.search(rf"\b{each}\b", documented), f"lsd_dask{name}.{each}"


def test_pictures_are_those_that_are_drawn(tmp_path: Path) -> None:
    command = [sys.executable, str(DOCS / "draw.py"), "--out", str(tmp_path), "--size", "40"]
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    drawn = {path.name for path in tmp_path.iterdir()}
    assert drawn == {path.name for path in IMAGES.glob("*.webp")}
    shown = "\n".join(page.read_text() for page in DOCS.rglob("*.md"))
    for name in drawn:
        assert f"images/{name}" in shown
        assert (IMAGES / name).stat().st_size < 100_000


def test_numbers_of_the_readme_are_measured() -> None:
    readme = (ROOT / "README.md").read_text().partition("## Three numbers")[2].partition("\n## ")[0]
    measured = (DOCS / "benchmarks.md").read_text() + (DOCS / "quality.md").read_text()
    numbers = re.findall(r"\b(\d+(?:\.\d+)?)(?=:| \||\s+of \|)", readme)
    assert len(numbers) >= 5
    for number in numbers:
        assert re.search(rf"(?<![\d.]){re.escape(number)}(?![\d.])", measured), number
