"""The command line: what it hands to the workflows, what it says, and how it exits."""

import io
import json
import re
import shlex
import subprocess
import sys
import sysconfig
from contextlib import nullcontext, redirect_stderr
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st

from lsd_dask import workflows
from lsd_dask.cli.main import FAILED, INTERRUPTED, WRONG_INPUT, main
from lsd_dask.workflows import step
from lsd_dask.workflows.config.loading import load_config
from lsd_dask.workflows.config.options import Config
from lsd_dask.workflows.config.steps import STEPS, FindSegmentsConfig, SegmentConfig

from ..helpers.steps import workflow_that

COMMANDS = {model.step.replace("_", "-"): model for model in STEPS}

#: A value for every key, other than its default, and the arguments that give it.
VALUES: dict[str, tuple[Any, list[str]]] = {
    "affs_file": ("my affs.zarr", ["my affs.zarr"]),
    "affs_dataset": ("affs", ["/affs"]),
    "fragments_file": ("f.zarr", ["f.zarr"]),
    "fragments_dataset": ("frags", ["frags"]),
    "out_file": ("o.zarr", ["o.zarr"]),
    "out_dataset": ("seg", ["seg"]),
    "segmentation_dataset": ("seg", ["seg"]),
    "gt_file": ("t.zarr", ["t.zarr"]),
    "edits": ("my edits.csv", ["my edits.csv"]),
    "in_file": ("my em.zarr", ["my em.zarr"]),
    "in_dataset": ("em", ["/em"]),
    "reduction": ("mode", ["mode"]),
    "levels": (3, ["3"]),
    "zarr_format": (2, ["2"]),
    "raw_file": ("my raw.zarr", ["my raw.zarr"]),
    "raw_dataset": ("em", ["/em"]),
    "checkpoint": ("net work.pt", ["net work.pt"]),
    "auto_file": ("first.zarr", ["first.zarr"]),
    "auto_dataset": ("lsds", ["lsds"]),
    "outputs": ("lsds", ["lsds"]),
    "base_dir": ("nets", ["nets"]),
    "experiment": ("hemi", ["hemi"]),
    "setup": ("setup01", ["setup01"]),
    "iteration": (400, ["400"]),
    "out_base": ("out", ["out"]),
    "file_name": ("o.zarr", ["o.zarr"]),
    "borders": ("valid", ["valid"]),
    "augmentation": ("mirrors", ["mirrors"]),
    "precision": ("bfloat16", ["bfloat16"]),
    "device": ("cpu", ["cpu"]),
    "labels_file": ("t.zarr", ["t.zarr"]),
    "labels_dataset": ("labels", ["labels"]),
    "lsds_file": ("l.zarr", ["l.zarr"]),
    "lsds_dataset": ("lsds", ["lsds"]),
    "sigma": ([80, 40, 40], ["80", "40", "40"]),
    "components": ("0129", ["0129"]),
    "mode": ("sphere", ["sphere"]),
    "downsample": (2, ["2"]),
    "dtype": ("float32", ["float32"]),
    "gt_dataset": ("labels", ["labels"]),
    "mask_file": ("m.zarr", ["m.zarr"]),
    "mask_dataset": ("mask", ["mask"]),
    "ignore_ids": ((3, 17), ["3", "17"]),
    "ignore_dust": (200, ["200"]),
    "boundary_tolerance": (20.5, ["20.5"]),
    "annotations_file": ("my skeletons", ["my skeletons"]),
    "annotations_skeletons_collection_name": ("finch", ["finch"]),
    "annotations_synapses_collection_name": ("synapses", ["synapses"]),
    "annotations_scale": (8, ["8"]),
    "annotations_units": ("micrometer", ["um"]),
    "node_components": ("components", ["components"]),
    "node_mask": ("mask", ["mask"]),
    "stray_nodes": (2, ["2"]),
    "compute_mincut_metric": (True, []),
    "runs": (("my a.parquet", "[b], c.parquet"), ["my a.parquet", "[b], c.parquet"]),
    "validation": (("d.parquet", "e.parquet"), ["d.parquet", "e.parquet"]),
    "names": (("A, B", "C"), ["A, B", "C"]),
    "metric": ("nid", ["nid"]),
    "method": ("seeded", ["seeded"]),  # a watershed, or the name of a network
    "height": ("distance", ["distance"]),
    "smoothing": (0.5, ["0.5"]),
    "anisotropic": (True, []),
    "min_seed_distance": (5, ["5"]),
    "context": ((40, 40, 40), ["40", "40", "40"]),
    "fragments_in_xy": (True, []),
    "epsilon_agglomerate": (0.1, ["0.1"]),
    "filter_fragments": (0.2, [".2"]),
    "remove_debris": (50, ["50"]),
    "replace_sections": ((3, 17), ["3", "17"]),
    "merge_function": ("mean", ["mean"]),
    "neighborhood": (((-1, 0, 0), (0, -1, 0)), ["[[-1, 0, 0], [0, -1, 0]]"]),
    "edges_collection": ("edges_mean", ["edges_mean"]),
    "run_type": ("testing", ["testing"]),
    "threshold": (0.4, ["0.4"]),
    "thresholds_minmax": ((0.1, 0.9), ["0.1", "0.9"]),
    "thresholds_step": (0.1, ["1e-1"]),
    "block_size": ((64, 640, 640), ["64", "640", "640"]),
    "roi_offset": ((-10, 0, 20.5), ["-10", "0", "20.5"]),
    "roi_shape": ((100, 100, 100), ["100", "100", "100"]),
    "num_workers": (3, ["3"]),
    "queue": ("slurm:long", ["slurm:long"]),
    "memory": ("8 GB", ["8 GB"]),
    "walltime": ("12:00", ["12:00"]),
    "job_extra_directives": (("-A my lab", "-C [a|b], c"), ["-A my lab", "-C [a|b], c"]),
    "verify": (True, []),
    "security": ("temporary", ["temporary"]),
    "performance_report": ("my report.html", ["my report.html"]),
    "report": ("a page.html", ["a page.html"]),
    "octree": (True, []),
    "resume": (False, []),
    "overwrite": (True, []),
    "volumes": (
        ({"raw_file": "a b.zarr"}, {"raw_file": "[c].zarr"}),
        ["a b.zarr", '{"raw_file": "[c].zarr"}'],
    ),
    "validation_volumes": (({"raw_file": "v.zarr"},), ["v.zarr"]),
    "out_dir": ("my network", ["my network"]),
    "kind": ("acrlsd", ["acrlsd"]),
    "preset": ("2d", ["2d"]),
    "lsd_checkpoint": ("lsd.pt", ["lsd.pt"]),
    "num_fmaps": (8, ["8"]),
    "fmap_inc_factor": (3, ["3"]),
    "output_shape": ((48, 56, 56), ["48", "56", "56"]),
    "lsd_sigma": (120, ["120"]),
    "lsd_downsample": (2, ["2"]),
    "checkpoint_every": (50, ["50"]),
    "keep_checkpoints": (True, []),
    "iterations": (300, ["300"]),
    "batch_size": (5, ["5"]),
    "learning_rate": (1e-4, ["1e-4"]),
    "decay": ("cosine", ["cosine"]),
    "seed": (7, ["7"]),
    "lsd_weight": (0.5, ["0.5"]),
    "balance": (False, []),
    "minimum_labelled": (0.2, ["0.2"]),
    "elastic_control_points": ((4, 40, 40), ["4", "40", "40"]),
    "elastic_jitter": ((0, 2, 2), ["0", "2", "2"]),
    "rotation": (90, ["90"]),
    "slip": (0.05, ["0.05"]),
    "shift": (0.05, ["0.05"]),
    "misalign": (10, ["10"]),
    "mirror": ((0, 1, 2), ["0", "1", "2"]),
    "transpose": ((1, 2), ["1", "2"]),
    "intensity_scale": ((0.9, 1.1), ["0.9", "1.1"]),
    "intensity_shift": ((-0.1, 0.1), ["-0.1", "0.1"]),
    "section_wise": (True, []),
    "grow_boundary": (2, ["2"]),
    "grow_in_section": (True, []),
    "missing_sections": (0.05, ["0.05"]),
    "low_contrast_sections": (0.05, ["0.05"]),
    "sampler": ("plain", ["plain"]),
    "validate_every": (20, ["20"]),
    "minimum_size": (200, ["200"]),
    "snapshot_every": (0, ["0"]),
    "log_every": (5, ["5"]),
    "mixed_precision": (True, []),
    "compiled": (True, []),
    "num_threads": (2, ["2"]),
}


