"""`xbarc opt`."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xbarc.cli import options
from xbarc.cli.output import console, warn
from xbarc.support.errors import UsageError, XbarcError

if TYPE_CHECKING:
    from xbarc.driver.optimize import Optimized


EXAMPLES = (
    'xbarc opt model.onnx --passes "prune{granularity=channel sparsity=0.3}" --calibration c.npz '
    "-o smaller.onnx",
    "xbarc opt model.xbar/program.mlir --target mca128",
)


def command(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="Tile IR (.mlir; - is stdin) or a model: .onnx, .relay, Relax (JSON).",
        ),
    ],
    passes: options.Passes = "",
    target: Annotated[
        str | None, typer.Option("--target", help="For passes that need the hardware.")
    ] = None,
    sets: options.Sets = None,
    plugin: options.Plugins = None,
    limits: options.Limits = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Default: stdout; a model needs a file.onnx."),
    ] = None,
    calibration: options.Calibration = None,
    input_shape: options.InputShapes = None,
    batch_axis: options.BatchAxes = None,
    inputs: options.InputNames = None,
    params: options.Params = None,
    constants: options.Constants = None,
    random_weights: options.RandomWeights = None,
    generic: Annotated[
        bool, typer.Option("--generic", help="Print tile IR in MLIR's generic form.")
    ] = False,
    print_ir_after: options.PrintIrAfter = None,
    time_passes: options.TimePasses = False,
) -> None:
    """Rewrite tile IR, as mlir-opt does, or an ONNX model, by the passes given and no others.

    Tile IR is read, verified, rewritten by mapping passes and printed. A model is brought to the
    importer's normal form (modern opset, weights as initialisers), rewritten by graph passes and
    written as plain ONNX.
    """
    if sets and target is None:
        raise UsageError("--set needs --target")
    seen = options.instrumentation(print_ir_after, time_passes=time_passes)
    if output is not None:
        from xbarc.support.files import check_output

        check_output(output, reads=(file, calibration, params, constants, *(plugin or ())))
    if not _is_model(file, plugin or ()):
        for given, option in (
            (calibration, "--calibration"),
            (input_shape, "--input-shape"),
            (batch_axis, "--batch-axis"),
            (inputs, "--inputs"),
            (params, "--params"),
            (constants, "--constants"),
            (random_weights, "--random-weights"),
        ):
            if given is not None and given != []:
                raise UsageError(f"{option} is for models: {file} is taken for tile IR")
        from xbarc.driver.rewrite import rewrite

        text = rewrite(
            _read(file),
            str(file),
            passes,
            target=target,
            overrides=sets or (),
            plugins=plugin or (),
            instrumentation=seen,
            generic=generic,
        )
        _write(text, output)
        return
    if generic:
        raise UsageError(f"--generic is for tile IR: {file} is taken for a model")
    if output is None or output.suffix != ".onnx":
        raise UsageError(f"a model is written to a file: xbarc opt {file} -o smaller.onnx")
    from xbarc.driver.optimize import optimize
    from xbarc.frontends.source import SideWeights

    done = optimize(
        file,
        output,
        passes,
        target=target,
        overrides=sets or (),
        plugins=plugin or (),
        calibration=calibration,
        inputs=options.inputs(input_shape, batch_axis, inputs),
        weights=SideWeights(params, constants, random_weights),
        instrumentation=seen,
    )
    if calibration is None and done.lossy:
        warn(
            f"no --calibration given: what {' and '.join(done.lossy)} may fit, "
            "is fitted to generated inputs"
        )
    out = console()
    for line in [*_summary(done), f"written  {output}"]:
        out.print(line, soft_wrap=True)


def _is_model(file: Path, plugins: Sequence[Path]) -> bool:
    """Whether a file is a model, by what frontends say of it, and not tile IR."""
    if file.suffix == ".mlir" or str(file) == "-":
        return False
    from xbarc.driver import extensions
    from xbarc.frontends.registry import is_model

    with extensions.using(plugins):
        return is_model(file)


def _read(file: Path) -> str:
    if str(file) == "-":
        return sys.stdin.read()
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise XbarcError(f"{file}: not a text file") from None


def _write(text: str, output: Path | None) -> None:
    if output is None:
        sys.stdout.write(text)
        return
    from xbarc.support.files import written_whole

    with written_whole(output) as out:
        out.write(text.encode())


def _summary(done: "Optimized") -> Iterator[str]:
    """What became of a model, and how far lossy passes moved its outputs."""
    (weights, weights_now), (nodes, nodes_now) = done.weights, done.nodes
    yield f"weights  {weights} -> {weights_now}"
    yield f"nodes    {nodes} -> {nodes_now}"
    for name, moved in done.deviation.items():
        yield f"lossy    {name}: relative deviation {moved:.3g} on {done.samples} samples"
    for name, figures in done.figures.items():
        before, after = figures.get("before", {}), figures.get("after", {})
        counts = [f"{key} {before[key]} -> {after[key]}" for key in before if key in after]
        if counts:
            yield f"counted  {name}: {', '.join(counts)}"
