"""Images a second of xbarc beside CrossSim (Sandia) on ResNet-20, and whether both agree.

    python benchmarks/crosssim.py [--seconds 10] [--images 500] [--modes 1,3,6]

Needs XBARC_DATA (models/resnet20_cifar10.onnx and data/cifar10.npz). CrossSim 3.x is found by
`import simulator`, or in the folder that CROSSSIM names; it takes torch. Without it, xbarc's side
runs alone. `crosssim.md` has the table of a run, and what is the same on both sides and what isn't.

CrossSim runs by its own torch layers (`from_torch`), with the weights as xbarc has quantised them
and the same ranges of inputs and converters. Both run on one core: with more BLAS threads CrossSim
is slower, since its products are small. Each side starts with one image and doubles its batch for
`--seconds`; its figure is the fastest batch. Programming is timed by itself. At least one image
runs, which takes CrossSim more than two minutes in mode 8.
"""

import argparse
import importlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import threadpoolctl
from simulate import network, sgemm_gflops

import xbarc
from xbarc.artifact import CompiledProgram
from xbarc.ir.dialect import MvmOp, weights_of
from xbarc.simulator.exact.engine import ExactEngine
from xbarc.simulator.interpreter import Simulator
from xbarc.simulator.noise import engine_for

LARGEST_BATCH = 32
"""More gains neither side anything, and CrossSim's read noise takes memory for each vector."""

ROWS = 128

SLICED = ["array.cell_bits=2", "inputs.dac_bits=1", "adc.bits=8"]
WHOLE = [
    "array.cell_bits=7",
    "array.polarity_in=arrays",  # G+ and G- on crossbars of their own, as CrossSim has them
    "inputs.dac_bits=8",
    "adc.bits=8",
    "adc.mode=calibrated",
    "adc.subtract=analog",
]
CELLS = ["device.g_on_us=10.1", "device.g_off_us=0.1"]
"""With the target's 1.4 kohm CrossSim's solver hardly converges."""


@dataclass(frozen=True)
class Mode:
    """A row of the table: target keys, and what is wrong with devices.

    `programming` and `read`: standard deviations in parts of a cell's conductance; `wire`: ohm.
    """

    name: str
    keys: list[str]
    programming: float = 0.0
    read: float = 0.0
    wire: float = 0.0

    @property
    def noise(self) -> str:
        """The effects as xbarc's text."""
        parts = {
            f"programming{{sigma={self.programming}}}": self.programming,
            f"read{{sigma={self.read}}}": self.read,
            f"wire{{row={self.wire} col={self.wire}}}": self.wire,
        }
        return ",".join(text for text, strength in parts.items() if strength)

    @property
    def sliced(self) -> bool:
        return self.keys[: len(SLICED)] == SLICED

    @property
    def full_scale(self) -> bool:
        return "adc.mode=full-scale" in self.keys


FULL_SCALE = [*SLICED, "adc.mode=full-scale"]
MODES = (
    Mode("4 slices, bit-serial, saturating ADC", SLICED),
    Mode("4 slices, bit-serial, full-scale ADC", FULL_SCALE),
    Mode("whole weights and inputs, calibrated ADC", WHOLE),
    Mode("3, programming error 5 %", WHOLE, programming=0.05),
    Mode("3, read noise 2 %", WHOLE, read=0.02),
    Mode("3, cells of 100 kohm, wires of 1 ohm", WHOLE + CELLS, wire=1.0),
    Mode("2, programming error 5 %", FULL_SCALE, programming=0.05),
    Mode("2, programming error 5 %, read noise 2 %", FULL_SCALE, programming=0.05, read=0.02),
)


@dataclass(frozen=True)
class Layer:
    """What CrossSim is told of a layer: weights q [K, N] as integers, and ranges.

    Inputs are codes times `scale`, up to `top`; `adc_range` is that of a calibrated converter, in
    level steps.
    """

    q: np.ndarray
    column_scale: np.ndarray
    bias: np.ndarray
    scale: float
    top: int
    signed: bool
    adc_range: tuple[float, float] | None


def layers_of(program: CompiledProgram) -> dict[str, Layer]:
    """Every layer by the name of its ONNX node."""
    found = {}
    for op in program.module.walk():
        if isinstance(op, MvmOp):
            name = weights_of(op).symbol
            gather: Any = op.input.owner
            quantize: Any = gather.input.owner
            signed = op.input.type.element.signedness.data.name == "SIGNED"
            found[name] = Layer(
                program.weights[name],
                program.weights[f"{name}.scale"],
                program.weights[f"{name}.bias"],
                quantize.scale.value.data,
                127 if signed else 255,
                signed,
                op.adc_range,
            )
    return found


# --- CrossSim's side ------------------------------------------------------------------------------


