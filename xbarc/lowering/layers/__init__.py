"""The operators that can stand on crossbars, one file a kind.

Another is a `LayerKind` under the entry point group `xbarc.layers`, or in a file given by
`--plugin`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType

import onnx_ir as ir

from xbarc.graph.operators import Operators, is_linear, load_operators
from xbarc.graph.query import ONNX_DOMAINS
from xbarc.lowering.kind import LayerKind
from xbarc.support import plugins
from xbarc.support.errors import XbarcError
from xbarc.support.plugins import Group


def _found(module: ModuleType) -> dict[str, type[LayerKind]]:
    """The kinds that a module defines. Raises `XbarcError` where one isn't whole."""
    kinds = [cls for cls in plugins.classes(module, LayerKind) if issubclass(cls, LayerKind)]
    for cls in kinds:
        if missing := _missing(cls):
            raise XbarcError(f"{module.__file__}: class {cls.__name__} has no `{missing[0]}`")
    return {cls.name: cls for cls in kinds}


def _missing(cls: type[LayerKind]) -> list[str]:
    said = [key for key in ("name", "op_type") if not hasattr(cls, key)]
    return [*said, *sorted(cls.__abstractmethods__)]


LAYERS: Group[type[LayerKind]] = Group(
    "crossbar operator", "xbarc.layers", "xbarc.lowering.layers", _found
)


@dataclass(frozen=True)
class Kinds:
    """The kinds of layers, by domain and type of the operator; and the table of all operators."""

    known: Mapping[tuple[str, str], LayerKind]
    operators: Operators

    def of(self, node: ir.Node) -> LayerKind | None:
        """The kind that the node is of."""
        domain = "" if node.domain in ONNX_DOMAINS else node.domain
        return self.known.get((domain, node.op_type)) if len(node.inputs) > 1 else None

    def multiplies(self, node: ir.Node) -> bool:
        """Whether the operator multiplies and accumulates, on crossbars or not."""
        return self.of(node) is not None or is_linear(node, self.operators)


def load_kinds() -> Kinds:
    """xbarc's own kinds, those of installed packages, and those of the plug-in files in use.

    Raises `XbarcError` where a name or an operator is taken twice, or one can't be used.
    """
    registry = LAYERS.registry()
    known: dict[tuple[str, str], LayerKind] = {}
    for name, cls in registry.all().items():
        if not isinstance(cls, type) or not issubclass(cls, LayerKind) or _missing(cls):
            raise XbarcError(
                f"crossbar operator {name!r} of {registry.owner(name)} is no whole LayerKind"
            )
        operator = cls.domain, cls.op_type
        if operator in known:
            other = known[operator].name
            raise XbarcError(
                f"{cls.op_type} is a crossbar operator twice: {other!r} of {registry.owner(other)} "
                f"and {name!r} of {registry.owner(name)}; remove one"
            )
        known[operator] = cls()
    return Kinds(known, load_operators())
