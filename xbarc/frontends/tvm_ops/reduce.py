"""Reductions, arguments of extremes, sorting."""

from collections.abc import Sequence

import onnx_ir as ir

from xbarc.frontends.tvm_ops.builder import Builder, Operator, Unsupported, onnx_dtype

Axes = int | Sequence[int] | None

REDUCTIONS = {
    "logsumexp": "ReduceLogSumExp",
    "max": "ReduceMax",
    "mean": "ReduceMean",
    "min": "ReduceMin",
    "prod": "ReduceProd",
    "sum": "ReduceSum",
}


def _axes(b: Builder, x: ir.Value, axis: Axes, *, exclude: bool) -> list[int]:
    """The axes that are reduced: those given (all by default), or all others."""
    rank = b.rank(x)
    # An empty list is TVM's way to write "none given" as well.
    given = [] if axis is None else [axis] if isinstance(axis, int) else list(axis)
    named = {b.axis(x, a) for a in given} or (set() if exclude else set(range(rank)))
    return [a for a in range(rank) if (a in named) != exclude]


def _reduction(op_type: str) -> Operator:
    def reduction(
        b: Builder, x: ir.Value, axis: Axes = None, *, keepdims: bool = False, exclude: bool = False
    ) -> ir.Value:
        axes = _axes(b, x, axis, exclude=exclude)
        if not axes:
            return x
        return b.op(op_type, x, b.ints(axes), keepdims=int(keepdims))

    return reduction


def _logical(op_type: str) -> Operator:
    """All by the minimum, any by the maximum of bools as numbers."""

    def logical(
        b: Builder, x: ir.Value, axis: Axes = None, *, keepdims: bool = False, exclude: bool = False
    ) -> ir.Value:
        axes = _axes(b, x, axis, exclude=exclude)
        number = b.cast(x, ir.DataType.INT32)
        result = b.op(op_type, number, b.ints(axes), keepdims=int(keepdims)) if axes else number
        return b.cast(result, ir.DataType.BOOL)

    return logical


def variance(
    b: Builder,
    x: ir.Value,
    axis: Axes = None,
    *,
    keepdims: bool = False,
    exclude: bool = False,
    unbiased: bool = False,
) -> ir.Value:
    """The mean squared distance from the mean; of the population unless `unbiased`."""
    axes = _axes(b, x, axis, exclude=exclude)
    mean = b.op("ReduceMean", x, b.ints(axes), part="mean", keepdims=1)
    return _spread(b, x, mean, axes, keepdims=keepdims, unbiased=unbiased)


def relay_variance(
    b: Builder,
    x: ir.Value,
    mean: ir.Value | None = None,
    *,
    axis: Axes = None,
    keepdims: bool = False,
    exclude: bool = False,
    unbiased: bool = False,
) -> ir.Value:
    """Relay's, which is given the mean (with its axes kept)."""
    if mean is None:
        return variance(b, x, axis, keepdims=keepdims, exclude=exclude, unbiased=unbiased)
    axes = _axes(b, x, axis, exclude=exclude)
    return _spread(b, x, mean, axes, keepdims=keepdims, unbiased=unbiased)


def _spread(
    b: Builder, x: ir.Value, mean: ir.Value, axes: Sequence[int], *, keepdims: bool, unbiased: bool
) -> ir.Value:
    distance = b.op("Sub", x, mean, part="distance")
    squares = b.op("Mul", distance, distance, part="squares")
    result = b.op("ReduceMean", squares, b.ints(axes), keepdims=int(keepdims))
    if not unbiased:
        return result
    count = 1
    for size in b.sizes_of(x, axes):
        count *= size
    if count < 2:
        raise Unsupported("unbiased over one element")
    return b.op("Mul", result, b.like(count / (count - 1), x), part="unbiased")


def std(
    b: Builder, x: ir.Value, axis: Axes = None, *, keepdims: bool = False, exclude: bool = False
) -> ir.Value:
    """The root of `variance`."""
    return b.op("Sqrt", variance(b, x, axis, keepdims=keepdims, exclude=exclude))


