"""Windows over the spatial axes of a tensor, and where a gather reads or a scatter writes."""

import math
from collections.abc import Sequence

from xdsl.dialects.builtin import DenseArrayBase, IntegerAttr, IntegerType, UnitAttr
from xdsl.ir import Attribute, ParametrizedAttribute
from xdsl.irdl import IRDLOperation, irdl_attr_definition
from xdsl.irdl.declarative_assembly_format import (
    AttributeVariable,
    CustomDirective,
    ParsingState,
    PrintingState,
    irdl_custom_directive,
)
from xdsl.parser import AttrParser, Parser
from xdsl.printer import Printer
from xdsl.utils.exceptions import VerifyException

from xbarc.ir.dialect.assembly import integer, ints, parse_ints, print_ints, print_list


@irdl_attr_definition
class WindowAttr(ParametrizedAttribute):
    """A sliding window over the spatial axes of a tensor, as ONNX's Conv has it.

    `kernel`, `strides`, `dilations`: one a spatial axis; `pads`: all begins, then all ends, where a
    negative one cuts off.
    """

    name = "xbar.window"

    kernel: DenseArrayBase[IntegerType]
    strides: DenseArrayBase[IntegerType]
    pads: DenseArrayBase[IntegerType]
    dilations: DenseArrayBase[IntegerType]

    @staticmethod
    def of(
        kernel: Sequence[int],
        strides: Sequence[int] | None = None,
        pads: Sequence[int] | None = None,
        dilations: Sequence[int] | None = None,
    ) -> "WindowAttr":
        """A window; strides and dilations default to 1, pads to 0."""
        rank = len(kernel)
        return WindowAttr(
            ints(kernel),
            ints(strides or [1] * rank),
            ints(pads or [0] * (2 * rank)),
            ints(dilations or [1] * rank),
        )

    @property
    def rank(self) -> int:
        """The number of spatial axes."""
        return len(self.kernel)

    @property
    def size(self) -> int:
        """The number of kernel positions."""
        return math.prod(self.lists()[0])

    def lists(self) -> tuple[list[int], list[int], list[int], list[int]]:
        """kernel, strides, pads, dilations as lists."""
        return (
            list(map(int, self.kernel.get_values())),
            list(map(int, self.strides.get_values())),
            list(map(int, self.pads.get_values())),
            list(map(int, self.dilations.get_values())),
        )

    def output_size(self, spatial: Sequence[int]) -> list[int]:
        """The spatial output size for a spatial input size (-1 where that is unknown)."""
        kernel, strides, pads, dilations = self.lists()
        return [
            -1
            if size < 0
            else (size + pads[i] + pads[i + self.rank] - dilations[i] * (kernel[i] - 1) - 1)
            // strides[i]
            + 1
            for i, size in enumerate(spatial)
        ]

    def verify(self) -> None:
        """The four lists fit each other; no zero stride. A negative pad cuts off."""
        kernel, strides, pads, dilations = self.lists()
        if not kernel:
            raise VerifyException("a window has at least one spatial axis")
        if len(strides) != self.rank or len(dilations) != self.rank or len(pads) != 2 * self.rank:
            raise VerifyException(
                f"a window over {self.rank} axes has {self.rank} strides and dilations "
                f"and {2 * self.rank} pads"
            )
        if min(kernel + strides + dilations) < 1:
            raise VerifyException("kernel, strides and dilations are at least 1")

    def print_clauses(self, printer: Printer) -> None:
        """` [3, 3] strides [2, 2] pads [1, 1, 1, 1]`, defaults left out, behind `window`."""
        kernel, strides, pads, dilations = self.lists()
        print_list(printer, kernel)
        if any(s != 1 for s in strides):
            print_ints(printer, "strides", strides)
        if any(pads):
            print_ints(printer, "pads", pads)
        if any(d != 1 for d in dilations):
            print_ints(printer, "dilations", dilations)

    @classmethod
    def parse_clauses(cls, parser: AttrParser) -> "WindowAttr":
        """The inverse of `print_clauses`."""
        kernel = parse_ints(parser)
        strides = parse_ints(parser) if parser.parse_optional_keyword("strides") else None
        pads = parse_ints(parser) if parser.parse_optional_keyword("pads") else None
        dilations = parse_ints(parser) if parser.parse_optional_keyword("dilations") else None
        return cls.of(kernel, strides, pads, dilations)

    def print_parameters(self, printer: Printer) -> None:
        """`< window [3, 3] ...>`"""
        printer.print_string("< window")
        self.print_clauses(printer)
        printer.print_string(">")

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> Sequence[Attribute]:
        """The inverse of `print_parameters`."""
        with parser.in_angle_brackets():
            parser.parse_keyword("window")
            return cls.parse_clauses(parser).parameters


@irdl_custom_directive
class Where(CustomDirective):
    """`flat window [2]`, `window [3, 3]` or `axis 1`: one of two, which the format can't say."""

    flat: AttributeVariable
    window: AttributeVariable
    axis: AttributeVariable

    def parse(self, parser: Parser, state: ParsingState) -> None:
        """Raises `ParseError` where neither stands there."""
        if parser.parse_optional_keyword("axis"):
            self.axis.set(state, integer(parser.parse_integer()))
            return
        if parser.parse_optional_keyword("flat"):
            self.flat.set(state, UnitAttr())
        parser.parse_keyword("window", " (or axis)")
        self.window.set(state, WindowAttr.parse_clauses(parser))

    def print(self, printer: Printer, state: PrintingState, op: IRDLOperation) -> None:
        """` flat window [2]`, ` window [3, 3]` or ` axis 1`."""
        window, axis = self.window.get(op), self.axis.get(op)
        if self.flat.get(op) is not None:
            printer.print_string(" flat")
        if isinstance(window, WindowAttr):
            printer.print_string(" window")
            window.print_clauses(printer)
        if isinstance(axis, IntegerAttr):
            printer.print_string(f" axis {axis.value.data}")


def spatial_size(shape: Sequence[int], *, flat: bool) -> list[int]:
    """The spatial axes of a tensor [N, C, spatial...], as one where they count as `flat`."""
    spatial = list(shape[2:])
    if not flat:
        return spatial
    return [-1 if min(spatial, default=1) < 0 else math.prod(spatial)]


def need_spatial(shape: Sequence[int], window: WindowAttr, *, flat: bool) -> None:
    """Refuse a window over other axes than the tensor's. Raises `VerifyException`."""
    if len(shape) < 3 or (window.rank != 1 if flat else window.rank != len(shape) - 2):
        raise VerifyException(
            f"a {'flat ' * flat}window over {window.rank} axes on a rank {len(shape)} tensor"
        )
