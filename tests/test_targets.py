"""Target files: all load, all say their sources, every key can be overridden."""

import json
import subprocess
import sys

import pytest

from xbarc.cost.components import components
from xbarc.cost.rollup import constants, document
from xbarc.hw.target import (
    CONSTANTS,
    described,
    dump_target,
    load_target,
    parse_target,
    target_names,
    target_text,
)
from xbarc.support.errors import UsageError, XbarcError

OWN = ["isaac", "mca128", "mca256", "mca512", "mca64", "mnsim", "neurosim22", "neurram", "puma"]

OLD = """
name = "old"
array = { rows = 128, cols = 128, cell_bits = 2 }
core = { crossbars = 4, adcs = 2, shift_adds = 1 }
node = { cores = 3 }
chip = { nodes = 5 }

[device]
g_on_us = 750.0
g_off_us = 50.0
read_voltage_v = 0.2
read_pulse_ns = 1.0
write_voltage_v = 2.0
write_pulse_ns = 40.0

[cost]
adc = { area_um2 = 1.0, energy_pj = 1.0, source = "s" }
dac = { area_um2 = 1.0, energy_pj = 1.0, source = "s" }
crossbar = { area_um2 = 1.0, energy_pj = 1.0, source = "s" }
sample_hold = { area_um2 = 1.0, energy_pj = 1.0, source = "s" }
shift_add = { area_um2 = 1.0, energy_pj = 1.0, source = "s" }
input_register = { area_um2 = 1.0, energy_pj = 1.0, source = "s" }
output_register = { area_um2 = 1.0, energy_pj = 1.0, source = "s" }
"""


def test_what_there_is():
    assert set(OWN) <= set(target_names())


@pytest.mark.parametrize("name", OWN)
def test_a_target_reads_back(name):
    target = load_target(name)
    assert target.name == name
    assert target.description
    assert parse_target(dump_target(target), "again") == target


@pytest.mark.parametrize("name", OWN)
def test_every_constant_has_a_source(name):
    target = load_target(name)
    rows = constants(target, components(target))
    assert [r["key"] for r in rows if not r["source"]] == []
    keys = {row["key"] for row in rows}
    assert {"array.rows", "device.g_on_us", "core.crossbars", "chip.nodes"} <= keys
    assert {"cost.adc.energy_pj", "cost.crossbar.area_um2"} <= keys


@pytest.mark.parametrize("name", OWN)
def test_what_our_own_model_is_is_called_so(name):
    """A file that makes choices of its own says which: by the word in its sources."""
    assert "model" in target_text(name)


def test_constants_alone_are_enough():
    target = parse_target(OLD, "old")
    assert target.cost["adc"].model == "constant"
    assert target.adcs_per_core() == 2
    parts = components(target)
    assert parts["dac"].counts == parts["sample_hold"].counts == {"core": 512}
    assert not any(p.counts.get("node") or p.counts.get("chip") for p in parts.values())


def test_mesh():
    assert load_target("isaac").mesh() == (12, 14)
    assert load_target("puma").mesh() == (3, 3)
    assert load_target("mca128", ["chip.nodes=7"]).mesh() == (2, 4)
    assert load_target("mca128", ["chip.mesh=[8, 21]"]).mesh() == (8, 21)
    with pytest.raises(UsageError, match=r"mesh = \[2, 3\] has no place for chip.nodes = 168"):
        load_target("mca128", ["chip.mesh=[2, 3]"])


def test_a_component_that_is_there_needs_its_figures():
    target = parse_target(OLD.replace("cores = 3", "cores = 3, routers = 0.5"), "old")
    with pytest.raises(XbarcError, match="cost.router is missing: a node has 0.5 of it"):
        components(target)


def test_constants_beside_a_model():
    text = OLD.replace("adc = { area", 'adc = { model = "isaac", area')
    with pytest.raises(XbarcError, match=r"cost.adc: area_um2, energy_pj, source can\'t stand"):
        parse_target(text, "old")
    with pytest.raises(XbarcError, match=r'cost.adc: model = "constant" needs source'):
        parse_target(
            OLD.replace(
                'adc = { area_um2 = 1.0, energy_pj = 1.0, source = "s" }',
                "adc = { area_um2 = 1.0, energy_pj = 1.0 }",
            ),
            "old",
        )


def test_set_a_model_in_the_place_of_constants():
    target = load_target("neurram", ["cost.adc.model=murmann", "adc.rate_gsps=0.001"])
    table = target.cost["adc"]
    assert table.model == "murmann"
    assert all(getattr(table, name) is None for name in CONSTANTS)


