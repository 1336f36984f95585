"""Device effects: what each does to cells, word lines and converters, and to results."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import reference_array
import reference_program
from models import text_model
from test_analog import product, replicated, vectors
from test_whole_network import HARDWARE, MAPPINGS, inputs, model

import xbarc
from xbarc.hw.encoding import weight_levels
from xbarc.ir.analysis.coverage import coverage_of
from xbarc.ir.dialect import MvmOp, weights_of
from xbarc.simulator.analog.engine import AnalogEngine
from xbarc.simulator.analog.programmed import cell_of
from xbarc.simulator.analog.programmed import programmed as program_array
from xbarc.simulator.arrays import tiles_of
from xbarc.simulator.draws import Draw
from xbarc.simulator.interpreter import Simulator
from xbarc.simulator.noise import effects_of, engine_for
from xbarc.simulator.spread import PUBLISHED, ConductanceSpread
from xbarc.support.errors import UsageError

STATIC = (
    "ratio,programming{sigma=0.1},verify{tolerance=0.05 max_pulses=3},stuck{on=0.02 off=0.02},"
    "drift{time=100.0 nu_sigma=0.02 compensation=global},dac{sigma=0.1},nonlinear{k=0.1},"
    "adc{offset=0.5 gain=0.02 inl=0.5}"
)
"""Every effect that isn't random once programmed."""

IN_CELLS = STATIC.partition(",dac")[0] + ",nonlinear{k=0.1}"
"""Those that leave converters alone, and inputs but for a factor where DACs have one bit."""


# --- A network, from the same programmed conductances, in plain numpy


@pytest.mark.parametrize(
    ("hardware", "mapping"),
    [
        *zip(HARDWARE, itertools.cycle([*MAPPINGS, "copies"]), strict=False),
        ("full-scale", "kernel-first"),
        ("offset", "sub-image"),
        ("saturate", "drop-zeros"),
    ],
)
@pytest.mark.parametrize("where", ["columns", "arrays"])
@pytest.mark.parametrize("effects", [STATIC, IN_CELLS], ids=["all", "in cells"])
def test_every_bit_of_a_network_with_every_static_effect(hardware, mapping, where, effects):
    program = compiled(mapping, HARDWARE[hardware], where)
    engine, x = engine_for(program, effects), {"x": inputs(2)}
    expected = reference_program.run(program, x, {}, reference_array.mvm(engine, 5))
    found = Simulator(program, engine=engine, seed=5).run(x)
    np.testing.assert_array_equal(found["z"], expected["z"])
    assert np.unique(found["z"]).size > 3
    assert not np.array_equal(found["z"], Simulator(program).run(x)["z"])


def compiled(mapping, hardware, where="columns"):
    rows = (32 if mapping == "sub-image" else 16) * (1 + ("array.polarity_in=rows" in hardware))
    keys = [f"array.rows={rows}", "array.cols=128"]
    keys += [f"array.slices_in={where}", f"array.polarity_in={where}", "array.columns_per_adc=8"]
    program = xbarc.compile(
        model(),
        "mca128",
        passes=MAPPINGS.get(mapping, ""),
        calibration=inputs(6),
        overrides=[*keys, *hardware],
    )
    return replicated(program, 3) if mapping == "copies" else program


# --- Strength


STRENGTHS = {
    "programming": "programming{{sigma={}}}",
    "programming, lognormal": "programming{{model=lognormal sigma={}}}",
    "programming, absolute": "programming{{mode=absolute sigma={}}}",
    "programming, published": "programming{{mode=polynomial curve=wan-2022 sigma={}}}",
    "programming, saturating": "programming{{mode=saturating coefficients=20.0,90.0 sigma={}}}",
    "stuck on": "stuck{{on={}}}",
    "stuck off": "stuck{{off={}}}",
    "read": "read{{sigma={}}}",
    "read, absolute": "read{{mode=absolute sigma={}}}",
    "drift": "drift{{nu={}}}",
    "drift, its spread": "drift{{nu=0.0 nu_sigma={}}}",
    "ratio": "ratio{{g_off={}}},programming{{sigma=0.05}}",
    "nonlinear": "nonlinear{{k={}}}",
    "dac": "dac{{sigma={}}}",
    "adc, offset": "adc{{offset={}}}",
    "adc, gain": "adc{{gain={}}}",
    "adc, bow": "adc{{inl={}}}",
    "adc, noise": "adc{{noise={}}}",
}


