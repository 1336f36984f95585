"""`xbarc compare`: the same figures of several programs side by side."""

import json
import re

import pytest
from models import text_model
from pages import CHROMIUM, Page, laid_out, outside, saved_files
from reference import make_target
from typer.testing import CliRunner

import xbarc
from xbarc.artifact.runs import Options, program_hash, record, recorded
from xbarc.cli import app
from xbarc.report import compare_page, compare_programs, report_page
from xbarc.report.compare import caveats, names, ratio, widths
from xbarc.report.figures import component_colors, flatten

SHALLOW = """g (float[N,12] x) => (float[N,4] y) <float[12,4] w> { y = MatMul(x, w) }"""
DEEP = """g (float[N,12] x) => (float[N,4] y) <float[12,9] v, float[9,4] w>
    { h = MatMul(x, v)  r = Relu(h)  y = MatMul(r, w) }"""


def compiled(text, names_, rows=32):
    model = text_model(text)
    weighted = [n for n in model.graph.node if n.op_type == "MatMul"]
    for node, name in zip(weighted, names_, strict=True):
        node.name = name
    target = make_target(array={"rows": rows, "cols": 64, "cell_bits": 2})
    return xbarc.compile(model, target)


@pytest.fixture
def folder(tmp_path):
    for file, program in {
        "a.xbar": compiled(DEEP, ["first", "last"], rows=4),
        "b.xbar": compiled(DEEP, ["first", "last"], rows=32),
        "c.xbar": compiled(SHALLOW, ["last"]),
    }.items():
        program.save(tmp_path / file)
    return tmp_path


def invoke(*command):
    return CliRunner().invoke(app, [str(c) for c in command])


