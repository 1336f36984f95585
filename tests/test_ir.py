# ruff: noqa: E501  (an operation's text is one line)
"""The tile IR: its text reads back to itself, and its verifiers refuse what can't be."""

import random
import re
import struct

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from xdsl.dialects.builtin import ModuleOp, StringAttr
from xdsl.dialects.test import TestOp as AnyOp
from xdsl.ir import Block, Region

from xbarc.ir import parse_module, print_module
from xbarc.ir.dialect import (
    ConvOp,
    DenseOp,
    DequantizeOp,
    GatherOp,
    GridAttr,
    MvmOp,
    PackedAttr,
    QuantizeOp,
    StreamType,
    TileListAttr,
    WeightsOp,
    WindowAttr,
    code_type,
    coverage_error,
)
from xbarc.support.errors import XbarcError

CROSSBAR = "#xbar.crossbar<128 x 128 cells of 2 bits, differential, slices in columns, polarity in columns>"

MODULE = f"""\
builtin.module attributes {{xbar.crossbar = {CROSSBAR}}} {{
  xbar.weights @conv1 : 36x4xi8 bias for "Conv"
  xbar.weights @"a/b.c" : 2x4xi8 groups 2 for "Conv"
  xbar.weights @fc : 64x5xi8 for "MatMul"
  func.func @main(%0: tensor<?x4x8x8xf32> {{xbar.name = "x"}}) -> (tensor<?x5xf32> {{xbar.name = "y"}}) {{
    %1 = xbar.quantize %0 scale 0.0208 : tensor<?x4x8x8xf32> -> tensor<?x4x8x8xsi8>
    %2 = xbar.gather %1 window [3, 3] strides [2, 2] pads [1, 1, 1, 1] : tensor<?x4x8x8xsi8> -> !xbar.stream<16 x 36 x si8>
    %3 = xbar.mvm %2, @conv1 by "im2col" grid [128, 16] adc [0.0, 12.5] : !xbar.stream<16 x 36 x si8> -> !xbar.stream<16 x 4 x si32>
    %4 = xbar.scatter %3 axis 1 : !xbar.stream<16 x 4 x si32> -> tensor<?x4x4x4xsi32>
    %5 = xbar.dequantize %4, @conv1 scale 0.0208 zero_point 3 axis 1 : tensor<?x4x4x4xsi32> -> tensor<?x4x4x4xf32>
    %6 = xbar.quantize %5 scale 1.0e-05 zero_point 128 : tensor<?x4x4x4xf32> -> tensor<?x4x4x4xui8>
    %7 = xbar.conv %6, @"a/b.c" window [1, 1] fill 128 : tensor<?x4x4x4xui8> -> tensor<?x4x4x4xsi32>
    %8 = xbar.dequantize %7, @"a/b.c" scale 0.5 axis 1 : tensor<?x4x4x4xsi32> -> tensor<?x4x4x4xf32>
    %9 = xbar.digital "digital/0.onnx" (%8) : (tensor<?x4x4x4xf32>) -> (tensor<?x64xf32>)
    %10 = xbar.quantize %9 scale 0.25 : tensor<?x64xf32> -> tensor<?x64xsi8>
    %11 = xbar.gather %10 axis 1 : tensor<?x64xsi8> -> !xbar.stream<1 x 64 x si8>
    %12 = xbar.mvm %11, @fc by "mine" tiles [[0, 40, 0, 5], [40, 64, 0, 5]] : !xbar.stream<1 x 64 x si8> -> !xbar.stream<1 x 5 x si32>
    %13 = xbar.scatter %12 axis 1 : !xbar.stream<1 x 5 x si32> -> tensor<?x5xsi32>
    %14 = xbar.dense %10, @fc axis 1 to 1 items 2 : tensor<?x64xsi8> -> tensor<?x5xsi32>
    %15 = xbar.dequantize %13, @fc scale 0.25 axis 1 : tensor<?x5xsi32> -> tensor<?x5xf32>
    func.return %15 : tensor<?x5xf32>
  }}
}}
"""


def generic(module):
    return print_module(module, generic=True)


def round_trip(module):
    """The module that its own text says: structurally the same, printed the same."""
    text = print_module(module)
    again = parse_module(text)
    assert again.is_structurally_equivalent(module)
    assert print_module(again) == text
    return again


# --- parse(print(x)) = x ------------------------------------------------------------------------


def test_text_is_its_own_normal_form():
    assert print_module(parse_module(MODULE)) == MODULE


def test_generic_form_says_the_same():
    module = parse_module(MODULE)
    assert parse_module(generic(module)).is_structurally_equivalent(module)


