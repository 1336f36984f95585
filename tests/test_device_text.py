"""Device effects as text, as tables of a target, as devices by name; commands that take them."""

import html
import json
import re
import shlex
import tomllib
from pathlib import Path
from unittest.mock import ANY

import numpy as np
import pytest
from test_addition_effect import FATIGUE
from test_analog import product, vectors
from typer.testing import CliRunner

import xbarc
from xbarc import cli
from xbarc.hw.target import dump_target, load_target, parse_target
from xbarc.simulator import devices
from xbarc.simulator.effect import EFFECTS
from xbarc.simulator.noise import device_names, effects_of, engine_for, load_device
from xbarc.support.errors import UsageError, XbarcError

TARGET = load_target("mca128")


def texts(noise="", device=None, sets=()):
    target = load_target("mca128", sets)
    return [str(effect) for effect in effects_of(target, noise, device)]


# --- The text


def test_effects_are_read_with_their_options_and_stand_in_their_order():
    noise = "read{sigma=0.02},stuck{on=0.001 off=1e-3},programming{model=lognormal sigma=0.05}"
    assert texts(noise) == [
        'programming{sigma=0.05 model="lognormal"}',
        "read{sigma=0.02}",
        "stuck{on=0.001 off=0.001}",
    ]
    assert texts(",".join(texts(noise))) == texts(noise)
    assert texts() == texts("none") == []


