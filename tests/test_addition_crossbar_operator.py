"""A crossbar operator that xbarc doesn't map, brought by one file."""

import numpy as np
import pytest
from models import reference, text_model

import xbarc
from xbarc.support.errors import XbarcError

EINSUM = '''
"""einsum: vectors along the last axis by a matrix."""

from xbarc.graph.query import attribute
from xbarc.ir.dialect import DenseOp
from xbarc.lowering.kind import LayerKind


class Einsum(LayerKind):
    """`bij,jk->bik` with a static second operand."""

    name = "einsum"
    op_type = "Einsum"

    def refusal(self, product):
        equation = attribute(product.node, "equation")
        return None if equation == "bij,jk->bik" else f"{equation} isn't a product by one matrix"

    def operation(self, product, given):
        last = len(given.source) - 1
        return DenseOp(
            given.codes, given.weights, last, last, given.element, items=given.items
        ), last
'''

FUSED = '''
"""onnxruntime's own operators."""

from xbarc.graph.query import attribute
from xbarc.ir.dialect import DenseOp
from xbarc.lowering.kind import LayerKind
from xbarc.lowering.layers.conv import Conv
from xbarc.lowering.rewrites import after


class FusedMatMul(LayerKind):
    """MatMul of which each side may be transposed, times alpha."""

    name = "fused-matmul"
    op_type = "FusedMatMul"
    domain = "com.microsoft"

    def transposed(self, product):
        return attribute(product.node, "transB", 0) == 1

    def factors(self, product):
        return attribute(product.node, "alpha", 1.0), 1.0

    def operation(self, product, given):
        to = len(given.result) - 1
        axis = to - 1 if attribute(product.node, "transA", 0) else to
        return DenseOp(given.codes, given.weights, axis, to, given.element, items=given.items), to


class FusedConv(Conv):
    """FusedConv(x, W, b)<activation=f>  ->  f(FusedConv(x, W, b))"""

    name = "fused-conv"
    op_type = "FusedConv"
    domain = "com.microsoft"

    def legalize(self, product):
        activation = product.node.attributes.pop("activation", None)
        if activation is not None:
            after(product.node, activation.value, [product.output])
        super().legalize(product)
'''

PLAIN = {"rounding": "nearest", "bias_correction": False, "equalize": False}
LOSSLESS = ("adc.mode=lossless", "inputs.signed=two-pass")
RNG = np.random.default_rng(3)
W = RNG.standard_normal((20, 7)).astype(np.float32)
X = RNG.standard_normal((4, 3, 20)).astype(np.float32)

PRODUCT = """g (float[N,3,20] x) => (float[N,3,7] y) <float[20,7] w>
             { y = Einsum<equation="bij,jk->bik">(x, w) }"""


@pytest.fixture
def plugin(tmp_path):
    def write(content, name="layers"):
        path = tmp_path / f"{name}.py"
        path.write_text(content)
        return path

    return write


def fused(text, **values):
    """A model of ONNX text with onnxruntime's operators."""
    model = text_model(text, **values)
    domain = model.opset_import.add()
    domain.domain, domain.version = "com.microsoft", 1
    return model


def quantised(x, w, bits=8):
    """The product as the crossbars compute it, its sums exact."""
    top = 2 ** (bits - 1) - 1
    s_w = np.abs(w.astype(np.float64)).max(axis=0) / top
    s_x = np.abs(x.astype(np.float64)).max() / top
    codes, q = np.rint(x / s_x), np.rint(w / s_w)
    return (codes @ q * s_x * s_w).astype(np.float32)


def close(model, feeds, files, tolerance=1e-3, **coverage):
    """Compile and run with 16 bits: as onnxruntime computes it, but for rounding."""
    overrides = (*LOSSLESS, "weights.bits=16", "inputs.bits=16")
    program = xbarc.compile(model, "mca128", calibration=feeds, overrides=overrides, plugins=files)
    found, (expected,) = program.run(feeds)["y"], reference(model, feeds).values()
    assert found.dtype == expected.dtype and found.shape == expected.shape
    assert np.abs(found - expected).max() <= tolerance * np.abs(expected).max()
    for key, value in coverage.items():
        assert program.report["coverage"][key] == value
    return program


