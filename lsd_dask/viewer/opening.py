"""`view`: finds what is to be shown, and how fragments are merged."""

from collections.abc import Iterator, Mapping
from os import PathLike
from typing import Any

from ..checks.arguments import naming
from ..evaluation.scores import ScoreTable, best_row
from ..segmentation.agglomeration import MergeTree
from ..segmentation.edits import Edits, as_edits
from ..segmentation.graph_tables import NodeTable
from ..segmentation.region_graph import RegionGraph
from ..storage import files
from .contents import MergeTreePath, contents_of
from .merging import Merging
from .session import MERGED, Viewer
from .sources import Source, source_of

#: Where a merge tree is cut first, if nothing says where it is best.
DEFAULT_THRESHOLD = 0.5

_PREFERRED = "hist_quant_75"


def view(
    *what: str | PathLike[str] | Mapping[str, Any],
    tree: MergeTree | str | PathLike[str] | None = None,
    graph: RegionGraph | None = None,
    fragments: str | None = None,
    merge_function: str | None = None,
    threshold: float | None = None,
    edits: Edits | str | PathLike[str] | None = None,
    port: int = 0,
    bind: str = "127.0.0.1",
) -> Viewer:
    """Open neuroglancer on volumes: raw data, affinities, descriptors, fragments, segmentations.

    Where there is a merge tree, its fragments are also shown merged, at a threshold that is changed with a
    slider: voxels are recoloured on their way to the browser, and nothing is written. A segment that is
    double-clicked is told with its size and its fragments.

    Parameters
    ----------
    *what : str, PathLike or mapping of str to volume
        Containers, of which all volumes are shown, and volumes in any format that `open_volume` reads; or
        volumes by name: NumPy or dask arrays, DataArrays, or paths.
    tree : MergeTree, str or PathLike, optional
        The merge tree, or its table. By default the one that lies beside the fragments in a container.
    graph : RegionGraph, optional
        Of the fragments of `tree`, for their sizes.
    fragments : str, optional
        Name of the fragments that are merged. By default those that the tree lies beside, or ``"fragments"``.
    merge_function : str, optional
        Which tree of the container. By default ``hist_quant_75`` where there is that one.
    threshold : float, optional
        Where the tree is cut first. By default where the scores beside it are best, or 0.5.
    edits : Edits, str or PathLike, optional
        Corrections that are honoured, or their table: see `lsd_dask.edits`. By default those that lie beside
        the tree in a container; ``Edits()`` for none.
    port : int, optional
        Of the server; by default any that is free. One server serves all viewers of this process: only the
        first one's port counts.
    bind : str, optional
        Address the server listens at. Only this machine can reach the default one.

    Returns
    -------
    Viewer
        Its `url` is to be opened in a browser; Jupyter shows it in place. It is served until it is closed or
        the process ends.

    Raises
    ------
    FileNotFoundError
        If something is not there; the message names it.
    TypeError
        If a volume is none.
    ValueError
        If there is nothing to show, two volumes have one name, or the merge tree that was asked for does not
        belong to fragments that are shown.
    ImportError
        If neuroglancer is not installed.

    Notes
    -----
    Colours of segments are neuroglancer's own, a function of the id alone. Affinities along z, y and x are
    shown in red, green and blue; of descriptors, a slider in the layer's tab chooses offsets, variances,
    Pearson coefficients or size.

    Examples
    --------
    >>> import numpy as np
    >>> viewer = view({"labels": np.ones((8, 8, 8), np.uint64)})
    >>> viewer.layers
    ['labels']
    """
    try:
        import neuroglancer
    except ImportError as error:
        raise ImportError('The viewer needs neuroglancer: pip install "lsd-dask[view]"') from error
    found = _Found()
    for one in what:
        found.add(one)
    if not found.sources:
        raise ValueError("there is nothing to look at: expected paths, or volumes by name")
    given = None if edits is None else as_edits(edits)
    name, merging = found.merging(tree, graph, fragments, merge_function, threshold, given)
    if not neuroglancer.server.is_server_running():
        neuroglancer.set_server_bind_address(bind, port)
    return Viewer(list(found.sources.values()), name, merging)