#: Keys in place of which others are given.
ALTERNATIVES = {"segment": {"affs_file"}}


class Runs(list[Config]):
    """The configurations the workflows were called with."""


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    """Workflows that only note what they were asked to do."""
    noted = Runs()
    for model in STEPS:
        monkeypatch.setattr(workflows, model.step, workflow_that(noted.append, model), raising=False)
    # Of what did not run there is no report.
    monkeypatch.setattr(step, "reported", lambda *_: nullcontext())
    return noted


def failing_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> list[str]:
    """Let a workflow raise, and return the command that runs it."""

    def fail(config: FindSegmentsConfig) -> None:
        raise error

    monkeypatch.setattr(workflows, "find_segments", workflow_that(fail, FindSegmentsConfig), raising=False)
    return ["find-segments", "--fragments-file", "f.zarr"]


def arguments_for(key: str) -> list[str]:
    value, texts = VALUES[key]
    option = key.replace("_", "-")
    if key == "job_extra_directives":  # they begin with hyphens
        return [f"--{option}={text}" for text in texts]
    return [f"--no-{option}" if value is False else f"--{option}", *texts]


class TestOptions:
    @pytest.mark.parametrize("command", COMMANDS)
    def test_every_key_can_be_given(self, command, runs):
        keys = COMMANDS[command].model_fields.keys() - ALTERNATIVES.get(command, set())
        assert main([command, *(part for key in keys for part in arguments_for(key))]) == 0
        assert runs == [load_config(COMMANDS[command], {key: VALUES[key][0] for key in keys})]

    @given(keys=st.sets(st.sampled_from(["num_workers", "queue", "thresholds_step", "resume", "run_type"])))
    def test_options_override_the_file(self, keys, tmp_path_factory):
        in_file = {"fragments_file": "f.zarr", "num_workers": 9, "thresholds_step": 0.5, "run_type": "file"}
        path = tmp_path_factory.mktemp("config") / "c.yaml"
        path.write_text(yaml.safe_dump(in_file))
        arguments = [part for key in sorted(keys) for part in arguments_for(key)]
        noted = Runs()
        with pytest.MonkeyPatch.context() as patch:
            step = workflow_that(noted.append, FindSegmentsConfig)
            patch.setattr(workflows, "find_segments", step, raising=False)
            assert main(["find-segments", str(path), *arguments]) == 0

        assert noted == [load_config(FindSegmentsConfig, in_file | {key: VALUES[key][0] for key in keys})]

    @pytest.mark.parametrize(
        "texts", [["10", "20", "30"], ["10,20,30"], ["10,", "20,", "30"], ["[10, 20, 30]"], ["(10 20 30)"]]
    )
    def test_lists_may_be_written_as_in_files(self, texts, runs):
        assert main(["agglomerate", "--affs-file", "a", "--fragments-file", "a", "--block-size", *texts]) == 0
        assert runs[0].block_size == (10, 20, 30)

    def test_options_may_be_written_as_keys(self, runs):
        assert main(["find_segments", "--fragments_file=my_f.zarr", "--edges_collection", "edges_mean"]) == 0
        assert (runs[0].fragments_file, runs[0].edges_collection) == ("my_f.zarr", "edges_mean")

    def test_null_takes_a_value_back(self, runs, tmp_path):
        path = tmp_path / "c.json"
        path.write_text(
            json.dumps({"fragments_file": "f", "roi_offset": [1, 2], "roi_shape": [3, 4], "queue": "lsf"})
        )
        arguments = ["--roi-offset", "null", "--roi-shape", "null", "--queue", "null"]
        assert main(["find-segments", str(path), *arguments]) == 0
        assert runs == [load_config(FindSegmentsConfig, fragments_file="f")]


