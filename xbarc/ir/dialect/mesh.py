"""The mesh that a module's crossbars are placed on."""

from collections.abc import Sequence
from typing import cast

from xdsl.dialects.builtin import IntAttr
from xdsl.ir import Attribute, Operation, ParametrizedAttribute
from xdsl.irdl import irdl_attr_definition
from xdsl.parser import AttrParser
from xdsl.printer import Printer
from xdsl.utils.exceptions import VerifyException

from xbarc.hw.mesh import Mesh
from xbarc.ir.dialect.module import module_of

MESH = "xbar.mesh"
"""The module attribute that holds the mesh that `at` counts on."""


@irdl_attr_definition
class MeshAttr(ParametrizedAttribute):
    """The mesh of nodes that crossbars are placed on (`xbarc.hw.mesh.Mesh`)."""

    name = "xbar.mesh"

    chips: IntAttr
    nodes: IntAttr
    cores: IntAttr
    crossbars: IntAttr
    width: IntAttr
    band: IntAttr

    @staticmethod
    def of(mesh: Mesh) -> "MeshAttr":
        """The attribute of a mesh."""
        fields = (mesh.chips, mesh.nodes, mesh.cores, mesh.crossbars, mesh.width, mesh.band)
        return MeshAttr(*map(IntAttr, fields))

    def mesh(self) -> Mesh:
        """The mesh."""
        return Mesh(*(cast(IntAttr, p).data for p in self.parameters))

    def verify(self) -> None:
        """At least one of everything; not wider than its nodes, a million nodes at most."""
        mesh = self.mesh()
        if min(cast(IntAttr, p).data for p in self.parameters) < 1 or mesh.width > mesh.nodes:
            raise VerifyException("a mesh has at least one of each, and is no wider than its nodes")
        if mesh.total_nodes > 1 << 20:
            raise VerifyException(f"a mesh of {mesh.total_nodes} nodes: at most {1 << 20}")

    def print_parameters(self, printer: Printer) -> None:
        """`<2 chips of 168 nodes of 12 cores of 8 crossbars, 14 wide, bands of 3>`"""
        m = self.mesh()
        printer.print_string(
            f"<{m.chips} chips of {m.nodes} nodes of {m.cores} cores of {m.crossbars} crossbars, "
            f"{m.width} wide, bands of {m.band}>"
        )

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> Sequence[Attribute]:
        """The inverse of `print_parameters`."""
        sizes = []
        with parser.in_angle_brackets():
            for unit in ("chips", "nodes", "cores"):
                sizes.append(parser.parse_integer())
                parser.parse_keyword(unit)
                parser.parse_keyword("of")
            sizes.append(parser.parse_integer())
            parser.parse_keyword("crossbars")
            parser.parse_punctuation(",")
            sizes.append(parser.parse_integer())
            parser.parse_keyword("wide")
            parser.parse_punctuation(",")
            parser.parse_keyword("bands")
            parser.parse_keyword("of")
            sizes.append(parser.parse_integer())
        return [IntAttr(size) for size in sizes]


def mesh_of(op: Operation) -> Mesh | None:
    """The mesh that the module around `op` is placed on, where it says one."""
    module = module_of(op)
    found = None if module is None else module.attributes.get(MESH)
    return found.mesh() if isinstance(found, MeshAttr) else None
