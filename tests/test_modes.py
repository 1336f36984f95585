"""Two operating modes: one input alone, and a stream; what leaks in each, and what is gated."""

import json
import re

import pytest
from models import text_model
from typer.testing import CliRunner

import xbarc
from xbarc.cli import app
from xbarc.cost.components import components
from xbarc.cost.components.leakage import PUMA, REGISTERS
from xbarc.cost.rollup import occupied
from xbarc.hw.target import load_target, target_names
from xbarc.report import report_page
from xbarc.support.errors import XbarcError
from xbarc.support.units import quantity

NET = """g (float[N,4,12,12] x) => (float[N,5] y)
<float[8,4,3,3] a, float[8,1,3,3] d, float[6,8,1,1] e, float[5,864] f> {
  p = Conv<pads=[1,1,1,1]>(x, a) r = Relu(p) q = Conv<group=8, pads=[1,1,1,1]>(r, d)
  s = Conv(q, e) m = MaxPool<kernel_shape=[1,1]>(s) v = Flatten(m) y = Gemm<transB=1>(v, f) }"""
PASSES = [
    "",
    "sub-image{patch=fewest pack=channels}",
    "kernel-first",
    "window",
    "map{by=energy}",
    "map{by=energy mode=single}",
    "replicate{budget=400},place,schedule",
]
GATINGS = ("none", "clock", "power")
# What the model's own components leak: a part in a core, one in a node, links between chips.
LEAKY = ("technology.leakage_share=0.1", "chip.nodes=1", "node.cores=1")


def compiled(target="mca64", *overrides, passes=""):
    return xbarc.compile(text_model(NET), target, overrides=overrides, passes=passes)


def totals(*arguments, **more):
    return compiled(*arguments, **more).report["totals"]


@pytest.mark.parametrize("passes", PASSES)
@pytest.mark.parametrize("target", target_names())
def test_power_times_time_is_energy(target, passes):
    """In both modes, whatever the target and the mapping."""
    report = compiled(target, passes=passes).report
    found = report["totals"]
    for mode, time in (("single", "latency_us"), ("stream", "interval_us")):
        figures = found["modes"][mode]
        energy = figures["energy_uj"]
        # W x us = uJ.
        assert figures["power_w"] * figures[time] == pytest.approx(energy["total"], rel=1e-12)
        assert figures[time] == found[time]
        assert figures["rate_ips"] * figures[time] == pytest.approx(1e6)
        parts = [pj for name, pj in energy.items() if name != "total"]
        assert energy["total"] == pytest.approx(sum(parts), rel=1e-12)
    assert found["energy_uj"] == found["modes"]["stream"]["energy_uj"]
    assert found["power_w"] == found["modes"]["stream"]["power_w"]
    layers = sum(sum(row["energy_pj"].values()) for row in report["layers"])
    assert layers * 1e-6 == pytest.approx(found["energy_uj"]["total"], rel=1e-12)


@pytest.mark.parametrize("target", target_names())
def test_only_leakage_differs_between_the_modes(target):
    single, stream = (totals(target)["modes"][m]["energy_uj"] for m in ("single", "stream"))
    for name in single:
        if name not in ("leakage", "total"):
            assert single[name] == stream[name]
    assert single["leakage"] >= stream["leakage"]
    assert single["total"] - single["leakage"] == pytest.approx(stream["total"] - stream["leakage"])


@pytest.mark.parametrize("mode", ["single", "stream"])
def test_nothing_gated_leaks_all_the_time(mode):
    found = totals("mca64", *LEAKY)
    figures = found["modes"][mode]
    time = figures["latency_us" if mode == "single" else "interval_us"]
    assert found["leakage_mw"] > 0
    assert figures["energy_uj"]["leakage"] == pytest.approx(found["leakage_mw"] * time * 1e-3)


def test_leakage_is_that_of_every_unit_in_use():
    """By hand: ten percent of the published power of each, and the links' idle power."""
    program = compiled("mca64", *LEAKY)
    target, crossbars = program.target, program.report["totals"]["crossbars"]
    plain = components(load_target("mca64"))
    units = occupied(crossbars, target, components(target))
    leaks = {n: 0.1 * plain[n].unit.full_power_mw for n in units if n != "link"}
    leaks["link"] = plain["link"].unit.clock_mw
    whole = sum(units[name] * mw for name, mw in leaks.items())
    assert program.report["totals"]["leakage_mw"] == pytest.approx(whole)
    # What has no power at full load has no share of it either: the memory, off the chip.
    assert program.report["totals"]["leakage_not_modelled"] == ["memory"]


