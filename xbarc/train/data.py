"""Training data: arrays, a folder of images, or any iterable of batches.

Which samples make up a batch follows from the seed, the epoch and the step alone, so a run that was
killed goes on with the same batches.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from xbarc.support.data import Array, InputSpec, as_arrays, check_input, load_npz, match_inputs
from xbarc.support.errors import UsageError, XbarcError, nearest

Batch = tuple[dict[str, Any], Any]
"""Arrays or tensors by input, and labels (None without)."""

PICTURES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")


class Data(Protocol):
    """Samples to train or to validate on."""

    def batches(self, size: int, seed: tuple[int, int] | None) -> Iterator[Batch]:
        """Batches of at most `size` samples; `seed` (run, epoch) shuffles, None keeps the order."""

    def steps(self, size: int) -> int | None:
        """How many batches there are; None where nobody knows."""


@dataclass(frozen=True)
class Arrays:
    """Arrays by input name, axis 0 counts samples; `labels` [n, ...], None without."""

    feeds: dict[str, Array]
    labels: Array | None

    def __len__(self) -> int:
        return len(next(iter(self.feeds.values())))

    def batches(self, size: int, seed: tuple[int, int] | None) -> Iterator[Batch]:
        """Batches, the last of which may be smaller."""
        order = np.arange(len(self))
        if seed is not None:
            order = np.random.Generator(np.random.Philox(seed=list(seed))).permutation(len(self))
        for start in range(0, len(self), size):
            chosen = order[start : start + size]
            labels = None if self.labels is None else self.labels[chosen]
            yield {name: array[chosen] for name, array in self.feeds.items()}, labels

    def steps(self, size: int) -> int | None:
        """Batches of an epoch."""
        return -(-len(self) // size)

    def split(self, share: float, seed: int) -> "tuple[Arrays, Arrays | None]":
        """The samples to train on, and a share of them to validate on, drawn by the seed."""
        count = round(share * len(self))
        if count == 0:
            return self, None
        if count == len(self):
            raise UsageError(f"validation = {share}: no sample is left to train on")
        order = np.random.Generator(np.random.Philox(seed=[seed, 1 << 32])).permutation(len(self))
        return self._some(np.sort(order[count:])), self._some(np.sort(order[:count]))

    def _some(self, chosen: Array) -> "Arrays":
        labels = None if self.labels is None else self.labels[chosen]
        return Arrays({name: a[chosen] for name, a in self.feeds.items()}, labels)


@dataclass(frozen=True)
class Batches:
    """What any iterable gives, asked anew each epoch: (inputs, labels), or inputs alone.

    Its order is its own: a resumed run sees the same batches only if the iterable repeats itself.
    """

    source: Iterable[Any]
    specs: Sequence[InputSpec]

    def batches(self, size: int, seed: tuple[int, int] | None) -> Iterator[Batch]:
        """The iterable's own batches, whatever the size."""
        for item in self.source:
            inputs, labels = item if isinstance(item, tuple | list) else (item, None)
            feeds = inputs if isinstance(inputs, Mapping) else {"": inputs}
            arrays = match_inputs(self.specs, as_arrays(feeds))
            yield (
                {s.name: check_input(s, arrays[s.name]) for s in self.specs},
                None if labels is None else np.asarray(labels),
            )

    def steps(self, size: int) -> int | None:
        """As many as the iterable says it has."""
        try:
            return len(self.source)  # type: ignore[arg-type]
        except TypeError:
            return None


@dataclass(frozen=True)
class Pixels:
    """How a picture's bytes become numbers: `(x / scale - mean) / std`, channel by channel."""

    scale: float = 255.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def numbers(self, picture: Array) -> Array:
        """[C, H, W] float32 of [H, W, C]."""
        x = np.moveaxis(picture.astype(np.float32), -1, 0) / self.scale
        mean, std = (np.array(v, np.float32).reshape(-1, 1, 1) for v in (self.mean, self.std))
        return np.asarray((x - mean) / std, np.float32)


