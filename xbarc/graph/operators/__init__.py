"""One table of operators: what each costs, and how rows and channels pass through it.

An entry is an `Operator`: its rules are functions and constants of `costs`, `products`, `rows` and
`channels`, or a plug-in's own. xbarc's entries stand in `table`; a file given by `--plugin`, or an
installed package (entry points `xbarc.operators`, called as the operator is), brings others:

    from xbarc.graph.operators import Operator, channels, costs, rows

    QUICK_GELU = Operator(
        "QuickGelu",
        domain="com.microsoft",
        cost=costs.ACTIVATION,
        rows=rows.by_row,
        channels=channels.unary,
    )

An operator without an entry costs one operation a value, waits for all rows, and keeps all of its
channels.
"""

import onnx_ir as ir

from xbarc.graph.operators import channels, costs, products, rows
from xbarc.graph.operators.lookup import OPERATORS, OWN, Operators, load_operators
from xbarc.graph.operators.operator import Operator


def is_linear(node: ir.Node, operators: Operators = OWN) -> bool:
    """Whether the operator multiplies and accumulates."""
    # An Einsum of one operand adds up, but multiplies nothing.
    return operators.of(node).products is not None and len(node.inputs) > 1


__all__ = [
    "OPERATORS",
    "OWN",
    "Operator",
    "Operators",
    "channels",
    "costs",
    "is_linear",
    "load_operators",
    "products",
    "rows",
]