def test_a_share_of_the_power_that_leaks_changes_no_full_load():
    for name in ("isaac", "puma", "mca128", "neurram"):
        plain, leaky = (
            components(load_target(name, o)) for o in ((), ("technology.leakage_share=0.2",))
        )
        for role in plain:
            before, after = plain[role].unit, leaky[role].unit
            assert after.full_power_mw == pytest.approx(before.full_power_mw)
            if before.full_power_mw:
                assert after.leakage_mw is not None
            else:  # nothing to take a share of, so nothing less for an action either
                assert after == before


@pytest.mark.parametrize("mode", ["single", "stream"])
def test_gating_takes_away_what_idle_parts_draw(mode):
    none, clock, power = (
        totals("mca64", *LEAKY, f"technology.gating={g}")["modes"][mode]["energy_uj"]
        for g in GATINGS
    )
    assert power["leakage"] < clock["leakage"] < none["leakage"]
    for name in none:
        if name not in ("leakage", "total"):
            assert none[name] == power[name]


def test_a_gated_layer_leaks_while_it_works():
    """One layer that is always at work leaks as if nothing were gated."""
    dense = "g (float[N,64] x) => (float[N,8] y) <float[64,8] w> { y = MatMul(x, w) }"
    keys = ("technology.leakage_share=0.1", "chip.nodes=100")
    energies = [
        xbarc.compile(
            text_model(dense), "mca64", overrides=(*keys, f"technology.gating={gating}")
        ).report["totals"]["modes"]["single"]["energy_uj"]["leakage"]
        for gating in ("none", "power")
    ]
    assert energies[0] == pytest.approx(energies[1]) and energies[0] > 0


def test_gated_leakage_by_hand():
    """Each layer's share of the crossbars, for its own time; a link for what it sends."""
    program = compiled("mca64", "technology.leakage_share=0.1", "technology.gating=power")
    found = program.report["totals"]
    assert found["chips"] == 1
    leaked = sum(
        found["leakage_mw"] * row["crossbars"] / found["crossbars"] * row["latency_ns"]
        for row in program.report["layers"]
    )
    assert found["modes"]["single"]["energy_uj"]["leakage"] == pytest.approx(leaked * 1e-6)


def test_leakage_that_no_source_has_is_said():
    found = compiled("isaac").report
    assert "adc" in found["totals"]["leakage_not_modelled"]
    assert "leakage_mw" not in found["components"]["adc"]
    assert any("Leakage is modelled of link only" in c["text"] for c in found["caveats"])
    puma = compiled("puma").report
    # 0.2 of the 2.0 mW of an ADC, and the rest of PUMA's simulator: docs/cost.md.
    assert puma["components"]["adc"]["leakage_mw"] == pytest.approx(0.2)
    # Standby of the DRAM.
    assert puma["totals"]["leakage_not_modelled"] == ["memory"]


def test_leakage_by_the_named_model():
    """ISAAC's parts with the shares that PUMA's simulator has of them; the full load stays."""
    plain, leaky = (
        components(load_target("isaac", keys)) for keys in ((), ("technology.leakage=puma",))
    )
    shares = {"adc": 0.1, "crossbar": 0, "bus": 1 / 7, "router": 0.41 / 16.54, "buffer": 2 / 18}
    # By size: 2 KB, 256 B, and 3 KB as the nearest, 2 KB.
    shares |= {"input_register": 0.33 / 0.9, "output_register": 0.044 / 0.204}
    shares |= {"node_register": 0.33 / 0.9}
    for name, part in leaky.items():
        full = plain[name].unit.full_power_mw
        assert part.unit.full_power_mw == pytest.approx(full)
        if name in shares:
            assert part.unit.leakage_mw == pytest.approx(shares[name] * full)
            assert part.unit.energy_pj == pytest.approx(
                (1 - shares[name]) * plain[name].unit.energy_pj
            )
    found = compiled("isaac", "technology.leakage=puma").report
    assert found["totals"]["leakage_not_modelled"] == ["memory"]
    # What leaks with it is what the caveat says without it.
    said = next(c["text"] for c in compiled("isaac").report["caveats"] if "Leakage" in c["text"])
    said_to_be = [
        float(n) * {"m": 1, "µ": 1e-3, "n": 1e-6}[u]
        for n, u in re.findall(r"([\d.]+) ([mµn])[WJ]", said)
    ]
    leaks = [found["totals"]["modes"][m]["energy_uj"]["leakage"] for m in ("stream", "single")]
    expected = [found["totals"]["leakage_mw"], *(uj * 1e-3 for uj in leaks)]
    assert said_to_be == pytest.approx(expected, rel=1e-3)