def load(
    source: Any,
    labels: Any,
    specs: Sequence[InputSpec],
    pixels: Pixels | None = None,
) -> Data:
    """Data of an npz file, a folder of pictures, arrays, or any iterable of batches.

    `labels` are the name of an array among those of `source`, or the labels themselves.

    Raises:
        UsageError: labels are given twice, or can't be there.
        XbarcError: a file can't be read, or arrays don't fit the model's inputs.
    """
    if isinstance(source, str | Path):
        path = Path(source)
        if path.is_dir():
            if isinstance(labels, str):
                raise UsageError(f"{path} is a folder: its subfolders are the classes, no --labels")
            return folder(path, specs, pixels or Pixels())
        source = load_npz(path)
    if isinstance(source, Mapping):
        arrays = as_arrays(source)
    elif isinstance(source, np.ndarray | torch.Tensor):
        arrays = as_arrays({"": source})
    elif isinstance(source, Iterable):
        if labels is not None:
            raise UsageError("an iterable gives its labels itself: (inputs, labels)")
        return Batches(source, specs)
    else:
        raise UsageError(f"data are a path, arrays or an iterable, not {type(source).__name__}")
    if isinstance(labels, str):
        if labels not in arrays:
            raise XbarcError(f"the data have no array {labels!r}: {nearest(labels, arrays)}")
        labels = arrays.pop(labels)
    matched = match_inputs(specs, arrays)
    feeds = {s.name: check_input(s, matched[s.name]) for s in specs}
    truth = None if labels is None else np.asarray(labels)
    counts = {n: len(a) for n, a in feeds.items()} | (
        {} if truth is None else {"labels": len(truth)}
    )
    if len(set(counts.values())) > 1 or 0 in counts.values():
        told = ", ".join(f"{name!r} {count}" for name, count in counts.items())
        raise XbarcError(f"the arrays differ in their number of samples, or have none: {told}")
    return Arrays(feeds, truth)


def folder(path: Path, specs: Sequence[InputSpec], pixels: Pixels) -> Arrays:
    """All pictures of a folder: its subfolders are the classes, in the order of their names.

    A folder without subfolders has no labels. `.npy` files hold [H, W, C] or [H, W] as they are;
    others are read by Pillow, where that is installed.

    Raises `XbarcError` where there is no picture, one can't be read, or the model takes none.
    """
    if len(specs) != 1 or len(specs[0].dims) != 4:
        raise XbarcError("a folder of pictures is for a model with one input of four axes")
    classes = sorted(p for p in path.iterdir() if p.is_dir())
    groups = [sorted(c.rglob("*")) for c in classes] or [sorted(path.iterdir())]
    found: list[Array] = []
    labels: list[int] = []
    for index, files in enumerate(groups):
        for file in files:
            if file.suffix.lower() in (*PICTURES, ".npy"):
                found.append(_picture(file, specs[0].dims, pixels))
                labels.append(index)
    if not found:
        raise XbarcError(f"{path} has no pictures: {', '.join(PICTURES)} or .npy")
    truth = np.array(labels) if classes else None
    return Arrays({specs[0].name: np.stack(found)}, truth)


def channels_last(dims: Sequence[int | None]) -> bool:
    """Whether pictures of four axes are [n, H, W, C]: only there is a number that channels have."""
    return dims[1] not in (1, 3) and dims[3] in (1, 3)


def _picture(file: Path, dims: Sequence[int | None], pixels: Pixels) -> Array:
    """A picture as the model takes it: channels first or last, in the model's size."""
    last = channels_last(dims)
    channels, height, width = (dims[3], dims[1], dims[2]) if last else (dims[1], dims[2], dims[3])
    if file.suffix == ".npy":
        try:
            picture = np.load(file, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise XbarcError(f"{file}: {error}") from None
        picture = picture[..., None] if picture.ndim == 2 else picture
    else:
        picture = _by_pillow(file, grey=channels == 1)
    x = pixels.numbers(picture)
    if height and width and x.shape[1:] != (height, width):
        small = torch.nn.functional.interpolate(
            torch.from_numpy(x)[None], (height, width), mode="bilinear", antialias=True
        )
        x = small[0].numpy()
    if channels is not None and len(x) != channels:
        raise XbarcError(f"{file} has {len(x)} channels, the model takes {channels}")
    return np.ascontiguousarray(np.moveaxis(x, 0, -1)) if last else x


def _by_pillow(file: Path, *, grey: bool) -> Array:
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        raise XbarcError(
            f"{file}: reading pictures needs Pillow (pip install pillow); or give .npy files"
        ) from None
    try:
        with Image.open(file) as image:
            array = np.asarray(image.convert("L" if grey else "RGB"))
    except (OSError, UnidentifiedImageError) as error:
        raise XbarcError(f"{file}: {error}") from None
    return array[..., None] if array.ndim == 2 else array


def sample_feeds(data: Data, count: int) -> dict[str, Array]:
    """The first samples, in order: what ranges are calibrated on."""
    found: list[dict[str, Array]] = []
    seen = 0
    for feeds, _ in data.batches(min(count, 64), None):
        found.append({n: np.asarray(a) for n, a in feeds.items()})
        seen += len(next(iter(found[-1].values())))
        if seen >= count:
            break
    if not found:
        raise XbarcError("the data have no samples")
    joined = {n: np.concatenate([f[n] for f in found]) for n in found[0]}
    return {n: a[:count] for n, a in joined.items()}
