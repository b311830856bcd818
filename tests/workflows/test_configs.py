"""Configurations: what is accepted, what wins, and how every mistake is answered."""

import inspect
import json
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import assume, example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from lsd_dask.workflows.config import steps
from lsd_dask.workflows.config.fields import MERGE_FUNCTIONS, array_path, nearest
from lsd_dask.workflows.config.loading import ConfigError, load_config
from lsd_dask.workflows.config.options import OBSOLETE_KEYS, Config, FragmentOptions, Thresholds
from lsd_dask.workflows.config.steps import STEPS
from lsd_dask.workflows.config.train import TrainConfig
from lsd_dask.workflows.step import Step, workflow

from ..helpers.users_configs import USERS_CONFIGS

ALL_MODELS = [
    *STEPS,
    steps.RegionConfig,
]

REQUIRED: dict[type[Config], dict[str, Any]] = {
    steps.TrainConfig: {"volumes": [{"raw_file": "a.zarr"}], "out_dir": "network"},
    steps.SegmentConfig: {"affs_file": "a.zarr", "out_file": "a.zarr"},
    steps.ExtractFragmentsConfig: {"affs_file": "a.zarr", "fragments_file": "a.zarr"},
    steps.AgglomerateConfig: {"affs_file": "a.zarr", "fragments_file": "a.zarr"},
    steps.FindSegmentsConfig: {"fragments_file": "a.zarr"},
    steps.ExtractSegmentationConfig: {"fragments_file": "a.zarr", "threshold": 0.4, "out_file": "a.zarr"},
    steps.EvaluateVolumesConfig: {"fragments_file": "a.zarr", "gt_file": "t.zarr"},
    steps.EvaluateAnnotationsConfig: {"fragments_file": "a.zarr", "annotations_file": "skeletons"},
    steps.CompareConfig: {"runs": ["a.parquet", "b.parquet"]},
    steps.LsdsConfig: {"labels_file": "t.zarr", "lsds_file": "a.zarr", "sigma": 80.0},
    steps.PredictConfig: {"raw_file": "r.zarr", "checkpoint": "n.pt", "out_file": "a.zarr"},
    steps.BuildPyramidConfig: {"in_file": "a.zarr"},
}


def plain(value: Any) -> Any:
    """As JSON would have it."""
    return json.loads(json.dumps(value))


class TestUsersConfigs:
    @pytest.mark.parametrize("kind", USERS_CONFIGS)
    def test_file_is_read_unchanged(self, kind, tmp_path, caplog):
        model, users = USERS_CONFIGS[kind]
        path = tmp_path / "config.json"
        path.write_text(json.dumps(users))

        config = load_config(model, path)

        for key in users.keys() & model.model_fields.keys():
            if users[key] is None:
                assert getattr(config, key) == model.model_fields[key].default
            elif key.endswith("_dataset"):
                assert getattr(config, key) == users[key].strip("/")
            else:
                assert plain(config.model_dump()[key]) == users[key]

    @pytest.mark.parametrize("kind", USERS_CONFIGS)
    def test_every_other_key_is_answered_in_one_line(self, kind, caplog):
        model, users = USERS_CONFIGS[kind]
        load_config(model, users)

        without_meaning = users.keys() - model.model_fields.keys()
        for key in without_meaning:
            assert len([line for line in caplog.messages if re.search(rf"\b{key}\b.*: .*need", line)]) == 1
        assert len(caplog.messages) <= len(without_meaning)

    def test_answers_name_the_file(self, tmp_path, caplog):
        path = tmp_path / "find.json"
        path.write_text(json.dumps({"db_host": "h", "db_name": "n", "fragments_file": "f.zarr"}))
        load_config(steps.FindSegmentsConfig, path)
        assert caplog.messages == [
            f"{path}: db_host, db_name: no database is needed: graphs and scores are tables beside the arrays"
        ]

    def test_region_of_raw_data(self):
        _, users = USERS_CONFIGS["predict from a first network's output"]
        assert load_config(steps.PredictConfig, users).raw_file.size == (3000, 3000, 3000)

    @pytest.mark.parametrize("model", ALL_MODELS)
    def test_no_key_is_both_used_and_obsolete_by_oversight(self, model):
        both = model.model_fields.keys() & model.obsolete.keys()
        assert both <= (
            {"base_dir", "experiment", "setup", "iteration"} if model is steps.PredictConfig else set()
        )


