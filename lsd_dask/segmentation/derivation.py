"""What was derived names what it was derived from: marks in arrays and tables, and what they tell.

Every array and table that a step writes carries a *mark*: the name of the run that made it, its step, and of
each input path and run. Where an input was made anew since, what was made of it is *stale*. A run's name is
unique, so an array that somebody put in the place of another is told from it, be it called the same.

============= =========================================================================================
array         attribute ``lsd_dask`` (zarr; an array that `save_volume` wrote has a run there as well)
table         ``mark`` among the facts in the schema of the Parquet file
report        ``<meta name="lsd-dask">``: see `lsd_dask.storage.own_files`
============= =========================================================================================

A mark is ``{"run", "step", "ledger", "made_of": {role: {"path", "run"}}}``, with paths below the container it
lies in relative to that, so that a container can be moved.
"""

import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import zarr

from ..blockwise.blocks import BlockGrid
from ..blockwise.ledgers import Ledger
from ..storage import files, parquet
from ..volumes.formats import zarr_creating
from ..volumes.formats.zarr_creating import normalise_path
from ..volumes.opening import is_zarr
from ..volumes.stored import MARK
from .edits import Edits

#: Inputs without which what was made of them is of no use.
_ESSENTIAL = ("fragments", "graph", "merge tree", "finer level")

#: Role of a table of edits, which has no run: its content counts.
EDITS = "edits"

_TABLE = ".parquet"

#: In place of the mark of what is there and cannot be read.
_UNREADABLE: Mapping[str, Any] = {"unreadable": True}


