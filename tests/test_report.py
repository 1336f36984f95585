"""`xbarc report`: one self-contained page whose figures are those of report.json."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from models import text_model
from pages import CHROMIUM, Page, laid_out, outside
from reference import make_target
from typer.testing import CliRunner

import xbarc
from xbarc.artifact.runs import Result
from xbarc.cli import app
from xbarc.hw.mesh import Mesh
from xbarc.ir.dialect import MvmOp, TileListAttr
from xbarc.report import charts, report_page
from xbarc.report.figures import TWICE, flatten, title, words
from xbarc.report.html import breakable, tag
from xbarc.report.html import text as escaped
from xbarc.report.page.floorplan import Placed, crop
from xbarc.report.page.occupancy import shapes
from xbarc.report.page.overview import interval_95
from xbarc.report.page.results import ratios
from xbarc.support.units import percent, quantity, si

HOSTILE = "</title><script>alert(1)</script>&amp;\"quoted\" 'x' <b>"
LONG = "model/encoder/layers.0/" + "very_long_name_without_end" * 6
NET = """g (float[N,3,8,8] x) => (float[N,10] y)
    <float[6,3,3,3] a, float[6,1,3,3] d, float[150,10] w> {
    c = Conv<kernel_shape=[3,3]>(x, a)
    r = Relu(c)
    e = Conv<kernel_shape=[3,3], group=6, pads=[1,1,0,0]>(r, d)
    s = Relu(e)
    f = Flatten(s)
    y = MatMul(f, w)
}"""


def small_target(**tables):
    array = {"rows": 32, "cols": 64, "cell_bits": 2}
    return make_target(**{"array": array, "adc": {"bits": 5, "mode": "saturate"}, **tables})


def compiled(names=("conv", "depthwise", "dense"), **tables):
    model = text_model(NET)
    weighted = [n for n in model.graph.node if n.op_type in ("Conv", "MatMul")]
    for node, name in zip(weighted, names, strict=True):
        node.name = name
    x = np.abs(np.random.default_rng(0).normal(size=(4, 3, 8, 8))).astype(np.float32)
    return xbarc.compile(model, small_target(**tables), calibration=x), x


def invoke(*command):
    done = CliRunner().invoke(app, [str(c) for c in command])
    assert done.exit_code == 0, done.output + done.stderr
    return done


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A program of hostile names, with two runs kept, and its page."""
    folder = tmp_path_factory.mktemp("report")
    program, x = compiled((HOSTILE, LONG, "dense"))
    program.save(folder / "m.xbar")
    np.savez(folder / "x.npz", x=x, y=np.zeros(4, np.int64))
    run = ("run", folder / "m.xbar", "--input", folder / "x.npz", "--labels", "y")
    invoke(*run, "--limit", 2)
    invoke(*run, "--activity")
    done = invoke("report", folder / "m.xbar", "-o", folder / "r.html")
    assert done.stdout.strip() == str(folder / "r.html")
    return folder


@pytest.fixture(scope="module")
def source(saved):
    return (saved / "r.html").read_text(encoding="utf-8")


def test_the_page_is_whole_and_needs_nothing_else(source):
    page = Page(source)
    assert outside(source) == []
    assert page.elements[0] == ("html", {"lang": "en"})
    assert len(page.ids()) == len(set(page.ids()))
    links = [a["href"] for tag_, a in page.elements if tag_ == "a" and "download" not in a]
    assert links == [f"#{i}" for i in page.ids()]
    assert {"overview", "components", "layers", "pipeline", "occupancy"} <= set(page.ids())
    assert {"runs", "activity", "sources", "repeat"} <= set(page.ids())


