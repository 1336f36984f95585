"""Help and completion: each command's examples are commands, and shells are offered names."""

import json
import os
import shlex
import subprocess
import sys

import click
import pytest
import typer
from typer.testing import CliRunner

from xbarc.cli import app, completion
from xbarc.pipeline import parse_passes
from xbarc.pipeline.registry import load_registry

ROOT = typer.main.get_command(app)
COMMANDS = sorted(ROOT.commands)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_examples_of_a_command_are_its_own(name):
    command = ROOT.commands[name]
    title, *examples = (command.epilog or "").split("\n\n")
    assert title == "Examples:"
    assert examples
    for example in examples:
        program, called, *words = shlex.split(example)
        assert (program, called) == ("xbarc", name)
        context = click.Context(command, resilient_parsing=False)
        values, rest, _ = command.make_parser(context).parse_args(list(words))
        assert not rest
        if values.get("passes") and called != "passes":
            parse_passes(values["passes"], load_registry())


def test_help_has_them():
    found = CliRunner().invoke(app, ["trace", "--help"], env={"COLUMNS": "100"})
    assert "xbarc trace model.xbar --input images.npz --layer conv1" in found.stdout


def offered(words, last=""):
    """What bash is offered behind these words, where `last` is begun."""
    line = [*map(str, words), last]
    asked = {
        "_XBARC_COMPLETE": "complete_bash",
        "COMP_WORDS": shlex.join(["xbarc", *line[:-1]]) + f" {last}",
        "COMP_CWORD": str(len(line)),
    }
    code = "import sys; from xbarc.cli import main; sys.argv = ['xbarc']; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **asked}, capture_output=True, text=True
    )
    assert not done.stderr
    return done.stdout.split()


def test_names_are_offered(tmp_path):
    assert offered(["compile", "m.onnx", "--target"], "mca1") == ["mca128"]
    assert "isaac" in offered(["sweep", "m.onnx", "--target"])
    assert offered(["compile", "m.onnx", "--passes"], "fold-batchnorm,im2") == [
        "fold-batchnorm,im2col"
    ]
    assert "pcm" in offered(["run", "a.xbar", "--device"])
    assert offered(["run", "a.xbar", "--metric"], "top") == ["top1", "top5"]
    program = tmp_path / "a.xbar"
    program.mkdir()
    rows = [{"name": n, "op": "Conv"} for n in ("conv1", "conv2", "fc")]
    (program / "report.json").write_text(json.dumps({"layers": rows}))
    for command in ("trace", "inspect", "spice"):
        assert offered([command, str(program), "--layer"], "conv") == ["conv1", "conv2"]


@pytest.mark.parametrize("content", [None, "", "{", '{"layers": 3}', '{"layers": [{}]}'])
def test_a_damaged_program_offers_nothing(tmp_path, content):
    if content is not None:
        (tmp_path / "report.json").write_text(content)
    assert offered(["trace", str(tmp_path), "--layer"]) == []


def test_completion_imports_nothing_slow():
    assert next(iter(completion.targets("isa")))[0] == "isaac"
