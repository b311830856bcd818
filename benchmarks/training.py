"""Networks trained on real volumes: local shape descriptors as auxiliary target beside affinities alone.

Scores are variations of information (VOI) in bits, of our own segmentation of predicted affinities. What was
run before is not run again, so that parts can be run one by one.

    python benchmarks/training.py                              # everything, and the tables
    python benchmarks/training.py --kind mtlsd --seed 0        # one training on fib25_a
    python benchmarks/training.py --data-set isbi2012          # the 2-D ones
    python benchmarks/training.py --tables                     # the tables of what was run
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from _inputs import without_dust
from scipy import ndimage

import lsd_dask as ld
from lsd_dask.evaluation import ContingencyTable
from lsd_dask.space.grids import Grid
from lsd_dask.volumes.dask_arrays import label

KINDS = ("affinities", "mtlsd")
SEEDS = (0, 1, 2)
THRESHOLDS = tuple(round(0.02 * i, 2) for i in range(1, 50))
RESULTS = Path(__file__).resolve().parents[1] / "bench-results" / "training"

#: Sections to train on, and to validate on.
FIB25_TRAIN, FIB25_TEST = slice(0, 80), slice(85, 125)
ISBI_TRAIN, ISBI_TEST = slice(0, 15), slice(15, 20)


def main() -> int:
    options = _options()
    directory = options.data or Path(
        os.environ.get("LSD_DASK_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")
    )
    for name in options.data_set:
        if not (directory / f"{name}_a.npz").is_file():
            print(
                f"training: found no {directory / f'{name}_a.npz'}. Name the folder with --data or the "
                "environment variable LSD_DASK_DATA.",
                file=sys.stderr,
            )
            return 2
    options.results.mkdir(parents=True, exist_ok=True)
    if not options.tables:
        for name in options.data_set:
            for seed in options.seed:
                for kind in options.kind:
                    _run(name, kind, seed, directory, options)
    text = "\n".join(_table(name, directory, options.results) for name in options.data_set)
    (options.results / "training.md").write_text(text, encoding="utf-8")
    print(text)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train networks and measure what they segment.")
    parser.add_argument("--data", type=Path, help="folder of fib25_a.npz and isbi2012_a.npz")
    parser.add_argument(
        "--data-set",
        nargs="+",
        choices=("fib25", "isbi2012"),
        default=("fib25", "isbi2012"),
        help="default: both",
    )
    parser.add_argument("--kind", nargs="+", choices=KINDS, default=KINDS, help="networks (default: both)")
    parser.add_argument("--seed", nargs="+", type=int, default=SEEDS, help="default: 0 1 2")
    parser.add_argument("--iterations", type=int, help="training steps (default: that of the preset)")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch (default: 1)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of results and checkpoints")
    parser.add_argument("--tables", action="store_true", help="only put the tables together")
    return parser.parse_args()


def _run(name: str, kind: str, seed: int, directory: Path, options: argparse.Namespace) -> None:
    """Train one network and score it, unless that was done; an interrupted training goes on."""
    from lsd_dask.training.presets import PRESETS

    preset = PRESETS["tiny" if name == "fib25" else "tiny-2d"]
    iterations = options.iterations or preset.iterations
    path = options.results / f"{name}_{kind}_{seed}_{iterations}.json"
    if path.exists():
        return
    import torch

    torch.set_num_threads(options.threads)
    arrays = dict(np.load(directory / f"{name}_a.npz"))
    started, cpu = time.perf_counter(), time.process_time()
    train = _train_fib25 if name == "fib25" else _train_isbi
    network = train(arrays, kind, seed, iterations, options.results / path.stem)
    result = {
        "data_set": name,
        "kind": kind,
        "seed": seed,
        "iterations": iterations,
        "seconds": time.perf_counter() - started,
        "cpu_seconds": time.process_time() - cpu,
        "threads": options.threads,
    }
    result |= _score_fib25(arrays, network) if name == "fib25" else _score_isbi(arrays, network)
    path.write_text(json.dumps(result, indent=1), encoding="utf-8")
    print(json.dumps(result), flush=True)


def _train_fib25(arrays: Mapping[str, np.ndarray], kind: str, seed: int, iterations: int, out: Path) -> Any:
    from lsd_dask.training.labelled_volumes import TrainingVolume

    grid = Grid(("z", "y", "x"), arrays["raw"].shape, (10, 10, 10), (0, 0, 0))
    raw, labels = label(arrays["raw"], grid), label(arrays["neuron_ids"], grid)
    volume = TrainingVolume(raw.isel(z=FIB25_TRAIN), labels.isel(z=FIB25_TRAIN), name="fib25_a")
    return _train("tiny", [volume], (10.0, 10.0, 10.0), kind, seed, iterations, out)


def _train_isbi(arrays: Mapping[str, np.ndarray], kind: str, seed: int, iterations: int, out: Path) -> Any:
    from lsd_dask.training.labelled_volumes import TrainingVolume

    grid = Grid(("z", "y", "x"), arrays["raw"].shape, (50, 4, 4), (0, 0, 0))
    raw, labels = label(arrays["raw"], grid), label(cells(arrays["membrane"]), grid)
    volume = TrainingVolume(raw.isel(z=ISBI_TRAIN), labels.isel(z=ISBI_TRAIN), name="isbi2012_a")
    return _train("tiny-2d", [volume], (4.0, 4.0), kind, seed, iterations, out)


def _train(
    name: str,
    volumes: list[Any],
    voxel_size: tuple[float, ...],
    kind: str,
    seed: int,
    iterations: int,
    out: Path,
) -> Any:
    """Train as the preset says; the checkpoint."""
    import torch

    from lsd_dask.networks.checkpoints import load_checkpoint
    from lsd_dask.networks.models import build_model
    from lsd_dask.training.crops import VolumeDataset
    from lsd_dask.training.labelled_volumes import prepare_volumes
    from lsd_dask.training.loop import TrainingOptions, train
    from lsd_dask.training.presets import PRESETS
    from lsd_dask.training.samples import SampleSpec

    preset = PRESETS[name]
    config = preset.model(kind)
    augmentation = preset.augmentation
    if name == "tiny-2d":
        # Membranes are background in these labels already.
        augmentation = augmentation.model_copy(update={"grow_boundary": 0})
    spec = SampleSpec(
        config,
        preset.output_shape,
        tuple(preset.lsd_sigma / v for v in voxel_size),
        preset.lsd_downsample,
        augmentation,
        border=preset.border,
    )
    ready = prepare_volumes(
        volumes, dims=config.dims, channels=1, voxel_size=voxel_size, shape=preset.output_shape
    )
    torch.manual_seed(seed)
    started = time.perf_counter()

    def progress(iteration: int, losses: Mapping[str, float]) -> None:
        if iteration % 50 == 0:
            found = ", ".join(f"{k} {v:.4f}" for k, v in losses.items())
            print(
                f"{out.name}: {iteration} of {iterations}, {found}, {time.perf_counter() - started:.0f} s",
                flush=True,
            )

    result = train(
        build_model(config),
        VolumeDataset(ready, spec, seed=seed),
        str(out),
        TrainingOptions(
            iterations,
            batch_size=preset.batch_size,
            learning_rate=preset.learning_rate,
            betas=preset.betas,
            decay=preset.decay,
            warmup=preset.warmup,
            seed=seed,
            mixed_precision=True,
            checkpoint_every=100,
            snapshot_every=500,
        ),
        voxel_size=voxel_size,
        progress=progress,
    )
    return load_checkpoint(result.last)


def _score_fib25(arrays: Mapping[str, np.ndarray], network: Any) -> dict[str, Any]:
    """VOI on the sections that were not trained on: at their best threshold, and that of the training part.

    The network sees all raw data, as it would of a volume of which a part is labelled.
    """
    from lsd_dask.prediction.tiles import predict

    affinities = predict(arrays["raw"], network, outputs=["affinities"], precision="bfloat16")["affinities"]
    parts = {}
    for part, sections in (("train", FIB25_TRAIN), ("test", FIB25_TEST)):
        truth = without_dust(arrays["neuron_ids"][sections])
        there = np.where(arrays["ffn_segmentation"][sections] != 0, truth, 0)
        parts[part] = _curves(np.ascontiguousarray(affinities[:, sections]), truth, there)
    chosen, best = (int(np.argmin(parts[part][0].sum(axis=1))) for part in ("train", "test"))
    every, there = parts["test"]
    return {
        "threshold": THRESHOLDS[chosen],
        "voi": every[chosen].tolist(),
        "voi_where_ffn": there[chosen].tolist(),
        "best_threshold": THRESHOLDS[best],
        "best_voi": every[best].tolist(),
    }


def _score_isbi(arrays: Mapping[str, np.ndarray], network: Any) -> dict[str, Any]:
    """VOI of each section, at the best threshold of the training sections and at the best of each section."""
    from lsd_dask.prediction.tiles import predict

    truth, curves = cells(arrays["membrane"]), []
    for section, objects in zip(arrays["raw"], truth, strict=True):
        affinities = predict(section, network, outputs=["affinities"], precision="bfloat16")["affinities"]
        curves.append(_curves(affinities, objects)[0])
    chosen = int(np.argmin(np.sum(curves[ISBI_TRAIN], axis=(0, 2))))
    return {
        "threshold": THRESHOLDS[chosen],
        "voi": [curve[chosen].tolist() for curve in curves[ISBI_TEST]],
        "best_voi": [min(curve.tolist(), key=sum) for curve in curves[ISBI_TEST]],
    }


def _curves(affinities: np.ndarray, *truths: np.ndarray) -> list[np.ndarray]:
    """VOI split and merge of our segmentation at all thresholds, for each truth."""
    fragments = ld.extract_fragments(affinities)
    tree = ld.agglomerate(ld.build_region_graph(affinities, fragments))
    cuts = [tree.cut(threshold) for threshold in THRESHOLDS]
    curves = []
    for truth in truths:
        table = ContingencyTable.from_volumes(truth, fragments)
        scores = [table.relabel_test(lut.keys, lut.values).scores() for lut in cuts]
        curves.append(np.array([(found["voi_split"], found["voi_merge"]) for found in scores]))
    return curves


def cells(membrane: np.ndarray) -> np.ndarray:
    """Connected components of what is inside of cells, section by section; 0 = membrane."""
    out = np.zeros(membrane.shape, np.uint32)
    for section, inside in zip(out, membrane, strict=True):
        ndimage.label(inside, output=section)
    return out


def _table(name: str, directory: Path, results: Path) -> str:
    found = [json.loads(path.read_text()) for path in sorted(results.glob(f"{name}_*.json"))]
    rows = _rows_fib25(found, directory) if name == "fib25" else _rows_isbi(found)
    header, *rest = rows
    rule = ["---"] * len(header)
    return "\n".join([f"\n{name}\n", *("| " + " | ".join(row) + " |" for row in (header, rule, *rest)), ""])


def _rows_fib25(found: Sequence[Mapping[str, Any]], directory: Path) -> list[Sequence[str]]:
    arrays = np.load(directory / "fib25_a.npz")
    truth = without_dust(arrays["neuron_ids"][FIB25_TEST])
    ffn = arrays["ffn_segmentation"][FIB25_TEST]
    where = np.where(ffn != 0, truth, 0)
    rows: list[Sequence[str]] = [
        (
            "segmentation",
            "steps",
            "seed",
            "threshold",
            "VOI split / merge / sum",
            "where FFN is not 0",
            "best threshold",
            "VOI there",
        )
    ]
    for one in found:
        rows.append(
            (
                one["kind"],
                f"{one['iterations']}",
                f"{one['seed']}",
                f"{one['threshold']:.2f}",
                _voi(one["voi"]),
                _voi(one["voi_where_ffn"]),
                f"{one['best_threshold']:.2f}",
                _voi(one["best_voi"]),
            )
        )
    for kind, iterations in dict.fromkeys((one["kind"], one["iterations"]) for one in found):
        same = [one for one in found if (one["kind"], one["iterations"]) == (kind, iterations)]
        means = [np.mean([one[key] for one in same], axis=0) for key in ("voi", "voi_where_ffn", "best_voi")]
        rows.append(
            (
                f"**{kind}, mean of {len(same)}**",
                f"{iterations}",
                "",
                "",
                _voi(means[0]),
                _voi(means[1]),
                "",
                _voi(means[2]),
            )
        )
    for name in ("ffn_segmentation", "oversegmentation"):
        labels = arrays[name][FIB25_TEST]
        scores = [ld.evaluation.rand_voi(part, labels) for part in (truth, where)]
        rows.append(
            (f"`{name}`", "", "", "", *(_voi((s["voi_split"], s["voi_merge"])) for s in scores), "", "")
        )
    return rows


def _rows_isbi(found: Sequence[Mapping[str, Any]]) -> list[Sequence[str]]:
    sections = [f"section {z}" for z in range(ISBI_TEST.start, ISBI_TEST.stop)]
    rows: list[Sequence[str]] = [
        ("network", "steps", "seed", "threshold", *sections, "mean", "mean, best thresholds")
    ]
    for one in found:
        means = [np.mean(one[key], axis=0) for key in ("voi", "best_voi")]
        head = (one["kind"], f"{one['iterations']}", f"{one['seed']}", f"{one['threshold']:.2f}")
        rows.append((*head, *(_voi(voi) for voi in one["voi"]), *(_voi(mean) for mean in means)))
    return rows


def _voi(split_merge: Sequence[float] | np.ndarray) -> str:
    split, merge = split_merge
    return f"{split:.2f} / {merge:.2f} / {split + merge:.2f}"


if __name__ == "__main__":
    raise SystemExit(main())
