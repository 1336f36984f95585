"""Graph rewrites, exact, after which every operator with static weights is one weight matrix.

They come right before lowering, so that graph passes see the operators as the model has them.
"""

import onnx_ir as ir

from xbarc.graph.query import is_static
from xbarc.lowering.layers import load_kinds
from xbarc.lowering.product import Product, find_product


def legalize(model: ir.Model) -> None:
    """Rewrite `model` in place: as each operator's file under `lowering/layers` says, and

    a constant graph output  ->  Identity of it

    Raises `XbarcError` where weights are empty, or have too few axes.
    """
    graph, kinds = model.graph, load_kinds()
    for node in list(graph):
        kind = kinds.of(node)
        product = None if kind is None else find_product(node, kind.sides, kind.least_rank)
        if kind is not None and isinstance(product, Product):
            kind.legalize(product)
    for index, value in enumerate(list(graph.outputs)):
        if is_static(value):
            _identity_output(graph, index, value)
    graph.sort()


def _identity_output(graph: ir.Graph, index: int, value: ir.Value) -> None:
    """A graph output that nothing computes: the digital unit hands it out."""
    name = value.name
    assert name is not None
    graph.initializers.pop(name)
    value.name = f"{name}.constant"
    graph.register_initializer(value)
    node = ir.node("Identity", [value], name=f"{name}.identity")
    node.outputs[0].name = name
    node.outputs[0].type, node.outputs[0].shape = value.type, value.shape
    graph.append(node)
    graph.outputs[index] = node.outputs[0]
