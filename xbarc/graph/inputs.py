"""The inputs of a graph: what data they take, and how much of it at once."""

from collections.abc import Sequence

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


def batch_size(specs: Sequence[InputSpec], feeds: Feeds) -> int:
    """Samples to run at once: as many as hold a million input values, 16 at most."""
    sample = sum(np.size(feeds[s.name]) // max(1, s.samples(feeds[s.name])) for s in specs)
    return max(1, min(16, (1 << 20) // max(sample, 1)))
