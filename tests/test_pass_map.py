"""map: the scheme that costs least, as it costs in a whole program, and what else was tried."""

import json

import numpy as np
import pytest
from models import text_model
from pages import Page
from typer.testing import CliRunner

import xbarc
from xbarc.cli import app
from xbarc.cost.layer import FIGURES
from xbarc.hw.target import load_target
from xbarc.pipeline import load_registry, parse_passes
from xbarc.support.errors import UsageError

CONV = """g (float[N,16,16,16] x) => (float[N,16,16,16] y) <float[16,16,3,3] w, float[16] b>
{ y = Conv<pads=[1,1,1,1]>(x, w, b) }"""
DEPTHWISE = """g (float[N,32,16,16] x) => (float[N,32,16,16] y) <float[32,1,3,3] w>
{ y = Conv<group=32, pads=[1,1,1,1]>(x, w) }"""
UP = """g (float[N,16,8,8] x) => (float[N,4,16,16] y) <float[16,4,2,2] w>
{ y = ConvTranspose<strides=[2,2]>(x, w) }"""
DENSE = "g (float[N,64] x) => (float[N,10] y) <float[64,10] w> { y = MatMul(x, w) }"
TWO_COLUMNS = ("array.cell_bits=7", "inputs.dac_bits=8")


def target(size=128, *overrides):
    return load_target(f"mca{size}", overrides)


def mapped(model, passes, hardware=None):
    source = text_model(model) if isinstance(model, str) else model
    return xbarc.compile(source, hardware or target(), passes=passes)


def choice(model, options="", hardware=None):
    """What `map` chose for a model of one layer."""
    report = mapped(model, f"map{{{options}}}", hardware).report
    (found,) = report["mapping_choices"].values()
    return found


def of(found, scheme):
    return next(c for c in found["candidates"] if c["scheme"] == scheme)


def empty_kernel(channels, filters, offsets):
    """Weights [filters, channels, 3, 3] that are zero at these offsets of the kernel."""
    w = np.random.default_rng(0).standard_normal((filters, channels, 9)) / 30
    w[:, :, offsets] = 0
    return w.reshape(filters, channels, 3, 3)


# --- The least ------------------------------------------------------------------------------------


def figure(report, by):
    """A figure of a program of one layer."""
    (layer,) = report["layers"]
    if by == "energy":
        return sum(layer["energy_pj"].values())
    if by == "area-delay":
        return report["totals"]["area_mm2"]["total"] * report["totals"]["interval_us"]
    return layer[by]


@pytest.mark.parametrize("by", FIGURES)
@pytest.mark.parametrize(
    ("model", "hardware"),
    [
        (CONV, target()),
        (CONV, target(512, *TWO_COLUMNS)),
        (DEPTHWISE, target()),
        (UP, target()),
    ],
    ids=["conv-128", "conv-512", "depthwise", "transposed"],
)
def test_the_choice_is_the_least_of_whole_programs(model, hardware, by):
    found = choice(model, f"by={by}", hardware)
    whole = {
        c["scheme"]: figure(mapped(model, c["scheme"], hardware).report, by)
        for c in found["candidates"]
        if "refused" not in c
    }
    assert len(whole) >= 3
    assert whole[found["chosen"]] <= min(whole.values()) * (1 + 1e-9)
    assert figure(mapped(model, f"map{{by={by}}}", hardware).report, by) == pytest.approx(
        whole[found["chosen"]], rel=1e-12
    )


