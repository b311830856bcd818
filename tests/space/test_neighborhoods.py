"""Channels in any order, of either sign, with others among them: the same fragments, bit for bit."""

from pathlib import Path
from typing import Any

import dask.array as da
import h5py
import numpy as np
import pytest
import xarray as xr
import zarr
from distributed import Client
from hypothesis import given, settings
from hypothesis import strategies as st

import lsd_dask as ld
from lsd_dask import workflows
from lsd_dask.space.neighborhoods import Direct, DirectReader, direct_for, on_coarser_level
from lsd_dask.volumes.overlap import StoredReader, readers_of
from lsd_dask.volumes.saving import find_stored

from ..helpers.refusals import refused
from ..helpers.strategies import chunkings, label_volumes, regions, shapes
from ..helpers.tissue import tissue

type Neighborhood = list[list[int]]

FORWARD: Neighborhood = [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
MIXED: Neighborhood = [[0, 0, 1], [0, -5, 0], [-1, 0, 0], [3, 0, 2], [0, 1, 0]]
OPTIONS: list[dict[str, Any]] = [
    {},
    {"method": "seeded", "min_seed_distance": 3, "context": (60, 60, 60)},
    {"filter_fragments": 0.5, "epsilon_agglomerate": 0.3, "remove_debris": 3},
    {"fragments_in_xy": True},
    {"replace_sections": [1]},
]


@st.composite
def arrangements(draw: st.DrawFn, ndim: int) -> Neighborhood:
    """Direct neighbours before or after each voxel, in any order, and some others among them."""
    signs = draw(st.lists(st.sampled_from([-1, 1]), min_size=ndim, max_size=ndim))
    direct = (np.eye(ndim, dtype=int) * np.array(signs)[:, None]).tolist()
    step = st.lists(st.integers(-3, 3), min_size=ndim, max_size=ndim)
    others = step.filter(lambda offset: any(offset) and offset not in direct)
    return draw(st.permutations([*direct, *draw(st.lists(others, max_size=3, unique_by=tuple))]))


@st.composite
def problems(draw: st.DrawFn) -> tuple[np.ndarray, Neighborhood, dict[str, Any]]:
    labels = draw(label_volumes(draw(shapes(5, 6, 7) | shapes(8, 9))))
    options = draw(st.sampled_from(OPTIONS))
    if labels.ndim == 2:
        options = {k: v for k, v in options.items() if k not in ("fragments_in_xy", "context")}
    if len(labels) < 2:
        options = {k: v for k, v in options.items() if k != "replace_sections"}
    return labels, draw(arrangements(labels.ndim)), options


def tissue_labels() -> np.ndarray:
    return tissue().labels.values[:30, :40, :44]


def as_volume(values: np.ndarray, chunks: Any = None) -> xr.DataArray:
    return xr.DataArray(values, dims=("channel", "z", "y", "x")[-values.ndim :]).chunk(chunks or {})


@settings(max_examples=60)
@given(problems(), st.data())
def test_fragments_do_not_know_how_channels_are_arranged(problem: Any, data: st.DataObject) -> None:
    labels, neighborhood, options = problem
    mask = data.draw(st.none() | label_volumes(labels.shape))
    options = {**options, **({} if mask is None else {"mask": mask > 0})}
    expected = ld.extract_fragments(ld.affinities(labels), **options)
    affinities = ld.affinities(labels, neighborhood)
    found = ld.extract_fragments(affinities, neighborhood=neighborhood, **options)
    np.testing.assert_array_equal(found, expected, strict=True)
    if options.get("method") == "seeded":
        # A context of all there is.
        options["context"] = labels.shape
    chunks = (len(neighborhood), *data.draw(chunkings(labels.shape)))
    options.setdefault("context", (60,) * labels.ndim)
    lazy = ld.extract_fragments(
        da.from_array(affinities, chunks=chunks), neighborhood=neighborhood, **options
    )
    np.testing.assert_array_equal(lazy.compute(scheduler="synchronous"), expected, strict=True)


@settings(max_examples=60)
@given(problems())
def test_graphs_do_not_know_it_either(problem: Any) -> None:
    labels, neighborhood, _ = problem
    direct = [offset for offset in neighborhood if sum(map(abs, offset)) == 1][: labels.ndim]
    if len({tuple(map(abs, offset)) for offset in direct}) < labels.ndim:
        return
    expected = ld.build_region_graph(ld.affinities(labels), labels)
    found = ld.build_region_graph(ld.affinities(labels, direct), labels, direct)
    for name in ("u", "v", "counts", "contacts", "sums", "maxima", "starts", "bins", "bin_counts"):
        np.testing.assert_array_equal(getattr(found.edges, name), getattr(expected.edges, name), strict=True)


@settings(max_examples=40)
@given(st.data())
def test_any_box_of_any_part_reads_the_affinity_to_the_voxel_before(data: st.DataObject) -> None:
    """By the definition; also where a part of a stored volume begins, before which there are more voxels."""
    labels = data.draw(label_volumes(data.draw(shapes(5, 6, 7) | shapes(8, 9))))
    neighborhood = data.draw(arrangements(labels.ndim))
    expected = ld.affinities(labels)
    stored = find_stored(saved(labels, neighborhood, "memory://direct.zarr/affs"))
    assert stored is not None
    part = data.draw(regions(labels.shape))
    within = data.draw(regions([s.stop - s.start for s in part]))
    direct = direct_for(tuple(map(tuple, neighborhood)), labels.shape)
    found = DirectReader(StoredReader(stored[0], part), direct).read(within)
    box = tuple(slice(p.start + s.start, p.start + s.stop) for p, s in zip(part, within, strict=True))
    np.testing.assert_array_equal(found, expected[(slice(None), *box)], strict=True)


def saved(labels: np.ndarray, neighborhood: Neighborhood, path: str) -> xr.DataArray:
    volume = xr.DataArray(labels, dims=("z", "y", "x")[-labels.ndim :])
    ld.save_volume(ld.affinities(volume, neighborhood), path, overwrite=True)
    return ld.open_volume(path)


def test_the_usual_channels_are_not_copied() -> None:
    values = np.zeros((5, 4, 5, 6), np.uint8)
    (reader,) = readers_of([values], [True])
    whole = (slice(0, 4), slice(0, 5), slice(0, 6))
    usual = DirectReader(reader, Direct((0, 1, 2), (False,) * 3)).read(whole)
    assert np.shares_memory(usual, values)
    assert len(usual) == 3


# What is said and what is stored


@pytest.mark.parametrize("neighborhood", [FORWARD, MIXED], ids=["forward", "mixed"])
def test_data_arrays_say_what_their_channels_join(neighborhood: Neighborhood, tmp_path: Path) -> None:
    labels = tissue_labels()
    expected = ld.extract_fragments(ld.affinities(labels))
    volume = ld.affinities(as_volume(labels), neighborhood)
    assert volume.attrs["neighborhood"] == neighborhood
    ld.save_volume(volume, tmp_path / "a.zarr/affs", block_shape=(16, 16, 16))
    assert dict(zarr.open(tmp_path / "a.zarr/affs").attrs)["neighborhood"] == neighborhood
    stored = ld.open_volume(tmp_path / "a.zarr/affs")
    assert stored.attrs["neighborhood"] == neighborhood
    # The volume; what dask makes of it; its channels in another order, and fewer of them.
    direct = [i for i, offset in enumerate(neighborhood) if sum(map(abs, offset)) == 1]
    for given_so in (volume, stored, stored.data, stored[::-1], stored.compute(), stored.compute()[direct]):
        fragments = ld.extract_fragments(given_so)
        np.testing.assert_array_equal(np.asarray(fragments), expected)
        assert "neighborhood" not in getattr(fragments, "attrs", {})
    graph = ld.build_region_graph(stored, ld.extract_fragments(stored))
    assert graph.edges.u.size
    part = stored.isel(channel=direct[::-1]).compute()
    ld.save_volume(part, tmp_path / "a.zarr/part")
    assert ld.open_volume(tmp_path / "a.zarr/part").attrs["neighborhood"] == [
        neighborhood[i] for i in direct[::-1]
    ]


@pytest.mark.parametrize("name", ["a2.zarr/affs", "a3.zarr/affs", "a.h5/affs", "a.n5/affs", "precomputed"])
def test_every_format_keeps_it(name: str, tmp_path: Path) -> None:
    path = f"precomputed://{tmp_path}/a" if name == "precomputed" else f"{tmp_path}/{name}"
    volume = ld.affinities(as_volume(tissue_labels()), MIXED, dtype="uint8")
    options = {"zarr_format": int(name[1])} if name.startswith(("a2", "a3")) else {}
    ld.save_volume(volume, path, **options)
    opened = ld.open_volume(path)
    assert opened.attrs["neighborhood"] == MIXED
    np.testing.assert_array_equal(opened, volume)
    ld.save_volume(opened, tmp_path / "copy.zarr/affs")
    assert ld.open_volume(tmp_path / "copy.zarr/affs").attrs["neighborhood"] == MIXED


def test_what_is_said_and_what_is_stored_have_to_agree(tmp_path: Path) -> None:
    labels = as_volume(tissue_labels())
    volume = ld.affinities(labels, FORWARD)
    ld.save_volume(volume, tmp_path / "a.zarr/affs")
    for affinities in (volume, ld.open_volume(tmp_path / "a.zarr/affs")):
        for call in (
            lambda given_so=affinities, **options: ld.extract_fragments(given_so, **options),
            lambda given_so=affinities, **options: ld.build_region_graph(given_so, labels, **options),
        ):
            call(neighborhood=FORWARD)
            with pytest.raises(
                ValueError, match=r"\[\[-1, 0, 0\], .*says \[\[1, 0, 0\], .*expected the same"
            ):
                call(neighborhood=(-np.eye(3, dtype=int)).tolist())
    with pytest.raises(ValueError, match=r"'neighborhood'.*found 3 offsets.*for each of 2 channels"):
        ld.save_volume(volume[:2].drop_vars("channel"), tmp_path / "a.zarr/two")
    assert not (tmp_path / "a.zarr/two").exists()
    # A channel by itself is no affinities.
    ld.save_volume(volume[0], tmp_path / "a.zarr/one")
    assert "neighborhood" not in ld.open_volume(tmp_path / "a.zarr/one").attrs


def test_sections_need_no_neighbour_along_z() -> None:
    labels = tissue_labels()
    neighborhood = [[0, 0, 1], [0, -1, 0]]
    affinities = ld.affinities(labels, neighborhood)
    found = ld.extract_fragments(affinities, neighborhood=neighborhood, fragments_in_xy=True)
    expected = ld.extract_fragments(ld.affinities(labels), fragments_in_xy=True)
    np.testing.assert_array_equal(found, expected)
    for call in (
        lambda: ld.extract_fragments(affinities, neighborhood=neighborhood),
        lambda: ld.extract_fragments(
            affinities, neighborhood=neighborhood, fragments_in_xy=True, remove_debris=9
        ),
        lambda: ld.build_region_graph(affinities, found, neighborhood),
    ):
        with pytest.raises(ValueError, match="without a direct neighbour along z; expected a channel"):
            call()


def test_direct_neighbours_are_the_same_at_a_coarser_level() -> None:
    assert on_coarser_level(FORWARD) == FORWARD
    assert on_coarser_level(MIXED) is None
    assert on_coarser_level(None) is None


# On disk


@pytest.fixture
def container(tmp_path: Path) -> Path:
    """Affinities of the same labels, arranged as usual and otherwise."""
    labels = as_volume(tissue_labels())
    for name, neighborhood in {"usual": None, "forward": FORWARD, "mixed": MIXED}.items():
        volume = ld.affinities(labels, neighborhood, dtype="uint8")
        ld.save_volume(volume, tmp_path / f"a.zarr/{name}", block_shape=(16, 16, 16))
    return tmp_path / "a.zarr"


def test_a_run_gives_the_same_segmentation(cluster_client: Client, container: Path, tmp_path: Path) -> None:
    """In blocks, of a part that begins within the volume, with decisions about whole fragments."""
    given_all: dict[str, Any] = {
        "affs_file": container,
        "threshold": 0.4,
        "block_size": (16, 16, 16),
        "roi_offset": (3, 5, 2),
        "roi_shape": (27, 33, 40),
        "filter_fragments": 0.6,
        "epsilon_agglomerate": 0.1,
        "remove_debris": 40,
    }
    made = {
        name: workflows.segment(given_all, affs_dataset=name, out_file=tmp_path / f"{name}.zarr")
        for name in ("usual", "forward", "mixed")
    }
    expected = made["usual"].outputs
    for name in ("forward", "mixed"):
        fragments = ld.open_volume(made[name].outputs["fragments"]).values
        np.testing.assert_array_equal(fragments, ld.open_volume(expected["fragments"]).values, strict=True)
    found, usual = (ld.open_volume(made[name].path).values for name in ("forward", "usual"))
    np.testing.assert_array_equal(found, usual, strict=True)


def test_another_neighborhood_makes_fragments_anew(cluster_client: Client, container: Path) -> None:
    given_all = {"affs_file": container, "affs_dataset": "forward", "fragments_file": container}
    workflows.extract_fragments(given_all)
    assert workflows.extract_fragments(given_all, neighborhood=FORWARD).skipped == 1
    zarr.open(container / "forward", mode="r+").attrs["neighborhood"] = [[-1, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert workflows.extract_fragments(given_all).skipped == 0


@pytest.mark.parametrize(
    ("stated", "option", "parts"),
    [
        (FORWARD, (-np.eye(3, dtype=int)).tolist(), ("[[-1, 0, 0]", "[[1, 0, 0]", "expected the same")),
        (FORWARD[:2], None, ("found 2 offsets", "for each of 3 channels")),
        ([[1, 0, 0], [0, 1, 0], [0, 0, 2]], None, ("without a direct neighbour along x",)),
        ([[1, 0, 0], [0, 1, 0], [0, 1, 0]], None, ("found [0, 1, 0] twice",)),
        ("zyx", None, ("attribute 'neighborhood'", "found dtype <U3")),
        (None, [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 9]], ("found 4 offsets", "for each of 3 channels")),
    ],
    ids=["contradicts", "too few", "none along x", "twice", "words", "too many"],
)
def test_a_run_is_refused_before_any_work(stated: Any, option: Any, parts: Any, tmp_path: Path) -> None:
    values = np.zeros((3, 8, 8, 8), np.uint8)
    attributes = {} if stated is None else {"neighborhood": stated}
    path = tmp_path / "a.zarr/affs"
    ld.create_volume(path, values.shape, "uint8", attributes=attributes)
    given_all = {"affs_file": tmp_path / "a.zarr", "affs_dataset": "affs", "neighborhood": option}
    for step, more in (
        (workflows.segment, {"out_file": tmp_path / "o.zarr"}),
        (workflows.extract_fragments, {"fragments_file": tmp_path / "o.zarr"}),
    ):
        refused(
            tmp_path, lambda step=step, more=more: step(given_all, **more), (ValueError, TypeError), *parts
        )


def test_offsets_out_of_the_volume(tmp_path: Path) -> None:
    neighborhood = [*FORWARD, [0, -40, 0]]
    ld.create_volume(tmp_path / "a.zarr/volumes/affs", (4, 8, 8, 8), "uint8")
    given_all = {"affs_file": tmp_path / "a.zarr", "out_file": tmp_path / "o.zarr"}
    with pytest.raises(ValueError, match=r"affs: neighborhood: found \[0, -40, 0\], expected offsets that"):
        workflows.segment(given_all, neighborhood=neighborhood)


def test_hdf5_attributes_of_other_tools(tmp_path: Path) -> None:
    labels = tissue_labels()
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["affs"] = ld.affinities(labels, FORWARD)
        file["affs"].attrs["neighborhood"] = np.array(FORWARD, np.int32)
    found = ld.extract_fragments(ld.open_volume(tmp_path / "a.h5/affs"))
    np.testing.assert_array_equal(found, ld.extract_fragments(ld.affinities(labels)))


def test_a_pyramid_keeps_it_where_it_is_true(cluster_client: Client, container: Path) -> None:
    for name in ("forward", "mixed"):
        files = {"in_file": container, "in_dataset": name, "out_file": container, "out_dataset": f"{name}_s"}
        workflows.build_pyramid(files, levels=2)
        attributes = [ld.open_volume(container / f"{name}_s", level=level).attrs for level in range(3)]
        stated = [attrs.get("neighborhood") for attrs in attributes]
        assert stated == ([FORWARD] * 3 if name == "forward" else [MIXED, None, None])
