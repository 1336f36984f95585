"""What a pass is: the base class of graph passes, and what a mapping pass finds in its context."""

import copy
import dataclasses
from abc import abstractmethod
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeAlias

from xdsl.context import Context
from xdsl.passes import ModulePass
from xdsl.utils.arg_spec import ArgSpecConvertible

from xbarc.support.errors import UsageError, XbarcError

if TYPE_CHECKING:  # each of these costs tenths of a second, and `xbarc --help` needs none
    import numpy as np
    import onnx_ir as ir

    from xbarc.hw.target import Target


@dataclass(frozen=True)
class GraphPass(ArgSpecConvertible):
    """A rewrite of the ONNX graph. The fields of the (frozen) dataclass are its options."""

    name: ClassVar[str]
    preserves: ClassVar[bool]
    """The function stays the same up to rounding; else the pass is lossy."""

    @property
    def keeps_function(self) -> bool:
        """`preserves`, unless a pass says otherwise because its options decide."""
        return self.preserves

    @property
    def needs_target(self) -> bool:
        """Whether the pass, called as it is, can't do without the hardware.

        Without `--target`, `xbarc opt` then refuses it before anything runs.
        """
        return False

    @property
    def leaves(self) -> Mapping[str, tuple[str, ...]]:
        """The work that this pass leaves to a tile pass, and in which layers.

        `{"zeros": ()}`: zeros, in any layer. A tile pass with `follows = "zeros"` then runs after
        all other passes (`xbarc.pipeline.schemes.follow_ups`).
        """
        return {}

    @abstractmethod
    def apply(self, model: "ir.Model", target: "Target | None") -> bool:
        """Rewrite `model` in place; whether anything was modified.

        `target` is the hardware compiled for: None under `xbarc opt` without `--target`, never so
        where the pass `needs_target`.
        """


class XbarContext(Context):
    """xDSL's context, with the target and the data that a mapping pass needs beside the module.

    `weights` are the arrays that the module names by symbol; a pass may add arrays. `digital` are
    the graphs of the digital files, by path; a pass must not change them, and `xbarc opt` gives
    none. `figures` are values (JSON) that appear in `report.json` under the same keys.
    """

    def __init__(
        self,
        target: "Target | None" = None,
        weights: "MutableMapping[str, np.ndarray[Any, Any]] | None" = None,
        digital: "Mapping[str, ir.Model] | None" = None,
    ) -> None:
        super().__init__()
        self._target = target
        self.weights = {} if weights is None else weights
        self.digital = {} if digital is None else digital
        self.figures: dict[str, Any] = {}

    @classmethod
    def of(cls, ctx: Context) -> Self:
        """`ctx` with its true type: xDSL declares a pass's context as a plain `Context`.

        Raises:
            XbarcError: it is a plain `Context` (xDSL's own tools ran the pass).
        """
        if not isinstance(ctx, cls):
            raise XbarcError("this pass needs xbarc's context: run it by xbarc, not by xdsl-opt")
        return ctx

    @property
    def target(self) -> "Target":
        """The hardware compiled for. Raises UsageError where none was given."""
        if self._target is None:
            raise UsageError("this pass asks for the hardware: give --target")
        return self._target

    def clone(self) -> "XbarContext":
        """A context of its own, for the same target and the same arrays."""
        clone = XbarContext(self._target, copy.copy(self.weights), self.digital)
        clone.figures = copy.deepcopy(self.figures)
        for registered in dataclasses.fields(Context):
            setattr(clone, registered.name, copy.copy(getattr(self, registered.name)))
        return clone


PassClass: TypeAlias = type[GraphPass] | type[ModulePass]


Kind: TypeAlias = Literal["graph", "mapping"]


def is_tile_pass(module_pass: ModulePass) -> bool:
    """Whether a pass works on mapped layers: its class says `tile: ClassVar[bool] = True`.

    `after_mapping` says the same where `tile` is an option of the pass.
    """
    marks = (getattr(type(module_pass), key, False) for key in ("tile", "after_mapping"))
    return any(mark is True for mark in marks)
