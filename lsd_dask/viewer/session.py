"""An open viewer: its layers, the threshold, what is selected, screenshots."""

import dataclasses
import threading
from collections.abc import Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

from ..space.grids import Grid
from ..storage import files
from ..storage.own_files import check_replaceable, marked_png
from .browser import headless
from .contents import Kind
from .merging import Merging, SegmentFacts
from .sources import Source

if TYPE_CHECKING:
    import neuroglancer as ng


#: Name of the layer whose threshold can be changed.
MERGED = "segments"

#: Fragments that are listed of a segment; and that are shown, as the browser holds them in one text.
_LISTED, _SHOWN = 50, 20_000

_OPACITY = 0.45

#: What is drawn over what, from below.
_ORDER: tuple[Kind, ...] = ("image", "affinities", "descriptors", "labels")

#: Pixels of a panel that the volume fits into at first.
_PANEL = 360


class Viewer:
    """An open viewer; `view` makes it. In Jupyter, it is shown where a cell ends with it.

    Parameters
    ----------
    sources
        What is shown.
    fragments
        Name of the fragments that are merged, if any are.
    merging
        How they are.
    """

    def __init__(self, sources: Sequence[Source], fragments: str | None, merging: Merging | None) -> None:
        import neuroglancer as ng

        from .layers import ServedVolume, layer_for
        from .page import serve

        self._merging, self._fragments = merging, fragments
        self._merged: ServedVolume | None = None
        self._grids = {source.name: source.grid for source in sources}
        #: Neuroglancer's own viewer, to be told anything else.
        self.neuroglancer: ng.Viewer = ng.Viewer()
        with self.neuroglancer.txn() as state:
            _place(state, max((source.grid for source in sources), key=lambda grid: grid.ndim))
            visible = _visible(sources, merged=merging is not None)
            for source in sorted(sources, key=lambda source: _ORDER.index(source.kind)):
                layer = layer_for(source, ServedVolume(source), opacity=_OPACITY)
                state.layers.append(name=source.name, layer=layer, visible=source.name in visible)
            if merging is not None:
                of = next(source for source in sources if source.name == fragments)
                merged = dataclasses.replace(of, name=MERGED, change=merging.apply)
                self._merged = ServedVolume(merged)
                layer = layer_for(merged, self._merged, opacity=_OPACITY)
                state.layers.append(name=MERGED, layer=layer, visible=True)
        #: Address of the viewer, for a browser on this machine or behind a tunnel.
        self.url = serve(self.neuroglancer.token, _Page(self))

    def __repr__(self) -> str:
        return f"Viewer({self.url})"

    def _repr_html_(self) -> str:
        return (
            f'<iframe src="{self.url}" style="width: 100%; height: 640px; border: 0"></iframe>'
            f'<a href="{self.url}" target="_blank">open in a tab</a>'
        )

    @property
    def layers(self) -> list[str]:
        """Names of the layers, in the order in which they are drawn."""
        return [layer.name for layer in self.neuroglancer.state.layers]

    @property
    def threshold(self) -> float | None:
        """Where the merge tree is cut; None where there is none. Setting it recolours the fragments."""
        return None if self._merging is None else self._merging.threshold

    @threshold.setter
    def threshold(self, threshold: float) -> None:
        merging = self._needs_tree()
        before = [facts.segment for facts in self.selected()]
        merging.cut(threshold)
        after = {facts.segment for one in before if (facts := merging.facts(one)) is not None}
        if set(before) != after:
            # What is selected stays selected: a segment's id is that of one of its fragments.
            self.neuroglancer.retry_txn(lambda state: _select(state, MERGED, after), lock=True)
        assert self._merged is not None
        self._merged.invalidate()

    def selected(self) -> list[SegmentFacts]:
        """What is known of the segments that are selected: by a double click, or by `select`."""
        if self._merging is None:
            return []
        layer = self.neuroglancer.state.layers[MERGED].layer
        found = (self._merging.facts(int(segment)) for segment in layer.segments)
        return [facts for facts in found if facts is not None]

    def select(self, *segments: int) -> None:
        """Select segments, instead of those that are: by their ids, or that of any fragment in them.

        Raises
        ------
        ValueError
            If there is no merge tree, or one of these is no fragment of it.
        """
        merging = self._needs_tree()
        chosen = set()
        for segment in segments:
            facts = merging.facts(segment)
            if facts is None:
                raise ValueError(f"{segment} is none of the {len(merging.tree)} fragments of the merge tree")
            chosen.add(facts.segment)
        self.neuroglancer.retry_txn(lambda state: _select(state, MERGED, chosen), lock=True)

    def show_fragments(self, segment: int) -> None:
        """Show the fragments that a segment is made of, and no others.

        Raises
        ------
        ValueError
            As for `select`.
        """
        merging = self._needs_tree()
        facts = merging.facts(segment)
        if facts is None:
            raise ValueError(f"{segment} is none of the {len(merging.tree)} fragments of the merge tree")

        def change(state: "ng.ViewerState") -> None:
            _select(state, str(self._fragments), set(facts.fragments[:_SHOWN]))
            state.layers[self._fragments].visible = True
            state.layers[MERGED].visible = False

        self.neuroglancer.retry_txn(change, lock=True)

    def screenshot(
        self, path: str | PathLike[str], *, size: tuple[int, int] = (1600, 1000), timeout: float = 120.0
    ) -> str:
        """Take a picture of all panels, once everything in them is there. Needs Chromium or Chrome.

        Parameters
        ----------
        path : str or PathLike
            PNG file to write, as a path or URL.
        size : (width, height)
            In pixels.
        timeout : float
            Seconds that it may take.

        Returns
        -------
        str
            `path`.

        Raises
        ------
        FileExistsError
            If a file is there that is no picture of ours.
        FileNotFoundError
            If no browser is found.
        TimeoutError
            If it takes longer.
        """
        check_replaceable(str(path), "the screenshot")
        taken: list[bytes] = []
        done = threading.Event()

        def keep(reply: Any) -> None:
            taken.append(reply.screenshot.image)
            done.set()

        before = self.neuroglancer.config_state.state
        with self.neuroglancer.config_state.txn() as config:
            config.show_ui_controls = config.show_panel_borders = False
            config.viewer_size = size
        try:
            with headless(self.neuroglancer.get_viewer_url(), size):
                self.neuroglancer.async_screenshot(keep)
                if not done.wait(timeout):
                    raise TimeoutError(
                        f"no screenshot within {timeout:g} s: the browser could not draw {self.url}, or "
                        "volumes are read slowly"
                    )
        finally:
            with self.neuroglancer.config_state.txn() as config:
                config.show_ui_controls = before.show_ui_controls
                config.show_panel_borders = before.show_panel_borders
                config.viewer_size = before.viewer_size
        files.write_bytes(str(path), marked_png(taken[0]))
        return str(path)

    def close(self) -> None:
        """Serve it no longer, and let go of its volumes."""
        from .page import close

        close(self.neuroglancer.token)

    def _needs_tree(self) -> Merging:
        if self._merging is None:
            raise ValueError("there is no merge tree in this viewer: nothing has a threshold")
        return self._merging

    def _volume_of(self, voxels: int) -> str | None:
        """A size in world units, in words."""
        grid = self._grids[str(self._fragments)]
        if grid.units == "voxel":
            return None
        volume = float(voxels)
        for extent in grid.voxel_size:
            volume *= extent
        power = {2: "²", 3: "³"}[grid.ndim]
        if grid.units == "nanometer":
            return f"{volume / 1000**grid.ndim:.3g} µm{power}"
        return f"{volume:.3g} {grid.units}{power}"


