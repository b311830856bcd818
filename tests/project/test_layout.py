"""The shape of the house: who may import whom, how long a module may be, and what an import may do."""

import ast
import json
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from textwrap import dedent

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {"lsd_dask": ROOT / "lsd_dask", "lsd_dask.workflows": ROOT / "workflows"}

#: The packages from the ground up: one imports only what is below it. Single modules are among them.
FLOORS = (
    "kernels",
    "checks",
    "space",
    "storage",
    "blockwise",
    "clusters",
    "volumes",
    "targets",
    "gunpowder",
    "segmentation",
    "synthetic",
    "networks",
    "viewing",
    "evaluation",
    "prediction",
    "training",
    "viewer",
    "workflows.config",
    "workflows.running",
    "workflows.graph",
    "workflows.reports",
    "workflows.step",
    "workflows.steps",
    "workflows.registry",
    "workflows.planning",
    "workflows",
    "cli",
)
#: What runs the work and what makes the pictures knows nothing of neurons.
APART = ("blockwise", "clusters", "storage", "volumes", "viewing")
NEURONS = ("targets", "segmentation", "evaluation", "networks")
#: All that kernels are made of.
KERNEL_IMPORTS = {"numpy", "numba", "llvmlite", "filelock"}


@cache
def modules() -> dict[str, Path]:
    """Every module of the package by its name."""
    found = {}
    for package, directory in PACKAGES.items():
        for path in directory.rglob("*.py"):
            parts = path.relative_to(directory).with_suffix("").parts
            found[".".join((package, *parts)).removesuffix(".__init__")] = path
    return found


@cache
def imports(module: str) -> set[str]:
    """What a module imports, by full name, wherever in the file; within the package, the modules alone."""
    path = modules()[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            levels = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            source = ".".join([*levels, *([node.module] if node.module else [])])
            names |= {
                name if (name := f"{source}.{alias.name}") in modules() else source for alias in node.names
            }
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            names |= {arg.value for arg in node.args if isinstance(arg, ast.Constant)}
    return names - {module}


@cache
def reached_from(module: str) -> set[str]:
    """All modules of the package that a module imports, and those that these import."""
    reached, waiting = set(), [module]
    while waiting:
        new = (imports(waiting.pop()) & modules().keys()) - reached
        reached |= new
        waiting += new
    return reached


def within(module: str, name: str) -> bool:
    return module == f"lsd_dask.{name}" or module.startswith(f"lsd_dask.{name}.")


def floor_of(module: str) -> str:
    """The package that a module belongs to; the innermost of those that are told apart."""
    return max((floor for floor in FLOORS if within(module, floor)), key=len)


def test_imports_are_found() -> None:
    """Or else the tests below hold nothing."""
    assert "lsd_dask.kernels.segmentation.morton" in imports("lsd_dask.segmentation.ids")
    assert "lsd_dask.kernels.compiling" in imports("lsd_dask.kernels.segmentation.morton")
    assert "lsd_dask.space.grids" in reached_from("lsd_dask.volumes.saving")
    assert "lsd_dask.workflows.config.fields" in reached_from("lsd_dask.cli.main")
    # By `importlib`, so that its help does not wait for what its commands need.
    assert "lsd_dask.workflows.planning" in imports("lsd_dask.cli.tools")


def test_each_module_is_in_a_package() -> None:
    assert {floor_of(module) for module in modules() if module != "lsd_dask"} == set(FLOORS)


@pytest.mark.parametrize("floor", FLOORS)
def test_a_package_imports_only_packages_below_it(floor: str) -> None:
    below = FLOORS[: FLOORS.index(floor) + 1]
    for module in modules():
        if module != "lsd_dask" and floor_of(module) == floor:
            others = imports(module) & modules().keys() - {"lsd_dask"}
            assert not {name for name in others if floor_of(name) not in below}, module


@pytest.mark.parametrize("name", APART)
def test_what_runs_the_work_knows_nothing_of_neurons(name: str) -> None:
    for module in filter(lambda module: within(module, name), modules()):
        wrong = {other for other in reached_from(module) for known in NEURONS if within(other, known)}
        assert not wrong, f"{module} imports from the data flow"


def test_no_modules_import_each_other() -> None:
    graph = {module: imports(module) & modules().keys() for module in modules()}
    TopologicalSorter(graph).prepare()


def test_kernels_are_made_of_numpy_and_numba() -> None:
    for module in modules():
        if within(module, "kernels"):
            for name in imports(module):
                root = name.partition(".")[0]
                assert within(name, "kernels") or root in KERNEL_IMPORTS | sys.stdlib_module_names, (
                    module,
                    name,
                )


def test_kernels_load_neither_dask_nor_xarray() -> None:
    kernels = [module for module in modules() if within(module, "kernels")]
    # The package itself may import what it likes, so that an empty one stands in for it.
    run_python(
        f"""
        import importlib, sys, types
        package = types.ModuleType("lsd_dask")
        package.__path__ = [{str(PACKAGES["lsd_dask"])!r}]
        sys.modules["lsd_dask"] = package
        for name in {kernels!r}:
            importlib.import_module(name)
            loaded = {{"dask", "distributed", "xarray", "zarr"}} & sys.modules.keys()
            assert not loaded, f"{{name}} loads {{loaded}}"
        """
    )


def test_importing_the_package_has_no_side_effects() -> None:
    run_python(
        """
        import logging, multiprocessing, os, sys, threading
        environment = dict(os.environ)
        import lsd_dask
        assert not logging.root.handlers and not logging.getLogger("lsd_dask").handlers, "logging is set up"
        assert threading.enumerate() == [threading.main_thread()], "threads are started"
        assert not multiprocessing.active_children(), "processes are started"
        assert dict(os.environ) == environment, "the environment is changed"
        optional = {"torch", "gunpowder", "matplotlib", "neuroglancer", "dask_jobqueue", "s3fs", "gcsfs"}
        optional |= {"h5py", "mahotas", "edt"}
        assert not optional & sys.modules.keys(), f"{optional & sys.modules.keys()} are optional"
        """
    )


@pytest.mark.parametrize("module", modules())
def test_modules_are_short(module: str) -> None:
    assert len(modules()[module].read_text().splitlines()) <= 500


def test_notebooks_are_committed_without_outputs() -> None:
    for path in (ROOT / "notebooks").rglob("*.ipynb"):
        cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
        for number, cell in enumerate(cells, start=1):
            clean = not cell["outputs"] and cell["execution_count"] is None
            assert clean, f"{path.name}: code cell {number} holds outputs, clear them before committing"


def run_python(program: str) -> None:
    """Run a program in an interpreter of its own, where warnings are errors as here."""
    command = [sys.executable, "-W", "error", "-c", dedent(program)]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