@pytest.mark.parametrize(
    ("model", "hardware"), [(CONV, target()), (UP, target()), (CONV, load_target("puma"))]
)
def test_candidates_cost_what_the_program_costs(model, hardware):
    found = choice(model, "", hardware)
    rest = set()
    for candidate in found["candidates"]:
        if "refused" in candidate:
            continue
        program = mapped(model, candidate["scheme"], hardware)
        (layer,) = program.report["layers"]
        leaks = layer["energy_pj"]["leakage"]
        assert (leaks > 0) == (hardware.name == "puma")
        for key in ("crossbars", "cycles", "latency_ns"):
            assert candidate[key] == pytest.approx(layer[key], rel=1e-12)
        # Digital scale and bias of the results, and the model's inputs and outputs, are the same
        # under every scheme.
        rest.add(round(figure(program.report, "energy") - candidate["energy_pj"], 3))
        # ISAAC's IMA of 8 crossbars, PUMA's core of 16 (as the published chips: docs/cost.md).
        core_mm2 = candidate["area_mm2"] / candidate["crossbars"] * hardware.core.crossbars
        assert core_mm2 == pytest.approx(0.01312 if leaks == 0 else 1.011, rel=1e-3)
        assert candidate["interval_ns"] <= candidate["latency_ns"]
        assert candidate["area_delay_mm2_ns"] == candidate["area_mm2"] * candidate["interval_ns"]
    assert len(rest) == 1
    assert min(rest) > 0


@pytest.mark.parametrize(
    ("model", "options", "hardware", "chosen"),
    [
        (CONV, "by=crossbars", target(), "im2col"),
        (CONV, "by=cycles", target(), "sub-image{patch=fewest pack=channels}"),
        (CONV, "by=energy", target(512, *TWO_COLUMNS), "window{scheme=vw-sdk}"),
        (CONV, "by=area-delay", target(), "sub-image{patch=fewest pack=channels}"),
        (CONV, "by=cycles schemes=im2col,window", target(512), "window{scheme=sdk}"),
        (DEPTHWISE, "by=crossbars", target(), "im2col"),
        (DEPTHWISE, "schemes=depthwise-mapping,im2col", target(), "depthwise-mapping"),
        (UP, "by=cycles", target(), "kernel-first"),
        (UP, "by=energy", target(), "deconv{scheme=phases}"),
        (UP, "by=cycles schemes=deconv", target(), "deconv{scheme=scatter}"),
        (DENSE, "by=energy schemes=im2col,sub-image,window", target(), "im2col"),
        # Bit lines on which no weight puts anything are gated.
        (DENSE, "by=energy", target(), "kernel-first"),
    ],
)
def test_where_each_scheme_wins(model, options, hardware, chosen):
    assert choice(model, options, hardware)["chosen"] == chosen


def test_a_layer_within_a_model_bears_none_of_the_model_s_inputs_and_outputs():
    text = """g (float[N,4,8,8] x) => (float[N,4,8,8] y) <float[4,4,3,3] u, float[4,4,3,3] v,
        float[4,4,3,3] w> { a = Conv<pads=[1,1,1,1]>(x, u) b = Conv<pads=[1,1,1,1]>(a, v)
        y = Conv<pads=[1,1,1,1]>(b, w) }"""
    report = mapped(text_model(text), "map").report
    inner = report["layers"][1]
    (chosen,) = (
        c
        for c in report["mapping_choices"][inner["name"]]["candidates"]
        if c["scheme"] == report["mapping_choices"][inner["name"]]["chosen"]
    )
    assert inner["energy_pj"]["memory"] == 0
    assert chosen["energy_pj"] == pytest.approx(sum(inner["energy_pj"].values()), rel=0.02)


def test_of_equals_the_earliest_wins():
    for schemes in ("im2col,depthwise-mapping", "depthwise-mapping,im2col"):
        found = choice(DEPTHWISE, f"by=energy schemes={schemes}")
        first, second = found["candidates"]
        assert first["energy_pj"] == second["energy_pj"]
        assert found["chosen"] == first["scheme"] == schemes.partition(",")[0]


def test_layers_alike_but_for_their_zeros_are_told_apart():
    """Five of nine offsets are empty: kernel first leaves their crossbars out, in one layer."""
    text = """g (float[N,128,4,4] x) => (float[N,8,H,W] z)
    <float[128,128,3,3] a, float[128,128,3,3] b, float[8,128,1,1] c>
    { p = Conv<pads=[1,1,1,1]>(x, a) q = Conv<pads=[1,1,1,1]>(p, b) z = Conv(q, c) }"""
    model = text_model(text, b=empty_kernel(128, 128, [0, 2, 4, 6, 8]))
    program = mapped(model, "map{schemes=im2col,kernel-first}")
    choices = program.report["mapping_choices"]
    assert [c["chosen"] for c in choices.values()] == ["im2col", "kernel-first", "im2col"]
    by_layer = {la["name"]: la for la in program.report["layers"]}
    assert by_layer["Conv"]["crossbars"] == 9 * 8
    assert by_layer["Conv_1"]["crossbars"] == 4 * 8
    assert [la["mapping"] for la in program.report["layers"]] == [
        "im2col",
        "kernel-first",
        "im2col",
    ]