def test_without_the_file_it_stays_digital_with_a_reason():
    program = xbarc.compile(text_model(PRODUCT, w=W), calibration=X)
    assert program.report["coverage"] == {
        "crossbar_operators": 0,
        "digital_operators": 1,
        "mac_share": None,
        "digital_reasons": {"Einsum": "Einsum: Einsum has no mapping"},
        "uncounted": ["Einsum"],
    }


def test_with_the_file_it_stands_on_crossbars(plugin):
    program = xbarc.compile(
        text_model(PRODUCT, w=W),
        calibration=X,
        overrides=LOSSLESS,
        plugins=[plugin(EINSUM)],
        **PLAIN,
    )
    assert program.report["coverage"] == {
        "crossbar_operators": 1,
        "digital_operators": 0,
        "mac_share": 1.0,
        "digital_reasons": {},
    }
    (layer,) = program.report["layers"]
    assert (layer["op"], layer["matrix"], layer["macs"]) == ("Einsum", [20, 7], 3 * 20 * 7)
    assert np.array_equal(program.run(X)["y"], quantised(X, W))


def test_its_products_count_in_the_share(plugin):
    model = text_model(
        """g (float[N,3,20] x) => (float[N,3,3] y) <float[20,7] w>
        { a = Einsum<equation="bij,jk->bik">(x, w) t = Transpose<perm=[0,2,1]>(a)
          y = MatMul(a, t) }"""
    )
    covered = close(model, {"x": X}, [plugin(EINSUM)], crossbar_operators=1).report["coverage"]
    assert covered["mac_share"] == pytest.approx(3 * 20 * 7 / (3 * 20 * 7 + 3 * 7 * 3))


def test_its_weights_are_written_anew(plugin):
    file = plugin(EINSUM)
    program = xbarc.compile(
        text_model(PRODUCT, w=W), calibration=X, overrides=LOSSLESS, plugins=[file], **PLAIN
    )
    model = text_model(PRODUCT, w=-W)
    assert np.array_equal(
        program.update_weights(model, plugins=[file]).run(X)["y"], quantised(X, -W)
    )
    with pytest.raises(XbarcError, match="the model has no layer 'Einsum'"):
        program.update_weights(model)


def test_it_is_cast_to_single_precision(plugin):
    text = PRODUCT.replace("float[", "double[")
    feeds = {"x": X.astype(np.float64)}
    close(text_model(text), feeds, [plugin(EINSUM)], crossbar_operators=1)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            """g (float[N,3,20] x, float[20,7] w) => (float[N,3,7] y)
            { y = Einsum<equation="bij,jk->bik">(x, w) }""",
            "Einsum: its weights change at run time",
        ),
        (
            """g (float[N,3,20] x) => (float[N,7,3] y) <float[20,7] w>
            { y = Einsum<equation="bij,jk->bki">(x, w) }""",
            "Einsum: bij,jk->bki isn't a product by one matrix",
        ),
    ],
)
def test_what_it_refuses_stays_digital_with_its_reason(text, reason, plugin):
    model = text_model(text)
    feeds = {"x": X, "w": W} if len(model.graph.input) > 1 else {"x": X}
    close(
        model,
        feeds,
        [plugin(EINSUM)],
        crossbar_operators=0,
        digital_reasons={"Einsum": reason},
        mac_share=None,
    )


@pytest.mark.parametrize(
    ("attributes", "x", "w"),
    [
        ("alpha = 0.25", "float[N,3,20]", "float[20,7]"),
        ("alpha = -1.5, transB = 1", "float[N,3,20]", "float[7,20]"),
        ("transA = 1", "float[N,20,3]", "float[20,7]"),
    ],
)
def test_an_operator_of_another_domain(attributes, x, w, plugin):
    model = fused(
        f"""g ({x} x) => (float[N,3,7] y) <{w} w>
        {{ a = com.microsoft.FusedMatMul<{attributes}>(x, w) y = Relu(a) }}"""
    )
    feeds = {"x": X.reshape(4, 20, 3) if "transA" in attributes else X}
    close(model, feeds, [plugin(FUSED)], crossbar_operators=1, digital_operators=1, mac_share=1)


