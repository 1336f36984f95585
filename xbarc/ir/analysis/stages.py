"""A program as a pipeline: stages (layers and digital operations) and what flows between them.

This follows from the tile IR alone. A stage is an `xbar.mvm` or an `xbar.digital`. Quantisation,
gathers and scatters belong to the stage before or behind them. A stage passes its results on row by
row (`xbarc.graph.analysis.rows`). A window needs the rows under it. If the IR doesn't say what an
operation needs, it needs everything.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from xdsl.dialects.builtin import ModuleOp, TensorType
from xdsl.dialects.func import ReturnOp
from xdsl.ir import Operation, SSAValue

from xbarc.ir.dialect import (
    DequantizeOp,
    DigitalOp,
    GatherOp,
    LayerOp,
    MvmOp,
    QuantizeOp,
    ScatterOp,
    shape_of,
    weights_of,
)
from xbarc.ir.interface import main_function
from xbarc.support.errors import XbarcError
from xbarc.support.rows import Needs, all_rows, compose, row_count, same_rows, window_rows

INPUT = -1
"""The stage of the model's inputs."""

DigitalNeeds = Mapping[str, list[dict[int, Needs]]]
"""`row_needs` of the digital files, by path; a file that isn't there waits for all of its input."""


@dataclass(frozen=True)
class Flow:
    """What a stage reads from another.

    `stage` is the index of the producer, or `INPUT`; `rows` the rows that it hands on, `needs` how
    many of them each row of the reader needs; `elements` the values that travel for one image.
    """

    stage: int
    rows: int
    needs: Needs
    elements: int


@dataclass(frozen=True)
class Stage:
    """An `xbar.mvm` or `xbar.digital`, and what it reads. `rows` is what it hands on one by one."""

    op: MvmOp | DigitalOp
    name: str
    rows: int
    flows: tuple[Flow, ...]

    @property
    def is_layer(self) -> bool:
        """Whether it stands on crossbars."""
        return isinstance(self.op, MvmOp)


@dataclass(frozen=True)
class _Value:
    """An SSA value: its rows, and what they need of the stages behind it."""

    rows: int
    sources: tuple[Flow, ...]

    def through(self, local: Needs) -> "_Value":
        """A value whose rows need `local` of this one's."""
        sources = (Flow(f.stage, f.rows, compose(local, f.needs), f.elements) for f in self.sources)
        return _Value(len(local), tuple(sources))

    def whole(self, rows: int) -> "_Value":
        """A value of which each row needs all of this one."""
        return self.through(all_rows(rows, self.rows))


def mapped_layers(module: ModuleOp) -> list[MvmOp]:
    """The `xbar.mvm` of a module in which all layers are mapped.

    Raises `XbarcError` where one isn't: it names the first.
    """
    mvms = []
    for op in module.walk():
        if isinstance(op, LayerOp):
            raise XbarcError(
                f"layers aren't mapped yet, the first is {weights_of(op).symbol}: put a mapping "
                "pass before it, such as im2col"
            )
        if isinstance(op, MvmOp):
            mvms.append(op)
    return mvms


def stages_of(module: ModuleOp, needs: DigitalNeeds | None = None) -> list[Stage]:
    """The stages of a program in program order; each reads from earlier ones only.

    Raises `XbarcError` where the module has no function @main, or a layer isn't mapped.
    """
    mapped_layers(module)
    block = main_function(module).body.block
    values: dict[SSAValue, _Value] = {v: _outer(v, INPUT) for v in block.args}
    stages: list[Stage] = []
    for op in block.ops:
        if isinstance(op, ReturnOp):
            continue
        if isinstance(op, MvmOp):
            reads = values[op.input]
            stages.append(Stage(op, weights_of(op).symbol, reads.rows, reads.sources))
            values[op.result] = _outer_rows(op.result, reads.rows, len(stages) - 1)
        elif isinstance(op, DigitalOp):
            stages.append(_digital(op, values, (needs or {}).get(op.file.data)))
            for value in op.outputs:
                out = _outer(value, len(stages) - 1)
                # A result on another scale of rows is there when the last row is.
                whole = out.rows != stages[-1].rows
                values[value] = _whole(out, stages[-1].rows) if whole else out
        else:
            read = [values[v] for v in op.operands if v in values]
            for value in op.results:
                values[value] = _carried(op, value, read)
    return stages


def homes(stages: Sequence[Stage]) -> dict[int, int]:
    """For each layer the layer on whose crossbars it stands, both by the index of their stage."""
    index = {s.op: i for i, s in enumerate(stages)}
    return {i: index[s.op.host or s.op] for i, s in enumerate(stages) if isinstance(s.op, MvmOp)}


