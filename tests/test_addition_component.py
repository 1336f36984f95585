"""A kind of component that a plug-in brings: one file, and a table of its own in the target."""

import json
import subprocess
import sys

import pytest
from models import text_model
from typer.testing import CliRunner

import xbarc
from xbarc.cli.app import app
from xbarc.cost.components import load_kinds
from xbarc.cost.rollup import document
from xbarc.driver import extensions
from xbarc.hw.target import load_target, target_text
from xbarc.report import report_page
from xbarc.support import plugins
from xbarc.support.errors import UsageError, XbarcError

THERMOMETER = '''
"""Thermometers of a core, two of them, which are read after each conversion."""

from xbarc.cost.components import Component, ComponentKind, Role


def bandgap(spec):
    """A bandgap reference that grows with the bits of its reading."""
    bits = spec.option("bits")
    return Component(area_um2=100.0 * bits, energy_pj=0.25 * bits, source="our own chip")


KIND = ComponentKind(
    "thermometer",
    (
        Role(
            "thermometer",
            counts={"core": lambda target: 2},
            actions=lambda layer, target: layer.adc_conversions,
        ),
    ),
    {"bandgap": bandgap},
)
'''

TABLE = """
[cost.thermometer]
model = "bandgap"
options.bits = 4
"""

CONSTANTS = (
    "cost.thermometer.area_um2=400",
    "cost.thermometer.energy_pj=1.0",
    "cost.thermometer.source=mine",
)

POOLER = """
from xbarc.cost.components import Component, ComponentKind, Role

KIND = ComponentKind(
    "pooler",
    (Role("pooler", {"chip": lambda target: 1}, operations=("pooling", "other")),),
    {"free": lambda spec: Component(1.0, 2.0, source="mine")},
)
"""

MODEL = """g (float[N,3,8,8] x) => (float[N,10] y)
<float[4,3,3,3] w1, float[10,64] w2> {
  c = Conv<pads=[1,1,1,1]>(x, w1) r = Relu(c) p = MaxPool<kernel_shape=[2,2], strides=[2,2]>(r)
  f = Flatten(p) y = Gemm<transB=1>(f, w2)
}"""


@pytest.fixture
def plugin(tmp_path):
    path = tmp_path / "thermometer.py"
    path.write_text(THERMOMETER)
    return path


@pytest.fixture
def target(tmp_path):
    """mca128 with the plug-in's table."""
    path = tmp_path / "warm.toml"
    path.write_text(target_text("mca128") + TABLE)
    return path


def compiled(target="mca128", **settings):
    return xbarc.compile(text_model(MODEL), target, **settings)


def test_it_is_in_area_and_energy(plugin, target):
    report = compiled(target, plugins=[plugin]).report
    for row in report["layers"]:
        assert row["energy_pj"]["thermometer"] == row["adc_conversions"] * 1.0
    totals = report["totals"]
    assert totals["energy_uj"]["thermometer"] == pytest.approx(totals["adc_conversions"] * 1e-6)
    assert totals["area_mm2"]["thermometer"] == pytest.approx(totals["cores"] * 2 * 400e-6)
    for split in ("energy_uj", "area_mm2"):
        *parts, whole = totals[split].values()
        assert list(totals[split])[-1] == "total"
        assert whole == pytest.approx(sum(parts))
    listed = list(report["components"])
    assert listed[-1] == "thermometer"
    assert report["components"]["thermometer"]["source"] == "our own chip"


def test_it_changes_nothing_else(plugin, target):
    without, program = compiled(), compiled(target, plugins=[plugin])
    assert str(program.module) == str(without.module)
    report, plain = program.report, without.report
    del report["components"]["thermometer"]
    for row in report["layers"]:
        del row["energy_pj"]["thermometer"]
    for split in ("energy_uj", "area_mm2"):
        added = report["totals"][split].pop("thermometer")
        whole = report["totals"][split].pop("total") - added
        assert whole == pytest.approx(plain["totals"][split].pop("total"))
    whole_of = (
        "power_w",
        "chip_area_mm2",
        *(k for k in plain["totals"] if k.startswith(("peri", "read", "tops", "energy_per"))),
        *("modes", "peak", "leakage_not_modelled"),
    )
    for key in whole_of:
        report["totals"].pop(key), plain["totals"].pop(key)
    assert report.pop("caveats") and plain.pop("caveats")
    assert report == plain