class _Found:
    """What is to be shown, by name."""

    def __init__(self) -> None:
        self.sources: dict[str, Source] = {}
        #: Name of the fragments of each tree, as they are shown.
        self.trees: list[tuple[str, MergeTreePath]] = []
        #: Why volumes, merge trees and scores are stale.
        self.stale: dict[str, str] = {}

    def add(self, what: str | PathLike[str] | Mapping[str, Any]) -> None:
        if isinstance(what, Mapping):
            for name, volume in what.items():
                self._add(name, volume)
            return
        contents = contents_of(what)
        self.stale |= contents.stale
        for name, stored in contents.volumes.items():
            name = f"{name} (stale)" if name in contents.stale else name
            self._add(name, stored)
            for tree in contents.trees:
                if f"/{stored.path}".endswith(f"/{tree.fragments}"):
                    self.trees.append((name, tree))

    def _add(self, name: str, volume: Any) -> None:
        if name in self.sources or name == MERGED:
            raise ValueError(
                f"{name!r}: found two layers of this name; give volumes names of their own: "
                "view({'name': path, ...})"
            )
        self.sources[name] = source_of(name, volume)

    def merging(
        self,
        tree: MergeTree | str | PathLike[str] | None,
        graph: RegionGraph | None,
        fragments: str | None,
        merge_function: str | None,
        threshold: float | None,
        edits: Edits | None,
    ) -> tuple[str | None, Merging | None]:
        """Name of the fragments that are merged, and how."""
        if fragments is not None and fragments not in self.sources:
            raise ValueError(f"fragments: found no {fragments!r}, expected one of {', '.join(self.sources)}")
        nodes = None if graph is None else graph.nodes
        if tree is not None:
            name = fragments or "fragments"
            if name not in self.sources:
                raise ValueError(
                    f"fragments: found no {name!r} to go with the tree, expected one of "
                    f"{', '.join(self.sources)}"
                )
            merges = tree if isinstance(tree, MergeTree) else MergeTree.from_parquet(str(tree))
            return name, Merging(merges, DEFAULT_THRESHOLD if threshold is None else threshold, nodes, edits)
        chosen = next(self._candidates(fragments, merge_function), None)
        if chosen is None:
            if merge_function is not None or threshold is not None:
                there = ", ".join(
                    f"{tree.merge_function} of {name}"
                    + (f" (stale, {self.stale[tree.path]})" if tree.path in self.stale else "")
                    for name, tree in self.trees
                )
                raise ValueError(f"found no such merge tree; there is {there or 'none'}")
            return None, None
        name, place = chosen
        with naming(place.path):
            merges = MergeTree.from_parquet(place.path)
        if nodes is None and files.exists(place.nodes_path):
            nodes, _ = NodeTable.from_parquet(place.nodes_path)
        if edits is None and files.is_file(place.edits_path):
            edits = Edits.read(place.edits_path)
        return name, Merging(
            merges, self._best_threshold(place) if threshold is None else threshold, nodes, edits
        )

    def _candidates(
        self, fragments: str | None, merge_function: str | None
    ) -> Iterator[tuple[str, MergeTreePath]]:
        """The trees that may be meant, the preferred one first."""
        for name, tree in sorted(self.trees, key=lambda one: one[1].merge_function != _PREFERRED):
            wanted = fragments in (None, name) and merge_function in (None, tree.merge_function)
            if wanted and tree.path not in self.stale:
                yield name, tree

    def _best_threshold(self, place: MergeTreePath) -> float:
        if place.scores_path in self.stale or not files.exists(place.scores_path):
            return DEFAULT_THRESHOLD
        rows = ScoreTable.from_parquet(place.scores_path).rows
        return float(best_row(rows)["threshold"]) if rows and "voi_sum" in rows[0] else DEFAULT_THRESHOLD
