"""Wire resistance: the grid's transfer matrix against a solution of all its nodes, and ngspice."""

import os
import re
import shutil
import subprocess
import sys
import threading
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_addition_effect import FATIGUE
from test_analog import product, vectors

import xbarc
from xbarc import cli
from xbarc.hw.wires import Wires, transfer, transfers
from xbarc.report.spice import CELL, grid, netlist
from xbarc.simulator.analog.engine import AnalogEngine
from xbarc.simulator.analog.programmed import conductances
from xbarc.simulator.arrays import tiles_of
from xbarc.simulator.devices.wire import Wire
from xbarc.simulator.effect import EFFECTS, Effect, in_order
from xbarc.simulator.interpreter import Simulator
from xbarc.support import cache
from xbarc.support.errors import UsageError, XbarcError


@pytest.fixture(autouse=True)
def cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XBARC_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def cells(rows, lines, seed=0):
    """Conductances from 0.1 to 10 uS."""
    return np.random.default_rng(seed).uniform(0.1, 10, (rows, lines))


def every_node(g, wires):
    """T by the nodal equations of all 2 R L nodes: word line (r, l), then bit line (r, l)."""
    sparse = pytest.importorskip("scipy.sparse")
    from scipy.sparse.linalg import splu

    rows, lines = g.shape
    word = np.arange(rows * lines).reshape(rows, lines)
    bit = word + rows * lines
    edges = [
        (word, bit, g),
        (word[:, :-1], word[:, 1:], np.full((rows, lines - 1), 1e6 / wires.row)),
        (bit[:-1], bit[1:], np.full((rows - 1, lines), 1e6 / wires.col)),
    ]
    a, b, y = (np.concatenate([part[i].ravel() for part in edges]) for i in range(3))
    nodes = 2 * rows * lines
    source, sense = 1e6 / (wires.row + wires.source), 1e6 / (wires.col + wires.sense)
    held, driven = np.zeros(nodes), np.zeros((nodes, rows))
    for l in {0, lines - 1} if wires.drive == "both" else {0}:
        held[word[:, l]] += source
        driven[word[:, l], np.arange(rows)] += source
    if wires.drive == "both" and lines == 1:
        held[word[:, 0]] *= 2
        driven *= 2
    ends = bit[0 if wires.sense_at == "top" else -1]
    held[ends] += sense
    values = np.concatenate([-y, -y, y, y])
    at = (np.concatenate([a, b, a, b]), np.concatenate([b, a, a, b]))
    matrix = sparse.coo_matrix((values, at), (nodes, nodes)) + sparse.diags(held)
    return sense * splu(matrix.tocsc()).solve(driven)[ends]


ohms = st.floats(0.1, 100)


@settings(deadline=None, max_examples=60)
@given(
    size=st.tuples(st.integers(1, 24), st.integers(1, 24)),
    seed=st.integers(0, 1000),
    wires=st.builds(
        Wires,
        row=ohms,
        col=ohms,
        source=st.floats(0, 500),
        sense=st.floats(0, 500),
        drive=st.sampled_from(["left", "both"]),
        sense_at=st.sampled_from(["bottom", "top"]),
    ),
    off=st.floats(0, 1),
)
def test_the_nodal_equations_of_every_node(size, seed, wires, off):
    g = cells(*size, seed)
    g[np.random.default_rng(seed).random(size) < off] = 0
    expected = every_node(g, wires)
    np.testing.assert_allclose(
        transfer(g, wires), expected, rtol=1e-10, atol=1e-10 * expected.max()
    )


