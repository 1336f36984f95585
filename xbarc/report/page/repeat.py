"""How to get the program again, and its runs."""

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from xbarc.artifact import CompiledProgram
from xbarc.artifact.runs import Run
from xbarc.artifact.store import manifest
from xbarc.driver.compile import ALWAYS
from xbarc.report import charts
from xbarc.report.figures import count
from xbarc.report.html import Markup, Section, breakable, tag
from xbarc.report.page.results import MOST_RUNS, options_text


def section(program: CompiledProgram, path: Path, runs: Sequence[Run]) -> Section:
    """How to get this program again: commands, pipeline, versions, hashes."""
    origin = program.origin
    model, versions = origin.get("model", {}), origin.get("versions", {})
    files = manifest(path)["files"]
    own = [(name, digest) for name, digest in files.items() if "/" not in name]
    digital = sorted((f for f in files.items() if "/" in f[0]), key=lambda f: (len(f[0]), f[0]))
    if model.get("sha256"):
        own.insert(0, (f"{model['name']} (the model)", model["sha256"]))
    if (weights := origin.get("weights", {})).get("sha256"):
        own.insert(1, (f"{weights['name']} (the weights)", weights["sha256"]))
    built = [["xbarc", origin.get("xbarc", "unknown")], *([n, v] for n, v in versions.items())]
    body = [
        tag("pre", tag("code", "\n".join(commands(program, path, runs)))),
        tag("p", "Passes, in order: ", tag("code", ", ".join(program.report["passes"])), "."),
        tag(
            "div",
            charts.grid("Versions", ["Package", "Version"], built, numbers=9),
            hash_table("SHA-256 of the model and of the program's files", own),
            class_="pair",
        ),
    ]
    if digital:
        summary = tag("summary", f"and of its {count(len(digital))} digital parts")
        body.append(tag("details", summary, hash_table("SHA-256 of the digital parts", digital)))
    return Section("repeat", "How to repeat it", body)


def hash_table(caption: str, hashes: Sequence[tuple[str, str]]) -> Markup:
    """Files and their hashes."""
    rows = [[breakable(name), tag("code", digest)] for name, digest in hashes]
    return charts.grid(caption, ["File", "Hash"], rows, numbers=9)


def commands(program: CompiledProgram, path: Path, runs: Sequence[Run]) -> Iterator[str]:
    """The commands that make this program, and the runs on this page."""
    report, name = program.report, shlex.quote(path.name)
    compiled = ["xbarc compile", shlex.quote(str(report["model"]))]
    compiled += ["--target", shlex.quote(f"{path.name}/target.toml")]
    always, passes = ALWAYS.split(","), list(report["passes"])
    # These run by themselves, first.
    passes = passes[len(always) :] if passes[: len(always)] == always else passes
    if passes:
        compiled += ["--passes", shlex.quote(",".join(passes))]
    calibration = report["calibration"]
    if calibration["source"] not in ("generated", "arrays"):
        compiled += ["--calibration", shlex.quote(calibration["source"])]
    if calibration["percentile"] != 100:
        compiled += ["--percentile", str(calibration["percentile"])]
    for option, file in report.get("weight_files", {}).items():
        compiled += [f"--{option}", shlex.quote(file)]
    if "random_weights" in report:
        compiled += ["--random-weights", str(report["random_weights"]["seed"])]
    yield " ".join([*compiled, "-o", "again.xbar"])
    if updated := program.origin.get("weights"):
        yield f"xbarc update-weights again.xbar {shlex.quote(updated['name'])}"
    seen = set()
    for run in list(reversed(runs))[:MOST_RUNS]:
        line = f"xbarc run {name} --input {shlex.quote(run.input)}"
        line = " ".join([line, *options_text(run.options)])
        if line not in seen:
            yield line
        seen.add(line)
    yield f"xbarc report {name} -o report.html"