def _whole(value: _Value, rows: int) -> _Value:
    flow = value.sources[0]
    return _Value(value.rows, (Flow(flow.stage, rows, all_rows(value.rows, rows), flow.elements),))


def _outer(value: SSAValue, stage: int) -> _Value:
    """A value that `stage` gives, row by row."""
    return _outer_rows(value, _rows(value), stage)


def _outer_rows(value: SSAValue, rows: int, stage: int) -> _Value:
    return _Value(rows, (Flow(stage, rows, same_rows(rows), elements(value)),))


def elements(value: SSAValue) -> int:
    """Values of a tensor for a batch of one (0 for what isn't a tensor)."""
    if not isinstance(value.type, TensorType):
        return 0
    return math.prod(max(s, 1) for s in shape_of(value))


def _rows(value: SSAValue) -> int:
    if not isinstance(value.type, TensorType):
        return 1
    return row_count(tuple(s if s > 0 else None for s in shape_of(value)))


def _digital(op: DigitalOp, values: Mapping[SSAValue, _Value], needs: object) -> Stage:
    outputs = [_rows(v) for v in op.outputs]
    rows = max(outputs, default=1)
    by_output = cast("list[dict[int, Needs]] | None", needs)
    if by_output is not None and len(by_output) != len(outputs):
        by_output = None
    flows: list[Flow] = []
    for index, operand in enumerate(op.inputs):
        value = values[operand]
        local = all_rows(rows, value.rows)
        if by_output is not None:
            local = _operand_needs(index, value.rows, rows, outputs, by_output)
        size = elements(operand)
        flows += [Flow(f.stage, f.rows, f.needs, size) for f in value.through(local).sources]
    return Stage(op, op.file.data, rows, tuple(flows))


def _operand_needs(
    index: int, of: int, rows: int, outputs: list[int], by_output: list[dict[int, Needs]]
) -> Needs:
    """What the rows of a digital stage need of one operand, over all of its outputs."""
    local = np.zeros(rows, dtype=np.int64)
    for count, needs in zip(outputs, by_output, strict=True):
        if index not in needs:
            continue
        need = needs[index]
        if len(need) == count == rows and need.max(initial=0) <= of:
            local = np.maximum(local, need)
        else:
            local[-1] = of
    return np.maximum.accumulate(local)


def _carried(op: Operation, value: SSAValue, read: list[_Value]) -> _Value:
    """What an operation that is no stage makes of what it reads."""
    if len(read) == 1:
        known: dict[type[Operation], Callable[..., _Value | None]] = {
            QuantizeOp: _same,
            DequantizeOp: _same,
            GatherOp: _gathered,
            ScatterOp: _scattered,
        }
        carry = known.get(type(op))
        found = carry(op, read[0]) if carry is not None else None
        if found is not None:
            return found
    rows = 1 if not isinstance(value.type, TensorType) else _rows(value)
    sources = [f for v in read for f in v.whole(rows).sources]
    return _Value(rows, tuple(_latest(sources)))


def _latest(flows: list[Flow]) -> list[Flow]:
    """One flow a producer: the larger of their needs and sizes."""
    by_stage: dict[tuple[int, int], Flow] = {}
    for f in flows:
        key = (f.stage, f.rows)
        old = by_stage.get(key, f)
        by_stage[key] = Flow(
            f.stage, f.rows, np.maximum(old.needs, f.needs), max(old.elements, f.elements)
        )
    return list(by_stage.values())


def _same(op: Operation, value: _Value) -> _Value:
    return value


def _gathered(op: GatherOp, value: _Value) -> _Value | None:
    size = elements(op.input)
    moved = _Value(value.rows, tuple(Flow(f.stage, f.rows, f.needs, size) for f in value.sources))
    shape = shape_of(op.input)
    if op.axis is not None and op.axis.value.data == 1:
        return moved  # a vector a pixel, row by row
    if op.window is None or op.flat is not None or shape[2] != value.rows:
        return moved.whole(1)
    kernel, strides, pads, dilations = op.window.lists()
    spatial = op.seen_size()
    local = window_rows(
        op.window.output_size(spatial)[0],
        spatial[0],
        kernel[0],
        strides[0],
        pads[0],
        dilations[0],
    )
    apart = op.spreads()[0]
    return moved.through(-(-local // apart))


def _scattered(op: ScatterOp, value: _Value) -> _Value:
    rows = _rows(op.result)
    if op.axis is not None:
        return value if op.axis.value.data == 1 and rows == value.rows else value.whole(rows)
    if op.window is None or op.flat is not None:
        return value.whole(rows)
    _, strides, pads, _ = op.window.lists()
    # Row y has its last contribution from the last window that begins at or before it.
    last = (np.arange(rows) + pads[0]) // strides[0] + 1
    return value.through(np.clip(last, 0, value.rows))
