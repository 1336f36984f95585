"""Values whose channels can be scaled: which layers read them, and what makes them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from xbarc.graph.compress.matrices import LayerMatrix, find_matrices, find_matrix, give
from xbarc.graph.edit import add_initializer, insert_before, stand_in
from xbarc.graph.equalize.spread import Real
from xbarc.graph.query import constant, dims, input_at, is_op, only_consumer

COMMUTING = (
    "Relu",
    "LeakyRelu",
    "PRelu",
    "MaxPool",
    "AveragePool",
    "GlobalAveragePool",
    "Identity",
)
"""f(s x) = s f(x), channel by channel, for each s > 0."""


@dataclass(frozen=True)
class Site:
    """A value and the layers that read it, whose weights can take in a scale for each channel.

    `alone`: nothing else reads it, so that the scale can go into what makes the value.
    """

    value: ir.Value
    layers: tuple[LayerMatrix, ...]
    alone: bool

    @property
    def name(self) -> str:
        """The value's."""
        return self.value.name or ""

    @property
    def key(self) -> str:
        """What it is called: the first layer that reads the value."""
        return self.layers[0].name

    @property
    def axes(self) -> set[int]:
        """The axes along which the layers have the channels: one, or nothing can be scaled."""
        rank = len(dims(self.value) or ())
        return {layer.channel_axis(rank) for layer in self.layers}

    def scale(self, factors: Real) -> None:
        """Multiply the weights that meet channel c by `factors[c]`."""
        for layer in self.layers:
            matrix, groups = layer.matrix, layer.groups
            each = len(factors) // groups
            by_row = factors.reshape(groups, each, 1, 1)
            layer.replace(
                (_by_channel(layer, each) * by_row).transpose(1, 2, 0, 3).reshape(matrix.shape)
            )

    def weights(self, channels: int) -> Iterator[Real]:
        """Of each layer [groups, channels of a group, places of the kernel, columns]."""
        for layer in self.layers:
            yield _by_channel(layer, channels // layer.groups)


def _by_channel(layer: LayerMatrix, each: int) -> Real:
    k = layer.matrix.shape[0]
    by_group = layer.matrix.astype(np.float64).reshape(each, k // each, layer.groups, -1)
    return by_group.transpose(2, 0, 1, 3)


def find_sites(graph: ir.Graph) -> Iterator[Site]:
    """The values that layers with static real weights read, channel by channel.

    Where others read the value too, their site is the layers alone.
    """
    by_source: dict[ir.Value, list[LayerMatrix]] = {}
    for layer in find_matrices(graph)[0].values():
        by_source.setdefault(layer.source, []).append(layer)
    for value, layers in by_source.items():
        alone = len(value.uses()) == len(layers) and not value.is_graph_output()
        site = Site(value, tuple(layers), alone)
        if value.producer() is not None and dims(value) and len(site.axes) == 1:
            yield site


# --- Where --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Maker:
    """What makes a value: a layer or a normalisation, and what lies between, all of it commuting.

    Clips from 0 to a constant c are `clips`: they become min(relu(x), s c), channel by channel.
    """

    node: ir.Node
    clips: tuple[ir.Node, ...]


def find_maker(site: Site) -> Maker | None:
    """What takes in the scale of a site's channels where they are made; None where nothing can."""
    if not site.alone:
        return None
    node, clips = site.value.producer(), []
    while node is not None and is_op(node, *COMMUTING, "Clip"):
        if is_op(node, "Clip"):
            if not _is_clip_from_zero(node):
                return None
            clips.append(node)
        value = input_at(node, 0)
        if value is None or only_consumer(value) is not node:
            return None
        node = value.producer()
    if node is None:
        return None
    if is_op(node, "Conv", "Gemm"):
        layer = find_matrix(node)
        takes = isinstance(layer, LayerMatrix) and layer.takes_bias and site.axes == {1}
        return Maker(node, tuple(clips)) if takes else None
    if is_op(node, "LayerNormalization") and node.outputs[0] is site.value:
        return Maker(node, ()) if _is_along_last(site, node) else None
    return None


def _is_along_last(site: Site, norm: ir.Node) -> bool:
    """Whether a normalisation's own scale [C] is that of the channels which the layers read."""
    scale, bias, shape = constant(input_at(norm, 1)), input_at(norm, 2), dims(site.value)
    if scale is None or scale.ndim != 1 or (bias is not None and constant(bias) is None):
        return False
    return shape is not None and site.axes == {len(shape) - 1}


def _is_clip_from_zero(node: ir.Node) -> bool:
    low, high = constant(input_at(node, 1)), constant(input_at(node, 2))
    if low is None or high is None or low.size != 1 or high.size != 1 or not dims(node.outputs[0]):
        return False
    return float(low.reshape(())) == 0


def scale_at(maker: Maker, factors: Real, taken: set[str]) -> None:
    """Multiply the channels that `maker` makes by `factors`."""
    node = maker.node
    if is_op(node, "LayerNormalization"):
        for index in (1, 2):
            array = constant(input_at(node, index))
            if array is not None:
                give(node, index, (array * factors).astype(array.dtype))
        return
    layer = find_matrix(node)
    assert isinstance(layer, LayerMatrix)
    bias = constant(input_at(node, 2))
    layer.replace(layer.matrix * factors)
    if bias is not None:
        give(node, 2, (bias * factors).astype(bias.dtype))
    for clip in maker.clips:
        _clip_by_channel(clip, factors, taken)


def _clip_by_channel(clip: ir.Node, factors: Real, taken: set[str]) -> None:
    graph, output = clip.graph, clip.outputs[0]
    limit = constant(input_at(clip, 2))
    assert isinstance(graph, ir.Graph) and limit is not None
    rank = len(dims(output) or ())
    shape = None if output.shape is None else output.shape.dims
    tops = (limit.reshape(()) * factors).astype(limit.dtype).reshape(-1, *[1] * (rank - 2))
    top = add_initializer(graph, f"{clip.name}.tops", tops, taken)
    name = clip.name or "clip"
    relu = insert_before(
        clip, "Relu", [clip.inputs[0]], f"{name}.relu", taken, like=output, shape=shape
    )
    new = insert_before(clip, "Min", [relu, top], f"{name}.min", taken, like=output, shape=shape)
    stand_in(new, output)
    graph.remove(clip, safe=True)


def multiply(site: Site, factors: Real, taken: set[str]) -> None:
    """Let the site's layers, and none else, read the value times `factors`: one Mul."""
    readers = {layer.node for layer in site.layers}
    first = next(node for node in _graph(site) if node in readers)
    view: Sequence[int] = [
        -1 if {i} == site.axes else 1 for i in range(len(dims(site.value) or ()))
    ]
    dtype = site.layers[0].weights.dtype
    vector = add_initializer(
        _graph(site), f"{site.name}.factors", factors.astype(dtype).reshape(view), taken
    )
    shape = None if site.value.shape is None else site.value.shape.dims
    product = insert_before(
        first,
        "Mul",
        [site.value, vector],
        f"{site.name}.equalized",
        taken,
        like=site.value,
        shape=shape,
    )
    for layer in site.layers:
        layer.node.replace_input_with(1 - layer.side, product)


def _graph(site: Site) -> ir.Graph:
    graph = site.layers[0].node.graph
    assert isinstance(graph, ir.Graph)
    return graph
