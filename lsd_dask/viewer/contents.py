"""What there is to look at in a container: its volumes, what kind each is, and its merge trees."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from typing import Any, Literal

import numpy as np
import zarr

from ..segmentation.derivation import Derivation, container_around
from ..segmentation.edits import FILE_NAME
from ..storage import files
from ..volumes.formats import ngff, zarr_creating
from ..volumes.opening import open_stored
from ..volumes.stored import StoredVolume

type Kind = Literal["image", "affinities", "descriptors", "labels"]

#: Channels of descriptors by number of spatial axes.
_DESCRIPTORS = {3: 10, 2: 6}
_LABEL_NAMES = ("label", "seg", "frag", "neuron", "ids", "truth")

#: Fragments whose tables lie in the folder ``rag`` itself; those of others lie in a folder of their name.
_USUAL_FRAGMENTS = "volumes/fragments"


@dataclass(frozen=True)
class MergeTreePath:
    """Where a merge tree lies, and what it merges.

    Attributes
    ----------
    fragments
        Name of the array of fragments in its container.
    merge_function
        That gave it its scores.
    directory
        Folder of the region graph.
    """

    fragments: str
    merge_function: str
    directory: str

    @property
    def path(self) -> str:
        """Of the tree."""
        return files.join(self.directory, f"merges_{self.merge_function}.parquet")

    @property
    def nodes_path(self) -> str:
        """Of the table of fragments."""
        return files.join(self.directory, "nodes.parquet")

    @property
    def edits_path(self) -> str:
        """Of the table of corrections; nothing may be there."""
        return files.join(self.directory, FILE_NAME)

    @property
    def scores_path(self) -> str:
        """Of the scores against a ground truth; nothing may be there."""
        return files.join(self.directory, "scores", f"{self.merge_function}.parquet")


@dataclass(frozen=True)
class Contents:
    """What a path holds.

    Attributes
    ----------
    volumes
        By name: that of the array, as short as it is unique.
    trees
        Merge trees of fragments among these.
    skipped
        Names of arrays that are no volumes, and why.
    stale
        Names of volumes, and paths of merge trees and scores, that were made of what was made anew since; and
        why.
    """

    volumes: Mapping[str, StoredVolume]
    trees: tuple[MergeTreePath, ...] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)
    stale: Mapping[str, str] = field(default_factory=dict)


def contents_of(path: str | PathLike[str]) -> Contents:
    """Find what there is to look at in a container, or at an array.

    Parameters
    ----------
    path : str or PathLike
        Of a zarr container or a group in it; or of one volume in any format that `lsd_dask.open_volume`
        reads.

    Returns
    -------
    Contents
        Coarser levels of a multiscale are not volumes of their own.

    Raises
    ------
    FileNotFoundError
        If nothing is there.
    ValueError
        If it holds no volume, or is a volume that cannot be read.

    Examples
    --------
    >>> from lsd_dask import save_volume
    >>> save_volume(np.zeros((2, 4, 4), np.uint64), "memory://seen.zarr/volumes/fragments", overwrite=True)
    >>> list(contents_of("memory://seen.zarr").volumes)
    ['fragments']
    """
    path = zarr_creating.normalise_path(path)
    node = zarr_creating.open_node(path)
    if not isinstance(node, zarr.Group):
        stored = open_stored(path)
        return Contents({stored.name: stored})
    members = _members(node)
    coarse = _coarser_levels(members, path)
    found: dict[str, StoredVolume] = {}
    skipped: dict[str, str] = {}
    for name, member in sorted(members.items()):
        if not isinstance(member, zarr.Array) or name in coarse:
            continue
        try:
            found[name] = open_stored(files.join(path, name))
        except ValueError as error:
            skipped[name] = str(error)
    if not found:
        raise ValueError(f"{path}: found no volume in it" + "".join(f"; {why}" for why in skipped.values()))
    volumes, trees = _shortened(found), tuple(_trees(path, found))
    return Contents(volumes, trees, skipped, _stale(path, volumes, trees))


def _stale(path: str, volumes: Mapping[str, StoredVolume], trees: Sequence[MergeTreePath]) -> dict[str, str]:
    derivation = Derivation(container_around(path))
    paths = {name: stored.path for name, stored in volumes.items()}
    paths |= {place: place for tree in trees for place in (tree.path, tree.scores_path)}
    reasons = {name: derivation.stale(place) for name, place in paths.items()}
    return {name: reason for name, reason in reasons.items() if reason is not None}


def kind_of(name: str, dtype: np.dtype[Any], channels: int | None, ndim: int) -> Kind:
    """Say how a volume is to be shown.

    Parameters
    ----------
    name : str
        Which decides where the array itself does not.
    dtype : numpy.dtype
    channels : int or None
        Number of channels; None where there is no such axis.
    ndim : int
        Number of spatial axes.

    Returns
    -------
    {"image", "affinities", "descriptors", "labels"}

    Examples
    --------
    >>> kind_of("raw", np.dtype("uint8"), None, 3), kind_of("neuron_ids", np.dtype("uint16"), None, 3)
    ('image', 'labels')
    >>> kind_of("affs", np.dtype("uint8"), 3, 3), kind_of("lsds", np.dtype("uint8"), 10, 3)
    ('affinities', 'descriptors')
    """
    name = name.lower()
    if channels is not None:
        if "aff" not in name and ("lsd" in name or channels == _DESCRIPTORS[ndim]):
            return "descriptors"
        return "affinities" if channels > 1 else "image"
    named = any(part in name for part in _LABEL_NAMES)
    return "labels" if dtype.kind in "iu" and (dtype.itemsize >= 4 or named) else "image"


def _members(group: zarr.Group) -> dict[str, zarr_creating.Node]:
    """All arrays and groups below a group, and itself as ""."""
    with warnings.catch_warnings():
        # Tables and ledgers lie beside the arrays.
        warnings.filterwarnings("ignore", "Object at .* is not recognized", zarr.errors.ZarrUserWarning)
        below = dict(group.members(max_depth=None))
        return {"": group, **{name: node for name, node in below.items() if not zarr_creating.is_part(name)}}


def _coarser_levels(members: Mapping[str, zarr_creating.Node], path: str) -> set[str]:
    """Names of the arrays that are not level 0 of the multiscale that names them."""
    coarse = set()
    for name, member in members.items():
        if isinstance(member, zarr.Group):
            for multiscale in ngff.multiscales_of(dict(member.attrs), where=files.join(path, name)):
                coarse |= {files.join(name, level).lstrip("/") for level in ngff.paths_of(multiscale)[1:]}
    return coarse


def _shortened(found: Mapping[str, StoredVolume]) -> dict[str, StoredVolume]:
    """The volumes by as many last parts of their names as tell them apart."""
    short = {}
    for name, stored in found.items():
        parts = name.split("/")
        tails = ("/".join(parts[i:]) for i in range(len(parts) - 1, -1, -1))
        short[next(t for t in tails if sum(f"/{n}".endswith(f"/{t}") for n in found) == 1 or t == name)] = (
            stored
        )
    return short


def _trees(path: str, found: Mapping[str, StoredVolume]) -> list[MergeTreePath]:
    trees = []
    for name in found:
        directory = files.join(path, "rag", "" if name == _USUAL_FRAGMENTS else name)
        for file in files.names(directory):
            if file.startswith("merges_") and file.endswith(".parquet"):
                trees.append(MergeTreePath(name, file[len("merges_") : -len(".parquet")], directory))
    return trees
