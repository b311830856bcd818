"""What mkdocs is told beside mkdocs.yml: files of the repository that lie outside of docs/."""

import os
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

_ROOT = Path(__file__).parents[1]
#: Where the pages beside the code are in the site: `workflows/` itself is the place of docs/workflows.md.
_CODE = "packages"


def on_files(files: Files, config: Any) -> Files:
    """Add changelog, how to contribute and the page of each package, and the notebooks for downloading."""
    pages = [_ROOT / "CHANGELOG.md", _ROOT / "CONTRIBUTING.md"]
    pages += [page for package in ("lsd_dask", "workflows") for page in (_ROOT / package).rglob("README.md")]
    for path in pages + sorted((_ROOT / "notebooks").glob("*.ipynb")):
        files.append(File.generated(config, _in_the_site(path), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn links that hold in the repository into those that hold in the site."""
    source = Path(page.file.abs_src_path)

    def link(match: re.Match[str]) -> str:
        target = Path(os.path.normpath(source.parent / match[1]))
        if not target.is_file():
            return match[0]
        return f"]({os.path.relpath(_in_the_site(target), Path(_in_the_site(source)).parent)}"

    return re.sub(r"\]\(([^)\s#:]+)", link, markdown)


def _in_the_site(path: Path) -> str:
    """Where a file of the repository is in the site."""
    name = path.relative_to(_ROOT)
    match name.parts[0]:
        case "docs":
            return str(name.relative_to("docs"))
        case "lsd_dask" | "workflows":
            return f"{_CODE}/{name}"
        case _:
            return str(name)


def on_page_content(html: str, **_: Any) -> str:
    """Write references of docstrings as they are read: ``[1]_`` and ``.. [1]`` are reStructuredText."""
    return re.sub(r"(?:\.\. )?\[(\d+)\]_?(?![(<])", r"[\1]", html)