def crosssim() -> Any:
    """CrossSim's package; None where it isn't there."""
    if folder := os.environ.get("CROSSSIM"):
        sys.path.insert(0, folder)
    try:
        found = importlib.import_module("simulator")
        importlib.import_module("simulator.algorithms.dnn.torch.convert")
    except ImportError as error:
        print(f"CrossSim isn't there ({error}): xbarc alone. CROSSSIM names its folder.")
        return None
    return found


def parameters(package: Any, mode: Mode, layer: Layer, device: Any) -> Any:
    """CrossSim's parameters of one layer; `device` is xbarc's, for the wires' scale."""
    core = importlib.import_module("simulator.parameters.core_parameters")
    xbar = importlib.import_module("simulator.parameters.xbar_parameters")
    p = package.CrossSimParameters()
    p.core.style = core.CoreStyle.BITSLICED if mode.sliced else core.CoreStyle.BALANCED
    p.core.bit_sliced.style = core.BitSlicedCoreStyle.BALANCED
    p.core.bit_sliced.num_slices = 4
    p.core.balanced.style = core.BalancedCoreStyle.ONE_SIDED
    p.core.balanced.subtract_current_in_xbar = not mode.sliced
    p.core.rows_max = ROWS
    p.core.weight_bits = 8
    weights, inputs = p.core.mapping.weights, p.core.mapping.inputs.mvm
    weights.col_partition_strategy = core.PartitionStrategy.MAX
    weights.percentile, weights.min, weights.max = None, -127.0, 127.0
    largest = layer.scale * layer.top
    inputs.min, inputs.max = (-largest if layer.signed else 0.0), largest
    p.xbar.device.infinite_on_off_ratio = True
    p.xbar.device.cell_bits = 0  # the weights are integers already
    p.xbar.device.Rmin = 1e6 / (device.g_on_us - device.g_off_us)
    for part, sigma in (("programming_error", mode.programming), ("read_noise", mode.read)):
        error = getattr(p.xbar.device, part)
        error.enable, error.magnitude = sigma > 0, sigma
        error.model = "NormalProportionalDevice" if sigma else "IdealDevice"
    wires = p.xbar.array.parasitics
    wires.enable, wires.Rp_row, wires.Rp_col = mode.wire > 0, mode.wire, mode.wire
    dac = p.xbar.dac.mvm
    dac.model = "SignMagnitudeDAC" if layer.signed else "QuantizerDAC"
    dac.bits, dac.signed, dac.input_bitslicing = 8, layer.signed, mode.sliced
    # CrossSim reads signed inputs at once, so the converters of sliced ones have a sign.
    p.xbar.adc.mvm.model = "SignMagnitudeADC" if layer.signed and mode.sliced else "QuantizerADC"
    adc = p.xbar.adc.mvm  # another object since its model was set
    adc.bits, adc.adc_per_ibit = 8, mode.sliced
    adc.adc_range_option = xbar.ADCRangeLimits.CALIBRATED
    if mode.sliced:
        # In units of the largest conductance, which is 3 level steps; the sign takes a bit.
        top = min(len(layer.q), ROWS) if mode.full_scale else (127 if layer.signed else 255) / 3
        adc.calibrated_range = [[-top if layer.signed else 0.0, top]] * 4
        return p
    assert layer.adc_range is not None
    low, high = layer.adc_range
    if layer.signed:
        # xbarc converts in two passes: here the range is twice as large, in as many steps.
        low, high, adc.bits = low - high, high - low, 9
    unit = layer.top * 127
    adc.calibrated_range = [low / unit, high / unit]
    return p


def torch_network(model: onnx.ModelProto, layers: dict[str, Layer]) -> Any:
    """The graph as a torch module: layers of integers, scaled and biased behind them."""
    import torch
    from torch import nn

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleDict()
            for node in model.graph.node:
                if node.name in layers:
                    self.layers[node.name] = made(node, layers[node.name])

        def forward(self, x: Any) -> Any:
            values = {model.graph.input[0].name: x}
            for node in model.graph.node:
                values[node.output[0]] = self.step(node, [values.get(n) for n in node.input])
            return values[model.graph.output[0].name]

        def step(self, node: onnx.NodeProto, given: list[Any]) -> Any:
            x = given[0]
            match node.op_type:
                case "Conv" | "Gemm":
                    layer = layers[node.name]
                    shape = (1, -1) + (1,) * (x.ndim - 2)
                    scale = torch.from_numpy(layer.column_scale.astype(np.float32)).reshape(shape)
                    bias = torch.from_numpy(layer.bias).reshape(shape)
                    return self.layers[node.name](x.contiguous()).float() * scale + bias
                case "Relu":
                    return torch.relu(x)
                case "Add":
                    return x + given[1]
                case "ReduceMean":
                    return x.mean(dim=(2, 3))
                case "Reshape":
                    return x.reshape(len(x), -1)
            raise NotImplementedError(node.op_type)

    def made(node: onnx.NodeProto, layer: Layer) -> Any:
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        weight = torch.from_numpy(layer.q.T.astype(np.float32).copy())
        if node.op_type == "Gemm":
            linear = nn.Linear(*layer.q.shape, bias=False)
            linear.weight = nn.Parameter(weight, requires_grad=False)
            return linear
        k, n = layer.q.shape
        size = attributes["kernel_shape"]
        conv = nn.Conv2d(
            k // int(np.prod(size)),
            n,
            size,
            stride=attributes["strides"],
            padding=attributes["pads"][:2],
            bias=False,
        )
        conv.weight = nn.Parameter(weight.reshape(conv.weight.shape), requires_grad=False)
        return conv

    return Network().eval()


