"""Keys that have no effect on a target are refused, with the key that rules."""

import pytest
from models import text_model
from reference import make_target
from typer.testing import CliRunner

import xbarc
from xbarc.cli import app
from xbarc.hw.target import dump_target, load_target, parse_target, target_names
from xbarc.hw.target.ruled import RULES
from xbarc.support.errors import UsageError, XbarcError

DENSE = "g (float[N,8] x) => (float[N,2] y) <float[8,2] w> { y = MatMul(x, w) }"


@pytest.mark.parametrize(
    ("target", "key", "ruling"),
    [
        ("isaac", "array.columns_per_adc=64", "core.adcs"),
        ("isaac", "adc.bits=1", 'adc.mode = "lossless"'),
        ("isaac", "adc.percentile=99", "adc.mode"),
        ("mca128", "adc.flipped=true", "adc.mode"),
        ("mca128", "adc.price=as-configured", "adc.mode"),
        ("mca128", "core.buffer_kb=32", "core.buffers"),
        ("puma", "node.buffer_kb=32", "node.buffers"),
        ("puma", "node.bus_bits=32", "node.buses"),
        ("puma", "node.register_bytes=32", "node.registers"),
        ("puma", "core.input_register_bytes=1", "there are none"),
        ("mca128", "chip.buffer_kb=32", "chip.buffers"),
        ("mca128", "device.programmings_per_day=10", "it needs device.endurance"),
    ],
)
def test_a_key_without_effect_is_refused(target, key, ruling):
    with pytest.raises(UsageError) as error:
        load_target(target, [key])
    name = key.partition("=")[0]
    assert f"--set: {name} = " in str(error.value) and "no effect" in str(error.value)
    assert ruling in str(error.value)


def test_what_is_in_force_may_be_said():
    assert load_target("isaac", ["adc.bits=8", "array.columns_per_adc=128"]) is not None


def test_with_what_it_needs_a_key_has_effect():
    assert load_target("isaac", ["adc.mode=saturate", "adc.bits=6"]).converter_bits() == 6
    priced = load_target("isaac", ["adc.price=as-configured", "adc.bits=6"])
    assert priced.converter_bits() == 6
    assert load_target("mca128", ["array.columns_per_adc=64"]).columns_per_adc() == 64
    written = ["device.endurance=1e6", "device.programmings_per_day=10"]
    assert load_target("mca128", written).device.programmings_per_day == 10
    assert load_target("mca128", ["device.cell=pcm", written[1]]).device.endurance == 1e9


def test_a_converter_of_an_odd_number_of_columns_converts_a_pair_more():
    analog = load_target("mca128", ["adc.subtract=analog", "core.adcs=205"])
    assert analog.columns_per_adc() == 5  # 8 crossbars of 128 columns
    assert analog.conversions_per_adc() == 3
    assert load_target("mca128", ["core.adcs=205"]).conversions_per_adc() == 5


def test_a_base_is_not_blamed():
    """What the base said falls back to the default, and the whole text reads back."""
    found = load_target("mca256", ["core.adcs=16", "adc.mode=lossless"])
    assert found.array.columns_per_adc == 128  # the default; 256 in mca256
    assert found.columns_per_adc() == 8 * 256 // 16
    assert parse_target(dump_target(found), "a program") == found


@pytest.mark.parametrize("name", target_names())
def test_own_targets_say_nothing_without_effect(name, tmp_path):
    path = tmp_path / "whole.toml"
    path.write_text(dump_target(load_target(name)))
    assert load_target(path) == load_target(name)


def test_in_a_file(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('base = "isaac"\n[adc]\nbits = 4\n')
    with pytest.raises(XbarcError, match=r"mine.toml: adc.bits = 4 has no effect: 8 is in force"):
        load_target(path)


def test_a_choice_that_makes_no_difference_here_is_taken():
    """Another key brings it out: docs/cost.md, No silent key."""
    ways = ("amplitude", "pulses", "bit-pulses")
    for bits, times in ((1, (1, 1, 1)), (2, (1, 3, 2))):
        keys = [f"inputs.dac_bits={bits}", "device.read_pulse_ns=1"]
        found = (load_target("mca128", [*keys, f"inputs.coding={way}"]) for way in ways)
        assert tuple(target.read_ns() for target in found) == times
    load_target("mca128", ["technology.gating=power"])
    load_target("mca128", ["technology.scaling=stillmaker-baas"])


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.key)
def test_rules_name_keys_that_there_are(rule):
    table, _, key = rule.key.partition(".")
    assert hasattr(getattr(make_target(), table), key)


