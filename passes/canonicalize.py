"""canonicalize: one way to write each graph."""

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from xbarc.graph.fold import simplify
from xbarc.hw.target import Target
from xbarc.pipeline import GraphPass


@dataclass(frozen=True)
class Canonicalize(GraphPass):
    """Compute constants once, and remove nodes that do nothing or that nobody reads.

    The ONNX importer ends with the same steps. Run this pass after one that leaves constants
    computed from constants, or a Reshape to a shape that has become known.

        %w = Transpose(%w0)    %s = Shape(%x)    %t = Concat(Gather(%s, 0), [-1])
        %y = Reshape(Identity(%x), %t)           %z = MatMul(%y, %w)
    ->
        %y = Reshape(%x, [-1, 3136])             %z = MatMul(%y, %w)      # %w an initialiser

    A DequantizeLinear of a constant stays, because it says how a weight was quantised.
    """

    name: ClassVar[str] = "canonicalize"
    preserves: ClassVar[bool] = True

    def apply(self, model: ir.Model, target: Target | None) -> bool:
        """Rewrite `model` in place; raises XbarcError for a constant of absurd size."""
        return simplify(model)