def new_mark(step: str, container: str, made_of: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The mark of something that is written once, without a ledger.

    Parameters
    ----------
    step
        That writes it.
    container
        It will lie in.
    made_of
        Path and run of each input, by its role.
    """
    sources = {
        role: {"path": _from(container, source["path"]), "run": source["run"]}
        for role, source in made_of.items()
    }
    return {"run": uuid.uuid4().hex, "step": step, "ledger": None, "made_of": sources}


def mark_of_run(ledger: Ledger, more: Mapping[str, Mapping[str, Any]] | None = None) -> dict[str, Any]:
    """The mark of what the run writes that is recorded in a ledger, or about to begin.

    Parameters
    ----------
    ledger
        In the folder ``runs`` of its container. Inputs are the entries of its identity that have path and
        run.
    more
        More inputs, as of `new_mark`.
    """
    step = str(ledger.identity["step"])
    container, _, name = ledger.directory.rpartition(f"/runs/{step}/")
    inputs = {role: entry for role, entry in ledger.identity.items() if _is_source(entry)}
    mark = new_mark(step, container, inputs | dict(more or {}))
    return {**mark, "run": ledger.run(), "ledger": f"{step}/{name}"}


def facts_of_run(ledger: Ledger, *outputs: str) -> dict[str, Any]:
    """What the header of a ledger says of what its run reads and writes, with paths as in marks."""
    step = str(ledger.identity["step"])
    container = ledger.directory.rpartition(f"/runs/{step}/")[0]
    return {
        "made_of": mark_of_run(ledger)["made_of"],
        "outputs": [_from(container, normalise_path(output)) for output in outputs],
    }


def source(path: str) -> dict[str, Any]:
    """Path and run of an array or table that something is made of."""
    return {"path": path, "run": mark_of(path).get("run")}


def mark_of(path: str) -> Mapping[str, Any]:
    """The mark of an array or a table; empty where it has none, or nothing is there.

    Raises
    ------
    ValueError
        If it cannot be read.
    """
    if path.endswith(_TABLE):
        mark = parquet.facts_of(path).get("mark") if files.is_file(path) else None
    elif is_zarr(path):
        node = zarr_creating.open_node(path)
        mark = node.attrs.get(MARK) if isinstance(node, zarr.Array) else None
    else:
        mark = None
    return mark if isinstance(mark, Mapping) else {}


def source_of_edits(path: str) -> dict[str, Any]:
    """Path and digest of the edits that something honours; those of a table that is not there are none."""
    return {"path": path, "run": _edits_at(path)}


def _edits_at(path: str) -> str:
    return (Edits.read(path) if files.is_file(path) else Edits()).digest


class Derivation:
    """What is stale in a container; each array and table is looked at once.

    Parameters
    ----------
    container
        Path or URL.
    """

    def __init__(self, container: str) -> None:
        self._container = container
        self._marks: dict[str, Mapping[str, Any]] = {}

    def stale(self, path: str) -> str | None:
        """Why an array or table is stale, in words that follow its name; None where it is not.

        None also where it cannot be read: who reads it is told so.
        """
        return self.reason(self._mark(_to(self._container, path)).get("made_of", {}))

    def run_of(self, path: str) -> str | None:
        """Name of the run that wrote what is there, be the path from the container or not."""
        return self._mark(_to(self._container, path)).get("run")

    def reason(self, made_of: Mapping[str, Any]) -> str | None:
        """Why what was made of some inputs is stale: the first that was made anew, is gone, or is stale."""
        for role, entry in made_of.items():
            if not _is_source(entry):
                continue
            path = _to(self._container, entry["path"])
            if role == EDITS:
                if (told := self._reason_of_edits(path, entry)) is not None:
                    return told
                continue
            if not self._there(path):
                inside = path.startswith(f"{self._container}/")
                if inside and role in _ESSENTIAL:
                    return f"made of {entry['path']}, which is gone"
                continue
            if self._mark(path) is _UNREADABLE:
                return f"made of {entry['path']}, which cannot be read"
            found = self._mark(path).get("run")
            if found != entry["run"]:
                how = "was replaced by another" if found is None else "was made anew"
                return f"made of {entry['path']}, which {how} since"
            if path.startswith(f"{self._container}/"):
                deeper = self.stale(path)
            else:
                deeper = Derivation(container_around(path)).stale(path)
            if deeper is not None:
                return f"made of {entry['path']}, which is stale: {deeper}"
        return None

    def stale_tables(self, directory: str) -> dict[str, str]:
        """The tables below a folder that are stale, with the reason; those of cells of an octree left out."""
        found = {path: self.stale(path) for path in _tables_below(directory)}
        return {path: reason for path, reason in found.items() if reason is not None}

    def _reason_of_edits(self, path: str, entry: Mapping[str, Any]) -> str | None:
        try:
            same = _edits_at(path) == entry["run"]
        except ValueError:
            return f"made with the edits of {entry['path']}, which cannot be read"
        return None if same else f"made with the edits of {entry['path']}, which are others now"

    def _mark(self, path: str) -> Mapping[str, Any]:
        if path not in self._marks:
            try:
                self._marks[path] = mark_of(path)
            except ValueError:
                self._marks[path] = _UNREADABLE
        return self._marks[path]

    def _there(self, path: str) -> bool:
        return bool(self._mark(path)) or files.exists(path)


def remove_stale_luts(container: str, directory: str) -> None:
    """Remove lookup tables of a merge tree, or of fragments, that were made anew; to be called once one was.

    Their names say a threshold and nothing of the fragments, and others read them by these. Only what carries
    a mark is removed.

    Parameters
    ----------
    container
        Path or URL.
    directory
        Folder of the region graph.
    """
    for path in Derivation(container).stale_tables(files.join(directory, "luts")):
        files.remove(path)


def check_finished(path: str) -> None:
    """Check that the run which writes an array is done with it, where that is known.

    Raises
    ------
    ValueError
        If it is not; the message names the step to run again.
    """
    mark = mark_of(path)
    if not mark.get("ledger"):
        return
    for container in zarr_creating.ancestors(path):
        ledger = Ledger(files.join(container, "runs", mark["ledger"]), {})
        if ledger.exists() and ledger.run() == mark["run"]:
            grid = ledger.header().get("grid")
            blocks = len(BlockGrid(tuple(grid["shape"]), tuple(grid["block_shape"]))) if grid else 0
            done = len(ledger.done())
            if ledger.recorded_run() is None or (grid and done < blocks):
                raise ValueError(
                    f"{path}: found {done} of {blocks} blocks, expected all: the run of {mark['step']} that "
                    "writes it is not done, or files of it are missing or damaged. Run "
                    f"{mark['step']} again first; it makes what is missing."
                )
            return


def _is_source(entry: Any) -> bool:
    return isinstance(entry, Mapping) and "path" in entry and "run" in entry


def _from(container: str, path: str) -> str:
    """A path as it stands in a mark: from the container, where it lies in that."""
    return path.removeprefix(f"{container}/")


def _to(container: str, path: str) -> str:
    return path if path.startswith("/") or "://" in path else files.join(container, path)


def container_around(path: str) -> str:
    """The container that a path lies in, or is: the topmost folder above it where steps keep ledgers."""
    around = [one for one in (path, *zarr_creating.ancestors(path)) if files.exists(files.join(one, "runs"))]
    return around[-1] if around else path


def _tables_below(directory: str) -> Iterator[str]:
    for name in files.names(directory):
        path = files.join(directory, name)
        if name.endswith(_TABLE):
            yield path
        elif name != "octree" and not files.is_file(path):
            yield from _tables_below(path)