def test_shares_of_the_named_model():
    """Leakage and power at full load of PUMA's simulator, in mW; MACs and pools as its ALU."""
    alu = (0.192, 1.90)
    published = {
        **{"adc": (0.2, 2.0), "dac": (0.000390625, 0.003896875), "crossbar": (0, 0.3)},
        **{"sample_hold": (0.1, 1), "shift_add": (0.005, 0.05), "bus": (1, 7)},
        **dict.fromkeys(("buffer", "core_buffer", "chip_buffer"), (2, 18)),
        **{"router": (0.41, 16.54), "activation": (0.026, 0.26)},
        **dict.fromkeys(("vector_unit", "pooling", "multiplier"), alu),
    }
    assert pytest.approx({n: leaks / full for n, (leaks, full) in published.items()}) == PUMA
    sizes = {256: (0.044, 0.204), 512: (0.078, 0.318), 1024: (0.147, 0.477), 2048: (0.33, 0.9)}
    assert pytest.approx({n: leaks / full for n, (leaks, full) in sizes.items()}) == REGISTERS


def test_the_named_model_of_leakage_is_of_32_nm():
    with pytest.raises(XbarcError, match=r"shares are of 32 nm, technology.node_nm is 130"):
        compiled("neurram", "technology.leakage=puma")
    scaled = ("technology.node_nm=22", "technology.scaling=stillmaker-baas")
    compiled("isaac", *scaled, "technology.leakage=puma")
    # What has leakage keeps its own; an assumed share is for what is left, here nothing with power.
    assert totals("puma", "technology.leakage=puma") == totals("puma")
    both = components(load_target("isaac", (*LEAKY[:1], "technology.leakage=puma")))
    assert both["crossbar"].unit.leakage_mw == 0 and both["memory"].unit.leakage_mw is None


def test_a_mapping_is_chosen_in_a_mode():
    """Sub-images leave most crossbars idle most of the time, which counts for one input alone."""
    leaky = ("technology.leakage_share=0.1",)
    chosen = {
        mode: compiled("mca64", *leaky, passes=f"map{{by=energy mode={mode}}}").report
        for mode in ("stream", "single")
    }
    default = compiled("mca64", *leaky, passes="map{by=energy}").report
    for mode, report in chosen.items():
        for choice in report["mapping_choices"].values():
            assert {c["mode"] for c in choice["candidates"] if "refused" not in c} == {mode}
        other = chosen["single" if mode == "stream" else "stream"]
        energy = [r["totals"]["modes"][mode]["energy_uj"]["total"] for r in (report, other)]
        assert energy[0] <= energy[1] * (1 + 1e-9)
    assert default["mapping_choices"] == chosen["stream"]["mapping_choices"]


# --- What is shown --------------------------------------------------------------------------------


def test_both_modes_are_shown(tmp_path):
    program = compiled("puma")
    program.save(tmp_path / "a.xbar")
    compiled("mca64").save(tmp_path / "b.xbar")
    modes = program.report["totals"]["modes"]
    said = CliRunner().invoke(app, ["cost", str(tmp_path / "a.xbar")]).output
    for mode, name in (("stream", "streaming"), ("single", "alone")):
        line = next(la for la in said.splitlines() if la.startswith(name))
        assert quantity("energy_uj", modes[mode]["energy_uj"]["total"]) in line
        assert quantity("power_w", modes[mode]["power_w"]) in line
    page = str(report_page(program, tmp_path / "a.xbar", []))
    for key in ("stream.energy_uj.total", "single.energy_uj.total", "single.power_w"):
        assert f'data-key="totals.modes.{key}"' in page
    names = [str(tmp_path / f"{n}.xbar") for n in "ab"]
    said = CliRunner().invoke(app, ["compare", *names]).output
    lines = [line.partition("  ")[0] for line in said.splitlines()]
    for mode in ("streaming", "one input alone"):
        assert {f"Power, {mode}"} < {*lines}
    document = json.loads(CliRunner().invoke(app, ["compare", *names, "--json"]).stdout)
    totals = document["totals"]["modes.single.energy_uj.total"]
    assert totals[0] == modes["single"]["energy_uj"]["total"]