def _argument(op_type: str) -> Operator:
    def argument(
        b: Builder,
        x: ir.Value,
        axis: Axes = None,
        *,
        keepdims: bool = False,
        exclude: bool = False,
        select_last_index: bool = False,
        dtype: str = "",
    ) -> ir.Value:
        axes = _axes(b, x, axis, exclude=exclude)
        rank = b.rank(x)
        if len(axes) == 1:
            found = b.op(
                op_type,
                x,
                axis=axes[0],
                keepdims=int(keepdims),
                select_last_index=int(select_last_index),
            )
        elif len(axes) == rank:
            flat = b.reshape(x, [-1])
            found = b.op(op_type, flat, axis=0, keepdims=0, select_last_index=select_last_index)
            if keepdims:
                found = b.reshape(found, [1] * rank)
        else:
            raise Unsupported(f"axes {tuple(axes)} of {rank}: one axis or all are known")
        return b.cast(found, onnx_dtype(dtype or "int32"))

    return argument


def topk(
    b: Builder,
    x: ir.Value,
    *,
    k: int = 1,
    axis: int = -1,
    ret_type: str = "both",
    is_ascend: bool = False,
    largest: bool | None = None,
    dtype: str = "int32",
) -> ir.Value | tuple[ir.Value, ...]:
    """The k largest (or smallest) along an axis, and where they stand; all of them for k < 1."""
    axis = b.axis(x, axis)
    count = k if k >= 1 else b.sizes_of(x, [axis])[0]
    downwards = (not is_ascend) if largest is None else largest
    values, places = b.ops(
        "TopK", x, b.ints([count]), outputs=2, axis=axis, largest=int(downwards), sorted=1
    )
    places = b.cast(places, onnx_dtype(dtype or "int32"))
    if ret_type == "both":
        return values, places
    if ret_type not in ("values", "indices"):
        raise Unsupported(f"ret_type {ret_type!r}")
    return values if ret_type == "values" else places


def argsort(
    b: Builder,
    x: ir.Value,
    *,
    axis: int = -1,
    is_ascend: bool = True,
    descending: bool | None = None,
    dtype: str = "int32",
) -> ir.Value:
    """The places that sort along an axis."""
    upwards = is_ascend if descending is None else not descending
    found: ir.Value = OPERATORS["topk"](
        b, x, k=0, axis=axis, ret_type="indices", is_ascend=upwards, dtype=dtype
    )
    return found


def sort(
    b: Builder,
    x: ir.Value,
    *,
    axis: int = -1,
    is_ascend: bool = True,
    descending: bool | None = None,
) -> ir.Value:
    """Sorted along an axis."""
    upwards = is_ascend if descending is None else not descending
    found: ir.Value = OPERATORS["topk"](b, x, k=0, axis=axis, ret_type="values", is_ascend=upwards)
    return found


def cumsum(
    b: Builder,
    x: ir.Value,
    axis: int | None = None,
    *,
    dtype: str = "",
    exclusive: bool | None = None,
) -> ir.Value:
    """Running sums along an axis, of the flat array without one."""
    if axis is None:
        x, axis = b.reshape(x, [-1]), 0
    if dtype:
        x = b.cast(x, onnx_dtype(dtype))
    return b.op("CumSum", x, b.ints(axis), exclusive=int(bool(exclusive)))


OPERATORS: dict[str, Operator] = {
    **{name: _reduction(op_type) for name, op_type in REDUCTIONS.items()},
    "all": _logical("ReduceMin"),
    "any": _logical("ReduceMax"),
    "argmax": _argument("ArgMax"),
    "argmin": _argument("ArgMin"),
    "argsort": argsort,
    "cumsum": cumsum,
    "sort": sort,
    "std": std,
    "topk": topk,
    "variance": relay_variance,
}