def test_attributes_that_a_pass_leaves_are_kept():
    module = parse_module(MODULE)
    for op in module.walk():
        if op.name.startswith("xbar."):
            op.attributes["mine.place"] = StringAttr("core 3")
    again = round_trip(module)
    marked = [op for op in again.walk() if "mine.place" in op.attributes]
    assert len(marked) == len(re.findall(r"^ +(%\d+ = )?xbar", MODULE, re.M))


names = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cs",)), min_size=1, max_size=12
) | st.sampled_from(
    ["/model/conv.1/Conv", 'a"b', "a\\b", "1", "é", "重み", "a\nb", "\x00", "::", "@"]
)


@given(names, names)
def test_any_name_reads_back(name, operator):
    weights = WeightsOp(name, 3, 4, 8, groups=2, bias=True, onnx_op=operator)
    codes = AnyOp(result_types=[StreamType.of(5, 6, code_type(8, True))])
    product = MvmOp(codes.results[0], weights, operator, PackedAttr.of(2), code_type(32, True))
    again = round_trip_ops(weights, codes, product)
    found = next(op for op in again.walk() if isinstance(op, WeightsOp))
    assert (found.symbol, found.onnx_op.data) == (name, operator)


def round_trip_ops(*ops):
    """Operations of which one or more are `test.op`, which our parser doesn't know: as arguments."""
    arguments, kept = [], []
    for op in ops:
        (arguments if isinstance(op, AnyOp) else kept).append(op)
    block = Block(arg_types=[op.results[0].type for op in arguments])
    for op, argument in zip(arguments, block.args, strict=True):
        op.results[0].replace_all_uses_with(argument)
    from xdsl.dialects.func import FuncOp, ReturnOp

    weights = [op for op in kept if isinstance(op, WeightsOp)]
    block.add_ops([op for op in kept if not isinstance(op, WeightsOp)])
    block.add_op(ReturnOp())
    function = FuncOp("main", (list(block.arg_types), []), Region(block))
    return round_trip(ModuleOp([*weights, function]))


@given(st.floats(min_value=5e-324, max_value=1.7976931348623157e308), st.integers(-300, 300))
@example(1e-05, 0)
@example(5e-324, 255)
@example(1e22, -128)
@example(0.1, 1)
def test_floats_read_back_to_the_bit(scale, zero_point):
    from xdsl.dialects.builtin import TensorType, f32

    real = AnyOp(result_types=[TensorType(f32, [2, 4])])
    weights = WeightsOp("w", 3, 4, 8)
    codes = QuantizeOp(real.results[0], scale, code_type(16, True))
    out = DequantizeOp(codes.result, "w", scale, 1, zero_point)
    again = round_trip_ops(weights, real, codes, out)
    for op in again.walk():
        if isinstance(op, QuantizeOp | DequantizeOp):
            assert struct.pack("<d", op.scale.value.data) == struct.pack("<d", scale)


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(min_value=1e-300, max_value=1e9))
@example(-0.0, 1.0)
@example(-1e-07, 1e-07)
def test_converter_ranges_read_back_to_the_bit(low, width):
    from xdsl.dialects.builtin import DenseArrayBase, f64

    assume(low < low + width)
    weights = WeightsOp("w", 3, 4, 8)
    codes = AnyOp(result_types=[StreamType.of(5, 3, code_type(8, False))])
    product = MvmOp(codes.results[0], weights, "im2col", GridAttr.of(2, 2), code_type(32, True))
    product.adc = DenseArrayBase.from_list(f64, [low, low + width])
    again = round_trip_ops(weights, codes, product)
    found = next(op for op in again.walk() if isinstance(op, MvmOp))
    assert struct.pack("<2d", *found.adc_range) == struct.pack("<2d", low, low + width)


@st.composite
def windows(draw):
    """A window, and a spatial size that it fits."""
    rank = draw(st.integers(1, 3))

    def some(low, high, count=rank):
        return draw(st.lists(st.integers(low, high), min_size=count, max_size=count))

    kernel, strides, dilations = some(1, 4), some(1, 3), some(1, 3)
    pads = some(0, 3, 2 * rank)
    spatial = [
        max(1, d * (k - 1) + 1 - pads[i] - pads[i + rank]) + extra
        for i, (k, d, extra) in enumerate(zip(kernel, dilations, some(0, 5), strict=True))
    ]
    return WindowAttr.of(kernel, strides, pads, dilations), spatial