class TestSources:
    @pytest.mark.parametrize("model", STEPS)
    def test_dictionary_json_yaml_keywords_and_instance_say_the_same(self, model, tmp_path):
        others = {"roi_offset": [0.5, 1, 2], "roi_shape": [8, 8, 8], "num_workers": 3}
        options = {**REQUIRED[model], **{k: v for k, v in others.items() if k in model.model_fields}}
        (tmp_path / "c.json").write_text(json.dumps(options))
        (tmp_path / "c.yaml").write_text(yaml.safe_dump(options))

        expected = load_config(model, options)
        for source in (tmp_path / "c.json", str(tmp_path / "c.yaml"), expected):
            assert load_config(model, source) == expected
        assert load_config(model, **options) == expected

    @given(data=st.data())
    def test_keywords_go_before_the_file_and_the_file_before_defaults(self, data, tmp_path_factory):
        values = {
            "num_workers": st.integers(1, 99),
            "resume": st.booleans(),
            "memory": st.sampled_from(["4 GB", "8 GB"]),
            "thresholds_step": st.floats(0.01, 1),
            "edges_collection": st.sampled_from([f"edges_{name}" for name in MERGE_FUNCTIONS]),
            "roi_offset": st.none(),
        }
        some = st.fixed_dictionaries({}, optional=values)
        in_file, as_keywords = data.draw(some), data.draw(some)
        path = tmp_path_factory.mktemp("config") / "c.json"
        path.write_text(json.dumps({"fragments_file": "f.zarr", **in_file}))

        config = load_config(steps.FindSegmentsConfig, path, **as_keywords)

        for key, field in steps.FindSegmentsConfig.model_fields.items():
            if key != "fragments_file":
                assert getattr(config, key) == as_keywords.get(key, in_file.get(key, field.default))

    def test_null_stands_for_the_default(self):
        given_options = {"fragments_file": "f.zarr", "queue": "slurm", "thresholds_step": None}
        config = load_config(steps.FindSegmentsConfig, given_options, queue=None)
        assert (config.queue, config.thresholds_step) == ("local", 0.02)

    def test_paths_may_be_path_objects_and_start_at_home(self, monkeypatch):
        monkeypatch.setenv("HOME", "/home/me")
        config = load_config(steps.FindSegmentsConfig, fragments_file=Path("~/f.zarr"))
        assert config.fragments_path == "/home/me/f.zarr/volumes/fragments"

    @pytest.mark.parametrize(
        ("file", "dataset", "path"),
        [
            ("f.zarr", "/volumes/affs", "f.zarr/volumes/affs"),
            ("f.zarr/", "volumes/affs/", "f.zarr/volumes/affs"),
            ("f.zarr", "/", "f.zarr"),
            ("s3://bucket/f.zarr", "a", "s3://bucket/f.zarr/a"),
        ],
    )
    def test_path_of_an_array(self, file, dataset, path):
        config = load_config(steps.FindSegmentsConfig, fragments_file=file, fragments_dataset=dataset)
        assert config.fragments_path == array_path(file, dataset) == path

    def test_configurations_are_frozen(self):
        config = load_config(steps.FindSegmentsConfig, fragments_file="f.zarr")
        with pytest.raises(ValidationError, match="frozen"):
            config.queue = "slurm"


