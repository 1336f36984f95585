"""Digital products that can't be counted: figures that lack them say so, wherever they stand."""

import pytest
from models import text_model
from typer.testing import CliRunner

import xbarc
from xbarc.cli import app
from xbarc.report import report_page

RECURRENT = """g (float[N,2,8] x) => (float[N,1,2,4] y)
<float[8,8] m, float[1,16,8] w, float[1,16,4] r>
{ a = MatMul(x, m) y = LSTM<hidden_size=4>(a, w, r) }"""
PLAIN = "g (float[N,2,8] x) => (float[N,2,8] y) <float[8,8] m> { y = MatMul(x, m) }"
BODY = """g (float[N,8] x, bool c) => (float[N,8] y) <float[8,8] m, float[8,8] w> {
  a = MatMul(x, m)
  y = If(c) <then_branch = t () => (float[N,8] p) { p = MatMul(a, w) },
             else_branch = e () => (float[N,8] q) { q = Relu(a) }> }"""
SAID = "Multiply-accumulates of {} can't be counted: "


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two programs, one of them with an LSTM on the digital side."""
    where = tmp_path_factory.mktemp("programs")
    xbarc.compile(text_model(RECURRENT), "mca64").save(where / "lstm.xbar")
    xbarc.compile(text_model(PLAIN), "mca64").save(where / "plain.xbar")
    return where


def caveats(report):
    return [c for c in report["caveats"] if "can't be counted" in c["text"]]


@pytest.mark.parametrize(
    ("text", "operators"), [(RECURRENT, "LSTM"), (BODY, "MatMul in the body of an If")]
)
def test_a_caveat_names_the_operators_and_stands_at_what_lacks_them(text, operators):
    report = xbarc.compile(text_model(text), "mca64").report
    assert report["coverage"]["mac_share"] is None
    assert report["coverage"]["uncounted"] == [operators]
    (caveat,) = caveats(report)
    assert caveat["text"].startswith(SAID.format(operators))
    assert {"energy_uj", "power_w", "latency_us", "interval_us", "throughput_ips"} <= {
        *caveat["of"]
    }
    assert {"macs", "tops", "tops_per_w", "energy_per_mac_pj"} <= {*caveat["of"]}
    assert "peak.tops" not in caveat["of"] and "area_mm2" not in caveat["of"]


def test_where_all_is_counted_nothing_is_said(folder):
    report = xbarc.load(folder / "plain.xbar").report
    assert not caveats(report)
    assert "uncounted" not in report["coverage"]


def test_new_weights_don_t_take_it_away(folder):
    updated = xbarc.load(folder / "lstm.xbar").update_weights(text_model(RECURRENT))
    assert len(caveats(updated.report)) == 1


def test_cost_marks_its_figures(folder):
    lines = CliRunner().invoke(app, ["cost", str(folder / "lstm.xbar")]).output.splitlines()
    (note,) = [line for line in lines if SAID.format("LSTM") in line]
    number = note[1]
    marks = {line.split()[0]: line.rpartition("[")[2] for line in lines if line.endswith("]")}
    for fact in ("MACs", "streaming", "alone", "bottleneck", "efficiency"):
        assert number in marks[fact], fact


def test_compare_marks_its_figures(folder):
    programs = [str(folder / f"{name}.xbar") for name in ("plain", "lstm")]
    lines = CliRunner().invoke(app, ["compare", *programs]).output.splitlines()
    (note,) = [line for line in lines if SAID.format("LSTM") in line]
    (rate,) = [line for line in lines if line.startswith("Inputs a second")]
    assert rate.endswith(f"[{note[1]}]")
    assert rate.count("[") == 1


def test_the_report_says_no_bound_that_isn_t_known(folder):
    paths = (folder / "lstm.xbar", folder / "plain.xbar")
    lstm, plain = (str(report_page(xbarc.load(path), path, [])) for path in paths)
    assert "No stream is faster" in plain and "No stream is faster" not in lstm
    assert "No time is known for LSTM: a stream may be much slower" in lstm
