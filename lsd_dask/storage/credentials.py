"""Secrets in addresses: refused where they come in, and masked wherever text of others is passed on.

An address is written into ledgers, attributes, reports and logs, all of which are made to be shared. So no
secret may be part of one; stores have places of their own for credentials.
"""

import re

_MASK = "***"

#: User and password before a host; of a server as of a bucket.
_USER = re.compile(r"(?<=://)([^\s/?#:@'\"]*):([^\s/?#@'\"]+)@")

#: Parameters of a query that let anybody in: of signed addresses of S3, Google and Azure, and tokens.
_PARAMETER = re.compile(
    r"(?<=[?&;])"
    r"((?:sig|awsaccesskeyid"
    r"|(?:[\w-]*[_-])?(?:token|secret|password|passwd|pwd|apikey|key|signature|credentials?))=)"
    r"[^&;#\s'\"]+",
    re.IGNORECASE,
)


def without_secrets(text: str) -> str:
    """Text with the passwords and signatures of all addresses in it masked.

    Examples
    --------
    >>> without_secrets("https://ann:pony@lab.org/em.zarr?token=8f3 is no volume")
    'https://***@lab.org/em.zarr?token=*** is no volume'
    """
    return _PARAMETER.sub(rf"\1{_MASK}", _USER.sub(f"{_MASK}@", text)) if "://" in text else text


def check_no_secrets(address: str) -> None:
    """Raise ValueError, without the secret, for an address that holds one.

    Examples
    --------
    >>> check_no_secrets("s3://bucket/em.zarr")
    >>> check_no_secrets("https://ann:pony@lab.org/em.zarr")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: https://***@lab.org/em.zarr: found a password or token in the address, expected none: ...
    """
    masked = without_secrets(address)
    if masked != address:
        raise ValueError(
            f"{masked}: found a password or token in the address, expected none: addresses are noted beside "
            "results, and shown in reports. Leave credentials to the store's own configuration, such as "
            "environment variables or ~/.netrc"
        )
