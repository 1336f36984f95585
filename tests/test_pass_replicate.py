"""replicate: the slowest layer as fast as a budget of crossbars allows."""

import itertools

import numpy as np
import pytest
from chains import conv_chain
from hypothesis import given, settings
from hypothesis import strategies as st
from models import text_model
from reference import make_target

import xbarc
from xbarc.cost.components import components
from xbarc.cost.time import rates_of, times
from xbarc.hw.target import load_target
from xbarc.ir import parse_module
from xbarc.ir.analysis.stages import stages_of
from xbarc.ir.dialect import MvmOp, copies_of, set_copies, weights_of
from xbarc.passes.im2col import Im2col
from xbarc.passes.replicate import Layer, Replicate, Stream, balance, for_rate
from xbarc.pipeline import XbarContext, run_module_passes
from xbarc.support.errors import UsageError, XbarcError

stream = st.builds(Stream, st.integers(1, 9), st.integers(1, 3), st.sampled_from([1.0, 1.5, 2.25]))
layer = st.builds(
    lambda crossbars, turns: Layer("la", crossbars, tuple(map(tuple, turns))),
    st.integers(1, 4),
    st.lists(st.lists(stream, min_size=1, max_size=2), min_size=1, max_size=2),
)


def slowest(layers, copies):
    return max(la.time(n) for la, n in zip(layers, copies, strict=True))


def crossbars(layers, copies):
    return sum(la.crossbars * n for la, n in zip(layers, copies, strict=True))


