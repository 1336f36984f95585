"""The time model: cycles of published tables, what is the bottleneck, and programming."""

import numpy as np
import onnx
import pytest
from chains import conv_chain
from models import text_model
from reference import make_target

import xbarc
from xbarc.cost.components import components
from xbarc.cost.events import Edge, count_events
from xbarc.cost.time import (
    Rates,
    cycles,
    demand,
    hosts,
    placed_hops,
    programming_time_ms,
    programming_totals,
    rates_of,
    times,
    verify_energy_uj,
)
from xbarc.cost.time.work import _busiest_units
from xbarc.hw.target import load_target, target_names
from xbarc.ir.analysis.stages import stages_of
from xbarc.ir.dialect import WeightsOp
from xbarc.passes.im2col import Im2col
from xbarc.passes.place import Place
from xbarc.passes.replicate import Replicate
from xbarc.pipeline import XbarContext, run_module_passes

# Layers of the public tables of VW-SDK: name, image, kernel, inputs, outputs, and cycles of im2col
# at crossbars of 512, 256 and 128; no padding.
RESNET18 = [
    (("conv1", 112, 7, 3, 64), {512: 11236, 256: 11236, 128: 22472}),
    (("conv2", 56, 3, 64, 64), {512: 5832, 256: 8748, 128: 14580}),
    (("conv3", 28, 3, 128, 128), {512: 2028, 256: 3380, 128: 6084}),
    (("conv4", 14, 3, 256, 256), {512: 720, 256: 1296, 128: 5184}),
    (("conv5", 7, 3, 512, 512), {512: 225, 256: 900, 128: 3600}),
]
VGG13 = [
    (("conv1", 224, 3, 3, 64), {512: 49284}),
    (("conv2", 224, 3, 64, 64), {512: 98568}),
    (("conv3", 112, 3, 64, 128), {512: 24200}),
    (("conv4", 112, 3, 128, 128), {512: 36300}),
    (("conv5", 56, 3, 128, 256), {512: 8748}),
    (("conv6", 56, 3, 256, 256), {512: 14580}),
    (("conv7", 28, 3, 256, 512), {512: 3380}),
    (("conv8", 28, 3, 512, 512), {512: 6084}),
    (("conv9", 14, 3, 512, 512), {512: 1296}),
    (("conv10", 14, 3, 512, 512), {512: 1296}),
]
TOTALS = [
    (RESNET18, 512, 20041),
    (RESNET18, 256, 25560),
    (RESNET18, 128, 51920),
    (VGG13, 512, 243736),
]


def no_weights(module):
    """Weights of zero for each layer."""
    stored = [o for o in module.walk() if isinstance(o, WeightsOp)]
    return {o.symbol: np.zeros(o.stored_shape, np.int8) for o in stored}


@pytest.mark.parametrize(("network", "size", "total"), TOTALS)
def test_cycles_of_im2col_are_those_of_vw_sdk(network, size, total):
    """There a cycle is a tile met by a vector, one column a weight: what `activations` counts."""
    array = {"rows": size, "cols": size, "cell_bits": 8, "encoding": "offset"}
    target = make_target(array=array, inputs={"dac_bits": 8})
    module = conv_chain([layer for layer, _ in network], crossbar=size)
    run_module_passes([Im2col()], XbarContext(target), module)
    events = {e.name: e for e in count_events(module, no_weights(module), target)}
    for (name, *_), expected in network:
        assert events[name].activations == expected[size], name
    assert sum(e.activations for e in events.values()) == total


def test_a_cycle_is_a_read_and_the_conversions_that_share_an_adc():
    target = make_target(
        array={"cols": 128, "columns_per_adc": 32},
        adc={"rate_gsps": 2.0},
        device={"read_pulse_ns": 10.0},
    )
    assert target.cycle_ns() == 10 + 32 / 2
    shared = make_target(array={"cols": 128}, adc={"rate_gsps": 2.0}, core={"adcs": 4})
    assert shared.cycle_ns() == 10 + 8 * 128 / 4 / 2


