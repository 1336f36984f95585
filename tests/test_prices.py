"""What single parts are priced at: arrays by three ways, digital products, coded inputs."""

import math

import numpy as np
import pytest
from models import text_model
from reference import make_target

import xbarc
from xbarc.cost.activity import crossbar_energy_pj
from xbarc.cost.components import components
from xbarc.cost.events import count_events
from xbarc.cost.power import cells_pj
from xbarc.cost.rollup import occupied, roll_up
from xbarc.hw.target import load_target
from xbarc.simulator.activity import ActivityCounter
from xbarc.simulator.interpreter import Simulator
from xbarc.support.errors import XbarcError

# 40 x 6 weights of 8 columns: 40 of 128 rows, 48 of 128 columns of one array.
DENSE = "g (float[N,40] x) => (float[N,6] y) <float[40,6] w> { y = MatMul(x, w) }"
PRODUCTS = """g (float[N,4,16] a, float[N,16,5] b) => (float[N,4,3] y) <float[5,3] w>
{ p = MatMul(a, b) y = MatMul(p, w) }"""


def totals(target, *overrides, model=DENSE, **more):
    return xbarc.compile(text_model(model), target, overrides=overrides, **more).report["totals"]


# --- Arrays


def test_the_array_is_counted_by_cells():
    """ISAAC: 30 pJ for 128 x 128 cells; a read takes the share of those that it reads."""
    found = totals("mca128")
    assert found["cell_reads"] == found["crossbar_reads"] * 40 * 48
    by_cells = found["crossbar_reads"] * 30 * 40 * 48 / 128**2
    assert found["energy_uj"]["crossbar"] == pytest.approx(by_cells * 1e-6)
    assert found["array_energy_uj"]["cells"] == found["energy_uj"]["crossbar"]
    assert found["array_energy_uj"]["arrays"] == pytest.approx(found["crossbar_reads"] * 30e-6)


@pytest.mark.parametrize("way", ["cells", "arrays", "programmed"])
@pytest.mark.parametrize("target", ["isaac", "puma", "mca128"])
def test_each_way_on_request(target, way):
    plain, asked = totals(target), totals(target, f"array.energy={way}")
    assert asked["array_energy_uj"] == pytest.approx(plain["array_energy_uj"])
    assert asked["energy_uj"]["crossbar"] == pytest.approx(plain["array_energy_uj"][way])


def test_as_programmed_is_every_cell_at_its_level():
    program = xbarc.compile(text_model(DENSE), "isaac")
    layers = count_events(program.module, program.weights, program.target)
    energy = sum(cells_pj(layer, program.target) for layer in layers) * 1e-6
    assert program.report["totals"]["array_energy_uj"]["programmed"] == pytest.approx(energy)


def test_full_load_is_the_published_whichever_way():
    plain = load_target("isaac")
    by_cells, by_arrays = (
        roll_up(t, components(t)) for t in (plain, load_target("isaac", ["array.energy=arrays"]))
    )
    assert by_cells == by_arrays


# --- Coded inputs


@pytest.mark.parametrize("dac_bits", [1, 3, 8])
@pytest.mark.parametrize("coding", ["amplitude", "pulses", "bit-pulses"])
def test_energy_by_values_follows_the_coding(coding, dac_bits):
    """A cell takes V^2 G t: the square of an amplitude, or as many pulses of the whole voltage."""
    target = make_target(array={"rows": 64}, inputs={"coding": coding, "dac_bits": dac_bits})
    x = np.random.default_rng(0).random((3, 40), dtype=np.float32)
    program = xbarc.compile(text_model(DENSE), target, calibration=x)
    blocks = []
    counter = ActivityCounter(program)

    def observe(op, codes, first):
        counter.observe(op, codes, first)
        blocks.append(codes.astype(np.int64))

    Simulator(program, observe=observe).run({"x": x})
    (counts,) = counter.statistics().values()
    device, top = target.device, 2**dac_bits - 1
    q = program.weights["MatMul"].astype(np.int64)
    levels = np.stack([np.maximum(q, 0), np.maximum(-q, 0)])
    digits = np.stack([levels >> 2 * s & 3 for s in range(4)])
    siemens = device.g_off_us + digits * (device.g_on_us - device.g_off_us) / 3
    row = siemens.sum(axis=(0, 1, 3))
    energy = 0.0
    for codes in np.concatenate(blocks, axis=1).T:
        for j in range(math.ceil(8 / dac_bits)):
            level = codes >> j * dac_bits & top
            bits = np.array([int(x).bit_count() for x in level])
            drive = {"pulses": level, "bit-pulses": bits, "amplitude": (level / top) ** 2}[coding]
            energy += float(drive @ row) * device.read_voltage_v**2 * device.read_pulse_ns * 1e-3
    assert crossbar_energy_pj(counts, target) == pytest.approx(energy, rel=1e-9)


