"""QONNX: Quant, BipolarQuant and Trunc keep their codes and widths, and compute what QONNX does."""

import numpy as np
import onnx
import pytest
from models import snr_db, text_model
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

import xbarc
from xbarc.frontends.onnx.importer import load
from xbarc.graph.run import Session
from xbarc.ir.dialect import QuantizeOp, WeightsOp, element_of
from xbarc.support.errors import XbarcError

GENERAL = "qonnx.custom_op.general"

# --- QONNX's operators in plain numpy ------------------------------------------------------------


def bounds(bits, signed, narrow):
    if signed:
        return -(2 ** (bits - 1)) + narrow, 2 ** (bits - 1) - 1
    return 0, 2**bits - 1 - narrow


def rounded(x, mode):
    away = {"UP": np.ceil, "DOWN": np.floor}
    half = {"HALF_UP": lambda a: np.floor(a + 0.5), "HALF_DOWN": lambda a: np.ceil(a - 0.5)}
    plain = {"ROUND": np.round, "CEIL": np.ceil, "FLOOR": np.floor}
    if mode in plain:
        return plain[mode](x)
    return np.sign(x) * {**away, **half}[mode](np.abs(x))


class Quant(OpRun):
    op_domain = GENERAL

    def _run(self, x, scale, zero, bits, signed=None, narrow=None, rounding_mode=None):
        signed = 1 if signed is None else signed
        y = x / scale + zero
        if signed and bits == 1:
            codes = np.where(y >= 0, 1.0, -1.0)
        else:
            low, high = bounds(int(bits), signed, narrow or 0)
            codes = rounded(np.clip(y, low, high), rounding_mode or "ROUND")
        return (((codes - zero) * scale).astype(np.float32),)


class BipolarQuant(OpRun):
    op_domain = GENERAL

    def _run(self, x, scale):
        return ((np.where(x >= 0, 1, -1) * scale).astype(np.float32),)


class Trunc(OpRun):
    op_domain = GENERAL

    def _run(self, x, scale, zero, bits, *rest, rounding_mode=None, signed=None, narrow=None):
        y = np.round(x / scale + zero)
        mode = rounding_mode or "FLOOR"
        if len(rest) == 1:
            y = rounded(y / 2.0 ** (bits - rest[0]), mode)
            return (((y - zero) * scale).astype(np.float32),)
        out_scale, out_bits = rest
        factor = 2 ** np.round(np.log2(out_scale / scale))
        low, high = bounds(int(out_bits), 1 if signed is None else signed, narrow or 0)
        y = rounded(np.clip(y / factor, low, high), mode)
        return (((y - zero / factor) * out_scale).astype(np.float32),)


def model_of(text, domain=GENERAL, **values):
    """A model from text whose operators `q.Name` are QONNX's."""
    parsed = text.replace("q.", "qonnx.")
    proto = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 18, "qonnx": 1]>{parsed}')
    del proto.graph.value_info[:]
    for node in proto.graph.node:
        if node.domain == "qonnx":
            node.domain = domain
    del proto.opset_import[1:]
    proto.opset_import.add(domain=domain, version=1)
    for name, array in values.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return proto


def computed(model, feeds):
    evaluator = ReferenceEvaluator(model, new_ops=[Quant, BipolarQuant, Trunc])
    return evaluator.run(None, feeds)[0]


X = (np.random.default_rng(0).standard_normal((40, 12)) * 3).astype(np.float32)
W = np.random.default_rng(1).standard_normal((12, 5)).astype(np.float32)

# --- Activations ---------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", range(1, 10))
@pytest.mark.parametrize("signed", [0, 1])
@pytest.mark.parametrize("narrow", [0, 1])
def test_a_quantised_activation(bits, signed, narrow):
    if narrow and bits == 1:
        return  # one code is no number of bits
    model = model_of(
        f"""g (float[N,12] x) => (float[N,12] y)
        <float s = {{0.25}}, float z = {{0}}, float b = {{{bits}}}>
        {{ y = q.Quant<signed={signed}, narrow={narrow}>(x, s, z, b) }}"""
    )
    np.testing.assert_array_equal(
        Session(load(model)).run({"x": X})["y"], computed(model, {"x": X})
    )


@pytest.mark.parametrize("mode", ["ROUND", "CEIL", "FLOOR", "UP", "DOWN", "HALF_UP", "HALF_DOWN"])
@pytest.mark.parametrize("zero", [0, 2, 3, 2.5])
def test_rounding_and_zero_points(mode, zero):
    x = np.arange(-20, 20, dtype=np.float32)[None] / 4
    model = model_of(
        f"""g (float[N,40] x) => (float[N,40] y)
        <float s = {{0.5}}, float z = {{{zero}}}, float b = {{4}}>
        {{ y = q.Quant<signed=1, rounding_mode="{mode}">(x, s, z, b) }}"""
    )
    np.testing.assert_allclose(
        Session(load(model)).run({"x": x})["y"], computed(model, {"x": x}), atol=1e-6
    )


