"""Unrolled matrices: one kernel at many places of a matrix, so that one shot gives many outputs.

A layer's own matrix has a row for each (channel, kernel position i) and a column for each filter.
Unrolled, it has a row for each (channel, position u in a window of the input) and a column for each
(filter, position p in a patch of the output). The weight of (channel, i, filter) stands where, axis
by axis,

    input_step * u = output_step * p + kernel_step * i + shift

All other cells hold no weight; they are off. This covers

- a patch of a convolution (a Toeplitz block; kernels shifted and duplicated):
  `u = stride * p + dilation * i`;
- a transposed convolution that scatters: a column for each kernel position, `u = 0 = p - i`;
- its phases: `stride * u = p - dilation * i + shift`, the outputs p between two inputs;
- its kernel mirrored over an input with zeros inserted: `u = size - 1 - i`.
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from xdsl.dialects.builtin import DenseArrayBase, IntegerType
from xdsl.ir import Attribute, ParametrizedAttribute
from xdsl.irdl import irdl_attr_definition
from xdsl.parser import AttrParser
from xdsl.printer import Printer
from xdsl.utils.exceptions import VerifyException

from xbarc.ir.dialect.assembly import ints, parse_ints, print_ints, print_list

Indices = npt.NDArray[np.int64]

LARGEST = 1 << 24
"""Pairs of window and patch positions, beyond which it is no crossbar's mapping."""

STEPS = ("input_steps", "output_steps", "kernel_steps", "shifts")


