"""Dynamically quantised models: weights keep their codes, activations are calibrated."""

import logging

import numpy as np
import onnx
import onnx.numpy_helper
import onnxruntime as ort
import pytest
from models import reference, snr_db, text_model
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from shared import SHARED, needs_shared

import xbarc

LOSSLESS = ("adc.mode=lossless", "inputs.bits=16")

NETWORK = """g (float[N,3,8,8] x) => (float[N,5] y)
    <float[8,3,3,3] w1, float[8] b1, float[8,1,3,3] w2, float[512,16] w3, float[16] b3,
     float[16,5] w4>
    { c1 = Conv<pads=[1,1,1,1]>(x, w1, b1)  r1 = Relu(c1)
      c2 = Conv<pads=[1,1,1,1], group=8>(r1, w2)  f = Flatten(c2)
      m3 = MatMul(f, w3)  a3 = Add(m3, b3)  r3 = Relu(a3)  y = MatMul(r3, w4) }"""

X = np.random.default_rng(0).standard_normal((16, 3, 8, 8)).astype(np.float32)


def dynamic(model, tmp_path, **options):
    """The model as onnxruntime's quantize_dynamic writes it."""
    logging.getLogger().setLevel(logging.ERROR)
    onnx.save(model, tmp_path / "float.onnx")
    quantize_dynamic(tmp_path / "float.onnx", tmp_path / "dynamic.onnx", **options)
    return onnx.load(tmp_path / "dynamic.onnx")


def fused(model, tmp_path):
    """The model as onnxruntime saves it, operators of its own fused."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(tmp_path / "fused.onnx")
    options.log_severity_level = 4
    ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return onnx.load(tmp_path / "fused.onnx")


def operators(model):
    return {f"{node.domain}.{node.op_type}".removeprefix(".") for node in model.graph.node}


def own_codes(model):
    """The weights' integers, as sets of bytes: matrices [K, N] with their zero points taken out."""
    arrays = {i.name: onnx.numpy_helper.to_array(i) for i in model.graph.initializer}
    for name, codes in arrays.items():
        if name.endswith("_quantized"):
            zero = arrays[name.removesuffix("_quantized") + "_zero_point"].astype(np.int32)
            zero = zero.reshape(-1, *[1] * (codes.ndim - 1)) if codes.ndim > 2 else zero
            shifted = codes.astype(np.int32) - zero
            yield shifted.reshape(len(shifted), -1).T if codes.ndim > 2 else shifted


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("kind", [QuantType.QInt8, QuantType.QUInt8])
def test_what_quantize_dynamic_writes(per_channel, kind, tmp_path):
    model = text_model(NETWORK)
    quantised = dynamic(model, tmp_path, per_channel=per_channel, weight_type=kind)
    assert {"ConvInteger", "MatMulInteger"} <= operators(quantised)
    program = xbarc.compile(quantised, calibration=X, overrides=LOSSLESS)
    coverage = program.report["coverage"]
    assert coverage["mac_share"] == 1 and coverage["crossbar_operators"] == 4
    stored = [a for n, a in program.weights.items() if "." not in n and a.ndim == 2]
    for codes in own_codes(quantised):
        assert any(np.array_equal(codes, array) for array in stored)
    expected = reference(model, {"x": X})["y"]
    found = program.run(X)["y"]
    assert snr_db(expected, found) > (25 if kind == QuantType.QInt8 else 30)
    # Of 16 bits, inputs are as good as real: what is left is the weights' own rounding.
    assert snr_db(dequantised(quantised)(X), found) > 60


def dequantised(model):
    """A dynamically quantised `NETWORK` in plain numpy, its activations not quantised."""
    arrays = {i.name: onnx.numpy_helper.to_array(i) for i in model.graph.initializer}

    def real(name):
        codes = arrays[f"{name}_quantized"].astype(np.float64)
        shape = (-1, *[1] * (codes.ndim - 1)) if codes.ndim > 2 else (-1,)
        scale, zero = (
            arrays[f"{name}_{what}"].astype(np.float64).reshape(shape)
            for what in ("scale", "zero_point")
        )
        return (codes - zero) * scale

    def network(x):
        c1 = convolve(x, real("w1"), 1) + arrays["b1"].reshape(-1, 1, 1)
        c2 = convolve(np.maximum(c1, 0), real("w2"), 8)
        r3 = np.maximum(c2.reshape(len(x), -1) @ real("w3") + arrays["b3"], 0)
        return r3 @ real("w4")

    return network


def convolve(x, w, groups):
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))
    split = windows.reshape(len(x), groups, -1, *windows.shape[2:])
    kernels = w.reshape(groups, -1, *w.shape[1:])
    return np.einsum("ngchwij,gkcij->ngkhw", split, kernels).reshape(len(x), -1, *x.shape[2:])


MATRIX = "int8[6,4] w, float ws = {0.01}, float[4] wv = {0.01, 0.02, 0.03, 0.04}, int8 wz = {3}"

