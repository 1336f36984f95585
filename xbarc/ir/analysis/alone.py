"""One layer by itself: a module of it, and what tells it from others."""

from typing import Any, cast

import numpy as np
from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Block, Region

from xbarc.hw.target import LayerKeys, Target
from xbarc.ir.dialect import (
    CROSSBAR,
    ConvOp,
    DenseOp,
    LayerOp,
    WeightsOp,
    crossbar_of,
    weights_of,
)
from xbarc.ir.interface import name_attributes
from xbarc.support.data import Array
from xbarc.support.errors import XbarcError

FREE = ("weights", "fill")
"""Properties that cost nothing: whose weights they are, and which code stands in the padding."""


def alone(layer: LayerOp) -> ModuleOp:
    """A module of this layer and nothing else: its codes come in, its sums go out.

    Raises `XbarcError` where the module around the layer doesn't say its crossbar.
    """
    crossbar = crossbar_of(layer)
    if crossbar is None:
        raise XbarcError("the module doesn't say its crossbar: compile it for a target")
    block = Block(arg_types=[layer.input.type])
    copy = cast(ConvOp | DenseOp, layer.clone({layer.input: block.args[0]}))
    block.add_ops([copy, ReturnOp(copy.result)])
    main = FuncOp(
        "main",
        ([layer.input.type], [layer.result.type]),
        Region(block),
        arg_attrs=name_attributes(["x"]),
        res_attrs=name_attributes(["y"]),
    )
    return ModuleOp([weights_of(layer).clone(), main], attributes={CROSSBAR: crossbar})


def kind_of(layer: LayerOp, target: Target) -> tuple[Any, ...]:
    """All of a layer that what a mapping costs depends on, but for its name and its weights.

    That includes what the target's `layers` say of it. The rest of the target is every layer's.
    """
    weights = weights_of(layer)
    own = target.for_layer(weights.symbol)
    properties = sorted((k, v) for k, v in layer.properties.items() if k not in FREE)
    return (
        layer.name,
        layer.input.type,
        layer.result.type,
        *properties,
        weights.stored_shape,
        weights.group_count,
        weights.weight_bits,
        *(getattr(own, part) for part in LayerKeys.model_fields),
    )


def full_weights(weights: WeightsOp) -> Array:
    """Weights of all bits and either sign, so that every bit line holds something."""
    top = (1 << (weights.weight_bits - 1)) - 1
    signs = np.random.default_rng(0).choice([-top, top], weights.stored_shape)
    return signs.astype(np.int16)
