"""The module that an operation stands in."""

from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation


def module_of(op: Operation) -> ModuleOp | None:
    """The nearest module around `op`, itself included."""
    root: Operation | None = op
    while root is not None and not isinstance(root, ModuleOp):
        root = root.parent_op()
    return root