def test_every_figure_is_the_report_s(saved, source):
    report = json.loads((saved / "m.xbar" / "report.json").read_text())
    figures = Page(source).figures
    single, stream = (report["totals"]["modes"][m]["energy_uj"] for m in ("single", "stream"))
    assert single == stream  # one chart for both
    for key, value in flatten(report["totals"]):
        if isinstance(value, int | float) and key not in TWICE:
            # A stream's energy is that of the totals.
            key = key.removeprefix("modes.stream.") if ".stream.energy" in key else key
            key = key.removeprefix("modes.single.") if ".single.energy" in key else key
            assert figures[f"totals.{key}"] == value, key
    for i, row in enumerate(report["layers"]):
        assert figures[f"layers.{i}.energy_pj"] == sum(row["energy_pj"].values())
        assert figures[f"layers.{i}.utilization"] == row["utilization"]
        assert figures[f"layers.{i}.crossbars"] == row["crossbars"]


def test_the_table_of_layers_has_every_count(saved, source):
    report = json.loads((saved / "m.xbar" / "report.json").read_text())
    table = source.split("What is counted")[-1].split("</table>")[0]
    lines = table.split("<tr>")[2:]
    for row, line in zip(report["layers"], lines, strict=True):
        values = [
            json.loads(a["value"]) for t, a in Page("<tr>" + cut(line)).elements if t == "data"
        ]
        for key in ("weights", "memristors", "vectors", "cycles", "macs", "adc_conversions"):
            assert row[key] in values
        assert row["latency_ns"] in values


def cut(line):
    return line[: line.index("</tr>") + len("</tr>")]


def test_what_runs_left_is_shown(saved, source):
    page = Page(source)
    kept = sorted((saved / "m.xbar" / "runs").glob("*.json"))
    results = [json.loads(f.read_text())["result"] for f in kept]
    newest = results[-1]
    assert page.figures["run.accuracy"] == newest["accuracy"]
    for i, result in enumerate(reversed(results)):
        assert page.figures[f"runs.{i}.samples"] == result["samples"]
    for name, layer in newest["adc"].items():
        assert page.figures[f"run.adc.{name}.saturated"] == layer["saturated"]
    for name, layer in newest["activity"].items():
        assert page.figures[f"run.activity.{name}.driven_rows"] == layer["driven_rows"]
    for part in ("crossbar", "adc"):
        for how in ("fixed", "values"):
            total = sum(a["energy_pj"][part][how] for a in newest["activity"].values())
            assert page.figures[f"run.activity.{part}.{how}_pj"] == pytest.approx(total)


def test_any_name_is_text(source):
    page = Page(source)
    assert "<script" not in source
    # Soft breaks stand between the parts of a name.
    assert HOSTILE in page.text
    assert LONG in page.text
    titles = [a.get("aria-label", "") for t, a in page.elements if t == "svg"]
    assert any(HOSTILE in t for t in titles)


def test_text_that_html_cant_hold_is_written_out():
    assert escaped("a\x00b\x1bc\ud800<\n") == r"a\x00b\x1bc\ud800&lt;" + "\n"
    assert tag("p", "1 < 2", title='"') == '<p title="&quot;">1 &lt; 2</p>'
    assert breakable("a/b.c_<") == "a/<wbr>b.<wbr>c_&lt;"


def test_pictures_and_tables_say_what_they_are(source):
    page = Page(source)
    for name, attributes in page.elements:
        if name == "svg":
            assert attributes["role"] == "img"
            assert attributes["aria-label"]
    names = [name for name, _ in page.elements]
    assert names.count("caption") == names.count("table")
    assert names.count("h1") == names.count("main") == 1
    assert "h3" not in names[: names.index("h2")]


def test_sources_and_how_to_repeat_it(saved, source):
    text = Page(source).text
    manifest = json.loads((saved / "m.xbar" / "manifest.json").read_text())
    for digest in manifest["files"].values():
        assert digest in text
    assert "xbarc compile" in text
    assert "xbarc run m.xbar --input x.npz --labels y --activity" in text
    for package, version in manifest["versions"].items():
        assert package in text
        assert version in text
    for component in xbarc.load(saved / "m.xbar").report.get("components", {}).values():
        assert component["source"] in text


def test_a_program_that_never_ran_says_so(tmp_path):
    program, _ = compiled()
    program.save(tmp_path / "m.xbar")
    page = Page(report_page(program, tmp_path / "m.xbar"))
    assert "No run is kept" in page.text
    assert "activity" not in page.ids()


