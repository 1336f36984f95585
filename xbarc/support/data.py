"""Arrays that come in: npz files, and what fits an input, cut into batches."""

import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from xbarc.support.errors import XbarcError, nearest

Array = npt.NDArray[Any]
Feeds = Mapping[str, Array]


@dataclass(frozen=True)
class InputSpec:
    """An input of a model: `dims` None where symbolic; `dtype` None where any will do."""

    name: str
    dims: tuple[int | None, ...]
    dtype: np.dtype[np.generic] | None

    @property
    def batched(self) -> bool:
        """Whether axis 0 takes any number of samples at once."""
        return bool(self.dims) and self.dims[0] is None


def load_npz(path: str | Path) -> dict[str, Array]:
    """The arrays of an npz file; pickled objects are refused.

    Raises `XbarcError` where the file isn't there, isn't npz or holds objects.
    """
    try:
        loaded = np.load(path, allow_pickle=False)
        if not isinstance(loaded, np.lib.npyio.NpzFile):
            raise XbarcError(f"{path}: a single array, not npz: save it by numpy.savez")
        with loaded as file:
            return {name: file[name] for name in file.files}
    except OSError as error:
        raise XbarcError(f"{path}: {error.strerror or 'not an npz file'}") from None
    except (ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        # numpy's own words on pickles tell how to run what the file says.
        why = "pickled objects are never loaded" if "pickle" in str(error) else error
        raise XbarcError(f"{path}: not an npz file of plain arrays: {why}") from None


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
    """`array` in the model's type. Axis 0 counts samples, so its length is free here.

    Numbers convert where the kind allows it (0..255 pixels in uint8 to float32). Raises
    `XbarcError` where shape or type doesn't fit.
    """
    fits = array.ndim == len(spec.dims) and all(
        want is None or want == size or axis == 0
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
    """Samples along axis 0 of the first batched input, else of the first that has an axis; or 1."""
    counting = _counting(specs)
    return _rows(feeds[counting.name]) if counting is not None else 1


def _rows(array: Array) -> int:
    # A scalar where a tensor is wanted: `check_input` says so.
    return len(array) if array.ndim else 1


def _counting(specs: Sequence[InputSpec]) -> InputSpec | None:
    """The input whose axis 0 counts the samples."""
    ordered = sorted((s for s in specs if s.dims), key=lambda s: not s.batched)
    return ordered[0] if ordered else None


def first_samples(specs: Sequence[InputSpec], feeds: Feeds, limit: int) -> dict[str, Array]:
    """At most `limit` samples of each input, of a fixed batch as many as make its runs whole.

    One that is the same in every run stays whole.
    """
    counting = _counting(specs)
    runs = limit if counting is None else -(-limit // (counting.dims[0] or 1))
    rows = {s.name: runs * (s.dims[0] or 1) for s in specs if s.dims}
    same = {s.name for s in specs if not s.dims or s.dims[0] == _rows(feeds[s.name])}
    return {n: a if n in same or not a.ndim else a[: rows[n]] for n, a in feeds.items()}


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
    """Cut `feeds` along axis 0 into runs of the model.

    Inputs with a symbolic batch are cut every `size` samples, others as the model says; of those,
    one with data for a single run is the same in every run. Raises `XbarcError` where an input's
    shape, type or number of samples doesn't fit.
    """
    arrays = {s.name: check_input(s, feeds[s.name]) for s in specs}
    steps = {s.name: size if s.dims[0] is None else s.dims[0] for s in specs if s.dims}
    runs = set()
    for spec in specs:
        if not spec.dims:
            continue
        rows, step = len(arrays[spec.name]), steps[spec.name]
        if not spec.batched and rows % step:
            raise XbarcError(
                f"input {spec.name!r} has {rows} samples, the model takes {step} at a time"
            )
        if not spec.batched and rows == step:
            del steps[spec.name]
            continue
        runs.add(-(-rows // step))
    if len({len(arrays[s.name]) for s in specs if s.batched}) > 1 or len(runs) > 1:
        counts = ", ".join(f"{s.name!r} {len(arrays[s.name])}" for s in specs if s.dims)
        raise XbarcError(f"the inputs differ in their number of samples: {counts}")
    for run in range(runs.pop() if runs else 1):
        yield {
            name: array[run * steps[name] : (run + 1) * steps[name]] if name in steps else array
            for name, array in arrays.items()
        }


def unknown_inputs(specs: Sequence[InputSpec], names: Sequence[str]) -> None:
    """Refuse names that are no input. Raises `XbarcError` that suggests the nearest."""
    known = [s.name for s in specs]
    for name in names:
        if name not in known:
            raise XbarcError(f"the model has no input {name!r}: {nearest(name, known)}")