@pytest.mark.parametrize(("where", "conversions"), [("columns", 16), ("arrays", 16), ("rows", 32)])
def test_pairs_that_are_subtracted_before_the_adc_are_one_conversion(where, conversions):
    target = make_target(
        array={"cols": 128, "columns_per_adc": 32, "polarity_in": where},
        adc={"rate_gsps": 2.0, "subtract": "analog"},
        device={"read_pulse_ns": 10.0},
    )
    assert target.cycle_ns() == 10 + conversions / 2


@pytest.mark.parametrize(("copies", "expected"), [(1, 800), (3, 272), (100, 8), (1000, 8)])
def test_copies_share_the_vectors(copies, expected):
    assert cycles(100, 8, copies) == expected


CHAIN = [("a", 18, 3, 4, 8), ("b", 16, 3, 8, 8)]
TARGET = make_target(core={"crossbars": 1}, node={"cores": 1}, chip={"nodes": 4})


def asked(rates, work=None, *passes, target=TARGET, chain=CHAIN):
    module = conv_chain(chain)
    run_module_passes([Im2col(), *passes], XbarContext(target), module)
    stages = stages_of(module)
    return stages, demand(stages, target, work or [{}] * len(stages), rates)


def test_the_slowest_layer_is_the_bottleneck():
    _, found = asked(Rates())
    assert (found.bottleneck.layer, found.bottleneck.resource) == ("a", "crossbar")
    assert found.interval_ns == pytest.approx(256 * 8 * TARGET.cycle_ns())
    _, found = asked(Rates(), None, Replicate(budget=3))
    assert found.bottleneck.layer == "b"
    assert found.interval_ns == pytest.approx(196 * 8 * TARGET.cycle_ns())


def test_a_digital_unit_is_the_bottleneck():
    rates = Rates(digital_per_ns={"activation": 1e-3, "pooling": 1.0})
    work = [{}, {"activation": 2048.0, "pooling": 4.0}, {"activation": 1.0}]
    stages, found = asked(rates, work)
    assert hosts(stages) == [0, 0, 2]
    assert (found.bottleneck.layer, found.bottleneck.resource) == ("a", "activation")
    assert found.interval_ns == pytest.approx(2048e3)
    assert found.works[1].busy_ns == pytest.approx(2048e3)


def test_a_layer_on_two_nodes_has_two_digital_units():
    rates = Rates(digital_per_ns={"activation": 1e-3})
    _, found = asked(rates, [{}, {"activation": 2048.0}, {}], Replicate(budget=3))
    assert found.works[1].busy_ns == pytest.approx(1024e3)


def test_layers_on_one_node_share_its_unit():
    target = make_target(chip={"nodes": 1})
    rates = Rates(digital_per_ns={"activation": 1e-3})
    _, found = asked(rates, [{"activation": 2000.0}, {"activation": 500.0}, {}], target=target)
    assert found.interval_ns == pytest.approx(2500e3)


def test_the_busiest_node_of_a_unit_and_who_asks_most_of_it():
    """Node 0 has a and b, node 1 has b and c: a node does what all of its layers ask."""
    here = [np.array([0]), np.array([0, 1]), np.array([1, 2])]
    units = [{"pooling": 5.0}, {"pooling": 4.0}, {"pooling": 3.0}]
    (found,) = _busiest_units(["a", "b", "c"], here, units, 3)
    assert (found.layer, found.resource, found.ns) == ("a", "pooling", 9)
    units[2]["pooling"] = 6.0
    (found,) = _busiest_units(["a", "b", "c"], here, units, 3)
    assert (found.layer, found.ns) == ("c", 10)


def test_a_wire_is_the_bottleneck():
    bits = 8 * 16 * 16 * 8
    _, found = asked(Rates(wire_bits_per_ns=1e-3))
    assert (found.bottleneck.layer, found.bottleneck.resource) == ("b", "mesh")
    assert found.interval_ns == pytest.approx(bits * 1e3)
    assert found.works[2].transfers_ns == (pytest.approx(bits * 1e3),)
    assert found.works[1].transfers_ns == (0.0,)


def test_a_link_between_chips_is_slower():
    chips = make_target(core={"crossbars": 1}, node={"cores": 1}, chip={"nodes": 1})
    rates = Rates(wire_bits_per_ns=1.0, link_bits_per_ns=1e-3)
    assert asked(rates, target=chips)[1].bottleneck.resource == "mesh"
    assert asked(rates)[1].bottleneck.resource == "crossbar"


