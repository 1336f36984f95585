"""Convolutions patch by patch: one shot gives all outputs of a patch, from the window it sees.

A patch is `outputs` large, one size an axis. Patches stand side by side on the output; the last one
of an axis may hang over the edge. Their windows overlap on the input. If stride and dilation have a
common divisor, no output reads the entries in between, and the window leaves them out. So a
pointwise kernel's window is as large as its patch, whatever the stride.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import gcd, prod

from xdsl.dialects.builtin import ModuleOp

from xbarc.hw.target import CrossbarArray
from xbarc.ir.dialect import (
    ConvOp,
    ConvTransposeOp,
    DenseOp,
    GatherOp,
    GridAttr,
    MvmOp,
    PackedAttr,
    ScatterOp,
    TilingAttr,
    UnrollAttr,
    WindowAttr,
    crossbar_of,
    element_of,
    shape_of,
    spatial_size,
    vectors_of,
    weights_of,
)
from xbarc.support.errors import UsageError, XbarcError
from xbarc.support.names import named


@dataclass(frozen=True)
class Patches:
    """A convolution cut into patches of `outputs`; `flat`: its spatial axes count as one."""

    layer: ConvOp
    outputs: tuple[int, ...]
    flat: bool = False

    @property
    def spatial(self) -> list[int]:
        """The output's axes that patches stand on."""
        return spatial_size(shape_of(self.layer.result), flat=self.flat)

    @property
    def positions(self) -> list[int]:
        """Patches along each axis."""
        return [-(-size // o) for size, o in zip(self.spatial, self.outputs, strict=True)]

    @property
    def count(self) -> int:
        """Patches on one image."""
        return prod(self.positions)

    @property
    def size(self) -> int:
        """Outputs of a filter in a patch."""
        return prod(self.outputs)

    @property
    def windows(self) -> list[tuple[int, int]]:
        """By axis, the entries of a patch's window, and how far apart they are on the input."""
        kernel, strides, _, dilations = self.conv
        return [
            window_of(*axis) for axis in zip(kernel, self.outputs, strides, dilations, strict=True)
        ]

    @property
    def window_size(self) -> int:
        """The inputs that a patch sees of a channel."""
        return prod(entries for entries, _ in self.windows)

    @property
    def conv(self) -> tuple[list[int], list[int], list[int], list[int]]:
        """Kernel, strides, pads and dilations; of a flat layer, which is pointwise, one axis."""
        if self.flat:
            return [1], [1], [0, 0], [1]
        return self.layer.window.lists()

    def unroll(self) -> UnrollAttr:
        """Where the kernel stands in the matrix from window to patch."""
        kernel, strides, _, dilations = self.conv
        apart = [a for _, a in self.windows]
        # A step that no second output, or entry of the kernel, takes is none.
        output_steps = [
            s // a if o > 1 else 1 for s, o, a in zip(strides, self.outputs, apart, strict=True)
        ]
        kernel_steps = [
            d // a if k > 1 else 1 for d, k, a in zip(dilations, kernel, apart, strict=True)
        ]
        return UnrollAttr.of_patch(kernel, self.outputs, output_steps, kernel_steps)

    def mapped(self, by: str, tiling: TilingAttr) -> tuple[GatherOp, MvmOp, ScatterOp]:
        """Gather a window, multiply by the unrolled kernel, scatter a patch."""
        layer, shape = self.layer, shape_of(self.layer.result)
        _, strides, pads, _ = self.conv
        size = spatial_size(shape_of(layer.input), flat=self.flat)
        begins = pads[: len(size)]
        entries, apart = ([w[i] for w in self.windows] for i in (0, 1))
        steps = [o * s for o, s in zip(self.outputs, strides, strict=True)]
        # Windows reach as far as the last patch does, and no further.
        reach = [
            (n - 1) * step + (w - 1) * a + 1
            for n, step, w, a in zip(self.positions, steps, entries, apart, strict=True)
        ]
        ends = [r - s - b for r, s, b in zip(reach, size, begins, strict=True)]
        gather = GatherOp.windows(
            layer.input,
            WindowAttr.of(entries, steps, [*begins, *ends], apart),
            vectors_of(layer, [shape[0], *self.positions]),
            layer.fill.value.data,
            flat=self.flat,
        )
        product = MvmOp(
            gather.result,
            weights_of(layer),
            by,
            tiling,
            element_of(layer.result),
            unroll=self.unroll() if self.size > 1 else None,
        )
        if self.size == 1:
            return gather, product, ScatterOp(product.result, 1, shape)
        over = [
            n * o - s for n, o, s in zip(self.positions, self.outputs, self.spatial, strict=True)
        ]
        window = WindowAttr.of(self.outputs, self.outputs, [*[0] * len(over), *over])
        return gather, product, ScatterOp.windows(product.result, window, shape, flat=self.flat)


def window_of(kernel: int, outputs: int, stride: int, dilation: int) -> tuple[int, int]:
    """The entries that `outputs` of an axis see, and how far apart these are."""
    apart = gcd(stride if outputs > 1 else 0, dilation if kernel > 1 else 0) or 1
    return ((outputs - 1) * stride + (kernel - 1) * dilation) // apart + 1, apart


@dataclass(frozen=True)
class Fit:
    """A group's kernels on crossbars of `array`: whole channels and whole filters that fit one.

    `window` and `patch`: rows of a channel, weight columns of a filter.
    """

    window: int
    patch: int
    channels: int
    filters: int
    groups: int
    rows: int
    width: int

    @staticmethod
    def of(patches: Patches, array: CrossbarArray) -> "Fit":
        """How patches of a layer fit."""
        weights = weights_of(patches.layer)
        rows, cols = weights.stored_shape
        return Fit(
            patches.window_size,
            patches.size,
            rows // patches.layer.window.size,
            cols // weights.group_count,
            weights.group_count,
            array.weights_per_column,
            array.weights_per_row(weights.weight_bits),
        )

    @property
    def fits(self) -> bool:
        """One channel and one filter fit a crossbar."""
        return self.window <= self.rows and self.patch <= self.width

    @property
    def together(self) -> int:
        """Whole groups that fit a crossbar, block-diagonally."""
        return min(
            self.rows // (self.channels * self.window),
            self.width // (self.filters * self.patch),
            self.groups,
        )

    def one_each(self) -> GridAttr:
        """A channel and a filter a crossbar."""
        return GridAttr.of(self.window, self.patch)

    def whole(self) -> GridAttr | PackedAttr:
        """As many whole channels and filters, or groups, a crossbar as fit."""
        if self.groups > 1 and self.together:
            return PackedAttr.of(self.together)
        return GridAttr.of(
            min(self.rows // self.window, self.channels) * self.window,
            min(self.width // self.patch, self.filters) * self.patch,
        )

    def full(self) -> GridAttr | PackedAttr:
        """Rows and columns cut full first, whatever channel they are of; groups stay whole."""
        if self.groups > 1 and self.together:
            return PackedAttr.of(self.together)
        return GridAttr.of(self.rows, self.width)

    def blocks(self, tiling: GridAttr | PackedAttr) -> tuple[int, int]:
        """Tiles of the unrolled matrix: blocks of rows, over all groups, and of columns."""
        if isinstance(tiling, PackedAttr):
            return -(-self.groups // tiling.count.data), 1
        height, width = tiling.largest()
        rows, cols = self.channels * self.window, self.filters * self.patch
        return self.groups * -(-rows // height), -(-cols // width)

    def tiles(self, tiling: GridAttr | PackedAttr) -> int:
        """Tiles of the unrolled matrix."""
        return prod(self.blocks(tiling))


def each_output(op: MvmOp) -> WindowAttr | None:
    """The window of one output, over the input of `op`'s gather; None where outputs have none.

    Where patches stand side by side, all of the same kernel, the outputs are those of a plain
    convolution: the reverse of `Patches.mapped`.
    """
    gather, scatter = op.input.owner, scatter_of(op)
    if op.unroll is None or not isinstance(gather, GatherOp) or gather.window is None:
        return None
    if scatter is None or not is_side_by_side(scatter) or set(gather.spreads()) != {1}:
        return None
    kernel, window, patch, input_steps, output_steps, kernel_steps, shifts = op.unroll.lists()
    entries, strides, pads, apart = gather.window.lists()
    if window != entries or set(input_steps) != {1} or any(shifts) or min(kernel_steps) < 1:
        return None
    if any(
        o > 1 and step != o * a * t
        for o, step, a, t in zip(patch, strides, apart, output_steps, strict=True)
    ):
        return None
    own = [step // o for step, o in zip(strides, patch, strict=True)]
    dilations = [a * c for a, c in zip(apart, kernel_steps, strict=True)]
    outputs = spatial_size(shape_of(scatter.result), flat=scatter.flat is not None)
    begins = pads[: len(kernel)]
    ends = [
        (n - 1) * s + (k - 1) * d + 1 - size - b
        for n, s, k, d, size, b in zip(
            outputs, own, kernel, dilations, gather.seen_size(), begins, strict=True
        )
    ]
    return WindowAttr.of(kernel, own, [*begins, *ends], dilations)


def scatter_of(op: MvmOp) -> ScatterOp | None:
    """The scatter that takes an mvm's result."""
    found = [use.operation for use in op.result.uses if isinstance(use.operation, ScatterOp)]
    return found[0] if found else None


def is_side_by_side(scatter: ScatterOp) -> bool:
    """Whether the result is cut in patches side by side, of which the last may hang over."""
    if scatter.window is None:
        return False
    kernel, strides, pads, dilations = scatter.window.lists()
    return kernel == strides and not any(pads[: len(kernel)]) and set(dilations) == {1}


def patch_sizes(
    layer: ConvOp, sizes: Sequence[int], rows: int, width: int
) -> Iterator[tuple[int, ...]]:
    """Patches up to `sizes` that see at most `rows` inputs of a channel and have `width` outputs.

    In the order of nested loops, the last axis running fastest.
    """
    axes = list(zip(*(layer.window.lists()[i] for i in (0, 1, 3)), sizes, strict=True))

    def inner(axis: int, rows: int, width: int) -> Iterator[tuple[int, ...]]:
        if axis == len(axes):
            yield ()
            return
        kernel, stride, dilation, size = axes[axis]
        for outputs in range(1, min(size, width) + 1):
            entries, _ = window_of(kernel, outputs, stride, dilation)
            if entries > rows:
                return
            for rest in inner(axis + 1, rows // entries, width // outputs):
                yield (outputs, *rest)

    return inner(0, rows, width)


def convolutions(module: ModuleOp, names: Sequence[str]) -> list[ConvOp]:
    """The convolutions that a pass is to map: those that `names` or patterns mean, or all.

    Raises `UsageError` where a name isn't that of an unmapped convolution.
    """
    found = [op for op in module.walk() if isinstance(op, ConvOp)]
    others = {
        weights_of(op).symbol: "dense layer: im2col maps it"
        if isinstance(op, DenseOp)
        else "transposed convolution: deconv maps it"
        for op in module.walk()
        if isinstance(op, DenseOp | ConvTransposeOp)
    }
    known = {weights_of(op).symbol: op for op in found}
    for name in names:
        if name not in known and name in others:
            raise UsageError(f"{name!r} is no convolution but a {others[name]}")
    return [known[name] for name in named(names, known, "unmapped convolution")]


def array_of(layer: ConvOp) -> CrossbarArray:
    """The crossbar that a layer is mapped for. Raises `XbarcError` where none can be told."""
    crossbar = crossbar_of(layer)
    if crossbar is None:
        raise XbarcError("the module doesn't say its crossbar: compile it for a target")
    if min(shape_of(layer.result)[2:]) < 1:
        raise XbarcError(
            f"the output size of {weights_of(layer).symbol!r} isn't known before it runs, so it "
            "can't be cut in patches; what fits: im2col"
        )
    return crossbar.array()
