"""Recognise kernels that TVM's importers write for operations without a Relax operator.

TVM's ONNX importer writes padding, tiling and the like as `call_tir` of a kernel from its library
(topi). To recognise such a kernel, the library writes it again, with the settings that the shapes
and numbers in the kernel allow. If the two are structurally equal, the settings are known. The
kernel's name only chooses what to try.
"""

import itertools
import math
import re
from collections.abc import Iterator
from typing import Any

MAX_TRIES = 256
"""Settings that are tried before a kernel counts as unknown."""

Call = tuple[str, dict[str, Any]]
"""An operator of the table and its attributes; the arguments are the kernel's."""

PADS = {
    "pad": "constant",
    "mirror_pad": "reflect",
    "replicate_pad": "edge",
    "circular_pad": "circular",
}


def library_call(module: Any, call: Any) -> Call | None:
    """What a `call_tir` computes, as an operator; None where its kernel isn't the library's."""
    from tvm_ffi import structural_equal

    var, inputs = call.args[0], list(call.args[1].fields)
    kernel = module[var]
    for known, function, args, kwargs in itertools.islice(
        _tries(str(var.name_hint), kernel, call, inputs), MAX_TRIES
    ):
        if structural_equal(_written(function, args, kwargs), _unnamed(kernel), True):
            return known
    return None


def _written(function: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """The kernel that the library writes."""
    from tvm import relax

    builder = relax.BlockBuilder()
    call = builder.call_te(function, *args, **kwargs)
    return _unnamed(builder.get()[call.args[0]])


def _unnamed(kernel: Any) -> Any:
    return kernel.with_attr("global_symbol", "kernel")


def _tries(
    name: str, kernel: Any, call: Any, inputs: list[Any]
) -> Iterator[tuple[Call, Any, list[Any], dict[str, Any]]]:
    """The operator, the library's function and its arguments: what the kernel may be."""
    from tvm import topi

    stem = name.rstrip("0123456789_")
    ty = call.ty_args[0]
    if stem in PADS and len(inputs) == 1:
        function = getattr(topi.nn, stem)
        for before, after, value in _paddings(kernel, inputs[0], ty):
            attrs: dict[str, Any] = {
                "pad_width": tuple(itertools.chain(*zip(before, after, strict=True))),
                "pad_mode": PADS[stem],
            }
            settings: tuple[Any, ...] = {"pad": (value,), "mirror_pad": ("REFLECT",)}.get(stem, ())
            if stem == "pad":
                attrs["pad_value"] = value
            args = [inputs[0], list(before), list(after), *settings]
            yield ("nn.pad", attrs), function, args, {}
    elif stem in ("maximum", "minimum") and len(inputs) == 2:
        yield (stem, {}), getattr(topi, stem), inputs, {}
    elif stem == "tile" and len(inputs) == 1:
        sizes, wanted = _sizes(inputs[0].ty), _sizes(ty)
        if sizes and wanted and len(sizes) == len(wanted) and all(sizes):
            reps = [w // s for s, w in zip(sizes, wanted, strict=True)]
            yield ("tile", {"repeats": tuple(reps)}), topi.tile, [inputs[0], reps], {}
    elif stem == "flip" and len(inputs) == 1:
        for axis in range(len(inputs[0].ty.shape.values)):
            yield ("flip", {"axis": axis}), topi.flip, [inputs[0]], {"axis": axis}


def _sizes(ty: Any) -> list[int] | None:
    """The sizes of a tensor type; None where one is open."""
    sizes = [getattr(dim, "value", None) for dim in ty.shape.values]
    return None if None in sizes else [int(size) for size in sizes if size is not None]


def _paddings(
    kernel: Any, x: Any, ty: Any
) -> Iterator[tuple[tuple[int, ...], tuple[int, ...], float]]:
    """What may stand before and after each axis, and the value; likely ones first."""
    from tvm import sym

    analyzer = sym.Analyzer()
    grown = [
        analyzer.simplify(out - size)
        for size, out in zip(x.ty.shape.values, ty.shape.values, strict=True)
    ]
    if not all(hasattr(total, "value") for total in grown):
        return
    totals = [int(total.value) for total in grown]
    ints, floats = _numbers(kernel)
    choices = [
        sorted({0, total, total // 2, *(i for i in ints if 0 <= i <= total)}, key=_even(total))
        for total in totals
    ]
    if min(totals, default=0) < 0 or math.prod(map(len, choices)) > MAX_TRIES:
        return
    values = sorted(floats or {float(i) for i in ints} | {0.0}, key=abs)
    for value in values:
        for before in itertools.product(*choices):
            yield before, tuple(t - n for t, n in zip(totals, before, strict=True)), value


def _even(total: int) -> Any:
    """Even paddings first: most are."""
    return lambda before: abs(total - 2 * before)


def _numbers(kernel: Any) -> tuple[set[int], set[float]]:
    """The whole numbers and the others in a kernel: candidates, so too many won't hurt."""
    text = kernel.script(show_meta=False)
    found = re.findall(r"(?<![\w.])-?(?:\d+\.\d*(?:e[+-]?\d+)?|\d+e[+-]?\d+|inf|\d+)\b", text)
    ints = {int(number) for number in found if number.lstrip("-").isdigit()}
    return ints, {float(number) for number in found if not number.lstrip("-").isdigit()}