def by_fractions(g, wires):
    """T of a small array by elimination of all nodes in exact fractions."""
    rows, lines = g.shape
    nodes = 2 * rows * lines
    equations = [[Fraction(0)] * (nodes + rows) for _ in range(nodes)]

    def word(r, l):
        return r * lines + l

    def bit(r, l):
        return rows * lines + word(r, l)

    def connect(a, b, siemens):
        for i, j in ((a, b), (b, a)):
            equations[i][i] += siemens
            equations[i][j] -= siemens

    along, down = 1 / Fraction(wires.row), 1 / Fraction(wires.col)
    source = 1 / (Fraction(wires.row) + Fraction(wires.source))
    sense = 1 / (Fraction(wires.col) + Fraction(wires.sense))
    for r in range(rows):
        for l in range(lines):
            connect(word(r, l), bit(r, l), Fraction(g[r, l]) / 10**6)
            if l:
                connect(word(r, l - 1), word(r, l), along)
            if r:
                connect(bit(r - 1, l), bit(r, l), down)
        equations[word(r, 0)][word(r, 0)] += source
        equations[word(r, 0)][nodes + r] = source
    for l in range(lines):
        equations[bit(rows - 1, l)][bit(rows - 1, l)] += sense
    for i in range(nodes):
        equations[i] = [value / equations[i][i] for value in equations[i]]
        for j in range(nodes):
            if j != i and (share := equations[j][i]):
                pairs = zip(equations[j], equations[i], strict=True)
                equations[j] = [value - share * other for value, other in pairs]
    ends = [equations[bit(rows - 1, l)][nodes:] for l in range(lines)]
    return np.array([[float(sense * volts * 10**6) for volts in line] for line in ends])


def powers(low, high):
    return st.integers(low, high).map(lambda power: float(f"1e{power}"))


@settings(deadline=None, max_examples=60)
@given(
    size=st.sampled_from([(1, 3), (3, 1), (2, 2), (2, 3), (3, 2)]),
    seed=st.integers(0, 1000),
    wires=st.builds(Wires, **dict.fromkeys(["row", "col", "source", "sense"], powers(-9, 5))),
    scale=powers(-6, 3),
)
def test_any_resistances_in_exact_fractions(size, seed, wires, scale):
    g = scale * cells(*size, seed)
    expected = by_fractions(g, wires)
    found = transfer(g, wires)
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10 * expected.max())


def test_large_conductances_and_long_lines():
    """A quarter of a millisiemens and 20 ohm a segment: more than half of the current is lost."""
    g, wires = 25 * cells(70, 50), Wires(row=20, col=20, source=100)
    expected = every_node(g, wires)
    assert expected.sum() < 0.5 * g.sum()
    np.testing.assert_allclose(transfer(g, wires), expected, rtol=1e-10)
    # Segments that have more resistance than cells.
    for g in (100 * cells(12, 9), 100 * cells(9, 12)):
        wires = Wires(row=5000, col=3000)
        np.testing.assert_allclose(transfer(g, wires), every_node(g, wires), rtol=1e-9)


def test_one_cell_is_three_resistors_in_series():
    # 4 uS is 250 kohm.
    (found,) = transfer([[4.0]], Wires(row=100, col=200, source=3000, sense=50)).ravel()
    assert found == pytest.approx(1e6 / (250e3 + 100 + 200 + 3000 + 50), rel=1e-14)
    # 10 mS is 100 ohm: none of its digits may get lost behind a teraohm.
    (found,) = transfer([[1e4]], Wires(row=0, col=0, source=1e12, sense=1e12)).ravel()
    assert found == pytest.approx(1e6 / (2e12 + 100), rel=1e-14)


def test_two_cells_on_a_word_line():
    """A segment of 1 kohm; then a cell of 500 kohm beside a segment and a cell of 250 kohm."""
    found = transfer([[2.0, 4.0]], Wires(row=1000, col=0))
    near, far = 500e3, 250e3 + 1000
    volts = 1 / (1000 * (1 / near + 1 / far) + 1)
    np.testing.assert_allclose(found[:, 0], [volts / near * 1e6, volts / far * 1e6], rtol=1e-14)


def test_two_cells_on_a_bit_line():
    """One word line is driven; the other one, at 0 V, takes part of the current."""
    found = transfer([[2.0], [4.0]], Wires(row=0, col=1000))
    end = 1e-3  # the bit line's last segment, in siemens
    # Upper cell driven: 500 kohm and a segment into the lower node, which sees a cell and the end.
    upper = 1 / (500e3 + 1000)
    lower = 4e-6
    expected = [
        upper / (upper + lower + end) * end * 1e6,
        lower / (upper + lower + end) * end * 1e6,
    ]
    np.testing.assert_allclose(found[0], expected, rtol=1e-14)


