"""`conductances` of a run: what cells were meant to conduct and what they do, level by level."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from reference import make_target
from test_whole_network import MAPPINGS, inputs, model

import xbarc
from xbarc.artifact.runs import Conductances, Options, program_hash, record, recorded
from xbarc.driver.evaluate import evaluate
from xbarc.ir.dialect import MvmOp, copies_of
from xbarc.simulator import conductances
from xbarc.simulator.analog.programmed import cell_of, programmed
from xbarc.simulator.arrays import tiles_of
from xbarc.simulator.conductances import programmed_levels
from xbarc.simulator.noise import effects_for

NOISE = "ratio,programming{sigma=0.1},stuck{on=0.01 off=0.02},drift{nu_sigma=0.02}"


def compiled(mapping="", **tables):
    target = make_target(**{"array": {"rows": 32, "cols": 64, "cell_bits": 2}, **tables})
    return xbarc.compile(model(), target, passes=mapping, calibration=inputs(4))


def cells_of(program, noise, seed):
    """Of every cell that the engine programs, one by one: its level, and what it conducts in uS."""
    effects = effects_for(program, noise)
    cell = cell_of(effects, program.target)
    for op in (op for op in program.module.walk() if isinstance(op, MvmOp)):
        for replica in range(copies_of(op)):
            for tile in tiles_of(op, program.weights, program.target, replica, cell):
                for array in tile.arrays:
                    made = programmed(array, effects, seed)
                    g = made.cells * made.unit * cell.step_us
                    yield from zip(made.physical.levels.ravel(), g.ravel(), strict=True)


def found(program, noise, seed=0):
    return programmed_levels(program, effects_for(program, noise), seed)


@pytest.mark.parametrize("encoding", ["differential", "offset"])
@pytest.mark.parametrize("mapping", MAPPINGS.values(), ids=MAPPINGS)
def test_figures_are_those_of_the_cells_that_the_engine_programs(mapping, encoding, monkeypatch):
    monkeypatch.setattr(conductances, "ARRAYS", 10**6)
    array = {"rows": 32, "cols": 64, "cell_bits": 2, "encoding": encoding}
    program = compiled(mapping, array=array)
    told = found(program, NOISE, 3)
    levels, g = map(np.array, zip(*cells_of(program, NOISE, 3), strict=True))
    assert told["cells"] == len(g)
    assert sum(level["cells"] for level in told["levels"]) == len(g)
    for level in told["levels"]:
        mine = g[levels == level["level"]]
        assert level["level"] == level["to_level"]
        assert level["cells"] == len(mine)
        # 1 to 100 uS in three steps of 33 uS.
        assert level["wanted_us"] == pytest.approx(1 + 33 * level["level"])
        assert level["mean_us"] == pytest.approx(mine.mean(), rel=1e-5)
        assert level["std_us"] == pytest.approx(mine.std(), rel=1e-4)
        cut = np.clip(mine, told["edges_us"][0], told["edges_us"][-1])
        expected, _ = np.histogram(cut, told["edges_us"])
        # The engine's conductances are in steps of 2^-22: a cell may lie on the other side.
        assert np.abs(np.array(level["counts"]) - expected).sum() <= 1e-3 * len(mine) + 4
        assert sum(level["counts"]) == len(mine)


def test_a_few_arrays_spread_evenly_stand_for_all(monkeypatch):
    program = compiled()
    whole = found(program, NOISE)
    assert whole["arrays"] == whole["arrays_in_all"]
    monkeypatch.setattr(conductances, "ARRAYS", 2)
    some = found(program, NOISE)
    assert (some["arrays"], some["arrays_in_all"]) == (2, whole["arrays"])
    assert some["cells"] < whole["cells"]
    monkeypatch.setattr(conductances, "ARRAYS", 10**6)
    monkeypatch.setattr(conductances, "CELLS", 5 * 32 * 64)
    assert found(program, NOISE)["arrays"] == 5


def test_which_arrays_are_looked_at(monkeypatch):
    seen = []

    def watched(program, chosen, cell):
        seen.extend(chosen)
        return iter(())

    monkeypatch.setattr(conductances, "_places", lambda program: iter(range(100)))
    monkeypatch.setattr(conductances, "_arrays", watched)
    monkeypatch.setattr(conductances, "ARRAYS", 4)
    assert found(compiled(), NOISE) is None
    assert seen == [12, 37, 62, 87]


def test_the_same_seed_gives_the_same_figures():
    program = compiled()
    assert found(program, NOISE, 1) == found(program, NOISE, 1)
    assert found(program, NOISE, 1) != found(program, NOISE, 2)


def test_without_an_error_cells_conduct_what_was_wanted():
    told = found(compiled(), "programming{sigma=0}")
    for level in told["levels"]:
        assert level["mean_us"] == pytest.approx(level["wanted_us"], abs=1e-9)
        assert level["std_us"] == pytest.approx(0, abs=1e-9)
        assert np.count_nonzero(level["counts"]) == 1
    edges = told["edges_us"]
    for level in told["levels"]:
        (bin_,) = np.flatnonzero(level["counts"])
        assert edges[bin_] - 1e-9 <= level["wanted_us"] <= edges[bin_ + 1] + 1e-9


def test_drift_alone_moves_all_cells_of_a_level_alike():
    told = found(compiled(), "drift{time=100 nu=0.05}")
    for level in told["levels"]:
        assert level["mean_us"] == pytest.approx(level["wanted_us"] * 100**-0.05)
        assert level["std_us"] == pytest.approx(0, abs=1e-9)


def test_all_cells_off_have_bins_too():
    told = found(compiled(), "stuck{off=1}")
    assert all(level["mean_us"] == 0 for level in told["levels"])
    Conductances.model_validate(told)


@pytest.mark.parametrize(
    "noise", ["read{sigma=0.1}", "ratio", "wire{row=1 col=1}", "adc{gain=0.1}"]
)
def test_nothing_where_writing_and_ageing_are_ideal(noise):
    assert found(compiled(), noise) is None


def test_wires_arent_in_it():
    program = compiled()
    assert found(program, f"{NOISE},wire{{row=5 col=5}}") == found(program, NOISE)


def test_many_levels_go_together():
    array = {"rows": 32, "cols": 64, "cell_bits": 7}
    told = found(compiled(array=array), "programming{sigma=0.1}")
    assert 1 < len(told["levels"]) <= 16
    for a, b in itertools.pairwise(told["levels"]):
        assert a["to_level"] < b["level"]
    for level in told["levels"]:
        assert level["to_level"] == level["level"] + 7
        low, high = (level[k] * 99 / 127 for k in ("level", "to_level"))
        assert low <= level["wanted_us"] <= high
    # 10 % of what is wanted, not the width of eight levels, which would make it 17 %.
    few = told["levels"][1:4]
    shares = [level["std_us"] / level["wanted_us"] for level in few]
    assert np.average(shares, weights=[level["cells"] for level in few]) == pytest.approx(
        0.1, rel=0.2
    )


@pytest.fixture
def saved(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    compiled().save("out.xbar")
    np.savez("x.npz", x=inputs(1))


def document(**options):
    return evaluate(Path("out.xbar"), Path("x.npz"), **options).document


@pytest.mark.usefixtures("saved")
def test_a_run_keeps_them():
    told = json.loads(json.dumps(document(noise=NOISE, seed=4)))
    assert told["conductances"] == found(xbarc.load("out.xbar"), NOISE, 4)
    assert "conductances" not in document()
    assert "conductances" not in document(ideal=True)
    kept = record(
        Path("out.xbar"),
        program_hash(Path("out.xbar")),
        "x.npz",
        Options(noise=NOISE, seed=4),
        told,
    )
    (run,), faults = recorded(Path("out.xbar"))
    assert run.result.conductances == Conductances.model_validate(told["conductances"])
    assert faults == []
    for damage in (
        {"edges_us": told["conductances"]["edges_us"][::-1]},
        {"edges_us": told["conductances"]["edges_us"][:-1]},
        {"levels": []},
        {"cells": 0},
    ):
        entry = json.loads(kept.read_text())
        entry["result"]["conductances"] |= damage
        kept.write_text(json.dumps(entry))
        runs, (fault,) = recorded(Path("out.xbar"))
        assert runs == []
        assert "conductances" in fault
        entry["result"]["conductances"] = told["conductances"]
        kept.write_text(json.dumps(entry))
