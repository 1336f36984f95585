"""An ONNX graph as a torch module, and its weights back in the same graph.

Nodes are run one by one, in the graph's order, by the table of operators
(`xbarc.train.operators`). Initialisers that are trained are parameters; all others are constants.
Integers (shapes, axes, indices) stay on the CPU, whatever device the rest is on.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor, nn

from xbarc.graph.query import ONNX_DOMAINS, constant, describe, dims, has_subgraph, is_static
from xbarc.support.errors import XbarcError
from xbarc.train.operators import OPERATORS, Operator, Unsupported, elementwise

QUANTISED = (
    "QuantizeLinear",
    "DequantizeLinear",
    "DynamicQuantizeLinear",
    "ConvInteger",
    "MatMulInteger",
    "QLinearConv",
    "QLinearMatMul",
)


@dataclass(frozen=True)
class _Step:
    """One node: what it computes from which values, and those that nobody needs afterwards."""

    node: ir.Node
    function: Operator
    inputs: tuple[ir.Value | None, ...]
    options: Mapping[str, Any]
    done: tuple[ir.Value, ...]


class Graph(nn.Module):
    """The graph of `model` as a module: arrays by input name in, tensors by output name out.

    `trained` names the initialisers that become parameters (in `weights`, by name); the model's own
    arrays stay as they are. A node in `layers` is computed by that module, which takes the node's
    inputs. `model` is in the importer's normal form (`xbarc.frontends`). `dropout` is the share of
    entries that are dropped of the inputs of the nodes in `dropped` (node -> which input).

    Of a model with a fixed batch several can be run at once, as long as what it writes of its batch
    is in the shapes that it reshapes to (`takes_any_batch` says whether that holds).

    Raises:
        XbarcError: one line for each node that can't be trained through.
    """

    def __init__(
        self,
        model: ir.Model,
        trained: Iterable[str] = (),
        layers: Mapping[ir.Node, nn.Module] | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.layers = dict(layers or {})
        self.weights: dict[str, nn.Parameter] = {}
        self._constants: dict[ir.Value, str | Tensor] = {}
        wanted = set(trained)
        for index, (name, value) in enumerate(model.graph.initializers.items()):
            if is_static(value):
                self._add_constant(index, value, trained=name in wanted)
        for index, layer in enumerate(self.layers.values()):
            self.add_module(f"layer{index}", layer)
        self.dropout, self.dropped = 0.0, dict[ir.Node, int]()
        self._inputs = [v for v in model.graph.inputs if not v.is_initializer()]
        self._fixed = (dims(self._inputs[0]) or (None,))[0] if self._inputs else None
        self._times = 1
        self._steps = self._plan()

    def _add_constant(self, index: int, value: ir.Value, *, trained: bool) -> None:
        array = constant(value)
        if array is None or value.name is None or array.dtype.kind not in "fiub":
            return
        tensor = torch.from_numpy(np.array(array))  # the model's own is never written to
        if trained:
            parameter = nn.Parameter(tensor)
            self.weights[value.name] = parameter
            self.register_parameter(f"weight{index}", parameter)
            self._constants[value] = f"weight{index}"
        elif tensor.is_floating_point():
            self.register_buffer(f"constant{index}", tensor, persistent=False)
            self._constants[value] = f"constant{index}"
        else:
            self._constants[value] = tensor

    def _plan(self) -> list[_Step]:
        """The nodes that an output needs, sorted. Raises `XbarcError` as the class says."""
        needed = _needed(self.model.graph)
        faults: list[str] = []
        steps: list[_Step] = []
        last: dict[ir.Value, int] = {}
        for node in self.model.graph:
            if node not in needed:
                continue
            layer = self.layers.get(node)
            if layer is None:
                found = _function(node)
                if isinstance(found, str):
                    faults.append(found)
                    continue
                function, options = found
            else:
                function, options = layer, {}
            last.update((v, len(steps)) for v in node.inputs if v is not None)
            steps.append(_Step(node, function, tuple(node.inputs), options, ()))
        if faults:
            raise XbarcError(*faults)
        kept = {*self.model.graph.outputs, *self._constants}
        done: dict[int, list[ir.Value]] = {}
        for value, index in last.items():
            if value not in kept:
                done.setdefault(index, []).append(value)
        return [
            _Step(s.node, s.function, s.inputs, s.options, tuple(done.get(i, ())))
            for i, s in enumerate(steps)
        ]

    @property
    def fixed_batch(self) -> int | None:
        """How many samples the model takes at a time; None where it takes any number."""
        return self._fixed or None

    @property
    def input_names(self) -> list[str]:
        """The names of the inputs."""
        return [v.name or "" for v in self._inputs]

    def forward(
        self, inputs: Mapping[str, Tensor], wanted: Sequence[ir.Value] | None = None
    ) -> dict[str, Tensor]:
        """The outputs by name; or any other values of the graph, those `wanted`.

        Raises `XbarcError` where a node fails, or can't do what its attributes say.
        """
        values: dict[ir.Value, Any] = {v: inputs[v.name or ""] for v in self._inputs}
        if self._fixed:
            self._times = len(values[self._inputs[0]]) // self._fixed
        for value, held in self._constants.items():
            values[value] = getattr(self, held) if isinstance(held, str) else held
        results = list(self.model.graph.outputs) if wanted is None else list(wanted)
        found: dict[ir.Value, Tensor] = {v: values[v] for v in results if v in values}
        for step in self._steps:
            if len(found) == len(results):
                break
            given = [None if v is None else values[v] for v in step.inputs]
            if self.dropout and step.node in self.dropped:
                place = self.dropped[step.node]
                given[place] = nn.functional.dropout(torch.as_tensor(given[place]), self.dropout)
            outputs = self._run(step, given)
            for value, tensor in zip(step.node.outputs, outputs, strict=False):
                values[value] = tensor
                if value in results:
                    found[value] = tensor
            for value in step.done:
                values.pop(value, None)
        return {v.name or "": found[v] for v in results}

    def _run(self, step: _Step, given: list[Any]) -> Sequence[Tensor]:
        if step.node.op_type in elementwise.OPERATORS or step.node.op_type == "Concat":
            given = _together(given)
        while given and given[-1] is None:
            given.pop()
        if step.node.op_type == "Reshape" and self._times != 1 and is_static(step.inputs[1]):
            given[1] = self._several(given[1])
        try:
            result = step.function(*given, **step.options)
        except Unsupported as error:
            raise XbarcError(f"{describe(step.node)}: {error} can't be trained through") from None
        except (RuntimeError, IndexError, TypeError, ValueError) as error:
            line = " ".join(str(error).split())
            raise XbarcError(f"{describe(step.node)}: {line}") from error
        return result if isinstance(result, tuple) else (result,)

    def _several(self, shape: Tensor) -> Tensor:
        """The shape that a model of a fixed batch reshapes to, for several of its batches."""
        if not len(shape) or int(shape[0]) != self._fixed:
            return shape
        return torch.cat([shape[:1] * self._times, shape[1:]])

    def takes_any_batch(self, inputs: Mapping[str, Tensor]) -> bool:
        """Whether a model of a fixed batch gives the same for several of its batches at once."""
        if not self._fixed:
            return True
        one = self._fixed
        both = {name: torch.cat([x[:one], x[-one:]]) for name, x in inputs.items()}
        try:
            with torch.no_grad():
                together = self.forward(both)
                parts = [
                    self.forward({n: x[i : i + one] for n, x in both.items()}) for i in (0, one)
                ]
                apart = {name: torch.cat([part[name] for part in parts]) for name in together}
        except (XbarcError, RuntimeError):
            return False
        return all(
            together[n].shape == apart[n].shape
            and torch.allclose(together[n], apart[n], rtol=1e-3, atol=1e-4)
            for n in together
        )

    @classmethod
    def sharing(cls, other: "Graph", layers: Mapping[ir.Node, nn.Module] | None = None) -> "Graph":
        """The float graph of another one, with the same parameters, and layers of its own."""
        made = cls(other.model, other.weights, layers).to(next(iter(other.weights.values())).device)
        for name, held in list(made._parameters.items()):
            mine = next(n for n, p in made.weights.items() if p is held)
            made.weights[mine] = other.weights[mine]
            setattr(made, name, other.weights[mine])
        return made

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        """The parameters as arrays, copies, by the names of the initialisers that they are."""
        return {n: p.detach().cpu().numpy().copy() for n, p in self.weights.items()}


def write_back(model: ir.Model, arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
    """Put arrays back as initialisers of these names: same names, same shapes, same types."""
    for name, array in arrays.items():
        value = model.graph.initializers[name]
        old = value.const_value
        assert old is not None and tuple(old.shape) == array.shape
        value.const_value = ir.Tensor(array, name=name)


def _together(given: list[Any]) -> list[Any]:
    """Tensors on one device, where constants that stay on the CPU meet others."""
    devices = {v.device for v in given if isinstance(v, Tensor) and v.device.type != "cpu"}
    if not devices:
        return given
    (device,) = devices
    return [v.to(device) if isinstance(v, Tensor) else v for v in given]


def _needed(graph: ir.Graph) -> set[ir.Node]:
    found: set[ir.Node] = set()
    stack = [v.producer() for v in graph.outputs]
    while stack:
        node = stack.pop()
        if node is None or node in found:
            continue
        found.add(node)
        stack.extend(v.producer() for v in node.inputs if v is not None)
    return found


def _function(node: ir.Node) -> tuple[Operator, dict[str, Any]] | str:
    """What computes a node, and its attributes; or why it can't be trained through."""
    if node.op_type in QUANTISED or node.op_type.startswith("QLinear"):
        return f"{describe(node)}: the model is quantised already: give the float model"
    function = OPERATORS.get(node.op_type) if node.domain in ONNX_DOMAINS else None
    if function is None or has_subgraph(node):
        return f"{describe(node)}: no torch function for it (docs/retraining.md lists them)"
    options = options_of(node)
    known = _names(function)
    if node.op_type in ("Dropout", "MaxPool") and len(node.outputs) > 1 and _read(node.outputs[1]):
        return f"{describe(node)}: its second output can't be trained through"
    if "outputs" in known:
        options["outputs"] = len(node.outputs)
    unknown = [name for name in options if name not in known]
    if unknown:
        return f"{describe(node)}: attribute {unknown[0]!r} can't be trained through"
    return function, options


def _read(value: ir.Value) -> bool:
    return value.is_graph_output() or bool(tuple(value.uses()))


def options_of(node: ir.Node, without: Sequence[str] = ()) -> dict[str, Any]:
    """A node's attributes as a torch function takes them."""
    return {name: _plain(a) for name, a in node.attributes.items() if name not in without}


def _names(function: Callable[..., Any]) -> set[str]:
    try:
        return {
            name
            for name, p in inspect.signature(function).parameters.items()
            if p.kind is inspect.Parameter.KEYWORD_ONLY
        }
    except ValueError:  # torch's own functions
        return set()


def _plain(attribute: ir.Attr) -> Any:
    value = attribute.value
    if isinstance(value, ir.TensorProtocol):
        return torch.from_numpy(np.array(value.numpy()))
    return list(value) if isinstance(value, tuple) else value
