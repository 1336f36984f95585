"""The schema of report.json: what programs write, what is refused, and its page in the docs."""

import copy
import hashlib
import json
import typing
from pathlib import Path

import numpy as np
import onnx
import pytest
from models import text_model
from pydantic import BaseModel
from relay_programs import program as relay_program

import xbarc
from xbarc.artifact.report import SCHEMA, Counts, Report, fault, markdown
from xbarc.cost.events import COUNTS
from xbarc.support.errors import XbarcError

NET = """g (float[N,8,8,8] x) => (float[N,4] y)
    <float[2,8,1,1] a, float[8,2,1,1] b, float[8,8,3,3] w, float[288,4] f> {
    p = GlobalAveragePool(x)  d = Conv(p, a)  r = Relu(d)  u = Conv(r, b)  s = Sigmoid(u)
    g = Mul(x, s)
    c = Conv(g, w)
    flat = Flatten(c)
    y = MatMul(flat, f)
}"""
DIGITAL = "g (float[N,4] x) => (float[N,4] y) { y = Relu(x) }"
RELAY = relay_program(
    "nn.conv2d(%x, %w, padding=[0, 0, 0, 0], channels=3, kernel_size=[3, 3])",
    {"x": np.zeros((1, 2, 4, 4), np.float32), "w": np.zeros((3, 2, 3, 3), np.float32)},
)
PASSES = [
    "",
    "map",
    "map{by=energy}",
    "kernel-first",
    "replicate,place,schedule",
    "squeeze-excitation,share-crossbars",
    "prune{granularity=weight sparsity=0.5},drop-zeros",
    "prune{granularity=channel sparsity=0.25},prune{granularity=channel sparsity=0.25}",
    "kernel-2d1d{ratio=0.5}",
]
FIGURES = """
from dataclasses import dataclass
from xdsl.passes import ModulePass

@dataclass(frozen=True)
class Noted(ModulePass):
    \"\"\"Leaves a figure.\"\"\"
    name = "noted"

    def apply(self, ctx, op):
        ctx.figures["noted"] = {"here": [1, None, "x"]}
"""


@pytest.fixture(scope="module")
def compiled():
    return xbarc.compile(text_model(NET), "mca64", passes="map")


@pytest.fixture
def saved(compiled, tmp_path):
    path = tmp_path / "m.xbar"
    compiled.save(path)
    return path


def write(path, report):
    """Put a report into a program, its hash too."""
    text = json.dumps(report)
    (path / "report.json").write_text(text)
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["files"]["report.json"] = hashlib.sha256(text.encode()).hexdigest()
    (path / "manifest.json").write_text(json.dumps(manifest))


def unknown(value, hint, place=""):
    """The keys of a document that the schema doesn't have; free ones aren't looked into."""
    inner = [a for a in typing.get_args(hint) if a is not type(None)]
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        fields = {f.alias or n: f.annotation for n, f in hint.model_fields.items()}
        for key, item in value.items():
            if key in fields:
                yield from unknown(item, fields[key], f"{place}.{key}")
            else:
                yield f"{place}.{key}"
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from unknown(item, inner[0], f"{place}.{i}")
    elif isinstance(value, dict) and typing.get_origin(hint) is dict:
        for key, item in value.items():
            yield from unknown(item, inner[1], f"{place}.{key}")
    elif value is not None and inner and typing.get_origin(hint) is not typing.Literal:
        yield from unknown(value, inner[0], place)


def check(program, path):
    """The program loads, its report is as it was written, and the schema has every key."""
    program.save(path)
    loaded = xbarc.load(path).report
    assert loaded == json.loads((path / "report.json").read_text())
    assert list(unknown(loaded, Report)) == []
    return loaded


# --- What programs write --------------------------------------------------------------------------


@pytest.mark.parametrize("passes", PASSES)
def test_every_key_that_a_program_writes_is_in_the_schema(tmp_path, passes):
    program = xbarc.compile(text_model(NET), "mca64", passes=passes)
    report = check(program, tmp_path / "m.xbar")
    assert report["schema"] == SCHEMA
    assert ("mapping_choices" in report) == passes.startswith("map")


@pytest.mark.parametrize("target", ["isaac", "puma", "neurram"])
def test_every_target(tmp_path, target):
    check(xbarc.compile(text_model(NET), target), tmp_path / "m.xbar")


def test_a_program_without_a_layer(tmp_path):
    report = check(xbarc.compile(text_model(DIGITAL), "mca64"), tmp_path / "m.xbar")
    assert report["layers"] == []


def test_new_weights(tmp_path):
    program = xbarc.compile(text_model(NET), "mca64", passes="kernel-first")
    onnx.save(text_model(NET, seed=1), tmp_path / "new.onnx")
    report = check(program.update_weights(tmp_path / "new.onnx"), tmp_path / "m.xbar")
    assert report["weights"] == "new.onnx"


def test_weights_in_a_file_and_made_up(tmp_path):
    check(xbarc.compile(RELAY, "mca64", random_weights=3), tmp_path / "random.xbar")
    np.savez(tmp_path / "w.npz", w=np.ones((3, 2, 3, 3), np.float32))
    program = xbarc.compile(RELAY, "mca64", params=tmp_path / "w.npz")
    report = check(program, tmp_path / "file.xbar")
    assert report["weight_files"] == {"params": "w.npz"}