def test_integer_weights_stay_as_they_are(plugin):
    q = RNG.integers(-128, 128, (7, 20)).astype(np.int8)
    scale = RNG.uniform(0.01, 0.02, 7).astype(np.float32)
    model = fused(
        """g (float[N,3,20] x) => (float[N,3,7] y) <int8[7,20] q, float[7] s>
        { w = DequantizeLinear<axis=0>(q, s)
          y = com.microsoft.FusedMatMul<alpha=0.5, transB=1>(x, w) }""",
        q=q,
        s=scale,
    )
    program = close(model, {"x": X}, [plugin(FUSED)], crossbar_operators=1)
    (layer,) = program.report["layers"]
    assert np.array_equal(program.weights[layer["name"]], q.T)
    assert np.array_equal(program.weights[f"{layer['name']}.scale"], scale * np.float64(0.5))


@pytest.mark.parametrize(("bias", "digital"), [("static", 1), ("moving", 3)])
def test_its_own_rewrites(bias, digital, plugin):
    static = bias == "static"
    inputs = "float[N,4,9,8] x" if static else "float[N,4,9,8] x, float[5] b"
    weights = "float[5,4,3,3] w, float[5] b" if static else "float[5,4,3,3] w"
    model = fused(
        f"""g ({inputs}) => (float[N,5,9,8] y) <{weights}>
        {{ y = com.microsoft.FusedConv<activation="Relu", pads=[1,1,1,1]>(x, w, b) }}"""
    )
    feeds = {"x": RNG.standard_normal((3, 4, 9, 8)).astype(np.float32)}
    if not static:
        feeds["b"] = RNG.standard_normal(5).astype(np.float32)
    close(model, feeds, [plugin(FUSED)], crossbar_operators=1, digital_operators=digital)


def test_in_the_body_of_an_if_it_has_a_reason(plugin):
    model = fused(
        """g (float[N,3,20] x, bool c) => (float[N,3,7] y) <float[20,7] w, float[7,7] v>
        { a = MatMul(x, w)
          y = If(c) <then_branch = t () => (float[N,3,7] p) {
                       p = com.microsoft.FusedMatMul(a, v) },
                     else_branch = e () => (float[N,3,7] q) { q = Identity(a) }> }"""
    )
    feeds = {"x": X, "c": np.array(True)}
    program = close(model, feeds, [plugin(FUSED)], crossbar_operators=1, mac_share=None)
    (reason,) = program.report["coverage"]["digital_reasons"].values()
    assert reason == "FusedMatMul: in the body of an If"


def test_an_operator_or_a_name_is_taken_once(plugin):
    model = text_model(PRODUCT)
    gemm = EINSUM.replace('"Einsum"', '"Gemm"')
    with pytest.raises(
        XbarcError, match=r"^Gemm is .* twice: 'gemm' of xbarc and 'einsum' of .*py"
    ):
        xbarc.compile(model, calibration=X, plugins=[plugin(gemm, "one")])
    named = EINSUM.replace('"einsum"', '"gemm"')
    with pytest.raises(XbarcError, match=r"^crossbar operator 'gemm' is defined twice: by xbarc"):
        xbarc.compile(model, calibration=X, plugins=[plugin(named, "two")])


@pytest.mark.parametrize("left_out", ["name", "op_type", "operation"])
def test_what_a_file_leaves_out_is_named(left_out, plugin):
    content = EINSUM.replace(f"    {left_out} = ", "    _ = ").replace(f"def {left_out}", "def _")
    with pytest.raises(XbarcError, match=f"layers.py: class Einsum has no `{left_out}`$"):
        xbarc.compile(text_model(PRODUCT), calibration=X, plugins=[plugin(content)])