class TestUnknownKeys:
    @given(data=st.data())
    def test_a_typo_is_answered_by_the_key_that_was_meant(self, data):
        model = data.draw(st.sampled_from(ALL_MODELS))
        key = data.draw(st.sampled_from(list(model.model_fields)))
        at = data.draw(st.integers(0, len(key) - 1))
        letter = data.draw(st.sampled_from("abcdefghijklmnopqrstuvwxyz_0123456789"))
        typo = data.draw(
            st.sampled_from(
                [key[:at] + key[at + 1 :], key[:at] + letter + key[at + 1 :], key[:at] + letter + key[at:]]
            )
        )
        assume(typo not in model.model_fields and typo not in OBSOLETE_KEYS)

        with pytest.raises(ConfigError, match=re.escape(f"unknown key '{typo}', did you mean '{key}'?")):
            load_config(model, {typo: 1})

    def test_hyphens_and_capitals_are_no_obstacle(self):
        assert nearest("Block-Size", ["block_size", "context"]) == "block_size"

    def test_a_key_of_another_step_is_recognised(self):
        with pytest.raises(
            ConfigError, match="unknown key 'merge_function', a key of segment and agglomerate"
        ):
            load_config(steps.ExtractFragmentsConfig, merge_function="mean")

    def test_nothing_is_suggested_where_nothing_is_near(self):
        with pytest.raises(ConfigError, match=r"unknown key 'zzz'$"):
            load_config(steps.FindSegmentsConfig, fragments_file="f.zarr", zzz=1)

    def test_the_file_is_named(self, tmp_path):
        path = tmp_path / "c.yaml"
        path.write_text("fragment_file: f.zarr")
        with pytest.raises(ConfigError) as error:
            load_config(steps.FindSegmentsConfig, path)
        assert str(error.value).splitlines() == [
            "find_segments: 2 problems",
            f"  - {path}: unknown key 'fragment_file', did you mean 'fragments_file'?",
            "  - missing key 'fragments_file': "
            "Container of the fragments (supervoxels); their region graph is kept in it as well.",
        ]


