"""The inputs of a graph: what data they take, and how much of it at once."""

import math

import numpy as np
import onnx_ir as ir

from xbarc.graph.query import dims
from xbarc.support.data import Feeds, InputSpec


def input_specs(model: ir.Model) -> list[InputSpec]:
    """The inputs of a graph."""
    return [
        InputSpec(
            v.name or "", dims(v) or (), None if v.dtype is None else np.dtype(v.dtype.numpy())
        )
        for v in model.graph.inputs
    ]


def batch_size(feeds: Feeds) -> int:
    """Samples to run at once: as many as hold a million input values, 16 at most."""
    sample = sum(math.prod(np.shape(a)[1:]) for a in feeds.values())
    return max(1, min(16, (1 << 20) // max(sample, 1)))
