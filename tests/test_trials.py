"""Trials: many runs, each with devices drawn anew; what they say together, and what is kept."""

import contextlib
import dataclasses
import json
import math
import os
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dask.config
import distributed
import numpy as np
import pytest
from models import text_model
from typer.testing import CliRunner

import xbarc
from xbarc import cli
from xbarc.artifact import trials as kept
from xbarc.artifact.runs import program_hash
from xbarc.artifact.trials import Header, Trial, recorded
from xbarc.driver import cluster
from xbarc.driver.statistics import student_t, summary
from xbarc.driver.trials import Bench, vary_of
from xbarc.simulator.analog.engine import AnalogEngine
from xbarc.simulator.interpreter import Simulator
from xbarc.simulator.noise import effects_of
from xbarc.simulator.one_layer import OneLayerEngine
from xbarc.support.errors import UsageError, XbarcError

CLASSIFIER = """g (float[N,20] x) => (float[N,5] y) <float[20,16] a, float[16,5] b>
{ h = MatMul(x, a) r = Relu(h) y = MatMul(r, b) }"""
NOISE = "programming{sigma=0.3}"

MORTAL = """
import os
import signal
from dataclasses import dataclass
from typing import ClassVar

from xbarc.simulator.effect import Effect


@dataclass(frozen=True)
class Mortal(Effect):
    '''Cells lose up to `share`; the process with the seed of FATAL_SEED ends there and then.'''

    name: ClassVar[str] = "mortal"

    share: float = 0.9

    def age(self, g, array, draw):
        if os.environ.get("FATAL_SEED") == str(draw.seed):
            os.kill(os.getpid(), signal.SIGKILL)
        return g * (1 - self.share * draw.generator().random(g.shape))
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A classifier, and what it says without effects as labels."""
    folder = tmp_path_factory.mktemp("made")
    x = np.random.default_rng(0).random((30, 20), dtype=np.float32)
    options = {"calibration": x, "overrides": ["adc.mode=lossless"]}
    program = xbarc.compile(text_model(CLASSIFIER), "mca128", **options)
    program.save(folder / "out.xbar")
    np.savez(folder / "x.npz", x=x, y=program.run(x)["y"].argmax(axis=1))
    (folder / "mortal.py").write_text(MORTAL)
    return folder


@pytest.fixture
def saved(made, tmp_path, monkeypatch):
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)


def call(*options):
    command = ["run", "out.xbar", "--input", "x.npz", *map(str, options)]
    return CliRunner().invoke(cli.app, command)


def run(*options):
    done = call("--labels", "y", "--json", *options)
    assert done.exit_code == 0, done.exception
    return json.loads(done.stdout)


def refusal(*options):
    error = call(*options).exception
    assert isinstance(error, XbarcError), error
    assert "\n" not in str(error)
    return error


def accuracies(result):
    return [one["accuracy"] for one in result["each"]]


def file():
    (found,) = Path("out.xbar/runs").glob("*.trials.jsonl")
    return found


def lines():
    return [json.loads(line) for line in file().read_text().splitlines()]


@pytest.fixture
def ran(monkeypatch):
    """The trials that were really run here."""
    found, trial = [], Bench.trial

    def counted(self, which, **options):
        found.append(tuple(which))
        return trial(self, which, **options)

    monkeypatch.setattr(Bench, "trial", counted)
    return found


# --- Statistics


def test_the_figures_of_known_numbers():
    found = summary([0.9, 0.7, 0.8, 0.6])
    # t of three degrees of freedom, from the table: 3.182446.
    reach = 3.182446305 * np.std([0.9, 0.7, 0.8, 0.6], ddof=1) / 2
    assert found.mean == pytest.approx(0.75)
    assert found.std == pytest.approx(np.std([0.9, 0.7, 0.8, 0.6], ddof=1))
    assert (found.worst, found.best) == (0.6, 0.9)
    assert found.median == pytest.approx(0.75)
    assert found.interval == pytest.approx((0.75 - reach, 0.75 + reach))


def test_one_trial_has_no_spread_and_no_interval_leaves_0_to_1():
    assert dataclasses.astuple(summary([0.5])) == (0.5, None, 0.5, 0.5, 0.5, None)
    assert summary([0.0, 1.0]).interval == (0.0, 1.0)
    assert summary([0.5, 0.5]).interval == (0.5, 0.5)