def test_set_constants_one_by_one():
    target = load_target("neurram", ["cost.shift_add.energy_pj=5.5"])
    assert target.cost["shift_add"].energy_pj == 5.5
    assert target.cost["shift_add"].area_um2 == 170
    one_phase = ["cost.adc.options.phase_bits=16"]
    assert load_target("neurram", one_phase).cost["adc"].options["phase_bits"] == 16


def test_set_what_the_file_leaves_out():
    target = load_target(
        "neurram",
        [
            "cost.router.area_um2=1",
            "cost.router.energy_pj=0.5",
            "cost.router.source=mine",
            "node.routers=1",
        ],
    )
    assert components(target)["router"].unit.energy_pj == 0.5


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("cost.adc.modle=isaac", "cost.adc has no key 'modle': did you mean 'model'"),
        ("node.core=3", "node has no key 'core': did you mean 'cores'"),
        ("core.crossbars=0", "core.crossbars = 0"),
        ("cost.adc=5", "cost.adc is a table; name a key of it"),
        ("adc.bits.lsb=5", "'bits' is a value, not a table"),
        ("cost.adc.options.phase.bits=5", "'options' is a value, not a table"),
    ],
)
def test_wrong_overrides(override, message):
    with pytest.raises(UsageError, match=message):
        load_target("mca128", [override])


def test_a_table_that_no_component_has():
    target = load_target("mca128", ["cost.adcs.model=isaac"])
    with pytest.raises(UsageError, match="unknown key cost.adcs: did you mean 'adc'"):
        components(target)


BASE = 'base = "mca128"\n'


@pytest.fixture
def write(tmp_path):
    def write(name, text):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


@pytest.mark.parametrize("side", [64, 256, 512])
def test_the_sizes_of_mca_are_one_target(side):
    sizes = [f"array.{key}={side}" for key in ("rows", "cols", "columns_per_adc")]
    other = load_target("mca128", [*sizes, f"name=mca{side}"])
    target = load_target(f"mca{side}")
    own = {"description": target.description, "array": target.array}
    assert other.array.model_copy(update={"source": target.array.source}) == target.array
    assert other.model_copy(update=own) == target
    assert target.array.source == load_target("mca128").array.source


def test_what_a_base_gives_and_what_not(write):
    target = load_target(write("mine.toml", BASE + "core.crossbars = 4"))
    base = load_target("mca128")
    assert target.core.crossbars == 4
    assert target.core.shift_adds == base.core.shift_adds == 4
    assert target.cost == base.cost
    assert (target.name, target.description) == ("mine", "")


def test_a_model_and_constants_replace_each_other(write):
    mine = load_target(write("a.toml", 'base = "neurram"\ncost.adc.model = "murmann"'))
    assert mine.cost["adc"].model == "murmann"
    assert all(getattr(mine.cost["adc"], name) is None for name in CONSTANTS)
    mine = load_target(write("b.toml", BASE + "cost.adc = { area_um2 = 1.0, energy_pj = 2.0 }"))
    assert (mine.cost["adc"].model, mine.cost["adc"].energy_pj) == ("constant", 2.0)
    assert mine.cost["adc"].source == "area_um2, energy_pj: set in b.toml"
    again = load_target(write("c.toml", 'base = "b.toml"\ncost.adc.model = "isaac"'))
    assert again.cost["adc"] == load_target("isaac").cost["adc"]


def test_constants_of_a_base_one_by_one(write):
    neurram = load_target("neurram").cost
    text = 'base = "neurram"\ncost.shift_add.energy_pj = 5.5\ncost.adc.options.mine = 4.0'
    mine = load_target(write("mine.toml", text)).cost
    own, was = mine["shift_add"], neurram["shift_add"]
    assert (own.energy_pj, own.area_um2) == (5.5, was.area_um2)
    assert own.source == f"energy_pj: set in mine.toml; the rest: {was.source}"
    assert mine["adc"].options == {**neurram["adc"].options, "mine": 4.0}
    assert mine["adc"].model == neurram["adc"].model


def test_a_source_speaks_for_its_own_values(write):
    base = load_target("mca128")
    mine = load_target(write("mine.toml", BASE + "adc = { bits = 8, rate_gsps = 1.0 }"))
    assert mine.adc.source == f"rate_gsps: set in mine.toml; the rest: {base.adc.source}"
    assert mine.array.source == base.array.source
    same = load_target(write("same.toml", BASE + "adc = { bits = 8, rate_gsps = 1.28 }"))
    assert same.adc.source == base.adc.source
    cited = load_target(write("cited.toml", BASE + 'adc = { bits = 7, source = "ours" }'))
    assert cited.adc.source == "ours"


