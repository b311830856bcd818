"""The promise, from affinities on disk to the scored segmentation: blocks, place and type do not show.

The oracle is the library's functions on the whole volume in memory, which have oracles of their own.
"""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from distributed import Client
from hypothesis import given
from hypothesis import strategies as st

import lsd_dask as ld
from lsd_dask import workflows

from .strategies import affinities, label_volumes, shapes

VOXEL_SIZE = (30.0, 5.0, 5.0)


@pytest.fixture(scope="module", autouse=True)
def client() -> Iterator[Client]:
    with Client(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=":0") as client:
        yield client


@st.composite
def jobs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, dict[str, Any], dict[str, Any]]:
    """Affinities, truth, options of the watershed, and how the work is cut up."""
    ndim = draw(st.sampled_from([2, 3, 3, 3]))
    shape = draw(shapes(12, 20, 20)) if ndim == 3 else draw(shapes(30, 30))
    values = draw(affinities(shape, dtypes="uf"))
    truth = draw(label_volumes(shape))
    options: dict[str, Any] = {
        "height": draw(st.sampled_from(["distance", "affinity", "both"])),
        "smoothing": draw(st.sampled_from([0.0, 0.85, 1.5])),
        "anisotropic": draw(st.booleans()),
    }
    if ndim == 3:
        options["fragments_in_xy"] = draw(st.booleans())
        options["replace_sections"] = draw(st.lists(st.integers(0, shape[0] - 1), max_size=2)) or None
    refinement = {"remove_debris": 5, "filter_fragments": 0.5, "epsilon_agglomerate": 0.4}
    options |= {name: value for name, value in refinement.items() if draw(st.integers(0, 3)) == 0}
    voxel_size = VOXEL_SIZE[3 - ndim :]
    block = [draw(st.integers(1, n)) * v for n, v in zip(shape, voxel_size, strict=True)]
    # At most a few dozen blocks: it is their borders that count, not their number.
    while np.prod([-(-n * v // b) for n, v, b in zip(shape, voxel_size, block, strict=True)]) > 24:
        block = [min(2 * b, n * v) for n, v, b in zip(shape, voxel_size, block, strict=True)]
    run = {
        "block_size": tuple(block),
        "merge_function": draw(st.sampled_from(["hist_quant_75", "mean", "hist_quant_50_initmax"])),
    }
    return values, truth, options, run


@pytest.mark.timeout(1200)  # hundreds of runs of all steps
@given(jobs(), st.integers(-3, 1000))
def test_a_segmentation_is_that_of_the_whole_volume(job: Any, corner: int) -> None:
    values, truth, options, run = job
    voxel_size = VOXEL_SIZE[4 - values.ndim :]
    place = {"voxel_size": voxel_size, "offset": tuple(corner * v for v in voxel_size)}
    directory = Path(tempfile.mkdtemp())
    try:
        container = directory / "cells.zarr"
        ld.save_volume(values, container / "affs", **place)
        ld.save_volume(truth, container / "truth", **place)
        affs = ld.open_volume(container / "affs").load()
        whole = ld.extract_fragments(affs, **options)
        graph = ld.build_region_graph(affs, whole)
        tree = ld.agglomerate(graph, run["merge_function"])
        result = workflows.segment(
            affs_file=container,
            affs_dataset="affs",
            out_file=container,
            threshold=0.4,
            thresholds_step=0.2,
            **({"gt_file": container, "gt_dataset": "truth"} if truth.any() else {}),
            **options,
            **run,
        )
        assert np.array_equal(ld.open_volume(container / "volumes/fragments"), whole)
        segmentation = ld.relabel(whole.to_numpy(), tree.cut(0.4))
        assert np.array_equal(ld.open_volume(result.path), segmentation)
        found = pq.read_table(container / "rag/nodes.parquet")
        assert np.array_equal(found["size"], graph.nodes.sizes)
        assert np.array_equal(pq.read_table(container / "rag/edges.parquet")["sum"], graph.edges.sums)
        merges = pq.read_table(container / f"rag/merges_{run['merge_function']}.parquet")
        assert np.array_equal(merges["level"], tree.levels)
        for row in result.scores:
            expected = ld.evaluation.rand_voi(truth, ld.relabel(whole.to_numpy(), tree.cut(row["threshold"])))
            assert row["voi_split"] == expected["voi_split"]
            assert row["voi_merge"] == expected["voi_merge"]
    finally:
        shutil.rmtree(directory)
