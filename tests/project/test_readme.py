"""What README and documentation say is true: programs run, commands parse, tables of keys match, links lead
somewhere.
"""

import contextlib
import io
import re
import shlex
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import tifffile
from distributed import Client

from lsd_dask import save_volume, synthetic, workflows
from lsd_dask.cli.main import main
from lsd_dask.workflows.config.options import OBSOLETE_KEYS, Config
from lsd_dask.workflows.config.steps import STEPS

from ..helpers.steps import workflow_that
from .test_layout import FLOORS

ROOT = Path(__file__).parents[2]
#: Of each package, beside its code.
PAGES_OF_PACKAGES = sorted(
    page for package in ("lsd_dask", "workflows") for page in (ROOT / package).rglob("README.md")
)
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *PAGES_OF_PACKAGES,
]


class Block(NamedTuple):
    """A fenced block: its language, the line before it, its place in the file, and its text."""

    language: str
    announced: str
    line: int
    text: str


def blocks_of(document: Path, *languages: str) -> list[Block]:
    text = document.read_text()
    found = []
    for match in re.finditer(r"^```(\w*)\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL):
        before = text[: match.start()].rstrip()
        announced = before.rpartition("\n")[2]
        block = Block(match[1], announced, text[: match.start(2)].count("\n"), match[2])
        found += [block] if block.language in languages else []
    return found


def with_blocks(*languages: str) -> Any:
    documents = [document for document in DOCUMENTS if blocks_of(document, *languages)]
    return pytest.mark.parametrize("document", documents, ids=lambda path: path.name)


@pytest.fixture(scope="module")
def container(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The volumes that the documentation talks of."""
    path = tmp_path_factory.mktemp("volumes") / "volume.zarr"
    tissue = synthetic.neuropil((40, 40, 40), chunks=40)
    names = {"raw": "volumes/raw", "affinities": "volumes/affs", "labels": "volumes/labels/neuron_ids"}
    for name, dataset in names.items():
        save_volume(tissue[name], path / dataset)
    write_sections(tissue["raw"].values, path.parent / "sections")
    write_sections(tissue["labels"].values.astype("uint16"), path.parent / "labels")
    return path


def write_sections(voxels: np.ndarray, folder: Path) -> None:
    folder.mkdir()
    for z, section in enumerate(voxels):
        tifffile.imwrite(folder / f"section{z}.tif", section)


@pytest.fixture
def folder(container: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with those volumes."""
    shutil.copytree(container.parent, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@with_blocks("python")
def test_programs_run(document: Path, folder: Path, cluster_client: Client) -> None:
    names: dict[str, Any] = {}
    for block in blocks_of(document, "python"):
        # Blank lines before it, so that tracebacks show the line of the document.
        exec(compile("\n" * block.line + block.text, document, "exec"), names)


class TestCommands:
    @pytest.fixture
    def steps(self, monkeypatch: pytest.MonkeyPatch) -> list[Config]:
        """Steps that do nothing but note what they were asked to do."""
        noted: list[Config] = []
        for model in STEPS:
            monkeypatch.setattr(workflows, model.step, workflow_that(noted.append, model), raising=False)
        return noted

    @with_blocks("sh")
    def test_commands_are_understood(self, document: Path, folder: Path, steps: list[Config]) -> None:
        for block in blocks_of(document, "json", "yaml"):
            for name in re.findall(rf"`([\w-]+\.{block.language})`", block.announced):
                (folder / name).write_text(block.text)
        for command in commands_of(document):
            arguments, _, target = command.partition(">")
            output = io.StringIO()
            with contextlib.redirect_stdout(output):
                assert exit_code(shlex.split(arguments, comments=True)[1:]) == 0, command
            assert output.getvalue() or steps, command
            if target:
                (folder / shlex.split(target, comments=True)[0]).write_text(output.getvalue())
            steps.clear()

    def test_commands_are_looked_at(self) -> None:
        assert len(list(commands_of(ROOT / "README.md"))) >= 6
        assert len(list(commands_of(ROOT / "docs" / "workflows.md"))) >= 6

    def test_targets_of_make_exist(self) -> None:
        targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
        for document in DOCUMENTS:
            for block in blocks_of(document, "sh"):
                assert set(re.findall(r"^make (\w+)", block.text, flags=re.MULTILINE)) <= targets, document

    def test_extras_exist(self) -> None:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        for document in DOCUMENTS:
            for extras in re.findall(r"pip install \S*\[([\w,]+)\]", document.read_text()):
                assert set(extras.split(",")) <= project["optional-dependencies"].keys(), document


def exit_code(arguments: list[str]) -> Any:
    try:
        return main(arguments)
    except SystemExit as end:  # after --help, and for options that do not exist
        return end.code


def commands_of(document: Path) -> Iterator[str]:
    for block in blocks_of(document, "sh"):
        yield from (line for line in block.text.splitlines() if line.startswith("lsd-dask "))


class TestKeys:
    """The tables of keys in docs/workflows.md."""

    documented = (ROOT / "docs" / "workflows.md").read_text()

    def table(self, heading: str) -> dict[str, str]:
        section = self.documented.partition(f"\n### {heading}\n")[2].partition("\n#")[0]
        return dict(re.findall(r"^\| `(\w+)` \| (?:`([^`]*)` )?\|", section, flags=re.MULTILINE))

    @pytest.mark.parametrize("model", STEPS, ids=lambda model: model.step)
    def test_tables_have_every_key_and_its_default(self, model: type[Config]) -> None:
        for heading, keys in model.sections():
            assert self.table(heading) == {key: default_of(model, key) for key in keys}, heading

    @pytest.mark.parametrize("model", STEPS, ids=lambda model: model.step)
    def test_steps_point_to_their_tables(self, model: type[Config]) -> None:
        section = self.documented.partition(f"\n### {model.step}\n")[2].partition("\n#")[0]
        linked = re.findall(r"\[([^]]+)\]\(#[\w-]+\)", section.partition("Keys:")[2])
        assert sorted(linked) == sorted(heading for heading, _ in model.sections())

    def test_keys_without_meaning_are_listed(self) -> None:
        listed = (ROOT / "docs" / "coming_from_lsd.md").read_text()
        assert not [key for key in OBSOLETE_KEYS if f"`{key}`" not in listed]


def default_of(model: type[Config], key: str) -> str:
    """A default as a configuration file has it; nothing for none."""
    field = model.model_fields[key]
    match None if field.is_required() else field.default:
        case None:
            return ""
        case bool() as flag:
            return str(flag).lower()
        case tuple() as numbers:
            return f"[{', '.join(f'{n:g}' for n in numbers)}]"
        case float() as number:
            return f"{number:g}"
        case value:
            return str(value)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text()):
        path, _, anchor = target.partition("#")
        if "://" in path:
            continue
        linked = document.parent / path if path else document
        assert linked.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", linked.read_text(), flags=re.MULTILINE)
            anchors = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
            assert anchor in anchors, target


@pytest.mark.parametrize("page", PAGES_OF_PACKAGES, ids=lambda page: str(page.parent.relative_to(ROOT)))
def test_packages_describe_each_of_their_modules(page: Path) -> None:
    """Modules of a folder without a page of its own are on the next page above, as `folder.module`."""
    text = page.read_text()
    tables = re.findall(r"^\| module \| subject \|\n\|---\|---\|\n((?:\|.*\n?)+)", text, flags=re.MULTILINE)
    first_columns = re.findall(r"^\|([^|]+)\|", "".join(tables), flags=re.MULTILINE)
    described = re.findall(r"`([\w.]+)`", "".join(first_columns))
    modules = {
        ".".join(path.relative_to(page.parent).with_suffix("").parts)
        for path in page.parent.rglob("*.py")
        if path.name != "__init__.py" and nearest_page(path) == page
    }
    assert sorted(described) == sorted(modules)


def nearest_page(path: Path) -> Path:
    """The README of the folder that a file lies in, or of the nearest one above."""
    return next(page for folder in path.parents if (page := folder / "README.md").exists())


def test_architecture_leads_to_every_package() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    linked = re.findall(r"\]\(\.\./([\w/]+/README\.md)\)", text)
    assert sorted(linked) == sorted(str(page.relative_to(ROOT)) for page in PAGES_OF_PACKAGES)
    picture = re.search(r"^```text\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    assert picture
    # From the top down.
    drawn = re.findall(r"^ *([\w.]+)  ", picture[1], flags=re.MULTILINE)
    assert drawn == list(reversed(FLOORS))


def test_pictures_are_small() -> None:
    for path in (ROOT / "docs" / "images").iterdir():
        assert path.stat().st_size < 200_000, path
