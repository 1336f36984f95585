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
from xbarc.ir.dialect import MvmOp, copies_of, weights_of
from xbarc.passes.im2col import Im2col
from xbarc.passes.replicate import Layer, Replicate, balance, for_rate
from xbarc.pipeline import XbarContext, run_module_passes
from xbarc.support.errors import UsageError, XbarcError

layer = st.builds(
    lambda crossbars, streams: Layer("la", crossbars, tuple(streams)),
    st.integers(1, 4),
    st.lists(st.tuples(st.integers(1, 9), st.integers(1, 3)), min_size=1, max_size=2),
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
    found = for_rate(layers, 1e9 / time, 1.0)
    for la, n in zip(layers, found, strict=True):
        assert la.time(n) <= time
        assert n == 1 or la.time(n - 1) > time


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


def test_a_budget_below_one_copy_each_says_what_is_missing():
    with pytest.raises(
        XbarcError, match=r"takes 3 crossbars, the budget is 2: 1 are missing, for d"
    ):
        replicated(conv_chain(CHAIN), make_target(), budget=2)


def test_a_rate_out_of_reach_says_what_can_be_had():
    with pytest.raises(XbarcError, match=r"one vector of wide alone takes 8: at most"):
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
