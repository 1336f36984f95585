"""A program's constants, `meta[relay.Constant][i]`: given, random, missing, or of unknown shape."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from xbarc.frontends.relay.tree import CONSTANT, TensorType
from xbarc.frontends.relay.weights import describe, fits, random_array
from xbarc.frontends.tvm_ops import FAILED, Builder, Unsupported, onnx_dtype
from xbarc.support.data import Array
from xbarc.support.errors import XbarcError


@dataclass(frozen=True)
class Unknown:
    """A constant of which not even the shape is known."""

    index: int


class Constants:
    """Constants by index; `random` and `missing` are those that had no data."""

    def __init__(
        self,
        where: str,
        given: Mapping[int, Array],
        types: Mapping[int, TensorType],
        seed: int | None,
        builder: Builder,
    ):
        """`types` is what the program tells of them; with a seed, missing ones are random."""
        self._where, self._given, self._types, self._builder = where, given, types, builder
        self._rng = None if seed is None else np.random.default_rng([seed, 1])
        self._values: dict[int, ir.Value] = {}
        self.random: list[str] = []
        self.missing: dict[str, TensorType | None] = {}

    def value(self, kind: str, index: int) -> Any:
        """`meta[kind][index]`: its value, or `Unknown` where not even its shape is known."""
        name = f"meta[{kind}][{index}]"
        if kind != CONSTANT:
            self._builder.note(f"{name}: of metadata only constants are read")
            return FAILED
        if index not in self._values:
            known = self._types.get(index)
            array = self._given.get(index)
            if array is None and known is None:
                return Unknown(index)
            if array is not None and known is not None and not fits(array, known):
                given = describe(TensorType(str(array.dtype), array.shape))
                raise self._error(f"{name} is {describe(known)}, and {given} is given")
            self._values[index] = self._constant(index, array, known)
        return self._values[index]

    def _constant(self, index: int, array: Array | None, kind: TensorType | None) -> ir.Value:
        if array is None and self._rng is not None:
            array = random_array(self._rng, kind)
            self.random.append(f"constant_{index}")
        elif array is None:
            assert kind is not None
            self.missing[f"meta[{CONSTANT}][{index}]"] = kind
            zero = np.zeros((), onnx_dtype(kind.dtype).numpy())
            array = np.broadcast_to(zero, [size or 1 for size in kind.shape])
        return self._builder.constant(array, f"constant_{index}")

    def guessed(
        self, name: str, arguments: Sequence[Any], attributes: Mapping[str, Any]
    ) -> list[Any]:
        """The arguments, with constants of unknown shape replaced by what fits the operator."""
        given = list(arguments)
        for place, argument in enumerate(given):
            if not isinstance(argument, Unknown):
                continue
            kind = None
            if place and isinstance(given[0], ir.Value):
                kind = _expected(self._builder, name, given[0], attributes)
            if argument.index in self._values:
                given[place] = self._values[argument.index]
            elif kind is None:
                self.missing[f"meta[{CONSTANT}][{argument.index}]"] = None
                given[place] = FAILED
            else:
                given[place] = self._constant(argument.index, None, kind)
                self._values[argument.index] = given[place]
        return given

    def _error(self, what: str) -> XbarcError:
        return XbarcError(f"{self._where}: {what}")


def _expected(
    b: Builder, name: str, x: ir.Value, attributes: Mapping[str, Any]
) -> TensorType | None:
    """The type of a constant that an operator takes beside `x`, where its attributes tell."""
    try:
        dims, dtype = b.sizes_of(x), b.dtype(x).numpy().name
    except Unsupported:
        return None
    if not dims:
        return TensorType(dtype, ())
    channels = dims[1] if len(dims) > 1 else dims[0]
    kernel = attributes.get("kernel_size")
    out, groups = attributes.get("channels"), attributes.get("groups", 1)
    if name in ("nn.conv1d", "nn.conv2d", "nn.conv3d"):
        if kernel is None or out is None or {"data_layout", "kernel_layout"} & set(attributes):
            return None
        return TensorType(dtype, (out, channels // groups, *kernel))
    if name == "nn.dense":
        units = attributes.get("units")
        return None if units is None else TensorType(dtype, (units, dims[-1]))
    if name in ("nn.batch_norm", "nn.bias_add", "nn.prelu", "nn.layer_norm"):
        axis = attributes.get("axis", -1 if name == "nn.layer_norm" else 1)
        if not -len(dims) <= axis < len(dims):
            return None
        return TensorType(dtype, (dims[axis],))
    if name in ("add", "multiply", "subtract", "divide"):
        return TensorType(dtype, (channels, *[1] * (len(dims) - 2)))
    return None
