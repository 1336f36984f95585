"""Published, measured and simulated chips, and what the model has in their place: rows of figures.

`benchmarks/validate.py` writes them to docs/validation.md, `tests/test_validation.py` holds them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper

import xbarc
from xbarc.cost.components import Parts, adc_gsps, components
from xbarc.cost.events import LayerEvents, count_events
from xbarc.cost.rollup import area_mm2, peak, roll_up
from xbarc.cost.time import Times, program_times
from xbarc.hw.target import Target, load_target
from xbarc.ir.dialect import MvmOp, set_copies, weights_of


@dataclass(frozen=True)
class Row:
    """One figure: as published, as xbarc has it, and how that came about."""

    what: str
    published: float
    found: float
    how: str
    unit: str = ""

    @property
    def error(self) -> float:
        """Relative to the published figure."""
        return self.found / self.published - 1


# --- ISAAC, PUMA


def isaac() -> list[Row]:
    """The component table rolled up, and the peak that follows from it."""
    target = load_target("isaac")
    parts = components(target)
    up, most = roll_up(target, parts), peak(target, parts)
    core, node, chip = up["core"], up["node"], up["chip"]
    rows = [
        Row("IMA", 24.08, core["power_w"] * 1e3, "reproduced", "mW"),
        Row("IMA", 0.0131, core["area_mm2"], "reproduced", "mm2"),
        Row("tile", 330.0, node["power_w"] * 1e3, "reproduced", "mW"),
        Row("tile", 0.372, node["area_mm2"], "reproduced", "mm2"),
        Row("chip", 65.8, chip["power_w"], "reproduced", "W"),
        Row("chip", 85.4, chip["area_mm2"], "reproduced", "mm2"),
    ]
    return [
        *rows,
        Row("peak", 41.3, most["tops"], "reproduced", "TOPS"),
        Row("peak by area", 0.48, most["tops_per_mm2"], "reproduced", "TOPS/mm2"),
        Row("peak by power", 0.63, most["tops_per_w"], "reproduced", "TOPS/W"),
    ]


def puma() -> list[Row]:
    """PIMCOMP's Table I rolled up."""
    target = load_target("puma")
    parts = components(target)
    up, most = roll_up(target, parts), peak(target, parts)
    return [
        Row("core", 1270.56, up["core"]["power_w"] * 1e3, "reproduced", "mW"),
        Row("core", 1.01, up["core"]["area_mm2"], "reproduced", "mm2"),
        Row("chip", 56.79, up["chip"]["power_w"], "reproduced", "W"),
        Row("chip", 62.92, up["chip"]["area_mm2"], "reproduced", "mm2"),
        Row("peak by power, PUMA's abstract", 0.837, most["tops_per_w"], "predicted", "TOPS/W"),
        Row("peak by area, PUMA's abstract", 0.577, most["tops_per_mm2"], "predicted", "TOPS/mm2"),
    ]


# --- NeuRRAM, measured


CORES, OPS = 48, 2 * 128 * 256

MEASURED = {
    (3, 1, 2): (2.122, 43.08),
    (4, 2, 2): (1.793, 40.33),
    (5, 3, 2): (1.165, 23.09),
    (6, 4, 2): (0.744, 15.95),
    (7, 5, 2): (0.525, 11.03),
    (8, 6, 2): (0.418, 8.257),
    (9, 7, 2): (0.344, 7.750),
    (10, 8, 2): (0.264, 6.437),
    (7, 5, 1): (0.452, 11.33),
    (8, 6, 1): (0.261, 9.122),
}
"""(output bits, input bits, phases) -> TOPS of 48 cores, TOPS/W: Wan et al., Nature 2022, Fig. 12,
as CiMLoop's tests have it."""

GROUPS = {
    (3, 1): (8.99, 10.62, 3.45),
    (4, 2): (8.27, 12.39, 3.96),
    (5, 3): (15.46, 20.12, 7.73),
    (6, 4): (21.76, 29.11, 11.51),
    (7, 5): (30.93, 44.21, 14.02),
    (8, 6): (37.22, 52.48, 19.24),
    (9, 7): (43.69, 61.83, 22.83),
    (10, 8): (50.52, 75.86, 27.51),
}
"""(output bits, input bits) -> fJ an operation of word lines, neurons, input pulses; two phases."""