@pytest.mark.parametrize(
    ("freedom", "t"),
    # Tables of Student's t, 97.5 %.
    {
        1: 12.7062047,
        2: 4.3026527,
        3: 3.1824463,
        4: 2.7764451,
        9: 2.2621572,
        10: 2.2281389,
        30: 2.0422725,
        99: 1.9842170,
        1000: 1.9623391,
    }.items(),
)
def test_quantiles_of_student(freedom, t):
    assert student_t(freedom) == pytest.approx(t, abs=1e-7)


# --- Trials


def test_a_trial_is_the_run_with_its_seed(saved):
    found = run("--noise", NOISE, "--trials", 4, "--seed", 5)
    alone = [run("--noise", NOISE, "--seed", seed)["accuracy"] for seed in (5, 6, 7, 8)]
    assert accuracies(found) == alone
    assert len(set(alone)) > 1
    assert [one["seed"] for one in found["each"]] == [5, 6, 7, 8]
    assert (found["samples"], found["trials"], found["seed"]) == (30, 4, 5)
    assert found["effects"] == [NOISE]
    assert found["accuracy"] == {
        **dataclasses.asdict(summary(alone)),
        "interval": list(summary(alone).interval),
    }
    shown = call("--labels", "y", "--noise", NOISE, "--trials", 4, "--seed", 5).stdout
    assert f"mean accuracy      {np.mean(alone):.2%}\n" in shown
    assert "trials             4, seeds 5 to 8\n" in shown


def test_the_limit_and_batches_of_a_run_are_those_of_trials(saved, monkeypatch):
    asked, simulate = [], Simulator.run

    def counted(self, feeds, **options):
        asked.append((options["batch"], options["threads"]))
        return simulate(self, feeds, **options)

    monkeypatch.setattr(Simulator, "run", counted)
    options = ["--noise", NOISE, "--limit", "7", "--no-record"]
    found = run(*options, "--trials", 2, "--batch", 2, "--threads", 3)
    assert found["samples"] == 7
    assert asked == [(2, 3), (2, 3)]
    assert accuracies(found) == [run(*options, "--seed", s)["accuracy"] for s in (0, 1)]


def test_a_varied_option_replaces_the_one_that_is_given(saved):
    given = "programming{sigma=0.7 model=lognormal}"
    values = "programming.sigma=0,0.3"
    found = run("--noise", given, "--vary", values, "--trials", 2)
    assert found["vary"] == "programming.sigma"
    assert found["effects"] == ['programming{model="lognormal"}']
    assert [point["value"] for point in found["values"]] == [0, 0.3]
    assert accuracies(found["values"][0]) == [1, 1]
    noise = "programming{sigma=0.3 model=lognormal}"
    assert found["values"][1] | {"value": 0.3} == found["values"][1]
    again = run("--noise", noise, "--trials", 2, "--no-record")
    assert accuracies(found["values"][1]) == accuracies(again)
    assert found["values"][1]["accuracy"] == again["accuracy"]
    shown = call("--labels", "y", "--noise", given, "--vary", values, "--trials", 2).stdout
    assert "programming.sigma" in shown and "100.00% to 100.00%" in shown


def test_words_and_whole_numbers_vary_too(saved, tmp_path):
    found = run("--noise", "drift", "--vary", "drift.compensation=none,global", "--trials", 1)
    assert [point["value"] for point in found["values"]] == ["none", "global"]
    (tmp_path / "d.toml").write_text("[programming]\nsigma = 0.3\n[verify]\ntolerance = 0.1\n")
    found = run("--device", "d.toml", "--vary", "verify.max-pulses=1,9", "--trials", 2)
    assert found["vary"] == "verify.max_pulses"
    assert found["values"][0]["accuracy"] != found["values"][1]["accuracy"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("progamming.sigma=0.1", "unknown device effect 'progamming': did you mean 'programming'"),
        ("programming.sgima=0.1", "effect 'programming' has no option 'sgima'"),
        ("programming.sigma=0.1,-1", "effect 'programming': sigma = -1"),
        ("programming.sigma=0.1,big", "option 'sigma' expects float | None, got big"),
        ("programming.sigma=0.1,nan", "write effect.option=value,value"),
        ("programming.sigma", "write effect.option=value,value"),
        ("programming.sigma=", "write effect.option=value,value"),
        ("programming=0.1", "write effect.option=value,value"),
        ('stuck.map="a.npz"', "values are numbers or words"),
    ],
)
def test_what_cant_vary_is_refused_before_anything_runs(saved, ran, text, message):
    error = refusal("--labels", "y", "--trials", 2, "--vary", text)
    assert isinstance(error, UsageError)
    assert message in str(error)
    assert not ran and not Path("out.xbar/runs").exists()


