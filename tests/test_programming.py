"""What programming took in a run: pulses, energy, time; and the report's figures beside it."""

import html
import json
from pathlib import Path

import numpy as np
import pytest
from pages import Page
from reference import make_target
from test_analog import product, vectors
from test_whole_network import MAPPINGS, inputs, model
from typer.testing import CliRunner

import xbarc
from xbarc import cli
from xbarc.artifact.runs import recorded
from xbarc.cost.programming import programming
from xbarc.driver.evaluate import evaluate
from xbarc.simulator.effect import EFFECTS
from xbarc.simulator.interpreter import Simulator
from xbarc.simulator.noise import engine_for
from xbarc.support.units import quantity

SPREAD = "programming{sigma=0.1}"
VERIFY = f"ratio,{SPREAD},verify{{tolerance=0.05 max_pulses=50}}"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def save(program, x):
    program.save("out.xbar")
    np.savez("x.npz", x=x)
    return program


def document(noise, **options):
    found = evaluate(Path("out.xbar"), Path("x.npz"), noise=noise, **options).document
    return json.loads(json.dumps(found))


def call(*arguments):
    done = CliRunner().invoke(cli.app, [str(a) for a in arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.mark.parametrize("encoding", ["differential", "offset"])
@pytest.mark.parametrize("pulses", [1, 4])
@pytest.mark.parametrize("mapping", MAPPINGS.values(), ids=MAPPINGS)
def test_without_verify_the_figures_are_the_reports(mapping, pulses, encoding):
    """Also where arrays have cells without a weight, and reference lines."""
    keys = [f"array.encoding={encoding}", f"device.write_pulses={pulses}", "array.rows=32"]
    program = xbarc.compile(
        model(), "mca128", passes=mapping, calibration=inputs(4), overrides=keys
    )
    save(program, inputs(1))
    found = document(f"ratio,{SPREAD}")["programming"]
    totals = program.report["totals"]
    assert found["total"]["cells"] == totals["memristors"]
    assert found["total"]["pulses"] == totals["write_pulses"] == pulses * totals["memristors"]
    for key, wanted, unit in (
        ("energy_uj", "programming_energy_uj", 1),
        ("verify_energy_uj", "programming_verify_energy_uj", 1),
        ("time_us", "programming_time_ms", 1000),
        ("verify_time_us", "programming_verify_time_ms", 1000),
    ):
        assert found["total"][key] == pytest.approx(unit * totals[wanted], rel=1e-12), key
    assert (found["total"]["verify_energy_uj"] > 0) == (pulses > 1)
    for row in program.report["layers"]:
        layer = found["layers"][row["name"]]
        assert (layer["cells"], layer["pulses"]) == (row["memristors"], row["write_pulses"])
        assert layer["pulses_per_cell"] == pulses


def test_pulses_are_those_of_the_arrays():
    program = save(product(passes="replicate{budget=2}"), vectors(1))
    (layer,) = document(VERIFY, seed=3)["programming"]["layers"].values()
    (row,) = program.report["layers"]
    engine = engine_for(program, VERIFY)
    ((cells, pulses),) = Simulator(program, engine=engine, seed=3).pulses().values()
    assert cells == row["memristors"] == layer["cells"] == 2 * 20 * 4 * 8
    assert layer["pulses"] == pulses > 1.5 * cells
    assert layer["pulses_per_cell"] == pulses / cells


def test_the_price_by_hand():
    device = {"write_voltage_v": 2.0, "write_pulse_ns": 50.0}
    target = make_target(array={"rows": 100, "cols": 64, "cell_bits": 2}, device=device)
    layers = {
        "a": {"memristors": 1000, "crossbars": 2},
        "b": {"memristors": 500, "crossbars": 1},
    }
    # 100 cells of a's arrays hold no weight: only their further pulses are charged.
    counted = {"a": (1100, 2100), "b": (500, 2000), "gone": (1, 1)}
    found = programming(layers, counted, target, verified=True)
    a, b, total = *found["layers"].values(), found["total"]
    assert [*found["layers"]] == ["a", "b"]
    assert (a["cells"], a["pulses"], a["pulses_per_cell"]) == (1000, 2000, 2.0)
    assert (b["cells"], b["pulses"], b["pulses_per_cell"]) == (500, 2000, 4.0)
    assert (total["cells"], total["pulses"], total["pulses_per_cell"]) == (1500, 4000, 4000 / 1500)
    # 4 V2 x 50.5 uS x 50 ns = 10.1 pJ a pulse; a read 20.2 fJ and a conversion of 1 pJ.
    assert a["energy_uj"] == pytest.approx(2000 * 10.1e-6)
    assert a["verify_energy_uj"] == pytest.approx(2000 * (0.0202 + 1) * 1e-6)
    assert total["energy_uj"] == pytest.approx(4000 * 10.1e-6)
    assert total["verify_energy_uj"] == pytest.approx(4000 * (0.0202 + 1) * 1e-6)
    # 100 rows, each of as many pulses as its cells in the mean; all layers at once.
    assert b["time_us"] - b["verify_time_us"] == pytest.approx(100 * 4 * 0.05)
    assert b["verify_time_us"] == pytest.approx(100 * 4 * target.cycle_ns() * 1e-3)
    assert (total["time_us"], total["verify_time_us"]) == (b["time_us"], b["verify_time_us"])
    # One pulse for each cell, read once: a loop all the same.
    once = programming(layers, {"b": (500, 500)}, target, verified=True)["total"]
    assert once["pulses_per_cell"] == 1
    assert once["verify_energy_uj"] == pytest.approx(500 * (0.0202 + 1) * 1e-6)


def test_a_tighter_tolerance_costs_more():
    save(product(), vectors(1))
    figures = []
    for tolerance in (0.3, 0.1, 0.03):
        noise = f"ratio,{SPREAD},verify{{tolerance={tolerance} max_pulses=100}}"
        figures.append(document(noise)["programming"]["total"])
    for key in ("pulses", "pulses_per_cell", "energy_uj", "verify_energy_uj", "time_us"):
        loose, medium, tight = (total[key] for total in figures)
        assert loose < 0.8 * medium < 0.8 * 0.8 * tight, key
    assert len({total["cells"] for total in figures}) == 1


@pytest.mark.parametrize(
    ("noise", "there"),
    [
        ("", False),
        ("none", False),
        ("read{sigma=0.1},drift", False),
        (SPREAD, True),
        ("stuck{on=0.1}", True),
        ("verify{tolerance=0.1}", True),
    ],
)
def test_it_is_said_where_something_acts_when_cells_are_written(noise, there):
    save(product(), vectors(1))
    assert ("programming" in document(noise)) == there


def test_what_acts_when_cells_are_written():
    writing = {name for name, effect in EFFECTS.registry().all().items() if made(effect).writes}
    assert writing == {"programming", "verify", "stuck"}
    verifying = {name for name, e in EFFECTS.registry().all().items() if made(e).verifies}
    assert verifying == {"verify"}


def made(effect):
    needed = {
        "programming": {"sigma": 0.1},
        "read": {"sigma": 0.1},
        "verify": {"tolerance": 0.1},
        "stuck": {"on": 0.1},
        "adc": {"gain": 0.1},
        "dac": {"sigma": 0.1},
        "nonlinear": {"k": 0.1},
    }
    return effect(**needed.get(effect.name, {}))


def test_it_is_printed_kept_and_shown():
    save(product(), vectors(1))
    printed = call("run", "out.xbar", "--input", "x.npz", "--noise", VERIFY, "--seed", 3)
    (line,) = (line for line in printed.splitlines() if line.startswith("programming"))
    told = json.loads(
        call("run", "out.xbar", "--input", "x.npz", "--noise", VERIFY, "--seed", 3, "--json")
    )
    found = told["programming"]
    total = found["total"]
    pulses, each, energy, time = line.removeprefix("programming").split(", ")
    assert int(pulses.removesuffix(" pulses")) == total["pulses"]
    assert float(each.removesuffix(" a cell")) == pytest.approx(total["pulses_per_cell"], 1e-3)
    whole = total["energy_uj"] + total["verify_energy_uj"]
    assert energy == quantity("energy_uj", whole)
    assert time == quantity("time_us", total["time_us"])
    # Of the newest run that has it.
    call("run", "out.xbar", "--input", "x.npz", "--ideal")
    runs, faults = recorded(Path("out.xbar"))
    assert not faults
    assert runs[1].result.programming.model_dump() == found
    assert runs[2].result.programming is None
    call("report", "out.xbar", "-o", "r.html")
    page = Page(Path("r.html").read_text())
    assert page.figures["run.programming.total.energy_uj"] == total["energy_uj"]
    (name,) = found["layers"]
    for key in ("cells", "pulses", "pulses_per_cell", "verify_energy_uj", "time_us"):
        assert page.figures[f"run.programming.layers.{name}.{key}"] == found["layers"][name][key]
    assert "; seed 3)" in html.unescape(page.text)


@pytest.mark.parametrize(
    ("pulses", "note", "cost"),
    [
        (1, "one pulse for each cell, written blind", "1 pulse a cell"),
        (5, "5 pulses for each cell, with a read after each", "5 pulses a cell"),
    ],
)
def test_the_report_says_how_many_pulses_its_own_figures_take(pulses, note, cost):
    save(product(overrides=[f"device.write_pulses={pulses}"]), vectors(1))
    call("report", "out.xbar", "-o", "r.html")
    assert note in Page(Path("r.html").read_text()).text
    assert cost in call("cost", "out.xbar")
