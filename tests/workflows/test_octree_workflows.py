"""A region graph added up and agglomerated in the cells of an octree: the files of one process."""

import io
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import dask.array as da
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from distributed import Client
from hypothesis import given
from hypothesis import strategies as st

import lsd_dask as ld
from lsd_dask import workflows
from lsd_dask.blockwise.blocks import Block
from lsd_dask.blockwise.runs import RunFailedError
from lsd_dask.segmentation.agglomeration import MergeTree
from lsd_dask.segmentation.region_graph import RegionGraph
from lsd_dask.segmentation.relabelling import RelabelRegion
from lsd_dask.storage import files, row_groups
from lsd_dask.storage.parquet import facts_of
from lsd_dask.workflows.graph import cells, contracting, counting, summing

from ..helpers.strategies import LARGE_IDS
from ..helpers.tissue import SHAPE, image, tissue


@pytest.fixture(scope="module", autouse=True)
def client() -> Iterator[Client]:
    with Client(
        n_workers=1, threads_per_worker=2, memory_limit="4GB", processes=False, dashboard_address=":0"
    ) as client:
        yield client


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Affinities and fragments, and what one process makes of them."""
    path = tmp_path_factory.mktemp("made") / "made.zarr"
    ld.save_volume(tissue().affinities.values, path / "volumes/affs")
    workflows.extract_fragments(affs_file=path, fragments_file=path)
    for name in ("hist_quant_75", "mean"):
        workflows.agglomerate(affs_file=path, fragments_file=path, merge_function=name, octree=False)
    return path


def copied(made: Path, out: Path) -> Path:
    ld.save_volume(ld.open_volume(made / "volumes/fragments"), out / "volumes/fragments")
    return out


def assert_same_tables(made: Path, out: Path, *names: str) -> None:
    for name in ("nodes", "edges", *(f"{table}_{n}" for n in names for table in ("merges", "edges"))):
        one, two = (pq.read_table(path / f"rag/{name}.parquet") for path in (made, out))
        assert one.schema.equals(two.schema), name
        facts = [facts_of(str(path / f"rag/{name}.parquet")) for path in (made, out)]
        # Each names its own run.
        assert all(fact.pop("mark")["run"] for fact in facts)
        assert facts[0] == facts[1]
        # Not `equals`: a score of NaN is as good as another.
        assert str(one.to_pylist()) == str(two.to_pylist()), name
    graph, expected = (RegionGraph.from_parquet(str(path / "rag")) for path in (out, made))
    assert graph.grid == expected.grid
    for name in names:
        MergeTree.from_parquet(str(out / f"rag/merges_{name}.parquet"))


@pytest.mark.parametrize(("side", "depth"), [(88, 0), (44, 1), (24, 2), ((16, 72, 88), 2), ((10, 72, 88), 3)])
def test_cells_of_any_size(made: Path, tmp_path: Path, side: Any, depth: int) -> None:
    out = copied(made, tmp_path / "out.zarr")
    size = side if isinstance(side, tuple) else tuple(min(side, n) for n in SHAPE)
    for name in ("hist_quant_75", "mean"):
        result = workflows.agglomerate(
            affs_file=made, fragments_file=out, merge_function=name, block_size=size, octree=True
        )
        assert result.facts["cells"] > 0
        assert result.facts["MB at most in one of them"] > 0
    assert {path.name for path in (out / "rag/octree").iterdir()} == {str(n) for n in range(depth + 1)}
    assert_same_tables(made, out, "hist_quant_75", "mean")
    assert not list((out / "runs").rglob("*.npz"))


def test_long_affinities(made: Path, tmp_path: Path) -> None:
    """Those that reach beyond a fragment count for it, and make no edges of their own."""
    fragments = ld.open_volume(made / "volumes/fragments")
    offsets = [[-1, 0, 0], [0, -1, 0], [0, 0, -1], [0, 0, -9]]
    affinities = tissue().affinities.values[[0, 1, 2, 2]]
    ld.save_volume(affinities, tmp_path / "affs.zarr/volumes/affs")
    graph = ld.build_region_graph(affinities, fragments.values, offsets)
    workflows.agglomerate(
        affs_file=tmp_path / "affs.zarr",
        fragments_file=copied(made, tmp_path / "out.zarr"),
        block_size=(20, 20, 20),
        neighborhood=offsets,
        octree=True,
    )
    found = RegionGraph.from_parquet(str(tmp_path / "out.zarr/rag"))
    for field in ("u", "v", "counts", "contacts", "sums", "maxima", "starts", "bins", "bin_counts"):
        np.testing.assert_array_equal(getattr(found.edges, field), getattr(graph.edges, field))
    tree = MergeTree.from_parquet(str(tmp_path / "out.zarr/rag/merges_hist_quant_75.parquet"))
    expected = ld.agglomerate(graph)
    np.testing.assert_array_equal(tree.parents, expected.parents)
    np.testing.assert_array_equal(tree.levels, expected.levels)


def test_a_graph_that_one_process_counted(made: Path, tmp_path: Path) -> None:
    """It is divided, and then agglomerated in cells."""
    out = copied(made, tmp_path / "out.zarr")
    options = {"affs_file": made, "fragments_file": out, "block_size": (32, 32, 32)}
    workflows.agglomerate(**options, octree=False)
    result = workflows.agglomerate(**options, merge_function="mean", octree=True)
    assert (result.blocks, result.skipped) == (18, 18)
    assert result.facts["cells"] > 2 * 18
    assert_same_tables(made, out, "hist_quant_75", "mean")


def test_an_image(tmp_path: Path) -> None:
    affinities = image()[1]
    ld.save_volume(affinities, tmp_path / "flat.zarr/volumes/affs", voxel_size=(1, 1), offset=(0, 0))
    options = {"affs_file": tmp_path / "flat.zarr", "fragments_file": tmp_path / "flat.zarr"}
    workflows.extract_fragments(**options)
    result = workflows.agglomerate(**options, block_size=(20, 20), octree=True)
    graph = ld.build_region_graph(affinities, ld.open_volume(tmp_path / "flat.zarr/volumes/fragments").values)
    tree = MergeTree.from_parquet(result.outputs["merge tree"])
    np.testing.assert_array_equal(tree.levels, ld.agglomerate(graph).levels)
    np.testing.assert_array_equal(tree.parents, ld.agglomerate(graph).parents)


@pytest.mark.parametrize(
    ("task", "level"),
    [(summing.AddCell, 0), (summing.AddCell, 1), (contracting._Contract, 0), (contracting._Settle, 1)],
)
def test_going_on_after_an_interruption(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: Any, level: int
) -> None:
    """What is done stays done: only the rest is computed, and the files are the same."""
    out = copied(made, tmp_path / "out.zarr")
    options = {"affs_file": made, "fragments_file": out, "block_size": (44, 44, 44), "octree": True}
    computed: list[tuple[str, int, str]] = []
    for kind in (summing.AddCell, contracting._Contract, contracting._Settle):
        compute = kind.compute

        def counted(self: Any, cell: Block, compute: Any = compute) -> Any:
            computed.append((type(self).__name__, self.level, cell.name))
            if failing and isinstance(self, task) and (self.level, cell.name) == (level, "0_0_0"):
                raise OSError("the disk is gone")
            return compute(self, cell)

        monkeypatch.setattr(kind, "compute", counted)
    failing = True
    with pytest.raises(RunFailedError, match=r"(?s)1 of . blocks failed.*the disk is gone"):
        workflows.agglomerate(**options)
    assert not (out / "rag/merges_hist_quant_75.parquet").exists()
    before, failing = set(computed), False
    computed.clear()
    workflows.agglomerate(**options)
    assert set(computed) & before == {(task.__name__, level, "0_0_0")}
    assert len(set(computed) | before) == 3 * (8 + 1)
    assert_same_tables(made, out, "hist_quant_75")
    computed.clear()
    assert workflows.agglomerate(**options).skipped == 8
    assert computed == []


def test_killed_while_it_removes_the_tables_of_cells(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the tables removed before their records, the records were taken for done."""
    out = copied(made, tmp_path / "out.zarr")
    options = {"affs_file": made, "fragments_file": out, "block_size": (44, 44, 44), "octree": True}
    remove = files.remove

    def remove_some(path: str) -> None:
        of_cells = "agglomerate_cells" in path and path.endswith(("contract", "settle", "tables"))
        if not of_cells or not Path(path).exists():
            remove(path)
            return
        for one in sorted(Path(path).rglob("*.*"))[:9]:
            one.unlink()
        raise InterruptedError(path)

    with monkeypatch.context() as patch:
        patch.setattr(files, "remove", remove_some)
        with pytest.raises(InterruptedError):
            workflows.agglomerate(**options)
    (out / "rag/merges_hist_quant_75.parquet").unlink()
    workflows.agglomerate(**options)
    assert_same_tables(made, out, "hist_quant_75")


