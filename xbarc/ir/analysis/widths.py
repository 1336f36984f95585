"""The widths of a program's layers: of their weights, and of the codes that they take."""

from dataclasses import dataclass
from typing import Self, cast

from xdsl.dialects.builtin import ModuleOp

from xbarc.ir.dialect import MvmOp, StreamType, weights_of


@dataclass(frozen=True)
class Widths:
    """The bits that layers have, each once, the narrowest first; nothing where there is no layer.

    A layer of the model's own integers, or with settings of its own, has others than its target.
    """

    weights: tuple[int, ...]
    inputs: tuple[int, ...]

    @classmethod
    def of(cls, module: ModuleOp) -> Self:
        """Those of all layers on crossbars."""
        ops = [op for op in module.walk() if isinstance(op, MvmOp)]
        inputs = {cast(StreamType, op.input.type).element.width.data for op in ops}
        return cls(tuple(sorted({weights_of(op).weight_bits for op in ops})), tuple(sorted(inputs)))