def test_a_caveat_stands_beside_its_figures(tmp_path):
    for name in ("isaac", "neurram"):
        compiled(name).save(tmp_path / f"{name}.xbar")
    names = [str(tmp_path / f"{n}.xbar") for n in ("isaac", "neurram")]
    said = CliRunner().invoke(app, ["compare", *names]).output
    notes = {la[:3]: la for la in said.splitlines() if la.startswith("[")}
    number = next(n for n, text in notes.items() if "no figure is known" in text)
    line = next(la for la in said.splitlines() if la.startswith("Energy of an input, streaming "))
    first, second = (la.split(", ") for la in re.findall(r"\[([0-9, ]+)\]", line))
    assert number[1] in second and number[1] not in first
    line = next(la for la in said.splitlines() if la.startswith("Crossbars "))
    assert "[" not in line


def test_leakage_that_is_not_modelled_is_marked_where_it_stands(tmp_path):
    """Its rows of 0 in `cost` and `compare`, and each energy; no time, no count."""
    for name in ("isaac", "puma"):
        compiled(name).save(tmp_path / f"{name}.xbar")
    said = CliRunner().invoke(app, ["cost", str(tmp_path / "isaac.xbar")]).output
    lines = {la.split("  ")[0]: la for la in said.splitlines() if la}
    number = next(n for n in lines if n.startswith("[1]"))
    assert "Leakage is modelled of link only" in number
    assert lines["leakage"].count("[1]") == 2 and lines["total"].count("[1]") == 2
    for name in ("streaming", "alone", "efficiency"):
        assert lines[name].endswith("[1]")
    assert "[" not in lines["peak"] + lines["adc"] + lines["bottleneck"]
    names = [str(tmp_path / f"{n}.xbar") for n in ("isaac", "puma")]
    said = CliRunner().invoke(app, ["compare", *names, "-o", str(tmp_path / "c.html")]).output
    for begin in ("Leakage ", "leakage ", "Power, streaming "):
        line = next(la for la in said.splitlines() if la.startswith(begin))
        assert line.split("[")[1].startswith("1]")
    for begin in ("Latency, one", "Interval, s"):
        assert "[" not in next(la for la in said.splitlines() if la.startswith(begin))
    program = xbarc.load(tmp_path / "isaac.xbar")
    page = str(report_page(program, tmp_path / "isaac.xbar", []))
    table = page[page.index("<h2>Energy and area by component") :]
    for name in ("leakage", "total"):
        assert re.search(rf"{name} <small>\[1\]</small>", table), name
    assert not re.search(r"ADC <small>\[", table)


@pytest.mark.parametrize(
    ("target", "keys", "text"),
    [
        ("mca64", ["array.cell_bits=4"], "A read of cells of 4 bits is priced as one of 2 bits"),
        ("neurram", [], "Cells take nothing by themselves: .* measured together"),
    ],
)
def test_what_the_figure_of_the_cells_leaves_out(target, keys, text):
    found = [c for c in compiled(target, *keys).report["caveats"] if re.search(text, c["text"])]
    assert len(found) == 1 and "energy_uj.crossbar" in found[0]["of"]
    assert not any(re.search(text, c["text"]) for c in compiled("mca64").report["caveats"])


@pytest.mark.parametrize("chips", [1, 2])
def test_several_chips_without_links_are_told_of(chips):
    keys = ("core.crossbars=1", "node.cores=1", "chip.nodes=1", "chip.links=0")
    text = "g (float[N,ROWS] x) => (float[N,8] y) <float[ROWS,8] w> { y = MatMul(x, w) }"
    model = text_model(text.replace("ROWS", str(64 * chips)))
    report = xbarc.compile(model, "mca64", overrides=keys).report
    assert report["totals"]["chips"] == chips
    said = [c for c in report["caveats"] if "Chips have no links" in c["text"]]
    assert len(said) == chips - 1


def test_what_a_stream_waits_for():
    """Most of the energy is leakage: of a busy layer's wait, which copies shorten."""
    report = compiled("puma", passes="im2col").report
    (text,) = [c["text"] for c in report["caveats"] if "is leakage and clock power" in c["text"]]
    waits = f"while all wait for {report['totals']['bottleneck']['layer']}: the pass replicate"
    assert waits in text
