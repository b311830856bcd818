"""Quality of segmentations: heights to choose from, the default beside the reference, agreement with waterz.

Scores are variations of information (VOI) in bits, at the best one of the thresholds 0.02, 0.04, ... 0.98.

    python benchmarks/quality.py                      # all tables, one seed a kind of input
    python benchmarks/quality.py --seeds 3 --write    # the tables of docs/quality.md
    python benchmarks/quality.py --workflow           # lsd_dask.workflows.segment from zarr to zarr
"""

import argparse
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from _inputs import Input, find_data, inputs
from _peers import SCORING_FUNCTIONS, seeded_watershed, waterz_cuts

import lsd_dask as ld
from lsd_dask.evaluation import ContingencyTable
from lsd_dask.segmentation.region_graph import RegionGraph
from lsd_dask.segmentation.watershed import HEIGHTS, Rules

THRESHOLDS = tuple(round(0.02 * i, 2) for i in range(1, 50))
SMOOTHINGS = (0.5, 0.7, 0.85, 1.0, 1.5)
#: Best VOI that differ by less count as equal.
TOLERANCE = 0.01
#: How often the same fragments are given to waterz under other ids.
NUMBERINGS = 3
DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "quality.md"

type Row = Sequence[str | int | float]


@dataclass(frozen=True)
class Best:
    """Scores of the best cut of a merge tree."""

    fragments: int
    split: float
    merge: float
    threshold: float

    @property
    def voi(self) -> float:
        """Sum of VOI split and merge."""
        return self.split + self.merge


@dataclass(frozen=True)
class Agreement:
    """Best VOI of the same fragments with the same merge function.

    Attributes
    ----------
    ours
        Of our own agglomeration.
    waterz
        Of waterz, as the fragments are numbered, then numbered at random.
    """

    ours: float
    waterz: tuple[float, ...]

    @property
    def difference(self) -> float:
        """Ours, less that of waterz as the fragments are numbered."""
        return self.ours - self.waterz[0]

    @property
    def spread(self) -> float:
        """How much the numbers of the fragments change the result of waterz."""
        return max(self.waterz) - min(self.waterz)


@dataclass(frozen=True)
class Measured:
    """Everything that is measured on one input.

    Attributes
    ----------
    name, seed
        Of the input.
    reference
        The reference's seeded watershed.
    chosen
        Fragments of steepest ascent by height and smoothing.
    agreement
        By merge function, on our default fragments; empty for all seeds but the first.
    """

    name: str
    seed: int | None
    reference: Best
    chosen: dict[tuple[str, float], Best]
    agreement: dict[str, Agreement]

    @property
    def default(self) -> Best:
        """Fragments as they are by default."""
        return self.chosen[Rules.height, Rules.smoothing]


def main() -> int:
    options = _options()
    try:
        data = find_data(options.data)
    except FileNotFoundError as error:
        print(f"quality: {error}", file=sys.stderr)
        return 2
    if data is None:
        print(
            "quality: the real volumes gala.npz and fib25_a.npz were not found, so only synthetic ones "
            "are measured. "
            "Name their folder with --data or the environment variable LSD_DASK_DATA.",
            file=sys.stderr,
        )
        if options.write:
            return 2
    given = inputs(data, options.seeds)
    if options.workflow:
        tables, kept = {"workflow": _workflow_table(given)}, True
    else:
        measured = [_measured(one) for one in given]
        tables = {
            "heights": _heights_table(measured),
            "default": _default_table(measured),
            "agreement": _agreement_table(measured),
        }
        kept = _check(measured)
    for name, table in tables.items():
        print(f"\n{name}\n{table}")
    if options.write:
        _write(tables)
    return 0 if kept else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure the quality of segmentations.")
    parser.add_argument(
        "--data", type=Path, help="folder of gala.npz and fib25_a.npz (default: LSD_DASK_DATA)"
    )
    parser.add_argument(
        "--seeds", type=int, default=1, help="inputs of each kind, with other noise (default: 1)"
    )
    parser.add_argument(
        "--workflow", action="store_true", help="run workflows.segment from zarr to zarr instead"
    )
    parser.add_argument("--write", action="store_true", help=f"put the tables into {DOCUMENT.name}")
    return parser.parse_args()


