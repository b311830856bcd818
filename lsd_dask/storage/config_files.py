"""Configuration files, JSON or YAML, as plain data: of bounded size and depth, every key once."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from .credentials import without_secrets

#: Bytes of a configuration, at most; entries that it can have, each alias with all that it stands for; and
#: how deep they can lie in one another. Files beyond that are something else, or made to exhaust memory.
LARGEST, MOST_ENTRIES, DEEPEST = 1 << 20, 100_000, 50


class ConfigError(ValueError):
    """A configuration that cannot be used; the message lists everything that is wrong with it."""

    def __init__(self, message: str) -> None:
        super().__init__(without_secrets(message))


def read_config(path: Path) -> dict[str, Any]:
    """Read the keys and values of a configuration, JSON if its name ends in ``.json``, else YAML.

    Raises
    ------
    ConfigError
        If the file cannot be parsed, or is no configuration, naming it and the place.
    FileNotFoundError, IsADirectoryError
        If there is no such file.
    """
    if path.is_dir():
        raise IsADirectoryError(f"{path}: expected a configuration (JSON or YAML file), found a directory")
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such configuration (JSON or YAML file)")
    with path.open("rb") as file:
        found = file.read(LARGEST + 1)
    if len(found) > LARGEST:
        raise ConfigError(f"{path}: expected a configuration of at most {LARGEST:,} bytes, found more")
    try:
        text = found.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: expected a configuration (JSON or YAML), found binary data") from None
    try:
        content = _parse_json(text) if path.suffix.lower() == ".json" else _parse_yaml(text)
    except RecursionError:
        raise ConfigError(f"{path}: {_TOO_DEEP}") from None
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path}, line {error.lineno}, column {error.colno}: {error.msg}") from None
    except yaml.MarkedYAMLError as error:
        raise ConfigError(f"{path}{_place(error.problem_mark)}: {error.problem}") from None
    except (yaml.YAMLError, ValueError) as error:
        # ValueError: numbers of thousands of digits, and dates that are none.
        raise ConfigError(f"{path}: {error}") from None
    if not isinstance(content, dict):
        found_kind = "nothing" if content is None else f"a {type(content).__name__}"
        raise ConfigError(f"{path}: expected keys and their values, found {found_kind}")
    return {str(key): value for key, value in content.items()}


_TOO_DEEP = f"expected entries at most {DEEPEST} deep in one another, found deeper ones"


def _parse_json(text: str) -> Any:
    content = json.loads(text, object_pairs_hook=_with_unique_keys, parse_constant=_refuse_constant)
    below: list[Any] = [content]
    for _ in range(DEEPEST):
        entries = [list(item.values()) if isinstance(item, dict) else item for item in below]
        below = [entry for some in entries if isinstance(some, list) for entry in some]
    if below:
        raise ValueError(_TOO_DEEP)
    return content


def _with_unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    _check_unique(key for key, _ in pairs)
    return dict(pairs)


def _check_unique(keys: Iterable[Any]) -> None:
    seen = set()
    for key in keys:
        if key in seen:
            raise ValueError(f"found the key {key!r} twice, expected it once")
        seen.add(key)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"found {name}, expected a number, which that is none")


def _parse_yaml(text: str) -> Any:
    loader = yaml.SafeLoader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return None
        _check_nodes(root)
        return loader.construct_document(root)
    finally:
        loader.dispose()


def _check_nodes(root: yaml.Node) -> None:
    """Raise ValueError for too many or too deep nodes, and for keys that occur twice.

    An alias stands for the node of its anchor itself, so few lines can be billions of entries.
    """
    waiting = [(root, 1)]
    count = 0
    while waiting:
        node, depth = waiting.pop()
        count += 1
        if count > MOST_ENTRIES:
            raise ValueError(
                f"expected at most {MOST_ENTRIES:,} entries, found more; do aliases stand for one another?"
            )
        if depth > DEEPEST:
            raise ValueError(_TOO_DEEP)
        if isinstance(node, yaml.MappingNode):
            scalars = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            # What is merged in by << gives way to keys that are written out.
            _check_unique(key.value for key in scalars if key.tag != "tag:yaml.org,2002:merge")
            waiting += [(below, depth + 1) for pair in node.value for below in pair]
        elif isinstance(node, yaml.SequenceNode):
            waiting += [(below, depth + 1) for below in node.value]


def _place(mark: Any) -> str:
    return f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