def test_layers_by_what_they_lose(saved):
    found = run("--noise", NOISE, "--trials", 3, "--by-layer")
    assert found["without_effects"] == 1.0
    assert {layer["layer"] for layer in found["layers"]} == {"MatMul", "MatMul_1"}
    lost = [layer["lost"] for layer in found["layers"]]
    assert lost == sorted(lost, reverse=True)
    for layer in found["layers"]:
        assert layer["lost"] == pytest.approx(1 - np.mean(accuracies(layer)))
    assert [line for line in lines()[1:] if line["seed"] is None] == [
        {"value": None, "layer": None, "seed": None, "accuracy": 1.0, "samples": 30}
    ]
    shown = call("--labels", "y", "--noise", NOISE, "--trials", 3, "--by-layer").stdout
    assert shown.index(found["layers"][0]["layer"] + " ") < shown.index(f"{lost[1]:.2%}")


def test_all_layers_but_one_are_exact(made):
    program = xbarc.load(made / "out.xbar")
    x = {"x": np.load(made / "x.npz")["x"]}
    effects = effects_of(program.target, "programming{sigma=0.5}")

    def simulated(engine):
        """The codes that meet the second layer, the outputs, and which layers are exact."""
        seen = []

        def observe(op, codes, first):
            if len(codes) == 16:
                seen.append(codes.copy())

        simulator = Simulator(program, engine=engine, observe=observe, seed=1)
        y = simulator.run(x, batch=30, threads=1)["y"]
        # Only the exact engine proves that nothing can be lost.
        exact = {name for name, s in simulator.statistics().items() if s.lossless}
        return np.concatenate(seen, axis=1), y, exact

    real = AnalogEngine(effects)
    exact_codes, exact_y, both = simulated(None)
    assert both == {"MatMul", "MatMul_1"}
    codes, y, exact = simulated(OneLayerEngine("MatMul_1", real))
    np.testing.assert_array_equal(codes, exact_codes)
    assert exact == {"MatMul"} and not np.array_equal(y, exact_y)
    codes, _, exact = simulated(OneLayerEngine("MatMul", real))
    np.testing.assert_array_equal(codes, simulated(real)[0])
    assert exact == {"MatMul_1"} and not np.array_equal(codes, exact_codes)


def test_effects_are_held_to_the_layers_also_one_by_one(saved, ran):
    np.savez("faults.npz", MatMul=np.zeros((1, 1), np.int8))
    noise = 'stuck{map="faults.npz"}'
    error = refusal("--labels", "y", "--trials", 2, "--by-layer", "--noise", noise)
    assert "'MatMul' is [1, 1]" in str(error)
    assert not ran


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--trials", "2", "--noise", NOISE], "--trials compares accuracies: give --labels"),
        (["--trials", "2", "--labels", "y"], "all trials would be alike: there are no effects"),
        (
            ["--trials", "2", "--labels", "y", "--noise", "none", "--device", "rram"],
            "all trials would be alike",
        ),
        (["--trials", "2", "--labels", "y", "--ideal"], "--trials doesn't go with --ideal"),
        (["--trials", "2", "--labels", "y", "--output", "y.npz"], "doesn't go with --output"),
        (["--trials", "2", "--labels", "y", "--activity"], "doesn't go with --activity"),
        (["--labels", "y", "--vary", "read.sigma=1"], "--vary is about trials: give --trials"),
        (["--labels", "y", "--by-layer"], "--by-layer is about trials: give --trials"),
        (["--labels", "y", "--workers", "2"], "--workers is about trials: give --trials"),
        (["--labels", "y", "--scheduler", "tcp://a:1"], "--scheduler is about trials"),
        (
            ["--trials", "2", "--labels", "y", "--by-layer", "--vary", "read.sigma=1"],
            "--vary and --by-layer don't go together",
        ),
        (
            ["--trials", "2", "--labels", "y", "--workers", "2", "--scheduler", "tcp://a:1"],
            "--workers and --scheduler don't go together",
        ),
        (
            ["--trials", "2", "--labels", "y", "--noise", NOISE, "--scheduler", "bad://a"],
            "--scheduler bad://a: unknown address scheme",
        ),
    ],
)
def test_options_that_dont_go_together_are_refused_in_one_line(saved, ran, options, message):
    error = refusal(*options)
    assert isinstance(error, UsageError)
    assert message in str(error)
    assert not ran and not Path("out.xbar/runs").exists()


