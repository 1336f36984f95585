"""The ONNX importer: what comes out runs, equals the original, and has one form."""

import contextlib
import io
import os
import shutil
from pathlib import Path

import google.protobuf.message
import numpy as np
import onnx
import onnx.backend.test
import onnx.backend.test.case.node
import onnx.numpy_helper
import onnx.parser
import onnx_ir as ir
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import INTEGER
from onnx.reference import ReferenceEvaluator
from shared import SHARED, needs_shared

import xbarc
from xbarc.cli.failure import fail
from xbarc.driver.optimize import optimize
from xbarc.frontends.onnx.importer import load
from xbarc.graph.query import constant
from xbarc.graph.run import Session, largest_difference, random_inputs, same_function
from xbarc.passes.canonicalize import Canonicalize
from xbarc.passes.fold_batchnorm import FoldBatchNorm
from xbarc.support.errors import XbarcError

LIGHT = Path(onnx.backend.test.__file__).parent / "data" / "light"

# VGG-19, AlexNet and ZFNet hold a gigabyte between them: only loaded, below
LIGHT_RUN = [
    "densenet121",
    "inception_v1",
    "inception_v2",
    "resnet50",
    "shufflenet",
    "squeezenet",
]
LIGHT_LOAD = ["bvlc_alexnet", "vgg19", "zfnet512"]
INPUT_SHAPES = {"ppocr_cls_se": {"x": (1, 3, 48, 192)}}


def text_model(
    body: str, opset: int = 18, ir_version: int = 8, imports: str = ""
) -> onnx.ModelProto:
    """A model from ONNX text: `g (float[N,3] x) => (float[N,3] y) <weights> { ... }`."""
    header = f'<ir_version: {ir_version}, opset_import: ["": {opset}{imports}]>'
    return onnx.parser.parse_model(header + body)