def test_where_no_process_can_hold_the_graph(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = copied(made, tmp_path / "out.zarr")
    monkeypatch.setattr(counting, "sum_fits", lambda size, limit: False)
    workflows.agglomerate(affs_file=made, fragments_file=out, block_size=(44, 44, 44))
    assert (out / "rag/octree/1/0_0_0/edges.parquet").exists()
    assert_same_tables(made, out, "hist_quant_75")


def test_cells_that_do_not_fit(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = copied(made, tmp_path / "out.zarr")
    monkeypatch.setattr(cells, "BASE", 10**10)
    with pytest.raises(RunFailedError, match=r"need about 10 GB, but a worker may use 1.6 GB"):
        workflows.agglomerate(affs_file=made, fragments_file=out, block_size=(44, 44, 44), octree=True)


def test_fragments_in_two_places(made: Path, tmp_path: Path) -> None:
    """They look complete in two cells: this is refused, not got wrong; one process takes them."""
    labels = ld.open_volume(made / "volumes/fragments").values
    boxes = np.s_[8:36, 8:36, 8:36], np.s_[8:36, 8:36, 52:80]
    inner = [np.unique(labels[box]) for box in boxes]
    outer = np.unique(np.concatenate([labels[..., 44:48].ravel(), labels[..., 40:44].ravel()]))
    one, two = (np.setdiff1d(ids, np.append(outer, 0))[0] for ids in inner)
    labels[labels == two] = one
    out = tmp_path / "out.zarr"
    ld.save_volume(labels, out / "volumes/fragments")
    options = {"affs_file": made, "fragments_file": out, "block_size": (44, 44, 44)}
    with pytest.raises(ValueError, match=rf"found fragment {one} more than once.*set octree to false"):
        workflows.agglomerate(**options, octree=True)
    assert workflows.agglomerate(**options, octree=False).skipped == 8


def test_all_steps(made: Path, tmp_path: Path) -> None:
    options = {"affs_file": made, "threshold": 0.4, "block_size": (44, 44, 44)}
    one = workflows.segment(out_file=tmp_path / "one.zarr", **options)
    two = workflows.segment(out_file=tmp_path / "two.zarr", octree=True, **options)
    np.testing.assert_array_equal(ld.open_volume(two.path).values, ld.open_volume(one.path).values)
    assert not [path for path in (tmp_path / "two.zarr/runs/agglomerate_cells").rglob("*") if path.is_file()]


def test_a_block_reads_its_part_of_a_lookup_table(made: Path, tmp_path: Path) -> None:
    """As ids are addresses, that is a small one."""
    rng = np.random.default_rng(0)
    side, each = 64, 16
    corners = np.stack(np.meshgrid(*[np.arange(0, side, 2)] * 3, indexing="ij"), -1).reshape(-1, 3)
    keys = np.sort(ld.ids.encode(corners))
    lut = ld.LookupTable(keys, rng.permutation(keys))
    path = str(tmp_path / "lut.parquet")
    table = pa.table({"fragment": lut.keys, "segment": lut.values})
    pq.write_table(table, path, row_group_size=100)
    assert sum(group.rows for group in row_groups.row_groups(path, "fragment")) == len(keys)
    fragments = np.zeros((side,) * 3, np.uint64)
    fragments[tuple(corners.T)] = ld.ids.encode(corners)
    region = (slice(each, 2 * each), slice(0, each), slice(2 * each, 3 * each))
    relabel = RelabelRegion(path)
    rows = relabel.rows_for(np.unique(fragments[region])[1:])
    assert each**3 // 8 <= len(rows) <= each**3 // 8 + 200
    np.testing.assert_array_equal(rows.values, [lut[int(key)] for key in rows.keys])
    found = ld.relabel(da.from_array(fragments, chunks=each), path)
    np.testing.assert_array_equal(found.compute(), ld.relabel(fragments, lut))
    # Another table at the same path is another table.
    ld.LookupTable(keys, keys).to_parquet(path)
    np.testing.assert_array_equal(ld.relabel(da.from_array(fragments, chunks=32), path).compute(), fragments)
    with pytest.raises(
        ValueError, match=f"lut.parquet: Fragment 2 is not in the .* of {len(keys)} fragments"
    ):
        ld.relabel(da.from_array(fragments + (fragments == 1), chunks=32), path).compute()


@given(st.sets(st.sampled_from([*range(1, 40), *LARGE_IDS]), min_size=1), st.data())
def test_tables_merge_to_a_sorted_one(ids: set[int], data: st.DataObject) -> None:
    """With row groups of any size; equal rows are refused."""
    directory = f"memory://{uuid.uuid4().hex}.zarr"
    out = f"{directory}/out.parquet"
    expected = sorted(ids)
    homes = [data.draw(st.integers(0, 4)) for _ in expected]
    parts = [[i for i, home in zip(expected, homes, strict=True) if home == number] for number in range(5)]

    def write(parts: list[list[int]]) -> list[str]:
        for number, part in enumerate(parts):
            buffer = io.BytesIO()
            lists = pa.array([[i] * (i % 4) for i in part], pa.large_list(pa.uint64()))
            table = pa.table({"id": np.array(part, np.uint64), "list": lists})
            pq.write_table(table, buffer, row_group_size=data.draw(st.integers(1, 7)))
            files.write_bytes(f"{directory}/{number}.parquet", buffer.getvalue())
        return [f"{directory}/{number}.parquet" for number in range(len(parts))]

    with mock.patch.object(row_groups, "_SORTED", data.draw(st.integers(1, 50))):
        paths = write([*parts, [expected[-1]]])
        with pytest.raises(ValueError, match=rf"out.parquet: found thing {expected[-1]} more than once"):
            row_groups.merge_tables(paths, out, "id", what="thing")
        assert not files.exists(out)
        assert row_groups.merge_tables(write(parts), out, "id", what="thing") == len(expected)
    table = pq.read_table(io.BytesIO(files.read_bytes(out)))
    assert table["id"].to_pylist() == expected
    assert table["list"].to_pylist() == [[i] * (i % 4) for i in expected]
