"""squeeze-excitation: its pool on crossbars, its two products on one, its scale moved."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import onnx_ir as ir

from xbarc.graph.analysis.squeeze_excitation import SqueezeExcitation, find_blocks, is_depthwise
from xbarc.graph.attachments import leave
from xbarc.graph.compress.pooling import PoolingWindow, find_pooling, pool_by_convolution
from xbarc.graph.edit import add_initializer
from xbarc.graph.fold import drop_unused
from xbarc.graph.query import constant, dims, input_at, only_consumer, unique_name, value_names
from xbarc.graph.select import select
from xbarc.hw.target import Target
from xbarc.pipeline import GraphPass


@dataclass(frozen=True)
class SqueezeExcite(GraphPass):
    """Prepare squeeze-and-excitation blocks for crossbars: pool, C -> C/r -> C, gate, scale.

        %p = GlobalAveragePool(%x)         %s = HardSigmoid(Conv(Relu(Conv(%p, %w1)), %w2))
        %y = Mul(%x, %s)                   # [N, C, H, W] x [N, C, 1, 1]

    `xbarc inspect` lists the blocks. Both products stand on crossbars in any case. `pack` puts them
    on the same crossbars: the second, C/r x C, uses rows and columns that the first, C x C/r,
    leaves free (the pass `share-crossbars` does it after mapping). They work one after the other
    anyway, so this takes no more time.

    `pool=crossbar` averages on crossbars instead of in the digital unit: one column of equal
    conductances for each channel (a depthwise convolution as large as the map). A pool over
    channels-last axes stays digital. `fold` moves the scale behind a depthwise convolution, if
    nothing else reads the scaled map:

        %z = Conv<group=C>(Mul(%x, %s), %w, %b)   ->   %z = Add(Mul(Conv<group=C>(%x, %w), %s), %b)

    This is exact: each of its columns sees one channel, so the factor can be applied to the sum.
    The crossbars then don't wait for the gate. In any other layer a column adds channels with
    different factors, so the digital unit scales the map. `layers` names blocks by either of their
    layers; without it the pass takes all.
    """

    name: ClassVar[str] = "squeeze-excitation"
    preserves: ClassVar[bool] = True

    pack: bool = True
    pool: Literal["digital", "crossbar"] = "digital"
    fold: bool = True
    layers: tuple[str, ...] = ()

    @property
    def leaves(self) -> Mapping[str, tuple[str, ...]]:
        """Both products of a block, which can share crossbars once they are mapped."""
        return {"squeeze-excitation": self.layers} if self.pack else {}

    def apply(self, model: ir.Model, target: Target | None) -> bool:
        """Rewrite `model` in place; raises UsageError where `layers` names no layer of a block."""
        found: dict[str, SqueezeExcitation] = {}
        for block in find_blocks(model.graph):
            found.update(dict.fromkeys(block.layers, block))
        chosen = list(dict.fromkeys(select(self.layers, found, {})))
        taken = value_names(model)
        pooled = folded = 0
        for block in chosen:
            window = find_pooling(block.pool) if self.pool == "crossbar" else None
            if isinstance(window, PoolingWindow):
                pool_by_convolution(block.pool, window, taken)
                pooled += 1
            if self.fold and block.folded is None and _fold(block, taken):
                folded += 1
        leave(model, self.name, {"blocks": len(chosen), "pooled": pooled, "folded": folded})
        if pooled or folded:
            drop_unused(model)
        return bool(pooled or folded)


def _fold(block: SqueezeExcitation, taken: set[str]) -> bool:
    """Move a block's scale behind the depthwise convolution that alone reads what is scaled."""
    product, factor = block.scale.outputs[0], block.factor
    conv, graph, shape = only_consumer(product), block.scale.graph, dims(product)
    if conv is None or not isinstance(graph, ir.Graph) or shape is None:
        return False
    if shape[1] is None or conv.inputs[0] is not product or not is_depthwise(conv, shape[1]):
        return False
    # One factor a channel, the same at every place.
    factors = dims(factor)
    if factors is None or len(factors) != len(shape) or set(factors[2:]) != {1}:
        return False
    bias, given = constant(input_at(conv, 2)), input_at(conv, 2)
    if given is not None and bias is None:
        return False
    conv.replace_input_with(0, block.scaled)
    conv.resize_inputs(2)
    _behind(conv, "Mul", factor, taken)
    if bias is not None:
        column = bias.reshape(-1, *[1] * (len(shape) - 2))
        added = add_initializer(graph, f"{conv.name}.bias", column, taken)
        _behind(conv.outputs[0].consumers()[0], "Add", added, taken)
    return True


def _behind(node: ir.Node, op: str, operand: ir.Value, taken: set[str]) -> None:
    """Whoever reads the result of `node` reads `op` of that and `operand`."""
    result, graph = node.outputs[0], node.graph
    if not isinstance(graph, ir.Graph):
        raise TypeError(f"{node} stands in no graph")
    new = ir.node(op, [result, operand], name=f"{node.name}.{op.lower()}")
    graph.insert_after(node, new)
    made, name = new.outputs[0], result.name
    made.type, made.shape = result.type, result.shape
    result.replace_all_uses_with(made, replace_graph_outputs=True)
    new.replace_input_with(0, result)
    result.name, made.name = unique_name(f"{name}.{op.lower()}.in", taken), name