def test_what_a_program_answers_is_what_the_command_answers(saved):
    program, data = xbarc.load("out.xbar"), np.load("x.npz")
    asked = {"trials": 3, "seed": 2, "noise": NOISE}
    found = program.trials(data["x"], data["y"], **asked)
    told = run("--noise", NOISE, "--trials", 3, "--seed", 2)
    assert json.loads(json.dumps(found.document())) == told
    assert found.accuracy.mean == told["accuracy"]["mean"]
    found = program.trials({"x": data["x"]}, data["y"], **asked, by_layer=True, threads=1)
    told = run("--noise", NOISE, "--trials", 3, "--seed", 2, "--by-layer")
    assert json.loads(json.dumps(found.document())) == told
    with pytest.raises(UsageError, match="there are 2 results"):
        assert found.accuracy
    found = program.trials(data["x"], data["y"], trials=1, vary="read.sigma=0,0.1")
    assert [result.value for result in found.results] == [0, 0.1]


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        (np.zeros(30, int), {}, "all trials would be alike"),
        (np.zeros(29, int), {"noise": NOISE}, "there are 29 labels for 30 samples"),
        (
            np.zeros(30),
            {"noise": NOISE},
            "give an integer class a sample, one-hot classes, or a mask",
        ),
        (np.zeros(30, int), {"noise": NOISE, "trials": 0}, "trials = 0: give a whole number"),
    ],
)
def test_what_a_program_refuses(made, labels, options, message):
    program, x = xbarc.load(made / "out.xbar"), np.load(made / "x.npz")["x"]
    with pytest.raises(XbarcError, match=message):
        program.trials(x, labels, **{"trials": 2, **options})


# --- What is kept


def test_trials_that_are_there_arent_run_again(saved, ran):
    first = run("--noise", NOISE, "--trials", 3)
    assert len(ran) == 3
    found = run("--noise", NOISE, "--trials", 3, "--seed", 1, "--threads", 1, "--batch", 3)
    assert ran[3:] == [(None, None, 3)]
    assert accuracies(found)[:2] == accuracies(first)[1:]
    head, *rest = lines()
    assert head | {"at": 0} == {
        "format": 1,
        "at": 0,
        "program": program_hash(Path("out.xbar")),
        "input": "x.npz",
        "data": head["data"],
        "options": {
            **{"labels": "y", "metric": None, "limit": None},
            **{"noise": NOISE, "device": None, "plugin": []},
        },
        "effects": [NOISE],
        "vary": None,
        "by_layer": False,
    }
    assert rest == [
        {"value": None, "layer": None, "seed": seed, "accuracy": accuracy, "samples": 30}
        for seed, accuracy in enumerate([*accuracies(first), accuracies(found)[2]])
    ]


def test_another_value_of_what_varies_goes_to_the_same_file(saved, ran):
    run("--vary", "read.sigma=0.1,0.2", "--trials", 2)
    del ran[:]
    run("--vary", "read.sigma=0.2,0.3", "--trials", 2)
    assert ran == [(0.3, None, 0), (0.3, None, 1)]
    assert [line["value"] for line in lines()[1:]] == [0.1, 0.1, 0.2, 0.2, 0.3, 0.3]


