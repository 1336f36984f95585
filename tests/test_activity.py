"""What the values of a run do: held to loops over every vector, activation, tile and cell."""

import json
import math
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import text_model
from reference import dense_weights, make_target

import xbarc
from xbarc.artifact.runs import Options, record, recorded
from xbarc.cli import app
from xbarc.cost.activity import crossbar_energy_pj, follow_values
from xbarc.ir.dialect import weights_of
from xbarc.report import report_page
from xbarc.simulator.activity import ActivityCounter
from xbarc.simulator.interpreter import Simulator
from xbarc.support.errors import XbarcError

CONV = """g (float[N,3,6,5] x) => (float[N,5,6,5] y) <float[5,3,3,3] w>
    { y = Conv<kernel_shape=[3,3], pads=[1,1,1,1]>(x, w) }"""
DEPTHWISE = """g (float[N,6,4,4] x) => (float[N,6,2,2] y) <float[6,1,3,3] w>
    { y = Conv<kernel_shape=[3,3], group=6>(x, w) }"""
TWO = """g (float[N,20] x) => (float[N,4] y) <float[20,9] a, float[9,4] b>
    { h = MatMul(x, a)  r = Relu(h)  y = MatMul(r, b) }"""
SMALL = {"rows": 8, "cols": 40, "cell_bits": 2}


def compiled(text, shape, sign, samples=3, seed=0, **tables):
    tables = {"adc": {"mode": "saturate", "bits": 8}, **tables}
    target = make_target(**{**tables, "array": {**SMALL, **tables.get("array", {})}})
    x = np.random.default_rng(seed).normal(size=(samples, *shape)).astype(np.float32)
    x = x if sign else np.maximum(x, 0)
    # Without correction: layers without a bias give 0 for 0.
    return xbarc.compile(text_model(text), target, calibration=x, bias_correction=False), x


def observed(program, x):
    """The statistics, and every mvm with all its codes [K, v]."""
    counter, blocks = ActivityCounter(program), {}

    def observe(op, codes, first):
        counter.observe(op, codes, first)
        blocks.setdefault(op, []).append(codes.copy())

    simulator = Simulator(program, observe=observe)
    simulator.run({simulator.inputs[0].name: x}, batch=2)
    return counter.statistics(), {op: np.concatenate(b, axis=1) for op, b in blocks.items()}