def test_pulses_take_their_time():
    pulses = make_target(inputs={"coding": "pulses", "dac_bits": 3})
    one = make_target(inputs={"dac_bits": 3})
    assert pulses.cycle_ns() - one.cycle_ns() == pytest.approx(6 * 10)


# --- What stands beside crossbars

CONV = """g (float[N,8,12,12] x) => (float[N,16,H,W] y) <float[16,8,3,3] w> { y = Conv(x, w) }"""
TALL = "g (float[N,300] x) => (float[N,40] y) <float[300,40] w> { y = MatMul(x, w) }"


@pytest.mark.parametrize("target", ["isaac", "puma", "neurram", "mca128"])
def test_inputs_and_results_come_from_off_the_chip(target):
    """8 x 12 x 12 codes in, 16 x 10 x 10 out, 20.3 pJ a bit (Horowitz: 1.3 nJ for 64)."""
    found = totals(target, model=CONV)
    bits = load_target(target).inputs.bits
    assert found["io_bits"] == (8 * 144 + 16 * 100) * bits
    expected = found["io_bits"] + (found["off_chip_bits"] if target == "neurram" else 0)
    assert found["energy_uj"]["memory"] == pytest.approx(expected * 1300 / 64 * 1e-6)
    assert found["area_mm2"]["memory"] == 0


