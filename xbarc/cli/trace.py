"""`xbarc trace`."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xbarc.cli import completion, options
from xbarc.cli.output import console, number, print_json, progress_bar, table, warn
from xbarc.support.errors import XbarcError, visible

if TYPE_CHECKING:
    from xbarc.driver.trace import LayerTrace, Trace

BAR = 40
"""Characters of the longest bar of a histogram."""

LINES = 16
"""Lines of a printed histogram; --json has all bins."""


EXAMPLES = (
    "xbarc trace model.xbar --input images.npz --limit 100",
    "xbarc trace model.xbar --input images.npz --layer conv1",
)


def command(
    program: options.ProgramPath,
    data: options.Input,
    limit: options.Limit = None,
    layer: Annotated[
        str | None,
        typer.Option(
            "--layer",
            metavar="NAME",
            help="Only this layer, with its histograms.",
            autocompletion=completion.layers,
        ),
    ] = None,
    ideal: Annotated[
        bool, typer.Option("--ideal", help="Lossless converters and ideal devices.")
    ] = False,
    noise: options.Noise = "",
    device: options.Device = None,
    seed: options.Seed = 0,
    plugin: options.Plugins = None,
    limits: options.Limits = None,
    threads: options.Threads = None,
    record: Annotated[
        bool, typer.Option("--record/--no-record", help="Keep the result with the program.")
    ] = True,
    as_json: options.AsJson = False,
) -> None:
    """Say layer by layer how far the crossbars are from float, and what would help."""
    from xbarc.artifact import runs
    from xbarc.artifact.store import load
    from xbarc.driver import extensions
    from xbarc.driver.evaluate import samples_of
    from xbarc.driver.trace import trace

    with extensions.using(plugin or ()):
        loaded, digest = load(program), runs.program_hash(program)
        samples = samples_of(loaded, data, limit=limit)
        with _progress() as progress:
            found = trace(
                loaded,
                samples,
                layer=layer,
                ideal=ideal,
                noise=noise,
                device=device,
                seed=seed,
                threads=threads,
                progress=progress,
            )
        document = found.document()
        if layer is not None:
            document["histograms"] = _histograms(loaded, layer, samples.feeds)
    if record and layer is None:
        given = runs.Options(
            limit=limit,
            ideal=ideal,
            noise=noise,
            device=device,
            seed=seed,
            plugin=[str(file) for file in plugin or ()],
            trace=True,
        )
        try:
            runs.record(program, digest, data.name, given, found.record())
        except XbarcError as error:
            warn(str(error))
    if as_json:
        print_json(document)
        return
    _print(found)
    for what, histogram in document.get("histograms", {}).items():
        console().print("\n".join(["", *_drawn(what, histogram)]))


@contextmanager
def _progress() -> Iterator[Any]:
    with progress_bar() as bar:
        task = bar.add_task("tracing", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _histograms(program: Any, layer: str, feeds: Any) -> dict[str, Any]:
    from dataclasses import asdict

    from xbarc.simulator.histograms import histograms

    return {what: asdict(found) for what, found in histograms(program, layer, feeds).items()}


def _print(found: "Trace") -> None:
    """A row a layer, and which one to blame."""
    out = console()
    rows = table(
        "layer", "SNR dB", "alone dB", "max error", "clipped inputs", "used", "clipped ADC"
    )
    for layer in found.layers:
        rows.add_row(
            layer.name,
            _db(layer.snr_db),
            _db(layer.own_snr_db),
            number(layer.max_error),
            _share(layer.clipped_inputs),
            _share(layer.used_inputs),
            _share(layer.clipped_conversions),
        )
    out.print(rows)
    out.print(f"\n{found.samples} samples" + "".join(f", {effect}" for effect in found.effects))
    for layer in _helped(found):
        out.print(
            f"{visible(layer.name)}: {_db(layer.own_snr_db or layer.snr_db)} dB: {layer.advice}"
        )
    out.print(
        "\nSNR: a layer's output against float, in the network; alone: on the float network's own "
        "activations\nused: the part of its input codes' range that the data reach"
    )


def _helped(found: "Trace") -> list["LayerTrace"]:
    """The three layers that stand worst alone and can be helped, the worst first."""
    poor = [layer for layer in found.layers if layer.advice]
    return sorted(poor, key=lambda at: at.snr_db if at.own_snr_db is None else at.own_snr_db)[:3]


def _db(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2%}"


def _drawn(what: str, histogram: Mapping[str, Any]) -> Iterator[str]:
    """A histogram as lines of bars; a bar of a share too small to see is a dot."""
    counts, low, step = histogram["counts"], histogram["low"], histogram["step"]
    yield f"{what.replace('_', ' ')}: {number(sum(counts))} of them"
    together = -(-len(counts) // LINES)
    merged = [sum(counts[i : i + together]) for i in range(0, len(counts), together)]
    most = max(merged, default=0)
    for i, count in enumerate(merged):
        begin = low + i * together * step
        end = begin + together * step - 1
        name = f"{begin}" if begin == end else f"{begin} .. {end}"
        bar = "#" * round(BAR * count / most) or ("." if count else "")
        yield f"  {name:>22}  {bar} {count / sum(counts):.1%}"
