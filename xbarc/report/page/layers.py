"""The layers: energy, cells in use, and everything that was counted."""

from collections.abc import Mapping, Sequence
from typing import Any

from xbarc.report import charts
from xbarc.report.charts import Row, Segment
from xbarc.report.figures import BY_COMPONENT, data, title, words
from xbarc.report.html import Child, Markup, Section, breakable, tag
from xbarc.report.page.components import colors_of
from xbarc.support.units import percent, quantity

ELSEWHERE = ("utilization", "start_ns", "finish_ns")
"""Figures of a layer that charts show."""


def section(report: Mapping[str, Any]) -> Section:
    """Energy and utilisation layer by layer, and the table of everything that was counted."""
    rows, colors = report["layers"], colors_of(report)
    energies = [sum(row["energy_pj"].values()) for row in rows]
    most = max(energies, default=0.0)

    def energy(i: int, row: Mapping[str, Any]) -> Row:
        ranked = sorted(row["energy_pj"].items(), key=lambda kv: list(colors).index(kv[0]))
        segments = [
            Segment(pj, colors[part], f"{words(part)}: {quantity('energy_pj', pj)}")
            for part, pj in ranked
        ]
        label = f"{row['name']}: {quantity('energy_pj', energies[i])}"
        figure = data(f"layers.{i}.energy_pj", energies[i])
        return Row(breakable(row["name"]), charts.bar(segments, most, label), [figure])

    def used(i: int, row: Mapping[str, Any]) -> Row:
        share = row["utilization"]
        label = f"{row['name']}: {percent(share)} of the cells"
        drawn = charts.bar([Segment(share, "s0", label)], 1.0, label)
        crossbars = data(f"layers.{i}.crossbars", row["crossbars"])
        figures = [data(f"layers.{i}.utilization", share), crossbars]
        return Row(breakable(row["name"]), drawn, figures)

    pair = [
        charts.table(
            f"{BY_COMPONENT['energy_uj']}, by layer",
            ["Layer", "", ""],
            [energy(*r) for r in enumerate(rows)],
            key=charts.families(colors),
        ),
        charts.table(
            "Cells in use",
            ["Layer", "", "", "crossbars"],
            [used(*r) for r in enumerate(rows)],
            kind="outof",
        ),
    ]
    return Section(
        "layers",
        "Layers",
        [charts.component_legend(colors), tag("div", pair, class_="pair"), counted(rows)],
    )


def counted(rows: Sequence[Mapping[str, Any]]) -> Markup:
    """The table of counts, folded."""
    return tag("details", tag("summary", "Everything counted, layer by layer"), layer_table(rows))


def layer_table(rows: Sequence[Mapping[str, Any]]) -> Markup:
    """Everything counted, a row a layer."""
    plain = (int, float, str)
    found = dict.fromkeys(k for row in rows for k, v in row.items() if isinstance(v, plain))
    texts = ("name", "op", "mapping", "input_codes")
    columns = [c for c in found if c not in (*texts, *ELSEWHERE)]

    def cell(row: Mapping[str, Any], column: str) -> Child:
        return data(None, row.get(column), quantity(column, row.get(column)))

    head = ["Layer", "Op", "Mapping", "Inputs", "Matrix", *map(title, columns)]
    body = [
        [
            breakable(row["name"]),
            row["op"],
            row["mapping"],
            row.get("input_codes", ""),
            " × ".join(map(str, row["matrix"])),
            *(cell(row, c) for c in columns),
        ]
        for row in rows
    ]
    return charts.grid("What is counted, for one input", head, body, numbers=4)