FITTED = ((3, 1, 2), (10, 8, 2))
"""The rows that gave constants (`xbarc/cost/components/neurram.py`)."""

SHARES = {"word lines": ("word_line",), "input pulses": ("dac", "crossbar")}
SHARES["neurons"] = ("sample_hold", "adc", "shift_add")


@dataclass(frozen=True)
class Macro:
    """What one core of NeuRRAM does with a full array, each figure of one vector."""

    tops: float
    fj: dict[str, float]

    @property
    def tops_per_w(self) -> float:
        """Operations a pJ."""
        return 1e3 / sum(self.fj.values())


def macro(output_bits: int, input_bits: int, phases: int) -> Macro:
    """A 128 x 256 matrix on one core, compiled and counted; signed codes have at least 2 bits."""
    bits = max(2, input_bits)
    keys = [f"adc.bits={output_bits}", f"inputs.bits={bits}", f"inputs.dac_bits={bits}"]
    keys += ["adc.mode=full-scale", f"cost.adc.options.phase_bits={3 if phases == 2 else 16}"]
    weights = np.random.default_rng(0).standard_normal((128, 256)).astype(np.float32)
    text = "g (float[N,128] x) => (float[N,256] y) { y = MatMul(x, w) }"
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 18]>{text}')
    model.graph.initializer.append(numpy_helper.from_array(weights, "w"))
    x = np.random.default_rng(1).standard_normal((4, 128)).astype(np.float32)
    program = xbarc.compile(model, "neurram", overrides=keys, calibration=x)
    (layer,) = count_events(program.module, program.weights, program.target)
    parts = components(program.target)
    time_ns = program.target.cycle_ns(parts["adc"].unit.rate_gps) * layer.cycles
    energies = energies_pj(layer, program.target, parts)
    fj = {
        group: 1e3 * sum(energies[name] for name in names) / OPS for group, names in SHARES.items()
    }
    return Macro(CORES * OPS / time_ns * 1e-3, fj)


def energies_pj(layer: LayerEvents, target: Target, parts: Parts) -> dict[str, float]:
    """Energy of what a layer's crossbars do, by component, digital operations apart."""
    return {
        name: part.role.actions(layer, target) * part.unit.energy_pj for name, part in parts.items()
    }


def neurram() -> list[Row]:
    """Throughput, efficiency, energy by groups, area."""
    rows = []
    for key, (tops, per_w) in MEASURED.items():
        output_bits, input_bits, phases = key
        found, how = macro(*key), "fitted" if key in FITTED else "predicted"
        name = f"{output_bits}-bit outputs, {input_bits}-bit inputs, " + (
            "one phase" if phases == 1 else "two phases"
        )
        rows += [
            Row(name, tops, found.tops, how, "TOPS"),
            Row(name, per_w, found.tops_per_w, how, "TOPS/W"),
        ]
        if phases == 2:
            measured = GROUPS[output_bits, input_bits]
            for group, fj in zip(("word lines", "neurons", "input pulses"), measured, strict=True):
                own = "predicted" if group == "word lines" else how
                rows.append(Row(f"{name}: {group}", fj, found.fj[group], own, "fJ/op"))
    target = load_target("neurram")
    area = area_mm2(1, target, components(target))
    core = sum(area.values())
    neurons = sum(area[name] for name in SHARES["neurons"])
    return [
        *rows,
        Row("core", 1.161, core, "taken", "mm2"),
        Row("neurons", 28.0, 100 * neurons / core, "taken", "% of a core"),
        Row("array drivers", 21.0, 100 * area["dac"] / core, "taken", "% of a core"),
        Row("cells", 12.0, 100 * area["crossbar"] / core, "reproduced", "% of a core"),
    ]


# --- VGG-8


Layers = Sequence[tuple[int, ...] | str]

NEUROSIM_VGG8: Layers = (
    (3, 128),
    (128, 128),
    "pool",
    (128, 256),
    (256, 256),
    "pool",
    (256, 512),
    (512, 512),
    "pool",
    "flat",
    (8192, 1024),
    (1024, 10),
)