SCALINGS = {
    "one after the other": "a = Mul(f, s)  y = Mul(a, wv)",
    "weights first": "a = Mul(wv, f)  y = Mul(a, s)",
    "together": "a = Mul(s, wv)  y = Mul(f, a)",
    "one for all": "a = Mul(ws, s)  y = Mul(a, f)",
    "inputs alone": "y = Mul(f, s)",
    "more behind": "a = Mul(f, s)  b = Mul(a, wv)  y = Relu(b)",
}


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("zero", ["", ", wz"])
def test_scales_in_any_order(scaling, zero):
    model = text_model(
        f"""g (float[N,6] x) => (float[N,4] y) <{MATRIX}>
        {{ q, s, z = DynamicQuantizeLinear(x)  i = MatMulInteger(q, w, z{zero})
           f = Cast<to=1>(i)  {SCALINGS[scaling]} }}"""
    )
    program = xbarc.compile(model, calibration=X[:, 0, 0, :6], overrides=LOSSLESS)
    assert program.report["coverage"]["mac_share"] == 1
    expected = reference(model, {"x": X[:, 0, 0, :6]})["y"]
    assert snr_db(expected, program.run(X[:, 0, 0, :6])["y"]) > 30


NOT_STATIC = {
    "moving weights": """{ q, s, z = DynamicQuantizeLinear(x)  t = Transpose<perm=[1,0]>(x)
        p, r, v = DynamicQuantizeLinear(t)  i = MatMulInteger(q, p, z, v)  f = Cast<to=1>(i)
        a = Mul(s, r)  y = Mul(f, a) }""",
    "scaled by another input's scale": """{ q, s, z = DynamicQuantizeLinear(x)  n = Neg(x)
        p, r, v = DynamicQuantizeLinear(n)  i = MatMulInteger(q, w, z)  f = Cast<to=1>(i)
        y = Mul(f, r) }""",
    "never scaled": """{ q, s, z = DynamicQuantizeLinear(x)  i = MatMulInteger(q, w, z)
        y = Cast<to=1>(i) }""",
    "scaled twice": """{ q, s, z = DynamicQuantizeLinear(x)  i = MatMulInteger(q, w, z)
        f = Cast<to=1>(i)  a = Mul(s, s)  y = Mul(f, a) }""",
    "sums are read": """{ q, s, z = DynamicQuantizeLinear(x)  i = MatMulInteger(q, w, z)
        f = Cast<to=1>(i)  m = Mul(f, s)  y = Add(m, f) }""",
}


@pytest.mark.parametrize("body", NOT_STATIC)
def test_what_isnt_static_stays_as_it_is_and_says_why(body):
    model = text_model(f"g (float[6,6] x) => (y) <int8[6,4] w> {NOT_STATIC[body]}")
    program = xbarc.compile(model, calibration=X[0, 0, :6, :6])
    (reason,) = program.report["coverage"]["digital_reasons"].values()
    assert "MatMulInteger: its weights, scales or zero points change at run time" in reason
    expected = reference(model, {"x": X[0, 0, :6, :6]})
    np.testing.assert_allclose(program.run(X[0, 0, :6, :6])["y"], expected["y"], rtol=1e-5)


def test_products_of_onnxruntimes_own_domain(tmp_path):
    model = text_model(
        """g (float[N,6,24] x) => (float[N,6,8] y)
        <float[24,24] a, float[24,24] b, float[24] c, float[24,8] d>
        { p = MatMul(x, a)  q = MatMul(x, b)  r = Add(q, c)  s = Add(p, r)  t = Tanh(s)
          y = MatMul(t, d) }"""
    )
    quantised = fused(dynamic(model, tmp_path), tmp_path)
    both = {"com.microsoft.DynamicQuantizeMatMul", "com.microsoft.MatMulIntegerToFloat"}
    assert both & operators(quantised) == both
    x = np.random.default_rng(1).standard_normal((8, 6, 24)).astype(np.float32)
    program = xbarc.compile(quantised, calibration=x)
    assert program.report["coverage"]["mac_share"] == 1
    assert program.report["coverage"]["crossbar_operators"] == 3
    assert snr_db(reference(model, {"x": x})["y"], program.run(x)["y"]) > 30


class Data(CalibrationDataReader):
    """One batch for quantize_static."""

    def __init__(self, **arrays):
        self.arrays = [arrays]

    def get_next(self):
        return self.arrays.pop() if self.arrays else None


