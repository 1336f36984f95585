"""`xbarc compile`."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from xbarc.cli import options
from xbarc.cli.output import console, number, print_json, shown, warn

EXAMPLES = (
    "xbarc compile model.onnx --target mca128 --calibration inputs.npz",
    'xbarc compile model.onnx --target isaac --set adc.bits=6 --passes "map{by=energy}"',
)


def command(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="ONNX, Relay text (.relay) or Relax (JSON).")
    ],
    target: Annotated[str, options.target()],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="OUT.xbar", help="Default: MODEL.xbar.")
    ] = None,
    sets: options.Sets = None,
    passes: options.Passes = "",
    calibration: options.Calibration = None,
    percentile: options.Percentile = 100.0,
    ranges: options.Ranges = None,
    rounding: options.Rounding = None,
    bias_correction: options.BiasCorrection = None,
    equalize: options.Equalize = None,
    input_shape: options.InputShapes = None,
    batch_axis: options.BatchAxes = None,
    inputs: options.InputNames = None,
    params: options.Params = None,
    constants: options.Constants = None,
    random_weights: options.RandomWeights = None,
    plugin: options.Plugins = None,
    limits: options.Limits = None,
    print_ir_after: options.PrintIrAfter = None,
    dump_dir: Annotated[
        Path | None, typer.Option("--dump-dir", help="Write the IR after each pass there.")
    ] = None,
    time_passes: options.TimePasses = False,
    verify_passes: Annotated[
        bool, typer.Option("--verify-passes", help="Run the graph before and after each pass.")
    ] = False,
    as_json: options.AsJson = False,
) -> None:
    """Compile a model for a target."""
    from xbarc.api import compile
    from xbarc.artifact.folder import check_free
    from xbarc.driver.quantization import weak_layers
    from xbarc.support.files import refuse_inside

    path = output or Path(f"{model.with_suffix('').name}.xbar")
    check_free(path)
    if dump_dir is not None:
        refuse_inside(dump_dir / "dump")
    given = options.inputs(input_shape, batch_axis, inputs)
    seen = options.instrumentation(
        print_ir_after, dump_dir=dump_dir, time_passes=time_passes, verify_passes=verify_passes
    )
    program = compile(
        model,
        target,
        passes=passes,
        calibration=calibration,
        overrides=sets or (),
        plugins=plugin or (),
        input_shapes=given.shapes,
        batch_axes=given.batch_axes,
        inputs=given.names,
        percentile=percentile,
        ranges=ranges,
        rounding=rounding,
        bias_correction=bias_correction,
        equalize=equalize,
        params=params,
        constants=constants,
        random_weights=random_weights,
        instrumentation=seen,
    )
    if calibration is None:
        warn(
            "no --calibration given: activation ranges come from generated inputs: accuracy will "
            "suffer, and costs may be off (what ranges show decides how inputs are driven)"
        )
    if not program.report["coverage"]["crossbar_operators"]:
        warn(
            "nothing of this model is for crossbars: it doesn't run on this hardware, and has no "
            "energy, time or area there"
        )
    else:
        for name in seen.idle:
            warn(
                f"pass {name!r} mapped nothing: no layer that it maps was left; "
                "to share layers out, name those of each pass (layers=NAME)"
            )
    if "random_weights" in program.report:
        names = program.report["random_weights"]["names"]
        warn(f"{len(names)} weights are random: costs mean something, results don't")
    for line in weak_layers(program.report, program.target):
        warn(line)
    program.save(path)
    if as_json:
        print_json(program.report)
        return
    out = console()
    for line in [*summary(shown(program.report)), f"  written to    {path}"]:
        out.print(line, soft_wrap=True)


def summary(report: Mapping[str, Any]) -> Iterator[str]:
    """What landed where, and what it takes."""
    from xbarc.support.units import quantity

    covered, totals = report["coverage"], report["totals"]
    operators = covered["crossbar_operators"] + covered["digital_operators"]
    share = (
        "not all multiply-accumulates can be counted"
        if covered["mac_share"] is None
        else f"{covered['mac_share']:.2%} of the multiply-accumulates"
    )
    yield f"{report['model']} for {report['target']}"
    if covered["crossbar_operators"]:
        yield f"  on crossbars  {covered['crossbar_operators']} of {operators} operators, {share}"
    else:
        yield f"  on crossbars  nothing: {_nothing(covered, operators)}"
    if report["layers"]:
        yield (
            f"  it takes      {number(totals['crossbars'])} crossbars, "
            f"{number(totals['memristors'])} memristors, {totals['utilization']:.1%} of the cells"
        )
        yield (
            f"  streaming     {quantity('energy_uj', totals['energy_uj']['total'])} an input, "
            f"one every {quantity('interval_us', totals['interval_us'])}; alone "
            f"{quantity('latency_us', totals['latency_us'])}; "
            f"area {quantity('area_mm2', totals['area_mm2']['total'])}"
        )
    else:
        yield "  it takes      nothing: it doesn't run on this hardware"
    for name, moved in report["deviation"].items():
        size = "infinite" if moved is None else f"{moved:.3g}"
        yield f"  lossy         {name}: relative deviation {size}"
    for name, reason in covered["digital_reasons"].items():
        yield f"  digital       {name}: {reason}"


def _nothing(covered: Mapping[str, Any], operators: int) -> str:
    """Why nothing stands on crossbars."""
    if covered["digital_reasons"]:
        return f"none of the products of {operators} operators can, as the lines below say"
    return (
        f"none of its {operators} operators multiplies by static weights, as Conv, Gemm and MatMul "
        "do; trees and tables don't"
    )
