"""Widths and mappings of some layers: `layers."conv1".adc.bits`, and `layers=` in Python."""

import numpy as np
import pytest
from models import text_model

import xbarc
from xbarc.cost.components import components
from xbarc.cost.explain import explain
from xbarc.hw.target import dump_target, load_target, parse_target
from xbarc.support.errors import UsageError, XbarcError

NET = """g (float[N,40] x) => (float[N,6] y) <float[40,30] a, float[30,20] b, float[20,6] c>
{ p = MatMul(x, a) q = Relu(p) r = MatMul(q, b) s = Relu(r) y = MatMul(s, c) }"""
NAMES = ("MatMul", "MatMul_1", "MatMul_2")


def compiled(*overrides, target="mca64"):
    x = np.abs(np.random.default_rng(0).standard_normal((4, 40))).astype(np.float32)
    return xbarc.compile(text_model(NET), target, overrides=overrides, calibration=x), x


def energies(program):
    return {row["name"]: row["energy_pj"]["adc"] for row in program.report["layers"]}


@pytest.mark.parametrize(
    ("key", "names"),
    [
        ("layers.MatMul_1.adc.bits=5", ["MatMul_1"]),
        ('layers."MatMul_1".adc.bits=5', ["MatMul_1"]),
        ('layers."MatMul_*".adc.bits=5', ["MatMul_1", "MatMul_2"]),
        ("layers.*.adc.bits=5", NAMES),
    ],
)
def test_its_conversions_cost_less(key, names):
    plain, program = compiled()[0], compiled(key)[0]
    prices = [
        components(load_target("mca64", [f"adc.bits={bits}"]))["adc"].unit.energy_pj
        for bits in (8, 5)
    ]
    was, now = energies(plain), energies(program)
    assert set(was) == set(NAMES)
    for row in program.report["layers"]:
        name = row["name"]
        assert row["adc_bits"] == (5 if name in names else 8)
        factor = prices[1] / prices[0] if name in names else 1
        assert now[name] == pytest.approx(was[name] * factor)
    # The converters are the same hardware.
    for key in ("area_mm2", "peak", "latency_us"):
        assert program.report["totals"][key] == plain.report["totals"][key]
    leaf = explain(program, f"layers.{names[0]}.energy_pj.adc").parts[1]
    assert leaf.value == pytest.approx(prices[1])


def test_it_computes_so():
    """A layer alone at 3 bits, against a program at 3 bits in all of them."""
    (plain, x), (every, _) = compiled(), compiled("adc.bits=3")
    one = compiled("layers.*.adc.bits=3")[0]
    assert np.array_equal(one.run(x)["y"], every.run(x)["y"])
    last = compiled("layers.MatMul_2.adc.bits=3")[0].run(x)["y"]
    assert not np.array_equal(last, plain.run(x)["y"])
    assert not np.array_equal(last, every.run(x)["y"])
    # With devices that err, too.
    noisy = [p.run(x, noise="read{sigma=0.01}")["y"] for p in (one, every, plain)]
    assert np.array_equal(noisy[0], noisy[1]) and not np.array_equal(noisy[0], noisy[2])


@pytest.mark.parametrize("key", ["weights.bits", "inputs.bits"])
def test_widths_by_layer(key):
    """All layers at 4 bits by name are a program at 4 bits; one layer alone is neither."""
    (plain, x), (every, _) = compiled(), compiled(f"{key}=4")
    (one, _), (last, _) = compiled(f"layers.*.{key}=4"), compiled(f"layers.MatMul_2.{key}=4")
    assert np.array_equal(one.run(x)["y"], every.run(x)["y"])
    assert not np.array_equal(last.run(x)["y"], plain.run(x)["y"])
    assert not np.array_equal(last.run(x)["y"], every.run(x)["y"])
    # The others stay as they were, to the last bit and picojoule.
    assert all(
        np.array_equal(last.weights[name], plain.weights[name]) for name in ("MatMul", "MatMul_1")
    )
    was, now, all_of_them = energies(plain), energies(last), energies(every)
    assert now == {**was, "MatMul_2": pytest.approx(all_of_them["MatMul_2"])}
    assert now["MatMul_2"] < was["MatMul_2"]
    assert one.report["totals"]["crossbars"] == every.report["totals"]["crossbars"]


