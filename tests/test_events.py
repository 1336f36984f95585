"""What is counted in a layer, and what is made of it: energy, leakage, totals."""

import math

import numpy as np
import onnx.helper
import onnx.parser
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import text_model

import xbarc
from xbarc.api import Program
from xbarc.cost import report
from xbarc.cost.components import components
from xbarc.cost.digital import count_operations
from xbarc.cost.events import COUNTS, Edge, count_events, traffic
from xbarc.cost.model import actions, energy_pj
from xbarc.cost.places import places_of
from xbarc.hw.mesh import Mesh
from xbarc.hw.target import load_target
from xbarc.ir import parse_module
from xbarc.ir.dialect import MESH, MeshAttr, MvmOp, set_ranges
from xbarc.pipeline import XbarContext, load_registry, parse_passes, run_module_passes
from xbarc.support.errors import XbarcError

RESIDUAL = """g (float[N,3,8,8] x) => (float[N,10] y)
<float[16,3,3,3] w, float[16] b, float[16,16,3,3] w2, float[256,10] f> {
  a = Conv<pads=[1,1,1,1]>(x, w, b)
  r = Relu(a)
  c = Conv<pads=[1,1,1,1]>(r, w2)
  s = Add(c, r)
  t = Relu(s)
  p = MaxPool<kernel_shape=[2,2], strides=[2,2]>(t)
  u = Flatten(p)
  y = MatMul(u, f)
}"""


@pytest.fixture(scope="module")
def residual():
    return xbarc.compile(text_model(RESIDUAL), target="mca128")


class Ones(dict):
    """Weights of all ones, made when they are asked for."""

    def __init__(self, shapes):
        super().__init__()
        self.shapes = shapes

    def __missing__(self, name):
        return np.ones(self.shapes[name], np.int8)


def conv_layers(target, layers):
    """The events of convolutions without padding: (spatial size, kernel, Ci, Co) each."""
    a = target.array
    lines, body, shapes = [], [], {}
    arguments, results = [], []
    for i, (size, k, ci, co) in enumerate(layers):
        out = size - k + 1
        shapes[f"c{i}"] = (ci * k * k, co)
        lines.append(f"  xbar.weights @c{i} : {ci * k * k}x{co}xi{target.weights.bits}")
        results.append(f"tensor<?x{co}x{out}x{out}xsi32>")
        arguments.append(f"%x{i}: tensor<?x{ci}x{size}x{size}xui8>")
        body.append(
            f"    %y{i} = xbar.conv %x{i}, @c{i} window [{k}, {k}] : "
            f"tensor<?x{ci}x{size}x{size}xui8> -> tensor<?x{co}x{out}x{out}xsi32>"
        )
    text = f"""
builtin.module attributes {{xbar.crossbar = #xbar.crossbar<{a.rows} x {a.cols} cells of
  {a.cell_bits} bits, {a.encoding}, slices in {a.slices_in}, polarity in {a.polarity_in}>}} {{
{chr(10).join(lines)}
  func.func @main({", ".join(arguments)}) -> ({", ".join(results)}) {{
{chr(10).join(body)}
    func.return {", ".join(f"%y{i}" for i in range(len(layers)))} : {", ".join(results)}
  }}
}}
"""
    module = parse_module(text)
    passes = parse_passes("im2col", load_registry())
    run_module_passes(passes.mapping, XbarContext(target), module)
    return count_events(module, Ones(shapes), target)


# --- One layer, by hand ---------------------------------------------------------------------------


