"""The parameters of a Relax function that are weights, and the arrays that they are."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from xbarc.frontends.relax.nodes import kind_of, size_of
from xbarc.support.data import Array
from xbarc.support.errors import UsageError, XbarcError

Params = Mapping[str, Any]
"""Weights by parameter name, or `{"main": [weight, ...]}` for the last parameters in order."""


def weights_of(main: Any, params: Params | None, where: str) -> dict[str, Array]:
    """The arrays of the parameters that are weights, by name.

    `where` is the module in error lines.

    Raises:
        UsageError: `params` names no parameter, or has none of its shape and type.
        XbarcError: a weight is missing.
    """
    # TVM's ONNX importer may give two parameters one name: an initialiser that is also an input.
    names = [str(var.name) for var in main.params]
    shapes = {str(var.name): var.ty for var in main.params}
    attrs = dict(main.attrs) if main.attrs is not None else {}
    given = _by_name(names, params, attrs.get("params"))
    unknown = [key for key in given if key not in shapes]
    if unknown:
        raise UsageError(
            f"{where} has no parameter {', '.join(map(repr, unknown))}: "
            f"its parameters are {', '.join(map(repr, names))}"
        )
    arrays = {key: array_of(value) for key, value in given.items()}
    problems = [
        f"parameter {key!r} is {array.dtype}{list(array.shape)}, but {where} takes {wanted}"
        for key, array in arrays.items()
        if (wanted := _misfit(shapes[key], array)) is not None
    ]
    if problems:
        raise UsageError(*problems)
    inputs = [key for key in names if key not in arrays]
    declared = int(attrs.get("num_input", len(names)))
    # Counted, since initialisers that are inputs as well may stand before the inputs.
    missing = [f"{key!r} {shapes[key]}" for key in names[declared:] if key in inputs]
    if missing and len(inputs) > declared:
        raise XbarcError(
            f"{where} has no weights for its parameters {', '.join(missing)}: give them in params"
        )
    return arrays


def _by_name(names: list[str], params: Params | None, attached: Any) -> dict[str, Any]:
    """`params`, or those attached to the function, by parameter name."""
    if params is None:
        params = {} if attached is None else {"main": list(attached)}
    if list(params) == ["main"] and not hasattr(params["main"], "shape"):
        values = list(params["main"])
        if len(values) > len(names):
            raise UsageError(f"params has {len(values)} weights, 'main' {len(names)} parameters")
        return dict(zip(names[len(names) - len(values) :], values, strict=True))
    return {str(key): value for key, value in params.items()}


def array_of(value: Any) -> Array:
    """A tensor of TVM or torch, or an array."""
    if hasattr(value, "detach"):
        value = value.detach()
    return np.asarray(value.numpy() if hasattr(value, "numpy") else value)


def _misfit(ty: Any, array: Array) -> str | None:
    """What the parameter takes, where that isn't `array`."""
    if kind_of(ty) != "TensorType":
        return str(ty)
    sizes = None if ty.shape is None else [size_of(dim, {}) for dim in ty.shape.values]
    fits = sizes is None or (
        len(sizes) == array.ndim
        and all(a == s for a, s in zip(array.shape, sizes, strict=True) if isinstance(s, int))
    )
    return None if fits and str(ty.dtype) in ("", str(array.dtype)) else str(ty)
