"""What happens in a layer for one image, counted from the mapped IR alone.

Every mapping is gather -> mvm -> scatter over tiles. So the counts follow from streams, tiles and
the target, whatever the mapping. Digital operations are counted from the digital files. They belong
to the layer whose results they take; if there are several, to the last one.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, cast

import numpy as np
from xdsl.dialects.builtin import ModuleOp, TensorType
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import BlockArgument, Operation, SSAValue

from xbarc.cost.digital import CLASSES, count_operations
from xbarc.cost.places import places_of
from xbarc.cost.reads import level_reads
from xbarc.graph.operators import load_operators
from xbarc.hw.target import Target
from xbarc.ir.analysis.visits import visits
from xbarc.ir.analysis.zero_point import InputCodes, input_codes, zero_points
from xbarc.ir.dialect import (
    DequantizeOp,
    DigitalOp,
    GatherOp,
    MvmOp,
    StreamType,
    Tiles,
    WeightsOp,
    copies_of,
    shape_of,
    weights_of,
)
from xbarc.support.data import Array


@dataclass
class LayerEvents:
    """Counts of one layer for a batch of one.

    `vectors` input vectors; `activations` tiles met by a vector; `cycles` activations in sequence
    when all tiles and copies work in parallel; `macs` products of the layer's own weights;
    `memristors` are cells programmed, `crossbars` whole arrays occupied, `copies` of the layer
    counted in both; weights that stand on no tile (zeros) count as `weights` only. `input_codes`
    are of this kind, 0 being the code `zero_point`. Then what the components do:

    - `adc_conversions` (as many samples are held), `row_pulses` rows driven, `crossbar_reads`;
    - `cell_reads` cells on driven rows and columns that are converted, `cell_level_reads` the sum
      of the levels that these are programmed to (`xbarc.cost.reads`);
    - `shift_adds` conversions, and partial sums of row blocks merged; `input_bits` to rows from
      input registers, `output_values` accumulated in output registers, `results` finished values;
    - `buffer_read_bits`, `buffer_write_bits` of the node's buffer, `bus_bits` between it and cores;
    - `mesh_bits` over the mesh, `mesh_bit_hops` the same times the hops; `off_chip_bits`;
    - `partial_sum_bits` between a layer's nodes, of row blocks that stand on several; `io_bits` of
      the program's inputs and results; `spill_bits` of inputs that buffers can't hold, both ways;
    - `offset_adds`: inputs added up and taken out of results, for offset encoding;
    - `digital` operations by class; `write_pulses` to program the cells once.
    """

    name: str
    op: str
    mapping: str
    matrix: tuple[int, int]
    input_codes: InputCodes
    zero_point: int
    weights: int
    nonzero_weights: int
    copies: int = 1
    tiles: int = 0
    crossbars: int = 0
    memristors: int = 0
    vectors: int = 0
    activations: int = 0
    cycles: int = 0
    macs: int = 0
    adc_conversions: int = 0
    row_pulses: int = 0
    crossbar_reads: int = 0
    cell_reads: int = 0
    cell_level_reads: int = 0
    shift_adds: int = 0
    input_bits: int = 0
    output_values: int = 0
    results: int = 0
    buffer_read_bits: int = 0
    buffer_write_bits: int = 0
    bus_bits: int = 0
    mesh_bits: int = 0
    mesh_bit_hops: float = 0.0
    off_chip_bits: int = 0
    partial_sum_bits: int = 0
    io_bits: int = 0
    spill_bits: int = 0
    offset_adds: int = 0
    write_pulses: int = 0
    digital: dict[str, int] = field(default_factory=lambda: dict.fromkeys(CLASSES, 0))


COUNTS = [
    f.name
    for f in fields(LayerEvents)
    if f.name
    not in ("name", "op", "mapping", "matrix", "input_codes", "zero_point", "copies", "digital")
]
"""The counts that add up over layers."""


@dataclass(frozen=True)
class Edge:
    """A tensor on its way: `bits` from layer `source` (None: the input) to `dest` (None: out)."""

    source: str | None
    dest: str | None
    bits: int

    @property
    def layer(self) -> str | None:
        """The layer that it counts for: where it leaves, or where the input enters."""
        return self.source if self.source is not None else self.dest


Hops = Callable[[Edge], float]
"""Routers that a bit of an edge passes."""


def one_hop(edge: Edge) -> float:
    """Without a placement: what leaves a layer passes one router."""
    return 1.0


def count_events(
    module: ModuleOp,
    weights: Mapping[str, Array],
    target: Target,
    digital: Mapping[str, bytes] | None = None,
    hops: Hops = one_hop,
) -> list[LayerEvents]:
    """The events of each layer, in program order.

    Several `xbar.mvm` with the same weights are one layer. Their counts add up, except `vectors`
    (they share them) and `cycles` (the slowest counts). `digital` are the program's digital files
    by path; without them no digital operation is counted. A program without a layer has no events,
    because it doesn't run on crossbars at all.
    """
    layers: dict[str, LayerEvents] = {}
    zeros = zero_points(module)
    for op in module.walk():
        if isinstance(op, MvmOp):
            stored = weights_of(op)
            if stored.symbol not in layers:
                zero = zeros.get(stored.symbol, 0)
                kind = input_codes(op, zero, target)
                layers[stored.symbol] = _layer(op, stored, weights[stored.symbol], kind, zero)
            _add(layers[stored.symbol], op, stored, target, weights)
    if layers:
        _add_digital(layers, module, digital or {})
        _add_traffic(layers, module, target, hops)
        _add_spills(layers, module, target)
    return list(layers.values())


def _layer(
    op: MvmOp, stored: WeightsOp, q: Array, codes: InputCodes, zero_point: int
) -> LayerEvents:
    return LayerEvents(
        name=stored.symbol,
        op=stored.onnx_op.data,
        mapping=op.by.data,
        matrix=stored.matrix,
        input_codes=codes,
        zero_point=zero_point,
        weights=q.size,
        nonzero_weights=int(np.count_nonzero(q)),
    )


def _add(
    layer: LayerEvents,
    op: MvmOp,
    stored: WeightsOp,
    target: Target,
    arrays: Mapping[str, Array],
) -> None:
    stream: Any = cast(StreamType, op.input.type)
    vectors, width = stream.vectors.data, stream.element.width.data
    signed = stream.element.signedness.data.name == "SIGNED"
    slices_in = target.input_slices(width, signed)
    array, bits = target.array, stored.weight_bits
    slices, polarities = array.slices(bits), array.polarities
    seen = visits(op, arrays, target)
    use = seen.use
    copies = copies_of(op)
    crossbars = array.crossbars_per_tile(bits)
    partial_sums = int(use.columns.sum())
    conversions = slices_in * use.conversions
    driven = slices_in * int(use.rows.sum()) * crossbars  # inputs: each drives a row or a pair
    activations = int(use.activations.sum())
    layer.copies = max(layer.copies, copies)
    layer.tiles += len(seen.tiles)
    if op.beside is None:  # else they are counted where it stands
        layer.crossbars += len(seen.tiles) * crossbars * copies
    layer.memristors += seen.programmed * slices * polarities
    layer.vectors = max(layer.vectors, vectors)
    layer.activations += activations
    layer.cycles = max(layer.cycles, math.ceil(vectors / copies) * slices_in)
    layer.macs += use.macs
    layer.adc_conversions += conversions
    layer.row_pulses += driven * array.rows_per_weight
    layer.crossbar_reads += slices_in * activations * crossbars
    layer.cell_reads += slices_in * use.cells
    layer.cell_level_reads += slices_in * level_reads(seen, arrays[stored.symbol], bits, array)
    layer.shift_adds += conversions + max(0, partial_sums - seen.results)
    layer.input_bits += driven * target.inputs.dac_bits
    layer.output_values += conversions
    layer.results += seen.results
    layer.buffer_read_bits += seen.entries * width
    layer.bus_bits += seen.entries * width + partial_sums * (width + bits)
    moved = _between_nodes(seen.tiles, use.columns, crossbars, target)
    layer.partial_sum_bits += moved * (width + bits)
    if array.encoding == "offset":
        layer.offset_adds += seen.entries + seen.results
    layer.write_pulses = layer.memristors * target.device.write_pulses


def _between_nodes(tiles: Tiles, columns: Array, crossbars: int, target: Target) -> int:
    """Partial sums of a layer that go from node to node for one input.

    Tiles fill nodes one after the other. Row blocks of the same columns on several nodes are added
    up from one to the next (model).
    """
    capacity = target.core.crossbars * target.node.cores
    nodes = np.arange(len(tiles)) * crossbars // capacity
    if not len(tiles) or nodes[-1] == 0:
        return 0
    pairs, group = np.unique(np.stack([tiles[:, 2], nodes]), axis=1, return_inverse=True)
    here = np.zeros(pairs.shape[1], np.int64)
    np.maximum.at(here, group.ravel(), columns)
    _, of = np.unique(pairs[0], return_inverse=True)
    most = np.zeros(of.max() + 1, np.int64)
    np.maximum.at(most, of, here)
    return int(here.sum() - most.sum())


# --- Digital operations ---------------------------------------------------------------------------


def digital_counts(module: ModuleOp, files: Mapping[str, bytes]) -> dict[str, dict[str, int]]:
    """The digital operations of one image by file and class (`xbarc.cost.digital`)."""
    operators = load_operators()
    return {
        op.file.data: count_operations(
            files[op.file.data],
            [_one_item(v) for v in op.inputs],
            [_one_item(v) for v in op.outputs],
            operators,
        )
        for op in module.walk()
        if isinstance(op, DigitalOp) and op.file.data in files
    }


def _add_digital(
    layers: Mapping[str, LayerEvents], module: ModuleOp, files: Mapping[str, bytes]
) -> None:
    owners, counted = _owners(module), digital_counts(module, files)
    first = next(iter(layers))
    for op in module.walk():
        counts: Mapping[str, int] = {}
        if isinstance(op, DigitalOp):
            counts = counted.get(op.file.data, {})
        elif isinstance(op, DequantizeOp):
            # Scale and bias: one multiply-add a result.
            counts = {"elementwise": math.prod(_one_item(op.result) or ())}
        digital = layers[owners[op] or first].digital
        for name, count in counts.items():
            digital[name] += count


def _one_item(value: SSAValue) -> tuple[int, ...] | None:
    """The shape of a tensor for a batch of one; None where a value has none."""
    if not isinstance(value.type, TensorType):
        return None
    return tuple(1 if s < 0 else s for s in shape_of(value))


def _owners(module: ModuleOp) -> dict[Operation, str | None]:
    """The layer that each operation works for: of those that it reads, the last in the program."""
    order: dict[str | None, int] = {None: -1}
    owners: dict[Operation, str | None] = {}
    for op in module.walk():
        if isinstance(op, MvmOp):
            owners[op] = weights_of(op).symbol
            order.setdefault(owners[op], len(order))
        else:
            read = [_owner(v, owners) for v in op.operands]
            owners[op] = max(read, key=order.__getitem__, default=None)
    return owners


def _owner(value: SSAValue, owners: Mapping[Operation, str | None]) -> str | None:
    return None if isinstance(value, BlockArgument) else owners[cast(Operation, value.owner)]


# --- Traffic --------------------------------------------------------------------------------------


def traffic(module: ModuleOp, target: Target) -> list[Edge]:
    """The tensors between layers, and in and out of the program, for a batch of one, in its order.

    A tensor goes once to each layer that gathers from it, as codes of the width that is gathered.
    It also goes to a layer whose digital operation reads it, as codes of `inputs.bits`.
    """
    owners = _owners(module)
    return [e for op in module.walk() for e in _edges(op, owners, target) if e.bits]


def _edges(op: Operation, owners: Mapping[Operation, str | None], target: Target) -> Iterator[Edge]:
    if isinstance(op, GatherOp):
        readers = {
            weights_of(use.operation).symbol
            for use in op.result.uses
            if isinstance(use.operation, MvmOp)
        }
        element: Any = op.result.type.element
        bits = _size(op.input) * element.width.data
        for reader in sorted(readers):
            yield Edge(_owner(op.input, owners), reader, bits)
    elif isinstance(op, DigitalOp) and owners[op] is not None:
        for value in op.inputs:
            source = _owner(value, owners)
            if source != owners[op]:
                yield Edge(source, owners[op], _size(value) * target.inputs.bits)
    elif isinstance(op, ReturnOp) and isinstance(op.parent_op(), FuncOp):
        for value in op.operands:
            yield Edge(_owner(value, owners), None, _size(value) * target.inputs.bits)


def _size(value: SSAValue) -> int:
    return math.prod(_one_item(value) or (0,))


def _add_traffic(
    layers: Mapping[str, LayerEvents], module: ModuleOp, target: Target, hops: Hops
) -> None:
    """Bits over the mesh count for the layer that they leave; they land in the other's buffer.

    They leave from the last of a layer's chips, and go to each other chip of the reader (model).
    """
    chips = places_of([op for op in module.walk() if isinstance(op, MvmOp)], target).chips()
    for edge in traffic(module, target):
        if edge.layer is None:
            continue
        layer = layers[edge.layer]
        layer.mesh_bits += edge.bits
        layer.mesh_bit_hops += edge.bits * hops(edge)
        if edge.source is None or edge.dest is None:
            layer.io_bits += edge.bits
        if edge.dest is None:
            continue
        layers[edge.dest].buffer_write_bits += edge.bits
        there = chips[edge.dest]
        here = chips[edge.source][-1] if edge.source is not None else there[0]
        layer.off_chip_bits += edge.bits * sum(chip != here for chip in there)


def _add_spills(layers: Mapping[str, LayerEvents], module: ModuleOp, target: Target) -> None:
    """What the buffers of a layer's nodes can't hold of the rows that its windows need (model).

    Those rows are the working set of a pipeline. Of a layer whose rows don't fit, the share that
    doesn't is written out and read back with every input.
    """
    for op in module.walk():
        gather = op.input.owner if isinstance(op, MvmOp) else None
        if not isinstance(op, MvmOp) or not isinstance(gather, GatherOp):
            continue
        layer = layers[weights_of(op).symbol]
        element: Any = gather.result.type.element
        needed = _window_values(gather) * element.width.data
        held = _buffer_bits(layer.crossbars, target)
        if held and needed > held:
            spilled = layer.buffer_write_bits * (needed - held) // needed
            layer.spill_bits = max(layer.spill_bits, 2 * spilled)


def _window_values(gather: GatherOp) -> int:
    """Values of the rows from a window's first to its last; of one without; of a vector, all."""
    shape = _one_item(gather.input) or (0,)
    if len(shape) < 3:
        return math.prod(shape)
    rows = 1
    if gather.window is not None:
        kernel, _, _, dilations = gather.window.lists()
        rows = (kernel[0] - 1) * dilations[0] + 1
    return math.prod(shape) // shape[2] * min(rows, shape[2])


def _buffer_bits(crossbars: int, target: Target) -> int:
    """Bits of the buffers of the nodes, or the cores, that a layer stands in; 0 without any."""
    core, node = target.core, target.node
    cores = max(math.ceil(crossbars / core.crossbars), 1)
    if node.buffers:
        return int(math.ceil(cores / node.cores) * node.buffers * node.buffer_kb * 8192)
    return int(cores * core.buffers * core.buffer_kb * 8192)
