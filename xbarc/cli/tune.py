"""`xbarc tune`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xbarc.cli import options
from xbarc.cli.output import console, print_json, progress_bar, table
from xbarc.support.errors import UsageError

if TYPE_CHECKING:
    from xbarc.train.record import Record, Score
    from xbarc.train.tune import Tuned

EXAMPLES = (
    "xbarc tune model.onnx --data train.npz --labels y --target mca128 --epochs 10 -o tuned.onnx",
    'xbarc tune model.onnx --data train.npz --target mca128 --noise "programming{sigma=0.1}" '
    "--checkpoint tune.ckpt -o tuned.onnx",
)


def command(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="The trained network: ONNX.")],
    data: Annotated[
        Path,
        typer.Option("--data", metavar="X.npz|DIR", help="Inputs by name, or pictures."),
    ],
    target: Annotated[
        str, typer.Option("--target", metavar="NAME|FILE.toml", help="See `xbarc targets`.")
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="TUNED.onnx", help="Where it is written.")
    ],
    labels: Annotated[
        str | None,
        typer.Option(
            "--labels",
            metavar="KEY",
            help="Array of the npz with classes, masks or numbers; without it the network is "
            "distilled from the one given.",
        ),
    ] = None,
    epochs: Annotated[int, typer.Option("--epochs", metavar="N", min=1)] = 10,
    method: Annotated[
        str, typer.Option("--method", metavar="NAME", help="How: fine-tune, trannsformer ...")
    ] = "fine-tune",
    sets: options.Sets = None,
    passes: options.Passes = "",
    calibration: options.Calibration = None,
    percentile: options.Percentile = 100.0,
    input_shape: options.InputShapes = None,
    batch_axis: options.BatchAxes = None,
    noise: options.Noise = "",
    device: options.Device = None,
    ranges: Annotated[
        str, typer.Option("--ranges", help="Of layers' inputs: calibrated or learned.")
    ] = "calibrated",
    redraw: Annotated[
        int, typer.Option("--redraw", metavar="N", help="Draw devices anew every N steps.")
    ] = 1,
    plain: Annotated[
        bool, typer.Option("--float", help="Train the float network, without hardware.")
    ] = False,
    batch_norm: Annotated[
        bool,
        typer.Option("--batch-norm", help="With --float: normalise, and fold it in at the end."),
    ] = False,
    flip: Annotated[
        bool, typer.Option("--flip", help="Mirror pictures at random, left to right.")
    ] = False,
    shift: Annotated[
        int, typer.Option("--shift", metavar="N", min=0, help="Move pictures by up to N pixels.")
    ] = 0,
    precision: Annotated[
        str, typer.Option("--precision", help="Of products in training: float32 or bfloat16.")
    ] = "float32",
    keep: Annotated[
        str, typer.Option("--keep", help="The network of the best epoch, or of the last.")
    ] = "best",
    validation: Annotated[
        Path | None, typer.Option("--validation", metavar="X.npz|DIR", help="Data to judge by.")
    ] = None,
    validation_share: Annotated[
        float, typer.Option("--validation-share", help="Or this share of --data: 0 to below 1.")
    ] = 0.1,
    batch: Annotated[int, typer.Option("--batch", metavar="N", min=1)] = 64,
    optimiser: Annotated[str, typer.Option("--optimiser", help="adam or sgd.")] = "adam",
    rate: Annotated[
        float | None, typer.Option("--rate", help="Learning rate; adam 1e-3, sgd 1e-2.")
    ] = None,
    momentum: Annotated[float, typer.Option("--momentum", help="Of sgd.")] = 0.9,
    decay: Annotated[float, typer.Option("--decay", help="Weight decay.")] = 0.0,
    schedule: Annotated[
        str, typer.Option("--schedule", help="cosine, linear, step or constant.")
    ] = "cosine",
    warmup: Annotated[float, typer.Option("--warmup", help="Epochs until the full rate.")] = 0.0,
    loss: Annotated[
        str, typer.Option("--loss", help="auto, cross-entropy, binary or mse.")
    ] = "auto",
    distill: Annotated[
        float | None,
        typer.Option("--distill", help="Share of the loss: the distance to the float network."),
    ] = None,
    temperature: Annotated[float, typer.Option("--temperature", help="Of distillation.")] = 2.0,
    teacher: Annotated[
        Path | None, typer.Option("--teacher", metavar="MODEL", help="Distil from it instead.")
    ] = None,
    dropout: Annotated[
        float, typer.Option("--dropout", help="Of the inputs of all layers but the first.")
    ] = 0.0,
    patience: Annotated[
        int | None, typer.Option("--patience", metavar="N", help="Stop N epochs after the best.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", min=0)] = 0,
    threads: options.Threads = None,
    torch_device: Annotated[
        str, typer.Option("--torch-device", metavar="cpu|cuda", help="Where torch computes.")
    ] = "cpu",
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            "--checkpoint",
            metavar="FILE",
            help="Written after each epoch (safetensors); training continues from it.",
        ),
    ] = None,
    pixel_scale: Annotated[
        float, typer.Option("--pixel-scale", help="Of pictures: (x / scale - mean) / std.")
    ] = 255.0,
    pixel_mean: Annotated[
        str, typer.Option("--pixel-mean", metavar="M|R,G,B", help="One number, or one a channel.")
    ] = "0",
    pixel_std: Annotated[str, typer.Option("--pixel-std", metavar="S|R,G,B")] = "1",
    plugin: options.Plugins = None,
    as_json: options.AsJson = False,
) -> None:
    """Retrain a network under what the hardware will do."""
    from xbarc.api import tune
    from xbarc.support.files import check_output
    from xbarc.train.data import Pixels

    given = (model, data, calibration, validation, teacher, target, device, *(plugin or ()))
    files = [Path(file) for file in given if file is not None and Path(file).is_file()]
    check_output(output, reads=files)
    if checkpoint is not None:
        check_output(checkpoint, reads=[*files, output])
    pixels = Pixels(
        pixel_scale,
        _numbers("--pixel-mean", pixel_mean),
        _numbers("--pixel-std", pixel_std),
    )
    inputs = options.inputs(input_shape, batch_axis, None)
    with _progress(epochs) as watch:
        tuned = tune(
            model,
            data,
            labels,
            target,
            passes=passes,
            calibration=calibration,
            overrides=sets or (),
            plugins=plugin or (),
            input_shapes=inputs.shapes,
            batch_axes=inputs.batch_axes,
            percentile=percentile,
            noise=noise,
            device=device,
            method=method,
            validation=validation,
            teacher=teacher,
            pixels=pixels,
            watch=watch,
            epochs=epochs,
            batch=batch,
            optimiser=optimiser,
            rate=rate,
            momentum=momentum,
            decay=decay,
            schedule=schedule,
            warmup=warmup,
            loss=loss,
            distill=distill,
            temperature=temperature,
            ranges=ranges,
            redraw=redraw,
            dropout=dropout,
            validation_share=validation_share,
            patience=patience,
            plain=plain,
            batch_norm=batch_norm,
            flip=flip,
            shift=shift,
            precision=precision,
            keep=keep,
            seed=seed,
            threads=threads,
            torch_device=torch_device,
            checkpoint=checkpoint,
        )
    tuned.save(output)
    if as_json:
        print_json(tuned.document())
        return
    _print(tuned, output)


def _numbers(option: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(
            f"{option} {text}: give a number, or one a channel between commas"
        ) from None


@contextmanager
def _progress(epochs: int) -> Iterator[Callable[[int, int | None, int, "Score"], None]]:
    """Bars of epochs and of steps, on stderr where that is a terminal."""
    with progress_bar() as bar:
        whole = bar.add_task("epochs", total=epochs)
        within = bar.add_task("steps", total=None)

        def watch(epoch: int, steps: int | None, step: int, score: "Score") -> None:
            right = "" if score.accuracy is None else f"  accuracy {score.accuracy:.2%}"
            bar.update(whole, completed=epoch - 1)
            told = f"loss {score.loss:.4f}{right}"
            bar.update(within, completed=step, total=steps, description=told)

        yield watch


def _print(tuned: "Tuned", output: Path) -> None:
    """A row an epoch, and which one the result is."""
    out = console()
    rows = table("epoch", "rate", "loss", "accuracy", "validation loss", "validation accuracy")
    for record in tuned.history:
        rows.add_row(*_cells(record))
    out.print(rows)
    for name, value in tuned.figures.items():
        out.print(f"{name:<18} {value:.6g}")
    best = tuned.best
    out.print(
        f"result             epoch {best.epoch}" + (" (not trained)" if not best.epoch else "")
    )
    out.print(f"written to         {output}")


def _cells(record: "Record") -> Iterator[str]:
    def shown(value: Any, form: str) -> str:
        return "-" if value is None else format(value, form)

    yield str(record.epoch)
    yield shown(record.rate if record.epoch else None, ".3g")
    yield shown(record.loss, ".4f")
    yield shown(record.accuracy, ".2%")
    yield shown(record.validation_loss, ".4f")
    yield shown(record.validation_accuracy, ".2%")