WRONG = {
    "no component": ("return 4.0", "gave 4.0, not a Component"),
    "an exception": ("return 1 / 0", "failed: ZeroDivisionError at thermometer.py:"),
    "negative energy": (
        'return Component(1.0, -0.5, source="mine")',
        "gave energy_pj = -0.5: a finite number",
    ),
    "not finite": (
        'return Component(1.0, 1.0, rate_gps=float("inf"), source="mine")',
        "gave rate_gps = inf",
    ),
    "a text": ('return Component("1", 1.0, source="mine")', "gave area_um2 = '1'"),
    "no area": ('return Component(None, 1.0, source="mine")', "gave area_um2 = None"),
    "no source": ("return Component(1.0, 1.0)", "gave no source: say where"),
    "an empty source": ('return Component(1.0, 1.0, source=" ")', "gave no source"),
}


@pytest.mark.parametrize(("wrong", "said"), WRONG.values(), ids=WRONG)
def test_a_faulty_model_is_one_line(plugin, target, wrong, said):
    plugin.write_text(THERMOMETER.replace("    bits = spec", f"    {wrong}\n    bits = spec"))
    with pytest.raises(XbarcError) as caught:
        compiled(target, plugins=[plugin])
    (line,) = caught.value.causes
    assert line.startswith(f"component model 'thermometer.bandgap' of {plugin} ") and said in line


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("lambda target: 2", "lambda target: -1", "counts gave -1: a finite number, 0 at least"),
        ("lambda target: 2", "lambda target: target.x", "counts failed: AttributeError at"),
        ("layer.adc_conversions", "layer.adc_conversion", "actions failed: AttributeError at"),
        ("layer.adc_conversions", "None", "actions gave None"),
        (
            "layer.adc_conversions,",
            "1, adapted=lambda unit, target: None,",
            "adapted gave None, not a Component",
        ),
    ],
)
def test_a_faulty_kind_is_one_line(plugin, target, right, wrong, said):
    plugin.write_text(THERMOMETER.replace(right, wrong))
    with pytest.raises(XbarcError) as caught:
        compiled(target, plugins=[plugin])
    (line,) = caught.value.causes
    assert line.startswith(f"component 'thermometer' of {plugin}: ") and said in line


def test_a_target_without_its_table_has_none(plugin):
    assert compiled(plugins=[plugin]).report == compiled().report


def test_set_its_table(plugin):
    report = compiled(overrides=CONSTANTS, plugins=[plugin]).report
    assert report["components"]["thermometer"]["model"] == "constant"
    assert report["components"]["thermometer"]["area_um2"] == 400
    with pytest.raises(UsageError, match="cost.thermometer has no key 'area': did you mean"):
        load_target("mca128", ["cost.thermometer.area=3"])


def test_nobody_claims_its_table(target):
    with pytest.raises(UsageError, match=r"target 'mca128': unknown key cost.thermometer: known"):
        xbarc.compile("there/is/none.onnx", target)


def test_a_table_misspelt(plugin, tmp_path):
    path = tmp_path / "warm.toml"
    path.write_text(target_text("mca128") + TABLE.replace("thermometer", "termometer"))
    message = "unknown key cost.termometer: did you mean 'thermometer'"
    with pytest.raises(UsageError, match=message):
        xbarc.compile("there/is/none.onnx", path, plugins=[plugin])


def test_a_program_is_run_and_shown_without_the_plugin(plugin, target, tmp_path):
    compiled(target, plugins=[plugin]).save(tmp_path / "warm.xbar")
    program = xbarc.load(tmp_path / "warm.xbar")
    table = program.target.cost["thermometer"]
    assert (table.model, table.area_um2, table.options) == ("constant", 400, {"bits": 4})
    assert program.cost()["components"]["thermometer"]["energy_pj"] == 1.0
    assert "thermometer" in str(report_page(program, tmp_path / "warm.xbar", []))
    # A figure unfolds with it alone.
    words = ["cost", str(tmp_path / "warm.xbar"), "--explain", "energy_uj.thermometer"]
    shown = CliRunner().invoke(app, [*words, "--plugin", str(plugin)])
    assert shown.exit_code == 0 and "actions x energy of one" in shown.stdout
    assert "needs --plugin" in str(CliRunner().invoke(app, words).exception)
    # New weights cost anew, and only the plug-in knows when its component acts.
    other = text_model(MODEL, seed=1)
    with pytest.raises(UsageError, match="unknown key cost.thermometer"):
        program.update_weights(other)
    again = program.update_weights(other, plugins=[plugin])
    energy = [p.cost()["totals"]["energy_uj"]["thermometer"] for p in (program, again)]
    assert energy[0] == energy[1]