@pytest.mark.parametrize("text", STRENGTHS.values(), ids=STRENGTHS)
@pytest.mark.parametrize("encoding", ["differential", "offset"])
def test_results_move_as_an_effect_grows_and_tend_to_ideal(text, encoding):
    # A converter a line: what the lines of both polarities share cancels.
    keys = ["adc.mode=lossless", "inputs.dac_bits=2", "array.columns_per_adc=1"]
    program = product(overrides=[*keys, f"array.encoding={encoding}"])
    x = {"x": vectors(20)}
    ideal, unit = Simulator(program, engine=AnalogEngine()).run(x)["y"], 1.0
    if text.startswith("ratio"):
        # The current of g_off is taken away; what stays are errors of the cells that draw it.
        ideal, unit = program.run(x, noise=text.format(1e-12))["y"], 500.0

    def error(strength):
        found = program.run(x, noise=text.format(strength * unit))["y"]
        return np.abs(found - ideal).mean()

    scale = np.abs(ideal).mean()
    assert text.startswith("ratio") or error(0.0) == 0
    steps = [error(strength) for strength in (1e-6, 1e-3, 3e-2, 0.3)]
    assert steps[0] < 1e-3 * scale
    assert all(a < b or a == b == 0 for a, b in itertools.pairwise(steps))
    assert steps[-1] > 1e-4 * scale


@pytest.mark.parametrize("encoding", ["differential", "offset"])
def test_each_mapping_has_errors_of_its_own(encoding):
    found = {}
    for mapping in (*MAPPINGS, "copies"):
        program = compiled(mapping, ["adc.mode=lossless", f"array.encoding={encoding}"])
        x = {"x": inputs(2)}
        ideal = program.run(x)["z"]
        found[mapping] = program.run(x, noise="programming{sigma=0.05}")["z"] - ideal
        assert np.abs(found[mapping]).max() > 1e-3 * np.abs(ideal).max()
    for a, b in itertools.combinations(found.values(), 2):
        assert not np.allclose(a, b)


def test_the_same_seed_gives_the_same_bits_whatever_the_batches_and_threads():
    program = product(overrides=["adc.mode=full-scale"])
    noise = f"{STATIC.removesuffix('}')} noise=0.3}},read{{sigma=0.05}}"
    x = vectors(7)
    first = program.run(x, noise=noise, seed=3, threads=1)["y"]
    for way in ({"batch": 1}, {"batch": 3, "threads": 4}, {"batch": 7, "threads": 2}):
        np.testing.assert_array_equal(program.run(x, noise=noise, seed=3, **way)["y"], first)
    assert not np.array_equal(program.run(x, noise=noise, seed=4)["y"], first)


# --- What happens to one array


@pytest.fixture(scope="module")
def large():
    """128 x 16 weights: one array of 128 x 128 cells."""
    w = np.random.default_rng(0).standard_normal((128, 16)).astype(np.float32)
    found = text_model(
        "g (float[N,128] x) => (float[N,16] y) <float[128,16] w> { y = MatMul(x, w) }", w=w
    )
    x = np.random.default_rng(1).random((8, 128)).astype(np.float32)
    return xbarc.compile(found, "mca128", calibration=x)


def programmed(program, noise, seed=0):
    """The one array of a program, once programmed, its conductances in uS and the matrix."""
    (op,) = (op for op in program.module.walk() if isinstance(op, MvmOp))
    engine = AnalogEngine(effects_of(program.target, noise))
    matrix = engine.program(op, program.weights, program.target, seed)
    made = of_cells(op, program, engine, seed)
    return made, made.cells * made.unit * made.physical.cell.step_us, matrix


def of_cells(op, program, engine, seed):
    """The one array of an mvm, once programmed."""
    cell = cell_of(engine.effects, program.target)
    ((array,),) = (t.arrays for t in tiles_of(op, program.weights, program.target, 0, cell))
    return program_array(array, engine.effects, seed)


