"""The options of a step in words and as a signature: the same for docstrings, `help` and the command line."""

import functools
import inspect
import json
import os
import textwrap
import typing
from collections.abc import Callable, Mapping
from types import NoneType
from typing import Any, Literal

from .options import Config


def option_type(model: type[Config], key: str) -> Any:
    """Return the type of an option without None and without checks.

    Examples
    --------
    >>> from lsd_dask.workflows.config.steps import SegmentConfig
    >>> option_type(SegmentConfig, "block_size")
    tuple[float | str, ...]
    """
    hint = typing.get_type_hints(model)[key]
    alternatives = [each for each in typing.get_args(hint) if each is not NoneType]
    if NoneType not in typing.get_args(hint):
        return hint
    return functools.reduce(lambda a, b: a | b, alternatives)


def type_name(hint: Any) -> str:
    """Say a type in words.

    Examples
    --------
    >>> type_name(tuple[float, ...])
    'tuple of float'
    >>> type_name(Literal["steepest_ascent", "seeded"])
    "{'steepest_ascent', 'seeded'}"
    """
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is Literal:
        return f"{{{', '.join(map(repr, arguments))}}}"
    if typing.get_origin(hint) is tuple:
        return f"tuple of {type_name(arguments[0])}"
    if arguments:
        return " or ".join(map(type_name, arguments))
    return str(hint.__name__)


def signature(model: type[Config], body: Callable[..., Any]) -> inspect.Signature:
    """Return the signature of a step: a configuration, all options as keywords, and what its body returns."""
    hints = typing.get_type_hints(model)
    config = inspect.Parameter(
        "config",
        inspect.Parameter.POSITIONAL_ONLY,
        default=None,
        annotation=model | str | os.PathLike | Mapping | None,
    )
    options = [
        inspect.Parameter(
            key, inspect.Parameter.KEYWORD_ONLY, default=_default(model, key), annotation=hints[key]
        )
        for key in _keys(model)
    ]
    return inspect.Signature([config, *options], return_annotation=inspect.signature(body).return_annotation)


def docstring(model: type[Config], body: Callable[..., Any]) -> str:
    """Return the docstring of a step: that of its body, with the options before the other sections."""
    text = inspect.getdoc(body) or ""
    first_section = text.find("\n\nReturns\n-------")
    head, tail = (text, "") if first_section < 0 else (text[:first_section], text[first_section:])
    options = [_parameter(model, key) for key in _keys(model)]
    return "\n".join([f"{head}\n", _CONFIG_PARAMETER.format(name=model.__name__), *options]) + tail


def example(model: type[Config]) -> str:
    """Return a configuration (YAML) that explains every key, for a step that comes without one."""
    lines = [f"# {model.summary} Keys that are commented out show their default."]
    for _, keys in model.sections():
        for key in keys:
            field = model.model_fields[key]
            lines += [
                "",
                textwrap.fill(model.describe(key), 100, initial_indent="# ", subsequent_indent="# "),
            ]
            if field.is_required():
                lines.append(f"{key}: {json.dumps(next(iter(field.examples or ()), None))}")
            else:
                lines.append(f"# {key}: {json.dumps(field.default)}")
    return "\n".join(lines) + "\n"


_CONFIG_PARAMETER = """\
Parameters
----------
config : {name}, str, path-like or Mapping, optional
    The options below as an instance or a dictionary, or the path of a JSON or YAML file. Keywords override
    it."""


def _parameter(model: type[Config], key: str) -> str:
    field = model.model_fields[key]
    name = type_name(option_type(model, key))
    if not field.is_required():
        name += ", optional" if field.default is None else f", default: {field.default!r}"
    return f"{key} : {name}\n" + textwrap.indent(textwrap.fill(model.describe(key), 100), "    ")


def _default(model: type[Config], key: str) -> Any:
    field = model.model_fields[key]
    return inspect.Parameter.empty if field.is_required() else field.default


def _keys(model: type[Config]) -> list[str]:
    return [key for _, keys in model.sections() for key in keys]
