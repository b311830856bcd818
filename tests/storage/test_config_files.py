"""Configuration files that are damaged, or made to exhaust memory: one error, which names the file."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsd_dask.storage.config_files import LARGEST, ConfigError, read_config

BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40))
MERGES = "a0: &a0 {k: 1}\n" + "".join(f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}\n" for n in range(1, 20))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("c.json", '{"a":' + "[" * 100_000 + "]" * 100_000 + "}", "deep"),
        ("c.json", '{"a":' + "[" * 60 + "]" * 60 + "}", "deep"),
        ("c.yaml", "a: " + "[" * 100_000, "deep"),
        ("c.yaml", BOMB, "aliases"),
        ("c.yaml", MERGES, "aliases"),
        ("c.yaml", "a: &a [*a]", "aliases|deep"),
        ("c.json", '{"a": 1, "a": 2}', "'a' twice"),
        ("c.yaml", "a: 1\nb: 2\na: 3\n", "'a' twice"),
        ("c.json", '{"a": NaN}', "NaN"),
        ("c.json", '{"a": 1' + "0" * 5000 + "}", "4300"),
        ("c.yaml", "a: 1" + "0" * 5000, "4300"),
        ("c.yaml", "a: 2020-13-45", "month"),
        ("c.yaml", "a: " + "x" * LARGEST, "at most"),
    ],
)
def test_bombs_are_refused_by_name(tmp_path: Path, name: str, text: str, message: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as refusal:
        read_config(path)
    assert str(path) in str(refusal.value)
    assert len(str(refusal.value)) < 1000


def test_anchors_that_save_writing_are_read(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("a: &size [1, 2]\nb: *size\nc: &c {x: 1, y: 2}\nd: {<<: *c, y: 3}\n")
    assert read_config(tmp_path / "c.yaml") == {
        "a": [1, 2],
        "b": [1, 2],
        "c": {"x": 1, "y": 2},
        "d": {"x": 1, "y": 3},
    }


@given(
    content=st.binary(max_size=200) | st.text("{}[]:,&*<-'\"! \n#ab1", max_size=60).map(str.encode),
    kind=st.sampled_from(["json", "yaml"]),
)
def test_anything_is_a_configuration_or_one_error(content: bytes, kind: str) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"c.{kind}"
        path.write_bytes(content)
        try:
            assert isinstance(read_config(path), dict)
        except ConfigError as error:
            assert str(path) in str(error)
