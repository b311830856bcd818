"""From what a user gives (keywords, a dictionary, a JSON or YAML file) to a checked configuration.

Every problem of a configuration is found before work begins, and told in one message.
"""

import logging
import os
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from lsd_dask.storage.config_files import ConfigError as ConfigError
from lsd_dask.storage.config_files import read_config

from .describing import option_type
from .fields import nearest
from .options import Config
from .steps import STEPS

logger = logging.getLogger(__name__)


def load_config[C: Config](
    model: type[C], config: C | str | os.PathLike[str] | Mapping[str, Any] | None = None, **options: Any
) -> C:
    """Read and check the configuration of a step.

    Keys that name what no longer exists are answered with a line in the log.

    Parameters
    ----------
    model : type of Config
        What the step can be told.
    config : Config, str, path-like or Mapping, optional
        An instance of `model`, a dictionary, or the path of a JSON (``.json``) or YAML file. Paths inside it
        are relative to the current directory; None (null) stands for the default of a key.
    **options
        Keys that override those of `config`.

    Returns
    -------
    Config
        An instance of `model`.

    Raises
    ------
    ConfigError
        If a file cannot be parsed, or if there are unknown keys, missing keys or values that cannot be used.
        The message lists all of them.
    FileNotFoundError, IsADirectoryError
        If `config` is not the path of a file.
    TypeError
        If `config` is none of the above.

    Examples
    --------
    >>> from lsd_dask.workflows.config.steps import FindSegmentsConfig
    >>> load_config(FindSegmentsConfig, {"fragments_file": "cells.zarr"}, thresholds_step=0.5).thresholds
    (0.0, 0.5)
    """
    values, source = _read(model, config)
    given = {**values, **options}
    sources = {key: "" if key in options else source for key in given}
    _answer_obsolete_keys(model, sources)

    problems = [_unknown_key(model, key, sources[key]) for key in given if not _is_known(model, key)]
    try:
        checked = model(**{k: v for k, v in given.items() if k in model.model_fields and v is not None})
    except ValidationError as error:
        problems += [_problem(model, details, sources) for details in _causes(error)]
    if problems:
        lines = problems if len(problems) == 1 else [f"{len(problems)} problems", *problems]
        raise ConfigError(f"{model.step}: " + "\n  - ".join(lines))
    return checked


def _read(model: type[Config], config: Any) -> tuple[dict[str, Any], str]:
    """Return the values of a configuration and the file they come from, if they do."""
    if config is None:
        return {}, ""
    if isinstance(config, model):
        return {key: getattr(config, key) for key in config.model_fields_set}, ""
    if isinstance(config, Mapping):
        return {str(key): value for key, value in config.items()}, ""
    if isinstance(config, str | os.PathLike):
        return read_config(Path(config)), os.fspath(config)
    raise TypeError(
        f"{model.step}: expected the path of a configuration, a dictionary or a {model.__name__}, "
        f"found {type(config).__name__}"
    )


def _is_known(model: type[Config], key: str) -> bool:
    return key in model.model_fields or key in model.obsolete


def _answer_obsolete_keys(model: type[Config], sources: Mapping[str, str]) -> None:
    """Log one line for all keys that get the same answer."""
    keys_of: dict[tuple[str, str], list[str]] = {}
    for key, source in sources.items():
        if key in model.obsolete and key not in model.model_fields:
            keys_of.setdefault((source, model.obsolete[key]), []).append(key)
    for (source, answer), keys in keys_of.items():
        logger.warning("%s", _at(source, f"{', '.join(keys)}: {answer}"))


def _unknown_key(model: type[Config], key: str, source: str) -> str:
    closest = nearest(key, model.model_fields)
    others = [other.step for other in STEPS if key in other.model_fields]
    hint = f", did you mean '{closest}'?" if closest else ""
    hint = f", a key of {' and '.join(others)}{hint}" if others else hint
    return _at(source, f"unknown key '{key}'{hint}")


def _causes(error: ValidationError) -> list[ErrorDetails]:
    """Errors without those that follow from others: lists are too short without their wrong entries."""
    errors = error.errors()
    inner = {details["loc"][0] for details in errors if len(details["loc"]) > 1}
    return [details for details in errors if details["type"] != "too_short" or details["loc"][0] not in inner]


def _problem(model: type[Config], details: ErrorDetails, sources: Mapping[str, str]) -> str:
    """Say one of pydantic's errors in the words of the configuration."""
    if not details["loc"]:
        return details["msg"].removeprefix("Value error, ")
    key = str(details["loc"][0])
    if key not in sources:
        return f"missing key '{key}': {model.describe(key)}"
    match details["loc"][1:]:
        case (int(index), str(name), *_):
            return _at(sources[key], f"{key}[{index}]: {_problem_of_entry(model, key, name, details)}")
    entry = "".join(f"[{index}]" for index in details["loc"][1:] if isinstance(index, int))
    return _at(sources[key], f"{key}{entry} {_expectation(details)}; found {_shown(details['input'])}")


def _problem_of_entry(model: type[Config], key: str, name: str, details: ErrorDetails) -> str:
    """Say what is wrong with a key of an entry, where the entries of a list are configurations."""
    (entries, *_) = typing.get_args(option_type(model, key))
    if details["type"] == "extra_forbidden":
        return _unknown_key(entries, name, "")
    known = {} if details["type"] == "missing" else {name: ""}
    return _problem(entries, {**details, "loc": details["loc"][2:]}, known)


def _expectation(details: ErrorDetails) -> str:
    """Say what was expected: "should ..."."""
    limits = details.get("ctx", {})
    match details["type"]:
        case "too_short":
            return f"should have at least {limits['min_length']} entries"
        case "too_long":
            return f"should have at most {limits['max_length']} entries"
        case "missing":
            return "should not be missing"
        case "tuple_type":
            return "should be a list"
        case "model_type":
            return "should be a path, or keys and their values"
        case _:
            return details["msg"].removeprefix("Value error, ").removeprefix("Input ")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:197]}..."


def _at(source: str, text: str) -> str:
    return f"{source}: {text}" if source else text
