"""Which rows of a graph's inputs must be there before a row of its outputs can be computed.

Rows and what they need: `xbarc.support.rows`.
"""

import numpy as np
import onnx_ir as ir

from xbarc.graph.operators import Operator, load_operators
from xbarc.graph.query import dims, has_subgraph
from xbarc.support.rows import ROW, Needs, all_rows, compose, row_count, same_rows


def row_needs(model: ir.Model) -> list[dict[int, Needs]]:
    """For each output of a graph: what its rows need, by the index of the input.

    An input that an output doesn't depend on is left out. Unknown operators need all of everything.
    """
    operators = load_operators()
    inputs = list(model.graph.inputs)
    known: dict[ir.Value, dict[int, Needs]] = {
        value: {i: same_rows(row_count(dims(value)))} for i, value in enumerate(inputs)
    }
    for node in model.graph:
        reads = [v for v in node.inputs if v is not None and v in known]
        if has_subgraph(node):  # which may read any value
            reads = inputs
        operator = operators.of(node)
        for output in node.outputs:
            needs: dict[int, Needs] = {}
            for value in reads:
                local = _local(operator, node, value, output)
                for index, inner in known[value].items():
                    through = compose(local, inner)
                    needs[index] = np.maximum(needs.get(index, through), through)
            if needs:
                known[output] = needs
    return [known.get(value, {}) for value in model.graph.outputs]


def _local(operator: Operator, node: ir.Node, value: ir.Value, output: ir.Value) -> Needs:
    """What the rows of a node's output need of one operand's."""
    shape, out = dims(value), dims(output)
    rows, of = row_count(out), row_count(shape)
    alike = shape is not None and out is not None and len(shape) == len(out) > ROW
    if operator.rows is None or not alike:
        return all_rows(rows, of)
    return operator.rows(node, value, rows, of)
