"""Data and kernel layouts, brought to ONNX's own: batch, channels, space; kernels out, in, space.

A layout is a word of axis letters: N batch, C channels, O and I a kernel's output and input
channels, D, H, W space. `NHWC` is read by its letters, so NWC, NDHWC, HWIO, OHWI ... need no case
of their own. Blocked layouts (`NCHW4c`) are refused.
"""

from collections.abc import Sequence

import onnx_ir as ir

from xbarc.frontends.tvm_ops.builder import Builder, Unsupported

SPACE = "DHW"


def _permutation(layout: str, letters: str) -> list[int]:
    """Where each of `letters` stands in `layout`."""
    if sorted(layout) != sorted(letters):
        raise Unsupported(f"layout {layout!r} where {letters!r} in any order is known")
    return [layout.index(letter) for letter in letters]


def _inverse(axes: Sequence[int]) -> list[int]:
    return sorted(range(len(axes)), key=lambda i: axes[i])


def data_to_onnx(b: Builder, x: ir.Value, layout: str, space: int) -> ir.Value:
    """`x` of `layout` with its axes as batch, channels and `space` spatial ones."""
    return b.transpose(x, _permutation(layout, "NC" + SPACE[3 - space :]))


def data_from_onnx(b: Builder, x: ir.Value, layout: str, space: int) -> ir.Value:
    """The inverse of `data_to_onnx`."""
    return b.transpose(x, _inverse(_permutation(layout, "NC" + SPACE[3 - space :])))


def kernel_to_onnx(b: Builder, w: ir.Value, layout: str, space: int) -> ir.Value:
    """A convolution's kernel as out, in, space."""
    return b.transpose(w, _permutation(layout, "OI" + SPACE[3 - space :]))


def transposed_kernel_to_onnx(b: Builder, w: ir.Value, layout: str, space: int) -> ir.Value:
    """A transposed convolution's kernel as in, out, space."""
    return b.transpose(w, _permutation(layout, "IO" + SPACE[3 - space :]))
