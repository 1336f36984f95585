"""Programs as tile IR text: convolutions one after the other, and single layers of codes."""

from xbarc.api import Program
from xbarc.ir import parse_module
from xbarc.ir.dialect import CrossbarAttr
from xbarc.pipeline import XbarContext, load_registry, parse_passes, run_module_passes

CROSSBAR = (
    "#xbar.crossbar<{n} x {n} cells of 8 bits, offset, slices in columns, polarity in columns>"
)


def conv_chain(layers, crossbar=128, codes="ui8"):
    """A module of unmapped convolutions on crossbars of one column a weight.

    `layers` are `(name, size, kernel, inputs, outputs)`, each on its own square image without
    padding, the next one on a new image that a digital operation makes.
    """
    weights = [f"xbar.weights @{name} : {k * k * ci}x{co}xi8" for name, _, k, ci, co in layers]
    body, given, last = [], "%x", ""
    for i, (name, size, k, ci, co) in enumerate(layers):
        out = size - k + 1
        image = f"tensor<?x{ci}x{size}x{size}x"
        sums = f"tensor<?x{co}x{out}x{out}x"
        if i:
            body.append(
                f'%d{i} = xbar.digital "digital/{i}.onnx" ({given}) : ({last}f32>) -> ({image}f32>)'
            )
            given = f"%d{i}"
        body += [
            f"%q{i} = xbar.quantize {given} scale 0.1 : {image}f32> -> {image}{codes}>",
            f"%c{i} = xbar.conv %q{i}, @{name} window [{k}, {k}] : {image}{codes}> -> {sums}si32>",
            f"%y{i} = xbar.dequantize %c{i}, @{name} scale 0.1 axis 1 : {sums}si32> -> {sums}f32>",
        ]
        given, last = f"%y{i}", sums
    _, size, _, ci, _ = layers[0]
    crossbar_text = CROSSBAR.format(n=crossbar)
    lines = "\n".join(
        [
            *weights,
            f"func.func @main(%x: tensor<?x{ci}x{size}x{size}xf32>"
            f' {{xbar.name = "x"}}) -> ({last}f32> {{xbar.name = "y"}}) {{',
            *body,
            f"func.return {given} : {last}f32>",
            "}",
        ]
    )
    return parse_module(
        f"builtin.module attributes {{xbar.crossbar = {crossbar_text}}} {{\n{lines}\n}}"
    )


def listed(values):
    """`[1, 2]`, as clauses have it."""
    return "[" + ", ".join(map(str, values)) + "]"


def layer_program(op, q, groups, clauses, shape, out, target, passes="kernel-first"):
    """One layer of unsigned codes x to sums y, mapped by `passes`; weights q [Kg, N], 8 bits.

    `op` is `conv`, `conv_transpose` or `dense`, `clauses` its own; `shape` and `out` have no batch.
    """
    before, after = (f"tensor<?x{'x'.join(map(str, s))}x" for s in (shape, out))
    module = parse_module(
        f"""builtin.module attributes {{xbar.crossbar = {CrossbarAttr.of(target.array)}}} {{
  xbar.weights @w : {q.shape[0]}x{q.shape[1]}xi8 groups {groups} for "Conv"
  func.func @main(%0: {before}ui8> {{xbar.name = "x"}}) -> ({after}si32> {{xbar.name = "y"}}) {{
    %1 = xbar.{op} %0, @w {clauses} : {before}ui8> -> {after}si32>
    func.return %1 : {after}si32>
  }}
}}"""
    )
    context = XbarContext(target, {"w": q})
    run_module_passes(parse_passes(passes, load_registry()).mapping, context, module)
    return Program(module, context.weights, {}, target)
