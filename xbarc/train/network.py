"""A network on a target, ready to be trained: the compiler's own stages, and a module over them.

The graph is the one that `compile` lowers, after the same passes; scales, tiles and converters are
those of the compiled program. What is learned goes back into that graph.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Self

import onnx_ir as ir
import torch
from torch import Tensor, nn

from xbarc.artifact import CompiledProgram
from xbarc.driver.compile import Decided
from xbarc.driver.input_codes import choose
from xbarc.driver.stages import Calibrated, Imported, calibrate_model, lower_model, map_layers
from xbarc.graph.histograms import holding
from xbarc.graph.query import input_at, is_static, only_consumer
from xbarc.graph.ranges import carry_ranges, forget_ranges
from xbarc.hw.quantization import SignedCodes
from xbarc.hw.target import Target
from xbarc.ir.dialect import DequantizeOp, WeightsOp, weights_of
from xbarc.lowering.layer import Layer
from xbarc.lowering.lower import Lowered, codes_of
from xbarc.lowering.plan import plan
from xbarc.simulator.analog.engine import AnalogEngine
from xbarc.simulator.calibrate import calibrate_converters
from xbarc.simulator.effect import Effect
from xbarc.simulator.engine import Engine
from xbarc.simulator.exact.engine import ExactEngine
from xbarc.support.data import Array, Feeds
from xbarc.support.errors import UsageError, XbarcError
from xbarc.train.converted import row_blocks
from xbarc.train.crossbar import Crossbar, Quantiser
from xbarc.train.graph import Graph, write_back
from xbarc.train.hardware import Hardware
from xbarc.train.normalised import Normalised, measure, normalisable


@dataclass
class TrainedLayer:
    """A layer as a method sees it: its parameter in ONNX's layout, and which weights may be.

    `mask` is a tensor like `weight`: 1 where a weight may be, 0 where it stays zero; None: all may.
    `matrix` and `stored` change between ONNX's layout and [K, N], as the weights stand on crossbars
    (K rows of one group).
    """

    name: str
    crossbar: Crossbar
    weight: nn.Parameter
    weight_name: str
    mask: Tensor | None = None

    @classmethod
    def of(cls, name: str, crossbar: Crossbar, weight: nn.Parameter, weight_name: str) -> Self:
        """A layer whose zeros stay zero."""
        zero = weight.detach() == 0
        mask = (~zero).to(weight.dtype) if bool(zero.any()) else None
        return cls(name, crossbar, weight, weight_name, mask)

    @property
    def groups(self) -> int:
        """Blocks of a block-diagonal matrix."""
        return self.crossbar.layer.groups

    def matrix(self, of: Tensor | None = None) -> Tensor:
        """The weights (or `of`, in their layout) as [K, N]."""
        return self.crossbar.as_matrix(self.weight.detach() if of is None else of)

    def stored(self, matrix: Tensor) -> Tensor:
        """A matrix [K, N] in the layout of the weights."""
        return self.crossbar.as_stored(matrix)

    def keep(self, allowed: Tensor | None) -> None:
        """Set the mask, from [K, N]; None: all weights may be."""
        if allowed is None:
            self.mask = None
        else:
            self.mask = self.stored(allowed.to(self.weight.device)).to(self.weight.dtype)

    def apply_mask(self) -> None:
        """Zero the weights that may not be."""
        if self.mask is not None:
            with torch.no_grad():
                self.weight.mul_(self.mask)


@dataclass
class Network:
    """A network to train on a target.

    `module` gives outputs by name, `plain` those of the float network; both have the same
    parameters. `linear`: converters have whole steps, or are lossless. `norms` are what `normalise`
    put into `plain`, by layer.
    """

    calibrated: Calibrated
    target: Target
    decided: Decided
    effects: tuple[Effect, ...]
    engine: Engine
    feeds: Feeds
    module: Graph
    layers: dict[str, TrainedLayer]
    quantisers: dict[str, Quantiser]
    program: CompiledProgram
    kinds: Mapping[str, SignedCodes]
    linear: bool
    plain: Graph
    norms: dict[str, Normalised] = field(default_factory=dict)

    @property
    def model(self) -> ir.Model:
        """The graph that is trained."""
        return self.calibrated.model

    @property
    def weights(self) -> dict[str, nn.Parameter]:
        """The parameters by the initialisers that they are."""
        return self.module.weights

    @property
    def crossbars(self) -> list[Crossbar]:
        """The layers' modules."""
        return [layer.crossbar for layer in self.layers.values()]

    def apply_masks(self) -> None:
        """Zero all weights that may not be."""
        for layer in self.layers.values():
            layer.apply_mask()

    @contextmanager
    def dropout(self, share: float) -> Iterator[None]:
        """Drop a share of the inputs of all layers but the first."""
        self.module.dropout = self.plain.dropout = share
        try:
            yield
        finally:
            self.module.dropout = self.plain.dropout = 0.0

    def number(self, first: int) -> None:
        """Say which number the next batch's first input has."""
        for crossbar in self.crossbars:
            crossbar.first = first

    def program_arrays(self, seed: int, *, exact: bool, redraw: bool = True) -> None:
        """Write the weights to arrays, all that is random in these drawn by `seed`.

        Not `exact`: arrays whose errors are linear but for converters of whole steps that clip
        nothing count as linear, and converters that read whole weights and inputs convert products
        of torch. Both are as good for training and many times as fast. Without
        `redraw` the errors of linear arrays stay as they were drawn before.
        """
        for layer in self.layers.values():
            if redraw or layer.crossbar.errors is None:
                self._program(layer, seed, exact=exact)

    def _program(self, layer: TrainedLayer, seed: int, *, exact: bool) -> None:
        crossbar, hardware = layer.crossbar, layer.crossbar.hardware
        crossbar.arrays = crossbar.errors = crossbar.blocks = None
        crossbar.exact = exact
        if not self.effects and self.target.adc.mode == "lossless":
            return
        if not self.effects and not exact:
            crossbar.blocks = row_blocks(hardware)
            if crossbar.blocks is not None:
                return
        q = crossbar.codes_for_cells(layer.weight)
        if self.effects and not exact and self.linear and not hardware.unrolled:
            arrays = hardware.programmed(q, seed, linear=True)
            crossbar.errors = crossbar.errors_of(arrays, q, layer.weight.device)
            if crossbar.errors is not None:
                return
        if not self.effects:
            ideal = hardware.programmed(q, seed, ExactEngine())
            if ideal.lossless or isinstance(self.engine, ExactEngine):
                crossbar.arrays = None if ideal.lossless else ideal
                return
        crossbar.arrays = hardware.programmed(q, seed)

    def arrays(self) -> dict[str, Array]:
        """The parameters as arrays by initialiser."""
        return self.module.arrays()

    def normalise(self) -> None:
        """Put batch normalisation behind the convolutions of `plain`; it gives what it gave.

        Raises `UsageError` where there is none with weights and a bias of its own.
        """
        planned, modules = self.calibrated.planned.layers, dict[ir.Node, nn.Module]()
        for name, layer in self.layers.items():
            inner = layer.crossbar.layer
            if inner.node in planned and normalisable(inner):
                (bias,) = _biases(inner)[:1]
                norm = Normalised(inner, self.weights[bias]).to(layer.weight.device)
                self.norms[name] = modules[inner.node] = norm
        if not modules:
            raise UsageError(
                "--batch-norm is for convolutions with weights and a bias of their own: the model "
                "has none"
            )
        self.plain = Graph.sharing(self.module, modules)
        self.plain.dropped = self.module.dropped
        measure(
            self.plain, modules, as_tensors(self.feeds, next(iter(self.weights.values())).device)
        )

    def fold_norms(self) -> None:
        """Fold batch normalisation into weights and biases; `plain` is without it then."""
        if not self.norms:
            return
        for name, norm in self.norms.items():
            norm.fold(self.layers[name].weight)
        self.norms = {}
        self.plain = Graph.sharing(self.module)
        self.plain.dropped = self.module.dropped

    def write_weights(self) -> None:
        """Put the parameters into the graph, which says nothing of ranges: they are another's."""
        write_back(self.model, self.arrays())
        forget_ranges(self.model)

    def write_back(self) -> None:
        """Put the parameters, and the ranges of activations, into the graph."""
        write_back(self.model, self.arrays())
        ranges = {quantiser.source: quantiser.range for quantiser in self.quantisers.values()}
        self.calibrated.shown.ranges.update(ranges)
        carry_ranges(self.model, self.calibrated.shown.ranges)

    def remap(self) -> None:
        """Map the layers anew with the weights as they are, converters' ranges with them.

        For targets with calibrated converters, and after a method has changed which weights are.
        """
        self.write_back()
        planned = plan(self.model)
        self.calibrated = replace(self.calibrated, planned=planned)
        lowered = lower_model(self.calibrated, self.target, self.kinds)
        self.program = _mapped(lowered, self.decided, self.target, self.feeds)
        for layer in self.layers.values():
            layer.crossbar.hardware = Hardware(
                self.program, layer.crossbar.hardware.symbol, self.engine
            )


