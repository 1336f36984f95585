"""Energy and area by component."""

from collections.abc import Mapping
from typing import Any

from xbarc.report import charts
from xbarc.report.charts import Row, Segment
from xbarc.report.figures import BY_COMPONENT, component_colors, data, percent, quantity, words
from xbarc.report.html import Markup, Section, tag


def section(report: Mapping[str, Any]) -> Section:
    """Energy and area by component."""
    colors = colors_of(report)
    totals = report["totals"]
    single = {"energy_uj": totals["modes"]["single"]["energy_uj"]}
    alike = single["energy_uj"] == totals["energy_uj"]
    caption = BY_COMPONENT["energy_uj"] + (", and of one alone" if alike else "")
    charted = [
        chart(totals, "energy_uj", caption, colors),
        chart(totals, "area_mm2", BY_COMPONENT["area_mm2"], colors),
    ]
    if not alike:
        place = "totals.modes.single"
        charted.append(chart(single, "energy_uj", "Energy of one input alone", colors, place))
    return Section("components", "Energy and area by component", tag("div", charted, class_="pair"))


def colors_of(report: Mapping[str, Any]) -> dict[str, str]:
    """The colour of each component: the same in every report."""
    names = {name for kind in ("energy_uj", "area_mm2") for name in report["totals"][kind]}
    return component_colors(names - {"total"})


def chart(
    totals: Mapping[str, Any],
    key: str,
    caption: str,
    colors: Mapping[str, str],
    place: str = "totals",
) -> Markup:
    """A bar a component, the largest first, and the total; `place` is where the totals stand."""
    table = {k: v for k, v in totals[key].items() if k != "total"}
    whole, most = totals[key]["total"], max(table.values(), default=0.0)

    def row(name: str, value: float) -> Row:
        text = f"{words(name)}: {quantity(key, value)}"
        drawn = charts.bar([Segment(value, colors[name], text)], most, text)
        share = percent(value / whole) if whole else "–"
        swatch = tag("i", class_=f"key {colors[name]}")
        return Row([swatch, words(name)], drawn, [data(f"{place}.{key}.{name}", value), share])

    rows = [row(name, table[name]) for name in sorted(table, key=lambda n: -table[n])]
    foot = Row("total", "", [data(f"{place}.{key}.total", whole), ""])
    return charts.table(caption, ["Component", "", "", "share"], rows, foot=foot)
