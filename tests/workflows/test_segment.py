"""The main job: affinities in, a segmentation out, in one call."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import zarr
from distributed import Client

import lsd_dask as ld
from lsd_dask import workflows
from lsd_dask.segmentation.agglomeration import LookupTable

from ..helpers.tissue import VOXEL_SIZE, tissue


def save_tissue(path: Path, zarr_format: Literal[2, 3]) -> Path:
    for name, volume in (("affs", tissue().affinities), ("labels", tissue().labels)):
        where = path / "volumes" / name
        ld.save_volume(volume.values, where, voxel_size=VOXEL_SIZE, zarr_format=zarr_format)
    return path


@pytest.fixture(scope="module")
def container(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tissue(tmp_path_factory.mktemp("segment") / "tissue.zarr", 3)


def options(container: Path, **more: Any) -> dict[str, Any]:
    return {
        "affs_file": container,
        "out_file": container,
        "gt_file": container,
        "gt_dataset": "volumes/labels",
        "thresholds_step": 0.05,
        "block_size": [n * v for n, v in zip((48, 48, 48), VOXEL_SIZE, strict=True)],
        **more,
    }


@pytest.mark.parametrize("zarr_format", [3, 2])
def test_from_affinities_to_a_scored_segmentation(
    cluster_client: Client, tmp_path: Path, zarr_format: Literal[2, 3]
) -> None:
    """Bit for bit what the library makes of arrays in memory; and a second time nothing is computed."""
    container = save_tissue(tmp_path / "tissue.zarr", zarr_format)
    result = workflows.segment(options(container))

    affinities = tissue().affinities.values
    fragments = ld.extract_fragments(affinities)
    tree = ld.agglomerate(ld.build_region_graph(affinities, fragments))
    expected = ld.relabel(fragments, tree.cut(result.threshold))
    segmentation = ld.open_volume(result.path)
    np.testing.assert_array_equal(segmentation.values, expected, strict=True)
    np.testing.assert_array_equal(ld.open_volume(result.outputs["fragments"]).values, fragments, strict=True)

    assert Path(result.path) == container / f"volumes/segmentation_{100 * result.threshold:g}"
    assert segmentation.attrs["voxel_size"] == VOXEL_SIZE
    for segment in np.unique(expected)[::10]:
        if segment:
            assert fragments[expected == segment].min() == segment
    lut = LookupTable.from_parquet(str(container / f"rag/luts/hist_quant_75_{result.threshold:g}.parquet"))
    np.testing.assert_array_equal(lut.values, tree.cut(result.threshold).values)
    assert zarr.open_array(result.path).metadata.zarr_format == zarr_format

    sums = {row["threshold"]: row["voi_sum"] for row in result.scores}
    assert len(sums) == 20
    assert min(sums.values()) == sums[result.threshold]
    # Agglomeration helps a lot, and the truth is not far.
    assert sums[result.threshold] < 0.8 * sums[0.0]
    assert sums[result.threshold] < 2

    assert result.blocks > 0
    assert result.skipped == 0
    again = workflows.segment(options(container))
    assert again.skipped == again.blocks == result.blocks
    assert again.path == result.path
    assert again.scores == result.scores


def test_another_merge_function_keeps_fragments_and_graph(
    cluster_client: Client, container: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = workflows.segment(options(container), threshold=0.3)
    capsys.readouterr()
    second = workflows.segment(options(container), threshold=0.3, merge_function="mean")
    # The blocks of the segmentation alone.
    assert second.blocks - second.skipped == 2 * 2 * 2
    assert "segmentation: made anew, replacing 8 finished blocks (lookup table" in capsys.readouterr().err
    assert first.threshold == second.threshold == 0.3


def test_a_region(cluster_client: Client, container: Path, tmp_path: Path) -> None:
    """A region is segmented as if it were all there is, but of the fragments of the whole volume."""
    offset, size = (8, 8, 16), (40, 50, 60)
    world = {
        "roi_offset": [n * v for n, v in zip(offset, VOXEL_SIZE, strict=True)],
        "roi_shape": [n * v for n, v in zip(size, VOXEL_SIZE, strict=True)],
    }
    result = workflows.segment(options(container, out_file=tmp_path / "out.zarr", **world), threshold=0.35)
    region = tuple(slice(o, o + n) for o, n in zip(offset, size, strict=True))
    affinities = tissue().affinities.values
    fragments = ld.extract_fragments(affinities)[region]
    graph = ld.build_region_graph(affinities[(slice(None), *region)], fragments)
    expected = ld.relabel(fragments, ld.agglomerate(graph).cut(0.35))
    np.testing.assert_array_equal(ld.open_volume(result.path).values, expected)


def test_without_a_ground_truth(cluster_client: Client, container: Path, tmp_path: Path) -> None:
    result = workflows.segment(affs_file=container, out_file=tmp_path / "out.zarr")
    assert result.threshold == 0.5
    assert result.scores == ()
    assert result.path.endswith("volumes/segmentation_50")
    assert ld.open_volume(result.path).values.any()


def test_a_client_of_the_users_own_is_used_and_left_open(
    cluster_client: Client, container: Path, tmp_path: Path
) -> None:
    workflows.segment(affs_file=container, out_file=tmp_path / "out.zarr", num_workers=7, queue="slurm")
    assert cluster_client.status == "running"
    assert Client.current() is cluster_client
    assert cluster_client.submit(sum, [1, 2]).result() == 3


def test_a_cluster_is_started_where_there_is_none_and_stopped(
    container: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = workflows.segment(
        affs_file=container, out_file=tmp_path / "out.zarr", queue="local", num_workers=1
    )
    assert ld.open_volume(result.path).values.any()
    with pytest.raises(ValueError, match="No clients"):
        Client.current()
    said = capsys.readouterr().err
    assert said.count("Watch it work: http://") == 1
    for step in ("extract_fragments", "agglomerate", "find_segments", "extract_segmentation", "segment"):
        assert f"{step}: " in said
    assert result.path in said
