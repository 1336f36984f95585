"""`xbarc sweep`: a grid of settings, each point compiled, run and costed; what is kept of it."""

import csv
import json

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from models import reference, text_model
from pages import Page, outside

import xbarc as api
from xbarc.artifact.sweeps import FILE, Point, append, recorded
from xbarc.driver import sweep as driver
from xbarc.driver.sweep import axis_of, pareto
from xbarc.support.errors import UsageError

MODEL = text_model(
    """g (float[N,3,6,6] x) => (float[N,4] y) <float[8,3,3,3] w, float[8] b, float[8,4] f> {
  c = Conv(x, w, b) r = Relu(c) p = GlobalAveragePool(r) flat = Flatten(p) y = MatMul(flat, f) }"""
)
X = np.random.default_rng(0).standard_normal((40, 3, 6, 6)).astype(np.float32)
GRID = ["--vary", "adc.bits=2:6:2", "--vary", "adc.mode=saturate,full-scale"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    onnx.save(MODEL, "m.onnx")
    labels = reference(MODEL, {"x": X})["y"].argmax(1)
    np.savez("x.npz", x=X, y=np.where(np.arange(40) < 4, (labels + 1) % 4, labels))
    np.savez("c.npz", x=X)
    return tmp_path


@pytest.fixture
def sweep(folder, xbarc):
    def run(*words, model="m.onnx"):
        given = ["--target", "mca64", "--calibration", "c.npz", "--input", "x.npz", "--labels", "y"]
        return xbarc("sweep", model, *given, *words)

    return run


@pytest.fixture
def compiled(monkeypatch):
    """The overrides of each point that is compiled."""
    seen, before = [], driver.compile_imported

    def count(imported, decided, settings, **options):
        seen.append(settings.overrides)
        return before(imported, decided, settings, **options)

    monkeypatch.setattr(driver, "compile_imported", count)
    return seen


def test_each_point_is_what_compile_run_and_cost_say(sweep):
    code, out, _ = sweep(*GRID, "--json")
    told = json.loads(out)
    assert code == 0
    assert told["float"] == {"accuracy": 0.9}
    assert told["samples"] == 40
    settings = [
        {"adc.bits": b, "adc.mode": m} for b in (2, 4, 6) for m in ("saturate", "full-scale")
    ]
    assert [point["settings"] for point in told["points"]] == settings
    for point in told["points"]:
        sets = [f"{key}={value}" for key, value in point["settings"].items()]
        program = api.compile(MODEL, "mca64", overrides=sets, calibration=X)
        totals = program.cost()["totals"]
        assert point["energy_uj"] == totals["energy_uj"]["total"]
        assert point["area_mm2"] == totals["area_mm2"]["total"]
        assert point["latency_us"] == totals["latency_us"]
        labels = np.load("x.npz")["y"]
        assert point["accuracy"] == (program.run(X)["y"].argmax(1) == labels).mean()
    assert len({point["accuracy"] for point in told["points"]}) > 1
    assert len({point["energy_uj"] for point in told["points"]}) > 1


def test_without_inputs_it_is_about_costs(folder, xbarc):
    code, out, _ = xbarc("sweep", "m.onnx", "--vary", "target=mca64,isaac", "--json")
    told = json.loads(out)
    assert code == 0
    assert set(told) == {"model", "points"}
    assert [p["settings"] for p in told["points"]] == [{"target": "mca64"}, {"target": "isaac"}]
    assert (
        told["points"][1]["energy_uj"]
        == (api.compile(MODEL, "isaac").cost()["totals"]["energy_uj"]["total"])
    )


def test_what_is_done_stays_and_isnt_done_again(sweep, compiled, folder):
    code, out, _ = sweep("--vary", "adc.bits=3:5", "-o", "out", "--json")
    assert (code, len(compiled)) == (0, 3)
    lines = (folder / "out" / FILE).read_bytes().splitlines()
    # As a kill leaves it: one point whole, one cut short.
    (folder / "out" / FILE).write_bytes(lines[0] + b"\n" + lines[1][:40])
    del compiled[:]
    again = sweep("--vary", "adc.bits=3:5", "-o", "out", "--json")
    assert sorted(compiled) == [("adc.bits=4",), ("adc.bits=5",)]
    assert json.loads(again[1]) == json.loads(out)
    del compiled[:]
    sweep("--vary", "adc.bits=5:6", "-o", "out")  # 5 is there
    assert compiled == [("adc.bits=6",)]
    for changed in (["--limit", "20"], ["--set", "array.rows=32"], ["--percentile", "99"]):
        del compiled[:]
        sweep("--vary", "adc.bits=5", *changed, "-o", "out")
        assert compiled, changed


def test_other_weights_are_another_sweep(sweep, compiled, folder):
    sweep("--vary", "adc.bits=5", "-o", "out")
    other = onnx.load("m.onnx")
    array = onnx.numpy_helper.to_array(other.graph.initializer[0])
    other.graph.initializer[0].raw_data = (array * np.float32(1.5)).tobytes()
    onnx.save(other, "m.onnx")
    del compiled[:]
    sweep("--vary", "adc.bits=5", "-o", "out")
    assert compiled


def test_tables_plots_and_page(sweep, folder):
    code, _, _ = sweep(*GRID, "-o", "out")
    assert code == 0
    told = json.loads((folder / "out" / "sweep.json").read_text())
    rows = list(csv.DictReader((folder / "out" / "sweep.csv").open()))
    assert [float(row["accuracy"]) for row in rows] == [p["accuracy"] for p in told["points"]]
    assert [row["adc.mode"] for row in rows] == ["saturate", "full-scale"] * 3
    source = (folder / "out" / "sweep.html").read_text()
    page = Page(source)
    assert outside(source) == []
    shown = {a.get("data-key"): a.get("value") for t, a in page.elements if t == "data"}
    for i, point in enumerate(told["points"]):
        assert float(shown[f"points.{i}.energy_uj"]) == point["energy_uj"]
        assert float(shown[f"points.{i}.accuracy"]) == point["accuracy"]
    for name in ("accuracy-adc.bits", "accuracy-adc.mode", "accuracy-energy"):
        assert (folder / "out" / f"{name}.svg").read_text().count("<svg") == 1
        assert (folder / "out" / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
    before = (folder / "out" / "accuracy-energy.svg").read_bytes()
    sweep(*GRID, "-o", "out")
    assert (folder / "out" / "accuracy-energy.svg").read_bytes() == before


def test_a_point_that_cant_be_says_why_and_the_others_go_on(sweep, folder):
    code, out, err = sweep("--vary", "array.cols=4,64", "--json")
    bad, good = json.loads(out)["points"]
    assert code == 0
    assert "array.cols = 4 can't hold a weight" in bad["error"]
    assert "energy_uj" not in bad
    assert good["accuracy"] > 0.5
    _, out, err = sweep("--vary", "array.cols=4,64")
    assert "at array.cols=4: " in err
    assert "failed" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--vary", "adc.bits=4:x"], "--vary adc.bits=4:x: write key"),
        (["--vary", "adc.bits=9:4"], "write key"),
        (["--vary", "adc.bits"], "write key"),
        (["--vary", "adc.bits="], "write key"),
        (["--vary", "=3"], "write key"),
        (["--vary", "adc.bits=4,,5"], "write key"),
        (["--vary", "adc.bits=1:99999999"], "write key"),
        (["--vary", "adc.bist=4:5"], "adc has no key 'bist'"),
        (["--vary", "adc.bits=4", "--vary", "adc.bits=5"], "give each key once"),
        (["--vary", "adc.bits=4", "--set", "adc.bits=5"], "--set adc.bits=5: --vary adc.bits"),
        (["--vary", "target=mca64"], "give the target once"),
        (["--vary", "a=1:200", "--vary", "b=1:200"], "200 x 200 points are more than"),
    ],
)
def test_what_is_refused_before_anything_runs(sweep, compiled, words, said):
    code, out, err = sweep(*words)
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1
    assert not compiled


