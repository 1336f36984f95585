"""An ngspice netlist of one physical array: what `xbarc spice` writes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from xbarc.artifact import CompiledProgram
from xbarc.hw.wires import MEGA, Floats, Wires
from xbarc.ir.dialect import MvmOp, copies_of, weights_of
from xbarc.simulator.analog.programmed import cell_of, conductances, with_reference
from xbarc.simulator.arrays import Cell, PhysicalArray, Tile, tiles_of
from xbarc.simulator.devices.wire import Wire
from xbarc.simulator.effect import Effect, in_order
from xbarc.support.errors import UsageError, XbarcError, nearest

IDEAL = Wires(row=0.0, col=0.0)

CELL = """\
* A cell between its word line and its bit line, `g` in siemens. Put your device model here.
.subckt cell wl bl g=1u
Gcell wl bl wl bl {g}
.ends cell"""


def netlist(
    program: CompiledProgram,
    layer: str,
    tile: int,
    *,
    replica: int = 0,
    crossbar: int = 0,
    effects: Sequence[Effect] = (),
    seed: int = 0,
    inputs: Mapping[int, float] | None = None,
) -> str:
    """The resistive grid of one crossbar as ngspice reads it, with an operating point.

    A wire segment is a resistor, a cell a subcircuit with its conductance. Word lines are driven at
    the volts of `inputs`, by number, those that it leaves out at 0 V; without it all at 1 V. Bit
    lines are held at 0 V by a source each, whose current is printed in ampere. The `wire` effect
    gives the segments' resistance (without it there is none); the others act on the conductances.
    `crossbar` counts those of the tile. The same call gives the same text.

    Raises `XbarcError` where there is no such layer, tile, replica or crossbar, and `UsageError`
    where there is no such word line.
    """
    others = in_order(e for e in effects if not isinstance(e, Wire))
    found, array = _array(program, layer, tile, replica, crossbar, cell_of(others, program.target))
    rows, lines = array.levels.shape
    volts = dict.fromkeys(range(rows), 1.0) if inputs is None else inputs
    for r in volts:
        if not 0 <= r < rows:
            raise UsageError(f"word line {r}: the array has 0 .. {rows - 1}")
    wires = next((e.wires for e in effects if isinstance(e, Wire)), IDEAL)
    g = conductances(array, others, seed)
    model = program.origin.get("model", {}).get("name", "model")
    head = [
        f"* xbarc: layer {layer}, tile {tile}, replica {replica}, crossbar {crossbar}",
        f"* program: {model} on target {program.target.name}",
        f"* {rows} word lines (w), {lines} bit lines (b); volt, ohm, siemens, ampere",
        f"* segments: {wires.row:g} ohm on word lines, {wires.col:g} ohm on bit lines",
        f"* drive {wires.drive}, source {wires.source:g} ohm",
        f"* sense at {wires.sense_at}, sense {wires.sense:g} ohm",
        f"* effects: {', '.join(map(str, others)) or 'none'}, seed {seed}",
        "* i(vs<l>) is the current out of bit line l",
        CELL,
    ]
    body = (*_drivers(found, array, volts), *grid(g, wires), *_senses(array))
    return "\n".join([*head, *body, *_analysis(lines)]) + "\n"


def grid(g: Floats, wires: Wires) -> Iterator[str]:
    """The lines of the cells g [R, L] in uS and the wires, between nodes d<r> and s<l>.

    Nodes that no resistance lies between are one node.
    """
    nodes = _Nodes(wires, *g.shape)
    rows, lines = g.shape
    for r in range(rows):
        yield from _resistor(f"d{r}_0", f"d{r}", nodes.word(r, 0), wires.row + wires.source)
        for l in range(lines - 1):
            yield from _resistor(f"w{r}_{l}", nodes.word(r, l), nodes.word(r, l + 1), wires.row)
        if wires.drive == "both":
            last = nodes.word(r, lines - 1)
            yield from _resistor(f"d{r}_1", last, f"d{r}", wires.row + wires.source)
    for l in range(lines):
        for r in range(rows - 1):
            yield from _resistor(f"b{r}_{l}", nodes.bit(r, l), nodes.bit(r + 1, l), wires.col)
        end = 0 if wires.sense_at == "top" else rows - 1
        yield from _resistor(f"s{l}", nodes.bit(end, l), f"s{l}", wires.col + wires.sense)
    for r in range(rows):
        for l in range(lines):
            siemens = float(g[r, l]) * MEGA
            yield f"Xc{r}_{l} {nodes.word(r, l)} {nodes.bit(r, l)} cell g={siemens!r}"


@dataclass(frozen=True)
class _Nodes:
    """The names of the nodes on word lines and bit lines."""

    wires: Wires
    rows: int
    lines: int

    def word(self, r: int, l: int) -> str:
        if self.wires.row:
            return f"w{r}_{l}"
        return f"w{r}" if self.wires.source else f"d{r}"

    def bit(self, r: int, l: int) -> str:
        if self.wires.col:
            return f"b{r}_{l}"
        return f"b{l}" if self.wires.sense else f"s{l}"


def _resistor(name: str, a: str, b: str, ohm: float) -> Iterator[str]:
    if ohm:
        yield f"R{name} {a} {b} {float(ohm)!r}"


def _drivers(tile: Tile, array: PhysicalArray, volts: Mapping[int, float]) -> Iterator[str]:
    paired = array.target.array.paired_rows
    for r, (row, sign) in enumerate(zip(tile.rows.tolist(), array.signs.tolist(), strict=True)):
        pair = f", {'G+' if sign > 0 else 'G-, driven with the opposite sign'}" * paired
        yield f"* word line {r}: row {row} of the layer's matrix{pair}"
        yield f"Vd{r} d{r} 0 DC {float(volts.get(r, 0.0))!r}"


def _senses(array: PhysicalArray) -> Iterator[str]:
    of = zip(array.column.tolist(), array.slice.tolist(), array.polarity.tolist(), strict=True)
    for l, (column, of_slice, polarity) in enumerate(of):
        if polarity < 0:
            yield f"* bit line {l}: reference, all cells at level 0"
        else:
            sign = "" if array.target.array.paired_rows else ", G-" if polarity else ", G+"
            yield f"* bit line {l}: column {column} of the tile, slice {of_slice}{sign}"
        yield f"Vs{l} s{l} 0 DC 0"


def _analysis(lines: int) -> list[str]:
    printed = [f"print i(vs{l})" for l in range(lines)]
    return [".control", "set numdgt=15", "op", *printed, "quit 0", ".endc", ".end"]


def _array(
    program: CompiledProgram, layer: str, tile: int, replica: int, crossbar: int, cell: Cell
) -> tuple[Tile, PhysicalArray]:
    """The tile and its crossbar that is asked for. Raises `XbarcError` where there is none."""
    mvms = {weights_of(op).symbol: op for op in program.module.walk() if isinstance(op, MvmOp)}
    op = mvms.get(layer)
    if op is None:
        raise XbarcError(f"no layer {layer!r}: {nearest(layer, mvms)}")
    _check(f"tile of layer {layer!r}", tile, range(len(op.tiles())))
    _check(f"replica of layer {layer!r}", replica, range(copies_of(op)))
    tiles = tiles_of(op, program.weights, program.target, replica, cell)
    found = next((t for t in tiles if t.arrays[0].tile == tile), None)
    if found is None:
        raise XbarcError(f"tile {tile} of layer {layer!r} is gated: all its weights are zero")
    _check(f"crossbar of tile {tile} of layer {layer!r}", crossbar, range(len(found.arrays)))
    array = with_reference(found.arrays[crossbar])
    if not array.levels.size:
        raise XbarcError(
            f"crossbar {crossbar} of tile {tile} of layer {layer!r} has no line in use"
        )
    return found, array


def _check(what: str, number: int, known: range) -> None:
    if number not in known:
        raise XbarcError(f"no {what} has number {number}: there are 0 .. {known[-1]}")
