"""Damaged or hostile checkpoints: read or refused in one ValueError; their code is not run."""

import io
import uuid
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from lsd_dask.networks.checkpoints import load_checkpoint, save_checkpoint  # noqa: E402
from lsd_dask.networks.models import ModelConfig, build_model  # noqa: E402
from lsd_dask.storage import files  # noqa: E402

from ..helpers.damage import VALUES, check, damaged  # noqa: E402
from ..helpers.networks import config  # noqa: E402

KEYS = ["model_state_dict", "voxel_size", "units", "iteration", "raw_range", *ModelConfig.model_fields]


@cache
def checkpoint() -> bytes:
    path = f"memory://{uuid.uuid4().hex}/network.pt"
    save_checkpoint(path, build_model(config("lsd", 2)), voxel_size=(4, 4), iteration=12)
    return files.read_bytes(path)


@settings(max_examples=60)
@given(content=damaged(checkpoint()))
def test_damaged_checkpoints(content: bytes) -> None:
    check(load_checkpoint, "network.pt", content)


@settings(max_examples=60)
@given(
    key=st.sampled_from(KEYS),
    value=VALUES | st.sampled_from([10**6, 10**9, [[2, 2]] * 40]),
    gone=st.booleans(),
)
def test_checkpoints_of_anything(key: str, value: Any, gone: bool) -> None:
    content = torch.load(io.BytesIO(checkpoint()), weights_only=True)
    within = content if key in content else content["model_config"]
    within[key] = value
    if gone:
        del within[key]
    sink = io.BytesIO()
    torch.save(content, sink)
    check(load_checkpoint, "network.pt", sink.getvalue())


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    class Code:
        def __reduce__(self) -> Any:
            return (exec, (f"open({str(tmp_path / 'ran')!r}, 'w').close()",))

    torch.save({"format": "lsd_dask checkpoint", "model_config": Code()}, tmp_path / "network.pt")
    with pytest.raises(ValueError, match=r"network\.pt: not a readable checkpoint"):
        load_checkpoint(str(tmp_path / "network.pt"))
    assert not (tmp_path / "ran").exists()
