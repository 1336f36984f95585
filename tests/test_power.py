"""Power of the programmed cells, V^2 (G+ + G-) of those that are read, before and after pruning."""

import numpy as np
import onnx
import pytest
from chains import layer_program
from models import text_model
from reference import make_target
from typer.testing import CliRunner

import xbarc
from xbarc.cli import app
from xbarc.cost.activity import crossbar_energy_pj
from xbarc.cost.events import count_events
from xbarc.cost.power import cells_pj
from xbarc.hw.encoding import level_sums
from xbarc.ir import print_module
from xbarc.report import report_page
from xbarc.simulator.activity import ActivityCounter
from xbarc.simulator.interpreter import Simulator
from xbarc.support.units import quantity

NETWORK = """g (float[N,4,10,10] x) => (float[N,6] y)
<float[8,4,3,3] a, float[6,8,3,3] b> {
  c = Conv(x, a)
  r = Relu(c)
  d = Conv(r, b)
  p = GlobalAveragePool(d)
  y = Flatten(p)
}"""
PRUNE = "prune{granularity=weight sparsity=0.5 refit=false}"


def levels_of(weight, target):
    """The levels of all cells of one weight, both polarities, one a bit line."""
    array = target.array
    top = 2**array.cell_bits - 1
    if array.encoding == "offset":
        held = [weight + 128]
    else:
        held = [max(weight, 0), max(-weight, 0)]
    slices = array.slices(8)
    return [v >> (s * array.cell_bits) & top for v in held for s in range(slices)]


@pytest.mark.parametrize("encoding", ["differential", "offset"])
@pytest.mark.parametrize("cell_bits", [1, 2, 3, 7])
def test_level_sums(encoding, cell_bits):
    target = make_target(array={"encoding": encoding, "cell_bits": cell_bits})
    first, sums = level_sums(8, cell_bits, encoding)
    assert (first, len(sums)) == ((-128, 256) if encoding == "offset" else (-127, 255))
    assert sums.dtype == np.int64
    assert list(sums) == [sum(levels_of(w, target)) for w in range(first, 128)]


def conductance_us(level, target):
    device, top = target.device, 2**target.array.cell_bits - 1
    return device.g_off_us + level * (device.g_on_us - device.g_off_us) / top


@pytest.mark.parametrize("encoding", ["differential", "offset"])
@pytest.mark.parametrize("cell_bits", [2, 7])
def test_cell_by_cell(encoding, cell_bits):
    """A gated 3 x 3 convolution of 5 channels and 4 filters in tiles of 3 rows."""
    array = {"rows": 3, "encoding": encoding, "cell_bits": cell_bits}
    target = make_target(array=array, inputs={"dac_bits": 4})
    rng = np.random.default_rng(0)
    w = rng.integers(-127, 128, (4, 5, 3, 3))
    w[rng.random(w.shape) < 0.6] = 0
    w[1:, :3, 0, 0] = w[:, 4, 1, 1] = w[:, :, 2, 2] = 0
    q = w.reshape(4, -1).T.astype(np.int8)
    program = layer_program("conv", q, 1, "window [3, 3]", (5, 8, 9), (4, 6, 7), target)
    total = 0.0
    for i, j in np.ndindex(3, 3):
        for begin in (0, 3):
            tile = w[:, begin : begin + 3, i, j].T
            rows, columns = tile.any(1), tile.any(0)
            for column in tile[np.ix_(rows, columns)].T.tolist():
                lines = np.transpose([levels_of(weight, target) for weight in column])
                total += sum(conductance_us(v, target) for v in lines[lines.any(1)].ravel())
    vectors, input_slices = 6 * 7, 2
    device = target.device
    energy = device.read_voltage_v**2 * total * device.read_pulse_ns * 1e-3
    (layer,) = count_events(program.module, program.weights, target)
    assert cells_pj(layer, target) == pytest.approx(energy * vectors * input_slices, rel=1e-12)


@pytest.mark.parametrize("encoding", ["differential", "offset"])
@pytest.mark.parametrize(
    ("op", "shape", "groups", "clauses", "size", "out", "passes"),
    [
        ("conv", (12, 10), 1, "window [2, 2]", (3, 4, 4), (10, 3, 3), "im2col"),
        ("conv", (4, 12), 12, "window [2, 2]", (12, 4, 4), (12, 3, 3), "im2col"),
        ("conv", (12, 10), 1, "window [2, 2]", (3, 4, 4), (10, 3, 3), "kernel-first"),
        (
            *("conv_transpose", (20, 6), 1, "window [2, 2] strides [2, 2]"),
            *((5, 4, 4), (6, 8, 8), "kernel-first"),
        ),
        ("dense", (20, 6), 1, "axis 1 to 1", (20,), (6,), "im2col"),
    ],
)
def test_every_row_at_full_level_is_what_a_run_draws(
    encoding, op, shape, groups, clauses, size, out, passes
):
    """The simulator's own count of what cells take, for inputs that drive every row fully."""
    target = make_target(array={"rows": 16, "encoding": encoding}, inputs={"dac_bits": 2})
    rng = np.random.default_rng(0)
    q = rng.integers(-127, 128, shape).astype(np.int8)
    # Zeros here and there, and rows and columns that are gated where the mapping does.
    q[rng.random(shape) < 0.3] = q[1] = q[:, 3] = 0
    program = layer_program(op, q, groups, clauses, size, out, target, passes)
    counter = ActivityCounter(program)
    Simulator(program, observe=counter.observe).run({"x": np.full((3, *size), 255, np.uint8)})
    seen = crossbar_energy_pj(counter.statistics()["w"], target) / 3
    (layer,) = count_events(program.module, program.weights, target)
    assert cells_pj(layer, target) == pytest.approx(seen, rel=1e-12)