def test_what_changes_accuracy_begins_anew(saved, ran):
    """Names of files don't count, what is in them does."""
    Path("d.toml").write_text("[programming]\nsigma = 0.3\n")
    np.savez("faults.npz", MatMul=np.zeros((1, 1, 1, 128, 128), np.int8))
    with np.load("x.npz") as data:
        np.savez("z.npz", x=data["x"], y=data["y"], t=(data["y"] + 1) % 5)
        shutil.copy("z.npz", "same.npz")
    common = ["--trials", "1", "--plugin", "mortal.py", "--device", "d.toml"]
    common += ["--noise", 'stuck{map="faults.npz"}']
    command = ["run", "out.xbar", "--json"]

    def count(data, *options, labels="y"):
        options = [*command, "--input", data, "--labels", labels, *common, *options]
        done = CliRunner().invoke(cli.app, options)
        assert done.exit_code == 0, done.exception
        return len(ran)

    assert count("z.npz") == count("same.npz") == count("same.npz", "--threads", "1") == 1
    shutil.move("d.toml", "e.toml")
    common[common.index("d.toml")] = "e.toml"
    assert count("z.npz") == 1
    assert count("z.npz", "--limit", "9") == 2
    assert count("z.npz", labels="t") == 3
    assert count("z.npz", "--by-layer") == 6
    assert count("z.npz", "--vary", "read.sigma=0") == 7
    assert count("x.npz") == 8
    Path("e.toml").write_text("[programming]\nsigma = 0.31\n")
    assert count("z.npz") == 9
    Path("mortal.py").write_text(MORTAL + "\n")
    assert count("z.npz") == 10
    np.savez("faults.npz", MatMul=np.ones((1, 1, 1, 128, 128), np.int8))
    assert count("z.npz") == 11
    x = np.load("x.npz")["x"]
    xbarc.compile(text_model(CLASSIFIER), "mca128", calibration=x / 2).save("b.xbar")
    command[1] = "b.xbar"
    assert count("z.npz") == 12


def test_a_line_that_was_cut_short_is_run_again_and_overwritten(saved, ran):
    found = run("--noise", NOISE, "--trials", 3)
    whole = file().read_bytes()
    file().write_bytes(whole[:-20])
    del ran[:]
    assert run("--noise", NOISE, "--trials", 3) == found
    assert ran == [(None, None, 2)]
    assert file().read_bytes() == whole
    # So is a line that lacks its end alone, and a header.
    file().write_bytes(whole[:-1])
    assert run("--noise", NOISE, "--trials", 3) == found
    assert file().read_bytes() == whole
    file().write_bytes(whole[:70])
    assert run("--noise", NOISE, "--trials", 3) == found
    assert [line.get("seed") for line in lines()] == [None, 0, 1, 2]


def test_what_was_done_when_a_process_is_killed_stays(saved, ran):
    options = ["--noise", "mortal", "--plugin", "mortal.py"]
    code = "from xbarc.cli import main; main()"
    command = ["run", "out.xbar", "--input", "x.npz", "--labels", "y", *options, "--trials", "5"]
    done = subprocess.run(
        [sys.executable, "-c", code, *command],
        env={**os.environ, "FATAL_SEED": "3"},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, b"xbarc: killed" in done.stderr) == (1, True)
    assert [line["seed"] for line in lines()[1:]] == [0, 1, 2]
    found = run(*options, "--trials", 5)
    assert ran == [(None, None, 3), (None, None, 4)]
    assert accuracies(found) == accuracies(run(*options, "--trials", 5, "--no-record"))


def test_nothing_is_kept_where_not_wanted(saved, ran):
    run("--noise", NOISE, "--trials", 2, "--no-record")
    assert not Path("out.xbar/runs").exists()
    run("--noise", NOISE, "--trials", 2)
    run("--noise", NOISE, "--trials", 2, "--no-record")
    assert len(ran) == 6


def test_trials_that_cant_be_kept_still_answer(saved):
    Path("out.xbar/runs").write_text("")
    done = call("--labels", "y", "--json", "--noise", NOISE, "--trials", 3)
    assert json.loads(done.stdout)["trials"] == 3
    assert done.stderr.count("trials aren't kept") == 1


def header(**changes):
    options = kept.Options(labels="y")
    values = {"at": "2026-01-01T00:00:00Z", "program": program_hash(Path("out.xbar"))}
    values |= {"input": "x.npz", "data": "0" * 64, "options": options, "effects": [], **changes}
    return Header(**values)


@pytest.mark.parametrize(
    "content",
    [b"", b'{"format":1,', b"not ours", b"not ours\n", b"\n", b'{"format":1,"at":"x"}\n', b"[1]\n"],
)
def test_a_file_that_isnt_ours_is_left_alone(saved, content):
    run("--noise", NOISE, "--trials", 2)
    name, ours = file(), content in (b"", b'{"format":1,')
    name.write_bytes(content)
    done = call("--labels", "y", "--json", "--noise", NOISE, "--trials", 2)
    assert json.loads(done.stdout)["trials"] == 2
    assert ("not trials that xbarc wrote" in done.stderr) is not ours
    assert (name.read_bytes() == content) is not ours