def test_the_page_repeats_to_the_byte(saved, source):
    invoke("report", saved / "m.xbar", "-o", saved / "again.html")
    assert (saved / "again.html").read_text(encoding="utf-8") == source


def test_a_damaged_run_is_left_out_with_a_word(saved, tmp_path):
    broken = saved / "m.xbar" / "runs" / "0.json"
    broken.write_text("no")
    done = CliRunner().invoke(
        app, ["report", str(saved / "m.xbar"), "-o", str(tmp_path / "r.html")]
    )
    broken.unlink()
    assert done.exit_code == 0
    assert "left out" in done.stderr


def test_a_report_of_nothing_and_to_nowhere(saved, tmp_path):
    runner = CliRunner()
    gone = runner.invoke(app, ["report", str(tmp_path / "gone.xbar")])
    assert "no such program" in str(gone.exception)
    where = tmp_path / "no" / "r.html"
    lost = runner.invoke(app, ["report", str(saved / "m.xbar"), "-o", str(where)])
    assert "can't write" in str(lost.exception)
    assert not where.exists()


# What comes first, and what is folded


def test_headlines_come_first_then_accuracy_then_charts(source):
    ids = Page(source).ids()
    assert ids[:2] == ["overview", "runs"]
    assert ids.index("network") < ids.index("pipeline") < ids.index("components")
    assert ids[-2:] == ["sources", "repeat"]


def test_counters_are_folded_away(source):
    unfolded = re.sub(r"<details>.*?</details>", "", source, flags=re.DOTALL)
    for counter in ("Cell level reads", "Buffer write bits", "What is counted, for one input"):
        assert counter in source
        assert counter not in unfolded
    shown = Page(unfolded).figures
    for key in ("modes.stream.energy_uj.total", "throughput_ips", "power_w", "area_mm2.total"):
        assert f"totals.{key}" in shown


def test_the_overview_says_what_limits_the_program(saved, source):
    totals = json.loads((saved / "m.xbar" / "report.json").read_text())["totals"]
    told = source[source.index('class="limits"') :].split("</dl>")[0]
    text = Page(f"<dl {told}</dl>").text
    assert totals["bottleneck"]["layer"] in text
    assert f"for {quantity('interval_us', totals['interval_us'])}" in text
    most = max((v, k) for k, v in totals["energy_uj"].items() if k != "total")[1]
    share = percent(totals["energy_uj"][most] / totals["energy_uj"]["total"])
    assert f"{words(most)} takes {share}." in text


def test_accuracy_has_its_95_percent_interval():
    # Wilson's of 90 of 100 is 82.6 % to 94.5 %.
    assert interval_95(0.9, 100) == pytest.approx((0.826, 0.945), abs=0.0005)
    low, high = interval_95(1.0, 4)
    assert low == pytest.approx(0.510, abs=0.0005)
    assert high == pytest.approx(1.0)
    assert interval_95(0.0, 4) == pytest.approx((0.0, 1 - low))


def test_runs_stand_beside_float(saved, source):
    kept = sorted((saved / "m.xbar" / "runs").glob("*.json"))
    results = [json.loads(f.read_text())["result"] for f in kept]
    for i, result in enumerate(reversed(results)):
        for key in ("accuracy", "agreement"):
            assert Page(source).figures[f"runs.{i}.float.{key}"] == result["float"][key]


def runs_of(text, folder, *options):
    """The table of runs after a run of a model of two outputs [4, k], or of one."""
    model, x = text_model(text), np.random.default_rng(0).normal(size=(4, 20)).astype(np.float32)
    program = xbarc.compile(model, small_target(), calibration=x)
    program.save(folder / "m.xbar")
    np.savez(folder / "x.npz", x=x, t=x[:, :3])
    invoke("run", folder / "m.xbar", "--input", folder / "x.npz", *options)
    invoke("report", folder / "m.xbar", "-o", folder / "r.html")
    (kept,) = (folder / "m.xbar" / "runs").glob("*.json")
    return json.loads(kept.read_text())["result"], Page((folder / "r.html").read_text("utf-8"))