def test_layers_alike_but_for_their_converters_are_told_apart():
    """What `layers` says of a layer counts in its figures, as it does in the report."""
    text = """g (float[N,8,8,8] x) => (float[N,8,8,8] z) <float[8,8,3,3] a, float[8,8,3,3] b,
    float[8,8,3,3] c, float[8,8,3,3] d> { p = Conv<pads=[1,1,1,1]>(x, a) q = Relu(p)
    r = Conv<pads=[1,1,1,1]>(q, b) s = Relu(r) t = Conv<pads=[1,1,1,1]>(s, c) u = Relu(t)
    z = Conv<pads=[1,1,1,1]>(u, d) }"""
    rest = {}
    for bits in (8, 4):
        own = target(128, f'layers."Conv_1".adc.bits={bits}')
        report = mapped(text, "map{by=energy schemes=im2col,window}", own).report
        tried = [report["mapping_choices"][n]["candidates"] for n in ("Conv_1", "Conv_2")]
        for first, second in zip(*tried, strict=True):
            assert (first["energy_pj"] == second["energy_pj"]) == (bits == 8)
        for layer in report["layers"][1:3]:
            found = report["mapping_choices"][layer["name"]]
            known = of(found, found["chosen"])["energy_pj"]
            assert known == pytest.approx(sum(layer["energy_pj"].values()), rel=0.01)
            rest[bits, layer["name"]] = sum(layer["energy_pj"].values()) - known
    # What a layer alone hasn't got, such as the activation behind it, is as much in each.
    assert len({round(pj, 3) for pj in rest.values()}) == 1


PICKY = """
from dataclasses import dataclass
from xbarc.pipeline import MappingScheme
from xbarc.ir.dialect import GridAttr
from xbarc.ir.dialect import MvmOp, weights_of
from xbarc.passes.im2col import Im2col
from xbarc.pipeline import XbarContext

@dataclass(frozen=True)
class Picky(MappingScheme):
    name = "picky"
    layers: tuple[str, ...] = ()

    def apply(self, ctx, op):
        Im2col(self.layers).apply(ctx, op)
        for mvm in op.walk():
            if isinstance(mvm, MvmOp) and XbarContext.of(ctx).weights[weights_of(mvm).symbol].any():
                mvm.tiling = GridAttr.of(8, 16)
"""


def test_a_scheme_that_reads_the_weights_is_tried_on_each_layer(tmp_path):
    (tmp_path / "picky.py").write_text(PICKY)
    text = """g (float[N,8,8,8] x) => (float[N,8,H,W] z) <float[8,8,3,3] a, float[8,8,3,3] b>
    { p = Conv<pads=[1,1,1,1]>(x, a) q = Neg(p) z = Conv<pads=[1,1,1,1]>(q, b) }"""
    program = xbarc.compile(
        text_model(text, b=np.zeros((8, 8, 3, 3))),
        "mca128",
        passes="map{schemes=picky}",
        plugins=[tmp_path / "picky.py"],
    )
    full, empty = program.report["mapping_choices"].values()
    assert (of(full, "picky")["crossbars"], of(empty, "picky")["crossbars"]) == (9, 1)


