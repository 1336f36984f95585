"""Cells by name: their figures, what a target keeps of its own, and how long they last."""

import tomllib

import pytest
from models import text_model
from typer.testing import CliRunner

import xbarc
from xbarc import cli
from xbarc.cost.components import components
from xbarc.cost.model import lifetime_years
from xbarc.hw.target import cell_names, dump_target, load_target, parse_target
from xbarc.support.errors import UsageError

ONE_BIT = "array.cell_bits=1"


def with_cell(name, *keys, base="mca128"):
    return load_target(base, [f"device.cell={name}", ONE_BIT, *keys])


@pytest.mark.parametrize("name", cell_names())
def test_a_cell_has_area_read_write_and_a_source_for_each(name):
    target = with_cell(name)
    device, crossbar = target.device, components(target)["crossbar"].unit
    area_f2 = target.cost["crossbar"].options["cell_area_f2"]
    assert crossbar.area_um2 == pytest.approx(128 * 128 * area_f2 * 0.032**2)
    mean_us = (device.g_on_us + device.g_off_us) / 2
    read_pj = device.read_voltage_v**2 * mean_us * device.read_pulse_ns * 1e-3
    assert crossbar.energy_pj == pytest.approx(128 * 128 * read_pj)
    assert device.pulse_energy_pj == device.write_energy_pj
    assert device.endurance is not None
    assert device.source and target.cost["crossbar"].options["source"]
    assert parse_target(dump_target(target), "again") == target


def test_sram_reads_and_writes_as_mnsim_has_it():
    device = with_cell("sram").device
    # A read of a cell that conducts: 1.12 fJ.
    read_fj = device.read_voltage_v**2 * device.g_on_us * device.read_pulse_ns
    assert read_fj == pytest.approx(1.12, rel=1e-3)
    assert device.pulse_energy_pj * 1e3 == pytest.approx(1.6)


def test_fefet_is_25_thousandths_of_a_square_micrometre_at_22_nm():
    keys = "technology.node_nm=22", "technology.scaling=stillmaker-baas"
    crossbar = components(with_cell("fefet", *keys))["crossbar"].unit
    assert crossbar.area_um2 == pytest.approx(128 * 128 * 0.025, rel=1e-3)


def test_without_an_energy_a_pulse_takes_v2_g_t():
    device = load_target("mca128").device
    mean_us = (device.g_on_us + device.g_off_us) / 2
    expected = device.write_voltage_v**2 * mean_us * device.write_pulse_ns * 1e-3
    assert device.pulse_energy_pj == pytest.approx(expected)


def test_what_a_target_says_itself_stays(tmp_path):
    target = with_cell("pcm", "device.g_on_us=30.0")
    assert (target.device.g_on_us, target.device.g_off_us) == (30.0, 0.25)
    file = tmp_path / "mine.toml"
    file.write_text('base = "isaac"\n[device]\ncell = "pcm"\nendurance = 1e7\n')
    mine = load_target(file)
    assert (mine.device.endurance, mine.device.write_energy_pj) == (1e7, 25.0)
    assert mine.device.source.startswith("endurance: set in mine.toml; the rest: Joshi")
    alone = dump_target(load_target("mca128")).replace("g_on_us", 'cell = "pcm"\ng_on_us')
    file.write_text(alone)
    assert load_target(file).device.endurance == 1e9
    assert load_target(file).device.g_on_us == load_target("mca128").device.g_on_us


def test_another_cell_keeps_nothing_of_the_first(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('base = "mca128"\narray = { cell_bits = 1 }\ndevice = { cell = "sram" }\n')
    target = load_target(file, ["device.cell=pcm", "array.cell_bits=4"])
    assert target.device.max_cell_bits is None
    assert target.device.endurance == 1e9


def test_what_a_cell_cant_hold_is_refused():
    with pytest.raises(UsageError, match=r"cell_bits = 2: the cell 'sram' holds 1 bit"):
        load_target("mca128", ["device.cell=sram"])
    with pytest.raises(UsageError, match=r"device.cell = 'fefat': did you mean 'fefet'"):
        load_target("mca128", ["device.cell=fefat"])


def test_years_of_programmings():
    assert lifetime_years(load_target("mca128")) is None
    # 1e5 writes: twice a day by five pulses.
    keys = "device.programmings_per_day=2", "device.write_pulses=5"
    assert lifetime_years(with_cell("fefet", *keys)) == pytest.approx(1e5 / 10 / 365.25)


def test_programming_is_charged_by_the_cell():
    model = text_model("g (float[N,20] x) => (float[N,5] y) <float[20,5] w> { y = MatMul(x, w) }")
    totals = xbarc.compile(model, "mca128", overrides=["device.cell=pcm"]).cost()["totals"]
    assert totals["programming_energy_uj"] == pytest.approx(totals["memristors"] * 25e-6)
    assert totals["lifetime_years"] == pytest.approx(1e9 / 365.25)


def test_the_command_shows_cells():
    def shown(*arguments):
        found = CliRunner().invoke(cli.app, ["devices", *arguments])
        assert found.exit_code == 0
        return found.output

    assert "sram   SRAM: one bit" in shown()
    assert tomllib.loads(shown("sram"))["device"]["max_cell_bits"] == 1
    # There is a device of that name too, which says how such cells err.
    assert "drift" in tomllib.loads(shown("pcm"))
    assert tomllib.loads(shown("pcm", "--cell"))["device"]["write_energy_pj"] == 25
    assert CliRunner().invoke(cli.app, ["devices", "pcn", "--cell"]).exit_code != 0
