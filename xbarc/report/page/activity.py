"""Energy that follows the values beside the fixed one, where a run measured it."""

from collections.abc import Mapping, Sequence

from xbarc.artifact.runs import LayerActivity, Run
from xbarc.report import charts
from xbarc.report.charts import Row, Segment
from xbarc.report.figures import data
from xbarc.report.html import Markup, Section, breakable, tag
from xbarc.report.page.results import latest
from xbarc.support.units import count, percent, quantity

ENERGIES = {
    ("crossbar", "fixed"): "crossbar, fixed per action",
    ("crossbar", "values"): "crossbar, by the values",
    ("adc", "fixed"): "ADC, all conversions",
    ("adc", "values"): "ADC, those needed",
}
"""What is compared: of a component, how it is counted."""


def section(runs: Sequence[Run]) -> Section | None:
    """Both energies of each component and layer, of the newest run that has them."""
    run = latest(runs, "activity")
    if run is None:
        return None
    about = (
        f"Measured on {count(run.result.samples)} samples of {run.input}. A cell takes V² G t: G "
        "is what it is programmed to, V what the input's level puts on its row. A conversion is "
        "needed where a row is driven and the column isn't all zero. Totals elsewhere are the "
        "fixed ones."
    )
    seen = run.result.activity
    body = [tag("p", about, class_="lead"), summary(seen), by_layer(seen)]
    return Section("activity", "Energy that follows the values", body)


def summary(seen: Mapping[str, LayerActivity]) -> Markup:
    """A bar an energy of all layers together."""
    sums = {
        (part, how): sum(getattr(la.energy_pj[part], how) or 0.0 for la in seen.values())
        for part, how in ENERGIES
    }
    most = max(sums.values(), default=0.0)

    def row(part: str, how: str, name: str) -> Row:
        value = sums[part, how]
        label = f"{name}: {quantity('energy_pj', value)}"
        color = "s0" if how == "values" else "rest"
        drawn = charts.bar([Segment(value, color, label)], most, label)
        return Row(name, drawn, [data(f"run.activity.{part}.{how}_pj", value)])

    rows = [row(*which, name=name) for which, name in ENERGIES.items()]
    return charts.table("Energy of one input", ["Component", "", ""], rows)


def by_layer(seen: Mapping[str, LayerActivity]) -> Markup:
    """Shares and energies, a row a layer."""
    head = ["Layer", "rows driven", "conversions needed", *ENERGIES.values()]
    rows = [
        [
            breakable(name),
            data(f"run.activity.{name}.driven_rows", la.driven_rows, percent(la.driven_rows)),
            data(
                f"run.activity.{name}.conversions_needed",
                la.conversions_needed,
                percent(la.conversions_needed),
            ),
            *(
                data(f"run.activity.{name}.energy_pj", getattr(la.energy_pj[part], how))
                for part, how in ENERGIES
            ),
        ]
        for name, la in seen.items()
    ]
    return charts.grid("Layer by layer, one input", head, rows)