def test_no_resistance_leaves_conductances_as_they_are():
    g = cells(9, 5)
    np.testing.assert_array_equal(transfer(g, Wires(0, 0)), g.T)
    for drive in ("left", "both"):
        np.testing.assert_allclose(
            transfer(g, Wires(1e-9, 1e-9, drive=drive)), g.T, rtol=1e-12, atol=0
        )


@pytest.mark.parametrize("drive", ["left", "both"])
@pytest.mark.parametrize("size", [(9, 5), (5, 9)])
@pytest.mark.parametrize("zero", ["row", "col"])
def test_a_segment_without_resistance_is_the_limit(zero, size, drive):
    """Alone, and with a resistance at the end of the line that stays."""
    g = cells(*size)
    for rest in ({}, {"source": 500.0, "sense": 800.0}):
        ohm = {"row": 2.0, "col": 3.0, **rest}
        limit = transfer(g, Wires(**{**ohm, zero: 0.0}, drive=drive))
        near = transfer(g, Wires(**{**ohm, zero: 1e-10}, drive=drive))
        np.testing.assert_allclose(near, limit, rtol=1e-11)


def test_a_line_without_conductance_gives_nothing():
    g = cells(6, 4)
    g[:, 1] = 0
    g[2] = 0
    found = transfer(g, Wires(5, 5))
    assert not found[1].any() and not found[:, 2].any()
    # A crossbar that is gated as a whole.
    assert transfer(np.zeros((6, 0)), Wires()).shape == (0, 6)
    assert not transfer(np.zeros((3, 4)), Wires()).any()


def test_more_resistance_is_less_current_and_cells_far_away_lose_most():
    g = np.full((20, 20), 5.0)
    before = g.T
    for ohm in (0.1, 1, 5, 20):
        found = transfer(g, Wires(ohm, ohm))
        assert (found < before).all()
        # From the drivers on, and upwards from the converters.
        assert (np.diff(found, axis=0) < 0).all() and (np.diff(found, axis=1) > 0).all()
        before = found


def test_drivers_at_both_ends_lose_less():
    g = cells(16, 24)
    left, both = (transfer(g, Wires(5, 5, drive=drive)) for drive in ("left", "both"))
    assert both.sum() > left.sum()


def test_the_worst_cell_of_128_and_256_lines():
    """0.1 to 10 uS and segments of 1 S: 9 % and 28 % are lost."""
    for size, lost in ((128, 0.09), (256, 0.28)):
        g = cells(size, size)
        assert 1 - (transfer(g, Wires()).T / g).min() == pytest.approx(lost, abs=0.01)


@pytest.mark.parametrize("option", ["row", "col", "source", "sense"])
@pytest.mark.parametrize("ohm", [-1.0, float("nan"), float("inf")])
def test_a_resistance_that_is_none_is_refused(option, ohm):
    with pytest.raises(UsageError, match=f"^{option} = {ohm:g} ohm: give a resistance"):
        Wires(**{option: ohm})
    with pytest.raises(UsageError, match=option):
        Wire(**{option: ohm})


def test_a_side_that_is_none_is_refused():
    with pytest.raises(UsageError, match="drive = 'right'"):
        Wires(drive="right")
    with pytest.raises(UsageError, match="sense_at = 'left'"):
        Wire(sense_at="left")


@pytest.mark.parametrize("wrong", [-0.1, float("nan"), float("inf")])
def test_a_conductance_that_is_none_is_refused(wrong):
    g = cells(3, 4)
    g[1, 2] = wrong
    with pytest.raises(UsageError, match=re.escape(f"g[1, 2] = {wrong:g} uS")):
        transfer(g, Wires())
    with pytest.raises(UsageError, match="give a matrix"):
        transfer(g[0], Wires())


def test_arrays_side_by_side_give_the_same_bits():
    arrays = [cells(20 + i, 60 - i, i) for i in range(12)]
    alone = [transfer(g, Wires(2, 3)) for g in arrays]
    for threads in (1, 2, 5):
        for one, found in zip(alone, transfers(arrays, Wires(2, 3), threads), strict=True):
            np.testing.assert_array_equal(found, one)


# The cache on disk.


THING = np.arange(6.0).reshape(2, 3)


def counted():
    calls = []

    def compute():
        calls.append(1)
        return THING

    return calls, compute