def test_what_is_set_has_no_borrowed_source():
    base = load_target("mca128")
    target = load_target("mca128", ["array.rows=64", "array.cols=64", "adc.bits=8"])
    assert target.array.source == f"rows, cols: set by --set; the rest: {base.array.source}"
    assert target.adc.source == base.adc.source
    rows = constants(target, components(target))
    assert next(r["source"] for r in rows if r["key"] == "array.rows").startswith("rows, cols: set")
    energy = load_target("neurram", ["cost.shift_add.energy_pj=5.5"]).cost["shift_add"]
    assert energy.source.startswith("energy_pj: set by --set; the rest: ")
    assert load_target("mca128", ["adc.bits=7", "adc.source=ours"]).adc.source == "ours"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('base = "mca12"', "target {}: base: unknown target 'mca12': did you mean .*'mca128'"),
        ("base = 128", "target {}: base = 128: give a target's name, or a .toml file"),
        ('base = "none.toml"', "target {}: base: target {folder}/none.toml: No such file"),
        ('base = "mine.toml"', "target {}: base: a circle: {} -> {}; one of them must stand"),
        (BASE + "array.rowz = 5", "target {}: unknown key array.rowz: did you mean 'rows'"),
        (BASE + "array.rows = 0", "target {}: array.rows = 0"),
        (BASE + "cost.adc.modle = 'x'", "target {}: unknown key cost.adc.modle: did you mean"),
        (BASE + "cost.dac.latency_ns = 1.0", "target {}: unknown key cost.dac.latency_ns: known"),
        (BASE + "cost.adc = { energy_pj = 1.0 }", "target {}: cost.adc: model = .* needs area_um2"),
        (BASE + "array = 5", "target {}: array = 5"),
        (BASE + "cost.adc = 5", "target {}: cost.adc = 5"),
        (BASE + "cost.adc.options = 5", "target {}: cost.adc.options = 5"),
        (BASE + "array", "target {}: not TOML"),
    ],
)
def test_wrong_bases(write, text, message):
    path = write("mine.toml", text)
    message = message.replace("{}", str(path)).replace("{folder}", str(path.parent))
    with pytest.raises(XbarcError, match=message) as caught:
        load_target(path)
    assert not isinstance(caught.value, UsageError)
    assert "\n" not in str(caught.value)


def test_bases_in_a_circle(write):
    first = write("a.toml", 'base = "b.toml"')
    write("b.toml", 'base = "c.toml"')
    write("c.toml", 'base = "b.toml"')
    with pytest.raises(XbarcError, match="a circle: .*a.toml -> .*b.toml -> .*c.toml -> .*b.toml"):
        load_target(first)


def test_a_changed_target_does_not_describe_itself_as_before():
    """The line about mca128 says 2-bit cells."""
    plain = load_target("mca128").description
    assert "2-bit cells" in plain
    changed = load_target("mca128", ["array.cell_bits=4"]).description
    assert changed == f"changed from mca128: {plain}"
    assert load_target("mca128", ["array.cell_bits=4", "description=mine"]).description == "mine"


def test_a_wrong_base_is_named_itself(write):
    write("b.toml", BASE + "array.rowz = 5")
    with pytest.raises(XbarcError, match=r"target \S*b.toml: unknown key array.rowz"):
        load_target(write("a.toml", 'base = "b.toml"'))


def test_document():
    target = load_target("isaac")
    found = document(target, with_sources=True)
    assert found.keys() >= described(target).keys() | {"components", "roll_up", "constants"}
    assert found["roll_up"].keys() == {"core", "node", "chip"}
    assert found["roll_up"]["chip"].keys() == {"area_mm2", "power_w"}
    assert found["components"]["adc"]["model"] == "isaac"
    json.dumps(found)


def test_command():
    def run(*arguments):
        code = "from xbarc.cli import main; main()"
        command = [sys.executable, "-c", code, "targets", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    found = json.loads(run("isaac", "--json").stdout)
    assert found["roll_up"]["chip"]["power_w"] == pytest.approx(65.8, abs=0.05)
    assert found["array"]["rows"] == 128
    text = run("isaac", "--sources").stdout
    assert "ISAAC: HyperTransport, 4 links of 6.4 GB/s 10.4 W, 22.88 mm2" in text
    assert "65.8" in text
    wrong = run("isaac", "--json", "--set", "cost.adc.model=murman")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "did you mean 'murmann'" in wrong.stderr