def test_one_layer_by_hand():
    # 150 x 20 weights on 128 x 128 arrays of 16 weights a row: 2 x 2 tiles, 4 windows.
    target = load_target("mca128")
    (layer,) = conv_layers(target, [(6, 5, 6, 20)])
    assert (layer.tiles, layer.crossbars, layer.vectors) == (4, 4, 4)
    assert layer.memristors == 150 * 20 * 4 * 2
    assert (layer.activations, layer.cycles, layer.macs) == (16, 32, 4 * 3000)
    reads = 4 * 8  # vectors x bits of the input
    assert layer.crossbar_reads == reads * 4
    assert layer.row_pulses == layer.input_bits == reads * 150 * 2
    conversions = reads * 2 * 20 * 4 * 2  # row blocks, columns, slices, polarities
    assert layer.adc_conversions == layer.output_values == conversions
    assert layer.shift_adds == conversions + 4 * 20  # one sum of two row blocks a result
    assert layer.results == 4 * 20
    assert layer.buffer_read_bits == 4 * 150 * 8
    assert layer.bus_bits == 4 * 150 * 8 + 4 * 2 * 20 * (8 + 8)
    assert layer.write_pulses == layer.memristors
    assert layer.buffer_write_bits == 6 * 6 * 6 * 8
    assert layer.mesh_bits == (6 * 6 * 6 + 2 * 2 * 20) * 8  # in, and out


@pytest.mark.parametrize(
    ("slices", "polarity", "arrays", "column_blocks"),
    [
        ("columns", "columns", 1, 2),  # 20 weights of 8 bit lines: 160
        ("columns", "arrays", 2, 1),
        ("arrays", "columns", 4, 1),
        ("arrays", "arrays", 8, 1),
    ],
)
def test_every_array_of_a_tile_has_its_own_rows(slices, polarity, arrays, column_blocks):
    sets = [f"array.slices_in={slices}", f"array.polarity_in={polarity}"]
    (layer,) = conv_layers(load_target("mca128", sets), [(6, 5, 6, 20)])
    tiles = 2 * column_blocks
    assert (layer.tiles, layer.crossbars) == (tiles, tiles * arrays)
    reads = 4 * 8
    assert layer.row_pulses == layer.input_bits == reads * 150 * column_blocks * arrays
    assert layer.crossbar_reads == reads * tiles * arrays
    assert layer.memristors == 150 * 20 * 4 * 2


def test_analog_subtraction_converts_once():
    digital, analog = (
        conv_layers(load_target("mca128", [f"adc.subtract={how}"]), [(6, 5, 6, 20)])[0]
        for how in ("digital", "analog")
    )
    assert digital.adc_conversions == 2 * analog.adc_conversions


def test_arrays_may_share_their_dacs():
    target = load_target("puma")
    (layer,) = conv_layers(target, [(6, 5, 6, 20)])
    assert layer.crossbars == 2 * 8  # two tiles of 8 slices
    assert actions(layer, target, components(target))["dac"] == layer.row_pulses / 8


def test_copies_share_the_vectors():
    target = load_target("mca128")
    text = """
builtin.module attributes {xbar.crossbar = #xbar.crossbar<128 x 128 cells of 2 bits, differential,
  slices in columns, polarity in columns>} {
  xbar.weights @fc : 16x10xi8
  func.func @main(%0: tensor<?x5x16xui8>) -> tensor<?x5x10xsi32> {
    %1 = xbar.gather %0 axis 2 : tensor<?x5x16xui8> -> !xbar.stream<5 x 16 x ui8>
    %2 = xbar.mvm %1, @fc by "im2col" grid [128, 16]COPIES : !xbar.stream<5 x 16 x ui8> ->
      !xbar.stream<5 x 10 x si32>
    %3 = xbar.scatter %2 axis 2 : !xbar.stream<5 x 10 x si32> -> tensor<?x5x10xsi32>
    func.return %3 : tensor<?x5x10xsi32>
  }
}
"""
    weights = {"fc": np.ones((16, 10), np.int8)}
    one, two = (
        count_events(parse_module(text.replace("COPIES", c)), weights, target)[0]
        for c in ("", " copies 2")
    )
    assert (two.crossbars, two.memristors) == (2 * one.crossbars, 2 * one.memristors)
    assert (one.cycles, two.cycles) == (5 * 8, 3 * 8)
    assert two.adc_conversions == one.adc_conversions
    parts = components(target)
    assert energy_pj(two, target, parts) == energy_pj(one, target, parts)


# --- Traffic --------------------------------------------------------------------------------------