def test_what_was_kept_is_read(cache_folder):
    calls, compute = counted()
    g = cells(2, 3)
    for _ in range(2):
        np.testing.assert_array_equal(cache.kept("things", (1, g), compute), THING)
    assert len(calls) == 1
    for of in ((2, g), (1, g.T), (1, g.reshape(3, 2)), (1, g.astype(np.float32)), (1, g + 1e-15)):
        cache.kept("things", of, compute)
    assert len(calls) == 6
    (path, *_) = cache_folder.glob("things/*/*.npy")
    np.testing.assert_array_equal(np.load(path), THING)


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "pickled"])
def test_a_damaged_file_is_computed_again(cache_folder, damage):
    calls, compute = counted()
    cache.kept("things", (1,), compute)
    (path,) = cache_folder.glob("things/*/*.npy")
    whole = path.read_bytes()
    if damage == "pickled":
        np.save(path, np.array([{}], object), allow_pickle=True)
    else:
        path.write_bytes(
            {"cut": whole[:-3], "flipped": whole[:-30] + b"?" + whole[-29:], "empty": b""}[damage]
        )
    for _ in range(2):
        np.testing.assert_array_equal(cache.kept("things", (1,), compute), THING)
    assert len(calls) == 2
    assert path.read_bytes() == whole


def test_a_folder_that_cant_be_written_to(tmp_path, monkeypatch):
    calls, compute = counted()
    (tmp_path / "file").write_text("")
    for folder in (str(tmp_path / "file" / "cache"), ""):
        monkeypatch.setenv("XBARC_CACHE", folder)
        for _ in range(2):
            cache.kept("things", (1,), compute)
    assert len(calls) == 4


def test_the_folder_of_the_user(tmp_path, monkeypatch):
    monkeypatch.delenv("XBARC_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    for base, folder in (
        (str(tmp_path / "xdg"), tmp_path / "xdg" / "xbarc"),
        ("relative", tmp_path / ".cache" / "xbarc"),
    ):
        monkeypatch.setenv("XDG_CACHE_HOME", base)
        cache.kept("things", (1,), counted()[1])
        assert len(list(folder.glob("things/*/*.npy"))) == 1


def test_the_oldest_go(cache_folder, monkeypatch):
    """A shelf keeps what it has room for; what was read lately isn't old."""
    _, compute = counted()
    monkeypatch.setattr(cache, "_digest", lambda of: f"00{of[0]}")
    shelf = cache_folder / "things" / "00"
    for number in range(4):
        cache.kept("things", (number,), compute)
        os.utime(shelf / f"{number}.npy", (1000 + number, 1000 + number))
    cache.kept("things", (0,), compute)
    size = (shelf / "0.npy").stat().st_size
    monkeypatch.setattr(cache, "LIMIT", 3 * size * cache.SHELVES)
    cache.kept("things", (4,), compute)
    assert sorted(path.stem for path in shelf.iterdir()) == ["0", "3", "4"]
    monkeypatch.setattr(cache, "LIMIT", 1)
    cache.kept("things", (5,), compute)
    assert [path.stem for path in shelf.iterdir()] == ["5"]


def test_several_at_once_keep_one_whole_file(cache_folder):
    _, compute = counted()
    found = []

    def ask():
        found.extend(cache.kept("things", (1,), compute) for _ in range(20))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 160
    assert len(list(cache_folder.glob("things/*/*"))) == 1


# The effect.


def run(program, *effects, **options):
    return Simulator(program, engine=AnalogEngine(effects), **options).run({"x": vectors(5)})["y"]


