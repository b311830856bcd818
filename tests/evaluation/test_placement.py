"""Skeletons in other units than the volume: told by files or an option, or betrayed by their places."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsd_dask.evaluation import Skeletons, check_placement, labels_at, read_skeletons
from lsd_dask.space.grids import Grid
from lsd_dask.volumes.dask_arrays import label

GRID = Grid(("z", "y", "x"), (32, 32, 32), (16, 16, 16), (0, 0, 0), "nanometer")


def lines(count: int = 4, nodes: int = 30, step: float = 16.0) -> Skeletons:
    """Lines along x through a volume, a node in each voxel, in nanometers."""
    x = 8 + step * np.arange(nodes)
    positions = np.concatenate([np.stack([0 * x + 8 + 128 * k, 0 * x + 100, x], 1) for k in range(count)])
    rows = np.arange(count * nodes).reshape(count, nodes)
    edges = np.stack([rows[:, :-1], rows[:, 1:]], 2).reshape(-1, 2)
    return Skeletons(positions, edges)


def scaled(skeletons: Skeletons, factor: float) -> Skeletons:
    return skeletons.changed(positions=skeletons.positions * factor)


@given(factor=st.sampled_from([1e-3, 1e-6]), count=st.integers(1, 4), nodes=st.integers(8, 30))
def test_other_units_are_refused(factor: float, count: int, nodes: int) -> None:
    unit = {1e-3: "micrometer", 1e-6: "millimeter"}[factor]
    with pytest.raises(ValueError, match=rf"nodes in 1 voxel;.* in {unit} .*annotations_units"):
        check_placement(scaled(lines(count, nodes), factor), GRID)


def test_a_large_volume_in_other_units() -> None:
    """In one of 400 micrometers, they are 50 voxels long: too crowded all the same."""
    grid = Grid(("z", "y", "x"), (50_000,) * 3, (8, 8, 8), (0, 0, 0), "nanometer")
    skeletons = scaled(lines(4, 4000, step=100), 1e-3)
    with pytest.raises(ValueError, match="in micrometer they would lie in it"):
        check_placement(skeletons, grid)


@pytest.mark.parametrize(
    "skeletons",
    [
        lines(),
        lines(1, 3),
        scaled(lines(1, 3), 1e-3),  # too few to tell
        lines(4, 90, step=5.3),  # three nodes a voxel
        Skeletons(np.full((20, 3), 8.0) + np.arange(20)[:, None] / 100, np.empty((0, 2))),  # single nodes
        lines(4, 3000, step=16.0),  # most of them beyond the volume
        Skeletons(np.empty((0, 3)), np.empty((0, 2))),
    ],
    ids=["lines", "few nodes", "few nodes in um", "dense", "single nodes", "beyond", "none"],
)
def test_what_may_be(skeletons: Skeletons) -> None:
    check_placement(skeletons, GRID)


def test_a_region_with_few_nodes_in_it() -> None:
    check_placement(lines(), GRID.crop((slice(0, 2), slice(6, 8), slice(3, 5))))


def test_nodes_that_are_merely_dense_are_told_of() -> None:
    """A hundred nodes in a voxel, over many voxels far from the corner: odd, and in no other unit better."""
    dense = lines(1, 1000, step=0.16)
    moved = dense.changed(positions=dense.positions + 300)
    with pytest.warns(UserWarning, match="1000 nodes in"):
        check_placement(moved, GRID)


def test_labels_at_tells_of_positions_in_other_units() -> None:
    volume = label(np.ones(GRID.shape, np.uint64), GRID)
    assert labels_at(volume, lines().positions).all()
    with pytest.warns(UserWarning, match="120 nodes in 1 voxel.* in micrometer"):
        labels_at(volume, lines().positions / 1000)


@given(
    units=st.sampled_from(["nm", "um", "mm", "angstrom", "m"]),
    to=st.sampled_from(["nanometer", "micrometer", "millimeter"]),
)
def test_skeletons_of_any_unit_meet_a_volume_of_any(units: str, to: str) -> None:
    there = lines().in_units_of(GRID)
    told = there.in_units_of(GRID.told_in(units))
    volume = label(np.arange(32**3, dtype=np.uint64).reshape(32, 32, 32), GRID.told_in(to))
    positions = told.in_units_of(GRID.told_in(to)).positions
    plain = label(volume.values, GRID)
    np.testing.assert_array_equal(labels_at(volume, positions), labels_at(plain, lines().positions))
    assert told.inside(GRID).all()


class TestFiles:
    def swc(self, folder: Path, comment: str, factor: float, name: str = "a.swc") -> str:
        rows = [f"{i + 1} 0 {8 * factor + i} 1 2 1 {i or -1}" for i in range(3)]
        (folder / name).write_text("\n".join([comment, *rows]))
        return str(folder / name)

    @pytest.mark.parametrize(
        ("comment", "step", "units"),
        [
            ("# units: um", 1, "micrometer"),
            ('# Meta: {"name": "a", "units": "8 nanometer"}', 8, "nanometer"),
            ("# Units = Microns, as traced", 1, "micrometer"),
            ("# written by hand", 1, None),
            ("# units: see the paper", 1, None),
        ],
    )
    def test_swc_may_say_it(self, tmp_path: Path, comment: str, step: float, units: str | None) -> None:
        path = self.swc(tmp_path, comment, 1)
        found = read_skeletons(path)
        assert found.units == units
        assert found.positions[0].tolist() == [2 * step, step, 8 * step]
        told = read_skeletons(path, units="nm", scale=2)
        assert told.units == "nm" and told.positions[0].tolist() == [4, 2, 16]

    def test_files_of_a_folder_that_differ(self, tmp_path: Path) -> None:
        self.swc(tmp_path, "# units: um", 1)
        self.swc(tmp_path, "# units: nm", 1, "b.swc")
        with pytest.raises(ValueError, match=r"b\.swc: units: found .*nanometer.*micrometer"):
            read_skeletons(str(tmp_path))

    @pytest.mark.parametrize("where", ["top", "graph"])
    def test_json_may_say_it(self, tmp_path: Path, where: str) -> None:
        said = {"units": "um"} if where == "top" else {"graph": {"units": "um"}}
        nodes = [{"id": i, "z": 0.1, "y": 0.2, "x": 0.3 + i} for i in range(2)]
        path = tmp_path / "a.json"
        path.write_text(json.dumps({"nodes": nodes, "edges": [{"source": 0, "target": 1}], **said}))
        found = read_skeletons(str(path)).in_units_of(GRID)
        assert found.positions[0].tolist() == [100, 200, 300] and found.lengths == {1: 1000.0}

    def test_json_with_another_unit(self, tmp_path: Path) -> None:
        path = tmp_path / "a.json"
        path.write_text(
            json.dumps({"nodes": [{"id": 1, "z": 0, "y": 0, "x": 0}], "edges": [], "units": "ell"})
        )
        with pytest.raises(ValueError, match=r"a\.json: units: found 'ell'"):
            read_skeletons(str(path))


def test_a_volume_without_units() -> None:
    unknown = Grid(GRID.dims, GRID.shape, (1, 1, 1), (0, 0, 0), "voxel")
    with pytest.raises(ValueError, match="nanometer and in voxel"):
        lines().in_units_of(GRID).in_units_of(unknown)
    assert lines(1, 3).in_units_of(unknown).units == "voxel"