def test_traffic(residual):
    module, target = residual.module, residual.target
    assert traffic(module, target) == [
        Edge(None, "Conv", 3 * 64 * 8),
        Edge("Conv", "Conv_1", 16 * 64 * 8),
        Edge("Conv", "Conv_1", 16 * 64 * 8),  # the other side of the Add
        Edge("Conv_1", "MatMul", 256 * 8),  # after pooling
        Edge("MatMul", None, 10 * 8),
    ]


def test_bits_times_hops(residual):
    hops = {"Conv": 3.0, "Conv_1": 0.0}
    first, second, last = count_events(
        residual.module, residual.weights, residual.target, hops=lambda e: hops.get(e.source, 1.0)
    )
    assert first.mesh_bits == (3 * 64 + 2 * 16 * 64) * 8
    assert first.mesh_bit_hops == 3 * 64 * 8 + 3 * 2 * 16 * 64 * 8
    assert (second.mesh_bits, second.mesh_bit_hops) == (256 * 8, 0)
    assert last.mesh_bit_hops == 80


def test_off_chip_bits(residual):
    small = load_target("mca128", ["core.crossbars=1", "node.cores=1", "chip.nodes=2"])
    events = count_events(residual.module, residual.weights, small)
    assert [la.crossbars for la in events] == [1, 2, 2]
    mvms = [op for op in residual.module.walk() if isinstance(op, MvmOp)]
    assert places_of(mvms, small).chips() == {"Conv": [0], "Conv_1": [0, 1], "MatMul": [1, 2]}
    # Conv_1 stands on chips 0 and 1 and reads two tensors from 0; MatMul on 1 and 2.
    assert [la.off_chip_bits for la in events] == [2 * 16 * 64 * 8, 256 * 8, 0]
    one_chip = count_events(residual.module, residual.weights, residual.target)
    assert sum(la.off_chip_bits for la in one_chip) == 0


GATED = """g (float[N,64,6,6] x) => (float[N,64,6,6] z)
<float[16,64,1,1] a, float[16] b, float[64,16,1,1] c, float[64] d, float[64,64,1,1] w> {
  p = GlobalAveragePool(x)
  f = Conv(p, a, b)
  r = Relu(f)
  e = Conv(r, c, d)
  s = Sigmoid(e)
  y = Mul(x, s)
  z = Conv(y, w)
}"""
ONE_CROSSBAR_A_CHIP = ["core.crossbars=1", "node.cores=1", "chip.nodes=1", "array.cell_bits=7"]


@pytest.mark.parametrize("placed", ["", ",place"])
def test_a_guest_stands_on_its_hosts_chip(placed):
    """The block fills a chip; the layer behind it stands on another."""
    program = xbarc.compile(
        text_model(GATED),
        target="mca128",
        overrides=ONE_CROSSBAR_A_CHIP,
        passes=f"squeeze-excitation,im2col,share-crossbars{placed}",
    )
    first, second, last = program.report["layers"]
    assert (first["crossbars"], second["crossbars"], last["crossbars"]) == (1, 0, 1)
    assert program.report["totals"]["chips"] == 2
    # From the guest, at whose chip the input is scaled, to the layer behind.
    assert (first["off_chip_bits"], last["off_chip_bits"]) == (0, 0)
    assert second["off_chip_bits"] == 64 * 36 * 8


def test_off_chip_bits_go_by_the_written_places(residual):
    """Places that `place` wrote, here each layer on a chip of its own from the last one on."""
    small = load_target("mca128", ["core.crossbars=8", "node.cores=1", "chip.nodes=1"])
    one_chip = count_events(residual.module, residual.weights, small)
    assert [la.crossbars for la in one_chip] == [1, 2, 2]
    assert sum(la.off_chip_bits for la in one_chip) == 0
    module = residual.module.clone()
    module.attributes[MESH] = MeshAttr.of(Mesh(3, 1, 1, 8, 1))
    mvms = [op for op in module.walk() if isinstance(op, MvmOp)]
    for chip, (op, layer) in enumerate(zip(reversed(mvms), reversed(one_chip), strict=True)):
        set_ranges(op, [(chip, 0, 0, layer.crossbars)])
    apart = count_events(module, residual.weights, small)
    assert [la.off_chip_bits for la in apart] == [2 * 16 * 64 * 8, 256 * 8, 0]