def test_layers_alike_have_the_same_candidates():
    text = """g (float[N,8,8,8] x) => (float[N,8,H,W] z) <float[8,8,3,3] a, float[8,8,3,3] b>
    { p = Conv<pads=[1,1,1,1]>(x, a) q = Relu(p) z = Conv<pads=[1,1,1,1]>(q, b) }"""
    two = target(128, "inputs.signed=two-pass")
    signed, unsigned = mapped(text, "map", two).report["mapping_choices"].values()
    # The first layer's inputs take two passes: as much again in cycles, so it isn't the same layer.
    assert of(signed, "im2col")["cycles"] == 2 * of(unsigned, "im2col")["cycles"]
    same = text.replace("Relu(p)", "Neg(p)")
    first, second = mapped(same, "map").report["mapping_choices"].values()
    # Kernel first gates zeros: what it costs is the weights' as well.
    costs = [
        [c for c in found["candidates"] if "refused" not in c and c["scheme"] != "kernel-first"]
        for found in (first, second)
    ]
    assert costs[0] == costs[1]
    # But each is told by its own name why a scheme is out.
    assert "'Conv' has no groups" in of(first, "depthwise-mapping")["refused"]
    assert "'Conv_1' has no groups" in of(second, "depthwise-mapping")["refused"]


# --- All layers together --------------------------------------------------------------------------

CHAIN = """g (float[N,32,16,16] x) => (float[N,32,H,W] y)
<float[32,1,3,3] a, float[32,1,3,3] b, float[48,32,1,1] c, float[32,48,3,3] d> {
  p = Conv<group=32, pads=[1,1,1,1]>(x, a) q = Conv<group=32, pads=[1,1,1,1]>(p, b)
  r = Conv(q, c) y = Conv<pads=[1,1,1,1]>(r, d) }"""


def whole_program(report, by):
    """A figure of a program, mesh and what is between the layers included."""
    totals = report["totals"]
    if by == "energy":
        return totals["energy_uj"]["total"]
    if by == "area-delay":
        return totals["area_mm2"]["total"] * totals["interval_us"]
    return totals[by]


def alone(choices, by, figures):
    """Each layer's own least, added up: what is least for each layer but not for the program."""
    least = [
        min((c for c in found["candidates"] if "refused" not in c), key=lambda c: c[FIGURES[by]])
        for found in choices.values()
    ]
    return [sum(c[key] for c in least) for key in figures]


def test_links_of_a_second_chip_count():
    """Each depthwise layer takes less energy as sub-images, which fill most of the chip."""
    chip = target(128, "chip.nodes=6")  # 576 crossbars
    program = mapped(CHAIN, "map{by=energy schemes=im2col,sub-image}", chip)
    choices = program.report["mapping_choices"]
    assert alone(choices, "energy", ["crossbars"])[0] > 576
    assert program.report["totals"]["chips"] == 1
    plain, packed = (
        whole_program(mapped(CHAIN, p, chip).report, "energy")
        for p in ("", "sub-image{patch=fewest pack=channels}")
    )
    assert whole_program(program.report, "energy") < plain < packed


@pytest.mark.parametrize("mode", ["single", "stream"])
@pytest.mark.parametrize("hardware", [target(), target(512, *TWO_COLUMNS)], ids=["128", "512"])
def test_the_area_of_one_layer_waits_for_the_others(hardware, mode):
    """As sub-images all layers are through before one is by im2col, whose crossbars wait then."""
    how = f"map{{by=area-delay mode={mode}}}"
    program = mapped(CHAIN, how, hardware)
    for found in program.report["mapping_choices"].values():
        tried = {c["scheme"]: c["program"] for c in found["candidates"] if "refused" not in c}
        assert tried[found["chosen"]] <= min(tried.values()) * (1 + 1e-9)
    others = ["", "sub-image{patch=fewest pack=channels}", "window", "map{by=energy mode=single}"]
    if mode == "stream":
        # Here the mesh is slower than any layer, which no layer's own time tells: by 2 %.
        others.pop()

    def area_delay(report):
        totals = report["totals"]
        time = totals["latency_us" if mode == "single" else "interval_us"]
        return totals["area_mm2"]["total"] * time

    least = min(area_delay(mapped(CHAIN, p, hardware).report) for p in others)
    assert area_delay(program.report) <= least * (1 + 1e-9)


def test_what_the_chips_have_no_room_for_together_is_not_taken():
    small = target(128, "chip.chips=1", "chip.nodes=6")  # 576 crossbars
    program = mapped(CHAIN, "map{by=cycles}", small)
    assert program.report["totals"]["crossbars"] <= 576
    found = program.report["mapping_choices"]["Conv_3"]
    assert "program" not in of(found, "sub-image{patch=fewest pack=channels}")
    assert program.report["totals"]["cycles"] < mapped(CHAIN, "", small).report["totals"]["cycles"]


