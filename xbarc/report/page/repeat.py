"""How to get the program again, and its runs."""

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from xbarc.artifact import CompiledProgram
from xbarc.artifact.manifest import manifest
from xbarc.artifact.runs import Run
from xbarc.artifact.trials import Record, Value
from xbarc.driver.compile import ALWAYS
from xbarc.report import charts
from xbarc.report.figures import flatten
from xbarc.report.html import Markup, Section, breakable, tag
from xbarc.report.page.results import MOST_RUNS, options_text
from xbarc.report.studies import Study, studies_of
from xbarc.support.units import count


def section(
    program: CompiledProgram, path: Path | None, runs: Sequence[Run], trials: Sequence[Record]
) -> Section:
    """How to get this program again: commands, pipeline, versions, hashes."""
    origin = program.origin
    model, versions = origin.get("model", {}), origin.get("versions", {})
    files = {} if path is None else manifest(path)["files"]
    own = [(name, digest) for name, digest in files.items() if "/" not in name]
    digital = sorted((f for f in files.items() if "/" in f[0]), key=lambda f: (len(f[0]), f[0]))
    if model.get("sha256"):
        own.insert(0, (f"{model['name']} (the model)", model["sha256"]))
    if (weights := origin.get("weights", {})).get("sha256"):
        own.insert(1, (f"{weights['name']} (the weights)", weights["sha256"]))
    built = [["xbarc", origin.get("xbarc", "unknown")], *([n, v] for n, v in versions.items())]
    body = [
        tag(
            "pre",
            tag("code", "\n".join(commands(program, path or Path("model.xbar"), runs, trials))),
        ),
        tag("p", "Passes, in order: ", tag("code", ", ".join(program.report["passes"])), "."),
        *said_of_codes(program),
        tag(
            "div",
            charts.grid("Versions", ["Package", "Version"], built, numbers=9),
            hash_table("SHA-256 of the model and of the program's files", own) if own else "",
            class_="pair",
        ),
    ]
    if digital:
        summary = tag("summary", f"and of its {count(len(digital))} digital parts")
        body.append(tag("details", summary, hash_table("SHA-256 of the digital parts", digital)))
    return Section("repeat", "How to repeat it", body)


def said_of_codes(program: CompiledProgram) -> Iterator[Markup]:
    """How real numbers became codes, and what is otherwise in some layers."""
    how = program.report.get("quantization", {})
    said = [f"{key.replace('_', ' ')} {how[key]}" for key in ("ranges", "rounding") if key in how]
    if how.get("bias_correction"):
        said.append("biases corrected")
    if said:
        yield tag("p", "Codes: ", tag("code", ", ".join(said)), ".")
    otherwise = [
        f'layers."{pattern}".{key} = {value}'
        for pattern, keys in program.target.layers.items()
        for key, value in flatten(keys.model_dump(exclude_none=True))
    ]
    if otherwise:
        yield tag("p", "Otherwise in some layers: ", tag("code", ", ".join(otherwise)), ".")


def hash_table(caption: str, hashes: Sequence[tuple[str, str]]) -> Markup:
    """Files and their hashes."""
    rows = [[breakable(name), tag("code", digest)] for name, digest in hashes]
    return charts.grid(caption, ["File", "Hash"], rows, numbers=9)


def commands(
    program: CompiledProgram, path: Path, runs: Sequence[Run], trials: Sequence[Record]
) -> Iterator[str]:
    """The commands that make this program, and the runs and trials on this page."""
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
    compiled += map(shlex.quote, program.origin.get("options", ()))
    yield " ".join([*compiled, "-o", "again.xbar"])
    if updated := program.origin.get("weights"):
        words = [updated["name"], *updated.get("options", ())]
        yield f"xbarc update-weights again.xbar {shlex.join(words)}"
    seen = set()
    for run in list(reversed(runs))[:MOST_RUNS]:
        command = "trace" if run.options.trace else "run"
        line = f"xbarc {command} {name} --input {shlex.quote(run.input)}"
        line = " ".join([line, *options_text(run.options)])
        if line not in seen:
            yield line
        seen.add(line)
    for study in studies_of(trials):
        yield f"xbarc run {name} {study_text(study)}"
    yield f"xbarc report {name} -o report.html"


def study_text(study: Study) -> str:
    """What asks for the trials of a study again."""
    header = study.header
    words = ["--input", header.input]
    for option, value in header.options.model_dump(exclude_defaults=True).items():
        for one in value if isinstance(value, list) else [value]:
            words += [f"--{option}", str(one)]
    if header.vary is not None:
        words += ["--vary", f"{header.vary}={','.join(exact(g.value) for g in study.groups)}"]
    words += ["--by-layer"] * header.by_layer
    seeds = [trial.seed or 0 for group in study.groups for trial in group.trials]
    words += ["--trials", str(max(seeds) - min(seeds) + 1), "--seed", str(min(seeds))]
    return shlex.join(words)


def exact(value: Value | None) -> str:
    """A value of an option as it is typed."""
    return f"{value:.17g}" if isinstance(value, float) and value.is_integer() else str(value)
