"""The windows of convolutions: strides, pads and dilations, nothing left automatic."""

from collections.abc import Sequence

import onnx_ir as ir

from xbarc.graph.query import attribute


def resolved_pads(
    node: ir.Node, spatial: Sequence[int], kernel: Sequence[int]
) -> tuple[list[int], list[int], list[int]]:
    """Strides, pads and dilations of a Conv on an input of size `spatial`; no `auto_pad` left."""
    rank = len(kernel)
    strides = list(attribute(node, "strides", ())) or [1] * rank
    dilations = list(attribute(node, "dilations", ())) or [1] * rank
    pads = list(attribute(node, "pads", ())) or [0] * (2 * rank)
    auto = attribute(node, "auto_pad", "NOTSET")
    if auto == "VALID":
        pads = [0] * (2 * rank)
    elif auto.startswith("SAME"):
        total = [
            max((-(-s // st) - 1) * st + (k - 1) * d + 1 - s, 0)
            for s, st, k, d in zip(spatial, strides, kernel, dilations, strict=True)
        ]
        small, large = [t // 2 for t in total], [t - t // 2 for t in total]
        pads = [*small, *large] if auto == "SAME_UPPER" else [*large, *small]
    return strides, pads, dilations


def result_pads(
    node: ir.Node, spatial: Sequence[int], kernel: Sequence[int], result: Sequence[int]
) -> tuple[list[int], list[int], list[int]]:
    """Strides, pads and dilations of a ConvTranspose from `spatial` to a `result` of that size.

    The pads say how far the first and the last product hang over the result; those at the end are
    negative where the result goes on behind it (output padding). `auto_pad` and `output_shape` are
    gone: `xbarc.graph.shapes` writes out what they mean.
    """
    rank = len(kernel)
    strides = list(attribute(node, "strides", ())) or [1] * rank
    dilations = list(attribute(node, "dilations", ())) or [1] * rank
    begins = list(attribute(node, "pads", ()))[:rank] or [0] * rank
    if attribute(node, "auto_pad", "NOTSET") == "VALID":
        begins = [0] * rank
    ends = [
        (n - 1) * s + (k - 1) * d + 1 - begin - size
        for n, s, k, d, begin, size in zip(
            spatial, strides, kernel, dilations, begins, result, strict=True
        )
    ]
    return strides, [*begins, *ends], dilations
