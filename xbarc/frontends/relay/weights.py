"""A program's weights: those that are given, random ones, and the error that lists missing ones."""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xbarc.frontends.onnx.limits import MAX_ELEMENTS
from xbarc.frontends.relay.tree import TensorType
from xbarc.frontends.tvm_ops import onnx_dtype
from xbarc.frontends.tvm_params import read_params
from xbarc.support.data import Array, as_arrays, load_npz
from xbarc.support.errors import UsageError, XbarcError

LISTED = 30
"""Missing weights that an error names."""


def params_of(given: str | Path | Mapping[str, Any] | None) -> dict[str, Array]:
    """The given weights by parameter name. Raises `XbarcError` where a file can't be read."""
    if given is None:
        return {}
    if isinstance(given, Mapping):
        return as_arrays(given)
    return read_params(given)


def constants_of(given: str | Path | Mapping[str, Any] | Sequence[Any] | None) -> dict[int, Array]:
    """The given constants by index.

    Raises:
        UsageError: a name ends in no index, or two in one.
        XbarcError: a file can't be read.
    """
    if given is None:
        return {}
    if not isinstance(given, str | Path | Mapping):
        return dict(enumerate(as_arrays({str(i): array for i, array in enumerate(given)}).values()))
    arrays = as_arrays(given) if isinstance(given, Mapping) else load_npz(given)
    found: dict[int, Array] = {}
    for name, array in arrays.items():
        index = re.search(r"(\d+)\D*$", name)
        if index is None:
            raise UsageError(f"constant {name!r}: its name doesn't end in an index, as c0 does")
        if int(index[1]) in found:
            raise UsageError(f"two constants have the index {index[1]}")
        found[int(index[1])] = array
    return found


def missing_lines(where: str, missing: Mapping[str, TensorType | None]) -> list[str]:
    """The error that lists missing weights, and says how to give them."""
    options = []
    if any(name.startswith("%") for name in missing):
        options.append("--params FILE")
    if any(not name.startswith("%") for name in missing):
        options.append("--constants FILE.npz")
    known = all(kind is not None for kind in missing.values())
    random = ", or --random-weights SEED for a cost study" if known else ""
    inputs = "; --inputs NAMES says which are inputs" if "--params FILE" in options else ""
    count = f"{len(missing)} weights are" if len(missing) > 1 else "1 weight is"
    lines = [f"{where}: {count} missing; give {' and '.join(options)}{random}{inputs}"]
    for name, kind in list(missing.items())[:LISTED]:
        lines.append(f"  {name}  {describe(kind)}")
    if len(missing) > LISTED:
        lines.append(f"  and {len(missing) - LISTED} more")
    return lines


def describe(kind: TensorType | None) -> str:
    """A type as error lines name it."""
    if kind is None:
        return "of unknown shape"
    sizes = ", ".join("?" if size is None else str(size) for size in kind.shape)
    return f"{kind.dtype} [{sizes}]"


def random_array(rng: np.random.Generator, kind: TensorType | None) -> Array:
    """Weights that keep the scale of activations; vectors between 0.5 and 1.5, as variances are."""
    assert kind is not None
    shape = [size or 1 for size in kind.shape]
    if math.prod(shape) > MAX_ELEMENTS or min(shape, default=1) < 0:
        raise XbarcError(f"random weights of the absurd shape {shape}")
    dtype = onnx_dtype(kind.dtype).numpy()
    if dtype.kind in "biu":
        return rng.integers(0, 2 if dtype.kind == "b" else 8, shape).astype(dtype)
    if sum(size > 1 for size in shape) < 2:
        return rng.uniform(0.5, 1.5, shape).astype(dtype)
    return (rng.standard_normal(shape) / math.sqrt(math.prod(shape[1:]))).astype(dtype)


def fits(array: Array, kind: TensorType) -> bool:
    """Whether an array is of a type, whose open sizes may be any."""
    return (
        str(array.dtype) == kind.dtype
        and array.ndim == len(kind.shape)
        and all(a == s for a, s in zip(array.shape, kind.shape, strict=True) if s is not None)
    )
