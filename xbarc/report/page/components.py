"""Energy and area by component."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from xbarc.artifact.caveats import marks
from xbarc.report import charts
from xbarc.report.charts import Row, Segment
from xbarc.report.figures import BY_COMPONENT, component_colors, data, words
from xbarc.report.html import Child, Markup, Section, tag
from xbarc.support.units import percent, quantity


def section(report: Mapping[str, Any]) -> Section:
    """Energy and area by component."""
    colors = colors_of(report)
    totals = report["totals"]
    single = {"energy_uj": totals["modes"]["single"]["energy_uj"]}
    both = zip(single["energy_uj"].values(), totals["energy_uj"].values(), strict=True)
    alike = all(math.isclose(a, b, rel_tol=1e-9) for a, b in both)
    caption = BY_COMPONENT["energy_uj"] + (", and of one alone" if alike else "")
    noted = report["caveats"]
    charted = [
        chart(totals, "energy_uj", caption, colors, noted),
        chart(totals, "area_mm2", BY_COMPONENT["area_mm2"], colors, noted),
    ]
    if not alike:
        place = "totals.modes.single"
        caption = "Energy of one input alone"
        charted.append(chart(single, "energy_uj", caption, colors, noted, place))
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
    noted: Sequence[Mapping[str, Any]] = (),
    place: str = "totals",
) -> Markup:
    """A bar a component, the largest first, and the total, with the numbers of their caveats.

    `place` is where the totals stand.
    """
    table = {k: v for k, v in totals[key].items() if k != "total"}
    whole, most = totals[key]["total"], max(table.values(), default=0.0)

    def called(name: str) -> Child:
        found = marks(noted, f"{place}.{key}.{name}".removeprefix("totals."))
        return [words(name), *([" ", tag("small", found)] if found else [])]

    def row(name: str, value: float) -> Row:
        text = f"{words(name)}: {quantity(key, value)}"
        drawn = charts.bar([Segment(value, colors[name], text)], most, text)
        share = percent(value / whole) if whole else "–"
        swatch = tag("i", class_=f"key {colors[name]}")
        return Row([swatch, called(name)], drawn, [data(f"{place}.{key}.{name}", value), share])

    rows = [row(name, table[name]) for name in sorted(table, key=lambda n: -table[n])]
    foot = Row(called("total"), "", [data(f"{place}.{key}.total", whole), ""])
    return charts.table(caption, ["Component", "", "", "share"], rows, foot=foot)