def _measured(given: Input) -> Measured:
    print(f"{_title(given)} ...", file=sys.stderr, flush=True)
    reference = _best_of_fragments(given, seeded_watershed(given.affinities))
    chosen = {
        (height, smoothing): _best_of_fragments(
            given, ld.extract_fragments(given.affinities, height=height, smoothing=smoothing)
        )
        for height, smoothing in product(HEIGHTS, SMOOTHINGS)
    }
    return Measured(given.name, given.seed, reference, chosen, _agreement(given) if not given.seed else {})


def _agreement(given: Input) -> dict[str, Agreement]:
    fragments = ld.extract_fragments(given.affinities)
    graph = ld.build_region_graph(given.affinities, fragments)
    table = ContingencyTable.from_volumes(given.truth, fragments)

    def best_voi(cuts: Iterable[tuple[np.ndarray, np.ndarray]]) -> float:
        return _best(table, len(graph.nodes), cuts).voi

    def with_waterz(name: str, numbering: int) -> float:
        return best_voi(waterz_cuts(given.affinities, fragments, name, THRESHOLDS, numbering))

    return {
        name: Agreement(best_voi(_cuts(graph, name)), tuple(with_waterz(name, n) for n in range(NUMBERINGS)))
        for name in SCORING_FUNCTIONS
    }


def _best_of_fragments(given: Input, fragments: np.ndarray) -> Best:
    graph = ld.build_region_graph(given.affinities, fragments)
    table = ContingencyTable.from_volumes(given.truth, fragments)
    return _best(table, len(graph.nodes), _cuts(graph, "hist_quant_75"))


