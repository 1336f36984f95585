"""Arrays that come in: npz files, and what fits an input, cut into batches."""

import stat
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from xbarc.support.errors import XbarcError, nearest

Array = npt.NDArray[Any]
PLAUSIBLE_BYTES, PLAUSIBLE_RATIO = 1 << 30, 64
"""A compressed file of more bytes, unpacked, than both is taken for a bomb."""

Feeds = Mapping[str, Array]


@dataclass(frozen=True)
class InputSpec:
    """An input of a model: `dims` None where symbolic; `dtype` None where any will do."""

    name: str
    dims: tuple[int | None, ...]
    dtype: np.dtype[np.generic] | None

    @property
    def batched(self) -> bool:
        """Whether an axis takes any number of samples at once."""
        return None in self.dims

    @property
    def axis(self) -> int:
        """The axis along which samples lie: the symbolic one, or the first."""
        return self.dims.index(None) if self.batched else 0

    def samples(self, array: Array) -> int:
        """Samples in an array for this input: 1 in a scalar."""
        # A scalar where a tensor is wanted: `check_input` says so.
        return array.shape[self.axis] if array.ndim > self.axis else 1

    def at_once(self, size: int) -> int:
        """Samples that a run takes: `size` of a symbolic batch."""
        fixed = self.dims[self.axis] if self.dims else 1
        return size if fixed is None else fixed

    def part(self, array: Array, start: int, stop: int) -> Array:
        """The samples from `start` to `stop`: a view."""
        return array[(slice(None),) * self.axis + (slice(start, stop),)]

    def joined(self, arrays: Sequence[Array]) -> Array:
        """Samples of several arrays, one after the other."""
        return np.concatenate(arrays, axis=self.axis)


def load_npz(path: str | Path) -> dict[str, Array]:
    """The arrays of an npz file; pickled objects are refused.

    Raises `XbarcError` where the file isn't there, isn't npz or holds objects.
    """
    try:
        _check_file(Path(path))
        loaded = np.load(path, allow_pickle=False)
        if not isinstance(loaded, np.lib.npyio.NpzFile):
            raise XbarcError(f"{path}: a single array, not npz: save it by numpy.savez")
        with loaded as file:
            arrays = {name: file[name] for name in file.files}
    except XbarcError:
        raise
    except OSError as error:
        raise XbarcError(f"{path}: {error.strerror or 'not an npz file'}") from None
    except Exception as error:
        # Members that are encrypted, compressed in an unknown way, or of absurd headers end in
        # whatever zipfile and numpy come across. numpy's own words on pickles tell how to run them.
        why = "pickled objects are never loaded" if "pickle" in str(error) else error
        raise XbarcError(f"{path}: not an npz file of plain arrays: {why}") from None
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):
            raise XbarcError(f"{path}: {name!r} in it is no array: save arrays by numpy.savez")
    return arrays