def document(folder, *files, options=()):
    done = invoke("compare", *(folder / f for f in files), *options, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_totals_are_those_of_each_report(folder):
    found = document(folder, "a.xbar", "b.xbar")
    for i, file in enumerate(("a.xbar", "b.xbar")):
        report = xbarc.load(folder / file).report
        assert found["programs"][i]["model"] == report["model"]
        assert found["programs"][i]["passes"] == report["passes"]
        for key, value in flatten(report["totals"]):
            if isinstance(value, int | float | str):
                assert found["totals"][key][i] == value, key


def test_layers_match_by_name(folder):
    found = document(folder, "a.xbar", "b.xbar", "c.xbar")
    assert [layer["name"] for layer in found["layers"]] == ["first", "last"]
    reports = [xbarc.load(folder / f).report for f in ("a.xbar", "b.xbar", "c.xbar")]
    for layer in found["layers"]:
        for i, report in enumerate(reports):
            row = next((r for r in report["layers"] if r["name"] == layer["name"]), None)
            for key in ("crossbars", "cycles", "latency_ns", "utilization", "mapping"):
                assert layer[key][i] == (row and row[key])
            assert layer["energy_pj"][i] == (row and sum(row["energy_pj"].values()))
    assert found["layers"][0]["crossbars"][2] is None


def test_a_layer_that_only_a_later_program_has_stands_in_its_place(folder):
    found = document(folder, "c.xbar", "a.xbar")
    assert [layer["name"] for layer in found["layers"]] == ["first", "last"]
    assert found["layers"][0]["crossbars"][0] is None


def test_accuracy_comes_from_the_newest_run_that_has_one(folder):
    result = {"samples": 8, "images_per_second": 1.0, "adc": {}}
    path = folder / "a.xbar"
    for accuracy in (0.25, 0.5, None):
        record(path, program_hash(path), "x.npz", Options(), {**result, "accuracy": accuracy})
    found = document(folder, "a.xbar", "b.xbar")["programs"]
    assert [(p["accuracy"], p["samples"]) for p in found] == [(0.5, 8), (None, None)]


@pytest.mark.parametrize(
    ("options", "effects", "devices"),
    [
        (Options(), [], "ideal devices"),
        (Options(ideal=True), [], "ideal devices and converters"),
        (Options(noise="read"), ["read{sigma=0.02}", "drift"], "read{sigma=0.02}, drift"),
    ],
)
def test_an_accuracy_says_of_what_devices_it_is(folder, options, effects, devices):
    path = folder / "a.xbar"
    result = {"samples": 8, "images_per_second": 1.0, "adc": {}, "accuracy": 0.5}
    record(path, program_hash(path), "x.npz", options, {**result, "effects": effects})
    found = document(folder, "a.xbar", "b.xbar")["programs"]
    assert [p["devices"] for p in found] == [devices, None]
    entries = [(p, xbarc.load(p), recorded(p)[0]) for p in (path, folder / "b.xbar")]
    assert devices in compare_page(compare_programs(entries))


def ran(path, accuracy, samples=8, **options):
    result = {"samples": samples, "images_per_second": 1.0, "adc": {}, "accuracy": accuracy}
    record(path, program_hash(path), "x.npz", Options(**options), result)


@pytest.mark.parametrize("other", [{"ideal": True}, {"noise": "read"}, {"device": "pcm"}])
def test_the_headline_is_the_newest_run_as_compiled(folder, other):
    for accuracy, options in [(0.5, {}), (0.6, {}), (0.9, other)]:
        ran(folder / "a.xbar", accuracy, **options)
    ran(folder / "b.xbar", 0.9, **other)
    found = document(folder, "a.xbar", "b.xbar")["programs"]
    assert [p["accuracy"] for p in found] == [0.6, 0.9]
    page = report_page(xbarc.load(folder / "a.xbar"), folder / "a.xbar", *kept(folder / "a.xbar"))
    card = next(t for t in page.split('class="cards"')[1:] if "Accuracy" in t)
    assert 'value="0.6"' in card.split("</dd>")[0]


def kept(path):
    return recorded(path)[0], []


def test_runs_of_another_kind_arent_compared(folder):
    ran(folder / "a.xbar", 0.5, samples=50)
    ran(folder / "b.xbar", 0.6, samples=500, ideal=True)
    done = invoke("compare", folder / "a.xbar", folder / "b.xbar")
    lines = {line.split("  ")[0]: line for line in done.stdout.splitlines()}
    assert "50.0 %" in lines["Accuracy"]
    assert "×" not in lines["Accuracy"]
    assert "samples, devices differ" in lines["not comparable"]
    ran(folder / "b.xbar", 0.75, samples=50)
    done = invoke("compare", folder / "a.xbar", folder / "b.xbar")
    lines = {line.split("  ")[0]: line for line in done.stdout.splitlines()}
    assert "×1.5" in lines["Accuracy"]
    assert "not comparable" not in lines


def test_what_differs_comes_first(folder):
    found = document(folder, "a.xbar", "b.xbar")
    assert found["differences"] == {"array.rows": [4, 32]}
    done = invoke("compare", folder / "a.xbar", folder / "b.xbar")
    assert done.stdout.splitlines()[0].split() == ["what", "differs", "a.xbar", "b.xbar"]
    assert done.stdout.splitlines()[1].split() == ["array.rows", "4", "32"]
    entries = [(folder / f, xbarc.load(folder / f), []) for f in ("a.xbar", "b.xbar")]
    page = compare_page(compare_programs(entries))
    assert page.index("What differs") < page.index("array.rows") < page.index("Figures side")
    assert document(folder, "b.xbar", "b.xbar")["differences"] == {}


def test_a_changed_target_says_so(tmp_path):
    model, sets = text_model(SHALLOW), ["adc.bits=4", "array.rows=64", "adc.bits = 5"]
    program = xbarc.compile(model, "mca128", overrides=sets)
    assert program.cost()["target"] == "mca128 + adc.bits=5, array.rows=64"
    program.save(tmp_path / "m.xbar")
    assert xbarc.load(tmp_path / "m.xbar").target.name == program.target.name
    named = xbarc.compile(model, "mca128", overrides=["name=mine", "adc.bits=5"])
    assert named.cost()["target"] == "mine"
    assert xbarc.compile(model, "mca128").cost()["target"] == "mca128"


def test_a_component_has_one_colour_in_every_report():
    assert component_colors({"adc", "link"})["adc"] == component_colors({"dac", "adc"})["adc"]
    assert component_colors({"plugged_in"}) == {"plugged_in": "rest"}
    kinds = set(
        component_colors({"adc", "crossbar", "dac", "shift_add", "buffer", "control"}).values()
    )
    assert len(kinds) == 6


def test_the_terminal_has_every_program_and_layer(folder):
    done = invoke("compare", folder / "a.xbar", folder / "b.xbar", folder / "c.xbar")
    assert done.exit_code == 0
    for word in ("a.xbar", "b.xbar", "c.xbar", "first", "last", "Crossbars", "Latency", "ADC"):
        assert word in done.stdout
    first = next(line for line in done.stdout.splitlines() if line.startswith("first"))
    assert first.rstrip().endswith("–")


def test_the_page_has_the_document_s_figures(folder):
    found = document(folder, "a.xbar", "c.xbar", options=("-o", folder / "c.html"))
    source = (folder / "c.html").read_text(encoding="utf-8")
    page = Page(source)
    assert outside(source) == []
    written = [a.get("value") for t, a in page.elements if t == "data"]
    for key, values in found["totals"].items():
        for value in values:
            if isinstance(value, int | float):
                assert repr(value) in written, key
    for layer in found["layers"]:
        for key in ("energy_pj", "latency_ns", "crossbars"):
            assert {repr(v) for v in layer[key] if v is not None} <= set(written)


def test_counters_are_folded_and_charts_can_be_saved(folder):
    invoke("compare", folder / "a.xbar", folder / "c.xbar", "-o", folder / "c.html")
    source = (folder / "c.html").read_text(encoding="utf-8")
    unfolded = re.sub(r"<details>.*?</details>", "", source, flags=re.DOTALL)
    assert "Cell level reads" in source
    assert "Cell level reads" not in unfolded
    files = saved_files(source)
    assert {"energy-of-an-input-streaming.svg", "area-in-use.svg", "crossbars-by-layer.svg"} <= {
        *files
    }
    for file in files.values():
        for name in ("a.xbar", "c.xbar"):
            assert name in file


def test_names_are_text_and_tell_programs_apart(folder):
    program = compiled(SHALLOW, ["<i>&"])
    entries = [(folder / "x" / "<p>.xbar", program, ()), (folder / "y" / "<p>.xbar", program, ())]
    found = compare_programs(entries)
    assert names(found) == [str(path) for path, _, _ in entries]
    page = Page(compare_page(found))
    assert "<i>&" in page.text
    assert "<p>.xbar" in page.text


def test_one_program_is_no_comparison(folder):
    done = invoke("compare", folder / "a.xbar")
    assert "two programs" in str(done.exception)


@pytest.mark.parametrize(
    ("value", "first", "shown"),
    [(2, 4, "×0.5"), (4, 4, ""), (3, 0, ""), (None, 2, ""), (2, None, ""), (9, 2, "×4.5")],
)
def test_ratio(value, first, shown):
    assert ratio(value, first) == shown


@pytest.mark.skipif(CHROMIUM is None, reason="chromium isn't installed")
@pytest.mark.parametrize(("width", "scheme"), [(400, "dark"), (1600, "light")])
def test_the_page_reads_well_in_a_browser(folder, width, scheme):
    entries = [(folder / f, xbarc.load(folder / f), ()) for f in ("a.xbar", "b.xbar", "c.xbar")]
    seen = laid_out(compare_page(compare_programs(entries)), width, scheme)
    assert seen["width"] == width
    assert seen["scroll"] <= width
    assert seen["wide"] == []
    assert seen["pale"] == []
    assert (seen["ground"] > 0.5) == (scheme == "light")


def test_widths_are_those_of_the_layers(tmp_path):
    model = text_model(DEEP)
    entries = []
    for i, keys in enumerate(([], ["layers.MatMul_1.weights.bits=4", "inputs.bits=6"])):
        path = tmp_path / f"{i}.xbar"
        xbarc.compile(model, "mca64", overrides=keys).save(path)
        entries.append((path, xbarc.load(path), []))
    found = compare_programs(entries)["programs"]
    assert [(p["weight_bits"], p["input_bits"]) for p in found] == [([8], [8]), ([4, 8], [6])]
    assert [widths(p).partition(",")[0] for p in found] == ["8 x 8 bits", "4/8 x 6 bits"]


def test_operations_of_other_widths_are_marked(tmp_path):
    """Beside what is of operations, and only where the widths or the node differ."""
    entries = {}
    for name in ("isaac", "puma", "mca64"):
        path = tmp_path / f"{name}.xbar"
        xbarc.compile(text_model(SHALLOW), name).save(path)
        entries[name] = (path, xbarc.load(path), [])
    (texts, _), (more, notes) = (
        caveats(compare_programs([entries["isaac"], entries[other]])) for other in ("puma", "mca64")
    )
    assert not any("An operation is another" in text for text in texts)
    number = 1 + next(i for i, text in enumerate(more) if "An operation is another" in text)
    for program in (0, 1):
        assert number in notes["peak.tops_per_w"][program]
        assert number in notes["energy_per_mac_pj"][program]
        assert number not in notes["power_w"][program]