def _cuts(graph: RegionGraph, merge_function: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    tree = ld.agglomerate(graph, merge_function)
    for threshold in THRESHOLDS:
        lut = tree.cut(threshold)
        yield lut.keys, lut.values


def _best(table: ContingencyTable, fragments: int, cuts: Iterable[tuple[np.ndarray, np.ndarray]]) -> Best:
    scored = []
    for threshold, (keys, values) in zip(THRESHOLDS, cuts, strict=True):
        scores = table.relabel_test(keys, values).scores()
        scored.append(Best(fragments, scores["voi_split"], scores["voi_merge"], threshold))
    return min(scored, key=lambda best: best.voi)


def _heights_table(measured: Sequence[Measured]) -> str:
    """Best VOI over that of the reference, by kind of input, and over all kinds; and numbers of fragments."""
    kinds = list(dict.fromkeys(one.name for one in measured))
    rows: list[Row] = []
    for choice in product(HEIGHTS, SMOOTHINGS):
        voi, count = (
            [_over_reference(measured, kind, choice, what) for kind in kinds] for what in ("voi", "fragments")
        )
        mark = " (default)" if choice == (Rules.height, Rules.smoothing) else ""
        rows.append((choice[0] + mark, choice[1], *voi, _mean_ratio(voi), _mean_ratio(count)))
    return _table(("height", "smoothing", *kinds, "all", "fragments"), rows)


def _over_reference(measured: Sequence[Measured], kind: str, choice: tuple[str, float], what: str) -> float:
    of_kind = [one for one in measured if one.name == kind]
    return _mean_ratio([getattr(one.chosen[choice], what) / getattr(one.reference, what) for one in of_kind])


def _mean_ratio(ratios: Sequence[float]) -> float:
    return float(np.exp(np.mean(np.log(ratios))))


def _default_table(measured: Sequence[Measured]) -> str:
    rows: list[Row] = []
    for one in measured:
        for name, best in (("default", one.default), ("reference", one.reference)):
            rows.append((_title(one), name, best.fragments, best.split, best.merge, best.voi, best.threshold))
    return _table(("input", "fragments of", "number", "VOI split", "VOI merge", "VOI", "threshold"), rows)


def _agreement_table(measured: Sequence[Measured]) -> str:
    rows: list[Row] = []
    for one in measured:
        for name, found in one.agreement.items():
            numbers = (found.ours, found.waterz[0], found.difference, min(found.waterz), max(found.waterz))
            equal = "yes" if abs(found.difference) <= TOLERANCE else "no"
            rows.append((_title(one), f"`{name}`", *(f"{number:.4f}" for number in numbers), equal))
    header = ("lsd_dask", "waterz", "difference", "waterz, lowest", "waterz, highest", f"within {TOLERANCE}")
    return _table(("input", "merge function", *header), rows)


def _check(measured: Sequence[Measured]) -> bool:
    """Whether what docs/quality.md claims holds; what does not is printed."""
    broken = []
    for one in measured:
        for name, found in one.agreement.items():
            # Where waterz itself depends on how fragments are numbered there is no one result to agree with.
            if found.spread <= TOLERANCE and abs(found.difference) > TOLERANCE:
                broken.append(f"{_title(one)}, {name}: best VOI {found.ours:.4f}, with waterz {found.waterz}")
    for kind in dict.fromkeys(one.name for one in measured):
        ratio = _over_reference(measured, kind, (Rules.height, Rules.smoothing), "voi")
        if ratio > 1:
            broken.append(f"{kind}: best VOI of default fragments is {ratio:.2f} x that of the reference's")
    for claim in broken:
        print(f"quality: {claim}", file=sys.stderr)
    return not broken


def _workflow_table(given: Iterable[Input]) -> str:
    """Best VOI of `workflows.segment`, from zarr to zarr on two local processes."""
    from lsd_dask import workflows

    rows: list[Row] = []
    for one in given:
        with tempfile.TemporaryDirectory() as directory:
            container = str(Path(directory) / "volume.zarr")
            ld.save_volume(one.affinities, f"{container}/volumes/affs", voxel_size=(1, 1, 1))
            ld.save_volume(one.truth, f"{container}/volumes/labels", voxel_size=(1, 1, 1))
            made = workflows.segment(
                affs_file=container,
                out_file=container,
                gt_file=container,
                gt_dataset="volumes/labels",
                thresholds_minmax=(THRESHOLDS[0], 1),
                num_workers=2,
            )
            segmentation = ld.open_volume(made.path).to_numpy()
        scores = ld.evaluation.rand_voi(one.truth, segmentation)
        split, merge = scores["voi_split"], scores["voi_merge"]
        rows.append((_title(one), made.threshold, split, merge, split + merge))
    return _table(("input", "threshold", "VOI split", "VOI merge", "VOI"), rows)


def _title(one: Input | Measured) -> str:
    return one.name if one.seed is None else f"{one.name} ({one.seed})"


def _table(header: Sequence[str], rows: Sequence[Row]) -> str:
    """A Markdown table."""
    cells = [[f"{c:.2f}" if isinstance(c, float) else str(c) for c in row] for row in (header, *rows)]
    rule = ["---" if isinstance(c, str) and c[:1] not in "-0123456789" else "---:" for c in rows[0]]
    return "\n".join("| " + " | ".join(row) + " |" for row in (cells[0], rule, *cells[1:]))


def _write(tables: dict[str, str]) -> None:
    """Replace what stands between the markers of each table in the document."""
    text = DOCUMENT.read_text(encoding="utf-8")
    for name, table in tables.items():
        begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
        text, found = re.subn(f"{begin}.*?{end}", f"{begin}\n{table}\n{end}", text, flags=re.DOTALL)
        if found != 1:
            raise ValueError(
                f"{DOCUMENT}: found {found} places for the table {name!r}, expected one {begin} ... {end}"
            )
    DOCUMENT.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
