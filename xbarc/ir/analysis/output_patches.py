"""How a layer's output is cut into sub-images or windows: `xbarc inspect --layer`."""

from collections.abc import Iterator, Mapping
from itertools import product
from math import prod
from typing import Any

from xbarc.hw.target import Target
from xbarc.ir.analysis.patches import each_output, scatter_of
from xbarc.ir.analysis.visits import visits
from xbarc.ir.dialect import MvmOp, shape_of, spatial_size
from xbarc.support.data import Array

Span = tuple[int, int]
"""Begin and end, the end not included."""


def output_patches(op: MvmOp, arrays: Mapping[str, Array], target: Target) -> dict[str, Any] | None:
    """The patches of the output, each computed by one vector of an mvm; None if it has none.

    - `outputs`, `window`: the sizes of a whole patch and of the input that it sees, axis by axis;
    - `overlap`: what the windows of two neighbours share;
    - `map`: the size of the output; if `flat`, its axes count as one;
    - `axes`: along each axis the patches' begins and ends, `{"outputs": [[begin, end], ...],
      "window": [...]}`. Every combination of the axes is a patch. Inputs before 0 and beyond the
      image are padding;
    - `patches`: their number; `rows` driven and weight `columns` read for one image.
    """
    scatter, single = scatter_of(op), each_output(op)
    if scatter is None or scatter.window is None or single is None:
        return None
    flat = scatter.flat is not None
    sizes = spatial_size(shape_of(scatter.result), flat=flat)
    patch = scatter.window.lists()[0]
    kernel, strides, pads, dilations = single.lists()

    def seen(axis: int, begin: int, end: int) -> Span:
        first = begin * strides[axis] - pads[axis]
        reach = (end - begin - 1) * strides[axis] + (kernel[axis] - 1) * dilations[axis]
        return first, first + reach + 1

    axes = []
    for axis, (size, outputs) in enumerate(zip(sizes, patch, strict=True)):
        spans = [(b, min(b + outputs, size)) for b in range(0, size, outputs)]
        axes.append({"outputs": spans, "window": [seen(axis, *span) for span in spans]})
    window = [b - a for a, b in (seen(axis, 0, o) for axis, o in enumerate(patch))]
    used = visits(op, arrays, target).use
    return {
        "outputs": patch,
        "window": window,
        "overlap": [max(0, w - o * s) for w, o, s in zip(window, patch, strides, strict=True)],
        "map": sizes,
        "flat": flat,
        "axes": axes,
        "patches": prod(len(axis["outputs"]) for axis in axes),
        "rows": int(used.rows.sum()),
        "columns": int(used.columns.sum()),
    }


def each_patch(found: Mapping[str, Any]) -> Iterator[tuple[tuple[Span, ...], tuple[Span, ...]]]:
    """Outputs and window of each of `output_patches`, a span an axis each, in their order."""
    outputs, windows = ([axis[key] for axis in found["axes"]] for key in ("outputs", "window"))
    return zip(product(*outputs), product(*windows), strict=True)
