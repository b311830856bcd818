"""TLS of dask's connections: who may join a cluster, and that nobody reads along.

Without TLS, whoever reaches the port of a scheduler may run code as its user. The certificates are dask's own
matter [1]_; here is only where they come from: an object, a file, or certificates for one cluster alone.

References
----------
.. [1] https://distributed.dask.org/en/stable/tls.html
"""

import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import yaml
from distributed import Security

from ..checks.arguments import described

#: What `connect` takes for `security`.
type Encryption = Security | str | os.PathLike[str] | None

#: Certificates that are made for one cluster and kept in memory.
TEMPORARY = "temporary"

#: Keyword of `distributed.Security` by its place in the section ``distributed.comm.tls`` of a configuration.
_KEYS = {
    "ca-file": "tls_ca_file",
    "ciphers": "tls_ciphers",
    "client.cert": "tls_client_cert",
    "client.key": "tls_client_key",
    "scheduler.cert": "tls_scheduler_cert",
    "scheduler.key": "tls_scheduler_key",
    "worker.cert": "tls_worker_cert",
    "worker.key": "tls_worker_key",
}


def security_of(given: Encryption) -> Security | None:
    """The certificates that connections are made with.

    Parameters
    ----------
    given : distributed.Security, str, Path or None
        ``"temporary"`` makes certificates for one cluster (needs the package cryptography). A path is that of
        a dask configuration (YAML) with the section ``distributed.comm.tls``. None leaves it to dask's own
        configuration.

    Returns
    -------
    distributed.Security or None
        None where connections are not encrypted.

    Raises
    ------
    TypeError
        For anything else.
    FileNotFoundError
        If the file, or one that it names, does not exist.
    ValueError
        If the file has no such section, or a key in it is unknown.
    ImportError
        If cryptography is needed and not installed.

    Examples
    --------
    >>> security_of(None) is None
    True
    """
    if given is None:
        required = dask.config.get("distributed.comm.require-encryption", None)
        return Security() if required else None
    if isinstance(given, Security):
        return given
    if not isinstance(given, str | os.PathLike):
        raise TypeError(
            f"security: found {described(given)}, expected a distributed.Security, 'temporary' or the path "
            "of a dask configuration"
        )
    if given == TEMPORARY:
        return _temporary()
    return _read(Path(given))


def check_encrypted(address: str, security: Security | None) -> None:
    """Raise ValueError for the address of an encrypted scheduler without certificates to connect with."""
    if address.startswith("tls://") and (security or Security()).tls_ca_file is None:  # type: ignore[attr-defined]
        raise ValueError(
            f"{address}: found no certificates, expected some, as this scheduler is encrypted: name them in "
            "security, or in the section distributed.comm.tls of dask's configuration"
        )


def in_files(security: Security) -> Security:
    """The same for a script that is only looked at: in place of what is in memory alone there are names."""
    shown = Security(require_encryption=True)
    for name in _KEYS.values():
        value = getattr(security, name)
        in_memory = name != "tls_ciphers" and value is not None and "\n" in value
        setattr(shown, name, name.upper() if in_memory else value)
    return shown


def check_words(security: Security) -> None:
    """Raise ValueError where the path of a certificate is not one word in the command of a job."""
    for name in ("tls_ca_file", "tls_worker_cert", "tls_worker_key"):
        value = getattr(security, name)
        if value is not None and "\n" not in value and shlex.quote(value) != value:
            raise ValueError(
                f"security: {name}: found {value!r}, expected a path without spaces and special characters, "
                "as it goes into the script of jobs"
            )


def _temporary() -> Security:
    try:
        return Security.temporary()
    except ImportError as error:
        raise ImportError(
            "security 'temporary' needs the package cryptography: pip install cryptography"
        ) from error


def _read(path: Path) -> Security:
    expected = "expected the section distributed.comm.tls of a dask configuration"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file, {expected}, or the word 'temporary'")
    try:
        section: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: {error}; {expected}") from None
    for key in ("distributed", "comm", "tls"):
        section = section.get(key) if isinstance(section, dict) else None
    if not isinstance(section, dict):
        raise ValueError(  # noqa: TRY004 - of what a file holds
            f"{path}: found no such section, {expected}"
        )
    settings = dict(_settings(section))
    unknown = [key for key in settings if key not in _KEYS]
    if unknown or "ca-file" not in settings:
        found = f"found the key {unknown[0]}" if unknown else "found no key ca-file"
        raise ValueError(f"{path}: {found}, expected {', '.join(_KEYS)}")
    for key, value in settings.items():
        if key != "ciphers" and not (isinstance(value, str) and Path(value).is_file()):
            raise FileNotFoundError(f"{path}: {key}: found {value!r}, expected the path of a file")
    return Security(require_encryption=True, **{_KEYS[key]: value for key, value in settings.items()})


def _settings(section: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Keys and values of a section; dask takes keys with hyphens and with underscores."""
    for name, value in section.items():
        key = above + str(name).replace("_", "-")
        if isinstance(value, dict):
            yield from _settings(value, f"{key}.")
        elif value is not None:
            yield key, value