def test_layers_add_up_to_one_image():
    rates = Rates({"activation": 1.0}, wire_bits_per_ns=1.0)
    stages, _ = asked(rates)
    found = times(stages, TARGET, [{}, {"activation": 7.0}, {"activation": 5.0}], rates)
    rows = found.by_layer()
    assert sum(row["latency_ns"] for row in rows.values()) == pytest.approx(found.latency_ns)
    assert rows["a"]["digital_ns"] == 7.0
    assert rows["b"]["transfer_ns"] > 0
    assert found.latency_ns == pytest.approx(
        (256 + 196) * 8 * TARGET.cycle_ns() + 7 + rows["b"]["transfer_ns"]
    )


def test_without_layers_nothing_takes_time():
    model = text_model("g (float[N,3] x) => (float[N,3] y) { y = Relu(x) }")
    totals = xbarc.compile(model, "mca128", calibration=np.ones((1, 3), np.float32)).cost()[
        "totals"
    ]
    assert totals["programming_time_ms"] == 0


def test_placing_shortens_the_ways():
    chain = [("a", 18, 3, 4, 8), ("b", 10, 3, 60, 60), ("c", 10, 3, 60, 60)]
    target = make_target(
        array={"cols": 128}, core={"crossbars": 1}, node={"cores": 1}, chip={"nodes": 144}
    )
    found = []
    for how in ("snake", "greedy"):
        module = conv_chain(chain)
        run_module_passes([Im2col(), Place(how)], XbarContext(target), module)
        events = count_events(module, no_weights(module), target, hops=placed_hops(module, target))
        found.append(sum(layer.mesh_bit_hops for layer in events))
    assert found[1] < found[0]


def test_hops_of_a_placed_program():
    chain = [("a", 18, 3, 4, 8), ("b", 16, 3, 8, 300)]
    target = make_target(
        array={"cols": 128}, core={"crossbars": 1}, node={"cores": 1}, chip={"nodes": 16}
    )
    module = conv_chain(chain)
    run_module_passes([Im2col()], XbarContext(target), module)
    bits = Edge("a", "b", 1)
    assert placed_hops(module, target)(bits) == 1
    run_module_passes([Place("snake")], XbarContext(target), module)
    hops = placed_hops(module, target)
    # On a mesh 4 wide: a on node 0, b on nodes 1, 2 and 3.
    assert hops(bits) == pytest.approx(2)
    assert hops(Edge(None, "a", 1)) == hops(Edge("b", None, 1)) == 1


def test_layers_of_one_node_are_a_hop_apart():
    target = make_target(core={"crossbars": 4}, node={"cores": 1}, chip={"nodes": 16})
    module = conv_chain([("a", 18, 3, 4, 8), ("b", 16, 3, 8, 8)])
    run_module_passes([Im2col(), Place("snake")], XbarContext(target), module)
    assert placed_hops(module, target)(Edge("a", "b", 1)) == 1


def test_rates_of_a_target():
    target = load_target("isaac")
    rates = rates_of(target, components(target))
    assert rates.digital_per_ns["activation"] == pytest.approx(2 * 1.2)
    assert rates.link_bits_per_ns == pytest.approx(51.2)
    assert 10 < rates.wire_bits_per_ns < 100


@pytest.mark.parametrize(("routers", "share"), [(0.25, 0.5), (1, 1), (4, 1)])
def test_wires_of_a_router_that_nodes_share(routers, share):
    """One router for four nodes: one of its wires is two of their mesh."""
    one, found = (
        rates_of(target, components(target)).wire_bits_per_ns
        for target in (load_target("isaac", [f"node.routers={n}"]) for n in (1, routers))
    )
    assert found == pytest.approx(share * one)


# --- Programming --------------------------------------------------------------------------------


def test_one_pulse_is_written_blind():
    target = make_target(device={"write_pulse_ns": 50.0})
    assert programming_time_ms(7, target) == {
        "write": pytest.approx(128 * 50e-6),
        "verify": 0.0,
        "total": pytest.approx(128 * 50e-6),
    }
    assert verify_energy_uj(1000, target) == 0