class _Page:
    """What the page around neuroglancer shows of a viewer, and does with it."""

    def __init__(self, viewer: Viewer) -> None:
        self.viewer = viewer

    def state(self) -> dict[str, Any]:
        merging = self.viewer._merging
        if merging is None:
            return {"threshold": None}
        return {
            "threshold": merging.threshold,
            "segments": merging.segments,
            "fragments": len(merging.tree),
            "selected": [self._told(facts) for facts in self.viewer.selected()],
        }

    def set_threshold(self, threshold: float) -> None:
        self.viewer.threshold = threshold

    def show_fragments(self, segment: int) -> None:
        self.viewer.show_fragments(segment)

    def _told(self, facts: SegmentFacts) -> dict[str, Any]:
        """Facts for the page, whose numbers do not hold 64 bits."""
        merging = self.viewer._merging
        assert merging is not None
        return {
            "segment": str(facts.segment),
            "voxels": facts.voxels,
            "volume": None if facts.voxels is None else self.viewer._volume_of(facts.voxels),
            "count": len(facts.fragments),
            "fragments": [(str(one), merging.size_of(one)) for one in facts.fragments[:_LISTED]],
        }


def _select(state: "ng.ViewerState", layer: str, segments: set[int]) -> None:
    state.layers[layer].layer.segments = segments


def _place(state: "ng.ViewerState", grid: Grid) -> None:
    """Look at the middle of a volume, all of it."""
    from .layers import space_of

    state.dimensions = space_of(grid)
    state.display_dimensions = list(reversed(grid.dims))
    middle = [(o + e) / 2 for o, e in zip(grid.offset, grid.end, strict=True)]
    state.position = [int(m / v) + 0.5 for m, v in zip(middle, grid.voxel_size, strict=True)]
    extent = max(n * v for n, v in zip(grid.shape, grid.voxel_size, strict=True)) / min(grid.voxel_size)
    state.cross_section_scale = extent / _PANEL
    state.projection_scale = 1.6 * extent
    state.cross_section_background_color = "#000000"
    state.layout = "xy" if grid.ndim == 2 else "4panel"


def _visible(sources: Sequence[Source], *, merged: bool) -> set[str]:
    """Layers that are visible at first: one image, and labels over it unless merged fragments are."""
    images = [source.name for source in sources if source.kind == "image"]
    labels = [source.name for source in sources if source.kind == "labels"]
    segmented = [name for name in labels if "seg" in name.lower()] or labels
    visible = images[:1] + ([] if merged else segmented[-1:])
    return set(visible or [source.name for source in sources[:1]])