MNSIM_VGG8: Layers = (
    *NEUROSIM_VGG8[:9],
    (512, 1024, 0),
    "pool",
    "flat",
    (1024, 10),
)


def vgg8(layers: Layers) -> onnx.ModelProto:
    """Convolutions of 3 x 3 (channels, filters, padding of 1), pools, products; random weights."""
    rng = np.random.default_rng(0)
    nodes, weights, value, flat = [], [], "x", False
    for i, layer in enumerate(layers):
        out = f"v{i}"
        if layer == "pool":
            pool = {"kernel_shape": [2, 2], "strides": [2, 2]}
            nodes.append(helper.make_node("MaxPool", [value], [out], f"pool{i}", **pool))
        elif layer == "flat":
            nodes.append(helper.make_node("Flatten", [value], [out], f"flat{i}"))
            flat = True
        else:
            shape = layer if flat else (layer[1], layer[0], 3, 3)
            w = rng.standard_normal(shape, dtype=np.float32) / np.float32(np.sqrt(layer[0]))
            weights.append(numpy_helper.from_array(w, f"w{i}"))
            pads = {} if flat else {"pads": [layer[2] if len(layer) > 2 else 1] * 4}
            kind = "MatMul" if flat else "Conv"
            nodes.append(helper.make_node(kind, [value, f"w{i}"], [f"{out}c"], f"layer{i}", **pads))
            nodes.append(helper.make_node("Relu", [f"{out}c"], [out], f"relu{i}"))
        value = out
    shapes = [("x", ["N", 3, 32, 32]), (value, ["N", 10])]
    x, y = (helper.make_tensor_value_info(name, 1, shape) for name, shape in shapes)
    graph = helper.make_graph(nodes, "vgg8", [x], [y], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


@dataclass(frozen=True)
class Mapped:
    """A network on a target: its events by layer, times, the target and its components."""

    events: list[LayerEvents]
    times: Times
    target: Target
    parts: Parts

    def crossbar_ns(self, layer: int) -> float:
        """How long the crossbars of a layer work for one image."""
        return self.times.by_layer()[self.events[layer].name]["crossbar_ns"]


def counted(layers: Layers, target: str, passes: str = "", copies: Sequence[int] = ()) -> Mapped:
    """The network mapped for a target; `copies` of each layer, in order."""
    image = np.random.default_rng(2).random((2, 3, 32, 32)).astype(np.float32)
    program = xbarc.compile(vgg8(layers), target, passes=passes, calibration=image)
    mvms = {weights_of(op).symbol: op for op in program.module.walk() if isinstance(op, MvmOp)}
    for op, count in zip(mvms.values(), copies, strict=False):
        set_copies(op, count)
    events = count_events(program.module, program.weights, program.target)
    parts = components(program.target)
    return Mapped(events, program_times(program, parts), program.target, parts)


NEUROSIM_COPIES = (16, 4, 4, 2, 2, 1, 1, 8)
"""Speed-up of each layer, as the manual's Fig. 27 prints it."""


def neurosim() -> list[Row]:
    """NeuroSim 1.4's VGG-8, Fig. 27 of its manual."""
    convolutions = ",".join(f"layer{i}" for i, la in enumerate(NEUROSIM_VGG8[:9]) if la != "pool")
    passes = f"kernel-first{{layers={convolutions.removeprefix('layer0,')}}}"
    mapped = counted(NEUROSIM_VGG8, "neurosim22", passes, NEUROSIM_COPIES)
    events, target, parts = mapped.events, mapped.target, mapped.parts
    crossbars = sum(la.crossbars for la in events)
    cells = crossbars * target.array.rows * target.array.cols
    area = area_mm2(crossbars, target, parts)
    energy = {
        name: 1e-6 * sum(energies_pj(la, target, parts)[name] for la in events) for name in parts
    }
    adc_uj = [1e-6 * energies_pj(la, target, parts)["adc"] for la in events]
    used = 100 * sum(la.memristors for la in events) / cells
    total = sum(area.values())
    return [
        Row("arrays of 128 x 128", 4048, crossbars, "counted"),
        Row("memory utilisation", 96.8584, used, "counted", "%"),
        Row("area of the arrays", 1.5408, area["crossbar"], "reproduced", "mm2"),
        Row("energy of the ADCs", 18.274, energy["adc"], "predicted", "uJ"),
        Row("the same, NeuroSim's windows", 18.274, _inside(adc_uj), "predicted", "uJ"),
        Row("area of the ADCs", 14.6062, area["adc"], "taken", "mm2"),
        Row("area of accumulation circuits", 3.13322, area["shift_add"], "taken", "mm2"),
        Row("energy of accumulation circuits", 5.16853, energy["shift_add"], "taken", "uJ"),
        Row("area of other peripheries", 20.0943, area["dac"], "taken", "mm2"),
        Row("energy of other peripheries", 4.953, energy["dac"], "taken", "uJ"),
        Row("area of interconnect", 6.17954, area["bus"], "taken", "mm2"),
        Row("energy of interconnect", 8.94262, energy["bus"], "taken", "uJ"),
        Row("chip", 45.554, total, "taken", "mm2"),
        *_neurosim_times(mapped),
    ]


def _inside(figures: Sequence[float]) -> float:
    """The sum of figures by layer, for the windows that NeuroSim has.

    Those of a convolution that don't hang over the edge: of an image of h pixels h - 2 an axis.
    """
    shares = [((h - 2) / h) ** 2 for h in (32, 32, 16, 16, 8, 8)] + [1.0, 1.0]
    return sum(figure * share for figure, share in zip(figures, shares, strict=True))


def _neurosim_times(mapped: Mapped) -> list[Row]:
    """Conversions of all layers, one layer after the other; and the whole image."""
    ns = [mapped.crossbar_ns(i) for i in range(len(mapped.events))]
    return [
        Row("time of conversions, layer 1", 7.38506, ns[0] * 1e-3, "counted", "us"),
        Row("time of conversions, all layers", 63.4623, sum(ns) * 1e-3, "counted", "us"),
        Row("the same, NeuroSim's windows", 63.4623, _inside(ns) * 1e-3, "counted", "us"),
        Row("time of one image", 1456.13, mapped.times.latency_ns * 1e-3, "counted", "us"),
    ]


def mnsim() -> list[Row]:
    """MNSIM's VGG-8, the case study of its manual."""
    target = load_target("mnsim")
    parts = components(target)
    area = area_mm2(target.crossbars_per_chip, target, parts)
    adcs = target.adcs_per_core() * target.node.cores * target.chip.nodes
    power_w = adcs * parts["adc"].unit.full_power_mw * 1e-3
    mapped = counted(MNSIM_VGG8, "mnsim")
    crossbars = sum(la.crossbars for la in mapped.events)
    tiles = crossbars / (target.core.crossbars * target.node.cores)
    return [
        Row("arrays, 64 tiles", 386.547, area["crossbar"], "reproduced", "mm2"),
        Row("ADCs, 64 tiles", 432.538, area["adc"], "reproduced", "mm2"),
        Row("DACs, 64 tiles", 0.087032, area["dac"], "reproduced", "mm2"),
        Row("digital part, 64 tiles", 50.5954, area["shift_add"], "taken", "mm2"),
        Row("64 tiles", 869.767, sum(area.values()), "reproduced", "mm2"),
        Row("power of the ADCs, 64 tiles", 952.064, power_w, "predicted", "W"),
        Row("tiles that VGG-8 takes", 64, tiles, "counted"),
        *_mnsim_times(mapped),
    ]


def _mnsim_times(mapped: Mapped) -> list[Row]:
    """The last layer, one vector, of which the manual has each part; and the whole image."""
    target, last = mapped.target, mapped.events[-1]
    conversions = last.cycles * target.conversions_per_adc() / adc_gsps(mapped.parts)
    reads = last.cycles * target.read_ns()
    digital = mapped.times.by_layer()[last.name]["digital_ns"]
    return [
        Row("last layer: conversions", 181.818, conversions, "counted", "ns"),
        Row("last layer: reads", 63.2, reads, "counted", "ns"),
        Row("last layer: digital part", 94.0, digital, "counted", "ns"),
        Row("last layer", 527.93, mapped.crossbar_ns(-1) + digital, "counted", "ns"),
        Row("time of one image", 1892.73, mapped.times.latency_ns * 1e-3, "counted", "us"),
    ]
