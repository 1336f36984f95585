"""Arguments and options that several commands have, and what their texts mean."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xbarc.cli import completion
from xbarc.support.bounds import set_limits
from xbarc.support.errors import UsageError

if TYPE_CHECKING:
    from xbarc.frontends.source import Inputs
    from xbarc.pipeline import Instrumentation

ProgramPath = Annotated[Path, typer.Argument(metavar="OUT.xbar", help="A compiled program.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document, nothing else.")]
Plugins = Annotated[
    list[Path] | None,
    typer.Option(
        "--plugin",
        metavar="FILE.py",
        help="Python file with passes, device effects or other additions; it is run.",
    ),
]
Noise = Annotated[
    str,
    typer.Option(
        "--noise", metavar="TEXT", help='Effects: "read{sigma=0.02},stuck{on=0.001}", or none.'
    ),
]
Device = Annotated[
    str | None,
    typer.Option(
        "--device",
        metavar="NAME|FILE",
        help="A device's effects: xbarc devices.",
        autocompletion=completion.devices,
    ),
]
Seed = Annotated[
    int, typer.Option("--seed", metavar="N", min=0, help="Of all that is random in devices.")
]
Input = Annotated[Path, typer.Option("--input", metavar="X.npz", help="Arrays by input name.")]
Labels = Annotated[
    str | None,
    typer.Option("--labels", metavar="KEY", help="Array of the npz with classes or masks."),
]
Metric = Annotated[
    str | None,
    typer.Option(
        "--metric",
        metavar="NAME",
        help="top1, top5, mask, iou, psnr, snr: where the labels don't say it themselves.",
        autocompletion=completion.metrics,
    ),
]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="Only the first N samples.")]
Threads = Annotated[
    int | None, typer.Option("--threads", min=1, help="Default: XBARC_THREADS, else one a core.")
]
Percentile = Annotated[
    float, typer.Option("--percentile", help="Share of calibration values in a range, in %.")
]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a target key: array.rows=64."),
]
Passes = Annotated[
    str,
    typer.Option(
        "--passes",
        metavar="TEXT",
        help='Pipeline: "fold-batchnorm,im2col".',
        autocompletion=completion.passes,
    ),
]
Calibration = Annotated[
    Path | None,
    typer.Option(
        "--calibration",
        metavar="X.npz",
        help="Inputs of the model: they show ranges, and passes fit to them.",
    ),
]
Ranges = Annotated[
    str | None,
    typer.Option(
        "--ranges",
        metavar="min-max|least-squares|further-sample",
        help="Ranges of activations: all of what calibration shows, where codes miss it least, or "
        "what a further sample is expected to need.",
    ),
]
Rounding = Annotated[
    str | None,
    typer.Option(
        "--rounding",
        metavar="output|nearest",
        help="Weights to the codes that keep a layer's outputs (with --calibration the default), "
        "or to the nearest.",
    ),
]
BiasCorrection = Annotated[
    bool | None,
    typer.Option(
        "--bias-correction/--no-bias-correction",
        help="Biases take the mean error of a layer's outputs; with --calibration the default.",
    ),
]
Equalize = Annotated[
    bool | None,
    typer.Option(
        "--equalize/--no-equalize",
        help="Run the pass equalize, last; with --calibration the default.",
    ),
]
InputShapes = Annotated[
    list[str] | None,
    typer.Option(
        "--input-shape", metavar="NAME=1,3,48,192", help="Fix a model's dynamic dimensions."
    ),
]
BatchAxes = Annotated[
    list[str] | None,
    typer.Option(
        "--batch-axis", metavar="NAME=AXIS", help="The axis that is an input's batch, or none."
    ),
]
InputNames = Annotated[
    str | None,
    typer.Option("--inputs", metavar="NAMES", help="A Relay program's inputs: x,state."),
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
        "--random-weights", metavar="SEED", min=0, help="Random weights for those missing."
    ),
]
PrintIrAfter = Annotated[
    list[str] | None,
    typer.Option("--print-ir-after", metavar="PASS|all", help="Print the IR to stderr."),
]
Limits = Annotated[
    str | None,
    typer.Option(
        "--limits",
        metavar="TEXT",
        callback=set_limits,
        help="Of a run of the model: time=600,memory=8G (seconds, bytes), or none.",
    ),
]
TimePasses = Annotated[
    bool, typer.Option("--time-passes", help="Print each pass's time to stderr.")
]


def shapes(texts: list[str] | None) -> dict[str, list[int]]:
    """Texts like `x=1,3,48,192` as shapes by input name. Raises `UsageError` on any other."""
    found = {}
    for text in texts or ():
        name, equals, dims = text.rpartition("=")
        try:
            if not equals or not name:
                raise ValueError
            found[name] = [int(d) for d in dims.split(",")] if dims else []
        except ValueError:
            raise UsageError(
                f"--input-shape {text}: written name=1,3,48,192, whole numbers between commas"
            ) from None
    return found


def target() -> Any:
    """The option of a target: required where its parameter has no default."""
    return typer.Option(
        "--target",
        metavar="NAME|FILE.toml",
        help="See `xbarc targets`.",
        autocompletion=completion.targets,
    )


def inputs(
    shape_texts: list[str] | None, axis_texts: list[str] | None, names: str | None
) -> "Inputs":
    """What the options of inputs say. Raises `UsageError` where one can't be read."""
    from xbarc.frontends.source import Inputs

    split = None if names is None else [name.strip() for name in names.split(",") if name.strip()]
    if split == []:
        raise UsageError("--inputs names no input: written x,state")
    return Inputs(shapes(shape_texts), _batch_axes(axis_texts), split)


def _batch_axes(texts: list[str] | None) -> dict[str, int | None]:
    """Texts like `h=1` or `h=none` as axes by input name."""
    found: dict[str, int | None] = {}
    for text in texts or ():
        name, equals, axis = text.rpartition("=")
        if not equals or not name or not (axis == "none" or axis.isdecimal()):
            raise UsageError(f"--batch-axis {text}: written name=1, or name=none")
        found[name] = None if axis == "none" else int(axis)
    return found


def instrumentation(
    print_ir_after: list[str] | None,
    *,
    time_passes: bool,
    dump_dir: Path | None = None,
    verify_passes: bool = False,
) -> "Instrumentation":
    """What the options of these names ask to see of the passes."""
    from xbarc.pipeline import Instrumentation

    return Instrumentation(
        print_ir_after=print_ir_after or (),
        dump_dir=dump_dir,
        time_passes=time_passes,
        verify_passes=verify_passes,
    )
