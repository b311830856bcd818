"""What training refuses of raw data, labels and masks: the same as prediction and evaluation do."""

from typing import Any

import dask.array as da
import numpy as np
import pytest

from lsd_dask.prediction.tiles import predict
from lsd_dask.training.labelled_volumes import TrainingVolume, prepare_volumes

from ..helpers.networks import checkpoint
from ..helpers.training_data import placed

SHAPE = (48, 56)
RAW = np.random.default_rng(0).integers(0, 256, SHAPE).astype(np.uint8)
LABELS = np.random.default_rng(1).integers(0, 5, SHAPE)

RAW_REFUSED: dict[str, tuple[np.ndarray, type[Exception], str]] = {
    "floats of bytes": (
        RAW.astype(np.float32),
        ValueError,
        "raw: found values from 0 to 255, expected 0 to 1",
    ),
    "floats around 0": (RAW / 127.5 - 1, ValueError, "raw: found values from -1 to 1, expected 0 to 1"),
    "NaN": (np.where(RAW == 9, np.nan, RAW / 255), ValueError, "raw: found NaN, expected 0 to 1"),
    "bytes in uint32": (RAW.astype(np.uint32), TypeError, "raw: found dtype uint32, expected uint8, uint16"),
    "bytes in int16": (RAW.astype(np.int16), TypeError, "raw: found dtype int16, expected uint8, uint16"),
}

#: The same in all types that raw data can have.
RIGHT = (RAW, RAW.astype(np.uint16) * 257, (RAW / 255).astype(np.float16), RAW / 255.0)


def prepared(raw: np.ndarray, labels: np.ndarray = LABELS, mask: Any = None, *, lazy: bool = False) -> Any:
    arrays = [None if a is None else placed(a) for a in (raw, labels, mask)]
    if lazy:
        arrays = [None if a is None else a.copy(data=da.from_array(a.values, chunks=16)) for a in arrays]
    volume = TrainingVolume(arrays[0], arrays[1], mask=arrays[2], name="cells")
    voxel_size = volume.voxel_size
    return prepare_volumes([volume], dims=2, channels=1, voxel_size=voxel_size, shape=(8, 8))


@pytest.mark.parametrize("case", RAW_REFUSED)
def test_training_and_prediction_refuse_the_same_raw_data(case: str) -> None:
    raw, error, message = RAW_REFUSED[case]
    with pytest.raises(error, match=message):
        prepared(raw)
    with pytest.raises(error, match=message):
        predict(raw, checkpoint("mtlsd", 2))


@pytest.mark.parametrize("lazy", [False, True])
def test_some_of_what_is_too_large_for_memory_is_looked_at(
    monkeypatch: pytest.MonkeyPatch, lazy: bool
) -> None:
    monkeypatch.setattr("lsd_dask.training.labelled_volumes.MEMORY_LIMIT", 0 if lazy else 2**31)
    for raw, labels, mask, message in (
        (RAW.astype(np.float32), LABELS, None, "cells: raw: found values from"),
        (RAW, LABELS - 1, None, "cells: labels: found the negative label -1"),
        (RAW, LABELS, np.full(SHAPE, np.nan), "cells: mask: found NaN"),
    ):
        with pytest.raises(ValueError, match=message):
            prepared(raw, labels, mask, lazy=lazy)


def test_each_crop_is_checked() -> None:
    raw, labels, mask = RAW / 255, LABELS.copy(), np.ones(SHAPE)
    raw[40, 50], labels[40, 50], mask[41, 50] = 7, -3, np.nan
    volume = TrainingVolume(placed(raw), placed(labels), name="cells")
    assert volume.read_raw((0, 0), (8, 8)).max() <= 1
    volume.read_labels((0, 0), (8, 8))
    with pytest.raises(ValueError, match=r"cells: raw: found values from .* to 7, expected 0 to 1"):
        volume.read_raw((36, 46), (44, 54))
    with pytest.raises(ValueError, match="cells: labels: found the negative label -3"):
        volume.read_labels((36, 46), (44, 54))
    masked = TrainingVolume(placed(raw), placed(LABELS), mask=placed(mask), name="cells")
    with pytest.raises(ValueError, match="cells: mask: found NaN"):
        masked.read_labels((36, 46), (44, 54))


@pytest.mark.parametrize(
    "raw", [RAW, RAW.astype(np.uint16) * 257, (RAW / 255).astype(np.float16), RAW / 255.0]
)
@pytest.mark.parametrize("dtype", ["uint8", "int32", "uint64"])
def test_what_is_right_is_taken_without_a_word(
    raw: np.ndarray, dtype: str, caplog: pytest.LogCaptureFixture
) -> None:
    (volume,) = prepared(raw, LABELS.astype(dtype), np.ones(SHAPE, np.float32))
    assert np.abs(volume.read_raw((0, 0), SHAPE) - RAW / 255).max() < 1e-3
    assert np.array_equal(volume.read_labels((0, 0), SHAPE).objects, LABELS)
    assert not caplog.records


def test_bytes_in_uint16_get_a_word(caplog: pytest.LogCaptureFixture) -> None:
    prepared(RAW.astype(np.uint16))
    assert (
        "cells: raw: the largest value that was found is 255, where 65535 in uint16 is white" in caplog.text
    )
    caplog.clear()
    predict(RAW.astype(np.uint16), checkpoint("mtlsd", 2))
    assert "raw: the largest value that was found is 255" in caplog.text


def test_descriptors_of_another_type_are_refused() -> None:
    network = checkpoint("acrlsd", 2)
    with pytest.raises(
        TypeError, match="lsds: found dtype float32, expected uint8, in which 255 stands for 1"
    ):
        predict(RAW, network, lsds=np.zeros((6, *SHAPE), np.float32))


@pytest.mark.parametrize("none", [2**64 - 1, 2**63, 2**53 + 1])
def test_ids_of_objects_are_exact(none: int) -> None:
    labels = np.array([[none, none - 1, 5, 6]], np.uint64)
    raw = placed(np.zeros((1, 4), np.uint8))
    volume = TrainingVolume(raw, placed(labels), ignored_ids=[none, 5])
    assert volume.read_labels((0, 0), (1, 4)).ignored.tolist() == [[1, 0, 1, 0]]
    volume = TrainingVolume(raw, placed(labels), labelled_ids={none, np.int8(6)})
    assert volume.read_labels((0, 0), (1, 4)).labelled.tolist() == [[1, 0, 0, 1]]
    with pytest.raises(TypeError, match=r"volume: ignored_ids: found 5\.0, expected whole numbers"):
        TrainingVolume(raw, placed(labels), ignored_ids=[5.0])