@pytest.mark.parametrize("target", ["mca128", "isaac", "puma", "neurram"])
def test_watts_add_up(target):
    """What isn't cells is the program's power without its crossbars' fixed energy."""
    program = xbarc.compile(text_model(NETWORK), target, passes="kernel-first")
    totals = program.report["totals"]
    energy = totals["energy_uj"]
    # uJ x inputs/s = 1e-6 W.
    fixed = energy.get("crossbar", 0.0) * totals["throughput_ips"] * 1e-6
    assert totals["peripheral_power_w"] == pytest.approx(totals["power_w"] - fixed, rel=1e-9)
    layers = count_events(program.module, program.weights, program.target)
    cells = sum(cells_pj(la, program.target) for la in layers) * totals["throughput_ips"] * 1e-12
    assert totals["crossbar_power_w"] == pytest.approx(cells, rel=1e-9)
    both = totals["crossbar_power_w"] + totals["peripheral_power_w"]
    assert totals["read_power_w"] == pytest.approx(both)


def test_without_a_pruning_pass_before_is_nothing_gated():
    """Compiled from a pruned model: its dense weights aren't known."""
    w = np.random.default_rng(0).standard_normal((8, 4, 3, 3))
    w[:, 1] = 0
    totals = xbarc.compile(text_model(NETWORK, a=w), "mca128", passes="kernel-first").report[
        "totals"
    ]
    assert totals["read_power_baseline"] == "nothing gated"
    assert totals["crossbar_power_w"] < totals["crossbar_power_before_w"]
    assert totals["peripheral_power_w"] < totals["peripheral_power_before_w"]
    ratio = totals["read_power_w"] / totals["read_power_before_w"]
    assert totals["read_power_ratio"] == pytest.approx(ratio) and ratio < 1
    totals = xbarc.compile(text_model(NETWORK, a=w), "mca128").report["totals"]
    assert totals["read_power_w"] == totals["read_power_before_w"]
    assert totals["read_power_ratio"] == 1


def test_pruned_in_the_same_compile():
    model = text_model(NETWORK)
    dense = xbarc.compile(model, "mca128", passes="kernel-first").report["totals"]
    pruned = xbarc.compile(model, "mca128", passes=f"{PRUNE},kernel-first").report["totals"]
    assert pruned["read_power_baseline"] == "the weights before"
    for part in ("crossbar", "peripheral", "read"):
        assert pruned[f"{part}_power_before_w"] == pytest.approx(dense[f"{part}_power_w"])
        assert pruned[f"{part}_power_w"] < dense[f"{part}_power_w"]


@pytest.mark.parametrize(
    "passes", ["prune{granularity=channel},kernel-first", "prune{granularity=row}"]
)
def test_where_the_dense_weights_do_not_fit_before_is_nothing_gated(passes):
    totals = xbarc.compile(text_model(NETWORK), "mca128", passes=passes).report["totals"]
    assert totals["read_power_baseline"] == "nothing gated"


def test_an_update_tells_both():
    model = text_model(NETWORK)
    w = onnx.numpy_helper.to_array(model.graph.initializer[0]).copy()
    w[np.abs(w) < np.quantile(np.abs(w), 0.7)] = 0
    program = xbarc.compile(model, "mca128", passes="kernel-first")
    was, now = program.report["totals"], program.update_weights(text_model(NETWORK, a=w)).report
    now = now["totals"]
    assert now["read_power_baseline"] == "the weights before"
    for part in ("crossbar", "peripheral", "read"):
        assert now[f"{part}_power_before_w"] == pytest.approx(was[f"{part}_power_w"])
        assert now[f"{part}_power_w"] < was[f"{part}_power_w"]
    # By im2col nothing is gated, but pruned cells are at G_off all the same.
    program = xbarc.compile(model, "mca128")
    now = program.update_weights(text_model(NETWORK, a=w)).report["totals"]
    assert now["crossbar_power_w"] < now["crossbar_power_before_w"]
    assert now["peripheral_power_w"] == now["peripheral_power_before_w"]


def test_it_is_shown(tmp_path):
    model = text_model(NETWORK)
    programs = []
    for i, passes in enumerate(("kernel-first", f"{PRUNE},kernel-first")):
        programs.append(xbarc.compile(model, "mca128", passes=passes))
        programs[-1].save(tmp_path / f"{i}.xbar")
    assert "without" not in print_module(programs[1].module)
    totals = programs[1].report["totals"]
    said = CliRunner().invoke(app, ["cost", str(tmp_path / "1.xbar")]).output
    assert f"{quantity('w', totals['crossbar_power_w'])} in them as they are programmed" in said
    assert f"{quantity('w', totals['read_power_before_w'])} with the weights before" in said
    page = str(report_page(programs[1], tmp_path / "1.xbar", []))
    for key in ("read_power_w", "crossbar_power_w", "read_power_before_w", "read_power_ratio"):
        assert f'value="{totals[key]!r}" data-key="totals.{key}"' in page
    said = CliRunner().invoke(app, ["compare", str(tmp_path / "0.xbar"), str(tmp_path / "1.xbar")])
    line = next(la for la in said.output.splitlines() if la.startswith("Crossbar power "))
    ratio = totals["crossbar_power_w"] / totals["crossbar_power_before_w"]
    assert f"×{float(f'{ratio:.3g}'):g}" in line