def wanted(program, noise=""):
    """What the cells of the one array should conduct, in uS."""
    (op,) = (op for op in program.module.walk() if isinstance(op, MvmOp))
    cell = cell_of(effects_of(program.target, noise), program.target)
    ((array,),) = (t.arrays for t in tiles_of(op, program.weights, program.target, 0, cell))
    return array.wanted()


def of_level(program, values, level):
    made, _, _ = programmed(program, "ratio")
    return values[made.physical.levels == level]


@pytest.mark.parametrize("model", ["normal", "lognormal"])
@pytest.mark.parametrize("level", [0, 1, 2, 3])
def test_programming_spreads_in_proportion(large, model, level):
    noise = f"ratio,programming{{model={model} sigma=0.1}}"
    g = of_level(large, programmed(large, noise)[1], level)
    mean = of_level(large, wanted(large, noise), level)[0]
    # 1000 cells at least: the mean within 4 standard errors, the spread within 10 %.
    assert abs(g.mean() / mean - 1) < 4 * 0.1 / np.sqrt(g.size)
    assert g.std() / mean == pytest.approx(0.1, rel=0.1)
    skew = ((g - g.mean()) ** 3).mean() / g.std() ** 3
    # Of a lognormal with that spread 0.3; its standard error is below 0.08.
    assert (skew > 0.15) == (model == "lognormal")


def test_programming_spreads_by_as_much_everywhere(large):
    g = programmed(large, "ratio,programming{mode=absolute sigma=5.0}")[1]
    error = g - wanted(large, "ratio")
    for level in range(4):
        assert of_level(large, error, level).std() == pytest.approx(5.0, rel=0.1)


def test_programming_spreads_as_published(large):
    noise = "ratio{g_on=40.0 g_off=1.0},programming{mode=polynomial curve=wan-2022}"
    g, w = programmed(large, noise)[1], wanted(large, noise)
    for level in (1, 2, 3):
        at = min(of_level(large, w, level)[0], 39.26)
        sigma = 1.536e-4 * at**3 - 1.167e-2 * at**2 + 0.2374 * at + 1.053
        assert of_level(large, g - w, level).std() == pytest.approx(sigma, rel=0.1)
    assert g.min() == 0  # at 1 uS some would be below


def test_published_curves_agree_where_they_speak_of_the_same():
    """The fit after a second, in the range that both cover, is near the one after programming."""
    for g in (8.0, 16.0, 24.0, 32.0):
        first, second = (
            sum(c * g**i for i, c in enumerate(PUBLISHED[n].coefficients))
            for n in ("wan-2022", "wan-2022-1s")
        )
        assert second == pytest.approx(first, rel=0.25)


def test_verify_writes_until_cells_are_within_the_tolerance(large):
    noise = "ratio,programming{sigma=0.1},verify{tolerance=0.02 max_pulses=1000}"
    made, g, matrix = programmed(large, noise)
    w = wanted(large, "ratio")
    assert np.abs(g / w - 1).max() < 0.02 + 1e-6
    # A pulse hits with the probability of a normal number within 0.2: 0.1585.
    assert made.pulses.mean() == pytest.approx(1 / 0.1585, rel=0.05)
    assert matrix.pulses.total == made.pulses.sum()
    assert (matrix.pulses.cells, matrix.pulses.mean) == (g.size, made.pulses.mean())


def test_verify_ends_with_its_pulses(large):
    noise = "ratio,programming{sigma=0.1},verify{tolerance=0.02 max_pulses=3}"
    made, g, _ = programmed(large, noise)
    missed = np.abs(g / wanted(large, "ratio") - 1) > 0.02 + 1e-6
    assert missed.mean() == pytest.approx((1 - 0.1585) ** 3, rel=0.05)
    assert set(np.unique(made.pulses)) == {1, 2, 3}
    stuck, _, _ = programmed(large, "ratio,stuck{on=0.1},verify{tolerance=0.01 max_pulses=7}")
    assert stuck.pulses.max() == 7
    ideal, _, _ = programmed(large, "ratio,verify{tolerance=0.0}")
    assert ideal.pulses.max() == 1