# --- The program ----------------------------------------------------------------------------------


@pytest.mark.parametrize("by", FIGURES)
def test_the_mapping_changes_no_result(by):
    text = """g (float[N,4,9,7] x) => (float[N,5] y)
    <float[6,4,3,3] a, float[6,1,3,3] d, float[4,6,1,1] e, float[4,3,2,2] u, float[5,756] f> {
      p = Conv<pads=[1,1,1,1]>(x, a) r = Relu(p) q = Conv<group=6, pads=[1,1,1,1]>(r, d)
      s = Conv(q, e) t = ConvTranspose<strides=[2,2]>(s, u) v = Flatten(t)
      y = Gemm<transB=1>(v, f) }"""
    exact = target(64, "adc.mode=lossless", "adc.price=as-configured", *TWO_COLUMNS)
    x = np.random.default_rng(1).standard_normal((3, 4, 9, 7)).astype(np.float32)
    plain, chosen = (mapped(text, p, exact) for p in ("", f"map{{by={by}}}"))
    assert np.array_equal(plain.run(x)["y"], chosen.run(x)["y"])


def test_layers_mapped_before_and_not_named_are_left():
    text = """g (float[N,8,8,8] x) => (float[N,8,H,W] z) <float[8,8,3,3] a, float[8,8,3,3] b>
    { p = Conv(x, a) z = Conv(p, b) }"""
    before = mapped(text, "window{layers=Conv},map{by=cycles}").report
    assert list(before["mapping_choices"]) == ["Conv_1"]
    named = mapped(text, "map{by=cycles layers=Conv_1}").report
    assert [la["mapping"] for la in named["layers"]] == ["im2col", "sub-image"]
    assert list(named["mapping_choices"]) == ["Conv_1"]


def test_a_layer_that_no_scheme_takes_is_left_to_the_next_pass():
    program = mapped(CONV, "map{schemes=depthwise-mapping}")
    (found,) = program.report["mapping_choices"].values()
    assert found["chosen"] is None
    assert program.report["layers"][0]["mapping"] == "im2col"
    with pytest.raises(
        UsageError, match="no scheme takes layer 'Conv': depthwise-mapping: .*'Conv' has no groups"
    ):
        mapped(CONV, "map{schemes=depthwise-mapping layers=Conv}")


def test_refused_candidates_say_why():
    found = choice(CONV)
    assert "'Conv' has no groups" in of(found, "depthwise-mapping")["refused"]
    large = """g (float[N,2,16,16] x) => (float[N,2,H,W] y) <float[2,2,15,15] w> {y = Conv(x, w)}"""
    assert "225 rows" in of(choice(large), "sub-image")["refused"]
    small = target(128, "chip.chips=1", "chip.nodes=1", "node.cores=1", "core.crossbars=8")
    few = choice(CONV, "by=cycles", small)
    assert "has 8 crossbars" in of(few, "sub-image")["refused"]
    assert few["chosen"] == "im2col"


@pytest.mark.parametrize(
    ("passes", "message"),
    [
        ("map{layers=Conf}", "no unmapped layer 'Conf': did you mean 'Conv'"),
        ("im2col,map{layers=Conv}", "no unmapped layer 'Conv'"),
        ("map{schemes=im2cool}", "unknown pass 'im2cool': did you mean 'im2col'"),
        ("map{schemes=prune}", "a scheme is one mapping pass, 'prune' isn't"),
        ('map{schemes="im2col,im2col"}', "a scheme is one mapping pass, 'im2col,im2col' isn't"),
        ("map{schemes=place}", "'place' maps no layers by name"),
        ("map{schemes=map}", "'map' maps no layers by name"),
        ('map{schemes="im2col{layers=a}"}', "names layers: give `layers` to map"),
        ("map{by=cycles mode=single}", "mode has no effect: cycles are the same in a stream and"),
        ("map{by=speed}", "option 'by' expects crossbars | cycles | energy | area-delay"),
    ],
)
def test_refused(passes, message):
    with pytest.raises(UsageError) as error:
        mapped(CONV, passes)
    assert message in str(error.value)