@given(st.integers(0, 30), st.integers(0, 30), st.integers(1, 7))
def test_a_range_has_both_its_ends(low, more, step):
    assert axis_of(f"k={low}:{low + more}").values == tuple(range(low, low + more + 1))
    found = axis_of(f"k={low}:{low + more}:{step}").values
    assert found == tuple(v for v in range(low, low + more + 1) if (v - low) % step == 0)


def test_values_are_numbers_or_words():
    assert axis_of("k=1,2.5,on").values == (1, 2.5, "on")
    assert axis_of("k=4:5,8,4").values == (4, 5, 8)
    with pytest.raises(UsageError):
        axis_of("k=1.5:2")


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12))
def test_the_front_is_what_no_other_point_beats(pairs):
    points = [Point(key="", settings={}, accuracy=a / 5, energy_uj=e) for a, e in pairs]
    front = pareto(points)
    assert front
    for i, (a, e) in enumerate(pairs):
        beaten = any((b, -f) > (a, -e) and b >= a and f <= e for b, f in pairs)
        assert (i in front) != beaten


def test_a_kept_point_reads_as_it_was_written(tmp_path):
    point = Point(key="k", settings={"adc.bits": 4, "adc.mode": "ü"}, accuracy=0.1, energy_uj=1 / 3)
    append(tmp_path, point)
    with (tmp_path / FILE).open("ab") as file:
        file.write(b'{"key": "cut')
    other = Point(key="l", settings={}, error="why")
    append(tmp_path, other)
    assert recorded(tmp_path) == {"k": point, "l": other}
