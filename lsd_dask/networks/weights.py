"""Files of PyTorch: written whole or not at all, read without running code that is in them."""

import io
from collections.abc import Mapping
from typing import Any

from ..storage import files
from .pytorch import torch

#: Where the parameters are in files of others: gunpowder's, and the usual ones.
_NAMES = ("model_state_dict", "state_dict", "model")


def write(path: str, content: Mapping[str, Any]) -> None:
    """Write tensors and plain values as one file, whole or not at all."""
    buffer = io.BytesIO()
    torch.save(dict(content), buffer)
    files.write_bytes(path, buffer.getvalue())


def no_checkpoint(path: str) -> FileNotFoundError:
    """Return the error of a checkpoint that is not there, which names those beside it."""
    folder = path.rpartition("/")[0] or "."
    beside = [name for name in files.names(folder) if name.endswith(".pt")]
    hint = f"; there are {', '.join(beside)} beside it" if beside else ""
    return FileNotFoundError(f"{path}: there is no such checkpoint{hint}")


def read(path: str) -> dict[str, Any]:
    """Read what `write`, or anybody else, saved with `torch.save`, to the CPU.

    Parameters
    ----------
    path : str
        Of the file, or a URL.

    Returns
    -------
    dict

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no such file, was cut short, or holds more than tensors and plain values, whose code would be
        run.
    """
    if not files.exists(path):
        raise no_checkpoint(path)
    if not files.is_file(path):
        raise ValueError(f"{path}: found a directory, expected the file of a checkpoint")
    raw = io.BytesIO(files.read_bytes(path))
    try:
        content = torch.load(raw, map_location="cpu", weights_only=True)
    except Exception as error:
        # Of a file that is none, the unpickler of PyTorch raises whatever it stumbles over.
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"{path}: not a readable checkpoint of PyTorch ({reason}); was it cut short, or is it of another "
            "program?"
        ) from error
    if not isinstance(content, Mapping):
        raise ValueError(  # noqa: TRY004 - it is the file that is wrong
            f"{path}: found a {type(content).__name__}, expected the dictionary of a checkpoint"
        )
    return dict(content)


def parameters_in(content: Mapping[str, Any], path: str) -> dict[str, torch.Tensor]:
    """The parameters in a file of anybody, by name.

    Parameters
    ----------
    content
        What `read` gave: the parameters themselves, or a dictionary that has them under ``model_state_dict``
        (as gunpowder's), ``state_dict`` or ``model``.
    path
        Of the file, for messages.
    """
    for name in _NAMES:
        if isinstance(content.get(name), Mapping):
            content = content[name]
            break
    if not content or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise ValueError(
            f"{path}: found the keys {_listed(map(str, content))}, expected the parameters of a network, or "
            f"these under one of {', '.join(_NAMES)}"
        )
    # A network that was trained on several GPUs has all names in a module of its own.
    return {str(name).removeprefix("module."): value for name, value in content.items()}


def load_parameters(module: torch.nn.Module, parameters: Mapping[str, torch.Tensor], path: str) -> None:
    """Give a network its parameters; it is as it was where they do not fit: see `check_parameters`."""
    check_parameters(module, parameters, path)
    module.load_state_dict(parameters)


def check_parameters(module: torch.nn.Module, parameters: Mapping[str, torch.Tensor], path: str) -> None:
    """Check that parameters are those of a network.

    Parameters
    ----------
    module
        The network.
    parameters
        By name.
    path
        Where they come from, for messages.

    Raises
    ------
    ValueError
        If names or shapes differ; the message says which, what was found and what was expected.
    """
    expected = module.state_dict()
    missing = [name for name in expected if name not in parameters]
    unknown = [name for name in parameters if name not in expected]
    problems = [f"without {_listed(missing)}"] * bool(missing)
    problems += [f"with {_listed(unknown)}, which this network does not have"] * bool(unknown)
    wrong = [
        f"{name} of shape {tuple(parameters[name].shape)}, expected {tuple(value.shape)}"
        for name, value in expected.items()
        if name in parameters and parameters[name].shape != value.shape
    ]
    problems += [f"{_listed(wrong)}"] * bool(wrong)
    if problems:
        raise ValueError(f"{path}: found parameters of another network: {'; '.join(problems)}")


def _listed(names: Any) -> str:
    names = list(names)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