def test_the_share_of_stuck_cells(large):
    made, g, _ = programmed(large, "ratio,stuck{on=0.05 off=0.1}")
    w, cell = wanted(large, "ratio"), made.physical.cell
    on, off = np.isclose(g, cell.high_us), np.isclose(g, cell.low_us)
    # 16384 cells: 4 standard errors.
    assert (on & (w < 700)).sum() / (w < 700).sum() == pytest.approx(0.05, abs=0.007)
    assert (off & (w > 60)).sum() / (w > 60).sum() == pytest.approx(0.1, abs=0.01)
    assert np.isclose(g, w)[~on & ~off].all()


def test_stuck_cells_neither_vary_nor_drift(large):
    noise = "ratio,stuck{on=0.5 off=0.5}"
    _, plain, _ = programmed(large, noise)
    _, late, _ = programmed(large, f"{noise},programming{{sigma=0.2}},drift")
    np.testing.assert_allclose(late, plain, rtol=1e-6)


def test_a_fault_map_says_which_cells_are_stuck(large, tmp_path):
    ((name, shape),) = ((n, (1, 1, 1, 128, 128)) for n in large.weights if "." not in n)
    faults = np.random.default_rng(3).integers(-1, 2, shape).astype(np.int8)
    np.savez(tmp_path / "faults.npz", **{name: faults})
    noise = f'ratio,stuck{{map="{tmp_path}/faults.npz"}}'
    made, g, _ = programmed(large, noise)
    cell, here = made.physical.cell, faults[0, 0, 0]
    expected = np.select([here > 0, here < 0], [cell.high_us, cell.low_us], wanted(large, "ratio"))
    np.testing.assert_allclose(g, expected, rtol=1e-6, atol=1e-3)
    for wrong, message in (
        ({name: faults[:, :, :, :64]}, r"is \[1, 1, 1, 64, 128\], the layer's crossbars are"),
        ({"other": faults}, "no layer 'other'"),
        ({name: faults * 2}, "other than integers 1, 0 and -1"),
        ({name: faults * 0.5}, "other than integers 1, 0 and -1"),
    ):
        np.savez(tmp_path / "wrong.npz", **wrong)
        with pytest.raises(UsageError, match=message) as error:
            engine_for(large, f'stuck{{map="{tmp_path}/wrong.npz"}}')
        assert "\n" not in str(error.value)


def test_conductances_fall_with_the_exponent_of_drift(large):
    _, start, _ = programmed(large, "ratio")
    for time in (0.5, 1e3, 1e6):
        _, late, _ = programmed(large, f"ratio,drift{{time={time} nu=0.06 t0=10.0}}")
        expected = max(time / 10, 1) ** -0.06
        np.testing.assert_allclose(late / start, expected, rtol=1e-5)
    _, late, _ = programmed(large, "ratio,drift{time=1e6 nu=0.06 nu_sigma=0.01}")
    nu = -np.log(late / start) / np.log(1e6)
    assert nu.mean() == pytest.approx(0.06, rel=0.01)
    assert nu.std() == pytest.approx(0.01, rel=0.05)


def test_heat_makes_time_pass_faster(large):
    """Arrhenius: 1.1 eV, 85 degrees against 27: exp(1.1 / k (1/300 - 1/358.15))."""
    _, warm, _ = programmed(large, "ratio,drift{time=1e4 temperature=358.15 activation=1.1}")
    faster = np.exp(1.1 / 8.617333262e-5 * (1 / 300 - 1 / 358.15))
    assert faster == pytest.approx(1000, rel=0.01)
    _, later, _ = programmed(large, f"ratio,drift{{time={1e4 * faster}}}")
    np.testing.assert_allclose(warm, later, rtol=1e-6)


def test_compensation_gives_back_what_an_array_lost_together(large):
    _, start, _ = programmed(large, "ratio")
    _, late, _ = programmed(large, "ratio,drift{nu_sigma=0.02 compensation=global}")
    assert late.sum() == pytest.approx(start.sum())
    assert not np.allclose(late, start, rtol=0.01)
    _, late, _ = programmed(large, "ratio,drift{compensation=global}")
    np.testing.assert_allclose(late, start, rtol=1e-5)


