"""Pictures that are mirrored and shifted at random while a network is trained on them."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from xbarc.support.data import Array
from xbarc.support.errors import UsageError
from xbarc.train.data import channels_last
from xbarc.train.settings import Settings

STREAM = 1 << 33
"""Of the seeds: no other draw of a training has this one."""


def augmented(
    feeds: Mapping[str, Any], labels: Any, settings: Settings, epoch: int, index: int
) -> dict[str, Any]:
    """A batch with its pictures mirrored and shifted, each by a draw of its own.

    Pictures are [n, C, H, W], or [n, H, W, C] where only the last axis has 1 or 3 entries.
    `settings.flip` mirrors half of them from left to right; `settings.shift` moves each by up to
    so many pixels in both directions. What comes in at the edge is 0. The draws follow from seed,
    epoch and the number of the batch.

    Raises:
        UsageError: no input is a picture, or a label belongs to a place in it.
    """
    if not settings.flip and not settings.shift:
        return dict(feeds)
    if labels is not None and np.ndim(labels) > 2:
        raise UsageError("--flip and --shift move pictures, not masks: labels are one a picture")
    pictures = {name: np.asarray(x) for name, x in feeds.items() if np.ndim(x) == 4}
    if not pictures:
        raise UsageError(
            "--flip and --shift are for inputs of four axes: [n, channels, rows, columns]"
        )
    seed = [settings.seed, STREAM, epoch, index]
    rng = np.random.Generator(np.random.Philox(seed=seed))
    count = len(next(iter(pictures.values())))
    mirrored = rng.random(count) < (0.5 if settings.flip else 0.0)
    moved = rng.integers(0, 2 * settings.shift + 1, (2, count))
    return {
        **feeds,
        **{name: _moved(x, settings.shift, moved, mirrored) for name, x in pictures.items()},
    }


def _moved(x: Array, most: int, moved: Array, mirrored: Array) -> Array:
    """Pictures cut out of padded ones at `moved` [2, n], some of them `mirrored` [n]."""
    if channels_last(x.shape):
        first = _moved(np.moveaxis(x, -1, 1), most, moved, mirrored)
        return np.ascontiguousarray(np.moveaxis(first, 1, -1))
    count, channels, height, width = x.shape
    padded = np.pad(x, ((0, 0), (0, 0), (most, most), (most, most)))
    rows = moved[0][:, None] + np.arange(height)
    columns = moved[1][:, None] + np.where(
        mirrored[:, None], np.arange(width)[::-1], np.arange(width)
    )
    found: Array = padded[
        np.arange(count)[:, None, None, None],
        np.arange(channels)[None, :, None, None],
        rows[:, None, :, None],
        columns[:, None, None, :],
    ]
    return found
