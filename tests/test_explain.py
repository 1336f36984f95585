"""`xbarc cost --explain KEY`: every figure of the totals unfolds to what it is made of."""

import json
import math
import re

import pytest
from models import text_model
from typer.testing import CliRunner

import xbarc
from xbarc.cli import app
from xbarc.cost.explain import explain, leaves
from xbarc.report.figures import flatten
from xbarc.support.errors import UsageError

NET = """g (float[N,4,10,10] x) => (float[N,6] y)
<float[8,4,3,3] a, float[6,8,3,3] b> {
  c = Conv(x, a) r = Relu(c) d = Conv(r, b) p = GlobalAveragePool(d) y = Flatten(p) }"""
POOLED = """g (float[N,4,10,10] x) => (float[N,8] y) <float[8,4,3,3] a> {
  c = Conv(x, a) r = Sigmoid(c) m = MaxPool<kernel_shape=[2,2], strides=[2,2]>(r)
  s = Softmax<axis=1>(m) p = GlobalAveragePool(s) y = Flatten(p) }"""
LEAKY = ("technology.leakage_share=0.1",)


@pytest.fixture(scope="module", params=["isaac", "puma", "neurram", "mca64"])
def program(request):
    passes = "replicate{budget=600}" if request.param == "puma" else ""
    overrides = LEAKY if request.param == "mca64" else ()
    return xbarc.compile(text_model(NET), request.param, passes=passes, overrides=overrides)


def follows(figure):
    """The value that the parts give, by the words of `how`."""
    values, how = [part.value for part in figure.parts], figure.how
    if how.startswith("sum over") or how.startswith("crossbars + "):
        found = sum(values)
    elif " x " in how.partition(",")[0] and "1e6 /" not in how and not how.startswith("2 x"):
        found = math.prod(values)
    elif how.startswith("2 x"):
        return 2e-12 * math.prod(values)
    elif how.startswith("1e6 / time"):
        return 1e6 / values[0]
    elif " / " in how:
        found = values[0] / values[1]
    elif how.startswith("the longer"):
        return max(values[0], values[1] / values[2])
    elif how.startswith("a read, then"):
        return values[0] + values[1] / values[2]
    elif how.startswith("what one input"):
        found = values[0]
    else:
        raise AssertionError(how)
    tail = how.rpartition(" x ")[2]
    return found * float(tail) if tail in ("1e-3", "1e-6", "1e6") else found


def check(figure):
    if not figure.parts:
        assert figure.source, figure.key
        return
    assert figure.value == pytest.approx(follows(figure), rel=1e-9), (figure.key, figure.how)
    for part in figure.parts:
        check(part)


def test_every_figure_follows_from_its_parts(program):
    for key, value in flatten(program.report["totals"]):
        if isinstance(value, int | float):
            figure = explain(program, key)
            assert figure.value == value, key
            check(figure)


def test_a_layer_unfolds_too(program):
    for row in program.report["layers"]:
        for key, value in flatten(row):
            if isinstance(value, int | float) and not isinstance(value, bool):
                figure = explain(program, f"layers.{row['name']}.{key}")
                assert figure.value == pytest.approx(value), key
                if key != "energy_pj.leakage":
                    check(figure)


def all_of(figure):
    yield figure
    for part in figure.parts:
        yield from all_of(part)


@pytest.mark.parametrize("target", ["isaac", "puma", "neurram", "mca64", "mnsim"])
@pytest.mark.parametrize(
    "keys",
    [
        [],
        ["array.energy=arrays"],
        ["array.energy=programmed"],
        ["node.buffers=0"],
        ["layers.Conv.inputs.bits=4"],
    ],
)
def test_a_key_of_the_report_has_the_report_s_value(target, keys):
    """A line names a key only where it shows that key's value, and no component's `its`."""
    program = xbarc.compile(text_model(POOLED), target, overrides=keys)
    known = {}
    for row in program.report["layers"]:
        known |= {f"layers.{row['name']}.{key}": value for key, value in flatten(row)}
    parts = program.report["components"].items()
    prices = {f"components.{name}.energy_pj": part["energy_pj"] for name, part in parts}
    figures = [*all_of(explain(program, "energy_uj"))]
    for figure in figures:
        assert figure.value == prices.get(figure.key, figure.value), figure.key
    layers = [figure for figure in figures if figure.key.startswith("layers.")]
    assert "layers.Conv.adc_conversions" in {figure.key for figure in layers}
    for figure in layers:
        assert figure.key in known, figure.key
        assert figure.value == pytest.approx(known[figure.key]), figure.key