def test_sources(plugin, target):
    def run(*arguments):
        code = "from xbarc.cli import main; main()"
        command = [sys.executable, "-c", code, "targets", str(target), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    found = json.loads(run("--plugin", str(plugin), "--json", "--sources").stdout)
    assert {"key": "cost.thermometer.area_um2", "value": 400, "source": "our own chip"} in found[
        "constants"
    ]
    assert "cost.thermometer.area_um2" in run("--plugin", str(plugin), "--sources").stdout
    for arguments in ([], ["--sources"]):
        wrong = run(*arguments)
        assert (wrong.returncode, wrong.stdout) == (2, "")
        assert "unknown key cost.thermometer" in wrong.stderr


def test_it_adds_to_its_core(plugin, target):
    with extensions.using([plugin]):
        warm = document(load_target(target))["roll_up"]
    plain = document(load_target("mca128"))["roll_up"]
    assert warm["core"]["area_mm2"] == pytest.approx(plain["core"]["area_mm2"] + 2 * 400e-6)


def test_a_unit_for_digital_operations(tmp_path):
    """It does what no unit does that is for less: not pooling."""
    path = tmp_path / "pooler.py"
    path.write_text(POOLER)

    def energy(target, **more):
        found = compiled(target, overrides=["cost.pooler.model=free"], plugins=[path], **more)
        return found.report["totals"]["energy_uj"]

    assert energy("mca128")["pooler"] == 0
    values = 4 * 8 * 8
    assert energy("puma")["pooler"] == pytest.approx(2.0 * values * 1e-6)


def test_entry_point(monkeypatch, plugin):
    monkeypatch.syspath_prepend(plugin.parent)
    point = plugins.EntryPoint("thermometer", "thermometer:KIND", "xbarc.components")
    monkeypatch.setattr(plugins, "entry_points", lambda group: [point])
    kinds = load_kinds()
    assert "thermometer.bandgap" in kinds.models.names
    assert "thermometer:KIND" in kinds.roles.owner("thermometer")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            'Role(\n            "thermometer"',
            'Role(\n            "adc"',
            "'adc' is defined twice: by xbarc",
        ),
        (
            'Kind(\n    "thermometer"',
            'Kind(\n    "adc"',
            "'adc.constant' is defined twice: by xbarc",
        ),
        ('"core":', '"corn":', r"thermometer: counts are by core, node, chip, not by \['corn'\]"),
        ("actions=", 'operations=("melting",), actions=', r"not \['melting'\]"),
    ],
)
def test_declared_wrong(plugin, old, new, message):
    plugin.write_text(THERMOMETER.replace(old, new))
    assert plugin.read_text() != THERMOMETER
    with pytest.raises(XbarcError, match=message):
        compiled(plugins=[plugin])


RAMP = '''
from xbarc.cost.components import Component, ComponentModel

def ramp(spec):
    """2^b clocks a conversion."""
    return Component(100, 0.002 * 2**spec.target.adc.bits, rate_gps=1.0, source="our own")

MODEL = ComponentModel("adc", "ramp", ramp)
'''


def test_a_models_figures_are_of_one_width(tmp_path):
    file = tmp_path / "ramp.py"
    file.write_text(RAMP)
    sets = ["cost.adc.model=ramp"]
    compiled = [
        xbarc.compile(text_model(MODEL), "mca128", overrides=[*sets, *more], plugins=[file])
        for more in ([], ["adc.bits=4"])
    ]
    totals = [program.report["totals"] for program in compiled]
    adc = [each["energy_uj"]["adc"] / each["adc_conversions"] for each in totals]
    assert adc[1] == pytest.approx(adc[0] / 16)
    with pytest.raises(UsageError, match="plug-in's model, which is costed at one width"):
        xbarc.compile(
            text_model(MODEL), "mca128", overrides=[*sets, "layers.*.adc.bits=4"], plugins=[file]
        )
