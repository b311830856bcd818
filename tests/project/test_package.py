"""What is shipped: a wheel that works on its own, and a conda environment and recipe in step with it."""

import re
import shutil
import site
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PACKAGES = {Path("lsd_dask"): ROOT / "lsd_dask", Path("lsd_dask", "workflows"): ROOT / "workflows"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy: what an earlier build left behind in the checkout would slip into it."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("lsd_dask", "workflows"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    built = tmp_path_factory.mktemp("built")
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", built, source)
    (wheel,) = built.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of an environment with the wheel, and its dependencies lent from this one."""
    directory = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", directory)
    python = directory / "bin" / "python"
    pip("--python", python, "install", "--no-deps", "--no-index", wheel)
    # A path in a .pth file is searched last, and .pth files found there (such as that of an editable install)
    # are not read.
    (packages,) = directory.glob("lib/python*/site-packages")
    (packages / "lent.pth").write_text("\n".join(site.getsitepackages()))
    return directory / "bin"


def test_the_wheel_holds_every_module_and_example_config(wheel: Path) -> None:
    expected = {
        (name / path.relative_to(directory)).as_posix()
        for name, directory in PACKAGES.items()
        for path in directory.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.name != "README.md"
    }
    with zipfile.ZipFile(wheel) as archive:
        shipped = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert shipped == expected


def test_workflows_come_from_the_wheel(environment: Path, tmp_path: Path) -> None:
    program = (
        "import lsd_dask; from lsd_dask import workflows; from importlib.resources import files;"
        "print(lsd_dask.__file__); print(workflows.__file__);"
        "print(*sorted(path.name for path in files('lsd_dask.workflows').joinpath('configs').iterdir()))"
    )
    package, workflows, configs = run(environment / "python", "-I", "-c", program, cwd=tmp_path).splitlines()
    assert Path(package).is_relative_to(environment.parent)
    assert Path(workflows) == Path(package).parent / "workflows" / "__init__.py"
    assert configs.split() == sorted(path.name for path in (ROOT / "workflows" / "configs").iterdir())


def test_the_command_line_is_installed(environment: Path, tmp_path: Path) -> None:
    assert PROJECT["version"] in run(environment / "lsd-dask", "--version", cwd=tmp_path)


def test_conda_has_the_same_dependencies() -> None:
    text = (ROOT / "environment.yml").read_text()
    conda = dict(re.findall(r"^  - ([\w-]+) ?(\S*)$", text, flags=re.MULTILINE))
    optional = PROJECT["optional-dependencies"]
    extras = [requirement for extra in CONDA_EXTRAS for requirement in optional[extra]]
    for name, version in conda_names(PROJECT["dependencies"] + extras).items():
        assert conda.get(name) == version, f"environment.yml should name {name} {version}"
    assert conda["python"] == PROJECT["requires-python"]


def test_the_conda_recipe_has_the_same_dependencies() -> None:
    recipe = yaml.safe_load((ROOT / "packaging" / "recipe.yaml").read_text())
    assert recipe["context"]["version"] == PROJECT["version"]
    requirements, optional = recipe["requirements"], PROJECT["optional-dependencies"]
    run = dict(requirement.split(" ") for requirement in requirements["run"])
    assert run == {"python": PROJECT["requires-python"], **conda_names(PROJECT["dependencies"])}
    constraints = dict(requirement.split(" ") for requirement in requirements["run_constraints"])
    assert constraints == conda_names([each for extra in CONDA_EXTRAS for each in optional[extra]])


#: Extras whose packages conda-forge has.
CONDA_EXTRAS = ("view", "cluster", "hdf5", "seeded")


def conda_names(requirements: list[str]) -> dict[str, str]:
    """Names on conda-forge, and versions, of requirements as pyproject.toml has them."""
    found = {}
    for requirement in requirements:
        name, version = re.fullmatch(r"([\w-]+)(?:\[.*\])?(.*)", requirement).groups()
        # conda-forge's matplotlib brings Qt along; its base does not.
        found[{"matplotlib": "matplotlib-base"}.get(name, name)] = version
    return found


def pip(*arguments: str | Path) -> None:
    run(sys.executable, "-m", "pip", "--quiet", *arguments)


def run(*command: str | Path, cwd: Path | None = None) -> str:
    ended = subprocess.run([*map(str, command)], capture_output=True, text=True, cwd=cwd)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout
