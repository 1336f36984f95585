"""Taking groups of channels out of a graph."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from xbarc.graph.analysis.dependencies import Dependencies, Dim, Mask, cuts_of, pads_of
from xbarc.graph.query import attribute, constant, dims, input_at, is_op, unique_name, value_names
from xbarc.graph.shapes import infer_shapes


def remove(model: ir.Model, dependencies: Dependencies, groups: Iterable[int]) -> bool:
    """Take `groups` out of every weight, constant, attribute and shape; whether anything went.

    Nothing is written into an array: weights that shrink are new ones. What is left computes what
    the graph computed with the groups' weights at zero, where these channels end in weights.

    Raises:
        ValueError: a group is fixed, or a dimension would be left with nothing.
    """
    groups = set(groups)
    if stuck := groups & set(dependencies.reasons):
        group = min(stuck)
        raise ValueError(f"group {group} is fixed: {dependencies.reasons[group]}")
    kept = dependencies.kept(groups)
    if not kept:
        return False
    for dim, mask in kept.items():
        if not mask.any():
            raise ValueError(f"nothing would be left of axis {dim.axis} of {dim.value.name!r}")
    names = value_names(model)
    # Attributes and shape constants first: their rules read the sizes as they were.
    for node in model.graph:
        _resize_node(model, node, kept, names)
    for value in tuple(model.graph.initializers.values()):
        axes = {axis: kept.get(Dim(value, axis)) for axis in range(len(value.shape or ()))}
        masks = {axis: mask for axis, mask in axes.items() if mask is not None}
        array = constant(value)
        if masks and array is not None:
            for axis, mask in masks.items():
                array = np.compress(mask, array, axis)
            set_constant(value, array)
    infer_shapes(model)
    return True


def set_constant(value: ir.Value, array: npt.NDArray[Any]) -> None:
    """Give an initialiser, for all its readers, another array."""
    value.const_value = ir.Tensor(array, name=value.name)
    value.shape = ir.Shape(array.shape)


def give_input(model: ir.Model, node: ir.Node, index: int, array: Any, names: set[str]) -> None:
    """Let `node` read a new initialiser; other readers of the old one keep theirs."""
    array = np.asarray(array)
    base = node.inputs[index].name if input_at(node, index) is not None else None  # type: ignore[union-attr]
    value = ir.Value(
        name=unique_name(base or f"{node.name or node.op_type}_{index}", names),
        type=ir.TensorType(ir.DataType.from_numpy(array.dtype)),
        shape=ir.Shape(array.shape),
        const_value=ir.Tensor(array),
    )
    model.graph.register_initializer(value)
    if len(node.inputs) <= index:
        node.resize_inputs(index + 1)
    node.replace_input_with(index, value)


def _resize_node(model: ir.Model, node: ir.Node, kept: Mapping[Dim, Mask], names: set[str]) -> None:
    """Sizes that stand in a node's attributes or constants, rather than in its weights."""
    touched = [d for v in (*node.inputs, *node.outputs) if v for d in _dims_of(v) if d in kept]
    if not touched:
        return
    x, y = node.inputs[0], node.outputs[0]
    if is_op(node, "Conv", "ConvTranspose"):
        groups = attribute(node, "group", 1)
        channels = kept.get(Dim(x, 1)) if x is not None else None
        if groups > 1 and channels is not None and groups == len(channels):
            node.attributes["group"] = ir.AttrInt64("group", int(channels.sum()))
    elif is_op(node, "Reshape", "Expand"):
        shape = constant(node.inputs[1])
        assert shape is not None
        new = shape.copy()
        shift = len(_dims_of(y)) - len(new)
        for axis in range(len(new)):
            mask = kept.get(Dim(y, axis + shift))
            if mask is not None and new[axis] > 1:
                new[axis] = mask.sum()
        give_input(model, node, 1, new, names)
    elif is_op(node, "Resize") and input_at(node, 3) is not None:
        sizes = constant(node.inputs[3])
        assert sizes is not None
        new = sizes.copy()
        axes = attribute(node, "axes") or range(len(new))
        for i, axis in enumerate(axes):
            mask = kept.get(Dim(y, axis % len(_dims_of(y))))
            if mask is not None:
                new[i] = mask.sum()
        give_input(model, node, 3, new, names)
    elif is_op(node, "Split"):
        _resize_split(model, node, kept, names)
    elif is_op(node, "Slice"):
        _resize_slice(model, node, kept, names)
    elif is_op(node, "Pad"):
        _resize_pad(model, node, kept, names)


def _dims_of(value: ir.Value) -> list[Dim]:
    return [Dim(value, axis) for axis in range(len(value.shape or ()))]


def _resize_split(
    model: ir.Model, node: ir.Node, kept: Mapping[Dim, Mask], names: set[str]
) -> None:
    axis = attribute(node, "axis", 0) % len(_dims_of(node.outputs[0]))
    sizes = []
    for out in node.outputs:
        mask = kept.get(Dim(out, axis))
        sizes.append((dims(out) or ())[axis] if mask is None else int(mask.sum()))
    node.attributes.pop("num_outputs", None)
    if model.opset_imports.get("", 1) < 13:
        node.attributes["split"] = ir.AttrInt64s("split", [s or 0 for s in sizes])
    else:
        give_input(model, node, 1, np.array(sizes, np.int64), names)


def _resize_slice(
    model: ir.Model, node: ir.Node, kept: Mapping[Dim, Mask], names: set[str]
) -> None:
    value = node.inputs[0]
    assert value is not None
    shape = dims(value) or ()
    cuts = cuts_of(node, shape) or {}
    starts, ends = constant(node.inputs[1]), constant(node.inputs[2])
    axes = constant(input_at(node, 3))
    assert starts is not None and ends is not None
    starts, ends = starts.copy(), ends.copy()
    named = range(len(starts)) if axes is None else (int(a) % len(shape) for a in axes)
    for i, axis in enumerate(named):
        mask = kept.get(Dim(value, axis))
        if mask is not None and axis in cuts:
            start, stop, _ = cuts[axis]
            starts[i], ends[i] = mask[:start].sum(), mask[:stop].sum()
    give_input(model, node, 1, starts, names)
    give_input(model, node, 2, ends, names)


def _resize_pad(model: ir.Model, node: ir.Node, kept: Mapping[Dim, Mask], names: set[str]) -> None:
    out = node.outputs[0]
    rank = len(_dims_of(out))
    pads = pads_of(node, rank) or []
    for axis, (begin, end) in enumerate(pads):
        mask = kept.get(Dim(out, axis))
        if mask is not None and (begin or end):
            last = len(mask) - end
            pads[axis] = (int(mask[:begin].sum()), int(mask[last:].sum()))
    flat = [begin for begin, _ in pads] + [end for _, end in pads]
    if len(node.inputs) < 2:
        node.attributes["pads"] = ir.AttrInt64s("pads", flat)
        return
    give_input(model, node, 1, np.array(flat, np.int64), names)
    if input_at(node, 3) is not None:
        node.replace_input_with(3, None)
