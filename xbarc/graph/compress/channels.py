"""Which channels of a network may go, and which of them matter least."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from xbarc.graph.analysis.dependencies import Dependencies, Dim, Mask, analyse
from xbarc.graph.compress.matrices import LayerMatrix
from xbarc.graph.compress.units import Amount
from xbarc.graph.query import attribute, constant, dims, is_op
from xbarc.graph.run import Session, random_inputs
from xbarc.support.data import Array
from xbarc.support.errors import XbarcError


def removable_channels(
    dependencies: Dependencies, layers: Mapping[str, LayerMatrix], *, depthwise: bool
) -> tuple[dict[str, Dim], dict[str, str]]:
    """Layers whose output channels may go, by name, and why others' may not.

    `layers` are those with static weights; `depthwise`: of depthwise layers alone.
    """
    found: dict[str, Dim] = {}
    refused: dict[str, str] = {}
    for producer in dependencies.producers:
        name, labels = producer.node.name or "", dependencies.labels[producer.output]
        if name not in layers:
            refused[name] = "its weights aren't static real numbers"
        elif depthwise and (reason := _no_depthwise(producer.node)):
            refused[name] = f"depthwise-kernel: {reason}"
        elif dependencies.removable.isdisjoint(labels.tolist()):
            refused[name] = f"its channels stay: {dependencies.reasons[int(labels[0])]}"
        else:
            found[name] = producer.output
    return found, refused


def _no_depthwise(node: ir.Node) -> str:
    """Why a kernel of `node` isn't one channel's alone; empty where it is."""
    weights = constant(node.inputs[1]) if is_op(node, "Conv") else None
    if weights is None or attribute(node, "group", 1) == 1 or weights.shape[1] != 1:
        return "it isn't a depthwise convolution"
    return "" if _is_alone(node) else "other nodes read its input's channels too"


def _is_alone(node: ir.Node) -> bool:
    """Whether nobody but a depthwise layer reads the channels that it reads, up to their layer."""
    value = node.inputs[0]
    while value is not None:
        if len(tuple(value.uses())) != 1 or value.is_graph_output():
            return False
        producer = value.producer()
        if producer is None or is_op(producer, "Conv", "ConvTranspose", "Gemm", "MatMul"):
            return True
        moving = [v for v in producer.inputs if v is not None and constant(v) is None]
        if len(moving) != 1:
            return True
        value = moving[0]
    return True


def smallest_channels(
    dependencies: Dependencies,
    found: Mapping[str, Dim],
    sizes: Mapping[str, Array],
    amount: Amount,
) -> set[int]:
    """The groups of channels that go, none that would leave a dimension with nothing.

    `found` are layers of `removable_channels`, `sizes` [N] those of their columns, by name. A
    group's size is the mean over all its columns; by a share, of their sizes over their layers'
    means.

    Raises:
        XbarcError: a layer would be left with nothing.
    """
    total: dict[int, list[float]] = {}
    relative: dict[int, list[float]] = {}
    for name, dim in found.items():
        size = sizes[name]
        mean = float(size.mean()) or 1.0
        for group, value in zip(dependencies.labels[dim].tolist(), size.tolist(), strict=True):
            if group in dependencies.removable:
                total.setdefault(group, []).append(value)
                relative.setdefault(group, []).append(value / mean)
    if amount.threshold is not None:
        order = sorted(g for g, v in total.items() if np.mean(v) < amount.threshold)
        wanted = len(order)
    else:
        order = sorted(relative, key=lambda g: (float(np.mean(relative[g])), g))
        wanted = round(amount.sparsity * len(order))
    gone, emptied = _taken(dependencies, order, wanted)
    if len(gone) < wanted:
        name = next((n for n, d in found.items() if d in emptied), next(iter(found)))
        raise XbarcError(
            f"{amount} would leave layer {name!r} with nothing: "
            f"{wanted} of the {len(total)} channels of all layers can't go"
        )
    return gone


def _taken(
    dependencies: Dependencies, order: Sequence[int], wanted: int
) -> tuple[set[int], set[Dim]]:
    """The first `wanted` groups that can go, and the dimensions for which others stay."""
    left: dict[Dim, int] = {}
    takes: dict[int, list[tuple[Dim, int]]] = {group: [] for group in order}
    for dim, labels in dependencies.labels.items():
        hit, counts = np.unique(labels[np.isin(labels, order)], return_counts=True)
        left[dim] = len(labels)
        for group, count in zip(hit.tolist(), counts.tolist(), strict=True):
            takes[group].append((dim, count))
    gone: set[int] = set()
    emptied: set[Dim] = set()
    for group in order:
        if len(gone) == wanted:
            break
        full = [dim for dim, count in takes[group] if left[dim] <= count]
        emptied.update(full)
        if not full:
            gone.add(group)
            for dim, count in takes[group]:
                left[dim] -= count
    return gone, emptied


def fold_constants(
    model: ir.Model, kept: Mapping[Dim, Mask], layers: Iterable[LayerMatrix]
) -> None:
    """Add what channels that go, and that no input moves, bring to the biases of their readers.

    `kept` says what stays of the dimensions that lose something. A layer that pads reads zeros
    beside the constant, so that its bias can't stand for it.
    """
    readers = [
        (layer, ~kept[dim])
        for layer in layers
        if (dim := _channels_of(layer)) in kept and _meets_all(layer)
    ]
    if not readers:
        return
    names = sorted({str(layer.source.name) for layer, _ in readers})
    held = Session(model, names).run(random_inputs(model, 2))
    for layer, gone in readers:
        x = np.moveaxis(held[str(layer.source.name)], _channels_of(layer).axis, 0)
        x = x.reshape(len(gone), -1).astype(np.float64)
        steady = gone & (x.min(1) == x.max(1)) & (x[:, 0] != 0)
        if steady.any():
            matrix = layer.matrix.astype(np.float64)
            weights = matrix.reshape(len(gone), -1, matrix.shape[1]).sum(1)
            alpha = attribute(layer.node, "alpha", 1.0) if is_op(layer.node, "Gemm") else 1.0
            layer.add_to_bias(alpha * (x[steady, 0] @ weights[steady]))


def _channels_of(layer: LayerMatrix) -> Dim:
    return Dim(layer.source, layer.channel_axis(len(dims(layer.source) or ())))


def _meets_all(layer: LayerMatrix) -> bool:
    """Whether each value of the result meets the whole kernel, and all channels."""
    if layer.groups > 1 or is_op(layer.node, "ConvTranspose"):
        return False
    auto = attribute(layer.node, "auto_pad", "NOTSET")
    return not any(attribute(layer.node, "pads", ())) and not auto.startswith("SAME")


def giving_outputs(model: ir.Model) -> set[ir.Node]:
    """Layers whose columns are the model's outputs."""
    found = analyse(model)
    return {
        producer.node
        for producer in found.producers
        if any("the output" in found.reasons.get(g, "") for g in found.labels[producer.output])
    }
