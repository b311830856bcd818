"""Clients of all kinds: clusters that have no worker until there is work, and clients that do not wait."""

import asyncio
from pathlib import Path

import numpy as np
import pytest
from distributed import Client, LocalCluster

from lsd_dask import open_volume, workflows
from lsd_dask.clusters.connecting import connect


def test_a_cluster_that_scales_with_the_work_is_not_waited_for(tissue_zarr: Path, tmp_path: Path) -> None:
    files = {"affs_file": str(tissue_zarr), "fragments_file": f"{tmp_path}/out.zarr"}
    with LocalCluster(n_workers=0, threads_per_worker=1, dashboard_address=":0") as cluster:
        cluster.adapt(minimum=0, maximum=1, interval="100 ms", wait_count=2)
        with Client(cluster):
            workflows.extract_fragments(**files)
            workflows.agglomerate(**files)
    assert np.asarray(open_volume(f"{tmp_path}/out.zarr/volumes/fragments")).any()


def test_a_client_that_does_not_wait_is_refused(tissue_zarr: Path, tmp_path: Path) -> None:
    async def step() -> None:
        async with Client(asynchronous=True, processes=False, n_workers=1, dashboard_address=":0"):
            workflows.extract_fragments(affs_file=str(tissue_zarr), fragments_file=f"{tmp_path}/out.zarr")

    with pytest.raises(RuntimeError, match="found an active dask client that is asynchronous"):
        asyncio.run(step())
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="asynchronous: found True"):
        connect("local", asynchronous=True)
