"""The shapes of a model's inputs: static, but for the batch.

A symbol means one thing in all inputs. What is the batch is found in this order:

1. what `batch_axes` says of an input;
2. a symbol that is called so (`batch`, `batch_size`, `bs`), on whatever axis it stands;
3. the first axis of an input, where that is open and its symbol doesn't stand behind the batch of
   another input;
4. a symbol `N` or `B`.

Whatever stands there is the batch in every input. All else is fixed by `input_shapes`.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from xbarc.frontends.onnx.limits import MAX_ELEMENTS
from xbarc.graph.query import describe_dims
from xbarc.support.errors import XbarcError, nearest

Dim = int | ir.SymbolicDim

CALLED_BATCH = re.compile(r"batch|^bs$", re.IGNORECASE)
"""Symbols of these names are the batch."""

MAYBE_BATCH = re.compile(r"[bn]", re.IGNORECASE)
"""Symbols of these names are, where nothing else is."""

IMAGE, SEQUENCE = 224, 16
"""Sizes in a hint: of an open axis of an image, and of any other."""


class UnknownInputError(XbarcError):
    """A shape or a batch axis is given to an input that the model hasn't."""


def fix_inputs(
    model: ir.Model,
    input_shapes: Mapping[str, Sequence[int]],
    batch_axes: Mapping[str, int | None] | None = None,
) -> None:
    """Give each input its static shape, but for one symbolic batch axis where it has one.

    `batch_axes` says for an input which axis that is, or None where it has none.

    Raises:
        UnknownInputError: what is given is for no input of the model.
        XbarcError: an input's shape is open, or contradicts what is given; one line an input.
    """
    inputs = {str(value.name): value for value in model.graph.inputs}
    asked = _Inputs(dict(batch_axes or {}))
    unknown = [
        f"the model has no input {name!r} to give {what}; {nearest(name, inputs)}"
        for given, what in ((input_shapes, "a shape"), (asked.axes, "a batch axis"))
        for name in given
        if name not in inputs
    ]
    if unknown:
        raise UnknownInputError(*unknown)
    for name, value in inputs.items():
        if value.shape is not None:
            asked.shapes[name] = [_open(dim) for dim in value.shape.dims]
        elif name in input_shapes:
            asked.shapes[name] = [ir.SymbolicDim(None) for _ in input_shapes[name]]
    problems = asked.check_axes()
    asked.find_batch()
    for name in inputs:
        if name in input_shapes and name in asked.shapes:
            problem = asked.give(name, list(input_shapes[name]))
            if problem:
                problems.append(problem)
                asked.misfits.add(name)
    for name, value in inputs.items():
        problem = _settle(name, value, asked)
        if problem and name not in asked.misfits:
            problems.append(problem)
    if problems:
        raise XbarcError(*dict.fromkeys(problems))


def _settle(name: str, value: ir.Value, asked: "_Inputs") -> str | None:
    """Write the shape that was found to the input; what is wrong with it, or None."""
    if name not in asked.shapes:
        return _ask_shape(name, None, None)
    dims, batch = asked.settled(name)
    value.shape = ir.Shape(dims)
    if any(isinstance(dim, ir.SymbolicDim) for i, dim in enumerate(dims) if i != batch):
        return _ask_shape(name, value.shape, batch)
    if math.prod(dim for dim in dims if isinstance(dim, int)) > MAX_ELEMENTS:
        return f"input {name!r} has the absurd shape {describe_dims(value.shape)}"
    return None


