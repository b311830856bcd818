"""Pictures of training samples: raw data, what should be predicted, and what is."""

import io
from collections.abc import Mapping

import numpy as np
from PIL import Image

from ..storage import files

#: Least width of a panel, in pixels, and the space between panels.
_WIDTH, _SPACE = 192, 4


def save_snapshot(
    path: str, raw: np.ndarray, targets: Mapping[str, np.ndarray], predictions: Mapping[str, np.ndarray]
) -> None:
    """Write a PNG of the middle section: raw data, then a column for each target, above its prediction.

    Parameters
    ----------
    path : str
        Of the picture, or a URL.
    raw : (channel, [z,] y, x) ndarray
        From -1 to 1; cropped to the targets, in the middle.
    targets, predictions : mapping of str to (channel, [z,] y, x) ndarray
        By name, from 0 to 1. The first three channels are red, green and blue.

    Examples
    --------
    >>> halves = {"affinities": np.full((3, 8, 16, 16), 0.5)}
    >>> save_snapshot("memory://snapshot.png", np.zeros((1, 28, 36, 36)), halves, halves)
    """
    shape = next(iter(targets.values())).shape[1:]
    begin = [(n - m) // 2 for n, m in zip(raw.shape[1:], shape, strict=True)]
    inside = tuple(slice(b, b + m) for b, m in zip(begin, shape, strict=True))
    grey = np.repeat((raw[(slice(0, 1), *inside)] + 1) / 2, 3, axis=0)
    enlarged = max(1, -(-_WIDTH // shape[-1]))
    raw_panel = _panel(grey, enlarged)
    columns = [_stacked(raw_panel, np.ones_like(raw_panel))]
    columns += [_stacked(_panel(targets[n], enlarged), _panel(predictions[n], enlarged)) for n in targets]
    buffer = io.BytesIO()
    Image.fromarray(np.concatenate(columns, axis=1)).save(buffer, "png")
    files.write_bytes(path, buffer.getvalue())


def _panel(channels: np.ndarray, enlarged: int) -> np.ndarray:
    """The middle section as (y, x, 3) from 0 to 1, each voxel so many pixels wide."""
    while channels.ndim > 3:
        channels = channels[:, channels.shape[1] // 2]
    colours = np.zeros((3, *channels.shape[1:]))
    colours[: len(channels[:3])] = channels[:3]
    panel = np.moveaxis(np.clip(colours, 0, 1), 0, -1)
    return panel.repeat(enlarged, axis=0).repeat(enlarged, axis=1)


def _stacked(upper: np.ndarray, lower: np.ndarray) -> np.ndarray:
    space = np.ones((_SPACE, upper.shape[1], 3))
    column = np.concatenate([upper, space, lower])
    column = np.concatenate([column, np.ones((len(column), _SPACE, 3))], axis=1)
    return np.round(255 * column).astype(np.uint8)