# --- Digital operations ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("y = Relu(x)", {"activation": 128}),
        ("y = Clip(x)", {"activation": 128}),
        ("y = Add(x, x)", {"elementwise": 128}),
        ("a, b = Split<axis=1, num_outputs=2>(x) y = Mul(a, b)", {"elementwise": 64}),
        ("y = MaxPool<kernel_shape=[2,2], strides=[2,2]>(x)", {"pooling": 128}),
        ("y = GlobalAveragePool(x)", {"pooling": 128}),
        ("y = Flatten(x)", {}),
        ("y = Softmax<axis=1>(x)", {"other": 4 * 128}),
        ("t = Transpose<perm=[0,1,3,2]>(x) y = MatMul(x, t)", {"products": 128 * 4}),
        ("a = Sigmoid(x) y = Mul(a, x)", {"activation": 128, "elementwise": 128}),
    ],
)
def test_digital_operations(body, expected):
    rank = "N" if "Flatten" in body else "N,8,4,4"
    text = f"g (float[N,8,4,4] x) => (float[{rank}] y) {{ {body} }}"
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 18]>{text}')
    counted = count_operations(model.SerializeToString(), [(1, 8, 4, 4)])
    assert {name: count for name, count in counted.items() if count} == expected


def test_a_custom_operator_counts_its_values():
    node = onnx.helper.make_node("Mystery", ["x"], ["y"], domain="mine")
    tensor = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [node], "g", [tensor("x", 1, ["N", 6])], [tensor("y", 1, ["N", 3])]
    )
    opsets = [onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid("mine", 1)]
    content = onnx.helper.make_model(graph, opset_imports=opsets).SerializeToString()
    assert count_operations(content, [(1, 6)], [(1, 3)])["other"] == 3
    assert count_operations(content, [(1, 6)])["other"] == 6


def test_digital_operations_belong_to_layers(residual):
    first, second, last = residual.report["layers"]
    none = {"products": 0, "other": 0}
    assert first["digital"] == {"activation": 1024, "pooling": 0, "elementwise": 1024, **none}
    # Scale and bias, and the Add; the ReLU; 2 x 2 windows.
    assert second["digital"] == {
        "activation": 1024,
        "pooling": 1024,
        "elementwise": 2048,
        **none,
    }
    assert last["digital"]["elementwise"] == 10
    # ISAAC has no vector unit: its shift-and-add units scale and add.
    done = actions_of(residual)
    assert (done["activation"], done["pooling"]) == (2048, 1024)
    assert done["shift_add"] == residual.report["totals"]["shift_adds"] + 1024 + 2048 + 10


def actions_of(program):
    """How often each component acts for one image."""
    events = count_events(program.module, program.weights, program.target, program.digital)
    done = [actions(layer, program.target, components(program.target)) for layer in events]
    return {name: sum(counts[name] for counts in done) for name in done[0]}


# --- Energy, leakage, totals ----------------------------------------------------------------------


def conserved(document):
    """Layer sums are totals, in every count and every component's energy."""
    layers, totals = document["layers"], document["totals"]
    for name in COUNTS:
        assert totals[name] == sum(row[name] for row in layers), name
    for name, count in totals["digital"].items():
        assert count == sum(row["digital"][name] for row in layers)
    energy = totals["energy_uj"]
    for name in energy.keys() - {"total"}:
        assert energy[name] == pytest.approx(1e-6 * sum(row["energy_pj"][name] for row in layers))
    assert energy["total"] == pytest.approx(sum(v for k, v in energy.items() if k != "total"))
    area = totals["area_mm2"]
    assert area["total"] == pytest.approx(sum(v for k, v in area.items() if k != "total"))