class TestMistakes:
    @given(data=st.data())
    def test_a_typo_is_answered_by_the_option_that_was_meant(self, data):
        key = data.draw(st.sampled_from(list(SegmentConfig.model_fields)))
        at = data.draw(st.integers(0, len(key) - 1))
        typo = key[:at] + key[at + 1 :]
        assume(typo not in SegmentConfig.model_fields)
        with pytest.raises(SystemExit, match="2"), redirect_stderr(io.StringIO()) as said:
            main(["segment", f"--{typo.replace('_', '-')}", "1"])
        assert f"did you mean --{key.replace('_', '-')}?" in said.getvalue()

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["segmnt"], "there is no command 'segmnt', did you mean segment?"),
            (["extract-fragment"], "did you mean extract-fragments?"),
            (["--verson"], "unrecognized arguments: --verson"),
            (["xyz"], "there is no command 'xyz'\n"),
            (["segment", "a.yaml", "b.yaml"], "unexpected 'b.yaml': one configuration is taken"),
            (["segment", "--xyz"], "there is no option --xyz\n"),
            (["segment", "--resum"], "there is no option --resum, did you mean --resume?"),
        ],
    )
    def test_commands_and_options_that_do_not_exist(self, arguments, message, capsys):
        with pytest.raises(SystemExit) as exit_:
            main(arguments)
        assert exit_.value.code == WRONG_INPUT
        assert message in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["find-segments"], "lsd-dask find-segments: missing key 'fragments_file': Container"),
            (["segment", "--threshold", "x"], "threshold should be a valid number"),
            (["agglomerate", "--neighborhood", "[[1,"], "--neighborhood: expected JSON, found '[[1,'"),
            (["segment", "nowhere.yaml"], "nowhere.yaml: there is no such configuration"),
            (["segment", "--block-size", "1", "2", "c.yaml"], "block_size[2] should be a valid number"),
        ],
    )
    def test_wrong_values(self, arguments, message, runs, capsys):
        assert main(arguments) == WRONG_INPUT
        said = capsys.readouterr()
        assert message in said.err
        assert "Traceback" not in said.err
        assert not said.out
        assert not runs

    @pytest.mark.parametrize(
        ("error", "code", "said"),
        [
            (ValueError("f.zarr: found 2 channels"), WRONG_INPUT, "f.zarr: found 2 channels"),
            (FileNotFoundError("f.zarr: there is none"), WRONG_INPUT, "f.zarr: there is none"),
            (RuntimeError("2 of 8 blocks failed"), FAILED, "2 of 8 blocks failed"),
            (OSError(28, "No space left on device"), FAILED, "No space left on device"),
            (MemoryError(), FAILED, "MemoryError"),
            (KeyboardInterrupt(), INTERRUPTED, "interrupted; the same command goes on where it stopped"),
        ],
    )
    def test_errors_of_a_run(self, error, code, said, monkeypatch, capsys):
        arguments = failing_with(monkeypatch, error)
        assert main(arguments) == code
        printed = capsys.readouterr().err
        assert printed.startswith("lsd-dask find-segments: ")
        assert said in printed
        assert "Traceback" not in printed

        with pytest.raises(type(error)):
            main([*arguments, "--debug"])

    def test_a_bug_keeps_its_traceback(self, monkeypatch):
        with pytest.raises(ZeroDivisionError):
            main(failing_with(monkeypatch, ZeroDivisionError()))