def word_line_levels(code, bits, signed, inputs):
    """The levels of one code, an activation after the other."""
    base = 2**inputs.dac_bits
    count = math.ceil(bits / inputs.dac_bits)

    def cut(value):
        return [value // base**j % base for j in range(count)]

    if not signed:
        return cut(code)
    if inputs.signed not in ("twos-complement", "native"):
        return cut(max(code, 0)) + cut(max(-code, 0))
    if inputs.signed == "native":  # at levels of both signs: as much current
        return cut(abs(code))
    return cut(code % 2**bits)


def cell_levels(q, bits, array):
    """[slice][polarity] levels of the cells of one weight."""
    base = 2**array.cell_bits
    parts = [q + 2 ** (bits - 1)] if array.encoding == "offset" else [max(q, 0), max(-q, 0)]
    return [[p // base**s % base for p in parts] for s in range(array.slices(bits))]


def by_loops(op, codes, q, target):
    """The statistics of one mvm, and the energy in its cells in pJ: nothing but loops."""
    weights, array, device = weights_of(op), target.array, target.device
    bits, element = weights.weight_bits, op.input.type.element
    signed = element.signedness.data.name == "SIGNED"
    dense = dense_weights(q, weights.group_count)
    cells = np.array([[cell_levels(int(w), bits, array) for w in row] for row in dense])
    top_cell, top_input = 2**array.cell_bits - 1, 2**target.inputs.dac_bits - 1
    keys = ["row_pulses", "driven_row_pulses", "input_levels", "cell_drives", "cell_level_drives"]
    keys += ["cell_pulses", "cell_level_pulses"]
    counts = dict.fromkeys([*keys, "column_sums", "conversions", "needed_conversions"], 0)
    energy_pj = 0.0
    for vector in codes.T:
        levels = np.array(
            [word_line_levels(int(c), element.width.data, signed, target.inputs) for c in vector]
        )
        for lines in levels.T:
            for r0, r1, c0, c1 in op.tiles():
                driven, held = lines[r0:r1], cells[r0:r1, c0:c1]
                copies = array.crossbars_per_tile(bits) * (1 + (array.polarity_in == "rows"))
                counts["row_pulses"] += len(driven) * copies
                counts["driven_row_pulses"] += int((driven > 0).sum()) * copies
                counts["input_levels"] += int(driven.sum()) * copies
                drives = driven[:, None, None, None]
                counts["cell_pulses"] += int((drives * np.ones_like(held)).sum())
                counts["cell_level_pulses"] += int((drives * held).sum())
                counts["cell_drives"] += int((drives**2 * np.ones_like(held)).sum())
                counts["cell_level_drives"] += int((drives**2 * held).sum())
                counts["column_sums"] += int((drives * held).sum())
                g = device.g_off_us + held * (device.g_on_us - device.g_off_us) / top_cell
                v = device.read_voltage_v * drives / top_input
                energy_pj += float((v**2 * g * 1e-6 * device.read_pulse_ns * 1e-9).sum()) * 1e12
                if target.adc.subtract == "analog":
                    held = held.max(axis=3, keepdims=True)
                columns = held.any(axis=0)
                counts["conversions"] += columns.size
                counts["needed_conversions"] += int(columns.sum()) if driven.any() else 0
    return {"vectors": codes.shape[1], **counts}, energy_pj


PAIRS = {
    "array": {"polarity_in": "rows"},
    "inputs": {"signed": "native", "dac_bits": 4},
    "adc": {"mode": "saturate", "subtract": "analog"},
}

CASES = [
    pytest.param(CONV, (3, 6, 5), {}, id="unsigned"),
    pytest.param(CONV, (3, 6, 5), {"sign": True, "inputs": {"signed": "two-pass"}}, id="two-pass"),
    pytest.param(CONV, (3, 6, 5), {"sign": True, "inputs": {"signed": "asymmetric"}}, id="zero"),
    pytest.param(
        CONV, (3, 6, 5), {"sign": True, "inputs": {"signed": "twos-complement"}}, id="twos"
    ),
    pytest.param(CONV, (3, 6, 5), {"inputs": {"dac_bits": 3}}, id="dac-3"),
    pytest.param(CONV, (3, 6, 5), {"sign": True, "inputs": {"dac_bits": 4}}, id="dac-4-signed"),
    pytest.param(CONV, (3, 6, 5), {"inputs": {"bits": 12, "dac_bits": 2}}, id="12-bit-inputs"),
    pytest.param(CONV, (3, 6, 5), {"inputs": {"bits": 4}, "weights": {"bits": 5}}, id="narrow"),
    pytest.param(CONV, (3, 6, 5), {"array": {"encoding": "offset"}}, id="offset"),
    pytest.param(
        CONV,
        (3, 6, 5),
        {"array": {"slices_in": "arrays", "polarity_in": "arrays", "cell_bits": 3}},
        id="arrays",
    ),
    pytest.param(CONV, (3, 6, 5), {"adc": {"mode": "saturate", "subtract": "analog"}}, id="analog"),
    pytest.param(CONV, (3, 6, 5), {"sign": True, **PAIRS}, id="pairs in rows, native inputs"),
    pytest.param(DEPTHWISE, (6, 4, 4), {"array": {"rows": 32}}, id="block-diagonal"),
    pytest.param(
        DEPTHWISE, (6, 4, 4), {"array": {"rows": 32, "encoding": "offset"}}, id="blocks-offset"
    ),
    pytest.param(TWO, (20,), {"sign": True}, id="two-layers"),
]


@pytest.mark.parametrize(("text", "shape", "how"), CASES)
def test_statistics_and_energy_are_those_of_every_cell(text, shape, how):
    how = {"sign": False, **how}
    program, x = compiled(text, shape, **how)
    statistics, blocks = observed(program, x)
    assert len(statistics) == len(blocks) == len(program.report["layers"])
    for op, codes in blocks.items():
        name = weights_of(op).symbol
        counts, energy_pj = by_loops(op, codes, program.weights[name], program.target)
        assert statistics[name] == counts
        assert crossbar_energy_pj(counts, program.target) == pytest.approx(energy_pj, rel=1e-9)


def follow(program, x):
    rows = {row["name"]: row for row in program.report["layers"]}
    return rows, follow_values(rows, observed(program, x)[0], program.target)


def test_conversions_are_those_of_the_events_and_needed_ones_fewer():
    program, x = compiled(TWO, (20,), sign=True, samples=5)
    rows, activity = follow(program, x)
    for name, layer in activity.items():
        assert layer["conversions"] == 5 * rows[name]["adc_conversions"]
        assert 0 < layer["needed_conversions"] < layer["conversions"]
        fixed = layer["energy_pj"]["adc"]["fixed"]
        assert fixed == rows[name]["energy_pj"]["adc"]
        share = layer["needed_conversions"] / layer["conversions"]
        assert layer["conversions_needed"] == share
        assert layer["energy_pj"]["adc"]["values"] == fixed * share


def test_copies_of_a_layer_share_its_vectors_and_change_no_energy():
    program, x = compiled(CONV, (3, 6, 5), sign=True)
    model, target = text_model(CONV), program.target
    copied = xbarc.compile(model, target, calibration=x, passes="replicate{budget=100}")
    assert any(row["copies"] > 1 for row in copied.report["layers"])
    assert follow(copied, x)[1] == follow(program, x)[1]


def test_energy_is_for_one_input_however_many_were_run():
    program, x = compiled(TWO, (20,), sign=True, samples=2)
    _, once = follow(program, x)
    _, thrice = follow(program, np.concatenate([x, x, x]))
    for name in once:
        assert thrice[name]["cell_drives"] == 3 * once[name]["cell_drives"]
        one, three = (a[name]["energy_pj"]["crossbar"]["values"] for a in (once, thrice))
        assert three == pytest.approx(one)


def test_no_input_takes_no_energy():
    program, x = compiled(TWO, (20,), sign=True, inputs={"signed": "two-pass"})
    _, activity = follow(program, np.zeros_like(x))
    for layer in activity.values():
        assert layer["driven_rows"] == 0
        assert layer["energy_pj"]["crossbar"]["values"] == 0
        assert layer["energy_pj"]["adc"]["values"] == 0


def test_zeros_drive_the_bits_of_the_zero_point():
    program, x = compiled(TWO, (20,), sign=True, inputs={"signed": "asymmetric"})
    rows, activity = follow(program, np.zeros_like(x))
    for name, layer in activity.items():
        assert layer["driven_rows"] == rows[name]["zero_point"].bit_count() / 8
    assert next(iter(activity.values()))["driven_rows"] > 0


@settings(max_examples=30, deadline=None)
@given(
    drives=st.integers(0, 10**12),
    share=st.floats(0, 3),
    factor=st.floats(1.1, 10),
)
def test_energy_grows_with_voltage_squared_conductance_and_time(drives, share, factor):
    counts = {"cell_drives": drives, "cell_level_drives": int(drives * share)}
    device = {
        "g_on_us": 100.0,
        "g_off_us": 1.0,
        "read_voltage_v": 0.2,
        "read_pulse_ns": 10.0,
        "write_voltage_v": 1.0,
        "write_pulse_ns": 10.0,
    }

    def energy(**changed):
        return crossbar_energy_pj(counts, make_target(device={**device, **changed}))

    base = energy()
    assert energy(read_pulse_ns=10 * factor) == pytest.approx(factor * base)
    assert energy(read_voltage_v=0.2 * factor) == pytest.approx(factor**2 * base)
    assert energy(g_on_us=100 * factor, g_off_us=factor) == pytest.approx(factor * base)


def test_one_cell_by_hand():
    # 4 cells at level 3 of 3, rows at 0.2 V for 10 ns: 4 x 0.04 V2 x 100 uS x 10 ns = 0.16 pJ
    counts = {"cell_drives": 4, "cell_level_drives": 12}
    assert crossbar_energy_pj(counts, make_target()) == pytest.approx(0.16)


# The command line


@pytest.fixture
def saved(tmp_path):
    program, x = compiled(TWO, (20,), sign=True, samples=6)
    program.save(tmp_path / "m.xbar")
    np.savez(tmp_path / "x.npz", x=x, y=np.zeros(6, np.int64))
    return tmp_path


def run(folder, *options):
    from typer.testing import CliRunner

    command = ["run", str(folder / "m.xbar"), "--input", str(folder / "x.npz"), *options]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    return done


def test_activity_is_printed_and_kept_and_changes_no_result(saved):
    plain = json.loads(run(saved, "--labels", "y", "--json").stdout)
    assert "activity" not in plain
    document = json.loads(run(saved, "--labels", "y", "--activity", "--json").stdout)
    program = xbarc.load(saved / "m.xbar")
    assert list(document["activity"]) == [row["name"] for row in program.report["layers"]]
    assert {k: document[k] for k in ("samples", "accuracy", "adc")} == {
        k: plain[k] for k in ("samples", "accuracy", "adc")
    }
    runs, faults = recorded(saved / "m.xbar")
    assert not faults
    assert [r.options.given() for r in runs] == [
        {"labels": "y"},
        {"labels": "y", "activity": True},
    ]
    assert runs[1].input == "x.npz"
    kept = runs[1].result.model_dump(mode="json")
    assert kept["activity"] == document["activity"]
    assert kept["accuracy"] == document["accuracy"]


def test_a_run_is_not_kept_where_not_wanted(saved):
    run(saved, "--no-record")
    assert recorded(saved / "m.xbar") == ([], [])
    assert not (saved / "m.xbar" / "runs").exists()


def test_a_run_that_cant_be_kept_still_answers(saved):
    # A file where the folder should be: refused for root as well, whom no permission stops.
    (saved / "m.xbar" / "runs").write_text("")
    done = run(saved, "--json")
    assert json.loads(done.stdout)["samples"] == 6
    assert "the run isn't kept in" in done.stderr


def test_kept_runs_are_checked_when_read(saved):
    run(saved)
    folder = saved / "m.xbar" / "runs"
    (good,) = folder.iterdir()
    entry = json.loads(good.read_text())
    (folder / "1.json").write_text("{")
    (folder / "2.json").write_text(json.dumps({**entry, "program": "0" * 64}))
    wrong = {**entry, "result": {**entry["result"], "accuracy": 1.5}}
    (folder / "3.json").write_text(json.dumps(wrong))
    (folder / "4.json").write_text(json.dumps({**entry, "format": 99}))
    runs, faults = recorded(saved / "m.xbar")
    assert len(runs) == 1
    assert len(faults) == 4
    assert "of another program" in faults[1]
    assert "result.accuracy" in faults[2]
    assert xbarc.load(saved / "m.xbar").report


def test_kept_runs_go_with_the_program_they_are_of(saved):
    run(saved)
    shutil.copytree(saved / "m.xbar" / "runs", saved / "kept")
    program, _ = compiled(TWO, (20,), sign=True, inputs={"bits": 6})
    program.save(saved / "m.xbar")
    assert recorded(saved / "m.xbar") == ([], [])
    shutil.copytree(saved / "kept", saved / "m.xbar" / "runs")
    runs, faults = recorded(saved / "m.xbar")
    assert not runs
    assert len(faults) == 1


def test_a_run_of_a_program_that_was_replaced_meanwhile_is_not_kept(saved):
    with pytest.raises(XbarcError, match="compiled again meanwhile"):
        record(saved / "m.xbar", "0" * 64, "x.npz", Options(), {})


def test_old_runs_make_room(saved, monkeypatch):
    monkeypatch.setattr("xbarc.artifact.runs.KEPT", 2)
    for samples in ("1", "2", "3"):
        run(saved, "--limit", samples)
    assert [r.options.limit for r in recorded(saved / "m.xbar")[0]] == [2, 3]


def test_a_record_of_an_older_version_is_read(saved):
    run(saved, "--labels", "y")
    (file,) = (saved / "m.xbar" / "runs").iterdir()
    entry = json.loads(file.read_text())
    entry["options"]["patience"] = 3
    del entry["result"]["seed"], entry["result"]["effects"]
    file.write_text(json.dumps(entry))
    (kept,), faults = recorded(saved / "m.xbar")
    assert not faults
    assert kept.options.given() == {"labels": "y"}
    page = report_page(xbarc.load(saved / "m.xbar"), saved / "m.xbar", [kept])
    assert "--labels y" in page
    assert "patience" not in page
    assert kept.devices == "ideal devices"