@dataclass
class _Inputs:
    """What is known of the inputs: which axis is each one's batch, and which symbols have sizes.

    `axes` is what the user says of batch axes.
    """

    axes: dict[str, int | None]
    shapes: dict[str, list[Dim]] = field(default_factory=dict)
    batches: set[str] = field(default_factory=set)
    fixed: dict[str, int] = field(default_factory=dict)
    misfits: set[str] = field(default_factory=set)

    def check_axes(self) -> list[str]:
        """What is wrong with the batch axes that are given."""
        problems = []
        for name, axis in self.axes.items():
            dims = self.shapes.get(name)
            if dims is None or axis is None:
                continue
            if not 0 <= axis < len(dims):
                problem = f"it has axes 0 to {len(dims) - 1}"
            elif isinstance(dims[axis], int):
                problem = f"that axis isn't open in {describe_dims(ir.Shape(dims))}"
            else:
                continue
            problems.append(f"--batch-axis {name}={axis} doesn't fit input {name!r}: {problem}")
            self.misfits.add(name)
        return problems

    def find_batch(self) -> None:
        """Find the symbols that are the batch."""
        given = {
            s
            for name, axis in self.axes.items()
            if axis is not None and name in self.shapes and name not in self.misfits
            for s in _symbol(self.shapes[name][axis])
        }
        never = {s for name, axis in self.axes.items() if axis is None for s in self.symbols(name)}
        never -= given
        everywhere = {s for name in self.shapes for s in self.symbols(name)}
        called = {s for s in everywhere if CALLED_BATCH.search(s)}
        self.batches = given | called - never
        first = {
            s
            for name, dims in self.shapes.items()
            if name not in self.axes and not self.batches & self.symbols(name)
            for s in _symbol(dims[0] if dims else 0)
        }
        self.batches |= first - never - self._sizes()
        if not self.batches:
            self.batches = {s for s in everywhere - never if MAYBE_BATCH.fullmatch(s)}

    def _sizes(self) -> set[str]:
        """Symbols that stand behind another open axis, which is the batch there: no batch."""
        return {
            s
            for dims in self.shapes.values()
            if dims and isinstance(dims[0], ir.SymbolicDim)
            for dim in dims[1:]
            for s in _symbol(dim) - _symbol(dims[0])
        }

    def symbols(self, name: str) -> set[str]:
        """The symbols of an input."""
        return {s for dim in self.shapes.get(name, ()) for s in _symbol(dim)}

    def batch_axis(self, name: str) -> int | None:
        """The axis that is the input's batch."""
        if name in self.axes:
            return self.axes[name]
        dims = self.shapes[name]
        for axis, dim in enumerate(dims):
            if _symbol(dim) & self.batches:
                return axis
        nameless = bool(dims) and isinstance(dims[0], ir.SymbolicDim) and not dims[0].value
        return 0 if nameless else None

    def give(self, name: str, given: list[int]) -> str | None:
        """Take the sizes that the user gives; what is wrong with them, or None."""
        asked = f"--input-shape {name}={','.join(map(str, given))}"
        dims, batch = self.shapes[name], self.batch_axis(name)
        described = describe_dims(ir.Shape(dims))
        if len(given) != len(dims):
            return (
                f"{asked} has {len(given)} dimensions, input {name!r} has {len(dims)}: {described}"
            )
        for axis, (dim, wanted) in enumerate(zip(dims, given, strict=True)):
            if wanted <= 0 or axis == batch:
                continue
            if isinstance(dim, int):
                if dim != wanted:
                    return (
                        f"{asked} contradicts the model: dimension {axis} of input {name!r} is "
                        f"{dim} in {described}"
                    )
                continue
            before = self.fixed.setdefault(dim.value, wanted) if dim.value else wanted
            if before != wanted:
                return f"{asked} makes dimension {dim.value!r} {wanted}, it was {before}"
            dims[axis] = wanted
        return None

    def settled(self, name: str) -> tuple[list[Dim], int | None]:
        """The shape as far as it is known, and which axis is the batch."""
        dims, batch = list(self.shapes[name]), self.batch_axis(name)
        for axis, dim in enumerate(dims):
            if isinstance(dim, int):
                continue
            if axis == batch:
                dims[axis] = dim if dim.value else ir.SymbolicDim(self._batch_name())
            elif dim.value in self.fixed:
                dims[axis] = self.fixed[dim.value]
        return dims, batch

    def _batch_name(self) -> str:
        """The batch's name where the model gives it none: that of other inputs' batch."""
        if self.batches:
            return min(self.batches)
        used = {s for name in self.shapes for s in self.symbols(name)}
        return next(name for name in ("N", "batch", "xbarc_batch") if name not in used)


def _symbol(dim: Dim) -> set[str]:
    return {dim.value} if isinstance(dim, ir.SymbolicDim) and dim.value else set()


def _open(dim: Dim) -> Dim:
    """Exporters write an unknown dimension as a symbol, nothing, 0 or -1."""
    if isinstance(dim, int):
        return dim if dim > 0 else ir.SymbolicDim(None)
    return dim if dim.value else ir.SymbolicDim(None)


def _ask_shape(name: str, shape: ir.Shape | None, batch: int | None) -> str:
    if shape is None:
        sizes = [1, 3, IMAGE, IMAGE]
    else:
        size = IMAGE if len(shape) == 4 else SEQUENCE
        sizes = [
            dim if isinstance(dim, int) else (1 if axis == batch else size)
            for axis, dim in enumerate(shape.dims)
        ]
    hint = (
        f"input {name!r} has open dimensions {describe_dims(shape)}: "
        f"give its shape, such as --input-shape {name}={','.join(map(str, sizes))}"
    )
    if shape is not None and batch is None:
        axis = next(i for i, dim in enumerate(shape.dims) if isinstance(dim, ir.SymbolicDim))
        hint += f"; if axis {axis} is the batch, --batch-axis {name}={axis}"
    return hint