def test_a_scale_for_each_channel():
    model = model_of(
        """g (float[N,12] x) => (float[N,12] y) <float z = {0}, float b = {4}>
        { y = q.Quant(x, s, z, b) }""",
        s=np.linspace(0.1, 1, 12, dtype=np.float32)[None],
    )
    np.testing.assert_allclose(
        Session(load(model)).run({"x": X})["y"], computed(model, {"x": X}), atol=1e-6
    )


TRUNCATIONS = {
    "version 1": "q.Trunc(a, s, z, i, o)",
    "version 1, rounded": 'q.Trunc<rounding_mode="ROUND">(a, s, z, i, o)',
    "version 2": "q.Trunc<signed=0>(a, s, z, i, t, o)",
    "version 2, signed": "q.Trunc<signed=1, narrow=1>(a, s, z, i, t, o)",
}


@pytest.mark.parametrize("case", TRUNCATIONS)
def test_truncation(case):
    signed = int("2, signed" in case)
    model = model_of(
        f"""g (float[N,12] x) => (float[N,12] y)
        <float s = {{0.25}}, float z = {{0}}, float b = {{8}}, float i = {{8}}, float t = {{1.0}},
         float o = {{6}}>
        {{ a = q.Quant<signed={signed}>(x, s, z, b)  y = {TRUNCATIONS[case]} }}"""
    )
    np.testing.assert_allclose(
        Session(load(model)).run({"x": X * 4})["y"], computed(model, {"x": X * 4}), atol=1e-6
    )


# --- On crossbars --------------------------------------------------------------------------------


def compiled(model):
    program = xbarc.compile(model, calibration=X)
    assert program.report["coverage"]["mac_share"] == 1
    weights = [op for op in program.module.walk() if isinstance(op, WeightsOp)]
    inputs = [o for o in program.module.walk() if isinstance(o, QuantizeOp) and not o.recodes]
    return program, weights, inputs


@pytest.mark.parametrize("bits", [2, 3, 4, 6, 8])
@pytest.mark.parametrize("signed", [0, 1])
def test_weights_and_inputs_keep_their_codes_and_widths(bits, signed):
    model = model_of(
        f"""g (float[N,12] x) => (float[N,5] y)
        <float t = {{0.1}}, float z = {{0}}, float b = {{{bits}}}, float[12,5] w>
        {{ a = q.Quant<signed={signed}, narrow={signed}>(x, t, z, b)
           v = q.Quant<narrow=1>(w, s, z, b)  y = MatMul(a, v) }}""",
        w=W,
        s=(np.abs(W).max(0, keepdims=True) / (2 ** (bits - 1) - 1)).astype(np.float32),
    )
    program, (weights,), inputs = compiled(model)
    assert weights.weight_bits == bits
    codes = program.weights[weights.symbol]
    assert np.abs(codes).max() == 2 ** (bits - 1) - 1
    for op in inputs:
        assert element_of(op.result).width.data == bits
    # Of 8 bits, ONNX's own types do, and the digital unit makes the codes.
    assert len(inputs) == (bits < 8)
    # The codes are the model's own: nothing is lost but float32's last digits.
    assert snr_db(computed(model, {"x": X}), program.run(X)["y"]) > 100


def test_codes_that_reach_the_least_have_a_bit_more():
    model = model_of(
        """g (float[N,12] x) => (float[N,5] y)
        <float t = {0.5}, float z = {0}, float b = {3}, float s = {0.5}, float[12,5] w>
        { a = q.Quant(x, t, z, b)  v = q.Quant(w, s, z, b)  y = MatMul(a, v) }""",
        w=W * 2,
    )
    program, (weights,), (inputs,) = compiled(model)
    assert program.weights[weights.symbol].min() == -4
    assert weights.weight_bits == 4 and element_of(inputs.result).width.data == 4
    assert snr_db(computed(model, {"x": X}), program.run(X)["y"]) > 100


def test_bipolar_weights_and_inputs():
    model = model_of(
        """g (float[N,12] x) => (float[N,5] y) <float s = {0.5}, float t = {0.25}, float[12,5] w>
        { a = q.BipolarQuant(x, t)  v = q.BipolarQuant(w, s)  y = MatMul(a, v) }""",
        w=W,
    )
    program, (weights,), (inputs,) = compiled(model)
    assert weights.weight_bits == 2 and element_of(inputs.result).width.data == 2
    np.testing.assert_array_equal(program.weights[weights.symbol], np.where(W >= 0, 1, -1))
    assert snr_db(computed(model, {"x": X}), program.run(X)["y"]) > 100


def test_zero_points_of_weights_and_inputs():
    model = model_of(
        """g (float[N,12] x) => (float[N,5] y)
        <float t = {0.5}, float z = {7}, float b = {4}, float s = {0.25}, float[12,5] w>
        { a = q.Quant<signed=0>(x, t, z, b)  v = q.Quant<signed=0>(w, s, z, b)
          y = MatMul(a, v) }""",
        w=W,
    )
    program, _, _ = compiled(model)
    assert snr_db(computed(model, {"x": X}), program.run(X)["y"]) > 100