class TestHelp:
    @pytest.mark.parametrize("command", COMMANDS)
    def test_explains_every_key(self, command, capsys, monkeypatch):
        monkeypatch.setenv("COLUMNS", "100")
        with pytest.raises(SystemExit) as exit_:
            main([command, "--help"])
        assert exit_.value.code == 0
        said = " ".join(capsys.readouterr().out.split())
        model = COMMANDS[command]
        for key, field in model.model_fields.items():
            assert f"--{key.replace('_', '-')}" in said
            assert model.describe(key) + (" (required)" if field.is_required() else "") in said

    @pytest.mark.parametrize("command", COMMANDS)
    def test_its_example_runs(self, command, capsys, runs):
        """The last line of the help is a command that is complete."""
        with pytest.raises(SystemExit):
            main([command, "--help"])
        program, *arguments = shlex.split(capsys.readouterr().out.strip().splitlines()[-1])
        assert program == "lsd-dask"
        assert main(arguments) == 0
        assert len(runs) == 1

    @pytest.mark.parametrize("command", COMMANDS)
    def test_example_configuration_is_printed(self, command, capsys, tmp_path, runs):
        assert main([command, "--example"]) == 0
        path = tmp_path / "example.yaml"
        path.write_text(capsys.readouterr().out)
        assert main([command, str(path)]) == 0
        assert runs == [load_config(COMMANDS[command], path)]

    @pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
    def test_lists_the_commands(self, arguments, capsys):
        with pytest.raises(SystemExit) as exit_:
            main(arguments)
        assert exit_.value.code == 0
        said = capsys.readouterr().out
        for command, model in COMMANDS.items():
            assert re.search(rf"^  {command} +{re.escape(model.summary)}$", said, re.MULTILINE)

    def test_version(self, capsys):
        with pytest.raises(SystemExit):
            main(["--version"])
        assert capsys.readouterr().out == f"lsd-dask {metadata.version('lsd-dask')}\n"


def test_installed_command_answers():
    command = Path(sysconfig.get_path("scripts")) / "lsd-dask"
    done = subprocess.run([command, "--help"], capture_output=True, text=True, check=True)
    assert "segment --example > segment.yaml" in done.stdout
    assert not done.stderr


def test_help_waits_for_no_array_library():
    script = (
        "import sys, lsd_dask.cli.main\n"
        "try: lsd_dask.cli.main.main(['segment', '--help'])\n"
        "except SystemExit: print(sorted({'dask', 'numba', 'numpy', 'xarray', 'zarr'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