@pytest.mark.parametrize(
    ("noise", "message"),
    [
        ("raed{sigma=0.1}", "unknown device effect 'raed': did you mean 'read'?"),
        ("read{sgima=0.1}", "effect 'read' has no option 'sgima': did you mean 'sigma'?"),
        ("read{sigma=-0.1}", "effect 'read': sigma = -0.1: give a number of 0 or more"),
        ("read{sigma=nan}", "effect 'read': sigma = nan: give a number of 0 or more"),
        ("read{sigma=big}", "effect 'read': option 'sigma' expects float | None, got big"),
        ("read", "effect 'read': mode = proportional needs sigma"),
        ("read{sigma=0.1},read{sigma=0.2}", "--noise: effect 'read' is given twice"),
        ("none,read{sigma=0.1}", "--noise: 'none' stands alone: it is no effect at all"),
        ("programming{mode=polynomial}", "needs either coefficients or curve"),
        ("programming{mode=polynomial curve=wan-2022 coefficients=1.0,2.0}", "needs either"),
        ("programming{sigma=0.1 curve=wan-2022}", "go with mode=polynomial or saturating"),
        ("programming{mode=saturating coefficients=1.0}", "needs coefficients=a,b"),
        ("verify{tolerance=0.1 max_pulses=0}", "max_pulses = 0: give 1 or more"),
        ("verify", "effect 'verify' needs option 'tolerance' (float)"),
        ("stuck", "give either rates (on=0.001 off=0.001) or map=faults.npz"),
        ("stuck{on=0.7 off=0.7}", "give shares from 0 to 1, together at most 1"),
        ("stuck{on=-0.1}", "give shares from 0 to 1, together at most 1"),
        ("drift{t0=0.0}", "t0 = 0.0: give a number above 0"),
        ("drift{temperature=350.0}", "temperature and activation go together"),
        ("drift{nu=-0.1}", "nu = -0.1: give a number of 0 or more"),
        ("ratio{g_on=1.0 g_off=5.0}", "ratio: g_on = 1 uS must be above g_off = 5 uS"),
        ("nonlinear{k=-2.0}", "k = -2.0: give a number above -1"),
        ("adc", "effect 'adc': give offset, gain, inl or noise"),
        ("adc{inl=-1.0}", "inl = -1.0: give a number of 0 or more"),
        ("dac{sigma=-1.0}", "sigma = -1.0: give a number of 0 or more"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(noise, message):
    with pytest.raises(UsageError) as error:
        effects_of(TARGET, noise)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_text_that_cant_be_read_shows_the_place():
    with pytest.raises(UsageError) as error:
        effects_of(TARGET, "stuck{map=a.npz}")
    what, line, caret, hint = str(error.value).splitlines()
    assert what.startswith("--noise can't be read")
    assert line[caret.index("^")] == "."
    assert 'stuck{map="chips/faults.npz"}' in hint


# --- Tables of a target


def test_a_target_has_effects():
    sets = ["device.read.sigma=0.02", "device.programming.model=lognormal", "device.ratio.g_off=9"]
    target = load_target("mca128", [*sets, "device.programming.sigma=0.1"])
    assert [str(effect) for effect in effects_of(target)] == [
        "ratio{g_off=9.0}",
        'programming{sigma=0.1 model="lognormal"}',
        "read{sigma=0.02}",
    ]
    assert parse_target(dump_target(target), "again") == target
    # A text changes options, or takes all effects away.
    assert texts("read{mode=absolute}", None, sets[:1]) == ['read{mode="absolute" sigma=0.02}']
    assert texts("none", None, sets[:1]) == []


def test_an_effect_without_options_stays_in_the_target(tmp_path):
    (tmp_path / "mine.toml").write_text('base = "mca128"\n[device.ratio]\n')
    target = load_target(tmp_path / "mine.toml")
    assert [str(effect) for effect in effects_of(target)] == ["ratio"]
    assert parse_target(dump_target(target), "again") == target


def test_the_effects_of_a_base_are_changed_key_by_key(tmp_path):
    (tmp_path / "base.toml").write_text(
        'base = "mca128"\n[device.read]\nsigma = 0.1\nmode = "absolute"\nsource = "measured"\n'
    )
    (tmp_path / "mine.toml").write_text('base = "base.toml"\n[device.read]\nsigma = 0.2\n')
    (effect,) = effects_of(load_target(tmp_path / "mine.toml"))
    assert str(effect) == 'read{mode="absolute" sigma=0.2}'


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("device.g_onn_us=5", "device has no key 'g_onn_us': did you mean 'g_on_us'"),
        ("device.raed.sigma=0.1", "unknown device effect 'raed': did you mean 'read'?"),
        ("device.read.sgima=0.1", "effect 'read' has no option 'sgima': did you mean 'sigma'?"),
        ("device.read.sigma=-1.0", "effect 'read': sigma = -1.0: give a number of 0 or more"),
    ],
)
def test_a_wrong_table_is_refused_before_anything_is_compiled(key, message):
    with pytest.raises(UsageError, match=r"^[^\n]*$") as error:
        product(overrides=[key])
    assert message in str(error.value)


def test_an_unknown_key_of_the_device_is_no_effect(tmp_path):
    (tmp_path / "mine.toml").write_text('base = "mca128"\n[device]\ng_onn_us = 5.0\n')
    with pytest.raises(XbarcError, match=r"unknown key device\.g_onn_us: did you mean 'g_on_us'"):
        load_target(tmp_path / "mine.toml")


def test_a_program_keeps_its_targets_effects(tmp_path):
    program = product(overrides=["adc.mode=lossless", "device.programming.sigma=0.1"])
    program.save(tmp_path / "out.xbar")
    loaded = xbarc.load(tmp_path / "out.xbar")
    x = vectors(3)
    found = loaded.run(x)["y"]
    np.testing.assert_array_equal(found, program.run(x)["y"])
    assert not np.allclose(found, program.run(x, noise="none")["y"], rtol=1e-4)


# --- Devices


@pytest.mark.parametrize("name", device_names())
def test_every_figure_of_a_device_has_a_source(name):
    device = load_device(name)
    assert device.description
    for table in tomllib.loads(device.text).values():
        assert isinstance(table, str) or table["source"]


@pytest.mark.parametrize("name", device_names())
def test_a_device_moves_results(name):
    program, x = product(overrides=["adc.mode=lossless"]), vectors(20)
    ideal = program.run(x)["y"]
    error = np.abs(program.run(x, device=name)["y"] - ideal).mean() / np.abs(ideal).mean()
    assert 1e-4 < error < 1


def test_a_text_changes_a_devices_options():
    changed = texts("drift{time=3.2e7 compensation=global}", "pcm")
    assert (
        changed[-1]
        == 'drift{time=32000000.0 t0=20.0 nu=0.049 nu_sigma=0.008 compensation="global"}'
    )
    assert changed[:-1] == texts("", "pcm")[:-1]


def test_a_users_own_device(tmp_path):
    (tmp_path / "mine.toml").write_text('[read]\nsigma = 0.1\nsource = "measured"\n')
    assert texts("", tmp_path / "mine.toml") == ["read{sigma=0.1}"]
    for text, message in (
        ("sigma = 0.1\n", "sigma = 0.1: a device has a description, and a table for each effect"),
        ("[raed]\nsigma = 0.1\n", "unknown device effect 'raed': did you mean 'read'?"),
        ("[read\n", "not TOML"),
    ):
        (tmp_path / "mine.toml").write_text(text)
        with pytest.raises(XbarcError, match=r"^[^\n]*$") as error:
            texts("", tmp_path / "mine.toml")
        assert message in str(error.value)
    with pytest.raises(UsageError, match="unknown device 'rra': did you mean 'rram'"):
        texts("", "rra")
    with pytest.raises(XbarcError, match="No such file"):
        texts("", "none.toml")


# --- Commands


@pytest.fixture
def saved(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    product(overrides=["adc.mode=full-scale"]).save("out.xbar")
    np.savez("x.npz", x=vectors(3))


def call(*arguments):
    result = CliRunner().invoke(cli.app, [str(a) for a in arguments])
    error = result.exception if isinstance(result.exception, XbarcError) else None
    return error or result.stdout


def run(*arguments):
    return json.loads(call("run", "out.xbar", "--input", "x.npz", "--json", *arguments))


def test_run_says_its_seed_and_effects(saved):
    assert (run()["seed"], run()["effects"]) == (0, [])
    told = run("--noise", "read{sigma=0.02}", "--seed", "7", "--output", "y.npz")
    assert (told["seed"], told["effects"]) == (7, ["read{sigma=0.02}"])
    again = xbarc.load("out.xbar").run(vectors(3), noise=told["effects"][0], seed=7)
    np.testing.assert_array_equal(np.load("y.npz")["y"], again["y"])
    records = [json.loads(p.read_text()) for p in sorted(Path("out.xbar/runs").glob("*.json"))]
    assert records[-1]["options"] == {"noise": "read{sigma=0.02}", "seed": 7}
    assert records[-1]["result"]["effects"] == ["read{sigma=0.02}"]
    told = run("--device", "rram", "--noise", "stuck{on=0.0 off=0.0}")
    assert told["effects"][-1] == "stuck{on=0.0 off=0.0}"
    assert len(told["effects"]) == 3
    shown = call("run", "out.xbar", "--input", "x.npz", "--device", "sonos", "--no-record")
    assert "effect             ratio{g_on=16.0 g_off=1.6e-06}\n" in shown
    call("report", "out.xbar", "-o", "report.html")
    page = html.unescape(Path("report.html").read_text())
    assert "--noise 'read{sigma=0.02}' --seed 7" in page


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--ideal", "--noise", "read{sigma=0.1}"], "--ideal has ideal devices"),
        (["--ideal", "--device", "rram"], "--ideal has ideal devices"),
        (["--noise", "raed"], "unknown device effect 'raed'"),
        (["--device", "rra"], "unknown device 'rra'"),
    ],
)
def test_run_refuses_in_one_line_before_it_runs(saved, options, message):
    error = call("run", "out.xbar", "--input", "x.npz", *options)
    assert isinstance(error, UsageError)
    assert message in str(error) and "\n" not in str(error)
    assert not Path("out.xbar/runs").exists()