@pytest.mark.parametrize(
    "target", ["isaac", "puma", "neurram", "mca64", "mca128", "mca256", "mca512"]
)
def test_conservation(target):
    conserved(xbarc.compile(text_model(RESIDUAL), target=target).report)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(4, 9), st.integers(1, 3), st.integers(1, 40), st.integers(1, 90)),
        min_size=1,
        max_size=3,
    ),
    st.sampled_from([["adc.subtract=analog"], ["array.slices_in=arrays"], []]),
)
def test_energy_follows_the_events(layers, overrides):
    """Each component's energy is its actions times the energy of one, and no layer is free."""
    target = load_target("mca64", overrides)
    parts = components(target)
    for layer in conv_layers(target, layers):
        energy, counts = energy_pj(layer, target, parts), actions(layer, target, parts)
        for name, pj in energy.items():
            assert pj == counts.get(name, 0) * parts[name].unit.energy_pj
        assert sum(energy.values()) > 0
        assert layer.shift_adds >= layer.adc_conversions
        assert layer.macs == layer.vectors * math.prod(layer.matrix)


def test_zero_layers_cost_zero():
    module = parse_module("builtin.module { func.func @main() { func.return } }")
    empty = Program(module, {}, {}, load_target("puma"))
    totals = report(empty)["totals"]
    assert report(empty)["layers"] == []
    assert totals["area_mm2"]["total"] == totals["energy_uj"]["total"] == 0
    figures = ("crossbars", "cores", "nodes", "chips", "chip_area_mm2", "power_w", "latency_us")
    assert {name: totals[name] for name in figures} == dict.fromkeys(figures, 0)


def test_leakage_is_power_times_time():
    totals = xbarc.compile(text_model(RESIDUAL), target="puma").report["totals"]
    # One core of 512 arrays, some of them in use; PUMA's simulator (docs/cost.md). Control 8 mW
    # and memory 2 mW, of 4 MB 28.6; 512 ADCs 0.2 mW; DACs and the rest of MVMUs a tenth; 12 vector
    # units; the router.
    crossbars = totals["crossbars"]
    rest = 19.09 - 8 * 0.3 - 128 * 0.0039 - 8 * 2.0
    leaks = 8 + 2 + 257.72 / 9 + 512 * 0.2 + 64 * 0.1 * rest + 12 * 0.192 + 43.13 * 0.41 / 16.54
    leaks += 0.000390625 * 16 * crossbars
    assert totals["leakage_mw"] == pytest.approx(leaks)
    for mode, time in (("single", "latency_us"), ("stream", "interval_us")):
        leaked = leaks * 1e-3 * totals[time]
        assert totals["modes"][mode]["energy_uj"]["leakage"] == pytest.approx(leaked)


def test_chips_are_whole_and_apart(residual):
    target = ["core.crossbars=1", "node.cores=1", "chip.nodes=2"]
    totals = xbarc.compile(text_model(RESIDUAL), target="mca128", overrides=target).report["totals"]
    assert (totals["crossbars"], totals["chips"]) == (5, 3)
    assert totals["chip_area_mm2"] > totals["area_mm2"]["total"]
    assert residual.report["totals"]["chip_area_mm2"] == pytest.approx(85.43, abs=0.005)


def test_an_impossible_target_says_what_is_missing():
    target = ["core.crossbars=1", "node.cores=1", "chip.nodes=2", "chip.chips=1"]
    with pytest.raises(XbarcError, match=r"has 2 crossbars .* needs 5: 3 are missing"):
        xbarc.compile(text_model(RESIDUAL), target="mca128", overrides=target)


def test_a_model_that_cannot_say_is_found_before_compiling():
    with pytest.raises(XbarcError, match="ISAAC's table has 4 to 10 bits"):
        xbarc.compile("absent.onnx", target="isaac", overrides=["adc.mode=saturate", "adc.bits=12"])


def test_the_report_names_the_sources(residual):
    parts = residual.report["components"]
    assert parts["adc"]["source"].startswith("ISAAC")
    assert residual.report["totals"]["energy_uj"].keys() - {"leakage", "total"} == parts.keys()
