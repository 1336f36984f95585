"""A digital operator that xbarc doesn't know: one entry in a plug-in file says all of it."""

import numpy as np
import onnx.helper
import pytest
from models import reference, snr_db, text_model

import xbarc
from xbarc.graph.operators import OPERATORS, OWN, load_operators
from xbarc.graph.operators.table import TABLE
from xbarc.support.errors import XbarcError

QUICK_GELU = """
from xbarc.graph.operators import Operator, channels, costs, rows

QUICK_GELU = Operator(
    "QuickGelu",
    domain="com.microsoft",
    cost=costs.ACTIVATION,
    rows=rows.by_row,
    channels=channels.unary,
)
"""

OWN_RULES = """
from xbarc.graph.operators import Operator
from xbarc.graph.operators.costs import Cost


def last_axis(ties, node):
    value, bias = node.inputs
    for axis in range(ties.rank(value)):
        ties.tie((value, axis), (node.outputs[0], axis))
    ties.tie((bias, 0), (value, ties.rank(value) - 1))


BIAS_GELU = Operator(
    "BiasGelu",
    domain="com.microsoft",
    cost=Cost("activation", lambda call: 2 * call.results),
    channels=last_axis,
)
"""

CONVOLUTIONS = """g (float[N,3,16,16] x) => (float[N,4,12,12] y)
<float[8,3,3,3] w1, float[4,8,3,3] w2> {
  a = Conv(x, w1) b = com.microsoft.QuickGelu<alpha=1.5>(a) y = Conv(b, w2) }"""

DENSE = """g (float[N,12] x) => (float[N,4] y) <float[12,8] w1, float[8] b, float[8,4] w2> {
  a = MatMul(x, w1) g = com.microsoft.BiasGelu(a, b) y = MatMul(g, w2) }"""

PRODUCTS = """g (float[N,6,8] x) => (float[N,6,6] y) <float[8,8] w> {
  a = MatMul(x, w) y = com.microsoft.FusedMatMul<transB=1>(a, x) }"""


def model_of(text, **values):
    model = text_model(text, **values)
    model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    return model


def half_empty(text, symbol, axis, **values):
    """The model with every second channel of a layer's weights at zero."""
    model = model_of(text, **values)
    (tensor,) = [t for t in model.graph.initializer if t.name == symbol]
    array = onnx.numpy_helper.to_array(tensor).copy()
    np.moveaxis(array, axis, 0)[::2] = 0
    tensor.CopyFrom(onnx.numpy_helper.from_array(array, symbol))
    return model


