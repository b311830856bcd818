"""What mkdocs is told beside mkdocs.yml: files of the repository that lie outside of docs/."""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

_PAGES = ("CHANGELOG.md", "CONTRIBUTING.md")


def on_files(files: Files, config: Any) -> Files:
    """Add the changelog and how to contribute as pages, and the notebooks for downloading."""
    root = Path(config.config_file_path).parent
    for path in [root / page for page in _PAGES] + sorted((root / "notebooks").glob("*.ipynb")):
        name = str(path.relative_to(root))
        files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn links that hold in the repository into those that hold in the site."""
    if page.file.src_uri in _PAGES:
        return re.sub(r"\]\(docs/", "](", markdown)
    # From docs/ to the root is one step up, which is none in the site.
    depth = page.file.src_uri.count("/")
    up = "../" * (depth + 1)
    targets = "|".join(["notebooks/", *map(re.escape, _PAGES)])
    return re.sub(rf"\]\({re.escape(up)}(?={targets})", f"]({'../' * depth}", markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Write references of docstrings as they are read: ``[1]_`` and ``.. [1]`` are reStructuredText."""
    return re.sub(r"(?:\.\. )?\[(\d+)\]_?(?![(<])", r"[\1]", html)