@settings(deadline=None)
@given(st.lists(layer, min_size=1, max_size=3), st.integers(0, 16))
def test_no_other_choice_of_copies_is_faster(layers, spare):
    budget = crossbars(layers, [1] * len(layers)) + spare
    found = balance(layers, budget)
    every = [
        copies
        for copies in itertools.product(*(range(1, budget // la.crossbars + 1) for la in layers))
        if crossbars(layers, copies) <= budget
    ]
    assert crossbars(layers, found) <= budget
    assert slowest(layers, found) == min(slowest(layers, c) for c in every)
    as_fast = [c for c in every if slowest(layers, c) == slowest(layers, found)]
    assert crossbars(layers, found) == min(crossbars(layers, c) for c in as_fast)


@given(st.lists(layer, min_size=1, max_size=3), st.integers(3, 40))
def test_a_rate_takes_the_fewest_copies_that_reach_it(layers, time):
    least = slowest(layers, [9] * len(layers))
    if time < least:
        with pytest.raises(XbarcError, match=f"la still takes {least:g} ns"):
            for_rate(layers, 1e9 / time)
        return
    found = for_rate(layers, 1e9 / time)
    for la, n in zip(layers, found, strict=True):
        assert la.time(n) <= time
        assert n == 1 or la.time(n - 1) > time


@given(st.integers(1, 5000), st.integers(1, 5000))
def test_many_vectors(vectors, time):
    assert Layer("la", 1, ((Stream(vectors, 1, 1.0),),)).copies(time) == -(-vectors // time)


def replicated(module, target, **options):
    run_module_passes([Im2col(), Replicate(**options)], XbarContext(target), module)
    return {weights_of(o).symbol: copies_of(o) for o in module.walk() if isinstance(o, MvmOp)}


CHAIN = [("wide", 18, 3, 4, 8), ("deep", 10, 3, 16, 8)]
"""256 vectors on 1 crossbar, 64 vectors on 2 of 128 rows."""


def test_a_budget_goes_to_the_slow_layer():
    target = make_target()
    assert replicated(conv_chain(CHAIN), target, budget=3) == {"wide": 1, "deep": 1}
    assert replicated(conv_chain(CHAIN), target, budget=6) == {"wide": 4, "deep": 1}
    assert replicated(conv_chain(CHAIN), target, budget=7) == {"wide": 4, "deep": 1}
    assert replicated(conv_chain(CHAIN), target, budget=12) == {"wide": 8, "deep": 2}


def test_the_default_budget_is_what_the_chips_hold():
    chip = {"core": {"crossbars": 2}, "node": {"cores": 3}, "chip": {"nodes": 2}}
    assert replicated(conv_chain(CHAIN), make_target(**chip)) == {"wide": 8, "deep": 2}
    two = chip | {"chip": {"nodes": 1, "chips": 2}}
    assert replicated(conv_chain(CHAIN), make_target(**two)) == {"wide": 8, "deep": 2}


def test_a_second_run_starts_from_one_copy_again():
    module, target = conv_chain(CHAIN), make_target()
    replicated(module, target, budget=12)
    run_module_passes([Replicate(budget=6)], XbarContext(target), module)
    assert [copies_of(o) for o in module.walk() if isinstance(o, MvmOp)] == [4, 1]


def test_a_rate():
    target = make_target(inputs={"dac_bits": 8})
    rate = 1e9 / (64 * target.cycle_ns())
    assert replicated(conv_chain(CHAIN), target, target_throughput=rate * 0.999) == {
        "wide": 4,
        "deep": 1,
    }


# --- The interval that the cost model finds -------------------------------------------------------

NEURRAM = load_target("neurram")  # converts the sums of unsigned inputs slower
SHARED = make_target(
    array={"rows": 128, "cols": 128, "cell_bits": 7}, inputs={"dac_bits": 8}, adc={"bits": 8}
)

POSITIVE = """g (float[N,3,8,8] x) => (float[N,4,H,W] y) <float[8,3,1,1] v, float[4,8,2,2] w> {
    a = Conv(x, v)  b = Relu(a)  y = Conv(b, w) }"""
"""Unsigned inputs of both layers: 64 and 49 vectors."""

SIGNED_FIRST = """g (float[N,3,8,8] z) => (float[N,4,H,W] y) <float[8,3,1,1] v, float[4,8,2,1] w> {
    a = Conv(z, v)  b = Relu(a)  y = Conv(b, w) }"""
"""64 signed vectors, then 56 unsigned ones, which take longer."""

SQUEEZE = """g (float[N,16,4,4] x) => (float[N,16,4,4] y)
    <float[16,16,3,3] v, float[4,16,1,1] a, float[16,4,1,1] c> {
    m = Conv<pads=[1,1,1,1]>(x, v)  k = Relu(m)  p = GlobalAveragePool(k)  f = Conv(p, a)
    r = Relu(f)  e = Conv(r, c)  s = Sigmoid(e)  y = Mul(k, s) }"""
"""16 vectors, then a squeeze-and-excitation block: two layers of one vector each."""


def compiled(text, target, passes):
    """A program whose input x has no sign, or z, which has one."""
    rng, model = np.random.default_rng(0), text_model(text)
    (given,) = model.graph.input
    shape = [4, *(d.dim_value for d in given.type.tensor_type.shape.dim[1:])]
    feed = (rng.random if given.name == "x" else rng.standard_normal)(shape).astype(np.float32)
    return xbarc.compile(model, target, calibration={given.name: feed}, passes=passes)


def mvms_by_home(module):
    """The mvms that are copied together, by the layer whose crossbars they stand on."""
    found = {}
    for op in module.walk():
        if isinstance(op, MvmOp):
            found.setdefault(weights_of(op.host or op).symbol, []).append(op)
    return found


def interval_ns(module, target):
    """The interval of a stream as the cost model has it, digital operations left out."""
    stages, rates = stages_of(module), rates_of(target, components(target))
    return times(stages, target, [{}] * len(stages), rates).interval_ns


def with_copies(module, target, copies):
    """Interval and crossbars of the module with so many copies, in the order of the layers."""
    module = module.clone()
    homes = mvms_by_home(module)
    for mvms, n in zip(homes.values(), copies, strict=True):
        for op in mvms:
            set_copies(op, n)
    total = sum(n * o.crossbars() for m, n in zip(homes.values(), copies, strict=True) for o in m)
    return interval_ns(module, target), total


@pytest.mark.parametrize(
    ("text", "target", "before", "rate"),
    [
        (POSITIVE, NEURRAM, "", 1300),
        (POSITIVE, NEURRAM, "", 2500),
        (POSITIVE, NEURRAM, "", 20_000),
        (SIGNED_FIRST, NEURRAM, "", 2800),
        (SQUEEZE, SHARED, "share-crossbars,", 4.2e6),
        (SQUEEZE, SHARED, "share-crossbars,", 6e5),
        (SQUEEZE, SHARED, "", 8.5e6),
    ],
)
def test_the_report_has_the_rate_and_one_copy_less_does_not(text, target, before, rate):
    program = compiled(text, target, f"{before}replicate{{target-throughput={rate}}}")
    totals = program.report["totals"]
    assert totals["bottleneck"]["resource"] == "crossbar"
    assert totals["throughput_ips"] >= rate
    assert totals["interval_us"] == interval_ns(program.module, target) * 1e-3
    copies = [copies_of(mvms[0]) for mvms in mvms_by_home(program.module).values()]
    assert max(copies) > 1
    for i, n in enumerate(copies):
        fewer = [*copies[:i], n - 1, *copies[i + 1 :]]
        assert n == 1 or 1e9 / with_copies(program.module, target, fewer)[0] < rate


def test_the_rate_that_a_report_has_can_be_asked_for():
    """It takes no copy more, and what is just above it does."""
    report = compiled(POSITIVE, NEURRAM, "replicate{budget=5}").report
    rate = report["totals"]["throughput_ips"]
    for asked, crossbars in ((rate, 5), (float(np.nextafter(rate, np.inf)), 6)):
        again = compiled(POSITIVE, NEURRAM, f"replicate{{target-throughput={asked!r}}}").report
        assert again["totals"]["throughput_ips"] >= asked
        assert again["totals"]["crossbars"] == crossbars


def test_layers_on_the_same_crossbars_take_turns():
    """117 ns each, 233 ns both: a rate that each alone has is refused."""
    passes = "share-crossbars,replicate{target-throughput=6e6}"
    with pytest.raises(XbarcError, match=r"Conv_1 still takes 233.333 ns: at most 4.28571e\+06"):
        compiled(SQUEEZE, SHARED, passes)
    apart = compiled(SQUEEZE, SHARED, passes.removeprefix("share-crossbars,"))
    assert apart.report["totals"]["throughput_ips"] >= 6e6


@pytest.mark.parametrize("budget", [2, 3, 4, 5, 8])
@pytest.mark.parametrize(
    ("text", "target", "before"),
    [
        (POSITIVE, NEURRAM, ""),
        (SIGNED_FIRST, NEURRAM, ""),
        (SQUEEZE, SHARED, "share-crossbars,"),
    ],
)
def test_no_other_choice_has_a_shorter_interval_in_the_report(text, target, before, budget):
    budget += text == SQUEEZE  # whose first layer takes two crossbars
    program = compiled(text, target, f"{before}replicate{{budget={budget}}}")
    totals = program.report["totals"]
    homes = len(mvms_by_home(program.module))
    every = [
        with_copies(program.module, target, copies)
        for copies in itertools.product(range(1, budget + 1), repeat=homes)
    ]
    least = min((ns, crossbars) for ns, crossbars in every if crossbars <= budget)
    assert (totals["interval_us"], totals["crossbars"]) == (least[0] * 1e-3, least[1])


BESIDE = """\
builtin.module attributes {
    xbar.crossbar = #xbar.crossbar<128 x 128 cells of 7 bits, differential, slices in columns,
                                   polarity in columns>} {
  xbar.weights @a : 48x12xi8 for "Conv"
  xbar.weights @b : 12x48xi8 for "Conv"
  func.func @main(%0: tensor<?x48x3x4xui8>, %1: tensor<?x12x5x2xui8>) {
    %2 = xbar.gather %0 axis 1 : tensor<?x48x3x4xui8> -> !xbar.stream<12 x 48 x ui8>
    %3 = xbar.mvm %2, @a by "im2col" grid [128, 64]
         : !xbar.stream<12 x 48 x ui8> -> !xbar.stream<12 x 12 x si32>
    %4 = xbar.mvm %2, @a by "im2col" grid [128, 64]
         : !xbar.stream<12 x 48 x ui8> -> !xbar.stream<12 x 12 x si32>
    %5 = xbar.gather %1 axis 1 : tensor<?x12x5x2xui8> -> !xbar.stream<10 x 12 x ui8>
    %6 = xbar.mvm %5, @b by "im2col" grid [128, 64] beside @a
         : !xbar.stream<10 x 12 x ui8> -> !xbar.stream<10 x 48 x si32>
    func.return
  }
}
"""


def test_of_a_layer_s_crossbars_those_with_a_guest_are_the_busiest():
    """@a stands on two crossbars, side by side; beside one of them @b, which adds to that one."""
    cycle = SHARED.cycle_ns()
    for rate, copies in ((22.01, 1), (21.99, 2), (11.01, 2), (10.99, 3), (2.01, 12)):
        module = parse_module(BESIDE)
        replicate = Replicate(target_throughput=1e9 / (rate * cycle))
        run_module_passes([replicate], XbarContext(SHARED), module)
        assert [copies_of(o) for o in module.walk() if isinstance(o, MvmOp)] == [copies] * 3
        assert interval_ns(module, SHARED) <= rate * cycle
    with pytest.raises(XbarcError, match="a still takes"):
        run_module_passes(
            [Replicate(target_throughput=1e9 / (1.99 * cycle))],
            XbarContext(SHARED),
            parse_module(BESIDE),
        )


# --- Refusals -------------------------------------------------------------------------------------


def test_a_budget_below_one_copy_each_says_what_is_missing():
    with pytest.raises(
        XbarcError, match=r"takes 3 crossbars, the budget is 2: 1 are missing, for d"
    ):
        replicated(conv_chain(CHAIN), make_target(), budget=2)


def test_a_rate_out_of_reach_says_what_can_be_had():
    message = (
        r"1e\+09 inputs/s leave 1 ns, with a copy for every input vector wide still takes "
        r"933.333 ns: at most 1.07143e\+06 inputs/s"
    )
    with pytest.raises(XbarcError, match=message):
        replicated(conv_chain(CHAIN), make_target(), target_throughput=1e9)


def test_a_rate_that_the_chips_dont_hold():
    target = make_target(chip={"nodes": 1, "chips": 1}, core={"crossbars": 2}, node={"cores": 2})
    rate = 0.999e9 / (512 * target.cycle_ns())
    with pytest.raises(XbarcError, match=r"6 crossbars are needed, 1 chip of test holds 4: 2 are"):
        replicated(conv_chain(CHAIN), target, target_throughput=rate)


@pytest.mark.parametrize(
    "options",
    [{"budget": 3, "target_throughput": 1.0}, {"budget": 0}, {"target_throughput": -1.0}],
)
def test_options_that_make_no_sense(options):
    with pytest.raises(UsageError):
        Replicate(**options)


def test_results_stay_the_same_to_the_bit():
    model = text_model(
        "g (float[N,3,12,12] x) => (float[N,10] y)"
        "<float[8,3,3,3] w, float[8,8,3,3] v, float[8,10] f>"
        "{ a = Conv(x, w) b = Relu(a) c = Conv(b, v) d = GlobalAveragePool(c) e = Flatten(d)"
        "  y = MatMul(e, f) }"
    )
    x = np.random.default_rng(0).normal(size=(5, 3, 12, 12)).astype(np.float32)
    plain = xbarc.compile(model, "mca64", calibration=x)
    placed = xbarc.compile(
        model, "mca64", calibration=x, passes="replicate{budget=40},place,schedule"
    )
    assert any(copies_of(o) > 1 for o in placed.module.walk() if isinstance(o, MvmOp))
    np.testing.assert_array_equal(placed.run(x)["y"], plain.run(x)["y"])
    assert placed.cost()["passes"][-4:] == [
        "im2col", "replicate{budget=40}", "place", "schedule",
    ]  # fmt: skip