class TestWrongValues:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"volumes": "em.zarr"}, "volumes should be a list; found 'em.zarr'"),
            ({"volumes": [3]}, "volumes[0] should be a path, or keys and their values; found 3"),
            ({"volumes": []}, "volumes should have at least 1 entries; found []"),
            (
                {"volumes": [{"raw_dataset": "em"}]},
                "volumes[0]: missing key 'raw_file': Container of the raw",
            ),
            (
                {"volumes": ["a.zarr", {"raw_file": "b.zarr", "label_dataset": "cells"}]},
                "volumes[1]: unknown key 'label_dataset', did you mean 'labels_dataset'?",
            ),
            (
                {"volumes": [{"raw_file": "em.zarr", "roi_offset": [0, "x", 0], "roi_shape": [1, 1, 1]}]},
                "volumes[0]: roi_offset[1] should be a valid number",
            ),
            ({"iteration": 300}, "unknown key 'iteration', a key of predict, did you mean 'iterations'?"),
        ],
    )
    def test_of_volumes_to_train_on(self, options, message):
        with pytest.raises(ConfigError) as error:
            load_config(TrainConfig, {"volumes": ["em.zarr"], "out_dir": "network", **options})
        assert str(error.value).startswith(f"train: {message}")

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"block_size": [1000]}, r"block_size should have at least 2 entries; found \[1000\]"),
            ({"block_size": [1, 2, 3, 4]}, r"block_size should have at most 3 entries; found \[1, 2, 3, 4\]"),
            ({"block_size": 1000}, "block_size should be a list; found 1000"),
            ({"block_size": [10, 0, 10]}, r"block_size\[1\] should be greater than 0; found 0"),
            ({"context": [10, -1, 10]}, r"context\[1\] should be greater than or equal to 0; found -1"),
            ({"context": [1, 1]} | {"block_size": [1, 1, 1]}, "found 3 in block_size, 2 in context"),
            ({"roi_offset": [0, 0, 0]}, "go together, found roi_offset without roi_shape"),
            ({"roi_shape": [1, 1, 1]}, "go together, found roi_shape without roi_offset"),
            ({"mask_file": "m.zarr"}, "go together, found mask_file without mask_dataset"),
            ({"gt_dataset": "labels"}, "go together, found gt_dataset without gt_file"),
            ({"threshold": 1.5}, "threshold should be less than or equal to 1; found 1.5"),
            ({"threshold": float("nan")}, "threshold should be a finite number; found nan"),
            ({"thresholds_minmax": [0.8, 0.2]}, r"should be \[lowest, highest\], found \[0.8, 0.2\]"),
            ({"thresholds_minmax": [0.8]}, r"thresholds_minmax\[1\] should not be missing; found \[0.8\]"),
            ({"thresholds_step": 0}, "thresholds_step should be greater than 0; found 0"),
            (
                {"merge_function": "hist_quantile_75"},
                r"did you mean 'hist_quant_75'\?\); found 'hist_quantile_75'",
            ),
            ({"method": "watershed"}, "method should be 'steepest_ascent' or 'seeded'; found 'watershed'"),
            ({"neighborhood": [[0, 0, 0]]}, r"neighborhood\[0\] should join two different voxels"),
            ({"affs_file": ""}, "affs_file should be a path; found ''"),
            ({"affs_dataset": " "}, "affs_dataset should be the path of an array in its container"),
            ({"num_workers": 0}, "num_workers should be greater than 0; found 0"),
            ({"num_workers": "many"}, "num_workers should be a valid integer.*; found 'many'"),
            ({"walltime": 720}, "12:00 needs the quotes; found 720"),
        ],
    )
    def test_message_names_key_found_and_expected(self, options, message):
        with pytest.raises(ConfigError, match=message):
            load_config(steps.SegmentConfig, {**REQUIRED[steps.SegmentConfig], **options})

    @given(st.text("abcdefghijklmnopqrstuvwxyz_0123456789", max_size=30))
    def test_edges_are_named_after_a_merge_function(self, name):
        valid = name in {f"edges_{function}" for function in MERGE_FUNCTIONS}
        options = {"fragments_file": "f.zarr", "edges_collection": name}
        if valid:
            assert load_config(steps.FindSegmentsConfig, options).merge_function == name[6:]
        else:
            with pytest.raises(
                ConfigError, match='edges_collection should be "edges_" and the merge function'
            ):
                load_config(steps.FindSegmentsConfig, options)

    @pytest.mark.parametrize("name", MERGE_FUNCTIONS)
    def test_merge_function_of_edges(self, name):
        config = load_config(
            steps.FindSegmentsConfig, fragments_file="f.zarr", edges_collection=f"edges_{name}"
        )
        assert config.merge_function == name

    @pytest.mark.parametrize("name", ["../test", "a/b", "..", ""])
    def test_run_type_cannot_leave_its_folder(self, name):
        with pytest.raises(ConfigError, match="run_type should be a plain name"):
            load_config(steps.FindSegmentsConfig, fragments_file="f.zarr", run_type=name)

    def test_all_problems_are_told_at_once(self):
        with pytest.raises(ConfigError) as error:
            load_config(steps.SegmentConfig, {"threshold": 7, "affs": "a.zarr"}, block_size=[0, 1, 1])
        assert str(error.value).startswith("segment: 4 problems\n  - ")
        for part in (
            "'affs'",
            "missing key 'out_file'",
            "threshold",
            "block_size[0]",
        ):
            assert part in str(error.value)


