"""canonicalize: one way to write each graph."""

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from xbarc.graph.fold import simplify
from xbarc.hw.target import Target
from xbarc.pipeline import GraphPass


@dataclass(frozen=True)
class Canonicalize(GraphPass):
    """Fold what doesn't depend on the inputs, and drop what does nothing or nobody reads.

    The ONNX importer ends with the same; a pass that leaves constants computed from constants, or
    Reshape to a shape that it has made known, is followed by this one.

        %w = Transpose(%w0)    %s = Shape(%x)    %t = Concat(Gather(%s, 0), [-1])
        %y = Reshape(Identity(%x), %t)           %z = MatMul(%y, %w)
    ->
        %y = Reshape(%x, [-1, 3136])             %z = MatMul(%y, %w)      # %w an initialiser

    DequantizeLinear of a constant stays: it says how a weight was quantised.
    """

    name: ClassVar[str] = "canonicalize"
    preserves: ClassVar[bool] = True

    def apply(self, model: ir.Model, target: Target | None) -> bool:
        """Rewrite `model` in place; raises XbarcError for a constant of absurd size."""
        return simplify(model)