def test_files_of_another_program_data_or_format_are_left_out(saved):
    run("--noise", NOISE, "--trials", 2)
    head, rest = file().read_bytes().split(b"\n", 1)
    entry = json.loads(head)
    changes = [{"program": "0" * 64}, {"data": "0" * 64}, {"format": 2}, {"vary": "read.sigma"}]
    for change in changes:
        text = json.dumps({**entry, **change}, separators=(",", ":")).encode() + b"\n" + rest
        file().write_bytes(text)
        done = call("--labels", "y", "--json", "--noise", NOISE, "--trials", 2)
        assert json.loads(done.stdout)["trials"] == 2
        assert done.stderr.count("xbarc: warning: trials aren't kept") == 1
        assert file().read_bytes() == text


def test_damaged_lines_are_left_out_and_the_others_count(saved, ran):
    found = run("--noise", NOISE, "--trials", 4)
    head, *rest = file().read_text().splitlines()
    rest[0] = "{"
    rest[1] = rest[1].replace('"accuracy":', '"accuracy":1')
    file().write_text("\n".join([head, *rest, rest[2]]) + "\n")
    (record,), faults = recorded(Path("out.xbar"))
    assert [trial.seed for trial in record.trials] == [2, 3]
    assert [fault.partition(".jsonl")[2] for fault in faults] == [
        ":2: not a trial that xbarc wrote (not JSON): left out",
        ":3: not a trial that xbarc wrote (accuracy): left out",
    ]
    del ran[:]
    done = call("--labels", "y", "--json", "--noise", NOISE, "--trials", 4)
    assert json.loads(done.stdout) == found
    assert [seed for _, _, seed in ran] == [0, 1]
    assert done.stderr.count("not a trial that xbarc wrote") == 2


def test_kept_trials_are_checked_when_read(saved):
    run("--noise", NOISE, "--trials", 2)
    run("--noise", NOISE, "--trials", 2, "--by-layer")
    shutil.copytree("out.xbar/runs", "kept")
    Path("out.xbar/runs/mine.trials.jsonl").write_text("mine\n")
    records, faults = recorded(Path("out.xbar"))
    assert sorted(len(record.trials) for record in records) == [2, 5]
    assert len(faults) == 1
    other = xbarc.compile(text_model(CLASSIFIER), "mca64", calibration=np.load("x.npz")["x"])
    with pytest.raises(XbarcError, match=r"also holds runs/mine\.trials\.jsonl"):
        other.save("out.xbar")
    Path("out.xbar/runs/mine.trials.jsonl").unlink()
    other.save("out.xbar")
    assert recorded(Path("out.xbar")) == ([], [])
    shutil.copytree("kept", "out.xbar/runs")
    records, faults = recorded(Path("out.xbar"))
    assert not records
    assert all("of another program" in fault for fault in faults) and len(faults) == 2


def test_trials_of_a_program_that_was_replaced_meanwhile_arent_kept(saved):
    trial = Trial(seed=0, accuracy=1, samples=1)
    with pytest.raises(XbarcError, match="compiled again meanwhile"):
        kept.append(Path("out.xbar"), "0" * 16, header(program="1" * 64), trial)


