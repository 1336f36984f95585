"""Where accuracy goes, layer by layer: what `xbarc trace` left."""

from collections.abc import Iterator, Sequence

from xbarc.artifact.runs import LayerTrace, Run
from xbarc.report import charts
from xbarc.report.charts import Row, Segment
from xbarc.report.figures import data
from xbarc.report.html import Child, Section, breakable, tag
from xbarc.report.page.results import latest
from xbarc.support.units import count, percent

HELPED = 5
"""Layers that advice is shown for, the worst first."""


def section(runs: Sequence[Run]) -> Section | None:
    """Signal-to-noise ratios of the layers, and what would help the worst; of the newest trace."""
    run = latest(runs, "trace")
    if run is None:
        return None
    layers = run.result.trace
    about = (
        f"Against the float network, over {count(run.result.samples)} samples of {run.input}, "
        f"{run.devices}. Alone (the bar), a layer reads the float network's own activations: the "
        "layer to blame stands worst there. In the network it also inherits the errors of all "
        "before it. 6 dB are one bit."
    )
    body: list[Child] = [tag("p", about, class_="lead"), chart(layers)]
    if helped := list(advice(layers)):
        body.append(tag("ul", helped, class_="notes"))
    return Section("trace", "Where accuracy goes", body)


def chart(layers: Sequence[LayerTrace]) -> Child:
    """A bar a layer: its own ratio; beside it, the ratio in the network."""
    most = max(
        (at or 0.0 for layer in layers for at in (layer.own_snr_db, layer.snr_db)), default=0
    )

    def row(layer: LayerTrace) -> Row:
        own = layer.snr_db if layer.own_snr_db is None else layer.own_snr_db
        label = f"{layer.name}: {text(own)} alone"
        drawn = charts.bar([Segment(max(own or most, 0.0), "s0", label)], most, label)
        key = f"trace.{layer.name}"
        return Row(
            breakable(layer.name),
            drawn,
            [
                data(f"{key}.own_snr_db", layer.own_snr_db, text(layer.own_snr_db)),
                data(f"{key}.snr_db", layer.snr_db, text(layer.snr_db)),
                data(f"{key}.clipped_inputs", layer.clipped_inputs, share(layer.clipped_inputs)),
                data(f"{key}.clipped_conversions", layer.clipped_conversions),
            ],
        )

    caption = "Signal-to-noise ratio against float"
    head = ["Layer", "", "alone", "in the network", "inputs clipped", "conversions clipped"]
    return charts.table(caption, head, [row(layer) for layer in layers], kind="trace")


def advice(layers: Sequence[LayerTrace]) -> Iterator[Child]:
    """What would help the layers that stand worst."""
    poor = [layer for layer in layers if layer.advice]
    poor.sort(key=lambda at: at.own_snr_db if at.own_snr_db is not None else at.snr_db or 0.0)
    for layer in poor[:HELPED]:
        yield tag("li", breakable(layer.name), f": {layer.advice}.")


def text(ratio: float | None) -> str:
    """A ratio in dB."""
    return "–" if ratio is None else f"{ratio:.1f} dB"


def share(value: float | None) -> str:
    """A share in percent, where there is one."""
    return "–" if value is None else percent(value)