@pytest.mark.parametrize("options", [{"ranges": "least-squares"}, {"equalize": True}])
def test_what_is_fitted_goes_by_the_widths_of_the_layer(options):
    """All layers at 3 bits by name get the ranges and factors of a program at 3 bits."""
    x = np.random.default_rng(0).standard_normal((64, 40)).astype(np.float32) ** 3
    x *= np.geomspace(1, 30, 40, dtype=np.float32)

    def fitted(*overrides):
        given = {"rounding": "nearest", "bias_correction": False, "equalize": False, **options}
        program = xbarc.compile(
            text_model(NET), "mca64", overrides=overrides, calibration=x, **given
        )
        return program.run(x)["y"]

    keys = ("inputs.bits=3", "weights.bits=3")
    every, named = fitted(*keys), fitted(*(f"layers.*.{key}" for key in keys))
    assert np.array_equal(named, every)
    last = fitted(*(f"layers.MatMul_2.{key}" for key in keys))
    assert not np.array_equal(last, every)


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ('layers."lay,er{1}"q"".adc.bits=5', 'lay,er{1}"q"'),
        ("layers.'it''.adc.bits=5", "it'"),
        ('layers."a=b".adc.bits=5', "a=b"),
        ("layers.a.b/c.adc.bits=5", "a.b/c"),
    ],
)
def test_any_name_can_be_given(key, name):
    """As `trace` and `compile` suggest them: one pair of quotes around it, whatever is inside."""
    assert load_target("mca64", [key]).for_layer(name).adc.bits == 5


def test_layers_in_python():
    x = compiled()[1]
    program = xbarc.compile(
        text_model(NET),
        "mca64",
        calibration=x,
        layers={
            "MatMul_?": {"weights.bits": 4, "mapping": "kernel-first"},
            "MatMul_2": {"weights.bits": 6, "mapping": "im2col"},
        },
    )
    rows = {row["name"]: row["mapping"] for row in program.report["layers"]}
    assert rows == {"MatMul": "im2col", "MatMul_1": "kernel-first", "MatMul_2": "im2col"}
    bits = {name: program.inspect(name)["layers"][0]["weight_bits"] for name in NAMES}
    assert bits == {"MatMul": 8, "MatMul_1": 4, "MatMul_2": 6}
    assert program.target.name.startswith("mca64 + layers.")
    by_text = xbarc.compile(
        text_model(NET),
        "mca64",
        passes="kernel-first{layers=MatMul_1}",
        overrides=["layers.MatMul_?.weights.bits=4", "layers.MatMul_2.weights.bits=6"],
        calibration=x,
    )
    assert np.array_equal(program.run(x)["y"], by_text.run(x)["y"])


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ({"MatMul": {"mapping": "fold-batchnorm"}}, "'fold-batchnorm' of 'MatMul' is no mapping"),
        ({"MatMul": {"mapping": "im2col,deconv"}}, "is no mapping"),
        ({"MatMul": {"mapping": "im2col{layers=MatMul_1}"}}, "names layers itself"),
        ({"MatMul": {"adc.bit": 4}}, "has no key 'bit': did you mean 'bits'"),
        ({"MatMul": 4}, "settings by name"),
        ({"MatMul": {}}, "settings by name"),
        ([1], "settings by name or pattern"),
        ({"Matmul": {"mapping": "im2col"}}, "no unmapped layer 'Matmul': did you mean 'MatMul'"),
        ({"conv*": {"weights.bits": 4}}, "no such layer"),
    ],
)
def test_layers_refused(layers, message):
    x = np.ones((1, 40), np.float32)
    with pytest.raises(XbarcError, match=message):
        xbarc.compile(text_model(NET), "mca64", calibration=x, layers=layers)


def test_of_several_the_last_holds():
    target = load_target("mca64", ["layers.conv*.adc.bits=6", "layers.conv1.adc.bits=4"])
    assert target.for_layer("conv1").adc.bits == 4
    assert target.for_layer("conv2").adc.bits == 6
    assert target.for_layer("fc") is target
    # Key by key; and what is said in a call comes after what the file says.
    target = load_target("mca64", ["layers.conv1.weights.bits=4", "layers.conv*.adc.bits=6"])
    assert target.for_layer("conv1").weights.bits == 4
    assert target.for_layer("conv1").adc.bits == 6


def test_of_several_mappings_the_last_holds():
    x = compiled()[1]

    def mapped(layers):
        program = xbarc.compile(text_model(NET), "mca64", layers=layers, calibration=x)
        return {row["name"]: row["mapping"] for row in program.report["layers"]}

    first, every = {"MatMul": {"mapping": "kernel-first"}}, {"*": {"mapping": "im2col"}}
    assert set(mapped({**first, **every}).values()) == {"im2col"}
    assert mapped({**every, **first})["MatMul"] == "kernel-first"


