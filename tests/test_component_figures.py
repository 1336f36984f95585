"""Every figure of every component model that a published target can take, held to a table.

`python tests/test_component_figures.py` writes the table anew. Look at what changed: each of its
figures is published, or follows from published ones, and costs are sums of them.
"""

import csv
import io
from pathlib import Path

import pytest

from xbarc.cost.components import components, load_kinds
from xbarc.hw.target import load_target
from xbarc.support.errors import XbarcError

TABLE = Path(__file__).with_suffix(".csv")
TARGETS = ("isaac", "puma", "neurram", "neurosim22", "mnsim", "mca128")
NODES = (7, 10, 14, 32, 45, 65, 90, 130)
"""Those that NeuroSim's models have beside 22 nm."""
AT = {target: (target, []) for target in TARGETS} | {
    f"neurosim22 at {nm} nm": ("neurosim22", [f"technology.node_nm={nm}"]) for nm in NODES
}
FIGURES = ("energy_pj", "area_um2", "rate_gps", "leakage_mw", "clock_mw")


def figures():
    """A row a target, role and model, where they fit together."""
    models = load_kinds().models.names
    for label, (target, sets) in AT.items():
        for role in components(load_target(target)):
            kind = load_kinds().full_name(role, "constant").partition(".")[0]
            names = [m.partition(".")[2] for m in models if m.startswith(f"{kind}.")]
            for model in sorted(set(names) - {"constant"}):
                try:
                    chosen = load_target(target, [*sets, f"cost.{role}.model={model}"])
                    unit = components(chosen)[role].unit
                except XbarcError:
                    continue  # the model is of another technology
                yield (label, role, model, *(getattr(unit, figure) for figure in FIGURES))


def test_every_figure_is_the_one_in_the_table():
    with TABLE.open(newline="") as file:
        wanted = {tuple(row[:3]): row[3:] for row in list(csv.reader(file))[1:]}
    found = {row[:3]: row[3:] for row in figures()}
    assert list(found) == list(wanted)
    for row, values in found.items():
        for figure, value, text in zip(FIGURES, values, wanted[row], strict=True):
            known = None if text == "" else pytest.approx(float(text), rel=1e-9)
            assert value == known, (*row, figure)


def main():
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([("target", "role", "model", *FIGURES), *figures()])
    TABLE.write_text(text.getvalue())


if __name__ == "__main__":
    main()