class TestFiles:
    @pytest.mark.parametrize(
        ("name", "text", "message"),
        [
            ("c.json", '{"a": 1,\n "b" 2}', "c.json, line 2, column 6: Expecting ':' delimiter"),
            ("c.yaml", "a: 1\nb: [1, 2\nc: 3", "c.yaml, line 3, column 2: "),
            ("c.yaml", "- a\n- b", "c.yaml: expected keys and their values, found a list"),
            ("c.yaml", "# a: 1", "c.yaml: expected keys and their values, found nothing"),
        ],
    )
    def test_text_that_cannot_be_parsed(self, name, text, message, tmp_path):
        (tmp_path / name).write_text(text)
        with pytest.raises(ConfigError, match=re.escape(message)):
            load_config(steps.SegmentConfig, tmp_path / name)

    def test_binary_data(self, tmp_path):
        (tmp_path / "c.yaml").write_bytes(b"\x93NUMPY\x01\xff")
        with pytest.raises(ConfigError, match="found binary data"):
            load_config(steps.SegmentConfig, tmp_path / "c.yaml")

    def test_missing_file(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"c\.yaml: there is no such configuration"):
            load_config(steps.SegmentConfig, tmp_path / "c.yaml")

    def test_a_container_is_no_configuration(self, tmp_path):
        with pytest.raises(IsADirectoryError, match="expected a configuration"):
            load_config(steps.SegmentConfig, tmp_path)

    def test_something_else_is_no_configuration(self):
        with pytest.raises(TypeError, match=r"segment: expected the path of a configuration.*, found int"):
            load_config(steps.SegmentConfig, 5)


class TestThresholds:
    @given(st.integers(0, 100), st.integers(0, 100), st.integers(1, 100))
    @example(0, 7, 1)  # 0.07 / 0.01 is a hair more than 7
    def test_are_the_multiples_in_the_half_open_range(self, one, other, step):
        low, high = sorted((one, other))
        found = Thresholds(thresholds_minmax=(low / 100, high / 100), thresholds_step=step / 100).thresholds
        assert found == tuple(n / 100 for n in range(low, max(high, low + 1), step))

    def test_without_ground_truth_there_is_a_default(self):
        required = REQUIRED[steps.SegmentConfig]
        assert load_config(steps.SegmentConfig, required).fixed_threshold == steps.DEFAULT_THRESHOLD
        assert load_config(steps.SegmentConfig, required, threshold=0.3).fixed_threshold == 0.3
        truth = {"gt_file": "t.zarr", "gt_dataset": "labels"}
        assert load_config(steps.SegmentConfig, required, **truth).fixed_threshold is None
        assert f"else {steps.DEFAULT_THRESHOLD}." in steps.SegmentConfig.describe("threshold")


def test_a_part_of_a_configuration_is_that_of_another_step():
    options = {"smoothing": 2, "merge_function": "mean", "num_workers": 3, "thresholds_step": 0.5}
    whole = load_config(steps.SegmentConfig, affs_file="a.zarr", out_file="o.zarr", **options)
    fragments = {"fragments_file": whole.out_file, "fragments_dataset": whole.fragments_dataset}

    part = whole.part(steps.ExtractFragmentsConfig, affs_file="a.zarr", **fragments)
    assert part == steps.ExtractFragmentsConfig(affs_file="a.zarr", smoothing=2, num_workers=3, **fragments)
    graph = whole.part(steps.AgglomerateConfig, affs_file="a.zarr", **fragments)
    assert graph.merge_function == "mean"

    evaluation = whole.part(steps.EvaluateVolumesConfig, gt_file="t.zarr", **fragments)
    assert evaluation.thresholds == (0, 0.5)
    assert evaluation.method is None, "the watershed is no network, though the keys have one name"


@pytest.mark.parametrize("model", ALL_MODELS)
def test_every_option_is_described_once_and_belongs_to_a_section(model):
    keys = [key for _, section in model.sections() for key in section]
    assert sorted(keys) == sorted(model.model_fields)
    for key, field in model.model_fields.items():
        assert re.fullmatch(r"[A-Z].*\.", model.describe(key)), key
        assert field.examples or not field.is_required(), key