def reference(proto: onnx.ModelProto | str, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 2
    # Processors without VNNI add products of u8 x s8 in 16 bits, which saturate.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    model = proto if isinstance(proto, str) else proto.SerializeToString()
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    expected = session.run(None, feeds)
    if not isinstance(proto, str) and INTEGER & {n.op_type for n in proto.graph.node}:
        return ReferenceEvaluator(proto).run(None, feeds)
    return expected


def assert_same(proto: onnx.ModelProto | str, model: ir.Model, batch: int = 2) -> None:
    feeds = random_inputs(model, batch)
    for expected, (name, actual) in zip(
        reference(proto, feeds), Session(model).run(feeds).items(), strict=True
    ):
        difference = largest_difference(expected, actual)
        assert difference is not None, name
        assert difference <= 1e-4 * max(1.0, float(np.abs(expected).max(initial=0.0))), name


def ops(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


def the(model: ir.Model, op_type: str) -> ir.Node:
    (node,) = [node for node in model.graph if node.op_type == op_type]
    return node


def check_form(model: ir.Model) -> None:
    """What `load` promises of every model."""
    assert model.opset_imports[""] >= 18
    assert not any(value.is_initializer() for value in model.graph.inputs)
    assert not model.functions
    names = [node.name for node in model.graph.all_nodes()]
    assert all(names)
    assert len(set(names)) == len(names)
    for value in model.graph.inputs:
        assert all(isinstance(dim, int) for dim in value.shape.dims[1:])
    for node in model.graph:
        assert node.op_type not in ("Constant", "Identity", "ConstantOfShape", "Shape")
        assert all(value.shape is not None for value in node.outputs if value.name)


# --- Real models --------------------------------------------------------------------------------


def shared_models() -> list[str]:
    return sorted(path.stem for path in (SHARED / "models").glob("*.onnx"))


@needs_shared
@pytest.mark.parametrize("name", shared_models())
def test_shared_models(name):
    path = str(SHARED / "models" / f"{name}.onnx")
    model = load(path, INPUT_SHAPES.get(name, {}))
    check_form(model)
    if name != "micro_kws_qoperator":  # its rounding differs by a step: a test of its own
        assert_same(path, model)
    before = model.clone()
    FoldBatchNorm().apply(model, None)
    Canonicalize().apply(model, None)
    same_function(before, model, random_inputs(model, 2))


@pytest.mark.parametrize("name", LIGHT_RUN)
def test_light_models(name):
    path = str(LIGHT / f"light_{name}.onnx")
    model = load(path)
    check_form(model)
    assert_same(path, model, batch=1)


@pytest.mark.parametrize("name", LIGHT_LOAD)
def test_large_models_of_constants_take_no_memory(name):
    model = load(LIGHT / f"light_{name}.onnx")
    check_form(model)
    for value in model.graph.initializers.values():
        array = constant(value)
        assert array.size < 10_000 or not any(array.strides)


@needs_shared
def test_qoperator_model_agrees_to_a_quantisation_step():
    path = str(SHARED / "models" / "micro_kws_qoperator.onnx")
    model = load(path)
    assert ops(model).count("Conv") == 3
    assert ops(model).count("MatMul") == 3
    assert not any(op in ("QLinearConv", "QLinearMatMul") for op in ops(model))
    feeds = random_inputs(model, 1)
    (expected,), (actual,) = reference(path, feeds), Session(model).run(feeds).values()
    assert np.abs(expected - actual).max() <= 1 / 128


# --- onnx's operator tests ----------------------------------------------------------------------


def node_cases() -> list[onnx.backend.test.case.test_case.TestCase]:
    families = tuple(
        f"test_{name}"
        for name in (
            "average",
            "batchnorm",
            "conv",
            "expand",
            "flatten",
            "gemm",
            "global",
            "matmul",
            "max",
            "pad",
            "qlinear",
            "quantize",
            "reshape",
            "resize",
            "split",
            "squeeze",
            "transpose",
        )
    )
    cases = onnx.backend.test.case.node.collect_testcases(None)
    return [
        case
        for case in cases
        if case.model is not None and case.data_sets and case.name.startswith(families)
    ]


def test_operator_tests_of_onnx():
    """The operators around a crossbar; where onnxruntime runs the original, it runs ours alike."""
    ran = 0
    for case in node_cases():
        inputs = [np.asarray(array) for array in case.data_sets[0][0]]
        feeds = dict(zip((value.name for value in case.model.graph.input), inputs, strict=False))
        try:
            expected = reference(case.model, feeds)
        except Exception:  # onnxruntime has no common class; what it can't run has no reference
            continue
        if any(array.size == 0 for array in inputs) or "sequence" in case.name:
            continue  # empty tensors and sequences are refused
        session = Session(load(case.model))
        actual = session.run({name: feeds[name] for name in session.inputs})
        steps = 1 if "qlinear" in case.name else 0
        for want, have in zip(expected, actual.values(), strict=True):
            difference = largest_difference(want, have)
            assert difference is not None, case.name
            largest = np.abs(want.astype(np.float64)).max(initial=0.0)
            assert difference <= 1e-4 * (1 + largest) + steps, case.name
        ran += 1
    assert ran > 150


# --- Opsets -------------------------------------------------------------------------------------


def test_unknown_dimensions_written_as_minus_one_survive_conversion():
    """Read as a size, -1 would be folded into a Reshape, and onnxruntime refuse the model."""
    proto = text_model(
        """g (float[N,3,4,4] x) => (y)
        <int64[1] zero = {0}, int64[1] one = {1}, int64[1] two = {2}>
        { s = Shape(x)  c = Cast<to=6>(s)  a = Slice(c, zero, one)  b = Slice(c, one, two)
          p = Cast<to=7>(a)  q = Cast<to=7>(b)  t = Concat<axis=-1>(p, q)
          m = GlobalAveragePool(x)  y = Reshape(m, t) }""",
        opset=10,
    )
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = -1
    model = load(proto)
    check_form(model)
    assert ops(model) == ["GlobalAveragePool", "Reshape"]
    assert model.graph.inputs[0].shape == ["N", 3, 4, 4]
    assert model.graph.outputs[0].shape == ["N", 3]
    assert_same(proto, model)


def test_opset_below_seven_is_refused():
    with pytest.raises(XbarcError, match="opset is 6"):
        load(text_model("g (float[N,3] x) => (float[N,3] y) { y = Relu(x) }", opset=6))


@pytest.mark.parametrize(("op", "opset"), [("Upsample", 9), ("Resize", 10)])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("scale", [2.0, 1.5, 3.0, 0.5])
def test_old_resizes_keep_their_sampling_grid(op, opset, mode, scale):
    if op == "Upsample" and scale < 1:
        pytest.skip("Upsample doesn't shrink")
    proto = text_model(
        f"""g (float[N,2,6,8] x) => (y) <float[4] s = {{1.0, 1.0, {scale}, {scale}}}>
        {{ y = {op}<mode="{mode}">(x, s) }}""",
        opset=opset,
    )
    model = load(proto)
    check_form(model)
    assert_same(proto, model)


def test_softmax_over_the_flattened_rest_keeps_its_meaning():
    proto = text_model("g (float[N,3,4] x) => (y) { y = Softmax<axis=1>(x) }", opset=11)
    assert_same(proto, load(proto))


def test_operator_that_conversion_gets_wrong_keeps_the_opset():
    proto = text_model("g (float[N,3,4] x) => (y) { y = Hardmax<axis=1>(x) }", opset=11)
    model = load(proto)
    assert model.opset_imports[""] == 11
    assert_same(proto, model)


# --- Static weights -----------------------------------------------------------------------------


def test_overridable_initialisers_become_weights():
    proto = text_model(
        "g (float[N,2] x, float[2,2] w) => (y) <float[2,2] w = {1.0, 2.0, 3.0, 4.0}>"
        "{ y = MatMul(x, w) }"
    )
    proto.graph.input.append(onnx.helper.make_tensor_value_info("w", 1, [2, 2]))
    if len(proto.graph.input) == 3:
        del proto.graph.input[1]
    model = load(proto)
    assert [value.name for value in model.graph.inputs] == ["x"]
    assert constant(the(model, "MatMul").inputs[1]).tolist() == [[1, 2], [3, 4]]


def test_weights_computed_from_constants_are_folded():
    proto = text_model(
        """g (float[N,3] x) => (y) <int64[2] s = {2, 3}, int64[1] a = {0}>
        { o = ConstantOfShape<value = float[1] {0.5}>(s)  t = Transpose<perm=[1, 0]>(o)
          c = Constant<value = float[2] {1.0, 2.0}>()  u = Unsqueeze(c, a)  w = Mul(t, u)
          d = Identity(w)  h, unused = Dropout(x)  y = MatMul(h, d) }"""
    )
    model = load(proto)
    check_form(model)
    assert ops(model) == ["MatMul"]
    np.testing.assert_array_equal(
        constant(the(model, "MatMul").inputs[1]), np.tile([[0.5, 1.0]], (3, 1)).astype(np.float32)
    )
    assert_same(proto, model)


def test_dequantize_of_a_weight_stays_and_quantize_is_folded():
    proto = text_model(
        """g (float[N,2] x) => (y)
        <float[2,2] w = {1.0, -2.0, 0.5, 0.25}, float s = {0.125}, int8 z = {0}>
        { q = QuantizeLinear(w, s, z)  d = DequantizeLinear(q, s, z)  y = MatMul(x, d) }"""
    )
    model = load(proto)
    assert ops(model) == ["DequantizeLinear", "MatMul"]
    assert constant(the(model, "DequantizeLinear").inputs[0]).tolist() == [[8, -16], [4, 2]]
    assert_same(proto, model)


def test_random_numbers_are_not_folded():
    proto = text_model("g (float[2] x) => (y) { r = RandomNormal<shape=[2]>()  y = Add(x, r) }")
    assert ops(load(proto)) == ["RandomNormal", "Add"]


def test_absurd_constant_is_refused_without_making_it():
    body = "g (float[N] x) => (y) <int64[2] s = {1048576, 1048576}>"
    for fill in ("c = ConstantOfShape(s)", "o = Constant<value_float=1.0>()  c = Expand(o, s)"):
        with pytest.raises(XbarcError, match="would make a constant of shape"):
            load(text_model(body + "{" + fill + "  m = ReduceMax<keepdims=0>(c)  y = Add(x, m) }"))


def test_functions_are_inlined():
    proto = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["": 18, "local": 1]>
        g (float[N,3] x) => (float[N,3] y) { y = local.twice(x) }
        <domain: "local", opset_import: ["": 18]>
        twice (a) => (b) { c = Relu(a)  b = Add(c, c) }"""
    )
    model = load(proto)
    check_form(model)
    assert ops(model) == ["Relu", "Add"]
    assert_same(proto, model)


def test_subgraphs_are_left_as_they_are():
    proto = text_model(
        """g (float[N,3] x, bool c) => (y) <float[3] w = {1.0, 2.0, 3.0}>
        { i = Identity(x)
          y = If(c) <then_branch = t () => (p) { p = Mul(i, w) },
                     else_branch = e () => (q) { q = Identity(i) }> }"""
    )
    model = load(proto)
    assert ops(model) == ["If"]
    assert_same(proto, model)


# --- Flatten chains -----------------------------------------------------------------------------

FLATTENS = {
    "size(0), -1": """s = Shape(x)  n = Gather(s, i0)  u = Unsqueeze(n, a0)
                      t = Concat<axis=0>(u, m1)  y = Reshape(x, t)""",
    "size(0), product": """s = Shape<end=1>(x)  r = Shape<start=1>(x)  p = ReduceProd(r)
                           t = Concat<axis=0>(s, p)  y = Reshape(x, t)""",
    "each by Gather": """s = Shape(x)  n = Gather(s, i0)  c = Gather(s, i1)  h = Gather(s, i2)
                         w = Gather(s, i3)  ch = Mul(c, h)  chw = Mul(ch, w)  u = Unsqueeze(n, a0)
                         v = Unsqueeze(chw, a0)  t = Concat<axis=0>(u, v)  y = Reshape(x, t)""",
}


@pytest.mark.parametrize("chain", FLATTENS.values(), ids=FLATTENS)
def test_flatten_chains_fold_to_a_constant_shape(chain):
    proto = text_model(
        "g (float[N,4,3,2] x) => (y) <int64 i0 = {0}, int64 i1 = {1}, int64 i2 = {2},"
        f"int64 i3 = {{3}}, int64[1] a0 = {{0}}, int64[1] m1 = {{-1}}> {{ {chain} }}"
    )
    model = load(proto)
    assert ops(model) == ["Reshape"]
    assert constant(the(model, "Reshape").inputs[1]).tolist() == [-1, 24]
    assert model.graph.outputs[0].shape == ["N", 24]
    assert_same(proto, model)


def test_channel_shuffle_keeps_the_batch_symbolic():
    proto = text_model(
        """g (float[N,4,3,3] x) => (y) <int64[5] a = {-1, 2, 2, 3, 3}, int64[4] b = {-1, 4, 3, 3}>
        { p = Reshape(x, a)  q = Transpose<perm=[0, 2, 1, 3, 4]>(p)  y = Reshape(q, b) }"""
    )
    model = load(proto)
    assert the(model, "Transpose").outputs[0].shape == ["N", 2, 2, 3, 3]
    assert model.graph.outputs[0].shape == ["N", 4, 3, 3]
    assert_same(proto, model)


# --- Input shapes -------------------------------------------------------------------------------

DYNAMIC = "g (float[N,3,H,W] x) => (y) { y = Relu(x) }"


@pytest.mark.parametrize("first", [1, 5, -1, 0])
def test_input_shape_fixes_all_but_the_batch(first):
    model = load(text_model(DYNAMIC), {"x": [first, 3, 8, 6]})
    assert model.graph.inputs[0].shape == ["N", 3, 8, 6]
    assert model.graph.outputs[0].shape == ["N", 3, 8, 6]


def test_a_symbol_is_fixed_wherever_it_stands():
    proto = text_model("g (float[N,H] x, float[N,H] z) => (y) { y = Add(x, z) }")
    model = load(proto, {"x": (1, 7)})
    assert [value.shape.dims[1] for value in model.graph.inputs] == [7, 7]


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({}, r"'x' has open dimensions \[N, 3, H, W\].*--input-shape x=1,3,224,224"),
        ({"x": (1, 3, 8)}, r"has 3 dimensions, input 'x' has 4"),
        ({"x": (1, 4, 8, 8)}, r"dimension 1 of input 'x' is 3"),
        ({"y": (1, 3, 8, 8), "x": (1, 3, 8, 8)}, r"no input 'y'"),
        ({"xx": (1, 3, 8, 8), "x": (1, 3, 8, 8)}, r"no input 'xx'.*'x'"),
        ({"x": (1, 3, 1 << 20, 1 << 20)}, r"absurd shape"),
    ],
)
def test_input_shapes_that_do_not_fit(shapes, message):
    with pytest.raises(XbarcError, match=message) as caught:
        load(text_model(DYNAMIC), shapes)
    assert "\n" not in str(caught.value)


def test_static_batch_that_contradicts_is_refused():
    with pytest.raises(XbarcError, match="dimension 0 of input 'x' is 1"):
        load(text_model("g (float[1,3] x) => (y) { y = Relu(x) }"), {"x": (2, 3)})


def test_sequences_are_refused():
    proto = text_model("g (seq(float[N]) x) => (int64 y) { y = SequenceLength(x) }")
    with pytest.raises(XbarcError, match="input 'x' is no tensor"):
        load(proto)


# --- QOperator ----------------------------------------------------------------------------------


def qlinear_conv(per_channel: bool, bias: bool) -> onnx.ModelProto:
    scales = "float[2] ws = {0.02, 0.04}, int8[2] wz = {0, 3}"
    if not per_channel:
        scales = "float ws = {0.02}, int8 wz = {1}"
    tail = ", b" if bias else ""
    proto = text_model(
        f"""g (uint8[N,3,5,5] x) => (y)
        <float xs = {{0.05}}, uint8 xz = {{128}}, {scales}, float ys = {{0.3}}, uint8 yz = {{120}}>
        {{ y = QLinearConv<pads=[1,1,1,1]>(x, xs, xz, w, ws, wz, ys, yz{tail}) }}"""
    )
    rng = np.random.default_rng(0)
    weight = rng.integers(-100, 100, (2, 3, 3, 3)).astype(np.int8)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    if bias:
        array = np.array([500, -300], np.int32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, "b"))
    return proto


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_qlinear_conv_becomes_qdq(per_channel, bias):
    proto = qlinear_conv(per_channel, bias)
    model = load(proto)
    wanted = ["DequantizeLinear"] * (3 if bias else 2) + ["Conv", "QuantizeLinear"]
    assert ops(model) == wanted
    assert constant(the(model, "Conv").inputs[1].producer().inputs[0]).dtype == np.int8
    feeds = {"x": np.random.default_rng(1).integers(0, 256, (2, 3, 5, 5)).astype(np.uint8)}
    (expected,), (actual,) = reference(proto, feeds), Session(model).run(feeds).values()
    assert np.abs(expected.astype(int) - actual.astype(int)).max() <= 1
    assert (expected != actual).mean() < 0.02


@pytest.mark.parametrize("zeros", ["", ", xz", ", xz, wz"])
def test_conv_integer_and_matmul_integer_are_exact(zeros):
    for op, shape, kernel in (
        ("ConvInteger", "N,2,4,4", (3, 2, 3, 3)),
        ("MatMulInteger", "N,6", (6, 3)),
    ):
        wz = "int8[3] wz = {1, 0, -5}"
        proto = text_model(
            f"g (uint8[{shape}] x) => (y) <uint8 xz = {{7}}, {wz}> {{ y = {op}(x, w{zeros}) }}"
        )
        rng = np.random.default_rng(0)
        weight = rng.integers(-128, 128, kernel).astype(np.int8)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
        model = load(proto)
        wanted = ["Conv" if op == "ConvInteger" else "MatMul", "Round", "Cast"]
        assert ops(model)[-3:] == wanted
        x = rng.integers(0, 256, [2, *map(int, shape.split(",")[1:])]).astype(np.uint8)
        shifted = x.astype(np.float32) - (7 if "xz" in zeros else 0)
        channels = (3, 1, 1, 1) if op == "ConvInteger" else (1, 3)
        zero = np.reshape([1, 0, -5], channels) if "wz" in zeros else 0
        plain = text_model(f"g (float[{shape}] x) => (y) {{ y = {op[:-7]}(x, w) }}")
        exact = (weight - zero).astype(np.float32)
        plain.graph.initializer.append(onnx.numpy_helper.from_array(exact, "w"))
        (expected,) = reference(plain, {"x": shifted})
        result = Session(model).run({"x": x})["y"]
        assert result.dtype == np.int32
        np.testing.assert_array_equal(result, expected)


def test_dynamic_zero_points_leave_the_operator_alone():
    proto = text_model(
        """g (float[N,4] x) => (y) <int8[4,1] w = {1, 2, 3, 4}>
        { q, s, z = DynamicQuantizeLinear(x)  y = MatMulInteger(q, w, z) }"""
    )
    assert "MatMulInteger" in ops(load(proto))


# --- Bad files ----------------------------------------------------------------------------------


def refusal(source: Path | onnx.ModelProto) -> str:
    with pytest.raises(XbarcError) as caught:
        load(source)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_files_that_are_no_models(tmp_path):
    assert "can't be read" in refusal(tmp_path / "missing.onnx")
    assert "can't be read" in refusal(tmp_path)
    for name, content in (("empty", b""), ("text", b"hello world\n" * 9), ("zeros", bytes(99))):
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(content)
        assert "ONNX model" in refusal(path)
    whole = text_model(DYNAMIC).SerializeToString()
    path = tmp_path / "cut.onnx"
    path.write_bytes(whole[: len(whole) // 2])
    refusal(path)


def test_graphs_that_make_no_sense():
    proto = text_model("g (float[N,3] x) => (y) { y = Relu(x) }")
    del proto.graph.output[:]
    assert "no outputs" in refusal(proto)
    assert "previous nodes" in refusal(text_model("g (float[N] x) => (y) { y = Add(x, z) }"))
    assert "previous nodes" in refusal(
        text_model("g (float[N] x) => (y) { a = Add(x, b)  b = Relu(a)  y = Relu(b) }")
    )
    assert "NoSuchOp" in refusal(text_model("g (float[N] x) => (y) { y = NoSuchOp(x) }"))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_named(bad):
    proto = text_model("g (float[N,2] x) => (y) { y = MatMul(x, w) }")
    weight = np.array([[1.0], [bad]], np.float32)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    assert "'w'" in refusal(proto)


def test_infinite_bounds_are_no_weights():
    proto = text_model("g (float[N,2] x) => (y) { y = Max(x, low) }")
    low = np.array(-np.inf, np.float32)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(low, "low"))
    assert_same(proto, load(proto))


def test_initialisers_that_lie_about_their_size():
    for dims in ([4, 4], [1 << 40, 1 << 20], [-1, 2]):
        proto = text_model("g (float[N,2] x) => (y) { y = MatMul(x, w) }")
        tensor = onnx.numpy_helper.from_array(np.ones((2, 2), np.float32), "w")
        del tensor.dims[:]
        tensor.dims.extend(dims)
        proto.graph.initializer.append(tensor)
        assert "'w'" in refusal(proto)


def test_functions_that_multiply_or_recurse_are_refused():
    def nest(levels: int, inner: str) -> onnx.ModelProto:
        functions = "".join(
            f'<domain: "f", opset_import: ["": 18, "f": 1]> f{i} (a) => (b)'
            f"{{ c = f.f{i + 1}(a)  b = f.f{i + 1}(c) }}"
            for i in range(levels)
        )
        last = f'<domain: "f", opset_import: ["": 18, "f": 1]> f{levels} (a) => (b) {{ {inner} }}'
        head = '<ir_version: 8, opset_import: ["": 18, "f": 1]> g (float[N] x) => (y) {y = f.f0(x)}'
        return onnx.parser.parse_model(head + functions + last)

    assert "nodes" in refusal(nest(40, "b = Relu(a)"))
    assert "recursive" in refusal(nest(3, "b = f.f0(a)"))
    assert ops(load(nest(3, "b = Relu(a)"))) == ["Relu"] * 8


# --- External data ------------------------------------------------------------------------------


def external_model(folder: Path, location: str) -> Path:
    proto = text_model("g (float[N,64] x) => (y) { y = MatMul(x, w) }")
    tensor = proto.graph.initializer.add(name="w", data_type=1, dims=[64, 64], data_location=1)
    tensor.external_data.add(key="location", value=location)
    path = folder / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


WEIGHTS = np.arange(64 * 64, dtype=np.float32).reshape(64, 64)


def test_external_weights_stay_mapped(tmp_path):
    WEIGHTS.tofile(tmp_path / "w.bin")
    path = external_model(tmp_path, "w.bin")
    for source in (path, os.path.relpath(path)):
        model = load(source)
        tensor = the(model, "MatMul").inputs[1].const_value
        assert isinstance(tensor, ir.ExternalTensor)
        assert not tensor.numpy().flags.owndata
        x = np.eye(64, dtype=np.float32)
        np.testing.assert_array_equal(Session(model).run({"x": x})["y"], WEIGHTS)


def test_external_data_outside_the_folder_is_refused(tmp_path):
    inside = tmp_path / "inside"
    inside.mkdir()
    WEIGHTS.tofile(tmp_path / "w.bin")
    assert "outside" in refusal(external_model(inside, "../w.bin"))
    assert "outside" in refusal(external_model(inside, str(tmp_path / "w.bin")))
    (inside / "link.bin").symlink_to(tmp_path / "w.bin")
    assert "outside" in refusal(external_model(inside, "link.bin"))
    assert "can't be read" in refusal(external_model(inside, "missing.bin"))
    shutil.copy(tmp_path / "w.bin", inside / "cut.bin")
    os.truncate(inside / "cut.bin", 100)
    assert "'w'" in refusal(external_model(inside, "cut.bin"))


def test_external_data_of_a_model_in_memory_is_refused(tmp_path):
    proto = onnx.load(external_model(tmp_path, "w.bin"), load_external_data=False)
    assert "load the model from its path" in refusal(proto)


# --- Versions -----------------------------------------------------------------------------------


@pytest.mark.parametrize("ir_version", [8, 10, 14, 99])
def test_a_format_newer_than_onnxruntime_knows_is_lowered(ir_version, tmp_path):
    body = "g (float[N,2] x) => (float[N,2] y) <float[2,2] w = {1.0, 2.0, 3.0, 4.0}>"
    proto = text_model(body + "{ p = MatMul(x, w)  y = Relu(p) }", ir_version=ir_version)
    assert load(proto).ir_version == min(ir_version, 10)
    path = tmp_path / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    program = xbarc.compile(path)
    program.run(np.ones((1, 2), np.float32))
    for content in program.digital.values():
        assert onnx.load_model_from_string(content).ir_version <= 10
    optimize(path, tmp_path / "small.onnx")
    assert_same(str(tmp_path / "small.onnx"), load(proto))


# --- The rest -----------------------------------------------------------------------------------


def test_sources_in_memory_stay_as_they_are():
    proto = text_model("g (float[N,2] x) => (y) { i = Identity(x)  y = Relu(i) }", opset=13)
    bytes_before = proto.SerializeToString()
    model = ir.from_proto(proto)
    text_before = str(model)
    assert ops(load(proto)) == ops(load(model)) == ["Relu"]
    assert proto.SerializeToString() == bytes_before
    assert str(model) == text_before


def test_names_are_kept_and_made_unique():
    proto = text_model(
        "g (float[N,2] x) => (y) { a = Relu(x)  b = Neg(a)  c = Exp(b)  y = Relu(c) }"
    )
    for node, name in zip(proto.graph.node, ["same", "same", "", ""], strict=True):
        node.name = name
    assert [node.name for node in load(proto).graph] == ["same", "same_1", "Exp", "Relu"]


def test_two_outputs_of_one_value_both_stay():
    proto = text_model("g (float[N,2] x) => (a, b) { a = Relu(x)  b = Identity(a) }")
    model = load(proto)
    assert [value.name for value in model.graph.outputs] == ["a", "b"]
    assert_same(proto, model)


def test_a_weight_without_a_type_is_named():
    proto = qlinear_conv(per_channel=True, bias=True)
    proto.graph.initializer[-1].ClearField("data_type")
    with pytest.raises(XbarcError, match="initialiser 'b' has no element type: the model must"):
        load(proto)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_damaged_bytes_end_in_one_line(data):
    """Whatever stands in the file: a model, or a line a cause and no traceback."""
    raw = bytearray(qlinear_conv(per_channel=True, bias=True).SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(bytes(raw))
    except google.protobuf.message.DecodeError:
        return
    try:
        load(proto)
    except XbarcError as error:
        check_lines(error)


def check_lines(error):
    """What users see of it: a line a cause, and no traceback."""
    assert error.args
    for said in map(str, error.args):
        # As it was raised: what is printed has the ends of lines written out.
        assert len(said) > 10 and len(said.splitlines()) == 1, said
    told = io.StringIO()
    with contextlib.redirect_stderr(told), pytest.raises(SystemExit) as end:
        fail(error, 1)
    lines = told.getvalue().splitlines()
    assert end.value.code == 1
    assert len(lines) == len(error.args) and all(line.startswith("xbarc: ") for line in lines)
    assert "Traceback" not in told.getvalue()