def test_cells_of_level_0_conduct(large):
    made, g, _ = programmed(large, "ratio{g_on=310.0 g_off=10.0}")
    np.testing.assert_allclose(g, 10 + 100.0 * made.physical.levels, rtol=1e-5)
    _, without, _ = programmed(large, "programming{sigma=0.0}")
    assert without.min() == 0


@pytest.mark.parametrize("subtract", ["digital", "analog"])
@pytest.mark.parametrize("passes", ["", "kernel-first"])
def test_what_g_off_draws_is_taken_away(subtract, passes):
    """Alike cells: nothing of g_off stays, whichever line takes it away."""
    keys = ["adc.mode=lossless", "array.rows=16", "array.cols=128", f"adc.subtract={subtract}"]
    keys.append("inputs.signed=two-pass")
    for encoding in ("differential", "offset"):
        if encoding == "offset" and subtract == "analog":
            continue
        program = xbarc.compile(
            model(),
            "mca128",
            passes=passes,
            calibration=inputs(6),
            overrides=[*keys, f"array.encoding={encoding}"],
        )
        x = {"x": inputs(2)}
        ideal = program.run(x)["z"]
        found = program.run(x, noise="ratio{g_on=100.0 g_off=50.0}")["z"]
        np.testing.assert_allclose(found, ideal, rtol=1e-4, atol=1e-4 * np.abs(ideal).max())


def test_converters_see_the_current_of_g_off():
    """A saturating converter is full sooner."""
    program = product(overrides=["adc.mode=saturate", "adc.bits=4"])
    x, clipped = {"x": vectors(4)}, {}
    for noise in ("ratio{g_on=100.0 g_off=0.0}", "ratio{g_on=100.0 g_off=50.0}"):
        simulator = Simulator(program, engine=engine_for(program, noise))
        simulator.run(x)
        (statistics,) = simulator.statistics().values()
        clipped[noise] = statistics.saturated
    few, many = clipped.values()
    assert many > few + 0.05


def test_reference_lines_have_errors_of_their_own(large):
    """With offset encoding a stuck reference line spoils every line of its array."""
    offset = replace_target(large, encoding="offset")
    made, _, _ = programmed(offset, "ratio,programming{sigma=0.3}")
    assert made.physical.column[-1] == -1
    low = made.cells[:, -1] * made.unit * made.physical.cell.step_us
    assert low.std() / low.mean() == pytest.approx(0.3, rel=0.3)


def replace_target(program, **array):
    target = program.target
    changed = target.model_copy(update={"array": target.array.model_copy(update=array)})
    return replace(program, target=changed)


def test_one_bit_inputs_meet_nonlinear_cells_as_a_factor():
    x = {"x": vectors(3)}
    one = product(overrides=["adc.mode=lossless"])
    plain = one.run(x)["y"]
    np.testing.assert_allclose(one.run(x, noise="nonlinear{k=0.25}")["y"], plain * 1.25, rtol=1e-5)
    # Of levels 0 .. 255 in one read, x (1 + k (x / 255)^2).
    whole = product(overrides=["adc.mode=lossless", "inputs.dac_bits=8"])
    (w,) = (whole.weights[n] for n in whole.weights if "." not in n)
    scale = next(op.scale.value.data for op in whole.module.walk() if op.name == "xbar.quantize")
    codes = np.clip(np.rint(x["x"] / scale), 0, 255)
    driven = codes * (1 + 0.25 * (codes / 255) ** 2)
    (name,) = (n for n in whole.weights if n.endswith(".scale"))
    expected = driven @ w.astype(float) * scale * whole.weights[name]
    np.testing.assert_allclose(whole.run(x, noise="nonlinear{k=0.25}")["y"], expected, rtol=1e-4)


