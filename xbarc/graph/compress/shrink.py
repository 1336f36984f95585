"""Taking groups of channels out of a graph."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from xbarc.graph.analysis.dependencies import Dependencies
from xbarc.graph.operators import load_operators
from xbarc.graph.operators.shrinking import Mask, Shrinking
from xbarc.graph.operators.ties import Dim
from xbarc.graph.query import constant, is_static, value_names
from xbarc.graph.shapes import infer_shapes


def remove(model: ir.Model, dependencies: Dependencies, groups: Iterable[int]) -> bool:
    """Remove `groups` from every weight, constant, attribute and shape.

    Returns whether anything was removed. Weights that shrink are new arrays; no array is written
    to. If the channels end in weights, the remaining graph computes what the graph computed with
    the groups' weights at zero.

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
    # Attributes and shape constants first: their rules read the sizes as they were.
    operators, shrinking = load_operators(), Shrinking(model, kept, value_names(model))
    for node in model.graph:
        rule = operators.of(node).shrink
        if rule is not None and shrinking.touches(node):
            rule(shrinking, node)
    for value in tuple(model.graph.initializers.values()):
        axes = {axis: kept.get(Dim(value, axis)) for axis in range(len(value.shape or ()))}
        masks = {axis: mask for axis, mask in axes.items() if mask is not None}
        array = constant(value)
        if masks and array is not None:
            for axis, mask in masks.items():
                array = np.compress(mask, array, axis)
            set_constant(value, array)
    _shrink_shapes(kept)
    infer_shapes(model)
    return True


def set_constant(value: ir.Value, array: npt.NDArray[Any]) -> None:
    """Give an initialiser, for all its readers, another array."""
    value.const_value = ir.Tensor(array, name=value.name)
    value.shape = ir.Shape(array.shape)


def _shrink_shapes(kept: Mapping[Dim, Mask]) -> None:
    """Write down the sizes that are left: inference keeps those behind an operator it lacks."""
    for dim, mask in kept.items():
        if not is_static(dim.value) and dim.value.shape is not None:
            sizes = list(dim.value.shape.dims)
            sizes[dim.axis] = int(mask.sum())
            dim.value.shape = ir.Shape(sizes)
