"""Draw the pictures of the documentation with the library itself: ``python docs/draw.py``."""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

import lsd_dask as ld
from lsd_dask import viewing

IMAGES = Path(__file__).parent / "images"
DPI = 90


class Drawn(NamedTuple):
    """What the pictures show: tissue, and its segmentation step by step."""

    tissue: Any
    fragments: Any
    graph: ld.RegionGraph
    tree: ld.MergeTree

    @property
    def middle(self) -> int:
        """Index of the section that is drawn."""
        return self.fragments.shape[0] // 2

    def section(self, volume: Any) -> np.ndarray:
        """That section of a volume."""
        return np.asarray(volume)[self.middle]


def main() -> None:
    """Draw all pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=IMAGES, help="folder to write to")
    parser.add_argument("--size", type=int, default=112, help="voxels along each axis (default: 112)")
    options = parser.parse_args()
    drawn = make(options.size)
    for name, draw in PICTURES.items():
        print(draw(drawn, options.out / name))


def make(size: int) -> Drawn:
    """Make a cube of synthetic neuropil and segment it."""
    tissue = ld.synthetic.neuropil((size, size, size), leaks=0.01, seed=3).compute()
    fragments = ld.extract_fragments(tissue.affinities).compute()
    graph = ld.build_region_graph(tissue.affinities, fragments)
    return Drawn(tissue, fragments, graph, ld.agglomerate(graph))


def draw_steps(drawn: Drawn, path: Path) -> Path:
    """Raw data, affinities, fragments, and a segmentation."""
    segmentation = ld.relabel(drawn.fragments, drawn.tree.cut(0.4))
    panels = {
        "raw": drawn.tissue.raw,
        "affinities": drawn.tissue.affinities,
        "fragments": (drawn.tissue.raw, drawn.fragments),
        "segments": (drawn.tissue.raw, segmentation),
    }
    return _save(viewing.draw_sections(panels), path)


def draw_descriptors(drawn: Drawn, path: Path) -> Path:
    """Local shape descriptors of the true labels."""
    lsds = ld.local_shape_descriptors(drawn.tissue.labels, sigma=80)
    labels = drawn.tissue.labels
    images = {
        "labels": labels,
        "mean offset": lsds[0:3],
        "variance": lsds[3:6],
        "Pearson coefficients": lsds[6:9],
    }
    return _save(viewing.draw_sections(images), path)


def draw_blocks(drawn: Drawn, path: Path) -> Path:
    """Three ways to divide a volume into blocks, and fragments that are the same in all of them."""
    figure, panels = _panels(3)
    section = drawn.section(drawn.fragments)
    whole = np.asarray(drawn.fragments)
    size = section.shape[0]
    for axes, side in zip(panels, (size, size // 2, size // 3 + 1), strict=True):
        chunked = drawn.tissue.affinities.chunk({"channel": -1, "z": -1, "y": side, "x": side})
        fragments = ld.extract_fragments(chunked, context=(size, size, size)).compute()
        same = np.array_equal(fragments, whole)
        axes.imshow(viewing.label_colors(drawn.section(fragments)))
        for y in range(0, size, side):
            for x in range(0, size, side):
                box = (x - 0.5, y - 0.5), min(side, size - x), min(side, size - y)
                axes.add_patch(Rectangle(*box, fill=False, edgecolor="white", linewidth=1.5))
        blocks = len(range(0, size, side)) ** 2
        axes.set_title(f"{blocks} block{'s' * (blocks > 1)}: {'the same' if same else 'not the same'}")
    _draw_context(panels[2], side, size)
    return _save(figure, path)


def _draw_context(axes: Axes, side: int, size: int) -> None:
    """The context that the block in the middle reads."""
    margin = 12  # voxels, about what heights and chains need
    axes.add_patch(
        Rectangle(
            (side - margin - 0.5, side - margin - 0.5),
            side + 2 * margin,
            side + 2 * margin,
            fill=False,
            edgecolor="black",
            linestyle="--",
            linewidth=1.5,
        )
    )


def draw_ids(drawn: Drawn, path: Path) -> Path:
    """Ids of 8 x 8 voxels, and the order in which they come."""
    figure, (left, right) = _panels(2)
    places = np.argwhere(np.ones((8, 8), dtype=bool))
    ids = ld.ids.encode(places)
    grid = np.zeros((8, 8), dtype=np.uint64)
    grid[tuple(places.T)] = ids
    left.imshow(grid.astype(float), cmap="viridis", alpha=0.6)
    for (y, x), number in zip(places.tolist(), ids.tolist(), strict=True):
        left.annotate(str(number), (x, y), ha="center", va="center", fontsize=9)
    order = places[np.argsort(ids)]
    left.plot(order[:, 1], order[:, 0], color="black", linewidth=0.6, alpha=0.5)
    left.set_title("an id is the address of a voxel")

    section = drawn.section(drawn.fragments)
    right.imshow(viewing.label_colors(section), alpha=0.75)
    shown = np.unique(section[section > 0])
    roots = ld.ids.decode(shown)
    here = np.abs(roots[:, 0] - drawn.middle) <= 2
    right.plot(roots[here, 2], roots[here, 1], "k.", markersize=5)
    right.set_title("fragments and their root voxels")
    return _save(figure, path)


def draw_graph(drawn: Drawn, path: Path) -> Path:
    """The region graph of a section: which fragments touch, and the score at which they merge."""
    figure, (axes,) = _panels(1, inches=5.2)
    section = drawn.section(drawn.fragments)
    raw = drawn.section(drawn.tissue.raw)
    axes.imshow(viewing.overlay(raw, section))
    scores = drawn.tree.merge_scores(drawn.graph)
    centers = {i: np.argwhere(section == i).mean(axis=0) for i in np.unique(section[section > 0]).tolist()}
    edges = zip(drawn.graph.edges.u.tolist(), drawn.graph.edges.v.tolist(), scores.tolist(), strict=True)
    touching = _touching(section)
    for u, v, score in edges:
        if (u, v) in touching:
            (y0, x0), (y1, x1) = centers[u], centers[v]
            merged = score <= 0.4
            axes.plot(
                [x0, x1],
                [y0, y1],
                color="black" if merged else "white",
                linewidth=2.2 if merged else 0.8,
                linestyle="-" if merged else ":",
            )
    points = np.array(list(centers.values()))
    axes.plot(points[:, 1], points[:, 0], "o", color="white", markeredgecolor="black", markersize=4)
    axes.set_title("merged up to 0.4: thick; not: dotted")
    return _save(figure, path)


def _touching(section: np.ndarray) -> set[tuple[int, int]]:
    """Pairs of fragments that touch within a section, the smaller id first."""
    pairs: set[tuple[int, int]] = set()
    for one, other in ((section[1:], section[:-1]), (section[:, 1:], section[:, :-1])):
        touch = (one != other) & (one > 0) & (other > 0)
        found = np.sort(np.stack([one[touch], other[touch]], axis=1), axis=1)
        pairs |= {(u, v) for u, v in found.tolist()}
    return pairs


def draw_thresholds(drawn: Drawn, path: Path) -> Path:
    """The same merge tree, cut at four thresholds."""
    cuts = {f"threshold {t}": ld.relabel(drawn.fragments, drawn.tree.cut(t)) for t in (0.0, 0.1, 0.4, 0.8)}
    return _save(viewing.draw_sections(cuts), path)


def draw_scores(drawn: Drawn, path: Path) -> Path:
    """Variation of information over thresholds."""
    overlaps = ld.evaluation.count_overlaps(drawn.tissue.labels, drawn.fragments)
    scores = []
    for threshold in np.arange(0, 1, 0.02).round(2).tolist():
        lut = drawn.tree.cut(threshold)
        scores.append({"threshold": threshold, **overlaps.relabel_test(lut.keys, lut.values).scores()})
    return viewing.plot_scores(scores, path)


#: What is drawn into which file.
PICTURES: Mapping[str, Callable[[Drawn, Path], Path]] = {
    "steps.webp": draw_steps,
    "descriptors.webp": draw_descriptors,
    "blocks.webp": draw_blocks,
    "ids.webp": draw_ids,
    "graph.webp": draw_graph,
    "thresholds.webp": draw_thresholds,
    "scores.webp": draw_scores,
}


def _panels(count: int, inches: float = 3.6) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(count * inches, inches + 0.3), layout="constrained")
    panels = list(figure.subplots(1, count, squeeze=False).flat)
    for axes in panels:
        axes.set_axis_off()
    return figure, panels


def _save(figure: Figure, path: Path) -> Path:
    """Write a picture with few enough bytes to be kept in the repository."""
    for axes in figure.axes:
        axes.title.set_fontsize(11)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DPI, pil_kwargs={"quality": 80, "method": 6})
    return path


if __name__ == "__main__":
    main()