def test_ideal_is_ideal_whatever_the_target_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("x.npz", x=vectors(3))
    plain = product(overrides=["adc.mode=lossless"])
    noisy = product(overrides=["device.read.sigma=0.1", "adc.mode=saturate", "adc.bits=3"])
    noisy.save("out.xbar")
    assert run("--ideal", "--output", "y.npz")["effects"] == []
    np.testing.assert_array_equal(np.load("y.npz")["y"], plain.run(vectors(3))["y"])
    assert run("--noise", "none")["effects"] == []


def test_devices_lists_and_describes():
    listed = call("devices")
    for name in (*EFFECTS.registry().names, *device_names()):
        assert f"\n  {name} " in listed
    described = call("devices", "programming")
    assert "lognormal with the mean g" in described
    assert "  model: normal | lognormal (default normal)\n" in described
    assert "  tolerance: float (required)\n" in call("devices", "verify")
    assert call("devices", "pcm") == load_device("pcm").text
    assert "did you mean 'drift'" in str(call("devices", "drft"))


def test_a_plugins_effect_is_run(saved, tmp_path):
    Path("fatigue.py").write_text(FATIGUE)
    told = run("--plugin", "fatigue.py", "--noise", "fatigue{share=0.5}", "--output", "y.npz")
    assert told["effects"] == ["fatigue{share=0.5}"]
    assert "fatigue.py\n\nCells lose" in call("devices", "fatigue", "--plugin", "fatigue.py")
    assert "unknown device effect 'fatigue'" in str(
        call("run", "out.xbar", "--input", "x.npz", "--noise", "fatigue")
    )


def test_the_report_repeats_a_run_with_its_plugins(saved, tmp_path):
    Path("my fatigue.py").write_text(FATIGUE)
    Path("sub").mkdir()
    Path("sub/other.py").write_text(FATIGUE.replace('"fatigue"', '"other"'))
    noise = ["--noise", "fatigue{share=0.5},other", "--seed", "3"]
    told = run("--plugin", "my fatigue.py", "--plugin", "sub/other.py", *noise)
    call("report", "out.xbar", "-o", "r.html")
    page = html.unescape(Path("r.html").read_text())
    (line,) = re.findall(r"^xbarc (run .*)$", page, re.MULTILINE)
    again = call(*shlex.split(line), "--json")
    # Repeated as typed: the effects come from the same files.
    assert json.loads(again) == {**told, "images_per_second": ANY}
    assert "--plugin 'my fatigue.py' --plugin sub/other.py" in line


# --- The folder


@pytest.mark.parametrize("name", EFFECTS.registry().names)
def test_an_effect_is_in_the_file_named_after_it(name):
    effect = EFFECTS.registry().load(name)
    assert effect.name == name
    assert effect.__module__ == f"xbarc.simulator.devices.{name.replace('-', '_')}"
    assert effect.__doc__.partition("\n")[0].endswith(".")


def test_effects_have_an_order_of_their_own():
    orders = [effect.order for effect in EFFECTS.registry().all().values()]
    assert len({*orders}) == len(orders)


def test_devices_lie_in_the_package():
    folder = Path(devices.__file__).parent / "presets"
    assert {path.stem for path in folder.glob("*.toml")} == {*device_names()}
    assert engine_for(product()) is None