def test_outputs_move_with_resistance_and_tend_to_ideal():
    program = product(overrides=["adc.mode=lossless"])
    plain = run(program)
    np.testing.assert_array_equal(run(program, Wire(row=0, col=0)), plain)
    moved = [np.abs(run(program, Wire(row=ohm, col=ohm)) - plain).max() for ohm in (1, 10, 100)]
    assert 0 < moved[0] < moved[1] < moved[2]
    np.testing.assert_allclose(run(program, Wire(row=1e-6, col=1e-6)), plain, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("option", ["row", "col", "source", "sense"])
def test_each_resistance_counts(option):
    program = product(overrides=["adc.mode=lossless"])
    none = {"row": 0.0, "col": 0.0}
    assert (run(program, Wire(**{**none, option: 50.0})) != run(program)).any()


def test_the_same_bits_whatever_threads_and_cache(monkeypatch):
    program = product(overrides=["array.slices_in=arrays", "adc.mode=full-scale"])
    first = run(program, Wire())
    for threads, folder in (("1", None), ("3", None), ("1", "")):
        monkeypatch.setenv("XBARC_THREADS", threads)
        if folder is not None:
            monkeypatch.setenv("XBARC_CACHE", folder)
        np.testing.assert_array_equal(run(program, Wire()), first)


def test_an_array_is_solved_once(monkeypatch):
    program = product()
    run(program, Wire())
    monkeypatch.setattr("xbarc.simulator.devices.wire.transfer", None)
    run(program, Wire())
    with pytest.raises(TypeError):
        run(program, Wire(row=2.0))


@dataclass(frozen=True)
class Halved(Effect):
    name: ClassVar[str] = "halved"

    def age(self, g, array, draw):
        return g / 2


@dataclass(frozen=True)
class AtLeast(Effect):
    """No cell conducts less, whatever was done to it."""

    name: ClassVar[str] = "at-least"
    order: ClassVar[int] = 1
    us: float = 3.0

    def age(self, g, array, draw):
        return np.maximum(g, self.us)


def test_wires_carry_what_other_effects_leave():
    assert in_order((Wire(), Halved())) == (Halved(), Wire())
    program = product(overrides=["adc.mode=lossless"])
    wire = Wire(row=500, col=500)
    np.testing.assert_array_equal(run(program, wire, Halved()), run(program, Halved(), wire))
    array = first_array(program)
    found = conductances(array, in_order((wire, Halved())), 0)
    wanted = conductances(array, (), 0)
    np.testing.assert_allclose(found, transfer(wanted / 2, wire.wires).T, rtol=1e-12)


def first_array(program):
    (op, *_) = (op for op in program.module.walk() if op.name == "xbar.mvm")
    (tile, *_) = tiles_of(op, program.weights, program.target, 0)
    return tile.arrays[0]


def test_the_effect_is_found_by_its_name():
    assert EFFECTS.registry().load("wire") is Wire
    assert str(Wire(row=2.0)) == "wire{row=2.0}"


# The netlist, and the circuit simulator.


def layer_of(program):
    return next(op for op in program.module.walk() if op.name == "xbar.weights").sym_name.data


def test_a_netlist_has_each_cell_and_segment():
    program = product()
    layer, array = layer_of(program), first_array(program)
    text = netlist(program, layer, 0, effects=(Wire(row=2.0, col=3.0, source=7.0),))
    assert text == netlist(program, layer, 0, effects=(Wire(row=2.0, col=3.0, source=7.0),))
    rows, lines = array.levels.shape
    words = text.splitlines()
    assert f"layer {layer}, tile 0, replica 0, crossbar 0" in words[0]
    assert sum(w.startswith("Xc") for w in words) == rows * lines
    assert sum(w.startswith("Rw") and w.endswith(" 2.0") for w in words) == rows * (lines - 1)
    assert sum(w.startswith("Rb") and w.endswith(" 3.0") for w in words) == (rows - 1) * lines
    assert sum(w.startswith("Rd") and w.endswith(" 9.0") for w in words) == rows
    assert sum(w.startswith("Rs") and w.endswith(" 3.0") for w in words) == lines
    assert "Vd3 d3 0 DC 1.0" in words
    g = conductances(array, (), 0)
    assert f"Xc2_1 w2_1 b2_1 cell g={float(g[2, 1]) * 1e-6!r}" in words


def test_other_effects_of_a_netlist():
    program = product()
    wanted = conductances(first_array(program), (), 0)
    text = netlist(program, layer_of(program), 0, effects=(AtLeast(), Wire(), Halved()))
    assert "effects: halved, at-least, seed 0" in text
    found = np.array(re.findall(r"^Xc.* cell g=(.*)$", text, re.MULTILINE), float)
    expected = np.maximum(wanted / 2, 3.0)
    assert len(np.unique(expected)) > 2
    np.testing.assert_allclose(found.reshape(wanted.shape), 1e-6 * expected, rtol=1e-15)


def test_inputs_of_a_netlist():
    program = product()
    text = netlist(program, layer_of(program), 0, inputs={2: 0.5})
    assert "Vd2 d2 0 DC 0.5" in text and "Vd3 d3 0 DC 0.0" in text
    # Without resistance there are no nodes between drivers, cells and sources.
    assert re.search(r"^Xc2_1 d2 s1 cell", text, re.MULTILINE) and "\nR" not in text


def test_a_netlist_of_what_isnt_there():
    program = product()
    layer = layer_of(program)
    for where, message in (
        ((layer + "x", 0), "no layer .* did you mean"),
        ((layer, 7), "no tile of layer .* has number 7: there are 0 .. 0"),
    ):
        with pytest.raises(XbarcError, match=message):
            netlist(program, *where)
    with pytest.raises(XbarcError, match="no replica .* has number 2: there are 0 .. 0"):
        netlist(program, layer, 0, replica=2)
    with pytest.raises(XbarcError, match="no crossbar .* has number 1: there are 0 .. 0"):
        netlist(program, layer, 0, crossbar=1)
    with pytest.raises(UsageError, match=r"word line 20: the array has 0 .. 19"):
        netlist(program, layer, 0, inputs={20: 1.0})


@pytest.fixture
def saved(tmp_path, monkeypatch):
    """A program on disk, in the working directory: its layer's name."""
    monkeypatch.chdir(tmp_path)
    program = product(overrides=["array.polarity_in=arrays"])
    program.save("out.xbar")
    return layer_of(program)


def command(monkeypatch, capsys, *arguments):
    """`xbarc spice out.xbar ...`: (exit code, stdout, stderr)."""
    monkeypatch.setattr(sys, "argv", ["xbarc", "spice", "out.xbar", *arguments])
    code = 0
    try:
        cli.call()
    except SystemExit as end:
        code = end.code or 0
    return code, *capsys.readouterr()


def test_the_command_writes_the_netlist(saved, monkeypatch, capsys):
    where = ["--layer", saved, "--tile", "0", "--crossbar", "1"]
    options = ["--row", "2", "--sense", "9", "--drive-from", "both", "--sense-at", "top"]
    drive = ["--drive", "3=0.5", "--drive", "0=0.25"]
    code, out, _ = command(monkeypatch, capsys, *where, *options, *drive)
    assert code == 0
    program = xbarc.load("out.xbar")
    wire = Wire(row=2.0, sense=9.0, drive_from="both", sense_at="top")
    assert out == netlist(program, saved, 0, crossbar=1, effects=(wire,), inputs={3: 0.5, 0: 0.25})
    code, printed, _ = command(monkeypatch, capsys, *where, *options, *drive, "-o", "tile.cir")
    assert (code, printed) == (0, "tile.cir\n")
    assert Path("tile.cir").read_text() == out


NOISE = "ratio,programming{sigma=0.2},verify{tolerance=0.5}"


def cell_conductances(text):
    """Of the netlist's cells, in siemens: [word lines, bit lines]."""
    found = re.findall(r"^Xc(\d+)_(\d+) .* cell g=(\S+)$", text, re.MULTILINE)
    g = np.full((1 + int(found[-1][0]), 1 + int(found[-1][1])), np.nan)
    for row, line, siemens in found:
        g[int(row), int(line)] = float(siemens)
    return g


def added_up(text, currents):
    """Currents [..., bit lines] of a netlist, its slices shifted and G- subtracted: [..., N]."""
    about = r"^\* bit line (\d+): column (\d+) of the tile, slice (\d+), G([+-])$"
    lines = re.findall(about, text, re.MULTILINE)
    assert len(lines) == currents.shape[-1]
    sums = np.zeros((*currents.shape[:-1], 1 + max(int(column) for _, column, _, _ in lines)))
    for line, column, of_slice, sign in lines:
        weight = 4 ** int(of_slice) * (1 if sign == "+" else -1)
        sums[..., int(column)] += weight * currents[..., int(line)]
    return sums


def test_cells_of_the_command_s_netlist_are_those_of_a_run(tmp_path, monkeypatch, capsys):
    """One row of the matrix at a time: what a run gives follows from the netlist's cells."""
    monkeypatch.chdir(tmp_path)
    product(overrides=["adc.mode=lossless"]).save("out.xbar")
    program = xbarc.load("out.xbar")
    layer = layer_of(program)
    where = ["--layer", layer, "--tile", "0", "--noise"]
    x = np.zeros((4, 6, 20), np.float32)
    x.reshape(24, 20)[:20] = np.eye(20)
    plain = program.run(x)["y"].reshape(24, 4)[:20]
    some = plain != 0
    _, ideal, _ = command(monkeypatch, capsys, *where, "ratio")
    seen = []
    for seed in (5, 6):
        options = [NOISE, "--seed", str(seed), "--row", "0", "--col", "0"]
        code, text, _ = command(monkeypatch, capsys, *where, *options)
        assert code == 0 and f"seed {seed}\n" in text
        found = program.run(x, noise=NOISE, seed=seed)["y"].reshape(24, 4)[:20]
        moved, was = (added_up(t, cell_conductances(t)) for t in (text, ideal))
        np.testing.assert_allclose(
            found[some] / plain[some], moved[some] / was[some], rtol=0, atol=2e-3
        )
        seen.append(moved[some] / was[some])
    # Far more than the rounding that was allowed above.
    assert all(np.abs(one - 1).max() > 0.1 for one in seen)
    assert np.abs(seen[0] - seen[1]).max() > 0.1


def test_wires_of_a_noise_text_are_the_netlist_s(saved, monkeypatch, capsys):
    program = xbarc.load("out.xbar")
    where = ["--layer", saved, "--tile", "0"]
    noise = ["--noise", 'wire{row=30.0 col=20.0 drive-from="both"}']
    _, text, _ = command(monkeypatch, capsys, *where, *noise)
    assert text == netlist(program, saved, 0, effects=(Wire(30.0, 20.0, drive_from="both"),))
    # An option changes that of the text, and only that.
    _, text, _ = command(monkeypatch, capsys, *where, *noise, "--col", "5", "--sense", "7")
    wire = Wire(30.0, 5.0, sense=7.0, drive_from="both")
    assert text == netlist(program, saved, 0, effects=(wire,))


def test_effects_of_the_target_a_device_and_a_plugin(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("fatigue.py").write_text(FATIGUE)
    product(overrides=["device.programming.sigma=0.1"]).save("out.xbar")
    layer = layer_of(xbarc.load("out.xbar"))

    def cells_of(*options):
        code, text, err = command(monkeypatch, capsys, "--layer", layer, "--tile", "0", *options)
        assert code == 0, err
        return text, cell_conductances(text)

    text, own = cells_of()
    assert "effects: programming{sigma=0.1}, seed 0" in text
    _, none = cells_of("--noise", "none")
    assert len(np.unique(none.round(12))) == 4 < len(np.unique(own))
    _, tired = cells_of("--plugin", "fatigue.py", "--noise", "fatigue{share=0.5}")
    np.testing.assert_allclose(tired, own / 2, rtol=1e-12)
    text, _ = cells_of("--device", "rram-wan")
    assert "wan-2022" in text


@pytest.mark.parametrize(
    ("layer", "options", "code", "message"),
    [
        (None, ["--noise", "raed"], 2, "xbarc: unknown device effect 'raed': did you mean 'read'"),
        (None, ["--noise", 'stuck{map="gone.npz"}'], 1, "xbarc: "),
        ("nosuch", [], 1, "xbarc: no layer 'nosuch': "),
        (None, ["--tile", "5"], 1, "xbarc: no tile of layer "),
        (None, ["--drive", "3"], 2, "xbarc: --drive 3: written R=V"),
        (None, ["--drive", "99=1"], 2, "xbarc: word line 99: the array has 0 .. 19"),
        (None, ["--row", "-1"], 2, "xbarc: row = -1 ohm: give a resistance of 0 or more"),
    ],
)
def test_what_the_command_refuses(saved, layer, options, code, message, monkeypatch, capsys):
    where = ["--layer", layer or saved, "--tile", "0"]
    ended, out, err = command(monkeypatch, capsys, *where, *options)
    assert (ended, out) == (code, "")
    assert err.startswith(message) and err.count("\n") == 1


needs_ngspice = pytest.mark.skipif(
    shutil.which("ngspice") is None, reason="ngspice isn't installed: apt-get install ngspice"
)


def simulated(text, tmp_path):
    """The bit lines' currents that ngspice prints, in ampere."""
    path = tmp_path / "array.cir"
    path.write_text(text)
    done = subprocess.run(["ngspice", "-b", path], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    found = dict(re.findall(r"^i\(vs(\d+)\) = (\S+)$", done.stdout, re.MULTILINE))
    return np.array([float(found[str(l)]) for l in range(len(found))])


@needs_ngspice
@pytest.mark.parametrize(
    ("size", "wires"),
    [
        (16, Wires(1, 1)),
        (16, Wires(50, 20, 300, 100)),
        (16, Wires(50, 20, 300, 100, "both", "top")),
        (16, Wires(0, 20, 300, 0, "both")),
        (16, Wires(50, 0, 0, 100)),
        (32, Wires(5, 2, 30, 10)),
        (64, Wires(2.5, 1.5)),
    ],
)
def test_ngspice_finds_the_same_currents(size, wires, tmp_path):
    g = cells(size, size, seed=size)
    volts = np.random.default_rng(1).uniform(0, 0.3, size)
    drivers = [f"Vd{r} d{r} 0 DC {v!r}" for r, v in enumerate(volts.tolist())]
    senses = [f"Vs{l} s{l} 0 DC 0" for l in range(size)]
    printed = [f"print i(vs{l})" for l in range(size)]
    control = [".control", "set numdgt=15", "op", *printed, "quit 0", ".endc", ".end"]
    text = "\n".join(["*", CELL, *drivers, *grid(g, wires), *senses, *control, ""])
    expected = transfer(g, wires) @ volts * 1e-6
    np.testing.assert_allclose(simulated(text, tmp_path), expected, rtol=1e-6, atol=0)


@needs_ngspice
def test_ngspice_reads_the_netlist_of_a_program(tmp_path):
    program = product()
    wire = Wire(row=30.0, col=20.0, sense=100.0)
    inputs = {0: 0.2, 3: 0.1, 19: 0.3}
    text = netlist(program, layer_of(program), 0, effects=(wire,), inputs=inputs)
    volts = np.array([inputs.get(r, 0.0) for r in range(20)])
    expected = volts @ conductances(first_array(program), (wire,), 0) * 1e-6
    np.testing.assert_allclose(simulated(text, tmp_path), expected, rtol=1e-6, atol=1e-18)


@needs_ngspice
def test_ngspice_finds_what_a_run_of_real_devices_gives(tmp_path, monkeypatch, capsys):
    """Cells with errors behind wires: currents of ngspice, added up, against the simulator."""
    monkeypatch.chdir(tmp_path)
    product(overrides=["adc.mode=lossless", "inputs.dac_bits=8"]).save("out.xbar")
    program = xbarc.load("out.xbar")
    noise = f"{NOISE},wire{{row=30.0 col=20.0 sense=100.0}}"
    where = ["--layer", layer_of(program), "--tile", "0"]
    # Codes from 0 to 255 at inputs of 0 to 1 of the largest.
    codes = np.random.default_rng(2).integers(0, 256, 20)
    largest = vectors(4).max()
    x = np.zeros((1, 6, 20), np.float32)
    x[0, 0] = codes * (largest / 255)
    drive = [part for r, c in enumerate(codes.tolist()) for part in ("--drive", f"{r}={c / 255}")]
    currents = {}
    for name, options in {"real": [noise, "--seed", "4"], "ideal": ["ratio"]}.items():
        wires = [] if name == "real" else ["--row", "0", "--col", "0"]
        _, text, _ = command(monkeypatch, capsys, *where, *wires, *drive, "--noise", *options)
        currents[name] = added_up(text, simulated(text, tmp_path))
    found = program.run(x, noise=noise, seed=4)["y"][0, 0] / program.run(x)["y"][0, 0]
    np.testing.assert_allclose(found, currents["real"] / currents["ideal"], rtol=1e-3)
    assert np.abs(found - 1).max() > 0.02
