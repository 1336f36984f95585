"""The network as crossbars compute it, beside the float one, on calibration data.

Ideal devices and lossless converters: a layer is its float operator on inputs and weights that were
quantised and made real again. So it runs in onnxruntime, and differs from the simulator by float32
rounding alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from xbarc.graph.inputs import batch_size, input_specs
from xbarc.graph.query import is_static
from xbarc.graph.run import Session
from xbarc.hw.quantization import InputScale, quantize
from xbarc.lowering.layer import Layer
from xbarc.lowering.plan import Plan, Step
from xbarc.support.data import Array, Feeds, batches


@dataclass(frozen=True)
class Run:
    """One batch: values by name, `real` of the float network, `crossbar` of the crossbars'."""

    real: dict[str, Any]
    crossbar: dict[str, Any]


def start(model: ir.Model, planned: Plan, feeds: Feeds) -> list[Run]:
    """A run for each batch of `feeds`: what each layer gives in float."""
    wanted = [layer.output.name or "" for layer in planned.layers.values()]
    session, specs = Session(model, wanted), input_specs(model)
    return [
        Run(session.run(part), dict(part))
        for part in batches(specs, feeds, batch_size(specs, feeds))
    ]


def run_digital(model: ir.Model, step: Step, runs: Sequence[Run]) -> None:
    """A digital subgraph on what the crossbars gave."""
    part = ir.GraphView(
        step.inlets,
        step.outlets,
        nodes=step.nodes,
        initializers=step.constants,
        opset_imports=model.graph.opset_imports,
        name="digital",
    )
    session = Session(ir.Model(part.clone(), ir_version=model.ir_version))
    for run in runs:
        run.crossbar.update(session.run({n: run.crossbar[n] for n in session.inputs}))


def run_layer(
    model: ir.Model, layer: Layer, inputs: Sequence[Array], weights: Array | None
) -> list[Array]:
    """What a layer gives for `inputs`, in float, with other `weights` (stored as the model's)."""
    nodes, constants = _sources(layer)
    part = ir.GraphView(
        [layer.source],
        [layer.output],
        nodes=nodes,
        initializers=constants,
        opset_imports=model.graph.opset_imports,
        name="layer",
    )
    alone = ir.Model(part.clone(), ir_version=model.ir_version)
    if weights is not None:
        stored = alone.graph.initializers[layer.product.weights.name or ""]
        stored.const_value = ir.Tensor(weights, name=stored.name)
    session, name = Session(alone), layer.source.name or ""
    return [session.run({name: x})[layer.output.name or ""] for x in inputs]


def _sources(layer: Layer) -> tuple[list[ir.Node], list[ir.Value]]:
    """The layer's node behind those that dequantise what it reads; the constants of all."""
    nodes: dict[ir.Node, None] = {}
    constants: dict[ir.Value, None] = {}
    stack = [layer.output]
    while stack:
        value = stack.pop()
        node = value.producer()
        if is_static(value):
            constants[value] = None
        elif value is not layer.source and node is not None:
            nodes[node] = None
            stack.extend(v for v in node.inputs if v is not None)
    return list(reversed(nodes)), list(constants)


def as_codes(x: Array, scale: InputScale) -> Array:
    """What the codes of `x` stand for."""
    codes = quantize(x, scale).astype(np.float32)
    return (codes - np.float32(scale.zero_point)) * np.float32(scale.scale)


def last_uses(planned: Plan, outputs: Sequence[ir.Value]) -> Mapping[int, list[str]]:
    """The values that nobody needs after the step of that index."""
    last: dict[ir.Value, int] = {}
    for index, step in enumerate(planned.steps):
        last.update(dict.fromkeys(_read(planned, step), index))
    found: dict[int, list[str]] = {}
    for value, index in last.items():
        if value not in outputs:
            found.setdefault(index, []).append(value.name or "")
    return found


def _read(planned: Plan, step: Step) -> Iterator[ir.Value]:
    layer = planned.layers.get(step.nodes[0])
    yield from step.inlets if layer is None else (layer.source,)
