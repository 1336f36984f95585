"""The shapes of a model's inputs: static, but for the batch."""

import math
from collections.abc import Mapping, Sequence

import onnx_ir as ir

from xbarc.frontends.onnx.limits import MAX_ELEMENTS
from xbarc.graph.query import describe_dims
from xbarc.support.errors import XbarcError, nearest


def fix_inputs(model: ir.Model, input_shapes: Mapping[str, Sequence[int]]) -> None:
    """Give each input its static shape, but for a symbolic batch."""
    inputs = {str(value.name): value for value in model.graph.inputs}
    problems = [
        f"the model has no input {name!r} to give a shape; {nearest(name, inputs)}"
        for name in input_shapes
        if name not in inputs
    ]
    shapes = {
        name: ir.Shape([_open(dim) for dim in value.shape.dims])
        for name, value in inputs.items()
        if value.shape is not None
    }
    fixed: dict[str, int] = {}
    misfits = set()
    for name in inputs:
        if name in input_shapes:
            problem = _apply_shape(name, shapes, list(input_shapes[name]), fixed)
            if problem:
                problems.append(problem)
                misfits.add(name)
    batch = _batch_name(shapes)
    for name, value in inputs.items():
        if name not in shapes:
            problems.append(_ask_shape(name, None))
            continue
        shape = shapes[name]
        for axis, dim in enumerate(shape.dims):
            if isinstance(dim, ir.SymbolicDim):
                if axis == 0:
                    shape[0] = dim.value or batch
                elif dim.value in fixed:
                    shape[axis] = fixed[dim.value]
        if name in misfits:
            continue
        if any(isinstance(dim, ir.SymbolicDim) for dim in shape.dims[1:]):
            problems.append(_ask_shape(name, shape))
        elif math.prod(dim for dim in shape.dims if isinstance(dim, int)) > MAX_ELEMENTS:
            problems.append(f"input {name!r} has the absurd shape {describe_dims(shape)}")
        value.shape = shape
    if problems:
        raise XbarcError("\n".join(dict.fromkeys(problems)))


def _open(dim: int | ir.SymbolicDim) -> int | ir.SymbolicDim:
    """Exporters write an unknown dimension as a symbol, nothing, 0 or -1."""
    if isinstance(dim, int):
        return dim if dim > 0 else ir.SymbolicDim(None)
    return dim if dim.value else ir.SymbolicDim(None)


def _batch_name(shapes: Mapping[str, ir.Shape]) -> str:
    used = {
        dim.value
        for shape in shapes.values()
        for dim in shape.dims[1:]
        if isinstance(dim, ir.SymbolicDim)
    }
    return next(name for name in ("N", "batch", "xbarc_batch") if name not in used)


def _apply_shape(
    name: str, shapes: dict[str, ir.Shape], given: list[int], fixed: dict[str, int]
) -> str | None:
    """Write the given dimensions into `shapes[name]`; what is wrong with them, or None."""
    asked = f"--input-shape {name}={','.join(map(str, given))}"
    if name not in shapes:
        shapes[name] = ir.Shape([None] * len(given))
    shape = shapes[name]
    if len(given) != len(shape):
        return (
            f"{asked} has {len(given)} dimensions, input {name!r} has {len(shape)}: "
            f"{describe_dims(shape)}"
        )
    for axis, (dim, wanted) in enumerate(zip(shape.dims, given, strict=True)):
        if wanted <= 0 or (axis == 0 and isinstance(dim, ir.SymbolicDim)):
            continue
        if isinstance(dim, int):
            if dim != wanted:
                return (
                    f"{asked} contradicts the model: dimension {axis} of input {name!r} is {dim} "
                    f"in {describe_dims(shape)}"
                )
            continue
        if dim.value and fixed.setdefault(dim.value, wanted) != wanted:
            return f"{asked} makes dimension {dim.value!r} {wanted}, it was {fixed[dim.value]}"
        shape[axis] = wanted
    return None


def _ask_shape(name: str, shape: ir.Shape | None) -> str:
    example = [1, 3, 48, 192]
    if shape is not None:
        example = [
            dim if isinstance(dim, int) else (1 if axis == 0 else 224)
            for axis, dim in enumerate(shape.dims)
        ]
    return (
        f"input {name!r} has open dimensions {describe_dims(shape)}: "
        f"give its shape, such as --input-shape {name}={','.join(map(str, example))}"
    )