def test_merge_functions_are_those_of_the_library():
    assert set(MERGE_FUNCTIONS) == set(
        pytest.importorskip("lsd_dask.segmentation.agglomeration").MERGE_FUNCTIONS
    )


def test_defaults_are_those_of_the_library():
    fragments = pytest.importorskip("lsd_dask.segmentation.fragments")
    for key, parameter in inspect.signature(fragments.extract_fragments).parameters.items():
        if key in FragmentOptions.model_fields:
            # 0, None and an empty list all mean that nothing is done.
            assert (FragmentOptions.model_fields[key].default or None) == (parameter.default or None), key


class CountThresholdsConfig(steps.FindSegmentsConfig):
    step = "count_thresholds"


class CountThresholds(Step[CountThresholdsConfig]):
    """Count thresholds.

    They are those of the lookup tables.

    Returns
    -------
    int
        Their number.
    """

    model = CountThresholdsConfig
    container = "fragments_file"

    def run(self, options: CountThresholdsConfig) -> int:
        return len(options.thresholds)


count_thresholds = workflow(CountThresholds())


class TestWorkflow:
    def test_body_gets_a_checked_configuration(self, tmp_path):
        (tmp_path / "c.yaml").write_text("{fragments_file: f.zarr, thresholds_step: 0.5}")
        assert count_thresholds(tmp_path / "c.yaml") == 2
        assert count_thresholds(tmp_path / "c.yaml", thresholds_step=0.25) == 4
        assert count_thresholds(fragments_file="f.zarr") == 50

    def test_wrong_keywords_are_answered(self):
        with pytest.raises(ConfigError, match="did you mean 'thresholds_step'"):
            count_thresholds(fragments_file="f.zarr", threshold_step=0.5)

    def test_signature_is_that_of_the_model(self):
        parameters = inspect.signature(count_thresholds).parameters
        assert parameters.keys() == {"config", *steps.FindSegmentsConfig.model_fields}
        assert parameters["fragments_file"].default is inspect.Parameter.empty
        assert parameters["queue"].default == "local"
        assert parameters["roi_offset"].annotation == tuple[float | str, ...] | None
        assert inspect.signature(count_thresholds).return_annotation is int

    def test_docstring_has_all_options_between_body_and_returns(self):
        document = inspect.getdoc(count_thresholds)
        assert document.startswith(
            "Count thresholds.\n\nThey are those of the lookup tables.\n\nParameters\n---"
        )
        assert document.endswith("\n\nReturns\n-------\nint\n    Their number.")
        for key in steps.FindSegmentsConfig.model_fields:
            assert re.search(rf"^{key} : \w", document, re.MULTILINE)
        assert "thresholds_step : float, default: 0.02\n    Step between two thresholds.\n" in document

    def test_knows_its_model_and_can_be_sent_to_workers(self):
        assert count_thresholds.model is CountThresholdsConfig
        assert pickle.loads(pickle.dumps(count_thresholds)) is count_thresholds


@pytest.mark.parametrize("model", STEPS)
class TestExamples:
    def test_example_loads(self, model):
        load_config(model, self.path(model))

    def test_example_shows_every_key_and_its_default(self, model):
        """Keys are either set or commented out with their default."""
        shown = self.path(model).read_text()
        commented = dict(re.findall(r"^# (\w+): (\S.*?)(?:  +#.*)?$", shown, re.MULTILINE))
        commented = {key: value for key, value in commented.items() if key in model.model_fields}
        is_set = yaml.safe_load(shown)
        assert sorted([*commented, *is_set]) == sorted(model.model_fields)
        for key, value in commented.items():
            assert yaml.safe_load(value) == plain(model.model_fields[key].default), key

    @staticmethod
    def path(model):
        return Path(__file__).parents[2] / "workflows" / "configs" / f"{model.step}.yaml"
