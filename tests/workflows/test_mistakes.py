"""What a new user gets wrong first: it is told before any work, in words that help, and harms nothing.

Unless a test says otherwise, no cluster is there and none may be started: the error must come before.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest
from distributed import Client

import lsd_dask as ld
from lsd_dask import workflows
from lsd_dask.blockwise.runs import RunFailedError

from ..helpers.refusals import refused

SHAPE, VOXEL_SIZE = (24, 24, 24), (40, 8, 8)
PLACE: dict[str, Any] = {"voxel_size": VOXEL_SIZE, "offset": (400, 0, 0)}


@pytest.fixture
def cells(tmp_path: Path) -> Path:
    """A container as a user has it: raw data, labels, affinities of two networks, nothing made yet."""
    rng = np.random.default_rng(0)
    path = tmp_path / "cells.zarr"
    labels = np.repeat(np.arange(1, 5, dtype=np.uint64), 6)[None, None, :] * np.ones(SHAPE, np.uint64)
    affinities = (np.asarray(ld.affinities(labels)) * 255).astype(np.uint8)
    affinities[..., ::6] = 0
    ld.save_volume(rng.integers(0, 255, SHAPE).astype(np.uint8), path / "volumes/raw", **PLACE)
    ld.save_volume(labels, path / "volumes/labels", **PLACE)
    ld.save_volume(affinities, path / "volumes/affs", **PLACE)
    ld.save_volume((affinities / 255).astype(np.float32), path / "volumes/affs_float", **PLACE)
    return path


@pytest.fixture
def made(cells: Path, cluster_client: Client) -> Path:
    """The same after the first two steps."""
    workflows.extract_fragments(affs_file=cells, fragments_file=cells)
    workflows.agglomerate(affs_file=cells, fragments_file=cells)
    return cells


@pytest.fixture(autouse=True)
def no_cluster(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(*_: object, **__: object) -> None:
        pytest.fail("a cluster was started before the mistake was found")

    if "cluster_client" not in request.fixturenames:
        monkeypatch.setattr("lsd_dask.workflows.running.outputs.session", start)


def segment(cells: Path, **options: Any) -> Callable[[], Any]:
    given = {"affs_file": cells, "out_file": cells.parent / "out.zarr", **options}
    return lambda: workflows.segment(given)


# Files and arrays


def test_a_file_that_is_not_there(cells: Path) -> None:
    missing = cells.parent / "cell.zarr"
    refused(
        cells.parent,
        segment(missing),
        FileNotFoundError,
        f"{missing}/volumes/affs: there is no 'cell.zarr' in {cells.parent}; did you mean 'cells.zarr'?",
    )


def test_the_wrong_name_of_an_array(cells: Path) -> None:
    refused(
        cells.parent,
        segment(cells, affs_dataset="volumes/afs"),
        FileNotFoundError,
        f"{cells}/volumes holds no array 'afs'; did you mean 'affs'?",
        "affs_float, labels, raw",
    )


def test_labels_given_as_affinities(cells: Path) -> None:
    refused(
        cells.parent,
        segment(cells, affs_dataset="volumes/labels"),
        TypeError,
        f"{cells}/volumes/labels: Affinities are stored as uint64, expected uint8",
        "Is this a volume of labels",
    )


def test_raw_data_given_as_affinities(cells: Path) -> None:
    refused(
        cells.parent,
        segment(cells, affs_dataset="volumes/raw"),
        ValueError,
        f"{cells}/volumes/raw: found an array of shape (24, 24, 24) with no channel axis",
        "expected affinities: 3 channels or more before the axes z, y, x",
    )


def test_affinities_with_too_few_channels(cells: Path) -> None:
    ld.save_volume(np.ones((2, *SHAPE), np.uint8), cells / "two", **PLACE)
    refused(
        cells.parent,
        segment(cells, affs_dataset="two"),
        ValueError,
        f"{cells}/two: found 2 channels, expected 3 for the direct lower neighbours along z, y, x",
    )


def test_affinities_of_longer_range_without_a_neighborhood(cells: Path) -> None:
    ld.save_volume(np.ones((4, *SHAPE), np.uint8), cells / "four", **PLACE)
    refused(
        cells.parent,
        segment(cells, affs_dataset="four"),
        ValueError,
        f"{cells}/four: found 4 channels, expected 3",
        "or a neighborhood",
    )
    refused(
        cells.parent,
        segment(cells, affs_dataset="four", neighborhood=[[-1, 0, 0], [0, -1, 0], [0, 0, -1]]),
        ValueError,
        f"{cells}/four: neighborhood: found 3 offsets",
        "for each of 4 channels",
    )


@pytest.mark.parametrize(("value", "found"), [(7.5, "values from 0 to 7.5"), (np.nan, "NaN")])
def test_affinities_out_of_range(cells: Path, value: float, found: str) -> None:
    values = np.zeros((3, *SHAPE), np.float32)
    values[:, 4:20, 4:20, 4:20] = value
    ld.save_volume(values, cells / "scaled", **PLACE)
    refused(
        cells.parent,
        segment(cells, affs_dataset="scaled"),
        ValueError,
        f"{cells}/scaled: Affinities hold {found}, expected values from 0 to 1 (or uint8, 0 to 255)",
    )


def test_affinities_out_of_range_in_a_corner(cluster_client: Client, cells: Path) -> None:
    """Where a first look does not see it, the block that does says so, and what is right is kept."""
    values = np.zeros((3, 24, 24, 240), np.float32)
    values[0, 0, 0, 0] = 2
    ld.save_volume(values, cells / "corner", **PLACE)
    with pytest.raises(RunFailedError) as caught:
        workflows.extract_fragments(
            affs_file=cells, affs_dataset="corner", fragments_file=cells, block_size=(960, 192, 640)
        )
    message = str(caught.value)
    assert "extract fragments: 1 of 3 blocks failed (2 are done" in message
    assert "block 0_0_0, voxels [0:24, 0:24, 0:80]" in message
    assert (
        f"ValueError: {cells}/corner: Affinities hold values from 0 to 2, expected values from 0 to 1"
        in message
    )


# Numbers


@pytest.mark.parametrize(
    ("block_size", "parts"),
    [
        (
            [900, 100, 100],
            ["block_size [900.0, 100.0, 100.0] is no multiple of", "[40.0, 8.0, 8.0]", "would be"],
        ),
        ([960, 96], ["block_size needs 3 numbers (z, y, x), but has 2"]),
    ],
)
def test_blocks_that_are_not_made_of_voxels(cells: Path, block_size: list[int], parts: list[str]) -> None:
    refused(cells.parent, segment(cells, block_size=block_size), ValueError, *parts, f"{cells}/volumes/affs")


@pytest.mark.parametrize(
    ("offset", "shape", "part"),
    [
        ([0, 0, 0], [400, 80, 80], "reaches out of the volume, which fills (400, 0, 0) to (1360, 192, 192)"),
        ([400, 0, 0], [960, 200, 192], "reaches out of the volume"),
        ([410, 0, 0], [400, 80, 80], "does not lie on the voxel grid"),
        ([400, 0], [960, 192], "3 numbers (z, y, x)"),
    ],
)
def test_a_region_outside_of_the_volume(cells: Path, offset: list[int], shape: list[int], part: str) -> None:
    refused(
        cells.parent,
        segment(cells, roi_offset=offset, roi_shape=shape),
        ValueError,
        f"{cells}/volumes/affs: roi_offset and roi_shape:",
        part,
    )


def test_a_threshold_in_percent(cells: Path) -> None:
    refused(
        cells.parent,
        segment(cells, threshold=40),
        ValueError,
        "segment: threshold should be less than or equal to 1; found 40",
    )


def test_too_much_context_or_too_little(cells: Path) -> None:
    refused(
        cells.parent,
        segment(cells, method="seeded", context=[100, 100]),
        ValueError,
        "context needs 3 numbers (z, y, x), but has 2",
    )


# Names


def test_sections_that_are_not_there(cells: Path) -> None:
    refused(
        cells.parent,
        segment(cells, replace_sections=[3, 24]),
        ValueError,
        str(cells / "volumes/affs"),
        "replace_sections: found 24, expected sections from 0 to 23",
    )


def test_a_key_that_does_not_exist(cells: Path) -> None:
    refused(
        cells.parent,
        segment(cells, merge_funtion="mean"),
        ValueError,
        "segment: unknown key 'merge_funtion', did you mean 'merge_function'?",
    )


def test_a_merge_function_that_does_not_exist(cells: Path) -> None:
    refused(
        cells.parent,
        segment(cells, merge_function="hist_quant_55"),
        ValueError,
        "hist_quant_75",
        "did you mean 'hist_quant_75'?",
        "found 'hist_quant_55'",
    )


def test_a_configuration_that_is_not_there(cells: Path) -> None:
    config = cells.parent / "segment.yaml"
    refused(
        cells.parent,
        lambda: workflows.segment(config),
        FileNotFoundError,
        f"{config}: there is no such configuration",
    )


def test_an_output_that_is_no_container(cells: Path) -> None:
    refused(
        cells.parent,
        segment(cells, out_file=cells.parent / "out"),
        ValueError,
        f"{cells.parent}/out/volumes/fragments: expected a container and the name of an array in it",
    )


def test_an_output_in_hdf5(cells: Path) -> None:
    path = cells.parent / "cells.h5"
    with h5py.File(path, "w") as file:
        file["labels"] = np.ones(SHAPE, np.uint64)
    refused(
        cells.parent,
        segment(cells, out_file=path),
        NotADirectoryError,
        f"{path} is a file",
        "expected a zarr container",
    )


# The order of steps


def test_agglomerating_before_there_are_fragments(cells: Path) -> None:
    refused(
        cells.parent,
        lambda: workflows.agglomerate(affs_file=cells, fragments_file=cells),
        FileNotFoundError,
        f"{cells}/volumes holds no array 'fragments'",
        "affs, affs_float, labels, raw",
    )


@pytest.mark.parametrize(
    ("step", "options"),
    [
        ("find_segments", {}),
        ("extract_segmentation", {"threshold": 0.5, "out_file": "cells.zarr"}),
        ("evaluate_volumes", {"gt_file": "cells.zarr", "gt_dataset": "volumes/labels"}),
    ],
)
def test_segments_before_agglomeration(cells: Path, step: str, options: dict[str, Any]) -> None:
    ld.save_volume(np.ones(SHAPE, np.uint64), cells / "volumes/fragments", **PLACE)
    given = {key: cells if key.endswith("file") else value for key, value in options.items()}
    refused(
        cells.parent,
        lambda: getattr(workflows, step)(fragments_file=cells, **given),
        FileNotFoundError,
        f"{cells}/rag/merges_hist_quant_75.parquet: no merge tree for hist_quant_75",
        "nothing was agglomerated there yet",
        "Run agglomerate with merge_function hist_quant_75 first",
    )


def test_segments_of_another_merge_function(made: Path) -> None:
    refused(
        made.parent,
        lambda: workflows.find_segments(fragments_file=made, edges_collection="edges_mean"),
        FileNotFoundError,
        "no merge tree for mean; there are hist_quant_75. Run agglomerate with merge_function mean first",
    )


def test_fragments_that_are_not_whole_numbers(made: Path) -> None:
    ld.save_volume(np.ones(SHAPE, np.float32), made / "volumes/smooth", **PLACE)
    message = f"{made}/volumes/smooth: found float32 of shape (24, 24, 24), expected integer labels"
    smooth = {"fragments_file": made, "fragments_dataset": "volumes/smooth"}
    truth = {"gt_file": made, "gt_dataset": "volumes/labels"}
    for call in (
        lambda: workflows.agglomerate(affs_file=made, **smooth),
        lambda: workflows.extract_segmentation(out_file=made, threshold=0.5, **smooth),
        lambda: workflows.evaluate_volumes(**smooth, **truth),
    ):
        refused(made.parent, call, TypeError, message)


# Volumes that do not belong together


def truth(cells: Path, values: np.ndarray, **place: Any) -> dict[str, Any]:
    ld.save_volume(values, cells / "truth", **{**PLACE, **place})
    return {"gt_file": cells, "gt_dataset": "truth"}


def test_a_ground_truth_of_other_voxels(cells: Path) -> None:
    options = truth(cells, np.ones(SHAPE, np.uint64), voxel_size=(40, 4, 4))
    parts = [
        f"{cells}/truth has voxels of (40.0, 4.0, 4.0) nanometer",
        f"{cells}/volumes/affs of (40.0, 8.0, 8.0)",
    ]
    refused(cells.parent, segment(cells, **options), ValueError, *parts)


def test_a_ground_truth_of_another_place(cells: Path) -> None:
    options = truth(cells, np.ones((24, 24, 20), np.uint64), offset=(0, 0, 400))
    parts = [f"{cells}/truth fills (0, 0, 400)", f"which has nothing in common with {cells}/volumes/affs"]
    refused(cells.parent, segment(cells, **options), ValueError, *parts)


def test_a_ground_truth_that_is_no_labels(cells: Path) -> None:
    message = "expected integer labels with the axes z, y, x"
    options = {"gt_file": cells, "gt_dataset": "volumes/affs_float"}
    refused(
        cells.parent,
        segment(cells, **options),
        TypeError,
        f"{cells}/volumes/affs_float: found float32",
        message,
    )
    options = {"gt_file": cells, "gt_dataset": "volumes/affs"}
    refused(cells.parent, segment(cells, **options), TypeError, f"{cells}/volumes/affs: found uint8", message)


def test_a_ground_truth_without_objects(made: Path) -> None:
    options = truth(made, np.zeros(SHAPE, np.uint64))
    with pytest.raises(ValueError, match="truth: found no voxel with a label other than 0") as caught:
        workflows.evaluate_volumes(fragments_file=made, **options)
    assert f"{made}/truth" in str(caught.value)
    assert not (made / "rag/scores").exists()


def test_affinities_that_do_not_cover_the_fragments(cells: Path) -> None:
    ld.save_volume(np.ones(SHAPE, np.uint64), cells / "volumes/fragments", voxel_size=VOXEL_SIZE)
    refused(
        cells.parent,
        lambda: workflows.agglomerate(affs_file=cells, fragments_file=cells),
        ValueError,
        f"{cells}/volumes/affs does not cover {cells}/volumes/fragments",
    )


def test_a_mask_of_another_place(cells: Path) -> None:
    ld.save_volume(np.ones((6, 6, 6), np.uint8), cells / "mask", voxel_size=(160, 32, 32))
    refused(
        cells.parent,
        segment(cells, mask_file=cells, mask_dataset="mask"),
        ValueError,
        f"{cells}/mask: the mask does not cover {cells}/volumes/affs: it fills (0, 0, 0) to (960, 192, 192)",
        "(400, 0, 0) to (1360, 192, 192)",
    )


def test_a_mask_with_channels(cells: Path) -> None:
    refused(
        cells.parent,
        segment(cells, mask_file=cells, mask_dataset="volumes/affs"),
        ValueError,
        f"{cells}/volumes/affs: found a mask of shape (3, 24, 24, 24) with the axes channel, z, y, x",
        "expected z, y, x",
    )


# What is there already


@pytest.mark.parametrize("resume", [True, False])
@pytest.mark.parametrize("refined", [{}, {"remove_debris": 5}])
def test_an_array_that_somebody_else_made_is_not_overwritten(
    cells: Path, resume: bool, refined: dict[str, Any]
) -> None:
    for dataset in ("volumes/raw", "volumes/labels"):
        refused(
            cells.parent,
            segment(cells, out_file=cells, fragments_dataset=dataset, resume=resume, **refined),
            FileExistsError,
            f"{cells}/{dataset} exists and was not written by this step. Choose another name, or remove it.",
        )
    ld.save_volume(np.ones(SHAPE, np.uint64), cells / "volumes/segmentation_40", **PLACE)
    refused(
        cells.parent,
        segment(cells, out_file=cells, threshold=0.4, resume=resume, **refined),
        FileExistsError,
        f"{cells}/volumes/segmentation_40 exists",
    )


def test_the_input_is_not_overwritten(cells: Path) -> None:
    refused(
        cells.parent,
        segment(cells, out_file=cells, fragments_dataset="volumes/affs"),
        ValueError,
        f"{cells}/volumes/affs: the step would overwrite its own input; choose another name",
    )


def test_a_group_where_an_array_is_to_be(cells: Path) -> None:
    refused(
        cells.parent,
        segment(cells, out_file=cells, fragments_dataset="volumes"),
        FileExistsError,
        f"{cells}/volumes exists",
    )


def test_tables_cut_short(made: Path) -> None:
    for name, call in (
        ("merges_hist_quant_75", lambda: workflows.find_segments(fragments_file=made)),
        (
            "merges_hist_quant_75",
            lambda: workflows.extract_segmentation(fragments_file=made, out_file=made, threshold=0.5),
        ),
    ):
        path = made / f"rag/{name}.parquet"
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        refused(made.parent, call, ValueError, f"{path}: not a readable Parquet file", "cut short")
        path.write_bytes(whole)


def test_a_graph_cut_short_is_counted_anew(made: Path) -> None:
    path = made / "rag/nodes.parquet"
    whole, rows = path.read_bytes(), pq.read_table(path)
    path.write_bytes(whole[: len(whole) // 2])
    workflows.agglomerate(affs_file=made, fragments_file=made, merge_function="mean")
    assert pq.read_table(path).equals(rows)


def test_a_ledger_cut_short(made: Path) -> None:
    path = made / "runs/extract_fragments/volumes/fragments/run.json"
    path.write_text(path.read_text()[:30])
    refused(
        made.parent,
        lambda: workflows.extract_fragments(affs_file=made, fragments_file=made),
        ValueError,
        f"{path}: not a readable JSON file",
    )


def test_a_merge_tree_of_a_part(made: Path) -> None:
    """Where the region of the merge tree is smaller than what is to be segmented, no fragment is left out."""
    part = {"roi_offset": (400, 0, 0), "roi_shape": (960, 192, 48)}
    workflows.agglomerate(affs_file=made, fragments_file=made, **part)
    with pytest.raises(RunFailedError, match="is not in the lookup table") as caught:
        workflows.extract_segmentation(fragments_file=made, out_file=made, threshold=0.5)
    assert "lookup.parquet" in str(caught.value)
    options = {"gt_file": made, "gt_dataset": "volumes/labels"}
    with pytest.raises(ValueError, match="fragments are missing in the merge tree"):
        workflows.evaluate_volumes(fragments_file=made, **options)
