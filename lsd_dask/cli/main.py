"""The command line: one sub-command a workflow step, its options those of the step's configuration.

Beside the steps, there is what looks at their runs: `run-block`, and the `tools`.
"""

import argparse
import importlib
import json
import re
import sys
import types
import typing
from collections.abc import Collection, Sequence
from importlib import metadata, resources
from typing import Any, Literal

from lsd_dask.cli.tools import TOOLS
from lsd_dask.space.units import is_unit
from lsd_dask.workflows import registry
from lsd_dask.workflows.config.describing import example, option_type
from lsd_dask.workflows.config.fields import nearest
from lsd_dask.workflows.config.loading import ConfigError
from lsd_dask.workflows.config.options import Config

#: Exit codes: the run failed; what the user gave cannot be used; the user stopped the run.
FAILED, WRONG_INPUT, INTERRUPTED = 1, 2, 130

#: `X | Y` is one or the other, depending on what X and Y are.
_UNIONS = (types.UnionType, typing.Union)

_INPUT_ERRORS = (
    ValueError,
    TypeError,
    FileExistsError,
    FileNotFoundError,
    IsADirectoryError,
    NotADirectoryError,
    PermissionError,
    ImportError,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    arguments : sequence of str, optional
        The command and its arguments, by default those of the process.

    Returns
    -------
    int
        0 if all went well, 1 if the run failed, 2 if the input cannot be used, 130 if it was interrupted.

    Raises
    ------
    SystemExit
        With these codes, for ``--help``, ``--version``, and commands and options that do not exist.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    models = registry.models()
    if not given or given[0].startswith("-"):
        _top_parser().parse_args(given[:1] or ["--help"])
    command, *rest = given
    step = command.replace("-", "_")
    if step in TOOLS:
        return _use(step, rest)
    block = None
    if step == "run_block":
        step, block, rest = _block_of(rest, models)
    if step not in models:
        known = [*models, "run_block", *TOOLS]
        _top_parser().error(f"there is no command {command!r}{_suggestion(step, known, '')}")
    return _run(models[step], rest, block)


def _use(name: str, arguments: Sequence[str]) -> int:
    """Run a command that is no step."""
    parser = TOOLS[name].parser(name)
    options, unknown = parser.parse_known_args(arguments)
    _refuse(parser, unknown, vars(options), "unexpected {!r}")
    try:
        TOOLS[name].run(options)
    except KeyboardInterrupt:
        return INTERRUPTED
    except (*_INPUT_ERRORS, OSError) as error:
        if options.debug:
            raise
        return _report(error, name)
    return 0


def _block_of(arguments: Sequence[str], models: Collection[str]) -> tuple[str, str, list[str]]:
    """Step and block of ``run-block``, and the arguments that are the step's own."""
    parser = argparse.ArgumentParser(
        "lsd-dask run-block",
        usage="lsd-dask run-block STEP BLOCK [CONFIG] [--KEY VALUE ...]",
        description=f"{_RUN_BLOCK} It is computed, written and recorded as in a run of the step.",
    )
    parser.add_argument("step", metavar="STEP", help="the command whose block it is, e.g. extract-fragments")
    parser.add_argument("block", metavar="BLOCK", help="its place in the grid of blocks, e.g. 0_12_3")
    options = parser.parse_args(arguments[:2])
    step = options.step.replace("-", "_")
    if step not in models:
        parser.error(f"there is no command {options.step!r}{_suggestion(step, models, '')}")
    return step, options.block, list(arguments[2:])


def _run(model: type[Config], arguments: Sequence[str], block: str | None) -> int:
    """Run a step, or one block of it."""
    parser = _step_parser(model)
    options = _parse(parser, model, arguments)
    if options.pop("example"):
        print(_example(model), end="")
        return 0
    config, debug = options.pop("config"), options.pop("debug")
    try:
        values = {key: _value(model, key, text) for key, text in options.items()}
        # The workflows import dask and numba, which --help and wrong options need not wait for.
        workflows = importlib.import_module("lsd_dask.workflows")
        if block is None:
            getattr(workflows, model.step)(config, **values)
        else:
            workflows.run_block(model.step, block, config, **values)
    except (*_INPUT_ERRORS, OSError, RuntimeError, MemoryError, KeyboardInterrupt) as error:
        if debug:
            raise
        return _report(error, model.step)
    return 0


def _report(error: BaseException, step: str) -> int:
    """Print what went wrong without a traceback and return the exit code."""
    command = f"lsd-dask {_hyphens(step)}"
    if isinstance(error, KeyboardInterrupt):
        print(f"{command}: interrupted; the same command goes on where it stopped", file=sys.stderr)
        return INTERRUPTED
    message = str(error).removeprefix(f"{step}: ") or type(error).__name__
    # Functions name their keyword, which is an option here.
    message = message.replace("pass overwrite=True", "pass --overwrite")
    hint = "--help explains every key" if isinstance(error, ConfigError) else "--debug shows the traceback"
    print(f"{command}: {message}\n({hint})", file=sys.stderr)
    return WRONG_INPUT if isinstance(error, _INPUT_ERRORS) else FAILED


_RUN_BLOCK = "Run one block of a step in this process, for debugging."


def _top_parser() -> argparse.ArgumentParser:
    names = {_hyphens(name): model.summary for name, model in registry.models().items()}
    names |= {"run-block": _RUN_BLOCK, **{name: tool.summary for name, tool in TOOLS.items()}}
    width = max(map(len, names))
    commands = "\n".join(f"  {name:{width}}  {summary}" for name, summary in names.items())
    parser = argparse.ArgumentParser(
        "lsd-dask",
        usage="lsd-dask COMMAND [CONFIG] [--KEY VALUE ...]",
        description="Segment neurons: from affinities to a segmentation, block by block.",
        epilog=_TOP_EPILOG.format(commands=commands),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    version = f"lsd-dask {metadata.version('lsd-dask')}"
    parser.add_argument("--version", action="version", version=version)
    return parser


_TOP_EPILOG = """\
commands:
{commands}

Each step takes a configuration (a JSON or YAML file) and options that override its keys; or options alone.

to begin:
  lsd-dask segment --example > segment.yaml    write a configuration that explains every key
  lsd-dask segment segment.yaml                run it
  lsd-dask COMMAND --help                      show all keys of a command
"""


def _step_parser(model: type[Config]) -> argparse.ArgumentParser:
    command = f"lsd-dask {_hyphens(model.step)}"
    parser = argparse.ArgumentParser(
        command,
        usage=f"{command} [CONFIG] [--KEY VALUE ...]",
        description=f"{model.summary} Options override the keys of the configuration.",
        epilog=_step_epilog(model, command),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("config", metavar="CONFIG", nargs="?", help="configuration, a JSON or YAML file")
    parser.add_argument(
        "--example", action="store_true", help="print a configuration that explains every key"
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    for heading, keys in model.sections():
        group = parser.add_argument_group(heading.lower())
        for key in keys:
            group.add_argument(f"--{_hyphens(key)}", **_argument(model, key))
    return parser


def _step_epilog(model: type[Config], command: str) -> str:
    # Of options of which one has to be given, one has an example.
    required = [
        f"--{_hyphens(key)} {_text(field.examples[0])}"
        for key, field in model.model_fields.items()
        if field.examples
    ]
    return "\n".join(
        [
            "The value null stands for the default. Paths are relative to the current directory.",
            "",
            "examples:",
            f"  {command} --example > {model.step}.yaml",
            f"  {command} {model.step}.yaml --num-workers 4",
            f"  {command} {' '.join(required)}",
        ]
    )


def _argument(model: type[Config], key: str) -> dict[str, Any]:
    """Return what argparse has to know of an option; the values stay text, which the model checks."""
    hint = option_type(model, key)
    settings: dict[str, Any] = {
        "dest": key,
        "default": argparse.SUPPRESS,
        "help": f"{model.describe(key)}{_default(model, key)}".replace("%", "%%"),
    }
    if hint is bool:
        return settings | {"action": argparse.BooleanOptionalAction}
    if _is_list(hint):
        return settings | {"nargs": "+", "metavar": "N"}
    if _is_names(hint) or _is_volumes(hint):
        metavar = "PATH" if _is_volumes(hint) else key.rpartition("_")[2].upper().removesuffix("S")
        # Given again, values add up: each that begins with a hyphen has to be given as --option=VALUE.
        return settings | {"nargs": "+", "action": "extend", "metavar": metavar}
    return settings | {"metavar": _metavar(hint, key)}


def _metavar(hint: Any, key: str) -> str:
    if typing.get_origin(hint) is Literal:
        return "|".join(typing.get_args(hint))
    if hint in (int, float):
        return "N"
    return "JSON" if typing.get_origin(hint) is tuple else key.rpartition("_")[2].upper()


def _default(model: type[Config], key: str) -> str:
    field = model.model_fields[key]
    if field.is_required():
        return " (required)"
    return "" if field.default is None else f" (default: {_text(field.default)})"


def _parse(parser: argparse.ArgumentParser, model: type[Config], arguments: Sequence[str]) -> dict[str, Any]:
    options, unknown = parser.parse_known_args([_as_option(argument) for argument in arguments])
    unexpected = "unexpected {!r}: one configuration is taken, before the options"
    _refuse(parser, unknown, model.model_fields, unexpected)
    return vars(options)


def _refuse(
    parser: argparse.ArgumentParser, unknown: Sequence[str], keys: Collection[str], unexpected: str
) -> None:
    """End with an error if there are arguments that the parser does not know."""
    for argument in unknown:
        if not argument.startswith("-"):
            parser.error(unexpected.format(argument))
        name = argument.partition("=")[0]
        closest = _suggestion(name.strip("-").replace("-", "_"), [*keys, "help"], "--")
        parser.error(f"there is no option {name}{closest}")


def _as_option(argument: str) -> str:
    """Write an option with hyphens, as keys are often copied from a file: --block_size."""
    name, equals, value = argument.partition("=")
    return _hyphens(name) + equals + value if argument.startswith("--") else argument


def _value(model: type[Config], key: str, given: str | list[str] | bool) -> Any:
    """Return what was given for an option; its text is converted by the model."""
    hint = option_type(model, key)
    if isinstance(given, list) and _is_names(hint):
        return None if given == ["null"] else given
    if isinstance(given, list) and _is_volumes(hint):
        return None if given == ["null"] else [_path_or_keys(key, text) for text in given]
    if isinstance(given, list):
        entries = re.split(r"[\s,\[\]()]+", " ".join(given))
        given = _with_units([entry for entry in entries if entry])
        if len(given) == 1 and typing.get_origin(hint) in _UNIONS:
            return given[0]
        return None if given == ["null"] else given
    if given == "null":
        return None
    return _json(key, str(given)) if typing.get_origin(hint) is tuple else given


def _with_units(entries: Sequence[str]) -> list[str]:
    """Join units to the numbers before them.

    >>> _with_units(["8", "um", "400", "40nm"])
    ['8 um', '400', '40nm']
    """
    joined: list[str] = []
    for entry in entries:
        if joined and is_unit(entry):
            joined[-1] += f" {entry}"
        else:
            joined.append(entry)
    return joined


def _path_or_keys(key: str, given: str) -> Any:
    """Return the path of a volume, or its keys where those are given."""
    return _json(key, given) if given.lstrip().startswith(("{", "[")) else given


def _json(key: str, given: str) -> Any:
    try:
        return json.loads(given)
    except json.JSONDecodeError as error:
        raise ConfigError(f"--{_hyphens(key)}: expected JSON, found {given!r} ({error})") from None


def _is_list(hint: Any) -> bool:
    """Tell whether a type is a list of numbers, or may be one, which is given as separate arguments."""
    if typing.get_origin(hint) in _UNIONS:
        return any(_is_list(each) for each in typing.get_args(hint))
    return typing.get_origin(hint) is tuple and typing.get_args(hint)[0] in (int, float, float | str)


def _is_names(hint: Any) -> bool:
    """Tell whether a type is a list of names or paths, in which nothing is a separator."""
    return typing.get_origin(hint) is tuple and typing.get_args(hint)[0] is str


def _is_volumes(hint: Any) -> bool:
    """Tell whether a type is a list of volumes, each a path or a configuration of its own."""
    first = typing.get_args(hint)[0] if typing.get_origin(hint) is tuple else None
    return isinstance(first, type) and issubclass(first, Config)


def _example(model: type[Config]) -> str:
    written = resources.files("lsd_dask.workflows") / "configs" / f"{model.step}.yaml"
    return written.read_text("utf-8") if written.is_file() else example(model)


def _suggestion(word: str, known: Collection[str], prefix: str) -> str:
    closest = nearest(word, known)
    return f", did you mean {prefix}{_hyphens(closest)}?" if closest else ""


def _text(value: Any) -> str:
    """Write a value as an option takes it."""
    match value:
        case bool():
            return str(value).lower()
        case float():
            return f"{value:g}"
        case tuple():
            return " ".join(map(_text, value))
        case _:
            return str(value)


def _hyphens(name: str) -> str:
    return name.replace("_", "-")