def build(
    imported: Imported,
    decided: Decided,
    *,
    effects: Sequence[Effect] = (),
    percentile: float = 100.0,
    learned: bool = False,
    engine: Engine | None = None,
    device: torch.device | str = "cpu",
) -> Network:
    """The network of an imported model, as `compile` would have it for the target.

    `engine` computes the arrays whose results aren't linear: compiled kernels unless another is
    given.

    Raises:
        UsageError: a pass was called wrongly.
        XbarcError: one line for each node that can't be trained through, or for each layer that
            can't stand on the target's crossbars.
    """
    target, effects = decided.target, tuple(effects)
    calibrated = calibrate_model(
        imported,
        decided.graph,
        target,
        ranges=(lambda _: holding(percentile)) if percentile < 100 else None,
    )
    kinds = choose(calibrated, imported.feeds, target)
    lowered = lower_model(calibrated, target, kinds)
    program = _mapped(lowered, decided, target, imported.feeds)
    quantisers: dict[str, Quantiser] = {}
    made = engine or (AnalogEngine(effects) if effects else ExactEngine())
    axes = {
        weights_of(op).symbol: op.axis.value.data
        for op in lowered.module.walk()
        if isinstance(op, DequantizeOp)
    }
    crossbars: dict[ir.Node, nn.Module] = {}
    trained: list[tuple[Layer, Crossbar, str]] = []
    for layer, weights in _float_layers(calibrated, lowered):
        scale = codes_of(layer, calibrated.shown, target, kinds.get(layer.name))
        source = layer.source.name or ""
        key = source if not scale.signed else f"{source}, signed"  # layers may differ in it
        quantiser = quantisers.setdefault(key, Quantiser(source, scale, learned=learned))
        hardware = Hardware(program, weights.symbol, made)
        crossbar = Crossbar(layer, axes[weights.symbol], quantiser, hardware, weights.weight_bits)
        crossbars[layer.node] = crossbar
        trained.append((layer, crossbar, layer.product.weights.name or ""))
    names = [n for layer, _, name in trained for n in (name, *_biases(layer))]
    module = Graph(calibrated.model, names, crossbars).to(device)
    layers = {
        layer.name: TrainedLayer.of(layer.name, crossbar, module.weights[name], name)
        for layer, crossbar, name in trained
    }
    network = Network(
        calibrated,
        target,
        decided,
        effects,
        made,
        imported.feeds,
        module,
        layers,
        quantisers,
        program,
        kinds,
        linear=target.adc.mode in ("lossless", "saturate"),
        plain=Graph.sharing(module),
    )
    for graph in (network.module, network.plain):
        graph.dropped = {layer.node: layer.product.moving for layer, _, _ in trained[1:]}
    return network