CONVOLUTION = """g (float[N,2,6,6] x) => (float[N,4,2,2] y)
    <float t = {0.1}, float z = {0}, float b = {4}, float e = {8}, float[4,2,3,3] w>
    { a = q.Quant<signed=0>(x, t, z, b)  p = MaxPool<kernel_shape=[2,2], strides=[1,1]>(a)
      v = q.Quant<narrow=1>(w, s, z, b)  c = Conv(p, v)  r = Relu(c)
      o = q.Quant<signed=0>(r, t, z, e)  m = MaxPool<kernel_shape=[2,2]>(o)  y = Relu(m) }"""


@pytest.mark.parametrize("domain", [GENERAL, "finn.custom_op.general", "onnx.brevitas"])
@pytest.mark.parametrize("imported", [True, False])
def test_codes_pass_pools_and_domains(domain, imported):
    rng = np.random.default_rng(2)
    x = np.abs(rng.standard_normal((8, 2, 6, 6))).astype(np.float32)
    w = rng.standard_normal((4, 2, 3, 3)).astype(np.float32)
    s = (np.abs(w).max((1, 2, 3), keepdims=True) / 7).astype(np.float32)
    model = model_of(CONVOLUTION, domain, w=w, s=s)
    if not imported:
        del model.opset_import[1:]
    program = xbarc.compile(model, calibration=x[:4])
    (op,) = (op for op in program.module.walk() if isinstance(op, QuantizeOp))
    assert element_of(op.result).width.data == 4
    wanted = computed(model_of(CONVOLUTION, w=w, s=s), {"x": x})
    assert snr_db(wanted, program.run(x)["y"]) > 100
    row = program.report["layers"][0]
    assert row["macs"] == 4 * 18 * 9


def test_a_transposed_weight_keeps_its_codes():
    """As Brevitas writes a linear layer."""
    model = model_of(
        """g (float[N,12] x) => (float[N,5] y) <float z = {0}, float b = {4}, float[5,12] w>
        { v = q.Quant<narrow=1>(w, s, z, b)  t = Transpose<perm=[1,0]>(v)  y = MatMul(x, t) }""",
        w=W.T.copy(),
        s=(np.abs(W.T).max(1, keepdims=True) / 7).astype(np.float32),
    )
    program, (weights,), _ = compiled(model)
    assert weights.weight_bits == 4
    assert snr_db(computed(model, {"x": X}), program.run(X)["y"]) > 35


def test_a_transposed_weight_of_onnxs_own():
    model = text_model(
        """g (float[N,12] x) => (float[N,5] y) <int8[5,12] w, float[5] s, int8[5] z>
        { v = DequantizeLinear<axis=0>(w, s, z)  t = Transpose(v)  y = MatMul(x, t) }""",
        s=np.linspace(0.01, 0.05, 5),
        z=np.arange(5),
    )
    program, _, _ = compiled(model)
    arrays = {i.name: onnx.numpy_helper.to_array(i) for i in model.graph.initializer}
    real = (arrays["w"].astype(float) - arrays["z"][:, None]) * arrays["s"][:, None]
    assert snr_db(X @ real.T, program.run(X)["y"]) > 35


def test_a_bias_and_wide_numbers_are_worked_out():
    model = model_of(
        """g (float[N,12] x) => (float[N,5] y)
        <float z = {0}, float b = {4}, float s = {0.1}, float e = {32}, float f = {0.001},
         float h = {16}, float[12,5] w, float[5] c>
        { v = q.Quant<narrow=1>(w, s, z, b)  d = q.Quant(c, f, z, e)  a = q.Quant(x, f, z, h)
          y = Gemm(a, v, d) }""",
        w=W,
        c=np.linspace(-1, 1, 5, dtype=np.float32),
    )
    program, _, _ = compiled(model)
    assert snr_db(computed(model, {"x": X}), program.run(X)["y"]) > 35


REFUSED = {
    "q.Quant(x, s, z, x)": "its bit width changes at run time",
    "q.Quant(x, x, z, b)": "its scale or zero point changes at run time",
    'q.Quant<rounding_mode="ODD">(x, s, z, b)': "rounding mode 'ODD': known are ROUND, CEIL",
    "q.Quant(x, s, z, h)": "a width of 2.5 bits",
}


@pytest.mark.parametrize("body", REFUSED)
def test_what_cannot_be_imported_says_so(body):
    model = model_of(
        f"""g (float[N,12] x) => (float[N,12] y)
        <float s = {{1}}, float z = {{0}}, float b = {{4}}, float h = {{2.5}}> {{ y = {body} }}"""
    )
    with pytest.raises(XbarcError, match=r"Quant '.*': ") as caught:
        load(model)
    assert REFUSED[body] in str(caught.value) and "\n" not in str(caught.value)
