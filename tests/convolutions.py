"""Convolutions as tile IR, without a model around them, and what is counted of them."""

from dataclasses import dataclass
from math import prod

import numpy as np

from xbarc.api import Program
from xbarc.cost.events import count_events
from xbarc.ir import parse_module
from xbarc.ir.dialect import CrossbarAttr
from xbarc.pipeline import XbarContext, load_registry, parse_passes, run_module_passes
from xbarc.simulator.interpreter import Simulator


@dataclass(frozen=True)
class Conv:
    """A convolution over an image of `size`; strides and dilations default to 1, pads to 0."""

    size: tuple[int, ...]
    kernel: tuple[int, ...]
    channels: int
    filters: int
    groups: int = 1
    strides: tuple[int, ...] = ()
    pads: tuple[int, ...] = ()
    dilations: tuple[int, ...] = ()
    fill: int = 0

    @property
    def rank(self):
        return len(self.size)

    @property
    def matrix(self):
        """The stored weights' shape: rows of a group, all columns."""
        return self.channels // self.groups * prod(self.kernel), self.filters

    def geometry(self):
        """Strides, pads and dilations, one an axis."""
        ones = (1,) * self.rank
        return self.strides or ones, self.pads or (0,) * 2 * self.rank, self.dilations or ones

    def output(self):
        strides, pads, dilations = self.geometry()
        return tuple(
            (self.size[i] + pads[i] + pads[i + self.rank] - dilations[i] * (self.kernel[i] - 1) - 1)
            // strides[i]
            + 1
            for i in range(self.rank)
        )


def same(size, kernel, channels, filters, **more):
    """A square layer whose output is as large as its input, at stride 1."""
    pads = (kernel // 2,) * 4
    return Conv((size,) * 2, (kernel,) * 2, channels, filters, pads=pads, **more)


def valid(size, kernel, channels, filters, **more):
    """A square layer without padding."""
    return Conv((size,) * 2, (kernel,) * 2, channels, filters, **more)


def module_of(target, layers, *, codes="ui8", batch=None):
    """A module of layers side by side, weights `@c0`, `@c1`, ...; any batch without one."""
    weights, arguments, results, body = [], [], [], []
    for i, layer in enumerate(layers):
        rows, columns = layer.matrix
        groups = f" groups {layer.groups}" if layer.groups > 1 else ""
        weights.append(f"  xbar.weights @c{i} : {rows}x{columns}xi{target.weights.bits}{groups}")
        strides, pads, dilations = map(list, layer.geometry())
        taken = "x".join(map(str, (batch or "?", layer.channels, *layer.size))) + f"x{codes}"
        given = "x".join(map(str, (batch or "?", layer.filters, *layer.output()))) + "xsi32"
        fill = f" fill {layer.fill}" if layer.fill else ""
        arguments.append(f'%x{i}: tensor<{taken}> {{xbar.name = "x{i}"}}')
        results.append((f"tensor<{given}>", f'{{xbar.name = "y{i}"}}'))
        body.append(
            f"    %y{i} = xbar.conv %x{i}, @c{i} window {list(layer.kernel)} strides {strides} "
            f"pads {pads} dilations {dilations}{fill} : tensor<{taken}> -> tensor<{given}>"
        )
    returned = ", ".join(f"%y{i}" for i in range(len(layers)))
    kinds = ", ".join(kind for kind, _ in results)
    declared = ", ".join(" ".join(result) for result in results)
    module = parse_module(
        "\n".join(
            [
                "builtin.module {",
                *weights,
                f"  func.func @main({', '.join(arguments)}) -> ({declared}) {{",
                *body,
                f"    func.return {returned} : {kinds}",
                "  }",
                "}",
            ]
        )
    )
    module.attributes["xbar.crossbar"] = CrossbarAttr.of(target.array)
    return module


def mapped(target, layers, passes, **options):
    """The module after `passes`, verified."""
    module = module_of(target, layers, **options)
    found = parse_passes(passes, load_registry()).mapping
    run_module_passes(found, XbarContext(target), module)
    module.verify()
    return module


def simulated(module, target, q, x, **options):
    """The result [N, filters, ...] of a module of one layer for codes x [N, channels, ...]."""
    return Simulator(Program(module, {"c0": q}, {}, target), **options).run({"x0": x})["y0"]


def counted(target, layers, passes):
    """The events of each layer after `passes`, of weights that are zero."""
    weights = {f"c{i}": np.zeros(layer.matrix, np.int8) for i, layer in enumerate(layers)}
    return count_events(mapped(target, layers, passes), weights, target)