def test_a_run_without_classes_has_its_ratio(tmp_path):
    one = "g (float[N,20] x) => (float[N,1,3] y) <float[20,3] v, int64[3] s = {-1,1,3}> "
    one += "{ a = MatMul(x, v) y = Reshape(a, s) }"
    result, page = runs_of(one, tmp_path)
    ratio = result["float"]["output_snr_db"]
    assert page.figures["runs.0.outputs.y.snr_db"] == ratio
    assert f"{ratio:.1f}\xa0dB" in page.text


def test_each_of_several_outputs_has_its_ratio_by_name(tmp_path):
    two = "g (float[N,20] x) => (float[N,3] a, float[N,9] z) <float[20,3] v, float[3,9] w> "
    two += "{ a = MatMul(x, v) z = MatMul(a, w) }"
    result, page = runs_of(two, tmp_path, "--labels", "t", "--metric", "snr")
    for name, found in result["outputs"].items():
        assert page.figures[f"runs.0.outputs.{name}.snr_db"] == found["snr_db"]
        assert f"{name} {found['snr_db']:.1f}\xa0dB" in page.text
    # What labels say, where it is no accuracy.
    assert page.figures["runs.0.snr_db"] == result["snr_db"]
    assert page.figures["runs.0.float.snr_db"] == result["float"]["snr_db"]
    assert f"SNR {result['snr_db']:.1f}\xa0dB" in page.text


def test_a_ratio_of_an_older_run_and_of_outputs_alike():
    older = {"samples": 1, "images_per_second": 1.0, "adc": {}, "float": {"output_snr_db": 8.0}}
    (found,) = ratios("runs.0", Result.model_validate(older))
    assert 'data-key="runs.0.float.output_snr_db"' in found
    alike = older | {"outputs": {"y": {"snr_db": None}, "t": {"agree": 1.0}}}
    (found,) = ratios("runs.0", Result.model_validate(alike))
    assert "y" in found
    assert ">alike<" in found[2]


def test_converters_are_told_of_the_run_behind_the_accuracy(saved, tmp_path):
    shutil.copytree(saved / "m.xbar", tmp_path / "m.xbar")
    run = ("run", tmp_path / "m.xbar", "--input", saved / "x.npz", "--labels", "y")
    first = sorted((tmp_path / "m.xbar" / "runs").glob("*.json"))[-1]
    invoke(*run, "--noise", "programming{sigma=0.05}")
    invoke("report", tmp_path / "m.xbar", "-o", tmp_path / "r.html")
    wanted = json.loads(first.read_text())["at"][:19].replace("T", " ")
    assert (
        f"Converters in the run of {wanted} (ideal devices, 4 samples)"
        in Page((tmp_path / "r.html").read_text(encoding="utf-8")).text
    )


def test_each_layer_s_choice_stands_beside_its_runner_up(tmp_path):
    program = xbarc.compile(text_model(NET), small_target(), passes="map")
    program.save(tmp_path / "m.xbar")
    source = report_page(program, tmp_path / "m.xbar")
    table = source.split("Chosen, and the runner-up")[-1].split("</table>")[0]
    lines = table.split("<tr>")[2:]
    assert len(lines) == len(program.report["mapping_choices"])
    for line, choice in zip(lines, program.report["mapping_choices"].values(), strict=True):
        assert f"<b>{choice['chosen']}</b>" in line
        elements = Page("<tr>" + cut(line)).elements
        values = [json.loads(a["value"]) for t, a in elements if t == "data"]
        figures = {
            c["scheme"]: [c[key] for key in ("crossbars", "cycles", "energy_pj")]
            for c in choice["candidates"]
            if "refused" not in c
        }
        assert values[:3] == figures.pop(choice["chosen"])
        assert values[3:] == [] or values[3:] in figures.values()
    assert source.index("All ") < source.index("What each scheme would cost")
    assert "What each scheme would cost" not in re.sub(
        r"<details>.*?</details>", "", source, flags=re.DOTALL
    )


# Pipeline


