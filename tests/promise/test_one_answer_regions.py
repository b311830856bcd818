"""The promise for regions and for descriptors: what is around a part is read, and blocks do not show.

As in `test_one_answer`, of which this is a file of its own so that both are run at the same time.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from distributed import Client
from hypothesis import given
from hypothesis import strategies as st

import lsd_dask as ld
from lsd_dask import workflows
from lsd_dask.space.grids import Region

from ..helpers.jobs import PATIENCE, block_sizes, container, fewer_examples, jobs, relabelled, voxel_size_of
from ..helpers.strategies import label_volumes, regions, shapes

pytestmark = pytest.mark.timeout(PATIENCE)


@pytest.fixture(scope="module", autouse=True)
def client() -> Iterator[Client]:
    with Client(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=":0") as client:
        yield client


@fewer_examples
@given(jobs(), st.data())
def test_a_region_has_the_fragments_of_the_whole_volume(job: dict[str, Any], data: st.DataObject) -> None:
    """What is around a region is read, and is no part of its graph."""
    values = job["affinities"]
    voxel_size = voxel_size_of(values.ndim - 1)
    region: Region = data.draw(regions(values.shape[1:]))
    refinement = ("remove_debris", "filter_fragments", "epsilon_agglomerate")
    options = {name: value for name, value in job["options"].items() if name not in refinement}
    block_size = data.draw(block_sizes([s.stop - s.start for s in region]))
    with container() as cells:
        ld.save_volume(values, cells / "affs", voxel_size=voxel_size)
        affs = ld.open_volume(cells / "affs").load()
        expected = ld.extract_fragments(affs, **options)[region]
        result = workflows.segment(
            affs_file=cells,
            affs_dataset="affs",
            out_file=cells,
            threshold=0.4,
            roi_offset=[s.start * v for s, v in zip(region, voxel_size, strict=True)],
            roi_shape=[(s.stop - s.start) * v for s, v in zip(region, voxel_size, strict=True)],
            block_size=block_size,
            **options,
        )
        assert np.array_equal(ld.open_volume(cells / "volumes/fragments"), expected)
        tree = ld.agglomerate(ld.build_region_graph(affs[(slice(None), *region)], expected))
        assert np.array_equal(ld.open_volume(result.path), relabelled(expected, tree, 0.4))


@fewer_examples
@given(st.data())
def test_descriptors_are_those_of_the_whole_volume(data: st.DataObject) -> None:
    shape = data.draw(shapes(10, 16, 16) | shapes(24, 24))
    labels = data.draw(label_volumes(shape))
    voxel_size = voxel_size_of(labels.ndim)
    options = {"sigma": data.draw(st.sampled_from([8.0, 20.0, 45.0])), "downsample": 1}
    with container() as cells:
        ld.save_volume(labels, cells / "labels", voxel_size=voxel_size)
        workflows.lsds(
            labels_file=cells,
            labels_dataset="labels",
            lsds_file=cells,
            lsds_dataset="lsds",
            dtype="float32",
            block_size=data.draw(block_sizes(shape)),
            **options,
        )
        expected = ld.local_shape_descriptors(labels, voxel_size=voxel_size, **options)
        found = ld.open_volume(cells / "lsds").values
        assert np.array_equal(found.view(np.uint32), expected.view(np.uint32))


# What is far from everything