@pytest.mark.parametrize(
    ("target", "keys", "message"),
    [
        ("mca128", ["core.dacs=1"], "core.dacs = 1 can't drive the 128 rows of an array"),
        ("mca128", ["core.dacs=127"], "core.dacs = 127 can't drive the 128 rows of an array"),
        ("puma", ["core.dacs=64"], "core.dacs = 64 can't drive the 128 rows of an array"),
        ("mca128", ["core.sample_holds=1"], "core.sample_holds = 1 can't hold the 128 values"),
        (
            "mca128",
            ["core.sample_holds=63", "adc.subtract=analog"],
            "core.sample_holds = 63 can't hold the 64 values",
        ),
    ],
)
def test_what_cannot_serve_an_array_in_one_read_is_refused(target, keys, message):
    with pytest.raises(UsageError) as error:
        load_target(target, keys)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "keys",
    [
        ["core.dacs=128"],
        ["core.dacs=0"],
        ["core.sample_holds=128"],
        ["core.sample_holds=0"],
        ["core.sample_holds=64", "adc.subtract=analog"],
        ["core.sample_holds=1", "core.cycle=sequential"],
    ],
)
def test_what_serves_an_array_is_taken(keys):
    assert load_target("mca128", keys) is not None


@pytest.mark.parametrize(
    ("target", "key", "message"),
    [
        ("puma", "adc.rate_gsps=5", "cost.adc rules, whose converter makes 1.28 GS/s"),
        ("puma", "cost.buffer.model=isaac", "the target has no buffer"),
        ("isaac", "cost.vector_unit.model=puma", "the target has no vector_unit"),
        ("mnsim", "cost.dac.options.bits=2", "no effect: cost.dac has constants, no model"),
    ],
)
def test_components_rule_too(target, key, message):
    with pytest.raises(UsageError, match=message):
        xbarc.compile(text_model(DENSE), target, overrides=[key])


@pytest.mark.parametrize(
    ("target", "key", "message"),
    [
        ("neurram", "cost.adc.options.phase_bit=2", "did you mean 'phase_bits'?"),
        ("neurram", "cost.dac.options.phase_bits=2", "known: none"),
        ("mnsim", "cost.crossbar.options.cell_area=80", "did you mean 'cell_area_f2'?"),
        ("neurosim22", "cost.adc.options.activ_rows=64", "did you mean 'active_rows'?"),
        ("isaac", "cost.adc.options.active_rows=64", "known: none"),
    ],
)
def test_options_that_a_model_does_not_take_are_refused(target, key, message):
    with pytest.raises(UsageError) as error:
        xbarc.compile(text_model(DENSE), target, overrides=[key])
    assert f"unknown key {key.partition('=')[0]}: {message}" in str(error.value)


def test_a_component_has_no_time_beside_its_rate():
    """Times follow from rates: a latency of a component would change nothing."""
    with pytest.raises(UsageError) as error:
        xbarc.compile(text_model(DENSE), "mnsim", overrides=["cost.shift_add.latency_ns=5000"])
    assert "cost.shift_add has no key 'latency_ns': known: area_um2" in str(error.value)
    assert "\n" not in str(error.value)


def test_options_of_a_file(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('base = "neurram"\n[cost.adc]\noptions.phase_bit = 2\n')
    with pytest.raises(UsageError, match=r"cost.adc.options.phase_bit: did you mean 'phase_bits'"):
        xbarc.compile(text_model(DENSE), path)


def test_it_is_said_before_anything_is_done(tmp_path):
    command = ["compile", "absent.onnx", "--target", "isaac", "--set", "adc.bits=1"]
    done = CliRunner().invoke(app, [*command, "-o", str(tmp_path / "m.xbar")])
    assert isinstance(done.exception, UsageError)
    assert "adc.bits = 1 has no effect" in str(done.exception)