def test_word_lines_miss_their_levels(large):
    program = replace(
        large,
        target=large.target.model_copy(
            update={"inputs": large.target.inputs.model_copy(update={"dac_bits": 4})}
        ),
    )
    made, _, _ = programmed(program, "dac{sigma=0.1}")
    levels = made.drive.table * made.drive.unit
    assert (levels[:, 0] == 0).all()
    error = (levels - np.arange(16))[:, 1:]
    assert error.std() == pytest.approx(0.1, rel=0.1)
    assert np.unique(error).size == error.size


def bent(u, curves, top):
    """Sums [L, reads] in LSB as converters with these curves take them."""
    gain, offset, bow = (part[:, None] for part in (curves.gain, curves.offset, curves.bow))
    p = np.clip(u / top, 0, 1)
    return u * (1 + gain) + offset + bow * 4 * p * (1 - p)


def test_lines_that_share_a_converter_share_its_errors(large):
    shared = replace_target(large, columns_per_adc=16)
    (effect,) = effects_of(shared.target, "adc{offset=2.0 gain=0.01 inl=1.0}")
    made, _, _ = programmed(shared, "adc{offset=2.0 gain=0.01 inl=1.0}")
    array = made.converted
    sums = np.tile(np.linspace(0, 255, 256), (128, 1))
    curves = effect.distortion(array, Draw(0, "adc", "x", 0, 0, 0))
    found = bent(sums, curves, 255) - sums
    by_converter = found.reshape(8, 16, 256)
    assert (by_converter == by_converter[:, :1]).all()
    assert np.unique(by_converter[:, 0, 0]).size == 8
    # Offset at the bottom, offset and gain at the top, the bow between them.
    z = Draw(0, "adc", "x", 0, 0, 0).generator().standard_normal((8, 3))
    np.testing.assert_allclose(by_converter[:, 0, 0], 2.0 * z[:, 1])
    np.testing.assert_allclose(by_converter[:, 0, 255], 2.0 * z[:, 1] + 255 * 0.01 * z[:, 0])
    straight = np.linspace(by_converter[:, 0, 0], by_converter[:, 0, 255], 256, axis=1)
    bow = by_converter[:, 0] - straight
    np.testing.assert_allclose(np.abs(bow).max(axis=1), np.abs(z[:, 2]), rtol=1e-4)


@pytest.mark.parametrize("dac_bits", [1, 8], ids=["by table", "by product"])
def test_a_gain_of_the_one_converter_is_a_gain_of_all_results(dac_bits):
    """Nothing rounds behind a lossless converter, so its gain stays as it is."""
    keys = ["adc.mode=lossless", f"inputs.dac_bits={dac_bits}", "array.columns_per_adc=128"]
    program, x = product(overrides=keys), vectors(5)
    (op,) = (op for op in program.module.walk() if isinstance(op, MvmOp))
    z = Draw(3, "adc", weights_of(op).sym_name.data, 0, 0, 0).generator().standard_normal((1, 3))
    found = program.run(x, noise="adc{gain=0.2}", seed=3)["y"]
    np.testing.assert_allclose(found, (1 + 0.2 * z[0, 0]) * program.run(x)["y"], atol=1e-5)


def test_an_offset_is_in_steps_of_the_converter(large):
    """Full scale of 128 x 3 over 4 bits: an LSB is 25.6 level steps."""
    target = large.target
    adc = target.adc.model_copy(update={"mode": "full-scale", "bits": 4})
    coarse = replace(large, target=target.model_copy(update={"adc": adc}))
    (effect,) = effects_of(coarse.target, "adc{offset=1.0}")
    made, _, _ = programmed(coarse, "adc{offset=1.0}")
    draw = Draw(0, "adc", "x", 0, 0, 0)
    curves = effect.distortion(made.converted, draw)
    z = draw.generator().standard_normal((1, 3))
    assert made.converted.adc.step == pytest.approx(25.6)
    np.testing.assert_allclose(curves.offset, z[0, 1])
    assert not curves.gain.any() and not curves.bow.any()
    assert effect.conversion(made.converted) == 0
    (noisy,) = effects_of(coarse.target, "adc{noise=0.5}")
    assert noisy.conversion(made.converted) == pytest.approx(12.8)