@given(windows(), st.integers(1, 3), st.integers(0, 255), st.integers(1, 3), st.booleans())
def test_windows_read_back(drawn, channels, fill, groups, batched):
    from xdsl.dialects.builtin import DYNAMIC_INDEX, TensorType

    window, spatial = drawn
    shape = [DYNAMIC_INDEX if batched else 2, channels * groups, *spatial]
    x = AnyOp(result_types=[TensorType(code_type(8, False), shape)])
    weights = WeightsOp("w", channels * window.size, 2 * groups, 8, groups=groups)
    conv = ConvOp(x.results[0], weights, window, code_type(32, True), fill=fill, items=3)
    vectors = int(np.prod(window.output_size(spatial))) * (1 if batched else 2)
    gather = GatherOp.windows(x.results[0], window, vectors, fill)
    again = round_trip_ops(weights, x, conv, gather)
    assert [op.window for op in again.walk() if isinstance(op, ConvOp | GatherOp)] == [window] * 2


@given(st.integers(1, 3), st.integers(0, 2), st.integers(0, 2), st.integers(1, 9))
def test_dense_reads_back(rank, axis, to, items):
    from xdsl.dialects.builtin import DYNAMIC_INDEX, TensorType

    assume(axis < rank and to < rank)
    shape = [DYNAMIC_INDEX, 2, 3][:rank]
    shape[axis] = 6
    x = AnyOp(result_types=[TensorType(code_type(8, True), shape)])
    weights = WeightsOp("w", 6, 7, 8)
    dense = DenseOp(x.results[0], weights, axis, to, code_type(32, True), items=items)
    round_trip_ops(weights, x, dense)


@st.composite
def cuts(draw, limit=12):
    """A matrix and tiles that cover it: cut at random, some tiles cut again."""
    k, n = draw(st.integers(1, limit)), draw(st.integers(1, limit))
    tiles = [[0, k, 0, n]]
    for _ in range(draw(st.integers(0, 6))):
        index, axis = draw(st.integers(0, len(tiles) - 1)), 2 * draw(st.integers(0, 1))
        low, high = tiles[index][axis], tiles[index][axis + 1]
        if high - low > 1:
            at = draw(st.integers(low + 1, high - 1))
            other = list(tiles[index])
            tiles[index][axis + 1] = other[axis] = at
            tiles.append(other)
    return k, n, tiles


@given(cuts(), st.randoms(use_true_random=False))
def test_tile_lists_read_back(cut, shuffled):
    k, n, tiles = cut
    shuffled.shuffle(tiles)
    weights = WeightsOp("w", k, n, 8)
    codes = AnyOp(result_types=[StreamType.of(5, k, code_type(8, False))])
    product = MvmOp(codes.results[0], weights, "x", TileListAttr.of(tiles), code_type(32, True))
    again = round_trip_ops(weights, codes, product)
    found = next(op for op in again.walk() if isinstance(op, MvmOp))
    assert found.tiles().tolist() == tiles


@given(
    st.integers(1, 9), st.integers(1, 9), st.integers(1, 4), st.integers(1, 9), st.integers(1, 9)
)
def test_grids_and_packed_blocks_cover_their_matrix(k, n, groups, rows, cols):
    for tiling in (GridAttr.of(rows, cols), PackedAttr.of(rows)):
        tiles = tiling.tiles(k * groups, n * groups, groups)
        assert coverage_error(tiles, k * groups, n * groups, groups) is None
        if isinstance(tiling, GridAttr):
            assert (tiles[:, 1] - tiles[:, 0]).max() <= rows
            assert (tiles[:, 3] - tiles[:, 2]).max() <= cols
    parsed = parse_module(
        f"builtin.module attributes {{a = {GridAttr.of(rows, cols)}, b = {PackedAttr.of(cols)}}} {{}}"
    )
    assert parsed.attributes["a"] == GridAttr.of(rows, cols)
    assert parsed.attributes["b"] == PackedAttr.of(cols)


# --- Coverage against counting ------------------------------------------------------------------