def test_actions_are_named_by_what_they_are():
    """Reads and writes of a buffer, and values of a pooling unit, under their own keys."""
    program = xbarc.compile(text_model(POOLED), "mca128", overrides=["core.dacs=256"])

    def below(name):
        figure = explain(program, f"layers.Conv.energy_pj.{name}").parts[0]
        check(figure)
        return [part.key for part in figure.parts] or [figure.key]

    layer = "layers.Conv"
    assert below("buffer") == [f"{layer}.buffer_read_bits", f"{layer}.buffer_write_bits"]
    assert below("pooling") == [f"{layer}.digital.pooling"]
    assert below("activation") == [f"{layer}.digital.activation"]
    assert below("crossbar") == [f"{layer}.cell_reads", "cells of a crossbar"]
    assert below("dac") == [f"{layer}.row_pulses", "of rows that share a DAC, one"]
    assert f"{layer}.shift_adds" in below("shift_add")
    assert explain(program, f"{layer}.energy_pj.dac").parts[0].parts[1].value == 256 / (8 * 128)


@pytest.mark.parametrize("key", ["programming_energy_uj", "read_power_w"])
def test_programming_and_power_unfold(program, key):
    figure = explain(program, key)
    assert len(figure.parts) == 2
    check(figure)


def test_what_is_suggested_is_taken():
    program = xbarc.compile(text_model(NET), "mca64")
    with pytest.raises(UsageError) as error:
        explain(program, "layers.Conv.energy_pj")
    for suggested in re.findall(r"'(.*?)'", str(error.value)):
        assert explain(program, suggested).parts


def test_a_stream_s_energy_by_its_leaves():
    """Conversions of both layers times ISAAC's 1.667 pJ, and its source beside it."""
    program = xbarc.compile(text_model(NET), "mca128", overrides=["inputs.signed=two-pass"])
    figure = explain(program, "energy_uj.adc")
    names = [leaf.key for leaf in leaves(figure)]
    assert names == [
        "layers.Conv.adc_conversions",
        "components.adc.energy_pj",
        "layers.Conv_1.adc_conversions",
        "components.adc.energy_pj",
    ]
    first, price, second, _ = (leaf.value for leaf in leaves(figure))
    assert figure.value == pytest.approx((first + second) * price * 1e-6)
    # 64 vectors of signed inputs in 16 slices; 8 columns of 8 cells.
    assert leaves(figure)[0].how == "64 vectors x 16 input slices x 64 bit lines"
    assert leaves(figure)[1].source.startswith("ISAAC: 8 ADCs")


def test_what_is_counted_is_said_component_by_component(program):
    layer = program.report["layers"][0]
    for name, energy in layer["energy_pj"].items():
        if name == "leakage" or not energy:
            continue
        count = leaves(explain(program, f"layers.{layer['name']}.energy_pj.{name}"))[0]
        if name == "adc":
            factors = re.fullmatch(
                r"(\d+) vectors x (\d+) input slices x (\d+) bit lines", count.how
            )
            assert math.prod(map(int, factors.groups())) == count.value
        else:
            assert "bit lines" not in count.how


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("energy_uj.add", "did you mean 'energy_uj.adc'"),
        ("layers.Conw.latency_ns", "no such layer"),
        ("layers.Conv.latency", "did you mean 'layers.Conv.latency_ns'"),
        ("layers.Conv.energy_pj", "did you mean 'layers.Conv.energy_pj."),
        ("schedule", "--explain schedule"),
    ],
)
def test_what_is_no_figure(key, message):
    with pytest.raises(UsageError, match=message):
        explain(xbarc.compile(text_model(NET), "mca64"), key)


def test_it_is_printed(tmp_path):
    program = xbarc.compile(text_model(NET), "mca64")
    program.save(tmp_path / "m.xbar")
    command = ["cost", str(tmp_path / "m.xbar"), "--explain", "totals.power_w"]
    said = CliRunner().invoke(app, command).output.splitlines()
    assert said[0].startswith("power_w: ") and said[0].endswith("energy / time, in uJ / us")
    assert any("components.adc.energy_pj" in line and "[ISAAC" in line for line in said)
    document = json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout)
    assert document == explain(program, "power_w").document()


def test_the_rate_of_a_converter_is_its_models_where_that_is_less():
    text = "g (float[N,8] x) => (float[N,2] y) <float[8,2] w> { y = MatMul(x, w) }"
    program = xbarc.compile(text_model(text), "neurram")
    (name,) = (row["name"] for row in program.report["layers"])
    found = explain(program, f"layers.{name}.crossbar_ns")
    (rate,) = (leaf for leaf in leaves(found) if leaf.key == "adc.rate_gsps")
    assert "integrations" in rate.source
