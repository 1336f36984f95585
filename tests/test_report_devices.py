"""The section `Real devices` of the report: what kept trials and runs with effects tell."""

import itertools
import json
import re
import shlex
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from models import text_model
from pages import CHROMIUM, Page, laid_out, outside
from typer.testing import CliRunner

import xbarc
from xbarc.artifact.runs import Run
from xbarc.artifact.trials import Header, Options, Record, Trial
from xbarc.cli import app
from xbarc.driver.statistics import summary
from xbarc.report import plots, report_page
from xbarc.report.studies import studies_of

CLASSIFIER = """g (float[N,20] x) => (float[N,5] y) <float[20,16] a, float[16,5] b>
{ h = MatMul(x, a) r = Relu(h) y = MatMul(r, b) }"""
HOSTILE = "</title><script>alert(1)</script>&amp;\"quoted\" 'x' <b>"
BEGUN = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A classifier with its own answers as labels; one layer has a name that is markup."""
    folder = tmp_path_factory.mktemp("made")
    x = np.random.default_rng(0).random((30, 20), dtype=np.float32)
    source = text_model(CLASSIFIER)
    source.graph.node[0].name, source.graph.node[2].name = HOSTILE, "last"
    # Weights to the nearest codes: some cell is at the largest level.
    program = xbarc.compile(source, "mca128", calibration=x, rounding="nearest", equalize=False)
    program.save(folder / "out.xbar")
    np.savez(folder / "x.npz", x=x, y=program.run(x)["y"].argmax(axis=1))
    return folder


@pytest.fixture
def saved(made, tmp_path, monkeypatch):
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)


def invoke(*command):
    done = CliRunner().invoke(app, [str(c) for c in command])
    assert done.exit_code == 0, (done.output, done.exception)
    return done


def run(*options):
    command = ("run", "out.xbar", "--input", "x.npz", "--labels", "y", "--json", *options)
    return json.loads(invoke(*command).stdout)


def page(runs=(), records=(), path=Path("out.xbar")):
    return str(report_page(xbarc.load(path), path, runs, records))


def section(source):
    """The source of the section alone."""
    (found,) = re.findall(r'<section id="devices">.*?</section>', source)
    return found


_at = itertools.count()


def study(trials, *, effects=("read{sigma=0.1}",), vary=None, by_layer=False, **options):
    """A record of trials (value, layer, seed, accuracy), begun after those made before."""
    header = Header(
        at=BEGUN + timedelta(minutes=next(_at)),
        program="0" * 64,
        input=options.pop("input", "x.npz"),
        data=options.pop("data", "1" * 64),
        options=Options(**{"labels": "y", **options}),
        effects=list(effects),
        vary=vary,
        by_layer=by_layer,
    )
    made = (
        Trial(value=v, layer=layer, seed=seed, accuracy=a, samples=50)
        for v, layer, seed, a in trials
    )
    return Record(header, tuple(made))


def alone(*accuracies, **options):
    return study([(None, None, seed, a) for seed, a in enumerate(accuracies)], **options)


def a_run(accuracy, **changes):
    result = {
        "samples": 50,
        "accuracy": accuracy,
        "images_per_second": 1.0,
        "adc": {},
        "effects": changes.pop("effects", []),
        "conductances": changes.pop("conductances", None),
    }
    options = {"labels": "y", **changes.pop("options", {})}
    run = {"format": 1, "at": BEGUN, "program": "0" * 64, "input": "x.npz"}
    return Run.model_validate({**run, "options": options, "result": result, **changes})


def same(figures, key, told):
    """Whether the figures under `key` are those of `xbarc run --json`."""
    for name in ("mean", "std", "worst", "median", "best"):
        assert figures[f"{key}.accuracy.{name}"] == told["accuracy"][name], name
    for i, bound in enumerate(told["accuracy"]["interval"]):
        assert figures[f"{key}.accuracy.interval.{i}"] == bound
    assert figures[f"{key}.trials"] == len(told["each"])


# --- What is kept is shown


@pytest.mark.usefixtures("saved")
def test_figures_are_those_that_the_trials_printed():
    ideal = run()
    noise = ("--noise", "programming{sigma=0.5}", "--trials", 4)
    one = run(*noise)
    varied = run("--vary", "programming.sigma=0.3,0,0.6", "--trials", 3)
    layers = run(*noise, "--by-layer")
    invoke("report", "out.xbar", "-o", "r.html")
    source = Path("r.html").read_text(encoding="utf-8")
    figures = Page(source).figures
    studies = studies_of(xbarc.artifact.trials.recorded(Path("out.xbar"))[0])
    kinds = [(s.header.vary is not None) + 2 * s.header.by_layer for s in studies]
    plain, vary, by_layer = (f"trials.{kinds.index(kind)}" for kind in (0, 1, 2))
    same(figures, plain, one)
    assert figures[f"{plain}.samples"] == 30
    assert figures[f"{plain}.ideal.accuracy"] == ideal["accuracy"] == 1
    for j, told in enumerate(sorted(varied["values"], key=lambda told: told["value"])):
        assert figures[f"{vary}.values.{j}.value"] == told["value"]
        same(figures, f"{vary}.values.{j}", told)
    assert figures[f"{by_layer}.without_effects"] == layers["without_effects"]
    for j, told in enumerate(layers["layers"]):
        assert figures[f"{by_layer}.layers.{j}.lost"] == pytest.approx(told["lost"])
        same(figures, f"{by_layer}.layers.{j}", told)
    assert outside(source) == []
    assert "<script" not in source
    text = Page(section(source)).text
    for said in (HOSTILE, "x.npz", "labels y", "programming{sigma=0.5}", "0 to 3", "30 samples"):
        assert said in text
    invoke("report", "out.xbar", "-o", "again.html")
    assert Path("again.html").read_text(encoding="utf-8") == source


@pytest.mark.usefixtures("saved")
def test_commands_of_the_page_find_all_trials_done(monkeypatch):
    run("--noise", "ratio,programming{sigma=0.5}", "--limit", 20, "--trials", 3, "--seed", 5)
    run("--device", "rram", "--vary", "programming.sigma=0.3,0,1e-05,12", "--trials", 2)
    run("--device", "pcm", "--vary", "drift.compensation=none,global", "--trials", 2)
    run("--noise", "programming{sigma=0.5}", "--by-layer", "--trials", 2)
    files = {f: f.read_bytes() for f in Path("out.xbar/runs").glob("*.trials.jsonl")}
    invoke("report", "out.xbar", "-o", "r.html")
    text = Page(Path("r.html").read_text(encoding="utf-8")).text
    commands = [line for line in text.splitlines() if "--trials" in line and "xbarc run" in line]
    asked = [c[c.index("xbarc run") :] for c in commands if c.strip().startswith("xbarc run")]
    assert len(asked) == 4
    monkeypatch.setattr(
        "xbarc.driver.trials.Bench.trial", lambda *a, **k: pytest.fail("a trial ran again")
    )
    for command in asked:
        invoke(*shlex.split(command)[1:])
    assert {f: f.read_bytes() for f in Path("out.xbar/runs").glob("*.trials.jsonl")} == files


@pytest.mark.usefixtures("saved")
def test_cells_of_the_newest_run_whose_cells_err():
    noise = ("--noise", "ratio,programming{sigma=0.2}")
    run(*noise, "--seed", 1)
    told = run(*noise, "--seed", 2)["conductances"]
    run("--noise", "read{sigma=0.1}")
    invoke("report", "out.xbar", "-o", "r.html")
    source = section(Path("r.html").read_text(encoding="utf-8"))
    seen = Page(source)
    for i, level in enumerate(told["levels"]):
        for key in ("cells", "wanted_us", "mean_us", "std_us"):
            assert seen.figures[f"run.conductances.levels.{i}.{key}"] == level[key]
    arrays = f"{told['arrays']} of {told['arrays_in_all']} arrays"
    for said in (arrays, "ratio, programming{sigma=0.2}", "seed 2", "1 µS", "100 µS"):
        assert said in seen.text.replace("\N{NARROW NO-BREAK SPACE}", "")
    assert source.count('class="s0 soft"') == len(told["levels"]) == 4


# --- When there is nothing, little, or what is damaged


@pytest.mark.usefixtures("saved")
def test_nothing_is_shown_where_nothing_is_kept():
    assert "devices" not in Page(page()).ids()
    assert "devices" not in Page(page([a_run(0.9)])).ids()
    no_trial = study([])
    without_alone = study([(None, None, None, 0.9)], by_layer=True)
    assert "devices" not in Page(page([], [no_trial, without_alone])).ids()


@pytest.mark.usefixtures("saved")
def test_a_run_with_effects_alone_is_one_chip():
    seen = Page(page([a_run(0.9, effects=["read{sigma=<1}"], options={"seed": 3})]))
    assert "devices" in seen.ids()
    assert seen.figures["run_with_effects.accuracy"] == 0.9
    assert "read{sigma=<1}; seed 3" in seen.text
    assert "How sure" not in seen.text
    told = Page(page([a_run(None, effects=["read{sigma=0.1}"])])).figures
    assert told["run_with_effects.accuracy"] is None


@pytest.mark.usefixtures("saved")
def test_damaged_files_are_left_out_with_a_word():
    run("--noise", "programming{sigma=0.5}", "--trials", 2)
    runs = Path("out.xbar/runs")
    (good,) = runs.glob("*.trials.jsonl")
    header, *trials = good.read_text().splitlines()
    other = {**json.loads(header), "program": "f" * 64}
    (runs / f"{'1' * 16}.trials.jsonl").write_text("no\n")
    (runs / f"{'2' * 16}.trials.jsonl").write_text("\n".join([json.dumps(other), *trials, ""]))
    good.write_text("\n".join([header, *trials, '{"value":', ""]))
    done = invoke("report", "out.xbar", "-o", "r.html")
    for said in ("not trials that xbarc wrote", "trials of another program", "not a trial that"):
        assert said in done.stderr
    figures = Page(Path("r.html").read_text(encoding="utf-8")).figures
    assert figures["trials.0.trials"] == 2
    assert "trials.1.trials" not in figures


@pytest.mark.usefixtures("saved")
def test_a_single_trial_and_a_single_value():
    records = [
        alone(0.5),
        study([(0.1, None, 0, 0.5)], vary="read.sigma"),
        study([(None, None, None, 1.0), (None, "last", 0, 0.5)], by_layer=True),
    ]
    seen = Page(page([], records))
    for key in ("trials.0", "trials.1.values.0", "trials.2.layers.0"):
        assert seen.figures[f"{key}.accuracy.mean"] == 0.5
        assert seen.figures[f"{key}.accuracy.std"] is None
        assert f"{key}.accuracy.interval.0" not in seen.figures
    assert seen.figures["trials.2.layers.0.lost"] == 0.5


# --- Ideal devices beside


@pytest.mark.usefixtures("saved")
@pytest.mark.parametrize(
    ("beside", "there"),
    [
        (a_run(0.97), True),
        (a_run(0.97, options={"seed": 4, "batch": 2}), True),
        (a_run(0.97, options={"limit": 3}), False),
        (a_run(0.97, options={"labels": "z"}), False),
        (a_run(0.97, options={"ideal": True}), False),
        (a_run(0.97, options={"plugin": ["p.py"]}), False),
        (a_run(0.97, effects=["read{sigma=0}"]), False),
        (a_run(0.97, input="z.npz"), False),
        (a_run(None), False),
    ],
)
def test_ideal_devices_are_those_of_a_run_over_the_same_samples(beside, there):
    seen = Page(page([beside], [alone(0.8, 0.9)]))
    assert seen.figures["trials.0.ideal.accuracy"] == (0.97 if there else None)
    assert ("ideal devices: 97.00 %" in str(seen.elements)) == there
    assert ("The dashed line is the same network on ideal devices." in seen.text) == there
    assert ("A run with --noise none over the same samples adds" in seen.text) != there


@pytest.mark.usefixtures("saved")
def test_ideal_devices_of_a_study_by_layer():
    trials = [(None, None, None, 0.96), (None, "last", 0, 0.5)]
    beside = study(trials, by_layer=True)
    figures = Page(page([], [alone(0.8, 0.9), beside])).figures
    key = next(k for k in figures if k.endswith("ideal.accuracy"))
    assert figures[key] == 0.96
    other = study(trials, by_layer=True, data="2" * 64)
    assert 0.96 not in [
        v
        for k, v in Page(page([], [alone(0.8, 0.9), other])).figures.items()
        if k.endswith("ideal.accuracy")
    ]


# --- Studies that belong together


def test_the_same_devices_asked_for_in_two_ways_are_one_study():
    first = study([(None, None, 0, 0.8), (None, None, 1, 0.7)], device="rram")
    again = study([(None, None, 1, 0.7), (None, None, 2, 0.6)], noise="read{sigma=0.1}")
    (found,) = studies_of([again, first])
    assert found.groups[0].accuracies == [0.8, 0.7, 0.6]
    assert found.name == "rram"
    disagrees = study([(None, None, 1, 0.75)])
    assert len(studies_of([first, disagrees])) == 2
    for other in ({"data": "2" * 64}, {"limit": 3}, {"plugin": ["p.py"]}, {"effects": ["a"]}):
        assert len(studies_of([first, alone(0.8, **other)])) == 2


def test_numbers_are_in_order_and_words_as_they_ran():
    (found,) = studies_of([study([(v, None, 0, 0.5) for v in (3.0, 1.0, 2.0)], vary="a.b")])
    assert [group.value for group in found.groups] == [1, 2, 3]
    (found,) = studies_of([study([(v, None, 0, 0.5) for v in ("none", "all")], vary="a.b")])
    assert [group.value for group in found.groups] == ["none", "all"]


def test_studies_have_the_name_that_they_were_asked_by():
    def name(**options):
        return studies_of([alone(0.5, **options)])[0].name

    assert name(device="rram", noise="read") == "rram + read"
    assert name(noise="read") == "read"
    assert name(effects=["read", "ratio"]) == "read, ratio"
    assert name(effects=["read", "ratio"], vary="read.sigma") == "ratio"
    assert name(effects=["read{mode=a}"], vary="read.sigma") == "read{mode=a}"
    assert name(effects=["read"], vary="read.sigma") == "no other effect"
    noise = "ratio,read{sigma=0.2}"
    assert name(effects=["ratio", "read"], vary="read.sigma", noise=noise) == "ratio"


def test_seeds_in_words():
    def seeds(*found):
        return studies_of([study([(None, None, s, 0.5) for s in found])])[0].groups[0].seeds

    assert seeds(2, 0, 1) == "0 to 2"
    assert seeds(7) == "7"
    assert seeds(1, 5) == "2 of 1 to 5"


@pytest.mark.usefixtures("saved")
def test_a_legend_only_where_other_effects_differ():
    def curve(effects, **options):
        trials = [(v, None, s, 0.9 - v) for v in (0.0, 0.5) for s in (0, 1)]
        return study(trials, effects=effects, vary="read.sigma", **options)

    one = section(page([], [curve(["read"]), curve(["read"])]))
    assert one.count("<svg") == 1
    assert "legend" not in one
    two = section(page([], [curve(["read"]), curve(["read", "ratio"])]))
    assert two.count("<svg") == 1
    (legend,) = re.findall(r'<ul class="legend">.*?</ul>', two)
    assert Page(legend).texts == ["no other effect", "ratio"]
    apart_ = section(page([], [curve(["read"]), curve(["read"], data="2" * 64)]))
    assert apart_.count("<svg") == 2


@pytest.mark.usefixtures("saved")
def test_lines_go_through_the_means_of_numbers_not_of_words():
    def lines(values):
        trials = [(v, None, s, 0.5 + 0.1 * s) for v in values for s in (0, 1)]
        source = section(page([], [study(trials, vary="drift.option")]))
        return re.findall(r'<path d="([^"]*)" class="line line-s0"', source)

    (line,) = lines([0.0, 1.0, 3.0])
    across = [float(x) for x, _ in (p.split() for p in line.removeprefix("M").split("L"))]
    assert (across[2] - across[1]) / (across[1] - across[0]) == pytest.approx(2, abs=0.01)
    assert all("L" in line and len(line.split("L")) == 2 for line in lines(["a", "b", "c"]))
    assert len(lines(["a", "b", "c"])) == 3


@pytest.mark.usefixtures("saved")
def test_dots_stand_where_the_axis_says():
    accuracies = (0.62, 0.71, 0.94)
    trials = [(0.5, None, s, a) for s, a in enumerate(accuracies)]
    source = section(page([], [study(trials, vary="read.sigma")]))
    (dots,) = re.findall(r'<path d="([^"]*)" class="dots line-s0"', source)
    heights = [float(d.split()[1].removesuffix("h0")) for d in dots.split("M")[1:]]
    (marks,) = re.findall(r'<div class="y-marks".*?</div>', source)
    found = re.findall(r"bottom:([\d.]+)%\">([\d.]+) %", marks)
    (low, a), (high, b) = (tuple(map(float, found[i])) for i in (0, -1))
    for height, accuracy in zip(heights, accuracies, strict=True):
        share = (1000 - height) / 10
        assert a + (share - low) / (high - low) * (b - a) == pytest.approx(100 * accuracy, abs=0.1)


@pytest.mark.usefixtures("saved")
def test_lost_accuracy_most_first_also_where_none_is_lost():
    trials = [(None, None, None, 0.9)]
    trials += [
        (None, n, s, a + d)
        for n, a in (("a", 0.9), ("b", 0.5), ("c", 0.95))
        for s, d in enumerate((0.0, -0.1))
    ]
    record = study(trials, by_layer=True)
    source = section(page([], [record]))
    figures = Page(source).figures
    lost = [figures[f"trials.0.layers.{j}.lost"] for j in range(3)]
    assert lost == pytest.approx([0.45, 0.05, 0.0])
    titles = [a["aria-label"] for t, a in Page(source).elements if t == "svg"]
    assert [t.split(":")[0] for t in titles] == ["b", "a", "c"]
    unfinished = study([t for t in trials if t[2] is not None], by_layer=True)
    source = section(page([], [unfinished]))
    assert "run the same command again" in source
    assert Page(source).figures["trials.0.layers.0.accuracy.mean"] == pytest.approx(0.45)
    assert "trials.0.layers.0.lost" not in Page(source).figures


# --- Levels


def conductances(levels=4, together=1, bins=10, edges=None):
    return {
        "arrays": 3,
        "arrays_in_all": 70,
        "cells": 10 * levels,
        "levels": [
            {
                "level": i * together,
                "to_level": (i + 1) * together - 1,
                "cells": 10,
                "wanted_us": float(i),
                "mean_us": i + 0.25,
                "std_us": 0.5,
                "counts": [int(b == i) * 10 for b in range(bins)],
            }
            for i in range(levels)
        ],
        "edges_us": [float(i) for i in range(bins + 1)] if edges is None else edges,
    }


@pytest.mark.usefixtures("saved")
def test_a_shape_is_as_wide_as_the_counts_say():
    told = conductances(levels=2)
    told["levels"][0]["counts"] = [5, 10, 0, 0, 0, 0, 0, 0, 0, 0]
    source = section(page([a_run(0.9, effects=["a"], conductances=told)]))
    first = re.search(r'<path d="M([^"]*)z" class="s0 soft"', source).group(1)
    points = [tuple(map(float, p.split())) for p in first.split("L")]
    middle = (points[0][0] + points[-1][0]) / 2
    widths = [abs(x - middle) for x, _ in points[:6]]
    assert widths[0] == pytest.approx(widths[2] / 2, abs=0.2)
    assert widths[2] == widths[3] > 0
    assert widths[4] == pytest.approx(0, abs=0.2)
    assert points[0][1] == points[-1][1] > points[1][1]


@pytest.mark.usefixtures("saved")
@pytest.mark.parametrize("levels", [1, 2, 16])
def test_levels_few_and_many(levels):
    told = conductances(levels, together=16 if levels == 16 else 1, bins=20)
    source = section(page([a_run(0.9, effects=["a"], conductances=told)]))
    assert source.count('class="s0 soft"') == levels
    seen = Page(source)
    assert ("drawn together" in seen.text) == (levels == 16)
    assert ("240 to 255" in seen.text) == (levels == 16)
    assert "3 of 70 arrays" in seen.text
    below = conductances(levels, edges=[i - 5.0 for i in range(11)])
    below["levels"][0]["mean_us"] = -0.5
    assert section(page([a_run(0.9, effects=["a"], conductances=below)]))


# --- Any text, many layers


def everything(layers=2):
    """One of each kind, with names that are markup."""
    names = [f"{HOSTILE}/{'long' * 20}/{i}" for i in range(layers)]
    effects = [f"read{{sigma=<{HOSTILE}>}}"]
    each = [
        (None, n, s, 0.5 + 0.3 * i / layers + 0.01 * s)
        for i, n in enumerate(names)
        for s in range(3)
    ]
    spread = np.random.default_rng(0).integers(700, 1000, 300) / 1000
    return [
        alone(*spread, effects=effects, input=HOSTILE),
        alone(0.9, 0.9, 0.9, effects=effects, device=f"{HOSTILE}.toml", noise="read" * 60),
        study([(v, None, s, 0.9 - v / 10) for v in (0.0, 0.5, 4.0) for s in range(9)],
              effects=effects, vary="<i>.sigma"),
        study([(v, None, s, 0.8) for v in (0.0, 0.5) for s in range(9)],
              effects=["other<"], vary="<i>.sigma"),
        study([(v, None, 0, 0.5) for v in ("<u>", "words" * 8, "c", "d", "e")], vary="drift.mode"),
        study([(10.0**v, None, 0, 0.5) for v in range(9)], vary="drift.time"),
        study([(None, None, None, 0.9), *each], effects=effects, by_layer=True),
    ]  # fmt: skip


@pytest.mark.usefixtures("saved")
def test_any_text_is_text():
    source = page([a_run(0.9, effects=["<s>"], conductances=conductances())], everything())
    seen = Page(source)
    assert "<script" not in source
    for tag in ("i>", "u>", "s>"):
        assert f"<{tag}" not in source
    for said in (HOSTILE, "<i>.sigma", "<u>", "<s>", "other<", f"read{{sigma=<{HOSTILE}>}}"):
        assert said in seen.text
    for name, attributes in seen.elements:
        if name == "svg":
            assert attributes["role"] == "img"
            assert attributes["aria-label"]
    assert len(seen.ids()) == len(set(seen.ids()))
    names = [name for name, _ in seen.elements]
    assert names.count("caption") == names.count("table")


@pytest.mark.usefixtures("saved")
def test_many_layers_are_all_there_and_few_at_once():
    source = section(page([], everything(200)))
    seen = Page(source)
    folded = Page(source[source.index("and 180 more layers") - len("<details><summary>") :]
                  .split("</details>")[0] + "</details>")  # fmt: skip
    rows = [k for k in seen.figures if re.fullmatch(r"trials\.\d\.layers\.\d+\.lost", k)]
    assert len(rows) == 200
    assert len([k for k in folded.figures if k.endswith(".lost")]) == 180
    assert len(source) < 1_500_000
    for i in (0, 199):
        assert f"{HOSTILE}/{'long' * 20}/{i}" in seen.text


@pytest.mark.skipif(CHROMIUM is None, reason="chromium isn't installed")
@pytest.mark.usefixtures("saved")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1600])
def test_it_reads_well_in_a_browser(width, scheme):
    runs = [a_run(0.9, effects=["<s>"], conductances=conductances(16, bins=60))]
    seen = laid_out(page(runs, everything(30)), width, scheme)
    assert seen["scroll"] <= width
    assert seen["wide"] == []
    assert seen["pale"] == []


# --- Axes and dots


@pytest.mark.parametrize("values", [(0.0, 1.0), (0.1234, 0.1239), (-7.0, 993.0), (2.0, 2.0)])
def test_axes_begin_and_end_at_round_numbers_around_the_values(values):
    axis = plots.round_axis("a", values)
    assert axis.low - 1e-12 <= min(values) <= max(values) <= axis.high + 1e-12
    assert (axis.marks[0][0], axis.marks[-1][0]) == pytest.approx((axis.low, axis.high))
    assert 2 <= len(axis.marks) <= 8
    for value, text in axis.marks:
        assert float(text) == pytest.approx(value, abs=1e-9 * (axis.high - axis.low) + 1e-6)


def test_accuracies_stay_within_their_range():
    for accuracies in ((1.0,), (0.0,), (0.0, 1.0), (0.97, 0.99)):
        axis = plots.accuracy_axis(accuracies)
        assert 0 <= axis.low <= min(accuracies)
        assert max(accuracies) <= axis.high <= 1
        assert axis.high - axis.low >= 0.005
        assert len(axis.marks) >= 2


def test_values_over_decades_have_a_logarithmic_axis():
    axis = plots.value_axis("drift.time", [1.0, 10.0, 1000.0])
    assert "logarithmic" in axis.name
    gaps = np.diff([axis.at(v) for v in (1.0, 10.0, 100.0, 1000.0)])
    assert gaps == pytest.approx([gaps[0]] * 3)
    for values in ([0.0, 1.0, 1000.0], [1.0, 10.0, 900.0], [1.0, 1000.0]):
        axis = plots.value_axis("drift.time", values)
        assert axis.name == "drift.time"
        assert axis.at(values[0]) == pytest.approx(1 - axis.at(values[-1]))
    assert plots.value_axis("a", [5.0]).at(5.0) == pytest.approx(0.5)


def test_marks_have_room():
    axis = plots.value_axis("a", [0.0, 0.01, 0.02, 0.5, 1.0])
    assert [text for _, text in axis.marks] == ["0", "0.5", "1"]


def test_no_dot_hides_another():
    aside = plots.apart([0.5, 0.1, 0.5, 0.5001, 0.9], 0.01, 1.0)
    assert aside == pytest.approx([0, 0, 0.01, -0.01, 0])
    crowd = plots.apart([0.3] * 1000, 0.01, 0.4)
    assert max(map(abs, crowd)) <= 0.4 + 1e-9
    assert len({round(a, 9) for a in crowd}) == 1000


def test_summaries_are_those_of_the_trials():
    (found,) = studies_of([alone(0.9, 0.7, 0.8)])
    assert found.groups[0].summary == summary([0.9, 0.7, 0.8])
    assert found.groups[0].worst_seed == 1


@pytest.mark.usefixtures("saved")
def test_the_order_of_files_changes_nothing():
    records = everything()
    assert page([], records) == page([], records[::-1])