def gantt(program, path):
    program.save(path)
    figures = Page(report_page(program, path)).figures
    keys = ("start_ns", "finish_ns")
    rows = {k.split(".")[1] for k in figures if k.startswith("pipeline.")}
    return [tuple(figures[f"pipeline.{i}.{k}"] for k in keys) for i in sorted(rows, key=int)]


def test_layers_are_drawn_when_they_work(tmp_path):
    program, _ = compiled()
    planned = [(0.0, 70.0), (10.0, 80.0), (75.0, 100.0)]
    layers = [stage for stage in program.report["pipeline"] if stage["kind"] == "crossbar"]
    program.report["pipeline"] = layers
    for stage, (start, finish) in zip(layers, planned, strict=True):
        stage["start_ns"], stage["finish_ns"] = start, finish
    assert gantt(program, tmp_path / "m.xbar") == planned


@pytest.mark.parametrize("passes", ["", "schedule"])
def test_stages_stand_with_their_layer(tmp_path, passes):
    program = xbarc.compile(text_model(NET), small_target(), passes=passes)
    spans = gantt(program, tmp_path / "m.xbar")
    stages = program.report["pipeline"]
    assert min(start for start, _ in spans) == min(s["start_ns"] for s in stages)
    assert max(finish for _, finish in spans) == max(s["finish_ns"] for s in stages)
    assert len(spans) == len({s["layer"] or s["name"] for s in stages})
    text = Page(report_page(program, tmp_path / "m.xbar")).text
    assert ("Layer after layer" in text) == (not passes)
    assert program.report["totals"]["bottleneck"]["layer"] in text


# Floor plan


@pytest.mark.parametrize("passes", ["", "place"])
def test_the_floor_plan_has_every_crossbar(tmp_path, passes):
    program = xbarc.compile(text_model(NET), small_target(), passes=passes)
    program.save(tmp_path / "m.xbar")
    page = Page(report_page(program, tmp_path / "m.xbar"))
    assert "floorplan" in page.ids()
    assert ("isn't placed" in page.text) == (not passes)
    for i, row in enumerate(program.report["layers"]):
        assert page.figures[f"floorplan.{i}.crossbars"] == row["crossbars"]


def test_the_floor_plan_is_cropped_to_the_nodes_in_use(tmp_path):
    program = xbarc.compile(text_model(NET), "mca128")
    source = report_page(program, None)
    (mesh,) = [a for t, a in Page(source).elements if t == "svg" and a.get("class") == "mesh"]
    assert mesh["viewbox"] == "0 0 1 1"
    (outline,) = re.findall(r'<path d="([^"]*)" class="node">', source)
    assert outline.count("M") == 1
    assert "Drawn: row 0, column 0; no node beside these is in use." in Page(source).text


def test_a_plan_has_every_node_in_use_and_no_row_more():
    mesh = Mesh(chips=1, nodes=12, cores=1, crossbars=1, width=4)
    used = [0, 1, 9]
    layer = Placed("a", used, [1, 1, 1])
    box = crop(mesh, [layer])
    places = mesh.positions[used].tolist()
    assert box[0] == min(r for r, _ in places)
    assert box[1] == min(c for _, c in places)
    assert box[0] + box[2] - 1 == max(r for r, _ in places)
    assert box[1] + box[3] - 1 == max(c for _, c in places)


# Occupancy


def mvms(program):
    return [op for op in program.module.walk() if isinstance(op, MvmOp)]


@pytest.mark.parametrize("encoding", ["differential", "offset"])
def test_shapes_account_for_every_tile_and_weight(encoding):
    array = {"rows": 32, "cols": 64, "cell_bits": 2, "encoding": encoding}
    program, _ = compiled(array=array)
    for op, row in zip(mvms(program), program.report["layers"], strict=True):
        found = shapes(op)
        assert sum(s.count for s in found) == len(op.tiles()) == row["tiles"]
        held = sum(s.count * (r1 - r0) * (c1 - c0) for s in found for r0, r1, c0, c1 in s.blocks)
        assert held == row["weights"]
        share = sum(s.count * s.occupied(program.target.array, 8) for s in found) / row["crossbars"]
        assert share == pytest.approx(row["utilization"])


