"""The values a configuration can hold, each with the check that gives its error."""

import difflib
import math
import operator
import os
import re
from collections.abc import Callable, Collection
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from lsd_dask.clusters.directives import is_directive
from lsd_dask.clusters.walltimes import EXPECTED, seconds_of
from lsd_dask.space.units import is_unit, parse_length, unit_name
from lsd_dask.storage.credentials import check_no_secrets
from lsd_dask.storage.names import check_key

#: Bytes of a name, at most: file systems take 255, and steps add to names.
LONGEST = 200

#: The scores by which neighbouring fragments can be merged.
MERGE_FUNCTIONS = (
    *(f"hist_quant_{percent}" for percent in (10, 25, 50, 75, 90)),
    *(f"hist_quant_{percent}_initmax" for percent in (10, 25, 50, 75, 90)),
    "mean",
)


def nearest(word: str, known: Collection[str]) -> str | None:
    """Return the known word closest to `word`, or None if none is close.

    Examples
    --------
    >>> nearest("Block-Sise", ["block_size", "context"])
    'block_size'
    """
    matches = difflib.get_close_matches(word.lower().replace("-", "_"), known, n=1, cutoff=0.6)
    return matches[0] if matches else None


def array_path(file: str, dataset: str) -> str:
    """Join a container and the path of an array in it.

    Examples
    --------
    >>> array_path("cells.zarr", "/volumes/affs")
    'cells.zarr/volumes/affs'
    >>> array_path("affs.zarr", "/")
    'affs.zarr'
    """
    return f"{file.rstrip('/')}/{dataset.strip('/')}".rstrip("/")


def _check_file(value: Any) -> Any:
    path = os.fspath(value) if isinstance(value, os.PathLike) else value
    if isinstance(path, str) and (not path.strip() or "\0" in path):
        raise ValueError("should be a path")
    if isinstance(path, str):
        check_no_secrets(path)
    # Path.expanduser would mangle URLs.
    return os.path.expanduser(path) if isinstance(path, str) else path  # noqa: PTH111


def _check_dataset(value: str) -> str:
    if not value.strip():
        raise ValueError("should be the path of an array in its container, '/' if it is the only one")
    name = value.strip("/")
    if name:
        check_key(name)
    if any(len(part.encode()) > LONGEST for part in name.split("/")):
        raise ValueError(f"should be of names of at most {LONGEST} bytes")
    return name or "/"


def _check_merge_function(value: str) -> str:
    if value not in MERGE_FUNCTIONS:
        raise ValueError(f"should be {_one_of(value, MERGE_FUNCTIONS)}")
    return value


def _check_edges_collection(value: str) -> str:
    if value.removeprefix("edges_") not in MERGE_FUNCTIONS or not value.startswith("edges_"):
        collections = [f"edges_{name}" for name in MERGE_FUNCTIONS]
        raise ValueError(f'should be "edges_" and the merge function, {_one_of(value, collections)}')
    return value


def _one_of(value: str, known: Collection[str]) -> str:
    closest = nearest(value, known)
    return f"one of {', '.join(known)}" + (f" (did you mean '{closest}'?)" if closest else "")


def _check_name(value: str) -> str:
    if not re.fullmatch(r"\w[\w.-]*", value) or len(value.encode()) > LONGEST:
        raise ValueError(
            f"should be a plain name of letters, digits, '_', '-' and '.', of at most {LONGEST} bytes"
        )
    return value


def _check_walltime(value: Any) -> Any:
    if not isinstance(value, str):
        # YAML reads an unquoted 12:00 as a number of base 60.
        raise ValueError(  # noqa: TRY004 - pydantic collects ValueError alone
            f"should be {EXPECTED}; in YAML, 12:00 needs the quotes"
        )
    try:
        seconds_of(value)
    except ValueError:
        raise ValueError(f"should be {EXPECTED}") from None
    return value


def _check_directive(value: str) -> str:
    if not is_directive(value):
        raise ValueError("should be one option of the batch system, such as --gres=gpu:1")
    return value


def _check_unit(value: str) -> str:
    if not is_unit(value):
        raise ValueError("should be a unit of length, such as nm or um")
    return unit_name(value)


def _length_check(least: float, expected: str) -> Callable[[Any], float | str]:
    """Make the check of a length: a number in the units of the volume, or text that says its unit."""

    def check(value: Any) -> float | str:
        try:
            number, unit = parse_length(value) if isinstance(value, str) else (float(value), None)
        except (TypeError, ValueError):
            raise ValueError('should be a valid number, or one with a unit such as "1.2 um"') from None
        if not (math.isfinite(number) and number >= least):
            raise ValueError(f"should be {expected}")
        return number if unit is None else f"{number:.15g} {unit}"

    return check


def _check_id(value: Any) -> int:
    # Options of the command line are text. Of a float nobody knows which id it was.
    given = int(value) if isinstance(value, str) and value.isdecimal() else value
    try:
        number = -1 if isinstance(given, bool) else operator.index(given)
    except TypeError:
        number = -1
    if not 0 <= number < 2**64:
        raise ValueError("should be a whole number from 0 to 2**64 - 1, written in full")
    return number


def _as_list(values: Any) -> Any:
    return values.tolist() if hasattr(values, "tolist") else values


def _check_offset(value: tuple[int, ...]) -> tuple[int, ...]:
    if not any(value):
        raise ValueError("should join two different voxels, not a voxel with itself")
    return value


Directive = Annotated[str, AfterValidator(_check_directive)]
File = Annotated[str, BeforeValidator(_check_file)]
Dataset = Annotated[str, AfterValidator(_check_dataset)]
Name = Annotated[str, AfterValidator(_check_name)]
MergeFunction = Annotated[str, AfterValidator(_check_merge_function)]
EdgesCollection = Annotated[str, AfterValidator(_check_edges_collection)]
Walltime = Annotated[str, BeforeValidator(_check_walltime)]
ZarrFormat = Annotated[int, Field(ge=2, le=3)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Coordinate = Annotated[float | str, BeforeValidator(_length_check(-math.inf, "a finite number"))]
PositiveLength = Annotated[float | str, BeforeValidator(_length_check(math.ulp(0.0), "greater than 0"))]
Length = Annotated[float | str, BeforeValidator(_length_check(0.0, "greater than or equal to 0"))]
Unit = Annotated[str, AfterValidator(_check_unit)]
Position = Annotated[tuple[Coordinate, ...], Field(min_length=2, max_length=3)]
Size = Annotated[tuple[PositiveLength, ...], Field(min_length=2, max_length=3)]
Margin = Annotated[tuple[Length, ...], Field(min_length=2, max_length=3)]
Id = Annotated[int, BeforeValidator(_check_id)]
Ids = Annotated[tuple[Id, ...], BeforeValidator(_as_list)]
ObjectIds = Annotated[tuple[Annotated[Id, Field(ge=1)], ...], BeforeValidator(_as_list)]
Offset = Annotated[tuple[int, ...], Field(min_length=2, max_length=3), AfterValidator(_check_offset)]
Neighborhood = Annotated[tuple[Offset, ...], Field(min_length=1)]