def counted_coverage(tiles, k, n, groups):
    """Whether each weight of the blocks on the diagonal stands on exactly one tile."""
    count = np.zeros((k, n), int)
    for r0, r1, c0, c1 in tiles:
        if r1 > k or c1 > n:
            return False
        count[r0:r1, c0:c1] += 1
    inside = np.kron(np.eye(groups, dtype=bool), np.ones((k // groups, n // groups), bool))
    return bool((count[inside] == 1).all())


@given(
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 3),
    st.lists(
        st.tuples(st.integers(0, 6), st.integers(1, 5), st.integers(0, 6), st.integers(1, 5)),
        min_size=1,
        max_size=5,
    ),
)
@settings(max_examples=300)
def test_coverage_of_any_tiles(kg, ng, groups, drawn):
    tiles = np.array([[r, r + h, c, c + w] for r, h, c, w in drawn])
    k, n = kg * groups, ng * groups
    assert (coverage_error(tiles, k, n, groups) is None) == counted_coverage(tiles, k, n, groups)


@given(cuts(), st.integers(0, 3), st.integers(0, 10), st.integers(-1, 1))
@settings(max_examples=300)
def test_coverage_of_tiles_nearly_right(cut, edge, index, move):
    k, n, tiles = cut
    tiles[index % len(tiles)][edge] += move
    assume(all(0 <= t[0] < t[1] and 0 <= t[2] < t[3] for t in tiles))
    found = coverage_error(np.array(tiles), k, n, 1)
    assert (found is None) == counted_coverage(tiles, k, n, 1)


# --- Refusals -----------------------------------------------------------------------------------

REFUSED = [
    # what stands in MODULE, what replaces it, what is said
    ('36x4xi8 bias for "Conv"', "0x4xi8", "a weight matrix has at least one row, column and group"),
    ("36x4xi8", "36x4xi1", "weights have 2 to 16 bits, not 1"),
    ("36x4xi8", "36x4xi17", "weights have 2 to 16 bits, not 17"),
    ("groups 2", "groups 3", "4 columns don't divide among 3 groups"),
    ("groups 2", "groups 0", "at least one row, column and group"),
    ("36x4xi8", "36x4x2xi8", "weights are written <rows>x<cols>xi<bits>"),
    ("36x4xi8", "36x4xf32", "weights are written <rows>x<cols>xi<bits>"),
    ('@"a/b.c" : 2x4', "@conv1 : 2x4", 'Redefinition of symbol "conv1"'),
    ("scale 0.0208", "scale 0.0", "scale is a positive number"),
    ("scale 0.0208", "scale -1.0", "scale is a positive number"),
    ("scale 0.0208", "scale 1.0e999", "scale is a positive number"),
    ("scale 0.0208 zero_point", "scale -0.5 zero_point", "scale is a positive number"),
    ("e-05 zero_point 128", "e-05 zero_point 256", "zero_point 256 isn't an unsigned code"),
    ("e-05 zero_point 128", "e-05 zero_point -1", "zero_point -1 isn't an unsigned code"),
    ("scale 0.25 : tensor<?x64xf32>", "scale 0.25 zero_point 1 : tensor<?x64xf32>", "1 isn't an"),
    ("point 3 axis 1", "point 3 window [3] axis 1", "a window is over all axes behind the columns"),
    ("point 3 axis 1", "point 3 window [5, 1] axis 1", "aren't channels of 5 kernel positions"),
    ("tensor<?x4x8x8xsi8>", "tensor<?x4x8x8xi8>", "tensor of si<n> or ui<n>"),
    ("tensor<?x4x8x8xsi8>", "tensor<?x4x8x9xsi8>", "input and result differ in shape"),
    ("window [3, 3]", "window [3, 3, 3]", "a window over 3 axes has 3 strides and dilations"),
    ("window [3, 3]", "window []", "a window has at least one spatial axis"),
    ("window [3, 3] strides [2, 2] pads [1, 1, 1, 1]", "window [3]", "on a rank 4 tensor"),
    ("window [3, 3]", "window [0, 3]", "kernel, strides and dilations are at least 1"),
    ("strides [2, 2]", "strides [0, 2]", "kernel, strides and dilations are at least 1"),
    ("pads [1, 1, 1, 1] :", "dilations [0, 1] :", "kernel, strides and dilations are at least 1"),
    ("pads [1, 1, 1, 1]", "pads [1, 1]", "and 4 pads"),
    ("window [3, 3]", "window [3, 2]", "vectors of 36, the tensor gives 24"),
    ("strides [2, 2] pads", "pads", "16 vectors don't fit the tensor, whose other axes hold 64"),
    ("stream<16 x 36 x si8>", "stream<0 x 36 x si8>", "at least one vector"),
    ("stream<16 x 36 x si8>", "stream<16 x 36 x i8>", "si<n> or ui<n>, not i8"),
    ("!xbar.stream<16 x 36 x si8>", "!xbar.stream<16 x 36 x ui8>", "element type"),
    ("mvm %2, @conv1", "mvm %2, @conv2", "@conv2 doesn't name an xbar.weights of this module"),
    ("mvm %2, @conv1", "mvm %2, @main", "@main doesn't name an xbar.weights of this module"),
    ("mvm %2, @conv1", "mvm %2, @fc", "vectors of 36 and 4, @fc is 64 x 5"),
    ("dequantize %4, @conv1", "dequantize %4, @fc", "axis 1 has 4 entries, @fc 5 columns"),
    ("grid [128, 16]", "grid [0, 16]", "a tile has at least one row and one column"),
    ("grid [128, 16]", "grid [128]", "a grid is [rows, columns] of a whole tile"),
    ("grid [128, 16]", "packed 0", "a tile holds at least one block"),
    ("grid [128, 16]", "cut [128, 16]", "expected 'tiles' (or grid, packed, offsets)"),
    ("[40, 64, 0, 5]]", "[41, 64, 0, 5]]", "weights [40:41, 0:5] stand on no tile"),
    ("[40, 64, 0, 5]]", "[39, 64, 0, 5]]", "weights [39:40, 0:5] stand on two tiles"),
    ("tiles [[0, 40, 0, 5], ", "sparse tiles [[0, 41, 0, 5], ", "[40:41, 0:5] stand on two tiles"),
    ('"mine" tiles', '"mine" rows @fc.rows 63 tiles', "a tile reaches beyond the 63 x 5 matrix"),
    ('"mine" tiles', '"mine" columns @c 6 tiles', "weights [0:40, 5:6] stand on no tile"),
    ('"mine" tiles', '"mine" rows @fc.rows 0 tiles', "at least one row or column"),
    ("grid [128, 16]", "sparse grid [128, 16]", "only a list of tiles can leave weights"),
    ("[40, 64, 0, 5]]", "[40, 65, 0, 5]]", "a tile reaches beyond the 64 x 5 matrix"),
    ("[40, 64, 0, 5]]", "[40, 64, 0, 6]]", "a tile reaches beyond the 64 x 5 matrix"),
    ("[40, 64, 0, 5]]", "[40, 64, 5, 5]]", "tile [40, 64, 5, 5] is empty or negative"),
    ("[40, 64, 0, 5]]", "[40, 64, -1, 5]]", "tile [40, 64, -1, 5] is empty or negative"),
    ("[40, 64, 0, 5]]", "[40, 64, 0]]", "a tile is [row_begin, row_end, col_begin, col_end]"),
    ("[[0, 40, 0, 5], [40, 64, 0, 5]]", "[]", "[row_begin, row_end, col_begin, col_end]"),
    (
        "<128 x 128",
        "<39 x 128",
        "takes 40 rows and 40 columns (5 weights of 8 cells) of a 39 x 128",
    ),
    (
        "<128 x 128",
        "<128 x 31",
        "takes 36 rows and 32 columns (4 weights of 8 cells) of a 128 x 31",
    ),
    ("<128 x 128", "<0 x 128", "not a crossbar"),
    (
        CROSSBAR.removeprefix("#xbar.crossbar"),
        "<64 x 128 cells of 2 bits, differential, slices in columns, polarity in rows>",
        "takes 72 rows and 16 columns (4 weights of 4 cells) of a 64 x 128",
    ),
    (
        "differential, slices in columns, polarity in columns",
        "offset, slices in columns, polarity in rows",
        'polarity_in = "rows" needs array.encoding = "differential"',
    ),
    ("2 bits, differential", "2 bits, bipolar", "not a crossbar"),
    ("adc [0.0, 12.5]", "adc [2.0, 2.0]", "adc is [lo, hi] with lo < hi"),
    ("adc [0.0, 12.5]", "adc [2.0]", "adc is [lo, hi] with lo < hi"),
    ("adc [0.0, 12.5]", "adc [0, 1.0e999]", "adc is [lo, hi] with lo < hi"),
    ("!xbar.stream<16 x 4 x si32>", "!xbar.stream<16 x 5 x si32>", "vectors of 36 and 5"),
    ("!xbar.stream<16 x 4 x si32>", "!xbar.stream<8 x 4 x si32>", "as many vectors come out"),
    ("scatter %3 axis 1", "scatter %3 axis 4", "axis 4 isn't one of the tensor's 4"),
    ("scatter %3 axis 1", "scatter %3 axis -1", "axis -1 isn't one of the tensor's 4"),
    ("tensor<?x4x4x4xsi32>", "tensor<?x4x4x5xsi32>", "16 vectors don't fit the tensor"),
    ("tensor<?x4x4x4xsi32>", "tensor<?x4x4x4xsi16>", "differ in element type"),
    ("tensor<?x4x4x4xf32>", "tensor<?x4x4x4xf64>", "a tensor of f32"),
    ('conv %6, @"a/b.c" window [1, 1]', "conv %6, @fc window [1, 1]", "aren't the 64 rows of @fc"),
    (
        "[1, 1] fill",
        "[1, 1] strides [2, 2] fill",
        "the result's shape is",
    ),
    ("dense %10, @fc axis 1 to 1", "dense %10, @fc axis 2 to 1", "axis 2 isn't one of"),
    ("dense %10, @fc axis 1 to 1", "dense %10, @fc axis 1 to 0", "axis 0 has -1 entries, @fc 5"),
    ("dense %10, @fc axis 1", "dense %10, @conv1 axis 1", "axis 1 has 64 entries, not 36"),
    ("gather %10 axis 1", "gather %10 axis 0", "axis 0 has -1 entries, not 64"),
    ("digital/0.onnx", "../0.onnx", 'isn\'t of the form "digital/<name>.onnx"'),
    ("digital/0.onnx", "/etc/0.onnx", 'isn\'t of the form "digital/<name>.onnx"'),
    ("digital/0.onnx", "digital/../0.onnx", 'isn\'t of the form "digital/<name>.onnx"'),
    ("digital/0.onnx", "digital/0.py", 'isn\'t of the form "digital/<name>.onnx"'),
    ("return %15 : tensor<?x5xf32>", "return %13 : tensor<?x5xsi32>", "func.return"),
    ("mvm %2", "mvm %77", "values used but not defined: [%77]"),
    ("xbar.scatter", "xbar.scater", "xbar.scater is not registered"),
    ("axis 1 :", "axis :", "expected integer literal"),
]


@pytest.mark.parametrize(("there", "instead", "said"), REFUSED)
def test_refused(there, instead, said):
    text = MODULE.replace(there, instead)
    assert text != MODULE
    with pytest.raises(XbarcError) as error:
        parse_module(text, "m.mlir")
    line = str(error.value)
    assert said.lower() in line.lower()
    assert re.match(r"m\.mlir:(\d+:\d+| operation \d+, [\w.]+): \S", line)
    assert "\n" not in line


UNROLLED = f"""\
builtin.module attributes {{xbar.crossbar = {CROSSBAR}}} {{
  xbar.weights @up : 16x3xi8
  xbar.weights @pixels : 4x3xi8
  func.func @main(%0: tensor<?x4x8x8xui8>) {{
    %1 = xbar.conv_transpose %0, @up window [2, 2] strides [2, 2] pads [0, 0, -1, 0] : tensor<?x4x8x8xui8> -> tensor<?x3x17x16xsi32>
    %2 = xbar.gather %0 axis 1 : tensor<?x4x8x8xui8> -> !xbar.stream<64 x 4 x ui8>
    %3 = xbar.mvm %2, @up by "deconv-scatter" unroll [2, 2] window [1, 1] patch [2, 2] kernel_steps [-1, -1] gated sparse offsets [1, 4] without [1, 3] grid [128, 16] : !xbar.stream<64 x 4 x ui8> -> !xbar.stream<64 x 12 x si32>
    %4 = xbar.scatter %3 window [2, 2] strides [2, 2] pads [0, 0, -1, 0] : !xbar.stream<64 x 12 x si32> -> tensor<?x3x17x16xsi32>
    %5 = xbar.gather %0 flat window [2] strides [2] : tensor<?x4x8x8xui8> -> !xbar.stream<32 x 8 x ui8>
    %6 = xbar.mvm %5, @pixels by "mine" unroll [1] window [2] patch [2] grid [128, 16] : !xbar.stream<32 x 8 x ui8> -> !xbar.stream<32 x 6 x si32>
    %7 = xbar.scatter %6 flat window [2] strides [2] : !xbar.stream<32 x 6 x si32> -> tensor<?x3x8x8xsi32>
    %8 = xbar.gather %0 spread [2, 2] window [2, 2] pads [1, 1, 1, 1] : tensor<?x4x8x8xui8> -> !xbar.stream<256 x 16 x ui8>
    %9 = xbar.mvm %8, @up by "mine" unroll [2, 2] window [2, 2] patch [1, 1] kernel_steps [-1, -1] shifts [1, 1] offsets [4, 1] grid [128, 16] : !xbar.stream<256 x 16 x ui8> -> !xbar.stream<256 x 3 x si32>
    func.return
  }}
}}
"""

REFUSED_UNROLLED = [
    # conv_transpose
    ("@up window [2, 2] strides", "@up window [2] strides", "a window over 1 axes has 1 strides"),
    (
        "@up window [2, 2] strides",
        "@pixels window [2, 2] strides",
        "4 channels x 4 kernel positions",
    ),
    (
        "-1, 0] : tensor<?x4x8x8xui8>",
        "-2, 0] : tensor<?x4x8x8xui8>",
        "the window has [7, 8] positions",
    ),
    (
        "ui8> -> tensor<?x3x17x16xsi32>",
        "ui8> -> tensor<?x4x17x16xsi32>",
        "4 entries, @up 3 columns",
    ),
    (
        "ui8> -> tensor<?x3x17x16xsi32>",
        "ui8> -> tensor<?x3x?x16xsi32>",
        "the spatial sizes are known",
    ),
    (
        "ui8> -> tensor<?x3x17x16xsi32>",
        "ui8> -> tensor<?x3x17xsi32>",
        "a window over 2 axes on a rank",
    ),
    # unroll
    ("unroll [2, 2] window [1, 1]", "unroll [2, 2] window [1]", "say one number an axis"),
    ("unroll [2, 2] window [1, 1]", "unroll [2] window [1, 1]", "say one number an axis"),
    ("unroll [2, 2] window [1, 1]", "unroll [2, 0] window [1, 1]", "sizes are at least 1"),
    (
        "patch [2, 2] kernel_steps [-1, -1] gated",
        "patch [2, 2] kernel_steps [0, -1] gated",
        "steps aren't 0",
    ),
    (
        "patch [2, 2] kernel_steps [-1, -1] gated",
        "patch [2, 1] kernel_steps [-1, -1] gated",
        "a kernel position of axis 1 stands nowhere",
    ),
    ("unroll [2, 2] window [1, 1]", "unroll [3, 3] window [1, 1]", "stands nowhere in the window"),
    (
        "unroll [1] window [2] patch [2]",
        "unroll [1] window [90000] patch [90000]",
        "pairs of positions",
    ),
    (
        "unroll [1] window [2] patch [2]",
        "unroll [3] window [4] patch [2]",
        "4 rows of @pixels aren't channels of 3",
    ),
    (
        "unroll [1] window [2] patch [2]",
        "unroll [1] window [3] patch [2]",
        "vectors of 8 and 6, @pixels is 12 x 6 unrolled",
    ),
    ("patch [2] grid", "patch [2] rows @r 8 grid", "expected"),
    ('"mine" unroll [1]', '"mine" rows @r 8 unroll [1]', "an unrolled matrix stands whole"),
    (
        "patch [2] grid [128, 16]",
        "patch [2] sparse tiles [[0, 8, 0, 6]]",
        "an unrolled matrix stands whole",
    ),
    ("patch [2] grid [128, 16]", "patch [2] tiles [[0, 8, 0, 5]]", "[0:8, 5:6] stand on no tile"),
    # offsets
    ("offsets [1, 4]", "offsets [1, 5]", "1 x 5 offsets don't divide 4 rows and 12 columns"),
    ("offsets [1, 4]", "offsets [4]", "offsets are [of the rows, of the columns]"),
    ("offsets [1, 4]", "offsets [0, 4]", "offsets are at least 1"),
    ("without [1, 3]", "without [3, 1]", "each once, in order"),
    ("without [1, 3]", "without [1, 4]", "each once, in order"),
    ("without [1, 3]", "without [0, 1, 2, 3]", "one offset stands at least"),
    ("sparse offsets", "offsets", "sparse belongs to offsets without some"),
    ("without [1, 3] ", "", "sparse belongs to offsets without some"),
    (
        "without [1, 3] grid [128, 16]",
        "without [1, 3] tiles [[0, 4, 0, 3]]",
        "cut by a grid or packed",
    ),
    (
        "[1, 1] offsets [4, 1]",
        "[1, 1] sparse offsets [4, 1]",
        "sparse belongs to offsets without some",
    ),
    ("gated sparse", "sparse gated", "expected 'tiles' (or grid, packed, offsets)"),
    # spread and flat
    ("spread [2, 2]", "spread [2]", "one distance an axis of the window"),
    ("spread [2, 2]", "spread [0, 2]", "one distance an axis of the window"),
    ("spread [2, 2]", "spread [3, 2]", "256 vectors don't fit"),
    (
        "spread [2, 2] window [2, 2] pads [1, 1, 1, 1]",
        "spread [2, 2] axis 1",
        "spread and flat are about a window",
    ),
    (
        "gather %0 flat window [2] strides",
        "gather %0 flat window [2, 1] strides",
        "over 2 axes has 2 strides",
    ),
    (
        "gather %0 flat window [2] strides [2]",
        "gather %0 flat window [2, 1] strides [2, 1]",
        "a flat window over 2 axes",
    ),
    ("gather %0 flat window", "gather %0 window", "a window over 1 axes on a rank 4 tensor"),
    (
        "gather %0 flat window [2] strides [2]",
        "gather %0 flat axis 1",
        "expected 'window' (or axis)",
    ),
    # a scatter's window
    (
        "scatter %3 window [2, 2]",
        "scatter %3 window [2, 1]",
        "vectors of 12 aren't 3 channels x 2 window",
    ),
    (
        "%3 window [2, 2] strides [2, 2]",
        "%3 window [2, 2] strides [2, 1]",
        "64 vectors don't fit the tensor",
    ),
    (
        "scatter %6 flat window [2]",
        "scatter %6 window [2]",
        "a window over 1 axes on a rank 4 tensor",
    ),
    (
        "scatter %6 flat window [2]",
        "scatter %6 flat window [3]",
        "vectors of 6 aren't 3 channels x 3",
    ),
]


def test_unrolled_text_is_its_own_normal_form():
    assert print_module(round_trip(parse_module(UNROLLED))) == UNROLLED
    assert parse_module(generic(parse_module(UNROLLED))).is_structurally_equivalent(
        parse_module(UNROLLED)
    )


@pytest.mark.parametrize(("there", "instead", "said"), REFUSED_UNROLLED)
def test_unrolled_refused(there, instead, said):
    text = UNROLLED.replace(there, instead)
    assert text != UNROLLED
    with pytest.raises(XbarcError) as error:
        parse_module(text, "m.mlir")
    assert said.lower() in str(error.value).lower()
    assert "\n" not in str(error.value)


def test_beside_is_the_nearest_of_that_name_before():
    weights = '  xbar.weights @conv1 : 36x4xi8 bias for "Conv"\n'
    product = MODULE[MODULE.index("    %3 = ") : MODULE.index("    %4 = ")]
    tail = '@conv1 by "im2col" grid [128, 16] adc [0.0, 12.5]'
    guest = product.replace(tail, '@guest by "im2col" grid [128, 16] beside @conv1')
    text = MODULE.replace(weights, weights + weights.replace("@conv1", "@guest"))
    text = text.replace(
        product, product + product.replace("%3", "%again") + guest.replace("%3", "%guest")
    )
    first, again, beside, _ = (o for o in parse_module(text).walk() if isinstance(o, MvmOp))
    assert (beside.host, first.host, again.host) == (again, None, None)


def test_the_place_of_a_fault():
    with pytest.raises(XbarcError, match=r"^m\.mlir:7:25: "):
        parse_module(MODULE.replace("gather %1 window", "gather %1 widow"), "m.mlir")
    with pytest.raises(XbarcError, match=r"^m\.mlir: operation 7, xbar\.mvm: "):
        parse_module(MODULE.replace("mvm %2, @conv1", "mvm %2, @fc"), "m.mlir")


def test_deep_nesting_is_refused():
    text = "builtin.module {" * 5000 + "}" * 5000
    with pytest.raises(XbarcError, match="nested too deeply"):
        parse_module(text)


# --- Mutated text -------------------------------------------------------------------------------

TOKENS = re.compile(r'[A-Za-z_.]+|\d+|"[^"]*"|[%@#!]|[^\s\w]')
PIECES = [
    *("0", "-1", "17", "9223372036854775808", "9" * 5000, "1e999", "nan", "²", "0x1F", "1.5"),
    *('"', '"\\FF"', '"\\C3\\A9"', "é", "\x00", "//", "[", "]", "<", ">", "{", "}", "(", ",", "->"),
    *("@fc", '@"\\FF"', "%0", "%99", "si8", "ui0", "i9223372036854775808", "f32", "tensor<*xf32>"),
    *("!xbar.digital_value", "#xbar.grid<1, 1>", "dense<1>", "loc(", "affine_map<", "true", "unit"),
]


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_mutated_text_is_refused_or_reads_back(data):
    text = data.draw(st.sampled_from([MODULE, generic(parse_module(MODULE))]))
    rng = random.Random(data.draw(st.integers(0, 1 << 32)))
    for _ in range(data.draw(st.integers(1, 3))):
        spans = [m.span() for m in TOKENS.finditer(text)]
        (a, b), (c, d) = rng.choice(spans), rng.choice(spans)
        piece = data.draw(st.sampled_from([*PIECES, "", text[c:d]]))
        text = text[: rng.choice([a, b])] + piece + text[b:]
    try:
        module = parse_module(text, "m.mlir")
    except XbarcError as error:
        said = str(error)
    else:
        said = "m.mlir"
        round_trip(module)
    assert said.startswith("m.mlir") and "\n" not in said


@given(st.text(max_size=60))
@example("\ud800")
@example('"' + "a" * 60)
def test_any_text_is_refused_or_reads_back(text):
    try:
        module = parse_module(text)
    except XbarcError:
        return
    round_trip(module)


def test_an_open_quote_takes_no_time():
    with pytest.raises(XbarcError, match="string literal"):
        parse_module('"' + "a" * 200_000)