def test_two_that_append_at_once_lose_nothing(saved):
    path, key, head = Path("out.xbar"), "0" * 16, header()

    def some(first):
        for seed in range(first, first + 40):
            kept.append(path, key, head, Trial(seed=seed // 2, accuracy=0.5, samples=1))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(some, range(0, 320, 40)))
    assert len(lines()) == 321
    (record,), faults = recorded(path)
    assert not faults
    assert sorted(trial.seed for trial in record.trials) == [*range(160)]


def test_only_one_at_a_time_looks_at_the_file_and_writes(saved, monkeypatch):
    """Whoever writes waits for a second one, who can't come as long as the first is there."""
    both, met, write = threading.Barrier(2), [], kept._write

    def waiting(descriptor, text):
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait(0.5)
            met.append(text)
        write(descriptor, text)

    monkeypatch.setattr(kept, "_write", waiting)

    def one(seed):
        trial = Trial(seed=seed, accuracy=1, samples=1)
        kept.append(Path("out.xbar"), "0" * 16, header(), trial)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(one, range(2)))
    assert not met
    assert len(lines()) == 3


def test_where_there_are_no_locks_lines_are_appended_still(saved, monkeypatch):
    trials, write = [Trial(seed=s, accuracy=1, samples=1) for s in range(3)], kept._write
    kept.append(Path("out.xbar"), "0" * 16, header(), trials[0])

    def late(descriptor, text):
        with file().open("ab") as other:
            other.write(trials[1].model_dump_json().encode() + b"\n")
        write(descriptor, text)

    monkeypatch.setattr(kept, "_write", late)
    monkeypatch.setattr(kept, "fcntl", None)
    kept.append(Path("out.xbar"), "0" * 16, header(), trials[2])
    assert [line["seed"] for line in lines()[1:]] == [0, 1, 2]


def test_old_files_make_room_and_others_stay(saved, monkeypatch):
    monkeypatch.setattr(kept, "KEPT", 2)
    folder = Path("out.xbar/runs")
    folder.mkdir()
    others = ["mine.trials.jsonl", f"{'a' * 16}.trials.jsonl", "notes.txt"]
    for name in others:
        (folder / name).write_text("mine\n")
    for number in range(4):
        kept.append(
            Path("out.xbar"), f"{number:016}", header(), Trial(seed=1, accuracy=1, samples=1)
        )
        os.utime(folder / f"{number:016}.trials.jsonl", (number, number))
    # The oldest is the one that was written to longest ago.
    assert sorted(p.name for p in folder.iterdir()) == sorted(
        [*others, *(f"{number:016}.trials.jsonl" for number in (2, 3))]
    )


# --- Workers


def test_workers_give_the_same_bits_with_plugins_too(saved):
    options = ["--plugin", "mortal.py", "--vary", "mortal.share=0.1,0.9", "--trials", 3]
    # One thread for two workers: each has one.
    found = run(*options, "--workers", 2, "--threads", 1)
    assert found == run(*options, "--no-record")
    assert len(lines()) == 7
    # What they have done counts as anybody's does.
    assert found == run(*options)
    assert len(lines()) == 7


def test_a_worker_that_ends_each_time_ends_the_trials_in_one_line(saved, monkeypatch):
    monkeypatch.setenv("FATAL_SEED", "0")
    options = ["--plugin", "mortal.py", "--noise", "mortal", "--trials", 1, "--workers", 1]
    with dask.config.set({"distributed.scheduler.allowed-failures": 0}):
        assert "workers ended while they ran a trial" in str(refusal("--labels", "y", *options))


def test_a_running_cluster_needs_the_same_files(saved, monkeypatch):
    options = ["--noise", NOISE, "--trials", 2, "--no-record"]
    options += ["--plugin", "mortal.py"]
    with distributed.LocalCluster(
        n_workers=1,
        threads_per_worker=2,
        processes=False,
        protocol="tcp://",
        dashboard_address="127.0.0.1:0",
        silence_logs=50,
    ) as running:
        address = running.scheduler_address
        assert run(*options, "--scheduler", address) == run(*options)
        absolute = cluster._absolute

        def elsewhere(name):
            """As the same path is on a machine that has something else there, or nothing."""
            monkeypatch.setattr(
                cluster, "_absolute", lambda s: dataclasses.replace(absolute(s), **name)
            )
            return str(refusal("--labels", "y", *options, "--scheduler", address))

        assert "no such program: workers need the same files" in elsewhere(
            {"program": Path("nowhere/out.xbar")}
        )
        assert "no such file: workers need" in elsewhere({"plugins": (Path("nowhere.py"),)})
        with np.load("x.npz") as data:
            np.savez("other.npz", x=data["x"] * 2, y=data["y"])
        assert "has another content there: workers need" in elsewhere({"data": Path("other.npz")})


def test_without_dask_one_line_says_what_to_install(saved, monkeypatch, ran):
    monkeypatch.setitem(sys.modules, "distributed", None)
    options = ["--labels", "y", "--noise", NOISE, "--trials", 2]
    for where in (["--workers", "2"], ["--scheduler", "tcp://a:1"]):
        assert "pip install 'xbarc[cluster]'" in str(refusal(*options, *where))
    assert not ran
    assert call(*options).exit_code == 0


def test_values_are_as_they_are_written():
    assert vary_of("wire.drive-from= 1, 0.5,1,left-side ").values == (1, 0.5, "left-side")
    assert math.isclose(vary_of("a.b=1e-3").values[0], 1e-3)
