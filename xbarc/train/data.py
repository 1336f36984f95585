"""Training data: arrays, a folder of images, or any iterable of batches.

Which samples make up a batch follows from the seed, the epoch and the step alone, so a run that was
killed goes on with the same batches.
"""

import inspect
import math
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
            raise UsageError(
                f"validation_share = {share} of {len(self)} samples: none is left to train on"
            )
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
            found = {s.name: check_input(s, arrays[s.name]) for s in self.specs}
            yield _finite(found), _truth(labels, len(next(iter(found.values()))))

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

    def __post_init__(self) -> None:
        """Raises `UsageError` where a value is no number, or divides by 0."""
        for name, values in (("scale", (self.scale,)), ("mean", self.mean), ("std", self.std)):
            for value in values:
                if not math.isfinite(value) or (value == 0 and name != "mean"):
                    other = "" if name == "mean" else " other than 0"
                    raise UsageError(f"--pixel-{name} {value:g}: give a number{other}")

    def numbers(self, picture: Array) -> Array:
        """[C, H, W] float32 of [H, W, C].

        Raises `UsageError` where mean or std are neither one number nor one a channel.
        """
        channels = picture.shape[-1]
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, channels):
                raise UsageError(
                    f"--pixel-{name} has {len(values)} numbers, pictures have {channels} "
                    f"channel{'s' if channels > 1 else ''}: give one, or one a channel"
                )
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
        UsageError: labels are given twice, or can't be there; an iterable can be read only once.
        XbarcError: a file can't be read, arrays don't fit the model's inputs, or aren't finite.
    """
    if isinstance(source, str | Path):
        path = Path(source)
        if path.is_dir():
            if isinstance(labels, str):
                raise UsageError(f"{path} is a folder: its subfolders are the classes, no --labels")
            found = folder(path, specs, pixels or Pixels())
            return Arrays(_finite(found.feeds), found.labels)
        source = load_npz(path)
    if isinstance(source, Mapping):
        arrays = as_arrays(source)
    elif isinstance(source, np.ndarray | torch.Tensor):
        arrays = as_arrays({"": source})
    elif isinstance(source, Iterable):
        if labels is not None:
            raise UsageError("an iterable gives its labels itself: (inputs, labels)")
        if isinstance(source, Iterator) and not inspect.isfunction(type(source).__iter__):
            raise UsageError(  # an iterator written in Python may begin anew in its __iter__
                f"data are a {type(source).__name__}, which can be read only once: give a list of "
                "batches, or a loader that starts anew each epoch"
            )
        return Batches(source, specs)
    else:
        raise UsageError(f"data are a path, arrays or an iterable, not {type(source).__name__}")
    if isinstance(labels, str):
        if labels not in arrays:
            raise XbarcError(f"the data have no array {labels!r}: {nearest(labels, arrays)}")
        labels = arrays.pop(labels)
    matched = match_inputs(specs, arrays)
    feeds = {s.name: check_input(s, matched[s.name]) for s in specs}
    truth = _truth(labels, None)
    counts = {n: len(a) for n, a in feeds.items()} | (
        {} if truth is None else {"labels": len(truth)}
    )
    if len(set(counts.values())) > 1 or 0 in counts.values():
        told = ", ".join(f"{name!r} {count}" for name, count in counts.items())
        raise XbarcError(f"the arrays differ in their number of samples, or have none: {told}")
    return Arrays(_finite(feeds), truth)


def _finite(arrays: dict[str, Array]) -> dict[str, Array]:
    """The arrays. Raises `XbarcError` where one has a number that isn't finite."""
    for name, array in arrays.items():
        _check_finite(f"input {name!r} has", array)
    return arrays


def _check_finite(what: str, array: Array) -> None:
    if array.dtype.kind != "f" or np.isfinite(array).all():
        return
    place = tuple(np.argwhere(~np.isfinite(array))[0])
    raise XbarcError(f"{what} {array[place]} in sample {place[0]}: give finite numbers")


def _truth(labels: Any, samples: int | None) -> Array | None:
    """Labels [n, ...] as an array, of so many samples where that is known; None without.

    Raises `XbarcError` where they are no finite numbers, or of another number of samples.
    """
    if labels is None:
        return None
    truth = as_arrays({"labels": labels})["labels"]
    if truth.dtype.kind not in "biuf":
        raise XbarcError(f"labels are {truth.dtype}: give numbers, classes as integers from 0 up")
    if truth.ndim == 0:
        raise XbarcError("labels are a single number: give one or more for each sample")
    _check_finite("labels have", truth)
    if samples is not None and len(truth) != samples:
        raise XbarcError(f"a batch has {samples} samples and {len(truth)} labels")
    return truth


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
    sizes = sorted({x.shape for x in found})
    if len(sizes) > 1:
        raise XbarcError(
            f"{path} has pictures of other sizes: {list(sizes[0])} and {list(sizes[-1])}; make "
            "them alike, or give the model a fixed size, to which they are scaled"
        )
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
        if picture.ndim not in (2, 3) or picture.dtype.kind not in "biuf":
            raise XbarcError(
                f"{file} has shape {list(picture.shape)} of {picture.dtype}: a picture is numbers "
                "[H, W] or [H, W, C]"
            )
        picture = picture[..., None] if picture.ndim == 2 else picture
    else:
        picture = _by_pillow(file, grey=channels == 1)
    if channels is not None and picture.shape[-1] != channels:
        raise XbarcError(f"{file} has {picture.shape[-1]} channels, the model takes {channels}")
    x = pixels.numbers(picture)
    if height and width and x.shape[1:] != (height, width):
        small = torch.nn.functional.interpolate(
            torch.from_numpy(x)[None], (height, width), mode="bilinear", antialias=True
        )
        x = small[0].numpy()
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
