"""Scripts that start processes: these import the script again, so that it needs a guard."""

import ast
import sys
from pathlib import Path
from types import FrameType
from typing import Any


def check_main_guard() -> None:
    """Raise RuntimeError where processes that are started now would run the script that starts them.

    Python starts a process anew and imports the script in it. What is not behind
    ``if __name__ == "__main__":`` is then done there again: it would start processes from processes.

    Raises
    ------
    RuntimeError
        If the script has no guard around what it is doing. What is no script, such as a notebook, needs none.
    """
    main = sys.modules.get("__main__")
    path = getattr(main, "__file__", None)
    line = None if path is None else _line_at_work(sys._getframe(), main)
    if path is not None and line is not None and not _is_guarded(Path(path), line):
        raise RuntimeError(
            f"{path}, line {line}: this script starts processes, which import the script again, so what it "
            'does has to stand behind a guard:\n\n    if __name__ == "__main__":\n        main()\n\n'
            'with all that it does in the function main, or directly below if __name__ == "__main__":'
        )


def _line_at_work(frame: FrameType | None, main: Any) -> int | None:
    """The line of a script that is being executed; None where something else called."""
    while frame is not None:
        if frame.f_globals is vars(main) and frame.f_code.co_name == "<module>":
            return frame.f_lineno
        frame = frame.f_back
    return None


def _is_guarded(script: Path, line: int) -> bool:
    """Whether a line of a script is behind a guard; true where that cannot be told."""
    try:
        tree = ast.parse(script.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return True
    return any(
        node.lineno <= line <= (node.end_lineno or line)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and _asks_for_name(node.test)
    )


def _asks_for_name(test: ast.expr) -> bool:
    return any(isinstance(node, ast.Name) and node.id == "__name__" for node in ast.walk(test))
