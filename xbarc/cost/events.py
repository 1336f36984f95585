"""What happens in a layer for one image, counted from the mapped IR alone."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, cast

import numpy as np
from xdsl.dialects.builtin import ModuleOp

from xbarc.data import Array
from xbarc.ir.attributes import StreamType
from xbarc.ir.ops import MvmOp, WeightsOp, weights_of
from xbarc.ir.placement import weights_on_tiles
from xbarc.target import Target


@dataclass
class LayerEvents:
    """Counts of one layer for a batch of one.

    `vectors` input vectors; `activations` tiles met by a vector; `cycles` activations in sequence
    when all tiles work in parallel; `macs` products of the layer's own weights; `row_pulses` rows
    driven; `crossbar_reads` reads of a whole crossbar. `memristors` are cells programmed,
    `crossbars` whole arrays occupied. Weights that stand on no tile (zeros) count as `weights`
    only.
    """

    name: str
    op: str
    mapping: str
    matrix: tuple[int, int]
    weights: int
    nonzero_weights: int
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


COUNTS = [f.name for f in fields(LayerEvents) if f.name not in ("name", "op", "mapping", "matrix")]


def count_events(
    module: ModuleOp, weights: Mapping[str, Array], target: Target
) -> list[LayerEvents]:
    """The events of each layer, in program order.

    A layer whose weights stand on crossbars in several `xbar.mvm` is one layer: counts add up, but
    its vectors are the same ones, and its cycles those of the slowest.
    """
    layers: dict[str, LayerEvents] = {}
    for op in module.walk():
        if not isinstance(op, MvmOp):
            continue
        stored = weights_of(op)
        if stored.symbol not in layers:
            layers[stored.symbol] = _layer(op, stored, weights[stored.symbol])
        _add(layers[stored.symbol], op, stored, target, weights)
    return list(layers.values())


def _layer(op: MvmOp, stored: WeightsOp, q: Array) -> LayerEvents:
    return LayerEvents(
        name=stored.symbol,
        op=stored.onnx_op.data,
        mapping=op.by.data,
        matrix=stored.matrix,
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
    vectors = stream.vectors.data
    signed = stream.element.signedness.data.name == "SIGNED"
    slices_in = target.input_slices(stream.element.width.data, signed)
    array, bits = target.array, stored.weight_bits
    slices, polarities = array.slices(bits), array.polarities
    tiles = op.tiles()
    rows, cols = tiles[:, 1] - tiles[:, 0], tiles[:, 3] - tiles[:, 2]
    crossbars = len(tiles) * array.crossbars_per_tile(bits)
    # Under analog subtraction G+ and G- meet before the ADC: one conversion for both.
    converted = slices * (1 if target.adc.subtract == "analog" else polarities)
    reads = vectors * slices_in
    layer.tiles += len(tiles)
    layer.crossbars += crossbars
    programmed = weights_on_tiles(op, arrays)
    layer.memristors += programmed * slices * polarities
    layer.vectors = max(layer.vectors, vectors)
    layer.activations += vectors * len(tiles)
    layer.cycles = max(layer.cycles, reads)
    layer.macs += vectors * programmed
    layer.adc_conversions += reads * int(cols.sum()) * converted
    layer.row_pulses += reads * int(rows.sum()) * array.crossbars_per_tile(bits)
    layer.crossbar_reads += reads * crossbars
