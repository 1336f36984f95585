"""The table of operators: xbarc's own entries, installed packages' and plug-in files'."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Protocol

from xbarc.graph.operators.operator import Operator, domain_of
from xbarc.graph.operators.table import TABLE
from xbarc.support import plugins
from xbarc.support.errors import XbarcError
from xbarc.support.plugins import Group


class Node(Protocol):
    """A node of `onnx_ir` or of `onnx`."""

    @property
    def domain(self) -> str:
        """The domain of its operator."""

    @property
    def op_type(self) -> str:
        """The name of its operator in its domain."""


@dataclass(frozen=True)
class Operators:
    """Entries by domain and type."""

    entries: Mapping[tuple[str, str], Operator]

    def of(self, node: Node) -> Operator:
        """The entry of a node's operator; one of safe rules where there is none."""
        key = domain_of(node.domain), node.op_type
        return self.entries.get(key) or Operator(node.op_type, node.domain)


OWN = Operators({operator.key: operator for operator in TABLE})
"""xbarc's own entries."""


def load_operators() -> Operators:
    """All entries, those of the plug-in files in use too: ask once an analysis, not once a node.

    Raises `XbarcError` where an operator has two entries, or an entry point isn't one.
    """
    registry = OPERATORS.registry()
    found = registry.all()
    for name, operator in found.items():
        if not isinstance(operator, Operator) or operator.name != name:
            raise XbarcError(
                f"{registry.noun} {name!r} of {registry.owner(name)} is no Operator of that name"
            )
    return Operators({operator.key: operator for operator in found.values()})


def _found(module: ModuleType) -> dict[str, Operator]:
    """The entries that a plug-in file defines, each in a variable of its own."""
    return {operator.name: operator for operator in plugins.instances(module, Operator)}


def _own() -> dict[str, Operator]:
    return {operator.name: operator for operator in TABLE}


OPERATORS: Group[Operator] = Group(
    "digital operator", "xbarc.operators", None, _found, built_in=_own
)
