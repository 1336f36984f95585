"""The command line. Results go to stdout, progress and warnings to stderr."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xbarc.cli import spice
from xbarc.support.errors import UsageError, XbarcError

if TYPE_CHECKING:
    from xbarc.api import Program
    from xbarc.artifact.runs import Run
    from xbarc.pipeline import Instrumentation

app = typer.Typer(
    name="xbarc",
    help="Compile trained networks for memristor crossbars, run and cost the result.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command("spice")(spice.command)

ProgramPath = Annotated[Path, typer.Argument(metavar="OUT.xbar", help="A compiled program.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document, nothing else.")]
Plugins = Annotated[
    list[Path] | None,
    typer.Option(
        "--plugin",
        metavar="FILE.py",
        help="Python file with passes or component models; it is run.",
    ),
]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a target key: array.rows=64."),
]
Passes = Annotated[
    str, typer.Option("--passes", metavar="TEXT", help='Pipeline: "fold-batchnorm,im2col".')
]
Params = Annotated[
    Path | None,
    typer.Option("--params", metavar="FILE", help="Weights of a TVM program: .params or npz."),
]
Constants = Annotated[
    Path | None,
    typer.Option("--constants", metavar="C.npz", help="Relay's meta[relay.Constant][i]."),
]
RandomWeights = Annotated[
    int | None,
    typer.Option(
        "--random-weights", metavar="SEED", min=0, help="Make up what Relay lacks, to cost it."
    ),
]


def main() -> None:
    """Run the command line: exit 0 done, 1 the input can't be used, 2 bad usage."""
    try:
        app()
    except UsageError as error:
        _fail(error, 2)
    except XbarcError as error:
        _fail(error, 1)
    except BrokenPipeError:
        # The reader of our output went away, as `head` does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except MemoryError:
        _fail(XbarcError("not enough memory: a smaller --batch may fit"), 1)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _fail(XbarcError(f"{where}{error.strerror or error}"), 1)


def _fail(error: XbarcError, code: int) -> None:
    for line in str(error).splitlines():
        print(line if line.startswith("  ") else f"xbarc: {line}", file=sys.stderr)
    sys.exit(code)


def _warn(text: str) -> None:
    print(f"xbarc: warning: {text}", file=sys.stderr)


def _print_json(document: Any) -> None:
    from xbarc.support.document import to_json

    print(to_json(document))