def test_a_static_gemm(tmp_path):
    model = text_model(
        """g (float[N,24] x) => (float[N,5] y) <float[16,24] a, float[16] b, float[5,16] c>
        { h = Gemm<transB=1>(x, a, b)  r = Relu(h)  y = Gemm<transB=1, alpha=0.5>(r, c) }"""
    )
    onnx.save(model, tmp_path / "float.onnx")
    x = np.random.default_rng(1).standard_normal((32, 24)).astype(np.float32)
    quantize_static(
        tmp_path / "float.onnx",
        tmp_path / "static.onnx",
        Data(x=x),
        quant_format=QuantFormat.QOperator,
        per_channel=True,
    )
    assert "com.microsoft.QGemm" in operators(onnx.load(tmp_path / "static.onnx"))
    program = xbarc.compile(tmp_path / "static.onnx", calibration=x)
    assert program.report["coverage"]["mac_share"] == 1
    assert snr_db(reference(model, {"x": x})["y"], program.run(x)["y"]) > 25


ATTENTION = """<ir_version: 8, opset_import: ["": 18, "com.microsoft": 1]>
    g (float[N,6,16] x{mask}) => (float[N,6,16] y) <float[16,48] w, float[48] b>
    {{ y = com.microsoft.Attention<num_heads=4{attributes}>(x, w, b{mask_name}) }}"""


def attention(mask="", attributes=""):
    """A model of one Attention, with weights."""
    text = ATTENTION.format(
        mask=f", int32[{mask}] m" if mask else "",
        mask_name=", m" if mask else "",
        attributes=attributes,
    )
    model = onnx.parser.parse_model(text)
    del model.graph.value_info[:]
    rng = np.random.default_rng(0)
    for name, shape in (("w", (16, 48)), ("b", (48,))):
        array = (rng.standard_normal(shape) / 4).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return model


MASKS = {"": None, "N,6": (4, 6), "N,6,6": (4, 6, 6)}


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("attributes", ["", ", unidirectional=1"])
@pytest.mark.parametrize("quantised", [False, True])
def test_attention(mask, attributes, quantised, tmp_path):
    model = attention(mask, attributes)
    feeds = {"x": np.random.default_rng(1).standard_normal((4, 6, 16)).astype(np.float32)}
    if mask:
        m = np.random.default_rng(2).integers(0, 2, MASKS[mask]).astype(np.int32)
        m[..., 0] = 1
        feeds["m"] = m
    expected = reference(model, feeds)["y"]
    given = dynamic(model, tmp_path, op_types_to_quantize=["Attention"]) if quantised else model
    assert ("com.microsoft.QAttention" in operators(given)) == quantised
    program = xbarc.compile(given, calibration=feeds)
    assert program.report["coverage"]["crossbar_operators"] == 1
    # 6 x 16 x 48 of the projection, 2 x 6 x 6 x 16 of the attention itself
    assert program.report["coverage"]["mac_share"] == pytest.approx(4608 / (4608 + 1152))
    assert snr_db(expected, program.run(feeds)["y"]) > 30


def test_attention_with_a_past_says_why_it_stays():
    model = attention()
    real = onnx.TensorProto.FLOAT
    model.graph.node[0].input.extend(["", "p"])
    model.graph.node[0].output.append("present")
    past = onnx.helper.make_tensor_value_info("p", real, [2, 1, 4, 3, 4])
    model.graph.input.append(past)
    model.graph.output.append(onnx.helper.make_tensor_value_info("present", real, None))
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    program = xbarc.compile(model)
    (reason,) = program.report["coverage"]["digital_reasons"].values()
    assert reason.startswith("Attention: it has a past")


def test_a_recurrent_layer_says_why_it_stays(tmp_path):
    model = text_model(
        """g (float[4,2,6] x) => (float[4,2,5] y)
        <float[1,20,6] w, float[1,20,5] r, int64[3] s = {0,0,-1}>
        { a, b, c = LSTM<hidden_size=5>(x, w, r)  y = Reshape(a, s) }"""
    )
    quantised = dynamic(model, tmp_path, op_types_to_quantize=["LSTM"])
    assert "com.microsoft.DynamicQuantizeLSTM" in operators(quantised)
    for given in (model, quantised):
        program = xbarc.compile(given, calibration=X[:4, 0, :2, :6])
        (reason,) = program.report["coverage"]["digital_reasons"].values()
        assert "each of its steps waits for the step before" in reason


@needs_shared
def test_the_accuracy_of_a_network(tmp_path):
    """ResNet-20: as accurate as its float model, to half a percent of 400 images."""
    model = onnx.load(SHARED / "models/resnet20_cifar10.onnx")
    quantised = dynamic(model, tmp_path, per_channel=True)
    data = np.load(SHARED / "data/cifar10.npz")
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    x = ((data["x_test"][:400] / 255 - mean) / std).transpose(0, 3, 1, 2).astype(np.float32)
    truth = data["y_test"][:400]
    program = xbarc.compile(quantised, calibration=x[:64])
    assert program.report["coverage"]["mac_share"] == 1
    (found,) = program.run(x).values()
    (name,) = (i.name for i in model.graph.input)
    (wanted,) = reference(model, {name: x}).values()
    accuracy = [(np.argmax(y, 1) == truth).mean() for y in (found, wanted)]
    assert accuracy[0] > accuracy[1] - 0.005
