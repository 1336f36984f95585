"""What an operator of the table is."""

from collections.abc import Callable
from typing import Any

Operator = Callable[..., Any]
"""A function of tensors: an ONNX operator's inputs by place (None where left out), its attributes
by name. It gives a tensor, or a tuple of them. Integers that say shapes and axes are tensors on the
CPU. Raises `Unsupported` for what it can't do."""


class Unsupported(Exception):  # noqa: N818
    """What an operator can't do, in words; the node is added by the caller."""