def _check_file(path: Path) -> None:
    """Refuse what is no file, and one that unpacks to far more than it is. Raises `OSError` too."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise XbarcError(f"{path}: no file of arrays: save them by numpy.savez")
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        total = sum(member.file_size for member in archive.infolist())
    if total > PLAUSIBLE_BYTES and total > PLAUSIBLE_RATIO * status.st_size:
        raise XbarcError(
            f"{path}: {status.st_size} bytes that unpack to {total}: save it by numpy.savez, not "
            "compressed, if it is meant"
        )


def match_inputs(specs: Sequence[InputSpec], arrays: Mapping[str, Array]) -> dict[str, Array]:
    """The arrays for the inputs by name; a single input takes a single array of any name.

    Raises `XbarcError` where an input has no array.
    """
    names = [s.name for s in specs]
    if len(specs) == 1 and len(arrays) == 1:
        return {names[0]: next(iter(arrays.values()))}
    missing = [n for n in names if n not in arrays]
    if missing:
        given = ", ".join(arrays) or "none"
        raise XbarcError(
            f"no data for input {missing[0]!r} (arrays given: {given}): "
            "name the arrays of the npz file as the model's inputs"
        )
    return {n: arrays[n] for n in names}


def check_input(spec: InputSpec, array: Array) -> Array:
    """`array` in the model's type. Samples lie along `spec.axis`, so its length is free here.

    Numbers convert where the kind allows it (0..255 pixels in uint8 to float32). Raises
    `XbarcError` where shape or type doesn't fit.
    """
    fits = array.ndim == len(spec.dims) and all(
        want is None or want == size or axis == spec.axis
        for axis, (want, size) in enumerate(zip(spec.dims, array.shape, strict=True))
    )
    if not fits:
        got, want = _shape_text(array.shape), _shape_text(spec.dims)
        raise XbarcError(f"input {spec.name!r} has shape {got}, the model takes {want}")
    if spec.dtype is None or array.dtype == spec.dtype:
        return array
    if not np.can_cast(array.dtype, spec.dtype, "same_kind"):
        raise XbarcError(
            f"input {spec.name!r} has type {array.dtype}, the model takes {spec.dtype}"
        )
    return array.astype(spec.dtype)


def _shape_text(dims: Sequence[int | None]) -> str:
    return " x ".join("batch" if d is None else str(d) for d in dims) or "a scalar"


def sample_count(specs: Sequence[InputSpec], feeds: Feeds) -> int:
    """Samples of the first batched input, else of the first that has an axis; or 1."""
    counting = _counting(specs)
    return counting.samples(feeds[counting.name]) if counting is not None else 1


def _counting(specs: Sequence[InputSpec]) -> InputSpec | None:
    """The input that counts the samples."""
    ordered = sorted((s for s in specs if s.dims), key=lambda s: not s.batched)
    return ordered[0] if ordered else None


def first_samples(specs: Sequence[InputSpec], feeds: Feeds, limit: int) -> dict[str, Array]:
    """At most `limit` samples of each input, of a fixed batch as many as make its runs whole.

    One that is the same in every run stays whole.
    """
    counting = _counting(specs)
    runs = limit if counting is None else -(-limit // counting.at_once(1))
    result = dict(feeds)
    for spec in specs:
        array = feeds[spec.name]
        if spec.dims and array.ndim and (spec.batched or spec.samples(array) != spec.dims[0]):
            result[spec.name] = spec.part(array, 0, runs * spec.at_once(1))
    return result


def as_arrays(arrays: Mapping[str, npt.ArrayLike]) -> dict[str, Array]:
    """Lists and numbers as arrays. Raises `XbarcError` where rows differ in length."""
    result = {}
    for name, values in arrays.items():
        try:
            result[name] = np.asarray(values)
        except ValueError:
            what = f"the values for {name!r}" if name else "the values"
            raise XbarcError(f"{what} are no array: their rows differ in length") from None
    return result


def batches(specs: Sequence[InputSpec], feeds: Feeds, size: int) -> Iterator[dict[str, Array]]:
    """Cut `feeds` along their samples into runs of the model.

    Inputs with a symbolic batch are cut every `size` samples, others as the model says; of those,
    one with data for a single run is the same in every run. Raises `XbarcError` where an input's
    shape, type or number of samples doesn't fit.
    """
    arrays = {s.name: check_input(s, feeds[s.name]) for s in specs}
    cut: dict[str, InputSpec] = {}
    runs = set()
    for spec in specs:
        if not spec.dims:
            continue
        rows, step = spec.samples(arrays[spec.name]), spec.at_once(size)
        if not spec.batched and rows % step:
            raise XbarcError(
                f"input {spec.name!r} has {rows} samples, the model takes {step} at a time"
            )
        if not spec.batched and rows == step:
            continue
        cut[spec.name] = spec
        runs.add(-(-rows // step))
    if len({s.samples(arrays[s.name]) for s in specs if s.batched}) > 1 or len(runs) > 1:
        counts = ", ".join(f"{s.name!r} {s.samples(arrays[s.name])}" for s in specs if s.dims)
        raise XbarcError(f"the inputs differ in their number of samples: {counts}")
    for run in range(runs.pop() if runs else 1):
        part = dict(arrays)
        for name, spec in cut.items():
            step = spec.at_once(size)
            part[name] = spec.part(arrays[name], run * step, (run + 1) * step)
        yield part


def unknown_inputs(specs: Sequence[InputSpec], names: Sequence[str]) -> None:
    """Refuse names that are no input. Raises `XbarcError` that suggests the nearest."""
    known = [s.name for s in specs]
    for name in names:
        if name not in known:
            raise XbarcError(f"the model has no input {name!r}: {nearest(name, known)}")