def test_what_a_buffer_cannot_hold_spills():
    """Three rows of 8 x 12 codes are 2304 bits; a buffer of 2048 holds 8 of 9."""
    assert totals("mca128", model=CONV)["spill_bits"] == 0
    found = totals("mca128", "node.buffer_kb=0.25", model=CONV)
    assert found["buffer_write_bits"] == 8 * 144 * 8
    assert found["spill_bits"] == 2 * (8 * 144 * 8 * 256 // 2304)
    price = 1300 / 64 * 1e-6
    both = found["spill_bits"] + found["io_bits"]
    assert found["energy_uj"]["memory"] == pytest.approx(both * price)
    # On PUMA the chip's own memory takes it.
    puma = totals("puma", "cost.core_buffer.model=constant", *BUFFER, model=CONV)
    assert puma["spill_bits"] > 0
    assert type(puma["spill_bits"]) is type(found["spill_bits"]) is int
    assert puma["energy_uj"]["memory"] == pytest.approx(puma["io_bits"] * price)
    assert puma["energy_uj"]["chip_buffer"] == pytest.approx(
        puma["spill_bits"] * 20.45 / 256 * 1e-6
    )


@pytest.mark.parametrize(("dilation", "rows"), [(1, 3), (2, 5), (8, 17), (15, 31), (16, 32)])
def test_a_dilated_window_needs_the_rows_that_it_skips(dilation, rows):
    """2 KB hold two rows of 16 x 32 codes of 16 bits. The last kernel reaches over the edge."""
    pads = "[1,0,0,0]" if dilation == 16 else "[0,0,0,0]"
    model = f"""g (float[N,16,32,32] x) => (float[N,16,H,W] y) <float[16,16,3,3] w>
    {{ y = Conv<dilations=[{dilation},1], pads={pads}>(x, w) }}"""
    found = totals("isaac", "node.buffer_kb=2", model=model)
    assert found["spill_bits"] == 2 * (16 * 32 * 32 * 16 * (rows - 2) // rows)


BUFFER = (
    "core.buffer_kb=0.25",
    "cost.core_buffer.area_um2=1",
    "cost.core_buffer.energy_pj=1",
    "cost.core_buffer.source=x",
)


def test_partial_sums_between_nodes():
    """300 rows are three row blocks; with a crossbar a node each column has two to pass on."""
    assert totals("mca128", model=TALL)["partial_sum_bits"] == 0
    small = ("core.crossbars=1", "node.cores=1", "chip.nodes=100")
    found = totals("mca128", *small, model=TALL)
    assert found["tiles"] == found["nodes"] == 3 * 3
    assert found["partial_sum_bits"] == 2 * 40 * (8 + 8)
    router = components(load_target("mca128"))["router"].unit.energy_pj
    moved = found["mesh_bit_hops"] + found["partial_sum_bits"]
    assert found["energy_uj"]["router"] == pytest.approx(moved * router * 1e-6)
    # Two crossbars a node: the nine tiles stand on five.
    wider = totals("mca128", "core.crossbars=2", *small[1:], model=TALL)
    assert 0 < wider["partial_sum_bits"] <= found["partial_sum_bits"]


def test_the_offset_is_taken_out_at_a_price():
    """The inputs of a vector are added up once, and each result loses its share."""
    differential, offset = (totals("mca128", *o) for o in ((), ("array.encoding=offset",)))
    assert differential["offset_adds"] == 0
    assert offset["offset_adds"] == 40 + 6
    done = offset["shift_adds"] + 46 + offset["digital"]["elementwise"]
    assert offset["energy_uj"]["shift_add"] == pytest.approx(done * 0.021e-6)


# --- Programming


def test_programming_draws_what_a_chip_may():
    """By default no more than what is in use draws at full load."""
    found = totals("mca128", "device.write_pulses=4", model=TALL)
    target = load_target("mca128")
    units = occupied(found["crossbars"], target, components(target))
    limit = sum(n * components(target)[k].unit.full_power_mw for k, n in units.items()) * 1e-3
    energy = found["programming_energy_uj"] + found["programming_verify_energy_uj"]
    assert found["programming_power_w"] == pytest.approx(
        energy / found["programming_time_ms"] / 1e3
    )
    assert found["programming_power_w"] <= limit * (1 + 1e-9)


def test_a_given_limit():
    plain, slow = (
        totals("mca128", *o, model=TALL)
        for o in (("chip.programming_power_w=1000",), ("chip.programming_power_w=1e-3",))
    )
    # 128 rows of one pulse of 40 ns.
    assert plain["programming_time_ms"] == pytest.approx(128 * 40e-6)
    assert slow["programming_power_w"] == pytest.approx(1e-3)
    assert slow["programming_time_ms"] == pytest.approx(slow["programming_energy_uj"])


# --- Digital products


def test_a_product_has_a_sourced_price():
    """Horowitz (ISSCC 2014): 0.2 and 0.1 pJ at 45 nm; x 32/45. 512^3 of them take tens of uJ."""
    unit = components(load_target("mca128"))["multiplier"].unit
    assert unit.energy_pj == pytest.approx(0.3 * 32 / 45)
    assert 20 < 512**3 * unit.energy_pj * 1e-6 < 40
    wide = components(load_target("mca128", ["inputs.bits=16"]))["multiplier"].unit
    assert wide.energy_pj == pytest.approx((0.2 * 15.5**0.5 + 0.1) * 32 / 45)


def test_products_go_to_the_mac_units():
    found = totals("mca128", model=PRODUCTS)
    assert found["digital"]["products"] == 4 * 5 * 16
    assert found["energy_uj"]["multiplier"] == pytest.approx(320 * 0.3 * 32 / 45 * 1e-6)
    assert found["area_mm2"]["multiplier"] == pytest.approx(64 * (282 + 137) * 32 / 45 * 1e-6)
    without = totals("mca128")
    assert without["energy_uj"]["multiplier"] == without["area_mm2"]["multiplier"] == 0


def test_without_a_multiplier_a_product_is_a_sum_for_each_bit():
    """ISAAC's shift-and-add: 0.021 pJ, eight of them for a factor of eight bits."""
    with_mac, none = (totals("mca128", *o, model=PRODUCTS) for o in ((), ("node.multipliers=0",)))
    more = none["energy_uj"]["shift_add"] - with_mac["energy_uj"]["shift_add"]
    assert more == pytest.approx(320 * 8 * 0.021e-6)
    # PUMA's vector unit multiplies: one operation each.
    vector = totals("puma", model=PRODUCTS)
    assert vector["digital"]["products"] == 320 and "multiplier" not in vector["energy_uj"]


def test_a_mac_is_no_part_of_the_published_chip():
    target = load_target("isaac")
    assert "multiplier" in components(target)
    plain = load_target("isaac", ["node.multipliers=0"])
    assert roll_up(target, components(target)) == roll_up(plain, components(plain))


@pytest.mark.parametrize("node", [16, 90])
def test_a_mac_of_other_nodes_is_refused(node):
    with pytest.raises(XbarcError, match="figures are of 45 nm"):
        components(make_mac(node))


def make_mac(node):
    parts = {name: {"area_um2": 1.0, "energy_pj": 1.0, "source": "x"} for name in FIXED}
    return make_target(
        technology={"node_nm": float(node)},
        node={"multipliers": 1},
        cost={**parts, "multiplier": {"model": "horowitz"}},
    )


FIXED = (
    "adc",
    "dac",
    "crossbar",
    "sample_hold",
    "shift_add",
    "input_register",
    "output_register",
)