def test_the_text_of_the_pass_reads_back():
    (made,) = parse_passes(
        'map{by=energy schemes=im2col,"window{scheme=sdk}" layers="a.b"}', load_registry()
    )
    assert [*parse_passes(str(made), load_registry())] == [made]


def test_a_plugins_mapping_can_be_a_scheme(tmp_path):
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        "from dataclasses import dataclass\n"
        "from xbarc.pipeline import MappingScheme\n"
        "from xbarc.passes.im2col import Im2col\n"
        "@dataclass(frozen=True)\n"
        "class Mine(MappingScheme):\n"
        "    name = 'mine'\n"
        "    layers: tuple[str, ...] = ()\n"
        "    def apply(self, ctx, op):\n"
        "        Im2col(self.layers).apply(ctx, op)\n"
    )
    program = xbarc.compile(
        text_model(CONV), "mca128", passes="map{schemes=mine,im2col}", plugins=[plugin]
    )
    assert program.report["mapping_choices"]["Conv"]["chosen"] == "mine"


# --- Reports --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("map") / "m.xbar"
    mapped(CONV, "map{by=energy}", target(512, *TWO_COLUMNS)).save(path)
    return path


def invoke(*arguments):
    done = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_inspect_prints_the_choice(saved):
    assert "chosen by" not in invoke("inspect", saved)
    lines = invoke("inspect", saved, "--layer", "Conv").splitlines()
    start = next(i for i, line in enumerate(lines) if "chosen by energy" in line)
    rows = [line.strip() for line in lines[start + 2 :]]
    assert rows[0].startswith("window{scheme=vw-sdk} ")
    schemes = [c["scheme"] for c in choice(CONV, "", target(512, *TWO_COLUMNS))["candidates"]]
    assert {r.partition("  ")[0] for r in rows[: len(schemes) - 1]} < set(schemes)
    assert any(r.startswith("depthwise-mapping is out: layer 'Conv' has no groups") for r in rows)
    document = json.loads(invoke("inspect", saved, "--json"))
    assert document["layers"][0]["choice"]["chosen"] == "window{scheme=vw-sdk}"


@pytest.mark.parametrize(
    ("passes", "said"),
    [
        ("map{by=energy}", "energy, in a stream"),
        ("map{by=area-delay mode=single}", "area-delay, of one input alone"),
        ("map{by=cycles}", "cycles"),
    ],
)
def test_inspect_says_in_which_mode(passes, said, tmp_path):
    program = mapped(CONV, passes, target(512, *TWO_COLUMNS))
    program.save(tmp_path / "m.xbar")
    lines = invoke("inspect", tmp_path / "m.xbar", "--layer", "Conv").splitlines()
    assert f"chosen by {said}" in [line.strip() for line in lines]


def test_the_page_has_the_choice(saved, tmp_path):
    invoke("report", saved, "-o", tmp_path / "r.html")
    source = (tmp_path / "r.html").read_text()
    page = Page(source)
    assert "choices" in page.ids()
    section = source.partition('id="choices"')[2].partition("</section>")[0]
    order = ["<b>window{scheme=vw-sdk}</b>", "kernel-first", "depthwise-mapping"]
    assert sorted(order, key=section.index) == order
    report = json.loads((saved / "report.json").read_text())
    for candidate in report["mapping_choices"]["Conv"]["candidates"]:
        assert candidate["scheme"] in section
        if "refused" not in candidate:
            assert f'value="{candidate["energy_pj"]!r}"' in section
    assert "&#x27;Conv&#x27; has no groups" in section


def test_a_program_without_map_has_no_choices(tmp_path):
    program = mapped(CONV, "")
    assert "mapping_choices" not in program.report
    program.save(tmp_path / "p.xbar")
    invoke("report", tmp_path / "p.xbar", "-o", tmp_path / "r.html")
    assert 'id="choices"' not in (tmp_path / "r.html").read_text()