def test_shapes_of_irregular_tiles_of_blocks():
    program, _ = compiled()
    op = mvms(program)[1]
    # Six blocks of 9 x 1, cut anyhow: across blocks, and within.
    op.properties["tiling"] = TileListAttr.of(
        [[0, 13, 0, 2], [13, 18, 1, 2], [18, 45, 2, 5], [45, 54, 5, 6]]
    )
    found = {(s.rows, s.cols): s.blocks for s in shapes(op)}
    assert found[13, 2] == ((0, 9, 0, 1), (9, 13, 1, 2))
    assert found[5, 1] == ((0, 5, 0, 1),)
    assert found[27, 3] == ((0, 9, 0, 1), (9, 18, 1, 2), (18, 27, 2, 3))
    assert found[9, 1] == ((0, 9, 0, 1),)


# Figures and charts


@pytest.mark.parametrize(
    ("key", "value", "shown"),
    [
        ("latency_us", 8986.4, "8.986 ms"),
        ("energy_pj", 0.0, "0 J"),
        ("energy_uj", 999.99, "1 mJ"),
        ("area_mm2", 0.2754, "0.2754 mm²"),
        ("throughput_ips", 566.9, "566.9 inputs/s"),
        ("utilization", 0.797, "79.7 %"),
        ("crossbars", 9999, "9\N{NARROW NO-BREAK SPACE}999"),
        ("memristors", 2167168, "2.167 M"),
        ("bottleneck", "conv1", "conv1"),
        ("accuracy", None, "–"),
    ],
)
def test_figures_are_written_with_their_units(key, value, shown):
    assert quantity(key, value) == shown


def test_keys_are_titles():
    assert title("programming_energy_uj") == "Programming energy"
    assert title("digital.activation") == "Digital activation"
    assert title("adc_conversions") == "ADC conversions"
    assert si(1e-13, "J") == "100 fJ"
    assert percent(0.00041) == "0.041 %"


def test_segments_of_a_bar_add_up_and_the_smallest_is_seen():
    segments = [charts.Segment(v, f"s{i}", "a") for i, v in enumerate((3.0, 1.0, 0.0))]
    rects = [a for t, a in Page(charts.bar(segments, 8.0, "bar")).elements if t == "rect"]
    assert [(float(r["x"]), float(r["width"])) for r in rects] == [(0, 375), (375, 125)]
    late, none = charts.Span(4.9999, 5, "s0", "late"), charts.Span(2, 2, "s0", "none")
    (end,) = [a for t, a in Page(charts.spans([late, none], 5, "all")).elements if t == "rect"]
    assert float(end["x"]) + float(end["width"]) <= charts.WIDTH
    assert float(end["width"]) == charts.LEAST


def test_ticks_are_round_and_few():
    for whole in (1e-9, 0.7, 1.0, 86.4, 1e7):
        marks = charts.ticks(whole)
        assert 2 <= len(marks) <= 6
        assert marks[0] == 0
        assert marks[-1] <= whole * 1.001
    assert charts.ticks(0) == [0]


# In a browser, and large

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="chromium isn't installed")


@needs_chromium
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1600])
def test_it_reads_well_in_a_browser(source, width, scheme):
    seen = laid_out(source, width, scheme)
    assert seen["width"] == width
    assert seen["scroll"] <= width
    assert seen["wide"] == []
    assert seen["pale"] == []
    assert (seen["ground"] > 0.5) == (scheme == "light")


def test_a_deep_networks_page_stays_small(tmp_path):
    light = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
    program = xbarc.compile(light / "light_densenet121.onnx", "mca128")
    program.save(tmp_path / "d.xbar")
    page = report_page(xbarc.load(tmp_path / "d.xbar"), tmp_path / "d.xbar")
    assert len(page.encode()) < 1_000_000
    assert len(program.report["layers"]) == 121
    if CHROMIUM is not None:
        seen = laid_out(page, 400, "light")
        assert seen["scroll"] <= 400
        assert seen["wide"] == []