def test_noise_of_reads_is_fresh_and_as_large_as_it_says():
    """The variance of a sum is that of its cells, in proportion to what they conduct."""
    program = product(overrides=["adc.mode=lossless", "inputs.dac_bits=8"])
    made, _, _ = programmed(program, "read{sigma=0.2}")
    levels, p = made.physical.levels.astype(float), made.physical
    sigma = np.sqrt(made.variances * made.variance_unit)
    np.testing.assert_allclose(sigma, 0.2 * levels, rtol=1e-5)
    x = np.ones((300, 6, 20), np.float32)
    error = (program.run(x, noise="read{sigma=0.2}")["y"] - program.run(x)["y"]).reshape(-1, 4)
    assert np.unique(error[:, 0]).size > 1500
    scale = next(op.scale.value.data for op in program.module.walk() if op.name == "xbar.quantize")
    code = min(255, np.rint(1 / scale))
    by_line = (0.2 * levels) ** 2 * code**2 * 16.0**p.slice
    variance = [by_line[:, p.column == n].sum() for n in range(4)]
    (name,) = (n for n in program.weights if n.endswith(".scale"))
    expected = np.sqrt(variance) * scale * program.weights[name]
    # 1800 draws: the standard error of a spread is 1.7 %.
    np.testing.assert_allclose(error.std(axis=0), expected, rtol=0.07)
    np.testing.assert_allclose(error.mean(axis=0), 0, atol=0.1 * expected.max())


def test_a_curve_stays_as_it_is_beyond_its_range():
    published = ConductanceSpread("polynomial", 2.0, (), "milo-2021")
    g = np.array([0.0, 100.0, 225.0, 400.0])
    expected = 2 * (4.782321 - 0.009107 * np.array([0.0, 100.0, 225.0, 225.0]))
    np.testing.assert_allclose(published.spread(g), expected)


def test_a_spread_that_saturates():
    """SONOS: 0.1988665 (1 - exp(-g / 1.763115)) uS."""
    found = ConductanceSpread("saturating", None, (0.1988665, 1.763115)).spread(
        np.array([0.0, 1.763115, 16.0])
    )
    np.testing.assert_allclose(found, [0.0, 0.1988665 * (1 - 1 / np.e), 0.198844], rtol=1e-4)


@pytest.mark.parametrize("encoding", ["differential", "offset"])
def test_lines_keep_their_places_where_others_are_gated(encoding):
    program = compiled("kernel-first", [f"array.encoding={encoding}"])
    gated, target = 0, program.target
    for op in program.module.walk():
        if not isinstance(op, MvmOp):
            continue
        weights, placed = weights_of(op), coverage_of(op, program.weights)
        for array in (a for t in tiles_of(op, program.weights, target, 0) for a in t.arrays):
            dense = placed.dense(program.weights[weights.symbol], placed.tiles[array.tile].tolist())
            levels = weight_levels(dense, weights.weight_bits, target.array.cell_bits, encoding)
            cells = levels.transpose(2, 3, 0, 1).reshape(len(dense), -1)
            held = cells[np.ix_(array.word_lines, array.bit_lines)]
            np.testing.assert_array_equal(array.levels, held)
            gated += held.size < cells.size
    assert gated


def test_noise_of_conversions_is_fresh_and_as_large_as_it_says():
    program = product(overrides=["adc.mode=lossless", "inputs.dac_bits=8"])
    x = np.ones((300, 6, 20), np.float32)
    error = (program.run(x, noise="adc{noise=3.0}")["y"] - program.run(x)["y"]).reshape(-1, 4)
    assert np.unique(error[:, 0]).size > 1500
    scale = next(op.scale.value.data for op in program.module.walk() if op.name == "xbar.quantize")
    (name,) = (n for n in program.weights if n.endswith(".scale"))
    # 4 slices of both polarities.
    sigma = 3.0 * np.sqrt(2 * (16.0 ** np.arange(4)).sum()) * scale * program.weights[name]
    np.testing.assert_allclose(error.std(axis=0), sigma, rtol=0.1)
    np.testing.assert_allclose(error.mean(axis=0), 0, atol=0.1 * sigma.max())