def test_a_plug_in_pass_leaves_figures_under_a_key_of_its_own(tmp_path):
    (tmp_path / "noted.py").write_text(FIGURES)
    plugins = [tmp_path / "noted.py"]
    program = xbarc.compile(text_model(NET), "mca64", passes="noted", plugins=plugins)
    program.save(tmp_path / "m.xbar")
    assert xbarc.load(tmp_path / "m.xbar").report["noted"] == {"here": [1, None, "x"]}


def test_all_that_is_counted_is_in_the_schema():
    assert set(Counts.model_fields) == {*COUNTS, "digital", "utilization"}


# --- What is refused ------------------------------------------------------------------------------


def at(*path):
    """Set, or with `...` take away, what stands at a path."""

    def change(report, value):
        *tables, last = path
        for key in tables:
            report = report[key]
        if value is ...:
            del report[last]
        else:
            report[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "value", "said"),
    [
        (at("totals"), ..., "totals is missing"),
        (at("totals", "macs"), ..., "totals.macs is missing"),
        (at("totals", "energy_uj"), {"adc": 0.1}, "totals.energy_uj = {'adc': 0.1}: value error"),
        (at("totals", "area_mm2"), {}, "totals.area_mm2 = {}: value error, it has no 'total'"),
        (
            at("totals", "energy_uj"),
            {"adc": 0.1, "total": 0.1},
            "totals.modes = ",
        ),
        (at("layers", 1, "energy_pj"), ..., "layers.1.energy_pj is missing"),
        (at("totals", "macs"), "12", "totals.macs = '12': "),
        (at("totals", "macs"), 1.5, "totals.macs = 1.5: "),
        (at("totals", "crossbars"), True, "totals.crossbars = True: "),
        (at("totals", "latency_us"), None, "totals.latency_us = None: "),
        (at("totals", "latency_us"), float("nan"), "totals.latency_us = nan: "),
        (at("totals", "energy_uj", "adc"), -0.5, "totals.energy_uj.adc = -0.5: "),
        (at("totals", "schedule"), "columns", "totals.schedule = 'columns': "),
        (at("layers", 2, "tiles"), -1, "layers.2.tiles = -1: "),
        (at("layers", 0, "matrix"), [3], "layers.0.matrix = [3]: "),
        (at("layers", 0, "utilization"), 1.1, "layers.0.utilization = 1.1: "),
        (at("layers"), {}, "layers = {}: "),
        (at("pipeline", 0, "kind"), "analog", "pipeline.0.kind = 'analog': "),
        (at("components", "adc", "source"), None, "components.adc.source = None: "),
        (at("coverage", "mac_share"), 2, "coverage.mac_share = 2: "),
        (at("random_weights"), {"seed": 1}, "random_weights.names is missing"),
        (at("pass_figures"), {"mine": 3}, "pass_figures.mine = 3: "),
        (at("schema"), SCHEMA + 1, f"schema = {SCHEMA + 1}: "),
        (at("totals", "macs"), "x\n" * 99, "totals.macs = 'x\\nx\\n"),
    ],
)
def test_a_damaged_report_is_refused_in_a_line_that_names_the_key(saved, change, value, said):
    report = json.loads((saved / "report.json").read_text())
    change(report, value)
    write(saved, report)
    with pytest.raises(XbarcError) as error:
        xbarc.load(saved)
    line = str(error.value)
    assert f"report.json is damaged: {said}" in line
    assert line.endswith(": compile the model again")
    assert "\n" not in line
    assert len(line) < 300 + len(str(saved))


def test_a_candidate_s_figures_are_checked(saved):
    report = json.loads((saved / "report.json").read_text())
    name, choice = next(iter(report["mapping_choices"].items()))
    choice["candidates"][0]["scheme"] = 7
    write(saved, report)
    with pytest.raises(XbarcError, match=rf"mapping_choices\.{name}\.candidates\.0\.scheme = 7"):
        xbarc.load(saved)


def test_a_report_from_before_the_schema_is_read(saved):
    report = json.loads((saved / "report.json").read_text())
    del report["schema"]
    write(saved, report)
    assert xbarc.load(saved).report == report


def test_keys_of_a_later_version_are_kept(saved):
    report = json.loads((saved / "report.json").read_text())
    report["totals"]["later"] = report["layers"][0]["later"] = {"a": -1}
    write(saved, report)
    assert xbarc.load(saved).report == report


def test_checking_changes_nothing(compiled):
    report = json.loads(json.dumps(compiled.report))
    before = copy.deepcopy(report)
    assert fault(report) is None
    assert report == before


# --- docs/report_json.md --------------------------------------------------------------------------


def test_the_page_is_made_from_the_schema():
    page = Path(__file__).parents[1] / "docs" / "report_json.md"
    assert page.read_text(encoding="utf-8") == markdown(), "make schema"


def test_every_key_has_a_meaning_and_every_figure_a_unit():
    rows = [line.split(" | ") for line in markdown().splitlines() if line.startswith("| `")]
    assert len(rows) > 100
    assert all(len(row) == 4 and row[3].removesuffix(" |") for row in rows)
    figures = [row for row in rows if row[1].removeprefix("table: ").startswith("number")]
    bare = {row[0].strip("| `") for row in figures if not row[2].strip()}
    assert bare == {"mesh_bit_hops", "read_power_ratio", "program", "percentile", "deviation"}