@pytest.fixture
def plugin(tmp_path):
    def write(text, name="operator.py"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def digital(program):
    """The digital operations of all layers by class, those that there are."""
    total = {}
    for layer in program.report["layers"]:
        for kind, count in layer["digital"].items():
            total[kind] = total.get(kind, 0) + count
    return {kind: count for kind, count in total.items() if count}


def test_it_counts_as_what_it_says(plugin):
    model = model_of(CONVOLUTIONS)
    values, scaled = 8 * 14 * 14, 8 * 14 * 14 + 4 * 12 * 12
    without = xbarc.compile(model, "mca128")
    assert digital(without) == {"other": values, "elementwise": scaled}
    program = xbarc.compile(model, "mca128", plugins=[plugin(QUICK_GELU)])
    assert digital(program) == {"activation": values, "elementwise": scaled}
    # For one run, not for the process.
    assert digital(xbarc.compile(model, "mca128")) == digital(without)


def test_channels_go_through_it(plugin):
    model = half_empty(CONVOLUTIONS, "w1", 0)
    passes = "prune{granularity=channel sparsity=0.5 layers=Conv}"
    with pytest.raises(XbarcError, match=r"com\.microsoft\.QuickGelu 'QuickGelu' reads it"):
        xbarc.compile(model, "mca128", passes=passes)
    x = np.random.default_rng(1).random((3, 3, 16, 16), np.float32)
    program = xbarc.compile(
        model, "mca128", passes=passes, calibration=x, plugins=[plugin(QUICK_GELU)]
    )
    assert [layer["matrix"] for layer in program.report["layers"]] == [[27, 4], [36, 4]]
    assert program.report["deviation"]["prune"] < 1e-4  # what went was zero
    assert snr_db(reference(model, {"x": x})["y"], program.run(x)["y"]) > 30


def test_channels_go_through_it_again(plugin):
    """What is left of a value behind it is known: onnx's inference has no rule of it."""
    program = xbarc.compile(
        model_of(CONVOLUTIONS),
        "mca128",
        passes="prune{granularity=channel sparsity=0.5},prune{granularity=channel sparsity=0.5}",
        plugins=[plugin(QUICK_GELU)],
    )
    assert [layer["matrix"] for layer in program.report["layers"]] == [[27, 2], [18, 4]]


def test_rows_go_through_it(plugin):
    model = model_of(CONVOLUTIONS)

    def pipeline(**options):
        return xbarc.compile(model, "mca128", passes="schedule", **options).report["pipeline"]

    first, between, last = pipeline()
    assert between["start_ns"] == first["finish_ns"] <= last["start_ns"]
    first, between, last = pipeline(plugins=[plugin(QUICK_GELU)])
    assert between["start_ns"] < last["start_ns"] < first["finish_ns"]


def test_rules_of_its_own(plugin):
    model = half_empty(DENSE, "w1", 1, b=np.zeros(8))
    x = np.random.default_rng(1).random((3, 12), np.float32)
    program = xbarc.compile(
        model,
        "mca128",
        passes="prune{granularity=channel sparsity=0.5}",
        calibration=x,
        equalize=False,
        plugins=[plugin(OWN_RULES)],
    )
    assert [layer["matrix"] for layer in program.report["layers"]] == [[12, 4], [4, 4]]
    assert digital(program) == {"activation": 2 * 4, "elementwise": 4 + 4}
    assert snr_db(reference(model, {"x": x})["y"], program.run(x)["y"]) > 30


def test_its_products_count(plugin):
    text = """
from xbarc.graph.operators import Operator, products
FUSED = Operator("FusedMatMul", domain="com.microsoft", products=products.matrix)
"""
    model = model_of(PRODUCTS)
    without = xbarc.compile(model, "mca128")
    assert without.report["coverage"]["mac_share"] == 1.0
    program = xbarc.compile(model, "mca128", plugins=[plugin(text)])
    assert digital(program)["products"] == 6 * 6 * 8
    assert program.report["coverage"]["mac_share"] == 6 * 8 * 8 / (6 * 8 * 8 + 6 * 6 * 8)


def test_a_domain_of_its_own(plugin):
    """The name alone is nobody's: another domain's Relu is another operator."""
    path = plugin(
        "from xbarc.graph.operators import Operator, costs\n"
        'RELU = Operator("Relu", domain="com.example", cost=costs.MOVES)\n'
    )
    text = "g (float[N,3] x) => (float[N,2] y) <float[3,2] w> { a = MatMul(x, w) y = Relu(a) }"
    program = xbarc.compile(text_model(text), "mca128", plugins=[path])
    assert digital(program) == {"activation": 2, "elementwise": 2}


def test_the_table_has_no_operator_twice():
    assert len(OWN.entries) == len(TABLE)


@pytest.mark.parametrize("domain", ["", "ai.onnx"])
def test_an_operator_has_one_entry(plugin, domain):
    path = plugin(
        f"from xbarc.graph.operators import Operator\nR = Operator('Relu', domain={domain!r})\n"
    )
    with pytest.raises(XbarcError, match=r"operator 'Relu' is defined twice: by xbarc and by .*py"):
        xbarc.compile(model_of(DENSE), "mca128", plugins=[path])


def test_an_unknown_class(plugin):
    path = plugin("from xbarc.graph.operators.costs import Cost\nC = Cost('activations', len)\n")
    with pytest.raises(XbarcError, match=r"'activations': did you mean 'activation'\?"):
        xbarc.compile(model_of(DENSE), "mca128", plugins=[path])


def test_an_entry_point_is_called_as_the_operator(monkeypatch):
    class Point:
        name, value, dist = "QuickGelu", "somewhere:QUICK_GELU", None

        def load(self):
            return OPERATORS.registry().load("Gelu")

    monkeypatch.setattr("xbarc.support.plugins.entry_points", lambda group: [Point()])
    with pytest.raises(XbarcError, match=r"'QuickGelu' of an installed package .* no Operator"):
        load_operators()