def crosssim_side(
    package: Any, mode: Mode, program: CompiledProgram, model: onnx.ModelProto
) -> Callable[[np.ndarray], np.ndarray]:
    """CrossSim's network, programmed: from images to logits."""
    import torch

    convert = importlib.import_module("simulator.algorithms.dnn.torch.convert")
    torch.set_num_threads(1)
    layers = layers_of(program)
    plain = torch_network(model, layers)
    np.random.seed(0)  # noqa: NPY002  where CrossSim draws from
    each = [parameters(package, mode, layers[name], program.target.device) for name in plain.layers]
    # A layer on several cores takes parameters for each.
    lists = [
        p if len(layers[name].q) <= ROWS else [p.copy() for _ in range(blocks(layers[name]))]
        for p, name in zip(each, plain.layers, strict=True)
    ]
    analog = convert.from_torch(plain, lists)

    def run(images: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return analog(torch.from_numpy(images)).numpy()

    return run


def blocks(layer: Layer) -> int:
    return -(-len(layer.q) // ROWS)


# --- xbarc's side ---------------------------------------------------------------------------------


def xbarc_side(mode: Mode, program: CompiledProgram) -> Callable[[np.ndarray], np.ndarray]:
    """xbarc's network, programmed: from images to logits."""
    simulator = Simulator(program, engine=engine_for(program, mode.noise))
    (only,) = simulator.inputs
    (output,) = simulator.outputs

    def run(images: np.ndarray) -> np.ndarray:
        return simulator.run({only.name: images}, threads=1)[output]

    return run


# --- Both -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Measured:
    """Seconds to program, images/s of the fastest batch, classes of the images that were run."""

    programming: float
    rate: float
    classes: np.ndarray

    def accuracy(self, labels: np.ndarray) -> str:
        right = float((self.classes == labels[: len(self.classes)]).mean())
        return f"{right:.1%} ({len(self.classes)})"


def measured(
    side: Callable[[], Callable[[np.ndarray], np.ndarray]], images: np.ndarray, seconds: float
) -> Measured:
    """Program, warm up with an image, and run batches that double until the time is over."""
    start = time.perf_counter()
    run = side()
    programming = time.perf_counter() - start
    start = time.perf_counter()
    logits = [run(images[:1])]
    first = time.perf_counter() - start
    if first > seconds:  # no time for a second one: compiling is in it
        return Measured(programming, 1 / first, logits[0].argmax(axis=1))
    done, batch, rate = 1, 1, 0.0
    start = time.perf_counter()
    while done < len(images) and time.perf_counter() - start < seconds:
        some = images[done : done + batch]
        begun = time.perf_counter()
        logits.append(run(some))
        rate = max(rate, len(some) / (time.perf_counter() - begun))
        done, batch = done + len(some), min(2 * batch, LARGEST_BATCH)
    return Measured(programming, rate, np.concatenate(logits).argmax(axis=1))


def differences(package: Any, mode: Mode, program: CompiledProgram) -> Iterator[str]:
    """How far both sides' results for the same codes are apart, in units of code times weight.

    Of a layer of one row block with unsigned inputs, since larger ones may be cut differently; and
    of the largest layer where converters lose nothing.
    """
    layers = {weights_of(op).symbol: op for op in program.module.walk() if isinstance(op, MvmOp)}
    about = layers_of(program)
    one = max(
        (n for n, la in about.items() if len(la.q) <= ROWS and not la.signed),
        key=lambda n: about[n].q.size,
    )
    large = max(about, key=lambda n: about[n].q.size)
    lossless = program.target.adc.model_copy(update={"mode": "lossless"})
    ideal = program.target.model_copy(update={"adc": lossless})
    for name, target in ((one, program.target), (large, ideal)):
        layer, op = about[name], layers[name]
        x = np.random.default_rng(0).integers(0, layer.top + 1, (len(layer.q), 64))
        engine = engine_for(program, mode.noise) or ExactEngine()
        matrix = engine.program(op, program.weights, target, seed=0)
        ours = np.zeros((layer.q.shape[1], x.shape[1]))
        matrix.multiply(x.astype(np.uint8), ours)
        p = parameters(package, mode, layer, program.target.device)
        p.simulation.Verr_th_mvm = 1e-6  # its solver iterates; 1e-3 by default, which is timed
        if target is ideal:
            p.xbar.adc.mvm.model = "IdealADC"
            p.xbar.adc.mvm.bits = 0
        core = package.AnalogCore(layer.q.T.astype(np.float32), p)
        theirs = core.matmat(x * layer.scale) / layer.scale
        apart = np.abs(ours - theirs)
        yield (
            f"{layer.q.shape[0]} x {layer.q.shape[1]} weights, {target.adc.mode} ADC: largest "
            f"difference {apart.max():.2g}, more than 0.5 in {(apart > 0.5).mean():.2%} of the "
            f"results, which reach {np.abs(ours).max():.0f}"
        )
        if mode.full_scale and target is not ideal:
            beyond = apart > at_ties(layer.q, x) + 0.5
            yield f"beyond what sums half way between two codes explain: {beyond.mean():.2%}"


def at_ties(q: np.ndarray, x: np.ndarray) -> np.ndarray:
    """How far results move if sums half way between two full-scale codes round the other way.

    xbarc rounds them to even; float32 puts them on either side. q [K, N], x [K, v]: [N, v].
    """
    full, codes = 3 * len(q), 255
    moved = np.zeros((q.shape[1], x.shape[1]))
    for magnitude in (np.maximum(q.astype(int), 0), np.maximum(-q.astype(int), 0)):
        for shift in range(0, 8, 2):
            for bit in range(8):
                sums = (magnitude >> shift & 3).T @ (x >> bit & 1)
                moved += ((2 * codes * sums) % (2 * full) == full) * 2.0 ** (shift + bit)
    return moved * full / codes


def compared(
    package: Any, mode: Mode, model: Path, data: tuple[np.ndarray, ...], seconds: float
) -> Iterator[str]:
    """The lines of one mode; `data`: images to calibrate with, to run, and their classes."""
    calibration, images, labels = data
    program = xbarc.compile(model, "mca128", calibration=calibration, overrides=mode.keys)
    gflops = sgemm_gflops()
    ours = measured(lambda: xbarc_side(mode, program), images, seconds)
    row = f"{mode.name:<43}{gflops:>8.0f}{ours.rate:>9.3g}"
    if package is None:
        yield f"{row}   {ours.programming:.1f}   {ours.accuracy(labels)}"
        return
    graph = onnx.load(model)
    theirs = measured(lambda: crosssim_side(package, mode, program, graph), images, seconds)
    yield (
        f"{row}{theirs.rate:>10.3g}{ours.rate / theirs.rate:>8.3g}   "
        f"{ours.programming:.1f} | {theirs.programming:.1f}   "
        f"{ours.accuracy(labels)} | {theirs.accuracy(labels)}"
    )
    shared = min(len(ours.classes), len(theirs.classes))
    same = float((ours.classes[:shared] == theirs.classes[:shared]).mean())
    yield f"    the same class for {same:.1%} of {shared} images"
    if not (mode.programming or mode.read):
        for line in differences(package, mode, program):
            yield f"    {line}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="a mode and side")
    parser.add_argument("--images", type=int, default=500, help="at most")
    parser.add_argument("--modes", help="their numbers, with commas between them")
    arguments = parser.parse_args()
    if "XBARC_DATA" not in os.environ:
        print("XBARC_DATA isn't set: ResNet-20 and CIFAR-10 aren't there")
        return
    os.environ["XBARC_CACHE"] = ""  # programming is timed: wires are solved anew
    path, calibration, images = network()
    images = images[: arguments.images]
    with np.load(Path(os.environ["XBARC_DATA"]) / "data" / "cifar10.npz") as file:
        labels = file["y_test"][: len(images)]
    package = crosssim()
    wanted = [int(n) for n in (arguments.modes or "").split(",") if n]
    print(f"{path.name}, {ROWS} rows, 8-bit weights, inputs and ADCs; one core each")
    print("images/s: fastest batch; seconds to program; accuracy of the images that were run")
    head = f"{'sgemm':>8}{'xbarc':>9}{'CrossSim':>10}{'ratio':>8}"
    print(f"{'':<45}{head}   programming   accuracy")
    with threadpoolctl.threadpool_limits(1):
        for number, mode in enumerate(MODES, 1):
            if not wanted or number in wanted:
                data = calibration, images, labels
                lines = compared(package, mode, path, data, arguments.seconds)
                for line in lines:
                    print(line if line.startswith(" ") else f"{number} {line}", flush=True)


if __name__ == "__main__":
    main()
