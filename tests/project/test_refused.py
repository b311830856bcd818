"""The page on what is refused is what the code says now."""

import importlib.util
from pathlib import Path
from types import ModuleType

DOCS = Path(__file__).parents[2] / "docs"


def refuse() -> ModuleType:
    spec = importlib.util.spec_from_file_location("refuse", DOCS / "refuse.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_tells_what_is_refused_and_how() -> None:
    module = refuse()
    assert module.page() == module.PAGE.read_text(encoding="utf-8"), "python docs/refuse.py writes it anew"
    assert sum(map(len, module.SECTIONS.values())) > 25
