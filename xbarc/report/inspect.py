"""How a program stands on crossbars: what `xbarc inspect` prints."""

from collections.abc import Container, Mapping, Sequence
from typing import Any, cast

from xbarc.artifact import CompiledProgram
from xbarc.ir.analysis.output_patches import each_patch, output_patches
from xbarc.ir.analysis.zero_point import input_codes, zero_points
from xbarc.ir.dialect import MvmOp, SqueezeExcitationOp, StreamType, copies_of, weights_of
from xbarc.support.errors import XbarcError, nearest


def inspect(
    program: CompiledProgram, layer: str | None = None, *, with_tiles: bool = False
) -> dict[str, Any]:
    """Each layer's matrix, tiling and converters.

    - `input_codes`: the kind (`docs/numerics.md`); `zero_point`: the code that means 0.
    - `standing`: the rows and columns that the tiles count. They are fewer than the matrix's if
      some stand on no crossbar, and more if tiles repeat rows or columns.
    - `blocks`: the squeeze-and-excitation blocks, with their layers and other operators.
    - `collapsed`: the share of a layer's physical columns (weight column x slice x polarity x row
      block) that provably can't reach the converters' limit. They are computed as one exact integer
      product.
    - `partition`: the patches of outputs, each given by one vector
      (`xbarc.ir.analysis.output_patches`). For a named layer, `patches` lists each patch with its
      begins and ends.
    - `choice`: the candidates that `map` chose the layer's mapping from, if `map` did.

    Raises `XbarcError` if `layer` isn't a layer; the nearest name is suggested.
    """
    mvms = [op for op in program.module.walk() if isinstance(op, MvmOp)]
    known = [weights_of(op).symbol for op in mvms]
    if layer is not None and layer not in known:
        raise XbarcError(f"no layer {layer!r}: {nearest(layer, known)}")
    blocks = [op for op in program.module.walk() if isinstance(op, SqueezeExcitationOp)]
    return {
        "target": program.target.name,
        "layers": [
            _describe(program, op, with_tiles=with_tiles, with_patches=layer is not None)
            for op, name in zip(mvms, known, strict=True)
            if layer in (None, name)
        ],
        "blocks": [
            _describe_block(program, op, mvms)
            for op in blocks
            if layer is None or layer in op.layers
        ],
    }


def _describe_block(
    program: CompiledProgram, op: SqueezeExcitationOp, mvms: Sequence[MvmOp]
) -> dict[str, Any]:
    """A squeeze-and-excitation block: what computes each part of it, and where."""
    symbols = {weights_of(mvm).symbol for mvm in mvms}
    mine = [mvm for mvm in mvms if weights_of(mvm).symbol in op.layers]
    tiles = [(len(m.tiles()), weights_of(m).weight_bits, m.beside is None) for m in mine]
    channels, squeezed = op.weights.matrix
    array = program.target.array
    return {
        "kind": "squeeze-excitation",
        "layers": list(op.layers),
        "channels": channels,
        "squeezed": squeezed,
        "pool": {"name": op.text("pool"), "on": _where(op.text("pool"), symbols)},
        "activation": op.text("activation"),
        "gate": op.text("gate"),
        "scale": {"name": op.text("scale"), "on": "digital", "behind": op.text("behind") or None},
        "tiles": sum(count for count, _, _ in tiles),
        "crossbars": sum(n * array.crossbars_per_tile(bits) for n, bits, own in tiles if own),
    }


def _where(name: str, symbols: Container[str]) -> str:
    return "crossbar" if name in symbols else "digital"


def _describe(
    program: CompiledProgram, op: MvmOp, *, with_tiles: bool, with_patches: bool
) -> dict[str, Any]:
    from xbarc.simulator.exact.engine import ExactEngine

    weights, array = weights_of(op), program.target.array
    stream = cast(StreamType, op.input.type)
    bits, tiles = weights.weight_bits, op.tiles()
    zero_point = zero_points(program.module).get(weights.symbol, 0)
    matrix = ExactEngine().program(op, program.weights, program.target)
    described: dict[str, Any] = {
        "name": weights.symbol,
        "op": weights.onnx_op.data,
        "mapping": op.by.data,
        "tiling": str(op.tiling),
        "matrix": list(weights.matrix),
        "standing": list(op.standing),
        "groups": weights.group_count,
        "weight_bits": bits,
        "slices": array.slices(bits),
        "polarities": array.polarities,
        "columns_per_weight": array.columns_per_weight(bits),
        "inputs": str(stream.element),
        "input_codes": input_codes(op, zero_point, program.target),
        "zero_point": zero_point,
        "vectors": stream.vectors.data,
        "tiles": len(tiles),
        "copies": copies_of(op),
        "crossbars": op.crossbars() * copies_of(op),
        "beside": op.beside.root_reference.data if op.beside else None,
        "collapsed": matrix.collapsed,
        "lossless": matrix.lossless,
    }
    if (cut := output_patches(op, program.weights, program.target)) is not None:
        described["partition"] = cut
        if with_patches:
            described["patches"] = [
                {"outputs": outputs, "window": window} for outputs, window in each_patch(cut)
            ]
    if (choice := program.report.get("mapping_choices", {}).get(weights.symbol)) is not None:
        described["choice"] = choice
    if with_tiles:
        described["tile_list"] = tiles.tolist()
    return described


def chosen_by(choice: Mapping[str, Any]) -> str:
    """The figure that a layer's mapping was chosen by, and its operating mode where it has one."""
    by: str = choice["by"]
    if by in ("crossbars", "cycles"):
        return by
    mode = next((c["mode"] for c in choice["candidates"] if "mode" in c), "stream")
    return by + {"stream": ", in a stream", "single": ", of one input alone"}[mode]


def ranked(choice: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """A choice's candidates: the chosen one, the others by the program's figure, the refused."""
    last = float("inf")

    def place(candidate: Mapping[str, Any]) -> tuple[bool, bool, float]:
        out = "refused" in candidate
        return candidate["scheme"] != choice["chosen"], out, candidate.get("program", last)

    return sorted(choice["candidates"], key=place)