QUANTISED = """g (float[N,8] x) => (float[N,4] y)
<float s, uint8 z, float t, int8 w, int8 u> {
  q = QuantizeLinear(x, s, z) a = DequantizeLinear(q, s, z)
  b = DequantizeLinear(w, t, u) m = MatMul(a, b) r = Relu(m) y = MatMul(r, v) }"""


def quantised(*, by_row=False):
    """A layer of the model's own 8-bit integers, and one behind it that has none."""
    text = QUANTISED.replace("int8 w", "int8[8,4] w").replace("int8 u>", "int8 u, float[4,4] v>")
    t = np.array(0.01, np.float32)
    if by_row:
        text = text.replace("float t", "float[8] t").replace("int8 u,", "int8[8] u,")
        text = text.replace("DequantizeLinear(w", "DequantizeLinear<axis=0>(w")
        t = np.arange(1, 9, dtype=np.float32) / 100
    zeros = {"z": np.array(128, np.uint8), "u": np.zeros(t.shape, np.int8)}
    w = np.arange(32, dtype=np.int8).reshape(8, 4)
    return text_model(text, w=w, s=np.array(0.02, np.float32), t=t, **zeros)


@pytest.mark.parametrize("part", ["inputs", "weights"])
def test_widths_that_a_models_integers_rule_are_refused(part):
    with pytest.raises(UsageError, match="has integers of its own there"):
        xbarc.compile(quantised(), "mca64", overrides=[f"layers.MatMul.{part}.bits=4"])
    # A pattern that also means another layer says something.
    xbarc.compile(quantised(), "mca64", overrides=[f"layers.*.{part}.bits=4"])


def test_integers_that_are_quantised_anew_have_the_layers_width():
    """Scales by row can't leave the sum: such a matrix isn't the model's own any more."""
    model = quantised(by_row=True)
    program = xbarc.compile(model, "mca64", overrides=["layers.MatMul.weights.bits=4"])
    assert program.inspect("MatMul")["layers"][0]["weight_bits"] == 4


def test_the_peak_says_that_it_is_at_other_widths():
    """A key that the model's own integers don't heed moves the peak alone."""

    def said(*keys):
        report = xbarc.compile(quantised(), "mca64", overrides=keys).report
        return [c["text"] for c in report["caveats"] if "peak.tops" in c["of"]]

    assert said() == []
    assert said("weights.bits=4") == [
        "The peak is at weights of 4 bits (weights.bits); layers have 4 and 8"
    ]
    assert said("layers.MatMul_1.inputs.bits=6") == [
        "The peak is at inputs of 8 bits (inputs.bits); layers have 6 and 8"
    ]


def test_over_those_of_a_base(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(
        'base = "mca64"\n[layers.conv1]\nadc.bits = 4\nweights.bits = 5\n'
        '[layers."*"]\nadc.bits = 6\n'
    )
    assert load_target(path).for_layer("conv1").adc.bits == 6
    target = load_target(path, ["layers.conv1.adc.bits=3"])
    assert target.for_layer("conv1").adc.bits == 3
    assert target.for_layer("conv1").weights.bits == 5


@pytest.mark.parametrize("name", ["conv[1]", "a=b", "a.b/c d"])
def test_odd_names(name):
    target = load_target("mca64", [f'layers."{name}".adc.bits=6'])
    assert target.for_layer(name).adc.bits == 6
    assert parse_target(dump_target(target), "a program") == target


def test_the_target_reads_back():
    target = load_target("mca64", ['layers."a.b/c*".adc.bits=6'])
    assert list(target.layers) == ["a.b/c*"]
    assert parse_target(dump_target(target), "a program") == target


def test_in_a_file(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('base = "mca64"\n[layers."conv*".adc]\nbits = 6\n')
    assert load_target(path).for_layer("conv7").adc.bits == 6


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["layers.a.adc.bits=9"], r'layers."a".adc.bits = 9: the converters have adc.bits = 8'),
        (["layers.a.adc.bits=5", "adc.mode=lossless"], 'adc.mode = "lossless" rules'),
        (["layers.a.adc.bit=5"], "has no key 'bit'"),
        (["layers.a.core.adcs=5"], "has no key 'core'"),
        (["layers.a.weights.bits=1"], "weights.bits"),
        (["layers.a=5"], "layers"),
    ],
)
def test_refused(overrides, message):
    with pytest.raises(UsageError, match=message):
        load_target("mca64", overrides)


def test_a_layer_that_there_is_not():
    with pytest.raises(XbarcError, match='layers."MatMul_9": no such layer: did you mean'):
        compiled("layers.MatMul_9.adc.bits=5")
