"""A graph pass: ONNX in, ONNX out."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from xbarc.graph.query import constant, is_op
from xbarc.hw.target import Target
from xbarc.pipeline import GraphPass
from xbarc.support.errors import UsageError


@dataclass(frozen=True)
class RoundWeights(GraphPass):
    """Round the weights of convolutions and fully connected layers to `bits` bits with sign.

    One scale a tensor, so that the largest weight keeps its size:

        W = [0.7, -0.26, 0.1]  ->  [0.7, -0.233, 0.0]        (bits=3: multiples of 0.7 / 3)
    """

    name: ClassVar[str] = "round-weights"
    preserves: ClassVar[bool] = False

    bits: int = 4

    def __post_init__(self) -> None:
        """Raises `UsageError` below two bits."""
        if self.bits < 2:
            raise UsageError(f"bits = {self.bits}: a weight with sign has at least 2 bits")

    def apply(self, model: ir.Model, target: Target | None) -> bool:
        """Whether there was a layer with static weights."""
        nodes = [node for node in model.graph if is_op(node, "Conv", "Gemm", "MatMul")]
        # As a dict: a tensor that two layers share is rounded once.
        weights = {value: constant(value) for node in nodes for value in node.inputs[:2] if value}
        modified = False
        for value, array in weights.items():
            if array is None or array.dtype != np.float32:
                continue
            step = np.abs(array).max(initial=0) / (2 ** (self.bits - 1) - 1) or 1
            rounded = (np.rint(array / step) * step).astype(np.float32)
            value.const_value = ir.tensor(rounded, name=value.name)
            modified = True
        return modified