def _mapped(lowered: Lowered, decided: Decided, target: Target, feeds: Feeds) -> CompiledProgram:
    mapped = map_layers(lowered, target, decided.mapping, decided.tile, decided.registry)
    if target.adc.mode == "calibrated":
        calibrate_converters(mapped.program, feeds)
    return mapped.program


def _float_layers(calibrated: Calibrated, lowered: Lowered) -> list[tuple[Layer, WeightsOp]]:
    """The layers, and their weights in the tile IR: both stand in the order of the steps.

    Raises `XbarcError` where there is none, or one that is quantised already.
    """
    planned = calibrated.planned
    firsts = (step.nodes[0] for step in planned.steps)
    layers = [planned.layers[node] for node in firsts if node in planned.layers]
    if not layers:
        raise XbarcError("no layer of the model stands on crossbars: there is nothing to train")
    for layer in layers:
        if layer.codes is not None or not is_static(layer.product.weights):
            what = f"{layer.node.op_type} {layer.name!r}"
            raise XbarcError(f"{what}: the model is quantised already: give the float model")
    symbols = [op for op in lowered.module.walk() if isinstance(op, WeightsOp)]
    return list(zip(layers, symbols, strict=True))


def _biases(layer: Layer) -> list[str]:
    """The initialisers that are a layer's bias: its own, or one a column added to its result."""
    found: list[ir.Value | None] = []
    if layer.kind.bias is not None:
        found.append(input_at(layer.node, layer.kind.bias))
    reader = only_consumer(layer.output)
    if reader is not None and reader.op_type == "Add":
        found += [v for v in reader.inputs if v is not layer.output and _per_column(v, layer)]
    return [v.name or "" for v in found if v is not None and is_static(v) and _real(v)]


def _per_column(value: ir.Value | None, layer: Layer) -> bool:
    if value is None or value.const_value is None or len(tuple(value.uses())) != 1:
        return False
    return value.const_value.size == layer.matrix[1]


def _real(value: ir.Value) -> bool:
    return value.dtype is not None and value.dtype.is_floating_point()


def as_tensors(feeds: Mapping[str, Any], device: torch.device | str) -> dict[str, Tensor]:
    """Arrays by name as tensors on a device; images lie channels last, as convolutions like it."""
    found = {}
    for name, array in feeds.items():
        tensor = torch.as_tensor(array).to(device)
        images = tensor.ndim == 4 and tensor.is_floating_point()
        found[name] = tensor.contiguous(memory_format=torch.channels_last) if images else tensor
    return found
