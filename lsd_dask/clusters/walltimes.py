"""Time limits of jobs: as people write them, and as batch systems read them."""

import math
import re
from typing import Any

#: How a time limit is written, for messages. All of its examples are taken.
EXPECTED = (
    "'[days-]hours:minutes[:seconds]' or a number with a unit, such as '12:00', '1-12:00', '12 h' or '90 min'"
)

_CLOCK = re.compile(r"(?:(\d{1,6})-)?(\d{1,6}):([0-5]\d)(?::([0-5]\d))?")
_AMOUNT = re.compile(
    r"(\d{1,9}(?:\.\d{1,9})?)\s*(s|sec|seconds?|m|min|minutes?|h|hours?|d|days?)", re.IGNORECASE
)
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds_of(walltime: Any) -> int:
    """Read a time limit as people write it; ValueError for what is none.

    Examples
    --------
    >>> seconds_of("12:00"), seconds_of("1-12:00:00"), seconds_of("1.5 h")
    (43200, 129600, 5400)
    """
    text = walltime.strip() if isinstance(walltime, str) else ""
    seconds = _read_clock(text) or _read_amount(text)
    if not seconds:
        raise ValueError(f"walltime should be {EXPECTED}, not {walltime!r}")
    return seconds


def walltime_for(kind: str, walltime: str) -> str:
    """Write a time limit as a batch system reads it: "12:00" is 12 hours for LSF and 12 minutes for Slurm.

    Examples
    --------
    >>> walltime_for("lsf", "12:00"), walltime_for("slurm", "12:00"), walltime_for("lsf", "30 s")
    ('12:00', '12:00:00', '00:01')
    """
    seconds = seconds_of(walltime)
    if kind == "lsf":
        hours, minutes = divmod(math.ceil(seconds / 60), 60)
        return f"{hours:02d}:{minutes:02d}"
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}"


def seconds_for(kind: str, walltime: str | None) -> int | None:
    """Seconds of a time limit as a batch system reads it; None for what only the batch system can read.

    Examples
    --------
    >>> seconds_for("lsf", "12:00"), seconds_for("slurm", "12:00"), seconds_for("slurm", "12:00:00")
    (43200, 720, 43200)
    """
    text = str(walltime)
    seconds = _read_clock(text)
    if seconds and kind != "lsf" and re.fullmatch(r"\d+:\d+", text):
        seconds //= 60
    return seconds or None


def _read_clock(text: str) -> int:
    clock = _CLOCK.fullmatch(text)
    if clock is None:
        return 0
    days, hours, minutes, seconds = (int(part or 0) for part in clock.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def _read_amount(text: str) -> int:
    amount = _AMOUNT.fullmatch(text)
    if amount is None:
        return 0
    return round(float(amount[1]) * _UNITS[amount[2][0].lower()])