def test_a_verify_loop_reads_after_each_pulse():
    target = make_target(device={"write_pulse_ns": 50.0, "write_pulses": 6})
    found = programming_time_ms(7, target)
    assert found["write"] == pytest.approx(128 * 6 * 50e-6)
    assert found["verify"] == pytest.approx(128 * 6 * target.cycle_ns() * 1e-6)
    # 0.2 V, 50.5 uS, 10 ns: 20.2 fJ a read; and 2 pJ a conversion.
    assert verify_energy_uj(1000, target, 2.0) == pytest.approx(6000 * (20.2e-9 + 2e-6))
    assert programming_totals(0, 0, target, {}) == {
        "programming_time_ms": 0.0,
        "programming_verify_time_ms": 0.0,
        "programming_verify_energy_uj": 0.0,
    }


@pytest.mark.parametrize("coding", ["pulses", "bit-pulses"])
def test_a_verify_read_is_one_pulse_however_inputs_are_coded(coding):
    device = {"write_pulses": 6}
    amplitude, pulses = (
        make_target(device=device, inputs={"dac_bits": 3, "coding": c})
        for c in ("amplitude", coding)
    )
    assert verify_energy_uj(1000, pulses) == verify_energy_uj(1000, amplitude) > 0
    # It takes a cycle as every read does.
    verify = programming_time_ms(7, pulses)["verify"]
    assert verify == pytest.approx(128 * 6 * pulses.cycle_ns() * 1e-6)


# --- Large networks -----------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["resnet50", "vgg19"])
def large(request):
    folder = onnx.__path__[0]
    path = f"{folder}/backend/test/data/light/light_{request.param}.onnx"
    return xbarc.compile(path, "mca128", passes="replicate,place,schedule")


def test_large_networks_are_short_text(large):
    from xbarc.cost import report
    from xbarc.ir import print_module

    assert len(print_module(large.module)) < 100_000
    found = report(large)
    assert found["totals"]["schedule"] == "rows"
    assert found["totals"]["bottleneck"]["resource"]


@pytest.mark.parametrize("name", target_names())
def test_every_target_has_times(name):
    x = np.random.default_rng(0).normal(size=(2, 4, 8, 8)).astype(np.float32)
    model = text_model(
        "g (float[N,4,8,8] x) => (float[N,4,8,8] y) <float[4,4,3,3] w>"
        "{ a = Conv<pads=[1,1,1,1]>(x, w) y = Relu(a) }"
    )
    totals = xbarc.compile(model, name, calibration=x, passes="replicate{budget=16},place").cost()[
        "totals"
    ]
    assert 0 < totals["interval_us"] <= totals["latency_us"]
    assert totals["throughput_ips"] == pytest.approx(1e6 / totals["interval_us"])


@pytest.mark.parametrize(("read_ns", "pipelined"), [(1.0, 100.0), (130.0, 130.0)])
def test_a_read_and_the_conversions_of_the_last_one_go_on_together(read_ns, pipelined):
    """ISAAC's cycle of 100 ns, and 101 where each waits for the other."""
    keys = [f"device.read_pulse_ns={read_ns}"]
    assert load_target("isaac", keys).cycle_ns() == pytest.approx(pipelined)
    turns = load_target("isaac", [*keys, "core.cycle=sequential"])
    assert turns.cycle_ns() == pytest.approx(read_ns + 100)


def test_a_slow_converter_slows_the_cycle():
    target = load_target("mca128", ["cost.adc.model=neurosim-sar"])
    rates = rates_of(target, components(target))
    assert rates.adc_gsps < target.adc.rate_gsps
    assert target.cycle_ns(rates.adc_gsps) == 128 / rates.adc_gsps
    text = "g (float[N,64] x) => (float[N,8] y) <float[64,8] w> { y = MatMul(x, w) }"
    slow, fast = (
        xbarc.compile(text_model(text), "mca128", overrides=keys).cost()["totals"]["latency_us"]
        for keys in (["cost.adc.model=neurosim-sar"], [])
    )
    assert slow > fast