@app.command("compile")
def compile_(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="ONNX, Relay text (.relay) or Relax (JSON).")
    ],
    target: Annotated[
        str, typer.Option("--target", metavar="NAME|FILE.toml", help="See `xbarc targets`.")
    ],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="OUT.xbar", help="Default: MODEL.xbar.")
    ] = None,
    sets: Sets = None,
    passes: Passes = "",
    calibration: Annotated[
        Path | None,
        typer.Option(
            "--calibration", metavar="X.npz", help="Inputs that show activations' ranges."
        ),
    ] = None,
    percentile: Annotated[
        float, typer.Option("--percentile", help="Share of calibration values in a range, in %.")
    ] = 100.0,
    input_shape: Annotated[
        list[str] | None,
        typer.Option("--input-shape", metavar="NAME=1,3,48,192", help="Fix dynamic dimensions."),
    ] = None,
    params: Params = None,
    constants: Constants = None,
    random_weights: RandomWeights = None,
    plugin: Plugins = None,
    print_ir_after: Annotated[
        list[str] | None,
        typer.Option("--print-ir-after", metavar="PASS|all", help="Print the IR to stderr."),
    ] = None,
    dump_dir: Annotated[
        Path | None, typer.Option("--dump-dir", help="Write the IR after each pass there.")
    ] = None,
    time_passes: Annotated[
        bool, typer.Option("--time-passes", help="Print each pass's time to stderr.")
    ] = False,
    verify_passes: Annotated[
        bool, typer.Option("--verify-passes", help="Run the graph before and after each pass.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Compile a model for a target."""
    from xbarc.api import compile
    from xbarc.artifact.store import check_free

    out = output or Path(f"{model.with_suffix('').name}.xbar")
    check_free(out)
    program = compile(
        model,
        target,
        passes=passes,
        calibration=calibration,
        overrides=sets or (),
        plugins=plugin or (),
        input_shapes=_shapes(input_shape or []),
        percentile=percentile,
        params=params,
        constants=constants,
        random_weights=random_weights,
        instrumentation=_instrumentation(
            print_ir_after, dump_dir, time_passes=time_passes, verify_passes=verify_passes
        ),
    )
    if calibration is None:
        _warn(
            "no --calibration given: activation ranges come from generated inputs, "
            "and accuracy will suffer"
        )
    if "random_weights" in program.report:
        names = program.report["random_weights"]["names"]
        _warn(f"{len(names)} weights are random: costs mean something, results don't")
    program.save(out)
    if as_json:
        _print_json(program.report)
        return
    from xbarc.cli.tables import compile_summary

    compile_summary(program, out)


def _shapes(texts: list[str]) -> dict[str, list[int]]:
    shapes = {}
    for text in texts:
        name, equals, dims = text.rpartition("=")
        try:
            if not equals or not name:
                raise ValueError
            shapes[name] = [int(d) for d in dims.split(",")] if dims else []
        except ValueError:
            raise UsageError(
                f"--input-shape {text}: written name=1,3,48,192, whole numbers between commas"
            ) from None
    return shapes


def _instrumentation(
    print_ir_after: list[str] | None,
    dump_dir: Path | None,
    *,
    time_passes: bool,
    verify_passes: bool = False,
) -> "Instrumentation":
    from xbarc.pipeline import Instrumentation

    return Instrumentation(
        print_ir_after=print_ir_after or (),
        dump_dir=dump_dir,
        time_passes=time_passes,
        verify_passes=verify_passes,
    )


@app.command()
def run(
    program: ProgramPath,
    data: Annotated[Path, typer.Option("--input", metavar="X.npz", help="Arrays by input name.")],
    labels: Annotated[
        str | None,
        typer.Option("--labels", metavar="KEY", help="Array of the npz with classes or masks."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Only the first N samples.")
    ] = None,
    batch: Annotated[
        int | None, typer.Option("--batch", min=1, help="Samples at once; bounds the memory.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="Y.npz", help="Write the outputs there.")
    ] = None,
    ideal: Annotated[
        bool, typer.Option("--ideal", help="Lossless converters and ideal devices.")
    ] = False,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of random effects.")] = 0,
    activity: Annotated[
        bool, typer.Option("--activity", help="Driven rows, and energy that follows the values.")
    ] = False,
    record: Annotated[
        bool, typer.Option("--record/--no-record", help="Keep the result with the program.")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Run a compiled program on the functional simulator."""
    from xbarc.artifact import runs
    from xbarc.driver.evaluate import evaluate, save_outputs
    from xbarc.support.data import check_output

    if output is not None:
        check_output(output)
    with _progress() as progress:
        result = evaluate(
            program,
            data,
            labels=labels,
            limit=limit,
            batch=batch,
            ideal=ideal,
            seed=seed,
            activity=activity,
            progress=progress,
        )
    if output is not None:
        save_outputs(output, result.outputs)
    if record:
        options = {"labels": labels, "limit": limit, "batch": batch, "ideal": ideal, "seed": seed}
        given = {k: v for k, v in {**options, "activity": activity}.items() if v}
        try:
            runs.record(program, result.program, data.name, given, result.document)
        except XbarcError as error:
            _warn(str(error))
    if as_json:
        _print_json(result.document)
        return
    from xbarc.cli.tables import run_summary

    run_summary(result.document, output)


@app.command()
def update_weights(
    program: ProgramPath,
    model: Annotated[
        Path, typer.Argument(metavar="NEW.onnx", help="The same network with other weights.")
    ],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="NEW.xbar", help="Default: in place."),
    ] = None,
    plugin: Plugins = None,
    as_json: AsJson = False,
) -> None:
    """Program the same tiles with new weights: pruned ones, or those of another training.

    Layers, tiles, input scales, converters' ranges and digital parts stay: a model that asks for
    others is refused.
    """
    from xbarc.artifact.store import check_free

    out = output or program
    before = _load(program)
    check_free(out)
    after = before.update_weights(model, plugins=plugin or ())
    after.save(out)
    if as_json:
        _print_json(after.report)
        return
    from xbarc.cli.tables import update_summary

    update_summary(before, after, out)


@contextmanager
def _progress() -> Iterator[Any]:
    """A bar on stderr, where that is a terminal: called with (samples done, samples in all)."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("simulating", total=None)
        yield lambda done, total: bar.update(task, advance=done, total=total)


@app.command()
def cost(program: ProgramPath, as_json: AsJson = False) -> None:
    """Show area, energy, time and the counts behind them, for a batch of one."""
    loaded = _load(program)
    if as_json:
        _print_json(loaded.cost())
        return
    from xbarc.cli.tables import cost_tables

    cost_tables(loaded)


def _load(path: Path) -> "Program":
    from xbarc.api import load

    return load(path)


@app.command()
def inspect(
    program: ProgramPath,
    layer: Annotated[
        str | None, typer.Option("--layer", metavar="NAME", help="Only this layer.")
    ] = None,
    tiles: Annotated[bool, typer.Option("--tiles", help="List the tiles.")] = False,
    floorplan: Annotated[
        bool, typer.Option("--floorplan", help="Draw which layer stands on which core.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show how each layer stands on crossbars, and which columns collapse to an exact product."""
    if floorplan:
        if layer is not None or tiles:
            raise UsageError("--floorplan shows all layers: leave out --layer and --tiles")
        from xbarc.report.floorplan import draw
        from xbarc.report.floorplan import floorplan as plan

        found = plan(_load(program))
        if as_json:
            _print_json(found)
        else:
            print("\n".join(draw(found)))
        return
    from xbarc.report.inspect import inspect as look

    document = look(_load(program), layer, with_tiles=tiles)
    if as_json:
        _print_json(document)
        return
    from xbarc.cli.tables import inspect_tables

    inspect_tables(document, with_choices=layer is not None)


@app.command()
def report(
    program: ProgramPath,
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="REPORT.html", help="The page to write.")
    ] = Path("report.html"),
) -> None:
    """Write one self-contained HTML page: figures, pictures, sources, how to repeat it."""
    from xbarc.report import report_page, write_page

    runs, faults = _runs(program)
    write_page(output, report_page(_load(program), program, runs))
    for fault in faults:
        _warn(fault)
    print(output)


def _runs(program: Path) -> "tuple[list[Run], list[str]]":
    from xbarc.artifact.runs import recorded

    return recorded(program) if program.is_dir() else ([], [])


@app.command()
def compare(
    programs: Annotated[
        list[Path], typer.Argument(metavar="A.xbar B.xbar...", help="Compiled programs.")
    ],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="COMPARE.html", help="A page as well.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the same figures of several programs side by side; layers match by name."""
    from xbarc.report import compare_page, compare_programs, write_page

    if len(programs) < 2:
        raise UsageError("compare takes two programs at least")
    document = compare_programs([(path, _load(path), _runs(path)[0]) for path in programs])
    if output is not None:
        write_page(output, compare_page(document))
    if as_json:
        _print_json(document)
        return
    from xbarc.cli.tables import compare_tables

    compare_tables(document)
    if output is not None:
        print(f"\nwritten to {output}")


def _is_model(file: Path) -> bool:
    """Whether a file is a model and not tile IR: by its name, else by its beginning."""
    if file.suffix in (".onnx", ".relay"):
        return True
    if file.suffix == ".mlir" or not file.is_file():  # a pipe is read once
        return False
    from xbarc.frontends.load import is_tvm_file

    return is_tvm_file(file)


@app.command()
def opt(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="Tile IR (.mlir; - is stdin) or a model: .onnx, .relay, Relax (JSON).",
        ),
    ],
    passes: Passes = "",
    target: Annotated[
        str | None, typer.Option("--target", help="For passes that ask for the hardware.")
    ] = None,
    sets: Sets = None,
    plugin: Plugins = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Default: stdout; a model needs a file.onnx."),
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(
            "--calibration", metavar="X.npz", help="Inputs of a model, for passes that fit to them."
        ),
    ] = None,
    input_shape: Annotated[
        list[str] | None,
        typer.Option(
            "--input-shape", metavar="NAME=1,3,48,192", help="Fix a model's dynamic dimensions."
        ),
    ] = None,
    params: Params = None,
    constants: Constants = None,
    random_weights: RandomWeights = None,
    print_ir_after: Annotated[
        list[str] | None,
        typer.Option("--print-ir-after", metavar="PASS|all", help="Print the IR to stderr."),
    ] = None,
    time_passes: Annotated[
        bool, typer.Option("--time-passes", help="Print each pass's time to stderr.")
    ] = False,
) -> None:
    """Rewrite tile IR, as mlir-opt does, or an ONNX model, by the passes given and no others.

    Tile IR is read, verified, rewritten by mapping passes and printed. A model is brought to the
    importer's normal form (modern opset, weights as initialisers), rewritten by graph passes and
    written as plain ONNX.
    """
    if sets and target is None:
        raise UsageError("--set needs --target")
    seen = _instrumentation(print_ir_after, None, time_passes=time_passes)
    if _is_model(file):
        if output is None or output.suffix != ".onnx":
            raise UsageError(f"a model is written to a file: xbarc opt {file} -o smaller.onnx")
        from xbarc.cli.tables import optimize_summary
        from xbarc.driver.optimize import optimize
        from xbarc.frontends.load import Weights

        done = optimize(
            file,
            output,
            passes,
            target=target,
            overrides=sets or (),
            plugins=plugin or (),
            calibration=calibration,
            input_shapes=_shapes(input_shape or []),
            weights=Weights(params, constants, random_weights),
            instrumentation=seen,
        )
        if calibration is None and done.lossy:
            _warn(
                f"no --calibration given: what {' and '.join(done.lossy)} may fit, "
                "is fitted to generated inputs"
            )
        optimize_summary(done, output)
        return
    for given, option in (
        (calibration, "--calibration"),
        (input_shape, "--input-shape"),
        (params, "--params"),
        (constants, "--constants"),
        (random_weights, "--random-weights"),
    ):
        if given is not None and given != []:
            raise UsageError(f"{option} is for models: {file} is taken for tile IR")
    from xbarc.driver import extensions
    from xbarc.hw.target import load_target
    from xbarc.ir import parse_module, print_module
    from xbarc.ir.dialect import CROSSBAR, CrossbarAttr
    from xbarc.pipeline import XbarContext, load_registry, parse_passes, run_module_passes
    from xbarc.support.data import written_whole

    with extensions.using(plugin or ()):
        pipeline = parse_passes(passes, load_registry())
    if pipeline.graph:
        raise UsageError(
            f"pass {pipeline.graph[0].name!r} works on ONNX graphs: give it to `xbarc compile`, "
            "or to `xbarc opt` with an .onnx file"
        )
    hardware = None if target is None else load_target(target, sets or ())
    text = sys.stdin.read() if str(file) == "-" else _read_text(file)
    module = parse_module(text, str(file))
    crossbar = module.attributes.get(CROSSBAR)
    if hardware and crossbar not in (None, CrossbarAttr.of(hardware.array)):
        raise UsageError(
            f"{file} is for other crossbars than those of target {hardware.name!r}: "
            "give the target that it was compiled for"
        )
    seen.check(pipeline.mapping)
    context = XbarContext(hardware)
    with extensions.using(plugin or ()):
        run_module_passes(pipeline.mapping, context, module, seen)
    seen.print_times()
    result = print_module(module)
    if output is None:
        sys.stdout.write(result)
    else:
        with written_whole(output) as out:
            out.write(result.encode())


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise XbarcError(f"{path}: not a text file") from None


@app.command()
def passes(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]")] = None,
    plugin: Plugins = None,
) -> None:
    """List the passes, or describe one."""
    from xbarc.driver import extensions
    from xbarc.pipeline import load_registry

    with extensions.using(plugin or ()):
        registry = load_registry()
    if name is not None:
        print(registry.describe(name))
        return
    width = max(map(len, registry.names))
    for known in registry.names:
        info = registry.describe(known)
        print(f"{known:<{width}}  {info.kind:<7}  {info.summary}")


@app.command()
def targets(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]")] = None,
    sets: Sets = None,
    sources: Annotated[
        bool, typer.Option("--sources", help="Every constant with its source, and the totals.")
    ] = False,
    plugin: Plugins = None,
    as_json: AsJson = False,
) -> None:
    """List the targets, or print one, with what its area and power add up to."""
    from xbarc.hw.target import dump_target, load_target, target_names, target_text

    if name is None:
        names = target_names()
        width = max(map(len, names))
        described = {n: load_target(n).description for n in names}
        if as_json:
            _print_json(described)
            return
        for known, description in described.items():
            print(f"{known:<{width}}  {description}")
        return
    target = load_target(name, sets or ())
    if not (as_json or sources):
        sys.stdout.write(
            dump_target(target) if sets or name.endswith(".toml") else target_text(name)
        )
        return
    from xbarc.cost.rollup import document
    from xbarc.driver import extensions

    with extensions.using(plugin or ()):
        found = document(target, with_sources=sources)
    if as_json:
        _print_json(found)
        return
    from xbarc.cli.tables import source_tables

    source_tables(found)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        from importlib.metadata import version as installed

        print(f"xbarc {installed('xbarc')}")
        raise typer.Exit