@irdl_attr_definition
class UnrollAttr(ParametrizedAttribute):
    """Where the weights of a kernel stand in an unrolled matrix (above); lists, one entry an axis.

    `unroll [3, 3] window [10, 10] patch [8, 8]`: kernel, window and patch; `input_steps`,
    `output_steps` and `kernel_steps` are 1, `shifts` 0 where they aren't said.
    """

    name = "xbar.unroll"

    kernel: DenseArrayBase[IntegerType]
    window: DenseArrayBase[IntegerType]
    patch: DenseArrayBase[IntegerType]
    input_steps: DenseArrayBase[IntegerType]
    output_steps: DenseArrayBase[IntegerType]
    kernel_steps: DenseArrayBase[IntegerType]
    shifts: DenseArrayBase[IntegerType]

    @staticmethod
    def of(
        kernel: Sequence[int],
        window: Sequence[int],
        patch: Sequence[int],
        *,
        input_steps: Sequence[int] | None = None,
        output_steps: Sequence[int] | None = None,
        kernel_steps: Sequence[int] | None = None,
        shifts: Sequence[int] | None = None,
    ) -> "UnrollAttr":
        """An unrolled kernel; steps default to 1, shifts to 0."""
        ones, zeros = [1] * len(kernel), [0] * len(kernel)
        return UnrollAttr(
            ints(kernel),
            ints(window),
            ints(patch),
            ints(input_steps or ones),
            ints(output_steps or ones),
            ints(kernel_steps or ones),
            ints(shifts or zeros),
        )

    @staticmethod
    def of_patch(
        kernel: Sequence[int],
        patch: Sequence[int],
        strides: Sequence[int],
        dilations: Sequence[int],
    ) -> "UnrollAttr":
        """A patch of outputs of a convolution: its window is all that the patch sees."""
        window = [
            (o - 1) * s + (k - 1) * d + 1
            for k, o, s, d in zip(kernel, patch, strides, dilations, strict=True)
        ]
        return UnrollAttr.of(kernel, window, patch, output_steps=strides, kernel_steps=dilations)

    def lists(self) -> tuple[list[int], ...]:
        """kernel, window, patch, input steps, output steps, kernel steps, shifts as lists."""
        return tuple(
            [int(v) for v in p.get_values()]
            for p in self.parameters
            if isinstance(p, DenseArrayBase)
        )

    @property
    def kernel_size(self) -> int:
        """Kernel positions."""
        return math.prod(self.lists()[0])

    @property
    def window_size(self) -> int:
        """Window positions: rows for each input channel."""
        return math.prod(self.lists()[1])

    @property
    def patch_size(self) -> int:
        """Patch positions: columns for each filter."""
        return math.prod(self.lists()[2])

    def axis_taps(self) -> list[Indices]:
        """By axis, [window, patch]: which kernel position stands there, -1 for none."""
        return [_axis_taps(*values) for values in zip(*self.lists(), strict=True)]

    def taps(self) -> Indices:
        """[window positions, patch positions]: the kernel position that stands there, -1: none."""
        kernel = self.lists()[0]
        result = np.zeros((1, 1), np.int64)
        for size, axis in zip(kernel, self.axis_taps(), strict=True):
            outer, inner = result[:, None, :, None], axis[None, :, None, :]
            joined = np.where((outer < 0) | (inner < 0), -1, outer * size + inner)
            result = joined.reshape(len(result) * len(axis), -1)
        return result

    def stored_shape(self, rows: int, cols: int) -> tuple[int, int]:
        """The shape of one group's rows and all columns, for weights stored as `rows` x `cols`."""
        return rows // self.kernel_size * self.window_size, cols * self.patch_size

    def verify(self) -> None:
        """Lists of one length; sizes and steps that mean something; no kernel position lost."""
        lists = self.lists()
        kernel, window, patch, input_steps, _, kernel_steps, _ = lists
        if not kernel or any(len(values) != len(kernel) for values in lists):
            raise VerifyException("unroll: kernel, window, patch and steps say one number an axis")
        if min(kernel + window + patch + input_steps) < 1 or 0 in kernel_steps:
            raise VerifyException("unroll: sizes are at least 1, steps aren't 0")
        if self.window_size * self.patch_size > LARGEST or self.kernel_size > LARGEST:
            raise VerifyException(f"unroll: more than {LARGEST} pairs of positions")
        for axis, size, found in zip(range(len(kernel)), kernel, self.axis_taps(), strict=True):
            if len(np.unique(found[found >= 0])) != size:
                raise VerifyException(
                    f"unroll: a kernel position of axis {axis} stands nowhere in the window"
                )

    def print_clauses(self, printer: Printer) -> None:
        """` [3, 3] window [10, 10] patch [8, 8]`, steps of 1 and shifts of 0 left out."""
        kernel, window, patch, *steps = self.lists()
        print_list(printer, kernel)
        print_ints(printer, "window", window)
        print_ints(printer, "patch", patch)
        for name, values in zip(STEPS, steps, strict=True):
            if any(v != (name != "shifts") for v in values):
                print_ints(printer, name, values)

    @classmethod
    def parse_clauses(cls, parser: AttrParser) -> "UnrollAttr":
        """The inverse of `print_clauses`."""
        kernel = parse_ints(parser)
        parser.parse_keyword("window")
        window = parse_ints(parser)
        parser.parse_keyword("patch")
        patch = parse_ints(parser)
        steps = {name: parse_ints(parser) for name in STEPS if parser.parse_optional_keyword(name)}
        return cls.of(kernel, window, patch, **steps)

    def print_parameters(self, printer: Printer) -> None:
        """`< unroll [3, 3] ...>`"""
        printer.print_string("< unroll")
        self.print_clauses(printer)
        printer.print_string(">")

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> Sequence[Attribute]:
        """The inverse of `print_parameters`."""
        with parser.in_angle_brackets():
            parser.parse_keyword("unroll")
            return cls.parse_clauses(parser).parameters


def _axis_taps(kernel: int, window: int, patch: int, a: int, b: int, c: int, shift: int) -> Indices:
    """One axis, [window, patch]: i where `a u = b p + c i + shift`, -1 where there is none."""
    u, p = np.arange(window)[:, None], np.arange(patch)[None, :]
    rest = a * u - b * p - shift
    i = rest // c
    return np.where((i * c == rest) & (i >= 0) & (i < kernel), i, -1)
